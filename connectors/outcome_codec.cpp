#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "connectors/codec.h"
#include "connectors/erased_outcomes.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

std::string Base64(std::string_view bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP writes a closing zero
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

// Nothing if `text` is not what Base64 writes.
std::optional<std::string> FromBase64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  bytes.resize(static_cast<size_t>(size) - padding);
  if (Base64(bytes) != text) return std::nullopt;
  return bytes;
}

// ---- Outcomes -----------------------------------------------------------------------------------

constexpr std::string_view kOutcomeTypes[] = {"nudge.response", "nudge.applied",
                                              "nudge.dead_letter"};
// As it stands at the end of a line: 64 hex digits between the two.
constexpr std::string_view kChainOpens = R"(,"chain":")";
constexpr std::string_view kChainCloses = R"("})";
constexpr size_t kHexSize = 64;
constexpr size_t kChainSize = kChainOpens.size() + kHexSize + kChainCloses.size();

std::string_view OutcomeType(const Outcome& outcome) {
  return kOutcomeTypes[outcome.what.index()];
}

struct OutcomeWriter {
  JsonWriter& json;

  void operator()(const Response& response) const {
    json.Raw(R"(,"text":)").Text(response.text);
    json.Raw(R"(,"citations":[)");
    for (size_t i = 0; i < response.citations.size(); ++i) {
      const Citation& citation = response.citations[i];
      json.Raw(i == 0 ? R"({"document_id":)" : R"(,{"document_id":)").Text(citation.document_id);
      json.Raw(R"(,"version":)").Integer(citation.version);
      json.Raw(R"(,"score":)").Number(citation.score).Raw("}");
    }
    json.Raw(R"(],"prompt":{"prompt_id":)").Text(response.prompt_id);
    json.Raw(R"(,"version":)").Integer(response.prompt_version);
    json.Raw(R"(},"decoding":{"name":)").Text(response.decoding_name).Raw(",");
    WriteDecoding(response.decoding, json);
    json.Raw(R"(},"propensity":)").Number(response.propensity);
    json.Raw(R"(,"adapter":{"version":)").Integer(response.adapter_version);
    json.Raw(R"(,"digest":)").Text(response.adapter_digest);
    json.Raw(R"(},"cache":{"hit":)").Bool(response.cache_hit);
    json.Raw(R"(,"why":)").Text(response.cache_why);
    json.Raw(R"(},"tokens":{"prompt":)").Integer(response.prompt_tokens);
    json.Raw(R"(,"completion":)").Integer(response.completion_tokens).Raw("}");
    if (response.finish_reason == FinishReason::kUnknown) return;
    json.Raw(R"(,"finish_reason":)").Text(Name(response.finish_reason));
  }

  void operator()(const Applied& applied) const {
    json.Raw(R"(,"summary":)").Text(applied.summary);
    if (applied.step) json.Raw(R"(,"step":)").Integer(*applied.step);
    if (applied.makes_version) json.Raw(R"(,"makes_version":)").Integer(*applied.makes_version);
  }

  void operator()(const DeadLetter& letter) const {
    json.Raw(R"(,"stage":)").Text(letter.stage);
    json.Raw(R"(,"code":)").Text(Name(letter.error.code));
    json.Raw(R"(,"message":)").Text(letter.error.message);
    json.Raw(R"(,"remedy":)").Text(letter.error.remedy);
    if (IsUtf8(letter.bytes)) {
      json.Raw(R"(,"bytes":)").Text(letter.bytes);
    } else {
      json.Raw(R"(,"bytes_base64":")").Raw(Base64(letter.bytes)).Raw("\"");
    }
    json.Raw(R"(,"bytes_sha256":)").Text(letter.bytes_sha256);
    json.Raw(R"(,"bytes_total":)").Integer(letter.bytes_total);
  }
};

