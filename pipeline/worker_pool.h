// The threads that models run on, and who gets one next: jobs -> [WorkerPool] -> done.
//
// Jobs of one tenant and one kind run first in, first out. Nobody waits behind all that somebody
// else has queued: who is next goes by rounds (rounds.h) over each tenant's answers, each
// partition's queries to embed and each partition's documents. Embeddings go by partition, since
// all that follows in its log waits for them. The time on a thread is what counts, so that many
// short jobs weigh as much as a long one. The order of jobs decides when something is computed, and
// never what.
//
// One lesson runs at a time, since lessons share the trainer: a second one would only hold a
// thread. Lessons have rounds of their own over tenants, a lesson a turn. A lesson begins before
// what else is queued, so that no load keeps lessons out; but between two lessons somebody else has
// a turn. A lesson gives way to answers and queries by turns, so that it goes on under any load and
// they hardly wait, and to a document that has waited for a second.
//
// A lesson's inner loops (parallel_for) are shared with threads that have nothing else to do. An
// answer or a query that finds no thread free does not wait for the end of a lesson: between two
// parts of its loops the lesson's own thread does that job first. What a lesson computes is the
// same either way, since a part does not know which thread runs it, nor when.
//
// Where the backend computes answers together, by threads of its own, callers of it only wait: so
// answers have waiters, threads beside these that take nothing else, and a queue of rounds of their
// own. They find no thread taken, so no lesson gives way to them; while one is computed, a lesson
// has its own thread alone.
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
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "pipeline/observe/jobs_view.h"
#include "pipeline/rounds.h"
#include "stages/events.h"
#include "stages/guarded.h"
#include "stages/model/trainer/parallel.h"

namespace nudge {

class WorkerPool {
 public:
  // slot: which thread, 0..threads - 1; a waiter's are behind those.
  using Run = std::function<void(size_t slot)>;

  WorkerPool(size_t threads, bool instant, size_t waiters = 0);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // `tenant`: whose job it is, by any address that is that tenant's alone while the job lives; none
  // says that everybody of the partition waits for it.
  void Enqueue(JobKind kind, const void* tenant, Sequence at, Run run);
  void Enqueue(JobKind kind, Sequence at, Run run) { Enqueue(kind, nullptr, at, std::move(run)); }

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
  using Clock = std::chrono::steady_clock;
  struct Job {
    JobKind kind{};
    Sequence at;
    Run run;
    Clock::time_point since;  // it waits
  };
  using Flow = std::tuple<JobKind, int32_t, const void*>;  // partition, tenant
  using Queue = Rounds<Flow, Job>;
  // A lesson's loop that has parts to give away.
  struct Shared {
    int parts = 0;
    const std::function<void(int)>* part = nullptr;
    uint64_t number = 0;
    std::atomic<int> next{0};
    std::atomic<int> done{0};
  };

  void Work(size_t slot);
  void WaitForAnswers(size_t slot);
  Queue& QueueOf(JobKind kind) REQUIRES(mutex_);
  std::optional<JobKind> RunJob(size_t slot, bool lessons_too) REQUIRES(mutex_);
  JobKind RunFirst(Queue& queue, size_t slot) REQUIRES(mutex_);
  bool LessonIsNext() const REQUIRES(mutex_);
  void Count(JobKind kind, int change) REQUIRES(mutex_);
  void GiveWay(size_t slot);
  void Share(size_t slot, int parts, const std::function<void(int)>& part);
  bool Assist() REQUIRES(mutex_);

  const bool instant_;
  const bool has_waiters_;
  std::vector<ParallelFor> shares_;       // by slot
  std::vector<Clock::time_point> turns_;  // by slot: GiveWay's, for its thread

  mutable Mutex mutex_;
  CondVar ready_;
  CondVar asked_;                  // of waiters
  Queue jobs_ GUARDED_BY(mutex_);  // all but lessons, and but answers that have waiters
  Queue lessons_ GUARDED_BY(mutex_);
  Queue answers_ GUARDED_BY(mutex_);                                   // that have waiters
  size_t answering_ GUARDED_BY(mutex_) = 0;                            // waiters with an answer
  std::array<size_t, kJobKinds.size()> queued_ GUARDED_BY(mutex_){};   // by JobKind
  std::vector<std::optional<RunningJob>> running_ GUARDED_BY(mutex_);  // by slot
  bool has_lesson_ GUARDED_BY(mutex_) = false;                         // one that runs, or gave way
  bool others_turn_ GUARDED_BY(mutex_) = false;  // nothing else began since the last lesson began
  std::shared_ptr<Shared> shared_ GUARDED_BY(mutex_);

  // Written under the lock: jobs_ that are queued; and those of them that wait for no lesson.
  std::atomic<size_t> others_{0};
  std::atomic<size_t> urgent_{0};
  std::atomic<uint64_t> shares_begun_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace nudge
