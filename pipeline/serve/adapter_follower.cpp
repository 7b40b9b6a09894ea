#include "pipeline/serve/adapter_follower.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "stages/hash.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "stages/model/remote/tries.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kWait{200};
constexpr uint64_t kStateBytes = 256 << 20;
// Whether an outcome may name snapshots: in a text these bytes would be escaped.
constexpr std::string_view kMark = R"("snapshots":[)";

LoraServerOptions ServerOptions(const FollowOptions& options) {
  if (options.server_url.empty()) {
    throw StartError(
        "follow.server_url: missing: the vLLM server that gets the adapters, as "
        "http://127.0.0.1:8000/v1");
  }
  return {options.server_url,
          ReadServerKey(options.key_file, "follow.key_file"),
          {.connect = options.connect_timeout, .whole = options.request_timeout},
          options.retries_max};
}

Descriptor Lock(const std::string& folder) {
  if (const Result<Nothing> made = MakeFolders(folder); !made.ok()) {
    throw StartError("follow.state_folder: cannot make " + folder + ": " + made.error().message);
  }
  Result<Descriptor> file = OpenFile(folder + "/lock", O_RDWR | O_CREAT);
  if (!file.ok()) {
    throw StartError("follow.state_folder: " + folder + ": " + file.error().message);
  }
  if (flock(**file, LOCK_EX | LOCK_NB) != 0) {
    throw StartError("follow.state_folder: " + folder +
                     ": another process has it: give each server's its own");
  }
  return std::move(*file);
}

}  // namespace

AdapterFollower::AdapterFollower(AdapterFollowerOptions options, Says says)
    : options_(std::move(options)),
      says_(std::move(says)),
      server_(ServerOptions(options_.follow)),
      lock_(Lock(options_.follow.state_folder)),
      offered_(options_.follow.versions_per_tenant_max, options_.follow.adapters_max),
      stream_(OpenStream()) {}

// ---- Outcomes -----------------------------------------------------------------------------------

std::unique_ptr<OutcomeStream> AdapterFollower::OpenStream() {
  OfferedAdapters::Positions positions = ReadState();
  const auto take = [this](const std::string& line) { Take(line); };
  if (options_.kafka) return OutcomesOfTopics(*options_.kafka, std::move(positions), take);
  offered_.WantNone();  // until the file says so again
  return OutcomesOfFile(options_.outcomes_path, take);
}

void AdapterFollower::Take(const std::string& line) {
  if (line.find(kMark) == line.npos) return;
  const Result<RecordedOutcome> read = DecodeOutcome(line);
  if (!read.ok()) return;
  for (const SnapshotRef& snapshot : read->outcome.snapshots) {
    if (!offered_.Add(read->outcome.tenant, snapshot)) {
      Trouble(snapshot.uri, "an outcome names the snapshot " + snapshot.uri +
                                ", which is none of the tenant " + read->outcome.tenant);
    }
    has_news_ = true;
  }
}

// ---- State --------------------------------------------------------------------------------------

OfferedAdapters::Positions AdapterFollower::ReadState() {
  const std::string path = options_.follow.state_folder + "/adapters.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  Result<std::string> text = ReadFile(path, kStateBytes);
  Result<OfferedAdapters::Positions> positions =
      text.ok() ? offered_.Read(*text) : Result<OfferedAdapters::Positions>(text.error());
  if (!positions.ok()) {
    throw StartError(path + ": " + positions.error().message +
                     ": remove it, and the outcomes are read from their beginning");
  }
  written_ = *std::move(text);
  return *std::move(positions);
}

Result<Nothing> AdapterFollower::WriteState() {
  std::string text = offered_.Text(stream_->positions());
  if (text == written_) return Nothing{};
  const std::string path = options_.follow.state_folder + "/adapters.json";
  const Result<Nothing> written = ReplaceFile(path, text);
  if (!written.ok()) {
    return Error{Code::kUnreadableFile, "cannot write " + path + ": " + written.error().message,
                 written.error().remedy};
  }
  written_ = std::move(text);
  return Nothing{};
}

// ---- The server ---------------------------------------------------------------------------------

Result<Nothing> AdapterFollower::Run(const std::atomic<bool>& stop) {
  stop_ = &stop;
  auto next_look = Clock::now();
  while (!stop) {
    if (const Result<Nothing> turned = stream_->Turn(kWait); !turned.ok()) return turned;
    const bool is_due = has_news_ || Clock::now() >= next_look;
    if (!stream_->has_caught_up() || !is_due) continue;
    if (const Result<Nothing> written = WriteState(); !written.ok()) return written;
    if (const Result<Nothing> looked = Look(); !looked.ok() && !stop) return looked;
    has_news_ = false;
    next_look = Clock::now() + options_.follow.look;
  }
  return WriteState();
}

