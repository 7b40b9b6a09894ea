// labels: kafka
// What the sink does about each error of each request, against librdkafka's mock cluster.
#include <boost/test/unit_test.hpp>

#include "connectors/kafka_gateway.h"
#include "connectors/kafka_shared.h"
#include "tests/kafka_broker.h"

// After librdkafka's own header.
#include <librdkafka/rdkafka_mock.h>

namespace nudge {
namespace {

using kafka::Action;
using testing::ChainOfOutcomes;
using testing::OptionsFor;
using testing::RawProducer;
using testing::ReadAll;
using testing::Stored;

constexpr std::chrono::milliseconds kPull{50};
constexpr std::chrono::seconds kPatience{60};

// Requests of the protocol.
constexpr int16_t kProduce = 0;
constexpr int16_t kInitProducerId = 22;
constexpr int16_t kAddPartitionsToTxn = 24;
constexpr int16_t kAddOffsetsToTxn = 25;
constexpr int16_t kEndTxn = 26;
constexpr int16_t kTxnOffsetCommit = 28;

// A cluster inside librdkafka that answers with the errors that it is told to. It knows nothing of
// transactions: what was sent in one that was aborted stays visible, which shows that it was sent.
class MockCluster {
 public:
  MockCluster() : host_("") {
    cluster_ = rd_kafka_mock_cluster_new(host_.handle(), 1);
    BOOST_REQUIRE(cluster_ != nullptr);
  }
  ~MockCluster() { rd_kafka_mock_cluster_destroy(cluster_); }
  MockCluster(const MockCluster&) = delete;
  MockCluster& operator=(const MockCluster&) = delete;

  std::string address() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }

  void MakeTopics(const KafkaOptions& options) {
    for (const std::string& topic : {options.input_topic, options.response_topic,
                                     options.receipt_topic, options.dead_letter_topic}) {
      rd_kafka_mock_topic_create(cluster_, topic.c_str(), 1, 1);
    }
  }

  void Answer(int16_t request, rd_kafka_resp_err_t code, size_t times) {
    const std::vector<rd_kafka_resp_err_t> codes(times, code);
    rd_kafka_mock_push_request_errors_array(cluster_, request, times, codes.data());
  }
  void Calm() {
    for (const int16_t request : {kProduce, kInitProducerId, kAddPartitionsToTxn, kAddOffsetsToTxn,
                                  kEndTxn, kTxnOffsetCommit}) {
      rd_kafka_mock_clear_request_errors(cluster_, request);
    }
  }

 private:
  RawProducer host_;
  rd_kafka_mock_cluster_t* cluster_;
};

// A process that owns the one partition of its input.
struct Process {
  explicit Process(const KafkaOptions& options) : client(options), source(client) {
    Record record;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (client.statistics().partitions.empty() && std::chrono::steady_clock::now() < deadline) {
      const Result<Source::Pull> pull = source.Next(record, kPull);
      BOOST_REQUIRE(pull.ok());
    }
    BOOST_REQUIRE(!client.statistics().partitions.empty());
    sink.emplace(client);
  }

  Result<Nothing> CommitThree() {
    for (int i = 0; i < 3; ++i) {
      const Result<Nothing> appended = sink->Append(chain.Make(0, next++, "t", "outcome"));
      BOOST_REQUIRE(appended.ok());
    }
    return sink->Commit();
  }

