// How well motions fit words, as MoCLIP sees it: the cosine of its embeddings of both.
//
//     MotionScorer scorer(text, std::move(tower), normalisation);
//     std::vector<double> fit = scorer({"a person jumps"}, {motion});   // (1), each in -1..1
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/moclip/motion_encoder.h"
#include "models/text_encoder.h"
#include "motion/joints.h"

namespace mc::moclip {

class MotionScorer {
  public:
    // Text and motion tower of one MoCLIP; `normalisation`: that of the features its motion tower
    // was trained on. Error: they embed in different widths.
    MotionScorer(std::shared_ptr<TextEncoder> text, std::unique_ptr<MotionEncoder> motion,
                 motion::Normalisation normalisation);

    void to(DeviceType device);
    // The fit of each motion (features in their own units) with the prompt at the same place. A
    // motion is embedded alone: its score does not depend on the others.
    std::vector<double> operator()(const std::vector<std::string>& prompts,
                                   const std::vector<motion::FeatureSequence>& motions);

  private:
    Tensor embedding(const motion::FeatureSequence& motion) const;  // (1, E), of length 1

    std::shared_ptr<TextEncoder> text_;
    std::unique_ptr<MotionEncoder> motion_;
    motion::Normalisation normalisation_;
};

}  // namespace mc::moclip
