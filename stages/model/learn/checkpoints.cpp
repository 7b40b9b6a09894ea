#include "stages/model/learn/checkpoints.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <utility>

#include "stages/log.h"

namespace nudge {

std::optional<SpillFile::Ticket> CheckpointFile::Put(std::string_view bytes) {
  const MutexLock lock(mutex_);
  if (!file_ && !failed_) {
    std::error_code ignored;
    const std::string folder =
        folder_.empty() ? std::filesystem::temp_directory_path(ignored).string() : folder_;
    Result<SpillFile> opened = SpillFile::Open(folder);
    if (opened.ok()) file_.emplace(std::move(*opened));
    failed_ = !opened.ok();
    if (failed_) {
      Log(LogLevel::kWarning, opened.error().message +
                                  ": no checkpoints of learners are kept, so that a rollback or a "
                                  "forget learns every lesson again");
    }
  }
  if (!file_) return std::nullopt;
  Result<SpillFile::Ticket> put = file_->Put(bytes);
  return put.ok() ? std::optional(*put) : std::nullopt;
}

std::optional<std::string> CheckpointFile::Read(const SpillFile::Ticket& ticket) {
  const MutexLock lock(mutex_);
  Result<std::string> read = file_->Read(ticket);
  return read.ok() ? std::optional(std::move(*read)) : std::nullopt;
}

void CheckpointFile::Free(const SpillFile::Ticket& ticket) {
  const MutexLock lock(mutex_);
  file_->Free(ticket);
}

void CheckpointRoom::Thin() {
  const auto largest = std::max_element(
      sharing_.begin(), sharing_.end(),
      [](const Checkpoints* one, const Checkpoints* other) { return one->bytes_ < other->bytes_; });
  (*largest)->Thin();
}

Checkpoints::Checkpoints(CheckpointRoom& room) : room_(room) {
  room_.sharing_.push_back(this);
}

Checkpoints::~Checkpoints() {
  while (!kept_.empty()) Erase(kept_.begin()->first);
  std::erase(room_.sharing_, this);
}

void Checkpoints::Put(LearningPlace place, uint64_t learnt, std::string_view saved) {
  Erase(place);
  if (saved.size() > room_.bytes_max_) return;
  const std::optional<SpillFile::Ticket> ticket = room_.file_.Put(saved);
  if (!ticket) return;
  kept_[place] = {learnt, *ticket};
  bytes_ += ticket->bytes;
  room_.bytes_ += ticket->bytes;
  while (room_.bytes_ > room_.bytes_max_) room_.Thin();
}

std::optional<std::string> Checkpoints::Read(LearningPlace place) {
  return room_.file_.Read(kept_.at(place).ticket);
}

void Checkpoints::Erase(LearningPlace place) {
  const auto found = kept_.find(place);
  if (found == kept_.end()) return;
  bytes_ -= found->second.ticket.bytes;
  room_.bytes_ -= found->second.ticket.bytes;
  room_.file_.Free(found->second.ticket);
  kept_.erase(found);
}

// Erases the one that leaves the smallest gap for its age; the newest last.
void Checkpoints::Thin() {
  const auto newest = std::prev(kept_.end());
  LearningPlace least_use = newest->first;
  double smallest = std::numeric_limits<double>::infinity();
  uint64_t before = 0;
  for (auto kept = kept_.begin(); kept != newest; ++kept) {
    const auto gap =
        static_cast<double>(std::next(kept)->second.learnt) - static_cast<double>(before);
    const auto age =
        static_cast<double>(newest->second.learnt) - static_cast<double>(kept->second.learnt) + 1;
    if (gap / age < smallest) {
      smallest = gap / age;
      least_use = kept->first;
    }
    before = kept->second.learnt;
  }
  Erase(least_use);
}

}  // namespace nudge
