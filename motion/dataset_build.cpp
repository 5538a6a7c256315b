#include "motion/dataset_build.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/mirror_text.h"
#include "motion/motion_file.h"
#include "motion/skeleton.h"
#include "motion/statistics.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/npy.h"
#include "tensor/formats/temporary.h"

namespace mc::motion {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Categories of motion that goes on: a part of it is described by the caption of the whole.
const std::set<std::string> kContinuous = {"balance", "climb", "dance", "exercise", "hop",  "idle",
                                           "run",     "sneak", "stand", "swing",    "walk", "wash"};

constexpr int64_t kReaderSlack = 3;  // readers take up to max_frames + 3 rows and crop

using SegmentKey = std::tuple<std::string, int64_t, int64_t>;  // clip, from, to

struct Segment {
    std::string clip, file, category;
    int64_t from = 0, to = 0;
    std::vector<std::string> captions;
    bool bad = false;
    std::string place;  // file:line
    std::string name;   // NNNNNN
};

// One clip to be written, without its twin.
struct Entry {
    const Segment* segment;
    std::string name;
    int64_t from, to;  // frames of the source clip
};

// Calls use(line as JSON, "file:line") for every line that is not blank.
template <typename Use>
void for_each_json_line(const fs::path& path, Use use) {
    std::ifstream in(path);
    if (!in) throw Error(fmt::format("{}: cannot open", path.string()));
    std::string line;
    for (int64_t number = 1; std::getline(in, line); ++number) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        const std::string place = fmt::format("{}:{}", path.string(), number);
        const auto parsed = [&] {
            try {
                return json::parse(line, json_depth_limit());
            } catch (const Error& e) {
                throw Error(fmt::format("{}: {}", place, e.what()));
            }
        };
        try {
            use(parsed(), place, number - 1);
        } catch (const json::exception& e) {
            throw Error(fmt::format("{}: not a usable JSON line: {}", place, json_problem(e)));
        }
    }
    if (in.bad()) throw Error(fmt::format("{}: cannot read", path.string()));
}

bool plain_name(const std::string& name) {  // safe as a file name and in a table
    return !name.empty() && name[0] != '.' &&
           std::all_of(name.begin(), name.end(), [](unsigned char c) {
               return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '+';
           });
}

// The library would cut 1.5 to 1.
int64_t frame_number(const json& value, const std::string& name, const std::string& place) {
    if (!value.is_number_integer())
        throw Error(fmt::format("{}: {} is {}, want a whole number of frames", place, name,
                                value.dump(-1, ' ', false, json::error_handler_t::replace)));
    return value.get<int64_t>();
}

void check_words(const std::vector<std::string>& texts, const char* what,
                 const std::string& place) {
    for (const std::string& text : texts)
        if (caption_line(text)[0] == '#')
            throw Error(
                fmt::format("{}: a {} has no words; write some or take it out", place, what));
}

std::vector<Segment> read_segments(const fs::path& captions, const fs::path& phrasings) {
    std::vector<Segment> segments;
    for_each_json_line(captions, [&](const json& line, const std::string& place, int64_t number) {
        Segment s;
        s.place = place;
        s.clip = line.at("clip").get<std::string>();
        s.file = line.at("file").get<std::string>();
        s.category = line.at("category").get<std::string>();
        s.from = frame_number(line.at("from"), "\"from\"", place);
        s.to = frame_number(line.at("to"), "\"to\"", place);
        s.captions = line.at("captions").get<std::vector<std::string>>();
        if (const auto more = line.find("paraphrases"); more != line.end())
            for (const json& text : *more) s.captions.push_back(text.get<std::string>());
        check_words(s.captions, "caption", place);
        if (const auto bad = line.find("bad"); bad != line.end())
            s.bad = bad->is_string() ? !bad->get<std::string>().empty() : bad->get<bool>();
        for (const std::string* name : {&s.clip, &s.file, &s.category})
            if (!plain_name(*name))
                throw Error(
                    fmt::format("{}: '{}' is no plain name (letters, digits, '_', '-', '+', '.')",
                                place, *name));
        if (s.from < 0 || s.to <= s.from)
            throw Error(fmt::format("{}: frames {}..{} are no range", place, s.from, s.to));
        s.name = fmt::format("{:06}", number);
        segments.push_back(std::move(s));
    });
    if (segments.empty()) throw Error(fmt::format("{}: no segments", captions.string()));
    if (phrasings.empty()) return segments;

    std::map<SegmentKey, std::vector<Segment*>> by_key;
    for (Segment& s : segments) by_key[{s.clip, s.from, s.to}].push_back(&s);
    for_each_json_line(phrasings, [&](const json& line, const std::string& place, int64_t) {
        const auto pool = line.at("phrasings").get<std::vector<std::string>>();
        check_words(pool, "phrasing", place);
        for (const json& key : line.at("segments")) {
            const auto clip = key.at(0).get<std::string>();
            const SegmentKey wanted{clip,
                                    frame_number(key.at(1), "the begin in segment " + clip, place),
                                    frame_number(key.at(2), "the end in segment " + clip, place)};
            const auto found = by_key.find(wanted);
            if (found == by_key.end())
                throw Error(fmt::format("{}: segment {} {}..{} is not in {}", place,
                                        std::get<0>(wanted), std::get<1>(wanted),
                                        std::get<2>(wanted), captions.string()));
            for (Segment* s : found->second)
                s->captions.insert(s->captions.end(), pool.begin(), pool.end());
        }
    });
    return segments;
}

