#include "tensor/formats/atomic_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "kernels/error.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using mc::testing::error_of;
using mc::testing::file_bytes;
using mc::testing::ScratchDir;
namespace fs = std::filesystem;

// This program's own calls of the system, so that a test sees them and has them go wrong.
namespace {

int flushed_files = 0, flushed_folders = 0;
bool interrupted = false;  // every second write is, and the others are short
bool close_fails = false;  // as on a network disk that is full

}  // namespace

extern "C" int fsync(int descriptor) {
    struct stat is {};
    if (::fstat(descriptor, &is) == 0) ++(S_ISDIR(is.st_mode) ? flushed_folders : flushed_files);
    return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

extern "C" ssize_t write(int descriptor, const void* data, size_t size) {
    static bool now = false;
    if (interrupted) {
        now = !now;
        if (now) {
            errno = EINTR;
            return -1;
        }
        size = std::min<size_t>(size, 7);
    }
    return ::syscall(SYS_write, descriptor, data, size);
}

extern "C" int close(int descriptor) {
    const auto done = static_cast<int>(::syscall(SYS_close, descriptor));
    if (!close_fails) return done;
    errno = EIO;
    return -1;
}

TEST_CASE("atomic file: what cannot be closed does not take the place of what was there") {
    ScratchDir dir;
    const fs::path path = dir.path / "a";
    write_text_file(path, "old");
    {
        AtomicFile file(path);
        file.write("new");
        close_fails = true;
        const std::string said = error_of([&] { file.commit(); });
        close_fails = false;
        CHECK(said.find(path.string() + ": cannot write: Input/output error") == 0);
    }
    CHECK(file_bytes(path) == "old");
    CHECK_FALSE(mc::testing::has_temporaries(dir.path));
}

TEST_CASE("atomic file: what is committed is on the disk, file and folder") {
    ScratchDir dir;
    for (bool flush : {true, false}) {
        flushed_files = flushed_folders = 0;
        AtomicFile file(dir.path / "a");
        file.write("whole");
        CHECK(flushed_files == 0);
        file.commit(flush);
        CHECK(flushed_files == (flush ? 1 : 0));
        CHECK(flushed_folders == (flush ? 1 : 0));
    }
}

TEST_CASE("atomic file: interrupted and short writes go on") {
    ScratchDir dir;
    const std::string text(1000, 'x');
    AtomicFile file(dir.path / "a");
    interrupted = true;
    CHECK_NOTHROW(file.write(text + "end"));
    interrupted = false;  // before any other test writes
    file.commit();
    CHECK(file_bytes(dir.path / "a") == text + "end");
}

TEST_CASE("atomic file: nothing is under the name before commit, all of it after") {
    ScratchDir dir;
    const fs::path path = dir.path / "a";
    {
        AtomicFile file(path);
        file.write("lost");
    }
    CHECK(fs::is_empty(dir.path));
    AtomicFile file(path);
    file.write("whole");
    CHECK_FALSE(fs::exists(path));
    file.commit();
    CHECK(file_bytes(path) == "whole");
    CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 1);
}

TEST_CASE("atomic file: a symbolic link stays and what it leads to is replaced") {
    ScratchDir dir;
    fs::create_directory(dir.path / "far");
    testing::write_file_bytes(dir.path / "far" / "file", "old");
    fs::create_symlink("far/file", dir.path / "near");
    fs::create_symlink(dir.path / "near", dir.path / "absolute");
    fs::create_symlink("far/fresh", dir.path / "dangling");
    write_text_file(dir.path / "absolute", "one");
    CHECK(fs::is_symlink(dir.path / "absolute"));
    CHECK(fs::is_symlink(dir.path / "near"));
    CHECK(file_bytes(dir.path / "far" / "file") == "one");
    write_text_file(dir.path / "dangling", "two");
    CHECK(fs::is_symlink(dir.path / "dangling"));
    CHECK(file_bytes(dir.path / "far" / "fresh") == "two");
    CHECK(std::distance(fs::directory_iterator(dir.path / "far"), {}) == 2);

    fs::create_symlink("round", dir.path / "circle");
    fs::create_symlink("circle", dir.path / "round");
    CHECK(error_of([&] { write_text_file(dir.path / "round", "x"); }).find("choose another name") !=
          std::string::npos);
}

TEST_CASE("atomic file: who may read the file may read what takes its place") {
    ScratchDir dir;
    const fs::path path = dir.path / "private";
    testing::write_file_bytes(path, "old");
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    write_text_file(path, "new");
    CHECK(file_bytes(path) == "new");
    CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("atomic file: a folder is refused by name and stays") {
    ScratchDir dir;
    fs::create_directory(dir.path / "folder");
    const std::string error = error_of([&] { AtomicFile file(dir.path / "folder"); });
    CHECK(error.starts_with((dir.path / "folder").string() + ": cannot write"));
    CHECK(error.ends_with("a folder has that name; choose another"));
    CHECK(fs::is_directory(dir.path / "folder"));
}

TEST_CASE("atomic file: a pipe with a name is written directly") {
    ScratchDir dir;
    const fs::path path = dir.path / "pipe";
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
    REQUIRE(reader >= 0);
    write_text_file(path, "through");
    std::array<char, 16> got{};
    CHECK(::read(reader, got.data(), got.size()) == 7);
    CHECK(std::string(got.data()) == "through");
    ::close(reader);
    CHECK(fs::is_fifo(path));
    CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 1);
}

TEST_CASE("atomic file: a device stays one") {
    if (::geteuid() != 0) {
        MESSAGE("SKIPPED: only root makes devices");
        return;
    }
    ScratchDir dir;
    const fs::path path = dir.path / "null";
    if (::mknod(path.c_str(), S_IFCHR | 0666, ::makedev(1, 3)) != 0) {
        MESSAGE("SKIPPED: no devices can be made here");
        return;
    }
    write_text_file(path, "gone");
    CHECK(fs::is_character_file(path));
    CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 1);
}

// In a child, standard output being what `out` opens.
static std::string written_to_stdout(const fs::path& out, const char* name) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        const int descriptor = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        ::dup2(descriptor, STDOUT_FILENO);
        int status = 0;
        try {
            std::fputs("before ", stdout);
            write_text_file(name, "report");
            std::fputs(" after", stdout);
            std::fflush(stdout);
        } catch (const std::exception&) {
            status = 1;
        }
        ::_exit(status);
    }
    int status = 1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    return file_bytes(out);
}

TEST_CASE("atomic file: /dev/stdout is what standard output is") {
    ScratchDir dir;
    for (const char* name : {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
        CAPTURE(name);
        if (!fs::is_symlink(fs::symlink_status(name)) && !fs::exists(name)) continue;
        CHECK(written_to_stdout(dir.path / "out", name) == "before report after");
    }
    CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 1);
}
