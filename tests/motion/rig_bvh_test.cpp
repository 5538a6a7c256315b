#include "motion/rig_bvh.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tests/motion/sample_motions.h"

using namespace mc::motion;
using mc::testing::as_blender_writes;
using mc::testing::joint_error;
using mc::testing::walking_rig;

namespace {

// The whole file lies down: every frame of a figure that stands becomes one of a figure that lies.
Bvh lying(Bvh bvh) {
    for (int64_t t = 0; t < bvh.frames; ++t) {
        double* row = bvh.values.data() + t * bvh.channels;
        row[1] = 0.1;
        row[3] = 0;   // Y, X, Z rotation of the hips
        row[4] = 90;  // the head goes to +Z
    }
    return bvh;
}

}  // namespace

TEST_CASE("rig_bvh: a file with Z up is turned to Y up, and says so") {
    for (int64_t joints : {22, 21}) {
        const JointSequence source = rig_joints(walking_rig(40, 0.7, 1, joints));
        const Bvh ours = rig_to_bvh(fit_rig(source));
        std::vector<std::string> notes;
        CHECK(joint_error(bvh_joints(ours, "a.bvh", &notes), source).worst < 5e-6);
        CHECK(notes.empty());
        const JointSequence again = bvh_joints(as_blender_writes(ours), "b.bvh", &notes);
        CHECK(joint_error(again, source).worst < 5e-6);
        CHECK(again.fps == doctest::Approx(24));
        REQUIRE(notes.size() == 1);
        CHECK(notes[0] == "b.bvh: has +Z up; turned to Y up");
    }
}

TEST_CASE("rig_bvh: who lies is not stood up") {
    const Bvh ours = lying(rig_to_bvh(fit_rig(rig_joints(walking_rig(20)))));
    std::vector<std::string> notes;
    const JointSequence down = bvh_joints(ours, "a.bvh", &notes);
    CHECK(notes.empty());
    CHECK(down.at(0, 15)[1] < 0.5f);
    CHECK(joint_error(bvh_joints(as_blender_writes(ours)), down).worst < 5e-6);
}

TEST_CASE("rig_bvh: without a rest pose the figure tells which way is up") {
    // All bones in position channels, none in OFFSET.
    const JointSequence source = rig_joints(walking_rig(20));
    Bvh bvh = as_blender_writes(rig_to_bvh(fit_rig(source)));
    for (BvhJoint& joint : bvh.joints) joint.offset = {};
    CHECK(joint_error(bvh_joints(bvh), source).worst < 5e-6);
}

TEST_CASE("rig_bvh: what cannot be understood is one line that names the file") {
    const Bvh ours = rig_to_bvh(fit_rig(rig_joints(walking_rig(10))));
    Bvh other = ours;
    other.joints[3].name = "Foot_L";
    CHECK_THROWS_WITH(bvh_joints(other, "walk.bvh"),
                      "walk.bvh: no joint 'LeftFoot'; want the 22 joints, by name, of the files "
                      "written here");
    // A rest pose along Z with a figure that stands along Y.
    Bvh mixed = as_blender_writes(ours);
    for (int64_t t = 0; t < mixed.frames; ++t) {
        double* row = mixed.values.data() + t * mixed.channels;
        row[3] = 0;    // Z, X, Y rotation of the hips
        row[4] = -90;  // the head goes to +Y
    }
    CHECK_THROWS_WITH(bvh_joints(mixed, "walk.bvh"), doctest::Contains("walk.bvh: its rest pose "));
    // Neither a rest pose nor a figure that stands anywhere.
    Bvh none = lying(ours);
    for (BvhJoint& joint : none.joints) joint.offset = {};
    CHECK_THROWS_WITH(bvh_joints(none, "walk.bvh"),
                      doctest::Contains("walk.bvh: neither its rest"));
}
