// The motion tokenizer and its training stage.
#include "models/vq/rvq_vae.h"
#include "tests/simt/device/close.h"
#include "tests/synthetic_dataset.h"
#include "train/token_data.h"
#include "train/vq_stage.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;
// Sums of some hundred f64 terms, in another order.
constexpr double kSums = 1e-9;

vq::RvqConfig tiny() {
    vq::RvqConfig config;
    config.net.dim_pose = 23;  // two joints
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 8;
    config.net.depth = 1;
    config.quantizer.nb_code = 6;
    config.quantizer.num_quantizers = 3;
    config.quantizer.mu = 0.9;
    config.loss_root = 0.3;
    return config;
}

std::vector<int64_t> ids_of(const Tensor& t) {
    return t.to_vector<int64_t>();
}

void check_same_averages(const vq::ResidualQuantizer& got, const vq::ResidualQuantizer& want,
                         double tolerance) {
    const nn::TensorMap ours = got.training_state(), theirs = want.training_state();
    REQUIRE(ours.size() == theirs.size());
    for (const auto& [name, tensor] : theirs) {
        CAPTURE(name);
        CHECK(worst(ours.at(name), tensor) <= tolerance);
    }
}

// A tokenizer that learns in f64 on a device, batches of 2 x 16 frames: 8 rows of 3 layers.
struct Learner {
    Generator init{3};
    vq::RvqVae model;
    train::AdamW optimizer{{}};
    uint64_t steps = 0;

    Learner(const vq::RvqConfig& config, DeviceType device) : model(config, &init) {
        model.to(DType::f64);
        model.to(device);
        optimizer.add(model.parameters());
    }
    vq::RvqOutput learn() {
        Generator generator(5, steps << 32);
        GeneratorSource draws(generator);
        const Tensor motion = Generator(7, steps++).normal({2, 16, 23}, 0, 1, DType::f64);
        const Var target(motion.to(model.device()));
        Tape tape;
        Tape::Recording recording(tape);
        vq::RvqOutput out = model.train(target, {true, &generator}, draws);
        const Var loss = model.loss(out, target);
        tape.backward(loss);
        out.commitment = loss;  // as it stands for all of the output here
        return out;
    }
};

void check_same_step(Learner& got, Learner& want) {
    const vq::RvqOutput ours = got.learn(), theirs = want.learn();
    CHECK(ours.reconstruction.value().device() == kCuda);
    CHECK(ids_of(ours.ids) == ids_of(theirs.ids));
    CHECK(vq::perplexity(ours.code_counts) == vq::perplexity(theirs.code_counts));
    CHECK(worst(ours.commitment.value(), theirs.commitment.value()) < kSums);
    CHECK(worst(ours.reconstruction.value(), theirs.reconstruction.value()) < kSums);
    check_same_gradients(got.model, want.model, kSums);
    got.optimizer.step(1e-3);
    want.optimizer.step(1e-3);
    for (const auto& [name, tensor] : want.model.state()) {
        CAPTURE(name);
        CHECK(worst(got.model.state().at(name), tensor) < kSums);
    }
    check_same_averages(got.model.quantizer(), want.model.quantizer(), kSums);
}

TEST_CASE("the tokenizer learns the same on both devices") {
    vq::RvqConfig config = tiny();
    SUBCASE("codes sampled") {}
    SUBCASE("nearest codes, fewer rows than codes") {
        config.quantizer.sample_temperature = 0;
        config.quantizer.nb_code = 11;
    }
    Learner cpu(config, DeviceType::cpu), gpu(config, kCuda);
    for (int step = 0; step < 2; ++step) check_same_step(gpu, cpu);
}

TEST_CASE("a tokenizer's training goes on on the other device") {
    const vq::RvqConfig config = tiny();
    Learner cpu(config, DeviceType::cpu), gpu(config, kCuda);
    const auto hand_over = [](Learner& from, Learner& to) {
        to.model.load(from.model.state());
        to.model.quantizer().load_training_state(from.model.quantizer().training_state());
        to.optimizer.load(from.optimizer.state());
        to.optimizer.clear_gradients();
        to.steps = from.steps;
    };
    cpu.learn();
    cpu.optimizer.step(1e-3);
    hand_over(cpu, gpu);
    check_same_step(gpu, cpu);
    cpu.learn();  // away from it
    hand_over(gpu, cpu);
    check_same_step(gpu, cpu);
    cpu.model.to(kCuda);  // the averages come along
    cpu.learn();
    gpu.learn();
    check_same_averages(gpu.model.quantizer(), cpu.model.quantizer(), kSums);
}

