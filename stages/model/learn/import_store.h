// Adapters that events brought in, by the SHA-256 of the file that was asked for: what an import
// once found can be had again, whatever became of the import folder.
//
//   AdapterVersion -> [ImportStore] -> <state folder>/imports/SHA256.adapter -> AdapterVersion
//
// Files are whole or not there, sealed, and their owner's alone. Blocking file work; any thread,
// and several processes may share the folder.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "stages/model/learn/teacher.h"
#include "stages/result.h"

namespace nudge {

class ImportStore {
 public:
  static constexpr uint64_t kBytesMax = uint64_t{1} << 30;  // of a version's weights

  // The folder is made when the first version is put.
  explicit ImportStore(std::string folder) : folder_(std::move(folder)) {}

  // On the disk when it returns, in place of what was there under that name.
  // kWrongAdapter: `sha256` is not 64 lower-case hex digits. kTooLarge: weights over kBytesMax.
  // kUnreadableFile: the disk is full, or does not write; what was there stays.
  Result<Nothing> Put(const std::string& sha256, const AdapterVersion& version) const;

  // What was put, without `plugged`: Teacher::LoadVersion takes it. Nothing where it is not there,
  // or is not what was put.
  // kWrongAdapter as Put. kUnreadableFile: it is there, and the disk or its permissions are in the
  // way.
  Result<std::optional<AdapterVersion>> Find(const std::string& sha256) const;

  // Removes all others, damaged ones and what a killed process left too. `kept` must have the names
  // of every partition and process that shares the folder.
  // kUnreadableFile: one cannot be removed; the rest is.
  Result<Nothing> Keep(const std::set<std::string>& kept) const;

 private:
  std::string PathOf(std::string_view sha256) const;

  const std::string folder_;
};

}  // namespace nudge
