// Measured facts of a motion: what a person would say who watched it with a ruler and a stop-watch.
// The benchmark of plain facts (pretrained/facts) checks generated motions with them.
//
//     MotionFacts facts = measure_facts(joints);
//     facts.at("airborne");      // number of jumps
//     facts.at("turn");          // degrees from the first frame to the last, positive to the left
//
// NOTE [ Frames of reference ] "Forward" and "left" of a displacement are those of the body in the
// first frame; of a path (forward_path, left_path, ...) those of the body at each moment. The
// heading is at right angles to (left - right hip) + (left - right shoulder), filtered over half a
// second so that the swing of a walk is no turn. Heights are above the floor y = 0, which features
// have at the lowest joint of the clip. "Standing" heights are computed from the bones, so that a
// motion that never stands upright has them too.
//
// Thresholds were chosen on captured motion (tests/train/facts_calibration_test.cpp states the
// rates). All arithmetic is in double and in one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "motion/joints.h"

namespace mc::motion {

struct FactInfo {
    std::string name;
    std::string unit;     // "m", "m/s", "deg", "s", "share" (0 to 1), "ratio", "count", "count/s"
    std::string meaning;  // one sentence
};

// Every fact there is, in the order of their families.
const std::vector<FactInfo>& known_facts();
bool is_fact(std::string_view name);

struct MotionFacts {
    std::map<std::string, double, std::less<>> values;  // all of known_facts()

    // Error if there is no fact of this name.
    double at(std::string_view name) const;
};

inline constexpr int64_t kMinFactFrames = 4;

// Of (N, 22, 3) joints in HumanML3D's order. Error: other joint counts, fewer than kMinFactFrames
// frames, NaN or Inf (frame and joint). `source` begins the message.
MotionFacts measure_facts(const JointSequence& joints, const std::string& source = "joints");

}  // namespace mc::motion
