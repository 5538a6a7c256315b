// A library opened at run time: the same binary runs where it is absent.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

namespace mc::cuda {

// Looks for lib<stem>.so.<version>, for each of `versions` in turn ("" is lib<stem>.so), by the
// loader's paths and in /usr/local/cuda. The environment variable `variable` names another file, is
// "off", or is "on", which looks for it as if it were not set. Under the emulation the library is
// the program itself. Never given back: the driver may be gone before statics.
class Library {
  public:
    Library(std::string name, const char* variable, const std::string& stem,
            const std::vector<std::string>& versions)
        : name_(std::move(name)) {
        const char* named = std::getenv(variable);
        if (named && std::string(named) == "off") {
            absent(std::string(variable) + " is off");
            return;
        }
        if (named && std::string(named) == "on") named = nullptr;
#ifdef MC_SIMT
        (void)stem, (void)versions;
        handle_ = dlopen(nullptr, RTLD_LAZY);  // it has what tests/simt/ links into it, or none
        file_ = "the program";
#else
        const std::string base = "lib" + stem + ".so", toolkit = "/usr/local/cuda/lib";
        std::vector<std::string> files;
        if (named)
            files = {named};
        else
            for (const std::string& folder : {std::string(), toolkit + "64/", toolkit + "/"})
                for (const std::string& version : versions)
                    files.push_back(folder + base + (version.empty() ? "" : "." + version));
        for (const std::string& file : files) {
            file_ = file;
            if ((handle_ = dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL))) return;
        }
        absent(named ? std::string(variable) + ": " + dlerror()
                     : "no " + base + " found; " + variable + " can name it");
#endif
    }

    explicit operator bool() const {
        return handle_;
    }

    // Finds a function by its name. The first name that is missing makes the library absent.
    template <class F>
    void find(F& function, const char* symbol) {
        function = nullptr;
        if (!handle_) return;
        function = reinterpret_cast<std::decay_t<F>>(dlsym(handle_, symbol));
        if (!function) absent(file_ + " has no " + symbol);
    }

    // It is there but cannot be used.
    void refuse(const std::string& why) {
        absent(file_ + ": " + why);
    }

    // "cuBLASLt 13.1.0 (libcublasLt.so.13)" for version 130100, or "no cuBLASLt: " and why.
    std::string report(size_t version) const {
        return handle_ ? name_ + " " + std::to_string(version / 10000) + "." +
                             std::to_string(version / 100 % 100) + "." +
                             std::to_string(version % 100) + " (" + file_ + ")"
                       : why_;
    }

  private:
    void absent(const std::string& why) {
        handle_ = nullptr;
        why_ = "no " + name_ + ": " + why;
    }

    std::string name_, file_, why_;
    void* handle_ = nullptr;
};

}  // namespace mc::cuda
