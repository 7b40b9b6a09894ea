#include "pipeline/state/state_store.h"

#include <fcntl.h>
#include <stdlib.h>  // mkdtemp
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <utility>

#include "stages/fault_point.h"
#include "stages/files.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "partition-";
constexpr std::string_view kSuffix = ".sqlite";
constexpr std::string_view kBackup = "backup-";
constexpr const char* kDamaged = "damaged";
constexpr const char* kAhead = "ahead";

Error Failed(const std::string& what, const std::string& path, const std::string& why) {
  return {Code::kUnreadableFile, "state: cannot " + what + " " + path + ": " + why,
          "check the folder's permissions and the space on its disk, then start again"};
}

std::string Padded(int64_t number, size_t digits) {
  const std::string text = std::to_string(number);
  return std::string(text.size() < digits ? digits - text.size() : 0, '0') + text;
}

std::optional<int64_t> NumberIn(std::string_view digits) {
  if (digits.empty() || digits.size() > 20) return std::nullopt;
  int64_t number = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return std::nullopt;
    if (__builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, digit - '0', &number)) {
      return std::nullopt;
    }
  }
  return number;
}

Result<Nothing> Sync(const std::string& path, int flags) {
  const Result<Descriptor> file = OpenFile(path, flags);
  if (!file.ok()) return Failed("open", path, file.error().message);
  if (::fsync(**file) != 0) return Failed("sync", path, FileError(errno).message);
  return Nothing{};
}

Result<Nothing> Rename(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) return Failed("rename", from, error.message());
  return Sync(fs::path(to).parent_path().string(), O_RDONLY | O_DIRECTORY);
}

Cut CutOf(const StateMeta& meta, Changes entries) {
  return {meta.partition, 0, meta.events, meta.next_offset, meta.chain, std::move(entries)};
}

}  // namespace

std::map<int32_t, StateFiles> StateFilesIn(const std::string& folder) {
  std::map<int32_t, StateFiles> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string file = entry->path().filename().string();
    std::string_view name = file;
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    name.remove_prefix(kPrefix.size());
    name.remove_suffix(kSuffix.size());
    const size_t dot = name.find('.');
    const std::optional<int64_t> partition = NumberIn(name.substr(0, dot));
    if (!partition || *partition > INT32_MAX) continue;
    StateFiles& files = found[static_cast<int32_t>(*partition)];
    if (dot == std::string_view::npos) {
      files.live = entry->path().string();
      continue;
    }
    name.remove_prefix(dot + 1);
    const std::optional<int64_t> offset =
        name.starts_with(kBackup) ? NumberIn(name.substr(kBackup.size())) : std::nullopt;
    if (offset) {
      files.backups[*offset] = entry->path().string();
    } else {
      files.aside.push_back(entry->path().string());
    }
  }
  for (auto& [partition, files] : found) std::sort(files.aside.begin(), files.aside.end());
  return found;
}

StateStore::StateStore(std::string folder, StateIdentity identity, StateStoreOptions options,
                       std::function<void(const std::string&)> on_notice)
    : folder_(std::move(folder)),
      identity_(std::move(identity)),
      options_(options),
      on_notice_(std::move(on_notice)) {
  std::error_code error;
  const Result<Nothing> made = MakeFolders(folder_);
  if (!made.ok() || !fs::is_directory(folder_, error) ||
      ::access(folder_.c_str(), W_OK | X_OK) != 0) {
    throw StartError("state: folder " + folder_ + " cannot be written: choose another in " +
                     "checkpoint.folder or change its permissions");
  }
}

StateStore::~StateStore() {
  WaitForBackups();
}

void StateStore::WaitForBackups() {
  const MutexLock lock(mutex_);
  for (const auto& [partition, slot] : slots_) {
    const MutexLock slot_lock(slot->mutex);
    if (slot->backup.valid()) slot->backup.wait();
  }
}

void StateStore::Notice(const std::string& sentence) const {
  if (on_notice_) on_notice_(sentence);
}

std::string StateStore::StemOf(int32_t partition) const {
  return folder_ + "/" + std::string(kPrefix) + Padded(partition, 5);
}

