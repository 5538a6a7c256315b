#include "motion/bvh.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>

#include "kernels/error.h"
#include "tensor/formats/atomic_file.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc::motion;

namespace {

const char* const kTwoBones =
    "HIERARCHY\n"
    "ROOT Hips\n"
    "{\n"
    "\tOFFSET 1 2 3\n"
    "\tCHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation\n"
    "\tJOINT Knee\n"
    "\t{\n"
    "\t\tOFFSET 0 -2 0\n"
    "\t\tCHANNELS 3 Zrotation Yrotation Xrotation\n"
    "\t\tEnd Site\n"
    "\t\t{\n"
    "\t\t\tOFFSET 0 -1 0\n"
    "\t\t}\n"
    "\t}\n"
    "}\n"
    "MOTION\n"
    "Frames: 2\n"
    "Frame Time: 0.05\n"
    "0 10 0 0 0 0 0 0 0\n"
    "0 10 0 90 0 0 0 0 90\n";

std::string message_of(const std::string& text) {
    return mc::testing::error_of([&] { parse_bvh(text, "file.bvh"); });
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

bool near(Vec3 a, Vec3 b, double tolerance = 1e-9) {
    return length(a - b) <= tolerance;
}

}  // namespace

TEST_CASE("bvh: hierarchy, channels and frames are read") {
    const Bvh bvh = parse_bvh(kTwoBones, "file.bvh");
    REQUIRE(bvh.joints.size() == 2);
    CHECK(bvh.joints[1].name == "Knee");
    CHECK(bvh.joints[1].parent == 0);
    CHECK(bvh.joints[1].first_channel == 6);
    CHECK(bvh.joints[1].has_end_site);
    CHECK(bvh.find("Knee") == 1);
    CHECK(bvh.find("Elbow") == -1);
    CHECK(bvh.frames == 2);
    CHECK(bvh.channels == 9);
    CHECK(bvh.frame_time == 0.05);
    CHECK(bvh.warnings.empty());
}

TEST_CASE("bvh: forward kinematics multiplies the channels from left to right") {
    const Bvh bvh = parse_bvh(kTwoBones, "file.bvh");
    const BvhGlobals globals = bvh_forward(bvh);
    CHECK(near(globals.position(0, 0), {0, 10, 0}));  // the channels replace OFFSET
    CHECK(near(globals.position(0, 1), {0, 8, 0}));
    CHECK(near(globals.point(0, 1, bvh.joints[1].end_site), {0, 7, 0}));
    // Rz(90) takes -Y to +X; the knee's own Rx(90) then takes its -Y to -Z.
    CHECK(near(globals.position(1, 1), {2, 10, 0}));
    CHECK(near(globals.point(1, 1, bvh.joints[1].end_site), {2, 10, -1}));
    CHECK(near(bvh_forward(bvh, true).position(0, 0), {1, 12, 3}));

    const Bvh order =
        parse_bvh(replaced(replaced(kTwoBones, "Zrotation Yrotation Xrotation\n\tJOINT",
                                    "Xrotation Yrotation Zrotation\n\tJOINT"),
                           "0 10 0 90 0 0 0 0 90", "0 10 0 30 0 60 0 0 0"),
                  "file.bvh");
    // Rx(30)·Rz(60)·(0,-2,0) = Rx(30)·(√3, -1, 0)
    CHECK(near(bvh_forward(order).position(1, 1),
               {std::sqrt(3.0), 10 - std::cos(M_PI / 6), -std::sin(M_PI / 6)}));
}

TEST_CASE("bvh: writing and reading again changes nothing") {
    const Bvh bvh = parse_bvh(kTwoBones, "file.bvh");
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "copy.bvh").string();
    mc::write_text_file(path, format_bvh(bvh));
    const Bvh copy = read_bvh(path);
    CHECK(copy.values == bvh.values);
    CHECK(copy.frame_time == bvh.frame_time);
    CHECK(format_bvh(copy) == format_bvh(bvh));
    CHECK_FALSE(mc::testing::has_temporaries(scratch.path));
}

