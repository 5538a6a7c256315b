// Small vector, quaternion and rotation-matrix arithmetic in double, for skeletons of a few dozen
// joints.
//
// Conventions (motion_data.md, top): quaternions are (w,x,y,z), Hamilton product, v' = q v q*;
// coordinates are right-handed with Y up. Matrices are row-major and act on column vectors.
//
//     Quat yaw = axis_angle({0, 1, 0}, 0.5);      // half a radian to the left
//     Vec3 left = rotate(yaw, {0, 0, 1});         // forward turned towards +X
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace mc::motion {

struct Vec3 {
    double x = 0, y = 0, z = 0;

    friend Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
    friend Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
    friend Vec3 operator-(Vec3 a) { return {-a.x, -a.y, -a.z}; }
    friend Vec3 operator*(double s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
    friend Vec3 operator*(Vec3 a, double s) { return s * a; }
    friend Vec3 operator/(Vec3 a, double s) { return {a.x / s, a.y / s, a.z / s}; }
    Vec3& operator+=(Vec3 b) { return *this = *this + b; }
    Vec3& operator-=(Vec3 b) { return *this = *this - b; }
};

inline double dot(Vec3 a, Vec3 b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
inline Vec3 cross(Vec3 a, Vec3 b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline double length(Vec3 a) {
    return std::sqrt(dot(a, a));
}

// a/|a|; the zero vector stays zero, so callers that must not get one check length() first.
inline Vec3 normalise(Vec3 a) {
    const double n = length(a);
    return n > 0 ? a / n : a;
}

// Any unit vector at right angles to a (a need not be a unit vector, but not zero).
inline Vec3 any_perpendicular(Vec3 a) {
    const Vec3 other = std::abs(a.x) < 0.9 * length(a) ? Vec3{1, 0, 0} : Vec3{0, 1, 0};
    return normalise(cross(a, other));
}

struct Quat {
    double w = 1, x = 0, y = 0, z = 0;

    Vec3 vec() const { return {x, y, z}; }
    friend Quat operator*(Quat a, Quat b) {
        return {a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z,
                a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
                a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x,
                a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w};
    }
};

inline Quat conjugate(Quat q) {
    return {q.w, -q.x, -q.y, -q.z};
}  // the inverse of a unit one
inline double length(Quat q) {
    return std::sqrt(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z);
}
inline Quat normalise(Quat q) {
    const double n = length(q);
    return n > 0 ? Quat{q.w / n, q.x / n, q.y / n, q.z / n} : Quat{};
}

// v + 2(w·(u×v) + u×(u×v)) for a unit q = (w,u).
inline Vec3 rotate(Quat q, Vec3 v) {
    const Vec3 u = q.vec();
    const Vec3 uv = cross(u, v);
    return v + 2.0 * (q.w * uv + cross(u, uv));
}

// The shortest rotation that takes the direction of a to that of b (motion_data.md 10):
// normalise([√(|a|²|b|²) + a·b, a×b]). For opposite vectors, where that is 0, a half turn about an
// axis at right angles to a.
inline Quat between(Vec3 a, Vec3 b) {
    const Vec3 axis = cross(a, b);
    const Quat q{std::sqrt(dot(a, a) * dot(b, b)) + dot(a, b), axis.x, axis.y, axis.z};
    const double n = length(q);
    if (n < 1e-8) {
        const Vec3 p = any_perpendicular(a);
        return {0, p.x, p.y, p.z};
    }
    return {q.w / n, q.x / n, q.y / n, q.z / n};
}

inline Quat axis_angle(Vec3 axis, double radians) {
    const Vec3 u = std::sin(radians / 2) * normalise(axis);
    return {std::cos(radians / 2), u.x, u.y, u.z};
}

// Rotation vector (axis times angle, radians, angle in [0, π]) and back.
inline Vec3 log(Quat q) {
    if (q.w < 0) q = {-q.w, -q.x, -q.y, -q.z};
    const double n = length(q.vec());
    return n > 1e-12 ? (2 * std::atan2(n, q.w) / n) * q.vec() : 2.0 * q.vec();
}
inline Quat exp(Vec3 rotation) {
    const double angle = length(rotation);
    if (angle > 1e-12) return axis_angle(rotation, angle);
    return normalise(Quat{1, rotation.x / 2, rotation.y / 2, rotation.z / 2});
}

// Spherical interpolation along the shorter arc, t in [0,1].
inline Quat slerp(Quat a, Quat b, double t) {
    double c = a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z;
    if (c < 0) {
        b = {-b.w, -b.x, -b.y, -b.z};
        c = -c;
    }
    double wa = 1 - t, wb = t;
    if (c < 0.9999) {
        const double angle = std::acos(c);
        wa = std::sin((1 - t) * angle) / std::sin(angle);
        wb = std::sin(t * angle) / std::sin(angle);
    }
    return normalise(
        Quat{wa * a.w + wb * b.w, wa * a.x + wb * b.x, wa * a.y + wb * b.y, wa * a.z + wb * b.z});
}

struct Mat3 {
    std::array<double, 9> m{1, 0, 0, 0, 1, 0, 0, 0, 1};  // rows

    double operator()(int row, int column) const { return m[3 * row + column]; }
    double& operator()(int row, int column) { return m[3 * row + column]; }
    Vec3 column(int c) const { return {m[c], m[3 + c], m[6 + c]}; }
    friend Vec3 operator*(const Mat3& a, Vec3 v) {
        return {a.m[0] * v.x + a.m[1] * v.y + a.m[2] * v.z,
                a.m[3] * v.x + a.m[4] * v.y + a.m[5] * v.z,
                a.m[6] * v.x + a.m[7] * v.y + a.m[8] * v.z};
    }
    friend Mat3 operator*(const Mat3& a, const Mat3& b) {
        Mat3 c;
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j)
                c(i, j) = a(i, 0) * b(0, j) + a(i, 1) * b(1, j) + a(i, 2) * b(2, j);
        return c;
    }
};

inline Mat3 from_columns(Vec3 a, Vec3 b, Vec3 c) {
    return {{a.x, b.x, c.x, a.y, b.y, c.y, a.z, b.z, c.z}};
}
inline Mat3 transpose(const Mat3& a) {
    return {{a.m[0], a.m[3], a.m[6], a.m[1], a.m[4], a.m[7], a.m[2], a.m[5], a.m[8]}};
}

inline Mat3 to_matrix(Quat q) {  // scaled by 2/|q|², so q need not be a unit quaternion
    const double s = 2 / (q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z);
    return {{1 - s * (q.y * q.y + q.z * q.z), s * (q.x * q.y - q.z * q.w),
             s * (q.x * q.z + q.y * q.w), s * (q.x * q.y + q.z * q.w),
             1 - s * (q.x * q.x + q.z * q.z), s * (q.y * q.z - q.x * q.w),
             s * (q.x * q.z - q.y * q.w), s * (q.y * q.z + q.x * q.w),
             1 - s * (q.x * q.x + q.y * q.y)}};
}

inline Quat to_quat(const Mat3& r) {  // of a rotation matrix; w >= 0
    const double trace = r(0, 0) + r(1, 1) + r(2, 2);
    Quat q;
    if (trace > 0) {
        const double s = 2 * std::sqrt(trace + 1);
        q = {s / 4, (r(2, 1) - r(1, 2)) / s, (r(0, 2) - r(2, 0)) / s, (r(1, 0) - r(0, 1)) / s};
    } else if (r(0, 0) >= r(1, 1) && r(0, 0) >= r(2, 2)) {
        const double s = 2 * std::sqrt(std::max(0.0, 1 + r(0, 0) - r(1, 1) - r(2, 2)));
        q = {(r(2, 1) - r(1, 2)) / s, s / 4, (r(0, 1) + r(1, 0)) / s, (r(0, 2) + r(2, 0)) / s};
    } else if (r(1, 1) >= r(2, 2)) {
        const double s = 2 * std::sqrt(std::max(0.0, 1 + r(1, 1) - r(0, 0) - r(2, 2)));
        q = {(r(0, 2) - r(2, 0)) / s, (r(0, 1) + r(1, 0)) / s, s / 4, (r(1, 2) + r(2, 1)) / s};
    } else {
        const double s = 2 * std::sqrt(std::max(0.0, 1 + r(2, 2) - r(0, 0) - r(1, 1)));
        q = {(r(1, 0) - r(0, 1)) / s, (r(0, 2) + r(2, 0)) / s, (r(1, 2) + r(2, 1)) / s, s / 4};
    }
    return q.w < 0 ? Quat{-q.w, -q.x, -q.y, -q.z} : q;
}

// The 6-D code of a rotation: column 0, then column 1, of its matrix.
inline std::array<double, 6> to_6d(Quat q) {
    const Mat3 r = to_matrix(q);
    return {r(0, 0), r(1, 0), r(2, 0), r(0, 1), r(1, 1), r(2, 1)};
}

// Its inverse: x = a/|a|, z = x×b normalised, y = z×x; columns (x,y,z).
inline Mat3 from_6d(Vec3 a, Vec3 b) {
    const Vec3 x = normalise(a);
    const Vec3 z = normalise(cross(x, b));
    return from_columns(x, cross(z, x), z);
}

}  // namespace mc::motion
