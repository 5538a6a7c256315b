// Inference: linear with packed weights, in f32 and bf16.
#include "autograd/inference.h"

#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

Tensor uniform(const Shape& shape, uint64_t seed) {
    return random(shape, seed).to(DType::f32);
}

double relative_error(const Tensor& got, const Tensor& want) {
    double error = 0, size = 0;
    const std::vector<float> g = got.to_vector<float>(), w = want.to_vector<float>();
    for (size_t i = 0; i < w.size(); ++i) {
        const double x = static_cast<double>(w[i]), d = static_cast<double>(g[i]) - x;
        error += d * d;
        size += x * x;
    }
    return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("inference in f32 gives the same bits as without") {
    for (int64_t rows : {1, 7, 9, 49, 130}) {
        const Tensor x = uniform({rows, 70}, 1), w = uniform({90, 70}, 2), b = uniform({90}, 3);
        const Tensor plain = linear(x, w, b, UnaryOp::gelu).value();
        const Inference scope;
        CHECK(same_bits(linear(x, w, b, UnaryOp::gelu).value(), plain));
        CHECK(same_bits(linear(x, w, b, UnaryOp::gelu).value(), plain));  // from the kept copy
    }
}

TEST_CASE("inference in bf16 is within 1 % of f32, for its scope alone") {
    const Tensor x = uniform({2, 49, 384}, 1), w = uniform({256, 384}, 2), b = uniform({256}, 3);
    const Tensor plain = linear(x, w, b).value();
    {
        const Inference scope(Precision::bf16);
        // Two roundings by at most 2^-9 of each product: 0.2 to 0.3 % of a sum of random terms.
        const double error = relative_error(linear(x, w, b).value(), plain);
        CHECK(error > 1e-4);
        CHECK(error < 0.01);
        {
            const Inference inner;
            CHECK(same_bits(linear(x, w, b).value(), plain));
        }
        {
            const Inference::InFull in_full;
            CHECK(same_bits(linear(x, w, b).value(), plain));
        }
        CHECK(!same_bits(linear(x, w, b).value(), plain));
    }
    CHECK(same_bits(linear(x, w, b).value(), plain));
}

TEST_CASE("inference packs a weight anew when it was written to, and each part of a bank") {
    const Tensor x = uniform({20, 64}, 1), bank = uniform({3, 40, 64}, 2),
                 other = uniform({40, 64}, 3);
    const auto part = [&](int64_t i) { return bank.slice(0, i, i + 1).reshape({40, 64}); };
    for (Precision precision : {Precision::f32, Precision::bf16, Precision::int16}) {
        const Inference scope(precision);
        std::vector<Tensor> first;
        for (int64_t i = 0; i < 3; ++i) first.push_back(linear(x, part(i), Var()).value());
        for (int64_t i = 0; i < 3; ++i) {
            CHECK(same_bits(linear(x, part(i).clone(), Var()).value(), first[i]));
            CHECK(same_bits(linear(x, part(i), Var()).value(), first[i]));
        }
        const Tensor want = linear(x, other, Var()).value(), kept = part(1).clone();
        part(1).copy_(other);
        CHECK(same_bits(linear(x, part(1), Var()).value(), want));
        part(1).copy_(kept);
        CHECK(same_bits(linear(x, part(1), Var()).value(), first[1]));
    }
}

TEST_CASE("inference convolves with the same bits as without, whatever the products") {
    struct Layout {
        int64_t in, out, kernel, frames;
    };
    // A product as it stands, F(2,3), columns; one weight at lengths that are convolved by F(2,3)
    // and by columns.
    for (const Layout& layout : {Layout{40, 70, 1, 20}, Layout{130, 140, 3, 20}, {12, 20, 4, 20}}) {
        ConvOptions options;
        options.relu = true;
        options.padding = layout.kernel / 2;
        const Tensor w = uniform({layout.out, layout.in, layout.kernel}, 2),
                     b = uniform({layout.out}, 3), other = uniform(w.shape(), 4);
        for (Precision precision : {Precision::f32, Precision::int16})
            for (int64_t frames : {layout.frames, int64_t{5}, layout.frames, int64_t{1}}) {
                CAPTURE(frames);
                const Tensor x = uniform({2, frames, layout.in}, 1);
                const Tensor plain = conv1d(x, w, b, options).value();
                {
                    const Inference scope(precision);
                    for (int i = 0; i < 3; ++i)
                        CHECK(same_bits(conv1d(x, w, b, options).value(), plain));
                }
                const Tensor kept = w.clone();
                w.copy_(other);
                const Tensor want = conv1d(x, w, b, options).value();
                const Inference scope(precision);
                CHECK(same_bits(conv1d(x, w, b, options).value(), want));
                w.copy_(kept);
                CHECK(same_bits(conv1d(x, w, b, options).value(), plain));
            }
    }
}

TEST_CASE("inference records nothing and leaves f64 and other layouts as they are") {
    const Tensor x = random({12, 30}, 1), w = random({20, 30}, 2);
    Tape tape;
    const Tape::Recording recording(tape);
    const Inference scope(Precision::bf16);
    CHECK(!linear(x, Var(w, requires_grad), Var()).has_grad_slot());
    CHECK(tape.size() == 0);
    CHECK(linear(x, w, Var()).value().to_vector<double>() ==
          matmul(x, w, false, true).value().to_vector<double>());
    const Tensor xf = x.to(DType::f32), wf = w.to(DType::f32);
    const Tensor turned = wf.transpose(0, 1).contiguous().transpose(0, 1);
    CHECK(same_bits(linear(xf, turned, Var()).value(), matmul(xf, wf, false, true).value()));
    const Inference in_f16(Precision::f16);
    CHECK_THROWS_WITH_AS(linear(xf, wf, Var()), doctest::Contains("pack_b_f16"), Error);
}
