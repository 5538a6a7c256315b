// The tokenizer's stage: what it refuses to begin with, and what it measures.
#include "train/vq_stage.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "tests/error_of.h"
#include "tests/synthetic_dataset.h"
#include "train/presets.h"

using namespace mc;
using namespace mc::train;

namespace {

VqStageOptions tiny(const MotionDataOptions& data) {
    VqStageOptions options;
    options.model.net.width = options.model.net.code_dim = options.model.quantizer.code_dim = 8;
    options.model.net.depth = 1;
    options.model.quantizer.nb_code = 16;
    options.model.quantizer.num_quantizers = 2;
    options.batch = 2;
    options.window = 16;
    options.data = data;
    return options;
}

}  // namespace

TEST_CASE("vq stage: splits without a motion of a window or a token are refused at once") {
    const testing::SyntheticDataset motions(40, 34, false);
    const auto error = [&](int64_t window, int64_t down_t) {
        VqStageOptions options = tiny(motions.options);
        options.window = window;
        options.model.net.down_t = down_t;
        return testing::error_of([&] { VqStage stage(options); });
    };
    CHECK(error(16, 2).empty());
    CHECK(error(64, 2) == "[data] no motion has 64 frames; choose a smaller window");
    // The longest clips are all in the train split.
    const MotionData train(motions.options);
    int64_t longest = 0, shortest = 1000;
    std::string named;
    for (const motion::MotionSample& sample : train.samples()) {
        longest = std::max(longest, sample.frames);
        if (sample.frames < shortest) named = sample.clip;
        shortest = std::min(shortest, sample.frames);
    }
    REQUIRE(shortest < 32);
    REQUIRE(longest >= 32);
    std::ofstream(motions.options.root + "/val.txt") << named << "\n";
    CHECK(error(32, 5) ==
          "[vq] no motion of the val split is as long as a token, of 32 frames; set a smaller "
          "model.down_t");
}

TEST_CASE("vq stage: with every_window each window comes once an epoch, in another order each") {
    const testing::SyntheticDataset motions(40, 34, false);
    VqStageOptions options = tiny(motions.options);
    options.every_window = true;
    options.batch = 7;
    VqStage stage(options), again(options);
    const motion::WindowIndex index(MotionData(motions.options).samples(), options.window);
    const int64_t steps = index.size() / options.batch;
    REQUIRE(steps > 3);
    using Windows = std::map<std::pair<size_t, int64_t>, int>;
    Windows all;
    for (int64_t k = 0; k < index.size(); ++k) ++all[{index.at(k).sample, index.at(k).start}];
    std::vector<std::vector<std::pair<size_t, int64_t>>> orders;
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
        Windows seen;
        orders.emplace_back();
        for (int64_t step = epoch * steps; step < (epoch + 1) * steps; ++step)
            for (const auto& [sample, start] : stage.windows(step)) {
                orders.back().emplace_back(sample, start);
                CHECK(++seen[{sample, start}] <= all.at({sample, start}));
            }
        CHECK(static_cast<int64_t>(orders.back().size()) == steps * options.batch);
    }
    CHECK(orders[0] != orders[1]);
    CHECK(again.windows(steps)[3].start == stage.windows(steps)[3].start);  // of the step alone
    Generator generator(1);
    CHECK(std::isfinite(stage.step(2 * steps + 1, generator).at("loss")));

    options.batch = index.size() + 1;
    CHECK(testing::error_of([&] { VqStage many(options); }).find("windows there are") !=
          std::string::npos);
    const auto read = [](const std::string& preset, const std::vector<std::string>& settings) {
        return vq_stage_options(resolve_config(vq_presets(), preset, {}, settings), "x");
    };
    CHECK(read("humanml3d", {}).every_window);
    CHECK_FALSE(read("humanml3d-bad", {}).every_window);
    CHECK_FALSE(read("small", {}).every_window);
    CHECK_THROWS_WITH_AS(read("humanml3d", {"speed_change=0.25"}),
                         "every_window=true takes each window once and as it is, which "
                         "speed_change=0.25 contradicts; set that to 0 or every_window=false",
                         Error);
}

TEST_CASE("vq stage: motions that are shorter than a token have no part in the error") {
    const testing::SyntheticDataset motions(40, 34, false);
    const MotionData data(motions.options);
    VqStageOptions options = tiny(motions.options);
    options.model.net.down_t = 5;
    Generator init(3);
    vq::RvqVae model(options.model, &init);
    for (auto& [name, codebook] : model.quantizer().buffers())
        codebook->copy_(Generator(4).normal(codebook->shape()));
    const auto all = static_cast<size_t>(
        std::count_if(data.samples().begin(), data.samples().end(),
                      [](const motion::MotionSample& sample) { return sample.frames >= 32; }));
    REQUIRE(all > 1);
    REQUIRE(all < data.samples().size());
    const ReconstructionError whole = reconstruction_error(model, data);
    // However few are asked for, some are found.
    for (size_t clips = 1; clips <= all; ++clips)
        CHECK(std::isfinite(reconstruction_error(model, data, clips).mpjpe_mm));
    CHECK(reconstruction_error(model, data, all).mpjpe_mm == whole.mpjpe_mm);
}
