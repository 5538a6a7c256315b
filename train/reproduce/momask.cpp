// MoMask's transformers, samplers and length estimator. The recorded logits are (B, classes, n),
// ours (B, n, classes).
#include "models/momask/length_estimator.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

using namespace momask;

TransformerConfig transformer_config(const Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    TransformerConfig config;
    config.num_tokens = recorded.size("num_tokens");
    config.num_quantizers = recorded.size("num_quantizers");
    config.code_dim = recorded.size("code_dim");
    config.latent_dim = recorded.size("latent_dim");
    config.heads = recorded.size("num_heads");
    config.layers = recorded.size("num_layers");
    config.ff_size = recorded.size("ff_size");
    config.clip_dim = recorded.size("clip_dim");
    config.dropout = 0;
    // The training forward's, which the cases tell in words.
    config.cond_drop_prob = checks.noted("cond_drop_prob ", config.cond_drop_prob);
    return config;
}

}  // namespace

void run_momask_mask_transformer(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const TransformerConfig config = transformer_config(checks);
    MaskTransformer model(config, nullptr);
    checks.fill(model);
    const std::vector<int64_t> lengths = checks.lengths("input.m_lens");
    const int64_t batch = static_cast<int64_t>(lengths.size()), n = recorded.size("N");
    const Tensor cond = checks.input("input.cond", {batch, config.clip_dim});
    const Tensor ids = checks.input("input.ids", {batch, n});
    const Tensor padding = padding_mask(lengths, n), none = Tensor::zeros(cond.shape());
    checks.compare("output.logits", turned(model.logits(ids, cond, padding).value()));
    checks.compare("output.logits_uncond", turned(model.logits(ids, none, padding).value()));
    checks.compare("output.logits_cfg",
                   turned(model.guided_logits(ids, cond, padding, recorded.config("cond_scale"))));
    if (!checks.wants("output.train.loss")) return;
    HashUniforms draws = checks.draws();
    Tape tape;
    const Tape::Recording recording(tape);
    const MaskTransformer::Step step = model.train_step(checks.input("input.train_ids", {batch, n}),
                                                        lengths, cond, {.training = true}, draws);
    checks.same("output.train.labels", step.labels);
    checks.same("output.train.x_ids", step.ids);
    checks.compare("output.train.loss", step.loss.value());
    checks.compare("output.train.acc", step.accuracy.value());
    checks.compare("output.train.logits", turned(step.logits));
    checks.same("output.train.pred_id", likeliest(step.logits));
    tape.backward(step.loss);
    checks.gradients("grad.train.", model);
}

void run_momask_generate(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const TransformerConfig config = transformer_config(checks);
    MaskTransformer model(config, nullptr);
    checks.fill(model);
    const std::vector<int64_t> lengths = checks.lengths("input.m_lens");
    const Tensor cond =
        checks.input("input.cond", {static_cast<int64_t>(lengths.size()), config.clip_dim});
    GenerationOptions options;
    options.steps = recorded.size("timesteps");
    options.guidance = recorded.config("cond_scale");
    options.top_k = recorded.config("topk_filter_thres");
    options.temperature = recorded.config("temperature");
    for (const std::string& mode : checks.modes("final_ids")) {
        options.gumbel = mode != "cat";
        HashUniforms hashed = checks.draws();
        NoNoise none;
        std::vector<int64_t> fed, drawn;  // (steps, B, n)
        const Watch watch = [&](const std::string& name, const Tensor& value) {
            if (name.ends_with(".logits"))
                return checks.compare("output." + mode + "." + name + "_cfg", turned(value));
            std::vector<int64_t>& all = name.ends_with(".input_ids") ? fed : drawn;
            for (const int64_t id : value.to_vector<int64_t>()) all.push_back(id);
        };
        const Tensor ids = model.generate(
            cond, lengths, options, mode == "greedy" ? static_cast<UniformSource&>(none) : hashed,
            {}, watch);
        checks.same("output." + mode + ".final_ids", ids);
        checks.same("output." + mode + ".step_input_ids", fed);
        // What is drawn elsewhere is thrown away.
        std::vector<bool> masked;
        for (const int64_t id : fed) masked.push_back(id == model.mask_id());
        checks.same("output." + mode + ".step_pred_ids", drawn, masked);
    }
}

