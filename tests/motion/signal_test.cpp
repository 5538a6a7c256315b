#include "motion/signal.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

using namespace mc::motion;

TEST_CASE("signal: box filter keeps constants and straight lines") {
    CHECK(box_filter(std::vector<double>{2, 2, 2}, 5) == std::vector<double>{2, 2, 2});
    CHECK(box_filter(std::vector<double>{0, 3, 6, 9}, 3) == std::vector<double>{0, 3, 6, 9});
    CHECK(box_filter(std::vector<double>{3, 0, 0, 0, 3}, 1) == std::vector<double>{3, 1, 0, 1, 3});
    CHECK(box_filter(std::vector<double>{1, 5}, 0) == std::vector<double>{1, 5});
}

TEST_CASE("signal: unwrap takes out whole periods") {
    std::vector<double> turns;
    for (int i = 0; i < 40; ++i) turns.push_back(std::remainder(25.0 * i, 360.0));
    unwrap(turns, 360);
    for (int i = 0; i < 40; ++i) CHECK(turns[static_cast<size_t>(i)] == doctest::Approx(25.0 * i));
}

TEST_CASE("signal: turning points pass over sway") {
    const std::vector<double> x{0, 3, -2, 50, 45, 90, 20, 24, 10};
    CHECK(turning_points(x, 20) == std::vector<double>{0, 90, 10});
    CHECK(turning_points(std::vector<double>{0, 5, -5, 9}, 20) == std::vector<double>{0});
    CHECK(turning_points(std::vector<double>{}, 20).empty());
    CHECK(turning_points(std::vector<double>{100, 40, 80}, 20) == std::vector<double>{100, 40, 80});
}

TEST_CASE("signal: cycles are complete excursions") {
    std::vector<double> wave;
    for (int t = 0; t <= 300; ++t) wave.push_back(std::sin(2 * std::numbers::pi * t / 60));
    CHECK(count_cycles(wave, 1.0) == 5);
    CHECK(count_cycles(wave, -1.0) == 4);  // the last way up is not complete
    CHECK(count_cycles(wave, 2.5) == 0);
    CHECK(count_cycles(std::vector<double>{0, 1, 0.9}, 0.5) == 0);  // does not come back
}

TEST_CASE("signal: runs, quantile and mean") {
    const auto r = runs(std::vector<double>{1, 0, 1, 1, 0, 0, 1});
    REQUIRE(r.size() == 3);
    CHECK(r[1].first == 2);
    CHECK(r[1].count == 2);
    CHECK(r[2].first == 6);
    CHECK(runs(std::vector<double>{0, 0}).empty());
    CHECK(quantile(std::vector<double>{5, 1, 3}, 0) == 1);
    CHECK(quantile(std::vector<double>{5, 1, 3}, 0.5) == 3);
    CHECK(mean(std::vector<double>{1, 2}) == 1.5);
    CHECK(mean(std::vector<double>{}) == 0);
}
