#include "stages/model/serve/language_model.h"

#include <ggml.h>
#include <llama.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <utility>

#include "stages/hash.h"
#include "stages/model/serve/adapter_check.h"
#include "stages/model/serve/answer_draft.h"
#include "stages/model/serve/chat_tokens.h"
#include "stages/model/serve/gguf_info.h"
#include "stages/model/serve/llama_runtime.h"
#include "stages/model/serve/sampler.h"

namespace nudge {
namespace {

constexpr uint32_t kBatchTokens = 512;  // of the prompt, in one pass
constexpr uint32_t kScoredTokens = 16;  // rows of logits in one pass: bounds the buffers

using ContextPointer = std::unique_ptr<llama_context, decltype(&llama_free)>;

Error Failed(const std::string& what, const std::string& remedy = "") {
  return {Code::kModelFailed, what, remedy};
}

// Bytes as a model spells them -> valid UTF-8: U+FFFD for what does not decode, nothing for a
// character that the end cuts off.
std::string ValidUtf8(const std::string& bytes) {
  std::string text;
  text.reserve(bytes.size());
  const auto length = static_cast<int32_t>(bytes.size());
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  for (int32_t at = 0; at < length;) {
    const int32_t begin = at;
    UChar32 character = 0;
    U8_NEXT(data, at, length, character);
    if (character >= 0) {
      text.append(bytes, static_cast<size_t>(begin), static_cast<size_t>(at - begin));
      continue;
    }
    // Unfinished: a lead byte that asks for more than is there, and nothing wrong up to the end.
    const int32_t wanted = U8_COUNT_TRAIL_BYTES(data[begin]);
    if (at == length && wanted > 0 && length - begin <= wanted) break;
    text += "\xEF\xBF\xBD";
  }
  return text;
}

}  // namespace

// What adapters and contexts share: freed when the last of them is gone.
struct Weights {
  llama_model* model = nullptr;
  AdapterBase base;
  // llama.cpp keeps the set of a model's adapters unguarded: it changes when one is loaded or
  // freed (exclusive), and is read when a context plans its graph for another adapter (shared).
  std::shared_mutex adapters;

  ~Weights() { llama_model_free(model); }
};

struct Adapter::State {
  std::shared_ptr<Weights> weights;
  llama_adapter_lora* lora = nullptr;
  size_t bytes = 0;

  ~State() {
    const std::unique_lock lock(weights->adapters);
    llama_adapter_lora_free(lora);
  }
};

Adapter::Adapter(std::unique_ptr<State> state) : state_(std::move(state)) {}
Adapter::~Adapter() = default;
size_t Adapter::bytes() const {
  return state_->bytes;
}

struct LanguageModel::State {
  struct Slot {
    AdapterPointer adapter;  // plugged in; outlives the context, and its address stays its own
    ContextPointer context{nullptr, &llama_free};
    const std::function<bool()>* cancelled = nullptr;
    std::atomic<bool> busy = false;
  };
  class Claim;

  std::shared_ptr<Weights> weights = std::make_shared<Weights>();
  size_t vocabulary_size = 0;
  std::vector<Slot> slots;
  std::optional<ChatTokens> chat;
  std::string sha256;
  std::string description;
  uint32_t window_tokens = 0;
  uint32_t batch_tokens = 0;

  explicit State(size_t count) : slots(count) {}
  void Load(const std::string& path, const GgufInfo& info, bool text_only);
  void MakeContexts(const std::string& path, const LanguageModelOptions& options);

