#include <librdkafka/rdkafka.h>

#include <algorithm>

#include "connectors/kafka.h"
#include "connectors/kafka_shared.h"
#include "stages/hash.h"

namespace nudge {

using namespace kafka;

class KafkaSource::Reader {
 public:
  explicit Reader(KafkaClient::Shared& shared);
  ~Reader();

  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout);
  Result<Nothing> Seek(int32_t number, int64_t offset);
  void SetPaused(int32_t number, bool paused);

  PartitionListener* listener = nullptr;

 private:
  // Each partition has a queue of its own, so that a paused partition holds up no other and keeps
  // the records that are fetched.
  struct Input {
    int32_t number = 0;
    Queue queue;
    bool paused = false;
    int64_t next_offset = 0;  // records before it were delivered, or are not wanted
  };

  rd_kafka_t* consumer() const { return shared_.consumer.get(); }
  rd_kafka_resp_err_t Fetch(const rd_kafka_topic_partition_list_t* list);
  Input* Find(int32_t number);
  bool Subscribe();
  void ServeGroup();
  void Rebalance(int code, const rd_kafka_topic_partition_list_t* list);
  void Assign(std::vector<int32_t> numbers);
  Result<Nothing> Place(const std::vector<int32_t>& numbers);
  void TakeAway(const std::vector<int32_t>& numbers);
  bool Take(Record& record);
  bool Deliver(Input& input, const rd_kafka_message_t& message, Record& record);
  void Hear(const rd_kafka_message_t& message);
  void Fail(Error error);
  void SayIfLeftOut();
  Error PositionGone(int32_t number, int64_t offset, std::string_view where) const;

  KafkaClient::Shared& shared_;
  const std::string& topic_;
  Bell bell_;
  Queue group_queue_;
  std::optional<BoundedCall> poll_;
  std::optional<Error> error_;  // every later Next gives it again
  bool subscribed_ = false;
  bool closing_ = false;
  // Since when the group owes this process its partitions; nothing: it gave them, or said so.
  std::optional<Clock::time_point> left_out_since_;
  std::map<int32_t, int64_t> seeks_;  // of partitions that are not fetched yet
  std::vector<std::unique_ptr<Input>> inputs_;
  size_t turn_ = 0;  // whose records are taken now
  size_t in_a_row_ = 0;
  size_t since_group_ = 0;
};

