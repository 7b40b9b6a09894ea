// labels: unit
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <utility>
#include <vector>

#include "stages/hash.h"
#include "stages/model/learn/spill_file.h"
#include "tests/temp_folder.h"
#include "tests/unnamed_file.h"

namespace nudge {
namespace {

using testing::FlipBitAt;
using testing::SizeOf;
using testing::TempFolder;
using testing::UnnamedFileIn;

constexpr uint64_t kGrain = SpillFile::kGrainBytes;

std::string BytesOf(size_t size, uint64_t seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(RandomAt(seed, i));
  return bytes;
}

struct World {
  TempFolder folder;
  SpillFile file = std::move(*SpillFile::Open(folder.path()));
  int descriptor = UnnamedFileIn(folder.path());

  SpillFile::Ticket Put(std::string_view bytes) { return *file.Put(bytes); }
  SpillFile::Ticket Put(uint64_t grains) { return Put(std::string(grains * kGrain, 'x')); }
};

BOOST_AUTO_TEST_CASE(what_is_put_is_read_as_often_as_wanted_and_the_folder_shows_no_file) {
  World world;
  std::vector<std::pair<SpillFile::Ticket, std::string>> kept;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}, size_t{kGrain},
                            size_t{kGrain} + 1, size_t{kGrain} * 3 - 1}) {
    std::string bytes = BytesOf(size, size);
    kept.emplace_back(world.Put(bytes), bytes);
  }
  for (int i = 0; i < 2; ++i) {
    for (const auto& [ticket, bytes] : kept) BOOST_TEST((*world.file.Read(ticket) == bytes));
  }
  BOOST_TEST(std::filesystem::is_empty(world.folder.path()));
}

BOOST_AUTO_TEST_CASE(no_two_that_are_kept_share_a_byte_whatever_was_put_and_freed_before) {
  World world;
  std::vector<std::pair<SpillFile::Ticket, std::string>> kept;
  uint64_t kept_bytes = 0, most_bytes = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    if (kept.size() == 6 || (!kept.empty() && RandomAt(1, i) % 3 == 0)) {
      const auto one = kept.begin() + static_cast<std::ptrdiff_t>(RandomAt(2, i) % kept.size());
      BOOST_TEST((*world.file.Read(one->first) == one->second));
      world.file.Free(one->first);
      kept_bytes -= one->second.size();
      kept.erase(one);
    } else {
      std::string bytes = BytesOf(RandomAt(3, i) % (3 * kGrain), i);
      kept_bytes += bytes.size();
      most_bytes = std::max(most_bytes, kept_bytes);
      kept.emplace_back(world.Put(bytes), bytes);
    }
  }
  for (const auto& [ticket, bytes] : kept) BOOST_TEST((*world.file.Read(ticket) == bytes));
  BOOST_TEST(world.file.end_bytes() < 2 * most_bytes + 6 * kGrain);
}

BOOST_AUTO_TEST_CASE(freed_space_is_joined_and_used_again_before_the_file_grows) {
  World world;
  const auto first = world.Put(1), second = world.Put(2), third = world.Put(1);
  BOOST_TEST(world.file.end_bytes() == 4 * kGrain);
  world.file.Free(first);
  const auto small = world.Put("a little");
  BOOST_TEST(small.offset == 0);
  world.file.Free(small);
  BOOST_TEST(world.Put(2).offset == 4 * kGrain);  // the hole is too small
  world.file.Free(second);
  const auto half = world.Put(2);
  BOOST_TEST(half.offset == 0);
  BOOST_TEST(world.Put(1).offset == 2 * kGrain);
  BOOST_TEST(world.file.end_bytes() == 6 * kGrain);
  BOOST_TEST((*world.file.Read(third) == std::string(kGrain, 'x')));
}

