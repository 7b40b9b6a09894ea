// labels: unit
#include "stages/respond.h"

#include <boost/test/unit_test.hpp>

#include <sstream>
#include <tuple>

#include "stages/adapt.h"
#include "stages/prompt.h"
#include "stages/recall.h"
#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

namespace {

// A token a word, two a message: counts the calls too.
ChatFormat Words(size_t window_tokens = 400, size_t* calls = nullptr) {
  return {[calls](const std::vector<ChatMessage>& chat) {
            if (calls != nullptr) ++*calls;
            size_t tokens = 0;
            for (const ChatMessage& message : chat) {
              std::istringstream words(message.text);
              for (std::string word; words >> word;) ++tokens;
              tokens += 2;
            }
            return tokens;
          },
          window_tokens};
}

Passage MakePassage(const std::string& document_id, uint32_t version = 1, uint32_t chunk = 0,
                    const std::string& text = "Some text.") {
  Passage passage;
  passage.document_id = document_id;
  passage.version = version;
  passage.chunk = chunk;
  passage.title = "About " + document_id;
  passage.text = text;
  passage.score = 1.0 / (chunk + 1);
  return passage;
}

// One event's way into respond, with what the branches before it would have said.
struct Input {
  explicit Input(Event event) : resolved(*Resolve(std::move(event))) {
    chosen.prompt_id = "default";
    chosen.prompt_version = 1;
    chosen.system = "Be brief.";
    chosen.decoding_name = "greedy";
    chosen.decoding.max_tokens = 20;
    const Prepared& prepared = *resolved.prepared;
    admission.offers = admission.admitted =
        std::holds_alternative<ExampleGiven>(prepared.event.data) ||
        (prepared.signal && (prepared.signal->reward != 0 || prepared.signal->correction));
  }
  explicit Input(decltype(Event::data) data, const std::string& id = "e")
      : Input(MakeEvent(id, std::move(data))) {}

  Gathered Gather() const {
    return {std::make_shared<Resolved>(resolved), std::make_shared<Found>(found),
            std::make_shared<Admission>(admission), std::make_shared<Chosen>(chosen)};
  }

  Resolved resolved;
  Found found;
  Admission admission;
  Chosen chosen;
};

Input Question(const std::string& text = "How many days?", QueryOptions options = {},
               const std::string& user = "ada") {
  Input input(MakeEvent("q", Ask(text, std::move(options)), "acme", user));
  input.found.passages = {MakePassage("leave", 1, 0), MakePassage("travel", 2, 3)};
  return input;
}

// The same, behind these turns: user, assistant, user, ...
Input FollowUp(const std::vector<std::string>& turns, const std::string& text = "How many days?") {
  Query query = Ask(text);
  for (const std::string& turn : turns) {
    query.messages.push_back({query.messages.size() % 2 == 0 ? "user" : "assistant", turn});
  }
  Input input(MakeEvent("q", query, "acme", "ada"));
  input.found.passages = {MakePassage("leave", 1, 0), MakePassage("travel", 2, 3)};
  return input;
}

Input Thumb(Sequence about, double rating, std::optional<std::string> correction = {},
            const std::string& user = "ada") {
  Feedback feedback = About("q");
  feedback.rating = rating;
  feedback.correction = std::move(correction);
  Input input(MakeEvent("f", feedback, "acme", user));
  input.resolved.about = about;
  return input;
}

struct Desk {
  explicit Desk(RespondOptions options = {}, ChatFormat format = Words(), AdaptOptions adapt = {})
      : respond(std::move(format), options, adapt) {}

  Plan operator()(const Input& input) {
    last = Sequence::Of(2, next++);
    Result<Plan> plan = respond.Apply(last, {}, input.Gather());
    BOOST_REQUIRE_MESSAGE(plan.ok(), (plan.ok() ? "" : plan.error().message));
    return *std::move(plan);
  }
  std::string Receipt(const Input& input) {
    return std::get<Applied>((*this)(input).outcome.what).summary;
  }
  std::string Why(const Input& input) {
    return std::get<Response>((*this)(input).outcome.what).cache_why;
  }

  // So many lessons of nobody, each a version.
  void Teach(int lessons) {
    for (int i = 0; i < lessons; ++i) {
      Feedback feedback;
      feedback.inline_answer = Feedback::Inline{"What?", "That."};
      feedback.rating = 1;
      (*this)(Input(MakeEvent("t", feedback, "acme", "")));
    }
  }

  Respond respond;
  uint64_t next = 0;
  Sequence last;
};

const std::string kHit = "exact text, same passages, prompt and adapter";

Input Command(AdapterCommand::Action action, std::optional<Version> version = {}) {
  AdapterCommand command;
  command.action = action;
  command.version = version;
  command.uri = "house.gguf";
  command.sha256 = "abc";
  return Input(command);
}

std::string Text(const std::vector<ChatMessage>& chat) {
  std::string text;
  for (const ChatMessage& message : chat) text += message.role + ": " + message.text + "\n";
  return text;
}

}  // namespace

// ---- The chat -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_chat_holds_system_few_shots_numbered_passages_and_the_question) {
  Desk desk;
  desk.Teach(3);
  Input input = Question();
  input.chosen.shots = {{"Who?", "Eve.", {}}};
  const Plan plan = desk(input);
  BOOST_REQUIRE(plan.generate.has_value());
  BOOST_TEST(Text(plan.generate->chat) ==
             "system: Be brief.\n"
             "user: Who?\n"
             "assistant: Eve.\n"
             "user: [1] About leave\nSome text.\n\n[2] About travel\nSome text.\n\n"
             "Question: How many days?\n");
  BOOST_TEST(plan.generate->adapter == 3U);
  BOOST_TEST((plan.generate->decoding == input.chosen.decoding));
  BOOST_TEST(plan.generate->seed == SeedOf({"acme", "/test", "q"}));
  BOOST_TEST(plan.lessons.empty());
  BOOST_TEST(!plan.answer_of);
  BOOST_TEST(!plan.waits_for_lessons);
  const Response& response = std::get<Response>(plan.outcome.what);
  BOOST_TEST((response.citations == std::vector<Citation>{{"leave", 1, 1.0}, {"travel", 2, 0.25}}));
  BOOST_TEST(response.adapter_version == 3U);
  BOOST_TEST(response.prompt_id == "default");
  BOOST_TEST(!response.cache_hit);
  BOOST_TEST(plan.outcome.tenant == "acme");
  BOOST_TEST(plan.outcome.source == "/test");
  BOOST_TEST(plan.outcome.id == "q");
  BOOST_TEST(plan.outcome.type == "nudge.query");
}

BOOST_AUTO_TEST_CASE(earlier_turns_stand_between_few_shots_and_the_question) {
  Desk desk;
  Input input = FollowUp({"Have I leave?", "Yes.", "Much?", "Much."});
  input.chosen.shots = {{"Who?", "Eve.", {}}};
  BOOST_TEST(Text(desk(input).generate->chat) ==
             "system: Be brief.\n"
             "user: Who?\n"
             "assistant: Eve.\n"
             "user: Have I leave?\n"
             "assistant: Yes.\n"
             "user: Much?\n"
             "assistant: Much.\n"
             "user: [1] About leave\nSome text.\n\n[2] About travel\nSome text.\n\n"
             "Question: How many days?\n");
}

