// labels: unit
// The embedded log keeps what it said it has: torn ends, damage, full disks, any order of events.
#include <boost/test/unit_test.hpp>

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <future>
#include <set>
#include <sstream>
#include <thread>

#include "connectors/log/embedded_log.h"
#include "connectors/log/embedded_source.h"
#include "stages/hash.h"
#include "temp_folder.h"

using namespace nudge;
using nudge::testing::FileBytes;
using nudge::testing::TempFolder;

namespace {

namespace fs = std::filesystem;
using Milliseconds = std::chrono::milliseconds;
using Strings = std::vector<std::string>;

constexpr Milliseconds kPatience{10'000};

struct Opened {
  explicit Opened(const EventLogOptions& options)
      : log(options, [this](const std::string& notice) { notices.push_back(notice); }) {}
  Strings notices;
  EmbeddedLog log;
};

EventLogOptions In(const std::string& folder) {
  EventLogOptions options;
  options.folder = folder;
  return options;
}

// Appends one and waits until readers see it, which is after its own callback.
Result<int64_t> Append(EmbeddedLog& log, std::string bytes, std::string key = "acme") {
  auto done = std::make_shared<std::promise<Result<int64_t>>>();
  std::future<Result<int64_t>> offset = done->get_future();
  log.Append(std::move(key), std::move(bytes),
             [done](const Result<int64_t>& result) { done->set_value(result); });
  BOOST_REQUIRE(offset.wait_for(kPatience) == std::future_status::ready);
  const Result<int64_t> stored = offset.get();
  if (stored.ok()) BOOST_REQUIRE(log.WaitFor(*stored, kPatience));
  return stored;
}

// All that a source gives from `offset` on, up to what is durable.
Strings ReadFrom(const EmbeddedLog& log, int64_t offset) {
  EmbeddedSource source(log);
  Record record;
  Strings bytes;
  BOOST_REQUIRE(source.Next(record, Milliseconds(0)).ok());
  BOOST_REQUIRE(source.Seek(0, offset).ok());
  while (true) {
    const Result<Source::Pull> pull = source.Next(record, Milliseconds(0));
    BOOST_REQUIRE(pull.ok());
    if (*pull == Source::Pull::kNothing) return bytes;
    BOOST_TEST(record.offset == offset + static_cast<int64_t>(bytes.size()));
    bytes.push_back(record.bytes);
  }
}

Strings ReadFolder(const std::string& folder) {
  Strings bytes;
  const Result<Nothing> read = ReadEventLog(folder, 0, [&](const Frame& frame) {
    bytes.emplace_back(frame.bytes);
    return Result<Nothing>(Nothing{});
  });
  BOOST_TEST(read.ok(), (read.ok() ? "" : read.error().message));
  return bytes;
}

void Write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// The message of what opening it throws; empty: it opens.
std::string WhyNot(const EventLogOptions& options) {
  try {
    const Opened opened(options);
    return "";
  } catch (const StartError& error) {
    return error.what();
  }
}

std::string Text(uint64_t seed, uint64_t number, size_t longest) {
  std::string text = std::to_string(number) + ":";
  text.resize(text.size() + RandomAt(seed, number) % longest, static_cast<char>('a' + number % 26));
  return text;
}

const char kFirst[] = "/00000000000000000000.events";

// The file sizes that may be written, while it lives; SIGXFSZ is an error, as in the command.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    BOOST_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_appended_is_there_after_each_opening_over_many_segments) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path() + "/log");
  options.segment_bytes_max = 4096;
  Strings wanted;
  for (int opening = 0; opening < 4; ++opening) {
    Opened opened(options);
    BOOST_TEST(opened.notices.empty());
    BOOST_TEST(opened.log.extent().end == static_cast<int64_t>(wanted.size()));
    for (int i = 0; i < 50; ++i) {
      wanted.push_back(Text(1, wanted.size(), 400));
      const Result<int64_t> offset = Append(opened.log, wanted.back());
      BOOST_REQUIRE(offset.ok());
      BOOST_TEST(*offset == static_cast<int64_t>(wanted.size()) - 1);
    }
    BOOST_TEST(ReadFrom(opened.log, 0) == wanted, boost::test_tools::per_element());
  }
  BOOST_TEST(SegmentsIn(options.folder).size() > 5U);
  BOOST_TEST(ReadFolder(options.folder) == wanted, boost::test_tools::per_element());
  const Opened opened(options);
  for (const int64_t offset : {0, 1, 57, 99, 199, 200}) {
    BOOST_TEST(ReadFrom(opened.log, offset) == Strings(wanted.begin() + offset, wanted.end()),
               boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(many_threads_share_syncs_and_each_is_told_its_own_offset) {
  const TempFolder folder;
  Opened opened(In(folder.path()));
  constexpr int kThreads = 4, kEach = 500;
  Mutex mutex;
  std::map<int64_t, std::string> told;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kEach; ++i) {
        const std::string bytes = std::to_string(thread) + "-" + std::to_string(i);
        opened.log.Append("acme", bytes, [&, bytes](const Result<int64_t>& offset) {
          const MutexLock lock(mutex);
          if (offset.ok()) told[*offset] = bytes;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(opened.log.WaitFor(kThreads * kEach - 1, kPatience));
  const MutexLock lock(mutex);
  const Strings read = ReadFrom(opened.log, 0);
  BOOST_REQUIRE(told.size() == read.size());
  for (const auto& [offset, bytes] : told) BOOST_TEST(read[static_cast<size_t>(offset)] == bytes);
  BOOST_TEST(opened.log.extent().syncs < static_cast<uint64_t>(kThreads * kEach));
}

BOOST_AUTO_TEST_CASE(an_end_that_is_torn_at_any_byte_is_cut_off_and_the_log_goes_on) {
  const TempFolder folder;
  const EventLogOptions options = In(folder.path());
  const std::string path = folder.path() + kFirst;
  const Strings wanted = {"one", "", std::string(100, 'x'), "four"};
  std::vector<size_t> ends = {kSegmentHeadBytes};
  {
    Opened opened(options);
    for (const std::string& bytes : wanted) {
      BOOST_REQUIRE(Append(opened.log, bytes).ok());
      ends.push_back(FileBytes(path).size());
    }
  }
  const std::string whole = FileBytes(path);
  BOOST_TEST(whole.size() == ends.back() + kFrameHeadBytes);  // the mark of a clean end
  for (size_t size = kSegmentHeadBytes; size <= whole.size(); ++size) {
    Write(path, whole.substr(0, size));
    size_t kept = 0;
    while (kept < wanted.size() && ends[kept + 1] <= size) ++kept;
    Strings expected(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(kept));
    {
      Opened opened(options);
      const bool is_torn = size != ends[kept] && size != whole.size();
      BOOST_TEST(opened.notices.size() == (is_torn ? 1U : 0U), "size " << size);
      BOOST_TEST(ReadFrom(opened.log, 0) == expected, boost::test_tools::per_element());
      const Result<int64_t> offset = Append(opened.log, "later");
      BOOST_REQUIRE(offset.ok());
      BOOST_TEST(*offset == static_cast<int64_t>(kept));
    }
    expected.emplace_back("later");
    BOOST_TEST(ReadFolder(folder.path()) == expected, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(an_end_of_zeros_as_after_a_power_cut_is_cut_off) {
  const TempFolder folder;
  const std::string path = folder.path() + kFirst;
  {
    Opened opened(In(folder.path()));
    BOOST_REQUIRE(Append(opened.log, "one").ok());
  }
  Write(path, FileBytes(path) + std::string(5'000, '\0'));
  const Opened opened(In(folder.path()));
  BOOST_TEST(opened.notices.size() == 1U);
  BOOST_TEST(ReadFrom(opened.log, 0) == Strings{"one"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(any_damaged_byte_of_a_durable_record_stops_the_start_by_file_and_offset) {
  const TempFolder folder;
  const std::string path = folder.path() + kFirst;
  std::vector<size_t> ends = {kSegmentHeadBytes};
  {
    Opened opened(In(folder.path()));
    for (const char* bytes : {"one", "two", "three"}) {
      BOOST_REQUIRE(Append(opened.log, bytes).ok());
      ends.push_back(FileBytes(path).size());
    }
  }
  const std::string whole = FileBytes(path);
  for (size_t at = 0; at < ends.back(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    Write(path, damaged);
    const std::string why = WhyNot(In(folder.path()));
    BOOST_TEST(why.find(path) != why.npos, "byte " << at << ": " << why);
    if (at >= kSegmentHeadBytes) {
      size_t record = 0;
      while (ends[record + 1] <= at) ++record;
      const std::string wanted = "the record of offset " + std::to_string(record) + " at byte " +
                                 std::to_string(ends[record]) + " is damaged";
      BOOST_TEST(why.find(wanted) != why.npos, "byte " << at << ": " << why);
    }
    BOOST_TEST((FileBytes(path) == damaged));  // nothing was changed
  }
  for (size_t at = ends.back(); at < whole.size(); ++at) {  // the mark alone
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    Write(path, damaged);
    BOOST_TEST(WhyNot(In(folder.path())).empty());
    BOOST_TEST(ReadFolder(folder.path()).size() == 3U);
  }
}

BOOST_AUTO_TEST_CASE(
    damage_in_an_older_segment_is_an_error_of_who_reads_it_and_what_is_before_comes) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path());
  options.segment_bytes_max = 4096;
  {
    Opened opened(options);
    for (int i = 0; i < 40; ++i) BOOST_REQUIRE(Append(opened.log, std::string(300, 'x')).ok());
  }
  const auto segments = SegmentsIn(folder.path());
  const auto& [base, path] = *std::next(segments.begin());
  std::string damaged = FileBytes(path);
  damaged[kSegmentHeadBytes + kFrameHeadBytes + 10] ^= 1;
  Write(path, damaged);

  const Opened opened(options);
  EmbeddedSource source(opened.log);
  Record record;
  int64_t read = 0;
  Result<Source::Pull> pull = source.Next(record, kPatience);
  for (; pull.ok(); pull = source.Next(record, kPatience)) ++read;
  BOOST_TEST(read == base);
  BOOST_TEST((pull.error().code == Code::kUnreadableFile));
  BOOST_TEST(pull.error().message ==
             path + ": the record of offset " + std::to_string(base) + " at byte 24 is damaged");
  BOOST_TEST((source.Next(record, kPatience).error() == pull.error()));
  const Result<Nothing> dumped =
      ReadEventLog(folder.path(), 0, [](const Frame&) { return Result<Nothing>(Nothing{}); });
  BOOST_REQUIRE(!dumped.ok());
  BOOST_TEST((dumped.error() == pull.error()));
}

BOOST_AUTO_TEST_CASE(a_segment_that_is_missing_or_cut_short_in_the_middle_is_an_error) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path());
  options.segment_bytes_max = 4096;
  {
    Opened opened(options);
    for (int i = 0; i < 40; ++i) BOOST_REQUIRE(Append(opened.log, std::string(300, 'x')).ok());
  }
  const auto segments = SegmentsIn(folder.path());
  BOOST_REQUIRE(segments.size() >= 3U);
  const auto& [base, path] = *std::next(segments.begin());
  const std::string whole = FileBytes(path);
  const auto why = [&] {
    const Opened opened(options);
    EmbeddedSource source(opened.log);
    Record record;
    Result<Source::Pull> pull = source.Next(record, Milliseconds(0));
    while (pull.ok() && *pull == Source::Pull::kRecord) pull = source.Next(record, Milliseconds(0));
    return pull.ok() ? "" : pull.error().message;
  };
  Write(path, whole.substr(0, whole.size() - 400));
  BOOST_TEST(why().find("is damaged") != std::string::npos, why());
  fs::remove(path);
  BOOST_TEST(why().find("is damaged") != std::string::npos, why());
  const Result<Nothing> dumped =
      ReadEventLog(folder.path(), 0, [](const Frame&) { return Result<Nothing>(Nothing{}); });
  BOOST_REQUIRE(!dumped.ok());
  BOOST_TEST(dumped.error().message.find("are missing") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_full_disk_refuses_and_keeps_what_was_there_and_goes_on_when_there_is_room) {
  const TempFolder folder;
  const std::string path = folder.path() + kFirst;
  Opened opened(In(folder.path()));
  BOOST_REQUIRE(Append(opened.log, "one").ok());
  const std::string before = FileBytes(path);
  {
    const FileLimit limit(before.size() + 100);
    const Result<int64_t> refused = Append(opened.log, std::string(1'000, 'x'));
    BOOST_REQUIRE(!refused.ok());
    BOOST_TEST((refused.error().code == Code::kUnreadableFile));
    BOOST_TEST(refused.error().message.starts_with("the event is not stored: "),
               refused.error().message);
    BOOST_TEST(refused.error().remedy.starts_with("make room on that disk"));
    BOOST_TEST((FileBytes(path) == before));
    const Result<int64_t> small = Append(opened.log, "two");  // there is room for it
    BOOST_REQUIRE(small.ok());
    BOOST_TEST(*small == 1);
  }
  const Result<int64_t> later = Append(opened.log, std::string(1'000, 'x'));
  BOOST_REQUIRE(later.ok());
  BOOST_TEST(*later == 2);
  BOOST_TEST(ReadFrom(opened.log, 0).size() == 3U);
}

BOOST_AUTO_TEST_CASE(a_disk_without_room_for_a_new_segment_refuses_too) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path());
  options.segment_bytes_max = 4096;
  Opened opened(options);
  BOOST_REQUIRE(Append(opened.log, std::string(5'000, 'x')).ok());
  {
    const FileLimit limit(10);
    BOOST_TEST(!Append(opened.log, "y").ok());
  }
  BOOST_TEST(Append(opened.log, "y").ok());
  BOOST_TEST(ReadFrom(opened.log, 0).size() == 2U);
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    BOOST_TEST(entry.path().filename().string().find(".tmp") == std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(one_process_has_the_folder) {
  const TempFolder folder;
  const Opened opened(In(folder.path()));
  const std::string why = WhyNot(In(folder.path()));
  BOOST_TEST(why.find("another process serves from this event log") != why.npos, why);
}

BOOST_AUTO_TEST_CASE(files_and_folder_are_their_owners_alone) {
  const TempFolder folder;
  const mode_t before = umask(0);
  { const Opened opened(In(folder.path() + "/a/log")); }
  umask(before);
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    struct stat status {};
    BOOST_REQUIRE(stat(entry.path().c_str(), &status) == 0);
    BOOST_TEST((status.st_mode & 0777) == (entry.is_directory() ? 0700U : 0600U), entry.path());
    ++files;
  }
  BOOST_TEST(files == 4U);
}

BOOST_AUTO_TEST_CASE(a_copy_of_records_that_a_kill_left_unfinished_is_removed_at_the_start) {
  const TempFolder folder;
  {
    Opened opened(In(folder.path()));
    BOOST_TEST(*Append(opened.log, "kept") == 0);
  }
  const std::string left = folder.path() + "/.tmp-00000000000000000000.events-a1B2c3";
  Write(left, "a word of somebody's");
  const Opened opened(In(folder.path()));
  BOOST_TEST(!fs::exists(left));
  BOOST_TEST(ReadFolder(folder.path()) == Strings{"kept"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_no_log_or_of_a_newer_version_is_refused_by_name) {
  const TempFolder folder;
  const std::string path = folder.path() + kFirst;
  Write(path, "not a log at all, but long enough to be one");
  BOOST_TEST(WhyNot(In(folder.path())).find("no file of an event log") != std::string::npos);
  std::string head = SegmentHead(0);
  head[8] = 2;
  Write(path, head);
  BOOST_TEST(WhyNot(In(folder.path())).find("of version 2") != std::string::npos);
  Write(path, "");
  BOOST_TEST(WhyNot(In(folder.path())).find(path) != std::string::npos);
}

BOOST_AUTO_TEST_CASE(retention_takes_whole_segments_and_none_that_is_needed) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path());
  options.segment_bytes_max = 4096;
  options.retention_bytes_max = 10'000;
  Opened opened(options);
  for (int i = 0; i < 100; ++i) BOOST_REQUIRE(Append(opened.log, std::string(300, 'x')).ok());
  BOOST_TEST(opened.log.Retain(30).ok());
  const int64_t first = opened.log.extent().first;
  BOOST_TEST(first > 0);
  BOOST_TEST(first <= 30);
  BOOST_TEST(opened.log.extent().bytes > options.retention_bytes_max);
  BOOST_TEST(ReadFrom(opened.log, first).size() == 100U - static_cast<size_t>(first));
  EmbeddedSource source(opened.log);
  BOOST_TEST(source.Seek(0, 30).ok());
  const Result<Nothing> gone = source.Seek(0, first - 1);
  BOOST_REQUIRE(!gone.ok());
  BOOST_TEST(gone.error().message.find("went by retention") != std::string::npos);
  BOOST_TEST(!gone.error().remedy.empty());
  BOOST_TEST(opened.log.Retain(100).ok());
  BOOST_TEST(opened.log.extent().bytes <= options.retention_bytes_max);
  BOOST_TEST(opened.log.extent().end == 100);
  BOOST_TEST(Append(opened.log, "more").ok());
}

BOOST_AUTO_TEST_CASE(what_is_erased_is_gone_from_the_files_and_nothing_else_moves) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path());
  options.segment_bytes_max = 4096;
  Opened opened(options);
  Strings wanted;
  for (int i = 0; i < 40; ++i) {
    wanted.push_back("secret-" + std::to_string(i) + "-" + std::string(300, 'x'));
    BOOST_REQUIRE(Append(opened.log, wanted.back()).ok());
  }
  wanted.emplace_back("short");
  BOOST_REQUIRE(Append(opened.log, wanted.back()).ok());
  const std::set<int64_t> erased = {0, 7, 23, 39, 40};  // of several segments, the last one too
  BOOST_TEST((opened.log.Erase(erased, 40).error().code == Code::kInternal));  // 40 is needed
  BOOST_TEST((opened.log.Erase({41}, 99).error().code == Code::kInternal));    // is not there yet
  BOOST_TEST(ReadFolder(folder.path()) == wanted, boost::test_tools::per_element());
  EmbeddedSource before(opened.log);  // reads on in the files as they are then
  Record record;
  BOOST_TEST((*before.Next(record, kPatience) == Source::Pull::kRecord));

  BOOST_TEST(opened.log.Erase(erased, 41).ok());
  BOOST_TEST(opened.log.Erase(erased, 41).ok());  // again: nothing is left to do
  const auto there = [&] {
    std::string all;
    for (const auto& [base, path] : SegmentsIn(folder.path())) all += FileBytes(path);
    return all;
  };
  for (int64_t i = 0; i < 40; ++i) {
    const bool is_there = there().find("secret-" + std::to_string(i) + "-") != std::string::npos;
    BOOST_TEST(is_there == !erased.contains(i), i);
  }
  const Sha256Digest digest = Sha256(wanted[7]);
  BOOST_TEST(there().find(std::string(digest.begin(), digest.end())) != std::string::npos);
  BOOST_TEST(there().find("short") == std::string::npos);
  BOOST_TEST(Append(opened.log, "later").ok());
  wanted.emplace_back("later");
  EmbeddedSource source(opened.log);
  for (int64_t offset = 0; offset <= 41; ++offset) {
    const Source::Pull pull = *source.Next(record, kPatience);
    BOOST_TEST(
        (pull == (erased.contains(offset) ? Source::Pull::kNothing : Source::Pull::kRecord)));
    if (pull != Source::Pull::kRecord) continue;
    BOOST_TEST(record.offset == offset);
    BOOST_TEST(record.bytes == wanted[static_cast<size_t>(offset)]);
  }
  for (int64_t offset = 1; offset <= 41; ++offset) BOOST_TEST(before.Next(record, kPatience).ok());
  opened.log.Stop();
  size_t visited = 0;
  BOOST_TEST(ReadEventLog(folder.path(), 0, [&](const Frame& frame) -> Result<Nothing> {
               BOOST_TEST((frame.kind == FrameKind::kErased) == erased.contains(frame.offset));
               ++visited;
               return Nothing{};
             }).ok());
  BOOST_TEST(visited == wanted.size());
}

BOOST_AUTO_TEST_CASE(a_source_that_should_go_on_behind_the_logs_end_says_so) {
  const TempFolder folder;
  Opened opened(In(folder.path()));
  BOOST_REQUIRE(Append(opened.log, "one").ok());
  EmbeddedSource source(opened.log);
  BOOST_TEST(source.Seek(0, 1).ok());
  const Result<Nothing> beyond = source.Seek(0, 2);
  BOOST_REQUIRE(!beyond.ok());
  BOOST_TEST(beyond.error().message.find("ends before offset 1") != std::string::npos);
  BOOST_TEST(!source.Seek(1, 0).ok());
  BOOST_TEST(!source.Seek(0, -1).ok());
}

BOOST_AUTO_TEST_CASE(a_source_waits_for_what_comes_pauses_and_refuses_what_is_too_large) {
  const TempFolder folder;
  Opened opened(In(folder.path()));
  EmbeddedSource source(opened.log, {.line_bytes = 10, .head_bytes = 4});
  Record record;
  BOOST_TEST((*source.Next(record, Milliseconds(1)) == Source::Pull::kNothing));
  std::thread later([&] {
    std::this_thread::sleep_for(Milliseconds(20));
    opened.log.Append("acme", "0123456789", [](const Result<int64_t>&) {});
    opened.log.Append("zeta", "0123456789a", [](const Result<int64_t>&) {});
  });
  BOOST_TEST((*source.Next(record, kPatience) == Source::Pull::kRecord));
  BOOST_TEST(record.key == "acme");
  BOOST_TEST(!record.refusal);
  source.Pause(0);
  BOOST_TEST((*source.Next(record, Milliseconds(1)) == Source::Pull::kNothing));
  source.Resume(0);
  BOOST_TEST((*source.Next(record, kPatience) == Source::Pull::kRecord));
  later.join();
  BOOST_TEST(record.key == "zeta");
  BOOST_TEST(record.bytes == "0123");
  BOOST_REQUIRE(record.refusal.has_value());
  BOOST_TEST((record.refusal->error.code == Code::kTooLarge));
  BOOST_TEST(record.refusal->bytes_total == 11U);
  BOOST_TEST(record.refusal->bytes_sha256 == Sha256Hex("0123456789a"));
}

BOOST_AUTO_TEST_CASE(who_comes_after_a_stop_or_to_a_full_queue_is_refused) {
  const TempFolder folder;
  EventLogOptions options = In(folder.path());
  options.queue_bytes_max = 1 << 20;
  Opened opened(options);
  size_t stored = 0, busy = 0, other = 0;
  Mutex mutex;
  for (int i = 0; i < 200; ++i) {
    opened.log.Append("acme", std::string(200'000, 'x'), [&](const Result<int64_t>& offset) {
      const MutexLock lock(mutex);
      ++(offset.ok() ? stored : offset.error().code == Code::kBusy ? busy : other);
    });
  }
  opened.log.Stop();
  BOOST_TEST(stored + busy == 200U);
  BOOST_TEST(stored > 0U);
  BOOST_TEST(busy > 0U);
  BOOST_TEST(other == 0U);
  BOOST_TEST((Append(opened.log, "late").error().code == Code::kUnavailable));
  BOOST_TEST(opened.log.extent().end == static_cast<int64_t>(stored));
}

// A crash leaves every acknowledged record and any part of what was being written; the obvious
// model is the list of acknowledged ones, behind which a part of the last group may stand.
BOOST_AUTO_TEST_CASE(random_histories_of_appends_crashes_and_openings_hold_to_a_model) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const TempFolder folder;
    uint64_t draws = 0;
    const auto draw = [&](uint64_t below) { return RandomAt(seed, ++draws) % below; };
    EventLogOptions options = In(folder.path() + "/0");
    options.segment_bytes_max = 4096 + draw(8192);
    Strings model;
    for (int life = 0; life < 8; ++life) {
      const std::string next = folder.path() + "/" + std::to_string(life + 1);
      Strings torn;
      std::string part;
      {
        Opened opened(options);
        const Strings there = ReadFrom(opened.log, 0);
        BOOST_TEST(there == model, boost::test_tools::per_element());
        for (uint64_t i = draw(30); i > 0; --i) {
          model.push_back(Text(seed, draws, 600));
          BOOST_REQUIRE(Append(opened.log, model.back()).ok());
        }
        fs::copy(options.folder, next);  // as the disk is at a kill
        const auto end = static_cast<int64_t>(model.size());
        for (uint64_t i = draw(4); i > 0; --i) {
          torn.push_back(Text(seed + 1, draws, 600));
          AppendFrame({FrameKind::kRecord, end + static_cast<int64_t>(torn.size()) - 1, end, "acme",
                       torn.back()},
                      part);
        }
      }
      if (draw(4) == 0) continue;  // a clean end instead
      part.resize(draw(part.size() + 1));
      std::ofstream(SegmentsIn(next).rbegin()->second, std::ios::binary | std::ios::app) << part;
      size_t used = 0;
      for (const std::string& bytes : torn) {
        used += kFrameHeadBytes + 4 + bytes.size();
        if (used <= part.size()) model.push_back(bytes);
      }
      options.folder = next;
    }
    const Opened opened(options);
    BOOST_TEST(ReadFrom(opened.log, 0) == model, boost::test_tools::per_element());
  }
}
