// labels: unit
#include "stages/adapt.h"

#include <boost/test/unit_test.hpp>

#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

namespace {

using Action = AdapterCommand::Action;

std::string Describe(const Pinned& pinned) {
  std::string text = "serve " + std::to_string(pinned.serve);
  if (pinned.step) {
    text += " step " + std::to_string(pinned.step->number);
    if (pinned.step->makes) {
      text +=
          " makes " + std::to_string(*pinned.step->makes) + " of " + std::to_string(pinned.parent);
    }
    if (pinned.step->snapshot) text += " snapshot";
  }
  return text + (pinned.frozen ? " frozen" : "");
}

struct Teacher {
  explicit Teacher(AdaptOptions options = {}) : adapt(options) {}

  std::string operator()(decltype(Event::data) data, const std::string& user = "ada") {
    return Describe(*adapt.Apply(Sequence::Of(0, next++),
                                 *Resolve(MakeEvent("e", std::move(data), "acme", user))));
  }
  std::string Thumb(double rating, const std::string& user = "ada") {
    Feedback feedback = About("q");
    feedback.rating = rating;
    return (*this)(feedback, user);
  }
  std::string Command(Action action, std::optional<Version> version = std::nullopt) {
    AdapterCommand command;
    command.action = action;
    command.version = version;
    return (*this)(command);
  }

