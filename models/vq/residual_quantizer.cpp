#include "models/vq/residual_quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace mc::vq {
namespace {

constexpr int64_t kUpdatesBetweenResets = 20;

// rows (R, C) f32 -> the nearest code of each, and the distances (R, K) if wanted.
Tensor nearest(const Tensor& rows, const Tensor& codebook, Tensor* distance) {
    Tensor ids = Tensor::empty({rows.size(0)}, DType::i64);
    if (distance) *distance = Tensor::empty({rows.size(0), codebook.size(0)}, rows.dtype());
    dispatch_float(rows.dtype(), "nearest_code", [&](auto zero) {
        using T = decltype(zero);
        backend(rows.device())
            .table<T>()
            .nearest_code(default_context(rows.device()), ids.data<int64_t>(),
                          distance ? distance->data<T>() : nullptr, rows.data<T>(),
                          codebook.data<T>(), rows.size(0), codebook.size(0), rows.size(1));
    });
    return ids;
}

// argmax over codes of -distance / temperature + Gumbel noise from uniforms u (R, K).
Tensor sampled(const Tensor& distance, const Tensor& u, double temperature) {
    const Var floor(Tensor::full({}, 1e-20, u.dtype()));
    auto guarded_log = [&](const Var& x) {  // log(max(x, 1e-20))
        return log(unary(UnaryOp::relu, x - floor) + floor);
    };
    const Var gumbel = neg(guarded_log(neg(guarded_log(Var(u)))));
    const Tensor score =
        (scale(Var(distance), -1.0 / temperature) + Var(gumbel.value().to(distance.dtype())))
            .value();
    const int64_t rows = score.size(0), codes = score.size(1);
    Tensor ids = Tensor::empty({rows}, DType::i64);
    dispatch_float(score.dtype(), "sample_code", [&](auto zero) {
        using T = decltype(zero);
        Tensor best = Tensor::empty({rows}, score.dtype());
        backend(DeviceType::cpu)
            .table<T>()
            .max(default_context(DeviceType::cpu), best.data<T>(), ids.data<int64_t>(),
                 score.data<T>(), rows, codes, 1);
    });
    return ids;
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
    code_count = Tensor::full({codebook.size(0)}, 1, codebook.dtype());
    used = Tensor::zeros({codebook.size(0)}, codebook.dtype());
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
    const int64_t batch = e.size(0), n = e.size(1), q_count = config_.num_quantizers;
    Tensor residual = e.contiguous().reshape({batch * n, e.size(2)});
    Tensor ids = Tensor::empty({batch * n, q_count}, DType::i64);
    for (int64_t q = 0; q < q_count; ++q) {
        const Tensor chosen = nearest(residual, layers_[q]->codebook, nullptr);
        for (int64_t r = 0; r < batch * n; ++r)
            ids.data<int64_t>()[r * q_count + q] = chosen.data<int64_t>()[r];
        if (q + 1 < q_count)
            residual = sub(Var(residual), Var(gather(layers_[q]->codebook, chosen))).value();
    }
    return ids.reshape({batch, n, q_count});
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

Quantized ResidualQuantizer::operator()(const Var& e) const {
    const int64_t batch = e.size(0), n = e.size(1), c = e.size(2);
    Quantized result;
    result.ids = encode(e.value());
    const Var flat = reshape(e, {batch * n, c});
    Var taken, commitment;
    double perplexity = 0;
    for (int64_t q = 0; q < config_.num_quantizers; ++q) {
        const Tensor ids = result.ids.slice(2, q, q + 1).contiguous().reshape({batch * n});
        const Var code(gather(layers_[q]->codebook, ids));
        const Var residual = taken.defined() ? flat - taken : flat;
        const Var term = mse(residual, code);
        commitment = commitment.defined() ? commitment + term : term;
        taken = taken.defined() ? taken + code : code;
        std::vector<double> count(static_cast<size_t>(config_.nb_code));
        for (int64_t r = 0; r < batch * n; ++r) count[ids.data<int64_t>()[r]] += 1;
        double entropy = 0;
        for (double k : count)
            entropy -= k / static_cast<double>(batch * n) *
                       std::log(k / static_cast<double>(batch * n) + 1e-7);
        perplexity += std::exp(entropy) / static_cast<double>(config_.num_quantizers);
    }
    const double active = static_cast<double>(config_.num_quantizers);
    result.codes =
        reshape(straight_through(taken.value(), flat, config_.reference_gain ? active : 1.0),
                {batch, n, c});
    result.commitment = scale(commitment, 1.0 / active);
    result.perplexity = perplexity;
    return result;
}

Tensor ResidualQuantizer::enough_rows(const Tensor& rows, const std::string& name,
                                      UniformSource& draws) const {
    const int64_t have = rows.size(0), want = config_.nb_code, c = rows.size(1);
    if (have >= want) return rows;
    // Tile, and add N(0, (0.01 / sqrt C)^2) to every row (Box-Muller on the source's uniforms).
    const int64_t times = (want + have - 1) / have, total = times * have;
    const Tensor u = draws.uniform(name + ".tile", {total, c, 2});
    Tensor tiled = Tensor::empty({total, c}, rows.dtype());
    const double std = 0.01 / std::sqrt(static_cast<double>(c));
    dispatch_float(rows.dtype(), "tile", [&](auto zero) {
        using T = decltype(zero);
        for (int64_t i = 0; i < total * c; ++i) {
            const double radius =
                std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(u.data<float>()[2 * i])));
            const double angle = 2.0 * M_PI * static_cast<double>(u.data<float>()[2 * i + 1]);
            tiled.data<T>()[i] =
                static_cast<T>(static_cast<double>(rows.data<T>()[i % (have * c)]) +
                               std * radius * std::cos(angle));
        }
    });
    return tiled;
}

