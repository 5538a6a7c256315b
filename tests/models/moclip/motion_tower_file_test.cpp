#include "models/moclip/motion_tower_file.h"

#include <doctest/doctest.h>

#include "models/config_json.h"
#include "tensor/formats/pytorch.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::moclip;
using mc::testing::error_of;
using Json = nlohmann::json;

namespace {

// A tower as the public program saves it, with a table of positions, below a prefix, beside others'
// tensors.
struct Published {
    testing::ScratchDir scratch;
    std::string path = (scratch.path / "moCLIP_l04_t2m.pth").string();
    MotionEncoderConfig config = MotionEncoderConfig::reference();
    std::unique_ptr<MotionEncoder> tower;
    nn::TensorMap state;

    explicit Published(const std::string& table = "t2m8_compat", PartTable parts = {}) {
        config.part_table = table;
        config.parts = std::move(parts);
        config.width = 24;
        config.heads = 12;
        config.layers = 2;
        config.part_dim = 8;
        config.hidden_dim = 6;
        config.output_dim = 16;
        Generator init(3);
        tower = std::make_unique<MotionEncoder>(config, &init);
        state = tower->state();
        state["position_enc.pe"] = nn::sinusoidal_positions(50, 24).reshape({50, 1, 24});
    }
    void write(const std::string& prefix = "motion.") const {
        NamedTensors all = {{"logit_scale", Tensor::full({}, 4.6)},
                            {"visual.proj", Tensor::zeros({3, 3})}};
        for (const auto& [name, tensor] : state) all.emplace_back(prefix + name, tensor.clone());
        write_pytorch(path, all);
    }
    MotionTowerFile read(const Json& given = Json::object()) const {
        return read_motion_tower(path, given);
    }
};

Tensor joints_of(int64_t joints) {
    return Generator(5).normal({3, 7, joints, 3});
}

bool same(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && a.to_vector<float>() == b.to_vector<float>();
}

Tensor embedded(const MotionTowerFile& file, const Tensor& joints) {
    MotionEncoder tower(file.config, nullptr);
    tower.load(file.state);
    return tower(joints, {7, 5, 2}, {}).value();
}

}  // namespace

TEST_CASE("motion tower files: a published checkpoint is told by its shapes") {
    for (const std::string table : {"t2m8_compat", "t2m6", "kit8", "kit6"}) {
        CAPTURE(table);
        Published p(table);
        p.write(table == "kit8" ? "module.motion." : "motion.");
        const MotionTowerFile file = p.read();
        CHECK(file.warnings.empty());
        CHECK(to_json(file.config) == to_json(p.config));
        const Tensor joints = joints_of(table.starts_with("kit") ? 21 : 22);
        CHECK(same(embedded(file, joints), (*p.tower)(joints, {7, 5, 2}, {}).value()));
    }
}

TEST_CASE("motion tower files: a table of positions that is not the formula's is used as it is") {
    Published p;
    Tensor& table = p.state.at("position_enc.pe");
    table.data<float>()[24 + 3] += 0.9e-5f;  // still the formula's
    p.write();
    CHECK(p.read().config.position_kind == PositionKind::sinusoidal);
    CHECK(p.read().state.count("position_enc.pe") == 0);
    table.data<float>()[24 + 3] += 0.25f;
    p.write();
    const MotionTowerFile file = p.read();
    CHECK(file.config.position_kind == PositionKind::learned);
    CHECK(file.config.position_rows == 50);
    CHECK(same(file.state.at("position_enc.pe"), table));
    const Tensor joints = joints_of(22), moved = embedded(file, joints),
                 plain = (*p.tower)(joints, {7, 5, 2}, {}).value();
    // Row 1 of the table is the second motion's, as the published program counts.
    CHECK(same(moved.slice(0, 0, 1).contiguous(), plain.slice(0, 0, 1).contiguous()));
    CHECK_FALSE(same(moved.slice(0, 1, 2).contiguous(), plain.slice(0, 1, 2).contiguous()));
    CHECK(same(moved.slice(0, 2, 3).contiguous(), plain.slice(0, 2, 3).contiguous()));
    p.state["position_enc.pe"] = Tensor::zeros({50, 24});
    p.write();
    CHECK(error_of([&] { p.read(); }) ==
          p.path + ": position_enc.pe is (50, 24), want (positions, 1, 24)");
    p.state.erase("position_enc.pe");
    p.write();
    CHECK(same(embedded(p.read(), joints), plain));
}

