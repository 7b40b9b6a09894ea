#include "pipeline/processor.h"

#include <algorithm>
#include <future>
#include <utility>

#include "connectors/json_writer.h"
#include "stages/fault_point.h"

namespace nudge {
namespace {

constexpr std::chrono::milliseconds kPull{100};  // how late a stop may be seen

// Finished outcomes get this long to be committed, however little of the limit is left.
constexpr std::chrono::milliseconds kCommit{5'000};

constexpr size_t kRecentEvents = 1 << 16;  // remembered per partition, at most

ChatFormat FormatOf(Backend& backend) {
  return {[&backend](const std::vector<ChatMessage>& chat) { return backend.CountTokens(chat); },
          backend.window_tokens()};
}

template <class Options>
Options WithDimension(Options options, const Backend& backend) {
  options.dimension = static_cast<uint32_t>(backend.dimension());
  return options;
}

IndexOptions IndexOptionsFor(IndexOptions options, const Backend& backend) {
  options = WithDimension(std::move(options), backend);
  if (options.dimension > 0) options.embedder = backend.embedder_identity();
  return options;
}

RespondOptions RespondOptionsFor(RespondOptions options, const Backend& backend) {
  options.serves_adapters = backend.serves_adapters();
  return options;
}

GraphOptions GraphOptionsFor(GraphOptions options, const AdaptOptions& adapt,
                             const Backend& backend) {
  options.embed = backend.dimension() > 0;
  options.imports = adapt.enabled;
  return options;
}

ExecutorOptions ExecutorOptionsFor(const ProcessorOptions& options) {
  ExecutorOptions executor = options.executor;
  if (executor.checkpoint_folder.empty()) executor.checkpoint_folder = options.state_folder;
  if (!options.state_folder.empty())
    executor.import_store_folder = options.state_folder + "/imports";
  return executor;
}

std::chrono::milliseconds TimeUntil(std::chrono::steady_clock::time_point deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  return std::max(std::chrono::milliseconds(0),
                  std::chrono::duration_cast<std::chrono::milliseconds>(left));
}

}  // namespace

Processor::Processor(ProcessorOptions options, ProcessorHooks hooks, Backend& backend,
                     Source& source, Sink& sink)
    : options_(std::move(options)),
      backend_(backend),
      source_(source),
      sink_(sink),
      on_notice_(std::move(hooks.on_notice)),
      fingerprint_(backend.Fingerprint()),
      state_(options_.state_folder.empty()
                 ? nullptr
                 : std::make_unique<StateStore>(
                       options_.state_folder,
                       StateIdentity{fingerprint_, options_.configuration_sha256},
                       StateStoreOptions{.backup_every_cuts = options_.backup_every_cuts,
                                         .partition_count = options_.partition_count},
                       on_notice_)),
      credits_(options_.credits),
      executor_(
          backend, ExecutorOptionsFor(options_),
          [this, on_lesson = std::move(hooks.on_lesson)](const LessonEvent& lesson) {
            if (lesson.is_news && on_notice_) on_notice_(NoticeOf(lesson));
            if (on_lesson) on_lesson(lesson);
          },
          [this](const Error& error) { Fail(error); }, std::move(hooks.on_text)),
      outbox_(sink, state_.get(), credits_, std::move(hooks.on_outcome),
              [this](const Error& error) { Fail(error); }),
      prepare_(WithDimension(options_.prepare, backend)),
      recall_(options_.recall),
      index_(IndexOptionsFor(options_.index, backend)),
      adapt_(options_.adapt),
      prompt_(options_.prompt),
      respond_(FormatOf(backend), RespondOptionsFor(options_.respond, backend), options_.adapt),
      emit_(outbox_, [this](const Error& error) { Fail(error); }),
      graph_({prepare_, recall_, index_, adapt_, prompt_, respond_, emit_}, executor_,
             GraphOptionsFor(options_.graph, options_.adapt, backend), metrics_),
      watchdog_(options_.watchdog, {[this] { return WatchdogLook(); },
                                    [this](int32_t number) { return ExplainSilence(number); },
                                    [this](const std::string& sentence) {
                                      if (on_notice_) on_notice_(sentence);
                                    }}) {
  source_.Listen(*this);
}

Processor::~Processor() {
  executor_.Stop();
}

void Processor::Fail(const Error& error) {
  {
    const MutexLock lock(failure_mutex_);
    if (!failure_) failure_ = error;
  }
  credits_.Close();
}

std::optional<Error> Processor::failure() const {
  const MutexLock lock(failure_mutex_);
  return failure_;
}

// ---- Partitions ---------------------------------------------------------------------------------

Result<Nothing> Processor::Assigned(std::span<const int32_t> partitions) {
  const Outbox::Pause pause(outbox_);
  for (const int32_t number : partitions) {
    const PumpBoard::Doing doing(board_, "restoring partition " + std::to_string(number));
    if (Result<Nothing> restored = Restore(number); !restored.ok()) return restored;
  }
  return Nothing{};
}

// Waits for the events inside, for hand_over at most. Finished outcomes are committed; the rest is
// left to the next owner.
Result<Nothing> Processor::Revoked(std::span<const int32_t> partitions) {
  FaultPoint("revoke");
  PushGathered();
  const PumpBoard::Doing doing(board_, "handing partitions over");
  const auto deadline = std::chrono::steady_clock::now() + options_.hand_over;
  for (const int32_t number : partitions) {
    const auto found = partitions_.find(number);
    if (found == partitions_.end()) continue;
    const bool finished = credits_.WaitUntilIdle(TimeUntil(deadline), number);
    if (finished && state_) TakeCut(number, found->second, TimeUntil(deadline));
    found->second.stay->over = true;
  }
  outbox_.Flush(std::max(TimeUntil(deadline), kCommit));
  for (const int32_t number : partitions) Forget(number);
  if (const std::optional<Error> error = failure()) return *error;
  return Nothing{};
}

void Processor::Lost(std::span<const int32_t> partitions) {
  for (const int32_t number : partitions) {
    const auto found = partitions_.find(number);
    if (found != partitions_.end()) found->second.stay->over = true;
  }
  for (const int32_t number : partitions) Forget(number);
}

// Every part forgets a partition whose stay is over.
void Processor::Forget(int32_t number) {
  if (partitions_.erase(number) == 0) return;
  board_.Remove(number);
  blocked_.erase(number);
  graph_.Drop(number);
  const Outbox::Pause pause(outbox_);
  outbox_.Drop(number);
  if (state_) state_->Close(number);
  credits_.Drop(number);
}

// Takes a cut where the partition stands, if it is not the last one's place, and waits until the
// state has it. None of the partition's events may be inside, but lessons may be left to learn:
// false says that they took longer than `timeout`.
bool Processor::TakeCut(int32_t number, Partition& partition, std::chrono::milliseconds timeout) {
  if (partition.next_ordinal > partition.last_barrier) {
    graph_.AddTo(number, NextBarrier(partition));
  }
  return outbox_.WaitUntilSaved(number, partition.last_barrier, timeout);
}

std::shared_ptr<Barrier> Processor::NextBarrier(Partition& partition) {
  const auto add = [this, stay = partition.stay](Cut cut) {
    if (!stay->over) outbox_.AddCut(std::move(cut));
  };
  const uint64_t follows = std::exchange(partition.last_barrier, partition.next_ordinal);
  return std::make_shared<Barrier>(Graph::kBarrierParts, follows, add);
}

// By the clock, which decides when the state is saved, never what is in it.
bool Processor::IsCutDue(const Partition& partition) const {
  return state_ && options_.checkpoint_every.count() > 0 &&
         partition.next_ordinal > partition.last_barrier &&
         std::chrono::steady_clock::now() >= partition.uncut_since + options_.checkpoint_every;
}

// Where no event comes on which a barrier could ride.
void Processor::TakeDueCuts() {
  for (auto& [number, partition] : partitions_) {
    if (IsCutDue(partition) && credits_.WaitUntilIdle(std::chrono::milliseconds(0), number)) {
      graph_.AddTo(number, NextBarrier(partition));
    }
  }
}

Result<Nothing> Processor::Restore(int32_t number) {
  ENSURE(!partitions_.contains(number));
  Partition& partition = partitions_[number];
  partition.stay = std::make_shared<Stay>();
  Result<std::optional<Tail>> tail = sink_.Last(number);
  if (!tail.ok()) return tail.error();
  partition.committed_offset = *tail ? (*tail)->offset + 1 : 0;

  FaultPoint("restore");
  Cut cut;
  if (state_) {
    Result<std::optional<Cut>> newest = state_->Newest(number, partition.committed_offset);
    if (!newest.ok()) return newest.error();
    if (*newest) cut = std::move(**newest);
  }
  for (Change& entry : cut.changes) {
    if (Result<Nothing> loaded = graph_.Load(number, std::move(entry)); !loaded.ok()) return loaded;
  }
  partition.recorded_until = cut.next_offset;
  if (Result<Nothing> read = ReadBack(number, partition); !read.ok()) return read;

  partition.next_ordinal = partition.last_barrier = cut.events;
  partition.recent = RecentEvents(std::clamp<size_t>(options_.credits.events, 1, kRecentEvents));
  partition.facts = board_.Add(number, partition.committed_offset);
  partition.facts->next_offset = cut.next_offset;
  partition.facts->replaying_events =
      static_cast<uint64_t>(partition.committed_offset - cut.next_offset);
  outbox_.Start(number, cut.events, cut.next_offset);
  graph_.Start(number, cut.events, cut.next_offset, cut.chain);
  return source_.Seek(number, cut.next_offset);
}

// Reads the next outcomes that were committed after the state, read_back_bytes of them. In an
// Outbox::Pause, since the sink takes one call at a time.
Result<Nothing> Processor::ReadBack(int32_t number, Partition& partition) {
  uint64_t bytes = 0;
  bool is_full = false;
  Result<Nothing> read = sink_.ReadBack(
      number, partition.recorded_until, [&](std::string_view line) -> Result<Nothing> {
        is_full = bytes >= options_.read_back_bytes;
        if (is_full) return Error{Code::kInternal, "enough for now", ""};
        Result<RecordedOutcome> outcome = DecodeOutcome(line);
        if (!outcome.ok()) return outcome.error();
        bytes += line.size();
        const int64_t offset = outcome->offset;
        partition.recorded_until = offset + 1;
        partition.recorded[offset] = std::make_shared<const RecordedOutcome>(std::move(*outcome));
        return Nothing{};
      });
  if (is_full) return Nothing{};
  if (read.ok()) partition.recorded_until = partition.committed_offset;
  return read;
}

// ---- The run ------------------------------------------------------------------------------------

Result<std::map<int32_t, PartitionSummary>> Processor::Run(const std::atomic<bool>& stop) {
  phase_ = RunView::Phase::kServing;
  watchdog_.Start();
  Result<Nothing> pumped = Pump(stop);
  if (!pumped.ok()) Fail(pumped.error());
  phase_ = RunView::Phase::kDraining;
  Result<Nothing> drained = Drain(stop);
  watchdog_.Stop();
  if (const std::optional<Error> error = failure()) return *error;
  if (!drained.ok()) return drained.error();
  std::map<int32_t, PartitionSummary> summary;
  for (const auto& [number, partition] : partitions_) {
    const auto [events, chain] = emit_.Written(number);
    summary[number] = {events, chain};
  }
  return summary;
}

// The source is asked even while partitions are out of credits, so that the process stays a member
// of its group and the other partitions flow. A partition without credits is paused.
Result<Nothing> Processor::Pump(const std::atomic<bool>& stop) {
  Record record;
  uint64_t returns_seen = 0;
  while (!stop && !failure()) {
    if (!blocked_.empty()) {
      if (blocked_.size() == partitions_.size()) {
        PushGathered();
        credits_.WaitForRoom(blocked_, kPull);
      }
      if (const uint64_t returns = credits_.returns(); returns != returns_seen) {
        returns_seen = returns;
        if (Result<Nothing> pushed = Unblock(); !pushed.ok()) return pushed;
      }
    }
    // Records that are at hand go on together; no record waits for one that has not come.
    const auto patience = gathered_.empty() ? PullTime() : std::chrono::milliseconds(0);
    Result<Source::Pull> pull = source_.Next(record, patience);
    board_.CountPoll();
    board_.Answer([this](int32_t number) { return FindOldest(number); });
    if (!pull.ok()) return pull.error();
    if (*pull == Source::Pull::kRecord) {
      if (Result<Nothing> admitted = Admit(record); !admitted.ok()) return admitted;
      continue;
    }
    PushGathered();
    TakeDueCuts();
    if (*pull == Source::Pull::kEnd && blocked_.empty()) break;
  }
  PushGathered();
  if (stop || failure()) return Nothing{};
  for (const auto& [number, partition] : partitions_) {
    const bool is_read = partition.recorded_until >= partition.committed_offset;
    if (partition.recorded.empty() && is_read) continue;
    const int64_t missing =
        partition.recorded.empty() ? partition.recorded_until : partition.recorded.begin()->first;
    return Error{Code::kUnreadableFile,
                 "the input ends before offset " + std::to_string(missing) + " of partition " +
                     std::to_string(number) + ", whose outcome is in the output",
                 "give the input that the output was made from, or start with an empty output"};
  }
  return Nothing{};
}

// How long the source may wait for a record.
std::chrono::milliseconds Processor::PullTime() const {
  if (blocked_.empty()) return kPull;
  return std::chrono::milliseconds(blocked_.size() == partitions_.size() ? 0 : 1);
}

// Pushes the record, or puts it behind those that wait for credits.
Result<Nothing> Processor::Admit(Record& record) {
  const int32_t number = record.partition;
  Partition& partition = partitions_.at(number);
  if (partition.waiting.empty() && credits_.Take(number, record.bytes.size())) {
    return PushRecord(partition, record);
  }
  if (partition.waiting.empty()) source_.Pause(number);
  blocked_.insert(number);
  partition.waiting.push_back(std::move(record));
  return Nothing{};
}

Result<Nothing> Processor::Unblock() {
  for (auto blocked = blocked_.begin(); blocked != blocked_.end();) {
    const int32_t number = *blocked;
    Partition& partition = partitions_.at(number);
    while (!partition.waiting.empty() && credits_.HasRoom(number) &&
           credits_.Take(number, partition.waiting.front().bytes.size())) {
      Record record = std::move(partition.waiting.front());
      partition.waiting.pop_front();
      if (Result<Nothing> pushed = PushRecord(partition, record); !pushed.ok()) return pushed;
    }
    if (partition.waiting.empty()) {
      source_.Resume(number);
      blocked = blocked_.erase(blocked);
    } else {
      ++blocked;
    }
  }
  return Nothing{};
}

// The outcome that was committed for the record, taken out of those that are read back.
Result<std::shared_ptr<const RecordedOutcome>> Processor::RecordedFor(Partition& partition,
                                                                      const Record& record) {
  const int32_t number = record.partition;
  if (partition.recorded.empty() && partition.recorded_until < partition.committed_offset) {
    const PumpBoard::Doing doing(
        board_, "reading outcomes of partition " + std::to_string(number) + " back");
    const Outbox::Pause pause(outbox_);
    if (Result<Nothing> read = ReadBack(number, partition); !read.ok()) return read.error();
  }
  const auto found = partition.recorded.find(record.offset);
  if (found == partition.recorded.end()) {
    return Error{Code::kUnreadableFile,
                 "replay_divergence: offset " + std::to_string(record.offset) + " of partition " +
                     std::to_string(number) + " was committed but has no outcome",
                 "the output is not that of this input: start with an empty output and state"};
  }
  auto recorded = std::move(found->second);
  partition.recorded.erase(found);
  return recorded;
}

// The record's credit is taken already.
Result<Nothing> Processor::PushRecord(Partition& partition, Record& record) {
  std::shared_ptr<const RecordedOutcome> recorded;
  if (record.offset < partition.committed_offset) {
    auto found = RecordedFor(partition, record);
    if (!found.ok()) return found.error();
    FaultPoint("replay");
    recorded = std::move(*found);
    partition.facts->replaying_events.store(
        static_cast<uint64_t>(partition.committed_offset - record.offset - 1),
        std::memory_order_relaxed);
  }
  auto origin = std::make_shared<Origin>();
  if (partition.next_ordinal == partition.last_barrier) {
    partition.uncut_since = std::chrono::steady_clock::now();
  }
  origin->sequence = Sequence::Of(record.partition, partition.next_ordinal++);
  origin->stay = partition.stay;
  origin->offset = record.offset;
  origin->key = std::move(record.key);
  origin->bytes = std::move(record.bytes);
  if (record.refusal) {
    origin->bytes_sha256 = record.refusal->bytes_sha256;
    origin->bytes_total = record.refusal->bytes_total;
  }
  std::shared_ptr<Barrier> barrier;
  if (state_ &&
      (partition.next_ordinal % options_.checkpoint_every_events == 0 || IsCutDue(partition))) {
    barrier = NextBarrier(partition);
  }
  partition.facts->next_offset.store(record.offset + 1, std::memory_order_relaxed);
  partition.recent.Add(origin, watchdog_.coarse_ms());
  std::optional<Error> refusal;
  if (record.refusal) refusal = std::move(record.refusal->error);
  gathered_.push_back(
      {std::move(origin), std::move(refusal), std::move(recorded), std::move(barrier)});
  if (gathered_.size() == Graph::kBatchEvents) PushGathered();
  return Nothing{};
}

void Processor::PushGathered() {
  if (!gathered_.empty()) graph_.Push(std::exchange(gathered_, {}));
}

Result<Nothing> Processor::Drain(const std::atomic<bool>& stop) {
  // Only a stop sets a limit: without one the work inside may take as long as it needs.
  std::chrono::milliseconds left = options_.drain;
  while (!credits_.WaitUntilIdle(kPull) || !executor_.WaitForLessons(kPull)) {
    board_.Answer([this](int32_t number) { return FindOldest(number); });
    if (stop) left -= kPull;
    if (failure() || left.count() <= 0) {
      executor_.Stop();
      outbox_.Flush(kCommit);  // finished outcomes are committed
      return Nothing{};
    }
  }
  graph_.WaitForAll();
  const auto deadline = std::chrono::steady_clock::now() + std::max(left, kCommit);
  if (state_ && options_.checkpoint_at_end) {
    for (auto& [number, partition] : partitions_) TakeCut(number, partition, TimeUntil(deadline));
  }
  outbox_.Flush(std::max(TimeUntil(deadline), kCommit));
  return Nothing{};
}

Result<std::vector<ChatMessage>> Processor::ChatFor(const TenantId& tenant,
                                                    const std::string& question) {
  const auto partition = partitions_.find(0);
  if (partition == partitions_.end()) {
    return Error{Code::kInternal, "partition 0 is not here", "ask while its state is"};
  }
  const auto origin = std::make_shared<Origin>();
  origin->sequence = Sequence::Of(0, partition->second.next_ordinal++);
  JsonWriter(origin->bytes)
      .Raw(R"({"specversion":"1.0","type":"nudge.query","source":"nudge:report","id":")")
      .Integer(origin->sequence.ordinal())
      .Raw(R"(","tenant":)")
      .Text(tenant)
      .Raw(R"(,"data":{"text":)")
      .Text(question)
      .Raw("}}");
  Result<std::vector<ChatMessage>> shown = Error{Code::kInternal, "the question got lost", ""};
  origin->show_chat = [&shown](Result<std::vector<ChatMessage>> chat) { shown = std::move(chat); };
  graph_.Push({{.origin = origin}});
  graph_.WaitForAll();
  return shown;
}

}  // namespace nudge
