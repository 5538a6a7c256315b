// A recorded run of an original program (shared/reference/NAME.safetensors; its README, sections
// 2-3) and how close we come to it.
//
//     ReferenceCase recorded(folder / "momask_rvq.safetensors");
//     const Comparison c = recorded.compare("output.decoded", ours);   // ours in the file's layout
//     if (!c.fits()) puts(c.text().c_str());
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tensor/formats/safetensors.h"

namespace mc::train {

// How many times the reference's own float32 error another correct float32 program may be off: the
// README of the cases advises 4 to 8.
inline constexpr double kReferenceFactor = 8;

struct Comparison {
    std::string name;
    double gap = 0, allowed = 0;  // the largest deviation of `worst`, and what is allowed of it
    double relative = 0;          // gap as a share of the largest magnitude recorded
    double reference = 0;         // the reference's own float32 error of the same quantity
    double factor = kReferenceFactor;
    std::string worst = "value";  // or, where that fails: sum, sum of magnitudes, L2 norm
    bool fits() const { return gap <= allowed; }
    std::string text() const;  // one line
};

class ReferenceCase {
  public:
    explicit ReferenceCase(const std::filesystem::path& path) : file_(path) {}

    const SafetensorsFile& file() const { return file_; }
    std::string name() const;  // the metadata's "case"; error if there is none
    bool has(const std::string& name) const { return file_.find(name) != nullptr; }
    // Values of `name` in any form: whole, as a slice, as its float64 twin.
    bool recorded(const std::string& name) const;
    Tensor get(const std::string& name) const { return file_.get(name); }
    std::vector<double> values(const std::string& name) const;     // any type
    std::vector<float> floats(const std::string& name) const;      // any type
    std::vector<int64_t> integers(const std::string& name) const;  // any integer type

    // The case's settings, by key or by JSON pointer ("/clip/width"). Error if it is missing or of
    // another type.
    double config(const std::string& key) const;
    double config(const std::string& key, double otherwise) const;
    int64_t size(const std::string& key) const;          // a whole number of 1 to a million
    std::string text(const std::string& key) const;      // a string; "" if there is none
    std::string metadata(const std::string& key) const;  // "" if there is none

    double info(const std::string& name, const std::string& key) const;  // of "info:NAME"; 0: none
    std::vector<int64_t> shape(const std::string& name) const;           // of the whole tensor
    // The reference's largest float32 error: recorded, or the difference of the two results; 0 if
    // the file says nothing.
    double own_error(const std::string& name) const;
    // The elements of `whole` that the file's slice of `name` has; all of them if it has no slice.
    std::vector<double> sliced(const std::string& name, const Tensor& whole) const;

    // `name` without .slice or .stats, e.g. "output.logits". Against the float64 result where there
    // is one, else the float32 one; all that is recorded is compared: values or slice, sums, norm.
    // Allowed: `factor` times the reference's own float32 error, and two roundings of the largest
    // value.
    Comparison compare(const std::string& name, const Tensor& ours,
                       double factor = kReferenceFactor) const;
    // How many integers differ. Error for another number of them.
    int64_t different(const std::string& name, const Tensor& ours) const;

  private:
    SafetensorsFile file_;
};

// "output.x" -> "output64.x"; empty for anything but an output.
std::string wide_name(const std::string& name);

}  // namespace mc::train