std::string StateStore::PathOf(int32_t partition) const {
  return StemOf(partition) + std::string(kSuffix);
}

std::string StateStore::UnfinishedBackup(int32_t partition) const {
  return StemOf(partition) + ".backup.new";
}

std::string StateStore::ForgettingMark(int32_t partition) const {
  return StemOf(partition) + ".forgetting";
}

StateStore::Slot& StateStore::SlotOf(int32_t partition) {
  const MutexLock lock(mutex_);
  std::unique_ptr<Slot>& slot = slots_[partition];
  if (!slot) slot = std::make_unique<Slot>();
  return *slot;
}

void StateStore::StopBackup(Slot& slot) {
  slot.abandoned = true;
  if (slot.backup.valid()) slot.backup.get();
  slot.abandoned = false;
}

void StateStore::CloseSlot(Slot& slot) {
  StopBackup(slot);
  slot.database.reset();
}

void StateStore::Close(int32_t partition) {
  Slot& slot = SlotOf(partition);
  const MutexLock lock(slot.mutex);
  CloseSlot(slot);
}

// ---- Restoring ----------------------------------------------------------------------------------

// Refuses a whole state that is another partition's, or that this process may not go on from. It
// does not ask whether the state is ahead of the committed offset: a backup may be below.
Result<Nothing> StateStore::CheckFit(const StateMeta& meta, const std::string& path,
                                     int32_t partition, int64_t committed_offset) const {
  if (meta.blank()) return Nothing{};
  if (meta.partition != partition) {
    return Error{Code::kUnreadableFile,
                 "state: " + path + " is of partition " + std::to_string(meta.partition),
                 "give it its name back"};
  }
  if (options_.partition_count && meta.partition_count &&
      *options_.partition_count != *meta.partition_count) {
    return Error{Code::kUnreadableFile,
                 "state: " + path + " was made when the topic had " +
                     std::to_string(*meta.partition_count) + " partitions, now it has " +
                     std::to_string(*options_.partition_count),
                 "tenants have moved between partitions: copy the events into a new topic, and "
                 "start with an empty state and output"};
  }
  if (meta.identity != identity_ && meta.next_offset != committed_offset) {
    return Error{Code::kUnreadableFile,
                 "state: " + path + " was written with " +
                     (meta.identity.fingerprint != identity_.fingerprint
                          ? "other models or products, or on another CPU"
                          : "another configuration") +
                     " and did not stop cleanly",
                 "finish with the old one first (a clean stop), or start from an empty state"};
  }
  return Nothing{};
}

// Reads, checks and claims the state in one transaction, so that an earlier owner cannot write in
// between. `defect` is set where a backup may help.
Result<std::optional<Cut>> StateStore::Restore(Slot& slot, int32_t partition,
                                               int64_t committed_offset,
                                               std::string& defect) const {
  const std::string path = PathOf(partition);
  auto database = std::make_unique<StateDatabase>(path);
  const auto failed = [&](const Error& error) -> Result<std::optional<Cut>> {
    if (database->damaged()) defect = kDamaged;
    return error;
  };
  if (auto opened = database->Open(StateDatabase::Access::kWrite); !opened.ok()) {
    return failed(opened.error());
  }
  if (auto begun = database->Begin(); !begun.ok()) return failed(begun.error());
  Result<StateMeta> meta = database->ReadMeta();
  if (!meta.ok()) return failed(meta.error());
  if (meta->next_offset > committed_offset) {
    defect = kAhead;
    return Error{Code::kUnreadableFile,
                 "state: " + path + " is ahead of the outcomes that were committed",
                 "the output was removed or replaced: remove the state folder too, or restore it"};
  }
  if (auto fit = CheckFit(*meta, path, partition, committed_offset); !fit.ok()) {
    return fit.error();
  }
  Result<Changes> entries = database->ReadEntries(*meta);
  if (!entries.ok()) return failed(entries.error());
  const bool is_blank = meta->blank();
  auto claimed = database->Claim(*meta, partition, identity_, options_.partition_count);
  if (claimed.ok()) claimed = database->Commit();
  if (!claimed.ok()) return failed(claimed.error());
  slot.generation = meta->generation;
  slot.database = std::move(database);
  if (is_blank) return std::optional<Cut>();
  return std::optional<Cut>(CutOf(*meta, std::move(*entries)));
}

