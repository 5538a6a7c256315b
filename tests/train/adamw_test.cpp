#include "train/adamw.h"

#include <doctest/doctest.h>

#include <cmath>

namespace mc::train {
namespace {

// Leaves, and what add() takes.
struct Fixture {
    std::vector<Var> values;
    std::vector<std::pair<std::string, Var*>> parameters;

    explicit Fixture(const std::vector<Tensor>& tensors) {
        for (const Tensor& t : tensors) values.push_back(Var(t, requires_grad));
        for (size_t i = 0; i < values.size(); ++i)
            parameters.push_back({"p" + std::to_string(i), &values[i]});
    }
    void set_gradients() {  // 2p each
        for (const Var& value : values) {
            Tape tape;
            Tape::Recording recording(tape);
            tape.backward(sum(square(value)));
        }
    }
};

TEST_CASE("adamw: f32 and f64 parameters in one optimiser") {
    const Tensor a = Tensor::from({1, -2, 3}, {3}), b = Tensor::from({4, 5}, {2});
    Fixture mixed({a.clone(), b.to(DType::f64), b.clone()});
    Fixture alone({b.to(DType::f64)});
    AdamW both({.weight_decay = 0.1}), one({.weight_decay = 0.1});
    both.add(mixed.parameters);
    one.add(alone.parameters);
    for (int step = 0; step < 2; ++step) {
        mixed.set_gradients();
        alone.set_gradients();
        if (step == 0) {
            // 4 * (1 + 4 + 9 + 16 + 25 + 16 + 25).
            CHECK(both.gradient_norm() == doctest::Approx(std::sqrt(384.0)).epsilon(1e-12));
            CHECK(one.gradient_norm() == doctest::Approx(std::sqrt(164.0)).epsilon(1e-12));
        }
        both.step(0.01, 0.5);
        one.step(0.01, 0.5);
    }
    CHECK(mixed.values[1].value().to_vector<double>() ==
          alone.values[0].value().to_vector<double>());
    for (size_t i = 0; i < 2; ++i)
        CHECK(mixed.values[2].value().to_vector<float>()[i] ==
              doctest::Approx(alone.values[0].value().to_vector<double>()[i]).epsilon(1e-6));
    CHECK(both.gradient_norm() == 0);  // cleared
}

TEST_CASE("adamw: rates and decays by prefix; reset, it steps as a new one") {
    const Tensor a = Tensor::from({1, -2, 3}, {3}), b = Tensor::from({4, 5}, {2});
    Fixture used({a.clone(), b.clone()});
    AdamW optimizer({});
    optimizer.add(used.parameters);
    used.set_gradients();
    optimizer.step(0.3);
    for (const Var& value : used.values) value.value().copy_(&value == &used.values[0] ? a : b);
    optimizer.reset_moments();
    optimizer.set("", 0.5, 0.1);
    optimizer.set("p1", 2, 0.7);

    Fixture fresh({a.clone(), b.clone()});
    AdamW first({}), second({});
    first.add({fresh.parameters[0]}, 0.5, 0.1);
    second.add({fresh.parameters[1]}, 2, 0.7);
    for (int step = 0; step < 3; ++step) {
        used.set_gradients();
        fresh.set_gradients();
        optimizer.step(0.01);
        first.step(0.01);
        second.step(0.01);
    }
    for (size_t i = 0; i < 2; ++i)
        CHECK(used.values[i].value().to_vector<float>() ==
              fresh.values[i].value().to_vector<float>());
}

TEST_CASE("clip_factor is PyTorch's, whose norm has 1e-6 more") {
    CHECK(clip_factor(2, 0.5) == 0.5 / (2 + 1e-6));
    CHECK(clip_factor(0.5, 0.5) == 0.5 / (0.5 + 1e-6));
    CHECK(clip_factor(0.4, 0.5) == 1);
    CHECK(clip_factor(0, 0.5) == 1);
    CHECK(clip_factor(1e9, 0) == 1);  // no limit
}

TEST_CASE("adamw: a parameter without a gradient is left alone") {
    Fixture f({Tensor::from({1, 2}, {2}), Tensor::from({3}, {1})});
    AdamW optimizer({.weight_decay = 0.5});
    optimizer.add(f.parameters);
    Tape tape;
    {
        Tape::Recording recording(tape);
        tape.backward(sum(f.values[0]));
    }
    optimizer.step(0.1);
    CHECK(f.values[0].value().item<float>({0}) != 1);
    CHECK(f.values[1].value().item<float>() == 3);
    CHECK(optimizer.state().back().second.item<int64_t>() == 0);
}

}  // namespace
}  // namespace mc::train
