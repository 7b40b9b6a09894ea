#include "stages/model/engine/packed_model.h"

#include <algorithm>
#include <new>
#include <utility>

#include "stages/model/trainer/kernels.h"

namespace nudge {

// Cuts one allocation into arrays on cache lines; without memory it only measures.
class PackedArena {
 public:
  explicit PackedArena(float* memory) : memory_(memory) {}
  float* Next(size_t floats) {
    float* const here = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += floats;
    return here;
  }
  size_t used() const { return used_; }

 private:
  float* memory_;
  size_t used_ = 0;
};

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

PackedMatrix PackMatrix(const FrozenMatrix& from, const ParallelFor& parallel, PackedArena& arena) {
  const WeightForm form = FormOf(from);
  float* const memory = arena.Next(PackedMatrix::Floats(from.out(), from.in(), form));
  if (memory == nullptr) return {};
  PackedMatrix to(from.out(), from.in(), form, memory);
  RunParts(parallel, (from.out() + kRowsOfAPart - 1) / kRowsOfAPart, [&](size_t part) {
    const size_t end = std::min(from.out(), (part + 1) * kRowsOfAPart);
    for (size_t row = part * kRowsOfAPart; row < end; ++row) WriteRow(from, row, to);
  });
  return to;
}

}  // namespace

Result<std::shared_ptr<const PackedModel>> PackedModel::Pack(
    std::shared_ptr<const FrozenWeights> weights, const ParallelFor& parallel) {
  if (weights->form().bf16()) {
    return Error{Code::kUnsupportedModel, "answers are not by weights rounded to bf16",
                 "load the weights for f32 products"};
  }
  try {
    auto packed = std::make_shared<PackedModel>();
    PackedArena measured(nullptr);
    packed->PackInto(*weights, parallel, measured);
    packed->memory_ = AllocateStreamedFloats(measured.used());
    packed->bytes_ = measured.used() * sizeof(float);
    PackedArena arena(packed->memory_.get());
    packed->PackInto(*weights, parallel, arena);
    packed->weights_ = std::move(weights);
    return std::shared_ptr<const PackedModel>(std::move(packed));
  } catch (const std::bad_alloc&) {
    return Error{Code::kUnsupportedModel, "no memory for the weights that answer",
                 "serve a smaller model, or give the machine more memory"};
  }
}

void PackedModel::PackInto(const FrozenWeights& weights, const ParallelFor& parallel,
                           PackedArena& arena) {
  layers_.clear();
  for (const LlamaLayer& layer : weights.layers()) {
    Layer& to = layers_.emplace_back();
    for (size_t i = 0; i < kBlockProducts; ++i) {
      to[i] = PackMatrix(MatrixOf(layer, static_cast<BlockProduct>(i)), parallel, arena);
    }
  }
  head_ = PackMatrix(weights.head(), parallel, arena);
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
  PackedArena measured(nullptr);
  packed->PackInto(adapter, measured);
  packed->memory_ = AllocateStreamedFloats(measured.used());
  packed->bytes_ = measured.used() * sizeof(float);
  PackedArena arena(packed->memory_.get());
  packed->PackInto(adapter, arena);
  return std::shared_ptr<const PackedAdapter>(std::move(packed));
}

void PackedAdapter::PackInto(const LoraWeights& adapter, PackedArena& arena) {
  products_.clear();
  for (size_t layer = 0; layer < adapter.shape.layers; ++layer) {
    for (size_t i = 0; i < kBlockProducts; ++i) {
      products_.push_back(PackProduct(adapter, layer, static_cast<BlockProduct>(i), arena));
    }
  }
}

PackedAdapter::Product PackedAdapter::PackProduct(const LoraWeights& adapter, size_t layer_index,
                                                  BlockProduct block_product, PackedArena& arena) {
  const LoraShape& shape = adapter.shape;
  const auto layer = static_cast<uint32_t>(layer_index);
  const size_t rank = shape.rank;
  const std::span<const LoraModule> modules = ModulesOf(block_product);
  const auto is_enabled = [&](LoraModule module) {
    return shape.enabled[static_cast<size_t>(module)];
  };
  const auto enabled =
      static_cast<size_t>(std::count_if(modules.begin(), modules.end(), is_enabled));
  Product product;
  if (enabled == 0) return product;
  const size_t in = shape.in[static_cast<size_t>(modules[0])];
  constexpr WeightForm kForm = WeightForm::kFloats;
  float* const a = arena.Next(PackedMatrix::Floats(enabled * rank, in, kForm));
  if (a != nullptr) product.a = PackedMatrix(enabled * rank, in, kForm, a);
  size_t low = 0;     // of this module
  size_t column = 0;  // of Y
  for (const LoraModule module : modules) {
    const size_t out = shape.out[static_cast<size_t>(module)];
    if (is_enabled(module)) {
      for (size_t r = 0; r < rank && a != nullptr; ++r) {
        const float* const row = adapter.values.data() + shape.OffsetA(layer, module) + r * in;
        product.a.WriteFloats(low + r, std::span(row, in));
      }
      PackPieces(adapter.values.data() + shape.OffsetB(layer, module), {column, low}, out, rank,
                 arena, product.pieces);
      low += rank;
    }
    column += out;
  }
  return product;
}

// B [out, rank], whose first row adds to this column.
void PackedAdapter::PackPieces(const float* b, Piece begin, size_t out, size_t rank,
                               PackedArena& arena, std::vector<Piece>& pieces) {
  for (size_t row = 0; row < out;) {
    Piece piece = begin;
    piece.column += row;
    const size_t columns = std::min(out - row, kPanelColumns - piece.column % kPanelColumns);
    const size_t width = (columns + kColumnStep - 1) / kColumnStep * kColumnStep;
    float* const to = arena.Next(width * rank);
    for (size_t r = 0; r < rank && to != nullptr; ++r) {
      for (size_t c = 0; c < width; ++c) {
        to[r * width + c] = c < columns ? b[(row + c) * rank + r] : 0;
      }
    }
    piece.b = {WeightForm::kFloats, columns, rank, reinterpret_cast<const uint8_t*>(to)};
    pieces.push_back(piece);
    row += columns;
  }
}

}  // namespace nudge
