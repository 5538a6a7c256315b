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

}  // namespace
}  // namespace mc::testing
