#include "nn/transformer.h"

#include <numbers>

#include "nn/gpt_block.h"
#include "tests/nn/nn_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

AttentionOptions masked() {
    AttentionOptions o;
    o.causal = true;
    o.key_padding = Tensor::from_bools({0, 0, 0, 0, 0, 1}, {2, 3});
    return o;
}

Array naive_pre_norm(const Array& x, const nn::PreNormBlock& block, const AttentionOptions& o) {
    const Array y = plus(x, naive_self_attention(naive_norm(x, block.ln_1), block.attn, o));
    const Array hidden =
        mapped(naive_linear(naive_norm(y, block.ln_2), block.mlp.fc.weight, block.mlp.fc.bias),
               [](double v) { return v / (1 + std::exp(-1.702 * v)); });
    return plus(y, naive_linear(hidden, block.mlp.proj.weight, block.mlp.proj.bias));
}

Array naive_post_norm(const Array& x, const nn::PostNormBlock& block, const AttentionOptions& o) {
    const Array y = naive_norm(plus(x, naive_self_attention(x, block.self_attn, o)), block.norm1);
    const Array hidden =
        mapped(naive_linear(y, block.linear1.weight, block.linear1.bias),
               [](double v) { return 0.5 * v * (1 + std::erf(v / std::numbers::sqrt2)); });
    return naive_norm(plus(y, naive_linear(hidden, block.linear2.weight, block.linear2.bias)),
                      block.norm2);
}

// Value and every gradient of one training step of a block.
template <class Block>
std::vector<Tensor> step(Block& block, const Tensor& x, const AttentionOptions& options,
                         uint64_t seed) {
    Generator draws(seed);
    const nn::Pass pass{.training = true, .generator = &draws};
    Var input(x, requires_grad);
    Tape tape;
    Tape::Recording recording(tape);
    const Var y = block(input, options, pass);
    tape.backward(y, random(y.shape(), 7).to(y.dtype()));
    std::vector<Tensor> all{y.value(), input.grad()};
    for (auto& [name, parameter] : block.parameters()) {
        const std::string label = name;
        CAPTURE(label);
        REQUIRE(parameter->grad().defined());
        all.push_back(parameter->grad());
        parameter->clear_grad();
    }
    return all;
}

}  // namespace

TEST_CASE("pre-norm block: forward, gradients") {
    nn::PreNormBlock block(4, 2, 6, nn::PreNormBlock::kClipNames, nullptr);
    randomise(block, 1, 0.8);
    const Tensor x = random({2, 3, 4}, 99);
    for (const AttentionOptions& options : {AttentionOptions(), masked()}) {
        gradcheck_module("PreNormBlock", block, x,
                         [&](const Var& v) { return block(v, options, {}); });
        check_near(block(Var(x), options, {}).value(), naive_pre_norm(Array(x), block, options),
                   1e-12, "PreNormBlock");
    }
}

TEST_CASE("post-norm block: forward, gradients, dropout too") {
    nn::PostNormBlock block(4, 2, 6, 0.3, nullptr);
    randomise(block, 1, 0.8);
    const Tensor x = random({2, 3, 4}, 99);
    for (const AttentionOptions& options : {AttentionOptions(), masked()}) {
        gradcheck_module("PostNormBlock", block, x,
                         [&](const Var& v) { return block(v, options, {}); });
        gradcheck_module("PostNormBlock, training", block, x, [&](const Var& v) {
            Generator draws(5);
            return block(v, options, {.training = true, .generator = &draws});
        });
        check_near(block(Var(x), options, {}).value(), naive_post_norm(Array(x), block, options),
                   1e-12, "PostNormBlock");
    }
    Generator draws(5);
    block(Var(x), {}, {.training = true, .generator = &draws});
    CHECK(draws.position() == 4);  // attention, and three dropouts
}

TEST_CASE_TEMPLATE("blocks: rows that are shared or not wanted, as if all were computed", Block,
                   nn::PostNormBlock, nn::GptBlock) {
    Block block(4, 2, 6, 0, nullptr);
    randomise(block, 1, 0.8);
    block.to(DType::f64);
    const Tensor x = random({1, 4, 4}, 99);  // the first rows of two sequences, two that both have
    nn::RowMaps rows;
    const auto check = [&](const char* name) {
        CAPTURE(std::string(name));
        AttentionOptions options;
        options.key_padding = Tensor::zeros(
            {rows.attended(Var(x)).size(0), rows.attended(Var(x)).size(1)}, DType::boolean);
        options.key_padding.template data<bool>()[1] = true;
        Var want = block(rows.attended(Var(x)), options, {});
        if (rows.wanted) want = rows.wanted(want);
        check_near(block(Var(x), options, {}, rows).value(), Array(want.value()), 1e-14, name);
        gradcheck_module(name, block, x, [&](const Var& v) { return block(v, options, {}, rows); });
    };
    rows.wanted = [](const Var& v) { return slice(v, 1, 1, 3); };
    check("wanted");
    rows.spread = [](const Var& v) {
        const Var shared = slice(v, 1, 2, 4);
        return concat(
            {concat({slice(v, 1, 0, 1), shared}, 1), concat({slice(v, 1, 1, 2), shared}, 1)}, 0);
    };
    check("shared and wanted");
    rows.wanted = nullptr;
    check("shared");
}

TEST_CASE("blocks: one and two threads give the same bits, forward and backward") {
    Generator init(1);
    nn::PreNormBlock pre(96, 4, 200, nn::PreNormBlock::kClipNames, &init);
    nn::PostNormBlock post(96, 4, 200, 0.1, &init);
    const Tensor x = init.normal({5, 49, 96});
    AttentionOptions options;
    options.key_padding = Tensor::zeros({5, 49}, DType::boolean);
    for (int64_t t = 40; t < 49; ++t) options.key_padding.data<bool>()[t] = true;
    const int threads = num_threads();
    std::vector<std::vector<Tensor>> runs;
    for (int count : {1, 2, 2}) {
        set_num_threads(count);
        runs.push_back(step(pre, x, options, 3));
        for (const Tensor& t : step(post, x, options, 3)) runs.back().push_back(t);
    }
    set_num_threads(threads);
    for (size_t run = 1; run < runs.size(); ++run)
        for (size_t i = 0; i < runs[0].size(); ++i) {
            CAPTURE(i);
            CHECK(same_bits(runs[0][i], runs[run][i]));
        }
}

TEST_CASE("blocks: f32 follows f64") {
    Generator init(1);
    nn::PostNormBlock block(32, 4, 64, 0, &init);
    const Tensor x = init.normal({2, 9, 32});
    const std::vector<Tensor> singles = step(block, x, {}, 1);
    block.to(DType::f64);
    const std::vector<Tensor> doubles = step(block, x.to(DType::f64), {}, 1);
    REQUIRE(singles.size() == doubles.size());
    check_near(singles[0], Array(doubles[0]), 1e-5, "value");
    for (size_t i = 1; i < singles.size(); ++i) {
        CAPTURE(i);
        check_near(singles[i], Array(doubles[i]), 1e-5, "gradient");
    }
}
