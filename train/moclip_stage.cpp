#include "train/moclip_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/config_json.h"
#include "motion/skeleton.h"
#include "tensor/finite.h"
#include "train/schedule.h"

namespace mc::train {
namespace {

moclip::MoClipConfig model_config(const MoClipStageOptions& options, const clip::TextConfig& text,
                                  int64_t columns) {
    moclip::MoClipConfig config{text, options.motion, options.matrix_scale};
    const int64_t joints = motion::skeleton_for_dims(columns).joints;
    std::string& table = config.motion.part_table;
    if (table != "custom")
        table = moclip::table_for_joints(table, joints);
    else if (const int64_t of = moclip::joints_of(config.motion.parts); of != joints)
        throw Error(
            fmt::format("motion.parts are of {} joints, the data's skeleton has {}: joint 21 {}",
                        of, joints, of < joints ? "is in none of them" : "is not there"));
    config.motion.output_dim = text.embed_dim;
    return config;
}

constexpr int64_t kUnit = 4;  // crops are multiples of so many frames

// Mean and standard deviation of the joints' x, y and z as the tower takes them, over the longest
// crop from the start of each clip. An axis that nothing moves along has 1.
motion::Normalisation axes_of(const MotionData& data, moclip::InputSpace space) {
    int64_t count = 0;
    double mean[3] = {}, squares[3] = {};
    std::vector<float> rows, joints;
    for (size_t i = 0; i < data.samples().size(); ++i) {
        const int64_t frames = moclip_crop(data.samples()[i].frames, 0, false).frames;
        rows.resize(static_cast<size_t>(frames * data.dims()));
        joints.resize(static_cast<size_t>(frames * (data.dims() + 1) / 12 * 3));
        data.normalised(i, 0, frames, rows.data());
        moclip::joints_for_encoder(space, data.normalisation(), rows.data(), frames, frames,
                                   joints.data());
        for (size_t j = 0; j < joints.size(); j += 3) {  // Welford's method
            ++count;
            for (size_t c = 0; c < 3; ++c) {
                const double x = static_cast<double>(joints[j + c]), step = x - mean[c];
                mean[c] += step / static_cast<double>(count);
                squares[c] += step * (x - mean[c]);
            }
        }
    }
    motion::Normalisation axes;
    for (size_t c = 0; c < 3; ++c) {
        const double std = std::sqrt(squares[c] / static_cast<double>(std::max<int64_t>(1, count)));
        axes.mean.push_back(mean[c]);
        axes.std.push_back(std > 0 ? std : 1);
    }
    return axes;
}

// A text has another motion to choose.
void check_retrievable(const MotionData& data) {
    if (data.samples().size() < 2)
        throw Error("[moclip] retrieval needs at least 2 motions in the " + data.split() +
                    " split, there are " + std::to_string(data.samples().size()));
}

template <class T>
std::vector<T> part_of(const std::vector<T>& all, const Share& share) {
    return {all.begin() + share.begin, all.begin() + share.end};
}

}  // namespace

motion::Crop moclip_crop(int64_t length, float u, bool double_units) {
    constexpr int64_t kMaxFrames = 196;
    const auto [coin, rest] = double_units ? toss(u) : CoinAndRest{0, static_cast<double>(u)};
    motion::Crop crop = motion::training_crop(length, coin, 0, kUnit, kMaxFrames);
    const int64_t places = length - crop.frames + 1;
    crop.start = std::min(places - 1, static_cast<int64_t>(rest * static_cast<double>(places)));
    return crop;
}

std::map<std::string, Var> moclip_objective(const MoClipStageOptions& options,
                                            const moclip::MoClip& student, const Var& zm,
                                            const Var& zs, const Tensor& zt) {
    std::map<std::string, Var> terms{{"contrastive", student.similarity_loss(zm, zs)}};
    Var total = terms.at("contrastive");
    if (options.align) {
        const Var alignment = terms["alignment"] = moclip::alignment_loss(zm, zs);
        total = total + alignment;
    }
    if (zt.defined()) {
        const Var distill = terms["distill"] = moclip::distill_loss(zs, zt, options.reduction);
        total = total + scale(distill, options.lambda);
    }
    terms["loss"] = total;
    return terms;
}

MoClipStage::MoClipStage(const MoClipStageOptions& options, const std::string& text_weights,
                         const std::string& vocabulary)
    : options_(options),
      train_(with_split(options.data, "train")),
      held_out_(with_split(options.data, "val")),
      captions_(options.lexicon, options.reword_share),
      tokenizer_(clip::Tokenizer::from_file(vocabulary)),
      tower_(clip::read_text_tower(text_weights)),
      init_(options.seed, kInitStream),
      twins_(train_.mirror_twins()),
      student_(model_config(options, tower_.config, train_.dims()), &init_),
      teacher_(tower_.config, nullptr),
      switch_step_(static_cast<int64_t>(
          std::llround(options.frozen_share * static_cast<double>(options.steps)))) {
    if (tokenizer_.vocab_size() != tower_.config.vocab)
        throw Error(vocabulary + ": has " + std::to_string(tokenizer_.vocab_size()) + " ids, " +
                    text_weights + " embeds " + std::to_string(tower_.config.vocab) +
                    "; name the vocabulary it was trained with");
    check_positions();
    if (options.motion.standardise)
        student_.motion.set_joint_statistics(axes_of(train_, options.motion.input_space));
    check_retrievable(held_out_);
    student_.text.load(tower_.state, {{}, text_weights});
    // A whole CLIP brings its similarity's scale along.
    if (tower_.logit_scale) student_.set_scale(*tower_.logit_scale);
    teacher_.load(tower_.state, {{}, text_weights});
    teacher_.set_requires_grad(false);
    student_.text.set_requires_grad(false);
    student_.logit_scale.set_requires_grad(false);
    if (student_.logit_matrix.defined()) student_.logit_matrix.set_requires_grad(false);
    student_.to(options.device);
    teacher_.to(options.device);
}

void MoClipStage::check_positions() const {
    const moclip::MotionEncoderConfig& m = student_.motion.config();
    if (m.position_kind != moclip::PositionKind::learned) return;
    // Along the batch: retrieval() takes up to 64 motions at once.
    const bool along_time = m.position_axis == moclip::PositionAxis::time;
    int64_t most = along_time ? options_.padded_frames : std::max<int64_t>(64, options_.batch);
    if (along_time)
        for (const MotionData* data : {&train_, &held_out_})
            for (const auto& sample : data->samples())
                most = std::max(most, moclip_crop(sample.frames, 0, false).frames);
    if (m.position_rows < most)
        throw Error(
            fmt::format("motion.pe_rows={}: {}; set motion.pe_rows={} or more", m.position_rows,
                        along_time ? fmt::format("a motion has up to {} frames", most)
                                   : fmt::format("up to {} motions are embedded at once", most),
                        most));
}

void MoClipStage::prepare(int64_t step, AdamW& optimizer) {
    if (step < switch_step_) {
        optimizer.set("", 1, options_.weight_decay_1);
        return;
    }
    if (!released_) {
        if (!frozen_recall_ && ranks().first()) frozen_recall_ = retrieval("test");
        frozen_text_.clear();
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

Tensor MoClipStage::frozen_text(const std::vector<std::string>& captions, const Tensor& ids) {
    if (options_.device != DeviceType::cpu) return teacher_(ids).value();
    const int64_t width = tower_.config.embed_dim;
    const Tensor out = Tensor::empty({static_cast<int64_t>(captions.size()), width});
    for (size_t i = 0; i < captions.size(); ++i) {
        auto [found, fresh] = frozen_text_.try_emplace(captions[i]);
        if (fresh) found->second = teacher_(tokenized({captions[i]})).value().to_vector<float>();
        std::copy(found->second.begin(), found->second.end(),
                  out.data<float>() + static_cast<int64_t>(i) * width);
    }
    return out;
}

MoClipStage::Batch MoClipStage::assemble(const MotionData& data,
                                         const std::vector<DrawnClip>& clips,
                                         const std::vector<std::string>& captions,
                                         bool double_units) const {
    const int64_t batch = static_cast<int64_t>(clips.size()), joints = (data.dims() + 1) / 12;
    Batch out;
    int64_t longest = options_.padded_frames;
    std::vector<motion::Crop> crops;
    for (const DrawnClip& clip : clips) {
        crops.push_back(moclip_crop(data.samples()[clip.sample].frames, clip.u, double_units));
        out.lengths.push_back(crops.back().frames);
        longest = std::max(longest, crops.back().frames);
    }
    out.joints = Tensor::empty({batch, longest, joints, 3});
    std::vector<float> rows;
    for (int64_t b = 0; b < batch; ++b) {
        const DrawnClip& clip = clips[static_cast<size_t>(b)];
        const auto [start, frames] = crops[static_cast<size_t>(b)];
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
    const std::vector<DrawnClip> drawn = draw_batch(train_, options_.batch, options_.seed, step);
    const auto [clips, all_captions] =
        options_.mirror_pairs ? with_mirror_pairs(train_, twins_, captions_, drawn, generator)
                              : with_captions(train_, captions_, drawn, generator);
    const Share share = ranks().share(static_cast<int64_t>(clips.size()));
    if (share.total < ranks().size())
        throw Error("[moclip] a batch of " + std::to_string(share.total) + " motions for " +
                    std::to_string(ranks().size()) + " processes; set a larger batch");
    const std::vector<std::string> captions = part_of(all_captions, share);
    const Batch batch = assemble(train_, part_of(clips, share), captions, options_.double_units);
    Generator own = ranks().own(generator);
    const bool dropout = !options_.compat_eval_leak || step / epoch_steps() % 5 != 0;
    Tape tape;
    Tape::Recording recording(tape);
    // Each motion has the texts of the whole batch for negatives: every rank goes on with all
    // ranks' embeddings to the loss of one process.
    const auto of_all = [&](const Var& z) { return all_gather(l2_normalize(z), share, ranks()); };
    const Var zm = of_all(student_.motion(batch.joints, batch.lengths, {dropout, &own}));
    const Var zs = of_all(step < switch_step_ ? Var(frozen_text(captions, batch.ids))
                                              : student_.text(batch.ids));
    const bool tethered = options_.tether && step >= switch_step_;
    const std::map<std::string, Var> terms = moclip_objective(
        options_, student_, zm, zs, tethered ? of_all(teacher_(batch.ids)).value() : Tensor());
    tape.backward(terms.at("loss"));
    Metrics metrics;  // read when all the step's work is on its way to the device
    for (const auto& [name, term] : terms) metrics[name] = term.value().item<float>();
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
    std::optional<MotionData> read;
    if (split != "val") read.emplace(with_split(options_.data, split));
    const MotionData& data = read ? *read : held_out_;
    const int64_t count = static_cast<int64_t>(data.samples().size());
    check_retrievable(data);
    const int64_t pool = std::min<int64_t>(32, count);
    // Without a mask a motion's embedding depends on those beside it; a GPU is slow at one by one.
    const bool alone = options_.device == DeviceType::cpu || !options_.motion.key_padding_mask;
    const int64_t together = alone ? 1 : 64;
    std::vector<Var> motions, texts;
    for (int64_t begin = 0; begin < count; begin += together) {
        std::vector<DrawnClip> clips;
        std::vector<std::string> captions;
        for (int64_t i = begin; i < std::min(count, begin + together); ++i) {
            clips.push_back({static_cast<size_t>(i), 0});
            captions.push_back(data.samples()[clips.back().sample].captions.front().text);
        }
        const Batch batch = assemble(data, clips, captions);
        motions.push_back(l2_normalize(student_.motion(batch.joints, batch.lengths, {})));
        texts.push_back(l2_normalize(student_.text(batch.ids)));
    }
    const Tensor score =
        matmul(concat(texts, 0), concat(motions, 0), false, true).value().cpu();  // (text, motion)
    check_finite("[moclip] cosines of texts and motions", score);
    Recall recall;
    recall.pool = pool;
    double asked = 0;
    Generator shuffle(17);
    for (int64_t r = 0; r < repeats; ++r) {
        const std::vector<int64_t> order = shuffle.permutation(count);
        for (int64_t begin = 0; begin + pool <= count; begin += pool)
            for (int64_t i = 0; i < pool; ++i) {
                const float* row = score.data<float>() + order[begin + i] * count;
                int64_t better = 0;
                // Of equals the first in the pool's order, so that embeddings which are all the
                // same find what chance finds.
                for (int64_t j = 0; j < pool; ++j) {
                    const float other = row[order[begin + j]], own = row[order[begin + i]];
                    better += other > own || (other == own && j < i);
                }
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
    auto mean_norm = [&](const clip::TextTransformer& text) {
        constexpr size_t kTogether = 64;
        double total = 0;
        for (size_t begin = 0; begin < captions.size(); begin += kTogether) {
            const size_t end = std::min(captions.size(), begin + kTogether);
            const Var z = text(tokenized({captions.begin() + static_cast<std::ptrdiff_t>(begin),
                                          captions.begin() + static_cast<std::ptrdiff_t>(end)}));
            total += static_cast<double>(sum(sqrt(sum(square(z), 1, false))).value().item<float>());
        }
        return total / static_cast<double>(captions.size());
    };
    return {mean_norm(teacher_), mean_norm(student_.text)};
}

NamedTensors MoClipStage::extra_state() {
    if (!frozen_recall_) return {};
    const Tensor recall = Tensor::empty({4}, DType::f64);
    const Recall& r = *frozen_recall_;
    const double values[] = {r.at1, r.at2, r.at3, static_cast<double>(r.pool)};
    std::copy(std::begin(values), std::end(values), recall.data<double>());
    return {{"frozen_recall", recall}};
}

void MoClipStage::load_extra(const NamedTensors& state) {
    for (const auto& [name, tensor] : state) {
        if (name != "frozen_recall" || tensor.numel() != 4 || tensor.dtype() != DType::f64)
            continue;
        const auto v = tensor.to_vector<double>();
        frozen_recall_ = Recall{v[0], v[1], v[2], static_cast<int64_t>(v[3])};
    }
}

namespace {

NamedTensors named(const nn::TensorMap& state) {
    return NamedTensors(state.begin(), state.end());
}

}  // namespace

StringMap MoClipStage::metadata() const {
    std::filesystem::path data = std::filesystem::path(options_.data.root).lexically_normal();
    if (!data.has_filename()) data = data.parent_path();  // "data/x/" is x
    const moclip::MotionEncoderConfig& m = student_.motion.config();
    return {{"format", "moclip"},
            {"mode", options_.mode},
            {"dataset", data.filename().string()},
            {"parts", m.part_table},
            {"pe_axis", moclip::name_of(m.position_axis)},
            {"pe_kind", moclip::name_of(m.position_kind)},
            {"pooling", moclip::name_of(m.pooling)},
            {"input_space", moclip::name_of(m.input_space)},
            {"limb_edges", m.limb_attention ? m.limb_edges : "none"},
            {"lambda", fmt::format("{}", options_.tether ? options_.lambda : 0.0)},
            {"steps", std::to_string(options_.steps)},
            {"licence", "MIT"},
            {"provenance", "text tower fine-tuned by moclip_train on captioned motion capture"}};
}

void MoClipStage::write_text_encoder(const std::filesystem::path& path) {
    StringMap about = metadata();
    about["heads"] = std::to_string(tower_.config.heads);
    write_safetensors(path, named(student_.text.state()), about);
}

void MoClipStage::write_model(const std::filesystem::path& path) {
    StringMap about = metadata();
    about["heads"] = std::to_string(tower_.config.heads);
    about["motion_config"] = to_json(student_.motion.config()).dump();
    write_safetensors(path, named(student_.state()), about);
}

namespace {

using Json = nlohmann::json;

// The group `motion` of a preset: sizes and body parts; how the tower works is the mode's.
Json motion_json(const moclip::MotionEncoderConfig& c) {
    Json json = to_json(c);
    json.erase("output_dim");  // the text tower's
    for (const char* key : {"parts", "edges", "input_space", "standardise", "limb_attention",
                            "pe_axis", "pe_kind", "pe_rows", "key_padding_mask", "pooling"})
        json[key] = nullptr;
    return json;
}

}  // namespace

const std::vector<Preset>& moclip_presets() {
    static const std::vector<Preset> presets = [] {
        const Json common = {{"compat_eval_leak", nullptr},
                             {"mode", "paper"},
                             {"frozen_share", 0.7},
                             {"lambda", 0.4},
                             {"naive", false},
                             {"min_frames", 12},
                             {"balance", 0.5},
                             {"feat_bias_power", 2},
                             {"reword_share", 0.5},
                             {"mirror_pairs", true},
                             {"beta1", 0.9},
                             {"beta2", 0.999},
                             {"clip_norm", 1.0},
                             {"seed", 3407},
                             {"weight_decay_1", 1e-4},
                             {"weight_decay_2", 1e-2},
                             {"log_every", 20}};
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
                     {"mirror_pairs", false},
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
    o.mode = mode;
    if (mode == "paper") {
        o.motion = moclip::MotionEncoderConfig::paper();
        o.reduction = moclip::DistillReduction::sample_sum;
        o.matrix_scale = true;
    } else if (mode == "reference") {
        o.motion = moclip::MotionEncoderConfig::reference();
        o.reduction = moclip::DistillReduction::element_mean;
        o.padded_frames = 196;
        o.double_units = true;
        o.data.cut_captions = true;
    } else {
        throw Error("mode is " + mode + ", want paper or reference");
    }
    if (const std::string schedule = config.at("schedule"); schedule != "cosine")
        throw Error("schedule is " + schedule + ", want cosine, which each phase has of its own");
    if (config.at("naive")
            .get<bool>()) {  // contrastive alone, no positions, no limbs (moclip.md 10)
        o.tether = o.align = false;
        o.motion.position_axis = moclip::PositionAxis::none;
        o.motion.limb_attention = false;
    }
    if (const Json& leak = config.at("compat_eval_leak"); !leak.is_null()) {
        if (!leak.is_boolean())
            throw Error("compat_eval_leak is " + leak.dump() + ", want true or false");
        o.compat_eval_leak = leak;
        if (leak && mode != "reference")
            throw Error("compat_eval_leak=true is of the published code; set mode=reference too");
    }
    Json motion = to_json(o.motion);
    motion.update(without_nulls(config.at("motion")));
    o.motion = motion_encoder_config(motion, "the group motion");
    o.batch = config.at("batch");
    o.steps = config.at("steps");
    o.frozen_share = config.at("frozen_share");
    o.lambda = config.at("lambda");
    o.lr = config.at("lr");
    o.motion_lr_2 = config.at("motion_lr_2");
    o.text_lr_2 = config.at("text_lr_2");
    if (!std::isfinite(o.motion_lr_2 / o.lr) || !std::isfinite(o.text_lr_2 / o.lr))
        throw Error("lr=" + config.at("lr").dump() +
                    ": want more than 0; the second phase's rates are in proportion to it");
    o.weight_decay_1 = config.at("weight_decay_1");
    o.weight_decay_2 = config.at("weight_decay_2");
    o.data.root = data;
    o.data.min_frames = config.at("min_frames");
    if (o.data.min_frames < kUnit)
        throw Error("min_frames=" + std::to_string(o.data.min_frames) + ": want " +
                    std::to_string(kUnit) + " or more, the frames that crops are multiples of");
    o.data.balance = config.at("balance");
    o.data.feat_bias_power = config.at("feat_bias_power");
    o.reword_share = config.at("reword_share");
    o.mirror_pairs = config.at("mirror_pairs");
    o.seed = config.at("seed");
    return o;
}

}  // namespace mc::train
