#include "motion/dataset_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "kernels/error.h"

namespace mc::motion {

namespace {

constexpr size_t kTrialsForTest = 6, kTrialsForVal = 10;

// Takes in the CMU database that are the same motion under several names; the first name stands for
// all.
const std::vector<std::vector<std::string_view>> kNearCopies = {
    {"cmu_14_31", "cmu_14_36"},
    {"cmu_07_02", "cmu_07_03"},
    {"cmu_26_01", "cmu_27_01", "cmu_29_01", "cmu_32_01", "cmu_32_02", "cmu_exp_train_walking_22x",
     "cmu_exp_train_walking_23x", "cmu_exp_train_walking_24x", "cmu_exp_train_walking_25x",
     "cmu_exp_train_walking_26x"},
};

// FNV-1a, then SplitMix64's finaliser: a fixed shuffle of the trials for each seed.
uint64_t shuffled(std::string_view name, uint64_t seed) {
    uint64_t h = 0xcbf29ce484222325ull;
    for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    uint64_t z = h + (seed + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

}  // namespace

const char* split_name(Split split) {
    return split == Split::kTrain ? "train" : split == Split::kVal ? "val" : "test";
}

std::string capture_trial(std::string_view clip) {
    std::string_view trial = clip;
    size_t digits = trial.size();
    while (digits > 0 && trial[digits - 1] >= '0' && trial[digits - 1] <= '9') --digits;
    if (digits < trial.size() && digits >= 2 && trial.substr(digits - 2, 2) == "_s")
        trial = trial.substr(0, digits - 2);
    for (const auto& copies : kNearCopies)
        if (std::find(copies.begin(), copies.end(), trial) != copies.end())
            return std::string(copies[0]);
    return std::string(trial);
}

std::vector<Split> split_by_trial(const std::vector<SplitItem>& items, SplitShares shares,
                                  uint64_t seed) {
    if (!(shares.val >= 0) || !(shares.test >= 0) || !(shares.val + shares.test < 1))
        throw Error(fmt::format(
            "[split] shares: got val {} and test {}, want numbers >= 0 with a sum below 1",
            shares.val, shares.test));
    std::map<std::string, std::map<std::string, size_t>> items_of;  // trial -> category -> items
    std::map<std::string, std::set<std::string>> trials_of;         // category -> trials
    std::map<std::string, size_t> size_of;                          // category -> items
    for (const SplitItem& item : items) {
        ++items_of[item.trial][item.category];
        trials_of[item.category].insert(item.trial);
        ++size_of[item.category];
    }
    std::vector<std::string> categories;
    for (const auto& [category, trials] : trials_of) categories.push_back(category);
    std::stable_sort(categories.begin(), categories.end(), [&](const auto& a, const auto& b) {
        return trials_of[a].size() < trials_of[b].size();
    });

    std::map<std::string, Split> split_of;  // trial -> val or test; what is absent trains
    std::map<std::pair<std::string, Split>, size_t> taken;  // items of a category in val or test
    for (const std::string& category : categories) {
        std::vector<std::string> order(trials_of[category].begin(), trials_of[category].end());
        std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
            return std::pair(shuffled(a, seed), a) < std::pair(shuffled(b, seed), b);
        });
        for (Split split : {Split::kTest, Split::kVal}) {
            const double share = split == Split::kTest ? shares.test : shares.val;
            if (order.size() < (split == Split::kTest ? kTrialsForTest : kTrialsForVal)) continue;
            if (share == 0) continue;
            const auto want = std::max<size_t>(
                1,
                static_cast<size_t>(std::lround(share * static_cast<double>(size_of[category]))));
            size_t& have = taken[{category, split}];
            // A trial that would overshoot by more than half waits for the second pass, in which at
            // least one item must be had.
            for (bool must : {false, true})
                for (const std::string& trial : order) {
                    if (must ? have > 0 : have >= want) break;
                    if (split_of.contains(trial)) continue;
                    const size_t more = items_of[trial][category];
                    if (!must && have + more > want + (want + 1) / 2) continue;
                    split_of[trial] = split;
                    for (const auto& [other, count] : items_of[trial])
                        taken[{other, split}] += count;
                }
        }
    }
    std::vector<Split> result;
    for (const SplitItem& item : items) {
        const auto it = split_of.find(item.trial);
        result.push_back(it == split_of.end() ? Split::kTrain : it->second);
    }
    return result;
}

}  // namespace mc::motion
