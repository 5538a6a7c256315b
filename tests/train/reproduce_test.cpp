#include "train/reproduce/reproduce.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "models/momask/length_estimator.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;

namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;

// A case made by our own model with other inputs, sizes and keys than any recorded one.
struct MadeCase {
    ScratchDir dir;
    fs::path path = dir.path / "anything.safetensors";
    NamedTensors tensors;
    StringMap metadata;

    explicit MadeCase(const std::string& name = "momask_length_estimator_b") {
        const Tensor text = hash_tensor("b.text", {3, 64}, 0.8);
        momask::LengthEstimator model(64, 20, nullptr);
        fill_from_names(model);
        const Tensor logits = model.logits(text).value();
        tensors = {{"input.text_embedding", text},
                   {"output.logits", logits},
                   {"output64.logits", logits.to(DType::f64)}};
        metadata = {{"case", name},
                    {"config", R"({"input": 64, "output": 20})"},
                    {"fill:input.text_embedding", "hash:b.text;s*0.8"},
                    {"info:output.logits", R"({"maxabs": 1, "maxabsdiff64": 1e-7})"}};
    }
    CaseResult run() const {
        write_safetensors(path, tensors, metadata);
        return reproduce_case(path, {});
    }
    Tensor& at(const std::string& name) {
        for (auto& [key, tensor] : tensors)
            if (key == name) return tensor;
        throw Error("no " + name);
    }
};

std::string failures(const CaseResult& result) {
    std::string text;
    for (const CheckRow& row : result.rows)
        if (row.verdict == Verdict::failed) text += row.tensor + ": " + row.note + "\n";
    return text;
}

