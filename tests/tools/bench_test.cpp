// What `bench` counts and times, and what it says of wrong options.
#include <doctest/doctest.h>

#include "kernels/backend.h"
#include "tensor/allocator.h"
#include "tests/run_program.h"
#include "tools/common/bench_end_to_end.h"
#include "tools/common/bench_flops.h"
#include "tools/common/bench_problem.h"

using namespace mc;

TEST_CASE("bench: operations are counted by shape, between a counter's birth and death") {
    constexpr int64_t m = 5, n = 7, k = 3;
    const Tensor a = bench_values<float>(DeviceType::cpu, m * k, 1),
                 b = bench_values<float>(DeviceType::cpu, k * n, 2), c = Tensor::zeros({m, n});
    MatmulArgs<float> args;
    args.c = c.data<float>();
    args.a = a.data<float>();
    args.b = b.data<float>();
    args.m = m;
    args.n = args.ldb = args.ldc = n;
    args.k = args.lda = k;
    const auto& matmul = backend(DeviceType::cpu).f32.matmul;
    const auto own = matmul.function();
    Context& context = default_context(DeviceType::cpu);
    {
        const FlopCounter counter(DeviceType::cpu);
        CHECK(counter.flop() == 0);
        matmul(context, args);
        matmul(context, args);
        CHECK(counter.flop() == 2 * 2 * m * n * k);
    }
    CHECK((matmul.function() == own));
    const std::vector<float> counted = c.to_vector<float>();
    matmul(context, args);
    CHECK(c.to_vector<float>() == counted);
    CHECK(FlopCounter(DeviceType::cpu).flop() == 0);
}

TEST_CASE("bench: what the problems compute is what f64 says") {
    std::vector<BenchProblem> problems;
    add_product_problems(problems, DeviceType::cpu);
    add_memory_problems(problems, 200);
    int64_t checked = 0;
    for (const BenchProblem& problem : problems) {
        if (problem.flop > 2e9) continue;  // `bench --check` takes the large ones too
        CAPTURE(problem.name);
        CHECK(bench_error(problem, DeviceType::cpu) <= 1);
        ++checked;
    }
    CHECK(checked > 80);
    // What is wrong is said to be.
    BenchProblem wrong = problems.front();
    wrong.in_f32 = [make = wrong.in_f32](DeviceType device) {
        const BenchProblem::Ready ready = make(device);
        return BenchProblem::Ready{[ready](Context& context) {
                                       ready.run(context);
                                       ready.outputs[0].data<float>()[7] *= 1.001f;
                                   },
                                   ready.outputs};
    };
    CHECK(bench_error(wrong, DeviceType::cpu) > 1);
}

TEST_CASE("a training step in its steady state asks the system for no memory") {
    // Not the others: what they draw or read changes their shapes from step to step.
    for (const EndToEndCase& one : end_to_end_cases({"small", 4}, DeviceType::cpu)) {
        const auto is = [&](const char* stage) { return one.name.starts_with(stage); };
        if (!is("train vq") && !is("train masked") && !is("train length") && !is("train moclip"))
            continue;
        CAPTURE(one.name);
        empty_cache(DeviceType::cpu);  // of what other tests left
        const EndToEndCase::Ready ready = one.make();
        // Adam makes its state in the first; the cache is then full to within a block.
        for (int step = 0; step < 3; ++step) ready.run();
        const AllocatorStats before = allocator_stats(DeviceType::cpu);
        for (int step = 3; step < 15; ++step) ready.run();
        const AllocatorStats after = allocator_stats(DeviceType::cpu);
        CHECK(after.requests > before.requests);
        CHECK(after.system_requests == before.system_requests);
    }
}

TEST_CASE("bench --end-to-end prints a line a case, with its work and its memory") {
    const testing::Outcome out = testing::run_program(
        "bench", "--end-to-end --preset small --batch 2 --steps 1 --csv --threads 1");
    REQUIRE_MESSAGE(out.status == 0, out.text);
    for (const char* name :
         {"train vq 2x64 frames", "train masked 2x49 tokens", "train residual 2x49 tokens",
          "train bamm 2x49 tokens", "train bad 2x49 tokens", "train moclip small 2x196 frames",
          "train text 2 sentences", "generate 196 frames, f32", "generate 196 frames, int16",
          "generate 196 frames, bf16", "generate bamm 196 frames, f32",
          "generate bad 196 frames, int16", "encode 64x10 tokens"})
        CHECK_MESSAGE(out.text.find(name) != std::string::npos, name, " is not in\n", out.text);
}

TEST_CASE("bench: wrong usage is one line") {
    const testing::Outcome alone = testing::run_program("bench", "--preset small");
    CHECK(alone.status == 2);
    CHECK(alone.text.find("--end-to-end") != std::string::npos);
    const testing::Outcome none =
        testing::run_program("bench", "--openblas /no/such/libopenblas.so --filter none");
    CHECK(none.status == 1);
    CHECK(none.text.find("/no/such/libopenblas.so") != std::string::npos);
    CHECK(none.text.find("libopenblas0") != std::string::npos);
    for (const char* seconds : {"-1", "nan"})
        CHECK(testing::run_program("bench", std::string("--filter none --seconds ") + seconds)
                  .status == 2);
    for (const char* what : {"", " --check", " --end-to-end --preset small"}) {
        CAPTURE(what);
        const testing::Outcome bogus =
            testing::run_program("bench", std::string("--filter bogus") + what);
        CHECK(bogus.status == 1);
        CHECK(bogus.text.starts_with("bench: --filter bogus: "));
        CHECK(bogus.text.find('\n') == bogus.text.size() - 1);
    }
}
