#include "train/checkpoint.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <limits>

#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;
using mc::testing::ScratchDir;

namespace {

Checkpoint example(float value = 1.5f, int64_t size = 3) {
    Checkpoint c;
    c.stage = "vq";
    c.config = {{"lr", 2e-4}, {"name", "ä"}};
    c.epoch = 3;
    c.step = 1234;
    c.position = 512;
    c.generators = {{"main", {~uint64_t{0}, uint64_t{1} << 63}}, {"shuffle", {7, 8}}};
    c.schedule = {{"peak", 0.1}};
    c.best_metric = 0.1 + 0.2;
    c.extra = {{"tau", {1, 2}}};
    c.add("model", {{"w", Tensor::full({size}, value)}});
    c.add("optimizer.m", {{"w", Tensor::full({size}, value / 2)}});
    c.add("optimizer.v", {{"w", Tensor::full({size}, value / 4)}});
    c.add("buffers", {{"count", Tensor::from_ids({5}, {1})}});
    return c;
}

// A file of these metadata and one tensor.
void write_with(const std::filesystem::path& path, const StringMap& metadata) {
    write_safetensors(path, {{"model.w", Tensor::from({1}, {1})}}, metadata);
}

}  // namespace

TEST_CASE("checkpoint: everything comes back in the same bits") {
    ScratchDir dir;
    const auto path = dir.path / "c.safetensors";
    save_checkpoint(path, example());
    const Checkpoint got = load_checkpoint(path, "vq"), want = example();
    CHECK(got.stage == "vq");
    CHECK(got.config == want.config);
    CHECK(got.epoch == 3);
    CHECK(got.step == 1234);
    CHECK(got.position == 512);
    CHECK(got.generator("main").seed() == ~uint64_t{0});
    CHECK(got.generator("main").position() == uint64_t{1} << 63);
    CHECK_THROWS_WITH_AS(got.generator("noise"), doctest::Contains("'noise'"), Error);
    CHECK(got.schedule == want.schedule);
    CHECK(*got.best_metric == 0.1 + 0.2);
    CHECK(got.extra == want.extra);
    CHECK(got.tensors.size() == 4);
    const NamedTensors weights = got.section("model");
    REQUIRE(weights.size() == 1);
    CHECK(weights[0].first == "w");
    CHECK(weights[0].second.to_vector<float>() == std::vector<float>{1.5f, 1.5f, 1.5f});
    CHECK(got.section("optimizer.v")[0].second.item<float>({0}) == 0.375f);
    CHECK(got.section("buffers")[0].second.item<int64_t>() == 5);
    CHECK(got.section("mod").empty());

    Checkpoint first;
    first.stage = "vq";
    save_checkpoint(path, first);
    CHECK_FALSE(load_checkpoint(path, "vq").best_metric.has_value());
}

TEST_CASE("checkpoint: what cannot be resumed is one clear line") {
    ScratchDir dir;
    const auto path = dir.path / "c.safetensors";
    const auto complaint = [&](const std::string& part) {
        CHECK_THROWS_WITH_AS(load_checkpoint(path, "vq"), doctest::Contains(part.c_str()), Error);
        CHECK_THROWS_WITH_AS(load_checkpoint(path, "vq"), doctest::Contains("c.safetensors"),
                             Error);
    };
    complaint("No such file");
    Checkpoint other = example();
    other.stage = "mask";
    save_checkpoint(path, other);
    complaint("is a checkpoint of stage mask, want vq");
    write_with(path, {});
    complaint("is no training checkpoint");
    const auto write = [&](const char* version, const char* document) {
        write_with(path, {{"format", "moclip-checkpoint"},
                          {"version", version},
                          {"stage", "vq"},
                          {"checkpoint", document}});
    };
    write("2", "{}");
    complaint("is of version 2, this program reads up to 1");
    write("x", "{}");
    complaint("is no number");
    write("1", "{");
    complaint("not JSON");
    write("1", "[]");
    complaint("not JSON");
    write("1", "{}");
    complaint("lacks config, epoch, step, position, schedule, generators, extra, best_metric");
    const std::string good =
        R"({"config":{},"epoch":0,"step":1,"position":0,"schedule":{},"extra":{},"best_metric":null)";
    write("1", (good + R"(,"generators":{}})").c_str());
    CHECK(load_checkpoint(path, "vq").step == 1);
    for (const char* generators :
         {"[]", R"({"a":1})", R"({"a":{}})", R"({"a":{"seed":-1,"position":0}})",
          R"({"a":{"seed":1.5,"position":0}})"}) {
        write("1", (good + ",\"generators\":" + generators + "}").c_str());
        complaint("lacks generators");
    }
    write("1", R"({"config":{},"epoch":-1,"step":"1","position":0.5,"schedule":{},"extra":{},)"
               R"("best_metric":"x","generators":{}})");
    complaint("lacks epoch, step, position, best_metric");
}

