#include "train/reference_case.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;

namespace {

// output.x = 0..23 as (4, 6), its [::2, ::3] slice recorded with an error of 0.001; output.y ()
// with a float64 twin; ids.
struct Recording {
    testing::ScratchDir dir;
    std::filesystem::path path = dir.path / "case.safetensors";
    Tensor x = Tensor::empty({4, 6});

    explicit Recording(const std::string& slice = "[0:4:2,0:6:3]") {
        double squares = 0;
        for (int64_t i = 0; i < 24; ++i) {
            x.data<float>()[i] = static_cast<float>(i);
            squares += static_cast<double>(i * i);
        }
        Tensor stats = Tensor::empty({3}, DType::f64), wide = Tensor::full({}, 2.5, DType::f64);
        stats.data<double>()[0] = stats.data<double>()[1] = 276;
        stats.data<double>()[2] = std::sqrt(squares);
        const std::string error = R"("maxabsdiff64": 0.001, "rmsdiff64": 0.0005)";
        write_safetensors(
            path,
            {{"output.x.slice", Tensor::from({0, 3, 12, 15}, {2, 2})},
             {"output.x.stats", stats},
             {"output.y", Tensor::full({}, 2.4)},
             {"output64.y", wide},
             {"output.ids", Tensor::from_ids({1, 2, 3}, {3})}},
            {{"config", R"({"T": 60})"},
             {"info:output.x", R"({"maxabs": 23, "slice": ")" + slice + "\", " + error + "}"},
             {"info:output.y", R"({"maxabs": 2.5, )" + error + "}"}});
    }
};

}  // namespace

TEST_CASE("reference case: values, slices and sums are compared within the allowance") {
    const Recording made;
    const ReferenceCase recorded(made.path);
    CHECK(recorded.config("T") == 60);
    CHECK(recorded.info("output.x", "maxabs") == 23);
    CHECK(recorded.compare("output.x", made.x).fits());
    Tensor near = made.x.clone();
    near.data<float>()[3] += 0.007f;
    CHECK(recorded.compare("output.x", near).fits());
    near.data<float>()[3] += 0.01f;
    const Comparison off = recorded.compare("output.x", near);
    CHECK(!off.fits());
    CHECK(off.worst == "value");
    CHECK(off.gap == doctest::Approx(0.017).epsilon(1e-3));
    Tensor hidden = made.x.clone();  // no element of the slice
    hidden.data<float>()[1] += 1;
    CHECK(recorded.compare("output.x", hidden).worst == "sum");
    hidden.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(!recorded.compare("output.x", hidden).fits());
    CHECK(recorded.compare("output.y", Tensor::full({}, 2.5)).fits());  // the float64 twin counts
    CHECK(!recorded.compare("output.y", Tensor::full({}, 2.4)).fits());
    CHECK(recorded.different("output.ids", Tensor::from_ids({1, 2, 3}, {3})) == 0);
    CHECK(recorded.different("output.ids", Tensor::from_ids({1, 7, 7}, {3})) == 2);
}

TEST_CASE("reference case: what does not fit the recording is an error") {
    const Recording made;
    const ReferenceCase recorded(made.path);
    CHECK_THROWS_WITH_AS(recorded.compare("output.x", Tensor::zeros({24})),
                         doctest::Contains("another rank"), Error);
    CHECK_THROWS_WITH_AS(recorded.compare("output.x", Tensor::zeros({2, 6})),
                         doctest::Contains("has 4 values, ours 2"), Error);
    CHECK_THROWS_AS(recorded.compare("output.z", made.x), Error);
    CHECK_THROWS_AS(recorded.different("output.ids", Tensor::from_ids({1}, {1})), Error);
    for (const char* slice : {"[0:4,0:6:3]", "[0:4:0,0:6:3]", "[0:4:2:1,0:6:3]"}) {
        const Recording broken(slice);
        CAPTURE(slice);
        CHECK_THROWS_WITH_AS(ReferenceCase(broken.path).compare("output.x", made.x),
                             doctest::Contains("is not [a:b:c,...]"), Error);
    }
}
