#include "pipeline/executor.h"

#include <iterator>
#include <utility>

#include "pipeline/emit.h"
#include "stages/fault_point.h"
#include "stages/learner_rows.h"

namespace nudge {
namespace {

constexpr char kVersionKind[] = "adapter_version";
constexpr char kAnswerKind[] = "answer";

// Changes that become known one part after the other, joined in the order in which the parts were
// asked for.
class JoinedChanges {
 public:
  JoinedChanges(size_t count, std::function<void(Changes)> done)
      : parts_(count), missing_(count), done_(std::move(done)) {}

  void Fill(size_t index, Changes changes) {
    MutexLock lock(mutex_);
    parts_[index] = std::move(changes);
    if (--missing_ > 0) return;
    Changes all;
    for (Changes& part : parts_) {
      all.insert(all.end(), std::make_move_iterator(part.begin()),
                 std::make_move_iterator(part.end()));
    }
    lock.Unlock();
    done_(std::move(all));
  }

 private:
  Mutex mutex_;
  std::vector<Changes> parts_ GUARDED_BY(mutex_);
  size_t missing_ GUARDED_BY(mutex_);
  std::function<void(Changes)> done_;
};

// Whether the answer was too large for its outcome, so that a dead letter stands there. The answer
// itself is not in the log then, and recovery has to generate it again.
bool WasTooLarge(const Outcome& recorded) {
  const auto* letter = std::get_if<DeadLetter>(&recorded.what);
  return letter != nullptr && letter->stage == kEncodeStage;
}

GivenAnswer AnswerIn(const Outcome& recorded) {
  GivenAnswer given;
  if (const auto* response = std::get_if<Response>(&recorded.what)) {
    given.completed = {response->text, response->prompt_tokens, response->completion_tokens,
                       response->finish_reason};
    given.digest = response->adapter_digest;
  } else if (const auto* letter = std::get_if<DeadLetter>(&recorded.what)) {
    given.error = letter->error;
  }
  return given;
}

void Complete(Outcome& outcome, const GivenAnswer& given) {
  if (given.error) {
    outcome.what = DeadLetter{"generate", *given.error, "", "", 0};
    return;
  }
  auto& response = std::get<Response>(outcome.what);
  response.text = given.completed.text;
  response.adapter_digest = given.digest;
  response.prompt_tokens = given.completed.prompt_tokens;
  response.completion_tokens = given.completed.completion_tokens;
  response.finish_reason = given.completed.finish_reason;
}

void Complete(Outcome& outcome, const LessonDone& lesson) {
  if (lesson.snapshot) outcome.snapshots.push_back(*lesson.snapshot);
  outcome.lesson_ends.insert(outcome.lesson_ends.end(), lesson.ends.begin(), lesson.ends.end());
  if (lesson.error && std::holds_alternative<Applied>(outcome.what)) {
    outcome.what = DeadLetter{"adapt", *lesson.error, "", "", 0};
  }
}

}  // namespace

Executor::Executor(Backend& backend, ExecutorOptions options,
                   std::function<void(const LessonEvent&)> on_lesson,
                   std::function<void(const Error&)> on_fatal, OnText on_text)
    : backend_(backend),
      options_(std::move(options)),
      on_lesson_(std::move(on_lesson)),
      on_fatal_(std::move(on_fatal)),
      on_text_(std::move(on_text)),
      checkpoints_(options_.checkpoint_folder),
      imports_(options_.import_store_folder),
      pool_(options_.threads, backend.instant(), backend.answers_together()) {}

Executor::~Executor() {
  Stop();
}

void Executor::Stop() {
  pool_.Stop();
  const MutexLock submitting(submit_mutex_);
  partitions_.clear();  // with them every continuation that waited
}

// ---- Embedding ----------------------------------------------------------------------------------

std::optional<Executor::Vectors> Executor::EmbedNow(const std::vector<std::string>& texts,
                                                    bool as_query) {
  if (!backend_.instant()) return std::nullopt;
  return Embed(0, texts, as_query);
}

void Executor::EmbedTexts(Sequence at, std::vector<std::string> texts, bool as_query,
                          std::function<void(Vectors)> done) {
  pool_.Enqueue(as_query ? JobKind::kEmbedQuery : JobKind::kEmbedDocument, at,
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

// ---- Imports ------------------------------------------------------------------------------------

void Executor::BringIn(Sequence at, const AdapterCommand& command,
                       std::shared_ptr<const Outcome> recorded,
                       std::function<void(Imported)> done) {
  pool_.Enqueue(JobKind::kEmbedDocument, at,
                [this, command, recorded = std::move(recorded), done = std::move(done)](size_t) {
                  done(ReadImport(command, recorded.get()));
                });
}

Imported Executor::ReadImport(const AdapterCommand& command, const Outcome* recorded) {
  if (recorded != nullptr) {
    if (const auto* letter = std::get_if<DeadLetter>(&recorded->what)) {
      return {nullptr, letter->error};
    }
    auto kept = imports_.Find(command.sha256, backend_);
    if (kept.ok() && *kept) return {*kept, std::nullopt};
  }
  if (const Result<Nothing> can = backend_.CanLearn(); !can.ok()) return {nullptr, can.error()};
  auto version = backend_.ImportVersion(command.uri, command.sha256);
  if (!version.ok()) return {nullptr, version.error()};
  if (const Result<Nothing> put = imports_.Put(command.sha256, **version); !put.ok()) {
    return {nullptr, put.error()};
  }
  return {*version, std::nullopt};
}

// ---- Plans --------------------------------------------------------------------------------------

Executor::TenantPtr Executor::TenantOf(int32_t partition, const TenantId& id) {
  TenantPtr& tenant = partitions_[partition][id];
  if (!tenant)
    tenant = std::make_shared<TenantModels>(backend_, id, options_.adapters, checkpoints_);
  return tenant;
}

std::optional<Outcome> Executor::Submit(Sequence at, Plan plan,
                                        std::shared_ptr<const Outcome> recorded,
                                        std::function<void(Outcome)> done) {
  const MutexLock submitting(submit_mutex_);
  if (pool_.stopping()) return std::nullopt;
  if (plan.forgets) ForgetTexts(at.partition(), plan.outcome.tenant);
  if (!plan.generate && !plan.answer_of && plan.lessons.empty() && plan.retired.empty() &&
      plan.versions_dropped.empty()) {
    return std::move(plan.outcome);
  }
  const TenantId id = plan.outcome.tenant;
  const TenantPtr tenant = TenantOf(at.partition(), id);
  LaterPtr<GivenAnswer> answer;
  std::vector<LaterPtr<LessonDone>> lessons;
  if (plan.generate) {
    answer = SubmitGenerate(at, tenant, std::move(*plan.generate), recorded.get());
  } else if (plan.answer_of) {
    answer = tenant->AnswerOf(*plan.answer_of);
  }
  for (Lesson& lesson : plan.lessons) {
    lessons.push_back(SubmitLesson(at, id, tenant, std::move(lesson)));
  }
  for (const Sequence retired : plan.retired) tenant->DropAnswer(retired);
  for (const Version version : plan.versions_dropped) tenant->DropVersion(version);
  return WhenDone(std::move(plan), answer, lessons, std::move(done));
}

// The outcome once what it needs is there.
std::optional<Outcome> Executor::WhenDone(Plan plan, const LaterPtr<GivenAnswer>& answer,
                                          const std::vector<LaterPtr<LessonDone>>& lessons,
                                          std::function<void(Outcome)> done) {
  std::vector<LaterPtr<LessonDone>> earlier;  // done when what completes the outcome is
  const auto complete = [&](const auto& later) -> std::optional<Outcome> {
    const auto fill = [earlier](Outcome& outcome, const auto& value) {
      for (const LaterPtr<LessonDone>& lesson : earlier) Complete(outcome, lesson->Get());
      Complete(outcome, value);
    };
    if (const auto* value = later->Find()) {
      fill(plan.outcome, *value);
      return std::move(plan.outcome);
    }
    later->When([fill, outcome = std::move(plan.outcome),
                 done = std::move(done)](const auto& value) mutable {
      fill(outcome, value);
      done(std::move(outcome));
    });
    return std::nullopt;
  };
  if (answer) return complete(answer);
  if (lessons.empty()) return std::move(plan.outcome);
  // One after the other: with the last one all are done.
  const LaterPtr<LessonDone>& last = lessons.back();
  if (plan.waits_for_lessons) {
    for (auto lesson = lessons.begin(); lesson != std::prev(lessons.end()); ++lesson) {
      earlier.push_back(*lesson);
    }
    return complete(last);
  }
  if (lessons_left() > options_.lessons_waiting_max) {
    last->When([outcome = std::move(plan.outcome),
                done = std::move(done)](const LessonDone&) mutable { done(std::move(outcome)); });
    return std::nullopt;
  }
  return std::move(plan.outcome);
}

LaterPtr<GivenAnswer> Executor::SubmitGenerate(Sequence at, const TenantPtr& tenant,
                                               Generate generate, const Outcome* recorded) {
  const LaterPtr<GivenAnswer> answer = tenant->AddAnswer(at);
  if (recorded != nullptr && !WasTooLarge(*recorded)) {
    answer->Resolve(AnswerIn(*recorded));
    return answer;
  }
  const LaterPtr<Served> version = tenant->VersionOf(generate.adapter);
  version->When([=, this, owner = OwnWaiting(answer), waiting = std::weak_ptr(tenant),
                 forgets = tenant->forgets.load(),
                 generate = std::move(generate)](const Served& served) {
    const TenantPtr asking = waiting.lock();
    if (!asking) return;
    pool_.Enqueue(JobKind::kGenerate, asking.get(), at, [=, this](size_t slot) {
      (void)owner;  // until here
      const auto cancelled = [&] { return pool_.stopping() || asking->abandoned; };
      Asker asker;
      asker.tenant = asking->id;
      asker.cancelled = cancelled;
      asker.forgotten = [&] { return asking->abandoned || asking->forgets != forgets; };
      GivenAnswer given = GenerateNow(slot, at.partition(), generate, served, std::move(asker));
      if (cancelled()) return;
      if (given.error && given.error->code == Code::kUnavailable) {
        if (on_fatal_) on_fatal_(*given.error);
        return;
      }
      answer->Resolve(std::move(given));
    });
  });
  return answer;
}

GivenAnswer Executor::GenerateNow(size_t slot, int32_t partition, const Generate& generate,
                                  const Served& served, Asker asker) {
  const DurationMetrics::Timer timer(generate_metrics_);
  FaultPoint("generation");
  GivenAnswer given;
  given.digest = served.digest();
  if (on_text_) {
    asker.on_text = [&](std::string_view added) { on_text_(partition, generate.offset, added); };
  }
  Result<Completed> completed = backend_.Generate(slot, generate.chat, served.adapter.get(),
                                                  generate.decoding, generate.seed, asker);
  if (completed.ok()) {
    given.completed = std::move(*completed);
  } else {
    generate_metrics_.CountError();
    given.error = completed.error();
  }
  return given;
}

// Jobs of questions from before this one leave nothing behind either, whenever they end.
void Executor::ForgetTexts(int32_t partition, const TenantId& id) {
  const Tenants& tenants = partitions_[partition];
  if (const auto found = tenants.find(id); found != tenants.end()) ++found->second->forgets;
  backend_.ForgetTexts(id);
}

// ---- Lessons ------------------------------------------------------------------------------------

// A lesson on its way, from one of its jobs to the next.
struct Executor::Learning {
  Sequence at;
  TenantId id;
  Lesson lesson;
  LaterPtr<GivenAnswer> shown;
  LaterPtr<Served> parent, made;
  LaterPtr<LessonDone> done;
  std::shared_ptr<void> counted;                                   // until here
  std::pair<std::shared_ptr<void>, std::shared_ptr<void>> owners;  // of what waits for it
  bool begun = false;
};

LaterPtr<LessonDone> Executor::SubmitLesson(Sequence at, const TenantId& id,
                                            const TenantPtr& tenant, Lesson lesson) {
  const auto learning = std::make_shared<Learning>();
  const auto done = learning->done = std::make_shared<Later<LessonDone>>();
  learning->made = std::make_shared<Later<Served>>();
  const LaterPtr<LessonDone> before = tenant->Follow(done);
  tenant->LearnerChanges();

  learning->shown = std::make_shared<Later<GivenAnswer>>(GivenAnswer{});
  if (const auto* logged = std::get_if<LoggedExample>(&lesson.what)) {
    if (const auto* answer = std::get_if<Sequence>(&logged->shown)) {
      learning->shown = tenant->AnswerOf(*answer);
    } else {
      const std::string& text = std::get<std::string>(logged->shown);
      learning->shown =
          std::make_shared<Later<GivenAnswer>>(GivenAnswer{std::nullopt, {text, 0, 0}, ""});
    }
  }
  learning->parent = tenant->VersionOf(lesson.parent);
  if (lesson.step.makes) tenant->AddVersion(*lesson.step.makes, learning->made);
  learning->at = at;
  learning->id = id;
  learning->lesson = std::move(lesson);
  learning->counted = CountLesson();
  learning->owners = {OwnWaiting(learning->made), OwnWaiting(done)};
  before->When([this, learning, waiting = std::weak_ptr(tenant)](const LessonDone&) {
    learning->shown->When([=, this](const GivenAnswer&) {
      if (const TenantPtr learner = waiting.lock()) EnqueueLesson(learner, learning);
    });
  });
  return done;
}

// One job learns one lesson, so that other tenants' lessons have their turn, and a stop its end,
// between the many that a return may learn again.
void Executor::EnqueueLesson(const TenantPtr& tenant, const std::shared_ptr<Learning>& learning) {
  pool_.Enqueue(JobKind::kLearn, tenant.get(), learning->at, [=, this](size_t slot) {
    bool more = LearnOne(slot, *tenant, *learning);
    while (more && backend_.instant() && !pool_.stopping()) {
      more = LearnOne(slot, *tenant, *learning);
    }
    if (more && !backend_.instant()) EnqueueLesson(tenant, learning);
  });
}

// False: the lesson has come to its end, or nobody wants it any more.
bool Executor::LearnOne(size_t slot, TenantModels& tenant, Learning& learning) {
  if (tenant.abandoned) return false;
  const Lesson& lesson = learning.lesson;
  TenantAdapters& adapters = tenant.AdaptersOf(lesson.learner);
  const ParallelFor parallel_for = pool_.parallel_for(slot);
  LessonDone done;
  {
    const DurationMetrics::Timer timer(lesson_metrics_);
    FaultPoint("training");
    if (!std::exchange(learning.begun, true)) {
      const GivenAnswer& given = learning.shown->Get();
      adapters.Begin(LearningPlaceOf(learning.at), lesson,
                     given.error ? nullptr : &given.completed.text);
    }
    if (adapters.Behind()) adapters.LearnNext(parallel_for);
    if (adapters.Behind()) return true;
    // Versions that earlier lessons make are resolved by now, so the parent is there.
    done = adapters.End(lesson, learning.parent->Get(), parallel_for);
    if (done.error) lesson_metrics_.CountError();
  }
  if (tenant.abandoned) return false;
  WriteSnapshot(learning.id, lesson, done);
  const bool is_step = lesson.step.number != 0;
  const bool is_example = std::holds_alternative<LoggedExample>(lesson.what);
  const bool is_news = is_step && is_example && tenant.NoteEnd(done);
  if (on_lesson_ && is_step && !tenant.abandoned) {
    on_lesson_({learning.id, learning.at, lesson.step.number, done, is_news});
  }
  if (tenant.abandoned) return false;
  if (lesson.step.makes) learning.made->Resolve(done.serves);
  learning.done->Resolve(std::move(done));
  return false;
}

// If the lesson's step asks for one.
void Executor::WriteSnapshot(const TenantId& id, const Lesson& lesson, LessonDone& done) {
  if (!lesson.step.snapshot || !lesson.step.makes || !done.serves.adapter) return;
  if (options_.snapshot_folder.empty()) return;
  Result<SnapshotRef> snapshot = backend_.WriteSnapshot(options_.snapshot_folder, id,
                                                        *lesson.step.makes, *done.serves.adapter);
  if (snapshot.ok()) {
    done.snapshot = std::move(*snapshot);
  } else if (on_fatal_) {
    on_fatal_(snapshot.error());
  }
}

// The lesson counts as left for as long as the returned pointer lives: until it is learnt, or
// dropped.
std::shared_ptr<void> Executor::CountLesson() {
  {
    const MutexLock lock(lessons_mutex_);
    ++lessons_left_;
  }
  return {nullptr, [this](void*) {
            const MutexLock lock(lessons_mutex_);
            if (--lessons_left_ == 0) lessons_done_.NotifyAll();
          }};
}

bool Executor::WaitForLessons(std::chrono::milliseconds timeout) {
  const MutexLock lock(lessons_mutex_);
  return lessons_done_.WaitFor(lessons_mutex_, timeout,
                               [&]() REQUIRES(lessons_mutex_) { return lessons_left_ == 0; });
}

size_t Executor::lessons_left() {
  const MutexLock lock(lessons_mutex_);
  return lessons_left_;
}

// ---- For people ---------------------------------------------------------------------------------

std::vector<TenantView> Executor::TenantsOf(int32_t partition) {
  std::vector<TenantView> views;
  const MutexLock submitting(submit_mutex_);
  const auto found = partitions_.find(partition);
  if (found == partitions_.end()) return views;
  for (const auto& [id, tenant] : found->second) {
    const auto& versions = tenant->versions();
    if (named_.size() < kTenantsNamed) named_.insert(id);
    views.push_back({id, versions.empty() ? 0 : versions.rbegin()->first, versions.size(),
                     tenant->lessons(), named_.contains(id)});
  }
  return views;
}

std::shared_ptr<const AdapterVersion> Executor::Latest(int32_t partition, const TenantId& id) {
  const MutexLock submitting(submit_mutex_);
  const auto& versions = TenantOf(partition, id)->versions();
  if (versions.empty()) return nullptr;
  const Served* served = versions.rbegin()->second->Find();
  return served != nullptr ? served->adapter : nullptr;
}

// ---- State --------------------------------------------------------------------------------------

void Executor::AddBarrier(int32_t partition, std::shared_ptr<Barrier> barrier) {
  using Saved = std::function<void(Changes)>;
  const MutexLock submitting(submit_mutex_);
  if (pool_.stopping()) return;
  std::vector<std::function<void(Saved)>> parts;  // each tells its changes once they are known
  const auto add = [&](Change entry, const auto& later) {
    parts.push_back([entry = std::move(entry), later](Saved saved) {
      if (!later) return saved({entry});
      later->When([entry, saved = std::move(saved)](const auto& value) {
        saved({{entry.tenant, entry.kind, entry.id, Encode(value)}});
      });
    });
  };
  for (const auto& [id, tenant] : partitions_[partition]) {
    const TenantModels::Unsaved unsaved = tenant->TakeUnsaved();
    for (const auto& [version, made] : unsaved.versions) {
      add({id, kVersionKind, NumberName(version), std::nullopt}, made);
    }
    for (const auto& [at, answer] : unsaved.answers) {
      add({id, kAnswerKind, NumberName(at.value), std::nullopt}, answer);
    }
    if (!unsaved.learner) continue;
    parts.push_back(
        [=, this, kept = tenant](Saved saved) { SaveLearner(partition, kept, std::move(saved)); });
  }
  if (parts.empty()) return barrier->Add("executor", {});
  const auto joined = std::make_shared<JoinedChanges>(
      parts.size(), [barrier](Changes changes) { barrier->Add("executor", std::move(changes)); });
  for (size_t index = 0; index < parts.size(); ++index) {
    parts[index]([=](Changes changes) { joined->Fill(index, std::move(changes)); });
  }
}

// A job behind the tenant's lessons so far, and before those to come.
void Executor::SaveLearner(int32_t partition, const TenantPtr& tenant,
                           std::function<void(Changes)> saved) {
  const auto done = std::make_shared<Later<LessonDone>>();
  const LaterPtr<LessonDone> before = tenant->Follow(done);
  before->When([=, this, owner = OwnWaiting(done), waiting = std::weak_ptr(tenant),
                saved = std::move(saved)](const LessonDone&) {
    const TenantPtr learnt = waiting.lock();
    if (!learnt) return;
    pool_.Enqueue(JobKind::kLearn, learnt.get(), Sequence::Of(partition, 0), [=](size_t) {
      (void)owner;  // until here
      Changes changes;
      learnt->SaveLearners(changes);
      done->Resolve(LessonDone{});
      saved(std::move(changes));
    });
  });
}

void Executor::Abandon(int32_t partition) {
  Tenants tenants;  // destroyed without the lock
  {
    const MutexLock submitting(submit_mutex_);
    if (const auto found = partitions_.find(partition); found != partitions_.end()) {
      tenants = std::move(found->second);
      partitions_.erase(found);
    }
    for (const auto& [id, tenant] : tenants) {
      tenant->abandoned = true;
      backend_.ForgetTexts(id);
    }
  }
  pool_.Drop(partition);
}

Result<Nothing> Executor::Load(int32_t partition, const Change& entry) {
  const MutexLock submitting(submit_mutex_);
  const TenantPtr tenant = TenantOf(partition, entry.tenant);
  if (entry.kind == TenantAdapters::kLearnerKind || entry.kind == TenantAdapters::kJournalKind ||
      entry.kind == TenantAdapters::kImportKind || entry.kind == TenantAdapters::kResultKind) {
    return tenant->AdaptersOf(LearnerOfRow(entry.id)).Load(entry);
  }
  const std::optional<uint64_t> number = NumberOfName(entry.id);
  if (!number) return UnreadableEntry(entry);
  if (entry.kind == kAnswerKind) {
    Result<GivenAnswer> answer = DecodeAnswer(entry);
    if (!answer.ok()) return answer.error();
    tenant->Restore(Sequence{*number}, std::move(*answer));
  } else {
    Result<Served> served = DecodeServed(entry, backend_);
    if (!served.ok()) return served.error();
    tenant->Restore(static_cast<Version>(*number), std::move(*served));
  }
  return Nothing{};
}

}  // namespace nudge
