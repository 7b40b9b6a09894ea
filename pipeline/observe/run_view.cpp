#include "pipeline/observe/run_view.h"

#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#ifndef NUDGE_VERSION
#define NUDGE_VERSION "unknown"
#endif

namespace nudge {
namespace {

using OrderedJson = nlohmann::ordered_json;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr double kNanosecondsPerSecond = 1e9;
constexpr double kMillisecondsPerSecond = 1e3;

// Families in the order in which they are added.
class Families {
 public:
  // The values that follow are of this family.
  void Begin(const char* name, MetricType type, const char* help) {
    families_.push_back({name, help, type, {}});
  }
  template <class T>
  void Add(Labels labels, T value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.counter.value = metric.gauge.value = static_cast<double>(value);
    families_.back().metric.push_back(std::move(metric));
  }
  template <class T>
  void Counter(const char* name, const char* help, T value) {
    Begin(name, MetricType::Counter, help);
    Add({}, value);
  }
  template <class T>
  void Gauge(const char* name, const char* help, T value) {
    Begin(name, MetricType::Gauge, help);
    Add({}, value);
  }
  void Histogram(const char* name, const char* help, const RunView::Durations& durations) {
    Begin(name, MetricType::Histogram, help);
    ClientMetric metric;
    uint64_t sum = 0;
    for (size_t i = 0; i < durations.counts.size(); ++i) {
      sum += durations.counts[i];
      const double bound = i < DurationMetrics::kBoundsSeconds.size()
                               ? DurationMetrics::kBoundsSeconds[i]
                               : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({sum, bound});
    }
    metric.histogram.sample_count = sum;
    metric.histogram.sample_sum = durations.seconds;
    families_.back().metric.push_back(std::move(metric));
  }
  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  std::vector<MetricFamily> families_;
};

Labels Label(const char* name, std::string_view value) {
  return {{name, std::string(value)}};
}

Labels OfPartition(int32_t number) {
  return {{"partition", std::to_string(number)}};
}

void AddProcess(Families& out, bool is_ready) {
  out.Begin("nudge_build_info", MetricType::Gauge, "1; what is running");
  out.Add({{"version", std::string(NudgeVersion())}}, 1);
  out.Gauge("nudge_ready", "1 if /readyz says so", is_ready ? 1 : 0);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  out.Counter("process_cpu_seconds_total", "of all threads, in user and system mode",
              seconds(usage.ru_utime) + seconds(usage.ru_stime));
  uint64_t pages = 0;
  uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  out.Gauge("process_resident_memory_bytes", "in physical memory now",
            static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
}

void AddNodes(Families& out, const RunView& view) {
  out.Begin("nudge_node_calls_total", MetricType::Counter, "events that a node worked on");
  for (const auto& node : view.nodes) out.Add(Label("node", node.node), node.calls);
  out.Begin("nudge_node_seconds_total", MetricType::Counter, "time that it took");
  for (const auto& node : view.nodes) out.Add(Label("node", node.node), node.seconds);
  out.Begin("nudge_node_errors_total", MetricType::Counter, "events that a node refused");
  for (const auto& node : view.nodes) out.Add(Label("node", node.node), node.errors);
}

void AddEvents(Families& out, const RunView& view) {
  out.Begin("nudge_events_total", MetricType::Counter, "events that could be read, by their type");
  for (size_t i = 0; i < view.events.size(); ++i) {
    out.Add(Label("type", EventTypeName(i)), view.events[i]);
  }
  out.Begin("nudge_outcomes_total", MetricType::Counter,
            "outcomes that were committed, with those that recovery repeated");
  out.Add(Label("kind", "response"), view.outcomes.responses);
  out.Add(Label("kind", "applied"), view.outcomes.receipts);
  out.Add(Label("kind", "dead_letter"), view.outcomes.dead_letters);
  out.Begin("nudge_dead_letters_total", MetricType::Counter,
            "events refused, by who refused them and why");
  for (const auto& [which, count] : view.dead_letters) {
    out.Add({{"stage", std::string(which.first)}, {"code", std::string(which.second)}}, count);
  }
  out.Begin("nudge_answers_total", MetricType::Counter, "answers, by where they came from");
  out.Add(Label("from", "cache"), view.cached_answers);
  out.Add(Label("from", "model"), view.fresh_answers);
  out.Begin("nudge_tokens_total", MetricType::Counter, "tokens of answers that the model gave");
  out.Add(Label("kind", "prompt"), view.prompt_tokens);
  out.Add(Label("kind", "completion"), view.completion_tokens);
  out.Begin("nudge_read_tokens_total", MetricType::Counter, "tokens that the answer engine read");
  out.Add(Label("from", "model"), view.computed_tokens);
  out.Add(Label("from", "kept"), view.kept_tokens);
}

void AddPartitions(Families& out, const RunView& view) {
  const auto add = [&](const char* name, const char* help, const auto& of) {
    out.Begin(name, MetricType::Gauge, help);
    for (const auto& [number, partition] : view.partitions) {
      out.Add(OfPartition(number), of(partition));
    }
  };
  using Partition = RunView::Partition;
  add("nudge_in_flight_events", "read and not yet committed",
      [](const Partition& partition) { return partition.in_flight_events; });
  add("nudge_in_flight_bytes", "read and not yet committed",
      [](const Partition& partition) { return partition.in_flight_bytes; });
  out.Gauge("nudge_in_flight_events_limit", "of a partition: limits.in_flight_events",
            view.in_flight_events_limit);
  out.Gauge("nudge_in_flight_bytes_limit", "of a partition: limits.in_flight_bytes",
            view.in_flight_bytes_limit);
  add("nudge_next_offset", "of the record that is read next",
      [](const Partition& partition) { return partition.next_offset; });
  add("nudge_committed_offset", "after the last event whose outcome is committed",
      [](const Partition& partition) { return partition.committed_offset; });
  add("nudge_saved_offset", "after the last event that the state on disk knows",
      [](const Partition& partition) { return partition.saved_offset; });
  add("nudge_replaying_events", "to be repeated before the partition serves",
      [](const Partition& partition) { return partition.replaying_events; });
  add("nudge_tenants", "that the models know",
      [](const Partition& partition) { return partition.tenants.size(); });
  add("nudge_adapter_versions", "kept, of all tenants", [](const Partition& partition) {
    size_t versions = 0;
    for (const auto& tenant : partition.tenants) versions += tenant.versions;
    return versions;
  });
}

void AddExecutor(Families& out, const RunView& view) {
  out.Begin("nudge_jobs_waiting", MetricType::Gauge, "jobs of the models that could run");
  for (size_t i = 0; i < view.waiting_jobs.size(); ++i) {
    out.Add(Label("kind", kJobKinds[i]), view.waiting_jobs[i]);
  }
  out.Begin("nudge_jobs_running", MetricType::Gauge, "jobs of the models that run");
  std::array<size_t, kJobKinds.size()> running{};
  for (const auto& [kind, seconds] : view.running_jobs) ++running[static_cast<size_t>(kind)];
  for (size_t i = 0; i < running.size(); ++i) {
    out.Add(Label("kind", kJobKinds[i]), running[i]);
  }
  out.Gauge("nudge_lessons_waiting", "not learnt yet", view.lessons_waiting);
  out.Gauge("nudge_lessons_waiting_limit", "executor.lessons_waiting_max",
            view.lessons_waiting_limit);
  out.Histogram("nudge_generation_seconds", "of an answer", view.generation);
  out.Histogram("nudge_lesson_seconds", "of a training step with what it repeats", view.lesson);
}

// By tenant; those beyond the first kTenantsNamed are one, without a name.
void AddLessons(Families& out, const RunView& view) {
  std::map<std::string, LessonsView> tenants;
  for (const auto& [number, partition] : view.partitions) {
    for (const TenantView& tenant : partition.tenants) {
      LessonsView& sum = tenants[tenant.is_named ? tenant.tenant : ""];
      const LessonsView& lessons = tenant.lessons;
      for (size_t end = 0; end < sum.ended.size(); ++end) sum.ended[end] += lessons.ended[end];
      sum.learnt_after_all += lessons.learnt_after_all;
      sum.refused_for_good += lessons.refused_for_good;
      sum.nll_before = lessons.nll_before;
      sum.anchors_kl = lessons.anchors_kl;
      sum.canary_drop = lessons.canary_drop;
    }
  }
  out.Begin("nudge_lessons_total", MetricType::Counter, "lessons, by how they ended");
  for (const auto& [tenant, lessons] : tenants) {
    for (size_t end = 0; end < kLessonEnds.size(); ++end) {
      out.Add({{"tenant", tenant}, {"end", std::string(kLessonEnds[end])}}, lessons.ended[end]);
    }
  }
  out.Begin("nudge_lessons_tried_again_total", MetricType::Counter,
            "lessons that were set aside before, by how they ended");
  for (const auto& [tenant, lessons] : tenants) {
    out.Add({{"tenant", tenant}, {"end", "learnt"}}, lessons.learnt_after_all);
    out.Add({{"tenant", tenant}, {"end", "refused"}}, lessons.refused_for_good);
  }
  const auto add = [&](const char* name, const char* help, double LessonsView::*figure) {
    out.Begin(name, MetricType::Gauge, help);
    for (const auto& [tenant, lessons] : tenants) {
      if (!tenant.empty()) out.Add(Label("tenant", tenant), lessons.*figure);
    }
  };
  add("nudge_lesson_nll_before", "of the last lesson's text before its step, nats per token",
      &LessonsView::nll_before);
  add("nudge_lesson_anchors_kl", "of the last lesson, from the base model, nats per token",
      &LessonsView::anchors_kl);
  add("nudge_lesson_canary_drop", "of the last lesson, against the base model, nats per token",
      &LessonsView::canary_drop);
}

void AddState(Families& out, const RunView& view) {
  out.Histogram("nudge_commit_seconds", "of a transaction of outcomes and offsets", view.commit);
  out.Histogram("nudge_cut_seconds", "of writing what changed in a partition's state", view.cut);
  out.Counter("nudge_cut_bytes_total", "of entries that changed", view.cut_bytes);
  out.Histogram("nudge_restore_seconds", "of reading a partition's state, without the replay",
                view.restore);
}

void AddWatchdog(Families& out, const RunView& view) {
  const RunView::Watch& watch = view.watch;
  out.Begin("nudge_watchdog_alarms_total", MetricType::Counter,
            "silent: no outcome of a partition with events in flight was committed for "
            "watchdog.silent_ms; poll: the source was not asked for watchdog.poll_ms");
  out.Add(Label("kind", "silent"), watch.silent_alarms);
  out.Add(Label("kind", "poll"), watch.poll_alarms);
  out.Gauge("nudge_silent_partitions", "partitions for which that is so now", watch.silent.size());
  out.Gauge("nudge_poll_age_seconds", "since the source was asked last", watch.poll_age_seconds);
}

void AddKafka(Families& out, const KafkaStatistics& statistics) {
  const auto add = [&](const char* name, const char* help, const auto& of) {
    out.Begin(name, MetricType::Gauge, help);
    for (const auto& [number, partition] : statistics.partitions) {
      out.Add(OfPartition(number), of(partition));
    }
  };
  using Partition = KafkaStatistics::Partition;
  add("nudge_kafka_lag_events", "in the input topic and not yet read",
      [](const Partition& partition) { return partition.lag_events; });
  add("nudge_kafka_fetched_events", "of those, in this process's memory",
      [](const Partition& partition) { return partition.waiting_events; });
  add("nudge_kafka_fetched_bytes", "of those, in this process's memory",
      [](const Partition& partition) { return partition.waiting_bytes; });
  out.Gauge("nudge_kafka_brokers_up", "brokers with a connection", statistics.brokers_up);
  out.Gauge("nudge_kafka_round_trip_seconds", "mean, of the slowest broker",
            statistics.round_trip_ms / kMillisecondsPerSecond);
  out.Counter("nudge_kafka_received_bytes_total", "from brokers, as on the wire",
              statistics.received_bytes);
  out.Counter("nudge_kafka_committed_bytes_total", "of outcomes", statistics.committed_bytes);
  out.Counter("nudge_kafka_rebalances_total", "times that partitions were assigned",
              statistics.rebalances);
  out.Counter("nudge_kafka_retries_total", "calls repeated after a passing error",
              statistics.retries);
  out.Counter("nudge_kafka_aborts_total", "transactions given up and sent again",
              statistics.aborts);
  out.Counter("nudge_kafka_rebuilds_total", "producers replaced after an error that ended one",
              statistics.rebuilds);
  out.Counter("nudge_kafka_found_committed_total",
              "transactions whose commit failed here and had succeeded there",
              statistics.found_committed);
}

void AddHttp(Families& out, const HttpCounts& http) {
  out.Begin("nudge_http_requests_total", MetricType::Counter,
            "requests, by their path and what their answer is");
  for (const HttpCounts::Route& route : http.routes) {
    for (size_t i = 0; i < route.answers.size(); ++i) {
      out.Add({{"route", route.name}, {"status", std::string(HttpCounts::kClasses[i])}},
              route.answers[i]);
    }
  }
  out.Begin("nudge_http_refused_total", MetricType::Counter,
            "of those, answers that say: too large, too much, not now");
  for (size_t i = 0; i < http.refusals.size(); ++i) {
    out.Add(Label("status", std::to_string(HttpCounts::kRefusals[i])), http.refusals[i]);
  }
  out.Gauge("nudge_http_requests_in_flight", "read and not yet answered to their end",
            http.in_flight);
  out.Gauge("nudge_http_connections", "open", http.connections);
}

void AddGateway(Families& out, const GatewayView& view) {
  out.Begin("nudge_gateway_events_total", MetricType::Counter,
            "events that were taken, by what the brokers said");
  out.Add(Label("kind", "stored"), view.stored);
  out.Add(Label("kind", "not_stored"), view.not_stored);
  out.Add(Label("kind", "unknown"), view.unknown);
  out.Counter("nudge_gateway_outcomes_total", "outcomes that were read, of anybody's events",
              view.outcomes);
  out.Histogram("nudge_gateway_produce_seconds", "until an event is stored", view.produce);
  out.Histogram("nudge_gateway_answer_seconds", "until an event's outcome is told", view.answer);
  out.Gauge("nudge_gateway_waiting_events", "taken and without an outcome", view.waiting_events);
  out.Gauge("nudge_gateway_waiting_events_limit", "gateway.in_flight_max",
            view.waiting_events_limit);
  out.Gauge("nudge_gateway_outcomes_held", "that can be asked for by id", view.outcomes_held);
}

// ---- Status -------------------------------------------------------------------------------------

std::string_view PhaseName(RunView::Phase phase) {
  switch (phase) {
    case RunView::Phase::kStarting:
      return "starting";
    case RunView::Phase::kServing:
      return "serving";
    case RunView::Phase::kDraining:
      return "draining";
  }
  return "starting";
}

OrderedJson PartitionJson(const RunView& view, int32_t number,
                          const RunView::Partition& partition) {
  OrderedJson json = {{"partition", number},
                      {"next_offset", partition.next_offset},
                      {"committed_offset", partition.committed_offset},
                      {"saved_offset", partition.saved_offset},
                      {"replaying_events", partition.replaying_events},
                      {"in_flight",
                       {{"events", partition.in_flight_events},
                        {"events_limit", view.in_flight_events_limit},
                        {"bytes", partition.in_flight_bytes},
                        {"bytes_limit", view.in_flight_bytes_limit}}}};
  if (view.kafka) {
    const auto found = view.kafka->statistics.partitions.find(number);
    if (found != view.kafka->statistics.partitions.end()) {
      json["lag_events"] = found->second.lag_events;
      json["fetched"] = {{"events", found->second.waiting_events},
                         {"bytes", found->second.waiting_bytes}};
    }
  }
  json["tenants"] = partition.tenants.size();
  OrderedJson adapters = OrderedJson::object();
  size_t left_out = 0;
  for (const TenantView& tenant : partition.tenants) {
    if (tenant.versions == 0) continue;
    if (adapters.size() == kTenantsShown) {
      ++left_out;
    } else {
      OrderedJson lessons;
      for (size_t end = 0; end < kLessonEnds.size(); ++end) {
        lessons[std::string(kLessonEnds[end])] = tenant.lessons.ended[end];
      }
      lessons["learnt_after_all"] = tenant.lessons.learnt_after_all;
      lessons["refused_for_good"] = tenant.lessons.refused_for_good;
      adapters[tenant.tenant] = {{"newest", tenant.newest},
                                 {"kept", tenant.versions},
                                 {"lessons", std::move(lessons)},
                                 {"nll_before", tenant.lessons.nll_before},
                                 {"anchors_kl", tenant.lessons.anchors_kl},
                                 {"canary_drop", tenant.lessons.canary_drop}};
    }
  }
  json["adapters"] = std::move(adapters);
  if (left_out > 0) json["adapters_left_out"] = left_out;
  return json;
}

OrderedJson KafkaJson(const RunView::Kafka& kafka) {
  const KafkaStatistics& statistics = kafka.statistics;
  return {{"group_id", kafka.group_id},
          {"instance_id", kafka.instance_id},
          {"input_topic", kafka.input_topic},
          {"brokers_up", statistics.brokers_up},
          {"round_trip_ms", statistics.round_trip_ms},
          {"rebalances", statistics.rebalances},
          {"commits", statistics.commits},
          {"last_commit_ms", statistics.commit_ms},
          {"aborts", statistics.aborts},
          {"retries", statistics.retries},
          {"rebuilds", statistics.rebuilds},
          {"last_error", statistics.last_error}};
}

uint64_t Sum(const RunView::Durations& durations) {
  uint64_t count = 0;
  for (const uint64_t one : durations.counts) count += one;
  return count;
}

OrderedJson CallsJson(const RunView::Durations& durations) {
  return {{"count", Sum(durations)}, {"seconds", durations.seconds}};
}

OrderedJson HttpJson(const HttpCounts& http) {
  OrderedJson requests = OrderedJson::object();
  for (const HttpCounts::Route& route : http.routes) {
    for (size_t i = 0; i < route.answers.size(); ++i) {
      if (route.answers[i] == 0) continue;
      requests[route.name][std::string(HttpCounts::kClasses[i])] = route.answers[i];
    }
  }
  OrderedJson refused;
  for (size_t i = 0; i < http.refusals.size(); ++i) {
    refused[std::to_string(HttpCounts::kRefusals[i])] = http.refusals[i];
  }
  return {{"requests", std::move(requests)},
          {"refused", std::move(refused)},
          {"in_flight", http.in_flight},
          {"connections", http.connections}};
}

std::string Written(const OrderedJson& json) {
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace

RunView::Calls RunView::Of(std::string_view node, const NodeMetrics& metrics) {
  return {node, metrics.calls(), metrics.errors(),
          static_cast<double>(metrics.total_ns()) / kNanosecondsPerSecond};
}

RunView::Durations RunView::Of(const DurationMetrics& metrics) {
  return {metrics.counts(), static_cast<double>(metrics.total_ns()) / kNanosecondsPerSecond};
}

std::string_view EventTypeName(size_t type) {
  static const auto kNames = []<size_t... I>(std::index_sequence<I...>) {
    std::array<std::string_view, sizeof...(I)> names;
    const auto name = [](auto data) {
      Event event;
      event.data = std::move(data);
      return TypeName(event);
    };
    ((names[I] = name(std::variant_alternative_t<I, decltype(Event::data)>{})), ...);
    return names;
  }
  (std::make_index_sequence<EventMetrics::kTypes>{});
  return kNames[type];
}

std::string_view NudgeVersion() {
  return NUDGE_VERSION;
}

std::string MetricsText(const RunView& view) {
  Families families;
  AddProcess(families, WhyNotReady(view).empty());
  AddNodes(families, view);
  AddEvents(families, view);
  AddPartitions(families, view);
  AddExecutor(families, view);
  AddLessons(families, view);
  AddState(families, view);
  AddWatchdog(families, view);
  if (view.kafka) AddKafka(families, view.kafka->statistics);
  if (view.http) AddHttp(families, *view.http);
  return families.Text();
}

std::string MetricsText(const GatewayView& view) {
  Families families;
  AddProcess(families, WhyNotReady(view).empty());
  AddHttp(families, view.http);
  AddGateway(families, view);
  return families.Text();
}

std::string StatusJson(const RunView& view) {
  OrderedJson json = {{"version", NudgeVersion()},
                      {"phase", PhaseName(view.phase)},
                      {"ready", WhyNotReady(view).empty()},
                      {"not_ready", WhyNotReady(view)},
                      {"doing", view.doing},
                      {"backend", view.backend},
                      {"fingerprint", view.fingerprint},
                      {"configuration_sha256", view.configuration_sha256},
                      {"outcomes",
                       {{"responses", view.outcomes.responses},
                        {"receipts", view.outcomes.receipts},
                        {"dead_letters", view.outcomes.dead_letters}}}};
  json["partitions"] = OrderedJson::array();
  for (const auto& [number, partition] : view.partitions) {
    json["partitions"].push_back(PartitionJson(view, number, partition));
  }
  OrderedJson waiting;
  for (size_t i = 0; i < view.waiting_jobs.size(); ++i) {
    waiting[std::string(kJobKinds[i])] = view.waiting_jobs[i];
  }
  OrderedJson running = OrderedJson::array();
  for (const auto& [kind, seconds] : view.running_jobs) {
    running.push_back({{"kind", kJobKinds[static_cast<size_t>(kind)]}, {"seconds", seconds}});
  }
  json["executor"] = {{"waiting", std::move(waiting)},
                      {"running", std::move(running)},
                      {"lessons_waiting", view.lessons_waiting},
                      {"lessons_waiting_limit", view.lessons_waiting_limit}};
  json["state"] = {{"cuts", CallsJson(view.cut)},
                   {"cut_bytes", view.cut_bytes},
                   {"restores", CallsJson(view.restore)}};
  OrderedJson silent = OrderedJson::array();
  for (const RunView::Silence& silence : view.watch.silent) {
    silent.push_back({{"partition", silence.partition},
                      {"seconds", silence.seconds},
                      {"sentence", silence.sentence}});
  }
  json["watchdog"] = {{"poll_age_seconds", view.watch.poll_age_seconds},
                      {"late_poll", view.watch.late_poll},
                      {"silent", std::move(silent)}};
  if (view.kafka) json["kafka"] = KafkaJson(*view.kafka);
  if (view.http) json["http"] = HttpJson(*view.http);
  return Written(json);
}

std::string StatusJson(const GatewayView& view) {
  return Written({{"version", NudgeVersion()},
                  {"phase", PhaseName(view.phase)},
                  {"ready", WhyNotReady(view).empty()},
                  {"not_ready", WhyNotReady(view)},
                  {"brokers", view.brokers},
                  {"input_topic", view.input_topic},
                  {"http", HttpJson(view.http)},
                  {"events",
                   {{"stored", view.stored},
                    {"not_stored", view.not_stored},
                    {"unknown", view.unknown},
                    {"produces", CallsJson(view.produce)},
                    {"answers", CallsJson(view.answer)},
                    {"waiting", view.waiting_events},
                    {"waiting_limit", view.waiting_events_limit}}},
                  {"outcomes", {{"read", view.outcomes}, {"held", view.outcomes_held}}}});
}

std::vector<std::string> WhyNotReady(const GatewayView& view) {
  if (view.phase == RunView::Phase::kServing) return {};
  return {std::string(PhaseName(view.phase))};
}

std::vector<std::string> WhyNotReady(const RunView& view) {
  std::vector<std::string> why;
  if (view.phase != RunView::Phase::kServing) why.emplace_back(PhaseName(view.phase));
  if (!view.doing.empty()) why.push_back(view.doing);
  const bool is_assigned =
      view.kafka ? view.kafka->statistics.rebalances > 0 : !view.partitions.empty();
  if (view.phase == RunView::Phase::kServing && !is_assigned) {
    why.emplace_back("no partitions are assigned yet");
  }
  for (const auto& [number, partition] : view.partitions) {
    if (partition.replaying_events == 0) continue;
    why.push_back("partition " + std::to_string(number) + " has " +
                  std::to_string(partition.replaying_events) + " events to repeat");
  }
  if (view.kafka && view.kafka->statistics.brokers_up == 0) {
    why.emplace_back("no broker can be reached");
  }
  for (const RunView::Silence& silence : view.watch.silent) why.push_back(silence.sentence);
  if (!view.watch.late_poll.empty()) why.push_back(view.watch.late_poll);
  return why;
}

}  // namespace nudge
