// Shapes: rows of 49 tokens (a motion of 196 frames), 98 (with guidance) and 3,136 (a batch of 64);
// widths 384 (MoMask, BAMM), 512 (CLIP), 768 (BAMM's and CLIP's larger ones), 1032 (MoCLIP's motion
// tower) with their feed-forward widths; prompts of 12 and 77 tokens; convolutions of 256 and 512
// channels; books of 512 codes.
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cuda.h"
#include "tools/common/bench_openblas.h"
#include "tools/common/bench_problem.h"
#include "tools/common/cli.h"

namespace mc {
namespace {

using Ready = BenchProblem::Ready;

struct Product {
    int64_t m, n, k;
    bool trans_a = false, trans_b = true, gelu = false;
    int64_t batch = 1;
    std::optional<Precision> packed = {};
    const OpenBlas* peer = nullptr;

    std::string name() const {
        std::string s =
            fmt::format("matmul {}{} {}x{}x{}", trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k);
        if (batch > 1) s += fmt::format(" batch {}", batch);
        if (gelu) s += " bias gelu";
        if (packed) s += fmt::format(" packed {}", name_of(*packed));
        return s;
    }

    template <class T>
    Ready make(DeviceType device) const {
        Tensor a = bench_values<T>(device, batch * m * k, 1),
               b = bench_values<T>(device, batch * k * n, 2), packed_b;
        const Tensor c = Tensor::zeros({batch * m * n}, DTypeOf<T>::value, device),
                     bias = bench_values<T>(device, n, 3);
        if (std::is_same_v<T, double> && (packed == Precision::bf16 || packed == Precision::f16)) {
            // The operands as the packed product rounds them.
            const DType rounded = packed == Precision::bf16 ? DType::bf16 : DType::f16;
            a = a.to(rounded).to(DType::f64);
            b = b.to(rounded).to(DType::f64);
        }
        MatmulArgs<T> args;
        args.c = c.ptr<T>();
        args.a = a.ptr<T>();
        args.b = b.ptr<T>();
        args.m = m;
        args.n = args.ldc = n;
        args.k = k;
        args.lda = trans_a ? m : k;
        args.ldb = trans_b ? k : n;
        args.trans_a = trans_a;
        args.trans_b = trans_b;
        args.batch = batch;
        args.stride_a = m * k;
        args.stride_b = k * n;
        args.stride_c = m * n;
        if (gelu) {
            args.epilogue.bias = bias.ptr<T>();
            args.epilogue.activate = true;
            args.epilogue.op = UnaryOp::gelu;
        }
        Tensor packed_b_values;
        Ready ready;
        if constexpr (std::is_same_v<T, float>) {
            if (packed) {
                packed_b_values =
                    Tensor::empty({packed_bytes(*packed, k, n) / 4}, DType::i32, device);
                const auto& pack = backend(device).f32.pack_b(*packed);
                pack(default_context(device), packed_b_values.raw_ptr(), args.b, args.ldb, trans_b,
                     k, n);
                args.packed_b = {packed_b_values.raw_ptr(), *packed};
            }
            if (peer && !packed) ready.peer = [=, peer = peer] { peer->matmul(args); };
        }
        ready.run = [=, keep = std::vector<Tensor>{a, b, bias, packed_b_values}](Context& context) {
            backend(device).table<T>().matmul(context, args);
        };
        ready.outputs = {c};
        return ready;
    }

    BenchProblem problem() const {
        const auto elements = [](int64_t n) { return static_cast<double>(n); };
        const Precision precision = packed.value_or(Precision::f32);
        const double width = precision == Precision::f32 ? 4 : 2;
        BenchProblem made = bench_problem(
            name(), 2 * elements(batch * m * n * k),
            4 * elements(batch * (m * k + m * n)) + width * elements(batch * k * n), elements(k),
            [self = *this](auto t, DeviceType device) { return self.make<decltype(t)>(device); });
        made.precision = precision;
        // 1.4e-4 of the root mean square; the farthest of a million is off by 5 times that, and the
        // largest output is 4 or 5 times the root mean square too.
        if (precision == Precision::int16) made.rounding = 2e-4;
        return made;
    }
};

enum class ConvPass : uint8_t { forward, dx, dw };  // dw: and dbias

struct Conv {
    ConvShape shape;
    ConvPass pass = ConvPass::forward;
    Convolver by = Convolver::own;  // on a GPU

    int64_t rows() const { return shape.batch * shape.t_out(); }
    int64_t width() const { return shape.kernel * shape.c_in; }
    int64_t in() const { return shape.batch * shape.t_in * shape.c_in; }
    int64_t out() const { return rows() * shape.c_out; }
    int64_t weights() const { return shape.c_out * width(); }

