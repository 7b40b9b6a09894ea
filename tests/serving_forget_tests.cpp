// labels: unit slow
// What was forgotten is in no file of a served log: not in its records, its outcomes, its state,
// through kills, and whatever is not forgotten stays as it was.
#include <boost/test/unit_test.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <deque>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "connectors/erased_outcomes.h"
#include "pipeline/bench/event_generator.h"
#include "serving_life.h"
#include "stages/fault_point.h"
#include "temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

namespace fs = std::filesystem;

constexpr char kFolder[] = "NUDGE_TEST_FOLDER";
constexpr uint64_t kSeed = 5;
constexpr size_t kEvents = 3'000;

std::string Line(const std::string& id, const std::string& type, const std::string& user,
                 const std::string& data) {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":"/test","type":"nudge.)" + type +
         R"(","tenant":"acme","user":")" + user + R"(","data":{)" + data + "}}";
}

std::string Ask(const std::string& id, const std::string& user, const std::string& text) {
  return Line(id, "query", user, R"("text":")" + text + "\"");
}

std::string Correct(const std::string& id, const std::string& user, const std::string& query,
                    const std::string& correction) {
  return Line(id, "feedback", user,
              R"("query_id":")" + query + R"(","correction":")" + correction + "\"");
}

std::string Document(const std::string& id, const std::string& user, const std::string& document,
                     const std::string& text) {
  return Line(id, "document.upsert", user,
              R"("document_id":")" + document + R"(","text":")" + text + "\"");
}

std::vector<RecordedOutcome> Submit(Door& door, const std::vector<std::string>& lines) {
  std::vector<RecordedOutcome> outcomes;
  for (const std::string& line : lines) {
    Clients clients;
    clients.Submit(door, line);
    const Told told = clients.WaitForOutcomes().front();
    BOOST_REQUIRE(told.outcome.has_value());
    outcomes.push_back(*DecodeOutcome(*told.outcome));
  }
  return outcomes;
}

// So many questions of dan's, the first under this number; a cut comes with each twentieth event.
void Pass(Door& door, int first, int count) {
  std::vector<std::string> lines;
  for (int i = first; i < first + count; ++i) {
    lines.push_back(Ask("p-" + std::to_string(i), "dan", "dans number " + std::to_string(i)));
  }
  Submit(door, lines);
}

// Files below the folder whose bytes hold the word.
std::vector<std::string> FilesWith(const std::string& folder, const std::string& word) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    if (FileBytes(entry.path()).find(word) != std::string::npos) found.push_back(entry.path());
  }
  return found;
}

// Until the forget of this offset is carried out in log and outcomes.
void WaitUntilErased(const std::string& folder, int64_t offset) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  const std::string wanted = std::to_string(offset) + "\n";
  while (FileBytes(folder + "/log/erased_until") != wanted) {
    BOOST_REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(Milliseconds(20));
  }
}

