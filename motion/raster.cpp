#include "motion/raster.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace mc::motion {
namespace {

struct Axes {
    Vec3 right, up, ahead;
};

Axes axes_of(const View& view) {
    const double cy = std::cos(view.yaw), sy = std::sin(view.yaw);
    const double cp = std::cos(view.pitch), sp = std::sin(view.pitch);
    return {{cy, 0, -sy}, {-sy * sp, cp, -cy * sp}, {-sy * cp, -sp, -cy * cp}};
}

// Pixel coordinates (y down) and depth in pixels, away from the eye.
Vec3 project(const View& view, const Axes& axes, Vec3 p) {
    const Vec3 d = view.pixels_per_metre * (p - view.centre);
    return {view.x + dot(d, axes.right), view.y - dot(d, axes.up), dot(d, axes.ahead)};
}

struct Bounds {
    int x0, y0, x1, y1;
};

double smooth(double x) {
    x = std::clamp(x, 0.0, 1.0);
    return x * x * (3 - 2 * x);
}

// Light on a surface with normal n (view space, y up, z towards the eye).
Colour shaded(const Colour& base, Vec3 n, Vec3 key, Vec3 fill, Vec3 sky) {
    const double k = 0.66 * std::max(0.0, (dot(n, key) + 0.25) / 1.25);
    const double above = 0.5 + 0.5 * dot(n, sky);
    const double ambient = 0.28 + 0.20 * above + 0.10 * std::max(0.0, dot(n, fill));
    const double edge = std::pow(1 - n.z, 3) * 30 * above;
    const auto channel = [&](float c, double warm, double cool) {
        return static_cast<float>(std::min(255.0, c * (k * warm + ambient * cool) + edge));
    };
    return {channel(base[0], 1.04, 0.94), channel(base[1], 1.0, 0.97),
            channel(base[2], 0.94, 1.08)};
}

constexpr struct {
    char name;
    uint8_t rows[7];  // five bits each, the highest is the left dot
} kGlyphs[] = {
    {'0', {0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E}},
    {'1', {0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E}},
    {'2', {0x0E, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1F}},
    {'3', {0x1F, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0E}},
    {'4', {0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02}},
    {'5', {0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E}},
    {'6', {0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E}},
    {'7', {0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08}},
    {'8', {0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E}},
    {'9', {0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C}},
    {'.', {0x00, 0x00, 0x00, 0x00, 0x00, 0x0C, 0x0C}},
    {'s', {0x00, 0x00, 0x0E, 0x10, 0x0E, 0x01, 0x1E}},
};

}  // namespace

Canvas::Canvas(int width, int height, Colour paper)
    : width_(width),
      height_(height),
      pixels_(static_cast<size_t>(width) * static_cast<size_t>(height), paper),
      depth_(pixels_.size()) {}

void Canvas::mix(size_t pixel, const Colour& colour, float alpha) {
    for (int c = 0; c < 3; ++c) {
        pixels_[pixel][c] += alpha * (colour[c] - pixels_[pixel][c]);
    }
}

void Canvas::horizontal_line(double x0, double x1, double y, double thickness, Colour colour,
                             float alpha) {
    for (int row = 0; row < height_; ++row) {
        const double covered =
            std::min(row + 1.0, y + thickness / 2) - std::max<double>(row, y - thickness / 2);
        if (covered <= 0) continue;
        for (int x = std::max(0, static_cast<int>(x0)); x < std::min<double>(width_, x1); ++x) {
            mix(static_cast<size_t>(row) * static_cast<size_t>(width_) + static_cast<size_t>(x),
                colour, alpha * static_cast<float>(covered));
        }
    }
}

void Canvas::shadow(const View& view, const std::vector<Capsule>& capsules, double floor,
                    float alpha) {
    if (capsules.empty() || std::sin(view.pitch) < 1e-3) return;
    const Axes axes = axes_of(view);
    const double soft = 0.05;  // metres over which the shadow fades out
    double x0 = width_, y0 = height_, x1 = 0, y1 = 0;
    for (const Capsule& c : capsules) {
        for (const auto& [p, r] : {std::pair{c.a, c.radius_a}, std::pair{c.b, c.radius_b}}) {
            const Vec3 s = project(view, axes, {p.x, floor, p.z});
            const double size = view.pixels_per_metre * (r + soft);
            x0 = std::min(x0, s.x - size);
            x1 = std::max(x1, s.x + size);
            y0 = std::min(y0, s.y - size);
            y1 = std::max(y1, s.y + size);
        }
    }
    const double scale = 1 / view.pixels_per_metre;
    for (int y = std::max(0, static_cast<int>(y0)); y < std::min<double>(height_, y1 + 1); ++y) {
        for (int x = std::max(0, static_cast<int>(x0)); x < std::min<double>(width_, x1 + 1); ++x) {
            // Where the pixel's ray meets the floor.
            Vec3 p = view.centre + scale * (x + 0.5 - view.x) * axes.right -
                     scale * (y + 0.5 - view.y) * axes.up;
            p += ((floor - p.y) / axes.ahead.y) * axes.ahead;
            double light = 1;
            for (const Capsule& c : capsules) {
                const double ux = c.b.x - c.a.x, uz = c.b.z - c.a.z;
                const double qx = p.x - c.a.x, qz = p.z - c.a.z;
                const double n = ux * ux + uz * uz;
                const double t = n > 0 ? std::clamp((qx * ux + qz * uz) / n, 0.0, 1.0) : 0.0;
                const double r = c.radius_a + t * (c.radius_b - c.radius_a);
                const double d = std::hypot(qx - t * ux, qz - t * uz) - r;
                // A body high above the floor throws a fainter shadow.
                const double height = c.a.y + t * (c.b.y - c.a.y) - floor;
                const double near = 1 / (1 + 1.2 * std::max(0.0, height));
                light = std::min(light, 1 - near * (1 - smooth((d + soft) / (2 * soft))));
            }
            mix(static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x),
                {0, 0, 0}, alpha * static_cast<float>(1 - light));
        }
    }
}

