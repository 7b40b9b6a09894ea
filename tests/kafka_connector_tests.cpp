// labels: kafka
// Source, sink and publisher against a real broker.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>

#include "connectors/memory.h"
#include "tests/kafka_echo.h"

namespace nudge {
namespace {

using namespace testing;  // NOLINT

// The message of the StartError that a client throws.
std::string Refused(const KafkaOptions& options) {
  try {
    KafkaClient client(options);
  } catch (const StartError& error) {
    return error.what();
  }
  return "";
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_event_gets_its_outcome_once_and_the_group_stands_after_it) {
  const KafkaOptions options = Topics("round");
  Fill(options, 0, 1000);
  {
    Echo echo(options);
    echo.Run(3000, 250);
    const KafkaStatistics statistics = echo.client.statistics();
    BOOST_TEST(statistics.commits == 12u);
    BOOST_TEST(statistics.committed_events == 3000u);
    BOOST_TEST(statistics.aborts + statistics.rebuilds == 0u);
    BOOST_TEST(statistics.partitions.size() == 3u);
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, 1000);
  }
}

BOOST_AUTO_TEST_CASE(a_restart_goes_on_after_the_last_commit) {
  const KafkaOptions options = Topics("restart");
  Fill(options, 0, 200);
  for (const size_t count : {130u, 170u, 251u}) {
    Echo echo(options);
    echo.Run(count, 40);  // what follows the last full 40 is not committed
  }
  {
    Echo echo(options);
    echo.Run(600 - 120 - 160 - 240, 40);
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, 200);
  }
}

BOOST_AUTO_TEST_CASE(outcomes_are_read_back_from_any_offset) {
  const KafkaOptions options = Topics("back");
  Fill(options, 0, 300);
  Echo echo(options);
  echo.Run(900, 100);
  for (const int64_t from : {int64_t{0}, int64_t{1}, int64_t{77}, int64_t{298}, int64_t{299},
                             int64_t{300}, int64_t{5000}}) {
    int64_t next = from;
    const Result<Nothing> read = echo.sink.ReadBack(1, from, [&](std::string_view line) {
      BOOST_TEST(line.starts_with("{\"offset\":\"" + std::to_string(next++) + "\""));
      return Result<Nothing>(Nothing{});
    });
    BOOST_TEST(read.ok(), Why(read));
    BOOST_TEST(next == std::max<int64_t>(300, from));
  }
  const Error stop{Code::kInternal, "enough", ""};
  const Result<Nothing> read =
      echo.sink.ReadBack(1, 10, [&](std::string_view) { return Result<Nothing>(stop); });
  BOOST_TEST((!read.ok() && read.error() == stop));
}

BOOST_AUTO_TEST_CASE(a_missing_outcome_is_found) {
  const KafkaOptions options = Topics("gap");
  Fill(options, 0, 30);
  Echo echo(options);
  echo.Run(90, 30);
  RawProducer admin(options.brokers);
  rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, options.receipt_topic.c_str(), 0)->offset = 4;
  rd_kafka_DeleteRecords_t* records = rd_kafka_DeleteRecords_new(list);
  rd_kafka_queue_t* const queue = rd_kafka_queue_new(admin.handle());
  rd_kafka_DeleteRecords(admin.handle(), &records, 1, nullptr, queue);
  rd_kafka_event_destroy(rd_kafka_queue_poll(queue, -1));
  rd_kafka_queue_destroy(queue);
  rd_kafka_DeleteRecords_destroy(records);
  rd_kafka_topic_partition_list_destroy(list);

  const auto ignore = [](std::string_view) { return Result<Nothing>(Nothing{}); };
  const Result<Nothing> read = echo.sink.ReadBack(0, 0, ignore);
  BOOST_REQUIRE(!read.ok());
  BOOST_TEST((read.error().code == Code::kUnreadableFile));
  BOOST_TEST(Contains(read.error().message, "missing"), read.error().message);
  BOOST_TEST(echo.sink.ReadBack(1, 0, ignore).ok());
}

