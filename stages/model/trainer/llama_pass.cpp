#include "stages/model/trainer/llama_pass.h"

#include <algorithm>
#include <utility>

#include "stages/model/trainer/attention.h"
#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/part_times.h"
#include "stages/result.h"

namespace nudge {

namespace {

constexpr Transpose kNo = Transpose::kNo;
constexpr Transpose kYes = Transpose::kYes;

constexpr size_t kQueriesAtOnce = 8 * kQueryBlock;

// Of all modules.
size_t WidestOut(const LlamaShape& shape) {
  return std::max({shape.QueryWidth(), shape.hidden, shape.feed_forward});
}

// Of all products with frozen weights, forward and backward.
size_t WidestProduct(const LlamaShape& shape) {
  return std::max({shape.AttentionWidth(), shape.hidden, 2 * shape.feed_forward});
}

}  // namespace

// Cuts one allocation into arrays that each begin on a cache line; without memory it only measures.
class LlamaPass::Cutter {
 public:
  explicit Cutter(float* memory) : memory_(memory) {}
  static size_t Whole(size_t floats) { return (floats + 15) / 16 * 16; }
  float* Next(size_t floats) {
    float* const here = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += Whole(floats);
    return here;
  }
  size_t used() const { return used_; }

 private:
  float* memory_;
  size_t used_ = 0;
};

bool LlamaPass::Adapter::Has(LoraModule module) const {
  return weights != nullptr && weights->shape.enabled[static_cast<size_t>(module)];
}

const float* LlamaPass::Adapter::A(size_t layer, LoraModule module) const {
  return weights->values.data() + weights->shape.OffsetA(static_cast<uint32_t>(layer), module);
}

const float* LlamaPass::Adapter::B(size_t layer, LoraModule module) const {
  return weights->values.data() + weights->shape.OffsetB(static_cast<uint32_t>(layer), module);
}

LlamaPass::LlamaPass(std::shared_ptr<const FrozenWeights> weights, size_t max_tokens,
                     uint32_t max_rank, size_t bytes_max)
    : weights_(std::move(weights)),
      shape_(weights_->shape()),
      multiply_(MultiplyOf(weights_->form().products)),
      max_rank_(max_rank),
      bytes_max_(bytes_max),
      rotations_(*weights_, std::min(max_tokens, shape_.context)) {
  const size_t q = shape_.QueryWidth();
  qkv_slices_ = {
      {LoraModule::kQuery, 0}, {LoraModule::kKey, q}, {LoraModule::kValue, q + shape_.KeyWidth()}};
  output_slices_ = {{LoraModule::kOutput, 0}};
  gate_up_slices_ = {{LoraModule::kGate, 0}, {LoraModule::kUp, shape_.feed_forward}};
  down_slices_ = {{LoraModule::kDown, 0}};
  ENSURE(Bytes(shape_, max_tokens, max_rank, 1) <= bytes_max);
  // Of fewer rows with more layers kept none needs more than the bound.
  arena_ = AllocateFloats(std::min(bytes_max, Bytes(shape_, max_tokens, max_rank, shape_.layers)) /
                          sizeof(float));
}

LlamaPass::Kept LlamaPass::SlotAt(const LlamaShape& shape, size_t rows, uint32_t max_rank,
                                  Cutter& cutter) {
  return {.x = nullptr,
          .qkv = cutter.Next(rows * shape.AttentionWidth()),
          .attended = cutter.Next(rows * shape.QueryWidth()),
          .log_sum = cutter.Next(rows * shape.heads),
          .middle = cutter.Next(rows * shape.hidden),
          .gate_up = cutter.Next(rows * 2 * shape.feed_forward),
          .low = cutter.Next(rows * kLoraModules * max_rank)};
}

LlamaPass::Work LlamaPass::Lay(const LlamaShape& shape, size_t rows, uint32_t max_rank,
                               size_t layers_kept, Cutter& cutter) {
  const size_t hidden = rows * shape.hidden;
  const size_t query = rows * shape.QueryWidth();
  const size_t feed = rows * shape.feed_forward;
  const size_t widest = WidestOut(shape);
  Work work;
  work.input_floats = Cutter::Whole(hidden);
  work.inputs = cutter.Next(shape.layers * work.input_floats);
  Cutter slot(nullptr);
  SlotAt(shape, rows, max_rank, slot);
  work.slot_floats = slot.used();
  work.slots = cutter.Next(layers_kept * work.slot_floats);
  work.layers_kept = layers_kept;
  work.last_x = cutter.Next(hidden);
  work.normed = cutter.Next(hidden);
  work.active = cutter.Next(feed);
  work.d_x = cutter.Next(hidden);
  work.d_normed = cutter.Next(hidden);
  work.d_active = cutter.Next(feed);
  work.d_gate_up = cutter.Next(2 * feed);
  work.d_attended = cutter.Next(query);
  work.d_qkv = cutter.Next(rows * shape.AttentionWidth());
  work.d_keys = cutter.Next(query);
  work.d_values = cutter.Next(query);
  work.d_low = cutter.Next(rows * kLoraModules * max_rank);
  work.rounded = cutter.Next(rows * WidestProduct(shape) / 2 + 1);
  work.turned = cutter.Next(kLoraModules * widest * max_rank);
  work.scratch = cutter.Next(shape.heads * AttentionScratch(rows, shape.head_dim));
  return work;
}

size_t LlamaPass::Bytes(const LlamaShape& shape, size_t rows, uint32_t max_rank,
                        size_t layers_kept) {
  Cutter cutter(nullptr);
  Lay(shape, rows, max_rank, layers_kept, cutter);
  return cutter.used() * sizeof(float);
}

size_t LlamaPass::LayersKept(size_t rows) const {
  const size_t least = Bytes(shape_, rows, max_rank_, 1);
  const size_t more = Bytes(shape_, rows, max_rank_, 2) - least;
  return std::min(shape_.layers, 1 + (bytes_max_ - least) / more);
}

void LlamaPass::UseAdapter(const LoraWeights* adapter) {
  adapter_ = {};
  if (adapter == nullptr) return;
  adapter_.weights = adapter;
  adapter_.rank = adapter->shape.rank;
  adapter_.scale = adapter->shape.alpha / static_cast<float>(adapter->shape.rank);
  adapter_.low_stride = kLoraModules * adapter_.rank;
}

// A pass that keeps nothing works in one layer's memory, x going back and forth.
LlamaPass::Kept LlamaPass::KeptOf(size_t layer, bool keep) const {
  const size_t slot = keep ? layer - std::min(layer, FirstKept()) : 0;
  Cutter cutter(work_.slots + slot * work_.slot_floats);
  Kept kept = SlotAt(shape_, rows_, max_rank_, cutter);
  kept.x = work_.inputs;
  if (keep) kept.x += layer * work_.input_floats;
  if (!keep && layer % 2 == 1) kept.x = work_.last_x;
  return kept;
}

float* LlamaPass::NextX(size_t layer, bool keep) const {
  if (keep && layer + 1 == shape_.layers) return work_.last_x;
  return KeptOf(layer + 1, keep).x;
}

void LlamaPass::Round(const float* x, size_t x_stride, size_t width, size_t begin,
                      size_t rows) const {
  if (Rounded() == nullptr) return;
  const PartTimer timer(StepPart::kFrozen);
  for (size_t row = begin; row < begin + rows; ++row) {
    ToBf16(x + row * x_stride, width, Rounded() + row * width);
  }
}

uint16_t* LlamaPass::Rounded() const {
  return weights_->form().bf16() ? reinterpret_cast<uint16_t*>(work_.rounded) : nullptr;
}

void LlamaPass::Lower(const Product& product, const float* x, size_t x_stride, size_t begin,
                      size_t rows, float* low) const {
  Round(x, x_stride, product.weight->in(), begin, rows);
  for (const Slice& slice : product.slices) {
    if (!adapter_.Has(slice.module)) continue;
    const size_t in = product.weight->in();
    float* to =
        low + begin * adapter_.low_stride + static_cast<size_t>(slice.module) * adapter_.rank;
    multiply_(kNo, kYes, rows, adapter_.rank, in, 1, x + begin * x_stride, x_stride,
              adapter_.A(product.layer, slice.module), in, 0, to, adapter_.low_stride);
  }
}

void LlamaPass::Multiply(const Product& product, size_t rows, const float* x, size_t x_stride,
                         const float* low, const float* residual, float* y,
                         const ParallelFor& parallel) {
  const size_t y_stride = product.weight->out();
  const Tiles tiles(rows, y_stride);
  RunParts(parallel, tiles.size(), [&](size_t part) {
    const Tiles::Tile tile = tiles[part];
    const size_t end = tile.column + tile.columns;
    if (residual != nullptr) {
      for (size_t row = tile.row; row < tile.row + tile.rows; ++row) {
        std::copy_n(residual + row * y_stride + tile.column, tile.columns,
                    y + row * y_stride + tile.column);
      }
    } else if (!product.bias.empty()) {
      for (size_t row = tile.row; row < tile.row + tile.rows; ++row) {
        std::copy_n(product.bias.data() + tile.column, tile.columns,
                    y + row * y_stride + tile.column);
      }
    }
    const bool adds = residual != nullptr || !product.bias.empty();
    product.weight->Forward(tile, x, x_stride, adds, y, y_stride, Rounded());
    for (const Slice& slice : product.slices) {
      if (!adapter_.Has(slice.module)) continue;
      const size_t out = adapter_.weights->shape.out[static_cast<size_t>(slice.module)];
      const size_t from = std::max(tile.column, slice.column);
      const size_t to = std::min(end, slice.column + out);
      if (from >= to) continue;
      multiply_(
          kNo, kYes, tile.rows, to - from, adapter_.rank, adapter_.scale,
          low + tile.row * adapter_.low_stride + static_cast<size_t>(slice.module) * adapter_.rank,
          adapter_.low_stride,
          adapter_.B(product.layer, slice.module) + (from - slice.column) * adapter_.rank,
          adapter_.rank, 1, y + tile.row * y_stride + from, y_stride);
    }
  });
}

void LlamaPass::LowerGradient(const Product& product, const float* dy, size_t dy_stride,
                              size_t begin, size_t rows) const {
  Round(dy, dy_stride, product.weight->out(), begin, rows);
  for (const Slice& slice : product.slices) {
    if (!adapter_.Has(slice.module)) continue;
    const size_t out = adapter_.weights->shape.out[static_cast<size_t>(slice.module)];
    float* to = work_.d_low + begin * adapter_.low_stride +
                static_cast<size_t>(slice.module) * adapter_.rank;
    multiply_(kNo, kNo, rows, adapter_.rank, out, adapter_.scale,
              dy + begin * dy_stride + slice.column, dy_stride,
              adapter_.B(product.layer, slice.module), adapter_.rank, 0, to, adapter_.low_stride);
  }
}

void LlamaPass::GradientOfA(const Product& product, const Slice& slice, size_t rows, const float* x,
                            size_t x_stride, float* gradient) const {
  const LoraShape& shape = adapter_.weights->shape;
  const size_t in = product.weight->in();
  float* to = gradient + shape.OffsetA(static_cast<uint32_t>(product.layer), slice.module);
  multiply_(kYes, kNo, adapter_.rank, in, rows, 1,
            work_.d_low + static_cast<size_t>(slice.module) * adapter_.rank, adapter_.low_stride, x,
            x_stride, 0, to, in);
}

// The transposed product is computed, with `out` along the vectors, and then turned round. Its bits
// are the same, and it is up to twice as fast as a product with rows of `rank` numbers.
void LlamaPass::GradientOfB(const Product& product, const Slice& slice, size_t rows,
                            const float* dy, size_t dy_stride, const float* low,
                            float* gradient) const {
  const LoraShape& shape = adapter_.weights->shape;
  const auto module = static_cast<size_t>(slice.module);
  const size_t out = shape.out[module];
  const size_t rank = adapter_.rank;
  float* const turned = work_.turned + module * WidestOut(shape_) * rank;
  multiply_(kYes, kNo, rank, out, rows, adapter_.scale, low + module * rank, adapter_.low_stride,
            dy + slice.column, dy_stride, 0, turned, out);
  float* const to = gradient + shape.OffsetB(static_cast<uint32_t>(product.layer), slice.module);
  for (size_t i = 0; i < out; ++i) {
    for (size_t r = 0; r < rank; ++r) to[i * rank + r] = turned[r * out + i];
  }
}

void LlamaPass::InputGradient(const Product& product, const Tiles::Tile& tile, const float* dy,
                              size_t dy_stride, float* dx) const {
  const size_t in = product.weight->in();
  product.weight->Backward(tile, dy, dy_stride, dx, in, Rounded());
  for (const Slice& slice : product.slices) {
    if (!adapter_.Has(slice.module)) continue;
    multiply_(kNo, kNo, tile.rows, tile.columns, adapter_.rank, 1,
              work_.d_low + tile.row * adapter_.low_stride +
                  static_cast<size_t>(slice.module) * adapter_.rank,
              adapter_.low_stride, adapter_.A(product.layer, slice.module) + tile.column, in, 1,
              dx + tile.row * in + tile.column, in);
  }
}

template <class AfterTile>
void LlamaPass::MultiplyBackward(const Product& product, size_t rows, const float* x,
                                 size_t x_stride, const float* dy, size_t dy_stride,
                                 const float* low, float* dx, float* gradient,
                                 const ParallelFor& parallel, AfterTile&& after_tile) {
  const Tiles tiles(rows, product.weight->in());
  const size_t dx_parts = dx == nullptr ? 0 : tiles.size();
  RunParts(parallel, dx_parts + 2 * product.slices.size(), [&](size_t part) {
    if (part < dx_parts) {
      InputGradient(product, tiles[part], dy, dy_stride, dx);
      after_tile(tiles[part]);
      return;
    }
    const Slice& slice = product.slices[(part - dx_parts) / 2];
    if (!adapter_.Has(slice.module)) return;
    if ((part - dx_parts) % 2 == 0) {
      GradientOfA(product, slice, rows, x, x_stride, gradient);
    } else {
      GradientOfB(product, slice, rows, dy, dy_stride, low, gradient);
    }
  });
}

HeadView LlamaPass::ViewOf(size_t index, const Kept& kept, const PackedSequence& sequence,
                           size_t head) const {
  const LlamaLayer& layer = weights_->layers()[index];
  const size_t d = shape_.head_dim;
  const float* qkv = kept.qkv + sequence.begin * shape_.AttentionWidth();
  const float* keys = qkv + shape_.QueryWidth() + head / (shape_.heads / shape_.kv_heads) * d;
  return {.length = sequence.length,
          .head_dim = d,
          .stride = shape_.AttentionWidth(),
          .q = qkv + head * d,
          .k = keys,
          .v = keys + shape_.KeyWidth(),
          .cosine = rotations_.Cosine(0),
          .sine = rotations_.Sine(0),
          .pairs = shape_.rotary_pairs,
          .q_norm = layer.query_norm.empty() ? nullptr : layer.query_norm.data(),
          .k_norm = layer.key_norm.empty() ? nullptr : layer.key_norm.data(),
          .norm_epsilon = shape_.norm_epsilon,
          .multiply = multiply_};
}

// Calls body(sequence, head, queries, scratch) for each head of each sequence, and again for
// further queries of long ones: parts that take milliseconds, since others wait for a thread
// between them.
template <class Body>
void LlamaPass::ForHeads(const PackedRows& batch, const ParallelFor& parallel, Body&& body) {
  size_t longest = 0;
  for (const PackedSequence& sequence : batch.sequences) {
    longest = std::max(longest, sequence.length);
  }
  for (size_t begin = 0; begin < longest; begin += kQueriesAtOnce) {
    RunParts(parallel, batch.sequences.size() * shape_.heads, [&](size_t part) {
      const PackedSequence& sequence = batch.sequences[part / shape_.heads];
      if (begin >= sequence.length) return;
      const size_t head = part % shape_.heads;
      float* const scratch = work_.scratch +
                             shape_.heads * AttentionScratch(sequence.begin, shape_.head_dim) +
                             head * AttentionScratch(sequence.length, shape_.head_dim);
      body(sequence, head, QueryRows{begin, std::min(begin + kQueriesAtOnce, sequence.length)},
           scratch);
    });
  }
}

void LlamaPass::Attend(const PackedRows& batch, size_t layer, const Kept& kept,
                       const ParallelFor& parallel) {
  const size_t query = shape_.QueryWidth();
  ForHeads(batch, parallel,
           [&](const PackedSequence& sequence, size_t head, QueryRows queries, float* scratch) {
             AttentionForward(ViewOf(layer, kept, sequence, head), queries, scratch,
                              kept.attended + sequence.begin * query + head * shape_.head_dim,
                              query, kept.log_sum + head * batch.rows() + sequence.begin);
           });
}

void LlamaPass::AttendBackward(const PackedRows& batch, size_t layer, const Kept& kept,
                               const ParallelFor& parallel) {
  const size_t d = shape_.head_dim;
  const size_t stride = shape_.AttentionWidth();
  const size_t query = shape_.QueryWidth();
  ForHeads(batch, parallel,
           [&](const PackedSequence& sequence, size_t head, QueryRows queries, float* scratch) {
             const size_t at = sequence.begin * query + head * d;
             AttentionBackward(ViewOf(layer, kept, sequence, head), queries, kept.attended + at,
                               work_.d_attended + at, query,
                               kept.log_sum + head * batch.rows() + sequence.begin, scratch,
                               work_.d_qkv + sequence.begin * stride + head * d, stride,
                               work_.d_keys + at, work_.d_values + at, query);
           });
}

// Adds up what the heads of one group found for the keys and values that they share.
void LlamaPass::SumSharedKeys(size_t begin, size_t rows) {
  const size_t d = shape_.head_dim;
  const size_t group = shape_.heads / shape_.kv_heads;
  const size_t query = shape_.QueryWidth();
  for (size_t row = begin; row < begin + rows; ++row) {
    float* d_k = work_.d_qkv + row * shape_.AttentionWidth() + query;
    float* d_v = d_k + shape_.KeyWidth();
    std::fill(d_k, d_v + shape_.KeyWidth(), 0.0f);
    for (size_t head = 0; head < shape_.heads; ++head) {
      Add(work_.d_keys + row * query + head * d, d, d_k + head / group * d);
      Add(work_.d_values + row * query + head * d, d, d_v + head / group * d);
    }
  }
}

void LlamaPass::ForwardLayer(const PackedRows& batch, size_t index, const Kept& kept, float* next_x,
                             const ParallelFor& parallel) {
  const LlamaLayer& layer = weights_->layers()[index];
  const size_t rows = batch.rows();
  const size_t hidden = shape_.hidden;
  const size_t query = shape_.QueryWidth();
  const size_t feed = shape_.feed_forward;
  const Product qkv{&layer.query_key_value, qkv_slices_, index, layer.attention_bias};
  const Product output{&layer.output, output_slices_, index};
  const Product gate_up{&layer.gate_up, gate_up_slices_, index};
  const Product down{&layer.down, down_slices_, index};

  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    RmsNorm(kept.x + begin * hidden, layer.attention_norm.data(), count, hidden,
            shape_.norm_epsilon, work_.normed + begin * hidden);
    Lower(qkv, work_.normed, hidden, begin, count, kept.low);
  });
  Multiply(qkv, rows, work_.normed, hidden, kept.low, nullptr, kept.qkv, parallel);
  Attend(batch, index, kept, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    Lower(output, kept.attended, query, begin, count, kept.low);
  });
  Multiply(output, rows, kept.attended, query, kept.low, kept.x, kept.middle, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    RmsNorm(kept.middle + begin * hidden, layer.feed_norm.data(), count, hidden,
            shape_.norm_epsilon, work_.normed + begin * hidden);
    Lower(gate_up, work_.normed, hidden, begin, count, kept.low);
  });
  Multiply(gate_up, rows, work_.normed, hidden, kept.low, nullptr, kept.gate_up, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const float* gate = kept.gate_up + begin * 2 * feed;
    SwiGlu(gate, gate + feed, 2 * feed, count, feed, work_.active + begin * feed, feed);
    Lower(down, work_.active, feed, begin, count, kept.low);
  });
  if (next_x == nullptr) return;
  Multiply(down, rows, work_.active, feed, kept.low, kept.middle, next_x, parallel);
}

