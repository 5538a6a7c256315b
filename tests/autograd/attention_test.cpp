#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

constexpr uint64_t kSeed = 9, kPosition = 4;

// softmax(q k^T / sqrt(D / heads)) v, head by head. q (B, Lq, D), k and v (B, Lk, D).
Array naive_attention(const Array& q, const Array& k, const Array& v, const AttentionOptions& o) {
    const int64_t lq = q.shape[1], lk = k.shape[1], width = q.shape[2] / o.heads;
    const RandomStream stream = Generator(kSeed, kPosition).stream();
    auto hidden = [&](int64_t b, int64_t i, int64_t j) {
        return (o.causal && j > i + lk - lq) ||
               (o.key_padding.defined() && o.key_padding.item<bool>({b, j})) ||
               (o.mask.defined() &&
                (o.mask.dims() == 3 ? o.mask.item<bool>({b, i, j}) : o.mask.item<bool>({i, j})));
    };
    Array out(q.shape);
    for_each_index({q.shape[0], o.heads, lq}, [&](const std::vector<int64_t>& at) {
        const int64_t b = at[0], h = at[1], i = at[2];
        std::vector<double> p(static_cast<size_t>(lk), 0.0);
        double top = -kInf, total = 0;
        for (int64_t j = 0; j < lk; ++j) {
            if (hidden(b, i, j)) continue;
            double score = 0;
            for (int64_t d = 0; d < width; ++d)
                score += q.at({b, i, h * width + d}) * k.at({b, j, h * width + d});
            p[static_cast<size_t>(j)] = score / std::sqrt(static_cast<double>(width));
            top = std::max(top, p[static_cast<size_t>(j)]);
        }
        for (int64_t j = 0; j < lk; ++j) {
            double& x = p[static_cast<size_t>(j)];
            x = hidden(b, i, j) ? 0 : std::exp(x - top);
            total += x;
        }
        for (int64_t j = 0; j < lk; ++j) {
            double share = total > 0 ? p[static_cast<size_t>(j)] / total : 0;
            if (o.dropout > 0) {
                const DropRule rule(o.dropout);
                const int64_t number = ((b * o.heads + h) * lq + i) * lk + j;
                const bool drop = drop_bits(stream, static_cast<uint64_t>(number)) < rule.limit;
                share = drop ? 0 : share * rule.scale;
            }
            for (int64_t d = 0; d < width; ++d)
                out.at({b, i, h * width + d}) += share * v.at({b, j, h * width + d});
        }
    });
    return out;
}

// Packed and as three tensors, values and gradients.
void check_attention(const std::string& name, int64_t batch, int64_t lq, int64_t lk, int64_t width,
                     const AttentionOptions& options) {
    auto with_draws = [options](Generator& generator) {
        AttentionOptions o = options;
        if (o.dropout > 0) o.generator = &generator;
        return o;
    };
    const Tensor q = affine(Var(random({batch, lq, width}, 1)), 2, 0).value(),
                 k = random({batch, lk, width}, 2), v = random({batch, lk, width}, 3);
    const Array want = naive_attention(Array(q), Array(k), Array(v), options);
    check_op((name + ", three").c_str(), {q, k, v},
             [=](const std::vector<Var>& in) {
                 Generator generator(kSeed, kPosition);
                 return attention(in[0], in[1], in[2], with_draws(generator));
             },
             want, 1e-5);
    if (lq != lk) return;
    check_op((name + ", packed").c_str(), {concat({Var(q), Var(k), Var(v)}, -1).value()},
             [=](const std::vector<Var>& in) {
                 Generator generator(kSeed, kPosition);
                 return attention(in[0], with_draws(generator));
             },
             want, 1e-5);
}

Tensor random_bools(const Shape& shape, uint64_t seed, double share) {
    Tensor t = Tensor::empty(shape, DType::boolean);
    Generator generator(seed);
    for (int64_t i = 0; i < t.numel(); ++i) t.data<bool>()[i] = generator.uniform() < share;
    return t;
}

}  // namespace

TEST_CASE("attention: heads and lengths") {
    for (int64_t heads : {1, 2, 3}) {
        AttentionOptions o;
        o.heads = heads;
        check_attention("square", 2, 5, 5, 6, o);
        check_attention("fewer queries", 2, 3, 7, 6, o);
        check_attention("fewer keys", 1, 7, 2, 6, o);
        check_attention("one", 1, 1, 1, 6, o);
    }
    AttentionOptions o;
    o.heads = 2;
    check_attention("longer than a tile", 1, 37, 37, 14, o);
}

TEST_CASE("attention: causal, square and with more keys than queries") {
    AttentionOptions o;
    o.heads = 2;
    o.causal = true;
    check_attention("causal", 2, 5, 5, 6, o);
    check_attention("causal, cached keys", 1, 3, 7, 6, o);
    check_attention("causal, first rows see nothing", 1, 6, 3, 6, o);
}

