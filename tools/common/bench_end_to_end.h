// What `bench --end-to-end` times: a training step of each stage (forward, backward, gradient norm,
// AdamW, as train/loop.h does them), a motion, texts; at the sizes of a preset, with default
// initial weights and made-up data. Nothing is read from disk.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace mc {

struct EndToEndCase {
    struct Ready {
        std::function<void()> run;            // a step, a motion, a batch of texts
        std::function<std::string()> remark;  // on the last run; may be null
    };
    std::string name;
    std::function<Ready()> make;  // the models live as long as the result
};

struct EndToEndSizes {
    std::string preset = "humanml3d";  // the originals' sizes; or "small"
    // Rows of a training step instead of the preset's; 0: the preset's, but on the CPU at full size
    // of BAMM 64 of 512, of BAD 8 of 256 and of MoCLIP 8 of 128, whose activations take 25 GB.
    int64_t batch = 0;
};

std::vector<EndToEndCase> end_to_end_cases(const EndToEndSizes& sizes, DeviceType device);

}  // namespace mc
