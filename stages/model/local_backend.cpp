#include "stages/model/local_backend.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "stages/dense_scan.h"
#include "stages/hash.h"
#include "stages/model/adapters/adapter_file.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "stages/model/learn/learner_shelf.h"
#include "stages/model/learn/quote.h"
#include "stages/model/own_answers.h"
#include "stages/model/serve/embedder.h"
#include "stages/model/serve/gguf_info.h"
#include "stages/model/serve/language_model.h"
#include "stages/model/serve/llama_runtime.h"
#include "stages/model/serve/served_form.h"
#include "stages/model/trainer/gemm.h"
#include "stages/state.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;

std::optional<std::string> Given(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional<std::string>(text);
}

std::string EncodeWeights(const LoraWeights& weights) {
  ByteWriter out;
  out.U8(kFormat);
  WriteShape(weights.shape, out);
  out.Floats(weights.values);
  return out.Take();
}

Result<LoraWeights> DecodeWeights(std::string_view bytes) {
  ByteReader in(bytes);
  const bool known = in.U8() == kFormat;
  LoraWeights weights;
  weights.shape = ReadShape(in);
  weights.values = in.Floats();
  if (!known || !in.complete() || weights.values.size() != weights.shape.Size()) {
    return Error{Code::kUnreadableFile, "state: the weights of an adapter are damaged",
                 "restore a backup of the state, or rebuild it from the log"};
  }
  return weights;
}

std::string Sha256Of(const std::string& path) {
  const Result<GgufInfo> info = ReadGgufInfo(path);  // what is wrong is said better by it
  if (!info.ok()) throw StartError(info.error().message + "; " + info.error().remedy);
  Result<std::string> sha256 = FileSha256(path);
  if (!sha256.ok()) throw StartError(sha256.error().message);
  return *std::move(sha256);
}

std::string ServedPath(const LocalBackendOptions& options, const std::string& source_sha256) {
  if (options.served_form == "file" || options.engine == "own") return options.language_model;
  const auto form = FindServedForm(options.language_model, source_sha256);
  if (!form.ok()) throw StartError(form.error().message + "; " + form.error().remedy);
  return form->value_or(options.language_model);
}

// Throws StartError: a model that the engine chosen cannot answer with.
LanguageModelOptions ModelOptionsOf(const LocalBackendOptions& options) {
  LanguageModelOptions model{options.slots, options.threads_per_answer, options.window_tokens};
  if (options.engine != "own") return model;
  const Result<LlamaShape> shape = FrozenWeights::Check(options.language_model);
  if (!shape.ok()) {
    throw StartError("model.engine: own cannot answer with this model: " + shape.error().message +
                     "; set it to llama, or name a GGUF file of architecture llama, qwen2 or "
                     "qwen3");
  }
  model.text_only = true;
  model.window_tokens =
      static_cast<uint32_t>(std::min<size_t>(model.window_tokens, shape->context));
  return model;
}

// The training side of the model: loaded once, shared by all learners, one step at a time.
struct Training {
  std::shared_ptr<const FrozenWeights> weights;
  std::unique_ptr<Trainer> trainer;
  AnchorPool anchors;
};

}  // namespace

