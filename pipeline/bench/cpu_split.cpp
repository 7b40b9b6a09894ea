#include "pipeline/bench/cpu_split.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace nudge {
namespace {

constexpr const char* kGraph = "graph";
constexpr const char* kReading = "reading: source, credits";
constexpr const char* kOutbox = "outbox: lines to librdkafka, commits";
constexpr const char* kState = "state: cuts to SQLite";

}  // namespace

CpuSplit::CpuSplit() {
  for (const auto& [id, thread] : Threads()) known_.insert(id);
}

void CpuSplit::Claim(const std::string& part) {
  for (const auto& [id, thread] : Threads()) {
    if (known_.insert(id).second && thread.name.starts_with("rdk:")) claimed_[id] = part;
  }
}

std::map<pid_t, CpuSplit::Thread> CpuSplit::Threads() {
  std::map<pid_t, Thread> threads;
  std::error_code error;  // a thread may end while it is looked at
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", error)) {
    Thread thread;
    std::ifstream name(entry.path() / "comm");
    std::ifstream times(entry.path() / "schedstat");
    if (std::getline(name, thread.name) && times >> thread.run_ns >> thread.wait_ns) {
      threads[std::stoi(entry.path().filename())] = std::move(thread);
    }
  }
  return threads;
}

CpuSplit::Snapshot CpuSplit::Read(const GraphMetrics& metrics) {
  Snapshot snapshot;
  snapshot.threads = Threads();
  snapshot.nodes.json_ns = metrics.decode.total_ns() + metrics.encode.total_ns();
  snapshot.nodes.chain_ns = metrics.emit.total_ns();
  for (const NodeMetrics* stage : {&metrics.prepare, &metrics.recall, &metrics.index,
                                   &metrics.adapt, &metrics.prompt, &metrics.respond}) {
    snapshot.nodes.stages_ns += stage->total_ns();
  }
  return snapshot;
}

std::string CpuSplit::PartOf(pid_t id, const Thread& thread) const {
  if (const auto claimed = claimed_.find(id); claimed != claimed_.end()) return claimed->second;
  if (id == getpid()) return kReading;
  if (thread.name == "outbox") return kOutbox;
  if (thread.name == "cuts") return kState;
  return kGraph;
}

void CpuSplit::Print(double events) const {
  std::map<std::string, Thread> parts;
  for (const auto& [id, thread] : end_.threads) {
    const auto before = begin_.threads.find(id);
    if (before == begin_.threads.end()) continue;
    Thread& part = parts[PartOf(id, thread)];
    part.run_ns += thread.run_ns - before->second.run_ns;
    part.wait_ns += thread.wait_ns - before->second.wait_ns;
  }
  uint64_t total_ns = 0;
  const auto line = [&](const char* name, double ns) {
    std::printf("    %-40s %8.2f\n", name, ns / 1000 / events);
  };
  std::printf("    %-40s %8s\n", "where the CPU goes", "us an event");
  for (const auto& [name, part] : parts) {
    total_ns += part.run_ns;
    if (name != kGraph) line(name.c_str(), static_cast<double>(part.run_ns));
  }
  const auto run = static_cast<double>(parts[kGraph].run_ns);
  const double on_core = run / (run + static_cast<double>(parts[kGraph].wait_ns));
  const auto spent = [&](uint64_t Nodes::*node) {
    return static_cast<double>(end_.nodes.*node - begin_.nodes.*node) * on_core;
  };
  const double json = spent(&Nodes::json_ns);
  const double stages = spent(&Nodes::stages_ns);
  const double chain = spent(&Nodes::chain_ns);
  line("graph: JSON in and out", json);
  line("graph: stages and stand-ins for models", stages);
  line("graph: chain", chain);
  line("graph: hops, queues, memory", run - json - stages - chain);
  line("together", static_cast<double>(total_ns));
  std::printf("    the graph's threads waited for a core for %.0f %% of their time\n",
              100 * (1 - on_core));
}

}  // namespace nudge
