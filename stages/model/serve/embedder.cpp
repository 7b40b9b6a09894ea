#include "stages/model/serve/embedder.h"

#include <llama.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "stages/hash.h"
#include "stages/model/serve/gguf_info.h"
#include "stages/model/serve/llama_runtime.h"

namespace nudge {
namespace {

constexpr uint32_t kWindowTokens = 512;

using ModelPointer = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using ContextPointer = std::unique_ptr<llama_context, decltype(&llama_free)>;

std::vector<llama_token> Tokenize(const llama_vocab* vocabulary, const std::string& text,
                                  bool add_special) {
  if (text.size() > INT32_MAX / 2) throw std::length_error("the text is too long");
  const auto length = static_cast<int32_t>(text.size());
  std::vector<llama_token> tokens(text.size() + 4);
  int32_t count = llama_tokenize(vocabulary, text.data(), length, tokens.data(),
                                 static_cast<int32_t>(tokens.size()), add_special, false);
  if (count < 0) {
    if (count == INT32_MIN) throw std::length_error("the text has too many tokens");
    tokens.resize(static_cast<size_t>(-count));
    count =
        llama_tokenize(vocabulary, text.data(), length, tokens.data(), -count, add_special, false);
  }
  tokens.resize(static_cast<size_t>(std::max(count, 0)));
  return tokens;
}

Error Failed(const std::string& what) {
  return {Code::kModelFailed, "the embedder cannot take this text: " + what, ""};
}

}  // namespace

struct Embedder::State {
  struct Slot {
    ContextPointer context{nullptr, &llama_free};
    std::atomic<bool> busy = false;
  };

  ModelPointer model{nullptr, &llama_model_free};
  const llama_vocab* vocabulary = nullptr;
  std::vector<Slot> slots;
  std::string query_prefix;
  std::string passage_prefix;
  std::string identity;
  std::string description;
  size_t dimension = 0;
  uint32_t window_tokens = 0;

  explicit State(size_t count) : slots(count) {}
  void Load(const std::string& path);
  void MakeContexts(const std::string& path);
  std::vector<llama_token> Seen(std::string_view text, bool is_query) const;
  Result<Vector> Run(llama_context* context, std::vector<llama_token> tokens) const;
};

void Embedder::State::Load(const std::string& path) {
  (void)TakeLlamaErrors();
  model.reset(llama_model_load_from_file(path.c_str(), llama_model_default_params()));
  if (!model) throw StartError(path + ": " + WhyNotLoaded("cannot be loaded"));
  vocabulary = llama_model_get_vocab(model.get());
  dimension = static_cast<size_t>(llama_model_n_embd_out(model.get()));
}

void Embedder::State::MakeContexts(const std::string& path) {
  llama_context_params params = llama_context_default_params();
  // Bidirectional attention takes a text in one piece.
  params.n_ctx = params.n_batch = params.n_ubatch = window_tokens;
  params.n_seq_max = 1;
  params.n_threads = params.n_threads_batch = 1;
  params.embeddings = true;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.no_perf = true;
  for (Slot& slot : slots) {
    (void)TakeLlamaErrors();
    slot.context.reset(llama_init_from_model(model.get(), params));
    if (!slot.context) {
      throw StartError(path + ": " + WhyNotLoaded("cannot make a context for embedding"));
    }
  }
}

std::vector<llama_token> Embedder::State::Seen(std::string_view text, bool is_query) const {
  std::string whole = is_query ? query_prefix : passage_prefix;
  whole += text;
  std::vector<llama_token> tokens = Tokenize(vocabulary, whole, true);
  if (tokens.size() > window_tokens) {
    tokens[window_tokens - 1] = tokens.back();  // the special token that ends a text
    tokens.resize(window_tokens);
  }
  return tokens;
}

Result<Vector> Embedder::State::Run(llama_context* context, std::vector<llama_token> tokens) const {
  if (tokens.empty()) return Failed("it has no tokens");
  if (llama_memory_t memory = llama_get_memory(context)) llama_memory_clear(memory, false);
  (void)TakeLlamaErrors();
  // For a model without a KV cache this is llama_encode.
  if (llama_decode(context,
                   llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))) != 0) {
    return Failed(TakeLlamaErrors());
  }
  const float* pooled = llama_get_embeddings_seq(context, 0);
  if (pooled == nullptr) return Failed("it gave no vector");
  double square = 0;
  for (size_t i = 0; i < dimension; ++i) square += double{pooled[i]} * double{pooled[i]};
  if (!std::isfinite(square) || square == 0) return Failed("its vector has no direction");
  const double scale = 1 / std::sqrt(square);
  Vector vector(dimension);
  for (size_t i = 0; i < dimension; ++i) vector[i] = static_cast<float>(double{pooled[i]} * scale);
  return vector;
}

