#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// Layer norm over the last dimension; null: no weight (1), no bias (0).
Array naive_layer_norm(const Array& x, const Array* weight, const Array* bias, double eps) {
    const int64_t cols = x.shape.back();
    Array y(x.shape);
    for (size_t row = 0; row < x.v.size(); row += static_cast<size_t>(cols)) {
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < cols; ++c) mean += x.v[row + static_cast<size_t>(c)];
        mean /= static_cast<double>(cols);
        for (int64_t c = 0; c < cols; ++c)
            variance += std::pow(x.v[row + static_cast<size_t>(c)] - mean, 2);
        variance /= static_cast<double>(cols);
        for (int64_t c = 0; c < cols; ++c) {
            const size_t at = row + static_cast<size_t>(c);
            y.v[at] =
                (x.v[at] - mean) / std::sqrt(variance + eps) * (weight ? weight->at({c}) : 1) +
                (bias ? bias->at({c}) : 0);
        }
    }
    return y;
}

// Group norm (groups > 0) or batch norm of (N, C) or (N, C, T) by the values of x; or by `running`.
Array naive_channel_norm(const Array& x, int64_t groups, const Array* weight, const Array* bias,
                         double eps, const std::pair<Array, Array>* running = nullptr) {
    const int64_t width = groups > 0 ? x.shape[1] / groups : 1;
    const auto together = [&](const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
        return a[1] / width == b[1] / width && (groups == 0 || a[0] == b[0]);
    };
    return filled(x.shape, [&](const std::vector<int64_t>& i) {
        double mean = 0, variance = 0, count = 0;
        for_each_index(x.shape, [&](const std::vector<int64_t>& j) {
            if (together(i, j)) mean += x.at(j), ++count;
        });
        mean /= count;
        for_each_index(x.shape, [&](const std::vector<int64_t>& j) {
            if (together(i, j)) variance += (x.at(j) - mean) * (x.at(j) - mean) / count;
        });
        if (running) mean = running->first.at({i[1]}), variance = running->second.at({i[1]});
        return (x.at(i) - mean) / std::sqrt(variance + eps) * (weight ? weight->at({i[1]}) : 1) +
               (bias ? bias->at({i[1]}) : 0);
    });
}

RunningStatistics random_running(int64_t channels) {
    return {random({channels}, 8), random({channels}, 9, 0.5, 1.5), Tensor::zeros({}, DType::i64)};
}

}  // namespace

TEST_CASE("layer norm: with and without residual, weight and bias") {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 9}, Shape{7}, Shape{2, 1}, Shape{19, 33}})
        for (int parts = 0; parts < 8; ++parts) {
            const bool with_weight = parts & 1, with_bias = parts & 2, with_residual = parts & 4;
            const Tensor x = random(shape, 1), w = random({shape.back()}, 2),
                         b = random({shape.back()}, 3), r = random(shape, 4);
            Array total(x);
            if (with_residual)
                for (size_t i = 0; i < total.v.size(); ++i) total.v[i] += Array(r).v[i];
            const Array wa(w), ba(b);
            const double eps = shape.back() == 1 ? 0.1 : 1e-5;
            const Array want = naive_layer_norm(total, with_weight ? &wa : nullptr,
                                                with_bias ? &ba : nullptr, eps);
            std::vector<Tensor> inputs{x};
            for (auto& [wanted, input] :
                 {std::pair{with_residual, r}, std::pair{with_weight, w}, std::pair{with_bias, b}})
                if (wanted) inputs.push_back(input);
            const Function f = [=](const std::vector<Var>& v) {
                size_t next = 1;
                const Var residual = with_residual ? v[next++] : Var(),
                          weight = with_weight ? v[next++] : Var(),
                          bias = with_bias ? v[next++] : Var();
                return with_residual ? layer_norm_residual(v[0], residual, weight, bias, eps)
                                     : layer_norm(v[0], weight, bias, eps);
            };
            const std::string name =
                "layer_norm " + shape.str() + " parts " + std::to_string(parts);
            check_op(name.c_str(), inputs, f, want, 1e-5);
        }
}

