#include "train/evaluation.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/error.h"
#include "tensor/generator.h"

namespace mc::train {
namespace {

using evaluator::PublicEvaluator;
using evaluator::Scores;
using motion::FeatureSequence;
using motion::MotionSample;

constexpr int64_t kPool = 32;        // texts a batch, which is the pool of R-precision
constexpr int64_t kMaxFrames = 196;  // what the evaluator is shown, whatever the motion's length

// A batch of motions for the evaluator.
struct MotionBatch {
    Tensor rows;                  // (B, kMaxFrames, D), normalised, then zeros
    std::vector<int64_t> frames;  // (B)
};

MotionBatch empty_batch(int64_t count, int64_t dims) {
    return {Tensor::zeros({count, kMaxFrames, dims}), {}};
}

float* row_of(MotionBatch& batch, size_t i) {
    return batch.rows.data<float>() + static_cast<int64_t>(i) * kMaxFrames * batch.rows.size(2);
}

// Embeddings of one pass over the data, batch after batch.
class Embeddings {
  public:
    void add(const Tensor& batch) {  // (B, E)
        const auto more = batch.to_vector<float>();
        values_.insert(values_.end(), more.begin(), more.end());
        width_ = batch.size(1);
    }
    Tensor tensor() const {  // (N, E)
        return Tensor::from_span<float>(values_,
                                        {static_cast<int64_t>(values_.size()) / width_, width_});
    }

  private:
    std::vector<float> values_;
    int64_t width_ = 1;
};

class Evaluating {
  public:
    Evaluating(const PublicEvaluator& evaluator, const std::vector<MotionSample>& samples,
               const EvaluationSource& source, const EvaluationOptions& options)
        : evaluator_(evaluator),
          samples_(samples),
          source_(source),
          options_(options),
          draws_(options.seed),
          batches_(static_cast<int64_t>(samples.size()) / kPool) {
        check();
    }

    Evaluation run() {
        Evaluation out;
        out.texts = batches_ * kPool;
        for (int64_t repeat = 0; repeat < options_.repeats; ++repeat)
            source_ ? repeat_made(repeat, out) : repeat_truth(out);
        return out;
    }

  private:
    struct Batch {
        std::vector<EvaluationText> texts;
        std::vector<motion::Crop> crops;
    };

    void check() const {
        if (options_.repeats < 1)
            throw Error(
                fmt::format("[evaluation] repeats: got {}, want at least 1", options_.repeats));
        if (options_.takes < 0 || options_.takes == 1)
            throw Error(
                fmt::format("[evaluation] takes: got {}, want 0 for no multimodality, else "
                            "at least 2",
                            options_.takes));
        if (batches_ < 1)
            throw Error(
                fmt::format("[evaluation] {} motions do not fill a pool of {}; evaluate a "
                            "larger split",
                            samples_.size(), kPool));
        check_columns(evaluator_, "the data set", samples_.front().features->dims);
        int64_t tokens = 0;
        for (const MotionSample& sample : samples_)
            for (const motion::Caption& caption : sample.captions)
                tokens += static_cast<int64_t>(caption.tokens.size());
        if (tokens == 0)
            throw Error(
                "[evaluation] no caption has tokens (word/POS); the evaluator reads "
                "these, not the text");
        // Any caption may be drawn in the last of many repetitions.
        for (const MotionSample& sample : samples_)
            for (const motion::Caption& caption : sample.captions) features_of(sample, caption);
    }

    int64_t width() const { return evaluator_.model->config().dim_pose; }
    int64_t unit() const { return evaluator_.model->config().unit; }

    // All samples in a new order.
    std::vector<Batch> draw_pass() {
        const auto order = draws_.permutation(static_cast<int64_t>(samples_.size()));
        std::vector<Batch> pass(static_cast<size_t>(batches_));
        for (int64_t i = 0; i < batches_ * kPool; ++i) {
            const MotionSample& sample =
                samples_[static_cast<size_t>(order[static_cast<size_t>(i)])];
            const auto captions = static_cast<uint32_t>(sample.captions.size());
            const size_t caption = draws_.below(captions);
            const int coin = static_cast<int>(draws_.below(3));
            const motion::Crop crop = motion::training_crop(
                sample.frames, coin, draws_.below(UINT32_MAX), unit(), kMaxFrames);
            Batch& batch = pass[static_cast<size_t>(i / kPool)];
            batch.texts.push_back({&sample, &sample.captions[caption], crop.frames});
            batch.crops.push_back(crop);
        }
        return pass;
    }

    evaluator::WordFeatures features_of(const MotionSample& sample,
                                        const motion::Caption& caption) const {
        try {
            return evaluator_.words.features(caption.tokens);
        } catch (const Error& e) {
            throw Error(fmt::format("{}: {}", sample.name, e.what()));
        }
    }