  std::optional<Error> Begin(Slot* slot, const AdapterPointer& adapter) const;
  std::optional<Error> Decode(Slot* slot, std::span<const int32_t> tokens, size_t begin, size_t end,
                              size_t first_output) const;
  std::optional<Error> Prefill(Slot* slot, std::span<const int32_t> tokens, size_t end,
                               bool last_output) const;
  // Calls visit(position, logits) for positions [begin, tokens.size()).
  template <class Visit>
  std::optional<Error> ForLogits(Slot* slot, std::span<const int32_t> tokens, size_t begin,
                                 const Visit& visit) const;
};

// A slot for the time of a call: two threads on one slot are a defect of the caller.
class LanguageModel::State::Claim {
 public:
  Claim(State* state, size_t slot, const std::function<bool()>& cancelled) {
    ENSURE(slot < state->slots.size());
    slot_ = &state->slots[slot];
    ENSURE(!slot_->busy.exchange(true));
    slot_->cancelled = cancelled ? &cancelled : nullptr;
  }
  ~Claim() {
    slot_->cancelled = nullptr;
    slot_->busy = false;
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  Slot* slot() const { return slot_; }

 private:
  Slot* slot_ = nullptr;
};

// ---- Loading
// --------------------------------------------------------------------------------------

void LanguageModel::State::Load(const std::string& path, const GgufInfo& info, bool text_only) {
  weights->base = ReadAdapterBase(path);
  (void)TakeLlamaErrors();
  llama_model_params params = llama_model_default_params();
  params.vocab_only = text_only;
  weights->model = llama_model_load_from_file(path.c_str(), params);
  if (weights->model == nullptr) {
    throw StartError(path + ": " + WhyNotLoaded("cannot be loaded"));
  }
  if (llama_model_has_encoder(weights->model) || !llama_model_has_decoder(weights->model)) {
    throw StartError(path + ": an encoder model, not one that answers: name a chat model");
  }
  const llama_vocab* const vocabulary = llama_model_get_vocab(weights->model);
  vocabulary_size = static_cast<size_t>(llama_vocab_n_tokens(vocabulary));
  const char* found = llama_model_chat_template(weights->model, nullptr);
  if (found == nullptr) {
    throw StartError(path + ": has no chat template: name an instruction-tuned model");
  }
  auto read = ChatTokens::Make(vocabulary, found);
  if (!read) throw StartError(path + ": " + read.error().message);
  chat.emplace(*std::move(read));
  description = (info.name.empty() ? "" : info.name + ", ") + info.architecture + ", " +
                std::to_string(info.layers) + " layers, " + info.quantisation;
}

void LanguageModel::State::MakeContexts(const std::string& path,
                                        const LanguageModelOptions& options) {
  window_tokens = options.window_tokens;
  const int32_t trained = llama_model_n_ctx_train(weights->model);
  if (trained > 0) window_tokens = std::min(window_tokens, static_cast<uint32_t>(trained));
  batch_tokens = std::min(kBatchTokens, window_tokens);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = window_tokens;
  params.n_batch = params.n_ubatch = batch_tokens;
  params.n_seq_max = 1;
  params.n_outputs_max = std::min(kScoredTokens, batch_tokens);
  params.n_threads = params.n_threads_batch = static_cast<int32_t>(options.threads_per_slot);
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;  // else bits depend on the batch
  params.no_perf = true;
  params.abort_callback = [](void* slot) {
    const std::function<bool()>* cancelled = static_cast<Slot*>(slot)->cancelled;
    return cancelled != nullptr && (*cancelled)();
  };
  for (Slot& slot : slots) {
    params.abort_callback_data = &slot;
    (void)TakeLlamaErrors();
    slot.context.reset(llama_init_from_model(weights->model, params));
    if (!slot.context) {
      throw StartError(
          path + ": " +
          WhyNotLoaded("cannot make a context of " + std::to_string(window_tokens) + " tokens"));
    }
  }
}

LanguageModel::LanguageModel(const std::string& path, const LanguageModelOptions& options)
    : state_(std::make_unique<State>(options.text_only ? 0 : options.slots)) {
  if (options.slots == 0 || options.window_tokens < 2 || options.threads_per_slot == 0 ||
      options.threads_per_slot > 256) {
    throw StartError("a language model needs a slot, 1 to 256 threads and a window of 2 tokens");
  }
  const Result<GgufInfo> info = ReadGgufInfo(path);
  if (!info) throw StartError(info.error().message + "; " + info.error().remedy);
  if (info->type != "model") {
    throw StartError(path + ": a GGUF of type " + info->type + ", not a language model");
  }
  if (info->IsEmbedder()) {
    throw StartError(path + ": an embedding model, not one that answers: name a chat model");
  }
  const Result<std::string> sha256 = FileSha256(path);
  if (!sha256) throw StartError(sha256.error().message);
  state_->sha256 = *sha256;
  const LoadingModel loading(path);
  try {
    state_->Load(path, *info, options.text_only);
    state_->MakeContexts(path, options);
  } catch (const std::bad_alloc&) {
    throw StartError(path + ": no memory to load it");
  }
}

LanguageModel::~LanguageModel() = default;

// ---- Text and tokens
// ------------------------------------------------------------------------------

Result<std::vector<int32_t>> LanguageModel::Tokenize(std::string_view text, bool add_special,
                                                     bool parse_special) const {
  return state_->chat->Tokenize(text, add_special, parse_special);
}

std::string LanguageModel::Detokenize(std::span<const int32_t> tokens) const {
  return ValidUtf8(state_->chat->Spelling(tokens));
}

size_t LanguageModel::CountTokens(std::string_view text) const {
  const auto tokens = Tokenize(text, false, false);
  return tokens ? tokens->size() : 0;
}

Result<std::string> LanguageModel::Render(const std::vector<ChatMessage>& chat,
                                          bool add_generation_prompt) const {
  return state_->chat->Render(chat, add_generation_prompt);
}

Result<std::vector<int32_t>> LanguageModel::RenderTokens(const std::vector<ChatMessage>& chat,
                                                         bool add_generation_prompt) const {
  return state_->chat->RenderTokens(chat, add_generation_prompt);
}

int32_t LanguageModel::end_of_turn() const {
  return state_->chat->end_of_turn();
}

bool LanguageModel::EndsTurn(int32_t token) const {
  return state_->chat->EndsTurn(token);
}

const ChatTokens& LanguageModel::chat_tokens() const {
  return *state_->chat;
}

// ---- Adapters
// -------------------------------------------------------------------------------------

Result<AdapterPointer> LanguageModel::LoadAdapter(std::span<const std::byte> gguf) const {
  const std::string remedy = "make the adapter for this model file";
  if (const auto wrong = CheckAdapter(gguf, state_->weights->base)) {
    return Error{Code::kWrongAdapter, "adapter: " + *wrong, remedy};
  }
  auto adapter = std::make_unique<Adapter::State>();
  adapter->weights = state_->weights;
  adapter->bytes = gguf.size();
  // Read only: fmemopen's mode "rb" never writes to the buffer.
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      fmemopen(const_cast<std::byte*>(gguf.data()), gguf.size(), "rb"), &std::fclose);
  if (!file) return Error{Code::kWrongAdapter, "adapter: no memory to read it", ""};
  {
    const std::unique_lock lock(state_->weights->adapters);
    (void)TakeLlamaErrors();
    adapter->lora = llama_adapter_lora_init_from_file_ptr(state_->weights->model, file.get());
  }
  if (adapter->lora == nullptr) {
    return Error{Code::kWrongAdapter, "adapter: " + TakeLlamaErrors(), remedy};
  }
  return AdapterPointer(new Adapter(std::move(adapter)));
}

// ---- Work on a slot
// -------------------------------------------------------------------------------

std::optional<Error> LanguageModel::State::Begin(Slot* slot, const AdapterPointer& adapter) const {
  llama_context* context = slot->context.get();
  if (adapter && adapter->state_->weights != weights) {
    return Failed("an adapter that another model loaded");
  }
  if (slot->adapter != adapter) {
    // Declared before the lock, and so dropped after it is released: freeing an adapter takes the
    // lock.
    const AdapterPointer unplugged = std::exchange(slot->adapter, adapter);
    llama_adapter_lora* lora = adapter ? adapter->state_->lora : nullptr;
    float scale = 1;
    // The first pass after a change plans the graph and reads the model's set of adapters: one
    // token under the lock (milliseconds), so that a load waits for that and not for a prompt.
    const std::shared_lock lock(weights->adapters);
    llama_set_adapters_lora(context, &lora, lora == nullptr ? 0 : 1, &scale);
    llama_memory_clear(llama_get_memory(context), false);
    const std::function<bool()>* cancelled = std::exchange(slot->cancelled, nullptr);
    const int32_t token = 0;
    const auto error = Decode(slot, {&token, 1}, 0, 1, 1);
    slot->cancelled = cancelled;
    if (error) return error;
  }
  llama_memory_clear(llama_get_memory(context), false);
  return std::nullopt;
}

// One pass over tokens [begin, end), which are at these positions; logits from first_output on.
std::optional<Error> LanguageModel::State::Decode(Slot* slot, std::span<const int32_t> tokens,
                                                  size_t begin, size_t end,
                                                  size_t first_output) const {
  const size_t count = end - begin;
  ENSURE(count > 0 && count <= batch_tokens);
  std::vector<llama_token> ids(tokens.begin() + static_cast<ptrdiff_t>(begin),
                               tokens.begin() + static_cast<ptrdiff_t>(end));
  std::vector<llama_pos> positions(count);
  std::vector<int32_t> sequences_of(count, 1);
  llama_seq_id sequence = 0;
  std::vector<llama_seq_id*> sequences(count, &sequence);
  std::vector<int8_t> outputs(count);
  for (size_t i = 0; i < count; ++i) {
    positions[i] = static_cast<llama_pos>(begin + i);
    outputs[i] = begin + i >= first_output ? 1 : 0;
  }
  llama_batch batch{};
  batch.n_tokens = static_cast<int32_t>(count);
  batch.token = ids.data();
  batch.pos = positions.data();
  batch.n_seq_id = sequences_of.data();
  batch.seq_id = sequences.data();
  batch.logits = outputs.data();
  (void)TakeLlamaErrors();
  switch (llama_decode(slot->context.get(), batch)) {
    case 0:
      return std::nullopt;
    case 2:
      return Failed("cancelled");
    default:
      return Failed("a pass through the model failed: " + TakeLlamaErrors());
  }
}

std::optional<Error> LanguageModel::State::Prefill(Slot* slot, std::span<const int32_t> tokens,
                                                   size_t end, bool last_output) const {
  for (size_t begin = 0; begin < end; begin += batch_tokens) {
    const size_t stop = std::min<size_t>(end, begin + batch_tokens);
    const size_t first_output = last_output && stop == end ? end - 1 : end;
    if (auto error = Decode(slot, tokens, begin, stop, first_output)) return error;
  }
  return std::nullopt;
}

template <class Visit>
std::optional<Error> LanguageModel::State::ForLogits(Slot* slot, std::span<const int32_t> tokens,
                                                     size_t begin, const Visit& visit) const {
  if (tokens.empty() || tokens.size() > window_tokens) {
    return Failed(std::to_string(tokens.size()) + " tokens do not fit the window of " +
                  std::to_string(window_tokens));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= vocabulary_size) {
      return Failed("token " + std::to_string(token) + " is not in the vocabulary");
    }
  }
  if (auto error = Prefill(slot, tokens, begin, false)) return error;
  const size_t rows = std::min<size_t>(kScoredTokens, batch_tokens);
  for (size_t at = begin; at < tokens.size(); at += rows) {
    const size_t stop = std::min(tokens.size(), at + rows);
    if (auto error = Decode(slot, tokens, at, stop, at)) return error;
    for (size_t i = at; i < stop; ++i) {
      const float* logits = llama_get_logits_ith(slot->context.get(), static_cast<int32_t>(i - at));
      if (logits == nullptr) return Failed("a pass through the model gave no logits");
      visit(i, std::span<const float>(logits, vocabulary_size));
    }
  }
  return std::nullopt;
}

