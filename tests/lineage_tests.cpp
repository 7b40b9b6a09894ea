// labels: unit
#include "stages/lineage.h"

#include <boost/test/unit_test.hpp>

#include "stages/adapt.h"
#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

namespace {

using Action = AdapterCommand::Action;

// adapt and the lineage, one behind the other, as respond has them.
struct Teacher {
  // Nobody is bound by what others teach, but in tests that say so.
  explicit Teacher(AdaptOptions options_in = {})
      : options([&] {
          if (options_in.lead_lessons == AdaptOptions{}.lead_lessons) options_in.lead_lessons = 0;
          return options_in;
        }()),
        adapt(options) {}

  std::string operator()(decltype(Event::data) data, const std::string& user = "ada",
                         Lineage::Holds holds = {}) {
    const Sequence at = Sequence::Of(0, next++);
    Resolved said = *Resolve(MakeEvent("e", std::move(data), "acme", user));
    said.earlier = std::exchange(earlier, {});
    const auto resolved = std::make_shared<Resolved>(std::move(said));
    const Admission admission = *adapt.Apply(at, *resolved);
    const Event& event = resolved->prepared->event;
    parent = lineage.parent();
    std::optional<Step> step;
    if (const auto* command = std::get_if<AdapterCommand>(&event.data)) {
      if (command->action == Action::kRollback) {
        const auto unlearnt = lineage.RollBack(command->version, options);
        if (unlearnt) forgotten = *unlearnt;
        if (unlearnt) step = unlearnt->step;
      }
      if (command->action == Action::kReset) step = lineage.Reset();
      if (command->action == Action::kImport) step = lineage.Import(at, options);
    } else if (const auto* forget = std::get_if<Forget>(&event.data)) {
      parent = 0;
      forgotten = lineage.Forget(*forget, admission.admitted_after_all, options);
      step = forgotten.step;
    } else if (!admission.frozen) {
      const bool taken_back = !admission.offers;
      withdrawn = lineage.Withdraw(
          resolved->earlier,
          taken_back ? Lineage::Standing::kTakenBack : Lineage::Standing::kReplaced, options);
      parent = lineage.parent();
      if (!user.empty()) holds.people.insert(user);
      const std::string id = std::to_string(at.value);
      if (admission.offers) taught.push_back(at.value);
      step = admission.offers ? lineage.Learn(at, std::move(holds), admission.admitted, options,
                                              {"/s", id, user, {}, {}}, &withdrawn.unlearnt)
                              : lineage.Rebuild(withdrawn.unlearnt, options);
    }
    lineage.TakeDroppedVersions();
    for (const LearningPlace place : lineage.TakeDroppedPlaces()) dropped.insert(place);
    std::string text = "serve " + std::to_string(lineage.serving());
    lineage.Advance();
    if (step) {
      text += " step " + std::to_string(step->number);
      if (step->makes) {
        text += " makes " + std::to_string(*step->makes);
        if (!std::holds_alternative<Forget>(event.data)) text += " of " + std::to_string(parent);
      }
      if (step->snapshot) text += " snapshot";
    }
    return text + (admission.frozen ? " frozen" : "");
  }
  std::string Thumb(double rating, const std::string& user = "ada", Lineage::Holds holds = {}) {
    Feedback feedback = About("q");
    feedback.rating = rating;
    return (*this)(feedback, user, std::move(holds));
  }
  // Another word on the answer of which these events spoke; 0 takes back what they said.
  std::string Again(const std::vector<uint64_t>& events, double rating,
                    const std::string& user = "ada") {
    for (const uint64_t event : events) earlier.push_back(Sequence::Of(0, event));
    return Thumb(rating, user);
  }
  std::string Command(Action action, std::optional<Version> version = std::nullopt) {
    AdapterCommand command;
    command.action = action;
    command.version = version;
    return (*this)(command);
  }
  // The ordinals of the events whose lessons count at the head.
  std::string Path() const {
    std::string text;
    for (const LearningPlace place : lineage.PathOfHead()) {
      text += (text.empty() ? "" : " ") + std::to_string(place - 1);
    }
    return text;
  }