BOOST_AUTO_TEST_CASE(exchanges_are_left_out_whole_the_oldest_first) {
  Input input = FollowUp({"one", "two", "three", "four", "five", "six"}, "one two three");
  input.found.passages = {
      MakePassage("a", 1, 0, "First sentence is here. Second sentence is here."),
      MakePassage("b", 1, 0, "Bee bee.")};
  input.chosen.shots = {{"shot one", "answer one"}};
  const auto shown = [&](size_t prompt_tokens_max) {
    Desk desk({.prompt_tokens_max = prompt_tokens_max});
    const std::vector<ChatMessage> chat = desk(input).generate->chat;
    BOOST_TEST(Words().count_tokens(chat) <= prompt_tokens_max);
    const std::string text = Text(chat);
    std::string what;
    for (const char* part : {": one\n", ": two\n", ": three\n", ": four\n", ": five\n", ": six\n",
                             "shot one", "First", "Second", "Bee"}) {
      if (text.find(part) != std::string::npos) what += part[0] == ':' ? part[2] : part[0];
    }
    return what;
  };
  // Everything is 52 tokens, then 46, 40, 35, 27, 21, 17 and 9.
  BOOST_TEST(shown(52) == "ottffssFSB");
  BOOST_TEST(shown(51) == "tffssFSB");
  BOOST_TEST(shown(46) == "tffssFSB");
  BOOST_TEST(shown(45) == "fssFSB");
  BOOST_TEST(shown(40) == "fssFSB");
  BOOST_TEST(shown(39) == "fssFS");
  BOOST_TEST(shown(35) == "fssFS");
  BOOST_TEST(shown(34) == "fsFS");
  BOOST_TEST(shown(27) == "fsFS");
  BOOST_TEST(shown(26) == "FS");
  BOOST_TEST(shown(21) == "FS");
  BOOST_TEST(shown(20) == "F");
  BOOST_TEST(shown(17) == "F");
  BOOST_TEST(shown(16) == "");
}

BOOST_AUTO_TEST_CASE(an_answer_that_opens_a_conversation_is_an_exchange_of_its_own) {
  Query query = Ask("How many days?");
  query.messages = {{"assistant", "Hello."}, {"user", "Hi."}, {"user", "There?"}};
  Input input(MakeEvent("q", query));
  const auto shown = [&](size_t prompt_tokens_max) {
    Desk desk({.prompt_tokens_max = prompt_tokens_max});
    return Text(desk(input).generate->chat);
  };
  const std::string asked = "user: How many days?\n";
  BOOST_TEST(shown(18) ==
             "system: Be brief.\nassistant: Hello.\nuser: Hi.\nuser: There?\n" + asked);
  BOOST_TEST(shown(17) == "system: Be brief.\nuser: Hi.\nuser: There?\n" + asked);
  BOOST_TEST(shown(14) == "system: Be brief.\nuser: There?\n" + asked);
  BOOST_TEST(shown(11) == "system: Be brief.\n" + asked);
}

BOOST_AUTO_TEST_CASE(without_passages_the_question_stands_alone) {
  Desk desk;
  Input input = Question();
  input.found.passages.clear();
  input.chosen.system.clear();
  BOOST_TEST(Text(desk(input).generate->chat) == "user: How many days?\n");
}

BOOST_AUTO_TEST_CASE(a_seed_of_the_event_is_used) {
  Desk desk;
  QueryOptions options;
  options.seed = 42;
  BOOST_TEST(desk(Question("a", options)).generate->seed == 42U);
}

BOOST_AUTO_TEST_CASE(several_chunks_of_one_document_are_one_citation) {
  Desk desk;
  Input input = Question();
  input.found.passages = {MakePassage("leave", 1, 0), MakePassage("leave", 1, 1)};
  const Plan plan = desk(input);
  BOOST_TEST((std::get<Response>(plan.outcome.what).citations ==
              std::vector<Citation>{{"leave", 1, 1.0}}));
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_goes_in_the_documented_order) {
  Input input = Question("one two three");
  input.found.passages = {
      MakePassage("a", 1, 0, "First sentence is here. Second sentence is here. Third one."),
      MakePassage("b", 1, 0, "Bee bee bee bee bee."), MakePassage("c", 1, 0, "Cee cee cee.")};
  input.chosen.shots = {{"shot one", "answer one"}, {"shot two", "answer two"}};
  const auto shown = [&](size_t prompt_tokens_max) {
    Desk desk({.prompt_tokens_max = prompt_tokens_max});
    const Plan plan = desk(input);
    const std::string text = Text(plan.generate->chat);
    BOOST_TEST(Words().count_tokens(plan.generate->chat) <= prompt_tokens_max);
    std::string what;
    for (const char* part : {"Third", "Second", "First", "Bee", "Cee", "shot one", "shot two"}) {
      if (text.find(part) != std::string::npos) what += std::string(1, part[0]);
      if (std::string(part) == "shot two" && text.find(part) != std::string::npos) what += "2";
    }
    const auto& citations = std::get<Response>(plan.outcome.what).citations;
    return what + " " + std::to_string(citations.size());
  };
  // Words and two a message: everything is 53, then 47, 39, 31, 23, 21, 17 and 9.
  BOOST_TEST(shown(53) == "TSFBCss2 3");
  BOOST_TEST(shown(52) == "TSFBss2 2");
  BOOST_TEST(shown(47) == "TSFBss2 2");
  BOOST_TEST(shown(46) == "TSFss2 1");
  BOOST_TEST(shown(39) == "TSFss2 1");
  BOOST_TEST(shown(38) == "TSFs 1");
  BOOST_TEST(shown(31) == "TSFs 1");
  BOOST_TEST(shown(30) == "TSF 1");
  BOOST_TEST(shown(23) == "TSF 1");
  BOOST_TEST(shown(22) == "SF 1");
  BOOST_TEST(shown(21) == "SF 1");
  BOOST_TEST(shown(20) == "F 1");
  BOOST_TEST(shown(17) == "F 1");
  BOOST_TEST(shown(16) == " 0");
  BOOST_TEST(shown(9) == " 0");
}

