#include "train/text_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/clip/clip_text_encoder.h"
#include "models/clip/merge_file.h"
#include "tensor/formats/safetensors.h"
#include "train/schedule.h"

namespace mc::train {
namespace {

using Json = nlohmann::json;

constexpr size_t kValidated = 1000;   // sentences
constexpr size_t kScoredGroup = 128;  // sentences a pass of the validation
constexpr double kMasked = -1e4;      // a logit that softmax makes zero

constexpr const char* kLicence =
    "MIT, as the project; learned from embeddings by all-MiniLM-L6-v2 (Apache-2.0) of CC0 motion "
    "captions and of WordNet 3 glosses and examples (WordNet licence)";
constexpr const char* kProvenance =
    "trained from scratch by `train text` of this project against sentence embeddings of "
    "all-MiniLM-L6-v2; no other pretrained weight was used";

// FNV-1a, then SplitMix64's finaliser: whether a sentence is held out does not depend on where it
// stands.
uint64_t hash_of(const std::string& text) {
    uint64_t z = 0xcbf29ce484222325ull;
    for (const unsigned char c : text) z = (z ^ c) * 0x100000001b3ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

clip::TextConfig model_config(const Json& config, int64_t vocab) {
    const Json& model = config.at("model");
    clip::TextConfig c;
    c.vocab = vocab;
    c.context = model.at("context");
    c.width = model.at("width");
    c.heads = model.at("heads");
    c.layers = model.at("layers");
    c.embed_dim = model.at("embed_dim");
    const auto want = [](bool good, const std::string& what) {
        if (!good) throw Error("[text] " + what);
    };
    want(c.context >= 2 && c.width >= 1 && c.layers >= 1 && c.embed_dim >= 1,
         "model.context must be at least 2, width, layers and embed_dim at least 1");
    want(c.heads >= 1 && c.width % c.heads == 0,
         fmt::format("model.heads={} does not divide model.width={}", c.heads, c.width));
    return c;
}

// The initialisation draws from streams that no step uses: those of step 2^31 - 1.
Generator init_generator(const Json& config) {
    return Generator(config.at("seed").get<uint64_t>(), uint64_t{0x7fffffff} << 32);
}

// Operations of the matrix products with weights, forward and backward: 6 a weight that a token
// meets, and the last block's MLP and what follows once a sentence. Attention's own products, below
// 2% at these lengths, are left out.
double operations(const clip::TextConfig& c, int64_t head_width, int64_t tokens, int64_t rows) {
    const int64_t square = c.width * c.width;
    const int64_t token = ((c.layers - 1) * 12 + 4) * square;
    const int64_t row = 8 * square + c.embed_dim * (c.width + head_width);
    return 6.0 * static_cast<double>(tokens * token + rows * row);
}

// Each `hands`-th of the rows after another: hand h has rows h, h + hands, ...
std::vector<int64_t> dealt(const std::vector<int64_t>& rows, int hands) {
    const auto step = static_cast<size_t>(hands);
    std::vector<int64_t> out;
    for (size_t hand = 0; hand < step; ++hand)
        for (size_t i = hand; i < rows.size(); i += step) out.push_back(rows[i]);
    return out;
}

Tensor diagonal(int64_t n, double value) {
    Tensor out = Tensor::zeros({n, n});
    for (int64_t i = 0; i < n; ++i) out.data<float>()[i * n + i] = static_cast<float>(value);
    return out;
}

}  // namespace

const std::vector<Preset>& text_presets() {
    static const std::vector<Preset> presets = [] {
        const Json small = {
            {"model",
             {{"width", 256}, {"layers", 4}, {"heads", 4}, {"embed_dim", 256}, {"context", 77}}},
            {"batch", 128},               // sentences a step
            {"group", 32},                // sentences that are padded to the same length
            {"motion_share", 0.5},        // of every batch
            {"motion_sentences", 13038},  // how many of the first sentences are of motions
            {"held_out_percent", 2},
            {"similarity_weight", 1.0},
            {"temperature", 0.1},
            {"lr", 1.5e-3},
            {"lr_floor", 1e-5},
            {"warm_up", 100},
            {"steps", 6000},
            {"weight_decay", 0.01},
            {"clip_norm", 1.0},
            {"seed", 3407},
            {"validate_every", 250},
            {"save_every", 125},
            {"log_every", 25},
        };
        Json clip = small;
        clip["model"] = {
            {"width", 512}, {"layers", 12}, {"heads", 8}, {"embed_dim", 512}, {"context", 77}};
        clip["batch"] = 512;
        clip["group"] = 64;
        clip["lr"] = 5e-4;
        clip["warm_up"] = 1000;
        clip["steps"] = 40000;
        clip["validate_every"] = 1000;
        clip["save_every"] = 500;
        return std::vector<Preset>{
            {"small", "width 256, 4 layers: three quarters of an hour on a CPU core", small},
            {"clip", "the size of CLIP ViT-B/32's text tower; for a machine with many cores", clip},
        };
    }();
    return presets;
}

int64_t TextStage::Pool::at(int64_t index) {
    const auto count = static_cast<int64_t>(rows.size());
    if (index / count != epoch) {
        epoch = index / count;
        order = Generator(seed, static_cast<uint64_t>(epoch)).permutation(count);
    }
    return rows[static_cast<size_t>(order[static_cast<size_t>(index % count)])];
}

TextStage::TextStage(const Json& config, const TextTeacher& teacher,
                     const clip::Tokenizer& tokenizer, DeviceType device)
    : student_(model_config(config, tokenizer.vocab_size()), teacher.width, init_generator(config)),
      teacher_(teacher),
      batch_(config.at("batch")),
      motion_batch_(
          std::llround(config.at("motion_share").get<double>() * static_cast<double>(batch_))),
      group_(config.at("group")),
      motion_sentences_(std::min(config.at("motion_sentences").get<int64_t>(), teacher.size())),
      similarity_weight_(config.at("similarity_weight")),
      temperature_(config.at("temperature")) {
    const auto held_out_percent = config.at("held_out_percent").get<int64_t>();
    if (batch_ < 2) throw Error("[text] batch=1: want a batch of at least 2");
    if (!(temperature_ > 0)) throw Error("[text] temperature must be above 0");
    student_.to(device);
    no_self_ = diagonal(batch_, kMasked).to(device);

    const auto context = student_.text.config().context;
    std::vector<int64_t> held_motion, held_other;
    ids_.reserve(static_cast<size_t>(teacher.size()));
    for (int64_t row = 0; row < teacher.size(); ++row) {
        const std::string& sentence = teacher.sentences[static_cast<size_t>(row)];
        ids_.push_back(clip::framed_ids(tokenizer, sentence, context));
        const bool held = hash_of(sentence) % 100 < static_cast<uint64_t>(held_out_percent);
        const bool motion = row < motion_sentences_;
        (held ? (motion ? held_motion : held_other) : (motion ? motion_.rows : other_.rows))
            .push_back(row);
    }
    if (motion_.rows.empty()) motion_batch_ = 0;
    if (other_.rows.empty()) motion_batch_ = batch_;
    if (motion_.rows.empty() && other_.rows.empty())
        throw Error("[text] every sentence is held out; give the teacher more sentences");
    // At most half of the validation are motions, if there are enough of the others.
    const size_t motions =
        std::min(held_motion.size(),
                 std::max(kValidated / 2, kValidated - std::min(kValidated, held_other.size())));
    held_motion.resize(motions);
    held_other.resize(std::min(held_other.size(), kValidated - motions));
    held_out_ = held_motion;
    held_out_.insert(held_out_.end(), held_other.begin(), held_other.end());

    const auto seed = config.at("seed").get<uint64_t>();
    motion_.seed = hash_of(fmt::format("{} motion", seed));
    other_.seed = hash_of(fmt::format("{} other", seed));
}

std::vector<int64_t> TextStage::batch_rows(int64_t step) {
    std::vector<int64_t> rows;
    const int64_t others = batch_ - motion_batch_;
    for (int64_t i = 0; i < motion_batch_; ++i)
        rows.push_back(motion_.at(step * motion_batch_ + i));
    for (int64_t i = 0; i < others; ++i) rows.push_back(other_.at(step * others + i));
    return rows;
}

std::vector<int64_t> TextStage::sorted(std::vector<int64_t> rows) const {
    const auto length = [&](int64_t row) { return ids_[static_cast<size_t>(row)].size(); };
    std::stable_sort(rows.begin(), rows.end(),
                     [&](int64_t a, int64_t b) { return length(a) < length(b); });
    return rows;
}

Var TextStage::embed(const std::vector<int64_t>& rows, Metrics* metrics) const {
    const auto ids_of = [&](int64_t row) { return &ids_[static_cast<size_t>(row)]; };
    const size_t group = metrics ? static_cast<size_t>(group_) : kScoredGroup;
    std::vector<Var> parts;
    int64_t tokens = 0;
    for (size_t begin = 0; begin < rows.size(); begin += group) {
        std::vector<const std::vector<int32_t>*> batch;
        for (size_t i = begin; i < std::min(rows.size(), begin + group); ++i)
            batch.push_back(ids_of(rows[i]));
        const Tensor ids = clip::padded_ids(batch);
        tokens += ids.numel();
        parts.push_back(student_.text(ids));
    }
    if (metrics) {
        (*metrics)["tokens"] = static_cast<double>(tokens);
        (*metrics)["gflop"] = 1e-9 * operations(student_.text.config(), teacher_.width, tokens,
                                                static_cast<int64_t>(rows.size()));
    }
    return l2_normalize(student_.head(parts.size() == 1 ? parts[0] : concat(parts, 0)));
}

Metrics TextStage::step(int64_t step, Generator&) {
    Metrics metrics;
    const Share share = ranks().share(batch_);
    // Dealt out by length, so that each rank has short ones and long ones.
    const std::vector<int64_t> rows = dealt(sorted(batch_rows(step)), ranks().size());
    Tape tape;
    const Tape::Recording recording(tape);
    // A sentence's similarities are to all of the batch.
    const Var mine =
        all_gather(embed({rows.begin() + share.begin, rows.begin() + share.end}, &metrics), share,
                   ranks());                                            // (B, E)
    const Var theirs(teacher_.embeddings(rows).to(student_.device()));  // (B, E)
    const Var cosine = mean(sum(mine * theirs, 1, false));              // ()
    const auto logits = [&](const Var& z) {                             // (B, B)
        return scale(matmul(z, z, false, true), 1 / temperature_) + Var(no_self_);
    };
    const Var wanted_log = log_softmax(logits(theirs));
    const Var wanted = exp(wanted_log);
    const Var divergence = scale(sum(wanted * (wanted_log - log_softmax(logits(mine)))),
                                 1.0 / static_cast<double>(batch_));
    const Var loss = affine(cosine, -1, 1) + scale(divergence, similarity_weight_);
    tape.backward(loss);
    metrics["loss"] = loss.value().item<float>();  // after all work is on its way to the device
    metrics["cosine"] = cosine.value().item<float>();
    metrics["divergence"] = divergence.value().item<float>();
    for (const char* of_all : {"tokens", "gflop"}) metrics[of_all] *= ranks().size();
    return metrics;
}

Metrics TextStage::validate() {
    if (held_out_.empty()) return {};
    const Tape::Pause no_tape;
    const std::vector<int64_t> rows = sorted(held_out_);
    const Var mine = embed(rows, nullptr);                                                // (N, E)
    const Var theirs(teacher_.embeddings(rows).to(student_.device()));                    // (N, E)
    const Tensor cosines = matmul(mine, theirs, false, true).value().cpu().contiguous();  // (N, N)
    const auto n = static_cast<int64_t>(rows.size());
    double all = 0, motion = 0;
    int64_t motions = 0, found = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float* row = cosines.data<float>() + i * n;
        all += row[i];
        if (rows[static_cast<size_t>(i)] < motion_sentences_) {
            motion += row[i];
            ++motions;
        }
        if (std::max_element(row, row + n) - row == i) ++found;
    }
    const auto count = static_cast<double>(n);
    Metrics metrics = {{"cosine", all / count},
                       {"recall_at_1", static_cast<double>(found) / count},
                       {"score", 1 - all / count}};
    if (motions) metrics["cosine_motion"] = motion / static_cast<double>(motions);
    return metrics;
}

LoopOptions text_loop_options(const Json& config, const std::filesystem::path& out) {
    LoopOptions options;
    options.out = out;
    options.config = config;
    options.seed = config.at("seed");
    options.steps = config.at("steps");
    options.validate_every = config.at("validate_every");
    options.save_every = config.at("save_every");
    options.log_every = config.at("log_every");
    options.clip_norm = config.at("clip_norm");
    options.adamw.beta2 = 0.98;  // CLIP's (Radford et al. 2021, table 19)
    options.adamw.weight_decay = config.at("weight_decay");
    const WarmUpCosine schedule{config.at("lr"), config.at("warm_up"), options.steps,
                                config.at("lr_floor")};
    options.rate = [schedule](int64_t step) { return schedule.rate(step); };
    return options;
}

std::filesystem::path export_text_encoder(const std::filesystem::path& run, const Json& config,
                                          const clip::Tokenizer& tokenizer) {
    const std::filesystem::path best = RunFolder(run).best();
    const Checkpoint checkpoint = load_checkpoint(best, "text");
    NamedTensors tower;
    const std::string prefix = "text.";
    for (const auto& [name, tensor] : checkpoint_model(checkpoint))
        if (name.starts_with(prefix)) tower.emplace_back(name.substr(prefix.size()), tensor);
    if (tower.empty())
        throw Error(fmt::format("{}: has no text tower; train the text stage anew", best.string()));
    StringMap metadata = {
        {"format", "pt"},
        {"kind", "clip-text-encoder"},
        {"heads", std::to_string(config.at("model").at("heads").get<int64_t>())},
        {"merges", std::to_string(tokenizer.vocab_size() - 514)},
        {"step", std::to_string(checkpoint.step)},
        {"licence", kLicence},
        {"provenance", kProvenance},
    };
    if (checkpoint.best_metric)
        metadata["held_out_cosine"] = fmt::format("{:.4f}", 1 - *checkpoint.best_metric);
    const std::filesystem::path out = run / "text_encoder.safetensors";
    clip::write_maybe_gzip((run / "vocab.txt.gz").string(), tokenizer.merges_text());
    write_safetensors(out, tower, metadata);
    return out;
}

}  // namespace mc::train
