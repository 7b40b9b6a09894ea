// The saved form of a tenant's versions and answers.
#include "pipeline/tenant_models.h"
#include "stages/state.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 3;  // of a version; 2 counted nothing set aside, 1 knew no places
constexpr uint8_t kAnswerFormatBefore = 1;
constexpr uint8_t kAnswerFormat =
    2;  // the one before is the same without the reason why the answer ends

// The counts in the order in which they are written.
template <class Counts, class Each>
void ForEachCount(Counts& counts, Each&& each) {
  for (auto* count : {&counts.steps, &counts.examples, &counts.corrections, &counts.ups,
                      &counts.downs, &counts.refused, &counts.set_aside}) {
    each(*count);
  }
}

}  // namespace

std::string Encode(const Served& served) {
  ByteWriter out;
  out.U8(kFormat);
  out.U8(served.adapter != nullptr);
  if (served.adapter) {
    out.Text(served.adapter->digest);
    out.Text(served.adapter->parent_digest);
    ForEachCount(served.adapter->counts, [&](uint64_t count) { out.U64(count); });
    out.Text(served.adapter->weights);
  }
  return out.Take();
}

Result<Served> DecodeServed(const Change& entry, Teacher& teacher) {
  ByteReader in(*entry.value);
  if (in.U8() != kFormat) return UnreadableEntry(entry);
  Served served;
  if (in.U8() != 0) {
    const std::string digest = in.Text();
    const std::string parent = in.Text();
    LearnCounts counts;
    ForEachCount(counts, [&](uint64_t& count) { count = in.U64(); });
    auto version = teacher.LoadVersion(in.Text(), digest, parent, counts);
    if (!version.ok()) return version.error();
    served.adapter = *version;
  }
  if (!in.complete()) return UnreadableEntry(entry);
  return served;
}

std::string Encode(const GivenAnswer& answer) {
  ByteWriter out;
  out.U8(kAnswerFormat);
  out.U8(answer.error.has_value());
  out.Text(answer.error ? answer.error->message : answer.completed.text);
  out.U32(answer.completed.prompt_tokens);
  out.U32(answer.completed.completion_tokens);
  out.Text(answer.digest);
  out.U8(static_cast<uint8_t>(answer.completed.finish_reason));
  return out.Take();
}

Result<GivenAnswer> DecodeAnswer(const Change& entry) {
  ByteReader in(*entry.value);
  const uint8_t format = in.U8();
  if (format != kAnswerFormatBefore && format != kAnswerFormat) return UnreadableEntry(entry);
  GivenAnswer answer;
  const bool failed = in.U8() != 0;
  std::string text = in.Text();
  if (failed) {
    answer.error = Error{Code::kModelFailed, std::move(text), ""};
  } else {
    answer.completed.text = std::move(text);
  }
  answer.completed.prompt_tokens = in.U32();
  answer.completed.completion_tokens = in.U32();
  answer.digest = in.Text();
  const uint8_t reason = format == kAnswerFormatBefore ? 0 : in.U8();
  answer.completed.finish_reason = static_cast<FinishReason>(reason);
  if (!in.complete() || reason > static_cast<uint8_t>(FinishReason::kWindow)) {
    return UnreadableEntry(entry);
  }
  return answer;
}

}  // namespace nudge
