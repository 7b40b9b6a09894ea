// labels: unit
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <thread>

#include "connectors/file_source.h"
#include "stages/hash.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

using Pull = Source::Pull;
using Lines = std::vector<std::pair<int64_t, std::string>>;
constexpr std::chrono::milliseconds kNow{0};
constexpr std::chrono::milliseconds kWait{20};

struct Files {
  TempFolder folder;

  std::string Write(const std::string& bytes, const std::string& name = "events.jsonl") const {
    const std::string path = folder.path() + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
};

std::string Gzip(const std::string& bytes) {
  z_stream zlib{};
  BOOST_TEST_REQUIRE(deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&zlib, bytes.size()), '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  zlib.avail_in = static_cast<uInt>(bytes.size());
  zlib.next_out = reinterpret_cast<Bytef*>(packed.data());
  zlib.avail_out = static_cast<uInt>(packed.size());
  BOOST_TEST_REQUIRE(deflate(&zlib, Z_FINISH) == Z_STREAM_END);
  packed.resize(zlib.total_out);
  deflateEnd(&zlib);
  return packed;
}

// All records until the end or an error, which goes to `error`.
Lines ReadAll(FileSource& source, Error* error = nullptr) {
  Lines lines;
  Record record;
  while (true) {
    const Result<Pull> pull = source.Next(record, kWait);
    if (!pull.ok()) {
      BOOST_TEST_REQUIRE(error != nullptr, pull.error().message);
      *error = pull.error();
      return lines;
    }
    if (*pull == Pull::kEnd) return lines;
    if (*pull == Pull::kNothing) continue;
    BOOST_TEST(!record.refusal.has_value());
    BOOST_TEST(record.partition == 0);
    lines.emplace_back(record.offset, record.bytes);
  }
}

Lines ReadAll(const std::string& path) {
  FileSource source({.path = path});
  return ReadAll(source);
}

Lines Expect(std::initializer_list<std::pair<int64_t, std::string>> lines) {
  return lines;
}

std::string NumberedLines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += "{\"line\":" + std::to_string(RandomAt(1, static_cast<uint64_t>(i))) + "}\n";
  }
  return text;
}

// The lines of a text that ends in a newline.
Lines Split(const std::string& text) {
  Lines lines;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    lines.emplace_back(static_cast<int64_t>(lines.size()), text.substr(begin, end - begin));
  }
  return lines;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(plain_files, Files)

BOOST_AUTO_TEST_CASE(lines_come_with_their_numbers_and_the_last_needs_no_end) {
  BOOST_TEST((ReadAll(Write("a\nb\n")) == Expect({{0, "a"}, {1, "b"}})));
  BOOST_TEST((ReadAll(Write("a\nb")) == Expect({{0, "a"}, {1, "b"}})));
  BOOST_TEST(ReadAll(Write("")).empty());
  BOOST_TEST(ReadAll(Write("\n\n")).empty());
}

BOOST_AUTO_TEST_CASE(blank_lines_deliver_nothing_but_are_counted) {
  BOOST_TEST((ReadAll(Write("\na\n \t\r\n\nb\n\n")) == Expect({{1, "a"}, {4, "b"}})));
}

BOOST_AUTO_TEST_CASE(windows_line_ends_and_the_byte_order_mark_of_each_line_are_taken_off) {
  const std::string mark = "\xef\xbb\xbf";
  BOOST_TEST(
      (ReadAll(Write(mark + "{}\r\nb\r\n\r\nc\r")) == Expect({{0, "{}"}, {1, "b"}, {3, "c"}})));
  BOOST_TEST((ReadAll(Write("a\rb\n" + mark + mark + "c" + mark + "d\n" + mark + "\n" + mark)) ==
              Expect({{0, "a\rb"}, {1, "c" + mark + "d"}})));
}

BOOST_AUTO_TEST_CASE(lines_across_blocks_are_whole) {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    text +=
        std::string(1000 + 5000 * static_cast<size_t>(i), static_cast<char>('a' + i % 26)) + "\n";
  }
  BOOST_TEST((ReadAll(Write(text)) == Split(text)));
}

BOOST_AUTO_TEST_CASE(a_zero_byte_is_no_line_end) {
  const std::string line("a\0b", 3);
  BOOST_TEST((ReadAll(Write(line + "\nc\n")) == Expect({{0, line}, {1, "c"}})));
}

BOOST_AUTO_TEST_CASE(the_end_comes_again_and_again) {
  FileSource source({.path = Write("a\n")});
  BOOST_TEST(ReadAll(source).size() == 1u);
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));
  BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));
}

