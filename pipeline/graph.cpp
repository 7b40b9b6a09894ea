#include "pipeline/graph.h"

#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <type_traits>
#include <utility>

#include "pipeline/key_order.h"

namespace nudge {
namespace flow = oneapi::tbb::flow;

namespace {

// A stage without state: any number of batches at a time.
template <class In, class T>
using Pure = flow::function_node<Batch<In>, Batch<T>>;

// A stage with state, or an order: one batch at a time, first in, first out. It puts from inside of
// its body: a function_node takes the next batch before it puts, and so could be overtaken.
template <class In, class T>
using Serial = flow::multifunction_node<Batch<In>, std::tuple<Batch<T>>>;

// A stage whose work may end later, on a thread of the executor: then a message goes on alone.
template <class In, class T>
using Async = flow::async_node<Batch<In>, Batch<T>>;

// Puts messages back into log order, and those that are next into one batch. Owns the order; `node`
// is what edges are made to.
template <class T>
struct Order {
  explicit Order(flow::graph& graph)
      : node(graph, flow::serial, [this](const Batch<T>& in, auto& ports) noexcept {
          const auto next = std::make_shared<std::vector<Message<T>>>();
          {
            const std::lock_guard lock(mutex);
            next->reserve(in.messages->size());
            for (const Message<T>& message : *in.messages) {
              if (message.abandoned()) continue;
              order.Put(message, [&](const Message<T>& ready) { next->push_back(ready); });
            }
          }
          if (!next->empty()) std::get<0>(ports).try_put(Batch<T>{batches++, next});
        }) {}
  void Start(int32_t partition, uint64_t next_ordinal) {
    const std::lock_guard lock(mutex);
    order.Start(partition, next_ordinal);
  }
  void Drop(int32_t partition) {
    const std::lock_guard lock(mutex);
    order.Drop(partition);
  }
  std::optional<uint64_t> Next(int32_t partition) {
    const std::lock_guard lock(mutex);
    return order.Next(partition);
  }
  std::mutex mutex;  // partitions come and go while the node runs
  KeyedOrder<Message<T>> order;
  uint64_t batches = 0;
  Serial<T, T> node;
};

// A stage with state and what guards it: its node runs while partitions come and go.
template <class State>
struct Guarded {
  State& stage;
  std::mutex mutex;
};

// What decode gets: the bytes are in the origin.
struct Received {};

// How far respond is, by partition; for people, who must not wait for respond.
class Passed {
 public:
  void Start(int32_t partition, uint64_t next_ordinal) {
    const std::lock_guard lock(mutex_);
    next_[partition] = next_ordinal;
  }
  void Drop(int32_t partition) {
    const std::lock_guard lock(mutex_);
    next_.erase(partition);
  }
  void Count(Sequence at) { Start(at.partition(), at.ordinal() + 1); }
  uint64_t Next(int32_t partition) const {
    const std::lock_guard lock(mutex_);
    const auto found = next_.find(partition);
    return found == next_.end() ? 0 : found->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<int32_t, uint64_t> next_;
};

// Kafka's key says which partition a tenant is on: another one would split the tenant's log.
Result<Event> Decode(const Origin& origin, const EventLimits& limits) {
  Result<Event> event = DecodeEvent(origin.bytes, limits);
  if (event.ok() && !origin.key.empty() && event->tenant != origin.key) {
    return Error{Code::kInvalidEvent, "tenant: it is not the record's key",
                 "send every event with its tenant as the key: nudge publish does"};
  }
  return event;
}

using Branches = std::tuple<Batch<Resolved>, Batch<Found>, Batch<Pinned>, Batch<Planned>>;
struct ByNumber {
  template <class T>
  uint64_t operator()(const Batch<T>& batch) const {
    return batch.number;
  }
};

// Keeps the graph alive for messages that executor threads will put. Released with the last copy,
// so a job that is abandoned does not hold the graph for ever.
template <class Gateway>
class Hold : public std::enable_shared_from_this<Hold<Gateway>> {
 public:
  Hold(oneapi::tbb::task_arena& arena, Gateway& gateway) : arena_(arena), gateway_(gateway) {
    gateway_.reserve_wait();
  }
  ~Hold() { gateway_.release_wait(); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  template <class T>
  void Put(const Message<T>& message) {
    arena_.enqueue([hold = this->shared_from_this(), message] {
      hold->gateway_.try_put({0, std::make_shared<std::vector<Message<T>>>(1, message)});
    });
  }

 private:
  oneapi::tbb::task_arena& arena_;
  Gateway& gateway_;
};

// The part of a barrier that a stage supplies: what changed, now that it has applied the message.
template <class State, class T>
void Checkpoint(const char* name, State& stage, const Message<T>& message) {
  if (!message.barrier || message.abandoned()) return;
  Changes changes;
  stage.Save(message.sequence().partition(), changes);
  message.barrier->Add(name, std::move(changes));
}

// A batch through a stage with state.
template <class Out, class State, class In, class Ports>
void RunGuarded(const char* name, NodeMetrics& metrics, Guarded<State>& guarded,
                const Batch<In>& in, Ports& ports) noexcept {
  const std::lock_guard lock(guarded.mutex);
  NodeMetrics::Laps laps(metrics);
  std::get<0>(ports).try_put(ForEach<Out>(in, [&](const Message<In>& message) {
    auto out = RunStage<Out>(name, laps, message, [&](const In& body) {
      if constexpr (std::is_same_v<State, Recall>) {  // it passes the event on, so it shares it
        return guarded.stage.Apply(message.sequence(), message.body);
      } else {
        return guarded.stage.Apply(message.sequence(), body);
      }
    });
    Checkpoint(name, guarded.stage, message);
    return out;
  }));
}

}  // namespace

// The figure, read from top to bottom. Bodies are noexcept: RunStage keeps errors inside.
struct Graph::Wiring {
  Wiring(Stages stages_in, Executor& executor_in, GraphOptions options_in, GraphMetrics& metrics_in,
         oneapi::tbb::task_arena& arena_in)
      : preparer(stages_in.prepare),
        recaller{stages_in.recall, {}},
        indexer{stages_in.index, {}},
        adapter{stages_in.adapt, {}},
        prompter{stages_in.prompt, {}},
        responder{stages_in.respond, {}},
        emitter{stages_in.emit, {}},
        executor(executor_in),
        options(std::move(options_in)),
        metrics(metrics_in),
        arena(arena_in) {
    flow::make_edge(decode, prepare);
    flow::make_edge(prepare, log_order.node);
    flow::make_edge(flow::output_port<0>(log_order.node), recall);

    flow::make_edge(flow::output_port<0>(recall), index);
    flow::make_edge(flow::output_port<0>(recall), adapt);
    flow::make_edge(flow::output_port<0>(recall), prompt);

    flow::make_edge(flow::output_port<0>(recall), flow::input_port<0>(join));
    flow::make_edge(flow::output_port<0>(index), flow::input_port<1>(join));
    flow::make_edge(flow::output_port<0>(adapt), flow::input_port<2>(join));
    flow::make_edge(flow::output_port<0>(prompt), flow::input_port<3>(join));

    flow::make_edge(join, gather);
    flow::make_edge(gather, gather_order);
    flow::make_edge(gather_order, respond);
    flow::make_edge(respond, encode);
    flow::make_edge(encode, line_order.node);
    flow::make_edge(flow::output_port<0>(line_order.node), emit);
  }

