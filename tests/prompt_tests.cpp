// labels: unit
#include "stages/prompt.h"

#include <boost/test/unit_test.hpp>

#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

namespace {

const Decoding kWarm{0.7, 0.9, 40, 64};

PromptOptions TwoPresets(double gamma = 20) {
  PromptOptions options;
  options.presets = {{"greedy", {}}, {"warm", kWarm}};
  options.gamma = gamma;
  return options;
}

PromptOptions Shots(double min_similarity = 0.3) {
  PromptOptions options;
  options.few_shot_min_similarity = min_similarity;
  options.few_shot_weight = 0.2;
  return options;
}

struct Policy {
  explicit Policy(PromptOptions options = {}) : prompt(std::move(options)) {}

  Chosen operator()(decltype(Event::data) data, const std::string& user = "ada") {
    last = Sequence::Of(0, next++);
    const Event event = MakeEvent("e" + std::to_string(last.value), std::move(data), "acme", user);
    return *prompt.Apply(last, *Resolve(event));
  }
  Chosen Feed(Sequence about, double rating, std::optional<std::string> correction = {}) {
    Feedback feedback = About("q");
    feedback.rating = rating;
    feedback.correction = std::move(correction);
    return Say(about, feedback, {});
  }
  // After what the same user said before.
  Chosen Say(Sequence about, Feedback feedback, std::vector<Sequence> earlier,
             Unheard unheard = Unheard::kNo) {
    last = Sequence::Of(0, next++);
    Resolved resolved = *Resolve(MakeEvent("f", std::move(feedback)), about);
    resolved.earlier = std::move(earlier);
    resolved.unheard = unheard;
    return *prompt.Apply(last, resolved);
  }

