#include "pipeline/serve/serving.h"

#include <pthread.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <utility>

#include "pipeline/observe/run_view.h"
#include "pipeline/state/state_store.h"
#include "stages/guarded.h"

namespace nudge {
namespace {

constexpr std::chrono::seconds kRetainEvery{1};
constexpr std::chrono::seconds kEraseAgain{10};  // after one that failed: it reads the whole log
constexpr uint64_t kBeginningAtATime = 256;      // lines that wait for the disk

}  // namespace

// Lets go what the log need not keep, while it lives: what was forgotten, and the oldest segments.
// Nothing that the state or any of its backups goes on from.
class Serving::Keeper {
 public:
  explicit Keeper(Serving& serving) : serving_(serving), thread_([this] { Work(); }) {}
  ~Keeper() {
    serving_.eraser_.Stop();
    {
      const MutexLock lock(mutex_);
      done_ = true;
    }
    changed_.NotifyAll();
    thread_.join();
  }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

 private:
  void Work() {
    pthread_setname_np(pthread_self(), "retention");
    const MutexLock lock(mutex_);
    bool has_failed = false;
    while (!changed_.WaitFor(mutex_, kRetainEvery, [&]() REQUIRES(mutex_) { return done_; })) {
      const int64_t needed_offset = NeededOffset();
      // First what was forgotten: of a record that is gone nobody knows which outcome goes with it.
      Erase(needed_offset);
      const Result<Nothing> retained = serving_.log_.Retain(needed_offset);
      if (!retained.ok() && !has_failed) {
        serving_.on_notice_("the oldest files of the event log cannot be removed: " +
                            retained.error().message + "; tried again every second");
      }
      has_failed = !retained.ok();
    }
  }

  void Erase(int64_t needed_offset) {
    const auto now = std::chrono::steady_clock::now();
    if (erase_failed_at_ && now < *erase_failed_at_ + kEraseAgain) return;
    const Result<LogEraser::Done> erased = serving_.eraser_.Erase(needed_offset);
    if (!erased.ok()) {
      const bool is_news = !erase_failed_at_ && erased.error().code != Code::kUnavailable;
      erase_failed_at_ = now;
      if (!is_news) return;
      serving_.on_notice_("what was forgotten is still in the event log or in the outcomes: " +
                          erased.error().message + "; tried again every ten seconds");
      return;
    }
    erase_failed_at_.reset();
    if (erased->forgets > 0) {
      serving_.on_notice_("what " + std::to_string(erased->forgets) +
                          " nudge.forget named is gone: " + std::to_string(erased->records) +
                          " records of the event log and " + std::to_string(erased->outcomes) +
                          " outcomes were erased");
    }
  }

  int64_t NeededOffset() const {
    const std::string& folder = serving_.options_.processor.state_folder;
    if (folder.empty()) return 0;
    const RunView view = serving_.processor_.View();
    const auto partition = view.partitions.find(0);
    if (partition == view.partitions.end()) return 0;
    int64_t needed = partition->second.saved_offset;
    const auto files = StateFilesIn(folder);
    const auto found = files.find(0);
    if (found != files.end() && !found->second.backups.empty()) {
      needed = std::min(needed, found->second.backups.begin()->first);
    }
    return needed;
  }

