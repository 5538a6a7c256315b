// The motion tokenizer against the original's recorded runs and the golden values of generators.md
// 15. The recordings are (B, C, T); ours is channels last.
#include <doctest/doctest.h>

#include <cmath>

#include "models/vq/rvq_vae.h"
#include "tests/reference_test.h"
#include "train/adamw.h"

using namespace mc;
using namespace mc::testing;
using namespace mc::train;
using namespace mc::vq;

namespace {

double mean_of(const Tensor& x, bool magnitude) {
    double sum = 0;
    for (const float v : x.to_vector<float>()) sum += magnitude ? std::abs(v) : v;
    return sum / static_cast<double>(x.numel());
}

RvqConfig small_config(int64_t codes) {
    RvqConfig config;
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 64;
    config.net.dropout = 0;
    config.quantizer.nb_code = codes;
    config.quantizer.num_quantizers = 3;
    config.quantizer.quantize_dropout = 0;
    return config;
}

// loss, rec, explicit, commit, perplexity against row `step` of the recorded losses (columns 5).
void check_losses(const ReferenceCase& recorded, int64_t step, const RvqVae& model,
                  const RvqOutput& out, const Tensor& motion, const Var& loss) {
    const int64_t end = 4 + 3 * (model.config().joints() - 1);
    const double got[5] = {
        loss.value().item<float>(),
        smooth_l1(out.reconstruction, Var(motion)).value().item<float>(),
        smooth_l1(slice(out.reconstruction, 2, 4, end), Var(motion.slice(2, 4, end)))
            .value()
            .item<float>(),
        out.commitment.value().item<float>(), out.perplexity};
    const std::vector<double> want = recorded.values("output64.losses");
    for (int64_t i = 0; i < 5; ++i) {
        CAPTURE(i);
        CHECK(std::abs(got[i] - want[static_cast<size_t>(5 * step + i)]) <
              2e-6 * std::max(1.0, want[static_cast<size_t>(5 * step + i)]));
    }
}

// Ids of one step out of the recorded (steps, B, n, Q).
int64_t different_ids(const ReferenceCase& recorded, int64_t step, const Tensor& ids) {
    const std::vector<int64_t> all = recorded.integers("output.code_idx");
    const std::vector<int64_t> got = ids.to_vector<int64_t>();
    int64_t count = 0;
    for (size_t i = 0; i < got.size(); ++i)
        count += got[i] != all[static_cast<size_t>(step) * got.size() + i];
    return count;
}

void check_codebooks(const ReferenceCase& recorded, const ResidualQuantizer& quantizer) {
    const nn::TensorMap state = quantizer.training_state();
    for (int64_t q = 0; q < quantizer.config().num_quantizers; ++q) {
        const std::string layer = std::to_string(q);
        check_recorded(recorded, "output.after.codebook." + layer, quantizer.codebook(q));
        check_recorded(recorded, "output.after.code_sum." + layer, state.at("code_sum." + layer));
        check_recorded(recorded, "output.after.code_count." + layer,
                       state.at("code_count." + layer));
    }
}

// Three AdamW steps as the original took them.
void check_training(const std::string& name, int64_t codes) {
    const auto recorded = recorded_case(name);
    if (!recorded) return;
    RvqVae model(small_config(codes), nullptr);
    fill_from_names(model);
    AdamW optimiser({.beta1 = 0.9, .beta2 = 0.99});
    optimiser.add(model.parameters());
    int64_t step = 0;
    HashUniforms draws([&](const std::string& draw) {  // "layer1" -> "noise.step0.layer1"
        return "noise.step" + std::to_string(step) + "." + draw;
    });
    for (; step < 3; ++step) {
        CAPTURE(step);
        const std::string input = "input.motion.step" + std::to_string(step);
        const Tensor motion = recorded->get(input);
        CHECK(hash_tensor(input, motion.shape(), 1.5).to_vector<float>() ==
              motion.to_vector<float>());
        Tape tape;
        const Tape::Recording recording(tape);
        const RvqOutput out = model.train(Var(motion), {.training = true}, draws);
        const Var loss = model.loss(out, Var(motion));
        CHECK(different_ids(*recorded, step, out.ids) == 0);
        check_losses(*recorded, step, model, out, motion, loss);
        if (step == 0) check_recorded(*recorded, "output.x_out.step0", out.reconstruction.value());
        tape.backward(loss);
        if (step == 0) check_gradients(*recorded, "grad.step0.", model, 5);
        optimiser.step(2e-4);
    }
    check_codebooks(*recorded, model.quantizer());
    int64_t found = 0;
    for (auto& [key, parameter] : model.parameters()) {
        const std::string after = "output.after." + key;
        if (!recorded->has(after) && !recorded->has(after + ".slice")) continue;
        ++found;
        check_recorded(*recorded, after, parameter->value());
    }
    CHECK(found == 5);
}

}  // namespace