Result<Completion> LanguageModel::Generate(size_t slot, std::span<const int32_t> prompt,
                                           const AdapterPointer& adapter, const Sampling& sampling,
                                           const std::function<bool()>& cancelled,
                                           const std::function<void(std::string_view)>& on_text) {
  if (auto error = WhyNoRoom(*this, prompt.size())) return *error;
  const State::Claim claim(state_.get(), slot, cancelled);
  AnswerDraft draft(*this, prompt, sampling, on_text);
  if (auto error = state_->Begin(claim.slot(), adapter)) return *error;
  if (auto error = state_->Prefill(claim.slot(), prompt, prompt.size(), true)) return *error;
  while (!draft.full()) {
    const float* logits = llama_get_logits_ith(claim.slot()->context.get(), -1);
    if (logits == nullptr) return Failed("a pass through the model gave no logits");
    const Result<bool> more = draft.Draw({logits, state_->vocabulary_size});
    if (!more.ok()) return more.error();
    if (!*more) break;
    if (cancelled && cancelled()) return Failed("cancelled");
    const size_t last = draft.tokens().size() - 1;
    if (auto error = state_->Decode(claim.slot(), draft.tokens(), last, last + 1, last)) {
      return *error;
    }
  }
  return draft.Finish();
}

Result<std::vector<float>> LanguageModel::Logits(size_t slot, std::span<const int32_t> tokens,
                                                 const AdapterPointer& adapter) {
  const State::Claim claim(state_.get(), slot, {});
  if (auto error = state_->Begin(claim.slot(), adapter)) return *error;
  std::vector<float> all;
  all.reserve(tokens.size() * state_->vocabulary_size);
  const auto error =
      state_->ForLogits(claim.slot(), tokens, 0, [&](size_t, std::span<const float> logits) {
        all.insert(all.end(), logits.begin(), logits.end());
      });
  if (error) return *error;
  return all;
}

