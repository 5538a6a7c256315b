#include "nn/layers.h"
#include "tests/simt/device/close.h"

namespace mc::testing {
namespace {

// Sums of some tens of terms in f64.
constexpr double kTolerance = 1e-12;

// Two training steps' values and gradients of `layer` on both devices, in f64.
template <class Layer, class Run>
void check_layer(Layer& here, Layer& there, const Shape& shape, Run&& run) {
    for (nn::Module* layer : {static_cast<nn::Module*>(&here), static_cast<nn::Module*>(&there)})
        layer->to(DType::f64);
    there.to(DeviceType::cuda);
    for (uint64_t step : {1, 2}) {
        const Tensor x = Generator(step).uniform(shape, -1, 3, DType::f64),
                     v = Generator(9).uniform(shape, -1, 1, DType::f64);
        Tensor value[2], gradient[2];
        for (int device : {0, 1}) {
            const DeviceType where = device ? DeviceType::cuda : DeviceType::cpu;
            Tape tape;
            Tape::Recording recording(tape);
            const Var in(x.to(where), requires_grad);
            const Var y = run(device ? there : here, in);
            tape.backward(y, v.to(where).clone());
            value[device] = y.value();
            gradient[device] = in.grad();
        }
        CHECK(value[1].device() == DeviceType::cuda);
        CHECK(worst(value[1], value[0]) < kTolerance);
        CHECK(worst(gradient[1], gradient[0]) < kTolerance);
        check_same_gradients(there, here, kTolerance);
    }
}

TEST_CASE("group norm, batch norm and cumsum are the CPU's, and so is what training leaves") {
    {
        nn::GroupNorm here(2, 6), there(2, 6);
        check_layer(here, there, {3, 6, 11},
                    [](const nn::GroupNorm& layer, const Var& x) { return cumsum(layer(x), 1); });
    }
    for (const Shape& shape : {Shape{3, 6, 11}, Shape{9, 6}}) {
        nn::BatchNorm1d here(6), there(6);
        for (bool training : {true, false})
            check_layer(here, there, shape, [&](const nn::BatchNorm1d& layer, const Var& x) {
                return cumsum(layer(x, {.training = training}), -1);
            });
        CHECK(there.running.batches.device() == DeviceType::cuda);
        CHECK(there.running.batches.item<int64_t>() == 2);
        CHECK(worst(there.running.mean, here.running.mean) < kTolerance);
        CHECK(worst(there.running.var, here.running.var) < kTolerance);
    }
}

}  // namespace
}  // namespace mc::testing
