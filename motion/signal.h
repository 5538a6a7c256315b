// Small operations on a quantity over time, for measuring motions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mc::motion {

// Mean over [t - r, t + r]: (N) -> (N). r is `radius`, less near the ends so that the window stays
// centred: steady motion passes unchanged and loses nothing of its way.
std::vector<double> box_filter(std::span<const double> x, int64_t radius);

// Takes out jumps of more than half a `period`, as of angles, in place.
void unwrap(std::vector<double>& x, double period);

// Value below which the part q (0 to 1) of x lies, by nearest rank. x is not empty.
double quantile(std::span<const double> x, double q);

double mean(std::span<const double> x);  // 0 if empty

// First value, then the ends of all swings of at least `hysteresis`: what sways less counts as
// rest. The first value alone if there is no such swing.
std::vector<double> turning_points(std::span<const double> x, double hysteresis);

// Complete excursions of at least |amplitude|: up and down again if amplitude > 0, down and up
// again if amplitude < 0.
int64_t count_cycles(std::span<const double> x, double amplitude);

// Stretches of frames in which x is positive.
struct Run {
    int64_t first = 0, count = 0;
};
std::vector<Run> runs(std::span<const double> x);

}  // namespace mc::motion