class LocalBackend final : public Backend {
 public:
  explicit LocalBackend(const LocalBackendOptions& options)
      : options_(options),
        base_form_(options.learn ? BaseFormOf(options) : BaseForm{}),
        source_sha256_(Sha256Of(options.language_model)),
        model_(ServedPath(options, source_sha256_), ModelOptionsOf(options)),
        shelf_(options.learners_in_memory, options.spill_folder) {
    if (options_.engine == "own") {
      own_ = std::make_unique<OwnAnswers>(
          options_.language_model, model_,
          OwnAnswersOptions{.threads = options_.slots,
                            .answers_max = options_.answers_together_max,
                            .prompt_tokens_max = options_.prompt_tokens_together_max,
                            .keys_bytes_max = options_.keys_bytes_max,
                            .prefix_bytes_max = options_.prefix_bytes_max});
    }
    if (!options_.embedder.empty()) {
      embedder_ = std::make_unique<Embedder>(
          options_.embedder, options_.slots,
          EmbedderOptions{Given(options_.query_prefix), Given(options_.passage_prefix)});
    }
    const Result<GgufInfo> info = ReadGgufInfo(options_.language_model);
    if (!info.ok()) throw StartError(info.error().message);
    architecture_ = info->architecture;
    name_ = info->name;
    const Result<LlamaShape> shape = FrozenWeights::Check(options_.language_model);
    if (shape.ok()) {
      head_size_ = static_cast<uint32_t>(shape->head_dim);
    } else {
      untrainable_ = WithoutFolder(shape.error());
    }
    if (options_.learn) {
      for (const std::string& problem : Problems(options_.learner)) {
        throw StartError(problem);
      }
      ReadAnchors();
      if (shape.ok()) RequireMemory(*shape);
    }
  }

  std::string Fingerprint() const override {
    const std::string form =
        model_.sha256() == source_sha256_ ? "" : " served as " + model_.sha256();
    const std::string engine = own_ ? " answered by nudge's engine 1" : "";
    return LlamaFingerprint() + " model " + source_sha256_ + form + engine + " embedder " +
           embedder_identity() + " scan " + std::string(DenseScanPath()) + " train " +
           GemmPath(base_form_.products);
  }
  std::string base_sha256() const override { return source_sha256_; }
  std::string description() const override {
    const Result<Nothing> can = CanLearn();
    if (!can.ok()) {
      return model_.description() + "; it answers only" + (own_ ? ", by nudge's engine: " : ": ") +
             can.error().message;
    }
    return model_.description() + "; it answers" + (own_ ? " by nudge's engine" : "") +
           " and trains, with " + std::string(Name(base_form_.products)) + " products" +
           (base_form_.in_file ? " of the file's own weights" : "");
  }

  size_t dimension() const override { return embedder_ ? embedder_->dimension() : 0; }
  std::string embedder_identity() const override { return embedder_ ? embedder_->identity() : ""; }
  Result<Vector> Embed(size_t slot, std::string_view text, bool as_query) override {
    return embedder_->Embed(text, as_query, slot);
  }

  size_t CountTokens(const std::vector<ChatMessage>& chat) const override {
    const auto tokens = model_.RenderTokens(chat);
    // A chat that cannot be rendered fits no window, so it is refused where it is planned.
    return tokens.ok() ? tokens->size() : model_.window_tokens() + size_t{1};
  }
  size_t window_tokens() const override { return model_.window_tokens(); }
  // Whatever was shown and fits the window can be learnt, if alone.
  size_t lesson_tokens() const {
    return std::max<size_t>(options_.lesson_tokens_max, model_.window_tokens());
  }
  TrainerLimits trainer_limits() const {
    return {.max_tokens = lesson_tokens(),
            .max_rank = options_.learner.rank,
            .bytes_max = options_.training_bytes_max};
  }