void WriteSnapshots(const std::vector<SnapshotRef>& snapshots, JsonWriter& json) {
  json.Raw(R"(,"snapshots":[)");
  for (size_t i = 0; i < snapshots.size(); ++i) {
    const SnapshotRef& snapshot = snapshots[i];
    json.Raw(i == 0 ? R"({"uri":)" : R"(,{"uri":)").Text(snapshot.uri);
    json.Raw(R"(,"sha256":)").Text(snapshot.sha256);
    json.Raw(R"(,"version":)").Integer(snapshot.version);
    json.Raw(R"(,"digest":)").Text(snapshot.digest);
    json.Raw(R"(,"parent_digest":)").Text(snapshot.parent_digest);
    json.Raw(R"(,"base_sha256":)").Text(snapshot.base_sha256).Raw("}");
  }
  json.Raw("]");
}

void WriteLessonEnds(const std::vector<LessonEnd>& ends, JsonWriter& json) {
  json.Raw(R"(,"lesson_ends":[)");
  for (size_t i = 0; i < ends.size(); ++i) {
    json.Raw(i == 0 ? R"({"event":)" : R"(,{"event":)").Integer(ends[i].event);
    json.Raw(R"(,"end":)").Text(kLessonEndNames[static_cast<size_t>(ends[i].what)]);
    json.Raw(R"(,"why":)").Text(ends[i].why).Raw("}");
  }
  json.Raw("]");
}

class OutcomeReader {
 public:
  Result<RecordedOutcome> Read(JsonValue root) {
    if (root.type() != JsonType::kObject) {
      json_.Fail(Code::kInvalidEvent, "expected one JSON object", "");
      return json_.TakeError();
    }
    RecordedOutcome recorded;
    ReadAttributes(root, recorded);
    if (json_.ok()) ReadData(recorded.outcome);
    if (json_.ok() && id_ != OutcomeId(recorded.outcome, recorded.partition, recorded.offset)) {
      json_.Fail(Code::kInvalidEvent, "id: is not the id that this outcome must have", "");
    }
    if (!json_.ok()) return json_.TakeError();
    return recorded;
  }

 private:
  static constexpr Need kRequired = Need::kRequired;
  static constexpr Need kOptional = Need::kOptional;

