#include "connectors/log/embedded_log.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "connectors/bounded_call.h"
#include "stages/fault_point.h"
#include "stages/stop_run.h"

namespace nudge {
namespace {

constexpr char kRemedyForDisk[] = "see whether the disk of event_log.folder is well";

Error NotStored(const std::string& path, const Error& error) {
  return {Code::kUnreadableFile, "the event is not stored: " + path + ": " + error.message,
          error.remedy.empty() ? "mend the disk of event_log.folder, then send the event again"
                               : error.remedy + ", then send the event again"};
}

uint64_t SizeOf(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

[[noreturn]] void Refuse(const Error& error) {
  throw StartError(error.message + (error.remedy.empty() ? "" : ": " + error.remedy));
}

}  // namespace

EmbeddedLog::EmbeddedLog(EventLogOptions options,
                         const std::function<void(const std::string&)>& on_notice)
    : options_(std::move(options)) {
  if (const Result<Nothing> made = MakeFolders(options_.folder); !made.ok()) {
    throw StartError("cannot make the folder " + options_.folder + ": " + made.error().message);
  }
  Lock();
  Open(on_notice);
  thread_ = std::thread([this] { Work(); });
}

EmbeddedLog::~EmbeddedLog() {
  Stop();
}

void EmbeddedLog::Lock() {
  const std::string path = options_.folder + "/lock";
  Result<Descriptor> lock = OpenFile(path, O_RDWR | O_CREAT);
  if (!lock.ok()) throw StartError(path + ": cannot be opened: " + lock.error().message);
  lock_ = std::move(*lock);
  if (flock(*lock_, LOCK_EX | LOCK_NB) != 0) {
    throw StartError(options_.folder +
                     ": another process serves from this event log: stop it, or give this one "
                     "another event_log.folder");
  }
}

// ---- Opening ------------------------------------------------------------------------------------

// Files that a kill left before they got their names: copies of records, which nobody would erase.
void EmbeddedLog::RemoveUnfinished() const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(options_.folder, error)) {
    const bool is_unfinished = entry.path().filename().string().starts_with(".tmp-");
    if (is_unfinished && unlink(entry.path().c_str()) != 0) {
      throw StartError(entry.path().string() + ": cannot be removed: " + FileError(errno).message);
    }
  }
}

void EmbeddedLog::Open(const std::function<void(const std::string&)>& on_notice) {
  RemoveUnfinished();
  const MutexLock lock(mutex_);
  for (const auto& [base, path] : SegmentsIn(options_.folder)) {
    segments_[base] = {path, SizeOf(path)};
  }
  if (segments_.empty()) {
    if (const Result<Nothing> rolled = Roll(); !rolled.ok()) {
      throw StartError(options_.folder + ": cannot be written: " + rolled.error().message);
    }
    segments_[next_offset_] = {path_, file_bytes_};
  } else {
    OpenLast(on_notice);
  }
  durable_end_ = next_offset_;
}

// Finds where the last segment ends.
void EmbeddedLog::OpenLast(const std::function<void(const std::string&)>& on_notice) {
  mutex_.AssertHeld();
  const auto last = std::prev(segments_.end());
  path_ = last->second.path;
  next_offset_ = last->first;
  const uint64_t size = last->second.bytes;
  Result<SegmentReader> reader = SegmentReader::Open(path_, last->first);
  if (!reader.ok()) Refuse(reader.error());
  Frame frame;
  Result<SegmentReader::Found> found = SegmentReader::Found::kEnd;
  while ((found = reader->Next(size, frame)).ok() && *found == SegmentReader::Found::kFrame) {
    if (frame.offset != next_offset_) {
      Refuse(DamagedRecord(path_, next_offset_, reader->position()));
    }
    if (frame.kind != FrameKind::kMark) ++next_offset_;
  }
  if (!found.ok()) Refuse(found.error());
  file_bytes_ = reader->position();
  Result<Descriptor> file = OpenFile(path_, O_RDWR);
  if (!file.ok()) throw StartError(path_ + ": cannot be written: " + file.error().message);
  file_ = std::move(*file);
  if (*found == SegmentReader::Found::kDefects) {
    const Result<bool> is_vouched_for = reader->IsVouchedFor(next_offset_, size);
    if (!is_vouched_for.ok()) Refuse(is_vouched_for.error());
    if (*is_vouched_for) Refuse(DamagedRecord(path_, next_offset_, file_bytes_));
    if (ftruncate(*file_, static_cast<off_t>(file_bytes_)) != 0) {
      throw StartError(path_ + ": cannot be cut to its whole records: " + FileError(errno).message);
    }
    on_notice(path_ + ": its last " + std::to_string(size - file_bytes_) +
              " bytes, behind offset " + std::to_string(next_offset_ - 1) +
              ", are of a write that was interrupted: they are cut off");
  }
  // What was written and not synced before a kill counts from now on.
  Sync();
  last->second.bytes = file_bytes_;
}

