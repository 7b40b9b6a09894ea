#include "stages/model/trainer/llama_pass.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "stages/model/trainer/attention.h"
#include "stages/model/trainer/kernels.h"

namespace nudge {

namespace {

constexpr Transpose kNo = Transpose::kNo;
constexpr Transpose kYes = Transpose::kYes;

// Cuts one allocation into arrays that each begin on a cache line; without memory it only measures.
class Cutter {
 public:
  explicit Cutter(float* memory) : memory_(memory) {}
  float* Next(size_t floats) {
    float* const here = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (floats + 15) / 16 * 16;
    return here;
  }
  size_t used() const { return used_; }

 private:
  float* memory_;
  size_t used_ = 0;
};

}  // namespace

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
                     uint32_t max_rank)
    : weights_(std::move(weights)), shape_(weights_->shape()) {
  const size_t q = shape_.QueryWidth();
  qkv_slices_ = {
      {LoraModule::kQuery, 0}, {LoraModule::kKey, q}, {LoraModule::kValue, q + shape_.KeyWidth()}};
  output_slices_ = {{LoraModule::kOutput, 0}};
  gate_up_slices_ = {{LoraModule::kGate, 0}, {LoraModule::kUp, shape_.feed_forward}};
  down_slices_ = {{LoraModule::kDown, 0}};
  kept_.resize(shape_.layers);
  Allocate(max_tokens, max_rank);
  FillRotations(std::min(max_tokens, shape_.context));
}

void LlamaPass::Allocate(size_t max_tokens, uint32_t max_rank) {
  const size_t positions = std::min(max_tokens, shape_.context);
  const size_t hidden = max_tokens * shape_.hidden;
  const size_t query = max_tokens * shape_.QueryWidth();
  const size_t attention = max_tokens * shape_.AttentionWidth();
  const size_t feed = max_tokens * shape_.feed_forward;
  const size_t low = max_tokens * kLoraModules * max_rank;
  widest_out_ = std::max({shape_.QueryWidth(), shape_.hidden, shape_.feed_forward});
  size_t floats = 0;
  for (const bool measuring : {true, false}) {
    if (!measuring) arena_ = AllocateFloats(floats);
    Cutter cutter(arena_.get());
    for (Kept& kept : kept_) {
      kept = {cutter.Next(hidden), cutter.Next(attention),
              cutter.Next(query),  cutter.Next(max_tokens * shape_.heads),
              cutter.Next(hidden), cutter.Next(2 * feed),
              cutter.Next(low)};
    }
    cosine_ = cutter.Next(positions * (shape_.head_dim / 2));
    sine_ = cutter.Next(positions * (shape_.head_dim / 2));
    last_x_ = cutter.Next(hidden);
    normed_ = cutter.Next(hidden);
    active_ = cutter.Next(feed);
    d_x_ = cutter.Next(hidden);
    d_normed_ = cutter.Next(hidden);
    d_active_ = cutter.Next(feed);
    d_gate_up_ = cutter.Next(2 * feed);
    d_attended_ = cutter.Next(query);
    d_qkv_ = cutter.Next(attention);
    d_keys_ = cutter.Next(query);
    d_values_ = cutter.Next(query);
    d_low_ = cutter.Next(low);
    turned_ = cutter.Next(kLoraModules * widest_out_ * max_rank);
    scratch_ = cutter.Next(shape_.heads * AttentionScratch(max_tokens, shape_.head_dim));
    floats = cutter.used();
  }
  hidden_ = last_x_;
}

