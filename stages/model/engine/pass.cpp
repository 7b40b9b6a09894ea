#include "stages/model/engine/pass.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/thread_floats.h"

namespace nudge {

namespace {

constexpr size_t kModulesOfAProduct = 3;  // at most: q, k and v
constexpr size_t kQueriesOfABlock = 16;
// Numbers of scores that a block works on at a time, where one query has no more.
constexpr size_t kScoreNumbers = size_t{1} << 17;

EngineLimits Fit(EngineLimits limits, const LlamaShape& shape) {
  limits.positions_max = std::min(limits.positions_max, shape.context);
  return limits;
}

Error Refused(const std::string& message) {
  return {Code::kModelFailed, message, "shorten the text"};
}

// Calls body(part) for each part; one part is not worth telling other threads.
template <class Body>
void RunAll(const ParallelFor& parallel, size_t parts, Body&& body) {
  if (parts == 1) return body(size_t{0});
  RunParts(parallel, parts, body);
}

template <class Body>
void RunAllRows(const ParallelFor& parallel, size_t rows, Body&& body) {
  RunAll(parallel, (rows + kRowBlock - 1) / kRowBlock, [&](size_t part) {
    const size_t begin = part * kRowBlock;
    body(begin, std::min(kRowBlock, rows - begin));
  });
}

enum class PassScratch : uint8_t { kAttention };

}  // namespace

EnginePass::EnginePass(std::shared_ptr<const PackedModel> model, EngineLimits limits)
    : model_(std::move(model)),
      shape_(model_->shape()),
      limits_(Fit(limits, shape_)),
      path_(model_->path()),
      rotations_(model_->weights(), limits_.positions_max) {
  const size_t rows = limits_.rows_max;
  x_ = AllocateFloats(rows * shape_.hidden);
  normed_ = AllocateFloats(rows * shape_.hidden);
  qkv_ = AllocateFloats(rows * shape_.AttentionWidth());
  attended_ = AllocateFloats(rows * shape_.QueryWidth());
  gate_up_ = AllocateFloats(rows * 2 * shape_.feed_forward);
  active_ = AllocateFloats(rows * shape_.feed_forward);
  low_ = AllocateFloats(rows * kModulesOfAProduct * limits_.rank_max);
}

size_t EnginePass::WantedRows(EngineBatch batch) {
  size_t rows = 0;
  for (const EngineRows& of : batch) {
    if (of.wants == WantedLogits::kLast) ++rows;
    if (of.wants == WantedLogits::kAll) rows += of.tokens.size();
  }
  return rows;
}

Result<Nothing> EnginePass::Check(EngineBatch batch) const {
  size_t rows = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const EngineRows& of = batch[i];
    rows += of.tokens.size();
    if (of.tokens.empty()) return Refused("a sequence without new tokens");
    if (of.sequence->length() + of.tokens.size() > limits_.positions_max) {
      return Refused("a sequence of " + std::to_string(of.sequence->length() + of.tokens.size()) +
                     " tokens is longer than " + std::to_string(limits_.positions_max));
    }
    for (const int32_t token : of.tokens) {
      if (token < 0 || static_cast<size_t>(token) >= shape_.vocabulary) {
        return Refused("token " + std::to_string(token) + " is not in the vocabulary");
      }
    }
    if (of.adapter != nullptr && of.adapter->rank() > limits_.rank_max) {
      return Error{Code::kWrongAdapter,
                   "rank " + std::to_string(of.adapter->rank()) + " is over the limit of " +
                       std::to_string(limits_.rank_max),
                   "use an adapter of a lower rank"};
    }
    for (size_t j = 0; j < i; ++j) {
      if (batch[j].sequence == of.sequence) return Refused("a sequence is in the batch twice");
    }
  }
  if (rows == 0 || rows > limits_.rows_max) {
    return Refused("a batch of " + std::to_string(rows) + " tokens; 1 to " +
                   std::to_string(limits_.rows_max) + " can be read at a time");
  }
  return Nothing{};
}

Result<Nothing> EnginePass::Reserve(EngineBatch batch) {
  for (const EngineRows& of : batch) {
    const auto reserved = of.sequence->Reserve(of.tokens.size());
    if (reserved.ok()) continue;
    for (const EngineRows& other : batch) other.sequence->Trim();
    return reserved.error();
  }
  return Nothing{};
}

void EnginePass::AddGroup(const PackedAdapter* adapter, size_t rows) {
  if (groups_.empty() || groups_.back().adapter != adapter) {
    groups_.push_back({adapter, rows_, 0});
  }
  groups_.back().count += rows;
  rows_ += rows;
}

