#include "connectors/gateway_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(GatewayOptions& options) {
  using enum Effect;
  return {
      {"gateway.in_flight_max", Number{&options.in_flight_max, 1, 10'000'000}, "events",
       kOperational, "taken and without an outcome yet: above it further ones are refused"},
      {"gateway.undelivered_bytes_max", Number{&options.undelivered_bytes_max, 1 << 20, 16ll << 30},
       "", kOperational,
       "of events that no broker has acknowledged yet: above it further ones are refused"},
      {"gateway.outcomes_kept_max", Number{&options.outcomes_kept_max, 1, 100'000'000}, "outcomes",
       kOperational, "the newest, kept in memory: those that can be asked for by id"},
      {"gateway.outcomes_kept_bytes_max",
       Number{&options.outcomes_kept_bytes_max, 1 << 20, 1ll << 40}, "", kOperational,
       "of these outcomes"},
      {"gateway.look_back_messages_max", Number{&options.look_back_messages_max, 0, 1'000'000'000},
       "messages", kOperational,
       "of each partition of each output topic that are read at the start, before it listens"},
      {"gateway.monitor_port", Number{&options.monitor_port, 0, 65'535}, "", kOperational,
       "of its own monitor, at monitor.address: a processor on the same host has monitor.port; 0: "
       "none"},
      {"gateway.signing_key_file", Path{&options.signing_key_file, Path::Base::kConfigFolder}, "",
       kOperational,
       "private key, in PEM, by which it signs the commands that it takes of callers with the role "
       "admin (commands.keys_file); needs http.keys_file; empty: they are not signed"},
      {"gateway.delivery_timeout_ms", Number{&options.delivery_timeout, 5'000, 600'000}, "",
       kOperational,
       "for brokers to acknowledge an event; then it is answered 503, or 504 where it may be "
       "stored all the same"},
      {"gateway.outcome_timeout_ms", Number{&options.outcome_timeout, 1'000, 86'400'000}, "",
       kOperational, "for an outcome, until its event counts as in flight no more"},
      {"gateway.drain_ms", Number{&options.drain, 0, 600'000}, "", kOperational,
       "for outcomes of what was taken before a stop"},
  };
}

}  // namespace nudge
