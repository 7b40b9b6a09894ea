// Greedy answers in a browser: prompt tokens -> [WebAnswers] -> the tokens that follow, by the
// answer engine.
//
// One text at a time. Of a prompt that begins as the text before it did, by the same adapter, only
// the rest is read; no bit shows it (pass.h). One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "stages/model/engine/pass.h"
#include "stages/result.h"

namespace nudge {

class WebAnswers {
 public:
  static constexpr size_t kPassTokens = 64;  // of a prompt in one pass

  // Room for one text of `window_tokens`, prompt and answer; cut to what the model was made for.
  // Errors as PackedModel::Pack; kModelFailed: no memory.
  static Result<std::unique_ptr<WebAnswers>> Make(std::shared_ptr<const FrozenWeights> weights,
                                                  size_t window_tokens);

  // Null adapter: the base model. Reads nothing yet. Errors, after which the answer is the one
  // before: kModelFailed (no prompt, one without room behind it, a token outside the vocabulary).
  Result<Nothing> Begin(std::span<const int32_t> prompt,
                        std::shared_ptr<const PackedAdapter> adapter);

  bool has_begun() const { return !tokens_.empty(); }

  // Reads at most kPassTokens further tokens of the prompt; whether there are more. Requires
  // has_begun(). Errors as EnginePass::Run.
  Result<bool> Read();

  // Reads what is to be read, and draws the likeliest token, the lowest of equals; none once the
  // window is full. Requires has_begun(). Errors: kModelFailed (logits that are not finite).
  Result<std::optional<int32_t>> Next();
  std::span<const float> logits() const { return logits_; }  // of the last drawn, [vocabulary]

 private:
  WebAnswers(std::shared_ptr<const PackedModel> model, size_t window_tokens);

  std::shared_ptr<const PackedModel> model_;
  const size_t window_tokens_;
  KeyPages pages_;
  EnginePass pass_;
  std::vector<float> logits_;

  // Of the answer at hand.
  std::shared_ptr<const PackedAdapter> adapter_;
  std::vector<int32_t> tokens_;  // prompt and what was drawn
  KeySequence sequence_;         // of the first of them
};

}  // namespace nudge
