#include "connectors/codec.h"

#include <openssl/evp.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "connectors/json_writer.h"

namespace nudge {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

// ---- Reading ------------------------------------------------------------------------------------

// For messages: short, on one line, no control characters.
std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 60;
  std::string quoted(Utf8Prefix(text, kLongest));
  for (char& c : quoted) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (quoted.size() < text.size()) quoted += "...";
  return quoted;
}

std::string Digits(double value) {
  std::string digits;
  JsonWriter(digits).Number(value);
  return digits;
}

std::string_view TypeOf(element value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::INT64:
    case element_type::UINT64:
      return "an integer";
    case element_type::DOUBLE:
      return "a number with a fraction or exponent";
    case element_type::STRING:
      return "a string";
    case element_type::BOOL:
      return "a boolean";
    case element_type::NULL_VALUE:
      return "null";
  }
  return "something else";
}

// A limit as it is called in EventLimits.
struct Limit {
  std::string_view name;
  size_t most;
};

constexpr Limit kNoLimit{"", std::numeric_limits<size_t>::max()};

// A member of an object and where it stands; the path is only built for messages.
struct Place {
  std::string_view parent;
  std::string_view key;
  element value;

  std::string Path() const {
    return parent.empty() ? Quoted(key) : std::string(parent) + "." + Quoted(key);
  }
};

enum class Need : uint8_t { kRequired, kOptional };
enum class Unknown : uint8_t { kRefused, kIgnored };

// A member that an object may have, and what reads it: a callable that outlives the Field, as a
// lambda written into the call of Reader::Object does.
class Field {
 public:
  template <class Read>
  Field(std::string_view field_name, Need field_need, const Read& read)
      : name(field_name),
        need(field_need),
        read_(&read),
        call_([](const void* context, const Place& place) {
          (*static_cast<const Read*>(context))(place);
        }) {}

  void Read(const Place& place) const { call_(read_, place); }

  std::string_view name;
  Need need;

 private:
  const void* read_;
  void (*call_)(const void*, const Place&);
};

// Moves JSON values into variables and keeps the first thing that is wrong. After that it reads on
// without effect worth having: the caller looks at error() once, at the end.
class Reader {
 public:
  bool ok() const { return !error_; }
  Error TakeError() { return *std::move(error_); }

  void Fail(Code code, std::string message, std::string remedy) {
    if (!error_) error_ = Error{code, std::move(message), std::move(remedy)};
  }

  void FailAt(const Place& place, std::string_view what, std::string remedy = {}) {
    Fail(Code::kInvalidEvent, place.Path() + ": " + std::string(what), std::move(remedy));
  }

  // Reads each member of `value` by the field of its name.
  void Object(std::string_view path, element value, Unknown unknown,
              std::initializer_list<Field> fields) {
    simdjson::dom::object object;
    if (value.get(object) != simdjson::SUCCESS) {
      return Fail(Code::kInvalidEvent,
                  std::string(path) + ": expected an object, found " + std::string(TypeOf(value)),
                  "");
    }
    uint32_t seen = 0;
    for (const auto member : object) {
      const Place place{path, member.key, member.value};
      const auto* const field = std::find_if(
          fields.begin(), fields.end(), [&](const Field& one) { return one.name == place.key; });
      if (field == fields.end()) {
        if (unknown == Unknown::kIgnored) continue;
        return FailAt(place, "unknown field", "known fields: " + Names(fields));
      }
      const uint32_t bit = uint32_t{1} << (field - fields.begin());
      if ((seen & bit) != 0) return FailAt(place, "given twice");
      seen |= bit;
      field->Read(place);
      if (!ok()) return;
    }
    for (const Field& field : fields) {
      const uint32_t bit = uint32_t{1} << (&field - fields.begin());
      if (field.need == Need::kRequired && (seen & bit) == 0) {
        return FailAt({path, field.name, {}}, "missing");
      }
    }
  }

  void Object(const Place& place, std::initializer_list<Field> fields) {
    if (place.value.type() == element_type::OBJECT) {
      return Object(place.Path(), place.value, Unknown::kRefused, fields);
    }
    FailType(place, "an object");
  }

  // A string of at most `limit`; empty is allowed.
  void Text(const Place& place, Limit limit, std::string& out) {
    const std::string_view text = View(place, limit);
    if (ok()) out.assign(text);
  }

  // The same, and not empty.
  void FullText(const Place& place, Limit limit, std::string& out) {
    Text(place, limit, out);
    if (ok() && out.empty()) FailAt(place, "empty");
  }

  // A name: not empty, no control characters (neither C0, DEL nor C1).
  void Id(const Place& place, Limit limit, std::string& out) {
    FullText(place, limit, out);
    if (ok() && HasControl(out)) {
      FailAt(place, "has a control character", "a name must be printable");
    }
  }

  void Bool(const Place& place, bool& out) {
    if (place.value.get(out) != simdjson::SUCCESS) FailType(place, "a boolean");
  }

