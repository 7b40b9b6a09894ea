// labels: unit
#include <boost/test/unit_test.hpp>

#include "connectors/codec.h"
#include "connectors/memory.h"
#include "stages/hash.h"

using namespace nudge;

namespace {

using Pull = Source::Pull;
constexpr std::chrono::milliseconds kNow{0};

OutcomeLine Line(int32_t partition, int64_t offset, const std::string& text = "x") {
  Outcome outcome;
  outcome.what = Applied{text, {}, {}};
  Origin origin;
  origin.sequence = Sequence::Of(partition, 0);
  origin.offset = offset;
  OutcomeLine line{partition, offset, OutcomeKind::kApplied, "", ""};
  EncodeOutcome(outcome, origin, line.bytes);
  AppendChain(Sha256(text), line.bytes);
  return line;
}

// Seeks when it is told of its partition, or refuses it.
class Seeker : public PartitionListener {
 public:
  Seeker(Source& source, int64_t offset) : source_(source), offset_(offset) {}

  Result<Nothing> Assigned(std::span<const int32_t> partitions) override {
    ++assigned;
    BOOST_TEST(partitions.size() == 1u);
    return source_.Seek(partitions[0], offset_);
  }
  Result<Nothing> Revoked(std::span<const int32_t>) override { return Nothing{}; }
  void Lost(std::span<const int32_t>) override {}

  int assigned = 0;

 private:
  Source& source_;
  int64_t offset_;
};

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

BOOST_AUTO_TEST_CASE(lines_come_in_order_and_then_the_end_for_ever) {
  MemorySource source({"a", "b"});
  Record record;
  record.refusal = Refusal{};
  for (const auto& [offset, bytes] : {std::pair{0, "a"}, std::pair{1, "b"}}) {
    BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
    BOOST_TEST(record.partition == 0);
    BOOST_TEST(record.offset == offset);
    BOOST_TEST(record.bytes == bytes);
    BOOST_TEST(!record.refusal.has_value());
  }
  BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));
  BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));
}

BOOST_AUTO_TEST_CASE(the_listener_hears_of_the_partition_once_and_may_seek) {
  MemorySource source({"a", "b", "c"});
  Seeker seeker(source, 2);
  source.Listen(seeker);
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
  BOOST_TEST(record.bytes == "c");
  BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));
  BOOST_TEST(seeker.assigned == 1);
}

BOOST_AUTO_TEST_CASE(an_offset_that_is_not_there_is_an_error) {
  MemorySource source({"a"});
  BOOST_TEST(source.Seek(0, 1).ok());
  BOOST_TEST((source.Seek(0, 2).error().code == Code::kUnreadableFile));
  BOOST_TEST(!source.Seek(0, -1).ok());
  BOOST_TEST(!source.Seek(1, 0).ok());
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kEnd));  // where the good Seek put it
  MemorySource other({"a"});
  Seeker bad(other, 7);
  other.Listen(bad);
  BOOST_TEST(!other.Next(record, kNow).ok());
}

BOOST_AUTO_TEST_CASE(a_paused_source_gives_nothing_until_it_resumes) {
  MemorySource source({"a"});
  source.Pause(0);
  source.Pause(0);
  Record record;
  BOOST_TEST((*source.Next(record, kNow) == Pull::kNothing));
  source.Resume(0);
  BOOST_TEST((*source.Next(record, kNow) == Pull::kRecord));
}

BOOST_AUTO_TEST_CASE(lines_count_from_their_commit_on) {
  MemorySink sink;
  BOOST_TEST(!sink.Last(0)->has_value());
  BOOST_TEST(sink.Append(Line(0, 3, "first")).ok());
  BOOST_TEST(!sink.Last(0)->has_value());
  BOOST_TEST(sink.lines().empty());
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST(sink.lines().size() == 1u);
  BOOST_TEST(((*sink.Last(0)).value() == Tail{3, Hex(Sha256("first"))}));
}

BOOST_AUTO_TEST_CASE(a_line_out_of_order_is_refused_and_changes_nothing) {
  MemorySink sink;
  BOOST_TEST(sink.Append(Line(0, 3)).ok());
  BOOST_TEST((sink.Append(Line(0, 3)).error().code == Code::kInternal));
  BOOST_TEST(sink.Append(Line(1, 3)).ok());
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST(!sink.Append(Line(0, 2)).ok());
  BOOST_TEST(sink.Append(Line(0, 4)).ok());
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST(sink.lines().size() == 3u);
}

BOOST_AUTO_TEST_CASE(dropping_a_partition_forgets_its_uncommitted_lines_alone) {
  MemorySink sink;
  BOOST_TEST(sink.Append(Line(0, 1)).ok());
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST(sink.Append(Line(0, 2)).ok());
  BOOST_TEST(sink.Append(Line(1, 5)).ok());
  sink.Drop(0);
  BOOST_TEST(sink.Append(Line(0, 2)).ok());  // as if it had not been there
  sink.Drop(0);
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST((*sink.Last(0))->offset == 1);
  BOOST_TEST((*sink.Last(1))->offset == 5);
}

BOOST_AUTO_TEST_CASE(committed_lines_are_read_back_by_partition_from_an_offset) {
  MemorySink sink;
  for (int64_t offset = 0; offset < 6; offset += 2) {
    BOOST_TEST(sink.Append(Line(0, offset)).ok());
    BOOST_TEST(sink.Append(Line(1, offset)).ok());
  }
  BOOST_TEST(sink.Commit().ok());
  BOOST_TEST(sink.Append(Line(0, 9)).ok());
  BOOST_TEST((OffsetsFrom(sink, 0, 1) == std::vector<int64_t>{2, 4}));
  BOOST_TEST((OffsetsFrom(sink, 1, 0) == std::vector<int64_t>{0, 2, 4}));
  BOOST_TEST(OffsetsFrom(sink, 2, 0).empty());
  int visits = 0;
  const Result<Nothing> stopped = sink.ReadBack(0, 0, [&](std::string_view) -> Result<Nothing> {
    ++visits;
    return Error{Code::kInternal, "enough", ""};
  });
  BOOST_TEST(stopped.error().message == "enough");
  BOOST_TEST(visits == 1);
}
