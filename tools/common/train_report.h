// What the training programs say beside their progress.
#pragma once

#include "train/loop.h"

namespace mc::tools {

// The data that a stage leaves out, on standard error, once; --quiet is about progress.
void say_warnings(const train::Stage& stage);

// That a run was interrupted, and how it goes on; returns the exit status, as a shell has it of a
// program that the signal ended, so that what comes after the command in a script does not run.
int say_stopped(const train::LoopResult& result, int64_t steps);

}  // namespace mc::tools
