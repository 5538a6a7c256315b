#include "tools/common/evaluate_data.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>

#include "kernels/error.h"
#include "motion/dataset.h"
#include "motion/motion_file.h"
#include "motion/skeleton.h"
#include "tensor/formats/atomic_file.h"
#include "tools/common/cli.h"
#include "tools/common/motion_input.h"
#include "train/evaluation.h"
#include "train/progress.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;
using motion::MotionSample;
using train::EvaluationText;

constexpr int64_t kKitColumns = 251;

motion::Dataset read_split(const DataOptions& options,
                           const evaluator::PublicEvaluator& evaluator) {
    motion::DatasetOptions how;
    how.root = options.data;
    how.split = options.split;
    if (evaluator.model->config().dim_pose == kKitColumns) how.min_frames = 24;
    motion::Dataset data = motion::read_dataset(how);
    for (const std::string& line : motion::left_out(data, options.split))
        notice("warning: {}\n", line);
    train::check_columns(evaluator, options.data, data.dims);
    return data;
}

// Motions made elsewhere: CLIP_LINE_SEED.npy is one for the caption in line LINE of
// texts/CLIP.txt, from 1; seeds count from 0.
class MotionFolder {
  public:
    // Captions without a motion are taken from the samples. Error: a sample without any motion,
    // captions with different numbers of motions, a motion that cannot be read or that the
    // evaluator does not take, all before hours of work and not after.
    MotionFolder(const fs::path& folder, std::vector<MotionSample>& samples,
                 const evaluator::EvaluatorConfig& config)
        : folder_(folder) {
        if (!fs::is_directory(folder)) throw Error(folder.string() + ": is no folder of motions");
        std::optional<int64_t> takes;
        for (MotionSample& sample : samples) {
            std::erase_if(sample.captions, [&](const motion::Caption& caption) {
                return !fs::exists(path_of(sample, caption, 0));
            });
            if (sample.captions.empty())
                throw Error(fmt::format(
                    "{}: has no motion for {}; want {}_LINE_SEED.npy, LINE a caption's line in its "
                    "text file from 1 and SEED from 0",
                    folder.string(), sample.name, sample.clip));
            for (const motion::Caption& caption : sample.captions) {
                int64_t found = 1;
                while (fs::exists(path_of(sample, caption, found))) ++found;
                if (takes.value_or(found) != found)
                    throw Error(fmt::format("{}: {} motions, but the captions before have {}",
                                            path_of(sample, caption, 0).string(), found, *takes));
                takes = found;
            }
        }
        takes_ = takes.value_or(0);
        for (const MotionSample& sample : samples)
            for (const motion::Caption& caption : sample.captions)
                for (int64_t take = 0; take < takes_; ++take)
                    check(path_of(sample, caption, take), config);
    }

    int64_t takes() const { return takes_; }  // motions a caption

    std::vector<motion::FeatureSequence> read(std::span<const EvaluationText> texts,
                                              int64_t take) const {
        std::vector<motion::FeatureSequence> motions;
        for (const EvaluationText& text : texts)
            motions.push_back(
                read_motion_features(path_of(*text.sample, *text.caption, take % takes_)));
        return motions;
    }

  private:
    // Without making features of joints, which takes ten times as long as reading them.
    static void check(const fs::path& path, const evaluator::EvaluatorConfig& config) {
        const NpyArray array = read_npy(path);
        const bool joints = array.shape.size() == 3;
        const int64_t frames = array.shape.empty() ? 0 : array.shape[0] - joints;
        const int64_t columns =
            joints
                ? motion::skeleton_for_joints(motion::joints_of_array(array).joints).feature_dims()
                : motion::features_of_array(array).dims;
        if (frames < config.unit || columns != config.dim_pose)
            throw Error(fmt::format("{}: ({}, {}) features, want at least {} rows of {}",
                                    path.string(), frames, columns, config.unit, config.dim_pose));
    }

    fs::path path_of(const MotionSample& sample, const motion::Caption& caption,
                     int64_t take) const {
        return folder_ / fmt::format("{}_{}_{}.npy", sample.clip, caption.line, take);
    }

