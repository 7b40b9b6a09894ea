// labels: unit
#include <boost/test/unit_test.hpp>

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "tests/state_world.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

namespace fs = std::filesystem;

Cut MakeCut(uint64_t follows, uint64_t events, Changes changes) {
  return {0,
          follows,
          events,
          static_cast<int64_t>(events),
          Sha256("chain " + std::to_string(events)),
          std::move(changes)};
}

std::string PathOf(const std::string& folder) {
  return folder + "/partition-00000.sqlite";
}

// Every change of three cuts: 10, 20, 30.
const std::vector<Cut>& ThreeCuts() {
  static const std::vector<Cut> cuts = {
      MakeCut(0, 10, {{"t", "index/document", "a", "1"}, {"t", "index/document", "b", "2"}}),
      MakeCut(10, 20,
              {{"t", "index/document", "a", std::nullopt}, {"t", "index/document", "b", "3"}}),
      MakeCut(20, 30, {{"t", "index/document", "c", "4"}})};
  return cuts;
}

void WriteThreeCuts(StateStore& store) {
  BOOST_REQUIRE(store.Newest(0, 0).ok());
  for (const Cut& cut : ThreeCuts()) BOOST_REQUIRE(store.Write(cut).ok());
}

// Waits for the backup after each cut.
void WriteThreeCutsWithBackups(const std::string& folder) {
  for (const Cut& cut : ThreeCuts()) {
    StateStore store(folder, kIdentity, kEachCut);
    BOOST_REQUIRE(store.Newest(0, kAny).ok());
    BOOST_REQUIRE(store.Write(cut).ok());
  }
}

std::vector<std::string> Values(const Cut& cut) {
  std::vector<std::string> values;
  for (const Change& change : cut.changes) values.push_back(change.id + *change.value);
  return values;
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// Name -> bytes of all files in a folder.
std::map<std::string, std::string> Everything(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename()] = FileBytes(entry.path());
  }
  return files;
}

std::set<std::string> Names(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

// As they lie on the disk while the store has them open: the file and its log, without the index.
void CopyAsAfterPowerCut(const std::string& from, const std::string& to) {
  for (const char* part : {"", "-wal"}) {
    fs::copy_file(PathOf(from) + part, PathOf(to) + part, fs::copy_options::overwrite_existing);
  }
}

Cut RequireCut(StateStore& store, int64_t committed = kAny) {
  auto cut = store.Newest(0, committed);
  BOOST_REQUIRE_MESSAGE(cut.ok(), (cut.ok() ? "" : cut.error().message));
  BOOST_REQUIRE(cut->has_value());
  return std::move(**cut);
}

std::string RefusalOf(StateStore& store, int64_t committed = kAny) {
  const auto cut = store.Newest(0, committed);
  if (cut.ok()) return "not refused";
  BOOST_TEST((cut.error().code == Code::kUnreadableFile));
  BOOST_TEST(!cut.error().remedy.empty());
  return cut.error().message;
}

bool Says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void Execute(const std::string& path, const std::string& sql) {
  sqlite3* handle = nullptr;
  BOOST_REQUIRE(sqlite3_open(path.c_str(), &handle) == SQLITE_OK);
  BOOST_REQUIRE(sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(handle);
}

// What a run would have saved by its n-th cut: rows that change, rows that go, rows of 0 to 40 KB.
Cut NthCut(uint64_t n) {
  Changes changes;
  for (uint64_t i = 0; i < 20; ++i) {
    const uint64_t random = RandomAt(7, n * 100 + i);
    Change change{"tenant-" + std::to_string(random % 3), "index/document",
                  std::to_string(random / 3 % 50), std::nullopt};
    if (random % 10 != 0) change.value = std::string(random % 40'000, static_cast<char>(random));
    changes.push_back(std::move(change));
  }
  return MakeCut((n - 1) * 10, n * 10, std::move(changes));
}

// The state after n cuts, kept the obvious way.
Changes StateAfter(uint64_t n) {
  Changes state;
  for (uint64_t cut = 1; cut <= n; ++cut) {
    for (const Change& change : NthCut(cut).changes) {
      std::erase_if(state, [&](const Change& old) {
        return old.tenant == change.tenant && old.kind == change.kind && old.id == change.id;
      });
      if (change.value) state.push_back(change);
    }
  }
  return state;
}

bool Equal(const Changes& x, const Changes& y) {
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const Change& a, const Change& b) {
    return a.tenant == b.tenant && a.kind == b.kind && a.id == b.id && a.value == b.value;
  });
}

// Runs `body` in a process of its own, whose limits and rights it may change; true: it said so.
template <class Body>
bool InChild(Body body) {
  const pid_t child = fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  BOOST_REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

// ---- Cuts ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(what_was_saved_last_is_restored) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity);
    WriteThreeCuts(store);
  }
  StateStore store(folder.path(), kIdentity);
  const Cut cut = RequireCut(store, 30);
  BOOST_TEST(cut.events == 30u);
  BOOST_TEST(cut.next_offset == 30);
  BOOST_TEST((cut.chain == Sha256("chain 30")));
  BOOST_TEST(Values(cut) == (std::vector<std::string>{"b3", "c4"}));
  BOOST_TEST(cut.changes[0].tenant == "t");
  BOOST_TEST(cut.changes[0].kind == "index/document");
}

