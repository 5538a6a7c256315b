#include "autograd/gradcheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mc {
namespace {

constexpr double kStep = 1e-3;
constexpr double kRelative = 1e-6;
constexpr double kAbsolute = 1e-8;
constexpr int kDirections = 3;

using Values = std::vector<double>;
using Function = std::function<Var(const std::vector<Var>&)>;

std::string index_of(int64_t flat, const Shape& shape) {
    std::string s;
    for (int i = shape.size() - 1; i >= 0; --i) {
        s = std::to_string(flat % shape[i]) + (s.empty() ? "" : ", ") + s;
        flat /= shape[i];
    }
    return "(" + s + ")";
}

bool same_bits(const Tensor& a, const Tensor& b) {
    if (a.defined() != b.defined()) return false;
    if (!a.defined()) return true;
    if (!(a.shape() == b.shape())) return false;
    const Values u = a.to_vector<double>(), v = b.to_vector<double>();
    return u.empty() || std::memcmp(u.data(), v.data(), u.size() * sizeof(double)) == 0;
}

class Check {
  public:
    Check(const char* name, const std::vector<Tensor>& inputs, const Function& f)
        : name_(name), given_(inputs), f_(f) {
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (inputs[i].dtype() != DType::f64)
                throw Error(fmt::format("[gradcheck] {}: input {} is {}, want f64", name, i,
                                        name_of(inputs[i].dtype())));
            plain_.push_back(inputs[i].clone());
        }
        base_ = forward(plain_);
        if (base_.dtype() != DType::f64)
            throw Error(fmt::format("[gradcheck] {}: the output is {}, want f64", name,
                                    name_of(base_.dtype())));
        for (double y : base_.to_vector<double>()) largest_ = std::max(largest_, std::abs(y));
        if (!same_bits(base_, forward(plain_)))
            throw Error(fmt::format("[gradcheck] {}: two calls differ; does it draw?", name));
        if (!same_bits(base_, forward(given_)))
            throw Error(fmt::format(
                "[gradcheck] {}: strided inputs give another value than contiguous ones", name));
    }

    void run() {
        int64_t elements = 0;
        for (const Tensor& input : plain_) elements += input.numel();
        if (elements * base_.numel() <= kFullJacobian) full();
        Generator generator(20240229);
        for (int i = 0; i < kDirections; ++i) {
            const Tensor v = generator.uniform(base_.shape(), -1, 1, DType::f64);
            const std::vector<Tensor> gradients = backward(v);
            for (size_t input = 0; input < plain_.size(); ++input)
                direction(input, v, gradients[input], generator);
            if (i == 0) one_by_one(v, gradients);
        }
    }

  private:
    Tensor forward(const std::vector<Tensor>& inputs) const {
        Tape::Pause pause;
        return f_(std::vector<Var>(inputs.begin(), inputs.end())).value();
    }

    // v^T J for every input (undefined: none arrived); `only` >= 0: that one alone differentiated.
    std::vector<Tensor> backward(const Tensor& v, int only = -1) const {
        std::vector<Var> vars;
        for (size_t i = 0; i < given_.size(); ++i)
            vars.push_back(only < 0 || static_cast<size_t>(only) == i
                               ? Var(given_[i], requires_grad)
                               : Var(given_[i]));
        Tape tape;
        {
            Tape::Recording recording(tape);
            const Var y = f_(vars);
            if (!same_bits(y.value(), base_))
                throw Error(fmt::format("[gradcheck] {}: recording changes the value", name_));
            if (y.has_grad_slot()) tape.backward(y, v.clone());
        }
        std::vector<Tensor> gradients;
        for (const Var& var : vars) gradients.push_back(var.grad());
        return gradients;
    }

    // J u for one input by differences, u zero outside of it.
    Values differences(size_t input, const Values& u) const {
        std::vector<Tensor> moved = plain_;
        auto at = [&](double h) {
            moved[input] = plain_[input].clone();
            double* x = moved[input].data<double>();
            for (size_t i = 0; i < u.size(); ++i) x[i] += h * u[i];
            return forward(moved).to_vector<double>();
        };
        const Values p1 = at(kStep), m1 = at(-kStep), p2 = at(2 * kStep), m2 = at(-2 * kStep);
        Values d(p1.size());
        for (size_t i = 0; i < d.size(); ++i)
            d[i] = (8 * (p1[i] - m1[i]) - (p2[i] - m2[i])) / (12 * kStep);
        return d;
    }

