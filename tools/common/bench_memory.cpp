#include <algorithm>
#include <cmath>
#include <tuple>

#include "kernels/backend.h"
#include "kernels/cpu/bench_ceilings.h"
#include "tools/common/bench_problem.h"

namespace mc {
namespace {

using Ready = BenchProblem::Ready;

constexpr int64_t kCols = 384;

// Arrays of (rows, kCols), of a row's or of a column's length, made as they are asked for.
template <class T>
class Arrays {
  public:
    Arrays(DeviceType device, int64_t rows) : device_(device), rows_(rows) {}

    T* random(int64_t n) { return keep(bench_values<T>(device_, n, arrays_.size())); }
    T* random() { return random(rows_ * kCols); }
    T* positive() {
        const Tensor x = bench_values<T>(DeviceType::cpu, rows_ * kCols, arrays_.size());
        for (int64_t i = 0; i < x.numel(); ++i) x.data<T>()[i] = std::abs(x.data<T>()[i]);
        return keep(x.to(device_));
    }
    // What a kernel writes; to be compared.
    T* output(int64_t n) {
        outputs_.push_back(Tensor::zeros({n}, DTypeOf<T>::value, device_));
        return keep(outputs_.back());
    }
    T* output() { return output(rows_ * kCols); }
    T* changed() {  // what it reads and writes
        T* array = positive();
        outputs_.push_back(arrays_.back());
        return array;
    }
    double* output_f64(int64_t n) {
        outputs_.push_back(Tensor::zeros({n}, DType::f64, device_));
        return outputs_.back().template ptr<double>();
    }
    void* output_f16() {
        outputs_.push_back(Tensor::zeros({rows_ * kCols}, DType::f16, device_));
        return outputs_.back().raw_ptr();
    }
    // An id a row, less than `below`.
    const int64_t* ids(int64_t below) {
        std::vector<int64_t> ids(static_cast<size_t>(rows_));
        for (size_t r = 0; r < ids.size(); ++r) ids[r] = static_cast<int64_t>(r) * 7919 % below;
        arrays_.push_back(Tensor::from_ids(ids, {rows_}).to(device_));
        return arrays_.back().template ptr<int64_t>();
    }

    template <class Run>
    Ready ready(Run run) const {
        return {[run, keep = arrays_, outputs = outputs_](Context& context) { run(context); },
                outputs_};
    }

  private:
    T* keep(const Tensor& x) {
        arrays_.push_back(x);
        return x.ptr<T>();
    }

