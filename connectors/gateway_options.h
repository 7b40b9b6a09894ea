// What a gateway before Kafka holds at most, and for how long it waits: see kafka_gateway.h and
// pipeline/serve/kafka_door.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "stages/options.h"

namespace nudge {

struct GatewayOptions {
  uint32_t in_flight_max = 10'000;            // events without an outcome
  uint64_t undelivered_bytes_max = 64 << 20;  // of events that brokers have not acknowledged
  size_t outcomes_kept_max = 100'000;         // the newest, of all gateways' events
  uint64_t outcomes_kept_bytes_max = 64 << 20;
  uint32_t look_back_messages_max = 10'000;  // of each partition of each output topic, at start

  int monitor_port = 0;  // at monitor.address; 0: none

  std::string signing_key_file;  // of its commands; empty: they are not signed

  std::chrono::milliseconds delivery_timeout{10'000};  // for brokers to acknowledge an event
  std::chrono::milliseconds outcome_timeout{600'000};  // for an outcome; then nobody waits any more
  std::chrono::milliseconds drain{5'000};              // for outcomes, at a stop
};

keys::Fields OptionsOf(GatewayOptions& options);

}  // namespace nudge