BOOST_AUTO_TEST_CASE(in_whatever_order_neighbours_are_freed_the_file_is_empty_in_the_end) {
  std::array<int, 3> order = {0, 1, 2};
  do {
    World world;
    const std::array<SpillFile::Ticket, 3> tickets = {world.Put(1), world.Put(2), world.Put(3)};
    BOOST_TEST(SizeOf(world.descriptor) == 6 * kGrain);
    for (const int i : order) world.file.Free(tickets.at(static_cast<size_t>(i)));
    BOOST_TEST(world.file.end_bytes() == 0);
    BOOST_TEST(SizeOf(world.descriptor) == 0);
  } while (std::next_permutation(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(what_is_freed_is_off_the_disk_at_once_and_its_neighbours_stay) {
  World world;
  const auto before = world.Put(1), secret = world.Put(std::string(2 * kGrain - 7, 's')),
             after = world.Put(1);
  const auto disk = [&] {
    std::string bytes(SizeOf(world.descriptor), '\0');
    BOOST_REQUIRE(pread(world.descriptor, bytes.data(), bytes.size(), 0) ==
                  static_cast<ssize_t>(bytes.size()));
    return bytes;
  };
  const auto blocks = [&] {
    struct stat status {};
    BOOST_REQUIRE(fstat(world.descriptor, &status) == 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  };
  BOOST_TEST((disk().find("sss") != std::string::npos));
  const uint64_t blocks_before = blocks();
  world.file.Free(secret);
  BOOST_TEST((disk().find('s') == std::string::npos));
  BOOST_TEST_MESSAGE("on the disk: " << blocks_before << " -> " << blocks() << " bytes");
  BOOST_TEST((*world.file.Read(before) == std::string(kGrain, 'x')));
  BOOST_TEST((*world.file.Read(after) == std::string(kGrain, 'x')));
  const auto again = world.Put(std::string(2 * kGrain, 'y'));
  BOOST_TEST(again.offset == kGrain);
  BOOST_TEST((*world.file.Read(again) == std::string(2 * kGrain, 'y')));
}

BOOST_AUTO_TEST_CASE(bytes_that_changed_or_moved_or_are_missing_are_not_given_out) {
  World world;
  const std::string bytes = BytesOf(10'003, 1);
  const auto before = world.Put(bytes);
  const auto ticket = world.Put(BytesOf(10'003, 2));
  const auto is_refused = [&] {
    const auto read = world.file.Read(ticket);
    return !read.ok() && read.error().code == Code::kUnreadableFile &&
           read.error().message.find(world.folder.path()) != std::string::npos;
  };
  for (const uint64_t at : {0, 1, 7, 8, 5'000, 9'999, 10'002}) {
    FlipBitAt(world.descriptor, ticket.offset + at);
    BOOST_TEST(is_refused(), at);
    FlipBitAt(world.descriptor, ticket.offset + at);
    BOOST_TEST(!is_refused(), at);
  }
  std::array<uint64_t, 2> words{};  // two that change places
  const auto at = static_cast<off_t>(ticket.offset + 800);
  BOOST_REQUIRE(pread(world.descriptor, words.data(), sizeof words, at) == sizeof words);
  std::swap(words[0], words[1]);
  BOOST_REQUIRE(pwrite(world.descriptor, words.data(), sizeof words, at) == sizeof words);
  BOOST_TEST(is_refused());
  std::swap(words[0], words[1]);
  BOOST_REQUIRE(pwrite(world.descriptor, words.data(), sizeof words, at) == sizeof words);
  BOOST_TEST(!is_refused());
  SpillFile::Ticket other = ticket;
  other.offset = before.offset;
  BOOST_TEST(!world.file.Read(other).ok());
  BOOST_REQUIRE(ftruncate(world.descriptor, static_cast<off_t>(ticket.offset + 10'002)) == 0);
  BOOST_TEST(is_refused());
  BOOST_TEST((*world.file.Read(before) == bytes));
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_an_error_that_leaves_everything_as_it_was) {
  const pid_t child = fork();
  if (child == 0) {  // a limit on the size of files, as a disk of three grains would have
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{3 * kGrain, 3 * kGrain};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(99);
    World world;
    const auto kept = world.Put(2);
    const auto refused = world.file.Put(BytesOf(2 * kGrain, 1));
    if (refused.ok() || refused.error().message.find(world.folder.path()) == std::string::npos) {
      _exit(1);
    }
    if (SizeOf(world.descriptor) != 2 * kGrain || world.file.end_bytes() != 2 * kGrain) _exit(2);
    if (*world.file.Read(kept) != std::string(2 * kGrain, 'x')) _exit(3);
    const std::string fits = BytesOf(kGrain, 2);
    if (*world.file.Read(world.Put(fits)) != fits) _exit(4);
    std::filesystem::remove_all(world.folder.path());
    _exit(0);
  }
  int status = 0;
  BOOST_REQUIRE((child > 0 && waitpid(child, &status, 0) == child));
  BOOST_TEST(WIFEXITED(status));
  BOOST_TEST(WEXITSTATUS(status) == 0);
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_not_there_is_named) {
  const auto opened = SpillFile::Open("/nowhere/at/all");
  BOOST_REQUIRE(!opened.ok());
  BOOST_TEST(opened.error().message ==
             "cannot make a file in /nowhere/at/all: No such file or "
             "directory");
}

}  // namespace
}  // namespace nudge