// The newest backup at or below `committed_offset` that is whole; `otherwise` without any.
Result<std::string> StateStore::UsableBackup(const StateFiles& files, int32_t partition,
                                             int64_t committed_offset,
                                             const Error& otherwise) const {
  for (auto at = files.backups.rbegin(); at != files.backups.rend(); ++at) {
    const auto& [offset, path] = *at;
    if (offset > committed_offset) continue;
    StateDatabase database(path);
    Result<Nothing> sound = database.Open(StateDatabase::Access::kBackup);
    if (sound.ok()) {
      const Result<StateMeta> meta = database.ReadMeta();
      if (meta.ok() && meta->next_offset != offset) {
        sound = Failed("use", path, "it stands at offset " + std::to_string(meta->next_offset));
      } else {
        sound = meta.ok() ? database.Verify(*meta) : Result<Nothing>(meta.error());
      }
      if (sound.ok()) {
        if (auto fit = CheckFit(*meta, path, partition, committed_offset); !fit.ok()) {
          return fit.error();
        }
      }
    }
    if (sound.ok()) return path;
    Notice(sound.error().message + ": an older backup is tried");
  }
  return otherwise;
}

Result<std::string> StateStore::SetAside(const std::string& path, int32_t partition,
                                         const std::string& defect) const {
  const std::string stem = StemOf(partition) + "." + defect + "-";
  std::error_code error;
  std::string aside;
  for (int number = 1; aside.empty() || fs::exists(aside, error); ++number) {
    aside = stem + std::to_string(number) + std::string(kSuffix);
  }
  fs::remove(path + "-shm", error);
  // The log is moved first: beside the next file of this name it would be taken for that file's.
  for (const char* part : {"-wal", "-journal", ""}) {
    if (!fs::exists(path + part, error)) continue;
    if (auto renamed = Rename(path + part, aside + part); !renamed.ok()) return renamed.error();
  }
  return aside;
}

Result<Nothing> StateStore::Install(const std::string& backup, int32_t partition) const {
  const std::string fresh = PathOf(partition) + ".new";
  std::error_code error;
  fs::copy_file(backup, fresh, fs::copy_options::overwrite_existing, error);
  if (error) return Failed("copy", backup, error.message());
  if (auto synced = Sync(fresh, O_RDWR); !synced.ok()) return synced;
  return Rename(fresh, PathOf(partition));
}

Result<std::optional<Cut>> StateStore::Newest(int32_t partition, int64_t committed_offset) {
  const DurationMetrics::Timer timer(metrics_.restores);
  Slot& slot = SlotOf(partition);
  const MutexLock lock(slot.mutex);
  CloseSlot(slot);
  Result<std::optional<Cut>> restored = NewestOf(slot, partition, committed_offset);
  std::error_code ignored;
  slot.forgetting = fs::exists(ForgettingMark(partition), ignored);
  // A state of nothing has nothing to forget, and is no reason to remove a copy.
  if (slot.forgetting && restored.ok() && restored->has_value()) Forget(slot, partition);
  return restored;
}

// Requires a slot that is closed.
Result<std::optional<Cut>> StateStore::NewestOf(Slot& slot, int32_t partition,
                                                int64_t committed_offset) {
  const std::string path = PathOf(partition);
  std::error_code ignored;
  for (const std::string& unfinished : {path + ".new", UnfinishedBackup(partition)}) {
    fs::remove(unfinished, ignored);
    fs::remove(unfinished + "-journal", ignored);
  }
  const StateFiles files = StateFilesIn(folder_)[partition];
  slot.cuts_to_backup = files.backups.empty() ? 1 : options_.backup_every_cuts;

  std::string defect;
  Error problem;
  if (!files.live.empty() || files.backups.empty()) {
    Result<std::optional<Cut>> restored = Restore(slot, partition, committed_offset, defect);
    if (restored.ok() || defect.empty()) return restored;
    problem = restored.error();
  } else {
    defect = kAhead;
    problem = {Code::kUnreadableFile,
               "state: " + path + " is missing and no backup beside it can be used",
               "restore it, or move the whole state folder away: the log is replayed from its "
               "beginning"};
  }
  const Result<std::string> backup = UsableBackup(files, partition, committed_offset, problem);
  if (!backup.ok()) return backup.error();
  const Result<std::string> aside = SetAside(path, partition, defect);
  if (!aside.ok()) return aside.error();
  for (const auto& [offset, later] : files.backups) {
    if (offset <= committed_offset) continue;
    if (const auto moved = SetAside(later, partition, kAhead); !moved.ok()) return moved.error();
  }
  if (auto installed = Install(*backup, partition); !installed.ok()) return installed.error();
  Notice(files.live.empty()
             ? "state: " + path + " is missing: going on from " + *backup
             : problem.message + ": set aside as " + *aside + ", going on from " + *backup);
  return Restore(slot, partition, committed_offset, defect);
}

