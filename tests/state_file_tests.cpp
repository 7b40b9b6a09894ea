// labels: unit
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>

#include "pipeline/state_file.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

const StateIdentity kIdentity{"models", "configuration"};

Cut MakeCut(uint64_t events, Changes changes) {
  return {0,
          0,
          events,
          static_cast<int64_t>(events),
          Sha256("chain " + std::to_string(events)),
          std::move(changes)};
}

std::string PathOf(const TempFolder& folder) {
  return folder.path() + "/partition-0.state";
}

void WriteThreeCuts(const TempFolder& folder) {
  StateFile state(folder.path(), kIdentity);
  BOOST_REQUIRE(state
                    .Write(MakeCut(
                        10, {{"t", "index/document", "a", "1"}, {"t", "index/document", "b", "2"}}))
                    .ok());
  BOOST_REQUIRE(state
                    .Write(MakeCut(20, {{"t", "index/document", "a", std::nullopt},
                                        {"t", "index/document", "b", "3"}}))
                    .ok());
  BOOST_REQUIRE(state.Write(MakeCut(30, {{"t", "index/document", "c", "4"}})).ok());
}

std::vector<std::string> Values(const Cut& cut) {
  std::vector<std::string> values;
  for (const Change& change : cut.changes) values.push_back(change.id + *change.value);
  return values;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_newest_cut_at_or_below_the_committed_offset_is_restored) {
  const TempFolder folder;
  WriteThreeCuts(folder);
  const auto at = [&](int64_t committed) {
    const TempFolder copy;
    std::filesystem::copy(PathOf(folder), PathOf(copy));
    StateFile state(copy.path(), kIdentity);
    auto cut = state.Newest(0, committed);
    BOOST_REQUIRE(cut.ok());
    BOOST_REQUIRE(cut->has_value());
    return **cut;
  };
  BOOST_TEST(Values(at(10)) == (std::vector<std::string>{"a1", "b2"}));
  BOOST_TEST(at(19).events == 10u);
  BOOST_TEST(Values(at(20)) == (std::vector<std::string>{"b3"}));
  BOOST_TEST(Values(at(1000)) == (std::vector<std::string>{"b3", "c4"}));
  BOOST_TEST((at(1000).chain == Sha256("chain 30")));
}

BOOST_AUTO_TEST_CASE(a_folder_without_state_has_none) {
  const TempFolder folder;
  StateFile state(folder.path() + "/new", kIdentity);
  const auto cut = state.Newest(0, 0);
  BOOST_REQUIRE(cut.ok());
  BOOST_TEST(!cut->has_value());
}

BOOST_AUTO_TEST_CASE(a_cut_that_was_torn_anywhere_falls_back_to_the_one_before) {
  const TempFolder folder;
  WriteThreeCuts(folder);
  const auto whole = std::filesystem::file_size(PathOf(folder));
  for (uintmax_t size = whole - 1; size > whole - 60; --size) {
    std::filesystem::resize_file(PathOf(folder), size);
    const TempFolder copy;
    std::filesystem::copy(PathOf(folder), PathOf(copy));
    StateFile state(copy.path(), kIdentity);
    const auto cut = state.Newest(0, 1000);
    BOOST_REQUIRE(cut.ok());
    BOOST_TEST((*cut)->events == 20u);
  }
}

BOOST_AUTO_TEST_CASE(a_flipped_byte_in_a_cut_ends_the_state_before_it) {
  const TempFolder folder;
  WriteThreeCuts(folder);
  std::fstream file(PathOf(folder), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-40, std::ios::end);
  file.put('\x7f');
  file.close();
  StateFile state(folder.path(), kIdentity);
  const auto cut = state.Newest(0, 1000);
  BOOST_REQUIRE(cut.ok());
  BOOST_TEST((*cut)->events == 20u);
}

BOOST_AUTO_TEST_CASE(writing_goes_on_after_a_restore) {
  const TempFolder folder;
  WriteThreeCuts(folder);
  {
    StateFile state(folder.path(), kIdentity);
    BOOST_REQUIRE(state.Newest(0, 20).ok());
    BOOST_REQUIRE(state.Write(MakeCut(40, {{"t", "index/document", "d", "5"}})).ok());
  }
  StateFile state(folder.path(), kIdentity);
  const auto cut = state.Newest(0, 1000);
  BOOST_TEST(Values(**cut) == (std::vector<std::string>{"b3", "d5"}));
}

BOOST_AUTO_TEST_CASE(a_state_ahead_of_the_output_is_refused) {
  const TempFolder folder;
  WriteThreeCuts(folder);
  StateFile state(folder.path(), kIdentity);
  const auto cut = state.Newest(0, 9);
  BOOST_REQUIRE(!cut.ok());
  BOOST_TEST(cut.error().message.find("ahead") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(another_configuration_takes_over_only_after_a_clean_stop) {
  const TempFolder folder;
  WriteThreeCuts(folder);
  StateFile other(folder.path(), {"models", "another"});
  const auto refused = other.Newest(0, 31);
  BOOST_REQUIRE(!refused.ok());
  BOOST_TEST(refused.error().message.find("another configuration") != std::string::npos);
  BOOST_TEST(other.Newest(0, 30).ok());
  StateFile models({folder.path(), {"other models", "another"}});
  BOOST_TEST(!models.Newest(0, 31).ok());
}

BOOST_AUTO_TEST_CASE(a_foreign_file_is_refused_and_left_alone) {
  const TempFolder folder;
  for (const std::string content : {"", "hello", "nudge state\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}) {
    std::ofstream(PathOf(folder)) << content;
    StateFile state(folder.path(), kIdentity);
    const auto cut = state.Newest(0, 0);
    BOOST_REQUIRE(!cut.ok());
    BOOST_TEST((cut.error().code == Code::kUnreadableFile));
    BOOST_TEST(std::filesystem::file_size(PathOf(folder)) == content.size());
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_grows_is_rewritten_without_what_was_replaced) {
  const TempFolder folder;
  StateFile state(folder.path(), kIdentity);
  for (uint64_t events = 1; events <= 40; ++events) {
    BOOST_REQUIRE(
        state.Write(MakeCut(events, {{"t", "executor/learner", "", std::string(1 << 20, 'x')}}))
            .ok());
  }
  BOOST_TEST(std::filesystem::file_size(PathOf(folder)) < 15u << 20);
  const auto cut = state.Newest(0, 40);
  BOOST_TEST((*cut)->events == 40u);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_stops_the_start) {
  BOOST_CHECK_THROW(StateFile("/dev/null/state", kIdentity), StartError);
}
