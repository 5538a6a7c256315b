// The text tower from every kind of file that it is published in.
#include "models/clip/text_tower_file.h"

#include <doctest/doctest.h>

#include <cstring>

#include "tensor/formats/load_tensors.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::clip;

namespace {

nn::TensorMap small_state() {
    TextConfig config;
    config.vocab = 40;
    config.context = 12;
    config.width = 64;
    config.heads = 1;
    config.layers = 2;
    config.embed_dim = 24;
    Generator init(11);
    TextTransformer text(config, &init);
    nn::TensorMap state;
    for (const auto& [name, tensor] : text.state()) state[name] = tensor.clone();
    return state;
}

NamedTensors below(const std::string& prefix, const nn::TensorMap& state) {
    NamedTensors out;
    for (const auto& [name, tensor] : state) out.emplace_back(prefix + name, tensor);
    return out;
}

// The same tower as Hugging Face's CLIPModel names it.
NamedTensors hugging_face(const nn::TensorMap& state) {
    NamedTensors out;
    const auto add = [&](const std::string& name, const Tensor& tensor) {
        out.emplace_back(name, tensor);
    };
    add("text_model.embeddings.token_embedding.weight", state.at("token_embedding.weight"));
    add("text_model.embeddings.position_embedding.weight", state.at("positional_embedding"));
    add("text_model.embeddings.position_ids", Tensor::from_ids({0, 1, 2}, {1, 3}));
    for (int layer = 0; layer < 2; ++layer) {
        const std::string ours = "transformer.resblocks." + std::to_string(layer) + ".",
                          theirs = "text_model.encoder.layers." + std::to_string(layer) + ".";
        for (const std::string kind : {"weight", "bias"}) {
            const Tensor stacked = state.at(ours + "attn.in_proj_" + kind);
            const int64_t width = stacked.size(0) / 3;
            int64_t row = 0;
            for (const char* part : {"q", "k", "v"}) {
                add(theirs + "self_attn." + part + "_proj." + kind,
                    stacked.slice(0, row, row + width).contiguous());
                row += width;
            }
            add(theirs + "layer_norm1." + kind, state.at(ours + "ln_1." + kind));
            add(theirs + "layer_norm2." + kind, state.at(ours + "ln_2." + kind));
            add(theirs + "self_attn.out_proj." + kind, state.at(ours + "attn.out_proj." + kind));
            add(theirs + "mlp.fc1." + kind, state.at(ours + "mlp.c_fc." + kind));
            add(theirs + "mlp.fc2." + kind, state.at(ours + "mlp.c_proj." + kind));
        }
    }
    add("text_model.final_layer_norm.weight", state.at("ln_final.weight"));
    add("text_model.final_layer_norm.bias", state.at("ln_final.bias"));
    add("text_projection.weight", state.at("text_projection").transpose(0, 1).contiguous());
    add("logit_scale", Tensor::full({}, 2.5));
    return out;
}

void check_same(const TextTowerFile& tower, const nn::TensorMap& state) {
    CHECK(tower.config.width == 64);
    CHECK(tower.config.layers == 2);
    CHECK(tower.config.embed_dim == 24);
    CHECK(tower.config.context == 12);
    REQUIRE(tower.state.size() == state.size());
    for (const auto& [name, tensor] : state) {
        CAPTURE(name);
        REQUIRE(tower.state.count(name));
        CHECK(tower.state.at(name).to_vector<float>() == tensor.to_vector<float>());
    }
}

std::string refusal(const NamedTensors& tensors) {
    return mc::testing::error_of([&] { text_tower_of(tensors, "file"); });
}

}  // namespace

