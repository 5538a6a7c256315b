// For JSON that comes from outside. The JSON library parses and frees any depth, but copies and
// prints by recursion: a file of a million brackets must not end the program.
//
//     Json json = Json::parse(text, json_depth_limit());
#pragma once

#include <nlohmann/json.hpp>
#include <string>

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

// What is wrong, for a person: the library's own words begin with a code, and where the text is no
// JSON they repeat its bytes, whatever those are.
inline std::string json_problem(const nlohmann::json::exception& error) {
    if (const auto* parse = dynamic_cast<const nlohmann::json::parse_error*>(&error))
        return "not JSON at byte " + std::to_string(parse->byte);
    const std::string text = error.what();  // "[json.exception.out_of_range.403] key 'x' not found"
    const size_t code = text.find("] ");
    return code == std::string::npos ? text : text.substr(code + 2);
}

}  // namespace mc
