// labels: kafka
// Input that is written by transactions: their markers have offsets, and are no events.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <memory>
#include <set>
#include <stdexcept>

#include "tests/kafka_echo.h"
#include "tests/kafka_trial.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

// A producer whose messages go out in transactions.
class TransactionalProducer {
 public:
  TransactionalProducer(const std::string& brokers, const std::string& id) {
    char text[256];
    rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
    rd_kafka_conf_set(configuration, "bootstrap.servers", brokers.c_str(), text, sizeof text);
    rd_kafka_conf_set(configuration, "transactional.id", id.c_str(), text, sizeof text);
    handle_ = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, text, sizeof text);
    Require(rd_kafka_init_transactions(handle_, 30'000));
  }
  ~TransactionalProducer() { rd_kafka_destroy(handle_); }
  TransactionalProducer(const TransactionalProducer&) = delete;
  TransactionalProducer& operator=(const TransactionalProducer&) = delete;

  enum class End { kCommit, kAbort };
  void Send(const std::string& topic, int32_t partition, const std::string& key,
            const std::string& bytes, End end = End::kCommit) {
    Require(rd_kafka_begin_transaction(handle_));
    const rd_kafka_resp_err_t code =
        rd_kafka_producev(handle_, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
                          RD_KAFKA_V_KEY(key.data(), key.size()),
                          RD_KAFKA_V_VALUE(const_cast<char*>(bytes.data()), bytes.size()),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw std::runtime_error(rd_kafka_err2str(code));
    if (rd_kafka_flush(handle_, 30'000) != 0) throw std::runtime_error("not delivered");
    Require(end == End::kCommit ? rd_kafka_commit_transaction(handle_, 30'000)
                                : rd_kafka_abort_transaction(handle_, 30'000));
  }

 private:
  static void Require(rd_kafka_error_t* error) {
    if (error != nullptr) throw std::runtime_error(rd_kafka_error_string(error));
  }

  rd_kafka_t* handle_;
};

using End = TransactionalProducer::End;

// Where the partition of the input ends, markers included.
int64_t EndOfInput(const KafkaOptions& topics, int32_t partition) {
  KafkaOptions input = topics;
  input.response_topic = input.receipt_topic = input.dead_letter_topic = topics.input_topic;
  return EndsOf(input, partition + 1, "read_uncommitted").at(static_cast<size_t>(partition));
}

// Lag as the group's tools reckon it, once it is 0 or the patience is over.
template <class Meanwhile>
int64_t LagOfGroup(const KafkaOptions& topics, int32_t partition, const Meanwhile& meanwhile) {
  const int64_t end = EndOfInput(topics, partition);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  int64_t lag = end;
  while (lag != 0 && std::chrono::steady_clock::now() < deadline) {
    meanwhile();
    lag = end - GroupOffset(topics, partition);
  }
  return lag;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_group_has_no_lag_once_input_written_by_transactions_is_done) {
  const KafkaOptions options = Topics("marked");
  TransactionalProducer producer(options.brokers, "publisher");
  const auto send = [&](int32_t partition, const std::string& text, End end = End::kCommit) {
    producer.Send(options.input_topic, partition, KeyOf(partition), text, end);
  };
  constexpr int kEach = 5;
  for (int i = 0; i < kEach; ++i) {
    for (int32_t partition = 0; partition < kPartitions; ++partition) {
      send(partition, "event " + std::to_string(i));
    }
  }
  send(1, "never seen", End::kAbort);
  std::map<int32_t, int64_t> last = {{0, 8}, {1, 8}, {2, 8}};  // each event has its marker
  const auto idle = [](Echo& echo) {
    return [&echo] {
      const Result<bool> stepped = echo.Step();
      BOOST_REQUIRE_MESSAGE(stepped.ok(), Why(stepped));
      BOOST_REQUIRE(!*stepped);
      echo.sink.Rest();
    };
  };
  size_t commits = 0;
  {
    Echo echo(options);
    echo.Run(kPartitions * kEach, 4);
    echo.Commit();
    for (int32_t partition = 0; partition < kPartitions; ++partition) {
      BOOST_TEST(LagOfGroup(options, partition, idle(echo)) == 0);
    }
    commits = echo.client.statistics().commits;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    const auto lag = [&] {
      int64_t sum = 0;
      for (const auto& [number, partition] : echo.client.statistics().partitions) {
        sum += partition.lag_events;
      }
      return sum;
    };
    while (lag() != 0 && std::chrono::steady_clock::now() < deadline) idle(echo)();
    BOOST_TEST(lag() == 0);
  }
  BOOST_TEST(commits > 0U);
  {  // A process that comes back knows the last event, not the marker, and goes on behind it.
    Echo echo(options);
    BOOST_REQUIRE(echo.PumpUntil([&] { return echo.owned.size() == size_t{kPartitions}; }));
    for (int32_t partition = 0; partition < kPartitions; ++partition) {
      const Result<std::optional<Tail>> tail = echo.sink.Last(partition);
      BOOST_REQUIRE_MESSAGE(tail.ok(), Why(tail));
      BOOST_REQUIRE(tail->has_value());
      BOOST_TEST((*tail)->offset == last[partition]);
    }
    send(0, "one more");
    send(2, "never seen either", End::kAbort);
    echo.Run(1, 1);
    for (int32_t partition = 0; partition < kPartitions; ++partition) {
      BOOST_TEST(LagOfGroup(options, partition, idle(echo)) == 0);
    }
    last[0] = 10;
  }
  KafkaClient client(options);
  KafkaSink sink(client);
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    std::vector<int64_t> offsets;
    const Result<Nothing> read = sink.ReadBack(partition, 0, [&](std::string_view line) {
      offsets.push_back(std::stoll(std::string(line.substr(line.find(":\"") + 2))));
      return Result<Nothing>(Nothing{});
    });
    BOOST_TEST(read.ok(), Why(read));
    const size_t events = partition == 0 ? kEach + 1 : kEach;
    BOOST_TEST(offsets.size() == events);
    for (size_t i = 0; i < offsets.size(); ++i) BOOST_TEST(offsets[i] == 2 * static_cast<int>(i));
    BOOST_TEST(offsets.back() == last[partition]);
  }
}

BOOST_AUTO_TEST_CASE(a_run_leaves_no_lag_behind_the_transactions_of_its_publisher) {
  static const Workload load(41, 60, 6, 3);
  const Trial trial("marked-run", load, {.publish = false});
  TransactionalProducer producer(trial.topics.brokers, "run-publisher");
  std::set<int32_t> written;
  size_t sent = 0;
  const auto publish = [&](size_t count) {
    for (; count > 0; --count, ++sent) {
      const Workload::Sent& event = load.sent()[sent];
      producer.Send(trial.topics.input_topic, event.partition, event.tenant, event.line);
      written.insert(event.partition);
    }
    for (const int32_t partition : written) {
      producer.Send(trial.topics.input_topic, partition, "nobody", "never seen", End::kAbort);
    }
  };
  const auto expect_done = [&] {
    BOOST_REQUIRE(trial.reader->WaitFor(sent));
    for (const int32_t partition : written) {
      BOOST_TEST(LagOfGroup(trial.topics, partition, [] { usleep(50'000); }) == 0);
    }
    BOOST_TEST(trial.reader->messages() == sent);
  };
  publish(20);
  {
    Process process(trial, "one");
    expect_done();
    publish(10);
    expect_done();
    BOOST_TEST(process.Kill());
  }
  publish(15);
  {
    Process process(trial, "one");
    expect_done();
    const int end = process.Stop();
    BOOST_TEST(end == 0, "ended with " << end << ": " << process.Log());
  }
  publish(sent == load.size() ? 0 : load.size() - sent);
  {
    Process process(trial, "one");
    expect_done();
    BOOST_TEST(process.Stop() == 0);
  }
  const OutcomeReader::Found found = trial.reader->found();
  for (const std::string& fault : found.faults) BOOST_TEST(false, fault);
  for (const auto& [partition, lines] : load.lines()) {
    BOOST_TEST(found.chains.at(partition).size() == lines.size());
  }
}
