// A generator that makes several candidates of each motion and keeps the one whose MoCLIP embedding
// lies nearest to the words' (reranking, as DALL-E's first samples were ranked by CLIP: Ramesh et
// al. 2021, section 2.6).
#pragma once

#include "models/moclip/motion_scorer.h"
#include "models/motion_generator.h"

namespace mc {

class BestOfGenerator : public MotionGenerator {
  public:
    BestOfGenerator(std::unique_ptr<MotionGenerator> generator, moclip::MotionScorer scorer);

    void to(DeviceType device) override;
    void keep_only(const std::vector<std::string>& prompts) override {
        generator_->keep_only(prompts);
    }
    // Of options.candidates, of which the first is what the generator makes alone, the others are
    // its motions of other seeds. A score that is nan is none; Error: no candidate has another.
    std::vector<motion::FeatureSequence> generate(const std::vector<GenerationRequest>& requests,
                                                  const GenerationOptions& options) override;
    const std::vector<double>& scores() const override { return scores_; }
    // The inner generator's stages, summed over the candidates, and "score".
    const StageSeconds& stage_seconds() const override { return seconds_; }
    const std::vector<std::string>& warnings() const override { return generator_->warnings(); }
    double fps() const override { return generator_->fps(); }
    int64_t dims() const override { return generator_->dims(); }
    int64_t unit() const override { return generator_->unit(); }
    int64_t max_frames() const override { return generator_->max_frames(); }
    bool can_choose() const override { return true; }

  private:
    std::unique_ptr<MotionGenerator> generator_;
    moclip::MotionScorer scorer_;
    std::vector<double> scores_;
    StageSeconds seconds_;
};

}  // namespace mc
