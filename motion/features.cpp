#include "motion/features.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace mc::motion {

namespace {

// A bone or an across vector shorter than this (metres, or KIT's units) has no direction worth the
// name.
constexpr double kMinLength = 1e-8;
constexpr double kHeadingSigma = 20;  // frames
constexpr Vec3 kUp{0, 1, 0}, kAhead{0, 0, 1};

Vec3 joint_at(const JointSequence& joints, int64_t frame, int64_t joint) {
    const float* p = joints.at(frame, joint);
    return {p[0], p[1], p[2]};
}

void put(JointSequence& joints, int64_t frame, int64_t joint, Vec3 v) {
    float* p = joints.at(frame, joint);
    p[0] = static_cast<float>(v.x);
    p[1] = static_cast<float>(v.y);
    p[2] = static_cast<float>(v.z);
}

JointSequence empty_like(int64_t frames, int64_t joints, double fps) {
    JointSequence result;
    result.frames = frames;
    result.joints = joints;
    result.fps = fps;
    result.xyz.resize(static_cast<size_t>(frames * joints * 3));
    return result;
}

// Positions in double, (N, J): the reference keeps float64 between its steps.
using Positions = std::vector<Vec3>;

Positions positions_of(const JointSequence& joints) {
    Positions result(static_cast<size_t>(joints.frames * joints.joints));
    for (size_t i = 0; i < result.size(); ++i)
        result[i] = {joints.xyz[3 * i], joints.xyz[3 * i + 1], joints.xyz[3 * i + 2]};
    return result;
}

JointSequence sequence_of(const Positions& positions, const Skeleton& skeleton, double fps) {
    const auto joints = skeleton.joints;
    JointSequence result = empty_like(static_cast<int64_t>(positions.size()) / joints, joints, fps);
    for (size_t i = 0; i < positions.size(); ++i)
        put(result, static_cast<int64_t>(i) / joints, static_cast<int64_t>(i) % joints,
            positions[i]);
    return result;
}

[[noreturn]] void fail_direction(const Skeleton& s, int64_t frame, const std::string& what) {
    throw Error(fmt::format("[features {}] frame {}: {}", s.name, frame, what));
}

// The horizontal direction the subject faces, given the two across vectors of a frame.
Vec3 forward_of(Vec3 hips, Vec3 shoulders, const Skeleton& s, int64_t frame) {
    const Vec3 across = hips + shoulders;
    const double n = length(across);
    if (n < kMinLength)
        fail_direction(s, frame, "hips and shoulders give no heading (their sum is zero)");
    const Vec3 forward = cross(kUp, across / n);
    if (length(forward) < kMinLength)
        fail_direction(s, frame, "hips and shoulders give no heading (across is vertical)");
    return forward;  // not normalised: the reference smooths first
}

// NOTE [ Root heading ]: the sign of the hips is the reference's.
std::vector<Quat> headings(const Positions& p, const Skeleton& s, bool smooth) {
    const auto joints = static_cast<size_t>(s.joints);
    const size_t frames = p.size() / joints;
    const auto [r_hip, l_hip, r_shoulder, l_shoulder] = s.face_joints;
    std::vector<Vec3> forward(frames);
    for (size_t t = 0; t < frames; ++t) {
        const Vec3* f = &p[t * joints];
        forward[t] = forward_of(f[l_hip] - f[r_hip], f[r_shoulder] - f[l_shoulder], s,
                                static_cast<int64_t>(t));
    }
    if (smooth) {
        const auto radius = static_cast<int64_t>(4 * kHeadingSigma + 0.5);
        std::vector<double> weights(static_cast<size_t>(2 * radius + 1));
        double sum = 0;
        for (int64_t k = -radius; k <= radius; ++k)
            sum += weights[static_cast<size_t>(k + radius)] =
                std::exp(-0.5 * static_cast<double>(k * k) / (kHeadingSigma * kHeadingSigma));
        for (double& w : weights) w /= sum;
        std::vector<Vec3> smoothed(frames);
        const auto last = static_cast<int64_t>(frames) - 1;
        for (int64_t t = 0; t <= last; ++t) {
            Vec3 v;
            for (int64_t k = -radius; k <= radius; ++k)
                v += weights[static_cast<size_t>(k + radius)] *
                     forward[static_cast<size_t>(std::clamp<int64_t>(t + k, 0, last))];
            smoothed[static_cast<size_t>(t)] = v;
        }
        forward = std::move(smoothed);
    }
    std::vector<Quat> result(frames);
    for (size_t t = 0; t < frames; ++t) {
        if (length(forward[t]) < kMinLength)
            fail_direction(s, static_cast<int64_t>(t), "the smoothed heading vanishes");
        result[t] = between(normalise(forward[t]), kAhead);
    }
    result[0] = Quat{};
    return result;
}

std::vector<Quat> inverse(const Positions& p, const Skeleton& s, bool smooth) {
    const auto joints = static_cast<size_t>(s.joints);
    const size_t frames = p.size() / joints;
    const std::vector<Quat> roots = headings(p, s, smooth);
    std::vector<Quat> result(frames * joints);
    for (size_t t = 0; t < frames; ++t) {
        const Vec3* f = &p[t * joints];
        Quat* q = &result[t * joints];
        q[0] = roots[t];
        for (const auto& chain : s.chains) {
            Quat r =
                roots[t];  // for the arm chains too: the rotation of their first joint is ignored
            for (size_t i = 1; i < chain.size(); ++i) {
                const auto parent = static_cast<size_t>(chain[i - 1]);
                const auto child = static_cast<size_t>(chain[i]);
                const Vec3 bone = f[child] - f[parent];
                const double n = length(bone);
                if (n < kMinLength)
                    fail_direction(s, static_cast<int64_t>(t),
                                   fmt::format("the bone {} to {} has no length",
                                               s.joint_names[parent], s.joint_names[child]));
                q[child] = conjugate(r) * between(s.raw_offsets[child], bone / n);
                r = r * q[child];
            }
        }
    }
    return result;
}

Positions forward(std::span<const Quat> rotations, std::span<const Vec3> roots,
                  std::span<const Vec3> offsets, const Skeleton& s) {
    const auto joints = static_cast<size_t>(s.joints);
    Positions result(roots.size() * joints);
    for (size_t t = 0; t < roots.size(); ++t) {
        const Quat* q = &rotations[t * joints];
        Vec3* f = &result[t * joints];
        f[0] = roots[t];
        for (const auto& chain : s.chains) {
            Quat r = q[0];
            for (size_t i = 1; i < chain.size(); ++i) {
                const auto parent = static_cast<size_t>(chain[i - 1]);
                const auto child = static_cast<size_t>(chain[i]);
                r = r * q[child];
                f[child] = f[parent] + rotate(r, offsets[child]);
            }
        }
    }
    return result;
}

void check_offsets(std::span<const Vec3> offsets, const Skeleton& s) {
    if (static_cast<int64_t>(offsets.size()) != s.joints)
        throw Error(fmt::format("[features {}] offsets: got {}, want {}, one a joint", s.name,
                                offsets.size(), s.joints));
}

Positions uniform(const Positions& p, const Skeleton& s, std::span<const Vec3> offsets) {
    check_offsets(offsets, s);
    const auto joints = static_cast<size_t>(s.joints);
    // Lengths as the largest component of raw offset times length: raw offsets are unit axes.
    double source = 0, target = 0;
    for (int leg : s.leg_joints) {
        const auto j = static_cast<size_t>(leg);
        source += length(p[j] - p[static_cast<size_t>(s.parents[j])]);
        target +=
            std::max({std::abs(offsets[j].x), std::abs(offsets[j].y), std::abs(offsets[j].z)});
    }
    if (source < kMinLength) fail_direction(s, 0, "the legs have no length");
    const double scale = target / source;
    std::vector<Vec3> roots(p.size() / joints);
    for (size_t t = 0; t < roots.size(); ++t) roots[t] = scale * p[t * joints];
    return forward(inverse(p, s, false), roots, offsets, s);
}

void make_canonical(Positions& p, const Skeleton& s) {
    double floor = p[0].y;
    for (const Vec3& v : p) floor = std::min(floor, v.y);
    const Vec3 origin{p[0].x, floor, p[0].z};
    for (Vec3& v : p) v -= origin;
    const auto [r_hip, l_hip, r_shoulder, l_shoulder] = s.face_joints;
    const Vec3 ahead =
        forward_of(p[static_cast<size_t>(r_hip)] - p[static_cast<size_t>(l_hip)],
                   p[static_cast<size_t>(r_shoulder)] - p[static_cast<size_t>(l_shoulder)], s, 0);
    const Quat turn = between(normalise(ahead), kAhead);
    for (Vec3& v : p) v = rotate(turn, v);
}

FeatureSequence extract(const Positions& p, const Skeleton& s, double fps) {
    const auto joints = static_cast<size_t>(s.joints);
    const size_t rows = p.size() / joints - 1;
    const std::vector<Quat> q = inverse(p, s, true);
    FeatureSequence result;
    result.frames = static_cast<int64_t>(rows);
    result.dims = s.feature_dims();
    result.fps = fps;
    result.rows.resize(rows * static_cast<size_t>(result.dims));
    for (size_t t = 0; t < rows; ++t) {
        const Vec3 *now = &p[t * joints], *next = now + joints;
        const Quat here = q[t * joints], there = q[(t + 1) * joints];
        float* out = result.at(static_cast<int64_t>(t));
        auto emit = [&out](double value) { *out++ = static_cast<float>(value); };
        auto emit3 = [&](Vec3 v) {
            emit(v.x);
            emit(v.y);
            emit(v.z);
        };
        emit(std::asin(std::clamp((there * conjugate(here)).y, -1.0, 1.0)));
        const Vec3 velocity = rotate(there, next[0] - now[0]);
        emit(velocity.x);
        emit(velocity.z);
        emit(now[0].y);
        const Vec3 ground{now[0].x, 0, now[0].z};
        for (size_t j = 1; j < joints; ++j) emit3(rotate(here, now[j] - ground));
        for (size_t j = 1; j < joints; ++j)
            for (double value : to_6d(q[t * joints + j])) emit(value);
        for (size_t j = 0; j < joints; ++j) emit3(rotate(here, next[j] - now[j]));
        for (const auto* foot : {&s.left_foot, &s.right_foot})
            for (int j : *foot) {
                const Vec3 step = next[j] - now[j];
                emit(dot(step, step) < s.contact_threshold ? 1 : 0);
            }
    }
    return result;
}

// Without target lengths of its own (KIT) a clip keeps those of its first frame.
std::vector<Vec3> default_offsets(const JointSequence& joints, const Skeleton& s) {
    return s.bone_lengths.empty() ? s.offsets(bone_lengths(joints, s)) : s.target_offsets();
}

Positions processed(const JointSequence& joints, const Skeleton& s, std::span<const Vec3> offsets) {
    Positions p = uniform(positions_of(joints), s, offsets);
    make_canonical(p, s);
    return p;
}

}  // namespace

