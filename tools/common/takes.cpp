#include "tools/common/takes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>

#include "kernels/error.h"
#include "motion/gltf.h"
#include "motion/html_viewer.h"
#include "motion/ik.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "motion/strip.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/split.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kFormats = {"npy", "features", "bvh", "glb", "png", "html"};

// One file of the takes; its bytes are made when they are asked for.
class TakeFile {
  public:
    TakeFile(std::string ending, bool wanted, std::function<std::string()> encode)
        : ending_(std::move(ending)), wanted_(wanted), encode_(std::move(encode)) {}

    bool wanted() const { return wanted_; }
    fs::path path(const fs::path& folder, const std::string& stem) const {
        return folder / (stem + ending_);
    }
    const std::string& bytes() {
        if (!bytes_) bytes_ = encode_();
        return *bytes_;
    }

    // Whether a file is there that is not this one. A device or a pipe holds nothing.
    bool is_another(const fs::path& there) {
        std::error_code failed;
        const fs::file_status status = fs::status(there, failed);
        if (fs::is_directory(status)) return true;
        if (!fs::is_regular_file(status)) return false;
        if (fs::file_size(there, failed) != bytes().size()) return true;
        std::ifstream file(there, std::ios::binary);
        return !std::equal(std::istreambuf_iterator<char>(file), {}, bytes().begin(),
                           bytes().end());
    }

  private:
    std::string ending_;
    bool wanted_;
    std::function<std::string()> encode_;
    std::optional<std::string> bytes_;
};

std::string encode(const std::string& format, const Take& take, const std::string& prompt) {
    if (format == "npy") return motion::encode_joints(take.joints);
    if (format == "features") return motion::encode_features(take.features);
    if (format == "png") return motion::encode_png(motion::strip_image(take.joints));
    const motion::RigMotion rig = motion::fit_rig_in_metres(take.joints);
    if (format == "bvh") return motion::format_bvh(motion::rig_to_bvh(rig));
    return motion::encode_glb(rig, prompt);
}

std::string encode_page(std::span<const Take> takes, const std::string& prompt) {
    std::vector<motion::ViewerMotion> views;
    for (const Take& take : takes) views.push_back({prompt, take.note, take.joints});
    return motion::viewer_page(views);
}

// Those of every format: a file of a format that is not wanted now still tells whose the name is.
std::vector<TakeFile> files_of(std::span<const Take> takes, const std::string& prompt,
                               const std::vector<std::string>& formats) {
    std::vector<TakeFile> files;
    const auto wanted = [&](const std::string& format) {
        return std::ranges::find(formats, format) != formats.end();
    };
    for (size_t i = 0; i < takes.size(); ++i)
        for (const std::string& format : kFormats) {
            if (format == "html") continue;
            const std::string number = takes.size() > 1 ? fmt::format("_{}", i + 1) : "";
            files.emplace_back(
                number + (format == "features" ? "_features.npy" : "." + format), wanted(format),
                [&take = takes[i], &prompt, format] { return encode(format, take, prompt); });
        }
    files.emplace_back(".html", wanted("html"),
                       [takes, &prompt] { return encode_page(takes, prompt); });
    return files;
}

}  // namespace

std::vector<std::string> format_list(const std::string& list) {
    std::vector<std::string> formats;
    for (std::string part : split(list, ',')) {
        std::erase_if(part, [](unsigned char c) { return std::isspace(c); });
        for (char& c : part) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        if (std::ranges::find(kFormats, part) == kFormats.end())
            throw Error(fmt::format(
                "--format {}: \"{}\" is none of bvh, html, npy, glb, png, features", list, part));
        formats.push_back(part);
    }
    return formats;
}

std::string file_stem(const std::string& prompt) {
    std::string stem;
    for (char c : prompt) {
        if (std::isalnum(static_cast<unsigned char>(c)))
            stem += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        else if (!stem.empty() && stem.back() != '_')
            stem += '_';
        if (stem.size() >= 40) break;
    }
    while (!stem.empty() && stem.back() == '_') stem.pop_back();
    return stem.empty() ? "motion" : stem;
}

WrittenTakes write_takes(const fs::path& folder, const std::string& stem, const std::string& prompt,
                         std::span<const Take> takes, const std::vector<std::string>& formats,
                         bool replace, const fs::path& source) {
    std::vector<TakeFile> files = files_of(takes, prompt, formats);
    WrittenTakes written;
    std::string name = stem;
    const auto stays = [&](TakeFile& file) {
        const fs::path path = file.path(folder, name);
        std::error_code failed;
        return replace ? fs::equivalent(path, source, failed) : file.is_another(path);
    };
    for (int64_t number = 2;; ++number) {
        const auto other = std::ranges::find_if(files, stays);
        if (other == files.end()) break;
        if (written.taken.empty()) written.taken = other->path(folder, name).string();
        name = fmt::format("{}-{}", stem, number);
    }
    for (TakeFile& file : files) {
        const fs::path path = file.path(folder, name);
        // A file of a format that is not wanted now would be left to play another motion.
        if (!file.wanted() && !(fs::is_regular_file(path) && file.is_another(path))) continue;
        written.files.push_back(path);
        write_text_file(path, file.bytes());
    }
    return written;
}

}  // namespace mc::tools
