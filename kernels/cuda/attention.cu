// Attention for a tile of 32 queries of one head and a tile of 32 keys at a time: scores, masks,
// softmax, dropout and the weighted sum stay in registers and shared memory, and the (Lq, Lk)
// matrix is nowhere. The softmax is the online one (Milakov and Gimelshein 2018), the walk
// FlashAttention's (Dao et al. 2022). Backward recomputes the probabilities from the saved
// log-sum-exp, once for the queries' gradients and once for the keys' and values', so that every
// sum has one owner and no atomics are needed.
//
// A block has 8 warps and each owns 4 rows of its tile; the 32 lanes are the 32 rows of the other
// tile while scores are computed, and the head's columns while rows are added up.
#include "kernels/attention.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/philox.h"
#include "kernels/cuda/team.h"

namespace mc::cuda {

namespace {

constexpr int kTile = 32, kWarps = 8, kRows = kTile / kWarps;

// Dropout of the probabilities; limit 0: none.
template <class T>
struct Drop {
    uint32_t limit;
    T scale;
};

template <class T>
__device__ inline bool hidden(const AttentionArgs<T>& a, int64_t b, int64_t i, int64_t j) {
    if (i >= a.lq || j >= a.lk || (a.causal && j > i + (a.lk - a.lq))) return true;
    if (a.key_padding && a.key_padding[b * a.lk + j]) return true;
    return a.mask && a.mask[b * a.mask_batch + i * a.lk + j];
}

// 1 / (1 - p), or 0 where the probability of query i and key j is dropped.
template <class T>
__device__ inline T kept(const AttentionArgs<T>& a, const Drop<T>& drop, int64_t head, int64_t i,
                         int64_t j) {
    if (drop.limit == 0) return T{1};
    const uint64_t at = static_cast<uint64_t>((head * a.lq + i) * a.lk + j);
    uint32_t bits[1];
    drop_bits(bits, a.random, at);
    return bits[0] < drop.limit ? T{0} : drop.scale;
}

// tile (32, stride) = rows first .. first + 31 of src (count, width); zeros beyond them.
template <class T>
__device__ inline void load_tile(T* tile, int stride, const T* src, int64_t row_stride,
                                 int64_t first, int64_t count, int width) {
    const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
    for (int row = warp; row < kTile; row += kWarps) {
        const bool inside = first + row < count;
        const T* from = src + (first + row) * row_stride;
        for (int d = lane; d < width; d += 32) tile[row * stride + d] = inside ? from[d] : T{0};
    }
}

// dst[r] = row `r` of the warp's own rows (4, stride) times the lane's row of `other`.
template <class T>
__device__ inline void lane_products(T (&dst)[kRows], const T* own, const T* other, int stride,
                                     int width) {
    other += static_cast<int>(threadIdx.x) * stride;
#pragma unroll
    for (int r = 0; r < kRows; ++r) dst[r] = 0;
    for (int d = 0; d < width; ++d) {
        const T v = other[d];
#pragma unroll
        for (int r = 0; r < kRows; ++r) dst[r] = multiply_add(own[r * stride + d], v, dst[r]);
    }
}

// sums[r][c] += the 32 weights of the warp's row r times the rows of `other`, in the lane's columns
// c * 32 + lane.
template <int kChunks, class T>
__device__ inline void add_rows(T (&sums)[kRows][kChunks], const T* weights, const T* other,
                                int stride, int width) {
    const int lane = static_cast<int>(threadIdx.x);
    for (int row = 0; row < kTile; ++row) {
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
            const int d = c * 32 + lane;
            const T v = d < width ? other[row * stride + d] : T{0};
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                sums[r][c] = multiply_add(weights[r * kTile + row], v, sums[r][c]);
        }
    }
}

// Row `first + r` of dst (count, width) = scale[r] * sums[r], for the warp's rows.
template <int kChunks, class T>
__device__ inline void store_rows(T* dst, int64_t row_stride, int64_t first, int64_t count,
                                  int width, const T (&sums)[kRows][kChunks],
                                  const T (&scale)[kRows]) {
    const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        if (first + r >= count) continue;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
            const int d = c * 32 + lane;
            if (d < width) dst[(first + r) * row_stride + d] = scale[r] * sums[r][c];
        }
    }
}

