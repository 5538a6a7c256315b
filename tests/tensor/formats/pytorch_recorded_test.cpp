// Files that the real torch.save and torch.jit.save wrote, against the listing beside each.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "tensor/formats/load_tensors.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::testing;
using Json = nlohmann::json;

namespace {

std::vector<std::filesystem::path> recorded(const std::string& prefix, bool starting) {
    std::vector<std::filesystem::path> paths;
    if (!have_shared("reference/checkpoints")) return paths;
    for (const auto& entry :
         std::filesystem::directory_iterator(shared_dir() / "reference/checkpoints")) {
        const std::string name = entry.path().filename().string();
        if (!name.ends_with(".json") && name.starts_with(prefix) == starting)
            paths.push_back(entry.path());
    }
    CHECK_FALSE(paths.empty());
    return paths;
}

// One step of a listing's path: a position, a key, or a key that is a tuple, written out.
PyValue step(const PyValue& from, const Json& part) {
    for (size_t i = 0; i < from.size(); ++i) {
        if (!from.is(PyKind::dict)) {
            if (part == i) return from.item(i);
            continue;
        }
        const PyValue key = from.key(i);
        const bool same = key.is(PyKind::text)      ? part == key.as_text()
                          : key.is(PyKind::integer) ? part == key.as_int()
                                                    : part == key.repr();
        if (same) return from.item(i);
    }
    return {};
}

double number(const Json& json) {
    return json.get<double>();
}

void check_values(const Tensor& tensor, const Json& want) {
    // The sum is of up to 40,000 terms, and the listing's was added in another order.
    const Tensor wide = tensor.to(DType::f64);
    const std::vector<double> values = wide.to_vector<double>();
    double sum = 0, sum_abs = 0;
    for (double v : values) sum += v, sum_abs += std::fabs(v);
    CHECK(std::fabs(sum - number(want["sum"])) <= 1e-12 * sum_abs);
    if (want.contains("abs_sum"))
        CHECK(std::fabs(sum_abs - number(want["abs_sum"])) <= 1e-12 * sum_abs);
    const size_t firsts = want["first"].size();
    CHECK(firsts == std::min<size_t>(values.size(), firsts));
    for (size_t i = 0; i < firsts; ++i) CHECK(values[i] == number(want["first"][i]));
    if (!want.contains("last")) return;
    const size_t lasts = want["last"].size();
    for (size_t i = 0; i < lasts; ++i)
        CHECK(values[values.size() - lasts + i] == number(want["last"][i]));
}

void check_tensor(const PyTorchFile& file, const PyValue& value, const Json& want, bool script) {
    REQUIRE(value.is(PyKind::tensor));
    const PyTorchTensor& info = file.info(value);
    CHECK(info.numpy == (want["kind"] == "ndarray"));
    CHECK(torch_name(info.type) == want["dtype"].get<std::string>());
    CHECK(info.layout.shape == want["shape"].get<std::vector<int64_t>>());
    if (!info.numpy) {
        CHECK(info.layout.strides == want["stride"].get<std::vector<int64_t>>());
        CHECK(info.layout.offset == want["storage_offset"].get<int64_t>());
        CHECK(info.parameter == want["parameter"].get<bool>());
        // A script's listing is of its state dict, whose tensors are detached.
        if (!script) CHECK(info.requires_grad == want["requires_grad"].get<bool>());
    }
    const Tensor tensor = file.tensor(value);
    CHECK(std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end()) == info.layout.shape);
    check_values(tensor, want);
}