Tensor ResidualQuantizer::replacements(const Tensor& rows_in, const std::string& name,
                                       UniformSource& draws) const {
    const Tensor rows = enough_rows(rows_in, name, draws);
    if (!config_.periodic_reset) return rows.slice(0, 0, config_.nb_code).contiguous();
    const int64_t n = rows.size(0);
    const Tensor u = draws.uniform(name + ".randperm", {n});
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return u.data<float>()[a] < u.data<float>()[b]; });
    order.resize(static_cast<size_t>(config_.nb_code));
    return gather(rows, Tensor::from_ids(order, {config_.nb_code}));
}

void ResidualQuantizer::update(Layer& layer, const Tensor& rows, const Tensor& ids,
                               const std::string& name, UniformSource& draws) {
    const int64_t codes = config_.nb_code, c = rows.size(1), n = rows.size(0);
    dispatch_float(rows.dtype(), "update_codebook", [&](auto zero) {
        using T = decltype(zero);
        Tensor sums = Tensor::zeros({codes, c}, rows.dtype());
        backend(DeviceType::cpu)
            .table<T>()
            .scatter_add_rows(default_context(DeviceType::cpu), sums.data<T>(), rows.data<T>(),
                              ids.data<int64_t>(), n, c, codes);
        std::vector<T> counts(static_cast<size_t>(codes));
        for (int64_t r = 0; r < n; ++r) counts[ids.data<int64_t>()[r]] += 1;
        const T keep = static_cast<T>(config_.mu), fresh = static_cast<T>(1.0 - config_.mu);
        const Tensor revived = replacements(rows, name, draws);  // row i revives code i (QUIRK Q13)
        const bool reset = !config_.periodic_reset || layer.updates >= kUpdatesBetweenResets;
        layer.updates = reset ? 0 : layer.updates + 1;
        for (int64_t k = 0; k < codes; ++k) {
            T& count = layer.code_count.data<T>()[k];
            count = keep * count + fresh * counts[k];
            T* sum = layer.code_sum.data<T>() + k * c;
            for (int64_t i = 0; i < c; ++i)
                sum[i] = keep * sum[i] + fresh * sums.data<T>()[k * c + i];
            bool alive = count >= T{1};
            if (config_.periodic_reset) {
                T& used = layer.used.data<T>()[k];
                if (alive) used = 1;
                alive = used > T{0};
            }
            T* code = layer.codebook.data<T>() + k * c;
            for (int64_t i = 0; i < c; ++i)
                code[i] = alive || !reset ? sum[i] / count : revived.data<T>()[k * c + i];
        }
        layer.codebook.bump_version();
    });
}

