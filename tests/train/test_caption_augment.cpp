#include "train/caption_augment.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"
#include "train/caption_book.h"

using mc::testing::ScratchDir;
using mc::testing::source_dir;
using mc::train::CaptionAugmenter;
using mc::train::CaptionedSegment;
using mc::train::CaptionLexicon;
using mc::train::RandomBelow;
using mc::train::RewordOptions;

namespace {

std::string text_file(const char* name) {
    return (source_dir() / "pretrained/text" / name).string();
}

RandomBelow random_source(std::uint64_t seed) {
    return [state = seed](std::uint32_t n) mutable {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<std::uint32_t>((state >> 33) % n);
    };
}

const CaptionLexicon& lexicon() {
    static const CaptionLexicon words = CaptionLexicon::from_file(text_file("lexicon.json"));
    return words;
}

const CaptionAugmenter& always() {
    static const CaptionAugmenter augmenter(lexicon(),
                                            {.replace_percent = 100, .add_subject_percent = 0});
    return augmenter;
}

// Every rewording that 300 draws give.
std::set<std::string> rewordings(const std::string& caption, const std::string& category) {
    std::set<std::string> all;
    const RandomBelow below = random_source(1);
    for (int i = 0; i < 300; ++i) all.insert(always().reword(caption, category, below));
    return all;
}

struct Sides {
    int left = 0, right = 0;
    bool operator==(const Sides&) const = default;
};

Sides sides_of(const std::string& text) {
    const auto count = [&](const std::string& word) {
        int found = 0;
        for (std::size_t at = text.find(word); at != std::string::npos;
             at = text.find(word, at + 1))
            ++found;
        return found;
    };
    const int against = count("counterclockwise") + count("anticlockwise");
    return {count("left") + against,
            count("right") - count("upright") - count("bright") + count("clockwise") - against};
}

}  // namespace

TEST_CASE("caption lexicon: a file that is no JSON is one line without its bytes") {
    const mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "walk.npy").string();
    mc::testing::write_file_bytes(path, "\x93NUMPY\x01\n\xff");
    const std::string error = mc::testing::error_of([&] { CaptionLexicon::from_file(path); });
    CHECK(error == "[" + path +
                       "] no lexicon: not JSON at byte 1; name a JSON file such as "
                       "pretrained/text/lexicon.json");
}

TEST_CASE("phrases are replaced by others of their list") {
    const auto walks = rewordings("a man walks slowly", "walk");
    CHECK(walks.contains("someone goes on foot at a slow pace"));
    CHECK(walks.size() > 100);
    const auto turns = rewordings("someone turns left", "turn");
    CHECK(turns.contains("a person rotates to the left"));
    const auto twice = rewordings("jumps up twice", "jump");
    CHECK(twice.contains("leaps up two times"));
    const auto then = rewordings("walks backward, then sits down", "walk");
    CHECK(then.contains("backs up, after that takes a seat"));
}

TEST_CASE("phrases in another sense stay") {
    const auto only = [](const std::string& caption, const std::string& category) {
        CAPTURE(caption);
        CHECK(rewordings(caption, category) == std::set<std::string>{caption});
    };
    only("kicking the ball with left and right", "kick");
    only("a left turn by the left one", "walk");   // "left" before a noun
    only("the legs are kept straight", "stand");   // no adverb
    only("standing tall, back to back", "stand");  // no body part
    only("a figure eight", "walk");                // no subject
    only("a man and a woman dancing", "dance");    // two people
    only("two or three times in all", "walk");
    only("", "walk");
    only("  ,.;  ", "walk");
    only("\xFF\xC3 broken \x80 bytes", "walk");
    for (const std::string& s : rewordings("the arms are raised as he kicks the ball", "kick"))
        CHECK(s.find("kicks the ball") != std::string::npos);
    for (const std::string& s : rewordings("a man raises his right arm", "reach")) {
        CHECK(s.find("she ") != 0);
        CHECK(s.find("woman") == std::string::npos);
        CHECK(s.find("pedestrian") == std::string::npos);
        CHECK((s.ends_with("his right arm") || s.ends_with("his arm on the right")));
    }
}

TEST_CASE("different motions of a category are not mixed") {
    for (const std::string& s : rewordings("a person walks backward", "walk"))
        CHECK((s.find("back") != std::string::npos || s.find("reverse") != std::string::npos ||
               s.find("retreats") != std::string::npos));
    // walk and sneak must never be swapped, although a list of the lexicon has "walks stealthily"
    // beside "sneaks"
    for (const std::string& s : rewordings("a person sneaks", "sneak"))
        CHECK(s.find("walk") == std::string::npos);
}

TEST_CASE("punctuation, capitals and what isn't known are kept") {
    const CaptionAugmenter never(lexicon(), {.replace_percent = 0, .add_subject_percent = 0});
    const std::string caption = "A person WALKS  forward (slowly), then stops.";
    CHECK(never.reword(caption, "walk", random_source(1)) == caption);
    for (const std::string& s : rewordings("a zorg walks to the flibber.", "walk")) {
        CHECK(s.starts_with("a zorg "));
        CHECK(s.ends_with(" to the flibber."));
    }
}

TEST_CASE("a caption that begins with a verb gets a subject") {
    const CaptionAugmenter augmenter(lexicon(), {.replace_percent = 0, .add_subject_percent = 100});
    const RandomBelow below = random_source(5);
    for (int i = 0; i < 100; ++i) {
        const std::string s = augmenter.reword("walks forward", "walk", below);
        CHECK(s.ends_with(" walks forward"));
        CHECK(!s.starts_with("he "));
        CHECK(!s.starts_with("she "));
    }
    CHECK(augmenter.reword("walking forward", "walk", below) == "walking forward");
}