  size_t answers_together() const override { return own_ ? options_.answers_together_max : 0; }
  void ForgetTexts(const TenantId& tenant) override {
    if (own_) own_->ForgetTexts(tenant);
  }
  ReadTokens read_tokens() const override { return own_ ? own_->read_tokens() : ReadTokens{}; }

  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    const auto prompt = model_.RenderTokens(chat);
    if (!prompt.ok()) return prompt.error();
    const Sampling sampling{decoding.temperature, decoding.top_p, decoding.top_k,
                            decoding.max_tokens, seed};
    Result<Completion> completion =
        own_ ? own_->Generate(*prompt, PackedOf(adapter), adapter == nullptr ? "" : adapter->digest,
                              sampling, asker)
             : model_.Generate(slot, *prompt, PluggedOf(adapter), sampling, asker.cancelled,
                               asker.on_text);
    if (!completion.ok()) return completion.error();
    const auto tokens = static_cast<uint32_t>(completion->tokens.size());
    const FinishReason reason = !completion->stopped_by_limit   ? FinishReason::kStop
                                : tokens >= decoding.max_tokens ? FinishReason::kLength
                                                                : FinishReason::kWindow;
    return Completed{std::move(completion->text), completion->prompt_tokens, tokens, reason};
  }

  Result<double> NegativeLogLikelihood(const std::vector<ChatMessage>& chat,
                                       const std::string& answer,
                                       const AdapterVersion* adapter) override {
    const auto prompt = model_.RenderTokens(chat);
    if (!prompt.ok()) return prompt.error();
    const auto completion = AnswerTokens(answer);
    if (!completion.ok()) return completion.error();
    if (own_) return own_->NegativeLogLikelihood(*prompt, *completion, PackedOf(adapter));
    return model_.NegativeLogLikelihood(0, *prompt, *completion, PluggedOf(adapter));
  }

  Result<Nothing> CanLearn() const override {
    if (!options_.learn) {
      return Error{Code::kUnsupportedModel, "learning is switched off", "set adapt.enabled"};
    }
    if (untrainable_) return *untrainable_;
    return Nothing{};
  }

  std::unique_ptr<BackendLearner> NewLearner(const TenantId& tenant) override;
  Result<std::unique_ptr<BackendLearner>> LoadLearner(const TenantId& tenant,
                                                      std::string_view saved) override;

  Result<std::shared_ptr<const AdapterVersion>> LoadVersion(std::string_view weights,
                                                            const std::string& digest,
                                                            const std::string& parent_digest,
                                                            const LearnCounts& counts) override {
    Result<LoraWeights> decoded = DecodeWeights(weights);
    if (!decoded.ok()) return decoded.error();
    if (Digest(*decoded) != digest) {
      return Error{Code::kUnreadableFile, "state: an adapter version is not what its digest says",
                   "restore a backup of the state, or rebuild it from the log"};
    }
    return MakeVersion(*decoded, parent_digest, counts, SerialFor());
  }

  Result<std::shared_ptr<const AdapterVersion>> ImportVersion(const std::string& path,
                                                              const std::string& sha256) override;
  Result<SnapshotRef> WriteSnapshot(const std::string& folder, const TenantId& tenant,
                                    Version number, const AdapterVersion& version) override;

  // ---- For its learners

  // Loads at the first call.
  Result<Training*> Learning(const ParallelFor& parallel_for) REQUIRES(learning_mutex_);
  // The outer lock of the shelf, and of what the trainer works in.
  Mutex& learning_mutex() RETURN_CAPABILITY(learning_mutex_) { return learning_mutex_; }
  LearnerShelf& shelf() { return shelf_; }
  const LearnerOptions& learner_options() const { return options_.learner; }
  Result<TokenExample> ExampleOf(const TextExample& text) const;
  std::optional<TrainSequence> CanaryOf(const TextExample& text,
                                        const std::vector<int32_t>& prompt) const;
  Result<std::shared_ptr<const AdapterVersion>> MakeVersion(const LoraWeights& weights,
                                                            const std::string& parent_digest,
                                                            const LearnCounts& counts,
                                                            const ParallelFor& parallel_for) const;

 private:
  static AdapterPointer PluggedOf(const AdapterVersion* adapter) {
    if (adapter == nullptr) return nullptr;
    return std::static_pointer_cast<const Adapter>(adapter->plugged);
  }

  static const PackedAdapter* PackedOf(const AdapterVersion* adapter) {
    return adapter == nullptr ? nullptr : static_cast<const PackedAdapter*>(adapter->plugged.get());
  }

  // For what answers: packed as it is, or for llama.cpp as half-precision numbers in a GGUF.
  Result<std::shared_ptr<const void>> Plug(const LoraWeights& weights,
                                           const AdapterManifest& manifest) const {
    if (own_) {
      auto packed = own_->Pack(weights);
      if (!packed.ok()) return packed.error();
      return std::shared_ptr<const void>(*std::move(packed));
    }
    Result<std::string> file = EncodeGguf(weights, manifest, {AdapterPrecision::kF16, false});
    if (!file.ok()) return file.error();
    auto loaded = model_.LoadAdapter(std::as_bytes(std::span(*file)));
    if (!loaded.ok()) return loaded.error();
    return std::shared_ptr<const void>(*std::move(loaded));
  }

  // As the model would have said it: its tokens and the end of its turn.
  Result<std::vector<int32_t>> AnswerTokens(const std::string& text) const {
    Result<std::vector<int32_t>> tokens = model_.Tokenize(text, false, false);
    if (tokens.ok()) tokens->push_back(model_.end_of_turn());
    return tokens;
  }

  AdapterManifest ManifestOf(const TenantId& tenant, Version number,
                             const AdapterVersion& version) const {
    AdapterManifest manifest;
    manifest.tenant = tenant;
    manifest.version = number;
    manifest.digest = version.digest;
    manifest.parent_digest = version.parent_digest;
    manifest.base_sha256 = source_sha256_;
    manifest.base_architecture = architecture_;
    manifest.steps = version.counts.steps;
    manifest.examples = version.counts.examples;
    manifest.corrections = version.counts.corrections;
    manifest.ups = version.counts.ups;
    manifest.downs = version.counts.downs;
    manifest.base_name = name_;
    manifest.base_head_size = head_size_;
    return manifest;
  }

  // Refuses to start where the first lesson would find no memory.
  void RequireMemory(const LlamaShape& shape) const;
  void ReadAnchors();
  // For outcomes: the model file by its name alone, since where it lies is the host's business.
  Error WithoutFolder(Error error) const {
    const std::string& path = options_.language_model;
    const std::string name = std::filesystem::path(path).filename().string();
    for (std::string* text : {&error.message, &error.remedy}) {
      for (size_t at = 0; (at = text->find(path, at)) != text->npos; at += name.size()) {
        text->replace(at, path.size(), name);
      }
    }
    return error;
  }
  AdapterExpectation Expected(const LoraShape& shape) const {
    return {source_sha256_, architecture_, shape, head_size_};
  }

  const LocalBackendOptions options_;
  const BaseForm base_form_;
  const std::string source_sha256_;  // of the model file, whatever form of it answers
  LanguageModel model_;
  std::unique_ptr<OwnAnswers> own_;  // null: the language model answers itself
  std::unique_ptr<Embedder> embedder_;
  std::string architecture_;
  std::string name_;
  uint32_t head_size_ = 0;            // of models that can be trained
  std::optional<Error> untrainable_;  // why the model cannot be
  std::vector<TrainSequence> anchor_sequences_;

  LearnerShelf shelf_;

  Mutex learning_mutex_;
  std::optional<Training> training_ GUARDED_BY(learning_mutex_);
};

