#include "pipeline/report/held_out.h"

#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "connectors/codec.h"
#include "connectors/json_reader.h"

namespace nudge {
namespace {

constexpr size_t kQuestions = 10'000;
constexpr size_t kJsonDepth = 4;
constexpr int32_t kRegexSteps = 1'000;  // ICU's time limit: a step is about a millisecond

icu::UnicodeString FromUtf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

// The reason if it does not compile, else nothing.
std::optional<std::string> Compile(const std::string& regex,
                                   std::unique_ptr<icu::RegexPattern>& pattern) {
  UErrorCode status = U_ZERO_ERROR;
  UParseError where{};
  pattern.reset(icu::RegexPattern::compile(FromUtf8(regex), 0, where, status));
  if (U_SUCCESS(status)) return std::nullopt;
  return std::string(u_errorName(status)) + " at character " + std::to_string(where.offset);
}

bool Matches(const icu::RegexPattern& pattern, std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::UnicodeString input = FromUtf8(text);
  const std::unique_ptr<icu::RegexMatcher> matcher(pattern.matcher(input, status));
  if (U_FAILURE(status)) return false;
  matcher->setTimeLimit(kRegexSteps, status);
  return matcher->find(status) && U_SUCCESS(status);
}

void ReadStyle(const JsonValue root, JsonReader& json, HeldOut& out) {
  const EventLimits limits;
  const Limit text{"the limit of a style's texts", limits.query_bytes};
  json.Object(
      {nullptr, "", root},
      {{"style", Need::kRequired, [&](const Place& style) {
          json.Object(
              style, {
                         {"name", Need::kRequired,
                          [&](const Place& place) { json.FullText(place, text, out.style_name); }},
                         {"regex", Need::kRequired,
                          [&](const Place& place) { json.FullText(place, text, out.style_regex); }},
                     });
        }}});
}

HeldOut::Question ReadQuestion(const JsonValue root, JsonReader& json) {
  const EventLimits limits;
  const Limit tenant{"the limit of a tenant", limits.tenant_bytes};
  const Limit query{"the limit of a question", limits.query_bytes};
  const Limit answer{"the limit of an answer", limits.answer_bytes};
  HeldOut::Question out;
  json.Object({nullptr, "", root},
              {
                  {"tenant", Need::kRequired,
                   [&](const Place& place) { json.Id(place, tenant, out.tenant); }},
                  {"query", Need::kRequired,
                   [&](const Place& place) { json.FullText(place, query, out.query); }},
                  {"answer", Need::kRequired,
                   [&](const Place& place) { json.FullText(place, answer, out.answer); }},
                  {"fact", Need::kRequired,
                   [&](const Place& place) { json.FullText(place, answer, out.fact); }},
                  {"showcase", Need::kOptional,
                   [&](const Place& place) { json.Bool(place, out.showcase); }},
              });
  return out;
}

// Takes the file line by line; the first is the style.
class Lines {
 public:
  explicit Lines(std::string path) : path_(std::move(path)) {}

  void Take(const std::string& line) {
    ++number_;
    if (line.size() > EventLimits{}.line_bytes) Fail("is over the limit of a line");
    const Result<JsonValue> root = ParseJson(line, kJsonDepth);
    if (!root.ok()) Fail(root.error().message);
    JsonReader json;
    if (number_ == 1) {
      ReadStyle(*root, json, out_);
      Check(json);
      if (const auto fault = Compile(out_.style_regex, pattern_)) Fail("style.regex: " + *fault);
      return;
    }
    HeldOut::Question question = ReadQuestion(*root, json);
    Check(json);
    if (!Matches(*pattern_, question.answer)) Fail("answer: is not in the style of the first line");
    if (!ContainsFact(question, question.answer)) Fail("answer: does not contain the fact");
    if (out_.questions.size() == kQuestions) {
      Fail("is over the limit of " + std::to_string(kQuestions) + " questions");
    }
    out_.questions.push_back(std::move(question));
  }

