#include "motion/bvh.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <memory>
#include <span>

#include "kernels/error.h"
#include "tensor/formats/mapped_file.h"

namespace mc::motion {
namespace {

constexpr const char* kChannelNames[] = {"Xposition", "Yposition", "Zposition",
                                         "Xrotation", "Yrotation", "Zrotation"};

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool same_word(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

// A word as it may stand in a message: short, and without control characters.
std::string shown(std::string_view word) {
    std::string safe(word.substr(0, 40));
    for (char& c : safe) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return word.size() > 40 ? safe + "..." : safe;
}

class Parser {
  public:
    Parser(std::string_view text, const std::string& name) : text_(text), name_(name) {
        if (text_.substr(0, 3) == "\xEF\xBB\xBF") at_ = 3;
    }

    Bvh parse() {
        if (!same_word(word(), "HIERARCHY")) {
            fail("does not begin with HIERARCHY; is this a BVH file?");
        }
        if (!same_word(word(), "ROOT")) fail("want ROOT after HIERARCHY");
        joint(-1, 1);
        const std::string_view next = word();
        if (same_word(next, "ROOT")) fail("a second ROOT; split the file, one skeleton each");
        if (!same_word(next, "MOTION")) {
            fail("got '" + shown(next) + "', want MOTION after the hierarchy");
        }
        motion();
        return std::move(bvh_);
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}:{}: {}", name_, line_, what));
    }

    void skip_space() {
        while (at_ < text_.size() && (is_blank(text_[at_]) || text_[at_] == '\n')) {
            line_ += text_[at_++] == '\n';
        }
    }

    // Next word, split at white space; '{' and '}' are words of their own. Empty at the end of the
    // text.
    std::string_view word() {
        skip_space();
        const size_t begin = at_;
        while (at_ < text_.size() && !is_blank(text_[at_]) && text_[at_] != '\n') {
            if (text_[at_] == '{' || text_[at_] == '}') {
                if (at_ == begin) ++at_;
                break;
            }
            ++at_;
        }
        return text_.substr(begin, at_ - begin);
    }

    // Rest of the line up to '{', without white space around it.
    std::string_view rest_of_line() {
        while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
        const size_t begin = at_;
        while (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '{') ++at_;
        size_t end = at_;
        while (end > begin && is_blank(text_[end - 1])) --end;
        return text_.substr(begin, end - begin);
    }

    double number(std::string_view token, const char* what) const {
        if (token.empty()) fail(fmt::format("the file ends where {} should be", what));
        std::string_view digits = token;
        if (digits.size() > 1 && digits[0] == '+') digits.remove_prefix(1);
        double value = 0;
        const auto [end, code] =
            std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (code == std::errc::result_out_of_range && end == digits.data() + digits.size() &&
            digits.find("e-") != std::string_view::npos) {
            return 0;  // an underflow such as 1e-400
        }
        if (code != std::errc() || end != digits.data() + digits.size() || !std::isfinite(value)) {
            fail(fmt::format("got '{}', want a finite number for {}", shown(token), what));
        }
        return value;
    }

    Vec3 offset() {
        Vec3 v;
        for (double* x : {&v.x, &v.y, &v.z}) *x = number(word(), "OFFSET");
        return v;
    }

    void open_brace(const std::string& of) {
        const std::string_view token = word();
        if (token != "{") fail(fmt::format("got '{}', want '{{' after {}", shown(token), of));
    }

    void joint(int64_t parent, int64_t depth) {
        if (static_cast<int64_t>(bvh_.joints.size()) >= kBvhMaxJoints) {
            fail(fmt::format("more than {} joints", kBvhMaxJoints));
        }
        if (depth > kBvhMaxDepth) fail(fmt::format("joints nested deeper than {}", kBvhMaxDepth));
        const int64_t self = static_cast<int64_t>(bvh_.joints.size());
        bvh_.joints.emplace_back();
        bvh_.joints.back().name = rest_of_line();
        bvh_.joints.back().parent = parent;
        bvh_.joints.back().first_channel = bvh_.channels;
        const std::string called = shown(bvh_.joints.back().name);
        if (called.empty()) fail("a joint without a name");
        open_brace("joint " + called);
        bool has_offset = false;
        bool has_channels = false;
        for (;;) {
            const std::string_view token = word();
            if (token == "}") break;
            if (same_word(token, "OFFSET")) {
                bvh_.joints[self].offset = offset();
                has_offset = true;
            } else if (same_word(token, "CHANNELS")) {
                if (has_channels) fail("joint " + called + " has two CHANNELS lines");
                if (static_cast<int64_t>(bvh_.joints.size()) != self + 1) {
                    fail("CHANNELS of joint " + called + " stand after its children");
                }
                channels(bvh_.joints[self]);
                has_channels = true;
            } else if (same_word(token, "JOINT")) {
                joint(self, depth + 1);
            } else if (same_word(token, "End")) {
                rest_of_line();
                end_site(self);
            } else if (token.empty()) {
                fail("the file ends inside joint " + called + "; is it cut off?");
            } else {
                fail(fmt::format(
                    "got '{}' in joint {}, want OFFSET, CHANNELS, JOINT, End Site or '}}'",
                    shown(token), called));
            }
        }
        if (!has_offset) fail("joint " + called + " has no OFFSET");
    }

    void channels(BvhJoint& joint) {
        const double count = number(word(), "the number of CHANNELS");
        if (!(count >= 0 && count <= 6) || count != std::floor(count)) {
            fail(fmt::format("{} CHANNELS; a joint has 0 to 6", count));
        }
        for (int i = 0; i < static_cast<int>(count); ++i) {
            const std::string_view token = word();
            const auto found =
                std::find_if(std::begin(kChannelNames), std::end(kChannelNames),
                             [&](const char* known) { return same_word(known, token); });
            if (found == std::end(kChannelNames)) {
                fail(fmt::format("unknown channel '{}'; want Xposition ... Zrotation, {} of them",
                                 shown(token), count));
            }
            const auto channel = static_cast<BvhChannel>(found - std::begin(kChannelNames));
            if (std::find(joint.channels.begin(), joint.channels.end(), channel) !=
                joint.channels.end()) {
                fail(fmt::format("channel {} stands twice", *found));
            }
            joint.channels.push_back(channel);
        }
        bvh_.channels += static_cast<int64_t>(joint.channels.size());
    }

    void end_site(int64_t joint) {
        open_brace("End Site");
        for (;;) {
            const std::string_view token = word();
            if (token == "}") break;
            if (same_word(token, "OFFSET")) {
                bvh_.joints[joint].end_site = offset();
                bvh_.joints[joint].has_end_site = true;
            } else if (same_word(token, "CHANNELS") && number(word(), "CHANNELS") == 0) {
                continue;
            } else {
                fail(fmt::format("got '{}' in an End Site, want OFFSET or '}}'", shown(token)));
            }
        }
    }

    // "Frames:", "Frames :" or "Frame Time:", any letter case and spacing; returns the words before
    // ':'.
    std::string label() {
        skip_space();
        std::string words;
        while (at_ < text_.size() && text_[at_] != ':' && text_[at_] != '\n' && words.size() < 40) {
            if (!is_blank(text_[at_])) words += lower(text_[at_]);
            ++at_;
        }
        if (at_ >= text_.size() || text_[at_] != ':') {
            fail(fmt::format("got '{}', want 'Frames:' and 'Frame Time:' after MOTION",
                             shown(words)));
        }
        ++at_;
        return words;
    }

    void motion() {
        double declared = -1;
        for (int i = 0; i < 2; ++i) {
            const std::string words = label();
            if (words == "frames") {
                declared = number(word(), "Frames");
                if (!(declared >= 0) || declared != std::floor(declared) || declared > 1e15) {
                    fail(fmt::format("Frames: {}; want a count", declared));
                }
            } else if (words == "frametime") {
                bvh_.frame_time = number(word(), "Frame Time");
                if (!(bvh_.frame_time > 0) || bvh_.frame_time > 1e6) {
                    fail(fmt::format("Frame Time: {}; want seconds, more than 0", bvh_.frame_time));
                }
            } else {
                fail("got '" + shown(words) + ":', want 'Frames:' or 'Frame Time:'");
            }
        }
        if (declared < 0) fail("no 'Frames:' line");
        if (!(bvh_.frame_time > 0)) fail("no 'Frame Time:' line");
        rows(static_cast<int64_t>(declared));
    }

    void rows(int64_t declared) {
        if (bvh_.channels == 0) {
            if (!word().empty()) fail("numbers after MOTION but no joint has CHANNELS");
            bvh_.frames = declared <= kBvhMaxValues ? declared : 0;
            return;
        }
        // The declared count is not trusted with memory: a number takes at least two characters.
        const int64_t most = static_cast<int64_t>((text_.size() - at_) / 2 + 1);
        const int64_t wanted = std::min(declared, most / bvh_.channels + 1) * bvh_.channels;
        bvh_.values.reserve(static_cast<size_t>(std::min(wanted, kBvhMaxValues)));
        for (;;) {
            const std::string_view token = word();
            if (token.empty()) break;
            bvh_.values.push_back(number(token, "a channel"));
            if (static_cast<int64_t>(bvh_.values.size()) > kBvhMaxValues) {
                fail(fmt::format("more than {} numbers; cut the take", kBvhMaxValues));
            }
        }
        const int64_t count = static_cast<int64_t>(bvh_.values.size());
        bvh_.frames = count / bvh_.channels;
        if (bvh_.frames == 0 && (declared > 0 || count > 0)) {
            fail(fmt::format("{} numbers make no frame of {} channels; is the file cut off?", count,
                             bvh_.channels));
        }
        if (const int64_t extra = count % bvh_.channels) {
            bvh_.warnings.push_back(
                fmt::format("{}:{}: dropped an unfinished frame: {} of {} numbers", name_, line_,
                            extra, bvh_.channels));
            bvh_.values.resize(static_cast<size_t>(bvh_.frames * bvh_.channels));
        }
        if (bvh_.frames != declared) {
            bvh_.warnings.push_back(fmt::format("{}: 'Frames: {}' but {} are there; used those",
                                                name_, declared, bvh_.frames));
        }
    }

    std::string_view text_;
    std::string name_;
    size_t at_ = 0;
    int64_t line_ = 1;
    Bvh bvh_;
};

void check(const Bvh& bvh) {
    int64_t channels = 0;
    if (bvh.joints.empty()) throw Error("BVH: no joints to write");
    for (size_t j = 0; j < bvh.joints.size(); ++j) {
        const BvhJoint& joint = bvh.joints[j];
        const bool parent_ok = j == 0 ? joint.parent == -1
                                      : joint.parent >= 0 && joint.parent < static_cast<int64_t>(j);
        if (!parent_ok || joint.first_channel != channels || joint.name.empty()) {
            throw Error(fmt::format("BVH: joint {} '{}' has a bad parent, channel column or name",
                                    j, joint.name));
        }
        channels += static_cast<int64_t>(joint.channels.size());
    }
    if (channels != bvh.channels ||
        static_cast<int64_t>(bvh.values.size()) != bvh.frames * bvh.channels) {
        throw Error(fmt::format("BVH: got {} values for {} frames of {} channels",
                                bvh.values.size(), bvh.frames, channels));
    }
}

// A number with six decimals and no minus sign before zero.
void append_number(fmt::memory_buffer& out, double value) {
    const double rounded = std::fabs(value) < 5e-7 ? 0.0 : value;
    fmt::format_to(std::back_inserter(out), "{:.6f}", rounded);
}

class Writer {
  public:
    explicit Writer(const Bvh& bvh) : bvh_(bvh), children_(bvh.joints.size()) {
        for (size_t j = 1; j < bvh.joints.size(); ++j) {
            children_[static_cast<size_t>(bvh.joints[j].parent)].push_back(j);
        }
    }