void check_joints(const JointSequence& joints, const Skeleton& skeleton, int64_t min_frames,
                  const std::string& source) {
    if (joints.joints != skeleton.joints)
        throw Error(fmt::format("{}: got {} joints, want {} ({})", source, joints.joints,
                                skeleton.joints, skeleton.name));
    if (static_cast<int64_t>(joints.xyz.size()) != joints.frames * joints.joints * 3)
        throw Error(fmt::format("{}: got {} numbers, want {} for {} frames", source,
                                joints.xyz.size(), joints.frames * joints.joints * 3,
                                joints.frames));
    if (joints.frames < min_frames)
        throw Error(
            fmt::format("{}: got {} frames, want at least {}", source, joints.frames, min_frames));
    for (size_t i = 0; i < joints.xyz.size(); ++i)
        if (!std::isfinite(joints.xyz[i])) {
            const auto row = static_cast<int64_t>(i) / 3;
            throw Error(fmt::format("{}: frame {}, joint {} ({}): {} is not a position", source,
                                    row / joints.joints, row % joints.joints,
                                    skeleton.joint_names[static_cast<size_t>(row % joints.joints)],
                                    joints.xyz[i]));
        }
}

void check_features(const FeatureSequence& features, const std::string& source) {
    skeleton_for_dims(features.dims);
    if (static_cast<int64_t>(features.rows.size()) != features.frames * features.dims)
        throw Error(fmt::format("{}: got {} numbers, want {} for {} frames", source,
                                features.rows.size(), features.frames * features.dims,
                                features.frames));
    for (size_t i = 0; i < features.rows.size(); ++i)
        if (!std::isfinite(features.rows[i]))
            throw Error(fmt::format("{}: frame {}, column {}: {} is not a feature", source,
                                    static_cast<int64_t>(i) / features.dims,
                                    static_cast<int64_t>(i) % features.dims, features.rows[i]));
}

