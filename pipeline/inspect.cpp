// `nudge inspect`: what a file or folder holds. Nothing is written beside it.
#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>

#include "connectors/codec.h"
#include "connectors/file_source.h"
#include "connectors/json_reader.h"
#include "pipeline/commands.h"
#include "pipeline/printable.h"
#include "stages/model/gguf_info.h"
#include "stages/model/snapshot_folder.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStateMagic = "nudge state\n";
constexpr size_t kFaultsShown = 10;
constexpr size_t kRowsShown = 20;

int Refused(const std::string& path, const Error& error) {
  std::cerr << "nudge: " << (error.message.find(path) == std::string::npos ? path + ": " : "")
            << error.message << "\n";
  if (!error.remedy.empty()) std::cerr << "  " << error.remedy << "\n";
  return kExitUsage;
}

int NotKnown(const std::string& path, const std::string& why) {
  return Refused(path, {Code::kUnreadableFile, why,
                        "inspect reads a GGUF file, a snapshot folder, a file of events or of "
                        "outcomes, an output folder and a state folder"});
}

constexpr size_t kNameWidth = 14;

void Row(std::string_view name, const std::string& value, size_t width = kNameWidth) {
  std::cout << "  " << Printable(name)
            << std::string(name.size() < width ? width - name.size() : 1, ' ') << Printable(value)
            << "\n";
}

void Row(std::string_view name, uint64_t value) {
  Row(name, std::to_string(value));
}

using Counts = std::map<std::string, uint64_t>;

void Table(std::string_view title, const Counts& counts) {
  if (counts.empty()) return;
  std::cout << title << "\n";
  size_t width = kNameWidth;
  for (const auto& [name, count] : counts) width = std::max(width, name.size() + 2);
  size_t shown = 0;
  for (const auto& [name, count] : counts) {
    if (shown++ == kRowsShown) {
      std::cout << "  and " << counts.size() - kRowsShown << " more\n";
      return;
    }
    Row(name, std::to_string(count), width);
  }
}

// ---- Models and adapters ------------------------------------------------------------------------

void PrintSnapshot(const SnapshotManifest& manifest) {
  const AdapterManifest& adapter = manifest.adapter;
  Row("tenant", Quoted(adapter.tenant));
  Row("version", adapter.version);
  Row("digest", adapter.digest);
  Row("parent", adapter.parent_digest.empty() ? "base" : adapter.parent_digest);
  Row("base", adapter.base_sha256);
  Row("architecture", adapter.base_architecture);
  if (!adapter.base_name.empty()) Row("base name", Quoted(adapter.base_name));
  Row("rank", manifest.shape.rank);
  Row("layers", manifest.shape.layers);
  Row("learnt", std::to_string(adapter.steps) + " steps from " + std::to_string(adapter.examples) +
                    " examples: " + std::to_string(adapter.corrections) + " corrections, " +
                    std::to_string(adapter.ups) + " up, " + std::to_string(adapter.downs) +
                    " down");
}

int InspectSnapshot(const std::string& path) {
  const Result<SnapshotManifest> manifest = ReadSnapshotManifest(path);
  if (!manifest.ok()) return Refused(path, manifest.error());
  const fs::path folder = fs::is_directory(path) ? fs::path(path) : fs::path(path).parent_path();
  std::cout << path << ": a snapshot of an adapter\n";
  PrintSnapshot(*manifest);
  std::cout << "files\n";
  bool whole = true;
  for (const auto& [name, file] : manifest->files) {
    const Result<std::string> sha256 = FileSha256((folder / name).string());
    const std::string state = !sha256.ok()             ? "missing or unreadable"
                              : *sha256 == file.sha256 ? "as the manifest says"
                                                       : "altered: not what the manifest says";
    whole = whole && sha256.ok() && *sha256 == file.sha256;
    std::cout << "  " << name << "  " << file.size_bytes << " bytes  " << file.sha256 << "  "
              << state << "\n";
  }
  if (whole) return kExitDone;
  std::cerr << "nudge: " << path << ": not whole: export the snapshot again\n";
  return kExitUsage;
}