TEST_CASE("layer norm: one value as input and residual, a large mean, expanded parameters") {
    CHECK_NOTHROW(gradcheck("x + x", {random({3, 5}, 1)}, [](const std::vector<Var>& v) {
        return layer_norm_residual(v[0], v[0], Var(), Var(), 1e-5);
    }));
    Tensor x = random({2, 8}, 1);
    for (int64_t i = 0; i < 16; ++i) x.data<double>()[i] += 1e6;  // E[x^2] - E[x]^2 would fail
    check_near(layer_norm(Var(x), Var(), Var(), 1e-5).value(),
               naive_layer_norm(Array(x), nullptr, nullptr, 1e-5), 1e-9, "large mean");
    CHECK_NOTHROW(gradcheck(
        "expanded",
        {random({1, 5}, 1).expand({3, 5}), random({1}, 2).expand({5}), random({1}, 3).expand({5})},
        [](const std::vector<Var>& v) { return layer_norm(v[0], v[1], v[2], 0.1); }));
}

TEST_CASE("group norm: with and without weight and bias") {
    for (auto& [shape, groups] :
         {std::pair{Shape{2, 6, 5}, 3}, std::pair{Shape{2, 6, 5}, 6}, std::pair{Shape{3, 4}, 1},
          std::pair{Shape{3, 4}, 2}, std::pair{Shape{1, 2, 17}, 2}, std::pair{Shape{2, 1, 3}, 1}})
        for (int parts = 0; parts < 4; ++parts) {
            const bool with_weight = parts & 1, with_bias = parts & 2;
            const Tensor x = random(shape, 1), w = random({shape[1]}, 2), b = random({shape[1]}, 3);
            const Array wa(w), ba(b);
            const Array want = naive_channel_norm(Array(x), groups, with_weight ? &wa : nullptr,
                                                  with_bias ? &ba : nullptr, 1e-3);
            std::vector<Tensor> inputs{x};
            if (with_weight) inputs.push_back(w);
            if (with_bias) inputs.push_back(b);
            check_op(("group_norm " + shape.str() + " parts " + std::to_string(parts)).c_str(),
                     inputs,
                     [=, groups = groups](const std::vector<Var>& v) {
                         return group_norm(v[0], groups, with_weight ? v[1] : Var(),
                                           with_bias ? v.back() : Var(), 1e-3);
                     },
                     want, 1e-5);
        }
}

TEST_CASE("batch norm: by the input's statistics in training, else by the running ones") {
    for (const Shape& shape :
         {Shape{3, 4, 5}, Shape{7, 3}, Shape{1, 2, 17}, Shape{5, 1}, Shape{2, 5, 1}})
        for (bool training : {true, false})
            for (int parts = 0; parts < 4; ++parts) {
                const bool with_weight = parts & 1, with_bias = parts & 2;
                const Tensor x = random(shape, 1), w = random({shape[1]}, 2),
                             b = random({shape[1]}, 3);
                const Array wa(w), ba(b);
                const RunningStatistics start = random_running(shape[1]);
                const std::pair<Array, Array> running{Array(start.mean), Array(start.var)};
                const Array want = naive_channel_norm(Array(x), 0, with_weight ? &wa : nullptr,
                                                      with_bias ? &ba : nullptr, 1e-3,
                                                      training ? nullptr : &running);
                std::vector<Tensor> inputs{x};
                if (with_weight) inputs.push_back(w);
                if (with_bias) inputs.push_back(b);
                check_op(("batch_norm " + shape.str() + " parts " + std::to_string(parts)).c_str(),
                         inputs,
                         [=](const std::vector<Var>& v) {
                             const DType dtype = v[0].dtype();
                             return batch_norm(v[0],
                                               {start.mean.to(dtype).clone(),
                                                start.var.to(dtype).clone(), start.batches.clone()},
                                               with_weight ? v[1] : Var(),
                                               with_bias ? v.back() : Var(),
                                               {.training = training, .eps = 1e-3});
                         },
                         want, 1e-5);
            }
}

TEST_CASE("batch norm: what training leaves in the running statistics") {
    const Tensor x = random({3, 2, 5}, 1);
    const RunningStatistics running = random_running(2);
    const Array mean(running.mean), var(running.var);
    const uint32_t version = running.var.version();
    batch_norm(Var(x), running, Var(), Var(), {.training = false});
    CHECK(running.var.version() == version);
    check_near(running.mean, mean, 0, "evaluation");
    const uint32_t mean_version = running.mean.version(), count_version = running.batches.version();
    batch_norm(Var(x), running, Var(), Var(), {.training = true, .momentum = 0.25});
    CHECK(running.mean.version() != mean_version);
    CHECK(running.batches.version() != count_version);
    CHECK(running.var.version() != version);
    CHECK(running.batches.item<int64_t>() == 1);
    for (int64_t c = 0; c < 2; ++c) {
        double average = 0, deviations = 0;
        for (int64_t i = 0; i < 15; ++i) average += Array(x).at({i / 5, c, i % 5}) / 15;
        for (int64_t i = 0; i < 15; ++i)
            deviations += std::pow(Array(x).at({i / 5, c, i % 5}) - average, 2);
        CHECK(running.mean.item<double>({c}) ==
              doctest::Approx(0.75 * mean.at({c}) + 0.25 * average).epsilon(1e-14));
        CHECK(running.var.item<double>({c}) ==
              doctest::Approx(0.75 * var.at({c}) + 0.25 * deviations / 14).epsilon(1e-14));
    }
}

