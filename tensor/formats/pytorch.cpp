#include "tensor/formats/pytorch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "kernels/error.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr int64_t kLegacyVersion = 1001;
constexpr uint64_t kSmallFile = 64'000'000;  // bytes; larger ones are not read just to check them
constexpr uint64_t kMaxPickle = uint64_t{1} << 28;    // bytes
constexpr uint64_t kMaxInflated = uint64_t{1} << 30;  // bytes of all deflated storages
constexpr uint64_t kFreeBytes = uint64_t{1} << 30;    // that tensors may take beyond their storages

std::string_view chars(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool begins_with(const std::vector<std::byte>& bytes, std::string_view text) {
    return chars(bytes).starts_with(text);
}

}  // namespace

const char* name_of(PyTorchKind kind) {
    switch (kind) {
        case PyTorchKind::zip:
            return "PyTorch zip";
        case PyTorchKind::legacy:
            return "PyTorch legacy";
        case PyTorchKind::script:
            return "TorchScript";
    }
    return "?";
}

struct PyTorchFile::Sources {
    struct Source {
        std::span<const std::byte> data;
        const ZipEntry* entry = nullptr;                         // in a zip
        std::shared_ptr<const std::vector<std::byte>> inflated;  // of a deflated entry, once read
        bool checked = false;
    };
    std::mutex mutex;
    std::vector<Source> all;  // beside PyTorchValues::storages
};

void PyTorchFile::fail(const std::string& what) const {
    throw Error(fmt::format("{}: {}", path().string(), what));
}

PyTorchFile::PyTorchFile(const std::filesystem::path& path, const PyTorchOptions& options)
    : file_(MappedFile::open(path)), sources_(std::make_shared<Sources>()) {
    using Checksums = PyTorchOptions::Checksums;
    const auto bytes = file_->bytes();
    checksums_ = options.checksums == Checksums::always ||
                 (options.checksums == Checksums::small_files && bytes.size() < kSmallFile);
    const std::string_view text = chars(bytes);
    if (text.starts_with("PK"))
        open_zip(options);
    else if (text.starts_with("\x80"))
        open_legacy(options);
    else if (text.size() > 262 && text.substr(257, 5) == "ustar")
        fail(
            "a tar archive, which PyTorch wrote before 2017; load it with an old PyTorch and save "
            "it "
            "again");
    else
        fail("not a PyTorch file: it begins neither as a zip nor as a pickle");
    check_total();
}

// The archive's folder is the one with data.pkl in it, whatever it is called.
void PyTorchFile::open_zip(const PyTorchOptions& options) {
    zip_ = std::make_unique<ZipReader>(path());
    file_ = zip_->file();
    std::string folder;
    for (const ZipEntry& entry : zip_->entries()) {
        const size_t slash = entry.name.find('/');
        if (slash == entry.name.npos || entry.name.substr(slash) != "/data.pkl") continue;
        if (!folder.empty()) fail("two members are called data.pkl; the file is damaged");
        folder = entry.name.substr(0, slash);
    }
    if (folder.empty())
        fail(
            "a zip archive without FOLDER/data.pkl, so not PyTorch's; name a file that torch.save "
            "or torch.jit.save wrote");
    const auto read = [&](const std::string& name, uint64_t limit) {
        const ZipEntry& entry = *zip_->find(name);
        if (entry.size > limit)
            fail(fmt::format("member {} of {} bytes, at most {} are read; the file is damaged",
                             printable(name), entry.size, limit));
        return zip_->read(entry);
    };
    if (zip_->find(folder + "/constants.pkl")) kind_ = PyTorchKind::script;
    if (zip_->find(folder + "/byteorder")) {
        const auto order = read(folder + "/byteorder", 16);
        swap_bytes_ = begins_with(order, "big");
        if (!swap_bytes_ && !begins_with(order, "little"))
            fail(fmt::format("byteorder says '{}', want little or big; the file is damaged",
                             printable(chars(order), 20)));
    }
    const auto pickle = read(folder + "/data.pkl", kMaxPickle);
    PickleTree::Options pickle_options;
    pickle_options.keep_unknown = options.keep_unknown;
    values_ = interpret_pytorch(PickleTree::parse(
        pickle, fmt::format("{}: {}/data.pkl", path().string(), printable(folder)),
        pickle_options));
    folder_ = folder;
    locate_in_zip(folder);
}

