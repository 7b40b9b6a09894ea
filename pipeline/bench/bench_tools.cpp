#include "pipeline/bench/bench_tools.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>

#include "stages/hash.h"
#include "stages/model/serve/random_model.h"

namespace nudge {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double PeakMegabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double Quantile(std::vector<double> values, double of) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(of * static_cast<double>(values.size())))];
}

std::string RandomWords(size_t count, uint64_t seed) {
  static constexpr const char* kWords[] = {"ship",  "harbour", "pine", "letter", "order", "blue",
                                           "price", "window",  "late", "parcel", "north", "answer"};
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    text += std::string(i == 0 ? "" : " ") + kWords[RandomAt(seed, i) % std::size(kWords)];
  }
  return text;
}

std::vector<ChatMessage> RandomChat(size_t words, uint64_t seed) {
  return {{"user", RandomWords(words, seed)}};
}

ScratchFolder::ScratchFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "nudge-bench-XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) {
    throw StartError("cannot make a folder in " + std::filesystem::temp_directory_path().string() +
                     ": make room there, or set TMPDIR");
  }
  path_ = path;
}

ScratchFolder::~ScratchFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

BenchedModel::BenchedModel(const std::string& config_path, const RandomModelArguments& random) {
  if (config_path.empty() && random.shape.empty()) {
    throw StartError("name a configuration, or a model of random weights by --shape");
  }
  if (!config_path.empty()) config_ = ReadConfig(config_path);
  if (!random.shape.empty()) {
    folder_.emplace();
    std::string& model = config_.model.local.language_model;
    model = folder_->path() + "/" + random.shape + ".gguf";
    std::printf("writing random weights, %s\n", model.c_str());
    const auto written = WriteRandomModel(model, random.shape, random.layers);
    if (!written.ok()) throw StartError(written.error().message + "; " + written.error().remedy);
  }
  if (!config_path.empty()) RequireInputs(config_);
}

void PrintCosts(const GraphMetrics& metrics, const Executor& executor, double events,
                double cpu_seconds) {
  // Jobs that are done where they are submitted are part of the node that submits them.
  struct Row {
    const char* name;
    const NodeMetrics* node;
    bool within = false;
  };
  const bool within = executor.instant();
  const Row rows[] = {
      {"decode (JSON in)", &metrics.decode},
      {"prepare", &metrics.prepare},
      {"recall", &metrics.recall},
      {"index", &metrics.index},
      {"adapt", &metrics.adapt},
      {"prompt", &metrics.prompt},
      {"respond", &metrics.respond},
      {"encode (JSON out)", &metrics.encode},
      {"emit (SHA-256 chain)", &metrics.emit},
      {within ? "of prepare: embed" : "executor: embed", &executor.embed_metrics(), within},
      {within ? "of respond: generate" : "executor: generate", &executor.generate_metrics(),
       within},
      {within ? "of respond: lessons" : "executor: lessons", &executor.lesson_metrics(), within},
  };
  double sum_us = 0;
  std::printf("    %-26s %9s %13s %12s\n", "node", "calls", "us a call", "us an event");
  for (const auto& [name, node, is_within] : rows) {
    const double total_us = static_cast<double>(node->total_ns()) / 1000;
    const double calls = static_cast<double>(std::max<uint64_t>(1, node->calls()));
    std::printf("    %-26s %9llu %13.2f %12.2f\n", name,
                static_cast<unsigned long long>(node->calls()), total_us / calls,
                total_us / events);
    if (!is_within) sum_us += total_us / events;
  }
  std::printf("    %-26s %9s %13s %12.2f\n", "graph, queues, files, rest", "", "",
              1e6 * cpu_seconds / events - sum_us);
}

}  // namespace nudge
