#include "train/text_stage.h"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "kernels/backend.h"
#include "models/clip/clip_text_encoder.h"
#include "tensor/formats/npy.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;
using mc::testing::ScratchDir;

namespace {

constexpr const char* kMerges = "#version: 0.2\nt h\nth e</w>\na n\nan d</w>\n";

clip::Tokenizer tiny_tokenizer() {
    return clip::Tokenizer::from_memory(kMerges);
}

// 300 sentences of two or three words of nine; a sentence's embedding is the sum of its words' own.
TextTeacher tiny_teacher() {
    const char* words[] = {"run", "walk", "sit", "left", "right", "the", "and", "slow", "far"};
    constexpr int64_t kWidth = 12;
    Generator draws(11);
    int8_t own[9][kWidth];
    for (auto& word : own)
        for (int8_t& v : word) v = static_cast<int8_t>(static_cast<int>(draws.below(81)) - 40);
    TextTeacher teacher;
    teacher.width = kWidth;
    std::set<std::string> seen;
    while (teacher.sentences.size() < 300) {
        std::string text;
        int8_t sum[kWidth] = {};
        for (uint32_t n = 2 + draws.below(2); n > 0; --n) {
            const uint32_t w = draws.below(9);
            if (!text.empty()) text += ' ';
            text += words[w];
            for (int64_t e = 0; e < kWidth; ++e) sum[e] = static_cast<int8_t>(sum[e] + own[w][e]);
        }
        if (!seen.insert(text).second) continue;
        teacher.sentences.push_back(text);
        teacher.values.insert(teacher.values.end(), sum, sum + kWidth);
        teacher.scales.push_back(0.01f);
    }
    return teacher;
}

nlohmann::json tiny_config(const std::vector<std::string>& settings = {}) {
    std::vector<std::string> all = {
        "model.width=16",      "model.layers=2", "model.heads=2", "model.embed_dim=12",
        "model.context=10",    "batch=24",       "group=10",      "motion_sentences=100",
        "held_out_percent=10", "lr=5e-3",        "warm_up=2",     "steps=12",
        "validate_every=4",    "save_every=5",   "log_every=3"};
    all.insert(all.end(), settings.begin(), settings.end());
    return resolve_config(text_presets(), "small", {}, all);
}

LoopOptions quiet_options(const nlohmann::json& config, const std::filesystem::path& out) {
    LoopOptions options = text_loop_options(config, out);
    options.quiet = true;
    return options;
}

std::string bytes_of(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("text stage: a few steps bring the student nearer to its teacher") {
    ScratchDir dir;
    const TextTeacher teacher = tiny_teacher();
    const auto config = tiny_config({"steps=60", "validate_every=60", "save_every=60"});
    TextStage stage(config, teacher, tiny_tokenizer());
    Generator unused(1);
    const double before = stage.validate().at("score");
    const LoopResult result = run_loop(stage, quiet_options(config, dir.path));
    CHECK(result.finished);
    CHECK(before > 0.8);
    CHECK(result.validation.at("score") < 0.5 * before);
    CHECK(result.validation.at("score") ==
          doctest::Approx(1 - result.validation.at("cosine")).epsilon(1e-12));
    CHECK(result.validation.at("recall_at_1") > 0.1);
}

TEST_CASE("text stage: resumed equals uninterrupted, one thread equals two, bit for bit") {
    ScratchDir dir;
    const TextTeacher teacher = tiny_teacher();
    const auto config = tiny_config();
    const int threads = num_threads();
    set_num_threads(1);
    {
        TextStage stage(config, teacher, tiny_tokenizer());
        run_loop(stage, quiet_options(config, dir.path / "whole"));
    }
    set_num_threads(2);
    {
        TextStage stage(config, teacher, tiny_tokenizer());
        LoopOptions options = quiet_options(config, dir.path / "halves");
        options.steps = 7;  // as if killed there: saved at 5 and, because it ends, at 7
        run_loop(stage, options);
    }
    {
        TextStage stage(config, teacher, tiny_tokenizer());
        LoopOptions options = quiet_options(config, dir.path / "halves");
        options.resume = true;
        const LoopResult result = run_loop(stage, options);
        CHECK(result.steps == 12);
    }
    set_num_threads(threads);
    const Checkpoint whole = load_checkpoint(dir.path / "whole/latest.safetensors", "text");
    const Checkpoint halves = load_checkpoint(dir.path / "halves/latest.safetensors", "text");
    REQUIRE(whole.tensors.size() == halves.tensors.size());
    for (size_t i = 0; i < whole.tensors.size(); ++i) {
        const auto& [name, a] = whole.tensors[i];
        const Tensor& b = halves.tensors[i].second;
        CAPTURE(name);
        CHECK(name == halves.tensors[i].first);
        CHECK(std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel()) * size_of(a.dtype())) ==
              0);
    }
}

TEST_CASE("text stage: batches are a function of the step, share and held-out sentences kept") {
    const TextTeacher teacher = tiny_teacher();
    TextStage stage(tiny_config(), teacher, tiny_tokenizer());
    TextStage other(tiny_config(), teacher, tiny_tokenizer());
    CHECK(stage.held_out().size() > 10);
    CHECK(stage.held_out().size() < 60);
    const std::set<int64_t> held(stage.held_out().begin(), stage.held_out().end());
    std::set<int64_t> seen;
    other.batch_rows(30);
    for (int64_t step = 0; step < 30; ++step) {
        const auto rows = stage.batch_rows(step);
        CHECK(rows == other.batch_rows(step));
        CHECK(rows.size() == 24);
        CHECK(std::count_if(rows.begin(), rows.end(), [](int64_t r) { return r < 100; }) == 12);
        for (const int64_t row : rows) CHECK(!held.contains(row));
        seen.insert(rows.begin(), rows.end());
    }
    CHECK(seen.size() == 300 - held.size());
}

