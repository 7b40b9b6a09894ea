#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "connectors/kafka.h"
#include "connectors/kafka_shared.h"

namespace nudge {

using namespace kafka;

// As in org.apache.kafka.common.utils.Utils: MurmurHash2 (Appleby 2008) with Kafka's seed.
int32_t Murmur2Partition(std::string_view key, int32_t partitions) {
  constexpr uint32_t kSeed = 0x9747b28c;
  constexpr uint32_t kMultiplier = 0x5bd1e995;
  const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(key[i])}; };
  uint32_t hash = kSeed ^ static_cast<uint32_t>(key.size());
  size_t i = 0;
  for (; i + 4 <= key.size(); i += 4) {
    uint32_t word = byte(i) | byte(i + 1) << 8 | byte(i + 2) << 16 | byte(i + 3) << 24;
    word *= kMultiplier;
    word ^= word >> 24;
    hash = hash * kMultiplier ^ word * kMultiplier;
  }
  if (i < key.size()) {
    uint32_t tail = 0;
    for (size_t j = key.size(); j > i; --j) tail = tail << 8 | byte(j - 1);
    hash = (hash ^ tail) * kMultiplier;
  }
  hash ^= hash >> 13;
  hash *= kMultiplier;
  hash ^= hash >> 15;
  return static_cast<int32_t>(hash & 0x7fffffff) % partitions;
}

