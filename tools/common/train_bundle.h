// The command `train bundle`: puts trained stages together as a model bundle (models/bundle.h).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mc::tools {

void add_bundle_command(CLI::App& app, std::function<int()>& action);

}  // namespace mc::tools
