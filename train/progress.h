// How far a long job is: a bar that is redrawn on a terminal, a plain line now and then elsewhere.
//
//     Progress progress("vq", steps, {.done = resumed_step});
//     for (...) progress.update(step + 1, fmt::format("loss {:.4f}", loss));
//     progress.finish();
//
//     vq  [#########---------------] 37 %  3700/10000  52.1/s  2:01 left  loss 0.0312
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace mc::train {

struct ProgressOptions {
    int64_t done = 0;                 // already done before this process: not part of the rate
    std::FILE* out = stderr;          // where it is drawn
    int terminal = -1;                // 1 bar, 0 lines, -1 as `out` is
    int width = 0;                    // columns; 0: the terminal's own
    double line_seconds = 30;         // between two plain lines
    std::function<double()> clock{};  // seconds; default: the steady clock
};

class Progress {
  public:
    Progress(std::string label, int64_t total, ProgressOptions options = {});
    ~Progress();  // ends the line of an unfinished bar
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    // Draws at most ten times a second (a bar) or every `line_seconds` (lines). `note` comes last.
    void update(int64_t done, const std::string& note = "");
    void finish();  // draws the last update and ends the line

  private:
    std::string text() const;
    void draw();

    std::string label_, note_;
    int64_t total_, done_;
    ProgressOptions options_;
    bool terminal_, line_open_ = false, finished_ = false, stale_ = false;
    double start_, last_;
};

// "45 s" as 0:45, an hour and a half as 1:30:00.
std::string clock_text(double seconds);

}  // namespace mc::train
