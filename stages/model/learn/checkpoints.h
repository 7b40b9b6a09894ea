// A learner as it was at places of its lineage, so that a return to a place learns again
// only what lies behind the nearest checkpoint: (place, saved learner) -> [Checkpoints].
//
// They decide how long a return takes, never a byte of what comes out: a place without a checkpoint
// is learnt from the start. So they live as long as the process, on disk in a file without a name,
// and those of least use go when a tenant's bytes are over the limit, from the learner that has
// most.
//
// CheckpointFile: one a process, any thread. CheckpointRoom: one a tenant, and Checkpoints one of
// each of its learners: one caller at a time for all of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/guarded.h"
#include "stages/jobs.h"
#include "stages/model/learn/spill_file.h"

namespace nudge {

class CheckpointFile {
 public:
  // In `folder` (empty: the system's temporary folder), made once it is needed.
  explicit CheckpointFile(std::string folder) : folder_(std::move(folder)) {}

  std::optional<SpillFile::Ticket> Put(std::string_view bytes);  // nothing: the disk takes no more
  std::optional<std::string> Read(const SpillFile::Ticket& ticket);  // nothing: it is damaged
  void Free(const SpillFile::Ticket& ticket);

 private:
  const std::string folder_;
  Mutex mutex_;
  std::optional<SpillFile> file_ GUARDED_BY(mutex_);
  bool failed_ GUARDED_BY(mutex_) = false;
};

class Checkpoints;

// What the learners of one tenant share. Outlives their checkpoints.
class CheckpointRoom {
 public:
  CheckpointRoom(CheckpointFile& file, uint64_t bytes_max) : file_(file), bytes_max_(bytes_max) {}
  CheckpointRoom(const CheckpointRoom&) = delete;
  CheckpointRoom& operator=(const CheckpointRoom&) = delete;

 private:
  friend class Checkpoints;

  void Thin();

  CheckpointFile& file_;
  const uint64_t bytes_max_;
  uint64_t bytes_ = 0;  // of all of them
  std::vector<Checkpoints*> sharing_;
};

class Checkpoints {
 public:
  explicit Checkpoints(CheckpointRoom& room);
  ~Checkpoints();
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;

  // `learnt` lessons count at the place. Thinned so that those left lie the denser the newer they
  // are.
  void Put(LearningPlace place, uint64_t learnt, std::string_view saved);
  bool Has(LearningPlace place) const { return kept_.contains(place); }
  std::optional<std::string> Read(LearningPlace place);
  void Erase(LearningPlace place);

 private:
  struct Kept {
    uint64_t learnt = 0;
    SpillFile::Ticket ticket;
  };

  friend class CheckpointRoom;

  void Thin();

  CheckpointRoom& room_;
  uint64_t bytes_ = 0;
  std::map<LearningPlace, Kept> kept_;
};

}  // namespace nudge
