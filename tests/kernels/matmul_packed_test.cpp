// Products with a packed right operand: f32 has the same bits as without, bf16 and f16 against
// double loops, and the CPU's bf16 and int16 against their own definitions (NOTE [ Packed right
// operands ]).
#include <doctest/doctest.h>

#include <bit>
#include <optional>

#include "kernels/convert.h"
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

// Those of the two that the device under test has.
std::vector<Precision> half_types() {
    std::vector<Precision> types;
    for (Precision precision : {Precision::bf16, Precision::f16})
        if (table().pack_b(precision)) types.push_back(precision);
    return types;
}

// x rounded so (tests/kernels/copy_test.cpp checks the conversions).
float rounded(float x, Precision precision) {
    return precision == Precision::bf16  ? widen(to_bf16(x))
           : precision == Precision::f16 ? widen(to_f16(x))
                                         : x;
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

// C by a product whose B is packed in `precision`, or not at all.
std::vector<float> run(const Case& c, testing::TestContext& context,
                       std::optional<Precision> precision) {
    Problem p(c);
    GuardedBuffer<float> packed(packed_bytes(Precision::f32, c.k, c.n) / 4);  // or less
    if (precision) {
        const auto& pack = table().pack_b(*precision);
        pack(context, packed.data(), p.args.b, p.args.ldb, c.trans_b, c.k, c.n);
        p.args.packed_b = {packed.data(), *precision};
    }
    table().matmul(context, p.args);
    return p.out.copy();
}

// `out` is C packed as `precision`. `same`: against the exact product of rounded operands, within
// f32's rounding. Else against the product of the operands as they are, within the precision's.
void check_against_loops(const Case& c, const std::vector<float>& out, Precision precision,
                         bool same) {
    CAPTURE(std::string(name_of(precision)));
    CAPTURE(c.m);
    CAPTURE(c.n);
    CAPTURE(c.k);
    CAPTURE(c.trans_a);
    CAPTURE(c.trans_b);
    const Precision as = same ? precision : Precision::f32;
    // Each operand is off by at most half a unit of its 8 or 11 bits, 2^-9 or 2^-12: a product by
    // twice that and a bit. (f16 has fewer bits for numbers below 2^-14, which are too few here and
    // too small to count.)
    const double operands = (precision == Precision::bf16 ? 1.0 / 256 : 1.0 / 2048) + 1.0 / 200000;
    Problem p(c);
    const std::vector<float> c0 = p.out.copy();
    std::vector<double> want, bound;
    std::vector<float> got;
    for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
            double sum = 0, size = 0;
            for (int64_t q = 0; q < c.k; ++q) {
                const double x = static_cast<double>(
                    rounded(p.a[c.trans_a ? q * p.args.lda + i : i * p.args.lda + q], as));
                const double y = static_cast<double>(
                    rounded(p.b[c.trans_b ? j * p.args.ldb + q : q * p.args.ldb + j], as));
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
            // f32: k roundings, of a random walk; 6 is far out in its tail. GELU's slope is below
            // 1.13.
            const double f32 = testing::epsilon<float>() *
                               (6 * std::sqrt(static_cast<double>(c.k)) + 6) * (size + outside);
            bound.push_back(1.13 * (f32 + (same ? 0 : operands * size)));
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

// Of all layouts some, by the sizes.
Case varied(int64_t m, int64_t n, int64_t k, bool accumulate) {
    return {.m = m,
            .n = n,
            .k = k,
            .trans_a = ((m + n) & 1) != 0,
            .trans_b = ((m + n / 2) & 1) != 0,
            .pad = (m + k) % 3,
            .accumulate = accumulate};
}

const std::vector<Case>& cases() {
    static const std::vector<Case> list = {
        {.m = 1, .n = 384, .k = 384},
        // Few rows: four panels at a time, or two, and what they leave.
        {.m = 1, .n = 235, .k = 1600, .pad = 1},
        {.m = 2, .n = 332, .k = 700, .bias = true, .gelu = true},
        {.m = 2, .n = 128, .k = 71, .accumulate = true, .alpha = -0.5f},
        {.m = 3, .n = 129, .k = 520, .bias = true},
        {.m = 4, .n = 64, .k = 300, .accumulate = true},
        {.m = 4, .n = 200, .k = 33, .trans_a = true, .trans_b = false},
        {.m = 8, .n = 130, .k = 71, .pad = 1},
        {.m = 9, .n = 3, .k = 40},
        {.m = 5, .n = 17, .k = 1100, .bias = true, .gelu = true},
        {.m = 49, .n = 37, .k = 515, .pad = 3, .accumulate = true, .alpha = -0.5f},
        {.m = 98, .n = 1024, .k = 256, .bias = true, .gelu = true},
        {.m = 100, .n = 256, .k = 1024, .bias = true},
        {.m = 13, .n = 2200, .k = 131},
        {.m = 77, .n = 263, .k = 600, .trans_a = true, .trans_b = false, .pad = 2},
        {.m = 1000, .n = 64, .k = 1100, .trans_b = false},
        {.m = 150, .n = 129, .k = 257, .trans_a = true, .bias = true},
    };
    return list;
}

}  // namespace

TEST_CASE("matmul, packed as f32: the same bits as without") {
    if (!table().pack_b_f32) return;
    testing::for_each_target([] {
        testing::TestContext one(1), two(2);
        for (const Case& c : cases()) {
            CAPTURE(c.m);
            CAPTURE(c.n);
            const std::vector<float> plain = run(c, one, std::nullopt);
            CHECK(same_bits(plain, run(c, one, Precision::f32)));
            CHECK(same_bits(plain, run(c, two, Precision::f32)));
        }
    });
}

TEST_CASE("matmul, packed as a half type: every small size") {
    testing::for_each_target([] {
        testing::TestContext context(1);
        for (const Precision precision : half_types())
            for (int64_t m : {0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 15, 25})
                for (int64_t n : {0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47})
                    for (int64_t k : {0, 1, 2, 3, 8, 17, 33}) {
                        const Case c = varied(m, n, k, k == 3);
                        check_against_loops(c, run(c, context, precision), precision, true);
                    }
    });
}

TEST_CASE("matmul, packed as a half type: block edges, epilogues, the rounding itself, threads") {
    const bool cpu = testing::device_under_test().type == DeviceType::cpu;
    testing::for_each_target([&] {
        testing::TestContext one(1), two(2), three(3);
        for (const Precision precision : half_types())
            for (const Case& c : cases()) {
                if (!cpu && c.m * c.n * c.k > 20'000'000) continue;  // the emulation is slow
                const std::vector<float> out = run(c, one, precision);
                check_against_loops(c, out, precision, true);
                check_against_loops(c, out, precision, false);
                if (!cpu) continue;
                CHECK(same_bits(out, run(c, two, precision)));
                CHECK(same_bits(out, run(c, three, precision)));
            }
    });
}

TEST_CASE("matmul, packed as bf16: a chain of fused multiply-adds, high half of a pair first") {
    if (testing::device_under_test().type != DeviceType::cpu) return;  // its promise alone
    const Case c{.m = 14, .n = 50, .k = 101};
    Problem p(c);
    std::vector<float> want(static_cast<size_t>(c.m * c.n));
    for (int64_t i = 0; i < c.m; ++i)
        for (int64_t j = 0; j < c.n; ++j) {
            const auto x = [&](int64_t k) {
                return k < c.k ? rounded(p.a[i * c.k + k], Precision::bf16) : 0.0f;
            };
            const auto y = [&](int64_t k) {
                return k < c.k ? rounded(p.b[j * c.k + k], Precision::bf16) : 0.0f;
            };
            float sum = 0;
            for (int64_t k = 0; k < c.k; k += 2)
                sum = std::fma(x(k), y(k), std::fma(x(k + 1), y(k + 1), sum));
            want[static_cast<size_t>(i * c.n + j)] = sum;
        }
    testing::for_each_target([&] {
        testing::TestContext context(1);
        for (const auto where : {PairInstructions::where_present, PairInstructions::never}) {
            use_pair_instructions(where);
            CHECK(same_bits(want, run(c, context, Precision::bf16)));
        }
        use_pair_instructions(PairInstructions::where_faster);
    });
}

TEST_CASE("matmul, packed as bf16 and int16: instructions and portable blocks have the same bits") {
    if (testing::device_under_test().type != DeviceType::cpu) return;
    testing::TestContext context(2);
    for (const Precision precision : {Precision::bf16, Precision::int16})
        for (const Case& c : cases()) {
            CAPTURE(c.m);
            CAPTURE(c.n);
            use_pair_instructions(PairInstructions::where_present);
            const std::vector<float> fast = run(c, context, precision);
            use_pair_instructions(PairInstructions::never);
            CHECK(same_bits(fast, run(c, context, precision)));
            use_pair_instructions(PairInstructions::where_faster);
        }
}

namespace {

// from[i] as one operand, 1 as the other: to[i].
void check_rounding(Precision precision, const std::vector<float>& from,
                    const std::vector<float>& to) {
    CAPTURE(std::string(name_of(precision)));
    testing::TestContext context(1);
    for (size_t i = 0; i < from.size(); ++i)
        for (bool left : {true, false})
            for (int64_t k : {1, 80}) {  // rounded one by one, and a vector at a time
                std::vector<float> a(static_cast<size_t>(k)), b(static_cast<size_t>(k));
                for (size_t q = 0; q < a.size(); ++q) a[q] = b[q] = q ? 0.0f : 1.0f;
                (left ? a : b)[0] = from[i];
                std::vector<float> packed(static_cast<size_t>(packed_bytes(precision, k, 1)));
                table().pack_b(precision)(context, packed.data(), b.data(), k, true, k, 1);
                float c = 0;
                MatmulArgs<float> args;
                args.c = &c;
                args.a = a.data();
                args.m = args.n = args.ldc = 1;
                args.k = args.lda = k;
                args.trans_b = true;
                args.packed_b = {packed.data(), precision};
                table().matmul(context, args);
                CAPTURE(from[i]);
                CHECK((std::isnan(to[i]) ? std::isnan(c) : c == to[i]));
            }
}

}  // namespace

TEST_CASE("matmul, packed as a half type: ties go to even, infinities and NaN stay") {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    const float hidden_nan = std::bit_cast<float>(0x7f800001u);  // its upper half is infinity's
    testing::for_each_target([&] {
        // Half-way between bf16 neighbours: 1 + 2^-8 goes down to 1, 1 + 3 2^-8 up to 1 + 2^-6.
        check_rounding(Precision::bf16,
                       {1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, -inf, nan, hidden_nan},
                       {1.0f, 1.015625f, -1.0f, inf, -inf, nan, nan});
    });
    if (!table().pack_b_f16) return;
    // 11 bits, at most 65504, and numbers below 2^-14 in steps of 2^-24.
    check_rounding(Precision::f16,
                   {0x1.002p0f, 0x1.006p0f, 65519, 65520, 0x1.8p-24f, -inf, hidden_nan},
                   {1, 0x1.008p0f, 65504, inf, 0x1p-23f, -inf, nan});
}

namespace {

// A row of A or a column of op(B) as int16 multiplies it, by the NOTE's definition.
struct Int16Row {
    explicit Int16Row(const std::vector<float>& x) {
        for (size_t from = 0; from < x.size(); from += 256) {
            const size_t depth = std::min<size_t>(256, x.size() - from);
            float largest = 0, squares[16] = {};
            for (size_t k = 0; k < depth; ++k) largest = std::max(largest, std::fabs(x[from + k]));
            for (size_t k = 0; k < depth; ++k) {
                const float r = x[from + k] * (1 / largest);
                squares[k % 16] += r * r;
            }
            for (int half = 8; half > 0; half /= 2)
                for (int s = 0; s < half; ++s) squares[s] += squares[s + half];
            const float steps = std::min(32767.0f, 46332 / std::sqrt(squares[0]));
            for (size_t k = 0; k < depth; ++k)
                integers.push_back(
                    static_cast<int64_t>(std::nearbyint(x[from + k] * (1 / largest) * steps)));
            scales.push_back(largest / steps);
        }
    }
    std::vector<int64_t> integers;
    std::vector<float> scales;  // of each block
};

// `out` is C packed in int16, of numbers that are finite and not all 0: within f32's rounding of
// the sum over blocks, and within the operands' of the product of A and op(B) themselves. Returns
// the root of the mean squared error and of the mean square of the latter.
std::pair<double, double> check_int16(const MatmulArgs<float>& args, const float* out,
                                      const float* before) {
    CAPTURE(args.m);
    CAPTURE(args.n);
    CAPTURE(args.k);
    const auto row = [&](const float* x, int64_t stride_k) {
        std::vector<float> values;
        for (int64_t k = 0; k < args.k; ++k) values.push_back(x[k * stride_k]);
        return values;
    };
    std::vector<std::vector<float>> a, b;
    std::vector<Int16Row> rows, columns;
    for (int64_t i = 0; i < args.m; ++i) {
        a.push_back(row(args.a + i * (args.trans_a ? 1 : args.lda), args.trans_a ? args.lda : 1));
        rows.emplace_back(a.back());
    }
    for (int64_t j = 0; j < args.n; ++j) {
        b.push_back(row(args.b + j * (args.trans_b ? args.ldb : 1), args.trans_b ? 1 : args.ldb));
        columns.emplace_back(b.back());
    }
    std::vector<double> want, bound, exact, exact_bound;
    std::vector<float> got;
    double errors = 0, squares = 0;
    for (size_t i = 0; i < rows.size(); ++i)
        for (size_t j = 0; j < columns.size(); ++j) {
            const size_t at = i * static_cast<size_t>(args.ldc) + j;
            const double c0 = args.accumulate ? static_cast<double>(before[at]) : 0;
            double sum = c0, size = std::fabs(c0), product = c0, off = 0;
            for (size_t s = 0; s < rows[i].scales.size(); ++s) {
                const double of_a = static_cast<double>(rows[i].scales[s]),
                             of_b = static_cast<double>(columns[j].scales[s]);
                int64_t block = 0;
                for (size_t k = 256 * s; k < std::min(a[i].size(), 256 * (s + 1)); ++k) {
                    const double x = static_cast<double>(a[i][k]), y = static_cast<double>(b[j][k]);
                    block += rows[i].integers[k] * columns[j].integers[k];
                    product += static_cast<double>(args.alpha) * x * y;
                    // Half a step of each, and of f32's roundings on the way to an integer.
                    off += 0.502 * (of_a * std::fabs(y) + of_b * std::fabs(x)) + of_a * of_b / 4;
                }
                CHECK(std::abs(block) <= std::numeric_limits<int32_t>::max());
                const double term =
                    static_cast<double>(args.alpha) * of_a * of_b * static_cast<double>(block);
                sum += term;
                size += std::fabs(term);
            }
            // A conversion, three products and a sum in f32 for each block.
            const double f32 = testing::epsilon<float>() * 4 *
                               static_cast<double>(rows[i].scales.size() + 1) * size;
            want.push_back(sum);
            bound.push_back(f32);
            exact.push_back(product);
            exact_bound.push_back(f32 + std::fabs(static_cast<double>(args.alpha)) * off);
            got.push_back(out[at]);
            errors += std::pow(static_cast<double>(out[at]) - product, 2);
            squares += product * product;
        }
    CHECK_NEAR(got.data(), want, bound);
    CHECK_NEAR(got.data(), exact, exact_bound);
    const auto count = static_cast<double>(got.size());
    return {std::sqrt(errors / count), std::sqrt(squares / count)};
}

std::pair<double, double> check_int16(const Case& c, const std::vector<float>& out) {
    Problem p(c);
    return check_int16(p.args, out.data(), p.out.data());
}

}  // namespace

TEST_CASE("matmul, packed as int16: every small size, block edges, threads") {
    if (!table().pack_b_int16) return;
    testing::for_each_target([] {
        testing::TestContext one(1), three(3);
        for (int64_t m : {1, 2, 6, 7, 12, 13, 25})
            for (int64_t n : {1, 7, 16, 17, 32, 33})
                for (int64_t k : {1, 2, 255, 256, 257, 513}) {
                    const Case c = varied(m, n, k, k == 257);
                    check_int16(c, run(c, one, Precision::int16));
                }
        for (Case c : cases()) {
            c.bias = c.gelu = false;
            const std::vector<float> out = run(c, one, Precision::int16);
            check_int16(c, out);
            CHECK(same_bits(out, run(c, three, Precision::int16)));
        }
        // The epilogue is every product's: what it does to the sum.
        Case c{.m = 25, .n = 40, .k = 200, .bias = true};
        std::vector<float> plain = run({.m = 25, .n = 40, .k = 200}, one, Precision::int16);
        const Problem p(c);
        for (size_t i = 0; i < plain.size(); ++i) plain[i] += p.bias[static_cast<int64_t>(i % 40)];
        CHECK(same_bits(plain, run(c, one, Precision::int16)));
    });
}

TEST_CASE("matmul, packed as int16: as exact as the NOTE says") {
    if (!table().pack_b_int16) return;
    testing::TestContext context(1);
    const Case c{.m = 98, .n = 384, .k = 384};
    const auto [error, size] = check_int16(c, run(c, context, Precision::int16));
    CHECK(error < 1.4e-4 * size);
    Problem p(c);
    const std::vector<float> half = run(c, context, Precision::bf16), full = run(c, context, {});
    double off = 0;
    for (size_t i = 0; i < half.size(); ++i)
        off += std::pow(static_cast<double>(half[i]) - static_cast<double>(full[i]), 2);
    MESSAGE("of the root mean square: int16 is off by " << error / size << ", bf16 by "
                                                        << std::sqrt(off / 98 / 384) / size);
}

TEST_CASE("matmul, packed as int16: the longest blocks, spikes, no numbers, wild numbers") {
    if (!table().pack_b_int16) return;
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    constexpr int64_t k = 600;
    testing::for_each_target([&] {
        testing::TestContext context(1);
        const auto product = [&](MatmulArgs<float>& args, const std::vector<float>& a,
                                 const std::vector<float>& b) {
            std::vector<float> packed(
                static_cast<size_t>(packed_bytes(Precision::int16, k, args.n) / 4));
            std::vector<float> c(static_cast<size_t>(args.m * args.n));
            table().pack_b_int16(context, packed.data(), b.data(), k, true, k, args.n);
            args.a = a.data();
            args.b = b.data();
            args.c = c.data();
            args.k = args.lda = args.ldb = k;
            args.ldc = args.n;
            args.trans_b = true;
            args.packed_b = {packed.data(), Precision::int16};
            table().matmul(context, args);
            return c;
        };
        // Each against each: constant, alternating, one number alone, few, rising, of all sizes.
        std::vector<float> rows;
        for (int kind = 0; kind < 6; ++kind)
            for (int64_t p = 0; p < k; ++p) {
                const auto x = static_cast<float>(p);
                const float values[] = {0.7f,
                                        p % 2 ? -3.0f : 3.0f,
                                        p % 256 == 5 ? 1e18f : 0,
                                        p % 100 == 3 ? -2e-10f : 1e-15f,
                                        x - 300,
                                        std::exp2(x / 20 - 20)};
                rows.push_back(values[kind]);
            }
        MatmulArgs<float> args;
        args.m = args.n = 6;
        check_int16(args, product(args, rows, rows).data(), nullptr);
        // A block with a number that is not finite is NaN, one of denormal numbers or none is 0.
        args.m = args.n = 1;
        const std::vector<float> ones(static_cast<size_t>(k), 1);
        for (const float wild : {inf, -inf, nan, std::bit_cast<float>(0xff800001u)})
            for (const size_t at : {size_t{0}, size_t{259}, size_t{599}})
                for (const bool left : {true, false}) {
                    std::vector<float> x(static_cast<size_t>(k), 0);
                    x[at] = wild;
                    const float c = product(args, left ? x : ones, left ? ones : x)[0];
                    CHECK(std::isnan(c));
                }
        std::vector<float> tiny(static_cast<size_t>(k), 1e-40f);
        CHECK(product(args, tiny, ones)[0] == 0);
        CHECK(product(args, ones, std::vector<float>(static_cast<size_t>(k), -0.0f))[0] == 0);
        tiny[1] = 2;
        CHECK(product(args, tiny, ones)[0] == doctest::Approx(2).epsilon(1e-4));
    });
}

}  // namespace mc
