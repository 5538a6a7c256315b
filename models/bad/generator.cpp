#include "models/bad/generator.h"

#include <algorithm>

#include "autograd/inference.h"
#include "models/generation.h"
#include "models/motion_edit.h"

namespace mc::bad {

BadGenerator::BadGenerator(Parts parts) : parts_(std::move(parts)) {
    if (!parts_.text || !parts_.tokenizer || !parts_.transformer)
        throw Error("[bad] a generator needs a text encoder, a tokenizer and a transformer");
    const Config& config = parts_.transformer->config();
    check_fit("bad", parts_.tokenizer->config().quantizer.nb_code, config.nb_code,
              parts_.text->width(), config.clip_dim, parts_.normalisation.dims(),
              parts_.tokenizer->config().net.dim_pose);
    if (parts_.tokenizer->config().quantizer.num_quantizers != 1)
        throw Error("[bad] the tokenizer has several layers of codes, want one");
    if (parts_.text->word_width() != config.word_dim)
        throw Error("[bad] the text encoder's words are " +
                    std::to_string(parts_.text->word_width()) + " wide, the transformer wants " +
                    std::to_string(config.word_dim));
}

void BadGenerator::to(DeviceType device) {
    parts_.text->to(device);
    parts_.tokenizer->to(device);
    parts_.transformer->to(device);
    if (parts_.length) parts_.length->to(device);
}

std::vector<motion::FeatureSequence> BadGenerator::generate(
    const std::vector<GenerationRequest>& requests, const GenerationOptions& options) {
    const Inference for_text;  // in f32 (GenerationOptions::precision)
    StageClock clock(seconds_);
    std::vector<std::string> prompts;
    for (const GenerationRequest& request : requests) prompts.push_back(request.prompt);
    const Tensor sentences = parts_.text->encode(prompts), words = parts_.text->words(prompts);
    clock.add("text");
    const Inference inference(options.precision);
    std::vector<motion::FeatureSequence> motions;
    for (size_t i = 0; i < requests.size(); ++i) {
        Generator generator(options.seed, static_cast<uint64_t>(i) << 32);
        GeneratorSource draws(generator);
        const int64_t at = static_cast<int64_t>(i);
        const Text text{sentences.slice(0, at, at + 1).contiguous(),
                        words.slice(0, at, at + 1).contiguous()};
        const Tensor length_draw = draws.uniform("length", {1});
        const std::optional<MotionEdit>& edit = requests[i].edit;
        int64_t tokens = 0;
        Tensor kept;  // (1, n)
        if (edit) {
            kept = kept_ids(*edit, *parts_.tokenizer, parts_.normalisation, max_tokens(), "bad")
                       .squeeze(2);
            tokens = kept.size(1);
        } else if (requests[i].frames)
            tokens = tokens_of_frames(*requests[i].frames, unit(), max_tokens(), "bad");
        else if (parts_.length)  // at least one token, where the original may say none
            tokens = std::clamp<int64_t>(parts_.length->sample(text.sentence, length_draw)[0], 1,
                                         max_tokens());
        else
            throw Error("[bad] this model has no length estimator; name a length");
        clock.add("length");
        const Tensor ids = parts_.transformer->generate(text, {tokens}, options, draws, {}, kept);
        clock.add("tokens");
        const Tensor own = ids.slice(1, 0, tokens).contiguous().unsqueeze(2);  // (1, n, 1)
        const motion::FeatureSequence made =
            motion_of(parts_.tokenizer->decode(own), parts_.normalisation, parts_.fps);
        motions.push_back(edit ? splice(*edit, made) : made);
        clock.add("decode");
    }
    return motions;
}

}  // namespace mc::bad