// An adapter's own folder says whose it is, and what it must be to be whole.
int InspectAdapter(const std::string& path, const GgufInfo& info, const std::string& sha256) {
  std::cout << path << ": an adapter (LoRA), for a base model of architecture " << info.architecture
            << "\n";
  Row("size", std::to_string(info.file_bytes) + " bytes");
  Row("sha256", sha256);
  const fs::path folder = fs::path(path).parent_path();
  const Result<SnapshotManifest> manifest =
      ReadSnapshotManifest((folder.empty() ? fs::path(".") : folder).string());
  const bool described = manifest.ok() && manifest->files.contains("adapter.gguf") &&
                         manifest->files.at("adapter.gguf").sha256 == sha256;
  if (!described) {
    for (const auto& [type, tensors] : info.tensors_of)
      Row(type, std::to_string(tensors) + " tensors");
    std::cout << "  no manifest.json beside it describes it: tenant and version are not shown\n";
    return kExitDone;
  }
  PrintSnapshot(*manifest);
  const Result<ImportedAdapter> read = ReadSnapshot(
      path, sha256,
      {manifest->adapter.base_sha256, manifest->adapter.base_architecture, manifest->shape});
  if (!read.ok()) return Refused(path, read.error());
  Row("whole", "yes: checksum, values and manifest agree");
  return kExitDone;
}

int InspectGguf(const std::string& path) {
  const Result<GgufInfo> info = ReadGgufInfo(path);
  if (!info.ok()) return Refused(path, info.error());
  const Result<std::string> sha256 = FileSha256(path);
  if (!sha256.ok()) return Refused(path, sha256.error());
  if (info->type == "adapter") return InspectAdapter(path, *info, *sha256);
  const bool embedder = info->IsEmbedder();
  std::cout << path << ": " << (embedder ? "an embedder" : "a language model") << " (GGUF)\n";
  Row("architecture", info->architecture);
  if (!info->name.empty()) Row("name", Quoted(info->name));
  if (info->type != "model") Row("type", Quoted(info->type));
  Row("size", std::to_string(info->file_bytes) + " bytes");
  Row("layers", info->layers);
  Row("width", info->embedding_length);
  Row("heads", info->heads);
  Row("context", info->context_tokens == 0 ? std::string("not said")
                                           : std::to_string(info->context_tokens) + " tokens");
  Row("vocabulary", std::to_string(info->vocabulary) + " tokens");
  Row("quantisation", info->quantisation);
  Row("sha256", *sha256);
  if (embedder) {
    if (info->query_prefix) Row("query prefix", "\"" + Quoted(*info->query_prefix) + "\"");
    if (info->passage_prefix)
      Row("passage prefix", "\"" + Quoted(*info->passage_prefix) + "\"", 16);
    std::cout << "  serves: as an embedder (model.embedder in the configuration)\n"
                 "  trains: no: an embedder is never trained\n";
    return kExitDone;
  }
  std::cout << "  serves: "
            << (info->type != "model"     ? "no: not a model"
                : info->has_chat_template ? "yes, with its own chat template"
                                          : "yes, without a chat template of its own")
            << "\n  trains: "
            << (info->architecture == "llama" ? "yes" : "no: training needs architecture llama")
            << "\n";
  return kExitDone;
}

// ---- Events and outcomes ------------------------------------------------------------------------

// Every line of the file, through `visit`. The exit code where it is not kExitDone.
template <class Visit>
int ForEachLine(const std::string& path, size_t line_bytes, const Visit& visit) {
  FileSource source({.path = path, .line_bytes = line_bytes});
  Record record;
  while (!stop_requested) {
    const Result<Source::Pull> pull = source.Next(record, std::chrono::milliseconds(100));
    if (!pull.ok()) return Refused(path, pull.error());
    if (*pull == Source::Pull::kEnd) return kExitDone;
    if (*pull == Source::Pull::kRecord && !visit(record)) return kExitDone;
  }
  return kExitInterrupted;
}

bool IsOutcomeType(std::string_view type) {
  return type == "nudge.response" || type == "nudge.applied" || type == "nudge.dead_letter";
}

int InspectEvents(const std::string& path) {
  uint64_t lines = 0;
  uint64_t refused = 0;
  Counts types;
  Counts tenants;
  Counts codes;
  std::vector<std::string> faults;
  const int read = ForEachLine(path, EventLimits{}.line_bytes, [&](const Record& record) {
    ++lines;
    const Result<Event> event =
        record.refusal ? Result<Event>(record.refusal->error) : DecodeEvent(record.bytes);
    if (event.ok()) {
      ++types[std::string(TypeName(*event))];
      ++tenants[event->tenant];
      return true;
    }
    ++refused;
    ++codes[std::string(Name(event.error().code))];
    if (faults.size() < kFaultsShown) {
      faults.push_back("line " + std::to_string(record.offset + 1) + ": " +
                       std::string(Name(event.error().code)) + ": " + event.error().message);
    }
    return true;
  });
  if (read != kExitDone) return read;
  if (lines == refused && codes["invalid_json"] + codes["invalid_utf8"] == lines) {
    return NotKnown(path, lines == 0 ? "no line in it" : "no line of it is JSON in UTF-8");
  }
  std::cout << path << ": " << lines << " events, " << refused << " would be refused\n";
  Table("types", types);
  Table("tenants", tenants);
  std::erase_if(codes, [](const auto& code) { return code.second == 0; });
  Table("refused, by code", codes);
  for (const std::string& fault : faults) std::cout << "  " << Printable(fault) << "\n";
  if (refused > faults.size()) std::cout << "  and " << refused - faults.size() << " more\n";
  return kExitDone;
}

