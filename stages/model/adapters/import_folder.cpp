#include "stages/model/adapters/import_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "stages/files.h"
#include "stages/hash.h"
#include "stages/model/adapters/adapter_parts.h"
#include "stages/model/adapters/peft_file.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxAdapter = uint64_t{1} << 30;  // bytes of a file to read at all
constexpr const char* kGguf = "adapter.gguf";
constexpr const char* kPeftModel = "adapter_model.safetensors";
constexpr const char* kPeftConfig = "adapter_config.json";
constexpr std::array<std::string_view, 6> kPickles{".bin",  ".pt",  ".pth",
                                                   ".ckpt", ".pkl", ".pickle"};
// An adapter that lies deeper than it was looked for: PEFT puts one that has a name, and trainers
// put each checkpoint, into a folder of its own; a Hugging Face cache has snapshots/COMMIT.
constexpr int kFoldersDeep = 3;
constexpr size_t kFoldersSeen = 256;
constexpr size_t kFoldersNamed = 4;

bool IsPickle(const fs::path& file) {
  return std::find(kPickles.begin(), kPickles.end(), file.extension().string()) != kPickles.end();
}

Error Pickled(const std::string& name) {
  return WrongAdapter(name + " is a pickle, which is never opened, since opening it may run code",
                      "save the adapter as safetensors: save_pretrained(FOLDER, "
                      "safe_serialization=True)");
}

// Where things lie, and what messages call them.
class Root {
 public:
  static Result<Root> Confined(const std::string& folder) {
    std::error_code error;
    Root root;
    root.folder_ = fs::canonical(folder, error);
    if (!error) return root;
    return Error{Code::kUnreadableFile,
                 "adapter: the import folder cannot be read: " + error.message(),
                 "make the folder that adapt.import_folder names, or give nudge the right to it"};
  }
  static Root Anywhere() { return {}; }

  // The path behind a name. A folder's links are followed one by one, so that the one that leaves
  // can be named, and nothing beyond it is asked whether it exists.
  Result<fs::path> Locate(const fs::path& name) const {
    std::error_code error;
    if (folder_.empty()) {
      return fs::exists(name, error) ? Result<fs::path>(name) : Missing(name, error);
    }
    fs::path at = folder_;
    fs::path shown;
    for (const fs::path& part : name) {
      if (part.empty() || part == ".") continue;
      shown /= part;
      at = fs::canonical(at / part, error);
      if (error) return Missing(shown, error);
      const auto [end, rest] = std::mismatch(folder_.begin(), folder_.end(), at.begin(), at.end());
      if (end != folder_.end()) {
        return WrongAdapter(shown.string() + " is a link that leaves the import folder",
                            "copy the file that it points to into the import folder, or let "
                            "adapt.import_folder name a folder that holds both (of a Hugging Face "
                            "cache models--ORGANISATION--NAME, not snapshots/COMMIT)");
      }
    }
    return at;
  }

 private:
  static Error Missing(const fs::path& name, const std::error_code& error) {
    if (error && error != std::errc::no_such_file_or_directory &&
        error != std::errc::not_a_directory) {
      return {Code::kUnreadableFile,
              "adapter: cannot read " + name.string() + ": " + error.message(),
              "give nudge the right to read it"};
    }
    return WrongAdapter(name.string() + " is not there",
                        "copy it there first, and name it as it lies below adapt.import_folder");
  }

  fs::path folder_;  // without links; empty: anywhere
};

