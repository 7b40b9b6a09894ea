// Where events come from: one of the parts that a user swaps.
//
//   Kafka topic | file | memory -> [Source] -> Record -> decode
//
// One thread calls everything here, and the listener is called on that thread, from inside Next.
// Partitions come and go: a source announces each before its first record, so that the listener can
// load the partition's state and say by Seek where to go on.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "stages/result.h"

namespace nudge {

// Why a record is not decoded at all. Of one that is too large, it holds only the head.
struct Refusal {
  Error error;               // kTooLarge; kInvalidEvent where key and partition do not fit, or
                             // where Kafka says that it is no event in structured mode
  uint64_t bytes_total = 0;  // of the whole record
  std::string bytes_sha256;  // of the whole record, lower-case hex
};

// One entry of the log, as received.
struct Record {
  int32_t partition = 0;
  int64_t offset = 0;  // Kafka's offset, or the line of a file counted from 0
  std::string key;     // Kafka's key, else empty
  std::string bytes;
  std::optional<Refusal> refusal;  // still gets its outcome: a dead letter
};

class PartitionListener {
 public:
  virtual ~PartitionListener() = default;

  // The partitions are this process's from now on. The usual place to call Seek; without it they
  // start where the source's own record of progress says (a file: at its start). An error ends
  // Next.
  virtual Result<Nothing> Assigned(std::span<const int32_t> partitions) = 0;

  // They go to somebody else once this returns: finish, commit and forget them. No record of them
  // follows. kNotOwner says that the commit came too late: Lost follows. Other errors end Next.
  virtual Result<Nothing> Revoked(std::span<const int32_t> partitions) = 0;

  // They are gone already: forget them; what was not committed must not be.
  virtual void Lost(std::span<const int32_t> partitions) = 0;
};

class Source {
 public:
  enum class Pull {
    kRecord,   // the record is set
    kNothing,  // the time is over; ask again
    kEnd,      // no record will ever come
  };

  virtual ~Source() = default;

  // Who hears of partitions; set once, before the first Next, and must outlive the source. Without
  // a listener every partition starts at its default.
  virtual void Listen(PartitionListener& listener) = 0;

  // The next record of any partition that is not paused; within a partition in order of offsets,
  // which may have gaps. Waits at most `timeout`, so that the caller can look at its own stop flag
  // in between; 0 never waits. Records come in `record` (its strings are reused), which is
  // unspecified unless kRecord is returned. After an error every call gives the same error: all
  // records before it were delivered.
  virtual Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) = 0;

  // The partition's next record is the first at or after `offset`. Allowed inside Assigned and
  // between calls of Next. Where that position is not there the error comes from here or from Next:
  // kUnreadableFile, with the source as it was.
  virtual Result<Nothing> Seek(int32_t partition, int64_t offset) = 0;

  // A paused partition delivers nothing, while the others go on. Next must still be called: it
  // keeps membership alive. Pausing twice is pausing once.
  virtual void Pause(int32_t partition) = 0;
  virtual void Resume(int32_t partition) = 0;
};

}  // namespace nudge
