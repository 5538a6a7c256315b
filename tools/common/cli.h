// The front that all programs share: how they fail, and the options that they all have.
//
//     int main(int argc, char** argv) {
//         CLI::App app("Builds motion data sets.", "motion");
//         mc::tools::CommonOptions common;
//         mc::tools::add_common_options(app, common);
//         return mc::tools::run_program(app, argc, argv, [&] {
//             const mc::DeviceType device = mc::tools::apply(common);
//             ...
//             return 0;
//         });
//     }
//
// Exit status: 0 done, 1 failed, 2 wrong usage. Failures are one line on standard error, after the
// program's name; --help goes to standard output.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "kernels/dtype.h"

namespace mc::tools {

// Parses, then returns what `body` returns. Parsing errors give 2 and point to --help (of the
// subcommand, if one was named); an exception of the body gives 1, and so does a body that returns
// 0, or --help, while its standard output could not be written (full disk).
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

// Checks of an option's value: a whole number, or a finite one, from `least` to `most`. CLI::Range
// lets NaN through, and takes a whole number of too many digits for the largest there is.
CLI::Validator whole(int64_t least, int64_t most = std::numeric_limits<int64_t>::max());
CLI::Validator finite(double least, double most);

// Text on standard error. That nobody can read it (full disk, closed) is no reason to stop, as it
// would be by fmt::print, which throws.
template <typename... Args>
void notice(fmt::format_string<Args...> format, Args&&... args) {
    std::fputs(fmt::format(format, std::forward<Args>(args)...).c_str(), stderr);
}

struct CommonOptions {
    int threads = 0;  // 0: as many as this process may use
    std::string device = "cpu";
};

// --threads N and --device cpu|cuda.
void add_common_options(CLI::App& app, CommonOptions& options);

// What --help of those that train says of several processes.
std::string processes_help();

// Sets the number of threads. Error if the device cannot be used here.
DeviceType apply(const CommonOptions& options);

}  // namespace mc::tools
