// The second half of device_cuda.cpp: norms, softmax, attention, convolution, embedding.
#include <algorithm>

#include "tests/kernels/device_under_test.h"
#include "tests/simt/device_cuda.h"

namespace mc::testing {

namespace {

template <class T>
void stage_channel_norm(Staging& s, const typename NormKernels<T>::ChannelNormArgs& a,
                        int64_t sets) {
    const int64_t n = a.batch * a.channels * a.length;
    s.write(a.y, n);
    s.write(a.mean, sets);
    s.write(a.rstd, sets);
    s.read(a.x, n);
    s.read(a.weight, a.channels);
    s.read(a.bias, a.channels);
}
template <class T>
void locate_channel_norm(const Staging& s, typename NormKernels<T>::ChannelNormArgs& a) {
    a.y = s(a.y);
    a.mean = s(a.mean);
    a.rstd = s(a.rstd);
    a.x = s(a.x);
    a.weight = s(a.weight);
    a.bias = s(a.bias);
}
template <class T, class F>
void staged_channel_norm_backward(typename NormKernels<T>::ChannelNormBackwardArgs a, int64_t sets,
                                  F&& run) {
    const int64_t n = a.batch * a.channels * a.length;
    Staging s;
    s.write(a.dx, n);
    s.write(a.dweight, a.channels);
    s.write(a.dbias, a.channels);
    s.read(a.dy, n);
    s.read(a.x, n);
    s.read(a.mean, sets);
    s.read(a.rstd, sets);
    s.read(a.weight, a.channels);
    s.upload();
    a.dx = s(a.dx);
    a.dweight = s(a.dweight);
    a.dbias = s(a.dbias);
    a.dy = s(a.dy);
    a.x = s(a.x);
    a.mean = s(a.mean);
    a.rstd = s(a.rstd);
    a.weight = s(a.weight);
    run(a);
    s.download();
}

template <class T>
void norm(NormKernels<T>& table) {
    table.layer_norm = [](Context&, const typename NormKernels<T>::LayerNormArgs& host) {
        auto a = host;
        const int64_t n = a.rows * a.cols;
        Staging s;
        s.write(a.y, n);
        s.write(a.mean, a.rows);
        s.write(a.rstd, a.rows);
        s.write(a.sum, n);
        s.read(a.x, n);
        s.read(a.residual, n);
        s.read(a.weight, a.cols);
        s.read(a.bias, a.cols);
        s.upload();
        a.y = s(a.y);
        a.mean = s(a.mean);
        a.rstd = s(a.rstd);
        a.sum = s(a.sum);
        a.x = s(a.x);
        a.residual = s(a.residual);
        a.weight = s(a.weight);
        a.bias = s(a.bias);
        cuda_table<T>().layer_norm(context(), a);
        s.download();
    };
    table.layer_norm_backward = [](Context&,
                                   const typename NormKernels<T>::LayerNormBackwardArgs& host) {
        auto a = host;
        const int64_t n = a.rows * a.cols;
        Staging s;
        s.write(a.dx, n);
        s.write(a.dweight, a.cols);
        s.write(a.dbias, a.cols);
        s.read(a.dy, n);
        s.read(a.x, n);
        s.read(a.mean, a.rows);
        s.read(a.rstd, a.rows);
        s.read(a.weight, a.cols);
        s.upload();
        a.dx = s(a.dx);
        a.dweight = s(a.dweight);
        a.dbias = s(a.dbias);
        a.dy = s(a.dy);
        a.x = s(a.x);
        a.mean = s(a.mean);
        a.rstd = s(a.rstd);
        a.weight = s(a.weight);
        cuda_table<T>().layer_norm_backward(context(), a);
        s.download();
    };
    table.l2_normalize = [](Context&, T* y, T* norm, const T* x, int64_t rows, int64_t cols,
                            double eps) {
        Staging s;
        s.write(y, rows * cols);
        s.write(norm, rows);
        s.read(x, rows * cols);
        s.upload();
        cuda_table<T>().l2_normalize(context(), s(y), s(norm), s(x), rows, cols, eps);
        s.download();
    };
    table.l2_normalize_backward = [](Context&, T* dx, const T* dy, const T* y, const T* norm,
                                     int64_t rows, int64_t cols, double eps) {
        Staging s;
        s.write(dx, rows * cols);
        s.read(dy, rows * cols);
        s.read(y, rows * cols);
        s.read(norm, rows);
        s.upload();
        cuda_table<T>().l2_normalize_backward(context(), s(dx), s(dy), s(y), s(norm), rows, cols,
                                              eps);
        s.download();
    };
    table.group_norm = [](Context&, const typename NormKernels<T>::GroupNormArgs& host) {
        auto a = host;
        Staging s;
        stage_channel_norm<T>(s, a, a.batch * a.groups);
        s.upload();
        locate_channel_norm<T>(s, a);
        cuda_table<T>().group_norm(context(), a);
        s.download();
    };
    table.batch_norm = [](Context&, const typename NormKernels<T>::BatchNormArgs& host) {
        auto a = host;
        Staging s;
        stage_channel_norm<T>(s, a, a.channels);
        s.write(a.running_mean, a.channels);
        s.write(a.running_var, a.channels);
        s.write(a.batches, 1);
        s.upload();
        locate_channel_norm<T>(s, a);
        a.running_mean = s(a.running_mean);
        a.running_var = s(a.running_var);
        a.batches = s(a.batches);
        cuda_table<T>().batch_norm(context(), a);
        s.download();
    };
    using Backward = typename NormKernels<T>::ChannelNormBackwardArgs;
    table.group_norm_backward = [](Context&, const Backward& host, int64_t groups) {
        staged_channel_norm_backward<T>(host, host.batch * groups, [&](const Backward& a) {
            cuda_table<T>().group_norm_backward(context(), a, groups);
        });
    };
    table.batch_norm_backward = [](Context&, const Backward& host, bool training) {
        staged_channel_norm_backward<T>(host, host.channels, [&](const Backward& a) {
            cuda_table<T>().batch_norm_backward(context(), a, training);
        });
    };
}

template <class T>
void softmax(SoftmaxKernels<T>& table) {
    table.softmax = [](Context&, T* y, const T* x, int64_t rows, int64_t cols) {
        Staging s;
        s.write(y, rows * cols);
        s.read(x, rows * cols);
        s.upload();
        cuda_table<T>().softmax(context(), s(y), s(x), rows, cols);
        s.download();
    };
    table.log_softmax = [](Context&, T* y, const T* x, int64_t rows, int64_t cols) {
        Staging s;
        s.write(y, rows * cols);
        s.read(x, rows * cols);
        s.upload();
        cuda_table<T>().log_softmax(context(), s(y), s(x), rows, cols);
        s.download();
    };
    table.softmax_backward = [](Context&, T* dx, const T* dy, const T* y, int64_t rows,
                                int64_t cols) {
        Staging s;
        s.write(dx, rows * cols);
        s.read(dy, rows * cols);
        s.read(y, rows * cols);
        s.upload();
        cuda_table<T>().softmax_backward(context(), s(dx), s(dy), s(y), rows, cols);
        s.download();
    };
    table.log_softmax_backward = [](Context&, T* dx, const T* dy, const T* y, int64_t rows,
                                    int64_t cols) {
        Staging s;
        s.write(dx, rows * cols);
        s.read(dy, rows * cols);
        s.read(y, rows * cols);
        s.upload();
        cuda_table<T>().log_softmax_backward(context(), s(dx), s(dy), s(y), rows, cols);
        s.download();
    };
    table.cross_entropy = [](Context&, const typename SoftmaxKernels<T>::CrossEntropyArgs& host) {
        auto a = host;
        Staging s;
        s.write(a.loss, a.rows);
        s.write(a.lse, a.rows);
        s.read(a.x, a.rows * a.cols);
        s.read(a.label, a.rows);
        s.upload();
        a.loss = s(a.loss);
        a.lse = s(a.lse);
        a.x = s(a.x);
        a.label = s(a.label);
        cuda_table<T>().cross_entropy(context(), a);
        s.download();
    };
    table.cross_entropy_backward =
        [](Context&, const typename SoftmaxKernels<T>::CrossEntropyBackwardArgs& host) {
            auto a = host;
            Staging s;
            s.write(a.dx, a.rows * a.cols);
            s.read(a.scale, a.rows);
            s.read(a.x, a.rows * a.cols);
            s.read(a.lse, a.rows);
            s.read(a.label, a.rows);
            s.upload();
            a.dx = s(a.dx);
            a.scale = s(a.scale);
            a.x = s(a.x);
            a.lse = s(a.lse);
            a.label = s(a.label);
            cuda_table<T>().cross_entropy_backward(context(), a);
            s.download();
        };
    table.smooth_l1 = [](Context&, T* dst, const T* a, const T* b, T beta, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(a, n);
        s.read(b, n);
        s.upload();
        cuda_table<T>().smooth_l1(context(), s(dst), s(a), s(b), beta, n);
        s.download();
    };
    table.smooth_l1_backward = [](Context&, T* dst, const T* grad, const T* a, const T* b, T beta,
                                  int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(grad, n);
        s.read(a, n);
        s.read(b, n);
        s.upload();
        cuda_table<T>().smooth_l1_backward(context(), s(dst), s(grad), s(a), s(b), beta, n);
        s.download();
    };
}

template <class T>
void stage_attention(Staging& s, const AttentionArgs<T>& a) {
    const int64_t width = a.heads * a.head_dim;
    const auto rows = [&](int64_t batch_stride, int64_t length, int64_t row_stride) {
        const int64_t one = extent(length, width, row_stride);
        return a.batch > 0 && one > 0 ? (a.batch - 1) * batch_stride + one : 0;
    };
    s.write(a.out, rows(a.out_batch, a.lq, a.out_row));
    s.write(a.lse, a.batch * a.heads * a.lq);
    s.read(a.q, rows(a.q_batch, a.lq, a.q_row));
    s.read(a.k, rows(a.k_batch, a.lk, a.k_row));
    s.read(a.v, rows(a.v_batch, a.lk, a.v_row));
    s.read(a.key_padding, a.batch * a.lk);
    s.read(a.mask, a.batch > 0 ? (a.batch - 1) * a.mask_batch + a.lq * a.lk : 0);
}

template <class T>
AttentionArgs<T> staged(const Staging& s, AttentionArgs<T> a) {
    a.out = s(a.out);
    a.lse = s(a.lse);
    a.q = s(a.q);
    a.k = s(a.k);
    a.v = s(a.v);
    a.key_padding = s(a.key_padding);
    a.mask = s(a.mask);
    return a;
}

template <class T>
void attention(AttentionKernels<T>& table) {
    table.attention = [](Context&, const AttentionArgs<T>& host) {
        Staging s;
        stage_attention(s, host);
        s.upload();
        cuda_table<T>().attention(context(), staged(s, host));
        s.download();
    };
    table.attention_backward = [](Context&, const AttentionBackwardArgs<T>& host) {
        const AttentionArgs<T>& a = host.forward;
        Staging s;
        stage_attention(s, a);
        const int64_t width = a.heads * a.head_dim;
        const auto rows = [&](int64_t batch_stride, int64_t length, int64_t row_stride) {
            const int64_t one = extent(length, width, row_stride);
            return a.batch > 0 && one > 0 ? (a.batch - 1) * batch_stride + one : 0;
        };
        s.read(host.dout, rows(a.out_batch, a.lq, a.out_row));
        s.write(host.dq, rows(a.q_batch, a.lq, a.q_row));
        s.write(host.dk, rows(a.k_batch, a.lk, a.k_row));
        s.write(host.dv, rows(a.v_batch, a.lk, a.v_row));
        s.upload();
        AttentionBackwardArgs<T> args;
        args.forward = staged(s, a);
        args.dout = s(host.dout);
        args.dq = s(host.dq);
        args.dk = s(host.dk);
        args.dv = s(host.dv);
        cuda_table<T>().attention_backward(context(), args);
        s.download();
    };
}

template <class T>
void conv(ConvKernels<T>& table) {
    table.conv1d = [](Context&, T* y, const T* x, const T* w, const void*, const T* bias, bool relu,
                      const ConvShape& shape) {
        Staging s;
        s.write(y, shape.batch * std::max<int64_t>(shape.t_out(), 0) * shape.c_out);
        s.read(x, shape.batch * shape.t_in * shape.c_in);
        s.read(w, shape.c_out * shape.c_in * shape.kernel);
        s.read(bias, shape.c_out);
        s.upload();
        cuda_table<T>().conv1d(context(), s(y), s(x), s(w), nullptr, s(bias), relu, shape);
        s.download();
    };
    table.conv1d_backward = [](Context&, T* dx, T* dw, T* dbias, const T* dy, const T* x,
                               const T* w, const ConvShape& shape) {
        Staging s;
        s.write(dx, shape.batch * shape.t_in * shape.c_in);
        s.write(dw, shape.c_out * shape.c_in * shape.kernel);
        s.write(dbias, shape.c_out);
        s.read(dy, shape.batch * std::max<int64_t>(shape.t_out(), 0) * shape.c_out);
        s.read(x, shape.batch * shape.t_in * shape.c_in);
        s.read(w, shape.c_out * shape.c_in * shape.kernel);
        s.upload();
        cuda_table<T>().conv1d_backward(context(), s(dx), s(dw), s(dbias), s(dy), s(x), s(w),
                                        shape);
        s.download();
    };
    table.upsample2 = [](Context&, T* y, const T* x, int64_t batch, int64_t frames,
                         int64_t channels) {
        Staging s;
        s.write(y, 2 * batch * frames * channels);
        s.read(x, batch * frames * channels);
        s.upload();
        cuda_table<T>().upsample2(context(), s(y), s(x), batch, frames, channels);
        s.download();
    };
    table.upsample2_backward = [](Context&, T* dx, const T* dy, int64_t batch, int64_t frames,
                                  int64_t channels) {
        Staging s;
        s.write(dx, batch * frames * channels);
        s.read(dy, 2 * batch * frames * channels);
        s.upload();
        cuda_table<T>().upsample2_backward(context(), s(dx), s(dy), batch, frames, channels);
        s.download();
    };
}

template <class T>
void embedding(EmbeddingKernels<T>& table) {
    table.gather_rows = [](Context&, T* dst, const T* source, const int64_t* id, int64_t rows,
                           int64_t cols) {
        Staging s;
        int64_t entries = 0;
        for (int64_t r = 0; r < rows; ++r) entries = std::max(entries, id[r] + 1);
        s.write(dst, rows * cols);
        s.read(source, entries * cols);
        s.read(id, rows);
        s.upload();
        cuda_table<T>().gather_rows(context(), s(dst), s(source), s(id), rows, cols);
        s.download();
    };
    table.scatter_add_rows = [](Context&, T* sums, const T* src, const int64_t* id, int64_t rows,
                                int64_t cols, int64_t table_rows) {
        Staging s;
        s.write(sums, table_rows * cols);
        s.read(src, rows * cols);
        s.read(id, rows);
        s.upload();
        cuda_table<T>().scatter_add_rows(context(), s(sums), s(src), s(id), rows, cols, table_rows);
        s.download();
    };
    table.nearest_code = [](Context&, int64_t* id, T* distance, const T* x, const T* code,
                            int64_t rows, int64_t codes, int64_t cols) {
        Staging s;
        s.write(id, rows);
        s.write(distance, rows * codes);
        s.read(x, rows * cols);
        s.read(code, codes * cols);
        s.upload();
        cuda_table<T>().nearest_code(context(), s(id), s(distance), s(x), s(code), rows, codes,
                                     cols);
        s.download();
    };
}

template <class T>
void gru(GruKernels<T>& table) {
    table.gru_cell = [](Context&, const typename GruKernels<T>::CellArgs& host) {
        auto a = host;
        const int64_t n = a.rows * a.width;
        Staging s;
        s.write(a.next, n);
        s.write(a.gates, 3 * n);
        s.read(a.input, 3 * n);
        s.read(a.state, 3 * n);
        s.read(a.h, n);
        s.read(a.on, a.rows);
        s.upload();
        a.next = s(a.next);
        a.gates = s(a.gates);
        a.input = s(a.input);
        a.state = s(a.state);
        a.h = s(a.h);
        a.on = s(a.on);
        cuda_table<T>().gru_cell(context(), a);
        s.download();
    };
    table.gru_cell_backward = [](Context&, const typename GruKernels<T>::CellBackwardArgs& host) {
        auto a = host;
        const int64_t n = a.rows * a.width;
        Staging s;
        s.write(a.dinput, 3 * n);
        s.write(a.dstate, 3 * n);
        s.write(a.dh, n);
        s.read(a.dnext, n);
        s.read(a.gates, 3 * n);
        s.read(a.state, 3 * n);
        s.read(a.h, n);
        s.read(a.on, a.rows);
        s.upload();
        a.dinput = s(a.dinput);
        a.dstate = s(a.dstate);
        a.dh = s(a.dh);
        a.dnext = s(a.dnext);
        a.gates = s(a.gates);
        a.state = s(a.state);
        a.h = s(a.h);
        a.on = s(a.on);
        cuda_table<T>().gru_cell_backward(context(), a);
        s.download();
    };
}

}  // namespace

void norm_kernels(Backend& b) {
    norm(b.f32);
    norm(b.f64);
}
void softmax_kernels(Backend& b) {
    softmax(b.f32);
    softmax(b.f64);
}
void attention_kernels(Backend& b) {
    attention(b.f32);
    attention(b.f64);
}
void conv_kernels(Backend& b) {
    conv(b.f32);
    conv(b.f64);
}
void embedding_kernels(Backend& b) {
    embedding(b.f32);
    embedding(b.f64);
}

void gru_kernels(Backend& b) {
    gru(b.f32);
    gru(b.f64);
}

}  // namespace mc::testing
