#include "models/clip/tokenizer.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <queue>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "kernels/error.h"
#include "models/clip/merge_file.h"
#include "tensor/formats/utf8.h"

namespace mc::clip {
namespace {

constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";

constexpr bool stands_for_itself(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
           (byte >= 174 && byte <= 255);
}

struct ByteAlphabet {
    std::array<std::uint8_t, 256> byte_of_id{};
    std::array<std::int32_t, 256> id_of_byte{};
    std::array<char32_t, 256> code_of_id{};
    constexpr ByteAlphabet() {
        int id = 0;
        for (const bool itself : {true, false}) {
            for (int byte = 0; byte < 256; ++byte) {
                if (stands_for_itself(byte) != itself) continue;
                const auto at = static_cast<std::size_t>(id);
                byte_of_id[at] = static_cast<std::uint8_t>(byte);
                id_of_byte[static_cast<std::size_t>(byte)] = id;
                code_of_id[at] = static_cast<char32_t>(itself ? byte : 256 + id - 188);
                ++id;
            }
        }
    }
};
constexpr ByteAlphabet kBytes;

// The bytes that a symbol of a merge file stands for ("</w>" stays); false if a character is not of
// the alphabet.
bool symbol_to_bytes(std::string_view symbol, std::string& bytes) {
    bytes.clear();
    for (const char32_t code : decode_utf8(symbol)) {
        if (code < 256 && stands_for_itself(static_cast<int>(code)))
            bytes += static_cast<char>(static_cast<unsigned char>(code));
        else if (code >= 256 && code < 256 + 68)
            bytes += static_cast<char>(kBytes.byte_of_id[188 + code - 256]);
        else
            return false;
    }
    return true;
}

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
           static_cast<std::uint32_t>(right);
}

struct Merge {
    std::int32_t rank;
    std::int32_t result;
};

// A piece is kept in the cache if it is no longer than this, and while there are no more than so
// many.
constexpr std::size_t kLongestCached = 64;
constexpr std::size_t kMostCached = std::size_t{1} << 16;

std::string shortened(std::string_view text) {
    constexpr std::size_t kMost = 120;
    return text.size() <= kMost ? std::string(text) : std::string(text.substr(0, kMost)) + "...";
}

}  // namespace

std::uint8_t byte_of_id(int id) {
    return kBytes.byte_of_id.at(static_cast<std::size_t>(id));
}

std::string symbol_of_id(int id) {
    const char32_t code = kBytes.code_of_id.at(static_cast<std::size_t>(id));
    return encode_utf8(std::u32string_view(&code, 1));
}

struct Tokenizer::Vocabulary {
    std::vector<std::string> symbols;  // by id, as in the merge file
    std::vector<std::string> texts;    // by id, the bytes they stand for, "</w>" spelled out
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs;  // by rank, ids of the two symbols
    std::unordered_map<std::uint64_t, Merge> merges;           // by pair_key

    mutable std::shared_mutex cache_mutex;
    mutable std::unordered_map<std::string, std::vector<std::int32_t>> cache;

    Vocabulary(std::string_view text, const std::string& name, std::size_t max_merges);

    std::int32_t size() const { return static_cast<std::int32_t>(symbols.size()) + 2; }
    std::int32_t sot() const { return size() - 2; }
    std::int32_t eot() const { return size() - 1; }

    void merge_piece(std::string_view piece, std::vector<std::int32_t>& ids) const;
    void encode_piece(std::string_view piece, std::vector<std::int32_t>& ids) const;
};

