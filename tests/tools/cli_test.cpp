#include "tools/common/cli.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <new>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::tools;
using mc::testing::ScratchDir;

namespace {

struct Outcome {
    int status;
    std::string out, err;
};

std::string text_of(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

int demo_main(std::vector<std::string> args, const std::function<int()>& body) {
    std::vector<char*> argv;
    for (auto& arg : args) argv.push_back(arg.data());
    CLI::App app("A demonstration.", "demo");
    CommonOptions common;
    add_common_options(app, common);
    int count = 0;
    app.add_option("--count", count, "how many");
    CLI::App* sub = app.add_subcommand("data", "a subcommand");
    sub->add_option("file", "a file")->required();
    return run_program(app, static_cast<int>(argv.size()), argv.data(), [&] {
        apply(common);
        return body();
    });
}

// Runs the program in a child, its output in files (`out_path` and `err_path` replace them),
// without the standard stream `closed`.
Outcome run(const std::vector<std::string>& args, const std::function<int()>& body,
            std::filesystem::path out_path = {}, std::filesystem::path err_path = {},
            int closed = -1) {
    ScratchDir dir;
    if (out_path.empty()) out_path = dir.path / "out";
    if (err_path.empty()) err_path = dir.path / "err";
    std::fflush(nullptr);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::dup2(::open(out_path.c_str(), O_WRONLY | O_CREAT, 0644), 1);
        ::dup2(::open(err_path.c_str(), O_WRONLY | O_CREAT, 0644), 2);
        for (int other = 3; other < 64; ++other) ::close(other);
        if (closed >= 0) ::close(closed);
        const int status = demo_main(args, body);
        std::fflush(nullptr);
        std::cout.flush();
        ::_exit(status);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFEXITED(status));
    return {WEXITSTATUS(status), text_of(dir.path / "out"), text_of(dir.path / "err")};
}

int fine() {
    return 0;
}

}  // namespace

TEST_CASE("cli: the body's status is the program's") {
    CHECK(run({"demo"}, fine).status == 0);
    CHECK(run({"demo"}, [] { return 1; }).status == 1);
    const Outcome printed = run({"demo"}, [] {
        std::puts("done");
        return 0;
    });
    CHECK(printed.out == "done\n");
    CHECK(printed.err.empty());
}

TEST_CASE("cli: an error is one line and status 1") {
    const Outcome failed = run({"demo"}, []() -> int { throw Error("x.npy: truncated"); });
    CHECK(failed.status == 1);
    CHECK(failed.err == "demo: x.npy: truncated\n");
    CHECK(run({"demo"}, []() -> int { throw Error("a\nb\n"); }).err == "demo: a b\n");
    const Outcome memory = run({"demo"}, []() -> int { throw std::bad_alloc(); });
    CHECK(memory.status == 1);
    CHECK(memory.err == "demo: out of memory; use a smaller batch or model\n");
}

TEST_CASE("cli: wrong usage is one line that points to --help and status 2") {
    for (const std::vector<std::string>& args :
         std::vector<std::vector<std::string>>{{"demo", "--what"},
                                               {"demo", "stray"},
                                               {"demo", "--count", "x"},
                                               {"demo", "--count"},
                                               {"demo", "--threads", "0"},
                                               {"demo", "--device", "tpu"}}) {
        const Outcome wrong = run(args, fine);
        INFO(wrong.err);
        CHECK(wrong.status == 2);
        CHECK(wrong.out.empty());
        CHECK(wrong.err.starts_with("demo: "));
        CHECK(wrong.err.ends_with("; see demo --help\n"));
        CHECK(std::count(wrong.err.begin(), wrong.err.end(), '\n') == 1);
    }
    CHECK(run({"demo", "data"}, fine).err == "demo: file is required; see demo data --help\n");
}

TEST_CASE("cli: help goes to standard output with status 0") {
    const Outcome help = run({"demo", "--help"}, [] { return 1; });
    CHECK(help.status == 0);
    CHECK(help.err.empty());
    for (const char* part : {"A demonstration.", "--threads", "--device"})
        CHECK(help.out.find(part) != std::string::npos);
    CHECK(run({"demo", "data", "--help"}, fine).out.find("a subcommand") != std::string::npos);
}

