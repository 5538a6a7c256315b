// Times the kernels on the project's shapes against this machine's ceilings.
//
//     bench [--device cuda] [--filter matmul] [--threads 2] [--csv]
//     bench --end-to-end [--preset small] [--steps 3]     // training steps, a motion, texts
//
// One list of problems (problems() below); each is a name, its work in flop or bytes, and what to
// run. Nothing is timed here that tests/kernels/ does not check. Inputs are uniform in [-1, 1]; the
// caches are warm, but for the memory-bound kernels (common/bench_memory.cpp), whose arrays fit in
// none. Reported: median and minimum of the repetitions, rate, share of the ceiling: on the CPU
// that of FMAs in registers (f32's, or bf16's where a problem says so) and of memcpy, for the
// number of threads; on a GPU that of a large matrix product and of a large copy. There a
// repetition is as many calls, one after the other, as take some milliseconds, and then a wait:
// small problems show what a launch costs.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/bench_ceilings.h"
#include "kernels/cuda.h"
#include "tensor/allocator.h"
#include "tools/common/bench_end_to_end.h"
#include "tools/common/bench_flops.h"
#include "tools/common/bench_openblas.h"
#include "tools/common/bench_problem.h"
#include "tools/common/cli.h"

namespace mc {
namespace {

using Problem = BenchProblem;

// The list, where it runs, and whom the products are compared with.
struct Problems {
    DeviceType device;
    std::vector<Problem> list = {};
    const OpenBlas* peer = nullptr;