BOOST_AUTO_TEST_CASE(the_shortening_is_the_least_that_fits_whatever_the_texts) {
  // Against the obvious way: drop one thing at a time and count.
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> turns;
    for (uint64_t i = 2 * (random() % 4); i > 0; --i)
      turns.push_back(std::string(i % 7, 'w') + " w");
    Input input = FollowUp(turns, "what is it");
    input.found.passages.clear();
    for (uint64_t i = random() % 6; i > 0; --i) {
      std::string text;
      for (uint64_t words = 1 + random() % 40; words > 0; --words) {
        text += std::string(1 + random() % 12, 'x') + (random() % 6 == 0 ? ". Next " : " ");
      }
      input.found.passages.push_back(MakePassage("d" + std::to_string(i), 1, 0, text));
    }
    for (uint64_t i = random() % 4; i > 0; --i) {
      input.chosen.shots.push_back({"shot", std::string(random() % 50, 'y') + " z z z"});
    }
    const size_t budget = 11 + random() % 80;
    size_t calls = 0;
    Desk desk({.prompt_tokens_max = budget}, Words(400, &calls));
    const std::string chosen = Text(desk(input).generate->chat);
    BOOST_TEST(calls <= 9U);

    Input twin = input;
    const auto drop_exchange = [&] {
      turns.erase(turns.begin(), turns.begin() + 2);
      Input shorter = FollowUp(turns, "what is it");
      shorter.found = twin.found;
      shorter.chosen = twin.chosen;
      twin = shorter;
    };
    size_t first = twin.found.passages.empty() ? 0 : twin.found.passages[0].text.size();
    for (;;) {
      if (first > 0) twin.found.passages[0].text.resize(first);
      Desk roomy({.prompt_tokens_max = 10'000}, Words(20'000));
      const std::vector<ChatMessage> chat = roomy(twin).generate->chat;
      if (Words().count_tokens(chat) <= budget) {
        BOOST_TEST(Text(chat) == chosen);
        break;
      }
      if (turns.size() > 2) {
        drop_exchange();
      } else if (twin.found.passages.size() > 1) {
        twin.found.passages.pop_back();
      } else if (!twin.chosen.shots.empty()) {
        twin.chosen.shots.pop_back();
      } else if (!turns.empty()) {
        drop_exchange();
      } else {
        BOOST_REQUIRE(!twin.found.passages.empty());
        const size_t end = twin.found.passages[0].text.substr(0, first - 1).rfind(". N");
        if (end == std::string::npos) {
          twin.found.passages.clear();
          first = 0;
        } else {
          first = end + 2;
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_chat_that_fits_is_counted_once) {
  size_t calls = 0;
  Desk desk({}, Words(400, &calls));
  desk(Question());
  BOOST_TEST(calls == 1U);
}

BOOST_AUTO_TEST_CASE(a_question_over_the_budget_but_within_the_window_is_asked_without_passages) {
  Desk desk({.prompt_tokens_max = 5});
  const Plan plan = desk(Question());
  BOOST_TEST(Text(plan.generate->chat) == "system: Be brief.\nuser: How many days?\n");
  BOOST_TEST(std::get<Response>(plan.outcome.what).citations.empty());
}

BOOST_AUTO_TEST_CASE(a_question_too_long_for_the_window_is_refused_and_changes_nothing) {
  Desk desk({}, Words(28));
  desk(Question("a b"));  // 8 tokens and 20 for the answer
  const Sequence first = desk.last;
  Changes changes;
  desk.respond.Save(2, changes);
  changes.clear();
  const Result<Plan> plan =
      desk.respond.Apply(Sequence::Of(2, 9), {}, Question("a b c d").Gather());
  BOOST_REQUIRE(!plan.ok());
  BOOST_TEST((plan.error().code == Code::kTooLarge));
  BOOST_TEST(plan.error().message ==
             "text: system prompt and question are 10 tokens and the answer may take 20, the "
             "window is 28");
  Input huge = Question("a");
  huge.chosen.decoding.max_tokens = 4096;
  BOOST_TEST(!desk.respond.Apply(Sequence::Of(2, 10), {}, huge.Gather()).ok());
  desk.respond.Save(2, changes);
  BOOST_TEST(changes.empty());
  BOOST_TEST((desk(Question("a b")).answer_of == first));
}

// ---- The cache ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_same_question_again_is_answered_by_the_first_answer) {
  Desk desk;
  BOOST_TEST(desk.Why(Question()) == "first time asked");
  const Sequence first = desk.last;
  Input again = Question("How many days?", {}, "bob");
  again.found.passages[0].score = 0.9;
  const Plan plan = desk(again);
  BOOST_TEST((plan.answer_of == first));
  BOOST_TEST(!plan.generate);
  const Response& response = std::get<Response>(plan.outcome.what);
  BOOST_TEST(response.cache_hit);
  BOOST_TEST(response.cache_why == kHit);
  BOOST_TEST((response.citations == std::vector<Citation>{{"leave", 1, 0.9}, {"travel", 2, 0.25}}));
  BOOST_TEST((desk(Question()).answer_of == first));  // of a hit too
  BOOST_TEST(desk.Why(Question("How few days?")) == "first time asked");
}

BOOST_AUTO_TEST_CASE(questions_that_differ_in_any_character_are_other_questions) {
  static const std::vector<std::pair<const char*, const char*>> kPairs = {
      {"How many is 10\u2075 in words?", "How many is 105 in words?"},
      {"What does ls -l do?", "What does ls -L do?"},
      {"Is 5 mW dangerous?", "Is 5 MW dangerous?"},
      {"What is 5!", "What is 5?"},
      {"what is .", "what is .."},
      {"Who works in IT?", "Who works in it?"},
      {"x\u00b2 + 1", "x2 + 1"},
      {"\uff21", "A"},
      {"Stra\u00dfe", "Strasse"},
      {"\ufb01n", "fin"},
      {"\u0130", "i"},
      {"all:\n\techo hi", "all:\n        echo hi"}};
  for (const auto& [first, second] : kPairs) {
    Desk desk;
    desk(Question(first));
    BOOST_TEST(desk.Why(Question(second)) == "first time asked");
    BOOST_TEST(desk.Why(Question(first)) == kHit);
  }
}

BOOST_AUTO_TEST_CASE(the_same_question_behind_other_turns_is_another_question) {
  Desk desk;
  desk(Question());
  BOOST_TEST(desk.Why(FollowUp({"a", "b"})) == "first time asked");
  BOOST_TEST(desk.Why(FollowUp({"a", "c"})) == "first time asked");
  BOOST_TEST(desk.Why(FollowUp({"a", "b", "a", "b"})) == "first time asked");
  BOOST_TEST(desk.Why(FollowUp({"a", "b"}, "b")) == "first time asked");
  BOOST_TEST(desk.Why(FollowUp({"a", "b"})) == kHit);
  BOOST_TEST(desk.Why(Question()) == kHit);
}

BOOST_AUTO_TEST_CASE(a_lesson_about_a_follow_up_has_its_turns) {
  Desk desk;
  desk(FollowUp({"Have I leave?", "Yes."}));
  const Plan plan = desk(Thumb(desk.last, -1, "Thirty."));
  BOOST_REQUIRE(!plan.lessons.empty());
  const auto& chat = std::get<LoggedExample>(plan.lessons.front().what).chat;
  BOOST_TEST(Text(chat).starts_with(
      "system: Be brief.\nuser: Have I leave?\nassistant: Yes.\nuser: [1] About leave\n"));
}

BOOST_AUTO_TEST_CASE(a_lesson_too_long_for_the_window_loses_exchanges_whole) {
  Input input = FollowUp({"one", "two", "three", "four"}, "one two three");
  input.found.passages = {MakePassage("a", 1, 0, "First sentence.")};
  input.chosen.shots = {{"shot one", "answer one"}};
  const auto learnt = [&](int words) {
    Desk desk({}, Words(60));
    desk(input);
    std::string correction = "It";
    for (int i = 1; i < words; ++i) correction += " is";
    const Plan plan = desk(Thumb(desk.last, 0, correction));
    BOOST_REQUIRE(!plan.lessons.empty());
    return Text(std::get<LoggedExample>(plan.lessons.front().what).chat).substr(18);
  };
  // All of it is 35 tokens, and the answer takes two more than its words.
  const std::string one = "user: one\nassistant: two\n";
  const std::string two = "user: three\nassistant: four\n";
  const std::string asked = "user: [1] About a\nFirst sentence.\n\nQuestion: one two three\n";
  BOOST_TEST(learnt(23) == "user: shot one\nassistant: answer one\n" + one + two + asked);
  BOOST_TEST(learnt(24) == one + two + asked);
  BOOST_TEST(learnt(31) == one + two + asked);
  BOOST_TEST(learnt(32) == two + asked);
  BOOST_TEST(learnt(38) == asked);
}

BOOST_AUTO_TEST_CASE(a_passage_that_begins_laid_out_stands_on_lines_of_its_own) {
  Desk desk;
  Input input = Question("  if x:\n    y?");
  input.found.passages = {MakePassage("a", 1, 0, "    port: 1\n  tls: 2"),
                          MakePassage("b", 1, 0, "| a | b |\n|---|---|\n| 1 | 2 |")};
  for (Passage& passage : input.found.passages) passage.title.clear();
  BOOST_TEST(desk(input).generate->chat.back().text ==
             "[1]\n    port: 1\n  tls: 2\n\n[2]\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
             "Question:\n  if x:\n    y?");
}

BOOST_AUTO_TEST_CASE(all_documents_that_hold_a_passage_are_cited) {
  Desk desk;
  Input input = Question();
  input.found.passages = {MakePassage("a", 1, 0), MakePassage("c", 4, 0)};
  input.found.passages[0].copies = {{"b", 2}, {"a", 1}};
  const Plan plan = desk(input);
  const double score = input.found.passages[0].score;
  const double other = input.found.passages[1].score;
  BOOST_TEST((std::get<Response>(plan.outcome.what).citations ==
              std::vector<Citation>{{"a", 1, score}, {"b", 2, score}, {"c", 4, other}}));
}

BOOST_AUTO_TEST_CASE(a_hit_cites_no_more_than_was_shown) {
  Desk desk({.prompt_tokens_max = 15});
  const auto cited = [](const Plan& plan) {
    return std::get<Response>(plan.outcome.what).citations.size();
  };
  BOOST_TEST(cited(desk(Question())) == 1U);
  const Plan hit = desk(Question());
  BOOST_TEST(hit.answer_of.has_value());
  BOOST_TEST(cited(hit) == 1U);
}

BOOST_AUTO_TEST_CASE(another_adapter_version_ends_an_answer) {
  Desk desk;
  Input input = Question();
  desk.Teach(3);
  desk(input);
  desk.Teach(1);
  BOOST_TEST(desk.Why(input) == "adapter 3 -> 4");
  BOOST_TEST(desk.Why(input) == kHit);
  desk(Command(AdapterCommand::Action::kRollback, 3));
  BOOST_TEST(desk.Why(input) == "adapter 4 -> 3");
}

BOOST_AUTO_TEST_CASE(another_prompt_version_ends_an_answer) {
  Desk desk;
  Input input = Question();
  desk(input);
  input.chosen.prompt_version = 2;
  BOOST_TEST(desk.Why(input) == "prompt default 1 -> 2");
  BOOST_TEST(desk.Why(input) == kHit);
}

BOOST_AUTO_TEST_CASE(each_prompt_and_decoding_has_an_answer_of_its_own) {
  Desk desk;
  Input input = Question();
  desk(input);
  Input other = input;
  other.chosen.prompt_id = "friendly";
  BOOST_TEST(desk.Why(other) == "prompt default -> friendly");
  BOOST_TEST(desk.Why(other) == kHit);
  BOOST_TEST(desk.Why(input) == kHit);
}

BOOST_AUTO_TEST_CASE(another_decoding_is_another_answer) {
  Desk desk;
  Input input = Question();
  desk(input);
  Input other = input;
  other.chosen.decoding_name = "long";
  other.chosen.decoding.max_tokens = 30;
  BOOST_TEST(desk.Why(other) == "decoding greedy -> long");
  BOOST_TEST(desk.Why(other) == kHit);
}

BOOST_AUTO_TEST_CASE(options_over_the_same_decoding_are_another_answer) {
  Desk desk;
  Input input = Question();
  desk(input);
  input.chosen.decoding.max_tokens = 30;
  BOOST_TEST(desk.Why(input) == "decoding options changed");
}

BOOST_AUTO_TEST_CASE(other_few_shots_end_an_answer) {
  Desk desk;
  Input input = Question();
  desk(input);
  input.chosen.shots = {{"a", "b"}};
  BOOST_TEST(desk.Why(input) == "few-shots changed");
  BOOST_TEST(desk.Why(input) == kHit);
  input.chosen.shots = {{"ab", ""}};
  BOOST_TEST(desk.Why(input) == "few-shots changed");
}

BOOST_AUTO_TEST_CASE(other_passages_end_an_answer_and_the_reason_names_the_document) {
  const auto why = [](std::vector<Passage> today) {
    Desk desk;
    Input input = Question();
    desk(input);
    input.found.passages = std::move(today);
    return desk.Why(input);
  };
  const Passage leave = MakePassage("leave", 1, 0);
  const Passage travel = MakePassage("travel", 2, 3);
  BOOST_TEST(why({leave, travel}) == kHit);
  BOOST_TEST(why({leave, MakePassage("travel", 3, 0)}) == "document travel 2 -> 3");
  BOOST_TEST(why({leave}) == "document travel no longer found");
  BOOST_TEST(why({leave, travel, MakePassage("pets")}) == "document pets newly found");
  BOOST_TEST(why({leave, MakePassage("travel", 2, 4)}) == "other passages of the same documents");
  BOOST_TEST(why({travel, leave}) == "other passages of the same documents");
}

BOOST_AUTO_TEST_CASE(another_document_with_the_same_passage_ends_an_answer) {
  Desk desk;
  desk(Question());
  Input input = Question();
  input.found.passages[0].copies = {{"mirror", 1, "dan"}};
  BOOST_TEST(desk.Why(input) == "document mirror newly found");
  desk(Thumb(desk.last, 1, {}, "bob"));
  BOOST_TEST(!desk(Input(Forget{"dan", ""})).lessons.empty());
}

BOOST_AUTO_TEST_CASE(sampled_answers_are_cached_only_under_a_seed_of_the_event) {
  Desk desk;
  Input sampled = Question();
  sampled.chosen.decoding.temperature = 0.7;
  BOOST_TEST(desk.Why(sampled) == "sampled without a fixed seed");
  BOOST_TEST(desk.Why(sampled) == "sampled without a fixed seed");
  QueryOptions options;
  options.seed = 1;
  Input seeded = Question("How many days?", options);
  seeded.chosen.decoding.temperature = 0.7;
  BOOST_TEST(desk.Why(seeded) == "first time asked");
  BOOST_TEST(desk.Why(seeded) == kHit);
  options.seed = 2;
  Input other = Question("How many days?", options);
  other.chosen.decoding.temperature = 0.7;
  BOOST_TEST(desk.Why(other) == "another seed");
  // Greedy answers do not depend on it.
  BOOST_TEST(Desk().Why(Question("x", options)) == "first time asked");
  Desk greedy;
  greedy(Question("x"));
  BOOST_TEST(greedy.Why(Question("x", options)) == kHit);
}

BOOST_AUTO_TEST_CASE(negative_feedback_and_corrections_end_a_cached_answer) {
  for (const bool correction : {false, true}) {
    Desk desk;
    desk(Question());
    desk(Question());  // a hit: feedback about it speaks of the same answer
    const Input thumb = correction ? Thumb(desk.last, 1, "three") : Thumb(desk.last, -0.5);
    BOOST_TEST(
        desk.Receipt(thumb) ==
        "training step 1, makes version 1 if it passes the gates; the answer left the cache");
    BOOST_TEST(desk.Receipt(thumb) == "training step 2, makes version 2 if it passes the gates");
    BOOST_TEST(desk.Why(Question()) == "the earlier answer got negative feedback");
    BOOST_TEST(desk.Why(Question()) == kHit);
  }
  Desk desk;
  desk(Question());
  desk(Thumb(desk.last, 1));
  BOOST_TEST(desk.Why(Question()) == "adapter 0 -> 1");
}

BOOST_AUTO_TEST_CASE(feedback_about_an_answer_that_was_replaced_leaves_the_new_one_alone) {
  Desk desk;
  Input input = Question();
  desk(input);
  const Sequence old = desk.last;
  desk.Teach(1);
  desk(input);
  Input rejection = Thumb(old, -1);
  rejection.admission.admitted = false;
  desk(rejection);
  BOOST_TEST(desk.Why(input) == kHit);
}

BOOST_AUTO_TEST_CASE(the_answer_longest_unused_leaves_a_full_cache) {
  Desk desk({.cache_entries_per_tenant = 2});
  desk(Question("one"));
  desk(Question("two"));
  BOOST_TEST(desk.Why(Question("one")) == kHit);
  desk(Question("three"));
  BOOST_TEST(desk.Why(Question("one")) == kHit);
  BOOST_TEST(desk.Why(Question("two")) == "first time asked");
}

BOOST_AUTO_TEST_CASE(where_no_adapter_is_served_the_base_answers_and_versions_are_made_as_ever) {
  Desk desk({.serves_adapters = false});
  desk.Teach(2);
  const Plan asked = desk(Question());
  BOOST_TEST(asked.generate->adapter == 0U);
  const Response& response = std::get<Response>(asked.outcome.what);
  BOOST_TEST(response.adapter_version == 0U);
  BOOST_TEST(response.adapter_digest == "base");
  const Sequence query = desk.last;
  const Plan taught = desk(Thumb(query, -0.5, "three"));
  BOOST_TEST((taught.lessons.front().step.makes == 3U));
  desk(Question());
  BOOST_TEST(desk.Why(Question()) == kHit);
  desk.Teach(1);
  BOOST_TEST(desk.Why(Question()) == kHit);  // what is learnt changes no answer
}

BOOST_AUTO_TEST_CASE(where_no_adapter_is_served_receipts_say_which_is_the_newest) {
  for (const bool serves : {true, false}) {
    Desk desk({.serves_adapters = serves});
    desk(Question());
    desk(Thumb(desk.last, -0.5, "three"));
    const std::string receipt = desk.Receipt(Input(Forget{"", "leave"}));
    const std::string wanted =
        serves ? ": the base model serves" : ": the base model is the newest";
    BOOST_TEST(receipt.find(wanted) != std::string::npos, receipt);
  }
}

BOOST_AUTO_TEST_CASE(a_cache_of_no_entries_is_off) {
  Desk desk({.cache_entries_per_tenant = 0});
  BOOST_TEST(desk.Why(Question()) == "the cache is off");
  BOOST_TEST(desk.Why(Question()) == "the cache is off");
}

BOOST_AUTO_TEST_CASE(tenants_share_no_answers) {
  Desk desk;
  desk(Question());
  Input other = Question();
  Event event = other.resolved.prepared->event;
  event.tenant = "umbrella";
  other.resolved.prepared = Prepare(event);
  BOOST_TEST(desk.Why(other) == "first time asked");
}

BOOST_AUTO_TEST_CASE(an_answer_retires_when_neither_records_nor_cache_refer_to_it) {
  Desk desk({.records_per_tenant = 2, .cache_entries_per_tenant = 2});
  const auto retired = [&](const Input& input) {
    std::string text;
    for (const Sequence sequence : desk(input).retired) {
      text += std::to_string(sequence.ordinal()) + " ";
    }
    return text;
  };
  BOOST_TEST(retired(Question("one")) == "");                // event 0
  BOOST_TEST(retired(Question("two")) == "");                // 1
  BOOST_TEST(retired(Question("two")) == "");                // 2, a hit: record 0 goes
  BOOST_TEST(retired(Question("three")) == "0 ");            // 3: "one" leaves the cache too
  BOOST_TEST(retired(Thumb(Sequence::Of(2, 3), -1)) == "");  // 4: 3 is still on record
  BOOST_TEST(retired(Question("four")) == "1 ");             // 5: record 2 and "two" go
  BOOST_TEST(retired(Question("five")) == "3 ");             // 6: record 3; its entry was ended
}

// ---- Receipts and lessons -----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_duplicate_gets_a_receipt_and_changes_nothing) {
  Desk desk;
  desk(Question());
  const Sequence first = desk.last;
  Changes changes;
  desk.respond.Save(2, changes);
  changes.clear();
  for (Input input : {Question(), Thumb(first, -1), Input(Forget{"ada", ""})}) {
    input.resolved.duplicate_of = first;
    BOOST_TEST(desk.Receipt(input) == "duplicate of event " + std::to_string(first.ordinal()));
  }
  Input unanswered = Question();  // it was too large, or its user is forgotten
  unanswered.resolved.duplicate_of = Sequence::Of(2, 17);
  BOOST_TEST(desk.Receipt(unanswered) ==
             "duplicate of event 17, of which no answer is on record: ask again under a new id");
  desk.respond.Save(2, changes);
  BOOST_TEST(changes.empty());
}

BOOST_AUTO_TEST_CASE(documents_get_receipts) {
  Desk desk;
  DocumentUpsert upsert;
  upsert.document_id = "handbook/leave";
  Input input(upsert);
  input.found = {{}, 3, 2, 2};
  BOOST_TEST(desk.Receipt(input) == "3 chunks indexed as version 2 of handbook/leave (2 removed)");
  input.found = {{}, 1, 0, 1};
  BOOST_TEST(desk.Receipt(input) == "1 chunk indexed as version 1 of handbook/leave");
  Input removal(DocumentDelete{"handbook/leave"});
  removal.found = {{}, 0, 3, 2};
  BOOST_TEST(desk.Receipt(removal) == "3 chunks removed with version 2 of handbook/leave");
  removal.found = {};
  BOOST_TEST(desk.Receipt(removal) == "nothing removed: there is no document handbook/leave");
}

BOOST_AUTO_TEST_CASE(prompts_get_receipts) {
  Desk desk;
  Input input(PromptUpsert{"friendly", "x", {}});
  input.chosen.prompt_id = "friendly";
  input.chosen.prompt_version = 2;
  input.chosen.prompts_changed = 1;
  BOOST_TEST(desk.Receipt(input) == "prompt friendly, version 2");
  input.chosen.note = "unchanged";
  BOOST_TEST(desk.Receipt(input) == "prompt friendly, version 2: unchanged");
  Input removal(PromptDelete{"friendly"});
  removal.chosen = input.chosen;
  removal.chosen.note.clear();
  BOOST_TEST(desk.Receipt(removal) == "prompt friendly deleted, version 2");
  removal.chosen.prompts_changed = 0;
  removal.chosen.note = "there is no such prompt";
  BOOST_TEST(desk.Receipt(removal) == "prompt friendly not deleted: there is no such prompt");
}

BOOST_AUTO_TEST_CASE(feedback_becomes_an_exercise_with_the_chat_as_shown) {
  Desk desk;
  desk.Teach(4);
  const Plan asked = desk(Question());
  const Sequence query = desk.last;
  desk(Question("How many days?", {}, "bob"));  // a hit
  Input input = Thumb(desk.last, -0.5, "three", "eve");
  input.chosen.note = "credited to default/greedy (mean 0.40)";
  const Plan plan = desk(input);
  const Applied& applied = std::get<Applied>(plan.outcome.what);
  BOOST_TEST(applied.summary ==
             "training step 5, makes version 5 if it passes the gates; credited to default/greedy "
             "(mean 0.40); the "
             "answer left the cache");
  BOOST_TEST((applied.step == 5U));
  BOOST_TEST((applied.makes_version == 5U));
  BOOST_REQUIRE(!plan.lessons.empty());
  BOOST_TEST(plan.lessons.front().step.number == 5U);
  BOOST_TEST(plan.lessons.front().parent == 4U);
  BOOST_TEST(!plan.waits_for_lessons);
  const LoggedExample& logged = std::get<LoggedExample>(plan.lessons.front().what);
  BOOST_TEST((logged.chat == asked.generate->chat));
  BOOST_TEST((std::get<Sequence>(logged.shown) == query));
  BOOST_TEST((logged.correction == "three"));
  BOOST_TEST(logged.reward == -0.5);
  BOOST_TEST(logged.admitted);
}

BOOST_AUTO_TEST_CASE(a_lesson_is_forgotten_with_everyone_whose_words_are_in_it) {
  for (const std::string person : {"ada", "bob", "cyd", "dan", "eve", "fay", "gus"}) {
    Desk desk;
    Input input = Question("How many days?", {}, "ada");
    input.found.passages[0].owner = "cyd";
    input.found.passages[1].copies = {{"copy", 1, "dan"}};
    input.chosen.shots = {{"q", "a", {"eve", "fay"}}};
    desk(input);
    desk(Thumb(desk.last, 1, {}, "bob"));
    const Plan plan = desk(Input(Forget{person, ""}));
    BOOST_TEST(plan.lessons.empty() == (person == "gus"), person);
  }
}

BOOST_AUTO_TEST_CASE(a_lesson_holds_nobody_whose_words_did_not_fit_the_chat) {
  for (const size_t budget : {30, 15}) {
    Desk desk({.prompt_tokens_max = budget});
    Input input = Question();
    input.found.passages[1].owner = "dan";
    input.chosen.shots = {{"q", "a", {"eve"}}};
    desk(input);
    desk(Thumb(desk.last, 1, {}, "bob"));
    BOOST_TEST(desk(Input(Forget{"eve", ""})).lessons.empty() == (budget != 30));
  }
}

BOOST_AUTO_TEST_CASE(feedback_of_nobody_counts_as_that_of_the_asker) {
  Desk desk;
  desk(Question());
  desk(Thumb(desk.last, 1, {}, ""));
  BOOST_TEST(!desk(Input(Forget{"ada", ""})).lessons.empty());
}

BOOST_AUTO_TEST_CASE(an_offer_that_is_not_admitted_is_kept_and_makes_no_step) {
  Desk desk;
  desk(Question());
  Input input = Thumb(desk.last, 1);
  input.admission.admitted = false;
  const Plan plan = desk(input);
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "no training step: user ada has had its share of the recent ones");
  BOOST_REQUIRE(!plan.lessons.empty());
  BOOST_TEST(plan.lessons.front().step.number == 0U);
  BOOST_TEST(!std::get<LoggedExample>(plan.lessons.front().what).admitted);
}

