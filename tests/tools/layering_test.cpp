// The floors of architecture.md: an include points down or sideways inside one folder, never up.
#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "tests/test_paths.h"

namespace fs = std::filesystem;

TEST_CASE("an include points down, never up") {
    const std::map<std::string, std::set<std::string>> below = {
        {"kernels", {}},
        {"tensor", {"kernels"}},
        {"autograd", {"tensor", "kernels"}},
        {"nn", {"autograd", "tensor", "kernels"}},
        {"motion", {"tensor", "kernels"}},
        {"models", {"nn", "autograd", "motion", "tensor", "kernels"}},
        {"train", {"models", "nn", "autograd", "motion", "tensor", "kernels"}},
        {"tools", {"train", "models", "nn", "autograd", "motion", "tensor", "kernels"}}};
    const std::regex include("^#include \"([a-z]+)/");
    int files = 0;
    for (const auto& [folder, allowed] : below)
        for (const auto& entry :
             fs::recursive_directory_iterator(mc::testing::source_dir() / folder)) {
            const std::string extension = entry.path().extension().string();
            if (extension != ".h" && extension != ".cpp" && extension != ".cu") continue;
            ++files;
            std::ifstream file(entry.path());
            int number = 0;
            for (std::string line; std::getline(file, line);) {
                ++number;
                std::smatch match;
                if (!std::regex_search(line, match, include)) continue;
                const std::string target = match[1];
                if (target == "hwy") continue;  // Highway's own headers, spelled as its manual does
                INFO(entry.path().string() << ":" << number << ": " << line);
                CHECK((target == folder || allowed.count(target) == 1));
            }
        }
    CHECK(files > 100);
}