void Canvas::figure(const View& view, std::vector<Capsule> capsules,
                    const std::array<Colour, 3>& colours) {
    const Axes axes = axes_of(view);
    const auto to_view = [&](Vec3 v) {
        return Vec3{dot(v, axes.right), dot(v, axes.up), -dot(v, axes.ahead)};
    };
    const Vec3 key =
        to_view(normalise(0.75 * Vec3{0, 1, 0} - 0.35 * axes.right - 0.55 * axes.ahead));
    const Vec3 fill = normalise(Vec3{0.75, 0.15, 0.5});
    const Vec3 sky = to_view({0, 1, 0});
    std::fill(depth_.begin(), depth_.end(), 1e300);
    const auto distance = [&](const Capsule& c) { return dot(c.a + c.b, axes.ahead); };
    std::stable_sort(capsules.begin(), capsules.end(),
                     [&](const Capsule& p, const Capsule& q) { return distance(p) > distance(q); });
    for (const Capsule& c : capsules) {
        const Vec3 a = project(view, axes, c.a);
        const Vec3 b = project(view, axes, c.b);
        const double ra = view.pixels_per_metre * c.radius_a;
        const double rb = view.pixels_per_metre * c.radius_b;
        const double soft = 0.25 * std::min(ra, rb);
        const double ux = b.x - a.x, uy = b.y - a.y, dr = rb - ra, dz = a.z - b.z;
        const double n = ux * ux + uy * uy - dr * dr;
        const double slope = n > 1e-9 ? dz / std::sqrt(n * (n + dz * dz)) : 0.0;
        const Bounds box{std::max(0, static_cast<int>(std::min(a.x - ra, b.x - rb)) - 1),
                         std::max(0, static_cast<int>(std::min(a.y - ra, b.y - rb)) - 1),
                         std::min(width_, static_cast<int>(std::max(a.x + ra, b.x + rb)) + 2),
                         std::min(height_, static_cast<int>(std::max(a.y + ra, b.y + rb)) + 2)};
        for (int y = box.y0; y < box.y1; ++y) {
            for (int x = box.x0; x < box.x1; ++x) {
                const double qx = x + 0.5 - a.x, qy = y + 0.5 - a.y;
                double t = ra > rb ? 0 : 1;  // seen end-on, the larger sphere hides the other
                if (n > 1e-9) {
                    const double s0 = (qx * ux + qy * uy + ra * dr) / n;
                    const double r0 = ra + s0 * dr;
                    const double chord =
                        r0 * r0 - (qx - s0 * ux) * (qx - s0 * ux) - (qy - s0 * uy) * (qy - s0 * uy);
                    t = std::clamp(s0 + slope * std::sqrt(std::max(0.0, chord)), 0.0, 1.0);
                }
                const double r = ra + t * dr, px = qx - t * ux, py = qy - t * uy;
                const double away = std::hypot(px, py);
                double cover = std::clamp(r - away + 0.5, 0.0, 1.0);
                if (cover <= 0) continue;
                const bool outline = cover < 0.5;
                const double front = std::sqrt(std::max(0.0, r * r - away * away));
                const size_t pixel =
                    static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x);
                const double z = a.z + t * (b.z - a.z) - front;
                const double before = (depth_[pixel] - z) / soft;
                if (before <= -1) continue;
                cover *= smooth(0.5 + 0.5 * before);
                const double inv = 1 / std::max({r, away, 1e-9});
                const Vec3 normal{px * inv, -py * inv, front * inv};
                mix(pixel, shaded(colours[static_cast<size_t>(c.side)], normal, key, fill, sky),
                    static_cast<float>(cover));
                if (before > 0 && !outline) depth_[pixel] = z;
            }
        }
    }
}

void Canvas::label(const std::string& text, double x, double y, int size, Colour colour) {
    int left = static_cast<int>(x - 3.0 * size * static_cast<double>(text.size()));
    for (char c : text) {
        for (const auto& glyph : kGlyphs) {
            if (glyph.name != c) continue;
            for (int row = 0; row < 7 * size; ++row) {
                for (int column = 0; column < 5 * size; ++column) {
                    const int px = left + column, py = static_cast<int>(y) + row;
                    const bool dot = glyph.rows[row / size] >> (4 - column / size) & 1;
                    if (!dot || px < 0 || py < 0 || px >= width_ || py >= height_) continue;
                    mix(static_cast<size_t>(py) * static_cast<size_t>(width_) +
                            static_cast<size_t>(px),
                        colour, 1);
                }
            }
        }
        left += 6 * size;
    }
}

Image Canvas::image() const {
    Image out;
    out.width = width_;
    out.height = height_;
    out.rgb.reserve(pixels_.size() * 3);
    for (const Colour& pixel : pixels_) {
        for (float c : pixel) {
            out.rgb.push_back(static_cast<uint8_t>(std::clamp(std::lround(c), 0L, 255L)));
        }
    }
    return out;
}

}  // namespace mc::motion