BOOST_AUTO_TEST_CASE(a_folder_without_state_has_none_however_often_it_is_asked) {
  const TempFolder folder;
  for (int start = 0; start < 3; ++start) {
    StateStore store(folder.path() + "/new", kIdentity);
    const auto cut = store.Newest(0, 0);
    BOOST_REQUIRE(cut.ok());
    BOOST_TEST(!cut->has_value());
  }
}

BOOST_AUTO_TEST_CASE(entries_come_back_in_the_order_in_which_they_were_saved_last) {
  const TempFolder folder;
  Changes changes;
  for (int i = 0; i < 100; ++i) {
    const auto number = std::to_string(RandomAt(1, static_cast<uint64_t>(i)));
    changes.push_back({"t", "k/" + std::to_string(i % 3), number, number});
  }
  {
    StateStore store(folder.path(), kIdentity);
    BOOST_REQUIRE(store.Newest(0, 0).ok());
    BOOST_REQUIRE(store.Write(MakeCut(0, 1, changes)).ok());
    BOOST_REQUIRE(store.Write(MakeCut(1, 2, {changes[5], changes[3]})).ok());
  }
  changes.push_back(changes[5]);
  changes.push_back(changes[3]);
  changes.erase(changes.begin() + 5);
  changes.erase(changes.begin() + 3);
  StateStore store(folder.path(), kIdentity);
  BOOST_TEST(Equal(RequireCut(store).changes, changes));
}

BOOST_AUTO_TEST_CASE(any_bytes_and_any_names_are_kept) {
  const TempFolder folder;
  const std::string odd("\0'\"\xff\n", 5);
  Changes changes = {{"", "k/a", "", ""},
                     {odd, "k/a", odd, odd},
                     {"t", "k/b", std::string(3000, 'i'), std::string(3'000'000, '\0')}};
  for (int byte = 0; byte < 256; ++byte) changes.back().value->push_back(static_cast<char>(byte));
  {
    StateStore store(folder.path() + "/?#% a", kIdentity, kEachCut);
    BOOST_REQUIRE(store.Newest(0, 0).ok());
    BOOST_REQUIRE(store.Write(MakeCut(0, 1, changes)).ok());
  }
  StateStore store(folder.path() + "/?#% a", kIdentity);
  BOOST_TEST(Equal(RequireCut(store).changes, changes));
  BOOST_TEST(StateFilesIn(folder.path() + "/?#% a")[0].backups.size() == 1u);
}

BOOST_AUTO_TEST_CASE(writing_goes_on_after_a_restore) {
  const TempFolder folder;
  for (uint64_t n = 1; n <= 30; ++n) {
    StateStore store(folder.path(), kIdentity, {.backup_every_cuts = 4});
    if (n > 1) {
      const Cut cut = RequireCut(store, static_cast<int64_t>(n - 1) * 10);
      BOOST_TEST(Equal(cut.changes, StateAfter(n - 1)));
    } else {
      BOOST_REQUIRE(store.Newest(0, 0).ok());
    }
    BOOST_REQUIRE(store.Write(NthCut(n)).ok());
  }
}

BOOST_AUTO_TEST_CASE(partitions_are_files_of_their_own) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity);
    for (const int32_t partition : {0, 7, 123456}) {
      BOOST_REQUIRE(store.Newest(partition, 0).ok());
      Cut cut = MakeCut(0, 5, {{"t", "k/a", "partition", std::to_string(partition)}});
      cut.partition = partition;
      BOOST_REQUIRE(store.Write(cut).ok());
    }
  }
  StateStore store(folder.path(), kIdentity);
  for (const int32_t partition : {0, 7, 123456}) {
    const auto cut = store.Newest(partition, 5);
    BOOST_REQUIRE(cut.ok());
    BOOST_TEST((*cut)->partition == partition);
    BOOST_TEST(*(*cut)->changes[0].value == std::to_string(partition));
  }
  store.Close(0);
  fs::rename(PathOf(folder.path()), folder.path() + "/partition-00003.sqlite");
  const auto renamed = store.Newest(3, kAny);
  BOOST_REQUIRE(!renamed.ok());
  BOOST_TEST(Says(renamed.error().message, "is of partition 0"));
}

BOOST_AUTO_TEST_CASE(a_file_does_not_grow_by_what_is_replaced) {
  const TempFolder folder;
  StateStore store(folder.path(), kIdentity, kNoBackups);
  BOOST_REQUIRE(store.Newest(0, 0).ok());
  for (uint64_t events = 1; events <= 40; ++events) {
    BOOST_REQUIRE(store
                      .Write(MakeCut(events - 1, events,
                                     {{"t", "executor/learner", "", std::string(1 << 20, 'x')}}))
                      .ok());
  }
  BOOST_TEST(fs::file_size(PathOf(folder.path())) < 4u << 20);
  BOOST_TEST(fs::file_size(PathOf(folder.path()) + "-wal") < 16u << 20);
  BOOST_TEST(RequireCut(store, 40).events == 40u);
}

