#include "pipeline/serve/snapshot_shelf.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "stages/model/adapters/snapshot_folder.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

// Of "7-0c36e41241ce-3a7a41e7e9fa"; nothing for a name that is no snapshot's.
std::optional<uint32_t> VersionIn(std::string_view name) {
  uint32_t version = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), version);
  const size_t digits = static_cast<size_t>(end - name.data());
  const bool is_plain = name.find_first_not_of("0123456789abcdef-") == name.npos;
  if (error != std::errc() || !is_plain || digits == name.size() || name[digits] != '-') {
    return std::nullopt;
  }
  return version;
}

using Place = std::pair<uint32_t, std::string>;  // version, name

// All in a tenant's folder, the newest first.
std::vector<Place> PlacesIn(const std::string& folder) {
  std::vector<Place> places;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (const fs::directory_iterator end; !error && at != end; at.increment(error)) {
    std::string name = at->path().filename().string();
    const std::optional<uint32_t> version = VersionIn(name);
    if (version) places.emplace_back(*version, std::move(name));
  }
  std::sort(places.rbegin(), places.rend());
  return places;
}

PublishedSnapshot Published(std::string name, SnapshotManifest manifest) {
  PublishedSnapshot snapshot;
  snapshot.name = std::move(name);
  snapshot.version = manifest.adapter.version;
  snapshot.digest = std::move(manifest.adapter.digest);
  snapshot.values_digest = std::move(manifest.values_digest);
  snapshot.parent_digest = std::move(manifest.adapter.parent_digest);
  snapshot.base_name = std::move(manifest.adapter.base_name);
  snapshot.base_sha256 = std::move(manifest.adapter.base_sha256);
  snapshot.base_architecture = std::move(manifest.adapter.base_architecture);
  snapshot.steps = manifest.adapter.steps;
  snapshot.examples = manifest.adapter.examples;
  for (auto& [file, its] : manifest.files) {
    snapshot.files.push_back({file, its.size_bytes, std::move(its.sha256)});
  }
  return snapshot;
}

}  // namespace

std::string SnapshotShelf::FolderOf(const std::string& tenant) const {
  return folder_ + "/" + FolderNameOf(tenant);
}

std::optional<PublishedSnapshot> SnapshotShelf::Read(const std::string& tenant,
                                                     const std::string& name) const {
  Result<SnapshotManifest> manifest = ReadSnapshotManifest(FolderOf(tenant) + "/" + name);
  if (!manifest.ok() || manifest->adapter.tenant != tenant) return std::nullopt;
  return Published(name, std::move(*manifest));
}

Result<std::vector<PublishedSnapshot>> SnapshotShelf::List(const SnapshotsAsked& asked) const {
  std::vector<PublishedSnapshot> snapshots;
  if (folder_.empty() || asked.tenant.empty()) return snapshots;
  const std::optional<uint32_t> before = VersionIn(asked.before);
  if (!asked.before.empty() && !before) return snapshots;
  for (const Place& place : PlacesIn(FolderOf(asked.tenant))) {
    if (before && place >= Place(*before, asked.before)) continue;
    if (snapshots.size() == asked.snapshots_max) break;
    std::optional<PublishedSnapshot> snapshot = Read(asked.tenant, place.second);
    if (snapshot) snapshots.push_back(*std::move(snapshot));
  }
  return snapshots;
}

// The name that a request means: its own, or that of the only snapshot of a version. Empty: none.
std::string SnapshotShelf::NameOf(const std::string& tenant, const std::string& snapshot) const {
  if (VersionIn(snapshot)) return snapshot;
  const bool is_number = !snapshot.empty() && snapshot.size() <= 10 &&
                         snapshot.find_first_not_of("0123456789") == snapshot.npos;
  if (!is_number) return "";
  std::string name;
  for (Place& place : PlacesIn(FolderOf(tenant))) {
    if (std::to_string(place.first) != snapshot) continue;
    if (!name.empty()) return "";
    name = std::move(place.second);
  }
  return name;
}

Result<std::optional<SnapshotFile>> SnapshotShelf::Open(const std::string& tenant,
                                                        const std::string& snapshot,
                                                        const std::string& file) const {
  const std::optional<SnapshotFile> none;
  if (folder_.empty() || tenant.empty()) return none;
  const std::string name = NameOf(tenant, snapshot);
  const auto published = name.empty() ? std::nullopt : Read(tenant, name);
  if (!published) return none;
  const auto named =
      std::find_if(published->files.begin(), published->files.end(),
                   [&](const PublishedSnapshot::File& one) { return one.name == file; });
  if (named == published->files.end() || file.find('/') != file.npos) return none;
  const std::string path = FolderOf(tenant) + "/" + name + "/" + file;
  Result<Descriptor> opened = OpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!opened.ok()) return none;
  struct stat status {};
  if (fstat(**opened, &status) != 0 || !S_ISREG(status.st_mode) ||
      static_cast<uint64_t>(status.st_size) != named->size_bytes) {
    return Error{Code::kUnreadableFile, file + " of " + name + " is not what its manifest says",
                 "delete that snapshot, or bring its file back from a copy"};
  }
  return std::optional(
      SnapshotFile{*named, std::make_shared<const Descriptor>(std::move(*opened))});
}

}  // namespace nudge
