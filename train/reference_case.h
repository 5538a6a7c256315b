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

struct Comparison {
    std::string name;
    double gap = 0, allowed = 0;  // the largest deviation of `worst`, and what is allowed of it
    std::string worst = "value";  // or, where that fails: sum, sum of magnitudes, L2 norm
    bool fits() const { return gap <= allowed; }
    std::string text() const;  // one line
};

class ReferenceCase {
  public:
    explicit ReferenceCase(const std::filesystem::path& path) : file_(path) {}

    const SafetensorsFile& file() const { return file_; }
    bool has(const std::string& name) const { return file_.find(name) != nullptr; }
    Tensor get(const std::string& name) const { return file_.get(name); }
    std::vector<double> values(const std::string& name) const;     // any type
    std::vector<float> floats(const std::string& name) const;      // any type
    std::vector<int64_t> integers(const std::string& name) const;  // any integer type
    double config(const std::string& key) const;  // a number of the case's settings
    double info(const std::string& name, const std::string& key) const;  // of "info:NAME"

    // `name` without .slice or .stats, e.g. "output.logits". Against the float64 result where there
    // is one, else the float32 one; all that is recorded is compared: values or slice, sums, norm.
    // Allowed: `factor` times the reference's own float32 error, and two roundings of the largest
    // value.
    Comparison compare(const std::string& name, const Tensor& ours, double factor = 8) const;
    // How many integers differ. Error for another number of them.
    int64_t different(const std::string& name, const Tensor& ours) const;

  private:
    SafetensorsFile file_;
};

}  // namespace mc::train
