// `nudge inspect`: what a file or folder holds. Nothing is written beside it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>

#include "connectors/codec.h"
#include "connectors/erased_outcomes.h"
#include "connectors/file_source.h"
#include "connectors/json_reader.h"
#include "pipeline/commands/commands.h"
#include "pipeline/observe/printable.h"
#include "pipeline/state/state_store.h"
#include "stages/hash.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "stages/model/serve/gguf_info.h"
#include "stages/model/serve/served_form.h"
#include "stages/model/trainer/frozen_weights.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDatabaseMagic = "SQLite format 3";
constexpr size_t kFaultsShown = 10;
constexpr size_t kRowsShown = 20;

int Refused(const std::string& path, const Error& error) {
  const bool names_it = error.message.find(path) != std::string::npos;
  return FailWith({error.code, (names_it ? "" : path + ": ") + error.message, error.remedy},
                  kExitUsage);
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

// The copy of the weights that training holds, f32 or bf16.
std::string Megabytes(const LlamaShape& shape, size_t number_bytes) {
  const size_t layer = shape.hidden * (shape.AttentionWidth() + shape.QueryWidth()) +
                       3 * shape.hidden * shape.feed_forward;
  const size_t floats = shape.layers * layer + shape.vocabulary * shape.hidden;
  return std::to_string(floats * number_bytes / 1'000'000) + " MB";
}

// What adapt.products "auto" comes to on this machine, and what adapt.base_memory costs.
std::string TrainsOn(const LlamaShape& shape) {
  const bool bf16 = Bf16IsFaster();
  return "yes, on a copy of " + Megabytes(shape, bf16 ? sizeof(uint16_t) : sizeof(float)) +
         " in memory, with " +
         (bf16 ? "bf16 products: this processor multiplies bf16"
               : "f32 products: this processor does not multiply bf16");
}

std::string WithoutPath(const std::string& message, const std::string& path) {
  return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
}

// Which form of the weights answers, and which would here.
std::string ServedAs(const std::string& path, const GgufInfo& info, const std::string& sha256) {
  if (info.form_of_sha256) return "the form of the model with SHA-256 " + *info.form_of_sha256;
  const auto found = FindServedForm(path, sha256);
  if (!found.ok()) return found.error().message;
  if (*found) return "its form in " + **found;
  const FormChoice choice = ChooseForm(info, ServingMachine::Here());
  if (choice.type == FormType::kFile) return "itself: " + choice.why;
  return "itself; faster in " + std::string(Name(choice.type)) +
         ", see `nudge form`: " + choice.why;
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
  Row("served as", ServedAs(path, *info, *sha256));
  const Result<LlamaShape> trainable = FrozenWeights::Check(path);
  std::cout << "  serves: "
            << (info->type != "model"     ? "no: not a model"
                : info->has_chat_template ? "yes, with its own chat template"
                                          : "yes, without a chat template of its own")
            << "\n  trains: "
            << (trainable.ok() ? TrainsOn(*trainable)
                               : "no: " + WithoutPath(trainable.error().message, path))
            << "\n";
  for (const auto& [type, tensors] : info->tensors_of) {
    Row(type, std::to_string(tensors) + " tensors");
  }
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
  uint64_t erased = 0;
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
    if (const auto erased = DecodeErased(record.bytes); erased && !record.refusal) {
      counts.chains[erased->partition] = FromHex(erased->chain);
      ++counts.kinds["erased, since what they said was forgotten"];
      ++counts.lines;
      ++counts.erased;
      return true;
    }
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
    std::cout << "partition " << partition << ": chain " << Hex(chain) << ", every line checked"
              << (counts.erased > 0 ? " that was not erased" : "") << "\n";
  }
  if (counts.damage.empty()) return kExitDone;
  std::cerr << "nudge: " << path << ": " << counts.damage << "\n"
            << "  the file was cut or altered: replay its events into an empty folder\n";
  return kExitUsage;
}

int InspectLines(const std::string& path) {
  bool are_outcomes = false;
  const int read = ForEachLine(path, kOutcomeLineBytes, [&](const Record& record) {
    are_outcomes = IsOutcomeType(PeekHead(record.bytes).type) || DecodeErased(record.bytes);
    return false;
  });
  if (read != kExitDone) return read;
  return are_outcomes ? InspectOutcomes(path) : InspectEvents(path);
}

// ---- State --------------------------------------------------------------------------------------

std::string Bytes(uint64_t bytes) {
  return std::to_string(bytes) + " bytes";
}

// What an entry executor/adapter_version says of the version (executor.cpp writes it): its number,
// and the digest of its weights.
std::string VersionOf(const std::pair<std::string, std::string>& entry) {
  const size_t digits = std::min(entry.first.find_first_not_of('0'), entry.first.size() - 1);
  const std::string number = entry.first.empty() ? "?" : entry.first.substr(digits);
  ByteReader in(entry.second);
  if (in.U8() != 2) return number;
  const bool has_weights = in.U8() != 0;
  const std::string digest = has_weights ? in.Text() : "base";
  return in.failed() ? number : number + ", digest " + digest;
}

