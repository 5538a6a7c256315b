// motion: data sets, features and joints. `motion --help` shows examples.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "kernels/error.h"
#include "motion/dataset_build.h"
#include "motion/features.h"
#include "motion/gltf.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "motion/skeleton.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/npy.h"
#include "tools/common/cli.h"
#include "tools/common/motion_input.h"
#include "tools/common/paths.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;
using namespace motion;

// A bar on a terminal, nothing elsewhere.
void show_progress(int64_t done, int64_t total) {
    if (!::isatty(STDERR_FILENO)) return;
    constexpr int64_t kWidth = 40;
    const int64_t filled = done * kWidth / total;
    notice("\r[{:<{}}] {}/{}", std::string(static_cast<size_t>(filled), '='), kWidth, done, total);
    if (done == total) notice("\n");
    std::fflush(stderr);
}

void print_report(const BuildReport& r, const fs::path& out, bool as_json) {
    if (as_json) {
        nlohmann::json line{
            {"out", out.string()},      {"segments", r.segments}, {"bad", r.bad},
            {"too_short", r.too_short}, {"too_long", r.too_long}, {"clips", r.clips},
            {"rows", r.rows},           {"captions", r.captions}, {"splits", r.split_clips},
            {"warnings", r.warnings}};
        fmt::print("{}\n", line.dump());
        return;
    }
    fmt::print("{} segments: {} bad, {} too short and {} too long were left out\n", r.segments,
               r.bad, r.too_short, r.too_long);
    fmt::print("{} clips ({} rows, {} captions)", r.clips, r.rows, r.captions);
    const char* separator = ": ";
    for (const char* split : {"train", "val", "test"}) {
        const auto it = r.split_clips.find(split);
        fmt::print("{}{} {}", separator, it == r.split_clips.end() ? 0 : it->second, split);
        separator = ", ";
    }
    fmt::print("\n{:<16} {:>6} {:>5} {:>5}\n", "category", "train", "val", "test");
    for (const auto& [category, splits] : r.categories) {
        auto count = [&splits = splits](const char* split) {
            const auto it = splits.find(split);
            return it == splits.end() ? int64_t{0} : it->second;
        };
        fmt::print("{:<16} {:>6} {:>5} {:>5}\n", category, count("train"), count("val"),
                   count("test"));
    }
    for (const std::string& warning : r.warnings) notice("warning: {}\n", warning);
    fmt::print("written to {}\n", out.string());
}

// What the reader mended is said.
JointSequence read_noticed(const fs::path& path) {
    Notes notes;
    JointSequence joints = read_motion_joints(path, &notes);
    for (const std::string& note : notes) notice("motion: warning: {}\n", note);
    return joints;
}

