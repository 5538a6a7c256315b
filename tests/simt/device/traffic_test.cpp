// What goes between program and GPU while tokens are drawn: the logits, the widest thing that a
// step makes, and the noise stay there.
#include <memory>

#include "models/bad/transformer.h"
#include "models/bamm/transformer.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "tensor/graph.h"
#include "tests/simt/device/close.h"
#include "tests/tiny_transformers.h"

namespace mc::testing {
namespace {

constexpr int64_t kClasses = 512;

// Counts copies by standing in their place in CUDA's table.
struct Traffic {
    static inline int64_t uploads, uploaded, downloads, downloaded;  // how many, bytes
    static inline MemoryKernels real;
    GraphStats graphs = graph_stats();

    Traffic() {
        uploads = uploaded = downloads = downloaded = 0;
        MemoryKernels& memory = backend(DeviceType::cuda).memory;
        real = memory;
        memory.upload = [](Context& context, void* dst, const void* src, size_t bytes) {
            ++uploads;
            uploaded += static_cast<int64_t>(bytes);
            real.upload(context, dst, src, bytes);
        };
        memory.download = [](Context& context, void* dst, const void* src, size_t bytes) {
            ++downloads;
            downloaded += static_cast<int64_t>(bytes);
            real.download(context, dst, src, bytes);
        };
    }
    Traffic(const Traffic&) = delete;
    Traffic& operator=(const Traffic&) = delete;
    ~Traffic() {
        backend(DeviceType::cuda).memory = real;
        MESSAGE(uploads << " uploads, " << uploaded << " bytes; " << downloads << " downloads, "
                        << downloaded << " bytes; " << graph_stats().launches - graphs.launches
                        << " launches of graphs");
    }
};

TEST_CASE("MoMask's tokens are drawn on the GPU: only ids come home, once") {
    auto config = testing::tiny_transformer<momask::TransformerConfig>(2, kClasses);
    config.num_quantizers = 6;
    const Tape::Pause no_tape;
    Generator init(3), noise(11);
    momask::MaskTransformer masked(config, &init);
    momask::ResidualTransformer residual(config, &init);
    masked.to(DeviceType::cuda);
    residual.to(DeviceType::cuda);
    GeneratorSource draws(noise);
    GenerationOptions options;
    const Tensor text = Generator(5).normal({2, 8});
    const std::vector<int64_t> lengths{12, 9};
    for (const bool gumbel : {false, true}) {
        options.gumbel = gumbel;
        Tensor ids;
        {
            const Traffic traffic;
            ids = masked.generate(text, lengths, options, draws);
            CHECK(traffic.downloads == 1);
            CHECK(traffic.downloaded == 2 * 12 * 8);
            CHECK(traffic.uploaded < 2 * 12 * kClasses * 4);  // less than one step's noise
        }
        const Traffic traffic;
        residual.generate(ids, text, lengths, options, draws);
        CHECK(traffic.downloads == 1);
        CHECK(traffic.downloaded == 6 * 2 * 12 * 8);
        CHECK(traffic.uploaded < 2 * 12 * kClasses * 4);
    }
}

TEST_CASE("BAMM's tokens are drawn on the GPU: ids and probabilities come home after each pass") {
    auto config = testing::tiny_transformer<bamm::Config>(2, kClasses);
    config.reference_sampling = false;
    Generator init(3), noise(11);
    bamm::Transformer model(config, &init);
    model.to(DeviceType::cuda);
    const Tape::Pause no_tape;
    GeneratorSource draws(noise);
    const Tensor text = Generator(5).normal({2, 8});
    const Traffic traffic;
    model.generate(text, {8, 6}, 8, {}, draws);
    CHECK(traffic.downloads == 2 * 2);
    CHECK(traffic.downloaded == 2 * 2 * (9 * 8 + 8 * 4));
}

std::unique_ptr<bad::Transformer> narrow_bad(bool reference_sampling) {
    bad::Config config = testing::tiny_bad(34, kClasses);
    config.reference_sampling = reference_sampling;
    Generator init(3);
    auto model =
        std::make_unique<bad::Transformer>(config, Generator(2).normal({kClasses, 4}), &init);
    model->to(DeviceType::cuda);
    return model;
}

bad::Text words() {
    return {Generator(5).normal({2, 8}), Generator(6).normal({2, 6, 8})};
}

TEST_CASE("BAD's tokens are drawn on the GPU: a step brings home ids and how sure they are") {
    for (const bool reference : {false, true}) {
        const auto model = narrow_bad(reference);
        const Tape::Pause no_tape;
        Generator noise(11);
        GeneratorSource draws(noise);
        GenerationOptions options;
        options.steps = 3;
        for (const bool order_agnostic : {false, true}) {
            options.order_agnostic = order_agnostic;
            const Traffic traffic;
            model->generate(words(), {25, 11}, options, draws);
            const int64_t tokens = 2 * model->config().tokens();
            CHECK(traffic.downloaded <= options.steps * tokens * (order_agnostic ? 8 : 8 + 4));
            // Text, ids drawn and their probabilities, the sampler's first ids and last places.
            // Then a step: ids, two features of theirs, which are drawn; its mask is made there.
            CHECK(traffic.uploads == 4 + (reference ? 2 : 0) + 4 * options.steps);
        }
    }
}

TEST_CASE("BAD's attention masks are made on the GPU: a training step uploads ids, not pairs") {
    const auto model = narrow_bad(true);
    const Tape::Pause no_tape;
    Generator noise(11);
    GeneratorSource draws(noise);
    const Traffic traffic;
    model->train_step(Tensor::zeros({2, 31}, DType::i64), {31, 11}, words(), {}, draws);
    // Text 2, ids, their features 2, labels, weights.
    CHECK(traffic.uploads == 7);
}

}  // namespace
}  // namespace mc::testing
