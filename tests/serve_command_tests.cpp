// labels: unit slow
// `nudge serve` as people run it: over HTTP, stopped, killed, started wrongly, on a full disk.
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <deque>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "connectors/codec.h"
#include "http_client.h"
#include "run_command.h"
#include "stages/exit_code.h"
#include "stages/hash.h"
#include "temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr std::chrono::seconds kPatience{60};

// A configuration in the folder, which all else is below of; `more` as further members.
std::string WriteConfig(const std::string& folder, const std::string& more = "") {
  const std::string path = folder + "/config.json";
  std::ofstream(path) << R"({"output": {"folder": ")" << folder
                      << R"(/out"}, "event_log": {"folder": ")" << folder
                      << R"(/log"}, "http": {"port": 0}, "model": {"backend": "template",
                      "template_dimension": 8})"
                      << more << "}";
  return path;
}

// A process of `nudge serve`.
class Server {
 public:
  // `file_bytes`: the largest file that it may write; 0: no limit.
  // `begin_with`: a file of events; empty: none.
  explicit Server(const std::string& config, const std::string& environment = "",
                  rlim_t file_bytes = 0, const std::string& begin_with = "")
      : said_path_(config + ".said") {
    std::filesystem::remove(said_path_);  // of a life before
    process_ = fork();
    ENSURE(process_ >= 0);
    if (process_ > 0) return;
    const int said = open(said_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(said, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    if (const size_t at = environment.find('='); at != environment.npos) {
      setenv(environment.substr(0, at).c_str(), environment.c_str() + at + 1, 1);
    }
    const rlimit limit{file_bytes, file_bytes};
    if (file_bytes > 0) setrlimit(RLIMIT_FSIZE, &limit);
    execl(NUDGE_BINARY, NUDGE_BINARY, "serve", config.c_str(),
          begin_with.empty() ? nullptr : "--begin-with", begin_with.c_str(), nullptr);
    _exit(127);
  }
  ~Server() {
    if (process_ > 0) Kill();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Once it serves; 0: it ended before.
  uint16_t WaitForPort() {
    static const std::regex kServing(R"(serving at http://[^ ;]*:(\d+);)");
    for (const auto end = Clock::now() + kPatience; Clock::now() < end;) {
      std::smatch match;
      const std::string said = Said();
      if (std::regex_search(said, match, kServing)) {
        return static_cast<uint16_t>(std::stoi(match[1]));
      }
      int status = 0;
      if (waitpid(process_, &status, WNOHANG) == process_) {
        ended_ = status;
        process_ = 0;
        return 0;
      }
      std::this_thread::sleep_for(Milliseconds(10));
    }
    BOOST_FAIL("does not serve: " << Said());
    return 0;
  }

  // Its exit code; -1: a signal ended it.
  int Wait() {
    for (const auto end = Clock::now() + kPatience; process_ > 0 && Clock::now() < end;) {
      int status = 0;
      if (waitpid(process_, &status, WNOHANG) == process_) {
        ended_ = status;
        process_ = 0;
      } else {
        std::this_thread::sleep_for(Milliseconds(5));
      }
    }
    BOOST_REQUIRE_MESSAGE(process_ == 0, "does not end: " << Said());
    return WIFEXITED(ended_) ? WEXITSTATUS(ended_) : -1;
  }
  int Stop() {
    kill(process_, SIGTERM);
    return Wait();
  }
  void Kill() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }

  std::string Said() const { return FileBytes(said_path_); }

 private:
  const std::string said_path_;
  pid_t process_ = 0;
  int ended_ = 0;
};

std::string Question(const std::string& id, const std::string& text) {
  return R"({"specversion":"1.0","id":")" + id +
         R"(","source":"/test","type":"nudge.query","tenant":"acme","data":{"text":")" + text +
         R"("}})";
}

Reply Post(uint16_t port, const std::string& event, const std::string& headers = "") {
  return Call(port, Request("POST", "/v1/events", event, headers));
}

Reply OutcomeOf(uint16_t port, const std::string& id) {
  return Call(port, Request("GET", "/v1/outcomes/" + id, "", "x-nudge-tenant: acme\r\n"));
}

constexpr char kAsync[] = "Prefer: respond-async\r\n";

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

// The chain that `nudge replay` makes of what `nudge log` writes.
std::string ReplayedChain(const std::string& config, const std::string& folder) {
  const std::string nudge = NUDGE_BINARY " ";
  const std::string events = folder + "/events.jsonl";
  const auto [dumped, dump] = RunCommand(nudge + "log " + config + " --out " + events);
  BOOST_TEST(dumped == 0, dump);
  const auto [replayed, replay] = RunCommand(nudge + "replay " + config + " --input " + events +
                                             " --output " + folder + "/replayed --quiet --fresh");
  BOOST_TEST(replayed == 0, replay);
  std::smatch match;
  static const std::regex kChain("outcomes sha256 ([0-9a-f]{64})");
  BOOST_REQUIRE_MESSAGE(std::regex_search(replay, match, kChain), replay);
  return match[1];
}

}  // namespace

