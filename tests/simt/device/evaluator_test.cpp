// The networks that papers evaluate with, on the GPU and on the CPU.
#include "models/evaluator/evaluator.h"
#include "tests/simt/device/close.h"
#include "tests/tiny_evaluator.h"

namespace mc::testing {
namespace {

TEST_CASE("evaluator: the same embeddings on both devices") {
    Generator init(3), again(3), input(4);
    evaluator::Evaluator cpu(tiny_evaluator_config(), &init), gpu(tiny_evaluator_config(), &again);
    cpu.to(DType::f64);
    gpu.to(DType::f64);
    gpu.to(DeviceType::cuda);
    const Tensor words = input.normal({3, 5, kTinyWords}, 0, 1, DType::f64),
                 pos = input.uniform({3, 5, 15}, 0, 1, DType::f64),
                 motions = input.normal({2, 24, 263}, 0, 1, DType::f64);
    const Tensor text = gpu.text_embeddings(words, pos, {5, 2, 3}),
                 motion = gpu.motion_embeddings(motions, {24, 12});
    CHECK(text.device() == DeviceType::cpu);
    CHECK(motion.device() == DeviceType::cpu);
    // f64 sums of up to a thousand terms, in another order.
    CHECK(worst(text, cpu.text_embeddings(words, pos, {5, 2, 3})) < 1e-11);
    CHECK(worst(motion, cpu.motion_embeddings(motions, {24, 12})) < 1e-11);
}

}  // namespace
}  // namespace mc::testing
