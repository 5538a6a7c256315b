// Work that is recorded and launched again gives what it gives when it is done kernel by kernel.
#include "tensor/graph.h"

#include "autograd/inference.h"
#include "models/bad/transformer.h"
#include "models/bamm/transformer.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "tests/simt/device/close.h"
#include "tests/tiny_transformers.h"

namespace mc::testing {
namespace {

constexpr auto kCuda = DeviceType::cuda;
using Floats = std::vector<float>;

// While one lives the device has no graphs.
struct WithoutGraphs {
    GraphKernels real = backend(kCuda).graph;
    WithoutGraphs() { backend(kCuda).graph.begin = Kernel<>("graph"); }
    ~WithoutGraphs() { backend(kCuda).graph = real; }
};

// y = (x + x) * x, by way of a tensor of its own.
struct Squares {
    Graph graph{kCuda};
    Tensor x, y = Tensor::zeros({1000}, DType::f32, kCuda);
    int calls = 0;

    Floats operator()(float value) {
        put(kCuda, x, Tensor::full({1000}, value));
        graph.run([&] {
            ++calls;
            y.copy_(((Var(x) + Var(x)) * Var(x)).value());
        });
        return y.to_vector<float>();
    }
};

Floats thousand(float value) {
    return Floats(1000, value);
}

TEST_CASE("a graph's work is done, then recorded, then launched alone") {
    Squares squares;
    REQUIRE(squares.graph.available());
    const GraphStats before = graph_stats();
    for (int i = 1; i <= 5; ++i)
        CHECK(squares(static_cast<float>(i)) == thousand(static_cast<float>(2 * i * i)));
    CHECK(squares.calls == 2);
    const GraphStats after = graph_stats();
    CHECK(after.recorded == before.recorded + 1);
    CHECK(after.operations == before.operations + 3);
    CHECK(after.launches == before.launches + 4);
}

TEST_CASE("without graphs work is done each time") {
    const WithoutGraphs without;
    Squares squares;
    CHECK(!squares.graph.available());
    for (int i = 1; i <= 3; ++i)
        CHECK(squares(static_cast<float>(i)) == thousand(static_cast<float>(2 * i * i)));
    CHECK(squares.calls == 3);
    CHECK(squares.graph.bytes() == 0);
}

TEST_CASE("a graph's memory is nobody else's while it lives") {
    empty_cache(kCuda);
    const uint64_t in_use = allocator_stats(kCuda).in_use;
    {
        Squares squares;
        squares(1);
        squares(2);
        CHECK(squares.graph.bytes() >= 2 * 4000);
        std::vector<Tensor> others;  // as large as what the work makes
        for (int i = 0; i < 8; ++i) others.push_back(Tensor::full({1000}, -7, DType::f32, kCuda));
        CHECK(squares(3) == thousand(18));
        for (const Tensor& other : others) CHECK(other.to_vector<float>() == thousand(-7));
    }
    CHECK(allocator_stats(kCuda).in_use == in_use);
    const uint64_t asked = allocator_stats(kCuda).system_requests;
    const Tensor again = Tensor::empty({1000}, DType::f32, kCuda);
    CHECK(allocator_stats(kCuda).system_requests == asked);
}

TEST_CASE("a tensor may outlive the graph whose memory it has") {
    Tensor kept;
    {
        Graph graph(kCuda);
        graph.run([&] { kept = Tensor::full({1000}, 3, DType::f32, kCuda); });
    }
    const Tensor other = Tensor::full({1000}, -7, DType::f32, kCuda);
    CHECK(kept.to_vector<float>() == thousand(3));
}

TEST_CASE("what is freed while a graph is recorded goes to the system after it") {
    Tensor old = Tensor::full({1000}, 3, DType::f32, kCuda);
    const uint64_t limit = set_cache_limit(kCuda, 0);
    Graph graph(kCuda);
    graph.run([] {});
    graph.run([&] { old = Tensor(); });
    CHECK(allocator_stats(kCuda).cached >= 4000);
    set_cache_limit(kCuda, limit);
    empty_cache(kCuda);
}

TEST_CASE("what a graph cannot hold is named, and the stream goes on") {
    const Tensor y = Tensor::zeros({4}, DType::f32, kCuda), host = Tensor::full({4}, 2);
    const void* stream = default_context(kCuda).stream;
    const auto fails = [&](const std::function<void()>& work, const char* says) {
        Graph graph(kCuda);
        graph.run([] {});
        CHECK_THROWS_WITH_AS(graph.run(work), doctest::Contains(says), Error);
        CHECK(default_context(kCuda).stream == stream);
        y.fill_(1);
        CHECK((Var(y) + Var(y)).value().to_vector<float>() == Floats(4, 2));
        graph.run([&] { y.fill_(5); });  // records after all
        CHECK(y.to_vector<float>() == Floats(4, 5));
    };
    fails([&] { y.copy_(host); }, "[upload] cannot be part of a CUDA graph");
    fails([&] { y.item<float>({0}); }, "[download] cannot be part of a CUDA graph");
    fails([&] { Tensor::empty({1 << 20}, DType::f32, kCuda); },
          "[allocator] work that is recorded asks for 4194304 bytes more");
    fails(
        [] {
            Graph inner(kCuda);
            inner.run([] {});
            inner.run([] {});
        },
        "[graph] cannot be part of a CUDA graph");
    fails([] { throw Error("[work] of its own"); }, "[work] of its own");
}

TEST_CASE("graphs are kept by key, those used last, until the weights are others") {
    struct Work {
        Graph graph{kCuda};
    };
    GraphCache<Work> cache;
    const std::vector<uint64_t> here{1}, there{2};
    CHECK(graph_key(1, 2.0) != graph_key(1, 2));
    CHECK(cache.take(graph_key(0), here) == nullptr);
    std::vector<Work*> made;
    for (size_t i = 0; i <= cache.kMost; ++i) {
        auto work = std::make_unique<Work>();
        made.push_back(work.get());
        cache.keep(graph_key(i), std::move(work));
    }
    CHECK(cache.take(graph_key(0), here) == nullptr);
    auto work = cache.take(graph_key(5), here);
    CHECK(work.get() == made[5]);
    CHECK(cache.take(graph_key(5), here) == nullptr);  // somebody works with it
    cache.keep(graph_key(5), std::move(work));
    CHECK(cache.take(graph_key(5), there) == nullptr);
    CHECK(cache.take(graph_key(6), here) == nullptr);
}

struct MoMask {
    momask::TransformerConfig config = [] {
        momask::TransformerConfig c;
        c.num_tokens = 12;
        c.num_quantizers = 4;
        c.code_dim = c.latent_dim = c.clip_dim = 8;
        c.heads = 2;
        c.layers = 1;
        c.ff_size = 16;
        return c;
    }();
    Generator init{3};
    momask::MaskTransformer masked{config, &init};
    momask::ResidualTransformer residual{config, &init};
    GenerationOptions options;

