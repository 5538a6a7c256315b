// Recorded cases on the device, as `./reproduce --device cuda` runs them.
#include <nlohmann/json.hpp>

#include "models/momask/mask_transformer.h"
#include "tests/reference_test.h"
#include "tests/simt/device/close.h"
#include "tests/tiny_transformers.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;

// Those that the emulation ends in a few seconds each.
TEST_CASE("reproduce: small recorded cases agree on the device") {
    for (const std::string name :
         {"bad_quantizer_train", "moclip_losses", "moclip_train_phase1", "moclip_train_phase2",
          "momask_length_estimator", "momask_rvq_train_small", "momask_rvq_train_small_tile",
          "t2m_evaluator"}) {
        CAPTURE(name);
        check_case(name + ".safetensors", 0, kCuda);
    }
}

// Full-size transformers, a minute under the emulation. The others take minutes each there; a GPU
// runs all of them (tests/check_gpu.sh).
TEST_CASE("reproduce: large recorded cases agree on the device") {
    if (!slow_tests()) return;
    for (const std::string name :
         {"moclip_motion_kit_T40", "momask_mask_transformer", "momask_residual_transformer"}) {
        CAPTURE(name);
        check_case(name + ".safetensors", 0, kCuda);
    }
}

momask::TransformerConfig tiny() {
    auto config = testing::tiny_transformer<momask::TransformerConfig>(2);
    config.num_quantizers = 2;
    config.dropout = 0;
    return config;
}

// What a sampler made of one mode: ids, what each step was fed, each step's logits.
struct Sampled {
    Tensor ids;                        // (B, n)
    std::vector<int64_t> fed;          // (steps, B, n)
    std::map<std::string, Tensor> at;  // "step0.logits_cfg": (B, classes, n)
};

// A sampler is too long at full size: a case of the same format, recorded from our own CPU's f32
// and f64, whose difference is the tolerance's measure as it is in the recorded ones.
TEST_CASE("reproduce: a sampler's case agrees on the device") {
    const std::vector<int64_t> lengths{5, 3};
    const Tensor cond = train::hash_tensor("input.cond", {2, 8}, 0.8);
    GenerationOptions options;
    options.steps = 3;
    options.guidance = 4;
    options.temperature = 1;
    options.top_k = 0.9;
    const auto sample = [&](DType dtype, bool gumbel) {
        momask::MaskTransformer model(tiny(), nullptr);
        train::fill_from_names(model);
        model.to(dtype);
        options.gumbel = gumbel;
        train::HashUniforms draws;
        Sampled made;
        made.ids = model.generate(cond.to(dtype), lengths, options, draws, {},
                                  [&](const std::string& name, const Tensor& value) {
                                      if (name.ends_with(".logits"))
                                          made.at[name + "_cfg"] =
                                              train::turned(value).contiguous();
                                      if (!name.ends_with(".input_ids")) return;
                                      for (const int64_t id : value.to_vector<int64_t>())
                                          made.fed.push_back(id);
                                  });
        return made;
    };
    NamedTensors tensors{{"input.cond", cond}, {"input.m_lens", Tensor::from_ids(lengths, {2})}};
    for (const std::string mode : {"cat", "gumbel"}) {
        const Sampled narrow = sample(DType::f32, mode != "cat"),
                      wide = sample(DType::f64, mode != "cat");
        REQUIRE(narrow.fed == wide.fed);
        const auto add = [&](const std::string& name, const Tensor& value) {
            tensors.push_back({"output." + mode + "." + name, value});
        };
        add("final_ids", narrow.ids);
        add("step_input_ids", Tensor::from_ids(narrow.fed, {options.steps, 2, 5}));
        for (const auto& [name, logits] : narrow.at) {
            add(name, logits);
            tensors.push_back({"output64." + mode + "." + name, wide.at.at(name)});
        }
    }
    const momask::TransformerConfig config = tiny();
    const nlohmann::json settings{
        {"num_tokens", config.num_tokens},    {"num_quantizers", config.num_quantizers},
        {"code_dim", config.code_dim},        {"latent_dim", config.latent_dim},
        {"num_heads", config.heads},          {"num_layers", config.layers},
        {"ff_size", config.ff_size},          {"clip_dim", config.clip_dim},
        {"timesteps", options.steps},         {"cond_scale", options.guidance},
        {"topk_filter_thres", options.top_k}, {"temperature", options.temperature}};
    const ScratchDir dir;
    const auto path = dir.path / "tiny.safetensors";
    write_safetensors(path, tensors,
                      {{"case", "momask_generate_tiny"}, {"config", settings.dump()}});
    for (const DeviceType device : {DeviceType::cpu, kCuda}) check_case_at(path, 0, device);
}

