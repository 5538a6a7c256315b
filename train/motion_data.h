// A split of a motion data set as the trainers draw from it: normalised clips, category-balanced
// draws, captions.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/text_encoder.h"
#include "motion/dataset.h"
#include "tensor/generator.h"
#include "train/caption_augment.h"

namespace mc::train {

struct MotionDataOptions {
    std::string root, split = "train";
    int64_t min_frames = 16;
    double balance = 0.5;     // categories drawn: 0 as often as they are, 1 equally often
    int feat_bias_power = 2;  // motion_data.md 6
    // A tokenizer's own, where it learned on other data; none: the data set's.
    std::optional<motion::Normalisation> normalisation = {};
    // Long captions are cut as the published MoCLIP cuts them (motion::encoder_text).
    bool cut_captions = false;
};

// The same options for another split.
inline MotionDataOptions with_split(MotionDataOptions options, const std::string& split) {
    options.split = split;
    return options;
}

class MotionData {
  public:
    explicit MotionData(const MotionDataOptions& options);

    const std::string& split() const { return split_; }
    const std::vector<motion::MotionSample>& samples() const { return data_.samples; }
    const motion::Normalisation& normalisation() const { return normalisation_; }
    // On the clips that could not be read (motion::left_out).
    std::vector<std::string> left_out() const;
    int64_t dims() const { return data_.dims; }
    double fps() const { return data_.fps; }

    // Samples by weight, none twice before all were drawn.
    std::vector<size_t> draw_distinct(int64_t count, Generator& generator) const;
    // A sample by weight among those of at least `frames` rows; `u` in [0, 1).
    size_t draw_longer(double u, int64_t frames) const;
    // For each sample that of the mirrored motion (names X and MX), itself if there is none.
    std::vector<size_t> mirror_twins() const;

    // Rows [start, start + frames) of a sample, z-normalised: (frames, dims).
    void normalised(size_t sample, int64_t start, int64_t frames, float* dst) const;
    Tensor normalised(size_t sample, int64_t start, int64_t frames) const;  // (1, frames, dims)
    // The same motion done `speed` times as fast, z-normalised: (frames, dims), row i read at
    // start + i * speed (the last one within the sample) between its two neighbours, velocities
    // times `speed`, contacts from the nearer row.
    void at_speed(size_t sample, int64_t start, int64_t frames, double speed, float* dst) const;

  private:
    std::string split_;
    motion::Dataset data_;
    motion::Normalisation normalisation_;
    std::vector<double> weights_;
    std::vector<size_t> by_length_;             // sample numbers, longest first
    std::vector<double> cumulative_by_length_;  // weights in that order
};

// left_out() of both.
std::vector<std::string> left_out(const MotionData& train, const MotionData& held_out);

// The clips of a step's batch: four steps share one category-balanced draw of 4 `batch` clips,
// sorted by length and cut into four, so that a batch holds clips of similar length and little
// padding is computed; no clip twice while there are enough. A function of (seed, step) alone.
struct DrawnClip {
    size_t sample;
    float u;  // a uniform number to choose a crop with
};
std::vector<DrawnClip> draw_batch(const MotionData& data, int64_t batch, uint64_t seed,
                                  int64_t step);

// A uniform number as the published data sets' coin of three sides, of which 2 makes a motion a
// unit shorter (motion_data.md 4), and a uniform number that is left of it.
struct CoinAndRest {
    int coin;  // 0, 1 or 2
    double rest;
};
CoinAndRest toss(float u);

// Captions as training sees them: one of the sample's, at random, reworded by the lexicon if there
// is one.
class CaptionSource {
  public:
    // An empty lexicon path: captions as they are.
    CaptionSource(const std::string& lexicon, double reword_share);
    std::string draw(const motion::MotionSample& sample, Generator& generator) const;

  private:
    std::unique_ptr<CaptionAugmenter> augmenter_;
    double reword_share_;
};

struct CaptionedClips {
    std::vector<DrawnClip> clips;
    std::vector<std::string> captions;  // one a clip
};
CaptionedClips with_captions(const MotionData& data, const CaptionSource& captions,
                             const std::vector<DrawnClip>& drawn, Generator& generator);
// For contrastive training. A clip whose caption names a side brings its mirrored twin along, whose
// caption differs in nothing else: the hardest negative of each other. No caption occurs twice,
// where each would be the other's wrong answer. At most as many clips as were drawn. `twins` is
// data.mirror_twins().
CaptionedClips with_mirror_pairs(const MotionData& data, const std::vector<size_t>& twins,
                                 const CaptionSource& captions, const std::vector<DrawnClip>& drawn,
                                 Generator& generator);

}  // namespace mc::train
