#include "stages/model/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "stages/model/part_times.h"
#include "stages/result.h"

namespace nudge {

namespace {

// Debian's oneDNN takes its thread count from OpenMP's setting of the calling thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

char Letter(Transpose transpose) {
  return transpose == Transpose::kYes ? 'T' : 'N';
}

constexpr size_t kAlignment = 64;
constexpr size_t kTileRows = 256;
constexpr size_t kTileColumns = 384;
constexpr size_t kColumnStep = 48;  // columns of oneDNN's AVX-512 register block

size_t CeilDivide(size_t a, size_t b) {
  return (a + b - 1) / b;
}

}  // namespace

void Multiply(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
              float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
              float beta, float* c, size_t c_stride) {
  if (m == 0 || n == 0) return;
  const PartTimer timer(StepPart::kLora);  // the outermost timer counts
  const OneThread guard;
  const auto status =
      dnnl_sgemm(Letter(transpose_a), Letter(transpose_b), static_cast<dnnl_dim_t>(m),
                 static_cast<dnnl_dim_t>(n), static_cast<dnnl_dim_t>(k), alpha, a,
                 static_cast<dnnl_dim_t>(a_stride), b, static_cast<dnnl_dim_t>(b_stride), beta, c,
                 static_cast<dnnl_dim_t>(c_stride));
  ENSURE(status == dnnl_success);
}

void MultiplyReference(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
                       float alpha, const float* a, size_t a_stride, const float* b,
                       size_t b_stride, float beta, float* c, size_t c_stride) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t p = 0; p < k; ++p) {
        const float x = transpose_a == Transpose::kYes ? a[p * a_stride + i] : a[i * a_stride + p];
        const float y = transpose_b == Transpose::kYes ? b[j * b_stride + p] : b[p * b_stride + j];
        sum += static_cast<double>(x) * static_cast<double>(y);
      }
      const double before = beta == 0 ? 0 : static_cast<double>(beta * c[i * c_stride + j]);
      c[i * c_stride + j] = static_cast<float>(static_cast<double>(alpha) * sum + before);
    }
  }
}

std::string GemmPath() {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch) + " isa " + std::to_string(dnnl_get_effective_cpu_isa());
}

void FreeAligned::operator()(float* values) const {
  std::free(values);
}

AlignedFloats AllocateFloats(size_t count) {
  const size_t bytes =
      CeilDivide(std::max<size_t>(count, 1) * sizeof(float), kAlignment) * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return AlignedFloats(static_cast<float*>(memory));
}

Tiles::Tiles(size_t rows, size_t columns)
    : rows_(rows),
      columns_(columns),
      row_blocks_(CeilDivide(rows, kTileRows)),
      panels_(4 * CeilDivide(columns, 4 * kTileColumns)),
      panel_width_(CeilDivide(CeilDivide(columns, panels_), kColumnStep) * kColumnStep) {
  panels_ = CeilDivide(columns, panel_width_);
}

Tiles::Tile Tiles::operator[](size_t index) const {
  const size_t row = index % row_blocks_ * kTileRows;
  const size_t column = index / row_blocks_ * panel_width_;
  return {row, std::min(kTileRows, rows_ - row), column, std::min(panel_width_, columns_ - column)};
}

FrozenMatrix::FrozenMatrix(size_t out, size_t in)
    : out_(out), in_(in), values_(AllocateFloats(out * in)) {}

void FrozenMatrix::Forward(const Tiles::Tile& tile, const float* x, size_t x_stride,
                           bool accumulate, float* y, size_t y_stride) const {
  const PartTimer timer(StepPart::kFrozen);
  Multiply(Transpose::kNo, Transpose::kYes, tile.rows, tile.columns, in_, 1,
           x + tile.row * x_stride, x_stride, values_.get() + tile.column * in_, in_,
           accumulate ? 1.0f : 0.0f, y + tile.row * y_stride + tile.column, y_stride);
}

void FrozenMatrix::Backward(const Tiles::Tile& tile, const float* dy, size_t dy_stride, float* dx,
                            size_t dx_stride) const {
  const PartTimer timer(StepPart::kFrozen);
  Multiply(Transpose::kNo, Transpose::kNo, tile.rows, tile.columns, out_, 1,
           dy + tile.row * dy_stride, dy_stride, values_.get() + tile.column, in_, 0,
           dx + tile.row * dx_stride + tile.column, dx_stride);
}

}  // namespace nudge
