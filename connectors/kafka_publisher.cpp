#include <librdkafka/rdkafka.h>

#include <algorithm>

#include "connectors/codec.h"
#include "connectors/kafka.h"
#include "connectors/kafka_shared.h"

namespace nudge {

using namespace kafka;

class KafkaPublisher::Producer {
 public:
  explicit Producer(KafkaOptions given);

  Result<PublishReport> Publish(Source& events, const PublishOptions& options,
                                const std::atomic<bool>& stop);

 private:
  Result<Nothing> Send(const Record& record, const std::string& tenant);
  void Refuse(const Record& record, const std::string& why);
  void Note(std::string error);

  const KafkaOptions options_;
  Ear ear_;
  Handle handle_;
  Topic topic_;
  PublishReport report_;
};

namespace {

constexpr std::chrono::milliseconds kProgressEvery{200};

}  // namespace

KafkaPublisher::Producer::Producer(KafkaOptions given)
    : options_(std::move(given)), ear_(options_) {
  if (options_.brokers.empty()) throw StartError("kafka.brokers: is empty");
  if (options_.input_topic.empty()) throw StartError("kafka.input_topic: is empty");
  {
    // A consumer's question makes no topics.
    const Handle consumer =
        MakeHandle(Kind::kConsumer, ConfigureAsker(options_, ear_, "nudge"), ear_);
    if (CountPartitions(consumer.get(), options_.input_topic, options_, ear_) == 0) {
      throw StartError("Kafka has no topic " + options_.input_topic + ": make it first");
    }
  }
  ear_.on_delivery = [this](const rd_kafka_message_t& message) {
    if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      ++report_.delivered;
    } else {
      ++report_.failed;
      Note(Explain("send an event", message.err).message);
    }
  };
  handle_ = MakeHandle(
      Kind::kProducer,
      Configure(options_, ear_,
                {{"compression.codec", "lz4"},
                 {"linger.ms", "5"},
                 {"queue.buffering.max.kbytes", "65536"},
                 {"message.timeout.ms", std::to_string(options_.commit_timeout.count())}},
                {{"enable.idempotence", "true"},
                 {"partitioner", "murmur2_random"},
                 {"message.max.bytes", std::to_string(options_.message_bytes + kOverheadBytes)}}),
      ear_);
  topic_.reset(rd_kafka_topic_new(handle_.get(), options_.input_topic.c_str(), nullptr));
  ENSURE(topic_ != nullptr);
}

void KafkaPublisher::Producer::Note(std::string error) {
  if (report_.first_error.empty()) report_.first_error = std::move(error);
}

void KafkaPublisher::Producer::Refuse(const Record& record, const std::string& why) {
  ++report_.refused;
  Note("line " + std::to_string(record.offset + 1) + ": " + why);
}

Result<Nothing> KafkaPublisher::Producer::Send(const Record& record, const std::string& tenant) {
  constexpr int kWaitMs = 50;
  // A queue that is full has room again when messages have failed, at the latest.
  std::optional<BoundedCall> full;
  while (true) {
    const int failed = rd_kafka_produce(topic_.get(), RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                                        const_cast<char*>(record.bytes.data()), record.bytes.size(),
                                        tenant.data(), tenant.size(), nullptr);
    if (failed == 0) return Nothing{};
    const rd_kafka_resp_err_t code = rd_kafka_last_error();
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
      Refuse(record, "larger than kafka.message_bytes allows");
      return Nothing{};
    }
    if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) return Explain("send an event", code);
    if (!full) full.emplace("rd_kafka_produce", options_.commit_timeout + kGrace);
    rd_kafka_poll(handle_.get(), kWaitMs);
  }
}

Result<PublishReport> KafkaPublisher::Producer::Publish(Source& events,
                                                        const PublishOptions& options,
                                                        const std::atomic<bool>& stop) {
  report_ = {};
  const auto begun = Clock::now();
  auto next_progress = begun + kProgressEvery;
  uint64_t sent = 0;
  Record record;
  const auto serve = [&](int wait_ms) {
    rd_kafka_poll(handle_.get(), wait_ms);
    if (!options.on_progress || Clock::now() < next_progress) return;
    next_progress = Clock::now() + kProgressEvery;
    options.on_progress(report_.delivered);
  };
  std::optional<Error> error;
  while (!stop && !error) {
    const Result<Source::Pull> pull = events.Next(record, std::chrono::milliseconds(50));
    if (!pull) error = pull.error();
    if (!pull || *pull == Source::Pull::kEnd) break;
    serve(0);
    if (*pull == Source::Pull::kNothing) continue;
    const std::string tenant = record.refusal ? "" : PeekHead(record.bytes).tenant;
    if (record.refusal || tenant.empty()) {
      Refuse(record, record.refusal ? record.refusal->error.message : "no tenant in it");
      continue;
    }
    const Result<Nothing> handed = Send(record, tenant);
    if (!handed) error = handed.error();
    ++sent;
    if (options.events_per_second <= 0) continue;
    const auto due =
        begun + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                    static_cast<double>(sent) / options.events_per_second));
    while (!stop && Clock::now() < due) serve(std::min(MillisecondsUntil(due), 50));
  }
  Bounded("rd_kafka_flush", options_.commit_timeout, [&] {
    while (rd_kafka_outq_len(handle_.get()) > 0) {  // each ends within message.timeout.ms
      rd_kafka_flush(handle_.get(), 100);
      serve(0);
    }
  });
  if (options.on_progress) options.on_progress(report_.delivered);
  if (error) return *error;
  return report_;
}

KafkaPublisher::KafkaPublisher(KafkaOptions options)
    : producer_(std::make_unique<Producer>(std::move(options))) {}

KafkaPublisher::~KafkaPublisher() = default;

Result<PublishReport> KafkaPublisher::Publish(Source& events, const PublishOptions& options,
                                              const std::atomic<bool>& stop) {
  return producer_->Publish(events, options, stop);
}

}  // namespace nudge