  // A number in [low, high]; an integer in JSON will do.
  template <class Out>
  void Number(const Place& place, double low, double high, Out& out) {
    double number = 0;
    if (place.value.get(number) != simdjson::SUCCESS) return FailType(place, "a number");
    if (!(number >= low && number <= high)) {
      return FailAt(place, Digits(number) + " is outside " + Digits(low) + ".." + Digits(high));
    }
    out = number;
  }

  // An integer in [low, high]: 3 is one, 3.0 is not.
  template <class T, class Out>
  void Integer(const Place& place, T low, T high, Out& out) {
    using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    const element_type type = place.value.type();
    if (type != element_type::INT64 && type != element_type::UINT64) {
      return FailType(place, "an integer");
    }
    Wide number = 0;
    if (place.value.get(number) != simdjson::SUCCESS || number < Wide{low} || number > Wide{high}) {
      return FailAt(place, simdjson::minify(place.value) + " is outside " + std::to_string(low) +
                               ".." + std::to_string(high));
    }
    out = static_cast<T>(number);
  }

  std::string_view View(const Place& place, Limit limit) {
    std::string_view text;
    if (place.value.get(text) != simdjson::SUCCESS) {
      FailType(place, "a string");
    } else if (text.size() > limit.most) {
      FailSize(place, text.size(), "bytes", limit);
    }
    return text;
  }

  void FailType(const Place& place, std::string_view wanted) {
    FailAt(place,
           "expected " + std::string(wanted) + ", found " + std::string(TypeOf(place.value)));
  }

  void FailSize(const Place& place, size_t size, std::string_view unit, Limit limit) {
    Fail(Code::kTooLarge,
         place.Path() + ": " + std::to_string(size) + " " + std::string(unit) +
             " are over the limit of " + std::to_string(limit.most),
         "shorten it, or raise the limit " + std::string(limit.name));
  }

  static bool HasControl(std::string_view utf8) {
    for (size_t i = 0; i < utf8.size(); ++i) {
      const auto byte = static_cast<unsigned char>(utf8[i]);
      if (byte < 0x20 || byte == 0x7f) return true;
      // U+0080..U+009F are C2 80..C2 9F.
      if (byte == 0xc2 && i + 1 < utf8.size() && static_cast<unsigned char>(utf8[i + 1]) < 0xa0) {
        return true;
      }
    }
    return false;
  }

 private:
  static std::string Names(std::initializer_list<Field> fields) {
    std::string names;
    for (const Field& field : fields) {
      names += (names.empty() ? "" : ", ") + std::string(field.name);
    }
    return names;
  }

  std::optional<Error> error_;
};

// ---- Bytes to JSON ------------------------------------------------------------------------------

// Walks JSON as far as it is JSON. simdjson, which reads events, does not say where it stopped;
// this does, and picks up the head of an event on its way. Only for input that was refused.
class HeadScan : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeadScan(bool stop_early) : stop_early_(stop_early) {}

  size_t error_position = 0;  // bytes read when it stopped, counted from 1; 0: all is JSON
  std::array<std::optional<std::string>, 4> found;
  static constexpr std::array<std::string_view, 4> kNames{"tenant", "source", "id", "type"};

  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t) override { return Other(); }
  bool number_unsigned(number_unsigned_t) override { return Other(); }
  bool number_float(number_float_t, const string_t&) override { return Other(); }
  bool binary(binary_t&) override { return Other(); }
  bool string(string_t& value) override {
    if (depth_ != 1 || !wanted_) return true;
    if (!found[*wanted_]) found[*wanted_] = std::move(value);
    wanted_.reset();
    return !stop_early_ || !std::all_of(found.begin(), found.end(),
                                        [](const auto& one) { return one.has_value(); });
  }
  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    wanted_.reset();
    if (depth_ != 1) return true;
    const auto* const at = std::find(kNames.begin(), kNames.end(), name);
    if (at != kNames.end()) wanted_ = static_cast<size_t>(at - kNames.begin());
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    error_position = position;
    return false;
  }

 private:
  bool Other() {
    wanted_.reset();
    return true;
  }
  bool Enter() {
    ++depth_;
    return Other();
  }
  bool Leave() {
    --depth_;
    return Other();
  }

  const bool stop_early_;
  size_t depth_ = 0;
  std::optional<size_t> wanted_;
};

Error DescribeBadJson(std::string_view bytes, simdjson::error_code error, size_t depth) {
  switch (error) {
    case simdjson::UTF8_ERROR:
      return {Code::kInvalidUtf8, "not UTF-8 at byte " + std::to_string(FirstInvalidUtf8(bytes)),
              "encode the event in UTF-8"};
    case simdjson::DEPTH_ERROR:
      return {Code::kTooLarge, "JSON is nested deeper than " + std::to_string(depth),
              "flatten it, or raise the limit json_depth"};
    case simdjson::EMPTY:
      return {Code::kInvalidJson, "empty: no JSON", ""};
    case simdjson::MEMALLOC:
      return {Code::kInternal, "out of memory while parsing JSON", ""};
    default:
      break;
  }
  HeadScan scan(false);
  nlohmann::json::sax_parse(bytes, &scan);
  const std::string remedy = "write one CloudEvents 1.0 object as JSON";
  if (scan.error_position == 0) {
    return {Code::kInvalidJson, std::string("not JSON: ") + simdjson::error_message(error), remedy};
  }
  if (scan.error_position > bytes.size()) {
    return {Code::kInvalidJson,
            "not JSON: it ends too early, after " + std::to_string(bytes.size()) + " bytes",
            remedy};
  }
  return {Code::kInvalidJson,
          "not JSON from byte " + std::to_string(scan.error_position - 1) + " on", remedy};
}