// ---- A tenant's learner -------------------------------------------------------------------------

namespace {

class LocalLearner final : public BackendLearner {
 public:
  explicit LocalLearner(LocalBackend& backend) : backend_(backend), learner_(backend.shelf()) {}

  Result<LessonReport> Step(const TextExample& text, const ParallelFor& parallel_for) override {
    Result<TokenExample> example = backend_.ExampleOf(text);
    if (!example.ok()) return example.error();
    const MutexLock lock(backend_.learning_mutex());
    Result<Turn> turn = Ready(parallel_for);
    if (!turn.ok()) return turn.error();
    Result<StepReport> step =
        turn->learner.Step(*example, *turn->training.trainer, turn->training.anchors, parallel_for);
    if (!step.ok()) return step.error();
    LessonReport report;
    report.nll_before = step->nll_before;
    report.nll_after = step->nll_after;
    report.loss = step->loss;
    report.kl = step->kl;
    report.gradient_norm = step->gradient_norm;
    report.tokens = static_cast<uint32_t>(step->tokens);
    report.accepted = step->accepted;
    report.left_out = step->left_out;
    report.verdict = step->verdict;
    report.evidence = step->evidence;
    report.canary_drop = step->canary_drop;
    report.learnt_after_all = step->learnt_after_all;
    report.refused_for_good = step->refused_for_good;
    return report;
  }

