#include "connectors/kafka_read_back.h"

#include <librdkafka/rdkafka.h>

#include <charconv>
#include <optional>

#include "connectors/codec.h"

namespace nudge::kafka {
namespace {

constexpr std::chrono::milliseconds kLongestWait{20};
constexpr std::chrono::seconds kFetch{30};  // without an answer for this time there will be none

Error Damaged(const std::string& topic, int32_t partition, const std::string& what) {
  return {Code::kUnreadableFile,
          "topic " + topic + ", partition " + std::to_string(partition) + ": " + what,
          "the outcomes are part of the log: give back what was removed, or begin again with a new "
          "group_id, new output topics and an empty state"};
}

std::optional<Sha256Digest> DigestOf(std::string_view hex) {
  Sha256Digest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (size_t i = 0; i < digest.size(); ++i) {
    const char* const text = hex.data() + 2 * i;
    if (std::from_chars(text, text + 2, digest[i], 16).ptr != text + 2) return std::nullopt;
  }
  return digest;
}

// One output topic's partition, read in order.
struct Stream {
  std::string topic;
  Queue queue;
  KafkaMessage head;        // the next outcome, if it is fetched
  int64_t head_offset = 0;  // of its event
  bool at_end = false;      // nothing follows that a reader may see now
  bool has_ended = false;   // and no transaction is open that could still add to it
};

class Outcomes {
 public:
  Outcomes(KafkaClient::Shared& shared, int32_t partition, Clock::time_point deadline)
      : shared_(shared),
        partition_(partition),
        deadline_(deadline),
        consumer_(MakeHandle(Kind::kConsumer, ReaderConfiguration(), shared.ear)),
        group_queue_(rd_kafka_queue_get_consumer(consumer_.get())) {
    bell_.WatchQueue(group_queue_.get());
    for (const std::string& topic : OutputTopics(shared.options)) {
      Stream& stream = streams_.emplace_back();
      stream.topic = topic;
      stream.queue.reset(rd_kafka_queue_get_partition(consumer_.get(), topic.c_str(), partition));
      ENSURE(stream.queue != nullptr);
      rd_kafka_queue_forward(stream.queue.get(), nullptr);
      bell_.WatchQueue(stream.queue.get());
    }
  }

  ~Outcomes() {
    Bell::StopWatching(group_queue_.get());
    for (Stream& stream : streams_) {
      Bell::StopWatching(stream.queue.get());
      stream.head.reset();
      stream.queue.reset();
    }
  }

  Outcomes(const Outcomes&) = delete;
  Outcomes& operator=(const Outcomes&) = delete;

  // To a place before the first outcome of an event at or after `offset`, of which there are at
  // most `span`.
  Result<Nothing> Find(int64_t offset, int64_t span) {
    std::vector<std::pair<std::string, int64_t>> begins;
    for (Stream& stream : streams_) {
      Result<int64_t> begin = Search(stream, offset, span);
      if (!begin) return begin.error();
      begins.emplace_back(stream.topic, *begin);
    }
    return Assign(begins);
  }

  // The stream whose head is next in the log; nullptr: all have ended.
  Result<Stream*> Next() {
    while (true) {
      Stream* next = nullptr;
      bool is_known = true;
      for (Stream& stream : streams_) {
        if (!stream.head && !stream.has_ended) {
          if (Result<Nothing> fetched = Fetch(stream); !fetched) return fetched.error();
        }
        if (stream.head && (next == nullptr || stream.head_offset < next->head_offset)) {
          next = &stream;
        }
        is_known = is_known && (stream.head || stream.has_ended);
      }
      if (is_known) return next;
      if (Clock::now() >= deadline_) {
        return Damaged(streams_.front().topic, partition_,
                       "a transaction is open, or the broker does not answer: the outcomes after "
                       "it cannot be read");
      }
      Wait();
    }
  }

 private:
  static constexpr size_t kStreams = 3;

  Configuration ReaderConfiguration() {
    constexpr size_t kKibi = 1024;
    return Configure(
        shared_.options, shared_.ear, {{"fetch.wait.max.ms", "20"}},
        {
            {"group.id", shared_.options.group_id},  // asked for, never joined
            {"session.timeout.ms", std::to_string(shared_.options.session_timeout.count())},
            {"isolation.level", "read_committed"},
            {"enable.auto.commit", "false"},
            {"enable.auto.offset.store", "false"},
            {"enable.partition.eof", "true"},
            {"auto.offset.reset", "error"},
            {"queued.min.messages", "10000000"},
            {"fetch.queue.backoff.ms", kFetchBackoffMs},
            {"queued.max.messages.kbytes",
             std::to_string(std::max(shared_.options.fetch_bytes / kStreams / kKibi, kKibi))},
        });
  }

  void Wait() {
    Bounded("rd_kafka_poll", kUntimed, [&] { return rd_kafka_poll(consumer_.get(), 0); });
    bell_.WaitUntil(Clock::now() + kLongestWait);
  }

