#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

TEST_CASE("embedding: rows by id, repeated ids summed, negative ids zero") {
    for (int64_t width : {1, 3, 17}) {
        const Tensor table = random({5, width}, 1);
        const Array rows(table);
        const std::vector<int64_t> ids{0, 4, -1, 2, 4, 4, -7, 0};
        for (const Shape& shape : {Shape{8}, Shape{2, 4}, Shape{2, 2, 2}}) {
            Shape out = shape;
            out.push_back(width);
            size_t at = 0;
            check_op(
                "embedding", {table},
                [&](const std::vector<Var>& v) {
                    return embedding(v[0], Tensor::from_ids(ids, shape));
                },
                filled(out, [&](const std::vector<int64_t>& i) {
                    const int64_t id = ids[at++ / static_cast<size_t>(width)];
                    return id < 0 ? 0.0 : rows.at({id, i.back()});
                }));
        }
    }
}

TEST_CASE("embedding: one table used twice, strided ids, no ids, one id") {
    const Tensor table = random({4, 3}, 1);
    const Tensor ids = Tensor::from_ids({3, 1, 0, 1, 2, 3}, {2, 3});
    CHECK_NOTHROW(gradcheck("twice", {table}, [&](const std::vector<Var>& v) {
        return embedding(v[0], ids) * embedding(v[0], ids.transpose(0, 1).reshape({2, 3}));
    }));
    CHECK_NOTHROW(gradcheck("tied", {table}, [&](const std::vector<Var>& v) {  // input and output
        return linear(embedding(v[0], ids), v[0], Var());
    }));
    CHECK(same_bits(embedding(Var(table), ids.transpose(0, 1)).value(),
                    embedding(Var(table), ids).value().transpose(0, 1)));
    CHECK(embedding(Var(table), Tensor::from_ids({}, {0})).shape() == Shape{0, 3});
    CHECK(embedding(Var(table), Tensor::from_ids({2}, {})).shape() == Shape{3});
    CHECK_NOTHROW(gradcheck("no ids", {table}, [&](const std::vector<Var>& v) {
        return embedding(v[0], Tensor::from_ids({}, {0}));
    }));
}

TEST_CASE("straight through: the value given, the gradient times gain") {
    const Tensor x = random({2, 3}, 1), value = random({2, 3}, 2), v = random({2, 3}, 3);
    const Array weight(v);
    for (double gain : {1.0, 0.25, 0.0}) {
        const Function f = [&](const std::vector<Var>& in) {
            return straight_through(value, in[0], gain);
        };
        CHECK(same_bits(f({Var(x)}).value(), value));
        CHECK(same_bits(f({Var(x, requires_grad)}).value(), value));
        check_near(
            gradients_of({x}, f, v)[0],
            filled({2, 3}, [&](const std::vector<int64_t>& i) { return gain * weight.at(i); }), 0,
            "gradient");
    }
    // Proven against differences where value and x agree in slope.
    CHECK_NOTHROW(gradcheck("x + constant", {x}, [&](const std::vector<Var>& in) {
        return straight_through(affine(detach(in[0]), 1, 3).value(), in[0]);
    }));
}

TEST_CASE("embedding and straight through: errors name operation and shapes") {
    const Var table(random({4, 3}, 1));
    CHECK_ERROR(embedding(table, Tensor::from_ids({0, 4}, {2})), "[embedding]", "id 4", "at 1",
                "(4, 3)");
    CHECK_ERROR(embedding(Var(random({4}, 1)), Tensor::from_ids({0}, {1})), "[embedding]", "(4)");
    CHECK_ERROR(embedding(table, Tensor::zeros({2})), "i64", "f32");
    CHECK_ERROR(straight_through(random({2}, 1), table), "[straight_through]", "(2)", "(4, 3)");
}
