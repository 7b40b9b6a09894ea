#include "stages/model/engine/packed_model.h"

#include <algorithm>
#include <new>
#include <utility>

#include "stages/model/trainer/kernels.h"

namespace nudge {

namespace {

constexpr size_t kRowsOfAPart = kPanelColumns;

std::span<const LoraModule> ModulesOf(BlockProduct product) {
  static constexpr LoraModule kModules[] = {
      LoraModule::kQuery, LoraModule::kKey, LoraModule::kValue, LoraModule::kOutput,
      LoraModule::kGate,  LoraModule::kUp,  LoraModule::kDown};
  static constexpr size_t kFirst[] = {0, 3, 4, 6, 7};
  const auto index = static_cast<size_t>(product);
  return std::span(kModules).subspan(kFirst[index], kFirst[index + 1] - kFirst[index]);
}

const FrozenMatrix& MatrixOf(const LlamaLayer& layer, BlockProduct product) {
  switch (product) {
    case BlockProduct::kQueryKeyValue:
      return layer.query_key_value;
    case BlockProduct::kOutput:
      return layer.output;
    case BlockProduct::kGateUp:
      return layer.gate_up;
    case BlockProduct::kDown:
      break;
  }
  return layer.down;
}

WeightForm FormOf(StoredNumbers numbers) {
  switch (numbers) {
    case StoredNumbers::kBf16:
      return WeightForm::kBf16;
    case StoredNumbers::kQ4_1:
      return WeightForm::kQ4_1;
    case StoredNumbers::kQ8_0:
      return WeightForm::kQ8_0;
    case StoredNumbers::kOther:
      break;
  }
  return WeightForm::kFloats;
}

// The form that all of the matrix is stored in, if the products know it; else floats.
WeightForm FormOf(const FrozenMatrix& matrix) {
  if (matrix.file().empty()) return WeightForm::kFloats;
  const WeightForm form = FormOf(matrix.file()[0].numbers);
  if (!PackedMatrix::CanHave(form, matrix.in())) return WeightForm::kFloats;
  for (const FileRows& rows : matrix.file()) {
    if (FormOf(rows.numbers) != form) return WeightForm::kFloats;
    if (form != WeightForm::kQ4_1) continue;
    if (!PackedMatrix::HoldsQ4_1(rows.data, rows.rows * matrix.in() / rows.block)) {
      return WeightForm::kFloats;
    }
  }
  return form;
}

void WriteRow(const FrozenMatrix& from, size_t row, PackedMatrix& to) {
  if (to.form() == WeightForm::kFloats) {
    std::vector<float> values(from.in());
    from.Row(row, values.data());
    to.WriteFloats(row, values);
    return;
  }
  size_t first = 0;  // row of the matrix
  for (const FileRows& rows : from.file()) {
    if (row < first + rows.rows) {
      return to.WriteStored(row, rows.data + (row - first) * rows.row_bytes);
    }
    first += rows.rows;
  }
}

PackedMatrix PackMatrix(const FrozenMatrix& from, const ParallelFor& parallel) {
  PackedMatrix to(from.out(), from.in(), FormOf(from));
  RunParts(parallel, (from.out() + kRowsOfAPart - 1) / kRowsOfAPart, [&](size_t part) {
    const size_t end = std::min(from.out(), (part + 1) * kRowsOfAPart);
    for (size_t row = part * kRowsOfAPart; row < end; ++row) WriteRow(from, row, to);
  });
  return to;
}

}  // namespace

Result<std::shared_ptr<const PackedModel>> PackedModel::Pack(
    std::shared_ptr<const FrozenWeights> weights, const ParallelFor& parallel) {
  if (weights->form().bf16) {
    return Error{Code::kUnsupportedModel, "answers are not by weights rounded to bf16",
                 "load the weights for f32 products"};
  }
  try {
    auto packed = std::make_shared<PackedModel>();
    for (const LlamaLayer& layer : weights->layers()) {
      Layer& to = packed->layers_.emplace_back();
      for (size_t i = 0; i < kBlockProducts; ++i) {
        to[i] = PackMatrix(MatrixOf(layer, static_cast<BlockProduct>(i)), parallel);
      }
    }
    packed->head_ = PackMatrix(weights->head(), parallel);
    packed->weights_ = std::move(weights);
    return std::shared_ptr<const PackedModel>(std::move(packed));
  } catch (const std::bad_alloc&) {
    return Error{Code::kUnsupportedModel, "no memory for the weights that answer",
                 "serve a smaller model, or give the machine more memory"};
  }
}

size_t PackedModel::bytes() const {
  size_t bytes = head_.bytes();
  for (const Layer& layer : layers_) {
    for (const PackedMatrix& matrix : layer) bytes += matrix.bytes();
  }
  return bytes;
}

Result<std::shared_ptr<const PackedAdapter>> PackedAdapter::Pack(const LoraWeights& adapter,
                                                                 const FrozenWeights& weights) {
  const LoraShape& shape = adapter.shape;
  const char* const remedy = "use an adapter made for this base model";
  if (shape.rank < 1 || shape.rank > 64 ||
      shape != weights.AdapterShape(shape.rank, shape.alpha, shape.enabled) ||
      adapter.values.size() != shape.Size()) {
    return Error{Code::kWrongAdapter, "the adapter is of another model's shape", remedy};
  }
  if (!AllFinite(adapter.values.data(), adapter.values.size())) {
    return Error{Code::kWrongAdapter, "the adapter has a number that is not finite", remedy};
  }
  auto packed = std::make_shared<PackedAdapter>();
  packed->rank_ = shape.rank;
  packed->scale_ = shape.alpha / static_cast<float>(shape.rank);
  packed->products_.reserve(shape.layers * kBlockProducts);
  for (size_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t i = 0; i < kBlockProducts; ++i) {
      packed->products_.push_back(
          packed->PackProduct(adapter, layer, static_cast<BlockProduct>(i)));
    }
  }
  return std::shared_ptr<const PackedAdapter>(std::move(packed));
}

