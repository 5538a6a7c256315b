// Times the kernels on the project's shapes against this machine's ceilings.
//
//     bench [--device cuda] [--filter matmul] [--threads 2] [--csv]
//     bench --check [--device cuda]                       // the same problems: are they right?
//     bench --end-to-end [--preset small] [--steps 3]     // training steps, a motion, texts
//
// One list of problems (common/bench_problem.h) serves speed and correctness; each is a name, its
// work in flop or bytes, and what to run; a convolution's flop are the direct sum's, however few
// products the CPU does it with, so that its share may exceed 100 %. Inputs are uniform in [-1, 1];
// the caches are warm, but for the memory-bound kernels (common/bench_memory.cpp), whose arrays fit
// in none. Reported: median and minimum of the repetitions, rate, share of the ceiling: on the CPU
// that of FMAs in registers (f32's, or what the product multiplies in) and of memcpy, for the
// number of threads; on a GPU that of large matrix products and of a large copy. There a
// repetition is as many calls, one after the other, as take some milliseconds, and then a wait:
// small problems show what a launch costs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <optional>
#include <string>
#include <thread>
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

// A peer's turns of some milliseconds alternate with ours, so that both meet the same machine; each
// when its threads are awake, which takes a virtual one most of a millisecond, and the other's
// asleep.
Times times_of(const BenchProblem::Ready& problem, DeviceType device, double budget,
               bool cpu_time) {
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
    const auto turn = [&](std::vector<double>& all, int each, const auto& run) {
        constexpr double kAwake = 2e-3, kTurn = 3e-3;
        const double begin = now(false);
        while (now(false) < begin + kAwake) run();
        const double open = now(false);
        do {
            all.push_back(run());
            total += all.back() * each;
        } while (now(false) < open + kTurn);
    };
    while (times.ours.size() < 5 || (total < budget && times.ours.size() < 1000)) {
        if (!problem.peer) {
            times.ours.push_back(repeat(calls));
            total += times.ours.back() * calls;
            continue;
        }
        turn(times.ours, calls, [&] { return repeat(calls); });
        turn(times.peer, 1, [&] {
            const double start = now(cpu_time);
            problem.peer();
            return now(cpu_time) - start;
        });
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::sort(times.ours.begin(), times.ours.end());
    std::sort(times.peer.begin(), times.peer.end());
    return times;
}

struct Ceilings {
    std::string machine, one_thread;  // the second: what one alone reaches, where there are more
    double flops, bf16_flops, int16_flops, bytes_per_second;
    double flops_of(Precision precision) const {
        return precision == Precision::f32     ? flops
               : precision == Precision::int16 ? int16_flops
                                               : bf16_flops;
    }
};

Ceilings measure(DeviceType device) {
    if (device == DeviceType::cpu) {
        Context& context = default_context(device);
        const auto multiply_adds = [&] {
            return std::array{measure_fma_f32(context), measure_fma_bf16(context),
                              measure_int16(context)};
        };
        const int threads = num_threads();
        const auto [f32, bf16, int16] = multiply_adds();
        const double copy = measure_copy(context);
        std::string alone;
        if (threads > 1) {
            set_num_threads(1);
            const auto [one_f32, one_bf16, one_int16] = multiply_adds();
            set_num_threads(threads);
            alone = fmt::format("; one thread {:.1f} f32, {:.1f} bf16, {:.1f} int16",
                                1e-9 * one_f32, 1e-9 * one_bf16, 1e-9 * one_int16);
        }
        return {fmt::format("{} thread{}, {}", threads, threads == 1 ? "" : "s", target_name()),
                alone,
                f32,
                bf16,
                int16,
                copy};
    }
    constexpr int64_t bytes = int64_t{1} << 30;
    const Tensor from = Tensor::zeros({bytes / 4}, DType::f32, device),
                 to = Tensor::zeros({bytes / 4}, DType::f32, device);
    const BenchProblem::Ready copy{[&](Context& context) {
                                       backend(device).memory.copy(context, to.raw_ptr(),
                                                                   from.raw_ptr(), bytes);
                                   },
                                   {}};
    const auto fastest = [&](const BenchProblem::Ready& ready) {
        return times_of(ready, device, 0.2, false).ours.front();
    };
    const auto rate = [&](const BenchProblem& product) {
        return product.flop / fastest(product.in_f32(device));
    };
    return {cuda_description(),
            "",
            rate(large_product()),
            rate(large_product(Precision::bf16)),
            0,
            2.0 * bytes / fastest(copy)};
}

struct Options {
    std::string filter, openblas;
    EndToEndSizes sizes;
    bool csv = false, cpu_time = false, end_to_end = false, check = false;
    double seconds = 0.2;
    int64_t steps = 3;
};

// What --filter leaves of them. Error if that is nothing, before a line of the table is printed.
template <typename Problem>
std::vector<Problem> chosen(std::vector<Problem> all, const std::string& filter) {
    std::erase_if(all, [&](const Problem& problem) {
        return problem.name.find(filter) == std::string::npos;
    });
    if (all.empty())
        throw Error("--filter " + filter +
                    ": no problem has that in its name; without --filter all are listed");
    return all;
}

void print_machine(const Options& options, const Ceilings& ceilings, const char* csv_columns) {
    const double peak = ceilings.flops * 1e-9, copy = ceilings.bytes_per_second * 1e-9;
    if (options.csv)
        std::printf("%s\n", csv_columns);
    else
        std::printf("%s: %.1f GFLOP/s f32, %.1f bf16, %.1f int16, %.1f GB/s copy%s\n",
                    ceilings.machine.c_str(), peak, ceilings.bf16_flops * 1e-9,
                    ceilings.int16_flops * 1e-9, copy, ceilings.one_thread.c_str());
}

void time_kernels(const Options& options, DeviceType device, const Ceilings& ceilings) {
    const double peak = ceilings.flops * 1e-9, copy = ceilings.bytes_per_second * 1e-9;
    const bool csv = options.csv;
    std::optional<OpenBlas> peer;
    if (!options.openblas.empty()) {
        if (device != DeviceType::cpu) throw Error("--openblas compares on --device cpu alone");
        peer.emplace(options.openblas, num_threads());
    }
    std::vector<BenchProblem> problems;
    add_product_problems(problems, device, peer ? &*peer : nullptr);
    add_memory_problems(problems, bench_memory_rows(device));
    problems = chosen(std::move(problems), options.filter);
    print_machine(options, ceilings, "name,median_us,min_us,gflops,gbs,share,of_openblas");
    if (csv)
        std::printf("\"%s%s\",,,%.1f,%.1f,,\n", ceilings.machine.c_str(),
                    ceilings.one_thread.c_str(), peak, copy);
    else
        std::printf("%-44s %10s %10s %9s %8s %6s%s\n", "problem", "median us", "min us", "GFLOP/s",
                    "GB/s", "share", peer ? ("  of OpenBLAS (" + peer->core() + ")").c_str() : "");
    for (const BenchProblem& problem : problems) {
        const BenchProblem::Ready ready = problem.in_f32(device);
        const Times times = times_of(ready, device, options.seconds, options.cpu_time);
        const double time = median(times.ours);
        const double gflops = problem.flop / time * 1e-9, gbs = problem.bytes / time * 1e-9;
        const double share =
            problem.flop > 0 ? gflops / (ceilings.flops_of(problem.precision) * 1e-9) : gbs / copy;
        std::printf(
            csv ? "\"%s\",%.2f,%.2f,%.2f,%.2f,%.3f," : "%-44s %10.1f %10.1f %9.1f %8.1f %5.0f%%",
            problem.name.c_str(), time * 1e6, times.ours.front() * 1e6, gflops, gbs,
            csv ? share : 100 * share);
        if (ready.peer)
            std::printf(csv ? "%.3f" : "%12.0f%%", (csv ? 1 : 100) * median(times.peer) / time);
        std::printf("\n");
        std::fflush(stdout);
    }
}

// A line a problem: what its f32 results are off, as a share of what rounding allows.
int check_kernels(const Options& options, DeviceType device) {
    std::vector<BenchProblem> problems;
    add_product_problems(problems, device);
    add_memory_problems(problems, 1024);
    int64_t passed = 0, failed = 0;
    for (const BenchProblem& problem : chosen(std::move(problems), options.filter)) {
        const double error = bench_error(problem, device);
        const bool right = error <= 1;
        std::printf(options.csv ? "\"%s\",%.4f,%s\n" : "%-44s %9.4f  %s\n", problem.name.c_str(),
                    error, right ? "ok" : "WRONG");
        std::fflush(stdout);
        ++(right ? passed : failed);
    }
    if (!options.csv)
        std::printf("%lld right, %lld wrong\n", static_cast<long long>(passed),
                    static_cast<long long>(failed));
    return failed > 0 ? 1 : 0;
}

void time_end_to_end(const Options& options, DeviceType device, const Ceilings& ceilings) {
    const bool csv = options.csv;
    const auto cases = chosen(end_to_end_cases(options.sizes, device), options.filter);
    print_machine(options, ceilings,
                  "name,median_ms,min_ms,max_ms,gflop,gflops,share,peak_mb,new_blocks");
    if (csv)
        std::printf("\"%s%s\",,,,,%.1f,,,\n", ceilings.machine.c_str(), ceilings.one_thread.c_str(),
                    ceilings.flops * 1e-9);
    else
        std::printf("%-36s %10s %10s %10s %9s %8s %6s %8s %6s\n", "end to end", "median ms",
                    "min ms", "max ms", "GFLOP", "GFLOP/s", "share", "peak MB", "blocks");
    for (const EndToEndCase& one : cases) {
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
    app.add_option("--seconds", options.seconds, "time for each kernel")
        ->check(tools::finite(0, 86400))
        ->capture_default_str();
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
        ->check(tools::whole(1, 1000000));
    app.add_option("--steps", options.steps, "timed runs, after two that warm up")
        ->needs(end_to_end)
        ->check(tools::whole(1, 1000000))
        ->capture_default_str();
    app.add_flag("--check", options.check,
                 "do not time: compare each kernel's f32 results with f64 ones of the CPU")
        ->excludes(end_to_end);
    return tools::run_program(app, argc, argv, [&] {
        const DeviceType device = tools::apply(common);
        if (options.check) return check_kernels(options, device);
        const Ceilings ceilings = measure(device);
        (options.end_to_end ? time_end_to_end : time_kernels)(options, device, ceilings);
        return 0;
    });
}