bool IsThere(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

bool HoldsAdapter(const fs::path& folder) {
  return IsThere(folder / kGguf) || IsThere(folder / kPeftModel);
}

std::vector<fs::path> EntriesOf(const fs::path& folder) {
  std::vector<fs::path> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Names below `name` of folders that hold an adapter. Links are not followed.
std::vector<fs::path> DeeperAdapters(const fs::path& place, const fs::path& name) {
  std::vector<fs::path> found;
  std::vector<fs::path> level{fs::path()};
  size_t seen = 0;
  for (int depth = 0; depth < kFoldersDeep && found.empty(); ++depth) {
    std::vector<fs::path> next;
    for (const fs::path& folder : level) {
      for (const fs::path& entry : EntriesOf(place / folder)) {
        std::error_code error;
        const fs::path deeper = folder / entry;
        if (!fs::is_directory(fs::symlink_status(place / deeper, error))) continue;
        if (++seen > kFoldersSeen) return found;
        if (HoldsAdapter(place / deeper)) found.push_back(name / deeper);
        next.push_back(deeper);
      }
    }
    level = std::move(next);
  }
  return found;
}

// Why a folder has no adapter in it, and what would make it one.
Error NoAdapterIn(const fs::path& place, const fs::path& name) {
  const std::vector<fs::path> deeper = DeeperAdapters(place, name);
  if (!deeper.empty()) {
    std::string named;
    for (size_t i = 0; i < std::min(deeper.size(), kFoldersNamed); ++i) {
      named += (i == 0 ? "" : ", ") + deeper[i].string();
    }
    return WrongAdapter(name.string() + " holds no adapter itself; there is one in " + named +
                            (deeper.size() > kFoldersNamed ? " and others" : ""),
                        "name that folder in data.uri");
  }
  const std::vector<fs::path> entries = EntriesOf(place);
  for (const fs::path& entry : entries) {
    if (IsPickle(entry)) return Pickled((name / entry).string());
  }
  for (const fs::path& entry : entries) {
    if (entry.extension() == ".gguf") {
      return WrongAdapter(name.string() + " has " + entry.string() + " but no " + kGguf,
                          "name the file itself in data.uri");
    }
    if (entry.string().find(".safetensors") != std::string::npos) {
      return WrongAdapter(name.string() + " has " + entry.string() + " but no " + kPeftModel,
                          "save the adapter with PEFT's save_pretrained, which writes it into one "
                          "file of that name");
    }
  }
  return WrongAdapter(name.string() + " holds neither " + kGguf + " nor " + kPeftModel,
                      "name a snapshot's folder, or one that PEFT's save_pretrained wrote");
}

Result<std::string> ReadNamed(const Root& root, const fs::path& name, uint64_t bytes_max) {
  const auto place = root.Locate(name);
  if (!place) return place.error();
  auto bytes = ReadFile(place->string(), bytes_max);
  if (bytes) return bytes;
  return Error{Code::kUnreadableFile,
               "adapter: cannot read " + name.string() + ": " + bytes.error().message,
               "give nudge the right to read it, and see that it was copied whole"};
}

// The weights' file and what it holds: of several names the first with that digest.
Result<AdapterFiles> ReadWeightsOf(const Root& root, const std::vector<fs::path>& names,
                                   const std::string& sha256) {
  std::string seen;
  for (const fs::path& name : names) {
    auto bytes = ReadNamed(root, name, kMaxAdapter);
    if (!bytes) return bytes.error();
    AdapterFiles files{name.string(), std::move(bytes).value(), "", ""};
    files.sha256 = Sha256Hex(files.bytes);
    if (sha256.empty() || files.sha256 == sha256) return files;
    seen += (seen.empty() ? "" : ", ") + files.name + " has SHA-256 " + files.sha256;
  }
  return WrongAdapter(seen + ", expected " + sha256,
                      "copy the file again, or give the SHA-256 of the one that is meant: of "
                      "adapter.gguf, or in a PEFT folder of adapter_model.safetensors");
}

Result<AdapterFiles> ReadBelow(const Root& root, const fs::path& name, const std::string& sha256) {
  if (IsPickle(name)) return Pickled(name.string());
  const auto place = root.Locate(name);
  if (!place) return place.error();
  std::vector<fs::path> names;
  std::error_code error;
  if (fs::is_directory(*place, error)) {
    for (const char* file : {kGguf, kPeftModel}) {
      if (IsThere(*place / file)) names.push_back(name / file);
    }
    if (names.empty()) return NoAdapterIn(*place, name);
  } else {
    names.push_back(name);
  }
  auto files = ReadWeightsOf(root, names, sha256);
  const fs::path file = files ? fs::path(files->name) : fs::path();
  if (!files || file.filename() != kPeftModel) return files;
  auto config = ReadNamed(root, file.parent_path() / kPeftConfig, kMaxPeftConfig);
  if (!config && config.error().code == Code::kWrongAdapter) {
    return WrongAdapter(config.error().message.substr(std::string_view("adapter: ").size()),
                        "an adapter of PEFT is two files: put adapter_config.json beside " +
                            std::string(kPeftModel));
  }
  if (!config) return config.error();
  files.value().config = std::move(config).value();
  return files;
}

}  // namespace

Result<AdapterFiles> ReadImport(const std::string& folder, const std::string& uri,
                                const std::string& sha256) {
  if (folder.empty()) {
    return Error{Code::kWrongAdapter, "imports are not allowed: no import folder is configured",
                 "set adapt.import_folder"};
  }
  const fs::path name(uri);
  const bool climbs = std::find(name.begin(), name.end(), "..") != name.end();
  if (uri.empty() || name.is_absolute() || climbs || uri.find('\0') != std::string::npos) {
    return Error{Code::kWrongAdapter, "data.uri: '" + uri + "' is no path below the import folder",
                 "name a file or folder as it lies below adapt.import_folder, without '..'"};
  }
  const auto root = Root::Confined(folder);
  if (!root) return root.error();
  return ReadBelow(*root, name.lexically_normal(), sha256);
}

Result<AdapterFiles> ReadAdapterFiles(const std::string& path, const std::string& sha256) {
  return ReadBelow(Root::Anywhere(), path, sha256);
}

Result<ImportedAdapter> DecodeFiles(const AdapterFiles& files, const AdapterExpectation& expected) {
  const fs::path file(files.name);
  const bool is_peft = file.filename() == kPeftModel;
  if (!is_peft && !files.bytes.starts_with("GGUF")) {
    return WrongAdapter(files.name + " is no GGUF, and its name is not " + kPeftModel,
                        "name the PEFT folder, or the " + std::string(kPeftModel) + " in it");
  }
  auto imported =
      is_peft ? DecodePeft(files.config, files.bytes, expected) : DecodeGguf(files.bytes, expected);
  if (imported) return imported;
  Error error = imported.error();
  const std::string shown = is_peft ? file.parent_path().string() : files.name;
  if (!shown.empty()) error.message = shown + ": " + error.message;
  return error;
}

}  // namespace nudge
