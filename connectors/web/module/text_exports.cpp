#include <unicode/udata.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "connectors/web/module/calls.h"
#include "connectors/web/module/exports.h"
#include "connectors/web/module/web_chat.h"
#include "stages/model/learn/verdict.h"
#include "stages/model/serve/model_text.h"

struct NudgeText {
  std::unique_ptr<nudge::ModelText> text;
  std::optional<nudge::WebChat> chat;
  std::vector<std::string> given;  // of the next call
  std::vector<std::string> told;   // by the last one
  std::vector<int32_t> tokens;
};

namespace {

using nudge::Code;
using nudge::Result;
using nudge::Tell;
using nudge::Try;
using Texts = std::vector<std::string>;

// Calls body(texts) with what was given, if that is as many as `least` to `most`.
template <class Body>
int With(NudgeText* text, size_t least, size_t most, Body&& body) {
  return Try([&] {
    Texts given = std::exchange(text->given, {});
    text->told.clear();
    if (given.size() < least || given.size() > most) {
      return Tell({Code::kInternal, "a call with " + std::to_string(given.size()) + " texts",
                   "use the nudge.js of this module"});
    }
    return body(std::move(given));
  });
}

// Keeps the tokens, or tells why there are none.
bool Keep(NudgeText* text, Result<std::vector<int32_t>> tokens) {
  if (!tokens.ok()) return Tell(tokens.error());
  text->tokens = *std::move(tokens);
  return true;
}

std::vector<nudge::ChatMessage> MessagesOf(Texts& given, size_t count) {
  std::vector<nudge::ChatMessage> messages;
  for (size_t i = 0; i + 1 < count; i += 2) {
    messages.push_back({std::move(given[i]), std::move(given[i + 1])});
  }
  return messages;
}

void TellPassages(const std::vector<nudge::Passage>& passages, Texts& told) {
  for (const nudge::Passage& passage : passages) {
    told.push_back(passage.document_id);
    told.push_back(std::to_string(passage.version));
    told.push_back(std::to_string(passage.chunk));
    told.push_back(passage.title);
    told.push_back(passage.text);
    told.push_back(std::to_string(passage.lexical));
  }
}

constexpr size_t kAny = SIZE_MAX;

}  // namespace

int nudge_set_dictionaries(void* bytes) {
  UErrorCode status = U_ZERO_ERROR;
  udata_setCommonData(bytes, &status);
  if (U_SUCCESS(status) && status != U_USING_DEFAULT_WARNING) return 1;
  nudge_free(bytes);
  return Tell({Code::kUnreadableFile, "the dictionaries are damaged",
               "take the nudge_dictionaries.dat of this module"});
}

NudgeText* nudge_text_open(const char* model, size_t bytes, uint32_t window_tokens,
                           uint32_t step_tokens_max, uint32_t passages) {
  std::unique_ptr<NudgeText> opened;
  Try([&] {
    auto text = nudge::ModelText::Load(model, bytes);
    if (!text.ok()) return Tell(text.error());
    opened = std::make_unique<NudgeText>();
    opened->text = std::move(text).value();
    opened->chat.emplace(opened->text->chat(),
                         nudge::WebChatOptions{window_tokens, step_tokens_max, passages});
    return true;
  });
  return opened != nullptr && opened->chat ? opened.release() : nullptr;
}

void nudge_text_close(NudgeText* text) {
  delete text;
}

int nudge_text_put(NudgeText* text, const char* bytes, size_t count) {
  return Try([&] {
    text->given.emplace_back(bytes, count);
    return true;
  });
}

size_t nudge_text_told_count(const NudgeText* text) {
  return text->told.size();
}

const char* nudge_text_told(const NudgeText* text, size_t index) {
  return text->told[index].data();
}

size_t nudge_text_told_bytes(const NudgeText* text, size_t index) {
  return text->told[index].size();
}

const int32_t* nudge_text_tokens(const NudgeText* text) {
  return text->tokens.data();
}

size_t nudge_text_token_count(const NudgeText* text) {
  return text->tokens.size();
}

int nudge_text_chat(NudgeText* text) {
  return With(text, 2, kAny, [&](Texts given) {
    return Keep(text, text->text->chat().RenderTokens(MessagesOf(given, given.size())));
  });
}

int nudge_text_answer(NudgeText* text) {
  return With(text, 1, 1, [&](Texts given) {
    if (!Keep(text, text->text->chat().Tokenize(given[0], false, false))) return false;
    text->tokens.push_back(text->text->chat().end_of_turn());
    return true;
  });
}

