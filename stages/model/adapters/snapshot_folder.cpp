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

#include "stages/hash.h"
#include "stages/model/adapters/peft_file.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint32_t kFormat = 1;
constexpr size_t kMaxManifest = size_t{1} << 20;  // bytes
constexpr size_t kMaxAdapter = size_t{1} << 30;   // bytes of an adapter.gguf to read at all
constexpr size_t kMaxFolderName = 160;            // bytes; file systems allow 255
constexpr const char* kPeftModel = "adapter_model.safetensors";
constexpr size_t kDigestDigits = 12;  // of a digest in a folder's name
constexpr std::array<const char*, kLoraModules> kModules{"query", "key", "value", "output",
                                                         "gate",  "up",  "down"};

Error Failed(const std::string& what, const std::string& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return {Code::kUnreadableFile,
          "snapshot: cannot " + what + " " + path + ": " + std::generic_category().message(error),
          full ? "free space on that disk, or set another snapshot folder"
               : "make the snapshot folder writable, or set another one"};
}

Error BadManifest(const std::string& path, const std::string& what) {
  return {Code::kUnreadableFile, "snapshot: " + path + ": " + what,
          "give the folder of a snapshot that nudge wrote"};
}

// ---- Files --------------------------------------------------------------------------------------

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int operator*() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_;
};

std::optional<Error> SyncFolder(const std::string& path) {
  const Descriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || fsync(*folder) != 0) return Failed("sync", path, errno);
  return std::nullopt;
}

std::optional<Error> WriteFile(const std::string& path, std::string_view bytes) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file) return Failed("create", path, errno);
  while (!bytes.empty()) {
    const ssize_t written = write(*file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("write", path, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(*file) != 0) return Failed("sync", path, errno);
  return std::nullopt;
}

Result<std::string> ReadFile(const std::string& path, size_t most) {
  const auto failed = [&](const std::string& why) {
    return Error{Code::kUnreadableFile, "snapshot: cannot read " + path + ": " + why,
                 "check the path, and that the snapshot was copied whole"};
  };
  const auto reason = [] { return std::generic_category().message(errno); };
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file || fstat(*file, &status) != 0) return failed(reason());
  if (!S_ISREG(status.st_mode)) return failed("it is not a file");
  if (static_cast<uint64_t>(status.st_size) > most) {
    return failed("it has more than " + std::to_string(most) + " bytes");
  }
  std::string bytes(static_cast<size_t>(status.st_size), '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t count = read(*file, bytes.data() + size, bytes.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(reason());
    if (count == 0) break;  // it was cut short meanwhile: what reads it will say so
    size += static_cast<size_t>(count);
  }
  bytes.resize(size);
  return bytes;
}

// Creates the folder and those above it, each synced into the one above.
std::optional<Error> MakeFolder(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return std::nullopt;
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (parent != path) {
    if (auto error = MakeFolder(parent)) return error;
  }
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return Failed("create", path, errno);
  return SyncFolder(parent);
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

// Makes parent/name hold these files, whole and synced.
std::optional<Error> Publish(const std::string& parent, const std::string& name,
                             const std::vector<NamedFile>& files) {
  if (auto error = MakeFolder(parent)) return error;
  const std::string place = parent + "/" + name;
  if (access(place.c_str(), F_OK) != 0) {
    const std::string prefix = ".tmp-" + name + "-";
    RemoveLeftovers(parent, prefix);
    std::string pattern = parent + "/" + prefix + "XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) return Failed("create a folder in", parent, errno);
    HiddenFolder hidden(pattern);
    if (chmod(pattern.c_str(), 0755) != 0) return Failed("open up", pattern, errno);
    for (const NamedFile& file : files) {
      if (auto error = WriteFile(hidden.path() + "/" + file.name, file.bytes)) return error;
    }
    if (auto error = SyncFolder(hidden.path())) return error;
    if (rename(hidden.path().c_str(), place.c_str()) == 0) {
      hidden.Release();
      return SyncFolder(parent);
    }
    if (errno != ENOTEMPTY && errno != EEXIST) return Failed("rename to", place, errno);
  }
  if (auto error = CompareWithExisting(place, files)) return error;
  return SyncFolder(parent);  // whoever wrote it may not have come this far
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
  if (!text) return text.error();
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
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  std::string file = is_folder ? path + "/adapter.gguf" : path;
  if (is_folder && !fs::exists(file, ignored)) file = path + "/" + kPeftModel;
  const auto bytes = ReadFile(file, kMaxAdapter);
  if (!bytes) return bytes.error();
  if (!sha256.empty() && Sha256Hex(*bytes) != sha256) {
    return Error{Code::kUnreadableFile,
                 "snapshot: " + file + " has SHA-256 " + Sha256Hex(*bytes) + ", expected " + sha256,
                 "copy the snapshot again, or name the SHA-256 of the file that is meant"};
  }
  const fs::path place(file);
  if (place.filename() != kPeftModel) return DecodeGguf(*bytes, expected);
  const auto config =
      ReadFile((place.parent_path() / "adapter_config.json").string(), kMaxPeftConfig);
  if (!config) return config.error();
  auto imported = DecodePeft(*config, *bytes, expected);
  if (imported.ok()) return imported;
  Error error = imported.error();
  error.message = place.parent_path().string() + ": " + error.message;
  return error;
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
