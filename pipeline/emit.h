// The last two stages: Outcome -> [encode] -> OutcomeLine -> order -> [emit] -> outbox.
//
// encode writes an outcome as a line: side by side, any thread. emit links the lines to the chain
// in log order per partition, h = H(h, offset, outcome). In recovery it checks instead of writing:
// the line that this run computes must be the line that was committed, or the log and the state do
// not belong together. One call at a time (a serial node). Start before the partition's first
// outcome.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "pipeline/emit_options.h"
#include "pipeline/message.h"
#include "pipeline/outbox.h"

namespace nudge {

// The stage of the dead letter of an outcome that was too large.
inline constexpr std::string_view kEncodeStage = "encode";

// The outcome's line, still without its chain. A dead letter gets the bytes of its event here. In
// the place of an outcome over outcome_bytes stands a dead letter that says so, of a dead letter
// that is too large the same one without its event's bytes: what the event did stays done. A
// function of the outcome and the options alone, so that recovery comes to the same.
OutcomeLine EncodeLine(const Outcome& outcome, const Origin& origin, const EmitOptions& options);

class Emit {
 public:
  // `on_fatal` is called for the first outcome of a partition that is not the recorded one, or that
  // could not be encoded; the process must stop: nothing of the partition is written any more.
  Emit(Outbox& outbox, std::function<void(const Error&)> on_fatal);

  // The partition goes on after `events` outcomes, whose chain is `chain`, with `next_offset`.
  void Start(int32_t partition, uint64_t events, int64_t next_offset, const Sha256Digest& chain);
  void Drop(int32_t partition);
  void Apply(const Message<OutcomeLine>& message);

  // After the last outcome; the graph must be idle.
  void AddPosition(int32_t partition, Barrier& barrier) const;
  std::pair<uint64_t, Sha256Digest> Written(int32_t partition) const;  // outcomes and their chain

 private:
  struct Position {
    uint64_t events = 0;
    int64_t next_offset = 0;
    Sha256Digest chain{};
    bool stopped = false;  // then nothing more is written
  };

  Outbox& outbox_;
  const std::function<void(const Error&)> on_fatal_;
  std::map<int32_t, Position> positions_;
};

}  // namespace nudge
