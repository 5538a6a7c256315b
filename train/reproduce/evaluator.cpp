// t2m_evaluator: the networks that motions are scored with. metrics: the scores themselves.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <regex>

#include "models/evaluator/evaluator.h"
#include "models/evaluator/metrics.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

using namespace evaluator;

Tensor rows_of(const Tensor& x, const std::vector<int64_t>& order) {
    return embedding(Var(x), Tensor::from_ids(order, {static_cast<int64_t>(order.size())})).value();
}

Rows first_rows(const Tensor& x, int64_t n) {
    return Rows(x.slice(0, 0, n).contiguous());
}

double value(const ReferenceCase& recorded, const std::string& name) {
    const std::vector<double> all = recorded.values(name);
    return all.empty() ? std::nan("") : all[0];
}

// The number that follows `start` in a text.
int64_t number_after(const std::string& text, const std::string& start) {
    const size_t at = text.find(start);
    const int64_t number =
        at == std::string::npos ? 0 : std::strtoll(text.c_str() + at + start.size(), nullptr, 10);
    if (number < 1)
        throw Error("[reference] no number after \"" + start + "\" in \"" + text + "\"");
    return number;
}

// The two matrices that are not stored: "fid512: a=hash KEY [1000,512]*1.0, b=float32(hash
// KEY*1.1f + 0.05f)".
std::optional<std::pair<Tensor, Tensor>> wide_inputs(const ReferenceCase& recorded) {
    static const std::regex form(
        R"(fid512: a=hash (\S+) \[(\d{1,5}),(\d{1,5})\]\*([0-9.]+), b=float32\(hash (\S+)\*([0-9.]+)f \+ ([0-9.]+)f\))");
    const std::string line = recorded.metadata("regenerate_only");
    std::smatch match;
    if (!std::regex_search(line, match, form)) return {};
    const auto number = [&](int i) { return std::strtod(match[i].str().c_str(), nullptr); };
    const Shape shape{static_cast<int64_t>(number(2)), static_cast<int64_t>(number(3))};
    const Tensor a = hash_tensor(match[1], shape, number(4)), b = hash_tensor(match[5], shape);
    const float scale = static_cast<float>(number(6)), shift = static_cast<float>(number(7));
    for (int64_t i = 0; i < b.numel(); ++i) b.data<float>()[i] = b.data<float>()[i] * scale + shift;
    return std::pair{a, b};
}

// The trace of the second moments, an upper bound of the covariance's.
double spread(const Rows& x) {
    double squares = 0;
    for (const double v : x.values) squares += v * v;
    return squares / static_cast<double>(x.count - 1);
}

}  // namespace

void run_t2m_evaluator(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    EvaluatorConfig config;
    config.dim_pose = recorded.size("/movement/0") + 4;
    config.movement_hidden = recorded.size("/movement/1");
    config.movement_dim = recorded.size("/movement/2");
    config.word_dim = recorded.size("/text/word");
    config.pos_dim = recorded.size("/text/pos");
    config.text_hidden = recorded.size("/text/hidden");
    config.motion_hidden = recorded.size("/motion/hidden");
    config.embed_dim = recorded.size("/motion/out");
    config.unit = recorded.size("unit_length");
    Evaluator model(config, nullptr);
    checks.fill(model);
    const Tensor motions = checks.input("input.motions");
    const std::vector<int64_t> frames = checks.lengths("input.m_lens"),
                               words = checks.lengths("input.cap_lens");
    // The recorded rows stand from the longest motion to the shortest.
    std::vector<int64_t> order(frames.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return frames[a] < frames[b]; });
    std::reverse(order.begin(), order.end());
    checks.same("output.align_idx", order);
    checks.compare("output.movements",
                   model.movement_encoder()(Var(motions.to(checks.device()))).value());
    checks.compare("output.text_embedding",
                   rows_of(model.text_embeddings(checks.input("input.word_embs"),
                                                 checks.input("input.pos_ohot"), words),
                           order));
    checks.compare("output.motion_embedding",
                   rows_of(model.motion_embeddings(motions, frames), order));
}