namespace {

constexpr size_t kInARow = 256;     // records of one partition before it is another's turn
constexpr size_t kGroupTurn = 512;  // records between two looks at the group's events
constexpr std::chrono::milliseconds kLongestWait{20};

Refusal WrongPartition(const rd_kafka_message_t& message, int32_t partitions,
                       std::string_view bytes) {
  const std::string_view key(static_cast<const char*>(message.key), message.key_len);
  Error error{Code::kInvalidEvent, "the record has no key",
              "publish with the tenant as key: nudge publish does"};
  if (!key.empty()) {
    error = {
        Code::kInvalidEvent,
        "the record's key belongs to partition " +
            std::to_string(Murmur2Partition(key, partitions)) + ", not " +
            std::to_string(message.partition),
        "publish with Kafka's murmur2 partitioner (librdkafka: partitioner=murmur2_random) and "
        "never add partitions"};
  }
  return {std::move(error), bytes.size(), Sha256Hex(bytes)};
}

// The value of the message's last header of this name; empty if it has none.
std::string_view HeaderOf(const rd_kafka_message_t& message, const char* name) {
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  const void* value = nullptr;
  size_t size = 0;
  if (rd_kafka_header_get_last(headers, name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return {};
  }
  return {static_cast<const char*>(value), value == nullptr ? 0 : size};
}

// What is no event in structured mode, by what Kafka says of it.
std::optional<Error> NameUnstructured(const rd_kafka_message_t& message, std::string_view bytes) {
  if (message.payload == nullptr) {
    return Error{Code::kInvalidEvent, "the record has no value: a tombstone",
                 "nothing is removed by one: send nudge.document.delete or nudge.forget, and never "
                 "compact the topic of events"};
  }
  if (bytes.empty()) {
    return Error{Code::kInvalidEvent, "the record's value is empty",
                 "write one CloudEvents 1.0 object as JSON"};
  }
  const std::string_view content = HeaderOf(message, "content-type");
  if (content.starts_with("application/cloudevents-batch")) {
    return Error{Code::kInvalidEvent, "the record is a batch of events",
                 "send each event by itself, one a record: CloudEvents' structured mode"};
  }
  // Structured mode may repeat the attributes in headers.
  if (HeaderOf(message, "ce_specversion").empty() ||
      content.starts_with("application/cloudevents") ||
      bytes.find("\"specversion\"") != bytes.npos) {
    return std::nullopt;
  }
  return Error{
      Code::kInvalidEvent,
      "the record is in CloudEvents' binary mode: attributes in headers ce_..., data alone "
      "as the value",
      "switch the producer to structured mode (content-type "
      "application/cloudevents+json): the whole event as the value"};
}

}  // namespace

KafkaSource::Reader::Reader(KafkaClient::Shared& shared)
    : shared_(shared),
      topic_(shared.options.input_topic),
      group_queue_(rd_kafka_queue_get_consumer(shared.consumer.get())) {
  bell_.WatchQueue(group_queue_.get());
  shared_.on_rebalance = [this](int code, rd_kafka_topic_partition_list_s* list) {
    Rebalance(code, list);
  };
}

KafkaSource::Reader::~Reader() {
  closing_ = true;
  Bell::StopWatching(group_queue_.get());
  for (const std::unique_ptr<Input>& input : inputs_) Bell::StopWatching(input->queue.get());
  group_queue_.reset();
  if (subscribed_) {
    Bounded("rd_kafka_consumer_close", shared_.options.session_timeout,
            [&] { return rd_kafka_consumer_close(consumer()); });
  }
  inputs_.clear();
  shared_.on_rebalance = nullptr;
}

KafkaSource::Reader::Input* KafkaSource::Reader::Find(int32_t number) {
  for (const std::unique_ptr<Input>& input : inputs_) {
    if (input->number == number) return input.get();
  }
  return nullptr;
}

void KafkaSource::Reader::Fail(Error error) {
  if (!error_) error_ = std::move(error);
}

bool KafkaSource::Reader::Subscribe() {
  const PartitionList list = MakeList(topic_, {{RD_KAFKA_PARTITION_UA, RD_KAFKA_OFFSET_INVALID}});
  const rd_kafka_resp_err_t code = Bounded(
      "rd_kafka_subscribe", kUntimed, [&] { return rd_kafka_subscribe(consumer(), list.get()); });
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) Fail(Explain("subscribe to topic " + topic_, code));
  left_out_since_ = Clock::now();
  return subscribed_ = !error_;
}

Result<Source::Pull> KafkaSource::Reader::Next(Record& record, std::chrono::milliseconds timeout) {
  if (!subscribed_ && !error_) Subscribe();
  if (++since_group_ >= kGroupTurn) ServeGroup();
  if (!error_ && Take(record)) return Pull::kRecord;
  const auto deadline = Clock::now() + timeout;
  while (true) {
    ServeGroup();
    if (error_) return *error_;
    SayIfLeftOut();
    if (Take(record)) return Pull::kRecord;
    if (error_) return *error_;
    const auto now = Clock::now();
    if (now >= deadline) return Pull::kNothing;
    bell_.WaitUntil(std::min(deadline, now + kLongestWait));
  }
}

// ---- The group ----------------------------------------------------------------------------------

void KafkaSource::Reader::ServeGroup() {
  since_group_ = 0;
  while (!error_) {
    poll_.emplace("rd_kafka_consumer_poll", kUntimed);
    const KafkaMessage message(rd_kafka_consumer_poll(consumer(), 0));
    poll_.reset();
    if (!message) return;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) Hear(*message);
  }
}

