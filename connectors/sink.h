// Where outcomes go: one of the parts that a user swaps.
//
//   Outcome -> [EncodeOutcome, AppendChain] -> OutcomeLine -> [Sink] -> Kafka topic | file | memory
//
// The outcomes are the second half of the log: the sink also reads them back, for recovery. One
// call at a time, from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

enum class OutcomeKind : uint8_t { kResponse, kApplied, kDeadLetter };

struct OutcomeLine {
  int32_t partition = 0;
  int64_t offset = 0;  // of the event that it ends
  OutcomeKind kind = OutcomeKind::kApplied;
  std::string key;    // the tenant; empty where it could not be read
  std::string bytes;  // one line of JSON with its chain, without a newline
};

// The last committed outcome of a partition.
struct Tail {
  int64_t offset = 0;
  std::string chain;  // 64 hex digits
  friend bool operator==(const Tail&, const Tail&) = default;
};

class Sink {
 public:
  using Visit = std::function<Result<Nothing>(std::string_view line)>;

  virtual ~Sink() = default;

  // Takes a line; nothing of it is visible outside before Commit. A line that could never be
  // committed gives kTooLarge, one that is not after the partition's last line kInternal; both
  // leave the sink as it was, so the caller can append a dead letter instead.
  virtual Result<Nothing> Append(const OutcomeLine& line) = 0;

  // Makes all appended lines visible, and with them the progress that they stand for: the input of
  // each partition is done up to and including its last line's offset. After an error none of them
  // counts as committed, all are kept, and Commit may be called again.
  virtual Result<Nothing> Commit() = 0;

  // Called now and then while there is nothing to commit, for what can wait until then. What fails
  // here is left for later.
  virtual void Rest() {}

  // Forgets the partition's lines that are not committed.
  virtual void Drop(int32_t partition) = 0;

  // The last committed line of the partition; nothing if there is none.
  virtual Result<std::optional<Tail>> Last(int32_t partition) = 0;

  // Calls `visit` for each committed line of the partition from `offset` on, in order. Stops at the
  // first error, its own (kUnreadableFile) or that of `visit`, and returns it.
  virtual Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) = 0;
};

}  // namespace nudge
