// The motion tower as a judge, and the generator that asks it.
#include "models/best_of.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/ops.h"
#include "models/config_json.h"
#include "tests/synthetic_motion.h"

using namespace mc;

namespace {

constexpr int64_t kWidth = 16;

moclip::MotionEncoderConfig tiny() {
    moclip::MotionEncoderConfig config = moclip::MotionEncoderConfig::paper();
    config.width = 24;
    config.layers = 1;
    config.heads = 4;
    config.part_dim = config.hidden_dim = 8;
    config.output_dim = kWidth;
    return config;
}

// A prompt's embedding: numbers of the generator that its letters seed, but for the first `broken`
// calls nan.
class Words : public TextEncoder {
  public:
    explicit Words(int64_t broken = 0) : broken_(broken) {}
    void to(DeviceType) override {}
    int64_t width() const override { return kWidth; }
    Tensor encode(const std::vector<std::string>& prompts) override {
        Tensor all = Tensor::empty({static_cast<int64_t>(prompts.size()), kWidth});
        for (size_t i = 0; i < prompts.size(); ++i) {
            uint64_t seed = 1;
            for (const char c : prompts[i]) seed = 31 * seed + static_cast<unsigned char>(c);
            all.slice(0, static_cast<int64_t>(i), static_cast<int64_t>(i) + 1)
                .copy_(Generator(seed).normal({1, kWidth}));
        }
        if (broken_-- > 0) all.fill_(std::nan(""));
        return all;
    }
    int64_t word_width() const override { return kWidth; }
    Tensor words(const std::vector<std::string>&) override { return {}; }
    const std::vector<std::string>& warnings() const override { return warnings_; }

  private:
    int64_t broken_;
    std::vector<std::string> warnings_;
};

motion::FeatureSequence walk(uint64_t seed) {
    motion::FeatureSequence motion;
    motion.dims = 263;
    motion.fps = 20;
    motion.frames = 24 + 4 * static_cast<int64_t>(seed % 5);
    const Tensor rows = Generator(seed).normal({motion.frames, motion.dims});
    motion.rows.assign(rows.data<float>(), rows.data<float>() + rows.numel());
    return motion;
}

// "Generates" what its seed and the request's place say.
class Seeded : public MotionGenerator {
  public:
    void to(DeviceType) override {}
    std::vector<motion::FeatureSequence> generate(const std::vector<GenerationRequest>& requests,
                                                  const GenerationOptions& options) override {
        seeds.push_back(options.seed);
        std::vector<motion::FeatureSequence> out;
        for (size_t i = 0; i < requests.size(); ++i) out.push_back(walk(options.seed + i));
        return out;
    }
    const StageSeconds& stage_seconds() const override { return seconds_; }
    const std::vector<std::string>& warnings() const override { return warnings_; }
    double fps() const override { return 20; }
    int64_t dims() const override { return 263; }
    int64_t unit() const override { return 4; }
    int64_t max_frames() const override { return 196; }

    std::vector<uint64_t> seeds;

  private:
    StageSeconds seconds_ = {{"tokens", 1.0}, {"decode", 0.5}};
    std::vector<std::string> warnings_ = {"too long"};
};

motion::Normalisation plain() {
    motion::Normalisation normalisation;
    normalisation.mean.assign(263, 0.25);
    normalisation.std.assign(263, 2.0);
    return normalisation;
}

moclip::MotionScorer scorer(int64_t broken = 0) {
    Generator init(9);
    return {std::make_shared<Words>(broken), std::make_unique<moclip::MotionEncoder>(tiny(), &init),
            plain()};
}

}  // namespace

TEST_CASE("motion scorer: the cosine of the two embeddings, each motion by itself") {
    Generator init(9);
    const moclip::MotionEncoder tower(tiny(), &init);
    moclip::MotionScorer judge = scorer();
    const std::vector<std::string> prompts = {"a person walks", "a person sits"};
    const std::vector<motion::FeatureSequence> motions = {walk(3), walk(4)};
    const std::vector<double> together = judge(prompts, motions);
    REQUIRE(together.size() == 2);
    for (size_t i = 0; i < 2; ++i) {
        std::vector<float> rows(motions[i].rows.size());
        plain().normalise(motions[i].rows.data(), rows.data(), motions[i].frames);
        Tensor joints = Tensor::zeros({1, motions[i].frames, 22, 3});
        moclip::joints_for_encoder(tiny().input_space, plain(), rows.data(), motions[i].frames,
                                   motions[i].frames, joints.data<float>());
        const Tensor seen = tower(joints, {motions[i].frames}, {}).value();
        const Tensor said = Words().encode({prompts[i]});
        double dot = 0, a = 0, b = 0;
        for (int64_t e = 0; e < kWidth; ++e) {
            const double x = seen.item<float>({0, e}), y = said.item<float>({0, e});
            dot += x * y;
            a += x * x;
            b += y * y;
        }
        CHECK(std::abs(together[i] - dot / std::sqrt(a * b)) < 1e-6);  // f32 against f64 sums
        CHECK(judge({prompts[i]}, {motions[i]})[0] == together[i]);
    }
    CHECK_THROWS_WITH_AS(judge({"one"}, motions), "[moclip] 2 motions for 1 prompts", Error);
}