BOOST_AUTO_TEST_CASE(a_second_process_with_the_same_transactional_id_fences_the_first) {
  KafkaOptions options = Topics("fence");
  options.transactional_id = "fence-slot";
  Fill(options, 0, 10);
  Echo first(options);
  first.Run(10, 5);
  first.Run(3, 100);
  KafkaOptions second_options = options;
  second_options.instance_id = "two";
  KafkaClient client(second_options);
  KafkaSink second(client);
  const Result<Nothing> committed = first.sink.Commit();
  BOOST_REQUIRE(!committed.ok());
  BOOST_TEST((committed.error().code == Code::kFenced), committed.error().message);
  const Result<Nothing> again = first.sink.Commit();
  BOOST_REQUIRE(!again.ok());
  BOOST_TEST((again.error().code == Code::kFenced), again.error().message);
  size_t outcomes = 0;
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    for (const std::string& topic :
         {options.response_topic, options.receipt_topic, options.dead_letter_topic}) {
      outcomes += ReadAll(options.brokers, topic, partition).size();
    }
  }
  BOOST_TEST(outcomes == 10u);
}

BOOST_AUTO_TEST_CASE(a_second_process_with_the_same_instance_id_ends_the_first) {
  KafkaOptions options = Topics("instance");
  options.transactional_id = "instance-a";
  Fill(options, 0, 10);
  Echo first(options);
  first.Run(10, 5);
  options.transactional_id = "instance-b";
  Echo second(options);
  BOOST_TEST(second.PumpUntil([&] { return second.owned.size() == 3; }));
  Record record;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::optional<Error> error;
  while (!error && std::chrono::steady_clock::now() < deadline) {
    const Result<Source::Pull> pull = first.source.Next(record, kPull);
    if (!pull.ok()) error = pull.error();
  }
  BOOST_REQUIRE(error);
  BOOST_TEST((error->code == Code::kFenced), error->message);
}

BOOST_AUTO_TEST_CASE(a_process_that_was_away_for_too_long_cannot_commit) {
  KafkaOptions options = Topics("zombie");
  options.session_timeout = std::chrono::milliseconds(2'000);
  options.properties["max.poll.interval.ms"] = "2500";
  Fill(options, 0, 10);
  Echo zombie(options);
  zombie.Run(6, 3);
  zombie.Run(3, 100);
  KafkaOptions others = options;
  others.instance_id = "two";
  Echo successor(others);
  successor.Run(24, 24);  // gets all partitions once the other has missed the rebalance
  const Result<Nothing> committed = zombie.sink.Commit();
  BOOST_REQUIRE(!committed.ok());
  BOOST_TEST((committed.error().code == Code::kNotOwner), committed.error().message);
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, 10);
  }
  BOOST_TEST(zombie.PumpUntil([&] { return zombie.losses + zombie.revocations > 0; }));
}

BOOST_AUTO_TEST_CASE(a_process_that_joins_is_handed_partitions) {
  const KafkaOptions options = Topics("join");
  Fill(options, 0, 100);
  Echo first(options);
  first.Run(60, 20);
  first.Run(7, 100);
  KafkaOptions others = options;
  others.instance_id = "two";
  Echo second(others);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (first.events + second.events < 300 && std::chrono::steady_clock::now() < deadline) {
    for (Echo* echo : {&first, &second}) {
      const Result<bool> stepped = echo->Step();
      BOOST_REQUIRE_MESSAGE(stepped.ok(), Why(stepped));
    }
  }
  first.Commit();
  second.Commit();
  BOOST_TEST(first.revocations == 1);
  BOOST_TEST(first.losses == 0);
  BOOST_TEST(first.owned.size() + second.owned.size() == 3u);
  BOOST_TEST(first.owned.size() >= 1u);
  BOOST_TEST(second.owned.size() >= 1u);
  BOOST_TEST(first.events + second.events == 300u);
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, 100);
  }
}

