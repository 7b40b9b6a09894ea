#include "pipeline/executor.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "pipeline/emit.h"
#include "stages/fault_point.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;
constexpr int kLingerSpins = 4000;  // ~50 us: the gap between two loops of a lesson
// What a lesson gets before it gives its thread away once more: under any load it goes on.
constexpr std::chrono::milliseconds kLessonTurn{20};

Error Damaged(const Change& entry) {
  return {
      Code::kUnreadableFile,
      "state: entry " + entry.kind + " " + entry.id + " of tenant " + entry.tenant + " is damaged",
      "restore a backup of the state, or rebuild it from the log"};
}

// Parts of a barrier that become ready one by one, joined in the order in which they were asked
// for.
class Parts {
 public:
  Parts(size_t count, std::function<void(Changes)> done)
      : parts_(count), missing_(count), done_(std::move(done)) {}

  void Fill(size_t index, Changes changes) {
    std::unique_lock lock(mutex_);
    parts_[index] = std::move(changes);
    if (--missing_ > 0) return;
    Changes all;
    for (Changes& part : parts_) {
      all.insert(all.end(), std::make_move_iterator(part.begin()),
                 std::make_move_iterator(part.end()));
    }
    lock.unlock();
    done_(std::move(all));
  }

 private:
  std::mutex mutex_;
  std::vector<Changes> parts_;
  size_t missing_;
  std::function<void(Changes)> done_;
};

// An answer that its outcome had no room for was given nevertheless: recovery gives it again.
bool WasTooLarge(const Outcome& recorded) {
  const auto* letter = std::get_if<DeadLetter>(&recorded.what);
  return letter != nullptr && letter->stage == kEncodeStage;
}

}  // namespace

Executor::Executor(Backend& backend, ExecutorOptions options,
                   std::function<void(const LessonEvent&)> on_lesson,
                   std::function<void(const Error&)> on_fatal)
    : backend_(backend),
      options_(std::move(options)),
      on_lesson_(std::move(on_lesson)),
      on_fatal_(std::move(on_fatal)),
      turns_(options_.threads),
      running_(options_.threads) {
  for (size_t slot = 0; slot < options_.threads; ++slot) {
    shares_.emplace_back([this, slot](int parts, const std::function<void(int)>& part) {
      Share(slot, parts, part);
    });
  }
  if (backend_.instant()) return;
  for (size_t slot = 0; slot < options_.threads; ++slot) {
    threads_.emplace_back([this, slot] { Work(slot); });
  }
}

Executor::~Executor() {
  Stop();
}

void Executor::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  const std::lock_guard submitting(submit_mutex_);
  for (std::deque<Job>& queue : queues_) queue.clear();
  partitions_.clear();  // with them every continuation that waited
}

// ---- Threads ------------------------------------------------------------------------------------

void Executor::Enqueue(Priority priority, Sequence at, std::function<void(size_t slot)> run,
                       bool beside_lessons) {
  if (backend_.instant()) {
    if (!stopping_) run(0);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    queues_[priority].push_back({at, std::move(run), beside_lessons});
    CountUrgent();
  }
  ready_.notify_one();
}

void Executor::Work(size_t slot) {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!RunJob(lock, slot, kPriorities) && !Assist(lock)) ready_.wait(lock);
  }
}

// Runs the first job of the priorities before `end`. False: there is none.
bool Executor::RunJob(std::unique_lock<std::mutex>& lock, size_t slot, Priority end) {
  size_t kind = 0;
  const auto may = [&](size_t one) {
    if (one >= end || queues_[one].empty()) return false;
    return one != kLearn || lessons_begun_ == 0 || queues_[kLearn].front().beside_lessons;
  };
  while (kind < end && !may(kind)) ++kind;
  // Once it has begun, a lesson gives way to answers by turns: it goes on, and they hardly wait. So
  // it begins before them, however many there are.
  if (lessons_begun_ == 0 && may(kLearn)) kind = kLearn;
  if (kind == end) return false;
  Job job = std::move(queues_[kind].front());
  queues_[kind].pop_front();
  CountUrgent();
  const std::optional<RunningJob> interrupted = running_[slot];
  running_[slot] = {static_cast<JobKind>(kind), job.at, std::chrono::steady_clock::now()};
  const bool lesson = kind == kLearn && !job.beside_lessons;
  if (lesson) ++lessons_begun_;
  lock.unlock();
  job.run(slot);
  job.run = nullptr;
  lock.lock();
  if (lesson) --lessons_begun_;
  running_[slot] = interrupted;
  return true;
}

