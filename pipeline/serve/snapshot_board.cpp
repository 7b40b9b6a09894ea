#include "pipeline/serve/snapshot_board.h"

#include <utility>

#include "connectors/codec.h"

namespace nudge {
namespace {

// Whether an outcome may name snapshots: in a text these bytes would be escaped.
constexpr std::string_view kMark = R"("snapshots":[)";

}  // namespace

// Ends its watcher.
class SnapshotBoard::Watching {
 public:
  Watching(SnapshotBoard& board, std::string tenant, uint64_t number)
      : board_(board), tenant_(std::move(tenant)), number_(number) {}
  ~Watching() { board_.End(tenant_, number_); }
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;

 private:
  SnapshotBoard& board_;
  const std::string tenant_;
  const uint64_t number_;
};

void SnapshotBoard::Add(int64_t offset, const std::string& line) {
  std::optional<RecordedOutcome> outcome;
  if (line.find(kMark) != line.npos) {
    Result<RecordedOutcome> read = DecodeOutcome(line);
    if (read.ok()) outcome = std::move(*read);
  }
  const MutexLock lock(mutex_);
  if (!missed_until_) missed_until_ = offset - 1;
  seen_until_ = offset;
  if (!outcome) return;
  const std::string& tenant = outcome->outcome.tenant;
  for (const SnapshotRef& snapshot : outcome->outcome.snapshots) {
    kept_.push_back(
        {tenant, {SnapshotNews::Kind::kSnapshot, offset, outcome->outcome.id, snapshot}});
    const auto watching = watching_.find(tenant);
    if (watching == watching_.end()) continue;
    for (const auto& [number, tell] : watching->second) tell(kept_.back().news);
  }
  while (kept_.size() > news_max_) {
    missed_until_ = kept_.front().news.offset;
    kept_.pop_front();
  }
}

std::shared_ptr<void> SnapshotBoard::Watch(const std::string& tenant, std::optional<int64_t> after,
                                           Tell tell) {
  const MutexLock lock(mutex_);
  const bool is_lost = after && (*after > seen_until_ || *after < missed_until_.value_or(-1));
  SnapshotNews begin;
  if (is_lost) begin.kind = SnapshotNews::Kind::kLost;
  begin.offset = after && !is_lost ? *after : seen_until_;
  tell(begin);
  for (const Kept& one : kept_) {
    if (one.tenant == tenant && one.news.offset > begin.offset) tell(one.news);
  }
  const uint64_t number = ++watchers_;
  watching_[tenant].emplace(number, std::move(tell));
  return std::make_shared<Watching>(*this, tenant, number);
}

void SnapshotBoard::End(const std::string& tenant, uint64_t number) {
  const MutexLock lock(mutex_);
  const auto watching = watching_.find(tenant);
  watching->second.erase(number);
  if (watching->second.empty()) watching_.erase(watching);
}

}  // namespace nudge
