// labels: unit
#include "stages/model/learn/import_store.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "stages/hash.h"
#include "stages/model/template_backend.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::FileBytes;
using nudge::testing::TempFolder;

namespace {

namespace fs = std::filesystem;

std::string Name(int number) {
  return Sha256Hex("file " + std::to_string(number));
}

AdapterVersion VersionOf(int number, size_t bytes = 100'000) {
  AdapterVersion version;
  version.digest = Sha256Hex("digest " + std::to_string(number));
  version.parent_digest = number % 2 == 0 ? "base" : "";
  version.counts = {1, 2, 3, 4, 5, static_cast<uint64_t>(number)};
  version.weights.resize(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    version.weights[i] = static_cast<char>(RandomAt(static_cast<uint64_t>(number), i));
  }
  return version;
}

bool Same(const AdapterVersion& a, const AdapterVersion& b) {
  const auto counts = [](const AdapterVersion& of) {
    const LearnCounts& c = of.counts;
    return std::vector{c.steps, c.examples, c.corrections, c.ups, c.downs, c.refused};
  };
  return a.digest == b.digest && a.parent_digest == b.parent_digest && a.weights == b.weights &&
         counts(a) == counts(b) && a.plugged == nullptr;
}

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

struct World {
  TempFolder folder;
  std::string place = folder.path() + "/state/imports";
  ImportStore store{place};
  std::unique_ptr<Backend> teacher = MakeTemplateBackend({});

  std::string PathOf(int number) const { return place + "/" + Name(number) + ".adapter"; }
  bool Finds(int number, size_t bytes = 100'000) const {
    const auto found = store.Find(Name(number), *teacher);
    BOOST_REQUIRE_MESSAGE(found.ok(), (found.ok() ? "" : found.error().message));
    return *found != nullptr && Same(**found, VersionOf(number, bytes));
  }
  bool HasNothing(int number) const {
    const auto found = store.Find(Name(number), *teacher);
    BOOST_REQUIRE_MESSAGE(found.ok(), (found.ok() ? "" : found.error().message));
    return *found == nullptr;
  }
  size_t Files() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(place), fs::directory_iterator()));
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_put_is_found_by_the_digest_it_was_asked_for_by_another_process_too) {
  const World world;
  BOOST_TEST(world.HasNothing(1));
  BOOST_TEST(!fs::exists(world.place));
  for (const int number : {1, 2, 3}) {
    BOOST_REQUIRE(world.store.Put(Name(number), VersionOf(number)).ok());
  }
  for (const int number : {1, 2, 3}) BOOST_TEST(world.Finds(number));
  BOOST_TEST(world.HasNothing(4));
  const auto found = ImportStore(world.place).Find(Name(2), *world.teacher);
  BOOST_TEST((found.ok() && *found != nullptr && Same(**found, VersionOf(2))));
  BOOST_REQUIRE(world.store.Put(Name(7), VersionOf(7, 0)).ok());
  BOOST_TEST(world.Finds(7, 0));
}

BOOST_AUTO_TEST_CASE(what_is_put_again_takes_the_place_of_what_was_there) {
  const World world;
  BOOST_REQUIRE(world.store.Put(Name(1), VersionOf(9)).ok());
  const std::string before = FileBytes(world.PathOf(1));
  BOOST_REQUIRE(world.store.Put(Name(1), VersionOf(1)).ok());
  BOOST_TEST(world.Finds(1));
  BOOST_REQUIRE(world.store.Put(Name(1), VersionOf(9)).ok());
  BOOST_TEST((FileBytes(world.PathOf(1)) == before));  // equal versions are equal bytes
  BOOST_TEST(world.Files() == 1u);
}

