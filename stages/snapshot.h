// A reference to an adapter snapshot: files written and synced before the outcome that names them.
// Plain values, any thread.
#pragma once

#include <cstdint>
#include <string>

namespace nudge {

struct SnapshotRef {
  std::string uri;     // folder of the snapshot, relative to the snapshot folder
  std::string sha256;  // of its adapter.gguf, lower-case hex
  uint32_t version = 0;
  std::string digest;  // of the learner's f32 weights
  std::string parent_digest;
  std::string base_sha256;  // of the base model's file
  friend bool operator==(const SnapshotRef&, const SnapshotRef&) = default;
};

}  // namespace nudge
