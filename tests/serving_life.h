// One process's product for tests: config -> [Life] -> outcomes that [Clients] are told. Included
// by the suites over pipeline/serve.
#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <deque>
#include <thread>

#include "connectors/codec.h"
#include "connectors/file_sink.h"
#include "connectors/file_source.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/serve/serving.h"
#include "temp_folder.h"

namespace nudge::testing {

using Milliseconds = std::chrono::milliseconds;

constexpr std::chrono::seconds kPatience{120};

inline std::string ConfigText(const std::string& folder, const std::string& more = "") {
  return R"({"output": {"folder": ")" + folder + R"(/out"}, "event_log": {"folder": ")" + folder +
         R"(/log", "segment_bytes_max": 8192)" + more +
         R"(}, "model": {"backend": "template", "template_dimension": 8},
            "checkpoint": {"every_events": 20}, "limits": {"in_flight_events": 64}})";
}

// One life of the product, with its run on a thread.
class Life {
 public:
  explicit Life(const Config& config, bool runs = true)
      : backend_(MakeBackend(config)),
        serving_(
            ToServingOptions(config), *backend_,
            [this](const std::string& notice) { Notice(notice); }, stop_) {
    if (runs) Run();
  }
  ~Life() { Stop(); }

  void Run() {
    thread_ = std::thread([this] { done_ = serving_.Run(); });
  }

  // The chain of partition 0.
  std::string Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    BOOST_TEST(done_.ok(), (done_.ok() ? "" : done_.error().message));
    return done_.ok() && !done_->empty() ? Hex(done_->begin()->second.chain) : "";
  }

  Serving& serving() { return serving_; }
  Door& door() { return serving_.door(); }

  // Whether a notice with these words came, after some patience.
  bool WaitForNotice(const std::string& words) {
    const MutexLock lock(mutex_);
    return told_.WaitFor(mutex_, kPatience, [&]() REQUIRES(mutex_) {
      return std::any_of(notices_.begin(), notices_.end(), [&](const std::string& notice) {
        return notice.find(words) != std::string::npos;
      });
    });
  }

 private:
  void Notice(const std::string& notice) {
    const MutexLock lock(mutex_);
    notices_.push_back(notice);
    told_.NotifyAll();
  }

  Mutex mutex_;
  CondVar told_;
  std::vector<std::string> notices_ GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  const std::unique_ptr<Backend> backend_;
  Serving serving_;
  Result<std::map<int32_t, PartitionSummary>> done_ = std::map<int32_t, PartitionSummary>{};
  std::thread thread_;
};

// What one client was told.
struct Told {
  std::optional<int64_t> offset;
  std::optional<std::string> outcome;
  std::optional<Error> error;
  bool in_order = true;  // each once, stored before the outcome, nothing behind the last word
};

// Clients that wait for their events.
class Clients {
 public:
  void Submit(Door& door, const std::string& line) {
    size_t number = 0;
    {
      const MutexLock lock(mutex_);
      number = told_.size();
      told_.emplace_back();
    }
    Following following;
    following.stored = [this, number](int64_t offset) {
      Change(number, [&](Told& told) {
        told.in_order &= !told.offset && !told.outcome && !told.error;
        told.offset = offset;
      });
    };
    following.outcome = [this, number](const std::string& outcome) {
      Change(number, [&](Told& told) {
        told.in_order &= told.offset && !told.outcome && !told.error;
        told.outcome = outcome;
      });
    };
    following.failed = [this, number](const Error& error) {
      Change(number, [&](Told& told) {
        told.in_order &= !told.outcome && !told.error;
        told.error = error;
      });
    };
    door.Submit(PeekHead(line).tenant, line, std::move(following));
  }

  // All of them, once each has what `is_done` wants.
  template <class IsDone>
  std::vector<Told> Wait(IsDone is_done) {
    const MutexLock lock(mutex_);
    BOOST_TEST(changed_.WaitFor(mutex_, kPatience, [&]() REQUIRES(mutex_) {
      return std::all_of(told_.begin(), told_.end(), is_done);
    }));
    for (const Told& told : told_) BOOST_TEST(told.in_order);
    return {told_.begin(), told_.end()};
  }
  std::vector<Told> WaitForOutcomes() {
    return Wait([](const Told& told) { return told.outcome || told.error; });
  }

 private:
  template <class Write>
  void Change(size_t number, Write write) {
    const MutexLock lock(mutex_);
    write(told_[number]);
    changed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<Told> told_ GUARDED_BY(mutex_);
};

inline Config ConfigIn(const std::string& folder, const std::string& more = "") {
  return ParseConfig(ConfigText(folder, more), "");
}

// Why a run over these folders ends with an error at once; requires that it does.
inline std::string WhyItEnds(const Config& config) {
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  const std::atomic<bool> stop{false};
  Serving serving(
      ToServingOptions(config), *backend, [](const std::string&) {}, stop);
  const auto done = serving.Run();
  BOOST_REQUIRE(!done.ok());
  return done.error().message;
}

// The log as `nudge log` writes it, replayed from nothing: the chain.
inline std::string ReplayOfLog(const std::string& folder) {
  const TempFolder elsewhere;
  const std::string path = elsewhere.path() + "/events.jsonl";
  std::ofstream file(path);
  const Result<Nothing> read =
      ReadEventLog(folder + "/log", 0, [&](const Frame& frame) -> Result<Nothing> {
        if (frame.kind == FrameKind::kRecord) file << frame.bytes;
        file << '\n';
        return Nothing{};
      });
  BOOST_REQUIRE(read.ok());
  file.close();
  const Config config = ConfigIn(elsewhere.path());
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  FileSource source({.path = path});
  FileSink sink({.folder = config.output.folder});
  Processor processor(ToProcessorOptions(config), {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto done = processor.Run(stop);
  BOOST_REQUIRE(done.ok());
  return Hex(done->begin()->second.chain);
}

}  // namespace nudge::testing