TEST_CASE("rvq: golden ids and reconstructions of generators.md 15") {
    RvqVae model(RvqConfig{}, nullptr);
    fill_as_generator_golden(model);
    CHECK(model.state().size() == 72);
    CHECK(model.state().begin()->first == "decoder.model.0.bias");
    CHECK(generator_hash(0, 0) == doctest::Approx(-0.98446973).epsilon(1e-7));
    CHECK(generator_hash(2, 7) == doctest::Approx(0.16870059).epsilon(1e-7));
    const Tensor x = generator_golden_input({1, 64, 263}, 1000);
    const RvqOutput out = model(Var(x));
    const int64_t first[8][6] = {{351, 400, 325, 314, 136, 139}, {397, 254, 233, 326, 104, 253},
                                 {93, 479, 95, 398, 61, 61},     {283, 297, 475, 73, 450, 168},
                                 {357, 303, 285, 189, 422, 290}, {121, 400, 308, 251, 160, 272},
                                 {419, 300, 58, 479, 43, 349},   {137, 352, 328, 383, 162, 199}};
    const int64_t sums[6] = {4795, 5291, 4116, 4660, 2665, 3044};
    const Tensor ids = model.encode(x);
    CHECK(ids.to_vector<int64_t>() == out.ids.to_vector<int64_t>());
    for (int64_t q = 0; q < 6; ++q) {
        int64_t sum = 0;
        for (int64_t t = 0; t < 16; ++t) {
            sum += ids.item<int64_t>({0, t, q});
            if (t < 8) CHECK(ids.item<int64_t>({0, t, q}) == first[t][q]);
        }
        CHECK(sum == sums[q]);
    }
    CHECK(out.commitment.value().item<float>() == doctest::Approx(0.0035800056).epsilon(1e-5));
    CHECK(out.perplexity == doctest::Approx(13.960088).epsilon(1e-5));

    const Tensor decoded = model.decode(ids);
    CHECK(decoded.shape() == Shape{1, 64, 263});
    CHECK(std::abs(mean_of(decoded, false) + 0.00020012556) < 1e-8);
    CHECK(mean_of(decoded, true) == doctest::Approx(0.011248519).epsilon(1e-5));
    const float start[4] = {-0.000527901f, -0.00832265f, -0.0104977f, 0.00649453f};
    const float end[4] = {0.0165518f, -0.0137488f, -0.00694522f, 0.0135324f};
    for (int64_t i = 0; i < 4; ++i) {
        CHECK(std::abs(decoded.item<float>({0, 0, i}) - start[i]) < 1e-6);
        CHECK(std::abs(decoded.item<float>({0, 63, 259 + i}) - end[i]) < 1e-6);
    }
    Tensor cut = ids.clone();
    for (int64_t t = 10; t < 16; ++t)
        for (int64_t q = 0; q < 6; ++q) cut.data<int64_t>()[t * 6 + q] = -1;
    const Tensor shorter = model.decode(cut);
    CHECK(mean_of(shorter, true) == doctest::Approx(0.011196425).epsilon(1e-5));
    const float changed[4] = {-0.000480198f, -0.00837062f, -0.0104786f, 0.00629969f};
    for (int64_t i = 0; i < 4; ++i)
        CHECK(std::abs(shorter.item<float>({0, 0, i}) - changed[i]) < 1e-6);
}

TEST_CASE("rvq: recorded encoder, ids, reconstructions of the full model") {
    const auto recorded = recorded_case("momask_rvq");
    if (!recorded) return;
    const Tensor motion = recorded->get("input.motion");
    RvqVae model(RvqConfig{}, nullptr);
    fill_from_names(model);
    Encoder encoder(ConvNetConfig{}, nullptr);
    fill_from_names(encoder, "encoder.");
    check_recorded(*recorded, "output.encoder", encoder(Var(motion), {}).value().transpose(1, 2));
    const RvqOutput out = model(Var(motion));
    CHECK(recorded->different("output.code_idx", out.ids) == 0);
    CHECK(recorded->different("output.code_idx", model.encode(motion)) == 0);
    check_recorded(*recorded, "output.commit_loss", out.commitment.value());
    CHECK(out.perplexity ==
          doctest::Approx(recorded->values("output.perplexity")[0]).epsilon(1e-6));
    check_recorded(*recorded, "output.forward_x_out", out.reconstruction.value());
    check_recorded(*recorded, "output.decoded", model.decode(out.ids));
    check_recorded(*recorded, "output.decoded_first3", model.decode(out.ids.slice(2, 0, 3)));
    check_recorded(*recorded, "output.decoded_padded",
                   model.decode(recorded->get("input.idx_padded")));
}

TEST_CASE("rvq: three recorded training steps of a small model") {
    check_training("momask_rvq_train_small", 32);
}

TEST_CASE("rvq: three recorded training steps with fewer rows than codes") {
    check_training("momask_rvq_train_small_tile", 48);
}

TEST_CASE("rvq: a recorded training step of the full model") {
    const auto recorded = recorded_case("momask_rvq_train_full");
    if (!recorded) return;
    RvqConfig config;
    config.net.dropout = 0;
    config.quantizer.quantize_dropout = 0;
    RvqVae model(config, nullptr);
    fill_from_names(model);
    model.quantizer().begin_from_codebooks();  // as the recorded run was started
    HashUniforms draws([](const std::string& draw) { return "noise.step0." + draw; });
    const Tensor motion = recorded->get("input.motion");
    Tape tape;
    const Tape::Recording recording(tape);
    const RvqOutput out = model.train(Var(motion), {.training = true}, draws);
    const Var loss = model.loss(out, Var(motion));
    CHECK(different_ids(*recorded, 0, out.ids) == 0);
    check_losses(*recorded, 0, model, out, motion, loss);
    check_recorded(*recorded, "output.x_out.step0", out.reconstruction.value());
    tape.backward(loss);
    check_gradients(*recorded, "grad.step0.", model, 8);
    check_codebooks(*recorded, model.quantizer());
}
