#include "models/momask/sampling.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace mc;
using namespace mc::momask;

TEST_CASE("tokens are drawn into views, where they are asked for") {
    const Tensor logits = Tensor::from({0, 9, 1, 8, 0, 2}, {2, 3}),
                 ids = Tensor::full({2, 4}, -7, DType::i64), p = Tensor::zeros({2, 2});
    const auto column = [](const Tensor& all) { return all.slice(1, 1, 2).squeeze(1); };
    TokenDraws how{.k = 1};
    how.u = Tensor::from({0.5f, 0.5f}, {2});
    draw_tokens(column(ids), column(p), logits.to(DType::f64), how);
    CHECK(ids.to_vector<int64_t>() == std::vector<int64_t>{-7, 1, -7, -7, -7, 0, -7, -7});
    CHECK(p.item<float>({0, 1}) == doctest::Approx(1 / (1 + std::exp(-9.0) + std::exp(-8.0))));
    how.drawn = Tensor::from_bools({1, 0}, {2});
    how.gumbel = true;
    how.u = {};
    how.otherwise = 3;
    const Tensor two = Tensor::from_ids({5, 5}, {2}), q = Tensor::zeros({2});
    draw_tokens(two, q, logits, how);
    CHECK(two.to_vector<int64_t>() == std::vector<int64_t>{1, 5});
    CHECK(q.item<float>({1}) == 3);
}

TEST_CASE("a draw that cannot be made says so in one line") {
    const Tensor ids = Tensor::full({2}, 0, DType::i64),
                 logits = Tensor::from({0, NAN, 1, 8, 0, 2}, {2, 3});
    CHECK_THROWS_WITH_AS(draw_tokens(ids, {}, logits, {.k = 3}),
                         "[sampling] a categorical draw without random numbers; ask for a Gumbel "
                         "draw",
                         Error);
    CHECK_THROWS_WITH_AS(draw_tokens(ids, {}, logits, {.k = 3, .u = Tensor::zeros({3})}),
                         "[sampling] ids (2) and random numbers (3) for logits (2, 3)", Error);
    draw_tokens(ids, {}, logits, {.k = 3, .u = Tensor::zeros({2})});
    CHECK_THROWS_WITH_AS(check_drawn(ids),
                         "[sampling] no token can be drawn at place 0 of (2): its logits are not "
                         "numbers, or infinite; are the weights damaged?",
                         Error);
    CHECK_NOTHROW(check_drawn(ids.slice(0, 1, 2)));
}

TEST_CASE("the lowest scores are masked again") {
    const Tensor ids = Tensor::from_ids({1, 2, 3, 4, 5, 6}, {2, 3}),
                 masked = Tensor::zeros({2, 3}, DType::boolean);
    mask_lowest(masked, ids, Tensor::from({0.5f, 0.25f, 0.25f, 1, 1, 1}, {2, 3}),
                Tensor::from_ids({2, 1}, {2}), 99);
    CHECK(ids.to_vector<int64_t>() == std::vector<int64_t>{1, 99, 99, 99, 5, 6});
    CHECK(masked.to_vector<bool>() == std::vector<bool>{false, true, true, true, false, false});
}

TEST_CASE("temperature 0 takes the likeliest, with any noise") {
    const Tensor logits = Tensor::from({0, 9, 8.9f, 1, -3, -2.9f}, {2, 3}),
                 ids = Tensor::full({2}, 0, DType::i64);
    for (float u : {0.0f, 0.5f, 0.999f})
        for (bool gumbel : {false, true}) {
            TokenDraws how{.k = 3, .temperature = 0, .gumbel = gumbel};
            how.u = Tensor::full(gumbel ? Shape{2, 3} : Shape{2}, static_cast<double>(u));
            draw_tokens(ids, {}, logits, how);
            CHECK(ids.to_vector<int64_t>() == std::vector<int64_t>{1, 0});
        }
}

TEST_CASE("the time grid is torch.linspace's, which counts from both ends") {
    CHECK(time_grid(1) == std::vector<float>{0});
    CHECK(time_grid(2) == std::vector<float>{0, 1});
    // The first of the second half is 1 - 1/3 and 1 - 7/14, each with its rounding of the step.
    CHECK(time_grid(4) == std::vector<float>{0, 0x1.555556p-2f, 0x1.555554p-1f, 1});
    CHECK(time_grid(15)[7] == 0x1.fffffep-2f);
}
