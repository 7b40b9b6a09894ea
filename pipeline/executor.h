// Carries plans out with the models: Plan -> [Executor] -> Outcome.
//
// A job is queued once all that it needs is there: the adapter version that it serves, the lessons
// before it, the answer that it speaks of. All of these lie further back in the log, so no two jobs
// can wait for each other, and what a job computes depends on the log alone, never on which thread
// was free first.
//
// Four rooms: who gets a thread next (worker_pool.h), values that come later (later.h), a tenant's
// versions, answers and learner (tenant_models.h) and their saved form (tenant_models_state.cpp).
// Here is what joins them: plans, and the jobs that plans are made of.
//
// A lesson, step by step:
//   1. Submit names its version (TenantModels::AddVersion) and makes it the tenant's last lesson.
//   2. The lesson before it is done, and the answer that it speaks of is there: it is queued.
//   3. LearnOne learns one lesson a job (TenantAdapters::Begin, LearnNext, End): its own, or those
//      that a return learns again. Then it writes the snapshot that the lesson may ask for, and
//      tells whoever watches.
//   4. Its version resolves to the new weights, or to its parent where it failed; what waits for
//      the version or the lesson goes on.
//
// Submit and AddBarrier are called in log order per partition, by respond's node; everything else
// from any thread. No call waits for a model: a result that is there at once is returned, any other
// is given to `done` on an executor thread.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipeline/barrier.h"
#include "pipeline/executor_options.h"
#include "pipeline/observe/jobs_view.h"
#include "pipeline/observe/metrics.h"
#include "pipeline/tenant_models.h"
#include "pipeline/worker_pool.h"
#include "stages/guarded.h"
#include "stages/jobs.h"
#include "stages/model/backend.h"
#include "stages/model/learn/import_store.h"

namespace nudge {

// One point of a tenant's learning curve.
struct LessonEvent {
  TenantId tenant;
  Sequence at;
  uint64_t step = 0;
  LessonDone done;
  bool is_news = false;  // the tenant's lesson before ended in another way
};

class Executor {
 public:
  // What is told of an answer that is being written, on an executor thread: provisional, and
  // nothing of an answer that is taken from the log or the cache.
  using OnText = std::function<void(int32_t partition, int64_t offset, std::string_view added)>;

  // `on_lesson` (may be empty) is told of every lesson, in log order per tenant, on executor
  // threads. `on_fatal` is told of what must stop the process: a snapshot that cannot be written,
  // and kUnavailable of an answer, whose question stays unanswered.
  Executor(Backend& backend, ExecutorOptions options,
           std::function<void(const LessonEvent&)> on_lesson,
           std::function<void(const Error&)> on_fatal, OnText on_text = {});
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

  // Reads and checks the adapter that an import names. In recovery what was refused is refused
  // again, and what was taken comes from the state, whatever lies in the import folder now.
  void BringIn(Sequence at, const AdapterCommand& command, std::shared_ptr<const Outcome> recorded,
               std::function<void(Imported)> done);

  // `recorded` is set in recovery: an answer that was given before is taken from it, not computed.
  // Nothing is returned, and `done` never called, once Stop was called.
  std::optional<Outcome> Submit(Sequence at, Plan plan, std::shared_ptr<const Outcome> recorded,
                                std::function<void(Outcome)> done);

  // Adds to the barrier what the learners and answers of the partition are after every job that was
  // submitted before this call.
  void AddBarrier(int32_t partition, std::shared_ptr<Barrier> barrier);

  // The partition belongs to somebody else: forgets its tenants and drops its jobs, as Stop does
  // for all. An answer that is being written ends at its next token. A lesson that is being learnt
  // goes on to its end, and its result is thrown away.
  void Abandon(int32_t partition);

  // Until every lesson that was submitted is done. False: the time is over.
  bool WaitForLessons(std::chrono::milliseconds timeout);
  size_t lessons_left();

  // Entries of the kinds that AddBarrier wrote. Before the first Submit of the partition.
  Result<Nothing> Load(int32_t partition, const Change& entry);

  // The tenant's newest version, nullptr where it has none; for reports, once no lesson is left.
  std::shared_ptr<const AdapterVersion> Latest(int32_t partition, const TenantId& tenant);

  // For people; any thread, at any time.
  std::vector<RunningJob> running() const { return pool_.running(); }
  std::array<size_t, kJobKinds.size()> waiting_jobs() const { return pool_.waiting(); }
  std::vector<TenantView> TenantsOf(int32_t partition);  // in the order of their names

  const DurationMetrics& generate_metrics() const { return generate_metrics_; }
  const NodeMetrics& embed_metrics() const { return embed_metrics_; }
  const DurationMetrics& lesson_metrics() const { return lesson_metrics_; }

 private:
  // A running job holds its tenant. A waiting continuation must not: it lies in one of the tenant's
  // cells, so the two would keep each other alive.
  using TenantPtr = std::shared_ptr<TenantModels>;
  using Tenants = std::map<TenantId, TenantPtr>;
  struct Learning;

  TenantPtr TenantOf(int32_t partition, const TenantId& tenant) REQUIRES(submit_mutex_);
  LaterPtr<GivenAnswer> SubmitGenerate(Sequence at, const TenantPtr& tenant, Generate generate,
                                       const Outcome* recorded);
  GivenAnswer GenerateNow(size_t slot, int32_t partition, const Generate& generate,
                          const Served& served, Asker asker);
  void ForgetTexts(int32_t partition, const TenantId& id) REQUIRES(submit_mutex_);
  LaterPtr<LessonDone> SubmitLesson(Sequence at, const TenantId& id, const TenantPtr& tenant,
                                    Lesson lesson);
  void EnqueueLesson(const TenantPtr& tenant, const std::shared_ptr<Learning>& learning);
  bool LearnOne(size_t slot, TenantModels& tenant, Learning& learning);
  void WriteSnapshot(const TenantId& id, const Lesson& lesson, LessonDone& done);
  std::optional<Outcome> WhenDone(Plan plan, const LaterPtr<GivenAnswer>& answer,
                                  const std::vector<LaterPtr<LessonDone>>& lessons,
                                  std::function<void(Outcome)> done);
  void SaveLearner(int32_t partition, const TenantPtr& tenant, std::function<void(Changes)> saved);
  Imported ReadImport(const AdapterCommand& command, const Outcome* recorded);
  Vectors Embed(size_t slot, const std::vector<std::string>& texts, bool as_query);
  std::shared_ptr<void> CountLesson();

  Backend& backend_;
  const ExecutorOptions options_;
  const std::function<void(const LessonEvent&)> on_lesson_;
  const std::function<void(const Error&)> on_fatal_;
  const OnText on_text_;
  CheckpointFile checkpoints_;
  const ImportStore imports_;

  Mutex submit_mutex_;  // also for what a tenant keeps; Stop is the only rival
  std::map<int32_t, Tenants> partitions_ GUARDED_BY(submit_mutex_);
  std::set<TenantId> named_ GUARDED_BY(submit_mutex_);  // in metrics

  Mutex lessons_mutex_;
  CondVar lessons_done_;
  size_t lessons_left_ GUARDED_BY(lessons_mutex_) = 0;

  DurationMetrics generate_metrics_;
  NodeMetrics embed_metrics_;
  DurationMetrics lesson_metrics_;
  WorkerPool pool_;  // last: its jobs use all of the above
};

}  // namespace nudge
