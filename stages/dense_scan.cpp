#include "stages/dense_scan.h"

#include <immintrin.h>

#include <array>
#include <atomic>
#include <cstdint>

namespace nudge {
namespace {

__attribute__((target("avx2"))) inline float SumOf(__m256 x) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

__attribute__((target("avx512f"))) inline float SumOf(__m512 x) {
  // The masked forms: the plain ones read an undefined register, which the compiler warns of.
  const __m512d halves = _mm512_castps_pd(x);
  return SumOf(_mm256_add_ps(_mm256_castpd_ps(_mm512_maskz_extractf64x4_pd(0xFF, halves, 0)),
                             _mm256_castpd_ps(_mm512_maskz_extractf64x4_pd(0xFF, halves, 1))));
}

// All kernels alike: kRows rows at a time, two accumulators to a row (even and odd steps), added at
// the end. A row alone goes through the same template with one row, hence the same bits.
template <size_t kRows>
__attribute__((target("avx512f"))) inline void RowsAvx512(const float* query, const float* rows,
                                                          size_t dimension, float* out) {
  __m512 even[kRows];
  __m512 odd[kRows];
  for (size_t r = 0; r < kRows; ++r) even[r] = odd[r] = _mm512_setzero_ps();
  size_t j = 0;
  for (; j + 32 <= dimension; j += 32) {
    const __m512 q0 = _mm512_loadu_ps(query + j);
    const __m512 q1 = _mm512_loadu_ps(query + j + 16);
    for (size_t r = 0; r < kRows; ++r) {
      const float* row = rows + r * dimension + j;
      even[r] = _mm512_fmadd_ps(q0, _mm512_loadu_ps(row), even[r]);
      odd[r] = _mm512_fmadd_ps(q1, _mm512_loadu_ps(row + 16), odd[r]);
    }
  }
  for (; j < dimension; j += 16) {
    const size_t left = dimension - j;
    const auto mask = static_cast<__mmask16>(left >= 16 ? 0xFFFFU : (1U << left) - 1);
    const __m512 q = _mm512_maskz_loadu_ps(mask, query + j);
    for (size_t r = 0; r < kRows; ++r) {
      const float* row = rows + r * dimension + j;
      even[r] = _mm512_fmadd_ps(q, _mm512_maskz_loadu_ps(mask, row), even[r]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) out[r] = SumOf(_mm512_add_ps(even[r], odd[r]));
}

__attribute__((target("avx512f"))) void DotAvx512(const float* query, const float* rows,
                                                  size_t count, size_t dimension, float* out) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4) RowsAvx512<4>(query, rows + i * dimension, dimension, out + i);
  for (; i < count; ++i) RowsAvx512<1>(query, rows + i * dimension, dimension, out + i);
}

template <size_t kRows>
__attribute__((target("avx2,fma"))) inline void RowsAvx2(const float* query, const float* rows,
                                                         size_t dimension, float* out) {
  __m256 even[kRows];
  __m256 odd[kRows];
  for (size_t r = 0; r < kRows; ++r) even[r] = odd[r] = _mm256_setzero_ps();
  size_t j = 0;
  for (; j + 16 <= dimension; j += 16) {
    const __m256 q0 = _mm256_loadu_ps(query + j);
    const __m256 q1 = _mm256_loadu_ps(query + j + 8);
    for (size_t r = 0; r < kRows; ++r) {
      const float* row = rows + r * dimension + j;
      even[r] = _mm256_fmadd_ps(q0, _mm256_loadu_ps(row), even[r]);
      odd[r] = _mm256_fmadd_ps(q1, _mm256_loadu_ps(row + 8), odd[r]);
    }
  }
  float tail[kRows] = {};
  for (size_t k = j; k < dimension; ++k) {
    for (size_t r = 0; r < kRows; ++r) tail[r] += query[k] * rows[r * dimension + k];
  }
  for (size_t r = 0; r < kRows; ++r) out[r] = SumOf(_mm256_add_ps(even[r], odd[r])) + tail[r];
}

__attribute__((target("avx2,fma"))) void DotAvx2(const float* query, const float* rows,
                                                 size_t count, size_t dimension, float* out) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4) RowsAvx2<4>(query, rows + i * dimension, dimension, out + i);
  for (; i < count; ++i) RowsAvx2<1>(query, rows + i * dimension, dimension, out + i);
}

void DotScalar(const float* query, const float* rows, size_t count, size_t dimension, float* out) {
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

struct Path {
  std::string_view name;
  void (*run)(const float*, const float*, size_t, size_t, float*);
  bool (*available)();
};

constexpr std::array<Path, 3> kPaths{{
    {"avx512", DotAvx512, [] { return __builtin_cpu_supports("avx512f") != 0; }},
    {"avx2", DotAvx2,
     [] { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }},
    {"scalar", DotScalar, [] { return true; }},
}};

std::atomic<const Path*>& Chosen() {
  static std::atomic<const Path*> chosen = [] {
    const Path* best = kPaths.data();
    while (!best->available()) ++best;
    return best;
  }();
  return chosen;
}

}  // namespace

void DotProducts(const float* query, const float* rows, size_t count, size_t dimension,
                 float* out) {
  Chosen().load(std::memory_order_relaxed)->run(query, rows, count, dimension, out);
}

std::string_view DenseScanPath() {
  return Chosen().load(std::memory_order_relaxed)->name;
}

bool UseDenseScanPath(std::string_view path) {
  for (const Path& candidate : kPaths) {
    if (candidate.name == path && candidate.available()) {
      Chosen().store(&candidate, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace nudge
