// labels: graph
// Somebody tries to see a document that is not for them, by every way there is.
#include "pipeline/commands/commands.h"
#include "tests/rights_run.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

// The secret is one word, so that it can be looked for.
const std::string kSecret = "kestrelvale";
const std::string kPlans = "The name of the merger project is " + kSecret + ".";
const std::string kAsked = "What is the name of the merger project?";

std::vector<std::string> Documents() {
  return {
      Page("plans", kPlans, {{"access", {"board"}}}),
      Page("faq", "The merger project has a name that is not told here."),
      Page("nobody", "The merger project was once called osprey.", {{"access", Json::array()}})};
}

std::vector<std::string> With(std::vector<std::string> lines,
                              const std::vector<std::string>& more) {
  lines.insert(lines.end(), more.begin(), more.end());
  return lines;
}

}  // namespace

BOOST_AUTO_TEST_CASE(search_and_citations_know_just_what_the_asker_may_see) {
  const RightsRun run(With(Documents(), {Question("none", "ann", kAsked),
                                         Question("other", "bob", kAsked, {"sales", "Board"}),
                                         Question("board", "cem", kAsked, {"sales", "board"})}));
  for (const char* id : {"none", "other"}) {
    BOOST_TEST((run.Cites(id) == std::set<std::string>{"faq"}));
    BOOST_TEST(!run.Sees(id, kSecret));
    BOOST_TEST(!run.Sees(id, "plans"));
  }
  BOOST_TEST((run.Cites("board") == std::set<std::string>{"faq", "plans"}));
  BOOST_TEST(run.Sees("board", kSecret));
  for (const char* id : {"none", "other", "board"}) BOOST_TEST(!run.Sees(id, "osprey"));
}

BOOST_AUTO_TEST_CASE(receipts_say_for_whom_a_document_is) {
  const RightsRun run(
      {EventLine("a", "document.upsert", "ops",
                 {{"document_id", "d"}, {"text", "t"}, {"access", Json::array()}}),
       EventLine("b", "document.upsert", "ops",
                 {{"document_id", "e"}, {"text", "t"}, {"access", {"x", "y"}}}),
       EventLine("c", "document.upsert", "ops", {{"document_id", "f"}, {"text", "t"}})});
  BOOST_TEST(run.Summary("a") ==
             "1 chunk indexed as version 1 of d, for nobody: its access list is empty");
  BOOST_TEST(run.Summary("b") == "1 chunk indexed as version 1 of e, for 2 groups");
  BOOST_TEST(run.Summary("c") == "1 chunk indexed as version 1 of f");
}

BOOST_AUTO_TEST_CASE(the_cache_gives_nothing_to_those_who_may_not_see_what_it_rests_on) {
  const RightsRun run(With(
      Documents(), {Question("board", "cem", kAsked, {"board"}), Question("none", "ann", kAsked),
                    Question("board2", "dot", kAsked, {"board", "sales"}),
                    Question("none2", "bob", kAsked, {"x"}),
                    Page("plans", kPlans + " It is secret."), Question("open", "ann", kAsked),
                    Page("plans", kPlans + " It is secret.", {{"access", {"board"}}}),
                    Question("shut", "ann", kAsked)}));
  BOOST_TEST(run.CacheWhy("none") == "first time asked");
  BOOST_TEST(!run.Sees("none", kSecret));
  BOOST_TEST(run.Hits("board2"));
  BOOST_TEST(run.Hits("none2"));
  BOOST_TEST(run.Text("none2") == run.Text("none"));
  BOOST_TEST(run.Sees("open", kSecret));
  // What was open when it was asked for is not told of once it is shut.
  BOOST_TEST(!run.Hits("shut"));
  BOOST_TEST(!run.Sees("shut", kSecret));
  BOOST_TEST(!run.Sees("shut", "plans"));
}

BOOST_AUTO_TEST_CASE(the_cache_tells_filters_apart) {
  const auto filter = [](const std::string& kind) {
    return Json{{"filter", {{"field", "kind"}, {"eq", kind}}}};
  };
  const RightsRun run({Page("a", "The merger is in May.", {{"metadata", {{"kind", "news"}}}}),
                       Question("plain", "ann", "When is the merger?"),
                       Question("news", "ann", "When is the merger?", {}, filter("news")),
                       Question("news2", "bob", "When is the merger?", {}, filter("news")),
                       Question("law", "ann", "When is the merger?", {}, filter("law"))});
  BOOST_TEST(!run.Hits("news"));
  BOOST_TEST(run.Hits("news2"));
  BOOST_TEST(!run.Hits("law"));
  BOOST_TEST(run.Cites("law").empty());
  BOOST_TEST((run.Cites("news") == std::set<std::string>{"a"}));
}