  Prompt prompt;
  uint64_t next = 0;
  Sequence last;
};

std::string Describe(const Result<Chosen>& result) {
  if (!result.ok()) return std::string(Name(result.error().code));
  const Chosen& chosen = *result;
  std::string text =
      chosen.prompt_id + " " + std::to_string(chosen.prompt_version) + " " + chosen.system + " " +
      chosen.decoding_name + " " + std::to_string(chosen.decoding.temperature) + " " +
      std::to_string(chosen.decoding.max_tokens) + " " + std::to_string(chosen.propensity * 1e9) +
      " " + chosen.note + " " + std::to_string(chosen.prompts_changed) + " " +
      std::to_string(chosen.examples_changed);
  for (const FewShot& shot : chosen.shots) text += " | " + shot.query + " " + shot.answer;
  return text;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_query_gets_the_default_prompt_and_its_only_decoding) {
  Policy policy;
  const Chosen chosen = policy(Ask("a"));
  BOOST_TEST(chosen.prompt_id == "default");
  BOOST_TEST(chosen.prompt_version == 1U);
  BOOST_TEST(chosen.system == PromptOptions{}.default_system);
  BOOST_TEST(chosen.decoding_name == "greedy");
  BOOST_TEST(chosen.decoding.temperature == 0);
  BOOST_TEST(chosen.propensity == 1);
}

BOOST_AUTO_TEST_CASE(options_go_before_the_named_prompt_and_that_before_the_policy) {
  PromptOptions configuration = TwoPresets(0);
  Policy policy(configuration);
  policy(PromptUpsert{"friendly", "be friendly", Decoding{0.4, 0.8, 0, 50}});
  QueryOptions options;
  options.prompt_id = "friendly";
  Chosen chosen = policy(Ask("a", options));
  BOOST_TEST(chosen.prompt_id == "friendly");
  BOOST_TEST(chosen.system == "be friendly");
  BOOST_TEST(chosen.decoding_name == "own");
  BOOST_TEST((chosen.decoding == Decoding{0.4, 0.8, 0, 50}));
  options.temperature = 0;
  options.max_tokens = 9;
  chosen = policy(Ask("a", options));
  BOOST_TEST(chosen.prompt_id == "friendly");
  BOOST_TEST((chosen.decoding == Decoding{0, 0.8, 0, 9}));
  options.prompt_id.reset();
  chosen = policy(Ask("a", options));
  BOOST_TEST(chosen.prompt_id == "default");
  BOOST_TEST((chosen.decoding == Decoding{0, 1, 0, 9}));
}

BOOST_AUTO_TEST_CASE(a_prompt_that_recall_should_have_refused_is_refused_without_a_trace) {
  Policy policy;
  policy(Ask("a"));
  Changes changes;
  policy.prompt.Save(0, changes);
  changes.clear();
  const Result<Chosen> chosen =
      policy.prompt.Apply({7}, *Resolve(MakeEvent("e", AskPrompt("a", "nobody"))));
  BOOST_REQUIRE(!chosen.ok());
  BOOST_TEST((chosen.error().code == Code::kUnknownPrompt));
  policy.prompt.Save(0, changes);
  BOOST_TEST(changes.empty());
}

BOOST_AUTO_TEST_CASE(the_logged_propensity_is_inverse_gap_weighting_and_the_draws_follow_it) {
  Policy policy(TwoPresets(6));
  std::map<std::string, int> drawn;
  // One reward of 1 for warm: mean (2 * .5 + 1) / 3 = 2/3 against .5.
  while (policy(Ask("a")).decoding_name != "warm") {
  }
  policy.Feed(policy.last, 1);
  const double of_other = 1 / (2 + 6 * (2.0 / 3 - 0.5));
  for (int i = 0; i < 4000; ++i) {
    const Chosen chosen = policy(Ask("a"));
    ++drawn[chosen.decoding_name];
    BOOST_TEST(chosen.propensity == (chosen.decoding_name == "greedy" ? of_other : 1 - of_other),
               boost::test_tools::tolerance(1e-12));
  }
  BOOST_TEST(std::abs(drawn["greedy"] / 4000.0 - of_other) < 0.03);
}

BOOST_AUTO_TEST_CASE(
    without_exploration_the_best_arm_is_certain_and_the_default_the_first_of_equals) {
  Policy policy(TwoPresets(0));
  policy(PromptUpsert{"a", "first by name", {}});
  Chosen chosen = policy(Ask("a"));
  BOOST_TEST(chosen.prompt_id == "default");
  BOOST_TEST(chosen.decoding_name == "greedy");
  BOOST_TEST(chosen.propensity == 1);
  policy.Feed(policy.last, -1);
  chosen = policy(Ask("a"));
  BOOST_TEST(chosen.decoding_name == "warm");
  policy.Feed(policy.last, -1);
  BOOST_TEST(policy(Ask("a")).prompt_id == "a");
}

BOOST_AUTO_TEST_CASE(the_draw_belongs_to_the_event_and_not_to_what_came_before) {
  Policy one(TwoPresets());
  Policy two(TwoPresets());
  for (int i = 0; i < 30; ++i) two(Ask("something else"), "bob");
  for (int i = 0; i < 50; ++i) {
    const auto resolved = Resolve(MakeEvent("q" + std::to_string(i), Ask("a")));
    BOOST_TEST(one.prompt.Apply(Sequence::Of(0, 100), *resolved)->decoding_name ==
               two.prompt.Apply(Sequence::Of(0, 200), *resolved)->decoding_name);
  }
}

BOOST_AUTO_TEST_CASE(late_feedback_is_credited_to_the_arm_that_the_query_got) {
  Policy policy(TwoPresets(0));
  policy(Ask("a"));
  const Sequence query = policy.last;
  for (int i = 0; i < 10; ++i) policy(Ask("b"));
  BOOST_TEST(policy.Feed(query, 1).note == "credited to default/greedy (mean 0.67)");
  BOOST_TEST(policy.Feed(query, 0.5).note == "credited to default/greedy (mean 0.69)");
  BOOST_TEST(policy.Feed(query, 0).note == "");
  BOOST_TEST(policy.Feed(query, 0, "it is 3").note == "credited to default/greedy (mean 0.55)");
}

BOOST_AUTO_TEST_CASE(a_later_word_takes_the_place_of_the_earlier_reward) {
  PromptOptions options = TwoPresets(0);
  options.reward_decay = 0.5;
  Policy policy(options), other(options);
  const auto say = [](double rating) {
    Feedback feedback = About("q");
    feedback.rating = rating;
    return feedback;
  };
  for (Policy* each : {&policy, &other}) (*each)(Ask("a"));
  const Sequence query = policy.last;
  policy.Say(query, say(1), {});
  const Sequence first = policy.last;
  policy.Say(query, say(0.5), {});  // of somebody else
  BOOST_TEST(policy.Say(query, say(-1), {first}).note ==
             "credited in place of the earlier word to default/greedy (mean 0.50)");
  other.Say(query, say(-1), {});
  other.Say(query, say(0.5), {});
  BOOST_TEST(other.Say(query, say(0.2), {}).note == policy.Say(query, say(0.2), {}).note);

  // Taken back it is as if only the others had spoken.
  Policy none(options);
  none(Ask("a"));
  none.Say(query, say(0.5), {});
  none.Say(query, say(0.2), {});
  Feedback back = About("q");
  back.takes_back = true;
  BOOST_TEST(policy.Say(query, back, {first}).note.starts_with("no longer credited to "));
  BOOST_TEST(policy.Say(query, back, {first}).note == "");
  BOOST_TEST(policy.Say(query, say(1), {}).note == none.Say(query, say(1), {}).note);
  BOOST_TEST(policy.Say(query, say(-1), {first}, Unheard::kOneTooMany).note == "");
}

BOOST_AUTO_TEST_CASE(a_later_word_rewards_the_examples_anew) {
  Policy policy(Shots());
  policy(ExampleGiven{"chairs in the hall", "forty"});
  policy(ExampleGiven{"chairs in the hall now", "fifty"});
  const Chosen answer = policy(Ask("chairs in the hall"));
  const Sequence query = policy.last;
  BOOST_REQUIRE(answer.shots.size() == 2U);
  Store before, after;
  before.SaveFrom(policy.prompt, 0);
  policy.Feed(query, 1);
  const Sequence first = policy.last;
  Feedback back = About("q");
  back.takes_back = true;
  policy.Say(query, back, {first});
  after = before;
  after.SaveFrom(policy.prompt, 0);
  BOOST_TEST((after.Only({"few_shot"}) == before.Only({"few_shot"})));
  BOOST_TEST(after.Count("prompt_credit") == 0U);
}

BOOST_AUTO_TEST_CASE(a_mean_forgets_its_past) {
  PromptOptions options = TwoPresets(0);
  options.reward_decay = 0.5;
  Policy policy(options);
  policy(Ask("a"));
  const Sequence query = policy.last;
  for (int i = 0; i < 50; ++i) policy.Feed(query, 1);
  // Of 50 rewards two are left in weight: (2 * .5 + 2) / 4, then 1 and the new one.
  BOOST_TEST(policy.Feed(query, -1).note == "credited to default/greedy (mean 0.50)");
}

BOOST_AUTO_TEST_CASE(no_arm_is_credited_where_none_was_chosen_or_it_is_gone) {
  PromptOptions options;
  options.decisions_per_tenant = 3;
  Policy policy(options);
  QueryOptions temperature;
  temperature.temperature = 0.9;
  policy(Ask("a", temperature));
  BOOST_TEST(policy.Feed(policy.last, 1).note ==
             "no arm credited: the query set its own temperature");
  policy(Ask("a"));
  const Sequence query = policy.last;
  policy(PromptUpsert{"default", "anew", {}});
  BOOST_TEST(policy.Feed(query, 1).note ==
             "no arm credited: prompt default version 1 has been replaced");
  for (int i = 0; i < 3; ++i) policy(Ask("a"));
  BOOST_TEST(policy.Feed(query, 1).note == "no arm credited: the decision is no longer on record");
}

BOOST_AUTO_TEST_CASE(an_upsert_makes_a_version_with_a_fresh_arm_unless_nothing_changes) {
  Policy policy;
  Chosen chosen = policy(PromptUpsert{"friendly", "be friendly", {}});
  BOOST_TEST(chosen.prompt_version == 1U);
  BOOST_TEST(chosen.prompts_changed == 1U);
  policy(AskPrompt("a", "friendly"));
  policy.Feed(policy.last, 1);
  chosen = policy(PromptUpsert{"friendly", "be friendly", {}});
  BOOST_TEST(chosen.prompt_version == 1U);
  BOOST_TEST(chosen.prompts_changed == 0U);
  BOOST_TEST(chosen.note == "unchanged");
  policy(AskPrompt("a", "friendly"));
  BOOST_TEST(policy.Feed(policy.last, 1).note == "credited to friendly/greedy (mean 0.75)");
  BOOST_TEST(policy(PromptUpsert{"friendly", "be kind", {}}).prompt_version == 2U);
  policy(AskPrompt("a", "friendly"));
  BOOST_TEST(policy.Feed(policy.last, 1).note == "credited to friendly/greedy (mean 0.67)");
  BOOST_TEST(policy(PromptUpsert{"friendly", "be kind", kWarm}).prompt_version == 3U);
  BOOST_TEST(policy(PromptUpsert{"default", "anew", {}}).prompt_version == 2U);
  BOOST_TEST(policy(AskPrompt("a", "default")).system == "anew");
}

BOOST_AUTO_TEST_CASE(a_deleted_prompt_is_no_arm_and_its_version_numbers_stay_used) {
  Policy policy(TwoPresets(0));
  policy(PromptUpsert{"friendly", "be friendly", {}});
  policy(PromptUpsert{"friendly", "be kind", {}});
  Chosen chosen = policy(PromptDelete{"friendly"});
  BOOST_TEST(chosen.prompts_changed == 1U);
  BOOST_TEST(chosen.prompt_version == 2U);
  for (int i = 0; i < 8; ++i) {
    BOOST_TEST(policy(Ask("a")).prompt_id == "default");
    policy.Feed(policy.last, -1);
  }
  chosen = policy(PromptDelete{"friendly"});
  BOOST_TEST(chosen.prompts_changed == 0U);
  BOOST_TEST(chosen.note == "there is no such prompt");
  BOOST_TEST(policy(PromptUpsert{"friendly", "be friendly", {}}).prompt_version == 3U);
}

BOOST_AUTO_TEST_CASE(the_default_prompt_cannot_be_deleted) {
  Policy policy;
  const Chosen chosen = policy(PromptDelete{"default"});
  BOOST_TEST(chosen.prompts_changed == 0U);
  BOOST_TEST(chosen.note == "the default prompt cannot be deleted, only replaced");
  BOOST_TEST(policy(Ask("a")).prompt_id == "default");
}

BOOST_AUTO_TEST_CASE(the_most_similar_examples_are_shown_best_first) {
  Policy policy(Shots());
  policy(ExampleGiven{"how many tables are in the hall", "ten"});
  policy(ExampleGiven{"how many chairs are in the hall", "forty"});
  policy(ExampleGiven{"who leads sales", "eve"});
  const Chosen chosen = policy(Ask("how many chairs are in the garden"));
  BOOST_REQUIRE(chosen.shots.size() == 2U);
  BOOST_TEST(chosen.shots[0].answer == "forty");
  BOOST_TEST(chosen.shots[1].answer == "ten");
  BOOST_TEST(policy(Ask("what is nudge")).shots.empty());
}

BOOST_AUTO_TEST_CASE(of_equally_similar_examples_the_oldest_is_shown_until_another_proves_helpful) {
  PromptOptions options = Shots();
  options.few_shots = 1;
  Policy policy(options);
  const auto same_vector = [&](const std::string& question, const std::string& answer) {
    auto prepared = Prepare(MakeEvent("x", ExampleGiven{question, answer}));
    prepared->query_vector = VectorOf("chairs in the hall");
    BOOST_REQUIRE(policy.prompt.Apply(Sequence::Of(0, policy.next++), {prepared, {}, {}}).ok());
  };
  same_vector("one", "first");
  same_vector("two", "second");
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.at(0).answer == "first");
  policy.Feed(policy.last, -1);
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.at(0).answer == "second");
  policy.Feed(policy.last, -1);
  policy.Feed(policy.last, -1);
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.at(0).answer == "first");
}

