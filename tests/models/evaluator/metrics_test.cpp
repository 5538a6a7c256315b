#include "models/evaluator/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.h"

using namespace mc;
using namespace mc::evaluator;

namespace {

Tensor normal(const Shape& shape, uint64_t seed, double std = 1) {
    Generator generator(seed);
    return generator.normal(shape, 0, std);
}

std::vector<double> random_symmetric(int64_t n, uint64_t seed) {
    const std::vector<float> u = normal({n, n}, seed).to_vector<float>();
    std::vector<double> a(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j <= i; ++j)
            a[static_cast<size_t>(i * n + j)] = a[static_cast<size_t>(j * n + i)] =
                static_cast<double>(u[static_cast<size_t>(i * n + j)]);
    return a;
}

// Largest element of A V - V diag(values), and of V^T V - I.
double residual(const std::vector<double>& a, const std::vector<double>& values,
                const std::vector<double>& v, int64_t n) {
    double worst = 0;
    const auto at = [n](const std::vector<double>& m, int64_t i, int64_t j) {
        return m[static_cast<size_t>(i * n + j)];
    };
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) {
            double product = -at(v, i, j) * values[static_cast<size_t>(j)], gram = i == j ? -1 : 0;
            for (int64_t k = 0; k < n; ++k) {
                product += at(a, i, k) * at(v, k, j);
                gram += at(v, k, i) * at(v, k, j);
            }
            worst = std::max({worst, std::abs(product), std::abs(gram)});
        }
    return worst;
}

}  // namespace

TEST_CASE("eigenvalues: vectors and values solve the equation, at any size and rank") {
    for (const int64_t n : {1, 2, 3, 7, 40}) {
        CAPTURE(n);
        const auto a = random_symmetric(n, static_cast<uint64_t>(n));
        std::vector<double> vectors;
        const auto values = symmetric_eigenvalues(a, n, &vectors);
        CHECK(std::is_sorted(values.begin(), values.end()));
        CHECK(residual(a, values, vectors, n) < 1e-13 * static_cast<double>(n + 10));
        const auto alone = symmetric_eigenvalues(a, n);
        for (size_t i = 0; i < alone.size(); ++i) CHECK(std::abs(alone[i] - values[i]) < 1e-12);
    }
    // Rank one, zero, and diagonal matrices, whose reflections have nothing to reflect.
    std::vector<double> vectors;
    const std::vector<double> ones(16, 1.0), zeros(16, 0.0);
    auto values = symmetric_eigenvalues(ones, 4, &vectors);
    CHECK(values[3] == doctest::Approx(4));
    CHECK(std::abs(values[2]) < 1e-14);
    CHECK(residual(ones, values, vectors, 4) < 1e-14);
    CHECK(symmetric_eigenvalues(zeros, 4) == std::vector<double>(4, 0.0));
    CHECK(symmetric_eigenvalues({3, 0, 0, -1}, 2) == std::vector<double>{-1, 3});
    CHECK_THROWS_AS(symmetric_eigenvalues({1, 2, 3}, 2), Error);
    CHECK_THROWS_WITH_AS(symmetric_eigenvalues({std::nan("")}, 1), doctest::Contains("NaN"), Error);
}

TEST_CASE("metrics: R-precision counts a text's own motion among the nearest of its pool") {
    // On a line: text i at i, its motion at i + shift.
    const auto line = [](std::vector<float> x) {
        const auto n = static_cast<int64_t>(x.size());
        return Rows(Tensor::from_span<float>({x.data(), x.size()}, {n, 1}));
    };
    const Rows text = line({0, 1, 2, 3, 0, 1, 2, 3, 9});
    CHECK(r_precision(text, text, 4, 3) == std::vector<double>{1, 1, 1});
    CHECK(matching_score(text, text, 4) == 0);
    // Pool 1: motions 1, 0, 2, 3 swap the first two; pool 2 is right; the ninth fills no pool.
    const Rows swapped = line({1, 0, 2, 3, 0, 1, 2, 3, 100});
    CHECK(r_precision(text, swapped, 4, 2)[0] == doctest::Approx(0.75));
    CHECK(r_precision(text, swapped, 4, 2)[1] == doctest::Approx(1));
    CHECK(matching_score(text, swapped, 4) == doctest::Approx(0.25));
    CHECK_THROWS_WITH_AS(r_precision(text, swapped, 32), doctest::Contains("do not fill a pool"),
                         Error);
    CHECK_THROWS_WITH_AS(r_precision(text, line({1, 2})), doctest::Contains("not pairs"), Error);
}

