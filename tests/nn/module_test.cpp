#include "nn/module.h"

#include "nn/layers.h"
#include "nn/transformer.h"
#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// Two parameters of its own, a buffer, a named child, a list, and a child at its own level.
struct Tree : nn::Module {
    struct Flat : nn::Module {
        Var beta;
        Flat() : beta(nn::init::zeros({2})) { add_parameter("beta", beta); }
    };
    Var alpha;
    Tensor counts;
    nn::Linear head;
    nn::ModuleList<nn::LayerNorm> norms;
    Flat flat;
    Tree()
        : alpha(nn::init::ones({3})), counts(Tensor::from_ids({1, 2}, {2})), head(2, 3, nullptr) {
        add_parameter("alpha", alpha);
        add_buffer("counts", counts);
        add("head", head);
        norms.emplace(4);
        norms.emplace(5);
        add("norms", norms);
        add("", flat);
    }
};

std::vector<std::string> names_of(nn::Module& module) {
    std::vector<std::string> names;
    for (auto& [name, parameter] : module.parameters()) names.push_back(name);
    return names;
}

nn::TensorMap clones(const nn::TensorMap& state) {
    nn::TensorMap copy;
    for (auto& [name, tensor] : state) copy[name] = tensor.clone();
    return copy;
}

}  // namespace

TEST_CASE("module: names are dotted, in the order of registration") {
    Tree tree;
    const std::vector<std::string> want{"alpha",          "head.weight",  "head.bias",
                                        "norms.0.weight", "norms.0.bias", "norms.1.weight",
                                        "norms.1.bias",   "beta"};
    CHECK(names_of(tree) == want);
    REQUIRE(tree.buffers().size() == 1);
    CHECK(tree.buffers()[0].first == "counts");
    CHECK(tree.state().size() == want.size() + 1);
    CHECK(tree.parameter_count() == 3 + 6 + 3 + 8 + 10 + 2);
    CHECK(tree.norms.size() == 2);
}

TEST_CASE("module: the names of the blocks are the checkpoints' own") {
    nn::PreNormBlock clip(4, 2, 8, nn::PreNormBlock::kClipNames, nullptr);
    CHECK(names_of(clip) == std::vector<std::string>{
                                "ln_1.weight", "ln_1.bias", "attn.in_proj_weight",
                                "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias",
                                "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias",
                                "mlp.c_proj.weight", "mlp.c_proj.bias"});
    nn::PreNormBlock motion(4, 2, 8, nn::PreNormBlock::kMotionNames, nullptr);
    const nn::TensorMap state = motion.state();
    for (const char* name : {"mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"})
        CHECK(state.count(name) == 1);
    nn::PostNormBlock post(4, 2, 8, 0.1, nullptr);
    CHECK(names_of(post) == std::vector<std::string>{
                                "self_attn.in_proj_weight", "self_attn.in_proj_bias",
                                "self_attn.out_proj.weight", "self_attn.out_proj.bias",
                                "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
                                "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"});
}

TEST_CASE("module: state shares storage, load copies into it and converts") {
    Tree tree;
    nn::TensorMap state = tree.state();
    CHECK(state["head.weight"].storage() == tree.head.weight.value().storage());
    nn::TensorMap other = clones(state);
    other["head.weight"] = random({3, 2}, 1);  // f64
    other["alpha"] = Tensor::from({7, 8, 9}, {3});
    other["counts"] = Tensor::from_ids({5, 6}, {2});
    const uint32_t version = tree.alpha.value().version();
    tree.load(other);
    CHECK(tree.alpha.value().to_vector<float>() == std::vector<float>{7, 8, 9});
    CHECK(tree.counts.to_vector<int64_t>() == std::vector<int64_t>{5, 6});
    CHECK(tree.head.weight.value().dtype() == DType::f32);
    CHECK(same_bits(tree.head.weight.value(), other["head.weight"].to(DType::f32)));
    CHECK(tree.alpha.value().storage() == state["alpha"].storage());
    CHECK(tree.alpha.value().storage() != other["alpha"].storage());
    CHECK(tree.alpha.value().version() != version);  // a stale saved tensor would be noticed
}

TEST_CASE("module: load names everything missing, unexpected and mis-shaped at once") {
    Tree tree;
    nn::TensorMap state = clones(tree.state());
    state.erase("alpha");
    state.erase("norms.1.bias");
    state["head.extra"] = Tensor::zeros({1});
    state["spare"] = Tensor::zeros({1});
    state["head.weight"] = Tensor::full({2, 3}, 4);
    state["beta"] = Tensor::full({1, 2}, 4);
    state["norms.0.bias"] = Tensor::full({4}, 4);  // fits, but nothing is loaded
    CHECK_ERROR(tree.load(state, {.optional = {}, .source = "model.safetensors"}),
                "model.safetensors", "missing: alpha norms.1.bias;",
                "unexpected: head.extra spare;", "head.weight (2, 3) (want (3, 2))",
                "beta (1, 2) (want (2))");
    CHECK(tree.norms[0].bias.value().to_vector<float>() == std::vector<float>(4, 0.0f));
    CHECK_ERROR(tree.load({}), "missing: alpha beta counts");
}

TEST_CASE("module: optional names may be missing or superfluous, not mis-shaped") {
    Tree tree;
    nn::TensorMap state = clones(tree.state());
    state.erase("alpha");
    state["spare"] = Tensor::zeros({1});
    nn::LoadOptions options;
    options.optional = [](const std::string& name) { return name == "alpha" || name == "spare"; };
    CHECK_NOTHROW(tree.load(state, options));
    CHECK(tree.alpha.value().to_vector<float>() == std::vector<float>(3, 1.0f));
    state["alpha"] = Tensor::zeros({4});
    CHECK_ERROR(tree.load(state, options), "alpha (4) (want (3))");
    state.erase("alpha");
    state.erase("beta");
    CHECK_ERROR(tree.load(state, options), "missing: beta;");
}

TEST_CASE("module: freezing, releasing and converting") {
    Tree tree;
    tree.set_requires_grad(false);
    for (auto& [name, parameter] : tree.parameters()) CHECK_FALSE(parameter->has_grad_slot());
    tree.to(DType::f64);
    CHECK_FALSE(tree.alpha.has_grad_slot());
    tree.set_requires_grad(true);
    tree.to(DType::f32);
    tree.to(DType::f64);
    for (auto& [name, parameter] : tree.parameters()) {
        CHECK(parameter->dtype() == DType::f64);
        REQUIRE(parameter->has_grad_slot());
        CHECK(parameter->slot()->dtype == DType::f64);
    }
    CHECK(tree.counts.dtype() == DType::i64);
    CHECK(tree.alpha.value().to_vector<double>() == std::vector<double>(3, 1.0));
}
