// PyTorch archives written again with other numbers in them.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "kernels/error.h"
#include "tensor/formats/load_tensors.h"
#include "tensor/formats/pytorch.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;

namespace fs = std::filesystem;

namespace {

std::string refusal(const PyTorchFile& file, const fs::path& out, const NamedTensors& fresh) {
    return mc::testing::error_of([&] { file.write_with(out, fresh); });
}

}  // namespace

TEST_CASE("pytorch rewriter: named tensors change, in their own types, and nothing else") {
    const testing::ScratchDir scratch;
    const fs::path in = scratch.path / "in.pt", out = scratch.path / "out.pt";
    const Tensor w = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}),
                 half = Tensor::from({0.5f, 0.25f}, {2}).to(DType::f16);
    write_pytorch(in, {{"net", NamedTensors{{"w", w}, {"half", half}, {"other", w.clone()}}},
                       {"ep", int64_t{7}},
                       {"name", std::string("kept")}});
    const PyTorchFile file(in);
    file.write_with(out, {{"net.w", Tensor::full({2, 3}, 9)}, {"net.half", Tensor::full({2}, 3)}});
    const TensorFile again = load_tensors(out);
    CHECK(again.values.at("ep").as_int() == 7);
    CHECK(again.values.at("name").as_text() == "kept");
    REQUIRE(again.tensors.size() == 3);
    CHECK(again.tensors[0].second.to_vector<float>() == std::vector<float>(6, 9));
    CHECK(again.tensors[1].second.dtype() == DType::f16);
    CHECK(again.tensors[1].second.to(DType::f32).to_vector<float>() == std::vector<float>(2, 3));
    CHECK(again.tensors[2].second.to_vector<float>() == w.to_vector<float>());

    fs::remove(out);
    CHECK(testing::says(refusal(file, out, {{"net.x", w}}), "has no tensor net.x"));
    CHECK(testing::says(refusal(file, out, {{"net.w", half}}), "net.w is (2, 3), the new one (2)"));
    CHECK(testing::says(refusal(file, out, {{"net.half", Tensor::full({2}, 1e6)}}),
                        "net.half as float16"));
    CHECK_FALSE(fs::exists(out));
}

TEST_CASE("pytorch rewriter: views, and TorchScript's code, of recorded files") {
    const std::string recorded = "reference/checkpoints/";
    if (!testing::have_shared(recorded + "view_of_large_storage.pt")) return;
    const testing::ScratchDir scratch;
    const fs::path folder = testing::shared_dir() / recorded;
    // Every tensor that can be written, written with its own numbers and 1: what shares elements
    // with another is a view of it and changes with it, so each is written alone.
    for (const char* name : {"view_of_large_storage.pt", "scripted_tiny.pt", "zoo_zip.pt"}) {
        CAPTURE(name);
        const PyTorchFile file(folder / name);
        for (const auto& [path, value] : file.tensors()) {
            CAPTURE(path);
            const Tensor before = file.tensor(value);
            if (before.dtype() != DType::f32 || before.numel() == 0) continue;
            if (std::isnan(before.to_vector<float>()[0])) continue;
            Tensor fresh = before.clone();
            float* first = fresh.data<float>();
            first[0] += 1;
            const fs::path out = scratch.path / "out.pt";
            const std::string refused = refusal(file, out, {{path, fresh}});
            if (!refused.empty()) {
                CHECK((testing::says(refused, "is expanded") ||
                       testing::says(refused, "cannot be written")));
                continue;
            }
            const PyTorchFile again(out);
            CHECK(again.kind() == file.kind());
            CHECK(again.zip()->entries().size() == file.zip()->entries().size());
            int64_t changed = 0;
            for (const auto& [other, now] : again.tensors())
                if (other == path) {
                    const std::vector<float> values = again.tensor(now).to_vector<float>();
                    CHECK(values[0] == first[0]);
                    ++changed;
                }
            CHECK(changed == 1);
            for (const ZipEntry& entry : file.zip()->entries())
                if (entry.name.find("/data/") == std::string::npos) {
                    REQUIRE(again.zip()->find(entry.name));
                    CHECK(again.zip()->read(*again.zip()->find(entry.name)) ==
                          file.zip()->read(entry));
                }
        }
    }
    const PyTorchFile legacy(folder / "zoo_legacy.pt");
    CHECK(testing::says(refusal(legacy, scratch.path / "x.pt", {}), "only a little-endian zip"));
}
