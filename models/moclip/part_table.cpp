#include "models/moclip/part_table.h"

#include <algorithm>

#include "kernels/error.h"

namespace mc::moclip {
namespace {

const PartTable kT2m6 = {{0},           {0, 3, 6, 9, 12, 15}, {14, 17, 19, 21}, {13, 16, 18, 20},
                         {2, 5, 8, 11}, {1, 4, 7, 10}};
const PartTable kKit6 = {{0},        {1, 2, 3, 4},         {5, 6, 7},
                         {8, 9, 10}, {11, 12, 13, 14, 15}, {16, 17, 18, 19, 20}};

PartTable with(PartTable table, std::vector<int> hands, std::vector<int> feet) {
    table.push_back(std::move(hands));
    table.push_back(std::move(feet));
    return table;
}

}  // namespace

PartTable part_table(const std::string& name) {
    if (name == "t2m6") return kT2m6;
    if (name == "kit6") return kKit6;
    if (name == "t2m8_compat") return with(kT2m6, {19, 21, 18, 20}, {8, 11, 18, 20});
    if (name == "t2m8_fixed") return with(kT2m6, {19, 21, 18, 20}, {8, 11, 7, 10});
    if (name == "kit8") return with(kKit6, {9, 10, 7, 6}, {17, 20, 15, 12});
    throw Error("[moclip] part table " + name +
                ", want t2m8_compat, t2m8_fixed, t2m6, kit8, kit6 or custom (with parts)");
}

std::string problem_of(const PartTable& parts) {
    constexpr int kMost = 22;
    int count[kMost] = {}, last = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
        const std::string part = "parts[" + std::to_string(p) + "]";
        if (parts[p].empty()) return part + " has no joints";
        for (const int joint : parts[p]) {
            if (joint < 0 || joint >= kMost)
                return part + " has joint " + std::to_string(joint) + ", want 0 to 21 (KIT-ML: 20)";
            if (std::count(parts[p].begin(), parts[p].end(), joint) > 1)
                return part + " has joint " + std::to_string(joint) + " twice";
            ++count[joint];
            last = std::max(last, joint);
        }
    }
    for (int joint = 0; joint < std::max(last + 1, kMost - 1); ++joint)
        if (count[joint] == 0) return "joint " + std::to_string(joint) + " is in none of the parts";
    return "";
}

int64_t joints_of(const PartTable& parts) {
    int last = 0;
    for (const auto& part : parts)
        last = std::max(last, *std::max_element(part.begin(), part.end()));
    return last + 1;
}

std::string table_for_joints(const std::string& name, int64_t joints) {
    const size_t parts = part_table(name).size();
    if (joints_of(part_table(name)) == joints) return name;
    if (joints == 21) return parts == 6 ? "kit6" : "kit8";
    return parts == 6 ? "t2m6" : "t2m8_compat";
}

LimbEdges limb_edges(const std::string& name) {
    LimbEdges edges = {{0, 1}, {0, 4}, {0, 5}, {1, 2}, {1, 3}};
    if (name == "skeleton") return edges;
    edges.insert(edges.end(), {{2, 3}, {4, 5}});
    if (name == "pairs") return edges;
    edges.insert(edges.end(), {{2, 4}, {2, 5}, {3, 4}, {3, 5}});
    if (name == "all4") return edges;
    throw Error("[moclip] limb edges " + name +
                ", want skeleton, pairs, all4 or custom (with edges)");
}

}  // namespace mc::moclip