  AdaptOptions options;
  Adapt adapt;
  Lineage lineage;
  Lineage::Unlearnt forgotten;
  Lineage::Withdrawn withdrawn;
  std::vector<Sequence> earlier;  // of the next event
  std::vector<uint64_t> taught;   // events
  std::set<LearningPlace> dropped;
  Version parent = 0;
  uint64_t next = 0;
};

// "0 serves, 1 forgotten".
std::string Standings(const Lineage& lineage) {
  static const char* const kNames[] = {"serves",       "comes",     "set aside",
                                       "not admitted", "forgotten", "dropped",
                                       "too old",      "replaced",  "taken back"};
  std::string text;
  for (const Lineage::LessonView& view : lineage.Lessons()) {
    text += (text.empty() ? "" : ", ") + std::to_string(view.place - 1) + " " +
            kNames[static_cast<size_t>(view.standing)];
  }
  return text;
}

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
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 0 step 4 frozen");
  BOOST_TEST(teacher.Command(Action::kReset) == "serve 0 step 5 frozen");
  BOOST_TEST(teacher.Command(Action::kUnfreeze) == "serve 0");
  BOOST_TEST(teacher.Thumb(1) == "serve 3 step 6 makes 3 of 0");
}

// ---- What counts where --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(branches_come_back_with_their_lessons_and_withdrawn_ones_stay_out) {
  Teacher teacher;
  for (int i = 0; i < 3; ++i) teacher.Thumb(1);  // events 0, 1, 2: versions 1, 2, 3
  teacher.Command(Action::kRollback, 1);
  BOOST_TEST(teacher.Path() == "0");
  teacher.Command(Action::kRollback, 3);
  BOOST_TEST(teacher.Path() == "0 1 2");
  teacher.Thumb(1);  // event 5: version 4
  BOOST_TEST(teacher.Path() == "0 1 2 5");
  teacher.Command(Action::kRollback, 2);
  BOOST_TEST(teacher.Path() == "0 1");
  teacher.Command(Action::kRollback, 4);
  BOOST_TEST(teacher.Path() == "0 1 2 5");
  teacher.Command(Action::kReset);
  BOOST_TEST(teacher.Path() == "");
}

BOOST_AUTO_TEST_CASE(an_import_is_a_new_start_that_a_rollback_can_pass) {
  Teacher teacher;
  teacher.Thumb(1);
  BOOST_TEST(teacher.Command(Action::kImport) == "serve 2 step 2 makes 2 of 1");
  teacher.Thumb(1);
  BOOST_TEST(teacher.Path() == "1 2");
  teacher.Command(Action::kRollback, 1);
  BOOST_TEST(teacher.Path() == "0");
  teacher.Command(Action::kRollback, 3);
  BOOST_TEST(teacher.Path() == "1 2");
}

BOOST_AUTO_TEST_CASE(places_that_nothing_leads_to_are_dropped) {
  Teacher teacher({.versions_kept = 2});
  teacher.Thumb(1);
  teacher.Thumb(1);
  teacher.Command(Action::kReset);
  BOOST_TEST(teacher.dropped.empty());  // versions 1 and 2 can still come back
  teacher.Thumb(1);
  BOOST_TEST(teacher.dropped.empty());  // 2 is kept, and stands behind 1's lesson
  teacher.Thumb(1);
  BOOST_TEST((teacher.dropped == std::set<LearningPlace>{1, 2}));
}

// ---- Forgetting ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(forgetting_what_was_never_learnt_changes_nothing) {
  Teacher teacher;
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 0");
  teacher.Thumb(1);
  teacher.Thumb(1);
  BOOST_TEST(teacher(Forget{"dan", ""}) == "serve 2");
  BOOST_TEST(teacher(Forget{"", "handbook"}) == "serve 2");
  BOOST_TEST(teacher.Command(Action::kRollback, 1) == "serve 1 step 3");
}

BOOST_AUTO_TEST_CASE(everyone_whose_words_are_in_a_lesson_can_be_forgotten) {
  Teacher teacher;
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob", {{"cyd", "eve"}, {"handbook"}});
  teacher.Thumb(1, "dan");
  BOOST_TEST(teacher(Forget{"cyd", ""}) == "serve 4 step 4 makes 4");
  BOOST_TEST(teacher.Path() == "0 2");
  BOOST_TEST((teacher.dropped == std::set<LearningPlace>{2}));
  BOOST_TEST(teacher(Forget{"", "handbook"}) == "serve 4");  // it went with cyd's words
}

