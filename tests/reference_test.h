// What tests against the recorded runs share.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <string>

#include "tests/test_paths.h"
#include "train/reference_case.h"
#include "train/reference_weights.h"

namespace mc::testing {

// The recorded run, or null with a loud message.
inline std::unique_ptr<train::ReferenceCase> recorded_case(const std::string& name) {
    const std::string path = "reference/" + name + ".safetensors";
    if (!have_shared(path)) return nullptr;
    return std::make_unique<train::ReferenceCase>(shared_dir() / path);
}

inline void check_recorded(const train::ReferenceCase& recorded, const std::string& name,
                           const Tensor& ours, double factor = 8) {
    const train::Comparison c = recorded.compare(name, ours, factor);
    CHECK_MESSAGE(c.fits(), c.text());
}

// Full-size cases that take longer than everything else together.
inline bool slow_tests() {
    const char* wanted = std::getenv("MOCLIP_SLOW_TESTS");
    if (wanted && std::string(wanted) == "1") return true;
    MESSAGE("SKIPPED: set MOCLIP_SLOW_TESTS=1 for this full-size case");
    return false;
}

// Every gradient that the file has as PREFIX + name, against the parameters'.
inline void check_gradients(const train::ReferenceCase& recorded, const std::string& prefix,
                            nn::Module& model, int64_t wanted, double factor = 8) {
    int64_t found = 0;
    for (auto& [name, parameter] : model.parameters()) {
        const std::string key = prefix + name;
        if (!recorded.has(key) && !recorded.has(key + ".slice")) continue;
        ++found;
        const Tensor grad = parameter->grad().defined()
                                ? parameter->grad()
                                : Tensor::zeros(parameter->shape(), parameter->dtype());
        check_recorded(recorded, key, grad, factor);
    }
    CHECK(found == wanted);
}

// Central differences of `loss` along random directions, one a parameter, against the gradients
// that the parameters hold; f64.
template <class Loss>
void check_directions(nn::Module& model, const Loss& loss, double tolerance = 1e-6) {
    uint32_t k = 0;
    for (auto& [name, parameter] : model.parameters()) {
        const Tensor& value = parameter->value();
        const Tensor start = value.clone();
        const double h = 1e-5;
        double slope = 0, sides[2] = {0, 0};
        const Tensor grad = parameter->grad().defined() ? parameter->grad().contiguous() : Tensor();
        std::vector<double> direction(static_cast<size_t>(value.numel()));
        for (size_t i = 0; i < direction.size(); ++i) {
            direction[i] = train::generator_hash(static_cast<uint32_t>(i), 77 + k);
            if (grad.defined()) slope += direction[i] * grad.data<double>()[i];
        }
        for (int side = 0; side < 2; ++side) {
            for (size_t i = 0; i < direction.size(); ++i)
                value.data<double>()[i] = start.data<double>()[i] + (side ? -h : h) * direction[i];
            value.bump_version();
            sides[side] = loss();
        }
        value.copy_(start);
        const double measured = (sides[0] - sides[1]) / (2 * h);
        CHECK_MESSAGE(std::abs(measured - slope) <= tolerance * std::max(1.0, std::abs(slope)),
                      name << ": differences give " << measured << ", backward " << slope);
        ++k;
    }
}

}  // namespace mc::testing
