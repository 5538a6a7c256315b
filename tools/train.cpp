// train: trains the models, a subcommand a stage. `train --help` shows them.
#include "tools/common/cli.h"
#include "tools/common/train_text.h"

int main(int argc, char** argv) {
    CLI::App app("Trains the models of the text-to-motion system, a subcommand a stage.", "train");
    app.require_subcommand(1);
    std::function<int()> action;
    mc::tools::add_text_commands(app, action);
    return mc::tools::run_program(app, argc, argv, [&] { return action(); });
}