  KafkaClient client;
  KafkaSource source;
  std::optional<KafkaSink> sink;
  ChainOfOutcomes chain;
  int64_t next = 0;
};

enum class Ends { kCommitted, kFenced, kNotOwner, kUnavailable };

struct Case {
  int16_t request;
  rd_kafka_resp_err_t code;
  size_t times;
  Ends ends;
  bool is_aborted;  // and sent again
  bool is_rebuilt;
};

std::string NameOf(const Case& test) {
  return "request " + std::to_string(test.request) + " answered " + rd_kafka_err2name(test.code) +
         " " + std::to_string(test.times) + " times";
}

const std::vector<Case>& Cases() {
  using enum Ends;
  constexpr size_t kForEver = 100'000;
  static const std::vector<Case> kCases = {
      // Repeated until it works.
      {kProduce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 1, kCommitted, false, false},
      {kProduce, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, 1, kCommitted, false, false},
      {kProduce, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 2, kCommitted, false, false},
      {kAddPartitionsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, 3, kCommitted, false, false},
      {kAddPartitionsToTxn, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 1, kCommitted, false,
       false},
      {kAddOffsetsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, 1, kCommitted, false, false},
      {kAddOffsetsToTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 1, kCommitted, false, false},
      {kProduce, RD_KAFKA_RESP_ERR_INVALID_MSG, 1, kCommitted, false, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 1, kCommitted, false,
       false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 1, kCommitted, false, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, 1, kCommitted, false, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 1, kCommitted, false, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, 1, kCommitted, false, false},
      // Aborted and sent again.
      {kProduce, RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, 1, kCommitted, true, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_UNKNOWN, 1, kCommitted, true, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, 1, kCommitted, true, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_UNKNOWN, 1, kCommitted, true, false},
      // The end of a producer: another one takes over.
      {kProduce, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1, kCommitted, false, true},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1, kCommitted, false, true},
      {kEndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1, kCommitted, false, true},
      // Somebody else has the place.
      {kAddPartitionsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1, kFenced, false, false},
      {kAddOffsetsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1, kFenced, false, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1, kFenced, false, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, 1, kFenced, true, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1, kFenced, false, false},
      {kEndTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1, kFenced, false, false},
      // The group has moved on.
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1, kNotOwner, true, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, 1, kNotOwner, true, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, 1, kNotOwner, true, false},
      // Not allowed, however often it is tried.
      {kAddPartitionsToTxn, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, kForEver, kUnavailable,
       true, false},
      {kTxnOffsetCommit, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, 1, kUnavailable, true,
       false},
      {kEndTxn, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 1, kUnavailable, false,
       false},
      // Never an end of it: given up in bounded time.
      {kEndTxn, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, kForEver, kUnavailable, false, false},
  };
  return kCases;
}

Ends EndOf(const Result<Nothing>& result) {
  if (result.ok()) return Ends::kCommitted;
  switch (result.error().code) {
    case Code::kFenced:
      return Ends::kFenced;
    case Code::kNotOwner:
      return Ends::kNotOwner;
    default:
      BOOST_TEST((result.error().code == Code::kUnavailable), result.error().message);
      return Ends::kUnavailable;
  }
}

