#include "models/motion_edit.h"

#include <doctest/doctest.h>

#include "kernels/error.h"

using namespace mc;

namespace {

motion::FeatureSequence ramp(int64_t frames, float scale, float offset) {
    motion::FeatureSequence f;
    f.frames = frames;
    f.dims = 3;
    for (int64_t t = 0; t < frames; ++t)
        for (int64_t c = 0; c < f.dims; ++c)
            f.rows.push_back(scale * static_cast<float>(t + 10 * c) + offset);
    return f;
}

}  // namespace

TEST_CASE("motion edit: a token is made anew if one of its frames is") {
    const MotionEdit edit{ramp(23, 1, 0), {{3, 4}, {9, 13}}};
    CHECK(edited_tokens(edit, 4) == std::vector<bool>{true, false, true, true, false});
}

TEST_CASE("motion edit: kept rows keep their bits, and what was made meets them") {
    const MotionEdit edit{ramp(30, 1, 0), {{0, 4}, {10, 22}}};
    const motion::FeatureSequence made = ramp(28, 1, 0.5f);  // the source, shifted
    const motion::FeatureSequence out = splice(edit, made);
    REQUIRE(out.frames == 30);
    for (int64_t t = 0; t < 30; ++t) {
        const bool edited = t < 4 || (t >= 10 && t < 22);
        for (int64_t c = 0; c < 3; ++c) {
            if (!edited)
                CHECK(out.at(t)[c] == edit.source.at(t)[c]);
            else  // between the source and what was made
                CHECK((out.at(t)[c] - edit.source.at(t)[c] >= 0 &&
                       out.at(t)[c] - edit.source.at(t)[c] <= 0.5f));
        }
    }
    CHECK(out.at(10)[0] - edit.source.at(10)[0] < 0.1f);  // at a seam: the source's
    CHECK(out.at(21)[0] - edit.source.at(21)[0] < 0.1f);
    CHECK(out.at(0)[0] - edit.source.at(0)[0] > 0.2f);  // no seam at the beginning
    for (int64_t t = 0; t < 6; ++t)                     // the same from either seam
        CHECK(out.at(10 + t)[0] - edit.source.at(10 + t)[0] ==
              doctest::Approx(out.at(21 - t)[0] - edit.source.at(21 - t)[0]).epsilon(1e-4));
}

TEST_CASE("motion edit: after the last frame that was made there is no seam") {
    // 30 frames are 7 tokens, 28 frames: the two after them are the source's.
    const MotionEdit edit{ramp(30, 1, 0), {{16, 28}}};
    const motion::FeatureSequence out = splice(edit, ramp(28, 1, 0.5f));
    CHECK(out.at(27)[0] == 27.5f);
    for (int64_t t : {15, 28, 29}) CHECK(out.at(t)[0] == static_cast<float>(t));
}

TEST_CASE("motion edit: impossible edits are refused") {
    const auto refused = [](const MotionEdit& edit) {
        CHECK_THROWS_AS(check_edit(edit, 4, 6), Error);
    };
    CHECK_NOTHROW(check_edit({ramp(27, 1, 0), {{0, 24}}}, 4, 6));
    refused({ramp(28, 1, 0), {{0, 4}}});   // too long
    refused({ramp(3, 1, 0), {{0, 3}}});    // not a token
    refused({ramp(23, 1, 0), {}});         // nothing to do
    refused({ramp(23, 1, 0), {{4, 4}}});   // empty
    refused({ramp(23, 1, 0), {{-1, 4}}});  // before
    refused({ramp(23, 1, 0), {{4, 21}}});  // in the frames beyond the last token
}
