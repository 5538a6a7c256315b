// The tokenizer's JSON lines: text, bpe (ids without start and end), ids (cut to CLIP's 77),
// overflow (does not fit), decoded; bpe_no_ftfy where the reference's text repair changes the ids.
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/clip/tokenizer.h"
#include "tensor/formats/json_limit.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

constexpr int64_t kContext = 77;
constexpr const char* kVocabularyName = "bpe_simple_vocab_16e6.txt.gz";
using Ids = std::vector<int32_t>;

// Beside the case, or where the shared folder has CLIP's own files; empty if it is nowhere.
std::filesystem::path find_vocabulary(const std::filesystem::path& cases) {
    const std::filesystem::path folder = std::filesystem::absolute(cases).parent_path();
    for (const char* place : {".", "../data/CLIP", "../../data/CLIP"}) {
        const auto path = folder / place / kVocabularyName;
        if (std::filesystem::exists(path)) return path;
    }
    return {};
}

// The one thing of ftfy that is left out: UTF-8 that was read as Latin-1 or Windows-1252 begins
// with one of these.
bool mojibake(const std::string& text) {
    return clip::decode_utf8(text).find_first_of(U"\u00C3\u00E2\u00F0") != std::u32string::npos;
}

struct Tally {
    CheckRow row;
    explicit Tally(const char* name) {
        row.tensor = name;
        row.exact = true;
    }
    void count(bool equal, int64_t line) {
        ++row.count;
        if (equal) return;
        row.verdict = Verdict::failed;
        if (row.different++ == 0) row.note = fmt::format("the first in line {}", line);
    }
};

}  // namespace

CaseResult run_tokenizer(const std::filesystem::path& path, const ReproduceOptions& options) {
    CaseResult result;
    result.name = path.stem().string();
    result.kind = "tokenizer";
    const auto vocabulary =
        options.clip_vocabulary.empty() ? find_vocabulary(path) : options.clip_vocabulary;
    if (vocabulary.empty()) {
        CheckRow row;
        row.tensor = "(vocabulary)";
        row.verdict = Verdict::skipped;
        row.note = fmt::format("needs CLIP's {}; name it with --vocab", kVocabularyName);
        result.rows.push_back(row);
        return result;
    }
    const auto repaired = clip::Tokenizer::from_file(vocabulary.string());
    clip::TokenizerOptions plain_options;
    plain_options.cleaning.fix_text = false;
    const auto plain = repaired.with_options(plain_options);
    Tally plain_bpe("bpe without text repair"), bpe("bpe"), ids("ids"), overflow("overflow"),
        decoded("decoded");
    int64_t number = 0, left_out = 0;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        ++number;
        if (line.empty()) continue;
        try {
            const auto row = nlohmann::json::parse(line, json_depth_limit());
            const std::string text = row.at("text");
            const Ids want = row.at("bpe").get<Ids>();
            plain_bpe.count(
                plain.encode(text) ==
                    (row.contains("bpe_no_ftfy") ? row["bpe_no_ftfy"].get<Ids>() : want),
                number);
            decoded.count(repaired.decode(want) == row.at("decoded").get<std::string>(), number);
            if (row.at("ftfy_changes_ids").get<bool>() && mojibake(text)) {
                ++left_out;
                continue;
            }
            bpe.count(repaired.encode(text) == want, number);
            Ids padded = row.at("ids").get<Ids>();
            padded.resize(static_cast<size_t>(
                              std::max<int64_t>(kContext, static_cast<int64_t>(padded.size()))),
                          0);
            ids.count(repaired.tokenize(text, kContext, true) == padded, number);
            bool refused = false;
            try {
                repaired.tokenize(text, kContext, false);
            } catch (const Error&) {
                refused = true;
            }
            overflow.count(refused == row.at("overflow").get<bool>(), number);
        } catch (const nlohmann::json::exception& error) {
            throw Error(fmt::format("{}: line {} is not a tokenizer case: {}", path.string(),
                                    number, error.what()));
        }
    }
    for (const Tally& tally : {plain_bpe, bpe, ids, overflow, decoded})
        result.rows.push_back(tally.row);
    if (left_out > 0) {
        CheckRow row;
        row.tensor = "(mojibake)";
        row.verdict = Verdict::skipped;
        row.note = fmt::format("{} texts that only ftfy's decoding of mojibake changes", left_out);
        result.rows.push_back(row);
    }
    return result;
}

}  // namespace mc::train
