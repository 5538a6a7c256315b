// The mode `--data` of the program `evaluate`: the field's evaluation on a data set
// (train/evaluation.h).
#pragma once

#include "tools/common/evaluated.h"

namespace mc::tools {

struct DataOptions {
    std::string data, evaluator, glove, split = "test", lengths;
    int64_t repeats = 20, takes = 30;
    bool real = false;
};

// What belongs to the mode alone; `data` is the option that chooses it. Returns --real, which
// excludes all that names another thing to evaluate.
CLI::Option* add_data_options(CLI::App& app, DataOptions& options, CLI::Option* data);

int evaluate_data(const DataOptions& options, const Evaluated& what);

}  // namespace mc::tools
