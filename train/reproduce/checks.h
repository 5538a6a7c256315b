// What the runners of recorded cases share: inputs and draws by the rules of the cases' README,
// weights, and comparisons, each of which becomes a row of the table that ./reproduce prints.
//
//     Checks checks(recorded, DeviceType::cpu);
//     checks.fill(model);
//     checks.compare("output.logits", model.logits(checks.input("input.ids")).value());
//     checks.same("output.final_ids", ids);
//     for (const CheckRow& row : checks.rows()) ...
#pragma once

#include "nn/module.h"
#include "train/reference_case.h"
#include "train/reference_weights.h"

namespace mc::train {

enum class Verdict { ok, failed, skipped };

// One comparison. Numbers: the worst errors against what is allowed. Exact: how many differ.
struct CheckRow {
    std::string tensor;           // as recorded, e.g. "output.logits"
    std::string worst = "value";  // what was worst: value, sum, sum of magnitudes, L2 norm
    bool exact = false;
    double absolute = 0, relative = 0;  // the worst error; relative to the largest magnitude
    double reference = 0;               // the reference's own f32 error
    double factor = kReferenceFactor;   // allowed = factor * reference + two roundings
    double allowed = 0;
    int64_t different = 0, count = 0;
    Verdict verdict = Verdict::ok;
    std::string note;  // why it failed or was skipped
};

class Checks {
  public:
    explicit Checks(const ReferenceCase& recorded, DeviceType device = DeviceType::cpu)
        : recorded_(recorded), device_(device) {}

    const ReferenceCase& recorded() const { return recorded_; }
    DeviceType device() const { return device_; }  // where the models compute
    const std::vector<CheckRow>& rows() const { return rows_; }
    bool wants(const std::string& name) const { return recorded_.recorded(name); }

    // The weights of a model that was just made, from their names (reference_weights.h); then it
    // goes to the device.
    void fill(nn::Module& model, const std::string& prefix = "") const;
    // An input, on the CPU: the stored tensor, else made by its "fill:" line ("hash:KEY;s*1.5",
    // "hash:KEY;floor(u*N)+lo") in the given shape.
    Tensor input(const std::string& name, const Shape& shape = {}) const;
    std::vector<int64_t> lengths(const std::string& name) const;  // each at least 1
    // The recorded run's draws by our names: the prefix that the case's note gives comes before
    // `key(name)` (the name itself without `key`).
    HashUniforms draws(std::function<std::string(const std::string&)> key = {}) const;

    // The modes that the case ran: what stands between "output." and ".`last`".
    std::vector<std::string> modes(const std::string& last) const;
    // The number that the case's note gives after `key` ("cond_drop_prob "), else `otherwise`.
    double noted(const std::string& key, double otherwise) const;

    // Numbers, on any device. A shape that does not fit, or a tensor that cannot be read, is a
    // failed row. Nothing happens where the case has no such tensor.
    void compare(const std::string& name, const Tensor& ours, double factor = kReferenceFactor);
    void compare(const std::string& name, double ours);
    // Values against values, under a name of its own; `names` counts as compared.
    void compare_values(const std::string& label, const std::vector<std::string>& names,
                        const std::vector<double>& ours, const std::vector<double>& want,
                        double reference, double factor = kReferenceFactor);
    // A recorded table (steps, columns) against ours, column by column: each has its own error.
    void compare_columns(const std::string& name, const std::vector<std::string>& columns,
                         const std::vector<double>& ours);
    // Gradients of the parameters, PREFIX + name, times `scale`.
    void gradients(const std::string& prefix, nn::Module& model, double scale = 1);
    // Integers, token sequences: every element. `where` (may be empty) says which elements count.
    void same(const std::string& name, const Tensor& ours, const std::vector<bool>& where = {});
    void same(const std::string& name, const std::vector<int64_t>& ours,
              const std::vector<bool>& where = {});
    void same_bits(const std::string& name, const std::vector<float>& ours);
    void skip(const std::string& name, const std::string& why);
    void fail(const std::string& name, const std::string& why);

    // The stored inputs that have a "fill:" line are what the line says, to the bit.
    void check_fills();
    // A skipped row for every recorded output or gradient that no comparison asked for.
    void finish();

  private:
    CheckRow& add(const std::string& name);
    std::string prefix() const;

    const ReferenceCase& recorded_;
    const DeviceType device_;
    std::vector<CheckRow> rows_;
    std::vector<std::string> compared_;
};

// (B, n, C) <-> (B, C, n): ours is channels last, the recordings have channels second.
Tensor turned(const Tensor& x);
// The largest of the last axis at every place before it, row-major.
std::vector<int64_t> likeliest(const Tensor& logits);
// A bool mask as zeros and ones. Attention masks turn over: recordings have ones for what may be
// attended, ours are true for what may not.
std::vector<int64_t> flags(const Tensor& mask);
std::vector<int64_t> attended(const Tensor& hidden);

}  // namespace mc::train
