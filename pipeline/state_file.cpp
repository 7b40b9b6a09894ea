#include "pipeline/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <tuple>
#include <utility>

namespace nudge {
namespace {

constexpr std::string_view kMagic = "nudge state\n";
constexpr uint32_t kFormat = 1;
constexpr int64_t kRewriteBytes = 8 << 20;  // below this a file may grow as it likes

Error Failed(const std::string& what, const std::string& path) {
  return {Code::kUnreadableFile, "state: cannot " + what + " " + path + ": " + std::strerror(errno),
          "check the folder's permissions and the space on its disk, then start again"};
}

std::string Encode(const Cut& cut) {
  ByteWriter out;
  out.U64(cut.events);
  out.U64(static_cast<uint64_t>(cut.next_offset));
  out.Text({reinterpret_cast<const char*>(cut.chain.data()), cut.chain.size()});
  out.U64(cut.changes.size());
  for (const Change& change : cut.changes) {
    out.Text(change.tenant);
    out.Text(change.kind);
    out.Text(change.id);
    out.U8(change.value.has_value());
    if (change.value) out.Text(*change.value);
  }
  return out.Take();
}

std::optional<Cut> Decode(int32_t partition, std::string_view payload) {
  ByteReader in(payload);
  Cut cut;
  cut.partition = partition;
  cut.events = in.U64();
  cut.next_offset = static_cast<int64_t>(in.U64());
  const std::string chain = in.Text();
  if (chain.size() != cut.chain.size()) return std::nullopt;
  std::copy(chain.begin(), chain.end(), cut.chain.begin());
  const uint64_t count = in.U64();
  for (uint64_t i = 0; i < count && !in.failed(); ++i) {
    Change change;
    change.tenant = in.Text();
    change.kind = in.Text();
    change.id = in.Text();
    if (in.U8() != 0) change.value = in.Text();
    cut.changes.push_back(std::move(change));
  }
  if (!in.complete()) return std::nullopt;
  return cut;
}

std::string Seal(const std::string& payload) {
  ByteWriter out;
  out.U64(payload.size());
  std::string sealed = out.Take();
  sealed += payload;
  const Sha256Digest digest = Sha256(payload);
  sealed.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  return sealed;
}

// The cut at the front of `bytes`, which moves behind it; nothing if it is not whole.
std::optional<Cut> TakeCut(int32_t partition, std::string_view& bytes) {
  constexpr size_t kSeal = sizeof(uint64_t) + sizeof(Sha256Digest);
  if (bytes.size() < kSeal) return std::nullopt;
  const uint64_t size = ByteReader(bytes.substr(0, sizeof(uint64_t))).U64();
  if (size > bytes.size() - kSeal) return std::nullopt;
  const std::string_view payload = bytes.substr(sizeof(uint64_t), size);
  const Sha256Digest digest = Sha256(payload);
  if (std::memcmp(digest.data(), bytes.data() + sizeof(uint64_t) + size, digest.size()) != 0) {
    return std::nullopt;
  }
  std::optional<Cut> cut = Decode(partition, payload);
  if (cut) bytes.remove_prefix(size + kSeal);
  return cut;
}

// Later changes replace earlier ones and stand where the later one stood.
class Merged {
 public:
  void Add(Cut cut) {
    for (Change& change : cut.changes) {
      const auto key = std::make_tuple(change.tenant, change.kind, change.id);
      const auto found = place_.find(key);
      if (found != place_.end()) {
        whole_.changes[found->second].reset();
        place_.erase(found);
      }
      if (!change.value) continue;
      place_[key] = whole_.changes.size();
      whole_.changes.push_back(std::move(change));
    }
    cut.changes.clear();
    whole_.position = std::move(cut);
  }

  Cut Take() {
    Cut cut = std::move(whole_.position);
    for (std::optional<Change>& change : whole_.changes) {
      if (change) cut.changes.push_back(std::move(*change));
    }
    return cut;
  }

 private:
  struct {
    Cut position;
    std::vector<std::optional<Change>> changes;
  } whole_;
  std::map<std::tuple<std::string, std::string, std::string>, size_t> place_;
};

Result<Nothing> WriteSynced(int file, const std::string& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return Failed("write", path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  if (::fsync(file) != 0) return Failed("sync", path);
  return Nothing{};
}

}  // namespace

StateFile::StateFile(std::string folder, StateIdentity identity)
    : folder_(std::move(folder)), identity_(std::move(identity)) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error || ::access(folder_.c_str(), W_OK) != 0) {
    throw StartError("state: folder " + folder_ + " cannot be written: choose another in " +
                     "checkpoint.folder or change its permissions");
  }
}

