#include "motion/strip.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "motion/figure.h"
#include "motion/raster.h"

namespace mc::motion {
namespace {

struct Look {
    Colour paper, line, text;
    std::array<Colour, 3> figure;  // middle, left, right
    float shadow;
};

constexpr Look kLight{{247, 248, 250},
                      {120, 130, 148},
                      {96, 106, 124},
                      {{{214, 212, 208}, {45, 170, 156}, {232, 126, 66}}},
                      0.30f};
constexpr Look kDark{{24, 28, 36},
                     {120, 130, 150},
                     {150, 160, 178},
                     {{{226, 222, 214}, {76, 194, 180}, {240, 147, 90}}},
                     0.55f};

void check(const JointSequence& joints, const StripOptions& options) {
    figure_parts(joints.joints);  // refuses other numbers of joints
    if (joints.frames < 1 ||
        static_cast<int64_t>(joints.xyz.size()) != joints.frames * joints.joints * 3) {
        throw Error(fmt::format("strip: got {} numbers for {} frames of {} joints",
                                joints.xyz.size(), joints.frames, joints.joints));
    }
    for (size_t i = 0; i < joints.xyz.size(); ++i) {
        if (!std::isfinite(joints.xyz[i]) || std::fabs(joints.xyz[i]) > 1e6f) {
            throw Error(fmt::format("strip: frame {} is not finite",
                                    static_cast<int64_t>(i) / (joints.joints * 3)));
        }
    }
    if (options.poses < 1 || options.poses > 100 || options.height < 64 || options.height > 4096) {
        throw Error(fmt::format("strip: {} poses of {} pixels; want 1 to 100 of 64 to 4096",
                                options.poses, options.height));
    }
}

}  // namespace

Image strip_image(const JointSequence& joints, const StripOptions& options) {
    check(joints, options);
    const Look& look = options.dark ? kDark : kLight;
    const double scale = figure_scale(joints);
    const double floor = figure_floor(joints);
    const Vec3 forward = figure_forward(joints, 0);
    View view;
    view.yaw = std::atan2(forward.x, forward.z) + options.yaw_degrees * M_PI / 180;
    view.pitch = 10 * M_PI / 180;

    const int64_t count = std::min<int64_t>(options.poses, joints.frames);
    std::vector<int64_t> frames;
    std::vector<std::vector<Capsule>> poses;
    // Where each pose is across the picture, the widest pose, and the highest point above the
    // floor.
    const Vec3 right{std::cos(view.yaw), 0, -std::sin(view.yaw)};
    std::vector<double> middles;
    double wide = 0.6 * scale;
    double tall = 1.0 * scale;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t last = std::max<int64_t>(1, count - 1);
        frames.push_back((i * (joints.frames - 1) + last / 2) / last);
        poses.push_back(figure_capsules(joints, frames.back(), scale));
        double low = 1e300;
        double high = -1e300;
        for (const Capsule& c : poses.back()) {
            for (const auto& [p, r] : {std::pair{c.a, c.radius_a}, std::pair{c.b, c.radius_b}}) {
                low = std::min(low, dot(p, right) - r);
                high = std::max(high, dot(p, right) + r);
                tall = std::max(tall, p.y + r - floor);
            }
        }
        middles.push_back((low + high) / 2);
        wide = std::max(wide, high - low);
    }
    const int dot_size = std::max(1, options.height / 240);
    const double below = options.height * 0.075 + (options.times ? 11.0 * dot_size : 0.0);
    const double above = options.height * 0.05;
    view.pixels_per_metre = (options.height - below - above) / (1.06 * tall);
    const int cell = std::max(8, static_cast<int>(std::ceil(1.08 * wide * view.pixels_per_metre)));
    const int64_t width = cell * count;
    if (width > 65535) {
        throw Error(
            fmt::format("strip: {} pixels wide; ask for fewer poses or less height", width));
    }
    Canvas canvas(static_cast<int>(width), options.height, look.paper);
    const double ground = options.height - below;
    canvas.horizontal_line(0, static_cast<double>(width), ground, 1.0 * dot_size, look.line, 0.6f);
    for (size_t i = 0; i < poses.size(); ++i) {
        const float* root = joints.at(frames[i], 0);
        const Vec3 on_floor{root[0], floor, root[2]};
        view.centre = on_floor + (middles[i] - dot(on_floor, right)) * right;
        view.x = (static_cast<double>(i) + 0.5) * cell;
        view.y = ground;
        canvas.shadow(view, poses[i], floor, look.shadow);
        canvas.figure(view, poses[i], look.figure);
        if (options.times) {
            const double seconds = static_cast<double>(frames[i]) / joints.fps;
            canvas.label(fmt::format("{:.1f}s", seconds), view.x, options.height - 11.0 * dot_size,
                         dot_size, look.text);
        }
    }
    return canvas.image();
}

void write_strip(const std::string& path, const JointSequence& joints,
                 const StripOptions& options) {
    write_png(path, strip_image(joints, options));
}

}  // namespace mc::motion