void LlamaPass::FillRotations(size_t positions) {
  const size_t pairs = shape_.head_dim / 2;
  for (size_t i = 0; i < pairs; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(shape_.head_dim);
    const double frequency = std::pow(static_cast<double>(shape_.rope_theta), exponent) /
                             static_cast<double>(weights_->rope_factors()[i]);
    for (size_t position = 0; position < positions; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      cosine_[position * pairs + i] = static_cast<float>(std::cos(angle));
      sine_[position * pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void LlamaPass::UseAdapter(const LoraWeights* adapter) {
  adapter_ = {};
  if (adapter == nullptr) return;
  adapter_.weights = adapter;
  adapter_.rank = adapter->shape.rank;
  adapter_.scale = adapter->shape.alpha / static_cast<float>(adapter->shape.rank);
  adapter_.low_stride = kLoraModules * adapter_.rank;
}

// A pass that keeps nothing works in the first layer's memory, x going back and forth.
LlamaPass::Kept LlamaPass::KeptOf(size_t layer, bool keep) const {
  if (keep) return kept_[layer];
  Kept kept = kept_[0];
  if (layer % 2 == 1) kept.x = last_x_;
  return kept;
}

float* LlamaPass::NextX(size_t layer, bool keep) const {
  if (keep) return layer + 1 < kept_.size() ? kept_[layer + 1].x : last_x_;
  return KeptOf(layer + 1, false).x;
}

void LlamaPass::Lower(const Product& product, const float* x, size_t x_stride, size_t begin,
                      size_t rows, float* low) const {
  for (const Slice& slice : product.slices) {
    if (!adapter_.Has(slice.module)) continue;
    const size_t in = product.weight->in();
    float* to =
        low + begin * adapter_.low_stride + static_cast<size_t>(slice.module) * adapter_.rank;
    nudge::Multiply(kNo, kYes, rows, adapter_.rank, in, 1, x + begin * x_stride, x_stride,
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
    product.weight->Forward(tile, x, x_stride, adds, y, y_stride);
    for (const Slice& slice : product.slices) {
      if (!adapter_.Has(slice.module)) continue;
      const size_t out = adapter_.weights->shape.out[static_cast<size_t>(slice.module)];
      const size_t from = std::max(tile.column, slice.column);
      const size_t to = std::min(end, slice.column + out);
      if (from >= to) continue;
      nudge::Multiply(
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
  for (const Slice& slice : product.slices) {
    if (!adapter_.Has(slice.module)) continue;
    const size_t out = adapter_.weights->shape.out[static_cast<size_t>(slice.module)];
    float* to =
        d_low_ + begin * adapter_.low_stride + static_cast<size_t>(slice.module) * adapter_.rank;
    nudge::Multiply(kNo, kNo, rows, adapter_.rank, out, adapter_.scale,
                    dy + begin * dy_stride + slice.column, dy_stride,
                    adapter_.B(product.layer, slice.module), adapter_.rank, 0, to,
                    adapter_.low_stride);
  }
}

void LlamaPass::GradientOfA(const Product& product, const Slice& slice, size_t rows, const float* x,
                            size_t x_stride, float* gradient) const {
  const LoraShape& shape = adapter_.weights->shape;
  const size_t in = product.weight->in();
  float* to = gradient + shape.OffsetA(static_cast<uint32_t>(product.layer), slice.module);
  nudge::Multiply(kYes, kNo, adapter_.rank, in, rows, 1,
                  d_low_ + static_cast<size_t>(slice.module) * adapter_.rank, adapter_.low_stride,
                  x, x_stride, 0, to, in);
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
  float* const turned = turned_ + module * widest_out_ * rank;
  nudge::Multiply(kYes, kNo, rank, out, rows, adapter_.scale, low + module * rank,
                  adapter_.low_stride, dy + slice.column, dy_stride, 0, turned, out);
  float* const to = gradient + shape.OffsetB(static_cast<uint32_t>(product.layer), slice.module);
  for (size_t i = 0; i < out; ++i) {
    for (size_t r = 0; r < rank; ++r) to[i * rank + r] = turned[r * out + i];
  }
}

void LlamaPass::InputGradient(const Product& product, const Tiles::Tile& tile, const float* dy,
                              size_t dy_stride, float* dx) const {
  const size_t in = product.weight->in();
  product.weight->Backward(tile, dy, dy_stride, dx, in);
  for (const Slice& slice : product.slices) {
    if (!adapter_.Has(slice.module)) continue;
    nudge::Multiply(
        kNo, kNo, tile.rows, tile.columns, adapter_.rank, 1,
        d_low_ + tile.row * adapter_.low_stride + static_cast<size_t>(slice.module) * adapter_.rank,
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
          .cosine = cosine_,
          .sine = sine_,
          .pairs = shape_.rotary_pairs,
          .q_norm = layer.query_norm.empty() ? nullptr : layer.query_norm.data(),
          .k_norm = layer.key_norm.empty() ? nullptr : layer.key_norm.data(),
          .norm_epsilon = shape_.norm_epsilon};
}

void LlamaPass::Attend(const PackedRows& batch, size_t layer, const Kept& kept,
                       const ParallelFor& parallel) {
  const size_t d = shape_.head_dim;
  const size_t query = shape_.QueryWidth();
  RunParts(parallel, batch.sequences.size() * shape_.heads, [&](size_t part) {
    const PackedSequence& sequence = batch.sequences[part / shape_.heads];
    const size_t head = part % shape_.heads;
    const HeadView view = ViewOf(layer, kept, sequence, head);
    AttentionForward(view,
                     scratch_ + shape_.heads * AttentionScratch(sequence.begin, d) +
                         head * AttentionScratch(sequence.length, d),
                     kept.attended + sequence.begin * query + head * d, query,
                     kept.log_sum + head * batch.rows() + sequence.begin);
  });
}

void LlamaPass::AttendBackward(const PackedRows& batch, size_t layer, const Kept& kept,
                               const ParallelFor& parallel) {
  const size_t d = shape_.head_dim;
  const size_t stride = shape_.AttentionWidth();
  const size_t query = shape_.QueryWidth();
  RunParts(parallel, batch.sequences.size() * shape_.heads, [&](size_t part) {
    const PackedSequence& sequence = batch.sequences[part / shape_.heads];
    const size_t head = part % shape_.heads;
    const HeadView view = ViewOf(layer, kept, sequence, head);
    const size_t at = sequence.begin * query + head * d;
    float* memory = scratch_ + shape_.heads * AttentionScratch(sequence.begin, d) +
                    head * AttentionScratch(sequence.length, d);
    AttentionBackward(view, kept.attended + at, d_attended_ + at, query,
                      kept.log_sum + head * batch.rows() + sequence.begin, memory,
                      d_qkv_ + sequence.begin * stride + head * d, stride, d_keys_ + at,
                      d_values_ + at, query);
  });
}

// Adds up what the heads of one group found for the keys and values that they share.
void LlamaPass::SumSharedKeys(size_t begin, size_t rows) {
  const size_t d = shape_.head_dim;
  const size_t group = shape_.heads / shape_.kv_heads;
  const size_t query = shape_.QueryWidth();
  for (size_t row = begin; row < begin + rows; ++row) {
    float* d_k = d_qkv_ + row * shape_.AttentionWidth() + query;
    float* d_v = d_k + shape_.KeyWidth();
    std::fill(d_k, d_v + shape_.KeyWidth(), 0.0f);
    for (size_t head = 0; head < shape_.heads; ++head) {
      Add(d_keys_ + row * query + head * d, d, d_k + head / group * d);
      Add(d_values_ + row * query + head * d, d, d_v + head / group * d);
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
            shape_.norm_epsilon, normed_ + begin * hidden);
    Lower(qkv, normed_, hidden, begin, count, kept.low);
  });
  Multiply(qkv, rows, normed_, hidden, kept.low, nullptr, kept.qkv, parallel);
  Attend(batch, index, kept, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    Lower(output, kept.attended, query, begin, count, kept.low);
  });
  Multiply(output, rows, kept.attended, query, kept.low, kept.x, kept.middle, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    RmsNorm(kept.middle + begin * hidden, layer.feed_norm.data(), count, hidden,
            shape_.norm_epsilon, normed_ + begin * hidden);
    Lower(gate_up, normed_, hidden, begin, count, kept.low);
  });
  Multiply(gate_up, rows, normed_, hidden, kept.low, nullptr, kept.gate_up, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const float* gate = kept.gate_up + begin * 2 * feed;
    SwiGlu(gate, gate + feed, 2 * feed, count, feed, active_ + begin * feed, feed);
    Lower(down, active_, feed, begin, count, kept.low);
  });
  Multiply(down, rows, active_, feed, kept.low, kept.middle, next_x, parallel);
}

void LlamaPass::Forward(const PackedRows& batch, const LoraWeights* adapter, bool keep,
                        const ParallelFor& parallel) {
  UseAdapter(adapter);
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

// From the gradient of the block's output in d_x_ to that of its middle, in place.
void LlamaPass::BackwardFeedForward(size_t rows, size_t index, const Kept& kept, float* gradient,
                                    const ParallelFor& parallel) {
  const LlamaLayer& layer = weights_->layers()[index];
  const size_t hidden = shape_.hidden;
  const size_t feed = shape_.feed_forward;
  const Product gate_up{&layer.gate_up, gate_up_slices_, index};
  const Product down{&layer.down, down_slices_, index};

  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const float* gate = kept.gate_up + begin * 2 * feed;
    SwiGlu(gate, gate + feed, 2 * feed, count, feed, active_ + begin * feed, feed);
    LowerGradient(down, d_x_, hidden, begin, count);
  });
  MultiplyBackward(down, rows, active_, feed, d_x_, hidden, kept.low, d_active_, gradient, parallel,
                   [&](const Tiles::Tile& tile) {
                     const size_t at = tile.row * 2 * feed + tile.column;
                     SwiGluBackward(kept.gate_up + at, kept.gate_up + at + feed, 2 * feed,
                                    d_active_ + tile.row * feed + tile.column, feed, tile.rows,
                                    tile.columns, d_gate_up_ + at, d_gate_up_ + at + feed,
                                    2 * feed);
                   });
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    LowerGradient(gate_up, d_gate_up_, 2 * feed, begin, count);
    RmsNorm(kept.middle + begin * hidden, layer.feed_norm.data(), count, hidden,
            shape_.norm_epsilon, normed_ + begin * hidden);
  });
  MultiplyBackward(gate_up, rows, normed_, hidden, d_gate_up_, 2 * feed, kept.low, d_normed_,
                   gradient, parallel, [](const Tiles::Tile&) {});
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const size_t at = begin * hidden;
    RmsNormBackward(kept.middle + at, layer.feed_norm.data(), d_normed_ + at, count, hidden,
                    shape_.norm_epsilon, d_x_ + at);
  });
}