std::vector<std::string> OutcomeLines(const std::string& folder) {
  std::vector<std::string> lines;
  std::istringstream text(FileBytes(folder + "/out/outcomes.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// Offsets of lines that are erased; all others follow by their chain from the one before.
std::set<int64_t> CheckChain(const std::string& folder) {
  std::set<int64_t> erased;
  Sha256Digest chain{};
  for (const std::string& line : OutcomeLines(folder)) {
    if (const auto gone = DecodeErased(line)) {
      erased.insert(gone->offset);
      chain = FromHex(gone->chain);
      continue;
    }
    const Result<RecordedOutcome> outcome = DecodeOutcome(line);
    BOOST_REQUIRE(outcome.ok());
    const ChainedLine split = SplitChain(line);
    chain = NextChain(chain, outcome->offset, split.encoded);
    BOOST_TEST(split.chain == Hex(chain));
  }
  return erased;
}

std::set<int64_t> ErasedRecords(const std::string& folder) {
  std::set<int64_t> erased;
  BOOST_REQUIRE(ReadEventLog(folder + "/log", 0, [&](const Frame& frame) -> Result<Nothing> {
                  if (frame.kind == FrameKind::kErased) erased.insert(frame.offset);
                  return Nothing{};
                }).ok());
  return erased;
}

// What ann and bob say; 0, 2, 3, 5, 7 and 8 are ann's or about her question, which is in an older
// file of the log than they.
std::vector<std::string> Story() {
  const std::string filler(10'000, 'x');
  return {Ask("q-a", "ann", "annsaid how heavy is it?"),
          Document("d-b", "bob", "bike", "bobsaid the bike weighs nine kilograms. " + filler),
          Correct("f-a", "ann", "q-a", "annsaid seven kilograms"),
          Line("e-a", "example", "ann", R"("query":"annsaid why?","answer":"annsaid because")"),
          Ask("q-b", "bob", "bobsaid what does the bike weigh?"),
          Correct("f-b", "bob", "q-a", "aboutann nine kilograms"),
          Correct("f-c", "bob", "q-b", "bobsaid nine"),
          Correct("f-x", "ann", "q-none", "annsaid to nobody"),
          Ask("q-a2", "ann", "annsaid again?"),
          Line("g-a", "forget", "ann", R"("user":"ann")")};
}

std::vector<std::string> GeneratedLines() {
  std::vector<std::string> lines =
      EventGenerator({.seed = kSeed, .events = kEvents, .tenants = 3}).All();
  std::erase_if(lines, [](const std::string& line) { return !DecodeEvent(line).ok(); });
  return lines;
}

// The records that forgets at these offsets concern, by looking at all pairs.
std::set<int64_t> Concerned(const std::vector<std::string>& lines,
                            const std::set<int64_t>& forgets) {
  std::vector<Event> events;
  for (const std::string& line : lines) events.push_back(*DecodeEvent(line));
  std::set<int64_t> concerned;
  for (const int64_t at : forgets) {
    const Event& by = events[static_cast<size_t>(at)];
    const Forget& forget = std::get<Forget>(by.data);
    std::set<std::string> questions;  // the generator's events have one source
    for (size_t i = 0; i < static_cast<size_t>(at); ++i) {
      const Event& event = events[i];
      if (event.tenant != by.tenant) continue;
      const auto* upsert = std::get_if<DocumentUpsert>(&event.data);
      const auto* feedback = std::get_if<Feedback>(&event.data);
      const bool is_query = std::holds_alternative<Query>(event.data);
      const bool has_words =
          is_query || feedback != nullptr || std::holds_alternative<ExampleGiven>(event.data);
      const bool is_theirs = !forget.user.empty() && event.user == forget.user;
      if (is_theirs && is_query) questions.insert(event.id);
      const bool goes = (is_theirs && has_words) ||
                        (feedback != nullptr && questions.contains(feedback->query_id)) ||
                        (upsert != nullptr && !forget.document_id.empty() &&
                         upsert->document_id == forget.document_id);
      if (goes) concerned.insert(static_cast<int64_t>(i));
    }
  }
  return concerned;
}

const std::set<int64_t> kAnns{0, 2, 3, 5, 7, 8};
constexpr int64_t kForget = 9;

}  // namespace

BOOST_AUTO_TEST_CASE(what_a_user_said_is_in_no_file_after_the_next_cut_and_all_else_is_as_it_was) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  std::vector<std::string> before;
  {
    Life life(config);
    const std::vector<RecordedOutcome> outcomes = Submit(life.door(), Story());
    BOOST_TEST((KindOf(outcomes[7].outcome) == OutcomeKind::kDeadLetter));  // it keeps her words
    before = OutcomeLines(folder.path());
    BOOST_TEST(!FilesWith(folder.path() + "/log", "annsaid").empty());
    BOOST_TEST(!FilesWith(folder.path() + "/out", "annsaid").empty());
    Pass(life.door(), 0, 15);
    WaitUntilErased(folder.path(), kForget);
    BOOST_TEST(FilesWith(folder.path(), "annsaid") == std::vector<std::string>{},
               boost::test_tools::per_element());
    BOOST_TEST(FilesWith(folder.path(), "aboutann").empty());
    BOOST_TEST(!FilesWith(folder.path() + "/log", "bobsaid").empty());
    BOOST_TEST(DecodeErased(life.door().Outcome("acme", "q-a").value_or("")).has_value());
    BOOST_TEST(DecodeOutcome(life.door().Outcome("acme", "q-b").value_or("")).ok());
    // She may come again, and is taken anew.
    const auto again = Submit(life.door(), {Ask("q-new", "ann", "annagain how heavy?")});
    BOOST_TEST((KindOf(again.front().outcome) == OutcomeKind::kResponse));
  }
  BOOST_TEST(ErasedRecords(folder.path()) == kAnns, boost::test_tools::per_element());
  BOOST_TEST(CheckChain(folder.path()) == kAnns, boost::test_tools::per_element());
  const std::vector<std::string> after = OutcomeLines(folder.path());
  for (size_t i = 0; i < before.size(); ++i) {
    if (!kAnns.contains(static_cast<int64_t>(i))) BOOST_TEST(after[i] == before[i]);
    BOOST_TEST(after[i].size() == before[i].size());
  }
  {
    Life life(config);
    Pass(life.door(), 100, 25);
    BOOST_TEST(!life.door().Outcome("acme", "q-a").has_value());
    BOOST_TEST(life.door().Outcome("acme", "q-b").value_or("") == before[4]);
    BOOST_TEST(life.door().Outcome("acme", "q-new").has_value());
  }
  BOOST_TEST(FilesWith(folder.path(), "annsaid").empty());
  BOOST_TEST(!FilesWith(folder.path() + "/log", "annagain").empty());
  BOOST_TEST(CheckChain(folder.path()) == kAnns, boost::test_tools::per_element());
  ReplayOfLog(folder.path());  // another history, and one without a fault
}

BOOST_AUTO_TEST_CASE(a_forget_that_was_refused_or_came_twice_erases_nothing) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  {
    Life life(config);
    Submit(life.door(), {Line("g", "forget", "ops", R"("user":"ann")"),
                         Ask("q-1", "ann", "annsaid one"), Ask("q-2", "carl", "carlsaid two"),
                         Line("g", "forget", "ops", R"("user":"ann")"),     // a duplicate
                         Line("g", "forget", "ops", R"("user":"carl")")});  // changed: refused
    Pass(life.door(), 0, 30);
    WaitUntilErased(folder.path(), 0);
  }
  Life life(config);
  Submit(life.door(), {Line("g-3", "forget", "ops", R"("user":"nobody")")});
  Pass(life.door(), 50, 30);
  WaitUntilErased(folder.path(), 35);
  BOOST_TEST(ErasedRecords(folder.path()).empty());
  BOOST_TEST(CheckChain(folder.path()).empty());
  BOOST_TEST(!FilesWith(folder.path() + "/log", "carlsaid two").empty());
}

BOOST_AUTO_TEST_CASE(
    a_documents_upserts_go_with_the_answers_that_cite_it_and_a_question_with_its_own) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  std::set<int64_t> wanted{0, 5, 6};
  {
    Life life(config);
    const auto outcomes = Submit(
        life.door(), {Document("d-1", "bob", "bike", "docsaid the bike weighs nine kilograms"),
                      Document("d-2", "bob", "boat", "boatsaid the boat carries four people"),
                      Ask("q-1", "carl", "what does the bike weigh in kilograms?"),
                      Ask("q-2", "carl", "how many people does the boat carry?"),
                      Line("x-1", "document.delete", "bob", R"("document_id":"boat")"),
                      Ask("q-3", "carl", "questionsaid who?"),
                      Correct("f-3", "eve", "q-3", "questionsaid nobody"),
                      Line("g-1", "forget", "ops", R"("document_id":"bike")"),
                      Line("g-2", "forget", "ops", R"("event_id":"q-3")"),
                      Document("d-3", "bob", "bike", "latersaid the bike weighs ten kilograms")});
    size_t citing = 0;
    for (size_t i = 2; i < 7; ++i) {
      const auto* response = std::get_if<Response>(&outcomes[i].outcome.what);
      if (response == nullptr) continue;
      for (const Citation& cited : response->citations) {
        if (cited.document_id == "bike") {
          wanted.insert(outcomes[i].offset);
          ++citing;
        }
      }
    }
    BOOST_TEST(citing > 0U);
    Pass(life.door(), 0, 12);
    WaitUntilErased(folder.path(), 8);
    BOOST_TEST(FilesWith(folder.path(), "docsaid").empty());
    BOOST_TEST(FilesWith(folder.path(), "questionsaid").empty());
    BOOST_TEST(!FilesWith(folder.path() + "/log", "boatsaid").empty());
    BOOST_TEST(!FilesWith(folder.path() + "/log", "latersaid").empty());
  }
  BOOST_TEST(ErasedRecords(folder.path()) == (std::set<int64_t>{0, 5, 6}),
             boost::test_tools::per_element());
  BOOST_TEST(CheckChain(folder.path()) == wanted, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(documents_of_a_user_go_only_where_the_forget_says_so) {
  for (const bool documents : {false, true}) {
    const TempFolder folder;
    Life life(ConfigIn(folder.path()));
    Submit(life.door(),
           {Document("d-1", "ann", "bike", "docsaid nine kilograms"),
            Line("x-1", "prompt.upsert", "ann",
                 R"("prompt_id":"short","system":"promptsaid be short")"),
            Line("g-1", "forget", "ops",
                 std::string(R"("user":"ann")") + (documents ? R"(,"documents":true)" : ""))});
    Pass(life.door(), 0, 20);
    WaitUntilErased(folder.path(), 2);
    BOOST_TEST(FilesWith(folder.path(), "docsaid").empty() == documents);
    BOOST_TEST(!FilesWith(folder.path() + "/log", "promptsaid").empty());
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_erased_is_said_and_tried_again_and_serving_goes_on) {
  const TempFolder folder;
  Life life(ConfigIn(folder.path()));
  fs::create_directories(folder.path() + "/log/erased_until/full");  // it cannot be replaced
  Submit(life.door(), Story());
  Pass(life.door(), 0, 15);
  BOOST_TEST(life.WaitForNotice("what was forgotten is still in the event log or in the outcomes"));
  Pass(life.door(), 20, 5);
  fs::remove_all(folder.path() + "/log/erased_until");
  WaitUntilErased(folder.path(), kForget);
  BOOST_TEST(life.WaitForNotice("what 1 nudge.forget named is gone"));
  BOOST_TEST(FilesWith(folder.path(), "annsaid").empty());
}

BOOST_AUTO_TEST_CASE(without_the_state_that_knows_a_forget_the_start_says_what_is_missing) {
  const TempFolder folder;
  const Config config = ConfigIn(folder.path());
  {
    Life life(config);
    Submit(life.door(), Story());
    Pass(life.door(), 0, 15);
    WaitUntilErased(folder.path(), kForget);
  }
  fs::remove_all(folder.path() + "/out/state");
  const std::string why = WhyItEnds(config);
  BOOST_TEST(why.find("was erased, since") != std::string::npos, why);
}

// ---- Kills --------------------------------------------------------------------------------------

namespace {

// Starts a case of this program as a child; `die_at` as NUDGE_DIE_AT, or empty.
pid_t StartChild(const std::string& name, const std::string& folder, const std::string& die_at) {
  const pid_t child = fork();
  ENSURE(child >= 0);
  if (child > 0) return child;
  setenv(kFolder, folder.c_str(), 1);
  if (!die_at.empty()) setenv("NUDGE_DIE_AT", die_at.c_str(), 1);
  execl("/proc/self/exe", "serving_forget_tests", ("--run_test=" + name).c_str(),
        "--log_level=nothing", "--report_level=no", nullptr);
  _exit(127);
}

}  // namespace

// Not a test of its own: the next one runs it. Serves until its forget is carried out.
BOOST_AUTO_TEST_CASE(a_child_that_forgets, *boost::unit_test::disabled()) {
  const char* const folder = std::getenv(kFolder);
  BOOST_REQUIRE(folder != nullptr);
  Life life(ConfigIn(folder));
  WaitUntilErased(folder, kForget);
}

BOOST_AUTO_TEST_CASE(killed_anywhere_while_it_erases_the_next_start_finishes_it) {
  const TempFolder prepared;
  {
    Life life(ConfigIn(prepared.path()));  // no cut before its end, so that nothing is erased yet
    Submit(life.door(), Story());
  }
  BOOST_REQUIRE(!FilesWith(prepared.path() + "/log", "annsaid").empty());
  BOOST_REQUIRE(!fs::exists(prepared.path() + "/log/erased_until"));
  BOOST_REQUIRE(SegmentsIn(prepared.path() + "/log").size() == 2U);
  const auto run = [](const std::string& folder, const std::string& die_at) {
    int status = 0;
    const pid_t child = StartChild("a_child_that_forgets", folder, die_at);
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    return status;
  };
  std::vector<std::string> places;
  for (const std::string_view place : kEraseFaultPoints) {
    places.push_back(std::string(place) + ":1");
  }
  for (const char* place :
       {"erase-log:2", "erase-outcomes:2", "erase-outcomes:6", "erase-outcomes:7"}) {
    places.emplace_back(place);
  }
  for (const std::string& place : places) {
    const TempFolder elsewhere;
    const std::string folder = elsewhere.path() + "/copy";
    // The configuration names the folder, and a state goes on under the same configuration alone.
    fs::copy(prepared.path(), folder, fs::copy_options::recursive);
    const int killed = run(folder, place);
    BOOST_TEST((WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL), place << " " << killed);
    BOOST_TEST(!fs::exists(folder + "/log/erased_until"));
    const int finished = run(folder, "");
    BOOST_TEST((WIFEXITED(finished) && WEXITSTATUS(finished) == 0), place << " " << finished);
    BOOST_TEST(FilesWith(folder, "annsaid") == std::vector<std::string>{},
               boost::test_tools::per_element());
    BOOST_TEST(FilesWith(folder, "aboutann").empty());
    BOOST_TEST(ErasedRecords(folder) == kAnns, boost::test_tools::per_element());
    BOOST_TEST(CheckChain(folder) == kAnns, boost::test_tools::per_element());
    BOOST_TEST(!fs::exists(folder + "/out/outcomes.erasing"));
  }
}

// Not a test of its own: the next one runs it. Submits the generated lines that the log does not
// have, a few at a time, and then waits to be killed.
BOOST_AUTO_TEST_CASE(a_child_that_serves_and_forgets, *boost::unit_test::disabled()) {
  const std::string folder = std::getenv(kFolder);
  const std::vector<std::string> lines = GeneratedLines();
  Mutex mutex;
  CondVar changed;
  size_t waiting = 0;
  Life life(ConfigIn(folder));
  for (auto next = static_cast<size_t>(life.serving().extent().end); next < lines.size(); ++next) {
    {
      const MutexLock lock(mutex);
      BOOST_REQUIRE(
          changed.WaitFor(mutex, kPatience, [&]() REQUIRES(mutex) { return waiting < 5; }));
      ++waiting;
    }
    Following following;
    following.outcome = [&](const std::string&) {
      const MutexLock lock(mutex);
      --waiting;
      changed.NotifyAll();
    };
    following.failed = [](const Error&) { ENSURE(false); };
    life.door().Submit(PeekHead(lines[next]).tenant, lines[next], std::move(following));
    std::this_thread::sleep_for(Milliseconds(4));
  }
  std::this_thread::sleep_for(kPatience);
}

BOOST_AUTO_TEST_CASE(killed_at_any_time_it_goes_on_and_in_the_end_all_is_gone_that_was_forgotten) {
  const TempFolder folder;
  const std::vector<std::string> lines = GeneratedLines();
  size_t marks = 0;
  for (uint64_t life = 0; life < 8; ++life) {
    const std::string mark = FileBytes(folder.path() + "/log/erased_until");
    const pid_t child = StartChild("a_child_that_serves_and_forgets", folder.path(), "");
    std::this_thread::sleep_for(Milliseconds(1'200 + RandomAt(kSeed, life) % 1'500));
    kill(child, SIGKILL);
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL), "life " << life);
    marks += FileBytes(folder.path() + "/log/erased_until") != mark ? 1 : 0;
  }
  BOOST_TEST(marks >= 1U);
  BOOST_TEST_MESSAGE(marks << " lives that erased");
  std::set<int64_t> forgets;
  {
    Life life(ConfigIn(folder.path()));
    const auto begun = static_cast<size_t>(life.serving().extent().end);
    Submit(life.door(), {lines.begin() + static_cast<std::ptrdiff_t>(begun), lines.end()});
    Pass(life.door(), 0, 20);
    for (const std::string& line : OutcomeLines(folder.path())) {
      const Result<RecordedOutcome> outcome = DecodeOutcome(line);
      if (!outcome.ok() || outcome->outcome.type != "nudge.forget") continue;
      const auto* applied = std::get_if<Applied>(&outcome->outcome.what);
      const bool counts = applied != nullptr && !applied->summary.starts_with("duplicate");
      if (counts) forgets.insert(outcome->offset);
    }
    BOOST_REQUIRE(forgets.size() > 20U);
    WaitUntilErased(folder.path(), *forgets.rbegin());
  }
  const std::set<int64_t> concerned = Concerned(lines, forgets);
  BOOST_TEST(ErasedRecords(folder.path()) == concerned, boost::test_tools::per_element());
  const std::set<int64_t> outcomes = CheckChain(folder.path());
  BOOST_TEST(std::includes(outcomes.begin(), outcomes.end(), concerned.begin(), concerned.end()));
  for (const int64_t offset : outcomes) {
    const Event event = *DecodeEvent(lines.at(static_cast<size_t>(offset)));
    BOOST_TEST((concerned.contains(offset) || std::holds_alternative<Query>(event.data)));
  }
  ReplayOfLog(folder.path());
}
