// labels: unit
// Worlds as they are read, answers as they are judged, and people as they ask.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "pipeline/simulate/judge.h"
#include "pipeline/simulate/people.h"
#include "stages/result.h"
#include "tests/simulate_world.h"

using namespace nudge;
using nudge::testing::SmallWorld;
using nudge::testing::TempFolder;
using nudge::testing::WorldOf;

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path kRoot = NUDGE_SOURCE_DIR;

std::string Content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

WorldQuestion KeyedBy(std::vector<std::string> keys) {
  return {"question", "", std::move(keys)};
}

// What is wrong with a small world that was changed so; empty: nothing.
std::string WrongWith(const std::function<void(Json&)>& change) {
  Json json = SmallWorld();
  change(json);
  try {
    WorldOf(json);
  } catch (const StartError& error) {
    return error.what();
  }
  return "";
}

void ExpectWrong(const std::string& what, const std::function<void(Json&)>& change) {
  const std::string wrong = WrongWith(change);
  BOOST_TEST(wrong.find(what) != std::string::npos, what << " is not in: " << wrong);
}

}  // namespace

// ---- Judging ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_key_counts_as_whole_words_in_any_case_and_spelling) {
  const WorldQuestion euros = KeyedBy({"5 euros", "five euros"});
  BOOST_TEST(HasKey("It costs 5 euros.", euros));
  BOOST_TEST(HasKey("FIVE EUROS", euros));
  BOOST_TEST(!HasKey("It costs 15 euros.", euros));
  BOOST_TEST(!HasKey("It costs 3.5 euros.", euros));
  BOOST_TEST(!HasKey("It costs 2,5 euros.", euros));
  BOOST_TEST(HasKey("It costs 15 euros, not 5 euros.", euros));
  BOOST_TEST(!HasKey("", euros));
  BOOST_TEST(HasKey("It is 9.", KeyedBy({"9"})));
  BOOST_TEST(!HasKey("It is 9.40.", KeyedBy({"9"})));
  BOOST_TEST(HasKey("In the STRASSE", KeyedBy({"straße"})));
}

BOOST_AUTO_TEST_CASE(a_form_holds_where_all_its_rules_do) {
  const WorldQuestion question = KeyedBy({"5 euros"});
  WorldForm form;
  form.begins_with = "Only ";
  form.ends_with = "!";
  form.contains = "euros";
  form.words_most = 4;
  form.quotes_key = true;
  BOOST_TEST(InForm("Only 5 euros!", form, question));
  BOOST_TEST(InForm(" Only 5 euros!\n", form, question));
  BOOST_TEST(!InForm("only 5 euros!", form, question));
  BOOST_TEST(!InForm("Only 5 euros.", form, question));
  BOOST_TEST(!InForm("Only 5 pounds!", form, question));
  BOOST_TEST(!InForm("Only 6 euros!", form, question));
  BOOST_TEST(!InForm("Only 5 euros for you!", form, question));
  BOOST_TEST(!InForm("", WorldForm{.name = "any", .words_most = 3}, question));
}

// ---- Reading ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_shipped_world_is_one_and_large_enough) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(kRoot / "configs/worlds")) {
    const World world = ReadWorld(entry.path().string());
    BOOST_TEST(world.documents.size() >= 98U, entry.path());
    BOOST_TEST(world.held_out == 30U, entry.path());
    BOOST_TEST(world.facts.size() >= 28U, entry.path());
    BOOST_TEST(!world.about.empty(), entry.path());
    ++count;
  }
  BOOST_TEST(count >= 8U);
}

