// Outcomes out of the output topics, for whoever follows them without being their processor.
//
//   output topics -> [KafkaOutcomes] -> outcome, and where it stands
//
// It joins no group and writes no progress: where it begins is the caller's to say, and any number
// of them may read. Outcomes are those that a read_committed reader sees; those of one partition
// and topic come in the order of the log, between topics there is none. One thread, on which all is
// called back, out of the constructor and Turn. librdkafka stays in the .cpp file.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "connectors/kafka_options.h"
#include "stages/result.h"

namespace nudge {

namespace kafka {
class Bell;
}

class KafkaOutcomes {
 public:
  struct Stream {  // a partition of a topic
    std::string topic;
    int32_t partition = 0;
    int64_t low = 0;   // position of the oldest message that is there
    int64_t high = 0;  // and behind the newest
  };
  struct Message {
    std::string topic;
    int32_t partition = 0;
    int64_t position = 0;  // in its topic
    int64_t offset = 0;    // of the event that it ends
    std::string line;      // as the topic has it
  };
  // The position at which a stream is begun. One that is not there any more is the oldest.
  using BeginAt = std::function<int64_t(const Stream& stream)>;
  using OnMessage = std::function<void(const Message& message)>;

  // `bell`, if there is one, is rung whenever there is something to read, and outlives this.
  // Throws StartError as KafkaClient does; only brokers, topics, properties and limits matter.
  KafkaOutcomes(KafkaOptions options, const std::vector<std::string>& topics,
                const BeginAt& begin_at, OnMessage on_message, kafka::Bell* bell = nullptr);
  ~KafkaOutcomes();
  KafkaOutcomes(const KafkaOutcomes&) = delete;
  KafkaOutcomes& operator=(const KafkaOutcomes&) = delete;

  // Reads what is at hand, some hundreds of messages at most; waits so long where there is nothing.
  // Whether there was anything. kUnavailable: the brokers refuse; kUnreadableFile: a topic is gone.
  // Brokers that are away are no error.
  Result<bool> Turn(std::chrono::milliseconds wait);

  // Whether each stream was read to its end once.
  bool has_caught_up() const;

 private:
  class Reader;
  std::unique_ptr<Reader> reader_;
};

}  // namespace nudge