    MoMask() {
        options.steps = 3;
        options.top_k = 0.5;
        masked.to(kCuda);
        residual.to(kCuda);
    }
    std::vector<int64_t> operator()(uint64_t seed, const std::vector<int64_t>& lengths) {
        Generator noise(seed);
        GeneratorSource draws(noise);
        const Tensor text =
            Generator(seed + 1).normal({static_cast<int64_t>(lengths.size()), config.clip_dim});
        const Tensor base = masked.generate(text, lengths, options, draws);
        return residual.generate(base, text, lengths, options, draws).to_vector<int64_t>();
    }
};

TEST_CASE("MoMask's tokens by graphs are those without") {
    MoMask model;
    const std::vector<std::vector<int64_t>> shapes{{5, 3}, {5, 3}, {4}, {5, 2}, {5, 3}, {4}};
    const auto all = [&] {
        std::vector<std::vector<int64_t>> tokens;
        for (size_t i = 0; i < shapes.size(); ++i) tokens.push_back(model(i, shapes[i]));
        return tokens;
    };
    for (const bool gumbel : {false, true}) {
        model.options.gumbel = gumbel;
        const auto want = [&] {
            const WithoutGraphs without;
            return all();
        }();
        const GraphStats before = graph_stats();
        CHECK(all() == want);
        const GraphStats after = graph_stats();
        // Two shapes of two transformers. Of the 3 steps of a motion the first of a shape is no
        // graph, nor are its first residual layers.
        CHECK(after.recorded - before.recorded == 4);
        CHECK(after.launches - before.launches == 6 * 3 - 2 + 6 - 2);
        MESSAGE("operations in a step and in all residual layers: "
                << (after.operations - before.operations) / 2);
    }
}

TEST_CASE("a graph is of the precision it was recorded in") {
    MoMask model;
    const auto made = [&](Precision products) {
        const Inference scope(products);
        return model(1, {5, 3});
    };
    const auto want = [&] {
        const WithoutGraphs without;
        return std::pair(made(Precision::f32), made(Precision::bf16));
    }();
    const GraphStats before = graph_stats();
    for (int i = 0; i < 2; ++i) {
        CHECK(made(Precision::f32) == want.first);
        CHECK(made(Precision::bf16) == want.second);
    }
    CHECK(graph_stats().recorded == before.recorded + 4);
}

// What makes three motions by graphs and without, and how many graphs it took.
template <class Make>
void check_same_by_graphs(uint64_t graphs, const Make& make) {
    const auto all = [&] {
        std::vector<std::vector<int64_t>> tokens;
        for (uint64_t seed : {1, 2, 3}) {
            Generator noise(seed);
            GeneratorSource draws(noise);
            tokens.push_back(make(draws));
        }
        return tokens;
    };
    const auto want = [&] {
        const WithoutGraphs without;
        return all();
    }();
    const GraphStats before = graph_stats();
    CHECK(all() == want);
    CHECK(graph_stats().recorded == before.recorded + graphs);
}

TEST_CASE("BAMM's tokens by graphs are those without") {
    auto config = testing::tiny_transformer<bamm::Config>(1);
    config.reference_sampling = false;
    Generator init(3);
    bamm::Transformer model(config, &init);
    model.to(kCuda);
    const Tensor text = Generator(5).normal({2, 8});
    // The draft's places are one graph, the refinement's another.
    check_same_by_graphs(2, [&](UniformSource& draws) {
        return model.generate(text, {4, 3}, 4, {}, draws).ids.to_vector<int64_t>();
    });
}

TEST_CASE("BAD's tokens by graphs are those without") {
    const bad::Config config = testing::tiny_bad(8);
    Generator init(3);
    bad::Transformer model(config, Generator(2).normal({12, 4}), &init);
    model.to(kCuda);
    const bad::Text words{Generator(5).normal({2, 8}), Generator(6).normal({2, 3, 8})};
    GenerationOptions options;
    options.steps = 3;
    for (const bool order_agnostic : {false, true}) {
        options.order_agnostic = order_agnostic;
        check_same_by_graphs(1, [&](UniformSource& draws) {
            return model.generate(words, {4, 3}, options, draws).to_vector<int64_t>();
        });
    }
}

TEST_CASE("graphs do not outlive the weights they were recorded with") {
    MoMask model;
    const auto old = model(1, {5, 3});
    for (int i = 0; i < 2; ++i) CHECK(model(1, {5, 3}) == old);
    const auto changed = [&] {
        MoMask other;
        for (MoMask* m : {&model, &other}) {
            Generator weights(77);
            for (auto& [name, weight] : m->masked.parameters())
                weight->value().copy_(weights.normal(weight->shape(), 0, 0.5));
        }
        const WithoutGraphs without;
        return other(1, {5, 3});
    }();
    CHECK(changed != old);
    for (int i = 0; i < 3; ++i) CHECK(model(1, {5, 3}) == changed);
    const Tensor old_place = model.masked.parameters()[0].second->value();
    model.masked.to(DeviceType::cpu);
    model.masked.to(kCuda);
    for (int i = 0; i < 3; ++i) CHECK(model(1, {5, 3}) == changed);
}

}  // namespace
}  // namespace mc::testing
