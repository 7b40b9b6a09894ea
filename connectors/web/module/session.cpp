#include "connectors/web/module/session.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "stages/hash.h"
#include "stages/model/adapters/lora_codec.h"
#include "stages/model/adapters/new_adapter.h"
#include "stages/state.h"

namespace nudge {

namespace {

constexpr uint8_t kFormat = 2;
constexpr uint8_t kFormatWithoutLog = 1;

}  // namespace

Result<std::unique_ptr<WebSession>> WebSession::Load(std::shared_ptr<const void> bytes,
                                                     size_t count, const WebOptions& options,
                                                     ParallelFor parallel) {
  if (options.rank < 1 || options.rank > 64 || options.step_tokens_max < 2 ||
      options.window_tokens < 2 || !std::isfinite(options.alpha) || options.alpha <= 0) {
    return Error{Code::kModelFailed,
                 "rank, alpha, or the tokens of a step or of the window are out of range",
                 "take a rank of 1 to 64, an alpha above 0, and two tokens or more of each"};
  }
  if (const auto problems = Problems(RuleOf(options)); !problems.empty()) {
    return Error{Code::kModelFailed, problems.front(), "change that option"};
  }
  const std::string sha256 =
      Sha256Hex(std::string_view(static_cast<const char*>(bytes.get()), count));
  auto weights = FrozenWeights::LoadBytes(std::move(bytes), count, "the model",
                                          {BaseProducts::kPortable, true});
  if (!weights.ok()) return weights.error();
  try {
    return std::unique_ptr<WebSession>(
        new WebSession(*std::move(weights), sha256, options, std::move(parallel)));
  } catch (const std::bad_alloc&) {
    return Error{Code::kModelFailed, "no memory to train this model",
                 "load it with fewer tokens a step, or take a smaller one"};
  }
}

WebSession::WebSession(std::shared_ptr<const FrozenWeights> weights, std::string base_sha256,
                       const WebOptions& options, ParallelFor parallel)
    : weights_(std::move(weights)),
      base_sha256_(std::move(base_sha256)),
      options_(options),
      shape_(AdapterShape(*weights_, RuleOf(options))),
      parallel_(std::move(parallel)),
      rule_(RuleOf(options)),
      trainer_(weights_, {options.step_tokens_max, options.rank}),
      adapter_(NewAdapter(shape_, options.seed)),
      optimizer_(shape_.Size()),
      learner_(*weights_, rule_),
      log_(base_sha256_, options) {}

Result<StepLosses> WebSession::Learn(std::span<const TrainSequence> sequences) {
  const std::span<float> gradient = trainer_.GradientScratch(shape_.Size());
  auto losses = trainer_.Gradients(adapter_, sequences, parallel_, gradient);
  if (!losses.ok()) return losses;
  log_.ReserveStep(sequences);
  if (auto taken = optimizer_.Step(rule_.optimizer, gradient, adapter_.values, SerialFor());
      !taken.ok()) {
    return taken.error();
  }
  packed_ = nullptr;
  learner_is_behind_ = true;
  ++steps_;
  log_.AddStep(sequences, digest());
  return losses;
}

void WebSession::SyncLearner() {
  if (!learner_is_behind_) return;
  const auto adopted = learner_.Adopt(&adapter_);
  ENSURE(adopted.ok());
  learner_is_behind_ = false;
}

Result<StepReport> WebSession::Teach(const TokenExample& example) {
  SyncLearner();
  Learner next = learner_;  // an exception in the middle of a step leaves no half of it
  auto report = next.Step(example, trainer_, anchors_, parallel_);
  if (!report.ok()) return report;
  log_.AddLesson(example, anchors_.sequences(), report->verdict, next.digest());
  learner_ = std::move(next);
  if (!report->accepted) return report;
  adapter_ = learner_.weights();
  optimizer_ = AdamW(shape_.Size());
  packed_ = nullptr;
  ++steps_;
  return report;
}

Result<Nothing> WebSession::SetAnchors(std::vector<TrainSequence> sequences) {
  auto pool = AnchorPool::Make(std::move(sequences), trainer_, parallel_);
  if (!pool.ok()) return pool.error();
  anchors_ = *std::move(pool);
  return Nothing{};
}

Result<Nothing> WebSession::Ask(std::span<const int32_t> prompt, bool plugged) {
  if (answers_ == nullptr) {
    auto made = WebAnswers::Make(weights_, options_.window_tokens);
    if (!made.ok()) return made.error();
    answers_ = std::move(made).value();
  }
  if (plugged && packed_ == nullptr) {
    auto packed = PackedAdapter::Pack(adapter_, *weights_);
    if (!packed.ok()) return packed.error();
    packed_ = *std::move(packed);
  }
  return answers_->Begin(prompt, plugged ? packed_ : nullptr);
}

Result<bool> WebSession::Read() {
  if (answers_ == nullptr || !answers_->has_begun()) {
    return Error{Code::kModelFailed, "nothing was asked", "begin an answer first"};
  }
  return answers_->Read();
}

Result<std::optional<int32_t>> WebSession::Next() {
  if (answers_ == nullptr || !answers_->has_begun()) {
    return Error{Code::kModelFailed, "nothing was asked", "begin an answer first"};
  }
  return answers_->Next();
}

std::string WebSession::digest() const {
  return Digest(adapter_);
}

Result<std::string> WebSession::Export(AdapterPrecision precision) const {
  AdapterManifest manifest;
  manifest.tenant = "browser";
  manifest.version = static_cast<uint32_t>(std::min<uint64_t>(steps_, UINT32_MAX));
  manifest.digest = digest();
  manifest.parent_digest = parent_digest_;
  manifest.base_sha256 = base_sha256_;
  manifest.base_architecture = weights_->architecture();
  manifest.base_head_size = static_cast<uint32_t>(weights_->shape().head_dim);
  manifest.steps = manifest.examples = steps_;
  return EncodeGguf(adapter_, manifest, {.precision = precision});
}

Result<Nothing> WebSession::Import(std::string_view gguf) {
  auto imported =
      DecodeGguf(gguf, {.base_sha256 = base_sha256_,
                        .base_architecture = weights_->architecture(),
                        .shape = shape_,
                        .base_head_size = static_cast<uint32_t>(weights_->shape().head_dim)});
  if (!imported.ok()) return imported.error();
  auto packed = PackedAdapter::Pack(imported->weights, *weights_);
  if (!packed.ok()) return packed.error();
  log_.AddAdapter(imported->values_digest);
  adapter_ = std::move(imported.value().weights);
  packed_ = *std::move(packed);
  optimizer_ = AdamW(shape_.Size());
  learner_is_behind_ = true;
  steps_ = imported->manifest.steps;
  parent_digest_ = imported->values_digest;
  return Nothing{};
}

std::string WebSession::Save() {
  SyncLearner();
  ByteWriter out;
  out.U8(kFormat);
  out.Text(base_sha256_);
  out.U64(steps_);
  out.Text(parent_digest_);
  out.Text(learner_.Save());
  log_.Save(out);
  return out.Take();
}

Result<Nothing> WebSession::Restore(std::string_view bytes) {
  ByteReader in(bytes);
  const uint8_t format = in.U8();
  const std::string base_sha256 = in.Text();
  const uint64_t steps = in.U64();
  const std::string parent_digest = in.Text();
  const std::string_view learner = in.View();
  LessonLog log(base_sha256_, options_);
  bool is_whole = format == kFormat || format == kFormatWithoutLog;
  if (format == kFormatWithoutLog) log.Cut("it was kept first by a version that had no log");
  if (format == kFormat) is_whole = log.Load(in).ok();
  if (!is_whole || !in.complete()) {
    return Error{Code::kUnreadableFile, "what was saved of the lessons is damaged",
                 "import an adapter that was exported"};
  }
  if (base_sha256 != base_sha256_) {
    return Error{Code::kWrongAdapter, "what was saved is of another model",
                 "load the model that it was saved with"};
  }
  auto loaded = Learner::Load(learner, *weights_, rule_);
  if (!loaded.ok()) return loaded.error();
  log.AddRestore(options_);
  log_ = std::move(log);
  learner_ = *std::move(loaded);
  learner_is_behind_ = false;
  adapter_ = learner_.weights();
  packed_ = nullptr;
  optimizer_ = AdamW(shape_.Size());
  steps_ = steps;
  parent_digest_ = parent_digest;
  return Nothing{};
}

void WebSession::Reset() {
  log_.AddAdapter("");
  adapter_ = NewAdapter(shape_, options_.seed);
  packed_ = nullptr;
  optimizer_ = AdamW(shape_.Size());
  learner_is_behind_ = true;
  steps_ = 0;
  parent_digest_ = "base";
}

}  // namespace nudge
