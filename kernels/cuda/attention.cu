// Attention for a tile of 32 queries of one head and a tile of 32 keys at a time: scores, masks,
// softmax, dropout and the weighted sum stay in registers and shared memory, and the (Lq, Lk)
// matrix is nowhere. The softmax is the online one (Milakov and Gimelshein 2018), the walk
// FlashAttention's (Dao et al. 2022). Backward recomputes the probabilities from the saved
// log-sum-exp, once for the queries' gradients and once for the keys' and values', so that every
// sum has one owner and no atomics are needed.
//
// A block has 8 warps and each owns 4 rows of its tile; the 32 lanes are the 32 rows of the other
// tile while scores are computed, and the head's columns while rows are added up. What limits both
// is shared memory, so it is read 16 bytes at a time, and each value serves the 4 rows.
#include "kernels/attention.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/map.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/philox.h"
#include "kernels/cuda/team.h"

namespace mc::cuda {

namespace {

constexpr int kTile = 32, kWarps = 8, kRows = kTile / kWarps;
constexpr int kWidest = 256;  // columns of a head, 8 a lane

// Dropout of the probabilities (DropRule).
template <class T>
struct Drop {
    uint32_t limit;
    T scale;
};

// What dropout draws for a tile of 32 queries and 32 keys, made by all threads, a Philox block
// each. A query's numbers are neighbours that begin anywhere in a block: 5 blocks have them.
class DropTile {
    // Odd, so that neighbouring queries begin in different banks.
    static constexpr int kBlocks = 5, kStride = 21;

  public:
    static constexpr size_t kBytes = kTile * kStride * sizeof(uint32_t);  // of shared memory

    // Behind the block's other shared memory.
    __device__ explicit DropTile(void* shared) : words_(static_cast<uint32_t*>(shared)) {}

    template <class T>
    __device__ void draw(const AttentionArgs<T>& a, int64_t head, int64_t query, int64_t key) {
        const int thread = static_cast<int>(threadIdx.y * 32 + threadIdx.x);
        if (thread >= kTile * kBlocks) return;
        const int row = thread / kBlocks, block = thread % kBlocks;
        const Draws draws = draws_of(
            a.random, number(a, head, query + row, key) / 8 + static_cast<uint64_t>(block));
#pragma unroll
        for (int w = 0; w < 4; ++w) words_[row * kStride + 4 * block + w] = draws.word[w];
    }

    // 1 / (1 - p), or 0 where the probability of query `query + i` and key `key + j` is dropped.
    template <class T>
    __device__ T kept(const AttentionArgs<T>& a, const Drop<T>& drop, int64_t head, int64_t query,
                      int64_t key, int i, int j) const {
        if (drop.limit == 0) return T{1};
        const int half = static_cast<int>(number(a, head, query + i, key) % 8) + j;
        const uint32_t bits = words_[i * kStride + half / 2] >> (16 * (half % 2)) & 0xFFFFu;
        return bits < drop.limit ? T{0} : drop.scale;
    }

  private:
    template <class T>
    __device__ static uint64_t number(const AttentionArgs<T>& a, int64_t head, int64_t query,
                                      int64_t key) {
        return static_cast<uint64_t>((head * a.lq + query) * a.lk + key);
    }

    uint32_t* words_;  // (32, kStride)
};

template <class T>
__device__ inline bool hidden(const AttentionArgs<T>& a, int64_t b, int64_t i, int64_t j) {
    if (i >= a.lq || j >= a.lk || (a.causal && j > i + (a.lk - a.lq))) return true;
    if (a.key_padding && a.key_padding[b * a.lk + j]) return true;
    return a.mask && a.mask[b * a.mask_batch + i * a.lk + j];
}

// A row of a tile in shared memory: a head's columns, 32 a chunk, and 16 bytes more, so that the
// lanes' rows begin in different banks. Known here, so that addresses cost no instructions.
template <int kChunks, class T>
inline constexpr int kStride = 32 * kChunks + kPack<T>;

// tile (32, kStride) = rows first .. first + 31 of src (count, width); zeros beyond both.
template <int kChunks, class T>
__device__ inline void load_tile(T* tile, const T* src, int64_t row_stride, int64_t first,
                                 int64_t count, int width) {
    const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const int row = warp + r * kWarps;
        const bool inside = first + row < count;
        const T* from = src + (first + row) * row_stride;
        T* to = tile + row * kStride<kChunks, T>;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
            const int d = c * 32 + lane;
            to[d] = inside && d < width ? from[d] : T{0};
        }
    }
}

