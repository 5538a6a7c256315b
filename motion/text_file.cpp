#include "motion/text_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "kernels/error.h"

namespace mc::motion {
namespace {

struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

}  // namespace

std::string read_whole_file(const std::string& path, size_t max_bytes) {
    std::error_code code;
    if (std::filesystem::is_directory(path, code)) {
        throw Error(path + ": is a folder; name a file");
    }
    File file(std::fopen(path.c_str(), "rb"));
    if (!file) throw Error(path + ": cannot be opened: " + std::strerror(errno));
    std::string bytes;
    char block[1 << 16];
    size_t got = 0;
    while ((got = std::fread(block, 1, sizeof block, file.get())) > 0) {
        if (bytes.size() + got > max_bytes) {
            throw Error(path + ": is larger than " + std::to_string(max_bytes) +
                        " bytes; cut it into smaller files");
        }
        bytes.append(block, got);
    }
    if (std::ferror(file.get())) throw Error(path + ": cannot be read: " + std::strerror(errno));
    return bytes;
}

void write_whole_file(const std::string& path, std::string_view bytes) {
    const std::string beside = path + ".tmp";
    const auto fail = [&](const char* what) {
        const std::string reason = std::strerror(errno);
        std::remove(beside.c_str());
        throw Error(path + ": " + what + ": " + reason);
    };
    File file(std::fopen(beside.c_str(), "wb"));
    if (!file) fail("cannot be written (is its folder there?)");
    if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) {
        fail("cannot be written");
    }
    if (std::fclose(file.release()) != 0) fail("cannot be written");
    if (std::rename(beside.c_str(), path.c_str()) != 0) fail("cannot be put in place");
}

}  // namespace mc::motion
