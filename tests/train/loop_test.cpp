#include "train/loop.h"

#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;
using mc::testing::ScratchDir;

namespace {

// The loss of step s is s, its gradient (3, 4), its score what the test says.
struct ScriptedStage : Stage {
    struct Model : nn::Module {
        Var w;
        Model() : w(Tensor::from({1, 1}, {2}), requires_grad) { add_parameter("w", w); }
    } model_;
    std::map<int64_t, double> scores;  // by steps done
    int64_t done = 0;
    std::vector<int64_t> validated;
    std::vector<uint64_t> streams;
    std::string name() const override { return "scripted"; }
    nn::Module& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override {
        done = step + 1;
        streams.push_back(generator.position());
        model_.w.slot()->grad = Tensor::from({3, 4}, {2});
        return {{"loss", static_cast<double>(step)}};
    }
    Metrics validate() override {
        validated.push_back(done);
        const auto found = scores.find(done);
        return {{"score", found == scores.end() ? 9 : found->second}};
    }
    NamedTensors extra_state() override { return {{"done", Tensor::from_ids({done}, {1})}}; }
    void load_extra(const NamedTensors& state) override {
        done = state.at(0).second.to_vector<int64_t>()[0];
    }
};

LoopOptions options_for(const std::filesystem::path& out, int64_t steps) {
    LoopOptions options;
    options.out = out;
    options.steps = steps;
    options.validate_every = 2;
    options.save_every = 100;
    options.log_every = 2;
    options.seed = 11;
    options.rate = [](int64_t) { return 1e-2; };
    options.quiet = true;
    return options;
}

Checkpoint saved(const std::filesystem::path& out, const char* name) {
    return load_checkpoint(out / (std::string(name) + ".safetensors"), "scripted");
}

std::vector<nlohmann::json> records(const std::filesystem::path& out, const char* with) {
    std::vector<nlohmann::json> all;
    std::ifstream log(out / "log.jsonl");
    for (std::string line; std::getline(log, line);)
        if (auto record = nlohmann::json::parse(line); record.contains(with))
            all.push_back(std::move(record));
    return all;
}

}  // namespace

TEST_CASE("loop: the best is the first of the lowest scores, kept when it comes, resumed too") {
    const ScratchDir scratch;
    ScriptedStage stage;
    stage.scores = {{2, 3}, {4, 2}, {6, 2}, {8, 2.5}, {10, 1}};
    LoopOptions options = options_for(scratch.path, 6);
    LoopResult result = run_loop(stage, options);
    CHECK(result.best == 2);
    CHECK(saved(scratch.path, "best").step == 4);  // between the saves, which are each 100
    CHECK(saved(scratch.path, "latest").step == 6);
    CHECK(saved(scratch.path, "latest").best_metric == 2.0);

    ScriptedStage again;
    again.scores = stage.scores;
    options.resume = true;
    options.steps = 8;
    result = run_loop(again, options);
    CHECK(result.best == 2);
    CHECK(saved(scratch.path, "best").step == 4);
    options.steps = 10;
    CHECK(run_loop(again, options).best == 1);
    CHECK(saved(scratch.path, "best").step == 10);
}

TEST_CASE("loop: the last step validates, saves and logs, whatever the intervals") {
    const ScratchDir scratch;
    ScriptedStage stage;
    const LoopResult result = run_loop(stage, options_for(scratch.path, 5));
    CHECK(result.finished);
    CHECK(stage.validated == std::vector<int64_t>{2, 4, 5});
    CHECK(saved(scratch.path, "latest").step == 5);
    const auto losses = records(scratch.path, "loss");
    REQUIRE(losses.size() == 3);
    const double means[] = {0.5, 2.5, 4};  // since the record before
    for (size_t i = 0; i < 3; ++i) {
        CHECK(losses[i]["loss"] == means[i]);
        CHECK(losses[i]["gradient_norm"] == 5);
        CHECK(losses[i]["lr"] == 1e-2);
    }
    CHECK(losses[2]["step"] == 5);
}

TEST_CASE("loop: a run that is resumed at its last step does nothing more") {
    const ScratchDir scratch;
    ScriptedStage stage;
    LoopOptions options = options_for(scratch.path, 4);
    run_loop(stage, options);
    const std::string log = testing::file_bytes(scratch.path / "log.jsonl"),
                      latest = testing::file_bytes(scratch.path / "latest.safetensors");
    for (int64_t steps : {4, 3}) {  // and where fewer are wanted than were done
        options.resume = true;
        options.steps = steps;
        ScriptedStage again;
        const LoopResult result = run_loop(again, options);
        CHECK(result.finished);
        CHECK(result.steps == 4);
        CHECK(result.best == 9);
        CHECK(again.streams.empty());
        CHECK(again.done == 4);  // its extra state was loaded
        CHECK(testing::file_bytes(scratch.path / "log.jsonl") == log);
        CHECK(testing::file_bytes(scratch.path / "latest.safetensors") == latest);
    }
}

TEST_CASE("loop: one process at a time trains in a run folder, and what a killed one left goes") {
    const ScratchDir scratch;
    const std::filesystem::path out = scratch.path / "run";
    std::string while_training;
    struct Curious : ScriptedStage {
        std::function<void()> look;
        Metrics validate() override {
            look();
            return ScriptedStage::validate();
        }
    } stage;
    stage.look = [&] {
        LoopOptions second = options_for(out, 4);
        second.resume = true;
        ScriptedStage other;
        while_training += testing::error_of([&] { run_loop(other, second); }) + "\n" +
                          testing::error_of([&] { check_run(out, true, {}, single_process()); });
        CHECK(other.streams.empty());
    };
    run_loop(stage, options_for(out, 2));
    const std::string said = out.string() +
                             ": another process trains there; wait for it or stop it, or name "
                             "another --out folder";
    CHECK(while_training == said + "\n" + said);

    for (const char* left : {"latest.safetensors.tmp17", "best.safetensors.tmp17", "log.jsonl.tmp2",
                             "mine.tmp17", "latest.safetensors.bak"})
        std::ofstream(out / left) << "half";
    LoopOptions on = options_for(out, 4);
    on.resume = true;
    ScriptedStage again;
    CHECK(run_loop(again, on).steps == 4);
    std::set<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(out))
        files.insert(entry.path().filename().string());
    CHECK(files == std::set<std::string>{"best.safetensors", "latest.safetensors",
                                         "latest.safetensors.bak", "log.jsonl", "mine.tmp17"});
}

TEST_CASE("loop: every step has its own draws; gradients are clipped as a whole") {
    const ScratchDir scratch;
    ScriptedStage stage;
    LoopOptions options = options_for(scratch.path, 1);
    options.clip_norm = 0.5;
    run_loop(stage, options);
    const NamedTensors optimizer = saved(scratch.path, "latest").section("optimizer");
    for (const auto& [name, tensor] : optimizer)
        if (name == "m.w") {  // (1 - beta1) times a gradient of length 0.5
            CHECK(tensor.item<float>({0}) == doctest::Approx(0.1 * 0.3).epsilon(1e-5));
            CHECK(tensor.item<float>({1}) == doctest::Approx(0.1 * 0.4).epsilon(1e-5));
        }
    options.resume = true;
    options.steps = 3;
    run_loop(stage, options);
    CHECK(stage.streams == std::vector<uint64_t>{0, uint64_t{1} << 32, uint64_t{2} << 32});
}
