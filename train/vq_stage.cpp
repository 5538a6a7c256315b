#include "train/vq_stage.h"

#include <cmath>

#include "motion/features.h"
#include "motion/skeleton.h"

namespace mc::train {
namespace {

motion::JointSequence joints_of(const MotionData& data, const float* normalised, int64_t frames) {
    motion::FeatureSequence features;
    features.frames = frames;
    features.dims = data.dims();
    features.fps = data.fps();
    features.rows.resize(static_cast<size_t>(frames * data.dims()));
    data.normalisation().denormalise(normalised, features.rows.data(), frames);
    return motion::joints_from_features(features);
}

vq::RvqConfig with_columns(vq::RvqConfig config, int64_t columns) {
    config.net.dim_pose = columns;
    return config;
}

// Of the samples that are as long as a token.
std::vector<size_t> with_tokens(const vq::RvqVae& model, const MotionData& data) {
    std::vector<size_t> samples;
    for (size_t i = 0; i < data.samples().size(); ++i)
        if (data.samples()[i].frames >= model.unit()) samples.push_back(i);
    if (samples.empty())
        throw Error("[vq] no motion of the " + data.split() + " split is as long as a token, of " +
                    std::to_string(model.unit()) + " frames; set a smaller model.down_t");
    return samples;
}

}  // namespace

VqStage::VqStage(const VqStageOptions& options)
    : options_(options),
      train_(with_split(options.data, "train")),
      held_out_(with_split(options.data, "val")),
      init_(options.seed, kInitStream),
      model_(with_columns(options.model, train_.dims()), &init_) {
    // Or what step() and validate() would meet.
    if (options.every_window) {
        index_.emplace(train_.samples(), options.window);
        if (index_->size() < options.batch)
            throw Error("[vq] batch=" + std::to_string(options.batch) + " is more than the " +
                        std::to_string(index_->size()) + " windows there are; set a smaller one");
    }
    train_.draw_longer(0, options.window);
    with_tokens(model_, train_);
    with_tokens(model_, held_out_);
    model_.to(options.device);
}

void VqStage::draw_windows(const Share& share, int64_t window, Generator& generator,
                           float* dst) const {
    const bool varied = options_.speed_change > 0;
    const Tensor u = generator.uniform({share.total, varied ? 3 : 2});
    for (int64_t b = share.begin; b < share.end; ++b) {
        const auto draw = [&](int64_t i) {
            return static_cast<double>(u.data<float>()[b * u.size(1) + i]);
        };
        const size_t sample = train_.draw_longer(draw(0), window);
        const int64_t frames = train_.samples()[sample].frames;
        double speed = 1;
        if (varied)  // as fast as its length allows
            speed = std::min(std::exp((2 * draw(2) - 1) * std::log1p(options_.speed_change)),
                             static_cast<double>(frames - 1) / static_cast<double>(window - 1));
        const int64_t span =
            static_cast<int64_t>(std::ceil(static_cast<double>(window - 1) * speed));
        const int64_t places =
            std::max<int64_t>(1, frames - span);  // rounding may ask for one more
        const int64_t start =
            std::min(places - 1, static_cast<int64_t>(draw(1) * static_cast<double>(places)));
        float* to = dst + (b - share.begin) * window * train_.dims();
        if (varied)
            train_.at_speed(sample, start, window, speed, to);
        else
            train_.normalised(sample, start, window, to);
    }
}

std::vector<motion::WindowIndex::Place> VqStage::windows(int64_t step) {
    constexpr uint64_t kEpochStream = uint64_t{1} << 61;
    const int64_t batches = index_->size() / options_.batch, epoch = step / batches,
                  begin = step % batches * options_.batch;
    if (epoch != epoch_) {
        order_ = Generator(options_.seed, kEpochStream + static_cast<uint64_t>(epoch))
                     .permutation(index_->size());
        epoch_ = epoch;
    }
    std::vector<motion::WindowIndex::Place> places;
    for (int64_t i = begin; i < begin + options_.batch; ++i)
        places.push_back(index_->at(order_[static_cast<size_t>(i)]));
    return places;
}

Metrics VqStage::step(int64_t step, Generator& generator) {
    const int64_t unit = model_.unit();
    int64_t window = options_.window, batch = options_.batch;
    const int64_t shortest = std::max(unit, options_.data.min_frames / unit * unit);
    if (generator.uniform() < options_.short_share && window > shortest) {
        window = shortest + unit * static_cast<int64_t>(generator.below(
                                       static_cast<uint32_t>((window - shortest) / unit)));
        batch = std::max<int64_t>(1, batch * options_.window / window);
    }
    const Share share = ranks().share(batch);
    Tensor motion = Tensor::empty({share.size(), window, train_.dims()});
    if (index_) {
        const auto places = windows(step);
        for (int64_t b = share.begin; b < share.end; ++b)
            train_.normalised(places[static_cast<size_t>(b)].sample,
                              places[static_cast<size_t>(b)].start, window,
                              motion.data<float>() + (b - share.begin) * window * train_.dims());
    } else {
        draw_windows(share, window, generator, motion.data<float>());
    }
    const Var target(motion.to(model_.device()));
    Tape tape;
    Tape::Recording recording(tape);
    GeneratorSource draws(generator);
    Generator own = ranks().own(generator);  // dropout's
    const nn::Pass pass{true, ranks().size() == 1 ? &generator : &own};
    const vq::RvqOutput out = model_.train(target, pass, draws, ranks());
    // Shares may differ by a window.
    const double weight = ranks().weight(share);
    const Var loss = scale(model_.loss(out, target), weight);
    tape.backward(loss);
    // Reading them waits for the GPU: once all of the step's work is under way.
    return {{"loss", loss.value().item<float>()},
            {"commitment", weight * static_cast<double>(out.commitment.value().item<float>())},
            {"perplexity", vq::perplexity(out.code_counts)}};
}

ReconstructionError reconstruction_error(const vq::RvqVae& model, const MotionData& data,
                                         size_t clips) {
    double world = 0, local = 0;
    int64_t counted = 0;
    const std::vector<size_t> samples = with_tokens(model, data);
    const size_t stride = clips == 0 ? 1 : std::max<size_t>(1, samples.size() / clips);
    for (size_t k = 0; k < samples.size(); k += stride) {
        const size_t i = samples[k];
        const int64_t frames = data.samples()[i].frames / model.unit() * model.unit();
        const Tensor motion = data.normalised(i, 0, frames);
        const Tensor again = model.decode(model.encode(motion));
        const motion::JointSequence truth = joints_of(data, motion.data<float>(), frames);
        const motion::JointSequence made = joints_of(data, again.data<float>(), frames);
        for (int64_t t = 0; t < frames; ++t)
            for (int64_t j = 0; j < truth.joints; ++j) {
                double far = 0, near = 0;
                for (int c = 0; c < 3; ++c) {
                    const double d = static_cast<double>(made.at(t, j)[c] - truth.at(t, j)[c]);
                    const double root = static_cast<double>(made.at(t, 0)[c] - truth.at(t, 0)[c]);
                    far += d * d;
                    near += (d - root) * (d - root);
                }
                world += std::sqrt(far);
                local += std::sqrt(near);
                ++counted;
            }
    }
    const double mean =
        motion::skeleton_for_dims(data.dims()).millimetres / static_cast<double>(counted);
    return {mean * local, mean * world};
}

Metrics VqStage::validate() {
    const ReconstructionError error = reconstruction_error(model_, held_out_);
    const ReconstructionError train =
        reconstruction_error(model_, train_, held_out_.samples().size());
    return {{"score", error.mpjpe_mm},
            {"mpjpe_mm", error.mpjpe_mm},
            {"world_mm", error.world_mm},
            {"train_mpjpe_mm", train.mpjpe_mm},
            {"train_world_mm", train.world_mm}};
}

NamedTensors VqStage::extra_state() {
    const nn::TensorMap state = model_.quantizer().training_state();
    return NamedTensors(state.begin(), state.end());
}

void VqStage::load_extra(const NamedTensors& state) {
    model_.quantizer().load_training_state(nn::TensorMap(state.begin(), state.end()));
}

}  // namespace mc::train
