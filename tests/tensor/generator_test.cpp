#include "tensor/generator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mc;

TEST_CASE("philox: the published known answers") {
    // Random123 1.14, kat_vectors, philox4x32-10: counter and key 0; all bits set.
    const PhiloxBlock zero = philox(0, 0, 0);
    CHECK(zero.word[0] == 0x6627e8d5u);
    CHECK(zero.word[1] == 0xe169c58du);
    CHECK(zero.word[2] == 0xbc57ac4cu);
    CHECK(zero.word[3] == 0x9b00dbd8u);
    const PhiloxBlock ones = philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0});
    CHECK(ones.word[0] == 0x408f276du);
    CHECK(ones.word[1] == 0x41c83b0eu);
    CHECK(ones.word[2] == 0xa20bc7c6u);
    CHECK(ones.word[3] == 0x6d5451fdu);
}

TEST_CASE("generator: single draws lie in their ranges and are not constant") {
    Generator g(7);
    double sum = 0, square = 0;
    std::vector<int> counts(5);
    for (int i = 0; i < 5000; ++i) {
        const double u = g.uniform();
        CHECK_UNARY(u >= 0 && u < 1);
        ++counts[g.below(5)];
        const double z = g.normal();
        sum += z;
        square += z * z;
    }
    CHECK(std::abs(sum / 5000) < 5 / std::sqrt(5000.0));  // 5 standard errors
    CHECK(std::abs(square / 5000 - 1) < 5 * std::sqrt(2 / 5000.0));
    for (int count : counts) CHECK(std::abs(count - 1000) < 150);  // 5 standard deviations
    CHECK(g.below(1) == 0);
}

TEST_CASE("generator: a permutation holds every index once, and differs between draws") {
    Generator g(3);
    CHECK(g.permutation(0).empty());
    CHECK(g.permutation(1) == std::vector<int64_t>{0});
    const auto first = g.permutation(1000), second = g.permutation(1000);
    CHECK(first != second);
    std::vector<int64_t> sorted = first, identity(1000);
    std::sort(sorted.begin(), sorted.end());
    std::iota(identity.begin(), identity.end(), 0);
    CHECK(sorted == identity);
    CHECK(first != identity);
}

TEST_CASE("generator: every permutation of three is equally likely") {
    Generator g(11);
    std::vector<int> counts(27);
    for (int i = 0; i < 6000; ++i) {
        const auto p = g.permutation(3);
        ++counts[static_cast<size_t>(p[0] * 9 + p[1] * 3 + p[2])];
    }
    int seen = 0;
    for (int count : counts)
        if (count > 0) {
            ++seen;
            CHECK(std::abs(count - 1000) < 150);  // 5 standard deviations
        }
    CHECK(seen == 6);
}

TEST_CASE("generator: a restored position goes on with the same draws") {
    Generator g(42);
    g.uniform();
    g.permutation(10);
    const uint64_t seed = g.seed(), position = g.position();
    const auto draw = [](Generator& from) {
        return std::tuple(from.uniform(), from.below(1000), from.normal(), from.permutation(20));
    };
    const auto want = draw(g);
    Generator fresh(0);
    fresh.restore(seed, position);
    CHECK(draw(fresh) == want);
    CHECK(fresh.position() == g.position());
    Generator constructed(seed, position);
    CHECK(draw(constructed) == want);
    Generator other(43, position);
    CHECK(draw(other) != want);
}

TEST_CASE("generator: tensors are the same for every thread count and after a restore") {
    const auto draw = [](Generator g) {
        std::vector<float> all = g.uniform({1000, 33}, -2, 3).to_vector<float>();
        const auto z = g.normal({40001}, 1, 2).to_vector<float>();
        all.insert(all.end(), z.begin(), z.end());
        return all;
    };
    const int threads = num_threads();
    const auto want = draw(Generator(9, 5));
    for (int n : {1, 2, 3}) {
        set_num_threads(n);
        CHECK(draw(Generator(9, 5)) == want);
    }
    set_num_threads(threads);
    CHECK(draw(Generator(9, 6)) != want);
    double sum = 0;
    for (size_t i = 0; i < 33000; ++i) {
        CHECK_UNARY(want[i] >= -2 && want[i] < 3);
        sum += want[i];
    }
    CHECK(std::abs(sum / 33000 - 0.5) < 0.04);  // 5 standard errors
    sum = 0;
    for (size_t i = 33000; i < want.size(); ++i) sum += want[i];
    CHECK(std::abs(sum / 40001 - 1) < 0.05);  // 5 standard errors
    Generator doubles(1);
    CHECK(doubles.normal({10}, 0, 1, DType::f64).dtype() == DType::f64);
    CHECK_THROWS_AS(doubles.uniform({2}, 0, 1, DType::i64), Error);
}
