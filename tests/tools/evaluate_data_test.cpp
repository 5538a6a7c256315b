// `evaluate --data`: the data set and the bundle of pipeline.h, judged by a tiny evaluator in the
// public layout.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "motion/dataset.h"
#include "motion/motion_file.h"
#include "motion/statistics.h"
#include "tests/tiny_evaluator.h"
#include "tests/tools/pipeline.h"

namespace fs = std::filesystem;
using namespace mc;
using namespace mc::testing;

namespace {

// checkpoints/t2m and glove/ beside it, as T2M's repository has them.
struct Judge {
    Pipeline& p = pipeline();
    std::string root = p.dir + "/judge", t2m = root + "/checkpoints/t2m";
    std::string how = "--data " + p.data + " --split all --evaluator " + t2m + " ";

    Judge() {
        write_tiny_evaluator(t2m,
                             motion::read_normalisation(p.data + "/Mean.npy", p.data + "/Std.npy"));
        fs::rename(t2m + "/glove", root + "/glove");
    }
    nlohmann::json run(const std::string& arguments, std::string* text = nullptr) const {
        const std::string json = root + "/report.json";
        fs::remove(json);
        const Outcome ran = run_program("evaluate", how + arguments + " --json " + json);
        INFO(arguments << "\n" << ran.text);
        REQUIRE(ran.status == 0);
        if (text) *text = ran.text;
        return nlohmann::json::parse(std::ifstream(json));
    }
};

Judge& judge() {
    static Judge made;
    return made;
}

double mean(const nlohmann::json& report, const char* who, const char* metric) {
    return report.at(who).at(metric).at("mean").get<double>();
}

}  // namespace

TEST_CASE("evaluate --data: the real motions, the same for a seed on any number of threads") {
    Judge& j = judge();
    std::string text;
    const nlohmann::json real = j.run("--real --repeats 3", &text);
    for (const char* part :
         {"real motions", "R-precision top 1", "FID", "64 texts", "3 repetitions", "evaluation"})
        CHECK(text.find(part) != std::string::npos);
    CHECK(real["evaluated"] == "real motions");
    CHECK(real["repeats"] == 3);
    CHECK(real["texts"] == 64);
    CHECK_FALSE(real["made"].contains("multimodality"));
    const double top1 = mean(real, "made", "r_precision_top_1"),
                 top3 = mean(real, "made", "r_precision_top_3");
    CHECK(top1 >= 0);
    CHECK(top1 <= top3);
    CHECK(top3 <= 1);
    CHECK(mean(real, "made", "fid") >= 0);
    CHECK(mean(real, "made", "diversity") > 0);
    CHECK(real["made"]["fid"]["interval"].get<double>() > 0);
    CHECK(real["made"]["fid"]["values"].size() == 3);
    CHECK(j.run("--real --repeats 3 --threads 1") == real);
    CHECK(j.run("--real --repeats 3 --seed 4") != real);
}

TEST_CASE("evaluate --data: a bundle, and motions in a folder") {
    Judge& j = judge();
    const nlohmann::json real = j.run("--real --repeats 2");
    std::string text;
    const std::string bundle = "--bundle " + j.p.bundle + " --repeats 2 ",
                      how = bundle + "--takes 3 ";
    const nlohmann::json made = j.run(how, &text);
    CHECK(text.find(j.p.bundle) != std::string::npos);
    CHECK(made["takes"] == 3);
    CHECK(mean(made, "made", "multimodality") > 0);
    CHECK(mean(made, "real", "diversity") > 0);
    // A generator of a few steps of training is far from the data.
    CHECK(mean(made, "made", "fid") > 5 * mean(real, "made", "fid"));
    CHECK(j.run(how + "--threads 1") == made);
    // A bundle's defaults give way to what is asked for.
    CHECK(
        j.run(how + "--steps 10 --guidance 4 --residual-guidance 5 --temperature 1 --top-k 0.9") ==
        made);
    CHECK(j.run(how + "--guidance 1 --steps 2") != made);
    CHECK(j.run(how + "--residual-guidance 2") != made);
    const nlohmann::json free = j.run(bundle + "--takes 0 --lengths generator");
    CHECK_FALSE(free["made"].contains("multimodality"));

    // The true motions as a folder's, two takes of a caption: feature rows and joints.
    motion::DatasetOptions data;
    data.root = j.p.data;
    data.split = "all";
    const motion::Dataset all = motion::read_dataset(data);
    const fs::path takes = j.root + "/takes";
    fs::create_directories(takes);
    for (const motion::MotionSample& sample : all.samples) {
        const motion::Caption& caption = sample.captions.front();
        const std::string stem =
            (takes / (sample.clip + "_" + std::to_string(caption.line))).string();
        motion::write_features(stem + "_0.npy", *sample.features, false);
        motion::write_features(stem + "_1.npy", *sample.features, false);
    }
    const nlohmann::json own = j.run("--repeats 2 --motions " + takes.string());
    CHECK(own["takes"] == 2);
    CHECK(mean(own, "made", "multimodality") == doctest::Approx(0));
    CHECK(mean(own, "made", "fid") < 0.2 * mean(made, "made", "fid"));

    const std::string first =
        all.samples.front().clip + "_" + std::to_string(all.samples.front().captions.front().line);
    // What cannot be scored is named before the first repetition.
    const std::string good = bytes_of(takes / (first + "_1.npy"));
    motion::FeatureSequence broken = *all.samples.front().features;
    broken.rows[5] = std::nanf("");
    motion::write_features(takes / (first + "_1.npy"), broken, false);
    refuses("evaluate", j.how + "--motions " + takes.string(), 1, first + "_1.npy");
    broken.frames = 3;
    broken.rows.assign(3 * 263, 0);
    motion::write_features(takes / (first + "_1.npy"), broken, false);
    refuses("evaluate", j.how + "--motions " + takes.string(), 1, "(3, 263) features");
    std::ofstream(takes / (first + "_1.npy"), std::ios::binary) << good;

    fs::remove(takes / (first + "_1.npy"));
    refuses("evaluate", j.how + "--motions " + takes.string(), 1, "but the captions before have 1");
    fs::remove(takes / (first + "_0.npy"));
    refuses("evaluate", j.how + "--motions " + takes.string(), 1, "has no motion for");
    refuses("evaluate", j.how + "--motions " + j.root + "/none", 1, "is no folder of motions");
}

