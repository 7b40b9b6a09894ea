#include "stages/model/own_answers.h"

#include <new>
#include <utility>

#include "stages/model/serve/answer_draft.h"
#include "stages/model/serve/sampler.h"

namespace nudge {
namespace {

std::shared_ptr<const PackedModel> LoadPacked(const std::string& path, LoopThreads& loops) {
  const auto weights = FrozenWeights::Load(path, {.in_file = true});
  if (!weights.ok()) throw StartError(weights.error().message + "; " + weights.error().remedy);
  auto packed = PackedModel::Pack(*weights, loops.For());
  if (!packed.ok()) throw StartError(packed.error().message + "; " + packed.error().remedy);
  return *std::move(packed);
}

BatchLimits LimitsOf(const OwnAnswersOptions& options, const LlamaShape& shape,
                     size_t window_tokens) {
  const size_t least = TextBatch::KeysBytes(shape, window_tokens);
  if (options.keys_bytes_max < least) {
    throw StartError("model.keys_bytes_max: " + std::to_string(options.keys_bytes_max) +
                     " is too little for a text of " + std::to_string(window_tokens) +
                     " tokens, which needs " + std::to_string(least) +
                     ": raise it, or lower model.window_tokens");
  }
  return {.texts_max = options.answers_max,
          .prompt_tokens_max = options.prompt_tokens_max,
          .positions_max = window_tokens,
          .keys_bytes_max = options.keys_bytes_max,
          .prefix_bytes_max = options.prefix_bytes_max};
}

}  // namespace

// A caller that waits for its text to end.
class OwnAnswers::Reading : public BatchText {
 public:
  // Under the lock.
  CondVar ended;
  bool has_ended = false;
  std::optional<Error> error;
};

class OwnAnswers::Answer final : public Reading {
 public:
  Answer(const LanguageModel& model, std::span<const int32_t> prompt, const Sampling& sampling,
         const Asker& asker)
      : draft_(model, prompt, sampling, asker.on_text), asker_(asker) {}

  std::span<const int32_t> tokens() const override { return draft_.tokens(); }
  size_t wanted_from() const override { return tokens().size() - 1; }
  Result<bool> Take(std::span<const float> logits) override { return draft_.Draw(logits); }
  bool cancelled() override { return asker_.cancelled && asker_.cancelled(); }
  bool may_be_kept() override { return !asker_.forgotten || !asker_.forgotten(); }

  const AnswerDraft& draft() const { return draft_; }

 private:
  AnswerDraft draft_;
  const Asker& asker_;
};

class OwnAnswers::Score final : public Reading {
 public:
  Score(std::span<const int32_t> prompt, std::span<const int32_t> completion, size_t vocabulary)
      : wanted_from_(prompt.size() - 1),
        completion_(completion),
        vocabulary_(vocabulary),
        tokens_(prompt.begin(), prompt.end()) {
    tokens_.insert(tokens_.end(), completion.begin(), completion.end() - 1);
  }

  std::span<const int32_t> tokens() const override { return tokens_; }
  size_t wanted_from() const override { return wanted_from_; }
  Result<bool> Take(std::span<const float> logits) override {
    for (size_t at = 0; at < logits.size(); at += vocabulary_) {
      sum_ += NegativeLogProbability(logits.subspan(at, vocabulary_), completion_[scored_++]);
    }
    return scored_ < completion_.size();
  }
  bool cancelled() override { return false; }
  bool may_be_kept() override { return false; }

  double mean() const { return sum_ / static_cast<double>(completion_.size()); }

