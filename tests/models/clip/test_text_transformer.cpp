#include "models/clip/text_transformer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tensor/formats/safetensors.h"
#include "tests/test_paths.h"
#include "train/reference_weights.h"

using namespace mc;
using namespace mc::clip;
using mc::testing::have_shared;
using mc::testing::shared_dir;

namespace {

Tensor ids_of(const std::vector<std::vector<int64_t>>& rows, int64_t context) {
    Tensor ids = Tensor::zeros({static_cast<int64_t>(rows.size()), context}, DType::i64);
    for (size_t r = 0; r < rows.size(); ++r)
        std::copy(rows[r].begin(), rows[r].end(), ids.data<int64_t>() + r * context);
    return ids;
}

double norm(const std::vector<double>& values) {
    double squares = 0;
    for (const double v : values) squares += v * v;
    return std::sqrt(squares);
}

// L2 distance to the recorded values, a share of their norm. `stride` picks from `got` as the slice
// in the file does ([::rows, ::columns]).
double distance(const Tensor& got, const Tensor& want, int64_t rows = 1, int64_t columns = 1) {
    const Tensor g = got.contiguous().reshape({got.dims() > 1 ? got.size(0) : 1, -1});
    const Tensor w = want.reshape({want.dims() > 1 ? want.size(0) : 1, -1});
    double squares = 0, total = 0;
    for (int64_t i = 0; i < w.size(0); ++i) {
        for (int64_t j = 0; j < w.size(1); ++j) {
            const double a = g.item<float>({i * rows, j * columns}), b = w.item<float>({i, j});
            squares += (a - b) * (a - b);
            total += b * b;
        }
    }
    return std::sqrt(squares / total);
}

}  // namespace

TEST_CASE("text transformer: golden values of clip_text.md section 2") {
    CHECK(train::moclip_hash("x", 0) == doctest::Approx(0.1443769).epsilon(1e-6));
    TextConfig config;
    config.width = 64;
    config.heads = 1;
    config.layers = 2;
    config.embed_dim = 16;
    TextTransformer model(config, nullptr);
    model.to(DType::f64);
    train::fill_as_moclip_golden(model);
    const Tensor out =
        model(ids_of({{49406, 320, 2533, 8192, 2342, 537, 7882, 269, 49407},
                      {49406, 320, 786, 6989, 2006, 541, 2100, 593, 787, 1823, 4924, 269, 49407}},
                     77))
            .value();
    const double want[2][4] = {{0.128946624, 2.431833799, -1.724457961, -0.413392883},
                               {-0.383131312, 1.667044516, -1.844553119, -0.185866946}};
    const double sums[2] = {-3.018483643, -2.373444807}, norms[2] = {4.292075903, 4.585414292};
    for (int64_t r = 0; r < 2; ++r) {
        const auto row = out.slice(0, r, r + 1).to_vector<double>();
        double sum = 0;
        for (const double v : row) sum += v;
        for (size_t i = 0; i < 4; ++i) CHECK(std::abs(row[i] - want[r][i]) < 2e-9);
        CHECK(std::abs(sum - sums[r]) < 2e-9);
        CHECK(std::abs(norm(row) - norms[r]) < 2e-9);
    }
}

TEST_CASE("text transformer: sizes come from the shapes, heads from the width") {
    TextConfig config;
    config.vocab = 600;
    config.context = 20;
    config.width = 128;
    config.heads = 2;
    config.layers = 3;
    config.embed_dim = 24;
    TextTransformer model(config, nullptr);
    const TextConfig got = TextConfig::from_state(model.state(), "here");
    CHECK(got.vocab == 600);
    CHECK(got.context == 20);
    CHECK(got.width == 128);
    CHECK(got.heads == 2);
    CHECK(got.layers == 3);
    CHECK(got.embed_dim == 24);
    nn::TensorMap broken = model.state();
    broken.erase("text_projection");
    CHECK_THROWS_WITH_AS(TextConfig::from_state(broken, "here"),
                         doctest::Contains("here has no usable text_projection"), Error);
    CHECK_THROWS_WITH_AS(model(Tensor::zeros({1, 21}, DType::i64)), doctest::Contains("at most 20"),
                         Error);
}

TEST_CASE("text transformer: recorded outputs and gradients of CLIP ViT-B/32") {
    if (!have_shared("reference/clip_text.safetensors")) return;
    const SafetensorsFile file(shared_dir() / "reference/clip_text.safetensors");
    TextTransformer model(TextConfig{}, nullptr);
    train::fill_from_names(model);
    CHECK(model.state().at("token_embedding.weight").item<float>({0, 0}) == -0.00163624529f);

    Tape tape;
    {
        const Tape::Recording recording(tape);
        const Var features = model(file.get("input.ids"));
        CHECK(distance(features.value(), file.get("output.features")) < 8 * 1.84e-6);
        const Var loss = sum(features * Var(file.get("input.grad_seed")));
        CHECK(loss.value().item<float>() ==
              doctest::Approx(file.get("output.loss").item<float>()).epsilon(1e-5));
        tape.backward(loss);
    }
    std::map<std::string, Tensor> grads;
    for (auto& [name, parameter] : model.parameters()) grads[name] = parameter->grad();
    struct Recorded {
        const char* name;
        int64_t rows, columns;  // strides of the slice
    };
    // The file's own float32 error is up to 6e-6 (l2rel64).
    for (const auto& [name, rows, columns] :
         {Recorded{"text_projection", 11, 11},
          {"transformer.resblocks.0.attn.in_proj_weight", 29, 11},
          {"transformer.resblocks.0.attn.out_proj.weight", 11, 11},
          {"transformer.resblocks.11.mlp.c_fc.weight", 39, 11},
          {"positional_embedding", 3, 7}}) {
        CAPTURE(name);
        CHECK(distance(grads.at(name), file.get("grad." + std::string(name) + ".slice"), rows,
                       columns) < 3e-5);
    }
    for (const char* name :
         {"ln_final.weight", "ln_final.bias", "transformer.resblocks.0.attn.in_proj_bias",
          "transformer.resblocks.11.mlp.c_proj.bias", "transformer.resblocks.5.ln_1.weight",
          "transformer.resblocks.5.ln_2.bias"}) {
        CAPTURE(name);
        CHECK(distance(grads.at(name), file.get("grad." + std::string(name))) < 3e-5);
    }
    const Tensor rows =
        embedding(Var(grads.at("token_embedding.weight")), file.get("input.token_rows")).value();
    CHECK(distance(rows, file.get("grad.token_embedding.weight.rows")) < 3e-5);
}
