// labels: unit
// What was forgotten is nowhere in the state folder: not in the state, not in its log, not in a
// backup, not in a file that was set aside. Looked for byte by byte.
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "stages/hash.h"
#include "tests/state_world.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

namespace fs = std::filesystem;

const std::string kSecret = "SECRET-OF-SOMEBODY";
const std::string kPublic = "known-to-everybody";

// Names of files in the folder that hold the text.
std::set<std::string> FilesWith(const std::string& folder, const std::string& text) {
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && FileBytes(entry.path()).find(text) != std::string::npos) {
      found.insert(entry.path().filename());
    }
  }
  return found;
}

size_t BackupsIn(const std::string& folder) {
  return StateFilesIn(folder)[0].backups.size();
}

// A partition whose entries come and go in every size, a seventh of them somebody's.
class Life {
 public:
  Cut Next(int changes = 400) {
    Cut cut = Empty();
    for (int i = 0; i < changes; ++i) {
      const uint64_t random = RandomAt(11, count_++);
      const uint64_t number = random % 20'000;
      const std::string who = number % 7 == 0 ? kSecret : kPublic;
      Change change{"tenant-" + std::to_string(number % 3), "index/document",
                    who + "/" + std::to_string(number), std::nullopt};
      const size_t words = std::array<size_t, 4>{0, 1, 3, 15}[random / 20'000 % 4];
      if (random / 80'000 % 4 != 0) {
        change.value = "";
        for (size_t word = 0; word < words; ++word) *change.value += who + " ";
      }
      state_[{change.tenant, change.id}] = change;
      if (!change.value) state_.erase({change.tenant, change.id});
      cut.changes.push_back(std::move(change));
    }
    return cut;
  }
  Cut Forget() {
    Cut cut = Empty();
    cut.forgets = true;
    for (const auto& [key, change] : state_) {
      if (!key.second.starts_with(kSecret)) continue;
      cut.changes.push_back({change.tenant, change.kind, change.id, std::nullopt});
    }
    for (const Change& gone : cut.changes) state_.erase({gone.tenant, gone.id});
    return cut;
  }
  bool Is(const Cut& cut) const {
    if (cut.changes.size() != state_.size()) return false;
    for (const Change& change : cut.changes) {
      const auto found = state_.find({change.tenant, change.id});
      if (found == state_.end() || found->second.value != change.value) return false;
    }
    return true;
  }

 private:
  Cut Empty() {
    const uint64_t follows = events_;
    events_ += 10;
    return {0, follows, events_, static_cast<int64_t>(events_), {}, {}};
  }

  uint64_t count_ = 0;
  uint64_t events_ = 0;
  std::map<std::pair<std::string, std::string>, Change> state_;
};

struct World {
  TempFolder folder;
  Life life;
  std::mutex mutex;
  std::vector<std::string> notices;

