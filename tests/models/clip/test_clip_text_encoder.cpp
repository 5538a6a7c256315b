#include "models/clip/clip_text_encoder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "tensor/formats/safetensors.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::clip;
using mc::testing::ScratchDir;

namespace {

constexpr const char* kMerges = "#version: 0.2\nt h\nth e</w>\na n\nan d</w>\n";  // 518 ids

TextConfig tiny_config() {
    TextConfig config;
    config.vocab = 518;
    config.context = 12;
    config.width = 32;
    config.heads = 4;
    config.layers = 2;
    config.embed_dim = 8;
    return config;
}

// A text tower as a file, with what a whole CLIP has beside it.
struct TinyFiles {
    ScratchDir dir;
    std::filesystem::path weights = dir.path / "text.safetensors";
    std::filesystem::path vocabulary = dir.path / "vocab.txt";
    NamedTensors tensors;

    TinyFiles() {
        std::ofstream(vocabulary) << kMerges;
        Generator init(5);
        TextTransformer model(tiny_config(), &init);
        for (auto& [name, tensor] : model.state()) tensors.emplace_back(name, tensor);
        tensors.emplace_back("logit_scale", Tensor::full({}, 2.659));
        tensors.emplace_back("visual.proj", Tensor::zeros({3, 3}));
        tensors.emplace_back("motion.encoder.w", Tensor::zeros({3, 3}));
    }
    void write(const StringMap& metadata = {{"heads", "4"}}) const {
        write_safetensors(weights, tensors, metadata);
    }
    Tensor& at(const std::string& wanted) {
        for (auto& [name, tensor] : tensors)
            if (name == wanted) return tensor;
        throw Error("no " + wanted);
    }
    std::string error() const {
        return mc::testing::error_of([&] { ClipTextEncoder encoder(weights, vocabulary); });
    }
};

std::vector<float> row_of(const Tensor& x, int64_t row) {
    return x.slice(0, row, row + 1).to_vector<float>();
}

}  // namespace

TEST_CASE("clip text encoder: prompts of all lengths, equal ones once, in the order given") {
    TinyFiles files;
    files.write();
    ClipTextEncoder encoder(files.weights, files.vocabulary);
    CHECK(encoder.width() == 8);
    CHECK(encoder.config().heads == 4);
    const std::vector<std::string> prompts = {"the", "", "a dog and", "the", "THE  ", "sit"};
    const Tensor out = encoder.encode(prompts);
    CHECK(out.shape() == Shape{6, 8});
    CHECK(encoder.warnings().empty());
    CHECK(row_of(out, 0) == row_of(out, 3));
    CHECK(row_of(out, 0) == row_of(out, 4));  // the same ids
    CHECK(row_of(out, 0) != row_of(out, 1));
    for (size_t p = 0; p < prompts.size(); ++p) {  // alone as in company
        const auto alone = encoder.encode({prompts[p]}).to_vector<float>();
        const auto row = row_of(out, static_cast<int64_t>(p));
        for (size_t i = 0; i < row.size(); ++i) CHECK(std::abs(alone[i] - row[i]) < 1e-5);
    }
    CHECK(encoder.encode({}).shape() == Shape{0, 8});
}

TEST_CASE("clip text encoder: freed, it knows what it was told to keep") {
    TinyFiles files;
    files.write();
    ClipTextEncoder all(files.weights, files.vocabulary);
    const std::vector<std::string> prompts = {"the", "", "a dog and", "the", "THE  "};
    for (const bool words : {true, false}) {
        ClipTextEncoder some(files.weights, files.vocabulary);
        some.keep_only(prompts, words);
        for (const std::string& prompt : prompts) {
            CHECK(some.encode({prompt}).to_vector<float>() ==
                  all.encode({prompt}).to_vector<float>());
            if (words)
                CHECK(some.words({prompt}).to_vector<float>() ==
                      all.words({prompt}).to_vector<float>());
        }
        CHECK(row_of(some.encode({"a dog and", "the"}), 1) ==
              all.encode({"the"}).to_vector<float>());
        CHECK(some.encode({}).shape() == Shape{0, 8});
        some.to(DeviceType::cpu);
        some.keep_only({"sit"}, words);  // too late, and said when it is asked for
        CHECK_THROWS_WITH_AS(some.encode({"the", "sit"}),
                             doctest::Contains("\"sit\": the text encoder was freed"), Error);
        if (!words) CHECK_THROWS_WITH_AS(some.words({"the"}), doctest::Contains("\"the\""), Error);
    }
    // Prompts that take more memory than the weights: nothing is freed, so others are known too.
    std::vector<std::string> many;
    for (int i = 0; i < 6000; ++i) many.push_back("a " + std::to_string(i));
    ClipTextEncoder few(files.weights, files.vocabulary);
    few.keep_only(many, false);
    CHECK(few.encode({"sit"}).to_vector<float>() == all.encode({"sit"}).to_vector<float>());
    few.keep_only({}, false);
    CHECK_THROWS_AS(few.encode({"the"}), Error);
    CHECK(few.encode({}).shape() == Shape{0, 8});
    few.keep_only({}, false);
}

