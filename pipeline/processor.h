// One process's run over its partitions: source -> graph -> sink, with state, from start to drain.
//
// Restores each partition that the source announces (newest state at or below what was committed,
// then the log in between, checked against the recorded outcomes), pushes records within credits,
// takes cuts, and drains at the end. Everything is owned here, nothing outlives Run.
// Run: one thread, once. View: any thread, at any time.
//
// The steps of two protocols, numbered as in docs/ARCHITECTURE.md. A restore:
//   1. Assigned stops the writing and calls Restore for each partition
//   2. Sink::Last tells the committed offset
//   3. StateStore::Newest gives the newest whole state at or below it, and makes it ours
//   4. Graph::Load gives each entry to the part that saved it
//   5. ReadBack reads the outcomes from the state to the committed offset; RecordedFor the rest
//   6. Outbox::Start, Graph::Start and Source::Seek say where it goes on
//   7. PushRecord sends the events in between through the graph, with their recorded outcomes
//   8. Emit::Apply compares each chain with the recorded one
//   9. from the committed offset on, outcomes are written
// A cut:
//   1. PushRecord lets a Barrier ride on an event (TakeCut and TakeDueCuts, with nothing inside:
//      Graph::AddTo)
//   2. recall, index, adapt, prompt, respond add what changed, having applied the event
//   3. Executor::AddBarrier adds versions, answers, learners, once the jobs before it are done
//   4. Emit::AddPosition adds where the outcome log stands
//   5. the last part passes the cut to Outbox::AddCut
//   6. Outbox::WriteCuts takes it after the cut before it, once its outcomes are committed
//   7. StateStore::Write compares, applies and commits
//   8. StateStore::BackUp copies the file now and then
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
#include "stages/guarded.h"

namespace nudge {

// What the outside may see of a run; never read by it.
struct ProcessorHooks {
  std::function<void(const OutcomeLine&)> on_outcome;  // on the writing thread, in log order
  std::function<void(const LessonEvent&)> on_lesson;   // on executor threads
  // Of the state (see StateStore) and of the watchdog: any thread.
  std::function<void(const std::string&)> on_notice;
  Executor::OnText on_text;  // on executor threads
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

  // After Run only, for reports: the chat from which a question of the tenant would be answered
  // now, in partition 0. The question goes through the graph as far as respond, and leaves traces
  // in the stages before it, so nothing may run after it.
  Result<std::vector<ChatMessage>> ChatFor(const TenantId& tenant, const std::string& question);

  // Where the run stands, without what only Kafka's client knows.
  RunView View();

  OutcomeCounts progress() const { return outbox_.progress(); }
  const GraphMetrics& metrics() const { return metrics_; }
  Executor& executor() { return executor_; }

 private:
  struct Partition {
    uint64_t next_ordinal = 0;
    uint64_t last_barrier = 0;                          // ordinal after the event that carried it
    std::chrono::steady_clock::time_point uncut_since;  // of the first event behind last_barrier
    std::map<int64_t, std::shared_ptr<const RecordedOutcome>> recorded;  // still to be replayed
    int64_t recorded_until = 0;  // the outcomes from here to the committed ones are not read yet
    int64_t committed_offset = 0;
    std::shared_ptr<Stay> stay;
    std::deque<Record> waiting;  // for credits; few, since the source is paused
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
  std::shared_ptr<Barrier> NextBarrier(Partition& partition);
  bool IsCutDue(const Partition& partition) const;
  void TakeDueCuts();
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
  static std::string NoticeOf(const LessonEvent& lesson);
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
  mutable Mutex failure_mutex_;
  std::optional<Error> failure_ GUARDED_BY(failure_mutex_);

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
