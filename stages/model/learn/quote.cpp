#include "stages/model/learn/quote.h"

#include <algorithm>
#include <string_view>

namespace nudge {
namespace {

constexpr size_t kWordsLeast = 6;
constexpr size_t kBytesMost = 400;

std::optional<Quote> Halves(std::string_view sentence) {
  const auto words = 1 + static_cast<size_t>(std::count(sentence.begin(), sentence.end(), ' '));
  if (words < kWordsLeast || sentence.size() > kBytesMost) return std::nullopt;
  size_t at = 0;
  for (size_t word = 0; word < words / 2; ++word) at = sentence.find(' ', at + 1);
  return Quote{std::string(sentence.substr(0, at)), std::string(sentence.substr(at))};
}

}  // namespace

std::optional<Quote> QuoteIn(const std::vector<ChatMessage>& chat, uint64_t question_bytes) {
  if (chat.empty() || question_bytes == 0 || chat.back().text.size() <= question_bytes) {
    return std::nullopt;
  }
  std::string_view documents = chat.back().text;
  documents.remove_suffix(question_bytes);
  const size_t last = documents.rfind('\n');  // what leads to the question is no document
  if (last == std::string_view::npos) return std::nullopt;
  documents = documents.substr(0, last);
  while (!documents.empty()) {
    const size_t end = std::min(documents.find('\n'), documents.size());
    std::string_view line = documents.substr(0, end);
    documents.remove_prefix(std::min(end + 1, documents.size()));
    if (line.starts_with('[')) continue;
    const size_t stop = line.find(". ");
    if (stop != std::string_view::npos) line = line.substr(0, stop + 1);
    if (std::optional<Quote> quote = Halves(line)) return quote;
  }
  return std::nullopt;
}

}  // namespace nudge
