// `nudge bench`: how fast the parts are, beside what bounds them. Nothing here is a test.
#include "pipeline/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "connectors/file_sink.h"
#include "connectors/file_source.h"
#include "pipeline/commands.h"
#include "pipeline/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of all threads of the process, in user and in kernel mode.
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

// A folder that is removed with everything in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "nudge-bench-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
      throw StartError("cannot make a folder in " +
                       std::filesystem::temp_directory_path().string() +
                       ": make room there, or set TMPDIR");
    }
    path_ = path;
  }
  ~ScratchFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Writes the recording; its size in bytes.
uint64_t WriteRecording(const std::string& path, const BenchEngineArguments& arguments) {
  EventGenerator generator({.seed = 9,
                            .events = arguments.events,
                            .tenants = arguments.tenants,
                            .documents = arguments.documents});
  std::ofstream file(path);
  uint64_t bytes = 0;
  for (uint64_t number = 0; number < arguments.events; ++number) {
    const std::string line = generator.Line(number);
    file << line << '\n';
    bytes += line.size() + 1;
  }
  file.close();
  if (!file) throw StartError("cannot write " + path + ": make room there, or set TMPDIR");
  return bytes;
}

struct EngineRun {
  double seconds = 0;
  double cpu_seconds = 0;
  std::string chain;
};

void PrintCosts(const GraphMetrics& metrics, const Executor& executor, double events,
                double cpu_seconds) {
  const std::pair<const char*, const NodeMetrics*> nodes[] = {
      {"decode (JSON in)", &metrics.decode},
      {"prepare", &metrics.prepare},
      {"recall", &metrics.recall},
      {"index", &metrics.index},
      {"adapt", &metrics.adapt},
      {"prompt", &metrics.prompt},
      {"respond", &metrics.respond},
      {"encode (JSON out)", &metrics.encode},
      {"emit (SHA-256 chain)", &metrics.emit},
      {"executor: embed", &executor.embed_metrics()},
      {"executor: generate", &executor.generate_metrics()},
      {"executor: lessons", &executor.lesson_metrics()},
  };
  double sum_us = 0;
  std::printf("    %-26s %9s %13s %12s\n", "node", "calls", "us a call", "us an event");
  for (const auto& [name, node] : nodes) {
    const double total_us = static_cast<double>(node->total_ns()) / 1000;
    const double calls = static_cast<double>(std::max<uint64_t>(1, node->calls()));
    std::printf("    %-26s %9llu %13.2f %12.2f\n", name,
                static_cast<unsigned long long>(node->calls()), total_us / calls,
                total_us / events);
    sum_us += total_us / events;
  }
  std::printf("    %-26s %9s %13s %12.2f\n", "graph, queues, files, rest", "", "",
              1e6 * cpu_seconds / events - sum_us);
}

EngineRun RunEngine(const BenchEngineArguments& arguments, const std::string& recording,
                    const std::string& output, int threads) {
  ProcessorOptions options;
  options.graph.threads = threads;
  options.executor.threads = static_cast<size_t>(threads);
  const std::unique_ptr<Backend> backend = MakeTemplateBackend({.dimension = arguments.dimension});
  FileSource source({.path = recording});
  FileSink sink({.folder = output, .existing = FileSinkOptions::Existing::kOverwrite});
  Processor processor(options, {}, *backend, source, sink);
  const double cpu_before = CpuSeconds();
  const auto start = Clock::now();
  const auto summary = processor.Run(stop_requested);
  EngineRun run{SecondsSince(start), CpuSeconds() - cpu_before, {}};
  if (!summary.ok()) throw StartError(summary.error().message);
  run.chain = Hex(summary->at(0).chain);
  const double events = static_cast<double>(arguments.events);
  std::printf("  %d thread%s: %.0f events/s, %.2f us of CPU an event, %.2f cores, peak %.0f MB\n",
              threads, threads == 1 ? "" : "s", events / run.seconds,
              1e6 * run.cpu_seconds / events, run.cpu_seconds / run.seconds, PeakMegabytes());
  PrintCosts(processor.metrics(), processor.executor(), events, run.cpu_seconds);
  return run;
}

}  // namespace

int BenchEngine(const BenchEngineArguments& arguments) {
  const ScratchFolder folder;
  const std::string recording = folder.path() + "/events.jsonl";
  const uint64_t bytes = WriteRecording(recording, arguments);
  std::printf(
      "engine: %zu events of %zu tenants with up to %zu documents each, %.0f bytes a line, file to "
      "file\n  template backend: hashes stand in for answers and lessons, ",
      arguments.events, arguments.tenants, arguments.documents,
      static_cast<double>(bytes) / static_cast<double>(arguments.events));
  if (arguments.dimension > 0) {
    std::printf("words hashed into %zu floats for the embedder\n", arguments.dimension);
  } else {
    std::printf("no embedder: search is by words alone\n");
  }
  std::string chain;
  for (const int threads : arguments.threads) {
    const EngineRun run = RunEngine(arguments, recording, folder.path() + "/out", threads);
    if (stop_requested) return kExitInterrupted;
    if (!chain.empty() && run.chain != chain) {
      std::cerr << "nudge: the chain at " << threads << " threads is another: this is a defect\n";
      return kExitFailed;
    }
    chain = run.chain;
  }
  std::printf("  outcomes sha256 %s\n", chain.c_str());
  return kExitDone;
}

}  // namespace nudge
