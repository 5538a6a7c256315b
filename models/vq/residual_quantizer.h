// Residual vector quantisation with codebooks learned by moving averages (generators.md 3.2;
// Zeghidour et al. 2021).
#pragma once

#include "nn/module.h"
#include "tensor/communicator.h"
#include "tensor/uniform_source.h"

namespace mc::vq {

struct QuantizerConfig {
    int64_t num_quantizers = 6, nb_code = 512, code_dim = 512;
    double mu = 0.99;                 // moving-average decay
    double quantize_dropout = 0.2;    // probability of using fewer layers in a training batch
    double sample_temperature = 0.5;  // training samples codes at this temperature; 0: nearest
    // Reconstruction gradient reaching the encoder: the number of active layers in the reference
    // (QUIRK Q14), or 1.
    bool reference_gain = true;
    // The one codebook of MMM and BAD, named "codebook" alone: dead codes are replaced at every
    // 21st update only, by random rows of the batch (generators.md 6.2, QUIRK Q30). Off: at every
    // update, by the batch's first rows (Q13).
    bool periodic_reset = false;
};

struct Quantized {
    Tensor ids;          // (B, n, Q) i64; -1 where a layer was dropped
    Var codes;           // (B, n, C) sum over layers, straight-through
    Var commitment;      // () mean over active layers of mean((residual - sg(code))^2)
    Tensor code_counts;  // (active layers, K): how often each code was chosen
};

// Mean over the layers of exp(entropy of the codes chosen). Waits for the GPU.
double perplexity(const Tensor& code_counts);

class ResidualQuantizer : public nn::Module {
  public:
    explicit ResidualQuantizer(const QuantizerConfig& config);

    // All of this is on the quantiser's device, results too; only ids that are given may be on the
    // CPU.
    // e (B, n, C) -> nearest codes, nothing updated.
    Quantized operator()(const Var& e) const;
    // The training forward: dropout of layers, sampling, moving-average update, revival of dead
    // codes. Draws in order: "quantize_dropout" (2) if the probability is not 0; layer q:
    // "layer{q}.init" normals if tiled; "layer{q}" (rows, codes) if sampled; "layer{q}.reset"
    // normals if tiled, with periodic_reset then "layer{q}.randperm" (rows).
    // Of several ranks each has its part of the batch, and all of them the same draws, which are
    // for the rows of all ranks: codebooks and code_counts are those of one process with all rows.
    Quantized train(const Var& e, UniformSource& draws, Communicator& ranks = single_process());

    Tensor encode(const Tensor& e) const;    // (B, n, Q) i64
    Tensor decode(const Tensor& ids) const;  // ids (B, n, q <= Q), -1 = nothing -> (B, n, C)

    const QuantizerConfig& config() const { return config_; }
    const Tensor& codebook(int64_t layer = 0) const {
        return layers_[static_cast<size_t>(layer)]->codebook;
    }

    // What the reference does not save (QUIRK Q12) and a resumed training needs: sums, counts,
    // which layers are begun.
    nn::TensorMap training_state() const;
    void load_training_state(const nn::TensorMap& state);
    // For fine-tuning from codebooks alone: every layer begun, sum = codebook, count = 1 (QUIRK
    // Q12), where the first batch would replace the codes.
    void begin_from_codebooks();

  private:
    struct Layer : nn::Module {
        Tensor codebook;  // (K, C)
        // (K, C), (K). No buffers, so Module::to leaves them where they are: an update brings them
        // along.
        Tensor code_sum, code_count;
        // periodic_reset: 1 where a code was alive at any update, and updates since the last reset
        Tensor used;  // (K)
        int64_t updates = 0;
        bool begun = false;
        explicit Layer(const QuantizerConfig& config);
        void begin();  // averages that say: every code was seen once
    };
    // The layers in turn: choose(q, rows, ids) sets the ids (R) of the rows (R, C) that are left,
    // learn(q, rows, ids, counts) comes once their codes are taken.
    template <class Choose, class Learn>
    Quantized quantize(const Var& e, int64_t active, const Choose& choose,
                       const Learn& learn) const;
    // The uniforms that make enough rows of too few, see tiled(); undefined if there are enough.
    Tensor tile_draws(const Tensor& rows, const std::string& name, UniformSource& draws) const;
    // The codebook's size of them: the first, or, if there are uniforms `order` (R), those whose
    // uniforms are least.
    Tensor replacements(const Tensor& rows, const Tensor& order) const;
    // `pool`: the rows that dead codes are replaced by.
    void update(Layer& layer, const Tensor& rows, const Tensor& ids, const Tensor& counts,
                const Tensor& pool, const std::string& name, UniformSource& draws,
                Communicator& ranks);

    QuantizerConfig config_;
    std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace mc::vq
