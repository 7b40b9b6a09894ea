// The adapter snapshots that lie in a folder: SnapshotsAsked -> [SnapshotShelf] ->
// PublishedSnapshot, files.
//
// The folder is the truth: what somebody deletes there is not listed any more. Only what a
// snapshot's manifest names is opened, whatever a request calls it. Blocking; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "connectors/http/door.h"

namespace nudge {

class SnapshotShelf {
 public:
  // As ExecutorOptions::snapshot_folder; one that is empty or not there holds nothing.
  explicit SnapshotShelf(std::string folder) : folder_(std::move(folder)) {}

  // Those whose manifest can be read and is the tenant's.
  Result<std::vector<PublishedSnapshot>> List(const SnapshotsAsked& asked) const;

  // Nothing: there is no such file of such a snapshot. kUnreadableFile: its size is not what the
  // manifest says.
  Result<std::optional<SnapshotFile>> Open(const std::string& tenant, const std::string& snapshot,
                                           const std::string& file) const;

 private:
  std::string FolderOf(const std::string& tenant) const;
  std::optional<PublishedSnapshot> Read(const std::string& tenant, const std::string& name) const;
  std::string NameOf(const std::string& tenant, const std::string& snapshot) const;

  const std::string folder_;
};

}  // namespace nudge