// librdkafka asks the group on without a limit, and reading nothing looks like an idle topic: the
// silence is told once, after what a group may take to notice that a member is gone.
void KafkaSource::Reader::SayIfLeftOut() {
  const auto limit = shared_.options.session_timeout;
  if (!left_out_since_ || Clock::now() - *left_out_since_ < limit) return;
  left_out_since_.reset();
  shared_.ear.Trouble(
      "group " + shared_.options.group_id + " has given this process no partitions for " +
      std::to_string(std::chrono::duration_cast<std::chrono::seconds>(limit).count()) +
      " s: its coordinator does not answer, or a member that is away holds the others up; nothing "
      "is read until then, and the group is asked on");
}

// Of these partitions, or of none.
rd_kafka_resp_err_t KafkaSource::Reader::Fetch(const rd_kafka_topic_partition_list_t* list) {
  return Bounded("rd_kafka_assign", kUntimed, [&] { return rd_kafka_assign(consumer(), list); });
}

// An event that is no record.
void KafkaSource::Reader::Hear(const rd_kafka_message_t& message) {
  const char* const words = rd_kafka_message_errstr(&message);
  switch (message.err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET: {
      const Input* const input = Find(message.partition);
      if (input != nullptr) {
        Fail(PositionGone(input->number, input->next_offset, "the log does not hold it any more"));
      }
      return;
    }
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
      return Fail({Code::kUnreadableFile, "topic " + topic_ + " is gone: " + words,
                   "make it again, or correct the configuration; its group's offsets are stale if "
                   "it is a new one"});
    case RD_KAFKA_RESP_ERR__FATAL: {
      char text[512];
      const rd_kafka_resp_err_t code = rd_kafka_fatal_error(consumer(), text, sizeof text);
      return Fail(Explain("stay in group " + shared_.options.group_id, code));
    }
    default:
      break;
  }
  if (Classify(message.err, true, false, false) == Action::kRefuse) {
    return Fail(Explain("read topic " + topic_, message.err));
  }
  shared_.ear.Trouble(words);  // librdkafka goes on by itself
}

// Called out of a poll, or out of a close. What is done here takes its time, and is bounded call by
// call.
void KafkaSource::Reader::Rebalance(int code, const rd_kafka_topic_partition_list_t* list) {
  poll_.reset();
  left_out_since_.reset();
  std::vector<int32_t> numbers;
  for (int i = 0; i < list->cnt; ++i) numbers.push_back(list->elems[i].partition);
  std::sort(numbers.begin(), numbers.end());
  if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !closing_ && !error_) {
    return Assign(std::move(numbers));
  }
  if (code == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS && !closing_) TakeAway(numbers);
  left_out_since_ = Clock::now();
  shared_.SetMembership(nullptr, {});
  Fetch(nullptr);
}

void KafkaSource::Reader::TakeAway(const std::vector<int32_t>& numbers) {
  if (rd_kafka_assignment_lost(consumer()) != 0) {
    shared_.SetMembership(nullptr, {});
    if (listener != nullptr && !numbers.empty()) listener->Lost(numbers);
  } else if (listener != nullptr && !numbers.empty()) {
    const Result<Nothing> revoked = listener->Revoked(numbers);
    if (!revoked && revoked.error().code == Code::kNotOwner) {
      shared_.SetMembership(nullptr, {});
      listener->Lost(numbers);
    } else if (!revoked) {
      Fail(revoked.error());
    }
  }
  for (const std::unique_ptr<Input>& input : inputs_) Bell::StopWatching(input->queue.get());
  inputs_.clear();
}

