#include "pipeline/emit.h"

#include <utility>

namespace nudge {

OutcomeLine EncodeLine(const Outcome& outcome, const Origin& origin, const EmitOptions& options) {
  OutcomeLine line{origin.sequence.partition(), origin.offset, KindOf(outcome), outcome.tenant, {}};
  const auto* letter = std::get_if<DeadLetter>(&outcome.what);
  if (letter == nullptr) {
    EncodeOutcome(outcome, origin, line.bytes);
    return line;
  }
  DeadLetter with_bytes =
      MakeDeadLetter(letter->stage, letter->error, origin.bytes, options.dead_letter_bytes);
  if (origin.bytes_total > 0) {  // the source kept a part of the record only
    with_bytes.bytes_total = origin.bytes_total;
    with_bytes.bytes_sha256 = origin.bytes_sha256;
  }
  EncodeOutcome({outcome.tenant, outcome.source, outcome.id, outcome.type, std::move(with_bytes),
                 outcome.snapshots},
                origin, line.bytes);
  return line;
}

Emit::Emit(Outbox& outbox, std::function<void(const Error&)> on_fatal)
    : outbox_(outbox), on_fatal_(std::move(on_fatal)) {}

void Emit::Start(int32_t partition, uint64_t events, int64_t next_offset,
                 const Sha256Digest& chain) {
  positions_[partition] = {events, next_offset, chain};
}

void Emit::Drop(int32_t partition) {
  positions_.erase(partition);
}

void Emit::Apply(const Message<OutcomeLine>& message) {
  const Origin& origin = *message.origin;
  const int32_t partition = origin.sequence.partition();
  Position& position = positions_.at(partition);
  if (position.stopped) return;
  if (message.fault) {
    position.stopped = true;
    on_fatal_(message.fault->error);
    return;
  }
  ENSURE(position.events == origin.sequence.ordinal());

  OutcomeLine line = *message.body;
  position.chain = NextChain(position.chain, origin.offset, line.bytes);
  position.next_offset = origin.offset + 1;
  ++position.events;
  AppendChain(position.chain, line.bytes);

  if (message.recorded && message.recorded->chain != Hex(position.chain)) {
    position.stopped = true;
    on_fatal_({Code::kInternal,
               "replay_divergence: the outcome of offset " + std::to_string(origin.offset) +
                   " in partition " + std::to_string(partition) +
                   " is not the one that was committed",
               "the state, the log, the models or the configuration changed since: start from "
               "an empty state folder and output, or restore the old ones"});
    return;
  }
  outbox_.Add({std::move(line), message.recorded == nullptr, origin.bytes.size()});
  if (message.barrier) AddPosition(partition, *message.barrier);
}

void Emit::AddPosition(int32_t partition, Barrier& barrier) const {
  const Position& position = positions_.at(partition);
  barrier.AddPosition(partition, position.events, position.next_offset, position.chain);
}

std::pair<uint64_t, Sha256Digest> Emit::Written(int32_t partition) const {
  const Position& position = positions_.at(partition);
  return {position.events, position.chain};
}

}  // namespace nudge
