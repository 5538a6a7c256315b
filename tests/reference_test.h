// What tests against the recorded runs share.
#pragma once

#include <doctest/doctest.h>

#include <memory>
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

}  // namespace mc::testing
