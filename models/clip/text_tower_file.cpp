#include "models/clip/text_tower_file.h"

#include <fmt/format.h>

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

// OpenAI's name of a Hugging Face tensor that is stored the same way; "" if there is none.
std::string openai_name(std::string_view name) {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> whole = {{
        {"text_model.embeddings.token_embedding.weight", "token_embedding.weight"},
        {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
        {"text_model.final_layer_norm.weight", "ln_final.weight"},
        {"text_model.final_layer_norm.bias", "ln_final.bias"},
    }};
    for (const auto& [theirs, ours] : whole)
        if (name == theirs) return std::string(ours);
    constexpr std::string_view layers = "text_model.encoder.layers.";
    if (!name.starts_with(layers)) return "";
    name.remove_prefix(layers.size());
    const size_t dot = name.find('.');
    if (dot == std::string_view::npos) return "";
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> inner = {{
        {"layer_norm1.", "ln_1."},
        {"layer_norm2.", "ln_2."},
        {"self_attn.out_proj.", "attn.out_proj."},
        {"mlp.fc1.", "mlp.c_fc."},
        {"mlp.fc2.", "mlp.c_proj."},
    }};
    for (const auto& [theirs, ours] : inner)
        if (name.substr(dot + 1).starts_with(theirs))
            return fmt::format("transformer.resblocks.{}.{}{}", name.substr(0, dot), ours,
                               name.substr(dot + 1 + theirs.size()));
    return "";
}

// Rows of the query, key and value projections under each other, as OpenAI stores them.
void stack_projections(const nn::TensorMap& theirs, nn::TensorMap& state,
                       const std::string& source) {
    for (int64_t layer = 0;; ++layer) {
        const std::string from = fmt::format("text_model.encoder.layers.{}.self_attn.", layer);
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

}  // namespace

TextTowerFile text_tower_of(const NamedTensors& tensors, const std::string& source) {
    const auto any = [&](std::string_view anchor) {
        for (const auto& [name, tensor] : tensors)
            if (name.ends_with(anchor)) return true;
        return false;
    };
    const bool hugging_face = any(kHuggingFaceAnchor);
    if (!hugging_face && !any(kOpenAiAnchor))
        throw Error(
            fmt::format("{}: has no {}; is it a CLIP text encoder?", source, kOpenAiAnchor));
    const std::string prefix =
        prefix_of(tensors, hugging_face ? kHuggingFaceAnchor : kOpenAiAnchor, source);
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

}  // namespace mc::clip
