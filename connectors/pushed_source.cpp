#include "connectors/pushed_source.h"

#include <utility>

namespace nudge {

void PushedSource::Push(Record record) {
  const MutexLock lock(mutex_);
  records_.push_back(std::move(record));
  changed_.NotifyAll();
}

void PushedSource::Close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

Result<Source::Pull> PushedSource::Next(Record& record, std::chrono::milliseconds timeout) {
  if (!assigned_ && listener_ != nullptr) {
    const int32_t partition = 0;
    if (const Result<Nothing> assigned = listener_->Assigned({&partition, 1}); !assigned.ok()) {
      return assigned.error();
    }
  }
  assigned_ = true;
  const MutexLock lock(mutex_);
  changed_.WaitFor(mutex_, timeout,
                   [&]() REQUIRES(mutex_) { return !paused_ && (closed_ || !records_.empty()); });
  if (paused_) return Pull::kNothing;
  if (records_.empty()) return closed_ ? Pull::kEnd : Pull::kNothing;
  record = std::move(records_.front());
  records_.pop_front();
  return Pull::kRecord;
}

Result<Nothing> PushedSource::Seek(int32_t, int64_t offset) {
  const MutexLock lock(mutex_);
  while (!records_.empty() && records_.front().offset < offset) records_.pop_front();
  return Nothing{};
}

void PushedSource::SetPaused(bool paused) {
  const MutexLock lock(mutex_);
  paused_ = paused;
  changed_.NotifyAll();
}

}  // namespace nudge
