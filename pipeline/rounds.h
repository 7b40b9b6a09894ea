// Whose job is next where many wait: jobs -> [Rounds] -> one after the other.
//
// Each one who waits has a queue of its own, first in, first out. Next is whoever has had the least
// time so far; of equals, whoever has waited longest for a turn. Somebody new, or back after a
// pause, begins level with whom was served last: ahead of all who have had their turn, and with no
// claim to the time before it came. A job counts for kLongestTurn at most, so that nobody waits for
// more than one such turn, and one job, of each other one.
//
// This is start-time fair queueing (Goyal, Vin, Cheng 1996) with times that are counted afterwards,
// since nobody knows how long a model takes; with jobs of one length it is a queue for each and
// rounds over the queues (Nagle 1987).
//
// No threads of its own: WorkerPool calls it under its lock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace nudge {

template <class Name, class Job>
class Rounds {
 public:
  using Time = std::chrono::nanoseconds;
  static constexpr Time kLongestTurn = std::chrono::seconds(1);

  bool empty() const { return waiting_.empty(); }
  size_t size() const { return size_; }

  void Put(const Name& whose, Job job) {
    Queue& queue = flows_.try_emplace(whose, Queue{{}, level_, 0}).first->second;
    if (queue.jobs.empty()) {
      resting_.erase(PlaceOf(whose, queue));
      queue.level = std::max(queue.level, level_);
      queue.turn = ++turns_;
      waiting_.insert(PlaceOf(whose, queue));
    }
    queue.jobs.push_back(std::move(job));
    ++size_;
  }

  // Of the next three, each requires that it is not empty.
  const Job& First() const { return flows_.at(std::get<Name>(*waiting_.begin())).jobs.front(); }

  std::pair<Name, Job> Take() {
    const Place place = *waiting_.begin();
    const Name& whose = std::get<Name>(place);
    Queue& queue = flows_.at(whose);
    Job job = std::move(queue.jobs.front());
    queue.jobs.pop_front();
    --size_;
    level_ = queue.level;
    waiting_.erase(waiting_.begin());
    queue.turn = ++turns_;
    Settle(whose, queue);
    Forget();
    return {whose, std::move(job)};
  }

  // What a job took that was taken from here.
  void Charge(const Name& whose, Time time) {
    Queue& queue = flows_.try_emplace(whose, Queue{{}, level_, 0}).first->second;
    (queue.jobs.empty() ? resting_ : waiting_).erase(PlaceOf(whose, queue));
    queue.level += std::clamp(time, Time::zero(), kLongestTurn);
    Settle(whose, queue);
  }

  // The jobs that `leaves` chooses, in no order.
  template <class Leaves>
  std::vector<Job> Drop(Leaves&& leaves) {
    std::vector<Job> dropped;
    for (auto& [whose, queue] : flows_) {
      if (queue.jobs.empty()) continue;
      const auto gone = std::stable_partition(queue.jobs.begin(), queue.jobs.end(),
                                              [&](const Job& job) { return !leaves(job); });
      std::move(gone, queue.jobs.end(), std::back_inserter(dropped));
      queue.jobs.erase(gone, queue.jobs.end());
      if (!queue.jobs.empty()) continue;
      waiting_.erase(PlaceOf(whose, queue));
      Settle(whose, queue);
    }
    size_ -= dropped.size();
    Forget();
    return dropped;
  }

 private:
  struct Queue {
    std::deque<Job> jobs;
    Time level{};       // the time that it has had, as far as it counts
    uint64_t turn = 0;  // when it came, or had its last turn: the order among equals
  };
  using Place = std::tuple<Time, uint64_t, Name>;

  static Place PlaceOf(const Name& whose, const Queue& queue) {
    return {queue.level, queue.turn, whose};
  }
  void Settle(const Name& whose, const Queue& queue) {
    (queue.jobs.empty() ? resting_ : waiting_).insert(PlaceOf(whose, queue));
  }
  // Who has no job, and would begin level with the others or where nobody waits, is forgotten.
  void Forget() {
    while (!resting_.empty() && (waiting_.empty() || std::get<Time>(*resting_.begin()) <= level_)) {
      flows_.erase(std::get<Name>(*resting_.begin()));
      resting_.erase(resting_.begin());
    }
  }

  std::map<Name, Queue> flows_;
  std::set<Place> waiting_;  // those with a job: the first is next
  std::set<Place> resting_;  // those without
  size_t size_ = 0;
  Time level_{};  // of who was served last
  uint64_t turns_ = 0;
};

}  // namespace nudge