BOOST_AUTO_TEST_CASE(what_stands_before_the_first_forgotten_lesson_serves_and_comes_back) {
  Teacher teacher;
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob");
  BOOST_TEST(teacher(Forget{"bob", ""}) == "serve 1 step 3");
  BOOST_TEST((teacher.forgotten.versions == std::vector<Version>{2}));
  BOOST_TEST(teacher.Command(Action::kRollback, 2) == "serve 1");
  BOOST_TEST(teacher.Thumb(1, "cyd") == "serve 3 step 4 makes 3 of 1");
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 4 step 5 makes 4");
  BOOST_TEST(teacher.forgotten.lessons_again == 1U);
  BOOST_TEST(teacher(Forget{"cyd", ""}) == "serve 0 step 6");
}

BOOST_AUTO_TEST_CASE(a_long_rebuild_takes_over_at_a_place_that_the_forget_fixes) {
  Teacher teacher({.versions_kept = 20, .relearn_lessons_per_event = 4});
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob");
  for (int i = 0; i < 9; ++i) teacher.Thumb(1, "cyd");
  BOOST_TEST(teacher(Forget{"bob", ""}) == "serve 1 step 12 makes 12");
  BOOST_TEST(teacher.forgotten.lessons_again == 9U);
  BOOST_TEST(teacher.forgotten.events_until_takeover == 2U);
  BOOST_TEST(teacher(Ask("a")) == "serve 1");
  BOOST_TEST(teacher.Thumb(1, "dan") == "serve 1 step 13 makes 13 of 12");
  BOOST_TEST(teacher(Ask("a")) == "serve 13");
  BOOST_TEST(teacher.Command(Action::kRollback) == "serve 12 step 14");
}

BOOST_AUTO_TEST_CASE(a_rollback_or_a_second_forget_ends_the_wait_for_a_rebuild) {
  Teacher teacher({.versions_kept = 20, .relearn_lessons_per_event = 1});
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob");
  for (int i = 0; i < 3; ++i) teacher.Thumb(1, "cyd");
  BOOST_TEST(teacher(Forget{"bob", ""}) == "serve 1 step 6 makes 6");
  BOOST_TEST(teacher.Command(Action::kRollback, 1) == "serve 1 step 7");
  BOOST_TEST(teacher(Ask("a")) == "serve 1");
  BOOST_TEST(teacher.Command(Action::kRollback, 6) == "serve 6 step 8");
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 0 step 9 makes 7");
  BOOST_TEST(teacher(Forget{"cyd", ""}) == "serve 0 step 10");
  for (int i = 0; i < 5; ++i) BOOST_TEST(teacher(Ask("a")) == "serve 0");
}

BOOST_AUTO_TEST_CASE(the_version_that_serves_until_a_takeover_stays_however_many_are_made) {
  Teacher teacher({.versions_kept = 2, .relearn_lessons_per_event = 1});
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob");
  for (int i = 0; i < 4; ++i) teacher.Thumb(1, "cyd");
  teacher.Command(Action::kRollback, 5);
  BOOST_TEST(teacher(Forget{"bob", ""}) == "serve 0 step 8 makes 7");
  teacher.Thumb(1, "dan");
  teacher.Thumb(1, "dan");
  BOOST_TEST(teacher(Ask("a")) == "serve 0");
  BOOST_TEST(teacher(Ask("a")) == "serve 9");
}

BOOST_AUTO_TEST_CASE(snapshots_that_may_hold_what_is_forgotten_are_named) {
  Teacher teacher({.snapshot_every_versions = 2, .versions_kept = 2});
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob");
  teacher.Thumb(1, "ada");
  for (int i = 0; i < 4; ++i) teacher.Thumb(1, "cyd");
  teacher(Forget{"bob", ""});
  BOOST_TEST((teacher.forgotten.snapshots == std::vector<Version>{4, 6, 8}));
}

BOOST_AUTO_TEST_CASE(offers_that_only_the_forgotten_share_kept_out_are_learnt) {
  Teacher teacher({.user_window_events = 8, .lead_lessons = 1});
  teacher.Thumb(1, "bob");
  for (int i = 0; i < 3; ++i) teacher.Thumb(1, "ada");  // the last one is kept out
  BOOST_TEST(teacher.Path() == "0 1 2");
  BOOST_TEST(teacher(Forget{"bob", ""}) == "serve 4 step 4 makes 4");
  BOOST_TEST(teacher.Path() == "1 2 3");
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 5 step 5 makes 5 of 4");  // she is alone
}