TEST_CASE("bvh: sloppy files are read") {
    const Bvh plain = parse_bvh(kTwoBones, "file.bvh");
    std::string crlf;
    for (char c : std::string(kTwoBones))
        crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
    CHECK(parse_bvh(crlf, "f").values == plain.values);
    CHECK(parse_bvh("\xEF\xBB\xBF" + std::string(kTwoBones), "f").values == plain.values);

    std::string no_newline = kTwoBones;
    no_newline.pop_back();
    CHECK(parse_bvh(no_newline, "f").values == plain.values);

    const std::string name = replaced(kTwoBones, "JOINT Knee\n\t{", "JOINT  fig:Left knee 1 {");
    CHECK(parse_bvh(name, "f").joints[1].name == "fig:Left knee 1");

    const std::string cased = replaced(
        replaced(kTwoBones, "Frame Time: 0.05", "frame time:\t.5e-1"), "Xposition", "XPosition");
    CHECK(parse_bvh(cased, "f").frame_time == 0.05);

    const std::string one_line = replaced(kTwoBones, "0 0 0 0 0 0\n0 10", "0 0 0 0 0 0 0 10");
    CHECK(parse_bvh(one_line, "f").values == plain.values);
    const std::string many = replaced(kTwoBones, "0 10 0 90 0", "0\n10\n+0\n\n90 -0.0");
    CHECK(parse_bvh(many, "f").values == plain.values);
}

TEST_CASE("bvh: a wrong frame count and a cut-off frame are mended with a warning") {
    const Bvh more = parse_bvh(replaced(kTwoBones, "Frames: 2", "Frames: 999999999999"), "f");
    CHECK(more.frames == 2);
    CHECK(more.warnings.size() == 1);
    const Bvh fewer = parse_bvh(replaced(kTwoBones, "Frames: 2", "Frames: 1"), "f");
    CHECK(fewer.frames == 2);
    const Bvh cut = parse_bvh(replaced(kTwoBones, "0 0 90\n", "0"), "f");
    CHECK(cut.frames == 1);
    CHECK(cut.values.size() == 9);
    CHECK(cut.warnings.size() == 2);
}

TEST_CASE("bvh: broken files give one line with the place") {
    struct Case {
        const char* from;
        const char* to;
        const char* want;
    };
    const Case cases[] = {
        {"HIERARCHY", "v 1 2 3", "file.bvh:1: does not begin with HIERARCHY"},
        {"ROOT Hips", "ROOT", "file.bvh:2: a joint without a name"},
        {"OFFSET 1 2 3", "OFFSET 1 2 nan", "file.bvh:4: got 'nan', want a finite number"},
        {"OFFSET 1 2 3", "OFFSET 1 2", "file.bvh:5: got 'CHANNELS'"},
        {"OFFSET 1 2 3", "OFFSET 1 2 1e999", "file.bvh:4: got '1e999'"},
        {"\tOFFSET 1 2 3\n", "", "has no OFFSET"},
        {"CHANNELS 6", "CHANNELS 7", "file.bvh:5: 7 CHANNELS"},
        {"CHANNELS 6", "CHANNELS 5", "file.bvh:5: got 'Xrotation' in joint Hips"},
        {"CHANNELS 3", "CHANNELS 4", "file.bvh:10: unknown channel 'End'"},
        {"Xposition", "Wposition", "file.bvh:5: unknown channel 'Wposition'"},
        {"Xposition", "Yposition", "channel Yposition stands twice"},
        {"JOINT Knee", "BONE Knee", "file.bvh:6: got 'BONE'"},
        {"End Site\n\t\t{", "End Site\n", "want '{' after End Site"},
        {"MOTION", "ROOT Second", "file.bvh:16: a second ROOT"},
        {"MOTION", "", "want MOTION"},
        {"Frames: 2", "Frames: two", "file.bvh:17: got 'two'"},
        {"Frames: 2", "Frames: -1", "file.bvh:17: Frames: -1"},
        {"Frames: 2\n", "", "'Frames:'"},
        {"Frame Time: 0.05", "Frame Time: 0", "file.bvh:18: Frame Time: 0"},
        {"Frame Time: 0.05", "", "'Frames:' and 'Frame Time:'"},
        {"0 10 0 0 0 0 0 0 0", "0 10 0 0 0 x 0 0 0", "file.bvh:19: got 'x'"},
        {"0 10 0 0 0 0 0 0 0", "0 10 inf 0 0 0 0 0 0", "file.bvh:19: got 'inf'"},
    };
    for (const Case& c : cases) {
        const std::string message = message_of(replaced(kTwoBones, c.from, c.to));
        CAPTURE(message);
        CHECK(message.find(c.want) != std::string::npos);
        CHECK(message.find('\n') == std::string::npos);
    }
    CHECK(message_of("").find("file.bvh:1: does not begin") == 0);
    const std::string whole = kTwoBones;
    for (size_t cut = 0; cut < whole.find("0 10 0"); ++cut) {  // every truncation of the head
        CHECK(message_of(whole.substr(0, cut)).find("file.bvh:") == 0);
    }
}

