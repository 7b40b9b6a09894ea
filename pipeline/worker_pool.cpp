#include "pipeline/worker_pool.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace nudge {
namespace {

constexpr int kLingerSpins = 4000;  // ~50 us: the gap between two loops of a lesson
// The time that a lesson keeps its thread after it gave way to a job, so that it goes on under any
// load.
constexpr std::chrono::milliseconds kLessonTurn{20};

constexpr auto kLearnIndex = static_cast<size_t>(JobKind::kLearn);

}  // namespace

WorkerPool::WorkerPool(size_t threads, bool instant)
    : instant_(instant), turns_(threads), running_(threads) {
  for (size_t slot = 0; slot < threads; ++slot) {
    shares_.emplace_back([this, slot](int parts, const std::function<void(int)>& part) {
      Share(slot, parts, part);
    });
  }
  if (instant_) return;
  for (size_t slot = 0; slot < threads; ++slot) {
    threads_.emplace_back([this, slot] { Work(slot); });
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
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  std::array<std::deque<Job>, kJobKinds.size()> dropped;  // destroyed without the lock
  const MutexLock lock(mutex_);
  dropped.swap(queues_);
}

void WorkerPool::Enqueue(JobKind kind, Sequence at, Run run, bool beside_lessons) {
  if (instant_) {
    if (!stopping_) run(0);
    return;
  }
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    queues_[static_cast<size_t>(kind)].push_back({at, std::move(run), beside_lessons});
    CountUrgent();
  }
  ready_.NotifyOne();
}

void WorkerPool::Drop(int32_t partition) {
  std::vector<Job> dropped;  // destroyed without the lock: a job's end may take others
  const MutexLock lock(mutex_);
  for (std::deque<Job>& queue : queues_) {
    const auto theirs = std::stable_partition(queue.begin(), queue.end(), [&](const Job& job) {
      return job.at.partition() != partition;
    });
    std::move(theirs, queue.end(), std::back_inserter(dropped));
    queue.erase(theirs, queue.end());
  }
  CountUrgent();
}

void WorkerPool::Work(size_t slot) {
  const MutexLock lock(mutex_);
  while (!stopping_) {
    if (!RunJob(slot, kJobKinds.size()) && !Assist()) ready_.WaitOnce(mutex_);
  }
}

// Whether a job of this kind may begin now.
bool WorkerPool::MayRun(size_t kind) const {
  if (queues_[kind].empty()) return false;
  return kind != kLearnIndex || lessons_begun_ == 0 || queues_[kind].front().beside_lessons;
}

// Runs the first job of the first `kinds` kinds, without the lock. False: there is none.
bool WorkerPool::RunJob(size_t slot, size_t kinds) {
  size_t kind = 0;
  while (kind < kinds && !MayRun(kind)) ++kind;
  // A lesson begins before the answers that are queued, however many there are: once it runs it
  // takes turns with them, so that they hardly wait. Behind them it might never begin.
  if (kLearnIndex < kinds && lessons_begun_ == 0 && MayRun(kLearnIndex)) kind = kLearnIndex;
  if (kind == kinds) return false;
  Job job = std::move(queues_[kind].front());
  queues_[kind].pop_front();
  CountUrgent();
  const std::optional<RunningJob> interrupted = running_[slot];
  running_[slot] = {static_cast<JobKind>(kind), job.at, std::chrono::steady_clock::now()};
  const bool lesson = kind == kLearnIndex && !job.beside_lessons;
  if (lesson) ++lessons_begun_;
  mutex_.Unlock();
  job.run(slot);
  job.run = nullptr;
  mutex_.Lock();
  if (lesson) --lessons_begun_;
  running_[slot] = interrupted;
  return true;
}

void WorkerPool::CountUrgent() {
  urgent_.store(queues_[static_cast<size_t>(JobKind::kGenerate)].size() +
                    queues_[static_cast<size_t>(JobKind::kEmbedQuery)].size(),
                std::memory_order_relaxed);
}

// ---- A lesson's loops ---------------------------------------------------------------------------

// Runs one urgent job on a lesson's thread, between two parts of its loop, unless a free thread
// will take the job or it is the lesson's turn. A lesson uses no context of its slot, so the job
// may use them.
void WorkerPool::GiveWay(size_t slot) {
  if (std::chrono::steady_clock::now() < turns_[slot]) return;
  const MutexLock lock(mutex_);
  const auto free = std::count(running_.begin(), running_.end(), std::nullopt);
  if (stopping_ || urgent_ <= static_cast<size_t>(free)) return;
  if (RunJob(slot, kLearnIndex)) turns_[slot] = std::chrono::steady_clock::now() + kLessonTurn;
}

// Takes parts of a lesson's loop, if there is one. False: there was nothing to do.
bool WorkerPool::Assist() {
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
    if (urgent_.load(std::memory_order_relaxed) > 0) GiveWay(slot);
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
  std::array<size_t, kJobKinds.size()> waiting{};
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < waiting.size(); ++i) waiting[i] = queues_[i].size();
  return waiting;
}

}  // namespace nudge
