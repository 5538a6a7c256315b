#include "models/clip/bpe_learner.h"

#include <algorithm>
#include <array>
#include <queue>

#include "kernels/error.h"
#include "models/clip/merge_file.h"
#include "models/clip/tokenizer.h"

namespace mc::clip {
namespace {

using Symbol = std::int32_t;

struct Word {
    std::vector<Symbol> symbols;
    std::uint64_t count;
};

std::uint64_t pair_key(Symbol left, Symbol right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
           static_cast<std::uint32_t>(right);
}

// A pair and its count when it was queued; stale if the count has changed since.
struct Candidate {
    std::uint64_t count;
    std::uint64_t key;
    bool operator<(const Candidate& other) const {  // the greatest leaves the queue first
        return count != other.count ? count < other.count : key > other.key;
    }
};

struct Pair {
    std::uint64_t count = 0;
    std::vector<std::uint32_t> words;  // where it was seen; may be stale and repeat
};

// The counts of all pairs over all words, kept up to date as words change: a merge touches only the
// words that have it.
class PairCounts {
  public:
    explicit PairCounts(std::vector<Word> words) : words_(std::move(words)) {
        for (std::uint32_t w = 0; w < words_.size(); ++w) count_word(w, +1);
        for (const auto& [key, pair] : pairs_) queue_.push({pair.count, key});
        touched_.clear();
    }

    // The most frequent pair; false if none has `min_count`.
    bool top(std::uint64_t min_count, std::uint64_t& key) {
        while (!queue_.empty()) {
            const Candidate best = queue_.top();
            const auto found = pairs_.find(best.key);
            if (found != pairs_.end() && found->second.count == best.count) {
                key = best.key;
                return best.count >= min_count;
            }
            queue_.pop();
        }
        return false;
    }

    // Replaces the pair by `result` in every word, left to right.
    void merge(std::uint64_t key, Symbol result) {
        const auto left = static_cast<Symbol>(key >> 32);
        const auto right = static_cast<Symbol>(key & 0xFFFFFFFF);
        std::vector<std::uint32_t> where = std::move(pairs_.at(key).words);
        std::sort(where.begin(), where.end());
        where.erase(std::unique(where.begin(), where.end()), where.end());
        for (const std::uint32_t w : where) {
            std::vector<Symbol>& symbols = words_[w].symbols;
            std::vector<Symbol> merged;
            for (std::size_t i = 0; i < symbols.size(); ++i) {
                const bool here =
                    i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right;
                merged.push_back(here ? result : symbols[i]);
                if (here) ++i;
            }
            if (merged.size() == symbols.size()) continue;
            count_word(w, -1);
            symbols = std::move(merged);
            count_word(w, +1);
        }
        std::sort(touched_.begin(), touched_.end());
        touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
        for (const std::uint64_t changed : touched_) {
            const auto found = pairs_.find(changed);
            if (found->second.count == 0)
                pairs_.erase(found);
            else
                queue_.push({found->second.count, changed});
        }
        touched_.clear();
    }

  private:
    void count_word(std::uint32_t w, int sign) {
        const Word& word = words_[w];
        for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
            const std::uint64_t key = pair_key(word.symbols[i], word.symbols[i + 1]);
            Pair& pair = pairs_[key];
            if (sign > 0) {
                pair.count += word.count;
                pair.words.push_back(w);
            } else {
                pair.count -= word.count;
            }
            touched_.push_back(key);
        }
    }

    std::vector<Word> words_;
    std::unordered_map<std::uint64_t, Pair> pairs_;
    std::priority_queue<Candidate> queue_;
    std::vector<std::uint64_t> touched_;  // pairs whose count changed in this merge
};

}  // namespace

void BpeLearner::add(std::string_view sentence, std::uint64_t times) {
    const std::string cleaned = clean_text(sentence, options_);
    for (const std::string_view piece : split_words(cleaned, true))
        counts_[std::string(piece)] += times;
}

std::vector<SpelledMerge> BpeLearner::learn(std::size_t merges, std::uint64_t min_count) const {
    std::vector<std::string> spelling;
    std::array<Symbol, 256> id_of_byte{};
    for (int id = 0; id < 256; ++id) {
        id_of_byte[byte_of_id(id)] = id;
        spelling.push_back(symbol_of_id(id));
    }
    for (int id = 0; id < 256; ++id) spelling.push_back(symbol_of_id(id) + std::string(kWordEnd));
    // Two different pairs may spell the same symbol, and must then give the same one, as they will
    // when encoding.
    std::unordered_map<std::string, Symbol> id_of_spelling;
    for (std::size_t id = 0; id < spelling.size(); ++id)
        id_of_spelling[spelling[id]] = static_cast<Symbol>(id);

    std::vector<Word> words;
    words.reserve(counts_.size());
    for (const auto& [piece, count] : counts_) {
        Word word{{}, count};
        for (const char c : piece)
            word.symbols.push_back(id_of_byte[static_cast<unsigned char>(c)]);
        if (word.symbols.empty() || count == 0) continue;
        word.symbols.back() += 256;
        words.push_back(std::move(word));
    }
    PairCounts counts(std::move(words));
    std::vector<SpelledMerge> learned;
    std::uint64_t key = 0;
    while (learned.size() < merges && counts.top(std::max<std::uint64_t>(min_count, 1), key)) {
        const std::string& left = spelling[static_cast<std::size_t>(key >> 32)];
        const std::string& right = spelling[static_cast<std::size_t>(key & 0xFFFFFFFF)];
        learned.emplace_back(left, right);
        std::string joined = left + right;
        const auto [found, fresh] =
            id_of_spelling.try_emplace(joined, static_cast<Symbol>(spelling.size()));
        if (fresh) spelling.push_back(std::move(joined));
        counts.merge(key, found->second);
    }
    if (learned.empty())
        throw Error("[learn] no pair of symbols occurs " + std::to_string(min_count) +
                    " times in " + std::to_string(counts_.size()) +
                    " distinct pieces: add more sentences");
    return learned;
}

std::string merges_to_text(const std::vector<SpelledMerge>& merges) {
    std::string text(kMergeFileHeader);
    text += '\n';
    for (const auto& [left, right] : merges) {
        text += left;
        text += ' ';
        text += right;
        text += '\n';
    }
    return text;
}

void write_merges(const std::string& path, const std::vector<SpelledMerge>& merges) {
    write_maybe_gzip(path, merges_to_text(merges));
}

}  // namespace mc::clip
