// labels: unit
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "connectors/codec.h"
#include "connectors/file_sink.h"
#include "stages/hash.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

using Existing = FileSinkOptions::Existing;

OutcomeLine Line(int32_t partition, int64_t offset, decltype(Outcome::what) what = Applied{}) {
  Outcome outcome;
  outcome.what = std::move(what);
  Origin origin;
  origin.sequence = Sequence::Of(partition, 0);
  origin.offset = offset;
  OutcomeLine line{partition, offset, KindOf(outcome), "", ""};
  EncodeOutcome(outcome, origin, line.bytes);
  AppendChain(Sha256(std::to_string(offset)), line.bytes);
  return line;
}

OutcomeLine DeadLine(int32_t partition, int64_t offset) {
  return Line(partition, offset, MakeDeadLetter("decode", {Code::kInvalidJson, "x", ""}, "{", 10));
}

Tail TailAt(int64_t offset) {
  return {offset, Hex(Sha256(std::to_string(offset)))};
}

struct Folder {
  TempFolder temp;
  const std::string folder = temp.path() + "/a/b";
  const std::string outcomes = folder + "/outcomes.jsonl";
  const std::string dead_letters = folder + "/dead_letters.jsonl";

  FileSink Open(Existing existing = Existing::kResume, bool sync = false) const {
    return FileSink({folder, existing, sync});
  }

  std::string Refused(Existing existing) const {
    try {
      const FileSink sink({folder, existing, false});
    } catch (const StartError& error) {
      return error.what();
    }
    return "accepted";
  }
};

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Commit(Sink& sink, std::initializer_list<OutcomeLine> lines) {
  for (const OutcomeLine& line : lines) BOOST_TEST(sink.Append(line).ok());
  const Result<Nothing> committed = sink.Commit();
  BOOST_TEST(committed.ok(), (committed.ok() ? "" : committed.error().message));
}

std::string Joined(std::initializer_list<OutcomeLine> lines) {
  std::string text;
  for (const OutcomeLine& line : lines) text += line.bytes + "\n";
  return text;
}

