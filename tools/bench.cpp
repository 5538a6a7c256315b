// Times the kernels on the project's shapes against this machine's ceilings.
//
//     bench [--filter matmul] [--threads 2] [--csv]
//
// One list of problems (problems() below); each is a name, its work in flop or bytes, and what to
// run. Nothing is timed here that tests/kernels/ does not check. Inputs are uniform in [-1, 1]; the
// caches are warm. Reported: median and minimum of the repetitions, rate, share of the ceiling for
// the number of threads.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/bench_ceilings.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

namespace mc {
namespace {

struct Problem {
    std::string name;
    double flop = 0, bytes = 0;  // flop 0: the bytes are what counts
    std::function<void(Context&)> run;
};

using Buffer = std::shared_ptr<std::vector<float>>;

Buffer random_buffer(int64_t n) {
    auto buffer = std::make_shared<std::vector<float>>(static_cast<size_t>(n));
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (float& x : *buffer) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x = static_cast<float>(static_cast<int64_t>(state >> 33)) * 0x1p-30f - 1;
    }
    return buffer;
}

Backend& table() {
    static Backend backend = [] {
        Backend b;
        fill_matmul(b);
        return b;
    }();
    return backend;
}

void add_matmul(std::vector<Problem>& list, int64_t m, int64_t n, int64_t k, bool trans_a,
                bool trans_b, bool gelu = false, int64_t batch = 1) {
    Buffer a = random_buffer(batch * m * k), b = random_buffer(batch * k * n),
           c = random_buffer(batch * m * n), bias = random_buffer(n);
    MatmulArgs<float> args;
    args.c = c->data();
    args.a = a->data();
    args.b = b->data();
    args.m = m;
    args.n = args.ldc = n;
    args.k = k;
    args.lda = trans_a ? m : k;
    args.ldb = trans_b ? k : n;
    args.trans_a = trans_a;
    args.trans_b = trans_b;
    args.batch = batch;
    args.stride_a = m * k;
    args.stride_b = k * n;
    args.stride_c = m * n;
    if (gelu) {
        args.epilogue.bias = bias->data();
        args.epilogue.activate = true;
        args.epilogue.op = UnaryOp::gelu;
    }
    std::string name = "matmul " + std::string(trans_a ? "T" : "N") + (trans_b ? "T " : "N ") +
                       std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    if (batch > 1) name += " batch " + std::to_string(batch);
    if (gelu) name += " bias gelu";
    list.push_back({name, 2.0 * static_cast<double>(batch * m * n * k),
                    4.0 * static_cast<double>(batch * (m * k + k * n + m * n)),
                    [=](Context& context) {
                        (void)a, (void)b, (void)c, (void)bias;
                        table().f32.matmul(context, args);
                    }});
}

std::vector<Problem> problems() {
    std::vector<Problem> list;
    for (int64_t m : {1, 8, 49, 392, 3136}) {
        add_matmul(list, m, 384, 384, false, true);
        add_matmul(list, m, 1024, 384, false, true, true);
        add_matmul(list, m, 384, 1024, false, true);
    }
    add_matmul(list, 3136, 1024, 384, false, false);
    add_matmul(list, 3136, 384, 1024, false, false);
    add_matmul(list, 384, 1024, 3136, true, false);
    add_matmul(list, 1024, 384, 3136, true, false);
    add_matmul(list, 3136, 512, 512, false, true);
    add_matmul(list, 1024, 1024, 1024, false, false);
    add_matmul(list, 49, 49, 64, false, true, false, 384);
    add_matmul(list, 49, 64, 49, false, false, false, 384);
    return list;
}

double seconds_of(const std::function<void()>& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int run(int argc, char** argv) {
    CLI::App app("times the kernels against this machine's ceilings");
    std::string filter;
    int threads = num_threads();
    bool csv = false;
    double budget = 0.2;
    app.add_option("--filter", filter, "only problems whose name contains this");
    app.add_option("--threads", threads, "threads of the pool")->check(CLI::Range(1, 1024));
    app.add_option("--seconds", budget, "time for each problem");
    app.add_flag("--csv", csv, "comma-separated values");
    CLI11_PARSE(app, argc, argv);
    set_num_threads(threads);
    Context& context = default_context(DeviceType::cpu);

    const double peak = measure_fma_f32(context) * 1e-9;
    const double copy = measure_copy(context) * 1e-9;
    if (csv)
        std::printf("name,threads,median_us,min_us,gflops,gbs,share\nceilings,%d,,,%.1f,%.1f,\n",
                    threads, peak, copy);
    else
        std::printf(
            "%d thread(s), %s: %.1f GFLOP/s f32 FMA, %.1f GB/s copy\n%-44s %10s %10s %9s %8s %6s\n",
            threads, target_name(), peak, copy, "problem", "median us", "min us", "GFLOP/s", "GB/s",
            "share");
    for (const Problem& problem : problems()) {
        if (problem.name.find(filter) == std::string::npos) continue;
        problem.run(context);
        std::vector<double> times;
        double total = 0;
        while (times.size() < 5 || (total < budget && times.size() < 1000)) {
            times.push_back(seconds_of([&] { problem.run(context); }));
            total += times.back();
        }
        std::sort(times.begin(), times.end());
        const double median = times[times.size() / 2], minimum = times.front();
        const double gflops = problem.flop / median * 1e-9, gbs = problem.bytes / median * 1e-9;
        const double share = problem.flop > 0 ? gflops / peak : gbs / copy;
        std::printf(csv ? "\"%s\",%d,%.2f,%.2f,%.2f,%.2f,%.3f\n"
                        : "%-44s %d %8.1f %10.1f %9.1f %8.1f %5.0f%%\n",
                    problem.name.c_str(), threads, median * 1e6, minimum * 1e6, gflops, gbs,
                    csv ? share : 100 * share);
    }
    return 0;
}

}  // namespace
}  // namespace mc

int main(int argc, char** argv) {
    try {
        return mc::run(argc, argv);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench: %s\n", e.what());
        return 1;
    }
}
