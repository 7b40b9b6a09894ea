// labels: unit
// Users with adapters of their own (adapt.scope): recall, adapt and respond in a row, and what they
// plan for whom.
#include <boost/test/unit_test.hpp>

#include "stages/adapt.h"
#include "stages/recall.h"
#include "stages/respond.h"
#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

using Action = AdapterCommand::Action;

namespace {

ChatFormat Roomy() {
  return {[](const std::vector<ChatMessage>& chat) { return chat.size(); }, 4000};
}

AdaptOptions ByUser() {
  AdaptOptions options;
  options.scope = "user";
  options.users_per_tenant_max = 3;
  return options;
}

// One tenant, acme, in partition 2.
class House {
 public:
  explicit House(AdaptOptions options = ByUser())
      : recall_({.adapters_by_user = options.is_by_user()}),
        adapt_(options),
        respond_(Roomy(), {}, options) {}

  Result<Plan> Try(const std::string& user, decltype(Event::data) data,
                   const std::string& document = {}) {
    const Sequence at = Sequence::Of(2, next_++);
    const std::string id = "e" + std::to_string(at.ordinal());
    const Result<Resolved> resolved =
        recall_.Apply(at, Prepare(MakeEvent(id, std::move(data), "acme", user)));
    if (!resolved.ok()) return resolved.error();
    Found found;
    if (!document.empty()) {
      found.passages.emplace_back().document_id = document;
      found.passages.back().text = "The text of " + document + ".";
    }
    Chosen chosen;
    chosen.prompt_id = "default";
    chosen.decoding_name = "greedy";
    const Gathered gathered{std::make_shared<Resolved>(*resolved),
                            std::make_shared<Found>(std::move(found)),
                            std::make_shared<Admission>(*adapt_.Apply(at, *resolved)),
                            std::make_shared<Chosen>(std::move(chosen))};
    return respond_.Apply(at, {}, gathered);
  }
  Plan operator()(const std::string& user, decltype(Event::data) data,
                  const std::string& document = {}) {
    Result<Plan> plan = Try(user, std::move(data), document);
    BOOST_REQUIRE_MESSAGE(plan.ok(), (plan.ok() ? "" : plan.error().message));
    return *std::move(plan);
  }
  std::string Receipt(const std::string& user, decltype(Event::data) data) {
    return std::get<Applied>((*this)(user, std::move(data)).outcome.what).summary;
  }
  std::string Refusal(const std::string& user, decltype(Event::data) data) {
    const Result<Plan> plan = Try(user, std::move(data));
    BOOST_REQUIRE(!plan.ok());
    BOOST_TEST((plan.error().code == Code::kInvalidEvent));
    BOOST_TEST(!plan.error().remedy.empty());
    return plan.error().message;
  }

  // The version that answers this user now.
  Version Serves(const std::string& user) {
    const Plan plan = (*this)(user, Ask("who answers, " + std::to_string(next_) + "?"));
    BOOST_REQUIRE(plan.generate.has_value());
    BOOST_TEST(std::get<Response>(plan.outcome.what).adapter_version == plan.generate->adapter);
    return plan.generate->adapter;
  }
  // The id of the question.
  std::string AskAbout(const std::string& user, const std::string& document) {
    (*this)(user, Ask("what of " + document + ", " + std::to_string(next_) + "?"), document);
    return "e" + std::to_string(next_ - 1);
  }
  void SaveTo(Store& store) {
    store.SaveFrom(adapt_, 2);
    store.SaveFrom(respond_, 2);
  }
  Store Saved() {
    Store store;
    SaveTo(store);
    return store;
  }