Tokenizer::Vocabulary::Vocabulary(std::string_view text, const std::string& name,
                                  std::size_t max_merges) {
    if (text.empty()) throw Error("[" + name + "] is empty: want a BPE merge file");
    std::unordered_map<std::string, std::int32_t> id_of_symbol;
    const auto add_symbol = [&](std::string symbol) {
        std::string bytes;
        symbol_to_bytes(symbol, bytes);
        // Two merges may spell the same symbol: the later id is used from then on, as in CLIP's
        // dictionary.
        id_of_symbol[symbol] = static_cast<std::int32_t>(symbols.size());
        symbols.push_back(std::move(symbol));
        texts.push_back(std::move(bytes));
    };
    for (int id = 0; id < 256; ++id) add_symbol(symbol_of_id(id));
    for (int id = 0; id < 256; ++id) add_symbol(symbol_of_id(id) + std::string(kWordEnd));

    std::vector<std::pair<std::string, std::string>> spelled;
    std::size_t line_number = 0;
    for (std::string_view rest = text; !rest.empty() && spelled.size() < max_merges;) {
        std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        if (line.ends_with('\r')) line.remove_suffix(1);
        ++line_number;
        const auto fail = [&](const std::string& what) {
            throw Error("[" + name + "] line " + std::to_string(line_number) + ": " + what +
                        ", got \"" + printable(line) + "\"; is this a BPE merge file?");
        };
        if (line_number == 1) {
            if (line.find("#version") == std::string_view::npos)
                fail("want a header line with \"#version\" before the merges");
            continue;
        }
        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
            line.find(' ', space + 1) != std::string_view::npos)
            fail("want two symbols with one space between them");
        spelled.emplace_back(line.substr(0, space), line.substr(space + 1));
        std::string bytes;
        for (const std::string& symbol : {spelled.back().first, spelled.back().second}) {
            if (validate_utf8(symbol) || !symbol_to_bytes(symbol, bytes))
                fail("a symbol has a character that stands for no byte");
            if (!id_of_symbol.contains(symbol))
                fail("symbol " + printable(symbol) + " is no byte and no earlier line makes it");
        }
        if (!spelled.back().first.ends_with(kWordEnd) || spelled.back().first == kWordEnd)
            add_symbol(spelled.back().first + spelled.back().second);
        else
            fail("the left symbol ends a word");
    }
    if (spelled.empty())
        throw Error("[" + name + "] has a header but no merges: the file is cut short");

    pairs.reserve(spelled.size());
    merges.reserve(spelled.size());
    for (std::size_t rank = 0; rank < spelled.size(); ++rank) {
        const auto& [left, right] = spelled[rank];
        const auto pair = std::pair(id_of_symbol.at(left), id_of_symbol.at(right));
        pairs.push_back(pair);
        const Merge merge{static_cast<std::int32_t>(rank), id_of_symbol.at(left + right)};
        merges[pair_key(pair.first, pair.second)] =
            merge;  // of a repeated line the later counts, as in CLIP
    }
}

// Merges the pair of lowest rank, all its occurrences from left to right, until no pair has a rank.
// A queue of candidates makes that O(n log n), so a piece may be of any length.
void Tokenizer::Vocabulary::merge_piece(std::string_view piece,
                                        std::vector<std::int32_t>& ids) const {
    struct Node {
        std::int32_t symbol;
        std::int32_t before, after;  // positions, -1 at the ends
    };
    const auto count = static_cast<std::int32_t>(piece.size());
    std::vector<Node> nodes(piece.size());
    for (std::int32_t i = 0; i < count; ++i) {
        const auto byte = static_cast<unsigned char>(piece[static_cast<std::size_t>(i)]);
        nodes[static_cast<std::size_t>(i)] = {kBytes.id_of_byte[byte] + (i + 1 == count ? 256 : 0),
                                              i - 1, i + 1 == count ? -1 : i + 1};
    }
    const auto at = [&](std::int32_t i) -> Node& { return nodes[static_cast<std::size_t>(i)]; };
    const auto merge_at = [&](std::int32_t left) -> const Merge* {
        if (at(left).symbol < 0 || at(left).after < 0) return nullptr;
        const auto found = merges.find(pair_key(at(left).symbol, at(at(left).after).symbol));
        return found == merges.end() ? nullptr : &found->second;
    };
    using Candidate = std::pair<std::int32_t, std::int32_t>;  // rank, position of the left symbol
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto push = [&](std::int32_t left) {
        if (const Merge* merge = merge_at(left)) queue.emplace(merge->rank, left);
    };
    for (std::int32_t i = 0; i + 1 < count; ++i) push(i);
    std::vector<std::int32_t> merged;
    while (!queue.empty()) {
        // One round takes every occurrence of one rank; pairs that it creates wait for the next
        // round.
        const std::int32_t rank = queue.top().first;
        merged.clear();
        while (!queue.empty() && queue.top().first == rank) {
            const std::int32_t left = queue.top().second;
            queue.pop();
            const Merge* merge = merge_at(left);
            if (merge == nullptr || merge->rank != rank) continue;
            Node& node = at(left);
            Node& gone = at(node.after);
            node.symbol = merge->result;
            node.after = gone.after;
            gone.symbol = -1;
            if (node.after >= 0) at(node.after).before = left;
            merged.push_back(left);
        }
        for (const std::int32_t left : merged) {
            if (at(left).symbol < 0) continue;
            if (at(left).before >= 0) push(at(left).before);
            push(left);
        }
    }
    for (std::int32_t i = 0; i >= 0 && count > 0; i = at(i).after) ids.push_back(at(i).symbol);
}

