// What the benchmarks share. Main thread only.
#pragma once

#include <string>

#include "pipeline/executor.h"
#include "pipeline/graph.h"

namespace nudge {

// Of all threads of the process since it began, in user and in kernel mode.
double CpuSeconds();
double PeakMegabytes();

// Time by node as a table. The last row is what of `cpu_seconds` no node accounts for; nodes are
// timed by the clock, so on a busy machine it may be below zero.
void PrintCosts(const GraphMetrics& metrics, const Executor& executor, double events,
                double cpu_seconds);

// A folder that is removed with everything in it. Throws StartError if there can be none.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace nudge
