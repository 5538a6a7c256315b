#include "motion/quaternion.h"

#include <doctest/doctest.h>

#include <numbers>

using namespace mc::motion;

namespace {

// A few directions and rotations that cover all octants and the special axes.
const Vec3 kDirections[] = {{1, 0, 0},     {0, -1, 0},       {0, 0, 1},        {0.3, -0.5, 0.9},
                            {-2, 0.1, -1}, {0.2, 0.7, -0.4}, {-0.6, -0.6, 0.1}};

double gap(Vec3 a, Vec3 b) {
    return length(a - b);
}

}  // namespace

TEST_CASE("a yaw of 90 degrees takes forward to the left") {
    const Quat q = axis_angle({0, 1, 0}, std::numbers::pi / 2);
    CHECK(gap(rotate(q, {0, 0, 1}), {1, 0, 0}) < 1e-15);
}

TEST_CASE("rotate, matrix and product agree") {
    for (Vec3 axis : kDirections)
        for (double angle : {-3.0, -0.4, 1e-3, 1.1, 2.9}) {
            const Quat q = axis_angle(axis, angle);
            const Quat p = axis_angle({0.1, 1, -2}, 0.7);
            const Quat back = to_quat(to_matrix(q));
            CHECK(std::abs(back.w - std::abs(q.w)) < 1e-12);
            for (Vec3 v : kDirections) {
                CHECK(gap(rotate(q, v), to_matrix(q) * v) < 1e-12);
                CHECK(gap(rotate(back, v), rotate(q, v)) < 1e-12);
                CHECK(gap(rotate(q * p, v), rotate(q, rotate(p, v))) < 1e-12);
                CHECK(gap(rotate(conjugate(q), rotate(q, v)), v) < 1e-12);
                CHECK(gap(rotate(exp(log(q)), v), rotate(q, v)) < 1e-12);
            }
            const auto code = to_6d(q);
            const Mat3 r = from_6d({code[0], code[1], code[2]}, {code[3], code[4], code[5]});
            for (int i = 0; i < 9; ++i) CHECK(std::abs(r.m[i] - to_matrix(q).m[i]) < 1e-12);
        }
}

TEST_CASE("between takes one direction to the other, opposite ones too") {
    for (Vec3 a : kDirections)
        for (Vec3 b : kDirections)
            CHECK(gap(rotate(between(a, b), normalise(a)), normalise(b)) < 1e-12);
    for (Vec3 a : kDirections) {
        const Vec3 unit = normalise(a);
        CHECK(gap(rotate(between(unit, -unit), unit), -unit) < 1e-7);
    }
}

TEST_CASE("slerp ends at its ends and halves the angle") {
    const Quat a = axis_angle({0, 1, 0}, 0.2), b = axis_angle({0, 1, 0}, 1.4);
    const Quat half = slerp(a, b, 0.5);
    CHECK(gap(log(half), {0, 0.8, 0}) < 1e-12);
    CHECK(gap(log(slerp(a, b, 0)), {0, 0.2, 0}) < 1e-12);
    const Quat minus_b{-b.w, -b.x, -b.y, -b.z};
    CHECK(gap(log(slerp(a, minus_b, 1)), {0, 1.4, 0}) < 1e-12);
}
