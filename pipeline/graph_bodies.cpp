#include "pipeline/graph_bodies.h"

#include <memory>
#include <string>
#include <utility>

#include "connectors/json_reader.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

// Kafka's key is the tenant of an event that does not say it itself.
TenantId KeyAsTenant(const std::string& key, const EventLimits& limits) {
  const bool is_name = key.size() <= limits.tenant_bytes && IsUtf8(key) && !HasControl(key);
  return is_name ? key : TenantId();
}

std::optional<CommandKeys> KeysOf(const CommandOptions& options) {
  if (options.keys_file.empty()) return std::nullopt;
  return CommandKeys(options.keys_file);
}

template <class T>
std::shared_ptr<std::vector<Message<T>>> RoomFor(size_t messages) {
  auto room = std::make_shared<std::vector<Message<T>>>();
  room->reserve(messages);
  return room;
}

}  // namespace

GraphBodies::GraphBodies(Stages stages, Executor& executor, GraphOptions options,
                         GraphMetrics& metrics)
    : prepare_(stages.prepare),
      stages_{Named<nudge::Recall>{"recall", stages.recall, metrics.recall},
              Named<nudge::Index>{"index", stages.index, metrics.index},
              Named<nudge::Adapt>{"adapt", stages.adapt, metrics.adapt},
              Named<nudge::Prompt>{"prompt", stages.prompt, metrics.prompt},
              Named<nudge::Respond>{"respond", stages.respond, metrics.respond}},
      emit_(stages.emit),
      executor_(executor),
      options_(std::move(options)),
      command_keys_(KeysOf(options_.commands)),
      metrics_(metrics) {}

// ---- Decode, prepare ----------------------------------------------------------------------------

Result<Event> GraphBodies::DecodeOne(const Origin& origin) const {
  Result<Event> event = DecodeEvent(origin.bytes, options_.limits);
  if (!event.ok()) return event;
  // Kafka's key says which partition a tenant is on: another one would split the tenant's log.
  if (!origin.key.empty() && event->tenant != origin.key) {
    return Error{Code::kInvalidEvent, "tenant: it is not the record's key",
                 "send every event with its tenant as the key: nudge publish does"};
  }
  if (command_keys_ && IsCommand(*event)) {
    auto refusal = command_keys_->Check(origin.bytes, *event, options_.limits.json_depth);
    if (refusal) return *std::move(refusal);
  }
  return event;
}

Batch<Event> GraphBodies::Decode(const Batch<Received>& in) {
  NodeMetrics::Laps laps(metrics_.decode);
  return ForEach<Event>(in, [&](const Message<Received>& message) {
    return RunStage<Event>("decode", laps, message, [&](const Received&) {
      Result<Event> event = DecodeOne(*message.origin);
      if (event.ok()) metrics_.events.CountEvent(*event);
      return event;
    });
  });
}

Batch<Prepared> GraphBodies::Prepare(const Batch<Event>& in, const PutLater<Prepared>& later) {
  const auto ready = RoomFor<Prepared>(in.messages->size());
  for (const Message<Event>& message : *in.messages) {
    if (auto prepared = PrepareOne(message, later)) ready->push_back(std::move(*prepared));
  }
  return {0, ready};
}

// Returns nothing where the vectors come later: `hold` puts the message then.
std::optional<Message<Prepared>> GraphBodies::PrepareOne(const Message<Event>& in,
                                                         const PutLater<Prepared>& later) {
  EmbeddingInput missing;
  NodeMetrics::Laps laps(metrics_.prepare);
  const auto* command = in.body ? std::get_if<AdapterCommand>(&in.body->data) : nullptr;
  const bool imports =
      options_.imports && command != nullptr && command->action == AdapterCommand::Action::kImport;
  auto cleaned =
      RunStage<Prepared>("prepare", laps, in, [&](const Event& event) -> Result<Prepared> {
        if (options_.before_prepare) options_.before_prepare();
        Result<Prepared> prepared = prepare_.Apply(event);
        if (!prepared.ok() || !options_.embed) return prepared;
        EmbeddingInput input = nudge::Prepare::TextsToEmbed(*prepared);
        if (input.texts.empty()) return prepared;
        if (auto vectors = executor_.EmbedNow(input.texts, input.as_query)) {
          return WithVectors(std::move(*prepared), std::move(*vectors));
        }
        missing = std::move(input);
        return prepared;
      });
  if (imports && cleaned.body) {
    std::shared_ptr<const Outcome> recorded;
    if (in.recorded) recorded = {in.recorded, &in.recorded->outcome};
    executor_.BringIn(in.sequence(), *command, std::move(recorded),
                      [cleaned, later](Imported imported) {
                        Message<Prepared> out = cleaned;
                        Prepared with = *cleaned.body;
                        with.imported = std::move(imported);
                        out.body = std::make_shared<const Prepared>(std::move(with));
                        later(out);
                      });
    return std::nullopt;
  }
  if (missing.texts.empty()) return cleaned;
  executor_.EmbedTexts(
      in.sequence(), std::move(missing.texts), missing.as_query,
      [this, cleaned, later](Executor::Vectors vectors) noexcept {
        NodeMetrics::Laps attach_laps(metrics_.prepare);
        later(RunStage<Prepared>("prepare", attach_laps, cleaned, [&](const Prepared& body) {
          return WithVectors(body, std::move(vectors));
        }));
      });
  return std::nullopt;
}

