// One process's run over its partitions: source -> graph -> sink, with state, from start to drain.
//
// Restores each partition that the source announces (newest state at or below what was committed,
// then the log in between, checked against the recorded outcomes), pushes records within credits,
// takes cuts, and drains at the end. Everything is owned here, nothing outlives Run.
// Run: one thread, once. View: any thread, at any time.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "connectors/sink.h"
#include "connectors/source.h"
#include "pipeline/credits.h"
#include "pipeline/graph.h"
#include "pipeline/observe/pump_board.h"
#include "pipeline/observe/run_view.h"
#include "pipeline/observe/watchdog.h"
#include "pipeline/outbox.h"
#include "pipeline/processor_options.h"
#include "pipeline/state/state_store.h"

namespace nudge {

// What the outside may see of a run; never read by it.
struct ProcessorHooks {
  std::function<void(const OutcomeLine&)> on_outcome;  // on the writing thread, in log order
  std::function<void(const LessonEvent&)> on_lesson;   // on executor threads
  // Of the state (see StateStore) and of the watchdog: any thread.
  std::function<void(const std::string&)> on_notice;
};

struct PartitionSummary {
  uint64_t events = 0;  // outcomes in the log, from its beginning
  Sha256Digest chain{};
};

class Processor final : private PartitionListener {
 public:
  Processor(ProcessorOptions options, ProcessorHooks hooks, Backend& backend, Source& source,
            Sink& sink);
  ~Processor() override;

  // Until the source ends, `stop` is set, or something fails. An error leaves the sink and the
  // state as they were last committed: a later run goes on from there.
  Result<std::map<int32_t, PartitionSummary>> Run(const std::atomic<bool>& stop);

  // After Run only, for reports: the chat that a question of the tenant would be answered from now,
  // in partition 0. It leaves traces in the stages, so nothing may run after it.
  Result<std::vector<ChatMessage>> ChatFor(const TenantId& tenant, const std::string& question);

  // Where the run stands, but for what is Kafka's.
  RunView View();

  OutcomeCounts progress() const { return outbox_.progress(); }
  const GraphMetrics& metrics() const { return metrics_; }
  Executor& executor() { return executor_; }

 private:
  struct Partition {
    uint64_t next_ordinal = 0;
    uint64_t last_barrier = 0;  // ordinal after the event that carried it
    std::map<int64_t, std::shared_ptr<const RecordedOutcome>> recorded;  // still to be replayed
    int64_t recorded_until = 0;  // the outcomes from here to the committed ones are not read yet
    int64_t committed_offset = 0;
    std::shared_ptr<Stay> stay;
    std::deque<Record> waiting;  // for credits; a paused source adds few to them
    RecentEvents recent;
    std::shared_ptr<PumpBoard::Facts> facts;
  };

  Result<Nothing> Assigned(std::span<const int32_t> partitions) override;
  Result<Nothing> Revoked(std::span<const int32_t> partitions) override;
  void Lost(std::span<const int32_t> partitions) override;

  Result<Nothing> Restore(int32_t number);
  Result<Nothing> ReadBack(int32_t number, Partition& partition);
  Result<std::shared_ptr<const RecordedOutcome>> RecordedFor(Partition& partition,
                                                             const Record& record);
  bool TakeCut(int32_t number, Partition& partition, std::chrono::milliseconds timeout);
  void Forget(int32_t number);
  Result<Nothing> Pump(const std::atomic<bool>& stop);
  std::chrono::milliseconds PullTime() const;
  Result<Nothing> Admit(Record& record);
  Result<Nothing> Unblock();
  Result<Nothing> PushRecord(Partition& partition, Record& record);
  void PushGathered();
  Result<Nothing> Drain(const std::atomic<bool>& stop);
  void Fail(const Error& error);
  std::optional<Error> failure() const;

  Watchdog::Look WatchdogLook();
  void ViewCounters(RunView& view) const;
  std::optional<PumpBoard::Oldest> FindOldest(int32_t number);
  std::string ExplainSilence(int32_t number);
  std::string WhereIs(int32_t number, uint64_t ordinal) const;

  const ProcessorOptions options_;
  Backend& backend_;
  Source& source_;
  Sink& sink_;
  const std::function<void(const std::string&)> on_notice_;
  const std::string fingerprint_;
  GraphMetrics metrics_;
  PumpBoard board_;
  std::atomic<RunView::Phase> phase_{RunView::Phase::kStarting};
  std::map<int32_t, Partition> partitions_;
  std::set<int32_t> blocked_;  // those with records that wait for credits; they are paused
  std::vector<Graph::Arrival> gathered_;  // have their credits, and enter the graph together
  mutable std::mutex failure_mutex_;
  std::optional<Error> failure_;

  std::unique_ptr<StateStore> state_;
  Credits credits_;
  Executor executor_;
  Outbox outbox_;
  Prepare prepare_;
  Recall recall_;
  Index index_;
  Adapt adapt_;
  Prompt prompt_;
  Respond respond_;
  Emit emit_;
  Graph graph_;        // it waits for its messages, which use all of the above
  Watchdog watchdog_;  // last: it looks at all of the above
};

}  // namespace nudge
