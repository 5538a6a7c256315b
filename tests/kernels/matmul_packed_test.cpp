// Products with a packed right operand: f32 has the same bits as without, bf16 against double loops
// and against its own definition (NOTE [ Packed right operands ]).
#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <optional>

#include "kernels/cpu/gemm_block.h"
#include "tests/kernels/kernel_test_util.h"

namespace mc {
namespace {

using testing::GuardedBuffer;

const KernelTable<float>& table() {
    static Backend backend = [] {
        Backend b;
        testing::matmul_kernels(b);
        return b;
    }();
    return backend.f32;
}

// Packing is optional: nothing to test where a device has none.
bool has_packing() {
    return static_cast<bool>(table().pack_b);
}

float to_bf16(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

struct Case {
    int64_t m, n, k;
    bool trans_a = false, trans_b = true;
    int64_t pad = 0;  // added to every row stride
    bool accumulate = false;
    float alpha = 1;
    bool bias = false, gelu = false;
};

struct Problem {
    explicit Problem(const Case& c)
        : args(),
          a((c.trans_a ? c.k : c.m) * ((c.trans_a ? c.m : c.k) + c.pad)),
          b((c.trans_b ? c.n : c.k) * ((c.trans_b ? c.k : c.n) + c.pad)),
          out(c.m * (c.n + c.pad)),
          before(c.m * (c.n + c.pad)),
          bias(c.n) {
        testing::fill_random(a, 21);
        testing::fill_random(b, 22);
        testing::fill_random(out, 23);
        testing::fill_random(bias, 24);
        args.c = out.data();
        args.a = a.data();
        args.b = b.data();
        args.m = c.m;
        args.n = c.n;
        args.k = c.k;
        args.lda = (c.trans_a ? c.m : c.k) + c.pad;
        args.ldb = (c.trans_b ? c.k : c.n) + c.pad;
        args.ldc = c.n + c.pad;
        args.trans_a = c.trans_a;
        args.trans_b = c.trans_b;
        args.alpha = c.alpha;
        args.accumulate = c.accumulate;
        if (c.bias) args.epilogue.bias = bias.data();
        args.epilogue.activate = c.gelu;
        args.epilogue.op = UnaryOp::gelu;
        if (c.gelu) args.epilogue.before_activation = before.data();
    }
    MatmulArgs<float> args;
    GuardedBuffer<float> a, b, out, before, bias;
};

// C by a product whose B is packed as `dtype`, or not at all.
std::vector<float> run(const Case& c, testing::TestContext& context, std::optional<DType> dtype) {
    Problem p(c);
    GuardedBuffer<float> packed(packed_elements(c.k, c.n));  // of either dtype
    if (dtype) {
        table().pack_b(context, packed.data(), *dtype, p.args.b, p.args.ldb, c.trans_b, c.k, c.n);
        p.args.packed_b = {packed.data(), *dtype};
    }
    table().matmul(context, p.args);
    return p.out.copy();
}

double rounded(float x, bool bf16) {
    return static_cast<double>(bf16 ? to_bf16(x) : x);
}

// `bf16`: against the exact product of rounded operands, within f32's rounding. Else against the
// product of the operands as they are, within bf16's.
void check_against_loops(const Case& c, testing::TestContext& context, bool bf16) {
    CAPTURE(c.m);
    CAPTURE(c.n);
    CAPTURE(c.k);
    CAPTURE(c.trans_a);
    CAPTURE(c.trans_b);
    const std::vector<float> out = run(c, context, DType::bf16);
    Problem p(c);
    const std::vector<float> c0 = p.out.copy();
    std::vector<double> want, bound;
    std::vector<float> got;
    for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
            double sum = 0, size = 0;
            for (int64_t q = 0; q < c.k; ++q) {
                const double x =
                    rounded(p.a[c.trans_a ? q * p.args.lda + i : i * p.args.lda + q], bf16);
                const double y =
                    rounded(p.b[c.trans_b ? j * p.args.ldb + q : q * p.args.ldb + j], bf16);
                sum += x * y;
                size += std::fabs(x * y);
            }
            const int64_t at = i * p.args.ldc + j;
            sum *= static_cast<double>(c.alpha);
            size *= std::fabs(static_cast<double>(c.alpha));
            double outside = 1;
            if (c.accumulate) {
                sum += static_cast<double>(c0[static_cast<size_t>(at)]);
                outside += std::fabs(static_cast<double>(c0[static_cast<size_t>(at)]));
            }
            if (c.bias) sum += static_cast<double>(p.bias[j]);
            if (c.gelu) sum = 0.5 * sum * (1 + std::erf(sum * std::sqrt(0.5)));
            want.push_back(sum);
            // Each operand is off by at most half a unit of 8 bits, 2^-9: a product by 2^-8 and a
            // bit. f32: k roundings, of a random walk; 6 is far out in its tail. GELU's slope is
            // below 1.13.
            const double f32 = testing::epsilon<float>() *
                               (6 * std::sqrt(static_cast<double>(c.k)) + 6) * (size + outside);
            bound.push_back(1.13 * (f32 + (bf16 ? 0 : (1.0 / 256 + 1.0 / 200000) * size)));
            got.push_back(out[static_cast<size_t>(at)]);
        }
        for (int64_t j = c.n; j < p.args.ldc; ++j)  // between the rows
            CHECK(out[static_cast<size_t>(i * p.args.ldc + j)] ==
                  c0[static_cast<size_t>(i * p.args.ldc + j)]);
    }
    CHECK_NEAR(got.data(), want, bound);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

const std::vector<Case>& cases() {
    static const std::vector<Case> list = {
        {.m = 1, .n = 384, .k = 384},
        {.m = 8, .n = 130, .k = 71, .pad = 1},
        {.m = 9, .n = 3, .k = 40},
        {.m = 49, .n = 37, .k = 515, .pad = 3, .accumulate = true, .alpha = -0.5f},
        {.m = 98, .n = 1024, .k = 256, .bias = true, .gelu = true},
        {.m = 100, .n = 256, .k = 1024, .bias = true},
        {.m = 13, .n = 4200, .k = 131},
        {.m = 77, .n = 263, .k = 600, .trans_a = true, .trans_b = false, .pad = 2},
        {.m = 1000, .n = 64, .k = 1100, .trans_b = false},
        {.m = 150, .n = 129, .k = 257, .trans_a = true, .bias = true},
    };
    return list;
}

}  // namespace

TEST_CASE("matmul, packed as f32: the same bits as without") {
    if (!has_packing()) return;
    testing::for_each_target([] {
        testing::TestContext one(1), two(2);
        for (const Case& c : cases()) {
            CAPTURE(c.m);
            CAPTURE(c.n);
            const std::vector<float> plain = run(c, one, std::nullopt);
            CHECK(same_bits(plain, run(c, one, DType::f32)));
            CHECK(same_bits(plain, run(c, two, DType::f32)));
        }
    });
}

TEST_CASE("matmul, packed as bf16: every small size") {
    if (!has_packing()) return;
    testing::for_each_target([] {
        testing::TestContext context(1);
        for (int64_t m : {0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 15, 25})
            for (int64_t n : {0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47})
                for (int64_t k : {0, 1, 2, 3, 8, 17, 33})
                    check_against_loops({.m = m,
                                         .n = n,
                                         .k = k,
                                         .trans_a = ((m + n) & 1) != 0,
                                         .trans_b = ((m + n / 2) & 1) != 0,
                                         .pad = (m + k) % 3,
                                         .accumulate = k == 3},
                                        context, true);
    });
}

TEST_CASE("matmul, packed as bf16: block edges, epilogues, the rounding itself, threads") {
    if (!has_packing()) return;
    testing::for_each_target([] {
        testing::TestContext one(1), two(2), three(3);
        for (const Case& c : cases()) {
            check_against_loops(c, one, true);
            check_against_loops(c, one, false);
            const std::vector<float> want = run(c, one, DType::bf16);
            CHECK(same_bits(want, run(c, two, DType::bf16)));
            CHECK(same_bits(want, run(c, three, DType::bf16)));
        }
    });
}

TEST_CASE("matmul, packed as bf16: a chain of fused multiply-adds, high half of a pair first") {
    if (!has_packing()) return;
    const Case c{.m = 14, .n = 50, .k = 101};
    Problem p(c);
    std::vector<float> want(static_cast<size_t>(c.m * c.n));
    for (int64_t i = 0; i < c.m; ++i)
        for (int64_t j = 0; j < c.n; ++j) {
            const auto x = [&](int64_t k) { return k < c.k ? to_bf16(p.a[i * c.k + k]) : 0.0f; };
            const auto y = [&](int64_t k) { return k < c.k ? to_bf16(p.b[j * c.k + k]) : 0.0f; };
            float sum = 0;
            for (int64_t k = 0; k < c.k; k += 2)
                sum = std::fma(x(k), y(k), std::fma(x(k + 1), y(k + 1), sum));
            want[static_cast<size_t>(i * c.n + j)] = sum;
        }
    testing::for_each_target([&] {
        testing::TestContext context(1);
        for (bool instructions : {true, false}) {  // where the processor has them, else twice alike
            allow_bf16_instructions(instructions);
            CHECK(same_bits(want, run(c, context, DType::bf16)));
        }
        allow_bf16_instructions(true);
    });
}

TEST_CASE("matmul, packed as bf16: the instruction and the portable block agree on every shape") {
    if (!has_packing() || !has_bf16_instructions()) return;
    testing::TestContext context(2);
    for (const Case& c : cases()) {
        CAPTURE(c.m);
        CAPTURE(c.n);
        const std::vector<float> fast = run(c, context, DType::bf16);
        allow_bf16_instructions(false);
        CHECK(same_bits(fast, run(c, context, DType::bf16)));
        allow_bf16_instructions(true);
    }
}

TEST_CASE("matmul, packed as bf16: ties go to even, infinities and NaN stay") {
    if (!has_packing()) return;
    // Half-way between bf16 neighbours: 1 + 2^-8 goes down to 1, 1 + 3 2^-8 up to 1 + 2^-6.
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    const float hidden_nan = std::bit_cast<float>(0x7f800001u);  // its upper half is infinity's
    const std::array<float, 7> from = {1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f,
                                       -inf,        nan,         hidden_nan};
    const std::array<float, 7> to = {1.0f, 1.015625f, -1.0f, inf, -inf, nan, nan};
    testing::for_each_target([&] {
        testing::TestContext context(1);
        for (size_t i = 0; i < from.size(); ++i)
            for (bool left : {true, false})
                for (int64_t k : {1, 80}) {  // rounded one by one, and a vector at a time
                    std::vector<float> a(static_cast<size_t>(k)), b(static_cast<size_t>(k));
                    for (size_t q = 0; q < a.size(); ++q) a[q] = b[q] = q ? 0.0f : 1.0f;
                    (left ? a : b)[0] = from[i];
                    std::vector<float> packed(static_cast<size_t>(packed_elements(k, 1)));
                    table().pack_b(context, packed.data(), DType::bf16, b.data(), k, true, k, 1);
                    float c = 0;
                    MatmulArgs<float> args;
                    args.c = &c;
                    args.a = a.data();
                    args.m = args.n = args.ldc = 1;
                    args.k = args.lda = k;
                    args.trans_b = true;
                    args.packed_b = {packed.data(), DType::bf16};
                    table().matmul(context, args);
                    CHECK((std::isnan(to[i]) ? std::isnan(c) : c == to[i]));
                }
    });
}

}  // namespace mc
