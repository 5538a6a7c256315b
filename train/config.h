// Options of a training run: a preset, then what the run begins from, then a file, then single
// settings, each over the one before.
//
//     const std::vector<Preset> presets = {{"small", "for a CPU", {{"lr", 2e-4}, {"batch", 64}}}};
//     Json config = resolve_config(presets, "small", "mine.json", {"lr=1e-4", "model.width=256"});
//
// The preset is the list of what exists: a key it does not have is an error that names near ones,
// and a value takes the type that the key has there (null: any, and who reads it checks). Keys
// inside groups are written with dots. A number that no run can use (batch=0, dropout=1) is an
// error that says what is wanted.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace mc::train {

struct Preset {
    std::string name;
    std::string summary;    // one line for --help
    nlohmann::json values;  // an object: numbers, texts, booleans, lists, groups
};

// Settings of what a run begins from; those count that the preset has too.
struct Begun {
    nlohmann::json settings = nlohmann::json::object();
    std::string source;  // for errors
};

// Error: no such preset (with those there are), unreadable file, unknown key, wrong type, a number
// out of its range.
nlohmann::json resolve_config(const std::vector<Preset>& presets, const std::string& preset,
                              const std::optional<std::filesystem::path>& file = {},
                              const std::vector<std::string>& settings = {},
                              const Begun& begun = {});

// Sets KEY=VALUE, "optimizer.lr=1e-4". Booleans: true false on off yes no 1 0. Lists: JSON or
// comma-separated. Where the preset says null, VALUE is JSON if it is valid JSON, else a text.
void apply_setting(nlohmann::json& config, const std::string& setting);

// Without the keys that are null, which none of the above has set: what a checkpoint keeps, so that
// a run from before the preset had such a key goes on.
nlohmann::json without_nulls(nlohmann::json config);

// Takes over what `overrides` (an object) has; `source` names it in errors.
void merge_config(nlohmann::json& config, const nlohmann::json& overrides,
                  const std::string& source);

// Up to three of `names` that look like `name`, nearest first.
std::vector<std::string> near_names(const std::string& name, const std::vector<std::string>& names);

// Every key with dots, as --set takes it, in alphabetical order.
std::vector<std::string> config_keys(const nlohmann::json& config);

}  // namespace mc::train