template <int kChunks, class T>
__global__ void __launch_bounds__(32 * kWarps)
    forward_kernel(AttentionArgs<T> a, Drop<T> drop, int64_t tiles, int stride) {
    T* q = dynamic_shared<T>();  // (32, stride), as k and v
    T* k = q + kTile * stride;
    T* v = k + kTile * stride;
    T* p = v + kTile * stride;  // (32, 32): a warp's own rows alone
    const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(threadIdx.y) * kRows;
    const int64_t head = blockIdx.x / tiles, first = blockIdx.x % tiles * kTile;
    const int64_t b = head / a.heads, h = head % a.heads;
    const int width = static_cast<int>(a.head_dim);
    load_tile(q, stride, a.q + b * a.q_batch + h * width, a.q_row, first, a.lq, width);
    T peak[kRows], sum[kRows], out[kRows][kChunks] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        peak[r] = -kInf<T>;
        sum[r] = 0;
    }
    int64_t end = a.lk;  // the keys that the tile's last query sees
    if (a.causal) {
        const int64_t last = first + kTile < a.lq ? first + kTile : a.lq;
        end = last + a.lk - a.lq < a.lk ? last + a.lk - a.lq : a.lk;
    }
    for (int64_t key = 0; key < end; key += kTile) {
        __syncthreads();  // the tiles before have been read
        load_tile(k, stride, a.k + b * a.k_batch + h * width, a.k_row, key, a.lk, width);
        load_tile(v, stride, a.v + b * a.v_batch + h * width, a.v_row, key, a.lk, width);
        __syncthreads();
        T score[kRows];
        lane_products(score, q + own * stride, k, stride, width);
        const int64_t j = key + lane;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int64_t i = first + own + r;
            // Chosen, not added: what a mask hides may be anything.
            const T s = hidden(a, b, i, j) ? -kInf<T> : static_cast<T>(a.scale) * score[r];
            const T higher = Greater()(peak[r], warp_reduce(s, Greater()));
            // Nothing seen yet: exp(-inf - 0) = 0. A NaN reaches the sum.
            const T shift = higher == -kInf<T> ? T{0} : higher;
            const T e = exp_of(s - shift), fade = exp_of(peak[r] - shift);
            sum[r] = multiply_add(sum[r], fade, warp_reduce(e, Add()));
            peak[r] = higher;
#pragma unroll
            for (int c = 0; c < kChunks; ++c) out[r][c] *= fade;
            const T keep = e == T{0} ? T{0} : kept(a, drop, head, i, j);
            p[(own + r) * kTile + lane] = keep == T{0} ? T{0} : e * keep;
        }
        __syncwarp();
        add_rows(out, p + own * kTile, v, stride, width);
    }
    T scale[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        scale[r] = sum[r] == T{0} ? T{0} : T{1} / sum[r];
        const int64_t i = first + own + r;
        if (a.lse && lane == 0 && i < a.lq)
            a.lse[head * a.lq + i] = sum[r] == T{0} ? -kInf<T> : peak[r] + log_of(sum[r]);
    }
    store_rows(a.out + b * a.out_batch + h * width, a.out_row, first + own, a.lq, width, out,
               scale);
}

// delta (B, H, Lq) = the product of dout and out, which is sum_j P dP of the row, dropout included.
template <class T>
__global__ void delta_kernel(T* delta, AttentionBackwardArgs<T> args) {
    const AttentionArgs<T>& a = args.forward;
    const int64_t row = Team<1>::row();
    if (row >= a.batch * a.heads * a.lq) return;
    const int64_t i = row % a.lq, h = row / a.lq % a.heads, b = row / a.lq / a.heads;
    const int64_t at = b * a.out_batch + i * a.out_row + h * a.head_dim;
    T sum = 0;
    for (int64_t d = Team<1>::rank(); d < a.head_dim; d += Team<1>::kSize)
        sum = multiply_add(args.dout[at + d], a.out[at + d], sum);
    sum = Team<1>::sum(sum);
    if (Team<1>::rank() == 0) delta[row] = sum;
}

