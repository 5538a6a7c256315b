#include "models/moclip/motion_tower_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "models/config_json.h"
#include "tensor/finite.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/load_tensors.h"

namespace mc::moclip {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kAnchor = "encoder.six_layers.0.weight";
constexpr const char* kPositions = "position_enc.pe";

// The tower's tensors under their own names. Error unless there is exactly one tower.
nn::TensorMap tower_tensors(const NamedTensors& tensors, const std::string& source) {
    std::set<std::string> prefixes;
    for (const auto& [name, tensor] : tensors)
        if (name.ends_with(kAnchor)) prefixes.insert(name.substr(0, name.size() - kAnchor.size()));
    if (prefixes.empty())
        throw Error(source +
                    ": has no motion tower, neither the motion_config of moclip_train's "
                    "moclip.safetensors nor the motion.encoder.six_layers.0.weight of "
                    "the public program; name a file that has one");
    if (prefixes.size() > 1)
        throw Error(
            fmt::format("{}: holds {} motion towers, below \"{}\" and \"{}\"; save one alone",
                        source, prefixes.size(), *prefixes.begin(), *prefixes.rbegin()));
    const std::string& prefix = *prefixes.begin();
    nn::TensorMap own;
    for (const auto& [name, tensor] : tensors)
        if (name.starts_with(prefix)) own[name.substr(prefix.size())] = tensor;
    return own;
}

// What the shapes of a state dict tell.
class Shapes {
  public:
    Shapes(const nn::TensorMap& tensors, const std::string& source)
        : tensors_(tensors), source_(source) {}

    MotionEncoderConfig config() const {
        MotionEncoderConfig c = MotionEncoderConfig::reference();
        c.hidden_dim = size("encoder.six_layers.0.weight", 0);
        c.part_dim = 2 * size("encoder.six_layers_2.0.weight", 0);
        c.width = size("embed.weight", 0);
        c.output_dim = size("proj.weight", 0);
        c.layers = count("transformer.", ".ln_1.weight");
        const int64_t mlp = size("transformer.0.mlp.0.weight", 0);
        c.mlp_ratio = mlp / std::max<int64_t>(1, c.width);
        if (c.mlp_ratio * c.width != mlp)
            throw Error(
                fmt::format("{}: transformer.0.mlp.0.weight has {} rows, no multiple of the "
                            "width {}; a tower of that shape is not known",
                            source_, mlp, c.width));
        c.heads = c.width % 12 == 0 ? 12 : std::max<int64_t>(1, c.width / 64);
        c.limb_attention = tensors_.contains("part_embed");
        c.standardise = tensors_.contains("joint_mean");
        return c;
    }

    // Joints in each part.
    std::vector<int64_t> parts() const {
        std::vector<int64_t> sizes(static_cast<size_t>(count("encoder.six_layers.", ".weight")));
        for (size_t p = 0; p < sizes.size(); ++p)
            sizes[p] = size(fmt::format("encoder.six_layers.{}.weight", p), 1) / 3;
        return sizes;
    }

  private:
    int64_t size(const std::string& name, int dim) const {
        const auto found = tensors_.find(name);
        if (found == tensors_.end()) throw Error(source_ + ": the motion tower has no " + name);
        if (found->second.dims() != 2)
            throw Error(source_ + ": the motion tower's " + name + " is " +
                        found->second.shape().str() + ", want a matrix");
        return found->second.size(dim);
    }
    // How many tensors there are of these names, with numbers from 0 on between.
    int64_t count(const std::string& before, const std::string& after) const {
        int64_t n = 0;
        while (tensors_.contains(before + std::to_string(n) + after)) ++n;
        return n;
    }

