// A small data set of made-up motions in HumanML3D's layout, in a folder of its own.
#pragma once

#include "motion/dataset_build.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"
#include "train/motion_data.h"

namespace mc::testing {

struct SyntheticDataset {
    ScratchDir scratch;
    train::MotionDataOptions options;  // its train split

    // `clips` recordings of about `frames` frames at 20 a second.
    SyntheticDataset(int64_t clips, int64_t frames, bool mirror) {
        write_synthetic_mocap(scratch.path / "mocap", clips, frames);
        motion::BuildOptions build;
        build.mocap = scratch.path / "mocap";
        build.out = scratch.path / "data";
        build.mirror = mirror;
        motion::build_dataset(build);
        options.root = build.out.string();
    }
};

}  // namespace mc::testing
