#include "motion/dataset_split.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "kernels/error.h"

using namespace mc::motion;

namespace {

// 40 trials of walking with 3 items each, 12 of jumping, 7 of sitting that begin with a walk, 3 of
// turning.
std::vector<SplitItem> sample_items() {
    std::vector<SplitItem> items;
    for (int i = 0; i < 120; ++i) items.push_back({"walk_" + std::to_string(i / 3), "walk"});
    for (int i = 0; i < 12; ++i) items.push_back({"jump_" + std::to_string(i), "jump"});
    for (int i = 0; i < 7; ++i) {
        items.push_back({"sit_" + std::to_string(i), "walk"});
        items.push_back({"sit_" + std::to_string(i), "sit"});
    }
    for (int i = 0; i < 3; ++i) items.push_back({"turn_" + std::to_string(i), "turn"});
    return items;
}

}  // namespace

TEST_CASE("cuts of a trial and known near-copies are one trial") {
    CHECK(capture_trial("cmu_16_55_s1") == "cmu_16_55");
    CHECK(capture_trial("cmu_16_55_s12") == "cmu_16_55");
    CHECK(capture_trial("cmu_16_55") == "cmu_16_55");
    CHECK(capture_trial("cmu_exp_test_running_1") == "cmu_exp_test_running_1");
    CHECK(capture_trial("hdm05_bd_squat1Reps_005") == "hdm05_bd_squat1Reps_005");
    CHECK(capture_trial("cmu_14_31") == capture_trial("cmu_14_36"));
    CHECK(capture_trial("cmu_07_02") == capture_trial("cmu_07_03"));
    CHECK(capture_trial("cmu_exp_train_walking_24x") == capture_trial("cmu_32_02_s1"));
    CHECK(capture_trial("7") == "7");
    CHECK(capture_trial("_s1").empty());
}

TEST_CASE("splits: trials stay together, shares are met, categories appear in test") {
    const auto items = sample_items();
    for (uint64_t seed : {0, 1, 2, 3, 4}) {
        const auto splits = split_by_trial(items, {}, seed);
        std::map<std::string, std::set<Split>> of_trial;
        std::map<std::pair<std::string, Split>, int> count;
        for (size_t i = 0; i < items.size(); ++i) {
            of_trial[items[i].trial].insert(splits[i]);
            ++count[{items[i].category, splits[i]}];
        }
        for (const auto& [trial, all] : of_trial) CHECK(all.size() == 1);
        CHECK(count[{"walk", Split::kTest}] >= 12);
        CHECK(count[{"walk", Split::kTest}] <= 18);
        CHECK(count[{"walk", Split::kVal}] >= 5);
        CHECK(count[{"jump", Split::kTest}] == 1);  // what its share comes to
        CHECK(count[{"jump", Split::kVal}] == 1);
        CHECK(count[{"sit", Split::kTest}] >= 1);
        CHECK(count[{"turn", Split::kTest}] == 0);
        for (const char* category : {"walk", "jump", "sit", "turn"})
            CHECK(count[{category, Split::kTrain}] > 0);
    }
}

TEST_CASE("splits: a trial that overshoots the share by more than half is not taken") {
    std::vector<SplitItem> items;
    for (int i = 0; i < 19; ++i) items.push_back({"small_" + std::to_string(i), "walk"});
    for (int i = 0; i < 21; ++i) items.push_back({"large_" + std::to_string(i / 7), "walk"});
    for (uint64_t seed = 0; seed < 20; ++seed) {
        const auto splits = split_by_trial(items, {.val = 0.1, .test = 0.1}, seed);
        for (Split split : {Split::kTest, Split::kVal})  // 4 are wanted, 6 would do, 7 do not
            CHECK(std::count(splits.begin(), splits.end(), split) == 4);
    }
}

TEST_CASE("splits depend on the seed and not on the order of the items") {
    auto items = sample_items();
    const auto splits = split_by_trial(items, {}, 0);
    CHECK(split_by_trial(items, {}, 0) == splits);
    CHECK(split_by_trial(items, {}, 1) != splits);
    std::reverse(items.begin(), items.end());
    auto reversed = split_by_trial(items, {}, 0);
    std::reverse(reversed.begin(), reversed.end());
    CHECK(reversed == splits);
}

TEST_CASE("splits: shares are checked, nothing need be held out") {
    const auto all = split_by_trial(sample_items(), {0, 0}, 0);
    CHECK(std::count(all.begin(), all.end(), Split::kTrain) == static_cast<long>(all.size()));
    CHECK_THROWS_AS(split_by_trial(sample_items(), {0.5, 0.5}, 0), mc::Error);
    CHECK_THROWS_AS(split_by_trial(sample_items(), {-0.1, 0.5}, 0), mc::Error);
    CHECK(split_by_trial({}, {}, 0).empty());
}
