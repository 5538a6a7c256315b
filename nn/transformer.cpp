#include "nn/transformer.h"

namespace mc::nn {

PreNormBlock::Mlp::Mlp(int64_t width, int64_t hidden, const Names& names, Generator* init)
    : fc(width, hidden, init), proj(hidden, width, init) {
    add(names.fc, fc);
    add(names.proj, proj);
}

PreNormBlock::PreNormBlock(int64_t width, int64_t heads, int64_t hidden, const Names& names,
                           Generator* init)
    : ln_1(width), attn(width, heads, 0, init), ln_2(width), mlp(width, hidden, names, init) {
    add("ln_1", ln_1);
    add("attn", attn);
    add("ln_2", ln_2);
    add("mlp", mlp);
}

Var PreNormBlock::operator()(const Var& x, const AttentionOptions& options,
                             const Pass& pass) const {
    const Var y = x + attn(ln_1(x), options, pass);
    return y + feed_forward(mlp.fc, UnaryOp::quick_gelu, mlp.proj, ln_2(y));
}

PostNormBlock::PostNormBlock(int64_t width, int64_t heads, int64_t hidden, double dropout,
                             Generator* init)
    : self_attn(width, heads, dropout, init),
      linear1(width, hidden, init),
      linear2(hidden, width, init),
      norm1(width),
      norm2(width),
      dropout_p(dropout) {
    add("self_attn", self_attn);
    add("linear1", linear1);
    add("linear2", linear2);
    add("norm1", norm1);
    add("norm2", norm2);
}

Var PostNormBlock::operator()(const Var& x, const AttentionOptions& options, const Pass& pass,
                              const RowMaps& rows) const {
    const Var y = norm1(dropout(self_attn(x, options, pass, rows), dropout_p, pass), rows.own(x));
    Var z = feed_forward(linear1, UnaryOp::gelu, linear2, y, dropout_p, pass);
    return norm2(dropout(std::move(z), dropout_p, pass), y);
}

}  // namespace mc::nn
