#include "pipeline/outbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace nudge {
namespace {

// Under load lines are gathered this long, so that a write and a wake-up are not paid for each; an
// outcome that comes later than this after the last write is written at once.
constexpr std::chrono::microseconds kBetweenWrites{500};

// After the sink said that partitions are not this process's any more: the source tells which.
constexpr std::chrono::milliseconds kUntilToldWhose{20};

}  // namespace

Outbox::Outbox(Sink& sink, StateStore* state, Credits& credits,
               std::function<void(const OutcomeLine&)> on_outcome,
               std::function<void(const Error&)> on_fatal)
    : sink_(sink),
      state_(state),
      credits_(credits),
      on_outcome_(std::move(on_outcome)),
      on_fatal_(std::move(on_fatal)),
      thread_([this] { Work(); }) {}

Outbox::~Outbox() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Outbox::Start(int32_t partition, uint64_t events, int64_t next_offset) {
  const std::lock_guard lock(mutex_);
  saved_events_[partition] = events;
  next_offsets_[partition] = next_offset;
  positions_[partition] = {next_offset, next_offset};
}

void Outbox::Add(Entry entry) {
  {
    const std::lock_guard lock(mutex_);
    ++added_;
    entries_.push_back(std::move(entry));
    if (entries_.size() > 1) return;  // the thread was told of the first
  }
  changed_.notify_all();
}

void Outbox::AddCut(Cut cut) {
  {
    const std::lock_guard lock(mutex_);
    ++added_;
    cuts_.push_back(std::move(cut));
  }
  changed_.notify_all();
}

bool Outbox::Flush(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  ++flushing_;
  changed_.notify_all();
  const uint64_t target = added_;
  changed_.wait_for(lock, timeout, [&] { return failed_ || written_ >= target; });
  --flushing_;
  return written_ >= target;
}

Outbox::Pause::Pause(Outbox& outbox) : outbox_(outbox) {
  std::unique_lock lock(outbox_.mutex_);
  ++outbox_.pauses_;
  outbox_.changed_.wait(lock, [&] { return !outbox_.writing_; });
}

Outbox::Pause::~Pause() {
  {
    const std::lock_guard lock(outbox_.mutex_);
    --outbox_.pauses_;
  }
  outbox_.changed_.notify_all();
}

void Outbox::Drop(int32_t partition) {
  const std::lock_guard lock(mutex_);
  for (std::vector<Entry>* entries : {&entries_, &sent_}) {
    std::erase_if(*entries, [&](const Entry& entry) { return entry.line.partition == partition; });
  }
  for (std::vector<Cut>* cuts : {&cuts_, &waiting_}) {
    std::erase_if(*cuts, [&](const Cut& cut) { return cut.partition == partition; });
  }
  saved_events_.erase(partition);
  next_offsets_.erase(partition);
  positions_.erase(partition);
  if (entries_.empty() && cuts_.empty() && sent_.empty()) written_ = added_;
  sink_.Drop(partition);
}

Outbox::Progress Outbox::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

std::map<int32_t, Outbox::Position> Outbox::positions() const {
  const std::lock_guard lock(mutex_);
  return positions_;
}

void Outbox::Work() {
  auto next_write = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (true) {
    const auto work = [&] {
      return pauses_ == 0 && (!entries_.empty() || !cuts_.empty() || !sent_.empty());
    };
    changed_.wait(lock, [&] { return stopping_ || work(); });
    changed_.wait_until(lock, next_write, [&] { return stopping_ || flushing_ > 0; });
    if (stopping_) return;
    if (!work()) continue;
    std::vector<Entry> fresh;
    fresh.swap(entries_);
    std::move(cuts_.begin(), cuts_.end(), std::back_inserter(waiting_));
    cuts_.clear();
    writing_ = true;
    const uint64_t taken = added_;
    lock.unlock();

    Result<Nothing> written = Write(std::move(fresh));
    if (written.ok()) written = WriteCuts();
    const bool not_owner = !written.ok() && written.error().code == Code::kNotOwner;
    next_write = std::chrono::steady_clock::now() + (not_owner ? kUntilToldWhose : kBetweenWrites);

    lock.lock();
    writing_ = false;
    if (written.ok()) {
      Count();
      written_ = taken;
      sent_.clear();
    } else if (!not_owner) {
      failed_ = true;
      changed_.notify_all();
      lock.unlock();
      on_fatal_(written.error());
      return;
    }
    changed_.notify_all();
  }
}

void Outbox::Count() {
  for (const Entry& entry : sent_) {
    ++progress_.outcomes;
    if (entry.line.kind == OutcomeKind::kResponse) ++progress_.responses;
    if (entry.line.kind == OutcomeKind::kApplied) ++progress_.receipts;
    if (entry.line.kind == OutcomeKind::kDeadLetter) ++progress_.dead_letters;
  }
  for (auto& [partition, position] : positions_) position.committed = next_offsets_[partition];
}

// Cuts are complete in any order (a later one may have fewer lessons to wait for), but each holds
// only what changed since the one before, so they are written in the log's order.
Result<Nothing> Outbox::WriteCuts() {
  for (size_t i = 0; i < waiting_.size();) {
    const Cut& cut = waiting_[i];
    if (cut.follows != saved_events_[cut.partition] ||
        cut.next_offset > next_offsets_[cut.partition]) {
      ++i;
      continue;
    }
    if (state_ != nullptr) {
      if (Result<Nothing> written = state_->Write(cut); !written.ok()) return written;
    }
    saved_events_[cut.partition] = cut.events;
    {
      const std::lock_guard lock(mutex_);
      positions_[cut.partition].saved = cut.next_offset;
    }
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    i = 0;  // one that waited for it may stand before it
  }
  return Nothing{};
}

// Appends what is fresh, commits all that is sent, returns the credits. An error keeps `sent_`,
// which the sink keeps too.
Result<Nothing> Outbox::Write(std::vector<Entry> fresh) {
  for (Entry& entry : fresh) {
    if (entry.commit) {
      if (Result<Nothing> appended = sink_.Append(entry.line); !appended.ok()) return appended;
    }
    sent_.push_back(std::move(entry));
  }
  const auto to_commit = [](const Entry& entry) { return entry.commit; };
  if (std::any_of(sent_.begin(), sent_.end(), to_commit)) {
    const DurationMetrics::Timer timer(commit_metrics_);
    if (Result<Nothing> committed = sink_.Commit(); !committed.ok()) return committed;
  }
  std::map<int32_t, std::pair<uint64_t, uint64_t>> returned;  // partition -> events, bytes
  for (const Entry& entry : sent_) {
    auto& [events, bytes] = returned[entry.line.partition];
    ++events;
    bytes += entry.credit_bytes;
    next_offsets_[entry.line.partition] = entry.line.offset + 1;
    if (on_outcome_) on_outcome_(entry.line);
  }
  for (const auto& [partition, used] : returned) {
    credits_.Return(partition, used.first, used.second);
  }
  return Nothing{};
}

}  // namespace nudge