BOOST_AUTO_TEST_CASE(a_version_that_was_made_behind_an_offer_kept_out_serves_again) {
  Teacher teacher({.user_window_events = 8, .lead_lessons = 1});
  teacher.Thumb(1, "cyd");
  teacher.Thumb(1, "bob");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "ada");  // kept out
  BOOST_TEST(teacher(Forget{"cyd", ""}) == "serve 5 step 5 makes 5");
  teacher.Thumb(1, "dan");
  BOOST_TEST(teacher(Forget{"dan", ""}) == "serve 5 step 7");
  BOOST_TEST(teacher.Path() == "1 2 3");
}

BOOST_AUTO_TEST_CASE(a_snapshot_holds_no_offer_that_was_kept_out) {
  Teacher teacher({.snapshot_every_versions = 1, .user_window_events = 8, .lead_lessons = 1});
  teacher.Thumb(1, "bob");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "ada", {{"eve"}, {}});  // kept out
  teacher(Forget{"eve", ""});
  BOOST_TEST(teacher.forgotten.lessons == 1U);
  BOOST_TEST(teacher.forgotten.snapshots.empty());
}

BOOST_AUTO_TEST_CASE(a_lesson_beyond_the_limit_is_still_known_to_be_in_the_weights) {
  Teacher teacher({.lessons_per_tenant = 3});
  teacher.Thumb(1, "ada");
  for (int i = 0; i < 4; ++i) teacher.Thumb(1, "bob");
  BOOST_TEST(teacher.Path() == "2 3 4");
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 6 step 6 makes 6");
  BOOST_TEST(teacher.forgotten.lessons_again == 3U);
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 6");
}

BOOST_AUTO_TEST_CASE(an_event_is_forgotten_as_a_person_is) {
  Teacher teacher({.versions_kept = 20});
  const auto holding = [](const std::string& id) {
    return Lineage::Holds{{}, {}, {NameOf("/s", id)}};
  };
  const auto forget = [](const std::string& id, const std::string& source = "/s") {
    return Forget{"", "", false, id, source};
  };
  teacher.Thumb(1, "ada", holding("a"));
  teacher.Thumb(1, "ada", holding("b"));
  teacher.Thumb(1, "bob", holding("c"));
  BOOST_TEST(teacher(forget("b", "/other")) == "serve 3");
  BOOST_TEST(teacher(forget("d")) == "serve 3");
  BOOST_TEST(teacher(forget("b")) == "serve 4 step 4 makes 4");
  BOOST_TEST(teacher.Path() == "0 2");
  BOOST_TEST((teacher.forgotten.versions == std::vector<Version>{2, 3}));
  BOOST_TEST(teacher(forget("c")) == "serve 1 step 5");
  BOOST_TEST(teacher(forget("a")) == "serve 0 step 6");
}

BOOST_AUTO_TEST_CASE(an_event_beyond_the_limit_is_still_known_to_be_in_the_weights) {
  Teacher teacher({.lessons_per_tenant = 3});
  for (int i = 0; i < 5; ++i) {
    teacher.Thumb(1, "ada", {{}, {}, {NameOf("/s", std::to_string(i))}});
  }
  BOOST_TEST(teacher.Path() == "2 3 4");
  BOOST_TEST(teacher(Forget{"", "", false, "5", "/s"}) == "serve 5");
  BOOST_TEST(teacher(Forget{"", "", false, "1", "/s"}) == "serve 6 step 6 makes 6");
  BOOST_TEST(teacher.forgotten.lessons_again == 3U);
  BOOST_TEST(teacher(Forget{"", "", false, "0", "/s"}) == "serve 6");  // it went along
  BOOST_TEST(Standings(teacher.lineage) ==
             "0 forgotten, 1 forgotten, 2 serves, 3 serves, 4 serves");
}

// ---- The last word counts -----------------------------------------------------------------------

using Ids = std::vector<std::string>;