BOOST_AUTO_TEST_CASE(an_example_that_does_harm_drops_out) {
  PromptOptions options = Shots(0.95);
  Policy policy(options);
  policy(ExampleGiven{"chairs in the hall", "forty"});
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.size() == 1U);
  policy.Feed(policy.last, -1);
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.empty());
}

BOOST_AUTO_TEST_CASE(a_newer_answer_to_the_same_question_replaces_the_older) {
  Policy policy(Shots());
  policy(ExampleGiven{"chairs in the hall", "forty"});
  const Chosen chosen = policy(ExampleGiven{"chairs in the hall", "fifty"});
  BOOST_TEST(chosen.note == "replaces the earlier example to this question");
  const Chosen answer = policy(Ask("chairs in the hall"));
  BOOST_REQUIRE(answer.shots.size() == 1U);
  BOOST_TEST(answer.shots[0].answer == "fifty");
}

BOOST_AUTO_TEST_CASE(beyond_the_limit_the_least_helpful_example_goes) {
  PromptOptions options = Shots(0.9);
  options.examples_per_tenant = 2;
  Policy policy(options);
  policy(ExampleGiven{"chairs in the hall", "forty"});
  policy(ExampleGiven{"who leads sales", "eve"});
  policy(Ask("chairs in the hall"));
  policy.Feed(policy.last, 1);
  const Chosen chosen = policy(ExampleGiven{"capital of france", "paris"});
  BOOST_TEST(chosen.examples_changed == 2U);
  BOOST_TEST(chosen.note == "the least helpful example made room");
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.size() == 1U);
  BOOST_TEST(policy(Ask("who leads sales")).shots.empty());
  BOOST_TEST(policy(Ask("capital of france")).shots.size() == 1U);
}

