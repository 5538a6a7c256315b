// What CUDA's side of the table promises besides the contracts that the operator suite checks.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>

#include "kernels/cpu/fill.h"
#include "kernels/cuda.h"
#include "kernels/cuda/blaslt.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/shared_kernels.h"
#include "tests/kernels/kernel_test_util.h"
#include "tests/simt/device_cuda.h"
#include "tests/simt/staging.h"

namespace mc::testing {
namespace {

// C of a dense product by run(args), which gets device memory.
template <class T, class F>
std::vector<T> product(const MatmulArgs<T>& host, F&& run) {
    std::vector<T> c(static_cast<size_t>(host.m * host.n));
    MatmulArgs<T> args = host;
    args.c = c.data();
    Staging s;
    s.write(args.c, host.m * host.n);
    s.read(args.a, host.m * host.k);
    s.read(args.b, host.k * host.n);
    s.upload();
    args.c = s(args.c);
    args.a = s(args.a);
    args.b = s(args.b);
    run(args);
    s.download();
    return c;
}
template <class T>
std::vector<T> product(const MatmulArgs<T>& host, cuda::Tile tile) {
    return product(
        host, [&](const MatmulArgs<T>& args) { cuda::gemm(cuda_default_context(), args, tile); });
}

TEST_CASE("the device under test") {
    MESSAGE("device under test: " << device_under_test().description);
    REQUIRE_MESSAGE(cuda_available(), "no CUDA device can be used here");
    CHECK(device_available(DeviceType::cuda));
    CHECK(&backend(DeviceType::cuda) == &cuda_backend());
    CHECK(cuda_default_context().pool == nullptr);
    CHECK(cuda_default_context().workspace != nullptr);
}

TEST_CASE_TEMPLATE("matmul: every tile gives the same bits", T, float, double) {
    for (auto [m, n, k] : {std::array<int64_t, 3>{150, 137, 70}, {33, 129, 16}, {64, 64, 1}})
        for (bool trans_a : {false, true})
            for (bool trans_b : {false, true}) {
                std::vector<T> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(k * n));
                fill_random(a.data(), m * k, 1);
                fill_random(b.data(), k * n, 2);
                MatmulArgs<T> args;
                args.a = a.data();
                args.b = b.data();
                args.m = m;
                args.n = args.ldc = n;
                args.k = k;
                args.trans_a = trans_a;
                args.trans_b = trans_b;
                args.lda = trans_a ? m : k;
                args.ldb = trans_b ? k : n;
                const std::vector<T> small = product(args, cuda::Tile::of_32);
                CHECK(small == product(args, cuda::Tile::of_64));
                CHECK(small == product(args, cuda::Tile::of_128));
                std::vector<double> want, bound;
                for (int64_t i = 0; i < m; ++i)
                    for (int64_t j = 0; j < n; ++j) {
                        double sum = 0, size = 0;
                        for (int64_t p = 0; p < k; ++p) {
                            const size_t at_a =
                                static_cast<size_t>(trans_a ? p * m + i : i * k + p);
                            const size_t at_b =
                                static_cast<size_t>(trans_b ? j * k + p : p * n + j);
                            const double v =
                                static_cast<double>(a[at_a]) * static_cast<double>(b[at_b]);
                            sum += v;
                            size += std::fabs(v);
                        }
                        want.push_back(sum);
                        bound.push_back(static_cast<double>(k) * epsilon<T>() * size);
                    }
                CHECK_NEAR(small.data(), want, bound);
            }
}

TEST_CASE_TEMPLATE("cuBLASLt, where it is there, has something for every transpose", T, float,
                   double) {
    if (!cuda::blaslt_available()) return;
    constexpr int64_t n = 64;
    std::vector<T> a(n * n), b(n * n);
    fill_random(a.data(), n * n, 1);
    fill_random(b.data(), n * n, 2);
    for (bool trans_a : {false, true})
        for (bool trans_b : {false, true}) {
            MatmulArgs<T> args;
            args.a = a.data();
            args.b = b.data();
            args.m = args.n = args.k = args.lda = args.ldb = args.ldc = n;
            args.trans_a = trans_a;
            args.trans_b = trans_b;
            const std::vector<T> want = product(args, cuda::Tile::of_64);
            const std::vector<T> got = product(args, [&](const MatmulArgs<T>& on_device) {
                CHECK(cuda::blaslt_product(cuda_default_context(), on_device,
                                           {DTypeOf<T>::value, on_device.a, on_device.b},
                                           on_device.c));
            });
            // Two orders of a sum of n terms in [-1, 1].
            CHECK_NEAR(got.data(), std::vector<double>(want.begin(), want.end()),
                       std::vector<double>{n * epsilon<T>()});
        }
}

TEST_CASE("cuBLASLt, where it is there, multiplies bf16 and f16, with a bias and without") {
    if (!cuda::blaslt_available()) return;
    constexpr int64_t n = 64;
    for (const DType dtype : {DType::bf16, DType::f16})
        for (bool biased : {false, true}) {
            CAPTURE(std::string(name_of(dtype)));
            CAPTURE(biased);
            const uint16_t half = dtype == DType::bf16 ? 0x3f00 : 0x3800;  // 0.5
            std::vector<uint16_t> a(n * n, half), b(n * n, half);
            std::vector<float> c(n * n), bias(n, 3);
            Staging s;
            s.write(c.data(), n * n);
            s.read(a.data(), n * n);
            s.read(b.data(), n * n);
            s.read(bias.data(), n);
            s.upload();
            MatmulArgs<float> args;
            args.m = args.n = args.k = args.lda = args.ldb = args.ldc = n;
            args.trans_b = true;
            if (biased) args.epilogue.bias = s(bias.data());
            CHECK(cuda::blaslt_product(cuda_default_context(), args,
                                       {dtype, s(a.data()), s(b.data())}, s(c.data())));
            s.download();
            CHECK(c == std::vector<float>(n * n, biased ? 19.0f : 16.0f));
        }
}

// Of channels in packs of 16 bytes; what it has for others is its affair, and the suite meets both.
TEST_CASE("cuDNN, where it is there, has something for convolutions in f32") {
    if (!cuda::dnn_available()) return;
    Backend b;
    conv_kernels(b);
    TestContext context(1);
    for (const ConvShape& s : {ConvShape{3, 20, 32, 16, 3, 1, 1, 1},
                               {3, 20, 32, 16, 3, 1, 9, 9},
                               {3, 20, 32, 16, 4, 2, 1, 1}}) {
        const int64_t nx = s.batch * s.t_in * s.c_in, ny = s.batch * s.t_out() * s.c_out,
                      nw = s.c_out * s.c_in * s.kernel;
        GuardedBuffer<float> x(nx), w(nw), dy(ny), bias(s.c_out);
        fill_random(x, 1);
        fill_random(w, 2);
        fill_random(dy, 3);
        fill_random(bias, 4);
        const auto run = [&](Convolver who) {
            const UseConvolver use(who);
            GuardedBuffer<float> y(ny), dx(nx), dw(nw), dbias(s.c_out);
            dw.fill(0);
            dbias.fill(0);
            b.f32.conv1d(context, y.data(), x.data(), w.data(), nullptr, bias.data(), true, s);
            b.f32.conv1d_backward(context, dx.data(), dw.data(), dbias.data(), dy.data(), x.data(),
                                  w.data(), s);
            std::vector<float> all = y.copy();
            for (const auto* more : {&dx, &dw, &dbias})
                all.insert(all.end(), more->data(), more->data() + more->size());
            return all;
        };
        const std::vector<float> want = run(Convolver::own);
        std::vector<float> got;
        try {
            got = run(Convolver::cudnn);
        } catch (const Error& error) {  // no deterministic algorithm of the kind that is wanted
            MESSAGE("SKIPPED: " << error.what());
            continue;
        }
        // Two orders of a sum of as many terms in [-1, 1]: taps and channels, or frames.
        const double terms = static_cast<double>(
            std::max(s.kernel * std::max(s.c_in, s.c_out) + 1, s.batch * s.t_out()));
        CHECK_NEAR(got.data(), std::vector<double>(want.begin(), want.end()),
                   std::vector<double>{terms * epsilon<float>()});
        CHECK(got == run(Convolver::cudnn));
    }
}

TEST_CASE("rows that take a whole block equal the CPU's") {
    Backend cuda, cpu;
    softmax_kernels(cuda);
    norm_kernels(cuda);
    fill_softmax(cpu);
    fill_norm(cpu);
    TestContext context(1);
    for (int64_t cols : {1025, 2600}) {
        constexpr int64_t rows = 3;
        const auto count = static_cast<size_t>(rows * cols);
        std::vector<double> x(count), got(count), want(count), norm(rows);
        fill_random(x.data(), rows * cols, 1, -3, 3);
        // Sums of `cols` terms of size 1 in f64.
        const std::vector<double> bound = {static_cast<double>(cols) * epsilon<double>()};
        const auto compare = [&](auto&& run) {
            run(cuda.f64, got.data());
            run(cpu.f64, want.data());
            CHECK_NEAR(got.data(), want, bound);
        };
        compare([&](auto& t, double* y) { t.softmax(context, y, x.data(), rows, cols); });
        compare([&](auto& t, double* y) { t.log_softmax(context, y, x.data(), rows, cols); });
        compare([&](auto& t, double* y) {
            t.l2_normalize(context, y, norm.data(), x.data(), rows, cols, 1e-12);
        });
        compare([&](auto& t, double* y) {
            t.layer_norm(context, {y, nullptr, nullptr, nullptr, x.data(), nullptr, nullptr,
                                   nullptr, rows, cols, 1e-5});
        });
    }
}

TEST_CASE("what CUDA cannot do is an error that names operation, value and remedy") {
    AttentionArgs<double> a;
    a.batch = a.heads = a.lq = a.lk = 1;
    a.head_dim = 300;
    std::string what;
    try {
        cuda_backend().f64.attention(cuda_default_context(), a);
    } catch (const Error& e) {
        what = e.what();
    }
    CHECK(
        what.starts_with("[attention] head_dim: got 300, want at most 256, and in f64 what the "));
    CHECK(what.ends_with("; use more heads or the device cpu"));
}

TEST_CASE("top_k of rows too long to be sorted in shared memory") {
    constexpr int64_t rows = 2, n = 3000, k = 7;
    std::vector<float> src(rows * n);
    std::vector<int64_t> index(rows * k);
    fill_random(src.data(), rows * n, 5);
    for (float& v : src) v = std::floor(50 * v);  // ties
    src[40] = std::nanf("");
    Backend b;
    reduce_kernels(b);
    TestContext context(1);
    b.f32.top_k(context, index.data(), src.data(), rows, n, k);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = r == 0 ? 1 : 0; i < k; ++i) {
            // Nothing that is not listed before it goes before it.
            const int64_t at = index[static_cast<size_t>(r * k + i)];
            const float value = src[static_cast<size_t>(r * n + at)];
            int64_t before = 0;
            for (int64_t j = 0; j < n; ++j) {
                const float v = src[static_cast<size_t>(r * n + j)];
                before += v > value || (v == value && j < at) || std::isnan(v);
            }
            CHECK(before == i);
        }
    CHECK(index[0] == 40);
}

}  // namespace
}  // namespace mc::testing
