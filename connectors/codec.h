// Events and outcomes as JSON: CloudEvents 1.0, structured mode, one object a line. docs/EVENTS.md
// describes every field.
//
//   bytes -> [DecodeEvent] -> Event        Outcome -> [EncodeOutcome] -> line -> [DecodeOutcome]
//
// Pure functions, any thread (each thread keeps one parser, whose memory grows with the longest
// line that it has seen: about 13 bytes a byte).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "connectors/event_limits.h"
#include "connectors/sink.h"
#include "stages/events.h"
#include "stages/hash.h"
#include "stages/result.h"

namespace nudge {

// The event in `bytes`, or the first thing that is wrong with it:
//   kInvalidJson   not JSON, or with half of a character in a text
//   kInvalidUtf8   bytes that are not UTF-8
//   kInvalidEvent  a field that is missing, unknown, given twice, of the wrong type or out of
//   range;
//                  the message begins with its path ("data.rating: 7 is outside -1..1")
//   kUnknownType   a type that nudge does not know
//   kTooLarge      over one of the limits, which the remedy names
// Attributes that CloudEvents allows beside those that nudge reads are ignored.
Result<Event> DecodeEvent(std::string_view bytes, const EventLimits& limits = {});

// One line without a newline. DecodeEvent gives the same event back if the event is within limits
// and its texts are UTF-8.
std::string EncodeEvent(const Event& event);

// What can be told of an event that cannot be decoded; what cannot is empty. Every field is UTF-8,
// within its limit and free of control characters.
struct EventHead {
  TenantId tenant;
  std::string source;
  std::string id;
  std::string type;
  friend bool operator==(const EventHead&, const EventHead&) = default;
};

// Reads on behind what has no meaning but does no harm to JSON's structure (json_faults.h), up to
// where the bytes stop being JSON, so a line that was cut works too; the first value of each field
// counts. Looks into a batch, an envelope and a text that holds JSON as well.
EventHead PeekHead(std::string_view bytes, const EventLimits& limits = {});

// The dead letter of a record: its bytes cut to `keep_bytes` (inside of no character), the SHA-256
// and size of all of them. `stage` is who refused it.
DeadLetter MakeDeadLetter(std::string_view stage, Error error, std::string_view bytes,
                          size_t keep_bytes);

// 64 lower-case hex digits.
bool IsSha256Hex(std::string_view text);

// The members of a decoding in JSON, without braces.
class JsonWriter;
void WriteDecoding(const Decoding& decoding, JsonWriter& json);

// ---- Outcomes -----------------------------------------------------------------------------------

OutcomeKind KindOf(const Outcome& outcome);

// The outcome's own CloudEvents id: 32 hex digits, the first half of Sha256Parts of the event's
// tenant, source and id and of the outcome's type ("nudge.applied"). So a consumer that drops
// repeated ids counts an event that was sent twice once. Where tenant, source or id could not be
// read, partition and offset stand beside them.
std::string OutcomeId(const Outcome& outcome, int32_t partition, int64_t offset);

// Appends one JSON object without a newline. The same outcome gives the same bytes on any machine.
// Texts that are not UTF-8 are repaired (ReplaceInvalidUtf8 of json_writer.h); a dead letter's
// bytes are kept as they are, in base64 if need be; a number that is not finite becomes null.
void EncodeOutcome(const Outcome& outcome, const Origin& origin, std::string& out);

// h = SHA-256(previous, offset as 8 little-endian bytes, encoded): the link that an outcome adds to
// its partition's chain. `encoded` is the object as EncodeOutcome wrote it. A chain starts from
// zeros.
Sha256Digest NextChain(const Sha256Digest& previous, int64_t offset, std::string_view encoded);

// Puts the chain's hash into the object at the end of `out`, as its last attribute.
void AppendChain(const Sha256Digest& chain, std::string& out);

// A line taken apart again: what NextChain hashed, and the hash that the line claims.
struct ChainedLine {
  std::string encoded;
  std::string chain;  // 64 hex digits; empty if the line has none
};
ChainedLine SplitChain(std::string_view line);

// The hash alone, inside `line`; empty if it has none.
std::string_view ChainOf(std::string_view line);

// An outcome as read back from the log.
struct RecordedOutcome {
  Outcome outcome;
  int32_t partition = 0;
  int64_t offset = 0;
  std::string chain;  // 64 hex digits; empty if the line has none
};

// The longest line that is written or read back.
inline constexpr size_t kOutcomeLineBytes = 8 << 20;

// Reads what EncodeOutcome wrote, with or without a chain: encoding it again gives the same bytes.
// kUnreadableFile for anything else, including an id that is not OutcomeId's, and for what was
// erased (erased_outcomes.h); whether the chain is right is NextChain's business.
Result<RecordedOutcome> DecodeOutcome(std::string_view line);

}  // namespace nudge
