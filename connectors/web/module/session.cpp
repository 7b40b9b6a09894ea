#include "connectors/web/module/session.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "stages/hash.h"
#include "stages/model/adapters/lora_codec.h"
#include "stages/model/adapters/new_adapter.h"

namespace nudge {

namespace {

constexpr std::array<bool, kLoraModules> kEveryModule = {true, true, true, true, true, true, true};

}  // namespace

Result<std::unique_ptr<WebSession>> WebSession::Load(std::shared_ptr<const void> bytes,
                                                     size_t count, const WebOptions& options) {
  if (options.rank < 1 || options.rank > 64 || options.step_tokens_max < 2 ||
      options.window_tokens < 2 || !std::isfinite(options.alpha) || options.alpha <= 0) {
    return Error{Code::kModelFailed,
                 "rank, alpha, or the tokens of a step or of the window are out of range",
                 "take a rank of 1 to 64, an alpha above 0, and two tokens or more of each"};
  }
  const std::string sha256 =
      Sha256Hex(std::string_view(static_cast<const char*>(bytes.get()), count));
  auto weights = FrozenWeights::LoadBytes(std::move(bytes), count, "the model",
                                          {BaseProducts::kPortable, true});
  if (!weights.ok()) return weights.error();
  try {
    return std::unique_ptr<WebSession>(new WebSession(*std::move(weights), sha256, options));
  } catch (const std::bad_alloc&) {
    return Error{Code::kModelFailed, "no memory to train this model",
                 "load it with fewer tokens a step, or take a smaller one"};
  }
}

WebSession::WebSession(std::shared_ptr<const FrozenWeights> weights, std::string base_sha256,
                       const WebOptions& options)
    : weights_(std::move(weights)),
      base_sha256_(std::move(base_sha256)),
      shape_(weights_->AdapterShape(options.rank, options.alpha, kEveryModule)),
      seed_(options.seed),
      trainer_(weights_, {options.step_tokens_max, options.rank}),
      adapter_(NewAdapter(shape_, seed_)),
      optimizer_(shape_.Size()),
      window_tokens_(options.window_tokens) {}

Result<StepLosses> WebSession::Learn(std::span<const TrainSequence> sequences) {
  const std::span<float> gradient = trainer_.GradientScratch(shape_.Size());
  auto losses = trainer_.Gradients(adapter_, sequences, SerialFor(), gradient);
  if (!losses.ok()) return losses;
  if (auto taken = optimizer_.Step({}, gradient, adapter_.values, SerialFor()); !taken.ok()) {
    return taken.error();
  }
  packed_ = nullptr;
  ++steps_;
  return losses;
}

Result<Nothing> WebSession::Ask(std::span<const int32_t> prompt, bool plugged) {
  if (answers_ == nullptr) {
    auto made = WebAnswers::Make(weights_, window_tokens_);
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
  adapter_ = std::move(imported.value().weights);
  packed_ = nullptr;
  optimizer_ = AdamW(shape_.Size());
  steps_ = imported->manifest.steps;
  parent_digest_ = imported->values_digest;
  return Nothing{};
}

void WebSession::Reset() {
  adapter_ = NewAdapter(shape_, seed_);
  packed_ = nullptr;
  optimizer_ = AdamW(shape_.Size());
  steps_ = 0;
  parent_digest_ = "base";
}

}  // namespace nudge
