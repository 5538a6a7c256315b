#include "autograd/tape.h"

#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

Var leaf(const std::vector<double>& values) {
    return Var(doubles(values, {static_cast<int64_t>(values.size())}), requires_grad);
}

std::vector<double> grad_of(const Var& x) {
    REQUIRE(x.grad().defined());
    return values_of(x.grad());
}

using List = std::vector<double>;

}  // namespace

TEST_CASE("tape: nothing is recorded without a recording or without a differentiated value") {
    Tape tape;
    const Var x = leaf({1, 2});
    CHECK(Tape::current() == nullptr);
    CHECK_FALSE(square(x).has_grad_slot());
    {
        Tape::Recording recording(tape);
        CHECK(Tape::current() == &tape);
        CHECK_FALSE(square(Var(x.value())).has_grad_slot());
        CHECK_FALSE(square(detach(x)).has_grad_slot());
        CHECK(tape.size() == 0);
        CHECK(square(x).has_grad_slot());
        CHECK(tape.size() == 1);
    }
    CHECK(Tape::current() == nullptr);
    tape.clear();
    CHECK(tape.size() == 0);
}

TEST_CASE("tape: pause, nested recordings, and both end with an exception") {
    Tape outer, inner;
    const Var x = leaf({1, 2});
    Tape::Recording recording(outer);
    {
        Tape::Pause pause;
        CHECK_FALSE(square(x).has_grad_slot());
        Tape::Recording again(inner);
        square(x);
    }
    CHECK(Tape::current() == &outer);
    CHECK(outer.size() == 0);
    CHECK(inner.size() == 1);
    try {
        Tape::Pause pause;
        throw Error("test");
    } catch (const Error&) {
    }
    CHECK(Tape::current() == &outer);
}

TEST_CASE("tape: the example of the header") {
    const Var w(Tensor::from({2, 3}, {2}), requires_grad);
    Tape tape;
    {
        Tape::Recording recording(tape);
        const Var loss = sum(square(w));
        tape.backward(loss);
    }
    CHECK(w.grad().dtype() == DType::f32);
    CHECK(grad_of(w) == List{4, 6});
    CHECK(tape.size() == 0);
}

TEST_CASE("tape: gradients add up over two passes, until cleared") {
    const Var x = leaf({2, 3});
    Tape tape;
    for (double times : {1, 2}) {
        Tape::Recording recording(tape);
        tape.backward(sum(square(x)));
        CHECK(grad_of(x) == List{4 * times, 6 * times});
    }
    const Tensor kept = x.grad();
    {
        Tape::Recording recording(tape);
        tape.backward(sum(x));
    }
    CHECK(values_of(kept) == List{8, 12});  // whoever holds a gradient keeps what it was
    CHECK(grad_of(x) == List{9, 13});
    x.clear_grad();
    CHECK_FALSE(x.grad().defined());
}

TEST_CASE("tape: two values that receive one and the same gradient do not share later ones") {
    const Var a = leaf({1, 2}), b = leaf({3, 4});
    Tape tape;
    Tape::Recording recording(tape);
    tape.backward(sum(a + b));
    tape.backward(sum(scale(a, 5)));
    CHECK(grad_of(a) == List{6, 6});
    CHECK(grad_of(b) == List{1, 1});
}

TEST_CASE("tape: the gradient given to backward is not written to") {
    const Var x = leaf({1, 2});
    const Tensor given = doubles({1, 10}, {2});
    Tape tape;
    Tape::Recording recording(tape);
    tape.backward(x + x + x, given);
    CHECK(values_of(given) == List{1, 10});
    CHECK(grad_of(x) == List{3, 30});
    x.clear_grad();
    tape.backward(square(x), doubles({1, 9, 10, 9}, {2, 2}).slice(1, 0, 1).squeeze(1));  // strided
    CHECK(grad_of(x) == List{2, 40});
}

TEST_CASE("tape: a value used many times collects from every use") {
    const Var x = leaf({2, 3});
    Tape tape;
    Tape::Recording recording(tape);
    const Var y = square(x);  // 2 x (1 + y + 2 y + 3)
    tape.backward(sum(y + scale(square(y), 0.5) + y * y + scale(y, 3)));
    CHECK(grad_of(x) == List{2 * 2 * (4 + 3 * 4), 2 * 3 * (4 + 3 * 9)});
}

