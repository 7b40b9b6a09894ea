// Outcomes that are gone, since what their events said was forgotten: a folder of outcomes ->
// [OutcomeEraser] -> the same folder, with lines that say nothing in their places.
//
// An erased line is as long as the one that stood there, so that no other one moves and nobody who
// reads or appends need be told. It keeps partition, offset and chain, so that the line behind it
// can still be checked:
//
//   {"erased":true,"partition":0,"offset":"17"      ...spaces...      ,"chain":"64 hex digits"}
//
// The new lines are written down in outcomes.erasing first, so that a crash leaves no half line: a
// FileSink that resumes finishes them. Whoever reads the file at that very moment may see a line of
// both. The functions: any thread; an eraser is one thread's, beside the FileSink that writes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "stages/files.h"

namespace nudge {

struct ErasedOutcome {
  int32_t partition = 0;
  int64_t offset = 0;
  std::string chain;  // 64 hex digits
};

// Nothing if the line is no erased one.
std::optional<ErasedOutcome> DecodeErased(std::string_view line);

// What takes the place of a line of `bytes` bytes, without its end.
std::string EncodeErased(const ErasedOutcome& erased, size_t bytes);

// What to tell whoever needs what an erased outcome said.
Error ErasedAlready(const ErasedOutcome& erased);

// Writes what a crash left in outcomes.erasing.
Result<Nothing> FinishErasing(const std::string& folder);

class OutcomeEraser {
 public:
  // Whether this outcome goes; an error ends the erasing. Told of an outcome again where it also
  // stands among the dead letters.
  using Wanted = std::function<Result<bool>(const RecordedOutcome&)>;

  // A disk that does not answer for `disk_timeout` ends the process (bounded_call.h).
  OutcomeEraser(const std::string& folder, std::chrono::milliseconds disk_timeout);

  // Goes on, in outcomes.jsonl and in dead_letters.jsonl, to the first line of offset `end` or
  // more. Of partition 0 alone: in a folder of several, lines are not in the order of offsets.
  // What returns well is on the disk; how many lines of outcomes.jsonl were erased.
  Result<uint64_t> EraseUntil(int64_t end, const Wanted& wanted);

 private:
  using Placed = std::pair<uint64_t, std::string>;  // where a line begins, and what it will be
  struct Lines {
    std::string path;
    std::string journal;  // empty: none is needed, since the file is made anew at each start
    uint64_t position = 0;
  };

  Result<uint64_t> EraseIn(Lines& lines, int64_t end, const Wanted& wanted) const;
  Result<Nothing> Write(const Lines& lines, const std::vector<Placed>& erased) const;

  const std::chrono::milliseconds disk_timeout_;
  Lines outcomes_;
  Lines dead_letters_;
};

}  // namespace nudge
