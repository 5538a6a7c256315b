// The metrics of text-to-motion papers (Guo et al. 2022; generators.md 10.4) on embeddings of the
// evaluator, all in f64: R-precision, matching score, Frechet distance, diversity, multimodality,
// joint error; and the mean of repetitions with its 95 % interval (10.5).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tensor/tensor.h"
#include "tensor/uniform_source.h"

namespace mc::evaluator {

// Rows of embeddings in f64, (N, D).
struct Rows {
    int64_t count = 0, width = 0;
    std::vector<double> values;
    explicit Rows(const Tensor& t);  // (N, D), f32 or f64
    const double* row(int64_t i) const { return values.data() + i * width; }
};

// Euclidean distances of all pairs, (a.count, b.count) row-major.
std::vector<double> distances(const Rows& a, const Rows& b);

// Share of texts whose own motion is among the k nearest of its pool, k = 1..top_k. Pools are
// consecutive `pool` pairs; what is left over at the end is not counted. Error if no pool is full.
std::vector<double> r_precision(const Rows& text, const Rows& motion, int64_t pool = 32,
                                int64_t top_k = 3);
// Mean distance of a text and its motion (MM-Dist), over the same pairs as r_precision with `pool`.
double matching_score(const Rows& text, const Rows& motion, int64_t pool = 32);

// |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) of the covariances (divisor N - 1). The trace of the
// root is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), a symmetric matrix: real,
// and fit for covariances without full rank, where the usual matrix root gives complex noise.
// Eigenvalues below rounding count as zero. At least 2 rows each.
double frechet_distance(const Rows& a, const Rows& b);

// k of 0..n-1 without repetition: the first of the order in which uniform numbers draw.NAME rise.
std::vector<int64_t> choose(int64_t n, int64_t k, UniformSource& draws, const std::string& name);
// Mean distance of rows first[i] and second[i].
double diversity(const Rows& x, const std::vector<int64_t>& first,
                 const std::vector<int64_t>& second);
// x (texts, repeats, D): the same two choices of repeats for every text, mean distance of pairs.
double multimodality(const Tensor& x, const std::vector<int64_t>& first,
                     const std::vector<int64_t>& second);
// Mean joint error of each frame after the roots are moved together: (T, J, 3) twice -> (T).
std::vector<double> joint_errors(const Tensor& truth, const Tensor& made);

struct Interval {
    double mean = 0, half_width = 0;  // mean +- 1.96 s / sqrt(n), s with divisor n
};
Interval interval95(const std::vector<double>& repeats);

// Everything of one repetition. `real` are the embeddings of the true motions.
struct Scores {
    std::vector<double> r_precision;  // top 1, 2, 3
    double matching = 0, diversity = 0;
    std::optional<double> fid, multimodality;  // if `real` and `many` are defined
};
struct ScoreOptions {
    int64_t pool = 32, diversity_pairs = 300, multimodality_pairs = 10;
};
// real: (M, D) or undefined. many: (texts, repeats, D) or undefined. Fewer than diversity_pairs + 1
// rows: 100 pairs, or half the rows if that is less.
Scores score(const Tensor& text, const Tensor& made, const Tensor& real, const Tensor& many,
             const ScoreOptions& options, UniformSource& draws);

// Eigenvalues of a symmetric matrix (n, n), ascending; with `vectors`, its columns are the
// eigenvectors. Householder's reduction to three diagonals, then QL with implicit shifts (Golub &
// Van Loan, Matrix Computations, 8.3).
std::vector<double> symmetric_eigenvalues(std::vector<double> matrix, int64_t n,
                                          std::vector<double>* vectors = nullptr);

}  // namespace mc::evaluator
