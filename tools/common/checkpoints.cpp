#include "tools/common/checkpoints.h"

#include "models/config_json.h"
#include "train/loop.h"

namespace mc::tools {

namespace fs = std::filesystem;

fs::path checkpoint_of(const std::string& run) {
    if (!fs::is_directory(run)) return run;
    const train::RunFolder folder(run);
    return fs::exists(folder.best()) ? folder.best() : folder.latest();
}

std::unique_ptr<vq::RvqVae> load_tokenizer(const std::string& run) {
    const fs::path path = checkpoint_of(run);
    const train::Checkpoint saved = train::load_checkpoint(path, "vq");
    auto model =
        std::make_unique<vq::RvqVae>(rvq_config(saved.config.at("model"), path.string()), nullptr);
    model->load(train::checkpoint_model(saved), {{}, path.string()});
    model->set_requires_grad(false);
    return model;
}

}  // namespace mc::tools
