// Which threads and which parts of the graph the process's CPU time went to; for benchmarks.
//
// The kernel counts what each thread ran, and how long it waited for a core. What a part of the
// graph took is known by the clock alone, with such waiting in it. Waiting comes at any place, so
// the parts are made shorter by the share of it that the graph's threads had.
//
// Main thread and one other, not at the same time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "pipeline/graph.h"

namespace nudge {

class CpuSplit {
 public:
  // Threads that are there now are the caller's own (what reads the source is the main thread).
  CpuSplit();

  // Those that came since the last call belong to `part`, if they are librdkafka's.
  void Claim(const std::string& part);

  // Around what is measured. Threads must live from the first to the second.
  void Begin(const GraphMetrics& metrics) { begin_ = Read(metrics); }
  void End(const GraphMetrics& metrics) { end_ = Read(metrics); }

  // A table, in microseconds an event.
  void Print(double events) const;

 private:
  struct Thread {
    std::string name;
    uint64_t run_ns = 0;
    uint64_t wait_ns = 0;  // for a core
  };
  struct Nodes {
    uint64_t json_ns = 0;
    uint64_t stages_ns = 0;
    uint64_t chain_ns = 0;
  };
  struct Snapshot {
    std::map<pid_t, Thread> threads;
    Nodes nodes;
  };
  static std::map<pid_t, Thread> Threads();
  static Snapshot Read(const GraphMetrics& metrics);
  std::string PartOf(pid_t id, const Thread& thread) const;

  std::set<pid_t> known_;
  std::map<pid_t, std::string> claimed_;
  Snapshot begin_;
  Snapshot end_;
};

}  // namespace nudge
