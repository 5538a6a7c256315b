// MoMask's models on both devices. In f64: sums of some hundred terms in another order differ by
// 1e-13 or so, and no draw of the few here is so near to a boundary.
#include "models/momask/length_estimator.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "tests/simt/device/close.h"

namespace mc::testing {
namespace {

using namespace momask;

constexpr auto kCuda = DeviceType::cuda;
constexpr double kTolerance = 1e-9;

TransformerConfig tiny() {
    TransformerConfig config;
    config.num_tokens = 12;
    config.num_quantizers = 4;
    config.code_dim = config.latent_dim = config.clip_dim = 8;
    config.heads = 2;
    config.layers = 2;
    config.ff_size = 16;
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
}

}  // namespace
}  // namespace mc::testing