PackedAdapter::Product PackedAdapter::PackProduct(const LoraWeights& adapter, size_t layer_index,
                                                  BlockProduct block_product) {
  const LoraShape& shape = adapter.shape;
  const auto layer = static_cast<uint32_t>(layer_index);
  const size_t rank = shape.rank;
  Product product;
  size_t modules = 0;
  size_t in = 0;
  size_t numbers = 0;  // of b, pieces rounded up to whole steps of columns
  for (const LoraModule module : ModulesOf(block_product)) {
    const auto m = static_cast<size_t>(module);
    if (!shape.enabled[m]) continue;
    ++modules;
    in = shape.in[m];
    numbers += (shape.out[m] / kPanelColumns + 2) * kPanelColumns * rank;
  }
  if (modules == 0) return product;
  product.a = PackedMatrix(modules * rank, in, WeightForm::kFloats);
  product.b = AllocateFloats(numbers);
  float* b = product.b.get();
  size_t low = 0;     // of this module
  size_t column = 0;  // of Y
  for (const LoraModule module : ModulesOf(block_product)) {
    const auto m = static_cast<size_t>(module);
    const size_t begin = column;
    column += shape.out[m];
    if (!shape.enabled[m]) continue;
    const float* const a = adapter.values.data() + shape.OffsetA(layer, module);
    for (size_t r = 0; r < rank; ++r) {
      product.a.WriteFloats(low + r, std::span(a + r * in, in));
    }
    const float* const from = adapter.values.data() + shape.OffsetB(layer, module);
    for (size_t at = begin; at < column;) {
      const size_t end = std::min(column, (at / kPanelColumns + 1) * kPanelColumns);
      const size_t columns = end - at;
      const size_t width = (columns + kColumnStep - 1) / kColumnStep * kColumnStep;
      product.pieces.push_back(
          {at, low, {WeightForm::kFloats, columns, rank, reinterpret_cast<const uint8_t*>(b)}});
      for (size_t r = 0; r < rank; ++r) {
        for (size_t c = 0; c < width; ++c) {
          b[r * width + c] = c < columns ? from[(at - begin + c) * rank + r] : 0;
        }
      }
      b += width * rank;
      at = end;
    }
    low += rank;
  }
  bytes_ += product.a.bytes() + static_cast<size_t>(b - product.b.get()) * sizeof(float);
  return product;
}

}  // namespace nudge