BOOST_AUTO_TEST_CASE(it_answers_stops_when_told_and_goes_on_where_it_was) {
  const TempFolder folder;
  const std::string config = WriteConfig(folder.path());
  std::string first;
  for (int life = 0; life < 3; ++life) {
    Server server(config);
    const uint16_t port = server.WaitForPort();
    BOOST_REQUIRE(port > 0);
    if (life > 0) BOOST_TEST(OutcomeOf(port, "q-0").body == first);
    const Reply reply = Post(port, Question("q-" + std::to_string(life), "How heavy is the bike?"));
    BOOST_TEST(reply.status == 200);
    const Result<RecordedOutcome> outcome = DecodeOutcome(reply.body);
    BOOST_REQUIRE(outcome.ok());
    BOOST_TEST(outcome->offset == life);
    if (life == 0) first = reply.body;
    BOOST_TEST(OutcomeOf(port, "q-0").status == 200);
    BOOST_TEST(server.Stop() == kExitDone);
    BOOST_TEST(server.Said().find("stopped after 1 events (1 answers") != std::string::npos,
               server.Said());
  }
  BOOST_TEST(ReplayedChain(config, folder.path()) == OutcomesIn(folder.path()).back().chain);
}

BOOST_AUTO_TEST_CASE(an_empty_log_may_begin_with_a_recording_and_a_full_one_does_not) {
  const TempFolder folder;
  const std::string config = WriteConfig(folder.path());
  const std::string recording = folder.path() + "/recording.jsonl";
  {
    Server server(config, "", 0, recording);
    BOOST_TEST(server.WaitForPort() == 0U);  // there is no such file
    BOOST_TEST(server.Said().find("cannot be read") != std::string::npos, server.Said());
  }
  std::ofstream(recording) << Question("q-0", "How heavy is the bike?") << "\nno event at all\n";
  for (int life = 0; life < 2; ++life) {
    Server server(config, "", 0, recording);
    const uint16_t port = server.WaitForPort();
    BOOST_REQUIRE(port > 0);
    const Reply reply = Post(port, Question("q-" + std::to_string(life + 1), "And the tent?"));
    BOOST_TEST(reply.status == 200);
    BOOST_TEST(OutcomeOf(port, "q-0").status == 200);
    BOOST_TEST(server.Stop() == kExitDone);
    BOOST_TEST(server.Said().find(life == 0 ? "begins with 2 events" : "holds events already") !=
                   std::string::npos,
               server.Said());
  }
  BOOST_TEST(OutcomesIn(folder.path()).size() == 4U);
  BOOST_TEST(ReplayedChain(config, folder.path()) == OutcomesIn(folder.path()).back().chain);
}

BOOST_AUTO_TEST_CASE(wrong_starts_are_refused_in_one_sentence_and_touch_nothing) {
  const TempFolder folder;
  const std::string config = WriteConfig(folder.path());
  const auto says = [](const std::string& path, const std::string& sentence) {
    const auto [status, text] = RunCommand(std::string(NUDGE_BINARY) + " serve " + path);
    BOOST_TEST(WEXITSTATUS(status) == kExitUsage, text);
    BOOST_TEST(text.find(sentence) != std::string::npos, text);
  };
  const std::string other = folder.path() + "/other.json";
  std::ofstream(other) << R"({"input": {"path": "-"}, "output": {"folder": ")" << folder.path()
                       << R"(/none"}, "model": {"backend": "template"}})";
  says(other, "event_log.folder: missing");
  Server server(config);
  const uint16_t port = server.WaitForPort();
  BOOST_REQUIRE(port > 0);
  says(config, "another process serves from this event log");
  const TempFolder elsewhere;
  const std::string taken = WriteConfig(elsewhere.path());
  std::string text = FileBytes(taken);
  text.replace(text.find(R"("port": 0)"), 9, R"("port": )" + std::to_string(port));
  std::ofstream(taken, std::ios::trunc) << text;
  says(taken, "cannot listen on");
  BOOST_TEST(server.Stop() == kExitDone);
}