void Executor::CountUrgent() {
  urgent_.store(queues_[kGenerate].size() + queues_[kEmbedQuery].size(), std::memory_order_relaxed);
}

// On a lesson's thread, between two parts: one urgent job, unless a free thread will take it or it
// is the lesson's turn. The lesson uses nothing of its slot, so the job may.
void Executor::Yield(size_t slot) {
  if (std::chrono::steady_clock::now() < turns_[slot]) return;
  std::unique_lock lock(mutex_);
  const auto free = std::count(running_.begin(), running_.end(), std::nullopt);
  if (stopping_ || urgent_ <= static_cast<size_t>(free)) return;
  if (RunJob(lock, slot, kLearn)) turns_[slot] = std::chrono::steady_clock::now() + kLessonTurn;
}

// Takes parts of a lesson's loop, if there is one. False: there was nothing to do.
bool Executor::Assist(std::unique_lock<std::mutex>& lock) {
  const std::shared_ptr<Shared> shared = shared_;
  if (!shared || shared->next.load(std::memory_order_relaxed) >= shared->parts) return false;
  lock.unlock();
  int finished = 0;
  const auto urgent = [this] { return urgent_.load(std::memory_order_relaxed) > 0; };
  for (int i; !urgent() && (i = shared->next.fetch_add(1)) < shared->parts;) {
    (*shared->part)(i);
    ++finished;
  }
  if (finished > 0 && shared->done.fetch_add(finished) + finished == shared->parts) {
    shared->done.notify_one();
  }
  // The lesson's next loop comes within microseconds: a short look is cheaper than to sleep and
  // wake.
  for (int spin = 0; spin < kLingerSpins && !urgent(); ++spin) {
    if (shares_begun_.load(std::memory_order_relaxed) != shared->number) break;
    __builtin_ia32_pause();
  }
  lock.lock();
  return true;
}

void Executor::Share(size_t slot, int parts, const std::function<void(int)>& part) {
  const auto shared = std::make_shared<Shared>();
  shared->parts = parts;
  shared->part = &part;
  bool mine = false;
  if (parts > 1 && options_.threads > 1) {
    const std::lock_guard lock(mutex_);
    mine = shared_ == nullptr;  // another tenant's lesson may be sharing: then this one runs alone
    if (mine) {
      shared->number = shares_begun_.load(std::memory_order_relaxed) + 1;
      shared_ = shared;
      shares_begun_.store(shared->number, std::memory_order_relaxed);
    }
  }
  if (mine) ready_.notify_all();
  int finished = 0;
  for (int i; (i = shared->next.fetch_add(1)) < parts;) {
    if (urgent_.load(std::memory_order_relaxed) > 0) Yield(slot);
    part(i);
    ++finished;
  }
  if (!mine) return;
  {
    const std::lock_guard lock(mutex_);
    shared_ = nullptr;
  }
  int done = shared->done.fetch_add(finished) + finished;
  while (done < parts) {
    shared->done.wait(done);
    done = shared->done.load();
  }
}

template <class T>
bool Executor::IsThere(const CellPtr<T>& cell) {
  const std::lock_guard lock(mutex_);
  return cell->value.has_value();
}

template <class T, class Then>
void Executor::When(const CellPtr<T>& cell, Then&& then) {
  {
    const std::lock_guard lock(mutex_);
    if (!cell->value) {
      cell->waiting.emplace_back(std::forward<Then>(then));
      return;
    }
  }
  then(*cell->value);
}

template <class T>
void Executor::Resolve(const CellPtr<T>& cell, T value) {
  std::vector<std::function<void(const T&)>> waiting;
  {
    const std::lock_guard lock(mutex_);
    cell->value = std::move(value);
    waiting.swap(cell->waiting);
  }
  for (const auto& then : waiting) then(*cell->value);
}

