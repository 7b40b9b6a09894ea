// labels: unit
// What an event says of documents' metadata, of groups and of filters: read, written, refused.
#include "connectors/rights_reader.h"

#include <boost/test/unit_test.hpp>
#include <string>

#include "connectors/codec.h"
#include "stages/content.h"

using namespace nudge;

namespace {

std::string Line(const std::string& type, const std::string& data) {
  return R"({"specversion":"1.0","id":"i","source":"s","type":"nudge.)" + type +
         R"(","tenant":"t","data":)" + data + "}";
}
std::string Document(const std::string& more) {
  return Line("document.upsert", R"({"document_id":"d","text":"t",)" + more + "}");
}
std::string Ask(const std::string& more) {
  return Line("query", R"({"text":"q",)" + more + "}");
}

void Refuses(const std::string& line, Code code, const std::string& message,
             const EventLimits& limits = {}) {
  const Result<Event> event = DecodeEvent(line, limits);
  BOOST_REQUIRE_MESSAGE(!event.ok(), line);
  BOOST_TEST((event.error().code == code), event.error().message);
  BOOST_TEST(event.error().message.starts_with(message), event.error().message);
  BOOST_TEST(!event.error().remedy.empty(), event.error().message);
}

void RefusesFilter(const std::string& filter, const std::string& message) {
  Refuses(Ask(R"("filter":)" + filter), Code::kInvalidEvent, message);
}

// A filter that is `depth` conditions deep.
std::string Deep(size_t depth) {
  std::string filter = R"({"field":"a","eq":1})";
  for (size_t i = 1; i < depth; ++i) filter = R"({"not":)" + filter + "}";
  return filter;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_written_is_read_again) {
  for (const std::string& line :
       {Document(R"("metadata":{"a":"x","b":-2.5,"c":false,"d":["y","x","y"],"e":[]})"),
        Document(R"("access":[])"), Document(R"("access":["b","a","b"])"),
        Ask(R"("groups":["sales","board"])"),
        Ask(R"("filter":{"and":[{"field":"lang","eq":"en"},{"or":[{"field":"n","gt":1},)"
            R"({"field":"n","lte":-3.5}]},{"not":{"field":"tags","in":["a",2,true]}},)"
            R"({"field":"made","gte":"2024-01-01"},{"field":"n","lt":9}]})")}) {
    const Result<Event> event = DecodeEvent(line);
    BOOST_REQUIRE_MESSAGE(event.ok(), line + (event.ok() ? "" : ": " + event.error().message));
    const std::string written = EncodeEvent(*event);
    const Result<Event> again = DecodeEvent(written);
    BOOST_REQUIRE_MESSAGE(again.ok(), written);
    BOOST_TEST(ContentOf(*again) == ContentOf(*event), written);
    BOOST_TEST(EncodeEvent(*again) == written);
  }
}

BOOST_AUTO_TEST_CASE(no_access_list_and_an_empty_one_are_two_things) {
  const auto access = [](const std::string& more) {
    return std::get<DocumentUpsert>(DecodeEvent(Document(more))->data).access;
  };
  BOOST_TEST(!access(R"("title":"x")").has_value());
  BOOST_TEST(!access(R"("access":null)").has_value());
  BOOST_TEST((access(R"("access":[])") == Groups{}));
  BOOST_TEST((access(R"("access":["a",7,"a"])") == Groups{"7", "a"}));
}

BOOST_AUTO_TEST_CASE(rights_are_part_of_an_events_content) {
  const auto content = [](const std::string& line) { return ContentOf(*DecodeEvent(line)); };
  std::set<uint64_t> contents;
  const std::vector<std::string> lines = {Document(R"("metadata":{"a":"1"})"),
                                          Document(R"("metadata":{"a":1})"),
                                          Document(R"("metadata":{"a":true})"),
                                          Document(R"("metadata":{"a":["1"]})"),
                                          Document(R"("metadata":{})"),
                                          Document(R"("access":[])"),
                                          Document(R"("access":["a"])"),
                                          Ask(R"("groups":[])"),
                                          Ask(R"("groups":["a"])"),
                                          Ask(R"("filter":{"field":"a","eq":1})"),
                                          Ask(R"("filter":{"field":"a","gte":1})")};
  for (const std::string& line : lines) contents.insert(content(line));
  BOOST_TEST(contents.size() == lines.size());
  BOOST_TEST(content(Ask(R"("groups":["a","b"])")) == content(Ask(R"("groups":["b","a","b"])")));
}

