#include "connectors/kafka_shared.h"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <thread>

namespace nudge::kafka {

void Delete::operator()(rd_kafka_s* handle) const {
  Bounded("rd_kafka_destroy", kUntimed, [&] { rd_kafka_destroy(handle); });
}
void Delete::operator()(rd_kafka_queue_s* queue) const {
  rd_kafka_queue_destroy(queue);
}
void Delete::operator()(rd_kafka_conf_s* configuration) const {
  rd_kafka_conf_destroy(configuration);
}
void Delete::operator()(rd_kafka_topic_s* topic) const {
  rd_kafka_topic_destroy(topic);
}
void Delete::operator()(rd_kafka_message_s* message) const {
  rd_kafka_message_destroy(message);
}
void Delete::operator()(rd_kafka_error_s* error) const {
  rd_kafka_error_destroy(error);
}
void Delete::operator()(rd_kafka_topic_partition_list_s* list) const {
  rd_kafka_topic_partition_list_destroy(list);
}
void Delete::operator()(rd_kafka_op_s* event) const {
  rd_kafka_event_destroy(event);
}
void Delete::operator()(const rd_kafka_consumer_group_metadata_s* metadata) const {
  rd_kafka_consumer_group_metadata_destroy(
      const_cast<rd_kafka_consumer_group_metadata_s*>(metadata));
}

int Milliseconds(Clock::duration duration) {
  const auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return static_cast<int>(std::clamp<int64_t>(count, 0, std::numeric_limits<int>::max()));
}

int MillisecondsUntil(Clock::time_point deadline) {
  return Milliseconds(deadline - Clock::now());
}

// ---- Errors -------------------------------------------------------------------------------------

Action Classify(int code, bool is_retriable, bool is_abortable, bool is_fatal) {
  switch (code) {
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
      return Action::kFenced;
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
      return Action::kNotOwner;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
      return Action::kRefuse;
    default:
      break;
  }
  if (is_fatal) return Action::kRebuild;
  if (is_abortable) return Action::kAbort;
  return is_retriable ? Action::kRetry : Action::kRebuild;
}

namespace {

Error ErrorOf(std::string_view what, Action action, std::string_view words) {
  const std::string message = "cannot " + std::string(what) + ": " + std::string(words);
  switch (action) {
    case Action::kFenced:
      return {Code::kFenced, message,
              "another process runs with the same instance_id or transactional_id: stop one, or "
              "give each its own"};
    case Action::kNotOwner:
      return {Code::kNotOwner, message,
              "the next owner of the partitions goes on from the last commit"};
    case Action::kRefuse:
      return {Code::kUnavailable, message,
              "it will not pass by itself: see the broker's permissions, limits and version"};
    default:
      return {Code::kUnavailable, message, "see whether the brokers are up and can be reached"};
  }
}

}  // namespace

Failure Explain(std::string_view what, const KafkaError& error) {
  const Action action =
      Classify(rd_kafka_error_code(error.get()), rd_kafka_error_is_retriable(error.get()) != 0,
               rd_kafka_error_txn_requires_abort(error.get()) != 0,
               rd_kafka_error_is_fatal(error.get()) != 0);
  return {action, ErrorOf(what, action, rd_kafka_error_string(error.get()))};
}

Error Explain(std::string_view what, int code) {
  return ErrorOf(what, Classify(code, true, false, false),
                 rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(code)));
}

// ---- Handles ------------------------------------------------------------------------------------

std::string Ear::WithoutSecrets(std::string_view text) const {
  constexpr size_t kShortest = 3;  // a shorter value would blot out half of every line
  std::string clean(text);
  for (const auto& [name, value] : options_.properties) {
    if (value.size() < kShortest) continue;
    for (size_t at = clean.find(value); at != clean.npos; at = clean.find(value, at + 3)) {
      clean.replace(at, value.size(), "***");
    }
  }
  return clean;
}

void Ear::Log(std::string_view line) {
  if (options_.log) options_.log(WithoutSecrets(line));
}

