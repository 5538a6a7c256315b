#include "models/vq/residual_quantizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "autograd/common.h"
#include "tensor/argmax.h"
#include "tensor/sort.h"

namespace mc::vq {
namespace {

constexpr int64_t kUpdatesBetweenResets = 20;

// ids (R) = the nearest code of each of rows (R, C); the distances (R, K) too if wanted.
void nearest(const Tensor& ids, const Tensor& rows, const Tensor& codebook, Tensor* distance) {
    detail::check_alike("nearest_code", rows, codebook);
    if (distance)
        *distance = Tensor::empty({rows.size(0), codebook.size(0)}, rows.dtype(), rows.device());
    dispatch_float(rows.dtype(), "nearest_code", [&](auto zero) {
        using T = decltype(zero);
        detail::table<T>(rows).nearest_code(
            detail::context(rows), ids.ptr<int64_t>(), distance ? distance->ptr<T>() : nullptr,
            rows.ptr<T>(), codebook.ptr<T>(), rows.size(0), codebook.size(0), rows.size(1));
    });
}

// (R): argmax over codes of -distance / temperature + Gumbel noise from uniforms u (R, K), all on
// one device.
Tensor sampled(const Tensor& distance, const Tensor& u, double temperature) {
    const Var floor(Tensor::full({}, 1e-20, u.dtype(), distance.device()));
    auto guarded_log = [&](const Var& x) {  // log(max(x, 1e-20))
        return log(unary(UnaryOp::relu, x - floor) + floor);
    };
    const Var gumbel = neg(guarded_log(neg(guarded_log(Var(u)))));
    return argmax(
        (scale(Var(distance), -1.0 / temperature) + Var(gumbel.value().to(distance.dtype())))
            .value());
}

// Adds each of rows (R, C) to the row of `sums` (K, C), or (K) for C = 1, that its id names.
void add_rows(const Tensor& sums, const Tensor& rows, const Tensor& ids) {
    dispatch_float(rows.dtype(), "scatter_add_rows", [&](auto zero) {
        using T = decltype(zero);
        detail::table<T>(rows).scatter_add_rows(detail::context(rows), sums.ptr<T>(), rows.ptr<T>(),
                                                ids.ptr<int64_t>(), rows.size(0), rows.size(1),
                                                sums.size(0));
    });
}

Tensor averaged(const Tensor& old, const Tensor& fresh, double keep) {
    return add(affine(Var(old.to(fresh.device())), keep, 0), affine(Var(fresh), 1.0 - keep, 0))
        .value();
}

// True where x < 1.
Tensor below_one(const Tensor& x) {
    return relu(affine(Var(x), -1, 1)).value().to(DType::boolean);
}

// rows (R, C), or where there are uniforms u (times R, C, 2): repeated, each element with noise
// N(0, (0.01 / sqrt C)^2) of its own (Box-Muller), added in f64.
Tensor tiled(const Tensor& rows, const Tensor& u) {
    if (!u.defined()) return rows;
    const int64_t total = u.size(0), have = rows.size(0), c = rows.size(1);
    const double std = 0.01 / std::sqrt(static_cast<double>(c));
    const Tensor noise = Tensor::empty({total / have, have, c}, DType::f64);
    for (int64_t i = 0; i < total * c; ++i) {
        const double radius =
            std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(u.data<float>()[2 * i])));
        const double angle = 2.0 * M_PI * static_cast<double>(u.data<float>()[2 * i + 1]);
        noise.data<double>()[i] = std * radius * std::cos(angle);
    }
    return add(Var(rows.to(DType::f64)), Var(noise.to(rows.device())))
        .value()
        .to(rows.dtype())
        .reshape({total, c});
}

// Of all ranks' rows the first `count`, on every rank.
Tensor first_rows(const Tensor& rows, const Share& share, int64_t count, Communicator& ranks) {
    if (ranks.size() == 1) return rows;
    const Share first{std::min(share.begin, count), std::min(share.end, count),
                      std::min(share.total, count)};
    return ranks.all_gather(rows.slice(0, 0, first.size()), first);
}