void PrintTenants(const StateSummary& summary) {
  std::map<std::string, std::vector<const StateDatabase::Group*>> tenants;
  for (const StateDatabase::Group& group : summary.groups) tenants[group.tenant].push_back(&group);
  size_t shown = 0;
  for (const auto& [tenant, groups] : tenants) {
    if (shown++ == kRowsShown) {
      std::cout << "and " << tenants.size() - kRowsShown << " tenants more\n";
      return;
    }
    std::cout << "tenant " << (tenant.empty() ? "(none)" : Quoted(tenant)) << "\n";
    const auto adapter = summary.adapters.find(tenant);
    if (adapter != summary.adapters.end()) Row("adapter version", VersionOf(adapter->second), 26);
    for (const StateDatabase::Group* group : groups) {
      Row(group->kind, std::to_string(group->entries) + " entries, " + Bytes(group->bytes), 26);
    }
  }
}

void PrintPosition(const StateMeta& meta) {
  Row("events", meta.events);
  Row("next offset", static_cast<uint64_t>(meta.next_offset));
  Row("chain", Hex(meta.chain));
}

int InspectState(const std::string& path) {
  const Result<StateSummary> read = Summarize(path);
  if (!read.ok()) return Refused(path, read.error());
  const StateMeta& meta = read->meta;
  std::cout << path << ": state of partition " << meta.partition
            << (meta.partition_count ? " of " + std::to_string(*meta.partition_count) : "") << "\n";
  Row("size", Bytes(read->file_bytes));
  Row("format", static_cast<uint64_t>(StateDatabase::kFormat));
  Row("models", meta.identity.fingerprint);
  Row("configuration", meta.identity.configuration);
  if (meta.blank()) {
    std::cout << "  no cut in it yet: a run starts from the beginning of the log\n";
    return kExitDone;
  }
  PrintPosition(meta);
  Row("restored", std::to_string(meta.generation) + (meta.generation == 1 ? " time" : " times"));
  for (const StateDatabase::TakeOver& change : read->history) {
    Row("taken over", "at offset " + std::to_string(change.next_offset) +
                          (change.from.fingerprint != change.to.fingerprint
                               ? " from models " + change.from.fingerprint
                               : " from configuration " + change.from.configuration));
  }
  PrintTenants(*read);
  if (read->damage.empty()) {
    std::cout << "whole: every entry has its seal\n";
    return kExitDone;
  }
  std::cerr << "nudge: " << Printable(read->damage) << "\n"
            << "  the next run goes on from the newest backup; without one, move the file away\n";
  return kExitUsage;
}

int InspectBackup(int64_t offset, const std::string& path) {
  const Result<StateSummary> read = Summarize(path);
  const bool is_whole = read.ok() && read->damage.empty() && read->meta.next_offset == offset;
  std::cout << "backup at offset " << offset << ": "
            << (read.ok() ? Bytes(read->file_bytes) + ", " + std::to_string(read->meta.events) +
                                " events, chain " + Hex(read->meta.chain)
                          : "cannot be read")
            << (is_whole ? ", whole" : ", damaged: it will not be used") << "\n";
  return is_whole ? kExitDone : kExitUsage;
}

int InspectStates(const std::map<int32_t, StateFiles>& states) {
  int exit_code = kExitDone;
  for (const auto& [partition, files] : states) {
    if (partition != states.begin()->first) std::cout << "\n";
    if (files.live.empty()) {
      std::cout << "partition " << partition << ": no state, a run starts from "
                << (files.backups.empty() ? "the beginning of the log" : "a backup") << "\n";
    } else {
      exit_code = std::max(exit_code, InspectState(files.live));
    }
    for (const auto& [offset, path] : files.backups) {
      exit_code = std::max(exit_code, InspectBackup(offset, path));
    }
    for (const std::string& path : files.aside) {
      std::cout << "set aside: " << path << ": look at it, then remove it\n";
    }
  }
  return exit_code;
}

// ---- What the path is ---------------------------------------------------------------------------

int InspectFolder(const std::string& path) {
  if (fs::exists(path + "/manifest.json")) return InspectSnapshot(path);
  if (const auto states = StateFilesIn(path); !states.empty()) return InspectStates(states);
  if (!fs::exists(path + "/outcomes.jsonl")) {
    return NotKnown(path,
                    "no manifest.json, partition-NNNNN.sqlite or outcomes.jsonl in this folder");
  }
  const int outcomes = InspectOutcomes(path + "/outcomes.jsonl");
  const auto states = StateFilesIn(path + "/state");
  if (!states.empty()) std::cout << "\n";
  return std::max(outcomes, InspectStates(states));
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
  if (start.starts_with(kDatabaseMagic) || file.extension() == ".sqlite") return InspectState(path);
  if (file.filename() == "manifest.json") return InspectSnapshot(path);
  const bool lines = start.starts_with('{') || start.starts_with("\x1F\x8B") ||
                     file.extension() == ".jsonl" || file.extension() == ".gz";
  return lines ? InspectLines(path) : NotKnown(path, "none of the files that nudge knows");
}

}  // namespace nudge
