// libFuzzer's way in, built by the fuzz preset alone: MOCLIP_FUZZ_TARGET names the target.
#include <cstdint>
#include <cstdlib>

#include "tests/fuzz/targets.h"

#ifdef MOCLIP_FUZZ_TARGET
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    for (const mc::fuzz::Target& target : mc::fuzz::targets())
        if (target.name == MOCLIP_FUZZ_TARGET) {
            target.run(std::as_bytes(std::span(data, size)));
            return 0;
        }
    std::abort();
}
#endif