TEST_CASE("checkpoint: cut anywhere it is refused by name, changed anywhere no accident") {
    ScratchDir dir;
    const auto path = dir.path / "c.safetensors", broken = dir.path / "broken.safetensors";
    save_checkpoint(path, example());
    const std::string good = mc::testing::file_bytes(path);
    const auto error_of = [&](const std::string& bytes) -> std::string {
        std::ofstream(broken, std::ios::binary) << bytes;
        try {
            load_checkpoint(broken, "vq");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    for (size_t cut = 0; cut < good.size(); ++cut)
        CHECK(error_of(good.substr(0, cut)).find(broken.string()) == 0);
    for (size_t at = 0; at < good.size(); ++at) {
        std::string changed = good;
        changed[at] = static_cast<char>(changed[at] ^ 0x20);
        const std::string said = error_of(changed);  // numbers may be others: no error
        CHECK((said.empty() || said.find(broken.string()) == 0));
    }
}

TEST_CASE("checkpoint: numbers that are not finite are neither saved nor loaded") {
    ScratchDir dir;
    const auto path = dir.path / "c.safetensors";
    save_checkpoint(path, example());
    Checkpoint bad = example(std::numeric_limits<float>::quiet_NaN());
    CHECK_THROWS_WITH_AS(save_checkpoint(path, bad), doctest::Contains("model.w: nan at (0)"),
                         Error);
    bad = example();
    bad.best_metric = std::numeric_limits<double>::infinity();
    CHECK_THROWS_WITH_AS(save_checkpoint(path, bad), doctest::Contains("best_metric' is inf"),
                         Error);
    bad = example();
    bad.extra = {{"a", {1.0, std::nan("")}}};
    CHECK_THROWS_WITH_AS(save_checkpoint(path, bad), doctest::Contains("extra.a.1"), Error);
    CHECK(load_checkpoint(path, "vq").step == 1234);

    SafetensorsFile file(path);
    StringMap metadata = file.metadata();
    write_safetensors(path, {{"model.w", Tensor::full({1}, std::nan(""))}}, metadata);
    CHECK_THROWS_WITH_AS(load_checkpoint(path, "vq"), doctest::Contains("model.w: nan"), Error);
}

TEST_CASE("checkpoint: a full disk leaves the last good one") {
    ScratchDir dir;
    const RunFolder run(dir.path / "run");
    run.make();
    CHECK_FALSE(run.can_resume());
    run.save(example(1), true);
    CHECK(run.can_resume());
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{8192, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    std::string what;
    try {
        run.save(example(2, 100'000), true);
    } catch (const Error& e) {
        what = e.what();
    }
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, old_handler);
    CHECK(what.find("File too large") != std::string::npos);
    for (const auto& path : {run.latest(), run.best()}) {
        CHECK_FALSE(mc::testing::has_temporaries(path.parent_path()));
        CHECK(load_checkpoint(path, "vq").section("model")[0].second.item<float>({0}) == 1);
    }
}

TEST_CASE("checkpoint: killed at any moment, the file is whole") {
    ScratchDir dir;
    const RunFolder run(dir.path);
    run.save(example(0, 50'000));
    for (int kill_after = 0; kill_after < 20; ++kill_after) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            for (int i = 1;; ++i) run.save(example(static_cast<float>(i), 50'000));
        }
        ::usleep(static_cast<useconds_t>(500 + 700 * kill_after));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        const Checkpoint c = load_checkpoint(run.latest(), "vq");
        const auto w = c.section("model")[0].second.to_vector<float>();
        CHECK(w.size() == 50'000);
        CHECK(c.section("optimizer.m")[0].second.item<float>({49'999}) == w[0] / 2);
        CHECK(w.front() == w.back());
    }
}

TEST_CASE("checkpoint: the run folder cannot be a file") {
    ScratchDir dir;
    save_checkpoint(dir.path / "x", example());
    const std::string no = (dir.path / "x").string() + ": cannot make the run folder: ";
    for (const auto& check : {&RunFolder::make, &RunFolder::check_can_be_made}) {
        const RunFolder file(dir.path / "x"), below(dir.path / "x" / "run");
        CHECK_THROWS_WITH_AS((file.*check)(), doctest::Contains(no.c_str()), Error);
        CHECK_THROWS_WITH_AS((below.*check)(),
                             doctest::Contains("x/run: cannot make the run folder"), Error);
    }
}

TEST_CASE("checkpoint: whether a run folder can be made is found out without leaving one") {
    ScratchDir dir;
    const std::filesystem::path outer = dir.path / "runs", inner = outer / "vq";
    RunFolder(inner).check_can_be_made();
    RunFolder(inner / "").check_can_be_made();
    CHECK_FALSE(std::filesystem::exists(outer));
    std::filesystem::create_directory(outer);
    RunFolder(inner).check_can_be_made();
    RunFolder(outer).check_can_be_made();
    CHECK(std::filesystem::is_empty(outer));
    // Half of it cannot be made: the other half goes too.
    const std::string name(300, 'n');
    CHECK_THROWS_WITH_AS(RunFolder(inner / name).check_can_be_made(),
                         doctest::Contains("cannot make the run folder"), Error);
    CHECK(std::filesystem::is_empty(outer));
    RunFolder(inner).make();
    RunFolder(inner).check_can_be_made();
    CHECK(std::filesystem::is_directory(inner));
}

// Momentum descent on noisy samples of a shuffled set of seven, in batches of two: all that a
// trainer keeps, in small.
namespace {

struct ToyRun {
    Checkpoint state;
    Generator main{1}, shuffle{2};
    Tensor w = Tensor::zeros({4}), m = Tensor::zeros({4});
    std::vector<int64_t> order;

    void begin_epoch() {
        state.generators["shuffle"] = state_of(shuffle);
        order = shuffle.permutation(7);
    }
    void run_to(int64_t steps) {
        while (state.step < steps) {
            if (order.empty()) begin_epoch();
            for (int k = 0; k < 2 && state.position < 7; ++k, ++state.position) {
                const Tensor noise = main.normal({4});
                for (int64_t i = 0; i < 4; ++i) {
                    float& mi = m.data<float>()[i];
                    float& wi = w.data<float>()[i];
                    mi = 0.9f * mi +
                         (wi - static_cast<float>(order[static_cast<size_t>(state.position)]) +
                          noise.data<float>()[i]);
                    wi -= 0.1f * mi;
                }
            }
            ++state.step;
            if (state.position == 7) {
                state.position = 0;
                ++state.epoch;
                order.clear();
            }
        }
    }
    void save(const std::filesystem::path& path) {
        if (order.empty()) state.generators["shuffle"] = state_of(shuffle);
        state.stage = "toy";
        state.generators["main"] = state_of(main);
        state.tensors = {{"model.w", w}, {"optimizer.m.w", m}};
        save_checkpoint(path, state);
    }
    void load(const std::filesystem::path& path) {
        state = load_checkpoint(path, "toy");
        main = state.generator("main");
        shuffle = state.generator("shuffle");
        w = state.section("model")[0].second.clone();
        m = state.section("optimizer.m")[0].second.clone();
        order.clear();
        if (state.position > 0) begin_epoch();
    }
};

}  // namespace

TEST_CASE("checkpoint: ten steps equal five, save, load and five, bit for bit") {
    ScratchDir dir;
    ToyRun whole;
    whole.run_to(10);
    for (int64_t stop : {1, 4, 5, 8}) {
        ToyRun first, second;
        first.run_to(stop);
        first.save(dir.path / "toy");
        second.load(dir.path / "toy");
        second.run_to(10);
        CHECK(second.w.to_vector<float>() == whole.w.to_vector<float>());
        CHECK(second.m.to_vector<float>() == whole.m.to_vector<float>());
        CHECK(second.state.epoch == whole.state.epoch);
        CHECK(second.main.position() == whole.main.position());
    }
    CHECK(whole.w.item<float>({0}) != 0);
}
