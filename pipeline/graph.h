// The dataflow as a oneTBB flow graph, wired like its figure (graph.cpp).
//
//   Record -> [Graph] -> outcome lines in the outbox; one per record, in log order per partition
//
// All calls: the thread that owns the source. Push never waits; the credits that bound what is
// inside are taken before it. The stages are the graph's from the first Push until WaitForAll.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "connectors/source.h"
#include "pipeline/emit.h"
#include "pipeline/executor.h"
#include "pipeline/graph_options.h"
#include "pipeline/observe/event_metrics.h"
#include "stages/adapt.h"
#include "stages/index.h"
#include "stages/prepare.h"
#include "stages/prompt.h"
#include "stages/recall.h"
#include "stages/respond.h"

namespace nudge {

// The stages, by reference: whoever runs the graph owns them.
struct Stages {
  const Prepare& prepare;
  Recall& recall;
  Index& index;
  Adapt& adapt;
  Prompt& prompt;
  Respond& respond;
  Emit& emit;
};

// Time spent in each node, in the order of the figure, and what came through.
struct GraphMetrics {
  NodeMetrics decode, prepare, recall, index, adapt, prompt, gather, respond, encode, emit;
  EventMetrics events;
};

class Graph {
 public:
  Graph(Stages stages, Executor& executor, GraphOptions options, GraphMetrics& metrics);
  ~Graph();  // waits for all that is inside

  // A partition comes: Load takes the entries of a saved state, one by one; Start says where it
  // goes on, which is after `events` outcomes with this chain, at `next_offset`. Other partitions
  // may be running, as in Drop and AddTo.
  Result<Nothing> Load(int32_t partition, Change entry);
  void Start(int32_t partition, uint64_t events, int64_t next_offset, const Sha256Digest& chain);

  // A partition goes: the stages and the executor forget it. Its stay must be over, so that
  // messages on their way are passed on untouched and dropped at the next order.
  void Drop(int32_t partition);

  // Records that came together, in the order of the source; 1 to kBatchEvents of them.
  struct Arrival {
    std::shared_ptr<const Origin> origin;
    std::optional<Error> refusal;
    std::shared_ptr<const RecordedOutcome> recorded;  // in recovery: its committed outcome
    std::shared_ptr<Barrier> barrier;                 // rides on this record; may be empty
  };
  void Push(std::vector<Arrival> arrivals);

  // What goes through the graph together, at most: enough to make a hop cheap beside the work.
  static constexpr size_t kBatchEvents = 64;

  // Where the partition's event of this ordinal is, told by the orders that it has passed. For
  // people; any thread, at any time.
  enum class Place { kBeforeRecall, kBeforeRespond, kBeforeEmit, kOutbox, kUnknown };
  Place PlaceOf(int32_t partition, uint64_t ordinal) const;

  // Until every record that was pushed has its outcome in the outbox.
  void WaitForAll();

  // The parts of a barrier that the graph and the executor supply (kBarrierParts of them). No
  // record of the partition may be inside.
  void AddTo(int32_t partition, const std::shared_ptr<Barrier>& barrier);
  static constexpr int kBarrierParts = 7;

 private:
  struct Arena;
  struct Wiring;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Wiring> wiring_;
};

}  // namespace nudge
