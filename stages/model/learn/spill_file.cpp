#include "stages/model/learn/spill_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "stages/files.h"
#include "stages/hash.h"

namespace nudge {
namespace {

Error Failed(const std::string& what, const std::string& folder, const char* why) {
  return {Code::kUnreadableFile, "cannot " + what + " a file in " + folder + ": " + why,
          "check that folder's disk, its room and its permissions"};
}

uint64_t SpaceOf(uint64_t bytes) {
  return (std::max<uint64_t>(bytes, 1) + SpillFile::kGrainBytes - 1) / SpillFile::kGrainBytes *
         SpillFile::kGrainBytes;
}

// Each word with its place, so that neither a changed nor a moved one goes unseen. Not against
// malice: ten times as fast as SHA-256.
uint64_t ChecksumOf(std::string_view bytes) {
  uint64_t sum = 0;
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
    sum += RandomAt(word, at);
  }
  return sum;
}

}  // namespace

Result<SpillFile> SpillFile::Open(const std::string& folder) {
  int file = open(folder.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0) {  // not every filesystem has files without a name
    std::string path = folder + "/nudge-XXXXXX";
    file = mkostemp(path.data(), O_CLOEXEC);
    if (file >= 0) unlink(path.c_str());
  }
  if (file < 0) return Failed("make", folder, std::strerror(errno));
  return SpillFile(file, folder);
}

SpillFile::SpillFile(SpillFile&& other) noexcept
    : file_(std::exchange(other.file_, -1)),
      folder_(std::move(other.folder_)),
      end_(other.end_),
      free_(std::move(other.free_)) {}

SpillFile::~SpillFile() {
  if (file_ >= 0) close(file_);
}

Result<SpillFile::Ticket> SpillFile::Put(std::string_view bytes) {
  const uint64_t space = SpaceOf(bytes.size());
  const auto hole =
      std::find_if(free_.begin(), free_.end(), [&](const auto& f) { return f.second >= space; });
  const uint64_t offset = hole == free_.end() ? end_ : hole->first;
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t wrote =
        pwrite(file_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const Error error = Failed("write", folder_, std::strerror(wrote < 0 ? errno : ENOSPC));
      if (hole != free_.end()) (void)EraseBytes(file_, offset, done);
      CutAtEnd();
      return error;
    }
    done += static_cast<size_t>(wrote);
  }
  if (hole == free_.end()) {
    end_ += space;
  } else {
    if (hole->second > space) free_[offset + space] = hole->second - space;
    free_.erase(hole);
  }
  return Ticket{offset, bytes.size(), ChecksumOf(bytes)};
}

Result<std::string> SpillFile::Read(const Ticket& ticket) const {
  std::string bytes(ticket.bytes, '\0');
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = pread(file_, bytes.data() + done, bytes.size() - done,
                              static_cast<off_t>(ticket.offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Failed("read", folder_, got < 0 ? std::strerror(errno) : "it ends early");
    done += static_cast<size_t>(got);
  }
  if (ChecksumOf(bytes) != ticket.checksum) {
    return Failed("read", folder_, "its bytes are not those that were written");
  }
  return bytes;
}

void SpillFile::Free(const Ticket& ticket) {
  uint64_t begin = ticket.offset;
  uint64_t end = begin + SpaceOf(ticket.bytes);
  const auto after = free_.lower_bound(begin);
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == begin) {
      begin = before->first;
      free_.erase(before);
    }
  }
  if (after != free_.end() && after->first == end) {
    end += after->second;
    free_.erase(after);
  }
  if (end < end_) {
    free_[begin] = end - begin;
    // A disk that takes neither holes nor zeros keeps the bytes where nobody can read them, since
    // the file has no name.
    (void)EraseBytes(file_, ticket.offset, SpaceOf(ticket.bytes));
    return;
  }
  end_ = begin;
  CutAtEnd();
}

// A file that cannot be cut is only larger than it needs to be.
void SpillFile::CutAtEnd() {
  (void)!ftruncate(file_, static_cast<off_t>(end_));
}

}  // namespace nudge