  std::unique_ptr<StateStore> Open(StateStoreOptions options) {
    return std::make_unique<StateStore>(folder.path(), kIdentity, options,
                                        [this](const std::string& notice) {
                                          const std::lock_guard lock(mutex);
                                          notices.push_back(notice);
                                        });
  }
  // Cuts with a backup of each, three of which are kept; something set aside.
  void Live(StateStore& store, int cuts = 12) {
    BOOST_REQUIRE(store.Newest(0, kAny).ok());
    for (int i = 0; i < cuts; ++i) {
      BOOST_REQUIRE(store.Write(life.Next()).ok());
      store.WaitForBackups();
    }
    const std::string stem = folder.path() + "/partition-00000";
    fs::copy_file(stem + ".sqlite", stem + ".damaged-1.sqlite");
    fs::copy_file(stem + ".sqlite-wal", stem + ".damaged-1.sqlite-wal");
    fs::copy_file(stem + ".sqlite", stem + ".ahead-1.sqlite");
    BOOST_TEST(FilesWith(folder.path(), kSecret).size() >= 2u);
  }
  bool Restores(StateStoreOptions options = kNoBackups) {
    const auto store = Open(options);
    const auto cut = store->Newest(0, kAny);
    return cut.ok() && cut->has_value() && life.Is(**cut);
  }
  void RequireNothingLeft(size_t backups) {
    BOOST_TEST(FilesWith(folder.path(), kSecret) == std::set<std::string>{});
    BOOST_TEST(BackupsIn(folder.path()) == backups);
    BOOST_TEST(StateFilesIn(folder.path())[0].aside.empty());
    BOOST_TEST(!fs::exists(folder.path() + "/partition-00000.forgetting"));
    BOOST_TEST(!FilesWith(folder.path(), kPublic).empty());
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(after_a_cut_that_forgets_no_file_of_the_folder_holds_what_was_forgotten) {
  World world;
  {
    const auto store = world.Open(kEachCut);
    world.Live(*store);
    BOOST_TEST(BackupsIn(world.folder.path()) == 3u);
    BOOST_REQUIRE(store->Write(world.life.Forget()).ok());
    // At once in the state itself, while its process lives.
    const std::set<std::string> left = FilesWith(world.folder.path(), kSecret);
    BOOST_TEST(!left.contains("partition-00000.sqlite"));
    BOOST_TEST(!left.contains("partition-00000.sqlite-wal"));
    store->WaitForBackups();
    world.RequireNothingLeft(1);
    BOOST_TEST(world.notices.size() == 1u);  // files that were set aside are gone
  }
  world.RequireNothingLeft(1);
  BOOST_TEST(world.Restores());
  // The backup is a whole one.
  fs::remove(world.folder.path() + "/partition-00000.sqlite");
  BOOST_TEST(world.Restores());
}

// Many small rows that come and go: SQLite moves such between pages, and leaves copies of them
// there that no deletion finds.
BOOST_AUTO_TEST_CASE(what_moved_between_pages_before_it_was_forgotten_is_gone_too) {
  World world;
  const auto store = world.Open(kNoBackups);
  BOOST_REQUIRE(store->Newest(0, kAny).ok());
  for (int i = 0; i < 60; ++i) BOOST_REQUIRE(store->Write(world.life.Next(1'000)).ok());
  BOOST_REQUIRE(store->Write(world.life.Forget()).ok());
  world.RequireNothingLeft(0);
}

BOOST_AUTO_TEST_CASE(without_backups_the_copies_of_earlier_runs_go_with_the_cut) {
  World world;
  { world.Live(*world.Open(kEachCut)); }
  const auto store = world.Open(kNoBackups);
  BOOST_REQUIRE(store->Newest(0, kAny).ok());
  BOOST_REQUIRE(store->Write(world.life.Forget()).ok());
  world.RequireNothingLeft(0);
  BOOST_REQUIRE(store->Write(world.life.Next()).ok());
  BOOST_TEST(world.Restores());
}

BOOST_AUTO_TEST_CASE(cuts_that_forget_nothing_leave_copies_alone) {
  World world;
  const auto store = world.Open(kEachCut);
  world.Live(*store);
  for (int i = 0; i < 3; ++i) {
    BOOST_REQUIRE(store->Write(world.life.Next()).ok());
    store->WaitForBackups();
  }
  BOOST_TEST(BackupsIn(world.folder.path()) == 3u);
  BOOST_TEST(StateFilesIn(world.folder.path())[0].aside.size() == 2u);
}

BOOST_AUTO_TEST_CASE(what_was_interrupted_is_done_at_the_next_start) {
  for (const StateStoreOptions& options : {kEachCut, kNoBackups}) {
    World world;
    {
      const auto store = world.Open(kEachCut);
      world.Live(*store);
      // A process that died between the transaction and all else: a cut that does not say that it
      // forgets, and the mark of one that does.
      Cut forgets = world.life.Forget();
      forgets.forgets = false;
      BOOST_REQUIRE(store->Write(forgets).ok());
      store->WaitForBackups();
    }
    std::ofstream(world.folder.path() + "/partition-00000.forgetting") << "";
    BOOST_TEST(!FilesWith(world.folder.path(), kSecret).empty());
    BOOST_TEST(world.Restores(options));
    world.RequireNothingLeft(options.backup_every_cuts == 0 ? 0 : 1);
  }
}

BOOST_AUTO_TEST_CASE(a_mark_whose_cut_was_never_committed_costs_a_backup_and_no_state) {
  World world;
  { world.Live(*world.Open(kEachCut)); }
  std::ofstream(world.folder.path() + "/partition-00000.forgetting") << "";
  BOOST_TEST(world.Restores(kEachCut));
  BOOST_TEST(BackupsIn(world.folder.path()) == 1u);
  const auto store = world.Open(kEachCut);
  BOOST_REQUIRE(store->Newest(0, kAny).ok());
  BOOST_REQUIRE(store->Write(world.life.Forget()).ok());
  store->WaitForBackups();
  world.RequireNothingLeft(1);
}

BOOST_AUTO_TEST_CASE(a_state_that_is_damaged_too_is_forgotten_once_its_log_was_replayed) {
  World world;
  { world.Live(*world.Open(kEachCut)); }
  const std::string live = world.folder.path() + "/partition-00000.sqlite";
  std::ofstream(world.folder.path() + "/partition-00000.forgetting") << "";
  fs::resize_file(live, fs::file_size(live) / 2);
  const auto store = world.Open(kEachCut);
  const auto cut = store->Newest(0, kAny);  // the newest backup is that of the last cut
  BOOST_REQUIRE((cut.ok() && cut->has_value() && world.life.Is(**cut)));
  BOOST_REQUIRE(store->Write(world.life.Forget()).ok());
  store->WaitForBackups();
  world.RequireNothingLeft(1);
}

BOOST_AUTO_TEST_CASE(where_no_backup_can_be_made_the_old_ones_stay_until_one_can) {
  World world;
  const auto store = world.Open(kEachCut);
  world.Live(*store);
  const std::string in_the_way = world.folder.path() + "/partition-00000.backup.new";
  fs::create_directories(in_the_way + "/inside");
  BOOST_REQUIRE(store->Write(world.life.Forget()).ok());
  store->WaitForBackups();
  BOOST_TEST(BackupsIn(world.folder.path()) == 3u);
  BOOST_TEST(fs::exists(world.folder.path() + "/partition-00000.forgetting"));
  BOOST_TEST(!world.notices.empty());
  fs::remove_all(in_the_way);
  BOOST_REQUIRE(store->Write(world.life.Next()).ok());
  store->WaitForBackups();
  BOOST_TEST(BackupsIn(world.folder.path()) == 1u);
  BOOST_TEST(!fs::exists(world.folder.path() + "/partition-00000.forgetting"));
}

BOOST_AUTO_TEST_CASE(a_reader_that_holds_the_log_is_waited_for_and_outlived) {
  World world;
  const auto store = world.Open(kNoBackups);
  world.Live(*store, 3);
  sqlite3* reader = nullptr;
  const std::string live = world.folder.path() + "/partition-00000.sqlite";
  BOOST_REQUIRE(sqlite3_open(live.c_str(), &reader) == SQLITE_OK);
  const auto run = [&](const char* sql) {
    BOOST_REQUIRE(sqlite3_exec(reader, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
  };
  run("BEGIN; SELECT count(*) FROM entries");
  BOOST_REQUIRE(store->Write(world.life.Forget()).ok());  // the cut stands all the same
  BOOST_TEST(!FilesWith(world.folder.path(), kSecret).empty());
  BOOST_REQUIRE(!world.notices.empty());
  BOOST_TEST(world.notices[0].find("read by another program") != std::string::npos);
  run("COMMIT");
  sqlite3_close(reader);
  Cut next = world.life.Next();
  std::erase_if(next.changes, [](const Change& c) { return c.id.starts_with(kSecret); });
  BOOST_REQUIRE(store->Write(next).ok());
  world.RequireNothingLeft(0);
}

BOOST_AUTO_TEST_CASE(every_file_of_the_state_is_its_owners_alone_whatever_the_umask) {
  World world;
  const std::string folder = world.folder.path() + "/deep/state";
  const mode_t before = umask(0);
  {
    StateStore store(folder, kIdentity, kEachCut);
    bool ok = store.Newest(0, 0).ok();
    for (int i = 0; i < 3; ++i) {
      ok = ok && store.Write(i == 2 ? world.life.Forget() : world.life.Next()).ok();
      store.WaitForBackups();
    }
    umask(before);
    BOOST_TEST(ok);
    size_t files = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      BOOST_TEST((entry.status().permissions() == fs::perms(0600)), entry.path());
      ++files;
    }
    BOOST_TEST(files == 4u);  // the state, its log, the log's index, a backup
  }
  BOOST_TEST((fs::status(folder).permissions() == fs::perms(0700)));
  BOOST_TEST((fs::status(folder + "/..").permissions() == fs::perms(0700)));
  // What somebody opened to a group stays so.
  fs::permissions(folder + "/partition-00000.sqlite", fs::perms(0640));
  StateStore store(folder, kIdentity, kEachCut);
  BOOST_REQUIRE(store.Newest(0, kAny).ok());
  BOOST_TEST((fs::status(folder + "/partition-00000.sqlite").permissions() == fs::perms(0640)));
}
