// From words to motion: `generate "a person jumps"` writes BVH, a page to watch it in, joints, from
// the bundle in the tree.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "models/generation.h"
#include "models/motion_edit.h"
#include "motion/features.h"
#include "motion/foot_lock.h"
#include "motion/skeleton.h"
#include "tools/common/cli.h"
#include "tools/common/model_choice.h"
#include "tools/common/motion_input.h"
#include "tools/common/prompts.h"
#include "tools/common/takes.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
    std::vector<std::string> prompts;
    ModelChoice model;
    std::string prompts_file, out = "out", length = "auto", formats = "bvh,html,npy";
    std::string edit;                 // motion to edit
    std::vector<std::string> frames;  // of it, "A:B" or "A:B,C:D"
    int64_t count = 1;
    std::optional<uint64_t> seed;
    bool lock_feet = false, replace = false;
    CommonOptions common;
};

constexpr double kLeastSeconds = 1;  // the field's data sets begin there or later

std::optional<int64_t> frames_of(const std::string& seconds, const MotionGenerator& generator,
                                 const std::string& place) {
    if (seconds == "auto" || seconds.empty()) return std::nullopt;
    char* end = nullptr;
    const double value = std::strtod(seconds.c_str(), &end);
    const double most = static_cast<double>(generator.max_frames()) / generator.fps();
    if (end == seconds.c_str() || *end != '\0' || !(value >= kLeastSeconds && value <= most))
        throw Error(fmt::format("{}: length {} is not \"auto\" or {:.0f} to {:.1f} seconds", place,
                                seconds, kLeastSeconds, most));
    return static_cast<int64_t>(std::lround(value * generator.fps()));
}

bool is_one_word(const std::string& prompt) {
    return prompt.find(' ') == std::string::npos;
}

// The motion to edit and its frames that are to be made anew.
MotionEdit edit_of(const Options& options) {
    MotionEdit edit;
    Notes notes;
    edit.source = read_motion_features(options.edit, &notes);
    for (const std::string& note : notes) notice("generate: warning: {}\n", note);
    for (const std::string& list : options.frames)
        for (const auto& range : frame_ranges(list)) edit.ranges.push_back(range);
    return edit;
}

// How well the motions fit their words, in MoCLIP's eyes.
std::string fit_line(const std::vector<double>& fits, int64_t candidates) {
    const auto [least, most] = std::minmax_element(fits.begin(), fits.end());
    std::string line = fmt::format("MoCLIP's cosine of words and motion {:.2f}", *least);
    if (fits.size() > 1) line += fmt::format(" to {:.2f}", *most);
    if (candidates > 1)
        line += fmt::format(", {} of {} candidates", fits.size() > 1 ? "each the best" : "the best",
                            candidates);
    return line;
}

// Locks the feet of a take: its joints, and its features anew from them. One frame more than the
// take has is locked, for a row of features needs the frame after it.
void lock_take(motion::FeatureSequence& take, motion::JointSequence& joints) {
    const motion::JointSequence locked = motion::lock_feet(motion::rebuild_last_frame(take));
    take = motion::extract_features(locked, motion::skeleton_for_joints(locked.joints));
    joints = motion::slice(locked, 0, take.frames);
}

class Stopwatch {
  public:
    double lap() {
        const auto now = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(now - last_).count();
        last_ = now;
        return seconds;
    }