TEST_CASE("clip text encoder: word features, of which the sentence is one row projected") {
    TinyFiles files;
    files.write();
    ClipTextEncoder encoder(files.weights, files.vocabulary);
    CHECK(encoder.word_width() == 32);
    const std::vector<std::string> prompts = {"the", "a dog and", "the", ""};
    const Tensor words = encoder.words(prompts), sentences = encoder.encode(prompts);
    CHECK(words.shape() == Shape{4, 12, 32});
    CHECK(row_of(words, 0) == row_of(words, 2));
    CHECK(row_of(words, 0) != row_of(words, 1));
    const Tensor projection = files.at("text_projection");  // (32, 8)
    for (size_t p = 0; p < prompts.size(); ++p) {
        const int64_t row = static_cast<int64_t>(p);
        const int64_t end =
            static_cast<int64_t>(framed_ids(encoder.tokenizer(), prompts[p], 12).size()) - 1;
        for (int64_t c = 0; c < 8; ++c) {
            double sum = 0;
            for (int64_t i = 0; i < 32; ++i)
                sum += words.item<float>({row, end, i}) * projection.item<float>({i, c});
            CHECK(std::abs(sum - sentences.item<float>({row, c})) < 1e-5);
        }
        // The rows after the end are the padding's, which differ from place to place.
        CHECK(words.item<float>({row, 10, 0}) != words.item<float>({row, 11, 0}));
    }
    std::string many;
    for (int i = 0; i < 30; ++i) many += "the ";
    encoder.words({many});
    CHECK(encoder.warnings().size() == 1);
    CHECK(encoder.words({}).shape() == Shape{0, 12, 32});
}

TEST_CASE("clip text encoder: more prompts than a batch holds") {
    TinyFiles files;
    files.write();
    ClipTextEncoder encoder(files.weights, files.vocabulary);
    std::vector<std::string> prompts;
    for (int i = 0; i < 200; ++i)
        prompts.push_back(std::string(static_cast<size_t>(i % 9), 'x') +
                          std::to_string(i / 9 % 10));
    const Tensor out = encoder.encode(prompts);
    for (const int64_t p : {0, 63, 64, 128, 199}) {
        const auto alone = encoder.encode({prompts[static_cast<size_t>(p)]}).to_vector<float>();
        const auto row = row_of(out, p);
        for (size_t i = 0; i < row.size(); ++i) CHECK(std::abs(alone[i] - row[i]) < 1e-5);
    }
}

TEST_CASE("clip text encoder: what does not fit is cut, and said") {
    TinyFiles files;
    files.write();
    ClipTextEncoder encoder(files.weights, files.vocabulary);
    const std::string ten = "1234567890", more = "1234567890 and the rest";
    const Tensor out = encoder.encode({ten, more});
    REQUIRE(encoder.warnings().size() == 1);
    CHECK(encoder.warnings()[0] ==
          "\"1234567890 and the rest\" is too long: only its first 10 tokens count; say it in "
          "fewer words");
    CHECK(row_of(out, 0) == row_of(out, 1));
    encoder.encode({ten});
    CHECK(encoder.warnings().empty());
}

TEST_CASE("clip text encoder: f16 weights are read exactly") {
    TinyFiles files;
    for (auto& [name, tensor] : files.tensors)
        if (name.ends_with("_proj.weight") || name == "text_projection")
            tensor = tensor.to(DType::f16);
    files.write();
    ClipTextEncoder half(files.weights, files.vocabulary);
    for (auto& [name, tensor] : files.tensors) tensor = tensor.to(DType::f32);
    files.write();
    ClipTextEncoder full(files.weights, files.vocabulary);
    CHECK(half.encode({"the dog"}).to_vector<float>() ==
          full.encode({"the dog"}).to_vector<float>());
}

TEST_CASE("clip text encoder: broken files are refused in one line") {
    TinyFiles files;
    SUBCASE("heads that do not divide the width") {
        files.write({{"heads", "5"}});
        CHECK(files.error().find("5 heads do not divide its width 32") != std::string::npos);
    }
    SUBCASE("heads that are no number") {
        files.write({{"heads", "many"}});
        CHECK(files.error().find("metadata 'heads' is 'many'") != std::string::npos);
    }
    SUBCASE("a vocabulary of another size") {
        files.write();
        std::ofstream(files.vocabulary) << "#version: 0.2\nt h\n";
        CHECK(files.error().find("embeds 518 tokens and the vocabulary has 515") !=
              std::string::npos);
    }
    SUBCASE("NaN") {
        files.at("ln_final.bias").data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
        files.write();
        CHECK(files.error().find("ln_final.bias: nan at (3)") != std::string::npos);
    }
    SUBCASE("a tensor of another shape") {
        files.at("transformer.resblocks.1.ln_2.bias") = Tensor::zeros({31});
        files.write();
        CHECK(files.error().find("transformer.resblocks.1.ln_2.bias (31)") != std::string::npos);
    }
    SUBCASE("a missing tensor") {
        files.at("transformer.resblocks.1.ln_2.bias");
        std::erase_if(files.tensors,
                      [](const auto& t) { return t.first == "transformer.resblocks.1.ln_2.bias"; });
        files.write();
        CHECK(files.error().find("missing: transformer.resblocks.1.ln_2.bias") !=
              std::string::npos);
    }
    SUBCASE("not a text tower") {
        files.tensors = {{"w", Tensor::zeros({2})}};
        files.write();
        CHECK(files.error().find("is it a CLIP text encoder?") != std::string::npos);
    }
    SUBCASE("cut short") {
        files.write();
        std::filesystem::resize_file(files.weights,
                                     std::filesystem::file_size(files.weights) - 100);
        CHECK(files.error().find("text.safetensors") != std::string::npos);
    }
    SUBCASE("another kind of file") {
        std::ofstream(files.weights) << "PK\3\4 nothing like it";
        CHECK(files.error().find("text.safetensors") != std::string::npos);
    }
    SUBCASE("no file") {
        std::filesystem::remove(files.weights);
        CHECK(files.error().find("text.safetensors") != std::string::npos);
    }
}
