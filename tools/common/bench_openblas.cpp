#include "tools/common/bench_openblas.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "kernels/error.h"

namespace mc {
namespace {

constexpr int kIdleCycles = 21;  // 2^21: under 1 ms

}  // namespace

OpenBlas::OpenBlas(const std::string& library, int threads) {
    // Its threads wait for the next product in a loop, by default for 2^26 cycles: so long they
    // would take a core from whoever is timed next.
    setenv("OPENBLAS_THREAD_TIMEOUT", std::to_string(kIdleCycles).c_str(), 0);
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        throw Error(std::string("--openblas: ") + dlerror() +
                    "; Debian's is libopenblas.so.0 of the package libopenblas0-pthread");
    sgemm_ = reinterpret_cast<Sgemm>(dlsym(handle, "cblas_sgemm"));
    const auto set_threads =
        reinterpret_cast<void (*)(int)>(dlsym(handle, "openblas_set_num_threads"));
    const auto core = reinterpret_cast<char* (*)()>(dlsym(handle, "openblas_get_corename"));
    if (!sgemm_ || !set_threads || !core)
        throw Error(
            "--openblas: " + library +
            " lacks cblas_sgemm, openblas_set_num_threads or openblas_get_corename; name an "
            "OpenBLAS");
    set_threads(threads);
    core_ = core();
}

void OpenBlas::matmul(const MatmulArgs<float>& args) const {
    constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;
    const auto i = [](int64_t n) { return static_cast<int>(n); };
    for (int64_t p = 0; p < args.batch; ++p)
        sgemm_(kRowMajor, args.trans_a ? kTrans : kNoTrans, args.trans_b ? kTrans : kNoTrans,
               i(args.m), i(args.n), i(args.k), args.alpha, args.a + p * args.stride_a, i(args.lda),
               args.b + p * args.stride_b, i(args.ldb), args.accumulate ? 1 : 0,
               args.c + p * args.stride_c, i(args.ldc));
}

}  // namespace mc
