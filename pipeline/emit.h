// The last stage: Outcome -> [emit] -> OutcomeLine -> outbox. Writes each outcome as a line, in log
// order per partition, and links it to the chain: h = H(h, offset, outcome).
//
// In recovery it checks instead of writing: the line that this run computes must be the line that
// was committed, or the log and the state do not belong together. One call at a time (a serial
// node). Start before the partition's first outcome.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "pipeline/message.h"
#include "pipeline/outbox.h"

namespace nudge {

struct EmitOptions {
  size_t dead_letter_bytes = 4096;  // of the event's bytes kept in its dead letter
};

class Emit {
 public:
  // `on_divergence` is called for the first outcome of a partition that is not the recorded one;
  // the process must stop, and nothing of the partition is written any more.
  Emit(EmitOptions options, Outbox& outbox, std::function<void(const Error&)> on_divergence);

  // The partition goes on after `events` outcomes, whose chain is `chain`, with `next_offset`.
  void Start(int32_t partition, uint64_t events, int64_t next_offset, const Sha256Digest& chain);
  void Apply(const Message<Outcome>& message);

  // After the last outcome; the graph must be idle.
  void AddPosition(int32_t partition, Barrier& barrier) const;
  std::pair<uint64_t, Sha256Digest> Written(int32_t partition) const;  // outcomes and their chain

 private:
  struct Position {
    uint64_t events = 0;
    int64_t next_offset = 0;
    Sha256Digest chain{};
    bool diverged = false;  // then nothing more is written
  };

  const EmitOptions options_;
  Outbox& outbox_;
  const std::function<void(const Error&)> on_divergence_;
  std::map<int32_t, Position> positions_;
};

}  // namespace nudge