BOOST_AUTO_TEST_CASE(a_later_word_replaces_the_lesson_of_the_earlier_one) {
  Teacher teacher;
  for (int i = 0; i < 3; ++i) teacher.Thumb(1);  // events 0, 1, 2: versions 1, 2, 3
  BOOST_TEST(teacher.Again({1}, -1) == "serve 4 step 4 makes 4 of 1");
  BOOST_TEST(teacher.Path() == "0 2 3");
  BOOST_TEST((teacher.withdrawn.at_once == Ids{"1"}));
  BOOST_TEST(teacher.withdrawn.unlearnt.lessons_again == 1U);
  BOOST_TEST((teacher.withdrawn.unlearnt.versions == std::vector<Version>{2, 3}));
  BOOST_TEST(teacher.dropped.contains(2));
  BOOST_TEST(teacher.Command(Action::kRollback, 3) == "serve 4");  // it had the replaced one
  BOOST_TEST(teacher.Again({1, 3}, 1) == "serve 5 step 5 makes 5 of 1");
  BOOST_TEST(teacher.Path() == "0 2 5");
  BOOST_TEST(Standings(teacher.lineage) == "0 serves, 1 replaced, 2 serves, 3 replaced, 5 serves");
}

BOOST_AUTO_TEST_CASE(what_is_taken_back_leaves_nothing) {
  Teacher teacher;
  for (int i = 0; i < 3; ++i) teacher.Thumb(1);
  BOOST_TEST(teacher.Again({2}, 0) == "serve 2 step 4");  // a kept version is what is left
  BOOST_TEST(teacher.Path() == "0 1");
  BOOST_TEST(teacher.Again({0}, 0) == "serve 4 step 5 makes 4 of 0");
  BOOST_TEST(teacher.Again({1}, 0) == "serve 0 step 6");
  BOOST_TEST(teacher.Path() == "");
  BOOST_TEST(teacher.Again({1}, 0) == "serve 0");  // there is nothing left of it
  BOOST_TEST(teacher.Thumb(1) == "serve 5 step 7 makes 5 of 0");
  BOOST_TEST(Standings(teacher.lineage) == "0 taken back, 1 taken back, 2 taken back, 7 serves");
}

BOOST_AUTO_TEST_CASE(a_replacement_takes_over_at_a_place_that_it_fixes) {
  Teacher teacher({.versions_kept = 20, .relearn_lessons_per_event = 4});
  for (int i = 0; i < 11; ++i) teacher.Thumb(1);
  BOOST_TEST(teacher.Again({1}, -1) == "serve 1 step 12 makes 12 of 1");
  BOOST_TEST(teacher.withdrawn.unlearnt.lessons_again == 9U);
  BOOST_TEST(teacher.withdrawn.unlearnt.events_until_takeover == 2U);
  BOOST_TEST(teacher(Ask("a")) == "serve 1");
  BOOST_TEST(teacher(Ask("a")) == "serve 1");
  BOOST_TEST(teacher(Ask("a")) == "serve 12");
}

BOOST_AUTO_TEST_CASE(what_made_no_version_yet_is_replaced_without_one) {
  Teacher teacher({.publish_every_steps = 3});
  for (int i = 0; i < 4; ++i) teacher.Thumb(1);
  BOOST_TEST(teacher.Again({3}, -1) == "serve 1 step 5");
  BOOST_TEST(teacher.Path() == "0 1 2 4");
  // What serves has learnt it, so that what is left needs a version now.
  BOOST_TEST(teacher.Again({1}, -1) == "serve 2 step 6 makes 2 of 0");
  BOOST_TEST(teacher.Path() == "0 2 4 5");
}

BOOST_AUTO_TEST_CASE(an_old_lesson_counts_until_a_rebuild_passes_it) {
  Teacher teacher({.versions_kept = 20, .replace_lessons_max = 2});
  teacher.Thumb(1, "bob");
  for (int i = 0; i < 4; ++i) teacher.Thumb(1);
  BOOST_TEST(teacher.Again({1}, -1) == "serve 6 step 6 makes 6 of 5");
  BOOST_TEST((teacher.withdrawn.with_next_rebuild == Ids{"1"}));
  BOOST_TEST(teacher.Path() == "0 1 2 3 4 5");
  BOOST_TEST(teacher.Again({1}, 0) == "serve 6");  // already marked
  BOOST_TEST(teacher.Again({4}, -1) == "serve 7 step 7 makes 7 of 4");
  BOOST_TEST(teacher.Path() == "0 1 2 3 5 7");  // that rebuild begins behind it
  BOOST_TEST(teacher.lineage.Lessons().at(1).leaves.has_value());
  BOOST_TEST(teacher(Forget{"bob", ""}).starts_with("serve 0 step 8 makes 8"));
  BOOST_TEST(teacher.Path() == "2 3 5 7");
  BOOST_TEST(teacher.forgotten.lessons == 1U);
  BOOST_TEST(teacher.forgotten.passed == 1U);
  BOOST_TEST(Standings(teacher.lineage).starts_with("0 forgotten, 1 replaced, "));
}