    const nn::TensorMap& tensors_;
    const std::string& source_;
};

std::vector<int64_t> sizes_of(const PartTable& table) {
    std::vector<int64_t> sizes;
    for (const auto& part : table) sizes.push_back(static_cast<int64_t>(part.size()));
    return sizes;
}

// The table, given or found, in `config`.
void fit_parts(const std::vector<int64_t>& sizes, bool given, MotionEncoderConfig& config,
               const std::string& source) {
    const auto text = [](const std::vector<int64_t>& s) {
        return fmt::format("{} parts of {} joints", s.size(), fmt::join(s, ", "));
    };
    if (given) {
        if (const auto want = sizes_of(config.part_joints()); want != sizes)
            throw Error(fmt::format("{}: its motion tower has {}, {} has {}", source, text(sizes),
                                    config.part_table, text(want)));
        return;
    }
    for (const char* name : {"t2m8_compat", "t2m6", "kit8", "kit6"})
        if (sizes_of(part_table(name)) == sizes) {
            config.part_table = name;
            return;
        }
    throw Error(
        fmt::format("{}: its motion tower has {}, as no table has; give them, "
                    "part_table=custom and parts=[[...],...]",
                    source, text(sizes)));
}

// A table of positions is left out where it is the formula's, else it is a learned one.
void fit_positions(nn::TensorMap& state, MotionEncoderConfig& config, const std::string& source) {
    const auto found = state.find(kPositions);
    if (found == state.end()) return;
    const Tensor& table = found->second;
    if (table.dims() != 3 || table.size(0) < 1 || table.size(1) != 1 ||
        table.size(2) != config.width)
        throw Error(fmt::format("{}: {} is {}, want (positions, 1, {})", source, kPositions,
                                table.shape().str(), config.width));
    const auto got = table.to(DType::f32).to_vector<float>();
    const auto want = nn::sinusoidal_positions(table.size(0), config.width).to_vector<float>();
    const auto near = [](float a, float b) { return std::abs(a - b) <= 1e-5f; };
    if (std::equal(got.begin(), got.end(), want.begin(), near)) {
        state.erase(found);
        return;
    }
    config.position_kind = PositionKind::learned;
    config.position_rows = table.size(0);
}

// With the motion_config of our own files.
MotionTowerFile described(const NamedTensors& tensors, const std::string& config,
                          const std::string& source) {
    MotionTowerFile file;
    file.config = motion_encoder_config(Json::parse(config, json_depth_limit(), false), source);
    const std::string prefix = "motion.";
    for (const auto& [name, tensor] : tensors)
        if (name.starts_with(prefix)) file.state[name.substr(prefix.size())] = tensor;
    return file;
}

MotionTowerFile inferred(const NamedTensors& tensors, const Json& given,
                         const std::string& source) {
    MotionTowerFile file;
    nn::TensorMap state = tower_tensors(tensors, source);
    const Shapes shapes(state, source);
    MotionEncoderConfig config = shapes.config();
    fit_positions(state, config, source);
    const bool table_given = given.contains("part_table") || given.contains("parts");
    if (!table_given) fit_parts(shapes.parts(), false, config, source);
    Json json = to_json(config);
    json.update(given);
    file.config = motion_encoder_config(json, source);
    if (table_given) fit_parts(shapes.parts(), true, file.config, source);

    MotionEncoder tower(file.config, nullptr);
    const nn::TensorMap known = tower.state();
    for (auto at = state.begin(); at != state.end();) {
        if (known.contains(at->first)) {
            check_finite(source + ": " + at->first, at->second);
            ++at;
            continue;
        }
        file.warnings.push_back(source + ": " + at->first +
                                " is of no motion tower that is known here; left out");
        at = state.erase(at);
    }
    const bool called = file.config.pooling == Pooling::attention;
    const auto optional = [&](const std::string& name) {
        return !called && name.starts_with("temporal_reduction.");
    };
    tower.load(state, {optional, source});
    file.state = tower.state();
    return file;
}

}  // namespace

MotionTowerFile read_motion_tower(const std::filesystem::path& path, const Json& given) {
    const TensorFile file = load_tensors(path);
    const std::string source = path.string();
    const auto config = file.metadata.find("motion_config");
    if (config == file.metadata.end()) return inferred(file.tensors, given, source);
    if (!given.empty())
        throw Error(source + ": says itself what its motion tower is; leave out " +
                    given.begin().key());
    return described(file.tensors, config->second, source);
}

}  // namespace mc::moclip