BOOST_AUTO_TEST_CASE(a_file_that_was_cut_altered_or_renamed_is_as_if_it_were_not_there) {
  const World world;
  BOOST_REQUIRE(world.store.Put(Name(1), VersionOf(1, 1'000)).ok());
  const std::string good = FileBytes(world.PathOf(1));
  for (size_t size = 0; size < good.size(); ++size) {
    Write(world.PathOf(1), good.substr(0, size));
    BOOST_TEST(world.HasNothing(1), "cut to " << size);
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::string altered = good;
    altered[at] = static_cast<char>(altered[at] ^ 1);
    Write(world.PathOf(1), altered);
    BOOST_TEST(world.HasNothing(1), "altered at " << at);
  }
  Write(world.PathOf(1), good + "x");
  BOOST_TEST(world.HasNothing(1));
  Write(world.PathOf(1), good);
  BOOST_TEST(world.Finds(1, 1'000));
  fs::rename(world.PathOf(1), world.PathOf(2));
  BOOST_TEST(world.HasNothing(2));
  fs::create_directories(world.PathOf(3));
  BOOST_TEST(world.HasNothing(3));
  // It can be put anew.
  BOOST_REQUIRE(world.store.Put(Name(2), VersionOf(2)).ok());
  BOOST_TEST(world.Finds(2));
}

BOOST_AUTO_TEST_CASE(a_file_with_a_right_seal_of_another_format_is_not_taken) {
  const World world;
  BOOST_REQUIRE(world.store.Put(Name(1), VersionOf(1, 10)).ok());
  std::string bytes = FileBytes(world.PathOf(1));
  bytes.resize(bytes.size() - 64);
  const auto sealed = [](const std::string& text) { return text + Sha256Hex(text); };
  Write(world.PathOf(1), sealed(bytes));
  BOOST_TEST(world.Finds(1, 10));
  for (const std::string& other :
       {'\2' + bytes.substr(1), bytes + "x", bytes.substr(0, bytes.size() - 1), std::string()}) {
    Write(world.PathOf(1), sealed(other));
    BOOST_TEST(world.HasNothing(1));
  }
}

BOOST_AUTO_TEST_CASE(all_but_the_kept_ones_are_removed_with_what_a_killed_writer_left) {
  const World world;
  BOOST_REQUIRE(world.store.Keep({Name(1)}).ok());  // there is no folder yet
  for (const int number : {1, 2, 3, 4}) {
    BOOST_REQUIRE(world.store.Put(Name(number), VersionOf(number)).ok());
  }
  Write(world.place + "/.tmp-" + Name(2) + ".adapter-aBcDeF", "half");
  Write(world.PathOf(4), "damaged");
  BOOST_REQUIRE(world.store.Keep({Name(1), Name(3), Name(9)}).ok());
  BOOST_TEST(world.Files() == 2u);
  BOOST_TEST(world.Finds(1));
  BOOST_TEST(world.HasNothing(2));
  BOOST_TEST(world.Finds(3));
  BOOST_REQUIRE(world.store.Keep({}).ok());
  BOOST_TEST(world.Files() == 0u);
}

BOOST_AUTO_TEST_CASE(a_name_that_is_no_digest_is_refused_and_touches_nothing) {
  const World world;
  for (const std::string& name :
       {std::string(), std::string("../../x"), Name(1).substr(1), Name(1) + "0",
        std::string(64, 'A'), std::string(64, '/'), "." + Name(1).substr(1)}) {
    const auto put = world.store.Put(name, VersionOf(1));
    const auto found = world.store.Find(name, *world.teacher);
    BOOST_REQUIRE((!put.ok() && !found.ok()));
    BOOST_TEST((put.error().code == Code::kWrongAdapter));
    BOOST_TEST((found.error().code == Code::kWrongAdapter));
    BOOST_TEST(!put.error().remedy.empty());
  }
  BOOST_TEST(fs::is_empty(world.folder.path()));
}

BOOST_AUTO_TEST_CASE(files_and_folder_are_their_owners_alone_whatever_the_umask) {
  const World world;
  const mode_t before = umask(0);
  const bool put = world.store.Put(Name(1), VersionOf(1)).ok();
  umask(before);
  BOOST_REQUIRE(put);
  BOOST_TEST((fs::status(world.PathOf(1)).permissions() == fs::perms(0600)));
  BOOST_TEST((fs::status(world.place).permissions() == fs::perms(0700)));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_an_error_that_hides_where_it_is) {
  const World world;
  Write(world.folder.path() + "/state", "a file");
  const auto put = world.store.Put(Name(1), VersionOf(1));
  BOOST_REQUIRE(!put.ok());
  BOOST_TEST((put.error().code == Code::kUnreadableFile));
  BOOST_TEST(put.error().message.find("imports") != std::string::npos);
  BOOST_TEST(put.error().message.find(world.folder.path()) == std::string::npos);
  BOOST_TEST(!put.error().remedy.empty());
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_an_error_that_leaves_what_was_there) {
  const World world;
  BOOST_REQUIRE(world.store.Put(Name(1), VersionOf(1)).ok());
  const pid_t child = fork();
  if (child == 0) {  // a limit on the size of files, as a disk that is full would have
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1'000, 1'000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(99);
    const auto put = world.store.Put(Name(1), VersionOf(2));
    const bool says_so = !put.ok() && put.error().remedy.find("make room") != std::string::npos;
    _exit(says_so ? 0 : 1);
  }
  int status = 0;
  BOOST_REQUIRE((child > 0 && waitpid(child, &status, 0) == child));
  BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  BOOST_TEST(world.Finds(1));
  BOOST_TEST(world.Files() == 1u);
}

BOOST_AUTO_TEST_CASE(threads_that_put_and_find_one_version_see_it_whole_or_not_at_all) {
  const World world;
  std::array<bool, 4> ok{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < ok.size(); ++t) {
    threads.emplace_back([&, t] {
      ok[t] = true;
      for (int round = 0; round < 20; ++round) {
        ok[t] = ok[t] && world.store.Put(Name(1), VersionOf(1)).ok();
        const auto found = world.store.Find(Name(1), *world.teacher);
        ok[t] = ok[t] && found.ok() && *found != nullptr && Same(**found, VersionOf(1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST((ok == std::array{true, true, true, true}));
  BOOST_TEST(world.Files() == 1u);
}

BOOST_AUTO_TEST_CASE(without_a_folder_nothing_is_kept) {
  const World world;
  const ImportStore store("");
  BOOST_TEST(store.Put(Name(1), VersionOf(1)).ok());
  const auto found = store.Find(Name(1), *world.teacher);
  BOOST_TEST((found.ok() && *found == nullptr));
  BOOST_TEST(store.Keep({}).ok());
}