TEST_CASE("l2 normalize: rows of any size; below eps it is a division by eps") {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 9}, Shape{7}, Shape{4, 1}}) {
        const Tensor x = random_off_zero(shape, 1, 0.1);
        for (double eps : {1e-12, 100.0}) {
            const int64_t cols = shape.back();
            Array want(x);
            for (size_t row = 0; row < want.v.size(); row += static_cast<size_t>(cols)) {
                double norm = 0;
                for (size_t c = 0; c < static_cast<size_t>(cols); ++c)
                    norm += want.v[row + c] * want.v[row + c];
                norm = std::max(std::sqrt(norm), eps);
                for (size_t c = 0; c < static_cast<size_t>(cols); ++c) want.v[row + c] /= norm;
            }
            check_op(
                "l2_normalize", {x},
                [=](const std::vector<Var>& v) { return l2_normalize(v[0], eps); }, want);
        }
    }
    const Tensor zero = Tensor::zeros({2, 3}, DType::f64);
    check_near(l2_normalize(Var(zero)).value(), Array(Shape{2, 3}), 0, "zero rows");
}

TEST_CASE("norms: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    CHECK_ERROR(layer_norm(var({2, 3}), var({2}), Var(), 1e-5), "[layer_norm]", "(2, 3)", "(2)");
    CHECK_ERROR(layer_norm(var({2, 3}), Var(), var({3, 1}), 1e-5), "[layer_norm]", "(3, 1)");
    CHECK_ERROR(layer_norm(var({}), Var(), Var(), 1e-5), "[layer_norm]", "()");
    CHECK_ERROR(layer_norm(var({2, 3}), Var(Tensor::zeros({3})), Var(), 1e-5), "[layer_norm]",
                "f32");
    CHECK_ERROR(layer_norm_residual(var({2, 3}), var({3}), Var(), Var(), 1e-5), "[layer_norm]",
                "(2, 3)", "(3)");
    CHECK_ERROR(l2_normalize(var({})), "[l2_normalize]", "()");
    CHECK_ERROR(group_norm(var({2, 6, 3}), 4, Var(), Var()), "[group_norm]", "(2, 6, 3)",
                "4 groups");
    CHECK_ERROR(group_norm(var({2, 6, 3}), 0, Var(), Var()), "[group_norm]", "0 groups");
    CHECK_ERROR(group_norm(var({6}), 2, Var(), Var()), "[group_norm]", "(6)", "(N, C, T)");
    CHECK_ERROR(group_norm(var({2, 6, 3}), 2, var({3}), Var()), "[group_norm]", "(2, 6, 3)", "(3)");
    CHECK_ERROR(group_norm(var({2, 6}), 2, Var(), Var(Tensor::zeros({6}))), "[group_norm]", "f32");
    const RunningStatistics four = random_running(4);
    CHECK_ERROR(batch_norm(var({2, 6, 3}), four, Var(), Var(), {}), "[batch_norm]", "(2, 6, 3)",
                "(4)");
    CHECK_ERROR(batch_norm(var({2, 4, 3}), four, Var(), var({3}), {}), "[batch_norm]", "(2, 4, 3)",
                "(3)");
    CHECK_ERROR(batch_norm(var({1, 4}), four, Var(), Var(), {.training = true}), "[batch_norm]",
                "(1, 4)", "two values");
    CHECK_ERROR(batch_norm(var({2, 4, 3, 1}), four, Var(), Var(), {}), "[batch_norm]",
                "(2, 4, 3, 1)");
    CHECK_ERROR(batch_norm(var({2, 4}), {four.mean, four.var, Tensor()}, Var(), Var(), {}),
                "[batch_norm]", "running");
}
