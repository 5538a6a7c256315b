// The loop of every stage: batch, forward, loss, backward, clip, step, log; validate, keep the
// best, save, resume.
//
// Every draw of step s comes from the generator (seed, stream s * 2^32 ...), and a step's batch is
// a function of the step alone, so a run that is killed anywhere and resumed from its last
// checkpoint ends in the same bits. With several processes see NOTE [ Several processes ] in
// train/data_parallel.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/communicator.h"
#include "train/adamw.h"
#include "train/checkpoint.h"

namespace mc::train {

// Streams from here on initialise models; those of steps lie below.
inline constexpr uint64_t kInitStream = uint64_t{1} << 62;

using Metrics = std::map<std::string, double>;

class Stage {
  public:
    virtual ~Stage() = default;
    virtual std::string name() const = 0;  // "vq", "masked", ...: what its checkpoints are called
    virtual nn::Module& model() = 0;
    // Forward and backward of one step: gradients are left in the parameters; the metrics have a
    // "loss". Of several ranks: of this rank's share of the batch, so that the means over the ranks
    // are the batch's.
    virtual Metrics step(int64_t step, Generator& generator) = 0;
    // On held-out data, the same each time; has a "score", lower is better. Empty: this stage has
    // no validation.
    virtual Metrics validate() = 0;
    // Called before step `step`, for what changes on the way (freezing, phases). May replace the
    // optimiser.
    virtual void prepare(int64_t step, AdamW& optimizer) {
        (void)step;
        (void)optimizer;
    }
    // Called once after another run's weights were loaded to begin from (fine-tuning).
    virtual void weights_loaded() {}
    // What is wrong with the data that it was made with, and was left out.
    virtual std::vector<std::string> warnings() const { return {}; }
    // What the stage keeps beside weights and moments.
    virtual NamedTensors extra_state() { return {}; }
    virtual void load_extra(const NamedTensors& state) { (void)state; }

    // Who trains; before run_loop, and alive as long as the stage.
    void set_ranks(Communicator& ranks) { ranks_ = &ranks; }
    Communicator& ranks() const { return *ranks_; }

  private:
    Communicator* ranks_ = &single_process();
};

struct LoopOptions {
    std::filesystem::path out;                         // run folder
    bool resume = false;                               // go on from latest.safetensors
    nlohmann::json config = nlohmann::json::object();  // stored in every checkpoint
    uint64_t seed = 3407;
    int64_t steps = 1000;
    int64_t validate_every = 500;
    int64_t save_every = 500;
    int64_t log_every = 50;
    double clip_norm = 0;  // 0: no clipping
    AdamWOptions adamw;
    std::function<double(int64_t step)> rate;  // learning rate of step 0, 1, ...
    bool quiet = false;                        // no progress on stderr
};

struct LoopResult {
    int64_t steps = 0;      // done in all
    bool finished = false;  // false: interrupted, saved, to be resumed
    int signal = 0;         // the one that this process was interrupted by
    Metrics train;          // the last ones
    // The last ones and the best score, on rank 0 alone.
    Metrics validation;
    double best = 0;
};

// What run_loop would find only once a stage is made, which can take a minute. Error if the folder
// cannot be made or written into, if a run is there that is not to be resumed or cannot be, or that
// another process trains (RunClaim), or if the batch does not divide among the processes. The
// folder is made by run_loop, so that data which cannot be read leave none behind.
void check_run(const std::filesystem::path& out, bool resume, const nlohmann::json& config,
               const Communicator& ranks);

LoopResult run_loop(Stage& stage, const LoopOptions& options);

// The model's tensors of a checkpoint of this stage, as a state to load.
nn::TensorMap checkpoint_model(const Checkpoint& checkpoint);

}  // namespace mc::train