  // The readers of the members that occur everywhere; they are called while `out` lives.
  auto Text(std::string& out) {
    return [this, &out](const Place& at) { json_.Text(at, kNoLimit, out); };
  }
  template <class T>
  auto Integer(T& out) {
    return [this, &out](const Place& at) {
      json_.Integer<T>(at, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), out);
    };
  }
  template <class T>
  auto Integer(std::optional<T>& out) {
    return [this, &out](const Place& at) { Integer(out.emplace())(at); };
  }
  auto Number(double& out) {
    return [this, &out](const Place& at) {
      if (at.value.type() == JsonType::kNull) {
        out = std::numeric_limits<double>::quiet_NaN();
      } else {
        json_.Number(at, std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max(),
                     out);
      }
    };
  }
  auto Exactly(std::string_view wanted) {
    return [this, wanted](const Place& at) {
      const std::string_view text = json_.View(at, kNoLimit);
      if (json_.ok() && text != wanted) json_.FailAt(at, "is not " + std::string(wanted));
    };
  }

  void ReadAttributes(JsonValue root, RecordedOutcome& recorded) {
    std::string offset;
    json_.Object({nullptr, "", root},
                 {{"specversion", kRequired, Exactly("1.0")},
                  {"id", kRequired, Text(id_)},
                  {"source", kRequired, Exactly("nudge")},
                  {"type", kRequired, Text(type_)},
                  {"tenant", kOptional, Text(recorded.outcome.tenant)},
                  {"subject", kOptional, Text(subject_)},
                  {"datacontenttype", kRequired, Exactly("application/json")},
                  {"partition", kRequired, Integer(recorded.partition)},
                  {"offset", kRequired, Text(offset)},
                  {"data", kRequired, [&](const Place& at) { data_ = at.value; }},
                  {"chain", kOptional, Text(recorded.chain)}});
    if (!json_.ok()) return;
    const char* const end = offset.data() + offset.size();
    const auto [stop, error] = std::from_chars(offset.data(), end, recorded.offset);
    if (error != std::errc() || stop != end || recorded.offset < 0 ||
        offset != std::to_string(recorded.offset)) {
      json_.Fail(Code::kInvalidEvent, "offset: not an offset", "");
    }
    if (!recorded.chain.empty() && !IsSha256Hex(recorded.chain)) {
      json_.Fail(Code::kInvalidEvent, "chain: expected 64 lower-case hex digits", "");
    }
  }

  void ReadData(Outcome& outcome) {
    if (type_ == kOutcomeTypes[0]) {
      ReadResponse(outcome, outcome.what.emplace<Response>());
    } else if (type_ == kOutcomeTypes[1]) {
      ReadApplied(outcome, outcome.what.emplace<Applied>());
    } else if (type_ == kOutcomeTypes[2]) {
      ReadDeadLetter(outcome, outcome.what.emplace<DeadLetter>());
    } else {
      json_.Fail(Code::kInvalidEvent, "type: " + Quoted(type_) + " is not an outcome", "");
    }
  }

  auto EventOf(Outcome& outcome) {
    return [this, &outcome](const Place& place) {
      json_.Object(place, {{"source", kRequired, Text(outcome.source)},
                           {"id", kRequired, Text(outcome.id)},
                           {"type", kRequired, Text(outcome.type)}});
    };
  }

  auto Snapshots(std::vector<SnapshotRef>& snapshots) {
    return [this, &snapshots](const Place& place) {
      json_.Items(place, [&](const Place& at) {
        SnapshotRef& snapshot = snapshots.emplace_back();
        json_.Object(at, {{"uri", kRequired, Text(snapshot.uri)},
                          {"sha256", kRequired, Text(snapshot.sha256)},
                          {"version", kRequired, Integer(snapshot.version)},
                          {"digest", kRequired, Text(snapshot.digest)},
                          {"parent_digest", kRequired, Text(snapshot.parent_digest)},
                          {"base_sha256", kRequired, Text(snapshot.base_sha256)}});
      });
    };
  }

  auto LessonEnds(std::vector<LessonEnd>& ends) {
    return [this, &ends](const Place& place) {
      json_.Items(place, [&](const Place& at) {
        LessonEnd& end = ends.emplace_back();
        const auto read_end = [&](const Place& word) {
          const std::string_view name = json_.View(word, kNoLimit);
          const auto found = std::ranges::find(kLessonEndNames, name);
          if (found != std::end(kLessonEndNames)) {
            end.what = static_cast<LessonEnd::What>(found - std::begin(kLessonEndNames));
          } else if (json_.ok()) {
            json_.FailAt(word, Quoted(name) + " is no end of a lesson", "");
          }
        };
        json_.Object(at, {{"event", kRequired, Integer(end.event)},
                          {"end", kRequired, read_end},
                          {"why", kRequired, Text(end.why)}});
      });
    };
  }

  void ReadResponse(Outcome& outcome, Response& response) {
    Decoding& decoding = response.decoding;
    json_.Object(
        {nullptr, "data", data_},
        {{"event", kRequired, EventOf(outcome)},
         {"text", kRequired, Text(response.text)},
         {"citations", kRequired,
          [&](const Place& place) { ReadCitations(place, response.citations); }},
         {"prompt", kRequired,
          [&](const Place& place) {
            json_.Object(place, {{"prompt_id", kRequired, Text(response.prompt_id)},
                                 {"version", kRequired, Integer(response.prompt_version)}});
          }},
         {"decoding", kRequired,
          [&](const Place& place) {
            json_.Object(place, {{"name", kRequired, Text(response.decoding_name)},
                                 {"temperature", kRequired, Number(decoding.temperature)},
                                 {"top_p", kRequired, Number(decoding.top_p)},
                                 {"top_k", kRequired, Integer(decoding.top_k)},
                                 {"max_tokens", kRequired, Integer(decoding.max_tokens)}});
          }},
         {"propensity", kRequired, Number(response.propensity)},
         {"adapter", kRequired,
          [&](const Place& place) {
            json_.Object(place, {{"version", kRequired, Integer(response.adapter_version)},
                                 {"digest", kRequired, Text(response.adapter_digest)}});
          }},
         {"cache", kRequired,
          [&](const Place& place) {
            const auto hit = [&](const Place& at) { json_.Bool(at, response.cache_hit); };
            json_.Object(place,
                         {{"hit", kRequired, hit}, {"why", kRequired, Text(response.cache_why)}});
          }},
         {"tokens", kRequired,
          [&](const Place& place) {
            json_.Object(place, {{"prompt", kRequired, Integer(response.prompt_tokens)},
                                 {"completion", kRequired, Integer(response.completion_tokens)}});
          }},
         {"finish_reason", kOptional,
          [&](const Place& at) { ReadFinishReason(at, response.finish_reason); }},
         {"snapshots", kOptional, Snapshots(outcome.snapshots)},
         {"lesson_ends", kOptional, LessonEnds(outcome.lesson_ends)}});
  }

  void ReadCitations(const Place& place, std::vector<Citation>& citations) {
    json_.Items(place, [&](const Place& at) {
      Citation& citation = citations.emplace_back();
      json_.Object(at, {{"document_id", kRequired, Text(citation.document_id)},
                        {"version", kRequired, Integer(citation.version)},
                        {"score", kRequired, Number(citation.score)}});
    });
  }

  void ReadApplied(Outcome& outcome, Applied& applied) {
    json_.Object({nullptr, "data", data_},
                 {{"event", kRequired, EventOf(outcome)},
                  {"summary", kRequired, Text(applied.summary)},
                  {"step", kOptional, Integer(applied.step)},
                  {"makes_version", kOptional, Integer(applied.makes_version)},
                  {"snapshots", kOptional, Snapshots(outcome.snapshots)},
                  {"lesson_ends", kOptional, LessonEnds(outcome.lesson_ends)}});
  }

  void ReadDeadLetter(Outcome& outcome, DeadLetter& letter) {
    bool has_bytes = false;
    std::string base64;
    json_.Object({nullptr, "data", data_},
                 {{"event", kRequired, EventOf(outcome)},
                  {"stage", kRequired, Text(letter.stage)},
                  {"code", kRequired, [&](const Place& at) { ReadCode(at, letter.error.code); }},
                  {"message", kRequired, Text(letter.error.message)},
                  {"remedy", kRequired, Text(letter.error.remedy)},
                  {"bytes", kOptional,
                   [&](const Place& at) {
                     has_bytes = true;
                     json_.Text(at, kNoLimit, letter.bytes);
                   }},
                  {"bytes_base64", kOptional, Text(base64)},
                  {"bytes_sha256", kRequired, Text(letter.bytes_sha256)},
                  {"bytes_total", kRequired, Integer(letter.bytes_total)},
                  {"snapshots", kOptional, Snapshots(outcome.snapshots)},
                  {"lesson_ends", kOptional, LessonEnds(outcome.lesson_ends)}});
    if (!json_.ok()) return;
    if (has_bytes != base64.empty()) {
      return json_.Fail(Code::kInvalidEvent, "data: not exactly one of bytes and bytes_base64", "");
    }
    if (has_bytes) return;
    std::optional<std::string> bytes = FromBase64(base64);
    if (!bytes) return json_.Fail(Code::kInvalidEvent, "data.bytes_base64: not base64", "");
    letter.bytes = std::move(*bytes);
  }

  void ReadFinishReason(const Place& place, FinishReason& reason) {
    const std::string_view name = json_.View(place, kNoLimit);
    for (const auto one : {FinishReason::kStop, FinishReason::kLength, FinishReason::kWindow}) {
      if (Name(one) != name) continue;
      reason = one;
      return;
    }
    json_.FailAt(place, Quoted(name) + " is unknown");
  }

  void ReadCode(const Place& place, Code& code) {
    const std::string_view name = json_.View(place, kNoLimit);
    for (auto i = 0; i <= static_cast<int>(kLastCode); ++i) {
      code = static_cast<Code>(i);
      if (Name(code) == name) return;
    }
    json_.FailAt(place, Quoted(name) + " is unknown");
  }

  JsonReader json_;
  std::string id_;
  std::string type_;
  std::string subject_;
  JsonValue data_;
};

}  // namespace