struct OutcomeCounts {
  uint64_t lines = 0;
  Counts kinds;
  Counts tenants;
  Counts dead_letters;
  std::map<int32_t, Sha256Digest> chains;
  std::string damage;  // the first line that is not what it should be
};

void Count(const RecordedOutcome& recorded, OutcomeCounts& counts) {
  const Outcome& outcome = recorded.outcome;
  if (!outcome.tenant.empty()) ++counts.tenants[outcome.tenant];
  if (std::holds_alternative<Response>(outcome.what)) ++counts.kinds["responses"];
  if (std::holds_alternative<Applied>(outcome.what)) ++counts.kinds["receipts"];
  if (const auto* letter = std::get_if<DeadLetter>(&outcome.what)) {
    ++counts.kinds["dead letters"];
    ++counts.dead_letters[std::string(Name(letter->error.code)) + " in " + letter->stage];
  }
}

int InspectOutcomes(const std::string& path) {
  OutcomeCounts counts;
  const int read = ForEachLine(path, kOutcomeLineBytes, [&](const Record& record) {
    const std::string line = "line " + std::to_string(record.offset + 1);
    const Result<RecordedOutcome> outcome = record.refusal
                                                ? Result<RecordedOutcome>(record.refusal->error)
                                                : DecodeOutcome(record.bytes);
    if (!outcome.ok()) {
      counts.damage = line + ": " + outcome.error().message;
      return false;
    }
    Sha256Digest& chain = counts.chains[outcome->partition];
    const ChainedLine split = SplitChain(record.bytes);
    chain = NextChain(chain, outcome->offset, split.encoded);
    if (split.chain != Hex(chain)) {
      counts.damage = line + ": its chain does not follow from the lines before it";
      return false;
    }
    ++counts.lines;
    Count(*outcome, counts);
    return true;
  });
  if (read != kExitDone) return read;
  std::cout << path << ": " << counts.lines << " outcomes"
            << (counts.damage.empty() ? "" : " before the first damaged line") << "\n";
  Table("kinds", counts.kinds);
  Table("tenants", counts.tenants);
  Table("dead letters, by code", counts.dead_letters);
  for (const auto& [partition, chain] : counts.chains) {
    if (!counts.damage.empty()) break;
    std::cout << "partition " << partition << ": chain " << Hex(chain) << ", every line checked\n";
  }
  if (counts.damage.empty()) return kExitDone;
  std::cerr << "nudge: " << path << ": " << counts.damage << "\n"
            << "  the file was cut or altered: replay its events into an empty folder\n";
  return kExitUsage;
}

int InspectLines(const std::string& path) {
  std::string type;
  const int read = ForEachLine(path, kOutcomeLineBytes, [&](const Record& record) {
    type = PeekHead(record.bytes).type;
    return false;
  });
  if (read != kExitDone) return read;
  return IsOutcomeType(type) ? InspectOutcomes(path) : InspectEvents(path);
}