// Row q of a tensor (Q, n), sharing its storage.
Tensor row_of(const Tensor& all, int64_t q) {
    return all.slice(0, q, q + 1).reshape({all.size(1)});
}

// (Q, B n) -> (B, n, Q)
Tensor layers_last(const Tensor& ids, int64_t batch) {
    return ids.reshape({ids.size(0), batch, ids.size(1) / batch}).permute({1, 2, 0}).contiguous();
}

Tensor gather(const Tensor& codebook, const Tensor& ids) {
    return embedding(Var(codebook), ids).value();
}

}  // namespace

ResidualQuantizer::Layer::Layer(const QuantizerConfig& config)
    : codebook(Tensor::zeros({config.nb_code, config.code_dim})) {
    add_buffer("codebook", codebook);
}

void ResidualQuantizer::Layer::begin() {
    code_sum = codebook.clone();
    code_count = Tensor::full({codebook.size(0)}, 1, codebook.dtype(), codebook.device());
    used = Tensor::zeros({codebook.size(0)}, codebook.dtype(), codebook.device());
    updates = 0;
    begun = true;
}

ResidualQuantizer::ResidualQuantizer(const QuantizerConfig& config) : config_(config) {
    if (config.periodic_reset && config.num_quantizers != 1)
        throw Error("[quantizer] " + std::to_string(config.num_quantizers) +
                    " layers with periodic_reset, which is for one codebook; set num_quantizers=1");
    for (int64_t q = 0; q < config.num_quantizers; ++q) {
        layers_.push_back(std::make_unique<Layer>(config));
        add(config.periodic_reset ? "" : "layers." + std::to_string(q), *layers_.back());
    }
}

Tensor ResidualQuantizer::encode(const Tensor& e) const {
    const int64_t batch = e.size(0), rows = batch * e.size(1), q_count = config_.num_quantizers;
    Tensor residual = e.reshape({rows, e.size(2)});
    const Tensor ids = Tensor::empty({q_count, rows}, DType::i64, e.device());
    for (int64_t q = 0; q < q_count; ++q) {
        const Tensor chosen = row_of(ids, q);
        nearest(chosen, residual, layers_[q]->codebook, nullptr);
        if (q + 1 < q_count)
            residual = sub(Var(residual), Var(gather(layers_[q]->codebook, chosen))).value();
    }
    return layers_last(ids, batch);
}

Tensor ResidualQuantizer::decode(const Tensor& ids) const {
    const int64_t batch = ids.size(0), n = ids.size(1), used = ids.size(2);
    if (used > config_.num_quantizers)
        throw Error("[quantizer] ids " + ids.shape().str() + " for " +
                    std::to_string(config_.num_quantizers) + " layers");
    Var sum;
    for (int64_t q = 0; q < used; ++q) {
        const Tensor layer_ids = ids.slice(2, q, q + 1).contiguous().reshape({batch, n});
        const Var codes(gather(layers_[q]->codebook, layer_ids));
        sum = sum.defined() ? sum + codes : codes;
    }
    return sum.value();
}

template <class Choose, class Learn>
Quantized ResidualQuantizer::quantize(const Var& e, int64_t active, const Choose& choose,
                                      const Learn& learn) const {
    const int64_t batch = e.size(0), n = e.size(1), c = e.size(2), rows = batch * n;
    const DeviceType device = e.value().device();
    const Tensor ids = Tensor::empty({config_.num_quantizers, rows}, DType::i64, device);
    ids.slice(0, active, config_.num_quantizers).fill_(-1);
    const Tensor ones = Tensor::full({rows, 1}, 1, e.dtype(), device);
    Quantized result;
    result.code_counts = Tensor::zeros({active, config_.nb_code}, e.dtype(), device);
    const Var flat = reshape(e, {rows, c});
    Tensor residual = flat.value().contiguous();
    Var taken, commitment;
    for (int64_t q = 0; q < active; ++q) {
        const Tensor chosen = row_of(ids, q), counts = row_of(result.code_counts, q);
        choose(q, residual, chosen);
        add_rows(counts, ones, chosen);
        const Var code(gather(layers_[q]->codebook, chosen));  // before this step's update
        const Var live = taken.defined() ? flat - taken : flat;
        const Var term = mse(live, code);
        commitment = commitment.defined() ? commitment + term : term;
        learn(q, residual, chosen, counts);
        taken = taken.defined() ? taken + code : code;
        if (q + 1 < active) residual = sub(Var(residual), code).value();
    }
    const double layers = static_cast<double>(active);
    result.ids = layers_last(ids, batch);
    result.codes =
        reshape(straight_through(taken.value(), flat, config_.reference_gain ? layers : 1.0),
                {batch, n, c});
    result.commitment = scale(commitment, 1.0 / layers);
    return result;
}