std::vector<double> bone_lengths(const JointSequence& joints, const Skeleton& skeleton,
                                 int64_t frame) {
    check_joints(joints, skeleton);
    if (frame < 0 || frame >= joints.frames)
        throw Error(
            fmt::format("[bone_lengths] frame: got {}, want 0..{}", frame, joints.frames - 1));
    std::vector<double> result(static_cast<size_t>(skeleton.joints), 0.0);
    for (size_t j = 1; j < result.size(); ++j)
        result[j] = length(joint_at(joints, frame, static_cast<int64_t>(j)) -
                           joint_at(joints, frame, skeleton.parents[j]));
    return result;
}

std::vector<Quat> inverse_kinematics(const JointSequence& joints, const Skeleton& skeleton,
                                     bool smooth) {
    check_joints(joints, skeleton);
    return inverse(positions_of(joints), skeleton, smooth);
}

JointSequence forward_kinematics(std::span<const Quat> rotations, std::span<const Vec3> roots,
                                 std::span<const Vec3> offsets, const Skeleton& skeleton) {
    check_offsets(offsets, skeleton);
    if (rotations.size() != roots.size() * static_cast<size_t>(skeleton.joints))
        throw Error(fmt::format("[forward_kinematics] rotations: got {}, want {} for {} frames",
                                rotations.size(),
                                roots.size() * static_cast<size_t>(skeleton.joints), roots.size()));
    return sequence_of(forward(rotations, roots, offsets, skeleton), skeleton, skeleton.fps);
}

