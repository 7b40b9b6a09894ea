#include "pipeline/graph.h"

#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

#include "pipeline/key_order.h"

namespace nudge {
namespace flow = oneapi::tbb::flow;

namespace {

template <class T>
using Out = std::tuple<Message<T>>;

// A stage with state, or an order: one message at a time, first in, first out.
template <class In, class T>
using Serial = flow::multifunction_node<Message<In>, Out<T>>;

// A stage whose work may end later, on a thread of the executor.
template <class In, class T>
using Async = flow::async_node<Message<In>, Message<T>>;

// Puts messages back into log order. Owns the order; `node` is what edges are made to.
template <class T>
struct Order {
  explicit Order(flow::graph& graph)
      : node(graph, flow::serial, [this](const Message<T>& message, auto& ports) noexcept {
          const std::lock_guard lock(mutex);
          if (message.abandoned()) return;
          order.Put(message, [&](const Message<T>& next) { std::get<0>(ports).try_put(next); });
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
  Serial<T, T> node;
};

// A stage with state and what guards it: its node runs while partitions come and go.
template <class Stage>
struct Guarded {
  Stage& stage;
  std::mutex mutex;
};

// What decode gets: the bytes are in the origin.
struct Received {};

// Kafka's key says which partition a tenant is on: another one would split the tenant's log.
Result<Event> Decode(const Origin& origin, const EventLimits& limits) {
  Result<Event> event = DecodeEvent(origin.bytes, limits);
  if (event.ok() && !origin.key.empty() && event->tenant != origin.key) {
    return Error{Code::kInvalidEvent, "tenant: it is not the record's key",
                 "send every event with its tenant as the key: nudge publish does"};
  }
  return event;
}

using Branches = std::tuple<Message<Resolved>, Message<Found>, Message<Pinned>, Message<Planned>>;
struct ByTicket {
  template <class T>
  uint64_t operator()(const Message<T>& message) const {
    return message.origin->ticket;
  }
};

// Keeps the graph alive for a message that an executor thread will put. Released with the last
// copy, so a job that is abandoned does not hold the graph for ever.
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
    arena_.enqueue([hold = this->shared_from_this(), message] { hold->gateway_.try_put(message); });
  }

