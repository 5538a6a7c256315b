#include "tools/common/train_report.h"

#include <fmt/format.h>

#include "tools/common/cli.h"

namespace mc::tools {

void say_warnings(const train::Stage& stage) {
    if (!stage.ranks().first()) return;
    for (const std::string& warning : stage.warnings()) notice("warning: {}\n", warning);
}

int say_stopped(const train::LoopResult& result, int64_t steps) {
    fmt::print("stopped after step {} of {}; the same command with --resume goes on\n",
               result.steps, steps);
    return result.signal > 0 ? 128 + result.signal : 1;
}

}  // namespace mc::tools
