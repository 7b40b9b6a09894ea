// The only file that sees llama.cpp's inner headers: its vocabulary without the rest of it.
#include "stages/model/serve/model_text.h"

#include <gguf.h>
#include <llama-arch.h>
#include <llama-chat.h>
#include <llama-model-loader.h>
#include <llama-vocab.h>

#include <algorithm>
#include <exception>
#include <string>
#include <vector>

// As llama.h says, and as src/llama.cpp has it among what the module does without.
int32_t llama_chat_apply_template(const char* chat_template, const llama_chat_message* chat,
                                  size_t count, bool add_assistant, char* buffer, int32_t length) {
  const llm_chat_template known = llm_chat_detect_template(chat_template);
  if (known == LLM_CHAT_TEMPLATE_UNKNOWN) return -1;
  std::vector<const llama_chat_message*> messages;
  for (size_t i = 0; i < count; ++i) messages.push_back(&chat[i]);
  std::string rendered;
  const int32_t bytes = llm_chat_apply_template(known, messages, rendered, add_assistant);
  const size_t room = static_cast<size_t>(std::max(length, 0));
  std::copy_n(rendered.begin(), std::min(rendered.size(), room), buffer);
  return bytes;
}

// Names of a model's further files, of which one that comes as bytes has none: never called.
int32_t llama_split_path(char*, size_t, const char*, int32_t, int32_t) {
  return 0;
}
int32_t llama_split_prefix(char*, size_t, const char*, int32_t, int32_t) {
  return 0;
}

namespace nudge {

namespace {

using HeaderPointer = std::unique_ptr<gguf_context, decltype(&gguf_free)>;

Error Unsupported(const std::string& what) {
  return {Code::kUnsupportedModel, what, "use an instruction-tuned model, or token ids"};
}

void Quiet(ggml_log_level, const char*, void*) {}

}  // namespace

ModelText::ModelText() : vocabulary_(std::make_unique<llama_vocab>()) {}
ModelText::~ModelText() = default;

Result<std::unique_ptr<ModelText>> ModelText::Load(const void* gguf, size_t bytes) {
  llama_log_set(Quiet, nullptr);
  const HeaderPointer header(gguf_init_from_buffer(gguf, bytes, {.no_alloc = true, .ctx = nullptr}),
                             &gguf_free);
  if (header == nullptr) return Error{Code::kUnreadableFile, "the model is not a GGUF file", ""};
  std::unique_ptr<ModelText> text(new ModelText);
  try {
    std::vector<std::string> splits;
    llama_model_loader loader(header.get(), nullptr, nullptr, "", splits, nullptr,
                              LLAMA_LOAD_MODE_NONE, false, true, false, nullptr, nullptr);
    text->vocabulary_->load(loader, LLM_KV(loader.get_arch()));
  } catch (const std::exception& failure) {
    return Unsupported(std::string("the model's vocabulary cannot be read: ") + failure.what());
  }
  const int64_t at = gguf_find_key(header.get(), "tokenizer.chat_template");
  if (at < 0 || gguf_get_kv_type(header.get(), at) != GGUF_TYPE_STRING) {
    return Unsupported("the model has no chat template");
  }
  auto chat = ChatTokens::Make(text->vocabulary_.get(), gguf_get_val_str(header.get(), at));
  if (!chat.ok()) return chat.error();
  text->chat_.emplace(*std::move(chat));
  return text;
}

}  // namespace nudge
