// What a call throws, as text.
#pragma once

#include <doctest/doctest.h>

#include <concepts>
#include <string>

#include "kernels/error.h"

namespace mc::testing {

// The text of the Error that f throws; empty if it throws none.
template <std::invocable F>
std::string error_of(F&& f) {
    try {
        f();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

// True if the part is there; shows the text where it is not.
inline bool contains(const std::string& text, const std::string& part) {
    const bool found = text.find(part) != std::string::npos;
    if (!found) MESSAGE(text);
    return found;
}

// True if the message is one line and has the words.
inline bool says(const std::string& message, const std::string& words) {
    return contains(message, words) && message.find('\n') == std::string::npos;
}

}  // namespace mc::testing