TEST_CASE("motion tower files: parts that no table has are asked for") {
    const PartTable parts = {
        {0, 3, 6, 9, 12, 15, 1, 4, 7, 10}, {2, 5, 8, 11, 14, 17, 19, 21}, {13, 16, 18, 20}};
    const Published p("custom", parts);
    p.write();
    CHECK(error_of([&] { p.read(); }) ==
          p.path +
              ": its motion tower has 3 parts of 10, 8, 4 joints, as no table has; give them, "
              "part_table=custom and parts=[[...],...]");
    const Json given = {{"part_table", "custom"}, {"parts", parts}};
    CHECK(to_json(p.read(given).config) == to_json(p.config));
    const Tensor joints = joints_of(22);
    CHECK(same(embedded(p.read(given), joints), (*p.tower)(joints, {7, 5, 2}, {}).value()));
    Json wrong = given;
    std::swap(wrong["parts"][0], wrong["parts"][1]);
    CHECK(error_of([&] { p.read(wrong); }) ==
          p.path +
              ": its motion tower has 3 parts of 10, 8, 4 joints, custom has 3 parts of 8, 10, "
              "4 joints");
    CHECK(error_of([&] {
              p.read({{"part_table", "t2m6"}});
          }).find("t2m6 has 6 parts of 1, 6, 4") != std::string::npos);
    CHECK(error_of([&] {
              p.read({{"part_table", "custom"}});
          }) == p.path +
                    ": part_table=custom has no parts; give the joints of each, "
                    "parts=[[0],[0,3,6,9,12,15],...]");
}

TEST_CASE("motion tower files: what is given goes over what is told") {
    Published p;
    p.config.heads = 4;
    p.config.pooling = Pooling::attention;
    p.config.input_space = InputSpace::metric_global;
    p.config.part_table = "t2m8_fixed";
    p.write();
    const MotionTowerFile file = p.read({{"heads", 4},
                                         {"pooling", "attention"},
                                         {"input_space", "metric_global"},
                                         {"part_table", "t2m8_fixed"}});
    CHECK(to_json(file.config) == to_json(p.config));
    p.state["joint_mean"] = Tensor::full({3}, 0.5);
    p.state["joint_std"] = Tensor::full({3}, 2);
    p.write();
    CHECK(p.read({{"input_space", "metric_global"}}).config.standardise);
    CHECK(error_of([&] { p.read(); }).find("choose another input_space") != std::string::npos);
    p.state.erase("joint_mean");
    p.state.erase("joint_std");
    p.write();
    CHECK(error_of([&] {
              p.read({{"width", 48}});
          }).find("does not fit the model") != std::string::npos);
    CHECK(error_of([&] {
              p.read({{"heads", 5}});
          }) == p.path + ": the motion tower's width 24 is no multiple of its 5 heads");
    CHECK(error_of([&] {
              p.read({{"poolings", "mean"}});
          }).find("unknown configuration key") != std::string::npos);
}

TEST_CASE("motion tower files: what is missing, unknown or broken") {
    Published p;
    p.state["temporal.extra"] = Tensor::zeros({2});
    p.state.erase("temporal_reduction.attention.weight");
    p.state.erase("temporal_reduction.attention.bias");
    p.write();
    const MotionTowerFile file = p.read();
    CHECK(file.warnings == std::vector<std::string>{p.path + ": temporal.extra is of no motion "
                                                             "tower that is known here; left out"});
    CHECK(same(embedded(file, joints_of(22)), (*p.tower)(joints_of(22), {7, 5, 2}, {}).value()));
    // Where it is called it has to be there.
    CHECK(error_of([&] {
              p.read({{"pooling", "attention"}});
          }).find("missing: temporal_reduction.attention.bias") != std::string::npos);

    const auto without = [&](const std::string& name) {
        Published broken;
        broken.state.erase(name);
        broken.write();
        return error_of([&] { broken.read(); }).substr(broken.path.size());
    };
    CHECK(without("proj.weight") == ": the motion tower has no proj.weight");
    CHECK(without("ln_post.bias").find("missing: ln_post.bias") != std::string::npos);
    CHECK(without("encoder.six_layers.0.weight").find("has no motion tower, neither") !=
          std::string::npos);
    p.state.at("embed.bias").fill_(std::nan(""));
    p.write();
    CHECK(error_of([&] { p.read(); }).find("embed.bias: nan at (0)") != std::string::npos);

    // Two of them, and one that says itself what it is.
    Published two;
    for (const auto& [name, tensor] : nn::TensorMap(two.state))
        two.state["teacher." + name] = tensor;
    two.write();
    CHECK(error_of([&] { two.read(); }) ==
          two.path +
              ": holds 2 motion towers, below \"motion.\" and \"motion.teacher.\"; save one "
              "alone");
    const std::string ours = (two.scratch.path / "moclip.safetensors").string();
    NamedTensors named;
    for (const auto& [name, tensor] : two.tower->state())
        named.emplace_back("motion." + name, tensor);
    write_safetensors(ours, named, {{"motion_config", to_json(two.config).dump()}});
    CHECK(same(embedded(read_motion_tower(ours), joints_of(22)),
               (*two.tower)(joints_of(22), {7, 5, 2}, {}).value()));
    CHECK(error_of([&] {
              read_motion_tower(ours, {{"heads", 4}});
          }) == ours + ": says itself what its motion tower is; leave out heads");
}
