// A partition's state on disk: a file of cuts, each sealed, each saying what changed since the one
// before.
//
//   Cut -> [StateFile] -> append, fsync;   open -> the newest whole cut at or below what is
//   committed
//
// Layout, little-endian: magic, header {format, fingerprint, configuration}, then cuts {length u64,
// payload, SHA-256}. A cut that was not written to its end is cut off when the file is opened, and
// the file is rewritten without what later cuts replaced when it has grown to twice its content.
// One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/barrier.h"
#include "stages/result.h"

namespace nudge {

// What must be equal for the bytes to be equal: who may take over in the middle of a log.
struct StateIdentity {
  std::string fingerprint;    // of the models and of the instruction path
  std::string configuration;  // SHA-256 of the semantic configuration
  friend bool operator==(const StateIdentity&, const StateIdentity&) = default;
};

class StateFile {
 public:
  // Creates the folder. Files are named by partition. Throws StartError where that cannot be.
  StateFile(std::string folder, StateIdentity identity);

  // The newest state of the partition whose next_offset is at most `committed_offset` (the offset
  // after the last committed outcome); nothing where there is none. Errors: kUnreadableFile for a
  // file that is not a state or of another format; and for another identity, unless the state
  // stands exactly at `committed_offset` (a clean stop), in which case it is taken over.
  Result<std::optional<Cut>> Newest(int32_t partition, int64_t committed_offset);

  // Appends the cut and syncs. On an error (full disk) the file ends with the cut before.
  Result<Nothing> Write(const Cut& cut);

 private:
  struct Open {
    int64_t whole_bytes = 0;  // where the last whole cut ends
    int64_t base_bytes = 0;   // size after the last rewrite
  };

  std::string PathOf(int32_t partition) const;
  std::string Header() const;
  Result<Nothing> Rewrite(int32_t partition, const Cut& whole);

  const std::string folder_;
  const StateIdentity identity_;
  std::map<int32_t, Open> files_;
};

}  // namespace nudge
