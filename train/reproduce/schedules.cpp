// schedules: time grids and counts of masked tokens, exactly; computed position tables.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/bad/transformer.h"
#include "models/bamm/transformer.h"
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

// How many tokens BAMM's second pass makes anew, of motions of 1, 2, .. tokens.
void check_bamm(Checks& checks) {
    const std::string name = "output.bamm.num_masked";
    if (!checks.wants(name)) return;
    bamm::Config config;  // the smallest that there is: no weight counts
    config.num_tokens = config.heads = config.layers = 1;
    config.latent_dim = 2;  // a sine and a cosine
    config.code_dim = config.ff_size = config.clip_dim = 1;
    const bamm::Transformer model(config, nullptr);
    const int64_t longest = checks.recorded().shape(name).back();
    std::vector<int64_t> anew;
    NoNoise none;
    for (int64_t length = 1; length <= longest; ++length) {
        bamm::Transformer::Draft draft;
        draft.ids = Tensor::zeros({1, longest + 1}, DType::i64);
        draft.ids.data<int64_t>()[length] = model.end_id();
        draft.lengths = {length};
        const std::vector<int64_t> known = model.kept_half(draft, none).to_vector<int64_t>();
        anew.push_back(std::count(known.begin(), known.begin() + length, model.pad_id()));
    }
    checks.same(name, anew);
}

void check_bad(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const std::string name = "output.bad.num_masked.cosine";
    if (checks.wants(name)) {
        const std::vector<int64_t> shape = recorded.shape(name);  // (steps, lengths 1..)
        std::vector<int64_t> counts;
        for (int64_t step = 0; step < shape.front(); ++step)
            for (int64_t length = 1; length <= shape.back(); ++length)
                counts.push_back(
                    bad::masked_before(step, bad::step_span(shape.front(), length), length));
        checks.same(name, counts);
    }
    for (const char* other : {"linear", "square"})
        checks.skip(std::string("output.bad.num_masked.") + other,
                    "a schedule that the published system never uses; ours is the cosine");
    for (const char* schedule : {"cosine", "linear", "square"})
        checks.skip(std::string("output.bad.fragile.") + schedule,
                    "says where the reference's own float64 would mask another number");
    const std::string features = "output.bad.timestep_embedding_0_";  // of 0 to the number
    for (const int64_t last : numbers_after(recorded, features)) {
        std::vector<int64_t> values;
        for (int64_t v = 0; v <= last; ++v) values.push_back(v);
        // An argument of up to `last` has two roundings behind it, of exp and of the product; with
        // the half unit of the sine itself that is (2 last + 1) 2^-24, two roundings' worth of
        // which the comparison adds by itself.
        checks.compare_values(features + std::to_string(last), {},
                              bad::scalar_features(values).to(DType::f64).to_vector<double>(),
                              recorded.values(features + std::to_string(last)),
                              (static_cast<double>(last) - 1.5) * std::ldexp(1.0, -24), 2);
    }
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
    check_bamm(checks);
    check_bad(checks);
}

}  // namespace mc::train