template <class T>
Executor::Owner<T>::~Owner() {
  std::vector<std::function<void(const T&)>> dropped;  // destroyed without the lock
  const std::lock_guard lock(executor_.mutex_);
  dropped.swap(cell_->waiting);
}

// ---- Embedding ----------------------------------------------------------------------------------

std::optional<Executor::Vectors> Executor::EmbedNow(const std::vector<std::string>& texts,
                                                    bool as_query) {
  if (!backend_.instant()) return std::nullopt;
  return Embed(0, texts, as_query);
}

void Executor::EmbedTexts(Sequence at, std::vector<std::string> texts, bool as_query,
                          std::function<void(Vectors)> done) {
  Enqueue(as_query ? kEmbedQuery : kEmbedDocument, at,
          [this, texts = std::move(texts), as_query, done = std::move(done)](size_t slot) {
            done(Embed(slot, texts, as_query));
          });
}

Executor::Vectors Executor::Embed(size_t slot, const std::vector<std::string>& texts,
                                  bool as_query) {
  const NodeMetrics::Timer timer(embed_metrics_);
  std::vector<Vector> vectors;
  for (const std::string& text : texts) {
    Result<Vector> vector = backend_.Embed(slot, text, as_query);
    if (!vector.ok()) {
      embed_metrics_.CountError();
      return vector.error();
    }
    vectors.push_back(std::move(*vector));
  }
  return vectors;
}

// ---- Plans --------------------------------------------------------------------------------------

Executor::TenantPtr Executor::TenantOf(int32_t partition, const TenantId& id) {
  TenantPtr& tenant = partitions_[partition][id];
  if (!tenant) {
    tenant = std::make_shared<Tenant>();
    tenant->adapters = std::make_unique<TenantAdapters>(backend_, id, options_.adapters);
    tenant->last_lesson = std::make_shared<Cell<LessonDone>>();
    tenant->last_lesson->value.emplace();
  }
  return tenant;
}

Executor::CellPtr<Served> Executor::VersionOf(Tenant& tenant, Version version) {
  const auto found = tenant.versions.find(version);
  if (found != tenant.versions.end()) return found->second;
  // 0 is the base; a version that left the kept ones is answered by it too (adapt does not ask).
  const auto base = std::make_shared<Cell<Served>>();
  base->value.emplace();
  return base;
}

Executor::CellPtr<Executor::Answer> Executor::AnswerOf(Tenant& tenant, Sequence at) {
  const auto found = tenant.answers.find(at);
  if (found != tenant.answers.end()) return found->second;
  const auto missing = std::make_shared<Cell<Answer>>();
  missing->value.emplace();
  missing->value->error = Error{Code::kModelFailed, "the answer is not kept any more", ""};
  return missing;
}

std::optional<Outcome> Executor::Submit(Sequence at, Plan plan,
                                        std::shared_ptr<const Outcome> recorded,
                                        std::function<void(Outcome)> done) {
  const std::lock_guard submitting(submit_mutex_);
  if (stopping_) return std::nullopt;
  if (!plan.generate && !plan.answer_of && !plan.lesson && plan.retired.empty()) {
    return std::move(plan.outcome);
  }
  const TenantId id = plan.outcome.tenant;
  const TenantPtr kept = TenantOf(at.partition(), id);
  Tenant& tenant = *kept;
  CellPtr<Answer> answer;
  CellPtr<LessonDone> lesson;
  if (plan.generate) {
    answer = SubmitGenerate(at, kept, std::move(*plan.generate), recorded.get());
  } else if (plan.answer_of) {
    answer = AnswerOf(tenant, *plan.answer_of);
  }
  if (plan.lesson) lesson = SubmitLesson(at, id, kept, std::move(*plan.lesson));
  for (const Sequence retired : plan.retired) {
    if (tenant.answers.erase(retired) == 0) continue;
    const auto [entry, unsaved] = tenant.dirty_answers.emplace(retired, false);
    if (!unsaved) {
      if (entry->second) tenant.dirty_answers.erase(entry);  // it was never saved
    }
  }
  return WhenDone(std::move(plan), answer, lesson, std::move(done));
}

