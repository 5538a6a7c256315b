// Builds a data set in HumanML3D's layout from joint archives and a list of captioned segments.
//
//     BuildOptions options;
//     options.mocap = "shared/data/mocap";       // joints/*.npz, captions.jsonl, phrasings.jsonl
//     options.out = "data/HumanML3D_mocap";
//     BuildReport report = build_dataset(options);
//
// Input. captions.jsonl has one segment a line: {"clip", "file", "from", "to", "category",
// "captions": [...]} and, optionally, "paraphrases": [...] and "bad" (true, or a reason: the
// segment is left out). `file` is an archive in joints/ with an array (T, 22, 3) or (T, 21, 3)
// named by `clip`; from..to are frames, `to` exclusive. phrasings.jsonl has pools: {"group",
// "segments": [[clip, from, to], ...], "phrasings": [...]}, each true of every segment listed.
//
// Output (motion_data.md 1, 2, 6):
//     new_joint_vecs/NNNNNN.npy, new_joints/NNNNNN.npy, texts/NNNNNN.txt; MNNNNNN.* are the
//     mirrored twins Mean.npy, Std.npy             over all clips, group-averaged train.txt val.txt
//     test.txt train_val.txt all.txt   split by capture trial (dataset_split.h) categories.txt one
//     clip a line, tab-separated: name, category, clip, from, to dataset.json provenance, options,
//     counts LICENSE*                      copied from the source folder
// NNNNNN is the number of the segment's line in captions.jsonl (from 0), so that names do not shift
// when another line is marked bad. A segment of N frames gives N-1 rows (features.h).
//
// Texts. `caption#tokens#0.0#0.0`, the whole clip. Tokens are the caption's words in small letters,
// all tagged OTHER: we ship no part-of-speech tagger, and the evaluator's word classes do not need
// one for the words in its lists.
//
// Long segments. HumanML3D's readers drop clips of 200 rows and more. A segment with more than
// max_frames + 3 rows is cut into equal windows of at most max_frames rows (NNNNNN_w0, _w1, ...),
// which repeat all its captions, if its category is one in which a part looks like the whole
// (kContinuous in the source: walking, dancing, exercises, ...). In any other category ("turns
// round, then jumps three times") the captions would be false of the parts, so the segment is left
// out and counted.
//
// The folder appears whole or not at all: it is built as OUT.tmpPID and renamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "motion/dataset_split.h"

namespace mc::motion {

struct BuildOptions {
    std::filesystem::path mocap;      // folder with joints/
    std::filesystem::path captions;   // default: mocap/captions.jsonl
    std::filesystem::path phrasings;  // default: mocap/phrasings.jsonl, if it is there
    std::filesystem::path out;
    int64_t min_frames = 16;   // rows; shorter segments are left out
    int64_t max_frames = 196;  // rows
    bool mirror = true;        // add the mirrored twins
    SplitShares shares;
    uint64_t seed = 0;     // of the split
    bool replace = false;  // an existing OUT is replaced, if it is a data set of ours
};

struct BuildReport {
    int64_t segments = 0;                          // lines read
    int64_t bad = 0, too_short = 0, too_long = 0;  // left out
    int64_t windows = 0;                           // clips that are parts of long segments
    int64_t clips = 0;                             // written, twins included
    int64_t rows = 0;                              // of all clips
    int64_t captions = 0;                          // of all clips
    std::map<std::string, int64_t> split_clips;    // train, val, test -> clips
    std::map<std::string, std::map<std::string, int64_t>> categories;  // category -> split -> clips
    std::vector<std::string> warnings;
};

// Errors (mc::Error): missing files, unreadable lines (file:line), ranges outside a clip, NaN in
// joints (archive, clip, frame), an OUT that is in the way. `progress(done, total)` is called once
// a segment.
BuildReport build_dataset(const BuildOptions& options,
                          const std::function<void(int64_t, int64_t)>& progress = {});

// One line of a texts/ file for a caption that describes the whole clip. '#' and line breaks become
// spaces.
std::string caption_line(const std::string& caption);

}  // namespace mc::motion