  Result<Nothing> Assign(const std::vector<std::pair<std::string, int64_t>>& begins) {
    PartitionList list(rd_kafka_topic_partition_list_new(static_cast<int>(begins.size())));
    for (const auto& [topic, offset] : begins) {
      rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition_)->offset = offset;
    }
    const rd_kafka_resp_err_t code = Bounded(
        "rd_kafka_assign", kUntimed, [&] { return rd_kafka_assign(consumer_.get(), list.get()); });
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return Explain("read outcomes", code);
    for (Stream& stream : streams_) {
      stream.head.reset();
      stream.at_end = stream.has_ended = false;
    }
    return Nothing{};
  }

  // Puts the next outcome into the stream's head, or notes its end, if either is known now.
  Result<Nothing> Fetch(Stream& stream) {
    while (true) {
      rd_kafka_poll(consumer_.get(), 0);
      KafkaMessage message(rd_kafka_consume_queue(stream.queue.get(), 0));
      if (!message) return Nothing{};
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        // What lies between the stable and the real end is of a transaction that is still open.
        int64_t low = 0;
        int64_t high = 0;
        rd_kafka_get_watermark_offsets(consumer_.get(), stream.topic.c_str(), partition_, &low,
                                       &high);
        stream.at_end = true;
        stream.has_ended = message->offset >= high;
        if (stream.has_ended) return Nothing{};
        continue;
      }
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return Damaged(stream.topic, partition_, rd_kafka_message_errstr(message.get()));
      }
      const std::optional<int64_t> offset = InputOffset(*message);
      if (!offset) {
        return Damaged(
            stream.topic, partition_,
            "the message at offset " + std::to_string(message->offset) + " is not nudge's");
      }
      stream.head = std::move(message);
      stream.head_offset = *offset;
      return Nothing{};
    }
  }

  // A position at or before the first outcome of an event at or after `wanted`, and not far before
  // it: each event has one outcome and each transaction of outcomes one marker, so the outcomes of
  // `span` events fill no more than twice as many positions, unless transactions were aborted.
  Result<int64_t> Search(Stream& stream, int64_t wanted, int64_t span) {
    constexpr int64_t kSlack = 64;
    constexpr int64_t kFurther = 4;
    const Result<Range> range =
        RangeOf(consumer_.get(), stream.topic, partition_, shared_.options.start_timeout);
    if (!range) return range.error();
    for (int64_t reach = 2 * span + kSlack; wanted > 0 && reach < range->high - range->low;
         reach *= kFurther) {
      const int64_t begin = range->high - reach;
      if (Result<Nothing> assigned = Assign({{stream.topic, begin}}); !assigned) {
        return assigned.error();
      }
      const auto deadline = Clock::now() + kFetch;
      while (!stream.head && !stream.at_end) {
        if (Result<Nothing> fetched = Fetch(stream); !fetched) return fetched.error();
        if (Clock::now() >= deadline) {
          return Damaged(stream.topic, partition_, "the broker does not answer");
        }
        if (!stream.head && !stream.at_end) Wait();
      }
      if (stream.head && stream.head_offset < wanted) return begin;
    }
    return range->low;
  }

  KafkaClient::Shared& shared_;
  const int32_t partition_;
  const Clock::time_point deadline_;
  Handle consumer_;
  Bell bell_;
  Queue group_queue_;
  std::vector<Stream> streams_;
};

}  // namespace

Result<Nothing> ReadOutcomes(KafkaClient::Shared& shared, int32_t partition, int64_t offset,
                             const Tail& tail, Clock::time_point deadline,
                             const Sink::Visit& visit) {
  const bool may_repeat = shared.options.delivery == KafkaOptions::Delivery::kAtLeastOnce;
  std::optional<Sha256Digest> chain;
  int64_t last = -1;
  try {
    Outcomes outcomes(shared, partition, deadline);
    if (Result<Nothing> found = outcomes.Find(offset, tail.offset - offset + 1); !found)
      return found;
    while (last < tail.offset) {
      Result<Stream*> next = outcomes.Next();
      if (!next) return next.error();
      Stream* const stream = *next;
      if (stream == nullptr) {
        return Damaged(shared.options.response_topic, partition,
                       "the outcomes end before that of offset " + std::to_string(tail.offset));
      }
      const KafkaMessage message = std::move(stream->head);
      const int64_t at = stream->head_offset;
      if (at < offset || (at <= last && may_repeat)) continue;
      const std::string_view line(static_cast<const char*>(message->payload), message->len);
      const ChainedLine parts = SplitChain(line);
      if (chain) {
        chain = NextChain(*chain, at, parts.encoded);
      } else {
        chain = DigestOf(parts.chain);
      }
      if (at <= last || !chain || Hex(*chain) != parts.chain) {
        return Damaged(stream->topic, partition,
                       "an outcome between offsets " + std::to_string(last) + " and " +
                           std::to_string(at) +
                           " of the input is missing, changed or out of order");
      }
      last = at;
      if (Result<Nothing> visited = visit(line); !visited) return visited;
    }
  } catch (const StartError& error) {
    return Error{Code::kUnavailable, error.what(), ""};
  }
  if (last == tail.offset && Hex(*chain) == tail.chain) return Nothing{};
  return Damaged(shared.options.response_topic, partition,
                 "the outcome of offset " + std::to_string(tail.offset) +
                     " is missing, or not the one that was committed");
}

}  // namespace nudge::kafka