BOOST_AUTO_TEST_CASE(a_closed_partition_is_one_file_that_may_be_copied) {
  const TempFolder folder;
  StateStore store(folder.path(), kIdentity, kNoBackups);
  WriteThreeCuts(store);
  store.Close(0);
  BOOST_TEST(Names(folder.path()) == (std::set<std::string>{"partition-00000.sqlite"}));
  BOOST_TEST(!store.Write(MakeCut(30, 40, {})).ok());
  const TempFolder other;
  fs::copy_file(PathOf(folder.path()), PathOf(other.path()));
  StateStore next(other.path(), kIdentity);
  BOOST_TEST(Values(RequireCut(next, 30)) == (std::vector<std::string>{"b3", "c4"}));
}

// ---- Who may write ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_cut_that_does_not_follow_is_refused_and_changes_nothing) {
  const TempFolder folder;
  StateStore store(folder.path(), kIdentity);
  WriteThreeCuts(store);
  for (const uint64_t follows : {0u, 20u, 29u, 31u}) {
    const auto written = store.Write(MakeCut(follows, 40, {{"t", "k/a", "x", "y"}}));
    BOOST_REQUIRE(!written.ok());
    BOOST_TEST((written.error().code == Code::kFenced));
    BOOST_TEST(Says(written.error().message, "belongs to another process"));
  }
  BOOST_TEST(store.Write(MakeCut(30, 40, {{"t", "index/document", "d", "5"}})).ok());
  BOOST_TEST(Values(RequireCut(store)) == (std::vector<std::string>{"b3", "c4", "d5"}));
}

BOOST_AUTO_TEST_CASE(who_restores_last_owns_the_partition_and_the_owner_before_cannot_write) {
  const TempFolder folder;
  StateStore before(folder.path(), kIdentity);
  WriteThreeCuts(before);
  StateStore after(folder.path(), kIdentity);
  BOOST_TEST(RequireCut(after, 30).events == 30u);
  const auto late = before.Write(MakeCut(30, 40, {{"t", "index/document", "zombie", "!"}}));
  BOOST_REQUIRE(!late.ok());
  BOOST_TEST(Says(late.error().message, "belongs to another process"));
  BOOST_TEST(after.Write(MakeCut(30, 40, {{"t", "index/document", "d", "5"}})).ok());
  BOOST_TEST(!before.Write(MakeCut(40, 50, {})).ok());
  StateStore third(folder.path(), kIdentity);
  BOOST_TEST(Values(RequireCut(third, 40)) == (std::vector<std::string>{"b3", "c4", "d5"}));
}

BOOST_AUTO_TEST_CASE(another_configuration_takes_over_only_after_a_clean_stop_and_is_noted) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity);
    WriteThreeCuts(store);
  }
  StateStore other(folder.path(), {"models", "another"});
  BOOST_TEST(Says(RefusalOf(other, 31), "another configuration"));
  StateStore models(folder.path(), {"other models", "another"});
  BOOST_TEST(Says(RefusalOf(models, 31), "other models"));
  BOOST_TEST(RequireCut(other, 30).events == 30u);
  other.Close(0);
  BOOST_TEST(Says(RefusalOf(models, 31), "other models"));
  BOOST_TEST(RequireCut(models, 30).events == 30u);
  BOOST_TEST(models.Write(MakeCut(30, 40, {})).ok());
  models.Close(0);
  StateStore first(folder.path(), kIdentity);
  BOOST_TEST(Says(RefusalOf(first, 41), "other models"));

  const auto summary = Summarize(PathOf(folder.path()));
  BOOST_REQUIRE(summary.ok());
  BOOST_REQUIRE(summary->history.size() == 2u);
  BOOST_TEST(summary->history[0].next_offset == 30);
  BOOST_TEST((summary->history[0].from == kIdentity));
  BOOST_TEST((summary->history[0].to == StateIdentity{"models", "another"}));
  BOOST_TEST((summary->history[1].to == StateIdentity{"other models", "another"}));
}

BOOST_AUTO_TEST_CASE(a_state_of_nothing_may_be_begun_by_anybody) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), {"other models", "another"});
    BOOST_REQUIRE(store.Newest(0, 0).ok());
  }
  StateStore store(folder.path(), kIdentity);
  WriteThreeCuts(store);
  const auto summary = Summarize(PathOf(folder.path()));
  BOOST_REQUIRE(summary.ok());
  BOOST_TEST((summary->meta.identity == kIdentity));
  BOOST_TEST(summary->history.empty());
}

BOOST_AUTO_TEST_CASE(another_number_of_partitions_is_refused) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, {.partition_count = 6});
    WriteThreeCuts(store);
  }
  StateStore unknown(folder.path(), kIdentity);
  BOOST_TEST(RequireCut(unknown, 30).events == 30u);
  unknown.Close(0);
  StateStore other(folder.path(), kIdentity, {.partition_count = 8});
  BOOST_TEST(Says(RefusalOf(other, 30), "had 6 partitions, now it has 8"));
  StateStore same(folder.path(), kIdentity, {.partition_count = 6});
  BOOST_TEST(RequireCut(same, 30).events == 30u);
}