bool says(const CaseResult& result, const std::string& part) {
    const std::string text = failures(result);
    INFO(text);
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("reproduce: a case never seen runs by its metadata, whatever its file is called") {
    MadeCase made;
    const CaseResult result = made.run();
    INFO(failures(result));
    CHECK(result.passed());
    CHECK(result.name == "momask_length_estimator_b");
    CHECK(result.kind == "momask_length_estimator");
    CHECK(result.count(Verdict::ok) == 2);  // the input's rule, the logits
    CHECK(result.count(Verdict::skipped) == 0);
}

TEST_CASE("reproduce: wrong numbers, inputs and shapes are failures, each in its row") {
    {
        MadeCase made;
        made.at("output64.logits").data<double>()[7] += 1e-5;
        const CaseResult result = made.run();
        CHECK(says(result, "output.logits: value off by 1e-05, allowed"));
        CHECK(result.count(Verdict::failed) == 1);
    }
    {
        MadeCase made;
        made.at("output64.logits").data<double>()[7] = std::nan("");
        CHECK(says(made.run(), "output.logits: value off by nan"));
    }
    {
        MadeCase made;
        const Tensor text = made.at("input.text_embedding").clone();
        text.data<float>()[5] += 1e-3f;
        made.at("input.text_embedding") = text;
        const CaseResult result = made.run();
        CHECK(says(result, "input.text_embedding"));
        CHECK(says(result, "output.logits"));
    }
    {
        MadeCase made;
        made.at("output64.logits") = Tensor::zeros({3, 21}, DType::f64);
        CHECK(says(made.run(), "output.logits has 63 values, ours 60"));
    }
}

TEST_CASE("reproduce: an input that is not stored is made by its rule") {
    MadeCase made;
    made.tensors.erase(made.tensors.begin());
    write_safetensors(made.path, made.tensors, made.metadata);
    const ReferenceCase recorded(made.path);
    const Checks checks(recorded);
    CHECK(checks.input("input.text_embedding", {3, 64}).to_vector<float>() ==
          hash_tensor("b.text", {3, 64}, 0.8).to_vector<float>());
    CHECK_THROWS_WITH_AS(checks.input("input.other", {3}), doctest::Contains("how to fill it"),
                         Error);
}

TEST_CASE("reproduce: draws have the prefix that the note names") {
    const auto first = [](const std::string& note, const std::string& name) {
        MadeCase made;
        made.metadata["config"] = nlohmann::json{{"note", note}}.dump();
        write_safetensors(made.path, made.tensors, made.metadata);
        const ReferenceCase recorded(made.path);
        const Checks checks(recorded);
        HashUniforms draws = checks.draws();
        return draws.uniform(name, {1}).item<float>();
    };
    const auto of_key = [](const std::string& key) {
        return static_cast<float>(HashStream(key).uniform(0));
    };
    CHECK(first("draws patched (key prefix ''): ...", "draw.a") == of_key("draw.a"));
    CHECK(first("draws patched (key prefix 'h1.'): ...", "draw.a") == of_key("h1.draw.a"));
    CHECK(first("gumbel u=hash(h2.noise.step{k}) [B]", "noise.step0") == of_key("h2.noise.step0"));
    CHECK(first("u=hash noise.step{s}.layer{q}", "noise.step0") == of_key("noise.step0"));
    CHECK(first("argsort of hash u(h3.draw.randperm{k}) [48]", "draw.a") == of_key("h3.draw.a"));
    CHECK(first("nothing about draws", "draw.a") == of_key("draw.a"));
}

TEST_CASE("reproduce: kinds are found by whole words, the longest wins") {
    CHECK(kind_of("momask_rvq")->name == std::string("momask_rvq"));
    CHECK(kind_of("momask_rvq_train_small_tile")->name == std::string("momask_rvq_train"));
    CHECK(kind_of("heldout_moclip_motion_T80")->name == std::string("moclip_motion"));
    CHECK(kind_of("momask_rvqx") == nullptr);
    CHECK(kind_of("poem") == nullptr);
    for (const CaseKind& kind : case_kinds()) CHECK((kind_of(kind.name)->run == kind.run));
}

TEST_CASE("reproduce: unknown kinds and broken files are failed rows, not crashes") {
    CHECK(says(MadeCase("poem").run(), "no runner for kind poem; there are"));
    {
        MadeCase made;
        made.metadata.erase("case");
        CHECK(says(made.run(), "names no case"));
    }
    for (const char* config : {"", "[1]", "{", R"({"input": "wide"})", R"({"input": 64})",
                               R"({"input": 64, "output": -3})"}) {
        CAPTURE(config);
        MadeCase made;
        made.metadata["config"] = config;
        CHECK_FALSE(made.run().passed());
    }
    {
        MadeCase made;
        made.metadata["info:output.logits"] = "[";
        CHECK(says(made.run(), "info:output.logits"));
    }
    {
        MadeCase made;
        made.tensors.erase(made.tensors.begin());  // the input
        made.metadata["fill:input.text_embedding"] = "hash:b.text;s*0.8 then something";
        CHECK(says(made.run(), "nor says how to fill it"));
    }
    MadeCase made;
    made.run();
    std::ifstream in(made.path, std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(in), {}};
    for (const size_t size :
         {size_t{0}, size_t{5}, size_t{60}, whole.size() / 2, whole.size() - 1}) {
        const fs::path cut = made.dir.path / "cut.safetensors";
        std::ofstream(cut, std::ios::binary) << whole.substr(0, size);
        CAPTURE(size);
        CHECK_FALSE(reproduce_case(cut, {}).passed());
    }
    CHECK_FALSE(reproduce_case(made.dir.path / "absent.safetensors", {}).passed());
    CHECK_FALSE(reproduce_case(made.dir.path, {}).passed());
}

TEST_CASE("reproduce: the tokenizer's lines, good and broken") {
    ScratchDir dir;
    const fs::path vocabulary = dir.path / "vocab.txt", cases = dir.path / "lines.jsonl";
    std::ofstream(vocabulary) << "#version: 0.2\nt h\nth e</w>\n";  // 512 th, 513 the</w>
    const auto run = [&](const std::string& lines, bool named = true) {
        std::ofstream(cases) << lines;
        ReproduceOptions options;
        if (named) options.clip_vocabulary = vocabulary;
        return reproduce_case(cases, options);
    };
    const std::string good =
        R"({"text": "The", "bpe": [513], "ids": [514, 513, 515], "overflow": false,)"
        R"( "ftfy_changes_ids": false, "decoded": "the "})";
    CHECK(run(good + "\n").passed());
    CHECK(run(good + "\n").count(Verdict::ok) == 5);
    std::string other = good;
    other.replace(other.find("[513]"), 5, "[512]");
    CHECK(says(run(good + "\n" + other + "\n"), "bpe: the first in line 2"));
    CHECK(says(run(good + "\n{\"text\": 3}\n"), "line 2 is not a tokenizer case"));
    CHECK(says(run("{\n"), "line 1 is not a tokenizer case"));
    const CaseResult without = run(good + "\n", false);
    CHECK(without.passed());
    CHECK(without.rows[0].note.find("--vocab") != std::string::npos);
}

TEST_CASE("reproduce: folders, tables and JSON") {
    MadeCase made;
    const CaseResult result = made.run();
    CHECK(cases_in(made.dir.path) == std::vector<fs::path>{made.path});
    ScratchDir empty;
    CHECK_THROWS_WITH_AS(cases_in(empty.path), doctest::Contains("no reference cases"), Error);
    const std::string table = case_table(result, false), brief = case_table(result, true);
    CHECK(table.find("output.logits") != std::string::npos);
    CHECK(table.find("8x: ") != std::string::npos);
    CHECK(brief.find("output.logits") == std::string::npos);
    CHECK(brief.find("2 ok, 0 failed, 0 not compared") != std::string::npos);
    const nlohmann::json json = case_json(result);
    CHECK(json["passed"] == true);
    CHECK(json["rows"].size() == 2);
    CHECK(json["rows"][1]["factor"] == 8);
    made.at("output64.logits").data<double>()[7] = std::numeric_limits<double>::infinity();
    CHECK(case_json(made.run())["rows"][1]["absolute"] == "inf");
}
