// Reads the recorded cases (shared/reference/*.safetensors) for tests that lie below the engine's
// own reader.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace mc::testing {

struct RecordedTensor {
    std::vector<int64_t> shape;
    std::vector<double> values;  // F32, F64, I64 and I32 alike

    std::vector<float> f32() const { return {values.begin(), values.end()}; }
};

struct RecordedCase {
    std::map<std::string, RecordedTensor> tensors;
    std::map<std::string, std::string> metadata;

    const RecordedTensor& at(const std::string& name) const { return tensors.at(name); }
    // A number of an "info:NAME" entry, such as maxabsdiff64.
    double info(const std::string& name, const std::string& key) const {
        return nlohmann::json::parse(metadata.at("info:" + name)).at(key).get<double>();
    }
};

inline RecordedCase read_recorded_case(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    uint64_t header_size = 0;
    if (bytes.size() < 8) throw std::runtime_error("cannot read " + path.string());
    std::memcpy(&header_size, bytes.data(), 8);
    const auto header = nlohmann::json::parse(bytes.substr(8, header_size));
    RecordedCase result;
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") {
            result.metadata = entry.get<std::map<std::string, std::string>>();
            continue;
        }
        RecordedTensor& tensor = result.tensors[name];
        tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
        const auto type = entry.at("dtype").get<std::string>();
        const auto range = entry.at("data_offsets").get<std::vector<uint64_t>>();
        const char* data = bytes.data() + 8 + header_size + range[0];
        const uint64_t size = range[1] - range[0];
        auto take = [&]<typename T>(T) {
            for (uint64_t i = 0; i + sizeof(T) <= size; i += sizeof(T)) {
                T value;
                std::memcpy(&value, data + i, sizeof(T));
                tensor.values.push_back(static_cast<double>(value));
            }
        };
        if (type == "F32") take(float{});
        if (type == "F64") take(double{});
        if (type == "I64") take(int64_t{});
        if (type == "I32") take(int32_t{});
    }
    return result;
}

}  // namespace mc::testing
