#include "tensor/formats/temporary.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>

#include "tensor/formats/atomic_file.h"
#include "tests/test_paths.h"

using namespace mc;
using mc::testing::file_bytes;
using mc::testing::ScratchDir;
namespace fs = std::filesystem;

namespace {

// What ended the child that runs the body: a signal, or 0.
int ended_by(const std::function<void()>& body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_DFL);
        body();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("temporary: lies beside its place and vanishes unless it is kept") {
    ScratchDir dir;
    const fs::path place = dir.path / "bundle";
    {
        Temporary draft(place / "");  // a folder's name may end in a slash
        CHECK(draft.path().parent_path() == dir.path);
        fs::create_directories(draft.path() / "inner");
    }
    CHECK(fs::is_empty(dir.path));
    Temporary draft(place);
    fs::create_directory(draft.path());
    fs::rename(draft.path(), place);
    draft.keep();
    CHECK(fs::is_directory(place));
}

TEST_CASE("temporary: a signal removes files and folders, and ends the program all the same") {
    for (int number : {SIGINT, SIGTERM, SIGHUP}) {
        CAPTURE(number);
        ScratchDir dir;
        testing::write_file_bytes(dir.path / "a", "old");
        const int signal = ended_by([&] {
            remove_temporaries_on_signals();
            AtomicFile file(dir.path / "a");
            file.write("new");
            Temporary draft(dir.path / "draft");
            fs::create_directories(draft.path() / "inner" / "most");
            for (int i = 0; i < 300; ++i)
                testing::write_file_bytes(
                    draft.path() / "inner" / ("a_rather_long_name_" + std::to_string(i)), "x");
            ::raise(number);
        });
        CHECK(signal == number);
        CHECK(file_bytes(dir.path / "a") == "old");
        CHECK_FALSE(testing::has_temporaries(dir.path));
    }
}

TEST_CASE("temporary: what is kept or another process's stays") {
    ScratchDir dir;
    Temporary ours(dir.path / "ours");
    testing::write_file_bytes(ours.path(), "x");
    CHECK(ended_by([&] {
              remove_temporaries_on_signals();
              Temporary kept(dir.path / "kept");
              testing::write_file_bytes(kept.path(), "x");
              kept.keep();
              ::raise(SIGTERM);
          }) == SIGTERM);
    CHECK(fs::exists(ours.path()));
    CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 2);
}

TEST_CASE("temporary: a signal that is ignored or handled stays so") {
    CHECK(ended_by([] {
              std::signal(SIGHUP, SIG_IGN);  // as nohup does
              std::signal(SIGTERM, [](int) {});
              remove_temporaries_on_signals();
              ::raise(SIGHUP);
              ::raise(SIGTERM);
          }) == 0);
}

TEST_CASE("temporary: processes write the same file at the same time") {
    ScratchDir dir;
    std::vector<pid_t> children;
    for (int i = 0; i < 6; ++i) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            int status = 0;
            try {
                for (int round = 0; round < 50; ++round)
                    write_text_file(dir.path / "same", std::string(10000, 'x'), false);
            } catch (const std::exception&) {
                status = 1;
            }
            ::_exit(status);
        }
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int status = 1;
        ::waitpid(child, &status, 0);
        CHECK(status == 0);
    }
    CHECK(file_bytes(dir.path / "same") == std::string(10000, 'x'));
    CHECK_FALSE(testing::has_temporaries(dir.path));
}
