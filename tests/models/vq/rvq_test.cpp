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

TEST_CASE("rvq: a codebook that is reset at times is so at every 21st update") {
    RvqConfig config;
    config.net.dim_pose = 23;
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 8;
    config.net.depth = 1;
    config.quantizer.nb_code = 6;
    config.quantizer.num_quantizers = 1;
    config.quantizer.periodic_reset = true;
    Generator init(3), noise(4);
    RvqVae model(config, &init);
    GeneratorSource draws(noise);
    for (int64_t update = 1; update <= 45; ++update) {
        const Tensor rows = noise.normal({2, 8, 8});
        model.quantizer().train(Var(rows), draws, single_process());
        CHECK(model.quantizer().training_state().at("updates.0").item<int64_t>() == update % 21);
    }
}

TEST_CASE("rvq: layers that are dropped in training have no ids") {
    QuantizerConfig config;
    config.nb_code = 6;
    config.code_dim = 8;
    config.num_quantizers = 4;
    config.quantize_dropout = 1;
    ResidualQuantizer quantizer(config);
    Generator noise(4);
    GeneratorSource draws(noise);
    std::vector<int> seen(5, 0);
    for (int step = 0; step < 30; ++step) {
        const Tensor rows = noise.normal({2, 8, 8});
        const Quantized out = quantizer.train(Var(rows), draws, single_process());
        const int64_t active = out.code_counts.size(0);
        ++seen[static_cast<size_t>(active)];
        for (int64_t b = 0; b < 2; ++b)
            for (int64_t i = 0; i < 8; ++i)
                for (int64_t q = 0; q < 4; ++q)
                    CHECK((out.ids.item<int64_t>({b, i, q}) >= 0) == (q < active));
    }
    CHECK(seen[0] == 0);
    for (size_t active = 1; active <= 4; ++active) CHECK(seen[active] > 0);
}