std::vector<int64_t> OffsetsFrom(Sink& sink, int32_t partition, int64_t offset) {
  std::vector<int64_t> offsets;
  const Result<Nothing> read =
      sink.ReadBack(partition, offset, [&](std::string_view line) -> Result<Nothing> {
        offsets.push_back(DecodeOutcome(line)->offset);
        return Nothing{};
      });
  BOOST_TEST(read.ok());
  return offsets;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(writing, Folder)

BOOST_AUTO_TEST_CASE(lines_are_in_the_file_from_their_commit_on) {
  for (const bool sync : {false, true}) {
    FileSink sink = Open(Existing::kOverwrite, sync);
    BOOST_TEST(sink.Append(Line(0, 0)).ok());
    BOOST_TEST(Read(outcomes) == "");
    BOOST_TEST(!sink.Last(0)->has_value());
    Commit(sink, {DeadLine(0, 2), Line(1, 0)});
    BOOST_TEST(Read(outcomes) == Joined({Line(0, 0), DeadLine(0, 2), Line(1, 0)}));
    BOOST_TEST(Read(dead_letters) == Joined({DeadLine(0, 2)}));
    BOOST_TEST(((*sink.Last(0)).value() == TailAt(2)));
    BOOST_TEST(((*sink.Last(1)).value() == TailAt(0)));
    BOOST_TEST(!sink.Last(2)->has_value());
    Commit(sink, {});
    Commit(sink, {Line(0, 3)});
    BOOST_TEST(Read(outcomes) == Joined({Line(0, 0), DeadLine(0, 2), Line(1, 0), Line(0, 3)}));
  }
}

BOOST_AUTO_TEST_CASE(what_was_not_committed_is_gone) {
  {
    FileSink sink = Open();
    Commit(sink, {Line(0, 0)});
    BOOST_TEST(sink.Append(Line(0, 1)).ok());
  }
  BOOST_TEST(Read(outcomes) == Joined({Line(0, 0)}));
}

BOOST_AUTO_TEST_CASE(a_line_out_of_order_or_too_long_is_refused_and_changes_nothing) {
  FileSink sink = Open();
  Commit(sink, {Line(0, 5)});
  BOOST_TEST((sink.Append(Line(0, 5)).error().code == Code::kInternal));
  OutcomeLine huge = Line(0, 6);
  huge.bytes.insert(1, kOutcomeLineBytes, ' ');
  BOOST_TEST((sink.Append(huge).error().code == Code::kTooLarge));
  Commit(sink, {Line(0, 6)});
  BOOST_TEST(Read(outcomes) == Joined({Line(0, 5), Line(0, 6)}));
}

BOOST_AUTO_TEST_CASE(dropping_a_partition_forgets_its_uncommitted_lines_alone) {
  FileSink sink = Open();
  Commit(sink, {Line(0, 1)});
  BOOST_TEST(sink.Append(DeadLine(0, 2)).ok());
  BOOST_TEST(sink.Append(DeadLine(1, 7)).ok());
  BOOST_TEST(sink.Append(Line(0, 3)).ok());
  sink.Drop(0);
  sink.Drop(2);
  Commit(sink, {Line(0, 2)});
  BOOST_TEST(Read(outcomes) == Joined({Line(0, 1), DeadLine(1, 7), Line(0, 2)}));
  BOOST_TEST(Read(dead_letters) == Joined({DeadLine(1, 7)}));
  BOOST_TEST(((*sink.Last(0)).value() == TailAt(2)));
}

BOOST_AUTO_TEST_CASE(a_dropped_partition_without_commits_may_begin_anywhere) {
  FileSink sink = Open();
  BOOST_TEST(sink.Append(Line(3, 8)).ok());
  sink.Drop(3);
  Commit(sink, {Line(3, 2)});
  BOOST_TEST(((*sink.Last(3)).value() == TailAt(2)));
}

BOOST_AUTO_TEST_CASE(committed_lines_are_read_back_by_partition_from_an_offset) {
  FileSink sink = Open();
  Commit(sink, {Line(0, 0), Line(1, 0), Line(0, 2), DeadLine(0, 4)});
  BOOST_TEST(sink.Append(Line(0, 9)).ok());
  BOOST_TEST((OffsetsFrom(sink, 0, 1) == std::vector<int64_t>{2, 4}));
  BOOST_TEST((OffsetsFrom(sink, 1, 0) == std::vector<int64_t>{0}));
  BOOST_TEST(OffsetsFrom(sink, 2, 0).empty());
  std::string first;
  const Result<Nothing> stopped =
      sink.ReadBack(0, 0, [&](std::string_view line) -> Result<Nothing> {
        first = line;
        return Error{Code::kInternal, "enough", ""};
      });
  BOOST_TEST(stopped.error().message == "enough");
  BOOST_TEST(first == Line(0, 0).bytes);
}

BOOST_AUTO_TEST_CASE(what_is_read_back_in_parts_is_read_once) {
  constexpr int64_t kLines = 2'000;
  constexpr size_t kPart = 50;
  FileSink sink = Open();
  std::vector<int64_t> all;
  for (int64_t offset = 0; offset < kLines; ++offset) {
    BOOST_TEST_REQUIRE(sink.Append(Line(offset % 2 == 0 ? 0 : 1, offset)).ok());
    if (offset % 2 == 0) all.push_back(offset);
  }
  BOOST_TEST_REQUIRE(sink.Commit().ok());
  // Of the process, as the kernel counts: bytes that were read.
  const auto bytes_read = [] {
    std::ifstream counts("/proc/self/io");
    std::string name;
    uint64_t bytes = 0;
    counts >> name >> bytes;
    return bytes;
  };
  const uint64_t before = bytes_read();
  std::vector<int64_t> offsets;
  int64_t next = 0;
  for (bool is_whole = false; !is_whole;) {
    size_t in_part = 0;
    const Result<Nothing> read =
        sink.ReadBack(0, next, [&](std::string_view line) -> Result<Nothing> {
          if (in_part++ == kPart) return Error{Code::kInternal, "enough", ""};
          offsets.push_back(DecodeOutcome(line)->offset);
          next = offsets.back() + 1;
          return Nothing{};
        });
    is_whole = read.ok();
    if (offsets.size() == kPart) Commit(sink, {Line(0, kLines)});  // what follows is read too
  }
  all.push_back(kLines);
  BOOST_TEST(offsets == all, boost::test_tools::per_element());
  const uint64_t size = std::filesystem::file_size(outcomes);
  BOOST_TEST(bytes_read() - before < 2 * size);
  // Another partition, and an earlier place, begin again.
  BOOST_TEST(OffsetsFrom(sink, 1, kLines - 1) == std::vector<int64_t>{kLines - 1});
  BOOST_TEST(OffsetsFrom(sink, 0, 0).size() == all.size());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(starting, Folder)

BOOST_AUTO_TEST_CASE(outcomes_that_are_there_are_kept_unless_told_otherwise) {
  {
    FileSink sink = Open(Existing::kRefuse);
    Commit(sink, {DeadLine(0, 0)});
  }
  BOOST_TEST(Refused(Existing::kRefuse) ==
             outcomes + " is not empty: resume, overwrite, or choose another folder");
  BOOST_TEST(Read(outcomes) == Joined({DeadLine(0, 0)}));
  std::filesystem::remove(outcomes);
  BOOST_TEST(Refused(Existing::kRefuse) ==
             dead_letters + " is not empty: resume, overwrite, or choose another folder");
  FileSink sink = Open(Existing::kOverwrite);
  BOOST_TEST(Read(outcomes) == "");
  BOOST_TEST(Read(dead_letters) == "");
  BOOST_TEST(!sink.Last(0)->has_value());
}

BOOST_AUTO_TEST_CASE(a_resumed_sink_goes_on_after_the_last_line_of_each_partition) {
  {
    FileSink sink = Open();
    Commit(sink, {Line(0, 0), DeadLine(1, 3), Line(0, 4)});
  }
  FileSink sink = Open();
  BOOST_TEST(((*sink.Last(0)).value() == TailAt(4)));
  BOOST_TEST(((*sink.Last(1)).value() == TailAt(3)));
  BOOST_TEST(!sink.Append(Line(1, 3)).ok());
  Commit(sink, {Line(1, 4)});
  BOOST_TEST(Read(outcomes) == Joined({Line(0, 0), DeadLine(1, 3), Line(0, 4), Line(1, 4)}));
  BOOST_TEST(Read(dead_letters) == Joined({DeadLine(1, 3)}));
}

BOOST_AUTO_TEST_CASE(a_file_cut_at_any_byte_resumes_at_its_last_whole_line) {
  const std::string whole = Joined({Line(0, 0), DeadLine(0, 1), Line(0, 2)});
  const size_t first = Line(0, 0).bytes.size() + 1;
  const size_t second = first + DeadLine(0, 1).bytes.size() + 1;
  std::filesystem::create_directories(folder);
  for (size_t size = 0; size <= whole.size(); ++size) {
    std::ofstream(outcomes, std::ios::binary) << whole.substr(0, size);
    std::ofstream(dead_letters, std::ios::binary) << "what a crash left, or nothing";
    FileSink sink = Open();
    const int64_t lines = size == whole.size() ? 3 : size >= second ? 2 : size >= first ? 1 : 0;
    const std::optional<Tail> last = *sink.Last(0);
    BOOST_TEST(last.has_value() == (lines > 0));
    if (last) BOOST_TEST((*last == TailAt(lines - 1)));
    BOOST_TEST(Read(dead_letters) == (lines > 1 ? Joined({DeadLine(0, 1)}) : ""));
    Commit(sink, {Line(0, 9)});
    const size_t kept = lines == 3 ? whole.size() : lines == 2 ? second : lines == 1 ? first : 0;
    BOOST_TEST(Read(outcomes) == whole.substr(0, kept) + Line(0, 9).bytes + "\n");
  }
}

BOOST_AUTO_TEST_CASE(a_long_last_line_without_its_end_is_cut_off) {
  std::filesystem::create_directories(folder);
  const std::string good = Joined({Line(0, 0)});
  std::ofstream(outcomes, std::ios::binary) << good << std::string(1'000'000, 'x');
  FileSink sink = Open();
  BOOST_TEST(Read(outcomes) == good);
}

BOOST_AUTO_TEST_CASE(a_damaged_line_before_the_last_is_named_and_nothing_is_lost) {
  std::filesystem::create_directories(folder);
  std::string text = Joined({Line(0, 0), Line(0, 1), Line(0, 2)});
  text[Line(0, 0).bytes.size() + 30] = '"';
  std::ofstream(outcomes, std::ios::binary) << text;
  const std::string why = Refused(Existing::kResume);
  BOOST_TEST(why.find(outcomes + ": line 2: not an outcome of nudge: ") == 0u, why);
  BOOST_TEST(Read(outcomes) == text);
}

BOOST_AUTO_TEST_CASE(two_sinks_cannot_write_one_folder) {
  FileSink sink = Open();
  Commit(sink, {Line(0, 0)});
  BOOST_TEST(Refused(Existing::kResume) == outcomes + ": another process writes it");
  BOOST_TEST(Refused(Existing::kOverwrite) == outcomes + ": another process writes it");
  BOOST_TEST(Read(outcomes) == Joined({Line(0, 0)}));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_or_written_is_refused) {
  std::ofstream(temp.path() + "/a") << "a file";
  BOOST_TEST(Refused(Existing::kResume).find("cannot make the folder " + folder) == 0u);
  std::filesystem::remove(temp.path() + "/a");
  std::filesystem::create_directories(outcomes);  // a folder in the file's place
  BOOST_TEST(Refused(Existing::kResume) == "cannot write " + outcomes + ": Is a directory");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(full_disks, Folder)

namespace {

// No file of this process grows over `bytes` while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(uint64_t bytes) {
    previous_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &previous_);
    rlimit limit = previous_;
    limit.rlim_cur = bytes;
    BOOST_TEST_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    std::signal(SIGXFSZ, previous_handler_);
  }

 private:
  rlimit previous_{};
  void (*previous_handler_)(int) = nullptr;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_full_disk_leaves_the_last_commit_and_a_later_try_completes_it) {
  FileSink sink = Open();
  Commit(sink, {Line(0, 0), DeadLine(0, 1)});
  const std::string before = Read(outcomes);
  BOOST_TEST(sink.Append(DeadLine(0, 2)).ok());
  BOOST_TEST(sink.Append(Line(0, 3)).ok());
  {
    // The first line and half of the second fit; the copy of the dead letters fits.
    const FileSizeLimit limit(before.size() + DeadLine(0, 2).bytes.size() + 50);
    for (int i = 0; i < 2; ++i) {
      const Result<Nothing> failed = sink.Commit();
      BOOST_TEST_REQUIRE(!failed.ok());
      BOOST_TEST((failed.error().code == Code::kUnreadableFile));
      BOOST_TEST(failed.error().message == "cannot write " + outcomes + ": File too large");
    }
  }
  BOOST_TEST(Read(outcomes) == before);
  BOOST_TEST(Read(dead_letters) == Joined({DeadLine(0, 1)}));
  BOOST_TEST(((*sink.Last(0)).value() == TailAt(1)));
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST(Read(outcomes) == before + Joined({DeadLine(0, 2), Line(0, 3)}));
  BOOST_TEST(Read(dead_letters) == Joined({DeadLine(0, 1), DeadLine(0, 2)}));
  BOOST_TEST(((*sink.Last(0)).value() == TailAt(3)));
}

BOOST_AUTO_TEST_CASE(a_device_without_space_is_a_clear_error) {
  std::filesystem::create_directories(folder);
  std::filesystem::create_symlink("/dev/full", outcomes);
  FileSink sink = Open();
  BOOST_TEST(sink.Append(Line(0, 0)).ok());
  const Result<Nothing> failed = sink.Commit();
  BOOST_TEST_REQUIRE(!failed.ok());
  BOOST_TEST(failed.error().message ==
             "cannot write " + outcomes +
                 ": No space left on device, and its last line may be cut short");
  BOOST_TEST(!sink.Last(0)->has_value());
}

BOOST_AUTO_TEST_SUITE_END()