BOOST_AUTO_TEST_CASE(
    a_disk_that_does_not_answer_ends_the_process_with_a_sentence_and_loses_nothing) {
  const TempFolder folder;
  const std::string config = WriteConfig(folder.path());
  std::string text = FileBytes(config);
  text.replace(text.find("/log\""), 5, R"(/log", "sync_timeout_ms": 300)");
  std::ofstream(config, std::ios::trunc) << text;
  {
    Server server(config, "NUDGE_STAND_IN=fdatasync:3");
    const uint16_t port = server.WaitForPort();
    BOOST_REQUIRE(port > 0);
    int last = 0;
    for (int i = 0; i < 4 && last != -1; ++i) {
      last = Post(port, Question("q-" + std::to_string(i), "one?"), kAsync).status == 202 ? i : -1;
    }
    BOOST_TEST(last == -1);
    BOOST_TEST(server.Wait() == kExitStuck);
    BOOST_TEST(server.Said().find("fdatasync has stood for") != std::string::npos, server.Said());
    BOOST_TEST(
        server.Said().find("see whether the disk of event_log.folder is well") != std::string::npos,
        server.Said());
  }
  Server server(config);
  const uint16_t port = server.WaitForPort();
  BOOST_REQUIRE(port > 0);
  BOOST_TEST(Post(port, Question("last", "one?")).status == 200);
  BOOST_TEST(OutcomeOf(port, "q-0").status == 200);
  BOOST_TEST(server.Stop() == kExitDone);
}

BOOST_AUTO_TEST_CASE(a_full_disk_refuses_what_does_not_fit_and_takes_what_does) {
  const TempFolder folder;
  const std::string config = WriteConfig(folder.path(), R"(, "checkpoint": {"enabled": false})");
  Server server(config, "", 150'000);
  const uint16_t port = server.WaitForPort();
  BOOST_REQUIRE(port > 0);
  const auto document = [](const std::string& id) {
    std::string text;
    for (int i = 0; i < 10'000; ++i) text += "word" + std::to_string(i) + " ";
    return R"({"specversion":"1.0","id":")" + id +
           R"(","source":"/test","type":"nudge.document.upsert","tenant":"acme","data":{"document_id":")" +
           id + R"(","text":")" + text + R"("}})";
  };
  BOOST_TEST(Post(port, document("d-0")).status == 200);
  const Reply full = Post(port, document("d-1"));
  BOOST_TEST(full.status == 503);
  BOOST_TEST(full.body.find("the event is not stored") != std::string::npos, full.body);
  BOOST_TEST(full.body.find("make room on that disk") != std::string::npos, full.body);
  BOOST_TEST(full.headers.contains("Retry-After"));
  BOOST_TEST(Post(port, Question("q", "word7?")).status == 200);
  BOOST_TEST(OutcomeOf(port, "d-1").status == 404);
  BOOST_TEST(server.Stop() == kExitDone);
  BOOST_TEST(OutcomesIn(folder.path()).size() == 2U);
  BOOST_TEST(ReplayedChain(config, folder.path()) == OutcomesIn(folder.path()).back().chain);
}

BOOST_AUTO_TEST_CASE(what_is_forgotten_is_gone_for_whoever_asks_and_whoever_looks) {
  const TempFolder folder;
  const std::string config = WriteConfig(folder.path(), R"(, "checkpoint": {"every_events": 4})");
  const auto of_ann = [](const std::string& id, const std::string& type, const std::string& data) {
    return R"({"specversion":"1.0","id":")" + id + R"(","source":"/test","type":"nudge.)" + type +
           R"(","tenant":"acme","user":"ann","data":{)" + data + "}}";
  };
  const std::string question = of_ann("q-a", "query", R"("text":"annsaid what?")");
  {
    Server server(config);
    const uint16_t port = server.WaitForPort();
    BOOST_REQUIRE(port > 0);
    BOOST_TEST(Post(port, question).status == 200);
    BOOST_TEST(
        Post(port, of_ann("f-a", "feedback", R"("query_id":"q-a","correction":"annsaid this")"))
            .status == 200);
    BOOST_TEST(Post(port, of_ann("g", "forget", R"("user":"ann")")).status == 200);
    for (int i = 0; i < 4; ++i) {
      BOOST_TEST(Post(port, Question("q-" + std::to_string(i), "others?")).status == 200);
    }
    Reply erased;
    for (const auto end = Clock::now() + kPatience; erased.status != 410 && Clock::now() < end;) {
      std::this_thread::sleep_for(Milliseconds(20));
      erased = OutcomeOf(port, "q-a");
    }
    BOOST_TEST(erased.status == 410);
    BOOST_TEST(erased.body.find("of q-a was erased") != std::string::npos, erased.body);
    BOOST_TEST(OutcomeOf(port, "f-a").status == 410);
    BOOST_TEST(OutcomeOf(port, "q-0").status == 200);
    const Reply again = Post(port, question);  // its id is taken still, and its answer is gone
    BOOST_TEST(again.body.find("duplicate of event 0") != std::string::npos, again.body);
    const auto is_told = [&] {
      return server.Said().find("2 records of the event log and 2 outcomes were erased") !=
             std::string::npos;
    };
    for (const auto end = Clock::now() + kPatience; !is_told() && Clock::now() < end;) {
      std::this_thread::sleep_for(Milliseconds(20));
    }
    BOOST_TEST(is_told(), server.Said());
    server.Kill();
  }
  Server server(config);
  const uint16_t port = server.WaitForPort();
  BOOST_REQUIRE(port > 0);
  BOOST_TEST(OutcomeOf(port, "f-a").status == 404);
  BOOST_TEST(OutcomeOf(port, "q-0").status == 200);
  BOOST_TEST(server.Stop() == kExitDone);
  const std::string nudge = NUDGE_BINARY " ";
  const auto [inspected, seen] = RunCommand(nudge + "inspect " + folder.path() + "/out");
  BOOST_TEST(inspected == 0, seen);
  BOOST_TEST(seen.find("every line checked that was not erased") != std::string::npos, seen);
  const auto [explained, why] = RunCommand(nudge + "explain " + folder.path() + "/out q-0");
  BOOST_TEST(explained == 0, why);
  const auto [gone, nothing] = RunCommand(nudge + "explain " + folder.path() + "/out f-a");
  BOOST_TEST(WEXITSTATUS(gone) == kExitFailed, nothing);
  BOOST_TEST(nothing.find("forgotten is not found any more") != std::string::npos, nothing);
  ReplayedChain(config, folder.path());
  BOOST_TEST(FileBytes(folder.path() + "/events.jsonl").starts_with("\n\n{"));
}