// The outcome once what it needs is there.
std::optional<Outcome> Executor::WhenDone(Plan plan, const CellPtr<Answer>& answer,
                                          const CellPtr<LessonDone>& lesson,
                                          std::function<void(Outcome)> done) {
  const auto later = [&](auto complete) {
    return [outcome = std::move(plan.outcome), done = std::move(done),
            complete](const auto& given) mutable {
      complete(outcome, given);
      done(std::move(outcome));
    };
  };
  if (answer) {
    const auto complete = [](Outcome& outcome, const Answer& given) {
      if (given.error) {
        outcome.what = DeadLetter{"generate", *given.error, "", "", 0};
        return;
      }
      auto& response = std::get<Response>(outcome.what);
      response.text = given.completed.text;
      response.adapter_digest = given.digest;
      response.prompt_tokens = given.completed.prompt_tokens;
      response.completion_tokens = given.completed.completion_tokens;
    };
    if (!IsThere(answer)) {
      When(answer, later(complete));
      return std::nullopt;
    }
    complete(plan.outcome, *answer->value);
  } else if (lesson && plan.waits_for_lesson) {
    const auto complete = [](Outcome& outcome, const LessonDone& lesson_done) {
      if (lesson_done.snapshot) outcome.snapshots.push_back(*lesson_done.snapshot);
      if (lesson_done.error && std::holds_alternative<Applied>(outcome.what)) {
        outcome.what = DeadLetter{"adapt", *lesson_done.error, "", "", 0};
      }
    };
    if (!IsThere(lesson)) {
      When(lesson, later(complete));
      return std::nullopt;
    }
    complete(plan.outcome, *lesson->value);
  } else if (lesson && lessons_left() > options_.lessons_waiting_max) {
    When(lesson, later([](Outcome&, const LessonDone&) {}));  // the same outcome, later
    return std::nullopt;
  }
  return std::move(plan.outcome);
}

Executor::CellPtr<Executor::Answer> Executor::SubmitGenerate(Sequence at, const TenantPtr& tenant,
                                                             Generate generate,
                                                             const Outcome* recorded) {
  const auto answer = std::make_shared<Cell<Answer>>();
  tenant->answers[at] = answer;
  tenant->dirty_answers[at] = true;
  if (recorded != nullptr && !WasTooLarge(*recorded)) {
    Answer given;
    if (const auto* response = std::get_if<Response>(&recorded->what)) {
      given.completed = {response->text, response->prompt_tokens, response->completion_tokens};
      given.digest = response->adapter_digest;
    } else if (const auto* letter = std::get_if<DeadLetter>(&recorded->what)) {
      given.error = letter->error;
    }
    Resolve(answer, std::move(given));
    return answer;
  }
  const CellPtr<Served> version = VersionOf(*tenant, generate.adapter);
  When(version, [=, this, owner = Own(answer), waiting = std::weak_ptr(tenant),
                 generate = std::move(generate)](const Served& served) mutable {
    const TenantPtr asked = waiting.lock();
    if (!asked) return;
    Enqueue(kGenerate, at, [=, this, generate = std::move(generate)](size_t slot) {
      (void)owner;  // until here
      const auto cancelled = [&] { return stopping_ || asked->abandoned; };
      Answer given;
      given.digest = served.digest();
      {
        const DurationMetrics::Timer timer(generate_metrics_);
        FaultPoint("generation");
        Result<Completed> completed = backend_.Generate(
            slot, generate.chat, served.adapter.get(), generate.decoding, generate.seed, cancelled);
        if (completed.ok()) {
          given.completed = std::move(*completed);
        } else {
          generate_metrics_.CountError();
          given.error = completed.error();
        }
      }
      if (!cancelled()) Resolve(answer, std::move(given));
    });
  });
  return answer;
}

