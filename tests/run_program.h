// Runs a built program as a user would, and keeps what it said.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace mc::testing {

struct Outcome {
    int status = -1;   // exit status; -1 if it was killed
    std::string text;  // standard output and error
};

inline Outcome run_command(const std::string& command) {
    Outcome outcome;
    std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::array<char, 4096> buffer;
    while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe))
        outcome.text.append(buffer.data(), n);
    const int status = ::pclose(pipe);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
}

inline Outcome run_program(const std::string& program, const std::string& arguments) {
    return run_command(std::string(MOCLIP_BINARY_DIR) + "/bin/" + program + " " + arguments);
}

}  // namespace mc::testing
