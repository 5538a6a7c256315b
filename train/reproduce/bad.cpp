// BAD's tokenizer, the training of its quantizer, its transformer and samplers. The recordings of
// the tokenizer are (B, C, n), ours (B, n, C).
#include <algorithm>

#include "models/bad/transformer.h"
#include "models/vq/rvq_vae.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

constexpr int64_t kWords = 77;  // CLIP's context: the places of a text's word features

// One codebook, without the residual quantizer's dropout and random draws.
vq::QuantizerConfig quantizer_config(const ReferenceCase& recorded) {
    vq::QuantizerConfig config;
    config.num_quantizers = 1;
    config.nb_code = recorded.size("nb_code");
    config.code_dim = recorded.size("code_dim");
    config.mu = recorded.config("mu", config.mu);
    config.quantize_dropout = config.sample_temperature = 0;
    config.periodic_reset = true;
    return config;
}

bad::Config transformer_config(const ReferenceCase& recorded) {
    bad::Config config;
    config.nb_code = recorded.size("nb_code");
    config.code_dim = recorded.size("code_dim");
    config.embed_dim = recorded.size("embed_dim");
    config.heads = recorded.size("n_head");
    config.ff_rate = recorded.size("ff_rate");
    config.cross_layers = recorded.size("num_local_layer");
    config.base_layers = recorded.size("num_layers") - config.cross_layers;
    config.head_layers = recorded.size("num_layers");
    config.block_size = recorded.size("block_size") + 1;  // the rate, recorded with time_cond
    config.clip_dim = recorded.size("clip_dim");
    config.dropout = recorded.config("dropout");
    return config;
}

std::unique_ptr<bad::Transformer> transformer(const Checks& checks, const bad::Config& config) {
    const Tensor codebook = Tensor::zeros({config.nb_code, config.code_dim});
    fill_from_name(codebook, "vqvae.quantizer.codebook");
    auto model = std::make_unique<bad::Transformer>(config, codebook, nullptr);
    checks.fill(*model);
    return model;
}

bad::Text text_input(const Checks& checks, int64_t batch, const bad::Config& config) {
    return {checks.input("input.clip_feature", {batch, config.clip_dim}),
            checks.input("input.word_emb", {batch, kWords, config.word_dim})};
}

// "PREFIX0_19_20" -> its steps, of the first output that is named so.
std::vector<int64_t> steps_named(const ReferenceCase& recorded, const std::string& prefix,
                                 std::string& name) {
    std::vector<int64_t> steps;
    for (const SafetensorsEntry& entry : recorded.file().entries()) {
        if (!entry.name.starts_with(prefix) || !steps.empty()) continue;
        name = entry.name;
        int64_t step = 0;
        for (const char c : name.substr(prefix.size()) + "_") {
            if (c == '_') {
                steps.push_back(step);
                step = 0;
            } else if (c >= '0' && c <= '9' && step < 1'000'000) {
                step = 10 * step + (c - '0');
            } else {
                throw Error("[reference] " + recorded.file().path().string() + ": " + name +
                            " does not end in numbers of steps");
            }
        }
    }
    return steps;
}

void run_mode(Checks& checks, const bad::Transformer& model, const std::string& mode,
              const bad::Text& text) {
    const std::string prefix = "output." + mode + ".";
    GenerationOptions options;
    options.steps = checks.recorded().size("max_steps");
    options.order_agnostic = mode.starts_with("OAAS");
    const bool random =
        checks.recorded().metadata("draws:" + mode).find("noise.") != std::string::npos;
    options.temperature = random ? 1 : 0;
    std::vector<int64_t> lengths;  // tokens of four frames each, rounded up
    for (const int64_t frames : checks.lengths("input.m_length"))
        lengths.push_back((frames + 3) / 4);
    HashUniforms draws = checks.draws();
    std::vector<int64_t> fed;  // (steps, B, N)
    const Tensor ids =
        model.generate(text, lengths, options, draws, [&](const bad::Transformer::View& view) {
            for (const int64_t id : view.ids.to_vector<int64_t>()) fed.push_back(id);
            const std::string step = prefix + "step" + std::to_string(view.step);
            checks.same(step + ".mask", attended(view.hidden));
            checks.compare(step + ".logits", view.logits);
        });
    checks.same(prefix + "step_input_ids", fed);
    checks.same(prefix + "final_ids", ids);
}

}  // namespace