TEST_CASE("text tower: OpenAI's names below any prefix, in any container") {
    const nn::TensorMap state = small_state();
    testing::ScratchDir scratch;
    for (const std::string prefix : {"", "module.", "clip_model.", "text."}) {
        CAPTURE(prefix);
        NamedTensors tensors = below(prefix, state);
        tensors.emplace_back(prefix + "visual.conv1.weight", Tensor::zeros({2, 2}));
        tensors.emplace_back("motion.transformer.layers.0.weight", Tensor::zeros({2}));
        write_safetensors(scratch.path / "a.safetensors", tensors, {});
        check_same(read_text_tower(scratch.path / "a.safetensors"), state);
        write_pytorch(scratch.path / "a.pt", tensors);
        check_same(read_text_tower(scratch.path / "a.pt"), state);
        write_pytorch(scratch.path / "b.pth", {{"epoch", int64_t{3}}, {"state_dict", tensors}});
        check_same(read_text_tower(scratch.path / "b.pth"), state);
    }
}

TEST_CASE("text tower: Hugging Face's names") {
    const nn::TensorMap state = small_state();
    const TextTowerFile tower = text_tower_of(hugging_face(state), "file");
    check_same(tower, state);
    REQUIRE(tower.logit_scale);
    CHECK(*tower.logit_scale == doctest::Approx(2.5));
}

TEST_CASE("text tower: written under either's names it reads back the same") {
    const nn::TensorMap state = small_state();
    TextTowerFile tower = text_tower_of(below("", state), "file");
    tower.logit_scale = 2.5;
    const NamedTensors theirs =
        text_tower_tensors(tower, {TextLayout::hugging_face, ""}, DType::f32);
    nn::TensorMap by_name;
    for (const auto& [name, tensor] : theirs) by_name[name] = tensor;
    for (const auto& [name, tensor] : hugging_face(state)) {
        if (name.ends_with("position_ids")) continue;  // no weight
        CAPTURE(name);
        REQUIRE(by_name.count(name));
        CHECK(by_name[name].shape() == tensor.shape());
        CHECK(by_name[name].to_vector<float>() == tensor.to_vector<float>());
    }
    CHECK(by_name.size() == hugging_face(state).size() - 1);
    for (const TextLayout layout : {TextLayout::openai, TextLayout::hugging_face})
        check_same(text_tower_of(text_tower_tensors(tower, {layout, "clip."}, DType::f32), "file"),
                   state);
    // In half what OpenAI has in half.
    for (const auto& [name, tensor] : text_tower_tensors(tower, {}, DType::f16)) {
        CAPTURE(name);
        const bool half = name == "text_projection" ||
                          (name.find("resblocks") != name.npos && name.find(".ln_") == name.npos);
        CHECK(tensor.dtype() == (half ? DType::f16 : DType::f32));
    }
    tower.config.heads = 2;
    CHECK_THROWS_AS(text_tower_tensors(tower, {}, DType::f32), Error);
}

TEST_CASE("text tower: in the place of a whole CLIP's, all else as it was") {
    const nn::TensorMap state = small_state();
    testing::ScratchDir scratch;
    TextTowerFile tower = text_tower_of(below("", state), "file");
    const auto check_file = [&](const std::filesystem::path& whole,
                                const std::filesystem::path& out) {
        replace_text_tower(whole, tower, out);
        check_same(read_text_tower(out), state);
        const TensorFile before = load_tensors(whole), after = load_tensors(out);
        CHECK(after.format == before.format);
        REQUIRE(after.tensors.size() == before.tensors.size());
        for (size_t i = 0; i < before.tensors.size(); ++i) {
            CHECK(after.tensors[i].first == before.tensors[i].first);
            CHECK(after.tensors[i].second.dtype() == before.tensors[i].second.dtype());
            if (before.tensors[i].first.find("visual") != std::string::npos)
                CHECK(after.tensors[i].second.to_vector<float>() ==
                      before.tensors[i].second.to_vector<float>());
        }
    };
    nn::TensorMap other = state;
    for (auto& [name, tensor] : other) tensor = Tensor::full(tensor.shape(), 0.125);
    NamedTensors whole = below("", other), theirs = hugging_face(other);
    whole.emplace_back("visual.conv1.weight", Tensor::full({2, 2}, 7));
    whole.emplace_back("logit_scale", Tensor::full({}, 4.6));
    theirs.emplace_back("visual_projection.weight", Tensor::full({2, 2}, 7));
    write_pytorch(scratch.path / "a.pt", whole);
    check_file(scratch.path / "a.pt", scratch.path / "a2.pt");
    write_safetensors(scratch.path / "b.safetensors", theirs, {{"format", "pt"}});
    check_file(scratch.path / "b.safetensors", scratch.path / "b2.safetensors");
    CHECK(*read_text_tower(scratch.path / "a2.pt").logit_scale == doctest::Approx(4.6));
    tower.config.layers = 3;
    CHECK_THROWS_AS(replace_text_tower(scratch.path / "a.pt", tower, scratch.path / "x.pt"), Error);
    CHECK_FALSE(std::filesystem::exists(scratch.path / "x.pt"));
}

