// Tells every entry of a table which dtype and device it stands for: they appear in the error for
// a missing kernel.
#pragma once

#include "kernels/backend.h"

namespace mc {

template <class T>
void bind_table(KernelTable<T>& table, DeviceType device) {
    const auto bind = [&](auto&... kernel) { (kernel.bind(DTypeOf<T>::value, device), ...); };
    bind(table.binary, table.unary, table.unary_backward, table.affine, table.axpy, table.fill,
         table.select, table.dropout, table.epilogue_backward);
    bind(table.sum, table.max, table.sum_of_squares, table.find_non_finite, table.top_k,
         table.cumsum);
    bind(table.matmul, table.pack_b_f32, table.pack_b_bf16, table.pack_b_f16, table.pack_b_int16);
    bind(table.layer_norm, table.layer_norm_backward, table.l2_normalize,
         table.l2_normalize_backward, table.group_norm, table.group_norm_backward, table.batch_norm,
         table.batch_norm_backward);
    bind(table.softmax, table.softmax_backward, table.log_softmax, table.log_softmax_backward,
         table.cross_entropy, table.cross_entropy_backward, table.smooth_l1,
         table.smooth_l1_backward);
    bind(table.attention, table.attention_backward);
    bind(table.conv1d, table.pack_conv1d, table.conv1d_backward, table.upsample2,
         table.upsample2_backward);
    bind(table.gather_rows, table.scatter_add_rows, table.nearest_code);
    bind(table.adamw);
    bind(table.uniform, table.normal);
    bind(table.argsort, table.mask_lowest);
    bind(table.gru_cell, table.gru_cell_backward);
}

inline void bind_backend(Backend& backend, DeviceType device) {
    backend.device = device;
    bind_table(backend.f32, device);
    bind_table(backend.f64, device);
    backend.copy.gather_strided.bind(DType::f32, device);
    backend.copy.scatter_strided.bind(DType::f32, device);
    backend.copy.cast.bind(DType::f32, device);
    backend.mask.permuted_mask.bind(DType::boolean, device);
    backend.sampling.draw_categorical.bind(DType::f32, device);
    backend.sampling.draw_gumbel.bind(DType::f32, device);
    MemoryKernels& memory = backend.memory;
    const auto bind = [&](auto&... kernel) { (kernel.bind(DType::f32, device), ...); };
    bind(memory.allocate, memory.release, memory.copy, memory.upload, memory.download, memory.zero);
    bind(backend.graph.begin, backend.graph.end, backend.graph.launch, backend.graph.release);
    CollectiveKernels& collective = backend.collective;
    bind(collective.new_id, collective.join, collective.leave, collective.all_reduce,
         collective.broadcast);
}

}  // namespace mc