TEST_CASE("tape: a branch that receives nothing is skipped and stays undefined") {
    const Var used = leaf({1, 2}), unused = leaf({-1, 0});
    Tape tape;
    Tape::Recording recording(tape);
    const Var kept = square(used);
    const Var dropped = log(unused);  // its derivative at 0 is infinite: never asked for
    const Var both = select(Tensor::from_bools({1, 1}, {2}), kept, used);
    tape.backward(sum(both));
    CHECK(grad_of(used) == List{2, 4});
    CHECK_FALSE(unused.grad().defined());
    CHECK_FALSE(dropped.grad().defined());
    CHECK_FALSE(kept.grad().defined());  // gradients of intermediate values are let go
}

TEST_CASE("tape: a saved tensor that was written to is an error with the operation's name") {
    auto stale = [](const char* op, const Function& f) {
        CAPTURE(op);
        const Var x(random({2, 3}, 1, 0.5, 1), requires_grad), w(random({3, 3}, 2), requires_grad);
        Tape tape;
        Tape::Recording recording(tape);
        const Var loss = sum(f({x, w}));
        w.value().fill_(1);
        x.value().fill_(1);
        CHECK_ERROR(tape.backward(loss), op, "written to", "shape (");
        CHECK(tape.size() == 0);
    };
    stale("[mul]", [](const std::vector<Var>& v) { return mul(v[0], v[0]); });
    stale("[div]", [](const std::vector<Var>& v) { return div(v[0], v[0]); });
    stale("[unary]", [](const std::vector<Var>& v) { return square(v[0]); });
    stale("[matmul]", [](const std::vector<Var>& v) { return matmul(v[0], v[1]); });
    stale("[linear]", [](const std::vector<Var>& v) { return linear(v[0], v[1], Var()); });
    stale("[layer_norm]",
          [](const std::vector<Var>& v) { return layer_norm(v[0], Var(), Var(), 1e-5); });
    stale("[cross_entropy]", [](const std::vector<Var>& v) {
        return cross_entropy(v[0], Tensor::from_ids({0, 1}, {2}));
    });
    stale("[smooth_l1]", [](const std::vector<Var>& v) { return smooth_l1(v[0], scale(v[0], 2)); });
    stale("[attention]", [](const std::vector<Var>& v) {
        return attention(reshape(v[0], {1, 2, 3}), AttentionOptions());
    });
    stale("[conv1d]", [](const std::vector<Var>& v) {
        return conv1d(reshape(v[0], {1, 2, 3}), reshape(v[1], {3, 3, 1}), Var(), {});
    });
    stale("[mul]", [](const std::vector<Var>& v) {  // a view shares the version
        return mul(transpose(v[0], 0, 1), transpose(v[0], 0, 1));
    });
}

TEST_CASE("tape: writing to what no backward needs is no error") {
    const Var x = leaf({1, 2}), constant(doubles({3, 4}, {2}));
    Tape tape;
    Tape::Recording recording(tape);
    const Var loss = sum(x * constant + x);
    x.value().fill_(7);  // x * constant keeps the constant alone
    CHECK_NOTHROW(tape.backward(loss));
    CHECK(grad_of(x) == List{4, 5});
}

TEST_CASE("tape: a chain of 100000 nodes neither overflows nor loses its gradient") {
    const Var x = leaf({0.5});
    Tape tape;
    Tape::Recording recording(tape);
    Var y = x;
    for (int i = 0; i < 100000; ++i) y = affine(y, i % 2 ? 2 : 0.5, 1);
    CHECK(tape.size() == 100000);
    tape.backward(sum(y));
    CHECK(grad_of(x) == List{1});
    for (int i = 0; i < 100000; ++i) y = affine(y, 1, 0);
    tape.clear();  // destruction does not recurse either
}

