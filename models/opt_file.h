// The opt.txt that the public generators' option parsers write beside their checkpoints
// (generators.md 2.3): "key: value" a line, between two marker lines.
//
//     const OptFile opt = read_opt_file("checkpoints/t2m/rvq_x/opt.txt");
//     opt.integer("nb_code");             // Error that names file and key if it is not one
//     opt.text("vq_name");
//     opt.integer("code_dim", 512);       // a default, if the key is not there
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace mc {

class OptFile {
  public:
    OptFile(std::string source, std::map<std::string, std::string> values)
        : source_(std::move(source)), values_(std::move(values)) {}

    const std::string& source() const { return source_; }
    bool has(const std::string& key) const { return values_.count(key) != 0; }
    // As written, blanks at its ends removed: "None" and "[50000]" are texts.
    std::string text(const std::string& key, const std::optional<std::string>& fallback = {}) const;
    int64_t integer(const std::string& key, std::optional<int64_t> fallback = {}) const;
    double number(const std::string& key, std::optional<double> fallback = {}) const;
    bool flag(const std::string& key, std::optional<bool> fallback = {}) const;  // True, False

  private:
    const std::string* find(const std::string& key) const;
    [[noreturn]] void fail(const std::string& key, const std::string& what) const;
    std::string source_;
    std::map<std::string, std::string> values_;
};

// Error in one line: cannot be read, a line without ": ", a key twice.
OptFile read_opt_file(const std::filesystem::path& path);
OptFile parse_opt_file(const std::string& text, const std::string& source);

}  // namespace mc
