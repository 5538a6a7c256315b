#include "models/clip/text_tower_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "tensor/finite.h"
#include "tensor/formats/load_tensors.h"

namespace mc::clip {
namespace {

// The name that tells where a tower begins: its prefix is what stands before.
constexpr std::string_view kOpenAiAnchor = "token_embedding.weight";
constexpr std::string_view kHuggingFaceAnchor = "text_model.embeddings.token_embedding.weight";

bool is_openai_name(std::string_view name) {
    return name == "positional_embedding" || name == "text_projection" ||
           name == "token_embedding.weight" || name.starts_with("transformer.") ||
           name.starts_with("ln_final.");
}

// Names of what both store the same way, Hugging Face's and OpenAI's: whole, and in a layer. What
// they store differently, the query, key and value projections and text_projection, is in
// stack_projections() and text_tower_tensors().
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kWhole = {{
    {"text_model.embeddings.token_embedding.weight", "token_embedding.weight"},
    {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
    {"text_model.final_layer_norm.weight", "ln_final.weight"},
    {"text_model.final_layer_norm.bias", "ln_final.bias"},
}};
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kInLayer = {{
    {"layer_norm1.", "ln_1."},
    {"layer_norm2.", "ln_2."},
    {"self_attn.out_proj.", "attn.out_proj."},
    {"mlp.fc1.", "mlp.c_fc."},
    {"mlp.fc2.", "mlp.c_proj."},
}};
constexpr std::string_view kTheirLayers = "text_model.encoder.layers.";
constexpr std::string_view kOurLayers = "transformer.resblocks.";

// "PREFIX3.rest" -> "3" and "rest"; empty if it is no such name.
std::pair<std::string_view, std::string_view> layer_name(std::string_view name,
                                                         std::string_view prefix) {
    if (!name.starts_with(prefix)) return {};
    name.remove_prefix(prefix.size());
    const size_t dot = name.find('.');
    if (dot == std::string_view::npos) return {};
    return {name.substr(0, dot), name.substr(dot + 1)};
}

// OpenAI's name of a Hugging Face tensor that is stored the same way; "" if there is none.
std::string openai_name(std::string_view name) {
    for (const auto& [theirs, ours] : kWhole)
        if (name == theirs) return std::string(ours);
    const auto [layer, rest] = layer_name(name, kTheirLayers);
    for (const auto& [theirs, ours] : kInLayer)
        if (rest.starts_with(theirs))
            return fmt::format("{}{}.{}{}", kOurLayers, layer, ours, rest.substr(theirs.size()));
    return "";
}

// The other way.
std::string hugging_face_name(std::string_view name) {
    for (const auto& [theirs, ours] : kWhole)
        if (name == ours) return std::string(theirs);
    const auto [layer, rest] = layer_name(name, kOurLayers);
    for (const auto& [theirs, ours] : kInLayer)
        if (rest.starts_with(ours))
            return fmt::format("{}{}.{}{}", kTheirLayers, layer, theirs, rest.substr(ours.size()));
    return "";
}

// Whether OpenAI's files have the tensor in half precision (clip_text.md 3).
bool is_half(std::string_view name) {
    const auto [layer, rest] = layer_name(name, kOurLayers);
    return name == "text_projection" || (!rest.empty() && !rest.starts_with("ln_"));
}

// Rows of the query, key and value projections under each other, as OpenAI stores them.
void stack_projections(const nn::TensorMap& theirs, nn::TensorMap& state,
                       const std::string& source) {
    for (int64_t layer = 0;; ++layer) {
        const std::string from = fmt::format("{}{}.self_attn.", kTheirLayers, layer);
        if (!theirs.count(from + "q_proj.weight")) return;
        for (const char* kind : {"weight", "bias"}) {
            std::vector<Var> parts;
            for (const char* part : {"q_proj.", "k_proj.", "v_proj."}) {
                const auto found = theirs.find(from + part + kind);
                if (found == theirs.end())
                    throw Error(fmt::format("{}: has no {}{}{}", source, from, part, kind));
                if (!parts.empty() && !(found->second.shape() == parts.front().shape()))
                    throw Error(fmt::format("{}: {}{}{} is {}, the query's {}", source, from, part,
                                            kind, found->second.shape().str(),
                                            parts.front().shape().str()));
                parts.push_back(Var(found->second.to(DType::f32)));
            }
            state[fmt::format("transformer.resblocks.{}.attn.in_proj_{}", layer, kind)] =
                concat(parts, 0).value();
        }
    }
}

// The prefix of the tower's names. Error unless there is exactly one tower.
std::string prefix_of(const NamedTensors& tensors, std::string_view anchor,
                      const std::string& source) {
    std::set<std::string> prefixes;
    for (const auto& [name, tensor] : tensors)
        if (name.ends_with(anchor)) prefixes.insert(name.substr(0, name.size() - anchor.size()));
    if (prefixes.size() > 1)
        throw Error(fmt::format("{}: holds {} text towers, below \"{}\" and \"{}\"; save one alone",
                                source, prefixes.size(), *prefixes.begin(), *prefixes.rbegin()));
    return *prefixes.begin();
}

TextNames names_of(const NamedTensors& tensors, const std::string& source) {
    const auto any = [&](std::string_view anchor) {
        for (const auto& [name, tensor] : tensors)
            if (name.ends_with(anchor)) return true;
        return false;
    };
    const bool hugging_face = any(kHuggingFaceAnchor);
    if (!hugging_face && !any(kOpenAiAnchor))
        throw Error(
            fmt::format("{}: has no {}; is it a CLIP text encoder?", source, kOpenAiAnchor));
    return {hugging_face ? TextLayout::hugging_face : TextLayout::openai,
            prefix_of(tensors, hugging_face ? kHuggingFaceAnchor : kOpenAiAnchor, source)};
}

std::string sizes_of(const TextConfig& c) {
    return fmt::format("width {}, {} heads, {} layers, {} tokens, context {}, embedding {}",
                       c.width, c.heads, c.layers, c.vocab, c.context, c.embed_dim);
}

}  // namespace

TextTowerFile text_tower_of(const NamedTensors& tensors, const std::string& source) {
    const auto [layout, prefix] = names_of(tensors, source);
    const bool hugging_face = layout == TextLayout::hugging_face;
    TextTowerFile tower;
    nn::TensorMap theirs;
    for (const auto& [name, tensor] : tensors) {
        if (!name.starts_with(prefix)) continue;
        const std::string local = name.substr(prefix.size());
        if (local == "logit_scale" && tensor.numel() == 1)
            tower.logit_scale = tensor.to(DType::f64).reshape({}).item<double>();
        if (hugging_face)
            theirs[local] = tensor;
        else if (is_openai_name(local))
            tower.state[local] = tensor;
    }
    if (hugging_face) {
        for (const auto& [name, tensor] : theirs)
            if (const std::string ours = openai_name(name); !ours.empty())
                tower.state[ours] = tensor;
        stack_projections(theirs, tower.state, source);
        const auto projection = theirs.find("text_projection.weight");  // (out, in)
        if (projection == theirs.end() || projection->second.dims() != 2)
            throw Error(
                fmt::format("{}: has no text_projection.weight; save the model with its "
                            "projection (CLIPTextModelWithProjection)",
                            source));
        tower.state["text_projection"] = projection->second.transpose(0, 1).contiguous();
    }
    tower.config = TextConfig::from_state(tower.state, source);
    try {
        for (const auto& [name, tensor] : tower.state) check_finite(name, tensor);
    } catch (const Error& e) {
        throw Error(fmt::format("{}: {}; get the file anew", source, e.what()));
    }
    return tower;
}

TextTowerFile read_text_tower(const std::filesystem::path& path) {
    const TensorFile file = load_tensors(path);
    TextTowerFile tower = text_tower_of(file.tensors, path.string());
    tower.metadata = file.metadata;
    if (const auto heads = file.metadata.find("heads"); heads != file.metadata.end()) {
        const std::string& text = heads->second;
        const auto parsed =
            std::from_chars(text.data(), text.data() + text.size(), tower.config.heads);
        if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
            throw Error(fmt::format("{}: metadata 'heads' is '{}', want a whole number",
                                    path.string(), text));
    }
    return tower;
}

NamedTensors text_tower_tensors(const TextTowerFile& tower, const TextNames& names, DType dtype) {
    if (dtype != DType::f32 && dtype != DType::f16)
        throw Error(fmt::format("[clip] a text encoder is written in f32 or f16, not in {}",
                                name_of(dtype)));
    if (tower.config.heads != std::max<int64_t>(1, tower.config.width / 64))
        throw Error(fmt::format(
            "[clip] the text encoder has {} heads of its width {}; OpenAI's and Hugging Face's "
            "programs would read it with width / 64",
            tower.config.heads, tower.config.width));
    NamedTensors out;
    const auto add = [&](const std::string& name, const Tensor& tensor) {
        out.emplace_back(names.prefix + name, tensor);
    };
    for (const auto& [name, stored] : tower.state) {
        const Tensor tensor =
            stored.to(is_half(name) && dtype == DType::f16 ? DType::f16 : DType::f32);
        check_finite(name + " in half precision", tensor);
        if (names.layout == TextLayout::openai) {
            add(name, tensor);
        } else if (name == "text_projection") {
            add("text_projection.weight", tensor.transpose(0, 1).contiguous());
        } else if (const std::string theirs = hugging_face_name(name); !theirs.empty()) {
            add(theirs, tensor);
        } else {  // attn.in_proj_weight, attn.in_proj_bias: rows of query, key, value
            const auto [layer, rest] = layer_name(name, kOurLayers);
            const int64_t rows = tensor.size(0) / 3;
            int64_t row = 0;
            for (const char* part : {"q", "k", "v"}) {
                add(fmt::format("{}{}.self_attn.{}_proj.{}", kTheirLayers, layer, part,
                                rest.substr(rest.rfind('_') + 1)),
                    tensor.slice(0, row, row + rows).contiguous());
                row += rows;
            }
        }
    }
    if (tower.logit_scale) add("logit_scale", Tensor::full({}, *tower.logit_scale));
    return out;
}

void replace_text_tower(const std::filesystem::path& whole, const TextTowerFile& tower,
                        const std::filesystem::path& out) {
    const TensorFile file = load_tensors(whole);
    const TextNames names = names_of(file.tensors, whole.string());
    const TextConfig old = text_tower_of(file.tensors, whole.string()).config;
    if (sizes_of(old) != sizes_of(tower.config))
        throw Error(fmt::format("{}: its text tower has {}, the new one {}; they do not fit",
                                whole.string(), sizes_of(old), sizes_of(tower.config)));
    TextTowerFile tensors_alone = tower;
    tensors_alone.logit_scale.reset();  // belongs to the pair of towers
    const NamedTensors fresh = text_tower_tensors(tensors_alone, names, DType::f32);
    if (file.format != TensorFormat::safetensors) {
        PyTorchFile(whole).write_with(out, fresh);
        return;
    }
    NamedTensors all = file.tensors;
    for (auto& [name, tensor] : all)
        for (const auto& [fresh_name, fresh_tensor] : fresh)
            if (name == fresh_name) {
                tensor = fresh_tensor.to(tensor.dtype());
                check_finite(whole.string() + ": " + name, tensor);
            }
    write_safetensors(out, all, file.metadata);
}

}  // namespace mc::clip