BOOST_AUTO_TEST_CASE(a_correction_that_does_not_fit_the_window_says_so_and_makes_no_step) {
  Desk desk({}, Words(60));
  desk(Question());
  std::string words = "one";
  for (int i = 0; i < 60; ++i) words += " more";
  const Plan plan = desk(Thumb(desk.last, -1, words));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "no training step: question and answer are 72 tokens, the window is 60; the answer "
             "left the cache");
  BOOST_TEST(plan.lessons.empty());
}

BOOST_AUTO_TEST_CASE(
    a_lesson_too_long_for_the_window_loses_the_head_of_what_is_before_its_question) {
  Input input = Question("one two three");
  input.found.passages = {
      MakePassage("a", 1, 0, "First sentence is here. Second sentence is here.\n\nQuestion 7."),
      MakePassage("b", 1, 0, "Bee bee bee. Boo boo.")};
  input.chosen.shots = {{"shot one", "answer one"}, {"shot two", "answer two"}};
  // What is learnt from of a correction of so many words, and what the receipt says of the step.
  const auto learnt = [&](int words) {
    Desk desk({}, Words(100));
    desk(input);
    std::string correction = "It";
    for (int i = 1; i < words; ++i) correction += " is";
    const Plan plan = desk(Thumb(desk.last, 0, correction));
    BOOST_REQUIRE(!plan.lessons.empty());
    std::vector<ChatMessage> chat = std::get<LoggedExample>(plan.lessons.front().what).chat;
    std::string text = Text(chat);
    BOOST_TEST(text.starts_with("system: Be brief.\n"));
    BOOST_TEST(text.ends_with("one two three\n"));
    text = text.substr(18);
    chat.push_back({"assistant", correction});
    BOOST_TEST(Words().count_tokens(chat) <= 100U);
    const std::string& receipt = std::get<Applied>(plan.outcome.what).summary;
    return std::pair(text, receipt.substr(0, receipt.find("; the answer")));
  };
  // All of it is 47 tokens.
  const std::string one = "user: shot one\nassistant: answer one\n";
  const std::string two = "user: shot two\nassistant: answer two\n";
  const std::string first = "[1] About a\nFirst sentence is here. ";
  const std::string second = "Second sentence is here.\n\n";
  const std::string bees = "[2] About b\nBee bee bee. Boo boo.\n\n";
  const std::string asked = "Question: one two three\n";
  const std::vector<std::tuple<int, int, std::string>> expected = {
      {51, 0, one + two + "user: " + first + second + "Question 7.\n\n" + bees + asked},
      {52, 8, two + "user: " + first + second + "Question 7.\n\n" + bees + asked},
      {59, 8, two + "user: " + first + second + "Question 7.\n\n" + bees + asked},
      {60, 16, "user: " + first + second + "Question 7.\n\n" + bees + asked},
      {67, 16, "user: " + first + second + "Question 7.\n\n" + bees + asked},
      {68, 23, "user: " + second + "Question 7.\n\n" + bees + asked},
      {74, 23, "user: " + second + "Question 7.\n\n" + bees + asked},
      {75, 27, "user: Question 7.\n\n" + bees + asked},
      {79, 29, "user: " + bees + asked},
      {81, 35, "user: Boo boo.\n\n" + asked},
      {87, 38, "user: one two three\n"},
      {89, 38, "user: one two three\n"}};
  for (const auto& [words, left_out, text] : expected) {
    const auto [learnt_text, receipt] = learnt(words);
    BOOST_TEST(learnt_text == text, words << " words:\n" << learnt_text);
    BOOST_TEST(receipt == "training step 1, makes version 1 if it passes the gates" +
                              (left_out == 0 ? std::string()
                                             : ", without " + std::to_string(left_out) +
                                                   " tokens before its question that the window "
                                                   "has no room for"));
  }
}

