#include "motion/gltf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "motion/figure.h"

namespace mc::motion {
namespace {

using nlohmann::json;

enum ComponentType { kUint8 = 5121, kUint16 = 5123, kFloat = 5126 };

// Binary chunk and the accessors into it.
class Buffer {
  public:
    // Every accessor has a view of its own, aligned to four bytes. Returns the accessor's index.
    int floats(const std::vector<float>& values, const char* type, int width, bool bounds = false) {
        const int accessor = begin(kFloat, type, values.size() / static_cast<size_t>(width));
        for (float x : values) put(std::bit_cast<uint32_t>(x), 4);
        if (bounds) {
            json low = json::array();
            json high = json::array();
            for (int k = 0; k < width; ++k) {
                float lo = std::numeric_limits<float>::max();
                float hi = std::numeric_limits<float>::lowest();
                for (size_t i = static_cast<size_t>(k); i < values.size();
                     i += static_cast<size_t>(width)) {
                    lo = std::min(lo, values[i]);
                    hi = std::max(hi, values[i]);
                }
                low.push_back(lo);
                high.push_back(hi);
            }
            accessors.back()["min"] = low;
            accessors.back()["max"] = high;
        }
        return finish(accessor);
    }
    int bytes(const std::vector<uint8_t>& values) {  // groups of four
        const int accessor = begin(kUint8, "VEC4", values.size() / 4);
        for (uint8_t x : values) put(x, 1);
        return finish(accessor);
    }
    int indices(const std::vector<uint16_t>& values) {
        const int accessor = begin(kUint16, "SCALAR", values.size());
        for (uint16_t x : values) put(x, 2);
        return finish(accessor);
    }

    std::string data;
    json accessors = json::array();
    json views = json::array();

  private:
    int begin(ComponentType component, const char* type, size_t count) {
        offset_ = data.size();
        accessors.push_back({{"bufferView", views.size()},
                             {"componentType", static_cast<int>(component)},
                             {"type", type},
                             {"count", count}});
        return static_cast<int>(accessors.size()) - 1;
    }
    int finish(int accessor) {
        views.push_back(
            {{"buffer", 0}, {"byteOffset", offset_}, {"byteLength", data.size() - offset_}});
        while (data.size() % 4) data += '\0';
        return accessor;
    }
    void put(uint32_t x, int size) {
        for (int i = 0; i < size; ++i) data += static_cast<char>(x >> (8 * i) & 255);
    }

