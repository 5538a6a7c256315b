// moclip_train: optimiser steps of the published training code, frozen text tower (phase 1) or
// released (phase 2).
#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>

#include "models/moclip/losses.h"
#include "models/moclip/moclip.h"
#include "train/adamw.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

// "groups 1e-4/1e-5/1e-6" (motion tower, then what phase 1 freezes) or a number.
double learning_rate(const ReferenceCase& recorded) {
    const std::string groups = recorded.text("lr");
    if (groups.empty()) return recorded.config("lr");
    const size_t digit = groups.find_first_of("0123456789");
    if (digit == std::string::npos)
        throw Error("[reference] " + recorded.file().path().string() + ": no number in lr \"" +
                    groups + "\"");
    return std::strtod(groups.c_str() + digit, nullptr);
}

double norm(const std::vector<double>& x) {
    return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> d(a.size());
    for (size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b.at(i);
    return d;
}

// Elements of a packed attention bias (or of an array of it) that have a true gradient: the middle
// third, the keys', has none, and Adam follows rounding noise there (README of the cases, 6).
std::vector<double> without_key_bias(const std::string& name, std::vector<double> x) {
    if (!name.ends_with("attn.in_proj_bias")) return x;
    const auto third = static_cast<std::ptrdiff_t>(x.size() / 3);
    x.erase(x.begin() + third, x.begin() + 2 * third);
    return x;
}

// Where parameters went: the L2 distance of ours to the float64 run's change, against that of the
// reference's float32 run, over the elements that are recorded. A single coordinate says little:
// where its gradient is all but zero, Adam makes whole steps of noise.
void check_change(Checks& checks, const std::string& name, const Tensor& before,
                  const Tensor& after) {
    const ReferenceCase& recorded = checks.recorded();
    const std::string output = "output.after." + name, change = "output.change64." + name;
    if (!recorded.recorded(output)) return;
    const std::string stored = recorded.has(output) ? output : output + ".slice",
                      moved = recorded.has(change) ? change : change + ".slice";
    if (!recorded.has(moved)) return checks.compare(output, after);
    const auto own = without_key_bias(name, recorded.sliced(output, after)),
               start = without_key_bias(name, recorded.sliced(output, before)),
               theirs = without_key_bias(name, recorded.values(stored)),
               exact = without_key_bias(name, recorded.values(moved));
    if (own.size() != theirs.size() || own.size() != exact.size())
        return checks.fail(output, "recorded with another number of values than ours");
    const double ours = norm(difference(difference(own, start), exact)),
                 reference = norm(difference(difference(theirs, start), exact));
    // What float32 cannot resolve of a value: half a unit in the last place each.
    const double rounding = std::ldexp(norm(own), -24) / std::max(1.0, kReferenceFactor);
    checks.compare_values(output + " (L2 of change)", {output, change}, {ours}, {0.0},
                          std::max(reference, rounding));
}

}  // namespace

void run_moclip_train(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    clip::TextConfig text;
    text.vocab = recorded.size("/clip/vocab");
    text.context = recorded.size("/clip/ctx");
    text.width = recorded.size("/clip/width");
    text.heads = recorded.size("/clip/heads");
    text.layers = recorded.size("/clip/layers");
    text.embed_dim = recorded.size("/clip/embed_dim");
    moclip::MoClipConfig config{text, moclip::MotionEncoderConfig::reference()};
    config.motion.width = recorded.size("/motion/embed_dim");
    config.motion.heads = recorded.size("/motion/heads");
    config.motion.layers = recorded.size("/motion/layers");
    config.motion.part_dim = recorded.size("/motion/spatial_dim");
    config.motion.output_dim = recorded.size("/motion/output_dim");
    config.motion.dropout = 0;
    const bool released = recorded.size("phase") == 2;
    moclip::MoClip student(config, nullptr);
    checks.fill(student);
    clip::TextTransformer teacher(text, nullptr);
    checks.fill(teacher, "teacher.");
    teacher.set_requires_grad(false);
    if (!released) {
        student.text.set_requires_grad(false);
        student.logit_scale.set_requires_grad(false);
    }
    nn::TensorMap before;
    for (const auto& [name, tensor] : student.state()) before[name] = tensor.clone();

    AdamWOptions options;
    options.beta1 = recorded.config("/betas/0");
    options.beta2 = recorded.config("/betas/1");
    options.eps = recorded.config("eps");
    options.weight_decay = recorded.config("weight_decay");
    AdamW optimizer(options);
    optimizer.add(student.parameters());
    const double lr = learning_rate(recorded), limit = recorded.config("clip_grad_norm"),
                 lambda = recorded.config("lambda_");
    std::vector<double> losses;  // (steps, 5)
    for (int64_t step = 0; step < recorded.size("steps"); ++step) {
        const std::string suffix = ".step" + std::to_string(step);
        const Tensor ids = checks.input("input.ids" + suffix);
        const Tensor joints = checks.input("input.joints" + suffix,
                                           {recorded.size("B"), recorded.size("T"),
                                            moclip::joints_of(config.motion.part_joints()), 3});
        const std::vector<int64_t> lengths(static_cast<size_t>(joints.size(0)), joints.size(1));
        Tape tape;
        const Tape::Recording recording(tape);
        const Var zm = l2_normalize(student.motion(joints, lengths, {}));
        const Var zs = l2_normalize(student.text(ids));
        const Var contrastive = student.similarity_loss(zm, zs);
        const Var alignment = moclip::alignment_loss(zm, zs);
        Var total = contrastive + alignment;
        double distilled = 0;
        if (released) {
            const Var distill = moclip::distill_loss(zs, l2_normalize(teacher(ids)).value(),
                                                     moclip::DistillReduction::element_mean);
            distilled = static_cast<double>(distill.value().item<float>());
            total = total + scale(distill, lambda);
        }
        tape.backward(total);
        const double size = optimizer.gradient_norm();
        for (const double x : {static_cast<double>(total.value().item<float>()),
                               static_cast<double>(contrastive.value().item<float>()), distilled,
                               static_cast<double>(alignment.value().item<float>()), size})
            losses.push_back(x);
        if (step == 0) checks.gradients("grad.step0_clipped.", student, clip_factor(size, limit));
        optimizer.step(lr, clip_factor(size, limit));
    }
    checks.compare_columns("output.losses",
                           {"total", "contrastive", "distill", "align", "grad norm"}, losses);
    const nn::TensorMap state = student.state();
    for (const auto& [name, tensor] : state) check_change(checks, name, before.at(name), tensor);
    // CLIP's image tower takes no part: its recorded parameters are as they were filled.
    const std::string output = "output.after.";
    for (const auto& [key, line] : recorded.file().metadata()) {
        const std::string name =
            key.starts_with("info:" + output) ? key.substr(5 + output.size()) : std::string();
        if (name.empty() || state.count(name) || !recorded.recorded(output + name)) continue;
        Shape shape;
        for (const int64_t n : recorded.shape(output + name)) shape.push_back(n);
        const Tensor unused = Tensor::zeros(shape);
        fill_from_name(unused, name);
        check_change(checks, name, unused, unused);
    }
}

}  // namespace mc::train
