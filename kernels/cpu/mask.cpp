#include "kernels/mask.h"

#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/thread_pool.h"

namespace mc {
namespace {

// A column is hidden from a row if it is less: masks are their ids, padding is less than any mask,
// and what is not masked is more.
constexpr int64_t kNotMasked = std::numeric_limits<int64_t>::max();

void permuted_mask(Context& context, const PermutedMaskArgs& a) {
    const int64_t s = a.n + 2;
    context.pool->for_ranges(a.batch * s, rows_per_chunk(s), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
            const int64_t b = at / s, q = at % s;
            int64_t row = q == 1 ? a.first_mask : kNotMasked;
            if (q >= 2 && a.row_id[b * a.n + q - 2] >= a.first_mask)
                row = a.row_id[b * a.n + q - 2];
            bool* hidden = a.hidden + at * s;
            hidden[0] = hidden[1] = false;
            for (int64_t k = 0; k < a.n; ++k) {
                const int64_t id = a.column_id[b * a.n + k];
                hidden[2 + k] = (id < a.first_mask - 1 ? kNotMasked : id) < row;
            }
            if (a.open) hidden[2 + a.open[b]] = false;
        }
    });
}

}  // namespace

void fill_mask(Backend& b) {
    b.mask.permuted_mask = permuted_mask;
}

}  // namespace mc
