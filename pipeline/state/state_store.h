// The state of all partitions in a folder: which file is a partition's, and which of its copies.
//
//   Cut -> [StateStore] -> one transaction;   start -> the newest whole state at or below what is
//   committed
//
// partition-00000.sqlite is the state (state_database.h), partition-00000.backup-OFFSET.sqlite a
// copy of it as of that offset. A file that cannot be used while a backup can is set aside as
// partition-00000.damaged-1.sqlite or .ahead-1.sqlite and stays there until something is forgotten:
// then every copy that may hold it goes. While one may be left, partition-00000.forgetting says so.
// All are their owner's alone. Processes of one host may share the folder: whoever restores a
// partition last owns it, and an earlier owner's Write fails. Any thread; calls for one partition
// one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/observe/metrics.h"
#include "pipeline/state/cut.h"
#include "pipeline/state/state_database.h"
#include "stages/guarded.h"
#include "stages/result.h"

namespace nudge {

struct StateStoreOptions {
  // A partition's first cut is copied, then each time that so many were written since; 0: none.
  uint32_t backup_every_cuts = 100;
  std::optional<int32_t> partition_count;  // of the input topic: another one is refused
};

struct StateMetrics {
  DurationMetrics cuts;                // written
  DurationMetrics restores;            // of partitions, without the log's replay
  std::atomic<uint64_t> cut_bytes{0};  // of the entries that changed
};

struct StateFiles {
  std::string live;                        // empty: there is none
  std::map<int64_t, std::string> backups;  // by next_offset
  std::vector<std::string> aside;
};
// What lies in a folder, by partition, from names alone.
std::map<int32_t, StateFiles> StateFilesIn(const std::string& folder);

class StateStore {
 public:
  static constexpr size_t kBackupsKept = 3;  // per partition

  // Creates the folder. Throws StartError where that cannot be. `on_notice` (may be empty) is told
  // what people should know although nothing fails: a file set aside, a backup that could not be
  // written. Any thread.
  StateStore(std::string folder, StateIdentity identity, StateStoreOptions options = {},
             std::function<void(const std::string&)> on_notice = {});
  ~StateStore();  // waits for backups
  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  // The newest state of the partition whose next_offset is at most `committed_offset` (the offset
  // after the last committed outcome), from a backup if need be; nothing where there is none. The
  // partition is this process's from now on. Errors, which change nothing: kUnreadableFile for
  // what is not a state, of a newer format, of another partition or partition count; damaged, or
  // ahead of `committed_offset`, without a backup to use; and for another identity, unless the
  // state stands exactly at `committed_offset` (a clean stop), in which case it is taken over.
  Result<std::optional<Cut>> Newest(int32_t partition, int64_t committed_offset);

  // Requires Newest. One transaction, synced. Errors, which leave the state as the cut before:
  // kFenced for a cut that does not follow, or where somebody else has restored the partition
  // since; kUnreadableFile for a full disk and the like.
  // A cut that forgets is on the disk alone when this returns: file and log hold nothing from
  // before that it took away. A backup of it is begun at once (backup_every_cuts 0: none); when
  // that stands, or none is wanted, all older backups and all files set aside are removed. What of
  // this fails or is interrupted is told to on_notice, and is done at the next Write or Newest.
  Result<Nothing> Write(const Cut& cut);

  const StateMetrics& metrics() const { return metrics_; }

  // Until no backup is being made.
  void WaitForBackups();

  // The partition is somebody else's: abandons its backup, writes its log into its file, and closes
  // it, so that the one file is the state and may be copied.
  void Close(int32_t partition);

 private:
  struct Slot {
    Mutex mutex;
    std::unique_ptr<StateDatabase> database GUARDED_BY(mutex);  // after Newest, until Close
    int64_t generation GUARDED_BY(mutex) = 0;
    uint64_t cuts_to_backup GUARDED_BY(mutex) = 1;
    std::atomic<bool> abandoned{false};
    std::atomic<bool> forgetting{false};  // copies are left that may hold what was forgotten
    // Last: its end waits for the thread, which reads `abandoned`.
    std::future<void> backup GUARDED_BY(mutex);
  };

  std::string StemOf(int32_t partition) const;
  std::string PathOf(int32_t partition) const;
  std::string UnfinishedBackup(int32_t partition) const;
  std::string ForgettingMark(int32_t partition) const;
  Slot& SlotOf(int32_t partition);
  static void StopBackup(Slot& slot) REQUIRES(slot.mutex);
  static void CloseSlot(Slot& slot) REQUIRES(slot.mutex);
  Result<std::optional<Cut>> NewestOf(Slot& slot, int32_t partition, int64_t committed_offset)
      REQUIRES(slot.mutex);
  Result<Nothing> CheckFit(const StateMeta& meta, const std::string& path, int32_t partition,
                           int64_t committed_offset) const;
  Result<std::optional<Cut>> Restore(Slot& slot, int32_t partition, int64_t committed_offset,
                                     std::string& defect) const REQUIRES(slot.mutex);
  Result<std::string> UsableBackup(const StateFiles& files, int32_t partition,
                                   int64_t committed_offset, const Error& otherwise) const;
  Result<std::string> SetAside(const std::string& path, int32_t partition,
                               const std::string& defect) const;
  Result<Nothing> Install(const std::string& backup, int32_t partition) const;
  void StartBackup(Slot& slot, int32_t partition, bool forgets) REQUIRES(slot.mutex);
  void BackUp(Slot& slot, int32_t partition, bool forgets) const;
  Result<std::string> TryBackUp(int32_t partition, const std::atomic<bool>& abandoned) const;
  Result<Nothing> Mark(Slot& slot, int32_t partition) const;
  void Forget(Slot& slot, int32_t partition) REQUIRES(slot.mutex);
  void NoticeLeft(const Error& error) const;
  Result<Nothing> RemoveCopies(Slot& slot, int32_t partition, const std::string& except) const;
  void Notice(const std::string& sentence) const;

  const std::string folder_;
  const StateIdentity identity_;
  const StateStoreOptions options_;
  const std::function<void(const std::string&)> on_notice_;
  StateMetrics metrics_;
  Mutex mutex_;
  std::map<int32_t, std::unique_ptr<Slot>> slots_ GUARDED_BY(mutex_);
};

// ---- For those who only look --------------------------------------------------------------------

struct StateSummary {
  StateMeta meta;
  std::vector<StateDatabase::Group> groups;  // by tenant and kind
  std::vector<StateDatabase::TakeOver> history;
  // The last entry executor/adapter_version of each tenant: id and value.
  std::map<std::string, std::pair<std::string, std::string>> adapters;
  uint64_t file_bytes = 0;  // with its log
  std::string damage;       // empty: every entry was read and has its seal
};
// Reads a state or backup, while a process writes it too, and changes nothing.
Result<StateSummary> Summarize(const std::string& path);

struct StateEntries {
  StateMeta meta;
  Changes entries;  // in saved order
};
// The entries that `wanted` wants, by the way of Summarize. An error where not every entry has its
// seal.
Result<StateEntries> ReadSome(const std::string& path,
                              const std::function<bool(const Change&)>& wanted);

}  // namespace nudge
