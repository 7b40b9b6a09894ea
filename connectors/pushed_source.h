// A source whose records are pushed by the program itself: what is typed, what simulated people do.
//
//   Record -> Push -> [PushedSource] -> Processor
//
// One partition, 0; the offsets are the caller's, ascending. Next, Seek and the pauses: the
// processor's thread; Push and Close: any.
#pragma once

#include <deque>

#include "connectors/source.h"
#include "stages/guarded.h"

namespace nudge {

class PushedSource final : public Source {
 public:
  void Push(Record record);
  void Close();  // no record follows

  void Listen(PartitionListener& listener) override { listener_ = &listener; }
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override;

  // Forward only: what was taken is gone.
  Result<Nothing> Seek(int32_t partition, int64_t offset) override;
  void Pause(int32_t) override { SetPaused(true); }
  void Resume(int32_t) override { SetPaused(false); }

 private:
  void SetPaused(bool paused);

  PartitionListener* listener_ = nullptr;
  bool assigned_ = false;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Record> records_ GUARDED_BY(mutex_);
  bool paused_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace nudge
