#include "models/clip/bpe_learner.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "models/clip/tokenizer.h"
#include "tests/test_paths.h"

using mc::clip::BpeLearner;
using mc::clip::SpelledMerge;
using mc::clip::Tokenizer;
using mc::testing::have_shared;
using mc::testing::ScratchDir;
using mc::testing::shared_dir;

namespace {

using Merges = std::vector<SpelledMerge>;

// The same rule with all counts taken anew for every merge, on symbols as strings (ASCII letters
// only, whose ids are in the order of their codes, those at a word's end 256 higher).
Merges learn_naively(const std::map<std::string, std::uint64_t>& pieces, std::size_t merges) {
    std::map<std::string, int> id;
    std::vector<std::pair<std::vector<std::string>, std::uint64_t>> words;
    for (char c = '!'; c <= '~'; ++c) {
        id[std::string(1, c)] = c - '!';
        id[std::string(1, c) + "</w>"] = c - '!' + 256;
    }
    for (const auto& [piece, count] : pieces) {
        std::vector<std::string> word;
        for (const char c : piece) word.emplace_back(1, c);
        word.back() += "</w>";
        words.emplace_back(word, count);
    }
    Merges learned;
    while (learned.size() < merges) {
        std::map<std::pair<int, int>, std::pair<std::uint64_t, SpelledMerge>> counts;
        for (const auto& [word, count] : words)
            for (std::size_t i = 0; i + 1 < word.size(); ++i) {
                auto& entry = counts[{id.at(word[i]), id.at(word[i + 1])}];
                entry.first += count;
                entry.second = {word[i], word[i + 1]};
            }
        std::uint64_t most = 1;
        SpelledMerge best;
        for (const auto& [key, entry] : counts)
            if (entry.first > most) std::tie(most, best) = entry;
        if (most < 2) break;
        learned.push_back(best);
        id.try_emplace(best.first + best.second, 512 + static_cast<int>(learned.size()));
        for (auto& [word, count] : words) {
            std::vector<std::string> merged;
            for (std::size_t i = 0; i < word.size(); ++i) {
                const bool here =
                    i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second;
                merged.push_back(here ? word[i] + word[i + 1] : word[i]);
                if (here) ++i;
            }
            word = merged;
        }
    }
    return learned;
}

}  // namespace

TEST_CASE("the learner merges the most frequent pair first") {
    BpeLearner learner;
    learner.add("low low low low low lower lower");
    learner.add("newest", 6);
    learner.add("Widest widest WIDEST");
    CHECK(learner.distinct_pieces() == 4);
    const Merges merges = learner.learn(4);
    CHECK(merges == Merges{{"e", "s"}, {"es", "t</w>"}, {"l", "o"}, {"e", "w"}});
}

TEST_CASE("incremental counts give what counting anew gives") {
    std::uint32_t state = 12345;
    const auto below = [&state](std::uint32_t n) {
        state = state * 1664525u + 1013904223u;
        return (state >> 8) % n;
    };
    for (int round = 0; round < 20; ++round) {
        std::map<std::string, std::uint64_t> pieces;
        BpeLearner learner;
        for (int i = 0; i < 40; ++i) {
            std::string word;
            for (std::uint32_t n = 1 + below(9); n > 0; --n)
                word += static_cast<char>('a' + below(3));
            pieces[word] += 1;
            learner.add(word);
        }
        CHECK(learner.learn(60) == learn_naively(pieces, 60));
    }
}

TEST_CASE("the order of sentences doesn't matter") {
    BpeLearner forward, backward;
    const std::vector<std::string> sentences = {"a person walks", "someone walks and talks",
                                                "he stalks 20!", "caf\u00E9 caf\u00E9",
                                                "<|endoftext|> walks"};
    for (const auto& s : sentences) forward.add(s);
    for (auto s = sentences.rbegin(); s != sentences.rend(); ++s) backward.add(*s);
    CHECK(forward.learn(100) == backward.learn(100));
}

TEST_CASE("a learned vocabulary is read back and encodes") {
    BpeLearner learner;
    for (int i = 0; i < 3; ++i) learner.add("a person walks, the person waves caf\u00E9");
    const Merges merges = learner.learn(1000);
    const ScratchDir scratch;
    for (const char* name : {"v.txt", "v.txt.gz"}) {
        const std::string path = (scratch.path / name).string();
        mc::clip::write_merges(path, merges);
        CHECK_FALSE(mc::testing::has_temporaries(scratch.path));
        const Tokenizer tokenizer = Tokenizer::from_file(path);
        CHECK(tokenizer.vocab_size() == static_cast<std::int32_t>(514 + merges.size()));
        CHECK(tokenizer.encode("person").size() == 1);
        CHECK(tokenizer.encode("caf\u00E9").size() == 1);
        const auto ids = tokenizer.encode("A person zooms");
        CHECK(tokenizer.decode(ids) == "a person zooms ");
        CHECK(tokenizer.merges_text() == mc::clip::merges_to_text(merges));
    }
    CHECK_THROWS_AS(mc::clip::write_merges((scratch.path / "no" / "v.txt").string(), merges),
                    mc::Error);
}

TEST_CASE("nothing to learn is an error") {
    CHECK_THROWS_AS(BpeLearner().learn(10), mc::Error);
    BpeLearner letters;
    letters.add("a a a b b");
    CHECK_THROWS_AS(letters.learn(10), mc::Error);
}

TEST_CASE("merges learned from captions come in seconds and can be made of their lines") {
    if (!have_shared("data/mocap/captions.jsonl")) return;
    BpeLearner learner;
    std::ifstream in(shared_dir() / "data/mocap/captions.jsonl");
    std::vector<std::string> captions;
    for (std::string line; std::getline(in, line);) {
        const auto row = nlohmann::json::parse(line);
        for (const auto& caption : row["captions"]) captions.push_back(caption.get<std::string>());
    }
    const std::clock_t start = std::clock();  // of this process: other tests run beside it
    for (int repeat = 0; repeat < 26; ++repeat)
        for (const std::string& caption : captions) learner.add(caption);
    const Merges merges = learner.learn(8000);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    MESSAGE((26 * captions.size())
            << " sentences, " << learner.distinct_pieces() << " distinct pieces, " << merges.size()
            << " merges: " << seconds << " s");
    CHECK(seconds < 10.0);
    const Tokenizer tokenizer = Tokenizer::from_memory(mc::clip::merges_to_text(merges));
    std::size_t words = 0, ids = 0;
    for (const std::string& caption : captions) {
        const std::string cleaned = mc::clip::clean_text(caption);
        words += mc::clip::split_words(cleaned, true).size();
        ids += tokenizer.encode(caption).size();
    }
    CHECK(ids == words);  // every word of the corpus has its own id
}
