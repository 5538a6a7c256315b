#include "train/interrupt.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace mc::train {
namespace {

volatile std::sig_atomic_t received = 0;
bool installed = false;
const char* notice_text = nullptr;
size_t notice_size = 0;

void handle(int number) {  // only what is allowed in a signal handler
    if (received) ::_exit(128 + number);
    const int saved = errno;
    received = number;
    if (notice_text && ::write(STDERR_FILENO, notice_text, notice_size) < 0) {
        // Nobody reads standard error: nothing to do about it here.
    }
    errno = saved;
}

}  // namespace

Interrupt::Interrupt(const char* notice) {
    if (installed) throw Error("[interrupt] two Interrupt objects at a time; keep one");
    installed = true;
    received = 0;
    notice_text = notice;
    notice_size = notice ? std::strlen(notice) : 0;
    struct sigaction action {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, &old_int_);
    ::sigaction(SIGTERM, &action, &old_term_);
}

Interrupt::~Interrupt() {
    ::sigaction(SIGINT, &old_int_, nullptr);
    ::sigaction(SIGTERM, &old_term_, nullptr);
    installed = false;
}

int Interrupt::signal() const {
    return received;
}

}  // namespace mc::train
