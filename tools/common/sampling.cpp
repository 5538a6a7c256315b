#include "tools/common/sampling.h"

#include "models/bundle.h"
#include "tools/common/cli.h"

namespace mc::tools {

void SamplingChoice::apply_to(GenerationOptions& how) const {
    if (candidates) how.candidates = *candidates;
    if (steps) how.steps = *steps;
    if (guidance) how.guidance = *guidance;
    if (residual_guidance) how.residual_guidance = *residual_guidance;
    if (temperature) how.temperature = *temperature;
    if (top_k) how.top_k = *top_k;
    if (order_agnostic) how.order_agnostic = *order_agnostic;
}

void add_sampling_options(CLI::App& app, SamplingChoice& choice) {
    app.add_option("--candidates", choice.candidates,
                   "motions to make, of which MoCLIP's motion tower keeps the one that fits the "
                   "words best [the bundle's]")
        ->check(whole(1, kMostCandidates));
    app.add_option("--steps", choice.steps, "refinement steps (BAMM has none)")
        ->check(whole(1, kMostSteps));
    app.add_option("--guidance", choice.guidance, "how strictly the text is followed (1: off)")
        ->check(finite(0, kMostGuidance));
    app.add_option("--residual-guidance", choice.residual_guidance, "that of the residual stage")
        ->check(finite(0, kMostGuidance));
    app.add_option("--temperature", choice.temperature, "of sampling; lower is plainer")
        ->check(finite(0, kMostTemperature));
    app.add_option("--top-k", choice.top_k, "share of unlikely tokens never drawn, 0 to 1")
        ->check(finite(0, 1));
    app.add_option("--order-agnostic", choice.order_agnostic,
                   "BAD alone: true makes tokens in a random order (OAAS; its authors' rand_pos "
                   "False is --temperature 0), false the surest first (CBS) [the bundle's; of "
                   "--checkpoints false]");
}

}  // namespace mc::tools
