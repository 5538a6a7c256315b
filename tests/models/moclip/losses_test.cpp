#include "models/moclip/losses.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "tests/reference_test.h"

using namespace mc;
using namespace mc::moclip;

namespace {

// Rows u of moclip.md 3.5, L2-normalised.
Var golden_rows(const char* key, int64_t n, int64_t d) {
    const Tensor raw = Tensor::empty({n, d}, DType::f64);
    for (int64_t i = 0; i < n * d; ++i)
        raw.data<double>()[i] = train::moclip_hash(key, static_cast<uint32_t>(i));
    return Var(l2_normalize(Var(raw)).value(), requires_grad);
}

double value(const Var& loss) {
    return loss.value().item<double>();
}

// Largest gap between the tape's gradient of `loss` and central differences.
double gradient_gap(const std::vector<Var>& leaves, const std::function<Var()>& loss) {
    for (const Var& leaf : leaves) leaf.clear_grad();
    {
        Tape tape;
        const Tape::Recording recording(tape);
        tape.backward(loss());
    }
    double worst = 0;
    for (const Var& leaf : leaves)
        for (int64_t i = 0; i < leaf.numel(); ++i) {
            double& x = leaf.value().data<double>()[i];
            const double kept = x, h = 1e-6;
            x = kept + h;
            const double up = value(loss());
            x = kept - h;
            const double down = value(loss());
            x = kept;
            worst = std::max(worst, std::abs((up - down) / (2 * h) -
                                             leaf.grad().contiguous().data<double>()[i]));
        }
    return worst;
}

}  // namespace

TEST_CASE("losses: golden values and gradients of moclip.md section 4") {
    const Var zm = golden_rows("zm", 4, 8), zs = golden_rows("zs", 4, 8),
              zt = golden_rows("zt", 4, 8);
    const Var scale(Tensor::full({}, std::log(1 / 0.07), DType::f64), requires_grad);
    CHECK(zm.value().item<double>({0, 0}) == doctest::Approx(-0.432282649).epsilon(1e-8));
    CHECK(zm.value().item<double>({0, 1}) == doctest::Approx(0.287328963).epsilon(1e-8));
    CHECK(zm.value().item<double>({0, 2}) == doctest::Approx(0.258798124).epsilon(1e-8));
    CHECK(value(contrastive_loss(zm, zs, scale)) == doctest::Approx(7.772261762).epsilon(1e-9));
    CHECK(value(distill_loss(zs, zt.value(), DistillReduction::element_mean)) ==
          doctest::Approx(0.229415279).epsilon(1e-8));
    CHECK(value(distill_loss(zs, zt.value(), DistillReduction::sample_sum)) ==
          doctest::Approx(1.835322230).epsilon(1e-9));
    CHECK(value(alignment_loss(zm, zs)) == doctest::Approx(1.182910260).epsilon(1e-9));
    const auto total = [&](DistillReduction reduction) {
        return contrastive_loss(zm, zs, scale) +
               mc::scale(distill_loss(zs, zt.value(), reduction), 0.4) + alignment_loss(zm, zs);
    };
    CHECK(value(total(DistillReduction::element_mean)) ==
          doctest::Approx(9.046938134).epsilon(1e-9));
    CHECK(value(total(DistillReduction::sample_sum)) == doctest::Approx(9.689300915).epsilon(1e-9));
    {
        Tape tape;
        const Tape::Recording recording(tape);
        tape.backward(total(DistillReduction::element_mean));
    }
    CHECK(scale.grad().item<double>() == doctest::Approx(7.548006726).epsilon(1e-9));
    const double want_m[] = {1.302248099, 1.886942448, 2.007349841};
    const double want_s[] = {2.678926977, -1.938943991, -1.576956001};
    for (int64_t i = 0; i < 3; ++i) {
        CHECK(zm.grad().contiguous().item<double>({0, i}) ==
              doctest::Approx(want_m[i]).epsilon(1e-8));
        CHECK(zs.grad().contiguous().item<double>({0, i}) ==
              doctest::Approx(want_s[i]).epsilon(1e-8));
    }
}

TEST_CASE("losses: gradients agree with differences, matrix included") {
    const Var zm = golden_rows("a", 3, 5), zs = golden_rows("b", 3, 5), zt = golden_rows("c", 3, 5);
    const Var scale(Tensor::full({}, 1.5, DType::f64), requires_grad);
    const Tensor w = Tensor::empty({5, 5}, DType::f64);
    for (int64_t i = 0; i < 25; ++i)
        w.data<double>()[i] = 6 * train::moclip_hash("w", static_cast<uint32_t>(i));
    const Var matrix(w, requires_grad);
    CHECK(gradient_gap({zm, zs, scale}, [&] { return contrastive_loss(zm, zs, scale); }) < 1e-8);
    CHECK(gradient_gap({zm, zs, matrix}, [&] { return contrastive_loss_matrix(zm, zs, matrix); }) <
          1e-8);
    CHECK(gradient_gap({zm, zs}, [&] { return alignment_loss(zm, zs); }) < 1e-8);
    for (const auto reduction : {DistillReduction::element_mean, DistillReduction::sample_sum})
        CHECK(gradient_gap({zs}, [&] { return distill_loss(zs, zt.value(), reduction); }) < 1e-8);
}

TEST_CASE("losses: tau I as matrix is the scalar tau; the matrix acts on both sides' rows") {
    const Var zm = golden_rows("a", 4, 6), zs = golden_rows("b", 4, 6);
    const double tau = 1 / 0.07;
    const Tensor identity = Tensor::zeros({6, 6}, DType::f64);
    for (int64_t i = 0; i < 6; ++i) identity.data<double>()[i * 7] = tau;
    const Var scale(Tensor::full({}, std::log(tau), DType::f64));
    CHECK(value(contrastive_loss_matrix(zm, zs, Var(identity))) ==
          doctest::Approx(value(contrastive_loss(zm, zs, scale))).epsilon(1e-12));
    // zs W zm^T is not the transpose of zm W zs^T: swapping the towers must swap nothing else.
    identity.data<double>()[1] = 3;
    CHECK(value(contrastive_loss_matrix(zm, zs, Var(identity))) ==
          doctest::Approx(value(contrastive_loss_matrix(zs, zm, Var(identity)))).epsilon(1e-12));
}

TEST_CASE("losses: recorded values and gradients of the published code") {
    testing::check_case("moclip_losses.safetensors");
}
