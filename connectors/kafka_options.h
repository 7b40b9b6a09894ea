// Brokers, topics and patience of the connectors to Kafka: see kafka.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "stages/options.h"

namespace nudge {

struct KafkaOptions {
  enum class Delivery {
    kExactlyOnce,
    kAtLeastOnce,  // no transactions: outcomes may come twice after a crash; to compare speed with
  };
  std::string brokers;             // "host:port,host:port"
  std::string group_id = "nudge";  // of the consumers that share the input's partitions
  // This process's place among them, the same after a restart: it gets its partitions back without
  // a rebalance, and its transactions are told from those of others.
  std::string instance_id = "1";
  std::string transactional_id;  // empty: "<group_id>-<instance_id>"
  std::string input_topic = "nudge.events";
  std::string response_topic = "nudge.responses";  // the three may be one topic
  std::string receipt_topic = "nudge.receipts";
  std::string dead_letter_topic = "nudge.dead-letters";
  Delivery delivery = Delivery::kExactlyOnce;

  // Passed on to librdkafka under its own names, for SASL and TLS. Those that nudge sets itself are
  // refused. Their values never stand in a message.
  std::map<std::string, std::string> properties;

  size_t line_bytes = 1 << 20;    // a larger record is delivered as a Refusal with its head
  size_t head_bytes = 64 << 10;   // of that head
  size_t fetch_bytes = 64 << 20;  // of records that are fetched and not yet delivered
  // The largest outcome with its key: the output topics' max.message.bytes less 1 KiB or more,
  // which is checked at start where the brokers tell.
  size_t message_bytes = 1'000'000;

  std::chrono::milliseconds start_timeout{15'000};  // brokers answer at start within this time
  // Away for longer, and the partitions move on. It should outlast a broker's restart: a member
  // whose session ended meanwhile can find itself fenced by its own return, and then has to start
  // again.
  std::chrono::milliseconds session_timeout{45'000};
  // A process that died in the middle of a transaction holds readers up for this time at most.
  std::chrono::milliseconds transaction_timeout{15'000};
  // How long Commit goes on trying while brokers are away.
  std::chrono::milliseconds commit_timeout{120'000};
  std::chrono::milliseconds statistics_interval{1'000};

  // What librdkafka has to say (warnings and worse), one line each, secrets replaced; from any
  // thread. Empty: nothing is said.
  std::function<void(std::string_view line)> log;
};

keys::Fields OptionsOf(KafkaOptions& options);

}  // namespace nudge