JointSequence uniform_skeleton(const JointSequence& joints, const Skeleton& skeleton,
                               std::span<const Vec3> offsets) {
    check_joints(joints, skeleton);
    return sequence_of(uniform(positions_of(joints), skeleton, offsets), skeleton, joints.fps);
}

JointSequence canonicalise(const JointSequence& joints, const Skeleton& skeleton) {
    check_joints(joints, skeleton);
    Positions p = positions_of(joints);
    make_canonical(p, skeleton);
    return sequence_of(p, skeleton, joints.fps);
}

JointSequence process(const JointSequence& joints, const Skeleton& skeleton) {
    check_joints(joints, skeleton);
    return process(joints, skeleton, default_offsets(joints, skeleton));
}

JointSequence process(const JointSequence& joints, const Skeleton& skeleton,
                      std::span<const Vec3> offsets) {
    check_joints(joints, skeleton);
    return sequence_of(processed(joints, skeleton, offsets), skeleton, joints.fps);
}

FeatureSequence extract_features(const JointSequence& joints, const Skeleton& skeleton) {
    check_joints(joints, skeleton, 2);
    return extract(positions_of(joints), skeleton, joints.fps);
}

FeatureSequence motion_features(const JointSequence& joints) {
    const Skeleton& s = skeleton_for_joints(joints.joints);
    check_joints(joints, s, 2);
    return extract(processed(joints, s, default_offsets(joints, s)), s, joints.fps);
}

RootPath recover_root(const FeatureSequence& features) {
    check_features(features);
    RootPath path;
    path.half_angles.reserve(static_cast<size_t>(features.frames));
    path.positions.reserve(static_cast<size_t>(features.frames));
    double angle = 0;
    Vec3 at;
    for (int64_t t = 0; t < features.frames; ++t) {
        if (t > 0) {
            const float* before = features.at(t - 1);
            angle += before[0];
            const Quat q{std::cos(angle), 0, std::sin(angle), 0};
            at += rotate(conjugate(q), Vec3{before[1], 0, before[2]});
        }
        path.half_angles.push_back(angle);
        path.positions.push_back({at.x, features.at(t)[3], at.z});
    }
    return path;
}

JointSequence joints_from_features(const FeatureSequence& features) {
    const Skeleton& s = skeleton_for_dims(features.dims);
    const RootPath path = recover_root(features);
    JointSequence result = empty_like(features.frames, s.joints, features.fps);
    for (int64_t t = 0; t < features.frames; ++t) {
        const Vec3 root = path.positions[static_cast<size_t>(t)];
        const Quat back = conjugate(path.heading(t));
        const float* ric = features.at(t) + s.ric_begin();
        put(result, t, 0, root);
        for (int64_t j = 1; j < s.joints; ++j, ric += 3)
            put(result, t, j, rotate(back, Vec3{ric[0], ric[1], ric[2]}) + Vec3{root.x, 0, root.z});
    }
    return result;
}