BOOST_AUTO_TEST_CASE(inline_feedback_is_learnt_with_the_default_system_prompt) {
  Desk desk;
  Feedback feedback;
  feedback.inline_answer = Feedback::Inline{"Who leads sales?", "Bob."};
  feedback.rating = 0.5;
  const Plan plan = desk(Input(feedback));
  const LoggedExample& logged = std::get<LoggedExample>(plan.lessons.front().what);
  BOOST_TEST(Text(logged.chat) == "system: Be brief.\nuser: Who leads sales?\n");
  BOOST_TEST(std::get<std::string>(logged.shown) == "Bob.");
  BOOST_TEST(logged.reward == 0.5);
}

BOOST_AUTO_TEST_CASE(an_example_is_an_exercise_with_full_reward) {
  Desk desk;
  Input input(ExampleGiven{"Who?", "Eve."});
  input.chosen.examples_changed = 1;
  const Plan plan = desk(input);
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "example kept; training step 1, makes version 1 if it passes the gates");
  const LoggedExample& logged = std::get<LoggedExample>(plan.lessons.front().what);
  BOOST_TEST(Text(logged.chat) == "system: Be brief.\nuser: Who?\n");
  BOOST_TEST(std::get<std::string>(logged.shown) == "Eve.");
  BOOST_TEST(logged.reward == 1);
  input.chosen.examples_changed = 0;
  input.chosen.note = "few-shots are switched off";
  BOOST_TEST(desk.Receipt(input) ==
             "example (few-shots are switched off); training step 2, makes version 2 if it passes "
             "the gates");
}

