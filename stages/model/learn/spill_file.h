// Bytes that are put away for as long as the process lives: string -> [SpillFile] -> string.
//
// One file without a name, its owner's alone, so it is gone with the process however that ends.
// What is freed is off the disk at once: at the file's end by cutting it, elsewhere by a hole, or
// where the filesystem has none by zeros; its space is used again. One caller at a time, any
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

class SpillFile {
 public:
  struct Ticket {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t checksum = 0;
  };

  // Space is handed out in multiples of this, so that what grows a little fits where it was.
  static constexpr uint64_t kGrainBytes = uint64_t{1} << 20;

  // Error kUnreadableFile: no file can be made in the folder, which must be there.
  static Result<SpillFile> Open(const std::string& folder);
  ~SpillFile();
  SpillFile(SpillFile&& other) noexcept;
  SpillFile& operator=(SpillFile&&) = delete;

  // Error kUnreadableFile: the disk is full, or does not write; nothing has changed.
  Result<Ticket> Put(std::string_view bytes);

  // What was put. Error kUnreadableFile: the disk does not read, or gave other bytes.
  Result<std::string> Read(const Ticket& ticket) const;

  // The ticket's bytes are gone, and its space is for others from here on.
  void Free(const Ticket& ticket);

  uint64_t end_bytes() const { return end_; }

 private:
  SpillFile(int file, std::string folder) : file_(file), folder_(std::move(folder)) {}
  void CutAtEnd();

  int file_;
  std::string folder_;
  uint64_t end_ = 0;
  std::map<uint64_t, uint64_t> free_;  // offset -> bytes; no two touch, none touches the end
};

}  // namespace nudge
