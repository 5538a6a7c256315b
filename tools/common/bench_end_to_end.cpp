#include "tools/common/bench_end_to_end.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "models/bad/generator.h"
#include "models/bamm/generator.h"
#include "models/config_json.h"
#include "models/momask/generator.h"
#include "train/loop.h"
#include "train/moclip_stage.h"
#include "train/presets.h"
#include "train/text_stage.h"

namespace mc {
namespace {

using Json = nlohmann::json;

constexpr int64_t kTokens = momask::MoMaskGenerator::kMaxTokens;  // 196 frames
constexpr int64_t kFrames = 4 * kTokens, kPromptTokens = 10, kTextPlaces = 77;

// A model and its loss on data that stay the same.
template <class Model>
class MadeUpStage : public train::Stage {
  public:
    using Loss = std::function<Var(Model&, const nn::Pass&, UniformSource&)>;
    MadeUpStage(std::unique_ptr<Model> model, Loss loss)
        : model_(std::move(model)), loss_(std::move(loss)) {}
    std::string name() const override { return "made up"; }
    Model& model() override { return *model_; }
    train::Metrics step(int64_t, Generator& generator) override {
        Tape tape;
        Tape::Recording recording(tape);
        GeneratorSource draws(generator);
        const Var loss = loss_(*model_, {true, &generator}, draws);
        tape.backward(loss);
        return {{"loss", loss.value().template item<float>()}};
    }
    train::Metrics validate() override { return {}; }

