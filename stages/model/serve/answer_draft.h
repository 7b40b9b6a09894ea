// An answer as it is written: logits -> [AnswerDraft] -> the next token, or the end. What an answer
// is does not depend on whose logits they are: sampling, limits, the end of the turn and what is
// told meanwhile are here.
//
// Used by one thread at a time; different drafts of one model by different threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "stages/model/serve/language_model.h"
#include "stages/result.h"

namespace nudge {

// kModelFailed: an empty prompt, or one that leaves no room for a token in the model's window.
std::optional<Error> WhyNoRoom(const LanguageModel& model, size_t prompt_tokens);

class AnswerDraft {
 public:
  // `model` and `on_text` (LanguageModel::Generate) outlive the draft. Requires a prompt with room.
  AnswerDraft(const LanguageModel& model, std::span<const int32_t> prompt, const Sampling& sampling,
              const std::function<void(std::string_view)>& on_text);

  // The prompt and what was drawn: what is to be read for the next logits.
  std::span<const int32_t> tokens() const { return tokens_; }
  // Nothing more may be drawn: max_tokens or the window.
  bool full() const { return tokens_.size() == most_; }

  // Draws the next token from logits [vocabulary]. False: the answer has ended. kModelFailed:
  // logits that are not finite. Requires that the draft is not full.
  Result<bool> Draw(std::span<const float> logits);

  Completion Finish() const;

 private:
  void Tell();
  std::span<const int32_t> drawn() const { return std::span(tokens_).subspan(prompt_tokens_); }

  const LanguageModel& model_;
  const Sampling sampling_;
  const std::function<void(std::string_view)>& on_text_;
  const size_t prompt_tokens_;
  const size_t most_;  // tokens of prompt and answer
  std::vector<int32_t> tokens_;
  size_t told_bytes_ = 0;
  bool ended_turn_ = false;
};

}  // namespace nudge
