// A run as the outside may see it: plain values, read from counters at one moment, and the pages
// that a monitor makes of them.
//
//   Processor, KafkaClient -> RunView -> [MetricsText | StatusJson | WhyNotReady] -> Monitor
//
// Nothing of it flows back into the run. Pure functions; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "connectors/http_counts.h"
#include "connectors/kafka.h"
#include "pipeline/observe/event_metrics.h"
#include "pipeline/observe/jobs_view.h"
#include "pipeline/observe/metrics.h"

namespace nudge {

struct RunView {
  enum class Phase { kStarting, kServing, kDraining };

  struct Calls {
    std::string_view node;
    uint64_t calls = 0;
    uint64_t errors = 0;
    double seconds = 0;
  };
  static Calls Of(std::string_view node, const NodeMetrics& metrics);

  struct Durations {
    DurationMetrics::Counts counts{};  // per bucket, not added up
    double seconds = 0;
  };
  static Durations Of(const DurationMetrics& metrics);

  struct Partition {
    uint64_t in_flight_events = 0;
    uint64_t in_flight_bytes = 0;
    int64_t next_offset = 0;        // of the record that is read next
    int64_t committed_offset = 0;   // after the last outcome that is committed
    int64_t saved_offset = 0;       // after the last one that the state on disk knows
    uint64_t replaying_events = 0;  // still to be repeated, whose outcomes were committed before
    std::vector<TenantView> tenants;
  };

  // What the watchdog says: see watchdog.h.
  struct Silence {
    int32_t partition = 0;
    double seconds = 0;
    std::string sentence;
  };
  struct Watch {
    uint64_t silent_alarms = 0;  // since start
    uint64_t poll_alarms = 0;
    double poll_age_seconds = 0;  // since the source was asked last
    std::vector<Silence> silent;  // now
    std::string late_poll;        // now; empty: the source is asked as it should be
  };

  // The run.
  Phase phase = Phase::kStarting;
  std::string doing;  // "restoring partition 3"; empty: nothing out of the ordinary
  std::string backend;
  std::string fingerprint;
  std::string configuration_sha256;
  std::map<int32_t, Partition> partitions;
  uint64_t in_flight_events_limit = 0;  // per partition, as the one below
  uint64_t in_flight_bytes_limit = 0;

  // Counters since start.
  std::vector<Calls> nodes;
  std::array<uint64_t, EventMetrics::kTypes> events{};  // by index into Event::data
  OutcomeCounts outcomes;
  std::map<std::pair<std::string_view, std::string_view>, uint64_t> dead_letters;  // stage, code
  uint64_t cached_answers = 0;
  uint64_t fresh_answers = 0;
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t computed_tokens = 0;  // that engine own read for answers
  uint64_t kept_tokens = 0;      // that it needed not, since earlier texts had left them
  Durations generation;
  Durations lesson;
  Durations commit;
  Durations cut;
  Durations restore;
  uint64_t cut_bytes = 0;

  // The executor.
  std::array<size_t, kJobKinds.size()> waiting_jobs{};
  std::vector<std::pair<JobKind, double>> running_jobs;  // and for how many seconds
  size_t lessons_waiting = 0;
  size_t lessons_waiting_limit = 0;

  Watch watch;

  // Live topics only.
  struct Kafka {
    std::string group_id;
    std::string instance_id;
    std::string input_topic;
    KafkaStatistics statistics;
  };
  std::optional<Kafka> kafka;

  std::optional<HttpCounts> http;  // of a run with a door of its own
};

// A gateway before live topics, which has no run.
struct GatewayView {
  RunView::Phase phase = RunView::Phase::kStarting;
  std::string brokers;
  std::string input_topic;
  HttpCounts http;

  // Of events, since the start.
  uint64_t stored = 0;
  uint64_t not_stored = 0;
  uint64_t unknown = 0;        // perhaps stored: no broker said so in time
  uint64_t outcomes = 0;       // that were read, of anybody's events
  RunView::Durations produce;  // from taken until a broker says that it is stored
  RunView::Durations answer;   // from taken until its outcome is told

  uint64_t waiting_events = 0;  // taken and without an outcome
  uint64_t waiting_events_limit = 0;
  uint64_t outcomes_held = 0;
};

// The kinds of events, by index into Event::data: "nudge.query".
std::string_view EventTypeName(size_t type);

// Prometheus' text format, version 0.0.4.
std::string MetricsText(const RunView& view);
std::string MetricsText(const GatewayView& view);

// One JSON object with a newline. At most kTenantsShown tenants of a partition are named.
inline constexpr size_t kTenantsShown = 100;
std::string StatusJson(const RunView& view);
std::string StatusJson(const GatewayView& view);

// Sentences; none: the run serves, the gateway takes events.
std::vector<std::string> WhyNotReady(const RunView& view);
std::vector<std::string> WhyNotReady(const GatewayView& view);

// This nudge's own, "0.1.0".
std::string_view NudgeVersion();

}  // namespace nudge
