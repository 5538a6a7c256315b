#include "train/config.h"

#include <doctest/doctest.h>

#include <fstream>

#include "kernels/error.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;
using mc::testing::ScratchDir;
using Json = nlohmann::json;

namespace {

const std::vector<Preset> presets = {
    {"small",
     "for a CPU",
     {{"lr", 2e-4},
      {"batch", 64},
      {"data", "t2m"},
      {"resume", true},
      {"milestones", {50000, 80000}},
      {"seed", nullptr},
      {"model", {{"width", 256}, {"dropout", 0.1}}}}},
    {"large", "for a GPU", {{"lr", 1e-4}}},
};

Json set(const std::vector<std::string>& settings) {
    return resolve_config(presets, "small", {}, settings);
}

}  // namespace

TEST_CASE("config: settings take the type of the preset's value") {
    CHECK(set({})["batch"] == 64);
    const Json c = set({"lr=1", "batch=16", "data=42", "resume=off", "milestones=1,2,3",
                        "model.width=8", "model.dropout=.5", "seed=7"});
    CHECK(c["lr"].is_number_float());
    CHECK(c["lr"] == 1.0);
    CHECK(c["batch"] == 16);
    CHECK(c["data"] == "42");
    CHECK(c["resume"] == false);
    CHECK(c["milestones"] == Json({1, 2, 3}));
    CHECK(c["model"]["width"] == 8);
    CHECK(c["model"]["dropout"] == 0.5);
    CHECK(c["seed"] == 7);
    CHECK(set({"data=a=b"})["data"] == "a=b");
    CHECK(set({"data="})["data"] == "");
    CHECK(set({"milestones="})["milestones"] == Json::array());
    CHECK(set({"milestones=[]"})["milestones"] == Json::array());
    CHECK(set({"milestones=[5]"})["milestones"] == Json({5}));
    CHECK(set({"seed=abc"})["seed"] == "abc");
    CHECK(set({"batch=1", "batch=2"})["batch"] == 2);
    CHECK(set({"lr=1e-4"})["lr"] == 1e-4);
}

TEST_CASE("config: what a run begins from stands over the preset, under file and settings") {
    const Begun begun{{{"model", {{"width", 64}, {"dropout", 0.3}, {"heads", 2}}}, {"gone", 1}},
                      "runs/before"};
    const Json c = resolve_config(presets, "small", {}, {"model.dropout=0.2"}, begun);
    CHECK(c["model"] == Json({{"width", 64}, {"dropout", 0.2}}));
    CHECK(c["batch"] == 64);
    CHECK_FALSE(c.contains("gone"));
    CHECK_THROWS_WITH_AS(
        resolve_config(presets, "small", {}, {}, {{{"model", {{"width", "wide"}}}}, "runs/before"}),
        doctest::Contains("runs/before"), Error);
}

TEST_CASE("config: wrong settings say what is wanted") {
    const auto complaint = [](const std::string& setting, const char* part) {
        CHECK_THROWS_WITH_AS(set({setting}), doctest::Contains(part), Error);
    };
    complaint("lr", "want KEY=VALUE");
    complaint("=1", "want KEY=VALUE");
    complaint("lr=fast", "--set: 'lr' got \"fast\", want a number (such as 0.0002)");
    complaint("lr=nan", "want a number");
    complaint("lr=", "want a number");
    complaint("batch=1.5", "want a whole number (such as 64)");
    complaint("batch=many", "want a whole number");
    complaint("resume=maybe", "want true or false");
    complaint("milestones=1,", "'milestones' got \"\", want a whole number");
    complaint("milestones=1,,2", "'milestones' got \"\", want a whole number");
    complaint("lr.=1", "unknown key 'lr.'; did you mean lr?");
    complaint("model.=1", "unknown key 'model.'");
    complaint("milestones=1,x", "'milestones' got \"x\", want a whole number");
    complaint("model=1", "is a group; set one of dropout, width");
    complaint("model.width.x=1", "unknown key");
    complaint("lrr=1", "unknown key 'lrr'; did you mean lr?");
    complaint("width=1", "did you mean model.width?");
    complaint("model.widht=1", "did you mean model.width?");
    complaint("zzzzzz=1", "there are: batch, data, lr, milestones, model.dropout, model.width");
    complaint("batch=0", "batch=0: want 1 or more");
    complaint("batch=-1", "batch=-1: want 1 or more");
    complaint("lr=-1", "lr=-1.0: want 0 or more");
    complaint("model.width=0", "model.width=0: want 1 or more");
    complaint("model.dropout=1", "model.dropout=1.0: want 0 to below 1");
    CHECK_THROWS_WITH_AS(set({"milestones=1.5"}), doctest::Contains("whole number"), Error);
    complaint("milestones=5,-1", "milestones=-1: want 0 or more");
    CHECK_THROWS_WITH_AS(resolve_config(presets, "tiny"),
                         "no preset 'tiny'; there are: small, large", Error);
}