// The parsed bytes live until the thread's next call.
Result<element> ParseJson(std::string_view bytes, size_t depth) {
  thread_local simdjson::dom::parser parser;
  // simdjson's limit is the first depth that it refuses.
  const size_t max_depth = std::clamp<size_t>(depth, 3, 1024) + 1;
  if (parser.capacity() < bytes.size() || parser.max_depth() != max_depth) {
    const size_t capacity = std::max<size_t>(std::bit_ceil(bytes.size()), 4096);
    if (parser.allocate(capacity, max_depth) != simdjson::SUCCESS ||
        parser.doc.allocate(capacity) != simdjson::SUCCESS) {
      return Error{Code::kInternal, "out of memory while parsing JSON", ""};
    }
  }
  element root;
  const simdjson::error_code error = parser.parse(bytes.data(), bytes.size()).get(root);
  if (error != simdjson::SUCCESS) return DescribeBadJson(bytes, error, max_depth - 1);
  return root;
}

// ---- Events -------------------------------------------------------------------------------------

// YYYY-MM-DDThh:mm:ss[.f](Z|+hh:mm|-hh:mm), the shape alone (RFC 3339 section 5.6).
bool LooksLikeTime(std::string_view time) {
  const auto matches = [](std::string_view text, std::string_view shape) {
    return text.size() == shape.size() &&
           std::equal(text.begin(), text.end(), shape.begin(), [](char c, char s) {
             return s == '0' ? c >= '0' && c <= '9' : (c == s || (c == s + 32 && s >= 'A'));
           });
  };
  constexpr std::string_view kSeconds = "0000-00-00T00:00:00";
  if (!matches(time.substr(0, kSeconds.size()), kSeconds)) return false;
  time.remove_prefix(kSeconds.size());
  if (time.starts_with('.')) {
    const size_t end = std::min(time.find_first_not_of("0123456789", 1), time.size());
    if (end == 1) return false;
    time.remove_prefix(end);
  }
  return matches(time, "Z") || matches(time, "+00:00") || matches(time, "-00:00");
}

bool IsJsonType(std::string_view content_type) {
  constexpr std::string_view kJson = "application/json";
  const std::string_view media = content_type.substr(0, content_type.find(';'));
  const size_t end = media.find_last_not_of(" \t");
  return end != media.npos &&
         std::equal(kJson.begin(), kJson.end(), media.begin(), media.begin() + end + 1,
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); });
}

