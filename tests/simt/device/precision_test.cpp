// Half precision on both devices: products in bf16 and f16, and tensors that are stored so.
#include <cstring>
#include <filesystem>

#include "autograd/inference.h"
#include "autograd/ops.h"
#include "models/momask/mask_transformer.h"
#include "nn/layers.h"
#include "tensor/formats/safetensors.h"
#include "tensor/graph.h"
#include "tests/simt/device/close.h"
#include "tests/test_paths.h"
#include "tests/tiny_transformers.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;
constexpr DType kHalves[] = {DType::bf16, DType::f16};

Tensor normal(const Shape& shape, uint64_t seed) {
    return Generator(seed).normal(shape, 0, 1);
}

Tensor rounded(const Tensor& x, DType dtype) {
    return x.to(dtype).to(DType::f32);
}

bool same_bits(const Tensor& a_in, const Tensor& b_in) {
    const Tensor a = a_in.cpu().contiguous(), b = b_in.cpu().contiguous();
    return a.dtype() == b.dtype() && a.shape() == b.shape() &&
           std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel()) * size_of(a.dtype())) == 0;
}

// y of `x w^T + b`, on the device of w.
Tensor applied(const Tensor& x, const Tensor& w, const Tensor& b) {
    return linear(Var(x.to(w.device())), w, Var(b.to(w.device())), UnaryOp::gelu).value();
}

TEST_CASE("linear rounds its operands to bf16 or f16 on the GPU, once for the weight") {
    for (const int64_t k : {48, 21}) {
        const Tensor x = normal({2, 5, k}, 1), b = normal({19}, 3), w = on_gpu(normal({19, k}, 2));
        for (const Precision precision : {Precision::bf16, Precision::f16}) {
            CAPTURE(std::string(name_of(precision)));
            const DType dtype = precision == Precision::bf16 ? DType::bf16 : DType::f16;
            const Tensor want = applied(rounded(x, dtype), rounded(w.cpu(), dtype), b);
            const Inference scope(precision);
            // Sums of `k` terms in f32, in another order; rounding apart, 1e-3 would remain.
            CHECK(worst(applied(x, w, b), want) < 1e-6);
            CHECK(same_bits(applied(x, w, b), applied(x, w.clone(), b)));  // a kept copy, a new one
            const Inference::InFull in_full;
            CHECK(worst(applied(x, w, b), applied(x, w.cpu(), b)) < 1e-6);
        }
    }
}

TEST_CASE("a weight on the GPU is packed anew when it was written to, and not in f32") {
    const Tensor x = normal({4, 8}, 1), b = normal({6}, 2), w = on_gpu(normal({6, 8}, 3)),
                 other = normal({6, 8}, 4);
    const Tensor plain = applied(x, w, b);
    {
        const Inference scope;
        CHECK(same_bits(applied(x, w, b), plain));
        CHECK(!w.storage()->packed);
    }
    const Inference scope(Precision::bf16);
    const Tensor before = applied(x, w, b);
    CHECK(w.storage()->packed);
    w.copy_(other);
    CHECK(!same_bits(applied(x, w, b), before));
    CHECK(same_bits(applied(x, w, b), applied(x, on_gpu(other), b)));
}

TEST_CASE("a transformer's logits in bf16 are the CPU's in bf16") {
    const Tape::Pause no_tape;
    const momask::TransformerConfig config =
        testing::tiny_transformer<momask::TransformerConfig>(2, 12, 16);
    Generator init(3), again(3);
    momask::MaskTransformer cpu(config, &init), gpu(config, &again);
    gpu.to(kCuda);
    const Tensor ids = Tensor::empty({2, 5}, DType::i64), cond = normal({2, 16}, 5);
    for (int64_t i = 0; i < 10; ++i) ids.data<int64_t>()[i] = 7 * i % 12;
    const Tensor padding = momask::padding_mask({5, 4}, 5);
    const auto logits = [&](const momask::MaskTransformer& model, Precision products) {
        const Inference scope(products);
        return model.guided_logits(ids, cond, padding, 3).cpu();
    };
    const Tensor want = logits(cpu, Precision::bf16), full = logits(cpu, Precision::f32);
    const double rounding = worst(full, want);
    CHECK(rounding > 1e-4);
    // Sums in another order; at worst a few of some hundred operands, which lie between two of
    // bf16, are rounded the other way.
    CHECK(worst(logits(gpu, Precision::bf16), want) < rounding / 10);
}

