// `nudge bench http`: what the door costs, beside the library under it and the disk's own syncs.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <numeric>
#include <thread>

#include "connectors/http/bare_server.h"
#include "connectors/http/http_server.h"
#include "pipeline/bench/bench.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/bench/http_load.h"
#include "pipeline/serve/serving.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/model/template_backend.h"

namespace nudge {
namespace {

constexpr size_t kBareAsMany = 10;  // requests to the bare loop for each to the door

std::string Question(size_t number) {
  const std::string body = R"({"model":"template","messages":[{"role":"user","content":"How is )" +
                           std::to_string(number) + R"( to be mended?"}]})";
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
         "application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

struct Syncs {
  uint64_t count = 0;
  double seconds = 0;

  // Of those since `before`, the mean.
  double MsSince(const Syncs& before) const {
    return 1000 * (seconds - before.seconds) / static_cast<double>(count - before.count);
  }
};

// The whole product on the template backend, and its door.
class Product {
 public:
  explicit Product(const std::string& folder)
      : backend_(MakeTemplateBackend({.dimension = 64})),
        serving_(
            OptionsIn(folder), *backend_, [](const std::string&) {}, stop_),
        server_(DoorOptions(), serving_.door()),
        thread_([this] { done_ = serving_.Run(); }) {}
  ~Product() { Stop(); }

  uint16_t port() const { return server_.port(); }
  Syncs LogSyncs() const {
    const EmbeddedLog::Extent extent = serving_.extent();
    return {extent.syncs, std::chrono::duration<double>(extent.sync_time).count()};
  }
  Syncs OutcomeSyncs() {
    const RunView::Durations commits = serving_.View().commit;
    return {std::accumulate(commits.counts.begin(), commits.counts.end(), uint64_t{0}),
            commits.seconds};
  }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    if (!done_.ok()) throw StartError(done_.error().message);
  }

 private:
  static ServingOptions OptionsIn(const std::string& folder) {
    ServingOptions options;
    options.output_folder = folder + "/out";
    options.event_log.folder = folder + "/log";
    options.processor.state_folder = folder + "/out/state";
    options.processor.checkpoint_every = options.serve.checkpoint;
    options.models = {"template"};
    return options;
  }
  static HttpOptions DoorOptions() {
    HttpOptions options;
    options.port = 0;
    options.connections_max = 100'000;
    return options;
  }

  std::atomic<bool> stop_{false};
  const std::unique_ptr<Backend> backend_;
  Serving serving_;
  const HttpServer server_;
  Result<std::map<int32_t, PartitionSummary>> done_ = std::map<int32_t, PartitionSummary>{};
  std::thread thread_;
};

double ResidentMegabytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

void BenchQuestions(const BenchHttpArguments& arguments, Product& product) {
  const BareServer bare;
  std::printf("  %11s %11s %8s %8s %10s %8s %10s %8s %12s %10s\n", "connections", "questions/s",
              "p50 ms", "p99 ms", "log syncs", "ms each", "outcomes'", "ms each", "bare loop/s",
              "its p50 ms");
  size_t asked = 0;
  for (const size_t connections : arguments.connections) {
    if (stop_requested) return;
    const Syncs log = product.LogSyncs();
    const Syncs outcomes = product.OutcomeSyncs();
    const HttpLoadTimes door = LoadHttp(product.port(), connections, arguments.requests,
                                        [&](size_t number) { return Question(asked + number); });
    asked += arguments.requests;
    const Syncs log_now = product.LogSyncs();
    const Syncs outcomes_now = product.OutcomeSyncs();
    const size_t many = kBareAsMany * arguments.requests;
    const HttpLoadTimes loop = LoadHttp(bare.port(), connections, many, Question);
    std::printf("  %11zu %11.0f %8.2f %8.2f", connections,
                static_cast<double>(arguments.requests) / door.seconds, Quantile(door.ms, .5),
                Quantile(door.ms, .99));
    std::printf(" %10llu %8.2f %10llu %8.2f",
                static_cast<unsigned long long>(log_now.count - log.count), log_now.MsSince(log),
                static_cast<unsigned long long>(outcomes_now.count - outcomes.count),
                outcomes_now.MsSince(outcomes));
    std::printf(" %12.0f %10.3f\n", static_cast<double>(many) / loop.seconds,
                Quantile(loop.ms, .5));
  }
}

void BenchStreams(const BenchHttpArguments& arguments, const Product& product,
                  IdleStreams& streams) {
  if (arguments.streams == 0 || stop_requested) return;
  const double before = ResidentMegabytes();
  const size_t open = streams.Open(product.port(), "/v1/adapters/bench/events", arguments.streams);
  const double grown = ResidentMegabytes() - before;
  std::printf("  %zu idle streams of news: %.1f MB more, %.1f KB each; %.0f MB in all\n", open,
              grown, 1024 * grown / static_cast<double>(open), ResidentMegabytes());
}

}  // namespace

int BenchHttp(const BenchHttpArguments& arguments) {
  IdleStreams streams;  // before there are threads
  const ScratchFolder scratch;
  const std::string folder = arguments.folder.empty() ? scratch.path() : arguments.folder;
  if (const Result<Nothing> made = MakeFolders(folder); !made.ok()) {
    throw StartError(folder + ": " + made.error().message);
  }
  std::printf(
      "door: %zu questions of /v1/chat/completions each, template backend, log and outcomes in %s\n"
      "  each question waits for two syncs, of a group of events in the log and of a group of "
      "outcomes\n",
      arguments.requests, folder.c_str());
  Product product(folder);
  BenchQuestions(arguments, product);
  BenchStreams(arguments, product, streams);
  product.Stop();
  return stop_requested ? kExitInterrupted : kExitDone;
}

}  // namespace nudge