BOOST_AUTO_TEST_CASE(a_lesson_that_was_set_aside_is_replaced_when_a_rollback_leads_back_to_it) {
  Teacher teacher({.versions_kept = 20});
  for (int i = 0; i < 3; ++i) teacher.Thumb(1);
  teacher.Command(Action::kRollback, 1);
  BOOST_TEST(teacher.Again({1}, -1) == "serve 4 step 5 makes 4 of 1");
  BOOST_TEST((teacher.withdrawn.with_next_rebuild == Ids{"1"}));
  BOOST_TEST(teacher.Path() == "0 4");
  BOOST_TEST(teacher.Command(Action::kRollback, 3).starts_with("serve 5 step 6 makes 5"));
  BOOST_TEST(teacher.Path() == "0 2");
  BOOST_TEST((teacher.forgotten.versions == std::vector<Version>{2, 3}));
  BOOST_TEST(teacher.Command(Action::kRollback, 4) == "serve 4 step 7");
}

BOOST_AUTO_TEST_CASE(a_changed_mind_costs_no_share_and_gains_none) {
  Teacher teacher({.user_window_events = 8, .lead_lessons = 1});
  teacher.Thumb(1, "bob");
  for (int i = 0; i < 3; ++i) teacher.Thumb(1, "ada");  // the last one, event 3, is kept out
  std::vector<uint64_t> words = {1};
  for (int i = 0; i < 10; ++i) {
    BOOST_TEST(teacher.Again(words, i % 2 == 0 ? -1 : 1).find(" makes ") != std::string::npos);
    words.push_back(teacher.next - 1);
  }
  BOOST_TEST(teacher.Path() == "0 2 13");
  BOOST_TEST(teacher.Again({3}, -1) == "serve 13");  // kept out as what it replaces was
  BOOST_TEST((teacher.withdrawn.never_learnt == Ids{"3"}));
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 13");
  BOOST_TEST(teacher.Again(words, 0).find(" step ") != std::string::npos);
  BOOST_TEST(teacher.Thumb(1, "ada").find(" makes ") != std::string::npos);  // a share is free
}

BOOST_AUTO_TEST_CASE(a_frozen_adapter_keeps_the_earlier_word_until_it_learns_again) {
  Teacher teacher;
  teacher.Thumb(1);
  teacher.Command(Action::kFreeze);
  BOOST_TEST(teacher.Again({0}, -1) == "serve 1 frozen");
  BOOST_TEST(teacher.Again({0, 2}, 0) == "serve 1 frozen");
  teacher.Command(Action::kUnfreeze);
  BOOST_TEST(teacher.Again({0, 2, 3}, -1) == "serve 2 step 2 makes 2 of 0");
  BOOST_TEST(teacher.Path() == "5");
}

BOOST_AUTO_TEST_CASE(a_replaced_lesson_beyond_the_limit_is_said_to_stay) {
  Teacher teacher({.lessons_per_tenant = 3});
  for (int i = 0; i < 5; ++i) teacher.Thumb(1);
  teacher.Again({0}, -1);
  BOOST_TEST(teacher.withdrawn.too_old == 1U);
  BOOST_TEST(teacher.Path() == "3 4 5");
}

