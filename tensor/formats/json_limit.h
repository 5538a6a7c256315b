// For JSON that comes from outside. The JSON library parses and frees any depth, but copies and
// prints by recursion: a file of a million brackets must not end the program.
//
//     Json json = Json::parse(text, json_depth_limit());
#pragma once

#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace mc {

inline constexpr int kMaxJsonDepth = 100;

// Throws Error on deeper nesting.
inline nlohmann::json::parser_callback_t json_depth_limit() {
    return [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        if (depth > kMaxJsonDepth) throw Error("JSON nested more than 100 deep");
        return true;
    };
}

}  // namespace mc
