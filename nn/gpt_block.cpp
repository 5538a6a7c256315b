#include "nn/gpt_block.h"

namespace mc::nn {

SplitAttention::SplitAttention(int64_t width, int64_t heads_in, double dropout, Generator* init)
    : key(width, width, init),
      query(width, width, init),
      value(width, width, init),
      proj(width, width, init),
      heads(heads_in),
      dropout_p(dropout) {
    add("key", key);
    add("query", query);
    add("value", value);
    add("proj", proj);
}

Var SplitAttention::operator()(const Var& x, const Var& source, AttentionOptions options,
                               const Pass& pass, const RowMaps& rows) const {
    options.heads = heads;
    if (pass.training && dropout_p > 0) {
        options.dropout = dropout_p;
        options.generator = pass.generator;
    }
    if (rows.kept)
        return proj(rows.attention_to_kept(query(x), key(source), value(source), options));
    const Var q = rows.wanted ? query(rows.own(x)) : rows.attended(query(x));
    const Var mixed =
        attention(q, rows.attended(key(source)), rows.attended(value(source)), options);
    return dropout(proj(mixed), dropout_p, pass);
}

GptMlp::GptMlp(int64_t width, int64_t hidden, double dropout, Generator* init)
    : fc(width, hidden, init), out(hidden, width, init), dropout_p(dropout) {
    add("0", fc);
    add("2", out);
}

Var GptMlp::operator()(const Var& x, const Pass& pass) const {
    return dropout(feed_forward(fc, UnaryOp::gelu, out, x), dropout_p, pass);
}

GptBlock::GptBlock(int64_t width, int64_t heads, int64_t hidden, double dropout, Generator* init)
    : ln1(width), ln2(width), attn(width, heads, dropout, init), mlp(width, hidden, dropout, init) {
    add("ln1", ln1);
    add("ln2", ln2);
    add("attn", attn);
    add("mlp", mlp);
}

Var GptBlock::operator()(const Var& x, const AttentionOptions& options, const Pass& pass,
                         const RowMaps& rows) const {
    const Var normed = ln1(x);
    const Var y = rows.own(x) + attn(normed, normed, options, pass, rows);
    return y + mlp(ln2(y), pass);
}

GptCrossBlock::GptCrossBlock(int64_t width, int64_t heads, int64_t hidden, double dropout,
                             Generator* init)
    : ln1(width),
      ln2(width),
      ln3(width),
      attn(width, heads, dropout, init),
      mlp(width, hidden, dropout, init) {
    add("ln1", ln1);
    add("ln2", ln2);
    add("ln3", ln3);
    add("attn", attn);
    add("mlp", mlp);
}

Var GptCrossBlock::operator()(const Var& x, const Var& words, const Pass& pass) const {
    const Var y = x + attn(ln1(x), ln3(words), {}, pass);
    return y + mlp(ln2(y), pass);
}

void normal_init(Module& module, Generator* init) {
    if (!init) return;
    for (auto& [name, parameter] : module.parameters()) {
        if (name.ends_with("in_proj_weight")) continue;
        if (parameter->dims() >= 2)
            parameter->value().copy_(init->normal(parameter->shape(), 0, 0.02));
        else if (name.ends_with("bias"))
            parameter->value().fill_(0);
    }
}

}  // namespace mc::nn
