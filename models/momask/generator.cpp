#include "models/momask/generator.h"

#include <algorithm>

#include "models/generation.h"

namespace mc::momask {

MoMaskGenerator::MoMaskGenerator(Parts parts) : parts_(std::move(parts)) {
    if (!parts_.text || !parts_.tokenizer || !parts_.masked)
        throw Error(
            "[momask] a generator needs a text encoder, a tokenizer and a masked transformer");
    const int64_t codes = parts_.tokenizer->config().quantizer.nb_code;
    check_fit("momask", codes, parts_.masked->config().num_tokens, parts_.text->width(),
              parts_.masked->config().clip_dim, parts_.normalisation.dims(),
              parts_.tokenizer->config().net.dim_pose);
    if (parts_.residual && parts_.residual->config().num_tokens != codes)
        throw Error("[momask] the tokenizer has " + std::to_string(codes) +
                    " codes, the residual transformer another number; they were not trained "
                    "together");
}

std::vector<motion::FeatureSequence> MoMaskGenerator::generate(
    const std::vector<GenerationRequest>& requests, const GenerationOptions& options) {
    Tape::Pause no_tape;
    StageClock clock(seconds_);
    std::vector<std::string> prompts;
    for (const GenerationRequest& request : requests) prompts.push_back(request.prompt);
    const Tensor text = parts_.text->encode(prompts);
    clock.add("text");
    std::vector<motion::FeatureSequence> motions;
    for (size_t i = 0; i < requests.size(); ++i) {
        Generator generator(options.seed, static_cast<uint64_t>(i) << 32);
        GeneratorSource draws(generator);
        const Tensor cond =
            text.slice(0, static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).contiguous();
        const Tensor length_draw = draws.uniform("length", {1});
        int64_t tokens = 0;
        if (requests[i].frames) {
            tokens = tokens_of_frames(*requests[i].frames, unit(), kMaxTokens, "momask");
        } else if (parts_.length) {
            tokens = std::min(kMaxTokens, parts_.length->sample(cond, length_draw)[0]);
        } else {
            throw Error("[momask] this model has no length estimator; name a length");
        }
        clock.add("length");
        Tensor ids = parts_.masked->generate(cond, {tokens}, options, draws);  // (1, n)
        clock.add("tokens");
        if (parts_.residual)
            ids = parts_.residual->generate(ids, cond, {tokens}, options, draws);  // (1, n, Q)
        else
            ids = ids.unsqueeze(2);
        clock.add("residual");
        motions.push_back(motion_of(parts_.tokenizer->decode(ids),  // (1, 4n, D)
                                    parts_.normalisation, parts_.fps));
        clock.add("decode");
    }
    return motions;
}

}  // namespace mc::momask
