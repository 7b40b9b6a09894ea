#include "stages/chat_assembly.h"

#include <algorithm>
#include <cstddef>
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
  size_t exchanges = 0;  // the newest ones
};

// Where the exchanges of a conversation begin: at its begin and at each further turn of the user's.
std::vector<size_t> ExchangesOf(const std::vector<ChatMessage>& messages) {
  std::vector<size_t> begins;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i == 0 || messages[i].role == "user") begins.push_back(i);
  }
  return begins;
}

// From everything down to nothing, each smaller than the one before.
std::vector<Level> Levels(const Chosen& chosen, const Found& found, size_t exchanges) {
  std::vector<Level> levels;
  const size_t shots = chosen.shots.size();
  for (; exchanges > 1; --exchanges) {
    levels.push_back({found.passages.size(), shots, kWhole, exchanges});
  }
  for (size_t passages = found.passages.size(); passages > 1; --passages) {
    levels.push_back({passages, shots, kWhole, exchanges});
  }
  const size_t one = found.passages.empty() ? 0 : 1;
  for (size_t left = shots + 1; left-- > 0;) levels.push_back({one, left, kWhole, exchanges});
  if (exchanges > 0) levels.push_back({one, 0, kWhole});
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

constexpr std::string_view kQuestion = "Question: ";
constexpr std::string_view kQuestionLine = "Question:\n";

// Where the question begins behind passages, as Render puts it; 0 where there are none. A passage
// that has such a line itself is taken for the question's from there on: too much stays, never too
// little.
size_t QuestionBegin(std::string_view text) {
  if (!text.starts_with("[1]")) return 0;
  for (size_t at = text.find("\n\n"); at != text.npos; at = text.find("\n\n", at + 1)) {
    const std::string_view rest = text.substr(at + 2);
    if (rest.starts_with(kQuestion) || rest.starts_with(kQuestionLine)) return at + 2;
  }
  return 0;
}

// A chat in the pieces that may be left out of it, in this order.
class Pieces {
 public:
  explicit Pieces(const std::vector<ChatMessage>& chat) : chat_(chat) {
    ENSURE(!chat.empty());
    const size_t system = chat.front().role == "system" ? 1 : 0;
    for (size_t i = system + 1; i < chat.size(); ++i) {
      if (chat[i].role == "user") exchanges_end_.push_back(i);
    }
    const std::string_view text = chat.back().text;
    const size_t question = QuestionBegin(text);
    for (const std::string_view unit : UnitsOf(text.substr(0, question))) {
      passages_begin_.push_back(static_cast<size_t>(unit.data() + unit.size() - text.data()));
    }
  }

  size_t size() const { return exchanges_end_.size() + passages_begin_.size(); }

  std::vector<ChatMessage> Without(size_t pieces) const {
    const size_t exchanges = std::min(pieces, exchanges_end_.size());
    std::vector<ChatMessage> rest;
    if (chat_.size() > 1 && chat_.front().role == "system") rest.push_back(chat_.front());
    const size_t begin = exchanges == 0 ? rest.size() : exchanges_end_[exchanges - 1];
    rest.insert(rest.end(), chat_.begin() + static_cast<std::ptrdiff_t>(begin), chat_.end());
    if (pieces <= exchanges) return rest;
    std::string& text = rest.back().text;
    text.erase(0, passages_begin_[pieces - exchanges - 1]);
    if (pieces < size()) return rest;
    text.erase(0, (text.starts_with(kQuestion) ? kQuestion : kQuestionLine).size());
    return rest;
  }

 private:
  const std::vector<ChatMessage>& chat_;
  std::vector<size_t> exchanges_end_;   // of few-shots and earlier turns
  std::vector<size_t> passages_begin_;  // without the first piece, the first two, ...
};

std::vector<ChatMessage> Render(const Query& query, const Chosen& chosen, const Found& found,
                                const Level& level) {
  std::vector<ChatMessage> chat;
  if (!chosen.system.empty()) chat.push_back({"system", chosen.system});
  for (size_t i = 0; i < level.shots; ++i) {
    chat.push_back({"user", chosen.shots[i].query});
    chat.push_back({"assistant", chosen.shots[i].answer});
  }
  const std::vector<size_t> exchanges = ExchangesOf(query.messages);
  if (level.exchanges > 0) {
    const size_t begin = exchanges[exchanges.size() - level.exchanges];
    chat.insert(chat.end(), query.messages.begin() + static_cast<std::ptrdiff_t>(begin),
                query.messages.end());
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
  if (level.passages > 0) text += BeginsLaidOut(query.text) ? kQuestionLine : kQuestion;
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

Result<ShortenedChat> ChatAssembly::Shorten(const std::vector<ChatMessage>& chat,
                                            const std::string& answer) const {
  const size_t all_tokens = CountTokens(chat, answer);
  if (all_tokens <= format_.window_tokens) return ShortenedChat{chat, 0};
  const Pieces pieces(chat);
  size_t too_few = 0;
  size_t least_tokens = all_tokens;
  size_t enough = pieces.size();
  if (enough > 0) least_tokens = CountTokens(pieces.Without(enough), answer);
  if (least_tokens > format_.window_tokens) {
    return Error{Code::kTooLarge,
                 "question and answer are " + std::to_string(least_tokens) +
                     " tokens, the window is " + std::to_string(format_.window_tokens),
                 "shorten the answer"};
  }
  while (too_few + 1 < enough) {
    const size_t middle = (too_few + enough) / 2;
    const size_t tokens = CountTokens(pieces.Without(middle), answer);
    if (tokens > format_.window_tokens) {
      too_few = middle;
    } else {
      enough = middle;
      least_tokens = tokens;
    }
  }
  return ShortenedChat{pieces.Without(enough), all_tokens - least_tokens};
}

Result<AssembledChat> ChatAssembly::Apply(const Query& query, const Chosen& chosen,
                                          const Found& found) const {
  const size_t max_tokens = chosen.decoding.max_tokens;
  const size_t room = format_.window_tokens - std::min(format_.window_tokens, max_tokens);
  const size_t budget = std::min(prompt_tokens_max_, room);
  const size_t exchanges = ExchangesOf(query.messages).size();
  std::vector<ChatMessage> chat =
      Render(query, chosen, found, {found.passages.size(), chosen.shots.size(), kWhole, exchanges});
  const size_t all_tokens = format_.count_tokens(chat);
  if (all_tokens <= budget) {
    return AssembledChat{std::move(chat), found.passages.size(), chosen.shots.size()};
  }

  const std::vector<Level> levels = Levels(chosen, found, exchanges);
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