DeadLetter MakeDeadLetter(std::string_view stage, Error error, std::string_view bytes,
                          size_t keep_bytes) {
  DeadLetter letter;
  letter.stage = stage;
  letter.error = std::move(error);
  letter.bytes = IsUtf8(bytes) ? Utf8Prefix(bytes, keep_bytes) : bytes.substr(0, keep_bytes);
  letter.bytes_sha256 = Sha256Hex(bytes);
  letter.bytes_total = bytes.size();
  return letter;
}

OutcomeKind KindOf(const Outcome& outcome) {
  return static_cast<OutcomeKind>(outcome.what.index());
}

std::string OutcomeId(const Outcome& outcome, int32_t partition, int64_t offset) {
  const std::string_view type = OutcomeType(outcome);
  const bool known = !outcome.tenant.empty() && !outcome.source.empty() && !outcome.id.empty();
  const Sha256Digest digest =
      known ? Sha256Parts({outcome.tenant, outcome.source, outcome.id, type})
            : Sha256Parts({outcome.tenant, outcome.source, outcome.id, type,
                           std::to_string(partition), std::to_string(offset)});
  return Hex(digest).substr(0, 32);
}

void EncodeOutcome(const Outcome& outcome, const Origin& origin, std::string& out) {
  const int32_t partition = origin.sequence.partition();
  JsonWriter json(out);
  json.Raw(R"({"specversion":"1.0","id":")").Raw(OutcomeId(outcome, partition, origin.offset));
  json.Raw(R"(","source":"nudge","type":")").Raw(OutcomeType(outcome)).Raw("\"");
  if (!outcome.tenant.empty()) json.Raw(R"(,"tenant":)").Text(outcome.tenant);
  if (!outcome.id.empty()) json.Raw(R"(,"subject":)").Text(outcome.source + "/" + outcome.id);
  json.Raw(R"(,"datacontenttype":"application/json","partition":)").Integer(partition);
  json.Raw(R"(,"offset":")").Integer(origin.offset);
  json.Raw(R"(","data":{"event":{"source":)").Text(outcome.source);
  json.Raw(R"(,"id":)").Text(outcome.id);
  json.Raw(R"(,"type":)").Text(outcome.type).Raw("}");
  std::visit(OutcomeWriter{json}, outcome.what);
  if (!outcome.snapshots.empty()) WriteSnapshots(outcome.snapshots, json);
  if (!outcome.lesson_ends.empty()) WriteLessonEnds(outcome.lesson_ends, json);
  json.Raw("}}");
}

Sha256Digest NextChain(const Sha256Digest& previous, int64_t offset, std::string_view encoded) {
  std::string hashed(previous.begin(), previous.end());
  hashed.reserve(hashed.size() + 8 + encoded.size());
  for (int i = 0; i < 8; ++i) {
    hashed.push_back(static_cast<char>(static_cast<uint64_t>(offset) >> (8 * i)));
  }
  hashed.append(encoded);
  return Sha256(hashed);
}

void AppendChain(const Sha256Digest& chain, std::string& out) {
  ENSURE(out.ends_with('}'));
  out.pop_back();
  out.append(kChainOpens).append(Hex(chain)).append(kChainCloses);
}

std::string_view ChainOf(std::string_view line) {
  if (line.size() <= kChainSize || !line.ends_with(kChainCloses)) return {};
  const std::string_view end = line.substr(line.size() - kChainSize);
  const std::string_view chain = end.substr(kChainOpens.size(), kHexSize);
  return end.starts_with(kChainOpens) && IsSha256Hex(chain) ? chain : std::string_view();
}

ChainedLine SplitChain(std::string_view line) {
  const std::string_view chain = ChainOf(line);
  if (chain.empty()) return {std::string(line), ""};
  return {std::string(line.substr(0, line.size() - kChainSize)) + "}", std::string(chain)};
}

Result<RecordedOutcome> DecodeOutcome(std::string_view line) {
  const auto refuse = [](const std::string& why) {
    return Error{Code::kUnreadableFile, "not an outcome of nudge: " + why,
                 "the outcome log was changed or damaged; restore it from a copy"};
  };
  if (line.size() > kOutcomeLineBytes) return refuse("line too long");
  if (const auto erased = DecodeErased(line)) return ErasedAlready(*erased);
  constexpr size_t kDepth = 16;
  const Result<JsonValue> root = ParseJson(line, kDepth);
  if (!root) return refuse(root.error().message);
  Result<RecordedOutcome> recorded = OutcomeReader().Read(*root);
  if (!recorded) return refuse(recorded.error().message);
  return recorded;
}

}  // namespace nudge
