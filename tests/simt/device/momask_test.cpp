// MoMask's models on both devices. In f64: sums of some hundred terms in another order differ by
// 1e-13 or so, and no draw of the few here is so near to a boundary.
#include "models/clip/clip_text_encoder.h"
#include "models/momask/generator.h"
#include "models/momask/length_estimator.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "tests/moclip_workshop.h"
#include "tests/simt/device/close.h"
#include "tests/tiny_transformers.h"
#include "train/momask_stages.h"

namespace mc::testing {
namespace {

using namespace momask;

constexpr auto kCuda = DeviceType::cuda;
constexpr double kTolerance = 1e-9;

TransformerConfig tiny() {
    auto config = testing::tiny_transformer<TransformerConfig>(2);
    config.num_quantizers = 4;
    config.cond_drop_prob = 0.5;
    return config;
}

const std::vector<int64_t> kLengths{5, 3, 4};

Tensor text() {
    return Generator(5).normal({3, 8}, 0, 1, DType::f64);
}

Tensor tokens(const Shape& shape) {
    const Tensor ids = Tensor::empty(shape, DType::i64);
    for (int64_t i = 0; i < ids.numel(); ++i) ids.data<int64_t>()[i] = (7 * i + 3) % 12;
    return ids;
}

// The same model twice, in f64; one of them on the GPU.
template <class Model>
struct Pair {
    Generator init{3}, again{3};
    Model cpu, gpu;
    template <class... Args>
    explicit Pair(const Args&... args) : cpu(args..., &init), gpu(args..., &again) {
        cpu.to(DType::f64);
        gpu.to(DType::f64);
        gpu.to(kCuda);
    }
};

// step(model, pass, draws) gives a loss and an accuracy.
template <class Model, class Step>
void check_same_step(Pair<Model>& pair, const Step& step) {
    const auto learned = [&](Model& model) {
        Generator generator(7);
        GeneratorSource draws(generator);
        Tape tape;
        Tape::Recording recording(tape);
        model.set_requires_grad(true);
        const auto out = step(model, nn::Pass{true, &generator}, draws);
        tape.backward(out.loss);
        return out;
    };
    const auto want = learned(pair.cpu);
    const auto got = learned(pair.gpu);
    CHECK(got.loss.value().device() == kCuda);
    CHECK(worst(got.loss.value(), want.loss.value()) < kTolerance);
    CHECK(got.accuracy.value() == want.accuracy.value());
    check_same_gradients(pair.gpu, pair.cpu, kTolerance);
}

TEST_CASE("an accuracy counts what is asked, on both devices") {
    const Tensor logits = Generator(2).normal({2, 3, 7}, 0, 1),
                 labels = Tensor::empty({2, 3}, DType::i64);
    for (int64_t at = 0; at < 6; ++at) {  // two right, one wrong, three not asked
        logits.data<float>()[at * 7 + at] = 9;
        labels.data<int64_t>()[at] = at < 2 ? at : at == 2 ? 3 : -1;
    }
    for (const DeviceType device : {DeviceType::cpu, kCuda})
        CHECK(TokenAccuracy(logits.to(device), labels, -1).value() == 2.0 / 3.0);
    CHECK(TokenAccuracy(on_gpu(logits), Tensor::full({2, 3}, 7, DType::i64), 7).value() == 0);
}

TEST_CASE("the masked transformer learns the same on both devices") {
    Pair<MaskTransformer> pair(tiny());
    check_same_step(pair, [](const MaskTransformer& model, const nn::Pass& pass, auto& draws) {
        return model.train_step(tokens({3, 5}), kLengths, text(), pass, draws, false);
    });
}

TEST_CASE("the residual transformer learns the same on both devices") {
    Pair<ResidualTransformer> pair(tiny());
    check_same_step(pair, [](const ResidualTransformer& model, const nn::Pass& pass, auto& draws) {
        return model.train_step(tokens({3, 5, 4}), kLengths, text(), pass, draws);
    });
}

TEST_CASE("the length estimator learns and draws the same on both devices") {
    Pair<LengthEstimator> pair(int64_t{8}, int64_t{12});
    const Tensor labels = Tensor::from_ids(kLengths, {3});
    struct Step {
        Var loss;
        TokenAccuracy accuracy;
    };
    check_same_step(pair, [&](const LengthEstimator& model, const nn::Pass& pass, auto&) {
        const Var logits = model.logits(text(), pass);
        return Step{cross_entropy(logits, labels), TokenAccuracy(logits.value(), labels, -1)};
    });
    const Tensor u = Generator(9).uniform({3});
    CHECK(pair.gpu.sample(text(), u) == pair.cpu.sample(text(), u));
}

TEST_CASE("MoMask's transformers make the same tokens on both devices") {
    const Tape::Pause no_tape;
    Pair<MaskTransformer> masked(tiny());
    Pair<ResidualTransformer> residual(tiny());
    GenerationOptions options;
    options.steps = 3;
    options.top_k = 0.5;
    const auto made = [&](const MaskTransformer& base, const ResidualTransformer& rest) {
        Generator generator(11);
        GeneratorSource draws(generator);
        std::vector<Tensor> logits;
        const Watch watch = [&](const std::string& name, const Tensor& value) {
            if (name.ends_with(".logits")) logits.push_back(value.clone());
        };
        const Tensor ids = base.generate(text(), kLengths, options, draws, {}, watch);
        const Tensor all = rest.generate(ids, text(), kLengths, options, draws, {}, watch);
        return std::pair(all.to_vector<int64_t>(), logits);
    };
    const auto [want, want_logits] = made(masked.cpu, residual.cpu);
    const auto [got, got_logits] = made(masked.gpu, residual.gpu);
    CHECK(got == want);
    REQUIRE(got_logits.size() == 6);
    for (size_t i = 0; i < got_logits.size(); ++i)
        CHECK(worst(got_logits[i], want_logits[i]) < kTolerance);
    // Unwatched, the CPU computes the logits of what is drawn, the GPU all.
    for (const MaskTransformer* model : {&masked.cpu, &masked.gpu}) {
        Generator generator(11);
        GeneratorSource draws(generator);
        const Tensor ids = model->generate(text(), kLengths, options, draws);
        for (size_t at = 0; at < 15; ++at) CHECK(ids.data<int64_t>()[at] == want[at * 4]);
    }
}

// A data set and a text encoder of width 8.
const MoClipWorkshop& shop() {
    static const MoClipWorkshop shop;
    return shop;
}

vq::RvqConfig tiny_tokenizer(int64_t dim_pose) {
    vq::RvqConfig config;
    config.net.dim_pose = dim_pose;
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 8;
    config.net.depth = 1;
    config.quantizer.nb_code = 12;
    config.quantizer.num_quantizers = 4;
    return config;
}

void fill_codebooks(vq::RvqVae& tokenizer) {
    Generator generator(4);
    for (auto& [name, codebook] : tokenizer.buffers())
        codebook->copy_(generator.normal(codebook->shape(), 0, 1));
}

std::unique_ptr<MoMaskGenerator> tiny_generator() {
    Generator init(3);
    Parts parts;
    parts.text = std::make_shared<clip::ClipTextEncoder>(shop().tower(), shop().vocabulary());
    parts.tokenizer = std::make_unique<vq::RvqVae>(tiny_tokenizer(11), &init);
    fill_codebooks(*parts.tokenizer);
    parts.masked = std::make_unique<MaskTransformer>(tiny(), &init);
    parts.residual = std::make_unique<ResidualTransformer>(tiny(), &init);
    parts.length = std::make_unique<LengthEstimator>(8, 6, &init);
    parts.normalisation = {std::vector<double>(11, 0.5), std::vector<double>(11, 2)};
    return std::make_unique<MoMaskGenerator>(std::move(parts));
}

TEST_CASE("MoMask makes and edits the same motions on both devices") {
    MotionEdit edit{{16, 11, 20, std::vector<float>(16 * 11, 0.25f)}, {{4, 8}}};
    const std::vector<GenerationRequest> requests{
        {"a person waves", {}}, {"someone jumps", 12}, {"a turn", {}, edit}};
    GenerationOptions options;
    options.steps = 2;
    const auto cpu = tiny_generator(), gpu = tiny_generator();
    gpu->to(kCuda);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        CAPTURE(std::string(name_of(precision)));
        options.precision = precision;
        const auto want = cpu->generate(requests, options), got = gpu->generate(requests, options);
        REQUIRE(got.size() == 3);
        for (size_t i = 0; i < got.size(); ++i) {
            REQUIRE(got[i].frames == want[i].frames);
            const Shape shape{got[i].frames, got[i].dims};
            // The same tokens, decoded in f32 by sums of some dozens of terms in another order.
            // Another token would be off by as much as the motion itself.
            CHECK(worst(Tensor::from(got[i].rows, shape), Tensor::from(want[i].rows, shape)) <
                  1e-5);
        }
    }
}

// In f32, as stages are: a loss is the mean of some hundred logarithms, each right to 1e-6 or so.
TEST_CASE_TEMPLATE("a token stage learns and validates the same on both devices", TheStage,
                   train::MaskedStage, train::ResidualStage, train::LengthStage) {
    Generator init(6);
    vq::RvqVae tokenizer(tiny_tokenizer(263), &init);
    fill_codebooks(tokenizer);
    clip::ClipTextEncoder words(shop().tower(), shop().vocabulary());
    train::TokenStageOptions options;
    options.model = tiny();
    options.batch = 8;
    options.data.root = shop().data().string();
    const auto measured = [&](DeviceType device) {
        options.device = device;
        TheStage stage(options, tokenizer, words);
        CHECK(stage.model().device() == device);
        Generator generator(1);
        return std::pair(stage.step(0, generator), stage.validate());
    };
    const auto [want_step, want_score] = measured(DeviceType::cpu);
    const auto [got_step, got_score] = measured(kCuda);
    const auto check_close = [](const train::Metrics& got, const train::Metrics& want) {
        REQUIRE(got.size() == want.size());
        for (const auto& [key, value] : want) {
            CAPTURE(key);
            CHECK(std::fabs(got.at(key) - value) <= 1e-5 * value);
        }
    };
    check_close(got_step, want_step);
    check_close(got_score, want_score);
}

}  // namespace
}  // namespace mc::testing
