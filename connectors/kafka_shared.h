// What the Kafka files share: owners of librdkafka's objects, its configuration, its errors.
// Private to connectors/kafka*.cpp and their tests; librdkafka's own names are declared, not
// included.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "connectors/bounded_call.h"
#include "connectors/kafka.h"
#include "stages/guarded.h"

struct rd_kafka_s;
struct rd_kafka_queue_s;
struct rd_kafka_conf_s;
struct rd_kafka_topic_s;
struct rd_kafka_message_s;
struct rd_kafka_error_s;
struct rd_kafka_topic_partition_list_s;
struct rd_kafka_op_s;
struct rd_kafka_consumer_group_metadata_s;

namespace nudge::kafka {

using Clock = std::chrono::steady_clock;

struct Delete {
  void operator()(rd_kafka_s* handle) const;  // waits for its threads; messages in it are dropped
  void operator()(rd_kafka_queue_s* queue) const;
  void operator()(rd_kafka_conf_s* configuration) const;
  void operator()(rd_kafka_topic_s* topic) const;
  void operator()(rd_kafka_message_s* message) const;
  void operator()(rd_kafka_error_s* error) const;
  void operator()(rd_kafka_topic_partition_list_s* list) const;
  void operator()(rd_kafka_op_s* event) const;
  void operator()(const rd_kafka_consumer_group_metadata_s* metadata) const;
};

using Handle = std::unique_ptr<rd_kafka_s, Delete>;
using Queue = std::unique_ptr<rd_kafka_queue_s, Delete>;
using Configuration = std::unique_ptr<rd_kafka_conf_s, Delete>;
using Topic = std::unique_ptr<rd_kafka_topic_s, Delete>;
using KafkaMessage = std::unique_ptr<rd_kafka_message_s, Delete>;
using KafkaError = std::unique_ptr<rd_kafka_error_s, Delete>;
using PartitionList = std::unique_ptr<rd_kafka_topic_partition_list_s, Delete>;
using Answer = std::unique_ptr<rd_kafka_op_s, Delete>;
using GroupMetadata = std::shared_ptr<const rd_kafka_consumer_group_metadata_s>;

// Milliseconds for librdkafka, which takes int; at least 0.
int Milliseconds(Clock::duration duration);
int MillisecondsUntil(Clock::time_point deadline);

// A call may come back so much later than its own time limit says, on a machine that is busy.
inline constexpr std::chrono::seconds kGrace{10};

// The limit of calls that have none of their own and do not go by the configuration: their work is
// done within librdkafka, most of it in microseconds.
inline constexpr std::chrono::seconds kUntimed{30};

// Calls the library's `name`, which should take `limit` at most: see BoundedCall.
template <class Call>
auto Bounded(const char* name, Clock::duration limit, const Call& call) {
  const BoundedCall bounded(name, limit + kGrace);
  return call();
}

// ---- Errors -------------------------------------------------------------------------------------

// What an error of librdkafka asks for.
enum class Action {
  kRetry,     // the same call again
  kAbort,     // abort the transaction, send it again
  kRebuild,   // this producer is finished: take another, and ask the brokers what was committed
  kNotOwner,  // the group gave the partitions to somebody else
  kFenced,    // somebody else has this process's place
  kRefuse,    // the brokers will not have it, however often it is tried
};

// `code` is an rd_kafka_resp_err_t; the flags are those of an rd_kafka_error_t.
Action Classify(int code, bool is_retriable, bool is_abortable, bool is_fatal);

struct Failure {
  Action action;
  Error error;
};

// "cannot <what>: <librdkafka's words>", with the remedy that fits.
Failure Explain(std::string_view what, const KafkaError& error);
Error Explain(std::string_view what, int code);

// ---- Handles ------------------------------------------------------------------------------------

// Where a handle's callbacks leave what they hear. Outlives the handle.
class Ear {
 public:
  explicit Ear(const KafkaOptions& options) : options_(options) {}

  void Log(std::string_view line);
  void Trouble(std::string_view line);
  std::string last_trouble() const;
  // A broker did not accept the secrets or certificates, or this process that broker's.
  void Refused(std::string_view line);
  std::string refusal() const;  // the last one; empty: none

  // `text` with every value of options.properties replaced.
  std::string WithoutSecrets(std::string_view text) const;

  // A consumer's, set before it is made; called by consumer_poll.
  std::function<void(std::string_view json)> on_statistics;
  std::function<void(int code, rd_kafka_topic_partition_list_s* partitions)> on_rebalance;
  // A producer's, called by its poll: for each message, when it has ended.
  std::function<void(const rd_kafka_message_s& message)> on_delivery;