void Ear::Trouble(std::string_view line) {
  std::string clean = WithoutSecrets(line);
  if (options_.log) options_.log(clean);
  const MutexLock lock(mutex_);
  last_trouble_ = std::move(clean);
}

std::string Ear::last_trouble() const {
  const MutexLock lock(mutex_);
  return last_trouble_;
}

void Ear::Refused(std::string_view line) {
  Trouble(line);
  const MutexLock lock(mutex_);
  refusal_ = last_trouble_;
}

std::string Ear::refusal() const {
  const MutexLock lock(mutex_);
  return refusal_;
}

namespace {

// What nudge sets itself, since its promises rest on it.
const std::set<std::string, std::less<>>& OwnProperties() {
  static const std::set<std::string, std::less<>> kOwn = {
      "bootstrap.servers",
      "metadata.broker.list",
      "group.id",
      "group.instance.id",
      "transactional.id",
      "transaction.timeout.ms",
      "session.timeout.ms",
      "enable.auto.commit",
      "enable.auto.offset.store",
      "auto.offset.reset",
      "isolation.level",
      "partition.assignment.strategy",
      "partitioner",
      "enable.idempotence",
      "enable.partition.eof",
      "acks",
      "request.required.acks",
      "max.in.flight",
      "max.in.flight.requests.per.connection",
      "retries",
      "message.send.max.retries",
      "message.max.bytes",
      "statistics.interval.ms",
      "queued.min.messages",
      "queued.max.messages.kbytes",
      "fetch.queue.backoff.ms",
      "fetch.max.bytes",
      "check.crcs",
      "log.queue",
      "group.protocol",
      "queuing.strategy",
      "test.mock.num.brokers",
  };
  return kOwn;
}

void OnLog(const rd_kafka_t* handle, int, const char*, const char* text) {
  static_cast<Ear*>(rd_kafka_opaque(handle))->Log(text);
}

void OnError(rd_kafka_t*, int code, const char* reason, void* opaque) {
  Ear& ear = *static_cast<Ear*>(opaque);
  const bool is_refused =
      code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL;
  is_refused ? ear.Refused(reason) : ear.Trouble(reason);
}

int OnStatistics(rd_kafka_t*, char* json, size_t size, void* ear) {
  static_cast<Ear*>(ear)->on_statistics({json, size});
  return 0;  // librdkafka frees it
}

void OnRebalance(rd_kafka_t*, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* list,
                 void* ear) {
  static_cast<Ear*>(ear)->on_rebalance(code, list);
}

void OnDelivery(rd_kafka_t*, const rd_kafka_message_t* message, void* ear) {
  static_cast<Ear*>(ear)->on_delivery(*message);
}

void Set(rd_kafka_conf_t* configuration, const std::string& name, const std::string& value,
         const Ear& ear) {
  std::array<char, 512> text{};
  const rd_kafka_conf_res_t result =
      rd_kafka_conf_set(configuration, name.c_str(), value.c_str(), text.data(), text.size());
  if (result == RD_KAFKA_CONF_OK) return;
  if (result == RD_KAFKA_CONF_UNKNOWN) {
    throw StartError("kafka.properties: librdkafka knows no \"" + name +
                     "\": see its CONFIGURATION.md");
  }
  throw StartError("kafka.properties: librdkafka refuses the value of \"" + name + "\" (" +
                   ear.WithoutSecrets(text.data()) + ")");
}

}  // namespace

