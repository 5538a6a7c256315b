#include "train/loop.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "train/data_parallel.h"
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

// "lr: 0.0008, now 0.001", of the first key in which they differ.
std::string first_difference(const nlohmann::json& then, const nlohmann::json& now,
                             const std::string& prefix) {
    const auto text = [](const nlohmann::json& in, const std::string& key) {
        return in.contains(key) ? in.at(key).dump() : "nothing";
    };
    for (const nlohmann::json* each : {&then, &now})
        for (const auto& [key, value] : each->items()) {
            if (text(then, key) == text(now, key)) continue;
            if (then.contains(key) && now.contains(key) && then.at(key).is_object() &&
                now.at(key).is_object())
                return first_difference(then.at(key), now.at(key), prefix + key + ".");
            return prefix + key + ": " + text(then, key) + ", now " + text(now, key);
        }
    return "";
}

// Where the last checkpoint stands, if the run is resumed.
void begin(Stage& stage, const LoopOptions& options, const RunFolder& run, AdamW& optimizer,
           LoopResult& result) {
    if (!run.can_resume()) return;
    const Checkpoint saved = load_checkpoint(run.latest(), stage.name());
    if (saved.config != options.config)
        throw Error(run.latest().string() + ": was made with another configuration (" +
                    first_difference(saved.config, options.config, "") +
                    "); resume with the same, or name another --out folder");
    stage.model().load(checkpoint_model(saved), {{}, run.latest().string()});
    optimizer.load(saved.section("optimizer"));
    stage.load_extra(saved.section("extra"));
    result.steps = saved.step;
    if (saved.best_metric) result.best = *saved.best_metric;
}

void check_batch(int64_t batch, const Communicator& ranks) {
    if (batch % ranks.size() != 0)
        throw Error(
            fmt::format("batch={} is of all {} processes and no multiple of their number; "
                        "set batch={}",
                        batch, ranks.size(), (batch / ranks.size() + 1) * ranks.size()));
}

}  // namespace

void check_run(const std::filesystem::path& out, bool resume, const nlohmann::json& config,
               const Communicator& ranks) {
    if (config.contains("batch")) check_batch(config.at("batch"), ranks);
    const RunFolder run(out);
    if (run.can_resume()) {
        if (!resume)
            throw Error(
                run.latest().string() +
                ": a run is there already; add --resume to go on, or name another --out folder");
    } else if (std::filesystem::exists(run.best())) {
        throw Error(run.best().string() + ": is here and " + run.latest().string() +
                    " is not, so that this run cannot go on; begin from it with --start in "
                    "another --out folder");
    }
    if (!ranks.first()) return;
    run.check_can_be_made();
    if (std::filesystem::exists(run.path())) RunClaim nobody(run);
}

nn::TensorMap checkpoint_model(const Checkpoint& checkpoint) {
    nn::TensorMap state;
    for (const auto& [name, tensor] : checkpoint.section("model")) state[name] = tensor;
    return state;
}

LoopResult run_loop(Stage& stage, const LoopOptions& options) {
    Communicator& ranks = stage.ranks();
    const RunFolder run(options.out);
    AdamW optimizer(options.adamw);
    optimizer.add(stage.model().parameters());
    LoopResult result;
    result.best = std::numeric_limits<double>::infinity();
    std::optional<RunClaim> claim;
    together(ranks, [&] {
        check_run(options.out, options.resume, options.config, ranks);
        if (ranks.first()) {
            run.make();
            claim.emplace(run);
            claim->clean();
        }
        begin(stage, options, run, optimizer, result);
    });
    want_same(result.steps,
              run.latest().string() +
                  ": the processes see different checkpoints; --out must be on a disk that all of "
                  "them share",
              ranks);
    std::optional<RunLog> log;
    std::unique_ptr<Progress> progress;
    together(ranks, [&] {
        if (!ranks.first()) return;
        log.emplace(run.log(), result.steps ? std::optional(result.steps) : std::nullopt);
        ProgressOptions progress_options;
        progress_options.done = result.steps;
        if (!options.quiet)
            progress = std::make_unique<Progress>(stage.name(), options.steps, progress_options);
    });
    Interrupt interrupt(ranks.first() ? kStopNotice : nullptr);

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
    auto validate = [&](int64_t step) {  // true: the best so far
        const Metrics validation = stage.validate();
        if (validation.empty()) return false;
        guard_value(step, "the validation score", validation.at("score"));
        result.validation = validation;
        const bool is_best = validation.at("score") < result.best;
        if (is_best) result.best = validation.at("score");
        log->write({{"step", result.steps}, {"validation", as_json(validation)}});
        started = std::chrono::steady_clock::now();
        return is_best;
    };
    while (result.steps < options.steps && !any(interrupt.requested(), ranks)) {
        const int64_t step = result.steps;
        Generator generator(options.seed, static_cast<uint64_t>(step) << 32);
        stage.prepare(step, optimizer);
        Metrics metrics = stage.step(step, generator);
        average(metrics, ranks);
        alike(ranks, [&] { guard_value(step + 1, "loss", metrics.at("loss")); });
        average_gradients(stage.model().parameters(), ranks);
        const double norm = optimizer.gradient_norm();
        alike(ranks, [&] { guard_value(step + 1, "the gradient norm", norm); });
        optimizer.step(options.rate(step), clip_factor(norm, options.clip_norm));
        ++result.steps;
        result.train = metrics;
        for (const auto& [key, value] : metrics) sums[key] += value;
        sums["gradient_norm"] += norm;
        ++summed;
        if (progress)
            progress->update(result.steps, fmt::format("loss {:.4f}", metrics.at("loss")));
        if (log && (result.steps % options.log_every == 0 || result.steps == options.steps)) {
            const auto now = std::chrono::steady_clock::now();
            Metrics means;
            for (const auto& [key, value] : sums) means[key] = value / static_cast<double>(summed);
            nlohmann::json record = as_json(means);
            record["step"] = result.steps;
            record["lr"] = options.rate(step);
            record["seconds_per_step"] =
                std::chrono::duration<double>(now - started).count() / static_cast<double>(summed);
            log->write(record);
            sums.clear();
            summed = 0;
            started = now;
        }
        const bool last = result.steps == options.steps;
        const bool validates = last || result.steps % options.validate_every == 0;
        const bool saves = last || result.steps % options.save_every == 0;
        if (!validates && !saves) continue;
        together(ranks, [&] {
            if (!ranks.first()) return;
            const bool is_best = validates && validate(result.steps);
            if (is_best || saves) save(is_best);
        });
    }
    if (progress) progress->finish();
    result.finished = result.steps >= options.steps;
    result.signal = interrupt.signal();
    if (!result.finished)
        together(ranks, [&] {
            if (ranks.first()) save(false);
        });
    return result;
}

}  // namespace mc::train
