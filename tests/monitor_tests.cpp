// labels: unit graph
// What a monitor answers, while a run comes, works and goes.
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/observe/monitor.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/monitor_page.h"
#include "tests/scripted_source.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

// A value of a metric, as text; empty if it is not there.
std::string ValueOf(const std::string& metrics, const std::string& name_and_labels) {
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name_and_labels + " ")) return line.substr(name_and_labels.size() + 1);
  }
  return "";
}

// A call of the backend that lasts until it is let go.
class Gate {
 public:
  void Pass() {
    std::unique_lock lock(mutex_);
    ++inside_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void WaitForSomebody() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return inside_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int inside_ = 0;
};

// What a run has said so far.
class Notices {
 public:
  void Add(const std::string& sentence) {
    const std::lock_guard lock(mutex_);
    sentences_.push_back(sentence);
    changed_.notify_all();
  }
  // The first one that holds `part`; empty if none comes.
  std::string WaitFor(const std::string& part) {
    std::unique_lock lock(mutex_);
    std::string found;
    changed_.wait_for(lock, std::chrono::seconds(60), [&] {
      for (const std::string& sentence : sentences_) {
        if (found.empty() && Holds(sentence, part)) found = sentence;
      }
      return !found.empty();
    });
    return found;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> sentences_;
};

// A sink whose commits pass a gate.
class GatedSink final : public Sink {
 public:
  explicit GatedSink(Gate& gate) : gate_(gate) {}
  Result<Nothing> Append(const OutcomeLine& line) override { return sink_.Append(line); }
  Result<Nothing> Commit() override {
    gate_.Pass();
    return sink_.Commit();
  }
  void Drop(int32_t partition) override { sink_.Drop(partition); }
  Result<std::optional<Tail>> Last(int32_t partition) override { return sink_.Last(partition); }
  Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override {
    return sink_.ReadBack(partition, offset, visit);
  }

 private:
  Gate& gate_;
  MemorySink sink_;
};

std::string Question(const std::string& id) {
  Event event;
  event.source = "test";
  event.id = id;
  event.tenant = "acme";
  event.data = Query{"what is a harbour?", {}};
  return EncodeEvent(event);
}

// A run on a thread of its own, watched.
class WatchedRun {
 public:
  WatchedRun(ProcessorOptions options, const TemplateBackendOptions& backend, Source& source,
             Sink& sink)
      : backend_(MakeTemplateBackend(backend)),
        processor_(std::move(options),
                   {{}, {}, [this](const std::string& sentence) { notices.Add(sentence); }},
                   *backend_, source, sink),
        watch_(monitor, [this] { return processor_.View(); }),
        thread_([this] {
          const auto summary = processor_.Run(stop);
          is_good = summary.ok();
        }) {}
  ~WatchedRun() { Finish(); }

  void Finish() {
    if (thread_.joinable()) thread_.join();
  }

  Notices notices;
  Monitor monitor{kLoopback, 0};
  std::atomic<bool> stop{false};
  std::atomic<bool> is_good{false};

