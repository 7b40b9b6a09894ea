#include "stages/prepare.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "stages/content.h"
#include "stages/text.h"

namespace nudge {
namespace {

// How a field is cleaned and what it is refused for.
struct Field {
  const char* path;
  Layout layout;
  uint32_t limit_chars;
  bool required;
};

// The key of the limit that a field of this path has.
std::string LimitKey(std::string_view path) {
  if (path.ends_with(".title")) return "prepare.title_chars";
  const bool asks = path.ends_with(".query") || path.ends_with(".text");
  return asks ? "prepare.query_chars" : "prepare.answer_chars";
}

// Cleans `text` in place, or says what is wrong with it.
std::optional<Error> CleanField(std::string& text, const Field& field) {
  text = CleanText(std::move(text), field.layout);
  if (text.empty()) {
    if (!field.required) return std::nullopt;
    return Error{Code::kInvalidEvent,
                 std::string(field.path) +
                     ": nothing is left once white space and invisible "
                     "characters are gone",
                 "send a text"};
  }
  if (text.size() <= field.limit_chars) return std::nullopt;  // bytes are never fewer
  const size_t chars = CountCharacters(text);
  if (chars <= field.limit_chars) return std::nullopt;
  return Error{Code::kTooLarge,
               std::string(field.path) + ": " + std::to_string(chars) +
                   " characters are more than the limit of " + std::to_string(field.limit_chars),
               "shorten it, or raise " + LimitKey(field.path)};
}

double Behaved(const Behaviour& behaviour) {
  double dwelt = 0;
  if (behaviour.dwell_ms) {
    const double seconds = *behaviour.dwell_ms / 1000.0;
    dwelt = seconds < 5 ? std::max(-1.0, (seconds - 5) / 4) : std::min(1.0, (seconds - 5) / 25);
  }
  const double sum = (behaviour.clicked ? .2 : 0) + (behaviour.copied ? .4 : 0) -
                     (behaviour.regenerated ? .5 : 0) + .1 * dwelt;
  return std::clamp(sum, -.5, .5);
}

Signal SignalOf(const Feedback& feedback) {
  Signal signal;
  signal.correction = feedback.correction;
  const double rating = feedback.rating.value_or(feedback.correction ? -.5 : 0);
  signal.reward = rating + (1 - std::abs(rating)) * Behaved(feedback.behaviour);
  return signal;
}

// Cleans feedback's texts; a correction that corrects nothing goes.
std::optional<Error> CleanFeedback(Feedback& feedback, const PrepareOptions& options) {
  if (feedback.rating && !(*feedback.rating >= -1 && *feedback.rating <= 1)) {
    return Error{Code::kInvalidEvent,
                 "data.rating: " + std::to_string(*feedback.rating) + " is outside -1..1",
                 "send \"up\", \"down\" or a number from -1 to 1"};
  }
  if (feedback.inline_answer) {
    const Field query{"data.inline.query", Layout::kParagraphs, options.query_chars, true};
    if (auto error = CleanField(feedback.inline_answer->query, query)) return error;
    const Field completion{"data.inline.completion", Layout::kKept, options.answer_chars, true};
    if (auto error = CleanField(feedback.inline_answer->completion, completion)) return error;
  }
  if (!feedback.correction) return std::nullopt;
  const Field correction{"data.correction", Layout::kKept, options.answer_chars, false};
  if (auto error = CleanField(*feedback.correction, correction)) return error;
  const bool repeats =
      feedback.inline_answer && *feedback.correction == feedback.inline_answer->completion;
  if (feedback.correction->empty() || repeats) feedback.correction.reset();
  return std::nullopt;
}

// A stretch of a document that is cut only if it is longer than a chunk.
struct Piece {
  std::string_view text;  // with the white space behind it
  size_t chars = 0;
  bool ends_paragraph = false;
};

// The length in bytes of the first `limit` characters of `text`.
size_t BytesOfCharacters(std::string_view text, size_t limit) {
  size_t bytes = 0;
  for (size_t chars = 0; bytes < text.size() && chars < limit; ++chars) {
    do {
      ++bytes;
    } while (bytes < text.size() && (static_cast<uint8_t>(text[bytes]) & 0xC0U) == 0x80U);
  }
  return bytes;
}

// The pieces of a text, none longer than `limit` characters but for white space at its end.
std::vector<Piece> PiecesOf(std::string_view text, size_t limit) {
  std::vector<Piece> pieces;
  const auto add = [&](std::string_view piece) {
    pieces.push_back({piece, CountCharacters(piece), piece.ends_with("\n\n")});
  };
  for (const std::string_view sentence : Sentences(text)) {
    if (CountCharacters(sentence) <= limit) {
      add(sentence);
      continue;
    }
    for (std::string_view wrappable : WrappablePieces(sentence)) {
      while (CountCharacters(wrappable) > limit) {
        const size_t bytes = BytesOfCharacters(wrappable, limit);
        add(wrappable.substr(0, bytes));
        wrappable.remove_prefix(bytes);
      }
      add(wrappable);
    }
  }
  return pieces;
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(" \n"), text.size());
  const size_t end = text.find_last_not_of(" \n");
  return end == std::string_view::npos ? std::string_view() : text.substr(begin, end + 1 - begin);
}

std::string_view Joined(std::string_view first, std::string_view last) {
  return {first.data(), static_cast<size_t>(last.data() + last.size() - first.data())};
}

// Pieces [begin, end) of one chunk.
struct Range {
  size_t begin = 0;
  size_t end = 0;
  size_t chars = 0;
};

// As many pieces to a chunk as fit; a paragraph's end closes one that is at least half full.
std::vector<Range> Pack(const std::vector<Piece>& pieces, size_t limit) {
  std::vector<Range> ranges;
  Range open;
  const auto close = [&](size_t at) {
    if (open.end > open.begin) ranges.push_back(open);
    open = {at, at, 0};
  };
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (open.chars + CountCharacters(Trimmed(pieces[i].text)) > limit) close(i);
    open.chars += pieces[i].chars;
    open.end = i + 1;
    if (pieces[i].ends_paragraph && open.chars >= limit / 2) close(i + 1);
  }
  close(pieces.size());
  if (ranges.size() > 1 && ranges.back().chars < limit / 4) {
    const size_t end = ranges.back().end;
    ranges.pop_back();
    ranges.back().end = end;
  }
  return ranges;
}

