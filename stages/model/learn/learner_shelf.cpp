#include "stages/model/learn/learner_shelf.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "stages/log.h"
#include "stages/stop_run.h"

namespace nudge {
namespace {

std::string FolderOr(std::string folder) {
  if (!folder.empty()) return folder;
  std::error_code error;
  const auto temporary = std::filesystem::temp_directory_path(error);
  return error ? "/tmp" : temporary.string();
}

}  // namespace

LearnerShelf::LearnerShelf(size_t in_memory, std::string folder)
    : in_memory_(in_memory), folder_(FolderOr(std::move(folder))) {
  ENSURE(in_memory_ > 0);
}

size_t LearnerShelf::awake() const {
  const MutexLock lock(mutex_);
  return by_use_.size();
}

uint64_t LearnerShelf::asleep_bytes() const {
  const MutexLock lock(mutex_);
  return file_ ? file_->end_bytes() : 0;
}

// Puts learners away until one more has room. Where the disk takes none they stay in memory.
void LearnerShelf::MakeRoom() {
  while (by_use_.size() >= in_memory_) {
    ShelvedLearner& oldest = *by_use_.back();
    oldest.shelf_.mutex_.AssertHeld();  // it is this shelf
    oldest.asleep_ = PutAway(oldest.learner_->Save());
    if (!oldest.asleep_) return;
    oldest.learner_.reset();
    by_use_.pop_back();
  }
}

std::optional<SpillFile::Ticket> LearnerShelf::PutAway(std::string_view saved) {
  const auto put = [&]() REQUIRES(mutex_) -> Result<SpillFile::Ticket> {
    if (!file_) {
      Result<SpillFile> opened = SpillFile::Open(folder_);
      if (!opened.ok()) return opened.error();
      file_.emplace(std::move(*opened));
    }
    return file_->Put(saved);
  }();
  if (put.ok()) return *put;
  if (!std::exchange(said_, true)) {
    Log(LogLevel::kWarning,
        put.error().message +
            ": learners that should rest there stay in memory: " + put.error().remedy);
  }
  return std::nullopt;
}

std::string LearnerShelf::Read(const SpillFile::Ticket& asleep) const {
  Result<std::string> saved = file_->Read(asleep);
  if (!saved.ok()) {
    StopRun(("a learner that was put away is lost: " + saved.error().message).c_str(),
            "check that folder's disk and run the same command again: nothing is lost for good");
  }
  return std::move(*saved);
}

void LearnerShelf::Free(std::optional<SpillFile::Ticket>& asleep) {
  if (asleep) file_->Free(*asleep);
  asleep.reset();
}

ShelvedLearner::~ShelvedLearner() {
  const MutexLock lock(shelf_.mutex_);
  shelf_.by_use_.remove(this);
  shelf_.Free(asleep_);
}

void ShelvedLearner::Restore(std::string_view saved) {
  if (saved.empty()) return;
  const MutexLock lock(shelf_.mutex_);
  asleep_ = shelf_.PutAway(saved);
  if (!asleep_) restored_ = saved;
}

Result<Learner*> ShelvedLearner::Wake(const FrozenWeights& weights, const LearnerOptions& options) {
  const MutexLock lock(shelf_.mutex_);
  if (!learner_) {
    shelf_.MakeRoom();
    if (asleep_ || restored_) {
      Result<Learner> loaded =
          Learner::Load(asleep_ ? shelf_.Read(*asleep_) : *restored_, weights, options);
      if (!loaded.ok()) return loaded.error();
      learner_.emplace(std::move(*loaded));
      shelf_.Free(asleep_);
      restored_.reset();
    } else {
      learner_.emplace(weights, options);
    }
  }
  shelf_.by_use_.remove(this);
  shelf_.by_use_.push_front(this);
  return &*learner_;
}

void ShelvedLearner::Forget() {
  const MutexLock lock(shelf_.mutex_);
  shelf_.by_use_.remove(this);
  learner_.reset();
  shelf_.Free(asleep_);
  restored_.reset();
}

std::string ShelvedLearner::Save() const {
  const MutexLock lock(shelf_.mutex_);
  if (learner_) return learner_->Save();
  return asleep_ ? shelf_.Read(*asleep_) : restored_.value_or("");
}

}  // namespace nudge
