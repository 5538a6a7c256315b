// A small software rasteriser for figures: tapered bodies, anti-aliased, with a depth buffer.
//
// The view is a parallel projection, so a picture can be measured. How a body is hit by a pixel's
// ray: the hull of two spheres is the union of spheres s in [0,1] with centre c(s) and radius r(s),
// linear in s. Over a pixel p the sphere's half chord is the root of g(s) = r² - |p - c|², a
// parabola G - n (s - s0)²; with dz the slope of the centre towards the eye, the front s·dz +
// sqrt(g) is greatest at s = s0 + dz sqrt(G / (n (n + dz²))), clamped to [0,1].
#pragma once

#include <array>
#include <vector>

#include "motion/figure.h"
#include "motion/png.h"
#include "motion/quaternion.h"

namespace mc::motion {

using Colour = std::array<float, 3>;  // red, green, blue, 0 to 255, sRGB

// Where the eye is: turned by yaw about the vertical (0 sees the figure that faces +Z from its
// front) and raised by pitch, radians. `centre` (world) is seen at pixel (x, y).
struct View {
    double yaw = 0;
    double pitch = 0;
    double pixels_per_metre = 100;
    Vec3 centre;
    double x = 0;
    double y = 0;
};

class Canvas {
  public:
    Canvas(int width, int height, Colour paper);

    int width() const { return width_; }
    int height() const { return height_; }

    // Between pixel columns [x0, x1) only; y is a pixel row, fractions are anti-aliased.
    void horizontal_line(double x0, double x1, double y, double thickness, Colour colour,
                         float alpha);
    // Soft shadow of bodies on the plane y = floor under light from straight above.
    void shadow(const View& view, const std::vector<Capsule>& capsules, double floor, float alpha);
    // One figure: bodies joined softly where they meet. colours: middle, left, right.
    void figure(const View& view, std::vector<Capsule> capsules,
                const std::array<Colour, 3>& colours);
    // Digits, '.', and 's' in a 5 x 7 font of `size` pixels a dot; x is the middle.
    void label(const std::string& text, double x, double y, int size, Colour colour);

    Image image() const;

  private:
    void mix(size_t pixel, const Colour& colour, float alpha);

    int width_;
    int height_;
    std::vector<Colour> pixels_;  // (height, width)
    std::vector<double> depth_;   // (height, width), towards the eye is smaller; of the last figure
};

}  // namespace mc::motion
