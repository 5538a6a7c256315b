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
                    table.adamw(context, {p.data(), m.data(), v.data(), g.data(), n, 1e-2, 0.9,
                                          0.99, 1e-8, 0.1, 0.25, k});
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
    b.f64.adamw(context, {p, m, v, g, 2, 0.01, 0.9, 0.999, 1e-12, 0, 1, 1});
    CHECK(p[0] == doctest::Approx(0.99).epsilon(1e-9));
    CHECK(p[1] == doctest::Approx(1.01).epsilon(1e-8));
}

TEST_CASE("adamw lets a NaN gradient through") {
    Backend b;
    optim_kernels(b);
    TestContext context(1);
    float p[3] = {1, 1, 1}, m[3] = {}, v[3] = {}, g[3] = {1, std::nanf(""), 1};
    b.f32.adamw(context, {p, m, v, g, 3, 0.01, 0.9, 0.999, 1e-8, 0, 1, 1});
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
        b.f32.adamw(context,
                    {p, m.data(), v.data(), g.data(), n, 1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 1});
    });
}

}  // namespace
}  // namespace mc::testing
