#include "models/evaluator/public_layout.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tensor/formats/safetensors.h"
#include "tests/test_paths.h"
#include "tests/tiny_evaluator.h"

using namespace mc;
using namespace mc::evaluator;
namespace fs = std::filesystem;

namespace {

motion::Normalisation plain(int64_t dims) {
    return {std::vector<double>(static_cast<size_t>(dims), 0.5),
            std::vector<double>(static_cast<size_t>(dims), 2.0)};
}

void refuses(const fs::path& folder, const fs::path& glove, const std::string& what) {
    CAPTURE(what);
    try {
        load_public_evaluator(folder, glove);
        FAIL_CHECK("was read");
    } catch (const Error& e) {
        const std::string line = e.what();
        CAPTURE(line);
        CHECK(line.find(what) != std::string::npos);
    }
}

}  // namespace

TEST_CASE("public evaluator: networks, statistics and words from T2M's folders, in any container") {
    testing::ScratchDir scratch;
    const fs::path t2m = scratch.path / "checkpoints" / "t2m";
    testing::write_tiny_evaluator(t2m, plain(263));
    const PublicEvaluator read = load_public_evaluator(t2m);
    CHECK(read.normalisation.std[262] == 2);
    CHECK(read.words.width() == testing::kTinyWords);
    CHECK(read.model->config().dim_pose == 263);
    CHECK(read.model->config().motion_hidden == 14);
    CHECK(read.weights == t2m / "text_mot_match" / "model" / "finest.tar");

    // It is the model that was written, and safetensors hold the same.
    Generator init(5);
    Evaluator written(testing::tiny_evaluator_config(), &init);
    const Tensor motions = Generator(2).normal({2, 40, 263});
    const auto want = written.motion_embeddings(motions, {40, 24}).to_vector<float>();
    CHECK(read.model->motion_embeddings(motions, {40, 24}).to_vector<float>() == want);
    const nn::TensorMap state = written.state();
    const fs::path file = scratch.path / "finest.safetensors";
    write_safetensors(file, NamedTensors(state.begin(), state.end()));
    CHECK(load_evaluator(file)->motion_embeddings(motions, {40, 24}).to_vector<float>() == want);

    // The folder of text_mot_match itself will do, and the words may lie beside checkpoints/.
    fs::rename(t2m / "glove", scratch.path / "glove");
    CHECK(load_public_evaluator(t2m).words.width() == testing::kTinyWords);
    CHECK(load_public_evaluator(t2m / "text_mot_match", scratch.path / "glove").words.width() ==
          testing::kTinyWords);
}

TEST_CASE("public evaluator: what is missing or does not fit is one line") {
    testing::ScratchDir scratch;
    const fs::path t2m = scratch.path / "t2m", models = t2m / "text_mot_match" / "model";
    refuses(scratch.path / "none", {}, "none: is no folder");
    refuses(scratch.path, {}, "has no text_mot_match/model/finest.tar");
    testing::write_tiny_evaluator(t2m, plain(263));
    refuses(t2m, scratch.path, "our_vab_data.npy: is not there");
    fs::rename(t2m / "glove", scratch.path / "words");
    refuses(t2m, {}, "the word vectors are not found");
    testing::write_glove(scratch.path / "wide", {"sos", "eos", "unk"}, 7);
    refuses(t2m, scratch.path / "wide", "word vectors of 7 numbers");
    testing::write_tiny_evaluator(t2m, plain(251));
    refuses(t2m, {}, "statistics of 251 columns");
    fs::remove(t2m / "Comp_v6_KLD005" / "meta" / "mean.npy");
    refuses(t2m, {}, "statistics are not found");

    testing::write_tiny_evaluator(t2m, plain(263));
    Generator init(5);
    Evaluator model(testing::tiny_evaluator_config(), &init);
    nn::TensorMap state = model.state();
    const auto put = [&](const nn::TensorMap& tensors) {
        write_safetensors(models / "finest.tar", NamedTensors(tensors.begin(), tensors.end()));
    };
    nn::TensorMap broken = state;
    broken.erase("motion_encoder.gru.bias_hh_l0");
    put(broken);
    refuses(t2m, {}, "motion_encoder.gru.bias_hh_l0");
    broken = state;
    broken["text_encoder.hidden"] = Tensor::zeros({8});
    put(broken);
    refuses(t2m, {}, "text_encoder.hidden has shape (8)");
    broken = state;
    broken["text_encoder.pos_emb.weight"] = Tensor::full({kPartsOfSpeech, 6}, 0.1);
    put(broken);
    refuses(t2m, {}, "text_encoder.pos_emb.weight");
    broken = state;
    broken["text_encoder.output_net.0.bias"] = Tensor::full({8}, std::nan(""));
    put(broken);
    refuses(t2m, {}, "text_encoder.output_net.0.bias: nan");
    put({{"encoder.weight", Tensor::zeros({2})}});
    refuses(t2m, {}, "is no checkpoint of the evaluator");
    testing::write_file_bytes(models / "finest.tar", "PK");
    refuses(t2m, {}, "finest.tar");
}
