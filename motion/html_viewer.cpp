#include "motion/html_viewer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/error.h"
#include "motion/figure.h"
#include "motion/html_page.h"

namespace mc::motion {
namespace {

std::string base64(const std::vector<uint8_t>& bytes) {
    constexpr const char* kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t left = std::min<size_t>(3, bytes.size() - i);
        uint32_t word = static_cast<uint32_t>(bytes[i]) << 16;
        if (left > 1) word |= static_cast<uint32_t>(bytes[i + 1]) << 8;
        if (left > 2) word |= bytes[i + 2];
        text += kDigits[word >> 18];
        text += kDigits[word >> 12 & 63];
        text += left > 1 ? kDigits[word >> 6 & 63] : '=';
        text += left > 2 ? kDigits[word & 63] : '=';
    }
    return text;
}

// JSON for the inside of a <script> element: ASCII, and nothing in it can end the element or start
// a comment.
std::string script_json(const nlohmann::json& json) {
    const std::string plain = json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    std::string safe;
    safe.reserve(plain.size());
    for (char c : plain) {
        if (c == '<' || c == '>' || c == '&') {
            safe += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
            safe += c;
        }
    }
    return safe;
}

std::string html_text(std::string_view text) {
    std::string safe;
    for (char c : text) {
        switch (c) {
            case '&':
                safe += "&amp;";
                break;
            case '<':
                safe += "&lt;";
                break;
            case '>':
                safe += "&gt;";
                break;
            case '"':
                safe += "&quot;";
                break;
            case '\'':
                safe += "&#39;";
                break;
            default:
                safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
    }
    return safe;
}

// A button's text: the beginning of the caption, cut between words where possible.
std::string label_of(const std::string& caption) {
    constexpr size_t kLongest = 44;
    if (caption.size() <= kLongest) return caption;
    size_t end = caption.rfind(' ', kLongest);
    if (end == std::string::npos || end < kLongest / 2) end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(caption[end]) & 0xC0) == 0x80) --end;
    return caption.substr(0, end) + "\xE2\x80\xA6";
}

double rounded(double x) {
    return std::round(x * 1e5) / 1e5;
}

nlohmann::json motion_json(const ViewerMotion& motion, size_t index) {
    const JointSequence& joints = motion.joints;
    figure_parts(joints.joints);  // refuses other numbers of joints
    if (joints.frames < 1 || !(joints.fps > 0) ||
        static_cast<int64_t>(joints.xyz.size()) != joints.frames * joints.joints * 3) {
        throw Error(fmt::format("viewer: motion {} has {} numbers for {} frames at {} a second",
                                index, joints.xyz.size(), joints.frames, joints.fps));
    }
    double low[3] = {1e300, 1e300, 1e300};
    double high[3] = {-1e300, -1e300, -1e300};
    for (size_t i = 0; i < joints.xyz.size(); ++i) {
        const double x = joints.xyz[i];
        if (!std::isfinite(x)) {
            throw Error(fmt::format("viewer: motion {}, frame {} is not finite", index,
                                    static_cast<int64_t>(i) / (joints.joints * 3)));
        }
        low[i % 3] = std::min(low[i % 3], x);
        high[i % 3] = std::max(high[i % 3], x);
    }
    double extent = 1e-6;
    for (int k = 0; k < 3; ++k) extent = std::max(extent, high[k] - low[k]);
    const double step = extent / 65535;
    std::vector<uint8_t> bytes;  // (frames, joints, 3) little-endian uint16
    bytes.reserve(joints.xyz.size() * 2);
    for (size_t i = 0; i < joints.xyz.size(); ++i) {
        const double steps = std::round((joints.xyz[i] - low[i % 3]) / step);
        const auto value = static_cast<uint16_t>(std::clamp(steps, 0.0, 65535.0));
        bytes.push_back(static_cast<uint8_t>(value & 255));
        bytes.push_back(static_cast<uint8_t>(value >> 8));
    }
    const double scale = figure_scale(joints);
    nlohmann::json parts = nlohmann::json::array();
    for (const FigurePart& part : figure_parts(joints.joints)) {
        parts.push_back({part.from, part.to, rounded(scale * part.radius_from),
                         rounded(scale * part.radius_to), rounded(scale * part.reach),
                         static_cast<int>(part.side)});
    }
    const Vec3 forward = figure_forward(joints, 0);
    return {{"caption", motion.caption},
            {"label", label_of(motion.caption)},
            {"note", motion.note},
            {"frames", joints.frames},
            {"joints", joints.joints},
            {"fps", joints.fps},
            {"size", rounded(scale)},
            {"floor", rounded(figure_floor(joints))},
            {"forward", {rounded(forward.x), rounded(forward.y), rounded(forward.z)}},
            {"origin", {low[0], low[1], low[2]}},
            {"scale", step},
            {"parts", std::move(parts)},
            {"xyz", base64(bytes)}};
}

std::string filled(std::string_view page, std::string_view mark, std::string_view text) {
    const size_t at = page.find(mark);
    std::string out(page.substr(0, at));
    out += text;
    out += page.substr(at + mark.size());
    return out;
}

}  // namespace

std::string viewer_page(std::span<const ViewerMotion> motions) {
    if (motions.empty()) throw Error("viewer: no motion to show");
    nlohmann::json data;
    data["motions"] = nlohmann::json::array();
    for (size_t i = 0; i < motions.size(); ++i) {
        data["motions"].push_back(motion_json(motions[i], i));
    }
    // The data before the title: that may contain anything, also the other marks.
    const std::string page =
        filled(filled(kViewerPage, "@SELFTEST@", kViewerSelftest), "@DATA@", script_json(data));
    const std::string title = motions[0].caption.empty() ? "Motion" : motions[0].caption;
    return filled(page, "@TITLE@", html_text(title));
}

}  // namespace mc::motion
