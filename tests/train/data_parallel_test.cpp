#include "train/data_parallel.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <mutex>

#include "models/vq/rvq_vae.h"
#include "tests/moclip_workshop.h"
#include "tests/thread_ranks.h"

using namespace mc;
using namespace mc::train;
using mc::testing::run_ranks;

namespace {

double greatest(const Tensor& t) {
    double size = 0;
    for (const double x : t.to(DType::f64).to_vector<double>()) size = std::max(size, std::fabs(x));
    return size;
}

// The greatest difference, relative to the greatest of `want`, or to `least` where that is more.
double worst(const Tensor& got, const Tensor& want, double least = 0) {
    REQUIRE(got.shape() == want.shape());
    const auto a = got.to(DType::f64).to_vector<double>(),
               b = want.to(DType::f64).to_vector<double>();
    double difference = 0;
    for (size_t i = 0; i < a.size(); ++i) difference = std::max(difference, std::fabs(a[i] - b[i]));
    const double size = std::max(least, greatest(want));
    return size > 0 ? difference / size : difference;
}

std::map<std::string, Tensor> gradients(nn::Module& model) {
    std::map<std::string, Tensor> all;
    for (const auto& [name, parameter] : model.parameters())
        if (parameter->grad().defined()) all[name] = parameter->grad().clone();
    return all;
}

void check_same(const std::map<std::string, Tensor>& got, const std::map<std::string, Tensor>& want,
                double tolerance) {
    REQUIRE(got.size() == want.size());
    double least = 0;  // one that is rounding alone (of a bias that a softmax undoes)
    for (const auto& [name, tensor] : want) least = std::max(least, 1e-3 * greatest(tensor));
    for (const auto& [name, tensor] : want) {
        CAPTURE(name);
        CHECK(worst(got.at(name), tensor, least) <= tolerance);
    }
}

// Unlike tests/error_of.h: an Error of another rank has no text.
std::string outcome_of(const std::function<void()>& work) {
    try {
        work();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "no error";
}

}  // namespace

TEST_CASE("data parallel: gradients are averaged in buckets of any size") {
    for (const int64_t bucket : {1, 40, 1 << 20})
        run_ranks(3, [&](Communicator& ranks) {
            std::vector<std::pair<std::string, Var*>> parameters;
            std::vector<Var> values;
            for (const DType dtype : {DType::f32, DType::f32, DType::f64, DType::f64, DType::f32})
                values.emplace_back(Tensor::zeros({2, 3}, dtype), requires_grad);
            for (Var& value : values) parameters.emplace_back("p", &value);
            for (size_t i = 0; i < 4; ++i) {                // the last has none anywhere
                if (i == 1 && ranks.rank() != 1) continue;  // the second on one rank alone
                values[i].slot()->grad = Tensor::full(
                    {2, 3}, 3.0 * ranks.rank() + static_cast<double>(i), values[i].dtype());
            }
            average_gradients(parameters, ranks, bucket);
            const auto all = [&](size_t i) { return values[i].grad().to(DType::f64); };
            CHECK(all(0).to_vector<double>() == std::vector<double>(6, 3));
            CHECK(worst(all(1), Tensor::full({2, 3}, 4.0 / 3, DType::f64)) < 1e-7);
            CHECK(all(2).to_vector<double>() == std::vector<double>(6, 5));
            CHECK(all(3).to_vector<double>() == std::vector<double>(6, 6));
            CHECK_FALSE(values[4].grad().defined());
        });
}

TEST_CASE("data parallel: what fails on one rank ends all, and is said once") {
    run_ranks(3, [](Communicator& ranks) {
        const std::string said = outcome_of([&] {
            together(ranks, [&] {
                if (ranks.rank() > 0) throw Error("rank " + std::to_string(ranks.rank()));
            });
        });
        CHECK(said == (ranks.rank() == 1 ? "rank 1" : ""));
        const std::string same = outcome_of([&] { alike(ranks, [] { throw Error("nan"); }); });
        CHECK(same == (ranks.first() ? "nan" : ""));
        CHECK(outcome_of([&] { want_same(7, "differ", ranks); }) == "no error");
        CHECK(any(ranks.rank() == 2, ranks));
        CHECK_FALSE(any(false, ranks));
        Metrics metrics = {{"loss", ranks.rank()}};
        average(metrics, ranks);
        CHECK(metrics.at("loss") == doctest::Approx(1));
    });
    CHECK(outcome_of([] { together(single_process(), [] { throw Error("alone"); }); }) == "alone");
}

// Two ranks with half of the batch each against one with all of it. f64: what differs is the order
// of sums of some hundred terms, which decides no argmax here.
TEST_CASE("data parallel: a tokenizer's codebooks and gradients are those of one process") {
    vq::RvqConfig config;
    config.net.dim_pose = 23;
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 8;
    config.net.depth = 1;
    config.net.dropout = 0;
    config.quantizer.nb_code = 6;
    config.quantizer.num_quantizers = 3;
    config.quantizer.mu = 0.5;  // codes die soon
    int64_t steps = 3;
    SUBCASE("codes sampled, layers dropped") {}
    SUBCASE("fewer rows than codes") {
        config.quantizer.nb_code = 23;
    }
    SUBCASE("one codebook, reset at times") {
        config.quantizer.num_quantizers = 1;
        config.quantizer.periodic_reset = true;
        steps = 23;
    }
    const auto learn = [&](Communicator& ranks, std::map<std::string, Tensor>& grads) {
        Generator init(3);
        vq::RvqVae model(config, &init);
        model.to(DType::f64);
        for (int64_t step = 0; step < steps; ++step) {
            for (const auto& [name, parameter] : model.parameters()) parameter->clear_grad();
            Generator generator(5, static_cast<uint64_t>(step) << 32);
            GeneratorSource draws(generator);
            const Tensor all =
                Generator(7, static_cast<uint64_t>(step)).normal({5, 16, 23}, 0, 1, DType::f64);
            const Share share = ranks.share(5);  // unequal
            const Var target(all.slice(0, share.begin, share.end).contiguous());
            Tape tape;
            Tape::Recording recording(tape);
            const vq::RvqOutput out = model.train(target, {true, &generator}, draws, ranks);
            tape.backward(scale(model.loss(out, target), ranks.weight(share)));
            average_gradients(model.parameters(), ranks);
        }
        grads = gradients(model);
        std::map<std::string, Tensor> state = model.quantizer().training_state();
        for (const auto& [name, tensor] : model.state())
            if (name.find("codebook") != std::string::npos) state[name] = tensor;
        return state;
    };
    std::map<std::string, Tensor> want_grads;
    const auto want = learn(single_process(), want_grads);
    CHECK(want.size() >= 3);
    run_ranks(2, [&](Communicator& ranks) {
        std::map<std::string, Tensor> grads;
        check_same(learn(ranks, grads), want, 1e-9);
        check_same(grads, want_grads, 1e-9);
    });
}

// f32: each value is a sum of up to some thousand products in another order, so 2^-24 times the
// root of their number, times what normalisations and softmax make of it.
TEST_CASE("data parallel: MoCLIP's loss and gradients are those of the whole batch") {
    const testing::MoClipWorkshop shop;
    const auto config = shop.config({"batch=8", "motion.dropout=0", "frozen_share=0.5"});
    for (const int64_t step : {0, 6}) {  // either phase
        CAPTURE(step);
        const auto learn = [&](Communicator& ranks, Metrics& metrics) {
            const auto stage = shop.stage(config);
            stage->set_ranks(ranks);
            AdamW optimizer({});
            optimizer.add(stage->model().parameters());
            stage->prepare(step, optimizer);
            Generator generator(3407, static_cast<uint64_t>(step) << 32);
            metrics = stage->step(step, generator);
            average(metrics, ranks);
            average_gradients(stage->model().parameters(), ranks);
            return gradients(stage->model());
        };
        Metrics want_metrics;
        const auto want = learn(single_process(), want_metrics);
        CHECK(want.size() > 20);
        for (const int size : {2, 3})  // 3: shares of 2, 3 and 3
            run_ranks(size, [&](Communicator& ranks) {
                Metrics metrics;
                check_same(learn(ranks, metrics), want, 2e-5);
                for (const auto& [key, value] : want_metrics)
                    CHECK(metrics.at(key) == doctest::Approx(value).epsilon(1e-5));
            });
    }
}

TEST_CASE("data parallel: a run of two ranks is that of one, and resumes to the bit") {
    const testing::MoClipWorkshop shop;
    const auto config = shop.config({"motion.dropout=0", "batch=8", "log_every=1"});
    const auto run = [&](const std::string& name, int size, int64_t steps, bool resume) {
        nn::TensorMap state;
        std::mutex mutex;
        run_ranks(size, [&](Communicator& ranks) {
            const auto stage = shop.stage(config);
            stage->set_ranks(ranks);
            LoopOptions options = shop.loop(config, shop.scratch.path / name);
            options.steps = steps;
            options.resume = resume;
            options.log_every = 1;
            CHECK(run_loop(*stage, options).finished);
            const std::lock_guard lock(mutex);
            for (const auto& [key, tensor] : stage->model().state()) {
                const auto [at, fresh] = state.try_emplace(key, tensor.clone());
                if (!fresh) CHECK(at->second.to_vector<float>() == tensor.to_vector<float>());
            }
        });
        return state;
    };
    const auto losses = [&](const std::string& name) {
        std::vector<double> all;
        std::ifstream log(shop.scratch.path / name / "log.jsonl");
        for (std::string line; std::getline(log, line);) {
            const auto record = nlohmann::json::parse(line);
            if (record.contains("loss")) all.push_back(record.at("loss"));
        }
        return all;
    };
    run("one", 1, 8, false);
    const nn::TensorMap two = run("two", 2, 8, false);
    const std::vector<double> one_loss = losses("one"), two_loss = losses("two");
    REQUIRE(one_loss.size() == 8);
    REQUIRE(two_loss.size() == 8);
    // The losses' own rounding, 2e-7, and that of the gradients, of which AdamW makes more.
    for (size_t i = 0; i < 8; ++i) CHECK(two_loss[i] == doctest::Approx(one_loss[i]).epsilon(1e-5));
    for (const int64_t stop : {3, 5}) {
        const std::string name = "stop" + std::to_string(stop);
        run(name, 2, stop, false);
        for (const auto& [key, tensor] : run(name, 2, 8, true))
            CHECK_MESSAGE(tensor.to_vector<float>() == two.at(key).to_vector<float>(), key);
    }
}

namespace {

// Loss w^2, NaN on one rank at step 2, stopped by a signal to one rank at step 5.
struct ToyStage : Stage {
    struct Model : nn::Module {
        Var w;
        Model() : w(Tensor::full({1}, 1), requires_grad) { add_parameter("w", w); }
    } model_;
    int64_t nan_at = -1, signal_at = -1;
    std::string name() const override { return "toy"; }
    nn::Module& model() override { return model_; }
    Metrics step(int64_t step, Generator&) override {
        Tape tape;
        Tape::Recording recording(tape);
        const Var loss = sum(square(model_.w));
        tape.backward(loss);
        if (step == signal_at && ranks().rank() == 1) ::raise(SIGTERM);
        const bool bad = step == nan_at && ranks().rank() == 1;
        return {{"loss", bad ? std::numeric_limits<double>::quiet_NaN()
                             : static_cast<double>(loss.value().item<float>())}};
    }
    Metrics validate() override {
        CHECK(ranks().first());
        return {{"score", 1}};
    }
};

LoopOptions toy_options(const std::filesystem::path& out) {
    LoopOptions options;
    options.out = out;
    options.config = {{"batch", 2}};
    options.steps = 10;
    options.validate_every = options.save_every = 2;
    options.rate = [](int64_t) { return 1e-2; };
    options.quiet = true;
    return options;
}

}  // namespace

TEST_CASE("data parallel: a NaN or a signal on one rank stops all at the same step") {
    const testing::ScratchDir scratch;
    run_ranks(2, [&](Communicator& ranks) {
        ToyStage stage;
        stage.set_ranks(ranks);
        LoopOptions options = toy_options(scratch.path / "nan");
        stage.nan_at = 3;
        const std::string said = outcome_of([&] { run_loop(stage, options); });
        CHECK(said.find(ranks.first() ? "step 4: loss is nan" : "") == 0);
        CHECK(said.empty() == !ranks.first());
        options.out = scratch.path / "signal";
        stage.nan_at = -1;
        stage.signal_at = 5;
        const LoopResult result = run_loop(stage, options);
        CHECK(result.steps == 6);
        CHECK_FALSE(result.finished);
    });
    CHECK(load_checkpoint(scratch.path / "nan" / "latest.safetensors", "toy").step == 2);
    CHECK(load_checkpoint(scratch.path / "signal" / "latest.safetensors", "toy").step == 6);
}

TEST_CASE("data parallel: the batch is of all processes, and the run folder is shared") {
    const testing::ScratchDir scratch;
    run_ranks(2, [&](Communicator& ranks) {
        ToyStage stage;
        stage.set_ranks(ranks);
        LoopOptions options = toy_options(scratch.path / "run");
        options.config = {{"batch", 7}};
        const std::string said = outcome_of([&] { run_loop(stage, options); });
        CHECK(said == (ranks.first() ? "batch=7 is of all 2 processes and no multiple of their "
                                       "number; set batch=8"
                                     : ""));
        options.config = {{"batch", 6}};
        CHECK(run_loop(stage, options).finished);
        ranks.barrier();
        options.resume = true;
        if (!ranks.first()) options.out = scratch.path / "elsewhere";
        const std::string apart = outcome_of([&] { run_loop(stage, options); });
        CHECK(apart.find(ranks.first() ? "" : "must be on a disk") != std::string::npos);
    });
}
