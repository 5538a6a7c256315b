// CLIP's byte-pair tokenizer: from a prompt to the ids that the text transformer embeds.
//
//     const auto tokenizer = Tokenizer::from_file("bpe_simple_vocab_16e6.txt.gz");
//     tokenizer.encode("a person waves");                      // {320, 2533, 11787}-like ids, no
//     start, no end tokenizer.tokenize({"a person waves"}, 77, true);        // (1, 77): start,
//     ids, end, zeros
//
// Ids: 0..255 the bytes, 256..511 the bytes at a word's end, then one id a merge in the file's
// order, then start and end of text. The public file has 48,894 merges in use, so 49,408 ids.
// Source: OpenAI's clip/simple_tokenizer.py and clip.tokenize.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/clip/text_cleaning.h"

namespace mc::clip {

inline constexpr int kContextLength = 77;                    // of every CLIP model
inline constexpr std::size_t kClipMerges = 49152 - 256 - 2;  // merges in use of the public file

// The 256 symbols that stand for bytes in merge files, in the order of their ids, and the way back.
// Printable Latin-1 characters stand for themselves and come first; the other 68 bytes are U+0100,
// U+0101, ...
std::uint8_t byte_of_id(int id);   // id in [0, 256)
std::string symbol_of_id(int id);  // UTF-8
inline constexpr std::string_view kWordEnd = "</w>";

struct TokenizerOptions {
    CleaningOptions cleaning;
    // Read <|startoftext|> and <|endoftext|> in a prompt as ordinary text (see split_words). False
    // is CLIP's way.
    bool strict_specials = false;
    // Use at most the first so many merges of the file.
    std::size_t max_merges = kClipMerges;
};

// A handle on an immutable vocabulary: cheap to copy, safe to share between threads (a cache of
// pieces inside is guarded). Prompts may be any bytes; what is not UTF-8 is read as U+FFFD.
class Tokenizer {
  public:
    // Reads a merge file as CLIP ships it, plain or gzip: a header line that contains "#version",
    // then one merge a line, "LEFT RIGHT". Throws Error naming file, line and cause if it is
    // anything else.
    static Tokenizer from_file(const std::string& path, const TokenizerOptions& options = {});

    // The same from memory (plain text or gzip); `name` stands for the path in errors.
    static Tokenizer from_memory(std::string_view contents, const std::string& name = "vocabulary",
                                 const TokenizerOptions& options = {});

    // The same vocabulary with other options (max_merges is not applied again).
    Tokenizer with_options(const TokenizerOptions& options) const;

    // The ids of a prompt, without start and end.
    std::vector<std::int32_t> encode(std::string_view text) const;

    // (B, context), row-major: start, ids, end, then zeros. A prompt that does not fit throws
    // Error, or with `truncate` keeps its first context-1 entries and then the end. Throws Error if
    // context < 2.
    std::vector<std::int32_t> tokenize(std::span<const std::string> texts,
                                       int context = kContextLength, bool truncate = false) const;
    std::vector<std::int32_t> tokenize(std::string_view text, int context = kContextLength,
                                       bool truncate = false) const;  // (context)

    // The text of ids: words followed by one space each, broken UTF-8 as U+FFFD, start and end
    // spelled out. Throws Error if an id is not of this vocabulary.
    std::string decode(std::span<const std::int32_t> ids) const;

    std::int32_t vocab_size() const;  // 512 + merges + 2
    std::int32_t sot() const;         // start of text: vocab_size() - 2
    std::int32_t eot() const;         // end of text: vocab_size() - 1

    // The merges in use as a plain-text merge file, header included, so that a model bundle can
    // carry them.
    std::string merges_text() const;

  private:
    struct Vocabulary;
    Tokenizer(std::shared_ptr<const Vocabulary> vocabulary, const TokenizerOptions& options)
        : vocabulary_(std::move(vocabulary)), options_(options) {}

    std::shared_ptr<const Vocabulary> vocabulary_;
    TokenizerOptions options_;
};

}  // namespace mc::clip
