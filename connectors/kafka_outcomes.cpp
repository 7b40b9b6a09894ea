#include "connectors/kafka_outcomes.h"

#include <librdkafka/rdkafka.h>

#include <optional>
#include <set>
#include <utility>

#include "connectors/kafka_shared.h"

namespace nudge {

using namespace kafka;

namespace {

constexpr int kMessagesATurn = 512;  // then it is somebody else's turn

}  // namespace

class KafkaOutcomes::Reader {
 public:
  Reader(KafkaOptions options, const std::vector<std::string>& topics, const BeginAt& begin_at,
         OnMessage on_message, Bell* bell)
      : options_(std::move(options)),
        on_message_(std::move(on_message)),
        ear_(options_),
        consumer_(MakeHandle(Kind::kConsumer, ConsumerConfiguration(), ear_)),
        queue_(rd_kafka_queue_get_consumer(consumer_.get())) {
    if (bell != nullptr) bell->WatchQueue(queue_.get());
    const PartitionList begin = Begin(topics, begin_at);
    const rd_kafka_resp_err_t code = Bounded(
        "rd_kafka_assign", kUntimed, [&] { return rd_kafka_assign(consumer_.get(), begin.get()); });
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
      throw StartError(Explain("read outcomes", code).message);
    }
  }
  ~Reader() { Bell::StopWatching(queue_.get()); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Result<bool> Turn(std::chrono::milliseconds wait);
  bool has_caught_up() const { return ended_.size() == streams_; }

 private:
  Configuration ConsumerConfiguration();
  PartitionList Begin(const std::vector<std::string>& topics, const BeginAt& begin_at);
  KafkaMessage Poll(std::chrono::milliseconds wait);
  void Take(const rd_kafka_message_t& message);
  std::optional<Error> Hear(const rd_kafka_message_t& message);

  const KafkaOptions options_;
  const OnMessage on_message_;
  Ear ear_;
  Handle consumer_;
  Queue queue_;
  size_t streams_ = 0;
  std::set<std::pair<std::string, int32_t>> ended_;  // that were read to their end once
};

Configuration KafkaOutcomes::Reader::ConsumerConfiguration() {
  constexpr size_t kKibi = 1024;
  return Configure(
      options_, ear_, {{"fetch.wait.max.ms", "50"}},
      {
          {"group.id", options_.group_id},  // asked for, never joined
          {"session.timeout.ms", std::to_string(options_.session_timeout.count())},
          {"isolation.level", "read_committed"},
          {"enable.auto.commit", "false"},
          {"enable.auto.offset.store", "false"},
          {"enable.partition.eof", "true"},
          {"auto.offset.reset", "earliest"},    // what retention took before it was read is gone
          {"queued.min.messages", "10000000"},  // the bytes decide
          {"fetch.queue.backoff.ms", kFetchBackoffMs},
          {"queued.max.messages.kbytes", std::to_string(options_.fetch_bytes / kKibi)},
      });
}

PartitionList KafkaOutcomes::Reader::Begin(const std::vector<std::string>& topics,
                                           const BeginAt& begin_at) {
  PartitionList list(rd_kafka_topic_partition_list_new(1));
  for (const std::string& topic : topics) {
    const int32_t partitions = CountPartitions(consumer_.get(), topic, options_, ear_);
    if (partitions == 0) throw StartError("there is no topic " + topic);
    for (int32_t partition = 0; partition < partitions; ++partition) {
      const Result<Range> range =
          RangeOf(consumer_.get(), topic, partition, options_.start_timeout);
      if (!range) throw StartError(range.error().message + "; " + range.error().remedy);
      rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset =
          begin_at({topic, partition, range->low, range->high});
      ++streams_;
    }
  }
  return list;
}

KafkaMessage KafkaOutcomes::Reader::Poll(std::chrono::milliseconds wait) {
  if (wait.count() <= 0) return KafkaMessage(rd_kafka_consumer_poll(consumer_.get(), 0));
  return Bounded("rd_kafka_consumer_poll", wait, [&] {
    return KafkaMessage(rd_kafka_consumer_poll(consumer_.get(), Milliseconds(wait)));
  });
}

Result<bool> KafkaOutcomes::Reader::Turn(std::chrono::milliseconds wait) {
  for (int taken = 0; taken < kMessagesATurn; ++taken) {
    const KafkaMessage message = Poll(taken == 0 ? wait : std::chrono::milliseconds(0));
    if (!message) return taken > 0;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      Take(*message);
    } else if (std::optional<Error> error = Hear(*message)) {
      return *std::move(error);
    }
  }
  return true;
}

void KafkaOutcomes::Reader::Take(const rd_kafka_message_t& message) {
  const std::optional<int64_t> offset = InputOffset(message);
  if (!offset) return;  // not nudge's
  on_message_({rd_kafka_topic_name(message.rkt),
               message.partition,
               message.offset,
               *offset,
               {static_cast<const char*>(message.payload), message.len}});
}

std::optional<Error> KafkaOutcomes::Reader::Hear(const rd_kafka_message_t& message) {
  const std::string words = rd_kafka_message_errstr(&message);
  switch (message.err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
      ended_.emplace(rd_kafka_topic_name(message.rkt), message.partition);
      return std::nullopt;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
      return Error{Code::kUnreadableFile, "a topic of outcomes is gone: " + words,
                   "make it again, or correct the configuration"};
    default:
      break;
  }
  if (Classify(message.err, true, false, false) == Action::kRefuse) {
    return Explain("read outcomes", message.err);
  }
  ear_.Trouble(words);  // librdkafka goes on by itself
  return std::nullopt;
}

KafkaOutcomes::KafkaOutcomes(KafkaOptions options, const std::vector<std::string>& topics,
                             const BeginAt& begin_at, OnMessage on_message, Bell* bell)
    : reader_(std::make_unique<Reader>(std::move(options), topics, begin_at, std::move(on_message),
                                       bell)) {}

KafkaOutcomes::~KafkaOutcomes() = default;

Result<bool> KafkaOutcomes::Turn(std::chrono::milliseconds wait) {
  return reader_->Turn(wait);
}

bool KafkaOutcomes::has_caught_up() const {
  return reader_->has_caught_up();
}

}  // namespace nudge
