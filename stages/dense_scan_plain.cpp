// In place of dense_scan.cpp in a browser: one path, which any compiler can make something of.
#include "stages/dense_scan.h"

namespace nudge {

void DotProducts(const float* query, const float* rows, size_t count, size_t dimension,
                 float* out) {
  for (size_t i = 0; i < count; ++i) {
    const float* row = rows + i * dimension;
    float sum[4] = {0, 0, 0, 0};
    size_t j = 0;
    for (; j + 4 <= dimension; j += 4) {
      for (size_t k = 0; k < 4; ++k) sum[k] += query[j + k] * row[j + k];
    }
    for (; j < dimension; ++j) sum[0] += query[j] * row[j];
    out[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
}

std::string_view DenseScanPath() {
  return "scalar";
}

bool UseDenseScanPath(std::string_view path) {
  return path == DenseScanPath();
}

}  // namespace nudge