// ---- Writing ------------------------------------------------------------------------------------

void EmbeddedLog::Append(std::string key, std::string bytes, Done done) {
  Waiting record{std::move(key), std::move(bytes), std::move(done)};
  if (const std::optional<Error> refused = Queue(record)) record.done(*refused);
}

// Takes the record, or says why not.
std::optional<Error> EmbeddedLog::Queue(Waiting& record) {
  if (record.key.size() > kKeyBytes || record.bytes.size() > kRecordBytes) {
    return Error{Code::kTooLarge, "the event is too large for the event log", "send less"};
  }
  const MutexLock lock(mutex_);
  const uint64_t size = kFrameHeadBytes + record.key.size() + record.bytes.size();
  if (stopping_) {
    return Error{Code::kUnavailable, "the event is not stored: nudge is stopping",
                 "send it again once nudge is back"};
  }
  if (queued_bytes_ > 0 && queued_bytes_ + size > options_.queue_bytes_max) {
    return Error{Code::kBusy,
                 "the event is not stored: " + std::to_string(queued_bytes_) +
                     " bytes of events wait for the disk",
                 "send it again later, or raise event_log.queue_bytes_max"};
  }
  queued_bytes_ += size;
  queue_.push_back(std::move(record));
  if (queue_.size() == 1) changed_.NotifyAll();
  return std::nullopt;
}

void EmbeddedLog::Stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void EmbeddedLog::Work() {
  pthread_setname_np(pthread_self(), "event-log");
  while (true) {
    std::vector<Waiting> group;
    {
      const MutexLock lock(mutex_);
      changed_.Wait(
          mutex_, [&]() REQUIRES(mutex_) { return stopping_ || roll_wanted_ || !queue_.empty(); });
      if (stopping_ && queue_.empty()) break;
      group = std::exchange(queue_, {});
      queued_bytes_ = 0;
    }
    if (group.empty()) {
      (void)RollAndCount();  // who wanted it looks
    } else {
      WriteGroup(std::move(group));
    }
  }
  WriteMark();
}

// Makes the group durable, or refuses it as a whole.
void EmbeddedLog::WriteGroup(std::vector<Waiting> group) {
  Result<Nothing> written = Nothing{};
  if (file_bytes_ >= options_.segment_bytes_max) written = RollAndCount();
  if (written.ok()) {
    buffer_.clear();
    int64_t offset = next_offset_;
    for (const Waiting& record : group) {
      AppendFrame({FrameKind::kRecord, offset++, next_offset_, record.key, record.bytes}, buffer_);
    }
    written = Write(buffer_);
  }
  if (!written.ok()) {
    for (const Waiting& record : group) record.done(NotStored(path_, written.error()));
    return;
  }
  FaultPoint("log-written");
  const auto begun = std::chrono::steady_clock::now();
  Sync();
  const auto sync_time = std::chrono::steady_clock::now() - begun;
  FaultPoint("log-synced");
  file_bytes_ += buffer_.size();
  for (const Waiting& record : group) record.done(next_offset_++);
  const MutexLock lock(mutex_);
  durable_end_ = next_offset_;
  std::prev(segments_.end())->second.bytes = file_bytes_;
  ++syncs_;
  sync_time_ += sync_time;
  changed_.NotifyAll();
}