// dst[r] = row `r` of the warp's own rows (4, kStride) times the lane's row of `other`.
template <int kChunks, class T>
__device__ inline void lane_products(T (&dst)[kRows], const T* own, const T* other, int width) {
    constexpr int n = kPack<T>, stride = kStride<kChunks, T>;
    other += static_cast<int>(threadIdx.x) * stride;
#pragma unroll
    for (int r = 0; r < kRows; ++r) dst[r] = 0;
#pragma unroll 2
    for (int d = 0; d < width; d += n) {
        const Pack<T, n> v = load_pack<n>(other + d, 0);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const Pack<T, n> u = load_pack<n>(own + r * stride + d, 0);
#pragma unroll
            for (int i = 0; i < n; ++i) dst[r] = multiply_add(u.value[i], v.value[i], dst[r]);
        }
    }
}

// Weights of the warp's own rows for the 32 rows of the other tile: (32, 4), a lane's together.
template <class T>
__device__ inline void store_weights(T* weights, const T (&own)[kRows]) {
    constexpr int n = kPack<T>;
#pragma unroll
    for (int r = 0; r < kRows; r += n) {
        Pack<T, n> part;
#pragma unroll
        for (int i = 0; i < n; ++i) part.value[i] = own[r + i];
        reinterpret_cast<Pack<T, n>*>(weights + threadIdx.x * kRows + r)[0] = part;
    }
}

