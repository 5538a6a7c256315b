#include "train/moclip_stage.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "train/schedule.h"

namespace mc::train {
namespace {

MotionDataOptions split_of(MotionDataOptions options, const std::string& split) {
    options.split = split;
    return options;
}

moclip::MoClipConfig model_config(const MoClipStageOptions& options, const clip::TextConfig& text) {
    moclip::MoClipConfig config{text, options.motion, options.matrix_scale};
    config.motion.output_dim = text.embed_dim;
    return config;
}

}  // namespace

MoClipStage::MoClipStage(const MoClipStageOptions& options, const std::string& text_weights,
                         const std::string& vocabulary)
    : options_(options),
      train_(split_of(options.data, "train")),
      held_out_(split_of(options.data, "val")),
      captions_(options.lexicon, options.reword_share),
      tokenizer_(clip::Tokenizer::from_file(vocabulary)),
      tower_(clip::read_text_tower(text_weights)),
      init_(options.seed, kInitStream),
      student_(model_config(options, tower_.config), &init_),
      teacher_(tower_.config, nullptr),
      switch_step_(static_cast<int64_t>(
          std::llround(options.frozen_share * static_cast<double>(options.steps)))) {
    if (tokenizer_.vocab_size() != tower_.config.vocab)
        throw Error(vocabulary + ": has " + std::to_string(tokenizer_.vocab_size()) + " ids, " +
                    text_weights + " embeds " + std::to_string(tower_.config.vocab) +
                    "; name the vocabulary it was trained with");
    student_.text.load(tower_.state, {{}, text_weights});
    teacher_.load(tower_.state, {{}, text_weights});
    teacher_.set_requires_grad(false);
    student_.text.set_requires_grad(false);
    student_.logit_scale.set_requires_grad(false);
    if (student_.logit_matrix.defined()) student_.logit_matrix.set_requires_grad(false);
}

void MoClipStage::prepare(int64_t step, AdamW& optimizer) {
    if (step < switch_step_) {
        optimizer.set("", 1, options_.weight_decay_1);
        return;
    }
    if (!released_) {
        student_.set_requires_grad(true);
        if (!options_.train_scale) {
            student_.logit_scale.set_requires_grad(false);
            if (student_.logit_matrix.defined()) student_.logit_matrix.set_requires_grad(false);
        }
        released_ = true;
    }
    if (step == switch_step_) optimizer.reset_moments();  // the reference makes a new optimiser
    optimizer.set("", options_.text_lr_2 / options_.lr, options_.weight_decay_2);
    optimizer.set("motion.", options_.motion_lr_2 / options_.lr, options_.weight_decay_2);
    optimizer.set("logit_matrix", options_.motion_lr_2 / options_.lr, 0);
}

Tensor MoClipStage::tokenized(const std::vector<std::string>& captions) const {
    std::vector<std::vector<int32_t>> rows;
    for (const std::string& caption : captions)
        rows.push_back(clip::framed_ids(tokenizer_, caption, tower_.config.context));
    std::vector<const std::vector<int32_t>*> pointers;
    for (const auto& row : rows) pointers.push_back(&row);
    return clip::padded_ids(pointers);
}

MoClipStage::Batch MoClipStage::assemble(const MotionData& data,
                                         const std::vector<DrawnClip>& clips,
                                         const std::vector<std::string>& captions) const {
    constexpr int64_t kUnit = 4, kMaxFrames = 196;
    const int64_t batch = static_cast<int64_t>(clips.size()), joints = (data.dims() + 1) / 12;
    Batch out;
    int64_t longest = options_.padded_frames;
    for (const DrawnClip& clip : clips) {
        const int64_t frames =
            std::min(kMaxFrames, data.samples()[clip.sample].frames / kUnit * kUnit);
        out.lengths.push_back(frames);
        longest = std::max(longest, frames);
    }
    out.joints = Tensor::empty({batch, longest, joints, 3});
    std::vector<float> rows;
    for (int64_t b = 0; b < batch; ++b) {
        const DrawnClip& clip = clips[static_cast<size_t>(b)];
        const int64_t frames = out.lengths[static_cast<size_t>(b)];
        const int64_t places = data.samples()[clip.sample].frames - frames + 1;
        const int64_t start =
            std::min(places - 1, static_cast<int64_t>(clip.u * static_cast<float>(places)));
        rows.resize(static_cast<size_t>(frames * data.dims()));
        data.normalised(clip.sample, start, frames, rows.data());
        moclip::joints_for_encoder(options_.motion.input_space, data.normalisation(), rows.data(),
                                   frames, longest,
                                   out.joints.data<float>() + b * longest * joints * 3);
    }
    out.ids = tokenized(captions);
    return out;
}

Metrics MoClipStage::step(int64_t step, Generator& generator) {
    const std::vector<DrawnClip> clips = draw_batch(train_, options_.batch, options_.seed, step);
    std::vector<std::string> captions;
    for (const DrawnClip& clip : clips)
        captions.push_back(captions_.draw(train_.samples()[clip.sample], generator));
    const Batch batch = assemble(train_, clips, captions);
    Tape tape;
    Tape::Recording recording(tape);
    const Var zm = l2_normalize(student_.motion(batch.joints, batch.lengths, {true, &generator}));
    const Var zs = l2_normalize(student_.text(batch.ids));
    const Var contrastive = student_.similarity_loss(zm, zs);
    Var total = contrastive;
    Metrics metrics{{"contrastive", contrastive.value().item<float>()}};
    if (options_.align) {
        const Var alignment = moclip::alignment_loss(zm, zs);
        metrics["alignment"] = alignment.value().item<float>();
        total = total + alignment;
    }
    if (options_.tether && step >= switch_step_) {
        const Tensor zt = l2_normalize(teacher_(batch.ids)).value();
        const Var distill = moclip::distill_loss(zs, zt, options_.reduction);
        metrics["distill"] = distill.value().item<float>();
        total = total + scale(distill, options_.lambda);
    }
    metrics["loss"] = total.value().item<float>();
    tape.backward(total);
    return metrics;
}

Metrics MoClipStage::validate() {
    std::vector<DrawnClip> clips;
    for (size_t i = 0; i < held_out_.samples().size(); ++i) clips.push_back({i, 0});
    std::stable_sort(clips.begin(), clips.end(), [&](const DrawnClip& a, const DrawnClip& b) {
        return held_out_.samples()[a.sample].frames < held_out_.samples()[b.sample].frames;
    });
    double loss = 0, cosine = 0, counted = 0;
    for (size_t begin = 0; begin < clips.size(); begin += 32) {
        const std::vector<DrawnClip> part(
            clips.begin() + static_cast<std::ptrdiff_t>(begin),
            clips.begin() + static_cast<std::ptrdiff_t>(std::min(clips.size(), begin + 32)));
        std::vector<std::string> captions;
        for (const DrawnClip& clip : part)
            captions.push_back(held_out_.samples()[clip.sample].captions.front().text);
        const Batch batch = assemble(held_out_, part, captions);
        const Var zm = l2_normalize(student_.motion(batch.joints, batch.lengths, {}));
        const Var zs = l2_normalize(student_.text(batch.ids));
        const double n = static_cast<double>(part.size());
        loss += n * static_cast<double>(student_.similarity_loss(zm, zs).value().item<float>());
        cosine +=
            n * (1 - static_cast<double>(moclip::alignment_loss(zm, zs).value().item<float>()));
        counted += n;
    }
    const Recall recall = retrieval("val", 5);
    return {{"contrastive", loss / counted},
            {"cosine", cosine / counted},
            {"recall_at_1", recall.at1},
            {"recall_at_3", recall.at3},
            {"score", loss / counted}};
}

MoClipStage::Recall MoClipStage::retrieval(const std::string& split, int64_t repeats) const {
    constexpr int64_t kPool = 32;
    const MotionData data(split_of(options_.data, split));
    const int64_t count = static_cast<int64_t>(data.samples().size());
    if (count < kPool)
        throw Error("[moclip] retrieval needs at least 32 motions in the " + split +
                    " split, there are " + std::to_string(count));
    std::vector<Var> motions, texts;
    for (int64_t i = 0; i < count; ++i) {
        const auto& sample = data.samples()[static_cast<size_t>(i)];
        const Batch one =
            assemble(data, {{static_cast<size_t>(i), 0}}, {sample.captions.front().text});
        motions.push_back(l2_normalize(student_.motion(one.joints, one.lengths, {})));
        texts.push_back(l2_normalize(student_.text(one.ids)));
    }
    const Tensor score =
        matmul(concat(texts, 0), concat(motions, 0), false, true).value();  // (text, motion)
    Recall recall;
    double asked = 0;
    Generator shuffle(17);
    for (int64_t r = 0; r < repeats; ++r) {
        const std::vector<int64_t> order = shuffle.permutation(count);
        for (int64_t begin = 0; begin + kPool <= count; begin += kPool)
            for (int64_t i = 0; i < kPool; ++i) {
                const float* row = score.data<float>() + order[begin + i] * count;
                int64_t better = 0;
                for (int64_t j = 0; j < kPool; ++j)
                    better += row[order[begin + j]] > row[order[begin + i]];
                recall.at1 += better < 1;
                recall.at2 += better < 2;
                recall.at3 += better < 3;
                asked += 1;
            }
    }
    recall.at1 /= asked;
    recall.at2 /= asked;
    recall.at3 /= asked;
    return recall;
}

std::pair<double, double> MoClipStage::text_norms() const {
    std::vector<std::string> captions;
    for (const auto& sample : held_out_.samples()) captions.push_back(sample.captions.front().text);
    const Tensor ids = tokenized(captions);
    auto mean_norm = [&](const clip::TextTransformer& text) {
        const Var z = text(ids);
        return static_cast<double>(mean(sqrt(sum(square(z), 1, false))).value().item<float>());
    };
    return {mean_norm(teacher_), mean_norm(student_.text)};
}

void MoClipStage::write_text_encoder(const std::filesystem::path& path) const {
    auto& text = const_cast<clip::TextTransformer&>(
        student_.text);  // state() shares storage, changes nothing
    const nn::TensorMap state = text.state();
    write_safetensors(
        path, NamedTensors(state.begin(), state.end()),
        {{"format", "moclip"},
         {"heads", std::to_string(tower_.config.heads)},
         {"lambda", std::to_string(options_.lambda)},
         {"parts", options_.motion.part_table},
         {"licence", "MIT"},
         {"provenance", "text tower fine-tuned by moclip_train on captioned motion capture"}});
}

namespace {

using Json = nlohmann::json;

Json motion_json(const moclip::MotionEncoderConfig& c) {
    return {{"part_table", c.part_table}, {"limb_edges", c.limb_edges}, {"width", c.width},
            {"heads", c.heads},           {"layers", c.layers},         {"part_dim", c.part_dim},
            {"hidden_dim", c.hidden_dim}, {"mlp_ratio", c.mlp_ratio},   {"dropout", c.dropout}};
}

}  // namespace

const std::vector<Preset>& moclip_presets() {
    static const std::vector<Preset> presets = [] {
        const Json common = {{"mode", "paper"},        {"frozen_share", 0.7},    {"lambda", 0.4},
                             {"naive", false},         {"min_frames", 12},       {"balance", 0.5},
                             {"feat_bias_power", 2},   {"reword_share", 0.5},    {"beta1", 0.9},
                             {"beta2", 0.999},         {"clip_norm", 1.0},       {"seed", 3407},
                             {"weight_decay_1", 1e-4}, {"weight_decay_2", 1e-2}, {"log_every", 20}};
        Json small = common;
        small.update({{"motion", motion_json(moclip::MotionEncoderConfig::small())},
                      {"batch", 64},
                      {"steps", 1500},
                      {"lr", 8e-4},
                      {"motion_lr_2", 2e-4},
                      {"text_lr_2", 1e-4},
                      {"validate_every", 150},
                      {"save_every", 100},
                      {"schedule", "cosine"}});
        Json full = common;
        full.update({{"motion", motion_json(moclip::MotionEncoderConfig::reference())},
                     {"batch", 128},
                     {"steps", 9100},
                     {"lr", 1e-4},
                     {"motion_lr_2", 1e-6},
                     {"text_lr_2", 1e-6},
                     {"validate_every", 910},
                     {"save_every", 182},
                     {"min_frames", 40},
                     {"balance", 0.0},
                     {"reword_share", 0.0},
                     {"schedule", "cosine"},
                     {"mode", "reference"}});
        return std::vector<Preset>{
            {"small", "two CPU cores, a few thousand clips, paper mode", small},
            {"humanml3d", "the published code's size and recipe, reference mode", full}};
    }();
    return presets;
}

MoClipStageOptions moclip_stage_options(const Json& config, const std::string& data) {
    MoClipStageOptions o;
    const std::string mode = config.at("mode");
    if (mode == "paper") {
        o.motion = moclip::MotionEncoderConfig::paper();
        o.reduction = moclip::DistillReduction::sample_sum;
        o.matrix_scale = true;
    } else if (mode == "reference") {
        o.motion = moclip::MotionEncoderConfig::reference();
        o.reduction = moclip::DistillReduction::element_mean;
        o.padded_frames = 196;
    } else {
        throw Error("mode is " + mode + ", want paper or reference");
    }
    const Json& m = config.at("motion");
    o.motion.part_table = m.at("part_table");
    o.motion.limb_edges = m.at("limb_edges");
    o.motion.width = m.at("width");
    o.motion.heads = m.at("heads");
    o.motion.layers = m.at("layers");
    o.motion.part_dim = m.at("part_dim");
    o.motion.hidden_dim = m.at("hidden_dim");
    o.motion.mlp_ratio = m.at("mlp_ratio");
    o.motion.dropout = m.at("dropout");
    if (o.motion.width % o.motion.heads != 0)
        throw Error("motion.width " + std::to_string(o.motion.width) +
                    " is no multiple of motion.heads");
    if (config.at("naive")
            .get<bool>()) {  // contrastive alone, no positions, no limbs (moclip.md 10)
        o.tether = o.align = false;
        o.motion.position_axis = moclip::PositionAxis::none;
        o.motion.limb_attention = false;
    }
    o.batch = config.at("batch");
    o.steps = config.at("steps");
    o.frozen_share = config.at("frozen_share");
    o.lambda = config.at("lambda");
    o.lr = config.at("lr");
    o.motion_lr_2 = config.at("motion_lr_2");
    o.text_lr_2 = config.at("text_lr_2");
    o.weight_decay_1 = config.at("weight_decay_1");
    o.weight_decay_2 = config.at("weight_decay_2");
    o.data.root = data;
    o.data.min_frames = config.at("min_frames");
    o.data.balance = config.at("balance");
    o.data.feat_bias_power = config.at("feat_bias_power");
    o.reword_share = config.at("reword_share");
    o.seed = config.at("seed");
    if (o.frozen_share < 0 || o.frozen_share > 1) throw Error("frozen_share must be 0 to 1");
    return o;
}

}  // namespace mc::train