int nudge_text_ends(const NudgeText* text, int32_t token) {
  return text->text->chat().EndsTurn(token) ? 1 : 0;
}

int nudge_text_spell(NudgeText* text, const int32_t* tokens, size_t count) {
  return Try([&] {
    text->told = {text->text->chat().Spelling({tokens, count})};
    return true;
  });
}

int nudge_text_add_document(NudgeText* text) {
  return With(text, 3, 3, [&](Texts given) {
    const auto added = text->chat->AddDocument(given[0], given[1], given[2]);
    if (!added.ok()) return Tell(added.error());
    text->told = {std::to_string(*added)};
    return true;
  });
}

int nudge_text_remove_document(NudgeText* text) {
  return With(text, 1, 1, [&](Texts given) {
    text->told = {std::to_string(text->chat->RemoveDocument(given[0]))};
    return true;
  });
}

int nudge_text_search(NudgeText* text) {
  return With(text, 1, 1, [&](Texts given) {
    const auto passages = text->chat->Search(given[0]);
    if (!passages.ok()) return Tell(passages.error());
    TellPassages(*passages, text->told);
    return true;
  });
}

int nudge_text_set_system(NudgeText* text) {
  return With(text, 1, 1, [&](Texts given) {
    const auto set = text->chat->SetSystem(given[0]);
    return set.ok() || Tell(set.error());
  });
}

int nudge_text_add_example(NudgeText* text) {
  return With(text, 2, 2, [&](Texts given) {
    const auto added = text->chat->AddExample(given[0], given[1]);
    return added.ok() || Tell(added.error());
  });
}

int nudge_text_ask(NudgeText* text, uint32_t tokens_max) {
  return With(text, 1, kAny, [&](Texts given) {
    std::string question = std::move(given.back());
    auto prompt =
        text->chat->Ask(std::move(question), MessagesOf(given, given.size() - 1), tokens_max);
    if (!prompt.ok()) return Tell(prompt.error());
    text->tokens = std::move(prompt->tokens);
    text->told = {std::to_string(prompt->number)};
    TellPassages(prompt->passages, text->told);
    return true;
  });
}

int nudge_text_teach(NudgeText* text, NudgeSession* session, double answer, double rating) {
  return With(text, 1, 2, [&](Texts given) {
    const auto correction = given.size() == 2 ? std::optional(given[1]) : std::nullopt;
    const auto example =
        text->chat->ExampleOf(static_cast<uint64_t>(answer), given[0], rating, correction);
    if (!example.ok()) return Tell(example.error());
    const auto report = session->session->Teach(*example);
    if (!report.ok()) return Tell(report.error());
    const nudge::LeftOut& left_out = report->left_out;
    text->told = {std::string(nudge::WhyOf(report->verdict)), std::to_string(report->nll_before),
                  report->nll_after ? std::to_string(*report->nll_after) : "",
                  std::to_string(report->tokens),
                  std::to_string(left_out.anchors + left_out.replayed + left_out.pushed_away)};
    return true;
  });
}

int nudge_text_set_anchors(NudgeText* text, NudgeSession* session) {
  return With(text, 0, kAny, [&](Texts given) {
    std::vector<nudge::TrainSequence> anchors;
    for (const auto& [question, answer] : MessagesOf(given, given.size())) {
      nudge::TrainSequence anchor;
      if (!Keep(text, text->text->chat().RenderTokens({{"user", question}}))) return false;
      anchor.tokens = text->tokens;
      anchor.completion_begin = anchor.tokens.size();
      if (!Keep(text, text->text->chat().Tokenize(answer, false, false))) return false;
      anchor.tokens.insert(anchor.tokens.end(), text->tokens.begin(), text->tokens.end());
      anchor.tokens.push_back(text->text->chat().end_of_turn());
      anchors.push_back(std::move(anchor));
    }
    const auto set = session->session->SetAnchors(std::move(anchors));
    return set.ok() || Tell(set.error());
  });
}

int nudge_text_save(NudgeText* text) {
  return With(text, 0, 0, [&](Texts) {
    text->told = {text->chat->Save()};
    return true;
  });
}

int nudge_text_load(NudgeText* text) {
  return With(text, 1, 1, [&](Texts given) {
    const auto loaded = text->chat->Load(given[0]);
    return loaded.ok() || Tell(loaded.error());
  });
}
