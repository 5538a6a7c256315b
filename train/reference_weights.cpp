#include "train/reference_weights.h"

#include <algorithm>
#include <cmath>

namespace mc::train {
namespace {

std::string last_part(const std::string& key) {
    return key.substr(key.rfind('.') + 1);
}

bool any_of(const std::string& text, std::initializer_list<const char*> values) {
    return std::any_of(values.begin(), values.end(), [&](const char* v) { return text == v; });
}

bool ends_with_any(const std::string& text, std::initializer_list<const char*> values) {
    return std::any_of(values.begin(), values.end(),
                       [&](const char* v) { return text.ends_with(v); });
}

bool kept(const std::string& key, const Tensor& tensor) {
    return (tensor.dtype() != DType::f32 && tensor.dtype() != DType::f64) || key == "logit_scale" ||
           key.ends_with(".logit_scale") || any_of(last_part(key), {"pe", "attn_mask", "mask"}) ||
           key.ends_with("pos_embed.embed");
}

// Element i becomes f32(value(i)).
template <class Value>
void assign(const Tensor& tensor, bool round, const Value& value) {
    const int64_t n = tensor.numel();
    dispatch_float(tensor.dtype(), "fill", [&](auto zero) {
        using T = decltype(zero);
        T* data = tensor.data<T>();
        for (int64_t i = 0; i < n; ++i) {
            const double x = value(i);
            data[i] = round ? static_cast<T>(static_cast<float>(x)) : static_cast<T>(x);
        }
    });
    tensor.bump_version();
}

}  // namespace

HashStream::HashStream(std::string_view key) : hash_(0xcbf29ce484222325ull) {
    for (const char c : key) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
}

double HashStream::uniform(uint64_t i) const {
    uint64_t z = hash_ + (i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    return static_cast<double>(z >> 40) / 16777216.0;
}

Tensor hash_tensor(const std::string& key, const Shape& shape, double scale) {
    const Tensor tensor = Tensor::empty(shape);
    const HashStream stream(key);
    assign(tensor, true,
           [&](int64_t i) { return stream.symmetric(static_cast<uint64_t>(i)) * scale; });
    return tensor;
}

Tensor hash_ids(const std::string& key, const Shape& shape, int64_t n, int64_t low) {
    const Tensor ids = Tensor::empty(shape, DType::i64);
    const HashStream stream(key);
    for (int64_t i = 0; i < ids.numel(); ++i)
        ids.data<int64_t>()[i] =
            low + static_cast<int64_t>(std::floor(stream.uniform(static_cast<uint64_t>(i)) *
                                                  static_cast<double>(n)));
    return ids;
}

void fill_from_name(const Tensor& tensor, const std::string& key) {
    if (kept(key, tensor)) return;
    const int64_t n = tensor.numel();
    const std::string last = last_part(key);
    const HashStream stream(key);
    auto scaled = [&](double factor) {
        assign(tensor, true,
               [&](int64_t i) { return stream.symmetric(static_cast<uint64_t>(i)) * factor; });
    };
    const double fan =
        tensor.dims() >= 1 ? std::sqrt(3.0 / static_cast<double>(n / tensor.size(0))) : 0;
    if (last == "codebook") return scaled(0.5);
    if (key.ends_with("token_embedding.weight") || last == "positional_embedding")
        return scaled(0.02);
    if (ends_with_any(key, {"token_emb.weight", "learn_tok_emb.weight", "pos_embedding.weight"}))
        return scaled(0.5);
    if (any_of(last, {"token_embed_weight_", "embed_proj_shared_weight", "output_proj_weight_"}))
        return scaled(0.25);
    if (last == "in_proj_weight")  // the q and k rows are doubled
        return assign(tensor, true, [&](int64_t i) {
            return stream.symmetric(static_cast<uint64_t>(i)) * fan * (i < 2 * n / 3 ? 2 : 1);
        });
    if (ends_with_any(key, {".key.weight", ".query.weight"})) return scaled(2 * fan);
    if (ends_with_any(key, {"out_proj.weight", "attn.proj.weight"})) return scaled(0.5 * fan);
    if (tensor.dims() >= 2) return scaled(fan);
    if (tensor.dims() == 1 && last == "weight")
        return assign(tensor, true, [&](int64_t i) {
            return 1 + 0.1 * stream.symmetric(static_cast<uint64_t>(i));
        });
    if (last == "running_var")
        return assign(tensor, true, [&](int64_t i) {
            return 1 + 0.5 * stream.uniform(static_cast<uint64_t>(i));
        });
    scaled(0.02);
}

void fill_from_names(nn::Module& model, const std::string& prefix) {
    for (const auto& [name, tensor] : model.state()) fill_from_name(tensor, prefix + name);
}

double moclip_hash(std::string_view key, uint32_t index) {
    uint32_t s = 0x811c9dc5u;
    for (const char c : key) s = (s ^ static_cast<unsigned char>(c)) * 0x01000193u;
    uint32_t k = index * 2654435761u + s;
    k ^= k >> 15;
    k *= 2246822519u;
    k ^= k >> 13;
    return k / 4294967296.0 - 0.5;
}

void fill_as_moclip_golden(nn::Module& model) {
    for (const auto& [full, tensor] : model.state()) {
        const std::string name = full.starts_with("motion.") ? full.substr(7) : full;
        const Tensor& value = tensor;
        auto u = [&](int64_t i) { return moclip_hash(name, static_cast<uint32_t>(i)); };
        if (value.dims() == 0) {
            value.fill_(std::log(1.0 / 0.07));
        } else if (value.dims() >= 2) {
            const double width = std::sqrt(static_cast<double>(value.size(-1)));
            assign(value, false, [&](int64_t i) { return 2 * u(i) / width; });
        } else {
            const std::string owner = name.substr(0, name.rfind('.'));
            const bool norm = last_part(owner).starts_with("ln_") && name.ends_with("weight");
            assign(value, false, [&](int64_t i) { return (norm ? 1 : 0) + 0.2 * u(i); });
        }
    }
}

double generator_hash(uint32_t index, uint32_t k) {
    uint32_t x = index + 0x9E3779B9u * (k + 1);
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return 2 * (x / 4294967296.0) - 1;
}

void fill_as_generator_golden(nn::Module& model) {
    uint32_t k = 0;
    for (const auto& [name, tensor] : model.state()) {  // a map: in bytewise order
        const int64_t n = tensor.numel();
        const double fan =
            tensor.dims() >= 2 ? std::sqrt(static_cast<double>(n / tensor.size(0))) : 0;
        const bool norm = tensor.dims() == 1 && name.ends_with(".weight"), wide = fan > 0;
        assign(tensor, true, [&](int64_t i) {
            const double u = generator_hash(static_cast<uint32_t>(i), k);
            return wide ? u / fan : norm ? 1 + 0.1 * u : 0.02 * u;
        });
        ++k;
    }
}

Tensor generator_golden_input(const Shape& shape, uint32_t k) {
    const Tensor tensor = Tensor::empty(shape);
    assign(tensor, true, [&](int64_t i) { return generator_hash(static_cast<uint32_t>(i), k); });
    return tensor;
}

Tensor HashUniforms::uniform(const std::string& name, const Shape& shape) {
    const Tensor u = Tensor::empty(shape);
    float* data = u.data<float>();
    if (name.ends_with(".tile")) {
        // Pairs (u0, u1) that Box-Muller turns into s: radius |s|, angle 0 or pi.
        const HashStream stream(normals_name_ + std::to_string(normals_++));
        for (int64_t i = 0; i < u.numel() / 2; ++i) {
            const double s = stream.symmetric(static_cast<uint64_t>(i));
            data[2 * i] = static_cast<float>(-std::expm1(-s * s / 2));
            data[2 * i + 1] = s < 0 ? 0.5f : 0.0f;
        }
        return u;
    }
    const HashStream stream(key_ ? key_(name) : name);
    for (int64_t i = 0; i < u.numel(); ++i)
        data[i] = static_cast<float>(stream.uniform(static_cast<uint64_t>(i)));
    return u;
}

}  // namespace mc::train
