// labels: unit
// How an outcome becomes a line, and what stands in the place of one that is too large.
#include <boost/test/unit_test.hpp>

#include "pipeline/emit.h"

using namespace nudge;

namespace {

Origin OriginOf(std::string bytes) {
  Origin origin;
  origin.sequence = Sequence::Of(2, 7);
  origin.offset = 9;
  origin.bytes = std::move(bytes);
  return origin;
}

Outcome OutcomeOf(decltype(Outcome::what) what) {
  return {"acme", "/s", "1", "nudge.query", std::move(what), {}};
}

Response Answer(size_t bytes) {
  Response response;
  response.text = std::string(bytes, 'a');
  response.adapter_digest = "base";
  return response;
}

DeadLetter LetterIn(const OutcomeLine& line) {
  const Result<RecordedOutcome> read = DecodeOutcome(line.bytes);
  BOOST_REQUIRE_MESSAGE(read.ok(), (read.ok() ? "" : read.error().message));
  const auto* letter = std::get_if<DeadLetter>(&read->outcome.what);
  BOOST_REQUIRE(letter != nullptr);
  return *letter;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_dead_letter_carries_the_head_of_the_bytes_and_the_digest_of_all) {
  Origin origin = OriginOf(
      "abcd\xC3\xA9"
      "f");
  const Error error{Code::kInvalidEvent, "type: missing", "add it"};
  const Outcome outcome = OutcomeOf(DeadLetter{"decode", error, {}, {}, 0});
  DeadLetter letter = LetterIn(EncodeLine(outcome, origin, {.dead_letter_bytes = 5}));
  BOOST_TEST(letter.bytes == "abcd");  // inside of no character
  BOOST_TEST(letter.bytes_sha256 == Sha256Hex(origin.bytes));
  BOOST_TEST(letter.bytes_total == 7U);
  BOOST_TEST(letter.stage == "decode");
  BOOST_TEST((letter.error == error));
  origin.bytes_sha256 = std::string(64, 'a');
  origin.bytes_total = 99;
  letter = LetterIn(EncodeLine(outcome, origin, {.dead_letter_bytes = 5}));
  BOOST_TEST(letter.bytes_sha256 == origin.bytes_sha256);
  BOOST_TEST(letter.bytes_total == 99U);
}

BOOST_AUTO_TEST_CASE(a_line_says_where_it_belongs) {
  const OutcomeLine line = EncodeLine(OutcomeOf(Answer(10)), OriginOf("{}"), {});
  BOOST_TEST(line.partition == 2);
  BOOST_TEST(line.offset == 9);
  BOOST_TEST(line.key == "acme");
  BOOST_TEST((line.kind == OutcomeKind::kResponse));
}

BOOST_AUTO_TEST_CASE(an_answer_that_the_sink_cannot_take_becomes_a_dead_letter) {
  const EmitOptions options{.outcome_bytes = 10'000};
  const Origin origin = OriginOf(R"({"id":"1"})");
  // With key and chain, the largest that passes is a little below the limit.
  size_t largest = 0;
  for (size_t bytes = 9'000; bytes <= 10'000; ++bytes) {
    OutcomeLine line = EncodeLine(OutcomeOf(Answer(bytes)), origin, options);
    if (line.kind != OutcomeKind::kResponse) break;
    largest = bytes;
    AppendChain(Sha256Digest{}, line.bytes);
    BOOST_TEST(line.bytes.size() + line.key.size() <= options.outcome_bytes);
  }
  BOOST_TEST(largest > 9'000U);
  const OutcomeLine line = EncodeLine(OutcomeOf(Answer(largest + 1)), origin, options);
  BOOST_TEST((line.kind == OutcomeKind::kDeadLetter));
  BOOST_TEST(line.bytes.size() < 2'000U);
  const DeadLetter letter = LetterIn(line);
  BOOST_TEST(letter.stage == kEncodeStage);
  BOOST_TEST((letter.error.code == Code::kTooLarge));
  BOOST_TEST(letter.error.message.find("over the limit of 10000") != std::string::npos);
  BOOST_TEST(letter.bytes_sha256 == Sha256Hex(origin.bytes));
  // The same once more: recovery must come to the same bytes.
  BOOST_TEST(EncodeLine(OutcomeOf(Answer(largest + 1)), origin, options).bytes == line.bytes);
}

BOOST_AUTO_TEST_CASE(a_dead_letter_that_is_too_large_goes_without_its_event) {
  const EmitOptions options{.dead_letter_bytes = 1 << 20, .outcome_bytes = 10'000};
  const Error error{Code::kInvalidUtf8, "not UTF-8 at byte 0", "encode it"};
  for (const char byte : {'\x01', '\xFF', 'a'}) {  // escaped, in base64, as it is
    const Origin origin = OriginOf(std::string(12'000, byte));
    const OutcomeLine line =
        EncodeLine(OutcomeOf(DeadLetter{"decode", error, {}, {}, 0}), origin, options);
    BOOST_TEST(line.bytes.size() < 2'000U);
    const DeadLetter letter = LetterIn(line);
    BOOST_TEST(letter.stage == "decode");
    BOOST_TEST((letter.error == error));
    BOOST_TEST(letter.bytes == "");
    BOOST_TEST(letter.bytes_total == 12'000U);
  }
}
