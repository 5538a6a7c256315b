// Results over what the caller gave away, gradients over what nobody else holds.
#include "autograd/ops.h"
#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

struct Case {
    const char* name;
    std::function<Var(Var)> f;
    bool saves_input;  // for backward
};

std::vector<Case> cases() {
    const Tensor other = random({4, 6}, 2), row = random({6}, 3), weight = random({6}, 4);
    return {
        {"add, left", [=](Var x) { return std::move(x) + Var(other); }, false},
        {"add, right", [=](Var x) { return Var(other) + std::move(x); }, false},
        {"add, broadcast", [=](Var x) { return std::move(x) + Var(row); }, false},
        {"sub", [=](Var x) { return Var(row) - std::move(x); }, false},
        {"affine", [](Var x) { return affine(std::move(x), 3, -1); }, false},
        {"gelu", [](Var x) { return gelu(std::move(x)); }, true},
        {"dropout",
         [](Var x) {
             Generator generator(7);
             return dropout(std::move(x), 0.4, generator);
         },
         false},
        {"layer_norm", [=](Var x) { return layer_norm(std::move(x), Var(weight), Var(row), 1e-5); },
         true},
        {"layer_norm_residual",
         [=](Var x) {
             return layer_norm_residual(std::move(x), Var(other), Var(weight), Var(row), 1e-5);
         },
         false},
    };
}

}  // namespace

TEST_CASE("memory: a result goes over what was given away, and over nothing else") {
    const Tensor x = random({4, 6}, 1);
    for (const Case& c : cases()) {
        INFO(c.name);
        const std::vector<double> before = values_of(x);
        const Var kept = c.f(Var(x));
        CHECK(kept.value().storage() != x.storage());
        CHECK(values_of(x) == before);

        Tensor copy = x.clone();
        const Storage* memory = copy.storage().get();
        const Var given = c.f(Var(std::move(copy)));
        CHECK(given.value().storage().get() == memory);
        CHECK(values_of(given.value()) == values_of(kept.value()));

        // A view counts as a holder, and so does a file.
        Tensor seen = x.clone();
        const Tensor view = seen.slice(0, 1, 2);
        c.f(Var(std::move(seen)));
        CHECK(values_of(view) == values_of(x.slice(0, 1, 2)));
        const Tensor file = x.clone();
        c.f(Var(Tensor::borrow(file.raw(), file.shape(), file.dtype(), file.storage())));
        CHECK(values_of(file) == before);
    }
}

TEST_CASE("memory: what backward needs stays, where it is recorded too") {
    const Tensor x = random({4, 6}, 1), dy = random({4, 6}, 5);
    for (const Case& c : cases()) {
        INFO(c.name);
        const auto run = [&](bool give, Tensor& grad, std::vector<double>& values) {
            Var leaf(x.clone(), requires_grad);
            Tape tape;
            Tape::Recording recording(tape);
            Var between = scale(leaf, 2);  // somebody's result
            const Storage* memory = between.value().storage().get();
            const Var y = give ? c.f(std::move(between)) : c.f(between);
            if (give && c.saves_input)
                CHECK(y.value().storage().get() != memory);
            else if (!give)
                CHECK(values_of(between.value()) == values_of(scale(Var(x), 2).value()));
            values = values_of(y.value());
            tape.backward(y, dy);
            grad = leaf.grad();
        };
        Tensor kept, given;
        std::vector<double> kept_values, given_values;
        run(false, kept, kept_values);
        run(true, given, given_values);
        CHECK(kept_values == given_values);
        CHECK(values_of(kept) == values_of(given));
        CHECK(values_of(dy) == values_of(random({4, 6}, 5)));
    }
}

// Gradients that several values share on their way, through every node that writes over its own.
TEST_CASE("memory: gradients that are shared are not written over") {
    for (const Case& c : cases()) {
        INFO(c.name);
        CHECK_NOTHROW(gradcheck(c.name, {random({4, 6}, 1), random({4, 6}, 8)},
                                [&](const std::vector<Var>& v) {
                                    const Var sum = v[0] + v[1];
                                    const Var branch = c.f(scale(sum, 0.5)) + c.f(v[0] + sum);
                                    return branch + c.f(branch) - v[1];
                                }));
    }
    CHECK_NOTHROW(
        gradcheck("linear", {random({4, 6}, 1), random({6, 6}, 2)}, [](const std::vector<Var>& v) {
            const Var h = linear(v[0] + v[0], v[1], Var(), UnaryOp::gelu);
            return linear(h, v[1], Var(), UnaryOp::tanh) + h + softmax(h);
        }));
}

TEST_CASE("memory: the second of two gradients takes the sum where the first is shared") {
    const Tensor held = random({3}, 1);
    Var x(doubles({1, 2, 3}, {3}), requires_grad);
    accumulate(x.slot(), held);
    Tensor second = random({3}, 2);
    const Storage* memory = second.storage().get();
    const std::vector<double> a = values_of(held), b = values_of(second);
    accumulate(x.slot(), std::move(second));
    CHECK(x.grad().storage().get() == memory);
    CHECK(values_of(held) == a);
    CHECK(values_of(x.grad()) == std::vector<double>{a[0] + b[0], a[1] + b[1], a[2] + b[2]});
}