 private:
  const size_t wanted_from_;
  const std::span<const int32_t> completion_;
  const size_t vocabulary_;
  std::vector<int32_t> tokens_;
  size_t scored_ = 0;
  double sum_ = 0;
};

OwnAnswers::OwnAnswers(const std::string& path, const LanguageModel& text,
                       const OwnAnswersOptions& options)
    : text_(text), loops_(options.threads) {
  model_ = LoadPacked(path, loops_);
  if (text_.vocabulary() != model_->shape().vocabulary) {
    throw StartError(path + ": has weights for " + std::to_string(model_->shape().vocabulary) +
                     " tokens and a vocabulary of " + std::to_string(text_.vocabulary()));
  }
  try {
    batch_ = std::make_unique<TextBatch>(model_,
                                         LimitsOf(options, model_->shape(), text_.window_tokens()));
  } catch (const std::bad_alloc&) {
    throw StartError(path + ": no memory to answer with it");
  }
  thread_ = std::thread([this] { Work(); });
}

OwnAnswers::~OwnAnswers() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  asked_.NotifyOne();
  thread_.join();
}

Result<std::shared_ptr<const PackedAdapter>> OwnAnswers::Pack(const LoraWeights& adapter) const {
  return PackedAdapter::Pack(adapter, model_->weights());
}

Result<Completion> OwnAnswers::Generate(std::span<const int32_t> prompt,
                                        const PackedAdapter* adapter, const std::string& version,
                                        const Sampling& sampling, const Asker& asker) {
  if (auto error = WhyNoRoom(text_, prompt.size())) return *error;
  Answer answer(text_, prompt, sampling, asker);
  if (!answer.draft().full()) {
    if (auto error = Read(answer, {&answer, adapter, {asker.tenant, version}})) return *error;
  }
  return answer.draft().Finish();
}

Result<double> OwnAnswers::NegativeLogLikelihood(std::span<const int32_t> prompt,
                                                 std::span<const int32_t> completion,
                                                 const PackedAdapter* adapter) {
  if (prompt.empty() || completion.empty()) {
    return Error{Code::kModelFailed, "a prompt or a completion is empty", ""};
  }
  if (prompt.size() + completion.size() - 1 > text_.window_tokens()) {
    return Error{Code::kModelFailed,
                 "a text of " + std::to_string(prompt.size() + completion.size() - 1) +
                     " tokens is longer than the window of " +
                     std::to_string(text_.window_tokens()),
                 "shorten it"};
  }
  Score score(prompt, completion, text_.vocabulary());
  if (auto error = Read(score, {&score, adapter, {}})) return *error;
  return score.mean();
}

void OwnAnswers::ForgetTexts(const TenantId& tenant) {
  {
    const MutexLock lock(mutex_);
    forgotten_.push_back(tenant);
  }
  asked_.NotifyOne();
}

ReadTokens OwnAnswers::read_tokens() const {
  return {computed_.load(std::memory_order_relaxed), kept_.load(std::memory_order_relaxed)};
}

std::optional<Error> OwnAnswers::Read(Reading& reading, BatchedText text) {
  const MutexLock lock(mutex_);
  texts_.push_back(std::move(text));
  asked_.NotifyOne();
  reading.ended.Wait(mutex_, [&] { return reading.has_ended; });
  return std::move(reading.error);
}

// What a text keeps goes with a forget that comes later, since forgets are done between passes; and
// one that asked before a forget asks its Asker before it keeps anything.
void OwnAnswers::Work() {
  const ParallelFor parallel = loops_.For();
  const MutexLock lock(mutex_);
  while (true) {
    asked_.Wait(mutex_, [&]() REQUIRES(mutex_) {
      return stopping_ || !texts_.empty() || !forgotten_.empty() || !batch_->empty();
    });
    if (stopping_) return;
    const std::vector<BatchedText> texts = std::exchange(texts_, {});
    const std::vector<TenantId> forgotten = std::exchange(forgotten_, {});
    mutex_.Unlock();
    for (const TenantId& tenant : forgotten) batch_->Forget(tenant);
    for (const BatchedText& text : texts) batch_->Add(text);
    std::vector<TextBatch::End> ends = batch_->Step(parallel);
    computed_.store(batch_->read().computed, std::memory_order_relaxed);
    kept_.store(batch_->read().kept, std::memory_order_relaxed);
    mutex_.Lock();
    for (TextBatch::End& end : ends) {
      auto& reading = static_cast<Reading&>(*end.text);
      reading.error = std::move(end.error);
      reading.has_ended = true;
      reading.ended.NotifyOne();
    }
  }
}

}  // namespace nudge