    const KernelTable<float>& table() const { return backend(device).f32; }
    Tensor random(int64_t n) const { return random_bench_tensor(device, n); }
};

void add_matmul(Problems& p, int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b,
                bool gelu = false, int64_t batch = 1, std::optional<DType> packed = std::nullopt) {
    const Tensor a = p.random(batch * m * k), b = p.random(batch * k * n),
                 c = p.random(batch * m * n), bias = p.random(n);
    MatmulArgs<float> args;
    args.c = c.ptr<float>();
    args.a = a.ptr<float>();
    args.b = b.ptr<float>();
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
        args.epilogue.bias = bias.ptr<float>();
        args.epilogue.activate = true;
        args.epilogue.op = UnaryOp::gelu;
    }
    std::string name = "matmul " + std::string(trans_a ? "T" : "N") + (trans_b ? "T " : "N ") +
                       std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    if (batch > 1) name += " batch " + std::to_string(batch);
    if (gelu) name += " bias gelu";
    Tensor packed_b;
    if (packed) {
        packed_b = Tensor::empty({packed_elements(k, n)}, *packed);
        p.table().pack_b(default_context(p.device), packed_b.raw_ptr(), *packed, args.b, args.ldb,
                         trans_b, k, n);
        args.packed_b = {packed_b.raw_ptr(), *packed};
        name += std::string(" packed ") + name_of(*packed);
    }
    p.list.push_back({name, 2.0 * static_cast<double>(batch * m * n * k),
                      4.0 * static_cast<double>(batch * (m * k + k * n + m * n)),
                      [=, &k = p.table()](Context& context) {
                          (void)a, (void)b, (void)c, (void)bias, (void)packed_b;
                          k.matmul(context, args);
                      },
                      packed == DType::bf16});
    if (p.peer && !packed) p.list.back().peer = [=, peer = p.peer] { peer->matmul(args); };
}

void add_conv(Problems& p, const ConvShape& s) {
    const int64_t rows = s.batch * s.t_out(), width = s.kernel * s.c_in;
    const Tensor x = p.random(s.batch * s.t_in * s.c_in), w = p.random(s.c_out * width),
                 y = p.random(rows * s.c_out), dx = p.random(s.batch * s.t_in * s.c_in),
                 dw = p.random(s.c_out * width), bias = p.random(s.c_out);
    const std::string shape = std::to_string(s.batch) + "x" + std::to_string(s.t_in) + " " +
                              std::to_string(s.c_in) + "->" + std::to_string(s.c_out) + " k" +
                              std::to_string(s.kernel) + " s" + std::to_string(s.stride) + " d" +
                              std::to_string(s.dilation);
    const double flop = 2.0 * static_cast<double>(rows * width * s.c_out);
    const double bytes =
        4.0 * static_cast<double>(s.batch * s.t_in * s.c_in + s.c_out * width + rows * s.c_out);
    p.list.push_back({"conv1d " + shape, flop, bytes, [=, &k = p.table()](Context& context) {
                          k.conv1d(context, y.ptr<float>(), x.ptr<float>(), w.ptr<float>(),
                                   bias.ptr<float>(), true, s);
                      }});
    p.list.push_back(
        {"conv1d_backward " + shape, 2 * flop, 2 * bytes, [=, &k = p.table()](Context& context) {
             k.conv1d_backward(context, dx.ptr<float>(), dw.ptr<float>(), bias.ptr<float>(),
                               y.ptr<float>(), x.ptr<float>(), w.ptr<float>(), s);
         }});
}

void add_attention(Problems& p, int64_t batch, int64_t heads, int64_t length, int64_t head_dim,
                   double dropout) {
    const int64_t width = heads * head_dim, rows = batch * length;
    const Tensor qkv_values = p.random(3 * rows * width), dqkv_values = p.random(3 * rows * width),
                 out = p.random(rows * width), dout = p.random(rows * width),
                 lse = p.random(rows * heads);
    float *qkv = qkv_values.ptr<float>(), *dqkv = dqkv_values.ptr<float>();
    AttentionBackwardArgs<float> args;
    AttentionArgs<float>& a = args.forward;
    a.out = out.ptr<float>();
    a.lse = lse.ptr<float>();
    a.q = qkv;
    a.k = qkv + width;
    a.v = qkv + 2 * width;
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
    args.dout = dout.ptr<float>();
    args.dq = dqkv;
    args.dk = dqkv + width;
    args.dv = dqkv + 2 * width;
    const double flop = 4.0 * static_cast<double>(rows * length * width);
    const double bytes = 16.0 * static_cast<double>(rows * width);
    const std::string shape = std::to_string(batch) + "x" + std::to_string(heads) + " L" +
                              std::to_string(length) + " D" + std::to_string(head_dim) +
                              (dropout > 0 ? " dropout" : "");
    p.list.push_back({"attention " + shape, flop, bytes, [=, &k = p.table()](Context& context) {
                          (void)qkv_values, (void)out, (void)lse;
                          k.attention(context, args.forward);
                      }});
    p.list.push_back({"attention_backward " + shape, 2.5 * flop, 2 * bytes,
                      [=, &k = p.table()](Context& context) {
                          (void)qkv_values, (void)out, (void)lse, (void)dqkv_values, (void)dout;
                          k.attention_backward(context, args);
                      }});
}

std::vector<Problem> problems(DeviceType device, const OpenBlas* peer) {
    Problems p{device};
    p.peer = peer;
    for (int64_t m : {1, 8, 49, 392, 3136}) {
        add_matmul(p, m, 384, 384, false, true);
        add_matmul(p, m, 1024, 384, false, true, true);
        add_matmul(p, m, 384, 1024, false, true);
    }
    add_matmul(p, 3136, 1024, 384, false, false);
    add_matmul(p, 3136, 384, 1024, false, false);
    add_matmul(p, 384, 1024, 3136, true, false);
    add_matmul(p, 1024, 384, 3136, true, false);
    add_matmul(p, 3136, 512, 512, false, true);
    add_matmul(p, 1024, 1024, 1024, false, false);
    if (p.table().pack_b)  // a weight packed once, as in generation
        for (DType dtype : {DType::f32, DType::bf16}) {
            for (int64_t m : {1, 49, 98, 392}) {
                add_matmul(p, m, 384, 384, false, true, false, 1, dtype);
                add_matmul(p, m, 1024, 384, false, true, true, 1, dtype);
                add_matmul(p, m, 384, 1024, false, true, false, 1, dtype);
            }
            add_matmul(p, 1024, 1024, 1024, false, true, false, 1, dtype);
        }
    add_matmul(p, 49, 49, 64, false, true, false, 384);
    add_matmul(p, 49, 64, 49, false, false, false, 384);
    add_conv(p, {64, 64, 256, 256, 3, 1, 9, 9});
    add_conv(p, {64, 64, 256, 256, 3, 1, 1, 1});
    add_conv(p, {64, 64, 256, 256, 4, 2, 1, 1});
    add_conv(p, {64, 64, 256, 256, 1, 1, 0, 1});
    add_conv(p, {64, 64, 263, 256, 3, 1, 1, 1});
    add_conv(p, {64, 64, 256, 263, 3, 1, 1, 1});
    add_conv(p, {1, 196, 256, 256, 3, 1, 1, 1});
    add_attention(p, 64, 6, 49, 64, 0);
    add_attention(p, 64, 6, 49, 64, 0.1);
    add_attention(p, 1, 6, 49, 64, 0);
    add_attention(p, 16, 8, 77, 64, 0);
    add_attention(p, 8, 6, 196, 64, 0.1);
    add_memory_problems(p.list, device);
    return p.list;
}

// Returns when the device has done all that it was given.
void wait(DeviceType device) {
    char byte = 0;
    static const Tensor mark = Tensor::zeros({1}, DType::f32, device);
    backend(device).memory.download(default_context(device), &byte, mark.raw_ptr(), 1);
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

// Seconds a call, one entry a repetition, sorted.
struct Times {
    std::vector<double> ours, peer;
};

double median(const std::vector<double>& sorted) {
    return sorted[sorted.size() / 2];
}

// A peer's repetitions alternate with ours, so that both meet the same machine.
Times times_of(const Problem& problem, DeviceType device, double budget, bool cpu_time) {
    Context& context = default_context(device);
    const auto repeat = [&](int calls) {
        const double start = now(cpu_time);
        for (int i = 0; i < calls; ++i) problem.run(context);
        if (device != DeviceType::cpu) wait(device);
        return (now(cpu_time) - start) / calls;
    };
    repeat(1);
    int calls = 1;
    if (device != DeviceType::cpu)
        calls = static_cast<int>(std::clamp(4e-3 / repeat(3), 1.0, 1000.0));
    if (problem.peer) problem.peer();
    Times times;
    double total = 0;
    while (times.ours.size() < 5 || (total < budget && times.ours.size() < 1000)) {
        times.ours.push_back(repeat(calls));
        total += times.ours.back() * calls;
        if (!problem.peer) continue;
        const double start = now(cpu_time);
        problem.peer();
        times.peer.push_back(now(cpu_time) - start);
        total += times.peer.back();
    }
    std::sort(times.ours.begin(), times.ours.end());
    std::sort(times.peer.begin(), times.peer.end());
    return times;
}

struct Ceilings {
    std::string machine;
    double flops, bf16_flops, bytes_per_second;
};

Ceilings measure(DeviceType device) {
    if (device == DeviceType::cpu) {
        Context& context = default_context(device);
        return {std::to_string(num_threads()) + " thread(s), " + target_name(),
                measure_fma_f32(context), measure_fma_bf16(context), measure_copy(context)};
    }
    Problems p{device};
    add_matmul(p, 8192, 8192, 8192, false, true);
    constexpr int64_t bytes = int64_t{1} << 30;
    const Tensor from = Tensor::zeros({bytes / 4}, DType::f32, device),
                 to = Tensor::zeros({bytes / 4}, DType::f32, device);
    const Problem copy{"copy", 0, 2.0 * bytes, [&](Context& context) {
                           backend(device).memory.copy(context, to.raw_ptr(), from.raw_ptr(),
                                                       bytes);
                       }};
    const auto fastest = [&](const Problem& problem) {
        return times_of(problem, device, 0.2, false).ours.front();
    };
    const double flops = p.list[0].flop / fastest(p.list[0]);
    return {cuda_description(), flops, flops, copy.bytes / fastest(copy)};
}

struct Options {
    std::string filter, openblas;
    EndToEndSizes sizes;
    bool csv = false, cpu_time = false, end_to_end = false;
    double seconds = 0.2;
    int64_t steps = 3;
};

void print_machine(const Options& options, const Ceilings& ceilings, const char* csv_columns) {
    const double peak = ceilings.flops * 1e-9, copy = ceilings.bytes_per_second * 1e-9;
    if (options.csv)
        std::printf("%s\n", csv_columns);
    else
        std::printf("%s: %.1f GFLOP/s f32, %.1f bf16, %.1f GB/s copy\n", ceilings.machine.c_str(),
                    peak, ceilings.bf16_flops * 1e-9, copy);
}

void time_kernels(const Options& options, DeviceType device, const Ceilings& ceilings) {
    const double peak = ceilings.flops * 1e-9, copy = ceilings.bytes_per_second * 1e-9;
    const bool csv = options.csv;
    std::optional<OpenBlas> peer;
    if (!options.openblas.empty()) {
        if (device != DeviceType::cpu) throw Error("--openblas compares on --device cpu alone");
        peer.emplace(options.openblas, num_threads());
    }
    print_machine(options, ceilings, "name,median_us,min_us,gflops,gbs,share,of_openblas");
    if (csv)
        std::printf("\"%s\",,,%.1f,%.1f,,\n", ceilings.machine.c_str(), peak, copy);
    else
        std::printf("%-44s %10s %10s %9s %8s %6s%s\n", "problem", "median us", "min us", "GFLOP/s",
                    "GB/s", "share", peer ? "  of OpenBLAS" : "");
    for (const Problem& problem : problems(device, peer ? &*peer : nullptr)) {
        if (problem.name.find(options.filter) == std::string::npos) continue;
        const Times times = times_of(problem, device, options.seconds, options.cpu_time);
        const double time = median(times.ours);
        const double gflops = problem.flop / time * 1e-9, gbs = problem.bytes / time * 1e-9;
        const double share = problem.flop > 0
                                 ? gflops / (problem.bf16 ? ceilings.bf16_flops * 1e-9 : peak)
                                 : gbs / copy;
        std::printf(
            csv ? "\"%s\",%.2f,%.2f,%.2f,%.2f,%.3f," : "%-44s %10.1f %10.1f %9.1f %8.1f %5.0f%%",
            problem.name.c_str(), time * 1e6, times.ours.front() * 1e6, gflops, gbs,
            csv ? share : 100 * share);
        if (problem.peer)
            std::printf(csv ? "%.3f" : "%12.0f%%", (csv ? 1 : 100) * median(times.peer) / time);
        std::printf("\n");
        std::fflush(stdout);
    }
}

void time_end_to_end(const Options& options, DeviceType device, const Ceilings& ceilings) {
    const bool csv = options.csv;
    print_machine(options, ceilings,
                  "name,median_ms,min_ms,max_ms,gflop,gflops,share,peak_mb,new_blocks");
    if (csv)
        std::printf("\"%s\",,,,,%.1f,,,\n", ceilings.machine.c_str(), ceilings.flops * 1e-9);
    else
        std::printf("%-36s %10s %10s %10s %9s %8s %6s %8s %6s\n", "end to end", "median ms",
                    "min ms", "max ms", "GFLOP", "GFLOP/s", "share", "peak MB", "blocks");
    for (const EndToEndCase& one : end_to_end_cases(options.sizes, device)) {
        if (one.name.find(options.filter) == std::string::npos) continue;
        empty_cache(device);
        reset_peak(device);
        const EndToEndCase::Ready ready = one.make();
        const FlopCounter counter(device);
        ready.run();
        ready.run();  // gradients and moments exist now, the caches are filled
        const uint64_t blocks = allocator_stats(device).system_requests;
        std::vector<double> times, flops, rates;
        for (int64_t i = 0; i < options.steps; ++i) {
            const double before = counter.flop(), start = now(options.cpu_time);
            ready.run();
            if (device != DeviceType::cpu) wait(device);
            times.push_back(now(options.cpu_time) - start);
            flops.push_back(counter.flop() - before);
            rates.push_back(flops.back() / times.back());
        }
        for (std::vector<double>* values : {&times, &flops, &rates})
            std::sort(values->begin(), values->end());
        const AllocatorStats memory = allocator_stats(device);
        const double share = median(rates) / ceilings.flops;
        std::printf(csv ? "\"%s\",%.2f,%.2f,%.2f,%.3f,%.1f,%.3f,%.1f,%llu"
                        : "%-36s %10.1f %10.1f %10.1f %9.1f %8.1f %5.0f%% %8.0f %6llu",
                    one.name.c_str(), 1e3 * median(times), 1e3 * times.front(), 1e3 * times.back(),
                    1e-9 * median(flops), 1e-9 * median(rates), (csv ? 1 : 100) * share,
                    1e-6 * static_cast<double>(memory.peak),
                    static_cast<unsigned long long>(memory.system_requests - blocks));
        std::printf("%s\n", ready.remark && !csv ? ready.remark().c_str() : "");
        std::fflush(stdout);
    }
}

}  // namespace
}  // namespace mc