    Tensor embed_texts(const Batch& batch) const {
        const int64_t count = static_cast<int64_t>(batch.texts.size());
        const auto& words = evaluator_.words;
        Tensor vectors = Tensor::empty({count, evaluator::kTextLength, words.width()}),
               parts = Tensor::empty({count, evaluator::kTextLength, evaluator::kPartsOfSpeech});
        std::vector<int64_t> lengths;
        for (int64_t i = 0; i < count; ++i) {
            const EvaluationText& text = batch.texts[static_cast<size_t>(i)];
            const evaluator::WordFeatures f = features_of(*text.sample, *text.caption);
            std::copy_n(f.words.data<float>(), f.words.numel(),
                        vectors.data<float>() + i * f.words.numel());
            std::copy_n(f.pos.data<float>(), f.pos.numel(),
                        parts.data<float>() + i * f.pos.numel());
            lengths.push_back(f.length);
        }
        return evaluator_.model->text_embeddings(vectors, parts, lengths);
    }

    Tensor embed(const MotionBatch& batch) {
        done_ += batch.rows.size(0);
        if (options_.progress) options_.progress(done_, total());
        return evaluator_.model->motion_embeddings(batch.rows, batch.frames);
    }

    Tensor embed_truth(const Batch& batch) {
        MotionBatch motions = empty_batch(static_cast<int64_t>(batch.texts.size()), width());
        for (size_t i = 0; i < batch.texts.size(); ++i) {
            motion::normalised_crop(*batch.texts[i].sample, batch.crops[i],
                                    evaluator_.normalisation, kMaxFrames, row_of(motions, i));
            motions.frames.push_back(batch.crops[i].frames);
        }
        return embed(motions);
    }

    Tensor embed_made(const Batch& batch, int64_t take) {
        const uint64_t seed = uint64_t{draws_.below(UINT32_MAX)} << 32 | draws_.below(UINT32_MAX);
        const std::vector<FeatureSequence> made = source_(batch.texts, seed, take);
        if (made.size() != batch.texts.size())
            throw Error(fmt::format("[evaluation] got {} motions for {} texts", made.size(),
                                    batch.texts.size()));
        MotionBatch motions = empty_batch(static_cast<int64_t>(made.size()), width());
        for (size_t i = 0; i < made.size(); ++i) {
            const int64_t frames = std::min(made[i].frames, kMaxFrames) / unit() * unit();
            if (made[i].dims != width() || frames < unit())
                throw Error(fmt::format(
                    "[evaluation] the motion made for {} is ({}, {}), want at least {} frames of "
                    "{} features",
                    batch.texts[i].sample->name, made[i].frames, made[i].dims, unit(), width()));
            evaluator_.normalisation.normalise(made[i].rows.data(), row_of(motions, i), frames);
            motions.frames.push_back(frames);
        }
        return embed(motions);
    }

    bool many_in(int64_t batch) const {
        return options_.takes > 0 && batch < options_.multimodality_batches;
    }

    // The ground truth against another draw of itself.
    void repeat_truth(Evaluation& out) {
        Embeddings text, made, real;
        for (const Batch& batch : draw_pass()) real.add(embed_truth(batch));
        for (const Batch& batch : draw_pass()) {
            text.add(embed_texts(batch));
            made.add(embed_truth(batch));
        }
        out.made.push_back(score(text.tensor(), made.tensor(), real.tensor(), {}));
    }

    void repeat_made(int64_t repeat, Evaluation& out) {
        Embeddings text, made, real, many;
        const std::vector<Batch> pass = draw_pass();
        int64_t many_texts = 0;
        for (int64_t b = 0; b < batches_; ++b) {
            const Batch& batch = pass[static_cast<size_t>(b)];
            text.add(embed_texts(batch));
            real.add(embed_truth(batch));
            const int64_t takes = many_in(b) ? options_.takes : 1;
            std::vector<Tensor> embeddings;  // (B, E) a take
            // The last take goes on, so that a folder's takes go round with the repetitions.
            const int64_t last = repeat + std::max<int64_t>(options_.takes, 1) - 1;
            for (int64_t take = last - takes + 1; take <= last; ++take)
                embeddings.push_back(embed_made(batch, take));
            made.add(embeddings.back());
            if (!many_in(b)) continue;
            many_texts += kPool;
            for (int64_t i = 0; i < kPool; ++i)
                for (const Tensor& e : embeddings) many.add(e.slice(0, i, i + 1).contiguous());
        }
        Tensor grouped;  // (texts, takes, E)
        if (many_texts > 0) {
            const Tensor flat = many.tensor();
            grouped = flat.reshape({many_texts, options_.takes, flat.size(1)});
        }
        const Tensor texts = text.tensor(), truth = real.tensor();
        out.made.push_back(score(texts, made.tensor(), truth, grouped));
        out.real.push_back(score(texts, truth, {}, {}));
    }

