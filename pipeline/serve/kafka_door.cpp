#include "pipeline/serve/kafka_door.h"

#include <algorithm>
#include <iterator>
#include <memory>

#include "connectors/kafka.h"
#include "stages/receipts.h"

namespace nudge {
namespace {

// For which a duplicate's receipt waits for the first outcome. They may be of one transaction,
// whose end a reader sees topic by topic.
constexpr std::chrono::milliseconds kFirstWait{1'000};

Error Elsewhere() {
  return {Code::kUnavailable, "a gateway has no state: lessons and snapshots are the processors'",
          "use nudge lessons, and the snapshots folder, where nudge run runs"};
}

Error NotStored(const std::string& why, Code code, const std::string& remedy) {
  return {code, "the event is not stored: " + why, remedy};
}

std::optional<SigningKey> KeyOf(const GatewayOptions& options) {
  if (options.signing_key_file.empty()) return std::nullopt;
  Result<SigningKey> key = SigningKey::Read(options.signing_key_file);
  if (!key.ok()) throw StartError("gateway.signing_key_file: " + key.error().message);
  return *std::move(key);
}

bool HaveOneSource(const RecordedOutcome& one, const RecordedOutcome& other) {
  return one.outcome.tenant == other.outcome.tenant && one.outcome.id == other.outcome.id &&
         one.outcome.source == other.outcome.source;
}

// Whether a duplicate may be told this instead of its receipt: it says what the first event became.
bool SaysAll(const RecordedOutcome& outcome) {
  return !IsDuplicate(outcome.outcome) && !std::holds_alternative<DeadLetter>(outcome.outcome.what);
}

}  // namespace

KafkaDoor::KafkaDoor(KafkaDoorOptions options, const std::atomic<bool>& stop)
    : options_(std::move(options)),
      stop_(stop),
      signing_key_(KeyOf(options_.gateway)),
      outcomes_(options_.gateway.outcomes_kept_bytes_max, options_.gateway.outcomes_kept_max),
      gateway_(options_.kafka, options_.gateway,
               [this](const Place& place, const std::string& line) { OnOutcome(place, line); }) {}

// ---- In -----------------------------------------------------------------------------------------

void KafkaDoor::Submit(std::string tenant, std::string event_json, Following following) {
  Name name{tenant, PeekHead(event_json).id};
  const auto failed = following.failed;
  std::optional<Error> refusal;
  uint64_t number = 0;
  {
    const MutexLock lock(mutex_);
    if (closed_ || stop_) {
      refusal = NotStored("nudge is stopping", Code::kUnavailable,
                          "send it again, to another gateway or once nudge is back");
    } else if (waiting_.size() >= options_.gateway.in_flight_max) {
      refusal = NotStored(
          std::to_string(options_.gateway.in_flight_max) + " events wait for their outcomes",
          Code::kBusy,
          "send it again later; see whether processors run (nudge run), or raise "
          "gateway.in_flight_max");
    } else {
      number = ++number_;
      by_name_.emplace(name, number);
      const auto now = Clock::now();
      waiting_.emplace(number, Waiting{std::move(name),
                                       std::move(following),
                                       now,
                                       now + options_.gateway.outcome_timeout,
                                       {},
                                       {}});
    }
  }
  if (refusal) {
    if (failed) failed(*refusal);
    return;
  }
  gateway_.Send(
      std::move(tenant), Signed(std::move(event_json)),
      [this, number](const KafkaGateway::Delivery& delivery) { OnDelivery(number, delivery); });
}

std::string KafkaDoor::Signed(std::string event_json) const {
  if (!signing_key_) return event_json;
  const Result<Event> event = DecodeEvent(event_json, options_.limits);
  return event.ok() && IsCommand(*event) ? signing_key_->Sign(*event) : event_json;
}

// The client waits no more.
KafkaDoor::Waiting KafkaDoor::Take(uint64_t number) {
  Waiting waiting = std::move(waiting_.extract(number).mapped());
  const auto [begin, end] = by_name_.equal_range(waiting.name);
  by_name_.erase(std::find_if(begin, end, [&](const auto& one) { return one.second == number; }));
  if (waiting.place) by_place_.erase(*waiting.place);
  return waiting;
}

KafkaDoor::Waiting KafkaDoor::TakeAnswered(uint64_t number) {
  Waiting waiting = Take(number);
  answer_.Add(Clock::now() - waiting.since);
  return waiting;
}

void KafkaDoor::OnDelivery(uint64_t number, const KafkaGateway::Delivery& delivery) {
  using enum KafkaGateway::Delivery::Fate;
  Following following;
  std::optional<std::string> early;
  {
    const MutexLock lock(mutex_);
    const auto found = waiting_.find(number);
    if (found == waiting_.end()) return;  // it was let go
    Waiting& waiting = found->second;
    if (delivery.fate == kStored) {
      ++counts_.stored;
      produce_.Add(Clock::now() - waiting.since);
      waiting.place = delivery.place;
      by_place_.emplace(delivery.place, number);
      following = waiting.following;
      const auto seen = waiting.early.find(delivery.place);
      if (seen != waiting.early.end()) early = std::move(seen->second);
      waiting.early.clear();
      if (early) TakeAnswered(number);
    } else {
      ++(delivery.fate == kNotStored ? counts_.not_stored : counts_.unknown);
      following = Take(number).following;
    }
  }
  if (delivery.fate == kNotStored && following.failed) following.failed(delivery.error);
  if (delivery.fate == kUnknown && following.unknown) following.unknown(delivery.error);
  if (delivery.fate != kStored) return;
  if (following.stored) following.stored(delivery.place.offset);
  if (!early) return;
  const Result<RecordedOutcome> outcome = DecodeOutcome(*early);
  if (outcome.ok()) Tell(following, *outcome, *early);
}

// ---- Out ----------------------------------------------------------------------------------------

void KafkaDoor::OnOutcome(const Place& place, const std::string& line) {
  const Result<RecordedOutcome> outcome = DecodeOutcome(line);
  if (!outcome.ok()) return;  // of another program
  outcomes_.Add(*outcome, line);
  std::optional<Following> following;
  {
    const MutexLock lock(mutex_);
    ++counts_.outcomes;
    const auto stored = by_place_.find(place);
    if (stored != by_place_.end()) {
      following = TakeAnswered(stored->second).following;
    } else {
      // The brokers' word that an event is stored can be later than its outcome.
      const auto [begin, end] =
          by_name_.equal_range({outcome->outcome.tenant, outcome->outcome.id});
      for (auto one = begin; one != end; ++one) {
        Waiting& waiting = waiting_.at(one->second);
        if (!waiting.place) waiting.early.emplace(place, line);
      }
    }
  }
  if (following) Tell(*following, *outcome, line);
  if (SaysAll(*outcome)) TellHeld(*outcome, line);
}

void KafkaDoor::Tell(const Following& following, const RecordedOutcome& outcome,
                     const std::string& line) {
  if (!following.outcome) return;
  if (!IsDuplicate(outcome.outcome)) return following.outcome(line);
  if (const auto first = FirstOf(outcome)) return following.outcome(*first);
  held_.push_back({following, outcome, line, Clock::now() + kFirstWait});
}

std::optional<std::string> KafkaDoor::FirstOf(const RecordedOutcome& duplicate) const {
  const auto kept = outcomes_.Find(duplicate.outcome.tenant, duplicate.outcome.id);
  if (!kept) return std::nullopt;
  const Result<RecordedOutcome> first = DecodeOutcome(*kept);
  if (!first.ok() || !SaysAll(*first) || !HaveOneSource(*first, duplicate)) return std::nullopt;
  return kept;
}

void KafkaDoor::TellHeld(const RecordedOutcome& outcome, const std::string& line) {
  for (auto held = held_.begin(); held != held_.end();) {
    const bool is_its = HaveOneSource(held->receipt, outcome);
    if (is_its) held->following.outcome(line);
    held = is_its ? held_.erase(held) : std::next(held);
  }
}

// ---- Run ----------------------------------------------------------------------------------------

void KafkaDoor::LetGo(Clock::time_point now, const std::string& why) {
  while (!held_.empty() && held_.front().until <= now) {
    held_.front().following.outcome(held_.front().line);
    held_.pop_front();
  }
  for (;;) {
    Waiting late;
    {
      const MutexLock lock(mutex_);
      if (waiting_.empty() || waiting_.begin()->second.until > now) return;
      late = Take(waiting_.begin()->first);
    }
    constexpr char kAskAgain[] = "ask again with the same id: it counts once";
    if (late.place && late.following.failed) {
      late.following.failed({Code::kUnavailable,
                             "the event is stored at offset " + std::to_string(late.place->offset) +
                                 " and has no outcome yet: " + why,
                             kAskAgain});
    } else if (!late.place && late.following.unknown) {
      late.following.unknown(
          {Code::kUnavailable, "the event may have been stored: " + why, kAskAgain});
    }
  }
}

bool KafkaDoor::IsEmpty() const {
  const MutexLock lock(mutex_);
  return waiting_.empty() && held_.empty();
}

Result<Nothing> KafkaDoor::Turn() {
  const Result<Nothing> turned = gateway_.Turn();
  LetGo(Clock::now(), "gateway.outcome_timeout_ms, " +
                          std::to_string(options_.gateway.outcome_timeout.count()) + ", is over");
  return turned;
}

Result<Nothing> KafkaDoor::Run() {
  Result<Nothing> turned = Nothing{};
  phase_ = RunView::Phase::kServing;
  while (!stop_ && turned.ok()) turned = Turn();
  phase_ = RunView::Phase::kDraining;
  const auto end = Clock::now() + options_.gateway.drain;
  while (turned.ok() && !IsEmpty() && Clock::now() < end) turned = Turn();
  AnswerRest();
  return turned;
}

void KafkaDoor::AnswerRest() {
  {
    const MutexLock lock(mutex_);
    closed_ = true;
  }
  LetGo(Clock::time_point::max(), "this gateway ends; any other will know of it");
}

bool KafkaDoor::Awaits(std::string_view tenant, int64_t offset) const {
  const int32_t partition = Murmur2Partition(tenant, gateway_.partitions());
  const MutexLock lock(mutex_);
  return by_place_.contains({partition, offset});
}

KafkaDoor::Counts KafkaDoor::counts() const {
  const MutexLock lock(mutex_);
  return counts_;
}

GatewayView KafkaDoor::View() const {
  GatewayView view;
  view.phase = phase_;
  view.brokers = options_.kafka.brokers;
  view.input_topic = options_.kafka.input_topic;
  const Counts counted = counts();
  view.stored = counted.stored;
  view.not_stored = counted.not_stored;
  view.unknown = counted.unknown;
  view.outcomes = counted.outcomes;
  view.produce = RunView::Of(produce_);
  view.answer = RunView::Of(answer_);
  view.waiting_events_limit = options_.gateway.in_flight_max;
  view.outcomes_held = outcomes_.size();
  const MutexLock lock(mutex_);
  view.waiting_events = waiting_.size();
  return view;
}

// ---- What is elsewhere --------------------------------------------------------------------------

std::optional<Error> KafkaDoor::WithoutState() const {
  return Elsewhere();
}

Result<std::string> KafkaDoor::Lessons(const LessonsAsked&) const {
  return Elsewhere();
}

Result<std::vector<PublishedSnapshot>> KafkaDoor::Snapshots(const SnapshotsAsked&) const {
  return Elsewhere();
}

Result<std::optional<SnapshotFile>> KafkaDoor::OpenSnapshotFile(const std::string&,
                                                                const std::string&,
                                                                const std::string&) const {
  return Elsewhere();
}

std::shared_ptr<void> KafkaDoor::WatchSnapshots(const std::string&, std::optional<int64_t>,
                                                std::function<void(const SnapshotNews& news)>) {
  return nullptr;
}

}  // namespace nudge
