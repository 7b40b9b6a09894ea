#include "connectors/web/module/web_answers.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "stages/model/trainer/kernels.h"

namespace nudge {

namespace {

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
      logits_(model_->shape().vocabulary),
      sequence_(pages_) {}

Result<Nothing> WebAnswers::Begin(std::span<const int32_t> prompt,
                                  std::shared_ptr<const PackedAdapter> adapter) {
  if (prompt.empty() || prompt.size() >= window_tokens_) {
    return Error{Code::kModelFailed,
                 "a prompt of " + std::to_string(prompt.size()) +
                     " tokens; there is room for 1 to " + std::to_string(window_tokens_ - 1),
                 "shorten the prompt, or load the model with a larger window"};
  }
  for (const int32_t token : prompt) {
    if (token < 0 || static_cast<size_t>(token) >= logits_.size()) {
      return Error{Code::kModelFailed,
                   "token " + std::to_string(token) + " is not in the vocabulary",
                   "take the tokens of this model"};
    }
  }
  size_t same = 0;
  if (adapter == adapter_) {
    // The last token is read in any case, for its logits.
    const size_t most = std::min(sequence_.length(), prompt.size() - 1);
    while (same < most && prompt[same] == tokens_[same]) ++same;
  }
  KeySequence next(pages_);
  next.Share(sequence_.pages().first(same / kPageTokens));
  sequence_ = std::move(next);
  tokens_.assign(prompt.begin(), prompt.end());
  adapter_ = std::move(adapter);
  return Nothing{};
}

Result<bool> WebAnswers::Read() {
  const auto rest = std::span<const int32_t>(tokens_).subspan(sequence_.length());
  if (rest.empty()) return false;
  const EngineRows rows{&sequence_, rest.first(std::min(rest.size(), kPassTokens)), adapter_.get(),
                        rest.size() <= kPassTokens ? WantedLogits::kLast : WantedLogits::kNone};
  if (auto read = pass_.Run({&rows, 1}, SerialFor(), logits_); !read.ok()) return read.error();
  return sequence_.length() < tokens_.size();
}

Result<std::optional<int32_t>> WebAnswers::Next() {
  if (tokens_.size() >= window_tokens_) return std::optional<int32_t>();
  for (bool more = true; more;) {
    const auto read = Read();
    if (!read.ok()) return read.error();
    more = *read;
  }
  if (!AllFinite(logits_.data(), logits_.size())) {
    return Error{Code::kModelFailed, "logits that are not finite", "look at the adapter"};
  }
  const auto best = std::max_element(logits_.begin(), logits_.end());
  tokens_.push_back(static_cast<int32_t>(best - logits_.begin()));
  return std::optional<int32_t>(tokens_.back());
}

}  // namespace nudge
