#include "stages/model/adapters/snapshot_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "stages/files.h"
#include "stages/hash.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/adapters/peft_file.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint32_t kFormat = 1;
constexpr size_t kMaxManifest = size_t{1} << 20;  // bytes
constexpr size_t kMaxFolderName = 160;            // bytes; file systems allow 255
// Snapshots are for other programs too: those of the folder's group may read them.
constexpr mode_t kFileMode = 0640;
constexpr mode_t kFolderMode = 0750;
constexpr size_t kDigestDigits = 12;  // of a digest in a folder's name
constexpr std::array<const char*, kLoraModules> kModules{"query", "key", "value", "output",
                                                         "gate",  "up",  "down"};

Error Failed(const std::string& what, const std::string& path, const Error& reason) {
  return {Code::kUnreadableFile, "snapshot: cannot " + what + " " + path + ": " + reason.message,
          reason.remedy.empty() ? "make the snapshot folder writable, or set another one"
                                : reason.remedy + ", or set another snapshot folder"};
}

Error BadManifest(const std::string& path, const std::string& what) {
  return {Code::kUnreadableFile, "snapshot: " + path + ": " + what,
          "give the folder of a snapshot that nudge wrote"};
}

// ---- Files --------------------------------------------------------------------------------------

std::optional<Error> Synced(const std::string& path) {
  const Result<Nothing> synced = SyncFolder(path);
  return synced ? std::nullopt : std::optional(Failed("sync", path, synced.error()));
}

std::optional<Error> WriteFile(const std::string& path, std::string_view bytes) {
  const auto file = OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, kFileMode);
  if (!file) return Failed("create", path, file.error());
  if (const auto written = WriteAll(*file, bytes); !written) {
    return Failed("write", path, written.error());
  }
  if (fsync(**file) != 0) return Failed("sync", path, FileError(errno));
  return std::nullopt;
}

// ---- One snapshot -------------------------------------------------------------------------------

struct NamedFile {
  std::string name;
  std::string bytes;
};

// A hidden folder beside the snapshot's place; gone with its files unless it was renamed.
class HiddenFolder {
 public:
  explicit HiddenFolder(std::string path) : path_(std::move(path)) {}
  ~HiddenFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  HiddenFolder(const HiddenFolder&) = delete;
  HiddenFolder& operator=(const HiddenFolder&) = delete;
  const std::string& path() const { return path_; }
  void Release() { path_.clear(); }

 private:
  std::string path_;
};

// What a killed process left of this snapshot. Another process writing the same one right now fails
// with an error and writes it again.
void RemoveLeftovers(const std::string& parent, const std::string& prefix) {
  std::error_code ignored;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path, ignored);
}

std::optional<Error> CompareWithExisting(const std::string& path,
                                         const std::vector<NamedFile>& files) {
  for (const NamedFile& file : files) {
    const auto bytes = ReadFile(path + "/" + file.name, file.bytes.size());
    if (!bytes || *bytes != file.bytes) {
      return Error{Code::kUnreadableFile,
                   "snapshot: " + path + "/" + file.name +
                       " is damaged: its bytes are not those "
                       "that were written there",
                   "move that folder away: it is written again"};
    }
  }
  return std::nullopt;
}

// Makes parent/name hold these files, whole and synced. `parent` is in the snapshot folder.
std::optional<Error> Publish(const std::string& parent, const std::string& name,
                             const std::vector<NamedFile>& files) {
  const std::string above = fs::path(parent).parent_path().parent_path().string();
  auto made = MakeFolders(above);  // not ours to open to a group
  if (made) made = MakeFolders(parent, kFolderMode);
  if (!made) return Failed("create", parent, made.error());
  const std::string place = parent + "/" + name;
  if (access(place.c_str(), F_OK) != 0) {
    const std::string prefix = ".tmp-" + name + "-";
    RemoveLeftovers(parent, prefix);
    std::string pattern = parent + "/" + prefix + "XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr)
      return Failed("create a folder in", parent, FileError(errno));
    HiddenFolder hidden(pattern);
    if (chmod(pattern.c_str(), kFolderMode) != 0) {
      return Failed("open up", pattern, FileError(errno));
    }
    for (const NamedFile& file : files) {
      if (auto error = WriteFile(hidden.path() + "/" + file.name, file.bytes)) return error;
    }
    if (auto error = Synced(hidden.path())) return error;
    if (rename(hidden.path().c_str(), place.c_str()) == 0) {
      hidden.Release();
      return Synced(parent);
    }
    if (errno != ENOTEMPTY && errno != EEXIST) return Failed("rename to", place, FileError(errno));
  }
  if (auto error = CompareWithExisting(place, files)) return error;
  return Synced(parent);  // whoever wrote it may not have come this far
}

