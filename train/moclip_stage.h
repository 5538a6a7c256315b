// MoCLIP's fine-tuning in two phases (moclip.md 5): the motion tower learns to meet the frozen text
// embeddings; then the text tower is released, pulled towards the motions and tethered to its
// frozen former self.
//
// With several processes the loss is that of the whole batch, all its motions and texts being each
// other's negatives (all_gather in autograd/ops.h). Where positions are counted over the batch
// (PositionAxis::batch, of the published code) each process counts its own.
#pragma once

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "models/clip/clip_text_encoder.h"
#include "models/moclip/losses.h"
#include "models/moclip/moclip.h"
#include "train/loop.h"
#include "train/motion_data.h"
#include "train/presets.h"

namespace mc::train {

inline constexpr int64_t kMoClipEpochs = 50;  // of the published code, of the data set's size

struct MoClipStageOptions {
    std::string mode = "paper";
    moclip::MotionEncoderConfig motion;  // its body parts on the data's skeleton (table_for_joints)
    bool matrix_scale = false;
    int64_t batch = 128, steps = 1000;
    double frozen_share = 0.7;  // of the steps: phase 1
    double lambda = 0.4;        // weight of the tether
    moclip::DistillReduction reduction = moclip::DistillReduction::sample_sum;
    bool tether = true, align = true;  // naive mode has neither
    bool train_scale = true;           // logit scale or matrix in phase 2
    // Learning rates: motion tower in phase 1, motion and text tower in phase 2; loop's schedule
    // multiplies.
    double lr = 1e-4, motion_lr_2 = 1e-6, text_lr_2 = 1e-6;
    double weight_decay_1 = 1e-4, weight_decay_2 = 1e-2;
    int64_t padded_frames = 0;  // reference: 196; 0: the longest of the batch
    bool double_units = false;  // reference: a third of the crops are a unit shorter
    // QUIRK of the published code: validation at the start of epochs 0, 5, ..., 45 leaves the model
    // in eval mode, so that dropout is off in all of that epoch's steps (moclip.md 5). An epoch is
    // epoch_steps(). Off in either mode unless asked for.
    bool compat_eval_leak = false;
    MotionDataOptions data;
    std::string lexicon;
    double reword_share = 0.5;
    bool mirror_pairs = false;  // with_mirror_pairs; not in the paper
    uint64_t seed = 3407;
    DeviceType device = DeviceType::cpu;
};

// The crop of a clip of `length` frames that a uniform number chooses, in units of 4 frames, at
// most 196 (motion_data.md 4). With double_units a third of them are a unit shorter than they could
// be.
motion::Crop moclip_crop(int64_t length, float u, bool double_units);

// The objective by its terms, "loss" their weighted sum: of motions zm and texts zs (N, E), of unit
// length, and with a tether of the frozen tower's zt (undefined: none).
std::map<std::string, Var> moclip_objective(const MoClipStageOptions& options,
                                            const moclip::MoClip& student, const Var& zm,
                                            const Var& zs, const Tensor& zt);

class MoClipStage : public Stage {
  public:
    // Error: fewer than 2 motions in the val split, a vocabulary that is not the text tower's.
    MoClipStage(const MoClipStageOptions& options, const std::string& text_weights,
                const std::string& vocabulary);
    std::string name() const override { return "moclip"; }
    moclip::MoClip& model() override { return student_; }
    void prepare(int64_t step, AdamW& optimizer) override;
    Metrics step(int64_t step, Generator& generator) override;
    Metrics validate() override;  // loss on the val split; score = it

    std::vector<std::string> warnings() const override { return left_out(train_, held_out_); }
    NamedTensors extra_state() override;
    void load_extra(const NamedTensors& state) override;

    struct Recall {
        double at1 = 0, at2 = 0, at3 = 0;  // shares
        int64_t pool = 0;                  // motions a text chooses from
    };
    // Text to motion in pools of 32 of a split (all of it, if it is smaller), mean over `repeats`
    // shuffles, of equally near motions the first of the shuffle. Error: fewer than 2 motions, an
    // embedding that is no number.
    Recall retrieval(const std::string& split, int64_t repeats = 20) const;
    // That of the test split when the text tower was released, so with the frozen text tower: what
    // the second phase is to be compared with. None before the switch.
    const std::optional<Recall>& frozen_recall() const { return frozen_recall_; }
    // The text tower alone, OpenAI's names, f32: drops in wherever a CLIP of its size does.
    void write_text_encoder(const std::filesystem::path& path);
    // All of the student under the published names, for those who want the motion tower too.
    void write_model(const std::filesystem::path& path);
    int64_t switch_step() const { return switch_step_; }
    // Steps that stand for one of the published code's epochs.
    int64_t epoch_steps() const { return std::max<int64_t>(1, options_.steps / kMoClipEpochs); }
    // Mean norm of the text embeddings of the val captions, teacher and student: a health check
    // (moclip.md 11.1).
    std::pair<double, double> text_norms() const;

  private:
    struct Batch {
        Tensor joints;                 // (B, T, J, 3)
        std::vector<int64_t> lengths;  // frames
        Tensor ids;                    // (B, n) i64
    };
    Batch assemble(const MotionData& data, const std::vector<DrawnClip>& clips,
                   const std::vector<std::string>& captions, bool double_units = false) const;
    Tensor tokenized(const std::vector<std::string>& captions) const;
    // (B, E), not normalised. On the CPU each caption is computed once and alone; on a GPU, where
    // one forward of the batch costs less than a launch for each, the batch anew each time. Either
    // way the values do not depend on what came before: a resumed run sees the same bits.
    Tensor frozen_text(const std::vector<std::string>& captions, const Tensor& ids);
    void check_positions() const;  // Error: a learned table with fewer than the data will ask for
    StringMap metadata() const;

    MoClipStageOptions options_;
    MotionData train_, held_out_;
    CaptionSource captions_;
    clip::Tokenizer tokenizer_;
    clip::TextTowerFile tower_;
    Generator init_;
    std::vector<size_t> twins_;  // of train_'s samples
    moclip::MoClip student_;
    clip::TextTransformer teacher_;
    int64_t switch_step_;
    bool released_ = false;
    std::optional<Recall> frozen_recall_;
    std::unordered_map<std::string, std::vector<float>> frozen_text_;  // caption to (E)
};

// small, humanml3d; mode is `paper` or `reference`. What is null in the group `motion` is as the
// mode has it; its keys are those of a motion tower's configuration (models/config_json.h).
const std::vector<Preset>& moclip_presets();
MoClipStageOptions moclip_stage_options(const nlohmann::json& config, const std::string& data);

}  // namespace mc::train