TEST_CASE("metrics: the Frechet distance of known covariances") {
    // Uncorrelated columns: |mu|^2 + sum (s_a - s_b)^2, exactly those of the samples.
    const Tensor a = Tensor::from({1, 1, 1, -1, -1, 1, -1, -1}, {4, 2}),
                 b = Tensor::from({5, 2, 5, -2, -1, 2, -1, -2}, {4, 2});
    const double unit = std::sqrt(4.0 / 3);  // of a column of +-1
    const double want = 4 + std::pow(3 * unit - unit, 2) + std::pow(2 * unit - unit, 2);
    CHECK(frechet_distance(Rows(a), Rows(b)) == doctest::Approx(want).epsilon(1e-12));
    CHECK(std::abs(frechet_distance(Rows(a), Rows(a))) < 1e-14);
    // Symmetric, and unchanged by a turn of the space.
    const Tensor x = normal({50, 12}, 1), y = normal({40, 12}, 2, 1.3);
    const double there = frechet_distance(Rows(x), Rows(y));
    CHECK(frechet_distance(Rows(y), Rows(x)) == doctest::Approx(there).epsilon(1e-10));
}

TEST_CASE("metrics: covariances without full rank give a real, finite Frechet distance") {
    // Of a size at which the many zero eigenvalues have to be told from rounding.
    const Tensor wide = normal({60, 200}, 5);
    CHECK(std::abs(frechet_distance(Rows(wide), Rows(wide))) < 1e-9);
    const Tensor x = normal({5, 30}, 1), y = normal({4, 30}, 2);
    const double there = frechet_distance(Rows(x), Rows(y)),
                 back = frechet_distance(Rows(y), Rows(x));
    CHECK(std::isfinite(there));
    CHECK(there > 0);
    CHECK(back == doctest::Approx(there).epsilon(1e-9));
    CHECK(std::abs(frechet_distance(Rows(x), Rows(x))) < 1e-10);
    // All rows the same on one side: the other's trace is left, with the distance of the means.
    const Tensor still = Tensor::full({6, 30}, 0.5);
    double trace = 0, squares = 0;
    for (int64_t c = 0; c < 30; ++c) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < 5; ++i) mean += static_cast<double>(x.item<float>({i, c})) / 5;
        for (int64_t i = 0; i < 5; ++i)
            variance += std::pow(static_cast<double>(x.item<float>({i, c})) - mean, 2) / 4;
        trace += variance;
        squares += (mean - 0.5) * (mean - 0.5);
    }
    CHECK(frechet_distance(Rows(x), Rows(still)) == doctest::Approx(trace + squares));
    CHECK_THROWS_WITH_AS(frechet_distance(Rows(normal({1, 3}, 1)), Rows(normal({5, 3}, 2))),
                         doctest::Contains("at least 2"), Error);
    CHECK_THROWS_AS(frechet_distance(Rows(normal({4, 3}, 1)), Rows(normal({5, 2}, 2))), Error);
    Tensor bad = normal({4, 3}, 1);
    bad.data<float>()[4] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH_AS(Rows{bad}, doctest::Contains("embedding 1"), Error);
}

TEST_CASE("metrics: choices, diversity, multimodality, joint errors, intervals") {
    Generator generator(3);
    GeneratorSource draws(generator);
    std::vector<int64_t> all = choose(50, 50, draws, "x");
    std::sort(all.begin(), all.end());
    for (int64_t i = 0; i < 50; ++i) CHECK(all[static_cast<size_t>(i)] == i);
    CHECK_THROWS_AS(choose(3, 4, draws, "x"), Error);
    const Rows line(Tensor::from({0, 3, 7}, {3, 1}));
    CHECK(diversity(line, {0, 1}, {1, 2}) == doctest::Approx(3.5));
    CHECK_THROWS_AS(diversity(line, {0}, {3}), Error);
    CHECK_THROWS_AS(diversity(line, {0}, {1, 2}), Error);
    CHECK(multimodality(Tensor::from({0, 3, 7, 0, 0, 1}, {2, 3, 1}), {0}, {2}) ==
          doctest::Approx(4));
    // The root's own error does not count: frame 1 is moved as a whole.
    const Tensor truth = Tensor::from({0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0}, {2, 2, 3});
    const Tensor made = Tensor::from({0, 0, 0, 1, 3, 4, 5, 5, 5, 6, 5, 5}, {2, 2, 3});
    CHECK(joint_errors(truth, made) == std::vector<double>{2.5, 0});
    const Interval interval = interval95({1, 2, 3, 4});
    CHECK(interval.mean == doctest::Approx(2.5));
    CHECK(interval.half_width == doctest::Approx(1.96 * std::sqrt(1.25) / 2));
    CHECK(interval95({7}).half_width == 0);
    CHECK_THROWS_AS(interval95({}), Error);
}

TEST_CASE("metrics: everything at once, and the same for the same draws") {
    const Tensor text = normal({64, 8}, 1), real = normal({64, 8}, 2), many = normal({5, 12, 8}, 3);
    const auto run = [&](const Tensor& made) {
        Generator generator(7);
        GeneratorSource draws(generator);
        return score(text, made, real, many, {}, draws);
    };
    const Scores own = run(text), other = run(real);
    CHECK(own.r_precision == std::vector<double>{1, 1, 1});
    CHECK(own.matching == 0);
    CHECK(std::abs(other.fid.value()) < 1e-10);
    CHECK(other.r_precision[0] < 0.3);
    CHECK(own.multimodality == other.multimodality);
    CHECK(run(real).diversity == other.diversity);
}