TEST_CASE("text stage: settings that make no sense are refused") {
    const TextTeacher teacher = tiny_teacher();
    const auto error = [&](const std::string& setting) -> std::string {
        return mc::testing::error_of(
            [&] { TextStage stage(tiny_config({setting}), teacher, tiny_tokenizer()); });
    };
    CHECK(error("model.heads=3").find("does not divide model.width=16") != std::string::npos);
    CHECK(error("batch=1").find("a batch of at least 2") != std::string::npos);
    CHECK(error("motion_share=1.5").find("motion_share=1.5: want 0 to 1") != std::string::npos);
    CHECK(error("temperature=0").find("temperature") != std::string::npos);
    CHECK(error("held_out_percent=0").find("held_out_percent") != std::string::npos);
    CHECK(error("motion_share=0") == "");
    CHECK(error("motion_sentences=1000") == "");
    CHECK(error("steps=0").find("steps=0: want 1 or more") != std::string::npos);
}

TEST_CASE("text stage: the best tower is exported as an encoder that gives the student's values") {
    ScratchDir dir;
    const TextTeacher teacher = tiny_teacher();
    const auto config = tiny_config({"validate_every=12"});
    TextStage stage(config, teacher, tiny_tokenizer());
    run_loop(stage, quiet_options(config, dir.path));
    const auto path = export_text_encoder(dir.path, config, tiny_tokenizer());
    CHECK(path == dir.path / "text_encoder.safetensors");
    clip::ClipTextEncoder encoder(path, dir.path / "vocab.txt.gz");
    CHECK(encoder.width() == 12);
    CHECK(encoder.config().heads == 2);
    const std::string prompt = "the walk and";
    const auto ids = clip::framed_ids(tiny_tokenizer(), prompt, 10);
    const Tensor want = stage.student().text(clip::padded_ids({&ids})).value();
    CHECK(encoder.encode({prompt}).to_vector<float>() == want.to_vector<float>());
    const SafetensorsFile file(path);
    CHECK(file.metadata().at("merges") == "4");
    CHECK(file.metadata().contains("licence"));
    CHECK(file.metadata().contains("provenance"));
    CHECK(bytes_of(dir.path / "vocab.txt.gz").size() > 20);
}

TEST_CASE("text teacher: a folder comes back, and broken ones are refused") {
    ScratchDir dir;
    const auto write = [&](const std::string& descr, int64_t rows, const std::string& values,
                           const std::vector<float>& scales) {
        std::ofstream(dir.path / "sentences.txt") << "a walk\r\nto run\n";
        std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" +
                             std::to_string(rows) + ", 3), }";
        header.resize(117, ' ');
        header += '\n';
        std::string file = std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + values;
        std::ofstream(dir.path / "embeddings_i8.npy", std::ios::binary) << file;
        write_npy(dir.path / "embeddings_scale.npy", {static_cast<int64_t>(scales.size())},
                  scales.data());
    };
    const auto error = [&]() -> std::string {
        return mc::testing::error_of([&] { read_text_teacher(dir.path); });
    };
    const std::string good("\x03\x00\xfc\x00\x01\x00", 6);
    write("|i1", 2, good, {0.2f, 1.0f});
    const TextTeacher teacher = read_text_teacher(dir.path);
    CHECK(teacher.sentences == std::vector<std::string>{"a walk", "to run"});
    CHECK(teacher.width == 3);
    const auto rows = teacher.embeddings({1, 0}).to_vector<float>();
    CHECK(rows == std::vector<float>{0, 1, 0, 0.6f, 0, -0.8f});

    write("|i1", 3, good + "abc", {0.2f, 1.0f});
    CHECK(error().find("want int8 of 2 rows") != std::string::npos);
    write("|u1", 2, good, {0.2f, 1.0f});
    CHECK(error().find("want int8") != std::string::npos);
    write("|i1", 2, good.substr(0, 4), {0.2f, 1.0f});
    CHECK(error().find("embeddings_i8.npy") != std::string::npos);
    write("|i1", 2, good, {0.2f, 1.0f, 2.0f});
    CHECK(error().find("want 2 floating point numbers") != std::string::npos);
    write("|i1", 2, good, {0.2f, std::nanf("")});
    CHECK(error().find("entry 1 is nan") != std::string::npos);
    write("|i1", 2, std::string(6, '\0'), {0.2f, 1.0f});
    CHECK(error().find("row 0 is all zeros") != std::string::npos);
    std::filesystem::remove(dir.path / "sentences.txt");
    CHECK(error().find("sentences.txt: cannot read it") != std::string::npos);
}

TEST_CASE("text teacher: sentences of lines and of captions") {
    ScratchDir dir;
    std::ofstream(dir.path / "a.txt") << "one\n\ntwo\r\n";
    CHECK(read_sentences(dir.path / "a.txt") == std::vector<std::string>{"one", "two"});
    std::ofstream(dir.path / "empty.txt") << "\n";
    CHECK_THROWS_WITH_AS(read_sentences(dir.path / "empty.txt"), doctest::Contains("no sentences"),
                         Error);
    const auto captions = mc::testing::source_dir() / "pretrained/text/captions.jsonl";
    CHECK(read_sentences(captions).size() > 3000);
}
