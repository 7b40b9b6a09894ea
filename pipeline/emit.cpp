#include "pipeline/emit.h"

#include <utility>

namespace nudge {

namespace {

constexpr size_t kChainBytes = 96;  // what AppendChain adds, and to spare

// The dead letter with so many of its event's bytes.
Outcome LetterFor(const Outcome& outcome, const DeadLetter& letter, const Origin& origin,
                  size_t keep_bytes) {
  DeadLetter with_bytes = MakeDeadLetter(letter.stage, letter.error, origin.bytes, keep_bytes);
  if (origin.bytes_total > 0) {  // the source kept a part of the record only
    with_bytes.bytes_total = origin.bytes_total;
    with_bytes.bytes_sha256 = origin.bytes_sha256;
  }
  return {outcome.tenant, outcome.source,        outcome.id,
          outcome.type,   std::move(with_bytes), outcome.snapshots};
}

DeadLetter TooLarge(size_t size, size_t limit) {
  return {
      std::string(kEncodeStage),
      {Code::kTooLarge,
       "outcome: " + std::to_string(size) + " bytes are over the limit of " + std::to_string(limit),
       "what the event did is done, only its outcome is left out: ask for less, or raise "
       "limits.outcome_bytes and kafka.message_bytes"},
      {},
      {},
      0};
}

}  // namespace

OutcomeLine EncodeLine(const Outcome& outcome, const Origin& origin, const EmitOptions& options) {
  OutcomeLine line{origin.sequence.partition(), origin.offset, KindOf(outcome), outcome.tenant, {}};
  const auto* letter = std::get_if<DeadLetter>(&outcome.what);
  if (letter == nullptr) {
    EncodeOutcome(outcome, origin, line.bytes);
  } else {
    EncodeOutcome(LetterFor(outcome, *letter, origin, options.dead_letter_bytes), origin,
                  line.bytes);
  }
  const size_t size = line.bytes.size() + line.key.size() + kChainBytes;
  if (size <= options.outcome_bytes) return line;
  const DeadLetter too_large = TooLarge(size, options.outcome_bytes);
  line.kind = OutcomeKind::kDeadLetter;
  line.bytes.clear();
  EncodeOutcome(LetterFor(outcome, letter != nullptr ? *letter : too_large, origin, 0), origin,
                line.bytes);
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