    std::string text() {
        put("HIERARCHY\n");
        joint(0, 0);
        if (written_ != bvh_.joints.size()) throw Error("BVH: joints are not in depth-first order");
        put(fmt::format("MOTION\nFrames: {}\nFrame Time: {:.8f}\n", bvh_.frames, bvh_.frame_time));
        for (int64_t t = 0; t < bvh_.frames; ++t) {
            for (int64_t c = 0; c < bvh_.channels; ++c) {
                const double value = bvh_.values[static_cast<size_t>(t * bvh_.channels + c)];
                if (!std::isfinite(value)) {
                    throw Error(fmt::format("BVH: frame {}, channel {} is not finite", t, c));
                }
                if (c) put(" ");
                append_number(out_, value);
            }
            put("\n");
        }
        return fmt::to_string(out_);
    }

  private:
    void put(std::string_view text) { out_.append(text.data(), text.data() + text.size()); }

    void offset_line(Vec3 offset, const std::string& tabs) {
        put(tabs + "OFFSET");
        for (double x : {offset.x, offset.y, offset.z}) {
            if (!std::isfinite(x)) throw Error("BVH: an OFFSET is not finite");
            put(" ");
            append_number(out_, x);
        }
        put("\n");
    }

    void joint(size_t j, size_t depth) {
        if (j != written_++) throw Error("BVH: joints are not in depth-first order");
        const BvhJoint& self = bvh_.joints[j];
        const std::string tabs(depth, '\t');
        put(tabs + (depth ? "JOINT " : "ROOT ") + self.name + "\n" + tabs + "{\n");
        offset_line(self.offset, tabs + '\t');
        put(fmt::format("{}\tCHANNELS {}", tabs, self.channels.size()));
        for (BvhChannel c : self.channels) {
            put(fmt::format(" {}", kChannelNames[static_cast<size_t>(c)]));
        }
        put("\n");
        for (size_t child : children_[j]) joint(child, depth + 1);
        if (children_[j].empty()) {
            put(tabs + "\tEnd Site\n" + tabs + "\t{\n");
            offset_line(self.end_site, tabs + "\t\t");
            put(tabs + "\t}\n");
        }
        put(tabs + "}\n");
    }