BOOST_AUTO_TEST_CASE(few_shots_of_restricted_answers_are_shown_to_those_who_may_see_the_documents) {
  const std::string again = "What is the name of the merger project today?";
  const RightsRun run(With(
      Documents(),
      {Question("q", "cem", kAsked, {"board"}),
       Corrected("f", "cem", "q", "It is " + kSecret + "."), Question("none", "ann", again),
       Question("board", "dot", again, {"board"}),
       // Opened with another text: what was made of the old one is not open.
       Page("plans", "The merger project has no name now."), Question("open", "ann", again),
       Page("faq", "The merger project is secret.", {{"access", {"law"}}}),
       Question("half", "dot", again, {"board"}), Question("both", "dot", again, {"board", "law"}),
       EventLine("gone", "document.delete", "ops", {{"document_id", "plans"}}),
       Question("after", "dot", again, {"board", "law"})}));
  BOOST_TEST(!run.Sees("none", kSecret));
  BOOST_TEST(run.Shown("board").find("It is " + kSecret) != std::string::npos);
  BOOST_TEST(!run.Sees("open", kSecret));
  BOOST_TEST(!run.Sees("half", kSecret));
  BOOST_TEST(run.Sees("both", kSecret));
  BOOST_TEST(!run.Sees("after", kSecret));
}

BOOST_AUTO_TEST_CASE(a_few_shot_that_is_not_for_everybody_replaces_none_that_is) {
  const RightsRun run(With(
      Documents(), {Question("p", "ann", kAsked), Corrected("g", "ann", "p", "Nobody tells you."),
                    Question("q", "cem", kAsked, {"board"}),
                    Corrected("f", "cem", "q", "It is " + kSecret + "."),
                    Question("none", "bob", "What is the name of the merger project now?")}));
  BOOST_TEST(run.Summary("f").find("replaces the earlier example") == std::string::npos);
  BOOST_TEST(run.Shown("none").find("Nobody tells you.") != std::string::npos);
  BOOST_TEST(!run.Sees("none", kSecret));
}

BOOST_AUTO_TEST_CASE(what_came_of_a_forgotten_document_is_shown_to_nobody) {
  const std::string again = "What is the name of the merger project today?";
  for (const Json& forget :
       {Json{{"document_id", "plans"}}, Json{{"user", "ops"}, {"documents", true}}}) {
    const RightsRun run(With(
        Documents(),
        {Question("q", "cem", kAsked, {"board"}), Question("late", "cem", kAsked + " ", {"board"}),
         Corrected("f", "cem", "q", "It is " + kSecret + "."),
         EventLine("gone", "forget", "ops", forget),
         Corrected("g", "dot", "late", "It is still " + kSecret + "."),
         Question("after", "dot", again, {"board"})}));
    BOOST_TEST(!run.Sees("after", kSecret));
    BOOST_TEST(run.Summary("gone").find("1 example") != std::string::npos, run.Summary("gone"));
  }
}