namespace {

void CheckOptions(const KafkaOptions& options) {
  const auto require = [](const std::string& value, const char* name) {
    if (value.empty()) throw StartError(std::string("kafka.") + name + ": is empty");
  };
  require(options.brokers, "brokers");
  require(options.group_id, "group_id");
  require(options.instance_id, "instance_id");
  require(options.input_topic, "input_topic");
  for (const std::string& topic : OutputTopics(options)) {
    require(topic, "response_topic, receipt_topic or dead_letter_topic");
    if (topic == options.input_topic) {
      throw StartError("kafka: topic " + topic + " is input and output: outcomes are no events");
    }
  }
}

std::string Text(std::chrono::milliseconds duration) {
  return std::to_string(duration.count());
}

Configuration ConsumerConfiguration(const KafkaOptions& options, Ear& ear) {
  constexpr int kKibi = 1024;
  const auto partitions_share = std::max<size_t>(options.fetch_bytes / kKibi, kKibi);
  return Configure(
      options, ear,
      {
          // One fetch at a time is under way to a broker: a partition without news must not hold up
          // the others for long.
          {"fetch.wait.max.ms", "50"},
      },
      {
          {"group.id", options.group_id},
          {"group.instance.id", options.instance_id},
          {"session.timeout.ms", Text(options.session_timeout)},
          {"heartbeat.interval.ms",
           Text(std::min(options.session_timeout / 5, std::chrono::milliseconds(3'000)))},
          {"partition.assignment.strategy", "range"},
          {"isolation.level", "read_committed"},  // and stable offsets with it
          {"enable.auto.commit", "false"},
          {"enable.auto.offset.store", "false"},
          {"enable.partition.eof", "true"},  // it tells how far the log goes behind its last event
          {"auto.offset.reset", "error"},  // every position is given; one that is gone is an error
          {"statistics.interval.ms", Text(options.statistics_interval)},
          {"queued.min.messages", "10000000"},  // the bytes decide
          {"fetch.queue.backoff.ms", kFetchBackoffMs},
          {"queued.max.messages.kbytes", std::to_string(partitions_share)},
      });
}

// Says that the limits of topics could not be had; whoever writes finds out then.
void Unchecked(Ear& ear, std::string_view why) {
  ear.Log("max.message.bytes of the topics is not known (" + std::string(why) +
          "): kafka.message_bytes is not checked against it");
}

// A message that a topic does not take would fail again and again, and with it those beside it.
void CheckMessageLimit(const rd_kafka_ConfigResource_t* topic, const KafkaOptions& options) {
  size_t count = 0;
  const rd_kafka_ConfigEntry_t** const entries = rd_kafka_ConfigResource_configs(topic, &count);
  for (size_t i = 0; i < count; ++i) {
    const char* const value = rd_kafka_ConfigEntry_value(entries[i]);
    if (value == nullptr ||
        std::string_view(rd_kafka_ConfigEntry_name(entries[i])) != "max.message.bytes") {
      continue;
    }
    const size_t limit = std::strtoull(value, nullptr, 10);
    if (options.message_bytes + kOverheadBytes <= limit) return;
    throw StartError(
        "topic " + std::string(rd_kafka_ConfigResource_name(topic)) + " takes messages of " +
        value + " bytes (max.message.bytes), and messages may be " +
        std::to_string(options.message_bytes) + ": raise it, or lower kafka.message_bytes to " +
        std::to_string(limit - std::min(limit, kOverheadBytes)) + " or less");
  }
}

// A broker that can tell tells at once, since it has just answered; waiting longer for one that
// cannot is in vain.
constexpr std::chrono::milliseconds kTelling{3'000};

void CheckMessageLimits(rd_kafka_t* handle, const std::vector<std::string>& written,
                        const KafkaOptions& options, Ear& ear) {
  std::vector<rd_kafka_ConfigResource_t*> topics;
  for (const std::string& topic : written) {
    topics.push_back(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str()));
  }
  rd_kafka_AdminOptions_t* const admin =
      rd_kafka_AdminOptions_new(handle, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
  std::array<char, 512> text{};
  const int timeout_ms = Milliseconds(std::min(kTelling, options.start_timeout));
  rd_kafka_AdminOptions_set_request_timeout(admin, timeout_ms, text.data(), text.size());
  const Queue queue(rd_kafka_queue_new(handle));
  rd_kafka_DescribeConfigs(handle, topics.data(), topics.size(), admin, queue.get());
  rd_kafka_AdminOptions_destroy(admin);
  rd_kafka_ConfigResource_destroy_array(topics.data(), topics.size());
  const Result<Answer> event = Await(queue.get(), "ask for the topics' limits", timeout_ms);
  if (!event) return Unchecked(ear, event.error().message);
  if (rd_kafka_event_error(event->get()) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return Unchecked(ear, rd_kafka_event_error_string(event->get()));
  }
  size_t count = 0;
  const rd_kafka_ConfigResource_t** const told = rd_kafka_DescribeConfigs_result_resources(
      rd_kafka_event_DescribeConfigs_result(event->get()), &count);
  for (size_t i = 0; i < count; ++i) {
    const rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(told[i]);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return Unchecked(ear, rd_kafka_err2str(code));
    CheckMessageLimit(told[i], options);
  }
}

}  // namespace

// By a consumer of its own: fetched records wait in one queue a partition, whose limit is fixed
// when a consumer is made, before it knows its partitions.
int32_t kafka::CheckTopics(const KafkaOptions& options, Ear& ear,
                           const std::vector<std::string>& written) {
  CheckOptions(options);
  const Handle handle =
      MakeHandle(Kind::kConsumer, ConfigureAsker(options, ear, options.group_id), ear);
  const int32_t count = CountPartitions(handle.get(), options.input_topic, options, ear);
  const auto missing = [](const std::string& topic) {
    return StartError("Kafka has no topic " + topic + ": make it, or start with --create-topics");
  };
  if (count == 0) throw missing(options.input_topic);
  for (const std::string& topic : OutputTopics(options)) {
    const int32_t outputs = CountPartitions(handle.get(), topic, options, ear);
    if (outputs == 0) throw missing(topic);
    if (outputs == count) continue;
    throw StartError("topic " + topic + " has " + std::to_string(outputs) + " partitions and " +
                     options.input_topic + " has " + std::to_string(count) +
                     ": make them as many, since outcomes go where their events came from");
  }
  CheckMessageLimits(handle.get(), written, options, ear);
  return count;
}

// ---- Shared -------------------------------------------------------------------------------------

KafkaClient::Shared::Shared(KafkaOptions given) : options(std::move(given)), ear(options) {
  partitions = CheckTopics(options, ear, OutputTopics(options));
  ear.on_statistics = [this](std::string_view json) { ReadStatistics(json); };
  ear.on_rebalance = [this](int code, rd_kafka_topic_partition_list_s* list) {
    if (on_rebalance) {
      on_rebalance(code, list);
    } else {
      Bounded("rd_kafka_assign", kUntimed,
              [&] { return rd_kafka_assign(consumer.get(), nullptr); });
    }
  };
  KafkaOptions per_partition = options;
  per_partition.fetch_bytes /= static_cast<size_t>(partitions);
  consumer = MakeHandle(Kind::kConsumer, ConsumerConfiguration(per_partition, ear), ear);
}

void KafkaClient::Shared::SetMembership(GroupMetadata metadata, std::set<int32_t> owned) {
  const MutexLock lock(mutex);
  membership_ = std::move(metadata);
  owned_ = std::move(owned);
  ends_.clear();
  std::erase_if(statistics.partitions,
                [&](const auto& entry) REQUIRES(mutex) { return !owned_.contains(entry.first); });
  for (const int32_t number : owned_) statistics.partitions[number];
}

void KafkaClient::Shared::SetEnd(int32_t partition, int64_t after, int64_t position) {
  const MutexLock lock(mutex);
  ends_[partition] = {after, position};
}

int64_t KafkaClient::Shared::PositionAfter(int32_t partition, int64_t offset) const {
  const MutexLock lock(mutex);
  const auto end = ends_.find(partition);
  const bool is_last = end != ends_.end() && end->second.first == offset;
  return is_last ? std::max(offset + 1, end->second.second) : offset + 1;
}

GroupMetadata KafkaClient::Shared::MembershipOf(const std::vector<int32_t>& numbers) const {
  const MutexLock lock(mutex);
  const bool all = std::all_of(numbers.begin(), numbers.end(), [&](int32_t number) REQUIRES(mutex) {
    return owned_.contains(number);
  });
  if (!all || !membership_) return nullptr;
  return membership_;
}

Result<std::map<int32_t, KafkaClient::Shared::Committed>> KafkaClient::Shared::CommittedOffsets(
    const std::vector<int32_t>& numbers, Clock::time_point deadline) {
  std::vector<Position> positions;
  for (const int32_t number : numbers) positions.push_back({number, RD_KAFKA_OFFSET_INVALID});
  while (true) {
    const PartitionList list = MakeList(options.input_topic, positions);
    const int timeout_ms = MillisecondsUntil(deadline);
    rd_kafka_resp_err_t code =
        Bounded("rd_kafka_committed", std::chrono::milliseconds(timeout_ms),
                [&] { return rd_kafka_committed(consumer.get(), list.get(), timeout_ms); });
    std::map<int32_t, Committed> committed;
    for (int i = 0; i < list->cnt; ++i) {
      const rd_kafka_topic_partition_t& entry = list->elems[i];
      if (code == RD_KAFKA_RESP_ERR_NO_ERROR) code = entry.err;
      Committed& found = committed[entry.partition];
      if (entry.offset >= 0) found.offset = entry.offset;
      found.metadata.assign(static_cast<const char*>(entry.metadata), entry.metadata_size);
    }
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return committed;
    const bool again = Classify(code, true, false, false) == Action::kRetry;
    if (!again || Clock::now() >= deadline) {
      return Explain("read the committed offsets of group " + options.group_id, code);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

void KafkaClient::Shared::ReadStatistics(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return;
  constexpr double kMicrosecondsPerMillisecond = 1000;
  const nlohmann::json none = nlohmann::json::object();
  const MutexLock lock(mutex);
  statistics.received_bytes = json.value("rx_bytes", uint64_t{0});
  statistics.round_trip_ms = 0;
  const nlohmann::json brokers = json.value("brokers", none);
  statistics.brokers_up = 0;
  for (const auto& [name, broker] : brokers.items()) {
    // Others are names for one of these, such as that of the group's coordinator.
    const bool is_real = broker.value("nodeid", -1) >= 0 && broker.value("source", "") != "logical";
    if (is_real && broker.value("state", "") == "UP") ++statistics.brokers_up;
    const double mean_us = broker.value("rtt", none).value("avg", 0.0);
    statistics.round_trip_ms =
        std::max(statistics.round_trip_ms, mean_us / kMicrosecondsPerMillisecond);
  }
  const nlohmann::json topics = json.value("topics", none);
  const nlohmann::json listed = topics.value(options.input_topic, none).value("partitions", none);
  for (auto& [number, partition] : statistics.partitions) {
    const nlohmann::json found = listed.value(std::to_string(number), none);
    const int64_t end = found.value("ls_offset", int64_t{-1});
    const int64_t delivered = found.value("app_offset", int64_t{-1});
    if (end >= 0 && delivered >= 0) partition.lag_events = std::max<int64_t>(0, end - delivered);
    partition.waiting_events = found.value("fetchq_cnt", int64_t{0});
    partition.waiting_bytes = found.value("fetchq_size", uint64_t{0});
  }
}

// ---- Client -------------------------------------------------------------------------------------

KafkaClient::KafkaClient(KafkaOptions options)
    : shared_(std::make_unique<Shared>(std::move(options))) {}

KafkaClient::~KafkaClient() = default;

const KafkaOptions& KafkaClient::options() const {
  return shared_->options;
}

int32_t KafkaClient::partitions() const {
  return shared_->partitions;
}

KafkaStatistics KafkaClient::statistics() const {
  const MutexLock lock(shared_->mutex);
  KafkaStatistics statistics = shared_->statistics;
  statistics.last_error = shared_->ear.last_trouble();
  return statistics;
}

// ---- Topics -------------------------------------------------------------------------------------

namespace {

// Asks for the topic; one that is there is fine.
Result<Nothing> CreateTopic(rd_kafka_t* handle, const std::string& name, int32_t partitions,
                            int16_t replication, int timeout_ms) {
  std::array<char, 512> text{};
  rd_kafka_NewTopic_t* topic =
      rd_kafka_NewTopic_new(name.c_str(), partitions, replication, text.data(), text.size());
  if (topic == nullptr) {
    return Error{Code::kUnavailable, "cannot make the topic " + name + ": " + text.data(), ""};
  }
  rd_kafka_AdminOptions_t* const admin = rd_kafka_AdminOptions_new(handle, RD_KAFKA_ADMIN_OP_ANY);
  rd_kafka_AdminOptions_set_request_timeout(admin, timeout_ms, text.data(), text.size());
  rd_kafka_AdminOptions_set_operation_timeout(admin, timeout_ms, text.data(), text.size());
  const Queue queue(rd_kafka_queue_new(handle));
  rd_kafka_CreateTopics(handle, &topic, 1, admin, queue.get());
  rd_kafka_AdminOptions_destroy(admin);
  rd_kafka_NewTopic_destroy(topic);
  const Result<Answer> answer = Await(queue.get(), "make the topic " + name, 2 * timeout_ms);
  if (!answer) return answer.error();
  rd_kafka_event_t* const event = answer->get();
  int code = rd_kafka_event_error(event);
  std::string words = code == 0 ? "" : rd_kafka_event_error_string(event);
  if (code == 0) {
    size_t count = 0;
    const rd_kafka_topic_result_t** const results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    for (size_t i = 0; i < count; ++i) {
      code = rd_kafka_topic_result_error(results[i]);
      const char* const said = rd_kafka_topic_result_error_string(results[i]);
      words = said != nullptr ? said : rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(code));
    }
  }
  if (code == 0 || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) return Nothing{};
  return Error{Code::kUnavailable, "cannot make the topic " + name + ": " + words,
               "make it by hand, or mend what the broker says"};
}

}  // namespace

Result<Nothing> CreateTopics(const KafkaOptions& options, int32_t partitions, int16_t replication) {
  Ear ear(options);
  try {
    const Handle handle = MakeHandle(Kind::kConsumer, ConfigureAsker(options, ear, "nudge"), ear);
    const auto deadline = Clock::now() + options.start_timeout;
    std::vector<std::string> topics = OutputTopics(options);
    topics.insert(topics.begin(), options.input_topic);
    for (const std::string& topic : topics) {
      if (CountPartitions(handle.get(), topic, options, ear) > 0) continue;
      Result<Nothing> created = CreateTopic(handle.get(), topic, partitions, replication,
                                            Milliseconds(options.start_timeout));
      if (!created) return created;
      while (CountPartitions(handle.get(), topic, options, ear) == 0) {
        if (Clock::now() >= deadline) {
          return Error{Code::kUnavailable, "the topic " + topic + " was made but does not appear",
                       "start again"};
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
  } catch (const StartError& error) {
    return Error{Code::kUnavailable, error.what(), ""};
  }
  return Nothing{};
}

}  // namespace nudge
