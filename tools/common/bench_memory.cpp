#include "tools/common/bench_problem.h"

namespace mc {

Tensor random_bench_tensor(DeviceType device, int64_t n) {
    const Tensor values = Tensor::empty({n});
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (int64_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values.data<float>()[i] =
            static_cast<float>(static_cast<int64_t>(state >> 33)) * 0x1p-30f - 1;
    }
    return values.to(device);
}

void add_memory_problems(std::vector<BenchProblem>& list, DeviceType device) {
    const int64_t rows = device == DeviceType::cpu ? 32768 : 262144;
    constexpr int64_t cols = 384;
    const int64_t n = rows * cols;
    auto& k = backend(device).f32;
    CopyKernels& copy = backend(device).copy;
    // Shared by all problems: four arrays (rows, cols), one entry a row, one a column.
    const auto random = [&](int64_t count) { return random_bench_tensor(device, count); };
    const Tensor x_values = random(n), y_values = random(n), z_values = random(n),
                 m_values = random(n), weight_values = random(cols), bias_values = random(cols),
                 mean_values = random(rows), rstd_values = random(rows);
    float *x = x_values.ptr<float>(), *y = y_values.ptr<float>(), *z = z_values.ptr<float>(),
          *m = m_values.ptr<float>(), *weight = weight_values.ptr<float>(),
          *bias = bias_values.ptr<float>(), *mean = mean_values.ptr<float>(),
          *rstd = rstd_values.ptr<float>();
    std::vector<int64_t> ids(static_cast<size_t>(rows));
    for (size_t r = 0; r < ids.size(); ++r) ids[r] = static_cast<int64_t>(r) * 7919 % cols;
    const Tensor labels = Tensor::from_ids(ids, {rows}).to(device);
    const Tensor total = Tensor::zeros({1}, DType::f64, device);
    const int64_t* label = labels.ptr<int64_t>();
    const std::vector<Tensor> keep = {x_values,      y_values,    z_values,    m_values,
                                      weight_values, bias_values, mean_values, rstd_values,
                                      labels,        total};
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
    const auto add = [&](const std::string& name, double streams, auto run) {
        list.push_back(
            {name, 0, 4.0 * streams * static_cast<double>(n), [run, keep](Context& c) { run(c); }});
    };
    add("binary add", 3, [=, &k](Context& c) { k.binary(c, BinaryOp::add, y, x, z, flat); });
    for (const auto& [name, op] : {std::pair{"gelu", UnaryOp::gelu}, {"tanh", UnaryOp::tanh}}) {
        add(std::string("unary ") + name, 2,
            [=, &k, op = op](Context& c) { k.unary(c, op, 0, y, x, n); });
        add(std::string("unary_backward ") + name, 3,
            [=, &k, op = op](Context& c) { k.unary_backward(c, op, 0, y, z, x, n); });
    }
    add("dropout", 2, [=, &k](Context& c) { k.dropout(c, y, x, 0.1, {1, 2}, n); });
    add("layer_norm", 2, [=, &k](Context& c) {
        k.layer_norm(c, {y, mean, rstd, nullptr, x, nullptr, weight, bias, rows, cols, 1e-5});
    });
    add("layer_norm residual", 4, [=, &k](Context& c) {
        k.layer_norm(c, {y, mean, rstd, m, x, z, weight, bias, rows, cols, 1e-5});
    });
    add("layer_norm_backward", 3, [=, &k](Context& c) {
        k.layer_norm_backward(c, {y, weight, bias, z, x, mean, rstd, weight, rows, cols});
    });
    add("softmax", 2, [=, &k](Context& c) { k.softmax(c, y, x, rows, cols); });
    add("softmax_backward", 3, [=, &k](Context& c) { k.softmax_backward(c, y, z, x, rows, cols); });
    add("cross_entropy", 1, [=, &k](Context& c) {
        k.cross_entropy(c, {mean, rstd, x, label, rows, cols, -1, 0.1});
    });
    add("sum of columns", 1, [=, &k](Context& c) { k.sum(c, mean, x, 1, 1, rows, cols); });
    add("sum_of_squares", 1, [=, &k, sum = total.ptr<double>()](Context& c) {
        const ReduceKernels<float>::Array array{x, n};
        k.sum_of_squares(c, sum, &array, 1);
    });
    add("adamw", 7, [=, &k](Context& c) {
        const OptimKernels<float>::AdamWItem item{y, m, z, x, n, 0, 0, 9};
        k.adamw(c, {&item, 1, 0.9, 0.99, 1e-8, 1});
    });
    // A model's worth of parameters of a layer's size, in one call.
    constexpr int64_t layer = cols * cols;
    std::vector<OptimKernels<float>::AdamWItem> items;
    for (int64_t at = 0; at + layer <= n && items.size() < 200; at += layer)
        items.push_back({y + at, m + at, z + at, x + at, layer, 0, 0, 9});
    const auto count = static_cast<int64_t>(items.size());
    add("adamw of " + std::to_string(count),
        7 * static_cast<double>(count * layer) / static_cast<double>(n), [=, &k](Context& c) {
            k.adamw(c, {items.data(), count, 0.9, 0.99, 1e-8, 1});
        });
    add("gather_rows", 2, [=, &k](Context& c) { k.gather_rows(c, y, x, label, rows, cols); });
    add("uniform", 1, [=, &k](Context& c) { k.uniform(c, y, -1, 1, {1, 2}, n); });
    add("gather_strided transpose", 2,
        [=, &copy](Context& c) { copy.gather_strided(c, y, x, transpose, 4); });
    add("cast f32 to f16", 1.5,
        [=, &copy](Context& c) { copy.cast(c, y, DType::f16, x, DType::f32, n); });
}

}  // namespace mc