Result<Prepared> GraphBodies::WithVectors(Prepared prepared, Executor::Vectors vectors) const {
  if (!vectors.ok()) return vectors.error();
  Result<Nothing> attached = prepare_.Attach(prepared, std::move(*vectors));
  if (!attached.ok()) return attached.error();
  return prepared;
}

// ---- Gather, respond ----------------------------------------------------------------------------

Batch<Searched> GraphBodies::Index(const Batch<Resolved>& in) {
  const Batch<Found> found = Run<nudge::Index, Found>(in);
  size_t i = 0;
  return ForEach<Searched>(in, [&](const Message<Resolved>& event) {
    const Message<Found>& second = (*found.messages)[i++];
    Message<Searched> out = second.WithoutBody<Searched>();
    if (!out.fault) out.body = std::make_shared<const Searched>(Searched{event.body, second.body});
    return out;
  });
}

Batch<Gathered> GraphBodies::Gather(const Branches& in) {
  size_t i = 0;
  return ForEach<Gathered>(std::get<0>(in), [&](const Message<Searched>& first) {
    const Message<Admission>& second = (*std::get<1>(in).messages)[i];
    const Message<Chosen>& third = (*std::get<2>(in).messages)[i++];
    Message<Gathered> out = first.WithoutBody<Gathered>();
    for (const auto& fault : {first.fault, second.fault, third.fault}) {
      if (fault && !out.fault) out.fault = fault;
    }
    if (!out.fault) {
      out.body = std::make_shared<const Gathered>(
          Gathered{first.body->resolved, first.body->found, second.body, third.body});
    }
    return out;
  });
}

Batch<Outcome> GraphBodies::Respond(const Batch<Gathered>& in, const PutLater<Outcome>& later) {
  const auto ready = RoomFor<Outcome>(in.messages->size());
  auto& guarded = std::get<Guarded<nudge::Respond>>(stages_);
  // The lock covers Submit as well: when a partition is dropped from respond, every message that
  // respond has applied is submitted, and Abandon finds its job.
  const MutexLock lock(guarded.mutex);
  NodeMetrics::Laps laps(metrics_.respond);
  for (const Message<Gathered>& message : *in.messages) {
    if (message.origin->show_chat) {
      ShowChat(message);
    } else if (auto outcome = RespondOne(message, laps, later)) {
      ready->push_back(std::move(*outcome));
    }
  }
  return {0, ready};
}

// Returns nothing where the outcome comes later (`hold` puts it then), or never, since the
// partition is gone.
std::optional<Message<Outcome>> GraphBodies::RespondOne(const Message<Gathered>& in,
                                                        NodeMetrics::Laps& laps,
                                                        const PutLater<Outcome>& later) {
  auto& guarded = std::get<Guarded<nudge::Respond>>(stages_);
  const Sequence at = in.sequence();
  Message<Outcome> out = in.template WithoutBody<Outcome>();
  const auto planned =
      RunStage<Nothing>("respond", laps, in, [&](const Gathered& gathered) -> Result<Nothing> {
        Result<Plan> plan = guarded.stage.Apply(at, *in.origin, gathered);
        if (!plan.ok()) return plan.error();
        if (plan->generate) plan->generate->offset = in.origin->offset;
        std::shared_ptr<const Outcome> recorded;
        if (in.recorded) recorded = {in.recorded, &in.recorded->outcome};
        std::optional<Outcome> outcome = executor_.Submit(
            at, std::move(*plan), std::move(recorded), [out, later](Outcome given) mutable {
              out.body = std::make_shared<const Outcome>(std::move(given));
              later(out);
            });
        if (outcome) out.body = std::make_shared<const Outcome>(std::move(*outcome));
        return Nothing{};
      });
  if (in.abandoned()) return std::nullopt;
  {
    const MutexLock lock(next_mutex_);
    next_at_respond_[at.partition()] = at.ordinal() + 1;
    const bool forgets = in.body && !in.body->resolved->duplicate_of &&
                         std::holds_alternative<Forget>(in.body->resolved->prepared->event.data);
    if (forgets) forgot_.insert(at.partition());
  }
  if (in.barrier) TellForgets(at.partition(), *in.barrier);
  Checkpoint(guarded, in);
  if (in.barrier) executor_.AddBarrier(at.partition(), in.barrier);
  if (planned.fault) {
    out.fault = nullptr;  // the dead letter holds it now
    out.body = std::make_shared<const Outcome>(LetterOf(in, *planned.fault));
  }
  return out.body ? std::optional(std::move(out)) : std::nullopt;
}

