// NumPy's .npy and .npz files as plain arrays. Format: NumPy NEP 1, versions 1.0 to 3.0.
//
//     NpyArray a = read_npy("new_joints/012314.npy");   // a.shape == {170, 22, 3}, a.descr ==
//     "<f4" std::vector<float> xyz = a.as_f32();              // (170, 22, 3), C order, whatever
//     the file had write_npy("Mean.npy", {263}, mean.data()); NpzFile zip("cmu.npz"); // members
//     are read when asked for NpyArray clip = zip.read("cmu_01_01");
//
// Read: b1, i1..i8, u1..u8, f2, f4, f8, either byte order, C or Fortran order, up to 32 dimensions.
// Objects (pickles), structures, strings and complex numbers are refused: nothing in a file is ever
// executed. All failures are mc::Error in one line: file (and member), what. Writers put files in
// place atomically (AtomicFile).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/formats/zip.h"

namespace mc {

struct NpyArray {
    std::string descr =
        "<f4";  // kind and size, in the byte order of this machine: "<f4", "|b1", ...
    bool fortran_order = false;
    std::vector<int64_t> shape;   // empty for a scalar
    std::vector<std::byte> data;  // elements in the file's order
    std::string source;           // file, or file:member, for error messages

    int64_t size() const;                   // number of elements
    size_t item_size() const;               // bytes an element
    char kind() const { return descr[1]; }  // 'f', 'i', 'u', 'b'

    // All elements in C order, converted; integers beyond 2^24 (2^53) are rounded.
    std::vector<float> as_f32() const;
    std::vector<double> as_f64() const;
    // Error for floating point data: nothing is truncated silently.
    std::vector<int64_t> as_i64() const;
};

NpyArray read_npy(const std::filesystem::path& path);
// The same from memory; `source` names it in errors.
NpyArray parse_npy(std::span<const std::byte> bytes, const std::string& source);

// The bytes of a version 1.0 file in C order.
std::string encode_npy(const std::vector<int64_t>& shape, const float* data);
// Version 1.0 files in C order. Error if the file cannot be written. `flush`: see
// AtomicFile::commit.
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const float* data, bool flush = true);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const double* data, bool flush = true);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const int64_t* data, bool flush = true);

class NpzFile {
  public:
    explicit NpzFile(const std::filesystem::path& path) : zip_(path) {}

    std::vector<std::string> names() const;  // without ".npy", in the archive's order
    bool contains(std::string_view name) const;
    NpyArray read(std::string_view name) const;  // Error names the file if there is no such member

  private:
    ZipReader zip_;
};

std::map<std::string, NpyArray> read_npz(const std::filesystem::path& path);

class NpzWriter {
  public:
    explicit NpzWriter(const std::filesystem::path& path) : zip_(path) {}

    void add(const std::string& name, const std::vector<int64_t>& shape, const float* data);
    void add(const std::string& name, const std::vector<int64_t>& shape, const double* data);
    void add(const std::string& name, const std::vector<int64_t>& shape, const int64_t* data);
    void commit() { zip_.commit(); }

  private:
    ZipWriter zip_;
};

// Members in the order of the map, with the arrays' own types.
void write_npz(const std::filesystem::path& path, const std::map<std::string, NpyArray>& members);

}  // namespace mc
