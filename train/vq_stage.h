// Trains MoMask's motion tokenizer (generators.md 3.2).
#pragma once

#include <optional>

#include "models/vq/rvq_vae.h"
#include "train/loop.h"
#include "train/motion_data.h"

namespace mc::train {

struct VqStageOptions {
    vq::RvqConfig model;              // dim_pose is the data's
    int64_t batch = 64, window = 64;  // windows of `window` frames
    // Share of the steps that train on shorter windows (down to data.min_frames, as many frames a
    // batch), so that short clips are seen and short motions decode well. 0 in the reference.
    double short_share = 0.3;
    // Windows are played up to (1 + speed_change) times as fast or as slow, at a speed drawn evenly
    // in its logarithm: more ways to move than the clips have. 0 in the reference.
    double speed_change = 0;
    // Windows are those of motion::WindowIndex, each once an epoch in a new order, what does not
    // fill a batch left out, as in the reference: long clips come more often. Wants no short_share,
    // speed_change and data.balance. Else a clip is drawn by its weight, and a place in it.
    bool every_window = false;
    MotionDataOptions data;
    uint64_t seed = 3407;
    DeviceType device = DeviceType::cpu;
};

class VqStage : public Stage {
  public:
    // Error: no training motion has a window's frames, no motion of a split a token's, or with
    // every_window fewer windows than a batch.
    explicit VqStage(const VqStageOptions& options);
    std::string name() const override { return "vq"; }
    vq::RvqVae& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override;
    // Mean joint errors of the val split, and of as many training clips ("train_").
    Metrics validate() override;
    void weights_loaded() override { model_.quantizer().begin_from_codebooks(); }
    NamedTensors extra_state() override;
    void load_extra(const NamedTensors& state) override;
    std::vector<std::string> warnings() const override { return left_out(train_, held_out_); }
    // The windows of a step's batch with every_window. A function of (seed, step) alone.
    std::vector<motion::WindowIndex::Place> windows(int64_t step);

  private:
    // Writes a batch's share of windows of `window` frames, drawn by the generator: (B, window, D).
    void draw_windows(const Share& share, int64_t window, Generator& generator, float* to) const;

    VqStageOptions options_;
    MotionData train_, held_out_;
    std::optional<motion::WindowIndex> index_;  // with every_window
    std::vector<int64_t> order_;                // of its items, in epoch_
    int64_t epoch_ = -1;
    Generator init_;
    vq::RvqVae model_;
};

// Whole clips, encoded and decoded at their own length: mean over joints and frames of the distance
// in millimetres, root-aligned as the field reports it (generators.md 10) and with the root's path.
struct ReconstructionError {
    double mpjpe_mm = 0, world_mm = 0;
};
// Of about `clips` samples spread over those of the split that are as long as a token; 0: of all.
// Error: there are none.
ReconstructionError reconstruction_error(const vq::RvqVae& model, const MotionData& data,
                                         size_t clips = 0);

}  // namespace mc::train