  const Prepare& preparer;
  Guarded<Recall> recaller;
  Guarded<Index> indexer;
  Guarded<Adapt> adapter;
  Guarded<Prompt> prompter;
  Guarded<Respond> responder;
  Guarded<Emit> emitter;
  Executor& executor;
  GraphOptions options;
  GraphMetrics& metrics;
  oneapi::tbb::task_arena& arena;
  Passed passed;
  flow::graph graph;  // runs in the arena in which it is made

  Pure<Received, Event> decode{graph, flow::unlimited,
                               [this](const Batch<Received>& in) noexcept { return Decoded(in); }};

  Async<Event, Prepared> prepare{
      graph, flow::unlimited,
      [this](const Batch<Event>& in, auto& gateway) noexcept { RunPrepare(in, gateway); }};

  Order<Prepared> log_order{graph};

  Serial<Prepared, Resolved> recall{
      graph, flow::serial, [this](const Batch<Prepared>& in, auto& ports) noexcept {
        RunGuarded<Resolved>("recall", metrics.recall, recaller, in, ports);
      }};

  Serial<Resolved, Found> index{graph, flow::serial,
                                [this](const Batch<Resolved>& in, auto& ports) noexcept {
                                  RunGuarded<Found>("index", metrics.index, indexer, in, ports);
                                }};

