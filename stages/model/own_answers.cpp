#include "stages/model/own_answers.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <utility>

#include "stages/model/serve/answer_draft.h"
#include "stages/model/serve/sampler.h"

namespace nudge {
namespace {

// Of a prompt in one pass: most of what long passes gain, and a cancelled answer ends soon.
constexpr size_t kPassTokens = 64;
constexpr size_t kScoredTokens = 16;  // rows of logits in one pass: bounds the buffer

size_t PoolBytes(const LlamaShape& shape, size_t window_tokens) {
  return (window_tokens + kPageTokens - 1) / kPageTokens * KeyPages::PageBytes(shape);
}

std::shared_ptr<const PackedModel> LoadPacked(const std::string& path) {
  const auto weights = FrozenWeights::Load(path, {.in_file = true});
  if (!weights.ok()) throw StartError(weights.error().message + "; " + weights.error().remedy);
  auto packed = PackedModel::Pack(*weights, SerialFor());
  if (!packed.ok()) throw StartError(packed.error().message + "; " + packed.error().remedy);
  return *std::move(packed);
}

}  // namespace

// A pass with room for one text of a whole window: nobody waits for another slot's pages.
struct OwnAnswers::Slot {
  Slot(const std::shared_ptr<const PackedModel>& model, size_t window_tokens)
      : pool(model->shape(), PoolBytes(model->shape(), window_tokens)),
        pass(model, {.rows_max = kPassTokens, .positions_max = window_tokens}),
        logits(kScoredTokens * model->shape().vocabulary) {}

  // Reads the tokens that follow what `sequence` has read. The last one's logits are the first row
  // of `logits`.
  Result<Nothing> Read(KeySequence& sequence, std::span<const int32_t> tokens,
                       const PackedAdapter* adapter, const std::function<bool()>& cancelled,
                       WantedLogits last) {
    while (sequence.length() < tokens.size()) {
      if (cancelled && cancelled()) return Error{Code::kModelFailed, "cancelled", ""};
      const std::span<const int32_t> rest = tokens.subspan(sequence.length());
      const std::span<const int32_t> next = rest.first(std::min(rest.size(), kPassTokens));
      const EngineRows rows{&sequence, next, adapter,
                            next.size() == rest.size() ? last : WantedLogits::kNone};
      if (auto ran = pass.Run({&rows, 1}, SerialFor(), logits); !ran.ok()) return ran.error();
    }
    return Nothing{};
  }

  KeyPages pool;
  EnginePass pass;
  std::vector<float> logits;  // [kScoredTokens, vocabulary]
  std::atomic<bool> busy = false;
};

// A slot for the time of a call: two threads on one slot are a defect of the caller.
class OwnAnswers::Claim {
 public:
  Claim(OwnAnswers& answers, size_t slot) {
    ENSURE(slot < answers.slots_.size());
    slot_ = answers.slots_[slot].get();
    ENSURE(!slot_->busy.exchange(true));
  }
  ~Claim() { slot_->busy = false; }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  Slot* operator->() const { return slot_; }

 private:
  Slot* slot_;
};

OwnAnswers::OwnAnswers(const std::string& path, const LanguageModel& text, size_t slots)
    : text_(text), model_(LoadPacked(path)) {
  if (text_.vocabulary() != model_->shape().vocabulary) {
    throw StartError(path + ": has weights for " + std::to_string(model_->shape().vocabulary) +
                     " tokens and a vocabulary of " + std::to_string(text_.vocabulary()));
  }
  try {
    for (size_t i = 0; i < slots; ++i) {
      slots_.push_back(std::make_unique<Slot>(model_, text_.window_tokens()));
    }
  } catch (const std::bad_alloc&) {
    throw StartError(path + ": no memory to answer with it");
  }
}

OwnAnswers::~OwnAnswers() = default;

Result<std::shared_ptr<const PackedAdapter>> OwnAnswers::Pack(const LoraWeights& adapter) const {
  return PackedAdapter::Pack(adapter, model_->weights());
}

Result<Completion> OwnAnswers::Generate(size_t slot, std::span<const int32_t> prompt,
                                        const PackedAdapter* adapter, const Sampling& sampling,
                                        const std::function<bool()>& cancelled,
                                        const std::function<void(std::string_view)>& on_text) {
  if (auto error = WhyNoRoom(text_, prompt.size())) return *error;
  const Claim claim(*this, slot);
  AnswerDraft draft(text_, prompt, sampling, on_text);
  KeySequence sequence(claim->pool);
  while (!draft.full()) {
    auto read = claim->Read(sequence, draft.tokens(), adapter, cancelled, WantedLogits::kLast);
    if (!read.ok()) return read.error();
    const Result<bool> more = draft.Draw(std::span(claim->logits).first(text_.vocabulary()));
    if (!more.ok()) return more.error();
    if (!*more) break;
  }
  return draft.Finish();
}

Result<double> OwnAnswers::NegativeLogLikelihood(size_t slot, std::span<const int32_t> prompt,
                                                 std::span<const int32_t> completion,
                                                 const PackedAdapter* adapter) {
  if (prompt.empty() || completion.empty()) {
    return Error{Code::kModelFailed, "a prompt or a completion is empty", ""};
  }
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  tokens.insert(tokens.end(), completion.begin(), completion.end() - 1);
  const Claim claim(*this, slot);
  KeySequence sequence(claim->pool);
  const size_t first = prompt.size() - 1;  // whose logits are scored
  auto read =
      claim->Read(sequence, std::span(tokens).first(first), adapter, {}, WantedLogits::kNone);
  double sum = 0;
  for (size_t at = first; at < tokens.size() && read.ok(); at += kScoredTokens) {
    const size_t stop = std::min(tokens.size(), at + kScoredTokens);
    read = claim->Read(sequence, std::span(tokens).first(stop), adapter, {}, WantedLogits::kAll);
    for (size_t i = at; i < stop && read.ok(); ++i) {
      const size_t row = (i - at) * text_.vocabulary();
      sum += NegativeLogProbability(std::span(claim->logits).subspan(row, text_.vocabulary()),
                                    completion[i - first]);
    }
  }
  if (!read.ok()) return read.error();
  return sum / static_cast<double>(completion.size());
}

}  // namespace nudge
