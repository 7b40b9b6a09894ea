#include "connectors/log/segment.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "stages/hash.h"

namespace nudge {
namespace {

static_assert(std::endian::native == std::endian::little);  // heads are copied as they are

constexpr char kMagic[] = "nudgelog";
constexpr uint32_t kVersion = 1;
constexpr char kMarker[] = "\xA9rec";
constexpr std::string_view kSuffix = ".events";
constexpr size_t kNameDigits = 20;
constexpr size_t kBlockBytes = 256 << 10;

struct Head {
  char magic[8];
  uint32_t version;
  uint32_t checksum;  // over the rest
  int64_t base_offset;
};
static_assert(sizeof(Head) == kSegmentHeadBytes);

struct FrameHead {
  char marker[4];
  uint32_t checksum;  // over all that follows
  uint32_t body_bytes;
  uint16_t key_bytes;
  uint8_t kind;
  uint8_t zero;
  int64_t offset;
  int64_t durable_until;
};
static_assert(sizeof(FrameHead) == kFrameHeadBytes);
constexpr size_t kUnsummed = offsetof(FrameHead, body_bytes);

uint32_t Checksum(std::string_view bytes, uint32_t before = 0) {
  if (bytes.empty()) return before;  // zlib takes a null pointer as a wish to begin
  return static_cast<uint32_t>(
      crc32_z(before, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

uint32_t ChecksumOf(Head head) {
  head.checksum = 0;
  return Checksum({reinterpret_cast<const char*>(&head), sizeof head});
}

// The head of a frame, if one may begin here; its checksum is not looked at.
std::optional<FrameHead> HeadAt(std::string_view bytes) {
  FrameHead head;
  if (bytes.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, bytes.data(), sizeof head);
  const bool is_known = head.kind == static_cast<uint8_t>(FrameKind::kRecord) ||
                        head.kind == static_cast<uint8_t>(FrameKind::kMark) ||
                        head.kind == static_cast<uint8_t>(FrameKind::kErased);
  const bool is_sound = std::memcmp(head.marker, kMarker, sizeof head.marker) == 0 && is_known &&
                        head.zero == 0 && head.key_bytes <= head.body_bytes &&
                        head.body_bytes <= kRecordBytes + kKeyBytes;
  return is_sound ? std::optional(head) : std::nullopt;
}

// The frame that `bytes` begin with, if it is whole.
std::optional<Frame> FrameAt(std::string_view bytes) {
  const std::optional<FrameHead> head = HeadAt(bytes);
  if (!head || bytes.size() < sizeof *head + head->body_bytes) return std::nullopt;
  if (Checksum(bytes.substr(kUnsummed, sizeof *head - kUnsummed + head->body_bytes)) !=
      head->checksum) {
    return std::nullopt;
  }
  const std::string_view body = bytes.substr(sizeof *head, head->body_bytes);
  return Frame{static_cast<FrameKind>(head->kind), head->offset, head->durable_until,
               body.substr(0, head->key_bytes), body.substr(head->key_bytes)};
}

// Up to `size` bytes of the file at `position`; fewer only at its end.
Result<std::string> ReadAt(const Descriptor& file, uint64_t position, size_t size) {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t count =
        pread(*file, bytes.data() + done, size - done, static_cast<off_t>(position + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

Error Unreadable(const std::string& path, const std::string& why) {
  return {
      Code::kUnreadableFile, path + ": " + why,
      "mend the disk or bring the file back from a copy, then start again: nothing was changed"};
}

}  // namespace

std::string SegmentHead(int64_t base_offset) {
  Head head{};
  std::memcpy(head.magic, kMagic, sizeof head.magic);
  head.version = kVersion;
  head.base_offset = base_offset;
  head.checksum = ChecksumOf(head);
  return {reinterpret_cast<const char*>(&head), sizeof head};
}

void AppendFrame(const Frame& frame, std::string& out) {
  ENSURE(frame.key.size() <= kKeyBytes && frame.bytes.size() <= kRecordBytes);
  FrameHead head{};
  std::memcpy(head.marker, kMarker, sizeof head.marker);
  head.body_bytes = static_cast<uint32_t>(frame.key.size() + frame.bytes.size());
  head.key_bytes = static_cast<uint16_t>(frame.key.size());
  head.kind = static_cast<uint8_t>(frame.kind);
  head.offset = frame.offset;
  head.durable_until = frame.durable_until;
  const char* const summed = reinterpret_cast<const char*>(&head) + kUnsummed;
  head.checksum = Checksum({summed, sizeof head - kUnsummed});
  head.checksum = Checksum(frame.bytes, Checksum(frame.key, head.checksum));
  out.append(reinterpret_cast<const char*>(&head), sizeof head);
  out.append(frame.key).append(frame.bytes);
}

std::string ErasedBytes(std::string_view bytes) {
  std::string erased(bytes.size(), '\0');
  const Sha256Digest digest = Sha256(bytes);
  if (bytes.size() >= digest.size()) std::copy(digest.begin(), digest.end(), erased.begin());
  return erased;
}

std::string SegmentName(int64_t base_offset) {
  const std::string digits = std::to_string(base_offset);
  return std::string(kNameDigits - digits.size(), '0') + digits + std::string(kSuffix);
}

std::map<int64_t, std::string> SegmentsIn(const std::string& folder) {
  std::map<int64_t, std::string> segments;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() != kNameDigits + kSuffix.size() || !name.ends_with(kSuffix)) continue;
    int64_t base = 0;
    const auto read = std::from_chars(name.data(), name.data() + kNameDigits, base);
    if (read.ec == std::errc() && read.ptr == name.data() + kNameDigits) {
      segments[base] = entry.path().string();
    }
  }
  return segments;
}

Result<SegmentReader> SegmentReader::Open(const std::string& path, int64_t base_offset) {
  Result<Descriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return Unreadable(path, "cannot be read: " + file.error().message);
  const Result<std::string> bytes = ReadAt(*file, 0, sizeof(Head));
  if (!bytes.ok()) return Unreadable(path, "cannot be read: " + bytes.error().message);
  Head head{};
  std::memcpy(&head, bytes->data(), bytes->size());
  if (std::memcmp(head.magic, kMagic, sizeof head.magic) != 0) {
    return Unreadable(path, "it is no file of an event log");
  }
  if (head.version != kVersion) {
    return Error{Code::kUnreadableFile,
                 path + ": an event log of version " + std::to_string(head.version) +
                     ", and this nudge knows version " + std::to_string(kVersion) + " alone",
                 "use the nudge that wrote it"};
  }
  if (head.checksum != ChecksumOf(head) || head.base_offset != base_offset) {
    return Unreadable(path, "its first " + std::to_string(sizeof head) + " bytes are damaged");
  }
  return SegmentReader(path, std::move(*file));
}

// Whether so many bytes from position_ on are in the block; false: they are not below `end_bytes`.
Result<bool> SegmentReader::Fill(size_t bytes, uint64_t end_bytes) {
  if (position_ + bytes > end_bytes) return false;
  if (position_ + bytes <= block_begin_ + block_.size()) return true;
  const size_t size =
      std::min<uint64_t>(end_bytes - position_, std::max<uint64_t>(bytes, kBlockBytes));
  Result<std::string> block = ReadAt(file_, position_, size);
  if (!block.ok()) return Unreadable(path_, "cannot be read: " + block.error().message);
  block_ = std::move(*block);
  block_begin_ = position_;
  return block_.size() >= bytes;
}

Result<SegmentReader::Found> SegmentReader::Next(uint64_t end_bytes, Frame& frame) {
  if (position_ >= end_bytes) return Found::kEnd;
  const auto rest = [&] { return std::string_view(block_).substr(position_ - block_begin_); };
  Result<bool> filled = Fill(kFrameHeadBytes, end_bytes);
  if (!filled.ok()) return filled.error();
  if (!*filled) return Found::kDefects;
  const std::optional<FrameHead> head = HeadAt(rest());
  if (!head) return Found::kDefects;
  filled = Fill(kFrameHeadBytes + head->body_bytes, end_bytes);
  if (!filled.ok()) return filled.error();
  const std::optional<Frame> found = *filled ? FrameAt(rest()) : std::nullopt;
  if (!found) return Found::kDefects;
  frame = *found;
  position_ += kFrameHeadBytes + head->body_bytes;
  return Found::kFrame;
}

Result<bool> SegmentReader::IsVouchedFor(int64_t offset, uint64_t end_bytes) {
  const Result<std::string> rest = ReadAt(file_, position_, end_bytes - position_);
  if (!rest.ok()) return Unreadable(path_, "cannot be read: " + rest.error().message);
  const std::string_view marker(kMarker, sizeof(FrameHead::marker));
  for (size_t at = rest->find(marker, 0); at != rest->npos; at = rest->find(marker, at + 1)) {
    const std::optional<Frame> frame = FrameAt(std::string_view(*rest).substr(at));
    if (frame && frame->durable_until > offset) return true;
  }
  return false;
}

Error DamagedRecord(const std::string& path, int64_t offset, uint64_t position) {
  return Unreadable(path, "the record of offset " + std::to_string(offset) + " at byte " +
                              std::to_string(position) + " is damaged");
}

}  // namespace nudge