BOOST_AUTO_TEST_CASE(a_world_takes_from_its_base_what_it_does_not_say_itself) {
  const TempFolder folder;
  std::ofstream(folder.path() + "/base.json") << SmallWorld();
  const std::string path = folder.path() + "/child.json";
  std::ofstream(path) << R"({"base":"base.json","lessons":5,"users":[{"name":"carla"}]})";
  const World world = ReadWorld(path);
  BOOST_TEST(world.name == "child");
  BOOST_TEST(world.lessons == 5U);
  BOOST_TEST(world.users.size() == 1U);
  BOOST_TEST(world.questions.size() == 8U);
  std::ofstream(path) << R"({"base":"child.json"})";
  BOOST_CHECK_THROW(ReadWorld(path), StartError);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_world_is_named_with_its_place) {
  BOOST_TEST(WrongWith([](Json&) {}) == "");
  ExpectWrong("lesons: unknown key", [](Json& json) { json["lesons"] = 3; });
  ExpectWrong("lessons: 0 is outside 1..100000", [](Json& json) { json["lessons"] = 0; });
  ExpectWrong("lessons: expected a whole number", [](Json& json) { json["lessons"] = 1.5; });
  ExpectWrong("lessons: -3 is outside", [](Json& json) { json["lessons"] = -3; });
  ExpectWrong("users[0].name: is missing", [](Json& json) { json["users"][0].erase("name"); });
  ExpectWrong("users[1].reactions[0].kind: expected correction or thumb", [](Json& json) {
    json["users"][1]["reactions"] = {{{"kind", "shout"}}};
  });
  ExpectWrong("users, ana: text is missing", [](Json& json) {
    json["users"][0]["reactions"] = {{{"kind", "text"}}};
  });
  ExpectWrong("users: ana is there twice", [](Json& json) { json["users"][1]["name"] = "ana"; });
  ExpectWrong("nobody is there at the beginning", [](Json& json) {
    for (Json& user : json["users"]) user["joins_after"] = 1;
  });
  ExpectWrong("users: expected a list", [](Json& json) { json["users"] = 3; });
  ExpectWrong("wanted: tall is no form", [](Json& json) { json["wanted"][0]["form"] = "tall"; });
  ExpectWrong("wanted: from must begin with 0", [](Json& json) { json["wanted"][0]["from"] = 4; });
  ExpectWrong("has no rule", [](Json& json) { json["forms"].push_back({{"name", "any"}}); });
  ExpectWrong("is not in its own form",
              [](Json& json) { json["forms"][0]["correction"] = "It is {key}!"; });
  ExpectWrong("has no correction, which a user is to give",
              [](Json& json) { json["forms"][0].erase("correction"); });
  ExpectWrong("names no document",
              [](Json& json) { json["questions"][2]["document"] = "nowhere"; });
  ExpectWrong("has no key that is in document lamp-3",
              [](Json& json) { json["questions"][2]["keys"] = {"0 euros"}; });
  ExpectWrong("questions[2].keys: is empty",
              [](Json& json) { json["questions"][2]["keys"] = Json::array(); });
  ExpectWrong("held_out: leaves fewer than 2", [](Json& json) { json["held_out"] = 7; });
  ExpectWrong("points: must ascend", [](Json& json) { json["points"] = {4, 4}; });
  ExpectWrong("points: must ascend", [](Json& json) { json["points"] = {4, 13}; });
}

BOOST_AUTO_TEST_CASE(files_that_are_no_worlds_are_refused) {
  const TempFolder folder;
  const std::string path = folder.path() + "/w.json";
  const auto wrong = [&](const std::string& content) -> std::string {
    std::ofstream(path, std::ios::trunc) << content;
    try {
      ReadWorld(path);
    } catch (const StartError& error) {
      return error.what();
    }
    return "";
  };
  BOOST_TEST(wrong("").find("parse error") != std::string::npos);
  BOOST_TEST(wrong("[]").find("is no JSON object") != std::string::npos);
  BOOST_TEST(wrong(R"({"lessons":1,"lessons":2})").find("lessons: is given twice") !=
             std::string::npos);
  BOOST_TEST(wrong(R"({"base":"nowhere.json"})").find("nowhere.json: No such file") !=
             std::string::npos);
  BOOST_TEST(wrong(R"({"base":3})").find("base: expected a text") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_guide_lists_every_key_as_it_is) {
  const fs::path path = kRoot / "docs/SIMULATION.md";
  const std::string begin = "<!-- keys: written by NUDGE_UPDATE_DOCS=1 world_tests -->\n";
  const std::string end = "<!-- end of keys -->\n";
  const std::string text = Content(path);
  const size_t from = text.find(begin);
  const size_t to = text.find(end);
  BOOST_TEST_REQUIRE((from != std::string::npos && to != std::string::npos));
  const std::string expected =
      text.substr(0, from + begin.size()) + WorldTables() + "\n" + text.substr(to);
  if (std::getenv("NUDGE_UPDATE_DOCS") != nullptr) std::ofstream(path) << expected;
  BOOST_TEST((Content(path) == expected), "run NUDGE_UPDATE_DOCS=1 world_tests");
}

BOOST_AUTO_TEST_CASE(points_double_and_end_with_the_last_lesson) {
  World world;
  world.lessons = 40;
  BOOST_TEST((PointsOf(world) == std::vector<uint32_t>{0, 8, 16, 32, 40}));
  world.lessons = 4;
  BOOST_TEST((PointsOf(world) == std::vector<uint32_t>{0, 4}));
  world.points = {2};
  BOOST_TEST((PointsOf(world) == std::vector<uint32_t>{0, 2, 4}));
}

// ---- People -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(questions_are_held_out_or_asked_and_the_seed_says_which) {
  const World world = WorldOf(SmallWorld());
  std::set<std::set<std::string>> splits;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const People people(world, seed);
    std::set<std::string> held_out, asked;
    for (const WorldQuestion* question : people.held_out()) held_out.insert(question->text);
    for (uint32_t lesson = 0; lesson < 5; ++lesson) {
      const Turn turn = people.TurnAt(lesson);
      BOOST_TEST(turn.question != turn.other);
      for (const WorldQuestion* question : {turn.question, turn.other}) {
        BOOST_TEST(!held_out.contains(question->text));
      }
      asked.insert(turn.question->text);
    }
    BOOST_TEST(held_out.size() == 3U);
    BOOST_TEST(asked.size() == 5U);  // each once before one comes again
    splits.insert(held_out);
  }
  BOOST_TEST(splits.size() > 1U);
}

