// A source that does to its listener what it is told, for tests of partitions that come and go.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "connectors/source.h"

namespace nudge::testing {

struct Assign {
  int32_t partition;
};
struct Deliver {
  int32_t partition;
  size_t count;
};
struct Revoke {
  int32_t partition;
};
struct Lose {
  int32_t partition;
};
struct Until {
  std::function<bool()> holds;
};
using Act = std::variant<Assign, Deliver, Revoke, Lose, Until>;

// Does to its listener what it is told, one act after the other; then it ends.
class ScriptedSource final : public Source {
 public:
  ScriptedSource(std::map<int32_t, std::vector<std::string>> lines, std::vector<Act> acts)
      : lines_(std::move(lines)), acts_(acts.begin(), acts.end()) {}

  void Listen(PartitionListener& listener) override { listener_ = &listener; }

  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override {
    while (!acts_.empty()) {
      Act& act = acts_.front();
      if (auto* deliver = std::get_if<Deliver>(&act)) {
        const int32_t partition = deliver->partition;
        size_t& next = next_[partition];
        if (deliver->count == 0 || next == lines_[partition].size()) {
          acts_.pop_front();
          continue;
        }
        if (paused_.contains(partition)) return Wait(timeout);
        --deliver->count;
        record = {partition, static_cast<int64_t>(next), "", lines_[partition][next], {}};
        ++next;
        return Pull::kRecord;
      }
      if (const auto* until = std::get_if<Until>(&act)) {
        if (!until->holds()) return Wait(timeout);
        acts_.pop_front();
        continue;
      }
      Result<Nothing> heard = Nothing{};
      if (const auto* assign = std::get_if<Assign>(&act)) {
        heard = listener_->Assigned({&assign->partition, 1});
      } else if (const auto* revoke = std::get_if<Revoke>(&act)) {
        heard = listener_->Revoked({&revoke->partition, 1});
        paused_.erase(revoke->partition);
      } else {
        const auto& lose = std::get<Lose>(act);
        listener_->Lost({&lose.partition, 1});
        paused_.erase(lose.partition);
      }
      if (!heard.ok()) return heard.error();
      acts_.pop_front();
    }
    return Pull::kEnd;
  }

  Result<Nothing> Seek(int32_t partition, int64_t offset) override {
    next_[partition] = static_cast<size_t>(offset);
    return Nothing{};
  }
  void Pause(int32_t partition) override { paused_.insert(partition); }
  void Resume(int32_t partition) override { paused_.erase(partition); }

 private:
  Pull Wait(std::chrono::milliseconds timeout) {
    std::this_thread::sleep_for(timeout);
    return Pull::kNothing;
  }

  std::map<int32_t, std::vector<std::string>> lines_;
  std::deque<Act> acts_;
  std::map<int32_t, size_t> next_;
  std::set<int32_t> paused_;
  PartitionListener* listener_ = nullptr;
};

}  // namespace nudge::testing
