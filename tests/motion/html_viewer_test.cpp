#include "motion/html_viewer.h"

#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "motion/figure.h"
#include "tensor/formats/atomic_file.h"
#include "tests/motion/sample_motions.h"
#include "tests/test_paths.h"

using namespace mc::motion;
using mc::testing::walking_rig;

namespace {

constexpr const char* kEvil =
    "</script><script>alert(1)</script><!-- <b onclick='x'>\"&amp; @DATA@ @TITLE@ \xE2\x80\xA8 "
    "\xFF";

ViewerMotion walker(const std::string& caption, int64_t joints = 22) {
    return {caption, "note " + caption, rig_joints(walking_rig(40, 0.5, 1.0, joints))};
}

std::string between(const std::string& text, const std::string& from, const std::string& to) {
    const size_t begin = text.find(from);
    REQUIRE(begin != std::string::npos);
    const size_t end = text.find(to, begin + from.size());
    REQUIRE(end != std::string::npos);
    return text.substr(begin + from.size(), end - begin - from.size());
}

nlohmann::json data_of(const std::string& page) {
    return nlohmann::json::parse(
        between(page, "<script type=\"application/json\" id=\"data\">", "</script>"));
}

size_t count(const std::string& text, const std::string& word) {
    size_t n = 0;
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
    return n;
}

}  // namespace

TEST_CASE("html_viewer: one page holds everything and asks for nothing") {
    const ViewerMotion motions[] = {walker("a person walks"), walker("again", 21)};
    const std::string page = viewer_page(motions);
    CHECK(page.find("<!doctype html>") == 0);
    CHECK(page.find("<title>a person walks</title>") != std::string::npos);
    for (const char* outside :
         {"http:", "https:", "src=\"", "@import", "fetch(", "XMLHttpRequest"}) {
        CAPTURE(outside);
        CHECK(page.find(outside) == std::string::npos);
    }
    CHECK(page.find("default-src 'none'") != std::string::npos);
    const nlohmann::json data = data_of(page);
    REQUIRE(data["motions"].size() == 2);
    CHECK(data["motions"][0]["frames"] == 40);
    CHECK(data["motions"][1]["joints"] == 21);
    CHECK(page.size() < 120000);
}

TEST_CASE("html_viewer: a caption cannot break out of its place") {
    const ViewerMotion plain[] = {walker("x")};
    const ViewerMotion evil[] = {walker(kEvil)};
    const std::string page = viewer_page(evil);
    CHECK(count(page, "<script") == count(viewer_page(plain), "<script"));
    CHECK(count(page, "</script") == count(viewer_page(plain), "</script"));
    CHECK(count(page, "<!--") == 0);
    CHECK(page.find("alert(1)</title>") == std::string::npos);
    CHECK(between(page, "<title>", "</title>").find('<') == std::string::npos);
    const std::string caption = data_of(page)["motions"][0]["caption"];
    CHECK(caption.find("</script><script>alert(1)</script><!-- <b onclick='x'>\"&amp; @DATA@") ==
          0);
}

TEST_CASE("html_viewer: positions survive to a tenth of a millimetre") {
    const ViewerMotion motions[] = {walker("x")};
    const auto data = data_of(viewer_page(motions))["motions"][0];
    const std::string text = data["xyz"];
    const auto digit = [](char c) {
        return static_cast<uint32_t>(
            std::string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
                .find(c));
    };
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 3 < text.size(); i += 4) {
        uint32_t word = 0;
        for (size_t k = 0; k < 4; ++k) {
            word = word << 6 | (text[i + k] == '=' ? 0 : digit(text[i + k]));
        }
        for (int shift : {16, 8, 0}) bytes.push_back(static_cast<uint8_t>(word >> shift));
    }
    const JointSequence& joints = motions[0].joints;
    REQUIRE(bytes.size() >= joints.xyz.size() * 2);
    double worst = 0;
    for (size_t i = 0; i < joints.xyz.size(); ++i) {
        const double steps = bytes[2 * i] + 256 * bytes[2 * i + 1];
        const double x = data["origin"][i % 3].get<double>() + steps * data["scale"].get<double>();
        worst = std::max(worst, std::fabs(x - joints.xyz[i]));
    }
    CHECK(worst < 1e-4);
}

TEST_CASE("html_viewer: what cannot be shown is refused") {
    CHECK_THROWS_AS(viewer_page({}), mc::Error);
    ViewerMotion motions[] = {walker("x")};
    motions[0].joints.at(3, 4)[0] = NAN;
    CHECK_THROWS_WITH(viewer_page(motions), "viewer: motion 0, frame 3 is not finite");
    motions[0] = {"", "", JointSequence{}};
    CHECK_THROWS_AS(viewer_page(motions), mc::Error);
    motions[0] = walker("x");
    motions[0].joints.fps = 0;
    CHECK_THROWS_AS(viewer_page(motions), mc::Error);
    // A single frame with all joints in one place is odd but no error.
    motions[0].joints = {1, 22, 20.0, std::vector<float>(66, 0.0f)};
    CHECK(viewer_page(motions).size() > 1000);
}

TEST_CASE("html_viewer: the page works in a browser") {
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "page.html").string();
    ViewerMotion still = walker("a still");
    still.joints = {1, 22, 20.0, {still.joints.xyz.begin(), still.joints.xyz.begin() + 66}};
    const ViewerMotion motions[] = {walker(kEvil), walker("KIT", 21), still};
    mc::write_text_file(path, viewer_page(motions));
    const std::string log = (scratch.path / "log").string();
    const std::string command = (mc::testing::source_dir() / "tests/page/check_page.sh").string() +
                                " " + path + " > " + log;
    const int status = std::system(command.c_str());
    const std::string said = mc::testing::read_bytes(log);
    if (WEXITSTATUS(status) == 77) {
        MESSAGE("SKIPPED: " << said);
        return;
    }
    CAPTURE(said);
    CHECK(status == 0);
}

TEST_CASE("figure: bodies scale with the figure, stand on the floor and know their front") {
    const JointSequence walk = rig_joints(walking_rig(40, 1.2));
    CHECK(figure_scale(walk) == doctest::Approx(0.957).epsilon(0.01));
    JointSequence large = walk;
    for (float& x : large.xyz) x *= 600;
    CHECK(figure_scale(large) == doctest::Approx(600 * figure_scale(walk)));
    const Vec3 forward = figure_forward(walk, 0);
    CHECK(forward.x == doctest::Approx(std::sin(1.2)).epsilon(0.05));
    CHECK(forward.z == doctest::Approx(std::cos(1.2)).epsilon(0.1));
    const double floor = figure_floor(walk);
    for (const Capsule& c : figure_capsules(walk, 7, figure_scale(walk))) {
        CHECK(c.a.y - c.radius_a >= floor - 1e-9);
        CHECK(c.b.y - c.radius_b >= floor - 1e-9);
    }
    CHECK(figure_capsules(rig_joints(walking_rig(3, 0, 0, 21)), 0, 1.0).size() ==
          figure_parts(21).size());
    CHECK_THROWS_AS(figure_parts(24), mc::Error);
}