void PyTorchFile::locate_in_zip(const std::string& folder) {
    uint64_t inflated = 0;
    for (const PyTorchStorage& storage : values_.storages) {
        Sources::Source source;
        source.data = storage.inside;
        if (storage.type != "numpy.ndarray") {
            const std::string name = fmt::format("{}/data/{}", folder, storage.key);
            source.entry = zip_->find(name);
            if (!source.entry)
                fail(fmt::format("member {} is missing; the file is damaged", printable(name)));
            if (source.entry->size != storage.bytes)
                fail(fmt::format("member {} has {} bytes, its tensors want {}; the file is damaged",
                                 printable(name), source.entry->size, storage.bytes));
            if (source.entry->method == 0)
                source.data = zip_->stored(*source.entry);
            else if ((inflated += source.entry->size) > kMaxInflated)
                fail(fmt::format(
                    "compressed storages of more than {} bytes; save the file again with "
                    "torch.save, which does not compress",
                    kMaxInflated));
        }
        sources_->all.push_back(std::move(source));
    }
}

// Five pickles in a row (magic, version, system, object, storage keys), then each storage's count
// of elements and bytes.
void PyTorchFile::open_legacy(const PyTorchOptions& options) {
    kind_ = PyTorchKind::legacy;
    const auto bytes = file_->bytes();
    size_t at = 0;
    const auto next = [&](const char* what) {
        PickleTree::Options pickle_options;
        pickle_options.keep_unknown = options.keep_unknown;
        pickle_options.whole = false;
        pickle_options.first_byte = at;
        auto tree = PickleTree::parse(bytes.subspan(at),
                                      fmt::format("{}: {}", path().string(), what), pickle_options);
        at += tree->used();
        return tree;
    };
    const auto magic = next("magic number");
    if (magic->root()->kind != PyKind::big_integer || magic->root()->text != kLegacyMagic)
        fail("a pickle, but not one of PyTorch's; name a file that torch.save wrote");
    const auto version = next("version");
    if (version->root()->kind != PyKind::integer || version->root()->number != kLegacyVersion)
        fail(
            fmt::format("legacy PyTorch format of another version than {}; save it again with a "
                        "newer PyTorch",
                        kLegacyVersion));
    const auto system = next("system description");
    const PyValue little = PyValue(system, system->root()).at("little_endian");
    swap_bytes_ = !little.as_bool();
    values_ = interpret_pytorch(next("object"));
    const auto keys = next("storage keys");
    locate_in_legacy(*keys, at);
}

void PyTorchFile::locate_in_legacy(PickleTree& keys, size_t at) {
    const auto bytes = file_->bytes();
    std::unordered_map<std::string_view, size_t> wanted;
    sources_->all.resize(values_.storages.size());
    for (size_t i = 0; i < values_.storages.size(); ++i) {
        const PyTorchStorage& storage = values_.storages[i];
        sources_->all[i].data = storage.inside;
        if (storage.type != "numpy.ndarray") wanted[storage.key] = i;
    }
    if (keys.root()->kind != PyKind::list)
        fail("its storage keys are no list; the file is damaged");
    for (const PyNode* key : keys.root()->items) {
        const auto text = key->kind == PyKind::integer ? std::to_string(key->number) : key->text;
        const auto found = wanted.find(text);
        if (found == wanted.end())
            fail(fmt::format(
                "byte {}: storage '{}' belongs to no tensor, or is listed twice; the file "
                "is damaged",
                at, printable(text)));
        const PyTorchStorage& storage = values_.storages[found->second];
        int64_t count = 0;
        if (bytes.size() - at < sizeof count)
            fail(fmt::format("byte {}: the file ends before storage '{}'; it is truncated", at,
                             printable(text)));
        std::memcpy(&count, bytes.data() + at, sizeof count);
        if (swap_bytes_)
            count = static_cast<int64_t>(__builtin_bswap64(static_cast<uint64_t>(count)));
        if (count < 0 || static_cast<uint64_t>(count) != storage.bytes / storage.element_size)
            fail(fmt::format(
                "byte {}: storage '{}' has {} elements, its tensors want {}; the file is "
                "damaged",
                at, printable(text), count, storage.bytes / storage.element_size));
        at += sizeof count;
        if (bytes.size() - at < storage.bytes)
            fail(fmt::format(
                "byte {}: storage '{}' of {} bytes runs out of the file; it is truncated", at,
                printable(text), storage.bytes));
        sources_->all[found->second].data = bytes.subspan(at, storage.bytes);
        at += storage.bytes;
        wanted.erase(found);
    }
    if (!wanted.empty())
        fail(fmt::format("storage '{}' is not among its storages; the file is damaged",
                         printable(wanted.begin()->first)));
    if (at != bytes.size())
        fail(fmt::format("byte {}: {} bytes after the last storage; the file is damaged", at,
                         bytes.size() - at));
}