void run_metrics(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const int64_t pool = recorded.size("batch");
    const Rows text(checks.input("input.text_emb")), motion(checks.input("input.motion_emb"));
    checks.compare_values("output.R_precision", {"output.R_precision"},
                          r_precision(text, motion, pool, recorded.size("top_k")),
                          recorded.values("output64.R_precision"), 0);
    const auto slice = [&](const Rows& x) {
        return Tensor::from_span<double>({x.values.data(), static_cast<size_t>(pool * x.width)},
                                         {pool, x.width});
    };
    const std::vector<double> matrix = distances(Rows(slice(text)), Rows(slice(motion)));
    checks.compare("output.dist_mat0", Tensor::from_span<double>(matrix, {pool, pool}));
    const double matching = matching_score(text, motion, pool);
    checks.compare("output.matching_score", matching);
    checks.compare("output.matching_trace", matching);

    // The reference's matrix root against its own by eigenvalues is the error of the former; both
    // in float64.
    const auto check_fid = [&](const std::string& name, const std::string& stable, const Rows& a,
                               const Rows& b) {
        if (!recorded.has(stable)) return;
        const double want = value(recorded, stable);
        double error = 0;
        for (const std::string& other : {"output64." + name, "output." + name})
            if (recorded.has(other)) {
                error = std::abs(value(recorded, other) - want);
                break;
            }
        // No difference of sums is better than the rounding of what goes in: of D traces in f64.
        const double rounding =
            std::ldexp(static_cast<double>(a.width) * (spread(a) + spread(b)), -52);
        checks.compare_values("output." + name, {"output." + name, stable},
                              {frechet_distance(a, b)}, {want}, std::max(error, rounding));
    };
    const Tensor a = checks.input("input.fid_a"), b = checks.input("input.fid_b"),
                 mixed = checks.input("input.fid_b_mixed");
    check_fid("fid.full", "output64.fid_stable.full", Rows(a), Rows(b));
    check_fid("fid.mixed", "output64.fid_stable.mixed", Rows(a), Rows(mixed));
    check_fid("fid.same", "output64.fid_stable.same", Rows(a), Rows(a));
    const int64_t few = number_after(recorded.text("note"), "first ");  // "first 40 rows of each"
    check_fid("fid.rankdef", "output64.fid_stable.rankdef", first_rows(a, few),
              first_rows(mixed, few));
    if (const auto wide = wide_inputs(recorded)) {
        check_fid("fid512", "output64.fid512_stable", Rows(wide->first), Rows(wide->second));
        for (const auto& [key, line] : recorded.file().metadata()) {
            const std::string start = "fid:fid512_rankdef(first ";
            if (!key.starts_with(start)) continue;
            const int64_t rows = number_after(key, start);
            check_fid("fid512_rankdef", "output64.fid512_rankdef_stable",
                      first_rows(wide->first, rows), first_rows(wide->second, rows));
        }
    }

    HashUniforms draws = checks.draws();
    const Tensor many = checks.input("input.mm_act");
    const int64_t pairs = recorded.size("diversity_times"),
                  repeats = recorded.size("multimodality_times");
    const auto d0 = choose(a.size(0), pairs, draws, "choice0"),
               d1 = choose(a.size(0), pairs, draws, "choice1");
    checks.compare("output.diversity", diversity(Rows(a), d0, d1));
    const auto m0 = choose(many.size(1), repeats, draws, "choice2"),
               m1 = choose(many.size(1), repeats, draws, "choice3");
    checks.compare("output.multimodality", multimodality(many, m0, m1));
    const std::vector<double> errors =
        joint_errors(checks.input("input.mpjpe_gt"), checks.input("input.mpjpe_pred"));
    checks.compare("output.mpjpe",
                   Tensor::from_span<double>(errors, {static_cast<int64_t>(errors.size())}));
}

}  // namespace mc::train