// ---- Damage -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_cut_that_was_torn_anywhere_falls_back_to_the_one_before) {
  const TempFolder folder;
  StateStore store(folder.path(), kIdentity, kNoBackups);
  WriteThreeCuts(store);
  const TempFolder copy;
  const std::string log = PathOf(copy.path()) + "-wal";
  const uintmax_t whole = fs::file_size(PathOf(folder.path()) + "-wal");
  uint64_t newest = 30;
  std::set<uint64_t> seen;
  for (uintmax_t size = whole; size > 32; size -= std::min<uintmax_t>(size, 1009)) {
    CopyAsAfterPowerCut(folder.path(), copy.path());
    fs::resize_file(log, size);
    StateStore torn(copy.path(), kIdentity, kNoBackups);
    const auto cut = torn.Newest(0, kAny);
    BOOST_REQUIRE(cut.ok());
    const uint64_t events = *cut ? (*cut)->events : 0;
    BOOST_TEST(events <= newest);
    BOOST_TEST(events % 10 == 0u);
    if (events == 20) BOOST_TEST(Values(**cut) == (std::vector<std::string>{"b3"}));
    if (events == 10) BOOST_TEST(Values(**cut) == (std::vector<std::string>{"a1", "b2"}));
    newest = events;
    seen.insert(events);
  }
  BOOST_TEST(seen == (std::set<uint64_t>{0, 10, 20, 30}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_flipped_byte_in_the_log_ends_the_state_before_its_cut) {
  const TempFolder folder;
  StateStore store(folder.path(), kIdentity, kNoBackups);
  WriteThreeCuts(store);
  const TempFolder copy;
  const std::string log = FileBytes(PathOf(folder.path()) + "-wal");
  std::set<uint64_t> seen;
  for (size_t at = log.size() - 1; at > 32; at -= std::min<size_t>(at, 1013)) {
    CopyAsAfterPowerCut(folder.path(), copy.path());
    std::string flipped = log;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    WriteFile(PathOf(copy.path()) + "-wal", flipped);
    StateStore torn(copy.path(), kIdentity, kNoBackups);
    const auto cut = torn.Newest(0, kAny);
    BOOST_REQUIRE(cut.ok());
    const uint64_t events = *cut ? (*cut)->events : 0;
    BOOST_TEST(events < 30u);
    if (events == 20) BOOST_TEST(Values(**cut) == (std::vector<std::string>{"b3"}));
    seen.insert(events);
  }
  BOOST_TEST(seen == (std::set<uint64_t>{0, 10, 20}), boost::test_tools::per_element());
}

// Refused, or without any effect on what is restored now and after the next cut.
BOOST_AUTO_TEST_CASE(no_flipped_byte_in_the_file_changes_what_is_restored) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, kNoBackups);
    BOOST_REQUIRE(store.Newest(0, 0).ok());
    for (uint64_t n = 1; n <= 3; ++n) BOOST_REQUIRE(store.Write(NthCut(n)).ok());
  }
  const std::string bytes = FileBytes(PathOf(folder.path()));
  const TempFolder copy;
  size_t refused = 0;
  size_t without_effect = 0;
  for (size_t at = 0; at < bytes.size(); at += at < 100 ? 1 : 4001) {
    const auto flip = static_cast<char>(1 << (at % 8));
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ flip);
    fs::remove(PathOf(copy.path()) + "-wal");
    WriteFile(PathOf(copy.path()), flipped);
    {
      StateStore store(copy.path(), kIdentity, kNoBackups);
      const auto cut = store.Newest(0, kAny);
      if (!cut.ok()) {
        ++refused;
        continue;
      }
      ++without_effect;
      BOOST_REQUIRE(cut->has_value());
      BOOST_TEST((*cut)->events == 30u);
      BOOST_TEST(Equal((*cut)->changes, StateAfter(3)), "byte " << at);
      if (!store.Write(NthCut(4)).ok()) continue;
    }
    StateStore store(copy.path(), kIdentity, kNoBackups);
    const auto cut = store.Newest(0, kAny);
    if (cut.ok()) BOOST_TEST(Equal((*cut)->changes, StateAfter(4)), "byte " << at);
  }
  BOOST_TEST_MESSAGE(refused << " flips refused, " << without_effect << " without effect");
  BOOST_TEST(refused > 100u);
}

