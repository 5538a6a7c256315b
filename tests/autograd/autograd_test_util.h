// What autograd tests share: random values, the same values in other memory layouts, naive
// multi-dimensional arrays in f64, and one check of an operation's value and gradient.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "tests/error_of.h"

namespace mc::testing {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInf = std::numeric_limits<double>::infinity();

using Function = std::function<Var(const std::vector<Var>&)>;

inline Tensor random(const Shape& shape, uint64_t seed, double low = -1, double high = 1) {
    return Generator(seed).uniform(shape, low, high, DType::f64);
}

// Random, but at least `gap` away from zero: for functions with a kink there.
inline Tensor random_off_zero(const Shape& shape, uint64_t seed, double gap = 0.05) {
    Tensor t = random(shape, seed);
    for (int64_t i = 0; i < t.numel(); ++i) {
        double& x = t.data<double>()[i];
        x += x < 0 ? -gap : gap;
    }
    return t;
}

inline Tensor doubles(const std::vector<double>& values, const Shape& shape) {
    return Tensor::from_span<double>(values, shape);
}

inline std::vector<double> values_of(const Tensor& t) {
    return t.to(DType::f64).to_vector<double>();
}

// ---- The same values, laid out differently -----------------------------------------------------

// First and last dimension swapped in memory.
inline Tensor stored_transposed(const Tensor& t) {
    return t.dims() < 2 ? t : t.transpose(0, -1).contiguous().transpose(0, -1);
}

// The middle of a larger tensor of NaN: an offset, and gaps between the rows.
inline Tensor stored_in_larger(const Tensor& t) {
    if (t.dims() == 0) return t;
    Shape padded = t.shape();
    for (int i = 0; i < t.dims(); ++i) padded[i] += 2;
    Tensor view = Tensor::full(padded, kNan, t.dtype());
    for (int i = 0; i < t.dims(); ++i) view = view.slice(i, 1, t.size(i) + 1);
    StridedLoop loop;
    loop.dims = view.dims();
    for (int i = 0; i < view.dims(); ++i) {
        loop.size[i] = view.size(i);
        loop.stride_a[i] = view.strides()[i];
    }
    const Tensor source = t.contiguous();
    backend(DeviceType::cpu)
        .copy.scatter_strided(default_context(DeviceType::cpu), view.raw(), source.raw(), loop,
                              size_of(t.dtype()));
    return view;
}

// Every element of dimension 1 and on two apart: a stride of two in the last dimension.
inline Tensor stored_two_apart(const Tensor& t) {
    if (t.dims() == 0) return t;
    Shape pairs = t.shape();
    pairs.push_back(2);
    Tensor wide = Tensor::full(pairs, kNan, t.dtype());
    Tensor view = wide.slice(-1, 0, 1).squeeze(-1);
    const std::vector<double> values = t.to_vector<double>();
    for (size_t i = 0; i < values.size(); ++i) wide.data<double>()[2 * i] = values[i];
    return view;
}

// ---- Naive arrays ------------------------------------------------------------------------------

// Row-major doubles with a shape; at({i, j}) reads, a size of 1 broadcasts.
struct Array {
    Shape shape;
    std::vector<double> v;

    explicit Array(const Tensor& t) : shape(t.shape()), v(values_of(t)) {}
    explicit Array(const Shape& s) : shape(s), v(static_cast<size_t>(s.numel()), 0.0) {}

