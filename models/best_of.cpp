#include "models/best_of.h"

#include <cmath>

#include "models/generation.h"

namespace mc {
namespace {

// Seeds that users choose are small and near each other; those of further candidates are far off.
uint64_t candidate_seed(uint64_t seed, int64_t candidate) {
    return seed + static_cast<uint64_t>(candidate) * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
}

}  // namespace

BestOfGenerator::BestOfGenerator(std::unique_ptr<MotionGenerator> generator,
                                 moclip::MotionScorer scorer)
    : generator_(std::move(generator)), scorer_(std::move(scorer)) {}

void BestOfGenerator::to(DeviceType device) {
    generator_->to(device);
    scorer_.to(device);
}

std::vector<motion::FeatureSequence> BestOfGenerator::generate(
    const std::vector<GenerationRequest>& requests, const GenerationOptions& options) {
    if (options.candidates < 1)
        throw Error("[generate] " + std::to_string(options.candidates) +
                    " candidates, want at least 1");
    std::vector<std::string> prompts;
    for (const GenerationRequest& request : requests) prompts.push_back(request.prompt);
    std::vector<motion::FeatureSequence> best;
    std::vector<double> best_scores;
    StageSeconds total, scoring;
    for (int64_t candidate = 0; candidate < options.candidates; ++candidate) {
        GenerationOptions how = options;
        how.seed = candidate_seed(options.seed, candidate);
        std::vector<motion::FeatureSequence> made = generator_->generate(requests, how);
        for (const auto& [stage, spent] : generator_->stage_seconds())
            add_seconds(total, stage, spent);
        StageClock clock(scoring);
        std::vector<double> scores = scorer_(prompts, made);
        clock.add("score");
        add_seconds(total, "score", scoring.front().second);
        if (candidate == 0) {
            best = std::move(made);
            best_scores = std::move(scores);
            continue;
        }
        for (size_t i = 0; i < made.size(); ++i)
            if (scores[i] > best_scores[i] || std::isnan(best_scores[i])) {
                best[i] = std::move(made[i]);
                best_scores[i] = scores[i];
            }
    }
    for (size_t i = 0; i < best.size(); ++i)
        if (std::isnan(best_scores[i]))
            throw Error("[generate] \"" + prompts[i] + "\": the score of each of " +
                        std::to_string(options.candidates) +
                        " candidates is nan, so that none is the best; try another seed or "
                        "--precision fp32");
    scores_ = std::move(best_scores);
    seconds_ = std::move(total);
    return best;
}

}  // namespace mc
