#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "models/evaluator/metrics.h"

namespace mc::evaluator {
namespace {

constexpr int kMostSweeps = 60;  // QL needs 2 or 3 an eigenvalue

// a (n, n) symmetric becomes three diagonals: d its diagonal, e[i] beside it (e[n - 1] = 0). With
// `q`, a = q T q^T. One reflection I - u u^T / h a column, from the first; rank-two updates.
void tridiagonalise(std::vector<double>& a, int64_t n, std::vector<double>& d,
                    std::vector<double>& e, std::vector<double>* q) {
    std::vector<double> u(static_cast<size_t>(n)), p(static_cast<size_t>(n));
    const auto at = [&](std::vector<double>& m, int64_t i) { return m.data() + i * n; };
    if (q) {
        q->assign(static_cast<size_t>(n * n), 0.0);
        for (int64_t i = 0; i < n; ++i) at(*q, i)[i] = 1;
    }
    for (int64_t k = 0; k + 1 < n; ++k) {
        const int64_t first = k + 1;
        double largest = 0;
        for (int64_t i = first; i < n; ++i) largest = std::max(largest, std::abs(at(a, i)[k]));
        double length = 0;
        if (largest > 0) {
            for (int64_t i = first; i < n; ++i) {
                u[i] = at(a, i)[k] / largest;
                length += u[i] * u[i];
            }
            length = std::sqrt(length);
        }
        if (length == 0) {
            e[k] = 0;
            continue;
        }
        const double sign = u[first] < 0 ? -1 : 1;
        e[k] = -sign * length * largest;
        const double h = length * (length + std::abs(u[first]));  // |u|^2 / 2 of the new u
        u[first] += sign * length;
        // A <- A - u v^T - v u^T with p = A u / h, v = p - (u . p / 2 h) u; the lower triangle.
        double overlap = 0;
        for (int64_t i = first; i < n; ++i) {
            double sum = 0;
            for (int64_t j = first; j < n; ++j) sum += at(a, i)[j] * u[j];
            p[i] = sum / h;
            overlap += u[i] * p[i];
        }
        const double half = overlap / (2 * h);
        for (int64_t i = first; i < n; ++i) p[i] -= half * u[i];
        for (int64_t i = first; i < n; ++i)
            for (int64_t j = first; j < n; ++j) at(a, i)[j] -= u[i] * p[j] + p[i] * u[j];
        if (!q) continue;
        for (int64_t i = 0; i < n; ++i) {  // Q <- Q (I - u u^T / h)
            double sum = 0;
            for (int64_t j = first; j < n; ++j) sum += at(*q, i)[j] * u[j];
            for (int64_t j = first; j < n; ++j) at(*q, i)[j] -= sum / h * u[j];
        }
    }
    for (int64_t i = 0; i < n; ++i) d[i] = at(a, i)[i];
    e[n - 1] = 0;
}

// Eigenvalues of three diagonals into d; the rows of `qt` (n, n) are turned along.
void ql(std::vector<double>& d, std::vector<double>& e, int64_t n, std::vector<double>* qt) {
    // An element counts as zero beside the whole matrix, not beside its neighbours: rounding of the
    // large ones keeps a block of all but zeros from ever getting smaller than that.
    double largest = 0;
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(d[i]) + std::abs(e[i]));
    const double zero = std::numeric_limits<double>::epsilon() * largest;
    for (int64_t l = 0; l < n; ++l) {
        for (int sweep = 0;; ++sweep) {
            int64_t m = l;  // the block l..m hangs together
            while (m + 1 < n && std::abs(e[m]) > zero) ++m;
            if (m == l) break;
            if (sweep == kMostSweeps)
                throw Error("[eigenvalues] no convergence; does the matrix hold a NaN?");
            // Wilkinson's shift, then one chase of the bulge from m up to l.
            double g = (d[l + 1] - d[l]) / (2 * e[l]);
            double r = std::hypot(g, 1.0);
            g = d[m] - d[l] + e[l] / (g + std::copysign(r, g));
            double s = 1, c = 1, p = 0;
            int64_t i = m - 1;
            for (; i >= l; --i) {
                const double f = s * e[i], b = c * e[i];
                r = std::hypot(f, g);
                e[i + 1] = r;
                if (r == 0) {
                    d[i + 1] -= p;
                    e[m] = 0;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                if (!qt) continue;
                double* lower = qt->data() + i * n;
                double* upper = lower + n;
                for (int64_t k = 0; k < n; ++k) {
                    const double x = upper[k];
                    upper[k] = s * lower[k] + c * x;
                    lower[k] = c * lower[k] - s * x;
                }
            }
            if (r == 0 && i >= l) continue;
            d[l] -= p;
            e[l] = g;
            e[m] = 0;
        }
    }
}

void transpose_in_place(std::vector<double>& m, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i + 1; j < n; ++j) std::swap(m[i * n + j], m[j * n + i]);
}

}  // namespace

std::vector<double> symmetric_eigenvalues(std::vector<double> matrix, int64_t n,
                                          std::vector<double>* vectors) {
    if (n < 1 || static_cast<int64_t>(matrix.size()) != n * n)
        throw Error("[eigenvalues] got " + std::to_string(matrix.size()) + " numbers for " +
                    std::to_string(n) + " rows");
    std::vector<double> d(static_cast<size_t>(n)), e(static_cast<size_t>(n), 0.0), q;
    for (const double x : matrix)
        if (!std::isfinite(x)) throw Error("[eigenvalues] the matrix holds a NaN or infinity");
    tridiagonalise(matrix, n, d, e, vectors ? &q : nullptr);
    if (vectors) transpose_in_place(q, n);
    ql(d, e, n, vectors ? &q : nullptr);
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return d[a] < d[b]; });
    std::vector<double> values;
    for (const int64_t i : order) values.push_back(d[i]);
    if (vectors) {
        vectors->resize(static_cast<size_t>(n * n));
        for (int64_t j = 0; j < n; ++j)
            for (int64_t i = 0; i < n; ++i) (*vectors)[i * n + j] = q[order[j] * n + i];
    }
    return values;
}

}  // namespace mc::evaluator