void KafkaSource::Reader::Assign(std::vector<int32_t> numbers) {
  rd_kafka_consumer_group_metadata_t* const metadata =
      Bounded("rd_kafka_consumer_group_metadata", kUntimed,
              [&] { return rd_kafka_consumer_group_metadata(consumer()); });
  shared_.SetMembership(GroupMetadata(metadata, Delete()), {numbers.begin(), numbers.end()});
  {
    const MutexLock lock(shared_.mutex);
    ++shared_.statistics.rebalances;
  }
  if (!numbers.empty() && numbers.back() >= shared_.partitions) {
    Fail({Code::kUnreadableFile,
          "topic " + topic_ + " got more partitions: it had " + std::to_string(shared_.partitions) +
              " at start",
          "tenants would move between partitions: go on with a new topic and an empty state"});
  } else if (listener != nullptr && !numbers.empty()) {
    const Result<Nothing> assigned = listener->Assigned(numbers);
    if (!assigned) Fail(assigned.error());
  }
  if (!error_) {
    const Result<Nothing> placed = Place(numbers);
    if (!placed) Fail(placed.error());
  }
  seeks_.clear();
  if (!error_) return;
  shared_.SetMembership(nullptr, {});
  Fetch(nullptr);
}

// Starts fetching: where the listener said, else where the group stands.
Result<Nothing> KafkaSource::Reader::Place(const std::vector<int32_t>& numbers) {
  std::vector<int32_t> unsaid;
  for (const int32_t number : numbers) {
    if (!seeks_.contains(number)) unsaid.push_back(number);
  }
  if (!unsaid.empty()) {
    auto committed = shared_.CommittedOffsets(
        unsaid, Clock::now() + shared_.options.transaction_timeout + shared_.options.start_timeout);
    if (!committed) return committed.error();
    for (const int32_t number : unsaid) {
      Result<Nothing> sought = Seek(number, std::max<int64_t>(0, (*committed)[number].offset));
      if (!sought) return sought;
    }
  }
  std::vector<Position> positions;
  inputs_.clear();
  for (const int32_t number : numbers) {
    auto input = std::make_unique<Input>();
    input->number = number;
    input->next_offset = seeks_.at(number);
    input->queue.reset(rd_kafka_queue_get_partition(consumer(), topic_.c_str(), number));
    ENSURE(input->queue != nullptr);
    rd_kafka_queue_forward(input->queue.get(), nullptr);
    bell_.WatchQueue(input->queue.get());
    inputs_.push_back(std::move(input));
    positions.push_back({number, seeks_.at(number)});
  }
  turn_ = in_a_row_ = 0;
  const PartitionList list = MakeList(topic_, positions);
  const rd_kafka_resp_err_t code = Fetch(list.get());
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return Explain("read topic " + topic_, code);
  return Nothing{};
}

// ---- Positions ----------------------------------------------------------------------------------

Error KafkaSource::Reader::PositionGone(int32_t number, int64_t offset,
                                        std::string_view where) const {
  return {Code::kUnreadableFile,
          "topic " + topic_ + ", partition " + std::to_string(number) +
              ": reading goes on at offset " + std::to_string(offset) + ", but " +
              std::string(where),
          "give it back a state that is newer than the log's start, or begin again with a new "
          "group_id, new topics and an empty state"};
}

Result<Nothing> KafkaSource::Reader::Seek(int32_t number, int64_t offset) {
  Input* const input = Find(number);
  if (offset < 0 || number < 0 || number >= shared_.partitions) {
    return PositionGone(number, offset, "there is no such position");
  }
  const Result<Range> range = RangeOf(consumer(), topic_, number, shared_.options.start_timeout);
  if (!range) return range.error();
  if (offset == 0 && range->low > 0) {
    auto committed =
        shared_.CommittedOffsets({number}, Clock::now() + shared_.options.transaction_timeout +
                                               shared_.options.start_timeout);
    if (!committed) return committed.error();
    if ((*committed)[number].offset < 0) offset = range->low;
  }
  if (offset < range->low) {
    return PositionGone(number, offset, "the log begins at " + std::to_string(range->low));
  }
  if (offset > range->high) {
    return PositionGone(number, offset, "the log ends at " + std::to_string(range->high));
  }
  if (input == nullptr) {
    seeks_[number] = offset;
    return Nothing{};
  }
  const PartitionList list = MakeList(topic_, {{number, offset}});
  const auto limit = shared_.options.start_timeout;
  const KafkaError error = Bounded("rd_kafka_seek_partitions", limit, [&] {
    return KafkaError(rd_kafka_seek_partitions(consumer(), list.get(), Milliseconds(limit)));
  });
  if (error) return Explain("go to an offset of topic " + topic_, error).error;
  input->next_offset = offset;
  shared_.SetEnd(number, offset - 1, offset);
  return Nothing{};
}