  private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

int run(Options& options) {
    Stopwatch watch;
    options.model.device = apply(options.common);
    const std::vector<std::string> formats = format_list(options.formats);
    Bundle bundle = open_bundle(options.model);
    MotionGenerator& generator = *bundle.generator;
    if (options.lock_feet && generator.fps() != motion::humanml3d_skeleton().fps)
        throw Error("--lock-feet: knows HumanML3D's feet, not those of KIT's figure; leave it out");
    std::vector<PromptLine> lines;
    for (const std::string& prompt : options.prompts) {
        check_prompt(prompt, "the command line");
        lines.push_back({prompt, "", "the command line"});
    }
    if (lines.size() > 1 && std::ranges::all_of(options.prompts, is_one_word))
        notice(
            "generate: warning: {} prompts of one word each, so a motion for each; put words "
            "that belong together in quotes\n",
            lines.size());
    if (!options.prompts_file.empty())
        for (PromptLine& line : read_prompts(options.prompts_file))
            lines.push_back(std::move(line));
    if (lines.empty())
        throw Error("no prompt; write one as an argument, or name a file with --prompts");
    std::vector<GenerationRequest> requests;
    for (const PromptLine& line : lines)
        requests.push_back({line.text, line.seconds.empty()
                                           ? frames_of(options.length, generator, "--length")
                                           : frames_of(line.seconds, generator, line.place)});
    if (const std::string warning = script_warning(lines); !warning.empty())
        notice("generate: warning: {}\n", warning);
    if (!options.edit.empty()) {
        const MotionEdit edit = edit_of(options);
        check_edit(edit, generator.unit(), generator.max_frames() / generator.unit());
        for (GenerationRequest& request : requests) request.edit = edit;
    }
    std::error_code failed;
    fs::create_directories(options.out, failed);
    if (failed)
        throw Error(options.out + ": cannot be made: " + failed.message() +
                    "; choose another folder with --out");
    const double load_seconds = watch.lap();

    GenerationOptions how = bundle.defaults;
    if (options.seed) how.seed = *options.seed;

    double generate_seconds = 0, write_seconds = 0;
    StageSeconds stages;
    std::vector<std::string> prompts;
    for (const GenerationRequest& request : requests) prompts.push_back(request.prompt);
    watch.lap();
    generator.keep_only(prompts);
    generate_seconds += watch.lap();
    add_seconds(stages, "text", generate_seconds);
    std::vector<fs::path> written;
    std::vector<double> fits;
    for (size_t i = 0; i < requests.size(); ++i) {
        watch.lap();
        std::vector<motion::FeatureSequence> made = generator.generate(
            std::vector<GenerationRequest>(static_cast<size_t>(options.count), requests[i]), how);
        generate_seconds += watch.lap();
        const std::vector<double>& scores = generator.scores();
        fits.insert(fits.end(), scores.begin(), scores.end());
        for (const std::string& warning : generator.warnings())
            notice("generate: warning: {}\n", warning);
        for (const auto& [stage, seconds] : generator.stage_seconds())
            add_seconds(stages, stage, seconds);
        std::vector<Take> takes;
        for (size_t take = 0; take < made.size(); ++take) {
            motion::JointSequence joints = motion::joints_from_features(made[take]);
            if (options.lock_feet) lock_take(made[take], joints);
            std::string about = fmt::format(
                "{:.1f} s, seed {}", static_cast<double>(joints.frames) / joints.fps, how.seed);
            if (made.size() > 1) about += fmt::format(", take {}", take + 1);
            if (!scores.empty()) {
                about += fmt::format(", fit {:.2f}", scores[take]);
                if (how.candidates > 1) about += fmt::format(" (best of {})", how.candidates);
            }
            takes.push_back({std::move(made[take]), std::move(joints), std::move(about)});
        }
        std::string stem = file_stem(requests[i].prompt);
        if (requests.size() > 1) stem = fmt::format("{:03}_{}", i + 1, stem);
        const WrittenTakes files = write_takes(options.out, stem, requests[i].prompt, takes,
                                               formats, options.replace, options.edit);
        if (!files.taken.empty())
            notice("generate: {} is {}\n", files.taken,
                   options.replace ? "the motion to edit and stays"
                                   : "another motion's and stays; --replace writes over it");
        written.insert(written.end(), files.files.begin(), files.files.end());
        write_seconds += watch.lap();
    }
    for (const fs::path& path : written) fmt::print("{}\n", path.string());
    if (!fits.empty()) fmt::print("{}\n", fit_line(fits, how.candidates));
    fmt::print("load {:.2f} s, generate {:.2f} s (", load_seconds, generate_seconds);
    for (size_t i = 0; i < stages.size(); ++i)
        fmt::print("{}{} {:.2f}", i ? ", " : "", stages[i].first, stages[i].second);
    fmt::print("), write {:.2f} s\n", write_seconds);
    return 0;
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app("Turns words into human motion.", "generate");
    Options options;
    app.add_option("prompt", options.prompts,
                   "what the person does, in English; several are several motions");
    app.add_option(
        "--prompts", options.prompts_file,
        "file with one prompt a line, \"text\" or \"text#seconds\"; - is standard input");
    add_model_options(app, options.model);
    app.add_option("--length", options.length,
                   "seconds (1 to 9.8), or auto: estimated from the text")
        ->capture_default_str();
    CLI::Option* edit =
        app.add_option(
               "--edit", options.edit,
               "motion to make a part of anew: features or joints (.npy), or a BVH made here, "
               "also after Blender wrote it. The other rows of features keep their bits (without "
               "--lock-feet). Joints and BVH are first made features, which takes them to the "
               "model's skeleton, start and heading, to within centimetres, and costs the last "
               "frame. What comes after the edit goes on from where the edit ends")
            ->check(CLI::ExistingFile);
    CLI::Option* frames = app.add_option("--frames", options.frames,
                                         "which frames of it, A:B without B; several as A:B,C:D")
                              ->allow_extra_args(false)  // else a prompt after it would be one
                              ->needs(edit);
    edit->needs(frames)->excludes("--length");
    app.add_option("--seed", options.seed,
                   "of the random numbers: the same seed gives the same motion [10107]")
        ->check(whole(0));
    app.add_option("--count", options.count, "takes of each prompt")
        ->check(whole(1, 1000))
        ->capture_default_str();
    app.add_option("--out", options.out,
                   "folder for what is written. Files of another motion stay: then the new ones' "
                   "names end in -2, -3, ...")
        ->capture_default_str();
    app.add_flag("--replace", options.replace,
                 "write over files of another motion with these names, those in other formats too, "
                 "so that all of a name are of one motion (the motion to edit stays)");
    app.add_option(
           "--format", options.formats,
           "any of bvh,html,npy,glb,png,features (bvh and glb: metres, Y up; npy: joints, in the "
           "data set's unit, KIT's in millimetres; features: the rows they come from; png: a strip "
           "of poses)")
        ->capture_default_str();
    app.add_flag(
        "--lock-feet", options.lock_feet,
        "hold feet that stand on the floor in place (not on stairs, not KIT's; in all that is "
        "written; the figure's lowest joint comes to the floor)");
    add_common_options(app, options.common);
    app.footer(
        "Examples:\n"
        "  generate \"a person jumps\"\n"
        "  generate \"someone walks in a circle\" --length 6 --count 4 --seed 7 --format bvh,glb\n"
        "  generate --prompts prompts.txt --out takes\n"
        "  generate \"a person jumps\" --edit out/walk.bvh --frames 40:80\n"
        "  generate \"a person jumps\" --checkpoints BAMM --generator bamm --text-encoder "
        "ViT-B-32.pt");
    return run_program(app, argc, argv, [&] { return run(options); });
}
