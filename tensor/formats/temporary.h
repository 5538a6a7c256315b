// The name of an unfinished file or folder beside its place, NAME.tmpPID: programs that run at the
// same time do not meet there. What is under it vanishes with the object, and also when a signal
// ends the program, if the program asked for that.
//
//     Temporary draft("out/bundle");
//     fs::create_directory(draft.path());
//     ...
//     fs::rename(draft.path(), "out/bundle");
//     draft.keep();
//
// A program that is killed (SIGKILL, power) leaves it.
#pragma once

#include <filesystem>

namespace mc {

class Temporary {
  public:
    // Makes nothing.
    explicit Temporary(const std::filesystem::path& place);
    ~Temporary();
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;

    const std::filesystem::path& path() const { return path_; }
    // It is in its place, or has to stay: nothing is removed any more.
    void keep();

  private:
    std::filesystem::path path_;
    int slot_ = -1;  // where the signal handler finds it; -1: kept, or too many at a time
    bool kept_ = false;
};

// From here on SIGINT, SIGTERM and SIGHUP remove what is unfinished before they end the program,
// those that do so now: a handler that is there stays, and so does an ignored signal.
void remove_temporaries_on_signals();

// Removes them now. Only for what ends the program: may be called in a signal handler.
void remove_temporaries() noexcept;

}  // namespace mc