    size_t flat(const std::vector<int64_t>& index) const {
        const int shift = static_cast<int>(index.size()) - shape.size();
        int64_t at = 0;
        for (int d = 0; d < shape.size(); ++d)
            at = at * shape[d] + (shape[d] == 1 ? 0 : index[static_cast<size_t>(d + shift)]);
        return static_cast<size_t>(at);
    }
    double at(const std::vector<int64_t>& index) const { return v[flat(index)]; }
    double& at(const std::vector<int64_t>& index) { return v[flat(index)]; }
    Tensor tensor() const { return doubles(v, shape); }
};

// f(index) for every index of a shape, in row-major order.
template <class F>
void for_each_index(const Shape& shape, F&& f) {
    std::vector<int64_t> index(static_cast<size_t>(shape.size()), 0);
    for (int64_t n = shape.numel(); n > 0; --n) {
        f(index);
        for (int d = shape.size() - 1; d >= 0 && ++index[static_cast<size_t>(d)] == shape[d]; --d)
            index[static_cast<size_t>(d)] = 0;
    }
}

// An array of `shape` filled by f(index).
template <class F>
Array filled(const Shape& shape, F&& f) {
    Array out(shape);
    for_each_index(shape, [&](const std::vector<int64_t>& index) { out.at(index) = f(index); });
    return out;
}

// ---- Checks ------------------------------------------------------------------------------------

// Every element within `relative` of the largest expected one (or of 1): the error of sums grows
// with their terms, not with the result.
inline void check_near(const Tensor& got, const Array& want, double relative,
                       const std::string& what) {
    CAPTURE(what);
    REQUIRE(got.shape().str() == want.shape.str());
    const std::vector<double> values = values_of(got);
    double scale = 1;
    for (double w : want.v)
        if (std::isfinite(w)) scale = std::max(scale, std::abs(w));
    for (size_t i = 0; i < values.size(); ++i)
        if (!(std::abs(values[i] - want.v[i]) <= relative * scale || values[i] == want.v[i] ||
              (std::isnan(values[i]) && std::isnan(want.v[i])))) {
            FAIL_CHECK(what << ": element " << i << " is " << values[i] << ", want " << want.v[i]);
            return;
        }
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
    if (a.defined() != b.defined()) return false;
    if (!a.defined()) return true;
    const Tensor u = a.contiguous(), v = b.contiguous();
    return u.shape() == v.shape() && u.dtype() == v.dtype() &&
           std::memcmp(u.raw(), v.raw(), static_cast<size_t>(u.numel()) * size_of(u.dtype())) == 0;
}

// The gradients of sum(v * f(inputs)) for a fixed v, one for each input.
inline std::vector<Tensor> gradients_of(const std::vector<Tensor>& inputs, const Function& f,
                                        const Tensor& v) {
    std::vector<Var> vars;
    for (const Tensor& input : inputs) vars.emplace_back(input, requires_grad);
    Tape tape;
    {
        Tape::Recording recording(tape);
        const Var y = f(vars);
        if (y.has_grad_slot()) tape.backward(y, v.to(y.dtype()).clone());
    }
    std::vector<Tensor> gradients;
    for (size_t i = 0; i < vars.size(); ++i)
        gradients.push_back(vars[i].grad().defined()
                                ? vars[i].grad()
                                : Tensor::zeros(inputs[i].shape(), inputs[i].dtype()));
    return gradients;
}

// An operation's value against `want` in f64 and f32, its gradient in f64 against differences and
// in f32 against f64; all of it for the inputs as they are and in three other layouts.
inline void check_op(const char* name, const std::vector<Tensor>& inputs, const Function& f,
                     const Array& want, double f32_tolerance = 2e-6) {
    const std::vector<std::pair<const char*, Tensor (*)(const Tensor&)>> layouts{
        {"contiguous", [](const Tensor& t) { return t; }},
        {"transposed", stored_transposed},
        {"in a larger one", stored_in_larger},
        {"two apart", stored_two_apart}};
    for (auto& [layout, laid_out] : layouts) {
        std::vector<Tensor> given;
        std::vector<Var> vars;
        for (const Tensor& input : inputs) given.push_back(laid_out(input));
        for (const Tensor& input : given) vars.emplace_back(input);
        const std::string what = std::string(name) + ", " + layout;
        check_near(f(vars).value(), want, 1e-12, what);
        CHECK_NOTHROW(gradcheck(what.c_str(), given, f));
    }
    std::vector<Tensor> singles;
    std::vector<Var> vars;
    for (const Tensor& input : inputs) {
        singles.push_back(input.to(DType::f32));
        vars.emplace_back(singles.back());
    }
    const Tensor y = f(vars).value();
    CHECK(y.dtype() == DType::f32);
    check_near(y, want, f32_tolerance, std::string(name) + ", f32");
    const Tensor v = random(want.shape, 77);
    const std::vector<Tensor> g32 = gradients_of(singles, f, v), g64 = gradients_of(inputs, f, v);
    for (size_t i = 0; i < inputs.size(); ++i)
        check_near(g32[i], Array(g64[i]), 4 * f32_tolerance,
                   std::string(name) + ", f32 gradient of input " + std::to_string(i));
}

// The error names all the parts (operation, shapes).
#define CHECK_ERROR(statement, ...)                                         \
    do {                                                                    \
        const std::string text = mc::testing::error_of([&] { statement; }); \
        for (const char* wanted : {__VA_ARGS__}) {                          \
            const std::string part = wanted;                                \
            CAPTURE(text);                                                  \
            CAPTURE(part);                                                  \
            CHECK(mc::testing::contains(text, part));                       \
        }                                                                   \
    } while (false)

}  // namespace mc::testing
