// The door on an embedded log: what is submitted becomes a record, and its outcome finds the
// client.
//
//   Submit -> [EmbeddedDoor] -> EmbeddedLog -> Processor -> Deliver -> [EmbeddedDoor] -> Following
//
// It computes nothing and knows nothing that log, outcomes and state do not hold: a client that is
// gone, or a process that died, leaves the event to its outcome. What Door declares: any thread.
// Deliver: the thread that writes outcomes. `stored` is called on the log's thread, `outcome` on
// that of Deliver, `token` on that of Tell, `failed` on either or inside Submit.
#pragma once

#include <atomic>
#include <map>

#include "connectors/http/door.h"
#include "connectors/log/embedded_log.h"
#include "connectors/sink.h"
#include "pipeline/serve/lessons_page.h"
#include "pipeline/serve/outcome_index.h"
#include "pipeline/serve/snapshot_board.h"
#include "pipeline/serve/snapshot_shelf.h"
#include "stages/guarded.h"

namespace nudge {

struct EmbeddedDoorOptions {
  uint32_t in_flight_max = 10'000;  // events without an outcome
  size_t line_bytes = 1 << 20;      // of an event
  std::vector<std::string> models;
  std::string state_folder;     // empty: no state is kept
  std::string snapshot_folder;  // empty: no snapshots
};

class EmbeddedDoor final : public Door {
 public:
  // Once `stop` is set nothing more is taken. All must outlive the door; the log must be stopped
  // before the door goes.
  EmbeddedDoor(EmbeddedDoorOptions options, EmbeddedLog& log, OutcomeIndex& outcomes,
               SnapshotBoard& snapshots, const std::atomic<bool>& stop)
      : options_(std::move(options)),
        shelf_(options_.snapshot_folder),
        log_(log),
        outcomes_(outcomes),
        snapshots_(snapshots),
        stop_(stop) {}

  // Fails with kBusy above in_flight_max, kTooLarge above line_bytes, kUnavailable at a stop, and
  // as EmbeddedLog::Append. A line's end in the JSON becomes a space, so that the event is one line
  // wherever it is written.
  void Submit(std::string tenant, std::string event_json, Following following) override;
  std::optional<std::string> Outcome(std::string_view tenant,
                                     std::string_view event_id) const override;
  bool Awaits(std::string_view tenant, int64_t offset) const override;
  uint64_t OutcomesHeld() const override { return outcomes_.size(); }
  std::vector<std::string> Models() const override { return options_.models; }
  std::optional<Error> WithoutState() const override { return std::nullopt; }
  Result<std::string> Lessons(const LessonsAsked& asked) const override {
    return LessonsPageJson(options_.state_folder, asked);
  }
  Result<std::vector<PublishedSnapshot>> Snapshots(const SnapshotsAsked& asked) const override {
    return shelf_.List(asked);
  }
  Result<std::optional<SnapshotFile>> OpenSnapshotFile(const std::string& tenant,
                                                       const std::string& snapshot,
                                                       const std::string& file) const override {
    return shelf_.Open(tenant, snapshot, file);
  }
  std::shared_ptr<void> WatchSnapshots(
      const std::string& tenant, std::optional<int64_t> after,
      std::function<void(const SnapshotNews& news)> tell) override {
    return snapshots_.Watch(tenant, after, std::move(tell));
  }

  // What is added to the answer of the event at `offset`, as it is written. Any thread, before
  // Deliver of it.
  void Tell(int64_t offset, std::string_view added) const;

  // A committed outcome.
  void Deliver(const OutcomeLine& line);

  // After the last Deliver, with the log stopped: tells all whose event is stored and not finished
  // that it is finished after a restart.
  void AnswerRest();

  size_t in_flight() const;

 private:
  const EmbeddedDoorOptions options_;
  const SnapshotShelf shelf_;
  EmbeddedLog& log_;
  OutcomeIndex& outcomes_;
  SnapshotBoard& snapshots_;
  const std::atomic<bool>& stop_;
  mutable Mutex mutex_;
  size_t in_flight_ GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Following> stored_ GUARDED_BY(mutex_);  // by offset
};

}  // namespace nudge
