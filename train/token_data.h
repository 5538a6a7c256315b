// Motions as token ids, encoded once by a trained tokenizer, and the batches of text and tokens
// that MoMask's stages learn from.
//
// Each clip is encoded at its own length (floor to the unit) from each of the first starts
// 0..unit-1 that fit. The reference encodes the crop zero-padded to 196 frames instead, which
// changes every token of a short motion (generators.md, QUIRK Q7) and then decodes generated tokens
// without that padding; `padded_frames` = 196 keeps that behaviour.
//
// `speed_change` s > 0 adds each clip at four other speeds, 1/(1+s) to 1+s in equal ratios, from
// two starts each: the same motion in other tokens, so that a transformer cannot learn the few
// clips there are by heart.
//
// The originals give a third of their draws a token less (generators.md 2.10). `Shorten::crop`,
// MoMask's and BAMM's: the motion is cropped a unit shorter, at any of its starts, and encoded so.
// `Shorten::tokens`, BAD's: the first or the last token of the encoded motion is dropped. A motion
// of one token keeps it, and a shorter one goes at its own speed. One draw of three is shorter,
// however many variants there are.
#pragma once

#include <functional>

#include "models/vq/rvq_vae.h"
#include "tensor/communicator.h"
#include "train/motion_data.h"

namespace mc::train {

enum class Shorten { no, crop, tokens };
Shorten shorten_named(const std::string& name);  // Error: another name

class TokenData {
  public:
    // Error: motions of other columns than the tokenizer's, or one that is shorter than a token.
    TokenData(const MotionData& data, const vq::RvqVae& tokenizer, int64_t padded_frames = 0,
              double speed_change = 0, Shorten shorten = Shorten::no);

    struct Variant {
        int64_t length;            // tokens
        std::vector<int64_t> ids;  // (length, Q)
    };
    // Of a sample's full length and at other speeds, and those a token shorter.
    const std::vector<Variant>& variants(size_t sample) const { return clips_[sample]; }
    const std::vector<Variant>& shorter(size_t sample) const { return shorter_[sample]; }
    // The one that a uniform number chooses.
    const Variant& draw(size_t sample, float u) const;
    int64_t quantizers() const { return quantizers_; }

  private:
    using Variants = std::vector<Variant>;
    // Encodes motions (V, T, dims) as V variants of `length` tokens.
    static void add(const vq::RvqVae& tokenizer, const Tensor& motions, int64_t length,
                    Variants& to);

    std::vector<Variants> clips_, shorter_;  // a sample each
    int64_t quantizers_;
};

struct TokenBatch {
    Tensor ids;                         // (B, n, Q) i64, zeros beyond the lengths
    std::vector<int64_t> lengths;       // (B) tokens
    std::vector<std::string> captions;  // (B)
    std::vector<int64_t> samples;       // (B)
};

// A share of the batch of a step (draw_batch), with one of each clip's variants and captions.
// Captions are drawn for all of the batch, so that they do not depend on the shares.
TokenBatch token_batch(const MotionData& data, const TokenData& tokens,
                       const CaptionSource& captions, const Share& share, uint64_t seed,
                       int64_t step, Generator& generator);

// The whole split, first variant (its own speed) and first caption of each clip, in batches of
// similar length: for validation.
std::vector<TokenBatch> token_batches_of_split(const MotionData& data, const TokenData& tokens,
                                               int64_t batch);

}  // namespace mc::train