Result<Nothing> AdapterFollower::Look() {
  std::error_code ignored;
  if (!offered_.all().empty() && !fs::is_directory(options_.snapshot_folder, ignored)) {
    Trouble(options_.snapshot_folder, "the snapshot folder " + options_.snapshot_folder +
                                          " is not there: nothing is loaded or taken away");
    return Nothing{};
  }
  trouble_.erase(options_.snapshot_folder);
  Result<std::set<std::string>> served = server_.Names([this] { return stop_->load(); });
  if (!served.ok()) return served.error();
  if (const Result<Nothing> loaded = LoadMissing(*served); !loaded.ok()) return loaded;
  return UnloadRest(*served);
}

bool AdapterFollower::IsThere(const OfferedAdapter& adapter) const {
  std::error_code ignored;
  return fs::exists(options_.snapshot_folder + "/" + adapter.uri + "/manifest.json", ignored);
}

// Whether the files are those that the outcome means: it names the digest of one of them, and the
// manifest beside it those of all.
std::optional<Error> AdapterFollower::WhyNot(const OfferedAdapter& adapter) const {
  const std::string folder = options_.snapshot_folder + "/" + adapter.uri;
  const auto damaged = [&](const std::string& file) {
    return Error{Code::kUnreadableFile, folder + ": " + file + " is not what its outcome says",
                 "bring the folder back from a copy"};
  };
  const Result<SnapshotManifest> manifest = ReadSnapshotManifest(folder);
  if (!manifest.ok()) return manifest.error();
  const auto gguf = manifest->files.find("adapter.gguf");
  const bool is_its = manifest->adapter.tenant == adapter.tenant &&
                      manifest->adapter.digest == adapter.digest && gguf != manifest->files.end() &&
                      gguf->second.sha256 == adapter.sha256;
  if (!is_its) return damaged("manifest.json");
  for (const char* name : {"adapter_model.safetensors", "adapter_config.json"}) {
    const auto named = manifest->files.find(name);
    const Result<std::string> sha256 = FileSha256(folder + "/" + name);
    if (!sha256.ok() || named == manifest->files.end() || *sha256 != named->second.sha256) {
      return damaged(name);
    }
  }
  return std::nullopt;
}

Result<Nothing> AdapterFollower::LoadMissing(std::set<std::string>& served) {
  for (const OfferedAdapter& adapter : offered_.all()) {
    if (!adapter.is_wanted || !IsThere(adapter) || served.contains(adapter.name)) continue;
    if (const std::optional<Error> wrong = WhyNot(adapter)) {
      Trouble(adapter.name, wrong->message + ": " + wrong->remedy);
      continue;
    }
    const std::string folder = options_.follow.lora_folder + "/" + adapter.uri;
    const Result<Nothing> loaded =
        server_.Load(adapter.name, folder, [this] { return stop_->load(); });
    if (!loaded.ok() && loaded.error().code != Code::kModelFailed) return loaded;
    if (!loaded.ok()) {
      Trouble(adapter.name, loaded.error().message + ": " + loaded.error().remedy);
      continue;
    }
    trouble_.erase(adapter.name);
    served.insert(adapter.name);
    ++counts_.loaded;
    says_.news("loaded " + adapter.name + " from " + folder);
  }
  return Nothing{};
}

bool AdapterFollower::HasWanted(const std::string& tenant,
                                const std::set<std::string>& served) const {
  const auto& all = offered_.all();
  return std::all_of(all.begin(), all.end(), [&](const OfferedAdapter& one) {
    return one.tenant != tenant || !one.is_wanted || !IsThere(one) || served.contains(one.name);
  });
}

Result<Nothing> AdapterFollower::UnloadRest(std::set<std::string>& served) {
  std::vector<std::string> gone;
  for (const OfferedAdapter& adapter : offered_.all()) {
    const bool is_there = IsThere(adapter);
    if (adapter.is_wanted && is_there) continue;
    if (!adapter.is_wanted && is_there && !HasWanted(adapter.tenant, served)) continue;
    if (served.contains(adapter.name)) {
      const Result<Nothing> unloaded =
          server_.Unload(adapter.name, [this] { return stop_->load(); });
      if (!unloaded.ok() && unloaded.error().code != Code::kModelFailed) return unloaded;
      if (!unloaded.ok()) {
        Trouble(adapter.name, unloaded.error().message);
        continue;
      }
      ++counts_.taken_away;
      served.erase(adapter.name);
      says_.news("took " + adapter.name + " away");
    }
    if (adapter.is_wanted) {
      Trouble(adapter.name, adapter.name + " is not offered: its folder " +
                                options_.snapshot_folder + "/" + adapter.uri + " is not there");
    } else {
      gone.push_back(adapter.name);
    }
  }
  for (const std::string& name : gone) {
    offered_.Drop(name);
    trouble_.erase(name);
  }
  return gone.empty() ? Result<Nothing>(Nothing{}) : WriteState();
}

void AdapterFollower::Trouble(const std::string& of, const std::string& what) {
  std::string& said = trouble_[of];
  if (said == what) return;
  said = what;
  says_.trouble(what);
}

}  // namespace nudge
