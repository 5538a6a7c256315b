#include "train/interrupt.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

using namespace mc::train;

TEST_CASE("interrupt: the first signal sets the flag and the process goes on") {
    for (int number : {SIGINT, SIGTERM}) {
        Interrupt interrupt(nullptr);
        CHECK_FALSE(interrupt.requested());
        ::raise(number);
        CHECK(interrupt.requested());
        CHECK(interrupt.signal() == number);
    }
    Interrupt again(nullptr);
    CHECK_FALSE(again.requested());
    ::raise(SIGINT);
    { CHECK(Interrupt(nullptr).requested()); }  // one flag for all
    CHECK(again.requested());
}

// ThreadSanitizer holds signals back until a blocking call, so "at once" cannot be seen under it.
#ifdef __SANITIZE_THREAD__
constexpr bool kSignalsAreDeferred = true;
#else
constexpr bool kSignalsAreDeferred = false;
#endif

TEST_CASE("interrupt: the second signal ends the process at once" *
          doctest::skip(kSignalsAreDeferred)) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        Interrupt interrupt(nullptr);
        ::raise(SIGINT);
        ::raise(SIGTERM);
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
}

TEST_CASE("interrupt: the old handlers come back") {
    const auto before = std::signal(SIGINT, SIG_IGN);
    { Interrupt interrupt(nullptr); }
    const bool ignored = std::signal(SIGINT, before) == SIG_IGN;
    CHECK(ignored);
}
