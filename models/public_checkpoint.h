// What the importers of public checkpoints share (generators.md 2.3, 2.4): folders of runs, each
// with opt.txt and model/*.tar; state dicts below a key of a PyTorch file; and by what a state dict
// is known, so that a checkpoint of another system is refused by its name.
#pragma once

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>

#include "models/opt_file.h"
#include "nn/module.h"

namespace mc {

// Which public checkpoints (bundle.h reads them; each system's public_layout.h says where its files
// are).
struct PublicLayout {
    std::filesystem::path checkpoints;
    std::string base_name, residual_name;  // which run, where there are several
    std::string generator = "momask";      // or bamm, bad
};

struct PublicRun {
    std::filesystem::path folder;
    OptFile opt;
};

// The folder of a data set: t2m or kit below `path`, else `path` itself.
std::filesystem::path dataset_folder(const std::filesystem::path& path);

// The one run of a kind among a folder's, or of them the one with the given name. An opt.txt that
// cannot be read is passed over: the evaluator's folders stand there too, with hand-made lines.
// Error, which names `option` for choosing, if there is none or several.
PublicRun choose_run(const std::filesystem::path& dataset, const std::string& name,
                     const char* kind, const char* option,
                     const std::function<bool(const OptFile&)>& is_kind);

// The first of these files in the run's model/. Error if it has none.
std::filesystem::path checkpoint_in(const std::filesystem::path& run,
                                    std::initializer_list<const char*> names);

// What a state dict is of, by its names and sizes: "MoMask's masked transformer", "BAMM's
// transformer", ...; empty if nothing known. `codes`: of the tokenizer, by which alone MoMask's and
// BAMM's differ.
std::string model_of(const nn::TensorMap& state, int64_t codes = 512);

struct PublicState {
    std::filesystem::path path;
    nn::TensorMap tensors;
};

// The state dict below the first of `keys` that the file has, names without `prefix`. Error: the
// file is of another model than `what`, which then is named; a NaN or an infinity.
PublicState read_public_state(const std::filesystem::path& path,
                              std::initializer_list<const char*> keys, const std::string& what,
                              int64_t codes = 512);

// Into a frozen module; strict but for the names that `is_foreign` knows.
void load_public(nn::Module& module, const PublicState& state,
                 const std::function<bool(const std::string&)>& is_foreign);

// Sizes from shapes. Error if there is no such matrix (or, of convolutions, 3-D weight).
int64_t size_in(const PublicState& state, const std::string& name, int dimension);
// How many of "PREFIX0SUFFIX", "PREFIX1SUFFIX", ... there are from the first on.
int64_t count_in(const PublicState& state, const std::string& prefix, const std::string& suffix,
                 int64_t first = 0);

}  // namespace mc
