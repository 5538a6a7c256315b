#include "train/progress.h"

#include <doctest/doctest.h>

#include <string>

using namespace mc::train;

namespace {

// What a progress of these options prints while `use` works on it, with a clock set by hand.
template <class Use>
std::string printed(ProgressOptions options, Use use) {
    std::FILE* file = std::tmpfile();
    double now = 100;
    options.out = file;
    options.clock = [&now] { return now; };
    {
        Progress progress("vq", 200, options);
        use(progress, now);
    }
    std::string text(static_cast<size_t>(std::ftell(file)), '\0');
    std::rewind(file);
    text.resize(std::fread(text.data(), 1, text.size(), file));
    std::fclose(file);
    return text;
}

}  // namespace

TEST_CASE("progress: elsewhere than on a terminal, a plain line now and then") {
    const std::string text = printed({.line_seconds = 30}, [](Progress& p, double& now) {
        for (int i = 1; i <= 200; ++i) {
            now += 1;
            p.update(i, "loss 0.5");
        }
        p.finish();
        p.finish();
    });
    CHECK(text ==
          "vq  15 %  30/200  1.0/s  2:50 left  loss 0.5\n"
          "vq  30 %  60/200  1.0/s  2:20 left  loss 0.5\n"
          "vq  45 %  90/200  1.0/s  1:50 left  loss 0.5\n"
          "vq  60 %  120/200  1.0/s  1:20 left  loss 0.5\n"
          "vq  75 %  150/200  1.0/s  0:50 left  loss 0.5\n"
          "vq  90 %  180/200  1.0/s  0:20 left  loss 0.5\n"
          "vq  100 %  200/200  1.0/s  3:20 in all  loss 0.5\n");
}

TEST_CASE("progress: a bar is redrawn, cut to the width, and its line ended") {
    const std::string text = printed({.terminal = 1, .width = 60}, [](Progress& p, double& now) {
        p.update(1);  // too soon to draw
        now += 2;
        p.update(100, "loss 0.25");
    });
    CHECK(text ==
          "\rvq  [------------------------] 0 %  0/200\x1b[K"
          "\rvq  [############------------] 50 %  100/200  50.0/s  0:02 \x1b[K\n");
}

TEST_CASE("progress: work done before a resume is no part of the rate") {
    const std::string text =
        printed({.done = 100, .line_seconds = 1}, [](Progress& p, double& now) {
            now += 10;
            p.update(101);
        });
    CHECK(text == "vq  50 %  101/200  10.0 s each  16:30 left\n");
}

TEST_CASE("progress: clock texts") {
    CHECK(clock_text(0) == "0:00");
    CHECK(clock_text(59.4) == "0:59");
    CHECK(clock_text(3599) == "59:59");
    CHECK(clock_text(5400) == "1:30:00");
    CHECK(clock_text(-1) == "0:00");
}
