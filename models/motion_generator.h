// Prompts and lengths to motion features: the one interface of MoMask and its kin.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/dtype.h"
#include "motion/joints.h"

namespace mc {

struct GenerationOptions {
    int64_t steps = 10;   // refinement steps of the masked transformer
    double guidance = 4;  // classifier-free guidance of the base layer; 1 switches it off
    double residual_guidance = 5;
    double temperature = 1;
    double top_k = 0.9;   // fraction of classes dropped before sampling (generators.md 2.5)
    bool gumbel = false;  // argmax over Gumbel-perturbed logits instead of a categorical draw
    // BAD alone: tokens are made in a random order (OAAS) instead of the surest first (CBS).
    bool order_agnostic = false;
    // Motions to make of each request, of which the one that fits the words best is kept; more than
    // 1 for generators that can_choose() alone.
    int64_t candidates = 1;
    // Of products with weights (autograd/inference.h): f32 or bf16, on the CPU also int16, on a GPU
    // f16. The text's stay f32: a prompt passes its encoder once, and packing those weights would
    // take longer than the products and more memory than all else.
    Precision precision = Precision::f32;
    uint64_t seed = 10107;
};

// A motion of which some frames are to be made anew, to fit the prompt and the frames around them.
struct MotionEdit {
    motion::FeatureSequence source;
    std::vector<std::pair<int64_t, int64_t>> ranges;  // frames [from, to)
};

struct GenerationRequest {
    std::string prompt;
    std::optional<int64_t>
        frames;  // a multiple of 4 is used (floor); none: the length estimator decides
    std::optional<MotionEdit> edit =
        {};  // then the length is the source's; other rows keep their bits
};

using StageSeconds = std::vector<std::pair<std::string, double>>;  // by stage, in order

class MotionGenerator {
  public:
    virtual ~MotionGenerator() = default;
    // The device that computes; at first the CPU, where motions come back to.
    virtual void to(DeviceType device) = 0;
    // No prompts but these will be asked for: their text is encoded now, and if that saves memory,
    // the text encoder is freed.
    virtual void keep_only(const std::vector<std::string>&) {}
    // One motion a request. Deterministic in (requests, options), whatever the number of threads,
    // and, but for the last bits of logits where a matrix product has 8 rows or fewer (other orders
    // of a sum on the CPU; no drawn token is known to have changed), whatever was asked for before.
    virtual std::vector<motion::FeatureSequence> generate(
        const std::vector<GenerationRequest>& requests, const GenerationOptions& options) = 0;
    // What the last generate() spent on each stage, in order.
    virtual const StageSeconds& stage_seconds() const = 0;
    // What the last generate() had to change in its prompts, a line each: those that are too long.
    virtual const std::vector<std::string>& warnings() const = 0;
    virtual double fps() const = 0;
    virtual int64_t dims() const = 0;  // columns of its motions: 263, or KIT's 251
    virtual int64_t unit() const = 0;  // lengths are multiples of so many frames
    virtual int64_t max_frames() const = 0;
    // Whether it judges its own motions (best_of.h).
    virtual bool can_choose() const { return false; }
    // How well the last generate()'s motions fit their words, one a request, in -1..1; empty where
    // it cannot tell.
    virtual const std::vector<double>& scores() const {
        static const std::vector<double> none;
        return none;
    }
};

}  // namespace mc
