// A weight matrix of the base model, and its products with rows: X -> [FrozenMatrix] -> X W^T, and
// dY -> dY W.
//
// Products are those of BaseProducts, and W is kept as their numbers, f32 or bf16, in memory, or
// read in place from the blocks of the model file: then each tile is widened into memory of the
// calling thread. Where W lies changes no bit. Written once at load by one thread, afterwards never
// changed: any thread may read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "stages/model/trainer/gemm.h"

namespace nudge {

struct BaseForm {
  BaseProducts products = BaseProducts::kF32;
  bool in_file = false;  // where the weights lie

  bool bf16() const { return products == BaseProducts::kBf16; }
  bool operator==(const BaseForm&) const = default;
};

// What the answer engine knows how to read as it is stored; everything else it has as floats.
enum class StoredNumbers : uint8_t { kOther, kBf16, kQ4_1, kQ8_0 };

// Consecutive rows of a matrix as they lie in a file, each of whole blocks.
struct FileRows {
  using Widen = void (*)(const void* from, float* to, int64_t count);  // count: of whole blocks

  const uint8_t* data = nullptr;  // outlives the matrix
  size_t rows = 0;
  size_t row_bytes = 0;
  size_t block = 1;  // numbers
  size_t block_bytes = 0;
  Widen widen = nullptr;
  StoredNumbers numbers = StoredNumbers::kOther;
};

class FrozenMatrix {
 public:
  FrozenMatrix() = default;
  // W[out, in]. Every row is to be written, or appended where W lies in the file.
  FrozenMatrix(size_t out, size_t in, BaseForm form = {});

  void Write(size_t row, std::span<const float> values);  // [in]
  void Append(const FileRows& rows);

  size_t out() const { return out_; }
  size_t in() const { return in_; }
  size_t bytes() const;                                     // in memory of its own
  std::span<const FileRows> file() const { return file_; }  // empty: W lies in memory

  // Row `row`, [in], as the products see it.
  void Row(size_t row, float* to) const;

  // One tile of Y[rows, out] = X[rows, in] W^T (+ Y, with `accumulate`). bf16 products take the
  // rows from `rounded`, [rows, in] as ToBf16 gives them, and round those of the tile where it is
  // null; others do not read it.
  void Forward(const Tiles::Tile& tile, const float* x, size_t x_stride, bool accumulate, float* y,
               size_t y_stride, const uint16_t* rounded = nullptr) const;

  // One tile of dX[rows, in] = dY[rows, out] W. The sum runs over blocks of rows of W, so that what
  // a thread needs beside W stays within some megabytes however many rows it has. `rounded`: dY,
  // [rows, out], as above.
  void Backward(const Tiles::Tile& tile, const float* dy, size_t dy_stride, float* dx,
                size_t dx_stride, const uint16_t* rounded = nullptr) const;

 private:
  // Columns [column, column + columns) of rows [row, row + rows), each row at a distance of in().
  const float* Floats(size_t row, size_t rows, size_t column, size_t columns) const;
  const uint16_t* Bf16(size_t row, size_t rows, size_t column, size_t columns) const;
  // Widens these columns and what else is in their blocks to their places in to[rows, in].
  void WidenRows(size_t row, size_t rows, size_t column, size_t columns, float* to) const;

  size_t out_ = 0;
  size_t in_ = 0;
  BaseForm form_;
  AlignedFloats f32_;
  AlignedBf16 bf16_;
  std::vector<FileRows> file_;  // in the order of W's rows
};

}  // namespace nudge
