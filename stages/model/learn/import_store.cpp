#include "stages/model/learn/import_store.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "stages/files.h"
#include "stages/hash.h"
#include "stages/state.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr uint8_t kFormat = 1;
constexpr std::string_view kSuffix = ".adapter";
constexpr size_t kDigits = 64;                  // of a SHA-256
constexpr uint64_t kOverheadBytes = 64 * 1024;  // of a file, beside the weights

bool IsSha256(std::string_view text) {
  return text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Error NoName(const std::string& sha256) {
  return {Code::kWrongAdapter, "import store: '" + sha256.substr(0, kDigits) + "' is no SHA-256",
          "give 64 lower-case hex digits"};
}

// `name` is below the state folder, whose place is the host's business.
Error Failed(const std::string& what, const std::string& name, const Error& reason) {
  return {
      Code::kUnreadableFile,
      "import store: cannot " + what + " imports" + (name.empty() ? "" : "/" + name) +
          " in the state folder: " + reason.message,
      reason.remedy.empty() ? "check the state folder's permissions and its disk" : reason.remedy};
}

// With its own name in it, so that no other's file is taken for it.
std::string Encode(const std::string& sha256, const AdapterVersion& version) {
  ByteWriter out;
  out.U8(kFormat);
  out.Text(sha256);
  out.Text(version.digest);
  out.Text(version.parent_digest);
  const LearnCounts& counts = version.counts;
  for (const uint64_t count : {counts.steps, counts.examples, counts.corrections, counts.ups,
                               counts.downs, counts.refused}) {
    out.U64(count);
  }
  out.Text(version.weights);
  std::string bytes = out.Take();
  return bytes + Sha256Hex(bytes);
}

std::optional<AdapterVersion> Decode(const std::string& sha256, std::string_view bytes) {
  if (bytes.size() < kDigits) return std::nullopt;
  const std::string_view seal = bytes.substr(bytes.size() - kDigits);
  bytes.remove_suffix(kDigits);
  if (Sha256Hex(bytes) != seal) return std::nullopt;
  ByteReader in(bytes);
  AdapterVersion version;
  const bool is_it = in.U8() == kFormat && in.View() == sha256;
  version.digest = in.Text();
  version.parent_digest = in.Text();
  LearnCounts& counts = version.counts;
  for (uint64_t* count : {&counts.steps, &counts.examples, &counts.corrections, &counts.ups,
                          &counts.downs, &counts.refused}) {
    *count = in.U64();
  }
  version.weights = in.Text();
  if (!is_it || !in.complete()) return std::nullopt;
  return version;
}

}  // namespace

std::string ImportStore::PathOf(std::string_view sha256) const {
  return folder_ + "/" + std::string(sha256) + std::string(kSuffix);
}

Result<Nothing> ImportStore::Put(const std::string& sha256, const AdapterVersion& version) const {
  if (!IsSha256(sha256)) return NoName(sha256);
  if (version.weights.size() > kBytesMax) {
    return Error{Code::kTooLarge,
                 "import store: " + std::to_string(version.weights.size()) +
                     " bytes of weights, at most " + std::to_string(kBytesMax) + " can be kept",
                 "import an adapter of a smaller rank"};
  }
  if (auto made = MakeFolders(folder_); !made.ok()) return Failed("make", "", made.error());
  if (auto put = ReplaceFile(PathOf(sha256), Encode(sha256, version)); !put.ok()) {
    return Failed("write", sha256, put.error());
  }
  return Nothing{};
}

Result<std::optional<AdapterVersion>> ImportStore::Find(const std::string& sha256) const {
  if (!IsSha256(sha256)) return NoName(sha256);
  const std::string path = PathOf(sha256);
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status) && (!error || error == std::errc::no_such_file_or_directory)) {
    return std::optional<AdapterVersion>();
  }
  if (fs::exists(status) &&
      (!fs::is_regular_file(status) || fs::file_size(path, error) > kBytesMax + kOverheadBytes)) {
    return std::optional<AdapterVersion>();
  }
  const auto bytes = ReadFile(path, kBytesMax + kOverheadBytes);
  if (!bytes.ok()) return Failed("read", sha256, bytes.error());
  return Decode(sha256, *bytes);
}

Result<Nothing> ImportStore::Keep(const std::set<std::string>& kept) const {
  std::vector<fs::path> others;
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool is_kept =
        name.ends_with(kSuffix) && kept.contains(name.substr(0, name.size() - kSuffix.size()));
    if (!is_kept) others.push_back(entry->path());
  }
  if (error == std::errc::no_such_file_or_directory) return Nothing{};  // nothing was put yet
  if (error) return Failed("read", "", {Code::kUnreadableFile, error.message(), ""});
  std::sort(others.begin(), others.end());
  Result<Nothing> done = Nothing{};
  for (const fs::path& other : others) {
    std::error_code failed;
    fs::remove_all(other, failed);
    if (failed && done.ok()) {
      done = Failed("remove", other.filename().string(),
                    {Code::kUnreadableFile, failed.message(), ""});
    }
  }
  if (done.ok() && !others.empty()) {
    if (auto synced = SyncFolder(folder_); !synced.ok()) return Failed("sync", "", synced.error());
  }
  return done;
}

}  // namespace nudge