BOOST_AUTO_TEST_CASE(without_an_answer_on_record_there_is_nothing_to_learn) {
  Desk desk({.records_per_tenant = 1});
  desk(Question("one"));
  const Sequence first = desk.last;
  desk(Question("two"));
  const Plan plan = desk(Thumb(first, 1));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "nothing to learn: the answer is not on record");
  BOOST_TEST(plan.lessons.empty());
}

BOOST_AUTO_TEST_CASE(feedback_without_a_step_says_why) {
  Desk desk;
  desk(Question());
  BOOST_TEST(desk.Receipt(Thumb(desk.last, 0)) ==
             "nothing to learn: rating 0 is neutral, a dislike is -1 or \"down\"");
  Input frozen = Thumb(Sequence::Of(2, 0), 1);
  frozen.admission.frozen = true;
  BOOST_TEST(desk.Receipt(frozen) == "no training step: adapter frozen");
  Desk off({}, Words(), {.enabled = false});
  BOOST_TEST(off.Receipt(Thumb(Sequence::Of(2, 0), 1)) == "no training step: learning is off");
}

BOOST_AUTO_TEST_CASE(adapter_commands_become_lessons_and_receipts) {
  using Action = AdapterCommand::Action;
  Desk desk;
  desk.Teach(4);
  Plan plan = desk(Command(Action::kRollback, 3));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary == "rolled back to version 3");
  BOOST_TEST((std::get<Return>(plan.lessons.front().what).path ==
              std::vector<LearningPlace>{LearningPlaceOf(Sequence::Of(2, 0)),
                                         LearningPlaceOf(Sequence::Of(2, 1)),
                                         LearningPlaceOf(Sequence::Of(2, 2))}));
  BOOST_TEST(!plan.waits_for_lessons);
  plan = desk(Command(Action::kImport));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary == "imported house.gguf as version 5");
  BOOST_TEST(std::holds_alternative<Import>(plan.lessons.front().what));
  BOOST_TEST(plan.lessons.front().parent == 3U);
  BOOST_TEST(plan.waits_for_lessons);
  BOOST_TEST(desk.Receipt(Command(Action::kFreeze)) == "adapter frozen at version 5");
  BOOST_TEST(desk.Receipt(Command(Action::kUnfreeze)) == "adapter learns on from version 5");
  BOOST_TEST(desk.Receipt(Command(Action::kRollback, 9)) ==
             "nothing rolled back: version 9 is not kept");
  BOOST_TEST(!plan.forgets);
  plan = desk(Command(Action::kReset));
  BOOST_TEST(plan.forgets);
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary == "reset to the base model");
  BOOST_TEST(std::get<Return>(plan.lessons.front().what).path.empty());
  BOOST_TEST(desk.Receipt(Command(Action::kRollback)) ==
             "nothing rolled back: what version 0 grew from is not kept");
  Desk off({}, Words(), {.enabled = false});
  BOOST_TEST(off.Receipt(Command(Action::kReset)) == "nothing done: the adapter is switched off");
}

BOOST_AUTO_TEST_CASE(the_receipt_of_a_snapshot_waits_for_it) {
  Desk desk({}, Words(), {.snapshot_every_versions = 1});
  const Plan plan = desk(Input(ExampleGiven{"Who?", "Eve."}));
  BOOST_TEST(plan.waits_for_lessons);
  BOOST_TEST(plan.lessons.front().step.snapshot);
}