bool InRange(uint32_t value, uint32_t least, uint32_t most) {
  return value >= least && value <= most;
}

Error WrongVectors(const std::string& message) {
  return {Code::kModelFailed, message, "check that the embedder is the configured one"};
}

}  // namespace

Prepare::Prepare(const PrepareOptions& options) : options_(options) {
  if (!InRange(options.chunk_chars, 64, 100000)) {
    throw StartError("chunk_chars: " + std::to_string(options.chunk_chars) +
                     " is outside 64..100000");
  }
  if (options.chunks_per_document == 0 || options.title_chars == 0 || options.query_chars == 0 ||
      options.answer_chars == 0) {
    throw StartError("a limit of prepare is 0: nothing would pass");
  }
}

Result<Prepared> Prepare::Apply(Event event) const {
  Prepared prepared;
  prepared.content = ContentOf(event);
  prepared.event = std::move(event);
  auto& data = prepared.event.data;
  const auto answer = [&](const char* path) {
    return Field{path, Layout::kKept, options_.answer_chars, true};
  };
  const Field query_text{"data.text", Layout::kParagraphs, options_.query_chars, true};
  const Field example_query{"data.query", Layout::kParagraphs, options_.query_chars, true};
  if (auto* upsert = std::get_if<DocumentUpsert>(&data)) {
    const Field title{"data.title", Layout::kLine, options_.title_chars, false};
    if (auto error = CleanField(upsert->title, title)) return *error;
    const Field text{"data.text", Layout::kParagraphs, UINT32_MAX, true};
    if (auto error = CleanField(upsert->text, text)) return *error;
    auto chunks = CutIntoChunks(upsert->text);
    if (!chunks) return chunks.error();
    prepared.chunks = std::move(*chunks);
  } else if (auto* query = std::get_if<Query>(&data)) {
    if (auto error = CleanField(query->text, query_text)) return *error;
  } else if (auto* feedback = std::get_if<Feedback>(&data)) {
    if (auto error = CleanFeedback(*feedback, options_)) return *error;
    prepared.signal = SignalOf(*feedback);
  } else if (auto* example = std::get_if<ExampleGiven>(&data)) {
    if (auto error = CleanField(example->query, example_query)) return *error;
    if (auto error = CleanField(example->answer, answer("data.answer"))) return *error;
  } else if (auto* prompt = std::get_if<PromptUpsert>(&data)) {
    if (auto error = CleanField(prompt->system, answer("data.system"))) return *error;
  }
  return prepared;
}