// ---- State --------------------------------------------------------------------------------------

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "nudge-inspect-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw StartError("no temporary folder can be made: set TMPDIR to one that can be written");
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// "partition-3.state" is of partition 3.
std::optional<int32_t> PartitionOf(const fs::path& file) {
  const std::string name = file.filename().string();
  constexpr std::string_view kBefore = "partition-";
  constexpr std::string_view kAfter = ".state";
  if (name.size() <= kBefore.size() + kAfter.size() || !name.starts_with(kBefore) ||
      !name.ends_with(kAfter)) {
    return std::nullopt;
  }
  const std::string digits =
      name.substr(kBefore.size(), name.size() - kBefore.size() - kAfter.size());
  if (digits.size() > 9 || digits.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoi(digits);
}

// Who wrote it: state_file.h, the header.
std::optional<StateIdentity> IdentityOf(const std::string& path) {
  constexpr uint64_t kMostBytes = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  std::string start(kStateMagic.size() + sizeof(uint64_t), '\0');
  if (!file.read(start.data(), static_cast<std::streamsize>(start.size()))) return std::nullopt;
  if (!start.starts_with(kStateMagic)) return std::nullopt;
  const uint64_t size = ByteReader(std::string_view(start).substr(kStateMagic.size())).U64();
  if (size > kMostBytes) return std::nullopt;
  std::string header(size, '\0');
  if (!file.read(header.data(), static_cast<std::streamsize>(size))) return std::nullopt;
  ByteReader in(header);
  in.U32();  // the format: StateFile refuses those that it does not know
  StateIdentity identity;
  identity.fingerprint = in.Text();
  identity.configuration = in.Text();
  return in.complete() ? std::optional(identity) : std::nullopt;
}

// StateFile rewrites what it opens, so it is given a copy.
int InspectState(const std::string& path, int32_t partition) {
  const std::optional<StateIdentity> identity = IdentityOf(path);
  if (!identity) return NotKnown(path, "not a state file, or damaged in its header");
  const TemporaryFolder copy;
  std::error_code error;
  fs::copy_file(path, copy.path() + "/partition-" + std::to_string(partition) + ".state", error);
  if (error) {
    return Refused(path, {Code::kUnreadableFile, "cannot be copied: " + error.message(),
                          "set TMPDIR to a folder with room for the file"});
  }
  const Result<std::optional<Cut>> cut =
      StateFile(copy.path(), *identity).Newest(partition, std::numeric_limits<int64_t>::max());
  if (!cut.ok())
    return Refused(path, {cut.error().code, "not a state of this nudge", cut.error().remedy});
  std::cout << path << ": state of partition " << partition << "\n";
  Row("size", std::to_string(fs::file_size(path)) + " bytes");
  Row("models", identity->fingerprint);
  Row("configuration", identity->configuration);
  if (!*cut) {
    std::cout << "  no whole cut in it: a run starts from the beginning of the log\n";
    return kExitDone;
  }
  Row("events", (*cut)->events);
  Row("next offset", static_cast<uint64_t>((*cut)->next_offset));
  Row("chain", Hex((*cut)->chain));
  Counts kinds;
  Counts tenants;
  for (const Change& entry : (*cut)->changes) {
    ++kinds[entry.kind];
    ++tenants[entry.tenant.empty() ? "(none)" : entry.tenant];
  }
  Table("entries by kind", kinds);
  Table("entries by tenant", tenants);
  return kExitDone;
}

// ---- What the path is ---------------------------------------------------------------------------

std::map<int32_t, std::string> StatesIn(const std::string& folder) {
  std::map<int32_t, std::string> states;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (const auto partition = PartitionOf(entry->path())) {
      states[*partition] = entry->path().string();
    }
  }
  return states;
}

int InspectFolder(const std::string& path) {
  if (fs::exists(path + "/manifest.json")) return InspectSnapshot(path);
  int exit_code = kExitDone;
  const auto states = StatesIn(path);
  for (const auto& [partition, file] : states) {
    exit_code = std::max(exit_code, InspectState(file, partition));
  }
  if (!states.empty()) return exit_code;
  if (!fs::exists(path + "/outcomes.jsonl")) {
    return NotKnown(path, "no manifest.json, partition-N.state or outcomes.jsonl in this folder");
  }
  exit_code = InspectOutcomes(path + "/outcomes.jsonl");
  for (const auto& [partition, file] : StatesIn(path + "/state")) {
    std::cout << "\n";
    exit_code = std::max(exit_code, InspectState(file, partition));
  }
  return exit_code;
}

// Its first bytes; of a text from its first character that is no space.
std::string StartOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string start(4096, '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<size_t>(file.gcount()));
  if (start.starts_with("\xEF\xBB\xBF")) start.erase(0, 3);
  start.erase(0, start.find_first_not_of(" \t\r\n"));
  return start;
}

}  // namespace

int Inspect(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return InspectFolder(path);
  if (!fs::is_regular_file(path, error)) {
    return Refused(path, {Code::kUnreadableFile,
                          fs::exists(path, error) ? "neither a file nor a folder" : "is not there",
                          "check the path"});
  }
  if (std::ifstream(path, std::ios::binary).fail()) {
    return Refused(path, {Code::kUnreadableFile, "cannot be read", "check its permissions"});
  }
  const fs::path file(path);
  const std::string start = StartOf(path);
  if (start.starts_with("GGUF") || file.extension() == ".gguf") return InspectGguf(path);
  if (start.starts_with(kStateMagic)) return InspectState(path, PartitionOf(file).value_or(0));
  if (file.filename() == "manifest.json") return InspectSnapshot(path);
  const bool lines = start.starts_with('{') || start.starts_with("\x1F\x8B") ||
                     file.extension() == ".jsonl" || file.extension() == ".gz";
  return lines ? InspectLines(path) : NotKnown(path, "none of the files that nudge knows");
}

}  // namespace nudge
