#include "pipeline/worker_pool.h"

#include <algorithm>
#include <utility>

namespace nudge {
namespace {

constexpr int kLingerSpins = 4000;  // ~50 us: the gap between two loops of a lesson
// The time that a lesson keeps its thread after it gave way to a job, so that it goes on under any
// load.
constexpr std::chrono::milliseconds kLessonTurn{20};

// How long a document waits for a lesson. Then the lesson gives way to it too, and keeps its thread
// afterwards for as long as that took: a document may be long, and many may come.
constexpr std::chrono::seconds kDocumentPatience{1};

}  // namespace

WorkerPool::WorkerPool(size_t threads, bool instant, size_t waiters)
    : instant_(instant), has_waiters_(waiters > 0), turns_(threads), running_(threads + waiters) {
  for (size_t slot = 0; slot < threads; ++slot) {
    shares_.emplace_back([this, slot](int parts, const std::function<void(int)>& part) {
      Share(slot, parts, part);
    });
  }
  if (instant_) return;
  for (size_t slot = 0; slot < threads; ++slot) {
    threads_.emplace_back([this, slot] { Work(slot); });
  }
  for (size_t slot = threads; slot < threads + waiters; ++slot) {
    threads_.emplace_back([this, slot] { WaitForAnswers(slot); });
  }
}

WorkerPool::~WorkerPool() {
  Stop();
}

void WorkerPool::Stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  ready_.NotifyAll();
  asked_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  Queue jobs, lessons, answers;  // destroyed without the lock
  const MutexLock lock(mutex_);
  std::swap(jobs, jobs_);
  std::swap(lessons, lessons_);
  std::swap(answers, answers_);
}

void WorkerPool::Enqueue(JobKind kind, const void* tenant, Sequence at, Run run) {
  if (instant_) {
    if (!stopping_) run(0);
    return;
  }
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    QueueOf(kind).Put({kind, at.partition(), tenant}, {kind, at, std::move(run), Clock::now()});
    Count(kind, 1);
  }
  (kind == JobKind::kGenerate && has_waiters_ ? asked_ : ready_).NotifyOne();
}

WorkerPool::Queue& WorkerPool::QueueOf(JobKind kind) {
  if (kind == JobKind::kLearn) return lessons_;
  return kind == JobKind::kGenerate && has_waiters_ ? answers_ : jobs_;
}

void WorkerPool::Drop(int32_t partition) {
  const auto is_theirs = [&](const Job& job) { return job.at.partition() == partition; };
  // Destroyed without the lock: a job's end may take others.
  std::vector<Job> jobs, lessons, answers;
  const MutexLock lock(mutex_);
  jobs = jobs_.Drop(is_theirs);
  lessons = lessons_.Drop(is_theirs);
  answers = answers_.Drop(is_theirs);
  for (const std::vector<Job>* dropped : {&jobs, &lessons, &answers}) {
    for (const Job& job : *dropped) Count(job.kind, -1);
  }
}

void WorkerPool::Work(size_t slot) {
  const MutexLock lock(mutex_);
  while (!stopping_) {
    if (!RunJob(slot, true) && !Assist()) ready_.WaitOnce(mutex_);
  }
}

void WorkerPool::WaitForAnswers(size_t slot) {
  const MutexLock lock(mutex_);
  while (!stopping_) {
    if (answers_.empty()) {
      asked_.WaitOnce(mutex_);
      continue;
    }
    ++answering_;
    RunFirst(answers_, slot);
    --answering_;
  }
}

// A lesson begins before all else that is queued, however much that is: once it runs it takes turns
// with the others, and behind them it might never begin. But lessons that follow each other do not
// keep the others out.
bool WorkerPool::LessonIsNext() const {
  if (lessons_.empty() || (others_turn_ && !jobs_.empty())) return false;
  return !has_lesson_;
}

// Runs the next job without the lock, and says of which kind it was. Nothing: none may begin.
std::optional<JobKind> WorkerPool::RunJob(size_t slot, bool lessons_too) {
  const bool is_lesson = lessons_too && LessonIsNext();
  Queue& queue = is_lesson ? lessons_ : jobs_;
  if (queue.empty()) return std::nullopt;
  others_turn_ = is_lesson;
  if (is_lesson) has_lesson_ = true;
  const JobKind kind = RunFirst(queue, slot);
  if (is_lesson) has_lesson_ = false;
  return kind;
}