Configuration Configure(const KafkaOptions& options, Ear& ear, const Settings& defaults,
                        const Settings& settings) {
  Configuration configuration(rd_kafka_conf_new());
  Set(configuration.get(), "bootstrap.servers", options.brokers, ear);
  Set(configuration.get(), "client.id", "nudge", ear);
  Set(configuration.get(), "log_level", "4", ear);  // warnings
  Set(configuration.get(), "log.connection.close", "false", ear);
  // The default of 10 s, waited for twice in a row (a broker, then the coordinator that it names),
  // outlasts a transaction that a broker's restart has cut: its producer would come back fenced.
  Set(configuration.get(), "reconnect.backoff.max.ms", "1000", ear);
  for (const auto& [name, value] : defaults) Set(configuration.get(), name, value, ear);
  for (const auto& [name, value] : options.properties) {
    if (OwnProperties().contains(name)) {
      throw StartError("kafka.properties: \"" + name + "\" is nudge's to set: leave it out");
    }
    Set(configuration.get(), name, value, ear);
  }
  for (const auto& [name, value] : settings) Set(configuration.get(), name, value, ear);
  rd_kafka_conf_set_opaque(configuration.get(), &ear);
  rd_kafka_conf_set_log_cb(configuration.get(), &OnLog);
  rd_kafka_conf_set_error_cb(configuration.get(), &OnError);
  if (ear.on_statistics) rd_kafka_conf_set_stats_cb(configuration.get(), &OnStatistics);
  if (ear.on_rebalance) rd_kafka_conf_set_rebalance_cb(configuration.get(), &OnRebalance);
  if (ear.on_delivery) rd_kafka_conf_set_dr_msg_cb(configuration.get(), &OnDelivery);
  return configuration;
}

Configuration ConfigureAsker(const KafkaOptions& options, Ear& ear, const std::string& group_id) {
  return Configure(options, ear, {},
                   {{"group.id", group_id},
                    {"session.timeout.ms", std::to_string(options.session_timeout.count())}});
}

Handle MakeHandle(Kind kind, Configuration configuration, const Ear& ear) {
  std::array<char, 512> text{};
  Handle handle = Bounded("rd_kafka_new", kUntimed, [&] {
    return Handle(rd_kafka_new(kind == Kind::kProducer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER,
                               configuration.get(), text.data(), text.size()));
  });
  if (!handle) {
    throw StartError("kafka: librdkafka refuses its configuration: " +
                     ear.WithoutSecrets(text.data()));
  }
  configuration.release();  // the handle's now
  if (kind == Kind::kConsumer) rd_kafka_poll_set_consumer(handle.get());
  return handle;
}

Result<Answer> Await(rd_kafka_queue_s* queue, std::string_view what, int timeout_ms) {
  const auto limit = std::chrono::milliseconds(timeout_ms) + kGrace;
  Answer answer = Bounded("rd_kafka_queue_poll", limit,
                          [&] { return Answer(rd_kafka_queue_poll(queue, Milliseconds(limit))); });
  if (!answer) return Explain(what, RD_KAFKA_RESP_ERR__TIMED_OUT);
  return answer;
}

PartitionList MakeList(const std::string& topic, const std::vector<Position>& positions) {
  PartitionList list(rd_kafka_topic_partition_list_new(static_cast<int>(positions.size())));
  for (const auto& [partition, offset] : positions) {
    rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset = offset;
  }
  return list;
}

