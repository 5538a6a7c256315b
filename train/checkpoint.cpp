#include "train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "tensor/finite.h"
#include "tensor/formats/json_limit.h"

namespace mc::train {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "moclip-checkpoint";

// JSON has no NaN: it would come back as null.
void check_numbers(const std::string& key, const Json& value) {
    if (value.is_number_float() && !std::isfinite(value.get<double>()))
        throw Error(fmt::format("'{}' is {}", key, value.get<double>()));
    if (value.is_structured())
        for (const auto& [name, inner] : value.items()) check_numbers(key + "." + name, inner);
}

Json document_of(const Checkpoint& c) {
    Json generators = Json::object();
    for (const auto& [use, state] : c.generators)
        generators[use] = {{"seed", state.seed}, {"position", state.position}};
    Json best = nullptr;
    if (c.best_metric) best = *c.best_metric;
    return {{"config", c.config},       {"epoch", c.epoch},       {"step", c.step},
            {"position", c.position},   {"schedule", c.schedule}, {"best_metric", best},
            {"generators", generators}, {"extra", c.extra}};
}

bool is_generators(const Json& value) {
    if (!value.is_object()) return false;
    for (const Json& state : value)
        if (!state.is_object() || !state.contains("seed") || !state.contains("position") ||
            !state["seed"].is_number_unsigned() || !state["position"].is_number_unsigned())
            return false;
    return true;
}

bool is_count(const Json& value) {
    return value.is_number_integer() && value.get<int64_t>() >= 0;
}

// The keys of the document that are missing or of the wrong type.
std::vector<std::string> broken_keys(const Json& document) {
    using Test = bool (*)(const Json&);
    const Test object = [](const Json& v) { return v.is_object(); };
    const Test metric = [](const Json& v) { return v.is_number() || v.is_null(); };
    const std::pair<const char*, Test> wanted[] = {
        {"config", object},     {"epoch", is_count},     {"step", is_count},
        {"position", is_count}, {"schedule", object},    {"generators", is_generators},
        {"extra", object},      {"best_metric", metric},
    };
    std::vector<std::string> broken;
    for (const auto& [key, good] : wanted)
        if (!document.contains(key) || !good(document[key])) broken.emplace_back(key);
    return broken;
}

Checkpoint checkpoint_of(const Json& document) {
    Checkpoint c;
    c.config = document["config"];
    c.epoch = document["epoch"];
    c.step = document["step"];
    c.position = document["position"];
    c.schedule = document["schedule"];
    c.extra = document["extra"];
    if (!document["best_metric"].is_null()) c.best_metric = document["best_metric"].get<double>();
    for (const auto& [use, state] : document["generators"].items())
        c.generators[use] = {state["seed"], state["position"]};
    return c;
}

// The text of a key of the file's metadata; "" if there is none.
std::string metadata_text(const SafetensorsFile& file, const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? "" : found->second;
}

}  // namespace

void Checkpoint::add(const std::string& prefix, const NamedTensors& named) {
    for (const auto& [name, tensor] : named)
        tensors.emplace_back(prefix + "." + name, tensor.cpu());
}

NamedTensors Checkpoint::section(const std::string& prefix) const {
    NamedTensors out;
    const std::string start = prefix + ".";
    for (const auto& [name, tensor] : tensors)
        if (name.starts_with(start)) out.emplace_back(name.substr(start.size()), tensor);
    return out;
}

Generator Checkpoint::generator(const std::string& use) const {
    const auto found = generators.find(use);
    if (found == generators.end())
        throw Error(
            fmt::format("the checkpoint has no random generator '{}'; start the {} stage "
                        "anew",
                        use, stage));
    return generator_of(found->second);
}

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
    const Json document = document_of(checkpoint);
    std::string text;
    try {
        check_numbers("checkpoint", document);
        for (const auto& [name, tensor] : checkpoint.tensors) check_finite(name, tensor);
        text = document.dump();
    } catch (const Error& e) {
        throw Error(
            fmt::format("{}: not saved, so the last good one stays: {}", path.string(), e.what()));
    } catch (const Json::type_error&) {
        throw Error(fmt::format("{}: not saved: a text is not UTF-8", path.string()));
    }
    write_safetensors(path, checkpoint.tensors,
                      {{"format", kFormat},
                       {"version", std::to_string(kCheckpointVersion)},
                       {"stage", checkpoint.stage},
                       {"checkpoint", text}});
}

