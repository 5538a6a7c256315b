// The captured segments of shared/data/mocap with their captions, brought into the form that a
// generator's motions have (features and back), and their mirrored twins: what calibrations compare
// with.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motion/features.h"
#include "motion/joints.h"
#include "motion/mirror_text.h"
#include "motion/motion_file.h"
#include "motion/skeleton.h"
#include "tensor/formats/npy.h"

namespace mc::testing {

struct RealSegment {
    std::string clip, category;
    bool mirrored = false;
    std::vector<std::string> captions, paraphrases;
    motion::JointSequence joints;  // (T, 22, 3), canonical
};

// All segments that are not marked bad. `mocap` is shared/data/mocap.
inline std::vector<RealSegment> read_real_segments(const std::filesystem::path& mocap) {
    std::map<std::string, std::unique_ptr<NpzFile>> archives;
    std::map<std::string, motion::JointSequence> clips;
    std::vector<RealSegment> out;
    std::ifstream file(mocap / "captions.jsonl");
    for (std::string line; std::getline(file, line);) {
        const auto segment = nlohmann::json::parse(line);
        if (segment.contains("bad")) continue;
        const std::string archive = segment["file"], clip = segment["clip"];
        if (!archives[archive])
            archives[archive] = std::make_unique<NpzFile>(mocap / "joints" / archive);
        if (!clips.contains(clip))
            clips[clip] = motion::joints_of_array(archives[archive]->read(clip));
        const motion::JointSequence cut =
            motion::slice(clips[clip], segment["from"], segment["to"]);
        for (const bool mirrored : {false, true}) {
            RealSegment s{clip, segment["category"], mirrored, {}, {}, {}};
            auto texts = [&](const char* key) {
                std::vector<std::string> list;
                if (segment.contains(key))
                    for (const std::string text : segment[key])
                        list.push_back(mirrored ? motion::mirror_caption(text) : text);
                return list;
            };
            s.captions = texts("captions");
            s.paraphrases = texts("paraphrases");
            s.joints = motion::joints_from_features(motion::motion_features(
                mirrored ? motion::mirror(cut, motion::humanml3d_skeleton()) : cut));
            out.push_back(std::move(s));
        }
    }
    return out;
}

}  // namespace mc::testing
