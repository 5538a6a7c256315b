#include "models/evaluator/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace mc::evaluator {
namespace {

double distance(const double* a, const double* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum);
}

void check_pairs(const Rows& text, const Rows& motion, int64_t pool) {
    if (text.count != motion.count || text.width != motion.width)
        throw Error("[metrics] texts (" + std::to_string(text.count) + ", " +
                    std::to_string(text.width) + ") and motions (" + std::to_string(motion.count) +
                    ", " + std::to_string(motion.width) + ") are not pairs");
    if (pool < 1 || text.count < pool)
        throw Error("[metrics] " + std::to_string(text.count) + " pairs do not fill a pool of " +
                    std::to_string(pool) + "; evaluate more motions");
}

std::vector<double> mean_of(const Rows& x) {
    std::vector<double> mean(static_cast<size_t>(x.width), 0.0);
    for (int64_t i = 0; i < x.count; ++i)
        for (int64_t c = 0; c < x.width; ++c) mean[c] += x.row(i)[c];
    for (double& m : mean) m /= static_cast<double>(x.count);
    return mean;
}

// (D, D) with divisor N - 1.
std::vector<double> covariance(const Rows& x, const std::vector<double>& mean) {
    const int64_t d = x.width;
    std::vector<double> cov(static_cast<size_t>(d * d), 0.0), centred(static_cast<size_t>(d));
    for (int64_t i = 0; i < x.count; ++i) {
        for (int64_t c = 0; c < d; ++c) centred[c] = x.row(i)[c] - mean[c];
        for (int64_t r = 0; r < d; ++r) {
            const double u = centred[r];
            double* row = cov.data() + r * d;
            for (int64_t c = 0; c < d; ++c) row[c] += u * centred[c];
        }
    }
    for (double& v : cov) v /= static_cast<double>(x.count - 1);
    return cov;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, int64_t n) {
    std::vector<double> c(static_cast<size_t>(n * n), 0.0);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < n; ++k) {
            const double u = a[i * n + k];
            for (int64_t j = 0; j < n; ++j) c[i * n + j] += u * b[k * n + j];
        }
    return c;
}

double trace(const std::vector<double>& a, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += a[i * n + i];
    return sum;
}

// What rounding leaves where an eigenvalue is zero.
double floor_of(const std::vector<double>& eigenvalues) {
    double largest = 0;
    for (const double x : eigenvalues) largest = std::max(largest, std::abs(x));
    return largest * static_cast<double>(eigenvalues.size()) *
           std::numeric_limits<double>::epsilon();
}

// The symmetric root of a covariance.
std::vector<double> root_of(const std::vector<double>& matrix, int64_t n) {
    std::vector<double> vectors;
    const std::vector<double> values = symmetric_eigenvalues(matrix, n, &vectors);
    const double floor = floor_of(values);
    std::vector<double> scaled(vectors), turned(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) {
            scaled[i * n + j] *= values[j] > floor ? std::sqrt(values[j]) : 0;
            turned[j * n + i] = vectors[i * n + j];
        }
    return product(scaled, turned, n);
}

}  // namespace

Rows::Rows(const Tensor& t) {
    if (t.dims() != 2) throw Error("[metrics] embeddings " + t.shape().str() + ", want (N, D)");
    count = t.size(0);
    width = t.size(1);
    values = t.to(DType::f64).to_vector<double>();
    for (size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]))
            throw Error("[metrics] embedding " + std::to_string(static_cast<int64_t>(i) / width) +
                        " holds a NaN or infinity");
}

std::vector<double> distances(const Rows& a, const Rows& b) {
    if (a.width != b.width)
        throw Error("[metrics] embeddings of " + std::to_string(a.width) + " and " +
                    std::to_string(b.width) + " numbers");
    std::vector<double> out;
    out.reserve(static_cast<size_t>(a.count * b.count));
    for (int64_t i = 0; i < a.count; ++i)
        for (int64_t j = 0; j < b.count; ++j) out.push_back(distance(a.row(i), b.row(j), a.width));
    return out;
}

std::vector<double> r_precision(const Rows& text, const Rows& motion, int64_t pool, int64_t top_k) {
    check_pairs(text, motion, pool);
    std::vector<double> hits(static_cast<size_t>(top_k), 0.0);
    const int64_t pairs = text.count / pool * pool;
    for (int64_t i = 0; i < pairs; ++i) {
        const int64_t begin = i / pool * pool;
        const double own = distance(text.row(i), motion.row(i), text.width);
        int64_t nearer = 0;  // ties go to the lower index, as in a stable sort
        for (int64_t j = begin; j < begin + pool; ++j) {
            const double other = distance(text.row(i), motion.row(j), text.width);
            nearer += other < own || (other == own && j < i);
        }
        for (int64_t k = nearer; k < top_k; ++k) hits[k] += 1;
    }
    for (double& h : hits) h /= static_cast<double>(pairs);
    return hits;
}

double matching_score(const Rows& text, const Rows& motion, int64_t pool) {
    check_pairs(text, motion, pool);
    const int64_t pairs = text.count / pool * pool;
    double sum = 0;
    for (int64_t i = 0; i < pairs; ++i) sum += distance(text.row(i), motion.row(i), text.width);
    return sum / static_cast<double>(pairs);
}

