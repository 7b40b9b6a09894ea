// Which adapters another server is to have: snapshots, as outcomes name them -> [OfferedAdapters].
//
// A value with a form on the disk, so that a follower goes on where it stood. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stages/result.h"
#include "stages/snapshot.h"

namespace nudge {

struct OfferedAdapter {
  std::string tenant;
  std::string name;       // at the server: TENANT-VERSION-DIGEST, of its content and no other
  std::string uri;        // of its folder, below the snapshot folder
  std::string sha256;     // of its adapter.gguf
  std::string digest;     // of its weights
  bool is_wanted = true;  // false: the server is to have it no more
};

class OfferedAdapters {
 public:
  // By topic and partition.
  using Positions = std::map<std::pair<std::string, int32_t>, int64_t>;

  // Both at least 1.
  OfferedAdapters(size_t versions_per_tenant_max, size_t adapters_max)
      : versions_per_tenant_max_(versions_per_tenant_max), adapters_max_(adapters_max) {}

  // The newest from now on; the oldest beyond what may be offered are wanted no more. False: the
  // uri is none that nudge gives, and nothing changed.
  bool Add(const std::string& tenant, const SnapshotRef& snapshot);

  void WantNone();
  void Drop(const std::string& name);

  // In the order in which they were published, the newest last.
  const std::vector<OfferedAdapter>& all() const { return all_; }

  // As JSON, and back, in place of what is here. kUnreadableFile: it is not that.
  std::string Text(const Positions& positions) const;
  Result<Positions> Read(std::string_view text);

 private:
  void Trim();

  const size_t versions_per_tenant_max_;
  const size_t adapters_max_;
  std::vector<OfferedAdapter> all_;
};

}  // namespace nudge