  Serving& serving_;
  Mutex mutex_;
  CondVar changed_;
  bool done_ GUARDED_BY(mutex_) = false;
  std::optional<std::chrono::steady_clock::time_point> erase_failed_at_;  // the thread's own
  std::thread thread_;  // last: it uses the others
};

Serving::Serving(const ServingOptions& options, Backend& backend,
                 std::function<void(const std::string&)> on_notice, const std::atomic<bool>& stop)
    : options_(options),
      on_notice_(std::move(on_notice)),
      stop_(stop),
      log_(options_.event_log, on_notice_),
      sink_({.folder = options_.output_folder,
             .existing = FileSinkOptions::Existing::kResume,
             .sync = true}),
      outcomes_(options_.serve.outcomes_kept_bytes_max),
      snapshots_(options_.serve.snapshot_news_max),
      eraser_({.log_folder = options_.event_log.folder,
               .output_folder = options_.output_folder,
               .limits = options_.processor.graph.limits,
               .disk_timeout = options_.event_log.sync_timeout},
              log_, outcomes_),
      door_({.in_flight_max = options_.serve.in_flight_max,
             .line_bytes = options_.processor.graph.limits.line_bytes,
             .models = options_.models,
             .state_folder = options_.processor.state_folder,
             .snapshot_folder = options_.processor.executor.snapshot_folder},
            log_, outcomes_, snapshots_, stop_),
      source_(log_, {.line_bytes = options_.processor.graph.limits.line_bytes}),
      processor_(options_.processor,
                 {.on_outcome =
                      [this](const OutcomeLine& line) {
                        // First what is told of snapshots: whoever has the answer finds it there.
                        snapshots_.Add(line.offset, line.bytes);
                        door_.Deliver(line);
                        eraser_.Look(line);
                      },
                  .on_lesson = {},
                  .on_notice = on_notice_,
                  .on_text = [this](int32_t, int64_t offset,
                                    std::string_view added) { door_.Tell(offset, added); }},
                 backend, source_, sink_) {
  RequireWholeLog();
  ReadOutcomes();
}

// The newest lines of outcomes.jsonl, as many as are kept: what earlier processes made.
void Serving::ReadOutcomes() {
  const std::string path = options_.output_folder + "/outcomes.jsonl";
  const uint64_t bytes_max = options_.serve.outcomes_kept_bytes_max;
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (error || !file) return;
  std::string line;
  if (size > bytes_max) {
    file.seekg(static_cast<std::streamoff>(size - bytes_max));
    std::getline(file, line);  // the rest of one
  }
  while (std::getline(file, line)) {
    const std::optional<int64_t> offset = outcomes_.Add(line);
    if (offset) snapshots_.Add(*offset, line);
  }
}

// New events would otherwise take the offsets of those whose outcomes stand.
void Serving::RequireWholeLog() {
  const Result<std::optional<Tail>> tail = sink_.Last(0);
  if (!tail.ok()) throw StartError(tail.error().message);
  const int64_t end = log_.extent().end;
  if (!*tail || (*tail)->offset < end) return;
  throw StartError(options_.event_log.folder + ": the event log ends before offset " +
                   std::to_string(end) + ", but " + options_.output_folder +
                   "/outcomes.jsonl goes to offset " + std::to_string((*tail)->offset) +
                   ": bring back the log that the outcomes were made from, or give an empty log "
                   "and an empty output");
}

Result<uint64_t> Serving::BeginWith(const std::string& path) {
  if (log_.extent().end > 0) return uint64_t{0};
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Error{Code::kUnreadableFile, path + ": cannot be read", "give a file of events"};
  }
  Mutex mutex;
  CondVar changed;
  uint64_t waiting = 0;  // both GUARDED_BY(mutex)
  std::optional<Error> failed;
  uint64_t lines = 0;
  const auto wait_until = [&](uint64_t most) {
    const MutexLock lock(mutex);
    changed.Wait(mutex, [&] { return waiting <= most; });
    return !failed;
  };
  for (std::string line; wait_until(kBeginningAtATime - 1) && std::getline(file, line); ++lines) {
    {
      const MutexLock lock(mutex);
      ++waiting;
    }
    log_.Append({}, std::move(line), [&](const Result<int64_t>& offset) {
      const MutexLock lock(mutex);
      --waiting;
      if (!offset.ok()) failed = offset.error();
      changed.NotifyAll();
    });
  }
  if (!wait_until(0)) return *failed;
  return lines;
}

Serving::~Serving() {
  log_.Stop();
}

Result<std::map<int32_t, PartitionSummary>> Serving::Run() {
  Result<std::map<int32_t, PartitionSummary>> done = Error{};
  {
    const Keeper keeper(*this);
    done = processor_.Run(stop_);
  }
  log_.Stop();
  door_.AnswerRest();
  return done;
}

}  // namespace nudge