JobKind WorkerPool::RunFirst(Queue& queue, size_t slot) {
  auto [flow, job] = queue.Take();
  Count(job.kind, -1);
  const auto begun = Clock::now();
  const std::optional<RunningJob> interrupted = running_[slot];
  running_[slot] = {job.kind, job.at, begun};
  mutex_.Unlock();
  job.run(slot);
  job.run = nullptr;
  mutex_.Lock();
  running_[slot] = interrupted;
  // Lessons take equal turns, however long each is: a tenant's next one waits for one of each other
  // tenant, and not for as many as are as long together.
  const bool is_lesson = &queue == &lessons_;
  queue.Charge(flow, is_lesson ? Queue::kLongestTurn : Clock::now() - begun);
  return job.kind;
}

void WorkerPool::Count(JobKind kind, int change) {
  queued_[static_cast<size_t>(kind)] += static_cast<size_t>(change);
  others_.store(jobs_.size(), std::memory_order_relaxed);
  const size_t answers = has_waiters_ ? 0 : queued_[static_cast<size_t>(JobKind::kGenerate)];
  urgent_.store(answers + queued_[static_cast<size_t>(JobKind::kEmbedQuery)],
                std::memory_order_relaxed);
}

// ---- A lesson's loops ---------------------------------------------------------------------------

// Runs one job on a lesson's thread, between two parts of its loop, if an answer or a query waits
// for it or a document has waited long: the next of the rounds, so that each gets its turn here
// too. Not if a free thread will take the job, and not while it is the lesson's turn. A lesson uses
// no context of its slot, so the job may use them.
void WorkerPool::GiveWay(size_t slot) {
  const auto begun = Clock::now();
  if (begun < turns_[slot]) return;
  const MutexLock lock(mutex_);
  const auto behind = running_.begin() + static_cast<std::ptrdiff_t>(turns_.size());
  const auto free = static_cast<size_t>(std::count(running_.begin(), behind, std::nullopt));
  if (stopping_ || jobs_.size() <= free) return;
  if (urgent_ <= free && begun - jobs_.First().since < kDocumentPatience) return;
  const std::optional<JobKind> ran = RunJob(slot, false);
  const auto end = Clock::now();
  turns_[slot] = end + kLessonTurn;
  if (ran == JobKind::kEmbedDocument) turns_[slot] = std::max(turns_[slot], end + (end - begun));
}

// Takes parts of a lesson's loop, if there is one and no answer is computed beside these threads.
// False: there was nothing to do.
bool WorkerPool::Assist() {
  if (answering_ > 0) return false;
  const std::shared_ptr<Shared> shared = shared_;
  if (!shared || shared->next.load(std::memory_order_relaxed) >= shared->parts) return false;
  mutex_.Unlock();
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
  mutex_.Lock();
  return true;
}

void WorkerPool::Share(size_t slot, int parts, const std::function<void(int)>& part) {
  const auto shared = std::make_shared<Shared>();
  shared->parts = parts;
  shared->part = &part;
  bool mine = false;
  if (parts > 1 && shares_.size() > 1) {
    const MutexLock lock(mutex_);
    mine = shared_ == nullptr;  // another tenant's lesson may be sharing: then this one runs alone
    if (mine) {
      shared->number = shares_begun_.load(std::memory_order_relaxed) + 1;
      shared_ = shared;
      shares_begun_.store(shared->number, std::memory_order_relaxed);
    }
  }
  if (mine) ready_.NotifyAll();
  int finished = 0;
  for (int i; (i = shared->next.fetch_add(1)) < parts;) {
    if (others_.load(std::memory_order_relaxed) > 0) GiveWay(slot);
    part(i);
    ++finished;
  }
  if (!mine) return;
  {
    const MutexLock lock(mutex_);
    shared_ = nullptr;
  }
  int done = shared->done.fetch_add(finished) + finished;
  while (done < parts) {
    shared->done.wait(done);
    done = shared->done.load();
  }
}

// ---- For people ---------------------------------------------------------------------------------

std::vector<RunningJob> WorkerPool::running() const {
  std::vector<RunningJob> running;
  const MutexLock lock(mutex_);
  for (const std::optional<RunningJob>& job : running_) {
    if (job) running.push_back(*job);
  }
  return running;
}

std::array<size_t, kJobKinds.size()> WorkerPool::waiting() const {
  const MutexLock lock(mutex_);
  return queued_;
}

}  // namespace nudge
