#include "kernels/sampling.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

// f(kernels, context) with one thread and with three.
template <class F>
void for_each_device(F&& f) {
    for_each_table<float>([](Backend&) {},
                          [&](KernelTable<float>&, Context& context) {
                              Backend b;
                              sampling_kernels(b);
                              f(b.sampling, context);
                          });
}

// What a call is given, with room for what it gives.
struct Problem {
    GuardedBuffer<float> logits, u;
    GuardedBuffer<int64_t> id;
    GuardedBuffer<float> probability;
    DrawArgs args{};

    Problem(int64_t rows, int64_t classes, int64_t k, float temperature, bool noise_of_classes)
        : logits(rows * classes, 1),
          u(noise_of_classes ? rows * classes : rows, 1),
          id(rows, 1),
          probability(rows, 1) {
        fill_random(logits, 3, -4, 4);
        fill_random(u, 4, 0, 1);
        args.id = id.data();
        args.probability = probability.data();
        args.logits = logits.data();
        args.u = u.data();
        args.rows = rows;
        args.classes = classes;
        args.k = k;
        args.id_stride = args.probability_stride = 1;
        args.temperature = temperature;
    }
    // A third of the values equal another; a row of one value, one with -inf in most places.
    void make_awkward() {
        const int64_t c = args.classes;
        for (int64_t i = 0; i < logits.size(); ++i) {
            if (i % 3 == 0) logits[i] = std::floor(logits[i]);
            if (i / c == 1) logits[i] = 2;
            if (i / c == 2 && i % 5 != 1 && i % c != 0) logits[i] = static_cast<float>(-kInf);
        }
    }
    const float* row(int64_t r) const { return logits.data() + r * args.classes; }
};

// Positions that stay, ascending.
std::vector<int64_t> kept_of(const float* row, int64_t classes, int64_t k) {
    std::vector<int64_t> order(static_cast<size_t>(classes));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [row](int64_t a, int64_t b) { return row[a] > row[b]; });
    order.resize(static_cast<size_t>(k));
    std::sort(order.begin(), order.end());
    return order;
}

double probability_of(const float* row, int64_t classes, int64_t id) {
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(row[c]));
    return std::exp(static_cast<double>(row[id])) / sum;
}

// Whether `id` is what u picks, by the definition in double; where u is within `slack` of a
// boundary, the class on its other side is as good.
bool picked(const float* row, const std::vector<int64_t>& kept, float temperature, float u,
            int64_t id) {
    const double slack = 2e-6;  // f32 weights, each right to some 2^-23, and their sum
    double sum = 0, before = 0;
    const auto weight = [&](int64_t i) {
        return std::exp((static_cast<double>(row[i]) - 4) / static_cast<double>(temperature));
    };
    for (int64_t i : kept) sum += weight(i);
    for (int64_t i : kept) {
        const double after = before + weight(i) / sum;
        const double at = static_cast<double>(u);
        if (i == id) return at > before - slack && at < after + slack && after > before;
        before = after;
    }
    return false;
}

const std::vector<std::pair<int64_t, int64_t>> kShapes{
    // classes, k
    {1, 1},    {2, 1},     {2, 2},    {7, 3},      {31, 31},   {33, 4},
    {257, 26}, {257, 257}, {512, 52}, {1024, 103}, {1500, 151}};

TEST_CASE("a categorical draw is the inverse distribution function of what stays") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        for (const auto& [classes, k] : kShapes)
            for (float temperature : {1.0f, 0.3f, 2.5f}) {
                CAPTURE(classes);
                CAPTURE(temperature);
                Problem p(9, classes, k, temperature, false);
                p.make_awkward();
                p.u[0] = 0;
                p.u[3] = 1 - 0x1p-24f;
                kernels.draw_categorical(context, p.args);
                for (int64_t r = 0; r < p.args.rows; ++r) {
                    CHECK(picked(p.row(r), kept_of(p.row(r), classes, k), temperature, p.u[r],
                                 p.id[r]));
                    // The distance to the greatest logit is an f32 below 8, right to 2^-22, in the
                    // token's weight and in the sum; the rest is double, rounded once.
                    const double want = probability_of(p.row(r), classes, p.id[r]);
                    CHECK(std::fabs(static_cast<double>(p.probability[r]) - want) <=
                          5 * epsilon<float>() * want);
                }
            }
    });
}

TEST_CASE("a class of probability 0 is not drawn, whatever u") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        for (int64_t classes : {3, 64, 1500})
            for (float nothing : {static_cast<float>(-kInf), -200.0f}) {  // exp() of both is 0
                Problem p(4, classes, classes, 1, false);
                p.logits.fill(nothing);
                const int64_t only[] = {0, 1, classes / 2, classes - 1};
                for (int64_t r = 0; r < 4; ++r) p.logits[r * classes + only[r]] = 3;
                for (float u : {0.0f, 0.5f, 1 - 0x1p-24f}) {
                    p.u.fill(u);
                    kernels.draw_categorical(context, p.args);
                    for (int64_t r = 0; r < 4; ++r) {
                        CHECK(p.id[r] == only[r]);
                        CHECK(p.probability[r] == 1);
                    }
                }
            }
    });
}

