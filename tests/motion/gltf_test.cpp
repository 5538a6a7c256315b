#include "motion/gltf.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "motion/figure.h"
#include "tests/motion/sample_motions.h"

using namespace mc::motion;
using mc::testing::walking_rig;
using nlohmann::json;

namespace {

// A reader of GLB files that checks what the specification demands of them.
struct Glb {
    json gltf;
    std::string binary;

    explicit Glb(const std::string& bytes) {
        const auto u32 = [&](size_t at) {
            uint32_t x = 0;
            std::memcpy(&x, bytes.data() + at, 4);
            return x;
        };
        REQUIRE(bytes.substr(0, 4) == "glTF");
        REQUIRE(u32(4) == 2);
        REQUIRE(u32(8) == bytes.size());
        const uint32_t text = u32(12);
        REQUIRE(text % 4 == 0);
        REQUIRE(bytes.substr(16, 4) == "JSON");
        gltf = json::parse(bytes.substr(20, text));
        REQUIRE(u32(20 + text) % 4 == 0);
        REQUIRE(bytes.substr(24 + text, 4) == std::string("BIN\0", 4));
        binary = bytes.substr(28 + text);
        REQUIRE(binary.size() == u32(20 + text));
        REQUIRE(gltf["buffers"][0]["byteLength"] == binary.size());
    }

    // Elements of an accessor as doubles.
    std::vector<double> read(size_t accessor, size_t width) const {
        const json& a = gltf["accessors"][accessor];
        const json& view = gltf["bufferViews"][a["bufferView"].get<size_t>()];
        const size_t offset = view["byteOffset"];
        const size_t count = a["count"].get<size_t>() * width;
        const int type = a["componentType"];
        const size_t size = type == 5126 ? 4 : type == 5123 ? 2 : 1;
        REQUIRE(offset % 4 == 0);
        REQUIRE(view["byteLength"] == count * size);
        REQUIRE(offset + count * size <= binary.size());
        std::vector<double> out;
        for (size_t i = 0; i < count; ++i) {
            const char* at = binary.data() + offset + i * size;
            if (type == 5126) {
                float x = 0;
                std::memcpy(&x, at, 4);
                out.push_back(x);
            } else if (type == 5123) {
                uint16_t x = 0;
                std::memcpy(&x, at, 2);
                out.push_back(x);
            } else {
                out.push_back(static_cast<unsigned char>(*at));
            }
        }
        return out;
    }
};

double lowest_joint(const JointSequence& joints) {
    double low = 1e9;
    for (size_t i = 1; i < joints.xyz.size(); i += 3) low = std::min<double>(low, joints.xyz[i]);
    return low;
}

// Lowest vertex of the skinned mesh over the animation.
double lowest_skinned(const Glb& glb) {
    const json& animation = glb.gltf["animations"][0];
    const json& skin = glb.gltf["skins"][0];
    const size_t count = skin["joints"].size();
    std::vector<int> parent(count, -1);
    for (size_t j = 0; j < count; ++j) {
        for (int c : glb.gltf["nodes"][j].value("children", std::vector<int>{}))
            parent[static_cast<size_t>(c)] = static_cast<int>(j);
    }
    std::vector<std::vector<double>> turns(count);
    std::vector<double> path;
    for (const json& channel : animation["channels"]) {
        const json& sampler = animation["samplers"][channel["sampler"].get<size_t>()];
        if (channel["target"]["path"] == "translation")
            path = glb.read(sampler["output"], 3);
        else
            turns[channel["target"]["node"].get<size_t>()] = glb.read(sampler["output"], 4);
    }
    const std::vector<double> bind = glb.read(skin["inverseBindMatrices"], 16);
    double low = 1e9;
    for (size_t t = 0; t < path.size() / 3; ++t) {
        std::vector<Vec3> p(count);
        std::vector<Quat> q(count);
        for (size_t j = 0; j < count; ++j) {
            const double* r = turns[j].data() + 4 * t;
            const std::vector<double> at = glb.gltf["nodes"][j]["translation"];
            const bool root = parent[j] < 0;
            const size_t up = root ? 0 : static_cast<size_t>(parent[j]);
            q[j] = root ? Quat{r[3], r[0], r[1], r[2]} : q[up] * Quat{r[3], r[0], r[1], r[2]};
            p[j] = root ? Vec3{path[3 * t], path[3 * t + 1], path[3 * t + 2]}
                        : p[up] + rotate(q[up], {at[0], at[1], at[2]});
        }
        for (const json& primitive : glb.gltf["meshes"][0]["primitives"]) {
            const auto vertices = glb.read(primitive["attributes"]["POSITION"], 3);
            const auto joints = glb.read(primitive["attributes"]["JOINTS_0"], 4);
            for (size_t v = 0; v < vertices.size() / 3; ++v) {
                const size_t j = static_cast<size_t>(joints[4 * v]);
                const double* b = bind.data() + 16 * j + 12;
                const Vec3 local{vertices[3 * v] + b[0], vertices[3 * v + 1] + b[1],
                                 vertices[3 * v + 2] + b[2]};
                low = std::min(low, p[j].y + rotate(q[j], local).y);
            }
        }
    }
    return low;
}

}  // namespace