    template <class T>
    Ready make(DeviceType device) const {
        const auto zeros = [&](int64_t n) { return Tensor::zeros({n}, DTypeOf<T>::value, device); };
        const Tensor x = bench_values<T>(device, in(), 1),
                     w = bench_values<T>(device, weights(), 2);
        const bool forward = pass == ConvPass::forward, dx = pass == ConvPass::dx;
        const Tensor bias = forward ? bench_values<T>(device, shape.c_out, 3) : zeros(shape.c_out),
                     y = forward ? zeros(out()) : bench_values<T>(device, out(), 3),
                     gradient = zeros(forward ? 0
                                      : dx    ? in()
                                              : weights());
        std::vector<Tensor> outputs = {forward ? y : gradient};
        if (pass == ConvPass::dw) outputs.push_back(bias);
        return {[=, *this](Context& context) {
                    const KernelTable<T>& k = backend(device).table<T>();
                    if (device != DeviceType::cpu) set_cuda_convolver(by);
                    if (forward)
                        k.conv1d(context, y.ptr<T>(), x.ptr<T>(), w.ptr<T>(), nullptr,
                                 bias.ptr<T>(), true, shape);
                    else
                        k.conv1d_backward(context, dx ? gradient.ptr<T>() : nullptr,
                                          dx ? nullptr : gradient.ptr<T>(),
                                          dx ? nullptr : bias.ptr<T>(), y.ptr<T>(), x.ptr<T>(),
                                          w.ptr<T>(), shape);
                    if (device != DeviceType::cpu) set_cuda_convolver(Convolver::chosen);
                },
                outputs};
    }

    BenchProblem problem() const {
        const char* const name = pass == ConvPass::forward ? "conv1d"
                                 : pass == ConvPass::dx    ? "conv1d_backward dx"
                                                           : "conv1d_backward dw";
        const int64_t terms = pass == ConvPass::forward ? width()
                              : pass == ConvPass::dx    ? shape.kernel * shape.c_out
                                                        : rows();
        return bench_problem(
            fmt::format("{} {}x{} {}->{} k{} s{} d{}{}", name, shape.batch, shape.t_in, shape.c_in,
                        shape.c_out, shape.kernel, shape.stride, shape.dilation,
                        by == Convolver::cudnn ? " cuDNN" : ""),
            2 * static_cast<double>(weights() * rows()),
            4 * static_cast<double>(in() + weights() + out()), static_cast<double>(terms),
            [self = *this](auto t, DeviceType device) { return self.make<decltype(t)>(device); });
    }

    // Whether cuDNN has something for it; says so if not.
    bool runs_on(DeviceType device) const {
        try {
            make<float>(device).run(default_context(device));
            return true;
        } catch (const Error& e) {
            set_cuda_convolver(Convolver::chosen);
            tools::notice("{}: {}\n", problem().name, e.what());
            return false;
        }
    }
};

// By our kernels; on a GPU whose machine has cuDNN a second time by that. The two products of the
// backward apart: each may have another winner.
void add_conv(std::vector<BenchProblem>& list, DeviceType device, const ConvShape& shape) {
    const bool cudnn = device == DeviceType::cuda && set_cuda_convolver(Convolver::cudnn);
    for (const ConvPass pass : {ConvPass::forward, ConvPass::dx, ConvPass::dw}) {
        list.push_back(Conv{shape, pass}.problem());
        const Conv other{shape, pass, Convolver::cudnn};
        if (cudnn && other.runs_on(device)) list.push_back(other.problem());
    }
}

struct Attention {
    int64_t batch, heads, length, head_dim;
    double dropout;

