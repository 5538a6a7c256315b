// The public evaluator in small: random networks in the layout of text_mot_match, in PyTorch's own
// format, statistics, and word files as T2M's glove folder has them, pickles put together by hand.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/evaluator/evaluator.h"
#include "motion/statistics.h"
#include "tensor/formats/npy.h"
#include "tensor/formats/pytorch.h"
#include "tests/tensor/formats/pickle_bytes.h"
#include "tests/test_paths.h"

namespace mc::testing {

inline constexpr int64_t kTinyWords = 6;  // numbers of a word vector

inline evaluator::EvaluatorConfig tiny_evaluator_config() {
    evaluator::EvaluatorConfig config;
    config.movement_hidden = 12;
    config.movement_dim = 10;
    config.word_dim = kTinyWords;
    config.text_hidden = 8;
    config.motion_hidden = 14;
    config.embed_dim = 9;
    return config;
}

// What torch.save wrote: three state dicts, an optimiser's state, counters.
inline std::vector<std::pair<std::string, PyTorchEntry>> evaluator_entries(
    evaluator::Evaluator& model) {
    std::map<std::string, NamedTensors> parts;
    for (const auto& [name, tensor] : model.state()) {
        const size_t dot = name.find('.');
        parts[name.substr(0, dot)].emplace_back(name.substr(dot + 1), tensor);
    }
    std::vector<std::pair<std::string, PyTorchEntry>> entries;
    for (const auto& [part, state] : parts) {
        entries.emplace_back(part, state);
        entries.emplace_back("opt_" + part, NamedTensors{{"exp_avg", Tensor::zeros({3, 4})}});
    }
    entries.emplace_back("epoch", int64_t{12});
    return entries;
}

// A pickled list of opcodes, and the words with their rows from 0.
inline std::string py_list(const std::vector<std::string>& items) {
    std::string list = "](";
    for (const std::string& item : items) list += item;
    return list + "e";
}
inline std::string pickled_words(const std::vector<std::string>& words) {
    std::vector<std::string> items;
    for (const std::string& word : words) items.push_back(py::text(word));
    return py::pickle(py_list(items));
}
inline std::string pickled_rows(const std::vector<std::pair<std::string, int32_t>>& rows) {
    std::vector<std::pair<std::string, std::string>> items;
    for (const auto& [word, row] : rows) items.emplace_back(py::text(word), py::integer(row));
    return py::pickle(py::dict(items));
}

// our_vab_*: word i has the row n - 1 - i, whose numbers are all different.
inline void write_glove(const std::filesystem::path& folder, const std::vector<std::string>& words,
                        int64_t width = kTinyWords) {
    std::filesystem::create_directories(folder);
    const auto n = static_cast<int64_t>(words.size());
    std::vector<float> table;
    for (int64_t i = 0; i < n * width; ++i)
        table.push_back(static_cast<float>((i * 37) % 101) / 50 - 1);
    write_npy(folder / "our_vab_data.npy", {n, width}, table.data());
    std::vector<std::pair<std::string, int32_t>> rows;
    for (int64_t i = 0; i < n; ++i)
        rows.emplace_back(words[static_cast<size_t>(i)], static_cast<int32_t>(n - 1 - i));
    write_file_bytes(folder / "our_vab_words.pkl", pickled_words(words));
    write_file_bytes(folder / "our_vab_idx.pkl", pickled_rows(rows));
}

// FOLDER/text_mot_match/model/finest.tar, FOLDER/Comp_v6_KLD005/meta, FOLDER/glove.
inline void write_tiny_evaluator(const std::filesystem::path& folder,
                                 const motion::Normalisation& statistics) {
    const auto models = folder / "text_mot_match" / "model",
               meta = folder / "Comp_v6_KLD005" / "meta";
    std::filesystem::create_directories(models);
    std::filesystem::create_directories(meta);
    Generator init(5);
    evaluator::Evaluator model(tiny_evaluator_config(), &init);
    write_pytorch(models / "finest.tar", evaluator_entries(model));
    motion::write_normalisation(statistics, meta / "mean.npy", meta / "std.npy", true);
    write_glove(folder / "glove", {"sos", "eos", "unk", "a", "person", "walks", "jumps", "waves",
                                   "turns", "left", "right", "hand", "someone"});
}

}  // namespace mc::testing