BOOST_AUTO_TEST_CASE(a_key_of_another_partition_or_none_and_a_long_record_are_refused) {
  KafkaOptions options = Topics("refuse");
  options.line_bytes = 1000;
  options.head_bytes = 10;
  const std::string long_bytes(5000, 'x');
  RawProducer producer(options.brokers);
  producer.Send(options.input_topic, 1, KeyOf(1), "good");
  producer.Send(options.input_topic, 1, KeyOf(2), "astray");
  producer.Send(options.input_topic, 1, std::nullopt, "nobody's");
  producer.Send(options.input_topic, 1, KeyOf(1), long_bytes);
  producer.Flush();
  Echo echo(options);
  std::vector<Record> records;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (records.size() < 4 && std::chrono::steady_clock::now() < deadline) {
    Record record;
    const Result<Source::Pull> pull = echo.source.Next(record, kPull);
    BOOST_REQUIRE(pull.ok());
    if (*pull == Source::Pull::kRecord) records.push_back(record);
  }
  BOOST_REQUIRE(records.size() == 4u);
  BOOST_TEST(records[0].key == KeyOf(1));
  BOOST_TEST(!records[0].refusal);
  BOOST_REQUIRE(records[1].refusal);
  BOOST_TEST((records[1].refusal->error.code == Code::kInvalidEvent));
  BOOST_TEST(Contains(records[1].refusal->error.message, "belongs to partition 2, not 1"));
  BOOST_TEST(records[1].bytes == "astray");
  BOOST_TEST(records[1].refusal->bytes_total == 6u);
  BOOST_REQUIRE(records[2].refusal);
  BOOST_TEST(Contains(records[2].refusal->error.message, "no key"));
  BOOST_REQUIRE(records[3].refusal);
  BOOST_TEST((records[3].refusal->error.code == Code::kTooLarge));
  BOOST_TEST(records[3].bytes == std::string(10, 'x'));
  BOOST_TEST(records[3].refusal->bytes_total == 5000u);
  BOOST_TEST(records[3].refusal->bytes_sha256 == Sha256Hex(long_bytes));
}

BOOST_AUTO_TEST_CASE(tombstones_and_what_is_not_in_structured_mode_are_refused_by_name) {
  const KafkaOptions options = Topics("modes");
  const std::string event = R"({"specversion":"1.0"})";
  const std::pair<std::string, std::string> version{"ce_specversion", "1.0"};
  RawProducer producer(options.brokers);
  producer.Send(options.input_topic, 1, KeyOf(1), std::nullopt);
  producer.Send(options.input_topic, 1, KeyOf(1), "");
  producer.Send(options.input_topic, 1, KeyOf(1), R"({"text":"hello"})",
                {version, {"content-type", "application/json"}});
  producer.Send(options.input_topic, 1, KeyOf(1), "[" + event + "]",
                {{"content-type", "application/cloudevents-batch+json"}});
  producer.Send(options.input_topic, 1, KeyOf(1), event,
                {version, {"content-type", "application/cloudevents+json; charset=UTF-8"}});
  producer.Send(options.input_topic, 1, KeyOf(1), event, {version});
  producer.Send(options.input_topic, 1, KeyOf(1), R"({"text":"hello"})");
  producer.Flush();
  Echo echo(options);
  std::vector<Record> records;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (records.size() < 7 && std::chrono::steady_clock::now() < deadline) {
    Record record;
    const Result<Source::Pull> pull = echo.source.Next(record, kPull);
    BOOST_REQUIRE(pull.ok());
    if (*pull == Source::Pull::kRecord) records.push_back(record);
  }
  BOOST_REQUIRE(records.size() == 7u);
  const std::vector<std::string> names = {"a tombstone", "value is empty", "binary mode",
                                          "a batch"};
  for (size_t i = 0; i < records.size(); ++i) {
    BOOST_TEST(records[i].key == KeyOf(1));
    BOOST_TEST(records[i].refusal.has_value() == (i < names.size()), i);
    if (!records[i].refusal || i >= names.size()) continue;
    BOOST_TEST((records[i].refusal->error.code == Code::kInvalidEvent));
    BOOST_TEST(Contains(records[i].refusal->error.message, names[i]));
    BOOST_TEST(!records[i].refusal->error.remedy.empty());
  }
}

