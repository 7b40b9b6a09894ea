#include "connectors/kafka_gateway.h"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "connectors/kafka_outcomes.h"
#include "connectors/kafka_shared.h"

namespace nudge {

using namespace kafka;

namespace {

using Delivery = KafkaGateway::Delivery;
using Fate = KafkaGateway::Delivery::Fate;
using Place = KafkaGateway::Place;

constexpr std::chrono::milliseconds kLongestWait{20};
constexpr std::chrono::milliseconds kPurge{2'000};

Delivery NotStored(Code code, std::string message, std::string remedy) {
  return {Fate::kNotStored, {}, {code, std::move(message), std::move(remedy)}};
}

Delivery Unknown(const std::string& why) {
  return {Fate::kUnknown,
          {},
          {Code::kUnavailable, "the event may have been stored: " + why,
           "send it again with the same id: it counts once"}};
}

Delivery TooLarge(size_t bytes, const std::string& limit) {
  return NotStored(
      Code::kTooLarge,
      "event: " + std::to_string(bytes) + " bytes with its tenant are over the limit of " + limit,
      "shorten it, or raise kafka.message_bytes and the topic's max.message.bytes");
}

Delivery OfMessage(const rd_kafka_message_t& message) {
  if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR && message.offset >= 0) {
    return {Fate::kStored, {message.partition, message.offset}, {}};
  }
  if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR) return Unknown("no broker said where");
  const std::string words = rd_kafka_err2str(message.err);
  if (message.err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
    return TooLarge(message.len + message.key_len, "the broker");
  }
  if (rd_kafka_message_status(&message) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED) return Unknown(words);
  return NotStored(Code::kUnavailable, "the event is not stored: " + words,
                   "send it again later, and see whether the brokers are up and can be reached");
}

// ---- Events -------------------------------------------------------------------------------------

class EventSender {
 public:
  EventSender(const KafkaOptions& options, const GatewayOptions& gateway, int32_t partitions,
              Bell& bell)
      : options_(options), gateway_(gateway), partitions_(partitions), bell_(bell), ear_(options) {
    ear_.on_delivery = [this](const rd_kafka_message_t& message) {
      Settle(reinterpret_cast<uintptr_t>(message._private), OfMessage(message));
    };
    Connect();
  }
  ~EventSender() {
    if (queue_) Bell::StopWatching(queue_.get());
  }
  EventSender(const EventSender&) = delete;
  EventSender& operator=(const EventSender&) = delete;

  void Send(std::string tenant, std::string event, KafkaGateway::OnDelivery on_delivery);
  bool Turn();  // whether there was anything to do

 private:
  struct Given {
    std::string tenant;
    std::string event;
    KafkaGateway::OnDelivery on_delivery;
    Clock::time_point deadline;
  };
  struct Sent {
    size_t bytes = 0;
    KafkaGateway::OnDelivery on_delivery;
    Clock::time_point deadline;
  };

  void Connect();
  void Produce(Given given);
  void Settle(uint64_t number, const Delivery& delivery);
  void Expire();
  bool RebuildIfBroken();

