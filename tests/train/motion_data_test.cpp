// What the trainers draw from a data set.
#include "train/motion_data.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <set>

#include "motion/mirror_text.h"
#include "motion/motion_file.h"
#include "tests/synthetic_dataset.h"

using namespace mc;
using namespace mc::train;

TEST_CASE("motion data: no clip is drawn twice before all were") {
    const MotionData data(testing::SyntheticDataset(40, 26, true).options);
    const auto all = static_cast<int64_t>(data.samples().size());
    REQUIRE(all >= 16);
    Generator generator(5);
    const std::vector<size_t> drawn = data.draw_distinct(2 * all + 3, generator);
    REQUIRE(drawn.size() == static_cast<size_t>(2 * all + 3));
    const auto at = [&](int64_t i) { return drawn.begin() + static_cast<std::ptrdiff_t>(i); };
    CHECK(std::set<size_t>(at(0), at(all)).size() == static_cast<size_t>(all));
    CHECK(std::set<size_t>(at(all), at(2 * all)).size() == static_cast<size_t>(all));

    std::set<size_t> four_steps;
    const int64_t batch = all / 4;
    for (int64_t step = 0; step < 4; ++step)
        for (const DrawnClip& clip : draw_batch(data, batch, 1, step))
            four_steps.insert(clip.sample);
    CHECK(four_steps.size() == static_cast<size_t>(4 * batch));
}

TEST_CASE("motion data: every pass over a few clips has an order of its own") {
    const testing::SyntheticDataset made(40, 26, false);
    // Of equal lengths, so that batches keep the order of the draws.
    const MotionData whole(made.options);
    for (const motion::MotionSample& sample : whole.samples()) {
        motion::FeatureSequence features = *sample.features;
        features.frames = made.options.min_frames;
        features.rows.resize(static_cast<size_t>(features.frames * features.dims));
        motion::write_features(
            std::filesystem::path(made.options.root) / "new_joint_vecs" / (sample.name + ".npy"),
            features, false);
    }
    const MotionData data(made.options);
    const size_t all = data.samples().size(), passes = 3;  // a step
    std::set<std::vector<size_t>> orders;
    constexpr int64_t kSteps = 16;
    for (int64_t step = 0; step < kSteps; ++step) {
        const auto clips = draw_batch(data, static_cast<int64_t>(passes * all), 1, step);
        for (size_t pass = 0; pass < passes; ++pass) {
            std::vector<size_t> order;
            for (size_t i = pass * all; i < (pass + 1) * all; ++i) order.push_back(clips[i].sample);
            CHECK(std::set<size_t>(order.begin(), order.end()).size() == all);
            orders.insert(order);
        }
    }
    CHECK(orders.size() == kSteps * passes);
}

TEST_CASE("motion data: clips that cannot be read are named and counted") {
    const testing::SyntheticDataset made(40, 26, true);
    const MotionData whole(made.options);
    CHECK(whole.left_out().empty());
    int64_t broken = 0;
    for (const motion::MotionSample& sample : whole.samples()) {
        if (broken == 5) break;
        std::filesystem::resize_file(
            std::filesystem::path(made.options.root) / "new_joint_vecs" / (sample.name + ".npy"),
            100);
        ++broken;
    }
    const MotionData rest(made.options);
    const std::vector<std::string> lines = rest.left_out();
    REQUIRE(lines.size() == 4);  // the first three, and how many
    CHECK(lines[0].find(".npy") != std::string::npos);
    CHECK(lines[3] == "split train: 5 clips cannot be read and are left out, " +
                          std::to_string(rest.samples().size()) + " samples are used");
    const MotionData val(with_split(made.options, "val"));
    CHECK(left_out(rest, val) == lines);
}

TEST_CASE("motion data: a tokenizer's own normalisation takes the data set's place") {
    const testing::SyntheticDataset made(12, 26, true);
    const MotionData own(made.options);
    MotionDataOptions options = made.options;
    options.normalisation = own.normalisation();
    for (double& mean : options.normalisation->mean) mean += 1;
    for (double& std : options.normalisation->std) std *= 2;
    std::filesystem::remove(std::filesystem::path(options.root) / "Mean.npy");
    const MotionData theirs(options);
    const Tensor a = own.normalised(0, 0, 2), b = theirs.normalised(0, 0, 2);
    for (int64_t d = 0; d < own.dims(); ++d) {
        const double std = own.normalisation().std[static_cast<size_t>(d)];
        CHECK(
            static_cast<double>(b.data<float>()[d]) ==
            doctest::Approx((static_cast<double>(a.data<float>()[d]) - 1 / std) / 2).epsilon(1e-5));
    }
    options.normalisation->mean.pop_back();
    CHECK_THROWS_WITH_AS(MotionData{options}, doctest::Contains("name data of its skeleton"),
                         Error);
}