BOOST_AUTO_TEST_CASE(a_restricted_answer_teaches_no_adapter_unless_the_configuration_says_so) {
  const std::vector<std::string> lines = With(
      Documents(), {Question("q", "cem", kAsked, {"board"}), Question("p", "ann", kAsked),
                    Corrected("f", "cem", "q", "It is " + kSecret + "."),
                    EventLine("up", "feedback", "dot", {{"query_id", "q"}, {"rating", "up"}}),
                    Corrected("g", "ann", "p", "Nobody tells you."),
                    Page("faq", "The merger project is secret.", {{"access", {"law"}}}),
                    EventLine("late", "feedback", "bob", {{"query_id", "p"}, {"rating", "up"}})});
  const TempFolder folder;
  const RightsRun run(lines, "", folder.path());
  for (const char* id : {"f", "up", "late"}) {
    BOOST_TEST(run.Summary(id).starts_with("nothing to learn: the answer rests on a document that "
                                           "is not for everybody"),
               run.Summary(id));
    BOOST_TEST(!run.At(id)["data"].contains("step"));
  }
  BOOST_TEST(run.Summary("g").starts_with("training step 1"), run.Summary("g"));
  const RightsRun all(lines, R"(,"adapt":{"learn_restricted":true})", folder.path() + "/all");
  for (const char* id : {"f", "up", "g", "late"}) {
    BOOST_TEST(all.Summary(id).starts_with("training step"), all.Summary(id));
  }
  // Of the lessons, which of them are for everybody is known to whoever takes them elsewhere.
  const auto restricted = [](const std::string& state) {
    std::map<std::string, bool> lessons;
    const auto read = ReadLessons(state, std::nullopt);
    BOOST_REQUIRE(read.ok());
    for (const TaughtLesson& lesson : read->at(0).lessons) {
      lessons[lesson.view.taught.id] = lesson.is_restricted;
    }
    return lessons;
  };
  BOOST_TEST((restricted(folder.path()) == std::map<std::string, bool>{{"g", true}}));
  BOOST_TEST((restricted(folder.path() + "/all") ==
              std::map<std::string, bool>{{"f", true}, {"up", true}, {"g", true}, {"late", true}}));
  const auto exported = [&](bool with_restricted) {
    const std::string file = folder.path() + "/exported.jsonl";
    BOOST_TEST(Export({folder.path() + "/all", "acme", "chat", file, with_restricted}) == 0);
    return FileBytes(file);
  };
  BOOST_TEST(exported(false).empty());
  BOOST_TEST(exported(true).find("It is " + kSecret) != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_conversation_of_others_shows_nothing) {
  const Json in_conversation = {{"conversation_id", "c"}};
  const RightsRun run(
      With(Documents(), {Question("q", "cem", kAsked, {"board"}, in_conversation),
                         Question("none", "ann", "And what is its name?", {},
                                  {{"conversation_id", "c"},
                                   {"messages", {{{"role", "user"}, {"content", kAsked}}}}})}));
  BOOST_TEST(run.Sees("q", kSecret));
  BOOST_TEST(!run.Sees("none", kSecret));
  BOOST_TEST(!run.Sees("none", "plans"));
}

BOOST_AUTO_TEST_CASE(an_event_that_is_sent_again_with_other_groups_is_another_one) {
  const RightsRun run(
      With(Documents(), {Question("q", "cem", kAsked, {"board"}), Question("q", "cem", kAsked)}));
  BOOST_TEST(run.Message("q").find("had other content") != std::string::npos, run.Message("q"));
  BOOST_TEST(!run.Sees("q", kSecret));
}

BOOST_AUTO_TEST_CASE(equal_passages_take_one_place_and_all_that_may_be_seen_are_cited) {
  const RightsRun run({Page("a", kPlans, {{"access", {"board"}}}), Page("b", kPlans),
                       Page("c", kPlans, {{"access", {"law"}}}), Question("none", "ann", kAsked),
                       Question("board", "cem", kAsked, {"board"})});
  BOOST_TEST((run.Cites("none") == std::set<std::string>{"b"}));
  BOOST_TEST((run.Cites("board") == std::set<std::string>{"a", "b"}));
  const std::string shown = run.Shown("board");
  BOOST_TEST(shown.find(kSecret) == shown.rfind(kSecret));
}

BOOST_AUTO_TEST_CASE(filters_and_groups_that_are_wrong_have_one_clear_answer_each) {
  Json deep = {{"field", "kind"}, {"eq", "x"}};
  for (int i = 0; i < 6; ++i) deep = {{"not", deep}};
  std::vector<std::string> many;
  for (int i = 0; i < 65; ++i) many.push_back("g" + std::to_string(i));
  const RightsRun run({Page("a", "The merger is in May."),
                       Question("missing", "ann", "When is the merger?", {},
                                {{"filter", {{"field", "kind"}, {"eq", "news"}}}}),
                       Question("deep", "ann", "When?", {}, {{"filter", deep}}),
                       Question("many", "ann", "When?", many)});
  BOOST_TEST((run.At("missing")["type"] == "nudge.response"));
  BOOST_TEST(run.Cites("missing").empty());
  BOOST_TEST(run.Message("deep").starts_with("data.filter: 7 conditions inside each other"));
  BOOST_TEST(run.Message("many").starts_with("data.groups: 65 groups or more are over"));
}

BOOST_AUTO_TEST_CASE(a_source_that_says_what_it_holds_loses_its_other_documents_alone) {
  const auto sync = [](const std::string& id, const Json& data) {
    return EventLine(id, "source.sync", "ops", data);
  };
  std::string other = Page("c", "The merger is in July.");
  other.replace(other.find("\"/s\""), 4, "\"/o\"");
  const std::string asked = "When is the merger?";
  const RightsRun run({Page("a", "The merger is in May."), Page("b", "The merger is in June."),
                       other, Question("before", "ann", asked),
                       sync("s", {{"document_ids", {"a", "c", "a"}}}),
                       Question("after", "ann", asked), sync("s", {{"document_ids", {"a", "c"}}}),
                       sync("t", {{"source", "/o"}, {"document_ids", Json::array()}}),
                       Question("end", "ann", asked), sync("u", {{"document_ids", "a"}})});
  BOOST_TEST((run.Cites("before") == std::set<std::string>{"a", "b", "c"}));
  BOOST_TEST((run.Cites("after") == std::set<std::string>{"a", "c"}));
  BOOST_TEST((run.Cites("end") == std::set<std::string>{"a"}));
  BOOST_TEST(run.Summary("s").starts_with("duplicate of event 4"), run.Summary("s"));
  BOOST_TEST(run.Summary("t") == "source /o holds 0 documents: 1 other removed (1 chunk)");
  BOOST_TEST(run.Message("u").starts_with("data.document_ids: expected an array"));
}

// ---- Forgetting a conversation ------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(forgetting_a_conversation_is_forgetting_its_questions_one_by_one) {
  for (const int lead : {0, 1}) {
    std::vector<std::string> lines = {Page("a", "The merger is in May."),
                                      Page("b", "The stove burns pine.")};
    const auto in = [](const std::string& conversation) {
      return Json{{"conversation_id", conversation}};
    };
    const std::vector<std::string> people = {"ann", "bob", "cem"};
    for (int i = 0; i < 24; ++i) {
      const std::string n = std::to_string(i);
      const std::string& who = people[static_cast<size_t>(i) % 3];
      lines.push_back(Question("q" + n, who,
                               "When is the merger number " + std::to_string(i % 5) + "?", {},
                               in(i % 4 == 0 ? "mine" : "c" + std::to_string(i % 3))));
      const std::string& teacher = people[static_cast<size_t>(i * 7) % 3];
      lines.push_back(Corrected("f" + n, teacher, "q" + n, "In May, word" + n + "."));
    }
    const std::vector<std::string> then = {Question("x", "ann", "When is the merger number 9?"),
                                           Question("y", "ann", "When is the merger number 1?"),
                                           Question("z", "dot", "What does the stove burn?")};
    std::vector<std::string> wait;  // so that what is learnt again takes over
    for (int i = 0; i < 12; ++i) wait.push_back(Page("w", "pause " + std::to_string(i)));
    std::vector<std::string> one_by_one = lines, at_once = lines;
    for (int i = 0; i < 24; i += 4) {
      one_by_one.push_back(EventLine("g" + std::to_string(i), "forget", "ops",
                                     {{"event_id", "q" + std::to_string(i)}}));
    }
    at_once.push_back(EventLine("g", "forget", "ops", {{"conversation_id", "mine"}}));
    const std::string config = R"(,"adapt":{"lead_lessons":)" + std::to_string(lead) + "}";
    const RightsRun some(With(With(one_by_one, wait), then), config);
    const RightsRun all(With(With(With(at_once, wait), then),
                             {EventLine("g2", "forget", "ops", {{"conversation_id", "mine"}})}),
                        config);
    BOOST_TEST(all.Summary("g").starts_with("forgot conversation mine: "), all.Summary("g"));
    BOOST_TEST(all.Summary("g2") ==
               "nothing forgotten: no lesson, question or example on record is "
               "of conversation mine");
    for (const char* id : {"x", "y", "z"}) {
      BOOST_TEST(all.At(id)["data"]["adapter"]["digest"] ==
                 some.At(id)["data"]["adapter"]["digest"]);
      BOOST_TEST(all.Shown(id) == some.Shown(id));
      BOOST_TEST(all.Text(id) == some.Text(id));
      for (int i = 0; i < 24; i += 4) {
        BOOST_TEST(!all.Sees(id, "word" + std::to_string(i) + "."), id << " word" << i);
      }
    }
  }
}