// ---- Forgetting ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(forgetting_a_user_takes_that_users_questions_and_answers) {
  Desk desk;
  desk(Question("one", {}, "ada"));  // 0
  desk(Question("two", {}, "bob"));  // 1
  desk(Question("one", {}, "bob"));  // 2: shown what ada asked
  desk(Question("two", {}, "ada"));  // 3
  const Plan plan = desk(Input(Forget{"ada", ""}));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "forgot user ada: 0 examples, 3 query records, 1 cached answer, 0 lessons");
  BOOST_TEST(plan.forgets);
  BOOST_TEST(plan.lessons.empty());
  BOOST_TEST((plan.retired == std::vector<Sequence>{Sequence::Of(2, 0)}));
  BOOST_TEST(desk.Why(Question("two", {}, "bob")) == kHit);
  BOOST_TEST(desk.Why(Question("one", {}, "bob")) == "first time asked");
  for (const uint64_t gone : {0, 2, 3}) {
    BOOST_TEST(desk.Receipt(Thumb(Sequence::Of(2, gone), 1)) ==
               "nothing to learn: the answer is not on record");
  }
  BOOST_TEST(!desk(Thumb(Sequence::Of(2, 1), 1)).lessons.empty());
}

BOOST_AUTO_TEST_CASE(forgetting_a_teacher_takes_the_cached_answers_of_the_adapter_that_learnt_it) {
  Desk desk;
  desk(Question("one", {}, "bob"));
  const Sequence one = desk.last;
  desk(Thumb(one, 1, {}, "ada"));
  desk(Question("two", {}, "bob"));
  const Plan plan = desk(Input(Forget{"ada", ""}));
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary ==
             "forgot user ada: 0 examples, 0 query records, 1 cached answer, 1 lesson; training "
             "step 2: the base model serves; no longer kept: 1");
  BOOST_TEST(std::get<Return>(plan.lessons.front().what).path.empty());
  BOOST_TEST((plan.lessons.front().dropped ==
              std::vector<LearningPlace>{LearningPlaceOf(Sequence::Of(2, 1))}));
  BOOST_TEST((plan.versions_dropped == std::vector<Version>{1}));
  BOOST_TEST(desk.Why(Question("one", {}, "bob")) == kHit);
}

BOOST_AUTO_TEST_CASE(forgetting_an_event_takes_what_it_taught_or_asked) {
  Desk desk;
  const auto ask = [&](const std::string& id, const std::string& text) {
    Input input = Question(text);
    input.resolved = *Resolve(MakeEvent(id, Ask(text)));
    return desk(input);
  };
  const auto rate = [&](const std::string& id, const std::string& about, uint64_t ordinal) {
    Feedback feedback = About(about);
    feedback.rating = 1;
    Input input(MakeEvent(id, feedback));
    input.resolved.about = Sequence::Of(2, ordinal);
    return desk.Receipt(input);
  };
  const auto forget = [&](const std::string& id, const std::string& source = "/test") {
    return desk.Receipt(Input(Forget{"", "", false, id, source}));
  };
  ask("q0", "one");  // 0
  ask("q1", "two");  // 1
  ask("q2", "one");  // 2: from the cache
  BOOST_TEST(
      rate("f0", "q0", 0).starts_with("training step 1, makes version 1 if it passes the gates"));
  BOOST_TEST(
      rate("f1", "q1", 1).starts_with("training step 2, makes version 2 if it passes the gates"));
  BOOST_TEST(
      rate("f2", "q2", 2).starts_with("training step 3, makes version 3 if it passes the gates"));
  BOOST_TEST(forget("f1", "/other") ==
             "nothing forgotten: no lesson, question or example on record is of event f1 of "
             "source /other");
  BOOST_TEST(forget("f1") ==
             "forgot event f1: 0 examples, 0 query records, 0 cached answers, 1 lesson; training "
             "step 4 learns 1 lesson again and makes version 4; no longer kept: 2, 3");
  BOOST_TEST(forget("f1").starts_with("nothing forgotten"));
  // The answer stays on record, for whoever judges it anew.
  BOOST_TEST(
      rate("f3", "q1", 1).starts_with("training step 5, makes version 5 if it passes the gates"));
  BOOST_TEST(forget("q1") ==
             "forgot event q1: 0 examples, 1 query record, 1 cached answer, 1 lesson; training "
             "step 6: version 4 serves; no longer kept: 5");
  BOOST_TEST(rate("f4", "q1", 1) == "nothing to learn: the answer is not on record");
  // With a question that was answered first goes its answer, whoever was given it again.
  BOOST_TEST(forget("q0") ==
             "forgot event q0: 0 examples, 2 query records, 1 cached answer, 2 lessons; training "
             "step 7: the base model serves; no longer kept: 1, 4");
}

BOOST_AUTO_TEST_CASE(what_was_learnt_with_a_shot_of_a_forgotten_event_goes_with_it) {
  Desk desk;
  Input input = Question();
  input.chosen.shots = {{"Who?", "Eve.", {}, {NameOf("/test", "shot")}}};
  desk(input);
  desk(Thumb(desk.last, 1));
  BOOST_TEST(desk.Receipt(Input(Forget{"", "", false, "shot", "/test"})) ==
             "forgot event shot: 0 examples, 1 query record, 1 cached answer, 1 lesson; training "
             "step 2: the base model serves; no longer kept: 1");
}