BOOST_AUTO_TEST_CASE(without_embeddings_there_are_no_few_shots) {
  Policy policy(Shots(-1));
  auto example = Prepare(MakeEvent("x", ExampleGiven{"a", "b"}));
  example->query_vector.clear();
  const Result<Chosen> kept = policy.prompt.Apply({1}, {example, {}, {}});
  BOOST_TEST(kept->examples_changed == 0U);
  BOOST_TEST(kept->note == "not kept as a few-shot: there is no embedding");
  policy(ExampleGiven{"a", "b"});
  auto query = Prepare(MakeEvent("q", Ask("a")));
  query->query_vector.clear();
  BOOST_TEST(policy.prompt.Apply({2}, {query, {}, {}})->shots.empty());
  query->query_vector = {1, 0};  // of another embedder
  BOOST_TEST(policy.prompt.Apply({3}, {query, {}, {}})->shots.empty());
  PromptOptions off;
  off.few_shots = 0;
  BOOST_TEST(Policy(off)(ExampleGiven{"a", "b"}).note == "few-shots are switched off");
}

BOOST_AUTO_TEST_CASE(forgetting_a_user_drops_that_users_examples) {
  Policy policy(Shots(0.9));
  policy(ExampleGiven{"chairs in the hall", "forty"}, "ada");
  policy(ExampleGiven{"who leads sales", "eve"}, "bob");
  BOOST_TEST(policy(Forget{"", "handbook"}).examples_changed == 0U);
  BOOST_TEST(policy(Forget{"ada", ""}).examples_changed == 1U);
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.empty());
  BOOST_TEST(policy(Ask("who leads sales")).shots.size() == 1U);
}