// Rows of the same adapter lie together, in the order in which adapters and sequences come.
void EnginePass::Lay(EngineBatch batch) {
  rows_ = 0;
  stretches_.clear();
  groups_.clear();
  places_.clear();
  tokens_.clear();
  wanted_.clear();
  std::vector<size_t> logits = {0};  // the first row of each one's
  for (const EngineRows& of : batch) logits.push_back(logits.back() + WantedRows({&of, 1}));
  for (size_t i = 0; i < batch.size(); ++i) {
    const PackedAdapter* const adapter = batch[i].adapter;
    const auto has_adapter = [&](const EngineRows& of) { return of.adapter == adapter; };
    const auto first = batch.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::any_of(batch.begin(), first, has_adapter)) continue;
    for (size_t j = i; j < batch.size(); ++j) {
      const EngineRows& of = batch[j];
      if (!has_adapter(of)) continue;
      stretches_.push_back({&of, rows_, of.tokens.size(), of.sequence->length()});
      for (size_t t = 0; t < of.tokens.size(); ++t) {
        places_.push_back({of.sequence, of.sequence->length() + t});
        tokens_.push_back(of.tokens[t]);
      }
      const size_t wanted = WantedRows({&of, 1});
      for (size_t w = 0; w < wanted; ++w) {
        wanted_.push_back({rows_ + of.tokens.size() - wanted + w, logits[j] + w});
      }
      AddGroup(adapter, of.tokens.size());
    }
  }
  CutQueries();
}

void EnginePass::CutQueries() {
  queries_.clear();
  const size_t group = shape_.heads / shape_.kv_heads;
  for (const Stretch& stretch : stretches_) {
    const size_t keys = stretch.position + stretch.count;
    const size_t most = std::clamp<size_t>(kScoreNumbers / (keys * group), 1, kQueriesOfABlock);
    for (size_t first = 0; first < stretch.count; first += most) {
      queries_.push_back({&stretch, first, std::min(most, stretch.count - first)});
    }
  }
}

void EnginePass::Lower(size_t layer, BlockProduct product, const float* x, size_t x_stride,
                       const ParallelFor& parallel) {
  struct Part {
    const Group* group;
    size_t first;
    size_t count;
  };
  std::vector<Part> parts;
  for (const Group& group : groups_) {
    if (group.adapter == nullptr || group.adapter->Of(layer, product).low() == 0) continue;
    for (size_t row = 0; row < group.count; row += kRowBlock) {
      parts.push_back({&group, group.first + row, std::min(kRowBlock, group.count - row)});
    }
  }
  const size_t stride = kModulesOfAProduct * limits_.rank_max;
  RunAll(parallel, parts.size(), [&](size_t index) {
    const Part& part = parts[index];
    const PackedMatrix& a = part.group->adapter->Of(layer, product).a;
    const Panels panels = PanelsOf(a);
    float* const low = low_.get() + part.first * stride;
    MultiplyPanels(panels, 0, panels.count(),
                   {part.count, x + part.first * x_stride, x_stride, low, stride}, path_);
    for (size_t row = 0; row < part.count; ++row) {
      Scale(low + row * stride, part.group->adapter->scale(), a.out(), low + row * stride);
    }
  });
}

void EnginePass::AddPieces(size_t layer, BlockProduct product, size_t first_panel, size_t panels,
                           float* y, size_t y_stride) const {
  const size_t begin = first_panel * kPanelColumns;
  const size_t end = begin + panels * kPanelColumns;
  const size_t stride = kModulesOfAProduct * limits_.rank_max;
  for (const Group& group : groups_) {
    if (group.adapter == nullptr) continue;
    const auto& pieces = group.adapter->Of(layer, product).pieces;
    for (size_t i = 0; i < pieces.size();) {
      const PackedAdapter::Piece& piece = pieces[i];
      Panels b = piece.b;
      for (++i; i < pieces.size() && b.out % kPanelColumns == 0 && pieces[i].low == piece.low &&
                pieces[i].column < end && piece.column >= begin;
           ++i) {
        b.out += pieces[i].b.out;  // whole panels so far: one after the other
      }
      if (piece.column < begin || piece.column >= end) continue;
      MultiplyPanels(b, 0, b.count(),
                     {group.count, low_.get() + group.first * stride + piece.low, stride,
                      y + group.first * y_stride + piece.column, y_stride, ProductMode::kAdd},
                     path_);
    }
  }
}

void EnginePass::Multiply(size_t layer, BlockProduct product, const float* x, size_t x_stride,
                          float* y, size_t y_stride, ProductMode mode,
                          const ParallelFor& parallel) {
  Lower(layer, product, x, x_stride, parallel);
  const Panels w = PanelsOf(model_->Of(layer, product));
  const ProductParts parts(w, rows_);
  RunAll(parallel, parts.size(), [&](size_t part) {
    MultiplyPanels(w, parts.First(part), parts.Count(part), {rows_, x, x_stride, y, y_stride, mode},
                   path_);
    AddPieces(layer, product, parts.First(part), parts.Count(part), y, y_stride);
  });
}