BOOST_AUTO_TEST_CASE(a_paused_partition_holds_up_no_other_and_loses_nothing) {
  const KafkaOptions options = Topics("pause");
  Fill(options, 0, 100);
  Echo echo(options);
  echo.Run(30, 10);
  echo.source.Pause(1);
  echo.source.Pause(1);
  std::map<int32_t, std::vector<int64_t>> offsets;
  const auto pull = [&](size_t count) {
    Record record;
    for (int idle = 0; count > 0 && idle < 20;) {
      const Result<Source::Pull> pulled = echo.source.Next(record, kPull);
      BOOST_REQUIRE(pulled.ok());
      if (*pulled != Source::Pull::kRecord) {
        ++idle;
        continue;
      }
      offsets[record.partition].push_back(record.offset);
      --count;
    }
  };
  pull(300);
  BOOST_TEST(offsets[1].empty());
  const size_t others = offsets[0].size() + offsets[2].size();
  echo.source.Resume(1);
  pull(300);
  BOOST_TEST(offsets[1].size() + others == 270u);
  for (const auto& [partition, list] : offsets) {
    BOOST_TEST(list.back() == 99);
    BOOST_TEST(list.back() - list.front() + 1 == static_cast<int64_t>(list.size()));
  }
  BOOST_REQUIRE(echo.source.Seek(1, 40).ok());
  offsets.clear();
  pull(60);
  BOOST_TEST(offsets[1].front() == 40);
  BOOST_TEST(offsets[1].size() == 60u);
}

BOOST_AUTO_TEST_CASE(a_position_outside_of_the_log_is_an_error) {
  const KafkaOptions options = Topics("position");
  Fill(options, 0, 50);
  {
    Echo echo(options);
    echo.Run(150, 150);
    const Result<Nothing> beyond = echo.source.Seek(0, 51);
    BOOST_REQUIRE(!beyond.ok());
    BOOST_TEST((beyond.error().code == Code::kUnreadableFile));
    BOOST_TEST(Contains(beyond.error().message, "ends at 50"), beyond.error().message);
  }
  RawProducer admin(options.brokers);
  rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, options.input_topic.c_str(), 0)->offset = 20;
  rd_kafka_DeleteRecords_t* records = rd_kafka_DeleteRecords_new(list);
  rd_kafka_queue_t* const queue = rd_kafka_queue_new(admin.handle());
  rd_kafka_DeleteRecords(admin.handle(), &records, 1, nullptr, queue);
  rd_kafka_event_destroy(rd_kafka_queue_poll(queue, -1));
  rd_kafka_queue_destroy(queue);
  rd_kafka_DeleteRecords_destroy(records);
  rd_kafka_topic_partition_list_destroy(list);
  Echo echo(options);
  BOOST_TEST(echo.PumpUntil([&] { return !echo.owned.empty(); }));
  for (const int64_t offset : {0, 19}) {
    const Result<Nothing> gone = echo.source.Seek(0, offset);
    BOOST_REQUIRE(!gone.ok());
    BOOST_TEST((gone.error().code == Code::kUnreadableFile));
    BOOST_TEST(Contains(gone.error().message, "begins at 20"), gone.error().message);
  }
  BOOST_TEST(echo.source.Seek(0, 20).ok());

  KafkaOptions fresh = options;
  fresh.group_id = "position-fresh";
  KafkaClient client(fresh);
  KafkaSource source(client);
  BOOST_TEST(source.Seek(0, 0).ok());  // a new group begins where the log does
}

