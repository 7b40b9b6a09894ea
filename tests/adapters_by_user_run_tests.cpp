// labels: graph
// Users with adapters of their own, in runs with the template backend: whom which adapter answers,
// the same whatever the threads, the timing and the stops, and nothing left of who is forgotten.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <thread>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/lesson_book.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/seeded_delay.h"
#include "tests/temp_folder.h"

using namespace nudge;

using nudge::testing::SeededDelay;
using nudge::testing::TempFolder;

namespace {

using Lines = std::vector<std::string>;

ProcessorOptions Options(int threads) {
  ProcessorOptions options;
  options.graph.threads = threads;
  options.executor.threads = static_cast<size_t>(threads);
  options.executor.snapshot_folder = "snapshots";
  options.adapt.scope = "user";
  options.adapt.snapshot_every_versions = 5;
  options.recall.adapters_by_user = true;
  options.credits.events = 64;
  options.checkpoint_every_events = 37;
  return options;
}

void Process(const ProcessorOptions& options, const Lines& lines, Sink& sink,
             const TemplateBackendOptions& backend_options = {.dimension = 8, .instant = false}) {
  MemorySource source(lines);
  const std::unique_ptr<Backend> backend = MakeTemplateBackend(backend_options);
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto summary = processor.Run(stop);
  BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
}

Lines BytesOf(const MemorySink& sink) {
  Lines lines;
  for (const OutcomeLine& line : sink.lines()) lines.push_back(line.bytes);
  return lines;
}

std::vector<Outcome> OutcomesOf(const MemorySink& sink) {
  std::vector<Outcome> outcomes;
  for (const OutcomeLine& line : sink.lines()) {
    auto decoded = DecodeOutcome(line.bytes);
    BOOST_REQUIRE(decoded.ok());
    outcomes.push_back(std::move(decoded->outcome));
  }
  return outcomes;
}

Lines Generated(uint64_t seed, size_t events, bool with_faults = true) {
  return EventGenerator({.seed = seed,
                         .events = events,
                         .tenants = 2,
                         .with_faults = with_faults,
                         .adapters_by_user = true})
      .All();
}

// Of the questions of a user: by event, which adapter answered and what.
using Answers = std::map<std::string, std::pair<std::string, std::string>>;

Answers AnswersOf(const std::string& user, const std::vector<Event>& events,
                  const std::vector<Outcome>& outcomes) {
  Answers answers;
  for (size_t i = 0; i < events.size(); ++i) {
    const auto* response = std::get_if<Response>(&outcomes[i].what);
    if (response == nullptr || events[i].user != user) continue;
    answers[events[i].tenant + " " + events[i].id] = {response->adapter_digest, response->text};
  }
  return answers;
}

// The log as it would be had nobody but this user ever asked, taught or been commanded about.
std::optional<Event> AsIfAlone(const std::string& user, Event event) {
  if (std::holds_alternative<PromptUpsert>(event.data)) return std::nullopt;
  const bool is_said = std::holds_alternative<Query>(event.data) ||
                       std::holds_alternative<Feedback>(event.data) ||
                       std::holds_alternative<ExampleGiven>(event.data);
  if (is_said && event.user != user) return std::nullopt;
  if (auto* command = std::get_if<AdapterCommand>(&event.data)) {
    if (!command->user.empty() && command->user != user) return std::nullopt;
    command->user.clear();
  }
  return event;
}

}  // namespace

BOOST_AUTO_TEST_CASE(threads_and_delays_change_no_byte) {
  const Lines lines = Generated(12, 2000);
  MemorySink expected;
  Process(Options(1), lines, expected, {.dimension = 8});
  for (const int threads : {1, 2, 4}) {
    TemplateBackendOptions backend{.dimension = 8};
    backend.before_each_call = SeededDelay(static_cast<uint64_t>(threads));
    ProcessorOptions options = Options(threads);
    options.graph.before_prepare = SeededDelay(static_cast<uint64_t>(threads) + 100);
    MemorySink sink;
    Process(options, lines, sink, backend);
    BOOST_TEST((BytesOf(sink) == BytesOf(expected)), threads << " threads");
  }
}

BOOST_AUTO_TEST_CASE(a_stop_anywhere_changes_no_byte) {
  const Lines lines = Generated(13, 300);
  MemorySink expected;
  Process(Options(2), lines, expected);
  for (const bool at_end : {false, true}) {
    for (size_t stop_after = 3; stop_after < lines.size(); stop_after += 7) {
      const TempFolder folder;
      ProcessorOptions options = Options(2);
      options.state_folder = folder.path() + "/state";
      options.checkpoint_at_end = at_end;
      MemorySink sink;
      Process(options, {lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(stop_after)},
              sink);
      Process(options, lines, sink);
      BOOST_TEST((BytesOf(sink) == BytesOf(expected)), "stopped after " << stop_after);
    }
  }
}

