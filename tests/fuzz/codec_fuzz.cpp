// libFuzzer harness for everything that reads JSON: DecodeEvent, PeekHead, DecodeOutcome. It checks
// what must hold for any bytes, not only that nothing crashes:
//
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/codec_fuzz.cpp
//     connectors/{codec,event_head,outcome_codec,json_faults,json_reader,json_writer}.cpp
//     stages/{events,hash,result}.cpp -lsimdjson -lcrypto -o codec_fuzz
//   ./codec_fuzz -max_total_time=60 -max_len=4096 NEW_SEEDS_FOLDER tests/fuzz/seeds/codec
//
// codec_tests.cpp runs it over the seeds in the normal build.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "connectors/codec.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

void CheckEvent(std::string_view bytes) {
  const Result<Event> event = DecodeEvent(bytes);
  if (event) {
    const std::string line = EncodeEvent(*event);
    const Result<Event> again = DecodeEvent(line);
    ENSURE(again.ok());
    ENSURE(EncodeEvent(*again) == line);
    const EventHead head = PeekHead(bytes);
    ENSURE(head.tenant == event->tenant && head.source == event->source && head.id == event->id);
    ENSURE(head.type == TypeName(*event));
    return;
  }
  ENSURE(!event.error().message.empty() && event.error().message.size() < 500);
  ENSURE(IsUtf8(event.error().message));
}

// Whatever the bytes are, their dead letter can be written and read back.
void CheckDeadLetter(std::string_view bytes) {
  const EventHead head = PeekHead(bytes);
  Outcome outcome;
  outcome.tenant = head.tenant;
  outcome.source = head.source;
  outcome.id = head.id;
  outcome.type = head.type;
  const Result<Event> event = DecodeEvent(bytes);
  outcome.what = MakeDeadLetter("decode", event ? Error{} : event.error(), bytes, 100);
  Origin origin;
  origin.offset = 7;
  std::string line;
  EncodeOutcome(outcome, origin, line);
  const Result<RecordedOutcome> recorded = DecodeOutcome(line);
  ENSURE(recorded.ok());
  std::string again;
  EncodeOutcome(recorded->outcome, origin, again);
  ENSURE(again == line);
  const DeadLetter& letter = std::get<DeadLetter>(recorded->outcome.what);
  ENSURE(letter.bytes == std::get<DeadLetter>(outcome.what).bytes);
}

void CheckOutcome(std::string_view bytes) {
  const Result<RecordedOutcome> recorded = DecodeOutcome(bytes);
  if (!recorded) {
    ENSURE(IsUtf8(recorded.error().message) && recorded.error().message.size() < 500);
    return;
  }
  if (recorded->partition < 0) return;  // no Sequence has one
  Origin origin;
  origin.sequence = Sequence::Of(recorded->partition, 0);
  if (origin.sequence.partition() != recorded->partition) return;  // over 20 bits
  origin.offset = recorded->offset;
  std::string line;
  EncodeOutcome(recorded->outcome, origin, line);
  const Result<RecordedOutcome> again = DecodeOutcome(line);
  ENSURE(again.ok());
  std::string second;
  EncodeOutcome(again->outcome, origin, second);
  ENSURE(second == line);
  ENSURE(SplitChain(line).encoded == line);
}

}  // namespace
}  // namespace nudge

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  nudge::CheckEvent(bytes);
  nudge::CheckDeadLetter(bytes);
  nudge::CheckOutcome(bytes);
  return 0;
}
