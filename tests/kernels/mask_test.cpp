#include "kernels/mask.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

constexpr int64_t kFirstMask = 9, kPad = kFirstMask - 1, kEnd = kPad - 1;

// What the ids are made of.
struct Tokens {
    int64_t length;
    std::vector<char> masked;    // (n)
    std::vector<int64_t> ranks;  // (n)

    Tokens(int64_t n, int64_t tokens, uint64_t seed) : length(tokens), masked(), ranks() {
        std::mt19937_64 random(seed);
        ranks.resize(static_cast<size_t>(n));
        std::iota(ranks.begin(), ranks.end(), 0);
        std::shuffle(ranks.begin(), ranks.begin() + length, random);
        for (int64_t i = 0; i < n; ++i) masked.push_back(i < length && random() % 2 == 0);
    }
    void write(int64_t* id) const {
        for (size_t i = 0; i < ranks.size(); ++i) {
            const int64_t at = static_cast<int64_t>(i);
            id[i] = masked[i]      ? kFirstMask + ranks[i]
                    : at < length  ? at % kEnd
                    : at == length ? kEnd
                                   : kPad;
        }
    }
};

// generators.md 7.4, 5, said of masks and ranks; rows as `asking` has them.
bool seen(const Tokens& asking, const Tokens& asked, int64_t q, int64_t k) {
    if (k < 2) return true;
    const size_t column = static_cast<size_t>(k - 2);
    if (k - 2 > asked.length) return false;
    if (q == 1 || !asked.masked[column]) return true;
    if (q == 0) return false;
    const size_t row = static_cast<size_t>(q - 2);
    return asking.masked[row] && asked.ranks[column] >= asking.ranks[row];
}

template <class F>
void for_each_device(F&& f) {
    for_each_table<float>([](Backend&) {},
                          [&](KernelTable<float>&, Context& context) {
                              Backend b;
                              mask_kernels(b);
                              f(b.mask, context);
                          });
}

TEST_CASE("permuted_mask hides what ranks, padding and conditions say") {
    for_each_device([](MaskKernels& kernels, Context& context) {
        for (const int64_t n : {1, 2, 5, 31, 50, 150})
            for (const bool sampler : {false, true}) {
                const std::vector<int64_t> lengths{0, n / 2, n - 1};
                const int64_t batch = static_cast<int64_t>(lengths.size()), s = n + 2;
                GuardedBuffer<int64_t> row_id(batch * n, 1), column_id(batch * n), open(batch);
                GuardedBuffer<bool> hidden(batch * s * s, 1);
                std::vector<Tokens> rows, columns;
                for (int64_t b = 0; b < batch; ++b) {
                    rows.emplace_back(n, lengths[static_cast<size_t>(b)], b);
                    columns.push_back(rows.back());
                    if (sampler)  // some are made by now
                        for (size_t i = 0; i < columns.back().masked.size(); i += 3)
                            columns.back().masked[i] = false;
                    rows.back().write(row_id.data() + b * n);
                    columns.back().write(column_id.data() + b * n);
                    open[b] = lengths[static_cast<size_t>(b)] / 2;
                }
                kernels.permuted_mask(
                    context,
                    {hidden.data(), row_id.data(), sampler ? column_id.data() : row_id.data(),
                     sampler ? open.data() : nullptr, batch, n, kFirstMask});
                int64_t wrong = 0, hides = 0;
                for (int64_t b = 0; b < batch; ++b)
                    for (int64_t q = 0; q < s; ++q)
                        for (int64_t k = 0; k < s; ++k) {
                            const size_t entry = static_cast<size_t>(b);
                            const bool got = hidden[(b * s + q) * s + k];
                            wrong += got == (seen(rows[entry], columns[entry], q, k) ||
                                             (sampler && k - 2 == open[b]));
                            hides += got;
                        }
                CHECK(wrong == 0);
                CHECK((hides > 0) == (n > 1));
            }
        const int64_t none = 0;
        kernels.permuted_mask(context, {nullptr, nullptr, nullptr, nullptr, 0, 3, kFirstMask});
        bool conditions[4] = {true, true, true, true};
        kernels.permuted_mask(context, {conditions, &none, &none, nullptr, 1, 0, kFirstMask});
        for (const bool hidden : conditions) CHECK(!hidden);
    });
}

}  // namespace
}  // namespace mc::testing