// sums[r][c] += the weights of the warp's row r times the rows of `other`, in the lane's columns
// c * 32 + lane.
template <int kChunks, class T>
__device__ inline void add_rows(T (&sums)[kRows][kChunks], const T* weights, const T* other) {
    constexpr int n = kPack<T>;
    other += threadIdx.x;
#pragma unroll 4
    for (int row = 0; row < kTile; ++row) {
        Pack<T, n> weight[kRows / n];
#pragma unroll
        for (int i = 0; i < kRows / n; ++i) weight[i] = load_pack<n>(weights + row * kRows, i);
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
            const T v = other[row * kStride<kChunks, T> + c * 32];
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                sums[r][c] = multiply_add(weight[r / n].value[r % n], v, sums[r][c]);
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
    forward_kernel(AttentionArgs<T> a, Drop<T> drop, int64_t tiles) {
    constexpr int stride = kStride<kChunks, T>;
    T* q = dynamic_shared<T>();  // (32, stride), as k and v
    T* k = q + kTile * stride;
    T* v = k + kTile * stride;
    T* p = v + kTile * stride;  // (32, 32): a warp's own rows alone
    DropTile drawn(p + kTile * kTile);
    const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(threadIdx.y) * kRows;
    const int64_t head = blockIdx.x / tiles, first = blockIdx.x % tiles * kTile;
    const int64_t b = head / a.heads, h = head % a.heads;
    const int width = static_cast<int>(a.head_dim);
    load_tile<kChunks>(q, a.q + b * a.q_batch + h * width, a.q_row, first, a.lq, width);
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
        load_tile<kChunks>(k, a.k + b * a.k_batch + h * width, a.k_row, key, a.lk, width);
        load_tile<kChunks>(v, a.v + b * a.v_batch + h * width, a.v_row, key, a.lk, width);
        if (drop.limit > 0) drawn.draw(a, head, first, key);
        __syncthreads();
        T score[kRows], weight[kRows];
        lane_products<kChunks>(score, q + own * stride, k, width);
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
            const T keep = drawn.kept(a, drop, head, first, key, own + r, lane);
            weight[r] = keep == T{0} ? T{0} : e * keep;
        }
        store_weights(p + own * kTile, weight);
        __syncwarp();
        add_rows(out, p + own * kTile, v);
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
    backward_kernel(AttentionBackwardArgs<T> args, const T* delta, Drop<T> drop, int64_t tiles) {
    constexpr int stride = kStride<kChunks, T>;
    const AttentionArgs<T>& a = args.forward;
    T* own1 = dynamic_shared<T>();  // (32, stride), as the three after it
    T* own2 = own1 + kTile * stride;
    T* other1 = own2 + kTile * stride;
    T* other2 = other1 + kTile * stride;
    T* p = other2 + kTile * stride;  // (32, 32): a warp's own rows alone
    T* ds = p + kTile * kTile;       // (32, 32)
    DropTile drawn(ds + kTile * kTile);
    const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(threadIdx.y) * kRows;
    const int64_t head = blockIdx.x / tiles, first = blockIdx.x % tiles * kTile;
    const int64_t b = head / a.heads, h = head % a.heads;
    const int width = static_cast<int>(a.head_dim);
    const T* q = a.q + b * a.q_batch + h * width;
    const T* k = a.k + b * a.k_batch + h * width;
    const T* v = a.v + b * a.v_batch + h * width;
    const T* dout = args.dout + b * a.out_batch + h * width;
    load_tile<kChunks>(own1, keys ? k : q, keys ? a.k_row : a.q_row, first, keys ? a.lk : a.lq,
                       width);
    load_tile<kChunks>(own2, keys ? v : dout, keys ? a.v_row : a.out_row, first, keys ? a.lk : a.lq,
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
        load_tile<kChunks>(other1, keys ? q : k, keys ? a.q_row : a.k_row, at, keys ? a.lq : a.lk,
                           width);
        load_tile<kChunks>(other2, keys ? dout : v, keys ? a.out_row : a.v_row, at,
                           keys ? a.lq : a.lk, width);
        const int64_t query = keys ? at : first, key = keys ? first : at;
        if (drop.limit > 0) drawn.draw(a, head, query, key);
        __syncthreads();
        T score[kRows], dp[kRows], used[kRows], slope[kRows];
        lane_products<kChunks>(score, own1 + own * stride, other1, width);
        lane_products<kChunks>(dp, own2 + own * stride, other2, width);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int row = keys ? lane : own + r, col = keys ? own + r : lane;
            const int64_t i = query + row;
            used[r] = slope[r] = 0;
            if (hidden(a, b, i, key + col) || a.lse[head * a.lq + i] == -kInf<T>) continue;
            const T keep = drawn.kept(a, drop, head, query, key, row, col);
            const T probability =
                exp_of(static_cast<T>(a.scale) * score[r] - a.lse[head * a.lq + i]);
            used[r] = probability * keep;
            slope[r] = probability * (dp[r] * keep - delta[head * a.lq + i]);
        }
        store_weights(p + own * kTile, used);
        store_weights(ds + own * kTile, slope);
        __syncwarp();
        add_rows(first_sum, ds + own * kTile, other1);
        if constexpr (keys) add_rows(second_sum, p + own * kTile, other2);
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

// Bytes of `tiles` tiles of rows, `squares` tiles of weights and one of dropout's numbers.
template <int kChunks, class T>
size_t shared_bytes(const char* op, int64_t head_dim, int tiles, int squares) {
    int device = 0, most = 0;
    MC_CUDA(op, cudaGetDevice(&device));
    MC_CUDA(op, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    const int floats = kTile * (tiles * kStride<kChunks, T> + squares * kTile);
    const size_t bytes = static_cast<size_t>(floats) * sizeof(T) + DropTile::kBytes;
    if (bytes > static_cast<size_t>(most) || head_dim > kWidest)
        throw Error(std::string("[") + op + "] head_dim: got " + std::to_string(head_dim) +
                    ", want at most " + std::to_string(kWidest) + ", and in " +
                    name_of(DTypeOf<T>::value) + " what the " + std::to_string(most) +
                    " bytes of shared memory of a block hold on this GPU; use more heads or the "
                    "device cpu");
    return bytes;
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
    if (head_dim <= 96) return f(std::integral_constant<int, 3>());
    if (head_dim <= 128) return f(std::integral_constant<int, 4>());
    if (head_dim <= 192) return f(std::integral_constant<int, 6>());
    f(std::integral_constant<int, kWidest / 32>());
}

template <class T>
void attention(Context& context, const AttentionArgs<T>& a) {
    const char* op = "attention";
    if (a.batch <= 0 || a.heads <= 0 || a.lq <= 0) return;
    const int64_t tiles = ceil_div(a.lq, kTile);
    with_chunks(a.head_dim, [&](auto chunks) {
        constexpr int kChunks = decltype(chunks)::value;
        launch(op, context,
               {grid_size(op, a.batch * a.heads * tiles), dim3(32, kWarps),
                shared_bytes<kChunks, T>(op, a.head_dim, 3, 1)},
               forward_kernel<kChunks, T>, a, drop_of(a), tiles);
    });
}

template <class T>
void attention_backward(Context& context, const AttentionBackwardArgs<T>& args) {
    const char* op = "attention_backward";
    const AttentionArgs<T>& a = args.forward;
    const int64_t heads = a.batch * a.heads, rows = heads * a.lq;
    if (a.batch <= 0 || a.heads <= 0) return;
    const DeviceLoan<T> delta(op, context, rows);
    with_chunks(a.head_dim, [&](auto chunks) {
        constexpr int kChunks = decltype(chunks)::value;
        const size_t bytes = shared_bytes<kChunks, T>(op, a.head_dim, 4, 2);
        const int64_t query_tiles = ceil_div(a.lq, kTile), key_tiles = ceil_div(a.lk, kTile);
        const dim3 block(32, kWarps);
        if (rows > 0)
            launch(op, context, Team<1>::shape(op, rows), delta_kernel<T>, delta.data(), args);
        if (query_tiles > 0)
            launch(op, context, {grid_size(op, heads * query_tiles), block, bytes},
                   backward_kernel<false, kChunks, T>, args, delta.data(), drop_of(a), query_tiles);
        if (key_tiles > 0)
            launch(op, context, {grid_size(op, heads * key_tiles), block, bytes},
                   backward_kernel<true, kChunks, T>, args, delta.data(), drop_of(a), key_tiles);
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