TEST_CASE("text tower: what is none is refused in one line") {
    const nn::TensorMap state = small_state();
    CHECK(refusal({{"a", Tensor::zeros({2})}}).find("token_embedding.weight") != std::string::npos);
    NamedTensors two = below("a.", state);
    for (const auto& entry : below("b.", state)) two.push_back(entry);
    CHECK(refusal(two).find("2 text towers") != std::string::npos);
    NamedTensors no_key = hugging_face(state), bare = hugging_face(state);
    std::erase_if(no_key,
                  [](const auto& e) { return e.first.ends_with("1.self_attn.k_proj.bias"); });
    CHECK(refusal(no_key).find("k_proj.bias") != std::string::npos);
    std::erase_if(bare, [](const auto& e) { return e.first == "text_projection.weight"; });
    CHECK(refusal(bare).find("text_projection.weight") != std::string::npos);
    nn::TensorMap broken = state;
    broken["ln_final.bias"] = Tensor::full({64}, std::nan(""));
    CHECK(refusal(below("", broken)).find("ln_final.bias") != std::string::npos);
}

TEST_CASE("text tower: the recorded TorchScript archive") {
    const std::string archive = "reference/checkpoints/clip_tiny_torchscript.pt";
    if (!testing::have_shared(archive)) return;
    const TextTowerFile tower = read_text_tower(testing::shared_dir() / archive);
    CHECK(tower.state.count("ln_final.weight") == 1);
    CHECK(tower.config.layers >= 1);

    // The same archive with the numbers doubled: TorchScript still, image tower and code as before.
    testing::ScratchDir scratch;
    const std::filesystem::path in = testing::shared_dir() / archive,
                                out = scratch.path / "doubled.pt";
    TextTowerFile doubled = tower;
    for (auto& [name, tensor] : doubled.state)
        tensor = scale(Var(tensor.to(DType::f32)), 2).value();
    replace_text_tower(in, doubled, out);
    const PyTorchFile before(in), after(out);
    CHECK(after.kind() == PyTorchKind::script);
    const auto old_tensors = before.tensors(), new_tensors = after.tensors();
    REQUIRE(new_tensors.size() == old_tensors.size());
    for (size_t i = 0; i < old_tensors.size(); ++i) {
        const std::string& name = old_tensors[i].first;
        CAPTURE(name);
        CHECK(new_tensors[i].first == name);
        const Tensor was = before.tensor(old_tensors[i].second),
                     is = after.tensor(new_tensors[i].second);
        CHECK(was.dtype() == is.dtype());
        std::vector<double> want = was.to(DType::f64).to_vector<double>();
        if (tower.state.count(name))
            for (double& x : want) x *= 2;
        CHECK(is.to(DType::f64).to_vector<double>() == want);
    }
    for (const ZipEntry& entry : before.zip()->entries())
        if (entry.name.find("/code/") != std::string::npos)
            CHECK(after.zip()->read(*after.zip()->find(entry.name)) == before.zip()->read(entry));
}