// All texts of a clip; captions that differ in nothing are written once.
std::string text_file(const std::vector<std::string>& captions, bool mirrored, int64_t& count) {
    std::set<std::string> seen;
    std::string text;
    for (const std::string& caption : captions) {
        const std::string line = caption_line(mirrored ? mirror_caption(caption) : caption);
        if (line[0] == '#' || !seen.insert(line).second) continue;
        text += line + '\n';
        ++count;
    }
    return text;
}

// Reads a clip once, however many segments it has.
class ClipReader {
  public:
    explicit ClipReader(fs::path folder) : folder_(std::move(folder)) {}

    const JointSequence& read(const Segment& s) {
        if (s.file == file_ && s.clip == clip_) return joints_;
        auto& archive = archives_[s.file];
        if (!archive) archive = std::make_unique<NpzFile>(folder_ / s.file);
        if (!archive->contains(s.clip))
            throw Error(fmt::format("{}: clip '{}' is not in {}", s.place, s.clip,
                                    (folder_ / s.file).string()));
        joints_ = joints_of_array(archive->read(s.clip));
        file_ = s.file;
        clip_ = s.clip;
        return joints_;
    }

  private:
    fs::path folder_;
    std::map<std::string, std::unique_ptr<NpzFile>> archives_;
    std::string file_, clip_;
    JointSequence joints_;
};

// Decides what is written: windows of the good segments that are long enough.
std::vector<Entry> plan(const std::vector<Segment>& segments, const BuildOptions& options,
                        BuildReport& report) {
    std::vector<Entry> entries;
    for (const Segment& s : segments) {
        ++report.segments;
        const int64_t rows = s.to - s.from - 1;
        if (s.bad) {
            ++report.bad;
        } else if (rows < options.min_frames) {
            ++report.too_short;
        } else if (rows <= options.max_frames + kReaderSlack) {
            entries.push_back({&s, s.name, s.from, s.to});
        } else if (!kContinuous.contains(s.category)) {
            ++report.too_long;
            report.warnings.push_back(fmt::format(
                "{}: left out: {} rows, and a part of '{}' is not described by its captions",
                s.place, rows, s.category));
        } else {
            const int64_t parts = (rows + options.max_frames - 1) / options.max_frames;
            for (int64_t w = 0; w < parts; ++w) {
                const int64_t begin = rows * w / parts, end = rows * (w + 1) / parts;
                entries.push_back(
                    {&s, fmt::format("{}_w{}", s.name, w), s.from + begin, s.from + end + 1});
                ++report.windows;
            }
        }
    }
    if (entries.empty())
        throw Error(fmt::format("{}: no segment is left to write ({} bad, {} shorter than {} rows)",
                                options.captions.string(), report.bad, report.too_short,
                                options.min_frames));
    return entries;
}

