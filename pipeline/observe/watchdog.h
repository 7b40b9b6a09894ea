// Notices that a run stands still, and says where.
//
//   Processor -> look -> [Watchdog] -> a sentence on standard error, /readyz, a metric
//
// Two things are watched. The first is a partition with events in flight, none of which was
// committed for `silent`: the sentence names the oldest of them and where it is. The second is the
// thread that owns the source. librdkafka's max.poll.interval does not watch it, since the poll of
// any queue resets it.
//
// Has a thread of its own between Start and Stop, which only looks; it changes nothing of the run.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "pipeline/observe/run_view.h"
#include "pipeline/observe/watchdog_options.h"
#include "stages/guarded.h"

namespace nudge {

class Watchdog {
 public:
  // What it compares from one look to the next.
  struct Look {
    struct Partition {
      uint64_t in_flight_events = 0;
      int64_t committed_offset = 0;
    };
    std::map<int32_t, Partition> partitions;
    uint64_t polls = 0;      // of the source, since start
    bool must_poll = false;  // it is to be asked again soon
    std::string doing;       // what the thread that asks is at, if that is not asking
  };
  struct Callbacks {
    std::function<Look()> look;
    // What the partition waits for; may take a moment.
    std::function<std::string(int32_t partition)> explain;
    std::function<void(const std::string& sentence)> say;  // once for each standstill
  };

  Watchdog(WatchdogOptions options, Callbacks callbacks);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void Start();
  void Stop();  // idempotent

  // Any thread.
  RunView::Watch view() const;

  // Milliseconds since Start, as of the last look: a clock that costs one load.
  uint32_t coarse_ms() const { return coarse_ms_.load(std::memory_order_relaxed); }

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Progress {
    int64_t committed_offset = 0;
    Time since;  // committed or idle last
    bool said = false;
  };

  void Work();
  void Compare(const Look& look, Time now);
  void ComparePolls(const Look& look, Time now);
  std::string Explain(int32_t partition, double seconds) const;

  const WatchdogOptions options_;
  const Callbacks callbacks_;
  std::atomic<uint32_t> coarse_ms_{0};
  std::map<int32_t, Progress> progress_;  // these three the thread's own
  uint64_t polls_ = 0;
  Time polled_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  RunView::Watch view_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace nudge
