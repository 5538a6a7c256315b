// OpenBLAS as the peer of the matrix products in `bench`: opened at run time from the file that the
// user names, so that nothing here depends on it.
#pragma once

#include <string>

#include "kernels/matmul.h"

namespace mc {

class OpenBlas {
  public:
    // Error: no such library, or one without cblas_sgemm.
    OpenBlas(const std::string& library, int threads);
    // What the table's matmul does, but for the epilogue. Its threads are idle 2 ms later.
    void matmul(const MatmulArgs<float>& args) const;
    // The processor that its kernels are for, as it names it, e.g. "SkylakeX". A release older than
    // the processor takes it for a much older one, unless OPENBLAS_CORETYPE says otherwise.
    const std::string& core() const { return core_; }

  private:
    // As in cblas.h, with 32-bit integers.
    using Sgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                           const float* a, int lda, const float* b, int ldb, float beta, float* c,
                           int ldc);
    Sgemm sgemm_;
    std::string core_;
};

}  // namespace mc
