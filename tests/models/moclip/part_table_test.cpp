#include "models/moclip/part_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "kernels/error.h"

using namespace mc::moclip;

namespace {

int64_t joints_named(const std::string& table) {
    return table.starts_with("kit") ? 21 : 22;
}

}  // namespace

TEST_CASE("part tables: the published feet hold a forearm, the fixed ones both feet") {
    const PartTable compat = part_table("t2m8_compat"), fixed = part_table("t2m8_fixed");
    REQUIRE(compat.size() == 8);
    CHECK(compat[6] == std::vector<int>{19, 21, 18, 20});
    CHECK(compat[7] == std::vector<int>{8, 11, 18, 20});
    CHECK(fixed[7] == std::vector<int>{8, 11, 7, 10});
    CHECK(std::equal(fixed.begin(), fixed.begin() + 7, compat.begin()));
    const PartTable kit = part_table("kit8");
    CHECK(kit[4] == std::vector<int>{11, 12, 13, 14, 15});
    CHECK(kit[7] == std::vector<int>{17, 20, 15, 12});
}

TEST_CASE("part tables: every joint is in one of the six parts, indices stay below the joints") {
    for (const char* name : {"t2m6", "kit6", "t2m8_compat", "t2m8_fixed", "kit8"}) {
        CAPTURE(name);
        std::set<int> all;
        for (const auto& part : part_table(name)) all.insert(part.begin(), part.end());
        CHECK(static_cast<int64_t>(all.size()) == joints_named(name));
        CHECK(*all.rbegin() == joints_named(name) - 1);
    }
}

TEST_CASE("part tables: the same parts on the other skeleton") {
    CHECK(table_for_joints("t2m6", 21) == "kit6");
    CHECK(table_for_joints("t2m8_fixed", 21) == "kit8");
    CHECK(table_for_joints("kit6", 22) == "t2m6");
    CHECK(table_for_joints("kit8", 22) == "t2m8_compat");
    CHECK(table_for_joints("t2m8_fixed", 22) == "t2m8_fixed");
    CHECK_THROWS_AS(table_for_joints("t2m9", 21), mc::Error);
}

TEST_CASE("part tables: of one's own, every joint is in a part and none is made up") {
    for (const char* name : {"t2m6", "kit6", "t2m8_compat", "t2m8_fixed", "kit8"}) {
        CHECK(problem_of(part_table(name)) == "");
        CHECK(joints_of(part_table(name)) == joints_named(name));
    }
    PartTable parts = part_table("t2m6");
    parts[5] = {1, 4, 10};
    CHECK(problem_of(parts) == "joint 7 is in none of the parts");
    parts[5] = {1, 4, 7, 22};
    CHECK(problem_of(parts) == "parts[5] has joint 22, want 0 to 21 (KIT-ML: 20)");
    parts[5] = {1, -1};
    CHECK(problem_of(parts) == "parts[5] has joint -1, want 0 to 21 (KIT-ML: 20)");
    parts[5] = {1, 4, 7, 10, 4};
    CHECK(problem_of(parts) == "parts[5] has joint 4 twice");
    parts[5] = {};
    CHECK(problem_of(parts) == "parts[5] has no joints");
    parts = part_table("kit6");
    parts[5] = {16, 17, 18, 19};
    CHECK(problem_of(parts) == "joint 20 is in none of the parts");
    CHECK(problem_of(PartTable{}) == "joint 0 is in none of the parts");
}

TEST_CASE("limb edges: pairs adds the hands and the feet, all4 all extremities") {
    CHECK(limb_edges("skeleton").size() == 5);
    CHECK(limb_edges("pairs").size() == 7);
    CHECK(limb_edges("all4").size() == 11);
    const auto pairs = limb_edges("pairs"), all = limb_edges("all4");
    CHECK(std::count(pairs.begin(), pairs.end(), std::pair{2, 3}) == 1);
    CHECK(std::count(pairs.begin(), pairs.end(), std::pair{4, 5}) == 1);
    CHECK(std::set(all.begin(), all.end()).size() == all.size());
}

TEST_CASE("part tables: unknown names are errors that list the known ones") {
    CHECK_THROWS_WITH_AS(part_table("t2m9"), doctest::Contains("want t2m8_compat"), mc::Error);
    CHECK_THROWS_WITH_AS(limb_edges("all"), doctest::Contains("want skeleton"), mc::Error);
}