// ---- What became of lessons ---------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(lessons_say_what_became_of_them) {
  Teacher teacher({.publish_every_steps = 2, .versions_kept = 2});
  teacher.Thumb(1, "ada");
  BOOST_TEST(Standings(teacher.lineage) == "0 comes");
  teacher.Thumb(1, "bob");
  BOOST_TEST(Standings(teacher.lineage) == "0 serves, 1 serves");
  const Lineage::LessonView second = teacher.lineage.Lessons().at(1);
  BOOST_TEST(second.step == 2U);
  BOOST_TEST(second.makes.value() == 1U);
  BOOST_TEST((second.people == std::set<std::string>{"bob"}));
  teacher(Forget{"bob", ""});
  BOOST_TEST(Standings(teacher.lineage) == "0 serves, 1 forgotten");
  const Lineage::LessonView gone = teacher.lineage.Lessons().at(1);
  BOOST_TEST(gone.people.empty());
  BOOST_TEST(gone.taught.id.empty());
  BOOST_TEST(gone.step == 2U);  // a number names nobody
  teacher.Command(Action::kReset);
  BOOST_TEST(Standings(teacher.lineage) == "0 set aside, 1 forgotten");
  for (int i = 0; i < 4; ++i) teacher.Thumb(1, "cyd");
  BOOST_TEST(Standings(teacher.lineage) ==
             "0 dropped, 1 forgotten, 4 serves, 5 serves, 6 serves, 7 serves");
}

BOOST_AUTO_TEST_CASE(a_lesson_kept_out_one_too_old_and_one_that_waits_are_told_apart) {
  Teacher teacher({.versions_kept = 20,
                   .user_window_events = 8,
                   .lead_lessons = 1,
                   .lessons_per_tenant = 5,
                   .relearn_lessons_per_event = 1});
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "bob");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "ada");
  teacher.Thumb(1, "cyd");
  BOOST_TEST(Standings(teacher.lineage) ==
             "0 serves, 1 serves, 2 serves, 3 not admitted, 4 serves");
  teacher.Thumb(1, "dan");
  BOOST_TEST(Standings(teacher.lineage) ==
             "0 too old, 1 serves, 2 serves, 3 not admitted, 4 serves, 5 serves");
  teacher(Forget{"bob", ""});  // a rebuild of some lessons takes over some events later
  BOOST_TEST(Standings(teacher.lineage).starts_with("0 too old, 1 forgotten, 2 "));
  BOOST_TEST(Standings(teacher.lineage).ends_with("4 comes, 5 comes"));
  for (int i = 0; i < 4; ++i) teacher(Ask("a"));
  BOOST_TEST(Standings(teacher.lineage).ends_with("4 serves, 5 serves"));
}

// ---- Shares, tenants, state ---------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(one_loud_user_gets_no_more_than_a_share_of_the_recent_steps) {
  Teacher teacher({.user_window_events = 8, .lead_lessons = 3});
  BOOST_TEST(teacher.Thumb(1, "bob") == "serve 1 step 1 makes 1 of 0");
  for (int i = 0; i < 4; ++i) teacher.Thumb(1, "ada");
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 5");  // bob's one and three more
  BOOST_TEST(teacher.Thumb(1, "eve") == "serve 6 step 6 makes 6 of 5");
  BOOST_TEST(teacher.Thumb(1, "") == "serve 7 step 7 makes 7 of 6");
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 7");
  BOOST_TEST(teacher.Thumb(1, "bob") == "serve 8 step 8 makes 8 of 7");  // his first is out of it
  BOOST_TEST(teacher.Thumb(1, "bob") == "serve 9 step 9 makes 9 of 8");  // and ada's
  BOOST_TEST(teacher.Thumb(1, "ada") == "serve 10 step 10 makes 10 of 9");
}

BOOST_AUTO_TEST_CASE(a_user_alone_has_no_cap) {
  Teacher alone({.user_window_events = 4, .lead_lessons = 1});
  for (uint32_t i = 1; i < 20; ++i) {
    BOOST_TEST(alone.Thumb(1).starts_with("serve " + std::to_string(i) + " step"));
  }
  Teacher uncapped({.user_window_events = 4, .lead_lessons = 0});
  uncapped.Thumb(1, "bob");
  for (uint32_t i = 2; i < 20; ++i) {
    BOOST_TEST(uncapped.Thumb(1).starts_with("serve " + std::to_string(i) + " step"));
  }
}

BOOST_AUTO_TEST_CASE(switched_off_the_base_serves_whatever_happens) {
  Teacher teacher({.enabled = false});
  BOOST_TEST(teacher.Thumb(1) == "serve 0");
  BOOST_TEST(teacher.Command(Action::kFreeze) == "serve 0");
  BOOST_TEST(teacher(Forget{"ada", ""}) == "serve 0");
}