 private:
  Recall recall_;
  Adapt adapt_;
  Respond respond_;
  uint64_t next_ = 0;
};

// Of another answer each.
Feedback Inline(const std::string& correction) {
  Feedback feedback;
  feedback.inline_answer = Feedback::Inline{"What?", "Not: " + correction};
  feedback.correction = correction;
  return feedback;
}

Feedback Up(const std::string& query_id) {
  Feedback feedback = About(query_id);
  feedback.rating = 1;
  return feedback;
}

AdapterCommand Command(Action action, const std::string& user = {},
                       std::optional<Version> version = {}) {
  return {action, version, action == Action::kImport ? "house.gguf" : "", "", user};
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_a_user_teaches_answers_that_user_alone) {
  House house;
  BOOST_TEST(house.Serves("ada") == 0U);
  const Plan plan = house("ada", Inline("This."));
  BOOST_REQUIRE_EQUAL(plan.lessons.size(), 1U);
  BOOST_TEST(plan.lessons.front().learner == "ada");
  BOOST_TEST(house.Serves("ada") == 1U);
  BOOST_TEST(house.Serves("bob") == 0U);
  BOOST_TEST(house.Serves("") == 0U);
  // Versions and steps have one count: each names one adapter.
  const Plan of_bob = house("bob", Inline("No, this."));
  BOOST_TEST(of_bob.lessons.front().parent == 0U);
  BOOST_TEST(of_bob.lessons.front().step.number == 2U);
  BOOST_TEST(house.Serves("bob") == 2U);
  BOOST_TEST(house.Serves("ada") == 1U);
  house("ada", ExampleGiven{"How?", "So."});
  BOOST_TEST(house.Serves("ada") == 3U);
  BOOST_TEST(house.Serves("bob") == 2U);
  BOOST_TEST(house.Serves("eve") == 0U);
}

BOOST_AUTO_TEST_CASE(in_scope_tenant_one_lineage_answers_everybody) {
  House house{AdaptOptions()};
  const Plan plan = house("ada", Inline("This."));
  BOOST_TEST(plan.lessons.front().learner.empty());
  for (const std::string user : {"ada", "bob", ""}) BOOST_TEST(house.Serves(user) == 1U);
}

BOOST_AUTO_TEST_CASE(nobody_in_particular_teaches_nobody) {
  House house;
  const Plan plan = house("", Inline("This."));
  BOOST_TEST(plan.lessons.empty());
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "no training step: it names no user, and users teach adapters of their own "
             "(adapt.scope)");
}

BOOST_AUTO_TEST_CASE(an_answer_to_another_users_question_teaches_nothing) {
  House house;
  house("ada", Inline("This."));
  const std::string question = house.AskAbout("ada", "leave");
  BOOST_TEST(house.Receipt("bob", Up(question)) ==
             "nothing to learn: the question is another user's, and users teach adapters of their "
             "own (adapt.scope)");
  BOOST_TEST(house.Serves("bob") == 0U);
  BOOST_TEST(house("ada", Up(question)).lessons.front().learner == "ada");
  // Nobody's question was answered by the base model.
  BOOST_TEST(house("bob", Up(house.AskAbout("", "leave"))).lessons.front().learner == "bob");
}

BOOST_AUTO_TEST_CASE(nobodys_adapter_is_given_up_for_one_user_too_many) {
  House house;
  for (const std::string user : {"ada", "bob", "cid"}) house(user, Inline("I am " + user + "."));
  const std::string full =
      "3 users of this tenant have adapters of their own, as many as adapt.users_per_tenant_max "
      "allows; nobody's is given up for another's";
  BOOST_TEST(house.Receipt("dan", Inline("This.")) == "no training step: " + full);
  BOOST_TEST(house.Receipt("", Command(Action::kImport, "dan")) == "nothing imported: " + full);
  BOOST_TEST(house.Serves("dan") == 0U);
  BOOST_TEST(house.Serves("ada") == 1U);
  BOOST_TEST(!house("ada", Inline("And this.")).lessons.empty());
  // Somebody who is forgotten makes room, and their version's number is never another's.
  house("", Forget{"cid", ""});
  BOOST_TEST(!house("dan", Inline("This.")).lessons.empty());
  BOOST_TEST(house.Serves("dan") == 5U);
  BOOST_TEST(house.Receipt("cid", Inline("Again.")) == "no training step: " + full);
}

BOOST_AUTO_TEST_CASE(an_answer_is_given_again_to_whom_it_was_given) {
  House house;
  const auto why = [&](const std::string& user) {
    return std::get<Response>(house(user, Ask("How many?")).outcome.what).cache_why;
  };
  const std::string hit = "exact text, same passages, prompt and adapter";
  const std::string first = "first time asked with this user's adapter";
  BOOST_TEST(why("eve") == "first time asked");
  BOOST_TEST(why("dan") == hit);  // both by the base model
  house("ada", Inline("This."));
  house("bob", Inline("That."));
  BOOST_TEST(why("ada") == first);
  BOOST_TEST(why("bob") == first);  // and nothing of ada's version
  BOOST_TEST(why("eve") == hit);
  BOOST_TEST(why("ada") == hit);
  BOOST_TEST(why("bob") == hit);
  const Plan of_ada = house("ada", Ask("How many?"));
  const Plan of_bob = house("bob", Ask("How many?"));
  BOOST_REQUIRE((of_ada.answer_of && of_bob.answer_of));
  BOOST_TEST((*of_ada.answer_of != *of_bob.answer_of));
  // Also where both have gone back to the base model.
  house("", Command(Action::kReset));
  BOOST_TEST(why("ada") == "adapter 1 -> 0");
}

