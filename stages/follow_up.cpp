#include "stages/follow_up.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "stages/text.h"

namespace nudge {
namespace {

// Folded as Words folds.
constexpr std::string_view kPointers[] = {
    "another", "he",   "her",  "him",  "his",   "it",   "its",   "one",   "ones", "other",
    "others",  "same", "she",  "that", "their", "them", "there", "these", "they", "this",
    "those",   "他",   "他的", "它的", "她的",  "其",   "他们",  "它",    "它们", "她",
    "她们",    "这",   "这个", "这些", "那",    "那个", "那些"};
constexpr std::string_view kCommon[] = {
    "a",    "about", "also",  "am",    "an",   "and",  "are",  "as",     "at",     "be",
    "but",  "by",    "can",   "could", "did",  "do",   "does", "for",    "from",   "has",
    "have", "how",   "i",     "if",    "in",   "is",   "may",  "me",     "much",   "many",
    "my",   "no",    "not",   "of",    "on",   "or",   "our",  "please", "should", "so",
    "than", "the",   "then",  "to",    "too",  "us",   "was",  "we",     "were",   "what",
    "when", "where", "which", "who",   "why",  "will", "with", "would",  "yes",    "you",
    "your", "也",    "什么",  "几",    "可以", "吗",   "和",   "呢",     "哪",     "多",
    "多少", "怎么",  "我",    "是",    "有",   "的",   "能",   "要"};

// it of it's, what of what's.
std::string_view WithoutClitic(std::string_view word) {
  return word.substr(0, std::min(word.find('\''), word.find("\u2019")));
}

template <size_t Count>
bool IsAmong(const std::string_view (&words)[Count], std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

// A turn's words, folded, that other questions do not have too; and whether one of the others
// points back.
struct Contents {
  std::vector<std::string> words;
  bool points_back = false;
};

Contents ContentsOf(std::string_view turn) {
  Contents contents;
  for (const std::string& whole : Words(turn)) {
    const std::string_view word = WithoutClitic(whole);
    if (IsAmong(kPointers, word)) {
      contents.points_back = true;
    } else if (!IsAmong(kCommon, word)) {
      contents.words.emplace_back(word);
    }
  }
  return contents;
}

}  // namespace

bool FollowsOn(std::string_view turn) {
  const Contents contents = ContentsOf(turn);
  return contents.points_back || contents.words.size() < kContentWords;
}

std::string SearchTextOf(const Query& query) {
  const auto before =
      std::find_if(query.messages.rbegin(), query.messages.rend(),
                   [](const ChatMessage& message) { return message.role == "user"; });
  if (before == query.messages.rend() || !FollowsOn(query.text)) return query.text;
  std::vector<std::string> words = ContentsOf(before->text).words;
  if (words.size() > kWordsBefore) words.resize(kWordsBefore);
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text.empty() ? query.text : text + ": " + query.text;
}

}  // namespace nudge
