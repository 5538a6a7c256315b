#include "models/evaluator/word_vectors.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/test_paths.h"
#include "tests/tiny_evaluator.h"

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

TEST_CASE("word vectors: the public files, a list, a dict and a table") {
    testing::ScratchDir scratch;
    testing::write_glove(scratch.path, {"sos", "eos", "unk", "a", "walk"}, 3);
    const NpyArray table = read_npy(scratch.path / "our_vab_data.npy");
    const std::vector<float> rows = table.as_f32();
    const WordVectors read = read_word_vectors(scratch.path);
    CHECK(read.width() == 3);
    const std::vector<std::string> tokens{"walk/VERB", "zebra/NOUN"};
    const WordFeatures f = read.features(tokens);
    // Word i is in row 4 - i.
    for (const auto& [at, row] : {std::pair<int64_t, int64_t>{0, 4}, {1, 0}, {2, 2}, {3, 3}})
        for (int64_t c = 0; c < 3; ++c)
            CHECK(f.words.item<float>({at, c}) == rows[static_cast<size_t>(row * 3 + c)]);
    // A table in double, as NumPy makes it by default, is the same one.
    const std::vector<double> wide(rows.begin(), rows.end());
    write_npy(scratch.path / "our_vab_data.npy", {5, 3}, wide.data());
    CHECK(read_word_vectors(scratch.path).features(tokens).words.to_vector<float>() ==
          f.words.to_vector<float>());
}

TEST_CASE("word vectors: broken public files are one line that names the file") {
    using namespace testing;
    ScratchDir scratch;
    const std::vector<std::string> words{"sos", "eos", "unk", "a"};
    const auto path = [&](const char* name) { return scratch.path / name; };
    const auto refuses = [&](const std::string& file, const std::string& what) {
        CAPTURE(what);
        try {
            read_word_vectors(scratch.path);
            FAIL_CHECK("was read");
        } catch (const Error& e) {
            const std::string line = e.what();
            CAPTURE(line);
            CHECK(line.find(file) != std::string::npos);
            CHECK(line.find(what) != std::string::npos);
            CHECK(line.find('\n') == std::string::npos);
        }
        write_glove(scratch.path, words, 2);  // whole again
    };
    refuses("our_vab_data.npy", "is not there");
    const std::string good_words = pickled_words(words),
                      good_rows = file_bytes(path("our_vab_idx.pkl"));
    const auto put_words = [&](const std::string& b) {
        write_file_bytes(path("our_vab_words.pkl"), b);
    };
    const auto put_rows = [&](const std::string& b) {
        write_file_bytes(path("our_vab_idx.pkl"), b);
    };

    std::filesystem::remove(path("our_vab_idx.pkl"));
    refuses("our_vab_idx.pkl", "is not there");
    for (size_t n = 0; n < good_words.size(); ++n) {
        put_words(good_words.substr(0, n));
        refuses("our_vab_words.pkl", "");
    }
    for (size_t n = 0; n < good_rows.size(); ++n) {
        put_rows(good_rows.substr(0, n));
        refuses("our_vab_idx.pkl", "");
    }
    put_words(good_rows);
    refuses("our_vab_words.pkl", "want a list of words");
    put_rows(good_words);
    refuses("our_vab_idx.pkl", "want a dict");
    put_words(py::pickle(py_list({py::text("sos"), py::integer(3)})));
    refuses("our_vab_words.pkl", "entry 1 is 3, want a word");
    put_rows(py::pickle(py::dict({{py::text("sos"), py::text("zero")}})));
    refuses("our_vab_idx.pkl", "want a word and its row");
    put_rows(py::pickle(py::dict({{py::integer(1), py::integer(1)}})));
    refuses("our_vab_idx.pkl", "want a word and its row");
    put_rows(pickled_rows({{"sos", 0}, {"eos", 1}, {"unk", 2}}));
    refuses("our_vab_idx.pkl", "has no row of \"a\"");
    for (const int32_t row : {-1, 4, 1 << 30}) {
        put_rows(pickled_rows({{"sos", 0}, {"eos", 1}, {"unk", 2}, {"a", row}}));
        refuses("our_vab_idx.pkl", "\"a\" has row " + std::to_string(row));
    }
    put_words(pickled_words({"sos", "eos", "unk", "a", "a"}));  // a dict's, of one row
    CHECK_NOTHROW(read_word_vectors(scratch.path));
    put_words(pickled_words({"sos", "eos", "a"}));
    refuses("our_vab_words.pkl", "no \"unk\"");
    // A program that would call something: nothing is executed.
    put_words(py::pickle(py::global("os", "system") + "(" + py::text("true") + "tR"));
    refuses("our_vab_words.pkl", "os.system");

    const std::vector<float> table{0, 1, 2, 3, 4, 5, 6, std::nanf("")};
    write_npy(path("our_vab_data.npy"), {4, 2}, table.data());
    refuses("our_vab_data.npy", "nan");
    write_npy(path("our_vab_data.npy"), {8}, table.data());
    refuses("our_vab_data.npy", "want one row a word");
    write_npy(path("our_vab_data.npy"), {0, 2}, table.data());
    refuses("our_vab_data.npy", "want one row a word");
    write_file_bytes(path("our_vab_data.npy"), file_bytes(path("our_vab_data.npy")).substr(0, 140));
    refuses("our_vab_data.npy", "");
    CHECK(read_word_vectors(scratch.path).width() == 2);
}
