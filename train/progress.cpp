#include "train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace mc::train {
namespace {

double steady_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

int terminal_width(std::FILE* out) {
    winsize size{};
    if (::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

// The longest start of `text` within `bytes` that does not end inside a UTF-8 character.
std::string cut(const std::string& text, size_t bytes) {
    if (text.size() <= bytes) return text;
    while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
    return text.substr(0, bytes);
}

// Work goes on where nobody can read this: fmt::print would throw.
void show(const std::string& text, std::FILE* out) {
    std::fputs(text.c_str(), out);
    std::fflush(out);
}

}  // namespace

std::string clock_text(double seconds) {
    const int64_t s = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e9) + 0.5);
    return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                    : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

Progress::Progress(std::string label, int64_t total, ProgressOptions options)
    : label_(std::move(label)), total_(total), done_(options.done), options_(std::move(options)) {
    if (!options_.clock) options_.clock = steady_seconds;
    terminal_ = options_.terminal < 0 ? ::isatty(::fileno(options_.out)) == 1 : options_.terminal;
    start_ = last_ = options_.clock();
    if (terminal_) draw();
}

Progress::~Progress() {
    if (line_open_) std::fputc('\n', options_.out);
}

void Progress::update(int64_t done, const std::string& note) {
    done_ = done;
    note_ = note;
    stale_ = true;
    const double now = options_.clock();
    if (now - last_ < (terminal_ ? 0.1 : options_.line_seconds)) return;
    last_ = now;
    draw();
}

void Progress::finish() {
    if (finished_) return;
    finished_ = true;
    if (stale_) draw();
    if (line_open_) std::fputc('\n', options_.out);
    line_open_ = false;
    std::fflush(options_.out);
}

std::string Progress::text() const {
    const double elapsed = options_.clock() - start_;
    const double rate = elapsed > 0 ? static_cast<double>(done_ - options_.done) / elapsed : 0;
    std::string text = fmt::format("{}/{}", done_, total_);
    if (rate > 0) {
        text +=
            rate >= 1 ? fmt::format("  {:.1f}/s", rate) : fmt::format("  {:.1f} s each", 1 / rate);
        if (done_ < total_)
            text +=
                fmt::format("  {} left", clock_text(static_cast<double>(total_ - done_) / rate));
        else
            text += fmt::format("  {} in all", clock_text(elapsed));
    }
    if (!note_.empty()) text += "  " + note_;
    return text;
}

void Progress::draw() {
    stale_ = false;
    const double share =
        total_ > 0 ? std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0)
                   : 1.0;
    const int percent = static_cast<int>(share * 100);
    if (!terminal_) {
        show(fmt::format("{}  {} %  {}\n", label_, percent, text()), options_.out);
        return;
    }
    constexpr int kCells = 24;
    const int filled = static_cast<int>(share * kCells);
    const std::string line =
        fmt::format("{}  [{}{}] {} %  {}", label_, std::string(static_cast<size_t>(filled), '#'),
                    std::string(static_cast<size_t>(kCells - filled), '-'), percent, text());
    const int width = options_.width > 0 ? options_.width : terminal_width(options_.out);
    show(fmt::format("\r{}\x1b[K", cut(line, static_cast<size_t>(std::max(1, width - 1)))),
         options_.out);
    line_open_ = true;
}

}  // namespace mc::train