 private:
  const KafkaOptions& options_;
  mutable Mutex mutex_;
  std::string last_trouble_ GUARDED_BY(mutex_);
  std::string refusal_ GUARDED_BY(mutex_);
};

using Settings = std::initializer_list<std::pair<const char*, std::string>>;

// Brokers, callbacks and `defaults`; over them options.properties; and over those what must hold,
// `settings`. Throws StartError.
Configuration Configure(const KafkaOptions& options, Ear& ear, const Settings& defaults,
                        const Settings& settings);

// For a consumer that only asks: it belongs to `group_id` by name, and never joins.
Configuration ConfigureAsker(const KafkaOptions& options, Ear& ear, const std::string& group_id);

enum class Kind { kProducer, kConsumer };

// Throws StartError.
Handle MakeHandle(Kind kind, Configuration configuration, const Ear& ear);

struct Position {
  int32_t partition;
  int64_t offset;
};
// What an asked broker or librdkafka itself answered into a queue, which has `timeout_ms` and some
// more for it. Never null: an answer that does not come is an Error of kind kUnavailable.
Result<Answer> Await(rd_kafka_queue_s* queue, std::string_view what, int timeout_ms);

PartitionList MakeList(const std::string& topic, const std::vector<Position>& positions);

// Low and stable high position of a partition, as a read_committed reader sees them.
struct Range {
  int64_t low;
  int64_t high;
};
Result<Range> RangeOf(rd_kafka_s* consumer, const std::string& topic, int32_t partition,
                      Clock::duration timeout);

// How many partitions the topics of `options` have, all as many. Throws StartError: no answer, an
// option is empty, a topic is missing or has others, or one of `written` takes no messages of
// message_bytes.
int32_t CheckTopics(const KafkaOptions& options, Ear& ear, const std::vector<std::string>& written);

// The offset of the event that an outcome ends; nothing if nudge did not write it.
std::optional<int64_t> InputOffset(const rd_kafka_message_s& message);

// How many partitions a topic has; 0: there is no such topic. Throws StartError: no answer.
int32_t CountPartitions(rd_kafka_s* handle, const std::string& topic, const KafkaOptions& options,
                        const Ear& ear);

// Different topics among the three, in the order of OutcomeKind.
std::vector<std::string> OutputTopics(const KafkaOptions& options);

// What a message may take in its batch beyond key and value, with its headers.
inline constexpr size_t kOverheadBytes = 1024;

// Headers of an outcome: the offset of the event that it ends, in decimal, and its type.
inline constexpr const char* kOffsetHeader = "nudge-offset";
inline constexpr const char* kTypeHeader = "nudge-type";

// How soon a queue that was full is looked at again: a second, the default, is much longer than one
// lasts.
inline constexpr const char* kFetchBackoffMs = "10";

// ---- Consuming ----------------------------------------------------------------------------------

// Tells when any of several queues has got something.
class Bell {
 public:
  void Ring();
  void WatchQueue(rd_kafka_queue_s* queue);  // until StopWatching
  static void StopWatching(rd_kafka_queue_s* queue);
  void WaitUntil(Clock::time_point deadline);  // or rung since the last call

 private:
  Mutex mutex_;
  CondVar changed_;
  bool rung_ GUARDED_BY(mutex_) = false;
};

}  // namespace nudge::kafka

namespace nudge {

// See KafkaClient.
class KafkaClient::Shared {
 public:
  explicit Shared(KafkaOptions given);

  // The group's committed offset of the input partition and what it carries; offset -1: none.
  // Waits until it is stable.
  struct Committed {
    int64_t offset = -1;
    std::string metadata;
  };
  Result<std::map<int32_t, Committed>> CommittedOffsets(const std::vector<int32_t>& numbers,
                                                        kafka::Clock::time_point deadline);

  // The generation in which the partitions are ours. Nothing where one of them is not.
  kafka::GroupMetadata MembershipOf(const std::vector<int32_t>& numbers) const;
  void SetMembership(kafka::GroupMetadata metadata, std::set<int32_t> owned);

  // The log of an input partition has no event after that of offset `after` and before `position`:
  // markers of transactions have offsets too, and what was aborted.
  void SetEnd(int32_t partition, int64_t after, int64_t position);
  // The furthest that is done with when the event of that offset is.
  int64_t PositionAfter(int32_t partition, int64_t offset) const;

  void ReadStatistics(std::string_view json);

  const KafkaOptions options;
  kafka::Ear ear;
  int32_t partitions = 0;

  mutable Mutex mutex;
  KafkaStatistics statistics GUARDED_BY(mutex);

  // The source's, while there is one; called by consumer_poll.
  std::function<void(int code, rd_kafka_topic_partition_list_s* partitions)> on_rebalance;

  kafka::Handle consumer;

 private:
  kafka::GroupMetadata membership_ GUARDED_BY(mutex);
  std::set<int32_t> owned_ GUARDED_BY(mutex);
  // By partition: after, position.
  std::map<int32_t, std::pair<int64_t, int64_t>> ends_ GUARDED_BY(mutex);
};

}  // namespace nudge