// The folder under construction; vanishes unless it is moved to its place.
class OutputFolder {
  public:
    OutputFolder(fs::path out, bool replace)
        : out_(out.has_filename() ? std::move(out) : out.parent_path()), temporary_(out_) {
        if (fs::exists(out_) && !(fs::is_directory(out_) && fs::is_empty(out_))) {
            if (!replace)
                throw Error(fmt::format(
                    "{}: is there already; add --replace, or name another folder", out_.string()));
            if (!fs::exists(out_ / "dataset.json"))
                throw Error(
                    fmt::format("{}: is no data set of ours (it has no dataset.json), so it "
                                "is not replaced",
                                out_.string()));
        }
        fs::remove_all(path());
        for (const char* sub : {"new_joint_vecs", "new_joints", "texts"})
            fs::create_directories(path() / sub);
    }
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

    const fs::path& path() const { return temporary_.path(); }
    void move_into_place() {
        fs::path old = path();
        old += ".old";
        temporary_.keep();  // whatever happens from here on, both are whole
        if (fs::exists(out_)) fs::rename(out_, old);
        fs::rename(path(), out_);
        fs::remove_all(old);
    }

  private:
    fs::path out_;
    Temporary temporary_;
};

json describe(const BuildOptions& o, const BuildReport& r, const std::vector<Segment>& segments,
              const Skeleton& skeleton) {
    std::map<std::string, int64_t> files;
    for (const Segment& s : segments) ++files[s.file];
    return {
        {"format", "HumanML3D layout, version 1"},
        {"made_by", "motion dataset build"},
        {"skeleton", skeleton.name},
        {"fps", skeleton.fps},
        {"feature_columns", skeleton.feature_dims()},
        {"unit", "metre"},
        {"up", "Y"},
        {"source",
         {{"folder", o.mocap.filename().string()},
          {"captions", o.captions.filename().string()},
          {"phrasings", o.phrasings.filename().string()},
          {"segments_by_archive", files}}},
        {"options",
         {{"min_frames", o.min_frames},
          {"max_frames", o.max_frames},
          {"mirror", o.mirror},
          {"val_share", o.shares.val},
          {"test_share", o.shares.test},
          {"seed", o.seed}}},
        {"counts",
         {{"segments", r.segments},
          {"left_out_bad", r.bad},
          {"left_out_short", r.too_short},
          {"left_out_long", r.too_long},
          {"windows_of_long_segments", r.windows},
          {"clips", r.clips},
          {"rows", r.rows},
          {"captions", r.captions},
          {"clips_by_split", r.split_clips},
          {"clips_by_category_and_split", r.categories}}},
        {"texts", "all tokens are tagged OTHER; mirrored twins have mirrored captions"},
        {"statistics",
         "Mean and Std over all clips of all splits, Std averaged within feature groups, without "
         "feat_bias"},
    };
}

void check(BuildOptions& o) {
    if (o.min_frames < 1 || o.max_frames < o.min_frames)
        throw Error(
            fmt::format("[dataset build] frames: got min {} and max {}, want 1 <= min <= max",
                        o.min_frames, o.max_frames));
    if (o.out.empty()) throw Error("[dataset build] out: no folder is named");
    if (o.captions.empty()) o.captions = o.mocap / "captions.jsonl";
    if (o.phrasings.empty() && fs::exists(o.mocap / "phrasings.jsonl"))
        o.phrasings = o.mocap / "phrasings.jsonl";
    if (!fs::is_directory(o.mocap / "joints"))
        throw Error(fmt::format("{}: no such folder; want one with joints/*.npz in it",
                                (o.mocap / "joints").string()));
}

