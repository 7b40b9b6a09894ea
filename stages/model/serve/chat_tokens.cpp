#include "stages/model/serve/chat_tokens.h"

#include <llama.h>

#include <algorithm>
#include <stdexcept>

namespace nudge {
namespace {

constexpr char kPlaceholderBegin = '\x02';
constexpr char kPlaceholderEnd = '\x03';

Error Failed(const std::string& what) {
  return {Code::kModelFailed, what, ""};
}

}  // namespace

// A piece of a rendered chat: what the template wrote, or a message.
struct ChatTokens::Segment {
  std::string text;
  bool from_template = true;
};

// A piece of a prompt: ordinary text, or a control token that the template wrote.
struct ChatTokens::Piece {
  std::string text;
  std::optional<int32_t> control;
};

ChatTokens::ChatTokens(const llama_vocab* vocabulary, std::string chat_template)
    : vocabulary_(vocabulary),
      chat_template_(std::move(chat_template)),
      end_of_turn_(llama_vocab_eos(vocabulary)) {
  FindControls();
}

void ChatTokens::FindControls() {
  for (llama_token token = 0; token < llama_vocab_n_tokens(vocabulary_); ++token) {
    if (!llama_vocab_is_control(vocabulary_, token)) continue;
    const std::string text = llama_vocab_get_text(vocabulary_, token);
    if (!text.empty()) controls_.emplace_back(text, token);
  }
  std::stable_sort(controls_.begin(), controls_.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
}

// What the template writes after an assistant's message says how the model ends its turn (the
// file's own fields often say something else).
Result<ChatTokens> ChatTokens::Make(const llama_vocab* vocabulary, std::string chat_template) {
  ChatTokens chat(vocabulary, std::move(chat_template));
  const auto segments =
      chat.Segments({{"system", "a"}, {"user", "b"}, {"assistant", "c"}, {"user", "d"}}, true);
  if (!segments) return segments.error();
  const auto turn = chat.Segments({{"user", "a"}, {"assistant", "b"}}, false);
  if (!turn) return turn.error();
  for (const Piece& piece : chat.Pieces({turn->back()})) {
    if (piece.control && chat.EndsTurn(*piece.control)) {
      chat.end_of_turn_ = *piece.control;
      break;
    }
  }
  return chat;
}

bool ChatTokens::EndsTurn(int32_t token) const {
  return llama_vocab_is_eog(vocabulary_, token);
}

// Throws what the tokenizer throws.
std::vector<int32_t> ChatTokens::Tokens(std::string_view text, bool add_special,
                                        bool parse_special) const {
  if (text.size() > INT32_MAX / 2) throw std::length_error("the text is too long");
  const auto length = static_cast<int32_t>(text.size());
  std::vector<int32_t> tokens(text.size() / 2 + 8);
  int32_t count = llama_tokenize(vocabulary_, text.data(), length, tokens.data(),
                                 static_cast<int32_t>(tokens.size()), add_special, parse_special);
  if (count == INT32_MIN) throw std::length_error("the text has too many tokens");
  if (count < 0) {
    tokens.resize(static_cast<size_t>(-count));
    count = llama_tokenize(vocabulary_, text.data(), length, tokens.data(), -count, add_special,
                           parse_special);
  }
  tokens.resize(static_cast<size_t>(std::max(count, 0)));
  return tokens;
}

// Ordinary text never becomes a control token. Some vocabularies could build one from its
// characters: then the text is tokenized in two parts, cut inside the token's spelling.
void ChatTokens::AppendPlain(const std::string& text, std::vector<int32_t>* tokens) const {
  if (text.empty()) return;
  const std::vector<int32_t> found = Tokens(text, false, false);
  const auto control = std::find_if(found.begin(), found.end(), [&](int32_t token) {
    return llama_vocab_is_control(vocabulary_, token);
  });
  if (control == found.end()) {
    tokens->insert(tokens->end(), found.begin(), found.end());
    return;
  }
  const size_t at = text.find(llama_vocab_get_text(vocabulary_, *control));
  if (at == std::string::npos || text.size() < 2) {
    throw std::runtime_error("the tokenizer makes control tokens of ordinary text");
  }
  AppendPlain(text.substr(0, at + 1), tokens);
  AppendPlain(text.substr(at + 1), tokens);
}

// The rendered chat, cut where messages begin and end. The template sees placeholders, so nothing
// that a message says can pass for the template's own words.
Result<std::vector<ChatTokens::Segment>> ChatTokens::Segments(const std::vector<ChatMessage>& chat,
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
    return llama_chat_apply_template(chat_template_.c_str(), shown.data(), shown.size(),
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

std::vector<ChatTokens::Piece> ChatTokens::Pieces(const std::vector<Segment>& segments) const {
  std::vector<Piece> pieces(1);
  for (const Segment& segment : segments) {
    if (!segment.from_template) {
      pieces.back().text += segment.text;
      continue;
    }
    for (size_t at = 0; at < segment.text.size();) {
      const auto control = std::find_if(controls_.begin(), controls_.end(), [&](const auto& known) {
        return segment.text.compare(at, known.first.size(), known.first) == 0;
      });
      if (control == controls_.end()) {
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

Result<std::vector<int32_t>> ChatTokens::Tokenize(std::string_view text, bool add_special,
                                                  bool parse_special) const {
  try {
    return Tokens(text, add_special, parse_special);
  } catch (const std::exception& exception) {
    return Failed(std::string("the tokenizer refuses a text: ") + exception.what());
  }
}

std::string ChatTokens::Spelling(std::span<const int32_t> tokens) const {
  std::string bytes(tokens.size() * 8 + 16, '\0');
  const auto detokenize = [&] {
    return llama_detokenize(vocabulary_, tokens.data(), static_cast<int32_t>(tokens.size()),
                            bytes.data(), static_cast<int32_t>(bytes.size()), false, false);
  };
  int32_t length = detokenize();
  if (length < 0) {
    bytes.resize(static_cast<size_t>(-length));
    length = detokenize();
  }
  bytes.resize(static_cast<size_t>(std::max(length, 0)));
  return bytes;
}

Result<std::string> ChatTokens::Render(const std::vector<ChatMessage>& chat,
                                       bool add_generation_prompt) const {
  const auto segments = Segments(chat, add_generation_prompt);
  if (!segments) return segments.error();
  std::string rendered;
  for (const Segment& segment : *segments) rendered += segment.text;
  return rendered;
}

Result<std::vector<int32_t>> ChatTokens::RenderTokens(const std::vector<ChatMessage>& chat,
                                                      bool add_generation_prompt) const {
  const auto segments = Segments(chat, add_generation_prompt);
  if (!segments) return segments.error();
  std::vector<int32_t> tokens;
  try {
    if (llama_vocab_get_add_bos(vocabulary_)) {
      tokens.push_back(llama_vocab_bos(vocabulary_));
    }
    for (const Piece& piece : Pieces(*segments)) {
      // A template may write the BOS that the model wants.
      if (piece.control && tokens.size() == 1 && tokens[0] == *piece.control) continue;
      if (piece.control) tokens.push_back(*piece.control);
      AppendPlain(piece.text, &tokens);
    }
  } catch (const std::exception& exception) {
    return Failed(std::string("the tokenizer refuses a chat: ") + exception.what());
  }
  return tokens;
}

}  // namespace nudge
