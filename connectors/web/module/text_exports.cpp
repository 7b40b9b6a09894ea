#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "connectors/web/module/calls.h"
#include "connectors/web/module/exports.h"
#include "stages/model/serve/model_text.h"

struct NudgeText {
  std::unique_ptr<nudge::ModelText> text;
  std::vector<nudge::ChatMessage> chat;
  std::vector<int32_t> tokens;
  std::string bytes;
};

using nudge::Tell;
using nudge::Try;

NudgeText* nudge_text_open(const char* model, size_t bytes) {
  std::unique_ptr<NudgeText> opened;
  Try([&] {
    auto text = nudge::ModelText::Load(model, bytes);
    if (!text.ok()) return Tell(text.error());
    opened = std::make_unique<NudgeText>();
    opened->text = std::move(text).value();
    return true;
  });
  return opened.release();
}

void nudge_text_close(NudgeText* text) {
  delete text;
}

int nudge_text_add(NudgeText* text, uint32_t role, const char* message, size_t bytes) {
  static constexpr const char* kRoles[] = {"system", "user", "assistant", "none"};
  return Try([&] {
    text->chat.push_back({kRoles[role < 3 ? role : 3], std::string(message, bytes)});
    return true;
  });
}

int nudge_text_chat(NudgeText* text) {
  return Try([&] {
    const auto chat = std::exchange(text->chat, {});
    auto tokens = text->text->chat().RenderTokens(chat);
    if (!tokens.ok()) return Tell(tokens.error());
    text->tokens = *std::move(tokens);
    return true;
  });
}

int nudge_text_answer(NudgeText* text, const char* answer, size_t bytes) {
  return Try([&] {
    auto tokens = text->text->chat().Tokenize({answer, bytes}, false, false);
    if (!tokens.ok()) return Tell(tokens.error());
    text->tokens = *std::move(tokens);
    text->tokens.push_back(text->text->chat().end_of_turn());
    return true;
  });
}

const int32_t* nudge_text_tokens(const NudgeText* text) {
  return text->tokens.data();
}

size_t nudge_text_token_count(const NudgeText* text) {
  return text->tokens.size();
}

int nudge_text_ends(const NudgeText* text, int32_t token) {
  return text->text->chat().EndsTurn(token) ? 1 : 0;
}

int nudge_text_spell(NudgeText* text, const int32_t* tokens, size_t count) {
  return Try([&] {
    text->bytes = text->text->chat().Spelling({tokens, count});
    return true;
  });
}

const char* nudge_text_bytes(const NudgeText* text) {
  return text->bytes.data();
}

size_t nudge_text_byte_count(const NudgeText* text) {
  return text->bytes.size();
}