// What is not a row's own bytes: gone, doubled, in another place, changed together with its seal.
BOOST_AUTO_TEST_CASE(altered_rows_are_found) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, kNoBackups);
    WriteThreeCuts(store);
  }
  const TempFolder copy;
  for (const std::string sql :
       {"DELETE FROM entries WHERE id = 'b'", "DELETE FROM entries",
        "UPDATE entries SET value = x'35' WHERE id = 'b'",
        "UPDATE entries SET tenant = 'u' WHERE id = 'b'",
        "UPDATE entries SET position = -1 WHERE id = 'c'",
        "UPDATE entries SET seal = seal + 1 WHERE id = 'c'", "UPDATE meta SET events = 31",
        "UPDATE meta SET next_offset = 29", "UPDATE meta SET chain = upper(chain)",
        "UPDATE meta SET fingerprint = 'x'", "DROP TABLE history", "DROP TABLE entries",
        "ALTER TABLE meta RENAME TO data", "ALTER TABLE entries RENAME COLUMN seal TO mark"}) {
    fs::copy_file(PathOf(folder.path()), PathOf(copy.path()), fs::copy_options::overwrite_existing);
    Execute(PathOf(copy.path()), sql);
    StateStore store(copy.path(), {"models", "another"}, kNoBackups);
    BOOST_TEST(Says(RefusalOf(store, 30), "damaged"), sql);
  }
}

BOOST_AUTO_TEST_CASE(a_foreign_file_is_refused_and_left_alone) {
  const TempFolder folder;
  const std::string path = PathOf(folder.path());
  StateStore store(folder.path(), kIdentity);
  for (const std::string& content : {std::string("hello"), std::string(5000, 'x'),
                                     std::string("SQLite format 3\0and then not", 28)}) {
    WriteFile(path, content);
    BOOST_TEST(Says(RefusalOf(store), path));
    BOOST_TEST(FileBytes(path) == content);
  }
  fs::remove(path);
  Execute(path, "CREATE TABLE accounts (name TEXT); PRAGMA user_version = 1");
  const std::string database = FileBytes(path);
  BOOST_TEST(Says(RefusalOf(store), "of another program"));
  BOOST_TEST(FileBytes(path) == database);
  fs::remove(path);
  fs::create_directory(path);
  BOOST_TEST(Says(RefusalOf(store), path));
}

// What a kill leaves between the making of the file and its first transaction.
BOOST_AUTO_TEST_CASE(an_empty_file_is_a_state_of_nothing) {
  const TempFolder folder;
  WriteFile(PathOf(folder.path()), "");
  StateStore store(folder.path(), kIdentity);
  WriteThreeCuts(store);
  BOOST_TEST(RequireCut(store).events == 30u);
}

BOOST_AUTO_TEST_CASE(a_newer_format_is_refused_and_left_alone) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, kNoBackups);
    WriteThreeCuts(store);
  }
  Execute(PathOf(folder.path()), "PRAGMA user_version = 2");
  const auto before = Everything(folder.path());
  StateStore store(folder.path(), kIdentity);
  BOOST_TEST(Says(RefusalOf(store), "has format 2, this nudge knows up to 1"));
  BOOST_TEST((Everything(folder.path()) == before));
}

// ---- Backups ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(three_backups_are_kept_with_the_offset_in_their_names) {
  const TempFolder folder;
  for (uint64_t n = 1; n <= 5; ++n) {
    StateStore store(folder.path(), kIdentity, kEachCut);
    BOOST_REQUIRE(store.Newest(0, kAny).ok());
    BOOST_REQUIRE(store.Write(NthCut(n)).ok());
  }
  BOOST_TEST(Names(folder.path()) ==
                 (std::set<std::string>{"partition-00000.backup-00000000000000000030.sqlite",
                                        "partition-00000.backup-00000000000000000040.sqlite",
                                        "partition-00000.backup-00000000000000000050.sqlite",
                                        "partition-00000.sqlite"}),
             boost::test_tools::per_element());
  const StateFiles files = StateFilesIn(folder.path())[0];
  for (const auto& [offset, path] : files.backups) {
    const auto summary = Summarize(path);
    BOOST_REQUIRE(summary.ok());
    BOOST_TEST(summary->meta.next_offset == offset);
    BOOST_TEST(summary->damage == "");
  }
}

