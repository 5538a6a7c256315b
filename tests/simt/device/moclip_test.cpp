// MoCLIP's motion tower, losses and training, on the GPU and on the CPU.
#include "models/moclip/moclip.h"

#include "models/moclip/losses.h"
#include "tests/moclip_workshop.h"
#include "tests/simt/device/close.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;

moclip::MoClipConfig tiny_config(bool paper) {
    moclip::MoClipConfig config;
    config.text.vocab = 20;
    config.text.context = 6;
    config.text.width = 8;
    config.text.heads = 2;
    config.text.layers = 1;
    config.text.embed_dim = 6;
    config.motion =
        paper ? moclip::MotionEncoderConfig::paper() : moclip::MotionEncoderConfig::reference();
    config.motion.width = 12;
    config.motion.heads = 2;
    config.motion.layers = 1;
    config.motion.part_dim = 4;
    config.motion.hidden_dim = 5;
    config.motion.output_dim = 6;
    config.matrix_scale = paper;
    return config;
}

TEST_CASE("moclip: losses and gradients are the same on both devices, in every mode") {
    struct Mode {
        const char* name;
        bool paper;
        moclip::Pooling pooling;
        int64_t frames;
        bool options = false;  // that neither mode has
    };
    for (const Mode& mode : {Mode{"paper", true, moclip::Pooling::attention, 5},
                             Mode{"valid frames' mean", true, moclip::Pooling::mean_valid, 4},
                             Mode{"reference", false, moclip::Pooling::mean_all, 5},
                             Mode{"options", true, moclip::Pooling::attention, 5, true},
                             Mode{"one frame", false, moclip::Pooling::mean_all, 1}}) {
        CAPTURE(mode.name);
        moclip::MoClipConfig config = tiny_config(mode.paper);
        config.motion.pooling = mode.pooling;
        if (mode.options) {
            config.motion.position_kind = moclip::PositionKind::learned;
            config.motion.standardise = true;
            config.motion.part_table = config.motion.limb_edges = "custom";
            config.motion.parts = moclip::part_table("t2m8_fixed");
            config.motion.edges = {{6, 7}, {0, 1}};
        }
        const Tensor joints = Generator(1).normal({3, mode.frames, 22, 3}, 0, 1, DType::f64);
        const std::vector<int64_t> lengths = {mode.frames, std::max<int64_t>(1, mode.frames - 2),
                                              mode.frames};
        const Tensor ids = Tensor::from_ids({1, 4, 19, 0, 1, 19, 0, 0, 1, 7, 5, 19}, {3, 4});
        const auto learn = [&](DeviceType device, moclip::MoClip& model) {
            model.to(DType::f64);
            model.to(device);
            Generator draws(2);
            Tape tape;
            Tape::Recording recording(tape);
            const Var zm = l2_normalize(model.motion(joints, lengths, {true, &draws}));
            const Var zs = l2_normalize(model.text(ids));
            const Tensor zt =
                l2_normalize(Var(Generator(3).normal({3, 6}, 0, 1, DType::f64).to(device))).value();
            const Var loss =
                model.similarity_loss(zm, zs) + moclip::alignment_loss(zm, zs) +
                moclip::distill_loss(zs, zt,
                                     mode.paper ? moclip::DistillReduction::sample_sum
                                                : moclip::DistillReduction::element_mean);
            tape.backward(loss);
            CHECK(zm.value().device() == device);
            return loss.value().item<double>();
        };
        Generator init(4), again(4);
        moclip::MoClip cpu(config, &init), gpu(config, &again);
        if (mode.options)
            for (moclip::MoClip* each : {&cpu, &gpu})
                each->motion.set_joint_statistics({{0.5, -1, 2}, {2, 0.5, 3}});
        const double want = learn(DeviceType::cpu, cpu), got = learn(kCuda, gpu);
        CHECK(std::fabs(got - want) < 1e-11 * want);
        // f64 sums of some hundred terms, in another order.
        check_same_gradients(gpu, cpu, 1e-9);
    }
}

// One step with the text tower frozen, one with it released.
void check_steps(train::MoClipStage& cpu, train::MoClipStage& gpu) {
    train::AdamW cpu_optimizer({}), gpu_optimizer({});
    cpu_optimizer.add(cpu.model().parameters());
    gpu_optimizer.add(gpu.model().parameters());
    for (int64_t step = 0; step < 2; ++step) {
        CAPTURE(step);
        cpu.prepare(step, cpu_optimizer);
        gpu.load_extra(cpu.extra_state());  // the recall before the release: that it need not
        gpu.prepare(step, gpu_optimizer);   // compute it too
        Generator draws(5), same(5);
        const train::Metrics want = cpu.step(step, draws), got = gpu.step(step, same);
        REQUIRE(want.size() == got.size());
        // f32: sums of some hundred terms, in another order.
        for (const auto& [name, value] : want)
            CHECK(got.at(name) == doctest::Approx(value).epsilon(1e-5).scale(1));
        CHECK(want.contains("distill") == (step == 1));
        check_same_gradients(gpu.model(), cpu.model(), 1e-4);
        cpu_optimizer.clear_gradients();
        gpu_optimizer.clear_gradients();
    }
}

TEST_CASE("moclip stage: learns the same on both devices in both phases") {
    const MoClipWorkshop shop;
    for (const std::vector<std::string>& mode :
         {std::vector<std::string>{"mode=paper"},
          std::vector<std::string>{"mode=reference", "motion.part_table=t2m8_compat"}}) {
        CAPTURE(mode.front());
        std::vector<std::string> settings = {"batch=3", "steps=2"};
        settings.insert(settings.end(), mode.begin(), mode.end());
        const nlohmann::json config = shop.config(settings);
        check_steps(*shop.stage(config), *shop.stage(config, kCuda));
    }
}

TEST_CASE("moclip stage: what began on the CPU goes on on the GPU") {
    const MoClipWorkshop shop;
    const nlohmann::json config = shop.config({"batch=3", "steps=2"});
    train::LoopOptions options = shop.loop(config, shop.scratch.path / "cpu");
    const auto whole = shop.stage(config);
    const train::LoopResult want = run_loop(*whole, options);

    options.out = shop.scratch.path / "both";
    options.steps = 1;
    run_loop(*shop.stage(config), options);
    options.steps = 2;
    options.resume = true;
    const auto resumed = shop.stage(config, kCuda);
    const train::LoopResult got = run_loop(*resumed, options);
    CHECK(resumed->model().device() == kCuda);
    // f32: sums in another order, and two steps of AdamW, which divides by what may be small.
    CHECK(got.train.at("loss") == doctest::Approx(want.train.at("loss")).epsilon(1e-4));
    CHECK(got.validation.at("score") == doctest::Approx(want.validation.at("score")).epsilon(1e-4));
    REQUIRE(resumed->frozen_recall());
    CHECK(resumed->frozen_recall()->at1 == whole->frozen_recall()->at1);
    CHECK(resumed->text_norms().second ==
          doctest::Approx(whole->text_norms().second).epsilon(1e-4));
    const auto written = shop.scratch.path / "text_encoder.safetensors";
    resumed->write_text_encoder(written);
    CHECK(clip::read_text_tower(written).config.width == 16);
}

}  // namespace
}  // namespace mc::testing