TEST_CASE("motion scorer: towers that are not of one MoCLIP are refused") {
    moclip::MotionEncoderConfig other = tiny();
    other.output_dim = kWidth + 1;
    CHECK_THROWS_WITH_AS(
        moclip::MotionScorer(std::make_shared<Words>(),
                             std::make_unique<moclip::MotionEncoder>(other, nullptr), plain()),
        "[moclip] the motion tower embeds in 17 numbers, the text tower in 16; they are not of one "
        "MoCLIP",
        Error);
    other = tiny();
    other.part_table = "kit6";
    CHECK_THROWS_WITH_AS(
        moclip::MotionScorer(std::make_shared<Words>(),
                             std::make_unique<moclip::MotionEncoder>(other, nullptr), plain()),
        "[moclip] the motion tower's part table kit6 is of 21 joints, the motions have 22", Error);
}

TEST_CASE("best of several: the one that fits best, the first alone unchanged") {
    auto inner = std::make_unique<Seeded>();
    Seeded& seeded = *inner;
    BestOfGenerator generator(std::move(inner), scorer());
    const std::vector<GenerationRequest> requests = {{"a person walks", {}}, {"a person sits", {}}};
    GenerationOptions options;
    options.seed = 5;
    options.candidates = 1;
    const auto alone = generator.generate(requests, options);
    CHECK(alone[0].rows == walk(5).rows);
    CHECK(alone[1].rows == walk(6).rows);
    CHECK(generator.stage_seconds()[0] == std::pair<std::string, double>{"tokens", 1.0});

    options.candidates = 6;
    seeded.seeds.clear();
    const auto best = generator.generate(requests, options);
    REQUIRE(seeded.seeds.size() == 6);
    CHECK(seeded.seeds[0] == 5);
    moclip::MotionScorer judge = scorer();
    for (size_t i = 0; i < 2; ++i) {
        double most = -2;
        size_t which = 0;
        for (size_t k = 0; k < 6; ++k) {
            const double fit = judge({requests[i].prompt}, {walk(seeded.seeds[k] + i)})[0];
            if (fit > most) which = k;
            most = std::max(most, fit);
        }
        CHECK(generator.scores()[i] == most);
        CHECK(best[i].rows == walk(seeded.seeds[which] + i).rows);
    }
    CHECK(generator.stage_seconds()[0] == std::pair<std::string, double>{"tokens", 6.0});
    CHECK(generator.stage_seconds()[1] == std::pair<std::string, double>{"decode", 3.0});
    CHECK(generator.stage_seconds()[2].first == "score");
    CHECK(generator.warnings() == std::vector<std::string>{"too long"});

    options.candidates = 0;
    CHECK_THROWS_WITH_AS(generator.generate(requests, options),
                         "[generate] 0 candidates, want at least 1", Error);
}

TEST_CASE("best of several: a score that is nan is never the best") {
    const std::vector<GenerationRequest> requests = {{"a person walks", {}}, {"a person sits", {}}};
    GenerationOptions options;
    options.seed = 5;
    options.candidates = 4;
    auto inner = std::make_unique<Seeded>();
    const Seeded& seeded = *inner;
    BestOfGenerator generator(std::move(inner), scorer(2));
    const auto best = generator.generate(requests, options);
    moclip::MotionScorer judge = scorer();
    for (size_t i = 0; i < 2; ++i) {
        const auto fit = [&](size_t k) {
            return judge({requests[i].prompt}, {walk(seeded.seeds[k] + i)})[0];
        };
        CHECK(generator.scores()[i] == std::max(fit(2), fit(3)));
        CHECK(best[i].rows == walk(seeded.seeds[fit(2) >= fit(3) ? 2 : 3] + i).rows);
    }
    BestOfGenerator none(std::make_unique<Seeded>(), scorer(4));
    CHECK_THROWS_WITH_AS(none.generate(requests, options),
                         "[generate] \"a person walks\": the score of each of 4 candidates is "
                         "nan, so that none is the best; try another seed or --precision fp32",
                         Error);
}

TEST_CASE("a motion tower's configuration goes through JSON and back") {
    moclip::MotionEncoderConfig config = tiny();
    config.pooling = moclip::Pooling::mean_valid;
    const nlohmann::json json = to_json(config);
    CHECK(json["input_space"] == "metric_root_relative");
    CHECK(json["pe_axis"] == "time");
    const moclip::MotionEncoderConfig again = motion_encoder_config(json, "here");
    CHECK(to_json(again) == json);
    CHECK(again.pooling == moclip::Pooling::mean_valid);

    // A program from before a key was there reads what does not need it.
    CHECK_FALSE(json.contains("pe_kind"));
    config.position_kind = moclip::PositionKind::learned;
    config.position_rows = 99;
    CHECK(to_json(config)["pe_kind"] == "learned");
    CHECK(motion_encoder_config(to_json(config), "here").position_rows == 99);

    nlohmann::json broken = json;
    broken["pooling"] = "median";
    CHECK_THROWS_WITH_AS(motion_encoder_config(broken, "here"),
                         "here: configuration key pooling is \"median\", want one of mean_all, "
                         "mean_valid, attention",
                         Error);
    broken = json;
    broken["part_table"] = 6;
    CHECK_THROWS_WITH_AS(motion_encoder_config(broken, "here"),
                         "here: configuration key part_table has the wrong type: 6, want a text",
                         Error);
    broken = json;
    broken["limb_edges"] = "all";
    broken["limb_attention"] = false;
    CHECK_THROWS_WITH_AS(motion_encoder_config(broken, "here"),
                         doctest::Contains("here: [moclip] limb edges all, want"), Error);
    broken = json;
    broken["part_table"] = "t2m7";
    CHECK_THROWS_WITH_AS(motion_encoder_config(broken, "here"),
                         doctest::Contains("here: [moclip] part table t2m7, want"), Error);
    broken = json;
    broken["heads"] = 5;
    CHECK_THROWS_AS(motion_encoder_config(broken, "here"), Error);
}
