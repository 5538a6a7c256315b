#include "models/momask/generator.h"

#include <algorithm>

#include "models/motion_edit.h"

namespace mc::momask {
namespace {

constexpr double kEditResidualGuidance = 2;  // generators.md 3.7

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

int64_t MoMaskGenerator::tokens_of(const GenerationRequest& request, const Tensor& cond,
                                   UniformSource& draws) {
    const Tensor length_draw = draws.uniform("length", {1});
    if (request.edit) return request.edit->source.frames / unit();
    if (request.frames) {
        const int64_t tokens = *request.frames / unit();
        if (tokens < 1 || tokens > kMaxTokens)
            throw Error("[momask] " + std::to_string(*request.frames) + " frames, want " +
                        std::to_string(unit()) + " to " + std::to_string(max_frames()));
        return tokens;
    }
    if (!parts_.length) throw Error("[momask] this model has no length estimator; name a length");
    return std::min(kMaxTokens, parts_.length->sample(cond, length_draw)[0]);
}

Tensor MoMaskGenerator::kept_ids(const MotionEdit& edit) const {
    check_edit(edit, unit(), kMaxTokens);
    if (edit.source.dims != parts_.normalisation.dims())
        throw Error("[momask] the motion has " + std::to_string(edit.source.dims) +
                    " features a frame, this model " + std::to_string(parts_.normalisation.dims()));
    const std::vector<bool> edited = edited_tokens(edit, unit());
    const int64_t n = static_cast<int64_t>(edited.size()), frames = n * unit();
    Tensor motion = Tensor::empty({1, frames, edit.source.dims});
    parts_.normalisation.normalise(edit.source.rows.data(), motion.data<float>(), frames);
    Tensor ids = parts_.tokenizer->encode(motion);  // (1, n, Q)
    const int64_t layers = ids.size(2);
    for (int64_t i = 0; i < n; ++i)
        if (edited[static_cast<size_t>(i)])
            std::fill_n(ids.data<int64_t>() + i * layers, layers, int64_t{-1});
    return ids;
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
        const std::optional<MotionEdit>& edit = requests[i].edit;
        Generator generator(options.seed, static_cast<uint64_t>(i) << 32);
        GeneratorSource draws(generator);
        const Tensor cond =
            text.slice(0, static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).contiguous();
        Tensor kept, kept_base;
        GenerationOptions how = options;
        if (edit) {
            kept = kept_ids(*edit);
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
        const Tensor features = parts_.tokenizer->decode(ids);  // (1, 4n, D)
        motion::FeatureSequence out;
        out.frames = features.size(1);
        out.dims = features.size(2);
        out.fps = parts_.fps;
        out.rows.resize(static_cast<size_t>(out.frames * out.dims));
        parts_.normalisation.denormalise(features.data<float>(), out.rows.data(), out.frames);
        motions.push_back(edit ? splice(*edit, out) : std::move(out));
        clock.add("decode");
    }
    return motions;
}

}  // namespace mc::momask
