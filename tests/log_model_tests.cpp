// labels: graph slow
// Random logs against a small model of what must hold. What fails is shrunk to its smallest log,
// which is written to a file.
//
//   NUDGE_MODEL_SECONDS   how long it looks (120)
//   NUDGE_MODEL_SEED      the first seed (1); with NUDGE_MODEL_SECONDS=0 that one alone
//   NUDGE_MODEL_WITHOUT   kinds of event that no log has, with commas: import,forget_user; "disk":
//                         the state's files are not looked through
//   NUDGE_MODEL_FAULTS    after so many different faults it ends (3)
#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <sstream>

#include "tests/model/log_trial.h"

using namespace nudge;
using namespace nudge::model;

namespace {

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::set<std::string> Without() {
  std::set<std::string> kinds;
  const char* const text = std::getenv("NUDGE_MODEL_WITHOUT");
  std::istringstream in(text != nullptr ? text : "");
  for (std::string kind; std::getline(in, kind, ',');) kinds.insert(kind);
  return kinds;
}

// What tells faults apart: how it fails, and the kinds of event that are needed for it.
std::string Signature(const Failure& failure, const std::vector<LogEvent>& events) {
  std::set<std::string> kinds;
  for (const LogEvent& event : events) kinds.insert(kKindNames[static_cast<size_t>(event.kind)]);
  std::string text = failure.kind + " by";
  for (const std::string& kind : kinds) text += " " + kind;
  return text;
}

// Writes the log with its configuration; where.
std::string Keep(const LogTrial& trial, const World& world, const std::vector<LogEvent>& events) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("nudge-model-" + std::to_string(world.seed));
  trial.Write(world, events, folder.string(), true);
  return folder.string();
}

struct Broken {
  std::string signature;
  std::string told;
};

Broken Tell(LogTrial& trial, const World& world, const std::vector<LogEvent>& events,
            const Failure& failure,
            const std::function<std::optional<Failure>(const std::vector<LogEvent>&)>& check) {
  Failure last = failure;
  const std::vector<LogEvent> small = Shrunk(
      events,
      [&](const std::vector<LogEvent>& fewer) {
        const auto again = check(fewer);
        const bool same = again && again->kind == failure.kind;
        if (same) last = *again;
        return same;
      },
      std::chrono::seconds(20));
  std::string told = failure.kind + ", seed " + std::to_string(world.seed) + ": " + last.message +
                     "\nlog and configuration: " + Keep(trial, world, small);
  for (const LogEvent& event : small) {
    told += "\n  " + event.tenant + " " + kKindNames[static_cast<size_t>(event.kind)] + " " +
            event.id + (event.user.empty() ? "" : " by " + event.user) + " " +
            (event.kind == Kind::kGarbage ? event.line : event.data);
  }
  return {Signature(failure, small), told};
}

}  // namespace

BOOST_AUTO_TEST_CASE(random_logs_hold_every_promise) {
  LogTrial trial;
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(Setting("NUDGE_MODEL_SECONDS", 120));
  const std::set<std::string> without = Without();
  trial.LookAtDisk(!without.contains("disk"));
  std::map<std::string, size_t> found;
  size_t logs = 0;
  size_t events_run = 0;
  uint64_t seed = Setting("NUDGE_MODEL_SEED", 1);
  do {
    LogGenerator generator(seed, trial.abilities(), trial.files(), without);
    const std::vector<LogEvent> events = generator.All();
    const World& world = generator.world();
    auto check = [&](const std::vector<LogEvent>& log) { return trial.Check(world, log, true); };
    auto kill = [&](const std::vector<LogEvent>& log) {
      return trial.CheckKills(world, log, NUDGE_BINARY, world.seed);
    };
    std::optional<Failure> failure = check(events);
    const bool killed = !failure && seed % 16 == 0;
    if (killed) failure = kill(events);
    ++logs;
    events_run += events.size();
    if (failure) {
      const Broken fault = killed ? Tell(trial, world, events, *failure, kill)
                                  : Tell(trial, world, events, *failure, check);
      if (found[fault.signature]++ == 0) BOOST_ERROR(fault.told);
    }
    ++seed;
  } while (std::chrono::steady_clock::now() < end &&
           found.size() < Setting("NUDGE_MODEL_FAULTS", 3));
  for (const auto& [signature, times] : found) BOOST_TEST_MESSAGE(times << " times " << signature);
  BOOST_TEST_MESSAGE(logs << " logs, " << events_run << " events; " << trial.runs() << " runs, "
                          << trial.fresh_runs() << " of them fresh learners, " << trial.claims()
                          << " digests compared, " << trial.kills() << " kills");
  if (logs > 16) {  // what does not look does not find
    BOOST_TEST(trial.claims() > logs);
    BOOST_TEST(trial.kills() > 0);
  }
}

