// Which clips train, which validate, which test: by capture trial, so that nothing the models saw
// is tested.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mc::motion {

enum class Split : uint8_t { kTrain, kVal, kTest };
const char* split_name(Split split);  // "train", "val", "test"

// The name of the trial a clip was cut from: cuts "_s1", "_s2", ... of one trial and known
// near-copies in the CMU database (the same take exported twice, or shared by several data sets)
// have one name.
std::string capture_trial(std::string_view clip);

struct SplitItem {
    std::string trial;  // items of one trial share a split
    std::string category;
};

struct SplitShares {
    double val = 0.05, test = 0.10;  // of each category, by items; what is left trains
};

// One split an item. Depends on the items' trials and categories and on `seed` alone: not on their
// order, not on the machine. A category with at least 6 trials has at least one item in test; with
// at least 10, one in val. Small categories are served first, because trials that mix categories (a
// dance that starts with a walk) count for all of theirs. Error: shares that are negative or leave
// nothing to train.
std::vector<Split> split_by_trial(const std::vector<SplitItem>& items, SplitShares shares,
                                  uint64_t seed);

}  // namespace mc::motion