TEST_CASE("a recorded step is repeated in its own precision alone") {
    Generator init(3);
    momask::MaskTransformer model(testing::tiny_transformer<momask::TransformerConfig>(2, 12, 16),
                                  &init);
    model.to(kCuda);
    GenerationOptions options;
    options.steps = 4;
    const auto recorded = [&](Precision products) {
        const Inference scope(products);
        Generator generator(1);
        GeneratorSource draws(generator);
        const uint64_t before = graph_stats().recorded;
        model.generate(normal({1, 16}, 5), {5}, options, draws);
        return graph_stats().recorded - before;
    };
    CHECK(recorded(Precision::f32) == 1);
    CHECK(recorded(Precision::f32) == 0);
    CHECK(recorded(Precision::bf16) == 1);
    CHECK(recorded(Precision::bf16) == 0);
    CHECK(recorded(Precision::f32) == 0);
}

TEST_CASE("tensors stored in half precision live on the GPU") {
    const Tensor x = normal({3, 4, 5}, 1), y = normal({3, 2, 5}, 2);
    for (const DType dtype : kHalves) {
        CAPTURE(std::string(name_of(dtype)));
        const Tensor here = x.to(dtype), more = y.to(dtype);
        // Rounded there and rounded here; widened there and here.
        const Tensor there = on_gpu(x).to(dtype);
        CHECK(there.device() == kCuda);
        CHECK(same_bits(there, here));
        CHECK(same_bits(on_gpu(here), here));
        CHECK(same_bits(there.to(DType::f32), here.to(DType::f32)));
        CHECK(same_bits(there.to(DType::f64).to(dtype), here));
        CHECK(same_bits(there.permute({2, 0, 1}), here.permute({2, 0, 1})));
        CHECK(same_bits(there.slice(1, 1, 3), here.slice(1, 1, 3)));
        CHECK(same_bits(there.slice(0, 1, 2).expand({3, 4, 5}),
                        here.slice(0, 1, 2).expand({3, 4, 5})));
        CHECK(same_bits(concat({there, on_gpu(more)}, 1).value(), concat({here, more}, 1).value()));
        const Tensor filled = Tensor::full({2, 3}, 1.25, dtype, kCuda);
        CHECK(same_bits(filled, Tensor::full({2, 3}, 1.25, dtype)));
        filled.copy_(Tensor::full({2, 3}, 0.3, DType::f64));
        CHECK(same_bits(filled, Tensor::full({2, 3}, 0.3, dtype)));
        CHECK(same_bits(Tensor::zeros({7}, dtype, kCuda), Tensor::zeros({7}, dtype)));
        CHECK_THROWS_WITH_AS(add(there, there),
                             doctest::Contains("want f32 or f64; convert with to()"), Error);
    }
}

TEST_CASE("a file's weights in half precision are loaded by a model on the GPU") {
    const ScratchDir dir;
    const std::filesystem::path path = dir.path / "half.safetensors";
    const Tensor w = normal({3, 4}, 1), b = normal({3}, 2);
    write_safetensors(path, {{"weight", w.to(DType::f16)}, {"bias", b.to(DType::bf16)}}, {});
    nn::TensorMap state;
    for (const auto& [name, tensor] : SafetensorsFile(path).all()) {
        CHECK(same_bits(on_gpu(tensor), tensor));  // out of the mapped file
        state[name] = tensor;
    }
    nn::Linear layer(4, 3, nullptr);
    layer.to(kCuda);
    layer.load(state);
    CHECK(layer.device() == kCuda);
    for (const auto& [name, parameter] : layer.parameters())
        CHECK(same_bits(parameter->value(), rounded(name == "weight" ? w : b,
                                                    name == "weight" ? DType::f16 : DType::bf16)));
}

}  // namespace
}  // namespace mc::testing