std::string StateFile::PathOf(int32_t partition) const {
  return folder_ + "/partition-" + std::to_string(partition) + ".state";
}

std::string StateFile::Header() const {
  ByteWriter out;
  out.U32(kFormat);
  out.Text(identity_.fingerprint);
  out.Text(identity_.configuration);
  return std::string(kMagic) + Seal(out.Take());
}

Result<std::optional<Cut>> StateFile::Newest(int32_t partition, int64_t committed_offset) {
  const std::string path = PathOf(partition);
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::optional<Cut>();
  const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::string_view rest = content;
  const Error foreign{Code::kUnreadableFile, "state: " + path + " is not a state of this nudge",
                      "move it away, or use the nudge that wrote it"};
  if (!rest.starts_with(kMagic)) return foreign;
  rest.remove_prefix(kMagic.size());
  const uint64_t header_size = rest.size() < 8 ? ~uint64_t{0} : ByteReader(rest.substr(0, 8)).U64();
  if (header_size > rest.size() || rest.size() - header_size < 40) return foreign;
  ByteReader header(rest.substr(8, header_size));
  if (header.U32() != kFormat) return foreign;
  StateIdentity written;
  written.fingerprint = header.Text();
  written.configuration = header.Text();
  rest.remove_prefix(header_size + 40);

  Merged merged;
  bool any = false;
  bool ahead = false;
  while (!ahead) {
    std::string_view after = rest;
    std::optional<Cut> cut = TakeCut(partition, after);
    if (!cut) break;
    ahead = cut->next_offset > committed_offset;
    if (ahead) break;
    merged.Add(std::move(*cut));
    any = true;
    rest = after;
  }
  if (!any) {
    if (ahead) {
      return Error{
          Code::kUnreadableFile, "state: " + path + " is ahead of the outcomes that were committed",
          "the output was removed or replaced: remove the state folder too, or restore it"};
    }
    return std::optional<Cut>();
  }
  Cut whole = merged.Take();
  if (written != identity_ && whole.next_offset != committed_offset) {
    return Error{
        Code::kUnreadableFile,
        "state: " + path + " was written with " +
            (written.fingerprint != identity_.fingerprint ? "other models or on another CPU"
                                                          : "another configuration") +
            " and did not stop cleanly",
        "finish with the old one first (a clean stop), or start from an empty state"};
  }
  if (Result<Nothing> rewritten = Rewrite(partition, whole); !rewritten.ok()) {
    return rewritten.error();
  }
  return std::optional<Cut>(std::move(whole));
}

Result<Nothing> StateFile::Rewrite(int32_t partition, const Cut& whole) {
  const std::string path = PathOf(partition);
  const std::string fresh = path + ".new";
  const int file = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return Failed("create", fresh);
  const std::string bytes = Header() + Seal(Encode(whole));
  Result<Nothing> written = WriteSynced(file, fresh, bytes);
  ::close(file);
  if (!written.ok()) {
    ::unlink(fresh.c_str());
    return written;
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return Failed("rename", fresh);
  const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  const auto size = static_cast<int64_t>(bytes.size());
  files_[partition] = {size, size};
  return Nothing{};
}

Result<Nothing> StateFile::Write(const Cut& cut) {
  const auto found = files_.find(cut.partition);
  if (found == files_.end()) return Rewrite(cut.partition, cut);
  Open& open = found->second;
  const std::string path = PathOf(cut.partition);
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) return Failed("open", path);
  const std::string bytes = Seal(Encode(cut));
  Result<Nothing> written = Nothing{};
  if (::lseek(file, open.whole_bytes, SEEK_SET) < 0) {
    written = Failed("seek in", path);
  } else {
    written = WriteSynced(file, path, bytes);
  }
  if (!written.ok()) {
    if (::ftruncate(file, open.whole_bytes) != 0) {
      // What follows the last whole cut is cut off when the file is opened.
    }
    ::close(file);
    return written;
  }
  ::close(file);
  open.whole_bytes += static_cast<int64_t>(bytes.size());
  if (open.whole_bytes > 2 * open.base_bytes + kRewriteBytes) {
    Result<std::optional<Cut>> whole = Newest(cut.partition, cut.next_offset);
    if (!whole.ok()) return whole.error();
  }
  return Nothing{};
}

}  // namespace nudge