    DeviceType device_;
    int64_t rows_;
    std::vector<Tensor> arrays_, outputs_;
};

StridedLoop flat(int64_t n) {
    StridedLoop loop;
    loop.dims = 1;
    loop.size[0] = n;
    loop.stride_a[0] = loop.stride_b[0] = 1;
    return loop;
}

StridedLoop transposed(int64_t rows) {
    StridedLoop loop;
    loop.dims = 2;
    loop.size[0] = kCols;
    loop.size[1] = rows;
    loop.stride_a[0] = 1;
    loop.stride_a[1] = kCols;
    return loop;
}

}  // namespace

int64_t bench_memory_rows(DeviceType device) {
    const int64_t row = kCols * static_cast<int64_t>(sizeof(float));
    return device == DeviceType::cpu ? beyond_caches() / row : 262144;
}

void add_memory_problems(std::vector<BenchProblem>& list, int64_t rows) {
    const int64_t n = rows * kCols;
    // `streams` arrays of n elements are read or written. make(arrays, kernels, device) -> what to
    // run.
    const auto add = [&](const std::string& name, double streams, double terms, auto make) {
        list.push_back(bench_problem(
            name, 0, 4 * streams * static_cast<double>(n), terms, [=](auto t, DeviceType device) {
                using T = decltype(t);
                Arrays<T> arrays(device, rows);
                const auto run = make(arrays, backend(device).table<T>(), device);
                return arrays.ready(run);
            }));
    };
    add("binary add", 3, 1, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), z = a.random(), y = a.output()](Context& c) {
            k.binary(c, BinaryOp::add, y, x, z, flat(n));
        };
    });
    for (const auto& [name, op] : {std::pair{"gelu", UnaryOp::gelu}, {"tanh", UnaryOp::tanh}}) {
        add(std::string("unary ") + name, 2, 1, [=, op = op](auto& a, auto& k, DeviceType) {
            return
                [=, &k, x = a.random(), y = a.output()](Context& c) { k.unary(c, op, 0, y, x, n); };
        });
        add(std::string("unary_backward ") + name, 3, 1,
            [=, op = op](auto& a, auto& k, DeviceType) {
                return [=, &k, dy = a.random(), x = a.random(), dx = a.output()](Context& c) {
                    k.unary_backward(c, op, 0, dx, dy, x, n);
                };
            });
    }
    add("dropout", 2, 1, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), y = a.output()](Context& c) {
            k.dropout(c, y, x, 0.1, {1, 2}, n);
        };
    });
    // A feed-forward layer's, with its bias's gradient.
    add("epilogue_backward gelu, dropout", 3, static_cast<double>(rows),
        [=](auto& a, auto& k, DeviceType) {
            return [=, &k, dy = a.random(), z = a.random(), dz = a.output(),
                    dbias = a.output(kCols)](Context& c) {
                k.epilogue_backward(c,
                                    {dz, dbias, dy, z, UnaryOp::gelu, 0, 0.1, {1, 2}, rows, kCols});
            };
        });
    add("layer_norm", 2, kCols, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), weight = a.random(kCols), bias = a.random(kCols),
                y = a.output(), mean = a.output(rows), rstd = a.output(rows)](Context& c) {
            k.layer_norm(c, {y, mean, rstd, nullptr, x, nullptr, weight, bias, rows, kCols, 1e-5});
        };
    });
    add("layer_norm residual", 4, kCols, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), residual = a.random(), weight = a.random(kCols),
                bias = a.random(kCols), y = a.output(), sum = a.output(), mean = a.output(rows),
                rstd = a.output(rows)](Context& c) {
            k.layer_norm(c, {y, mean, rstd, sum, x, residual, weight, bias, rows, kCols, 1e-5});
        };
    });
    add("layer_norm_backward", 3, static_cast<double>(rows), [=](auto& a, auto& k, DeviceType) {
        return [=, &k, dy = a.random(), x = a.random(), mean = a.random(rows),
                rstd = a.random(rows), weight = a.random(kCols), dx = a.output(),
                dweight = a.output(kCols), dbias = a.output(kCols)](Context& c) {
            k.layer_norm_backward(c, {dx, dweight, dbias, dy, x, mean, rstd, weight, rows, kCols});
        };
    });
    // Channels of kFrames frames each, as the tokenizers' encoders have them. Counted as if each
    // input were read once, as for layer norm; the CPU's kernels go over them twice, statistics
    // first.
    constexpr int64_t kFrames = 64, kGroups = 32;
    const int64_t batch = std::max(int64_t{1}, rows / kFrames);
    for (const bool groups : {true, false}) {
        const std::string name = groups ? "group_norm" : "batch_norm";
        const int64_t sets = groups ? batch * kGroups : kCols;
        const double terms =
            static_cast<double>(groups ? kCols / kGroups * kFrames : batch * kFrames);
        add(name, 2, terms, [=](auto& a, auto& k, DeviceType) {
            using Kernels = std::decay_t<decltype(k)>;
            const typename Kernels::ChannelNormArgs args{
                a.output(),      a.output(sets), a.output(sets), a.random(), a.random(kCols),
                a.random(kCols), batch,          kCols,          kFrames,    1e-5};
            auto *mean = a.output(kCols), *var = a.output(kCols);
            return [=, &k](Context& c) {
                if (groups)
                    k.group_norm(c, {args, kGroups});
                else
                    k.batch_norm(c, {args, mean, var, nullptr, 0.1, true});
            };
        });
        add(name + "_backward", 3, terms, [=](auto& a, auto& k, DeviceType) {
            const typename std::decay_t<decltype(k)>::ChannelNormBackwardArgs args{
                a.output(), a.output(kCols), a.output(kCols), a.random(),
                a.random(), a.random(sets),  a.random(sets),  a.random(kCols),
                batch,      kCols,           kFrames};
            return [=, &k](Context& c) {
                if (groups)
                    k.group_norm_backward(c, args, kGroups);
                else
                    k.batch_norm_backward(c, args, true);
            };
        });
    }
    add("cumsum over frames", 2, kFrames, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), y = a.output()](Context& c) {
            k.cumsum(c, y, x, batch, kFrames, kCols, false);
        };
    });
    add("softmax", 2, kCols, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), y = a.output()](Context& c) {
            k.softmax(c, y, x, rows, kCols);
        };
    });
    add("softmax_backward", 3, kCols, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, dy = a.random(), y = a.random(), dx = a.output()](Context& c) {
            k.softmax_backward(c, dx, dy, y, rows, kCols);
        };
    });
    add("cross_entropy", 1, kCols, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), label = a.ids(kCols), loss = a.output(rows),
                lse = a.output(rows)](Context& c) {
            k.cross_entropy(c, {loss, lse, x, label, rows, kCols, -1, 0.1});
        };
    });
    add("sum of columns", 1, static_cast<double>(rows), [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), y = a.output(kCols)](Context& c) {
            k.sum(c, y, x, 1, 1, rows, kCols);
        };
    });
    add("sum_of_squares", 1, static_cast<double>(n), [=](auto& a, auto& k, DeviceType) {
        return [=, &k, x = a.random(), sum = a.output_f64(1)](Context& c) {
            const typename std::decay_t<decltype(k)>::Array array{x, n};
            k.sum_of_squares(c, sum, &array, 1);
        };
    });
    // One array; and a model's worth of parameters of a layer's size, in one call.
    constexpr int64_t kLayer = kCols * kCols;
    const int64_t layers = std::max(int64_t{1}, std::min(n / kLayer, int64_t{200}));
    for (const auto& [name, count, size] :
         {std::tuple{std::string("adamw"), int64_t{1}, n},
          {"adamw of " + std::to_string(layers), layers, std::min(n, kLayer)}})
        add(name, 7 * static_cast<double>(count * size) / static_cast<double>(n), 1,
            [=, count = count, size = size](auto& a, auto& k, DeviceType) {
                using Item = typename std::decay_t<decltype(k)>::AdamWItem;
                auto *param = a.changed(), *m = a.changed(), *v = a.changed();
                const auto* grad = a.random();
                std::vector<Item> items;
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t at = i * size;
                    items.push_back({param + at, m + at, v + at, grad + at, size, 1e-3, 0.01, 9});
                }
                return [=, &k](Context& c) {
                    k.adamw(c, {items.data(), count, 0.9, 0.99, 1e-8, 1});
                };
            });
    add("gather_rows", 2, 1, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, table = a.random(), id = a.ids(rows), y = a.output()](Context& c) {
            k.gather_rows(c, y, table, id, rows, kCols);
        };
    });
    add("uniform", 1, 1, [=](auto& a, auto& k, DeviceType) {
        return [=, &k, y = a.output()](Context& c) { k.uniform(c, y, -1, 1, {1, 2}, n); };
    });
    add("gather_strided transpose", 2, 1, [=](auto& a, auto&, DeviceType device) {
        auto* y = a.output();
        return [=, x = a.random(), &copy = backend(device).copy](Context& c) {
            copy.gather_strided(c, y, x, transposed(rows), sizeof *y);
        };
    });
    add("cast to f16", 1.5, 1, [=](auto& a, auto&, DeviceType device) {
        const auto* x = a.random();
        using T = std::remove_const_t<std::remove_pointer_t<decltype(x)>>;
        return [=, y = a.output_f16(), &copy = backend(device).copy](Context& c) {
            copy.cast(c, y, DType::f16, x, DTypeOf<T>::value, n);
        };
    });
}

}  // namespace mc
