#include "train/evaluation.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>

#include "kernels/error.h"
#include "motion/features.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"
#include "tests/tiny_evaluator.h"

using namespace mc;
using namespace mc::train;
using motion::FeatureSequence;
using motion::MotionSample;

namespace {

// Walks, jumps, waves and turns of 44 to 50 rows, two captions each, and the tiny evaluator with
// their statistics.
struct Workshop {
    testing::ScratchDir scratch;
    std::vector<MotionSample> samples;
    std::optional<evaluator::PublicEvaluator> evaluator;

    explicit Workshop(int count = 70) {
        motion::FeatureStatistics statistics(263);
        for (int i = 0; i < count; ++i) {
            const auto action = static_cast<testing::Action>(i % testing::kActions);
            MotionSample s;
            s.clip = s.name = "clip" + std::to_string(i);
            s.features = std::make_shared<FeatureSequence>(motion::motion_features(
                testing::synthetic_motion(action, 45 + i % 7, static_cast<uint64_t>(i))));
            s.frames = s.features->frames;
            statistics.add(*s.features);
            for (const char* who : {"person", "someone"}) {
                motion::Caption c;
                c.text = std::string(who) + " " + testing::action_name(action) + "s";
                c.tokens = {std::string(who) + "/NOUN", "walks/VERB"};
                s.captions.push_back(c);
            }
            samples.push_back(std::move(s));
        }
        testing::write_tiny_evaluator(scratch.path, statistics.finish());
        evaluator = evaluator::load_public_evaluator(scratch.path);
    }
};

Workshop& workshop() {
    static Workshop made;
    return made;
}

FeatureSequence still(int64_t frames) {
    return {frames, 263, 20, std::vector<float>(static_cast<size_t>(frames * 263), 0.0f)};
}

// The true motion of every text.
std::vector<FeatureSequence> truth(std::span<const EvaluationText> texts, uint64_t, int64_t) {
    std::vector<FeatureSequence> motions;
    for (const EvaluationText& text : texts) motions.push_back(*text.sample->features);
    return motions;
}

double mean(const std::vector<evaluator::Scores>& scores, size_t row) {
    return evaluator::interval95(metric_rows(scores)[row].values).mean;
}

void check_sane(const evaluator::Scores& s) {
    REQUIRE(s.r_precision.size() == 3);
    CHECK(s.r_precision[0] >= 0);
    CHECK(s.r_precision[0] <= s.r_precision[1]);
    CHECK(s.r_precision[1] <= s.r_precision[2]);
    CHECK(s.r_precision[2] <= 1);
    CHECK(s.matching > 0);
    CHECK(s.diversity > 0);
}

}  // namespace

TEST_CASE("evaluation: the truth is near itself, the same for a seed, another for another") {
    Workshop& w = workshop();
    EvaluationOptions options;
    options.repeats = 3;
    std::vector<int64_t> done;
    options.progress = [&](int64_t at, int64_t total) {
        CHECK(total == 3 * 2 * 64);
        done.push_back(at);
    };
    const Evaluation first = evaluate_motions(*w.evaluator, w.samples, {}, options);
    CHECK(first.texts == 64);  // the last 6 fill no batch
    CHECK(done.back() == 3 * 2 * 64);
    REQUIRE(first.made.size() == 3);
    CHECK(first.real.empty());
    for (const evaluator::Scores& s : first.made) {
        check_sane(s);
        CHECK_FALSE(s.multimodality);
    }
    options.progress = {};
    const Evaluation again = evaluate_motions(*w.evaluator, w.samples, {}, options);
    CHECK(evaluation_json(again) == evaluation_json(first));
    CHECK(first.made[0].fid != first.made[1].fid);  // other crops and captions in a repetition
    options.seed = 1;
    CHECK(evaluation_json(evaluate_motions(*w.evaluator, w.samples, {}, options)) !=
          evaluation_json(first));

    // Motions that do not move are much farther from the truth than the truth is from itself.
    const Evaluation stiff = evaluate_motions(
        *w.evaluator, w.samples,
        [](std::span<const EvaluationText> texts, uint64_t, int64_t) {
            std::vector<FeatureSequence> motions;
            for (const EvaluationText& text : texts) motions.push_back(still(text.frames));
            return motions;
        },
        options);
    CHECK(mean(first.made, 3) >= 0);
    CHECK(mean(stiff.made, 3) > 20 * mean(first.made, 3));
    CHECK(mean(stiff.made, 5) < 0.5 * mean(stiff.real, 5));
}