    const Bvh& bvh_;
    std::vector<std::vector<size_t>> children_;
    fmt::memory_buffer out_;
    size_t written_ = 0;
};

// m times the rotation by `degrees` about axis 0 (X), 1 (Y) or 2 (Z).
void turn(Mat3& m, int axis, double degrees) {
    const double angle = degrees * (M_PI / 180.0);
    const double c = std::cos(angle);
    const double s = std::sin(angle);
    const int a = (axis + 1) % 3;
    const int b = (axis + 2) % 3;
    for (int row = 0; row < 3; ++row) {
        const double x = m(row, a);
        const double y = m(row, b);
        m(row, a) = x * c + y * s;
        m(row, b) = y * c - x * s;
    }
}

}  // namespace

int64_t Bvh::find(std::string_view name) const {
    for (size_t j = 0; j < joints.size(); ++j) {
        if (joints[j].name == name) return static_cast<int64_t>(j);
    }
    return -1;
}

Bvh parse_bvh(std::string_view text, const std::string& name) {
    return Parser(text, name).parse();
}

Bvh read_bvh(const std::string& path) {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    const std::span<const std::byte> bytes = file->bytes();
    return parse_bvh({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

std::string format_bvh(const Bvh& bvh) {
    check(bvh);
    return Writer(bvh).text();
}

BvhGlobals bvh_forward(const Bvh& bvh, bool add_root_offset) {
    check(bvh);
    BvhGlobals globals;
    globals.frames = bvh.frames;
    globals.joints = static_cast<int64_t>(bvh.joints.size());
    if (bvh.frames > kBvhMaxValues / globals.joints) {
        throw Error(fmt::format("BVH: {} frames of {} joints are too many; cut the take",
                                bvh.frames, globals.joints));
    }
    globals.positions.reserve(static_cast<size_t>(globals.frames * globals.joints));
    globals.rotations.reserve(static_cast<size_t>(globals.frames * globals.joints));
    for (int64_t t = 0; t < globals.frames; ++t) {
        const double* row = bvh.values.data() + t * bvh.channels;
        for (const BvhJoint& joint : bvh.joints) {
            const bool root = joint.parent < 0;
            Mat3 rotation;
            if (!root) rotation = globals.rotation(t, joint.parent);
            double offset[3] = {joint.offset.x, joint.offset.y, joint.offset.z};
            const double base[3] = {offset[0], offset[1], offset[2]};
            for (size_t c = 0; c < joint.channels.size(); ++c) {
                const double value = row[joint.first_channel + static_cast<int64_t>(c)];
                const int kind = static_cast<int>(joint.channels[c]);
                if (kind >= 3) {
                    turn(rotation, kind - 3, value);
                } else {
                    offset[kind] = value + (root && add_root_offset ? base[kind] : 0.0);
                }
            }
            const Vec3 step{offset[0], offset[1], offset[2]};
            globals.positions.push_back(root ? step : globals.point(t, joint.parent, step));
            globals.rotations.push_back(rotation);
        }
    }
    return globals;
}

}  // namespace mc::motion
