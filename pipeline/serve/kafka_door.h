// The door on Kafka: what is submitted becomes a record of the input topic, and its outcome, which
// any processor may have made, finds the client.
//
//   Submit -> [KafkaDoor] -> KafkaGateway -> topics -> processors -> topics -> [KafkaDoor] ->
//   Following
//
// It has no model, no state and no files: all that it holds are clients that wait and the newest
// outcomes, of the events of all gateways, which are read from the topics again at a start. An
// outcome comes whole, so `token` is never called. A duplicate's client is told the first outcome
// where that is held, as the first sender was; else the receipt that the log has. With a signing
// key it signs every command: whoever calls Submit has seen that the client may command.
//
// What Door declares: any thread. CatchUp, then Run: one thread, once, which also calls what is
// told; what is refused is told inside Submit.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <utility>

#include "connectors/codec.h"
#include "connectors/command_keys.h"
#include "connectors/http/door.h"
#include "connectors/kafka_gateway.h"
#include "pipeline/observe/run_view.h"
#include "pipeline/serve/outcome_index.h"
#include "stages/guarded.h"

namespace nudge {

struct KafkaDoorOptions {
  KafkaOptions kafka;
  GatewayOptions gateway;
  EventLimits limits;
  std::vector<std::string> models;  // names that a client may ask for
};

class KafkaDoor final : public Door {
 public:
  struct Counts {  // since the start
    uint64_t stored = 0;
    uint64_t not_stored = 0;
    uint64_t unknown = 0;
    uint64_t outcomes = 0;  // that were read, of anybody's events
  };

  // Once `stop` is set nothing more is taken. Throws StartError as KafkaGateway does, and where the
  // signing key cannot be read.
  KafkaDoor(KafkaDoorOptions options, const std::atomic<bool>& stop);

  // As KafkaGateway::CatchUp: before it the outcomes of a look-back are not held.
  Result<bool> CatchUp() { return gateway_.CatchUp(stop_); }

  // Until `stop` is set and what was taken has its outcomes, or gateway.drain_ms is over; then
  // everybody who waits was answered. Errors as KafkaGateway::Turn.
  Result<Nothing> Run();

  // Fails with kBusy above gateway.in_flight_max, kUnavailable at a stop, and as
  // KafkaGateway::Send. After `stored` it fails with kUnavailable where nobody waits any more: the
  // outcome will be held once it comes.
  void Submit(std::string tenant, std::string event_json, Following following) override;
  std::optional<std::string> Outcome(std::string_view tenant,
                                     std::string_view event_id) const override {
    return outcomes_.Find(tenant, event_id);
  }
  bool Awaits(std::string_view tenant, int64_t offset) const override;
  uint64_t OutcomesHeld() const override { return outcomes_.size(); }
  std::vector<std::string> Models() const override { return options_.models; }

  // Always: lessons and snapshots are the processors'. So are these.
  std::optional<Error> WithoutState() const override;
  Result<std::string> Lessons(const LessonsAsked& asked) const override;
  Result<std::vector<PublishedSnapshot>> Snapshots(const SnapshotsAsked& asked) const override;
  Result<std::optional<SnapshotFile>> OpenSnapshotFile(const std::string& tenant,
                                                       const std::string& snapshot,
                                                       const std::string& file) const override;
  std::shared_ptr<void> WatchSnapshots(const std::string& tenant, std::optional<int64_t> after,
                                       std::function<void(const SnapshotNews& news)> tell) override;

  Counts counts() const;
  GatewayView View() const;  // without what its HTTP server counts

 private:
  using Clock = std::chrono::steady_clock;
  using Name = std::pair<std::string, std::string>;  // tenant, id
  using Place = KafkaGateway::Place;

  // A client, from Submit to its outcome.
  struct Waiting {
    Name name;
    Following following;
    Clock::time_point since;
    Clock::time_point until;
    std::optional<Place> place;          // once it is stored
    std::map<Place, std::string> early;  // until then: outcomes of its name, one may be its own
  };
  // A duplicate's client, while the first outcome may still come out of another topic.
  struct Held {
    Following following;
    RecordedOutcome receipt;
    std::string line;
    Clock::time_point until;
  };

  std::string Signed(std::string event_json) const;
  void OnDelivery(uint64_t number, const KafkaGateway::Delivery& delivery);
  void OnOutcome(const Place& place, const std::string& line);
  void Tell(const Following& following, const RecordedOutcome& outcome, const std::string& line);
  std::optional<std::string> FirstOf(const RecordedOutcome& duplicate) const;
  void TellHeld(const RecordedOutcome& outcome, const std::string& line);
  // All who have waited for as long, with these words on why.
  void LetGo(Clock::time_point now, const std::string& why);
  Waiting Take(uint64_t number) REQUIRES(mutex_);
  Waiting TakeAnswered(uint64_t number) REQUIRES(mutex_);
  bool IsEmpty() const;
  Result<Nothing> Turn();
  void AnswerRest();

  const KafkaDoorOptions options_;
  const std::atomic<bool>& stop_;
  const std::optional<SigningKey> signing_key_;
  OutcomeIndex outcomes_;
  std::atomic<RunView::Phase> phase_{RunView::Phase::kStarting};
  DurationMetrics produce_;
  DurationMetrics answer_;
  std::deque<Held> held_;  // by `until`; the thread's of Run
  mutable Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  uint64_t number_ GUARDED_BY(mutex_) = 0;                  // of the newest client
  std::map<uint64_t, Waiting> waiting_ GUARDED_BY(mutex_);  // by number, and so by `until`
  std::map<Place, uint64_t> by_place_ GUARDED_BY(mutex_);
  std::multimap<Name, uint64_t> by_name_ GUARDED_BY(mutex_);
  Counts counts_ GUARDED_BY(mutex_);
  KafkaGateway gateway_;  // last: it calls back
};

}  // namespace nudge