// The version that the lesson makes joins the kept ones, and the oldest leaves them: after a forget
// all, since they still hold what is to be forgotten.
void Executor::KeepVersions(Tenant& tenant, const Lesson& lesson, const CellPtr<Served>& made) {
  const size_t kept =
      std::holds_alternative<Unlearn>(lesson.what) ? 0 : size_t{options_.versions_kept} - 1;
  while (tenant.versions.size() > kept) {
    tenant.dirty_versions[tenant.versions.begin()->first] = false;
    tenant.versions.erase(tenant.versions.begin());
  }
  tenant.versions[*lesson.step.makes] = made;
  tenant.dirty_versions[*lesson.step.makes] = true;
}

Executor::CellPtr<LessonDone> Executor::SubmitLesson(Sequence at, const TenantId& id,
                                                     const TenantPtr& kept, Lesson lesson) {
  Tenant& tenant = *kept;
  const auto done = std::make_shared<Cell<LessonDone>>();
  const auto made = std::make_shared<Cell<Served>>();
  const CellPtr<LessonDone> before = std::exchange(tenant.last_lesson, done);
  tenant.dirty_learner = true;

  CellPtr<Answer> shown;
  if (const auto* exercise = std::get_if<Exercise>(&lesson.what)) {
    if (const auto* answer = std::get_if<Sequence>(&exercise->shown)) {
      shown = AnswerOf(tenant, *answer);
    } else {
      shown = std::make_shared<Cell<Answer>>();
      shown->value.emplace();
      shown->value->completed.text = std::get<std::string>(exercise->shown);
    }
  } else {
    shown = std::make_shared<Cell<Answer>>();
    shown->value.emplace();
  }
  const auto* rollback = std::get_if<Rollback>(&lesson.what);
  const CellPtr<Served> target = VersionOf(tenant, rollback != nullptr ? rollback->to : 0);
  const CellPtr<Served> parent = VersionOf(tenant, lesson.parent);
  if (lesson.step.makes) KeepVersions(tenant, lesson, made);

  When(before,
       [=, this, counted = CountLesson(), waiting = std::weak_ptr(kept),
        owners = std::pair(Own(made), Own(done)), lesson = std::move(lesson)](const LessonDone&) {
         When(shown, [=, this](const Answer& given) {
           const TenantPtr learning = waiting.lock();
           if (!learning) return;
           Enqueue(
               kLearn, at,
               [=, this](size_t slot) {
                 (void)counted;
                 (void)owners;  // until here
                 // Versions that earlier lessons make are resolved by now, so both are there.
                 LessonDone result = RunLesson(slot, at, id, *learning, lesson,
                                               given.error ? nullptr : &given.completed.text,
                                               *target->value, *parent->value);
                 if (learning->abandoned) return;
                 if (lesson.step.makes) Resolve(made, result.serves);
                 Resolve(done, std::move(result));
               },
               std::holds_alternative<Unlearn>(lesson.what));
         });
       });
  return done;
}

LessonDone Executor::RunLesson(size_t slot, Sequence at, const TenantId& id, Tenant& tenant,
                               const Lesson& lesson, const std::string* shown, const Served& target,
                               const Served& parent) {
  LessonDone done;
  {
    const DurationMetrics::Timer timer(lesson_metrics_);
    FaultPoint("training");
    done = tenant.adapters->Apply(lesson, shown, target, parent, shares_[slot]);
    if (done.error) lesson_metrics_.CountError();
  }
  if (tenant.abandoned) return done;
  if (lesson.step.snapshot && lesson.step.makes && done.serves.adapter &&
      !options_.snapshot_folder.empty()) {
    Result<SnapshotRef> snapshot = backend_.WriteSnapshot(options_.snapshot_folder, id,
                                                          *lesson.step.makes, *done.serves.adapter);
    if (snapshot.ok()) {
      done.snapshot = std::move(*snapshot);
    } else if (on_fatal_) {
      on_fatal_(snapshot.error());
    }
  }
  if (on_lesson_ && !tenant.abandoned) on_lesson_({id, at, lesson.step.number, done});
  return done;
}

// A lesson counts as left as long as what this gives lives: until it is learnt, or dropped.
std::shared_ptr<void> Executor::CountLesson() {
  {
    const std::lock_guard lock(lessons_mutex_);
    ++lessons_left_;
  }
  return {nullptr, [this](void*) {
            const std::lock_guard lock(lessons_mutex_);
            if (--lessons_left_ == 0) lessons_done_.notify_all();
          }};
}