Quantized ResidualQuantizer::operator()(const Var& e) const {
    return quantize(
        e, config_.num_quantizers,
        [&](int64_t q, const Tensor& rows, const Tensor& ids) {
            nearest(ids, rows, layers_[q]->codebook, nullptr);
        },
        [](auto&&...) {});
}

Tensor ResidualQuantizer::tile_draws(const Tensor& rows, const std::string& name,
                                     UniformSource& draws) const {
    const int64_t have = rows.size(0), times = (config_.nb_code + have - 1) / have;
    return times > 1 ? draws.uniform(name + ".tile", {times * have, rows.size(1), 2}) : Tensor();
}

Tensor ResidualQuantizer::replacements(const Tensor& rows, const Tensor& order) const {
    if (!order.defined()) return rows.slice(0, 0, config_.nb_code);
    return gather(rows, argsort(order).slice(0, 0, config_.nb_code));
}

void ResidualQuantizer::update(Layer& layer, const Tensor& rows, const Tensor& ids,
                               const Tensor& counts, const Tensor& pool, const std::string& name,
                               UniformSource& draws, Communicator& ranks) {
    const Shape shape = layer.codebook.shape(), column{shape[0], 1};
    const Tensor sums = Tensor::zeros(shape, rows.dtype(), rows.device());
    add_rows(sums, rows, ids);
    ranks.all_reduce(sums);
    ranks.all_reduce(counts);
    layer.code_sum = averaged(layer.code_sum, sums, config_.mu);
    layer.code_count = averaged(layer.code_count, counts, config_.mu);
    // Drawn at every update, as the original does; used where codes are replaced.
    const Tensor noise = tile_draws(pool, name, draws);
    Tensor order, dead = below_one(layer.code_count);
    bool reset = true;
    if (config_.periodic_reset) {
        const int64_t candidates = noise.defined() ? noise.size(0) : pool.size(0);
        order = draws.uniform_on(rows.device(), name + ".randperm", {candidates});
        const Tensor ones = Tensor::full({shape[0]}, 1, rows.dtype(), rows.device());
        layer.used = select(dead, layer.used.to(rows.device()), ones).value();
        dead = below_one(layer.used);
        reset = layer.updates >= kUpdatesBetweenResets;
        layer.updates = reset ? 0 : layer.updates + 1;
    }
    Var codes = div(layer.code_sum, layer.code_count.reshape(column));
    if (reset)  // row i revives code i (QUIRK Q13)
        codes = select(dead.reshape(column).expand(shape), replacements(tiled(pool, noise), order),
                       codes);
    layer.codebook.copy_(codes.value());
}