BOOST_AUTO_TEST_CASE(the_first_cut_is_backed_up_and_then_one_of_so_many) {
  const TempFolder folder;
  std::set<int64_t> offsets;
  StateStore store(folder.path(), kIdentity, {.backup_every_cuts = 3});
  BOOST_REQUIRE(store.Newest(0, 0).ok());
  for (uint64_t n = 1; n <= 8; ++n) {
    BOOST_REQUIRE(store.Write(NthCut(n)).ok());
    store.WaitForBackups();
    for (const auto& [partition, files] : StateFilesIn(folder.path())) {
      for (const auto& [offset, path] : files.backups) offsets.insert(offset);
    }
  }
  BOOST_TEST(offsets == (std::set<int64_t>{10, 40, 70}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_damaged_state_is_set_aside_and_the_newest_whole_backup_goes_on) {
  const TempFolder folder;
  WriteThreeCutsWithBackups(folder.path());
  fs::remove(StateFilesIn(folder.path())[0].backups.at(30));
  const std::string damaged = "no database " + std::string(50'000, 'x');
  WriteFile(PathOf(folder.path()), damaged);
  std::vector<std::string> notices;
  {
    StateStore store(folder.path(), kIdentity, {},
                     [&](const std::string& notice) { notices.push_back(notice); });
    const Cut cut = RequireCut(store);
    BOOST_TEST(cut.events == 20u);
    BOOST_TEST(Values(cut) == (std::vector<std::string>{"b3"}));
    BOOST_TEST(store.Write(MakeCut(20, 30, {})).ok());
  }
  BOOST_REQUIRE(notices.size() == 1u);
  BOOST_TEST(Says(notices[0], "damaged"), notices[0]);
  BOOST_TEST(Says(notices[0], "set aside"), notices[0]);
  BOOST_TEST(FileBytes(folder.path() + "/partition-00000.damaged-1.sqlite") == damaged);

  // The newest backup is damaged too, in a value: the one before it is used.
  const std::string newest = StateFilesIn(folder.path())[0].backups.at(20);
  Execute(newest, "UPDATE entries SET value = x'36'");
  WriteFile(PathOf(folder.path()), damaged);
  StateStore store(folder.path(), kIdentity, {},
                   [&](const std::string& notice) { notices.push_back(notice); });
  BOOST_TEST(RequireCut(store).events == 10u);
  BOOST_TEST(notices.size() == 3u);
  BOOST_TEST(fs::exists(folder.path() + "/partition-00000.damaged-2.sqlite"));
}

BOOST_AUTO_TEST_CASE(a_damaged_state_without_a_backup_says_what_to_do) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, kNoBackups);
    WriteThreeCuts(store);
  }
  Execute(PathOf(folder.path()), "UPDATE entries SET value = x'35'");
  StateStore store(folder.path(), kIdentity);
  const auto cut = store.Newest(0, kAny);
  BOOST_REQUIRE(!cut.ok());
  BOOST_TEST(Says(cut.error().remedy, "move the file away"));
  BOOST_TEST(Names(folder.path()) == (std::set<std::string>{"partition-00000.sqlite"}));
  fs::remove(PathOf(folder.path()));
  BOOST_TEST(!store.Newest(0, kAny)->has_value());
}

BOOST_AUTO_TEST_CASE(a_state_ahead_of_the_output_is_refused) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, kNoBackups);
    WriteThreeCuts(store);
  }
  StateStore store(folder.path(), kIdentity);
  for (const int64_t committed : {0, 9, 29}) BOOST_TEST(Says(RefusalOf(store, committed), "ahead"));
  BOOST_TEST(RequireCut(store, 30).events == 30u);
}

BOOST_AUTO_TEST_CASE(a_state_ahead_of_the_output_gives_way_to_a_backup_that_is_not) {
  const TempFolder folder;
  WriteThreeCutsWithBackups(folder.path());
  {
    StateStore store(folder.path(), kIdentity);
    BOOST_TEST(Says(RefusalOf(store, 9), "ahead"));
    const Cut cut = RequireCut(store, 29);
    BOOST_TEST(cut.events == 20u);
    BOOST_TEST(Values(cut) == (std::vector<std::string>{"b3"}));
    BOOST_TEST(store.Write(MakeCut(20, 25, {{"t", "index/document", "other", "5"}})).ok());
  }
  BOOST_TEST(fs::exists(folder.path() + "/partition-00000.ahead-1.sqlite"));
  BOOST_TEST(fs::exists(folder.path() + "/partition-00000.ahead-2.sqlite"));
  BOOST_TEST(!StateFilesIn(folder.path())[0].backups.contains(30));
  StateStore store(folder.path(), kIdentity);
  BOOST_TEST(Values(RequireCut(store)) == (std::vector<std::string>{"b3", "other5"}));
}

BOOST_AUTO_TEST_CASE(a_lost_state_is_made_again_from_its_backup_whatever_log_lies_there) {
  const TempFolder folder;
  WriteThreeCutsWithBackups(folder.path());
  const TempFolder other;
  StateStore writer(other.path(), kIdentity, kNoBackups);
  BOOST_REQUIRE(writer.Newest(0, 0).ok());
  BOOST_REQUIRE(writer.Write(NthCut(1)).ok());
  fs::remove(PathOf(folder.path()));
  fs::copy_file(PathOf(other.path()) + "-wal", PathOf(folder.path()) + "-wal");
  StateStore store(folder.path(), kIdentity);
  BOOST_TEST(Values(RequireCut(store)) == (std::vector<std::string>{"b3", "c4"}));
}

BOOST_AUTO_TEST_CASE(a_backup_of_another_configuration_is_refused_and_nothing_is_moved) {
  const TempFolder folder;
  WriteThreeCutsWithBackups(folder.path());
  WriteFile(PathOf(folder.path()), "damaged");
  const auto before = Everything(folder.path());
  StateStore store(folder.path(), {"models", "another"});
  BOOST_TEST(Says(RefusalOf(store, 40), "another configuration"));
  BOOST_TEST((Everything(folder.path()) == before));
  BOOST_TEST(RequireCut(store, 30).events == 30u);
}

