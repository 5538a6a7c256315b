#include "models/vq/rvq_vae.h"

namespace mc::vq {

RvqVae::RvqVae(const RvqConfig& config, Generator* init)
    : config_(config),
      encoder_(config.net, init),
      decoder_(config.net, init),
      quantizer_(config.quantizer) {
    add("encoder", encoder_);
    add("decoder", decoder_);
    add("quantizer", quantizer_);
}

Tensor RvqVae::encode(const Tensor& motion) const {
    return quantizer_.encode(encoder_(Var(motion.to(device())), {}).value()).cpu();
}

Tensor RvqVae::decode(const Tensor& ids) const {
    return decoder_(Var(quantizer_.decode(ids)), {}).value().cpu();
}

RvqOutput RvqVae::operator()(const Var& motion) const {
    const Quantized q = quantizer_(encoder_(motion, {}));
    return {decoder_(q.codes, {}), q.commitment, q.code_counts, q.ids};
}

RvqOutput RvqVae::train(const Var& motion, const nn::Pass& pass, UniformSource& draws,
                        Communicator& ranks) {
    const Quantized q = quantizer_.train(encoder_(motion, pass), draws, ranks);
    return {decoder_(q.codes, pass), q.commitment, q.code_counts, q.ids};
}

Var RvqVae::loss(const RvqOutput& output, const Var& motion) const {
    const int64_t ric_end = 4 + 3 * (config_.joints() - 1);
    Var total = smooth_l1(output.reconstruction, motion);
    total = total + scale(smooth_l1(slice(output.reconstruction, 2, 4, ric_end),
                                    slice(motion, 2, 4, ric_end)),
                          config_.loss_vel);
    if (config_.loss_root > 0)
        total = total + scale(smooth_l1(cumsum(slice(output.reconstruction, 2, 0, 3), 1),
                                        cumsum(slice(motion, 2, 0, 3), 1)),
                              config_.loss_root);
    return total + scale(output.commitment, config_.commit);
}

}  // namespace mc::vq
