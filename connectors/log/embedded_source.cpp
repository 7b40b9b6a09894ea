#include "connectors/log/embedded_source.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "stages/hash.h"

namespace nudge {
namespace {

// As of a line in a file.
Refusal TooLarge(std::string_view bytes, size_t limit_bytes) {
  Refusal refusal;
  refusal.error.code = Code::kTooLarge;
  refusal.error.message = "line: " + std::to_string(bytes.size()) +
                          " bytes are over the limit of " + std::to_string(limit_bytes);
  refusal.error.remedy = "shorten it, or raise limits.line_bytes";
  refusal.bytes_total = bytes.size();
  refusal.bytes_sha256 = Sha256Hex(bytes);
  return refusal;
}

}  // namespace

Result<Source::Pull> EmbeddedSource::Next(Record& record, std::chrono::milliseconds timeout) {
  if (!assigned_ && !error_) {
    assigned_ = true;
    const int32_t partition = 0;
    const Result<Nothing> ready =
        listener_ != nullptr ? listener_->Assigned({&partition, 1}) : Seek(0, log_.extent().first);
    if (!ready.ok()) error_ = ready.error();
  }
  if (error_) return *error_;
  if (paused_) {
    std::this_thread::sleep_for(timeout);
    return Pull::kNothing;
  }
  if (!log_.WaitFor(next_, timeout)) return Pull::kNothing;
  const Result<bool> read = Read(record);
  if (read.ok()) return *read ? Pull::kRecord : Pull::kNothing;
  error_ = read.error();
  return *error_;
}

// The record of next_, which is durable; false: it was erased.
Result<bool> EmbeddedSource::Read(Record& record) {
  Frame frame;
  do {
    if (!reader_ || reader_->position() >= place_.end_bytes || reader_next_ > next_) {
      if (const Result<Nothing> opened = Open(next_); !opened.ok()) return opened.error();
    }
    const uint64_t position = reader_->position();
    const Result<SegmentReader::Found> found = reader_->Next(place_.end_bytes, frame);
    if (!found.ok()) return found.error();
    if (*found != SegmentReader::Found::kFrame || frame.offset != reader_next_) {
      return DamagedRecord(place_.path, reader_next_, position);
    }
    if (frame.kind != FrameKind::kMark) ++reader_next_;
  } while (reader_next_ <= next_);
  ++next_;
  if (frame.kind == FrameKind::kErased) return false;
  record.partition = 0;
  record.offset = frame.offset;
  record.key = frame.key;
  const bool is_too_large = frame.bytes.size() > options_.line_bytes;
  record.bytes = is_too_large ? frame.bytes.substr(0, options_.head_bytes) : frame.bytes;
  record.refusal.reset();
  if (is_too_large) record.refusal.emplace(TooLarge(frame.bytes, options_.line_bytes));
  return true;
}

// Has a reader for this offset; of the same segment the one that is there.
Result<Nothing> EmbeddedSource::Open(int64_t offset) {
  Result<EmbeddedLog::Place> place = log_.PlaceOf(offset);
  if (!place.ok()) return place.error();
  const bool is_same = reader_ && place_.path == place->path && reader_next_ <= offset;
  place_ = std::move(*place);
  if (is_same) return Nothing{};
  Result<SegmentReader> reader = SegmentReader::Open(place_.path, place_.base_offset);
  if (!reader.ok()) return reader.error();
  reader_ = std::move(*reader);
  reader_next_ = place_.base_offset;
  return Nothing{};
}

Result<Nothing> EmbeddedSource::Seek(int32_t partition, int64_t offset) {
  if (partition != 0 || offset < 0) {
    return Error{Code::kUnreadableFile,
                 "the event log has no offset " + std::to_string(offset) + " in partition " +
                     std::to_string(partition),
                 "it has one partition, 0"};
  }
  const Result<EmbeddedLog::Place> place = log_.PlaceOf(offset);
  if (!place.ok()) return place.error();
  if (place->path != place_.path) reader_.reset();
  next_ = offset;
  return Nothing{};
}

}  // namespace nudge