BuildReport build(BuildOptions options, const std::function<void(int64_t, int64_t)>& progress) {
    check(options);
    const std::vector<Segment> segments = read_segments(options.captions, options.phrasings);
    BuildReport report;
    const std::vector<Entry> entries = plan(segments, options, report);
    std::vector<SplitItem> items;
    for (const Entry& e : entries)
        items.push_back({capture_trial(e.segment->clip), e.segment->category});
    const std::vector<Split> splits = split_by_trial(items, options.shares, options.seed);

    OutputFolder folder(options.out, options.replace);
    const fs::path& out = folder.path();
    ClipReader reader(options.mocap / "joints");
    std::unique_ptr<FeatureStatistics> statistics;
    const Skeleton* skeleton = nullptr;
    std::map<std::string, std::string> lists;  // file -> names
    std::string table;
    for (size_t i = 0; i < entries.size(); ++i) {
        const Entry& e = entries[i];
        const Segment& s = *e.segment;
        const JointSequence& clip = reader.read(s);
        if (e.to > clip.frames)
            throw Error(fmt::format("{}: frames {}..{}, but clip '{}' has {}", s.place, s.from,
                                    s.to, s.clip, clip.frames));
        const Skeleton& own = skeleton_for_joints(clip.joints);
        if (!skeleton) {
            skeleton = &own;
            statistics = std::make_unique<FeatureStatistics>(own.feature_dims());
        } else if (skeleton != &own) {
            throw Error(fmt::format("{}: clip '{}' has {} joints, the clips before have {}",
                                    s.place, s.clip, own.joints, skeleton->joints));
        }
        const JointSequence cut = slice(clip, e.from, e.to);
        for (const bool mirrored : {false, true}) {
            if (mirrored && !options.mirror) continue;
            const std::string name = (mirrored ? "M" : "") + e.name;
            FeatureSequence features;
            try {
                features = motion_features(mirrored ? mirror(cut, own) : cut);
            } catch (const Error& error) {
                throw Error(fmt::format("{}: clip '{}': {}; mark the segment bad, or mend it",
                                        s.place, s.clip, error.what()));
            }
            write_features(out / "new_joint_vecs" / (name + ".npy"), features, false);
            write_joints(out / "new_joints" / (name + ".npy"), joints_from_features(features),
                         false);
            const std::string text = text_file(s.captions, mirrored, report.captions);
            if (text.empty()) throw Error(fmt::format("{}: no captions", s.place));
            write_text_file(out / "texts" / (name + ".txt"), text, false);
            statistics->add(features);
            const std::string split = split_name(splits[i]);
            lists["all.txt"] += name + '\n';
            lists[split + ".txt"] += name + '\n';
            if (splits[i] != Split::kTest) lists["train_val.txt"] += name + '\n';
            table += fmt::format("{}\t{}\t{}\t{}\t{}\n", name, s.category, s.clip, e.from, e.to);
            ++report.clips;
            ++report.split_clips[split];
            ++report.categories[s.category][split];
            report.rows += features.frames;
        }
        if (progress) progress(static_cast<int64_t>(i) + 1, static_cast<int64_t>(entries.size()));
    }
    for (const char* list : {"train.txt", "val.txt", "test.txt", "train_val.txt", "all.txt"})
        write_text_file(out / list, lists[list]);
    write_text_file(out / "categories.txt", table);
    std::vector<int> constant;
    write_normalisation(statistics->finish(&constant), out / "Mean.npy", out / "Std.npy");
    for (int group : constant)
        report.warnings.push_back(
            fmt::format("feature group {} never changes; its Std is written as 1", group));
    for (const auto& file : fs::directory_iterator(options.mocap))
        if (file.is_regular_file() && file.path().filename().string().starts_with("LICENSE")) {
            fs::copy_file(file.path(), out / file.path().filename());
            fs::permissions(out / file.path().filename(), fs::perms::owner_write,
                            fs::perm_options::add);
        }
    write_text_file(out / "dataset.json",
                    describe(options, report, segments, *skeleton).dump(2) + "\n");
    folder.move_into_place();
    return report;
}

}  // namespace

std::string caption_line(const std::string& caption) {
    std::string text, tokens, word;
    for (char c : caption) {
        if (c == '#' || c == '\n' || c == '\r' || c == '\t') c = ' ';
        if (c == ' ' && (text.empty() || text.back() == ' ')) continue;
        text += c;
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    // Words of letters alone; hyphens and apostrophes vanish, anything else ends a word.
    for (char c : text + ' ') {
        const auto u = static_cast<unsigned char>(c);
        if (std::isalpha(u) || u >= 0x80) {
            word += static_cast<char>(u < 0x80 ? std::tolower(u) : u);
        } else if (c != '-' && c != '\'' && !word.empty()) {
            tokens += (tokens.empty() ? "" : " ") + word + "/OTHER";
            word.clear();
        }
    }
    return text + '#' + tokens + "#0.0#0.0";
}

BuildReport build_dataset(const BuildOptions& options,
                          const std::function<void(int64_t, int64_t)>& progress) {
    try {
        return build(options, progress);
    } catch (const fs::filesystem_error& e) {
        throw Error(fmt::format("[dataset build] {}: {}", e.path1().string(), e.code().message()));
    }
}

}  // namespace mc::motion
