#include "models/evaluator/word_vectors.h"

#include <doctest/doctest.h>

#include "kernels/error.h"

using namespace mc;
using namespace mc::evaluator;

namespace {

// Word i has the vector (i, -i).
WordVectors small() {
    return WordVectors({"sos", "eos", "unk", "a", "walk", "left"},
                       Tensor::from({0, 0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5}, {6, 2}));
}

std::vector<int64_t> rows_of(const WordFeatures& f) {
    std::vector<int64_t> rows;
    for (int64_t t = 0; t < kTextLength; ++t) {
        rows.push_back(static_cast<int64_t>(f.words.item<float>({t, 0})));
        CHECK(f.words.item<float>({t, 1}) == -f.words.item<float>({t, 0}));
    }
    return rows;
}

std::vector<int64_t> classes_of(const WordFeatures& f) {
    std::vector<int64_t> classes;
    for (int64_t t = 0; t < kTextLength; ++t)
        for (int64_t c = 0; c < kPartsOfSpeech; ++c)
            if (f.pos.item<float>({t, c}) == 1) classes.push_back(c);
    return classes;
}

}  // namespace

TEST_CASE("word vectors: start, tokens, end, and unknown words to the full length") {
    const std::vector<std::string> tokens{"a/DET", "walk/VERB", "zebra/NOUN", "left/ADV"};
    const WordFeatures f = small().features(tokens);
    CHECK(f.length == 6);
    std::vector<int64_t> rows{0, 3, 4, 2, 5, 1}, classes{14, 2, 12, 14, 9, 14};
    rows.resize(kTextLength, 2);
    classes.resize(kTextLength, 14);
    CHECK(rows_of(f) == rows);
    CHECK(classes_of(f) == classes);
    const WordFeatures none = small().features({});
    CHECK(none.length == 2);
    CHECK(rows_of(none)[1] == 1);
}

TEST_CASE("word vectors: captions are cut at twenty tokens") {
    const std::vector<std::string> tokens(23, "a/DET");
    const WordFeatures f = small().features(tokens);
    CHECK(f.length == 22);
    CHECK(rows_of(f)[20] == 3);
    CHECK(rows_of(f)[21] == 1);
}

TEST_CASE("word vectors: classes of words come before parts of speech, the first list wins") {
    CHECK(part_of_speech("back", "NOUN") == 9);
    CHECK(part_of_speech("foot", "NOUN") == 10);
    CHECK(part_of_speech("ball", "NOUN") == 11);
    CHECK(part_of_speech("climb", "NOUN") == 12);
    CHECK(part_of_speech("sadly", "ADV") == 13);
    CHECK(part_of_speech("man", "NOUN") == 1);
    CHECK(part_of_speech("quick", "ADV") == 8);
    CHECK(part_of_speech("!", "PUNCT") == 14);
}

TEST_CASE("word vectors: broken lists and tokens are errors") {
    const Tensor two = Tensor::zeros({2, 3});
    CHECK_THROWS_WITH_AS(WordVectors({"sos"}, two), doctest::Contains("one row a word"), Error);
    CHECK_THROWS_WITH_AS(WordVectors({"a", "a"}, two), doctest::Contains("stands twice"), Error);
    CHECK_THROWS_WITH_AS(WordVectors({"sos", "eos"}, two), doctest::Contains("no \"unk\""), Error);
    for (const std::string token : {"walk", "a/b/c", ""})
        CHECK_THROWS_WITH_AS(small().features(std::vector<std::string>{token}),
                             doctest::Contains("is not word/POS"), Error);
}
