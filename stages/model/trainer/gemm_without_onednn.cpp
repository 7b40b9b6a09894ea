// The products where oneDNN is not there, as in a browser, in place of gemm_onednn.cpp.
#include "stages/model/trainer/gemm.h"
#include "stages/result.h"

namespace nudge {

void Multiply(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
              float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
              float beta, float* c, size_t c_stride) {
  MultiplyPortable(transpose_a, transpose_b, m, n, k, alpha, a, a_stride, b, b_stride, beta, c,
                   c_stride);
}

void MultiplyBf16(Transpose, size_t, size_t, size_t, const uint16_t*, size_t, const uint16_t*,
                  size_t, bool, float*, size_t) {
  ENSURE(HasBf16Products());
}

bool HasBf16Products() {
  return false;
}

bool Bf16IsFaster() {
  return false;
}

std::string GemmPath(BaseProducts) {
  return PortablePath();
}

}  // namespace nudge
