// labels: unit
#include "stages/adapt.h"

#include <boost/test/unit_test.hpp>

#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

namespace {

std::string Describe(const Admission& admission) {
  std::string text = admission.offers ? (admission.admitted ? "admitted" : "kept out") : "nothing";
  if (admission.frozen) text += " frozen";
  for (const Sequence at : admission.admitted_after_all) text += " " + std::to_string(at.ordinal());
  return text;
}

struct Classroom {
  explicit Classroom(AdaptOptions options = {}) : adapt(options) {}

  std::string operator()(decltype(Event::data) data, const std::string& user = "ada") {
    return Describe(*adapt.Apply(Sequence::Of(0, next++),
                                 *Resolve(MakeEvent("e", std::move(data), "acme", user))));
  }
  std::string Example(const std::string& user = "ada") {
    return (*this)(ExampleGiven{"q", "a"}, user);
  }

  Adapt adapt;
  uint64_t next = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(examples_and_feedback_that_says_something_are_offers) {
  Classroom classroom;
  BOOST_TEST(classroom(Ask("a")) == "nothing");
  BOOST_TEST(classroom.Example() == "admitted");
  Feedback feedback = About("q");
  feedback.rating = 0;
  BOOST_TEST(classroom(feedback) == "nothing");
  feedback.rating = -0.5;
  BOOST_TEST(classroom(feedback) == "admitted");
  feedback.rating.reset();
  feedback.correction = "it is 3";
  BOOST_TEST(classroom(feedback) == "admitted");
  auto prepared = Prepare(MakeEvent("f", feedback));
  prepared->signal.reset();
  BOOST_TEST(Describe(*classroom.adapt.Apply({9}, Resolved{prepared, {}, {}})) == "nothing");
}

BOOST_AUTO_TEST_CASE(a_duplicate_offers_nothing_and_changes_nothing) {
  Classroom classroom;
  classroom.Example();
  Changes changes;
  classroom.adapt.Save(0, changes);
  changes.clear();
  AdapterCommand freeze;
  for (const decltype(Event::data)& data :
       {decltype(Event::data)(ExampleGiven{"q", "a"}), decltype(Event::data)(freeze),
        decltype(Event::data)(Forget{"ada", ""})}) {
    const auto resolved = Resolve(MakeEvent("e", data), std::nullopt, Sequence{0});
    BOOST_TEST(Describe(*classroom.adapt.Apply({5}, *resolved)) == "nothing");
  }
  classroom.adapt.Save(0, changes);
  BOOST_TEST(changes.empty());
}

BOOST_AUTO_TEST_CASE(while_frozen_nothing_is_an_offer) {
  Classroom classroom;
  AdapterCommand command;
  command.action = AdapterCommand::Action::kFreeze;
  BOOST_TEST(classroom(command) == "nothing frozen");
  BOOST_TEST(classroom.Example() == "nothing frozen");
  command.action = AdapterCommand::Action::kUnfreeze;
  BOOST_TEST(classroom(command) == "nothing");
  BOOST_TEST(classroom.Example() == "admitted");
}

BOOST_AUTO_TEST_CASE(a_share_is_counted_over_the_offers_of_all) {
  Classroom classroom({.user_window_events = 4, .lead_lessons = 2});
  BOOST_TEST(classroom.Example("ada") == "admitted");
  BOOST_TEST(classroom.Example("ada") == "admitted");
  BOOST_TEST(classroom.Example("ada") == "admitted");  // alone
  BOOST_TEST(classroom.Example("bob") == "admitted");
  BOOST_TEST(classroom.Example("ada") == "kept out");
  BOOST_TEST(classroom.Example("") == "admitted");
  BOOST_TEST(classroom.Example("ada") ==
             "admitted");  // of the last four one is hers and was admitted
}

namespace {

// How many lessons of each are admitted, in this order of offers.
std::map<std::string, int> AdmittedOf(const std::vector<std::string>& offers) {
  Adapt adapt({.user_window_events = 512, .lead_lessons = 2});
  std::map<std::string, int> admitted;
  for (size_t i = 0; i < offers.size(); ++i) {
    const Event event = MakeEvent("e", ExampleGiven{"q", "a"}, "acme", offers[i]);
    admitted[offers[i]] += adapt.Apply(Sequence::Of(0, i), *Resolve(event))->admitted ? 1 : 0;
  }
  return admitted;
}

}  // namespace

BOOST_AUTO_TEST_CASE(who_is_loud_gets_little_more_than_the_others) {
  std::vector<std::string> one;
  std::vector<std::string> two;
  for (int turn = 0; turn < 360; ++turn) {
    const bool quiet = turn % 10 == 0;
    const std::string other = "quiet-" + std::to_string(turn / 10 % 6);
    one.push_back(quiet ? other : "loud");
    two.push_back(quiet ? other : turn % 2 == 0 ? "loud" : "louder");
  }
  auto admitted = AdmittedOf(one);
  BOOST_TEST(admitted["quiet-0"] == 6);
  BOOST_TEST(admitted["loud"] == 8);
  admitted = AdmittedOf(two);
  BOOST_TEST(admitted["quiet-0"] == 6);
  BOOST_TEST(admitted["loud"] <= 10);
  BOOST_TEST(admitted["louder"] <= 10);
}

BOOST_AUTO_TEST_CASE(some_who_teach_once_do_not_bind_many_who_teach_alike) {
  std::vector<std::string> offers;
  for (int turn = 0; turn < 60; ++turn) offers.push_back("user-" + std::to_string(turn % 6));
  for (int guest = 0; guest < 6; ++guest) offers.push_back("guest-" + std::to_string(guest));
  for (int turn = 0; turn < 12; ++turn) offers.push_back("user-" + std::to_string(turn % 6));
  BOOST_TEST(AdmittedOf(offers)["user-0"] == 12);  // where the plain average binds at 8
}

BOOST_AUTO_TEST_CASE(who_is_silent_for_a_window_binds_nobody) {
  Classroom classroom({.user_window_events = 4, .lead_lessons = 1});
  classroom.Example("bob");
  BOOST_TEST(classroom.Example("ada") == "admitted");
  BOOST_TEST(classroom.Example("ada") == "admitted");
  BOOST_TEST(classroom.Example("ada") == "kept out");
  BOOST_TEST(classroom.Example("ada") == "kept out");
  BOOST_TEST(classroom.Example("ada") == "admitted");  // bob is five offers ago
}

BOOST_AUTO_TEST_CASE(a_forget_names_the_offers_that_only_the_forgotten_share_kept_out) {
  Classroom classroom({.user_window_events = 8, .lead_lessons = 1});
  classroom.Example("bob");
  classroom.Example("ada");
  classroom.Example("ada");
  BOOST_TEST(classroom.Example("ada") == "kept out");  // 3
  classroom.Example("cyd");
  BOOST_TEST(classroom.Example("ada") == "kept out");  // 5: cyd alone would have kept it out, too
  BOOST_TEST(classroom(Forget{"nobody", ""}) == "nothing");
  BOOST_TEST(classroom(Forget{"bob", ""}) == "nothing 3");
  BOOST_TEST(classroom(Forget{"bob", ""}) == "nothing");
  BOOST_TEST(classroom(Forget{"", "handbook"}) == "nothing");
}

BOOST_AUTO_TEST_CASE(a_forgotten_event_gives_its_share_back) {
  Adapt adapt({.user_window_events = 8, .lead_lessons = 1});
  uint64_t next = 0;
  const auto apply = [&](const std::string& id, decltype(Event::data) data,
                         const std::string& user) {
    return Describe(*adapt.Apply(Sequence::Of(0, next++),
                                 *Resolve(MakeEvent(id, std::move(data), "acme", user))));
  };
  const auto thumb = [](const std::string& question) {
    Feedback feedback = About(question);
    feedback.rating = 1;
    return feedback;
  };
  BOOST_TEST(apply("b", ExampleGiven{"q", "a"}, "bob") == "admitted");
  BOOST_TEST(apply("a1", thumb("q1"), "ada") == "admitted");
  BOOST_TEST(apply("a2", thumb("q2"), "ada") == "admitted");
  BOOST_TEST(apply("a3", thumb("q3"), "ada") == "kept out");
  BOOST_TEST(apply("a4", thumb("q4"), "ada") == "kept out");
  BOOST_TEST(apply("x", Forget{"", "", false, "a1", "/other"}, "") == "nothing");
  BOOST_TEST(apply("x", Forget{"", "", false, "a1", "/test"}, "") == "nothing 3");
  BOOST_TEST(apply("x", Forget{"", "", false, "a1", "/test"}, "") == "nothing");
  // All feedback about a question goes with it.
  BOOST_TEST(apply("x", Forget{"", "", false, "q3", "/test"}, "") == "nothing 4");
}

BOOST_AUTO_TEST_CASE(a_later_word_has_the_place_and_the_admission_of_the_earlier_one) {
  Adapt adapt({.user_window_events = 8, .lead_lessons = 1});
  uint64_t next = 0;
  const auto say = [&](const std::string& user, std::vector<Sequence> earlier, double rating = 1) {
    Feedback feedback = About("q");
    feedback.rating = rating;
    const std::string id = "f" + std::to_string(next);
    Resolved resolved = *Resolve(MakeEvent(id, feedback, "acme", user));
    resolved.earlier = std::move(earlier);
    return Describe(*adapt.Apply(Sequence{next++}, resolved));
  };
  say("bob", {});                                         // 0
  BOOST_TEST(say("ada", {}) == "admitted");               // 1
  BOOST_TEST(say("ada", {}) == "admitted");               // 2
  BOOST_TEST(say("ada", {}) == "kept out");               // 3
  BOOST_TEST(say("ada", {{1}}, -1) == "admitted");        // 4 in the place of 1
  BOOST_TEST(say("ada", {{3}}, -1) == "kept out");        // 5 in that of 3
  BOOST_TEST(say("ada", {{1}, {4}}, 0.5) == "admitted");  // 6
  // Whoever is admitted after all is the last word.
  const auto forget = Resolve(MakeEvent("g", Forget{"", "", false, "f6", "/test"}));
  const Admission admission = *adapt.Apply(Sequence{next++}, *forget);
  BOOST_TEST((admission.admitted_after_all == std::vector<Sequence>{{5}}));
  BOOST_TEST(say("ada", {}) == "kept out");
  say("ada", {{3}, {5}}, 0);  // neutral: its place is free
  BOOST_TEST(say("ada", {}) == "admitted");
}

BOOST_AUTO_TEST_CASE(switched_off_nothing_is_offered) {
  Classroom classroom({.enabled = false});
  BOOST_TEST(classroom.Example() == "nothing");
  BOOST_TEST(classroom(AdapterCommand{}) == "nothing");
}

BOOST_AUTO_TEST_CASE(going_on_from_a_saved_state_gives_the_same_results) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    const AdaptOptions options{
        .user_window_events = 8, .lead_lessons = 3, .lessons_per_tenant = 20};
    Adapt straight(options);
    auto broken = std::make_unique<Adapt>(options);
    Store store_of_straight;
    Store store;
    Stream stream(seed);
    for (uint64_t i = 0; i < 3000; ++i) {
      const auto resolved = Resolve(stream.Next());
      const Result<Admission> expected = straight.Apply(Sequence::Of(1, i), *resolved);
      BOOST_REQUIRE_EQUAL(Describe(*broken->Apply(Sequence::Of(1, i), *resolved)),
                          Describe(*expected));
      if (stream.Below(20) != 0) continue;
      store.SaveFrom(*broken, 1);
      store_of_straight.SaveFrom(straight, 1);
      BOOST_REQUIRE((store == store_of_straight));
      broken = std::make_unique<Adapt>(options);
      store.LoadInto(*broken, 1);
    }
    BOOST_TEST(store.size() > 20U);
  }
}

