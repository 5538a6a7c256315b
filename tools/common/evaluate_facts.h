// The mode `--facts` of the program `evaluate` (train/fact_score.h).
#pragma once

#include "tools/common/evaluated.h"

namespace mc::tools {

struct FactsOptions {
    std::string facts, strips;
    int64_t seeds = 3;
    bool quiet = false;
};

// What belongs to the mode alone; `facts` is the option that chooses it.
void add_facts_options(CLI::App& app, FactsOptions& options, CLI::Option* facts);

int evaluate_facts(const FactsOptions& options, const Evaluated& what);

}  // namespace mc::tools