// Writes all of it behind what is durable, or nothing.
Result<Nothing> EmbeddedLog::Write(std::string_view bytes) {
  const BoundedCall call("pwrite", options_.sync_timeout, kRemedyForDisk);
  uint64_t at = file_bytes_;
  while (!bytes.empty()) {
    const ssize_t count = pwrite(*file_, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const Error error = FileError(count == 0 ? ENOSPC : errno);
      if (ftruncate(*file_, static_cast<off_t>(file_bytes_)) != 0) {
        StopRun((path_ + ": cannot be cut back to its whole records").c_str(), kRemedyForDisk);
      }
      return error;
    }
    at += static_cast<uint64_t>(count);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return Nothing{};
}

void EmbeddedLog::Sync() {
  const BoundedCall call("fdatasync", options_.sync_timeout, kRemedyForDisk);
  if (fdatasync(*file_) == 0) return;
  StopRun((path_ + ": cannot be synced: " + FileError(errno).message).c_str(), kRemedyForDisk);
}

// Begins a segment. Its head is durable before anything is written behind it.
Result<Nothing> EmbeddedLog::Roll() {
  const BoundedCall call("fsync", options_.sync_timeout, kRemedyForDisk);
  const std::string path = options_.folder + "/" + SegmentName(next_offset_);
  Result<Nothing> made = ReplaceFile(path, SegmentHead(next_offset_));
  if (!made.ok()) return made;
  Result<Descriptor> file = OpenFile(path, O_RDWR);
  if (!file.ok()) return file.error();
  file_ = std::move(*file);
  path_ = path;
  file_bytes_ = kSegmentHeadBytes;
  return Nothing{};
}

Result<Nothing> EmbeddedLog::RollAndCount() {
  Result<Nothing> rolled = Roll();
  const MutexLock lock(mutex_);
  if (rolled.ok()) segments_[next_offset_] = {path_, file_bytes_};
  roll_wanted_ = false;
  changed_.NotifyAll();
  return rolled;
}

// At a clean end, so that damage to the last group can be told from a torn one. Where it cannot be
// written nothing is lost.
void EmbeddedLog::WriteMark() {
  buffer_.clear();
  AppendFrame({FrameKind::kMark, next_offset_, next_offset_, {}, {}}, buffer_);
  if (Write(buffer_).ok()) Sync();
}

// ---- Reading ------------------------------------------------------------------------------------

EmbeddedLog::Extent EmbeddedLog::extent() const {
  const MutexLock lock(mutex_);
  Extent extent{segments_.begin()->first, durable_end_, 0, syncs_, sync_time_};
  for (const auto& [base, segment] : segments_) extent.bytes += segment.bytes;
  return extent;
}

bool EmbeddedLog::WaitFor(int64_t offset, std::chrono::milliseconds timeout) const {
  const MutexLock lock(mutex_);
  return changed_.WaitFor(mutex_, timeout,
                          [&]() REQUIRES(mutex_) { return durable_end_ > offset; });
}

Result<EmbeddedLog::Place> EmbeddedLog::PlaceOf(int64_t offset) const {
  const MutexLock lock(mutex_);
  if (offset > durable_end_) {
    return Error{Code::kUnreadableFile,
                 options_.folder + ": the event log ends before offset " +
                     std::to_string(durable_end_) + ", but reading goes on at " +
                     std::to_string(offset),
                 "give the event log that the output was made from, or start with an empty output "
                 "and state"};
  }
  const auto after = segments_.upper_bound(offset);
  if (after == segments_.begin()) {
    return Error{Code::kUnreadableFile,
                 options_.folder + ": the event log begins at offset " +
                     std::to_string(segments_.begin()->first) + ", but reading goes on at " +
                     std::to_string(offset) + ": what was before went by retention",
                 "bring back the state that goes on from there or later (checkpoint.folder), or "
                 "the older files of the log"};
  }
  const auto& [base, segment] = *std::prev(after);
  return Place{segment.path, base, segment.bytes};
}

Result<Nothing> EmbeddedLog::Retain(int64_t needed_offset) {
  if (options_.retention_bytes_max == 0) return Nothing{};
  const MutexLock files_lock(files_mutex_);
  bool has_removed = false;
  while (const std::optional<std::string> path = Removable(needed_offset)) {
    // Without the other lock: whoever appends does not wait for the disk.
    if (unlink(path->c_str()) != 0 && errno != ENOENT) return FileError(errno);
    has_removed = true;
    const MutexLock lock(mutex_);
    segments_.erase(segments_.begin());
  }
  return has_removed ? SyncFolder(options_.folder) : Nothing{};
}

// The oldest segment, where it may go.
std::optional<std::string> EmbeddedLog::Removable(int64_t needed_offset) const {
  const MutexLock lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [base, segment] : segments_) bytes += segment.bytes;
  const bool may_go = segments_.size() > 1 && bytes > options_.retention_bytes_max &&
                      std::next(segments_.begin())->first <= needed_offset;
  return may_go ? std::optional(segments_.begin()->second.path) : std::nullopt;
}

// ---- Erasing ------------------------------------------------------------------------------------

Result<Nothing> EmbeddedLog::Erase(const std::set<int64_t>& offsets, int64_t needed_offset) {
  if (offsets.empty()) return Nothing{};
  if (*offsets.rbegin() >= needed_offset) {
    return Error{Code::kInternal,
                 "offset " + std::to_string(*offsets.rbegin()) +
                     " cannot be erased: a kept state goes on from " +
                     std::to_string(needed_offset),
                 ""};
  }
  const MutexLock files_lock(files_mutex_);
  if (Result<Nothing> rolled = RollBehind(*offsets.rbegin()); !rolled.ok()) return rolled;
  std::map<int64_t, std::string> paths;
  {
    const MutexLock lock(mutex_);
    for (const int64_t offset : offsets) {
      const auto after = segments_.upper_bound(offset);
      if (after == segments_.begin()) continue;  // it went by retention
      paths[std::prev(after)->first] = std::prev(after)->second.path;
    }
  }
  for (const auto& [base, path] : paths) {
    if (Result<Nothing> erased = EraseIn(path, base, offsets); !erased.ok()) return erased;
  }
  return Nothing{};
}

