#include "tensor/formats/temporary.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <string>
#include <system_error>

namespace mc {
namespace {

// What a signal handler may read: no heap, no locks.
struct Slot {
    std::atomic<bool> taken{false};
    std::atomic<pid_t> owner{0};  // 0: no name here; a child after fork() is not the owner
    char name[PATH_MAX];
};
std::array<Slot, 32> slots;  // more than threads write at a time

int take_slot(const std::string& name) {
    if (name.size() >= PATH_MAX) return -1;
    for (size_t i = 0; i < slots.size(); ++i) {
        Slot& slot = slots[i];
        if (slot.taken.exchange(true)) continue;
        std::memcpy(slot.name, name.c_str(), name.size() + 1);
        slot.owner.store(::getpid());
        return static_cast<int>(i);
    }
    return -1;
}

void free_slot(int index) {
    if (index < 0) return;
    Slot& slot = slots[static_cast<size_t>(index)];
    slot.owner.store(0);
    slot.taken.store(false);
}

// The functions below run in a signal handler. readdir() allocates; getdents64() does not.
void remove_entry(int folder, const char* name);

void remove_contents(int folder) {
    alignas(dirent64) std::array<char, 4096> buffer;
    while (true) {
        const ssize_t size = ::getdents64(folder, buffer.data(), buffer.size());
        if (size <= 0) return;
        for (ssize_t at = 0; at < size;) {
            const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
            at += entry->d_reclen;
            if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0)
                remove_entry(folder, entry->d_name);
        }
    }
}

void remove_entry(int folder, const char* name) {
    if (::unlinkat(folder, name, 0) == 0 || errno == ENOENT) return;
    for (int tries = 0; tries < 8; ++tries) {  // other threads may still write there
        const int inner = ::openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner < 0) return;
        remove_contents(inner);
        ::close(inner);
        if (::unlinkat(folder, name, AT_REMOVEDIR) == 0) return;
    }
}

void handle(int number) {
    remove_temporaries();
    ::raise(number);  // held back until this returns, and then the system's own action
}

}  // namespace

Temporary::Temporary(const std::filesystem::path& place)
    : path_(place.has_filename() ? place : place.parent_path()) {
    path_ += fmt::format(".tmp{}", ::getpid());
    slot_ = take_slot(path_.string());
}

Temporary::~Temporary() {
    std::error_code ignored;
    if (!kept_) std::filesystem::remove_all(path_, ignored);
    free_slot(slot_);
}

void Temporary::keep() {
    free_slot(slot_);
    slot_ = -1;
    kept_ = true;
}

void remove_temporaries() noexcept {
    for (Slot& slot : slots)
        if (slot.owner.load() == ::getpid()) remove_entry(AT_FDCWD, slot.name);
}

void remove_temporaries_on_signals() {
    for (int number : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action {};
        if (::sigaction(number, nullptr, &action) != 0 || (action.sa_flags & SA_SIGINFO) != 0 ||
            action.sa_handler != SIG_DFL)
            continue;
        action = {};
        action.sa_handler = handle;
        action.sa_flags = static_cast<int>(SA_RESETHAND);
        ::sigaction(number, &action, nullptr);
    }
}

}  // namespace mc
