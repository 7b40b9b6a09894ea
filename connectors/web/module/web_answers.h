// Greedy answers in a browser: prompt tokens -> [WebAnswers] -> the tokens that follow, by the
// answer engine, whose bits are those of the server's `model.engine: own`.
//
// One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "stages/model/engine/pass.h"
#include "stages/result.h"

namespace nudge {

class WebAnswers {
 public:
  // Room for one text of `window_tokens`, prompt and answer; cut to what the model was made for.
  // Errors as PackedModel::Pack; kModelFailed: no memory.
  static Result<std::unique_ptr<WebAnswers>> Make(std::shared_ptr<const FrozenWeights> weights,
                                                  size_t window_tokens);

  // The likeliest token each time, the lowest of equals, until one of `ends`, which is not told,
  // `tokens_max` of them, or the end of the window. Null adapter: the base model.
  // Errors: kModelFailed (no prompt, or one without room behind it; a token outside the vocabulary;
  // logits that are not finite).
  Result<std::vector<int32_t>> Answer(std::span<const int32_t> prompt,
                                      std::span<const int32_t> ends, size_t tokens_max,
                                      const PackedAdapter* adapter);

 private:
  WebAnswers(std::shared_ptr<const PackedModel> model, size_t window_tokens);
  Result<Nothing> Read(KeySequence& sequence, std::span<const int32_t> tokens,
                       const PackedAdapter* adapter);

  std::shared_ptr<const PackedModel> model_;
  const size_t window_tokens_;
  KeyPages pages_;
  EnginePass pass_;
  std::vector<float> logits_;  // [vocabulary], of the last token that was read
};

}  // namespace nudge
