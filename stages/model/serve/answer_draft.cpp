#include "stages/model/serve/answer_draft.h"

#include <algorithm>
#include <string>

#include "stages/model/serve/sampler.h"

namespace nudge {
namespace {

// A character whose other bytes are still to come stands as U+FFFD at the end.
std::string_view WithoutHalfCharacters(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  while (text.ends_with(kReplacement)) text.remove_suffix(kReplacement.size());
  return text;
}

}  // namespace

std::optional<Error> WhyNoRoom(const LanguageModel& model, size_t prompt_tokens) {
  if (prompt_tokens > 0 && prompt_tokens < model.window_tokens()) return std::nullopt;
  return Error{Code::kModelFailed,
               "a prompt of " + std::to_string(prompt_tokens) +
                   " tokens leaves no room in the window of " +
                   std::to_string(model.window_tokens()),
               "shorten the prompt or the passages in it"};
}

AnswerDraft::AnswerDraft(const LanguageModel& model, std::span<const int32_t> prompt,
                         const Sampling& sampling,
                         const std::function<void(std::string_view)>& on_text)
    : model_(model),
      sampling_(sampling),
      on_text_(on_text),
      prompt_tokens_(prompt.size()),
      most_(prompt.size() +
            std::min<size_t>(sampling.max_tokens, model.window_tokens() - prompt.size())),
      tokens_(prompt.begin(), prompt.end()) {}

Result<bool> AnswerDraft::Draw(std::span<const float> logits) {
  const auto token = SampleToken(logits, sampling_, drawn().size());
  if (!token) {
    return Error{Code::kModelFailed, "logits that are not finite", "look at the adapter"};
  }
  ended_turn_ = model_.EndsTurn(*token);
  if (ended_turn_) return false;
  tokens_.push_back(*token);
  if (on_text_) Tell();
  return !full();
}

void AnswerDraft::Tell() {
  const std::string text = model_.Detokenize(drawn());
  const std::string_view whole = WithoutHalfCharacters(text);
  if (whole.size() > told_bytes_) on_text_(whole.substr(told_bytes_));
  told_bytes_ = std::max(told_bytes_, whole.size());
}

Completion AnswerDraft::Finish() const {
  Completion completion;
  completion.text = model_.Detokenize(drawn());
  completion.tokens.assign(drawn().begin(), drawn().end());
  completion.prompt_tokens = static_cast<uint32_t>(prompt_tokens_);
  completion.stopped_by_limit = !ended_turn_;
  return completion;
}

}  // namespace nudge