TEST_CASE("tape: freezing and releasing a leaf") {
    Var x = leaf({1, 2});
    x.set_requires_grad(false);
    CHECK_FALSE(x.has_grad_slot());
    x.set_requires_grad(true);
    REQUIRE(x.has_grad_slot());
    const auto slot = x.slot();
    x.set_requires_grad(true);
    CHECK(x.slot() == slot);
}

TEST_CASE("tape: a node that throws leaves an empty tape") {
    struct Throwing : Node {
        const char* name() const override { return "throwing"; }
        void backward(Tensor) override { throw Error("[throwing] no"); }
    };
    const Var x = leaf({1, 2});
    Tape tape;
    Tape::Recording recording(tape);
    const Var y = square(x);
    const Var z = tape.record(std::make_unique<Throwing>(), y.value());
    CHECK_ERROR(tape.backward(sum(z)), "[throwing]");
    CHECK(tape.size() == 0);
    tape.backward(sum(square(x)));
    CHECK(grad_of(x) == List{2, 4});
}

TEST_CASE("tape: what one backward has used up is an error in the next, not a missing gradient") {
    const Var x(Tensor::full({2}, 3), requires_grad);
    Tape tape;
    Tape::Recording recording(tape);
    const Var y = x * x;
    const Var first = sum(y), second = sum(y * y);
    tape.backward(first);
    const auto used_up = doctest::Contains("before an earlier backward");
    CHECK_THROWS_WITH_AS(tape.backward(second), used_up, Error);
    CHECK_THROWS_WITH_AS(tape.backward(sum(y)), used_up, Error);
    x.clear_grad();
    tape.backward(sum(x * Var(y.value())));  // as a constant
    CHECK(x.grad().to_vector<float>() == std::vector<float>{9, 9});
    Var left;
    {
        Tape other;
        Tape::Recording inner(other);
        left = x * x;
    }
    CHECK_THROWS_WITH_AS(tape.backward(sum(left)), used_up, Error);
}

TEST_CASE("tape: errors of backward") {
    const Var x = leaf({1, 2});
    Tape tape;
    Tape::Recording recording(tape);
    CHECK_ERROR(tape.backward(square(x)), "[backward]", "(2)", "one element");
    CHECK_ERROR(tape.backward(sum(Var(x.value()))), "[backward]", "recorded");
    CHECK_ERROR(tape.backward(square(x), doubles({1}, {1})), "[backward]", "(1)", "(2)");
    CHECK_ERROR(tape.backward(square(x), Tensor::zeros({2})), "[backward]", "f32", "f64");
    CHECK_ERROR(accumulate(x.slot(), doubles({1}, {1})), "[accumulate]", "(1)", "(2)");
}

TEST_CASE("reduce_to: undoes every broadcast") {
    const Tensor g = random({2, 3, 4}, 1);
    const Array in(g);
    for (const Shape& shape : {Shape{2, 3, 4}, Shape{3, 4}, Shape{1, 4}, Shape{3, 1},
                               Shape{2, 1, 4}, Shape{1, 1, 1}, Shape{4}, Shape{1}, Shape{}}) {
        Array want(shape);
        for_each_index(g.shape(), [&](const std::vector<int64_t>& i) { want.at(i) += in.at(i); });
        check_near(reduce_to(g, shape), want, 1e-14, "reduce_to " + shape.str());
        check_near(reduce_to(g.transpose(0, 2).contiguous().transpose(0, 2), shape), want, 1e-14,
                   "reduce_to, strided");
    }
    CHECK_ERROR(reduce_to(g, {3, 2}), "[reduce_to]", "(2, 3, 4)", "(3, 2)");
}

TEST_CASE("slots: a buffer to add to belongs to the slot alone") {
    const Var x = leaf({1, 2});
    const Tensor given = doubles({5, 6}, {2});
    accumulate(x.slot(), given);
    grad_buffer(x.slot()).data<double>()[0] += 1;
    CHECK(values_of(given) == List{5, 6});
    CHECK(grad_of(x) == List{6, 6});
    const double* place = x.grad().data<double>();
    CHECK(grad_buffer(x.slot()).data<double>() == place);  // no copy while nobody else holds it
    accumulate(nullptr, given);
    accumulate(x.slot(), Tensor());
    CHECK(grad_of(x) == List{6, 6});
}
