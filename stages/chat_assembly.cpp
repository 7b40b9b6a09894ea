#include "stages/chat_assembly.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "stages/lines.h"
#include "stages/passages.h"

namespace nudge {
namespace {

constexpr size_t kWhole = std::string::npos;

// How much of what was found and chosen is shown.
struct Level {
  size_t passages = 0;
  size_t shots = 0;
  size_t first_passage_bytes = 0;
};

// From everything but one passage down to nothing, each smaller than the one before.
std::vector<Level> Levels(const Chosen& chosen, const Found& found) {
  std::vector<Level> levels;
  const size_t shots = chosen.shots.size();
  for (size_t passages = found.passages.size(); passages > 1; --passages) {
    levels.push_back({passages, shots, kWhole});
  }
  const size_t one = found.passages.empty() ? 0 : 1;
  for (size_t left = shots + 1; left-- > 0;) levels.push_back({one, left, kWhole});
  if (one == 1) {
    size_t bytes = found.passages.front().text.size();
    const std::vector<std::string_view> units = UnitsOf(found.passages.front().text);
    for (size_t i = units.size(); i-- > 1;) {
      bytes -= units[i].size();
      levels.push_back({1, 0, bytes});
    }
    levels.push_back({0, 0, kWhole});
  }
  return levels;
}

// Whether a text's first line means something by where it begins: it then has no words in front.
bool BeginsLaidOut(std::string_view text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  return line.starts_with(' ') || line.starts_with('\t') || IsBarRow(line) || FenceOpenedBy(line);
}

std::vector<ChatMessage> Render(const Query& query, const Chosen& chosen, const Found& found,
                                const Level& level) {
  std::vector<ChatMessage> chat;
  if (!chosen.system.empty()) chat.push_back({"system", chosen.system});
  for (size_t i = 0; i < level.shots; ++i) {
    chat.push_back({"user", chosen.shots[i].query});
    chat.push_back({"assistant", chosen.shots[i].answer});
  }
  std::string text;
  for (size_t i = 0; i < level.passages; ++i) {
    const Passage& passage = found.passages[i];
    text += "[" + std::to_string(i + 1) + "]";
    if (!passage.title.empty()) text += " " + passage.title;
    text += passage.title.empty() && !BeginsLaidOut(passage.text) ? " " : "\n";
    text += passage.text.substr(0, i == 0 ? level.first_passage_bytes : kWhole);
    text.resize(text.find_last_not_of(" \t\n") + 1);
    text += "\n\n";
  }
  if (level.passages > 0) text += BeginsLaidOut(query.text) ? "Question:\n" : "Question: ";
  text += query.text;
  chat.push_back({"user", std::move(text)});
  return chat;
}

}  // namespace

ChatAssembly::ChatAssembly(ChatFormat format, size_t prompt_tokens_max)
    : format_(std::move(format)), prompt_tokens_max_(prompt_tokens_max) {
  if (!format_.count_tokens) throw StartError("respond: the model gives no way to count tokens");
}

// The first level that fits. Counting tokens is dear, and each level is smaller than the one
// before: so the level is guessed by bytes, then it and its neighbour are counted, and only where
// these two do not settle it bisection does.
size_t ChatAssembly::CountTokens(std::vector<ChatMessage> chat, const std::string& answer) const {
  chat.push_back({"assistant", answer});
  return format_.count_tokens(chat);
}

Result<AssembledChat> ChatAssembly::Apply(const Query& query, const Chosen& chosen,
                                          const Found& found) const {
  const size_t max_tokens = chosen.decoding.max_tokens;
  const size_t room = format_.window_tokens - std::min(format_.window_tokens, max_tokens);
  const size_t budget = std::min(prompt_tokens_max_, room);
  std::vector<ChatMessage> chat =
      Render(query, chosen, found, {found.passages.size(), chosen.shots.size(), kWhole});
  const size_t all_tokens = format_.count_tokens(chat);
  if (all_tokens <= budget) {
    return AssembledChat{std::move(chat), found.passages.size(), chosen.shots.size()};
  }

  const std::vector<Level> levels = Levels(chosen, found);
  const auto bytes = [](const std::vector<ChatMessage>& messages) {
    size_t sum = 1;
    for (const ChatMessage& message : messages) sum += message.text.size();
    return sum;
  };
  size_t too_big = 0;  // levels[too_big] does not fit
  size_t fits = levels.size();
  std::vector<ChatMessage> fitting;
  const auto probe = [&](size_t level) {
    std::vector<ChatMessage> shorter = Render(query, chosen, found, levels[level]);
    if (format_.count_tokens(shorter) > budget) {
      too_big = level;
      return false;
    }
    fits = level;
    fitting = std::move(shorter);
    return true;
  };
  const double aim = static_cast<double>(bytes(chat)) * static_cast<double>(budget) /
                     static_cast<double>(all_tokens);
  size_t low = 1;
  for (size_t high = levels.size(); low < high;) {  // the guess: no tokens are counted here
    const size_t middle = (low + high) / 2;
    const size_t size = bytes(Render(query, chosen, found, levels[middle]));
    if (static_cast<double>(size) <= aim) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (low < levels.size()) {
    const bool fitted = probe(low);
    const size_t neighbour = fitted ? low - 1 : low + 1;
    if (neighbour > too_big && neighbour < fits) probe(neighbour);
  }
  while (too_big + 1 < fits) probe((too_big + fits) / 2);
  if (fits < levels.size()) {
    return AssembledChat{std::move(fitting), levels[fits].passages, levels[fits].shots};
  }

  chat = Render(query, chosen, found, levels.back());
  const size_t least_tokens = format_.count_tokens(chat);
  if (least_tokens <= room) return AssembledChat{std::move(chat), 0, 0};
  return Error{Code::kTooLarge,
               "text: system prompt and question are " + std::to_string(least_tokens) +
                   " tokens and the answer may take " + std::to_string(max_tokens) +
                   ", the window is " + std::to_string(format_.window_tokens),
               "shorten the question or lower options.max_tokens"};
}

}  // namespace nudge