BOOST_AUTO_TEST_CASE(a_users_own_events_decide_when_a_rebuilt_version_takes_over) {
  AdaptOptions options = ByUser();
  options.relearn_lessons_per_event = 2;
  House house(options);
  const std::string question = house.AskAbout("ada", "leave");
  house("ada", Up(question));
  for (int i = 0; i < 6; ++i) house("ada", Inline("No. " + std::to_string(i)));
  const std::string told = house.Receipt("", Forget{"", "leave"});
  BOOST_TEST(told.find("learns 6 lessons again and makes version 8, which serves after 3 further "
                       "events, the base model until then") != std::string::npos,
             told);
  for (int i = 0; i < 5; ++i) BOOST_TEST(house.Serves("bob") == 0U);
  for (int i = 0; i < 3; ++i) BOOST_TEST(house.Serves("ada") == 0U);
  BOOST_TEST(house.Serves("ada") == 8U);
}

BOOST_AUTO_TEST_CASE(a_forgotten_document_changes_each_adapter_that_learnt_of_it) {
  House house;
  for (const std::string user : {"ada", "bob"}) {
    const std::string question = house.AskAbout(user, "leave");
    house(user, Inline("I am " + user + "."));
    house(user, Up(question));
  }
  house("cid", Inline("This."));
  const Plan plan = house("", Forget{"", "leave"});
  BOOST_REQUIRE_EQUAL(plan.lessons.size(), 2U);
  BOOST_TEST(plan.lessons[0].learner == "ada");
  BOOST_TEST(plan.lessons[1].learner == "bob");
  BOOST_TEST(plan.lessons[0].dropped.size() == 1U);
  BOOST_TEST(plan.lessons[1].dropped.size() == 1U);
  const auto& applied = std::get<Applied>(plan.outcome.what);
  BOOST_TEST(!applied.step.has_value());
  BOOST_TEST(applied.summary.find("2 lessons; 2 adapters of users: 0 lessons learnt again") !=
                 std::string::npos,
             applied.summary);
  BOOST_TEST((plan.versions_dropped == std::vector<Version>{2, 4}));
  BOOST_TEST(house.Serves("ada") == 1U);
  BOOST_TEST(house.Serves("bob") == 3U);
  BOOST_TEST(house.Serves("cid") == 5U);
}

BOOST_AUTO_TEST_CASE(of_a_forgotten_user_no_lineage_is_left) {
  AdaptOptions options = ByUser();
  options.snapshot_every_versions = 1;
  House house(options);
  for (int i = 0; i < 3; ++i) house("ada", Inline("No. " + std::to_string(i)));
  house("bob", Inline("This."));
  const Plan plan = house("", Forget{"ada", ""});
  BOOST_REQUIRE_EQUAL(plan.lessons.size(), 1U);
  BOOST_TEST(plan.lessons.front().learner == "ada");
  BOOST_TEST(plan.lessons.front().ends_learner);
  BOOST_TEST(plan.lessons.front().dropped.size() == 3U);
  BOOST_TEST((plan.versions_dropped == std::vector<Version>{1, 2, 3}));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "forgot user ada: 0 examples, 0 query records, 0 cached answers, 3 lessons; the "
             "adapter of their own is gone; no longer kept: 1, 2, 3; snapshots that may still hold "
             "it, to be deleted: 1, 2, 3");
  BOOST_TEST(house.Serves("ada") == 0U);
  BOOST_TEST(house.Serves("bob") == 4U);
  house.Saved().ForEach([](const Change& row) {
    const bool is_lineages = Lineages::IsKind(row.kind);
    BOOST_TEST((!is_lineages || row.id.find("ada") == std::string::npos), row.kind << row.id);
  });
  // Whoever comes again begins anew.
  house("ada", Inline("Again."));
  BOOST_TEST(house.Serves("ada") == 5U);
}

BOOST_AUTO_TEST_CASE(rows_of_a_forgotten_user_leave_the_state) {
  House house;
  Store store;
  const auto rows_of_ada = [&] {
    size_t count = 0;
    store.ForEach([&](const Change& row) { count += row.id.ends_with("@ada") ? 1 : 0; });
    return count;
  };
  house("ada", Inline("This."));
  house("bob", Inline("That."));
  house.SaveTo(store);
  BOOST_TEST(rows_of_ada() == 3U);  // head, lesson, version
  house("", Forget{"ada", ""});
  house.SaveTo(store);
  BOOST_TEST(rows_of_ada() == 0U);
  // Forgotten and back between two saves.
  house("ada", Inline("Again."));
  house.SaveTo(store);
  house("", Forget{"ada", ""});
  house("ada", Inline("Once more."));
  house.SaveTo(store);
  BOOST_TEST(rows_of_ada() == 3U);
  BOOST_TEST(house.Serves("ada") == 4U);
}

