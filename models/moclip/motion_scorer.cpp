#include "models/moclip/motion_scorer.h"

namespace mc::moclip {

MotionScorer::MotionScorer(std::shared_ptr<TextEncoder> text, std::unique_ptr<MotionEncoder> motion,
                           motion::Normalisation normalisation)
    : text_(std::move(text)), motion_(std::move(motion)), normalisation_(std::move(normalisation)) {
    const MotionEncoderConfig& config = motion_->config();
    if (config.output_dim != text_->width())
        throw Error("[moclip] the motion tower embeds in " + std::to_string(config.output_dim) +
                    " numbers, the text tower in " + std::to_string(text_->width()) +
                    "; they are not of one MoCLIP");
    const int64_t joints = (normalisation_.dims() + 1) / 12,
                  wanted = joints_of(config.part_joints());
    if (joints != wanted)
        throw Error("[moclip] the motion tower's part table " + config.part_table + " is of " +
                    std::to_string(wanted) + " joints, the motions have " + std::to_string(joints));
}

void MotionScorer::to(DeviceType device) {
    text_->to(device);
    motion_->to(device);
}

Tensor MotionScorer::embedding(const motion::FeatureSequence& motion) const {
    const int64_t frames = motion.frames, joints = (motion.dims + 1) / 12;
    std::vector<float> rows(motion.rows.size());
    normalisation_.normalise(motion.rows.data(), rows.data(), frames);
    Tensor positions = Tensor::zeros({1, frames, joints, 3});
    joints_for_encoder(motion_->config().input_space, normalisation_, rows.data(), frames, frames,
                       positions.data<float>());
    return l2_normalize((*motion_)(positions, {frames}, {})).value().cpu();
}

std::vector<double> MotionScorer::operator()(const std::vector<std::string>& prompts,
                                             const std::vector<motion::FeatureSequence>& motions) {
    if (prompts.size() != motions.size())
        throw Error("[moclip] " + std::to_string(motions.size()) + " motions for " +
                    std::to_string(prompts.size()) + " prompts");
    Tape::Pause no_tape;
    const Tensor words = l2_normalize(Var(text_->encode(prompts))).value().cpu();  // (B, E)
    std::vector<double> scores;
    const int64_t width = words.size(1);
    for (size_t i = 0; i < motions.size(); ++i) {
        const Tensor seen = embedding(motions[i]);
        const float* a = words.data<float>() + static_cast<int64_t>(i) * width;
        const float* b = seen.data<float>();
        double dot = 0;
        for (int64_t e = 0; e < width; ++e)
            dot += static_cast<double>(a[e]) * static_cast<double>(b[e]);
        scores.push_back(dot);
    }
    return scores;
}

}  // namespace mc::moclip