void KafkaSource::Reader::SetPaused(int32_t number, bool paused) {
  Input* const input = Find(number);
  if (input == nullptr) return;
  input->paused = paused;
  if (!paused) bell_.Ring();
}

// ---- Records ------------------------------------------------------------------------------------

// The next record of those that are fetched.
bool KafkaSource::Reader::Take(Record& record) {
  for (size_t empty = 0; empty < inputs_.size();) {
    if (turn_ >= inputs_.size()) turn_ = 0;
    Input& input = *inputs_[turn_];
    if (!input.paused && in_a_row_ < kInARow) {
      const KafkaMessage message(rd_kafka_consume_queue(input.queue.get(), 0));
      if (message && message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        shared_.SetEnd(input.number, input.next_offset - 1, message->offset);
        continue;
      }
      if (message && message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        Hear(*message);
        if (error_) return false;
        continue;
      }
      if (message) {
        if (!Deliver(input, *message, record)) continue;
        ++in_a_row_;
        return true;
      }
    }
    empty = in_a_row_ > 0 ? 0 : empty + 1;
    in_a_row_ = 0;
    ++turn_;
  }
  return false;
}

bool KafkaSource::Reader::Deliver(Input& input, const rd_kafka_message_t& message, Record& record) {
  if (message.offset < input.next_offset) return false;
  input.next_offset = message.offset + 1;
  const std::string_view bytes(static_cast<const char*>(message.payload), message.len);
  const std::string_view key(static_cast<const char*>(message.key), message.key_len);
  record.partition = message.partition;
  record.offset = message.offset;
  record.key.assign(key);
  record.refusal.reset();
  if (bytes.size() > shared_.options.line_bytes) {
    record.bytes.assign(bytes.substr(0, shared_.options.head_bytes));
    record.refusal = {{Code::kTooLarge,
                       "record: " + std::to_string(bytes.size()) + " bytes are over the limit of " +
                           std::to_string(shared_.options.line_bytes),
                       "shorten it, or raise limits.line_bytes"},
                      bytes.size(),
                      Sha256Hex(bytes)};
    return true;
  }
  record.bytes.assign(bytes);
  if (key.empty() || Murmur2Partition(key, shared_.partitions) != message.partition) {
    record.refusal = WrongPartition(message, shared_.partitions, bytes);
  } else if (std::optional<Error> error = NameUnstructured(message, bytes)) {
    record.refusal = Refusal{*std::move(error), bytes.size(), Sha256Hex(bytes)};
  }
  return true;
}

// ---- KafkaSource --------------------------------------------------------------------------------

KafkaSource::KafkaSource(KafkaClient& client)
    : reader_(std::make_unique<Reader>(client.shared())) {}

KafkaSource::~KafkaSource() = default;

void KafkaSource::Listen(PartitionListener& listener) {
  reader_->listener = &listener;
}

Result<Source::Pull> KafkaSource::Next(Record& record, std::chrono::milliseconds timeout) {
  return reader_->Next(record, timeout);
}

Result<Nothing> KafkaSource::Seek(int32_t partition, int64_t offset) {
  return reader_->Seek(partition, offset);
}

void KafkaSource::Pause(int32_t partition) {
  reader_->SetPaused(partition, true);
}

void KafkaSource::Resume(int32_t partition) {
  reader_->SetPaused(partition, false);
}

}  // namespace nudge