BOOST_AUTO_TEST_CASE(each_user_is_answered_as_if_nobody_else_had_taught) {
  size_t adapted = 0;
  for (const uint64_t seed : {21, 22, 23, 24}) {
    std::vector<Event> events;
    Lines lines;
    for (const std::string& line : Generated(seed, 1500, false)) {
      const Result<Event> event = DecodeEvent(line, {});
      BOOST_REQUIRE(event.ok());
      if (std::holds_alternative<PromptUpsert>(event->data)) continue;
      events.push_back(*event);
      lines.push_back(line);
    }
    // What is shared by right is left out: few-shots, and the wait for a rebuilt version.
    ProcessorOptions options = Options(2);
    options.prompt.few_shots = 0;
    options.adapt.relearn_lessons_per_event = 1'000'000;
    options.adapt.snapshot_every_versions = 0;
    MemorySink sink;
    Process(options, lines, sink);
    for (const std::string user : {"user-0", "user-1", "user-2"}) {
      std::vector<Event> alone;
      Lines lines_alone;
      for (const Event& event : events) {
        std::optional<Event> kept = AsIfAlone(user, event);
        if (!kept) continue;
        lines_alone.push_back(EncodeEvent(*kept));
        alone.push_back(*std::move(kept));
      }
      ProcessorOptions of_tenant = options;
      of_tenant.adapt.scope = "tenant";
      of_tenant.adapt.lead_lessons = 0;
      of_tenant.recall.adapters_by_user = false;
      MemorySink sink_alone;
      Process(of_tenant, lines_alone, sink_alone);
      const Answers answers = AnswersOf(user, events, OutcomesOf(sink));
      BOOST_TEST(answers.size() > 100U);
      BOOST_TEST((answers == AnswersOf(user, alone, OutcomesOf(sink_alone))), user << ' ' << seed);
      for (const auto& [id, answer] : answers) adapted += answer.first != "base" ? 1 : 0;
    }
  }
  BOOST_TEST(adapted > 500U);
}

BOOST_AUTO_TEST_CASE(who_never_taught_is_answered_by_the_base_model) {
  EventGenerator generator({.seed = 31, .events = 400, .tenants = 1, .with_faults = false});
  Lines lines;
  for (const std::string& line : generator.All()) {
    Event event = *DecodeEvent(line, {});
    if (std::holds_alternative<AdapterCommand>(event.data)) continue;
    lines.push_back(line);
    if (!std::holds_alternative<Query>(event.data)) continue;
    for (const std::string user : {"", "stranger"}) {
      event.id += "x";
      event.user = user;
      lines.push_back(EncodeEvent(event));
    }
  }
  MemorySink sink;
  Process(Options(2), lines, sink);
  const std::vector<Outcome> outcomes = OutcomesOf(sink);
  std::map<bool, size_t> by_base;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto* response = std::get_if<Response>(&outcomes[i].what);
    const bool is_stranger = outcomes[i].id.ends_with("x");
    if (response == nullptr) continue;
    if (is_stranger) BOOST_TEST(response->adapter_digest == "base");
    ++by_base[response->adapter_digest == "base"];
  }
  BOOST_TEST(by_base[false] > 50U);
}

BOOST_AUTO_TEST_CASE(of_a_forgotten_user_the_state_has_neither_words_nor_name) {
  Lines lines;
  const auto add = [&](const std::string& user, decltype(Event::data) data) {
    Event event;
    event.source = "test";
    event.tenant = "acme";
    event.id = "e" + std::to_string(lines.size());
    event.user = user;
    event.data = std::move(data);
    lines.push_back(EncodeEvent(event));
  };
  for (int i = 0; i < 5; ++i) {
    for (const std::string user : {"adalovelace", "bob"}) {
      add(user, ExampleGiven{"what is " + user + "word" + std::to_string(i), "a word of " + user});
      add(user, Query{"what of " + user + std::to_string(i), {}});
    }
  }
  const TempFolder folder;
  ProcessorOptions options = Options(2);
  options.state_folder = folder.path() + "/state";
  MemorySink sink;
  Process(options, lines, sink);
  const auto taught = [&] {
    const auto read = ReadLessons(options.state_folder, std::nullopt);
    BOOST_REQUIRE(read.ok());
    BOOST_REQUIRE_EQUAL(read->size(), 1U);
    return read->front();
  };
  const TenantLessons before = taught();
  BOOST_TEST(before.lessons.size() == 10U);
  BOOST_TEST(
      (before.serving_users == std::map<LearnerId, Version>{{"adalovelace", 9}, {"bob", 10}}));
  BOOST_TEST(before.ServingOf("bob") == 10U);
  BOOST_TEST(before.ServingOf(std::nullopt) == 0U);
  for (const TaughtLesson& lesson : before.lessons) BOOST_TEST(InEffect(lesson) == "yes");

  add("", Forget{"adalovelace", ""});
  Process(options, lines, sink);
  const TenantLessons after = taught();
  BOOST_TEST((after.serving_users == std::map<LearnerId, Version>{{"bob", 10}}));
  BOOST_TEST(after.lessons.size() == 5U);
  for (const auto& file : std::filesystem::recursive_directory_iterator(options.state_folder)) {
    if (!file.is_regular_file()) continue;
    const std::string bytes = nudge::testing::FileBytes(file.path().string());
    BOOST_TEST(bytes.find("adalovelace") == std::string::npos, file.path().string());
  }
  // They may come again, and begin anew.
  add("adalovelace", ExampleGiven{"what is new", "this"});
  add("adalovelace", Query{"what now", {}});
  Process(options, lines, sink);
  BOOST_TEST(
      (taught().serving_users == std::map<LearnerId, Version>{{"adalovelace", 11}, {"bob", 10}}));
  BOOST_TEST(std::get<Response>(OutcomesOf(sink).back().what).adapter_version == 11U);
}