  Result<std::shared_ptr<const AdapterVersion>> Publish(const std::string& parent,
                                                        const ParallelFor& parallel_for) override {
    const MutexLock lock(backend_.learning_mutex());
    Result<Turn> turn = Ready(parallel_for);
    if (!turn.ok()) return turn.error();
    return backend_.MakeVersion(turn->learner.weights(), parent, CountsOf(turn->learner),
                                parallel_for);
  }

  Result<Nothing> Adopt(const AdapterVersion* version) override {
    const MutexLock lock(backend_.learning_mutex());
    Result<Turn> turn = Ready(SerialFor());
    if (version == nullptr && !turn.ok() && turn.error().code == Code::kWrongAdapter) {
      learner_.Forget();  // e.g. learnt with another rank: a reset makes it new
      return Nothing{};
    }
    if (!turn.ok()) return turn.error();
    if (version == nullptr) return turn->learner.Adopt(nullptr);
    Result<LoraWeights> weights = DecodeWeights(version->weights);
    if (!weights.ok()) return weights.error();
    return turn->learner.Adopt(&*weights);
  }

  std::string Save() const override { return learner_.Save(); }

  void LoadLater(std::string_view saved) { learner_.Restore(saved); }

 private:
  struct Turn {
    Training& training;
    Learner& learner;
  };
  // The model's training side, and this tenant's learner; both may be used as long as the lock is
  // held.
  Result<Turn> Ready(const ParallelFor& parallel_for) REQUIRES(backend_.learning_mutex()) {
    Result<Training*> training = backend_.Learning(parallel_for);
    if (!training.ok()) return training.error();
    Result<Learner*> learner = learner_.Wake(*(*training)->weights, backend_.learner_options());
    if (!learner.ok()) return learner.error();
    return Turn{**training, **learner};
  }

  static LearnCounts CountsOf(const Learner& learner) {
    const LearnerCounts& counts = learner.counts();
    return {counts.steps, counts.steps,   counts.corrections, counts.ups,
            counts.downs, counts.refused, counts.set_aside};
  }

  LocalBackend& backend_;
  ShelvedLearner learner_;
};

}  // namespace

std::unique_ptr<BackendLearner> LocalBackend::NewLearner(const TenantId&) {
  return std::make_unique<LocalLearner>(*this);
}

Result<std::unique_ptr<BackendLearner>> LocalBackend::LoadLearner(const TenantId&,
                                                                  std::string_view saved) {
  auto learner = std::make_unique<LocalLearner>(*this);
  learner->LoadLater(saved);
  return std::unique_ptr<BackendLearner>(std::move(learner));
}

// ---- Learning -----------------------------------------------------------------------------------

void LocalBackend::RequireMemory(const LlamaShape& shape) const {
  const size_t matrices =
      shape.vocabulary * shape.hidden +
      shape.layers * (shape.hidden * (shape.AttentionWidth() + shape.QueryWidth()) +
                      3 * shape.hidden * shape.feed_forward);
  const TrainerLimits limits = trainer_limits();
  if (const size_t least = Trainer::LeastBytes(shape, limits); least > limits.bytes_max) {
    throw StartError("adapt.training_bytes_max: " + std::to_string(limits.bytes_max) +
                     " is too little for lessons of " + std::to_string(limits.max_tokens) +
                     " tokens, which need " + std::to_string(least) + " with " +
                     options_.language_model + ": raise it, or lower model.window_tokens");
  }
  const size_t number = base_form_.bf16() ? sizeof(uint16_t) : sizeof(float);
  try {  // unwritten pages take no memory, but count against every limit
    const AlignedFloats step = AllocateFloats(Trainer::MostBytes(shape, limits) / sizeof(float));
    if (base_form_.in_file) return;
    const AlignedFloats copy = AllocateFloats(matrices * number / sizeof(float));
  } catch (const std::bad_alloc&) {
    throw StartError(options_.language_model + ": no memory to train it: a copy of " +
                     std::to_string(matrices * number / 1'000'000) +
                     " MB and the work of a step: give it more, set adapt.base_memory to file, or "
                     "adapt.enabled to false");
  }
}