// ---- Writing ------------------------------------------------------------------------------------

namespace {

uint64_t BytesOf(const Changes& changes) {
  uint64_t bytes = 0;
  for (const Change& change : changes) {
    bytes += change.id.size() + (change.value ? change.value->size() : 0);
  }
  return bytes;
}

}  // namespace

Result<Nothing> StateStore::Write(const Cut& cut) {
  Slot& slot = SlotOf(cut.partition);
  const MutexLock lock(slot.mutex);
  if (!slot.database) {
    return Error{Code::kInternal,
                 "state: partition " + std::to_string(cut.partition) + " was not restored", ""};
  }
  StateDatabase& database = *slot.database;
  const DurationMetrics::Timer timer(metrics_.cuts);
  // One that runs would be of before the cut, and would take this cut's mark for its own.
  if (cut.forgets) StopBackup(slot);
  FaultPoint("checkpoint-before");
  if (auto begun = database.Begin(); !begun.ok()) return begun;
  Result<StateMeta> meta = database.ReadMeta();
  if (!meta.ok()) return meta.error();
  if (meta->generation != slot.generation || meta->events != cut.follows) {
    database.Rollback();
    return Error{Code::kFenced,
                 "state: " + database.path() + " belongs to another process: it stands at " +
                     std::to_string(meta->events) + " events, this process at " +
                     std::to_string(cut.follows),
                 "one process at a time owns a partition: let the other one go on, or stop it and "
                 "start again"};
  }
  if (cut.forgets) {
    if (auto marked = Mark(slot, cut.partition); !marked.ok()) {
      database.Rollback();
      return marked;
    }
  }
  auto written = database.Apply(*meta, cut);
  FaultPoint("checkpoint-inside");
  if (written.ok()) written = database.Commit();
  FaultPoint("checkpoint-after");
  if (!written.ok()) return written;
  metrics_.cut_bytes.fetch_add(BytesOf(cut.changes), std::memory_order_relaxed);
  if (slot.cuts_to_backup > 0) --slot.cuts_to_backup;
  const bool is_free = !slot.backup.valid() ||
                       slot.backup.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  if (slot.forgetting && is_free) {
    Forget(slot, cut.partition);
  } else if (options_.backup_every_cuts > 0 && slot.cuts_to_backup == 0 && is_free) {
    StartBackup(slot, cut.partition, /*forgets=*/false);
  }
  return written;
}

void StateStore::StartBackup(Slot& slot, int32_t partition, bool forgets) {
  slot.cuts_to_backup = options_.backup_every_cuts;
  slot.backup = std::async(std::launch::async,
                           [this, &slot, partition, forgets] { BackUp(slot, partition, forgets); });
}

void StateStore::BackUp(Slot& slot, int32_t partition, bool forgets) const {
  const Result<std::string> made = TryBackUp(partition, slot.abandoned);
  if (!made.ok()) {
    if (!slot.abandoned) Notice(made.error().message + ": this backup is left out");
    return;
  }
  if (!forgets || slot.abandoned) return;
  const Result<Nothing> removed = RemoveCopies(slot, partition, *made);
  if (!removed.ok()) NoticeLeft(removed.error());
}

// ---- Forgetting ---------------------------------------------------------------------------------

