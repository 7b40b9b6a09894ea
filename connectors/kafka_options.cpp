#include "connectors/kafka_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(KafkaOptions& options) {
  using enum Effect;
  return {
      {"kafka.brokers", Text{&options.brokers, 0, 4096}, "bytes", kOperational,
       "HOST:PORT,HOST:PORT; needed by run, gateway and publish"},
      {"kafka.group_id", Text{&options.group_id, 1, 249}, "bytes", kOperational,
       "of the processes that share the input topic's partitions"},
      {"kafka.instance_id", Text{&options.instance_id, 1, 249}, "bytes", kOperational,
       "of this process among them, the same after a restart: it gets its partitions back"},
      {"kafka.input_topic", Text{&options.input_topic, 1, 249}, "bytes", kOperational,
       "of events, key = tenant"},
      {"kafka.response_topic", Text{&options.response_topic, 1, 249}, "bytes", kOperational,
       "of answers; the three output topics may be one"},
      {"kafka.receipt_topic", Text{&options.receipt_topic, 1, 249}, "bytes", kOperational,
       "of what events did"},
      {"kafka.dead_letter_topic", Text{&options.dead_letter_topic, 1, 249}, "bytes", kOperational,
       "of events that were refused"},
      {"kafka.properties", Properties{&options.properties}, "", kOperational,
       "of librdkafka, for SASL and TLS; their values never stand in a message"},
      {"kafka.fetch_bytes", Number{&options.fetch_bytes, 1 << 20, 16ll << 30}, "", kOperational,
       "fetched and not yet read"},
      {"kafka.message_bytes", Number{&options.message_bytes, 1 << 10, 1 << 30}, "", kOperational,
       "of an outcome, or an event that `nudge gateway` writes: the brokers' message.max.bytes "
       "less 1 "
       "percent"},
      {"kafka.session_timeout_ms", Number{&options.session_timeout, 6'000, 1'800'000}, "",
       kOperational, "of silence, until a process's partitions go to another"},
      {"kafka.transaction_timeout_ms", Number{&options.transaction_timeout, 1'000, 900'000}, "",
       kOperational, "for which a process that died can hold up readers"},
      {"kafka.commit_timeout_ms", Number{&options.commit_timeout, 1'000, 3'600'000}, "",
       kOperational, "of brokers that do not answer, until the process ends"},
  };
}

}  // namespace nudge