BOOST_AUTO_TEST_CASE(a_line_that_could_never_be_committed_is_refused_at_once) {
  KafkaOptions options = Topics("large");
  Fill(options, 0, 5);
  Echo echo(options);
  echo.Run(15, 15);
  ChainOfOutcomes chain;
  const Result<Nothing> large =
      echo.sink.Append(chain.Make(0, 10, KeyOf(0), std::string(1'000'000, 'x')));
  BOOST_REQUIRE(!large.ok());
  BOOST_TEST((large.error().code == Code::kTooLarge));
  BOOST_TEST((echo.sink.Append(chain.Make(0, 4, "t", "x")).error().code == Code::kInternal));
  BOOST_TEST((echo.sink.Append({0, 11, OutcomeKind::kApplied, "t", "{}"}).error().code ==
              Code::kInternal));
  std::string text;
  for (uint32_t i = 0, seed = 1; i < 999'000; ++i) {  // nothing to compress
    seed = seed * 1664525 + 1013904223;
    text.push_back(static_cast<char>('0' + (seed >> 26)));
  }
  std::replace(text.begin(), text.end(), '\\', '/');
  BOOST_REQUIRE(echo.sink.Append(chain.Make(0, 12, KeyOf(0), text)).ok());
  echo.Commit();
}

BOOST_AUTO_TEST_CASE(what_is_dropped_is_not_committed) {
  const KafkaOptions options = Topics("drop");
  Fill(options, 0, 10);
  Echo echo(options);
  echo.Run(30, 100);
  echo.sink.Drop(1);
  echo.Commit();
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    const Result<std::optional<Tail>> tail = echo.sink.Last(partition);
    BOOST_REQUIRE(tail.ok());
    BOOST_TEST(tail->has_value() == (partition != 1));
  }
}

BOOST_AUTO_TEST_CASE(topics_that_are_missing_or_do_not_fit_stop_the_start) {
  KafkaOptions options = OptionsFor(Address(), "absent");
  BOOST_TEST(Contains(Refused(options), "no topic absent-in"), Refused(options));
  options = Topics("unequal", 2);
  KafkaOptions wider = OptionsFor(Address(), "unequal");
  wider.receipt_topic = "unequal-wide";
  BOOST_REQUIRE(CreateTopics(wider, 4, 1).ok());
  BOOST_TEST(Contains(Refused(wider), "unequal-wide has 4 partitions and unequal-in has 2"),
             Refused(wider));
  options.receipt_topic = options.input_topic;
  BOOST_TEST(Contains(Refused(options), "input and output"));
  options = OptionsFor("127.0.0.1:1", "nowhere");
  options.start_timeout = std::chrono::milliseconds(500);
  BOOST_TEST(Contains(Refused(options), "no Kafka broker answers at 127.0.0.1:1"),
             Refused(options));
}

BOOST_AUTO_TEST_CASE(outcomes_larger_than_their_topic_takes_stop_the_start) {
  constexpr size_t kDefaultLimit = 1'048'588;  // of Kafka
  KafkaOptions options = Topics("sizes");
  options.message_bytes = kDefaultLimit - 1024;
  BOOST_TEST(Refused(options) == "");
  options.message_bytes += 1;
  const std::string refused = Refused(options);
  BOOST_TEST(Contains(refused, "topic sizes-responses takes messages of 1048588 bytes"), refused);
  BOOST_TEST(Contains(refused, "lower kafka.message_bytes to 1047564 or less"), refused);
}