bool Executor::WaitForLessons(std::chrono::milliseconds timeout) {
  std::unique_lock lock(lessons_mutex_);
  return lessons_done_.wait_for(lock, timeout, [&] { return lessons_left_ == 0; });
}

size_t Executor::lessons_left() {
  const std::lock_guard lock(lessons_mutex_);
  return lessons_left_;
}

// ---- For people ---------------------------------------------------------------------------------

std::vector<RunningJob> Executor::running() const {
  std::vector<RunningJob> running;
  const std::lock_guard lock(mutex_);
  for (const std::optional<RunningJob>& job : running_) {
    if (job) running.push_back(*job);
  }
  return running;
}

std::array<size_t, 4> Executor::waiting_jobs() const {
  static_assert(kPriorities == kJobKinds.size());
  std::array<size_t, 4> waiting{};
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < waiting.size(); ++i) waiting[i] = queues_[i].size();
  return waiting;
}

std::vector<TenantView> Executor::TenantsOf(int32_t partition) {
  std::vector<TenantView> views;
  const std::lock_guard submitting(submit_mutex_);
  const auto found = partitions_.find(partition);
  if (found == partitions_.end()) return views;
  for (const auto& [id, tenant] : found->second) {
    const auto& versions = tenant->versions;
    views.push_back({id, versions.empty() ? 0 : versions.rbegin()->first, versions.size()});
  }
  return views;
}

std::shared_ptr<const AdapterVersion> Executor::Latest(int32_t partition, const TenantId& id) {
  const std::lock_guard submitting(submit_mutex_);
  const TenantPtr tenant = TenantOf(partition, id);
  if (tenant->versions.empty()) return nullptr;
  const CellPtr<Served>& cell = tenant->versions.rbegin()->second;
  const std::lock_guard lock(mutex_);
  return cell->value ? cell->value->adapter : nullptr;
}

// ---- State --------------------------------------------------------------------------------------

void Executor::AddBarrier(int32_t partition, std::shared_ptr<Barrier> barrier) {
  const std::lock_guard submitting(submit_mutex_);
  if (stopping_) return;
  std::vector<std::function<void(const std::shared_ptr<Parts>&, size_t)>> asked;
  for (auto& [id, tenant] : partitions_[partition]) {
    for (const auto& [version, changed] : tenant->dirty_versions) {
      Change entry{id, "adapter_version", NumberName(version), std::nullopt};
      const CellPtr<Served> cell = changed ? tenant->versions.at(version) : nullptr;
      asked.push_back([=, this](const std::shared_ptr<Parts>& parts, size_t index) {
        if (!cell) return parts->Fill(index, {entry});
        When(cell, [=](const Served& served) {
          ByteWriter out;
          out.U8(kFormat);
          out.U64(served.journal_end);
          out.U8(served.adapter != nullptr);
          if (served.adapter) {
            const LearnCounts& counts = served.adapter->counts;
            out.Text(served.adapter->digest);
            out.Text(served.adapter->parent_digest);
            for (const uint64_t count : {counts.steps, counts.examples, counts.corrections,
                                         counts.ups, counts.downs, counts.refused}) {
              out.U64(count);
            }
            out.Text(served.adapter->weights);
          }
          parts->Fill(index, {{entry.tenant, entry.kind, entry.id, out.Take()}});
        });
      });
    }
    for (const auto& [at, kept] : tenant->dirty_answers) {
      Change entry{id, "answer", NumberName(at.value), std::nullopt};
      const CellPtr<Answer> cell = kept ? tenant->answers.at(at) : nullptr;
      asked.push_back([=, this](const std::shared_ptr<Parts>& parts, size_t index) {
        if (!cell) return parts->Fill(index, {entry});
        When(cell, [=](const Answer& answer) {
          ByteWriter out;
          out.U8(kFormat);
          out.U8(answer.error.has_value());
          out.Text(answer.error ? answer.error->message : answer.completed.text);
          out.U32(answer.completed.prompt_tokens);
          out.U32(answer.completed.completion_tokens);
          out.Text(answer.digest);
          parts->Fill(index, {{entry.tenant, entry.kind, entry.id, out.Take()}});
        });
      });
    }
    if (tenant->dirty_learner) {
      asked.push_back([=, this, kept = tenant](const std::shared_ptr<Parts>& parts, size_t index) {
        const auto saved = std::make_shared<Cell<LessonDone>>();
        const CellPtr<LessonDone> before = std::exchange(kept->last_lesson, saved);
        When(before,
             [=, this, owner = Own(saved), waiting = std::weak_ptr(kept)](const LessonDone&) {
               const TenantPtr learnt = waiting.lock();
               if (!learnt) return;
               Enqueue(kLearn, Sequence::Of(partition, 0), [=, this](size_t) {
                 (void)owner;  // until here
                 Changes changes;
                 learnt->adapters->Save(changes);
                 Resolve(saved, LessonDone{});
                 parts->Fill(index, std::move(changes));
               });
             });
      });
    }
    tenant->dirty_versions.clear();
    tenant->dirty_answers.clear();
    tenant->dirty_learner = false;
  }
  if (asked.empty()) return barrier->Add("executor", {});
  const auto parts = std::make_shared<Parts>(
      asked.size(), [barrier](Changes changes) { barrier->Add("executor", std::move(changes)); });
  for (size_t index = 0; index < asked.size(); ++index) asked[index](parts, index);
}

