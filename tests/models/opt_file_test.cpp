#include "models/opt_file.h"

#include <doctest/doctest.h>

#include <fstream>

#include "kernels/error.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;

namespace {

constexpr const char* kOptions =
    "------------ Options -------------\n"
    "batch_size: 64\n"
    "cond_drop_prob: 0.1\n"
    "is_train: True\n"
    "lr: 1e-05\n"
    "milestones: [150000, 250000]\n"
    "share_weight: False\n"
    "vq_name: rvq_nq6\n"
    "vq_norm: None\n"
    "-------------- End ----------------\n";

}  // namespace

TEST_CASE("opt.txt: values by kind") {
    const OptFile opt = parse_opt_file(kOptions, "opt.txt");
    CHECK(opt.integer("batch_size") == 64);
    CHECK(opt.number("cond_drop_prob") == 0.1);
    CHECK(opt.number("lr") == 1e-05);
    CHECK(opt.flag("is_train"));
    CHECK_FALSE(opt.flag("share_weight"));
    CHECK(opt.text("vq_norm") == "None");
    CHECK(opt.text("milestones") == "[150000, 250000]");
    CHECK(opt.integer("n_layers", 8) == 8);
    CHECK_FALSE(opt.has("n_layers"));
}

TEST_CASE("opt.txt: Windows line ends and blank lines do no harm") {
    const OptFile opt = parse_opt_file("a: 1\r\n\r\nb: two words \r\n", "opt.txt");
    CHECK(opt.integer("a") == 1);
    CHECK(opt.text("b") == "two words");
}

TEST_CASE("opt.txt: what is wrong is named with file and key") {
    const OptFile opt = parse_opt_file(kOptions, "x/opt.txt");
    CHECK(testing::error_of([&] { opt.integer("n_layers"); }) == "x/opt.txt: n_layers: is missing");
    CHECK(testing::error_of([&] { opt.integer("vq_name"); }).find("whole number") !=
          std::string::npos);
    CHECK(testing::error_of([&] { opt.integer("lr"); }).find("whole number") != std::string::npos);
    CHECK(testing::error_of([&] { opt.number("vq_name"); }).find("want a number") !=
          std::string::npos);
    CHECK(testing::error_of([&] { opt.flag("vq_norm"); }).find("True or False") !=
          std::string::npos);
    CHECK(testing::error_of([] { parse_opt_file("a: 1\nnonsense\n", "f"); }).find("f:2") == 0);
    CHECK(testing::error_of([] { parse_opt_file("a: 1\na: 2\n", "f"); }).find("twice") !=
          std::string::npos);
    testing::ScratchDir scratch;
    CHECK(testing::error_of([&] {
              read_opt_file(scratch.path / "none");
          }).find("cannot be opened") != std::string::npos);
    std::ofstream(scratch.path / "big") << std::string((size_t{1} << 20) + 10, 'x');
    CHECK(testing::error_of([&] { read_opt_file(scratch.path / "big"); }).find("too large") !=
          std::string::npos);
}
