// The motion commands of the program `train`: `vq`, `masked`, `residual`, `length`
// (train/vq_stage.h, momask_stages.h).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mc::tools {

// Adds the subcommands; the one that is named sets `action`, which must outlive the parsing, to the
// work to run.
void add_motion_commands(CLI::App& app, std::function<int()>& action);

}  // namespace mc::tools