  Adapt adapt;
  uint64_t next = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(every_lesson_makes_the_version_that_serves_next) {
  Teacher teacher;
  BOOST_TEST(teacher(Ask("a")) == "serve 0");
  BOOST_TEST(teacher.Thumb(1) == "serve 1 step 1 makes 1 of 0");
  BOOST_TEST(teacher(Ask("a")) == "serve 1");
  BOOST_TEST(teacher.Thumb(-0.5) == "serve 2 step 2 makes 2 of 1");
  BOOST_TEST(teacher(ExampleGiven{"q", "a"}) == "serve 3 step 3 makes 3 of 2");
}

BOOST_AUTO_TEST_CASE(feedback_that_says_nothing_adds_no_step) {
  Teacher teacher;
  BOOST_TEST(teacher.Thumb(0) == "serve 0");
  Feedback correction = About("q");
  correction.correction = "it is 3";
  BOOST_TEST(teacher(correction) == "serve 1 step 1 makes 1 of 0");
  auto prepared = Prepare(MakeEvent("f", correction));
  prepared->signal.reset();
  BOOST_TEST(Describe(*teacher.adapt.Apply({9}, Resolved{prepared, {}, {}})) == "serve 1");
}

BOOST_AUTO_TEST_CASE(a_duplicate_adds_no_step_and_changes_nothing) {
  Teacher teacher;
  teacher.Thumb(1);
  Changes changes;
  teacher.adapt.Save(0, changes);
  changes.clear();
  AdapterCommand reset;
  reset.action = Action::kReset;
  for (const decltype(Event::data)& data :
       {decltype(Event::data)(ExampleGiven{"q", "a"}), decltype(Event::data)(reset),
        decltype(Event::data)(Forget{"ada", ""})}) {
    const auto resolved = Resolve(MakeEvent("e", data), std::nullopt, Sequence{0});
    BOOST_TEST(Describe(*teacher.adapt.Apply({5}, *resolved)) == "serve 1");
  }
  teacher.adapt.Save(0, changes);
  BOOST_TEST(changes.empty());
  BOOST_TEST(teacher.Thumb(1) == "serve 2 step 2 makes 2 of 1");
}

BOOST_AUTO_TEST_CASE(steps_gather_until_a_version_is_published) {
  Teacher teacher({.publish_every_steps = 3});
  BOOST_TEST(teacher.Thumb(1) == "serve 0 step 1");
  BOOST_TEST(teacher.Thumb(1) == "serve 0 step 2");
  BOOST_TEST(teacher.Thumb(1) == "serve 1 step 3 makes 1 of 0");
  BOOST_TEST(teacher.Thumb(1) == "serve 1 step 4");
}

BOOST_AUTO_TEST_CASE(every_nth_version_is_written_as_a_snapshot) {
  Teacher teacher({.snapshot_every_versions = 2});
  BOOST_TEST(teacher.Thumb(1) == "serve 1 step 1 makes 1 of 0");
  BOOST_TEST(teacher.Thumb(1) == "serve 2 step 2 makes 2 of 1 snapshot");
  BOOST_TEST(teacher.Thumb(1) == "serve 3 step 3 makes 3 of 2");
  BOOST_TEST(teacher.Command(Action::kImport) == "serve 4 step 4 makes 4 of 3 snapshot");
}

BOOST_AUTO_TEST_CASE(a_rollback_points_to_a_kept_version_and_learning_goes_on_from_there) {
  Teacher teacher;
  for (int i = 0; i < 3; ++i) teacher.Thumb(1);
  BOOST_TEST(teacher.Command(Action::kRollback, 1) == "serve 1 step 4");
  BOOST_TEST(teacher(Ask("a")) == "serve 1");
  BOOST_TEST(teacher.Thumb(1) == "serve 4 step 5 makes 4 of 1");
  BOOST_TEST(teacher.Command(Action::kRollback) == "serve 1 step 6");  // the parent
  BOOST_TEST(teacher.Command(Action::kRollback) == "serve 0 step 7");
  BOOST_TEST(teacher.Command(Action::kRollback) == "serve 0");  // the base grew from nothing
  BOOST_TEST(teacher.Command(Action::kRollback, 3) == "serve 3 step 8");
  BOOST_TEST(teacher.Command(Action::kRollback, 0) == "serve 0 step 9");
}

BOOST_AUTO_TEST_CASE(a_rollback_to_a_version_that_is_not_kept_does_nothing) {
  Teacher teacher({.versions_kept = 2});
  for (int i = 0; i < 4; ++i) teacher.Thumb(1);
  BOOST_TEST(teacher.Command(Action::kRollback, 2) == "serve 4");
  BOOST_TEST(teacher.Command(Action::kRollback, 9) == "serve 4");
  BOOST_TEST(teacher.Command(Action::kRollback, 3) == "serve 3 step 5");
  BOOST_TEST(teacher.Command(Action::kRollback) == "serve 3");  // 2 is gone
}

BOOST_AUTO_TEST_CASE(a_rollback_drops_the_steps_that_are_not_yet_published) {
  Teacher teacher({.publish_every_steps = 2});
  teacher.Thumb(1);
  teacher.Thumb(1);
  BOOST_TEST(teacher.Thumb(1) == "serve 1 step 3");
  BOOST_TEST(teacher.Command(Action::kRollback, 1) == "serve 1 step 4");
  BOOST_TEST(teacher.Thumb(1) == "serve 1 step 5");
  BOOST_TEST(teacher.Thumb(1) == "serve 2 step 6 makes 2 of 1");
}

BOOST_AUTO_TEST_CASE(a_reset_serves_the_base_and_no_number_is_used_again) {
  Teacher teacher;
  teacher.Thumb(1);
  BOOST_TEST(teacher.Command(Action::kReset) == "serve 0 step 2");
  BOOST_TEST(teacher.Thumb(1) == "serve 2 step 3 makes 2 of 0");
}

BOOST_AUTO_TEST_CASE(a_frozen_adapter_learns_nothing_from_users_and_obeys_its_operator) {
  Teacher teacher;
  teacher.Thumb(1);
  BOOST_TEST(teacher.Command(Action::kFreeze) == "serve 1 frozen");
  BOOST_TEST(teacher.Thumb(1) == "serve 1 frozen");
  BOOST_TEST(teacher(ExampleGiven{"q", "a"}) == "serve 1 frozen");
  BOOST_TEST(teacher(Ask("a")) == "serve 1 frozen");
  BOOST_TEST(teacher.Command(Action::kImport) == "serve 2 step 2 makes 2 of 1 frozen");
  BOOST_TEST(teacher.Command(Action::kRollback, 1) == "serve 1 step 3 frozen");
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 3 step 4 makes 3 of 1 frozen");
  BOOST_TEST(teacher.Command(Action::kReset) == "serve 0 step 5 frozen");
  BOOST_TEST(teacher.Command(Action::kUnfreeze) == "serve 0");
  BOOST_TEST(teacher.Thumb(1) == "serve 4 step 6 makes 4 of 0");
}

BOOST_AUTO_TEST_CASE(after_a_forget_no_older_version_can_come_back) {
  Teacher teacher;
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 0");  // nothing was ever learnt
  teacher.Thumb(1);
  teacher.Thumb(1);
  BOOST_TEST(teacher(Forget{"", "handbook"}) == "serve 3 step 3 makes 3 of 2");
  BOOST_TEST(teacher.Command(Action::kRollback, 1) == "serve 3");
  BOOST_TEST(teacher.Command(Action::kRollback) == "serve 3");
  BOOST_TEST(teacher.Command(Action::kRollback, 0) == "serve 0 step 4");
}

BOOST_AUTO_TEST_CASE(one_loud_user_gets_no_more_than_a_share_of_the_recent_steps) {
  Teacher teacher({.user_window_events = 8, .user_steps_max = 3});
  BOOST_TEST(teacher.Thumb(1, "bob") == "serve 1 step 1 makes 1 of 0");
  for (int i = 0; i < 3; ++i) teacher.Thumb(1, "ada");
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 4");
  BOOST_TEST(teacher.Thumb(1, "eve") == "serve 5 step 5 makes 5 of 4");
  BOOST_TEST(teacher.Thumb(1, "") == "serve 6 step 6 makes 6 of 5");
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 6");
  BOOST_TEST(teacher.Thumb(1, "bob") == "serve 7 step 7 makes 7 of 6");  // pushes bob's first out
  BOOST_TEST(teacher.Thumb(1, "bob") == "serve 8 step 8 makes 8 of 7");  // and ada's
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 9 step 9 makes 9 of 8");
}

BOOST_AUTO_TEST_CASE(a_user_alone_and_events_without_a_user_have_no_cap) {
  Teacher alone({.user_window_events = 4, .user_steps_max = 1});
  for (uint32_t i = 1; i < 20; ++i) {
    BOOST_TEST(alone.Thumb(1).starts_with("serve " + std::to_string(i) + " step"));
  }
  Teacher nobody({.user_window_events = 4, .user_steps_max = 1});
  nobody.Thumb(1, "ada");
  for (uint32_t i = 2; i < 20; ++i) {
    BOOST_TEST(nobody.Thumb(1, "").starts_with("serve " + std::to_string(i) + " step"));
  }
  Teacher uncapped({.user_window_events = 4, .user_steps_max = 0});
  uncapped.Thumb(1, "bob");
  for (uint32_t i = 2; i < 20; ++i) {
    BOOST_TEST(uncapped.Thumb(1).starts_with("serve " + std::to_string(i) + " step"));
  }
}

BOOST_AUTO_TEST_CASE(switched_off_the_base_serves_whatever_happens) {
  Teacher teacher({.enabled = false});
  BOOST_TEST(teacher.Thumb(1) == "serve 0");
  BOOST_TEST(teacher.Command(Action::kImport) == "serve 0");
  BOOST_TEST(teacher.Command(Action::kFreeze) == "serve 0");
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 0");
}

BOOST_AUTO_TEST_CASE(tenants_and_partitions_have_adapters_of_their_own) {
  Adapt adapt;
  const auto teach = [&](int32_t partition, const std::string& tenant) {
    return Describe(*adapt.Apply(Sequence::Of(partition, 0),
                                 *Resolve(MakeEvent("e", ExampleGiven{"q", "a"}, tenant))));
  };
  BOOST_TEST(teach(0, "a") == "serve 1 step 1 makes 1 of 0");
  BOOST_TEST(teach(0, "b") == "serve 1 step 1 makes 1 of 0");
  BOOST_TEST(teach(1, "a") == "serve 1 step 1 makes 1 of 0");
  adapt.Drop(0);
  BOOST_TEST(teach(0, "a") == "serve 1 step 1 makes 1 of 0");
  BOOST_TEST(teach(1, "a") == "serve 2 step 2 makes 2 of 1");
}

BOOST_AUTO_TEST_CASE(going_on_from_a_saved_state_gives_the_same_results) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    const AdaptOptions options{.publish_every_steps = seed % 3 + 1,
                               .snapshot_every_versions = 2,
                               .versions_kept = 3,
                               .user_window_events = 8,
                               .user_steps_max = 3};
    Adapt straight(options);
    auto broken = std::make_unique<Adapt>(options);
    Store store_of_straight;
    Store store;
    Stream stream(seed);
    Version highest = 0;
    for (uint64_t i = 0; i < 3000; ++i) {
      const auto resolved = Resolve(stream.Next());
      const Result<Pinned> expected = straight.Apply(Sequence::Of(1, i), *resolved);
      BOOST_REQUIRE_EQUAL(Describe(*broken->Apply(Sequence::Of(1, i), *resolved)),
                          Describe(*expected));
      if (expected->step && expected->step->makes) highest = *expected->step->makes;
      if (stream.Below(20) != 0) continue;
      store.SaveFrom(*broken, 1);
      store_of_straight.SaveFrom(straight, 1);
      BOOST_REQUIRE((store == store_of_straight));
      broken = std::make_unique<Adapt>(options);
      store.LoadInto(*broken, 1);
    }
    BOOST_TEST(highest > 50U);
    BOOST_TEST(store.size() == 3U);
  }
}

BOOST_AUTO_TEST_CASE(damaged_state_is_refused) {
  Teacher teacher;
  teacher.Thumb(1);
  Store store;
  BOOST_TEST(store.SaveFrom(teacher.adapt, 0) == 1U);
  BOOST_TEST(store.SaveFrom(teacher.adapt, 0) == 0U);
  Adapt fresh;
  store.CheckDamage(fresh, 0);
}
