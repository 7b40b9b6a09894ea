// Imported adapters by the SHA-256 that their events name, so that a recovery never asks for a file
// again that may be gone: (sha256, AdapterVersion) -> [ImportStore] -> files below one folder.
//
// A file appears whole, by a rename, before the import's outcome can be committed; it ends with a
// seal, and one whose seal is broken is as if it were not there. Any thread.
#pragma once

#include <memory>
#include <string>

#include "stages/model/learn/teacher.h"

namespace nudge {

class ImportStore {
 public:
  // `folder` is made once it is needed; empty: nothing is kept.
  explicit ImportStore(std::string folder) : folder_(std::move(folder)) {}

  // Error kUnreadableFile: the disk does not take it; nothing has changed.
  Result<Nothing> Put(const std::string& sha256, const AdapterVersion& version) const;
  // Null: it is not there, or damaged. Errors as Teacher::LoadVersion.
  Result<std::shared_ptr<const AdapterVersion>> Find(const std::string& sha256,
                                                     Teacher& teacher) const;

 private:
  const std::string folder_;
};

}  // namespace nudge