BOOST_AUTO_TEST_CASE(tenants_and_partitions_have_offers_of_their_own) {
  Adapt adapt({.user_window_events = 8, .lead_lessons = 1});
  uint64_t next = 0;
  const auto offer = [&](int32_t partition, const std::string& tenant, const std::string& user) {
    const auto resolved = Resolve(MakeEvent("e", ExampleGiven{"q", "a"}, tenant, user));
    return Describe(*adapt.Apply(Sequence::Of(partition, next++), *resolved));
  };
  offer(0, "a", "ada");
  offer(0, "a", "bob");
  offer(0, "a", "ada");
  BOOST_TEST(offer(0, "a", "ada") == "kept out");
  BOOST_TEST(offer(0, "b", "ada") == "admitted");
  BOOST_TEST(offer(1, "a", "ada") == "admitted");
  adapt.Drop(0);
  BOOST_TEST(offer(0, "a", "ada") == "admitted");
}

BOOST_AUTO_TEST_CASE(damaged_state_is_refused) {
  Classroom classroom;
  classroom.Example();
  classroom(AdapterCommand{});
  Store store;
  BOOST_TEST(store.SaveFrom(classroom.adapt, 0) == 2U);
  BOOST_TEST(store.SaveFrom(classroom.adapt, 0) == 0U);
  Adapt fresh;
  store.CheckDamage(fresh, 0);
}