JointSequence joints_from_rotations(const FeatureSequence& features,
                                    std::span<const Vec3> offsets) {
    const Skeleton& s = skeleton_for_dims(features.dims);
    check_offsets(offsets, s);
    const RootPath path = recover_root(features);
    JointSequence result = empty_like(features.frames, s.joints, features.fps);
    const auto joints = static_cast<size_t>(s.joints);
    std::vector<Mat3> local(joints);
    std::vector<Vec3> position(joints);
    for (int64_t t = 0; t < features.frames; ++t) {
        const float* code = features.at(t) + s.rot_begin();
        local[0] = to_matrix(path.heading(t));
        for (size_t j = 1; j < joints; ++j, code += 6)
            local[j] = from_6d({code[0], code[1], code[2]}, {code[3], code[4], code[5]});
        position[0] = path.positions[static_cast<size_t>(t)];
        for (const auto& chain : s.chains) {
            Mat3 r = local[0];
            for (size_t i = 1; i < chain.size(); ++i) {
                const auto child = static_cast<size_t>(chain[i]);
                r = r * local[child];
                position[child] = position[static_cast<size_t>(chain[i - 1])] + r * offsets[child];
            }
        }
        for (size_t j = 0; j < joints; ++j) put(result, t, static_cast<int64_t>(j), position[j]);
    }
    return result;
}

JointSequence rebuild_last_frame(const FeatureSequence& features) {
    const Skeleton& s = skeleton_for_dims(features.dims);
    JointSequence result = joints_from_features(features);
    if (features.frames == 0) return result;
    const int64_t last = features.frames - 1;
    const Quat back = conjugate(recover_root(features).heading(last));
    const float* velocity = features.at(last) + s.vel_begin();
    result.xyz.resize(result.xyz.size() + static_cast<size_t>(3 * s.joints));
    ++result.frames;
    for (int64_t j = 0; j < s.joints; ++j, velocity += 3)
        put(result, last + 1, j,
            joint_at(result, last, j) + rotate(back, Vec3{velocity[0], velocity[1], velocity[2]}));
    return result;
}

JointSequence mirror(const JointSequence& joints, const Skeleton& skeleton) {
    check_joints(joints, skeleton);
    JointSequence result = joints;
    for (int64_t t = 0; t < result.frames; ++t) {
        for (int64_t j = 0; j < result.joints; ++j) result.at(t, j)[0] = -result.at(t, j)[0];
        for (const auto& [a, b] : skeleton.mirror_pairs)
            std::swap_ranges(result.at(t, a), result.at(t, a) + 3, result.at(t, b));
    }
    return result;
}

JointSequence slice(const JointSequence& joints, int64_t from, int64_t to) {
    if (from < 0 || to > joints.frames || from >= to)
        throw Error(
            fmt::format("[slice] frames {}..{}: want a part of 0..{}", from, to, joints.frames));
    JointSequence result = empty_like(to - from, joints.joints, joints.fps);
    std::copy(joints.at(from, 0), joints.at(from, 0) + (to - from) * joints.joints * 3,
              result.xyz.begin());
    return result;
}

JointSequence resample(const JointSequence& joints, double fps) {
    if (!(joints.fps > 0 && fps > 0) || !std::isfinite(joints.fps) || !std::isfinite(fps))
        throw Error(
            fmt::format("[resample] from {} to {} frames a second: want finite rates above 0",
                        joints.fps, fps));
    JointSequence result = joints;
    result.fps = fps;
    if (joints.frames == 0 || std::fabs(joints.fps / fps - 1) < 1e-3) return result;
    const int64_t last = joints.frames - 1;
    const double step = joints.fps / fps;  // frames of the source between two of the result
    const double count = std::floor(static_cast<double>(last) / step + 0.01) + 1;
    if (count * static_cast<double>(joints.joints) > 1e8)
        throw Error(
            fmt::format("[resample] {} frames at {} a second make {:.0f} at {}; cut the clip",
                        joints.frames, joints.fps, count, fps));
    result = empty_like(static_cast<int64_t>(count), joints.joints, fps);
    const int64_t width = joints.joints * 3;
    for (int64_t t = 0; t < result.frames; ++t) {
        const double place = static_cast<double>(t) * step;
        const int64_t before = std::min(static_cast<int64_t>(place), last);
        const int64_t after = std::min(before + 1, last);
        const double share = std::min(place - static_cast<double>(before), 1.0);
        const float* a = joints.at(before, 0);
        const float* b = joints.at(after, 0);
        for (int64_t i = 0; i < width; ++i)
            result.at(t, 0)[i] = static_cast<float>((1 - share) * a[i] + share * b[i]);
    }
    return result;
}

}  // namespace mc::motion
