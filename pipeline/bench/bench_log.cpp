// `nudge bench log`: how fast events become durable, beside the disk's own syncs.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "connectors/log/embedded_log.h"
#include "pipeline/bench/bench.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/guarded.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

// So many clients that each send the next event once the last one is durable.
class Clients {
 public:
  Clients(EmbeddedLog& log, const BenchLogArguments& arguments, size_t in_flight)
      : log_(log), event_(arguments.bytes, 'x'), ms_(arguments.events), left_(arguments.events) {
    for (size_t i = 0; i < in_flight; ++i) Send();
  }

  // Milliseconds of each event; nothing if one was refused.
  std::optional<std::vector<double>> Wait() {
    const MutexLock lock(mutex_);
    changed_.Wait(mutex_, [&]() REQUIRES(mutex_) { return waiting_ == 0; });
    return refused_ ? std::nullopt : std::optional(ms_);
  }

 private:
  void Send() {
    size_t number = 0;
    {
      const MutexLock lock(mutex_);
      if (left_ == 0 || refused_ || stop_requested) return;
      number = --left_;
      ++waiting_;
    }
    const auto begun = Clock::now();
    log_.Append("tenant", event_, [this, number, begun](const Result<int64_t>& offset) {
      const std::chrono::duration<double, std::milli> took = Clock::now() - begun;
      ms_[number] = took.count();
      if (offset.ok()) Send();
      const MutexLock lock(mutex_);
      refused_ = refused_ || !offset.ok();
      if (--waiting_ == 0) changed_.NotifyAll();
    });
  }

  EmbeddedLog& log_;
  const std::string event_;
  std::vector<double> ms_;  // each written by one callback, read once none is left
  Mutex mutex_;
  CondVar changed_;
  size_t left_ GUARDED_BY(mutex_);
  bool refused_ GUARDED_BY(mutex_) = false;
  size_t waiting_ GUARDED_BY(mutex_) = 0;
};

// Median milliseconds of a write of so many bytes and its fdatasync, at the end of a file.
double DiskSyncMs(const std::string& folder, size_t bytes) {
  constexpr int kRounds = 200;
  Result<Descriptor> file = OpenFile(folder + "/plain", O_RDWR | O_CREAT | O_TRUNC);
  if (!file.ok()) throw StartError(folder + ": " + file.error().message);
  const std::string block(bytes, 'x');
  std::vector<double> ms;
  for (int round = 0; round < kRounds; ++round) {
    ms.push_back(MsOf([&] {
      if (!WriteAll(*file, block).ok() || fdatasync(**file) != 0) {
        throw StartError(folder + ": cannot be written: make room there");
      }
    }));
  }
  return Median(std::move(ms));
}

}  // namespace

int BenchLog(const BenchLogArguments& arguments) {
  const ScratchFolder scratch;
  const std::string folder = arguments.folder.empty() ? scratch.path() : arguments.folder;
  if (const Result<Nothing> made = MakeFolders(folder); !made.ok()) {
    throw StartError(folder + ": " + made.error().message);
  }
  std::printf("event log: %zu events of %zu bytes in %s\n", arguments.events, arguments.bytes,
              folder.c_str());
  std::printf("  %9s %10s %8s %10s %8s %8s %22s\n", "in flight", "events/s", "syncs/s",
              "events/sync", "p50 ms", "p99 ms", "that sync alone, ms");
  int run = 0;
  for (const size_t in_flight : arguments.in_flight) {
    EventLogOptions options;
    options.folder = folder + "/log-" + std::to_string(++run);
    EmbeddedLog log(options, [](const std::string&) {});
    std::optional<std::vector<double>> ms;
    const double seconds = MsOf([&] { ms = Clients(log, arguments, in_flight).Wait(); }) / 1000;
    if (stop_requested) return kExitInterrupted;
    if (!ms) throw StartError(folder + ": the log refused events: make room there");
    const double events = static_cast<double>(arguments.events);
    const double a_sync = events / static_cast<double>(log.extent().syncs);
    const auto group =
        static_cast<size_t>(a_sync * static_cast<double>(arguments.bytes + kFrameHeadBytes));
    std::printf("  %9zu %10.0f %8.0f %10.1f %8.2f %8.2f %22.2f\n", in_flight, events / seconds,
                static_cast<double>(log.extent().syncs) / seconds, a_sync, Quantile(*ms, .5),
                Quantile(*ms, .99), DiskSyncMs(folder, group));
  }
  return kExitDone;
}

}  // namespace nudge
