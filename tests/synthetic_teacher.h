// A made-up sentence teacher for tests, so that no data need be at hand.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

namespace mc::testing {

// A teacher of 60 sentences whose embeddings have four columns.
inline void write_teacher(const std::filesystem::path& folder) {
    std::ofstream sentences(folder / "sentences.txt"), scales(folder / "embeddings_scale.npy"),
        values(folder / "embeddings_i8.npy");
    const auto header = [](std::ofstream& out, const std::string& text) {
        std::string padded = text;
        padded.resize(117, ' ');
        out << std::string("\x93NUMPY\x01\x00\x76\x00", 10) << padded << '\n';
    };
    header(values, "{'descr': '|i1', 'fortran_order': False, 'shape': (60, 4), }");
    header(scales, "{'descr': '<f4', 'fortran_order': False, 'shape': (60,), }");
    const float scale = 0.01f;
    for (int i = 0; i < 60; ++i) {
        sentences << "walk " << std::string(static_cast<size_t>(1 + i % 5), 'x') << ' ' << i
                  << '\n';
        for (int e = 0; e < 4; ++e)
            values.put(static_cast<char>((i * (e + 3)) % 17 - 8 + 17 * (e == 0)));
        scales.write(reinterpret_cast<const char*>(&scale), sizeof scale);
    }
}

}  // namespace mc::testing
