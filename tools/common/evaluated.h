// What the program `evaluate` judges, whatever the mode: a generator or a folder of motions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/common/model_choice.h"

namespace mc::tools {

struct Evaluated {
    ModelChoice model;
    std::string motions;  // a folder, in place of the model
    std::optional<uint64_t> seed;
    std::string json;  // where the report goes; "" for none
};

}  // namespace mc::tools
