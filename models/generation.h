// What the generators share around their models.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "models/motion_generator.h"
#include "motion/statistics.h"
#include "tensor/tensor.h"

namespace mc {

// Adds `spent` to a stage's seconds; a new stage comes last.
void add_seconds(StageSeconds& seconds, const std::string& stage, double spent);

// Adds up the time that each stage takes.
class StageClock {
  public:
    explicit StageClock(StageSeconds& seconds);
    void add(const std::string& stage);  // since the last call, or since construction

  private:
    using Clock = std::chrono::steady_clock;
    StageSeconds& seconds_;
    Clock::time_point begin_ = Clock::now();
};

// The tokens of `frames` (floor). Error outside 1 to `most`, with `who` for its beginning.
int64_t tokens_of_frames(int64_t frames, int64_t unit, int64_t most, const std::string& who);

// features (1, T, D), normalised -> a motion in its own units.
motion::FeatureSequence motion_of(const Tensor& features,
                                  const motion::Normalisation& normalisation, double fps);

// What fits together, or an Error that says what does not.
void check_fit(const std::string& who, int64_t tokenizer_codes, int64_t model_codes,
               int64_t text_width, int64_t model_text_width, int64_t normalised_columns,
               int64_t feature_columns);

}  // namespace mc
