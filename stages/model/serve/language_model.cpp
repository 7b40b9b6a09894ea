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
#include "stages/model/serve/gguf_info.h"
#include "stages/model/serve/llama_runtime.h"
#include "stages/model/serve/sampler.h"

namespace nudge {
namespace {

constexpr uint32_t kBatchTokens = 512;  // of the prompt, in one pass
constexpr uint32_t kScoredTokens = 16;  // rows of logits in one pass: bounds the buffers
constexpr char kPlaceholderBegin = '\x02';
constexpr char kPlaceholderEnd = '\x03';

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

// A piece of a rendered chat: what the template wrote, or a message.
struct Segment {
  std::string text;
  bool from_template = true;
};

// A piece of a prompt: ordinary text, or a control token that the template wrote.
struct Piece {
  std::string text;
  std::optional<llama_token> control;
};

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
  const llama_vocab* vocabulary = nullptr;
  size_t vocabulary_size = 0;
  std::vector<Slot> slots;
  std::vector<std::pair<std::string, llama_token>> controls;  // longest text first
  std::string chat_template;
  std::string sha256;
  std::string description;
  llama_token end_of_turn = -1;
  uint32_t window_tokens = 0;
  uint32_t batch_tokens = 0;

  explicit State(size_t count) : slots(count) {}
  void Load(const std::string& path, const GgufInfo& info, bool text_only);
  void FindControls();
  void MakeContexts(const std::string& path, const LanguageModelOptions& options);
  void ReadTemplate(const std::string& path);