Quantized ResidualQuantizer::train(const Var& e, UniformSource& draws) {
    const int64_t batch = e.size(0), n = e.size(1), c = e.size(2), rows = batch * n,
                  q_count = config_.num_quantizers;
    int64_t active = q_count;
    if (config_.quantize_dropout > 0) {
        const Tensor u = draws.uniform("quantize_dropout", {2});
        if (u.data<float>()[0] < config_.quantize_dropout)
            active = 1 + std::min<int64_t>(q_count - 1,
                                           static_cast<int64_t>(u.data<float>()[1] *
                                                                static_cast<float>(q_count)));
    }
    Quantized result;
    result.ids = Tensor::full({rows, q_count}, -1, DType::i64);
    const Var flat = reshape(e, {rows, c});
    Tensor residual = flat.value().contiguous().clone();
    Var taken, commitment;
    double perplexity = 0;
    for (int64_t q = 0; q < active; ++q) {
        Layer& layer = *layers_[q];
        const std::string name = "layer" + std::to_string(q);
        if (!layer.begun) {
            layer.codebook.copy_(
                enough_rows(residual, name + ".init", draws).slice(0, 0, config_.nb_code));
            layer.begin();
        }
        Tensor distance;
        Tensor ids =
            nearest(residual, layer.codebook, config_.sample_temperature > 0 ? &distance : nullptr);
        if (config_.sample_temperature > 0)
            ids = sampled(distance, draws.uniform(name, {rows, config_.nb_code}),
                          config_.sample_temperature);
        for (int64_t r = 0; r < rows; ++r)
            result.ids.data<int64_t>()[r * q_count + q] = ids.data<int64_t>()[r];
        const Var code(gather(layer.codebook, ids));  // from the codebook before this step's update
        const Var live = taken.defined() ? flat - taken : flat;
        const Var term = mse(live, code);
        commitment = commitment.defined() ? commitment + term : term;
        std::vector<double> count(static_cast<size_t>(config_.nb_code));
        for (int64_t r = 0; r < rows; ++r) count[ids.data<int64_t>()[r]] += 1;
        double entropy = 0;
        for (double k : count)
            entropy -=
                k / static_cast<double>(rows) * std::log(k / static_cast<double>(rows) + 1e-7);
        perplexity += std::exp(entropy);
        update(layer, residual, ids, name + ".reset", draws);
        taken = taken.defined() ? taken + code : code;
        residual = sub(Var(residual), code).value();
    }
    const double used = static_cast<double>(active);
    result.ids = result.ids.reshape({batch, n, q_count});
    result.codes = reshape(
        straight_through(taken.value(), flat, config_.reference_gain ? used : 1.0), {batch, n, c});
    result.commitment = scale(commitment, 1.0 / used);
    result.perplexity = perplexity / used;
    return result;
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
        layers_[q]->code_sum = sum->second.clone();
        layers_[q]->code_count = count->second.clone();
        if (!config_.periodic_reset) continue;
        const auto used = state.find("used." + std::to_string(q)),
                   updates = state.find("updates." + std::to_string(q));
        if (used == state.end() || !(used->second.shape() == Shape{config_.nb_code}) ||
            updates == state.end() || updates->second.numel() != 1)
            throw Error("[quantizer] the saved state of the codebook lacks used." +
                        std::to_string(q) + " and updates." + std::to_string(q) +
                        "; it is of another kind of quantiser");
        layers_[q]->used = used->second.clone();
        layers_[q]->updates = updates->second.to_vector<int64_t>()[0];
    }
}

void ResidualQuantizer::begin_from_codebooks() {
    for (const auto& layer : layers_) layer->begin();
}

}  // namespace mc::vq
