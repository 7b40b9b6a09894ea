// Answers by nudge's own engine: prompt tokens -> [OwnAnswers] -> Completion, for the architectures
// that train. The numbers are the file's own, unrounded, and so are an adapter's; text, tokens and
// the chat template stay LanguageModel's.
//
// Answers are computed together (engine/text_batch.h), by a thread of its own and those that share
// its loops; callers wait. Bits repeat: they depend on the tokens, the adapter and the sampling
// alone, whoever else asks.
//
// Thread contract: all calls from any thread, and as many at once as there are callers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "stages/guarded.h"
#include "stages/model/backend.h"
#include "stages/model/engine/text_batch.h"
#include "stages/model/loop_threads.h"
#include "stages/model/serve/language_model.h"
#include "stages/result.h"

namespace nudge {

struct OwnAnswersOptions {
  size_t threads = 1;  // of a pass
  size_t answers_max = 16;
  size_t prompt_tokens_max = 64;
  uint64_t keys_bytes_max = uint64_t{1} << 30;
  uint64_t prefix_bytes_max = uint64_t{1} << 28;
};

class OwnAnswers {
 public:
  // Reads the weights of the GGUF file at `path`, whose text is `text`'s; `text` outlives it.
  // Throws StartError: weights that cannot be loaded, no memory, none for the keys of a window.
  OwnAnswers(const std::string& path, const LanguageModel& text, const OwnAnswersOptions& options);
  // Requires that no call waits.
  ~OwnAnswers();
  OwnAnswers(const OwnAnswers&) = delete;
  OwnAnswers& operator=(const OwnAnswers&) = delete;

  // An adapter as the engine reads it; keeps nothing of this alive. kWrongAdapter.
  Result<std::shared_ptr<const PackedAdapter>> Pack(const LoraWeights& adapter) const;

  // As LanguageModel::Generate; what is kept of the tenant's texts goes by `version`, the adapter's
  // digest. Each wait is for passes alone: Asker::cancelled is asked before every one.
  Result<Completion> Generate(std::span<const int32_t> prompt, const PackedAdapter* adapter,
                              const std::string& version, const Sampling& sampling,
                              const Asker& asker);

  // As LanguageModel::NegativeLogLikelihood.
  Result<double> NegativeLogLikelihood(std::span<const int32_t> prompt,
                                       std::span<const int32_t> completion,
                                       const PackedAdapter* adapter);

  void ForgetTexts(const TenantId& tenant);
  ReadTokens read_tokens() const;

 private:
  class Reading;
  class Answer;
  class Score;

  std::optional<Error> Read(Reading& reading, BatchedText text);
  void Work();

  const LanguageModel& text_;
  std::shared_ptr<const PackedModel> model_;
  LoopThreads loops_;
  std::unique_ptr<TextBatch> batch_;  // its thread's
  std::atomic<uint64_t> computed_{0}, kept_{0};

  Mutex mutex_;
  CondVar asked_;
  std::vector<BatchedText> texts_ GUARDED_BY(mutex_);  // to join the batch
  std::vector<TenantId> forgotten_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace nudge
