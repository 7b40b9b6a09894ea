// Files and folders that nudge makes: whole or not there, and their owner's alone. Bytes -> disk.
//
// Whatever the umask, a new file has mode 0600 and a new folder 0700 unless the caller says
// otherwise; what is there already keeps its mode, so that an operator's chmod lasts. Blocking
// calls for threads that may wait for a disk; any thread.
//
// The message of an error is the reason alone ("No such file or directory"), since the caller knows
// what people call the file. Its remedy is empty, or says to make room.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "stages/result.h"

namespace nudge {

inline constexpr mode_t kPrivateFile = 0600;
inline constexpr mode_t kPrivateFolder = 0700;

// Closes what it holds.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  int operator*() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  int Release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

// As errno says it.
Error FileError(int error_number);

// Opens with these flags of open(2); O_CREAT makes a file of that mode, whatever the umask.
Result<Descriptor> OpenFile(const std::string& path, int flags, mode_t mode = kPrivateFile);

// All of a regular file of at most so many bytes. What is cut short meanwhile is given as it is.
Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max);

Result<Nothing> WriteAll(const Descriptor& file, std::string_view bytes);

// Folder and those above it that are missing, each synced into the one above.
Result<Nothing> MakeFolders(const std::string& path, mode_t mode = kPrivateFolder);

// So that names in it outlive a power cut.
Result<Nothing> SyncFolder(const std::string& path);

// The file holds these bytes, synced, or is as it was before: under a name that begins with
// ".tmp-NAME-" first, then renamed. One that is there gives its mode to the new one.
Result<Nothing> ReplaceFile(const std::string& path, std::string_view bytes,
                            mode_t mode = kPrivateFile);

// The bytes of a file become zeros that take no room where the filesystem knows holes, else zeros.
Result<Nothing> EraseBytes(int file, uint64_t offset, uint64_t bytes);
Result<Nothing> OverwriteWithZeros(int file, uint64_t offset, uint64_t bytes);

}  // namespace nudge