void LlamaPass::Forward(const PackedRows& batch, const LoraWeights* adapter, bool keep,
                        const ParallelFor& parallel) {
  UseAdapter(adapter);
  rows_ = batch.rows();
  Cutter cutter(arena_.get());
  work_ = Lay(shape_, rows_, max_rank_, LayersKept(rows_), cutter);
  float* x = KeptOf(0, keep).x;
  RunRows(parallel, batch.rows(), [&](size_t begin, size_t count) {
    for (size_t row = begin; row < begin + count; ++row) {
      weights_->Embedding(batch.tokens[row], x + row * shape_.hidden);
    }
  });
  for (size_t layer = 0; layer < shape_.layers; ++layer) {
    hidden_ = NextX(layer, keep);
    ForwardLayer(batch, layer, KeptOf(layer, keep), hidden_, parallel);
  }
}

// From the gradient of the block's output in work_.d_x to that of its middle, in place.
void LlamaPass::BackwardFeedForward(size_t rows, size_t index, const Kept& kept, float* gradient,
                                    const ParallelFor& parallel) {
  const LlamaLayer& layer = weights_->layers()[index];
  const size_t hidden = shape_.hidden;
  const size_t feed = shape_.feed_forward;
  const Product gate_up{&layer.gate_up, gate_up_slices_, index};
  const Product down{&layer.down, down_slices_, index};

  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const float* gate = kept.gate_up + begin * 2 * feed;
    SwiGlu(gate, gate + feed, 2 * feed, count, feed, work_.active + begin * feed, feed);
    LowerGradient(down, work_.d_x, hidden, begin, count);
  });
  MultiplyBackward(down, rows, work_.active, feed, work_.d_x, hidden, kept.low, work_.d_active,
                   gradient, parallel, [&](const Tiles::Tile& tile) {
                     const size_t at = tile.row * 2 * feed + tile.column;
                     SwiGluBackward(kept.gate_up + at, kept.gate_up + at + feed, 2 * feed,
                                    work_.d_active + tile.row * feed + tile.column, feed, tile.rows,
                                    tile.columns, work_.d_gate_up + at, work_.d_gate_up + at + feed,
                                    2 * feed);
                   });
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    LowerGradient(gate_up, work_.d_gate_up, 2 * feed, begin, count);
    RmsNorm(kept.middle + begin * hidden, layer.feed_norm.data(), count, hidden,
            shape_.norm_epsilon, work_.normed + begin * hidden);
  });
  MultiplyBackward(gate_up, rows, work_.normed, hidden, work_.d_gate_up, 2 * feed, kept.low,
                   work_.d_normed, gradient, parallel, [](const Tiles::Tile&) {});
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const size_t at = begin * hidden;
    RmsNormBackward(kept.middle + at, layer.feed_norm.data(), work_.d_normed + at, count, hidden,
                    shape_.norm_epsilon, work_.d_x + at);
  });
}

