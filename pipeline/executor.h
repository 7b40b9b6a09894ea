// Sole owner of the compute threads of the models: Plan -> [executor] -> Outcome.
//
// A job is queued once all that it needs is there: the adapter version that it serves, the lessons
// before it, the answer that it speaks of. All of these lie further back in the log, so no two jobs
// can wait for each other, and what a job computes depends on the log alone, never on which thread
// was free first. Ready jobs run by priority: generate, embed a query, learn, embed a document.
// One lesson runs at a time, since they share the trainer: a second one would only hold a thread.
// It begins before answers do, and gives way to them by turns: under any load one goes on.
// A lesson's inner loops are shared with threads that have nothing else to do. An answer or a query
// that finds no thread free does not wait for the end of a lesson: between two parts of its loops
// the lesson's own thread does that job first. Bytes stay the same: parts know nothing of it.
//
// A backend that is instant needs no threads: its jobs are done in the call that submits them,
// since a hop to a thread and back costs ten times what they do.
//
// Submit and AddBarrier are called in log order per partition (by respond's node); everything else
// from any thread. None of them waits for a model: what is there at once is returned, else `done`
// gets it on an executor thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/barrier.h"
#include "pipeline/executor_options.h"
#include "pipeline/observe/jobs_view.h"
#include "pipeline/observe/metrics.h"
#include "stages/jobs.h"
#include "stages/model/backend.h"
#include "stages/model/learn/tenant_adapters.h"

namespace nudge {

// One point of a tenant's learning curve.
struct LessonEvent {
  TenantId tenant;
  Sequence at;
  uint64_t step = 0;
  LessonDone done;
};

class Executor {
 public:
  // `on_lesson` (may be empty) is told of every lesson, in log order per tenant, on executor
  // threads. `on_fatal` is told of what must stop the process: a snapshot that cannot be written.
  Executor(Backend& backend, ExecutorOptions options,
           std::function<void(const LessonEvent&)> on_lesson,
           std::function<void(const Error&)> on_fatal);
  ~Executor();

  // Abandons what is queued and cancels what runs, between tokens, and drops what is submitted from
  // now on; their `done` is destroyed without being called. Idempotent; any thread but its own.
  void Stop();

  using Vectors = Result<std::vector<Vector>>;  // of each text
  bool instant() const { return backend_.instant(); }

  // Of an instant backend; nothing of any other.
  std::optional<Vectors> EmbedNow(const std::vector<std::string>& texts, bool as_query);
  void EmbedTexts(Sequence at, std::vector<std::string> texts, bool as_query,
                  std::function<void(Vectors)> done);

  // `recorded` is set in recovery: an answer that was given before is taken from it, not computed.
  // Nothing is returned, and `done` never called, once Stop was called.
  std::optional<Outcome> Submit(Sequence at, Plan plan, std::shared_ptr<const Outcome> recorded,
                                std::function<void(Outcome)> done);

  // Adds to the barrier what the learners and answers of the partition are after every job that was
  // submitted before this call.
  void AddBarrier(int32_t partition, std::shared_ptr<Barrier> barrier);

  // The partition belongs to somebody else: forgets its tenants and drops its jobs, as Stop does
  // for all. An answer that is being written ends at its next token; a lesson that is being learnt
  // goes on to its end, for nobody.
  void Abandon(int32_t partition);

  // Until every lesson that was submitted is done. False: the time is over.
  bool WaitForLessons(std::chrono::milliseconds timeout);
  size_t lessons_left();

  // Entries of the kinds that AddBarrier wrote. Before the first Submit of the partition.
  Result<Nothing> Load(int32_t partition, const Change& entry);

  // The tenant's newest version, nullptr where it has none; for reports, once no lesson is left.
  std::shared_ptr<const AdapterVersion> Latest(int32_t partition, const TenantId& tenant);

  // For people; any thread, at any time.
  std::vector<RunningJob> running() const;
  std::array<size_t, 4> waiting_jobs() const;            // by JobKind
  std::vector<TenantView> TenantsOf(int32_t partition);  // in the order of their names

  const DurationMetrics& generate_metrics() const { return generate_metrics_; }
  const NodeMetrics& embed_metrics() const { return embed_metrics_; }
  const DurationMetrics& lesson_metrics() const { return lesson_metrics_; }

 private:
  enum Priority { kGenerate, kEmbedQuery, kLearn, kEmbedDocument, kPriorities };
  struct Job {
    Sequence at;
    std::function<void(size_t slot)> run;
    bool beside_lessons = false;  // learns for so long that other tenants' lessons go in between
  };

  // A value that is there, or will be: continuations run once it is, outside of the lock.
  template <class T>
  struct Cell {
    std::optional<T> value;
    std::vector<std::function<void(const T&)>> waiting;
  };
  template <class T>
  using CellPtr = std::shared_ptr<Cell<T>>;

