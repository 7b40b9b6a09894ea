#include "stages/model/trainer/frozen_matrix.h"

#include <algorithm>

#include "stages/model/trainer/part_times.h"
#include "stages/model/trainer/thread_floats.h"
#include "stages/result.h"

namespace nudge {

namespace {

constexpr size_t kBlockFloats = size_t{2} << 20;  // of W in a block of rows
constexpr size_t kRowStep = 64;

// Rows of W[.., in] whose products are added up at a time.
size_t BlockRows(size_t in) {
  return std::max(kRowStep, kBlockFloats / in / kRowStep * kRowStep);
}

// Memory of the calling thread, kept from call to call; its contents are not.
enum class Scratch : uint8_t { kWidened, kWeights, kRows };

template <Scratch kUse>
uint16_t* ThreadBf16(size_t count) {
  return reinterpret_cast<uint16_t*>(ThreadFloats<kUse>((count + 1) / 2));
}

struct Bf16Rows {
  const uint16_t* data;
  size_t stride;
};

// X[rows, columns] as bf16.
Bf16Rows RowsAsBf16(const float* x, size_t stride, size_t rows, size_t columns) {
  uint16_t* const to = ThreadBf16<Scratch::kRows>(rows * columns);
  for (size_t row = 0; row < rows; ++row) ToBf16(x + row * stride, columns, to + row * columns);
  return {to, columns};
}

}  // namespace

FrozenMatrix::FrozenMatrix(size_t out, size_t in, BaseForm form) : out_(out), in_(in), form_(form) {
  if (form.in_file) return;
  if (form.bf16()) {
    bf16_ = AllocateBf16(out * in);
  } else {
    f32_ = AllocateFloats(out * in);
  }
}

void FrozenMatrix::Write(size_t row, std::span<const float> values) {
  ENSURE(row < out_ && values.size() == in_ && !form_.in_file);
  if (form_.bf16()) {
    ToBf16(values.data(), in_, bf16_.get() + row * in_);
  } else {
    std::copy(values.begin(), values.end(), f32_.get() + row * in_);
  }
}

void FrozenMatrix::Append(const FileRows& rows) {
  ENSURE(form_.in_file && rows.block > 0 && in_ % rows.block == 0);
  file_.push_back(rows);
}

size_t FrozenMatrix::bytes() const {
  if (form_.in_file) return 0;
  return out_ * in_ * (form_.bf16() ? sizeof(uint16_t) : sizeof(float));
}

void FrozenMatrix::WidenRows(size_t row, size_t rows, size_t column, size_t columns,
                             float* to) const {
  size_t first = 0;  // row of W
  for (const FileRows& part : file_) {
    const size_t begin = std::max(row, first);
    const size_t end = std::min(row + rows, first + part.rows);
    const size_t block = column / part.block;
    const size_t blocks = (column + columns + part.block - 1) / part.block - block;
    for (size_t r = begin; r < end; ++r) {
      part.widen(part.data + (r - first) * part.row_bytes + block * part.block_bytes,
                 to + (r - row) * in_ + block * part.block,
                 static_cast<int64_t>(blocks * part.block));
    }
    first += part.rows;
  }
}

const float* FrozenMatrix::Floats(size_t row, size_t rows, size_t column, size_t columns) const {
  if (!form_.in_file) return f32_.get() + row * in_ + column;
  float* const widened = ThreadFloats<Scratch::kWidened>(rows * in_);
  WidenRows(row, rows, column, columns, widened);
  return widened + column;
}

const uint16_t* FrozenMatrix::Bf16(size_t row, size_t rows, size_t column, size_t columns) const {
  if (!form_.in_file) return bf16_.get() + row * in_ + column;
  const float* const widened = Floats(row, rows, column, columns);
  uint16_t* const to = ThreadBf16<Scratch::kWeights>(rows * in_) + column;
  for (size_t r = 0; r < rows; ++r) ToBf16(widened + r * in_, columns, to + r * in_);
  return to;
}

void FrozenMatrix::Row(size_t row, float* to) const {
  if (form_.bf16()) {
    FromBf16(Bf16(row, 1, 0, in_), in_, to);
  } else if (form_.in_file) {
    WidenRows(row, 1, 0, in_, to);
  } else {
    std::copy_n(f32_.get() + row * in_, in_, to);
  }
}

void FrozenMatrix::Forward(const Tiles::Tile& tile, const float* x, size_t x_stride,
                           bool accumulate, float* y, size_t y_stride,
                           const uint16_t* rounded) const {
  const PartTimer timer(StepPart::kFrozen);
  const float* const from = x + tile.row * x_stride;
  float* const to = y + tile.row * y_stride + tile.column;
  if (form_.bf16()) {
    const Bf16Rows rows = rounded != nullptr ? Bf16Rows{rounded + tile.row * in_, in_}
                                             : RowsAsBf16(from, x_stride, tile.rows, in_);
    MultiplyBf16(Transpose::kYes, tile.rows, tile.columns, in_, rows.data, rows.stride,
                 Bf16(tile.column, tile.columns, 0, in_), in_, accumulate, to, y_stride);
  } else {
    MultiplyOf(form_.products)(Transpose::kNo, Transpose::kYes, tile.rows, tile.columns, in_, 1,
                               from, x_stride, Floats(tile.column, tile.columns, 0, in_), in_,
                               accumulate ? 1.0f : 0.0f, to, y_stride);
  }
}

void FrozenMatrix::Backward(const Tiles::Tile& tile, const float* dy, size_t dy_stride, float* dx,
                            size_t dx_stride, const uint16_t* rounded) const {
  const PartTimer timer(StepPart::kFrozen);
  float* const to = dx + tile.row * dx_stride + tile.column;
  const size_t step = BlockRows(in_);
  for (size_t row = 0; row < out_; row += step) {
    const size_t rows = std::min(step, out_ - row);
    const float* const from = dy + tile.row * dy_stride + row;
    if (form_.bf16()) {
      const Bf16Rows of = rounded != nullptr ? Bf16Rows{rounded + tile.row * out_ + row, out_}
                                             : RowsAsBf16(from, dy_stride, tile.rows, rows);
      MultiplyBf16(Transpose::kNo, tile.rows, tile.columns, rows, of.data, of.stride,
                   Bf16(row, rows, tile.column, tile.columns), in_, row > 0, to, dx_stride);
    } else {
      MultiplyOf(form_.products)(Transpose::kNo, Transpose::kNo, tile.rows, tile.columns, rows, 1,
                                 from, dy_stride, Floats(row, rows, tile.column, tile.columns), in_,
                                 row > 0 ? 1.0f : 0.0f, to, dx_stride);
    }
  }
}

}  // namespace nudge
