// BAMM's transformer and its two passes of generation. The recorded logits are (B, classes, n),
// ours (B, n, classes).
#include "models/bamm/transformer.h"

#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

using bamm::Transformer;

bamm::Config bamm_config(const Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    bamm::Config config;
    config.num_tokens = recorded.size("num_tokens");
    config.code_dim = recorded.size("code_dim");
    config.latent_dim = recorded.size("latent_dim");
    config.heads = recorded.size("num_heads");
    config.layers = recorded.size("num_layers");
    config.ff_size = recorded.size("ff_size");
    config.clip_dim = recorded.size("clip_dim");
    config.dropout = recorded.config("dropout");
    config.cond_drop_prob = checks.noted("cond_drop_prob ", config.cond_drop_prob);
    const std::string blocks = recorded.text("trans");
    config.gpt_blocks = blocks == "t2mgpt";
    if (!config.gpt_blocks && blocks != "official")
        throw Error("[reference] " + recorded.file().path().string() + ": \"trans\" is \"" +
                    blocks + "\", want official or t2mgpt");
    return config;
}

// What step k of a pass was fed: what the pass drew before it, then what it began with. (B, N)
Tensor fed(const Tensor& drawn, const Tensor& begun, int64_t k) {
    Tensor ids = begun.clone();
    const int64_t n = ids.size(1);
    for (int64_t b = 0; b < ids.size(0); ++b)
        for (int64_t i = 0; i < k; ++i)
            ids.data<int64_t>()[b * n + i] = drawn.item<int64_t>({b, i});
    return ids;
}

void run_mode(Checks& checks, const Transformer& model, const std::string& mode,
              const Tensor& cond) {
    const std::string prefix = "output." + mode + ".";
    const int64_t tokens = checks.recorded().size("seq_len");
    const bool predicted = mode.starts_with("predlen");
    GenerationOptions options;
    options.guidance = checks.recorded().config("cond_scale");
    HashUniforms draws = checks.draws();
    const Transformer::Draft draft =
        model.draft(cond, predicted ? std::vector<int64_t>{} : checks.lengths("input.m_lens"),
                    tokens, options, draws);
    checks.same(prefix + "pass1_ids", draft.sweep.ids);
    checks.same(prefix + "pred_len", draft.lengths);
    checks.same(prefix + "pass2_input_ids", draft.ids);
    checks.compare(prefix + "pass1_probs", draft.sweep.probabilities);
    // Which half is kept hangs on an unstable sort of equal scores in the original (QUIRK Q26).
    Tensor known;
    if (mode.ends_with("_stable")) {
        known = model.kept_half(draft, draws);
        checks.same(prefix + "cond_idx", known);
    } else {
        known = checks.input(prefix + "cond_idx");
        checks.skip(prefix + "cond_idx",
                    "the original's unstable sort of equal scores decides; taken as an input");
    }
    const Transformer::Sweep second = model.refine(draft, known, cond, options, draws);
    checks.compare(prefix + "pass2_probs", second.probabilities);
    checks.same(prefix + "ids", Transformer::restored(second.ids, known, model.pad_id()));
    const Tensor nothing =
        Tensor::full(draft.ids.shape(), static_cast<double>(model.pad_id()), DType::i64);
    for (int64_t k = 0; k < tokens; ++k) {
        const std::string step = "step" + std::to_string(k) + ".logits_cfg";
        if (checks.wants(prefix + "pass1_" + step))
            checks.compare(prefix + "pass1_" + step,
                           turned(model.guided_logits(fed(draft.sweep.ids, nothing, k), cond, {},
                                                      options.guidance)));
        if (checks.wants(prefix + "pass2_" + step))
            checks.compare(prefix + "pass2_" + step,
                           turned(model.guided_logits(fed(second.ids, draft.ids, k), cond, known,
                                                      Transformer::kSecondGuidance)));
    }
}

}  // namespace

void run_bamm_transformer(Checks& checks) {
    const bamm::Config config = bamm_config(checks);
    Transformer model(config, nullptr);
    checks.fill(model);
    const std::vector<int64_t> lengths = checks.lengths("input.m_lens");
    const int64_t batch = static_cast<int64_t>(lengths.size()), n = checks.recorded().size("N");
    const double guidance = checks.noted("cond_scale=", GenerationOptions().guidance);
    const Tensor cond = checks.input("input.cond", {batch, config.clip_dim}),
                 ids = checks.input("input.ids_full", {batch, n + 1}),
                 known = checks.input("input.cond_idx", {batch, n + 1}),
                 none = Tensor::zeros(cond.shape());
    checks.same("output.attn_hybrid", attended(model.hybrid_mask(known)));
    checks.compare("output.logits_causal", turned(model.logits(ids, cond).value()));
    checks.compare("output.logits_hybrid", turned(model.logits(ids, cond, known).value()));
    checks.compare("output.logits_uncond", turned(model.logits(ids, none, known).value()));
    checks.compare("output.logits_cfg_causal",
                   turned(model.guided_logits(ids, cond, {}, guidance)));
    checks.compare("output.logits_cfg_hybrid",
                   turned(model.guided_logits(ids, cond, known, guidance)));
    if (!checks.wants("output.train.loss")) return;
    HashUniforms draws = checks.draws();
    Tape tape;
    const Tape::Recording recording(tape);
    const Transformer::Step step = model.train_step(checks.input("input.ids", {batch, n}), lengths,
                                                    cond, {.training = true}, draws);
    checks.same("output.train.cond_idx", step.known);
    checks.same("output.train.x_ids", step.ids);
    checks.compare("output.train.loss", step.loss.value());
    checks.compare("output.train.acc", step.accuracy.value());
    checks.same("output.train.pred_id", likeliest(step.logits));
    tape.backward(step.loss);
    checks.gradients("grad.train.", model);
}

void run_bamm_generate(Checks& checks) {
    const bamm::Config config = bamm_config(checks);
    Transformer model(config, nullptr);
    checks.fill(model);
    const int64_t batch = static_cast<int64_t>(checks.lengths("input.m_lens").size());
    const Tensor cond = checks.input("input.cond", {batch, config.clip_dim});
    for (const std::string& mode : checks.modes("ids")) run_mode(checks, model, mode, cond);
}

}  // namespace mc::train