BOOST_AUTO_TEST_CASE(forgetting_an_event_drops_the_examples_that_came_of_it) {
  PromptOptions options = Shots(0.9);
  options.corrections_as_examples = true;
  Prompt prompt(options);
  uint64_t next = 0;
  const auto apply = [&](const std::string& id, decltype(Event::data) data,
                         std::optional<Sequence> about = {}) {
    const auto resolved = Resolve(MakeEvent(id, std::move(data)), about);
    return *prompt.Apply(Sequence::Of(0, next++), *resolved);
  };
  const auto forget = [&](const std::string& id, const std::string& source = "/test") {
    const Chosen chosen = apply("x", Forget{"", "", false, id, source});
    return std::to_string(chosen.examples_changed) + " " + std::to_string(chosen.decisions_removed);
  };
  Feedback correction = About("q");
  correction.correction = "fifty";
  apply("x1", ExampleGiven{"who leads sales", "eve"});
  apply("q", Ask("chairs in the hall"));
  apply("f", correction, Sequence::Of(0, 1));
  BOOST_TEST(forget("f", "/other") == "0 0");
  const Chosen shown = apply("r", Ask("chairs in the hall"));
  BOOST_REQUIRE(shown.shots.size() == 1U);
  BOOST_TEST(
      (shown.shots[0].events == std::set<EventName>{NameOf("/test", "f"), NameOf("/test", "q")}));
  BOOST_TEST(forget("f") == "1 0");
  BOOST_TEST(apply("s", Ask("chairs in the hall")).shots.empty());
  apply("g", correction, Sequence::Of(0, 1));  // on the question, whose decision is there yet
  BOOST_TEST(forget("q") == "1 1");
  BOOST_TEST(apply("h", correction, Sequence::Of(0, 1)).examples_changed == 0U);
  BOOST_TEST(apply("t", Ask("who leads sales")).shots.size() == 1U);
  BOOST_TEST(forget("x1") == "1 0");
  BOOST_TEST(apply("u", Ask("who leads sales")).shots.empty());
}