TEST_CASE("evaluate --data: of many clips that are not there the first are named") {
    Judge& j = judge();
    std::ofstream list(j.p.data + "/more.txt");
    list << std::ifstream(j.p.data + "/all.txt").rdbuf();
    for (int i = 0; i < 50; ++i) list << "none" << i << "\n";
    list.close();
    const Outcome ran =
        run_program("evaluate", "--data " + j.p.data + " --split more --evaluator " + j.t2m +
                                    " --real --repeats 1");
    const std::string& text = ran.text;
    INFO(text);
    CHECK(ran.status == 0);
    CHECK(text.find("none2.npy") != std::string::npos);
    CHECK(text.find("none3.npy") == std::string::npos);
    CHECK(text.find("split more: 50 clips cannot be read") != std::string::npos);
}

TEST_CASE("evaluate --data: bad input is one clear line") {
    Judge& j = judge();
    const std::string data = "--data " + j.p.data, public_one = " --evaluator " + j.t2m;
    refuses("evaluate", data, 2, "--evaluator");
    refuses("evaluate", public_one, 2, "--data");
    refuses("evaluate", "--list-facts --real", 2, "--data");
    refuses("evaluate", "--list-facts --repeats 3", 2, "--data");
    refuses("evaluate", j.how + "--real --bundle " + j.p.bundle, 2, "--bundle");
    refuses("evaluate", j.how + "--real --motions " + j.p.dir, 2, "--motions");
    refuses("evaluate", j.how + "--facts x", 2, "--facts");
    refuses("evaluate", j.how + "--repeats 0", 2, "--repeats");
    refuses("evaluate", j.how + "--lengths mine", 2, "--lengths");
    refuses("evaluate", j.how + "--takes 1 --bundle " + j.p.bundle, 1, "takes: got 1");
    refuses("evaluate", data + public_one + " --real --split none", 1, "none.txt");
    refuses("evaluate", "--data " + j.p.data + public_one + " --real", 1,
            "do not fill a pool of 32");  // the test split is too small
    refuses("evaluate", data + " --real --evaluator " + j.p.dir, 1,
            "text_mot_match/model/finest.tar");
    refuses("evaluate", j.how + "--real --glove " + j.p.dir, 1, "our_vab_data.npy");
    refuses("evaluate", j.how + "--bundle " + j.p.dir + "/none", 1, "bundle.json");
    refuses("evaluate", j.how + "--real --repeats 1 --json " + j.p.dir + "/no/r.json", 1,
            "no/r.json");
    fs::create_directories(j.root + "/broken");
    fs::copy(j.root + "/glove", j.root + "/broken");
    fs::resize_file(j.root + "/broken/our_vab_idx.pkl", 20);
    refuses("evaluate", j.how + "--real --glove " + j.root + "/broken", 1, "our_vab_idx.pkl");
    CHECK(run_program("evaluate", "--help").text.find("github.com/EricGuo5513") !=
          std::string::npos);
}
