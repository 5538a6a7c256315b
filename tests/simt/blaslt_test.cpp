// Products by cuBLASLt (tests/simt/cublaslt.cpp): which go there, and that they are right. The
// operator suite's products and convolutions run in this program too.
#include "kernels/cuda/blaslt.h"

#include <doctest/doctest.h>

#include "kernels/cuda.h"
#include "tests/kernels/kernel_test_util.h"
#include "tests/simt/cublaslt.h"
#include "tests/simt/staging.h"

namespace mc::testing {
namespace {

// Products of the library during a call of the table's matmul with m = n = 8; every operand `shift`
// elements past a boundary.
template <class T, class F>
size_t products(int64_t k, int64_t shift, F&& change) {
    Backend b;
    matmul_kernels(b);
    TestContext context(1);
    GuardedBuffer<T> x(8 * k, shift), y(8 * k, shift), c(64, shift), before(64, shift),
        bias(8, shift);
    x.fill(1);
    y.fill(T(0.5));
    c.fill(2);
    bias.fill(3);
    MatmulArgs<T> args;
    args.c = c.data();
    args.a = x.data();
    args.b = y.data();
    args.m = args.n = args.ldc = args.ldb = 8;
    args.k = args.lda = k;
    T want = T(0.5) * static_cast<T>(k);
    change(args, want, bias.data(), before.data());
    const size_t done = simt::library_products();
    b.table<T>().matmul(context, args);
    for (int64_t i = 0; i < 64; ++i) CHECK(c[i] == want);
    return simt::library_products() - done;
}

TEST_CASE("cuBLASLt is found, and said to be") {
    CHECK(cuda::blaslt_available());
    CHECK(cuda::blaslt_report() == "cuBLASLt 13.1.0 (the program)");
    CHECK(cuda_description() ==
          "emulation on the CPU (tests/simt), compute capability 8.0; cuBLASLt 13.1.0 (the "
          "program); no cuDNN: the program has no cudnnGetVersion");
}

TEST_CASE_TEMPLATE("products go to cuBLASLt", T, float, double) {
    for (int64_t shift : {0, 1, 2, 3}) {
        CHECK(products<T>(10, shift, [](auto&&...) {}) == 1);
        CHECK(products<T>(10, shift, [](auto& args, T& want, auto...) {
                  args.accumulate = true;
                  args.alpha = 2;
                  want = 12;
              }) == 1);
        CHECK(products<T>(10, shift, [](auto& args, T& want, auto, T* before) {
                  args.alpha = -2;
                  args.epilogue.activate = true;
                  args.epilogue.op = UnaryOp::abs;
                  args.epilogue.before_activation = before;
                  want = 10;
              }) == 1);
        CHECK(products<T>(10, shift, [](auto& args, T& want, auto, T* before) {
                  args.epilogue.before_activation = before;
                  want = 5;
              }) == 1);
    }
}

TEST_CASE("products of operands rounded to bf16 and f16 go to cuBLASLt") {
    Backend b;
    matmul_kernels(b);
    TestContext context(1);
    constexpr int64_t n = 8, k = 21;
    for (const Precision precision : {Precision::bf16, Precision::f16}) {
        CAPTURE(std::string(name_of(precision)));
        // 1 + 2^-13 is 1 in both, and 1.5 in both what it is.
        GuardedBuffer<float> x(n * k, 1), y(n * k, 3), c(n * n, 2), bias(n, 2);
        GuardedBuffer<uint16_t> packed(packed_bytes(precision, k, n) / 2);
        x.fill(1 + 0x1p-13f);
        y.fill(1.5f);
        bias.fill(0.25f);
        b.f32.pack_b(precision)(context, packed.data(), y.data(), k, true, k, n);
        MatmulArgs<float> args;
        args.c = c.data();
        args.a = x.data();
        args.m = args.n = args.ldc = n;
        args.k = args.lda = k;
        args.epilogue.bias = bias.data();
        args.epilogue.activate = true;
        args.epilogue.op = UnaryOp::square;
        args.packed_b = {packed.data(), precision};
        const size_t done = simt::library_products();
        b.f32.matmul(context, args);
        CHECK(simt::library_products() == done + 1);
        for (int64_t i = 0; i < n * n; ++i) CHECK(c[i] == 31.75f * 31.75f);
    }
}

TEST_CASE_TEMPLATE("what cuBLASLt cannot do is left to our own kernel", T, float, double) {
    const auto biased = [](auto& args, T& want, const T* bias, auto) {
        args.epilogue.bias = bias;
        want += 3;
    };
    CHECK(products<T>(10, 0, biased) == (sizeof(T) == 4));  // a heuristic that has nothing
    CHECK(products<T>(10, 1, biased) == (sizeof(T) == 4));
    for (int run = 0; run < 2; ++run) CHECK(products<T>(3, 0, [](auto&&...) {}) == 0);  // too late
    CHECK(products<T>(0, 0, [](auto&&...) {}) == 0);
    CHECK(products<T>(10, 0, [](auto& args, T& want, auto, T* before) {
              args.accumulate = true;
              args.epilogue.before_activation = before;
              want = 7;
          }) == 0);
}

// All of sample b is b, so a block of another sample would show.
TEST_CASE("columns are laid out a block of samples at a time") {
    Backend b;
    conv_kernels(b);
    TestContext context(1);
    constexpr int64_t batch = 45, frames = 50, wide = 700;  // 38 MB of wide columns: two blocks
    for (const auto& [c_in, c_out] : {std::pair<int64_t, int64_t>{wide, 2}, {2, wide}}) {
        const ConvShape s{batch, frames + 2, c_in, c_out, 3, 1, 0, 1};
        const int64_t nx = s.t_in * c_in, ny = frames * c_out, nw = c_out * c_in * 3;
        GuardedBuffer<double> x(batch * nx), w(nw), bias(c_out), y(batch * ny), dx(batch * nx),
            dw(nw), dbias(c_out), dy(batch * ny);
        for (int64_t i = 0; i < batch * nx; ++i) x[i] = static_cast<double>(i / nx);
        for (int64_t i = 0; i < batch * ny; ++i) dy[i] = static_cast<double>(i / ny);
        w.fill(1);
        for (auto* buffer : {&bias, &dw, &dbias}) buffer->fill(5);
        size_t products = simt::library_products();
        b.f64.conv1d(context, y.data(), x.data(), w.data(), nullptr, nullptr, false, s);
        CHECK(simt::library_products() - products == (c_in == wide ? 2 : 1));
        products = simt::library_products();
        b.f64.conv1d_backward(context, dx.data(), dw.data(), dbias.data(), dy.data(), x.data(),
                              w.data(), s);
        CHECK(simt::library_products() - products == 3);
        double squares = 0;
        int64_t wrong = 0;
        for (int64_t sample = 0; sample < batch; ++sample) {
            const auto value = static_cast<double>(sample);
            squares += value * value * frames;
            for (int64_t i = 0; i < ny; ++i)
                wrong += y[sample * ny + i] != value * static_cast<double>(3 * c_in);
            for (int64_t i = 2 * c_in; i < nx - 2 * c_in; ++i)
                wrong += dx[sample * nx + i] != value * static_cast<double>(3 * c_out);
        }
        for (int64_t i = 0; i < nw; ++i) wrong += dw[i] != 5 + squares;
        CHECK(wrong == 0);
    }
}

}  // namespace
}  // namespace mc::testing