Result<double> LanguageModel::NegativeLogLikelihood(size_t slot, std::span<const int32_t> prompt,
                                                    std::span<const int32_t> completion,
                                                    const AdapterPointer& adapter) {
  if (prompt.empty() || completion.empty()) return Failed("a prompt or a completion is empty");
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  tokens.insert(tokens.end(), completion.begin(), completion.end() - 1);
  const State::Claim claim(state_.get(), slot, {});
  if (auto error = state_->Begin(claim.slot(), adapter)) return *error;
  double sum = 0;
  const auto error = state_->ForLogits(
      claim.slot(), tokens, prompt.size() - 1, [&](size_t position, std::span<const float> logits) {
        sum += NegativeLogProbability(logits, completion[position - (prompt.size() - 1)]);
      });
  if (error) return *error;
  return sum / static_cast<double>(completion.size());
}

size_t LanguageModel::slots() const {
  return state_->slots.size();
}
size_t LanguageModel::vocabulary() const {
  return state_->vocabulary_size;
}
uint32_t LanguageModel::window_tokens() const {
  return state_->window_tokens;
}
const std::string& LanguageModel::sha256() const {
  return state_->sha256;
}
const std::string& LanguageModel::description() const {
  return state_->description;
}

std::string LlamaFingerprint() {
  InitialiseLlama();
  return std::string("llama.cpp ") + llama_version() + ", ggml " + ggml_version() + ", " +
         llama_print_system_info();
}

}  // namespace nudge