// Before the cut is committed, so that whoever finds the state after a crash goes on with it.
Result<Nothing> StateStore::Mark(Slot& slot, int32_t partition) const {
  const std::string mark = ForgettingMark(partition);
  if (auto made = ReplaceFile(mark, ""); !made.ok()) {
    return Failed("write", mark, made.error().message);
  }
  slot.forgetting = true;
  return Nothing{};
}

// What was forgotten leaves the state at once, and its copies when there is a new one.
void StateStore::Forget(Slot& slot, int32_t partition) {
  FaultPoint("forget-before");
  Result<Nothing> done = slot.database->Scrub();
  if (done.ok() && options_.backup_every_cuts > 0) {
    StartBackup(slot, partition, /*forgets=*/true);
    return;
  }
  if (done.ok()) done = RemoveCopies(slot, partition, "");
  if (!done.ok()) NoticeLeft(done.error());
}

void StateStore::NoticeLeft(const Error& error) const {
  Notice(error.message +
         ": what was forgotten may still be on the disk; the next cut or start tries again");
}

// All but the state itself and `except`. Files set aside too: they were kept for people to look at,
// and whoever is forgotten comes before that.
Result<Nothing> StateStore::RemoveCopies(Slot& slot, int32_t partition,
                                         const std::string& except) const {
  const StateFiles files = StateFilesIn(folder_)[partition];
  std::vector<std::string> copies = files.aside;
  for (const auto& [offset, path] : files.backups) {
    if (path != except) copies.push_back(path);
  }
  for (const std::string& copy : copies) {
    for (const char* part : {"-wal", "-shm", "-journal", ""}) {
      std::error_code error;
      fs::remove(copy + part, error);
      if (error) return Failed("remove", copy + part, error.message());
    }
  }
  if (!files.aside.empty()) {
    Notice("state: something was forgotten, so files of partition " + std::to_string(partition) +
           " that were set aside are removed");
  }
  if (auto synced = Sync(folder_, O_RDONLY | O_DIRECTORY); !synced.ok()) return synced;
  const std::string mark = ForgettingMark(partition);
  std::error_code error;
  fs::remove(mark, error);
  if (error) return Failed("remove", mark, error.message());
  slot.forgetting = false;
  return Nothing{};
}

// The path of the new backup.
Result<std::string> StateStore::TryBackUp(int32_t partition,
                                          const std::atomic<bool>& abandoned) const {
  const std::string fresh = UnfinishedBackup(partition);
  std::error_code error;
  fs::remove(fresh, error);
  fs::remove(fresh + "-journal", error);
  int64_t offset = 0;
  {
    StateDatabase live(PathOf(partition));
    if (auto opened = live.Open(StateDatabase::Access::kWrite); !opened.ok()) {
      return opened.error();
    }
    auto made = live.CopyTo(fresh, [&] { return abandoned.load(); });
    StateDatabase copy(fresh);
    if (made.ok()) made = copy.Open(StateDatabase::Access::kBackup);
    if (made.ok()) {
      const Result<StateMeta> meta = copy.ReadMeta();
      made = meta.ok() ? copy.Verify(*meta) : Result<Nothing>(meta.error());
      if (meta.ok()) offset = meta->next_offset;
    }
    if (made.ok()) made = Sync(fresh, O_RDWR);
    if (!made.ok() || abandoned) {
      fs::remove(fresh, error);
      return made.ok() ? Failed("finish", fresh, "it was abandoned") : made.error();
    }
  }
  const std::string path =
      StemOf(partition) + "." + std::string(kBackup) + Padded(offset, 20) + std::string(kSuffix);
  if (auto renamed = Rename(fresh, path); !renamed.ok()) return renamed.error();
  const StateFiles files = StateFilesIn(folder_)[partition];
  size_t kept = 0;
  for (auto at = files.backups.rbegin(); at != files.backups.rend(); ++at) {
    if (++kept > kBackupsKept) fs::remove(at->second, error);
  }
  return path;
}

// ---- Looking ------------------------------------------------------------------------------------

