// What a page knows, as the chat that a question is answered from, and what is said of an answer,
// as a lesson: documents, examples, question -> [WebChat] -> tokens; rating, correction -> an
// example for the learner.
//
// By the server's own stages: Prepare cleans and cuts, Index finds (words alone: a page has no
// embedder), ChatAssembly fits it into the window. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stages/chat_assembly.h"
#include "stages/index.h"
#include "stages/lexical.h"
#include "stages/model/learn/learner.h"
#include "stages/model/serve/chat_tokens.h"
#include "stages/prepare.h"
#include "stages/result.h"

namespace nudge {

struct WebChatOptions {
  size_t window_tokens = 512;    // of a prompt and its answer
  size_t step_tokens_max = 256;  // of a lesson: what does not fit beside the answer is left out
  uint32_t passages = 2;         // of a question, 1..64
};

class WebChat {
 public:
  static constexpr size_t kAnswersKept = 64;  // the last ones, that feedback can speak of
  static constexpr size_t kExamplesMost = 200;
  static constexpr size_t kExamplesShown = 2;  // before a question

  // `tokens` outlives it. Throws StartError for options out of range.
  WebChat(const ChatTokens& tokens, const WebChatOptions& options);

  // Takes the place of the document's older version, whose number it counts on from. How many
  // passages it has. Errors as Prepare::Apply, and kTenantLimit: too many documents or passages.
  Result<uint32_t> AddDocument(std::string id, std::string title, std::string text);
  // Passages that went; 0: there is no such document.
  uint32_t RemoveDocument(const std::string& id);
  // Best first. Errors as Prepare::Apply.
  Result<std::vector<Passage>> Search(std::string question);
  size_t documents() const;

  // Before every question; empty: none. Errors as Prepare::Apply.
  Result<Nothing> SetSystem(std::string text);
  // How such a question is answered: the kExamplesShown with the most words in common stand before
  // a question as turns. Beyond kExamplesMost the oldest goes. Errors as Prepare::Apply.
  Result<Nothing> AddExample(std::string question, std::string answer);

  struct Prompt {
    uint64_t number = 0;  // of the answer, from 1
    std::vector<int32_t> tokens;
    std::vector<Passage> passages;  // that it shows, numbered from [1] in the chat
  };
  // `turns`: earlier ones, oldest first. Errors as Prepare::Apply and ChatAssembly::Apply; the
  // tokenizer's.
  Result<Prompt> Ask(std::string question, std::vector<ChatMessage> turns, uint32_t tokens_max);

  // What is said of an answer: what was shown, a rating of -1..1 (0: none), and how it should have
  // been. Errors: kUnknownQuery (not among the last kAnswersKept), kInvalidEvent (it says nothing),
  // as ChatAssembly::Shorten, as Prepare::Apply.
  Result<TokenExample> ExampleOf(uint64_t number, const std::string& shown, double rating,
                                 const std::optional<std::string>& correction) const;

  // Documents, examples and system prompt, with a checksum; without the answers.
  std::string Save();
  // Errors, after which nothing has changed: kUnreadableFile.
  Result<Nothing> Load(std::string_view bytes);

 private:
  struct Kept {
    std::vector<ChatMessage> chat;
    std::string question;
  };
  struct Example {
    std::string question;
    std::string answer;
    uint32_t slot = 0;  // in words_
  };

  Result<Resolved> Resolve(Event event) const;
  Result<std::vector<int32_t>> AnswerTokens(const std::string& text) const;
  std::vector<FewShot> ShotsFor(const std::string& question) const;
  void Put(std::string question, std::string answer);
  std::optional<TrainSequence> QuoteOf(const Kept& kept, const std::vector<int32_t>& prompt) const;

  const ChatTokens& tokens_;
  const WebChatOptions options_;
  Prepare prepare_;
  ChatAssembly answers_;
  ChatAssembly lessons_;
  Index index_;
  std::map<std::pair<std::string, std::string>, std::string> rows_;  // of index_, by kind and id
  std::string system_;
  std::vector<Example> examples_;  // oldest first
  LexicalIndex words_;             // of their questions
  uint64_t events_ = 0;
  uint64_t answers_given_ = 0;
  std::map<uint64_t, Kept> kept_;  // by number
};

}  // namespace nudge
