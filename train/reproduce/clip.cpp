// clip_text: CLIP's text tower, its intermediate values and its gradients.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/clip/text_transformer.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

clip::TextConfig text_config(const ReferenceCase& recorded) {
    clip::TextConfig config;
    config.vocab = recorded.size("vocab_size");
    config.context = recorded.size("context_length");
    config.width = recorded.size("transformer_width");
    config.heads = recorded.size("transformer_heads");
    config.layers = recorded.size("transformer_layers");
    config.embed_dim = recorded.size("embed_dim");
    return config;
}

// All positions of the first prompt after block 0 and after the last norm, (context, width): the
// tower itself computes neither padding nor, at the end, more than the last token.
void check_inside(Checks& checks, const clip::TextConfig& config, const nn::TensorMap& state,
                  const Tensor& ids) {
    const char* const first = "output.after_block0.prompt0";
    const char* const last = "output.ln_final.prompt0";
    if (!checks.wants(first) && !checks.wants(last)) return;
    const Tensor prompt = ids.slice(0, 0, 1).contiguous();
    Var x = embedding(Var(state.at("token_embedding.weight")), prompt) +
            Var(state.at("positional_embedding").slice(0, 0, prompt.size(1)));
    AttentionOptions options;
    options.causal = true;
    for (int64_t l = 0; l < config.layers; ++l) {
        nn::PreNormBlock block(config.width, config.heads, 4 * config.width,
                               nn::PreNormBlock::kClipNames, nullptr);
        checks.fill(block, "transformer.resblocks." + std::to_string(l) + ".");
        x = block(x, options, {});
        if (l == 0) checks.compare(first, x.value().reshape({prompt.size(1), config.width}));
    }
    nn::LayerNorm norm(config.width);
    checks.fill(norm, "ln_final.");
    checks.compare(last, norm(x).value().reshape({prompt.size(1), config.width}));
}

// The loss is sum(features R). The recorded difference of one number is one draw of chance: errors
// of root mean square r in the features move the sum by |R|_2 r, so no less counts as its error.
void check_loss(Checks& checks, const Tensor& seed, const Tensor& loss) {
    const ReferenceCase& recorded = checks.recorded();
    if (!checks.wants("output.loss")) return;
    double squares = 0;
    for (const double r : seed.to(DType::f64).to_vector<double>()) squares += r * r;
    checks.compare_values(
        "output.loss", {}, {static_cast<double>(loss.item<float>())},
        recorded.values("output.loss"),
        std::max(recorded.own_error("output.loss"),
                 std::sqrt(squares) * recorded.info("output.features", "rmsdiff64")));
}

}  // namespace

void run_clip_text(Checks& checks) {
    const clip::TextConfig config = text_config(checks.recorded());
    clip::TextTransformer model(config, nullptr);
    checks.fill(model);
    const Tensor ids = checks.input("input.ids");
    Tape tape;
    {
        const Tape::Recording recording(tape);
        const Var features = model(ids);
        checks.compare("output.features", features.value());
        const Tensor seed = checks.input("input.grad_seed", features.shape()).to(checks.device());
        const Var loss = sum(features * Var(seed));
        check_loss(checks, seed, loss.value());
        tape.backward(loss);
    }
    checks.gradients("grad.", model);
    if (checks.wants("grad.token_embedding.weight.rows")) {
        for (auto& [name, parameter] : model.parameters())
            if (name == "token_embedding.weight")
                checks.compare(
                    "grad.token_embedding.weight.rows",
                    embedding(Var(parameter->grad()), checks.input("input.token_rows")).value());
    }
    check_inside(checks, config, model.state(), ids);
}

}  // namespace mc::train