bool IsSha256Hex(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

constexpr std::string_view kEventTypes =
    "nudge.document.upsert, nudge.document.delete, nudge.query, nudge.feedback, nudge.example, "
    "nudge.prompt.upsert, nudge.prompt.delete, nudge.adapter, nudge.forget";

class EventReader {
 public:
  explicit EventReader(const EventLimits& limits) : limits_(limits) {}

  Result<Event> Read(element root) {
    Event event;
    std::string type;
    std::optional<element> data;
    ReadAttributes(root, event, type, data);
    if (json_.ok() && (!data || data->is_null())) {
      json_.Fail(Code::kInvalidEvent, "data: missing", "put what the event says into data");
    }
    if (json_.ok()) ReadData(type, *data, event);
    if (!json_.ok()) return json_.TakeError();
    return event;
  }

 private:
  static constexpr Need kRequired = Need::kRequired;
  static constexpr Need kOptional = Need::kOptional;

  Limit IdLimit() const { return {"id_bytes", limits_.id_bytes}; }
  Limit QueryLimit() const { return {"query_bytes", limits_.query_bytes}; }
  Limit AnswerLimit() const { return {"answer_bytes", limits_.answer_bytes}; }

  // CloudEvents' JSON format says that an attribute of null is one that is not set.
  void ReadAttributes(element root, Event& event, std::string& type, std::optional<element>& data) {
    if (root.type() != element_type::OBJECT) {
      return json_.Fail(Code::kInvalidEvent,
                        "expected one JSON object, found " + std::string(TypeOf(root)),
                        "write each event as an object of its own, one a line");
    }
    std::string version;
    const auto id_into = [this](std::string& out) {
      return [this, &out](const Place& place) {
        if (!place.value.is_null()) json_.Id(place, IdLimit(), out);
      };
    };
    json_.Object("", root, Unknown::kIgnored,
                 {{"specversion", kOptional, id_into(version)},
                  {"id", kOptional, id_into(event.id)},
                  {"source", kOptional, id_into(event.source)},
                  {"type", kOptional, id_into(type)},
                  {"time", kOptional,
                   [&](const Place& place) {
                     if (place.value.is_null()) return;
                     json_.Id(place, IdLimit(), event.time);
                     if (json_.ok() && !LooksLikeTime(event.time)) {
                       json_.FailAt(place, "not an RFC 3339 time",
                                    "write it like 2026-01-31T12:00:00Z");
                     }
                   }},
                  {"tenant", kOptional,
                   [&](const Place& place) {
                     if (place.value.is_null()) return;
                     json_.Id(place, {"tenant_bytes", limits_.tenant_bytes}, event.tenant);
                   }},
                  {"user", kOptional, id_into(event.user)},
                  {"datacontenttype", kOptional,
                   [&](const Place& place) {
                     if (place.value.is_null()) return;
                     const std::string_view text = json_.View(place, IdLimit());
                     if (json_.ok() && !IsJsonType(text)) {
                       json_.FailAt(place, Quoted(text) + " is not application/json");
                     }
                   }},
                  {"data", kOptional, [&](const Place& place) { data = place.value; }},
                  {"data_base64", kOptional, [&](const Place& place) {
                     json_.FailAt(place, "binary data", "put the JSON itself into data");
                   }}});
    if (!json_.ok()) return;
    CheckAttributes(event, version, type);
  }

  void CheckAttributes(const Event& event, const std::string& version, const std::string& type) {
    const auto missing = [this](std::string_view name, std::string remedy) {
      json_.Fail(Code::kInvalidEvent, std::string(name) + ": missing", std::move(remedy));
    };
    if (version.empty()) return missing("specversion", "set specversion to \"1.0\"");
    if (version != "1.0") {
      return json_.Fail(Code::kInvalidEvent, "specversion: " + Quoted(version) + " is not 1.0", "");
    }
    if (event.id.empty()) return missing("id", "give each event of a source its own id");
    if (event.source.empty()) return missing("source", "name where the event comes from");
    if (type.empty()) return missing("type", "known types: " + std::string(kEventTypes));
    if (event.tenant.empty()) {
      return missing("tenant", "set the extension attribute tenant to whom the event belongs");
    }
  }

  void ReadData(std::string_view type, element data, Event& event) {
    if (type == "nudge.query") return ReadQuery(data, event.data.emplace<Query>());
    if (type == "nudge.feedback") return ReadFeedback(data, event.data.emplace<Feedback>());
    if (type == "nudge.document.upsert") {
      return ReadDocument(data, event.data.emplace<DocumentUpsert>());
    }
    if (type == "nudge.document.delete") {
      return ReadName(data, "document_id", event.data.emplace<DocumentDelete>().document_id);
    }
    if (type == "nudge.example") return ReadExample(data, event.data.emplace<ExampleGiven>());
    if (type == "nudge.prompt.upsert") return ReadPrompt(data, event.data.emplace<PromptUpsert>());
    if (type == "nudge.prompt.delete") {
      return ReadName(data, "prompt_id", event.data.emplace<PromptDelete>().prompt_id);
    }
    if (type == "nudge.adapter") return ReadAdapter(data, event.data.emplace<AdapterCommand>());
    if (type == "nudge.forget") return ReadForget(data, event.data.emplace<Forget>());
    json_.Fail(Code::kUnknownType, "type: " + Quoted(type) + " is unknown",
               "known types: " + std::string(kEventTypes));
  }

  void Data(element data, std::initializer_list<Field> fields) {
    json_.Object("data", data, Unknown::kRefused, fields);
  }

  void ReadName(element data, std::string_view name, std::string& out) {
    Data(data, {{name, kRequired, [&](const Place& at) { json_.Id(at, IdLimit(), out); }}});
  }

  void ReadDocument(element data, DocumentUpsert& document) {
    Data(data,
         {{"document_id", kRequired,
           [&](const Place& at) { json_.Id(at, IdLimit(), document.document_id); }},
          {"text", kRequired,
           [&](const Place& at) {
             json_.FullText(at, {"text_bytes", limits_.text_bytes}, document.text);
           }},
          {"title", kOptional,
           [&](const Place& at) {
             json_.Text(at, {"title_bytes", limits_.title_bytes}, document.title);
           }},
          {"metadata", kOptional, [&](const Place& at) { ReadMetadata(at, document.metadata); }}});
  }

  void ReadMetadata(const Place& place, std::map<std::string, std::string>& metadata) {
    simdjson::dom::object object;
    if (place.value.get(object) != simdjson::SUCCESS) return json_.FailType(place, "an object");
    size_t bytes = 0;
    for (const auto member : object) {
      const Place at{"data.metadata", member.key, member.value};
      const std::string_view value = json_.View(at, kNoLimit);
      if (!json_.ok()) return;
      if (at.key.empty()) return json_.FailAt(at, "empty name");
      if (Reader::HasControl(at.key)) return json_.FailAt(at, "name has a control character");
      if (!metadata.emplace(at.key, value).second) return json_.FailAt(at, "given twice");
      bytes += at.key.size() + value.size();
      const Limit entries{"metadata_entries", limits_.metadata_entries};
      if (metadata.size() > entries.most) {
        return json_.FailSize(place, object.size(), "entries", entries);
      }
      const Limit size{"metadata_bytes", limits_.metadata_bytes};
      if (bytes > size.most) return json_.FailSize(place, bytes, "bytes or more", size);
    }
  }

  void ReadQuery(element data, Query& query) {
    QueryOptions& options = query.options;
    Data(data, {{"text", kRequired,
                 [&](const Place& at) { json_.FullText(at, QueryLimit(), query.text); }},
                {"options", kOptional, [&](const Place& at) {
                   json_.Object(
                       at, {{"max_tokens", kOptional,
                             [&](const Place& in) {
                               json_.Integer<uint32_t>(in, 1, 4096, options.max_tokens);
                             }},
                            {"temperature", kOptional,
                             [&](const Place& in) { json_.Number(in, 0, 2, options.temperature); }},
                            {"seed", kOptional,
                             [&](const Place& in) {
                               json_.Integer<uint64_t>(in, 0, std::numeric_limits<uint64_t>::max(),
                                                       options.seed);
                             }},
                            {"prompt_id", kOptional, [&](const Place& in) {
                               json_.Id(in, IdLimit(), options.prompt_id.emplace());
                             }}});
                 }}});
  }

  void ReadFeedback(element data, Feedback& feedback) {
    bool has_signals = false;
    Data(data, {{"query_id", kOptional,
                 [&](const Place& at) { json_.Id(at, IdLimit(), feedback.query_id); }},
                {"query_source", kOptional,
                 [&](const Place& at) { json_.Id(at, IdLimit(), feedback.query_source); }},
                {"inline", kOptional,
                 [&](const Place& at) { ReadInline(at, feedback.inline_answer.emplace()); }},
                {"rating", kOptional, [&](const Place& at) { ReadRating(at, feedback.rating); }},
                {"correction", kOptional,
                 [&](const Place& at) {
                   json_.FullText(at, AnswerLimit(), feedback.correction.emplace());
                 }},
                {"signals", kOptional, [&](const Place& at) {
                   has_signals = true;
                   ReadSignals(at, feedback.behaviour);
                 }}});
    if (!json_.ok()) return;
    const auto refuse = [this](std::string_view message, std::string_view remedy) {
      json_.Fail(Code::kInvalidEvent, std::string(message), std::string(remedy));
    };
    if (feedback.query_id.empty() == !feedback.inline_answer) {
      return refuse("data: exactly one of query_id and inline is needed",
                    "name the query by query_id, or give {query, completion} as inline");
    }
    if (feedback.inline_answer && !feedback.query_source.empty()) {
      return refuse("data.query_source: an inline answer has no query to look up", "drop it");
    }
    if (!feedback.rating && !feedback.correction && !has_signals) {
      return refuse("data: none of rating, correction and signals is given", "give one of them");
    }
  }

  void ReadInline(const Place& place, Feedback::Inline& answer) {
    json_.Object(place, {{"query", kRequired,
                          [&](const Place& at) { json_.FullText(at, QueryLimit(), answer.query); }},
                         {"completion", kRequired, [&](const Place& at) {
                            json_.FullText(at, AnswerLimit(), answer.completion);
                          }}});
  }

  void ReadRating(const Place& place, std::optional<double>& rating) {
    if (place.value.type() != element_type::STRING) {
      return json_.Number(place, -1, 1, rating);
    }
    const std::string_view word = json_.View(place, kNoLimit);
    if (word == "up") {
      rating = 1;
    } else if (word == "down") {
      rating = -1;
    } else {
      json_.FailAt(place, "\"" + Quoted(word) + "\" is neither \"up\" nor \"down\"",
                   "or give a number in -1..1");
    }
  }

  void ReadSignals(const Place& place, Behaviour& behaviour) {
    json_.Object(
        place, {{"clicked", kOptional, [&](const Place& at) { json_.Bool(at, behaviour.clicked); }},
                {"copied", kOptional, [&](const Place& at) { json_.Bool(at, behaviour.copied); }},
                {"regenerated", kOptional,
                 [&](const Place& at) { json_.Bool(at, behaviour.regenerated); }},
                {"dwell_ms", kOptional, [&](const Place& at) {
                   json_.Integer<uint32_t>(at, 0, std::numeric_limits<uint32_t>::max(),
                                           behaviour.dwell_ms);
                 }}});
    simdjson::dom::object given;
    if (json_.ok() && place.value.get(given) == simdjson::SUCCESS && given.size() == 0) {
      json_.FailAt(place, "empty", "give at least one signal");
    }
  }

  void ReadExample(element data, ExampleGiven& example) {
    Data(data, {{"query", kRequired,
                 [&](const Place& at) { json_.FullText(at, QueryLimit(), example.query); }},
                {"answer", kRequired,
                 [&](const Place& at) { json_.FullText(at, AnswerLimit(), example.answer); }}});
  }

  void ReadPrompt(element data, PromptUpsert& prompt) {
    Data(data, {{"prompt_id", kRequired,
                 [&](const Place& at) { json_.Id(at, IdLimit(), prompt.prompt_id); }},
                {"system", kRequired,
                 [&](const Place& at) {
                   json_.Text(at, {"prompt_bytes", limits_.prompt_bytes}, prompt.system);
                 }},
                {"decoding", kOptional,
                 [&](const Place& at) { ReadDecoding(at, prompt.decoding.emplace()); }}});
  }

  void ReadDecoding(const Place& place, Decoding& decoding) {
    constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
    json_.Object(place,
                 {{"temperature", kOptional,
                   [&](const Place& at) { json_.Number(at, 0, 2, decoding.temperature); }},
                  {"top_p", kOptional,
                   [&](const Place& at) {
                     json_.Number(at, 0, 1, decoding.top_p);
                     if (json_.ok() && decoding.top_p <= 0)
                       json_.FailAt(at, "0 leaves no token to draw");
                   }},
                  {"top_k", kOptional,
                   [&](const Place& at) { json_.Integer<uint32_t>(at, 0, kMost, decoding.top_k); }},
                  {"max_tokens", kOptional, [&](const Place& at) {
                     json_.Integer<uint32_t>(at, 1, 4096, decoding.max_tokens);
                   }}});
  }

  void ReadAdapter(element data, AdapterCommand& command) {
    std::string action;
    Data(data, {{"action", kRequired, [&](const Place& at) { json_.Id(at, IdLimit(), action); }},
                {"version", kOptional,
                 [&](const Place& at) {
                   json_.Integer<uint32_t>(at, 0, std::numeric_limits<uint32_t>::max(),
                                           command.version);
                 }},
                {"uri", kOptional,
                 [&](const Place& at) {
                   json_.Id(at, {"uri_bytes", limits_.uri_bytes}, command.uri);
                 }},
                {"sha256", kOptional, [&](const Place& at) {
                   json_.Id(at, IdLimit(), command.sha256);
                   if (json_.ok() && !IsSha256Hex(command.sha256)) {
                     json_.FailAt(at, "expected 64 lower-case hex digits");
                   }
                 }}});
    if (json_.ok()) CheckAdapter(action, command);
  }

  void CheckAdapter(const std::string& action, AdapterCommand& command) {
    const auto refuse = [this](std::string message, std::string remedy) {
      json_.Fail(Code::kInvalidEvent, std::move(message), std::move(remedy));
    };
    using Action = AdapterCommand::Action;
    if (action == "rollback") {
      command.action = Action::kRollback;
    } else if (action == "reset") {
      command.action = Action::kReset;
    } else if (action == "freeze") {
      command.action = Action::kFreeze;
    } else if (action == "unfreeze") {
      command.action = Action::kUnfreeze;
    } else if (action == "import") {
      command.action = Action::kImport;
    } else {
      return refuse("data.action: \"" + Quoted(action) + "\" is unknown",
                    "known actions: rollback, reset, freeze, unfreeze, import");
    }
    if (command.version && command.action != Action::kRollback) {
      return refuse("data.version: " + action + " takes no version", "only rollback does");
    }
    if (command.action != Action::kImport) {
      if (!command.uri.empty()) return refuse("data.uri: " + action + " takes no uri", "");
      if (!command.sha256.empty()) return refuse("data.sha256: " + action + " takes no sha256", "");
    } else if (command.uri.empty()) {
      refuse("data.uri: missing", "name the adapter's file");
    } else if (command.sha256.empty()) {
      refuse("data.sha256: missing", "give the SHA-256 of the adapter's file");
    }
  }

  void ReadForget(element data, Forget& forget) {
    Data(data, {{"user", kOptional, [&](const Place& at) { json_.Id(at, IdLimit(), forget.user); }},
                {"document_id", kOptional,
                 [&](const Place& at) { json_.Id(at, IdLimit(), forget.document_id); }}});
    if (json_.ok() && forget.user.empty() == forget.document_id.empty()) {
      json_.Fail(Code::kInvalidEvent, "data: exactly one of user and document_id is needed", "");
    }
  }

  const EventLimits& limits_;
  Reader json_;
};

// ---- Writing ------------------------------------------------------------------------------------

void WriteDecoding(const Decoding& decoding, JsonWriter& json) {
  json.Raw(R"("temperature":)").Number(decoding.temperature);
  json.Raw(R"(,"top_p":)").Number(decoding.top_p);
  json.Raw(R"(,"top_k":)").Integer(decoding.top_k);
  json.Raw(R"(,"max_tokens":)").Integer(decoding.max_tokens);
}

// Commas between members of which any may be absent.
class Members {
 public:
  explicit Members(JsonWriter& json) : json_(json) {}

  // Writes `"name":` and hands the writer over for the value.
  JsonWriter& operator()(std::string_view name) {
    json_.Raw(first_ ? "\"" : ",\"").Raw(name).Raw("\":");
    first_ = false;
    return json_;
  }

 private:
  JsonWriter& json_;
  bool first_ = true;
};

struct DataWriter {
  JsonWriter& json;

  void operator()(const DocumentUpsert& document) const {
    json.Raw(R"("document_id":)").Text(document.document_id);
    json.Raw(R"(,"text":)").Text(document.text);
    if (!document.title.empty()) json.Raw(R"(,"title":)").Text(document.title);
    if (document.metadata.empty()) return;
    json.Raw(R"(,"metadata":)");
    char separator = '{';
    for (const auto& [name, value] : document.metadata) {
      json.Raw({&separator, 1}).Text(name).Raw(":").Text(value);
      separator = ',';
    }
    json.Raw("}");
  }

  void operator()(const DocumentDelete& document) const {
    json.Raw(R"("document_id":)").Text(document.document_id);
  }

  void operator()(const Query& query) const {
    json.Raw(R"("text":)").Text(query.text);
    const QueryOptions& options = query.options;
    if (!options.max_tokens && !options.temperature && !options.seed && !options.prompt_id) return;
    json.Raw(R"(,"options":{)");
    Members member(json);
    if (options.max_tokens) member("max_tokens").Integer(*options.max_tokens);
    if (options.temperature) member("temperature").Number(*options.temperature);
    if (options.seed) member("seed").Integer(*options.seed);
    if (options.prompt_id) member("prompt_id").Text(*options.prompt_id);
    json.Raw("}");
  }

  void operator()(const Feedback& feedback) const {
    Members member(json);
    if (!feedback.query_id.empty()) member("query_id").Text(feedback.query_id);
    if (!feedback.query_source.empty()) member("query_source").Text(feedback.query_source);
    if (feedback.inline_answer) {
      member("inline").Raw(R"({"query":)").Text(feedback.inline_answer->query);
      json.Raw(R"(,"completion":)").Text(feedback.inline_answer->completion).Raw("}");
    }
    if (feedback.rating) member("rating").Number(*feedback.rating);
    if (feedback.correction) member("correction").Text(*feedback.correction);
    const Behaviour& seen = feedback.behaviour;
    const bool any = seen.clicked || seen.copied || seen.regenerated || seen.dwell_ms;
    if (!any && (feedback.rating || feedback.correction)) return;
    member("signals").Raw(R"({"clicked":)").Bool(seen.clicked);
    json.Raw(R"(,"copied":)").Bool(seen.copied);
    json.Raw(R"(,"regenerated":)").Bool(seen.regenerated);
    if (seen.dwell_ms) json.Raw(R"(,"dwell_ms":)").Integer(*seen.dwell_ms);
    json.Raw("}");
  }

  void operator()(const ExampleGiven& example) const {
    json.Raw(R"("query":)").Text(example.query).Raw(R"(,"answer":)").Text(example.answer);
  }

  void operator()(const PromptUpsert& prompt) const {
    json.Raw(R"("prompt_id":)").Text(prompt.prompt_id);
    json.Raw(R"(,"system":)").Text(prompt.system);
    if (!prompt.decoding) return;
    json.Raw(R"(,"decoding":{)");
    WriteDecoding(*prompt.decoding, json);
    json.Raw("}");
  }

  void operator()(const PromptDelete& prompt) const {
    json.Raw(R"("prompt_id":)").Text(prompt.prompt_id);
  }

  void operator()(const AdapterCommand& command) const {
    static constexpr std::string_view kActions[] = {"rollback", "reset", "freeze", "unfreeze",
                                                    "import"};
    json.Raw(R"("action":)").Text(kActions[static_cast<size_t>(command.action)]);
    if (command.version) json.Raw(R"(,"version":)").Integer(*command.version);
    if (!command.uri.empty()) json.Raw(R"(,"uri":)").Text(command.uri);
    if (!command.sha256.empty()) json.Raw(R"(,"sha256":)").Text(command.sha256);
  }

  void operator()(const Forget& forget) const {
    Members member(json);
    if (!forget.user.empty()) member("user").Text(forget.user);
    if (!forget.document_id.empty()) member("document_id").Text(forget.document_id);
  }
};

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

class OutcomeReader {
 public:
  Result<RecordedOutcome> Read(element root) {
    if (root.type() != element_type::OBJECT) {
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
      if (at.value.is_null()) {
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

  void ReadAttributes(element root, RecordedOutcome& recorded) {
    std::string offset;
    json_.Object("", root, Unknown::kRefused,
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

  template <class ReadOne>
  void Array(const Place& place, const ReadOne& read_one) {
    simdjson::dom::array array;
    if (place.value.get(array) != simdjson::SUCCESS) return json_.FailType(place, "an array");
    const std::string path = place.Path();
    size_t i = 0;
    for (const element one : array) {
      const std::string index = std::to_string(i++);
      read_one(Place{path, index, one});
      if (!json_.ok()) return;
    }
  }

  auto Snapshots(std::vector<SnapshotRef>& snapshots) {
    return [this, &snapshots](const Place& place) {
      Array(place, [&](const Place& at) {
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

  void ReadResponse(Outcome& outcome, Response& response) {
    Decoding& decoding = response.decoding;
    json_.Object(
        "data", data_, Unknown::kRefused,
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
         {"snapshots", kOptional, Snapshots(outcome.snapshots)}});
  }

  void ReadCitations(const Place& place, std::vector<Citation>& citations) {
    Array(place, [&](const Place& at) {
      Citation& citation = citations.emplace_back();
      json_.Object(at, {{"document_id", kRequired, Text(citation.document_id)},
                        {"version", kRequired, Integer(citation.version)},
                        {"score", kRequired, Number(citation.score)}});
    });
  }

  void ReadApplied(Outcome& outcome, Applied& applied) {
    json_.Object("data", data_, Unknown::kRefused,
                 {{"event", kRequired, EventOf(outcome)},
                  {"summary", kRequired, Text(applied.summary)},
                  {"step", kOptional, Integer(applied.step)},
                  {"makes_version", kOptional, Integer(applied.makes_version)},
                  {"snapshots", kOptional, Snapshots(outcome.snapshots)}});
  }

  void ReadDeadLetter(Outcome& outcome, DeadLetter& letter) {
    bool has_bytes = false;
    std::string base64;
    json_.Object("data", data_, Unknown::kRefused,
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
                  {"snapshots", kOptional, Snapshots(outcome.snapshots)}});
    if (!json_.ok()) return;
    if (has_bytes != base64.empty()) {
      return json_.Fail(Code::kInvalidEvent, "data: not exactly one of bytes and bytes_base64", "");
    }
    if (has_bytes) return;
    std::optional<std::string> bytes = FromBase64(base64);
    if (!bytes) return json_.Fail(Code::kInvalidEvent, "data.bytes_base64: not base64", "");
    letter.bytes = std::move(*bytes);
  }

  void ReadCode(const Place& place, Code& code) {
    const std::string_view name = json_.View(place, kNoLimit);
    for (auto i = 0; i <= static_cast<int>(Code::kInternal); ++i) {
      code = static_cast<Code>(i);
      if (Name(code) == name) return;
    }
    json_.FailAt(place, Quoted(name) + " is unknown");
  }

  Reader json_;
  std::string id_;
  std::string type_;
  std::string subject_;
  element data_;
};

}  // namespace

// ---- The public functions -----------------------------------------------------------------------

Result<Event> DecodeEvent(std::string_view bytes, const EventLimits& limits) {
  if (bytes.size() > limits.line_bytes) {
    return Error{Code::kTooLarge,
                 "event: " + std::to_string(bytes.size()) + " bytes are over the limit of " +
                     std::to_string(limits.line_bytes),
                 "shorten it, or raise the limit line_bytes"};
  }
  const Result<element> root = ParseJson(bytes, limits.json_depth);
  if (!root) return root.error();
  return EventReader(limits).Read(*root);
}

std::string EncodeEvent(const Event& event) {
  std::string out;
  JsonWriter json(out);
  json.Raw(R"({"specversion":"1.0","id":)").Text(event.id);
  json.Raw(R"(,"source":)").Text(event.source);
  json.Raw(R"(,"type":)").Text(TypeName(event));
  if (!event.time.empty()) json.Raw(R"(,"time":)").Text(event.time);
  json.Raw(R"(,"tenant":)").Text(event.tenant);
  if (!event.user.empty()) json.Raw(R"(,"user":)").Text(event.user);
  json.Raw(R"(,"datacontenttype":"application/json","data":{)");
  std::visit(DataWriter{json}, event.data);
  json.Raw("}}");
  return out;
}

EventHead PeekHead(std::string_view bytes, const EventLimits& limits) {
  HeadScan scan(true);
  if (IsUtf8(bytes)) {
    nlohmann::json::sax_parse(bytes, &scan);
  } else {
    // DEL, so that a field with bad bytes in it has a control character and is left out.
    nlohmann::json::sax_parse(ReplaceInvalidUtf8(bytes, "\x7f"), &scan);
  }
  EventHead head;
  std::string* const fields[] = {&head.tenant, &head.source, &head.id, &head.type};
  for (size_t i = 0; i < scan.found.size(); ++i) {
    if (!scan.found[i] || Reader::HasControl(*scan.found[i])) continue;
    if (scan.found[i]->size() > (i == 0 ? limits.tenant_bytes : limits.id_bytes)) continue;
    *fields[i] = *std::move(scan.found[i]);
  }
  return head;
}

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

ChainedLine SplitChain(std::string_view line) {
  constexpr size_t kHexSize = 64;
  const size_t size = kChainOpens.size() + kHexSize + kChainCloses.size();
  if (line.size() <= size || !line.ends_with(kChainCloses)) return {std::string(line), ""};
  const std::string_view end = line.substr(line.size() - size);
  const std::string_view chain = end.substr(kChainOpens.size(), kHexSize);
  if (!end.starts_with(kChainOpens) || !IsSha256Hex(chain)) return {std::string(line), ""};
  return {std::string(line.substr(0, line.size() - size)) + "}", std::string(chain)};
}

Result<RecordedOutcome> DecodeOutcome(std::string_view line) {
  const auto refuse = [](const std::string& why) {
    return Error{Code::kUnreadableFile, "not an outcome of nudge: " + why,
                 "the outcome log was changed or damaged; restore it from a copy"};
  };
  if (line.size() > kOutcomeLineBytes) return refuse("line too long");
  constexpr size_t kDepth = 16;
  const Result<element> root = ParseJson(line, kDepth);
  if (!root) return refuse(root.error().message);
  Result<RecordedOutcome> recorded = OutcomeReader().Read(*root);
  if (!recorded) return refuse(recorded.error().message);
  return recorded;
}

}  // namespace nudge
