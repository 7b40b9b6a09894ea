// labels: unit
#include "stages/filter.h"

#include <boost/test/unit_test.hpp>
#include <limits>
#include <set>
#include <string>
#include <vector>

using namespace nudge;

namespace {

using Kind = Filter::Kind;

Filter Compare(Kind kind, const std::string& field, std::vector<FilterValue> values) {
  return {kind, field, std::move(values), {}};
}
Filter Joined(Kind kind, std::vector<Filter> parts) {
  return {kind, "", {}, std::move(parts)};
}

const Metadata kTent = {{"product", "tent"},
                        {"price", 120.0},
                        {"stock", true},
                        {"tags", std::vector<std::string>{"camp", "rain"}},
                        {"made", "2024-02-29T12:00:00+01:00"},
                        {"code", "7"}};

bool Of(Kind kind, const std::string& field, const FilterValue& value) {
  return Matches(Compare(kind, field, {value}), kTent);
}

}  // namespace

BOOST_AUTO_TEST_CASE(equality_is_of_one_type_and_of_any_item_of_a_list) {
  BOOST_TEST(Of(Kind::kEqual, "product", "tent"));
  BOOST_TEST(!Of(Kind::kEqual, "product", "Tent"));
  BOOST_TEST(Of(Kind::kEqual, "price", 120.0));
  BOOST_TEST(!Of(Kind::kEqual, "price", "120"));
  BOOST_TEST(!Of(Kind::kEqual, "code", 7.0));
  BOOST_TEST(Of(Kind::kEqual, "stock", true));
  BOOST_TEST(!Of(Kind::kEqual, "stock", 1.0));
  BOOST_TEST(Of(Kind::kEqual, "tags", "rain"));
  BOOST_TEST(!Of(Kind::kEqual, "tags", "snow"));
  BOOST_TEST(Matches(Compare(Kind::kIn, "product", {"boat", 1.0, "tent"}), kTent));
  BOOST_TEST(Matches(Compare(Kind::kIn, "tags", {"snow", "camp"}), kTent));
  BOOST_TEST(!Matches(Compare(Kind::kIn, "product", {"boat", "pier"}), kTent));
}

BOOST_AUTO_TEST_CASE(a_condition_on_a_field_that_a_document_lacks_does_not_hold) {
  for (const Kind kind : {Kind::kEqual, Kind::kIn, Kind::kGreater, Kind::kGreaterOrEqual,
                          Kind::kLess, Kind::kLessOrEqual}) {
    BOOST_TEST(!Of(kind, "weight", 3.0));
    BOOST_TEST(!Of(kind, "weight", "2024-01-01"));
    BOOST_TEST(Matches(Joined(Kind::kNot, {Compare(kind, "weight", {3.0})}), kTent));
  }
}

BOOST_AUTO_TEST_CASE(ranges_compare_numbers_and_times) {
  BOOST_TEST(Of(Kind::kGreater, "price", 119.5));
  BOOST_TEST(!Of(Kind::kGreater, "price", 120.0));
  BOOST_TEST(Of(Kind::kGreaterOrEqual, "price", 120.0));
  BOOST_TEST(Of(Kind::kLessOrEqual, "price", 120.0));
  BOOST_TEST(!Of(Kind::kLess, "price", 120.0));
  BOOST_TEST(Of(Kind::kLess, "price", 1e9));
  BOOST_TEST(Of(Kind::kGreaterOrEqual, "made", "2024-02-29T11:00:00Z"));
  BOOST_TEST(Of(Kind::kLessOrEqual, "made", "2024-02-29T11:00:00Z"));
  BOOST_TEST(!Of(Kind::kLess, "made", "2024-02-29T11:00:00Z"));
  BOOST_TEST(Of(Kind::kGreater, "made", "2024-02-29"));
  BOOST_TEST(!Of(Kind::kGreater, "product", "2024-02-29"));
  BOOST_TEST(!Of(Kind::kGreater, "price", "2024-02-29"));
  BOOST_TEST(!Of(Kind::kGreater, "code", 1.0));
  BOOST_TEST(!Of(Kind::kGreater, "tags", "2024-02-29"));
}

BOOST_AUTO_TEST_CASE(conditions_are_joined_by_and_or_and_not) {
  const Filter yes = Compare(Kind::kEqual, "product", {"tent"});
  const Filter no = Compare(Kind::kEqual, "product", {"boat"});
  BOOST_TEST(Matches(Joined(Kind::kAnd, {yes, yes}), kTent));
  BOOST_TEST(!Matches(Joined(Kind::kAnd, {yes, no}), kTent));
  BOOST_TEST(Matches(Joined(Kind::kOr, {no, yes}), kTent));
  BOOST_TEST(!Matches(Joined(Kind::kOr, {no, no}), kTent));
  BOOST_TEST(!Matches(Joined(Kind::kNot, {yes}), kTent));
  BOOST_TEST(Matches(Joined(Kind::kNot, {Joined(Kind::kAnd, {yes, no})}), kTent));
}

BOOST_AUTO_TEST_CASE(times_are_those_of_rfc_3339) {
  BOOST_TEST((InstantOf("1970-01-01T00:00:00Z") == Instant{0, 0}));
  BOOST_TEST((InstantOf("1970-01-02") == Instant{86400, 0}));
  BOOST_TEST((InstantOf("1969-12-31t23:59:59.5z") == Instant{-1, 500'000'000}));
  BOOST_TEST((InstantOf("1970-01-01T01:30:00+01:30") == Instant{0, 0}));
  BOOST_TEST((InstantOf("1969-12-31T19:00:00-05:00") == Instant{0, 0}));
  BOOST_TEST((InstantOf("1970-01-01T00:00:00.1234567899Z") == Instant{0, 123'456'789}));
  BOOST_TEST((InstantOf("2016-12-31T23:59:60Z") == InstantOf("2017-01-01")));
  for (const char* text :
       {"", "1970", "1970-1-1", "1970-13-01", "2023-02-29", "1970-01-01T", "1970-01-01T00:00:00",
        "1970-01-01T24:00:00Z", "1970-01-01T00:60:00Z", "1970-01-01T00:00:61Z",
        "1970-01-01T00:00:00.Z", "1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00Zx",
        " 1970-01-01", "1970-01-01 ", "197O-01-01", "-970-01-01", "1970-01-01 00:00:00Z"}) {
    BOOST_TEST(!InstantOf(text).has_value(), text);
  }
}

BOOST_AUTO_TEST_CASE(different_filters_have_different_bytes) {
  const Filter one = Compare(Kind::kEqual, "a", {"b"});
  const std::vector<Filter> filters = {one,
                                       Compare(Kind::kIn, "a", {"b"}),
                                       Compare(Kind::kEqual, "ab", {""}),
                                       Compare(Kind::kEqual, "a", {true}),
                                       Compare(Kind::kEqual, "a", {1.0}),
                                       Compare(Kind::kIn, "a", {"b", "b"}),
                                       Joined(Kind::kAnd, {one}),
                                       Joined(Kind::kOr, {one}),
                                       Joined(Kind::kAnd, {one, one}),
                                       Joined(Kind::kNot, {Joined(Kind::kAnd, {one})})};
  std::set<std::string> bytes;
  for (const Filter& filter : filters) {
    ByteWriter writer;
    WriteFilter(filter, writer);
    bytes.insert(writer.Take());
  }
  BOOST_TEST(bytes.size() == filters.size());
}
