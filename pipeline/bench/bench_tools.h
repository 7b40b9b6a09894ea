// What the benchmarks share. Main thread only.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/bench/bench.h"
#include "pipeline/config/config.h"
#include "pipeline/executor.h"
#include "pipeline/graph.h"
#include "stages/chat.h"

namespace nudge {

// Of all threads of the process since it began, in user and in kernel mode.
double CpuSeconds();
double PeakMegabytes();

double Median(std::vector<double> values);  // at least one
// The value that a share `of` of all values do not exceed; 0 of none.
double Quantile(std::vector<double> values, double of);

template <class Body>
double MsOf(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// Words that `seed` draws, and a chat that asks them.
std::string RandomWords(size_t count, uint64_t seed);
std::vector<ChatMessage> RandomChat(size_t words, uint64_t seed);

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

// A configuration whose language model is there: as configured, or one of random weights in a
// folder of its own. Throws StartError.
class BenchedModel {
 public:
  BenchedModel(const std::string& config_path, const RandomModelArguments& random);
  const Config& config() const { return config_; }

 private:
  std::optional<ScratchFolder> folder_;
  Config config_;
};

}  // namespace nudge