// ---- The disk -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_stops_the_start) {
  BOOST_CHECK_THROW(StateStore("/dev/null/state", kIdentity), StartError);
  const TempFolder folder;
  WriteFile(folder.path() + "/file", "");
  BOOST_CHECK_THROW(StateStore(folder.path() + "/file", kIdentity), StartError);
}

BOOST_AUTO_TEST_CASE(a_read_only_folder_is_refused_with_a_reason) {
  const TempFolder folder;
  {
    StateStore store(folder.path() + "/state", kIdentity, kNoBackups);
    WriteThreeCuts(store);
  }
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder.path() + "/state", fs::perms(0555));
  fs::permissions(PathOf(folder.path() + "/state"), fs::perms(0444));
  constexpr uid_t kNobody = 65534;
  BOOST_TEST(InChild([&] {
    if (geteuid() == 0 && setuid(kNobody) != 0) return false;
    try {
      StateStore store(folder.path() + "/state", kIdentity);
    } catch (const StartError& error) {
      return Says(error.what(), "cannot be written");
    }
    return false;
  }));
  fs::permissions(folder.path() + "/state", fs::perms(0777));
  BOOST_TEST(InChild([&] {
    if (geteuid() == 0 && setuid(kNobody) != 0) return false;
    StateStore store(folder.path() + "/state", kIdentity);
    const auto cut = store.Newest(0, kAny);
    return !cut.ok() && Says(cut.error().message, "readonly") &&
           Says(cut.error().remedy, "permissions");
  }));
}

// A limit on file sizes ends writes as a full disk does, with another number.
BOOST_AUTO_TEST_CASE(a_cut_that_cannot_be_written_leaves_the_one_before) {
  const TempFolder folder;
  BOOST_TEST(InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    StateStore store(folder.path(), kIdentity, kNoBackups);
    if (!store.Newest(0, 0).ok()) return false;
    for (const Cut& cut : ThreeCuts()) {
      if (!store.Write(cut).ok()) return false;
    }
    const rlimit narrow{1 << 20, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &narrow) != 0) return false;
    const Cut large =
        MakeCut(30, 40, {{"t", "k/a", "large", std::string(4 << 20, 'x')}, {"t", "k/a", "b", "c"}});
    const auto written = store.Write(large);
    if (written.ok() || !Says(written.error().message, "cannot write")) return false;
    if (!Says(written.error().remedy, "as it was saved last")) return false;
    const rlimit wide{RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &wide) != 0) return false;
    return store.Newest(0, kAny).value()->events == 30 && store.Write(large).ok();
  }));
  StateStore store(folder.path(), kIdentity);
  BOOST_TEST(RequireCut(store).events == 40u);
}

BOOST_AUTO_TEST_CASE(a_backup_that_cannot_be_written_is_noticed_and_the_cut_stands) {
  const TempFolder folder;
  fs::create_directories(folder.path() + "/partition-00000.backup.new/in the way");
  std::vector<std::string> notices;
  {
    StateStore store(folder.path(), kIdentity, kEachCut,
                     [&](const std::string& notice) { notices.push_back(notice); });
    BOOST_REQUIRE(store.Newest(0, 0).ok());
    BOOST_REQUIRE(store.Write(NthCut(1)).ok());
  }
  BOOST_REQUIRE(notices.size() == 1u);
  BOOST_TEST(Says(notices[0], "this backup is left out"), notices[0]);
  StateStore store(folder.path(), kIdentity);
  BOOST_TEST(RequireCut(store).events == 10u);
}

// ---- Looking ------------------------------------------------------------------------------------

// A process that has written a state and has it open, until it goes out of scope.
class Writer {
 public:
  Writer(const std::string& folder, const Cut& last) {
    int pipe_ends[2];
    BOOST_REQUIRE(pipe(pipe_ends) == 0);
    child_ = fork();
    BOOST_REQUIRE(child_ >= 0);
    if (child_ == 0) {
      StateStore store(folder, kIdentity, {.backup_every_cuts = 0, .partition_count = 6});
      WriteThreeCuts(store);
      const bool is_written = store.Write(last).ok();
      if (write(pipe_ends[1], &is_written, sizeof is_written) != sizeof is_written) _exit(1);
      while (true) pause();
    }
    bool is_written = false;
    BOOST_REQUIRE(read(pipe_ends[0], &is_written, sizeof is_written) == sizeof is_written);
    BOOST_REQUIRE(is_written);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
  }
  ~Writer() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

 private:
  pid_t child_ = 0;
};

