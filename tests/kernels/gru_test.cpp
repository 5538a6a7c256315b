#include "kernels/gru.h"

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

struct Cell {
    int64_t rows, width;
    bool some;  // rows that do not go on
};

std::vector<Cell> cells() {
    std::vector<Cell> result;
    for (int64_t width : {1, 2, 7, 8, 9, 16, 17, 33, 257})
        for (bool some : {false, true}) result.push_back({3, width, some});
    result.push_back({70, 300, true});
    result.push_back({0, 3, false});
    result.push_back({2, 0, true});
    return result;
}

double logistic(double x) {
    return 1 / (1 + std::exp(-x));
}

// next[at] as a function of what one element reads.
double cell_of(const double* input, const double* state, double h) {
    const double r = logistic(input[0] + state[0]), z = logistic(input[1] + state[1]),
                 n = std::tanh(input[2] + r * state[2]);
    return (1 - z) * n + z * h;
}

TEST_CASE_TEMPLATE("gru_cell and its backward agree with the formula", T, float, double) {
    for_each_table<T>(gru_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const auto& [rows, width, some] : cells()) {
            CAPTURE(rows);
            CAPTURE(width);
            const int64_t n = rows * width;
            GuardedBuffer<T> next(n, 1), gates(3 * n, 1), input(3 * n, 1), state(3 * n, 1), h(n, 1),
                dinput(3 * n, 1), dstate(3 * n, 1), dh(n, 1), dnext(n, 1), alone(n, 1);
            GuardedBuffer<bool> on(rows, 1);
            fill_random(input, 1, -3, 3);
            fill_random(state, 2, -3, 3);
            fill_random(h, 3);
            fill_random(dnext, 4);
            for (int64_t r = 0; r < rows; ++r) on[r] = r % 2 == 0;
            typename GruKernels<T>::CellArgs a{};
            a.next = next.data();
            a.gates = gates.data();
            a.input = input.data();
            a.state = state.data();
            a.h = h.data();
            a.on = some ? on.data() : nullptr;
            a.rows = rows;
            a.width = width;
            table.gru_cell(context, a);
            a.next = alone.data();
            a.gates = nullptr;
            table.gru_cell(context, a);
            CHECK(alone.copy() == next.copy());
            typename GruKernels<T>::CellBackwardArgs b{};
            b.dinput = dinput.data();
            b.dstate = dstate.data();
            b.dh = dh.data();
            b.dnext = dnext.data();
            b.gates = gates.data();
            b.state = state.data();
            b.h = h.data();
            b.on = a.on;
            b.rows = rows;
            b.width = width;
            table.gru_cell_backward(context, b);

            std::vector<double> want, want_dinput(static_cast<size_t>(3 * n)),
                want_dstate(want_dinput), want_dh(static_cast<size_t>(n));
            for (int64_t at = 0; at < n; ++at) {
                const int64_t row = at / width;
                const double g = static_cast<double>(dnext[at]);
                if (some && !on[row]) {
                    want.push_back(static_cast<double>(h[at]));
                    want_dh[static_cast<size_t>(at)] = g;
                    continue;
                }
                std::vector<double> x;  // input, state, h
                for (const auto* from : {&input, &state})
                    for (int64_t gate = 0; gate < 3; ++gate)
                        x.push_back(static_cast<double>(
                            (*from)[3 * row * width + gate * width + at % width]));
                x.push_back(static_cast<double>(h[at]));
                const auto value = [&] { return cell_of(x.data(), x.data() + 3, x[6]); };
                want.push_back(value());
                const std::vector<double> slope = differences(x, value);
                for (int64_t gate = 0; gate < 3; ++gate) {
                    const auto to =
                        static_cast<size_t>(3 * row * width + gate * width + at % width);
                    want_dinput[to] = g * slope[static_cast<size_t>(gate)];
                    want_dstate[to] = g * slope[static_cast<size_t>(3 + gate)];
                }
                want_dh[static_cast<size_t>(at)] = g * slope[6];
            }
            // Values of at most 1; the sigmoid and the tangent of f32 are right to a few units.
            const double bound = 20 * epsilon<T>();
            CHECK_NEAR(next.data(), want, within(bound));
            // The differences are right to 1e-11.
            CHECK_NEAR(dinput.data(), want_dinput, within(4 * bound + 1e-10));
            CHECK_NEAR(dstate.data(), want_dstate, within(4 * bound + 1e-10));
            CHECK_NEAR(dh.data(), want_dh, within(4 * bound + 1e-10));
        }
    });
}

}  // namespace
}  // namespace mc::testing
