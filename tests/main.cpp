#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// Under a sanitizer an allocation that is too large fails, as it does without one, and does not end
// the process: out of memory is tested too. Read by the sanitizers' runtimes alone.
extern "C" const char* __asan_default_options() {
    return "allocator_may_return_null=1";
}
extern "C" const char* __tsan_default_options() {
    return "allocator_may_return_null=1";
}