  private:
    std::unique_ptr<Model> model_;
    Loss loss_;
};

// Steps of a stage as run_loop takes them.
EndToEndCase::Ready training(std::shared_ptr<train::Stage> stage) {
    auto optimizer = std::make_shared<train::AdamW>(train::AdamWOptions{});
    optimizer->add(stage->model().parameters());
    return {[stage, optimizer, step = int64_t{0}]() mutable {
                Generator generator(1, static_cast<uint64_t>(step) << 32);
                stage->step(step++, generator);
                const double norm = optimizer->gradient_norm();
                optimizer->step(1e-4, train::clip_factor(norm, 1));
            },
            nullptr};
}

template <class Model, class Loss>
EndToEndCase::Ready training(std::unique_ptr<Model> model, DeviceType device, Loss loss) {
    model->to(device);
    return training(std::make_shared<MadeUpStage<Model>>(std::move(model), std::move(loss)));
}

Tensor random_ids(Generator& generator, const Shape& shape, int64_t below) {
    const Tensor ids = Tensor::empty(shape, DType::i64);
    for (int64_t i = 0; i < ids.numel(); ++i)
        ids.data<int64_t>()[i] = generator.below(static_cast<uint32_t>(below));
    return ids;
}

// (rows, context): start, kPromptTokens ids, end, zeros.
Tensor prompts(Generator& generator, int64_t rows, const clip::TextConfig& text) {
    const Tensor inner = random_ids(generator, {rows, kPromptTokens}, text.vocab - 2);
    const Tensor ids = Tensor::zeros({rows, text.context}, DType::i64);
    for (int64_t r = 0; r < rows; ++r) {
        int64_t* row = ids.data<int64_t>() + r * text.context;
        *row++ = text.vocab - 2;
        for (int64_t i = 0; i < kPromptTokens; ++i)
            *row++ = inner.data<int64_t>()[r * kPromptTokens + i];
        *row = text.vocab - 1;
    }
    return ids;
}

// 49,408 ids as CLIP's vocabulary has, of merges that are every pair of bytes.
clip::Tokenizer made_up_tokenizer(size_t merges) {
    std::string text = "#version: made up\n";
    for (size_t i = 0; i < merges; ++i)
        text += clip::symbol_of_id(static_cast<int>(i / 256)) + " " +
                clip::symbol_of_id(static_cast<int>(i % 256)) + "\n";
    return clip::Tokenizer::from_memory(text, "made-up vocabulary");
}

// Sentences of five words of two letters, two ids each.
train::TextTeacher made_up_teacher(int64_t sentences) {
    train::TextTeacher teacher;
    teacher.width = 384;  // of all-MiniLM-L6-v2
    Generator generator(3);
    for (int64_t s = 0; s < sentences; ++s) {
        std::string sentence;
        for (int64_t i = 0; i < kPromptTokens / 2; ++i) {
            if (i) sentence += ' ';
            sentence += static_cast<char>('a' + generator.below(26));
            sentence += static_cast<char>('a' + generator.below(26));
        }
        teacher.sentences.push_back(sentence);
        teacher.scales.push_back(1.0f / 1024);
        for (int64_t e = 0; e < teacher.width; ++e)
            teacher.values.push_back(static_cast<int8_t>(generator.below(255)) - 127);
    }
    return teacher;
}

EndToEndCase::Ready vq_step(const train::VqStageOptions& options, DeviceType device) {
    Generator init(1), data(2);
    const Var motion(
        data.normal({options.batch, options.window, options.model.net.dim_pose}, 0, 1).to(device));
    return training(std::make_unique<vq::RvqVae>(options.model, &init), device,
                    [motion](vq::RvqVae& model, const nn::Pass& pass, UniformSource& draws) {
                        return model.loss(model.train(motion, pass, draws), motion);
                    });
}

EndToEndCase::Ready masked_step(const train::TokenStageOptions& o, DeviceType device) {
    Generator init(1), data(2);
    const Tensor ids = random_ids(data, {o.batch, kTokens}, o.model.num_tokens),
                 cond = data.normal({o.batch, o.model.clip_dim}, 0, 1);
    const std::vector<int64_t> lengths(static_cast<size_t>(o.batch), kTokens);
    return training(
        std::make_unique<momask::MaskTransformer>(o.model, &init), device,
        [=](momask::MaskTransformer& model, const nn::Pass& pass, UniformSource& draws) {
            return model.train_step(ids, lengths, cond, pass, draws).loss;
        });
}

// One layer of the masked transformer.
EndToEndCase::Ready layer_step(const train::TokenStageOptions& o, DeviceType device) {
    Generator init(1), data(2);
    const Var x(data.normal({o.batch, kTokens, o.model.latent_dim}, 0, 1).to(device),
                requires_grad);
    return training(std::make_unique<nn::PostNormBlock>(o.model.latent_dim, o.model.heads,
                                                        o.model.ff_size, o.model.dropout, &init),
                    device, [=](nn::PostNormBlock& layer, const nn::Pass& pass, UniformSource&) {
                        x.clear_grad();
                        AttentionOptions options;
                        options.heads = o.model.heads;
                        return mean(square(layer(x, options, pass)));
                    });
}

EndToEndCase::Ready residual_step(const train::TokenStageOptions& o, DeviceType device) {
    Generator init(1), data(2);
    const Tensor ids = random_ids(data, {o.batch, kTokens, o.model.num_quantizers},
                                  o.model.num_tokens),
                 cond = data.normal({o.batch, o.model.clip_dim}, 0, 1);
    const std::vector<int64_t> lengths(static_cast<size_t>(o.batch), kTokens);
    return training(
        std::make_unique<momask::ResidualTransformer>(o.model, &init), device,
        [=](momask::ResidualTransformer& model, const nn::Pass& pass, UniformSource& draws) {
            return model.train_step(ids, lengths, cond, pass, draws).loss;
        });
}

EndToEndCase::Ready bamm_step(const train::BammStageOptions& o, DeviceType device) {
    Generator init(1), data(2);
    const Tensor ids = random_ids(data, {o.batch, kTokens}, o.bamm.num_tokens),
                 cond = data.normal({o.batch, o.bamm.clip_dim}, 0, 1);
    const std::vector<int64_t> lengths(static_cast<size_t>(o.batch), kTokens);
    return training(std::make_unique<bamm::Transformer>(o.bamm, &init), device,
                    [=](bamm::Transformer& model, const nn::Pass& pass, UniformSource& draws) {
                        return model.train_step(ids, lengths, cond, pass, draws).loss;
                    });
}

// Text as BAD sees it: a sentence, and the words of CLIP's 77 places.
bad::Text bad_text(Generator& data, int64_t rows, const bad::Config& config) {
    return {data.normal({rows, config.clip_dim}, 0, 1),
            data.normal({rows, kTextPlaces, config.word_dim}, 0, 1)};
}

EndToEndCase::Ready bad_step(const train::BadStageOptions& o, DeviceType device) {
    Generator init(1), data(2);
    const Tensor ids = random_ids(data, {o.batch, kTokens}, o.bad.nb_code),
                 codebook = data.normal({o.bad.nb_code, o.bad.code_dim}, 0, 1);
    const bad::Text text = bad_text(data, o.batch, o.bad);
    const std::vector<int64_t> lengths(static_cast<size_t>(o.batch), kTokens);
    return training(std::make_unique<bad::Transformer>(o.bad, codebook, &init), device,
                    [=](bad::Transformer& model, const nn::Pass& pass, UniformSource& draws) {
                        return model.train_step(ids, lengths, text, pass, draws).loss;
                    });
}

EndToEndCase::Ready length_step(int64_t batch, int64_t width, DeviceType device) {
    Generator init(1), data(2);
    const Tensor cond = data.normal({batch, width}, 0, 1),
                 labels = random_ids(data, {batch}, train::LengthStage::kClasses);
    return training(
        std::make_unique<momask::LengthEstimator>(width, train::LengthStage::kClasses, &init),
        device, [=](momask::LengthEstimator& model, const nn::Pass& pass, UniformSource&) {
            return cross_entropy(model.logits(cond, pass), labels);
        });
}

// MoCLIP's second phase, whose text tower learns too, tethered to a frozen one.
EndToEndCase::Ready moclip_step(const train::MoClipStageOptions& options,
                                const clip::TextConfig& text, DeviceType device) {
    Generator init(1), data(2);
    moclip::MoClipConfig config{text, options.motion, options.matrix_scale};
    config.motion.output_dim = text.embed_dim;
    const auto teacher = std::make_shared<clip::TextTransformer>(text, &init);
    teacher->set_requires_grad(false);
    teacher->to(device);
    constexpr int64_t kJoints = 22;
    const Tensor joints = data.normal({options.batch, kFrames, kJoints, 3}, 0, 1),
                 ids = prompts(data, options.batch, text);
    const std::vector<int64_t> lengths(static_cast<size_t>(options.batch), kFrames);
    return training(std::make_unique<moclip::MoClip>(config, &init), device,
                    [=](moclip::MoClip& model, const nn::Pass& pass, UniformSource&) {
                        const Var zm = l2_normalize(model.motion(joints, lengths, pass));
                        const Var zs = l2_normalize(model.text(ids));
                        const Tensor zt = l2_normalize((*teacher)(ids)).value();
                        return train::moclip_objective(options, model, zm, zs, zt).at("loss");
                    });
}

// The stage `text` itself: its teacher may be in memory.
EndToEndCase::Ready text_step(const Json& config, int64_t vocab, DeviceType device) {
    const auto teacher = std::make_shared<train::TextTeacher>(
        made_up_teacher(2 * config.at("batch").get<int64_t>()));
    EndToEndCase::Ready ready = training(std::make_shared<train::TextStage>(
        config, *teacher, made_up_tokenizer(static_cast<size_t>(vocab - 514)), device));
    return {[teacher, run = ready.run] { run(); }, nullptr};
}

// Embeddings that cost next to nothing, for generation without its text; another each time, as
// prompts are: what a generator keeps of one prompt does not help the next.
class AnyText : public TextEncoder {
  public:
    explicit AnyText(int64_t width) : width_(width) {}
    void to(DeviceType) override {}
    int64_t width() const override { return width_; }
    Tensor encode(const std::vector<std::string>& prompts) override {
        return draws_.normal({static_cast<int64_t>(prompts.size()), width_}, 0, 1);
    }
    int64_t word_width() const override { return width(); }
    Tensor words(const std::vector<std::string>& prompts) override {
        return draws_.normal({static_cast<int64_t>(prompts.size()), kTextPlaces, width_}, 0, 1);
    }
    const std::vector<std::string>& warnings() const override { return none_; }

