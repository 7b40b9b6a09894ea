#include "stages/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

namespace nudge {

namespace fs = std::filesystem;

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

Error FileError(int error_number) {
  const bool full = error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
  return {Code::kUnreadableFile, std::generic_category().message(error_number),
          full ? "make room on that disk" : ""};
}

Result<Descriptor> OpenFile(const std::string& path, int flags, mode_t mode) {
  // First without O_CREAT, to know whether the file is new: only then its mode is ours to set.
  if ((flags & O_EXCL) == 0) {
    const int found = open(path.c_str(), (flags & ~O_CREAT) | O_CLOEXEC);
    if (found >= 0) return Descriptor(found);
    if (errno != ENOENT || (flags & O_CREAT) == 0) return FileError(errno);
  }
  Descriptor made(open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!made || fchmod(*made, mode) != 0) return FileError(errno);
  return made;
}

Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max) {
  // Without O_NONBLOCK a pipe would be waited for.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file || fstat(*file, &status) != 0) return FileError(errno);
  if (!S_ISREG(status.st_mode)) return Error{Code::kUnreadableFile, "it is not a file", ""};
  if (static_cast<uint64_t>(status.st_size) > bytes_max) {
    return Error{Code::kUnreadableFile, "it has more than " + std::to_string(bytes_max) + " bytes",
                 ""};
  }
  std::string bytes(static_cast<size_t>(status.st_size), '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t count = read(*file, bytes.data() + size, bytes.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(errno);
    if (count == 0) break;  // what reads the bytes will say so
    size += static_cast<size_t>(count);
  }
  bytes.resize(size);
  return bytes;
}

Result<Nothing> WriteAll(const Descriptor& file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(*file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return Nothing{};
}

Result<Nothing> MakeFolders(const std::string& path, mode_t mode) {
  struct stat status {};
  if (path.empty() || (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))) {
    return Nothing{};
  }
  const fs::path parent = fs::path(path).parent_path();
  if (parent != path) {
    if (auto made = MakeFolders(parent.string(), mode); !made) return made;
  }
  if (mkdir(path.c_str(), mode) == 0) {
    if (chmod(path.c_str(), mode) != 0) return FileError(errno);
  } else if (errno != EEXIST || (stat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode))) {
    return FileError(errno);
  }
  return SyncFolder(parent.empty() ? "." : parent.string());
}

Result<Nothing> SyncFolder(const std::string& path) {
  const Descriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || fsync(*folder) != 0) return FileError(errno);
  return Nothing{};
}

Result<Nothing> ReplaceFile(const std::string& path, std::string_view bytes, mode_t mode) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) mode = status.st_mode & 07777;
  const fs::path folder = fs::path(path).parent_path();
  std::string fresh =
      (folder / (".tmp-" + fs::path(path).filename().string() + "-XXXXXX")).string();
  const Descriptor file(mkostemp(fresh.data(), O_CLOEXEC));
  if (!file) return FileError(errno);
  Result<Nothing> written = fchmod(*file, mode) == 0 ? WriteAll(file, bytes) : FileError(errno);
  if (written && fsync(*file) != 0) written = FileError(errno);
  if (written && rename(fresh.c_str(), path.c_str()) != 0) written = FileError(errno);
  if (!written) {
    unlink(fresh.c_str());
    return written;
  }
  return SyncFolder(folder.empty() ? "." : folder.string());
}

Result<Nothing> EraseBytes(int file, uint64_t offset, uint64_t bytes) {
#ifdef FALLOC_FL_PUNCH_HOLE
  if (bytes == 0 || fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0) {
    return Nothing{};
  }
#endif
  return OverwriteWithZeros(file, offset, bytes);
}

Result<Nothing> OverwriteWithZeros(int file, uint64_t offset, uint64_t bytes) {
  const std::vector<char> zeros(size_t{1} << 16);
  while (bytes > 0) {
    const ssize_t written = pwrite(file, zeros.data(), std::min<uint64_t>(bytes, zeros.size()),
                                   static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno);
    offset += static_cast<uint64_t>(written);
    bytes -= static_cast<uint64_t>(written);
  }
  return Nothing{};
}

}  // namespace nudge
