#include "train/run_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "kernels/error.h"
#include "tensor/formats/atomic_file.h"

namespace mc::train {
namespace {

using Json = nlohmann::json;

bool stays(const std::string& line, int64_t last_step) {
    const Json record = Json::parse(line, nullptr, false);
    if (!record.is_object()) return false;
    const auto step = record.find("step");
    return step == record.end() || !step->is_number() || step->get<int64_t>() <= last_step;
}

void drop_after(const std::filesystem::path& path, int64_t last_step) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return;  // a run that never logged
    std::string kept, line;
    while (std::getline(in, line))
        if (stays(line, last_step)) kept += line + '\n';
    write_text_file(path, kept);
}

}  // namespace

RunLog::RunLog(std::filesystem::path path, std::optional<int64_t> resumed_step)
    : path_(std::move(path)) {
    if (resumed_step) drop_after(path_, *resumed_step);
    const int begin = resumed_step ? O_APPEND : O_TRUNC;
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | begin, 0644);
    if (descriptor_ < 0)
        throw Error(fmt::format("{}: cannot write the log: {}; check the folder", path_.string(),
                                std::strerror(errno)));
}

RunLog::~RunLog() {
    ::close(descriptor_);
}

void RunLog::write(const Json& record) {
    const std::string line = record.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
    size_t done = 0;
    while (done < line.size()) {
        const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            throw Error(fmt::format("{}: cannot write the log: {}; free some space and resume",
                                    path_.string(), std::strerror(errno)));
        done += static_cast<size_t>(n);
    }
}

}  // namespace mc::train