// `keys`: a block owns 32 keys (K and V) and walks the queries (Q and dO): dk, dv. Otherwise it
// owns 32 queries and walks the keys: dq. With own1, own2 / other1, other2 being the rows of K, V /
// Q, dO or the reverse, both need the scores own1 other1, dP = own2 other2, and
// dS = P (dP - delta); the first gradient is dS other1, dv is P other2.
template <bool keys, int kChunks, class T>
__global__ void __launch_bounds__(32 * kWarps)
    backward_kernel(AttentionBackwardArgs<T> args, const T* delta, Drop<T> drop, int64_t tiles,
                    int stride) {
    const AttentionArgs<T>& a = args.forward;
    T* own1 = dynamic_shared<T>();  // (32, stride), as the three after it
    T* own2 = own1 + kTile * stride;
    T* other1 = own2 + kTile * stride;
    T* other2 = other1 + kTile * stride;
    T* p = other2 + kTile * stride;  // (32, 32): a warp's own rows alone
    T* ds = p + kTile * kTile;       // (32, 32)
    const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(threadIdx.y) * kRows;
    const int64_t head = blockIdx.x / tiles, first = blockIdx.x % tiles * kTile;
    const int64_t b = head / a.heads, h = head % a.heads;
    const int width = static_cast<int>(a.head_dim);
    const T* q = a.q + b * a.q_batch + h * width;
    const T* k = a.k + b * a.k_batch + h * width;
    const T* v = a.v + b * a.v_batch + h * width;
    const T* dout = args.dout + b * a.out_batch + h * width;
    load_tile(own1, stride, keys ? k : q, keys ? a.k_row : a.q_row, first, keys ? a.lk : a.lq,
              width);
    load_tile(own2, stride, keys ? v : dout, keys ? a.v_row : a.out_row, first, keys ? a.lk : a.lq,
              width);
    T first_sum[kRows][kChunks] = {}, second_sum[kRows][kChunks] = {};
    // Under the causal mask: the first query that sees the tile's first key, or the keys that its
    // last query sees.
    int64_t begin = 0, end = keys ? a.lq : a.lk;
    if (a.causal && keys) {
        begin = first - (a.lk - a.lq) > 0 ? (first - (a.lk - a.lq)) / kTile * kTile : 0;
    } else if (a.causal) {
        const int64_t last = first + kTile < a.lq ? first + kTile : a.lq;
        end = last + a.lk - a.lq < a.lk ? last + a.lk - a.lq : a.lk;
    }
    for (int64_t at = begin; at < end; at += kTile) {
        __syncthreads();  // the tiles before have been read
        load_tile(other1, stride, keys ? q : k, keys ? a.q_row : a.k_row, at, keys ? a.lq : a.lk,
                  width);
        load_tile(other2, stride, keys ? dout : v, keys ? a.out_row : a.v_row, at,
                  keys ? a.lq : a.lk, width);
        __syncthreads();
        T score[kRows], dp[kRows];
        lane_products(score, own1 + own * stride, other1, stride, width);
        lane_products(dp, own2 + own * stride, other2, stride, width);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int64_t i = keys ? at + lane : first + own + r;
            const int64_t j = keys ? first + own + r : at + lane;
            T probability = 0, used = 0, slope = 0;
            if (!hidden(a, b, i, j) && a.lse[head * a.lq + i] != -kInf<T>) {
                const T keep = kept(a, drop, head, i, j);
                probability = exp_of(static_cast<T>(a.scale) * score[r] - a.lse[head * a.lq + i]);
                used = probability * keep;
                slope = probability * (dp[r] * keep - delta[head * a.lq + i]);
            }
            p[(own + r) * kTile + lane] = used;
            ds[(own + r) * kTile + lane] = slope;
        }
        __syncwarp();
        add_rows(first_sum, ds + own * kTile, other1, stride, width);
        if constexpr (keys) add_rows(second_sum, p + own * kTile, other2, stride, width);
    }
    T scale[kRows], one[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        scale[r] = static_cast<T>(a.scale);
        one[r] = 1;
    }
    if constexpr (keys) {
        store_rows(args.dk + b * a.k_batch + h * width, a.k_row, first + own, a.lk, width,
                   first_sum, scale);
        store_rows(args.dv + b * a.v_batch + h * width, a.v_row, first + own, a.lk, width,
                   second_sum, one);
    } else {
        store_rows(args.dq + b * a.q_batch + h * width, a.q_row, first + own, a.lq, width,
                   first_sum, scale);
    }
}

