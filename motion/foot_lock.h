// Foot-skate clean-up: feet that stand still stand still.
//
//     JointSequence clean = lock_feet(joints);             // ours
//     JointSequence as_published = lock_feet(joints, published_foot_lock());
//
// Ankles and toes in contact with the floor are held at the mean of their contact, the frames
// around are blended towards it (momask-codes' remove_fs; motion_data.md, 12.3;
// generators.md, 9.3). The published settings let the height alone decide, pull a foot that rises
// back to where it stood and move foot joints without regard to the leg; by default we ask for a
// slow foot, keep its height, let go of it by fading out what its contact moved it by, and bend
// the knee so that no bone changes its length. Feet on stairs above the floor stay as they are.
#pragma once

#include "motion/joints.h"

namespace mc::motion {

struct FootLockOptions {
    // A joint touches the floor if it moves less than this to the next frame (metres, squared) ...
    double ankle_step_squared = 0.02 * 0.02;
    double toe_step_squared = 0.02 * 0.02;
    // ... and is lower than this (metres).
    double ankle_height = 0.13;
    double toe_height = 0.06;
    bool ground_below_all = true;  // y = 0 goes to the clip's lowest joint, else as lock_feet says
    bool floor_first = true;       // heights count from the floor found, not from y = 0
    bool keep_height = true;       // a contact has its mean height, else y = 0
    bool keep_path = true;         // beside a contact the move is blended, else the place
    bool keep_lengths = true;  // solve hip, knee, ankle and toe so that bones keep their lengths
    int64_t blend_frames = 5;  // how far from a contact
};

// The constants and the behaviour of the published code, quirks included.
FootLockOptions published_foot_lock();

// The clip moved so that its lowest joint is at y = 0 (not moved if that joint is above 0.5 m),
// with its feet locked. Heights of contacts count from the 10 % quantile of the lowest foot joint
// in the frames in which it rests. As published, both are the mean of the lowest foot joint over
// the frames between the 25 % and 50 % quantiles of that height (0 if that is above 0.5 m), which
// sinks a figure that comes down or goes up. Error unless the clip has 22 joints and finite
// numbers.
JointSequence lock_feet(const JointSequence& joints, const FootLockOptions& options = {});

}  // namespace mc::motion