Checkpoint load_checkpoint(const std::filesystem::path& path, const std::string& stage) {
    const auto fail = [&](const std::string& what) {
        throw Error(fmt::format("{}: {}", path.string(), what));
    };
    const SafetensorsFile file(path);
    if (metadata_text(file, "format") != kFormat)
        fail("is no training checkpoint; give the latest.safetensors of a run folder");
    const std::string version_text = metadata_text(file, "version");
    int version = 0;
    std::from_chars(version_text.data(), version_text.data() + version_text.size(), version);
    if (version < 1)
        fail(fmt::format("its version '{}' is no number; it is damaged", version_text));
    if (version > kCheckpointVersion)
        fail(fmt::format("is of version {}, this program reads up to {}; use a newer program",
                         version, kCheckpointVersion));
    const std::string found = metadata_text(file, "stage");
    if (found != stage) fail(fmt::format("is a checkpoint of stage {}, want {}", found, stage));

    Json document;
    try {
        document = Json::parse(metadata_text(file, "checkpoint"), json_depth_limit(), false);
    } catch (const Error& e) {
        fail(std::string(e.what()) + "; the file is damaged");
    }
    if (!document.is_object()) fail("its document is not JSON; the file is damaged");
    if (const auto broken = broken_keys(document); !broken.empty())
        fail(fmt::format("lacks {} (or has another type there); the file is damaged",
                         fmt::join(broken, ", ")));
    Checkpoint checkpoint = checkpoint_of(document);
    checkpoint.stage = stage;
    checkpoint.tensors = file.all();
    try {
        for (const auto& [name, tensor] : checkpoint.tensors) check_finite(name, tensor);
    } catch (const Error& e) {
        fail(fmt::format("{}; resume from another checkpoint", e.what()));
    }
    return checkpoint;
}

void RunFolder::make() const {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (error || !std::filesystem::is_directory(path_))
        throw Error(fmt::format("{}: cannot make the run folder: {}; choose another",
                                path_.string(), error ? error.message() : "it is a file"));
}

void RunFolder::check_can_be_made() const {
    namespace fs = std::filesystem;
    std::vector<fs::path> missing;  // the innermost first
    std::error_code failed;
    for (fs::path at = fs::absolute(path_).lexically_normal();
         at.has_relative_path() && !fs::exists(at, failed); at = at.parent_path())
        missing.push_back(at);
    const auto take_away = [&] {
        std::error_code stays;  // what another process has begun to fill
        for (const fs::path& folder : missing) fs::remove(folder, stays);
    };
    try {
        make();
    } catch (...) {
        take_away();
        throw;
    }
    const bool writable = ::access(path_.c_str(), W_OK | X_OK) == 0;
    const std::string why = std::strerror(errno);
    take_away();
    if (!writable)
        throw Error(fmt::format("{}: cannot write into the run folder: {}; choose another",
                                path_.string(), why));
}

void RunFolder::save(const Checkpoint& checkpoint, bool is_best) const {
    if (is_best) save_checkpoint(best(), checkpoint);
    save_checkpoint(latest(), checkpoint);
}

RunClaim::RunClaim(const RunFolder& run)
    : run_(run), descriptor_(::open(run.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    // Where a file system has no such locks, nothing is known of others.
    if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return;
    ::close(descriptor_);
    throw Error(
        fmt::format("{}: another process trains there; wait for it or stop it, or name "
                    "another --out folder",
                    run.path().string()));
}

RunClaim::~RunClaim() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

void RunClaim::clean() const {
    std::vector<std::filesystem::path> left;
    for (const auto& entry : std::filesystem::directory_iterator(run_.path()))
        for (const auto& file : {run_.latest(), run_.best(), run_.log()})
            if (entry.path().filename().string().starts_with(file.filename().string() + ".tmp"))
                left.push_back(entry.path());
    std::error_code stays;
    for (const std::filesystem::path& path : left) std::filesystem::remove(path, stays);
}

}  // namespace mc::train