  // Held by the job that will resolve the cell. If the job is dropped, so is what waits for it: two
  // lessons about one answer would otherwise keep each other for ever.
  template <class T>
  class Owner {
   public:
    Owner(Executor& executor, CellPtr<T> cell) : executor_(executor), cell_(std::move(cell)) {}
    ~Owner();
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;

   private:
    Executor& executor_;
    const CellPtr<T> cell_;
  };
  template <class T>
  std::shared_ptr<Owner<T>> Own(const CellPtr<T>& cell) {
    return std::make_shared<Owner<T>>(*this, cell);
  }

  struct Answer {
    std::optional<Error> error;
    Completed completed;
    std::string digest;  // of the adapter that gave it
  };

  // Jobs that run hold their tenant; continuations that wait must not (they wait inside of it).
  struct Tenant {
    std::atomic<bool> abandoned{false};
    std::unique_ptr<TenantAdapters> adapters;
    std::map<Version, CellPtr<Served>> versions;  // the kept ones, in log order
    std::map<Sequence, CellPtr<Answer>> answers;  // those that something can still refer to
    CellPtr<LessonDone> last_lesson;              // also: the last barrier's save
    std::map<Version, bool> dirty_versions;       // true: changed, false: gone
    std::map<Sequence, bool> dirty_answers;
    bool dirty_learner = false;
  };
  using TenantPtr = std::shared_ptr<Tenant>;
  using Tenants = std::map<TenantId, TenantPtr>;

  template <class T>
  bool IsThere(const CellPtr<T>& cell);
  template <class T, class Then>
  void When(const CellPtr<T>& cell, Then&& then);
  template <class T>
  void Resolve(const CellPtr<T>& cell, T value);

  TenantPtr TenantOf(int32_t partition, const TenantId& tenant);
  CellPtr<Served> VersionOf(Tenant& tenant, Version version);
  CellPtr<Answer> AnswerOf(Tenant& tenant, Sequence at);
  CellPtr<Answer> SubmitGenerate(Sequence at, const TenantPtr& tenant, Generate generate,
                                 const Outcome* recorded);
  CellPtr<LessonDone> SubmitLesson(Sequence at, const TenantId& id, const TenantPtr& tenant,
                                   Lesson lesson);
  void KeepVersions(Tenant& tenant, const Lesson& lesson, const CellPtr<Served>& made);
  LessonDone RunLesson(size_t slot, Sequence at, const TenantId& id, Tenant& tenant,
                       const Lesson& lesson, const std::string* shown, const Served& target,
                       const Served& parent);

  std::optional<Outcome> WhenDone(Plan plan, const CellPtr<Answer>& answer,
                                  const CellPtr<LessonDone>& lesson,
                                  std::function<void(Outcome)> done);
  Vectors Embed(size_t slot, const std::vector<std::string>& texts, bool as_query);

  std::shared_ptr<void> CountLesson();
  void Enqueue(Priority priority, Sequence at, std::function<void(size_t slot)> run,
               bool beside_lessons = false);
  void Work(size_t slot);
  bool RunJob(std::unique_lock<std::mutex>& lock, size_t slot, Priority end);
  void CountUrgent();
  void Yield(size_t slot);
  // The ParallelFor of lessons.
  void Share(size_t slot, int parts, const std::function<void(int)>& part);
  bool Assist(std::unique_lock<std::mutex>& lock);

  struct Shared {
    int parts = 0;
    const std::function<void(int)>* part = nullptr;
    uint64_t number = 0;
    std::atomic<int> next{0};
    std::atomic<int> done{0};
  };

  Backend& backend_;
  const ExecutorOptions options_;
  const std::function<void(const LessonEvent&)> on_lesson_;
  const std::function<void(const Error&)> on_fatal_;
  std::vector<ParallelFor> shares_;                           // by slot
  std::vector<std::chrono::steady_clock::time_point> turns_;  // by slot: Yield's, for its thread

  std::mutex submit_mutex_;   // held while the tenants' maps are used; Stop is the only rival
  mutable std::mutex mutex_;  // guards everything below, and what tenants' maps hold
  std::condition_variable ready_;
  std::array<std::deque<Job>, kPriorities> queues_;
  std::atomic<size_t> urgent_{0};  // queued jobs that wait for no lesson: written under the lock
  std::vector<std::optional<RunningJob>> running_;  // by slot
  size_t lessons_begun_ = 0;                        // that run, or gave way: 0 or 1
  std::map<int32_t, Tenants> partitions_;
  std::shared_ptr<Shared> shared_;  // a lesson's loop that has parts to give away
  std::atomic<uint64_t> shares_begun_{0};
  std::atomic<bool> stopping_{false};

  std::mutex lessons_mutex_;
  std::condition_variable lessons_done_;
  size_t lessons_left_ = 0;

  DurationMetrics generate_metrics_;
  NodeMetrics embed_metrics_;
  DurationMetrics lesson_metrics_;
  std::vector<std::thread> threads_;
};

}  // namespace nudge
