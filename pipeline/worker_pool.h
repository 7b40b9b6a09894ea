// The threads that models run on, and who gets one next: jobs -> [WorkerPool] -> done.
//
// Ready jobs run by their kind: generate, embed a query, learn, embed a document; jobs of one kind
// first in, first out. One lesson runs at a time, since lessons share the trainer: a second one
// would only hold a thread. A lesson begins before answers do, and gives way to them by turns, so
// that it goes on under any load and they hardly wait.
//
// A lesson's inner loops (parallel_for) are shared with threads that have nothing else to do. An
// answer or a query that finds no thread free does not wait for the end of a lesson: between two
// parts of its loops the lesson's own thread does that job first. What a lesson computes is the
// same either way, since a part does not know which thread runs it, nor when.
//
// A pool of an instant backend has no threads: a job is done in the call that submits it, since a
// hop to a thread and back costs ten times what the job does.
//
// Every call from any thread but its own. No call waits for a job, but Stop.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "pipeline/observe/jobs_view.h"
#include "stages/events.h"
#include "stages/guarded.h"
#include "stages/model/trainer/parallel.h"

namespace nudge {

class WorkerPool {
 public:
  using Run = std::function<void(size_t slot)>;  // slot: which thread, 0..threads - 1

  WorkerPool(size_t threads, bool instant);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // `beside_lessons`: a lesson so long that other tenants' lessons go in between.
  void Enqueue(JobKind kind, Sequence at, Run run, bool beside_lessons = false);

  // Queued jobs of the partition are destroyed without being run.
  void Drop(int32_t partition);

  // Waits for the jobs that run; those that are queued are destroyed, and so is what is enqueued
  // from now on. Idempotent.
  void Stop();
  bool stopping() const { return stopping_; }

  // For a lesson that runs on this slot.
  const ParallelFor& parallel_for(size_t slot) const { return shares_[slot]; }

  // For people.
  std::vector<RunningJob> running() const;
  std::array<size_t, kJobKinds.size()> waiting() const;  // by JobKind

 private:
  struct Job {
    Sequence at;
    Run run;
    bool beside_lessons = false;
  };
  // A lesson's loop that has parts to give away.
  struct Shared {
    int parts = 0;
    const std::function<void(int)>* part = nullptr;
    uint64_t number = 0;
    std::atomic<int> next{0};
    std::atomic<int> done{0};
  };

  void Work(size_t slot);
  bool RunJob(size_t slot, size_t kinds) REQUIRES(mutex_);
  bool MayRun(size_t kind) const REQUIRES(mutex_);
  void CountUrgent() REQUIRES(mutex_);
  void GiveWay(size_t slot);
  void Share(size_t slot, int parts, const std::function<void(int)>& part);
  bool Assist() REQUIRES(mutex_);

  const bool instant_;
  std::vector<ParallelFor> shares_;                           // by slot
  std::vector<std::chrono::steady_clock::time_point> turns_;  // by slot: GiveWay's, for its thread

  mutable Mutex mutex_;
  CondVar ready_;
  std::array<std::deque<Job>, kJobKinds.size()> queues_ GUARDED_BY(mutex_);
  std::vector<std::optional<RunningJob>> running_ GUARDED_BY(mutex_);  // by slot
  size_t lessons_begun_ GUARDED_BY(mutex_) = 0;  // that run, or gave way: 0 or 1
  std::shared_ptr<Shared> shared_ GUARDED_BY(mutex_);

  std::atomic<size_t> urgent_{0};  // queued jobs that wait for no lesson: written under the lock
  std::atomic<uint64_t> shares_begun_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace nudge