BOOST_AUTO_TEST_CASE(groups_that_are_no_names_are_refused) {
  Refuses(Ask(R"("groups":"a")"), Code::kInvalidEvent, "data.groups: expected an array");
  Refuses(Ask(R"("groups":[""])"), Code::kInvalidEvent, "data.groups.0: empty");
  Refuses(Ask(R"("groups":["a","b\u0001"])"), Code::kInvalidEvent,
          "data.groups.1: has a control character");
  Refuses(Document(R"("access":[true])"), Code::kInvalidEvent, "data.access.0: expected a string");
  EventLimits limits;
  limits.groups = 2;
  BOOST_TEST(DecodeEvent(Ask(R"("groups":["a","b","a"])"), limits).ok());
  Refuses(Ask(R"("groups":["a","b","c"])"), Code::kTooLarge,
          "data.groups: 3 groups or more are over the limit of 2", limits);
  Refuses(Document(R"("access":["a","b","c"])"), Code::kTooLarge, "data.access: 3 groups", limits);
}

BOOST_AUTO_TEST_CASE(filters_of_another_shape_are_refused_by_their_place) {
  RefusesFilter("[]", "data.filter: expected an object");
  RefusesFilter("{}", "data.filter: no condition");
  RefusesFilter(R"({"field":"a"})", "data.filter: no condition");
  RefusesFilter(R"({"eq":1})", "data.filter: field: missing");
  RefusesFilter(R"({"field":"a","and":[]})", "data.filter: field: it goes with a comparison");
  RefusesFilter(R"({"field":"a","gt":1,"lt":2})", "data.filter.lt: one condition more than gt");
  RefusesFilter(R"({"field":"a","ne":1})", "data.filter.ne: unknown");
  RefusesFilter(R"({"and":[]})", "data.filter.and: empty");
  RefusesFilter(R"({"and":{"field":"a","eq":1}})", "data.filter.and: expected an array");
  RefusesFilter(R"({"or":[{"field":"a","eq":1},{"field":"","eq":1}]})",
                "data.filter.or.1.field: empty");
  RefusesFilter(R"({"field":"a","in":[]})", "data.filter.in: empty");
  RefusesFilter(R"({"field":"a","in":1})", "data.filter.in: expected an array");
  RefusesFilter(R"({"field":"a","eq":["b"]})", "data.filter.eq: expected a text, a number");
  RefusesFilter(R"({"field":"a","eq":null})", "data.filter.eq: expected a string, found null");
  RefusesFilter(R"({"field":"a","gt":"soon"})", "data.filter.gt: soon is neither a number nor");
  RefusesFilter(R"({"field":"a","gt":true})", "data.filter.gt: a boolean is in no range");
  RefusesFilter(R"({"field":"a","eq":1e300})", "data.filter.eq: a number of 2^53");
}

BOOST_AUTO_TEST_CASE(filters_too_deep_or_too_large_are_refused) {
  BOOST_TEST(DecodeEvent(Ask(R"("filter":)" + Deep(6))).ok());
  Refuses(Ask(R"("filter":)" + Deep(7)), Code::kTooLarge,
          "data.filter: 7 conditions inside each other or more are over the limit of 6");
  std::string values = "1";
  for (int i = 0; i < 254; ++i) values += ",1";
  BOOST_TEST(DecodeEvent(Ask(R"("filter":{"field":"a","in":[)" + values + "]}")).ok());
  Refuses(Ask(R"("filter":{"field":"a","in":[1,)" + values + "]}"), Code::kTooLarge,
          "data.filter: 257 fields, values and conditions or more are over the limit of 256");
  EventLimits limits;
  limits.filter_bytes = 4;
  BOOST_TEST(DecodeEvent(Ask(R"("filter":{"field":"a","eq":"123"})"), limits).ok());
  Refuses(Ask(R"("filter":{"field":"a","eq":"1234"})"), Code::kTooLarge,
          "data.filter: 5 bytes or more are over the limit of 4", limits);
}

BOOST_AUTO_TEST_CASE(items_of_lists_count_as_entries_of_metadata) {
  EventLimits limits;
  limits.metadata_entries = 3;
  BOOST_TEST(DecodeEvent(Document(R"("metadata":{"a":["b","c"]})"), limits).ok());
  Refuses(Document(R"("metadata":{"a":["b","c","d"]})"), Code::kTooLarge,
          "data.metadata: 4 entries or more are over the limit of 3", limits);
}
