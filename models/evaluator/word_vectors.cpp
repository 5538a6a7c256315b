#include "models/evaluator/word_vectors.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include "tensor/finite.h"
#include "tensor/formats/load_tensors.h"
#include "tensor/formats/mapped_file.h"
#include "tensor/formats/npy.h"
#include "tensor/formats/utf8.h"

namespace mc::evaluator {
namespace {

constexpr int64_t kOther = 14;
constexpr std::array<std::string_view, 9> kPos = {"VERB", "NOUN", "DET", "ADP", "NUM",
                                                  "AUX",  "PRON", "ADJ", "ADV"};

// Words with a class of their own, 9 to 13, in the order of precedence.
const std::array<std::vector<std::string_view>, 5> kLists = {{
    {"left", "right", "clockwise", "counterclockwise", "anticlockwise", "forward", "back",
     "backward", "up", "down", "straight", "curve"},
    {"arm", "chin", "foot", "feet", "face", "hand", "mouth", "leg", "waist", "eye", "knee",
     "shoulder", "thigh"},
    {"stair", "dumbbell", "chair", "window", "floor", "car", "ball", "handrail", "baseball",
     "basketball"},
    {"walk",  "run",     "swing", "pick",   "bring",   "kick",   "put",  "squat",   "throw",
     "hop",   "dance",   "jump",  "turn",   "stumble", "stop",   "sit",  "lift",    "lower",
     "raise", "wash",    "stand", "kneel",  "stroll",  "rub",    "bend", "balance", "flap",
     "jog",   "shuffle", "lean",  "rotate", "spin",    "spread", "climb"},
    {"slowly", "carefully", "fast", "careful", "slow", "quickly", "happy", "angry", "sad",
     "happily", "angrily", "sadly"},
}};

}  // namespace

int64_t part_of_speech(const std::string& word, const std::string& pos) {
    for (size_t list = 0; list < kLists.size(); ++list)
        if (std::find(kLists[list].begin(), kLists[list].end(), word) != kLists[list].end())
            return static_cast<int64_t>(kPos.size() + list);
    const auto found = std::find(kPos.begin(), kPos.end(), pos);
    return found == kPos.end() ? kOther : found - kPos.begin();
}

WordVectors::WordVectors(const std::vector<std::string>& words, const Tensor& vectors) {
    if (vectors.dims() != 2 || vectors.size(0) != static_cast<int64_t>(words.size()))
        throw Error("[words] " + std::to_string(words.size()) + " words and vectors " +
                    vectors.shape().str() + ", want one row a word");
    vectors_ = vectors.to(DType::f32).contiguous();
    for (size_t i = 0; i < words.size(); ++i)
        if (!rows_.emplace(words[i], static_cast<int64_t>(i)).second)
            throw Error("[words] \"" + printable(words[i]) + "\" stands twice in the list");
    for (const char* needed : {"sos", "eos", "unk"})
        if (!rows_.count(needed))
            throw Error(std::string("[words] the list has no \"") + needed +
                        "\"; is it the data set's own (our_vab_words.pkl)?");
}

void WordVectors::put(const std::string& word, const std::string& pos, int64_t at,
                      WordFeatures& out) const {
    const auto found = rows_.find(word);
    const bool known = found != rows_.end();
    const int64_t row = known ? found->second : rows_.at("unk"), d = width();
    std::copy_n(vectors_.data<float>() + row * d, d, out.words.data<float>() + at * d);
    out.pos.data<float>()[at * kPartsOfSpeech + (known ? part_of_speech(word, pos) : kOther)] = 1;
}

WordFeatures WordVectors::features(std::span<const std::string> tokens) const {
    WordFeatures out;
    out.words = Tensor::empty({kTextLength, width()});
    out.pos = Tensor::zeros({kTextLength, kPartsOfSpeech});
    const int64_t count = std::min<int64_t>(kMaxTokens, static_cast<int64_t>(tokens.size()));
    out.length = count + 2;
    put("sos", "OTHER", 0, out);
    for (int64_t i = 0; i < count; ++i) {
        const std::string& token = tokens[static_cast<size_t>(i)];
        const size_t slash = token.find('/');
        if (slash == std::string::npos || token.find('/', slash + 1) != std::string::npos)
            throw Error("[words] token \"" + token + "\" is not word/POS");
        put(token.substr(0, slash), token.substr(slash + 1), i + 1, out);
    }
    put("eos", "OTHER", count + 1, out);
    for (int64_t at = count + 2; at < kTextLength; ++at) put("unk", "OTHER", at, out);
    return out;
}

WordRows parse_word_rows(std::span<const std::byte> words, const std::string& words_source,
                         std::span<const std::byte> rows, const std::string& rows_source) {
    const auto list_tree = PickleTree::parse(words, words_source),
               dict_tree = PickleTree::parse(rows, rows_source);
    const PyValue list(list_tree, list_tree->root()), dict(dict_tree, dict_tree->root());
    if (!list.is(PyKind::list))
        throw Error(words_source + ": want a list of words, it holds " + list.repr(60));
    if (!dict.is(PyKind::dict))
        throw Error(rows_source + ": want a dict from words to rows, it holds " + dict.repr(60));
    std::unordered_map<std::string, int64_t> row_of;
    for (size_t i = 0; i < dict.size(); ++i) {
        if (!dict.key(i).is(PyKind::text) || !dict.item(i).is(PyKind::integer))
            throw Error(rows_source + ": entry " + std::to_string(i) + " is " +
                        dict.key(i).repr(40) + ": " + dict.item(i).repr(40) +
                        ", want a word and its row");
        row_of[dict.key(i).as_text()] = dict.item(i).as_int();
    }
    WordRows out;
    std::unordered_set<std::string> listed;  // of a word that is listed again the row is the same
    for (size_t i = 0; i < list.size(); ++i) {
        if (!list.item(i).is(PyKind::text))
            throw Error(words_source + ": entry " + std::to_string(i) + " is " +
                        list.item(i).repr(40) + ", want a word");
        const std::string& word = list.item(i).as_text();
        if (!listed.insert(word).second) continue;
        const auto found = row_of.find(word);
        if (found == row_of.end())
            throw Error(rows_source + ": has no row of \"" + printable(word) +
                        "\"; is it of another list of words?");
        out.words.push_back(word);
        out.rows.push_back(found->second);
    }
    return out;
}

WordVectors read_word_vectors(const std::filesystem::path& folder) {
    const auto table_path = folder / "our_vab_data.npy", words_path = folder / "our_vab_words.pkl",
               rows_path = folder / "our_vab_idx.pkl";
    for (const auto& path : {table_path, words_path, rows_path})
        if (!std::filesystem::is_regular_file(path))
            throw Error(path.string() +
                        ": is not there; want the folder of our_vab_data.npy, "
                        "our_vab_words.pkl and our_vab_idx.pkl");
    const Tensor table = tensor_of(read_npy(table_path)).to(DType::f32).contiguous();
    if (table.dims() != 2 || table.numel() == 0)
        throw Error(table_path.string() + ": shape " + table.shape().str() +
                    ", want one row a word");
    check_finite(table_path.string(), table);
    const auto words_file = MappedFile::open(words_path), rows_file = MappedFile::open(rows_path);
    const WordRows read = parse_word_rows(words_file->bytes(), words_path.string(),
                                          rows_file->bytes(), rows_path.string());
    const int64_t width = table.size(1);
    Tensor vectors = Tensor::empty({static_cast<int64_t>(read.words.size()), width});
    for (size_t i = 0; i < read.rows.size(); ++i) {
        if (read.rows[i] < 0 || read.rows[i] >= table.size(0))
            throw Error(rows_path.string() + ": \"" + printable(read.words[i]) + "\" has row " +
                        std::to_string(read.rows[i]) + ", but " + table_path.string() + " has " +
                        std::to_string(table.size(0)) + " rows");
        std::copy_n(table.data<float>() + read.rows[i] * width, width,
                    vectors.data<float>() + static_cast<int64_t>(i) * width);
    }
    try {
        return WordVectors(read.words, vectors);
    } catch (const Error& e) {
        throw Error(words_path.string() + ": " + e.what());
    }
}

}  // namespace mc::evaluator