  std::vector<int32_t> Tokens(std::string_view text, bool add_special, bool parse_special) const;
  void AppendPlain(const std::string& text, std::vector<int32_t>* tokens) const;
  Result<std::vector<Segment>> Segments(const std::vector<ChatMessage>& chat,
                                        bool add_generation_prompt) const;
  std::vector<Piece> Pieces(const std::vector<Segment>& segments) const;

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
  vocabulary = llama_model_get_vocab(weights->model);
  vocabulary_size = static_cast<size_t>(llama_vocab_n_tokens(vocabulary));
  FindControls();
  const char* found = llama_model_chat_template(weights->model, nullptr);
  if (found == nullptr) {
    throw StartError(path + ": has no chat template: name an instruction-tuned model");
  }
  chat_template = found;
  description = (info.name.empty() ? "" : info.name + ", ") + info.architecture + ", " +
                std::to_string(info.layers) + " layers, " + info.quantisation;
}

void LanguageModel::State::FindControls() {
  for (llama_token token = 0; token < static_cast<llama_token>(vocabulary_size); ++token) {
    if (!llama_vocab_is_control(vocabulary, token)) continue;
    const std::string text = llama_vocab_get_text(vocabulary, token);
    if (!text.empty()) controls.emplace_back(text, token);
  }
  std::stable_sort(controls.begin(), controls.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
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

// Every message of a chat must come out of the template. What it writes after an assistant's
// message says how the model ends its turn (the file's own fields often say something else).
void LanguageModel::State::ReadTemplate(const std::string& path) {
  const auto segments =
      Segments({{"system", "a"}, {"user", "b"}, {"assistant", "c"}, {"user", "d"}}, true);
  if (!segments) throw StartError(path + ": " + segments.error().message);
  const auto turn = Segments({{"user", "a"}, {"assistant", "b"}}, false);
  if (!turn) throw StartError(path + ": " + turn.error().message);
  end_of_turn = llama_vocab_eos(vocabulary);
  for (const Piece& piece : Pieces({turn->back()})) {
    if (piece.control && llama_vocab_is_eog(vocabulary, *piece.control)) {
      end_of_turn = *piece.control;
      break;
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
    state_->ReadTemplate(path);
    state_->MakeContexts(path, options);
  } catch (const std::bad_alloc&) {
    throw StartError(path + ": no memory to load it");
  }
}

LanguageModel::~LanguageModel() = default;

// ---- Text and tokens
// ------------------------------------------------------------------------------

// Throws what the tokenizer throws.
std::vector<int32_t> LanguageModel::State::Tokens(std::string_view text, bool add_special,
                                                  bool parse_special) const {
  if (text.size() > INT32_MAX / 2) throw std::length_error("the text is too long");
  const auto length = static_cast<int32_t>(text.size());
  std::vector<int32_t> tokens(text.size() / 2 + 8);
  int32_t count = llama_tokenize(vocabulary, text.data(), length, tokens.data(),
                                 static_cast<int32_t>(tokens.size()), add_special, parse_special);
  if (count == INT32_MIN) throw std::length_error("the text has too many tokens");
  if (count < 0) {
    tokens.resize(static_cast<size_t>(-count));
    count = llama_tokenize(vocabulary, text.data(), length, tokens.data(), -count, add_special,
                           parse_special);
  }
  tokens.resize(static_cast<size_t>(std::max(count, 0)));
  return tokens;
}

// Ordinary text never becomes a control token. Some vocabularies could build one from its
// characters: then the text is tokenized in two parts, cut inside the token's spelling.
void LanguageModel::State::AppendPlain(const std::string& text,
                                       std::vector<int32_t>* tokens) const {
  if (text.empty()) return;
  const std::vector<int32_t> found = Tokens(text, false, false);
  const auto control = std::find_if(found.begin(), found.end(), [&](int32_t token) {
    return llama_vocab_is_control(vocabulary, token);
  });
  if (control == found.end()) {
    tokens->insert(tokens->end(), found.begin(), found.end());
    return;
  }
  const size_t at = text.find(llama_vocab_get_text(vocabulary, *control));
  if (at == std::string::npos || text.size() < 2) {
    throw std::runtime_error("the tokenizer makes control tokens of ordinary text");
  }
  AppendPlain(text.substr(0, at + 1), tokens);
  AppendPlain(text.substr(at + 1), tokens);
}

// The rendered chat, cut where messages begin and end. The template sees placeholders, so nothing
// that a message says can pass for the template's own words.
Result<std::vector<Segment>> LanguageModel::State::Segments(const std::vector<ChatMessage>& chat,
                                                            bool add_generation_prompt) const {
  std::vector<std::string> placeholders;
  std::vector<llama_chat_message> shown;
  for (size_t i = 0; i < chat.size(); ++i) {
    placeholders.push_back(kPlaceholderBegin + std::to_string(i) + kPlaceholderEnd);
  }
  for (size_t i = 0; i < chat.size(); ++i) {
    const std::string& role = chat[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return Error{Code::kInternal, "a chat message has the role '" + role + "'",
                   "use system, user or assistant"};
    }
    shown.push_back({role.c_str(), placeholders[i].c_str()});
  }
  std::string rendered(1024 + 128 * chat.size(), '\0');
  const auto apply = [&] {
    return llama_chat_apply_template(chat_template.c_str(), shown.data(), shown.size(),
                                     add_generation_prompt, rendered.data(),
                                     static_cast<int32_t>(rendered.size()));
  };
  int32_t length = apply();
  if (length > static_cast<int32_t>(rendered.size())) {
    rendered.resize(static_cast<size_t>(length));
    length = apply();
  }
  if (length < 0) {
    return Error{Code::kUnsupportedModel, "its chat template is none that llama.cpp knows",
                 "use a model with a common template, such as ChatML"};
  }
  rendered.resize(static_cast<size_t>(length));

  std::vector<Segment> segments;
  std::vector<bool> seen(chat.size(), false);
  size_t at = 0;
  for (size_t begin = 0; (begin = rendered.find(kPlaceholderBegin, at)) != std::string::npos;) {
    const size_t end = rendered.find(kPlaceholderEnd, begin);
    ENSURE(end != std::string::npos);
    const size_t message = std::stoul(rendered.substr(begin + 1, end - begin - 1));
    segments.push_back({rendered.substr(at, begin - at), true});
    segments.push_back({chat.at(message).text, false});
    seen[message] = true;
    at = end + 1;
  }
  segments.push_back({rendered.substr(at), true});
  if (std::find(seen.begin(), seen.end(), false) != seen.end()) {
    return Error{Code::kUnsupportedModel, "its chat template leaves out a message",
                 "use a model whose template takes system, user and assistant messages"};
  }
  return segments;
}

std::vector<Piece> LanguageModel::State::Pieces(const std::vector<Segment>& segments) const {
  std::vector<Piece> pieces(1);
  for (const Segment& segment : segments) {
    if (!segment.from_template) {
      pieces.back().text += segment.text;
      continue;
    }
    for (size_t at = 0; at < segment.text.size();) {
      const auto control = std::find_if(controls.begin(), controls.end(), [&](const auto& known) {
        return segment.text.compare(at, known.first.size(), known.first) == 0;
      });
      if (control == controls.end()) {
        pieces.back().text.push_back(segment.text[at++]);
        continue;
      }
      pieces.push_back({"", control->second});
      pieces.emplace_back();
      at += control->first.size();
    }
  }
  return pieces;
}

Result<std::vector<int32_t>> LanguageModel::Tokenize(std::string_view text, bool add_special,
                                                     bool parse_special) const {
  try {
    return state_->Tokens(text, add_special, parse_special);
  } catch (const std::exception& exception) {
    return Failed(std::string("the tokenizer refuses a text: ") + exception.what());
  }
}

std::string LanguageModel::Detokenize(std::span<const int32_t> tokens) const {
  std::string bytes(tokens.size() * 8 + 16, '\0');
  const auto detokenize = [&] {
    return llama_detokenize(state_->vocabulary, tokens.data(), static_cast<int32_t>(tokens.size()),
                            bytes.data(), static_cast<int32_t>(bytes.size()), false, false);
  };
  int32_t length = detokenize();
  if (length < 0) {
    bytes.resize(static_cast<size_t>(-length));
    length = detokenize();
  }
  bytes.resize(static_cast<size_t>(std::max(length, 0)));
  return ValidUtf8(bytes);
}

size_t LanguageModel::CountTokens(std::string_view text) const {
  const auto tokens = Tokenize(text, false, false);
  return tokens ? tokens->size() : 0;
}

Result<std::string> LanguageModel::Render(const std::vector<ChatMessage>& chat,
                                          bool add_generation_prompt) const {
  const auto segments = state_->Segments(chat, add_generation_prompt);
  if (!segments) return segments.error();
  std::string rendered;
  for (const Segment& segment : *segments) rendered += segment.text;
  return rendered;
}

Result<std::vector<int32_t>> LanguageModel::RenderTokens(const std::vector<ChatMessage>& chat,
                                                         bool add_generation_prompt) const {
  const auto segments = state_->Segments(chat, add_generation_prompt);
  if (!segments) return segments.error();
  std::vector<int32_t> tokens;
  try {
    if (llama_vocab_get_add_bos(state_->vocabulary)) {
      tokens.push_back(llama_vocab_bos(state_->vocabulary));
    }
    for (const Piece& piece : state_->Pieces(*segments)) {
      // A template may write the BOS that the model wants.
      if (piece.control && tokens.size() == 1 && tokens[0] == *piece.control) continue;
      if (piece.control) tokens.push_back(*piece.control);
      state_->AppendPlain(piece.text, &tokens);
    }
  } catch (const std::exception& exception) {
    return Failed(std::string("the tokenizer refuses a chat: ") + exception.what());
  }
  return tokens;
}

int32_t LanguageModel::end_of_turn() const {
  return state_->end_of_turn;
}

bool LanguageModel::EndsTurn(int32_t token) const {
  return llama_vocab_is_eog(state_->vocabulary, token);
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