TEST_CASE("config: a file goes over the preset, settings over the file") {
    ScratchDir dir;
    const auto path = dir.path / "c.json";
    const auto with = [&](const std::string& text, const std::vector<std::string>& settings = {}) {
        std::ofstream(path) << text;
        return resolve_config(presets, "small", path, settings);
    };
    const Json c =
        with("{\"lr\": 1, // a comment\n \"model\": {\"width\": 32}, \"batch\": 8}", {"batch=4"});
    CHECK(c["lr"].is_number_float());
    CHECK(c["model"] == Json({{"width", 32}, {"dropout", 0.1}}));
    CHECK(c["batch"] == 4);
    CHECK(with("{}") == presets[0].values);
    CHECK(with(with("{}").dump()) == presets[0].values);

    const auto complaint = [&](const std::string& text, const char* part) {
        CHECK_THROWS_WITH_AS(with(text), doctest::Contains(part), Error);
        CHECK_THROWS_WITH_AS(with(text), doctest::Contains("c.json"), Error);
    };
    complaint("", "line 1 is not JSON");
    complaint("{\n\"lr\": 1\n\"batch\": 2}", "line 3 is not JSON");
    complaint("{\"lr\": 1e999}", "a number is too large");
    complaint("[]", "not a JSON object");
    complaint("{\"model\": {\"with\": 1}}", "unknown key 'model.with'; did you mean model.width?");
    complaint("{\"model\": 3}", "'model' got 3, want a group of keys");
    complaint("{\"batch\": \"8\"}", "'batch' got \"8\", want a whole number");
    complaint("{\"batch\": null}", "want a whole number");
    complaint("{\"lr\": {\"a\": 1}}", "want a number");
    CHECK_THROWS_WITH_AS(resolve_config(presets, "small", dir.path / "absent"),
                         doctest::Contains("cannot read"), Error);
    CHECK_THROWS_AS(resolve_config(presets, "small", dir.path), Error);
}

TEST_CASE("config: what nothing has set is null, takes any type, and is not kept") {
    CHECK_FALSE(without_nulls(set({})).contains("seed"));
    CHECK(without_nulls(set({}))["model"] == set({})["model"]);
    CHECK(without_nulls(set({"seed=[[0],[1, 2]]"}))["seed"] == Json::parse("[[0],[1,2]]"));
    CHECK(set({"seed={\"a\": 1}"})["seed"]["a"] == 1);
    CHECK(without_nulls({{"model", {{"width", nullptr}}}}) == Json{{"model", Json::object()}});
}

TEST_CASE("config: near names come nearest first, at most three") {
    const std::vector<std::string> names = {"optimizer.lr", "batch", "batches", "patch", "latch"};
    CHECK(near_names("batch", names) == std::vector<std::string>{"batch", "batches", "patch"});
    CHECK(near_names("lr", names) == std::vector<std::string>{"optimizer.lr"});
    CHECK(near_names("quantity", names).empty());
}