Result<std::vector<Chunk>> Prepare::CutIntoChunks(const std::string& text) const {
  const size_t limit = options_.chunk_chars;
  std::vector<Chunk> chunks;
  const size_t chars = text.size() <= limit ? text.size() : CountCharacters(text);
  if (chars <= limit) {
    chunks.push_back({text, {}});
    return chunks;
  }
  const auto too_large = [&](const std::string& amount) {
    return Error{Code::kTooLarge,
                 "data.text: " + amount + " are more than the limit of " +
                     std::to_string(options_.chunks_per_document) + " chunks of " +
                     std::to_string(limit) + " characters",
                 "send the document in parts, or raise prepare.chunks_per_document"};
  };
  // No chunk has more than 5/4 of the limit: longer texts need not be cut to be refused.
  if (chars / 5 > options_.chunks_per_document * (limit / 4 + 1)) {
    return too_large(std::to_string(chars) + " characters");
  }
  const std::vector<Piece> pieces = PiecesOf(text, limit);
  const std::vector<Range> ranges = Pack(pieces, limit);
  if (ranges.size() > options_.chunks_per_document) {
    return too_large(std::to_string(ranges.size()) + " chunks");
  }
  for (const Range& range : ranges) {
    size_t begin = range.begin;
    if (options_.overlap_sentence && begin > 0 && pieces[begin - 1].chars <= limit / 4) --begin;
    const std::string_view whole = Joined(pieces[begin].text, pieces[range.end - 1].text);
    chunks.push_back({std::string(Trimmed(whole)), {}});
  }
  return chunks;
}

EmbeddingInput Prepare::TextsToEmbed(const Prepared& prepared) {
  EmbeddingInput input;
  if (const auto* upsert = std::get_if<DocumentUpsert>(&prepared.event.data)) {
    const std::string prefix = upsert->title.empty() ? "" : upsert->title + "\n";
    for (const Chunk& chunk : prepared.chunks) input.texts.push_back(prefix + chunk.text);
  } else if (const auto* query = std::get_if<Query>(&prepared.event.data)) {
    input = {{query->text}, true};
  } else if (const auto* example = std::get_if<ExampleGiven>(&prepared.event.data)) {
    input = {{example->query}, true};
  }
  return input;
}

Result<Nothing> Prepare::Attach(Prepared& prepared, std::vector<Vector> vectors) const {
  const auto& data = prepared.event.data;
  const bool asks =
      std::holds_alternative<Query>(data) || std::holds_alternative<ExampleGiven>(data);
  const size_t wanted = asks ? 1 : prepared.chunks.size();
  if (vectors.size() != wanted) {
    return WrongVectors("the embedder gave " + std::to_string(vectors.size()) + " vectors for " +
                        std::to_string(wanted) + " texts");
  }
  for (Vector& vector : vectors) {
    if (vector.size() != options_.dimension) {
      return WrongVectors("the embedder gave a vector of dimension " +
                          std::to_string(vector.size()) + " instead of " +
                          std::to_string(options_.dimension));
    }
    double square = 0;
    for (const float x : vector) square += static_cast<double>(x) * x;
    if (!std::isfinite(square) || square <= 0) {
      return WrongVectors("the embedder gave a vector that is not finite or has no length");
    }
    const double scale = 1 / std::sqrt(square);
    for (float& x : vector) x = static_cast<float>(x * scale);
  }
  if (asks) {
    prepared.query_vector = std::move(vectors.front());
  } else {
    for (size_t i = 0; i < wanted; ++i) prepared.chunks[i].vector = std::move(vectors[i]);
  }
  return Nothing{};
}

}  // namespace nudge
