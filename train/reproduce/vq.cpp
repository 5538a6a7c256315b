// momask_rvq: the motion tokenizer in evaluation. momask_rvq_train: its training steps. The
// recordings of the encoder are (B, C, n), ours (B, n, C).
#include "models/vq/rvq_vae.h"
#include "train/adamw.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

using vq::RvqConfig;

// The large cases name every size, the small ones those that differ.
RvqConfig rvq_config(const ReferenceCase& recorded) {
    RvqConfig config;
    const auto size = [&](const char* key, int64_t otherwise) {
        return recorded.config(key, 0) == 0 ? otherwise : recorded.size(key);
    };
    config.net.dim_pose = size("input", config.net.dim_pose);
    config.net.width = size("width", config.net.width);
    config.net.code_dim = size("code_dim", config.net.code_dim);
    config.net.depth = size("depth", config.net.depth);
    config.net.down_t = size("down_t", config.net.down_t);
    config.net.dilation_growth = size("dilation_growth_rate", config.net.dilation_growth);
    config.net.dropout = 0;
    config.quantizer.code_dim = config.net.code_dim;
    config.quantizer.nb_code = size("nb_code", config.quantizer.nb_code);
    config.quantizer.num_quantizers = size("num_quantizers", config.quantizer.num_quantizers);
    config.quantizer.mu = recorded.config("mu", config.quantizer.mu);
    config.quantizer.quantize_dropout = 0;
    config.commit = recorded.config("commit", config.commit);
    config.loss_vel = recorded.config("loss_vel", config.loss_vel);
    return config;
}

// (B, T, dim_pose) on the device
Tensor input_motion(const Checks& checks, const std::string& name, const RvqConfig& config) {
    const ReferenceCase& recorded = checks.recorded();
    return checks.input(name, {recorded.size("B"), recorded.size("T"), config.net.dim_pose})
        .to(checks.device());
}

double value(const Var& x) {
    return static_cast<double>(x.value().item<float>());
}

// loss, reconstruction, joint positions, commitment, perplexity
void add_losses(std::vector<double>& losses, const vq::RvqVae& model, const vq::RvqOutput& out,
                const Tensor& motion, const Var& loss) {
    const int64_t end = 4 + 3 * (model.config().joints() - 1);
    const Var positions =
        smooth_l1(slice(out.reconstruction, 2, 4, end), Var(motion.slice(2, 4, end)));
    for (const double x :
         {value(loss), value(smooth_l1(out.reconstruction, Var(motion))), value(positions),
          value(out.commitment), vq::perplexity(out.code_counts)})
        losses.push_back(x);
}

}  // namespace

void run_momask_rvq(Checks& checks) {
    const RvqConfig config = rvq_config(checks.recorded());
    const Tensor motion = input_motion(checks, "input.motion", config);
    vq::RvqVae model(config, nullptr);
    checks.fill(model);
    vq::Encoder encoder(config.net, nullptr);
    checks.fill(encoder, "encoder.");
    checks.compare("output.encoder", turned(encoder(Var(motion), {}).value()));
    const vq::RvqOutput out = model(Var(motion));
    checks.same("output.code_idx", out.ids);
    checks.compare("output.commit_loss", out.commitment.value());
    checks.compare("output.perplexity", vq::perplexity(out.code_counts));
    checks.compare("output.forward_x_out", out.reconstruction.value());
    const Tensor ids = model.encode(motion);
    checks.compare("output.decoded", model.decode(ids));
    checks.compare("output.decoded_first3", model.decode(ids.slice(2, 0, 3)));
    if (checks.wants("output.decoded_padded"))
        checks.compare("output.decoded_padded", model.decode(checks.input("input.idx_padded")));
}

void run_momask_rvq_train(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const RvqConfig config = rvq_config(recorded);
    vq::RvqVae model(config, nullptr);
    checks.fill(model);
    // "codebooks pre-initialised from the hash fill (init=True, ...)": the first batch replaces
    // nothing.
    if (recorded.text("note").find("init=True") != std::string::npos)
        model.quantizer().begin_from_codebooks();
    const double lr = recorded.config("lr", 0);  // none: gradients alone
    AdamWOptions options;
    if (lr > 0) {
        options.beta1 = recorded.config("/betas/0");
        options.beta2 = recorded.config("/betas/1");
        options.weight_decay = recorded.config("weight_decay", 0);
    }
    AdamW optimizer(options);
    optimizer.add(model.parameters());
    int64_t step = 0;
    HashUniforms draws = checks.draws([&](const std::string& draw) {  // layer1: noise.step0.layer1
        return "noise.step" + std::to_string(step) + "." + draw;
    });
    std::vector<double> losses;  // (steps, 5)
    std::vector<int64_t> ids;    // (steps, B, n, Q)
    const int64_t steps = recorded.config("steps", 0) == 0 ? 1 : recorded.size("steps");
    for (; step < steps; ++step) {
        const std::string number = ".step" + std::to_string(step);
        const std::string name =
            recorded.has("input.motion") ? "input.motion" : "input.motion" + number;
        const Tensor motion = input_motion(checks, name, config);
        Tape tape;
        const Tape::Recording recording(tape);
        const vq::RvqOutput out = model.train(Var(motion), {.training = true}, draws);
        const Var loss = model.loss(out, Var(motion));
        for (const int64_t id : out.ids.to_vector<int64_t>()) ids.push_back(id);
        add_losses(losses, model, out, motion, loss);
        checks.compare("output.x_out" + number, out.reconstruction.value());
        tape.backward(loss);
        checks.gradients("grad" + number + ".", model);
        if (lr > 0) optimizer.step(lr);
    }
    checks.same("output.code_idx", ids);
    checks.compare_columns("output.losses",
                           {"loss", "reconstruction", "positions", "commitment", "perplexity"},
                           losses);
    const std::string after = "output.after.";
    const nn::TensorMap averages = model.quantizer().training_state();
    for (int64_t q = 0; q < config.quantizer.num_quantizers; ++q) {
        const std::string layer = "." + std::to_string(q);
        checks.compare(after + "codebook" + layer, model.quantizer().codebook(q));
        checks.compare(after + "code_sum" + layer, averages.at("code_sum" + layer));
        checks.compare(after + "code_count" + layer, averages.at("code_count" + layer));
    }
    for (auto& [name, parameter] : model.parameters())
        checks.compare(after + name, parameter->value());
}

}  // namespace mc::train
