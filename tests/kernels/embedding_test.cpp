#include "kernels/embedding.h"

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

TEST_CASE_TEMPLATE("gather_rows; a negative id gives zeros", T, float, double) {
    for_each_table<T>(embedding_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : {0, 1, 3, 8, 17, 600}) {
            const int64_t rows = 50, entries = 7;
            GuardedBuffer<T> source(entries * cols, 1), dst(rows * cols, 1);
            GuardedBuffer<int64_t> id(rows);
            fill_random(source, 1);
            for (int64_t r = 0; r < rows; ++r) id[r] = r % 5 == 4 ? -1 : (r * 3) % entries;
            table.gather_rows(context, dst.data(), source.data(), id.data(), rows, cols);
            int64_t wrong = 0;
            for (int64_t r = 0; r < rows; ++r)
                for (int64_t c = 0; c < cols; ++c)
                    wrong += dst[r * cols + c] != (id[r] < 0 ? T(0) : source[id[r] * cols + c]);
            CHECK(wrong == 0);
        }
    });
}

TEST_CASE_TEMPLATE("scatter_add_rows adds in order of the rows, bit for bit", T, float, double) {
    for_each_table<T>(embedding_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : {0, 1, 3, 8, 17, 64, 65, 200}) {
            for (int64_t rows : {0, 1, 40, 300, 70000}) {
                if (rows > 300 && cols != 1) continue;  // ids of more blocks than one scan has
                const int64_t entries = 7;
                GuardedBuffer<T> sums(entries * cols, 1), src(rows * cols, 1);
                GuardedBuffer<int64_t> id(rows);
                fill_random(sums, 1);
                fill_random(src, 2);
                for (int64_t r = 0; r < rows; ++r)
                    id[r] = r % 5 == 4 ? -1 - r % 3 : (r * r) % entries;
                std::vector<T> want = sums.copy();
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t c = 0; c < cols && id[r] >= 0; ++c)
                        want[static_cast<size_t>(id[r] * cols + c)] += src[r * cols + c];
                table.scatter_add_rows(context, sums.data(), src.data(), id.data(), rows, cols,
                                       entries);
                CHECK(sums.copy() == want);
            }
        }
    });
}

TEST_CASE_TEMPLATE("nearest_code finds the nearest, with and without distances", T, float, double) {
    for_each_table<T>(embedding_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t codes : {1, 2, 7, 16, 33, 512}) {
            for (int64_t cols : {1, 5, 64}) {
                const int64_t rows = codes == 512 ? 1100 : 9;
                GuardedBuffer<T> x(rows * cols, 1), code(codes * cols, 1),
                    distance(rows * codes, 1);
                GuardedBuffer<int64_t> id(rows), again(rows);
                fill_random(x, 1);
                fill_random(code, 2);
                table.nearest_code(context, id.data(), distance.data(), x.data(), code.data(), rows,
                                   codes, cols);
                table.nearest_code(context, again.data(), nullptr, x.data(), code.data(), rows,
                                   codes, cols);
                std::vector<double> want;
                int64_t wrong = 0;
                // The norms are below cols, the cancellation costs that much.
                const double bound = 8 * static_cast<double>(cols) * epsilon<T>();
                for (int64_t r = 0; r < rows; ++r) {
                    double least = kInf;
                    for (int64_t k = 0; k < codes; ++k) {
                        double sum = 0;
                        for (int64_t c = 0; c < cols; ++c)
                            sum += std::pow(static_cast<double>(x[r * cols + c]) -
                                                static_cast<double>(code[k * cols + c]),
                                            2);
                        want.push_back(sum);
                        least = std::min(least, sum);
                    }
                    // Both, and not one another: without distances a GPU's library may add in
                    // another order.
                    for (const int64_t found : {id[r], again[r]})
                        wrong += want[static_cast<size_t>(r * codes + found)] > least + 2 * bound;
                }
                CHECK(wrong == 0);
                CHECK_NEAR(distance.data(), want, within(bound));
            }
        }
    });
}

TEST_CASE_TEMPLATE("nearest_code: ties to the first, NaN rows to 0", T, float, double) {
    for_each_table<T>(embedding_kernels, [&](KernelTable<T>& table, Context& context) {
        const int64_t codes = 20, cols = 3;
        std::vector<T> code(static_cast<size_t>(codes * cols), T(5)), x(2 * cols, T(1));
        for (int64_t c = 0; c < cols; ++c)
            code[static_cast<size_t>(3 * cols + c)] = code[static_cast<size_t>(11 * cols + c)] = 1;
        x[4] = std::numeric_limits<T>::quiet_NaN();
        int64_t id[2] = {-1, -1};
        table.nearest_code(context, id, nullptr, x.data(), code.data(), 2, codes, cols);
        CHECK(id[0] == 3);
        CHECK(id[1] == 0);
    });
}

TEST_CASE("scatter_add_rows and nearest_code do not depend on the number of threads") {
    Backend b;
    embedding_kernels(b);
    constexpr int64_t rows = 700, cols = 300, codes = 90;
    std::vector<float> src(rows * cols), code(codes * cols);
    std::vector<int64_t> id(rows);
    fill_random(src.data(), rows * cols, 3);
    fill_random(code.data(), codes * cols, 4);
    for (size_t r = 0; r < id.size(); ++r) id[r] = static_cast<int64_t>(r * r % 13);
    check_thread_counts<float>(13 * cols, [&](Context& context, float* out) {
        b.f32.scatter_add_rows(context, out, src.data(), id.data(), rows, cols, 13);
    });
    check_thread_counts<float>(rows * codes, [&](Context& context, float* out) {
        std::vector<int64_t> nearest(rows);
        b.f32.nearest_code(context, nearest.data(), out, src.data(), code.data(), rows, codes,
                           cols);
    });
}

}  // namespace
}  // namespace mc::testing
