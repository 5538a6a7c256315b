// Generation with products in bf16 against f32, with the weights of the default bundle.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "autograd/inference.h"
#include "models/bundle.h"
#include "models/clip/clip_text_encoder.h"
#include "models/config_json.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "tensor/argmax.h"
#include "tensor/formats/safetensors.h"

using namespace mc;
using namespace mc::momask;

namespace {

namespace fs = std::filesystem;

const fs::path kBundle = fs::path(MOCLIP_SOURCE_DIR) / "pretrained" / "default";

template <class Model>
std::unique_ptr<Model> model(const nlohmann::json& section) {
    auto made =
        std::make_unique<Model>(transformer_config(section.at("config"), "the bundle"), nullptr);
    nn::TensorMap state;
    for (const auto& [name, tensor] :
         SafetensorsFile(kBundle / section.at("weights").get<std::string>()).all())
        state[name] = tensor;
    made->load(state);
    return made;
}

// How many of the ids agree.
struct Agreement {
    int64_t same = 0, all = 0;
    void add(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
        for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i];
        all += static_cast<int64_t>(a.size());
    }
    double share() const { return static_cast<double>(same) / static_cast<double>(all); }
};

constexpr int64_t kTokens = 49;

}  // namespace

TEST_CASE("bf16 chooses the tokens of f32 in at least 99 of 100 places, given the same inputs") {
    std::ifstream file(kBundle / "bundle.json");
    const nlohmann::json info = nlohmann::json::parse(file);
    const auto masked = model<MaskTransformer>(info.at("masked"));
    const auto residual = model<ResidualTransformer>(info.at("residual"));
    clip::ClipTextEncoder text(kBundle / "text_encoder.safetensors", kBundle / "vocab.txt.gz");
    GenerationOptions greedy;
    greedy.top_k = 1;  // all classes but one are dropped
    Agreement base_step, base_end, upper_step, upper_end;
    for (const char* prompt : {"a person walks in a circle", "someone jumps up twice",
                               "a man sits down and stands up again", "a person waves",
                               "she runs forward and stops", "a person kicks with the left leg"}) {
        Tensor cond;
        {
            const Inference scope;
            cond = text.encode({prompt});
        }
        std::vector<Tensor> inputs, choices;
        const auto watch = [&](const std::string& name, const Tensor& t) {
            if (name.ends_with("input_ids")) inputs.push_back(t.clone());
            if (name.ends_with(".logits")) choices.push_back(argmax(t));
        };
        const auto generate = [&](DType products, const Watch& seen) {
            const Inference scope(products);
            Generator generator(1, 0);
            GeneratorSource draws(generator);
            return masked->generate(cond, {kTokens}, greedy, draws, {}, seen);
        };
        const Tensor ids = generate(DType::f32, watch);
        base_end.add(ids.to_vector<int64_t>(), generate(DType::bf16, {}).to_vector<int64_t>());
        const Tensor padding = padding_mask({kTokens}, kTokens);
        const Inference scope(DType::bf16);
        for (size_t s = 0; s < inputs.size(); ++s)
            base_step.add(choices[s].to_vector<int64_t>(),
                          argmax(masked->guided_logits(inputs[s], cond, padding, greedy.guidance))
                              .to_vector<int64_t>());
        // The residual layers from the same base tokens: with the layers below as f32 chose them
        // (what is kept goes in), and on their own.
        std::vector<std::vector<int64_t>> chosen;  // by layer
        const auto above = [&](DType products, const Tensor& keep) {
            const Inference inner(products);
            Generator generator(1, 0);
            GeneratorSource draws(generator);
            chosen.clear();
            return residual->generate(ids, cond, {kTokens}, greedy, draws, keep,
                                      [&](const std::string&, const Tensor& logits) {
                                          chosen.push_back(argmax(logits).to_vector<int64_t>());
                                      });
        };
        const Tensor layers = above(DType::f32, {});
        const std::vector<std::vector<int64_t>> want = chosen;
        upper_end.add(layers.to_vector<int64_t>(), above(DType::bf16, {}).to_vector<int64_t>());
        above(DType::bf16, layers);
        for (size_t j = 0; j < want.size(); ++j) upper_step.add(want[j], chosen[j]);
    }
    // On its own a generation drifts: one other token early on, and later steps see other inputs.
    MESSAGE("base: " << base_step.share() << " of each step, " << base_end.share()
                     << " at the end; residual layers: " << upper_step.share() << " of each step, "
                     << upper_end.share() << " at the end");
    CHECK(base_step.share() >= 0.99);
    CHECK(upper_step.share() >= 0.99);
}
