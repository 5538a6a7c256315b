#include "tools/common/cli.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <new>
#include <system_error>

#include "kernels/backend.h"
#include "kernels/cuda.h"
#include "kernels/error.h"
#include "tensor/formats/temporary.h"

namespace mc::tools {
namespace {

// CLI11 breaks some of its messages; a failure is one line here.
std::string one_line(const std::string& text) {
    std::string out;
    for (char c : text) {
        if (c != '\n')
            out += c;
        else if (!out.empty() && out.back() != ' ')
            out += ' ';
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
}

// A message without text: another process of the run says it (train/data_parallel.h).
int fail(const CLI::App& app, const std::string& message, int status) {
    std::fflush(stdout);  // what was done comes before what failed
    if (message.empty()) return status;
    notice("{}: {}\n", app.get_name(), one_line(message));
    return status;
}

// The program and the subcommands that were named: "motion dataset build".
std::string command_of(const CLI::App& app) {
    std::string command = app.get_name();
    const CLI::App* at = &app;
    while (!at->get_subcommands().empty()) {
        at = at->get_subcommands().front();
        command += " " + at->get_name();
    }
    return command;
}

// Where a program is started without a standard stream, the first file that it opens would become
// that stream. What is opened here instead cannot be read or written, as a closed one.
void fill_standard_streams() {
    for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(stream, F_GETFD) < 0)
            static_cast<void>(
                ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY));  // the lowest
}

// What the program returns that is done, but for what standard output still holds.
int finish(const CLI::App& app) {
    errno = 0;
    std::cout.flush();
    if (std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout) return 0;
    return fail(
        app, fmt::format("cannot write to standard output: {}", std::strerror(errno ? errno : EIO)),
        1);
}

}  // namespace

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
    fill_standard_streams();
    remove_temporaries_on_signals();
    std::signal(SIGXFSZ, SIG_IGN);  // a file beyond `ulimit -f` is an error of its write
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& e) {
        app.exit(e);
        return finish(app);
    } catch (const CLI::ParseError& e) {
        return fail(app, fmt::format("{}; see {} --help", one_line(e.what()), command_of(app)), 2);
    }
    try {
        const int status = body();
        return status == 0 ? finish(app) : status;
    } catch (const std::bad_alloc&) {
        return fail(app, "out of memory; use a smaller batch or model", 1);
    } catch (const std::system_error& e) {  // fmt::print names no file
        const int error = e.code().value();
        return std::ferror(stdout)
                   ? fail(app,
                          fmt::format("cannot write to standard output: {}", std::strerror(error)),
                          1)
                   : fail(app, e.what(), 1);
    } catch (const std::exception& e) {
        return fail(app, e.what(), 1);
    }
}

CLI::Validator whole(int64_t least, int64_t most) {
    const bool open = most == std::numeric_limits<int64_t>::max();
    const std::string range =
        open ? fmt::format("INT from {}", least) : fmt::format("INT in [{} - {}]", least, most);
    const std::string want = open ? fmt::format("a whole number from {} below 2^63", least)
                                  : fmt::format("a whole number from {} to {}", least, most);
    return CLI::Validator(
        [=](std::string& text) {
            char* end = nullptr;
            errno = 0;
            const long long value = std::strtoll(text.c_str(), &end, 0);  // 0: as CLI11 reads it
            const bool right =
                !text.empty() && *end == '\0' && errno == 0 && value >= least && value <= most;
            return right ? std::string() : fmt::format("{} is not {}", text, want);
        },
        range);
}

CLI::Validator finite(double least, double most) {
    return CLI::Validator(
        [=](std::string& text) {
            char* end = nullptr;
            const double value = std::strtod(text.c_str(), &end);
            const bool right = !text.empty() && *end == '\0' && value >= least && value <= most;
            return right ? std::string()
                         : fmt::format("{} is not a number from {} to {}", text, least, most);
        },
        fmt::format("FLOAT in [{} - {}]", least, most));
}

void add_common_options(CLI::App& app, CommonOptions& options) {
    app.add_option("--threads", options.threads, "how many cores to use [all]")
        ->check(whole(1, 1024));
    app.add_option("--device", options.device, "cpu or cuda")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->capture_default_str();
}

std::string processes_help() {
    return "Several processes, each on a GPU or cores of its own, are started by mpirun (OpenMPI). "
           "The setting batch\nis of all of them and a multiple of their number; --out is on a "
           "disk "
           "that they share. --threads is each\none's; without a GPU give each its cores, as with "
           "mpirun -n 2 --map-by slot:pe=16.\n"
           "As root, in a container, mpirun wants --allow-run-as-root.";
}

DeviceType apply(const CommonOptions& options) {
    const DeviceType device = options.device == "cuda" ? DeviceType::cuda : DeviceType::cpu;
    if (!device_available(device))
        throw Error("--device cuda: " + cuda_description() + "; use --device cpu");
    if (options.threads > 0) set_num_threads(options.threads);
    return device;
}

}  // namespace mc::tools
