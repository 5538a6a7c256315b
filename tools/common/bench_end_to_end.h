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

// `preset`: "humanml3d", the originals' sizes, or "small". On the CPU MoCLIP's full size has a
// batch of 8 of the original's 128, whose activations take 25 GB.
std::vector<EndToEndCase> end_to_end_cases(const std::string& preset, DeviceType device);

}  // namespace mc
