// The two threads that write: outcomes to the sink, with credits back to the source, and cuts to
// the state.
//
//   emit -> [Outbox] -> sink (Append, Commit) -> credits;   a cut once its outcomes are committed
//
// All lines that are queued are committed as one. So an idle outbox commits at once, and under load
// a batch grows with the time that the sink takes. Cuts are written by the other thread, each after
// its outcomes and after the cut before it. Where two cuts of a partition wait for the state,
// commits wait too. Cuts that wait for one that is not complete yet, since a lesson in it takes
// long, become one cut, with each entry once. So what waits is as large as what changed, however
// many cuts there were. Add and AddCut: any thread, never wait. A sink or state that fails ends the
// writing: `on_fatal` is called once and nothing is begun after it. kNotOwner is no failure: some
// partition is about to be dropped, and the lines of the others are committed after that.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <thread>
#include <vector>

#include "connectors/sink.h"
#include "pipeline/barrier.h"
#include "pipeline/credits.h"
#include "pipeline/observe/jobs_view.h"
#include "pipeline/observe/metrics.h"
#include "pipeline/state/state_store.h"
#include "stages/guarded.h"

namespace nudge {

class Outbox {
 public:
  struct Entry {
    OutcomeLine line;
    bool commit = true;  // false: it was committed before (recovery), only its credit returns
    uint64_t credit_bytes = 0;
  };

  // `state` may be nullptr: no checkpoints. `on_outcome` (may be empty) sees every committed line.
  Outbox(Sink& sink, StateStore* state, Credits& credits,
         std::function<void(const OutcomeLine&)> on_outcome,
         std::function<void(const Error&)> on_fatal);
  ~Outbox();  // writes nothing more

  // While one lives nothing is written: whoever holds it may use sink and state. Add does not wait.
  class Pause {
   public:
    explicit Pause(Outbox& outbox);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Outbox& outbox_;
  };

  // The partition's state on disk is the one after `events`; the log goes on at `next_offset`.
  // Before its first Add, in a Pause.
  void Start(int32_t partition, uint64_t events, int64_t next_offset);
  void Add(Entry entry);
  void AddCut(Cut cut);  // of one event at least

  // Waits until all lines that were added before this call are committed, and all cuts that then
  // may be written are. False: the time is over, or writing has failed.
  bool Flush(std::chrono::milliseconds timeout);

  // Waits until the partition's state on disk is the one after `events`, or a later one. False: the
  // time is over, or writing has failed.
  bool WaitUntilSaved(int32_t partition, uint64_t events, std::chrono::milliseconds timeout);

  // The partition belongs to somebody else: what is not written is forgotten. In a Pause.
  void Drop(int32_t partition);
  OutcomeCounts progress() const;
  // Of each partition that was started: the offset after the last committed outcome, and that of
  // its state on disk.
  struct Position {
    int64_t committed = 0;
    int64_t saved = 0;
  };
  std::map<int32_t, Position> positions() const;
  const DurationMetrics& commit_metrics() const { return commit_metrics_; }

 private:
  struct WaitingCut {
    Cut cut;
    bool joined = false;  // of several: entries may be there twice
    size_t distinct = 0;  // entries, when that was last mended
  };

  void WriteOutcomes();
  void WriteCuts();
  void JoinCuts(int32_t partition) REQUIRES(mutex_);
  std::list<WaitingCut>::iterator Follower(int32_t partition, uint64_t events) REQUIRES(mutex_);
  std::list<WaitingCut>::iterator NextToTidy() REQUIRES(mutex_);
  void Rest() REQUIRES(mutex_);
  Result<Nothing> Write(std::vector<Entry> fresh, std::vector<Entry>& sent);
  void CountCommitted(const std::vector<Entry>& sent) REQUIRES(mutex_);
  bool IsOutcomeWork() REQUIRES(mutex_);
  bool CutsAreBehind() REQUIRES(mutex_);
  int64_t Committed(int32_t partition) const REQUIRES(mutex_);
  void WakeAll();
  std::list<WaitingCut>::iterator NextCut() REQUIRES(mutex_);
  bool Fail() REQUIRES(mutex_);

  Sink& sink_;
  StateStore* const state_;
  Credits& credits_;
  const std::function<void(const OutcomeLine&)> on_outcome_;
  const std::function<void(const Error&)> on_fatal_;

  mutable Mutex mutex_;
  CondVar outcomes_changed_;  // for the thread that writes them
  CondVar cuts_changed_;      // the same
  CondVar done_;              // for whoever waits in Flush or Pause
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
  std::vector<Entry> sent_ GUARDED_BY(mutex_);     // with the sink, and not committed yet
  std::list<WaitingCut> cuts_ GUARDED_BY(mutex_);  // not written yet
  uint64_t added_ GUARDED_BY(mutex_) = 0;          // entries, ever
  uint64_t written_ GUARDED_BY(mutex_) = 0;        // of those, the first ones, done with
  OutcomeCounts progress_ GUARDED_BY(mutex_);
  std::map<int32_t, Position> positions_ GUARDED_BY(mutex_);
  bool writing_ GUARDED_BY(mutex_) = false;  // outcomes
  bool cutting_ GUARDED_BY(mutex_) = false;  // writing a cut, or tidying one
  bool failed_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  int pauses_ GUARDED_BY(mutex_) = 0;
  int flushing_ GUARDED_BY(mutex_) = 0;                          // who waits in Flush
  std::map<int32_t, uint64_t> saved_events_ GUARDED_BY(mutex_);  // of the last cut written
  std::map<int32_t, uint64_t> begun_events_ GUARDED_BY(mutex_);  // or of the one that is
  DurationMetrics commit_metrics_;
  std::thread outcomes_thread_;
  std::thread cuts_thread_;
};

}  // namespace nudge