TEST_CASE("gltf: the nodes and the animation place the joints where they were") {
    for (int64_t joints : {22, 21}) {
        const JointSequence source = rig_joints(walking_rig(30, M_PI, 1, joints));
        const RigMotion rig = fit_rig(source);
        const Glb glb(encode_glb(rig, "a walk"));
        const json& animation = glb.gltf["animations"][0];
        CHECK(animation["name"] == "a walk");
        const size_t count = static_cast<size_t>(joints);
        std::vector<int> parent(count, -1);
        for (size_t j = 0; j < count; ++j) {
            for (int c : glb.gltf["nodes"][j].value("children", std::vector<int>{})) {
                parent[static_cast<size_t>(c)] = static_cast<int>(j);
            }
        }
        std::vector<std::vector<double>> rotation(count);
        std::vector<double> path;
        for (const json& channel : animation["channels"]) {
            const json& sampler = animation["samplers"][channel["sampler"].get<size_t>()];
            CHECK(glb.read(sampler["input"], 1).size() == 30);
            if (channel["target"]["path"] == "translation") {
                path = glb.read(sampler["output"], 3);
            } else {
                rotation[channel["target"]["node"].get<size_t>()] = glb.read(sampler["output"], 4);
            }
        }
        CHECK(glb.read(animation["samplers"][0]["input"], 1)[1] == doctest::Approx(1 / source.fps));
        // By the thickness of the soles, so that they and not the joints are on the floor.
        const double lift = -figure_floor(source);
        if (joints == 22) CHECK(lift + lowest_joint(source) > 0.02);
        for (size_t t = 0; t < 30; ++t) {
            std::vector<Vec3> p(count);
            std::vector<Quat> q(count);
            for (size_t j = 0; j < count; ++j) {
                const double* r = rotation[j].data() + 4 * t;
                const Quat local{r[3], r[0], r[1], r[2]};
                CHECK(length(local) == doctest::Approx(1));
                const std::vector<double> at = glb.gltf["nodes"][j]["translation"];
                if (parent[j] < 0) {
                    p[j] = {path[3 * t], path[3 * t + 1], path[3 * t + 2]};
                    q[j] = local;
                } else {
                    const size_t up = static_cast<size_t>(parent[j]);
                    p[j] = p[up] + rotate(q[up], {at[0], at[1], at[2]});
                    q[j] = q[up] * local;
                }
                const float* want = source.at(static_cast<int64_t>(t), rig.rig[j].source);
                REQUIRE(length(p[j] - Vec3{want[0], want[1] + lift, want[2]}) < 1e-5);
            }
        }
    }
}

TEST_CASE("gltf: the mesh is closed, faces outwards and stands on the floor") {
    const Glb glb(encode_glb(fit_rig(rig_joints(walking_rig(5)))));
    double low = 1e9;
    for (const json& primitive : glb.gltf["meshes"][0]["primitives"]) {
        const json& attributes = primitive["attributes"];
        const auto positions = glb.read(attributes["POSITION"], 3);
        const auto normals = glb.read(attributes["NORMAL"], 3);
        const auto joints = glb.read(attributes["JOINTS_0"], 4);
        const auto weights = glb.read(attributes["WEIGHTS_0"], 4);
        const auto indices = glb.read(primitive["indices"], 1);
        REQUIRE(positions.size() == normals.size());
        REQUIRE(joints.size() / 4 == positions.size() / 3);
        const auto at = [](const std::vector<double>& v, double i) {
            const size_t k = static_cast<size_t>(i) * 3;
            return Vec3{v[k], v[k + 1], v[k + 2]};
        };
        int strays = 0;
        int inward = 0;
        for (double i : indices) {
            if (i * 3 >= static_cast<double>(positions.size())) FAIL("index " << i);
        }
        for (size_t i = 0; i < joints.size(); i += 4) {
            strays += joints[i] >= 22 || weights[i] != 1;
        }
        for (size_t i = 1; i < positions.size(); i += 3) low = std::min(low, positions[i]);
        REQUIRE(indices.size() % 3 == 0);
        for (size_t i = 0; i < indices.size(); i += 3) {
            const Vec3 a = at(positions, indices[i]);
            const Vec3 face =
                cross(at(positions, indices[i + 1]) - a, at(positions, indices[i + 2]) - a);
            const Vec3 n =
                at(normals, indices[i]) + at(normals, indices[i + 1]) + at(normals, indices[i + 2]);
            inward += dot(face, n) < -1e-9;
        }
        CHECK(strays == 0);
        CHECK(inward == 0);
        const json& accessor = glb.gltf["accessors"][attributes["POSITION"].get<size_t>()];
        CHECK(accessor["min"].size() == 3);
        CHECK(accessor["max"][1].get<double>() > accessor["min"][1].get<double>());
    }
    CHECK(std::fabs(low) < 1e-3);
}

TEST_CASE("gltf: the soles of the animated mesh are on the floor, however high the joints are") {
    RigMotion rig = walking_rig(40);
    for (Vec3& p : rig.root) p.y += 0.3;
    const Glb glb(encode_glb(rig));
    CHECK(lowest_skinned(glb) == doctest::Approx(0).epsilon(1e-3));
}

TEST_CASE("gltf: what is no motion is refused, any caption is kept") {
    RigMotion rig = walking_rig(4);
    CHECK(Glb(encode_glb(rig, "\"quoted\" \xFF </x>")).gltf["animations"].size() == 1);
    rig.local[30].x = NAN;
    CHECK_THROWS_WITH(encode_glb(rig), "glTF: frame 1 is not finite");
    rig.local.pop_back();
    CHECK_THROWS_AS(encode_glb(rig), mc::Error);
    rig = walking_rig(4);
    rig.frames = 0;
    CHECK_THROWS_AS(encode_glb(rig), mc::Error);
    CHECK(Glb(encode_glb(walking_rig(4))).gltf["nodes"].size() == 23);
}
