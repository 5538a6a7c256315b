#include "kernels/backend.h"
#include "tools/common/bench_problem.h"

namespace mc {

BenchBuffer random_bench_buffer(int64_t n) {
    auto buffer = std::make_shared<std::vector<float>>(static_cast<size_t>(n));
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (float& x : *buffer) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x = static_cast<float>(static_cast<int64_t>(state >> 33)) * 0x1p-30f - 1;
    }
    return buffer;
}

void add_memory_problems(std::vector<BenchProblem>& list) {
    constexpr int64_t rows = 32768, cols = 384, n = rows * cols;
    auto& k = backend(DeviceType::cpu).f32;
    CopyKernels& copy = backend(DeviceType::cpu).copy;
    // Shared by all problems: four arrays (rows, cols), one entry a row, one a column.
    BenchBuffer x = random_bench_buffer(n), y = random_bench_buffer(n), z = random_bench_buffer(n),
                m = random_bench_buffer(n), weight = random_bench_buffer(cols),
                bias = random_bench_buffer(cols), mean = random_bench_buffer(rows),
                rstd = random_bench_buffer(rows);
    auto label = std::make_shared<std::vector<int64_t>>(rows);
    for (size_t r = 0; r < label->size(); ++r) (*label)[r] = static_cast<int64_t>(r) * 7919 % cols;
    StridedLoop flat;
    flat.dims = 1;
    flat.size[0] = n;
    flat.stride_a[0] = flat.stride_b[0] = 1;
    StridedLoop transpose;
    transpose.dims = 2;
    transpose.size[0] = cols;
    transpose.size[1] = rows;
    transpose.stride_a[0] = 1;
    transpose.stride_a[1] = cols;
    // `streams` arrays of n elements are read or written.
    const auto add = [&](const char* name, double streams, auto run) {
        list.push_back({name, 0, 4.0 * streams * static_cast<double>(n), run});
    };
    add("binary add", 3,
        [=, &k](Context& c) { k.binary(c, BinaryOp::add, y->data(), x->data(), z->data(), flat); });
    for (const auto& [name, op] : {std::pair{"gelu", UnaryOp::gelu}, {"tanh", UnaryOp::tanh}}) {
        list.push_back({std::string("unary ") + name, 0, 8.0 * n, [=, &k, op = op](Context& c) {
                            k.unary(c, op, 0, y->data(), x->data(), n);
                        }});
        list.push_back(
            {std::string("unary_backward ") + name, 0, 12.0 * n, [=, &k, op = op](Context& c) {
                 k.unary_backward(c, op, 0, y->data(), z->data(), x->data(), n);
             }});
    }
    add("dropout", 2, [=, &k](Context& c) { k.dropout(c, y->data(), x->data(), 0.1, {1, 2}, n); });
    add("layer_norm", 2, [=, &k](Context& c) {
        k.layer_norm(c, {y->data(), mean->data(), rstd->data(), nullptr, x->data(), nullptr,
                         weight->data(), bias->data(), rows, cols, 1e-5});
    });
    add("layer_norm residual", 4, [=, &k](Context& c) {
        k.layer_norm(c, {y->data(), mean->data(), rstd->data(), m->data(), x->data(), z->data(),
                         weight->data(), bias->data(), rows, cols, 1e-5});
    });
    add("layer_norm_backward", 3, [=, &k](Context& c) {
        k.layer_norm_backward(c, {y->data(), weight->data(), bias->data(), z->data(), x->data(),
                                  mean->data(), rstd->data(), weight->data(), rows, cols});
    });
    add("softmax", 2, [=, &k](Context& c) { k.softmax(c, y->data(), x->data(), rows, cols); });
    add("softmax_backward", 3, [=, &k](Context& c) {
        k.softmax_backward(c, y->data(), z->data(), x->data(), rows, cols);
    });
    add("cross_entropy", 1, [=, &k](Context& c) {
        k.cross_entropy(
            c, {mean->data(), rstd->data(), x->data(), label->data(), rows, cols, -1, 0.1});
    });
    add("sum of columns", 1,
        [=, &k](Context& c) { k.sum(c, mean->data(), x->data(), 1, 1, rows, cols); });
    add("sum_of_squares", 1, [=, &k](Context& c) {
        double result;
        k.sum_of_squares(c, &result, x->data(), n);
    });
    add("adamw", 7, [=, &k](Context& c) {
        k.adamw(c, {y->data(), m->data(), z->data(), x->data(), n, 0, 0.9, 0.99, 1e-8, 0, 1, 9});
    });
    add("gather_rows", 2,
        [=, &k](Context& c) { k.gather_rows(c, y->data(), x->data(), label->data(), rows, cols); });
    add("uniform", 1, [=, &k](Context& c) { k.uniform(c, y->data(), -1, 1, {1, 2}, n); });
    add("gather_strided transpose", 2,
        [=, &copy](Context& c) { copy.gather_strided(c, y->data(), x->data(), transpose, 4); });
    add("cast f32 to f16", 1.5,
        [=, &copy](Context& c) { copy.cast(c, y->data(), DType::f16, x->data(), DType::f32, n); });
}

}  // namespace mc