    Scores score(const Tensor& text, const Tensor& made, const Tensor& real, const Tensor& many) {
        GeneratorSource uniforms(draws_);
        return evaluator::score(text, made, real, many, {.pool = kPool}, uniforms);
    }

    int64_t total() const {
        const int64_t more =
            source_ && options_.takes > 0
                ? std::min(batches_, options_.multimodality_batches) * (options_.takes - 1)
                : 0;
        return options_.repeats * (2 * batches_ + more) * kPool;
    }

    const PublicEvaluator& evaluator_;
    const std::vector<MotionSample>& samples_;
    const EvaluationSource& source_;
    const EvaluationOptions& options_;
    Generator draws_;
    int64_t batches_, done_ = 0;
};

std::string cell(const std::vector<double>& values) {
    if (values.empty()) return "-";
    const evaluator::Interval interval = evaluator::interval95(values);
    return fmt::format("{:.3f} +- {:.3f}", interval.mean, interval.half_width);
}

nlohmann::json json_of(const std::vector<Scores>& scores) {
    nlohmann::json out = nlohmann::json::object();
    for (const MetricRow& row : metric_rows(scores)) {
        if (row.values.empty()) continue;
        const evaluator::Interval interval = evaluator::interval95(row.values);
        out[row.key] = {
            {"mean", interval.mean}, {"interval", interval.half_width}, {"values", row.values}};
    }
    return out;
}

}  // namespace

EvaluationSource generated_motions(MotionGenerator& generator, const GenerationOptions& options,
                                   MotionLength length) {
    return [&generator, options, length](std::span<const EvaluationText> texts, uint64_t seed,
                                         int64_t) {
        std::vector<GenerationRequest> requests;
        for (const EvaluationText& text : texts) {
            requests.push_back({text.caption->text, std::nullopt});
            if (length == MotionLength::truth)
                requests.back().frames = std::min(text.frames, generator.max_frames());
        }
        GenerationOptions seeded = options;
        seeded.seed = seed;
        return generator.generate(requests, seeded);
    };
}

void check_columns(const PublicEvaluator& evaluator, const std::string& whose, int64_t columns) {
    const int64_t want = evaluator.model->config().dim_pose;
    if (columns != want)
        throw Error(
            fmt::format("[evaluation] motions of {} have {} columns, the evaluator takes {}; is it "
                        "of another data set?",
                        whose, columns, want));
}

Evaluation evaluate_motions(const PublicEvaluator& evaluator,
                            const std::vector<MotionSample>& samples,
                            const EvaluationSource& source, const EvaluationOptions& options) {
    return Evaluating(evaluator, samples, source, options).run();
}

std::vector<MetricRow> metric_rows(const std::vector<Scores>& scores) {
    std::vector<MetricRow> rows = {{"r_precision_top_1", "R-precision top 1", "more", {}},
                                   {"r_precision_top_2", "R-precision top 2", "more", {}},
                                   {"r_precision_top_3", "R-precision top 3", "more", {}},
                                   {"fid", "FID", "less", {}},
                                   {"mm_dist", "MM-Dist", "less", {}},
                                   {"diversity", "Diversity", "as real", {}},
                                   {"multimodality", "MultiModality", "more", {}}};
    for (const Scores& s : scores) {
        for (size_t k = 0; k < 3; ++k) rows[k].values.push_back(s.r_precision[k]);
        if (s.fid) rows[3].values.push_back(*s.fid);
        rows[4].values.push_back(s.matching);
        rows[5].values.push_back(s.diversity);
        if (s.multimodality) rows[6].values.push_back(*s.multimodality);
    }
    return rows;
}

std::string evaluation_table(const Evaluation& evaluation, const std::string& who) {
    const auto made = metric_rows(evaluation.made), real = metric_rows(evaluation.real);
    const bool both = !evaluation.real.empty();
    std::string out = fmt::format("{:<20} {:<8}", "metric", "better");
    if (both) out += fmt::format(" {:<18}", "real motions");
    out += fmt::format(" {}\n", who);
    for (size_t i = 0; i < made.size(); ++i) {
        out += fmt::format("{:<20} {:<8}", made[i].title, made[i].better);
        if (both) out += fmt::format(" {:<18}", cell(real[i].values));
        out += fmt::format(" {}\n", cell(made[i].values));
    }
    out += fmt::format("{} texts a repetition, {} repetitions; mean +- 95 % interval\n",
                       evaluation.texts, evaluation.made.size());
    return out;
}

nlohmann::json evaluation_json(const Evaluation& evaluation) {
    nlohmann::json out = {{"texts", evaluation.texts},
                          {"repeats", evaluation.made.size()},
                          {"made", json_of(evaluation.made)}};
    if (!evaluation.real.empty()) out["real"] = json_of(evaluation.real);
    return out;
}

}  // namespace mc::train