BOOST_AUTO_TEST_CASE(progress_counts_stored_bytes) {
  FileSource source({.path = Write("a\nb\n")});
  BOOST_TEST(source.bytes_read() == 0u);
  BOOST_TEST(*source.bytes_total() == 4u);
  ReadAll(source);
  BOOST_TEST(source.bytes_read() == 4u);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_read_is_refused_at_the_start) {
  const auto why = [](FileSourceOptions options) -> std::string {
    try {
      const FileSource source(std::move(options));
    } catch (const StartError& error) {
      return error.what();
    }
    return "accepted";
  };
  BOOST_TEST(why({.path = folder.path() + "/none"}) ==
             "cannot read events from " + folder.path() + "/none: No such file or directory");
  BOOST_TEST(why({.path = folder.path()}) ==
             "cannot read events from " + folder.path() + ": it is a folder");
  BOOST_TEST(why({.path = Write("", "a.gz"), .follow = true}) ==
             "cannot read events from " + folder.path() +
                 "/a.gz: a compressed file cannot be followed");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(long_lines, Files)

BOOST_AUTO_TEST_CASE(a_line_over_the_limit_comes_as_a_refusal_with_its_head_size_and_hash) {
  for (const size_t size : {size_t{11}, size_t{12}, size_t{13}, size_t{3'000'000}}) {
    const std::string line = std::string(size - 1, 'x') + "y";
    for (const std::string& end : {std::string("\nafter\n"), std::string()}) {
      FileSource source(
          {.path = Write("before\n" + line + end), .line_bytes = 10, .head_bytes = 4});
      Record record;
      BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
      BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
      BOOST_TEST(record.offset == 1);
      BOOST_TEST(record.bytes == "xxxx");
      BOOST_TEST_REQUIRE(record.refusal.has_value());
      BOOST_TEST((record.refusal->error.code == Code::kTooLarge));
      BOOST_TEST(record.refusal->error.message ==
                 "line: " + std::to_string(size) + " bytes are over the limit of 10");
      BOOST_TEST(record.refusal->bytes_total == size);
      BOOST_TEST(record.refusal->bytes_sha256 == Sha256Hex(line));
      if (!end.empty()) {
        BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
        BOOST_TEST(record.bytes == "after");
        BOOST_TEST(record.offset == 2);
        BOOST_TEST(!record.refusal.has_value());
      }
      BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_line_at_the_limit_is_whole_whatever_ends_it) {
  for (const char* const end : {"\n", "\r\n", ""}) {
    FileSource source(
        {.path = Write(std::string(10, 'x') + end), .line_bytes = 10, .head_bytes = 4});
    BOOST_TEST((ReadAll(source) == Expect({{0, std::string(10, 'x')}})), end);
  }
}

BOOST_AUTO_TEST_CASE(a_line_of_any_length_takes_no_memory) {
  // 256 MiB without a newline, packed into 260 KB, read within 16 MiB more than before.
  std::string packed;
  const std::string member = Gzip(std::string(16 << 20, 'x'));
  for (int i = 0; i < 16; ++i) packed += member;
  FileSource source({.path = Write(packed, "long.gz")});
  const auto resident_pages = [] {
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    return pages;
  };
  const long before = resident_pages();
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
  BOOST_TEST(record.refusal->bytes_total == uint64_t{256} << 20);
  BOOST_TEST(record.bytes.size() == size_t{64} << 10);
  BOOST_TEST((resident_pages() - before) * getpagesize() < (16 << 20));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(gzip_files, Files)

BOOST_AUTO_TEST_CASE(a_gzip_file_is_read_whatever_its_name) {
  const std::string text = NumberedLines(50'000);
  BOOST_TEST((ReadAll(Write(Gzip(text), "events.jsonl.gz")) == Split(text)));
  BOOST_TEST((ReadAll(Write(Gzip(text), "events")) == Split(text)));
}

BOOST_AUTO_TEST_CASE(members_join_even_inside_a_line_and_zeros_may_follow) {
  const std::string packed = Gzip("a\nb") + Gzip("") + Gzip("c\n") + std::string(1000, '\0');
  BOOST_TEST((ReadAll(Write(packed, "a.gz")) == Expect({{0, "a"}, {1, "bc"}})));
}

BOOST_AUTO_TEST_CASE(a_gzip_file_that_is_cut_short_gives_whole_lines_and_then_a_clear_error) {
  const std::string text = NumberedLines(2'000);
  const Lines all = Split(text);
  const std::string packed = Gzip(text);
  size_t most = 0;
  for (size_t size = 1; size < packed.size(); size += 97) {
    FileSource source({.path = Write(packed.substr(0, size), "cut.gz")});
    Error error;
    const Lines lines = ReadAll(source, &error);
    BOOST_TEST(error.message == folder.path() + "/cut.gz: its gzip data is cut short");
    BOOST_TEST((error.code == Code::kUnreadableFile));
    BOOST_TEST_REQUIRE(lines.size() <= all.size());
    BOOST_TEST(std::equal(lines.begin(), lines.end(), all.begin()));
    most = std::max(most, lines.size());
    Record record;
    BOOST_TEST((source.Next(record, kNow).error() == error));  // and again
  }
  BOOST_TEST(most > 1'500u);
}

BOOST_AUTO_TEST_CASE(a_damaged_gzip_file_gives_whole_lines_and_then_a_clear_error) {
  const std::string text = NumberedLines(50'000);
  std::string packed = Gzip(text);
  packed[packed.size() - 6] ^= 1;  // the checksum at its end
  FileSource source({.path = Write(packed, "bad.gz")});
  Error error;
  BOOST_TEST((ReadAll(source, &error) == Split(text)));
  BOOST_TEST(error.message ==
             folder.path() + "/bad.gz: its gzip data is damaged: incorrect data check");

  packed = Gzip("a\n") + "rest";
  FileSource followed({.path = Write(packed, "bad.gz")});
  BOOST_TEST((ReadAll(followed, &error) == Expect({{0, "a"}})));
  BOOST_TEST(error.message == folder.path() + "/bad.gz: other bytes follow its gzip data");
}

BOOST_AUTO_TEST_CASE(a_name_that_promises_gzip_must_keep_it) {
  FileSource source({.path = Write("{}\n", "plain.gz")});
  Error error;
  BOOST_TEST(ReadAll(source, &error).empty());
  BOOST_TEST(error.message == folder.path() + "/plain.gz: it is named .gz but holds no gzip data");
  FileSource empty({.path = Write("", "empty.gz")});
  BOOST_TEST(ReadAll(empty, &error).empty());
  BOOST_TEST(error.message == folder.path() + "/empty.gz: it is named .gz but holds no gzip data");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(seeking, Files)

BOOST_AUTO_TEST_CASE(seek_goes_to_the_first_record_at_or_after_a_line) {
  for (const bool packed : {false, true}) {
    const std::string text = "a\n\n\nb\nc\n";
    const std::string path = packed ? Write(Gzip(text), "s.gz") : Write(text);
    FileSource source({.path = path});
    Record record;
    BOOST_TEST(source.Seek(0, 1).ok());
    BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
    BOOST_TEST(record.offset == 3);
    BOOST_TEST(source.Seek(0, 0).ok());  // back
    BOOST_TEST((ReadAll(source) == Expect({{0, "a"}, {3, "b"}, {4, "c"}})));
    BOOST_TEST(source.Seek(0, 4).ok());  // back from the end
    BOOST_TEST((ReadAll(source) == Expect({{4, "c"}})));
    BOOST_TEST(source.Seek(0, 5).ok());  // all was read: nothing is left, which is no fault
    BOOST_TEST(ReadAll(source).empty());
  }
}

BOOST_AUTO_TEST_CASE(a_file_with_fewer_lines_than_were_done_is_another_file) {
  FileSource source({.path = Write("a\nb\n")});
  BOOST_TEST(source.Seek(0, 3).ok());
  Error error;
  BOOST_TEST(ReadAll(source, &error).empty());
  BOOST_TEST(error.message == folder.path() +
                                  "/events.jsonl: has only 2 lines, but reading goes on "
                                  "at line 3 (counted from 0)");
  BOOST_TEST(source.Seek(0, 1).ok());  // a good one mends it
  BOOST_TEST((ReadAll(source) == Expect({{1, "b"}})));
}

BOOST_AUTO_TEST_CASE(a_file_has_one_partition) {
  FileSource source({.path = Write("a\n")});
  BOOST_TEST((source.Seek(1, 0).error().code == Code::kUnreadableFile));
  BOOST_TEST(!source.Seek(0, -1).ok());
  BOOST_TEST((ReadAll(source) == Expect({{0, "a"}})));
}

BOOST_AUTO_TEST_CASE(the_listener_may_seek_and_its_error_ends_the_source) {
  struct Listener : PartitionListener {
    Result<Nothing> Assigned(std::span<const int32_t> partitions) override {
      BOOST_TEST(partitions.size() == 1u);
      ++assigned;
      if (fail) return Error{Code::kInternal, "no state", ""};
      return source->Seek(partitions[0], 1);
    }
    Result<Nothing> Revoked(std::span<const int32_t>) override { return Nothing{}; }
    void Lost(std::span<const int32_t>) override {}
    FileSource* source = nullptr;
    bool fail = false;
    int assigned = 0;
  };
  FileSource source({.path = Write("a\nb\n")});
  Listener listener;
  listener.source = &source;
  source.Listen(listener);
  BOOST_TEST((ReadAll(source) == Expect({{1, "b"}})));
  BOOST_TEST(listener.assigned == 1);

  FileSource other({.path = Write("a\n")});
  Listener failing;
  failing.fail = true;
  other.Listen(failing);
  Error error;
  BOOST_TEST(ReadAll(other, &error).empty());
  BOOST_TEST(error.message == "no state");
}

BOOST_AUTO_TEST_CASE(a_paused_source_gives_nothing_until_it_resumes) {
  FileSource source({.path = Write("a\n")});
  source.Pause(0);
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kNothing));
  source.Resume(0);
  BOOST_TEST((ReadAll(source) == Expect({{0, "a"}})));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(growing_files_and_pipes, Files)

BOOST_AUTO_TEST_CASE(a_followed_file_delivers_a_line_once_it_has_its_end) {
  const std::string path = Write("a\nhal");
  FileSource source({.path = path, .follow = true});
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
  BOOST_TEST(record.bytes == "a");
  BOOST_TEST((*source.Next(record, kNow) == Pull::kNothing));
  BOOST_TEST((*source.Next(record, kWait) == Pull::kNothing));
  std::ofstream(path, std::ios::app) << "f\n" << std::flush;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
  BOOST_TEST(record.bytes == "half");
  BOOST_TEST(record.offset == 1);

  std::thread writer([&] {
    std::this_thread::sleep_for(kWait);
    std::ofstream(path, std::ios::app) << "late\n" << std::flush;
  });
  BOOST_TEST((*source.Next(record, std::chrono::seconds(60)) == Pull::kRecord));
  writer.join();
  BOOST_TEST(record.bytes == "late");
}

BOOST_AUTO_TEST_CASE(a_followed_file_that_becomes_shorter_is_an_error) {
  const std::string path = Write("a\nb\n");
  FileSource source({.path = path, .follow = true});
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
  Write("c\n");
  const Result<Pull> pull = source.Next(record, kNow);
  BOOST_TEST_REQUIRE(!pull.ok());
  BOOST_TEST(pull.error().message == path + ": it became shorter while followed");
}

BOOST_AUTO_TEST_CASE(a_compressed_file_under_another_name_is_not_followed_either) {
  FileSource source({.path = Write(Gzip("a\n")), .follow = true});
  Error error;
  BOOST_TEST(ReadAll(source, &error).empty());
  BOOST_TEST(error.message ==
             folder.path() + "/events.jsonl: a compressed file cannot be followed");
}

BOOST_AUTO_TEST_CASE(a_pipe_is_read_as_it_comes_and_cannot_go_back) {
  const std::string path = folder.path() + "/pipe";
  BOOST_TEST_REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  const int writer = open(path.c_str(), O_RDWR);  // so that neither side waits in open
  BOOST_TEST_REQUIRE(writer >= 0);
  FileSource source({.path = path});
  BOOST_TEST(!source.bytes_total().has_value());
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kNothing));
  BOOST_TEST((*source.Next(record, kWait) == Pull::kNothing));
  BOOST_TEST_REQUIRE(write(writer, "a\nb", 3) == 3);
  BOOST_TEST((*source.Next(record, kWait) == Pull::kRecord));
  BOOST_TEST(record.bytes == "a");
  BOOST_TEST((*source.Next(record, kWait) == Pull::kNothing));
  BOOST_TEST((source.Seek(0, 0).error().code == Code::kUnreadableFile));
  BOOST_TEST(source.Seek(0, 1).ok());
  close(writer);
  BOOST_TEST((ReadAll(source) == Expect({{1, "b"}})));
}

BOOST_AUTO_TEST_CASE(standard_input_is_read_plain_or_packed) {
  for (const std::string& bytes : {std::string("a\nb\n"), Gzip("a\nb\n")}) {
    const std::string path = Write(bytes);
    const int saved = dup(STDIN_FILENO);
    const int file = open(path.c_str(), O_RDONLY);
    BOOST_TEST_REQUIRE(dup2(file, STDIN_FILENO) == STDIN_FILENO);
    FileSource source({.path = "-"});
    BOOST_TEST((ReadAll(source) == Expect({{0, "a"}, {1, "b"}})));
    dup2(saved, STDIN_FILENO);
    close(saved);
    close(file);
  }
}

BOOST_AUTO_TEST_SUITE_END()
