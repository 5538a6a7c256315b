#include "motion/statistics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "tensor/formats/npy.h"
#include "tests/test_paths.h"

using namespace mc::motion;

namespace {

FeatureSequence wavy(int64_t frames, int64_t dims, double shift) {
    FeatureSequence f{frames, dims, 20, {}};
    for (int64_t t = 0; t < frames; ++t)
        for (int64_t c = 0; c < dims; ++c)
            f.rows.push_back(
                static_cast<float>(shift + std::sin(0.7 * static_cast<double>(t * (c + 1)))));
    return f;
}

}  // namespace

TEST_CASE("statistics: means of columns, deviations averaged within groups") {
    for (int64_t dims : {263, 251}) {
        const FeatureSequence a = wavy(37, dims, 100), b = wavy(20, dims, 101);
        FeatureStatistics s(dims);
        s.add(a);
        s.add(b);
        CHECK(s.rows() == 57);
        std::vector<int> constant;
        const Normalisation n = s.finish(&constant);
        CHECK(constant.empty());
        std::vector<double> deviation;
        for (int64_t c = 0; c < dims; ++c) {  // two plain passes
            double mean = 0, square = 0;
            for (const auto* f : {&a, &b})
                for (int64_t t = 0; t < f->frames; ++t) mean += f->at(t)[c] / 57.0;
            for (const auto* f : {&a, &b})
                for (int64_t t = 0; t < f->frames; ++t)
                    square += std::pow(f->at(t)[c] - mean, 2) / 57;
            CHECK(n.mean[static_cast<size_t>(c)] == doctest::Approx(mean).epsilon(1e-12));
            deviation.push_back(std::sqrt(square));
        }
        int64_t covered = 0;
        for (const auto& [from, to] : feature_groups(dims)) {
            CHECK(from == covered);
            covered = to;
            double sum = 0;
            for (int64_t c = from; c < to; ++c) sum += deviation[static_cast<size_t>(c)];
            for (int64_t c = from; c < to; ++c)
                CHECK(n.std[static_cast<size_t>(c)] ==
                      doctest::Approx(sum / static_cast<double>(to - from)).epsilon(1e-10));
        }
        CHECK(covered == dims);
    }
}

TEST_CASE("statistics: groups that never change get 1 and are named") {
    FeatureStatistics s(263);
    CHECK_THROWS_AS(s.finish(), mc::Error);
    s.add({3, 263, 20, std::vector<float>(3 * 263, 7.f)});
    std::vector<int> constant;
    const Normalisation n = s.finish(&constant);
    CHECK(constant.size() == 7);
    CHECK(n.std[100] == 1);
    CHECK(n.mean[100] == 7);
    CHECK_THROWS_AS(s.add(wavy(2, 251, 0)), mc::Error);
    CHECK_THROWS_AS(FeatureStatistics(100), mc::Error);
}

TEST_CASE("feat_bias divides the first four and the last four deviations, once or twice") {
    const Normalisation plain{std::vector<double>(263, 0.0), std::vector<double>(263, 50.0)};
    const double want[] = {50, 10, 2};
    for (int power : {0, 1, 2}) {
        const Normalisation n = with_feat_bias(plain, power);
        for (size_t c = 0; c < 263; ++c)
            CHECK(n.std[c] == doctest::Approx(c < 4 || c >= 259 ? want[power] : 50));
        CHECK(n.mean == plain.mean);
    }
    CHECK_THROWS_AS(with_feat_bias(plain, 3), mc::Error);
    CHECK_THROWS_AS(with_feat_bias(plain, -1), mc::Error);
}

TEST_CASE("normalisation files: written, read, undone, refused when broken") {
    mc::testing::ScratchDir scratch;
    const auto mean = scratch.path / "Mean.npy", std = scratch.path / "Std.npy";
    Normalisation n{std::vector<double>(251), std::vector<double>(251)};
    for (size_t c = 0; c < 251; ++c) {
        n.mean[c] = 0.1 * static_cast<double>(c);
        n.std[c] = 1 + 0.01 * static_cast<double>(c);
    }
    write_normalisation(n, mean, std, true);
    const Normalisation again = read_normalisation(mean, std);
    CHECK(again.mean == n.mean);
    CHECK(again.std == n.std);
    write_normalisation(n, mean, std);
    CHECK(read_normalisation(mean, std, 2).std[0] == doctest::Approx(1.0 / 25));
    CHECK(mc::read_npy(mean).descr == "<f4");

    const FeatureSequence f = wavy(9, 251, 3);
    std::vector<float> z(f.rows.size());
    n.normalise(f.rows.data(), z.data(), 9);
    CHECK(z[5] == doctest::Approx((f.rows[5] - n.mean[5]) / n.std[5]).epsilon(1e-6));
    n.denormalise(z.data(), z.data(), 9);
    for (size_t i = 0; i < z.size(); ++i) CHECK(z[i] == doctest::Approx(f.rows[i]).epsilon(1e-5));

    auto refused = [&](const std::vector<double>& values) {
        mc::write_npy(std, {static_cast<int64_t>(values.size())}, values.data());
        CHECK_THROWS_AS(read_normalisation(mean, std), mc::Error);
    };
    refused(std::vector<double>(250, 1.0));
    refused(std::vector<double>(263, 1.0));
    refused(std::vector<double>(251, 0.0));
    refused(std::vector<double>(251, std::numeric_limits<double>::quiet_NaN()));
    CHECK_THROWS_AS(read_normalisation(scratch.path / "no.npy", std), mc::Error);
}

TEST_CASE("the published statistics differ by the double feat_bias") {
    if (!mc::testing::have_shared("data/meta/t2m_std.npy")) return;
    const auto shared = mc::testing::shared_dir() / "data";
    const Normalisation ours =
        read_normalisation(shared / "HumanML3D/Mean.npy", shared / "HumanML3D/Std.npy", 2);
    const Normalisation meta =
        read_normalisation(shared / "meta/t2m_mean.npy", shared / "meta/t2m_std.npy");
    for (size_t c = 0; c < 263; ++c)
        CHECK(ours.std[c] == doctest::Approx(meta.std[c]).epsilon(0.012));
    CHECK(read_normalisation(shared / "meta/kit_mean.npy", shared / "meta/kit_std.npy").dims() ==
          251);
}
