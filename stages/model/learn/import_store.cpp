#include "stages/model/learn/import_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "stages/hash.h"
#include "stages/state.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;
constexpr size_t kSealBytes = 32;

Error CannotWrite(const std::string& what) {
  return {Code::kUnreadableFile,
          "the state cannot keep an imported adapter: " + what + ": " + std::strerror(errno),
          "free space on the state's disk, or mend its rights, and send the import again"};
}

bool WriteAll(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

Result<Nothing> ImportStore::Put(const std::string& sha256, const AdapterVersion& version) const {
  if (folder_.empty()) return Nothing{};
  ByteWriter out;
  out.U8(kFormat);
  out.Text(version.digest);
  out.Text(version.weights);
  std::string bytes = out.Take();
  const Sha256Digest seal = Sha256(bytes);
  bytes.append(reinterpret_cast<const char*>(seal.data()), kSealBytes);

  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  std::filesystem::permissions(folder_, std::filesystem::perms::owner_all, error);
  const std::string path = folder_ + "/" + sha256, part = path + ".part";
  const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return CannotWrite("a file cannot be made");
  const bool written = WriteAll(file, bytes) && fsync(file) == 0;
  const int failed = errno;
  close(file);
  if (!written || rename(part.c_str(), path.c_str()) != 0) {
    if (!written) errno = failed;
    const Error refused = CannotWrite("it cannot be written");
    unlink(part.c_str());
    return refused;
  }
  const int directory = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    fsync(directory);
    close(directory);
  }
  return Nothing{};
}

Result<std::shared_ptr<const AdapterVersion>> ImportStore::Find(const std::string& sha256,
                                                                Teacher& teacher) const {
  const std::shared_ptr<const AdapterVersion> nothing;
  if (folder_.empty()) return nothing;
  std::ifstream file(folder_ + "/" + sha256, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file || bytes.size() < kSealBytes) return nothing;
  const std::string_view body(bytes.data(), bytes.size() - kSealBytes);
  const Sha256Digest seal = Sha256(body);
  if (std::memcmp(seal.data(), bytes.data() + body.size(), kSealBytes) != 0) return nothing;
  ByteReader in(body);
  if (in.U8() != kFormat) return nothing;
  const std::string digest = in.Text();
  const std::string weights = in.Text();
  if (!in.complete()) return nothing;
  return teacher.LoadVersion(weights, digest, "", {});
}

}  // namespace nudge
