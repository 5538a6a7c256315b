// Times the kernels on the project's shapes against this machine's ceilings.
//
//     bench [--filter matmul] [--threads 2] [--csv]
//
// One list of problems (problems() below); each is a name, its work in flop or bytes, and what to
// run. Nothing is timed here that tests/kernels/ does not check. Inputs are uniform in [-1, 1]; the
// caches are warm, but for the memory-bound kernels (common/bench_memory.cpp), whose arrays fit in
// none. Reported: median and minimum of the repetitions, rate, share of the ceiling for the number
// of threads.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/conv.h"
#include "kernels/cpu/bench_ceilings.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"
#include "tools/common/bench_problem.h"

namespace mc {
namespace {

using Problem = BenchProblem;
using Buffer = BenchBuffer;

void add_matmul(std::vector<Problem>& list, int64_t m, int64_t n, int64_t k, bool trans_a,
                bool trans_b, bool gelu = false, int64_t batch = 1) {
    Buffer a = random_bench_buffer(batch * m * k), b = random_bench_buffer(batch * k * n),
           c = random_bench_buffer(batch * m * n), bias = random_bench_buffer(n);
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
                        backend(DeviceType::cpu).f32.matmul(context, args);
                    }});
}

void add_conv(std::vector<Problem>& list, const ConvShape& s) {
    const int64_t rows = s.batch * s.t_out(), width = s.kernel * s.c_in;
    Buffer x = random_bench_buffer(s.batch * s.t_in * s.c_in),
           w = random_bench_buffer(s.c_out * width), y = random_bench_buffer(rows * s.c_out),
           dx = random_bench_buffer(s.batch * s.t_in * s.c_in),
           dw = random_bench_buffer(s.c_out * width), bias = random_bench_buffer(s.c_out);
    const std::string shape = std::to_string(s.batch) + "x" + std::to_string(s.t_in) + " " +
                              std::to_string(s.c_in) + "->" + std::to_string(s.c_out) + " k" +
                              std::to_string(s.kernel) + " s" + std::to_string(s.stride) + " d" +
                              std::to_string(s.dilation);
    const double flop = 2.0 * static_cast<double>(rows * width * s.c_out);
    const double bytes =
        4.0 * static_cast<double>(s.batch * s.t_in * s.c_in + s.c_out * width + rows * s.c_out);
    list.push_back({"conv1d " + shape, flop, bytes, [=](Context& context) {
                        backend(DeviceType::cpu)
                            .f32.conv1d(context, y->data(), x->data(), w->data(), bias->data(),
                                        true, s);
                    }});
    list.push_back({"conv1d_backward " + shape, 2 * flop, 2 * bytes, [=](Context& context) {
                        backend(DeviceType::cpu)
                            .f32.conv1d_backward(context, dx->data(), dw->data(), bias->data(),
                                                 y->data(), x->data(), w->data(), s);
                    }});
}

void add_attention(std::vector<Problem>& list, int64_t batch, int64_t heads, int64_t length,
                   int64_t head_dim, double dropout) {
    const int64_t width = heads * head_dim, rows = batch * length;
    Buffer qkv = random_bench_buffer(3 * rows * width),
           dqkv = random_bench_buffer(3 * rows * width), out = random_bench_buffer(rows * width),
           dout = random_bench_buffer(rows * width), lse = random_bench_buffer(rows * heads);
    AttentionBackwardArgs<float> args;
    AttentionArgs<float>& a = args.forward;
    a.out = out->data();
    a.lse = lse->data();
    a.q = qkv->data();
    a.k = qkv->data() + width;
    a.v = qkv->data() + 2 * width;
    a.batch = batch;
    a.heads = heads;
    a.head_dim = head_dim;
    a.lq = a.lk = length;
    a.q_row = a.k_row = a.v_row = 3 * width;
    a.q_batch = a.k_batch = a.v_batch = length * 3 * width;
    a.out_row = width;
    a.out_batch = length * width;
    a.scale = 0.125;
    a.dropout = dropout;
    args.dout = dout->data();
    args.dq = dqkv->data();
    args.dk = dqkv->data() + width;
    args.dv = dqkv->data() + 2 * width;
    const double flop = 4.0 * static_cast<double>(rows * length * width);
    const double bytes = 16.0 * static_cast<double>(rows * width);
    const std::string shape = std::to_string(batch) + "x" + std::to_string(heads) + " L" +
                              std::to_string(length) + " D" + std::to_string(head_dim) +
                              (dropout > 0 ? " dropout" : "");
    list.push_back({"attention " + shape, flop, bytes, [=](Context& context) {
                        (void)qkv, (void)out, (void)lse;
                        backend(DeviceType::cpu).f32.attention(context, args.forward);
                    }});
    list.push_back({"attention_backward " + shape, 2.5 * flop, 2 * bytes, [=](Context& context) {
                        (void)dqkv, (void)dout;
                        backend(DeviceType::cpu).f32.attention_backward(context, args);
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
    add_conv(list, {64, 64, 256, 256, 3, 1, 9, 9});
    add_conv(list, {64, 64, 256, 256, 3, 1, 1, 1});
    add_conv(list, {64, 64, 256, 256, 4, 2, 1, 1});
    add_conv(list, {64, 64, 256, 256, 1, 1, 0, 1});
    add_conv(list, {64, 64, 263, 256, 3, 1, 1, 1});
    add_conv(list, {64, 64, 256, 263, 3, 1, 1, 1});
    add_conv(list, {1, 196, 256, 256, 3, 1, 1, 1});
    add_attention(list, 64, 6, 49, 64, 0);
    add_attention(list, 64, 6, 49, 64, 0.1);
    add_attention(list, 1, 6, 49, 64, 0);
    add_attention(list, 16, 8, 77, 64, 0);
    add_attention(list, 8, 6, 196, 64, 0.1);
    add_memory_problems(list);
    return list;
}

double now(bool cpu_time) {
    if (cpu_time) {
        timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

int run(int argc, char** argv) {
    CLI::App app("times the kernels against this machine's ceilings");
    std::string filter;
    int threads = num_threads();
    bool csv = false;
    bool cpu_time = false;
    double budget = 0.2;
    app.add_option("--filter", filter, "only problems whose name contains this");
    app.add_option("--threads", threads, "threads of the pool")->check(CLI::Range(1, 1024));
    app.add_option("--seconds", budget, "time for each problem");
    app.add_flag("--cpu-time", cpu_time,
                 "count this process's CPU time, not the clock: for one thread on a busy machine");
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
            const double start = now(cpu_time);
            problem.run(context);
            times.push_back(now(cpu_time) - start);
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