  HeldOut Finish() {
    if (number_ == 0) throw StartError(path_ + ": is empty; its first line must be the style");
    if (out_.questions.empty()) throw StartError(path_ + ": holds no question");
    return std::move(out_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw StartError(path_ + ": line " + std::to_string(number_) + ": " + what);
  }
  void Check(JsonReader& json) const {
    if (!json.ok()) Fail(json.TakeError().message);
  }

  const std::string path_;
  size_t number_ = 0;
  HeldOut out_;
  std::unique_ptr<icu::RegexPattern> pattern_;
};

}  // namespace

HeldOut ReadHeldOut(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw StartError(path + ": cannot be read; it should hold the held-out questions");
  Lines lines(path);
  std::string line;
  while (std::getline(in, line)) lines.Take(line);
  if (in.bad()) throw StartError(path + ": reading stopped before its end");
  return lines.Finish();
}

std::vector<bool> InStyle(const HeldOut& held_out, const std::vector<std::string>& answers) {
  std::unique_ptr<icu::RegexPattern> pattern;
  ENSURE(!Compile(held_out.style_regex, pattern));
  std::vector<bool> in_style;
  for (const std::string& answer : answers) in_style.push_back(Matches(*pattern, answer));
  return in_style;
}

bool ContainsFact(const HeldOut::Question& question, std::string_view answer) {
  return FromUtf8(answer).foldCase().indexOf(FromUtf8(question.fact).foldCase()) >= 0;
}

Result<std::vector<std::string>> AnswerHeldOut(const HeldOut& held_out, Backend& backend,
                                               const ChatOf& chat_of, const AdapterOf& adapter_of,
                                               const MeasureOptions& options) {
  const size_t count = held_out.questions.size();
  std::vector<std::vector<ChatMessage>> chats;
  std::vector<const AdapterVersion*> adapters;
  for (const HeldOut::Question& question : held_out.questions) {
    chats.push_back(chat_of(question));
    adapters.push_back(adapter_of(question.tenant));
  }
  Decoding decoding = options.decoding;
  decoding.temperature = 0;

  std::vector<std::optional<Result<Completed>>> done(count);
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&](size_t slot) {
    while (!failed) {
      const size_t i = next.fetch_add(1);
      if (i >= count) return;
      done[i] = backend.Generate(slot, chats[i], adapters[i], decoding, 0,
                                 {.cancelled = options.cancelled});
      if (!done[i]->ok()) failed = true;
    }
  };
  std::vector<std::thread> threads;
  const size_t slots = std::max(options.slots, backend.answers_together());
  for (size_t slot = 1; slot < std::min(slots, count); ++slot) {
    threads.emplace_back(work, slot);
  }
  work(0);
  for (std::thread& thread : threads) thread.join();

  std::vector<std::string> answers;
  for (const auto& one : done) {
    if (one && !one->ok()) return one->error();
  }
  for (auto& one : done) answers.push_back(std::move((*one)->text));
  return answers;
}

Result<HeldOutScore> Measure(const HeldOut& held_out, Backend& backend, const ChatOf& chat_of,
                             const AdapterOf& adapter_of, const MeasureOptions& options) {
  HeldOutScore score;
  score.questions = held_out.questions.size();
  if (score.questions == 0) return score;
  const auto count = static_cast<double>(score.questions);
  for (const HeldOut::Question& question : held_out.questions) {
    if (options.cancelled && options.cancelled()) {
      return Error{Code::kModelFailed, "measuring was stopped", ""};
    }
    const Result<double> nll = backend.NegativeLogLikelihood(chat_of(question), question.answer,
                                                             adapter_of(question.tenant));
    if (!nll.ok()) return nll.error();
    score.nll_per_token += *nll / count;
  }
  if (!options.with_generation) return score;

  auto answers = AnswerHeldOut(held_out, backend, chat_of, adapter_of, options);
  if (!answers.ok()) return answers.error();
  score.answers = *std::move(answers);
  const std::vector<bool> in_style = InStyle(held_out, score.answers);
  for (size_t i = 0; i < score.answers.size(); ++i) {
    const bool has_fact = ContainsFact(held_out.questions[i], score.answers[i]);
    if (in_style[i]) score.style_rate += 1 / count;
    if (has_fact) score.fact_rate += 1 / count;
    if (in_style[i] && has_fact) score.hit_rate += 1 / count;
  }
  return score;
}

}  // namespace nudge
