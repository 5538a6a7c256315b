// Ctrl-C (SIGINT) and SIGTERM as a wish: the first sets a flag, so that the loop finishes its step
// and saves; the second ends the process at once.
//
//     Interrupt interrupt;
//     while (step < steps && !interrupt.requested()) ...
//
// One at a time in a process. The handlers that were there come back with the destructor.
#pragma once

#include <csignal>

namespace mc::train {

class Interrupt {
  public:
    // At the first signal `notice` (a literal, or null for none) goes to standard error: a step may
    // be long, and the person should know that they were heard.
    explicit Interrupt(const char* notice = "\nstopping after this step; again to stop at once\n");
    ~Interrupt();
    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;

    bool requested() const { return signal() != 0; }
    int signal() const;  // SIGINT or SIGTERM; 0 if there was none

  private:
    struct sigaction old_int_ {
    }, old_term_{};
};

}  // namespace mc::train
