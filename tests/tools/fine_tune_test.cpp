// A bundle is what training goes on from, as whoever has no runs would do it: stages begun from its
// weights, on its tokens, and another bundle of them.
#include <doctest/doctest.h>

#include <filesystem>

#include "models/bundle.h"
#include "motion/statistics.h"
#include "tests/public_checkpoints.h"
#include "tests/tools/pipeline.h"

namespace fs = std::filesystem;
using namespace mc::testing;

namespace {

// The data set of the pipeline with other statistics: other motions of the same kind.
std::string other_data(const Pipeline& p) {
    const std::string data = p.dir + "/other_data";
    fs::copy(p.data, data, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    mc::motion::Normalisation n =
        mc::motion::read_normalisation(data + "/Mean.npy", data + "/Std.npy");
    for (double& std : n.std) std *= 2;
    mc::motion::write_normalisation(n, data + "/Mean.npy", data + "/Std.npy");
    return data;
}

}  // namespace

TEST_CASE("programs: a bundle's stages are trained further, on other data too") {
    Pipeline& p = pipeline();
    const std::string data = other_data(p), set = " --set steps=2 batch=4 validate_every=2";
    const std::string on = " --quiet --data " + data + p.text, from = " --start " + p.bundle;
    // The model's settings are the bundle's: the preset's would be of other sizes.
    must("train", "masked --out " + p.dir + "/tuned_masked --vq " + p.bundle + on + from + set);
    must("train", "residual --out " + p.dir + "/tuned_residual --vq " + p.bundle + on + from + set);
    must("train", "length --out " + p.dir + "/tuned_length --vq " + p.bundle + on + from + set);
    must("train", "bundle --from " + p.bundle + " --masked " + p.dir + "/tuned_masked --residual " +
                      p.dir + "/tuned_residual --length " + p.dir + "/tuned_length --out " + p.dir +
                      "/tuned --provenance \"and more\"");
    const mc::BundleParts before = mc::read_bundle_parts(p.bundle),
                          after = mc::read_bundle_parts(p.dir + "/tuned");
    CHECK(after.provenance == "made-up; then and more");
    CHECK(after.mean == before.mean);
    CHECK(after.std == before.std);
    CHECK(after.base == before.base);
    CHECK(after.defaults.candidates == 2);
    CHECK(after.motion_weights.size() == before.motion_weights.size());
    must("generate", "\"a person waves\" --length 3 --format npy --bundle " + p.dir +
                         "/tuned --out " + p.dir + "/tuned_out");

    // A tokenizer goes on with the normalisation that it learned with, and so do those on it.
    must("train",
         "vq --out " + p.dir + "/tuned_vq --quiet --data " + data + from + set + " window=32");
    must("train",
         "masked --out " + p.dir + "/on_tuned --vq " + p.dir + "/tuned_vq" + on + from + set);
    const std::string again = "bundle --from " + p.bundle + " --provenance x --vq " + p.dir +
                              "/tuned_vq --out " + p.dir + "/tuned_all --masked " + p.dir;
    refuses("train", again + "/tuned_masked", 1,
            "/tuned_masked: was trained on the tokens of another tokenizer than ");
    refuses("train", again + "/on_tuned", 1,
            "/bundle: its residual transformer was trained on its own tokens, not on those of ");
    must("train", "residual --out " + p.dir + "/on_tuned_residual --vq " + p.dir + "/tuned_vq" +
                      on + from + set);
    must("train", again + "/on_tuned --residual " + p.dir + "/on_tuned_residual --steps 3");
    const mc::BundleParts all = mc::read_bundle_parts(p.dir + "/tuned_all");
    CHECK(all.std == before.std);
    CHECK(all.defaults.steps == 3);

    refuses(
        "train", "bamm --out " + p.dir + "/none --vq " + p.bundle + on + from, 1,
        "/bundle: is a bundle of momask and has no bamm; name another, or a run of `train bamm`");
    refuses("train", "masked --out " + p.dir + "/none --vq " + p.dir + "/masked" + on, 1,
            "is a checkpoint of stage masked, want vq");
    CHECK_FALSE(fs::exists(p.dir + "/none/latest.safetensors"));
}

TEST_CASE("programs: public checkpoints go on from a bundle of theirs, with another text encoder") {
    Pipeline& p = pipeline();
    const std::string dir = p.dir + "/public/";
    fs::create_directories(dir);
    const PublicText text(dir);
    write_public_momask(dir + "momask");
    write_public_bamm(dir + "bamm");
    write_public_bad(dir + "bad");
    const std::string vocab = " --vocab " + text.vocabulary.string();
    for (const std::string name : {"momask", "bamm", "bad"}) {
        CAPTURE(name);
        const std::string bundle = dir + "bundle_" + name,
                          stage = name == "momask" ? "masked" : name;
        must("convert", "bundle " + dir + name + " --dtype f32 --generator " + name + " --out " +
                            bundle + " --text-encoder " + text.weights.string() + vocab);
        must("train", stage + " --quiet --preset humanml3d --data " + p.data + " --text " +
                          text.weights.string() + vocab + " --vq " + bundle + " --start " + bundle +
                          " --out " + dir + name + "_run --set steps=1 batch=2 min_frames=12");
        must("train", "bundle --from " + bundle + " --" + stage + " " + dir + name +
                          "_run --provenance tuned --out " + dir + "tuned_" + name);
        const mc::BundleParts before = mc::read_bundle_parts(bundle),
                              after = mc::read_bundle_parts(dir + "tuned_" + name);
        CHECK(after.dtype == mc::DType::f32);
        CHECK(after.base_weights.size() == before.base_weights.size());
        CHECK(after.residual_weights.size() == before.residual_weights.size());
        CHECK(after.mean == before.mean);
    }
}
