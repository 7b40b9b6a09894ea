// A stand-in for the log behind the HTTP server, for tests of the server alone: it numbers events,
// keeps them in memory, and ends each by an outcome in the form of real ones. It answers nothing
// truly; tests of the whole are those of `nudge serve`.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "connectors/erased_outcomes.h"
#include "connectors/http/door.h"
#include "pipeline/serve/snapshot_board.h"
#include "pipeline/serve/snapshot_shelf.h"

namespace nudge::testing {

class StandInDoor final : public Door {
 public:
  StandInDoor() : thread_([this] { Work(); }) {}
  ~StandInDoor() override {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Submit(std::string tenant, std::string event_json, Following following) override {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(tenant), std::move(event_json), std::move(following)});
    changed_.notify_all();
  }

  std::optional<std::string> Outcome(std::string_view tenant,
                                     std::string_view event_id) const override {
    const std::lock_guard lock(mutex_);
    const auto found = outcomes_.find({std::string(tenant), std::string(event_id)});
    if (found == outcomes_.end()) return std::nullopt;
    return found->second;
  }

  bool Awaits(std::string_view tenant, int64_t offset) const override {
    const std::lock_guard lock(mutex_);
    return awaited_.contains({std::string(tenant), offset});
  }
  uint64_t OutcomesHeld() const override {
    const std::lock_guard lock(mutex_);
    return outcomes_.size();
  }

  std::vector<std::string> Models() const override { return {"stand-in"}; }

  std::optional<Error> WithoutState() const override {
    const std::lock_guard lock(mutex_);
    return without_state_;
  }

