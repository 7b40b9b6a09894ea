// `nudge bench http`: what the door costs, beside the library under it and the disk's own syncs.
#include <unistd.h>

#include <cstdio>
#include <fstream>
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

constexpr size_t kEventBytes = 300;  // about, in log and outcomes alike
constexpr size_t kBareAsMany = 10;   // requests to the bare loop for each to the door

std::string Question(size_t number) {
  const std::string body = R"({"model":"template","messages":[{"role":"user","content":"How is )" +
                           std::to_string(number) + R"( to be mended?"}]})";
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
         "application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

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
  uint64_t syncs() const { return serving_.extent().syncs; }
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

void BenchQuestions(const BenchHttpArguments& arguments, const std::string& folder,
                    Product& product) {
  const BareServer bare;
  std::printf("  %11s %11s %8s %8s %9s %13s %12s %11s\n", "connections", "questions/s", "p50 ms",
              "p99 ms", "log syncs", "2 alone, ms", "bare loop/s", "its p50 ms");
  size_t asked = 0;
  for (const size_t connections : arguments.connections) {
    if (stop_requested) return;
    const uint64_t syncs = product.syncs();
    const HttpLoadTimes door = LoadHttp(product.port(), connections, arguments.requests,
                                        [&](size_t number) { return Question(asked + number); });
    asked += arguments.requests;
    const uint64_t needed = product.syncs() - syncs;
    const double sync_ms = DiskSyncMs(folder, kEventBytes * arguments.requests / needed);
    const size_t many = kBareAsMany * arguments.requests;
    const HttpLoadTimes loop = LoadHttp(bare.port(), connections, many, Question);
    std::printf("  %11zu %11.0f %8.2f %8.2f %9llu %13.2f %12.0f %11.3f\n", connections,
                static_cast<double>(arguments.requests) / door.seconds, Quantile(door.ms, .5),
                Quantile(door.ms, .99), static_cast<unsigned long long>(needed), 2 * sync_ms,
                static_cast<double>(many) / loop.seconds, Quantile(loop.ms, .5));
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
      "  each question waits for two syncs in groups, of its event and of its outcome; beside them "
      "two syncs of such groups alone\n",
      arguments.requests, folder.c_str());
  Product product(folder);
  BenchQuestions(arguments, folder, product);
  BenchStreams(arguments, product, streams);
  product.Stop();
  return stop_requested ? kExitInterrupted : kExitDone;
}

}  // namespace nudge
