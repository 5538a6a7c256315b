// Rows of tables: gather, deterministic scatter-add, nearest code.
#include "kernels/embedding.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/map.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/shared_kernels.h"
#include "kernels/cuda/team.h"

namespace mc::cuda {

namespace {

constexpr int64_t kSlabElements = int64_t{1} << 26;  // products of nearest_code kept at a time

// A warp a row, `n` columns a lane and step.
template <int n, class T>
__global__ void gather_rows_kernel(T* dst, const T* table, const int64_t* id, int64_t rows,
                                   int64_t cols) {
    const int64_t row = Team<1>::row();
    if (row >= rows) return;
    const int64_t from = id[row], packs = cols / n;  // whole packs: n divides cols
    for (int64_t c = Team<1>::rank(); c < packs; c += Team<1>::kSize) {
        Pack<T, n> v{};
        if (from >= 0) v = load_pack<n>(table + from * cols, c);
        reinterpret_cast<Pack<T, n>*>(dst + row * cols)[c] = v;
    }
}

// table[r] += its rows of src, in their order. `sorted` and `order` are the ids and positions,
// sorted: where a run of one id begins, a warp owns that row of the table, 32 columns of it. A run
// may be long (a batch's masks are one id), so rows are read some at a time before they are added.
template <class T>
__global__ void scatter_add_rows_kernel(T* table, const T* src, const uint32_t* sorted,
                                        const uint32_t* order, int64_t rows, int64_t cols,
                                        uint32_t table_rows) {
    const int64_t at = Team<1>::row();
    if (at >= rows) return;
    const uint32_t id = sorted[at];
    if (id >= table_rows || (at > 0 && sorted[at - 1] == id)) return;
    const int64_t first = static_cast<int64_t>(blockIdx.y) * Team<1>::kSize + Team<1>::rank();
    for (int64_t c = first; c < cols; c += static_cast<int64_t>(gridDim.y) * Team<1>::kSize) {
        T sum = table[id * cols + c];
        constexpr int kTogether = 8;
        bool more = true;
        for (int64_t i = at; more; i += kTogether) {
            T value[kTogether];
            bool mine[kTogether];  // the first ones
#pragma unroll
            for (int j = 0; j < kTogether; ++j) {
                mine[j] = i + j < rows && sorted[i + j] == id;
                value[j] = mine[j] ? src[order[i + j] * cols + c] : T{0};
            }
#pragma unroll
            for (int j = 0; j < kTogether; ++j)
                if (mine[j]) sum += value[j];
            more = mine[kTogether - 1];
        }
        table[id * cols + c] = sum;
    }
}

template <class T, class Team>
__global__ void square_norms_kernel(T* dst, const T* x, int64_t rows, int64_t cols) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    T sum = 0;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize) {
        const T v = x[row * cols + c];
        sum = multiply_add(v, v, sum);
    }
    sum = Team::sum(sum);
    if (Team::rank() == 0) dst[row] = sum;
}

// A warp a row: distance holds -2 x.c and becomes the distances; id = the first least one, 0 if all
// are NaN.
template <class T>
__global__ void nearest_kernel(int64_t* id, T* distance, const T* x_norm, const T* code_norm,
                               int64_t rows, int64_t codes) {
    const int64_t row = Team<1>::row();
    if (row >= rows) return;
    T least = kInf<T>;
    int64_t best = codes;  // none
    for (int64_t c = Team<1>::rank(); c < codes; c += Team<1>::kSize) {
        const T d = (x_norm[row] + distance[row * codes + c]) + code_norm[c];
        distance[row * codes + c] = d;
        if (d < least || (d == least && best == codes)) {
            least = d;
            best = c;
        }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(kAllLanes, least, step);
        const int64_t at = __shfl_xor_sync(kAllLanes, best, step);
        if (other < least || (other == least && at < best)) {
            least = other;
            best = at;
        }
    }
    if (Team<1>::rank() == 0) id[row] = best < codes ? best : 0;
}

// ---- Launchers ---------------------------------------------------------------------------------

template <class T>
void gather_rows(Context& context, T* dst, const T* table, const int64_t* id, int64_t rows,
                 int64_t cols) {
    if (rows <= 0 || cols <= 0) return;
    const char* op = "gather_rows";
    const Launch shape = Team<1>::shape(op, rows);
    if (cols % kPack<T> == 0 && pack_aligned(dst, kPack<T>) && pack_aligned(table, kPack<T>))
        launch(op, context, shape, gather_rows_kernel<kPack<T>, T>, dst, table, id, rows, cols);
    else
        launch(op, context, shape, gather_rows_kernel<1, T>, dst, table, id, rows, cols);
}

template <class T>
void scatter_add_rows(Context& context, T* table, const T* src, const int64_t* id, int64_t rows,
                      int64_t cols, int64_t table_rows) {
    if (rows <= 0 || cols <= 0) return;
    const char* op = "scatter_add_rows";
    const DeviceLoan<uint32_t> sorted(op, context, rows), order(op, context, rows);
    sort_positions(op, context, sorted.data(), order.data(), id, rows, table_rows);
    Launch shape = Team<1>::shape(op, rows);
    const int64_t across = ceil_div(cols, 32);
    shape.grid.y = static_cast<unsigned>(across < 1024 ? across : 1024);
    launch(op, context, shape, scatter_add_rows_kernel<T>, table, src, sorted.data(), order.data(),
           rows, cols, static_cast<uint32_t>(table_rows));
}

template <class T>
void square_norms(Context& context, T* dst, const T* x, int64_t rows, int64_t cols) {
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("nearest_code", context, Team::shape("nearest_code", rows),
               square_norms_kernel<T, Team>, dst, x, rows, cols);
    });
}

template <class T>
void nearest_code(Context& context, int64_t* id, T* distance, const T* x, const T* code,
                  int64_t rows, int64_t codes, int64_t cols) {
    if (rows <= 0) return;
    const char* op = "nearest_code";
    if (codes <= 0) {
        MC_CUDA(op, cudaMemsetAsync(id, 0, static_cast<size_t>(rows) * sizeof(int64_t),
                                    stream_of(context)));
        return;
    }
    const int64_t fitting = kSlabElements / codes > 0 ? kSlabElements / codes : 1;
    const int64_t slab = distance || rows < fitting ? rows : fitting;
    const DeviceLoan<T> norms(op, context, rows + codes);
    const DeviceLoan<T> scratch(op, context, distance ? 0 : slab * codes);
    T *x_norm = norms.data(), *code_norm = norms.data() + rows;
    square_norms(context, x_norm, x, rows, cols);
    square_norms(context, code_norm, code, codes, cols);
    for (int64_t first = 0; first < rows; first += slab) {
        const int64_t n = rows - first < slab ? rows - first : slab;
        T* products = distance ? distance : scratch.data();  // (n, codes)
        MatmulArgs<T> args;
        args.c = products;
        args.a = x + first * cols;
        args.b = code;
        args.m = n;
        args.n = args.ldc = codes;
        args.k = args.lda = args.ldb = cols;
        args.trans_b = true;
        args.alpha = T{-2};
        gemm(context, args);
        launch(op, context, Team<1>::shape(op, n), nearest_kernel<T>, id + first, products,
               x_norm + first, code_norm, n, codes);
    }
}

template <class T>
void fill_table(EmbeddingKernels<T>& table) {
    table.gather_rows = gather_rows<T>;
    table.scatter_add_rows = scatter_add_rows<T>;
    table.nearest_code = nearest_code<T>;
}

}  // namespace

void fill_embedding(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
