#include "tensor/tensor.h"

#include "kernels/convert.h"
#include "tensor/allocator.h"

namespace mc {

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
    const int dims = std::max(a.size(), b.size());
    Shape out;
    for (int i = 0; i < dims; ++i) {
        const int ia = i - (dims - a.size()), ib = i - (dims - b.size());
        const int64_t na = ia < 0 ? 1 : a[ia], nb = ib < 0 ? 1 : b[ib];
        if (na != nb && na != 1 && nb != 1)
            throw Error(std::string("[") + op + "] shapes " + a.str() + " and " + b.str() +
                        " do not broadcast");
        out.push_back(na == 1 ? nb : na);
    }
    return out;
}

Storage::Storage(size_t n, DeviceType where) : bytes(n), device(where) {
    data = static_cast<std::byte*>(allocate(where, n));
}

Storage::Storage(const void* borrowed, size_t n, std::shared_ptr<const void> keeper)
    : data(const_cast<std::byte*>(static_cast<const std::byte*>(borrowed))),
      bytes(n),
      owner(std::move(keeper)) {}

Storage::~Storage() {
    if (!owner) release(device, data, bytes);
}

namespace {

Shape row_major_strides(const Shape& shape) {
    Shape strides = shape;
    int64_t step = 1;
    for (int i = shape.size() - 1; i >= 0; --i) {
        strides[i] = step;
        step *= shape[i];
    }
    return strides;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, DeviceType device) {
    int64_t bytes = static_cast<int64_t>(size_of(dtype));
    bool overflow = false;
    for (int64_t n : shape) {
        if (n < 0) throw Error("[tensor] negative size in shape " + shape.str());
        overflow |= __builtin_mul_overflow(bytes, n, &bytes);
    }
    if (overflow) throw Error("[tensor] shape " + shape.str() + " is larger than any memory");
    Tensor t;
    t.shape_ = shape;
    t.strides_ = row_major_strides(shape);
    t.dtype_ = dtype;
    t.storage_ = std::make_shared<Storage>(static_cast<size_t>(bytes), device);
    return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, DeviceType device) {
    Tensor t = empty(shape, dtype, device);
    backend(device).memory.zero(default_context(device), t.raw_ptr(), t.storage_->bytes);
    return t;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, DeviceType device) {
    Tensor t = empty(shape, dtype, device);
    t.fill_(value);
    return t;
}

Tensor Tensor::borrow(const void* data, const Shape& shape, DType dtype,
                      std::shared_ptr<const void> owner) {
    Tensor t;
    t.shape_ = shape;
    t.strides_ = row_major_strides(shape);
    t.dtype_ = dtype;
    t.storage_ = std::make_shared<Storage>(
        data, static_cast<size_t>(shape.numel()) * size_of(dtype), std::move(owner));
    return t;
}

Tensor Tensor::from_bools(const std::vector<uint8_t>& values, const Shape& shape) {
    Tensor t = empty(shape, DType::boolean);
    if (static_cast<int64_t>(values.size()) != shape.numel())
        throw Error("[tensor] " + std::to_string(values.size()) + " values for shape " +
                    shape.str());
    for (size_t i = 0; i < values.size(); ++i) t.data<bool>()[i] = values[i] != 0;
    return t;
}

void Tensor::throw_dtype(DType wanted) const {
    throw Error(std::string("[tensor] data asked as ") + name_of(wanted) + " but the tensor is " +
                name_of(dtype_) + " " + shape_.str());
}

void Tensor::throw_device() const {
    throw Error(std::string("[tensor] ") + name_of(dtype_) + " " + shape_.str() + " is on " +
                name_of(device()) + "; copy it to the program's memory with cpu()");
}

int Tensor::wrap(int dim) const {
    const int wrapped = dim < 0 ? dim + dims() : dim;
    if (wrapped < 0 || wrapped >= dims())
        throw Error("[tensor] dimension " + std::to_string(dim) + " of shape " + shape_.str());
    return wrapped;
}

bool Tensor::is_contiguous() const {
    int64_t step = 1;
    for (int i = dims() - 1; i >= 0; --i) {
        if (shape_[i] != 1 && strides_[i] != step) return false;
        step *= shape_[i];
    }
    return true;
}

Tensor Tensor::contiguous() const {
    return is_contiguous() ? *this : clone();
}

Tensor Tensor::clone() const {
    Tensor out = empty(shape_, dtype_, device());
    if (numel() == 0) return out;
    if (is_contiguous()) {
        backend(device()).memory.copy(default_context(device()), out.raw_ptr(), raw_ptr(),
                                      out.storage_->bytes);
        return out;
    }
    StridedLoop loop;
    loop.dims = dims();
    for (int i = 0; i < dims(); ++i) {
        loop.size[i] = shape_[i];
        loop.stride_a[i] = strides_[i];
    }
    backend(device()).copy.gather_strided(default_context(device()), out.raw_ptr(), raw_ptr(), loop,
                                          size_of(dtype_));
    return out;
}

Tensor Tensor::to(DType dtype) const {
    if (dtype == dtype_) return *this;
    const Tensor source = contiguous();
    Tensor out = empty(shape_, dtype, device());
    backend(device()).copy.cast(default_context(device()), out.raw_ptr(), dtype, source.raw_ptr(),
                                dtype_, numel());
    return out;
}

namespace {

// Contiguous tensors of one dtype and size.
void copy_across(const Tensor& to, const Tensor& from) {
    const size_t bytes = static_cast<size_t>(from.numel()) * size_of(from.dtype());
    const bool up = from.device() == DeviceType::cpu, down = to.device() == DeviceType::cpu;
    const DeviceType device = up ? to.device() : from.device();
    const MemoryKernels& memory = backend(device).memory;
    const auto& kernel = up ? memory.upload : down ? memory.download : memory.copy;
    kernel(default_context(device), to.raw_ptr(), from.raw_ptr(), bytes);
}

}  // namespace

Tensor Tensor::to(DeviceType device) const {
    if (device == this->device()) return *this;
    const Tensor source = contiguous(), out = empty(shape_, dtype_, device);
    copy_across(out, source);
    return out;
}

Tensor Tensor::reshape(const Shape& wanted) const {
    Shape shape = wanted;
    int64_t known = 1;
    int open = -1;
    bool fits = true;
    for (int i = 0; i < shape.size(); ++i) {
        if (shape[i] == -1 && open < 0)
            open = i;
        else if (shape[i] < 0 || __builtin_mul_overflow(known, shape[i], &known))
            fits = false;
    }
    if (open >= 0) {  // beside a 0 any size would do: none is chosen
        fits = fits && known > 0;
        shape[open] = fits ? numel() / known : 0;
    }
    if (!fits || shape.numel() != numel())
        throw Error("[reshape] got " + shape_.str() + ", which does not fill " + wanted.str());
    Tensor out = contiguous();
    out.shape_ = shape;
    out.strides_ = row_major_strides(shape);
    return out;
}

Tensor Tensor::transpose(int a, int b) const {
    a = wrap(a);
    b = wrap(b);
    Tensor out = *this;
    std::swap(out.shape_[a], out.shape_[b]);
    std::swap(out.strides_[a], out.strides_[b]);
    return out;
}

Tensor Tensor::permute(std::initializer_list<int> order) const {
    if (static_cast<int>(order.size()) != dims())
        throw Error("[permute] " + std::to_string(order.size()) + " positions for shape " +
                    shape_.str());
    Tensor out = *this;
    int i = 0;
    unsigned seen = 0;
    for (int from : order) {
        from = wrap(from);
        if (seen & (1u << from))
            throw Error("[permute] a dimension stands twice for shape " + shape_.str());
        seen |= 1u << from;
        out.shape_[i] = shape_[from];
        out.strides_[i++] = strides_[from];
    }
    return out;
}

Tensor Tensor::slice(int dim, int64_t begin, int64_t end) const {
    dim = wrap(dim);
    const int64_t n = shape_[dim];
    if (begin < 0) begin += n;
    if (end < 0) end += n;
    if (begin < 0 || end > n || begin > end)
        throw Error("[slice] [" + std::to_string(begin) + ", " + std::to_string(end) +
                    ") of dimension " + std::to_string(dim) + " of shape " + shape_.str());
    Tensor out = *this;
    out.shape_[dim] = end - begin;
    out.offset_ += begin * strides_[dim];
    return out;
}

Tensor Tensor::expand(const Shape& wanted) const {
    if (wanted.size() < dims()) throw Error("[expand] " + shape_.str() + " to " + wanted.str());
    Tensor out = *this;
    out.shape_ = wanted;
    out.strides_ = wanted;
    const int shift = wanted.size() - dims();
    for (int i = 0; i < wanted.size(); ++i) {
        const int64_t own = i < shift ? 1 : shape_[i - shift];
        const int64_t want = wanted[i] == -1 ? own : wanted[i];
        if (want < 0 || (own != want && own != 1))
            throw Error("[expand] " + shape_.str() + " to " + wanted.str());
        out.shape_[i] = want;
        out.strides_[i] = (i < shift || (own == 1 && want != 1)) ? 0 : strides_[i - shift];
    }
    return out;
}

Tensor Tensor::unsqueeze(int dim) const {
    const int at = dim < 0 ? dim + dims() + 1 : dim;
    if (at < 0 || at > dims())
        throw Error("[unsqueeze] dimension " + std::to_string(dim) + " of " + shape_.str());
    Tensor out = *this;
    out.shape_ = out.strides_ = Shape();
    for (int i = 0; i <= dims(); ++i) {
        if (i == at) {
            out.shape_.push_back(1);
            out.strides_.push_back(1);
        }
        if (i < dims()) {
            out.shape_.push_back(shape_[i]);
            out.strides_.push_back(strides_[i]);
        }
    }
    return out;
}

Tensor Tensor::squeeze(int dim) const {
    dim = wrap(dim);
    if (shape_[dim] != 1)
        throw Error("[squeeze] dimension " + std::to_string(dim) + " of " + shape_.str());
    Tensor out = *this;
    out.shape_ = out.strides_ = Shape();
    for (int i = 0; i < dims(); ++i) {
        if (i == dim) continue;
        out.shape_.push_back(shape_[i]);
        out.strides_.push_back(strides_[i]);
    }
    return out;
}

void Tensor::fill_(double value) const {
    if (!is_contiguous()) throw Error("[fill_] the tensor " + shape_.str() + " is not contiguous");
    bump_version();
    const int64_t n = numel();
    Backend& on = backend(device());
    Context& context = default_context(device());
    if (dtype_ == DType::f32)
        return on.f32.fill(context, ptr<float>(), static_cast<float>(value), n);
    if (dtype_ == DType::f64) return on.f64.fill(context, ptr<double>(), value, n);
    if (device() != DeviceType::cpu) return copy_across(*this, full(shape_, value, dtype_));
    with_type(dtype_, [&](auto zero) {
        using E = decltype(zero);
        std::fill_n(reinterpret_cast<E*>(raw()), n, convert<E>(value));
    });
}

void Tensor::copy_(const Tensor& source) const {
    if (!is_contiguous())
        throw Error("[copy_] the destination " + shape_.str() + " is not contiguous");
    if (!(source.shape() == shape_))
        throw Error("[copy_] got " + source.shape().str() + ", want " + shape_.str());
    const Tensor from = source.to(dtype_).contiguous();
    bump_version();
    copy_across(*this, from);
}

StridedLoop broadcast_loop(const Shape& out, const Tensor& a, const Tensor& b) {
    StridedLoop loop;
    loop.dims = out.size();
    auto stride = [&](const Tensor& t, int i) -> int64_t {
        const int at = i - (out.size() - t.dims());
        return at < 0 || (t.shape()[at] == 1 && out[i] != 1) ? 0 : t.strides()[at];
    };
    for (int i = 0; i < out.size(); ++i) {
        loop.size[i] = out[i];
        loop.stride_a[i] = stride(a, i);
        loop.stride_b[i] = stride(b, i);
    }
    return loop;
}

}  // namespace mc
