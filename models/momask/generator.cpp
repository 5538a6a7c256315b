#include "models/momask/generator.h"

#include <algorithm>

namespace mc::momask {
namespace {

class StageClock {
  public:
    explicit StageClock(std::vector<std::pair<std::string, double>>& seconds) : seconds_(seconds) {
        seconds_.clear();
    }
    void restart() { begin_ = Clock::now(); }
    void add(const std::string& stage) {
        const double spent = std::chrono::duration<double>(Clock::now() - begin_).count();
        auto found = std::find_if(seconds_.begin(), seconds_.end(),
                                  [&](const auto& s) { return s.first == stage; });
        if (found == seconds_.end())
            seconds_.emplace_back(stage, spent);
        else
            found->second += spent;
        restart();
    }

  private:
    using Clock = std::chrono::steady_clock;
    std::vector<std::pair<std::string, double>>& seconds_;
    Clock::time_point begin_ = Clock::now();
};

}  // namespace

MoMaskGenerator::MoMaskGenerator(Parts parts) : parts_(std::move(parts)) {
    if (!parts_.text || !parts_.tokenizer || !parts_.masked)
        throw Error(
            "[momask] a generator needs a text encoder, a tokenizer and a masked transformer");
    const int64_t codes = parts_.tokenizer->config().quantizer.nb_code;
    if (parts_.masked->config().num_tokens != codes ||
        (parts_.residual && parts_.residual->config().num_tokens != codes))
        throw Error("[momask] the tokenizer has " + std::to_string(codes) +
                    " codes, the transformers another number; they were not trained together");
    if (parts_.masked->config().clip_dim != parts_.text->width())
        throw Error("[momask] the text encoder is " + std::to_string(parts_.text->width()) +
                    " wide, the masked transformer wants " +
                    std::to_string(parts_.masked->config().clip_dim));
    if (parts_.normalisation.dims() != parts_.tokenizer->config().net.dim_pose)
        throw Error("[momask] normalisation of " + std::to_string(parts_.normalisation.dims()) +
                    " columns for features of " +
                    std::to_string(parts_.tokenizer->config().net.dim_pose));
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
            tokens = *requests[i].frames / unit();
            if (tokens < 1 || tokens > kMaxTokens)
                throw Error("[momask] " + std::to_string(*requests[i].frames) + " frames, want " +
                            std::to_string(unit()) + " to " + std::to_string(max_frames()));
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
        const Tensor features = parts_.tokenizer->decode(ids);  // (1, 4n, D)
        motion::FeatureSequence out;
        out.frames = features.size(1);
        out.dims = features.size(2);
        out.fps = parts_.fps;
        out.rows.resize(static_cast<size_t>(out.frames * out.dims));
        parts_.normalisation.denormalise(features.data<float>(), out.rows.data(), out.frames);
        motions.push_back(std::move(out));
        clock.add("decode");
    }
    return motions;
}

}  // namespace mc::momask
