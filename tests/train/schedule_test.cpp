#include "train/schedule.h"

#include <doctest/doctest.h>

using namespace mc::train;

TEST_CASE("schedule: MoCLIP's cosine has the values of the specification") {
    // moclip.md 5.2, phase 1 and 2, four digits.
    CHECK(cosine_rate(1e-4, 0, 50) == 1e-4);
    CHECK(cosine_rate(1e-4, 10, 50) == doctest::Approx(9.045e-5).epsilon(1e-4));
    CHECK(cosine_rate(1e-4, 20, 50) == doctest::Approx(6.545e-5).epsilon(1e-4));
    CHECK(cosine_rate(1e-4, 30, 50) == doctest::Approx(3.455e-5).epsilon(1e-4));
    CHECK(cosine_rate(1e-4, 34, 50) == doctest::Approx(2.321e-5).epsilon(1e-4));
    CHECK(cosine_rate(1e-6, 7, 50) == doctest::Approx(9.524e-7).epsilon(1e-4));
    CHECK(cosine_rate(1e-6, 14, 50) == doctest::Approx(8.187e-7).epsilon(1e-4));
    CHECK(cosine_rate(1e-4, 50, 50) < 1e-18);
}

TEST_CASE("schedule: warm-up and milestones equal the reference's loop") {
    // The loop itself: iteration counted from 1, warm-up written over the rate, MultiStepLR stepped
    // every iteration (transformers) or only from `warm_up` on (tokenizers).
    for (bool after : {false, true})
        for (int64_t warm_up : {0, 1, 2, 10})
            for (const std::vector<int64_t>& milestones :
                 {std::vector<int64_t>{}, {20}, {5, 30}, {8, 9, 10, 11}, {1, 2, 3}}) {
                const WarmUpMultiStep schedule{.lr = 2e-4,
                                               .warm_up = warm_up,
                                               .milestones = milestones,
                                               .gamma = 0.05,
                                               .count_after_warm_up = after};
                double rate = 2e-4;
                int64_t stepped = 0;
                for (int64_t it = 1; it < 60; ++it) {
                    if (it < warm_up) rate = 2e-4 * double(it + 1) / double(warm_up + 1);
                    CAPTURE(it);
                    CAPTURE(warm_up);
                    CAPTURE(after);
                    CHECK(schedule.rate(it) == rate);
                    if (after && it < warm_up) continue;
                    ++stepped;
                    for (int64_t m : milestones)
                        if (m == stepped) rate *= 0.05;
                }
            }
}

TEST_CASE("schedule: the warm-up's last value stays, unless asked otherwise") {
    WarmUpMultiStep schedule{.lr = 2e-4, .warm_up = 2000, .milestones = {50000}};
    CHECK(schedule.rate(1) == 2e-4 * 2 / 2001);
    CHECK(schedule.rate(1999) == 2e-4 * 2000 / 2001);
    CHECK(schedule.rate(2000) == 2e-4 * 2000 / 2001);
    CHECK(schedule.rate(50000) == 2e-4 * 2000 / 2001);
    CHECK(schedule.rate(50001) == 2e-4 * 2000 / 2001 * 0.1);
    schedule.keep_warm_up_rate = false;
    CHECK(schedule.rate(2000) == 2e-4);
    schedule.count_after_warm_up = true;
    CHECK(schedule.rate(51999) == 2e-4);
    CHECK(schedule.rate(52000) == 2e-4 * 0.1);
}

TEST_CASE("schedule: warm-up and cosine meet at the peak and end at the floor") {
    const WarmUpCosine schedule{.lr = 1e-3, .warm_up = 10, .total = 110, .floor = 1e-5};
    CHECK(schedule.rate(0) == doctest::Approx(1e-4));
    CHECK(schedule.rate(9) == 1e-3);
    CHECK(schedule.rate(10) == 1e-3);
    CHECK(schedule.rate(60) == doctest::Approx((1e-3 + 1e-5) / 2));
    for (int64_t step : {110, 111, 112, 210}) CHECK(schedule.rate(step) == 1e-5);
    CHECK(schedule.rate(100000) == 1e-5);
    for (int64_t step = 10; step < 110; ++step)
        CHECK(schedule.rate(step) > schedule.rate(step + 1));
    CHECK(WarmUpCosine{.lr = 1, .warm_up = 5, .total = 3}.rate(5) == 0);
}
