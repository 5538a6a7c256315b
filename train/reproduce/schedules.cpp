// schedules: time grids and counts of masked tokens, exactly; computed position tables.
#include <cmath>
#include <numbers>

#include "models/momask/sampling.h"
#include "nn/layers.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

// Of names "output.PREFIX<number>": the numbers.
std::vector<int64_t> numbers_after(const ReferenceCase& recorded, const std::string& prefix) {
    std::vector<int64_t> numbers;
    for (const SafetensorsEntry& entry : recorded.file().entries()) {
        if (!entry.name.starts_with(prefix)) continue;
        const std::string rest = entry.name.substr(prefix.size());
        if (!rest.empty() && rest.size() < 7 &&
            rest.find_first_not_of("0123456789") == std::string::npos)
            numbers.push_back(std::stoll(rest));
    }
    return numbers;
}

}  // namespace

void run_schedules(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    for (const int64_t steps : numbers_after(recorded, "output.momask.num_masked.t")) {
        const std::string suffix = ".t" + std::to_string(steps);
        const std::vector<float> grid = momask::time_grid(steps);
        checks.same_bits("output.momask.linspace" + suffix, grid);
        std::vector<double> ratio;
        for (const float t : grid)
            ratio.push_back(
                static_cast<double>(std::cos(t * static_cast<float>(std::numbers::pi) * 0.5f)));
        if (checks.wants("output.momask.cos" + suffix))
            checks.compare_values("output.momask.cos" + suffix, {}, ratio,
                                  recorded.values("output.momask.cos" + suffix), 0);
        const std::string name = "output.momask.num_masked" + suffix;
        const std::vector<int64_t> shape = recorded.shape(name);  // (steps, lengths 1..)
        std::vector<int64_t> counts;
        for (const float t : grid)
            for (int64_t length = 1; length <= shape.back(); ++length)
                counts.push_back(momask::masked_count(t, length));
        checks.same(name, counts);
        checks.skip("output.momask.fragile" + suffix,
                    "says where the reference's own float64 would mask another number");
    }
    for (const char* model : {"momask_d", "moclip_d", "bad_d"}) {
        const std::string prefix = std::string("output.pe.") + model;
        for (const int64_t width : numbers_after(recorded, prefix)) {
            const std::string name = prefix + std::to_string(width);
            const std::vector<int64_t> shape = recorded.shape(name);  // (rows, width)
            if (shape.size() != 2 || shape[1] != width) {
                checks.fail(name, "the table has not the width of its name");
                continue;
            }
            // A frequency is exp() in f32; its last bit, times the row's number, is the error of
            // the angle. Two programs' frequencies are both off by it.
            const double last_bit = static_cast<double>(shape[0]) * std::ldexp(1.0, -24);
            checks.compare_values(
                name, {},
                nn::sinusoidal_positions(shape[0], width).to(DType::f64).to_vector<double>(),
                recorded.values(name), last_bit, 2);
        }
    }
}

}  // namespace mc::train
