// A convolution's kernels against direct loops in double: results, gradients, bounds.
#pragma once

#include <algorithm>
#include <vector>

#include "tests/kernels/kernel_test_util.h"

namespace mc::testing {

// Calls f(y index, x index, w index) for every product of the convolution.
template <class F>
void each_product(const ConvShape& s, F&& f) {
    for (int64_t b = 0; b < s.batch; ++b)
        for (int64_t t = 0; t < s.t_out(); ++t)
            for (int64_t co = 0; co < s.c_out; ++co)
                for (int64_t k = 0; k < s.kernel; ++k) {
                    const int64_t at = t * s.stride - s.padding + k * s.dilation;
                    if (at < 0 || at >= s.t_in) continue;
                    for (int64_t ci = 0; ci < s.c_in; ++ci)
                        f((b * s.t_out() + t) * s.c_out + co, (b * s.t_in + at) * s.c_in + ci,
                          (co * s.c_in + ci) * s.kernel + k);
                }
}

template <class T>
struct ConvResult {
    std::vector<T> y, dx, dw, dbias;
    bool operator==(const ConvResult&) const = default;
};

enum class Check : uint8_t {
    none,
    each,    // errors in proportion to the sum of an element's products' magnitudes
    largest  // to the largest such sum: where an element is made of its neighbours' sums too
};

// What a table's two kernels make of random numbers, compared with the reference.
template <class T>
ConvResult<T> run_conv(const ConvKernels<T>& kernels, const ConvShape& s, bool with_bias, bool relu,
                       TestContext& context, Check check) {
    CAPTURE(s.batch);
    CAPTURE(s.t_in);
    CAPTURE(s.c_in);
    CAPTURE(s.c_out);
    CAPTURE(s.kernel);
    CAPTURE(s.stride);
    CAPTURE(s.padding);
    CAPTURE(s.dilation);
    const int64_t ny = s.batch * std::max<int64_t>(s.t_out(), 0) * s.c_out;
    const int64_t nx = s.batch * s.t_in * s.c_in, nw = s.c_out * s.c_in * s.kernel;
    const int64_t shift = (s.c_in + s.t_in) % 2;  // aligned, as kernels can make use of, and not
    GuardedBuffer<T> y(ny, shift), x(nx, shift), w(nw, 3), bias(s.c_out), dy(ny, shift),
        dx(nx, shift), dw(nw, 1), dbias(s.c_out, 1);
    fill_random(x, 1);
    fill_random(w, 2);
    fill_random(bias, 3);
    fill_random(dy, 4);
    fill_random(dw, 5);
    fill_random(dbias, 6);
    std::vector<double> want_y(static_cast<size_t>(ny)), size_y(want_y.size());
    std::vector<double> want_dx(static_cast<size_t>(nx)), size_dx(want_dx.size());
    std::vector<double> want_dw(static_cast<size_t>(nw)), size_dw(want_dw.size());
    std::vector<double> want_db(static_cast<size_t>(s.c_out)), size_db(want_db.size());
    if (check != Check::none) {
        const auto add = [](std::vector<double>& sum, std::vector<double>& size, int64_t i,
                            double v) {
            sum[static_cast<size_t>(i)] += v;
            size[static_cast<size_t>(i)] += std::fabs(v);
        };
        for (int64_t i = 0; i < ny; ++i) {
            if (with_bias) add(want_y, size_y, i, static_cast<double>(bias[i % s.c_out]));
            add(want_db, size_db, i % s.c_out, static_cast<double>(dy[i]));
        }
        for (int64_t i = 0; i < s.c_out; ++i)
            add(want_db, size_db, i, static_cast<double>(dbias[i]));
        for (int64_t i = 0; i < nw; ++i) add(want_dw, size_dw, i, static_cast<double>(dw[i]));
        each_product(s, [&](int64_t iy, int64_t ix, int64_t iw) {
            const double xv = static_cast<double>(x[ix]), wv = static_cast<double>(w[iw]),
                         g = static_cast<double>(dy[iy]);
            add(want_y, size_y, iy, xv * wv);
            add(want_dx, size_dx, ix, g * wv);
            add(want_dw, size_dw, iw, g * xv);
        });
        if (relu)
            for (double& v : want_y) v = std::max(v, 0.0);
    }
    const T* b = with_bias ? bias.data() : nullptr;
    kernels.conv1d(context, y.data(), x.data(), w.data(), nullptr, b, relu, s);
    if constexpr (std::is_same_v<T, float>)
        if (kernels.pack_conv1d && kernels.conv1d_packing(s).bytes > 0) {
            // The same bits from a weight that was packed before.
            const int64_t floats = kernels.conv1d_packing(s).bytes / 4;
            GuardedBuffer<T> packed(floats), again(ny, shift);
            kernels.pack_conv1d(context, packed.data(), w.data(), s);
            kernels.conv1d(context, again.data(), x.data(), w.data(), packed.data(), b, relu, s);
            CHECK(again.copy() == y.copy());
        }
    kernels.conv1d_backward(context, dx.data(), dw.data(), dbias.data(), dy.data(), x.data(),
                            w.data(), s);
    if (check != Check::none) {
        if (check == Check::largest)
            for (auto* size : {&size_y, &size_dx, &size_dw})
                if (!size->empty())
                    std::fill(size->begin(), size->end(),
                              *std::max_element(size->begin(), size->end()));
        for (auto* size : {&size_y, &size_dx, &size_dw, &size_db})
            for (double& v : *size) v = v * 20 * epsilon<T>() + 1e-300;
        CHECK_NEAR(y.data(), want_y, size_y);
        CHECK_NEAR(dx.data(), want_dx, size_dx);
        CHECK_NEAR(dw.data(), want_dw, size_dw);
        CHECK_NEAR(dbias.data(), want_db, size_db);
    }
    return {y.copy(), dx.copy(), dw.copy(), dbias.copy()};
}

}  // namespace mc::testing
