#include "motion/skeleton.h"

#include <doctest/doctest.h>

#include <set>

#include "kernels/error.h"

using namespace mc::motion;

TEST_CASE("skeletons are consistent trees") {
    for (const Skeleton* s : {&humanml3d_skeleton(), &kit_skeleton()}) {
        const auto joints = static_cast<size_t>(s->joints);
        CAPTURE(s->name);
        REQUIRE(s->joint_names.size() == joints);
        REQUIRE(s->parents.size() == joints);
        REQUIRE(s->raw_offsets.size() == joints);
        CHECK(std::set<std::string>(s->joint_names.begin(), s->joint_names.end()).size() == joints);
        std::set<int> ends;
        for (const auto& chain : s->chains)
            for (size_t i = 1; i < chain.size(); ++i) {
                CHECK(s->parents[chain[i]] == chain[i - 1]);
                ends.insert(chain[i]);
            }
        CHECK(ends.size() == joints - 1);  // every bone is in one chain
        for (size_t j = 1; j < joints; ++j) {
            CHECK(s->parents[j] < static_cast<int>(j));
            CHECK(length(s->raw_offsets[j]) == 1.0);
        }
        for (const auto& [a, b] :
             s->mirror_pairs) {  // pairs are named left_x, right_x in some order
            const std::string &x = s->joint_names[a], &y = s->joint_names[b];
            CHECK(x.substr(x.find('_')) == y.substr(y.find('_')));
            CHECK(x != y);
        }
    }
    CHECK(humanml3d_skeleton().feature_dims() == 263);
    CHECK(kit_skeleton().feature_dims() == 251);
    CHECK(humanml3d_skeleton().rot_begin() == 67);
    CHECK(humanml3d_skeleton().vel_begin() == 193);
    CHECK(humanml3d_skeleton().contact_begin() == 259);
    CHECK(kit_skeleton().rot_begin() == 64);
    CHECK(kit_skeleton().vel_begin() == 184);
    CHECK(kit_skeleton().contact_begin() == 247);
}

TEST_CASE("a skeleton is found by its joint count or feature width") {
    CHECK(skeleton_for_joints(22).name == "humanml3d");
    CHECK(skeleton_for_joints(21).name == "kit");
    CHECK(skeleton_for_dims(263).name == "humanml3d");
    CHECK(skeleton_for_dims(251).name == "kit");
    CHECK_THROWS_AS(skeleton_for_joints(23), mc::Error);
    CHECK_THROWS_AS(skeleton_for_dims(0), mc::Error);
}

TEST_CASE("target offsets carry the published bone lengths") {
    const auto offsets = humanml3d_skeleton().target_offsets();
    CHECK(offsets[5].y == doctest::Approx(-0.390188).epsilon(1e-6));
    CHECK(offsets[13].x == doctest::Approx(0.137487).epsilon(1e-5));
    CHECK(length(offsets[5]) + length(offsets[8]) == doctest::Approx(0.815831).epsilon(1e-5));
    CHECK_THROWS_AS(kit_skeleton().target_offsets(), mc::Error);
    CHECK_THROWS_AS(kit_skeleton().offsets(std::vector<double>(22, 1.0)), mc::Error);
    CHECK_THROWS_AS(kit_skeleton().offsets(std::vector<double>(21, -1.0)), mc::Error);
}
