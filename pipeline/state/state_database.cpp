#include "pipeline/state/state_database.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "stages/files.h"

namespace nudge {
namespace {

constexpr int kApplicationId = 0x6E756467;  // "nudg"
constexpr int kBusyTimeoutMs = 5000;
constexpr int kHistoryRows = 1000;

// Rows of a document (text and vector, some 2 KB) lie badly in small pages: with 16 KiB the file is
// filled and copied twice as fast as with 4 KiB.
constexpr const char* kSettings =
    "PRAGMA page_size = 16384;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA journal_size_limit = 67108864;"
    "PRAGMA secure_delete = ON;"
    "PRAGMA cell_size_check = ON;"
    "PRAGMA trusted_schema = OFF;";

// kLadder[n] raises format n to n + 1, format 0 being an empty file. A released step never changes.
constexpr std::array<const char*, StateDatabase::kFormat> kLadder = {
    R"(
CREATE TABLE meta (                   -- one row
  only INTEGER PRIMARY KEY CHECK (only = 1),
  partition INTEGER NOT NULL,
  partition_count INTEGER,
  fingerprint TEXT NOT NULL,          -- of models and instruction path
  configuration TEXT NOT NULL,        -- SHA-256 of the semantic configuration
  events INTEGER NOT NULL,            -- applied so far
  next_offset INTEGER NOT NULL,       -- of the input log
  chain TEXT NOT NULL,                -- of the outcome log, up to here
  generation INTEGER NOT NULL,        -- of who may write
  entries INTEGER NOT NULL,
  last_position INTEGER NOT NULL,
  entries_seal INTEGER NOT NULL,      -- sum of entries.seal
  seal TEXT NOT NULL                  -- SHA-256 of the columns above
) STRICT;
CREATE TABLE entries (
  entry INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,                 -- part/kind: index/document
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  position INTEGER NOT NULL,          -- when it was saved last: the order of loading
  seal INTEGER NOT NULL,              -- SHA-256 of the other columns, 8 bytes
  value BLOB NOT NULL,
  UNIQUE (kind, tenant, id)
) STRICT;
CREATE TABLE history (                -- whoever took the state over from another
  change INTEGER PRIMARY KEY,
  events INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,
  fingerprint_from TEXT NOT NULL,
  fingerprint_to TEXT NOT NULL,
  configuration_from TEXT NOT NULL,
  configuration_to TEXT NOT NULL
) STRICT;
)"};

std::string_view AsText(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::string SealOf(const StateMeta& meta) {
  const auto number = [](auto value) { return std::to_string(value); };
  return Hex(
      Sha256Parts({meta.identity.fingerprint, meta.identity.configuration, number(meta.partition),
                   meta.partition_count ? number(*meta.partition_count) : "", number(meta.events),
                   number(meta.next_offset), AsText(meta.chain), number(meta.generation),
                   number(meta.entries), number(meta.last_position), number(meta.entries_seal)}));
}

uint64_t SealOf(int64_t position, const Change& entry) {
  return SeedOf({entry.kind, entry.tenant, entry.id, std::to_string(position), *entry.value});
}

std::optional<Sha256Digest> DigestOf(const std::string& hex) {
  Sha256Digest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (size_t i = 0; i < hex.size(); ++i) {
    const size_t digit = std::string_view("0123456789abcdef").find(hex[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    digest[i / 2] = static_cast<uint8_t>(digest[i / 2] << 4 | digit);
  }
  return digest;
}

// A path in a URI (sqlite.org/uri.html), for the settings that have no other place.
std::string UriOf(const std::string& path, const std::string& settings) {
  std::string uri = "file:";
  for (const char c : path) {
    switch (c) {
      case '%':
        uri += "%25";
        break;
      case '?':
        uri += "%3f";
        break;
      case '#':
        uri += "%23";
        break;
      default:
        uri += c;
    }
  }
  return uri + '?' + settings;
}

// Whether the last error says that the file's content is wrong. An SQL error says so too: our
// statements fit our schema, so the file has another.
bool IsAboutContent(int code) {
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_FORMAT:
      return true;
    default:
      return false;
  }
}

}  // namespace

// ---- Statements ---------------------------------------------------------------------------------

// Steps and columns of one statement. Bound texts and blobs must outlive it.
class StateDatabase::Statement {
 public:
  Statement(StateDatabase& database, const char* sql) {
    code_ = sqlite3_prepare_v2(database.handle_.get(), sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(int at, int64_t value) { return Note(sqlite3_bind_int64(statement_, at, value)); }
  Statement& Bind(int at, uint64_t value) { return Bind(at, static_cast<int64_t>(value)); }
  Statement& Bind(int at, std::string_view text) {
    return Note(
        sqlite3_bind_text64(statement_, at, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8));
  }
  Statement& BindBlob(int at, std::string_view bytes) {
    return Note(sqlite3_bind_blob64(statement_, at, bytes.data(), bytes.size(), SQLITE_STATIC));
  }

  // A row is there. After false: ok() tells the end from an error.
  bool Step() {
    if (code_ != SQLITE_OK) return false;
    const int stepped = sqlite3_step(statement_);
    if (stepped == SQLITE_ROW) return true;
    if (stepped != SQLITE_DONE) code_ = stepped;
    return false;
  }
  // To its end, without looking at rows; then it can be bound again.
  bool Finish() {
    while (Step()) {
    }
    if (code_ == SQLITE_OK) sqlite3_reset(statement_);
    return ok();
  }
  void Reset() {
    if (code_ == SQLITE_OK) sqlite3_reset(statement_);
  }
  bool ok() const { return code_ == SQLITE_OK; }

  int64_t Number(int column) const { return sqlite3_column_int64(statement_, column); }
  bool IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  std::string Text(int column) const {
    const void* bytes = sqlite3_column_blob(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    return bytes == nullptr
               ? std::string()
               : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
  }

 private:
  Statement& Note(int code) {
    if (code_ == SQLITE_OK) code_ = code;
    return *this;
  }

  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
};

// ---- Errors -------------------------------------------------------------------------------------

Error StateDatabase::Failed(const std::string& what) {
  sqlite3* const handle = handle_.get();
  const int code = handle == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(handle);
  std::string why = handle == nullptr ? "out of memory" : sqlite3_errmsg(handle);
  const int system_error = handle == nullptr ? 0 : sqlite3_system_errno(handle);
  Rollback();
  damaged_ = IsAboutContent(code);
  if (damaged_) return Damaged(why);
  std::string remedy = "check the folder's permissions and its disk, then start again";
  switch (code & 0xff) {
    case SQLITE_FULL:
      why = "the disk is full";
      remedy = "make room on it, then start again: the state stands as it was saved last";
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      why = "another process is using it";
      remedy = "let one process own the partition: stop the other one";
      break;
    case SQLITE_IOERR:
      if (system_error != 0) why += ": " + std::string(std::strerror(system_error));
      remedy =
          "check the disk, and that it is not a network folder, then start again: the state "
          "stands as it was saved last";
      break;
    case SQLITE_TOOBIG:
      remedy = "one entry is larger than 1 GB: choose smaller adapters or a shorter journal";
      break;
    default:
      if (system_error != 0) why += ": " + std::string(std::strerror(system_error));
  }
  return {Code::kUnreadableFile, "state: cannot " + what + " " + path_ + ": " + why, remedy};
}

Error StateDatabase::Damaged(const std::string& how) {
  Rollback();
  damaged_ = true;
  return {Code::kUnreadableFile, "state: " + path_ + " is damaged, or not a state: " + how,
          "start again: the newest backup is used where there is one; without any, move the file "
          "away, and the log is replayed from its beginning"};
}

Error StateDatabase::Refused(const std::string& why, const std::string& remedy) {
  damaged_ = false;
  return {Code::kUnreadableFile, "state: " + path_ + " " + why, remedy};
}

Result<Nothing> StateDatabase::Run(const char* sql, const char* what) {
  if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK) return Nothing{};
  return Failed(what);
}

Result<int64_t> StateDatabase::Number(const char* sql) {
  Statement statement(*this, sql);
  if (!statement.Step()) return Failed("read");
  return statement.Number(0);
}

// ---- Opening ------------------------------------------------------------------------------------

void StateDatabase::Close::operator()(sqlite3* handle) const {
  sqlite3_close_v2(handle);
}

StateDatabase::StateDatabase(std::string path) : path_(std::move(path)) {}

StateDatabase::~StateDatabase() = default;

Result<Nothing> StateDatabase::OpenHandle(Access access) {
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  std::string name = path_;
  // A name that SQLite would take for something else: ":memory:", "file:..."
  if (name.starts_with(':') || name.starts_with("file:")) name = "./" + name;
  if (access == Access::kBeside) flags = SQLITE_OPEN_READONLY;
  if (access == Access::kRead || access == Access::kBackup) {
    std::error_code error;
    const auto log_bytes = std::filesystem::file_size(path_ + "-wal", error);
    const bool is_still = access == Access::kBackup || error || log_bytes == 0;
    flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
    name = UriOf(name, is_still ? "immutable=1" : "readonly_shm=1");
  }
  // SQLite gives its log the mode of the file, and would make the file by the umask. A file that is
  // there is not opened here: closing it would drop the locks that this process has on it.
  if (access == Access::kWrite) (void)OpenFile(path_, O_RDWR | O_CREAT | O_EXCL);
  sqlite3* handle = nullptr;
  const int opened = sqlite3_open_v2(name.c_str(), &handle, flags, nullptr);
  handle_.reset(handle);
  if (opened != SQLITE_OK) return Failed("open");
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  return Nothing{};
}

Result<Nothing> StateDatabase::Open(Access access) {
  access_ = access;
  if (Result<Nothing> opened = OpenHandle(access); !opened.ok()) return opened;
  bool blank = false;
  if (Result<Nothing> ours = CheckWhose(blank); !ours.ok()) return ours;
  if (access != Access::kWrite) {
    return blank ? Result<Nothing>(Damaged("there is nothing in it")) : Nothing{};
  }
  if (Result<Nothing> set = Run(kSettings, "open"); !set.ok()) return set;
  {
    Statement journal(*this, "PRAGMA journal_mode = WAL");
    if (!journal.Step()) return Failed("write");
    if (journal.Text(0) != "wal") {
      return Refused("is in a folder that cannot hold a write-ahead log",
                     "choose a folder on a local disk in checkpoint.folder");
    }
  }
  return Migrate();
}

// Looks before anything is written: a file of somebody else stays as it is.
Result<Nothing> StateDatabase::CheckWhose(bool& blank) {
  const Result<int64_t> tables = Number("SELECT count(*) FROM sqlite_schema");
  if (!tables.ok()) return tables.error();
  const Result<int64_t> application = Number("PRAGMA application_id");
  if (!application.ok()) return application.error();
  const Result<int64_t> format = Number("PRAGMA user_version");
  if (!format.ok()) return format.error();
  blank = *tables == 0 && *application == 0 && *format == 0;
  if (blank) return Nothing{};
  if (*application != kApplicationId) {
    return Refused("is a database of another program", "move it away, or choose another folder");
  }
  if (*format > kFormat) {
    return Refused("has format " + std::to_string(*format) + ", this nudge knows up to " +
                       std::to_string(kFormat),
                   "use the nudge that wrote it, or start from an empty state folder: the log is "
                   "replayed from its beginning");
  }
  if (*format < 1) return Damaged("its format is " + std::to_string(*format));
  return Nothing{};
}

Result<Nothing> StateDatabase::Migrate() {
  const Result<int64_t> before = Number("PRAGMA user_version");
  if (!before.ok()) return before.error();
  if (*before == kFormat) return Nothing{};
  if (Result<Nothing> begun = Begin(); !begun.ok()) return begun;
  // Read again, since another process may have raised the format before this transaction.
  const Result<int64_t> format = Number("PRAGMA user_version");
  if (!format.ok()) return format.error();
  for (auto step = static_cast<size_t>(std::max<int64_t>(*format, 0)); step < kLadder.size();
       ++step) {
    if (Result<Nothing> raised = Run(kLadder[step], "write"); !raised.ok()) return raised;
  }
  const std::string marks = "PRAGMA application_id = " + std::to_string(kApplicationId) +
                            "; PRAGMA user_version = " + std::to_string(kFormat);
  if (Result<Nothing> marked = Run(marks.c_str(), "write"); !marked.ok()) return marked;
  return Commit();
}

Result<Nothing> StateDatabase::Begin() {
  return Run(access_ == Access::kWrite ? "BEGIN IMMEDIATE" : "BEGIN",
             access_ == Access::kWrite ? "write" : "read");
}

Result<Nothing> StateDatabase::Commit() {
  return Run("COMMIT", "write");
}

void StateDatabase::Rollback() {
  if (!handle_ || sqlite3_get_autocommit(handle_.get()) != 0) return;
  sqlite3_exec(handle_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

// ---- Reading ------------------------------------------------------------------------------------

Result<StateMeta> StateDatabase::ReadMeta() {
  Statement row(*this,
                "SELECT partition, partition_count, fingerprint, configuration, events, "
                "next_offset, chain, generation, entries, last_position, entries_seal, seal "
                "FROM meta");
  if (!row.Step()) {
    if (!row.ok()) return Failed("read");
    return StateMeta{};  // made, but never claimed
  }
  StateMeta meta;
  meta.partition = static_cast<int32_t>(row.Number(0));
  if (!row.IsNull(1)) meta.partition_count = static_cast<int32_t>(row.Number(1));
  meta.identity = {row.Text(2), row.Text(3)};
  meta.events = static_cast<uint64_t>(row.Number(4));
  meta.next_offset = row.Number(5);
  const std::optional<Sha256Digest> chain = DigestOf(row.Text(6));
  meta.chain = chain.value_or(Sha256Digest{});
  meta.generation = row.Number(7);
  meta.entries = row.Number(8);
  meta.last_position = row.Number(9);
  meta.entries_seal = static_cast<uint64_t>(row.Number(10));
  if (!chain || row.Text(11) != SealOf(meta)) return Damaged("meta does not have its seal");
  return meta;
}

Result<Nothing> StateDatabase::CheckStructure() {
  Statement check(*this, "PRAGMA integrity_check(1)");
  if (!check.Step()) return Failed("check");
  const std::string found = check.Text(0);
  if (found != "ok") return Damaged(found.substr(0, found.find('\n')));
  return Nothing{};
}

Result<Nothing> StateDatabase::ForEach(const StateMeta& meta, const Visit& visit) {
  if (Result<Nothing> checked = CheckStructure(); !checked.ok()) return checked;
  Statement rows(*this, "SELECT kind, tenant, id, position, seal, value FROM entries");
  int64_t count = 0;
  uint64_t sum = 0;
  while (rows.Step()) {
    Change entry{rows.Text(1), rows.Text(0), rows.Text(2), rows.Text(5)};
    const int64_t position = rows.Number(3);
    const auto seal = static_cast<uint64_t>(rows.Number(4));
    if (seal != SealOf(position, entry)) {
      return Damaged("an entry of kind " + entry.kind + " does not have its seal");
    }
    sum += seal;
    ++count;
    visit(position, std::move(entry));
  }
  if (!rows.ok()) return Failed("read");
  if (count != meta.entries || sum != meta.entries_seal) {
    return Damaged(std::to_string(count) + " entries are not the " + std::to_string(meta.entries) +
                   " that meta seals");
  }
  return Nothing{};
}

Result<Changes> StateDatabase::ReadEntries(const StateMeta& meta) {
  return ReadSome(meta, [](const Change&) { return true; });
}

Result<Changes> StateDatabase::ReadSome(const StateMeta& meta,
                                        const std::function<bool(const Change&)>& wanted) {
  std::vector<std::pair<int64_t, size_t>> order;
  Changes found;
  Result<Nothing> read = ForEach(meta, [&](int64_t position, Change entry) {
    if (!wanted(entry)) return;
    order.emplace_back(position, found.size());
    found.push_back(std::move(entry));
  });
  if (!read.ok()) return read.error();
  std::sort(order.begin(), order.end());
  Changes entries;
  entries.reserve(found.size());
  for (const auto& [position, at] : order) entries.push_back(std::move(found[at]));
  return entries;
}

Result<Changes> StateDatabase::ReadRows(std::string_view kind, std::string_view tenant,
                                        std::string_view first, std::string_view last) {
  Statement rows(*this,
                 "SELECT id, position, seal, value FROM entries "
                 "WHERE kind = ?1 AND tenant = ?2 AND id >= ?3 AND id <= ?4 ORDER BY id");
  rows.Bind(1, kind).Bind(2, tenant).Bind(3, first).Bind(4, last);
  Changes found;
  while (rows.Step()) {
    Change entry{std::string(tenant), std::string(kind), rows.Text(0), rows.Text(3)};
    if (static_cast<uint64_t>(rows.Number(2)) != SealOf(rows.Number(1), entry)) {
      return Damaged("an entry of kind " + entry.kind + " does not have its seal");
    }
    found.push_back(std::move(entry));
  }
  if (!rows.ok()) return Failed("read");
  return found;
}

Result<Nothing> StateDatabase::Verify(const StateMeta& meta) {
  return ForEach(meta, [](int64_t, const Change&) {});
}

// ---- Writing ------------------------------------------------------------------------------------

Result<Nothing> StateDatabase::WriteMeta(const StateMeta& meta) {
  const std::string chain = Hex(meta.chain);
  const std::string seal = SealOf(meta);
  Statement row(*this,
                "INSERT OR REPLACE INTO meta (only, partition, partition_count, fingerprint, "
                "configuration, events, next_offset, chain, generation, entries, last_position, "
                "entries_seal, seal) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
                "?12)");
  row.Bind(1, int64_t{meta.partition});
  if (meta.partition_count) row.Bind(2, int64_t{*meta.partition_count});
  row.Bind(3, meta.identity.fingerprint).Bind(4, meta.identity.configuration);
  row.Bind(5, meta.events).Bind(6, meta.next_offset).Bind(7, chain).Bind(8, meta.generation);
  row.Bind(9, meta.entries).Bind(10, meta.last_position).Bind(11, meta.entries_seal);
  if (!row.Bind(12, seal).Finish()) return Failed("write");
  return Nothing{};
}

Result<Nothing> StateDatabase::Claim(StateMeta& meta, int32_t partition,
                                     const StateIdentity& identity,
                                     std::optional<int32_t> partition_count) {
  StateMeta claimed = meta;
  if (meta.identity != identity && !meta.blank()) {
    Statement note(*this,
                   "INSERT INTO history (events, next_offset, fingerprint_from, fingerprint_to, "
                   "configuration_from, configuration_to) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    note.Bind(1, meta.events).Bind(2, meta.next_offset);
    note.Bind(3, meta.identity.fingerprint).Bind(4, identity.fingerprint);
    note.Bind(5, meta.identity.configuration).Bind(6, identity.configuration);
    if (!note.Finish()) return Failed("write");
    Statement trim(*this,
                   "DELETE FROM history WHERE change <= (SELECT max(change) FROM history) - ?1");
    if (!trim.Bind(1, int64_t{kHistoryRows}).Finish()) return Failed("write");
  }
  claimed.identity = identity;
  claimed.partition = partition;
  if (partition_count) claimed.partition_count = partition_count;
  ++claimed.generation;
  if (Result<Nothing> written = WriteMeta(claimed); !written.ok()) return written;
  meta = std::move(claimed);
  return Nothing{};
}

Result<Nothing> StateDatabase::Apply(StateMeta& meta, const Cut& cut) {
  StateMeta after = meta;
  after.events = cut.events;
  after.next_offset = cut.next_offset;
  after.chain = cut.chain;
  Statement find(*this,
                 "SELECT entry, seal FROM entries WHERE kind = ?1 AND tenant = ?2 AND id = ?3");
  Statement insert(*this,
                   "INSERT INTO entries (kind, tenant, id, position, seal, value) "
                   "VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
  Statement update(*this,
                   "UPDATE entries SET position = ?2, seal = ?3, value = ?4 WHERE entry = ?1");
  Statement remove(*this, "DELETE FROM entries WHERE entry = ?1");
  for (const Change& change : cut.changes) {
    std::optional<int64_t> entry;
    find.Bind(1, change.kind).Bind(2, change.tenant).Bind(3, change.id);
    if (find.Step()) {
      entry = find.Number(0);
      after.entries_seal -= static_cast<uint64_t>(find.Number(1));
      --after.entries;
    }
    if (!find.ok()) return Failed("read");
    find.Reset();
    if (!change.value) {
      if (entry && !remove.Bind(1, *entry).Finish()) return Failed("write");
      continue;
    }
    const int64_t position = ++after.last_position;
    const uint64_t seal = SealOf(position, change);
    after.entries_seal += seal;
    ++after.entries;
    const bool written = entry ? update.Bind(1, *entry)
                                     .Bind(2, position)
                                     .Bind(3, seal)
                                     .BindBlob(4, *change.value)
                                     .Finish()
                               : insert.Bind(1, change.kind)
                                     .Bind(2, change.tenant)
                                     .Bind(3, change.id)
                                     .Bind(4, position)
                                     .Bind(5, seal)
                                     .BindBlob(6, *change.value)
                                     .Finish();
    if (!written) return Failed("write");
  }
  if (Result<Nothing> written = WriteMeta(after); !written.ok()) return written;
  meta = std::move(after);
  return Nothing{};
}

Result<Nothing> StateDatabase::CopyTo(const std::string& path, std::function<bool()> stop) {
  constexpr int kInstructions = 10'000;  // of SQLite between two questions: some 1 ms
  sqlite3_progress_handler(
      handle_.get(), kInstructions,
      [](void* asked) { return (*static_cast<std::function<bool()>*>(asked))() ? 1 : 0; }, &stop);
  Result<Nothing> copied = Nothing{};
  (void)OpenFile(path, O_RDWR | O_CREAT | O_EXCL);  // for its mode: SQLite fills an empty file
  {
    Statement vacuum(*this, "VACUUM INTO ?1");
    if (!vacuum.Bind(1, path).Finish()) copied = Failed("copy");
  }
  sqlite3_progress_handler(handle_.get(), 0, nullptr, nullptr);
  return copied;
}

Result<Nothing> StateDatabase::Scrub() {
  if (Result<Nothing> rewritten = Run("VACUUM", "rewrite"); !rewritten.ok()) return rewritten;
  Statement checkpoint(*this, "PRAGMA wal_checkpoint(TRUNCATE)");
  if (!checkpoint.Step()) return Failed("write");
  if (checkpoint.Number(0) == 0) return Nothing{};
  return Refused("is being read by another program, so its log cannot be cut",
                 "let nobody hold a state open");
}

// ---- Looking ------------------------------------------------------------------------------------

Result<std::vector<StateDatabase::Group>> StateDatabase::Groups() {
  Statement rows(*this,
                 "SELECT tenant, kind, count(*), sum(length(value)) FROM entries "
                 "GROUP BY tenant, kind ORDER BY tenant, kind");
  std::vector<Group> groups;
  while (rows.Step()) {
    groups.push_back({rows.Text(0), rows.Text(1), static_cast<uint64_t>(rows.Number(2)),
                      static_cast<uint64_t>(rows.Number(3))});
  }
  if (!rows.ok()) return Failed("read");
  return groups;
}

Result<std::vector<StateDatabase::TakeOver>> StateDatabase::History() {
  Statement rows(*this,
                 "SELECT events, next_offset, fingerprint_from, configuration_from, "
                 "fingerprint_to, configuration_to FROM history ORDER BY change");
  std::vector<TakeOver> history;
  while (rows.Step()) {
    history.push_back({static_cast<uint64_t>(rows.Number(0)),
                       rows.Number(1),
                       {rows.Text(2), rows.Text(3)},
                       {rows.Text(4), rows.Text(5)}});
  }
  if (!rows.ok()) return Failed("read");
  return history;
}

Result<std::optional<std::pair<std::string, std::string>>> StateDatabase::Last(
    const std::string& tenant, const std::string& kind) {
  Statement row(*this,
                "SELECT id, value FROM entries WHERE kind = ?1 AND tenant = ?2 "
                "ORDER BY id DESC LIMIT 1");
  std::optional<std::pair<std::string, std::string>> last;
  if (row.Bind(1, kind).Bind(2, tenant).Step()) last.emplace(row.Text(0), row.Text(1));
  if (!row.ok()) return Failed("read");
  return last;
}

}  // namespace nudge