    fs::path folder_;
    int64_t takes_ = 0;
};

train::MotionLength length_rule(const DataOptions& options, const Bundle& bundle) {
    const bool bamm = bundle.info.at("generator") == "bamm";
    const std::string rule =
        !options.lengths.empty() ? options.lengths : (bamm ? "generator" : "truth");
    return rule == "truth" ? train::MotionLength::truth : train::MotionLength::generator;
}

}  // namespace

CLI::Option* add_data_options(CLI::App& app, DataOptions& options, CLI::Option* data) {
    CLI::Option* evaluator =
        app.add_option("--evaluator", options.evaluator,
                       "the public evaluator's folder, which holds text_mot_match/ and "
                       "Comp_v6_KLD005/ (T2M's checkpoints/t2m)")
            ->check(CLI::ExistingDirectory)
            ->needs(data);
    data->needs(evaluator);
    app.add_option("--glove", options.glove,
                   "folder of its word vectors (our_vab_data.npy and two more) [glove/ in it, or "
                   "beside checkpoints/]")
        ->check(CLI::ExistingDirectory)
        ->needs(data);
    app.add_option("--split", options.split, "the list of clips, SPLIT.txt of the data set")
        ->capture_default_str()
        ->needs(data);
    app.add_option("--repeats", options.repeats, "repetitions, over which intervals are taken")
        ->check(whole(1, 10000))
        ->capture_default_str()
        ->needs(data);
    app.add_option("--takes", options.takes,
                   "motions a text for MultiModality, in the first 3 batches of 32 texts; 0: none")
        ->check(whole(0, 1000))
        ->capture_default_str()
        ->needs(data);
    app.add_option("--lengths", options.lengths,
                   "who decides how long a motion is: truth or generator [as published: generator "
                   "for BAMM, else truth]")
        ->check(CLI::IsMember({"truth", "generator"}))
        ->needs(data);
    return app
        .add_flag("--real", options.real,
                  "evaluate the data set's own motions (\"Real motions\" in papers)")
        ->needs(data);
}

int evaluate_data(const DataOptions& options, const Evaluated& what) {
    train::EvaluationOptions how;
    how.repeats = options.repeats;
    how.takes = options.takes;
    if (what.seed) how.seed = *what.seed;
    const evaluator::PublicEvaluator evaluator =
        evaluator::load_public_evaluator(options.evaluator, options.glove);
    evaluator.model->to(what.model.device);
    motion::Dataset data = read_split(options, evaluator);
    Bundle bundle;  // lives as long as the source that asks its generator
    std::optional<MotionFolder> folder;
    train::EvaluationSource source;
    std::string who = "real motions";
    if (!what.motions.empty()) {
        who = what.motions;
        folder.emplace(what.motions, data.samples, evaluator.model->config());
        how.takes = folder->takes() > 1 ? std::min(how.takes, folder->takes()) : 0;
        source = [&folder](std::span<const EvaluationText> texts, uint64_t, int64_t take) {
            return folder->read(texts, take);
        };
    } else if (!options.real) {
        who = name_of(what.model);
        bundle = open_bundle(what.model);
        train::check_columns(evaluator, who, bundle.generator->dims());
        source = train::generated_motions(*bundle.generator, bundle.defaults,
                                          length_rule(options, bundle));
    }
    std::optional<train::Progress> progress;
    how.progress = [&](int64_t done, int64_t total) {
        if (!progress) progress.emplace("evaluation", total);
        progress->update(done);
    };
    const train::Evaluation evaluation =
        train::evaluate_motions(evaluator, data.samples, source, how);
    progress->finish();
    fmt::print("{}", train::evaluation_table(evaluation, who));
    if (what.json.empty()) return 0;
    nlohmann::json report = train::evaluation_json(evaluation);
    report["evaluated"] = who;
    report["data"] = options.data;
    report["split"] = options.split;
    report["evaluator"] = evaluator.weights.string();
    report["seed"] = how.seed;
    report["takes"] = source ? how.takes : 0;
    write_text_file(what.json, report.dump(1) + "\n");
    return 0;
}

}  // namespace mc::tools