TEST_CASE("the same draws give the same text") {
    const CaptionAugmenter augmenter(lexicon());
    const RandomBelow a = random_source(9), b = random_source(9);
    for (int i = 0; i < 50; ++i)
        CHECK(augmenter.reword("a man walks forward slowly, then turns left twice", "walk", a) ==
              augmenter.reword("a man walks forward slowly, then turns left twice", "walk", b));
}

TEST_CASE("rewordings of all captions keep their sides") {
    const auto segments =
        mc::train::read_captions(text_file("captions.jsonl"), text_file("phrasings.jsonl"));
    CHECK(segments.size() == 1293);
    const RandomBelow below = random_source(3);
    int changed = 0, total = 0, broken = 0;
    for (const CaptionedSegment& segment : segments) {
        for (const std::string& wording : segment.wordings()) {
            const std::string reworded = always().reword(wording, segment.category, below);
            ++total;
            changed += reworded != wording;
            if (sides_of(reworded) == sides_of(wording) && !reworded.empty()) continue;
            ++broken;
            MESSAGE(wording << " -> " << reworded);
        }
    }
    MESSAGE(changed << " of " << total << " wordings changed");
    CHECK(changed * 3 > total);
    CHECK(broken == 0);
}

TEST_CASE("captions carry their paraphrases and phrasings") {
    const auto segments =
        mc::train::read_captions(text_file("captions.jsonl"), text_file("phrasings.jsonl"));
    int bad = 0;
    std::size_t phrasings = 0;
    for (const CaptionedSegment& segment : segments) {
        CHECK(segment.captions.size() == 3);
        CHECK(segment.wordings().size() ==
              3 + segment.paraphrases.size() + segment.phrasings.size());
        bad += segment.bad;
        phrasings += segment.phrasings.size();
    }
    CHECK(bad == 18);
    CHECK(phrasings > 1475);
    CHECK(mc::train::read_captions(text_file("captions.jsonl"))[0].phrasings.empty());
}

TEST_CASE("broken caption files are refused with their line") {
    const ScratchDir scratch;
    const std::string path = (scratch.path / "c.jsonl").string();
    const std::string pool = (scratch.path / "p.jsonl").string();
    const std::string good =
        R"({"clip":"a","file":"f","from":0,"to":9,"category":"walk","captions":["x"]})";
    const auto message = [&](const std::string& captions, const std::string& phrasings = "") {
        std::ofstream(path) << captions;
        std::ofstream(pool) << phrasings;
        return mc::testing::error_of(
            [&] { mc::train::read_captions(path, phrasings.empty() ? "" : pool); });
    };
    CHECK(message(good + "\n") == "");
    CHECK(message("").find("is empty") != std::string::npos);
    CHECK(message(good + "\n{\"clip\":").find("line 2") != std::string::npos);
    CHECK(message("[]").find("line 1") != std::string::npos);
    CHECK(message("\x93NUMPY").find("line 1") != std::string::npos);
    CHECK(message(good + "\n" + good).find("twice") != std::string::npos);
    const auto with = [&](std::string from, std::string to) {
        std::string line = good;
        return message(line.replace(line.find(from), from.size(), to));
    };
    CHECK(with("\"to\":9", "\"to\":0").find("no frames") != std::string::npos);
    CHECK(with("\"to\":9", "\"to\":1e99").find("whole number") != std::string::npos);
    CHECK(with("\"to\":9", "\"to\":99999999999").find("out of range") != std::string::npos);
    CHECK(with("\"from\":0", "\"from\":-1").find("out of range") != std::string::npos);
    CHECK(with("[\"x\"]", "[]").find("no caption") != std::string::npos);
    CHECK(with("[\"x\"]", "[3]").find("line 1") != std::string::npos);
    CHECK(with("[\"x\"]", "[\"\"]").find("empty") != std::string::npos);
    CHECK(with("\"file\":\"f\",", "").find("file") != std::string::npos);
    CHECK(message(good, R"({"group":"g","segments":[["a",0,9]],"phrasings":["y"]})") == "");
    CHECK(message(good, R"({"segments":[["a",0,8]],"phrasings":["y"]})").find("no such segment") !=
          std::string::npos);
    CHECK(message(good, R"({"segments":[["a",0]],"phrasings":["y"]})").find("[clip, from, to]") !=
          std::string::npos);
    CHECK_THROWS_AS(mc::train::read_captions((scratch.path / "none").string()), mc::Error);
}

TEST_CASE("broken lexicons are refused with their field") {
    const ScratchDir scratch;
    const std::string path = (scratch.path / "l.json").string();
    std::ifstream in(text_file("lexicon.json"));
    const std::string whole((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const auto message = [&](const std::string& contents) {
        std::ofstream(path) << contents;
        return mc::testing::error_of([&] { CaptionLexicon::from_file(path); });
    };
    CHECK(message(whole) == "");
    CHECK(message("").find(path) != std::string::npos);
    CHECK(message("[]").find("JSON object") != std::string::npos);
    CHECK(message(whole.substr(0, whole.size() / 2)).find(path) != std::string::npos);
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = whole;
        return message(text.replace(text.find(from), from.size(), to));
    };
    CHECK(with("\"adverbs\"", "\"adverb\"").find("adverbs: missing") != std::string::npos);
    CHECK(with("\"goes on foot\"", "7").find("verbs.walk") != std::string::npos);
    CHECK(with("\"goes on foot\"", "\"\"").find("verbs.walk") != std::string::npos);
    CHECK(with("\"not_interchangeable\"", "\"x\"").find("not_interchangeable") !=
          std::string::npos);
    CHECK_THROWS_AS(CaptionLexicon::from_file((scratch.path / "none").string()), mc::Error);
}
