#include "motion/signal.h"

#include <algorithm>
#include <cmath>

namespace mc::motion {

std::vector<double> box_filter(std::span<const double> x, int64_t radius) {
    const auto n = static_cast<int64_t>(x.size());
    std::vector<double> out(x.size());
    for (int64_t t = 0; t < n; ++t) {
        const int64_t r = std::min({radius, t, n - 1 - t}), from = t - r, to = t + r;
        double sum = 0;
        for (int64_t k = from; k <= to; ++k) sum += x[static_cast<size_t>(k)];
        out[static_cast<size_t>(t)] = sum / static_cast<double>(to - from + 1);
    }
    return out;
}

void unwrap(std::vector<double>& x, double period) {
    for (size_t t = 1; t < x.size(); ++t) x[t] -= period * std::round((x[t] - x[t - 1]) / period);
}

double quantile(std::span<const double> x, double q) {
    std::vector<double> sorted(x.begin(), x.end());
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<size_t>(std::lround(q * static_cast<double>(sorted.size() - 1)))];
}

double mean(std::span<const double> x) {
    double sum = 0;
    for (double v : x) sum += v;
    return x.empty() ? 0 : sum / static_cast<double>(x.size());
}

std::vector<double> turning_points(std::span<const double> x, double hysteresis) {
    std::vector<double> out;
    if (x.empty()) return out;
    out.push_back(x.front());
    double low = x.front(), high = x.front();
    int direction = 0;  // of the swing that is going on: 0 until one is long enough
    for (double v : x) {
        low = direction > 0 ? v : std::min(low, v);
        high = direction < 0 ? v : std::max(high, v);
        if (direction >= 0 && v <= high - hysteresis) {
            if (direction > 0) out.push_back(high);
            direction = -1;
            low = high = v;
        } else if (direction <= 0 && v >= low + hysteresis) {
            if (direction < 0) out.push_back(low);
            direction = 1;
            low = high = v;
        }
    }
    if (direction != 0) out.push_back(direction > 0 ? high : low);
    return out;
}

int64_t count_cycles(std::span<const double> x, double amplitude) {
    const double sign = amplitude < 0 ? -1 : 1, a = std::abs(amplitude);
    int64_t cycles = 0;
    bool up = false;
    double low = 0, high = 0;
    for (size_t t = 0; t < x.size(); ++t) {
        const double v = sign * x[t];
        if (t == 0) low = high = v;
        if (!up) {
            low = std::min(low, v);
            if (v >= low + a) up = true, high = v;
        } else {
            high = std::max(high, v);
            if (v <= high - a) up = false, low = v, ++cycles;
        }
    }
    return cycles;
}

std::vector<Run> runs(std::span<const double> x) {
    std::vector<Run> out;
    for (size_t t = 0; t < x.size(); ++t) {
        if (x[t] <= 0) continue;
        if (t == 0 || x[t - 1] <= 0) out.push_back({static_cast<int64_t>(t), 0});
        ++out.back().count;
    }
    return out;
}

}  // namespace mc::motion
