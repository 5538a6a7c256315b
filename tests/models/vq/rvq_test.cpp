// What this project adds to the original's tokenizer.
#include <doctest/doctest.h>

#include <cmath>

#include "models/vq/rvq_vae.h"

using namespace mc;
using namespace mc::vq;

TEST_CASE("rvq: the root term is that of summed root velocities") {
    RvqConfig config;
    config.net.dim_pose = 263;
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 8;
    config.net.depth = 1;
    config.quantizer.nb_code = 4;
    config.quantizer.num_quantizers = 2;
    const RvqVae plain(config, nullptr);
    config.loss_root = 0.25;
    const RvqVae model(config, nullptr);
    Generator random(3);
    const int64_t batch = 2, frames = 12;
    const Tensor motion = random.uniform({batch, frames, 263}),
                 made = random.uniform({batch, frames, 263});
    RvqOutput output;
    output.reconstruction = Var(made);
    output.commitment = Var(Tensor::zeros({}));
    double expected = 0;
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t c = 0; c < 3; ++c) {
            double sum = 0;
            for (int64_t t = 0; t < frames; ++t) {
                const int64_t at = (b * frames + t) * 263 + c;
                sum += static_cast<double>(made.data<float>()[at]) -
                       static_cast<double>(motion.data<float>()[at]);
                const double far = std::abs(sum);
                expected += (far < 1 ? 0.5 * far * far : far - 0.5) /
                            static_cast<double>(batch * frames * 3);
            }
        }
    const double with = static_cast<double>(model.loss(output, Var(motion)).value().item<float>());
    const double without =
        static_cast<double>(plain.loss(output, Var(motion)).value().item<float>());
    CHECK(with - without == doctest::Approx(0.25 * expected).epsilon(1e-5));
}
