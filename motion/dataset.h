// Reads data sets in HumanML3D's layout for training and evaluation. Source: motion_data.md 1 to 4,
// generators.md 2.10.
//
//     DatasetOptions options;
//     options.root = "data/HumanML3D_mocap";
//     options.split = "train";
//     Dataset data = read_dataset(options);
//     const MotionSample& s = data.samples[i];        // s.rows(): (s.frames, data.dims),
//     s.captions, s.category Crop crop = training_crop(s.frames, coin, start); normalised_crop(s,
//     crop, normalisation, 196, batch_row);   // (196, D), zeros at the end
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "motion/joints.h"
#include "motion/statistics.h"

namespace mc::motion {

struct Caption {
    std::string text;
    std::vector<std::string> tokens;  // word/POS
    double start = 0, end = 0;        // seconds; both 0: the whole clip
    int64_t line = 0;                 // in the text file, from 1; 0 of a line by itself
    bool whole() const { return start == 0 && end == 0; }
};

// A text file, one caption a line: `caption#tokens#start#end`. nan counts as 0, more fields are
// ignored, blank lines too. Errors name file:line: fewer than four fields, unreadable numbers.
std::vector<Caption> read_captions(const std::filesystem::path& path);
Caption parse_caption(const std::string& line, const std::string& place);

// What MoCLIP feeds its text encoder: the text, or its first 60 words if there are more than 60
// tokens.
std::string encoder_text(const Caption& caption);

struct MotionSample {
    std::string
        name;  // of the clip, or clip#k for the k-th caption (from 0) that describes a part of it
    std::string clip;                                 // name in the split file
    std::string category;                             // of categories.txt; "" if there is none
    std::shared_ptr<const FeatureSequence> features;  // of the whole clip, shared by its samples
    int64_t begin = 0;                                // first row of this sample
    int64_t frames = 0;                               // L
    std::vector<Caption> captions;                    // at least one

    const float* rows() const { return features->at(begin); }  // (L, D)
    bool mirrored() const { return !clip.empty() && clip[0] == 'M'; }
};

struct DatasetOptions {
    std::filesystem::path root;
    std::string split = "train";  // ROOT/SPLIT.txt
    int64_t min_frames =
        40;  // samples need min_frames <= L < end_frames; 24 is KIT's published minimum
    int64_t end_frames = 200;
    double seconds_to_frames =
        20;  // for captions of a part: 20 even for KIT in MoMask (quirk); T2M-GPT uses 12.5 there
    bool strict = false;          // throw at the first clip that cannot be used, instead of warning
    bool sort_by_length = false;  // stable, as the evaluation classes do
};

struct Dataset {
    int64_t dims = 0;  // 263 or 251
    double fps = 0;
    std::vector<MotionSample>
        samples;  // parts of a clip come before its whole, as in the reference
    std::vector<std::string>
        warnings;  // one line for each clip or caption that was left out because it is broken
    int64_t outside_length = 0;  // clips and parts left out for their length: no fault

    int64_t total_frames() const;
};

// Errors: no split file, mixed widths, nothing left. A clip that is missing, unreadable or has NaN
// (007975 of HumanML3D has, says its notebook) is skipped with a warning that names file and frame,
// or is an Error if options.strict. As in the reference, a bad caption line drops the clip's own
// sample; parts described by the lines before it stay.
Dataset read_dataset(const DatasetOptions& options);

// What to say of the clips that are broken: the first of them, and how many of the split there are.
// Empty: none.
std::vector<std::string> left_out(const Dataset& data, const std::string& split);

// Weight of each sample when drawing with replacement so that categories come equally often (power
// 1), as often as they are (power 0), or between. The weights sum to 1. Samples without a category
// form one of their own.
std::vector<double> balanced_weights(const std::vector<MotionSample>& samples, double power = 1);

struct Crop {
    int64_t start = 0, frames = 0;
};

// The crop of one training item (motion_data.md 4): with coin 0 or 1 ("single") 4⌊L/4⌋ rows, with
// coin 2 ("double") one unit fewer, at most max_frames; the start is draw modulo the number of
// places. coin is 0, 1 or 2, equally likely; draw is any random integer. A sample shorter than two
// units is never "double". Error: L < unit.
Crop training_crop(int64_t length, int coin, uint64_t draw, int64_t unit = 4,
                   int64_t max_frames = 196);

// The crop z-normalised, then zero rows up to `padded`: dst (padded, D).
void normalised_crop(const MotionSample& sample, Crop crop, const Normalisation& normalisation,
                     int64_t padded, float* dst);

// Windows of fixed length that a tokenizer trains on (generators.md 2.10): item k of the epoch is
// one window. As in the reference (QUIRK Q8) a clip of L rows has L - window of them, starting at
// 0..L-window-1: the last possible start is never used, clips of exactly `window` rows and shorter
// ones have none, and items 0 and 1 are the same window.
class WindowIndex {
  public:
    // Lengths of the samples, in their order. Error: window < 1, or no sample is longer than it.
    WindowIndex(const std::vector<MotionSample>& samples, int64_t window);

    struct Place {
        size_t sample;
        int64_t start;
    };
    int64_t size() const { return ends_.back(); }
    Place at(int64_t k) const;  // 0 <= k < size()

  private:
    std::vector<int64_t> ends_;    // (S+1), windows of the samples before, from 0
    std::vector<size_t> samples_;  // (S), of those that have windows
};

}  // namespace mc::motion