TEST_CASE("a Gumbel draw is the greatest of what stays and its noise") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        for (const auto& [classes, k] : kShapes)
            for (float temperature : {1.0f, 0.3f}) {
                CAPTURE(classes);
                Problem p(9, classes, k, temperature, true);
                p.make_awkward();
                p.u[0] = 0;
                kernels.draw_gumbel(context, p.args);
                for (int64_t r = 0; r < p.args.rows; ++r) {
                    const auto score = [&](int64_t i) {
                        const double u = std::max(1e-20, static_cast<double>(p.u[r * classes + i]));
                        return static_cast<double>(p.row(r)[i] / temperature) -
                               std::log(std::max(1e-20, -std::log(u)));
                    };
                    const std::vector<int64_t> kept = kept_of(p.row(r), classes, k);
                    REQUIRE(std::find(kept.begin(), kept.end(), p.id[r]) != kept.end());
                    // Logarithms in f32: of a size of some 50, right to 2^-23 or so.
                    for (int64_t i : kept) CHECK(score(p.id[r]) >= score(i) - 1e-5);
                }
            }
    });
}

TEST_CASE("a Gumbel draw without noise is the first of the greatest") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        for (const auto& [classes, k] : kShapes) {
            Problem p(5, classes, k, 1e-10f, true);
            p.make_awkward();
            p.args.u = nullptr;
            kernels.draw_gumbel(context, p.args);
            for (int64_t r = 0; r < p.args.rows; ++r)
                CHECK(p.id[r] == std::max_element(p.row(r), p.row(r) + classes) - p.row(r));
        }
    });
}

TEST_CASE("of equal logits the lower indices stay, and -0 equals 0") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        Problem p(64, 257, 10, 1, false);
        for (int64_t i = 0; i < p.logits.size(); ++i) p.logits[i] = i % 2 ? 0.0f : -0.0f;
        kernels.draw_categorical(context, p.args);
        for (int64_t r = 0; r < p.args.rows; ++r)
            CHECK(p.id[r] == static_cast<int64_t>(10 * p.u[r]));
    });
}

TEST_CASE("rows that are not drawn keep their ids; strides; no probability") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        for (bool gumbel : {false, true}) {
            const auto& kernel = gumbel ? kernels.draw_gumbel : kernels.draw_categorical;
            const int64_t rows = 6, classes = 19;
            Problem p(rows, classes, 5, 1, gumbel);
            kernel(context, p.args);
            GuardedBuffer<int64_t> id(3 * (rows - 1) + 1);
            GuardedBuffer<float> probability(2 * (rows - 1) + 1);
            std::fill_n(id.data(), id.size(), int64_t{-5});
            probability.fill(7);
            GuardedBuffer<bool> drawn(rows);
            for (int64_t r = 0; r < rows; ++r) drawn[r] = r % 2 == 0;
            DrawArgs some = p.args;
            some.id = id.data();
            some.id_stride = 3;
            some.probability = probability.data();
            some.probability_stride = 2;
            some.drawn = drawn.data();
            some.otherwise = 1e5f;
            kernel(context, some);
            for (int64_t at = 0; at < id.size(); ++at)
                CHECK(id[at] == (at % 3 == 0 && drawn[at / 3] ? p.id[at / 3] : -5));
            for (int64_t at = 0; at < probability.size(); ++at)
                CHECK(probability[at] == (at % 2          ? 7
                                          : drawn[at / 2] ? p.probability[at / 2]
                                                          : 1e5f));
            std::fill_n(id.data(), id.size(), int64_t{-5});
            some.probability = nullptr;
            kernel(context, some);
            CHECK(id[6] == p.id[2]);
            some.rows = 0;
            kernel(context, some);
        }
    });
}

TEST_CASE("a row without a distribution gets the id -1") {
    for_each_device([](SamplingKernels& kernels, Context& context) {
        for (bool gumbel : {false, true}) {
            const auto& kernel = gumbel ? kernels.draw_gumbel : kernels.draw_categorical;
            for (int64_t classes : {1, 257, 1500}) {
                Problem p(5, classes, 1, 1, gumbel);
                p.logits[classes / 2] = static_cast<float>(kNan);
                for (int64_t i = 0; i < classes; ++i)
                    p.logits[classes + i] = static_cast<float>(-kInf);
                p.logits[2 * classes + classes / 3] = static_cast<float>(kInf);
                kernel(context, p.args);
                for (int64_t r = 0; r < 3; ++r) {
                    CHECK(p.id[r] == -1);
                    CHECK(std::isnan(p.probability[r]));
                }
                CHECK(p.id[3] >= 0);
                CHECK(p.probability[4] > 0);
            }
        }
    });
}

TEST_CASE("draws of tokens do not depend on the number of threads") {
    Backend b;
    sampling_kernels(b);
    Problem p(70, 300, 30, 1, false);
    check_thread_counts<int64_t>(70, [&](Context& context, int64_t* out) {
        DrawArgs args = p.args;
        args.id = out;
        b.sampling.draw_categorical(context, args);
    });
}

}  // namespace
}  // namespace mc::testing
