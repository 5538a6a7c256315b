#include "models/config_json.h"

#include <algorithm>

namespace mc {
namespace {

// One list of fields serves both directions: `visit` is called with each key and member.
template <class Config, class Visit>
void fields(Config& c, const Visit& visit) requires
    std::is_same_v<std::remove_const_t<Config>, vq::RvqConfig> {
    visit("dim_pose", c.net.dim_pose);
    visit("width", c.net.width);
    visit("code_dim", c.net.code_dim);
    visit("depth", c.net.depth);
    visit("down_t", c.net.down_t);
    visit("dilation_growth_rate", c.net.dilation_growth);
    visit("dropout", c.net.dropout);
    visit("num_quantizers", c.quantizer.num_quantizers);
    visit("nb_code", c.quantizer.nb_code);
    visit("mu", c.quantizer.mu);
    visit("quantize_dropout_prob", c.quantizer.quantize_dropout);
    visit("sample_temperature", c.quantizer.sample_temperature);
    visit("reference_gain", c.quantizer.reference_gain);
    visit("periodic_reset", c.quantizer.periodic_reset);
    visit("commit", c.commit);
    visit("loss_vel", c.loss_vel);
    visit("loss_root", c.loss_root);
}

template <class Config, class Visit>
void fields(Config& c, const Visit& visit) requires
    std::is_base_of_v<momask::TransformerConfig, std::remove_const_t<Config>> {
    visit("num_tokens", c.num_tokens);
    visit("num_quantizers", c.num_quantizers);
    visit("code_dim", c.code_dim);
    visit("latent_dim", c.latent_dim);
    visit("n_heads", c.heads);
    visit("n_layers", c.layers);
    visit("ff_size", c.ff_size);
    visit("clip_dim", c.clip_dim);
    visit("dropout", c.dropout);
    visit("cond_drop_prob", c.cond_drop_prob);
    if constexpr (std::is_same_v<std::remove_const_t<Config>, bamm::Config>) {
        visit("gpt_blocks", c.gpt_blocks);
        visit("reference_sampling", c.reference_sampling);
    }
}

template <class Config, class Visit>
void fields(Config& c,
            const Visit& visit) requires std::is_same_v<std::remove_const_t<Config>, bad::Config> {
    visit("nb_code", c.nb_code);
    visit("code_dim", c.code_dim);
    visit("embed_dim", c.embed_dim);
    visit("n_heads", c.heads);
    visit("ff_rate", c.ff_rate);
    visit("cross_layers", c.cross_layers);
    visit("base_layers", c.base_layers);
    visit("head_layers", c.head_layers);
    visit("block_size", c.block_size);
    visit("clip_dim", c.clip_dim);
    visit("word_dim", c.word_dim);
    visit("dropout", c.dropout);
    visit("reference_sampling", c.reference_sampling);
}

template <class Config, class Visit>
void fields(Config& c, const Visit& visit) requires
    std::is_same_v<std::remove_const_t<Config>, clip::TextConfig> {
    visit("vocab", c.vocab);
    visit("context", c.context);
    visit("width", c.width);
    visit("heads", c.heads);
    visit("layers", c.layers);
    visit("embed_dim", c.embed_dim);
}

template <class Config, class Visit>
void fields(Config& c, const Visit& visit) requires
    std::is_same_v<std::remove_const_t<Config>, moclip::MotionEncoderConfig> {
    visit("part_table", c.part_table);
    visit("parts", c.parts);
    visit("input_space", c.input_space);
    visit("standardise", c.standardise);
    visit("limb_attention", c.limb_attention);
    visit("limb_edges", c.limb_edges);
    visit("edges", c.edges);
    visit("pe_axis", c.position_axis);
    visit("pe_kind", c.position_kind);
    visit("pe_rows", c.position_rows);
    visit("key_padding_mask", c.key_padding_mask);
    visit("pooling", c.pooling);
    visit("width", c.width);
    visit("heads", c.heads);
    visit("layers", c.layers);
    visit("part_dim", c.part_dim);
    visit("hidden_dim", c.hidden_dim);
    visit("output_dim", c.output_dim);
    visit("mlp_ratio", c.mlp_ratio);
    visit("dropout", c.dropout);
}

template <class Config>
nlohmann::json written(const Config& config) {
    nlohmann::json json = nlohmann::json::object();
    fields(config, [&]<class Value>(const char* key, const Value& value) {
        if constexpr (std::is_enum_v<Value>)
            json[key] = name_of(value);
        else
            json[key] = value;
    });
    return json;
}

// An option's value by its name.
template <class Option>
Option option_named(const nlohmann::json& name, const char* key, const std::string& source) {
    std::string known;
    const auto names = names_of(Option{});
    for (size_t i = 0; i < names.size(); ++i) {
        if (name == names[i]) return static_cast<Option>(i);
        known += std::string(i ? ", " : "") + names[i];
    }
    throw Error(source + ": configuration key " + key + " is " + name.dump() + ", want one of " +
                known);
}

// [[0], [0, 3, 6]]
std::vector<std::vector<int>> lists_of_numbers(const nlohmann::json& json, const char* key,
                                               const std::string& source) {
    const auto small = [](const nlohmann::json& number) {
        return number.is_number_integer() && number >= -1000 && number <= 1000;
    };
    const auto list = [&](const nlohmann::json& each) {
        return each.is_array() && std::all_of(each.begin(), each.end(), small);
    };
    if (!json.is_array() || !std::all_of(json.begin(), json.end(), list))
        throw Error(source + ": configuration key " + key + " is " + json.dump() +
                    ", want lists of whole numbers in a list, [[0],[0,3,6]]");
    return json.get<std::vector<std::vector<int>>>();
}

template <class Config>
Config read(const nlohmann::json& json, const std::string& source) {
    if (!json.is_object()) throw Error(source + ": the model configuration is not an object");
    Config config;
    size_t used = 0;
    std::string known;
    fields(config, [&](const char* key, auto& value) {
        known += std::string(" ") + key;
        const auto found = json.find(key);
        if (found == json.end()) return;
        ++used;
        using Value = std::remove_reference_t<decltype(value)>;
        if constexpr (std::is_enum_v<Value>) {
            value = option_named<Value>(*found, key, source);
            return;
        } else if constexpr (std::is_same_v<Value, std::vector<std::vector<int>>>) {
            value = lists_of_numbers(*found, key, source);
            return;
        } else {
            const bool fits = std::is_same_v<Value, bool>          ? found->is_boolean()
                              : std::is_same_v<Value, std::string> ? found->is_string()
                              : std::is_integral_v<Value>          ? found->is_number_integer()
                                                                   : found->is_number();
            if (!fits)
                throw Error(source + ": configuration key " + key +
                            " has the wrong type: " + found->dump() + ", want " +
                            (std::is_same_v<Value, bool>          ? "true or false"
                             : std::is_same_v<Value, std::string> ? "a text"
                             : std::is_integral_v<Value>          ? "a whole number"
                                                                  : "a number"));
            value = found->template get<Value>();
        }
        if constexpr (std::is_same_v<Value, int64_t>)
            if (value < 1 || value > (int64_t{1} << 24))
                throw Error(source + ": configuration key " + key + " is " + found->dump() +
                            ", want 1 to 16777216");
    });
    if (used != json.size())
        for (const auto& [key, value] : json.items())
            if (known.find(" " + key) == std::string::npos)
                throw Error(source + ": unknown configuration key " + key + "; known are" + known);
    return config;
}

// Attention gives each head as many of the width's numbers.
void check_heads(const std::string& source, const std::string& whose, int64_t width,
                 int64_t heads) {
    if (width % heads != 0)
        throw Error(source + ": " + whose + " " + std::to_string(width) +
                    " is no multiple of its " + std::to_string(heads) + " heads");
}

}  // namespace

nlohmann::json to_json(const vq::RvqConfig& config) {
    return written(config);
}
nlohmann::json to_json(const momask::TransformerConfig& config) {
    return written(config);
}
nlohmann::json to_json(const bamm::Config& config) {
    return written(config);
}
nlohmann::json to_json(const bad::Config& config) {
    return written(config);
}
nlohmann::json to_json(const clip::TextConfig& config) {
    return written(config);
}
nlohmann::json to_json(const moclip::MotionEncoderConfig& config) {
    nlohmann::json json = written(config);
    // Keys that came later are left out where they say nothing: older programs read the file.
    const nlohmann::json plain = written(moclip::MotionEncoderConfig{});
    for (const char* key : {"parts", "standardise", "edges", "pe_kind", "pe_rows"})
        if (json[key] == plain[key]) json.erase(key);
    return json;
}

vq::RvqConfig rvq_config(const nlohmann::json& json, const std::string& source) {
    vq::RvqConfig config = read<vq::RvqConfig>(json, source);
    config.quantizer.code_dim = config.net.code_dim;
    return config;
}
momask::TransformerConfig transformer_config(const nlohmann::json& json,
                                             const std::string& source) {
    const auto config = read<momask::TransformerConfig>(json, source);
    check_heads(source, "latent_dim", config.latent_dim, config.heads);
    return config;
}
bamm::Config bamm_config(const nlohmann::json& json, const std::string& source) {
    const auto config = read<bamm::Config>(json, source);
    check_heads(source, "latent_dim", config.latent_dim, config.heads);
    return config;
}
bad::Config bad_config(const nlohmann::json& json, const std::string& source) {
    const auto config = read<bad::Config>(json, source);
    check_heads(source, "embed_dim", config.embed_dim, config.heads);
    return config;
}
clip::TextConfig text_config(const nlohmann::json& json, const std::string& source) {
    return read<clip::TextConfig>(json, source);
}
moclip::MotionEncoderConfig motion_encoder_config(const nlohmann::json& json,
                                                  const std::string& source) {
    const auto config = read<moclip::MotionEncoderConfig>(json, source);
    check_heads(source, "the motion tower's width", config.width, config.heads);
    std::string problem;
    try {
        problem = moclip::problem_of(config);
    } catch (const Error& e) {  // a table or edges of a name that there is not
        problem = e.what();
    }
    if (!problem.empty()) throw Error(source + ": " + problem);
    return config;
}

}  // namespace mc