TEST_CASE("cli: a full standard output is a failure") {
    if (!std::filesystem::exists("/dev/full")) return;
    const auto print = [] {
        std::puts("result");
        return 0;
    };
    const Outcome full = run({"demo"}, print, "/dev/full");
    CHECK(full.status == 1);
    CHECK(full.err == "demo: cannot write to standard output: No space left on device\n");
    const auto print_much = [] {  // more than the stream holds: it fails on the way
        for (int i = 0; i < 100000; ++i) fmt::print("{}\n", i);
        return 0;
    };
    for (const Outcome& other :
         {run({"demo"}, print_much, "/dev/full"), run({"demo", "--help"}, fine, "/dev/full")}) {
        CHECK(other.status == 1);
        CHECK(other.err == full.err);
    }
}

TEST_CASE("cli: standard error that cannot be written changes nothing else") {
    if (!std::filesystem::exists("/dev/full")) return;
    ScratchDir dir;
    const auto tell = [] {
        notice("a warning\n");
        std::puts("result");
        return 0;
    };
    CHECK(run({"demo", "--what"}, fine, {}, "/dev/full").status == 2);
    CHECK(run(
              {"demo"}, []() -> int { throw Error("x"); }, {}, "/dev/full")
              .status == 1);
    const Outcome told = run({"demo"}, tell, {}, "/dev/full");
    CHECK(told.status == 0);
    CHECK(told.out == "result\n");
}

TEST_CASE("cli: no file takes the place of a closed standard stream") {
    ScratchDir dir;
    const auto open_a_file = [&](int closed) {
        return [&, closed] {
            const int file = ::open((dir.path / "file").c_str(), O_WRONLY | O_CREAT, 0644);
            notice("a warning\n");
            return file > STDERR_FILENO ? 0 : 3 + closed;
        };
    };
    CHECK(run({"demo"}, open_a_file(0), {}, {}, 0).status == 0);
    CHECK(run({"demo"}, open_a_file(2), {}, {}, 2).status == 0);
    CHECK(text_of(dir.path / "file").empty());
    const Outcome closed = run(
        {"demo"},
        [] {
            std::puts("result");
            return 0;
        },
        {}, {}, 1);
    CHECK(closed.status == 1);
    CHECK(closed.err == "demo: cannot write to standard output: Bad file descriptor\n");
}

TEST_CASE("cli: numbers out of range, too long or not finite are refused in words") {
    const CLI::Validator seed = whole(0), count = whole(1, 1000), share = finite(0, 1);
    for (const char* right : {"0", "7", "9223372036854775807"}) CHECK(seed(right).empty());
    for (const char* wrong :
         {"-1", "9223372036854775808", "99999999999999999999", "1.5", "nan", "", "7x"}) {
        CAPTURE(wrong);
        CHECK_FALSE(seed(wrong).empty());
    }
    CHECK(count("1000").empty());
    CHECK(count("1001") == "1001 is not a whole number from 1 to 1000");
    for (const char* right : {"0", "1", "0.25", "1e-3"}) CHECK(share(right).empty());
    for (const char* wrong : {"nan", "-nan", "inf", "1e999", "1.01", "-0.1", "", "0.5x"}) {
        CAPTURE(wrong);
        CHECK_FALSE(share(wrong).empty());
    }
    CHECK(share("nan") == "nan is not a number from 0 to 1");
}

TEST_CASE("cli: threads and device are applied") {
    const int before = num_threads();
    CHECK(demo_main({"demo", "--threads", "3"}, fine) == 0);
    CHECK(num_threads() == 3);
    set_num_threads(before);
    if (!device_available(DeviceType::cuda)) {
        const Outcome cuda = run({"demo", "--device", "cuda"}, fine);
        CHECK(cuda.status == 1);
        CHECK(cuda.err == "demo: --device cuda: " + cuda_description() + "; use --device cpu\n");
    }
}
