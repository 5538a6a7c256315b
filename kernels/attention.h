// Scaled dot-product attention, fused: scores, masks, softmax, dropout and the weighted sum without
// the (Lq, Lk) matrix in memory beyond a tile or a row block. Backward recomputes the probabilities
// from the saved log-sum-exp.
#pragma once

#include "kernels/kernel.h"

namespace mc {

// Heads lie inside rows: element (b, t, h, d) of q is q[b * q_batch + t * q_row + h * head_dim +
// d]; the packed output of one in_proj of width 3 D is used in place with row stride 3 D.
template <class T>
struct AttentionArgs {
    T* out = nullptr;  // (B, Lq, H, D): batch stride out_batch, row stride out_row
    T* lse = nullptr;  // (B, H, Lq) log-sum-exp of the scaled masked scores; -inf for an empty row;
                       // null: not saved
    const T* q = nullptr;
    const T* k = nullptr;  // (B, Lk, H, D)
    const T* v = nullptr;
    int64_t batch = 0, heads = 0, head_dim = 0, lq = 0, lk = 0;
    int64_t q_batch = 0, q_row = 0, k_batch = 0, k_row = 0, v_batch = 0, v_row = 0, out_batch = 0,
            out_row = 0;
    double scale = 1;                   // usually 1/sqrt(head_dim)
    bool causal = false;                // key j is seen by query i only if j <= i + (lk - lq)
    const bool* key_padding = nullptr;  // (B, Lk), true = not seen; null: none
    const bool* mask =
        nullptr;  // (Lq, Lk) true = not seen, at distance mask_batch per batch entry (0: shared)
    int64_t mask_batch = 0;
    double dropout = 0;  // on the probabilities (after softmax): number ((b*H + h)*Lq + i)*Lk + j
                         // of the stream (DropRule)
    RandomStream random;
};

template <class T>
struct AttentionBackwardArgs {
    AttentionArgs<T> forward;  // the same as in forward, `out` and `lse` filled
    const T* dout = nullptr;   // (B, Lq, H, D) strides as out
    T* dq = nullptr;           // strides as q; overwritten (not added to)
    T* dk = nullptr;           // strides as k
    T* dv = nullptr;           // strides as v
};

template <class T>
struct AttentionKernels {
    // Fully masked rows give zeros, forward and backward.
    Kernel<const AttentionArgs<T>&> attention{"attention"};
    Kernel<const AttentionBackwardArgs<T>&> attention_backward{"attention_backward"};
};

}  // namespace mc
