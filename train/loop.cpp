#include "train/loop.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "train/guard.h"
#include "train/interrupt.h"
#include "train/progress.h"
#include "train/run_log.h"

namespace mc::train {
namespace {

NamedTensors named(const nn::TensorMap& map) {
    return NamedTensors(map.begin(), map.end());
}

nlohmann::json as_json(const Metrics& metrics) {
    nlohmann::json record = nlohmann::json::object();
    for (const auto& [key, value] : metrics) record[key] = value;
    return record;
}

}  // namespace

nn::TensorMap checkpoint_model(const Checkpoint& checkpoint) {
    nn::TensorMap state;
    for (const auto& [name, tensor] : checkpoint.section("model")) state[name] = tensor;
    return state;
}

LoopResult run_loop(Stage& stage, const LoopOptions& options) {
    const RunFolder run(options.out);
    AdamW optimizer(options.adamw);
    optimizer.add(stage.model().parameters());
    LoopResult result;
    result.best = std::numeric_limits<double>::infinity();
    if (options.resume && run.can_resume()) {
        const Checkpoint saved = load_checkpoint(run.latest(), stage.name());
        if (saved.config != options.config)
            throw Error(run.latest().string() +
                        ": was made with another configuration; resume with the same, or name "
                        "another --out folder");
        stage.model().load(checkpoint_model(saved), {{}, run.latest().string()});
        optimizer.load(saved.section("optimizer"));
        stage.load_extra(saved.section("extra"));
        result.steps = saved.step;
        if (saved.best_metric) result.best = *saved.best_metric;
    } else if (!options.resume && run.can_resume()) {
        throw Error(
            run.latest().string() +
            ": a run is there already; add --resume to go on, or name another --out folder");
    }
    RunLog log(run.log(), result.steps ? std::optional(result.steps) : std::nullopt);
    Interrupt interrupt;
    ProgressOptions progress_options;
    progress_options.done = result.steps;
    std::unique_ptr<Progress> progress;
    if (!options.quiet)
        progress = std::make_unique<Progress>(stage.name(), options.steps, progress_options);

    auto save = [&](bool is_best) {
        Checkpoint checkpoint;
        checkpoint.stage = stage.name();
        checkpoint.config = options.config;
        checkpoint.step = result.steps;
        checkpoint.generators["main"] = {options.seed, static_cast<uint64_t>(result.steps) << 32};
        if (std::isfinite(result.best)) checkpoint.best_metric = result.best;
        checkpoint.add("model", named(stage.model().state()));
        checkpoint.add("optimizer", optimizer.state());
        checkpoint.add("extra", stage.extra_state());
        run.save(checkpoint, is_best);
    };

    Metrics sums;
    int64_t summed = 0;
    auto started = std::chrono::steady_clock::now();
    while (result.steps < options.steps && !interrupt.requested()) {
        const int64_t step = result.steps;
        Generator generator(options.seed, static_cast<uint64_t>(step) << 32);
        stage.prepare(step, optimizer);
        const Metrics metrics = stage.step(step, generator);
        guard_value(step, "loss", metrics.at("loss"));
        const double norm = optimizer.gradient_norm();
        guard_value(step, "the gradient norm", norm);
        optimizer.step(options.rate(step), clip_factor(norm, options.clip_norm));
        ++result.steps;
        result.train = metrics;
        for (const auto& [key, value] : metrics) sums[key] += value;
        sums["gradient_norm"] += norm;
        ++summed;
        if (progress)
            progress->update(result.steps, fmt::format("loss {:.4f}", metrics.at("loss")));
        if (result.steps % options.log_every == 0 || result.steps == options.steps) {
            const auto now = std::chrono::steady_clock::now();
            Metrics means;
            for (const auto& [key, value] : sums) means[key] = value / static_cast<double>(summed);
            nlohmann::json record = as_json(means);
            record["step"] = result.steps;
            record["lr"] = options.rate(step);
            record["seconds_per_step"] =
                std::chrono::duration<double>(now - started).count() / static_cast<double>(summed);
            log.write(record);
            sums.clear();
            summed = 0;
            started = now;
        }
        bool is_best = false;
        if (result.steps % options.validate_every == 0 || result.steps == options.steps) {
            const Metrics validation = stage.validate();
            if (!validation.empty()) {
                guard_value(step, "the validation score", validation.at("score"));
                result.validation = validation;
                is_best = validation.at("score") < result.best;
                if (is_best) result.best = validation.at("score");
                nlohmann::json record = {{"step", result.steps},
                                         {"validation", as_json(validation)}};
                log.write(record);
                started = std::chrono::steady_clock::now();
            }
        }
        if (is_best || result.steps % options.save_every == 0 || result.steps == options.steps)
            save(is_best);
    }
    if (progress) progress->finish();
    result.finished = result.steps >= options.steps;
    if (!result.finished) save(false);
    return result;
}

}  // namespace mc::train
