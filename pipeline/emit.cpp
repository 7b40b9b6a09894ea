#include "pipeline/emit.h"

#include <utility>

namespace nudge {
namespace {

// A dead letter leaves its stage with an error; here it gets the bytes of its event.
void AttachBytes(Outcome& outcome, const Origin& origin, size_t keep_bytes) {
  auto* letter = std::get_if<DeadLetter>(&outcome.what);
  if (letter == nullptr) return;
  *letter = MakeDeadLetter(letter->stage, std::move(letter->error), origin.bytes, keep_bytes);
  if (origin.bytes_total > 0) {
    letter->bytes_total = origin.bytes_total;
    letter->bytes_sha256 = origin.bytes_sha256;
  }
}

}  // namespace

Emit::Emit(EmitOptions options, Outbox& outbox, std::function<void(const Error&)> on_divergence)
    : options_(options), outbox_(outbox), on_divergence_(std::move(on_divergence)) {}

void Emit::Start(int32_t partition, uint64_t events, int64_t next_offset,
                 const Sha256Digest& chain) {
  positions_[partition] = {events, next_offset, chain};
}

void Emit::Apply(const Message<Outcome>& message) {
  const Origin& origin = *message.origin;
  const int32_t partition = origin.sequence.partition();
  Position& position = positions_.at(partition);
  if (position.diverged) return;
  ENSURE(position.events == origin.sequence.ordinal());

  Outcome with_bytes;
  const Outcome* outcome = message.body.get();
  if (std::holds_alternative<DeadLetter>(outcome->what)) {
    with_bytes = *outcome;
    AttachBytes(with_bytes, origin, options_.dead_letter_bytes);
    outcome = &with_bytes;
  }
  OutcomeLine line{partition, origin.offset, KindOf(*outcome), outcome->tenant, {}};
  EncodeOutcome(*outcome, origin, line.bytes);
  position.chain = NextChain(position.chain, origin.offset, line.bytes);
  position.next_offset = origin.offset + 1;
  ++position.events;
  AppendChain(position.chain, line.bytes);

  if (message.recorded && message.recorded->chain != Hex(position.chain)) {
    position.diverged = true;
    on_divergence_({Code::kInternal,
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