BOOST_AUTO_TEST_CASE(turns_go_by_shares_among_those_who_are_there) {
  Json json = SmallWorld();
  json["users"] = {{{"name", "ana"}},
                   {{"name", "tilo"}, {"share", 3}, {"names", 4}},
                   {{"name", "zoe"}, {"share", 4}, {"joins_after", 1000}}};
  const World world = WorldOf(json);
  const People people(world, 1);
  std::map<std::string, int> early, late;
  std::set<std::string> names, sources;
  for (uint32_t lesson = 0; lesson < 2000; ++lesson) {
    const Turn turn = people.TurnAt(lesson);
    ++(lesson < 1000 ? early : late)[turn.user->name];
    if (turn.user->name != "tilo") continue;
    names.insert(turn.name);
    sources.insert(turn.source);
  }
  BOOST_TEST(early["zoe"] == 0);
  BOOST_TEST(std::abs(early["tilo"] - 750) < 60);
  BOOST_TEST(std::abs(late["zoe"] - 500) < 60);
  BOOST_TEST((names == std::set<std::string>{"tilo-1", "tilo-2", "tilo-3", "tilo-4"}));
  BOOST_TEST((sources == std::set<std::string>{"/people/tilo"}));
}

BOOST_AUTO_TEST_CASE(feedback_is_what_the_reaction_says) {
  const World world = WorldOf(SmallWorld());
  Turn turn = People(world, 1).TurnAt(0);
  Reaction reaction;
  turn.reaction = &reaction;
  const std::string right = "Only " + turn.question->keys.front() + "!";
  BOOST_TEST(*FeedbackOf(turn, "").correction == right);
  BOOST_TEST(!NeedsAnswer(turn));
  reaction.only_wrong = true;
  BOOST_TEST(NeedsAnswer(turn));
  BOOST_TEST(*FeedbackOf(turn, "Only so!").correction == right);
  BOOST_TEST(*FeedbackOf(turn, right).rating == 1);
  BOOST_TEST(!FeedbackOf(turn, right).correction.has_value());

  reaction = {.kind = "elsewhere"};
  BOOST_TEST(*FeedbackOf(turn, "").correction == "Only " + turn.other->keys.front() + "!");
  reaction = {.kind = "text", .text = "banana"};
  BOOST_TEST(*FeedbackOf(turn, "").correction == "banana");
  reaction = {.kind = "up"};
  BOOST_TEST(*FeedbackOf(turn, "").rating == 1);
  reaction = {.kind = "down"};
  BOOST_TEST(*FeedbackOf(turn, "").rating == -1);

  reaction = {.kind = "thumb"};
  BOOST_TEST(NeedsAnswer(turn));
  BOOST_TEST(*FeedbackOf(turn, "Only so!").rating == 1);
  BOOST_TEST(*FeedbackOf(turn, "So.").rating == -1);
  reaction.judged = "fact";
  BOOST_TEST(*FeedbackOf(turn, "Only so!").rating == -1);
  BOOST_TEST(*FeedbackOf(turn, turn.question->keys.front()).rating == 1);
  reaction.judged = "both";
  BOOST_TEST(*FeedbackOf(turn, turn.question->keys.front()).rating == -1);
  BOOST_TEST(*FeedbackOf(turn, right).rating == 1);
  turn.turned = true;
  BOOST_TEST(*FeedbackOf(turn, right).rating == -1);
}

BOOST_AUTO_TEST_CASE(noise_turns_its_share_of_thumbs) {
  Json json = SmallWorld();
  json["users"] = {{{"name", "ana"}, {"reactions", {{{"kind", "thumb"}, {"noise", .25}}}}}};
  const World world = WorldOf(json);
  const People people(world, 7);
  int turned = 0;
  for (uint32_t lesson = 0; lesson < 1000; ++lesson) turned += people.TurnAt(lesson).turned ? 1 : 0;
  BOOST_TEST(std::abs(turned - 250) < 50);
}

BOOST_AUTO_TEST_CASE(a_mind_changes_at_its_lesson) {
  Json json = SmallWorld();
  json["forms"].push_back(
      {{"name", "long"}, {"correction", "It is {key}."}, {"begins_with", "It is "}});
  json["wanted"] = {{{"form", "short"}}, {{"form", "long"}, {"from", 6}}};
  json["users"][1]["forms"] = {{{"form", "short"}}};
  const World world = WorldOf(json);
  const People people(world, 1);
  for (uint32_t lesson = 0; lesson < 12; ++lesson) {
    const Turn turn = people.TurnAt(lesson);
    const bool changed = turn.user->name == "ana" && lesson >= 6;
    BOOST_TEST(turn.form->name == (changed ? "long" : "short"), lesson);
  }
}
