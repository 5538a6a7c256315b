// BAMM's and BAD's transformers on both devices, in f64 (momask_test.cpp says why).
#include "models/bad/transformer.h"
#include "models/bamm/transformer.h"
#include "tests/simt/device/close.h"
#include "tests/tiny_transformers.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;
constexpr double kTolerance = 1e-9;

const std::vector<int64_t> kLengths{5, 3};

Tensor tokens() {  // (2, 5)
    return Tensor::from_ids({3, 10, 5, 0, 7, 2, 9, 4, 11, 6}, {2, 5});
}

Tensor text(const Shape& shape) {
    return Generator(5).normal(shape, 0, 1, DType::f64);
}

// run(model) gives a step; the same gradients on both devices.
template <class Model, class Run>
void check_same_step(Model& cpu, Model& gpu, const Run& run) {
    const auto learned = [&](Model& model) {
        Tape tape;
        Tape::Recording recording(tape);
        auto step = run(model);
        tape.backward(step.loss);
        return step;
    };
    const auto want = learned(cpu), got = learned(gpu);
    CHECK(got.loss.value().device() == kCuda);
    CHECK(worst(got.loss.value(), want.loss.value()) < kTolerance);
    CHECK(got.accuracy.value() == want.accuracy.value());
    check_same_gradients(gpu, cpu, kTolerance);
}

TEST_CASE("BAMM learns and makes the same on both devices") {
    auto config = testing::tiny_transformer<bamm::Config>(2);
    config.reference_sampling = false;
    Generator init(3), again(3);
    bamm::Transformer cpu(config, &init), gpu(config, &again);
    cpu.to(DType::f64);
    gpu.to(DType::f64);
    gpu.to(kCuda);
    check_same_step(cpu, gpu, [](const bamm::Transformer& model) {
        Generator generator(7);
        GeneratorSource draws(generator);
        return model.train_step(tokens(), kLengths, text({2, 8}), {true, &generator}, draws);
    });
    const Tape::Pause no_tape;
    GenerationOptions options;
    options.top_k = 0.5;
    const auto made = [&](const bamm::Transformer& model) {
        Generator generator(11);
        GeneratorSource draws(generator);
        return model.generate(text({2, 8}), {4, 3}, 4, options, draws).ids.to_vector<int64_t>();
    };
    CHECK(made(gpu) == made(cpu));
}

TEST_CASE("BAD learns and makes the same on both devices") {
    const bad::Config config = testing::tiny_bad(10);
    const Tensor codebook = Generator(2).normal({12, 4});
    Generator init(3), again(3);
    bad::Transformer cpu(config, codebook, &init), gpu(config, on_gpu(codebook), &again);
    cpu.to(DType::f64);
    gpu.to(DType::f64);
    gpu.to(kCuda);
    const bad::Text words{text({2, 8}), text({2, 6, 8})};
    check_same_step(cpu, gpu, [&](const bad::Transformer& model) {
        Generator generator(7);
        GeneratorSource draws(generator);
        return model.train_step(tokens(), kLengths, words, {true, &generator}, draws);
    });
    const Tape::Pause no_tape;
    for (bool order_agnostic : {false, true}) {
        GenerationOptions options;
        options.steps = 3;
        options.top_k = 0.5;
        options.order_agnostic = order_agnostic;
        const auto made = [&](const bad::Transformer& model) {
            Generator generator(11);
            GeneratorSource draws(generator);
            return model.generate(words, kLengths, options, draws).to_vector<int64_t>();
        };
        CHECK(made(gpu) == made(cpu));
    }
}

}  // namespace
}  // namespace mc::testing
