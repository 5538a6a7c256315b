#include "kernels/random.h"

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

TEST_CASE("philox gives the published known answers") {
    // Random123's kat_vectors for philox4x32-10: counter, key, result.
    const PhiloxBlock zeros = philox(0, 0, 0);
    CHECK(zeros.word[0] == 0x6627e8d5u);
    CHECK(zeros.word[1] == 0xe169c58du);
    CHECK(zeros.word[2] == 0xbc57ac4cu);
    CHECK(zeros.word[3] == 0x9b00dbd8u);
    const PhiloxBlock ones = philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0});
    CHECK(ones.word[0] == 0x408f276du);
    CHECK(ones.word[1] == 0x41c83b0eu);
    CHECK(ones.word[2] == 0xa20bc7c6u);
    CHECK(ones.word[3] == 0x6d5451fdu);
    const PhiloxBlock pi = philox(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u);
    CHECK(pi.word[0] == 0xd16cfe09u);
    CHECK(pi.word[1] == 0x94fdcceb);
    CHECK(pi.word[2] == 0x5001e420u);
    CHECK(pi.word[3] == 0x24126ea1u);
}

double draw(const RandomStream& r, int64_t i) {
    return uniform_from_bits(
        philox(r.seed, r.stream, static_cast<uint64_t>(i / 4)).word[static_cast<size_t>(i % 4)]);
}

TEST_CASE_TEMPLATE("uniform draws are the definition's, bit for bit", T, float, double) {
    const RandomStream random{0x123456789abcdef0u, 0xfedcba9876543210u};
    for_each_table<T>(random_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : {0, 1, 3, 4, 5, 31, 1023, 1025, 40003}) {
            GuardedBuffer<T> dst(n, 1);
            table.uniform(context, dst.data(), T(-2), T(3), random, n);
            int64_t wrong = 0;
            for (int64_t i = 0; i < n; ++i)
                wrong += dst[i] != T(-2) + (T(3) - T(-2)) * static_cast<T>(draw(random, i));
            CHECK(wrong == 0);
        }
    });
}

TEST_CASE_TEMPLATE("normal draws are Box-Muller on draws 2i and 2i + 1", T, float, double) {
    const RandomStream random{7, 11};
    for_each_table<T>(random_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : {0, 1, 2, 3, 511, 513, 9001}) {
            GuardedBuffer<T> dst(n, 1);
            table.normal(context, dst.data(), T(0.5), T(2), random, n);
            std::vector<double> want;
            for (int64_t i = 0; i < n; ++i)
                want.push_back(0.5 + 2 * std::sqrt(-2 * std::log(1 - draw(random, 2 * i))) *
                                         std::cos(2 * M_PI * draw(random, 2 * i + 1)));
            CHECK_NEAR(dst.data(), want, within(20 * epsilon<T>()));
        }
    });
}

TEST_CASE("draws have the moments of their distributions") {
    Backend b;
    random_kernels(b);
    TestContext context(2);
    constexpr int64_t n = 1000000;
    std::vector<double> x(n);
    const auto moment = [&](double centre, int power) {
        double sum = 0;
        for (double v : x) sum += std::pow(v - centre, power);
        return sum / n;
    };
    b.f64.uniform(context, x.data(), 0.0, 1.0, {1, 2}, n);
    // Four standard deviations of each mean.
    CHECK(std::fabs(moment(0, 1) - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
    CHECK(std::fabs(moment(0.5, 2) - 1.0 / 12) < 4 * std::sqrt(1.0 / 180 / n));
    b.f64.normal(context, x.data(), 0.0, 1.0, {1, 3}, n);
    CHECK(std::fabs(moment(0, 1)) < 4 * std::sqrt(1.0 / n));
    CHECK(std::fabs(moment(0, 2) - 1) < 4 * std::sqrt(2.0 / n));
    CHECK(std::fabs(moment(0, 3)) < 4 * std::sqrt(15.0 / n));
    CHECK(std::fabs(moment(0, 4) - 3) < 4 * std::sqrt(96.0 / n));
    // Neighbours do not correlate.
    double product = 0;
    for (size_t i = 1; i < x.size(); ++i) product += x[i] * x[i - 1];
    CHECK(std::fabs(product / n) < 4 * std::sqrt(1.0 / n));
}

TEST_CASE("random draws do not depend on the number of threads") {
    Backend b;
    random_kernels(b);
    check_thread_counts<float>(100001, [&](Context& context, float* out) {
        b.f32.uniform(context, out, 0.0f, 1.0f, {1, 2}, 100001);
    });
    check_thread_counts<float>(50001, [&](Context& context, float* out) {
        b.f32.normal(context, out, 0.0f, 1.0f, {1, 2}, 50001);
    });
}

}  // namespace
}  // namespace mc::testing