  Serial<Resolved, Pinned> adapt{graph, flow::serial,
                                 [this](const Batch<Resolved>& in, auto& ports) noexcept {
                                   RunGuarded<Pinned>("adapt", metrics.adapt, adapter, in, ports);
                                 }};

  Serial<Resolved, Planned> prompt{
      graph, flow::serial, [this](const Batch<Resolved>& in, auto& ports) noexcept {
        RunGuarded<Planned>("prompt", metrics.prompt, prompter, in, ports);
      }};

  flow::join_node<Branches, flow::key_matching<uint64_t>> join{graph, ByNumber{}, ByNumber{},
                                                               ByNumber{}, ByNumber{}};

  flow::function_node<Branches, Batch<Gathered>> gather{
      graph, flow::unlimited, [](const Branches& in) noexcept { return Gather(in); }};

  flow::sequencer_node<Batch<Gathered>> gather_order{graph, ByNumber{}};

  Async<Gathered, Outcome> respond{
      graph, flow::serial,
      [this](const Batch<Gathered>& in, auto& gateway) noexcept { RunRespond(in, gateway); }};

  Pure<Outcome, OutcomeLine> encode{
      graph, flow::unlimited, [this](const Batch<Outcome>& in) noexcept { return Encoded(in); }};

  Order<OutcomeLine> line_order{graph};

  flow::function_node<Batch<OutcomeLine>> emit{graph, flow::serial,
                                               [this](const Batch<OutcomeLine>& in) noexcept {
                                                 RunEmit(in);
                                                 return flow::continue_msg();
                                               }};