Result<Range> RangeOf(rd_kafka_s* consumer, const std::string& topic, int32_t partition,
                      Clock::duration timeout) {
  const auto deadline = Clock::now() + timeout;
  while (true) {
    Range range{};
    const int timeout_ms = MillisecondsUntil(deadline);
    const rd_kafka_resp_err_t code =
        Bounded("rd_kafka_query_watermark_offsets", std::chrono::milliseconds(timeout_ms), [&] {
          return rd_kafka_query_watermark_offsets(consumer, topic.c_str(), partition, &range.low,
                                                  &range.high, timeout_ms);
        });
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return range;
    const Action action = Classify(code, true, false, false);
    if (action != Action::kRetry || Clock::now() >= deadline) {
      return Explain(
          "read the positions of partition " + std::to_string(partition) + " of topic " + topic,
          code);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

namespace {

// Asked again, each time with more patience, so that a refusal is heard soon.
const rd_kafka_metadata_t* AskForTopic(rd_kafka_s* handle, const std::string& topic,
                                       const KafkaOptions& options, const Ear& ear) {
  const Topic handle_topic(rd_kafka_topic_new(handle, topic.c_str(), nullptr));
  const auto deadline = Clock::now() + options.start_timeout;
  for (int wait_ms = 1'000;; wait_ms *= 2) {
    const rd_kafka_metadata_t* metadata = nullptr;
    const int timeout_ms = std::min(wait_ms, std::max(1, MillisecondsUntil(deadline)));
    const rd_kafka_resp_err_t code = Bounded(
        "rd_kafka_metadata", std::chrono::milliseconds(timeout_ms),
        [&] { return rd_kafka_metadata(handle, 0, handle_topic.get(), &metadata, timeout_ms); });
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return metadata;
    rd_kafka_poll(handle, 0);  // hear why
    if (const std::string refusal = ear.refusal(); !refusal.empty()) {
      throw StartError("cannot log in to Kafka at " + options.brokers + " (" + refusal +
                       "): correct the secrets and certificates in kafka.properties");
    }
    if (Clock::now() < deadline) continue;
    const std::string trouble = ear.last_trouble();
    throw StartError("no Kafka broker answers at " + options.brokers + " within " +
                     std::to_string(options.start_timeout.count()) + " ms" +
                     (trouble.empty() ? "" : " (" + trouble + ")") + ": is one running there?");
  }
}

}  // namespace

int32_t CountPartitions(rd_kafka_s* handle, const std::string& topic, const KafkaOptions& options,
                        const Ear& ear) {
  const rd_kafka_metadata_t* const metadata = AskForTopic(handle, topic, options, ear);
  rd_kafka_resp_err_t topic_code = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
  int32_t count = 0;
  for (int i = 0; i < metadata->topic_cnt; ++i) {
    if (topic != metadata->topics[i].topic) continue;
    topic_code = metadata->topics[i].err;
    count = metadata->topics[i].partition_cnt;
  }
  rd_kafka_metadata_destroy(metadata);
  if (topic_code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
      (topic_code == RD_KAFKA_RESP_ERR_NO_ERROR && count == 0)) {
    return 0;
  }
  // A partition without a leader for now is there nevertheless.
  if (topic_code != RD_KAFKA_RESP_ERR_NO_ERROR &&
      topic_code != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) {
    throw StartError("topic " + topic + ": " + rd_kafka_err2str(topic_code));
  }
  return count;
}

std::optional<int64_t> InputOffset(const rd_kafka_message_s& message) {
  rd_kafka_headers_t* headers = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
      rd_kafka_header_get_last(headers, kOffsetHeader, &value, &size) !=
          RD_KAFKA_RESP_ERR_NO_ERROR) {
    return std::nullopt;
  }
  int64_t offset = -1;
  const char* const text = static_cast<const char*>(value);
  const auto [end, code] = std::from_chars(text, text + size, offset);
  if (code != std::errc() || end != text + size || offset < 0) return std::nullopt;
  return offset;
}

std::vector<std::string> OutputTopics(const KafkaOptions& options) {
  std::vector<std::string> topics;
  for (const std::string& topic :
       {options.response_topic, options.receipt_topic, options.dead_letter_topic}) {
    if (std::find(topics.begin(), topics.end(), topic) == topics.end()) topics.push_back(topic);
  }
  return topics;
}

// ---- Consuming ----------------------------------------------------------------------------------

void Bell::Ring() {
  {
    const MutexLock lock(mutex_);
    rung_ = true;
  }
  changed_.NotifyOne();
}

void Bell::WatchQueue(rd_kafka_queue_s* queue) {
  rd_kafka_queue_cb_event_enable(
      queue, [](rd_kafka_t*, void* bell) { static_cast<Bell*>(bell)->Ring(); }, this);
}

void Bell::StopWatching(rd_kafka_queue_s* queue) {
  rd_kafka_queue_cb_event_enable(queue, nullptr, nullptr);
}

void Bell::WaitUntil(Clock::time_point deadline) {
  const MutexLock lock(mutex_);
  changed_.WaitUntil(mutex_, deadline, [&]() REQUIRES(mutex_) { return rung_; });
  rung_ = false;
}

}  // namespace nudge::kafka
