// CLIP's text tower and its training, on the GPU and on the CPU.
#include "models/clip/clip_text_encoder.h"
#include "tests/simt/device/close.h"
#include "tests/synthetic_teacher.h"
#include "tests/test_paths.h"
#include "train/text_stage.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;

clip::Tokenizer tiny_tokenizer() {
    return clip::Tokenizer::from_memory("#version: 0.2\nt h\nth e</w>\na n\nan d</w>\n");
}

clip::TextConfig tiny_config() {
    clip::TextConfig config;
    config.vocab = tiny_tokenizer().vocab_size();
    config.context = 10;
    config.width = 16;
    config.heads = 2;
    config.layers = 2;
    config.embed_dim = 6;
    return config;
}

TEST_CASE("clip: a text tower learns the same on both devices") {
    const Tensor ids = Tensor::from_ids({516, 9, 4, 517, 0, 516, 7, 517, 0, 0}, {2, 5});
    const auto learn = [&](DeviceType device, clip::TextTransformer& tower) {
        tower.to(DType::f64);
        tower.to(device);
        Tape tape;
        Tape::Recording recording(tape);
        const Var sentences = tower(ids), words = tower.words(ids);
        tape.backward(mean(square(sentences)) + mean(square(words)));
        return std::pair(sentences.value(), words.value());
    };
    Generator init(3), again(3);
    clip::TextTransformer cpu(tiny_config(), &init), gpu(tiny_config(), &again);
    const auto [sentences, words] = learn(DeviceType::cpu, cpu);
    const auto [got_sentences, got_words] = learn(kCuda, gpu);
    CHECK(got_sentences.device() == kCuda);
    // f64 sums of some hundred terms, in another order.
    CHECK(worst(got_sentences, sentences) < 1e-11);
    CHECK(worst(got_words, words) < 1e-11);
    check_same_gradients(gpu, cpu, 1e-9);
}

TEST_CASE("clip: prompts become the same embeddings on both devices") {
    Generator init(4);
    clip::TextTransformer tower(tiny_config(), &init);
    clip::ClipTextEncoder cpu(tiny_config(), tower.state(), tiny_tokenizer()),
        gpu(tiny_config(), tower.state(), tiny_tokenizer());
    gpu.to(kCuda);
    const std::vector<std::string> prompts = {"the and", "", "an", "the and",
                                              "more words than the context has place for"};
    const Tensor got = gpu.encode(prompts), words = gpu.words(prompts);
    CHECK(got.device() == DeviceType::cpu);
    CHECK(words.device() == DeviceType::cpu);
    // f32, two layers of sums of 64 terms at most.
    CHECK(worst(got, cpu.encode(prompts)) < 1e-5);
    CHECK(worst(words, cpu.words(prompts)) < 1e-5);
    CHECK(gpu.warnings().size() == 1);
}

TEST_CASE("text stage: learns the same on both devices, and goes on from one on the other") {
    const ScratchDir dir;
    write_teacher(dir.path);
    const train::TextTeacher teacher = train::read_text_teacher(dir.path);
    const nlohmann::json config = train::resolve_config(
        train::text_presets(), "small", {},
        {"model.width=8", "model.layers=1", "model.heads=2", "model.embed_dim=6",
         "model.context=10", "batch=8", "group=5", "motion_sentences=20", "held_out_percent=20",
         "lr=1e-2", "warm_up=0", "steps=2", "validate_every=2", "save_every=1"});
    train::TextStage cpu(config, teacher, tiny_tokenizer()),
        gpu(config, teacher, tiny_tokenizer(), kCuda);
    Generator draws(1);
    const train::Metrics want = cpu.step(0, draws), got = gpu.step(0, draws);
    // f32: sums of some hundred terms, in another order.
    for (const auto& [name, value] : want)
        CHECK(got.at(name) == doctest::Approx(value).epsilon(1e-5));
    check_same_gradients(gpu.model(), cpu.model(), 1e-4);
    const train::Metrics held = cpu.validate(), scored = gpu.validate();
    for (const auto& [name, value] : held)
        CHECK(scored.at(name) == doctest::Approx(value).epsilon(1e-5));

    train::LoopOptions options = train::text_loop_options(config, dir.path / "run");
    options.quiet = true;
    options.steps = 1;
    run_loop(cpu, options);
    options.steps = 2;
    options.resume = true;
    CHECK(run_loop(gpu, options).steps == 2);
    CHECK(gpu.model().device() == kCuda);
    const auto written = train::export_text_encoder(dir.path / "run", config, tiny_tokenizer());
    CHECK(clip::read_text_tower(written).config.width == 8);
}

}  // namespace
}  // namespace mc::testing