Json ShapeJson(const LoraShape& shape) {
  Json modules = Json::object();
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (shape.enabled[m]) modules[kModules[m]] = {{"in", shape.in[m]}, {"out", shape.out[m]}};
  }
  return {
      {"layers", shape.layers}, {"rank", shape.rank}, {"alpha", shape.alpha}, {"modules", modules}};
}

Result<std::string> ManifestText(const LoraShape& shape, const AdapterManifest& manifest,
                                 const std::string& values_digest,
                                 const std::vector<NamedFile>& files) {
  Json listed = Json::object();
  for (const NamedFile& file : files) {
    listed[file.name] = {{"size_bytes", file.bytes.size()}, {"sha256", Sha256Hex(file.bytes)}};
  }
  const Json json = {{"format", kFormat},
                     {"tenant", manifest.tenant},
                     {"version", manifest.version},
                     {"digest", manifest.digest},
                     {"parent_digest", manifest.parent_digest},
                     {"values_digest", values_digest},
                     {"base",
                      {{"sha256", manifest.base_sha256},
                       {"architecture", manifest.base_architecture},
                       {"name", manifest.base_name},
                       {"head_size", manifest.base_head_size}}},
                     {"counts",
                      {{"steps", manifest.steps},
                       {"examples", manifest.examples},
                       {"corrections", manifest.corrections},
                       {"ups", manifest.ups},
                       {"downs", manifest.downs}}},
                     {"shape", ShapeJson(shape)},
                     {"files", listed}};
  try {
    return json.dump(2) + "\n";
  } catch (const Json::type_error&) {
    return Error{Code::kWrongAdapter, "snapshot: the tenant's or the base's name is not UTF-8", ""};
  }
}

// ---- Reading ------------------------------------------------------------------------------------

// Takes typed fields out of JSON and remembers the first that is not what it should be.
class Fields {
 public:
  std::string Text(const Json& object, const char* key) {
    const Json* value = Find(object, key);
    if (value && value->is_string()) return value->get<std::string>();
    return Miss(key), std::string();
  }
  uint64_t Number(const Json& object, const char* key, uint64_t most = UINT64_MAX) {
    const Json* value = Find(object, key);
    if (value && value->is_number_unsigned() && value->get<uint64_t>() <= most) {
      return value->get<uint64_t>();
    }
    return Miss(key), 0;
  }
  uint32_t Small(const Json& object, const char* key) {
    return static_cast<uint32_t>(Number(object, key, UINT32_MAX));
  }
  float Real(const Json& object, const char* key) {
    const Json* value = Find(object, key);
    if (value && value->is_number()) return value->get<float>();
    return Miss(key), 0.0F;
  }
  const Json& Object(const Json& object, const char* key) {
    static const Json kEmpty = Json::object();
    const Json* value = Find(object, key);
    if (value && value->is_object()) return *value;
    Miss(key);
    return kEmpty;
  }
  const std::string& missed() const { return missed_; }

 private:
  static const Json* Find(const Json& object, const char* key) {
    const auto at = object.find(key);
    return at == object.end() ? nullptr : &*at;
  }
  void Miss(const char* key) {
    if (missed_.empty()) missed_ = key;
  }
  std::string missed_;
};

LoraShape ReadShape(Fields& fields, const Json& json) {
  LoraShape shape;
  shape.layers = fields.Small(json, "layers");
  shape.rank = fields.Small(json, "rank");
  shape.alpha = fields.Real(json, "alpha");
  const Json& modules = fields.Object(json, "modules");
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (!modules.contains(kModules[m])) continue;
    const Json& module = fields.Object(modules, kModules[m]);
    shape.enabled[m] = true;
    shape.in[m] = fields.Small(module, "in");
    shape.out[m] = fields.Small(module, "out");
  }
  return shape;
}

AdapterManifest ReadAdapter(Fields& fields, const Json& json) {
  AdapterManifest manifest;
  manifest.tenant = fields.Text(json, "tenant");
  manifest.version = fields.Small(json, "version");
  manifest.digest = fields.Text(json, "digest");
  manifest.parent_digest = fields.Text(json, "parent_digest");
  const Json& base = fields.Object(json, "base");
  manifest.base_sha256 = fields.Text(base, "sha256");
  manifest.base_architecture = fields.Text(base, "architecture");
  manifest.base_name = fields.Text(base, "name");
  manifest.base_head_size = fields.Small(base, "head_size");
  const Json& counts = fields.Object(json, "counts");
  manifest.steps = fields.Number(counts, "steps");
  manifest.examples = fields.Number(counts, "examples");
  manifest.corrections = fields.Number(counts, "corrections");
  manifest.ups = fields.Number(counts, "ups");
  manifest.downs = fields.Number(counts, "downs");
  return manifest;
}

}  // namespace

