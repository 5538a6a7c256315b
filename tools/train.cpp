// Trains the stages that MoCLIP and MoMask are made of; `moclip_train` does the fine-tuning in
// between.
#include "tools/common/cli.h"
#include "tools/common/train_bundle.h"
#include "tools/common/train_motion.h"
#include "tools/common/train_text.h"

int main(int argc, char** argv) {
    CLI::App app(
        "Trains the stages of a text-to-motion system: vocab, text, vq, masked, residual, bamm, "
        "bad, length, "
        "bundle.",
        "train");
    app.footer("TRAINING.md has the whole recipe, command by command.\n" +
               mc::tools::processes_help());
    app.require_subcommand(1);
    std::function<int()> action;
    mc::tools::add_text_commands(app, action);
    mc::tools::add_motion_commands(app, action);
    mc::tools::add_bundle_command(app, action);
    return mc::tools::run_program(app, argc, argv, [&] { return action(); });
}
