// Training started by mpirun, with the built programs: two processes against one.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/run_program.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"

using namespace mc::testing;
namespace fs = std::filesystem;

namespace {

const std::string kBin = std::string(MOCLIP_BINARY_DIR) + "/bin/";
const std::string kMpirun = "mpirun -n 2 --oversubscribe --allow-run-as-root ";

bool have_mpi() {
    if (run_command("command -v mpirun").status == 0 &&
        fs::exists(fs::path(MOCLIP_BINARY_DIR) / "lib/libmoclip_mpi.so"))
        return true;
    MESSAGE("SKIPPED: no mpirun, or built without MPI; tools/setup.sh installs it");
    return false;
}

struct Run {
    ScratchDir scratch;
    std::string dir = scratch.path.string();
    Run() {
        write_synthetic_mocap(scratch.path / "mocap", 40, 60);
        const Outcome built =
            run_program("motion", "dataset build --mocap " + dir + "/mocap --out " + dir + "/data");
        REQUIRE_MESSAGE(built.status == 0, built.text);
    }
    // `train vq` into the folder of that name.
    std::string vq(const std::string& name, const std::string& settings = "") const {
        return kBin + "train vq --quiet --threads 1 --data " + dir + "/data --out " + dir + "/" +
               name +
               " --set steps=60 batch=8 window=32 validate_every=50 save_every=10 log_every=1 "
               "model.width=32 model.code_dim=16 model.depth=1 model.nb_code=16 "
               "model.num_quantizers=3 model.dropout=0 " +
               settings;
    }
    std::vector<double> losses(const std::string& name) const {
        std::vector<double> all;
        std::ifstream log(scratch.path / name / "log.jsonl");
        for (std::string line; std::getline(log, line);) {
            const auto record = nlohmann::json::parse(line);
            if (record.contains("loss")) all.push_back(record.at("loss"));
        }
        return all;
    }
    std::string checkpoint(const std::string& name) const {
        return file_bytes(scratch.path / name / "latest.safetensors");
    }
    // Two processes, of which the second gets the signal once the log has some steps.
    Outcome signalled(const std::string& name, const std::string& signal) const {
        const std::string log = dir + "/" + name + "/log.jsonl", pid = dir + "/pid.";
        return run_command("{ (" + kMpirun + "sh -c 'echo $$ > " + pid +
                           "$OMPI_COMM_WORLD_RANK; exec " + vq(name) +
                           "') & until grep -q '\"step\":12[,}]' " + log +
                           " 2>/dev/null; do sleep 0.02; done; kill -" + signal + " $(cat " + pid +
                           "1); wait $!; }");
    }
};

}  // namespace

TEST_CASE("mpirun: two processes train as one does, and go on after a signal or a kill") {
    if (!have_mpi()) return;
    const Run run;
    const Outcome one = run_command(run.vq("one")), two = run_command(kMpirun + run.vq("two"));
    REQUIRE_MESSAGE(one.status == 0, one.text);
    REQUIRE_MESSAGE(two.status == 0, two.text);
    const std::vector<double> one_loss = run.losses("one"), two_loss = run.losses("two");
    REQUIRE(one_loss.size() == 60);
    REQUIRE(two_loss.size() == 60);
    // The same batches and draws: sums in another order, 1e-7 of the first losses. Later on one may
    // move a code.
    for (size_t i = 0; i < 60; ++i)
        CHECK(two_loss[i] == doctest::Approx(one_loss[i]).epsilon(i < 20 ? 1e-5 : 2e-2));

    const Outcome stopped = run.signalled("stopped", "TERM");
    CHECK_MESSAGE(stopped.status != 0, stopped.text);  // what follows in a script must not run
    CHECK_MESSAGE(stopped.text.find("with --resume goes on") != std::string::npos, stopped.text);
    const Outcome killed = run.signalled("killed", "KILL");
    CHECK(killed.status != 0);
    for (const char* name : {"stopped", "killed"}) {
        const Outcome resumed = run_command(kMpirun + run.vq(name, "--resume"));
        CHECK_MESSAGE(resumed.status == 0, resumed.text);
        CHECK(run.checkpoint(name) == run.checkpoint("two"));
        CHECK(run.losses(name) == two_loss);
    }
}

// What only a machine with several GPUs can show; make check-gpu asks for it.
TEST_CASE("mpirun: a process on each GPU trains as one CPU does") {
    if (!have_mpi()) return;
    const int gpus =
        std::atoi(run_command((source_dir() / "tests/count_gpus.sh").string()).text.c_str());
    if (gpus < 2) {
        MESSAGE("SKIPPED: needs two GPUs");
        return;
    }
    const Run run;
    const std::string batch = "steps=20 batch=" + std::to_string(8 * gpus);
    const Outcome cpu = run_command(run.vq("cpu", batch));
    REQUIRE_MESSAGE(cpu.status == 0, cpu.text);
    const Outcome all =
        run_command("mpirun -n " + std::to_string(gpus) + " --oversubscribe --allow-run-as-root " +
                    run.vq("gpus", batch + " --device cuda"));
    REQUIRE_MESSAGE(all.status == 0, all.text);
    const std::vector<double> want = run.losses("cpu"), got = run.losses("gpus");
    REQUIRE(got.size() == want.size());
    // As above of two processes: the first steps' rounding, and then a code that moves.
    for (size_t i = 0; i < got.size(); ++i)
        CHECK(got[i] == doctest::Approx(want[i]).epsilon(i < 5 ? 1e-4 : 2e-2));
}

TEST_CASE("mpirun: what is wrong is one line, of one process") {
    if (!have_mpi()) return;
    const Run run;
    const auto lines = [](const std::string& text, const std::string& words) {
        size_t count = 0;
        for (size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++count;
        return count;
    };
    const Outcome odd = run_command(kMpirun + run.vq("odd", "batch=7"));
    CHECK(odd.status == 1);
    CHECK_MESSAGE(lines(odd.text, "train: batch=7 is of all 2 processes") == 1, odd.text);
    const Outcome wrong = run_command(kMpirun + run.vq("wrong", "window=many"));
    CHECK(wrong.status == 1);
    CHECK_MESSAGE(lines(wrong.text, "train: ") == 1, wrong.text);
}