  private:
    int64_t width_;
    Generator draws_{5};
    std::vector<std::string> none_;
};

// A motion of kFrames by a generator of `parts`, whose text and normalisation are made up here.
template <class MadeBy, class Parts>
EndToEndCase::Ready generation(Parts parts, int64_t text_width, const vq::RvqConfig& tokenizer,
                               Precision precision, DeviceType device) {
    parts.text = std::make_shared<AnyText>(text_width);
    parts.normalisation.mean.assign(static_cast<size_t>(tokenizer.net.dim_pose), 0);
    parts.normalisation.std.assign(static_cast<size_t>(tokenizer.net.dim_pose), 1);
    const auto generator = std::make_shared<MadeBy>(std::move(parts));
    generator->to(device);
    GenerationOptions options;
    options.precision = precision;
    return {[generator, options] {
                generator->generate({{"", kFrames}}, options);
            },
            [generator] {
                std::string remark;
                for (const auto& [stage, seconds] : generator->stage_seconds())
                    if (stage != "text" && stage != "length")
                        remark += fmt::format("  {} {:.0f} ms", stage, 1e3 * seconds);
                return remark;
            }};
}

EndToEndCase::Ready momask_generation(const vq::RvqConfig& tokenizer,
                                      const momask::TransformerConfig& masked,
                                      const momask::TransformerConfig& residual,
                                      Precision precision, DeviceType device) {
    Generator init(1);
    momask::Parts parts;
    parts.tokenizer = std::make_unique<vq::RvqVae>(tokenizer, &init);
    parts.masked = std::make_unique<momask::MaskTransformer>(masked, &init);
    parts.residual = std::make_unique<momask::ResidualTransformer>(residual, &init);
    return generation<momask::MoMaskGenerator>(std::move(parts), masked.clip_dim, tokenizer,
                                               precision, device);
}

EndToEndCase::Ready bamm_generation(const vq::RvqConfig& tokenizer, const bamm::Config& base,
                                    const momask::TransformerConfig& residual, Precision precision,
                                    DeviceType device) {
    Generator init(1);
    bamm::Parts parts;
    parts.tokenizer = std::make_unique<vq::RvqVae>(tokenizer, &init);
    parts.base = std::make_unique<bamm::Transformer>(base, &init);
    parts.residual = std::make_unique<momask::ResidualTransformer>(residual, &init);
    return generation<bamm::BammGenerator>(std::move(parts), base.clip_dim, tokenizer, precision,
                                           device);
}

EndToEndCase::Ready bad_generation(const vq::RvqConfig& tokenizer, const bad::Config& config,
                                   Precision precision, DeviceType device) {
    Generator init(1);
    bad::Parts parts;
    parts.tokenizer = std::make_unique<vq::RvqVae>(tokenizer, &init);
    parts.transformer =
        std::make_unique<bad::Transformer>(config, parts.tokenizer->quantizer().codebook(), &init);
    return generation<bad::BadGenerator>(std::move(parts), config.clip_dim, tokenizer, precision,
                                         device);
}

EndToEndCase::Ready encoding(const clip::TextConfig& text, int64_t rows, DeviceType device) {
    Generator init(1), data(2);
    const auto model = std::make_shared<clip::TextTransformer>(text, &init);
    model->to(device);
    const Tensor ids = prompts(data, rows, text);
    return {[model, ids] {
                const Tape::Pause no_tape;
                (*model)(ids).value().cpu();
            },
            nullptr};
}

}  // namespace

std::vector<EndToEndCase> end_to_end_cases(const EndToEndSizes& sizes, DeviceType device) {
    const std::string& preset = sizes.preset;
    const bool small = preset == "small";
    const auto settings = [&](const std::vector<train::Preset>& presets, const std::string& name) {
        Json config = train::resolve_config(presets, name);
        if (sizes.batch > 0) config["batch"] = sizes.batch;
        return config;
    };
    const auto vq = train::vq_stage_options(settings(train::vq_presets(), preset), "");
    const auto masked = train::token_stage_options(settings(train::masked_presets(), preset), "");
    auto residual = train::token_stage_options(settings(train::residual_presets(), preset), "");
    residual.model.num_quantizers = vq.model.quantizer.num_quantizers;
    auto bamm = train::bamm_stage_options(settings(train::bamm_presets(), preset), "");
    auto bad = train::bad_stage_options(settings(train::bad_presets(), preset), "");
    if (!small && device == DeviceType::cpu && sizes.batch == 0) {
        bamm.batch = 64;
        bad.batch = 8;
    }
    const auto bad_tokenizer =
        train::vq_stage_options(settings(train::vq_presets(), preset + "-bad"), "");
    const Json text = settings(train::text_presets(), small ? "small" : "clip");
    const auto text_of = [](const Json& config, int64_t vocab) {
        Json model = config.at("model");
        model["vocab"] = vocab;
        return text_config(model, "the text configuration");
    };
    constexpr int64_t kClipVocab = 49408, kSmallVocab = 4096;
    const int64_t vocab = small ? kSmallVocab : kClipVocab;
    const clip::TextConfig tower = text_of(text, vocab);

    std::vector<EndToEndCase> cases;
    const auto add = [&](const std::string& name, std::function<EndToEndCase::Ready()> make) {
        cases.push_back({name, std::move(make)});
    };
    add(fmt::format("train vq {}x{} frames", vq.batch, vq.window),
        [=] { return vq_step(vq, device); });
    add(fmt::format("train masked {}x{} tokens", masked.batch, kTokens),
        [=] { return masked_step(masked, device); });
    add(fmt::format("train layer {} {}x{} tokens", masked.model.latent_dim, masked.batch, kTokens),
        [=] { return layer_step(masked, device); });
    add(fmt::format("train residual {}x{} tokens", residual.batch, kTokens),
        [=] { return residual_step(residual, device); });
    add(fmt::format("train bamm {}x{} tokens", bamm.batch, kTokens),
        [=] { return bamm_step(bamm, device); });
    add(fmt::format("train bad {}x{} tokens", bad.batch, kTokens),
        [=] { return bad_step(bad, device); });
    add(fmt::format("train length {} texts", masked.batch),
        [=] { return length_step(masked.batch, masked.model.clip_dim, device); });
    const auto add_moclip = [&](const std::string& size, const clip::TextConfig& with) {
        Json config = settings(train::moclip_presets(), size);
        config["mode"] = "paper";  // at any preset's size, with the parts that belong to it
        config["motion"]["part_table"] = moclip::MotionEncoderConfig::paper().part_table;
        if (size != "small" && device == DeviceType::cpu && sizes.batch == 0) config["batch"] = 8;
        const auto options = train::moclip_stage_options(config, "");
        add(fmt::format("train moclip {} {}x{} frames", size, options.batch, kFrames),
            [=] { return moclip_step(options, with, device); });
    };
    add_moclip("small", text_of(settings(train::text_presets(), "small"), kSmallVocab));
    if (!small) add_moclip(preset, tower);
    add(fmt::format("train text {} sentences", text.at("batch").get<int64_t>()),
        [=] { return text_step(text, vocab, device); });
    const auto add_generation = [&](const std::string& system, auto made) {
        for (const Precision precision : {Precision::f32, Precision::int16, Precision::bf16})
            if (device == DeviceType::cpu || precision != Precision::int16)
                add(fmt::format("generate {}{} frames, {}", system, kFrames, name_of(precision)),
                    [=] { return made(precision); });
    };
    add_generation("", [=](Precision precision) {
        return momask_generation(vq.model, masked.model, residual.model, precision, device);
    });
    add_generation("bamm ", [=](Precision precision) {
        return bamm_generation(vq.model, bamm.bamm, residual.model, precision, device);
    });
    add_generation("bad ", [=](Precision precision) {
        return bad_generation(bad_tokenizer.model, bad.bad, precision, device);
    });
    for (const int64_t rows : {1, 64})
        add(fmt::format("encode {}x{} tokens", rows, kPromptTokens),
            [=] { return encoding(tower, rows, device); });
    return cases;
}

}  // namespace mc