double frechet_distance(const Rows& a, const Rows& b) {
    if (a.width != b.width)
        throw Error("[metrics] embeddings of " + std::to_string(a.width) + " and " +
                    std::to_string(b.width) + " numbers");
    if (a.count < 2 || b.count < 2)
        throw Error("[metrics] the Frechet distance needs at least 2 motions on either side");
    const int64_t n = a.width;
    const std::vector<double> mean_a = mean_of(a), mean_b = mean_of(b);
    const std::vector<double> cov_a = covariance(a, mean_a), cov_b = covariance(b, mean_b);
    const std::vector<double> root = root_of(cov_a, n);
    std::vector<double> inner = product(product(root, cov_b, n), root, n);
    for (int64_t i = 0; i < n; ++i)  // symmetric but for rounding
        for (int64_t j = i + 1; j < n; ++j)
            inner[i * n + j] = inner[j * n + i] = 0.5 * (inner[i * n + j] + inner[j * n + i]);
    const std::vector<double> values = symmetric_eigenvalues(inner, n);
    const double floor = floor_of(values);
    double roots = 0;
    for (const double x : values)
        if (x > floor) roots += std::sqrt(x);
    double squares = 0;
    for (int64_t c = 0; c < n; ++c) squares += (mean_a[c] - mean_b[c]) * (mean_a[c] - mean_b[c]);
    return squares + trace(cov_a, n) + trace(cov_b, n) - 2 * roots;
}

std::vector<int64_t> choose(int64_t n, int64_t k, UniformSource& draws, const std::string& name) {
    if (k < 1 || k > n)
        throw Error("[metrics] cannot choose " + std::to_string(k) + " of " + std::to_string(n));
    const Tensor u = draws.uniform("draw." + name, {n});
    const float* key = u.data<float>();
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return key[a] < key[b]; });
    order.resize(static_cast<size_t>(k));
    return order;
}

double diversity(const Rows& x, const std::vector<int64_t>& first,
                 const std::vector<int64_t>& second) {
    if (first.empty() || first.size() != second.size())
        throw Error("[metrics] diversity needs two choices of one size");
    double sum = 0;
    for (size_t i = 0; i < first.size(); ++i) {
        if (std::min(first[i], second[i]) < 0 || std::max(first[i], second[i]) >= x.count)
            throw Error("[metrics] a choice beyond the " + std::to_string(x.count) + " motions");
        sum += distance(x.row(first[i]), x.row(second[i]), x.width);
    }
    return sum / static_cast<double>(first.size());
}

double multimodality(const Tensor& x, const std::vector<int64_t>& first,
                     const std::vector<int64_t>& second) {
    if (x.dims() != 3 || x.size(0) < 1)
        throw Error("[metrics] embeddings " + x.shape().str() + ", want (texts, repeats, D)");
    double sum = 0;
    for (int64_t text = 0; text < x.size(0); ++text) {
        const Rows rows(x.slice(0, text, text + 1).contiguous().reshape({x.size(1), x.size(2)}));
        sum += diversity(rows, first, second);
    }
    return sum / static_cast<double>(x.size(0));
}

std::vector<double> joint_errors(const Tensor& truth_in, const Tensor& made_in) {
    if (truth_in.dims() != 3 || truth_in.size(2) != 3 || truth_in.size(1) < 1 ||
        !(truth_in.shape() == made_in.shape()))
        throw Error("[metrics] joints " + truth_in.shape().str() + " and " + made_in.shape().str() +
                    ", want (T, J, 3) twice");
    const int64_t frames = truth_in.size(0), joints = truth_in.size(1);
    const std::vector<double> truth = truth_in.to(DType::f64).to_vector<double>(),
                              made = made_in.to(DType::f64).to_vector<double>();
    std::vector<double> errors;
    for (int64_t t = 0; t < frames; ++t) {
        const double* root_truth = truth.data() + t * joints * 3;
        const double* root_made = made.data() + t * joints * 3;
        double sum = 0;
        for (int64_t j = 0; j < joints; ++j) {
            double squares = 0;
            for (int c = 0; c < 3; ++c) {
                const double gap =
                    (root_truth[3 * j + c] - root_truth[c]) - (root_made[3 * j + c] - root_made[c]);
                squares += gap * gap;
            }
            sum += std::sqrt(squares);
        }
        errors.push_back(sum / static_cast<double>(joints));
    }
    return errors;
}

Interval interval95(const std::vector<double>& repeats) {
    if (repeats.empty()) throw Error("[metrics] an interval of no repetitions");
    const double n = static_cast<double>(repeats.size());
    Interval interval;
    for (const double x : repeats) interval.mean += x / n;
    double variance = 0;
    for (const double x : repeats) variance += (x - interval.mean) * (x - interval.mean) / n;
    interval.half_width = 1.96 * std::sqrt(variance / n);
    return interval;
}

Scores score(const Tensor& text_in, const Tensor& made_in, const Tensor& real_in,
             const Tensor& many, const ScoreOptions& options, UniformSource& draws) {
    const Rows text(text_in), made(made_in);
    Scores scores;
    scores.r_precision = r_precision(text, made, options.pool);
    scores.matching = matching_score(text, made, options.pool);
    if (real_in.defined()) scores.fid = frechet_distance(Rows(real_in), made);
    const int64_t pairs = made.count > options.diversity_pairs
                              ? options.diversity_pairs
                              : std::min<int64_t>(100, std::max<int64_t>(1, made.count / 2));
    const std::vector<int64_t> first = choose(made.count, pairs, draws, "diversity0"),
                               second = choose(made.count, pairs, draws, "diversity1");
    scores.diversity = diversity(made, first, second);
    if (many.defined()) {
        const int64_t k = std::min(options.multimodality_pairs, many.size(1));
        const std::vector<int64_t> one = choose(many.size(1), k, draws, "multimodality0"),
                                   other = choose(many.size(1), k, draws, "multimodality1");
        scores.multimodality = multimodality(many, one, other);
    }
    return scores;
}

}  // namespace mc::evaluator