  Batch<Event> Decoded(const Batch<Received>& in);
  template <class Gateway>
  void RunPrepare(const Batch<Event>& in, Gateway& gateway);
  static Batch<Gathered> Gather(const Branches& in);
  template <class Gateway>
  void RunRespond(const Batch<Gathered>& in, Gateway& gateway);
  Result<Prepared> WithVectors(Prepared prepared, Executor::Vectors vectors) const;
  template <class Gateway>
  std::optional<Message<Prepared>> PrepareOne(const Message<Event>& in,
                                              const std::shared_ptr<Hold<Gateway>>& hold);
  template <class Gateway>
  std::optional<Message<Outcome>> RespondOne(const Message<Gathered>& in, NodeMetrics::Laps& laps,
                                             const std::shared_ptr<Hold<Gateway>>& hold);
  Batch<OutcomeLine> Encoded(const Batch<Outcome>& in);
  void RunEmit(const Batch<OutcomeLine>& in);
};

Batch<Event> Graph::Wiring::Decoded(const Batch<Received>& in) {
  NodeMetrics::Laps laps(metrics.decode);
  return ForEach<Event>(in, [&](const Message<Received>& message) {
    return RunStage<Event>("decode", laps, message, [&](const Received&) {
      Result<Event> event = Decode(*message.origin, options.limits);
      if (event.ok()) metrics.events.CountEvent(*event);
      return event;
    });
  });
}

template <class Gateway>
void Graph::Wiring::RunPrepare(const Batch<Event>& in, Gateway& gateway) {
  const auto hold = std::make_shared<Hold<Gateway>>(arena, gateway);
  const auto ready = std::make_shared<std::vector<Message<Prepared>>>();
  ready->reserve(in.messages->size());
  for (const Message<Event>& message : *in.messages) {
    if (auto prepared = PrepareOne(message, hold)) ready->push_back(std::move(*prepared));
  }
  if (!ready->empty()) gateway.try_put({0, ready});
}

// Nothing: its vectors come later.
template <class Gateway>
std::optional<Message<Prepared>> Graph::Wiring::PrepareOne(
    const Message<Event>& in, const std::shared_ptr<Hold<Gateway>>& hold) {
  EmbeddingInput later;
  NodeMetrics::Laps laps(metrics.prepare);
  auto cleaned =
      RunStage<Prepared>("prepare", laps, in, [&](const Event& event) -> Result<Prepared> {
        if (options.before_prepare) options.before_prepare();
        Result<Prepared> prepared = preparer.Apply(event);
        if (!prepared.ok() || !options.embed) return prepared;
        EmbeddingInput input = Prepare::TextsToEmbed(*prepared);
        if (input.texts.empty()) return prepared;
        if (auto vectors = executor.EmbedNow(input.texts, input.as_query)) {
          return WithVectors(std::move(*prepared), std::move(*vectors));
        }
        later = std::move(input);
        return prepared;
      });
  if (later.texts.empty()) return cleaned;
  executor.EmbedTexts(
      in.sequence(), std::move(later.texts), later.as_query,
      [this, cleaned, hold](Executor::Vectors vectors) noexcept {
        NodeMetrics::Laps attach_laps(metrics.prepare);
        hold->Put(RunStage<Prepared>("prepare", attach_laps, cleaned, [&](const Prepared& body) {
          return WithVectors(body, std::move(vectors));
        }));
      });
  return std::nullopt;
}

Result<Prepared> Graph::Wiring::WithVectors(Prepared prepared, Executor::Vectors vectors) const {
  if (!vectors.ok()) return vectors.error();
  Result<Nothing> attached = preparer.Attach(prepared, std::move(*vectors));
  if (!attached.ok()) return attached.error();
  return prepared;
}

Batch<Gathered> Graph::Wiring::Gather(const Branches& in) {
  size_t i = 0;
  return ForEach<Gathered>(std::get<0>(in), [&](const Message<Resolved>& first) {
    const Message<Found>& second = (*std::get<1>(in).messages)[i];
    const Message<Pinned>& third = (*std::get<2>(in).messages)[i];
    const Message<Planned>& fourth = (*std::get<3>(in).messages)[i++];
    Message<Gathered> out = first.WithoutBody<Gathered>();
    for (const auto& fault : {first.fault, second.fault, third.fault, fourth.fault}) {
      if (fault && !out.fault) out.fault = fault;
    }
    if (!out.fault) {
      out.body = std::make_shared<const Gathered>(
          Gathered{first.body, second.body, third.body, fourth.body});
    }
    return out;
  });
}

template <class Gateway>
void Graph::Wiring::RunRespond(const Batch<Gathered>& in, Gateway& gateway) {
  const auto hold = std::make_shared<Hold<Gateway>>(arena, gateway);
  const auto ready = std::make_shared<std::vector<Message<Outcome>>>();
  ready->reserve(in.messages->size());
  {
    // Held over the executor's part too: a partition that is taken away loses both at once.
    const std::lock_guard lock(responder.mutex);
    NodeMetrics::Laps laps(metrics.respond);
    for (const Message<Gathered>& message : *in.messages) {
      if (auto outcome = RespondOne(message, laps, hold)) ready->push_back(std::move(*outcome));
    }
  }
  if (!ready->empty()) gateway.try_put({0, ready});
}

// Nothing: its outcome comes later, or never, since the partition is gone.
template <class Gateway>
std::optional<Message<Outcome>> Graph::Wiring::RespondOne(
    const Message<Gathered>& in, NodeMetrics::Laps& laps,
    const std::shared_ptr<Hold<Gateway>>& hold) {
  const Sequence at = in.sequence();
  Message<Outcome> out = in.template WithoutBody<Outcome>();
  const auto planned =
      RunStage<Nothing>("respond", laps, in, [&](const Gathered& gathered) -> Result<Nothing> {
        Result<Plan> plan = responder.stage.Apply(at, *in.origin, gathered);
        if (!plan.ok()) return plan.error();
        std::shared_ptr<const Outcome> recorded;
        if (in.recorded) recorded = {in.recorded, &in.recorded->outcome};
        std::optional<Outcome> outcome = executor.Submit(
            at, std::move(*plan), std::move(recorded), [out, hold](Outcome given) mutable {
              out.body = std::make_shared<const Outcome>(std::move(given));
              hold->Put(out);
            });
        if (outcome) out.body = std::make_shared<const Outcome>(std::move(*outcome));
        return Nothing{};
      });
  if (in.abandoned()) return std::nullopt;
  passed.Count(at);
  Checkpoint("respond", responder.stage, in);
  if (in.barrier) executor.AddBarrier(at.partition(), in.barrier);
  if (planned.fault) {
    EventHead head = PeekHead(in.origin->bytes, options.limits);
    out.fault = nullptr;  // the letter says it
    out.body = std::make_shared<const Outcome>(
        Outcome{std::move(head.tenant),
                std::move(head.source),
                std::move(head.id),
                std::move(head.type),
                DeadLetter{planned.fault->stage, planned.fault->error, {}, {}, 0},
                {}});
  }
  return out.body ? std::optional(std::move(out)) : std::nullopt;
}

Batch<OutcomeLine> Graph::Wiring::Encoded(const Batch<Outcome>& in) {
  NodeMetrics::Laps laps(metrics.encode);
  return ForEach<OutcomeLine>(in, [&](const Message<Outcome>& message) {
    return RunStage<OutcomeLine>(kEncodeStage.data(), laps, message, [&](const Outcome& outcome) {
      OutcomeLine line = EncodeLine(outcome, *message.origin, options.emit);
      const bool too_large = line.kind != KindOf(outcome);
      if (too_large) metrics.encode.CountError();
      if (message.recorded) return line;
      if (too_large) {
        metrics.events.CountDeadLetter(kEncodeStage, Code::kTooLarge);
      } else {
        metrics.events.CountOutcome(outcome);
      }
      return line;
    });
  });
}

void Graph::Wiring::RunEmit(const Batch<OutcomeLine>& in) {
  const std::lock_guard lock(emitter.mutex);
  NodeMetrics::Laps laps(metrics.emit);
  for (const Message<OutcomeLine>& message : *in.messages) {
    if (message.abandoned()) continue;
    emitter.stage.Apply(message);
    laps.Lap();
  }
}

// ---- The graph from outside ---------------------------------------------------------------------

// `threads` workers for the graph alone, and a place for whoever waits for it: the pusher lends no
// thread, so that it may block on credits. Everything from outside enters by `enqueue`, which wakes
// a worker for certain; try_put from a thread outside of the arena does not (it hung in one run of
// four). The place is reserved because a wait that runs on a worker takes nothing that was
// enqueued. Before the wiring, whose graph runs in it.
struct Graph::Arena {
  explicit Arena(int threads)
      : control(oneapi::tbb::global_control::max_allowed_parallelism,
                static_cast<size_t>(threads) + 1),
        arena(threads + 1, 1) {}
  oneapi::tbb::global_control control;
  oneapi::tbb::task_arena arena;
};

Graph::Graph(Stages stages, Executor& executor, GraphOptions options, GraphMetrics& metrics)
    : arena_(std::make_unique<Arena>(options.threads)) {
  arena_->arena.execute([&] {
    wiring_ =
        std::make_unique<Wiring>(stages, executor, std::move(options), metrics, arena_->arena);
  });
}

Graph::~Graph() {
  WaitForAll();
}

void Graph::Start(int32_t partition, uint64_t events, int64_t next_offset,
                  const Sha256Digest& chain) {
  wiring_->log_order.Start(partition, events);
  wiring_->passed.Start(partition, events);
  wiring_->line_order.Start(partition, events);
  const std::lock_guard lock(wiring_->emitter.mutex);
  wiring_->emitter.stage.Start(partition, events, next_offset, chain);
}

Result<Nothing> Graph::Load(int32_t partition, Change entry) {
  const size_t slash = entry.kind.find('/');
  const std::string part = entry.kind.substr(0, slash);
  entry.kind = slash == std::string::npos ? "" : entry.kind.substr(slash + 1);
  const auto load = [&](auto& guarded) {
    const std::lock_guard lock(guarded.mutex);
    return guarded.stage.Load(partition, entry);
  };
  if (part == "recall") return load(wiring_->recaller);
  if (part == "index") return load(wiring_->indexer);
  if (part == "adapt") return load(wiring_->adapter);
  if (part == "prompt") return load(wiring_->prompter);
  if (part == "respond") return load(wiring_->responder);
  if (part == "executor") return wiring_->executor.Load(partition, entry);
  return Error{Code::kUnreadableFile, "state: entry of unknown kind " + part + "/" + entry.kind,
               "it was written by a newer nudge: use that one"};
}

void Graph::Drop(int32_t partition) {
  const auto drop = [&](auto& guarded) {
    const std::lock_guard lock(guarded.mutex);
    guarded.stage.Drop(partition);
  };
  wiring_->log_order.Drop(partition);
  drop(wiring_->recaller);
  drop(wiring_->indexer);
  drop(wiring_->adapter);
  drop(wiring_->prompter);
  drop(wiring_->responder);
  wiring_->passed.Drop(partition);
  wiring_->executor.Abandon(partition);
  wiring_->line_order.Drop(partition);
  drop(wiring_->emitter);
}

void Graph::Push(std::vector<Arrival> arrivals) {
  static const auto kReceived = std::make_shared<const Received>();
  ENSURE(!arrivals.empty());
  const auto messages = std::make_shared<std::vector<Message<Received>>>();
  messages->reserve(arrivals.size());
  for (Arrival& arrival : arrivals) {
    messages->push_back({std::move(arrival.origin), kReceived, nullptr, std::move(arrival.barrier),
                         std::move(arrival.recorded)});
    if (!arrival.refusal) continue;
    messages->back().fault =
        std::make_shared<const Fault>(Fault{"source", std::move(*arrival.refusal)});
  }
  // The graph counts what is enqueued as its own only once it runs, so the batch brings a hold.
  wiring_->graph.reserve_wait();
  arena_->arena.enqueue([this, messages] {
    wiring_->decode.try_put({0, messages});
    wiring_->graph.release_wait();
  });
}

Graph::Place Graph::PlaceOf(int32_t partition, uint64_t ordinal) const {
  const auto line = wiring_->line_order.Next(partition);
  if (!line) return Place::kUnknown;
  if (*line > ordinal) return Place::kOutbox;
  if (wiring_->passed.Next(partition) > ordinal) return Place::kBeforeEmit;
  const auto logged = wiring_->log_order.Next(partition);
  return logged && *logged > ordinal ? Place::kBeforeRespond : Place::kBeforeRecall;
}

void Graph::WaitForAll() {
  wiring_->graph.wait_for_all();
}

void Graph::AddTo(int32_t partition, const std::shared_ptr<Barrier>& barrier) {
  const auto add = [&](const char* name, auto& guarded) {
    const std::lock_guard lock(guarded.mutex);
    Changes changes;
    guarded.stage.Save(partition, changes);
    barrier->Add(name, std::move(changes));
  };
  add("recall", wiring_->recaller);
  add("index", wiring_->indexer);
  add("adapt", wiring_->adapter);
  add("prompt", wiring_->prompter);
  add("respond", wiring_->responder);
  wiring_->executor.AddBarrier(partition, barrier);
  const std::lock_guard lock(wiring_->emitter.mutex);
  wiring_->emitter.stage.AddPosition(partition, *barrier);
}

}  // namespace nudge
