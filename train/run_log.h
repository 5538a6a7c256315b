// The log of a run: one JSON object a line, appended and flushed line by line.
//
//     RunLog log(run.log(), resumed ? std::optional(state.step) : std::nullopt);
//     log.write({{"step", 120}, {"loss", 3.25}});
//
// A resumed run goes on where its checkpoint stands: lines of later steps, which it will write
// again, and what a kill left of a last line are dropped first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>

namespace mc::train {

class RunLog {
  public:
    // Without `resumed_step` the log begins anew. With it, lines with a larger "step" go, and so do
    // lines that are not JSON objects. Error if the file cannot be written.
    explicit RunLog(std::filesystem::path path, std::optional<int64_t> resumed_step = {});
    ~RunLog();
    RunLog(const RunLog&) = delete;
    RunLog& operator=(const RunLog&) = delete;

    // A NaN in a record is written as null. Error if the disk takes no more.
    void write(const nlohmann::json& record);

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
};

}  // namespace mc::train