void Executor::Abandon(int32_t partition) {
  std::vector<Job> dropped;  // destroyed without a lock: a job's end may take one
  Tenants tenants;
  {
    const std::lock_guard submitting(submit_mutex_);
    const std::lock_guard lock(mutex_);
    for (std::deque<Job>& queue : queues_) {
      const auto theirs = std::stable_partition(queue.begin(), queue.end(), [&](const Job& job) {
        return job.at.partition() != partition;
      });
      std::move(theirs, queue.end(), std::back_inserter(dropped));
      queue.erase(theirs, queue.end());
    }
    CountUrgent();
    if (const auto found = partitions_.find(partition); found != partitions_.end()) {
      tenants = std::move(found->second);
      partitions_.erase(found);
    }
    for (const auto& [id, tenant] : tenants) tenant->abandoned = true;
  }
}

Result<Nothing> Executor::Load(int32_t partition, const Change& entry) {
  const std::lock_guard submitting(submit_mutex_);
  const TenantPtr kept = TenantOf(partition, entry.tenant);
  Tenant& tenant = *kept;
  if (entry.kind == "learner" || entry.kind == "journal") return tenant.adapters->Load(entry);
  ByteReader in(*entry.value);
  if (in.U8() != kFormat || entry.id.size() != 20) return Damaged(entry);
  const uint64_t number = std::strtoull(entry.id.c_str(), nullptr, 10);
  if (entry.kind == "answer") {
    const auto cell = std::make_shared<Cell<Answer>>();
    Answer& answer = cell->value.emplace();
    const bool failed = in.U8() != 0;
    std::string text = in.Text();
    if (failed) {
      answer.error = Error{Code::kModelFailed, std::move(text), ""};
    } else {
      answer.completed.text = std::move(text);
    }
    answer.completed.prompt_tokens = in.U32();
    answer.completed.completion_tokens = in.U32();
    answer.digest = in.Text();
    tenant.answers[Sequence{number}] = cell;
  } else {
    const auto cell = std::make_shared<Cell<Served>>();
    Served& served = cell->value.emplace();
    served.journal_end = in.U64();
    if (in.U8() != 0) {
      const std::string digest = in.Text();
      const std::string parent = in.Text();
      LearnCounts counts;
      for (uint64_t* count : {&counts.steps, &counts.examples, &counts.corrections, &counts.ups,
                              &counts.downs, &counts.refused}) {
        *count = in.U64();
      }
      auto version = backend_.LoadVersion(in.Text(), digest, parent, counts);
      if (!version.ok()) return version.error();
      served.adapter = *version;
    }
    tenant.versions[static_cast<Version>(number)] = cell;
  }
  return in.complete() ? Result<Nothing>(Nothing{}) : Damaged(entry);
}

}  // namespace nudge
