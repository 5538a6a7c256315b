#include <algorithm>

#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

TEST_CASE("reshape: the row-major values, one size open, and the gradient back") {
    const Tensor x = random({2, 3, 4}, 1);
    for (const Shape& shape : {Shape{6, 4}, Shape{24}, Shape{4, 3, 2}, Shape{1, 24, 1}}) {
        Array want(x);
        want.shape = shape;
        check_op(
            "reshape", {x}, [&](const std::vector<Var>& v) { return square(reshape(v[0], shape)); },
            filled(shape, [&](const std::vector<int64_t>& i) { return want.at(i) * want.at(i); }));
    }
    CHECK(reshape(Var(x), {-1, 4}).shape() == Shape{6, 4});
    CHECK(reshape(Var(x), {6, 4}).value().storage() == x.storage());
    CHECK_ERROR(reshape(Var(x), {5, 5}), "[reshape]", "(2, 3, 4)", "(5, 5)");
}

TEST_CASE("transpose: every pair of dimensions, as a view") {
    const Tensor x = random({2, 3, 5}, 2);
    const Array in(x);
    for (int a = -3; a < 3; ++a)
        for (int b = -3; b < 3; ++b) {
            const size_t u = static_cast<size_t>((a + 3) % 3), w = static_cast<size_t>((b + 3) % 3);
            Shape shape = x.shape();
            std::swap(shape[static_cast<int>(u)], shape[static_cast<int>(w)]);
            const Array want = filled(shape, [&](std::vector<int64_t> i) {
                std::swap(i[u], i[w]);
                return in.at(i) * in.at(i);
            });
            const Function f = [=](const std::vector<Var>& v) {
                return square(transpose(v[0], a, b));
            };
            check_near(f({Var(x)}).value(), want, 1e-15, "transpose");
            CHECK_NOTHROW(gradcheck("transpose", {x}, f));
        }
    CHECK(transpose(Var(x), 0, 2).value().storage() == x.storage());
    CHECK_ERROR(transpose(Var(x), 0, 3), "[transpose]", "dimension 3", "(2, 3, 5)");
}

TEST_CASE("permute: every order of four dimensions") {
    const Tensor x = random({2, 1, 3, 2}, 3);
    const Array in(x);
    std::vector<int> order{0, 1, 2, 3};
    do {
        Shape shape;
        for (int from : order) shape.push_back(x.size(from));
        const Array want = filled(shape, [&](const std::vector<int64_t>& i) {
            std::vector<int64_t> source(4);
            for (size_t d = 0; d < 4; ++d) source[static_cast<size_t>(order[d])] = i[d];
            return in.at(source);
        });
        const auto f = [&](const std::vector<Var>& v) {
            return permute(v[0], {order[0], order[1], order[2], order[3] - 4});
        };
        check_near(f({Var(x)}).value(), want, 0, "permute");
        CHECK_NOTHROW(gradcheck("permute", {x}, f));
    } while (std::next_permutation(order.begin(), order.end()));
    CHECK_ERROR(permute(Var(x), {0, 1}), "[permute]", "(2, 1, 3, 2)");
    CHECK_ERROR(permute(Var(x), {0, 1, 2, 2}), "[permute]", "twice");
}

TEST_CASE("slice: every dimension, counted from either end, empty, and overlapping") {
    const Tensor x = random({3, 4, 5}, 4);
    const Array in(x);
    struct Case {
        int dim;
        int64_t begin, end, from, size;
    };
    for (const Case& c : {Case{0, 1, 3, 1, 2}, Case{1, 0, 4, 0, 4}, Case{2, 2, 3, 2, 1},
                          Case{-1, -3, -1, 2, 2}, Case{-2, 1, -1, 1, 2}, Case{1, 2, 2, 2, 0}}) {
        Shape shape = x.shape();
        const size_t dim = static_cast<size_t>((c.dim + 3) % 3);
        shape[static_cast<int>(dim)] = c.size;
        check_op(
            "slice", {x},
            [&](const std::vector<Var>& v) { return slice(v[0], c.dim, c.begin, c.end); },
            filled(shape, [&](std::vector<int64_t> i) {
                i[dim] += c.from;
                return in.at(i);
            }));
    }
    CHECK_NOTHROW(gradcheck("overlapping", {x}, [](const std::vector<Var>& v) {
        const Var a = slice(v[0], 1, 0, 3), b = slice(v[0], 1, 1, 4);
        return a * b + square(slice(slice(v[0], 2, 0, 1), 1, 1, 4));
    }));
    CHECK_ERROR(slice(Var(x), 1, 2, 9), "[slice]", "(3, 4, 5)", "9");
    CHECK_ERROR(slice(Var(x), 3, 0, 1), "[slice]", "dimension 3", "(3, 4, 5)");
}

TEST_CASE("expand: new and stretched dimensions, summed in backward") {
    const Tensor x = random({3, 1, 2}, 5);
    const Array in(x);
    for (const Shape& shape : {Shape{3, 4, 2}, Shape{2, 3, 1, 2}, Shape{5, 3, 4, 2}})
        check_op(
            "expand", {x}, [&](const std::vector<Var>& v) { return square(expand(v[0], shape)); },
            filled(shape, [&](const std::vector<int64_t>& i) { return in.at(i) * in.at(i); }));
    CHECK(expand(Var(x), {7, -1, 4, -1}).shape() == Shape{7, 3, 4, 2});
    CHECK(expand(Var(random({}, 1)), {2, 2}).shape() == Shape{2, 2});
    CHECK_NOTHROW(gradcheck("expand 0-d", {random({}, 1)}, [](const std::vector<Var>& v) {
        return expand(v[0], {2, 3});
    }));
    CHECK_ERROR(expand(Var(x), {3, 4, 3}), "[expand]", "(3, 1, 2)", "(3, 4, 3)");
}

TEST_CASE("concat: along every dimension, three parts, one of them empty") {
    for (int dim = -3; dim < 3; ++dim) {
        const int at = (dim + 3) % 3;
        std::vector<Tensor> parts;
        Shape shape{2, 3, 4};
        shape[at] = 0;
        for (int64_t size : {2, 0, 3}) {
            Shape own{2, 3, 4};
            own[at] = size;
            shape[at] += size;
            parts.push_back(random(own, 6 + static_cast<uint64_t>(size)));
        }
        const Array a(parts[0]), c(parts[2]);
        check_op(
            "concat", parts, [&](const std::vector<Var>& v) { return concat(v, dim); },
            filled(shape, [&](std::vector<int64_t> i) {
                int64_t& along = i[static_cast<size_t>(at)];
                if (along < 2) return a.at(i);
                along -= 2;
                return c.at(i);
            }));
    }
}

TEST_CASE("concat: one value twice, constants among the parts, errors") {
    const Tensor x = random({2, 3}, 1), constant = random({2, 1}, 2);
    CHECK_NOTHROW(gradcheck("twice", {x}, [&](const std::vector<Var>& v) {
        return square(concat({v[0], Var(constant), v[0]}, 1));
    }));
    CHECK_ERROR(concat({}, 0), "[concat]", "no parts");
    CHECK_ERROR(concat({Var(x), Var(random({3, 2}, 1))}, 0), "[concat]", "(3, 2)", "(3, 3)");
    CHECK_ERROR(concat({Var(x), Var(random({2}, 1))}, 0), "[concat]", "(2)", "(2, 3)");
    CHECK_ERROR(concat({Var(x), Var(Tensor::zeros({2, 3}))}, 0), "[concat]", "f32");
    CHECK_ERROR(concat({Var(x)}, 2), "[concat]", "dimension 2", "(2, 3)");
}
