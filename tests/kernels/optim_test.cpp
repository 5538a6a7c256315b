#include "kernels/optim.h"

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

struct Moments {
    double p, m, v;
};

// One step of the header's formula for one parameter.
Moments step_of(Moments s, double g, double lr, double beta1, double beta2, double eps, double wd,
                double grad_scale, int64_t k) {
    g *= grad_scale;
    s.p *= 1 - lr * wd;
    s.m = beta1 * s.m + (1 - beta1) * g;
    s.v = beta2 * s.v + (1 - beta2) * g * g;
    const double m_hat = s.m / (1 - std::pow(beta1, static_cast<double>(k)));
    const double v_hat = s.v / (1 - std::pow(beta2, static_cast<double>(k)));
    s.p -= lr * m_hat / (std::sqrt(v_hat) + eps);
    return s;
}

// A group of one.
template <class T>
void adamw(KernelTable<T>& table, Context& context, const typename OptimKernels<T>::AdamWItem& item,
           double beta1, double beta2, double eps, double grad_scale) {
    table.adamw(context, {&item, 1, beta1, beta2, eps, grad_scale});
}

TEST_CASE_TEMPLATE("adamw follows the formula over several steps", T, float, double) {
    for_each_table<T>(optim_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : vector_sizes()) {
            for (int64_t shift : {0, 1}) {
                GuardedBuffer<T> p(n, shift), m(n, shift), v(n), g(n, shift);
                fill_random(p, 1);
                m.fill(0);
                v.fill(0);
                std::vector<Moments> want;
                for (int64_t i = 0; i < n; ++i) want.push_back({static_cast<double>(p[i]), 0, 0});
                for (int64_t k = 1; k <= 3; ++k) {
                    fill_random(g, 10 + static_cast<uint64_t>(k), -100, 100);
                    adamw(table, context, {p.data(), m.data(), v.data(), g.data(), n, 1e-2, 0.1, k},
                          0.9, 0.99, 1e-8, 0.25);
                    for (int64_t i = 0; i < n; ++i)
                        want[static_cast<size_t>(i)] =
                            step_of(want[static_cast<size_t>(i)], static_cast<double>(g[i]), 1e-2,
                                    0.9, 0.99, 1e-8, 0.1, 0.25, k);
                }
                std::vector<double> want_p, want_m, want_v;
                for (const Moments& s : want) {
                    want_p.push_back(s.p);
                    want_m.push_back(s.m);
                    want_v.push_back(s.v);
                }
                CHECK_NEAR(p.data(), want_p, within(8 * epsilon<T>()));
                CHECK_NEAR(m.data(), want_m, within(100 * epsilon<T>()));
                CHECK_NEAR(v.data(), want_v, within(200 * epsilon<T>()));
            }
        }
    });
}

TEST_CASE("adamw's first step has the size of the learning rate") {
    Backend b;
    optim_kernels(b);
    TestContext context(1);
    double p[2] = {1, 1}, m[2] = {}, v[2] = {}, g[2] = {3, -1e-3};
    adamw(b.f64, context, {p, m, v, g, 2, 0.01, 0, 1}, 0.9, 0.999, 1e-12, 1);
    CHECK(p[0] == doctest::Approx(0.99).epsilon(1e-9));
    CHECK(p[1] == doctest::Approx(1.01).epsilon(1e-8));
}

TEST_CASE_TEMPLATE("adamw of a group is that of each item", T, float, double) {
    Backend b;
    optim_kernels(b);
    TestContext context(2);
    // More than one launch's worth on CUDA; empty ones, and some of several chunks.
    std::vector<int64_t> sizes = {0, 1, 4095, 4096, 4097, 0, 9000};
    for (int64_t n = 0; n < 70; ++n) sizes.push_back(n % 7);
    struct Parameter {
        std::vector<T> p, m, v, g;
    };
    const auto make = [&] {
        std::vector<Parameter> parameters;
        for (int64_t n : sizes) {
            const auto count = static_cast<size_t>(n + 1);
            Parameter x{std::vector<T>(count), std::vector<T>(count), std::vector<T>(count),
                        std::vector<T>(count)};
            const uint64_t seed = 4 * parameters.size();
            fill_random(x.p.data(), n, seed);
            fill_random(x.m.data(), n, seed + 1);
            fill_random(x.v.data(), n, seed + 2, 0, 1);
            fill_random(x.g.data(), n, seed + 3);
            parameters.push_back(std::move(x));
        }
        return parameters;
    };
    std::vector<Parameter> alone = make(), together = make();
    std::vector<typename OptimKernels<T>::AdamWItem> items;
    for (size_t i = 0; i < sizes.size(); ++i) {
        const auto item = [&](Parameter& x) {
            const auto number = static_cast<int64_t>(i);
            return typename OptimKernels<T>::AdamWItem{x.p.data(),
                                                       x.m.data(),
                                                       x.v.data(),
                                                       x.g.data(),
                                                       sizes[i],
                                                       1e-3 * static_cast<double>(number),
                                                       0.01 * static_cast<double>(number),
                                                       1 + number};
        };
        adamw(b.table<T>(), context, item(alone[i]), 0.9, 0.99, 1e-8, 0.5);
        items.push_back(item(together[i]));
    }
    b.table<T>().adamw(context,
                       {items.data(), static_cast<int64_t>(items.size()), 0.9, 0.99, 1e-8, 0.5});
    for (size_t i = 0; i < sizes.size(); ++i) {
        CAPTURE(i);
        CHECK(alone[i].p == together[i].p);
        CHECK(alone[i].m == together[i].m);
        CHECK(alone[i].v == together[i].v);
    }
    CHECK(together[6].p != make()[6].p);
}

TEST_CASE("adamw lets a NaN gradient through") {
    Backend b;
    optim_kernels(b);
    TestContext context(1);
    float p[3] = {1, 1, 1}, m[3] = {}, v[3] = {}, g[3] = {1, std::nanf(""), 1};
    adamw(b.f32, context, {p, m, v, g, 3, 0.01, 0, 1}, 0.9, 0.999, 1e-8, 1);
    CHECK(std::isfinite(p[0]));
    CHECK(std::isnan(p[1]));
    CHECK(std::isfinite(p[2]));
}

TEST_CASE("adamw does not depend on the number of threads") {
    Backend b;
    optim_kernels(b);
    constexpr int64_t n = 70001;
    std::vector<float> g(n);
    fill_random(g.data(), n, 3);
    check_thread_counts<float>(n, [&](Context& context, float* p) {
        fill_random(p, n, 4);
        std::vector<float> m(n), v(n);
        adamw(b.f32, context, {p, m.data(), v.data(), g.data(), n, 1e-3, 0.01, 1}, 0.9, 0.999, 1e-8,
              1);
    });
}

}  // namespace
}  // namespace mc::testing
