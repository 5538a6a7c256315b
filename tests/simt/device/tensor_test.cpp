#include "tensor/tensor.h"

#include "autograd/ops.h"
#include "nn/transformer.h"
#include "tensor/allocator.h"
#include "tensor/generator.h"
#include "tensor/sort.h"
#include "tests/simt/device/close.h"
#include "train/adamw.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;

TEST_CASE("tensors go to the GPU and come back") {
    const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}), y = on_gpu(x);
    CHECK(y.device() == kCuda);
    CHECK(y.transpose(0, 1).to_vector<float>() == x.transpose(0, 1).to_vector<float>());
    CHECK(y.item<float>({1, 2}) == 6);
    CHECK(y.to(DType::f64).cpu().item<double>({0, 1}) == 2);
    CHECK_THROWS_WITH_AS(y.data<float>(),
                         "[tensor] f32 (2, 3) is on cuda; copy it to the program's memory with "
                         "cpu()",
                         Error);
    CHECK(Tensor::full({3}, 7, DType::i64, kCuda).to_vector<int64_t>() ==
          std::vector<int64_t>{7, 7, 7});
    CHECK(Tensor::zeros({2}, DType::f32, kCuda).to_vector<float>() == std::vector<float>{0, 0});
    const Tensor z = Tensor::full({2, 3}, 0.5, DType::f32, kCuda);
    z.copy_(x);
    CHECK(z.to_vector<float>() == x.to_vector<float>());
    x.copy_(Tensor::full({2, 3}, 9, DType::f64, kCuda));
    CHECK(x.item<float>({1, 1}) == 9);
}

TEST_CASE("what is uploaded may change at once") {
    // Beyond one half of the ring, so that it wraps, and one that does not fit it.
    std::vector<Tensor> there;
    const Tensor x = Tensor::empty({700'000});
    for (int i = 0; i < 8; ++i) {
        x.fill_(i);
        there.push_back(on_gpu(x));
    }
    x.fill_(-1);
    for (int i = 0; i < 8; ++i)
        CHECK(there[static_cast<size_t>(i)].to_vector<float>() ==
              std::vector<float>(700'000, static_cast<float>(i)));
    const Tensor large = Tensor::full({2'500'000}, 3);
    const Tensor up = on_gpu(large);
    large.fill_(4);
    CHECK(up.item<float>({2'499'999}) == 3);
}

TEST_CASE("uniform draws and the order of values are the same on both devices") {
    Generator here(3), there(3);
    for (const DType dtype : {DType::f32, DType::f64}) {
        const Tensor want = here.uniform({5, 33}, -1, 2, dtype),
                     got = there.uniform({5, 33}, -1, 2, dtype, kCuda);
        CHECK(got.device() == kCuda);
        CHECK(want.to(DType::f64).to_vector<double>() == got.to(DType::f64).to_vector<double>());
        CHECK(argsort(got).to_vector<int64_t>() == argsort(want).to_vector<int64_t>());
        CHECK(ranks(got).to_vector<int64_t>() == ranks(want).to_vector<int64_t>());
    }
    CHECK(here.position() == there.position());
}

TEST_CASE("values on two devices do not meet") {
    const Var a(Tensor::zeros({2})), b(Tensor::zeros({2}, DType::f32, kCuda));
    CHECK_THROWS_WITH_AS(
        add(a, b), "[add] got (2) on cpu and (2) on cuda, want one device; copy with to()", Error);
}

TEST_CASE("the GPU's memory is kept for the next step") {
    on_gpu(Tensor::zeros({1000}));
    const AllocatorStats before = allocator_stats(kCuda);
    for (int i = 0; i < 10; ++i) on_gpu(Tensor::zeros({1000}));
    const AllocatorStats after = allocator_stats(kCuda);
    CHECK(after.requests == before.requests + 10);
    CHECK(after.system_requests == before.system_requests);
}

TEST_CASE("a transformer layer learns the same on both devices") {
    const auto learn = [](DeviceType device, nn::PostNormBlock& block) {
        block.to(DType::f64);
        block.to(device);
        CHECK(block.device() == device);
        train::AdamW optimizer({});
        optimizer.add(block.parameters());
        const Tensor x = Generator(1).normal({2, 5, 8}, 0, 1, DType::f64);
        AttentionOptions options;
        options.key_padding = Tensor::from_bools({0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, {2, 5});
        double norm = 0;
        for (uint64_t step = 0; step < 2; ++step) {
            Generator draws(2, step << 32);
            Tape tape;
            Tape::Recording recording(tape);
            const Var y = block(Var(x.to(device)), options, {true, &draws});
            tape.backward(mean(square(y)));
            norm = optimizer.gradient_norm();
            if (step == 0) optimizer.step(1e-2);
        }
        return norm;
    };
    Generator init(3), again(3);
    nn::PostNormBlock cpu(8, 2, 16, 0.1, &init), gpu(8, 2, 16, 0.1, &again);
    const double want = learn(DeviceType::cpu, cpu), got = learn(kCuda, gpu);
    // Sums of some hundred f64 terms, in another order.
    CHECK(std::fabs(got - want) < 1e-9 * want);
    check_same_gradients(gpu, cpu, 1e-9);
}

}  // namespace
}  // namespace mc::testing
