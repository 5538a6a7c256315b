// Ctrl-C (SIGINT) and SIGTERM as a wish: the first sets a flag, so that the loop finishes its step
// and saves; the second ends the process at once.
//
//     Interrupt interrupt;
//     while (step < steps && !interrupt.requested()) ...
//
// The signals are the process's: of several at a time the first installs the handlers, all see the
// same flag, and with the last the handlers that were there come back.
#pragma once

namespace mc::train {

inline constexpr const char* kStopNotice = "\nstopping after this step; again to stop at once\n";

class Interrupt {
  public:
    // At the first signal `notice` (a literal, or null for none) goes to standard error: a step may
    // be long, and the person should know that they were heard.
    explicit Interrupt(const char* notice = kStopNotice);
    ~Interrupt();
    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;

    bool requested() const { return signal() != 0; }
    int signal() const;  // SIGINT or SIGTERM; 0 if there was none
};

}  // namespace mc::train