namespace {

// Random events of a few users; what comes of them, in words.
std::string Random(Teacher& teacher, uint64_t seed, uint64_t i) {
  const auto below = [&](uint64_t purpose, uint64_t limit) {
    return RandomAt(RandomAt(seed, i), purpose) % limit;
  };
  const auto user = [&](uint64_t purpose) {
    return std::string(1, static_cast<char>('a' + below(purpose, 5)));
  };
  const uint64_t dice = below(0, 100);
  if (dice < 20 && !teacher.taught.empty()) {
    const size_t back = 1 + below(9, std::min<size_t>(teacher.taught.size(), 20));
    const uint64_t of = teacher.taught[teacher.taught.size() - back];
    return teacher.Again({of}, below(10, 3) == 0 ? 0 : 1, user(1));
  }
  if (dice < 60) {
    return teacher.Thumb(1, user(1),
                         {{user(2)}, {"d" + user(3)}, {NameOf("/s", user(7) + user(8))}});
  }
  if (dice < 75) return teacher(Ask("a"));
  if (dice < 80) return teacher.Command(Action::kRollback);
  if (dice < 88) {
    return teacher.Command(Action::kRollback, static_cast<Version>(below(4, teacher.next / 2 + 1)));
  }
  if (dice < 90) return teacher.Command(Action::kImport);
  if (dice < 92) return teacher.Command(Action::kReset);
  if (dice < 94) return teacher(Forget{"", "", false, user(5) + user(6), "/s"});
  if (dice < 97) return teacher(Forget{user(5), ""});
  return teacher(Forget{"", "d" + user(6)});
}

}  // namespace

BOOST_AUTO_TEST_CASE(going_on_from_a_saved_state_gives_the_same_results) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const AdaptOptions options{.publish_every_steps = static_cast<uint32_t>(seed % 3 + 1),
                               .snapshot_every_versions = 2,
                               .versions_kept = 3,
                               .user_window_events = 8,
                               .lead_lessons = 3,
                               .lessons_per_tenant = 30,
                               .relearn_lessons_per_event = 2,
                               .replace_lessons_max = 6};
    Teacher straight(options), broken(options);
    Store store;
    const auto save = [&] {
      Changes changes;
      broken.lineage.Save("acme", changes);
      store.Apply(changes);
    };
    for (uint64_t i = 0; i < 3000; ++i) {
      const std::string expected = Random(straight, seed, i);
      BOOST_REQUIRE_EQUAL(Random(broken, seed, i), expected);
      BOOST_REQUIRE_EQUAL(broken.Path(), straight.Path());
      if (i % 10 == 0) BOOST_REQUIRE_EQUAL(Standings(broken.lineage), Standings(straight.lineage));
      BOOST_REQUIRE((broken.dropped == straight.dropped));
      if (RandomAt(seed, i) % 20 != 0) continue;
      save();
      broken.lineage = {};
      store.ForEach([&](const Change& entry) {
        BOOST_REQUIRE_MESSAGE(broken.lineage.Load(entry).ok(), entry.kind << " " << entry.id);
      });
    }
    BOOST_TEST(straight.next == 3000U);
  }
}

BOOST_AUTO_TEST_CASE(damaged_state_is_refused) {
  Teacher teacher({.snapshot_every_versions = 1});
  teacher.Thumb(1, "ada", {{"bob"}, {"handbook"}, {NameOf("/s", "e")}});
  teacher.Thumb(1, "cyd");
  teacher(Forget{"cyd", ""});
  Changes changes;
  teacher.lineage.Save("acme", changes);
  BOOST_TEST(changes.size() == 4U);
  for (const Change& entry : changes) {
    for (const std::optional<std::string>& damaged :
         {std::optional(entry.value->substr(0, entry.value->size() - 1)),
          std::optional(*entry.value + "x"), std::optional<std::string>()}) {
      Lineage fresh;
      BOOST_TEST(!fresh.Load({entry.tenant, entry.kind, entry.id, damaged}).ok(), entry.kind);
    }
  }
  changes.clear();
  teacher.lineage.Save("acme", changes);
  BOOST_TEST(changes.empty());
}
