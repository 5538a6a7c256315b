// Made-up motions for tests: a figure that walks, jumps, waves or turns, drawn by formulas, so no
// data need be at hand. Deterministic: the same arguments give the same floats.
//
//     JointSequence walk = synthetic_motion(Action::kWalk, 120, 7);           // (120, 22, 3)
//     write_synthetic_mocap(scratch.path / "mocap", 24, 60);                  // npz +
//     captions.jsonl + phrasings.jsonl
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>
#include <vector>

#include "motion/features.h"
#include "motion/joints.h"
#include "motion/skeleton.h"
#include "tensor/formats/npy.h"

namespace mc::testing {

enum class Action { kWalk, kJump, kWave, kTurn };
inline constexpr int kActions = 4;

inline const char* action_name(Action action) {
    static constexpr const char* kNames[] = {"walk", "jump", "gesture", "turn"};
    return kNames[static_cast<int>(action)];
}

inline std::vector<std::string> action_captions(Action action) {
    switch (action) {
        case Action::kWalk:
            return {"a person walks forward", "someone strolls straight ahead"};
        case Action::kJump:
            return {"a person jumps up and down", "someone leaps on the spot"};
        case Action::kWave:
            return {"a person waves with the right hand", "the right arm waves"};
        default:
            return {"a person turns to the left", "someone spins round counterclockwise"};
    }
}

// A figure of 22 joints in metres, Y up, at 20 fps. `seed` changes tempo, size, place and heading a
// little.
inline motion::JointSequence synthetic_motion(Action action, int64_t frames, uint64_t seed = 0) {
    using motion::Quat, motion::Vec3;
    const motion::Skeleton& s = motion::humanml3d_skeleton();
    auto unit = [seed](uint64_t salt) {  // SplitMix64, in [0,1)
        uint64_t z = (seed + 1) * 0x9E3779B97F4A7C15ull + salt * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
    };
    const double tempo = 0.8 + 0.4 * unit(1), size = 0.9 + 0.2 * unit(2);
    const double heading = 2 * std::numbers::pi * unit(3), x0 = 4 * unit(4) - 2,
                 z0 = 4 * unit(5) - 2;
    const std::vector<Vec3> offsets = s.target_offsets();
    const Vec3 side{1, 0, 0}, ahead{0, 0, 1};
    std::vector<Quat> rotations;
    std::vector<Vec3> roots;
    for (int64_t t = 0; t < frames; ++t) {
        const double phase = 2 * std::numbers::pi * tempo * static_cast<double>(t) / 20;
        std::vector<Quat> q(22);  // local, as inverse kinematics would give them
        double height = 0.93, travel = 0, yaw = heading;
        // A standing figure: slightly bent and spread, so that no two directions are exactly
        // opposite.
        double swing_left = 0.05, swing_right = -0.05, knee_left = 0.1, knee_right = 0.1;
        double arm_left = 0.1, arm_right = -0.1, lift_right = 0.15;
        if (action == Action::kWalk) {
            swing_left = 0.45 * std::sin(phase);
            swing_right = -swing_left;
            knee_left = 0.2 + 0.4 * std::max(0.0, std::cos(phase));
            knee_right = 0.2 + 0.4 * std::max(0.0, -std::cos(phase));
            arm_left = -0.8 * swing_left;
            arm_right = -0.8 * swing_right;
            height += 0.02 * std::cos(2 * phase);
            travel = 1.1 * tempo * static_cast<double>(t) / 20;
        } else if (action == Action::kJump) {
            const double up = std::sin(phase);
            height += up > 0 ? 0.35 * up : 0.2 * up;
            swing_left = swing_right = up < 0 ? 0.6 * up : 0;
            knee_left = knee_right = up < 0 ? -1.2 * up + 0.05 : 0.05;
            arm_left = arm_right = -0.6 * up;
        } else if (action == Action::kWave) {
            lift_right = 2.3 + 0.3 * std::sin(2 * phase);
        } else {
            yaw += 0.6 * tempo * static_cast<double>(t) / 20;
        }
        q[0] = motion::axis_angle({0, 1, 0}, yaw);
        q[1] = motion::axis_angle(ahead, -0.3);
        q[2] = motion::axis_angle(ahead, 0.3);
        q[4] = motion::axis_angle(side, -swing_left) * motion::conjugate(q[1]);
        q[5] = motion::axis_angle(side, -swing_right) * motion::conjugate(q[2]);
        q[7] = motion::axis_angle(side, knee_left);
        q[8] = motion::axis_angle(side, knee_right);
        q[3] = motion::axis_angle(side, 0.05 + 0.02 * std::sin(phase));
        q[6] = motion::axis_angle(side, -0.04);
        q[13] = motion::axis_angle(ahead, 0.6);
        q[14] = motion::axis_angle(ahead, -0.6);
        q[16] = motion::axis_angle(side, -arm_left) * motion::axis_angle(ahead, -0.35);
        q[17] = motion::axis_angle(side, -arm_right) *
                motion::axis_angle(ahead, 0.2 + lift_right * 0.2);
        q[18] = motion::axis_angle(side, -0.2);
        q[19] = motion::axis_angle(ahead, -lift_right);
        q[20] = motion::axis_angle(side, -0.2);
        q[21] = motion::axis_angle(side, -0.2 - 0.1 * std::sin(phase));
        rotations.insert(rotations.end(), q.begin(), q.end());
        const Vec3 step = motion::rotate(motion::axis_angle({0, 1, 0}, heading), {0, 0, travel});
        roots.push_back(Vec3{x0, height, z0} + step);
    }
    motion::JointSequence result = motion::forward_kinematics(rotations, roots, offsets, s);
    for (float& v : result.xyz) v = static_cast<float>(v * size);
    return result;
}

// A small folder in the form of the mocap data: joints/made.npz, captions.jsonl, phrasings.jsonl.
// Clip i performs action i % 4 for `frames` frames plus i % 7; every fourth clip is two segments,
// and the last line says "bad".
inline void write_synthetic_mocap(const std::filesystem::path& folder, int64_t clips,
                                  int64_t frames) {
    std::filesystem::create_directories(folder / "joints");
    NpzWriter npz(folder / "joints" / "made.npz");
    std::ofstream captions(folder / "captions.jsonl");
    nlohmann::json pool_segments = nlohmann::json::array();
    for (int64_t i = 0; i < clips; ++i) {
        const auto action = static_cast<Action>(i % kActions);
        const auto clip = synthetic_motion(action, frames + i % 7, static_cast<uint64_t>(i));
        const std::string name = "made_" + std::to_string(i / 10) + std::to_string(i % 10) + "_01";
        npz.add(name, {clip.frames, clip.joints, 3}, clip.xyz.data());
        std::vector<int64_t> cuts{0, clip.frames};
        if (i % 4 == 3) cuts.insert(cuts.begin() + 1, clip.frames / 2);
        for (size_t c = 0; c + 1 < cuts.size(); ++c) {
            nlohmann::json line{
                {"clip", name},
                {"file", "made.npz"},
                {"from", cuts[c]},
                {"to", cuts[c + 1]},
                {"category", action_name(action)},
                {"captions", action_captions(action)},
                {"facts", {{"dur_s", static_cast<double>(cuts[c + 1] - cuts[c]) / 20}}},
                {"looked", true}};
            if (i % 2 == 0) line["paraphrases"] = {"made by formula"};
            if (i == clips - 1 && c + 2 == cuts.size()) {
                line["bad"] = true;
                line["reason"] = "kept out on purpose";
            } else if (action == Action::kWalk) {
                pool_segments.push_back({name, cuts[c], cuts[c + 1]});
            }
            captions << line.dump() << '\n';
        }
    }
    npz.commit();
    std::ofstream(folder / "phrasings.jsonl")
        << nlohmann::json{{"group", "walk_plain"},
                          {"segments", pool_segments},
                          {"phrasings", {"walking along", "goes ahead on foot"}}}
               .dump()
        << '\n';
}

}  // namespace mc::testing