// Has the record in a segment that is not written any more.
Result<Nothing> EmbeddedLog::RollBehind(int64_t offset) {
  const MutexLock lock(mutex_);
  if (offset >= durable_end_) {
    return Error{Code::kInternal, "offset " + std::to_string(offset) + " is not in the event log",
                 ""};
  }
  const auto is_behind = [&]() REQUIRES(mutex_) {
    return std::prev(segments_.end())->first > offset;
  };
  if (is_behind()) return Nothing{};
  roll_wanted_ = true;
  changed_.NotifyAll();
  changed_.WaitFor(mutex_, options_.sync_timeout,
                   [&]() REQUIRES(mutex_) { return !roll_wanted_ || stopping_; });
  if (is_behind()) return Nothing{};
  return Error{Code::kUnreadableFile,
               options_.folder + ": no further file can be begun, which erasing needs",
               "make room on that disk"};
}

// Writes the segment anew, every frame where it was.
Result<Nothing> EmbeddedLog::EraseIn(const std::string& path, int64_t base_offset,
                                     const std::set<int64_t>& offsets) const {
  Result<SegmentReader> reader = SegmentReader::Open(path, base_offset);
  if (!reader.ok()) return reader.error();
  const uint64_t size = SizeOf(path);
  std::string bytes = SegmentHead(base_offset);
  bytes.reserve(size);  // it is large, and growing would hold it twice
  Frame frame;
  for (int64_t next = base_offset;;) {
    const uint64_t position = reader->position();
    const Result<SegmentReader::Found> found = reader->Next(size, frame);
    if (!found.ok()) return found.error();
    if (*found == SegmentReader::Found::kEnd) break;
    if (*found == SegmentReader::Found::kDefects || frame.offset != next) {
      return DamagedRecord(path, next, position);
    }
    std::string erased;
    if (frame.kind == FrameKind::kRecord && offsets.contains(frame.offset)) {
      erased = ErasedBytes(frame.bytes);
      frame.kind = FrameKind::kErased;
      frame.bytes = erased;
    }
    AppendFrame(frame, bytes);
    if (frame.kind != FrameKind::kMark) ++next;
  }
  const BoundedCall call("fsync", options_.sync_timeout, kRemedyForDisk);
  Result<Nothing> replaced = ReplaceFile(path, bytes);
  if (replaced.ok()) return replaced;
  return Error{Code::kUnreadableFile, path + ": cannot be erased in: " + replaced.error().message,
               replaced.error().remedy};
}

namespace {

// Of one segment; `next` is the offset that should come.
Result<Nothing> ReadSegment(const std::string& path, int64_t base, bool is_last, int64_t offset,
                            const LogVisit& visit, int64_t& next) {
  Result<SegmentReader> reader = SegmentReader::Open(path, base);
  if (!reader.ok()) return reader.error();
  const uint64_t size = SizeOf(path);
  Frame frame;
  for (next = base;;) {
    const uint64_t position = reader->position();
    const Result<SegmentReader::Found> found = reader->Next(size, frame);
    if (!found.ok()) return found.error();
    if (*found == SegmentReader::Found::kEnd) return Nothing{};
    if (*found == SegmentReader::Found::kDefects) {
      const Result<bool> is_vouched_for = reader->IsVouchedFor(next, size);
      if (!is_vouched_for.ok()) return is_vouched_for.error();
      if (is_last && !*is_vouched_for) return Nothing{};
      return DamagedRecord(path, next, position);
    }
    if (frame.offset != next) return DamagedRecord(path, next, position);
    if (frame.kind == FrameKind::kMark) continue;
    if (next++ < offset) continue;
    if (Result<Nothing> visited = visit(frame); !visited.ok()) return visited;
  }
}

}  // namespace

Result<Nothing> ReadEventLog(const std::string& folder, int64_t offset, const LogVisit& visit) {
  const std::map<int64_t, std::string> segments = SegmentsIn(folder);
  if (segments.empty()) {
    return Error{Code::kUnreadableFile, folder + ": there is no event log",
                 "give the folder that `nudge serve` has as event_log.folder"};
  }
  int64_t next = segments.begin()->first;
  for (auto segment = segments.begin(); segment != segments.end(); ++segment) {
    if (next != segment->first) {
      return Error{Code::kUnreadableFile,
                   folder + ": the records from offset " + std::to_string(next) + " to " +
                       std::to_string(segment->first - 1) + " are missing",
                   "bring back the file that holds them"};
    }
    const auto after = std::next(segment);
    if (after != segments.end() && after->first <= offset) {
      next = after->first;
      continue;
    }
    if (Result<Nothing> read = ReadSegment(segment->second, segment->first, after == segments.end(),
                                           offset, visit, next);
        !read.ok()) {
      return read;
    }
  }
  return Nothing{};
}

}  // namespace nudge