TEST_CASE("motion data: a mirrored motion and its original are each other's twins") {
    const MotionData data(testing::SyntheticDataset(40, 26, true).options);
    const std::vector<size_t> twins = data.mirror_twins();
    for (size_t i = 0; i < twins.size(); ++i) {
        REQUIRE(twins[i] != i);
        CHECK(twins[twins[i]] == i);
        CHECK(data.samples()[i].mirrored() != data.samples()[twins[i]].mirrored());
        CHECK(data.samples()[i].frames == data.samples()[twins[i]].frames);
    }
}

TEST_CASE("motion data: contrastive batches pair sides and repeat no caption") {
    const MotionData data(testing::SyntheticDataset(40, 26, true).options);
    const std::vector<size_t> twins = data.mirror_twins();
    const CaptionSource captions("", 0);
    int pairs = 0;
    for (int64_t step = 0; step < 12; ++step) {
        Generator generator(9, static_cast<uint64_t>(step));
        const std::vector<DrawnClip> drawn = draw_batch(data, 8, 2, step);
        const auto [clips, said] = with_mirror_pairs(data, twins, captions, drawn, generator);
        REQUIRE(clips.size() == said.size());
        CHECK(clips.size() <= drawn.size());
        CHECK(std::set<std::string>(said.begin(), said.end()).size() == said.size());
        std::set<size_t> samples;
        for (const DrawnClip& clip : clips) samples.insert(clip.sample);
        CHECK(samples.size() == clips.size());
        for (size_t i = 0; i + 1 < clips.size(); ++i)
            if (twins[clips[i].sample] == clips[i + 1].sample &&
                motion::mirror_caption(said[i]) == said[i + 1] && said[i] != said[i + 1])
                ++pairs;
    }
    CHECK(pairs > 0);
}

TEST_CASE("motion data: another speed is another sampling of the same motion") {
    const MotionData data(testing::SyntheticDataset(40, 26, true).options);
    const int64_t d = data.dims(), all = data.samples()[0].frames;
    const Tensor plain = data.normalised(0, 0, all), same = Tensor::empty({1, all, d});
    data.at_speed(0, 0, all, 1, same.data<float>());
    CHECK(same.to_vector<float>() == plain.to_vector<float>());

    // Twice as fast: every second row, with twice the velocities.
    bool walks = false;
    for (size_t sample = 0; sample < data.samples().size(); ++sample) {
        const int64_t frames = (data.samples()[sample].frames - 1) / 2;
        std::vector<float> fast(static_cast<size_t>(frames * d)), want(fast.size());
        data.at_speed(sample, 1, frames, 2, fast.data());
        for (int64_t i = 0; i < frames; ++i)
            for (int64_t c = 0; c < d; ++c) {
                const bool velocity = c < 3 || (c >= 193 && c < 259);
                const float value = data.samples()[sample].rows()[(1 + 2 * i) * d + c];
                want[static_cast<size_t>(i * d + c)] = value * (velocity ? 2.0f : 1.0f);
                walks |= c == 2 && value != 0;
            }
        data.normalisation().normalise(want.data(), want.data(), frames);
        CHECK(fast == want);
    }
    CHECK(walks);

    // Half as fast: between two rows lies their mean; the last row is the clip's.
    std::vector<float> slow(static_cast<size_t>((2 * all - 1) * d)), joints(static_cast<size_t>(d));
    data.at_speed(0, 0, 2 * all - 1, 0.5, slow.data());
    for (int64_t c = 4; c < 193; ++c) {
        const auto at = [&](int64_t row) {
            return static_cast<double>(plain.item<float>({0, row, c}));
        };
        CHECK(static_cast<double>(slow[static_cast<size_t>(5 * d + c)]) ==
              doctest::Approx((at(2) + at(3)) / 2).epsilon(1e-4));
        CHECK(static_cast<double>(slow[static_cast<size_t>((2 * all - 2) * d + c)]) ==
              doctest::Approx(at(all - 1)).epsilon(1e-4));
    }

    // Four times as slow: a foot touches the floor as in the nearer row, the later of two.
    std::vector<float> slower(static_cast<size_t>((4 * all - 3) * d));
    data.at_speed(0, 0, 4 * all - 3, 0.25, slower.data());
    bool changes = false;
    for (int64_t i = 0; i < 4 * all - 3; ++i)
        for (int64_t c = 259; c < d; ++c) {
            CHECK(slower[static_cast<size_t>(i * d + c)] == plain.item<float>({0, (i + 2) / 4, c}));
            changes |= plain.item<float>({0, i / 4, c}) != plain.item<float>({0, (i + 2) / 4, c});
        }
    CHECK(changes);
}
