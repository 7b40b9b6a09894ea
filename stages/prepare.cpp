#include "stages/prepare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "stages/content.h"
#include "stages/follow_up.h"
#include "stages/passages.h"
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
  feedback.comment = CleanText(std::move(feedback.comment), Layout::kKept);
  if (!feedback.correction) return std::nullopt;
  const Field correction{"data.correction", Layout::kKept, options.answer_chars, false};
  if (auto error = CleanField(*feedback.correction, correction)) return error;
  const bool repeats =
      feedback.inline_answer && *feedback.correction == feedback.inline_answer->completion;
  if (feedback.correction->empty() || repeats) feedback.correction.reset();
  return std::nullopt;
}

// Cleans earlier turns: a user's as a question, an assistant's as an answer.
std::optional<Error> CleanMessages(std::vector<ChatMessage>& messages,
                                   const PrepareOptions& options) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string path = "data.messages." + std::to_string(i) + ".content";
    const bool asks = messages[i].role == "user";
    const Field content{path.c_str(), asks ? Layout::kParagraphs : Layout::kKept,
                        options.answer_chars, true};
    if (auto error = CleanField(messages[i].text, content)) return error;
  }
  return std::nullopt;
}

// What every embedder reads at least, less its own marks and prefix; and what of that a title has.
constexpr size_t kEmbeddedTokens = 500;
constexpr size_t kTitleTokens = 124;

std::string_view EmbeddedTitle(std::string_view title) {
  return title.substr(0, BytesThatFit(title, title.size(), kTitleTokens));
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
    auto chunks = CutIntoChunks(*upsert);
    if (!chunks) return chunks.error();
    prepared.chunks = std::move(*chunks);
  } else if (auto* query = std::get_if<Query>(&data)) {
    if (auto error = CleanField(query->text, query_text)) return *error;
    if (auto error = CleanMessages(query->messages, options_)) return *error;
  } else if (auto* feedback = std::get_if<Feedback>(&data)) {
    if (auto error = CleanFeedback(*feedback, options_)) return *error;
    prepared.signal = SignalOf(*feedback);
  } else if (auto* example = std::get_if<ExampleGiven>(&data)) {
    if (auto error = CleanField(example->query, example_query)) return *error;
    if (auto error = CleanField(example->answer, answer("data.answer"))) return *error;
  } else if (auto* prompt = std::get_if<PromptUpsert>(&data)) {
    if (auto error = CleanField(prompt->system, answer("data.system"))) return *error;
  } else if (auto* forget = std::get_if<Forget>(&data)) {
    const bool own = !forget->event_id.empty() && forget->event_source.empty();
    if (own) forget->event_source = prepared.event.source;
  } else if (auto* sync = std::get_if<SourceSync>(&data)) {
    if (sync->source.empty()) sync->source = prepared.event.source;
  }
  return prepared;
}

Result<std::vector<Chunk>> Prepare::CutIntoChunks(const DocumentUpsert& upsert) const {
  PassageLimits limits{options_.chunk_chars, std::numeric_limits<size_t>::max(),
                       options_.overlap_sentence};
  if (options_.dimension > 0) {
    limits.tokens = kEmbeddedTokens - EstimateTokens(EmbeddedTitle(upsert.title));
  }
  const auto too_large = [&](const std::string& amount) {
    return Error{Code::kTooLarge,
                 "data.text: " + amount + " are more than the limit of " +
                     std::to_string(options_.chunks_per_document) + " chunks of " +
                     std::to_string(limits.chars) + " characters",
                 "send the document in parts, or raise prepare.chunks_per_document"};
  };
  const size_t most_chars = size_t{options_.chunks_per_document} * limits.chars;
  if (upsert.text.size() > most_chars) {
    // What is cut here is white space alone: at most as much again.
    const size_t chars = CountCharacters(upsert.text);
    if (chars / 2 > most_chars) return too_large(std::to_string(chars) + " characters");
  }
  std::vector<std::string> passages = CutIntoPassages(upsert.text, limits);
  if (passages.size() > options_.chunks_per_document) {
    return too_large(std::to_string(passages.size()) + " chunks");
  }
  std::vector<Chunk> chunks;
  chunks.reserve(passages.size());
  for (std::string& passage : passages) chunks.push_back({std::move(passage), {}});
  return chunks;
}

EmbeddingInput Prepare::TextsToEmbed(const Prepared& prepared) {
  EmbeddingInput input;
  if (const auto* upsert = std::get_if<DocumentUpsert>(&prepared.event.data)) {
    std::string prefix(EmbeddedTitle(upsert->title));
    if (!prefix.empty()) prefix += "\n";
    for (const Chunk& chunk : prepared.chunks) input.texts.push_back(prefix + chunk.text);
  } else if (const auto* query = std::get_if<Query>(&prepared.event.data)) {
    input = {{SearchTextOf(*query)}, true};
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