void run_momask_residual_transformer(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const TransformerConfig config = transformer_config(checks);
    ResidualTransformer model(config, nullptr);
    checks.fill(model);
    const std::vector<int64_t> lengths = checks.lengths("input.m_lens");
    const int64_t batch = static_cast<int64_t>(lengths.size()), n = recorded.size("N");
    const Tensor cond = checks.input("input.cond", {batch, config.clip_dim});
    const Tensor padding = padding_mask(lengths, n), none = Tensor::zeros(cond.shape());
    const Var codes(checks.input("input.codes", {batch, n, config.code_dim}).to(checks.device()));
    for (int64_t q = 1; q < config.num_quantizers; ++q) {
        const std::string suffix = ".q" + std::to_string(q);
        const bool plain = checks.wants("output.logits" + suffix),
                   guided = checks.wants("output.logits_cfg" + suffix);
        if (!plain && !guided) continue;
        const std::vector<int64_t> layer(lengths.size(), q);
        const Var with = model.logits(codes, layer, cond, padding);
        checks.compare("output.logits" + suffix, turned(with.value()));
        if (!guided) continue;
        const Var without = model.logits(codes, layer, none, padding);
        checks.compare(
            "output.logits_cfg" + suffix,
            turned((without + scale(with - without, recorded.config("cond_scale"))).value()));
    }
    if (!checks.wants("output.train.loss")) return;
    HashUniforms draws = checks.draws();
    Tape tape;
    const Tape::Recording recording(tape);
    const ResidualTransformer::Step step =
        model.train_step(checks.input("input.all_indices", {batch, n, config.num_quantizers}),
                         lengths, cond, {.training = true}, draws);
    checks.same("output.train.labels", step.labels);
    checks.compare("output.train.loss", step.loss.value());
    checks.compare("output.train.acc", step.accuracy.value());
    checks.compare("output.train.logits", turned(step.logits));
    checks.same("output.train.pred_id", likeliest(step.logits));
    tape.backward(step.loss);
    checks.gradients("grad.train.", model);
}

void run_momask_residual_generate(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const TransformerConfig config = transformer_config(checks);
    ResidualTransformer model(config, nullptr);
    checks.fill(model);
    const std::vector<int64_t> lengths = checks.lengths("input.m_lens");
    const Tensor base = checks.input("input.motion_ids");
    const Tensor cond = checks.input("input.cond", {base.size(0), config.clip_dim});
    GenerationOptions options;
    options.residual_guidance = recorded.config("cond_scale");
    options.top_k = recorded.config("topk_filter_thres");
    for (const std::string& mode : checks.modes("all_indices")) {
        HashUniforms hashed = checks.draws();
        NoNoise none;
        const Watch watch = [&](const std::string& name, const Tensor& value) {
            checks.compare("output." + mode + "." + name + "_cfg", turned(value));
        };
        checks.same("output." + mode + ".all_indices",
                    model.generate(base, cond, lengths, options,
                                   mode == "greedy" ? static_cast<UniformSource&>(none) : hashed,
                                   {}, watch));
    }
}

void run_momask_length_estimator(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    LengthEstimator model(recorded.size("input"), recorded.size("output"), nullptr);
    checks.fill(model);
    Tape tape;
    const Tape::Recording recording(tape);
    const Var logits = model.logits(checks.input("input.text_embedding"));
    checks.compare("output.logits", logits.value());
    if (!checks.wants("output.loss")) return;
    const Var loss = cross_entropy(logits, checks.input("input.labels"));
    checks.compare("output.loss", loss.value());
    tape.backward(loss);
    checks.gradients("grad.", model);
}

}  // namespace mc::train
