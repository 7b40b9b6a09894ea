// `nudge bench`: how fast the parts are, beside what bounds them. Nothing here is a test.
#include "pipeline/bench/bench.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "connectors/file_sink.h"
#include "connectors/file_source.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/processor.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/model/template_backend.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

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
      "file\n  template backend: hashes, made where they are asked for, stand in for answers and "
      "lessons, ",
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