BOOST_AUTO_TEST_CASE(a_correction_of_a_question_with_earlier_turns_makes_no_example) {
  PromptOptions options = Shots(0.9);
  options.corrections_as_examples = true;
  for (const bool follows : {false, true}) {
    Prompt prompt(options);
    Query query = Ask("chairs in the hall");
    if (follows) query.messages = {{"user", "who leads sales"}, {"assistant", "eve"}};
    BOOST_REQUIRE(prompt.Apply(Sequence::Of(0, 0), *Resolve(MakeEvent("q", query))).ok());
    Feedback correction = About("q");
    correction.correction = "fifty";
    const auto resolved = Resolve(MakeEvent("f", correction), Sequence::Of(0, 0));
    BOOST_TEST(prompt.Apply(Sequence::Of(0, 1), *resolved)->examples_changed ==
               (follows ? 0U : 1U));
  }
}

BOOST_AUTO_TEST_CASE(corrections_become_examples_only_where_that_is_asked_for) {
  for (const bool asked_for : {false, true}) {
    PromptOptions options = Shots(0.9);
    options.corrections_as_examples = asked_for;
    Policy policy(options);
    policy(Ask("chairs in the hall"));
    const Chosen chosen = policy.Feed(policy.last, -1, "fifty");
    BOOST_TEST(chosen.examples_changed == (asked_for ? 1U : 0U));
    BOOST_TEST(chosen.note == "credited to default/greedy (mean 0.33)");
    const Chosen answer = policy(Ask("chairs in the hall"));
    BOOST_TEST(answer.shots.size() == (asked_for ? 1U : 0U));
    if (asked_for) BOOST_TEST(answer.shots.at(0).answer == "fifty");
    policy(Forget{"ada", ""});
    BOOST_TEST(policy(Ask("chairs in the hall")).shots.empty());
  }
}

BOOST_AUTO_TEST_CASE(an_example_made_of_a_correction_goes_with_the_correction) {
  PromptOptions options = Shots(0.9);
  options.corrections_as_examples = true;
  Policy policy(options);
  policy(Ask("chairs in the hall"));
  const Sequence query = policy.last;
  policy.Feed(query, -1, "fifty");
  const Sequence first = policy.last;
  Feedback second = About("q");
  second.correction = "sixty";
  policy.Say(query, second, {first});
  const Sequence next = policy.last;
  const Chosen answer = policy(Ask("chairs in the hall"));
  BOOST_REQUIRE(answer.shots.size() == 1U);
  BOOST_TEST(answer.shots.at(0).answer == "sixty");
  Feedback thumb = About("q");
  thumb.rating = 1;
  const Chosen chosen = policy.Say(query, thumb, {first, next});
  BOOST_TEST(chosen.note.ends_with("; the earlier correction is no few-shot any more"));
  BOOST_TEST(policy(Ask("chairs in the hall")).shots.empty());
}

BOOST_AUTO_TEST_CASE(inline_feedback_and_examples_are_given_the_default_system_prompt) {
  Policy policy;
  Feedback feedback;
  feedback.inline_answer = Feedback::Inline{"q", "a"};
  feedback.rating = 1;
  BOOST_TEST(policy(feedback).system == PromptOptions{}.default_system);
  policy(PromptUpsert{"default", "anew", {}});
  const Chosen chosen = policy(feedback);
  BOOST_TEST(chosen.system == "anew");
  BOOST_TEST(chosen.prompt_version == 2U);
  BOOST_TEST(policy(ExampleGiven{"q", "a"}).system == "anew");
}

BOOST_AUTO_TEST_CASE(a_duplicate_changes_nothing) {
  Policy policy(Shots());
  policy(Ask("a"));
  const Sequence query = policy.last;
  Changes changes;
  policy.prompt.Save(0, changes);
  changes.clear();
  Feedback feedback = About("q");
  feedback.rating = 1;
  for (const decltype(Event::data)& data :
       {decltype(Event::data)(ExampleGiven{"q", "a"}), decltype(Event::data)(Ask("a")),
        decltype(Event::data)(PromptUpsert{"p", "x", {}}), decltype(Event::data)(feedback),
        decltype(Event::data)(Forget{"ada", ""})}) {
    BOOST_TEST(policy.prompt.Apply({9}, *Resolve(MakeEvent("e", data), query, query)).ok());
  }
  policy.prompt.Save(0, changes);
  BOOST_TEST(changes.empty());
}

