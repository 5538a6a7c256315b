// Learning rates as pure functions of the step: nothing to save, nothing to go out of step with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace mc::train {

// lr/2 (1 + cos(pi e / period)): once an epoch in MoCLIP, period 50 (moclip.md 5.2). Counts from 0;
// beyond the period it rises again, as PyTorch's CosineAnnealingLR does.
inline double cosine_rate(double lr, int64_t epoch, int64_t period) {
    return 0.5 * lr *
           (1 +
            std::cos(std::numbers::pi * static_cast<double>(epoch) / static_cast<double>(period)));
}

// Linear warm-up, then a factor gamma at each milestone (generators.md 2.11). `iteration` counts
// from 1, as in the reference.
struct WarmUpMultiStep {
    double lr = 2e-4;
    int64_t warm_up = 2000;  // iteration < warm_up: lr (iteration + 1) / (warm_up + 1); 0: none
    std::vector<int64_t> milestones;  // in steps of the schedule, ascending
    double gamma = 0.1;
    // The reference's last warm-up value, lr warm_up / (warm_up + 1), stays as the base for good
    // (QUIRK Q10). False: the base is lr.
    bool keep_warm_up_rate = true;
    // Token transformers step the schedule from the first iteration on; the tokenizers (MoMask's
    // RVQ, the VQs of T2M-GPT, MMM and BAD) only after the warm-up, which moves their milestones by
    // its length.
    bool count_after_warm_up = false;

    double rate(int64_t iteration) const {
        const double base_divisor = static_cast<double>(warm_up + 1);
        if (iteration < warm_up) return lr * static_cast<double>(iteration + 1) / base_divisor;
        double rate = warm_up > 1 && keep_warm_up_rate
                          ? lr * static_cast<double>(warm_up) / base_divisor
                          : lr;
        // How often the schedule was stepped before this iteration. What it did before the last
        // warm-up iteration was overwritten there.
        const int64_t stepped =
            count_after_warm_up ? iteration - std::max<int64_t>(warm_up, 1) : iteration - 1;
        const int64_t overwritten = count_after_warm_up ? 0 : warm_up - 2;
        for (int64_t milestone : milestones)
            if (milestone <= stepped && milestone > overwritten) rate *= gamma;
        return rate;
    }
};

// Linear from lr/warm_up to lr, then half a cosine down to `floor` at `total` and flat after it.
// `step` counts from 0.
struct WarmUpCosine {
    double lr = 1e-4;
    int64_t warm_up = 0;
    int64_t total = 1;
    double floor = 0;

    double rate(int64_t step) const {
        if (step < warm_up)
            return lr * static_cast<double>(step + 1) / static_cast<double>(warm_up);
        if (step >= total) return floor;
        const double share =
            static_cast<double>(step - warm_up) / static_cast<double>(total - warm_up);
        return floor + 0.5 * (lr - floor) * (1 + std::cos(std::numbers::pi * share));
    }
};

}  // namespace mc::train