// Bias, norms of heads and rotation of a row's q, k and v; keys and values go to their page.
void EnginePass::StoreKeys(size_t layer, size_t row) {
  const LlamaLayer& weights = model_->weights().layers()[layer];
  const size_t d = shape_.head_dim;
  const RowAt& at = places_[row];
  float* const q = qkv_.get() + row * shape_.AttentionWidth();
  if (!weights.attention_bias.empty()) {
    Add(weights.attention_bias.data(), weights.attention_bias.size(), q);
  }
  const auto rotate = shape_.rotary_pairs == RotaryPairs::kAdjacent ? RotatePairs : RotateHalves;
  const float q_scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (size_t head = 0; head < shape_.heads + shape_.kv_heads; ++head) {
    const bool is_query = head < shape_.heads;
    const std::vector<float>& norm = is_query ? weights.query_norm : weights.key_norm;
    float* const x = q + head * d;
    if (!norm.empty()) RmsNorm(x, norm.data(), 1, d, shape_.norm_epsilon, x);
    rotate(Rotation::kForward, x, d, 1, d, rotations_.Cosine(at.position),
           rotations_.Sine(at.position), is_query ? q_scale : 1, x, d);
  }
  const PageId page = at.sequence->pages()[at.position / kPageTokens];
  const size_t token = at.position % kPageTokens;
  KeyPages& pool = at.sequence->pool();
  for (size_t head = 0; head < shape_.kv_heads; ++head) {
    const float* const k = q + shape_.QueryWidth() + head * d;
    const float* const v = k + shape_.KeyWidth();
    float* const keys = pool.Keys(page, layer, head);
    for (size_t i = 0; i < d; ++i) keys[i * kPageTokens + token] = k[i];
    float* values = pool.Values(page, layer, head);
    for (size_t i = 0; i < d; i += kPanelColumns) {
      const size_t columns = std::min(kPanelColumns, d - i);
      const size_t width = (columns + kColumnStep - 1) / kColumnStep * kColumnStep;
      std::copy_n(v + i, columns, values + token * width);
      values += kPageTokens * width;
    }
  }
}

// The queries of a block that share this key head: scores and what they draw of the values are
// products, over pages in their order.
void EnginePass::Attend(size_t layer, const QueryBlock& block, size_t kv_head) {
  const size_t d = shape_.head_dim;
  const size_t heads = shape_.heads / shape_.kv_heads;
  const size_t rows = block.count * heads;
  const Stretch& stretch = *block.stretch;
  const size_t position = stretch.position + block.first;
  const size_t keys = position + block.count;
  const size_t pages = (keys + kPageTokens - 1) / kPageTokens;
  const size_t stride = pages * kPageTokens;
  float* const q = ThreadFloats<PassScratch::kAttention>(rows * (2 * d + stride));
  float* const y = q + rows * d;
  float* const scores = y + rows * d;
  const size_t first_row = stretch.first + block.first;
  const size_t query = kv_head * heads * d;  // column of q
  for (size_t t = 0; t < block.count; ++t) {
    std::copy_n(qkv_.get() + (first_row + t) * shape_.AttentionWidth() + query, heads * d,
                q + t * heads * d);
  }
  KeyPages& pool = stretch.of->sequence->pool();
  for (size_t p = 0; p < pages; ++p) {
    const float* const page = pool.Keys(stretch.of->sequence->pages()[p], layer, kv_head);
    MultiplyPanels({WeightForm::kFloats, kPageTokens, d, reinterpret_cast<const uint8_t*>(page)}, 0,
                   1, {rows, q, d, scores + p * kPageTokens, stride}, path_);
  }
  for (size_t row = 0; row < rows; ++row) {
    float log_sum;
    CausalSoftmax(scores + row * stride, stride, position + row / heads, 1, stride, &log_sum);
  }
  for (size_t p = 0; p < pages; ++p) {
    const float* values = pool.Values(stretch.of->sequence->pages()[p], layer, kv_head);
    const size_t tokens = std::min(kPageTokens, keys - p * kPageTokens);
    for (size_t i = 0; i < d; i += kPanelColumns) {
      const size_t columns = std::min(kPanelColumns, d - i);
      const size_t width = (columns + kColumnStep - 1) / kColumnStep * kColumnStep;
      MultiplyPanels(
          {WeightForm::kFloats, columns, tokens, reinterpret_cast<const uint8_t*>(values)}, 0, 1,
          {rows, scores + p * kPageTokens, stride, y + i, d,
           p == 0 ? ProductMode::kSet : ProductMode::kContinue},
          path_);
      values += kPageTokens * width;
    }
  }
  for (size_t t = 0; t < block.count; ++t) {
    std::copy_n(y + t * heads * d, heads * d,
                attended_.get() + (first_row + t) * shape_.QueryWidth() + query);
  }
}