// A few bytes can describe an enormous tensor (stride 0) or the same elements very often.
void PyTorchFile::check_total() const {
    uint64_t stored = 0, wanted = 0;
    for (const PyTorchStorage& storage : values_.storages)
        stored = std::min<uint64_t>(stored + storage.bytes, INT64_MAX);
    for (const PyTorchTensor& tensor : values_.tensors) {
        const auto extent = tensor.layout.extent();
        uint64_t bytes = 0;
        if (__builtin_mul_overflow(static_cast<uint64_t>(extent->count),
                                   std::max<size_t>(size_of(tensor.type), 4), &bytes) ||
            __builtin_add_overflow(wanted, bytes, &wanted))
            wanted = UINT64_MAX;
        if (wanted > kFreeBytes && (wanted - kFreeBytes) / 8 > stored)
            fail(
                fmt::format("its tensors would take more than {} bytes, made of {}; the file is "
                            "damaged or made to use up memory",
                            wanted, stored));
    }
}

PyTorchFile::Bytes PyTorchFile::bytes_of(size_t storage) const {
    const std::lock_guard lock(sources_->mutex);
    Sources::Source& source = sources_->all[storage];
    if (!source.entry) {
        if (values_.storages[storage].inside.data()) return {source.data, values_.tree};
        return {source.data, file_};
    }
    if (source.entry->method != 0) {
        if (!source.inflated)
            source.inflated =
                std::make_shared<const std::vector<std::byte>>(zip_->read(*source.entry));
        return {*source.inflated, source.inflated};
    }
    if (checksums_ && !source.checked) zip_->check_crc(*source.entry, source.data);
    source.checked = true;
    return {source.data, file_};
}

const PyTorchTensor& PyTorchFile::info(const PyValue& value) const {
    if (!value.is(PyKind::tensor))
        fail(fmt::format("got a {}, want a tensor; is it the right file?", value.type()));
    return values_.tensors[static_cast<size_t>(value.node().number)];
}

Tensor PyTorchFile::tensor(const PyValue& value) const {
    const PyTorchTensor& tensor = info(value);
    const Bytes bytes = bytes_of(tensor.storage);
    try {
        return load_elements(bytes.data, tensor.type, tensor.layout,
                             tensor.numpy ? tensor.swap_bytes : swap_bytes_, bytes.owner);
    } catch (const Error& e) {
        fail(fmt::format("byte {} of the pickle: tensor ({}): {}", value.node().offset,
                         fmt::join(tensor.layout.shape, ", "), e.what()));
    }
}

namespace {

// Depth first; the path is one text that grows and shrinks.
class TensorWalk {
  public:
    TensorWalk(const std::string& source, std::vector<std::string>* skipped)
        : budget_(source), skipped_(skipped) {}

    void walk(const PyValue& value) {
        budget_.visit(1 + path_.size() / 64);
        if (value.is(PyKind::tensor)) {
            found_.emplace_back(path_, value);
            return;
        }
        const bool named = value.is(PyKind::dict) || value.is(PyKind::object);
        const size_t size = value.size(), before = path_.size();
        for (size_t i = 0; i < size; ++i) {
            const PyValue item = value.item(i);
            budget_.visit(1);
            if (item.size() == 0 && !item.is(PyKind::tensor)) continue;
            if (before > 0) path_ += '.';
            bool known = true;
            if (!named)
                path_ += std::to_string(i);
            else if (const PyValue key = value.key(i); key.is(PyKind::text))
                path_ += key.as_text();
            else if (key.is(PyKind::integer))
                path_ += std::to_string(key.as_int());
            else
                known = false, path_ += key.repr(40);
            if (known)
                walk(item);
            else if (skipped_)
                skipped_->push_back(path_);
            path_.resize(before);
        }
    }

    PyTorchFile::Found take() { return std::move(found_); }

  private:
    PyWalkBudget budget_;
    std::vector<std::string>* skipped_;
    std::string path_;
    PyTorchFile::Found found_;
};

}  // namespace

PyTorchFile::Found PyTorchFile::tensors(const PyValue& below,
                                        std::vector<std::string>* skipped) const {
    TensorWalk walk(path().string(), skipped);
    walk.walk(below);
    Found found = walk.take();
    std::unordered_set<std::string_view> names;
    for (const auto& [name, value] : found)
        if (!names.insert(name).second)
            fail(fmt::format("two tensors are called '{}'; load them by their keys",
                             printable(name)));
    return found;
}

}  // namespace mc
