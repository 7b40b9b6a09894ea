// The Kafka side of a gateway: events into the input topic, outcomes out of the output topics.
//
//   event -> [KafkaGateway] -> input topic          output topics -> [KafkaGateway] -> outcome
//
// It joins no group and writes no progress, so that any number of gateways stand before any number
// of processors, and each of them reads all outcomes, as a read_committed reader sees them. Events
// are written by an idempotent producer, acknowledged by all replicas in sync, on the partition
// that Murmur2Partition says for their tenant.
//
// Send: any thread. All else: one thread, on which everything is called back, out of Turn; a Send
// that is refused at once calls back on its own thread. librdkafka stays in the .cpp file.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "connectors/gateway_options.h"
#include "connectors/kafka_options.h"
#include "stages/result.h"

namespace nudge {

class KafkaGateway {
 public:
  struct Place {
    int32_t partition = 0;
    int64_t offset = 0;
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  struct Delivery {
    enum class Fate : uint8_t { kStored, kNotStored, kUnknown };
    Fate fate = Fate::kUnknown;
    Place place;  // of one that is stored
    Error error;  // of others; where not stored: kBusy, kTooLarge, kUnavailable
  };
  using OnDelivery = std::function<void(const Delivery& delivery)>;
  // For each outcome that is read, whosever event it ends, with the event's place and the line as
  // the topic has it. Those of one partition and topic come in the order of the log; between topics
  // there is none.
  using OnOutcome = std::function<void(const Place& place, const std::string& line)>;

  // Connects and checks the topics. Throws StartError as KafkaClient does, and where the input
  // topic does not take message_bytes.
  KafkaGateway(KafkaOptions options, const GatewayOptions& gateway, OnOutcome on_outcome);
  ~KafkaGateway();  // what has not been called back never is
  KafkaGateway(const KafkaGateway&) = delete;
  KafkaGateway& operator=(const KafkaGateway&) = delete;

  int32_t partitions() const;  // of each topic

  // Calls back once, within gateway.delivery_timeout_ms as long as Turn is called. Never waits.
  // kBusy above gateway.undelivered_bytes_max, kTooLarge above kafka.message_bytes.
  void Send(std::string tenant, std::string event, OnDelivery on_delivery);

  // Turns until what the output topics hold is read, from gateway.look_back_messages_max on; false
  // where that is not reached within the time for a start, or `stop` is set. Errors as Turn.
  Result<bool> CatchUp(const std::atomic<bool>& stop);

  // Does what there is to do, or waits some milliseconds for it. kUnavailable: the brokers refuse;
  // kUnreadableFile: a topic is gone. Brokers that are away are no error.
  Result<Nothing> Turn();

 private:
  class Link;
  std::unique_ptr<Link> link_;
};

}  // namespace nudge
