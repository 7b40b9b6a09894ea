// labels: unit slow
// The product in one process: what was said to be stored has exactly one outcome, through stops and
// kills, and the log's replay gives the same chain.
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <set>
#include <sstream>
#include <thread>

#include "connectors/codec.h"
#include "pipeline/bench/event_generator.h"
#include "serving_life.h"
#include "stages/fault_point.h"
#include "stages/receipts.h"
#include "temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

namespace fs = std::filesystem;

// Events that a caller would have validated. None that forgets: a log that was erased in has
// another history (serving_forget_tests.cpp).
std::vector<std::string> Lines(uint64_t seed, size_t events) {
  std::vector<std::string> lines =
      EventGenerator({.seed = seed, .events = events, .tenants = 3}).All();
  std::erase_if(lines, [](const std::string& line) {
    const Result<Event> event = DecodeEvent(line);
    return !event.ok() || std::holds_alternative<Forget>(event->data);
  });
  return lines;
}

std::string Ask(const std::string& id, const std::string& text) {
  return R"({"specversion":"1.0","id":")" + id +
         R"(","source":"/test","type":"nudge.query","tenant":"acme","data":{"text":")" + text +
         R"("}})";
}

std::vector<RecordedOutcome> OutcomesIn(const std::string& folder) {
  std::vector<RecordedOutcome> outcomes;
  std::istringstream lines(FileBytes(folder + "/out/outcomes.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    Result<RecordedOutcome> outcome = DecodeOutcome(line);
    BOOST_REQUIRE(outcome.ok());
    outcomes.push_back(std::move(*outcome));
  }
  return outcomes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(
    each_event_is_stored_then_has_its_outcome_and_the_logs_replay_has_the_same_chain) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  const std::vector<std::string> lines = Lines(1, 400);
  Life life(config);
  Clients clients;
  for (const std::string& line : lines) clients.Submit(life.door(), line);
  const std::vector<Told> told = clients.WaitForOutcomes();
  const std::string chain = life.Stop();
  const std::vector<RecordedOutcome> outcomes = OutcomesIn(folder.path());
  BOOST_REQUIRE(outcomes.size() == lines.size());
  for (size_t i = 0; i < told.size(); ++i) {
    BOOST_REQUIRE(told[i].outcome.has_value());
    BOOST_TEST(*told[i].offset == static_cast<int64_t>(i));
    const RecordedOutcome& outcome = outcomes[i];
    BOOST_TEST(outcome.offset == *told[i].offset);
    BOOST_TEST(outcome.outcome.id == PeekHead(lines[i]).id);
    BOOST_TEST(DecodeOutcome(*told[i].outcome)->chain == outcome.chain);
    BOOST_TEST(life.door().Outcome(outcome.outcome.tenant, outcome.outcome.id).has_value());
  }
  BOOST_TEST(outcomes.back().chain == chain);
  BOOST_TEST(ReplayOfLog(folder.path()) == chain);
  BOOST_TEST(life.door().Models() == std::vector<std::string>{"template"},
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_was_stored_and_not_finished_is_told_so_and_finished_after_the_restart) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  const std::vector<std::string> lines = Lines(2, 100);
  {
    Life life(config, false);
    Clients clients;
    for (const std::string& line : lines) clients.Submit(life.door(), line);
    clients.Wait([](const Told& told) { return told.offset.has_value(); });
    std::thread stopper([&] { life.Stop(); });
    stopper.join();
    life.Run();  // with its stop set already
    for (const Told& told : clients.WaitForOutcomes()) {
      BOOST_REQUIRE(told.error.has_value());
      BOOST_TEST((told.error->code == Code::kUnavailable));
      BOOST_TEST(told.error->message.find("stored at offset " + std::to_string(*told.offset)) !=
                 std::string::npos);
    }
    Clients late;
    late.Submit(life.door(), lines.front());
    BOOST_TEST((late.WaitForOutcomes().front().error->code == Code::kUnavailable));
  }
  BOOST_TEST(OutcomesIn(folder.path()).empty());
  Life life(config);
  Clients clients;
  clients.Submit(life.door(), Ask("last", "is all done?"));
  BOOST_TEST(*clients.WaitForOutcomes().front().offset == static_cast<int64_t>(lines.size()));
  const std::string chain = life.Stop();
  BOOST_TEST(OutcomesIn(folder.path()).size() == lines.size() + 1);
  BOOST_TEST(ReplayOfLog(folder.path()) == chain);
}

BOOST_AUTO_TEST_CASE(
    an_id_that_comes_again_gets_a_duplicates_receipt_and_the_first_outcome_is_kept) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  std::string first;
  {
    Life life(config);
    for (int i = 0; i < 2; ++i) {
      Clients clients;
      clients.Submit(life.door(), Ask("q", "what is a tent?"));
      const Told told = clients.WaitForOutcomes().front();
      BOOST_REQUIRE(told.outcome.has_value());
      const RecordedOutcome outcome = *DecodeOutcome(*told.outcome);
      if (i == 0) first = *told.outcome;
      BOOST_TEST(
          (KindOf(outcome.outcome) == (i == 0 ? OutcomeKind::kResponse : OutcomeKind::kApplied)));
      BOOST_TEST(life.door().Outcome("acme", "q").value_or("") == first);
    }
    BOOST_TEST(!life.door().Outcome("other", "q"));
    BOOST_TEST(!life.door().Outcome("acme", "r"));
  }
  Life life(config);
  BOOST_TEST(life.door().Outcome("acme", "q").value_or("") == first);
}