BOOST_AUTO_TEST_CASE(going_on_from_a_saved_state_gives_the_same_results) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    PromptOptions options = TwoPresets();
    options.few_shot_min_similarity = 0.5;
    options.examples_per_tenant = 5;
    options.decisions_per_tenant = 9;
    options.corrections_as_examples = seed % 2 == 0;
    Prompt straight(options);
    auto broken = std::make_unique<Prompt>(options);
    Store store_of_straight;
    Store store;
    Stream stream(seed);
    size_t shots = 0;
    size_t credits = 0;
    for (uint64_t i = 0; i < 3000; ++i) {
      // Feedback is about something recent, mostly a query.
      const Event event = stream.Next();
      std::optional<Sequence> about;
      if (std::holds_alternative<Feedback>(event.data)) {
        about = Sequence::Of(1, i - std::min<uint64_t>(i, stream.Below(20)));
      }
      const auto resolved = Resolve(event, about);
      const Result<Chosen> expected = straight.Apply(Sequence::Of(1, i), *resolved);
      BOOST_REQUIRE_EQUAL(Describe(broken->Apply(Sequence::Of(1, i), *resolved)),
                          Describe(expected));
      if (expected.ok()) shots += expected->shots.size();
      if (expected.ok()) credits += expected->note.starts_with("credited") ? 1 : 0;
      if (stream.Below(20) != 0) continue;
      store.SaveFrom(*broken, 1);
      store_of_straight.SaveFrom(straight, 1);
      BOOST_REQUIRE((store == store_of_straight));
      broken = std::make_unique<Prompt>(options);
      store.LoadInto(*broken, 1);
    }
    BOOST_TEST(shots > 100U);
    BOOST_TEST(credits > 20U);
    BOOST_TEST(store.Count("few_shot") <= 15U);
    BOOST_TEST(store.Count("prompt_decision") <= 27U);
  }
}

BOOST_AUTO_TEST_CASE(another_configured_default_is_a_new_version_after_loading) {
  Policy policy;
  policy(Ask("a"));
  Store store;
  store.SaveFrom(policy.prompt, 0);
  PromptOptions options;
  options.default_system = "something else";
  Policy other(options);
  store.LoadInto(other.prompt, 0);
  const Chosen chosen = other(Ask("a"));
  BOOST_TEST(chosen.system == "something else");
  BOOST_TEST(chosen.prompt_version == 2U);
  store.SaveFrom(other.prompt, 0);
  Policy third(options);
  store.LoadInto(third.prompt, 0);
  BOOST_TEST(third(Ask("a")).prompt_version == 2U);
}

BOOST_AUTO_TEST_CASE(damaged_state_is_refused) {
  Policy policy(Shots());
  policy(ExampleGiven{"a", "b"});
  policy(Ask("a"));
  policy(PromptUpsert{"p", "x", {}});
  policy(PromptDelete{"p"});
  Store store;
  store.SaveFrom(policy.prompt, 0);
  BOOST_TEST(store.size() == 4U);
  Prompt fresh(Shots());
  store.CheckDamage(fresh, 0);
}

BOOST_AUTO_TEST_CASE(a_dropped_partition_starts_anew) {
  Policy policy;
  policy(PromptUpsert{"default", "anew", {}});
  policy.prompt.Drop(0);
  BOOST_TEST(policy(Ask("a")).prompt_version == 1U);
}

BOOST_AUTO_TEST_CASE(options_that_make_no_policy_are_refused_at_the_start) {
  const auto refused = [](auto change) {
    PromptOptions options = TwoPresets();
    change(options);
    BOOST_CHECK_THROW(Prompt{options}, StartError);
  };
  refused([](PromptOptions& options) { options.presets.clear(); });
  refused([](PromptOptions& options) { options.presets[1].name = "greedy"; });
  refused([](PromptOptions& options) { options.presets[1].name = ""; });
  refused([](PromptOptions& options) { options.gamma = -1; });
  refused([](PromptOptions& options) { options.reward_decay = 0; });
  refused([](PromptOptions& options) { options.prior_mean = 2; });
  refused([](PromptOptions& options) { options.prior_weight = 0; });
}