TEST_CASE("evaluation: what a source is asked, and where its motions go") {
    Workshop& w = workshop();
    EvaluationOptions options;
    options.repeats = 2;
    options.takes = 4;
    options.multimodality_batches = 1;
    options.progress = [](int64_t, int64_t total) { CHECK(total == 2 * (2 * 64 + 3 * 32)); };
    std::vector<int64_t> takes;
    std::set<uint64_t> seeds;
    std::set<const motion::Caption*> captions;
    std::set<int64_t> frames;
    const EvaluationSource source = [&](std::span<const EvaluationText> texts, uint64_t seed,
                                        int64_t take) {
        CHECK(texts.size() == 32);
        takes.push_back(take);
        seeds.insert(seed);
        for (const EvaluationText& text : texts) {
            captions.insert(text.caption);
            frames.insert(text.frames);
        }
        return truth(texts, seed, take);
    };
    const Evaluation made = evaluate_motions(*w.evaluator, w.samples, source, options);
    CHECK(takes == std::vector<int64_t>{0, 1, 2, 3, 3, 1, 2, 3, 4, 4});
    CHECK(seeds.size() == takes.size());
    CHECK(captions.size() > 90);  // of 140, two draws of 64 times one of two
    CHECK(frames == std::set<int64_t>{40, 44, 48});
    REQUIRE(made.real.size() == 2);
    for (const evaluator::Scores& s : made.made) {
        check_sane(s);
        CHECK(s.multimodality.value() < 1e-6);  // all takes are the same motion
    }
    CHECK_FALSE(made.real[0].fid);
    options.takes = 0;
    options.progress = {};
    CHECK_FALSE(evaluate_motions(*w.evaluator, w.samples, truth, options).made[0].multimodality);

    const std::string table = evaluation_table(made, "mine");
    for (const char* part : {"real motions", "mine", "R-precision top 3", "FID", "MM-Dist",
                             "Diversity", "MultiModality", "64 texts", "2 repetitions", "+-"})
        CHECK(table.find(part) != std::string::npos);
    const nlohmann::json json = evaluation_json(made);
    CHECK(json["made"]["fid"]["values"].size() == 2);
    CHECK_FALSE(json["real"].contains("fid"));
}

TEST_CASE("evaluation: a motion is scored in the evaluator's own units, cut to whole units") {
    Workshop& w = workshop();
    EvaluationOptions options;
    options.repeats = 1;
    options.takes = 0;
    // Rows beyond a multiple of 4, or beyond 196 frames, are not seen.
    const auto longer = [&](int64_t more) {
        return evaluation_json(evaluate_motions(
            *w.evaluator, w.samples,
            [&](std::span<const EvaluationText> texts, uint64_t, int64_t) {
                std::vector<FeatureSequence> motions;
                for (size_t i = 0; i < texts.size(); ++i) motions.push_back(still(196 + more));
                return motions;
            },
            options));
    };
    CHECK(longer(0) == longer(3));
    CHECK(longer(0) == longer(40));
    CHECK(longer(0) == longer(0));
    CHECK(longer(0) != longer(-4));
    // The true motion of one length, crop and caption: the same score as the truth has itself.
    std::vector<MotionSample> plain = w.samples;
    for (MotionSample& s : plain) {
        s.captions.resize(1);
        s.frames = 4;  // never "double", one place alone
    }
    const Evaluation same = evaluate_motions(
        *w.evaluator, plain,
        [](std::span<const EvaluationText> texts, uint64_t, int64_t) {
            std::vector<FeatureSequence> motions;
            for (const EvaluationText& text : texts) {
                motions.push_back(*text.sample->features);
                motions.back().frames = 4;
            }
            return motions;
        },
        options);
    CHECK(same.made[0].r_precision == same.real[0].r_precision);
    CHECK(same.made[0].matching == same.real[0].matching);
    // Of equal covariances the two traces cancel but for rounding in f64.
    CHECK(std::abs(same.made[0].fid.value()) < 1e-9);
}

TEST_CASE("evaluation: bad input is an error that says what is wrong") {
    Workshop& w = workshop();
    const auto refuses = [&](const std::vector<MotionSample>& samples,
                             const EvaluationSource& source, const char* what,
                             EvaluationOptions options = {}) {
        options.repeats = std::min<int64_t>(options.repeats, 1);
        CHECK_THROWS_WITH_AS(evaluate_motions(*w.evaluator, samples, source, options),
                             doctest::Contains(what), Error);
    };
    const std::vector<MotionSample> few(w.samples.begin(), w.samples.begin() + 31);
    refuses(few, {}, "31 motions do not fill a pool of 32");
    refuses({}, {}, "0 motions do not fill a pool");
    EvaluationOptions options;
    options.repeats = 0;
    refuses(w.samples, {}, "repeats: got 0", options);
    options.repeats = 1;
    options.takes = 1;
    refuses(w.samples, truth, "takes: got 1", options);
    const auto gives = [](const FeatureSequence& motion, size_t fewer = 0) {
        return [motion, fewer](std::span<const EvaluationText> texts, uint64_t, int64_t) {
            return std::vector<FeatureSequence>(texts.size() - fewer, motion);
        };
    };
    refuses(w.samples, gives(still(40), 1), "got 31 motions for 32 texts");
    refuses(w.samples, gives(still(3)), "is (3, 263), want at least 4 frames");
    refuses(w.samples, gives({4, 251, 20, std::vector<float>(4 * 251)}), "is (4, 251)");
    std::vector<MotionSample> odd = w.samples;
    for (MotionSample& s : odd)
        for (motion::Caption& c : s.captions) c.tokens = {"walks"};
    refuses(odd, {}, "token \"walks\" is not word/POS");
    // One caption of them all, that few repetitions would draw.
    odd = w.samples;
    odd[3].captions.assign(200, odd[3].captions[0]);
    odd[3].captions.back().tokens = {"walks"};
    refuses(odd, {}, "token \"walks\" is not word/POS");
    for (MotionSample& s : odd)
        for (motion::Caption& c : s.captions) c.tokens.clear();
    refuses(odd, {}, "no caption has tokens");
    for (MotionSample& s : odd)
        s.features = std::make_shared<FeatureSequence>(
            FeatureSequence{60, 251, 12.5, std::vector<float>(60 * 251)});
    odd[0].captions[0].tokens = {"a/DET"};
    refuses(odd, {}, "251 columns, the evaluator takes 263");
}