 private:
  const std::unique_ptr<Backend> backend_;
  Processor processor_;
  const Monitor::Watch watch_;
  std::thread thread_;
};

// Why the run is not ready, once that holds `part`: an event may have stood for long before it came
// to where it stays, and what is said is of where it stood then.
std::string WaitForReason(const Monitor& monitor, const std::string& part) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::string reason;
  do {
    reason = WaitForPage(monitor, "/readyz", 503);
  } while (!Holds(reason, part) && std::chrono::steady_clock::now() < deadline);
  return reason;
}

ProcessorOptions Watchful() {
  ProcessorOptions options;
  options.watchdog.silent = std::chrono::milliseconds(200);
  return options;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_monitor_without_a_run_is_alive_and_not_ready) {
  const Monitor monitor(kLoopback, 0);
  BOOST_TEST(Ask(monitor, "/healthz").status == 200);
  const Page ready = Ask(monitor, "/readyz");
  BOOST_TEST(ready.status == 503);
  BOOST_TEST(ready.body == "starting\n");
  BOOST_TEST(ValueOf(Ask(monitor, "/metrics").body, "nudge_ready") == "0");
  const auto status = nlohmann::json::parse(Ask(monitor, "/status").body);
  BOOST_TEST(status["phase"] == "starting");
  BOOST_TEST(status["version"] == std::string(NudgeVersion()));
}

BOOST_AUTO_TEST_CASE(a_gateway_is_ready_while_it_serves_and_shows_what_it_counts) {
  Monitor monitor(kLoopback, 0);
  GatewayView view;
  const Monitor::Watch watch(monitor, [&] { return view; });
  BOOST_TEST(Ask(monitor, "/readyz").status == 503);
  view.phase = RunView::Phase::kServing;
  view.stored = 3;
  view.waiting_events = 2;
  view.http.routes = {{"POST /v1/events", {3, 0, 1, 0}}};
  view.http.refusals = {1, 0, 0};
  BOOST_TEST(Ask(monitor, "/readyz").body == "ready\n");
  const std::string metrics = Ask(monitor, "/metrics").body;
  BOOST_TEST(ValueOf(metrics, "nudge_ready") == "1");
  BOOST_TEST(ValueOf(metrics, "nudge_gateway_events_total{kind=\"stored\"}") == "3");
  BOOST_TEST(ValueOf(metrics, "nudge_gateway_waiting_events") == "2");
  BOOST_TEST(
      Holds(metrics, "nudge_http_requests_total{route=\"POST /v1/events\",status=\"4xx\"} 1\n"));
  BOOST_TEST(ValueOf(metrics, "nudge_http_refused_total{status=\"413\"}") == "1");
  BOOST_TEST(!Holds(metrics, "nudge_node_calls_total"));
  const auto status = nlohmann::json::parse(Ask(monitor, "/status").body);
  BOOST_TEST(status["phase"] == "serving");
  BOOST_TEST(status["http"]["requests"]["POST /v1/events"]["2xx"] == 3);
  BOOST_TEST(status["events"]["waiting"] == 2);
  view.phase = RunView::Phase::kDraining;
  BOOST_TEST(Ask(monitor, "/readyz").body == "draining\n");
}

BOOST_AUTO_TEST_CASE(a_page_that_is_not_there_and_a_method_that_changes_things_are_refused) {
  const Monitor monitor(kLoopback, 0);
  const Page missing = Ask(monitor, "/metric");
  BOOST_TEST(missing.status == 404);
  BOOST_TEST(Holds(missing.body, "/metrics"));
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
    BOOST_TEST(Ask(monitor, "/metrics", method).status == 405, method);
  }
  BOOST_TEST(Holds(Send(monitor.port(), "DELETE / HTTP/1.0\r\n\r\n"), "Allow: GET, HEAD"));
  BOOST_TEST(Ask(monitor, "/healthz", "HEAD").status == 200);
  BOOST_TEST(Ask(monitor, "/healthz", "HEAD").body == "");
}

