#include "pipeline/outbox.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace nudge {
namespace {

// Lines are gathered this long, so that a write and a wake-up are not paid for each; an outcome
// that comes later than this after the last write is written at once.
constexpr std::chrono::microseconds kBetweenWrites{500};

// A write of kManyLines or more says that there is load. A transaction then costs more time than it
// saves, so lines are gathered for as long as the write took, or until there are kEnoughLines.
constexpr size_t kManyLines = 1'000;
constexpr size_t kEnoughLines = 4'096;
constexpr std::chrono::microseconds kLongestGathering{50'000};

// Entries that a joined cut may hold twice, beyond as many as it has: so tidying costs little for
// each entry that is added.
constexpr size_t kTwice = 1'000;

// The wait after the sink's kNotOwner: within it the source tells which partitions are lost.
constexpr std::chrono::milliseconds kUntilToldWhose{20};

// Without anything to write for so long the sink may rest.
constexpr std::chrono::milliseconds kUntilRest{1'000};

std::chrono::steady_clock::time_point NextWrite(std::chrono::steady_clock::time_point begun,
                                                bool is_load, bool not_owner) {
  const auto now = std::chrono::steady_clock::now();
  if (not_owner) return now + kUntilToldWhose;
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(now - begun);
  return now + (is_load ? std::clamp(took, kBetweenWrites, kLongestGathering) : kBetweenWrites);
}

}  // namespace

Outbox::Outbox(Sink& sink, StateStore* state, Credits& credits,
               std::function<void(const OutcomeLine&)> on_outcome,
               std::function<void(const Error&)> on_fatal)
    : sink_(sink),
      state_(state),
      credits_(credits),
      on_outcome_(std::move(on_outcome)),
      on_fatal_(std::move(on_fatal)),
      outcomes_thread_([this] { WriteOutcomes(); }),
      cuts_thread_([this] { WriteCuts(); }) {}

Outbox::~Outbox() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  WakeAll();
  outcomes_thread_.join();
  cuts_thread_.join();
}

void Outbox::Start(int32_t partition, uint64_t events, int64_t next_offset) {
  const MutexLock lock(mutex_);
  saved_events_[partition] = begun_events_[partition] = events;
  positions_[partition] = {next_offset, next_offset};
}

void Outbox::Add(Entry entry) {
  {
    const MutexLock lock(mutex_);
    ++added_;
    entries_.push_back(std::move(entry));
    if (entries_.size() != 1 && entries_.size() != kEnoughLines) return;  // it was woken before
  }
  outcomes_changed_.NotifyOne();
}

void Outbox::AddCut(Cut cut) {
  ENSURE(cut.events > cut.follows);  // or it would follow itself
  {
    const MutexLock lock(mutex_);
    if (!positions_.contains(cut.partition)) return;  // it was dropped meanwhile
    const int32_t partition = cut.partition;
    cuts_.push_back({std::move(cut)});
    JoinCuts(partition);
  }
  cuts_changed_.NotifyOne();
}

bool Outbox::Flush(std::chrono::milliseconds timeout) {
  const MutexLock lock(mutex_);
  ++flushing_;
  outcomes_changed_.NotifyOne();
  const uint64_t target = added_;
  const auto is_written = [&]() REQUIRES(mutex_) {
    return written_ >= target && !cutting_ && NextCut() == cuts_.end();
  };
  done_.WaitFor(mutex_, timeout, [&]() REQUIRES(mutex_) { return failed_ || is_written(); });
  --flushing_;
  return !failed_ && is_written();
}

bool Outbox::WaitUntilSaved(int32_t partition, uint64_t events, std::chrono::milliseconds timeout) {
  const MutexLock lock(mutex_);
  const auto is_saved = [&]() REQUIRES(mutex_) {
    const auto saved = saved_events_.find(partition);
    return saved != saved_events_.end() && saved->second >= events;
  };
  done_.WaitFor(mutex_, timeout, [&]() REQUIRES(mutex_) { return failed_ || is_saved(); });
  return is_saved();
}

Outbox::Pause::Pause(Outbox& outbox) : outbox_(outbox) {
  const MutexLock lock(outbox_.mutex_);
  ++outbox_.pauses_;
  outbox_.done_.Wait(outbox_.mutex_, [&]() REQUIRES(outbox_.mutex_) {
    return !outbox_.writing_ && !outbox_.cutting_;
  });
}

Outbox::Pause::~Pause() {
  {
    const MutexLock lock(outbox_.mutex_);
    --outbox_.pauses_;
  }
  outbox_.WakeAll();
}

void Outbox::Drop(int32_t partition) {
  const MutexLock lock(mutex_);
  for (std::vector<Entry>* entries : {&entries_, &sent_}) {
    std::erase_if(*entries, [&](const Entry& entry) { return entry.line.partition == partition; });
  }
  std::erase_if(cuts_, [&](const auto& waiting) { return waiting.cut.partition == partition; });
  saved_events_.erase(partition);
  begun_events_.erase(partition);
  positions_.erase(partition);
  if (entries_.empty() && sent_.empty()) written_ = added_;
  sink_.Drop(partition);
}

OutcomeCounts Outbox::progress() const {
  const MutexLock lock(mutex_);
  return progress_;
}

std::map<int32_t, Outbox::Position> Outbox::positions() const {
  const MutexLock lock(mutex_);
  return positions_;
}

void Outbox::WakeAll() {
  outcomes_changed_.NotifyOne();
  cuts_changed_.NotifyOne();
  done_.NotifyAll();
}

int64_t Outbox::Committed(int32_t partition) const {
  const auto found = positions_.find(partition);
  return found == positions_.end() ? 0 : found->second.committed;
}

// ---- Outcomes -----------------------------------------------------------------------------------

void Outbox::WriteOutcomes() {
  pthread_setname_np(pthread_self(), "outbox");
  auto next_write = std::chrono::steady_clock::now();
  MutexLock lock(mutex_);
  while (true) {
    if (!outcomes_changed_.WaitFor(mutex_, kUntilRest, [&]() REQUIRES(mutex_) {
          return stopping_ || failed_ || IsOutcomeWork();
        })) {
      Rest();
      continue;
    }
    outcomes_changed_.WaitUntil(mutex_, next_write, [&]() REQUIRES(mutex_) {
      return stopping_ || failed_ || flushing_ > 0 || entries_.size() >= kEnoughLines;
    });
    if (stopping_ || failed_) return;
    if (!IsOutcomeWork()) continue;
    std::vector<Entry> fresh = std::exchange(entries_, {});
    std::vector<Entry> sent = std::exchange(sent_, {});
    writing_ = true;
    const uint64_t taken = added_;
    const bool is_load = fresh.size() >= kManyLines;
    lock.Unlock();

    const auto begun = std::chrono::steady_clock::now();
    const Result<Nothing> written = Write(std::move(fresh), sent);
    const bool not_owner = !written.ok() && written.error().code == Code::kNotOwner;
    next_write = NextWrite(begun, is_load, not_owner);

    lock.Lock();
    writing_ = false;
    if (written.ok()) {
      CountCommitted(sent);
      written_ = taken;
    } else if (not_owner) {
      sent_ = std::exchange(sent, {});
    } else {
      const bool is_first = Fail();
      lock.Unlock();
      if (is_first) on_fatal_(written.error());
      return;
    }
    lock.Unlock();
    cuts_changed_.NotifyOne();
    done_.NotifyAll();
    sent.clear();  // freed without the lock
    lock.Lock();
  }
}

// What is there to write, and may be written now.
bool Outbox::IsOutcomeWork() {
  return pauses_ == 0 && (!entries_.empty() || !sent_.empty()) && !CutsAreBehind();
}

// Lets the sink do what it leaves to a quiet moment.
void Outbox::Rest() {
  if (pauses_ > 0 || !entries_.empty() || !sent_.empty()) return;
  writing_ = true;
  mutex_.Unlock();
  sink_.Rest();
  mutex_.Lock();
  writing_ = false;
  done_.NotifyAll();
}

// Appends what is fresh, commits all that is sent, returns the credits. An error keeps `sent`,
// which the sink keeps too.
Result<Nothing> Outbox::Write(std::vector<Entry> fresh, std::vector<Entry>& sent) {
  for (const Entry& entry : fresh) {
    if (!entry.commit) continue;
    if (Result<Nothing> appended = sink_.Append(entry.line); !appended.ok()) return appended;
  }
  if (sent.empty()) {
    sent = std::move(fresh);
  } else {
    std::move(fresh.begin(), fresh.end(), std::back_inserter(sent));
  }
  const auto to_commit = [](const Entry& entry) { return entry.commit; };
  if (std::any_of(sent.begin(), sent.end(), to_commit)) {
    const DurationMetrics::Timer timer(commit_metrics_);
    if (Result<Nothing> committed = sink_.Commit(); !committed.ok()) return committed;
  }
  std::map<int32_t, std::pair<uint64_t, uint64_t>> returned;  // partition -> events, bytes
  for (const Entry& entry : sent) {
    auto& [events, bytes] = returned[entry.line.partition];
    ++events;
    bytes += entry.credit_bytes;
    if (on_outcome_) on_outcome_(entry.line);
  }
  for (const auto& [partition, used] : returned) {
    credits_.Return(partition, used.first, used.second);
  }
  return Nothing{};
}

// What was sent is committed.
void Outbox::CountCommitted(const std::vector<Entry>& sent) {
  for (const Entry& entry : sent) {
    ++progress_.outcomes;
    if (entry.line.kind == OutcomeKind::kResponse) ++progress_.responses;
    if (entry.line.kind == OutcomeKind::kApplied) ++progress_.receipts;
    if (entry.line.kind == OutcomeKind::kDeadLetter) ++progress_.dead_letters;
    const auto position = positions_.find(entry.line.partition);
    if (position != positions_.end()) position->second.committed = entry.line.offset + 1;
  }
}

// ---- Cuts ---------------------------------------------------------------------------------------

void Outbox::WriteCuts() {
  pthread_setname_np(pthread_self(), "cuts");
  MutexLock lock(mutex_);
  while (true) {
    auto next = cuts_.end();
    bool may_write = false;
    cuts_changed_.Wait(mutex_, [&]() REQUIRES(mutex_) {
      next = pauses_ == 0 ? NextCut() : cuts_.end();
      may_write = next != cuts_.end();
      if (pauses_ == 0 && !may_write) next = NextToTidy();
      return stopping_ || failed_ || next != cuts_.end();
    });
    if (stopping_ || failed_) return;
    WaitingCut taken = std::move(*next);
    Cut& cut = taken.cut;
    cuts_.erase(next);
    cutting_ = true;
    if (may_write) begun_events_[cut.partition] = cut.events;
    lock.Unlock();
    if (taken.joined) DropOverwritten(cut.changes);
    Result<Nothing> written = Nothing{};
    if (may_write && state_ != nullptr) written = state_->Write(cut);
    lock.Lock();
    cutting_ = false;
    if (!written.ok()) {
      const bool is_first = Fail();
      lock.Unlock();
      if (is_first) on_fatal_(written.error());
      return;
    }
    if (may_write) {
      saved_events_[cut.partition] = cut.events;
      positions_[cut.partition].saved = cut.next_offset;
    } else {
      const int32_t partition = cut.partition;
      taken.distinct = cut.changes.size();
      cuts_.push_back(std::move(taken));
      JoinCuts(partition);
    }
    outcomes_changed_.NotifyOne();
    done_.NotifyAll();
  }
}

// The complete cut of the partition that follows the one after `events`.
std::list<Outbox::WaitingCut>::iterator Outbox::Follower(int32_t partition, uint64_t events) {
  return std::find_if(cuts_.begin(), cuts_.end(), [&](const WaitingCut& waiting) {
    return waiting.cut.partition == partition && waiting.cut.follows == events;
  });
}

// Makes one cut of those that follow each other and wait for one that is not complete. Those that
// only wait for the disk or for their outcomes stay as they are: commits wait for them.
void Outbox::JoinCuts(int32_t partition) {
  uint64_t in_line = begun_events_[partition];
  for (auto next = Follower(partition, in_line); next != cuts_.end();
       next = Follower(partition, in_line)) {
    in_line = next->cut.events;
  }
  for (WaitingCut& waiting : cuts_) {
    if (waiting.cut.partition != partition || waiting.cut.follows <= in_line) continue;
    for (auto later = Follower(partition, waiting.cut.events); later != cuts_.end();
         later = Follower(partition, waiting.cut.events)) {
      Extend(waiting.cut, std::move(later->cut));
      waiting.joined = true;
      cuts_.erase(later);
    }
  }
}

// A joined cut that holds too much twice.
std::list<Outbox::WaitingCut>::iterator Outbox::NextToTidy() {
  return std::find_if(cuts_.begin(), cuts_.end(), [](const WaitingCut& waiting) {
    return waiting.joined && waiting.cut.changes.size() > 2 * waiting.distinct + kTwice;
  });
}

// The next cut that may be written. A later cut may be complete first, since it may have fewer
// lessons to wait for. But a cut holds only what changed since the cut before, so cuts are written
// in the log's order.
std::list<Outbox::WaitingCut>::iterator Outbox::NextCut() {
  return std::find_if(cuts_.begin(), cuts_.end(), [&](const WaitingCut& waiting) REQUIRES(mutex_) {
    const Cut& cut = waiting.cut;
    return cut.follows == saved_events_[cut.partition] &&
           cut.next_offset <= Committed(cut.partition);
  });
}

// A cut is as large as what changed, so commits wait while two cuts of one partition wait for the
// disk. A cut may also wait behind an incomplete one, whose lessons are still being learnt: then
// there is nothing to write, and commits go on.
bool Outbox::CutsAreBehind() {
  if (!cutting_ && NextCut() == cuts_.end()) return false;
  std::map<int32_t, int> ready;
  return std::any_of(cuts_.begin(), cuts_.end(), [&](const WaitingCut& waiting) REQUIRES(mutex_) {
    const Cut& cut = waiting.cut;
    return cut.next_offset <= Committed(cut.partition) && ++ready[cut.partition] > 1;
  });
}

// Nothing is begun any more. True: `on_fatal` was not told yet.
bool Outbox::Fail() {
  const bool is_first = !std::exchange(failed_, true);
  WakeAll();
  return is_first;
}

}  // namespace nudge