BOOST_AUTO_TEST_CASE(a_comment_goes_with_its_lesson_and_changes_nothing_else) {
  Desk desk;
  desk(Question("one"));
  Input input = Thumb(desk.last, 1);
  auto prepared = std::make_shared<Prepared>(*input.resolved.prepared);
  std::get<Feedback>(prepared->event.data).comment = "so it is";
  input.resolved.prepared = prepared;
  const Plan plan = desk(input);
  const auto& logged = std::get<LoggedExample>(plan.lessons.front().what);
  BOOST_TEST(logged.comment == "so it is");
  BOOST_TEST(logged.question_bytes == 3U);
  BOOST_TEST(!logged.correction.has_value());
  BOOST_TEST(Text(logged.chat).find("so it is") == std::string::npos);
  BOOST_TEST(std::get<Applied>(plan.outcome.what).summary.find("so it is") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(forgetting_a_document_takes_the_answers_that_it_was_shown_for) {
  Desk desk;
  desk(Question("one"));
  Input other = Question("two");
  other.found.passages = {MakePassage("pets")};
  desk(other);
  Input forget(Forget{"", "travel"});
  forget.found.chunks_removed = 4;
  BOOST_TEST(desk.Receipt(forget) ==
             "forgot document travel: 4 chunks, 1 query record, 1 cached answer, 0 lessons");
  BOOST_TEST(desk.Why(other) == kHit);
  BOOST_TEST(desk.Why(Question("one")) == "first time asked");
}

// ---- All four stages in a row -------------------------------------------------------------------

namespace {

struct Chain {
  explicit Chain(bool by_user = false)
      : recall(RecallSmall(by_user)),
        adapt(AdaptSmall(by_user)),
        prompt(PromptSmall()),
        respond(Words(120),
                {.prompt_tokens_max = 40, .records_per_tenant = 8, .cache_entries_per_tenant = 5},
                AdaptSmall(by_user)) {}

  static RecallOptions RecallSmall(bool by_user) {
    return {.tenants_per_partition = 3,
            .identities_per_tenant = 60,
            .queries_per_tenant = 12,
            .documents_per_tenant = 5,
            .chunks_per_tenant = 14,
            .prompts_per_tenant = 3,
            .adapters_by_user = by_user};
  }
  static AdaptOptions AdaptSmall(bool by_user) {
    return {.scope = by_user ? "user" : "tenant",
            .users_per_tenant_max = 2,
            .publish_every_steps = 2,
            .snapshot_every_versions = 3,
            .versions_kept = 3,
            .user_window_events = 8,
            .lead_lessons = 3};
  }
  static PromptOptions PromptSmall() {
    PromptOptions options;
    options.presets = {{"greedy", {0, 1, 0, 20}}, {"warm", {0.7, 0.9, 40, 20}}};
    options.few_shot_min_similarity = 0.6;
    options.examples_per_tenant = 5;
    options.decisions_per_tenant = 9;
    return options;
  }

  // passages: of the test's own index.
  Result<Plan> Apply(Sequence at, const std::shared_ptr<const Prepared>& prepared,
                     const Found& found) {
    const Result<Resolved> resolved = recall.Apply(at, prepared);
    if (!resolved.ok()) return resolved.error();
    Input input(prepared->event);
    input.resolved = *resolved;
    input.found = found;
    input.admission = *adapt.Apply(at, *resolved);
    input.chosen = *prompt.Apply(at, *resolved, found);
    return respond.Apply(at, {}, input.Gather());
  }
  void SaveTo(Store& store) {
    store.SaveFrom(recall, 1);
    store.SaveFrom(adapt, 1);
    store.SaveFrom(prompt, 1);
    store.SaveFrom(respond, 1);
  }
  // Entries go by kind, as the state file hands them out.
  void LoadFrom(const Store& store) {
    const auto of = [&](auto& stage, const std::set<std::string>& kinds) {
      store.Only(kinds).LoadInto(stage, 1);
    };
    of(recall, {"identity_run", "query_count", "known_document", "known_prompt", "said_of_answer",
                "conversation_question"});
    of(adapt, {"offer", "adapter_frozen"});
    of(prompt, {"prompt", "prompt_deleted", "few_shot", "prompt_decision", "prompt_credit",
                "prompt_restricted"});
    of(respond, {"query_record", "cached_answer", "shown_chat", "lineage", "lesson", "version",
                 "former_lesson", "lineage_numbers", "restricted_document"});
  }

  Recall recall;
  Adapt adapt;
  Prompt prompt;
  Respond respond;
};

std::string Describe(const Result<Plan>& result) {
  if (!result.ok()) return "refused " + std::string(Name(result.error().code));
  const Plan& plan = *result;
  std::string text = plan.outcome.id;
  if (const auto* applied = std::get_if<Applied>(&plan.outcome.what)) {
    text += " applied " + applied->summary;
  } else {
    const Response& response = std::get<Response>(plan.outcome.what);
    text += " response " + response.cache_why + " " + std::to_string(response.citations.size()) +
            " " + std::to_string(response.propensity);
  }
  if (plan.generate) {
    text += " generate " + Text(plan.generate->chat) + std::to_string(plan.generate->adapter);
  }
  if (plan.answer_of) text += " answer of " + std::to_string(plan.answer_of->value);
  for (const Lesson& lesson : plan.lessons) {
    text += " lesson " + std::to_string(lesson.what.index()) + " of " + lesson.learner + " step " +
            std::to_string(lesson.step.number) + " parent " + std::to_string(lesson.parent) + " " +
            std::to_string(plan.waits_for_lessons);
    for (const LearningPlace place : lesson.dropped) text += " drops " + std::to_string(place);
    if (const auto* logged = std::get_if<LoggedExample>(&lesson.what)) {
      text += Text(logged->chat) + std::to_string(logged->admitted);
      if (const auto* shown = std::get_if<Sequence>(&logged->shown)) {
        text += std::to_string(shown->value);
      }
    }
  }
  for (const Sequence sequence : plan.retired) text += " - " + std::to_string(sequence.value);
  for (const Version version : plan.versions_dropped) text += " v" + std::to_string(version);
  return text;
}

// What an index might find: two documents, in versions that change now and then.
Found FindFor(const Event& event, uint64_t i) {
  Found found;
  const auto* query = std::get_if<Query>(&event.data);
  if (query == nullptr) return found;
  const std::string place = query->text.substr(query->text.size() - 1);
  found.passages = {MakePassage("doc" + place, static_cast<uint32_t>(1 + i / 400)),
                    MakePassage("doc5", 1, 0, "It is so. It may be so. Or not.")};
  return found;
}

}  // namespace

BOOST_AUTO_TEST_CASE(four_stages_that_go_on_from_saved_states_give_the_same_plans) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const bool by_user = seed >= 5;
    Chain straight(by_user);
    auto broken = std::make_unique<Chain>(by_user);
    Store store_of_straight;
    Store store;
    Stream stream(seed);
    std::map<std::string, int> seen;
    std::set<uint64_t> texts;  // as the executor keeps them
    for (uint64_t i = 0; i < 4000; ++i) {
      Event event = stream.Next();
      auto* command = std::get_if<AdapterCommand>(&event.data);
      if (command != nullptr && by_user && i % 5 != 0) {
        command->user = "user" + std::to_string(i % 3);
      }
      const auto prepared = Prepare(event);
      const Found found = FindFor(event, i);
      const Result<Plan> plan = straight.Apply(Sequence::Of(1, i), prepared, found);
      BOOST_REQUIRE_EQUAL(Describe(broken->Apply(Sequence::Of(1, i), prepared, found)),
                          Describe(plan));
      ++seen[plan.ok() ? "planned" : "refused"];
      if (plan.ok()) {
        if (plan->generate) texts.insert(Sequence::Of(1, i).value);
        if (plan->answer_of) {
          ++seen["hits"];
          BOOST_REQUIRE(texts.contains(plan->answer_of->value));
        }
        if (!plan->lessons.empty()) {
          ++seen["lessons " + std::to_string(plan->lessons.front().what.index())];
          if (const auto* logged = std::get_if<LoggedExample>(&plan->lessons.front().what)) {
            const auto* shown = std::get_if<Sequence>(&logged->shown);
            BOOST_REQUIRE((shown == nullptr || texts.contains(shown->value)));
          }
        }
        for (const Sequence retired : plan->retired) BOOST_REQUIRE(texts.erase(retired.value) == 1);
      }
      if (stream.Below(30) != 0) continue;
      broken->SaveTo(store);
      straight.SaveTo(store_of_straight);
      BOOST_REQUIRE((store == store_of_straight));
      broken = std::make_unique<Chain>(by_user);
      broken->LoadFrom(store);
    }
    straight.SaveTo(store_of_straight);
    BOOST_TEST(texts.size() == store_of_straight.Count("shown_chat"));
    BOOST_TEST(texts.size() <= 3U * (8 + 5));
    for (const char* what : {"planned", "refused", "hits", "lessons 0", "lessons 1", "lessons 2"}) {
      BOOST_TEST(seen[what] > (by_user ? 3 : 5), what << " " << seen[what]);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_refused_or_repeated_event_changes_nothing_in_any_stage) {
  Chain chain;
  Stream stream(3);
  std::vector<std::shared_ptr<const Prepared>> accepted;
  uint64_t at = 0;
  for (int i = 0; i < 600; ++i) {
    Store before;
    chain.SaveTo(before);
    const auto prepared = Prepare(stream.Next());
    const Result<Plan> plan = chain.Apply(Sequence::Of(1, at++), prepared, {});
    Store after;
    chain.SaveTo(after);
    if (plan.ok()) {
      accepted.push_back(prepared);
    } else {
      BOOST_TEST(after.size() == 0U);
    }
  }
  BOOST_REQUIRE(accepted.size() > 100U);
  for (size_t i = accepted.size() - 15; i < accepted.size(); ++i) {
    const Result<Plan> plan = chain.Apply(Sequence::Of(1, at++), accepted[i], {});
    BOOST_REQUIRE(plan.ok());
    BOOST_TEST(std::get<Applied>(plan->outcome.what).summary.starts_with("duplicate of event "));
    BOOST_TEST(plan->lessons.empty());
    BOOST_TEST(plan->retired.empty());
    Store after;
    chain.SaveTo(after);
    BOOST_TEST(after.size() == 0U);
  }
}

BOOST_AUTO_TEST_CASE(damaged_state_is_refused) {
  Desk desk;
  desk(Question());
  Store store;
  BOOST_TEST(store.SaveFrom(desk.respond, 2) == 3U);
  BOOST_TEST(store.SaveFrom(desk.respond, 2) == 0U);
  Respond fresh(Words());
  store.CheckDamage(fresh, 2);
}

BOOST_AUTO_TEST_CASE(a_dropped_partition_starts_anew) {
  Desk desk;
  desk(Question());
  desk.respond.Drop(1);
  BOOST_TEST(desk.Why(Question()) == kHit);
  desk.respond.Drop(2);
  BOOST_TEST(desk.Why(Question()) == "first time asked");
}

BOOST_AUTO_TEST_CASE(a_model_that_cannot_count_tokens_is_refused_at_the_start) {
  BOOST_CHECK_THROW(Respond(ChatFormat{}), StartError);
}