  const KafkaOptions& options_;
  const GatewayOptions& gateway_;
  const int32_t partitions_;
  Bell& bell_;
  Ear ear_;
  Handle handle_;
  Queue queue_;
  Topic topic_;
  uint64_t number_ = 0;            // of the event that was sent last
  std::map<uint64_t, Sent> sent_;  // by number, and so by deadline
  Mutex mutex_;
  std::deque<Given> given_ GUARDED_BY(mutex_);
  uint64_t undelivered_bytes_ GUARDED_BY(mutex_) = 0;
};

// A producer, in the place of the one before. It gives an event up so early that its word comes
// before the deadline: it looks once a second.
void EventSender::Connect() {
  constexpr int kKibi = 1024;
  const auto patience = gateway_.delivery_timeout * 3 / 4;
  if (queue_) Bell::StopWatching(queue_.get());
  topic_.reset();
  queue_.reset();
  handle_.reset();
  handle_ = MakeHandle(
      Kind::kProducer,
      Configure(options_, ear_, {{"compression.codec", "lz4"}, {"linger.ms", "1"}},
                {{"enable.idempotence", "true"},
                 {"message.timeout.ms", std::to_string(patience.count())},
                 {"message.max.bytes", std::to_string(options_.message_bytes + kOverheadBytes)},
                 {"queue.buffering.max.messages", std::to_string(gateway_.in_flight_max)},
                 {"queue.buffering.max.kbytes",
                  std::to_string(gateway_.undelivered_bytes_max / kKibi + kKibi)}}),
      ear_);
  queue_.reset(rd_kafka_queue_get_main(handle_.get()));
  bell_.WatchQueue(queue_.get());
  topic_.reset(rd_kafka_topic_new(handle_.get(), options_.input_topic.c_str(), nullptr));
  ENSURE(topic_ != nullptr);
}

void EventSender::Send(std::string tenant, std::string event,
                       KafkaGateway::OnDelivery on_delivery) {
  const size_t bytes = tenant.size() + event.size();
  if (bytes > options_.message_bytes) {
    return on_delivery(TooLarge(bytes, std::to_string(options_.message_bytes)));
  }
  const auto deadline = Clock::now() + gateway_.delivery_timeout;
  {
    const MutexLock lock(mutex_);
    const uint64_t most = gateway_.undelivered_bytes_max;
    if (undelivered_bytes_ == 0 || undelivered_bytes_ + bytes <= most) {
      undelivered_bytes_ += bytes;
      given_.push_back(
          {std::move(tenant), std::move(event), std::exchange(on_delivery, {}), deadline});
    }
  }
  if (!on_delivery) return bell_.Ring();
  on_delivery(
      NotStored(Code::kBusy,
                "the event is not stored: " + std::to_string(gateway_.undelivered_bytes_max) +
                    " bytes of events wait for the brokers",
                "send it again later, or raise gateway.undelivered_bytes_max"));
}

bool EventSender::Turn() {
  std::deque<Given> given;
  {
    const MutexLock lock(mutex_);
    given.swap(given_);
  }
  for (Given& one : given) Produce(std::move(one));
  const bool is_told = rd_kafka_poll(handle_.get(), 0) > 0;
  Expire();
  return RebuildIfBroken() || is_told || !given.empty();
}

void EventSender::Produce(Given given) {
  const uint64_t number = ++number_;
  const size_t bytes = given.tenant.size() + given.event.size();
  sent_.emplace(number, Sent{bytes, std::move(given.on_delivery), given.deadline});
  const int failed = rd_kafka_produce(topic_.get(), Murmur2Partition(given.tenant, partitions_),
                                      RD_KAFKA_MSG_F_COPY, given.event.data(), given.event.size(),
                                      given.tenant.data(), given.tenant.size(),
                                      reinterpret_cast<void*>(static_cast<uintptr_t>(number)));
  if (failed == 0) return;
  const rd_kafka_resp_err_t code = rd_kafka_last_error();
  const std::string words = rd_kafka_err2str(code);
  if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
    return Settle(number, TooLarge(bytes, "librdkafka"));
  }
  const bool is_full = code == RD_KAFKA_RESP_ERR__QUEUE_FULL;
  Settle(number, NotStored(is_full ? Code::kBusy : Code::kUnavailable,
                           "the event is not stored: " + words, "send it again later"));
}

// Of an event that was settled before, when its time was over, nothing.
void EventSender::Settle(uint64_t number, const Delivery& delivery) {
  const auto sent = sent_.extract(number);
  if (sent.empty()) return;
  {
    const MutexLock lock(mutex_);
    undelivered_bytes_ -= sent.mapped().bytes;
  }
  sent.mapped().on_delivery(delivery);
}