Result<SnapshotRef> WriteSnapshot(const std::string& folder, const LoraWeights& weights,
                                  const AdapterManifest& manifest) {
  auto gguf = EncodeGguf(weights, manifest);
  if (!gguf) return gguf.error();
  if (Digest(weights) != manifest.digest) {
    return Error{Code::kWrongAdapter, "snapshot: the manifest's digest is not that of the weights",
                 ""};
  }
  auto peft = EncodePeft(weights, manifest);
  if (!peft) return peft.error();
  const auto rounded = RoundTo(AdapterPrecision::kF16, weights);
  if (!rounded) return rounded.error();

  SnapshotRef reference;
  reference.sha256 = Sha256Hex(*gguf);
  std::vector<NamedFile> files{{"adapter.gguf", std::move(gguf).value()},
                               {"adapter_model.safetensors", std::move(peft.value().safetensors)},
                               {"adapter_config.json", std::move(peft.value().config)}};
  auto text = ManifestText(weights.shape, manifest, Digest(*rounded), files);
  if (!text) return text.error();
  files.push_back({"manifest.json", std::move(text).value()});

  const std::string tenant = FolderNameOf(manifest.tenant);
  const std::string name = std::to_string(manifest.version) + "-" +
                           manifest.digest.substr(0, kDigestDigits) + "-" +
                           reference.sha256.substr(0, kDigestDigits);
  if (auto error = Publish(folder + "/" + tenant, name, files)) return *error;
  reference.uri = tenant + "/" + name;
  reference.version = manifest.version;
  reference.digest = manifest.digest;
  reference.parent_digest = manifest.parent_digest;
  reference.base_sha256 = manifest.base_sha256;
  return reference;
}

Result<SnapshotManifest> ReadSnapshotManifest(const std::string& path) {
  std::error_code ignored;
  const std::string file = fs::is_directory(path, ignored) ? path + "/manifest.json" : path;
  const auto text = ReadFile(file, kMaxManifest);
  if (!text) {
    return Error{Code::kUnreadableFile,
                 "snapshot: cannot read " + file + ": " + text.error().message,
                 "check the path, and that the snapshot was copied whole"};
  }
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return BadManifest(file, "is not a JSON object");
  Fields fields;
  const uint32_t format = fields.Small(json, "format");
  if (fields.missed().empty() && format != kFormat) {
    return BadManifest(file, "format " + std::to_string(format) + " is not known");
  }
  SnapshotManifest manifest;
  manifest.adapter = ReadAdapter(fields, json);
  manifest.values_digest = fields.Text(json, "values_digest");
  manifest.shape = ReadShape(fields, fields.Object(json, "shape"));
  const Json& listed = fields.Object(json, "files");
  for (const auto& [name, entry] : listed.items()) {
    if (!entry.is_object()) return BadManifest(file, "files." + name + " is not an object");
    manifest.files[name] = {fields.Number(entry, "size_bytes"), fields.Text(entry, "sha256")};
  }
  if (!fields.missed().empty()) {
    return BadManifest(file, fields.missed() + " is missing or not what it should be");
  }
  return manifest;
}

Result<ImportedAdapter> ReadSnapshot(const std::string& path, const std::string& sha256,
                                     const AdapterExpectation& expected) {
  const auto files = ReadAdapterFiles(path, sha256);
  if (!files) return files.error();
  return DecodeFiles(*files, expected);
}

std::string FolderNameOf(const std::string& tenant) {
  std::string name;
  for (const char letter : tenant) {
    const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                       (letter >= '0' && letter <= '9') || letter == '-' || letter == '_' ||
                       (letter == '.' && !name.empty());
    if (plain) {
      name += letter;
      continue;
    }
    char escaped[4];
    std::snprintf(escaped, sizeof escaped, "=%02X", static_cast<unsigned char>(letter));
    name += escaped;
  }
  if (name.size() <= kMaxFolderName) return name;
  return name.substr(0, kMaxFolderName - 66) + "==" + Sha256Hex(tenant);
}

}  // namespace nudge