void check_value(const PyTorchFile& file, const PyValue& value, const Json& want) {
    const std::string kind = want["kind"];
    REQUIRE(value.defined());
    if (kind == "tensor" || kind == "ndarray") {
        check_tensor(file, value, want, false);
    } else if (kind == "numpy_scalar") {
        CHECK(value.type() == "numpy." + want["dtype"].get<std::string>());
        CHECK(value.as_real() == number(want["value"]));
    } else if (want.contains("len")) {
        CHECK(std::string(value.type()).ends_with(kind));
        CHECK(value.size() == want["len"].get<size_t>());
    } else {
        CHECK(value.type() == kind);
        if (kind == "int" && value.is(PyKind::big_integer))
            CHECK(std::stod(value.integer_text()) == number(want["value"]));
        else if (kind == "int")
            CHECK(value.as_int() == want["value"].get<int64_t>());
        else if (kind == "float")
            CHECK(value.as_real() == number(want["value"]));
        else if (kind == "bool")
            CHECK(value.as_bool() == want["value"].get<bool>());
        else if (kind == "str")
            CHECK(value.as_text() == want["value"].get<std::string>());
        else
            CHECK((kind == "NoneType" && value.is(PyKind::none)));
    }
}

}  // namespace

TEST_CASE("PyTorch, recorded: every file gives the listing beside it") {
    for (const auto& path : recorded("invalid_", false)) {
        INFO(path.filename().string());
        const Json listing = Json::parse(std::ifstream(path.string() + ".json"));
        const PyTorchFile file(path);
        const std::string format = listing["format"];
        const bool script = format.starts_with("torchscript");
        CHECK(name_of(file.kind()) == std::string(script               ? "TorchScript"
                                                  : format == "legacy" ? "PyTorch legacy"
                                                                       : "PyTorch zip"));
        if (listing.contains("zip_entries") && file.zip()) {
            std::vector<std::string> members;
            for (const ZipEntry& entry : file.zip()->entries()) members.push_back(entry.name);
            CHECK(members == listing["zip_entries"].get<std::vector<std::string>>());
        }
        size_t tensors = 0;
        const auto found = file.tensors();
        for (const Json& want : listing["entries"]) {
            INFO(want["path"].dump());
            tensors += want["kind"] == "tensor" || want["kind"] == "ndarray";
            if (!script) {
                PyValue value = file.root();
                for (const Json& part : want["path"]) value = step(value, part);
                check_value(file, value, want);
            } else if (want["path"].empty()) {
                CHECK(want["len"] == found.size());
            } else {
                const auto at = std::find_if(found.begin(), found.end(), [&](const auto& named) {
                    return want["path"][0] == named.first;
                });
                REQUIRE(at != found.end());
                check_tensor(file, at->second, want, true);
            }
        }
        CHECK(tensors == found.size());
        CHECK(load_tensors(path).tensors.size() == tensors);
    }
}

TEST_CASE("PyTorch, recorded: what must be refused is") {
    for (const auto& path : recorded("invalid_", true)) {
        std::string what;
        try {
            load_tensors(path);
        } catch (const Error& e) {
            what = e.what();
        }
        INFO(path.filename().string() << ": " << what);
        CHECK(what.find(path.filename().string()) != std::string::npos);
        CHECK(what.find('\n') == std::string::npos);
        if (path.filename().string().find("os_system") != std::string::npos)
            CHECK(what.find("byte 169: names posix.system, which runs code") != std::string::npos);
        else
            CHECK(what.find("truncated") != std::string::npos);
    }
}

TEST_CASE("PyTorch, recorded: a part of a checkpoint by its key") {
    if (!have_shared("reference/checkpoints")) return;
    const auto folder = shared_dir() / "reference/checkpoints";
    const TensorFile vq =
        load_tensors(folder / "momask_vq_net_best_fid.tar", {.below = "vq_model"});
    CHECK(vq.tensors.size() == 4);
    CHECK(vq.tensors[0].first == "encoder.model.0.weight");
    CHECK(vq.values.at("ep").as_int() == 49);
    CHECK(load_tensors(folder / "bad_vq_ddp.pth", {.below = "net"}).tensors.size() == 4);
    CHECK_THROWS_AS(load_tensors(folder / "bad_vq_ddp.pth", {.below = "vq_model"}), Error);
}