void LocalBackend::ReadAnchors() {
  if (options_.anchors_path.empty()) return;
  std::ifstream file(options_.anchors_path);
  if (!file) throw StartError("adapt.anchors_path: cannot read " + options_.anchors_path);
  size_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.empty()) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const auto text = [&](const char* key) {
      return json.is_object() && json.contains(key) && json[key].is_string()
                 ? json[key].get<std::string>()
                 : std::string();
    };
    Result<std::vector<int32_t>> prompt = std::vector<int32_t>{};
    Result<std::vector<int32_t>> rest = std::vector<int32_t>{};
    if (!text("text").empty()) {
      rest = model_.Tokenize(text("text"), true, false);
    } else if (!text("user").empty() && !text("assistant").empty()) {
      prompt = model_.RenderTokens({{"user", text("user")}});
      rest = AnswerTokens(text("assistant"));
    }
    const size_t begin = prompt.ok() && !prompt->empty() ? prompt->size() : 1;
    TrainSequence sequence;
    if (prompt.ok()) sequence.tokens = std::move(*prompt);
    if (rest.ok()) sequence.tokens.insert(sequence.tokens.end(), rest->begin(), rest->end());
    if (sequence.tokens.size() <= begin) {
      throw StartError(options_.anchors_path + ":" + std::to_string(number) +
                       R"(: expected {"user", "assistant"} or {"text"} with texts of two tokens)");
    }
    sequence.completion_begin = begin;
    anchor_sequences_.push_back(std::move(sequence));
  }
}

Result<Training*> LocalBackend::Learning(const ParallelFor& parallel_for) {
  if (training_) return &*training_;
  auto weights = FrozenWeights::Load(options_.language_model, base_form_);
  if (!weights.ok()) return WithoutFolder(weights.error());
  // The model that answers was read at the start: the one that learns must be the same.
  const Result<std::string> sha256 = FileSha256(options_.language_model);
  if (!sha256.ok()) return WithoutFolder(sha256.error());
  if (*sha256 != source_sha256_) {
    return WithoutFolder({Code::kUnreadableFile,
                          options_.language_model + " has changed since it was loaded",
                          "put the file back, or start nudge anew with an empty state"});
  }
  Training training;
  training.weights = *weights;
  try {
    training.trainer = std::make_unique<Trainer>(*weights, trainer_limits());
  } catch (const std::bad_alloc&) {
    return WithoutFolder({Code::kModelFailed, "no memory to train " + options_.language_model,
                          "free memory, or set adapt.enabled to false"});
  }
  Result<AnchorPool> anchors = AnchorPool::Make(anchor_sequences_, *training.trainer, parallel_for);
  if (!anchors.ok()) return anchors.error();
  training.anchors = std::move(*anchors);
  training_ = std::move(training);
  return &*training_;
}

std::optional<TrainSequence> LocalBackend::CanaryOf(const TextExample& text,
                                                    const std::vector<int32_t>& prompt) const {
  const std::optional<Quote> quote = QuoteIn(text.chat, text.question_bytes);
  if (!quote) return std::nullopt;
  const auto begin = model_.Tokenize(quote->begin, false, false);
  const auto rest = model_.Tokenize(quote->rest, false, false);
  if (!begin.ok() || !rest.ok() || rest->empty()) return std::nullopt;
  TrainSequence canary;
  canary.tokens = prompt;
  canary.tokens.insert(canary.tokens.end(), begin->begin(), begin->end());
  canary.completion_begin = canary.tokens.size();
  canary.tokens.insert(canary.tokens.end(), rest->begin(), rest->end());
  return canary;
}

