// A file of the embedded log: a head that says what it is, then frames, one a record.
//
//   record -> [AppendFrame] -> bytes of a segment -> [SegmentReader] -> Frame
//
//   head   magic, version, checksum, offset of the first record
//   frame  marker, checksum, sizes, kind, offset, durable_until; then the key and the record
//
// Numbers are little-endian. The checksum is CRC-32 as zlib computes it: it finds every burst of up
// to 32 bits, it is faster than the disks behind it, and zlib is linked anyway.
//
// `durable_until` tells a torn end from damage: it is the offset up to which everything was on the
// disk when the frame was written. Whatever is not whole and has a whole frame behind it that
// vouches for it was damaged later. Whatever nobody vouches for may be a write that was
// interrupted, and no client was told that it is stored.
//
// Plain functions, any thread; a reader is one thread's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "stages/files.h"
#include "stages/result.h"

namespace nudge {

enum class FrameKind : uint8_t {
  kRecord = 1,
  kMark = 2,    // no record: vouches for those before it, at a clean end
  kErased = 3,  // a record whose bytes are gone; as long as it was, so that no other one moves
};

struct Frame {
  FrameKind kind = FrameKind::kRecord;
  int64_t offset = 0;  // of a mark: that of the record that follows
  int64_t durable_until = 0;
  std::string_view key;
  std::string_view bytes;
};

inline constexpr size_t kSegmentHeadBytes = 24;
inline constexpr size_t kFrameHeadBytes = 32;
inline constexpr size_t kKeyBytes = UINT16_MAX;
inline constexpr size_t kRecordBytes = 1 << 30;

std::string SegmentHead(int64_t base_offset);
void AppendFrame(const Frame& frame, std::string& out);

// What takes the place of a record's bytes: their SHA-256, then zeros; of fewer than 32 bytes zeros
// alone, since a hash would tell them.
std::string ErasedBytes(std::string_view bytes);

// "00000000000000000042.events"
std::string SegmentName(int64_t base_offset);

// The segments of a folder by the offset of their first record, from their names alone.
std::map<int64_t, std::string> SegmentsIn(const std::string& folder);

// Reads a segment from its beginning.
class SegmentReader {
 public:
  enum class Found {
    kFrame,
    kEnd,      // there is nothing more below the limit
    kDefects,  // what stands at position() is no whole frame
  };

  // kUnreadableFile: it cannot be opened, or its head is not that of a segment with this base.
  static Result<SegmentReader> Open(const std::string& path, int64_t base_offset);

  // The next frame below `end_bytes`, which may grow from call to call. Its texts last until the
  // next call. kUnreadableFile where the disk does not give it.
  Result<Found> Next(uint64_t end_bytes, Frame& frame);

  // Where the next frame begins.
  uint64_t position() const { return position_; }

  // Whether a whole frame behind position() vouches for what should stand there: the record of this
  // offset.
  Result<bool> IsVouchedFor(int64_t offset, uint64_t end_bytes);

 private:
  SegmentReader(std::string path, Descriptor file)
      : path_(std::move(path)), file_(std::move(file)) {}
  Result<bool> Fill(size_t bytes, uint64_t end_bytes);

  std::string path_;
  Descriptor file_;
  uint64_t position_ = kSegmentHeadBytes;
  std::string block_;  // of the file, from block_begin_ on
  uint64_t block_begin_ = kSegmentHeadBytes;
};

// What to tell of a record that is not whole.
Error DamagedRecord(const std::string& path, int64_t offset, uint64_t position);

}  // namespace nudge
