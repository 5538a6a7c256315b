// Public checkpoints as generators and as parts of a bundle: which importer, and what of its parts
// goes where.
#include "models/bad/public_layout.h"
#include "models/bamm/public_layout.h"
#include "models/bundle.h"
#include "models/clip/clip_text_encoder.h"
#include "models/config_json.h"
#include "models/momask/public_layout.h"
#include "motion/skeleton.h"

namespace mc {
namespace {

template <class Generator, class Parts>
std::unique_ptr<MotionGenerator> generator_of(Parts parts, const TextChoice& text) {
    parts.text = std::make_shared<clip::ClipTextEncoder>(text.weights, text.vocabulary);
    return std::make_unique<Generator>(std::move(parts));
}

// The originals' options: MoMask's and BAMM's commands for KIT, known by its rate, have a lower
// guidance. BAD's for KIT are not known here and begin with the same.
GenerationOptions original_options(double fps) {
    constexpr double kKitGuidance = 2;
    GenerationOptions options;
    if (fps == motion::kit_skeleton().fps) options.guidance = kKitGuidance;
    return options;
}

// Of all three.
template <class Parts>
void add_common(BundleParts& out, Parts& parts) {
    out.vq = to_json(parts.tokenizer->config());
    out.vq_weights = parts.tokenizer->state();
    out.mean = parts.normalisation.mean;
    out.std = parts.normalisation.std;
    out.fps = parts.fps;
    out.defaults = original_options(parts.fps);
}

void add_residual(BundleParts& out, momask::ResidualTransformer& residual) {
    out.residual = to_json(residual.config());
    out.residual_weights = residual.state();
}

void add_length(BundleParts& out, momask::LengthEstimator* length) {
    if (!length) return;
    out.length_weights = length->state();
    out.length = {{"text_dim", out.length_weights.at("output.0.weight").size(1)},
                  {"classes", out.length_weights.at("output.11.weight").size(0)}};
}

}  // namespace

Bundle load_public_checkpoints(const PublicLayout& layout, const TextChoice& text) {
    Bundle bundle;
    bundle.info = {{"generator", layout.generator}, {"source", layout.checkpoints.string()}};
    if (layout.generator == "bamm")
        bundle.generator = generator_of<bamm::BammGenerator>(bamm::load_public_bamm(layout), text);
    else if (layout.generator == "bad")
        bundle.generator = generator_of<bad::BadGenerator>(bad::load_public_bad(layout), text);
    else
        bundle.generator =
            generator_of<momask::MoMaskGenerator>(momask::load_public_momask(layout), text);
    bundle.defaults = original_options(bundle.generator->fps());
    return bundle;
}

BundleParts public_bundle_parts(const PublicLayout& layout, const TextChoice& text) {
    BundleParts out;
    out.generator = layout.generator;
    out.text_encoder = text.weights;
    out.vocabulary = text.vocabulary;
    if (layout.generator == "bamm") {
        bamm::Parts parts = bamm::load_public_bamm(layout);
        add_common(out, parts);
        out.base = to_json(parts.base->config());
        out.base_weights = parts.base->state();
        add_residual(out, *parts.residual);
    } else if (layout.generator == "bad") {
        bad::Parts parts = bad::load_public_bad(layout);
        add_common(out, parts);
        out.base = to_json(parts.transformer->config());
        out.base_weights = parts.transformer->state();
        add_length(out, parts.length.get());
    } else {
        momask::Parts parts = momask::load_public_momask(layout);
        add_common(out, parts);
        out.base = to_json(parts.masked->config());
        out.base_weights = parts.masked->state();
        add_residual(out, *parts.residual);
        add_length(out, parts.length.get());
    }
    return out;
}

}  // namespace mc