    // Forward; or backward, after one run forward.
    template <class T>
    Ready make(DeviceType device, bool backward) const {
        const int64_t width = heads * head_dim, rows = batch * length;
        const auto zeros = [&](int64_t n) { return Tensor::zeros({n}, DTypeOf<T>::value, device); };
        const Tensor qkv = bench_values<T>(device, 3 * rows * width, 1),
                     dout = bench_values<T>(device, rows * width, 2), out = zeros(rows * width),
                     lse = zeros(rows * heads), dqkv = zeros(3 * rows * width);
        AttentionBackwardArgs<T> args;
        AttentionArgs<T>& a = args.forward;
        a.out = out.ptr<T>();
        a.lse = lse.ptr<T>();
        a.q = qkv.ptr<T>();
        a.k = a.q + width;
        a.v = a.q + 2 * width;
        a.batch = batch;
        a.heads = heads;
        a.head_dim = head_dim;
        a.lq = a.lk = length;
        a.q_row = a.k_row = a.v_row = 3 * width;
        a.q_batch = a.k_batch = a.v_batch = length * 3 * width;
        a.out_row = width;
        a.out_batch = length * width;
        a.scale = 0.125;
        a.dropout = dropout;
        args.dout = dout.ptr<T>();
        args.dq = dqkv.ptr<T>();
        args.dk = args.dq + width;
        args.dv = args.dq + 2 * width;
        const std::vector<Tensor> keep = {qkv, dout, out, lse, dqkv};
        const auto forward = [=](Context& context) {
            (void)keep;
            backend(device).table<T>().attention(context, args.forward);
        };
        if (!backward) return {forward, {out, lse}};
        forward(default_context(device));
        return {[=](Context& context) {
                    (void)keep;
                    backend(device).table<T>().attention_backward(context, args);
                },
                {dqkv}};
    }
};

void add_attention(std::vector<BenchProblem>& list, const Attention& a) {
    const auto rows = static_cast<double>(a.batch * a.length),
               width = static_cast<double>(a.heads * a.head_dim),
               length = static_cast<double>(a.length);
    const double flop = 4 * rows * length * width, bytes = 16 * rows * width;
    const std::string shape = fmt::format("{}x{} L{} D{}{}", a.batch, a.heads, a.length, a.head_dim,
                                          a.dropout > 0 ? " dropout" : "");
    const auto add = [&](const char* name, double times, bool backward) {
        list.push_back(bench_problem(
            name + shape, (backward ? 2.5 : 1) * flop, times * bytes,
            static_cast<double>(a.length * a.head_dim),
            [=](auto t, DeviceType device) { return a.make<decltype(t)>(device, backward); }));
    };
    add("attention ", 1, false);
    add("attention_backward ", 2, true);
}

void add_nearest_code(std::vector<BenchProblem>& list, int64_t rows, int64_t codes, int64_t width) {
    const auto n = [](int64_t count) { return static_cast<double>(count); };
    list.push_back(bench_problem(
        fmt::format("nearest_code {} of {}x{}", rows, codes, width), 2 * n(rows * codes * width),
        4 * n(rows * width + codes * width + rows * codes), n(width),
        [=](auto t, DeviceType device) -> Ready {
            using T = decltype(t);
            const Tensor x = bench_values<T>(device, rows * width, 1),
                         book = bench_values<T>(device, codes * width, 2),
                         distance = Tensor::zeros({rows * codes}, DTypeOf<T>::value, device),
                         id = Tensor::zeros({rows}, DType::i64, device);
            return {[=](Context& context) {
                        backend(device).table<T>().nearest_code(context, id.ptr<int64_t>(),
                                                                distance.ptr<T>(), x.ptr<T>(),
                                                                book.ptr<T>(), rows, codes, width);
                    },
                    {distance}};
        }));
}

}  // namespace

BenchProblem large_product(std::optional<Precision> packed) {
    return Product{8192, 8192, 8192, false, true, false, 1, packed}.problem();
}

void add_product_problems(std::vector<BenchProblem>& list, DeviceType device,
                          const OpenBlas* peer) {
    const auto add = [&](Product product) {
        product.peer = peer;
        list.push_back(product.problem());
    };
    const auto layer = [&](int64_t m, int64_t width, int64_t hidden,
                           std::optional<Precision> packed = {}) {
        add({m, width, width, false, true, false, 1, packed});
        add({m, hidden, width, false, true, true, 1, packed});
        add({m, width, hidden, false, true, false, 1, packed});
    };
    constexpr std::pair<int64_t, int64_t> kLayers[] = {
        {384, 1024}, {512, 2048}, {768, 3072}, {1032, 4128}};  // width, feed-forward
    for (const int64_t m : {1, 8, 392}) layer(m, 384, 1024);
    for (const int64_t m : {12, 77}) layer(m, 512, 2048);
    for (const int64_t m : {49, 98, 3136})
        for (const auto& [width, hidden] : kLayers) layer(m, width, hidden);
    add({3136, 1024, 384, false, false});
    add({3136, 384, 1024, false, false});
    add({384, 1024, 3136, true, false});
    add({1024, 384, 3136, true, false});
    add({1024, 1024, 1024, false, false});
    for (const Precision precision :
         {Precision::f32, Precision::bf16, Precision::f16, Precision::int16})
        if (backend(device).f32.pack_b(precision)) {  // a weight packed once, as in generation
            for (const int64_t m : {1, 392}) layer(m, 384, 1024, precision);
            layer(77, 512, 2048, precision);
            for (const int64_t m : {49, 98})
                for (const auto& [width, hidden] : kLayers) layer(m, width, hidden, precision);
            add({1024, 1024, 1024, false, true, false, 1, precision});
        }
    add({49, 49, 64, false, true, false, 384});
    add({49, 64, 49, false, false, false, 384});
    for (const int64_t c : {256, 512}) {
        add_conv(list, device, {64, 64, c, c, 3, 1, 9, 9});
        add_conv(list, device, {64, 64, c, c, 3, 1, 1, 1});
        add_conv(list, device, {64, 64, c, c, 4, 2, 1, 1});
        add_conv(list, device, {64, 64, c, c, 1, 1, 0, 1});
        add_conv(list, device, {64, 64, 263, c, 3, 1, 1, 1});
        add_conv(list, device, {64, 64, c, 263, 3, 1, 1, 1});
        add_conv(list, device, {1, 49, c, c, 3, 1, 1, 1});
        add_conv(list, device, {1, 196, c, c, 3, 1, 1, 1});
    }
    add_attention(list, {64, 6, 49, 64, 0});
    add_attention(list, {64, 6, 49, 64, 0.1});
    add_attention(list, {1, 6, 49, 64, 0});
    add_attention(list, {16, 8, 77, 64, 0});
    add_attention(list, {8, 6, 196, 64, 0.1});
    for (const int64_t rows : {49, 4096}) add_nearest_code(list, rows, 512, 512);
}

}  // namespace mc