// Nothing but the wanted rows goes on behind the last keys and values.
void EnginePass::KeepWanted() {
  std::vector<Group> before;
  before.swap(groups_);
  rows_ = 0;
  auto wanted = wanted_.cbegin();
  for (const Group& group : before) {
    for (; wanted != wanted_.end() && wanted->row < group.first + group.count; ++wanted) {
      std::copy_n(x_.get() + wanted->row * shape_.hidden, shape_.hidden,
                  x_.get() + rows_ * shape_.hidden);
      std::copy_n(attended_.get() + wanted->row * shape_.QueryWidth(), shape_.QueryWidth(),
                  attended_.get() + rows_ * shape_.QueryWidth());
      AddGroup(group.adapter, 1);
    }
  }
}

void EnginePass::Layer(size_t layer, const ParallelFor& parallel) {
  const LlamaLayer& weights = model_->weights().layers()[layer];
  const size_t hidden = shape_.hidden;
  const size_t feed = shape_.feed_forward;
  const auto norm = [&](const std::vector<float>& weight) {
    RunAllRows(parallel, rows_, [&](size_t begin, size_t count) {
      RmsNorm(x_.get() + begin * hidden, weight.data(), count, hidden, shape_.norm_epsilon,
              normed_.get() + begin * hidden);
    });
  };
  norm(weights.attention_norm);
  Multiply(layer, BlockProduct::kQueryKeyValue, normed_.get(), hidden, qkv_.get(),
           shape_.AttentionWidth(), ProductMode::kSet, parallel);
  RunAllRows(parallel, rows_, [&](size_t begin, size_t count) {
    for (size_t row = begin; row < begin + count; ++row) StoreKeys(layer, row);
  });
  const bool is_last = layer + 1 == shape_.layers;
  if (is_last && wanted_.empty()) return;
  RunAll(parallel, queries_.size() * shape_.kv_heads, [&](size_t part) {
    Attend(layer, queries_[part / shape_.kv_heads], part % shape_.kv_heads);
  });
  if (is_last) KeepWanted();
  Multiply(layer, BlockProduct::kOutput, attended_.get(), shape_.QueryWidth(), x_.get(), hidden,
           ProductMode::kAdd, parallel);
  norm(weights.feed_norm);
  Multiply(layer, BlockProduct::kGateUp, normed_.get(), hidden, gate_up_.get(), 2 * feed,
           ProductMode::kSet, parallel);
  RunAllRows(parallel, rows_, [&](size_t begin, size_t count) {
    const float* const gate = gate_up_.get() + begin * 2 * feed;
    SwiGlu(gate, gate + feed, 2 * feed, count, feed, active_.get() + begin * feed, feed);
  });
  Multiply(layer, BlockProduct::kDown, active_.get(), feed, x_.get(), hidden, ProductMode::kAdd,
           parallel);
}

// Rows are where KeepWanted left them, in the order of wanted_.
void EnginePass::Logits(std::span<float> logits, const ParallelFor& parallel) {
  const size_t hidden = shape_.hidden;
  const float* const norm = model_->weights().final_norm().data();
  RunAllRows(parallel, rows_, [&](size_t begin, size_t count) {
    for (size_t row = begin; row < begin + count; ++row) {
      RmsNorm(x_.get() + row * hidden, norm, 1, hidden, shape_.norm_epsilon,
              normed_.get() + wanted_[row].to * hidden);
    }
  });
  const Panels head = PanelsOf(model_->head());
  const ProductParts parts(head, rows_);
  RunAll(parallel, parts.size(), [&](size_t part) {
    MultiplyPanels(head, parts.First(part), parts.Count(part),
                   {rows_, normed_.get(), hidden, logits.data(), shape_.vocabulary}, path_);
  });
}

Result<Nothing> EnginePass::Run(EngineBatch batch, const ParallelFor& parallel,
                                std::span<float> logits) {
  const auto checked = Check(batch);
  if (!checked.ok()) return checked.error();
  const auto reserved = Reserve(batch);
  if (!reserved.ok()) return reserved.error();
  Lay(batch);
  ENSURE(logits.size() >= wanted_.size() * shape_.vocabulary);
  RunAllRows(parallel, rows_, [&](size_t begin, size_t count) {
    for (size_t row = begin; row < begin + count; ++row) {
      model_->weights().Embedding(tokens_[row], x_.get() + row * shape_.hidden);
    }
  });
  for (size_t layer = 0; layer < shape_.layers; ++layer) Layer(layer, parallel);
  if (!wanted_.empty()) Logits(logits, parallel);
  for (const EngineRows& of : batch) of.sequence->Advance(of.tokens.size());
  return Nothing{};
}

}  // namespace nudge
