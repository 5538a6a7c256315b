// The text commands of the program `train`: `vocab` learns a byte-pair vocabulary, `text` teaches
// the small text encoder (train/text_stage.h).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mc::tools {

// Adds the subcommands; the one that is named sets `action`, which must outlive the parsing, to the
// work to run. It returns the exit status.
void add_text_commands(CLI::App& app, std::function<int()>& action);

}  // namespace mc::tools
