// labels: unit
// Lines of outcomes that were erased: what they keep, how a crash is mended, who reads past them.
#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

#include "connectors/erased_outcomes.h"
#include "connectors/file_sink.h"
#include "temp_folder.h"

using namespace nudge;
using nudge::testing::FileBytes;
using nudge::testing::TempFolder;

namespace {

constexpr std::chrono::seconds kPatience{60};

OutcomeLine LineOf(int64_t offset, const std::string& text, Sha256Digest& chain) {
  Outcome outcome{"acme", "/test", "e-" + std::to_string(offset), "nudge.query", {}, {}};
  OutcomeLine line{0, offset, OutcomeKind::kApplied, "acme", {}};
  if (offset % 2 == 0) {
    outcome.what = Applied{text, {}, {}};
  } else {
    outcome.what = MakeDeadLetter("decode", {Code::kInvalidJson, "no", "yes"}, text, 1024);
    line.kind = OutcomeKind::kDeadLetter;
  }
  Origin origin;
  origin.sequence = Sequence::Of(0, static_cast<uint64_t>(offset));
  origin.offset = offset;
  EncodeOutcome(outcome, origin, line.bytes);
  chain = NextChain(chain, offset, line.bytes);
  AppendChain(chain, line.bytes);
  return line;
}

// A folder with six outcomes, of which those of odd offsets are dead letters; its lines.
std::vector<std::string> Fill(const std::string& folder) {
  FileSink sink({.folder = folder});
  Sha256Digest chain{};
  std::vector<std::string> lines;
  for (int64_t offset = 0; offset < 6; ++offset) {
    const OutcomeLine line = LineOf(offset, "word" + std::to_string(offset), chain);
    BOOST_REQUIRE(sink.Append(line).ok());
    lines.push_back(line.bytes);
  }
  BOOST_REQUIRE(sink.Commit().ok());
  return lines;
}

FileSink Resumed(const std::string& folder) {
  return FileSink({.folder = folder, .existing = FileSinkOptions::Existing::kResume});
}

std::string ErasedOf(const std::string& line) {
  const RecordedOutcome outcome = *DecodeOutcome(line);
  return EncodeErased({outcome.partition, outcome.offset, outcome.chain}, line.size());
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_erased_line_keeps_length_offset_and_chain_and_is_no_outcome) {
  const TempFolder folder;
  const std::string line = Fill(folder.path())[3];
  const std::string erased = ErasedOf(line);
  BOOST_TEST(erased.size() == line.size());
  BOOST_TEST(ChainOf(erased) == ChainOf(line));
  const auto read = DecodeErased(erased);
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST(read->offset == 3);
  BOOST_TEST(read->chain == ChainOf(line));
  BOOST_TEST(Hex(FromHex(read->chain)) == read->chain);
  BOOST_TEST(DecodeOutcome(erased).error().message.find("offset 3 was erased") !=
             std::string::npos);
  BOOST_TEST(!DecodeErased(line).has_value());
  std::string with_words = erased;
  with_words[with_words.find("  ") + 1] = 'x';
  BOOST_TEST(!DecodeErased(with_words).has_value());
  for (size_t size = 0; size < erased.size(); ++size) {
    BOOST_TEST(!DecodeErased(erased.substr(0, size)).has_value());
  }
}

BOOST_AUTO_TEST_CASE(what_is_wanted_goes_from_outcomes_and_dead_letters_while_a_sink_writes) {
  const TempFolder folder;
  const std::vector<std::string> lines = Fill(folder.path());
  {
    FileSink sink = Resumed(folder.path());
    OutcomeEraser eraser(folder.path(), kPatience);
    const auto odd = [](const RecordedOutcome& outcome) -> Result<bool> {
      return outcome.offset % 2 == 1;
    };
    BOOST_TEST(*eraser.EraseUntil(3, odd) == 1U);
    BOOST_TEST(FileBytes(folder.path() + "/dead_letters.jsonl").find("word1") == std::string::npos);
    BOOST_TEST(FileBytes(folder.path() + "/dead_letters.jsonl").find("word3") != std::string::npos);
    Sha256Digest chain = FromHex(ChainOf(lines.back()));
    BOOST_REQUIRE(sink.Append(LineOf(7, "word7", chain)).ok());
    BOOST_REQUIRE(sink.Commit().ok());
    BOOST_TEST(*eraser.EraseUntil(7, odd) == 2U);
    BOOST_TEST(*OutcomeEraser(folder.path(), kPatience).EraseUntil(7, odd) == 0U);
  }
  const std::string outcomes = FileBytes(folder.path() + "/outcomes.jsonl");
  for (const int offset : {1, 3, 5}) {
    BOOST_TEST(outcomes.find("word" + std::to_string(offset)) == std::string::npos);
  }
  for (const int offset : {0, 2, 4}) BOOST_TEST(outcomes.find(lines[offset]) != std::string::npos);
  FileSink sink = Resumed(folder.path());
  BOOST_TEST((*sink.Last(0))->offset == 7);
  // The copy is made again without them.
  const std::string letters = FileBytes(folder.path() + "/dead_letters.jsonl");
  BOOST_TEST(letters.find("word7") != std::string::npos);
  BOOST_TEST(letters.find("erased") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(reading_back_passes_erased_lines_and_fails_from_before_one) {
  const TempFolder folder;
  Fill(folder.path());
  const auto third = [](const RecordedOutcome& outcome) -> Result<bool> {
    return outcome.offset == 3;
  };
  BOOST_REQUIRE(OutcomeEraser(folder.path(), kPatience).EraseUntil(6, third).ok());
  FileSink sink = Resumed(folder.path());
  int count = 0;
  const Sink::Visit visit = [&](std::string_view) -> Result<Nothing> {
    ++count;
    return Nothing{};
  };
  BOOST_TEST(sink.ReadBack(0, 4, visit).ok());
  BOOST_TEST(count == 2);
  const Result<Nothing> read = sink.ReadBack(0, 2, visit);
  BOOST_REQUIRE(!read.ok());
  BOOST_TEST(read.error().message.find("offset 3 was erased") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_half_written_line_is_finished_at_the_next_start) {
  for (const size_t written : {0U, 40U, 90U, 200U}) {
    const TempFolder folder;
    const std::vector<std::string> lines = Fill(folder.path());
    const std::string path = folder.path() + "/outcomes.jsonl";
    const std::string erased = ErasedOf(lines[1]);
    const size_t position = lines[0].size() + 1;
    std::ofstream(folder.path() + "/outcomes.erasing") << position << " " << erased << "\n";
    std::string bytes = FileBytes(path);
    bytes.replace(position, written, erased.substr(0, written));
    std::ofstream(path, std::ios::binary) << bytes;
    FileSink sink = Resumed(folder.path());
    BOOST_TEST((*sink.Last(0))->offset == 5);
    bytes.replace(position, erased.size(), erased);
    BOOST_TEST(FileBytes(path) == bytes);
    BOOST_TEST(!std::filesystem::exists(folder.path() + "/outcomes.erasing"));
  }
}

BOOST_AUTO_TEST_CASE(what_was_written_down_for_another_file_changes_nothing) {
  const TempFolder folder;
  const std::vector<std::string> lines = Fill(folder.path());
  const std::string before = FileBytes(folder.path() + "/outcomes.jsonl");
  std::ofstream(folder.path() + "/outcomes.erasing")
      << "3 " << ErasedOf(lines[1]) << "\n100000 " << ErasedOf(lines[1]) << "\nnonsense\n";
  FileSink sink = Resumed(folder.path());
  BOOST_TEST(FileBytes(folder.path() + "/outcomes.jsonl") == before);
  BOOST_TEST(!std::filesystem::exists(folder.path() + "/outcomes.erasing"));
}
