#include "tests/fuzz/targets.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "kernels/error.h"
#include "models/bundle.h"
#include "models/clip/merge_file.h"
#include "models/clip/tokenizer.h"
#include "models/config_json.h"
#include "models/evaluator/word_vectors.h"
#include "motion/bvh.h"
#include "motion/dataset.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/load_tensors.h"
#include "tensor/formats/npy.h"
#include "tests/fuzz/memory_file.h"
#include "train/caption_book.h"
#include "train/caption_lexicon.h"
#include "train/config.h"

namespace mc::fuzz {
namespace {

using namespace std::string_literals;
using Bytes = std::span<const std::byte>;

std::string text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// An Error is the right answer to bad bytes; anything else that is thrown is a bug.
template <class F>
void try_reader(F&& read) {
    try {
        read();
    } catch (const Error&) {
    }
}

// The same of the tensor formats, whose errors quote nothing that could break the line.
template <class F>
void try_format(F&& read) {
    try {
        read();
    } catch (const Error& e) {
        if (std::string_view(e.what()).find('\n') != std::string_view::npos)
            throw std::logic_error("an Error of more than one line: " + std::string(e.what()));
    }
}

void pickle(Bytes bytes) {
    for (const bool keep_unknown : {false, true})
        try_format([&] {
            PickleTree::Options options;
            options.keep_unknown = keep_unknown;
            const auto tree = PickleTree::parse(bytes, "x.pkl", options);
            PyValue(tree, tree->root()).repr(1000);
        });
}

void pytorch(Bytes bytes) {
    const MemoryFile file(bytes);
    for (const bool keep_unknown : {false, true})
        try_format([&] {
            PyTorchOptions options;
            options.keep_unknown = keep_unknown;
            options.checksums =
                keep_unknown ? PyTorchOptions::Checksums::never : PyTorchOptions::Checksums::always;
            const PyTorchFile torch(file.path(), options);
            for (const auto& named : torch.tensors())
                try_format([&] { torch.tensor(named.second); });
        });
}

void safetensors(Bytes bytes) {
    const MemoryFile file(bytes);
    try_format([&] {
        const SafetensorsFile tensors(file.path());
        for (const SafetensorsEntry& entry : tensors.entries())
            try_format([&] { tensors.get(entry.name); });
    });
}

void npy(Bytes bytes) {
    try_format([&] {
        const NpyArray array = parse_npy(bytes, "x.npy");
        try_format([&] { tensor_of(array); });
        try_format([&] { array.as_i64(); });
        array.as_f32();
    });
}

void zip(Bytes bytes) {
    const MemoryFile file(bytes);
    try_format([&] {
        const ZipReader archive(file.path());
        for (const ZipEntry& entry : archive.entries()) try_format([&] { archive.read(entry); });
    });
    try_format([&] { read_npz(file.path()); });
    try_format([&] { load_tensors(file.path()); });
}

void bvh(Bytes bytes) {
    try_reader([&] {
        const motion::Bvh read = motion::parse_bvh(text_of(bytes), "x.bvh");
        if (read.frames * static_cast<int64_t>(read.joints.size()) < 10000)
            motion::bvh_forward(read);
        try_reader([&] { motion::parse_bvh(motion::format_bvh(read), "again.bvh"); });
    });
}

void merge_file(Bytes bytes) {
    try_reader([&] { clip::unpack_maybe_gzip(text_of(bytes), "vocab.txt.gz"); });
    const MemoryFile file(bytes);
    try_reader([&] { clip::Tokenizer::from_file(file.path()).encode("a person walks"); });
}

// A folder of this process, for readers that take one.
struct Folder {
    std::filesystem::path path;
    Folder() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "moclip_fuzz_XXXXXX").string();
        path = ::mkdtemp(pattern.data());
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

// The JSON of bundles and of training runs.
void config(Bytes bytes) {
    const std::string text = text_of(bytes);
    try_reader([&] {
        const auto json = nlohmann::json::parse(text, json_depth_limit(), false);
        if (json.is_discarded()) return;
        try_reader([&] { rvq_config(json, "x.json"); });
        try_reader([&] { transformer_config(json, "x.json"); });
        try_reader([&] { text_config(json, "x.json"); });
    });
    static const Folder folder;
    std::ofstream(folder.path / "bundle.json", std::ios::binary) << text;
    try_reader([&] { load_bundle(folder.path); });
    const std::vector<train::Preset> presets = {
        {"small",
         "",
         {{"lr", 2e-4},
          {"batch", 64},
          {"name", "x"},
          {"list", {1, 2}},
          {"model", {{"width", 8}, {"bias", true}, {"any", nullptr}}}}}};
    const MemoryFile file(bytes);
    try_reader([&] { train::resolve_config(presets, "small", file.path()); });
    try_reader([&] { train::resolve_config(presets, "small", {}, {text}); });
}

// The evaluator's list of words, and their rows, each with a good other one.
void words(Bytes bytes) {
    static const std::string list = "](X\x03\0\0\0unke."s, rows = "}(X\x03\0\0\0unkK\x01u."s;
    try_format([&] {
        evaluator::parse_word_rows(bytes, "list.pkl", std::as_bytes(std::span(rows)), "rows.pkl");
    });
    try_format([&] {
        evaluator::parse_word_rows(std::as_bytes(std::span(list)), "list.pkl", bytes, "rows.pkl");
    });
}

void captions(Bytes bytes) {
    const MemoryFile file(bytes);
    try_reader([&] { motion::read_captions(file.path()); });
    try_reader([&] { train::read_captions(file.path()); });
    try_reader([&] { train::CaptionLexicon::from_file(file.path()); });
}

}  // namespace

const std::vector<Target>& targets() {
    static const std::vector<Target> all = {{"pickle", pickle},
                                            {"pytorch", pytorch},
                                            {"safetensors", safetensors},
                                            {"npy", npy},
                                            {"zip", zip},
                                            {"bvh", bvh},
                                            {"merge_file", merge_file},
                                            {"config", config},
                                            {"captions", captions},
                                            {"words", words}};
    return all;
}

}  // namespace mc::fuzz
