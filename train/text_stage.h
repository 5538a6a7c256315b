// The stage "text": teaches a small CLIP text tower the sentence embeddings of a pretrained
// teacher, so that words which no caption has still mean something to the motion models behind it.
//
//     const TextTeacher teacher = read_text_teacher("text_teacher");
//     TextStage stage(config, teacher, Tokenizer::from_file("vocab.txt.gz"));
//     run_loop(stage, text_loop_options(config, "runs/text"));
//     export_text_encoder("runs/text", config, tokenizer);       //
//     runs/text/text_encoder.safetensors
//
// Loss: mean of 1 - cosine between head(tower(sentence)) and the teacher's embedding, plus
// `similarity_weight` times the Kullback-Leibler divergence between the teacher's and the student's
// in-batch similarities (rows of the cosine matrix without its diagonal, softmax at `temperature`;
// relational distillation as in Park et al. 2019 and Fang et al. 2021). The head is one linear map
// and is thrown away afterwards, so the tower's own embedding has to carry the meaning.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/clip/text_transformer.h"
#include "models/clip/tokenizer.h"
#include "train/config.h"
#include "train/loop.h"
#include "train/text_teacher.h"

namespace mc::train {

// `small`, for two CPU cores, and `clip`, of ViT-B/32's size.
const std::vector<Preset>& text_presets();

struct TextStudent : nn::Module {
    clip::TextTransformer text;
    nn::Linear head;  // embed_dim -> the teacher's width
    TextStudent(const clip::TextConfig& config, int64_t teacher_width, Generator init)
        : text(config, &init), head(config.embed_dim, teacher_width, &init) {
        add("text", text);
        add("head", head);
    }
};

class TextStage : public Stage {
  public:
    // `config` as resolve_config(text_presets(), ...) gives it. The first `motion_sentences` of the
    // teacher are of motions and make up `motion_share` of every batch. `held_out_percent` of both
    // kinds, chosen by a hash of the sentence, are for validation alone. Keeps a reference to
    // `teacher`. Trains on `device`. Throws Error for sizes that make no sense.
    TextStage(const nlohmann::json& config, const TextTeacher& teacher,
              const clip::Tokenizer& tokenizer, DeviceType device = DeviceType::cpu);

    std::string name() const override { return "text"; }
    nn::Module& model() override { return student_; }
    // loss, cosine, divergence; tokens computed and the floating point operations that took.
    Metrics step(int64_t step, Generator& generator) override;
    // On up to 1,000 held-out sentences: cosine (mean), cosine_motion, recall_at_1 (how often the
    // teacher's nearest embedding among them is the sentence's own); score = 1 - cosine.
    Metrics validate() override;

    // Rows of the teacher in the batch of a step, a function of the step alone.
    std::vector<int64_t> batch_rows(int64_t step);
    const std::vector<int64_t>& held_out() const { return held_out_; }
    TextStudent& student() { return student_; }

  private:
    // A kind of sentences, walked in a new order each epoch.
    struct Pool {
        std::vector<int64_t> rows;
        uint64_t seed = 0;
        int64_t epoch = -1;
        std::vector<int64_t> order;  // of `epoch`
        int64_t at(int64_t index);   // the row at a position of the endless walk
    };
    // By length, so that padding costs little.
    std::vector<int64_t> sorted(std::vector<int64_t> rows) const;
    // Embeddings of the student, (rows, E), of unit length.
    Var embed(const std::vector<int64_t>& rows, Metrics* metrics) const;

    TextStudent student_;
    const TextTeacher& teacher_;
    std::vector<std::vector<int32_t>> ids_;  // by row
    Pool motion_, other_;
    std::vector<int64_t> held_out_;
    int64_t batch_, motion_batch_, group_, motion_sentences_;
    double similarity_weight_, temperature_;
    Tensor
        no_self_;  // (batch, batch), added to similarities: a sentence says nothing by being itself
};

// What run_loop needs, from the resolved configuration.
LoopOptions text_loop_options(const nlohmann::json& config, const std::filesystem::path& out);

// Writes the best checkpoint's tower as `run`/text_encoder.safetensors (OpenAI's names, f32;
// metadata: heads, merges, licence, provenance) and beside it the vocabulary, vocab.txt.gz: what
// clip::ClipTextEncoder reads. Returns the path of the first.
std::filesystem::path export_text_encoder(const std::filesystem::path& run,
                                          const nlohmann::json& config,
                                          const clip::Tokenizer& tokenizer);

}  // namespace mc::train