namespace {

Result<StateSummary> SummarizeOpen(StateDatabase& database, StateDatabase::Access access) {
  StateSummary summary;
  if (auto opened = database.Open(access); !opened.ok()) return opened.error();
  if (auto begun = database.Begin(); !begun.ok()) return begun.error();
  Result<StateMeta> meta = database.ReadMeta();
  if (!meta.ok()) return meta.error();
  summary.meta = *meta;
  auto groups = database.Groups();
  auto history = database.History();
  if (!groups.ok() || !history.ok()) return groups.ok() ? history.error() : groups.error();
  for (const StateDatabase::Group& group : *groups) {
    if (group.kind != "executor/adapter_version") continue;
    auto last = database.Last(group.tenant, group.kind);
    if (!last.ok()) return last.error();
    if (*last) summary.adapters[group.tenant] = std::move(**last);
  }
  summary.groups = std::move(*groups);
  summary.history = std::move(*history);
  const Result<Nothing> verified = database.Verify(*meta);
  if (!verified.ok()) summary.damage = verified.error().message;
  return summary;
}

Result<StateEntries> ReadSomeOpen(StateDatabase& database, StateDatabase::Access access,
                                  const std::function<bool(const Change&)>& wanted) {
  if (auto opened = database.Open(access); !opened.ok()) return opened.error();
  if (auto begun = database.Begin(); !begun.ok()) return begun.error();
  Result<StateMeta> meta = database.ReadMeta();
  if (!meta.ok()) return meta.error();
  Result<Changes> entries = database.ReadSome(*meta, wanted);
  if (!entries.ok()) return entries.error();
  return StateEntries{std::move(*meta), std::move(*entries)};
}

// For a log without its index, as after a copy by hand. SQLite would write the index beside it, so
// a copy is read.
template <class Look>
auto LookAtCopy(const std::string& path, const Look& look)
    -> decltype(look(std::declval<StateDatabase&>(), StateDatabase::Access::kRead)) {
  std::string folder = (fs::temp_directory_path() / "nudge-state-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return Failed("make", folder, std::strerror(errno));
  const std::string copy = folder + "/copy.sqlite";
  std::error_code error;
  fs::copy_file(path, copy, error);
  if (!error) fs::copy_file(path + "-wal", copy + "-wal", error);
  std::optional<Error> failed;
  if (error) failed = Failed("copy", path, error.message());
  std::optional<decltype(look(std::declval<StateDatabase&>(), StateDatabase::Access::kRead))> seen;
  if (!failed) {
    StateDatabase database(copy);
    seen = look(database, StateDatabase::Access::kWrite);
  }
  fs::remove_all(folder, error);
  if (failed) return *failed;
  return *std::move(seen);
}

// look(database, access) -> Result, until it is `whole`: again where a writer came or went while we
// were opening.
template <class Look, class Whole>
auto LookAt(const std::string& path, const Look& look, const Whole& whole) {
  std::error_code error;
  for (int attempt = 1;; ++attempt) {
    const auto log_bytes = fs::file_size(path + "-wal", error);
    const bool has_log = !error && log_bytes > 0;
    const bool has_index = fs::exists(path + "-shm", error);
    StateDatabase database(path);
    auto seen = has_log && !has_index ? LookAtCopy(path, look)
                                      : look(database, StateDatabase::Access::kRead);
    if (whole(seen) || attempt == 3) return seen;
  }
}

}  // namespace

Result<StateEntries> ReadSome(const std::string& path,
                              const std::function<bool(const Change&)>& wanted) {
  return LookAt(
      path,
      [&](StateDatabase& database, StateDatabase::Access access) {
        return ReadSomeOpen(database, access, wanted);
      },
      [](const Result<StateEntries>& read) { return read.ok(); });
}

Result<StateSummary> Summarize(const std::string& path) {
  std::error_code error;
  Result<StateSummary> summary = LookAt(path, SummarizeOpen, [](const Result<StateSummary>& read) {
    return read.ok() && read->damage.empty();
  });
  if (!summary.ok()) return summary;
  summary->file_bytes = fs::file_size(path, error);
  const auto log_bytes = fs::file_size(path + "-wal", error);
  if (!error) summary->file_bytes += log_bytes;
  return summary;
}

}  // namespace nudge
