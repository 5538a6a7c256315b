// One step of a gated recurrent unit: a thread an element of the state.
#include "kernels/gru.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/math.h"

namespace mc::cuda {

namespace {

constexpr int kThreads = 256;

template <class T>
using CellArgs = typename GruKernels<T>::CellArgs;
template <class T>
using CellBackwardArgs = typename GruKernels<T>::CellBackwardArgs;

template <class T>
__global__ void gru_cell_kernel(CellArgs<T> a) {
    for (int64_t at = global_thread(); at < a.rows * a.width; at += all_threads()) {
        const int64_t row = at / a.width, first = 2 * row * a.width + at;  // the element's r
        const T *input = a.input + first, *state = a.state + first;
        T r = 0, z = 0, n = 0, next = a.h[at];
        if (!a.on || a.on[row]) {
            r = sigmoid_of(input[0] + state[0]);
            z = sigmoid_of(input[a.width] + state[a.width]);
            n = tanh_of(input[2 * a.width] + r * state[2 * a.width]);
            next = (T{1} - z) * n + z * next;
        }
        a.next[at] = next;
        if (!a.gates) continue;
        T* gates = a.gates + first;
        gates[0] = r;
        gates[a.width] = z;
        gates[2 * a.width] = n;
    }
}

template <class T>
__global__ void gru_cell_backward_kernel(CellBackwardArgs<T> a) {
    for (int64_t at = global_thread(); at < a.rows * a.width; at += all_threads()) {
        const int64_t row = at / a.width, first = 2 * row * a.width + at;
        const T g = a.dnext[at];
        T dr = 0, dz = 0, dn = 0, reset = 0, dh = g;
        if (!a.on || a.on[row]) {
            const T *gates = a.gates + first, z = gates[a.width], n = gates[2 * a.width];
            reset = gates[0];
            dn = g * (T{1} - z) * (T{1} - n * n);
            dz = g * (a.h[at] - n) * z * (T{1} - z);
            dr = dn * a.state[first + 2 * a.width] * reset * (T{1} - reset);
            dh = g * z;
        }
        T *dinput = a.dinput + first, *dstate = a.dstate + first;
        dinput[0] = dstate[0] = dr;
        dinput[a.width] = dstate[a.width] = dz;
        dinput[2 * a.width] = dn;
        dstate[2 * a.width] = dn * reset;
        a.dh[at] = dh;
    }
}

template <class T>
void gru_cell(Context& context, const CellArgs<T>& a) {
    if (a.rows <= 0 || a.width <= 0) return;
    launch("gru_cell", context, {walking_blocks(a.rows * a.width, kThreads), kThreads},
           gru_cell_kernel<T>, a);
}

template <class T>
void gru_cell_backward(Context& context, const CellBackwardArgs<T>& a) {
    if (a.rows <= 0 || a.width <= 0) return;
    launch("gru_cell_backward", context, {walking_blocks(a.rows * a.width, kThreads), kThreads},
           gru_cell_backward_kernel<T>, a);
}

template <class T>
void fill_table(GruKernels<T>& table) {
    table.gru_cell = gru_cell<T>;
    table.gru_cell_backward = gru_cell_backward<T>;
}

}  // namespace

void fill_gru(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