Embedder::Embedder(const std::string& path, size_t slots, const EmbedderOptions& options)
    : state_(std::make_unique<State>(slots)) {
  if (slots == 0) throw StartError("an embedder needs at least one slot");
  const Result<GgufInfo> info = ReadGgufInfo(path);
  if (!info) throw StartError(info.error().message + "; " + info.error().remedy);
  if (info->type != "model" || !info->IsEmbedder()) {
    throw StartError(path + ": not an embedding model (" + info->architecture +
                     " without pooling): name a GGUF made for embeddings");
  }
  const Result<std::string> sha256 = FileSha256(path);
  if (!sha256) throw StartError(sha256.error().message);
  state_->window_tokens =
      info->context_tokens == 0 ? kWindowTokens : std::min(kWindowTokens, info->context_tokens);
  const LoadingModel loading(path);
  try {
    state_->Load(path);
    state_->MakeContexts(path);
  } catch (const std::bad_alloc&) {
    throw StartError(path + ": no memory to load it");
  }
  const enum llama_pooling_type pooling = llama_pooling_type(state_->slots[0].context.get());
  if (pooling != LLAMA_POOLING_TYPE_MEAN && pooling != LLAMA_POOLING_TYPE_CLS &&
      pooling != LLAMA_POOLING_TYPE_LAST) {
    throw StartError(path + ": its pooling does not make one vector of a text");
  }
  state_->query_prefix = options.query_prefix.value_or(info->query_prefix.value_or(""));
  state_->passage_prefix = options.passage_prefix.value_or(info->passage_prefix.value_or(""));
  state_->identity =
      Hex(Sha256Parts({*sha256, std::to_string(static_cast<int>(pooling)), state_->query_prefix,
                       state_->passage_prefix, std::to_string(state_->window_tokens)}));
  state_->description = (info->name.empty() ? info->architecture : info->name) + ", " +
                        std::to_string(state_->dimension) + " numbers, " +
                        std::to_string(info->layers) + " layers, " + info->quantisation;
}

Embedder::~Embedder() = default;

Result<Vector> Embedder::Embed(std::string_view text, bool is_query, size_t slot) {
  ENSURE(slot < state_->slots.size());
  State::Slot& mine = state_->slots[slot];
  ENSURE(!mine.busy.exchange(true));
  Result<Vector> vector = Failed("");
  try {
    vector = state_->Run(mine.context.get(), state_->Seen(text, is_query));
  } catch (const std::exception& exception) {
    vector = Failed(exception.what());
  }
  mine.busy = false;
  return vector;
}

size_t Embedder::CountTokens(std::string_view text) const {
  return Tokenize(state_->vocabulary, std::string(text), false).size();
}

size_t Embedder::CountSeen(std::string_view text, bool is_query) const {
  return state_->Seen(text, is_query).size();
}

size_t Embedder::dimension() const {
  return state_->dimension;
}
size_t Embedder::slots() const {
  return state_->slots.size();
}
size_t Embedder::window_tokens() const {
  return state_->window_tokens;
}
const std::string& Embedder::identity() const {
  return state_->identity;
}
const std::string& Embedder::description() const {
  return state_->description;
}

}  // namespace nudge
