#include "tools/common/motion_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "kernels/error.h"
#include "motion/bvh.h"
#include "motion/features.h"
#include "motion/figure.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "motion/skeleton.h"
#include "tensor/formats/split.h"
#include "tensor/formats/utf8.h"

namespace mc::tools {
namespace {

// A BVH does not say its unit; the figure does: of metres, centimetres and millimetres the one in
// which its legs come nearest to a person's.
struct LengthUnit {
    const char* name;
    double millimetres;
};
constexpr LengthUnit kLengthUnits[] = {{"metres", 1000}, {"centimetres", 10}, {"millimetres", 1}};

const LengthUnit& unit_of(const motion::JointSequence& joints) {
    const double scale = motion::figure_scale(joints);  // 1 for HumanML3D's figure, in metres
    return *std::ranges::min_element(kLengthUnits, {}, [&](const LengthUnit& unit) {
        return std::fabs(std::log(scale * unit.millimetres / 1000));
    });
}

motion::JointSequence read_motion_bvh(const std::filesystem::path& path, Notes* notes) {
    const motion::Bvh bvh = motion::read_bvh(path.string());
    if (notes) notes->insert(notes->end(), bvh.warnings.begin(), bvh.warnings.end());
    if (bvh.frames == 0) throw Error(path.string() + ": has no frames");
    motion::JointSequence joints = motion::bvh_joints(bvh, path.string(), notes);
    const motion::Skeleton& skeleton = motion::skeleton_for_joints(joints.joints);
    const LengthUnit& unit = unit_of(joints);
    if (notes && &unit != kLengthUnits)
        notes->push_back(fmt::format("{}: by the figure's legs in {}, not in metres; converted",
                                     path.string(), unit.name));
    const auto factor = static_cast<float>(unit.millimetres / skeleton.millimetres);
    for (float& x : joints.xyz) x *= factor;
    const double fps = skeleton.fps;
    motion::JointSequence out;
    try {
        out = motion::resample(joints, fps);
    } catch (const Error& error) {
        throw Error(fmt::format("{}: {}", path.string(), error.what()));
    }
    if (notes && out.frames != joints.frames)
        notes->push_back(fmt::format("{}: {} frames at {:.4g} a second became {} at {:.4g}",
                                     path.string(), joints.frames, joints.fps, out.frames, fps));
    return out;
}

// The same joints, with a note if they are mirrored.
motion::JointSequence noticed(motion::JointSequence joints, const std::filesystem::path& path,
                              Notes* notes) {
    if (notes && motion::is_mirrored(joints))
        notes->push_back(path.string() +
                         ": the feet point backward, so left and right seem to be exchanged, as "
                         "when a figure is mirrored or comes from a left-handed system");
    return joints;
}

// Nothing if the text is more or less than a whole number of 64 bits.
std::optional<int64_t> whole_number(const std::string& text) {
    int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value);
    return read.ec == std::errc() && read.ptr == end ? std::optional(value) : std::nullopt;
}

}  // namespace

bool is_bvh(const std::filesystem::path& path) {
    return path.extension() == ".bvh" || path.extension() == ".BVH";
}

std::vector<std::pair<int64_t, int64_t>> frame_ranges(const std::string& list) {
    std::vector<std::pair<int64_t, int64_t>> ranges;
    for (const std::string& piece : split(list, ',')) {
        const std::vector<std::string> ends = split(piece, ':');
        const auto from = whole_number(trimmed(ends.front()));
        const auto to = whole_number(trimmed(ends.back()));
        if (ends.size() != 2 || !from || !to)
            throw Error(fmt::format(
                "--frames {}: \"{}\" is no range; want A:B, the first frame to make anew and the "
                "first to keep again, or several as A:B,C:D",
                printable(list), printable(piece)));
        ranges.emplace_back(*from, *to);
    }
    return ranges;
}

motion::JointSequence read_motion_joints(const std::filesystem::path& path, Notes* notes) {
    return noticed(is_bvh(path) ? read_motion_bvh(path, notes) : motion::read_joints(path), path,
                   notes);
}

motion::JointSequence read_motion(const std::filesystem::path& path, Notes* notes) {
    if (is_bvh(path)) return read_motion_joints(path, notes);
    const NpyArray array = read_npy(path);
    return noticed(array.shape.size() == 2
                       ? motion::joints_from_features(motion::features_of_array(array))
                       : motion::joints_of_array(array),
                   path, notes);
}

motion::FeatureSequence read_motion_features(const std::filesystem::path& path, Notes* notes) {
    if (!is_bvh(path)) {
        const NpyArray array = read_npy(path);
        if (array.shape.size() == 2) return motion::features_of_array(array);
    }
    return motion::motion_features(read_motion(path, notes));
}

}  // namespace mc::tools