// ---- Kills --------------------------------------------------------------------------------------

namespace {

constexpr int kClients = 4;
constexpr int kLives = 15;

// One client over several lives: asks its questions in order, each until it is acknowledged.
struct Client {
  int number = 0;
  int next = 0;
  std::set<std::string> acknowledged;
  int wrong = 0;  // a status that was not to be expected

  std::string Id() const {
    std::string id = std::to_string(number);
    return id.append("-").append(std::to_string(next));
  }

  // Until the connection ends.
  void Work(Connection& connection) {
    while (true) {
      const std::string id = Id();
      const bool waits = next % 3 == 0;
      if (!connection.Send(Request("POST", "/v1/events", Question(id, "What is " + id + "?"),
                                   waits ? "" : kAsync))) {
        return;
      }
      const int status = connection.Receive().status;
      if (status == 0) return;
      if (status != (waits ? 200 : 202)) ++wrong;
      acknowledged.insert(id);
      ++next;
    }
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(killed_at_any_time_every_acknowledged_request_has_exactly_one_outcome) {
  const TempFolder folder;
  const std::string config = WriteConfig(
      folder.path(), R"(, "checkpoint": {"every_events": 25}, "limits": {"in_flight_events": 32})");
  std::vector<Client> clients(kClients);
  for (int i = 0; i < kClients; ++i) clients[static_cast<size_t>(i)].number = i;
  for (uint64_t life = 0; life < kLives; ++life) {
    Server server(config);
    const uint16_t port = server.WaitForPort();
    BOOST_REQUIRE(port > 0);
    std::deque<Connection> connections;
    std::vector<std::thread> threads;
    for (Client& client : clients) {
      Connection& connection = connections.emplace_back(port);
      threads.emplace_back([&] { client.Work(connection); });
    }
    std::this_thread::sleep_for(Milliseconds(30 + RandomAt(3, life) % 500));
    server.Kill();
    for (std::thread& thread : threads) thread.join();
  }
  size_t acknowledged = 0;
  {
    Server server(config);
    const uint16_t port = server.WaitForPort();
    BOOST_REQUIRE(port > 0);
    BOOST_TEST(Post(port, Question("last", "Is all done?")).status == 200);
    for (const Client& client : clients) {
      BOOST_TEST(client.wrong == 0);
      for (const std::string& id : client.acknowledged) {
        BOOST_TEST(OutcomeOf(port, id).status == 200, id);
        ++acknowledged;
      }
    }
    BOOST_TEST(server.Stop() == kExitDone);
  }
  BOOST_TEST(acknowledged > 100U);
  BOOST_TEST_MESSAGE(acknowledged << " acknowledged over " << kLives << " kills");
  std::map<std::string, int> answers;
  const std::vector<RecordedOutcome> outcomes = OutcomesIn(folder.path());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    BOOST_TEST(outcomes[i].offset == static_cast<int64_t>(i));
    if (KindOf(outcomes[i].outcome) == OutcomeKind::kResponse) ++answers[outcomes[i].outcome.id];
  }
  for (const Client& client : clients) {
    for (const std::string& id : client.acknowledged) BOOST_TEST(answers[id] == 1, id);
  }
  BOOST_TEST(ReplayedChain(config, folder.path()) == outcomes.back().chain);
}