BOOST_AUTO_TEST_CASE(a_summary_counts_by_tenant_and_kind_and_changes_nothing) {
  const auto check = [](const std::string& at) {
    const auto before = Everything(at);
    const auto summary = Summarize(PathOf(at));
    BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
    BOOST_TEST(summary->meta.events == 40u);
    BOOST_TEST((summary->meta.chain == Sha256("chain 40")));
    BOOST_TEST((summary->meta.partition_count == 6));
    BOOST_TEST(summary->damage == "");
    BOOST_REQUIRE(summary->groups.size() == 2u);
    BOOST_TEST(summary->groups[0].tenant == "t");
    BOOST_TEST(summary->groups[0].entries == 2u);
    BOOST_TEST(summary->groups[0].bytes == 2u);
    BOOST_TEST(summary->groups[1].kind == "executor/adapter_version");
    BOOST_TEST(summary->groups[1].bytes == 8u);
    BOOST_TEST(summary->adapters.at("u").second == "three");
    BOOST_TEST((Everything(at) == before));
  };
  const TempFolder folder;
  {
    const Writer writer(folder.path(), MakeCut(30, 40,
                                               {{"u", "executor/adapter_version", "1", "one"},
                                                {"u", "executor/adapter_version", "2", "three"}}));
    check(folder.path());
  }
  check(folder.path());  // as the killed writer left it
  const TempFolder copy;
  CopyAsAfterPowerCut(folder.path(), copy.path());
  check(copy.path());
  {
    StateStore store(copy.path(), kIdentity);
    BOOST_TEST(RequireCut(store).events == 40u);
  }
  BOOST_TEST(Names(copy.path()) == (std::set<std::string>{"partition-00000.sqlite"}));
  check(copy.path());
}

BOOST_AUTO_TEST_CASE(a_summary_names_damage) {
  const TempFolder folder;
  {
    StateStore store(folder.path(), kIdentity, kNoBackups);
    WriteThreeCuts(store);
  }
  Execute(PathOf(folder.path()), "UPDATE entries SET value = x'35'");
  const auto summary = Summarize(PathOf(folder.path()));
  BOOST_REQUIRE(summary.ok());
  BOOST_TEST(Says(summary->damage, "does not have its seal"));
  WriteFile(PathOf(folder.path()), "hello");
  BOOST_TEST(!Summarize(PathOf(folder.path())).ok());
  BOOST_TEST(!Summarize(folder.path() + "/nothing").ok());
}

// ---- Kills --------------------------------------------------------------------------------------

// A process that writes cuts until it dies, and says after each that it is written.
[[noreturn]] void WriteUntilKilled(const std::string& folder, int told) {
  StateStore store(folder, kIdentity, {.backup_every_cuts = 3});
  const auto cut = store.Newest(0, kAny);
  if (!cut.ok()) _exit(1);
  for (uint64_t n = (*cut ? (*cut)->events / 10 : 0) + 1;; ++n) {
    if (!store.Write(NthCut(n)).ok()) _exit(2);
    if (write(told, &n, sizeof n) != sizeof n) _exit(3);
  }
}

BOOST_AUTO_TEST_CASE(a_process_killed_anywhere_leaves_a_whole_cut_to_go_on_from) {
  const TempFolder folder;
  uint64_t written = 0;  // the last cut that a process was told of
  int torn_copies = 0;
  for (uint64_t kill_number = 0; kill_number < 20; ++kill_number) {
    int pipe_ends[2];
    BOOST_REQUIRE(pipe(pipe_ends) == 0);
    const pid_t child = fork();
    BOOST_REQUIRE(child >= 0);
    if (child == 0) {
      close(pipe_ends[0]);
      WriteUntilKilled(folder.path(), pipe_ends[1]);
    }
    close(pipe_ends[1]);
    // Anywhere: from the start-up to some cuts later.
    uint64_t n = 0;
    for (uint64_t wait_for = RandomAt(3, kill_number) % 6; wait_for > 0; --wait_for) {
      BOOST_REQUIRE(read(pipe_ends[0], &n, sizeof n) == sizeof n);
      written = n;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(RandomAt(4, kill_number) % 20'000));
    BOOST_REQUIRE(kill(child, SIGKILL) == 0);
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_REQUIRE(WIFSIGNALED(status));
    while (read(pipe_ends[0], &n, sizeof n) == sizeof n) written = n;
    close(pipe_ends[0]);
    torn_copies += fs::exists(folder.path() + "/partition-00000.backup.new");

    StateStore store(folder.path(), kIdentity, {.backup_every_cuts = 3});
    const auto cut = store.Newest(0, kAny);
    BOOST_REQUIRE_MESSAGE(cut.ok(), (cut.ok() ? "" : cut.error().message));
    const uint64_t found = *cut ? (*cut)->events / 10 : 0;
    BOOST_TEST(found >= written);
    BOOST_TEST(found <= written + 1);
    if (*cut) {
      BOOST_TEST(Equal((*cut)->changes, StateAfter(found)));
      BOOST_TEST(((*cut)->chain == NthCut(found).chain));
    }
    BOOST_TEST(!store.Write(NthCut(found + 2)).ok());
    BOOST_TEST(store.Write(NthCut(found + 1)).ok());
    written = found + 1;
  }
  BOOST_TEST_MESSAGE(written << " cuts, " << torn_copies << " kills in the middle of a backup");
  BOOST_TEST(written > 40u);
  const StateFiles files = StateFilesIn(folder.path())[0];
  for (const auto& [offset, path] : files.backups) {
    const auto summary = Summarize(path);
    BOOST_REQUIRE(summary.ok());
    BOOST_TEST(summary->damage == "");
  }
  BOOST_TEST(files.aside.empty());
}