Result<TokenExample> LocalBackend::ExampleOf(const TextExample& text) const {
  TokenExample example;
  example.reward = text.reward;
  example.voice = {SeedOf({text.source}), SeedOf({text.source, text.teacher})};
  Result<std::vector<int32_t>> prompt = model_.RenderTokens(text.chat);
  if (!prompt.ok()) return prompt.error();
  example.prompt = std::move(*prompt);
  example.own_answer = text.own_answer;
  example.place = text.place;
  example.quote = CanaryOf(text, example.prompt);
  if (text.correction) {
    Result<std::vector<int32_t>> correction = AnswerTokens(*text.correction);
    if (!correction.ok()) return correction.error();
    example.correction = std::move(*correction);
    // The answer that was shown is the correction already: there is nothing to push away from.
    if (*text.correction == text.shown) return example;
  }
  Result<std::vector<int32_t>> shown = AnswerTokens(text.shown);
  if (!shown.ok()) return shown.error();
  example.shown_completion = std::move(*shown);
  return example;
}

Result<std::shared_ptr<const AdapterVersion>> LocalBackend::MakeVersion(
    const LoraWeights& weights, const std::string& parent_digest, const LearnCounts& counts,
    const ParallelFor& parallel_for) const {
  auto version = std::make_shared<AdapterVersion>();
  version->parent_digest = parent_digest;
  version->counts = counts;
  AdapterManifest manifest = ManifestOf("local", 0, *version);
  manifest.digest = std::string(64, '0');  // nobody reads it from this file
  Result<std::shared_ptr<const void>> plugged = std::shared_ptr<const void>();
  // The digest takes as long as all the rest, so they go side by side.
  parallel_for(3, [&](int part) {
    if (part == 0) version->digest = Digest(weights);
    if (part == 1) plugged = Plug(weights, manifest);
    if (part == 2) version->weights = EncodeWeights(weights);
  });
  if (!plugged.ok()) return plugged.error();
  version->plugged = *plugged;
  return std::shared_ptr<const AdapterVersion>(std::move(version));
}

// ---- Files --------------------------------------------------------------------------------------

Result<std::shared_ptr<const AdapterVersion>> LocalBackend::ImportVersion(
    const std::string& path, const std::string& sha256) {
  const Result<AdapterFiles> files = ReadImport(options_.import_folder, path, sha256);
  if (!files.ok()) return files.error();
  const MutexLock lock(learning_mutex_);
  Result<Training*> training = Learning(SerialFor());
  if (!training.ok()) return training.error();
  const Result<ImportedAdapter> imported =
      DecodeFiles(*files, Expected(AdapterShape(*(*training)->weights, options_.learner)));
  if (!imported.ok()) return imported.error();
  const AdapterManifest& manifest = imported->manifest;
  return MakeVersion(
      imported->weights, manifest.parent_digest,
      {manifest.steps, manifest.examples, manifest.corrections, manifest.ups, manifest.downs, 0, 0},
      SerialFor());
}

Result<SnapshotRef> LocalBackend::WriteSnapshot(const std::string& folder, const TenantId& tenant,
                                                Version number, const AdapterVersion& version) {
  Result<LoraWeights> weights = DecodeWeights(version.weights);
  if (!weights.ok()) return weights.error();
  return nudge::WriteSnapshot(folder, *weights, ManifestOf(tenant, number, version));
}

BaseForm BaseFormOf(const LocalBackendOptions& options) {
  if (options.products == "bf16" && !HasBf16Products()) {
    throw StartError(
        "adapt.products: this processor has no bf16 products: set auto, f32 or portable");
  }
  BaseProducts products = BaseProducts::kF32;
  if (options.products == "portable") products = BaseProducts::kPortable;
  if (options.products == "bf16" || (options.products == "auto" && Bf16IsFaster())) {
    products = BaseProducts::kBf16;
  }
  return {.products = products, .in_file = options.base_memory == "file"};
}

std::unique_ptr<Backend> MakeLocalBackend(const LocalBackendOptions& options) {
  LocalBackendOptions copy = options;
  for (const std::string& wrong : keys::WrongValues(OptionsOf(copy))) throw StartError(wrong);
  auto backend = std::make_unique<LocalBackend>(options);
  std::set_new_handler(StopWithoutMemory);
  return backend;
}

std::string AnsweringFile(const LocalBackendOptions& options) {
  return ServedPath(options, Sha256Of(options.language_model));
}

}  // namespace nudge
