// Answers by nudge's own engine: prompt tokens -> [OwnAnswers] -> Completion, for the architectures
// that train. The numbers are the file's own, unrounded, and so are an adapter's; text, tokens and
// the chat template stay LanguageModel's.
//
// Bits repeat: they depend on the tokens, the adapter and the sampling alone.
//
// Thread contract: a slot is used by one thread at a time, different slots by different threads at
// once. Pack may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/model/engine/pass.h"
#include "stages/model/serve/language_model.h"
#include "stages/result.h"

namespace nudge {

class OwnAnswers {
 public:
  // Reads the weights of the GGUF file at `path`, whose text is `text`'s; `text` outlives it.
  // Throws StartError: weights that cannot be loaded, no memory.
  OwnAnswers(const std::string& path, const LanguageModel& text, size_t slots);
  ~OwnAnswers();
  OwnAnswers(const OwnAnswers&) = delete;
  OwnAnswers& operator=(const OwnAnswers&) = delete;

  // An adapter as the engine reads it; keeps nothing of this alive. kWrongAdapter.
  Result<std::shared_ptr<const PackedAdapter>> Pack(const LoraWeights& adapter) const;

  // As LanguageModel::Generate; `cancelled` is asked before every pass of at most kPassTokens.
  Result<Completion> Generate(size_t slot, std::span<const int32_t> prompt,
                              const PackedAdapter* adapter, const Sampling& sampling,
                              const std::function<bool()>& cancelled,
                              const std::function<void(std::string_view)>& on_text);

  // As LanguageModel::NegativeLogLikelihood.
  Result<double> NegativeLogLikelihood(size_t slot, std::span<const int32_t> prompt,
                                       std::span<const int32_t> completion,
                                       const PackedAdapter* adapter);

 private:
  struct Slot;
  class Claim;

  const LanguageModel& text_;
  std::shared_ptr<const PackedModel> model_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace nudge
