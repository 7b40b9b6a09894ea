// The log of events on this machine's disk: what comes in is durable before anybody is told so.
//
//   key, bytes -> Append -> [EmbeddedLog] -> segment files -> [EmbeddedSource] -> Processor
//
// A folder of segments (segment.h), each named by the offset of its first record. One thread of the
// log's own writes: all that waits is one group, one write and one fdatasync. A disk that is full
// refuses the group, and leaves what was there; once there is room, later ones are taken. A disk
// that fails a sync ends the process (exit 1), since nobody knows any more what it holds; one that
// does not answer for sync_timeout does, too (exit 5, bounded_call.h). Both are as a kill: who was
// told that a record is stored has it stored.
//
// One process has the folder at a time (a lock). Files are their owner's alone. Append and the
// readers' calls: any thread; Retain: one at a time.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "connectors/log/event_log_options.h"
#include "connectors/log/segment.h"
#include "stages/guarded.h"

namespace nudge {

class EmbeddedLog {
 public:
  // The offset of a record that is durable now, or why it is not stored. On the log's thread (of a
  // record that is refused at once inside Append), in the order of offsets, and before any reader
  // sees the record.
  using Done = std::function<void(const Result<int64_t>& offset)>;

  // Opens the folder or makes it. What an interrupted write left at the end is cut off, and
  // `on_notice` is told. Throws StartError: it cannot be read or written, is in use, or a record
  // that was durable is damaged.
  EmbeddedLog(EventLogOptions options, const std::function<void(const std::string&)>& on_notice);
  ~EmbeddedLog();
  EmbeddedLog(const EmbeddedLog&) = delete;
  EmbeddedLog& operator=(const EmbeddedLog&) = delete;

  // Never waits. kBusy where too much waits for the disk already, kTooLarge, kUnavailable once the
  // log is stopped, kUnreadableFile for a disk that is full.
  void Append(std::string key, std::string bytes, Done done);

  // Writes what waits, and takes nothing more.
  void Stop();

  struct Extent {
    int64_t first = 0;
    int64_t end = 0;  // after the last record that is durable
    uint64_t bytes = 0;
    uint64_t syncs = 0;                     // of groups, since the start
    std::chrono::nanoseconds sync_time{0};  // that they took
  };
  Extent extent() const;

  // Removes the oldest segments while all have more than retention_bytes_max, but none with a
  // record from `needed_offset` on.
  Result<Nothing> Retain(int64_t needed_offset);

  // Takes the bytes of these records off the disk; offset, key, size and SHA-256 stay. The segment
  // is written anew beside the old one, which is removed, so blocks of the disk may hold the bytes
  // until they are used again. Whoever reads the log gets nothing at such an offset, as of a blank
  // line: a replay from the beginning is another history from then on. So none may be one that a
  // kept state goes on from (kInternal): that is from `needed_offset` on. Waits for the disk; one
  // at a time.
  Result<Nothing> Erase(const std::set<int64_t>& offsets, int64_t needed_offset);

  // ---- For readers ------------------------------------------------------------------------------

  // Whether the record is durable, after `timeout` at most.
  bool WaitFor(int64_t offset, std::chrono::milliseconds timeout) const;

  // Where the record stands; kUnreadableFile if it went, or has not come yet.
  struct Place {
    std::string path;
    int64_t base_offset = 0;
    uint64_t end_bytes = 0;  // of what is durable in this segment
  };
  Result<Place> PlaceOf(int64_t offset) const;

 private:
  struct Waiting {
    std::string key;
    std::string bytes;
    Done done;
  };
  struct Segment {
    std::string path;
    uint64_t bytes = 0;  // durable
  };

  std::optional<Error> Queue(Waiting& record);
  void Lock();
  void RemoveUnfinished() const;
  void Open(const std::function<void(const std::string&)>& on_notice);
  void OpenLast(const std::function<void(const std::string&)>& on_notice);
  void Work();
  void WriteGroup(std::vector<Waiting> group);
  Result<Nothing> Write(std::string_view bytes);
  void Sync();
  Result<Nothing> Roll();
  Result<Nothing> RollAndCount();
  void WriteMark();
  std::optional<std::string> Removable(int64_t needed_offset) const;
  Result<Nothing> RollBehind(int64_t offset);
  Result<Nothing> EraseIn(const std::string& path, int64_t base_offset,
                          const std::set<int64_t>& offsets) const;

  const EventLogOptions options_;
  Descriptor lock_;

  // The writing thread's, or the constructor's.
  Descriptor file_;  // the last segment
  std::string path_;
  uint64_t file_bytes_ = 0;  // durable
  int64_t next_offset_ = 0;
  std::string buffer_;

  mutable Mutex mutex_;
  mutable CondVar changed_;  // something waits, or is durable
  std::vector<Waiting> queue_ GUARDED_BY(mutex_);
  uint64_t queued_bytes_ GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Segment> segments_ GUARDED_BY(mutex_);
  int64_t durable_end_ GUARDED_BY(mutex_) = 0;
  uint64_t syncs_ GUARDED_BY(mutex_) = 0;
  std::chrono::nanoseconds sync_time_ GUARDED_BY(mutex_){0};
  bool roll_wanted_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Mutex files_mutex_;  // taken before mutex_, by who removes or replaces files
  std::thread thread_;
};

// Visits every whole record of a folder from `offset` on, also those that were erased, while a
// process may write it: what is being written at the end is left out. kUnreadableFile for a record
// that is damaged; an error of `visit` ends it.
using LogVisit = std::function<Result<Nothing>(const Frame& record)>;
Result<Nothing> ReadEventLog(const std::string& folder, int64_t offset, const LogVisit& visit);

}  // namespace nudge
