#include "connectors/web/module/web_answers.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <string>
#include <utility>

namespace nudge {

namespace {

constexpr size_t kPassTokens = 64;  // of a prompt in one pass

size_t PoolBytes(const LlamaShape& shape, size_t window_tokens) {
  return (window_tokens + kPageTokens - 1) / kPageTokens * KeyPages::PageBytes(shape);
}

}  // namespace

Result<std::unique_ptr<WebAnswers>> WebAnswers::Make(std::shared_ptr<const FrozenWeights> weights,
                                                     size_t window_tokens) {
  auto model = PackedModel::Pack(std::move(weights), SerialFor());
  if (!model.ok()) return model.error();
  const size_t window = std::min(window_tokens, (*model)->shape().context);
  try {
    return std::unique_ptr<WebAnswers>(new WebAnswers(*std::move(model), window));
  } catch (const std::bad_alloc&) {
    return Error{Code::kModelFailed, "no memory to answer", "load the model with a smaller window"};
  }
}

WebAnswers::WebAnswers(std::shared_ptr<const PackedModel> model, size_t window_tokens)
    : model_(std::move(model)),
      window_tokens_(window_tokens),
      pages_(model_->shape(), PoolBytes(model_->shape(), window_tokens)),
      pass_(model_, {.rows_max = kPassTokens, .positions_max = window_tokens}),
      logits_(model_->shape().vocabulary) {}

Result<Nothing> WebAnswers::Read(KeySequence& sequence, std::span<const int32_t> tokens,
                                 const PackedAdapter* adapter) {
  while (sequence.length() < tokens.size()) {
    const std::span<const int32_t> rest = tokens.subspan(sequence.length());
    const std::span<const int32_t> next = rest.first(std::min(rest.size(), kPassTokens));
    const EngineRows rows{&sequence, next, adapter,
                          next.size() == rest.size() ? WantedLogits::kLast : WantedLogits::kNone};
    if (auto read = pass_.Run({&rows, 1}, SerialFor(), logits_); !read.ok()) return read.error();
  }
  return Nothing{};
}

Result<std::vector<int32_t>> WebAnswers::Answer(std::span<const int32_t> prompt,
                                                std::span<const int32_t> ends, size_t tokens_max,
                                                const PackedAdapter* adapter) {
  if (prompt.empty() || prompt.size() >= window_tokens_) {
    return Error{Code::kModelFailed,
                 "a prompt of " + std::to_string(prompt.size()) +
                     " tokens leaves no room in the window of " + std::to_string(window_tokens_),
                 "shorten the prompt"};
  }
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  const size_t most = prompt.size() + std::min(tokens_max, window_tokens_ - prompt.size());
  KeySequence sequence(pages_);
  while (tokens.size() < most) {
    if (auto read = Read(sequence, tokens, adapter); !read.ok()) return read.error();
    const auto best = std::max_element(logits_.begin(), logits_.end());
    if (!std::isfinite(*best)) {
      return Error{Code::kModelFailed, "logits that are not finite", "look at the adapter"};
    }
    const auto token = static_cast<int32_t>(best - logits_.begin());
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
    tokens.push_back(token);
  }
  return std::vector<int32_t>(tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()),
                              tokens.end());
}

}  // namespace nudge