// A recorded case with other settings, so that its model is small, and the outputs of one mode
// where there are several (`mode`: "OAAS."). Float inputs are left out, to be made in the new
// shape.
void write_shrunk(const std::filesystem::path& from, const std::filesystem::path& to,
                  const nlohmann::json& settings, const std::string& mode) {
    const SafetensorsFile whole(from);
    StringMap metadata = whole.metadata();
    nlohmann::json config = nlohmann::json::parse(metadata.at("config"));
    config.update(settings);
    metadata["config"] = config.dump();
    NamedTensors kept;
    for (const SafetensorsEntry& entry : whole.entries()) {
        const bool remade = metadata.count("fill:" + entry.name) && entry.dtype == "F32",
                   other = entry.name.starts_with("output") &&
                           entry.name.find("." + mode) == std::string::npos;
        if (!remade && !other) kept.push_back({entry.name, whole.get(entry.name)});
    }
    write_safetensors(to, kept, metadata);
}

// What is recorded is then another model's, and each row says how far we are from it: as far on
// both devices. Rows of another shape than the recorded one say nothing, but were computed.
TEST_CASE("reproduce: runners of large cases give the same rows on both devices") {
    const nlohmann::json trunk{{"code_dim", 16},  {"latent_dim", 16}, {"ff_size", 16},
                               {"num_layers", 1}, {"num_heads", 2},   {"clip_dim", 16}},
        vq{{"code_dim", 8}, {"width", 8}, {"depth", 1}, {"T", 32}},
        bad{{"code_dim", 8}, {"embed_dim", 16}, {"num_layers", 2}, {"num_local_layer", 1},
            {"n_head", 2},   {"ff_rate", 1},    {"clip_dim", 16},  {"max_steps", 2}},
        text{{"transformer_width", 16}, {"transformer_heads", 2}, {"transformer_layers", 2}},
        motion{{"embed_dim", 16},  {"num_heads", 2},  {"num_layers", 1},
               {"spatial_dim", 8}, {"hidden_dim", 8}, {"T", 8}};
    nlohmann::json short_trunk = trunk;
    short_trunk["seq_len"] = 6;
    struct Shrunk {
        std::string name;
        const nlohmann::json& settings;
        std::string mode = {};
    };
    const ScratchDir dir;
    for (const auto& [name, settings, mode] :
         {Shrunk{"bad_generate", bad, "OAAS."}, Shrunk{"bad_transformer", bad},
          Shrunk{"bad_vqvae", vq}, Shrunk{"bamm_generate", short_trunk, "predlen_stable."},
          Shrunk{"bamm_transformer_official", trunk}, Shrunk{"bamm_transformer_t2mgpt", trunk},
          Shrunk{"clip_text", text}, Shrunk{"moclip_motion_T60", motion},
          Shrunk{"momask_mask_transformer", trunk},
          Shrunk{"momask_residual_generate", trunk, "greedy."},
          Shrunk{"momask_residual_transformer", trunk}, Shrunk{"momask_rvq", vq}}) {
        CAPTURE(name);
        const std::string file = name + ".safetensors";
        const auto whole = reference_file(file);
        if (whole.empty()) continue;
        write_shrunk(whole, dir.path / file, settings, mode);
        train::ReproduceOptions options;
        const train::CaseResult want = train::reproduce_case(dir.path / file, options);
        options.device = kCuda;
        const train::CaseResult got = train::reproduce_case(dir.path / file, options);
        INFO(got.rows.back().note);  // if it did not come to its end
        REQUIRE(got.rows.size() == want.rows.size());
        int64_t compared = 0;
        for (size_t i = 0; i < got.rows.size(); ++i) {
            const train::CheckRow &a = got.rows[i], &b = want.rows[i];
            CAPTURE(b.tensor);
            REQUIRE(a.tensor != "(case)");
            CHECK(a.tensor == b.tensor);
            CHECK(a.different == b.different);
            // f32: sums of at most a hundred terms of size 1, in another order, a few layers deep.
            CHECK(std::fabs(a.absolute - b.absolute) <= 1e-5 * (1 + b.absolute));
            compared += b.count > 0;
        }
        CHECK(compared > 0);
    }
}

}  // namespace
}  // namespace mc::testing