void print_info(const fs::path& path) {
    if (path.extension() == ".npz") {
        const NpzFile file(path);
        const auto names = file.names();
        fmt::print("{}: {} arrays\n", path.string(), names.size());
        for (const std::string& name : names) {
            const NpyArray array = file.read(name);
            std::string shape;
            for (int64_t d : array.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(d);
            fmt::print("  {:<40} ({}) {}\n", name, shape, array.descr);
        }
        return;
    }
    JointSequence joints;
    std::optional<NpyArray> array;
    if (!is_bvh(path)) array = read_npy(path);
    if (array && array->shape.size() == 2) {
        const FeatureSequence features = features_of_array(*array);
        fmt::print("{}: features of {} frames x {} columns ({})\n", path.string(), features.frames,
                   features.dims, skeleton_for_dims(features.dims).name);
        joints = joints_from_features(features);
    } else {
        joints = array ? joints_of_array(*array) : read_noticed(path);
        fmt::print("{}: joints of {} frames x {} joints ({})\n", path.string(), joints.frames,
                   joints.joints, skeleton_for_joints(joints.joints).name);
    }
    const double seconds = static_cast<double>(joints.frames) / joints.fps;
    double lowest = joints.at(0, 0)[1], highest = lowest, travelled = 0;
    for (int64_t t = 0; t < joints.frames; ++t) {
        for (int64_t j = 0; j < joints.joints; ++j) {
            lowest = std::min<double>(lowest, joints.at(t, j)[1]);
            highest = std::max<double>(highest, joints.at(t, j)[1]);
        }
        if (t > 0) {
            const float *a = joints.at(t - 1, 0), *b = joints.at(t, 0);
            travelled +=
                std::hypot(static_cast<double>(b[0]) - a[0], static_cast<double>(b[2]) - a[2]);
        }
    }
    fmt::print("  {:.2f} s at {} frames a second\n", seconds, joints.fps);
    fmt::print("  heights from {:.3f} to {:.3f}, root travels {:.3f}\n", lowest, highest,
               travelled);
}

// In the format that the name ends in.
void write_motion(const fs::path& out, const JointSequence& joints) {
    if (is_bvh(out))
        write_text_file(out, format_bvh(rig_to_bvh(fit_rig_in_metres(joints))));
    else if (out.extension() == ".glb")
        write_text_file(out, encode_glb(fit_rig_in_metres(joints), out.stem().string()));
    else
        write_joints(out, joints);
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    using namespace mc::motion;
    CLI::App app("Builds motion data sets, and turns joints into features and back.", "motion");
    app.require_subcommand(1);
    app.footer(
        "Examples:\n"
        "  motion dataset build --mocap MOCAP --out data/mocap\n"
        "  motion features new_joints/012314.npy features.npy\n"
        "  motion features walk.bvh features.npy\n"
        "  motion joints features.npy joints.npy\n"
        "  motion joints features.npy walk.bvh\n"
        "  motion info features.npy\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage.");

    CLI::App* dataset = app.add_subcommand("dataset", "make training data");
    dataset->require_subcommand(1);
    CLI::App* build = dataset->add_subcommand(
        "build", "build HumanML3D's layout from joint archives and captioned segments");
    BuildOptions options;
    bool no_mirror = false, as_json = false;
    build
        ->add_option("--mocap", options.mocap,
                     "folder with joints/*.npz, captions.jsonl, phrasings.jsonl")
        ->required();
    build->add_option("--captions", options.captions,
                      "segments, one a line [MOCAP/captions.jsonl]");
    build->add_option("--phrasings", options.phrasings,
                      "pools of wordings [MOCAP/phrasings.jsonl]");
    build->add_option("--out", options.out, "the new folder")->required();
    build->add_option("--min-frames", options.min_frames, "leave out segments with fewer rows")
        ->check(whole(1))
        ->capture_default_str();
    build->add_option("--max-frames", options.max_frames, "cut longer segments into windows")
        ->check(whole(1))
        ->capture_default_str();
    build->add_option("--val-share", options.shares.val, "part of each category that validates")
        ->check(finite(0, 1))
        ->capture_default_str();
    build->add_option("--test-share", options.shares.test, "part of each category that tests")
        ->check(finite(0, 1))
        ->capture_default_str();
    build->add_option("--seed", options.seed, "of the split")
        ->check(whole(0))
        ->capture_default_str();
    build->add_flag("--no-mirror", no_mirror, "leave out the mirrored twins");
    build->add_flag("--replace", options.replace, "replace a data set that is there already");
    build->add_flag("--log", as_json, "report as one line of JSON");
    build->footer(
        "Example:\n"
        "  motion dataset build --mocap MOCAP --captions my_captions.jsonl --out data/mine");

    fs::path in, out;
    bool as_is = false, rotations = false;
    CLI::App* features = app.add_subcommand(
        "features", "joints (N, 22, 3) or (N, 21, 3) to feature rows (N-1, 263) or (N-1, 251)");
    features
        ->add_option(
            "joints", in,
            "npy file to read, or a BVH made by generate, also after Blender wrote it: any "
            "frame rate, unit and axis up")
        ->required();
    features->add_option("features", out, "npy file to write")->required();
    features->add_flag(
        "--as-is", as_is,
        "do not bring the clip to the target skeleton, the floor, the origin and +Z first");
    CLI::App* joints = app.add_subcommand(
        "joints", "feature rows (N, 263) or (N, 251) to joints (N, 22|21, 3), BVH or GLB");
    joints->add_option("features", in, "npy file to read")->required();
    joints
        ->add_option("joints", out,
                     "npy file to write; where the name ends in .bvh or .glb, such a file")
        ->required();
    joints->add_flag("--from-rotations", rotations,
                     "from the rotation columns and the target skeleton, not the position columns");
    CLI::App* info = app.add_subcommand("info", "what is in an npy, npz or BVH file");
    info->add_option("file", in, "file to read")->required();

    return run_program(app, argc, argv, [&] {
        if (build->parsed()) {
            options.mirror = !no_mirror;
            print_report(build_dataset(options, show_progress), options.out, as_json);
        } else if (features->parsed()) {
            const JointSequence sequence = read_noticed(in);
            check_not_read(out, in);
            write_features(out,
                           as_is ? extract_features(sequence, skeleton_for_joints(sequence.joints))
                                 : motion_features(sequence));
        } else if (joints->parsed()) {
            const FeatureSequence rows = read_features(in);
            check_not_read(out, in);
            write_motion(out, rotations ? joints_from_rotations(
                                              rows, skeleton_for_dims(rows.dims).target_offsets())
                                        : joints_from_features(rows));
        } else if (info->parsed()) {
            print_info(in);
        }
        return 0;
    });
}