int main(int argc, char** argv) {
    using namespace mc;
    CLI::App app("Times kernels, or whole steps, against this machine's ceilings.", "bench");
    tools::CommonOptions common;
    Options options;
    tools::add_common_options(app, common);
    app.add_option("--filter", options.filter, "only problems whose name contains this");
    app.add_flag("--cpu-time", options.cpu_time,
                 "count this process's CPU time, not the clock: for one thread on a busy machine");
    app.add_flag("--csv", options.csv, "comma-separated values");
    app.add_option("--seconds", options.seconds, "time for each kernel")->capture_default_str();
    app.add_option("--openblas", options.openblas,
                   "a libopenblas.so: the products' speed as a share of its, on as many threads "
                   "(without epilogue)");
    const auto end_to_end =
        app.add_flag("--end-to-end", options.end_to_end,
                     "training steps, generation and texts instead of kernels; the peak is of "
                     "tensors, blocks are those new from the system");
    app.add_option("--preset", options.sizes.preset, "sizes: humanml3d, the originals', or small")
        ->needs(end_to_end)
        ->check(CLI::IsMember({"humanml3d", "small"}))
        ->capture_default_str();
    app.add_option("--batch", options.sizes.batch,
                   "rows of a training step instead of the preset's")
        ->needs(end_to_end)
        ->check(CLI::PositiveNumber);
    app.add_option("--steps", options.steps, "timed runs, after two that warm up")
        ->needs(end_to_end)
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    return tools::run_program(app, argc, argv, [&] {
        const DeviceType device = tools::apply(common);
        const Ceilings ceilings = measure(device);
        (options.end_to_end ? time_end_to_end : time_kernels)(options, device, ceilings);
        return 0;
    });
}