BOOST_AUTO_TEST_CASE(a_reset_without_a_user_is_of_all) {
  House house;
  BOOST_TEST(house.Receipt("", Command(Action::kReset)) ==
             "nothing reset: no user has an adapter of their own");
  house("bob", Inline("This."));
  house("ada", Inline("This."));
  BOOST_TEST(house.Receipt("", Command(Action::kReset, "eve")) ==
             "nothing reset: user eve has no adapter of their own");
  BOOST_TEST(house.Receipt("eve", Command(Action::kReset, "ada")) == "reset to the base model");
  BOOST_TEST(house.Serves("ada") == 0U);
  BOOST_TEST(house.Serves("bob") == 1U);
  const Plan plan = house("", Command(Action::kReset));
  BOOST_REQUIRE_EQUAL(plan.lessons.size(), 2U);
  BOOST_TEST(plan.lessons[0].learner == "ada");
  BOOST_TEST(plan.lessons[0].step.number == 4U);
  BOOST_TEST(plan.lessons[1].learner == "bob");
  BOOST_TEST(plan.lessons[1].step.number == 5U);
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "reset to the base model: the adapters of 2 users");
  BOOST_TEST(house.Serves("bob") == 0U);
}

BOOST_AUTO_TEST_CASE(a_rollback_is_of_the_named_users_adapter) {
  House house;
  for (int i = 0; i < 2; ++i) house("ada", Inline("No. " + std::to_string(i)));
  house("bob", Inline("This."));
  BOOST_TEST(house.Receipt("", Command(Action::kRollback, "bob", 1)) ==
             "nothing rolled back: version 1 is not kept");  // it is ada's
  BOOST_TEST(house.Receipt("", Command(Action::kRollback, "eve")) ==
             "nothing rolled back: user eve has no adapter of their own");
  BOOST_TEST(house.Receipt("", Command(Action::kRollback, "ada")) == "rolled back to version 1");
  BOOST_TEST(house.Serves("ada") == 1U);
  BOOST_TEST(house.Serves("bob") == 3U);
  const Plan import = house("", Command(Action::kImport, "eve"));
  BOOST_TEST(import.lessons.front().learner == "eve");
  BOOST_TEST(import.waits_for_lessons);
  BOOST_TEST(house.Serves("eve") == 4U);
}

BOOST_AUTO_TEST_CASE(frozen_users_teach_nothing) {
  House house;
  house("ada", Inline("This."));
  BOOST_TEST(house.Receipt("", Command(Action::kFreeze)) == "the users' adapters are frozen");
  BOOST_TEST(house.Receipt("ada", Inline("That.")) == "no training step: adapter frozen");
  BOOST_TEST(house.Receipt("", Command(Action::kUnfreeze)) == "the users' adapters learn on");
  BOOST_TEST(!house("ada", Inline("Those.")).lessons.empty());
}

BOOST_AUTO_TEST_CASE(commands_name_a_user_where_users_have_adapters_and_only_there) {
  House house;
  BOOST_TEST(house.Refusal("ada", Command(Action::kRollback)) ==
             "data.user: missing: a rollback is of one user's adapter where adapt.scope is user");
  BOOST_TEST(house.Refusal("ada", Command(Action::kImport)) ==
             "data.user: missing: an import is of one user's adapter where adapt.scope is user");
  House of_tenant{AdaptOptions()};
  BOOST_TEST(of_tenant.Refusal("ada", Command(Action::kReset, "ada")) ==
             "data.user: user 'ada' has no adapter of their own: adapt.scope is tenant");
}

BOOST_AUTO_TEST_CASE(a_user_takes_back_what_they_taught_their_own_adapter) {
  House house;
  house("ada", Inline("This."));
  Feedback back = Inline("This.");
  back.correction.reset();
  back.takes_back = true;
  BOOST_TEST(house.Receipt("bob", back).starts_with("nothing to take back"));
  BOOST_TEST(house.Serves("ada") == 1U);
  BOOST_TEST(house.Receipt("ada", back).starts_with("takes back e0's lesson: unlearnt at once"));
  BOOST_TEST(house.Serves("ada") == 0U);
}

BOOST_AUTO_TEST_CASE(lessons_are_kept_and_trimmed_by_lineage) {
  AdaptOptions options = ByUser();
  options.lessons_per_tenant = 2;
  options.user_window_events = 4;
  options.lead_lessons = 1;
  House house(options);
  house("bob", Inline("This."));
  // Alone with their adapter, nobody has more than their share.
  for (int i = 0; i < 6; ++i) {
    BOOST_TEST(!house("ada", Inline("No. " + std::to_string(i))).lessons.empty());
  }
  BOOST_TEST(house.Saved().Count(Lineage::kPlaceKind) == 3U);  // two of ada, one of bob
}
