#include "train/presets.h"

#include "models/config_json.h"
#include "train/schedule.h"

namespace mc::train {
namespace {

using Json = nlohmann::json;

// "warm_up_cosine": to zero at the last step; "multi_step": the originals' (with milestones and
// gamma).
Json optimisation(int64_t steps, double lr, int64_t warm_up, double weight_decay) {
    return {{"steps", steps},
            {"lr", lr},
            {"warm_up", warm_up},
            {"weight_decay", weight_decay},
            {"beta1", 0.9},
            {"beta2", 0.99},
            {"clip_norm", 1.0},
            {"schedule", "warm_up_cosine"},
            {"milestones", Json::array()},
            {"gamma", 0.1},
            {"validate_every", 500},
            {"save_every", 250},
            {"log_every", 50},
            {"seed", 3407}};
}

Json originals(int64_t steps, double weight_decay, std::vector<int64_t> milestones, double gamma) {
    Json json = optimisation(steps, 2e-4, 2000, weight_decay);
    json["clip_norm"] = 0.0;
    json["schedule"] = "multi_step";
    json["milestones"] = std::move(milestones);
    json["gamma"] = gamma;
    json["validate_every"] = 1000;
    json["save_every"] = 500;
    return json;
}

Json merged(Json a, const Json& b) {
    a.update(b);
    return a;
}

vq::RvqConfig small_rvq() {
    vq::RvqConfig c;
    c.net.width = 192;
    c.net.code_dim = 192;
    c.net.depth = 2;
    c.net.dropout = 0.0;
    c.quantizer.code_dim = 192;
    c.quantizer.nb_code = 256;
    c.quantizer.num_quantizers = 8;
    c.quantizer.quantize_dropout = 0.5;  // the base layer is all that words decide
    c.quantizer.reference_gain = false;
    c.quantizer.sample_temperature = 0;
    c.loss_vel = 2;
    c.loss_root = 0.0015;
    return c;
}

// The tokenizers of MMM and BAD: one codebook, nearest codes (generators.md 6.2).
vq::RvqConfig single_codebook(vq::RvqConfig c, int64_t codes) {
    c.net.code_dim = c.quantizer.code_dim = 32;
    c.net.dropout = 0;
    c.quantizer.nb_code = codes;
    c.quantizer.num_quantizers = 1;
    c.quantizer.quantize_dropout = 0;
    c.quantizer.sample_temperature = 0;
    c.quantizer.periodic_reset = true;
    return c;
}

momask::TransformerConfig small_transformer(int64_t latent, int64_t layers, double cond_drop) {
    momask::TransformerConfig c;
    c.num_tokens = 256;
    c.code_dim = 192;
    c.latent_dim = latent;
    c.heads = latent / 64;
    c.layers = layers;
    c.ff_size = 4 * latent;
    c.clip_dim = 256;
    c.cond_drop_prob = cond_drop;
    return c;
}

Json token_data(int64_t min_frames, int64_t padded_frames, bool reference_counts, double balance,
                double reword_share, double text_noise, double speed_change, const char* shorten) {
    return {{"batch", 64},
            {"min_frames", min_frames},
            {"padded_frames", padded_frames},
            {"reference_counts", reference_counts},
            {"balance", balance},
            {"feat_bias_power", 2},
            {"reword_share", reword_share},
            {"text_noise", text_noise},
            {"speed_change", speed_change},
            {"shorten", shorten}};
}

std::vector<Preset> token_presets(const momask::TransformerConfig& small, double full_cond_drop,
                                  int64_t small_steps, double small_lr) {
    momask::TransformerConfig full;
    full.cond_drop_prob = full_cond_drop;
    return {
        {"small", "two CPU cores, a few thousand clips",
         merged(merged({{"model", to_json(small)}},
                       token_data(12, 0, false, 0.5, 0.5, 0.4, 0.25, "no")),
                optimisation(small_steps, small_lr, 200, 0.01))},
        {"humanml3d", "the originals' size and recipe",
         merged(merged({{"model", to_json(full)}}, token_data(40, 196, true, 0, 0, 0, 0, "crop")),
                originals(182500, 1e-5, {50000}, 0.1))}};
}

}  // namespace

const std::vector<Preset>& vq_presets() {
    static const std::vector<Preset> presets = [] {
        const Json small_data = {
            {"batch", 64},      {"window", 64},   {"short_share", 0.3},   {"speed_change", 0.25},
            {"min_frames", 12}, {"balance", 0.5}, {"feat_bias_power", 2}, {"every_window", false}};
        Json full_data = small_data;
        full_data.update({{"batch", 256},
                          {"short_share", 0.0},
                          {"speed_change", 0.0},
                          {"min_frames", 64},
                          {"balance", 0.0}});
        Json windows_data = full_data;  // MMM and BAD draw a clip and a place in it
        windows_data["every_window"] = true;
        Json full_bad = originals(300000, 0, {200000}, 0.05);
        full_bad["warm_up"] = 1000;
        auto stage = [](const vq::RvqConfig& model, const Json& data, const Json& recipe) {
            return merged(merged({{"model", to_json(model)}}, data), recipe);
        };
        return std::vector<Preset>{
            {"small", "two CPU cores, a few thousand clips",
             stage(small_rvq(), small_data, optimisation(6000, 6e-4, 200, 0))},
            {"humanml3d", "the originals' size and recipe",
             stage({}, windows_data, originals(500000, 0, {150000, 250000}, 0.05))},
            {"small-bad", "one codebook, which `train bad` needs",
             stage(single_codebook(small_rvq(), 512), small_data,
                   optimisation(6000, 6e-4, 200, 0))},
            {"humanml3d-bad", "BAD's own", stage(single_codebook({}, 8192), full_data, full_bad)}};
    }();
    return presets;
}

const std::vector<Preset>& masked_presets() {
    static const std::vector<Preset> presets =
        token_presets(small_transformer(256, 4, 0.1), 0.1, 6000, 8e-4);
    return presets;
}

const std::vector<Preset>& residual_presets() {
    static const std::vector<Preset> presets =
        token_presets(small_transformer(128, 4, 0.2), 0.2, 5000, 8e-4);
    return presets;
}

const std::vector<Preset>& length_presets() {
    static const std::vector<Preset> presets = [] {
        std::vector<Preset> two = token_presets(small_transformer(256, 1, 0), 0, 1500, 3e-4);
        for (Preset& preset : two) preset.values.erase("model");
        two[0].values["speed_change"] = 0.0;  // it is lengths that are learnt
        two[1].values.update({{"lr", 1e-4},
                              {"warm_up", 0},
                              {"weight_decay", 0.0},
                              {"clip_norm", 0.5},
                              {"milestones", Json::array()}});
        return two;
    }();
    return presets;
}

const std::vector<Preset>& bamm_presets() {
    static const std::vector<Preset> presets = [] {
        bamm::Config small, full;
        static_cast<momask::TransformerConfig&>(small) = small_transformer(256, 4, 0.1);
        small.reference_sampling = false;
        std::vector<Preset> two = token_presets({}, 0.1, 6000, 8e-4);
        two[0].values["model"] = to_json(small);
        two[1].values["model"] = to_json(full);
        two[1].values.update(
            {{"batch", 512}, {"steps", 91000}, {"milestones", Json::array({50000, 80000})}});
        for (Preset& preset : two) preset.values.erase("reference_counts");
        return two;
    }();
    return presets;
}

const std::vector<Preset>& bad_presets() {
    static const std::vector<Preset> presets = [] {
        bad::Config small, full;
        small.nb_code = 512;
        small.embed_dim = 256;
        small.heads = 4;
        small.cross_layers = 1;
        small.base_layers = small.head_layers = 2;
        small.clip_dim = small.word_dim = 256;
        small.reference_sampling = false;
        std::vector<Preset> two = token_presets({}, 0, 6000, 6e-4);
        two[0].values["model"] = to_json(small);
        two[1].values["model"] = to_json(full);
        two[1].values.update({{"batch", 256},
                              {"steps", 350000},
                              {"padded_frames", 0},
                              {"shorten", "tokens"},
                              {"warm_up", 0},
                              {"beta1", 0.5},
                              {"beta2", 0.9},
                              {"weight_decay", 1e-6},
                              {"milestones", Json::array({150000})},
                              {"gamma", 0.05}});
        for (Preset& preset : two) preset.values.erase("reference_counts");
        return two;
    }();
    return presets;
}

namespace {

// Whether the originals' schedule is asked for. Error: another name than these two.
bool is_multi_step(const Json& config) {
    const std::string schedule = config.at("schedule");
    if (schedule != "multi_step" && schedule != "warm_up_cosine")
        throw Error("schedule is " + schedule + ", want warm_up_cosine or multi_step");
    return schedule == "multi_step";
}

}  // namespace

VqStageOptions vq_stage_options(const Json& config, const std::string& data) {
    VqStageOptions options;
    options.model = rvq_config(config.at("model"), "the vq configuration");
    options.batch = config.at("batch");
    options.window = config.at("window");
    const int64_t unit = int64_t{1} << options.model.net.down_t;
    if (options.window % unit != 0)
        throw Error("window=" + std::to_string(options.window) + ": want a multiple of " +
                    std::to_string(unit) + " frames, a token's, with model.down_t=" +
                    std::to_string(options.model.net.down_t));
    is_multi_step(config);  // before any data is read
    options.short_share = config.at("short_share");
    options.speed_change = config.at("speed_change");
    options.every_window = config.at("every_window");
    options.data.root = data;
    options.data.min_frames = config.at("min_frames");
    options.data.balance = config.at("balance");
    options.data.feat_bias_power = config.at("feat_bias_power");
    options.seed = config.at("seed");
    if (options.every_window)
        for (const char* other : {"short_share", "speed_change", "balance"})
            if (config.at(other).get<double>() != 0)
                throw Error("every_window=true takes each window once and as it is, which " +
                            std::string(other) + "=" + config.at(other).dump() +
                            " contradicts; set that to 0 or every_window=false");
    return options;
}

namespace {

// All but the model.
void read_token_options(const Json& config, const std::string& data, TokenStageOptions& options) {
    options.batch = config.at("batch");
    is_multi_step(config);  // before any data is read
    options.padded_frames = config.at("padded_frames");
    options.data.root = data;
    options.data.min_frames = config.at("min_frames");
    options.data.balance = config.at("balance");
    options.data.feat_bias_power = config.at("feat_bias_power");
    options.reword_share = config.at("reword_share");
    options.text_noise = config.at("text_noise");
    options.speed_change = config.at("speed_change");
    options.shorten = shorten_named(config.at("shorten"));
    options.seed = config.at("seed");
}

}  // namespace

TokenStageOptions token_stage_options(const Json& config, const std::string& data) {
    TokenStageOptions options;
    if (config.contains("model"))
        options.model = transformer_config(config.at("model"), "the transformer configuration");
    options.reference_counts = config.at("reference_counts");
    read_token_options(config, data, options);
    return options;
}

BammStageOptions bamm_stage_options(const Json& config, const std::string& data) {
    BammStageOptions options;
    options.bamm = bamm_config(config.at("model"), "the transformer configuration");
    read_token_options(config, data, options);
    return options;
}

BadStageOptions bad_stage_options(const Json& config, const std::string& data) {
    BadStageOptions options;
    options.bad = bad_config(config.at("model"), "the transformer configuration");
    read_token_options(config, data, options);
    return options;
}

LoopOptions loop_options(const Json& config, const std::filesystem::path& out) {
    LoopOptions loop;
    loop.out = out;
    loop.config = config;
    loop.seed = config.at("seed");
    loop.steps = config.at("steps");
    loop.validate_every = config.at("validate_every");
    loop.save_every = config.at("save_every");
    loop.log_every = config.at("log_every");
    loop.clip_norm = config.at("clip_norm");
    loop.adamw = {config.at("beta1"), config.at("beta2"), 1e-8, config.at("weight_decay")};
    const double lr = config.at("lr");
    const int64_t warm_up = config.at("warm_up");
    if (is_multi_step(config)) {
        WarmUpMultiStep rate;
        rate.lr = lr;
        rate.warm_up = warm_up;
        rate.milestones = config.at("milestones").get<std::vector<int64_t>>();
        rate.gamma = config.at("gamma");
        loop.rate = [rate](int64_t step) { return rate.rate(step + 1); };
    } else {
        const WarmUpCosine rate{lr, warm_up, loop.steps, 0.01 * lr};
        loop.rate = [rate](int64_t step) { return rate.rate(step); };
    }
    return loop;
}

}  // namespace mc::train