void EventSender::Expire() {
  const auto now = Clock::now();
  while (!sent_.empty() && sent_.begin()->second.deadline <= now) {
    Settle(sent_.begin()->first,
           Unknown("no broker said so within " + std::to_string(gateway_.delivery_timeout.count()) +
                   " ms"));
  }
}

// An idempotent producer that lost track of what it sent, when a broker came back say, does no
// more.
bool EventSender::RebuildIfBroken() {
  std::array<char, 512> text{};
  if (rd_kafka_fatal_error(handle_.get(), text.data(), text.size()) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    return false;
  }
  ear_.Trouble("the producer of events is replaced: " + std::string(text.data()));
  Bounded("rd_kafka_purge", kUntimed, [&] {
    return rd_kafka_purge(handle_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  });
  const auto end = Clock::now() + kPurge;
  while (rd_kafka_outq_len(handle_.get()) > 0 && Clock::now() < end) {
    Bounded("rd_kafka_poll", kLongestWait,
            [&] { return rd_kafka_poll(handle_.get(), Milliseconds(kLongestWait)); });
  }
  Connect();
  return true;
}

}  // namespace

// ---- KafkaGateway -------------------------------------------------------------------------------

class KafkaGateway::Link {
 public:
  Link(KafkaOptions options, const GatewayOptions& gateway, OnOutcome on_outcome)
      : options_(std::move(options)),
        gateway_(gateway),
        partitions_(CountPartitionsOfAll()),
        sender_(options_, gateway_, partitions_, bell_),
        outcomes_(
            options_, OutputTopics(options_),
            [most = int64_t{gateway_.look_back_messages_max}](const KafkaOutcomes::Stream& stream) {
              return std::max(stream.low, stream.high - most);
            },
            [on_outcome = std::move(on_outcome)](const KafkaOutcomes::Message& message) {
              on_outcome({message.partition, message.offset}, message.line);
            },
            &bell_) {}

  int32_t partitions() const { return partitions_; }
  EventSender& sender() { return sender_; }

  Result<bool> CatchUp(const std::atomic<bool>& stop) {
    const auto deadline = Clock::now() + options_.start_timeout;
    while (!outcomes_.has_caught_up() && !stop && Clock::now() < deadline) {
      if (Result<Nothing> turned = Turn(); !turned) return turned.error();
    }
    return outcomes_.has_caught_up();
  }

  // First what is stored: an outcome comes later as a rule.
  Result<Nothing> Turn() {
    try {
      const bool has_sent = sender_.Turn();
      const Result<bool> has_read = outcomes_.Turn({});
      if (!has_read) return has_read.error();
      if (!has_sent && !*has_read) bell_.WaitUntil(Clock::now() + kLongestWait);
      return Nothing{};
    } catch (const StartError& error) {  // no new producer is to be had
      return Error{Code::kUnavailable, error.what(), ""};
    }
  }

 private:
  int32_t CountPartitionsOfAll() {
    Ear ear(options_);
    return CheckTopics(options_, ear, {options_.input_topic});
  }

  const KafkaOptions options_;
  const GatewayOptions gateway_;
  const int32_t partitions_;
  Bell bell_;
  EventSender sender_;
  KafkaOutcomes outcomes_;
};

KafkaGateway::KafkaGateway(KafkaOptions options, const GatewayOptions& gateway,
                           OnOutcome on_outcome)
    : link_(std::make_unique<Link>(std::move(options), gateway, std::move(on_outcome))) {}

KafkaGateway::~KafkaGateway() = default;

int32_t KafkaGateway::partitions() const {
  return link_->partitions();
}

void KafkaGateway::Send(std::string tenant, std::string event, OnDelivery on_delivery) {
  link_->sender().Send(std::move(tenant), std::move(event), std::move(on_delivery));
}

Result<bool> KafkaGateway::CatchUp(const std::atomic<bool>& stop) {
  return link_->CatchUp(stop);
}

Result<Nothing> KafkaGateway::Turn() {
  return link_->Turn();
}

}  // namespace nudge
