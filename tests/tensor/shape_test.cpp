#include "tensor/shape.h"

#include <doctest/doctest.h>

using namespace mc;

TEST_CASE("shape: counts, text, equality, at most 8 dimensions") {
    CHECK(Shape{}.numel() == 1);
    CHECK(Shape{}.str() == "()");
    CHECK(Shape{2, 3, 4}.numel() == 24);
    CHECK(Shape{2, 0, 4}.numel() == 0);
    CHECK(Shape{2, 3}.str() == "(2, 3)");
    CHECK(Shape{2, 3}.back() == 3);
    CHECK(Shape{2, 3} == Shape{2, 3});
    CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
    CHECK_FALSE(Shape{2} == Shape{2, 1});
    Shape full{1, 1, 1, 1, 1, 1, 1, 1};
    CHECK_THROWS_WITH_AS(full.push_back(1), doctest::Contains("more than 8"), Error);
}

TEST_CASE("shape: broadcasting follows NumPy") {
    const auto both = [](const Shape& a, const Shape& b) {
        CHECK(broadcast_shapes(a, b, "add") == broadcast_shapes(b, a, "add"));
        return broadcast_shapes(a, b, "add");
    };
    CHECK(both({}, {}) == Shape{});
    CHECK(both({3}, {}) == Shape{3});
    CHECK(both({2, 3}, {3}) == Shape{2, 3});
    CHECK(both({2, 1}, {3}) == Shape{2, 3});
    CHECK(both({4, 1, 5}, {3, 1}) == Shape{4, 3, 5});
    CHECK(both({1}, {0}) == Shape{0});
    CHECK(both({2, 0}, {1, 1}) == Shape{2, 0});
    CHECK_THROWS_WITH_AS(broadcast_shapes({2, 3}, {4}, "add"),
                         "[add] shapes (2, 3) and (4) do not broadcast", Error);
    CHECK_THROWS_AS(broadcast_shapes({0}, {2}, "add"), Error);
}