TEST_CASE("codebooks after updates are the CPU's to the bit, dead codes revived") {
    vq::QuantizerConfig config;
    config.num_quantizers = 1;
    config.nb_code = 6;
    config.code_dim = 4;
    config.quantize_dropout = config.sample_temperature = 0;
    int64_t updates = 2;
    SUBCASE("at every update") {}
    SUBCASE("at every update, of fewer rows") {
        config.nb_code = 11;
    }
    SUBCASE("at the 21st update") {
        config.periodic_reset = true;
        updates = 21;
    }
    vq::ResidualQuantizer cpu(config), gpu(config);
    gpu.to(kCuda);
    int64_t revived = 0;
    for (int64_t step = 0; step < updates; ++step) {
        // Seven rows beside one another and one far away: most codes die.
        const Tensor e = Generator(2, static_cast<uint64_t>(step)).normal({2, 4, 4}, 0, 1e-3);
        e.data<float>()[0] = 1;
        Generator generator(5, static_cast<uint64_t>(step) << 32), again = generator;
        GeneratorSource draws(generator), same_draws(again);
        const vq::Quantized want = cpu.train(Var(e), draws),
                            got = gpu.train(Var(on_gpu(e)), same_draws);
        CHECK(got.codes.value().device() == kCuda);
        REQUIRE(ids_of(got.ids) == ids_of(want.ids));
        // The same operations in the same order, none of them a sum that a device cuts up.
        CHECK(gpu.codebook().to_vector<float>() == cpu.codebook().to_vector<float>());
        check_same_averages(gpu, cpu, 0);
        for (int64_t k = 0; config.nb_code <= 8 && k < config.nb_code; ++k)
            for (int64_t r = 0; r < 8; ++r)
                revived += cpu.codebook().slice(0, k, k + 1).to_vector<float>() ==
                           e.reshape({8, 4}).slice(0, r, r + 1).to_vector<float>();
    }
    if (config.nb_code <= 8) CHECK(revived > 0);
}

TEST_CASE("motions are encoded and decoded the same on both devices") {
    Generator init(3), again(3);
    vq::RvqVae cpu(tiny(), &init), gpu(tiny(), &again);
    for (vq::RvqVae* model : {&cpu, &gpu}) {
        for (auto& [name, codebook] : model->quantizer().buffers())
            codebook->copy_(Generator(4).normal(codebook->shape()));
        model->to(DType::f64);
    }
    gpu.to(kCuda);
    const Tensor motion = Generator(7).normal({2, 16, 23}, 0, 1, DType::f64);
    const Tensor ids = cpu.encode(motion), ours = gpu.encode(motion);
    CHECK(ours.device() == DeviceType::cpu);
    CHECK(ids_of(ours) == ids_of(ids));
    ids.data<int64_t>()[4] = -1;  // nothing there
    CHECK(gpu.decode(ids).device() == DeviceType::cpu);
    CHECK(worst(gpu.decode(ids), cpu.decode(ids)) < kSums);
    const vq::RvqOutput want = cpu(Var(motion)), got = gpu(Var(on_gpu(motion)));
    CHECK(ids_of(got.ids) == ids_of(want.ids));
    CHECK(worst(got.commitment.value(), want.commitment.value()) < kSums);
    CHECK(worst(got.reconstruction.value(), want.reconstruction.value()) < kSums);
}

TEST_CASE("clips are the same tokens on both devices") {
    const SyntheticDataset motions(40, 18, false);
    const train::MotionData data(train::with_split(motions.options, "val"));
    vq::RvqConfig config = tiny();
    config.net.dim_pose = 263;
    Generator init(3);
    vq::RvqVae model(config, &init);
    for (auto& [name, codebook] : model.quantizer().buffers())
        codebook->copy_(Generator(4).normal(codebook->shape()));
    const train::TokenData cpu(data, model, 28);
    model.to(kCuda);
    const train::TokenData gpu(data, model, 28);
    size_t starts = 0;
    for (size_t i = 0; i < data.samples().size(); ++i) {
        REQUIRE(gpu.variants(i).size() == cpu.variants(i).size());
        for (size_t v = 0; v < cpu.variants(i).size(); ++v) {
            CHECK(gpu.variants(i)[v].length == cpu.variants(i)[v].length);
            CHECK(gpu.variants(i)[v].ids == cpu.variants(i)[v].ids);
            // As if encoded alone.
            const int64_t n = cpu.variants(i)[v].length;
            const Tensor alone = Tensor::zeros({1, 28, 263});
            data.normalised(i, static_cast<int64_t>(v), 4 * n, alone.data<float>());
            model.to(DeviceType::cpu);
            CHECK(cpu.variants(i)[v].ids == ids_of(model.encode(alone).slice(1, 0, n)));
        }
        starts = std::max(starts, cpu.variants(i).size());
    }
    CHECK(starts > 1);
}

TEST_CASE("a tokenizer's run that began on one device is resumed on the other") {
    const SyntheticDataset motions(40, 18, false);
    train::VqStageOptions options;
    options.model = tiny();
    options.model.net.dim_pose = 263;
    options.batch = 2;
    options.window = 16;
    options.data = motions.options;
    // The run, its first step on one device and its second on the other.
    const auto losses = [&](const char* name, DeviceType first, DeviceType second) {
        train::LoopOptions loop;
        loop.out = motions.scratch.path / name;
        loop.rate = [](int64_t) { return 1e-3; };
        loop.validate_every = 100;
        loop.quiet = true;
        loop.config = nlohmann::json::object();
        std::vector<double> all;
        for (const int64_t step : {0, 1}) {
            options.device = step == 0 ? first : second;
            train::VqStage stage(options);
            CHECK(stage.model().device() == options.device);
            loop.steps = step + 1;
            loop.resume = step > 0;
            const train::LoopResult result = train::run_loop(stage, loop);
            all.push_back(result.train.at("loss"));
            all.push_back(result.validation.at("mpjpe_mm"));
        }
        return all;
    };
    const auto want = losses("cpu", DeviceType::cpu, DeviceType::cpu);
    for (const auto& got :
         {losses("down", kCuda, DeviceType::cpu), losses("up", DeviceType::cpu, kCuda)})
        for (size_t i = 0; i < want.size(); ++i)
            // f32: a hundred terms a sum, twenty layers deep.
            CHECK(std::fabs(got[i] - want[i]) < 1e-4 * want[i]);
}

}  // namespace
}  // namespace mc::testing
