// Kafka in and out: live topics, each event's outcome exactly once.
//
//   input topic -> [KafkaSource] -> Record        OutcomeLine -> [KafkaSink] -> three topics
//   event file -> [KafkaPublisher] -> input topic
//
// Partition in = partition out: outcomes of input partition p go to partition p of the response,
// receipt and dead letter topics. One transaction holds outcomes and the progress that they stand
// for: the group's committed offset of the input partition, with the chain's hash as its metadata
// (and the last event's offset, where the log goes on with what are no events).
// So the group's offsets alone say what is committed, and a reader with isolation.level
// read_committed sees each outcome once, whatever was killed in between.
//
// Who may write is decided by the brokers: a producer's transactional id belongs to the process
// that started last, and a commit carries the generation of the group in which its partitions were
// assigned. A process that was replaced, or was away for longer than its session, is refused.
//
// Made for one KafkaClient, KafkaSource and KafkaSink a process. Threads as source.h and sink.h
// say; source and sink may be used at the same time by two threads. librdkafka stays in the .cpp
// files.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "connectors/kafka_options.h"
#include "connectors/sink.h"
#include "connectors/source.h"

namespace nudge {

struct KafkaStatistics {
  struct Partition {
    int64_t lag_events = 0;      // committed in the log, not yet delivered
    int64_t waiting_events = 0;  // of those, fetched
    uint64_t waiting_bytes = 0;
  };
  std::map<int32_t, Partition> partitions;  // those assigned
  uint64_t received_bytes = 0;              // from all brokers, as on the wire
  double round_trip_ms = 0;                 // mean over the last interval, of the slowest broker
  uint32_t brokers_up = 0;                  // to which there is a connection
  uint64_t rebalances = 0;
  // The sink's, since start.
  uint64_t commits = 0;
  uint64_t committed_events = 0;
  uint64_t committed_bytes = 0;
  uint64_t retries = 0;          // calls repeated after an error that a repetition may cure
  uint64_t aborts = 0;           // transactions given up, whose lines were sent again
  uint64_t rebuilds = 0;         // producers replaced after an error that ended one
  uint64_t found_committed = 0;  // commits that failed here and had succeeded there
  double commit_ms = 0;          // how long the last commit took
  std::string last_error;        // the last trouble with a broker; empty if there was none
};

// The partition that Kafka's own (Java) producers give a key: Kafka's murmur2, positive, modulo
// `partitions` (1..).
int32_t Murmur2Partition(std::string_view key, int32_t partitions);

// Makes those of the four topics that are missing; the others stay as they are. Returns once all
// can be used. kUnavailable: brokers do not answer, or refuse.
Result<Nothing> CreateTopics(const KafkaOptions& options, int32_t partitions, int16_t replication);

// What source and sink share: the consumer and its place in the group.
class KafkaClient {
 public:
  // Connects and checks the topics. Throws StartError: a property that librdkafka or nudge refuses,
  // no broker that answers, a topic that is missing, output topics whose partitions are not as
  // many as the input's or that do not take message_bytes. Joins no group yet.
  explicit KafkaClient(KafkaOptions options);
  ~KafkaClient();
  KafkaClient(const KafkaClient&) = delete;
  KafkaClient& operator=(const KafkaClient&) = delete;

  const KafkaOptions& options() const;
  int32_t partitions() const;          // of the input topic
  KafkaStatistics statistics() const;  // any thread

  class Shared;
  Shared& shared() { return *shared_; }  // for the classes below

 private:
  std::unique_ptr<Shared> shared_;
};

class KafkaSource final : public Source {
 public:
  explicit KafkaSource(KafkaClient& client);
  // Leaves the group without telling the listener. A static member's partitions stay reserved for
  // the session timeout.
  ~KafkaSource() override;

  void Listen(PartitionListener& listener) override;

  // The first call joins the group. Refusals: kTooLarge, and kInvalidEvent for a record without a
  // key or with one that another partition should have. Errors:
  //   kUnreadableFile  the position is not in the log any more, or not yet; the topic is gone, or
  //                    got more partitions
  //   kFenced          another process has this one's instance_id
  //   kUnavailable     the brokers refuse: authentication, authorisation
  // Brokers that are away are no error: they are waited for.
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override;

  // Compares with the log's start and end: asks a broker. Position 0 of a partition that the group
  // never committed anything of is the log's start, whatever retention has removed before it.
  Result<Nothing> Seek(int32_t partition, int64_t offset) override;

  // Cheap: what is fetched stays fetched.
  void Pause(int32_t partition) override;
  void Resume(int32_t partition) override;

 private:
  class Reader;
  std::unique_ptr<Reader> reader_;
};

class KafkaSink final : public Sink {
 public:
  // Ends what an earlier process with the same transactional id left unfinished, and fences it.
  // Throws StartError if the brokers do not let it.
  explicit KafkaSink(KafkaClient& client);
  ~KafkaSink() override;

  Result<Nothing> Append(const OutcomeLine& line) override;

  // One transaction, sent again with the same bytes if it had to be aborted. Only for partitions
  // that the source has been assigned. Errors, all of which keep the lines:
  //   kFenced       another process has this one's transactional id or instance_id: end this one
  // (not where the brokers ended a transaction that lasted too long)
  //   kNotOwner     the partitions were lost or are being moved: the source will say which; Drop
  //                 them, and Commit the rest
  //   kUnavailable  commit_timeout is over, or the brokers refuse. Whether the last attempt was
  //                 committed may be unknown: the next Commit finds out before it sends anything
  Result<Nothing> Commit() override;

  // Commits positions alone where the log goes on behind the last committed event with nothing but
  // markers of transactions: so the group has no lag once all is done.
  void Rest() override;

  void Drop(int32_t partition) override;

  // Waits until no transaction of another process is open on the partition's progress.
  // kUnreadableFile: the group's offset was set by something else than nudge.
  Result<std::optional<Tail>> Last(int32_t partition) override;

  // Checks the chain from line to line and at the end: an outcome that is missing, changed or out
  // of order is kUnreadableFile.
  Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override;

 private:
  class Writer;
  std::unique_ptr<Writer> writer_;
};

struct PublishOptions {
  double events_per_second = 0;  // 0: as fast as it goes
  // Called a few times a second and at the end.
  std::function<void(uint64_t delivered)> on_progress;
};

struct PublishReport {
  uint64_t delivered = 0;
  uint64_t refused = 0;  // not sent: no tenant in them, or too large
  uint64_t failed = 0;   // sent, but not taken by a broker
  std::string first_error;
};

// Sends events to the input topic, key = tenant, on the partition that Murmur2Partition says.
class KafkaPublisher {
 public:
  // Only brokers, input_topic, properties and limits matter. Throws StartError as KafkaClient does.
  explicit KafkaPublisher(KafkaOptions options);
  ~KafkaPublisher();
  KafkaPublisher(const KafkaPublisher&) = delete;
  KafkaPublisher& operator=(const KafkaPublisher&) = delete;

  // Until `events` ends or `stop` is set; then waits until all that was sent is delivered or has
  // failed. An error is that of `events`, or kUnavailable.
  Result<PublishReport> Publish(Source& events, const PublishOptions& options,
                                const std::atomic<bool>& stop);

 private:
  class Producer;
  std::unique_ptr<Producer> producer_;
};

}  // namespace nudge