BOOST_AUTO_TEST_CASE(requests_that_are_none_or_too_large_end_nothing) {
  const Monitor monitor(kLoopback, 0);
  BOOST_TEST(Holds(Send(monitor.port(), "\x01\x02 nonsense\r\n\r\n"), "400"));
  BOOST_TEST(
      Holds(Send(monitor.port(), "GET /" + std::string(9'000, 'a') + " HTTP/1.1\r\n\r\n"), "414"));
  BOOST_TEST(Ask(monitor, "/healthz").status == 200);
}

BOOST_AUTO_TEST_CASE(a_port_that_is_taken_is_a_start_error_that_says_what_to_do) {
  const Monitor monitor(kLoopback, 0);
  try {
    const Monitor second(kLoopback, monitor.port());
    BOOST_ERROR("two monitors have one port");
  } catch (const StartError& error) {
    BOOST_TEST(Holds(error.what(), ":" + std::to_string(monitor.port())), error.what());
    BOOST_TEST(Holds(error.what(), "choose another monitor.port"), error.what());
  }
  BOOST_CHECK_THROW(Monitor("192.0.2.1", 0), StartError);  // an address for documents only
}

BOOST_AUTO_TEST_CASE(a_run_is_shown_while_partitions_come_and_go) {
  constexpr int32_t kPartitions = 3;
  constexpr size_t kEvents = 150;
  std::map<int32_t, std::vector<std::string>> lines;
  std::vector<Act> acts;
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    lines[partition] =
        EventGenerator({.seed = 40 + static_cast<uint64_t>(partition), .events = kEvents}).All();
    acts.emplace_back(Assign{partition});
    acts.emplace_back(Deliver{partition, kEvents / 2});
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    acts.emplace_back(Revoke{partition});
    acts.emplace_back(Assign{partition});
    acts.emplace_back(Deliver{partition, kEvents});
  }
  std::atomic<bool> may_end{false};
  acts.emplace_back(Until{[&] { return may_end.load(); }});
  ScriptedSource source(lines, acts);
  MemorySink sink;
  const TempFolder folder;
  ProcessorOptions options = Watchful();
  options.state_folder = folder.path();
  options.checkpoint_every_events = 17;
  options.executor.snapshot_folder = "";
  WatchedRun run(options, {.dimension = 8}, source, sink);

  const auto all_committed = [&](const std::string& metrics) {
    for (int32_t partition = 0; partition < kPartitions; ++partition) {
      if (ValueOf(metrics, "nudge_committed_offset{partition=\"" + std::to_string(partition) +
                               "\"}") != std::to_string(kEvents)) {
        return false;
      }
    }
    return true;
  };
  std::string metrics;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  do {
    metrics = Ask(run.monitor, "/metrics").body;
    BOOST_TEST(nlohmann::json::accept(Ask(run.monitor, "/status").body));
  } while (!all_committed(metrics) && std::chrono::steady_clock::now() < deadline);
  BOOST_TEST(all_committed(metrics));
  WaitForPage(run.monitor, "/readyz", 200);
  metrics = Ask(run.monitor, "/metrics").body;
  const auto status = nlohmann::json::parse(Ask(run.monitor, "/status").body);
  may_end = true;
  run.Finish();
  BOOST_TEST(run.is_good.load());

  BOOST_TEST(ValueOf(metrics, "nudge_ready") == "1");
  double outcomes = 0;
  for (const char* kind : {"response", "applied", "dead_letter"}) {
    const std::string value =
        ValueOf(metrics, "nudge_outcomes_total{kind=\"" + std::string(kind) + "\"}");
    BOOST_TEST_REQUIRE(!value.empty());
    BOOST_TEST(std::stod(value) > 0);
    outcomes += std::stod(value);
  }
  BOOST_TEST(outcomes >= static_cast<double>(kPartitions * kEvents));  // recovery repeats some
  BOOST_TEST(Holds(metrics, "nudge_dead_letters_total{stage=\"decode\",code=\"invalid_json\"}"));
  BOOST_TEST(Holds(metrics, "nudge_generation_seconds_bucket{le=\"+Inf\"}"));
  for (const char* name : {"generation", "lesson", "commit", "cut", "restore"}) {
    const std::string count = "nudge_" + std::string(name) + "_seconds_count";
    BOOST_TEST(std::stod(ValueOf(metrics, count)) > 0, count);
  }
  BOOST_TEST(status["ready"] == true);
  BOOST_TEST(status["partitions"].size() == static_cast<size_t>(kPartitions));
  for (const auto& partition : status["partitions"]) {
    BOOST_TEST(partition["in_flight"]["events"] == 0);
    BOOST_TEST(!partition["adapters"].empty());
  }
}

BOOST_AUTO_TEST_CASE(a_model_that_does_not_answer_is_named_with_the_event_that_waits) {
  Gate gate;
  TemplateBackendOptions backend{.dimension = 0};
  backend.instant = false;
  backend.before_each_call = [&] { gate.Pass(); };
  std::atomic<bool> may_end{false};
  ScriptedSource source({{5, {Question("first"), Question("second")}}},
                        {Assign{5}, Deliver{5, 2}, Until{[&] { return may_end.load(); }}});
  MemorySink sink;
  WatchedRun run(Watchful(), backend, source, sink);
  const std::string said = run.notices.WaitFor("no outcome was committed");
  BOOST_TEST(Holds(said, "partition 5: "), said);
  BOOST_TEST(Holds(said, "the oldest event in flight is offset 0 (tenant acme, id first, "), said);
  BOOST_TEST(!Holds(said, "\n"), said);
  const std::string reason = WaitForReason(run.monitor, "generate has been running for it for ");
  BOOST_TEST(Holds(reason, "generate has been running for it for "), reason);
  BOOST_TEST(Holds(reason, "offset 0"), reason);
  const std::string metrics = Ask(run.monitor, "/metrics").body;
  BOOST_TEST(ValueOf(metrics, "nudge_watchdog_alarms_total{kind=\"silent\"}") == "1");
  BOOST_TEST(ValueOf(metrics, "nudge_silent_partitions") == "1");
  gate.Open();
  BOOST_TEST(run.notices.WaitFor("goes on") != "");
  WaitForPage(run.monitor, "/readyz", 200);
  may_end = true;
  run.Finish();
  BOOST_TEST(sink.lines().size() == 2u);
}

BOOST_AUTO_TEST_CASE(a_run_that_was_told_to_stop_is_not_ready_while_it_finishes) {
  Gate gate;
  TemplateBackendOptions backend{.dimension = 0};
  backend.instant = false;
  backend.before_each_call = [&] { gate.Pass(); };
  ScriptedSource source({{0, {Question("first")}}},
                        {Assign{0}, Deliver{0, 1}, Until{[] { return false; }}});
  MemorySink sink;
  WatchedRun run({}, backend, source, sink);
  WaitForPage(run.monitor, "/readyz", 200);
  gate.WaitForSomebody();
  run.stop = true;
  BOOST_TEST(WaitForPage(run.monitor, "/readyz", 503) == "draining\n");
  BOOST_TEST(Ask(run.monitor, "/healthz").status == 200);
  gate.Open();
  run.Finish();
  BOOST_TEST(run.is_good.load());
  BOOST_TEST(sink.lines().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_commit_that_does_not_end_is_named) {
  Gate gate;
  std::atomic<bool> may_end{false};
  ScriptedSource source({{0, {Question("first")}}},
                        {Assign{0}, Deliver{0, 1}, Until{[&] { return may_end.load(); }}});
  GatedSink sink(gate);
  WatchedRun run(Watchful(), {}, source, sink);
  BOOST_TEST(run.notices.WaitFor("no outcome was committed") != "");
  const std::string reason = WaitForReason(run.monitor, "its outcome waits to be committed");
  BOOST_TEST(Holds(reason, "its outcome waits to be committed"), reason);
  gate.Open();
  BOOST_TEST(run.notices.WaitFor("goes on") != "");
  may_end = true;
}

BOOST_AUTO_TEST_CASE(a_source_that_does_not_come_back_is_named) {
  Gate gate;
  std::atomic<bool> is_stuck{true};
  ScriptedSource source({{0, {}}}, {Assign{0}, Until{[&] {
                                      if (is_stuck) gate.Pass();
                                      return true;
                                    }}});
  MemorySink sink;
  ProcessorOptions options;
  options.watchdog.poll = std::chrono::milliseconds(200);
  WatchedRun run(options, {}, source, sink);
  const std::string said = run.notices.WaitFor("the source was not asked");
  BOOST_TEST(Holds(said, "it does not come back"), said);
  BOOST_TEST(Holds(WaitForPage(run.monitor, "/readyz", 503), "was not asked"));
  BOOST_TEST(ValueOf(Ask(run.monitor, "/metrics").body,
                     "nudge_watchdog_alarms_total{kind=\"poll\"}") == "1");
  is_stuck = false;
  gate.Open();
  run.Finish();
  BOOST_TEST(run.is_good.load());
}

BOOST_AUTO_TEST_CASE(of_the_events_that_were_pushed_the_first_from_an_offset_is_found) {
  RecentEvents recent(3);
  BOOST_TEST(recent.From(0) == nullptr);
  std::vector<std::shared_ptr<const Origin>> origins;
  for (const int64_t offset : {2, 3, 5, 8, 9}) {  // a log may have gaps
    auto origin = std::make_shared<Origin>();
    origin->offset = offset;
    origins.push_back(origin);
    recent.Add(origins.back(), static_cast<uint32_t>(offset));
  }
  BOOST_TEST(recent.From(0)->offset == 5);
  BOOST_TEST(recent.From(6)->offset == 8);
  BOOST_TEST(recent.From(9)->offset == 9);
  BOOST_TEST((recent.From(9)->origin.lock() == origins.back()));
  BOOST_TEST(recent.From(10) == nullptr);
}

BOOST_AUTO_TEST_CASE(a_status_names_so_many_tenants_and_counts_the_rest) {
  RunView view;
  for (size_t i = 0; i < kTenantsShown + 7; ++i) {
    view.partitions[0].tenants.push_back({"tenant-" + std::to_string(i), 3, 2});
  }
  view.partitions[0].tenants.push_back({"without", 0, 0});
  view.partitions[0].tenants.push_back({"bad \xFF name", 1, 1});
  const auto partition = nlohmann::json::parse(StatusJson(view))["partitions"][0];
  BOOST_TEST(partition["tenants"] == kTenantsShown + 9);
  BOOST_TEST(partition["adapters"].size() == kTenantsShown);
  BOOST_TEST(partition["adapters_left_out"] == 8);
}