  // What was asked for, and nothing else.
  Result<std::string> Lessons(const LessonsAsked& asked) const override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !holds_disk_; });
    if (failure_) return *failure_;
    return "{\"of\":\"" + asked.tenant + "/" + asked.user.value_or("*") + "/" +
           (asked.after ? std::to_string(*asked.after) : "-") + "/" +
           std::to_string(asked.lessons_max) + "\"}";
  }

  // What lies in a folder of snapshots, and news that a test tells.
  Result<std::vector<PublishedSnapshot>> Snapshots(const SnapshotsAsked& asked) const override {
    return shelf_->List(asked);
  }
  Result<std::optional<SnapshotFile>> OpenSnapshotFile(const std::string& tenant,
                                                       const std::string& snapshot,
                                                       const std::string& file) const override {
    return shelf_->Open(tenant, snapshot, file);
  }
  std::shared_ptr<void> WatchSnapshots(
      const std::string& tenant, std::optional<int64_t> after,
      std::function<void(const SnapshotNews& news)> tell) override {
    return board_.Watch(tenant, after, std::move(tell));
  }
  void ServeSnapshots(const std::string& folder) { shelf_.emplace(folder); }
  SnapshotBoard& board() { return board_; }

  // The outcome is gone, as after a nudge.forget.
  void Erase(const std::string& tenant, const std::string& id) {
    Set([&] {
      std::string& line = outcomes_.at({tenant, id});
      const RecordedOutcome outcome = *DecodeOutcome(line);
      line = EncodeErased({outcome.partition, outcome.offset, outcome.chain}, line.size());
    });
  }

  // From now on: nothing is stored and this is said; it is not known whether anything is; nothing
  // happens at all; what is stored gets no outcome; tokens come before outcomes.
  void Fail(std::optional<Error> error) {
    Set([&] { failure_ = std::move(error); });
  }
  void Doubt(std::optional<Error> doubt) {
    Set([&] { doubt_ = std::move(doubt); });
  }
  void Stall(bool stalls) {
    Set([&] { stalls_ = stalls; });
  }
  void Withhold(bool withholds) {
    Set([&] { withholds_ = withholds; });
  }
  // All outcomes are too old to be held.
  void DropOutcomes() {
    Set([&] { outcomes_.clear(); });
  }
  // From now on it knows nothing of lessons and snapshots, and says so.
  void HaveNoState(const Error& why) {
    Set([&] { without_state_ = why; });
  }
  // Whoever reads the disk waits for as long.
  void HoldDisk(bool holds) {
    Set([&] { holds_disk_ = holds; });
  }
  void Stream(std::vector<std::string> tokens) {
    Set([&] { tokens_ = std::move(tokens); });
  }

  // All that was stored, as it would stand in the log.
  std::vector<std::string> Log() const {
    const std::lock_guard lock(mutex_);
    return log_;
  }

  static std::string AnswerTo(const std::string& question) { return "You asked: " + question; }

 private:
  struct Waiting {
    std::string tenant;
    std::string json;
    Following following;
  };

  template <class Change>
  void Set(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }

  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return done_ || (!waiting_.empty() && !stalls_); });
      if (done_) return;
      Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      if (failure_ || doubt_) {
        const Error error = failure_ ? *failure_ : *doubt_;
        const auto tell = failure_ ? next.following.failed : next.following.unknown;
        lock.unlock();
        tell(error);
        lock.lock();
        continue;
      }
      const auto offset = static_cast<int64_t>(log_.size());
      log_.push_back(next.json);
      const bool ends = !withholds_;
      const auto tokens = tokens_;
      const std::string line = ends ? End(next, offset) : "";
      if (!ends) awaited_.insert({next.tenant, offset});
      lock.unlock();
      next.following.stored(offset);
      for (const std::string& token : tokens) next.following.token(token);
      if (ends) next.following.outcome(line);
      lock.lock();
    }
  }

  // The outcome, kept for the first event of an id.
  std::string End(const Waiting& waiting, int64_t offset) {
    const Event event = DecodeEvent(waiting.json).value();
    nudge::Outcome outcome{
        event.tenant, event.source, event.id, std::string(TypeName(event)), {}, {}};
    const auto key = std::pair{event.tenant, event.id};
    const auto first = contents_.try_emplace(key, waiting.json, offset);
    if (!first.second && first.first->second.first != waiting.json) {
      outcome.what = MakeDeadLetter(
          "recall", {Code::kChangedEvent, "the id has another content", "use a new id"},
          waiting.json, 100);
    } else if (!first.second) {
      outcome.what = Applied{"duplicate of event " + std::to_string(first.first->second.second),
                             std::nullopt, std::nullopt};
    } else if (const auto* query = std::get_if<Query>(&event.data)) {
      outcome.what = Answer(query->text);
    } else if (const auto* feedback = std::get_if<Feedback>(&event.data);
               feedback != nullptr && !contents_.contains({event.tenant, feedback->query_id})) {
      outcome.what = MakeDeadLetter(
          "recall", {Code::kUnknownQuery, "no such question", "ask first"}, waiting.json, 100);
    } else {
      outcome.what = Applied{"taken", std::nullopt, std::nullopt};
    }
    std::string line;
    Origin origin;
    origin.offset = offset;
    EncodeOutcome(outcome, origin, line);
    AppendChain(NextChain({}, offset, line), line);
    if (first.second) outcomes_.insert_or_assign(key, line);
    if (first.second && std::holds_alternative<DeadLetter>(outcome.what)) contents_.erase(key);
    return line;
  }

  static Response Answer(const std::string& question) {
    Response answer;
    answer.text = AnswerTo(question);
    answer.citations = {{"manual", 2, 0.5}};
    answer.prompt_id = "default";
    answer.prompt_version = 1;
    answer.decoding_name = "own";
    answer.adapter_version = 7;
    answer.adapter_digest = "digest";
    answer.prompt_tokens = 11;
    answer.completion_tokens = 5;
    answer.finish_reason = FinishReason::kStop;
    return answer;
  }

  std::optional<SnapshotShelf> shelf_{""};
  SnapshotBoard board_{3};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool holds_disk_ = false;
  bool done_ = false;
  bool stalls_ = false;
  bool withholds_ = false;
  std::optional<Error> failure_;
  std::optional<Error> doubt_;
  std::optional<Error> without_state_;
  std::set<std::pair<std::string, int64_t>> awaited_;
  std::vector<std::string> tokens_;
  std::deque<Waiting> waiting_;
  std::vector<std::string> log_;
  std::map<std::pair<std::string, std::string>, std::pair<std::string, int64_t>> contents_;
  std::map<std::pair<std::string, std::string>, std::string> outcomes_;
  std::thread thread_;
};

}  // namespace nudge::testing
