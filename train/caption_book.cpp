#include "train/caption_book.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "kernels/error.h"
#include "tensor/formats/json_limit.h"

namespace mc::train {
namespace {

using nlohmann::json;
using SegmentKey = std::tuple<std::string, int, int>;

// Calls `use` with every line's JSON object; whatever goes wrong becomes one Error with file and
// line.
void for_each_line(const std::string& path, const std::function<void(const json&)>& use) {
    std::ifstream in(path);
    if (!in) throw Error("[" + path + "] cannot be opened: " + std::strerror(errno));
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        ++number;
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        try {
            use(json::parse(line, json_depth_limit()));
        } catch (const json::exception& error) {
            throw Error("[" + path + "] line " + std::to_string(number) + ": " +
                        json_problem(error));
        } catch (const Error& error) {
            throw Error("[" + path + "] line " + std::to_string(number) + ": " + error.what());
        }
    }
    if (in.bad()) throw Error("[" + path + "] cannot be read");
    if (number == 0) throw Error("[" + path + "] is empty");
}

int frame_number(const json& value) {
    if (!value.is_number_integer())
        throw Error("want a whole number of frames, got " + value.dump());
    const auto frame = value.get<std::int64_t>();
    if (frame < 0 || frame > 100'000'000) throw Error("frame number out of range: " + value.dump());
    return static_cast<int>(frame);
}

std::vector<std::string> texts(const json& value) {
    auto list = value.get<std::vector<std::string>>();
    for (const std::string& text : list)
        if (text.empty()) throw Error("a text is empty");
    return list;
}

CaptionedSegment segment_of(const json& row) {
    CaptionedSegment segment;
    segment.clip = row.at("clip").get<std::string>();
    segment.file = row.at("file").get<std::string>();
    segment.from = frame_number(row.at("from"));
    segment.to = frame_number(row.at("to"));
    segment.category = row.at("category").get<std::string>();
    segment.captions = texts(row.at("captions"));
    if (row.contains("paraphrases")) segment.paraphrases = texts(row.at("paraphrases"));
    if (row.contains("bad")) segment.bad = row.at("bad").get<bool>();
    if (segment.from >= segment.to)
        throw Error("segment of " + segment.clip + " has no frames: from " +
                    std::to_string(segment.from) + " to " + std::to_string(segment.to));
    if (segment.captions.empty()) throw Error("segment of " + segment.clip + " has no caption");
    return segment;
}

}  // namespace

std::vector<std::string> CaptionedSegment::wordings() const {
    std::vector<std::string> all = captions;
    all.insert(all.end(), paraphrases.begin(), paraphrases.end());
    all.insert(all.end(), phrasings.begin(), phrasings.end());
    return all;
}

std::vector<CaptionedSegment> read_captions(const std::string& captions_path,
                                            const std::string& phrasings_path) {
    std::vector<CaptionedSegment> segments;
    std::map<SegmentKey, std::size_t> index;
    for_each_line(captions_path, [&](const json& row) {
        CaptionedSegment segment = segment_of(row);
        const SegmentKey key{segment.clip, segment.from, segment.to};
        if (!index.emplace(key, segments.size()).second)
            throw Error("segment of " + segment.clip + " from " + std::to_string(segment.from) +
                        " is there twice");
        segments.push_back(std::move(segment));
    });
    if (phrasings_path.empty()) return segments;
    for_each_line(phrasings_path, [&](const json& row) {
        const std::vector<std::string> phrasings = texts(row.at("phrasings"));
        for (const json& entry : row.at("segments")) {
            if (!entry.is_array() || entry.size() != 3)
                throw Error("want a segment as [clip, from, to], got " + entry.dump());
            const SegmentKey key{entry[0].get<std::string>(), frame_number(entry[1]),
                                 frame_number(entry[2])};
            const auto found = index.find(key);
            if (found == index.end()) throw Error("no such segment: " + entry.dump());
            auto& own = segments[found->second].phrasings;
            own.insert(own.end(), phrasings.begin(), phrasings.end());
        }
    });
    return segments;
}

}  // namespace mc::train