BOOST_AUTO_TEST_CASE(each_user_of_a_random_log_is_answered_as_if_nobody_else_had_taught) {
  LogTrial trial;
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(Setting("NUDGE_MODEL_SECONDS", 120) / 4);
  std::map<std::string, size_t> found;
  size_t logs = 0;
  uint64_t seed = Setting("NUDGE_MODEL_SEED", 1);
  do {
    LogGenerator generator(seed, trial.abilities(), trial.files(), Without());
    const std::vector<LogEvent> events = LogTrial::OfUsers(generator.All(), seed++);
    const World world = LogTrial::ByUser(generator.world());
    const auto check = [&](const std::vector<LogEvent>& log) {
      return trial.CheckByUser(world, log);
    };
    const std::optional<Failure> failure = check(events);
    ++logs;
    if (!failure) continue;
    const Broken fault = Tell(trial, world, events, *failure, check);
    if (found[fault.signature]++ == 0) BOOST_ERROR(fault.told);
  } while (std::chrono::steady_clock::now() < end &&
           found.size() < Setting("NUDGE_MODEL_FAULTS", 3));
  BOOST_TEST_MESSAGE(logs << " logs, " << trial.runs() << " runs, " << trial.adapted()
                          << " answers by users' own adapters");
  if (logs > 16) BOOST_TEST(trial.adapted() > logs / 2);
}

// The program is given another log than the model: as if it did something else than it should.
BOOST_AUTO_TEST_CASE(a_program_that_does_something_else_is_found_out) {
  struct Mutant {
    const char* name;
    std::function<bool(LogEvent&)> change;  // false: not of this event
  };
  const auto nothing = [](Kind kind) {
    return [kind](LogEvent& event) {
      if (event.kind != kind) return false;
      event.kind = Kind::kPromptDelete;
      event.prompt_id = "absent";
      return true;
    };
  };
  const std::vector<Mutant> mutants = {
      {"forgets no user", nothing(Kind::kForgetUser)},
      {"forgets no document", nothing(Kind::kForgetDocument)},
      {"forgets no event", nothing(Kind::kForgetEvent)},
      {"forgets no conversation", nothing(Kind::kForgetConversation)},
      {"deletes no document", nothing(Kind::kDelete)},
      {"takes nothing back",
       [](LogEvent& event) {
         if (event.rating != "null") return false;
         event.kind = Kind::kPromptDelete;
         event.prompt_id = "absent";
         return true;
       }},
      {"takes each word for the first",
       [](LogEvent& event) {
         if (event.kind != Kind::kFeedback || event.user.empty()) return false;
         event.user += event.id;
         return true;
       }},
      {"ignores a document", nothing(Kind::kUpsert)},
      {"does not roll back", nothing(Kind::kRollback)},
      {"does not freeze", nothing(Kind::kFreeze)},
      {"learns from no example", nothing(Kind::kExample)},
      {"rolls back to another version",
       [](LogEvent& event) {
         if (event.kind != Kind::kRollback || !event.version) return false;
         event.version = *event.version / 2;
         return true;
       }},
      {"learns another correction",
       [](LogEvent& event) {
         if (event.correction.empty()) return false;
         event.correction += " or not";
         return true;
       }},
      {"learns the opposite",
       [](LogEvent& event) {
         if (event.rating != "\"up\"") return false;
         event.rating = "\"down\"";
         return true;
       }},
      {"takes everybody for ada",
       [](LogEvent& event) {
         if (event.user.empty() || event.user == "ada") return false;
         event.user = "ada";
         return true;
       }},
  };
  LogTrial trial;
  for (const Mutant& mutant : mutants) {
    size_t tried = 0;
    size_t found = 0;
    for (uint64_t seed = 1; found < 3 && tried < 100 && seed < 2000; ++seed) {
      LogGenerator generator(seed, trial.abilities(), trial.files());
      const std::vector<LogEvent> events = generator.All();
      bool changes = false;
      const auto tamper = [&](const std::vector<LogEvent>& log) {
        Lines lines;
        for (LogEvent event : log) {
          const bool changed = event.kind != Kind::kGarbage && mutant.change(event);
          changes |= changed;
          lines.push_back(changed ? Written(event).line : event.line);
        }
        return lines;
      };
      tamper(events);
      // Where the program fails anyhow, the mutant shows nothing.
      if (!changes || trial.Check(generator.world(), events, false)) continue;
      ++tried;
      found += trial.Check(generator.world(), events, false, tamper) ? 1 : 0;
    }
    BOOST_TEST_MESSAGE("a program that " << mutant.name << ": found out in " << found << " of "
                                         << tried << " logs");
    BOOST_TEST(found > 0, "a program that " << mutant.name << " is not found out");
  }
}
