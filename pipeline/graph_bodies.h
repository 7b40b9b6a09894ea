// What the nodes of the graph do with a batch; how they are wired is graph.cpp's.
//
//   Batch<In> -> [a body] -> Batch<Out>, one message for each
//
// Decode, Prepare, Gather and Encode run side by side; Recall, Index, Adapt, Prompt, Respond and
// Emit are called by one node each, one batch at a time, under the lock of their stage. Load, Drop
// and AddTo may be called beside them. No body waits: work of a model is a job of the executor,
// whose message goes on alone, later (PutLater).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "connectors/command_keys.h"
#include "pipeline/executor.h"
#include "pipeline/graph.h"
#include "pipeline/message.h"
#include "stages/guarded.h"
#include "stages/state.h"

namespace nudge {

// What decode gets: the bytes are in the origin.
struct Received {};

// What index hands on: the event, and what was found for it.
struct Searched {
  std::shared_ptr<const Resolved> resolved;
  std::shared_ptr<const Found> found;
};

using Branches = std::tuple<Batch<Searched>, Batch<Admission>, Batch<Chosen>>;

// Puts one message behind the node, from any thread. The graph lives as long as a copy of it does.
template <class T>
using PutLater = std::function<void(const Message<T>&)>;

class GraphBodies {
 public:
  GraphBodies(Stages stages, Executor& executor, GraphOptions options, GraphMetrics& metrics);

  Batch<Event> Decode(const Batch<Received>& in);
  // Those whose vectors are there; the others come later.
  Batch<Prepared> Prepare(const Batch<Event>& in, const PutLater<Prepared>& later);
  Batch<Resolved> Recall(const Batch<Prepared>& in) { return Run<nudge::Recall, Resolved>(in); }
  Batch<Searched> Index(const Batch<Resolved>& in);
  Batch<Admission> Adapt(const Batch<Resolved>& in) { return Run<nudge::Adapt, Admission>(in); }
  Batch<Chosen> Prompt(const Batch<Searched>& in) { return Run<nudge::Prompt, Chosen>(in); }
  static Batch<Gathered> Gather(const Branches& in);
  // Those that need no model; the others come later, or never, since their partition is gone.
  Batch<Outcome> Respond(const Batch<Gathered>& in, const PutLater<Outcome>& later);
  Batch<OutcomeLine> Encode(const Batch<Outcome>& in);
  void Emit(const Batch<OutcomeLine>& in);

  // As those of Graph.
  void Start(int32_t partition, uint64_t events, int64_t next_offset, const Sha256Digest& chain);
  Result<Nothing> Load(int32_t partition, Change entry);
  void Drop(int32_t partition);
  void AddTo(int32_t partition, const std::shared_ptr<Barrier>& barrier);

  // The ordinal of the event that respond takes next; 0 where the partition is not here.
  uint64_t NextAtRespond(int32_t partition) const;

 private:
  template <class State>
  struct Named {
    std::string_view name;  // in front of the kinds of its entries
    State& stage;
    NodeMetrics& metrics;
  };
  // A stage with state and what guards it: its node runs while partitions come and go.
  template <StageWithState State>
  struct Guarded : Named<State> {
    explicit(false) Guarded(Named<State> named) : Named<State>(named) {}
    Mutex mutex;  // of the stage
  };
  using StagesWithState =
      std::tuple<Guarded<nudge::Recall>, Guarded<nudge::Index>, Guarded<nudge::Adapt>,
                 Guarded<nudge::Prompt>, Guarded<nudge::Respond>>;
  // The executor and emit supply a part of a barrier too.
  static_assert(std::tuple_size_v<StagesWithState> + 2 == Graph::kBarrierParts);

  template <class State, class Out, class In>
  Batch<Out> Run(const Batch<In>& in);
  // Adds the stage's part to the message's barrier, if it has one: what changed up to this message,
  // which the stage has just applied.
  template <class State, class T>
  static void Checkpoint(Guarded<State>& guarded, const Message<T>& message);

  Result<Event> DecodeOne(const Origin& origin) const;
  std::optional<Message<Prepared>> PrepareOne(const Message<Event>& in,
                                              const PutLater<Prepared>& later);
  Result<Prepared> WithVectors(Prepared prepared, Executor::Vectors vectors) const;
  std::optional<Message<Outcome>> RespondOne(const Message<Gathered>& in, NodeMetrics::Laps& laps,
                                             const PutLater<Outcome>& later);
  void TellForgets(int32_t partition, Barrier& barrier);
  void ShowChat(const Message<Gathered>& in);
  Outcome LetterOf(const Message<Gathered>& in, const Fault& fault) const;

  const nudge::Prepare& prepare_;
  StagesWithState stages_;
  Mutex emit_mutex_;
  nudge::Emit& emit_ GUARDED_BY(emit_mutex_);
  Executor& executor_;
  const GraphOptions options_;
  const std::optional<CommandKeys> command_keys_;  // none: commands need no signature
  GraphMetrics& metrics_;
  mutable Mutex next_mutex_;
  std::map<int32_t, uint64_t> next_at_respond_ GUARDED_BY(next_mutex_);  // people ask for it
  std::set<int32_t> forgot_ GUARDED_BY(next_mutex_);  // partitions, since their last cut
};

template <class State, class T>
void GraphBodies::Checkpoint(Guarded<State>& guarded, const Message<T>& message) {
  if (!message.barrier || message.abandoned()) return;
  Changes changes;
  guarded.stage.Save(message.sequence().partition(), changes);
  message.barrier->Add(guarded.name, std::move(changes));
}

template <class State, class Out, class In>
Batch<Out> GraphBodies::Run(const Batch<In>& in) {
  Guarded<State>& guarded = std::get<Guarded<State>>(stages_);
  const MutexLock lock(guarded.mutex);
  NodeMetrics::Laps laps(guarded.metrics);
  return ForEach<Out>(in, [&](const Message<In>& message) {
    auto out = RunStage<Out>(guarded.name.data(), laps, message, [&](const In& body) {
      if constexpr (std::is_same_v<State,
                                   nudge::Recall>) {  // it shares the event that it passes on
        return guarded.stage.Apply(message.sequence(), message.body);
      } else if constexpr (std::is_same_v<In, Searched>) {
        return guarded.stage.Apply(message.sequence(), *body.resolved, *body.found);
      } else {
        return guarded.stage.Apply(message.sequence(), body);
      }
    });
    Checkpoint(guarded, message);
    return out;
  });
}

}  // namespace nudge