// What was sent, by input offset: the bytes of each copy.
std::map<std::string, std::vector<std::string>> Sent(const KafkaOptions& options) {
  std::map<std::string, std::vector<std::string>> sent;
  for (const std::string& topic :
       {options.response_topic, options.receipt_topic, options.dead_letter_topic}) {
    for (const Stored& stored : ReadAll(options.brokers, topic, 0, "read_uncommitted")) {
      const size_t begin = stored.bytes.find("\"offset\":\"") + 10;
      sent[stored.bytes.substr(begin, stored.bytes.find('"', begin) - begin)].push_back(
          stored.bytes);
    }
  }
  return sent;
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_error_of_each_request_is_answered_as_it_asks_for) {
  MockCluster cluster;
  KafkaOptions options = OptionsFor(cluster.address(), "table");
  options.commit_timeout = std::chrono::milliseconds(3'000);
  cluster.MakeTopics(options);
  Process process(options);
  for (const Case& test : Cases()) {
    BOOST_TEST_CONTEXT(NameOf(test)) {
      process.sink.emplace(process.client);
      BOOST_REQUIRE(process.CommitThree().ok());
      const KafkaStatistics before = process.client.statistics();
      cluster.Answer(test.request, test.code, test.times);
      const Result<Nothing> committed = process.CommitThree();
      cluster.Calm();
      BOOST_TEST((EndOf(committed) == test.ends),
                 (committed.ok() ? "committed" : committed.error().message));
      const KafkaStatistics after = process.client.statistics();
      BOOST_TEST((after.aborts > before.aborts) == test.is_aborted);
      BOOST_TEST((after.rebuilds > before.rebuilds) == test.is_rebuilt);
      BOOST_TEST(after.committed_events - before.committed_events ==
                 (test.ends == Ends::kCommitted ? 3u : 0u));
      if (test.ends == Ends::kCommitted) BOOST_TEST(process.CommitThree().ok());
    }
  }
  for (const auto& [offset, copies] : Sent(options)) {
    for (const std::string& copy : copies) BOOST_TEST(copy == copies.front());
  }
}

BOOST_AUTO_TEST_CASE(an_abort_sends_the_same_bytes_again) {
  MockCluster cluster;
  const KafkaOptions options = OptionsFor(cluster.address(), "again");
  cluster.MakeTopics(options);
  Process process(options);
  cluster.Answer(kEndTxn, RD_KAFKA_RESP_ERR_UNKNOWN, 1);
  BOOST_REQUIRE(process.CommitThree().ok());
  BOOST_TEST(process.client.statistics().aborts == 1u);
  const auto sent = Sent(options);
  BOOST_TEST(sent.size() == 3u);
  for (const auto& [offset, copies] : sent) {
    BOOST_TEST(copies.size() == 2u);
    for (const std::string& copy : copies) BOOST_TEST(copy == copies.front());
  }
}

BOOST_AUTO_TEST_CASE(lines_whose_commit_was_given_up_go_out_with_the_next) {
  MockCluster cluster;
  KafkaOptions options = OptionsFor(cluster.address(), "later");
  options.commit_timeout = std::chrono::milliseconds(1'000);
  cluster.MakeTopics(options);
  Process process(options);
  cluster.Answer(kTxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, 100'000);
  const Result<Nothing> failed = process.CommitThree();
  BOOST_REQUIRE(!failed.ok());
  BOOST_TEST((failed.error().code == Code::kUnavailable), failed.error().message);
  cluster.Calm();
  BOOST_REQUIRE(process.CommitThree().ok());
  BOOST_TEST(process.client.statistics().committed_events == 6u);
}

BOOST_AUTO_TEST_CASE(a_start_that_the_brokers_refuse_is_one_clear_error) {
  MockCluster cluster;
  KafkaOptions options = OptionsFor(cluster.address(), "start");
  options.start_timeout = std::chrono::milliseconds(3'000);
  cluster.MakeTopics(options);
  KafkaClient client(options);
  cluster.Answer(kInitProducerId, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 100);
  BOOST_CHECK_EXCEPTION(KafkaSink{client}, StartError, [](const StartError& error) {
    return std::string(error.what()).find("authorization") != std::string::npos;
  });
  cluster.Calm();
  cluster.Answer(kInitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 2);
  KafkaSink sink(client);
}

// What a gateway's sender is told of each error, and whether it goes on.
BOOST_AUTO_TEST_CASE(an_event_that_a_broker_does_not_take_is_told_so_and_the_next_one_is_taken) {
  using enum KafkaGateway::Delivery::Fate;
  struct Refused {
    rd_kafka_resp_err_t code;
    KafkaGateway::Delivery::Fate fate;
    Code error;
  };
  constexpr Refused kRefused[] = {
      {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, kStored, {}},  // repeated until it works
      {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, kNotStored, Code::kTooLarge},
      // The end of a producer: another one takes over.
      {RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, kUnknown, Code::kUnavailable},
  };
  for (const Refused& refused : kRefused) {
    BOOST_TEST_CONTEXT(rd_kafka_err2name(refused.code)) {
      MockCluster cluster;
      const KafkaOptions options = OptionsFor(cluster.address(), "gateway");
      cluster.MakeTopics(options);
      KafkaGateway gateway(options, {}, [](const KafkaGateway::Place&, const std::string&) {});
      const auto send = [&](const std::string& event) {
        std::optional<KafkaGateway::Delivery> told;
        gateway.Send("acme", event, [&](const KafkaGateway::Delivery& delivery) {
          BOOST_TEST(!told.has_value());
          told = delivery;
        });
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (!told && std::chrono::steady_clock::now() < deadline) {
          BOOST_REQUIRE(gateway.Turn().ok());
        }
        BOOST_REQUIRE(told.has_value());
        return *told;
      };
      BOOST_TEST((send("first").place == KafkaGateway::Place{0, 0}));
      cluster.Answer(kProduce, refused.code, 1);
      const KafkaGateway::Delivery second = send("second");
      BOOST_TEST((second.fate == refused.fate), second.error.message);
      if (second.fate != kStored) {
        BOOST_TEST((second.error.code == refused.error), second.error.message);
      }
      const KafkaGateway::Delivery third = send("third");
      BOOST_TEST((third.fate == kStored), third.error.message);
      BOOST_TEST(third.place.offset == (second.fate == kStored ? 2 : 1));
    }
  }
}

BOOST_AUTO_TEST_CASE(murmur2_agrees_with_librdkafka) {
  MockCluster cluster;
  char text[256];
  rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
  rd_kafka_conf_set(configuration, "bootstrap.servers", cluster.address().c_str(), text, 256);
  rd_kafka_t* const handle = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, text, sizeof text);
  rd_kafka_topic_t* const topic = rd_kafka_topic_new(handle, "murmur", nullptr);
  std::string key;
  for (uint32_t i = 0, seed = 7; i < 2'000; ++i) {
    seed = seed * 1664525 + 1013904223;
    if (key.size() > 40) key.clear();
    key.push_back(static_cast<char>(seed >> 24));
    for (const int32_t partitions : {1, 2, 3, 12, 1000}) {
      BOOST_REQUIRE(Murmur2Partition(key, partitions) ==
                    rd_kafka_msg_partitioner_murmur2(topic, key.data(), key.size(), partitions,
                                                     nullptr, nullptr));
    }
  }
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(handle);
  // As Kafka's own tests have it: murmur2("21") = -973932308, made positive.
  BOOST_TEST(Murmur2Partition("21", 1'000'000) == ((-973932308) & 0x7fffffff) % 1'000'000);
}

}  // namespace nudge