BOOST_AUTO_TEST_CASE(too_many_too_large_and_events_over_several_lines) {
  const TempFolder folder;
  Config config = ConfigIn(folder.path());
  config.serve.in_flight_max = 3;
  config.processor.graph.limits.line_bytes = 4096;
  Life life(config, false);
  Clients clients;
  std::string split = Ask("q0", "one?");
  split.insert(1, "\r\n  ");
  clients.Submit(life.door(), split);
  for (int i = 1; i < 5; ++i) clients.Submit(life.door(), Ask("q" + std::to_string(i), "one?"));
  clients.Submit(life.door(), Ask("large", std::string(5'000, 'x')));
  clients.Wait([](const Told& told) { return told.offset || told.error; });
  life.Run();
  const std::vector<Told> told = clients.WaitForOutcomes();
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST((KindOf(DecodeOutcome(*told[i].outcome)->outcome) == OutcomeKind::kResponse));
  }
  BOOST_TEST((told[3].error->code == Code::kBusy));
  BOOST_TEST((told[4].error->code == Code::kBusy));
  BOOST_TEST((told[5].error->code == Code::kTooLarge));
  clients.Submit(life.door(), Ask("q3", "one?"));  // there is room again
  BOOST_TEST(clients.WaitForOutcomes().back().outcome.has_value());
  const std::string chain = life.Stop();
  BOOST_TEST(ReplayOfLog(folder.path()) == chain);
}

BOOST_AUTO_TEST_CASE(retention_keeps_what_state_and_backups_go_on_from) {
  const TempFolder folder;
  Config config = ConfigIn(folder.path(), R"(, "retention_bytes_max": 16384)");
  config.processor.backup_every_cuts = 5;
  const std::vector<std::string> lines = Lines(3, 1'500);
  {
    Life life(config);
    Clients clients;
    for (size_t i = 0; i < lines.size(); ++i) {
      clients.Submit(life.door(), lines[i]);
      if (i % 20 == 19) clients.WaitForOutcomes();  // so that cuts do not join
    }
    clients.WaitForOutcomes();
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (life.serving().extent().first == 0 && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(Milliseconds(50));
    }
    BOOST_REQUIRE(life.serving().extent().first > 0);
  }
  const int64_t first = SegmentsIn(folder.path() + "/log").begin()->first;
  const auto files = StateFilesIn(folder.path() + "/out/state");
  BOOST_REQUIRE(!files.at(0).backups.empty());
  BOOST_TEST(first <= files.at(0).backups.begin()->first);
  fs::remove(files.at(0).live);  // a backup goes on, and the log has what it needs
  {
    Life life(config);
    Clients clients;
    clients.Submit(life.door(), Ask("last", "is all done?"));
    BOOST_TEST(clients.WaitForOutcomes().front().outcome.has_value());
  }
  BOOST_TEST(OutcomesIn(folder.path()).size() == lines.size() + 1);
  fs::remove_all(folder.path() + "/out/state");
  const std::string why = WhyItEnds(config);
  BOOST_TEST(why.find("went by retention") != std::string::npos, why);
}

BOOST_AUTO_TEST_CASE(a_log_that_is_shorter_than_its_outcomes_stops_the_start) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  {
    Life life(config);
    Clients clients;
    for (const char* id : {"a", "b"}) clients.Submit(life.door(), Ask(id, "one?"));
    clients.WaitForOutcomes();
  }
  const std::string path = SegmentsIn(config.event_log.folder).begin()->second;
  fs::resize_file(path, fs::file_size(path) - kFrameHeadBytes - 10);  // the mark, and some of "b"
  BOOST_CHECK_EXCEPTION(Life life(config), StartError, [](const StartError& error) {
    return std::string(error.what()).find("ends before offset 1, but") != std::string::npos;
  });
  fs::remove_all(config.output.folder);  // what is left of the log stands for itself
  Life life(config);
  Clients clients;
  clients.Submit(life.door(), Ask("c", "one?"));
  BOOST_TEST(*clients.WaitForOutcomes().front().offset == 1);
}

BOOST_AUTO_TEST_CASE(a_serving_without_an_event_log_is_refused) {
  BOOST_CHECK_EXCEPTION(
      ToServingOptions(ParseConfig(
          R"({"input": {"path": "-"}, "output": {"folder": "x"}, "model": {"backend": "template"}})",
          "")),
      StartError, [](const StartError& error) {
        return std::string(error.what()).starts_with("event_log.folder: missing");
      });
}

// ---- Kills --------------------------------------------------------------------------------------

namespace {

constexpr char kFolder[] = "NUDGE_TEST_FOLDER";
constexpr char kNext[] = "NUDGE_TEST_NEXT";
constexpr uint64_t kKillSeed = 7;
constexpr size_t kKillEvents = 1'200;

void Say(int file, const std::string& line) {
  ENSURE(write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
}

// Starts this program again as the child; `die_at` as NUDGE_DIE_AT, or empty.
pid_t StartChild(const std::string& folder, size_t next, const std::string& die_at) {
  const pid_t child = fork();
  ENSURE(child >= 0);
  if (child > 0) return child;
  setenv(kFolder, folder.c_str(), 1);
  setenv(kNext, std::to_string(next).c_str(), 1);
  if (!die_at.empty()) setenv("NUDGE_DIE_AT", die_at.c_str(), 1);
  execl("/proc/self/exe", "serving_tests", "--run_test=a_child_that_serves", "--log_level=nothing",
        "--report_level=no", nullptr);
  _exit(127);
}

struct Acknowledged {
  std::map<size_t, int64_t> offsets;   // by number of the line
  std::map<size_t, std::string> told;  // outcomes by number of the line
};

Acknowledged ReadAcknowledged(const std::string& folder) {
  Acknowledged acknowledged;
  std::istringstream lines(FileBytes(folder + "/told"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what, value;
    size_t number = 0;
    words >> what >> number >> value;
    if (what == "stored") acknowledged.offsets[number] = std::stoll(value);
    if (what == "outcome") acknowledged.told[number] = value;
  }
  return acknowledged;
}

// Every record has one outcome, what was acknowledged is where it was said to be, and what was told
// of an outcome still holds.
void CheckLog(const std::string& folder, const std::vector<std::string>& lines) {
  const Acknowledged acknowledged = ReadAcknowledged(folder);
  std::vector<std::string> records;
  BOOST_REQUIRE(ReadEventLog(folder + "/log", 0, [&](const Frame& frame) -> Result<Nothing> {
                  records.emplace_back(frame.bytes);
                  return Nothing{};
                }).ok());
  const std::vector<RecordedOutcome> outcomes = OutcomesIn(folder);
  BOOST_REQUIRE(outcomes.size() == records.size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    BOOST_TEST(outcomes[i].offset == static_cast<int64_t>(i));
    BOOST_TEST(outcomes[i].outcome.id == PeekHead(records[i]).id);
  }
  BOOST_TEST(acknowledged.offsets.size() == lines.size());
  for (const auto& [number, offset] : acknowledged.offsets) {
    BOOST_TEST(records.at(static_cast<size_t>(offset)) == lines[number]);
  }
  for (const auto& [number, chain] : acknowledged.told) {
    const auto offset = static_cast<size_t>(acknowledged.offsets.at(number));
    BOOST_TEST(outcomes.at(offset).chain == chain);
  }
}

}  // namespace

// Not a test of its own: StartChild runs it. Submits its lines, a few at a time, writes down what
// it is told, and ends once all have outcomes.
BOOST_AUTO_TEST_CASE(a_child_that_serves, *boost::unit_test::disabled()) {
  const char* const folder = std::getenv(kFolder);
  BOOST_REQUIRE(folder != nullptr);
  const int file =
      open((folder + std::string("/told")).c_str(), O_WRONLY | O_APPEND | O_CREAT, 0600);
  const std::vector<std::string> lines = Lines(kKillSeed, kKillEvents);
  Mutex mutex;
  CondVar changed;
  size_t waiting = 0;
  Life life(ConfigIn(folder));
  for (size_t number = std::stoul(std::getenv(kNext)); number < lines.size(); ++number) {
    {
      const MutexLock lock(mutex);
      changed.Wait(mutex, [&]() REQUIRES(mutex) { return waiting < 40; });
      ++waiting;
    }
    Following following;
    const std::string name = std::to_string(number);
    following.stored = [=](int64_t offset) {
      Say(file, "stored " + name + " " + std::to_string(offset) + "\n");
    };
    following.outcome = [&, name](const std::string& outcome) {
      Say(file, "outcome " + name + " " + std::string(ChainOf(outcome)) + "\n");
      const MutexLock lock(mutex);
      --waiting;
      changed.NotifyAll();
    };
    following.failed = [](const Error&) { ENSURE(false); };
    life.door().Submit(PeekHead(lines[number]).tenant, lines[number], std::move(following));
  }
  // What earlier lives stored has its outcome before what this one stores last.
  std::promise<void> last;
  Following following;
  following.outcome = [&](const std::string&) { last.set_value(); };
  following.failed = [](const Error&) { ENSURE(false); };
  life.door().Submit(PeekHead(lines.back()).tenant, lines.back(), std::move(following));
  BOOST_REQUIRE((last.get_future().wait_for(kPatience) == std::future_status::ready));
  const MutexLock lock(mutex);
  BOOST_REQUIRE(changed.WaitFor(mutex, kPatience, [&]() REQUIRES(mutex) { return waiting == 0; }));
  Say(file, "end\n");
}

BOOST_AUTO_TEST_CASE(killed_anywhere_whatever_was_stored_has_exactly_one_outcome_and_one_chain) {
  const std::vector<std::string> lines = Lines(kKillSeed, kKillEvents);
  const TempFolder folder;
  std::vector<std::string> places;
  for (const std::string_view place : kLogFaultPoints) {
    for (const char* count : {":1", ":7"}) places.push_back(std::string(place) + count);
  }
  for (const char* place : {"checkpoint-before:2", "checkpoint-inside:1", "checkpoint-after:2",
                            "generation:9", "training:3", "replay:3"}) {
    places.emplace_back(place);
  }
  size_t kills = 0, life = 0;
  for (bool is_done = false; !is_done; ++life) {
    BOOST_REQUIRE(life < 60U);
    const Acknowledged acknowledged = ReadAcknowledged(folder.path());
    size_t next = 0;
    while (acknowledged.offsets.contains(next)) ++next;
    const bool is_last = life >= places.size() + 10;
    const std::string place = life < places.size() ? places[life] : "";
    const pid_t child = StartChild(folder.path(), next, place);
    if (place.empty() && !is_last) {
      std::this_thread::sleep_for(Milliseconds(20 + RandomAt(11, life) % 400));
      kill(child, SIGKILL);
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    const bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    BOOST_TEST((was_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)),
               "life " << life << " " << place << " status " << status);
    kills += was_killed ? 1 : 0;
    is_done = !was_killed && is_last;
  }
  BOOST_TEST(kills >= 10U);
  BOOST_TEST_MESSAGE(kills << " kills in " << life << " lives");
  CheckLog(folder.path(), lines);
  BOOST_TEST(ReplayOfLog(folder.path()) == OutcomesIn(folder.path()).back().chain);
}

BOOST_AUTO_TEST_CASE(the_index_holds_the_newest_outcomes_and_of_an_id_what_says_most) {
  const auto line = [](const std::string& id, int64_t offset, auto what) {
    const Outcome outcome{"acme", "/test", id, "nudge.query", std::move(what), {}};
    Origin origin;
    origin.offset = offset;
    std::string text;
    EncodeOutcome(outcome, origin, text);
    AppendChain({}, text);
    return text;
  };
  OutcomeIndex index(1 << 20, 3);
  const auto holds = [&](const std::string& text) {
    index.Add(text);
    return index.Find("acme", DecodeOutcome(text)->outcome.id) == text;
  };
  Response answer;
  answer.text = "12 kilograms";
  const auto receipt = [](const std::string& summary) {
    return Applied{summary, std::nullopt, std::nullopt};
  };
  // A reader of several topics may see them in this order, too.
  BOOST_TEST(holds(line("q", 3, MakeDeadLetter("recall", {Code::kBusy, "no", ""}, "{}", 10))));
  BOOST_TEST(holds(line("q", 9, receipt(DuplicateReceipt(4)))));
  BOOST_TEST(!holds(line("q", 8, MakeDeadLetter("recall", {Code::kBusy, "no", ""}, "{}", 10))));
  BOOST_TEST(holds(line("q", 4, answer)));
  BOOST_TEST(!holds(line("q", 10, receipt(DuplicateReceipt(4)))));
  BOOST_TEST(!holds(line("q", 11, receipt("added"))));
  BOOST_TEST(index.size() == 1U);
  for (const char* id : {"a", "b", "c"}) BOOST_TEST(holds(line(id, 20, receipt("added"))));
  BOOST_TEST(index.size() == 3U);
  BOOST_TEST(!index.Find("acme", "q").has_value());
  BOOST_TEST(index.Find("acme", "a").has_value());
  OutcomeIndex small(1'000);  // one line and what it takes beside
  for (const char* id : {"a", "b"}) small.Add(line(id, 20, receipt("added")));
  BOOST_TEST(small.size() == 1U);
}
