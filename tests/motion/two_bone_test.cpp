#include "motion/two_bone.h"

#include <doctest/doctest.h>

using namespace mc::motion;

TEST_CASE("two_bone: both bones keep their lengths, and the end comes as near as they let it") {
    for (double distance : {0.0, 0.1, 0.4, 0.65, 0.7, 2.0}) {
        CAPTURE(distance);
        const TwoBone limb = two_bone(distance, 0.4, 0.3);
        CHECK(limb.reach == doctest::Approx(std::clamp(distance, 0.1, 0.7)));
        CHECK(std::hypot(limb.along, limb.aside) == doctest::Approx(0.4));
        CHECK(std::hypot(limb.reach - limb.along, limb.aside) == doctest::Approx(0.3));
    }
    CHECK(two_bone(2, 0.4, 0.3, 0.6).reach == doctest::Approx(0.6));
    CHECK(two_bone(0, 0.3, 0.3).aside == doctest::Approx(0.3));  // folded flat
    CHECK(two_bone(1, 0, 0).aside == 0);
}