Quantized ResidualQuantizer::train(const Var& e, UniformSource& draws, Communicator& ranks) {
    const int64_t q_count = config_.num_quantizers;
    const Share share = ranks.place(e.size(0) * e.size(1));
    const auto pool = [&](const Tensor& rows) {
        return first_rows(rows, share, config_.periodic_reset ? share.total : config_.nb_code,
                          ranks);
    };
    int64_t active = q_count;
    if (config_.quantize_dropout > 0) {
        const Tensor u = draws.uniform("quantize_dropout", {2});
        if (u.data<float>()[0] < config_.quantize_dropout)
            active = 1 + std::min<int64_t>(q_count - 1,
                                           static_cast<int64_t>(u.data<float>()[1] *
                                                                static_cast<float>(q_count)));
    }
    const auto name = [](int64_t q) { return "layer" + std::to_string(q); };
    return quantize(
        e, active,
        [&](int64_t q, const Tensor& rows, const Tensor& ids) {
            Layer& layer = *layers_[q];
            if (!layer.begun) {
                const Tensor all = pool(rows);
                const Tensor first = tiled(all, tile_draws(all, name(q) + ".init", draws));
                layer.codebook.copy_(first.slice(0, 0, config_.nb_code));
                layer.begin();
            }
            const bool sample = config_.sample_temperature > 0;
            Tensor distance;
            nearest(ids, rows, layer.codebook, sample ? &distance : nullptr);
            if (sample) {
                const Tensor u =
                    draws.uniform_on(distance.device(), name(q), {share.total, config_.nb_code});
                ids.copy_(sampled(distance, u.slice(0, share.begin, share.end),
                                  config_.sample_temperature));
            }
        },
        [&](int64_t q, const Tensor& rows, const Tensor& ids, const Tensor& counts) {
            update(*layers_[q], rows, ids, counts, pool(rows), name(q) + ".reset", draws, ranks);
        });
}

double perplexity(const Tensor& code_counts) {
    const int64_t layers = code_counts.size(0), codes = code_counts.size(1);
    const std::vector<double> counts = code_counts.to(DType::f64).to_vector<double>();
    double sum = 0;
    for (int64_t q = 0; q < layers; ++q) {
        const std::span<const double> of_layer(counts.data() + q * codes,
                                               static_cast<size_t>(codes));
        const double rows = std::accumulate(of_layer.begin(), of_layer.end(), 0.0);
        double entropy = 0;
        for (const double k : of_layer) entropy -= k / rows * std::log(k / rows + 1e-7);
        sum += std::exp(entropy);
    }
    return sum / static_cast<double>(layers);
}

nn::TensorMap ResidualQuantizer::training_state() const {
    nn::TensorMap state;
    for (size_t q = 0; q < layers_.size(); ++q) {
        if (!layers_[q]->begun) continue;
        state["code_sum." + std::to_string(q)] = layers_[q]->code_sum;
        state["code_count." + std::to_string(q)] = layers_[q]->code_count;
        if (!config_.periodic_reset) continue;
        state["used." + std::to_string(q)] = layers_[q]->used;
        state["updates." + std::to_string(q)] = Tensor::from_ids({layers_[q]->updates}, {1});
    }
    return state;
}

void ResidualQuantizer::load_training_state(const nn::TensorMap& state) {
    for (size_t q = 0; q < layers_.size(); ++q) {
        auto sum = state.find("code_sum." + std::to_string(q)),
             count = state.find("code_count." + std::to_string(q));
        layers_[q]->begun = sum != state.end() && count != state.end();
        if (!layers_[q]->begun) continue;
        if (!(sum->second.shape() == layers_[q]->codebook.shape()) ||
            !(count->second.shape() == Shape{config_.nb_code}))
            throw Error("[quantizer] saved sums of layer " + std::to_string(q) + " have shape " +
                        sum->second.shape().str() + ", want " + layers_[q]->codebook.shape().str());
        const auto own = [&](const Tensor& saved) {  // like the codebook
            return saved.to(layers_[q]->codebook.dtype()).to(layers_[q]->codebook.device()).clone();
        };
        layers_[q]->code_sum = own(sum->second);
        layers_[q]->code_count = own(count->second);
        if (!config_.periodic_reset) continue;
        const auto used = state.find("used." + std::to_string(q)),
                   updates = state.find("updates." + std::to_string(q));
        if (used == state.end() || !(used->second.shape() == Shape{config_.nb_code}) ||
            updates == state.end() || updates->second.numel() != 1)
            throw Error("[quantizer] the saved state of the codebook lacks used." +
                        std::to_string(q) + " and updates." + std::to_string(q) +
                        "; it is of another kind of quantiser");
        layers_[q]->used = own(used->second);
        layers_[q]->updates = updates->second.to_vector<int64_t>()[0];
    }
}

void ResidualQuantizer::begin_from_codebooks() {
    for (const auto& layer : layers_) layer->begin();
}

}  // namespace mc::vq