TEST_CASE("bvh: mutilated files are read or refused, never more") {
    std::mt19937 random(7);
    const std::string whole = kTwoBones;
    int refused = 0;
    for (int round = 0; round < 3000; ++round) {
        std::string text = whole;
        for (int edit = 0; edit < 3; ++edit) {
            const size_t at = random() % text.size();
            switch (random() % 4) {
                case 0:
                    text[at] = static_cast<char>(random() % 256);
                    break;
                case 1:
                    text.erase(at, 1 + random() % 12);
                    break;
                case 2:
                    text.insert(at, text.substr(random() % text.size(), random() % 40));
                    break;
                default:
                    text[at] = "0123456789-.eE{}\n\t "[random() % 19];
            }
            if (text.empty()) text.push_back('H');
        }
        try {
            const Bvh bvh = parse_bvh(text, "f");
            if (bvh.frames < 100) bvh_forward(bvh);
        } catch (const mc::Error& error) {
            ++refused;
            CHECK(std::string(error.what()).find('\n') == std::string::npos);
        }
    }
    CHECK(refused > 1000);
    CHECK(refused < 3000);
}

TEST_CASE("bvh: limits hold") {
    std::string deep = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n";
    for (int i = 0; i < 300; ++i) deep += "JOINT a\n{\nOFFSET 0 0 0\n";
    CHECK(message_of(deep).find("deeper than 256") != std::string::npos);
    std::string wide = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n";
    for (int i = 0; i < 5000; ++i) wide += "JOINT a\n{\nOFFSET 0 0 0\n}\n";
    CHECK(message_of(wide).find("more than 4096 joints") != std::string::npos);
    const std::string still =
        "HIERARCHY ROOT a\n{ OFFSET 0 0 0 } MOTION\nFrames: 3\nFrame Time: 1\n";
    CHECK(parse_bvh(still, "f").frames == 3);
    CHECK(message_of(still + "1").find("no joint has CHANNELS") != std::string::npos);
}

TEST_CASE("bvh: contradictions are not written") {
    Bvh bvh = parse_bvh(kTwoBones, "f");
    bvh.values.pop_back();
    CHECK_THROWS_AS(format_bvh(bvh), mc::Error);
    bvh = parse_bvh(kTwoBones, "f");
    bvh.values[3] = NAN;
    CHECK_THROWS_AS(format_bvh(bvh), mc::Error);
    bvh = parse_bvh(kTwoBones, "f");
    bvh.joints[1].parent = 1;
    CHECK_THROWS_AS(format_bvh(bvh), mc::Error);
    CHECK_THROWS_AS(read_bvh("/nowhere/at/all.bvh"), mc::Error);
}

TEST_CASE("bvh: files in the wild are read") {
    if (!mc::testing::have_shared("data/mocap/raw")) return;
    const auto raw = mc::testing::shared_dir() / "data/mocap/raw";
    int files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(raw)) {
        if (entry.path().extension() != ".bvh") continue;
        ++files;
        const Bvh bvh = read_bvh(entry.path().string());
        CAPTURE(entry.path().string());
        CHECK(bvh.frames > 100);
        CHECK(bvh.warnings.empty());
        const BvhGlobals globals = bvh_forward(bvh);
        double far = 0;
        for (const Vec3& p : globals.positions) far = std::max(far, length(p));
        CHECK(far < 1e4);
        // Bones keep their length.
        const BvhJoint& joint = bvh.joints[3];
        double drift = 0;
        for (int64_t t = 0; t < bvh.frames; ++t) {
            const Vec3 bone = globals.position(t, 3) - globals.position(t, joint.parent);
            drift = std::max(drift, std::fabs(length(bone) - length(joint.offset)));
        }
        CHECK(drift < 1e-9 * far);
        // Round trip within the six written decimals.
        const Bvh copy = parse_bvh(format_bvh(bvh), "copy");
        double worst = 0;
        for (size_t i = 0; i < bvh.values.size(); ++i) {
            worst = std::max(worst, std::fabs(copy.values[i] - bvh.values[i]));
        }
        CHECK(worst <= 1e-6);
    }
    CHECK(files >= 10);
}