void Tokenizer::Vocabulary::encode_piece(std::string_view piece,
                                         std::vector<std::int32_t>& ids) const {
    if (piece.size() > kLongestCached) return merge_piece(piece, ids);
    std::string key(piece);
    {
        const std::shared_lock lock(cache_mutex);
        if (const auto found = cache.find(key); found != cache.end()) {
            ids.insert(ids.end(), found->second.begin(), found->second.end());
            return;
        }
    }
    std::vector<std::int32_t> own;
    merge_piece(piece, own);
    ids.insert(ids.end(), own.begin(), own.end());
    const std::unique_lock lock(cache_mutex);
    if (cache.size() < kMostCached) cache.emplace(std::move(key), std::move(own));
}

Tokenizer Tokenizer::from_file(const std::string& path, const TokenizerOptions& options) {
    return {std::make_shared<const Vocabulary>(read_maybe_gzip(path), path, options.max_merges),
            options};
}

Tokenizer Tokenizer::from_memory(std::string_view contents, const std::string& name,
                                 const TokenizerOptions& options) {
    return {std::make_shared<const Vocabulary>(unpack_maybe_gzip(contents, name), name,
                                               options.max_merges),
            options};
}

Tokenizer Tokenizer::with_options(const TokenizerOptions& options) const {
    return {vocabulary_, options};
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
    const std::string cleaned = clean_text(text, options_.cleaning);
    std::vector<std::int32_t> ids;
    for (const std::string_view piece : split_words(cleaned, options_.strict_specials)) {
        if (!options_.strict_specials && piece == kStart)
            ids.push_back(sot());
        else if (!options_.strict_specials && piece == kEnd)
            ids.push_back(eot());
        else
            vocabulary_->encode_piece(piece, ids);
    }
    return ids;
}

std::vector<std::int32_t> Tokenizer::tokenize(std::span<const std::string> texts, int context,
                                              bool truncate) const {
    if (context < 2)
        throw Error("[tokenize] context length must be at least 2 (start and end), got " +
                    std::to_string(context));
    const auto width = static_cast<std::size_t>(context);
    std::vector<std::int32_t> rows(texts.size() * width, 0);  // (B, context)
    for (std::size_t b = 0; b < texts.size(); ++b) {
        std::vector<std::int32_t> ids = encode(texts[b]);
        if (ids.size() + 2 > width) {
            if (!truncate)
                throw Error("[tokenize] Input \"" + shortened(texts[b]) +
                            "\" is too long for context length " + std::to_string(context) + ": " +
                            std::to_string(ids.size() + 2) +
                            " tokens with start and end; shorten it or allow truncation");
            ids.resize(width - 2);
        }
        std::int32_t* row = rows.data() + b * width;
        *row++ = sot();
        row = std::copy(ids.begin(), ids.end(), row);
        *row = eot();
    }
    return rows;
}

std::vector<std::int32_t> Tokenizer::tokenize(std::string_view text, int context,
                                              bool truncate) const {
    const std::array<std::string, 1> texts = {std::string(text)};
    return tokenize(texts, context, truncate);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
    std::string bytes;
    for (const std::int32_t id : ids) {
        if (id < 0 || id >= vocab_size())
            throw Error("[decode] id " + std::to_string(id) + " is not in the vocabulary of " +
                        std::to_string(vocab_size()) + " ids");
        if (id == sot())
            bytes += kStart;
        else if (id == eot())
            bytes += kEnd;
        else
            bytes += vocabulary_->texts[static_cast<std::size_t>(id)];
    }
    std::string text = encode_utf8(decode_utf8(bytes));
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const bool ends = std::string_view(text).substr(at).starts_with(kWordEnd);
        out += ends ? ' ' : text[at];
        at += ends ? kWordEnd.size() : 1;
    }
    return out;
}

std::int32_t Tokenizer::vocab_size() const {
    return vocabulary_->size();
}
std::int32_t Tokenizer::sot() const {
    return vocabulary_->sot();
}
std::int32_t Tokenizer::eot() const {
    return vocabulary_->eot();
}

std::string Tokenizer::merges_text() const {
    std::string out(kMergeFileHeader);
    out += '\n';
    for (const auto& [left, right] : vocabulary_->pairs) {
        out += vocabulary_->symbols[static_cast<std::size_t>(left)];
        out += ' ';
        out += vocabulary_->symbols[static_cast<std::size_t>(right)];
        out += '\n';
    }
    return out;
}

}  // namespace mc::clip
