#include "models/momask/generator.h"

#include <algorithm>

#include "autograd/inference.h"
#include "models/generation.h"
#include "models/motion_edit.h"

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

void MoMaskGenerator::to(DeviceType device) {
    parts_.text->to(device);
    parts_.tokenizer->to(device);
    parts_.masked->to(device);
    if (parts_.residual) parts_.residual->to(device);
    if (parts_.length) parts_.length->to(device);
}

int64_t MoMaskGenerator::tokens_of(const GenerationRequest& request, const Tensor& cond,
                                   UniformSource& draws) {
    const Tensor length_draw = draws.uniform("length", {1});
    if (request.edit) return request.edit->source.frames / unit();
    if (request.frames) return tokens_of_frames(*request.frames, unit(), kMaxTokens, "momask");
    if (!parts_.length) throw Error("[momask] this model has no length estimator; name a length");
    return std::min(kMaxTokens, parts_.length->sample(cond, length_draw)[0]);
}

std::vector<motion::FeatureSequence> MoMaskGenerator::generate(
    const std::vector<GenerationRequest>& requests, const GenerationOptions& options) {
    const Inference for_text;  // in f32 (GenerationOptions::precision)
    StageClock clock(seconds_);
    std::vector<std::string> prompts;
    for (const GenerationRequest& request : requests) prompts.push_back(request.prompt);
    const Tensor text = parts_.text->encode(prompts);
    clock.add("text");
    const Inference inference(options.precision);
    std::vector<motion::FeatureSequence> motions;
    for (size_t i = 0; i < requests.size(); ++i) {
        const std::optional<MotionEdit>& edit = requests[i].edit;
        Generator generator(options.seed, static_cast<uint64_t>(i) << 32);
        GeneratorSource draws(generator);
        const Tensor cond =
            text.slice(0, static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).contiguous();
        Tensor kept, kept_base;
        GenerationOptions how = options;
        if (edit) {
            kept = kept_ids(*edit, *parts_.tokenizer, parts_.normalisation, kMaxTokens, "momask");
            kept_base = kept.slice(2, 0, 1).squeeze(2).contiguous();
            how.residual_guidance = kEditResidualGuidance;
            clock.add("encode");
        }
        const int64_t tokens = tokens_of(requests[i], cond, draws);
        clock.add("length");
        Tensor ids = parts_.masked->generate(cond, {tokens}, how, draws, kept_base);  // (1, n)
        clock.add("tokens");
        if (parts_.residual)
            ids = parts_.residual->generate(ids, cond, {tokens}, how, draws, kept);  // (1, n, Q)
        else
            ids = ids.unsqueeze(2);
        clock.add("residual");
        const motion::FeatureSequence made = motion_of(parts_.tokenizer->decode(ids),  // (1, 4n, D)
                                                       parts_.normalisation, parts_.fps);
        motions.push_back(edit ? splice(*edit, made) : made);
        clock.add("decode");
    }
    return motions;
}

}  // namespace mc::momask
