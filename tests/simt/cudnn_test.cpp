// Convolutions by cuDNN (tests/simt/cudnn.cpp), which this program asks for: which go there, and
// that they are right. The operator suite's convolutions run in this program too, and cuBLASLt is
// beside it, as on a GPU.
#include "tests/simt/cudnn.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "kernels/cuda/dnn.h"
#include "tests/kernels/kernel_test_util.h"
#include "tests/simt/cublaslt.h"
#include "tests/simt/device_cuda.h"

namespace mc::testing {
namespace {

// Before anything asks for it.
[[maybe_unused]] const int asked = setenv("MOCLIP_CUDNN", "on", 1);

using simt::Convolutions;

// Convolutions of the library during a forward and a backward call of the table; every operand
// `shift` elements past a boundary. The bias is 3, all other operands are 1.
template <class T>
Convolutions convolutions(const ConvShape& s, int64_t shift = 0, bool bias = true) {
    Backend b;
    conv_kernels(b);
    TestContext context(1);
    const int64_t nx = s.batch * s.t_in * s.c_in, ny = s.batch * s.t_out() * s.c_out,
                  nw = s.c_out * s.c_in * s.kernel;
    GuardedBuffer<T> x(nx, shift), w(nw, shift), y(ny, shift), three(s.c_out, shift), dx(nx, shift),
        dw(nw, shift), dy(ny, shift), dbias(s.c_out, shift);
    for (auto* buffer : {&x, &w, &dw, &dy, &dbias}) buffer->fill(1);
    three.fill(3);
    const Convolutions before = simt::library_convolutions();
    b.table<T>().conv1d(context, y.data(), x.data(), w.data(), nullptr,
                        bias ? three.data() : nullptr, true, s);
    b.table<T>().conv1d_backward(context, dx.data(), dw.data(), dbias.data(), dy.data(), x.data(),
                                 w.data(), s);
    const Convolutions after = simt::library_convolutions();
    // Without padding every output frame sees all taps.
    if (s.padding == 0) {
        for (int64_t i = 0; i < ny; ++i)
            CHECK(y[i] == static_cast<T>(s.kernel * s.c_in) + (bias ? 3 : 0));
        for (int64_t i = 0; i < nw; ++i) CHECK(dw[i] == static_cast<T>(1 + s.batch * s.t_out()));
    }
    for (int64_t i = 0; i < s.c_out; ++i) CHECK(dbias[i] == static_cast<T>(1 + ny / s.c_out));
    return {after.forward - before.forward, after.data - before.data, after.weight - before.weight};
}

TEST_CASE("cuDNN is found, and said to be") {
    CHECK(cuda::dnn_available());
    CHECK(cuda::dnn_asked_for());
    CHECK(cuda::dnn_report() == "cuDNN 9.19.0 (the program)");
    CHECK(cuda_description() ==
          "emulation on the CPU (tests/simt), compute capability 8.0; cuBLASLt 13.1.0 (the "
          "program); cuDNN 9.19.0 (the program)");
}

TEST_CASE_TEMPLATE("convolutions go to cuDNN where it is asked for", T, float, double) {
    const size_t weight = sizeof(T) == 4;  // its heuristic has nothing for the other
    for (bool bias : {false, true}) {
        CHECK(convolutions<T>({2, 8, 4, 8, 3, 1, 0, 1}, 0, bias) == Convolutions{1, 1, weight});
        CHECK(convolutions<T>({2, 8, 4, 8, 3, 1, 3, 3}, 0, bias) == Convolutions{1, 1, weight});
        CHECK(convolutions<T>({2, 8, 5, 7, 4, 2, 1, 1}, 0, bias) == Convolutions{1, 1, weight});
    }
}

TEST_CASE_TEMPLATE("what cuDNN cannot do, or others do better, is left to them", T, float, double) {
    const Convolutions none{};
    CHECK(convolutions<T>({2, 8, 4, 8, 3, 1, 0, 1}, 1) == none);  // misaligned
    const ConvShape too_late{2, 8, 4, 13, 4, 1, 0, 1};
    for (int run = 0; run < 2; ++run) CHECK(convolutions<T>(too_late) == none);
    const size_t products = simt::library_products();
    CHECK(convolutions<T>({2, 8, 4, 8, 1, 1, 0, 1}) == none);  // pointwise
    CHECK(simt::library_products() - products >= 2);
}

TEST_CASE("who convolves can be said") {
    const ConvShape shape{2, 8, 4, 8, 3, 1, 0, 1}, pointwise{2, 8, 4, 8, 1, 1, 0, 1};
    {
        const UseConvolver use(Convolver::own);
        CHECK(convolutions<float>(shape) == Convolutions{});
    }
    {
        const UseConvolver use(Convolver::cudnn);
        CHECK(convolutions<float>(shape) == Convolutions{1, 1, 1});
        CHECK(convolutions<float>(pointwise) == Convolutions{1, 1, 1});
        CHECK_THROWS_WITH_AS(convolutions<float>(shape, 1),
                             "[conv1d] cuDNN has nothing for this problem", Error);
    }
    CHECK(convolutions<float>(shape) == Convolutions{1, 1, 1});
}

TEST_CASE("NaN flows through the relu after cuDNN") {
    Backend b;
    conv_kernels(b);
    TestContext context(1);
    GuardedBuffer<float> x(8), w(4), bias(1), y(2);
    x.fill(1);
    w.fill(1);
    bias.fill(-10);
    x[3] = std::nanf("");
    const UseConvolver use(Convolver::cudnn);
    b.f32.conv1d(context, y.data(), x.data(), w.data(), nullptr, bias.data(), true,
                 {1, 2, 4, 1, 1, 1, 0, 1});
    CHECK(std::isnan(y[0]));
    CHECK(y[1] == 0);
}

}  // namespace
}  // namespace mc::testing
