// Normalisations: of rows, over the last dimension of contiguous (rows, cols), and of channels, in
// PyTorch's layout (batch, channels, length).
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct NormKernels {
    // Layer norm: y = (x - mean) * rstd * weight + bias, rstd = 1/sqrt(var + eps), two-pass
    // variance (biased). residual may be null; else x is replaced by x + residual first and that
    // sum is stored in `sum` (rows, cols), which is what backward takes as x. mean, rstd: (rows),
    // may be null at inference. weight/bias may be null (1/0). y or sum may be x.
    struct LayerNormArgs {
        T* y;               // (rows, cols)
        T* mean;            // (rows) or null
        T* rstd;            // (rows) or null
        T* sum;             // (rows, cols) or null
        const T* x;         // (rows, cols)
        const T* residual;  // (rows, cols) or null
        const T* weight;    // (cols) or null
        const T* bias;      // (cols) or null
        int64_t rows, cols;
        double eps;
    };
    Kernel<const LayerNormArgs&> layer_norm{"layer_norm"};
    // dx (rows, cols) = gradient through the above; dweight, dbias (cols) are ADDED to (null:
    // skipped). dx may equal dy.
    struct LayerNormBackwardArgs {
        T* dx;            // may be null
        T* dweight;       // (cols), +=, or null
        T* dbias;         // (cols), +=, or null
        const T* dy;      // (rows, cols)
        const T* x;       // (rows, cols)
        const T* mean;    // (rows)
        const T* rstd;    // (rows)
        const T* weight;  // (cols) or null
        int64_t rows, cols;
    };
    Kernel<const LayerNormBackwardArgs&> layer_norm_backward{"layer_norm_backward"};
    // y = x / max(|x|_2, eps) per row, norm (rows) = |x|_2.
    Kernel<T*, T*, const T*, int64_t, int64_t, double> l2_normalize{
        "l2_normalize"};  // (y, norm, x, rows, cols, eps)
    // dx = (dy - y (y . dy)) / max(norm, eps); where norm < eps: dy / eps.
    Kernel<T*, const T*, const T*, const T*, int64_t, int64_t, double> l2_normalize_backward{
        "l2_normalize_backward"};  // (dx, dy, y, norm, rows, cols, eps)

    // What group norm and batch norm share: y = (x - mean) * rstd * weight[channel] +
    // bias[channel], where mean and rstd = 1/sqrt(var + eps) are those of the element's set.
    struct ChannelNormArgs {
        T* y;             // (batch, channels, length), may be x
        T* mean;          // (sets)
        T* rstd;          // (sets)
        const T* x;       // (batch, channels, length)
        const T* weight;  // (channels) or null: 1
        const T* bias;    // (channels) or null: 0
        int64_t batch, channels, length;
        double eps;
    };
    // A set is channels / groups neighbouring channels of one sample: (batch, groups) sets,
    // two-pass variance (biased). groups divides channels.
    struct GroupNormArgs : ChannelNormArgs {
        int64_t groups;
    };
    Kernel<const GroupNormArgs&> group_norm{"group_norm"};
    // A set is one channel of all samples: (channels) sets. In training by the statistics of x,
    // two-pass variance (biased), of which the running ones take in `momentum` of the mean and of
    // the unbiased variance: running = (1 - momentum) running + momentum * new; batch * length >=
    // 2. Else by the running ones, which are given out as mean and rstd.
    struct BatchNormArgs : ChannelNormArgs {
        T* running_mean;   // (channels)
        T* running_var;    // (channels)
        int64_t* batches;  // += 1 in training, or null
        double momentum;
        bool training;
    };
    Kernel<const BatchNormArgs&> batch_norm{"batch_norm"};
    // dx = gradient through the above; dweight, dbias (channels) are ADDED to (null: skipped). dx
    // may equal dy.
    struct ChannelNormBackwardArgs {
        T* dx;            // (batch, channels, length), may be null
        T* dweight;       // (channels), +=, or null
        T* dbias;         // (channels), +=, or null
        const T* dy;      // (batch, channels, length)
        const T* x;       // (batch, channels, length)
        const T* mean;    // (sets)
        const T* rstd;    // (sets)
        const T* weight;  // (channels) or null
        int64_t batch, channels, length;
    };
    Kernel<const ChannelNormBackwardArgs&, int64_t> group_norm_backward{
        "group_norm_backward"};  // (args, groups)
    // Outside training mean and rstd are constants.
    Kernel<const ChannelNormBackwardArgs&, bool> batch_norm_backward{
        "batch_norm_backward"};  // (args, training)
};

// How the rows (sample, channel) of x are cut into the sets above. Row r is of channel r % channels
// and of set r / width % count; set s holds the rows s * width + i * step, i < rows.
struct ChannelSets {
    int64_t count, width, step, rows, channels;

    static constexpr ChannelSets of_groups(int64_t batch, int64_t channels, int64_t groups) {
        const int64_t width = channels / groups;
        return {batch * groups, width, 1, width, channels};
    }
    static constexpr ChannelSets of_channels(int64_t batch, int64_t channels) {
        return {channels, 1, channels, batch, channels};
    }
    constexpr int64_t all_rows() const { return count * rows; }
    constexpr int64_t set_of(int64_t row) const { return row / width % count; }
    constexpr int64_t row_of(int64_t set, int64_t i) const { return set * width + i * step; }
    // Sets repeat after as many rows.
    constexpr int64_t period() const { return count * width; }
};

}  // namespace mc