// So that the cut leaves nothing of what was forgotten on the disk.
void GraphBodies::TellForgets(int32_t partition, Barrier& barrier) {
  const MutexLock lock(next_mutex_);
  if (forgot_.erase(partition) > 0) barrier.Forgets();
}

Outcome GraphBodies::LetterOf(const Message<Gathered>& in, const Fault& fault) const {
  EventHead head = PeekHead(in.origin->bytes, options_.limits);
  if (head.tenant.empty()) head.tenant = KeyAsTenant(in.origin->key, options_.limits);
  return {std::move(head.tenant),
          std::move(head.source),
          std::move(head.id),
          std::move(head.type),
          DeadLetter{fault.stage, fault.error, {}, {}, 0},
          {}};
}

// The end of an event that only asks for its chat.
void GraphBodies::ShowChat(const Message<Gathered>& in) {
  if (in.fault) return in.origin->show_chat(in.fault->error);
  const auto& guarded = std::get<Guarded<nudge::Respond>>(stages_);
  in.origin->show_chat(guarded.stage.ChatFor(*in.body));
}

// ---- Encode, emit -------------------------------------------------------------------------------

Batch<OutcomeLine> GraphBodies::Encode(const Batch<Outcome>& in) {
  NodeMetrics::Laps laps(metrics_.encode);
  return ForEach<OutcomeLine>(in, [&](const Message<Outcome>& message) {
    return RunStage<OutcomeLine>(kEncodeStage.data(), laps, message, [&](const Outcome& outcome) {
      OutcomeLine line = EncodeLine(outcome, *message.origin, options_.emit);
      const bool too_large = line.kind != KindOf(outcome);
      if (too_large) metrics_.encode.CountError();
      if (message.recorded) return line;
      if (too_large) {
        metrics_.events.CountDeadLetter(kEncodeStage, Code::kTooLarge);
      } else {
        metrics_.events.CountOutcome(outcome);
      }
      return line;
    });
  });
}

void GraphBodies::Emit(const Batch<OutcomeLine>& in) {
  const MutexLock lock(emit_mutex_);
  NodeMetrics::Laps laps(metrics_.emit);
  for (const Message<OutcomeLine>& message : *in.messages) {
    if (message.abandoned()) continue;
    emit_.Apply(message);
    laps.Lap();
  }
}

// ---- Partitions that come and go ----------------------------------------------------------------

namespace {

// each(Guarded<State>&) for every stage with state, in the order of the figure.
template <class Tuple, class Each>
void ForEachStage(Tuple& stages, Each&& each) {
  std::apply([&](auto&... guarded) { (each(guarded), ...); }, stages);
}

}  // namespace

void GraphBodies::Start(int32_t partition, uint64_t events, int64_t next_offset,
                        const Sha256Digest& chain) {
  {
    const MutexLock lock(next_mutex_);
    next_at_respond_[partition] = events;
  }
  const MutexLock lock(emit_mutex_);
  emit_.Start(partition, events, next_offset, chain);
}

Result<Nothing> GraphBodies::Load(int32_t partition, Change entry) {
  const size_t slash = entry.kind.find('/');
  const std::string part = entry.kind.substr(0, slash);
  entry.kind = slash == std::string::npos ? "" : entry.kind.substr(slash + 1);
  if (part == "executor") return executor_.Load(partition, entry);
  std::optional<Result<Nothing>> loaded;
  ForEachStage(stages_, [&](auto& guarded) {
    if (part != guarded.name) return;
    const MutexLock lock(guarded.mutex);
    loaded = guarded.stage.Load(partition, entry);
  });
  if (loaded) return std::move(*loaded);
  return Error{Code::kUnreadableFile, "state: entry of unknown kind " + part + "/" + entry.kind,
               "it was written by a newer nudge: use that one"};
}

void GraphBodies::Drop(int32_t partition) {
  ForEachStage(stages_, [&](auto& guarded) {
    const MutexLock lock(guarded.mutex);
    guarded.stage.Drop(partition);
  });
  {
    const MutexLock lock(next_mutex_);
    next_at_respond_.erase(partition);
    forgot_.erase(partition);
  }
  executor_.Abandon(partition);
  const MutexLock lock(emit_mutex_);
  emit_.Drop(partition);
}

void GraphBodies::AddTo(int32_t partition, const std::shared_ptr<Barrier>& barrier) {
  TellForgets(partition, *barrier);
  ForEachStage(stages_, [&](auto& guarded) {
    const MutexLock lock(guarded.mutex);
    Changes changes;
    guarded.stage.Save(partition, changes);
    barrier->Add(guarded.name, std::move(changes));
  });
  executor_.AddBarrier(partition, barrier);
  const MutexLock lock(emit_mutex_);
  emit_.AddPosition(partition, *barrier);
}

uint64_t GraphBodies::NextAtRespond(int32_t partition) const {
  const MutexLock lock(next_mutex_);
  const auto found = next_at_respond_.find(partition);
  return found == next_at_respond_.end() ? 0 : found->second;
}

}  // namespace nudge
