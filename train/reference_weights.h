// Weights, inputs and random draws made from names alone, so that a model of any size can be
// compared with the recorded outputs of the original programs without a weight file. Three rules,
// of shared/reference/README.md 1-2, moclip.md 3.5 and generators.md 15.
//
//     momask::MaskTransformer model(config, nullptr);
//     fill_from_names(model);                              // README, section 1
//     const Tensor cond = hash_tensor("input.cond", {3, 512}, 0.8);
//     HashUniforms draws;                                  // "noise.step3" -> its own numbers
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "nn/module.h"
#include "tensor/uniform_source.h"

namespace mc::train {

// The README's stream of one key: FNV-1a 64 of the key, mixed with the index.
class HashStream {
  public:
    explicit HashStream(std::string_view key);
    double uniform(uint64_t i) const;  // u_i in [0, 1), a multiple of 2^-24
    double symmetric(uint64_t i) const { return 2 * uniform(i) - 1; }  // s_i in [-1, 1)

  private:
    uint64_t hash_;
};

Tensor hash_tensor(const std::string& key, const Shape& shape, double scale = 1);  // f32 s_i scale
Tensor hash_ids(const std::string& key, const Shape& shape, int64_t n, int64_t low = 0);  // i64

// Fills every parameter and buffer by the README's table, from `prefix` + its own name; values are
// rounded to f32 once, whatever the dtype. Kept tensors (logit_scale, tables, masks) stay.
void fill_from_names(nn::Module& model, const std::string& prefix = "");
// One tensor by the same rule.
void fill_from_name(const Tensor& tensor, const std::string& key);

// moclip.md 3.5: FNV-1a 32; u in [-0.5, 0.5). The fill drops the prefix "motion." from names.
double moclip_hash(std::string_view key, uint32_t index);
void fill_as_moclip_golden(nn::Module& model);
// generators.md 15: u in [-1, 1) of element i of the k-th tensor, names in bytewise order.
double generator_hash(uint32_t index, uint32_t k);
void fill_as_generator_golden(nn::Module& model);
Tensor generator_golden_input(const Shape& shape, uint32_t k);  // f32

// The recorded runs' draws: uniforms from the key that a draw's name stands for (the name itself
// unless `key` says otherwise). A request NAME.tile, the quantiser's normal noise, is answered so
// that the noise becomes s of "randn.K", K counting the requests, as the recorded runs were
// patched.
class HashUniforms : public UniformSource {
  public:
    HashUniforms() = default;
    explicit HashUniforms(std::function<std::string(const std::string&)> key,
                          std::string normals = "randn.")
        : key_(std::move(key)), normals_name_(std::move(normals)) {}
    Tensor uniform(const std::string& name, const Shape& shape) override;

  private:
    std::function<std::string(const std::string&)> key_;
    std::string normals_name_ = "randn.";
    int64_t normals_ = 0;
};

// No noise at all: what the recorded "greedy" runs drew.
struct NoNoise : UniformSource {
    Tensor uniform(const std::string&, const Shape&) override { return {}; }
};

}  // namespace mc::train
