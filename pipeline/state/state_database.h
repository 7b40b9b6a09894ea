// One partition's state in one SQLite file: its schema, its checks, one transaction per cut.
//
//   StateStore -> [StateDatabase] -> partition-00000.sqlite, its backups
//
// WAL with synchronous=FULL: a cut is there after a power cut, or not at all. Every row carries a
// seal (8 bytes of a SHA-256) and `meta` the sum of the seals beside a seal of itself, so that no
// altered, missing or doubled row is taken for state. Which file is used, and when, is StateStore's
// business. One thread at a time per object; several objects, processes too, may share a file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/state/cut.h"
#include "stages/result.h"

struct sqlite3;

namespace nudge {

// What decides the bytes of outcomes and state: only a process of the same identity may take a
// state over in the middle of a log.
struct StateIdentity {
  std::string fingerprint;    // of the models and of the instruction path
  std::string configuration;  // SHA-256 of the semantic configuration
  friend bool operator==(const StateIdentity&, const StateIdentity&) = default;
};

// The row of the table `meta`.
struct StateMeta {
  StateIdentity identity;
  int32_t partition = 0;
  std::optional<int32_t> partition_count;  // of the input topic, where it is known
  uint64_t events = 0;
  int64_t next_offset = 0;
  Sha256Digest chain{};
  int64_t generation = 0;     // grows with every restore: only the last to restore may write
  int64_t entries = 0;        // rows of the table `entries`
  int64_t last_position = 0;  // given to a saved entry; entries are loaded in this order
  uint64_t entries_seal = 0;  // sum of the rows' seals, modulo 2^64

  bool blank() const { return events == 0 && next_offset == 0 && entries == 0; }
};

class StateDatabase {
 public:
  static constexpr int kFormat = 1;  // PRAGMA user_version

  enum class Access {
    kWrite,   // creates what is missing, and raises an older format to this one
    kRead,    // changes nothing, not even beside the file; sees what was committed last
    kBackup,  // as kRead, of a file that nobody writes
    kBeside,  // as kRead, in the process that writes it: shares its locks, which kRead would drop
  };
  struct Group {
    std::string tenant;
    std::string kind;
    uint64_t entries = 0;
    uint64_t bytes = 0;  // of the values
  };
  struct TakeOver {
    uint64_t events = 0;
    int64_t next_offset = 0;
    StateIdentity from;
    StateIdentity to;
  };

  explicit StateDatabase(std::string path);
  ~StateDatabase();  // an open transaction is rolled back
  StateDatabase(const StateDatabase&) = delete;
  StateDatabase& operator=(const StateDatabase&) = delete;

  // All calls: on an error nothing is changed, and the transaction, if there was one, is rolled
  // back. kUnreadableFile; the message names the file and what is wrong, the remedy what to do.
  Result<Nothing> Open(Access access);
  Result<Nothing> Begin();  // kWrite: waits up to 5 s for another process's transaction
  Result<Nothing> Commit();
  void Rollback();

  Result<StateMeta> ReadMeta();
  // All of the state, in saved order, after a check of the file's structure and of every seal.
  Result<Changes> ReadEntries(const StateMeta& meta);
  // The same checks, keeping what `wanted` wants.
  Result<Changes> ReadSome(const StateMeta& meta, const std::function<bool(const Change&)>& wanted);
  // The entries of one kind and tenant with an id in [first, last], by id. Their seals alone are
  // checked: what is not read may be damaged.
  Result<Changes> ReadRows(std::string_view kind, std::string_view tenant, std::string_view first,
                           std::string_view last);
  // ReadEntries' checks without keeping anything.
  Result<Nothing> Verify(const StateMeta& meta);

  // The state is ours from now on: generation + 1, and another identity is noted in `history`.
  // Within a transaction.
  Result<Nothing> Claim(StateMeta& meta, int32_t partition, const StateIdentity& identity,
                        std::optional<int32_t> partition_count);
  // Applies the cut and moves `meta` to it. Within a transaction.
  Result<Nothing> Apply(StateMeta& meta, const Cut& cut);

  // A whole, compact copy of what is committed now. `stop` is asked now and then: true abandons it.
  Result<Nothing> CopyTo(const std::string& path, std::function<bool()> stop);

  // Nothing that was deleted or replaced is in the file or its log any longer. Deleting overwrites
  // (secure_delete), but where SQLite moved rows between pages it may have left copies of them: all
  // pages are written anew, and the log is cut. Outside of a transaction.
  Result<Nothing> Scrub();

  Result<std::vector<Group>> Groups();
  Result<std::vector<TakeOver>> History();
  // Id and value of the tenant's entry of that kind with the highest id.
  Result<std::optional<std::pair<std::string, std::string>>> Last(const std::string& tenant,
                                                                  const std::string& kind);

  // The last error was about what is in the file, not about getting at it.
  bool damaged() const { return damaged_; }
  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* handle) const;
  };
  class Statement;
  using Visit = std::function<void(int64_t position, Change entry)>;

  Result<Nothing> OpenHandle(Access access);
  Result<Nothing> Run(const char* sql, const char* what);
  Result<int64_t> Number(const char* sql);
  Result<Nothing> CheckWhose(bool& blank);
  Result<Nothing> Migrate();
  Result<Nothing> CheckStructure();
  Result<Nothing> ForEach(const StateMeta& meta, const Visit& visit);
  Result<Nothing> WriteMeta(const StateMeta& meta);
  Error Failed(const std::string& what);
  Error Damaged(const std::string& how);
  Error Refused(const std::string& why, const std::string& remedy);

  const std::string path_;
  std::unique_ptr<sqlite3, Close> handle_;
  Access access_ = Access::kRead;
  bool damaged_ = false;
};

}  // namespace nudge
