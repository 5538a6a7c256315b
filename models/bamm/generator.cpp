#include "models/bamm/generator.h"

#include "autograd/inference.h"
#include "models/generation.h"
#include "models/motion_edit.h"

namespace mc::bamm {

BammGenerator::BammGenerator(Parts parts) : parts_(std::move(parts)) {
    if (!parts_.text || !parts_.tokenizer || !parts_.base)
        throw Error("[bamm] a generator needs a text encoder, a tokenizer and a base transformer");
    const int64_t codes = parts_.tokenizer->config().quantizer.nb_code;
    check_fit("bamm", codes, parts_.base->config().num_tokens, parts_.text->width(),
              parts_.base->config().clip_dim, parts_.normalisation.dims(),
              parts_.tokenizer->config().net.dim_pose);
    if (parts_.residual && parts_.residual->config().num_tokens != codes)
        throw Error("[bamm] the tokenizer has " + std::to_string(codes) +
                    " codes, the residual transformer another number; they were not trained "
                    "together");
}

void BammGenerator::to(DeviceType device) {
    parts_.text->to(device);
    parts_.tokenizer->to(device);
    parts_.base->to(device);
    if (parts_.residual) parts_.residual->to(device);
}

std::vector<motion::FeatureSequence> BammGenerator::generate(
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
        Generator generator(options.seed, static_cast<uint64_t>(i) << 32);
        GeneratorSource draws(generator);
        const int64_t at = static_cast<int64_t>(i);
        const Tensor cond = text.slice(0, at, at + 1).contiguous();
        const std::optional<MotionEdit>& edit = requests[i].edit;
        GenerationOptions how = options;
        Tensor kept, ids;  // (1, n, Q), (1, n)
        if (edit) {
            how.residual_guidance = kEditResidualGuidance;
            kept = kept_ids(*edit, *parts_.tokenizer, parts_.normalisation, kMaxTokens, "bamm");
            clock.add("encode");
            ids = parts_.base->fill(cond, kept.slice(2, 0, 1).squeeze(2), how, draws);
        } else {
            std::vector<int64_t> wanted;
            if (requests[i].frames)
                wanted = {tokens_of_frames(*requests[i].frames, unit(), kMaxTokens, "bamm")};
            const Transformer::Generated base =
                parts_.base->generate(cond, wanted, kMaxTokens, how, draws);
            ids = base.ids.slice(1, 0, base.lengths[0]).contiguous();
        }
        clock.add("tokens");
        ids = parts_.residual
                  ? parts_.residual->generate(ids, cond, {ids.size(1)}, how, draws, kept)
                  : ids.unsqueeze(2);  // (1, n, Q)
        clock.add("residual");
        const motion::FeatureSequence made =
            motion_of(parts_.tokenizer->decode(ids), parts_.normalisation, parts_.fps);
        motions.push_back(edit ? splice(*edit, made) : made);
        clock.add("decode");
    }
    return motions;
}

}  // namespace mc::bamm