// From the gradient of the block's middle in d_x_ to that of its input, in place. Nothing trainable
// lies below the first layer's q, k and v, so its input gets no gradient.
void LlamaPass::BackwardAttention(const PackedRows& batch, size_t index, const Kept& kept,
                                  float* gradient, const ParallelFor& parallel) {
  const LlamaLayer& layer = weights_->layers()[index];
  const size_t rows = batch.rows();
  const size_t hidden = shape_.hidden;
  const size_t attention = shape_.AttentionWidth();
  const Product qkv{&layer.query_key_value, qkv_slices_, index};
  const Product output{&layer.output, output_slices_, index};

  RunRows(parallel, rows,
          [&](size_t begin, size_t count) { LowerGradient(output, d_x_, hidden, begin, count); });
  MultiplyBackward(output, rows, kept.attended, shape_.QueryWidth(), d_x_, hidden, kept.low,
                   d_attended_, gradient, parallel, [](const Tiles::Tile&) {});
  AttendBackward(batch, index, kept, parallel);
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    SumSharedKeys(begin, count);
    LowerGradient(qkv, d_qkv_, attention, begin, count);
    RmsNorm(kept.x + begin * hidden, layer.attention_norm.data(), count, hidden,
            shape_.norm_epsilon, normed_ + begin * hidden);
  });
  const bool first = index == 0;
  MultiplyBackward(qkv, rows, normed_, hidden, d_qkv_, attention, kept.low,
                   first ? nullptr : d_normed_, gradient, parallel, [](const Tiles::Tile&) {});
  if (first) return;
  RunRows(parallel, rows, [&](size_t begin, size_t count) {
    const size_t at = begin * hidden;
    RmsNormBackward(kept.x + at, layer.attention_norm.data(), d_normed_ + at, count, hidden,
                    shape_.norm_epsilon, d_x_ + at);
  });
}

void LlamaPass::Backward(const PackedRows& batch, const LoraWeights& adapter,
                         std::span<float> gradient, const ParallelFor& parallel) {
  UseAdapter(&adapter);
  for (size_t layer = shape_.layers; layer-- > 0;) {
    BackwardFeedForward(batch.rows(), layer, kept_[layer], gradient.data(), parallel);
    BackwardAttention(batch, layer, kept_[layer], gradient.data(), parallel);
  }
}

}  // namespace nudge
