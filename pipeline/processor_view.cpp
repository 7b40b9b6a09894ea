// What a Processor shows of itself: its view for a monitor, its answers to the watchdog. Reads
// counters and takes locks for short; changes nothing.
#include <algorithm>

#include "pipeline/observe/printable.h"
#include "pipeline/processor.h"

namespace nudge {
namespace {

// The watchdog waits this long for the thread that owns the source to say what is oldest.
constexpr std::chrono::milliseconds kAnswer{1'000};

std::string OneLine(std::string_view text) {
  std::string line = Printable(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return line;
}

}  // namespace

Watchdog::Look Processor::WatchdogLook() {
  Watchdog::Look look;
  const auto positions = outbox_.positions();
  for (const auto& [number, used] : credits_.in_flight()) {
    const auto position = positions.find(number);
    if (position == positions.end()) continue;  // it is coming or going
    look.partitions[number] = {used.events, position->second.committed};
  }
  look.polls = board_.polls();
  look.must_poll = phase_ == RunView::Phase::kServing;
  look.doing = board_.doing();
  return look;
}

std::optional<PumpBoard::Oldest> Processor::FindOldest(int32_t number) {
  const auto partition = partitions_.find(number);
  const auto positions = outbox_.positions();
  const auto position = positions.find(number);
  if (partition == partitions_.end() || position == positions.end()) return std::nullopt;
  const RecentEvents::Pushed* found = partition->second.recent.From(position->second.committed);
  if (found == nullptr) return std::nullopt;
  return PumpBoard::Oldest{found->offset, found->ordinal, found->origin.lock(), found->at_ms};
}

// The oldest event in flight, and where it is.
std::string Processor::ExplainSilence(int32_t number) {
  const auto answer = board_.Ask(number, kAnswer);
  if (!answer) {
    const std::string doing = board_.doing();
    return "the thread that reads events does not answer" + (doing.empty() ? "" : ": " + doing);
  }
  if (!*answer) return "its last event has just been committed";
  const PumpBoard::Oldest& oldest = **answer;
  std::string sentence =
      "the oldest event in flight is offset " + std::to_string(oldest.offset) + " (";
  if (oldest.origin) {
    const EventHead head = PeekHead(oldest.origin->bytes, options_.graph.limits);
    sentence += "tenant " + OneLine(head.tenant) + ", id " + OneLine(head.id) + ", ";
  }
  const uint32_t age_ms = watchdog_.coarse_ms() - oldest.at_ms;
  sentence += "read " + std::to_string(age_ms / 1000) + " s ago): ";
  return sentence + WhereIs(number, oldest.ordinal);
}

std::string Processor::WhereIs(int32_t number, uint64_t ordinal) const {
  const auto seconds = [](const RunningJob& job) {
    const auto age = std::chrono::steady_clock::now() - job.since;
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(age).count()) + " s";
  };
  const auto running = executor_.running();
  for (const RunningJob& job : running) {
    if (job.at != Sequence::Of(number, ordinal)) continue;
    return std::string(kJobKinds[static_cast<size_t>(job.kind)]) + " has been running for it for " +
           seconds(job);
  }
  std::string jobs;
  for (const RunningJob& job : running) {
    jobs += (jobs.empty() ? "" : ", ") + std::string(kJobKinds[static_cast<size_t>(job.kind)]) +
            " for " + seconds(job);
  }
  jobs = " (running now: " + (jobs.empty() ? "no job" : jobs) + ")";
  switch (graph_.PlaceOf(number, ordinal)) {
    case Graph::Place::kBeforeRecall:
      return "it is in decode or prepare, or waits for the embedder" + jobs;
    case Graph::Place::kBeforeRespond:
      return "it is in recall, index, adapt, prompt or gather";
    case Graph::Place::kBeforeEmit:
      return "it is in respond or encode, or waits for an answer or a lesson" + jobs;
    case Graph::Place::kOutbox:
      return "its outcome waits to be committed: see whether the brokers answer";
    case Graph::Place::kUnknown:
      break;
  }
  return "its partition is being given up";
}

// A tenant's lessons end in another way than before.
std::string Processor::NoticeOf(const LessonEvent& lesson) {
  const LessonReport& report = lesson.done.report;
  const std::string of = "tenant " + OneLine(lesson.tenant) + ": the lesson of event " +
                         std::to_string(lesson.at.ordinal()) + " of partition " +
                         std::to_string(lesson.at.partition());
  if (lesson.done.error) return of + " could not be learnt: " + lesson.done.error->message;
  if (!report.accepted) {
    return of + " was set aside: " + std::string(WhyOf(report.verdict)) +
           "; `nudge lessons` lists all";
  }
  return of + " was learnt, as the next ones are until this is said again";
}

RunView Processor::View() {
  RunView view;
  view.phase = phase_;
  view.doing = board_.doing();
  view.backend = backend_.description();
  view.fingerprint = fingerprint_;
  view.configuration_sha256 = options_.configuration_sha256;
  view.in_flight_events_limit = options_.credits.events;
  view.in_flight_bytes_limit = options_.credits.bytes;
  const auto positions = outbox_.positions();
  auto in_flight = credits_.in_flight();
  for (const auto& [number, facts] : board_.partitions()) {
    RunView::Partition& partition = view.partitions[number];
    partition.in_flight_events = in_flight[number].events;
    partition.in_flight_bytes = in_flight[number].bytes;
    partition.next_offset = facts->next_offset.load(std::memory_order_relaxed);
    partition.replaying_events = facts->replaying_events.load(std::memory_order_relaxed);
    partition.committed_offset = facts->committed_offset;
    if (const auto found = positions.find(number); found != positions.end()) {
      partition.committed_offset = std::max(partition.committed_offset, found->second.committed);
      partition.saved_offset = found->second.saved;
    }
    partition.tenants = executor_.TenantsOf(number);
  }
  ViewCounters(view);
  const auto now = std::chrono::steady_clock::now();
  view.waiting_jobs = executor_.waiting_jobs();
  for (const RunningJob& job : executor_.running()) {
    view.running_jobs.emplace_back(job.kind,
                                   std::chrono::duration<double>(now - job.since).count());
  }
  view.lessons_waiting = executor_.lessons_left();
  view.lessons_waiting_limit = options_.executor.lessons_waiting_max;
  view.watch = watchdog_.view();
  return view;
}

void Processor::ViewCounters(RunView& view) const {
  const GraphMetrics& nodes = metrics_;
  view.nodes = {RunView::Of("decode", nodes.decode),
                RunView::Of("prepare", nodes.prepare),
                RunView::Of("recall", nodes.recall),
                RunView::Of("index", nodes.index),
                RunView::Of("adapt", nodes.adapt),
                RunView::Of("prompt", nodes.prompt),
                RunView::Of("respond", nodes.respond),
                RunView::Of("encode", nodes.encode),
                RunView::Of("emit", nodes.emit),
                RunView::Of("embed", executor_.embed_metrics()),
                RunView::Of("generate", executor_.generate_metrics()),
                RunView::Of("learn", executor_.lesson_metrics())};
  const EventMetrics& events = nodes.events;
  for (size_t type = 0; type < EventMetrics::kTypes; ++type) {
    view.events[type] = events.events(type);
  }
  for (size_t stage = 0; stage < EventMetrics::kStages.size(); ++stage) {
    for (size_t code = 0; code < EventMetrics::kCodes; ++code) {
      const uint64_t count = events.dead_letters(stage, code);
      if (count == 0) continue;
      view.dead_letters[{EventMetrics::kStages[stage], Name(static_cast<Code>(code))}] = count;
    }
  }
  view.outcomes = outbox_.progress();
  view.cached_answers = events.cached_answers();
  view.fresh_answers = events.fresh_answers();
  view.prompt_tokens = events.prompt_tokens();
  view.completion_tokens = events.completion_tokens();
  const ReadTokens read = backend_.read_tokens();
  view.computed_tokens = read.computed;
  view.kept_tokens = read.kept;
  view.generation = RunView::Of(executor_.generate_metrics());
  view.lesson = RunView::Of(executor_.lesson_metrics());
  view.commit = RunView::Of(outbox_.commit_metrics());
  if (!state_) return;
  view.cut = RunView::Of(state_->metrics().cuts);
  view.restore = RunView::Of(state_->metrics().restores);
  view.cut_bytes = state_->metrics().cut_bytes.load(std::memory_order_relaxed);
}

}  // namespace nudge
