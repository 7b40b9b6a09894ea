// labels: unit
#include "stages/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

namespace fs = std::filesystem;

mode_t ModeOf(const std::string& path) {
  struct stat status {};
  BOOST_REQUIRE(stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

// For one test; umasks are the process's.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(umask(mask)) {}
  ~Umask() { umask(before_); }
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;

 private:
  mode_t before_;
};

std::string Content(const std::string& path) {
  return ReadFile(path, 1 << 20).value();
}

}  // namespace

BOOST_AUTO_TEST_CASE(new_files_and_folders_are_their_owners_alone_whatever_the_umask) {
  for (const mode_t mask : {0000, 0022, 0077, 0277}) {
    const TempFolder folder;
    const Umask set(mask);
    const std::string deep = folder.path() + "/a/b/c";
    BOOST_REQUIRE(MakeFolders(deep).ok());
    for (const char* made : {"/a", "/a/b", "/a/b/c"}) {
      BOOST_TEST(ModeOf(folder.path() + made) == 0700u);
    }
    BOOST_REQUIRE(OpenFile(deep + "/opened", O_RDWR | O_CREAT).ok());
    BOOST_REQUIRE(OpenFile(deep + "/exclusive", O_RDWR | O_CREAT | O_EXCL).ok());
    BOOST_REQUIRE(ReplaceFile(deep + "/whole", "bytes").ok());
    for (const char* made : {"/opened", "/exclusive", "/whole"}) {
      BOOST_TEST(ModeOf(deep + made) == 0600u);
    }
    BOOST_REQUIRE(MakeFolders(deep + "/d", 0750).ok());
    BOOST_TEST(ModeOf(deep + "/d") == 0750u);
    BOOST_REQUIRE(ReplaceFile(deep + "/shared", "bytes", 0640).ok());
    BOOST_TEST(ModeOf(deep + "/shared") == 0640u);
  }
}

BOOST_AUTO_TEST_CASE(what_is_there_keeps_the_mode_that_somebody_gave_it) {
  const TempFolder folder;
  const std::string file = folder.path() + "/f";
  BOOST_REQUIRE(ReplaceFile(file, "1").ok());
  BOOST_REQUIRE(chmod(file.c_str(), 0664) == 0);
  BOOST_REQUIRE(chmod(folder.path().c_str(), 0755) == 0);
  BOOST_REQUIRE(ReplaceFile(file, "22").ok());
  BOOST_REQUIRE(OpenFile(file, O_RDWR | O_CREAT).ok());
  BOOST_REQUIRE(MakeFolders(folder.path()).ok());
  BOOST_TEST(ModeOf(file) == 0664u);
  BOOST_TEST(ModeOf(folder.path()) == 0755u);
  BOOST_TEST(Content(file) == "22");
}

BOOST_AUTO_TEST_CASE(a_file_that_cannot_be_replaced_is_as_it_was_and_nothing_lies_beside_it) {
  const TempFolder folder;
  fs::create_directories(folder.path() + "/f/inside");  // no file can take its place
  const auto replaced = ReplaceFile(folder.path() + "/f", "bytes");
  BOOST_REQUIRE(!replaced.ok());
  BOOST_TEST(replaced.error().message.find("irectory") != std::string::npos);
  BOOST_TEST(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  BOOST_TEST(!ReplaceFile(folder.path() + "/none/f", "bytes").ok());
  BOOST_TEST(!MakeFolders("/proc/nudge").ok());
  std::ofstream(folder.path() + "/file") << "x";
  BOOST_TEST(!MakeFolders(folder.path() + "/file").ok());
  BOOST_TEST(!MakeFolders(folder.path() + "/file/below").ok());
}

BOOST_AUTO_TEST_CASE(only_regular_files_of_a_known_size_are_read) {
  const TempFolder folder;
  const std::string file = folder.path() + "/f";
  std::ofstream(file) << "12345";
  BOOST_TEST(*ReadFile(file, 5) == "12345");
  BOOST_TEST(ReadFile(file, 4).error().message == "it has more than 4 bytes");
  BOOST_TEST(ReadFile("/dev/zero", 4).error().message == "it is not a file");
  BOOST_TEST(ReadFile(folder.path(), 4).error().message == "it is not a file");
  BOOST_TEST(ReadFile(file + "2", 4).error().message == "No such file or directory");
  BOOST_REQUIRE(mkfifo((folder.path() + "/pipe").c_str(), 0600) == 0);
  BOOST_TEST(ReadFile(folder.path() + "/pipe", 4).error().message == "it is not a file");
}

BOOST_AUTO_TEST_CASE(erased_bytes_are_zeros_and_their_neighbours_stay) {
  for (const auto erase : {EraseBytes, OverwriteWithZeros}) {
    const TempFolder folder;
    const std::string path = folder.path() + "/f";
    BOOST_REQUIRE(ReplaceFile(path, std::string(300'000, 'x')).ok());
    const auto file = OpenFile(path, O_RDWR);
    BOOST_REQUIRE(erase(**file, 1'000, 200'000).ok());
    BOOST_REQUIRE(erase(**file, 250'000, 0).ok());
    BOOST_TEST((Content(path) ==
                std::string(1'000, 'x') + std::string(200'000, '\0') + std::string(99'000, 'x')));
  }
}

BOOST_AUTO_TEST_CASE(where_bytes_cannot_be_written_erasing_says_so) {
  const TempFolder folder;
  BOOST_REQUIRE(ReplaceFile(folder.path() + "/f", "bytes").ok());
  const auto file = OpenFile(folder.path() + "/f", O_RDONLY);
  BOOST_TEST(!EraseBytes(**file, 0, 5).ok());
  BOOST_TEST(Content(folder.path() + "/f") == "bytes");
}