// From the gradient of the block's middle in work_.d_x to that of its input, in place. Nothing
// trainable lies below the first layer's q, k and v, so its input gets no gradient.
void LlamaPass::BackwardAttention(const PackedRows& batch, size_t index, const Kept& kept,
                                  float* gradient, const ParallelFor& parallel) {
  const LlamaLayer& layer = weights_->layers()[index];
  const size_t rows = batch.rows();
  const size_t hidden = shape_.hidden;
  const size_t attention = shape_.AttentionWidth();
  const Product qkv{&layer.query_key_value, qkv_slices_, index};
  const Product output{&layer.output, output_slices_, index};

  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    LowerGradient(output, work_.d_x, hidden, begin, count);
  });
  MultiplyBackward(output, rows, kept.attended, shape_.QueryWidth(), work_.d_x, hidden, kept.low,
                   work_.d_attended, gradient, parallel, [](const Tiles::Tile&) {});
  AttendBackward(batch, index, kept, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    SumSharedKeys(begin, count);
    LowerGradient(qkv, work_.d_qkv, attention, begin, count);
    RmsNorm(kept.x + begin * hidden, layer.attention_norm.data(), count, hidden,
            shape_.norm_epsilon, work_.normed + begin * hidden);
  });
  const bool first = index == 0;
  MultiplyBackward(qkv, rows, work_.normed, hidden, work_.d_qkv, attention, kept.low,
                   first ? nullptr : work_.d_normed, gradient, parallel, [](const Tiles::Tile&) {});
  if (first) return;
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const size_t at = begin * hidden;
    RmsNormBackward(kept.x + at, layer.attention_norm.data(), work_.d_normed + at, count, hidden,
                    shape_.norm_epsilon, work_.d_x + at);
  });
}

void LlamaPass::Backward(const PackedRows& batch, const LoraWeights& adapter,
                         std::span<float> gradient, const ParallelFor& parallel) {
  UseAdapter(&adapter);
  for (size_t layer = shape_.layers; layer-- > 0;) {
    const Kept kept = KeptOf(layer, true);
    if (layer < FirstKept()) ForwardLayer(batch, layer, kept, nullptr, parallel);
    BackwardFeedForward(batch.rows(), layer, kept, gradient.data(), parallel);
    BackwardAttention(batch, layer, kept, gradient.data(), parallel);
  }
}

}  // namespace nudge