    static Values values_or_zeros(const Tensor& gradient, int64_t n) {
        return gradient.defined() ? gradient.to_vector<double>()
                                  : Values(static_cast<size_t>(n), 0.0);
    }

    // False for NaN.
    bool agree(double analytic, double numeric, double scale) const {
        return std::abs(analytic - numeric) <= kRelative * scale + kAbsolute * (1 + largest_);
    }

    [[noreturn]] void fail(size_t input, const std::string& where, double analytic,
                           double numeric) const {
        throw Error(fmt::format(
            "[gradcheck] {}: input {} of shape {}, {}: backward says {:.12g}, differences {:.12g}",
            name_, input, plain_[input].shape().str(), where, analytic, numeric));
    }

    void full() const {
        const int64_t outputs = base_.numel();
        std::vector<std::vector<Values>> analytic;  // [output][input][element]
        for (int64_t o = 0; o < outputs; ++o) {
            Tensor one = Tensor::zeros(base_.shape(), DType::f64);
            one.data<double>()[o] = 1;
            const std::vector<Tensor> gradients = backward(one);
            std::vector<Values> row;
            for (size_t i = 0; i < gradients.size(); ++i)
                row.push_back(values_or_zeros(gradients[i], plain_[i].numel()));
            analytic.push_back(std::move(row));
        }
        for (size_t i = 0; i < plain_.size(); ++i) {
            for (int64_t e = 0; e < plain_[i].numel(); ++e) {
                Values u(static_cast<size_t>(plain_[i].numel()), 0.0);
                u[static_cast<size_t>(e)] = 1;
                const Values column = differences(i, u);
                for (size_t o = 0; o < column.size(); ++o) {
                    const double a = analytic[o][i][static_cast<size_t>(e)], n = column[o];
                    if (!agree(a, n, std::max(std::abs(a), std::abs(n))))
                        fail(i,
                             "element " + index_of(e, plain_[i].shape()) + ", output element " +
                                 index_of(static_cast<int64_t>(o), base_.shape()),
                             a, n);
                }
            }
        }
    }

    // v^T J u. The scale is the norm of the terms: what their rounding errors grow with.
    void direction(size_t input, const Tensor& v, const Tensor& gradient,
                   Generator& generator) const {
        const int64_t n = plain_[input].numel();
        const Values u = generator.uniform({n}, -1, 1, DType::f64).to_vector<double>();
        const Values g = values_or_zeros(gradient, n), d = differences(input, u),
                     weight = v.to_vector<double>();
        double analytic = 0, numeric = 0, squares = 0;
        size_t worst = 0;
        for (size_t i = 0; i < u.size(); ++i) {
            analytic += u[i] * g[i];
            squares += u[i] * g[i] * u[i] * g[i];
            if (std::abs(u[i] * g[i]) > std::abs(u[worst] * g[worst])) worst = i;
        }
        for (size_t i = 0; i < d.size(); ++i) {
            numeric += weight[i] * d[i];
            squares += weight[i] * d[i] * weight[i] * d[i];
        }
        if (!agree(analytic, numeric, std::sqrt(squares)))
            fail(input,
                 "random direction, largest at element " +
                     index_of(static_cast<int64_t>(worst), plain_[input].shape()),
                 analytic, numeric);
    }

    void one_by_one(const Tensor& v, const std::vector<Tensor>& together) const {
        if (given_.size() < 2) return;
        for (size_t i = 0; i < given_.size(); ++i)
            if (!same_bits(backward(v, static_cast<int>(i))[i], together[i]))
                throw Error(fmt::format(
                    "[gradcheck] {}: input {} has another gradient when it alone is differentiated",
                    name_, i));
    }

    const char* name_;
    std::vector<Tensor> given_, plain_;  // as given; contiguous copies
    const Function& f_;
    Tensor base_;  // f of the inputs
    double largest_ = 0;
};

}  // namespace

void gradcheck(const char* name, const std::vector<Tensor>& inputs, const Function& f) {
    Check(name, inputs, f).run();
}

}  // namespace mc