BOOST_AUTO_TEST_CASE(secrets_stand_in_no_message) {
  const std::string secret = "hunter2-and-more";
  std::vector<std::string> said;
  std::mutex mutex;
  const auto hear = [&](std::string_view line) {
    const std::lock_guard lock(mutex);
    said.emplace_back(line);
  };
  for (const std::map<std::string, std::string>& properties :
       std::vector<std::map<std::string, std::string>>{
           {{"security.protocol", "sasl_plaintext"},
            {"sasl.mechanisms", "PLAIN"},
            {"sasl.username", "someone"},
            {"sasl.password", secret}},
           {{"security.protocol", secret}},
           {{"security.protocol", "ssl"}, {"ssl.key.location", secret}},
           {{"ssl.key.pem", secret}},
           {{"socket.timeout.ms", secret}}}) {
    KafkaOptions options = OptionsFor(Address(), "secrets");
    options.start_timeout = std::chrono::milliseconds(1'000);
    options.properties = properties;
    options.log = hear;
    const std::string refused = Refused(options);
    BOOST_TEST(!refused.empty());
    hear(refused);
  }
  const std::lock_guard lock(mutex);
  for (const std::string& line : said) BOOST_TEST(!Contains(line, secret), line);
  BOOST_TEST(said.size() > 5u);
  KafkaOptions options = OptionsFor(Address(), "secrets");
  options.properties = {{"isolation.level", "read_uncommitted"}};
  BOOST_TEST(Contains(Refused(options), "\"isolation.level\" is nudge's to set"));
  options.properties = {{"no.such.thing", "1"}};
  BOOST_TEST(Contains(Refused(options), "no \"no.such.thing\""));
}

BOOST_AUTO_TEST_CASE(a_group_that_something_else_has_moved_is_not_trusted) {
  const KafkaOptions options = Topics("foreign");
  Fill(options, 0, 10);
  KafkaClient client(options);
  KafkaSink sink(client);
  char text[256];
  rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
  rd_kafka_conf_set(configuration, "bootstrap.servers", options.brokers.c_str(), text, sizeof text);
  rd_kafka_conf_set(configuration, "group.id", options.group_id.c_str(), text, sizeof text);
  rd_kafka_t* const other = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, text, sizeof text);
  rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, options.input_topic.c_str(), 0)->offset = 5;
  BOOST_REQUIRE(rd_kafka_commit(other, list, 0) == RD_KAFKA_RESP_ERR_NO_ERROR);
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_destroy(other);
  const Result<std::optional<Tail>> tail = sink.Last(0);
  BOOST_REQUIRE(!tail.ok());
  BOOST_TEST((tail.error().code == Code::kUnreadableFile));
}

BOOST_AUTO_TEST_CASE(without_transactions_offsets_follow_the_outcomes) {
  KafkaOptions options = Topics("atleast");
  options.delivery = KafkaOptions::Delivery::kAtLeastOnce;
  Fill(options, 0, 100);
  {
    Echo echo(options);
    echo.Run(130, 50);
  }
  {
    Echo echo(options);
    echo.Run(200, 50);
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, 100);
  }
}

BOOST_AUTO_TEST_CASE(events_are_published_to_the_partition_of_their_tenant) {
  const KafkaOptions options = Topics("publish");
  std::vector<std::string> lines;
  for (int i = 0; i < 500; ++i) {
    lines.push_back("{\"tenant\":\"t" + std::to_string(i % 17) + "\",\"id\":\"" +
                    std::to_string(i) + "\"}");
  }
  lines[7] = "{\"id\":\"7\"}";
  MemorySource events(lines);
  KafkaPublisher publisher(options);
  const std::atomic<bool> stop{false};
  uint64_t progress = 0;
  const auto begun = std::chrono::steady_clock::now();
  const Result<PublishReport> report = publisher.Publish(
      events, {.events_per_second = 1000, .on_progress = [&](uint64_t n) { progress = n; }}, stop);
  BOOST_REQUIRE(report.ok());
  BOOST_TEST((std::chrono::steady_clock::now() - begun >= std::chrono::milliseconds(490)));
  BOOST_TEST(report->delivered == 499u);
  BOOST_TEST(progress == 499u);
  BOOST_TEST(report->refused == 1u);
  BOOST_TEST(report->failed == 0u);
  BOOST_TEST(Contains(report->first_error, "line 8: no tenant"), report->first_error);
  size_t found = 0;
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    for (const Stored& stored : ReadAll(options.brokers, options.input_topic, partition)) {
      BOOST_TEST(Murmur2Partition(stored.key, kPartitions) == partition);
      BOOST_TEST(Contains(stored.bytes, "\"tenant\":\"" + stored.key + "\""));
      ++found;
    }
  }
  BOOST_TEST(found == 499u);
}

}  // namespace nudge
