// A process that answers each event with one outcome, and what must be true of its topics.
#pragma once

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <map>
#include <set>
#include <string>

#include "tests/kafka_broker.h"

namespace nudge::testing {

inline constexpr int32_t kPartitions = 3;
inline constexpr std::chrono::milliseconds kPull{50};
inline constexpr std::chrono::seconds kPatience{60};

inline std::string Address() {
  return KafkaBroker::OfTheSuite().address();
}

template <class T>
std::string Why(const Result<T>& result) {
  return result.ok() ? "" : result.error().message + "; " + result.error().remedy;
}

// A key that belongs to the partition.
inline std::string KeyOf(int32_t partition) {
  for (int i = 0;; ++i) {
    const std::string key = "tenant-" + std::to_string(i);
    if (Murmur2Partition(key, kPartitions) == partition) return key;
  }
}

inline KafkaOptions Topics(const std::string& name, int32_t partitions = kPartitions) {
  KafkaOptions options = OptionsFor(Address(), name);
  const Result<Nothing> created = CreateTopics(options, partitions, 1);
  BOOST_REQUIRE_MESSAGE(created.ok(), Why(created));
  return options;
}

inline void Fill(const KafkaOptions& options, int from, int to) {
  RawProducer producer(options.brokers);
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    for (int i = from; i < to; ++i) {
      producer.Send(options.input_topic, partition, KeyOf(partition), "event " + std::to_string(i));
    }
  }
  producer.Flush();
}

// What a processor does: one outcome for each event, restored from what was committed.
class Echo final : public PartitionListener {
 public:
  explicit Echo(const KafkaOptions& options) : client(options), source(client), sink(client) {
    source.Listen(*this);
  }

  Result<Nothing> Assigned(std::span<const int32_t> partitions) override {
    for (const int32_t number : partitions) {
      Result<std::optional<Tail>> tail = sink.Last(number);
      if (!tail) return tail.error();
      chains[number] = {};
      if (*tail) chains[number].GoOnAfter((*tail)->chain);
      Result<Nothing> sought = source.Seek(number, *tail ? (*tail)->offset + 1 : 0);
      if (!sought) return sought;
      owned.insert(number);
    }
    ++assignments;
    return Nothing{};
  }

  Result<Nothing> Revoked(std::span<const int32_t> partitions) override {
    Result<Nothing> committed = sink.Commit();
    if (!committed) return committed;
    for (const int32_t number : partitions) {
      sink.Drop(number);
      owned.erase(number);
    }
    ++revocations;
    return Nothing{};
  }

  void Lost(std::span<const int32_t> partitions) override {
    for (const int32_t number : partitions) {
      sink.Drop(number);
      owned.erase(number);
    }
    ++losses;
  }

  // One event into the sink; false if there was none.
  Result<bool> Step() {
    Record record;
    Result<Source::Pull> pull = source.Next(record, kPull);
    if (!pull) return pull.error();
    if (*pull != Source::Pull::kRecord) return false;
    const std::string text = record.refusal ? "refused" : record.bytes;
    Result<Nothing> appended = sink.Append(
        chains[record.partition].Make(record.partition, record.offset, record.key, text));
    if (!appended) return appended.error();
    ++events;
    return true;
  }

  // `count` events, with a commit after each `every`; the last ones stay uncommitted if
  // `every` does not divide `count`.
  void Run(size_t count, size_t every) {
    const size_t goal = events + count;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (events < goal && std::chrono::steady_clock::now() < deadline) {
      const Result<bool> stepped = Step();
      BOOST_REQUIRE_MESSAGE(stepped.ok(), Why(stepped));
      if (*stepped && events % every == 0) Commit();
    }
    BOOST_REQUIRE_EQUAL(events, goal);
  }

  void Commit() {
    const Result<Nothing> committed = sink.Commit();
    BOOST_REQUIRE_MESSAGE(committed.ok(), Why(committed));
  }

  // Until `done`, without appending anything.
  template <class Done>
  bool PumpUntil(const Done& done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    Record record;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      const Result<Source::Pull> pull = source.Next(record, kPull);
      BOOST_TEST(pull.ok(), Why(pull));
      if (!pull.ok()) return done();
    }
    return done();
  }

  KafkaClient client;
  KafkaSource source;
  KafkaSink sink;
  std::map<int32_t, ChainOfOutcomes> chains;
  std::set<int32_t> owned;
  size_t events = 0;
  int assignments = 0;
  int revocations = 0;
  int losses = 0;
};

// Each event of the partition has exactly one outcome, in order, and the group stands after it.
inline void ExpectOneOutcomeEach(const KafkaOptions& options, int32_t partition, int64_t events) {
  std::map<int64_t, std::string> outcomes;
  for (const std::string& topic :
       {options.response_topic, options.receipt_topic, options.dead_letter_topic}) {
    int64_t last = -1;
    for (const Stored& stored : ReadAll(options.brokers, topic, partition)) {
      const size_t begin = stored.bytes.find("\"offset\":\"") + 10;
      const int64_t offset = std::stoll(stored.bytes.substr(begin));
      BOOST_TEST(offset > last);
      BOOST_TEST(outcomes.emplace(offset, stored.bytes).second);
      BOOST_TEST(stored.key == KeyOf(partition));
      last = offset;
    }
  }
  BOOST_TEST(outcomes.size() == static_cast<size_t>(events));
  KafkaClient client(options);
  KafkaSink sink(client);
  const Result<std::optional<Tail>> tail = sink.Last(partition);
  BOOST_REQUIRE(tail.ok());
  BOOST_REQUIRE(tail->has_value());
  BOOST_TEST((*tail)->offset == events - 1);
  size_t next = 0;
  const Result<Nothing> read = sink.ReadBack(partition, 0, [&](std::string_view line) {
    BOOST_TEST(line == outcomes.at(static_cast<int64_t>(next++)));
    return Result<Nothing>(Nothing{});
  });
  BOOST_TEST(read.ok(), Why(read));
  BOOST_TEST(next == outcomes.size());
}

}  // namespace nudge::testing
