// moclip_motion: the motion tower of the published code. moclip_losses: every term of the
// objective.
#include <cmath>

#include "models/moclip/losses.h"
#include "models/moclip/motion_encoder.h"
#include "train/reproduce/runners.h"

namespace mc::train {

void run_moclip_motion(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    moclip::MotionEncoderConfig config = moclip::MotionEncoderConfig::reference();
    config.part_table = recorded.text("dataset") == "kit" ? "kit8" : "t2m8_compat";
    config.width = recorded.size("embed_dim");
    config.heads = recorded.size("num_heads");
    config.layers = recorded.size("num_layers");
    config.part_dim = recorded.size("spatial_dim");
    config.output_dim = recorded.size("output_dim");
    config.hidden_dim = recorded.size("hidden_dim");
    moclip::MotionEncoder model(config, nullptr);
    checks.fill(model);
    const Tensor joints = checks.input(
        "input.joints",
        {recorded.size("B"), recorded.size("T"), moclip::joints_of(config.part_joints()), 3});
    const std::vector<int64_t> lengths(static_cast<size_t>(joints.size(0)), joints.size(1));
    bool gradients = false;
    for (const SafetensorsEntry& entry : recorded.file().entries())
        gradients = gradients || entry.name.starts_with("grad.");
    Tape tape;
    std::optional<Tape::Recording> recording;
    if (gradients) recording.emplace(tape);
    const Var features =
        model(joints, lengths, {}, [&](const std::string& name, const Tensor& value) {
            checks.compare("output." + name, value);
        });
    checks.compare("output.features", features.value());
    checks.compare("output.features_normalized", l2_normalize(features).value());
    if (!gradients) return;
    const Tensor seed = checks.input("input.grad_seed", features.shape()).to(checks.device());
    tape.backward(sum(features * Var(seed)));
    checks.gradients("grad.", model);
    checks.skip("grad.input.joints", "the engine takes joints as data, not as a variable");
}

void run_moclip_losses(Checks& checks) {
    using namespace moclip;
    const auto given = [&](const char* name) { return checks.input(name).to(checks.device()); };
    const Var raw_m(given("input.z_motion").clone(), requires_grad);
    const Var raw_s(given("input.z_text_student").clone(), requires_grad);
    const Var log_scale(given("input.logit_scale").clone(), requires_grad);
    const Tensor zt = l2_normalize(Var(given("input.z_text_teacher"))).value();
    const double lambda = checks.recorded().config("lambda_");
    const auto check = [&](const std::string& term,
                           const std::function<Var(const Var&, const Var&)>& loss) {
        if (!checks.wants("output." + term)) return;
        for (const Var& leaf : {raw_m, raw_s, log_scale}) leaf.clear_grad();
        Tape tape;
        const Tape::Recording recording(tape);
        const Var got = loss(l2_normalize(raw_m), l2_normalize(raw_s));
        checks.compare("output." + term, got.value());
        tape.backward(got);
        for (const auto& [name, leaf] : {std::pair<const char*, Var>{"z_motion", raw_m},
                                         {"z_text_student", raw_s},
                                         {"logit_scale", log_scale}})
            if (leaf.grad().defined()) checks.compare("grad." + term + "." + name, leaf.grad());
    };
    const auto total = [&](DistillReduction reduction) {
        return [&, reduction](const Var& m, const Var& s) {
            return contrastive_loss(m, s, log_scale) +
                   scale(distill_loss(s, zt, reduction), lambda) + alignment_loss(m, s);
        };
    };
    check("code.contrastive",
          [&](const Var& m, const Var& s) { return contrastive_loss(m, s, log_scale); });
    check("code.distill", [&](const Var&, const Var& s) {
        return distill_loss(s, zt, DistillReduction::element_mean);
    });
    check("paper.distill", [&](const Var&, const Var& s) {
        return distill_loss(s, zt, DistillReduction::sample_sum);
    });
    check("code.align", [](const Var& m, const Var& s) { return alignment_loss(m, s); });
    check("code.total", total(DistillReduction::element_mean));
    check("paper.total", total(DistillReduction::sample_sum));
    check("code.total_phase1", [&](const Var& m, const Var& s) {
        return contrastive_loss(m, s, log_scale) + alignment_loss(m, s);
    });
    const Var zm(l2_normalize(Var(raw_m.value())).value()),
        zs(l2_normalize(Var(raw_s.value())).value());
    checks.compare("output.code.dist_student", mse(zm, zs).value());
    checks.compare("output.code.dist_teacher", mse(zm, Var(zt)).value());
    const double tau = std::exp(static_cast<double>(log_scale.value().item<float>()));
    checks.compare("output.code.logits_per_motion",
                   scale(matmul(zm, zs, false, true), tau).value());
}

}  // namespace mc::train