    size_t offset_ = 0;
};

struct Mesh {
    std::vector<float> positions;  // (V, 3)
    std::vector<float> normals;    // (V, 3)
    std::vector<uint8_t> joints;   // (V, 4)
    std::vector<float> weights;    // (V, 4)
    std::vector<uint16_t> indices;
};

// The hull of two spheres, bound to one joint.
void append_capsule(Mesh& mesh, const Capsule& c, int joint) {
    constexpr int kRound = 20;  // points around
    constexpr int kRings = 6;   // rings on each cap
    const Vec3 axis = length(c.b - c.a) > 1e-9 ? normalise(c.b - c.a) : Vec3{0, 1, 0};
    const Vec3 u = any_perpendicular(axis);
    const Vec3 v = cross(axis, u);
    // The cone touches both spheres where the normal leans by asin((ra - rb) / distance).
    const double distance = length(c.b - c.a);
    const double sine =
        distance > 1e-9 ? std::clamp((c.radius_a - c.radius_b) / distance, -1.0, 1.0) : 0.0;
    const double lean = std::asin(sine);
    const auto first = static_cast<uint16_t>(mesh.positions.size() / 3);
    const int rows = 2 * (kRings + 1);
    for (int row = 0; row < rows; ++row) {
        const bool at_b = row > kRings;
        const double share = static_cast<double>(at_b ? row - kRings - 1 : row) / kRings;
        const double latitude =
            at_b ? lean + (M_PI / 2 - lean) * share : -M_PI / 2 + (lean + M_PI / 2) * share;
        const Vec3 centre = at_b ? c.b : c.a;
        const double radius = at_b ? c.radius_b : c.radius_a;
        for (int i = 0; i < kRound; ++i) {
            const double angle = 2 * M_PI * i / kRound;
            const Vec3 n = std::cos(latitude) * (std::cos(angle) * u + std::sin(angle) * v) +
                           std::sin(latitude) * axis;
            const Vec3 p = centre + radius * n;
            for (double x : {p.x, p.y, p.z}) mesh.positions.push_back(static_cast<float>(x));
            for (double x : {n.x, n.y, n.z}) mesh.normals.push_back(static_cast<float>(x));
            mesh.joints.insert(mesh.joints.end(), {static_cast<uint8_t>(joint), 0, 0, 0});
            mesh.weights.insert(mesh.weights.end(), {1, 0, 0, 0});
        }
    }
    for (int row = 0; row + 1 < rows; ++row) {
        for (int i = 0; i < kRound; ++i) {
            const auto at = [&](int r, int k) {
                return static_cast<uint16_t>(first + r * kRound + k % kRound);
            };
            for (auto index : {at(row, i), at(row, i + 1), at(row + 1, i + 1), at(row, i),
                               at(row + 1, i + 1), at(row + 1, i)}) {
                mesh.indices.push_back(index);
            }
        }
    }
}

void check(const RigMotion& motion) {
    if (motion.frames < 1 || !(motion.fps > 0) ||
        static_cast<int64_t>(motion.local.size()) != motion.frames * motion.joints() ||
        static_cast<int64_t>(motion.root.size()) != motion.frames) {
        throw Error(fmt::format("glTF: got {} rotations for {} frames of {} joints",
                                motion.local.size(), motion.frames, motion.joints()));
    }
    for (int64_t t = 0; t < motion.frames; ++t) {
        const Vec3 p = motion.root[static_cast<size_t>(t)];
        double sum = p.x + p.y + p.z;
        for (int64_t j = 0; j < motion.joints(); ++j) sum += length(motion.rotation(t, j));
        if (!std::isfinite(sum)) throw Error(fmt::format("glTF: frame {} is not finite", t));
    }
}

// The joint that carries a part: the one whose rotation moves the bone.
int carrier(const FigurePart& part, std::span<const RigJoint> rig) {
    const auto index = [&](int source) {
        return static_cast<int>(
            std::find_if(rig.begin(), rig.end(),
                         [&](const RigJoint& j) { return j.source == source; }) -
            rig.begin());
    };
    const int from = index(part.from);
    const int to = index(part.to);
    if (part.reach > 0) return to;
    if (rig[static_cast<size_t>(to)].parent == from) return from;
    return rig[static_cast<size_t>(from)].parent;
}

// The rest pose as a motion of one frame, standing on y = 0.
RigMotion rest_of(const RigMotion& motion) {
    RigMotion rest = motion;
    rest.frames = 1;
    rest.root.assign(1, Vec3{});
    rest.local.assign(motion.rig.size(), Quat{});
    rest.root[0].y = -figure_floor(rig_joints(rest));
    return rest;
}

}  // namespace

std::string encode_glb(const RigMotion& motion, const std::string& caption) {
    check(motion);
    const auto rig = motion.rig;
    const int count = static_cast<int>(rig.size());
    const RigMotion rest = rest_of(motion);
    const JointSequence standing = rig_joints(rest);
    Buffer buffer;

    json nodes = json::array();
    for (int j = 0; j < count; ++j) {
        const Vec3 at = j == 0 ? rest.root[0] : rest.offsets[static_cast<size_t>(j)];
        json node = {{"name", rig[static_cast<size_t>(j)].name},
                     {"translation", {at.x, at.y, at.z}}};
        json children = json::array();
        for (int c = j + 1; c < count; ++c) {
            if (rig[static_cast<size_t>(c)].parent == j) children.push_back(c);
        }
        if (!children.empty()) node["children"] = children;
        nodes.push_back(node);
    }
    nodes.push_back({{"name", "Figure"}, {"mesh", 0}, {"skin", 0}});

    // One primitive a material.
    const auto parts = figure_parts(standing.joints);
    const auto capsules = figure_capsules(standing, 0, figure_scale(standing));
    json primitives = json::array();
    for (int side = 0; side < 3; ++side) {
        Mesh mesh;
        for (size_t i = 0; i < parts.size(); ++i) {
            if (static_cast<int>(parts[i].side) != side) continue;
            append_capsule(mesh, capsules[i], carrier(parts[i], rig));
        }
        primitives.push_back({{"attributes",
                               {{"POSITION", buffer.floats(mesh.positions, "VEC3", 3, true)},
                                {"NORMAL", buffer.floats(mesh.normals, "VEC3", 3)},
                                {"JOINTS_0", buffer.bytes(mesh.joints)},
                                {"WEIGHTS_0", buffer.floats(mesh.weights, "VEC4", 4)}}},
                              {"indices", buffer.indices(mesh.indices)},
                              {"material", side}});
    }

    std::vector<float> inverse_bind;  // (J, 16), column-major
    json joint_list = json::array();
    for (int j = 0; j < count; ++j) {
        const float* p = standing.at(0, rig[static_cast<size_t>(j)].source);
        for (float x : {1.f, 0.f, 0.f, 0.f, 0.f, 1.f, 0.f, 0.f, 0.f, 0.f, 1.f, 0.f, -p[0], -p[1],
                        -p[2], 1.f}) {
            inverse_bind.push_back(x);
        }
        joint_list.push_back(j);
    }
    const int bind = buffer.floats(inverse_bind, "MAT4", 16);

    // Joints of feet are above the floor by the thickness of the soles.
    const double floor = figure_floor(rig_joints(motion));
    std::vector<float> times, path;
    for (int64_t t = 0; t < motion.frames; ++t) {
        times.push_back(static_cast<float>(static_cast<double>(t) / motion.fps));
        const Vec3 p = motion.root[static_cast<size_t>(t)];
        for (double x : {p.x, p.y - floor, p.z}) path.push_back(static_cast<float>(x));
    }
    const int clock = buffer.floats(times, "SCALAR", 1, true);
    json samplers = json::array();
    json channels = json::array();
    const auto animate = [&](int node, const char* what, int output) {
        channels.push_back(
            {{"sampler", samplers.size()}, {"target", {{"node", node}, {"path", what}}}});
        samplers.push_back({{"input", clock}, {"output", output}, {"interpolation", "LINEAR"}});
    };
    animate(0, "translation", buffer.floats(path, "VEC3", 3));
    for (int j = 0; j < count; ++j) {
        std::vector<float> turns;  // (frames, 4), x y z w
        for (int64_t t = 0; t < motion.frames; ++t) {
            const Quat q = normalise(motion.rotation(t, j));
            for (double x : {q.x, q.y, q.z, q.w}) turns.push_back(static_cast<float>(x));
        }
        animate(j, "rotation", buffer.floats(turns, "VEC4", 4));
    }

    const auto material = [](const char* name, double r, double g, double b) {
        return json{{"name", name},
                    {"pbrMetallicRoughness",
                     {{"baseColorFactor", {r, g, b, 1.0}},
                      {"metallicFactor", 0.0},
                      {"roughnessFactor", 0.7}}}};
    };
    json gltf = {
        {"asset", {{"version", "2.0"}, {"generator", "moclip_engine"}}},
        {"scene", 0},
        {"scenes", {{{"nodes", {0, count}}}}},
        {"nodes", nodes},
        {"meshes", {{{"name", "Figure"}, {"primitives", primitives}}}},
        {"skins", {{{"inverseBindMatrices", bind}, {"joints", joint_list}, {"skeleton", 0}}}},
        {"materials",
         {material("Middle", 0.68, 0.66, 0.62), material("Left", 0.05, 0.40, 0.34),
          material("Right", 0.79, 0.21, 0.06)}},
        {"animations",
         {{{"name", caption.empty() ? "Motion" : caption},
           {"samplers", samplers},
           {"channels", channels},
           {"extras", {{"framesPerSecond", motion.fps}, {"unit", "metre"}, {"upAxis", "+Y"}}}}}},
        {"accessors", buffer.accessors},
        {"bufferViews", buffer.views},
        {"buffers", {{{"byteLength", buffer.data.size()}}}},
    };
    std::string text = gltf.dump(-1, ' ', true, json::error_handler_t::replace);
    while (text.size() % 4) text += ' ';

    std::string out;
    const auto word = [&](size_t x) {
        for (int shift : {0, 8, 16, 24}) out += static_cast<char>(x >> shift & 255);
    };
    const size_t total = 12 + 8 + text.size() + 8 + buffer.data.size();
    if (total > std::numeric_limits<uint32_t>::max()) {
        throw Error(
            fmt::format("glTF: {} frames make more than 4 GiB; cut the clip", motion.frames));
    }
    out += "glTF";
    word(2);
    word(total);
    word(text.size());
    out += "JSON";
    out += text;
    word(buffer.data.size());
    out += std::string("BIN\0", 4);
    out += buffer.data;
    return out;
}

}  // namespace mc::motion
