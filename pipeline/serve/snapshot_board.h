// News of adapter snapshots: committed outcomes -> [SnapshotBoard] -> those who watch.
//
// Outcomes are the only truth: the board keeps the newest snapshots that they name, by offset, and
// tells whoever watches a tenant. Add: one thread at a time, in log order. Watch: any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "connectors/http/door.h"
#include "stages/guarded.h"

namespace nudge {

class SnapshotBoard {
 public:
  explicit SnapshotBoard(size_t news_max) : news_max_(news_max) {}

  // A committed outcome's line at `offset`.
  void Add(int64_t offset, const std::string& line);

  // As Door::WatchSnapshots. The board outlives what is returned.
  std::shared_ptr<void> Watch(const std::string& tenant, std::optional<int64_t> after,
                              std::function<void(const SnapshotNews&)> tell);

 private:
  using Tell = std::function<void(const SnapshotNews&)>;
  struct Kept {
    std::string tenant;
    SnapshotNews news;
  };
  class Watching;

  void End(const std::string& tenant, uint64_t number);

  const size_t news_max_;
  Mutex mutex_;  // held while watchers are told, so that each hears all, in order
  std::deque<Kept> kept_ GUARDED_BY(mutex_);  // the oldest first
  // All snapshots of outcomes in (missed_until_, seen_until_] are kept.
  std::optional<int64_t> missed_until_ GUARDED_BY(mutex_);
  int64_t seen_until_ GUARDED_BY(mutex_) = -1;
  std::map<std::string, std::map<uint64_t, Tell>> watching_ GUARDED_BY(mutex_);  // by tenant
  uint64_t watchers_ GUARDED_BY(mutex_) = 0;                                     // so far
};

}  // namespace nudge
