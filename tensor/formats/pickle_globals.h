// The names that a checkpoint's pickle may mention, and what "calling" one makes. There is no other
// way for a name to mean anything: see pickle.h.
#pragma once

#include <optional>
#include <string_view>

namespace mc {

enum class PyCall {
    inert,           // an object that keeps its arguments
    dict,            // a dict, empty or of its argument
    list,            // likewise
    tuple,           //
    set,             //
    first_argument,  // its first argument, as it is
    encode,          // text as Latin-1 bytes (_codecs.encode: how protocol 2 spells bytes)
};

// What calling MODULE.NAME makes; nothing if the name is not on the list.
std::optional<PyCall> pickle_global(std::string_view module, std::string_view name);

// Why a name that is not on the list is not, for the error line: "runs code" and the like.
std::string_view pickle_global_refusal(std::string_view module, std::string_view name);

}  // namespace mc
