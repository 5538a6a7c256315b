#include "train/interrupt.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include "tensor/formats/temporary.h"

namespace mc::train {
namespace {

volatile std::sig_atomic_t received = 0;
std::mutex mutex;
int alive = 0;  // Interrupts
struct sigaction old_int, old_term;
const char* notice_text = nullptr;
size_t notice_size = 0;

void handle(int number) {  // only what is allowed in a signal handler
    if (received) {
        remove_temporaries();
        ::_exit(128 + number);
    }
    const int saved = errno;
    received = number;
    if (notice_text && ::write(STDERR_FILENO, notice_text, notice_size) < 0) {
        // Nobody reads standard error: nothing to do about it here.
    }
    errno = saved;
}

}  // namespace

Interrupt::Interrupt(const char* notice) {
    const std::lock_guard lock(mutex);
    if (alive++ > 0) return;
    received = 0;
    notice_text = notice;
    notice_size = notice ? std::strlen(notice) : 0;
    struct sigaction action {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, &old_int);
    ::sigaction(SIGTERM, &action, &old_term);
}

Interrupt::~Interrupt() {
    const std::lock_guard lock(mutex);
    if (--alive > 0) return;
    ::sigaction(SIGINT, &old_int, nullptr);
    ::sigaction(SIGTERM, &old_term, nullptr);
}

int Interrupt::signal() const {
    return received;
}

}  // namespace mc::train