void run_bad_vqvae(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    vq::RvqConfig config;
    config.net.width = recorded.size("width");
    config.net.code_dim = recorded.size("code_dim");
    config.net.depth = recorded.size("depth");
    config.net.down_t = recorded.size("down_t");
    config.net.dilation_growth = recorded.size("dilation_growth_rate");
    config.net.dropout = 0;
    config.quantizer = quantizer_config(recorded);
    vq::RvqVae model(config, nullptr);
    checks.fill(model, "vqvae.");
    const Tensor motion =
        checks.input("input.motion", {recorded.size("B"), recorded.size("T"), config.net.dim_pose})
            .to(checks.device());
    vq::Encoder encoder(config.net, nullptr);
    checks.fill(encoder, "vqvae.encoder.");
    checks.compare("output.encoder", turned(encoder(Var(motion), {}).value()));
    const vq::RvqOutput out = model(Var(motion));
    checks.same("output.code_idx", out.ids);
    checks.compare("output.commit_loss", out.commitment.value());
    checks.compare("output.perplexity", vq::perplexity(out.code_counts));
    checks.compare("output.forward_x_out", out.reconstruction.value());
    checks.compare("output.decoded", model.decode(model.encode(motion)));
}

void run_bad_quantizer_train(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const vq::QuantizerConfig config = quantizer_config(recorded);
    vq::ResidualQuantizer quantizer(config);
    quantizer.to(checks.device());
    const int64_t batch = recorded.size("N"), n = recorded.size("T"),
                  steps = recorded.size("steps"), c = config.code_dim;
    int64_t step = 0;
    HashUniforms draws =
        checks.draws([&](const std::string&) { return "draw.randperm" + std::to_string(step); });
    std::string codebooks_name;
    const std::vector<int64_t> kept =
        steps_named(recorded, "output.codebook_at_steps_", codebooks_name);
    std::vector<float> codebooks;    // (kept, nb_code, c)
    std::vector<double> statistics;  // (steps, 2)
    for (; step < steps; ++step) {
        // The case's note: the hash and a tenth of the step modulo 5.
        const Tensor x =
            hash_tensor("input.x.step" + std::to_string(step), {batch, c, n}).to(checks.device());
        const Tensor shifted = affine(Var(x), 1, 0.1 * static_cast<double>(step % 5)).value();
        const vq::Quantized out = quantizer.train(Var(turned(shifted).contiguous()), draws);
        statistics.push_back(static_cast<double>(out.commitment.value().item<float>()));
        statistics.push_back(vq::perplexity(out.code_counts));
        if (std::find(kept.begin(), kept.end(), step) == kept.end()) continue;
        const std::vector<float> codes = quantizer.codebook().to_vector<float>();
        codebooks.insert(codebooks.end(), codes.begin(), codes.end());
    }
    if (!codebooks.empty())
        checks.compare(
            codebooks_name,
            Tensor::from(codebooks, {static_cast<int64_t>(codebooks.size()) / (config.nb_code * c),
                                     config.nb_code, c}));
    const nn::TensorMap state = quantizer.training_state();
    checks.compare("output.code_count", state.at("code_count.0"));
    checks.compare("output.code_sum", state.at("code_sum.0"));
    checks.same_bits("output.usage", state.at("used.0").to_vector<float>());
    checks.compare_columns("output.commit_perplexity", {"commitment", "perplexity"}, statistics);
}

void run_bad_transformer(Checks& checks) {
    const bad::Config config = transformer_config(checks.recorded());
    const auto model = transformer(checks, config);
    const std::vector<int64_t> lengths = checks.lengths("input.m_tokens_len");
    const int64_t batch = static_cast<int64_t>(lengths.size()), n = config.tokens();
    const bad::Text text = text_input(checks, batch, config);
    if (checks.wants("output.eval.logits"))
        checks.compare("output.eval.logits",
                       model
                           ->logits(checks.input("input.target_full", {batch, n}), text,
                                    model->open_mask(lengths, n))
                           .value());
    if (!checks.wants("output.train.loss")) return;
    HashUniforms draws = checks.draws();
    Tape tape;
    const Tape::Recording recording(tape);
    const Tensor target = checks.input("input.target", {batch, n});  // the last one is the end's
    const bad::Transformer::Step step =
        model->train_step(target.slice(1, 0, n - 1), lengths, text, {.training = true}, draws);
    checks.same("output.train.input_indices", step.ids);
    checks.same("output.train.randperm", step.ranks);
    checks.same("output.train.mask_token", flags(step.masked));
    checks.same("output.train.mask", attended(step.hidden));
    checks.compare("output.train.loss", step.loss.value());
    checks.compare("output.train.logits", step.logits);
    tape.backward(step.loss);
    checks.gradients("grad.train.", *model);
}

void run_bad_generate(Checks& checks) {
    const bad::Config config = transformer_config(checks.recorded());
    const auto model = transformer(checks, config);
    const int64_t batch = static_cast<int64_t>(checks.lengths("input.m_length").size());
    const bad::Text text = text_input(checks, batch, config);
    for (const std::string& mode : checks.modes("final_ids")) run_mode(checks, *model, mode, text);
}

}  // namespace mc::train