// ---- Launchers ---------------------------------------------------------------------------------

// Odd, so that the lanes' rows begin in different banks.
int tile_stride(int64_t head_dim) {
    return static_cast<int>(head_dim | 1);
}

// Bytes of `tiles` tiles of rows and `squares` tiles of weights.
template <class T>
size_t shared_bytes(const char* op, int64_t head_dim, int64_t tiles, int64_t squares) {
    constexpr int64_t kWidest = 256;  // 8 columns a lane
    int device = 0, most = 0;
    MC_CUDA(op, cudaGetDevice(&device));
    MC_CUDA(op, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    const int64_t bytes = (tiles * kTile * (head_dim | 1) + squares * kTile * kTile) *
                          static_cast<int64_t>(sizeof(T));
    if (bytes > most || head_dim > kWidest)
        throw Error(std::string("[") + op + "] head_dim: got " + std::to_string(head_dim) +
                    ", want at most " + std::to_string(kWidest) + ", and in " +
                    name_of(DTypeOf<T>::value) + " what the " + std::to_string(most) +
                    " bytes of shared memory of a block hold on this GPU; use more heads or the "
                    "device cpu");
    return static_cast<size_t>(bytes);
}

template <class T>
Drop<T> drop_of(const AttentionArgs<T>& a) {
    const DropRule rule(a.dropout);
    return {rule.limit, static_cast<T>(rule.scale)};
}

// f(integral_constant) with the columns of a lane.
template <class F>
void with_chunks(int64_t head_dim, F&& f) {
    if (head_dim <= 32) return f(std::integral_constant<int, 1>());
    if (head_dim <= 64) return f(std::integral_constant<int, 2>());
    if (head_dim <= 128) return f(std::integral_constant<int, 4>());
    f(std::integral_constant<int, 8>());
}

template <class T>
void attention(Context& context, const AttentionArgs<T>& a) {
    const char* op = "attention";
    if (a.batch <= 0 || a.heads <= 0 || a.lq <= 0) return;
    const int64_t tiles = ceil_div(a.lq, kTile);
    const Launch shape{grid_size(op, a.batch * a.heads * tiles), dim3(32, kWarps),
                       shared_bytes<T>(op, a.head_dim, 3, 1)};
    with_chunks(a.head_dim, [&](auto chunks) {
        launch(op, context, shape, forward_kernel<decltype(chunks)::value, T>, a, drop_of(a), tiles,
               tile_stride(a.head_dim));
    });
}

template <class T>
void attention_backward(Context& context, const AttentionBackwardArgs<T>& args) {
    const char* op = "attention_backward";
    const AttentionArgs<T>& a = args.forward;
    const int64_t heads = a.batch * a.heads, rows = heads * a.lq;
    if (a.batch <= 0 || a.heads <= 0) return;
    const size_t bytes = shared_bytes<T>(op, a.head_dim, 4, 2);
    const DeviceLoan<T> delta(op, context, rows);
    if (rows > 0)
        launch(op, context, Team<1>::shape(op, rows), delta_kernel<T>, delta.data(), args);
    with_chunks(a.head_dim, [&](auto chunks) {
        constexpr int kChunks = decltype(chunks)::value;
        const int stride = tile_stride(a.head_dim);
        const int64_t query_tiles = ceil_div(a.lq, kTile), key_tiles = ceil_div(a.lk, kTile);
        const dim3 block(32, kWarps);
        if (query_tiles > 0)
            launch(op, context, {grid_size(op, heads * query_tiles), block, bytes},
                   backward_kernel<false, kChunks, T>, args, delta.data(), drop_of(a), query_tiles,
                   stride);
        if (key_tiles > 0)
            launch(op, context, {grid_size(op, heads * key_tiles), block, bytes},
                   backward_kernel<true, kChunks, T>, args, delta.data(), drop_of(a), key_tiles,
                   stride);
    });
}

template <class T>
void fill_table(AttentionKernels<T>& table) {
    table.attention = attention<T>;
    table.attention_backward = attention_backward<T>;
}

}  // namespace

void fill_attention(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
