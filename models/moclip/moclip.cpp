#include "models/moclip/moclip.h"

#include <cmath>

#include "models/moclip/losses.h"

namespace mc::moclip {

MoClip::MoClip(const MoClipConfig& config, Generator* init)
    : text(config.text, init),
      motion(config.motion, init),
      logit_scale(Tensor::full({}, std::log(1.0 / 0.07)), requires_grad) {
    if (config.motion.output_dim != config.text.embed_dim)
        throw Error("[moclip] the motion tower gives " + std::to_string(config.motion.output_dim) +
                    " numbers, the text tower " + std::to_string(config.text.embed_dim));
    add("", text);
    add("motion", motion);
    add_parameter("logit_scale", logit_scale);
    if (!config.matrix_scale) return;
    logit_matrix =
        Var(Tensor::zeros({config.text.embed_dim, config.text.embed_dim}), requires_grad);
    add_parameter("logit_matrix", logit_matrix);
    set_scale(std::log(1.0 / 0.07));
}

void MoClip::set_scale(double log_scale) {
    logit_scale.value().fill_(log_scale);
    if (!logit_matrix.defined()) return;
    const int64_t e = logit_matrix.size(0);
    const Tensor matrix = Tensor::zeros({e, e}, DType::f64);
    for (int64_t i = 0; i < e; ++i) matrix.data<double>()[i * e + i] = std::exp(log_scale);
    logit_matrix.value().copy_(matrix);
}

Var MoClip::similarity_loss(const Var& zm, const Var& zs) const {
    return logit_matrix.defined() ? contrastive_loss_matrix(zm, zs, logit_matrix)
                                  : contrastive_loss(zm, zs, logit_scale);
}

}  // namespace mc::moclip