TEST_CASE("attention: key padding, masks of two and three dimensions, and all at once") {
    AttentionOptions padded;
    padded.heads = 2;
    padded.key_padding = Tensor::from_bools({0, 0, 0, 1, 1, 0, 0, 0, 0, 0}, {2, 5});
    check_attention("key padding", 2, 5, 5, 6, padded);
    check_attention("key padding", 2, 4, 5, 6, padded);
    AttentionOptions flat;
    flat.heads = 3;
    flat.mask = random_bools({4, 5}, 1, 0.3);
    check_attention("mask (Lq, Lk)", 2, 4, 5, 6, flat);
    AttentionOptions deep;
    deep.heads = 2;
    deep.mask = random_bools({2, 5, 5}, 2, 0.4);
    check_attention("mask (B, Lq, Lk)", 2, 5, 5, 4, deep);
    AttentionOptions wide = deep;
    wide.mask = random_bools({3, 4, 7}, 3, 0.4);
    check_attention("mask (B, Lq, Lk), more keys", 3, 4, 7, 4, wide);
    deep.key_padding = padded.key_padding;
    deep.causal = true;
    check_attention("all", 2, 5, 5, 4, deep);
    AttentionOptions strided = deep;
    strided.mask = deep.mask.transpose(1, 2).contiguous().transpose(1, 2);
    strided.key_padding = deep.key_padding.transpose(0, 1).contiguous().transpose(0, 1);
    check_attention("strided masks", 2, 5, 5, 4, strided);
    deep.dropout = 0.25;
    check_attention("all, dropout", 2, 5, 5, 4, deep);
}

TEST_CASE("attention: dropout draws one stream, the same in backward") {
    AttentionOptions o;
    o.heads = 2;
    o.dropout = 0.4;
    check_attention("dropout", 2, 5, 5, 6, o);
    check_attention("dropout", 1, 3, 6, 4, o);
    Generator generator(1);
    o.generator = &generator;
    attention(Var(random({1, 3, 12}, 1)), o);
    CHECK(generator.position() == 1);
    o.dropout = 0;
    attention(Var(random({1, 3, 12}, 1)), o);
    CHECK(generator.position() == 1);
}

TEST_CASE("attention: a row that sees nothing is zero, and so is its gradient") {
    AttentionOptions o;
    o.heads = 2;
    o.mask = Tensor::from_bools({0, 1, 0, 1, 1, 1, 0, 0, 1}, {3, 3});
    check_attention("masked row", 2, 3, 3, 4, o);
    const Tensor q = random({1, 3, 4}, 1), k = random({1, 3, 4}, 2), v = random({1, 3, 4}, 3);
    const Function f = [&](const std::vector<Var>& in) {
        return attention(in[0], in[1], in[2], o);
    };
    for (double y : values_of(f({Var(q), Var(k), Var(v)}).value().slice(1, 1, 2))) CHECK(y == 0);
    const std::vector<Tensor> g =
        gradients_of({q, k, v}, f, Tensor::full({1, 3, 4}, 1, DType::f64));
    for (double d : values_of(g[0].slice(1, 1, 2))) CHECK(d == 0);
    o.mask = Tensor();
    o.key_padding = Tensor::from_bools({1, 1, 1}, {1, 3});
    check_attention("nothing to see", 1, 3, 3, 4, o);
    for (const Tensor& d : gradients_of({q, k, v}, f, Tensor::full({1, 3, 4}, 1, DType::f64)))
        for (double x : values_of(d)) CHECK(x == 0);
}

TEST_CASE("attention: one value as query, key and value; queries that need no gradient") {
    AttentionOptions o;
    o.heads = 2;
    CHECK_NOTHROW(gradcheck("self", {random({2, 3, 4}, 1)}, [&](const std::vector<Var>& in) {
        return attention(in[0], in[0], in[0], o);
    }));
    CHECK_NOTHROW(gradcheck(
        "expanded", {random({1, 3, 4}, 1).expand({2, 3, 4})},
        [&](const std::vector<Var>& in) { return attention(in[0], square(in[0]), in[0], o); }));
}

TEST_CASE("attention: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    AttentionOptions o;
    CHECK_ERROR(attention(var({2, 3, 4}), o), "[attention]", "(2, 3, 4)");
    CHECK_ERROR(attention(var({3, 6}), o), "[attention]", "(3, 6)");
    CHECK_ERROR(attention(var({2, 3, 4}), var({2, 3, 4}), var({3, 4}), o), "[attention]", "(3, 4)");
    CHECK_ERROR(attention(var({2, 3, 4}), var({2, 5, 4}), var({2, 6, 4}), o), "[attention]",
                "(2, 3, 4)", "(2, 5, 4)", "(2, 6, 4)");
    CHECK_ERROR(attention(var({2, 3, 4}), var({1, 3, 4}), var({1, 3, 4}), o), "[attention]",
                "(1, 3, 4)");
    CHECK_ERROR(attention(var({2, 3, 4}), var({2, 3, 4}), Var(Tensor::zeros({2, 3, 4})), o),
                "[attention]", "f32");
    o.heads = 3;
    CHECK_ERROR(attention(var({2, 3, 4}), var({2, 3, 4}), var({2, 3, 4}), o), "[attention]",
                "width 4", "3 heads");
    o.heads = 2;
    o.key_padding = Tensor::zeros({2, 4}, DType::boolean);
    CHECK_ERROR(attention(var({2, 3, 12}), o), "[attention]", "(2, 4)", "(2, 3)");
    o.key_padding = Tensor();
    o.mask = Tensor::zeros({3, 4}, DType::boolean);
    CHECK_ERROR(attention(var({2, 3, 12}), o), "[attention]", "(3, 4)", "(3, 3)");
    o.mask = Tensor();
    o.dropout = 0.1;
    CHECK_ERROR(attention(var({2, 3, 12}), o), "[attention]", "generator");
    o.dropout = 1;
    CHECK_ERROR(attention(var({2, 3, 12}), o), "[attention]", "dropout");
}