 private:
  oneapi::tbb::task_arena& arena_;
  Gateway& gateway_;
};

// The part of a barrier that a stage supplies: what changed, now that it has applied the message.
template <class Stage, class T>
void Checkpoint(const char* name, Stage& stage, const Message<T>& message) {
  if (!message.barrier || message.abandoned()) return;
  Changes changes;
  stage.Save(message.sequence().partition(), changes);
  message.barrier->Add(name, std::move(changes));
}

// One message through a stage with state.
template <class Out, class Stage, class In, class Apply>
Message<Out> RunGuarded(const char* name, NodeMetrics& metrics, Guarded<Stage>& guarded,
                        const Message<In>& in, Apply&& apply) noexcept {
  const std::lock_guard lock(guarded.mutex);
  auto out = RunStage<Out>(name, metrics, in, [&](const In& body) { return apply(body); });
  Checkpoint(name, guarded.stage, in);
  return out;
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
    flow::make_edge(gather, gather_order.node);
    flow::make_edge(flow::output_port<0>(gather_order.node), respond);
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
  flow::graph graph;  // runs in the arena in which it is made

  flow::function_node<Message<Received>, Message<Event>> decode{
      graph, flow::unlimited, [this](const Message<Received>& in) noexcept {
        return RunStage<Event>("decode", metrics.decode, in, [&](const Received&) {
          Result<Event> event = Decode(*in.origin, options.limits);
          if (event.ok()) metrics.events.CountEvent(*event);
          return event;
        });
      }};

  Async<Event, Prepared> prepare{
      graph, flow::unlimited,
      [this](const Message<Event>& in, auto& gateway) noexcept { RunPrepare(in, gateway); }};

  Order<Prepared> log_order{graph};

  Serial<Prepared, Resolved> recall{
      graph, flow::serial, [this](const Message<Prepared>& in, auto& ports) noexcept {
        std::get<0>(ports).try_put(RunGuarded<Resolved>(
            "recall", metrics.recall, recaller, in,
            [&](const Prepared&) { return recaller.stage.Apply(in.sequence(), in.body); }));
      }};

  Serial<Resolved, Found> index{
      graph, flow::serial, [this](const Message<Resolved>& in, auto& ports) noexcept {
        std::get<0>(ports).try_put(
            RunGuarded<Found>("index", metrics.index, indexer, in, [&](const Resolved& resolved) {
              return indexer.stage.Apply(in.sequence(), resolved);
            }));
      }};

  Serial<Resolved, Pinned> adapt{
      graph, flow::serial, [this](const Message<Resolved>& in, auto& ports) noexcept {
        std::get<0>(ports).try_put(
            RunGuarded<Pinned>("adapt", metrics.adapt, adapter, in, [&](const Resolved& resolved) {
              return adapter.stage.Apply(in.sequence(), resolved);
            }));
      }};

  Serial<Resolved, Planned> prompt{
      graph, flow::serial, [this](const Message<Resolved>& in, auto& ports) noexcept {
        std::get<0>(ports).try_put(RunGuarded<Planned>(
            "prompt", metrics.prompt, prompter, in, [&](const Resolved& resolved) {
              return prompter.stage.Apply(in.sequence(), resolved);
            }));
      }};

  flow::join_node<Branches, flow::key_matching<uint64_t>> join{graph, ByTicket{}, ByTicket{},
                                                               ByTicket{}, ByTicket{}};

  flow::function_node<Branches, Message<Gathered>> gather{
      graph, flow::unlimited, [this](const Branches& in) noexcept { return Gather(in); }};

  Order<Gathered> gather_order{graph};

  Async<Gathered, Outcome> respond{
      graph, flow::serial,
      [this](const Message<Gathered>& in, auto& gateway) noexcept { RunRespond(in, gateway); }};

  flow::function_node<Message<Outcome>, Message<OutcomeLine>> encode{
      graph, flow::unlimited, [this](const Message<Outcome>& in) noexcept {
        return RunStage<OutcomeLine>("encode", metrics.encode, in, [&](const Outcome& outcome) {
          if (!in.recorded) metrics.events.CountOutcome(outcome);
          OutcomeLine line = EncodeLine(outcome, *in.origin, options.emit);
          if (line.kind != KindOf(outcome)) metrics.encode.CountError();  // it was too large
          return line;
        });
      }};

  Order<OutcomeLine> line_order{graph};

  flow::function_node<Message<OutcomeLine>> emit{graph, flow::serial,
                                                 [this](const Message<OutcomeLine>& in) noexcept {
                                                   const NodeMetrics::Timer timer(metrics.emit);
                                                   const std::lock_guard lock(emitter.mutex);
                                                   if (!in.abandoned()) emitter.stage.Apply(in);
                                                   return flow::continue_msg();
                                                 }};

  template <class Gateway>
  void RunPrepare(const Message<Event>& in, Gateway& gateway);
  Message<Gathered> Gather(const Branches& in);
  template <class Gateway>
  void RunRespond(const Message<Gathered>& in, Gateway& gateway);
};

template <class Gateway>
void Graph::Wiring::RunPrepare(const Message<Event>& in, Gateway& gateway) {
  auto out = RunStage<Prepared>("prepare", metrics.prepare, in, [&](const Event& event) {
    if (options.before_prepare) options.before_prepare();
    return preparer.Apply(event);
  });
  EmbeddingInput input;
  if (!out.fault && options.embed) input = Prepare::TextsToEmbed(*out.body);
  if (input.texts.empty()) {
    gateway.try_put(out);
    return;
  }
  const auto attach = [this, out](Executor::Vectors vectors) {
    return RunStage<Prepared>(
        "prepare", metrics.prepare, out, [&](const Prepared& cleaned) -> Result<Prepared> {
          if (!vectors.ok()) return vectors.error();
          Prepared prepared = cleaned;
          Result<Nothing> attached = preparer.Attach(prepared, std::move(*vectors));
          if (!attached.ok()) return attached.error();
          return prepared;
        });
  };
  std::optional<Executor::Vectors> vectors = executor.EmbedTexts(
      in.sequence(), std::move(input.texts), input.as_query,
      [attach, hold = std::make_shared<Hold<Gateway>>(arena, gateway)](
          Executor::Vectors given) noexcept { hold->Put(attach(std::move(given))); });
  if (vectors) gateway.try_put(attach(std::move(*vectors)));
}

Message<Gathered> Graph::Wiring::Gather(const Branches& in) {
  const auto& [resolved, found, pinned, planned] = in;
  Message<Gathered> out = resolved.WithoutBody<Gathered>();
  for (const auto& fault : {resolved.fault, found.fault, pinned.fault, planned.fault}) {
    if (fault && !out.fault) out.fault = fault;
  }
  if (out.fault) return out;
  out.body = std::make_shared<const Gathered>(
      Gathered{resolved.body, found.body, pinned.body, planned.body});
  return out;
}

template <class Gateway>
void Graph::Wiring::RunRespond(const Message<Gathered>& in, Gateway& gateway) {
  const Sequence at = in.sequence();
  // Held over the executor's part too: a partition that is taken away loses both at once.
  const std::lock_guard lock(responder.mutex);
  Message<Outcome> out = in.template WithoutBody<Outcome>();
  const auto planned = RunStage<Nothing>(
      "respond", metrics.respond, in, [&](const Gathered& gathered) -> Result<Nothing> {
        Result<Plan> plan = responder.stage.Apply(at, *in.origin, gathered);
        if (!plan.ok()) return plan.error();
        std::shared_ptr<const Outcome> recorded;
        if (in.recorded) recorded = {in.recorded, &in.recorded->outcome};
        std::optional<Outcome> outcome = executor.Submit(
            at, std::move(*plan), std::move(recorded),
            [out, hold = std::make_shared<Hold<Gateway>>(arena, gateway)](Outcome given) mutable {
              out.body = std::make_shared<const Outcome>(std::move(given));
              hold->Put(out);
            });
        if (outcome) out.body = std::make_shared<const Outcome>(std::move(*outcome));
        return Nothing{};
      });
  if (in.abandoned()) return;
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
  if (out.body) gateway.try_put(out);
}

// ---- The graph from outside
// ----------------------------------------------------------------------

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
  wiring_->gather_order.Start(partition, events);
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
  wiring_->gather_order.Drop(partition);
  drop(wiring_->responder);
  wiring_->executor.Abandon(partition);
  wiring_->line_order.Drop(partition);
  drop(wiring_->emitter);
}

void Graph::Push(std::shared_ptr<const Origin> origin, const std::optional<Refusal>& refusal,
                 std::shared_ptr<const RecordedOutcome> recorded,
                 std::shared_ptr<Barrier> barrier) {
  static const auto kReceived = std::make_shared<const Received>();
  Message<Received> message{std::move(origin), kReceived, nullptr, std::move(barrier),
                            std::move(recorded)};
  if (refusal) message.fault = std::make_shared<const Fault>(Fault{"source", refusal->error});
  // The graph counts what is enqueued as its own only once it runs, so the message brings a hold.
  wiring_->graph.reserve_wait();
  arena_->arena.enqueue([this, message = std::move(message)] {
    wiring_->decode.try_put(message);
    wiring_->graph.release_wait();
  });
}

Graph::Place Graph::PlaceOf(int32_t partition, uint64_t ordinal) const {
  const auto line = wiring_->line_order.Next(partition);
  if (!line) return Place::kUnknown;
  if (*line > ordinal) return Place::kOutbox;
  const auto gathered = wiring_->gather_order.Next(partition);
  if (gathered && *gathered > ordinal) return Place::kBeforeEmit;
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
