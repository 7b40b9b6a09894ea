// labels: unit
// Rows of states that were saved before documents had rights: they are read, as for everybody.
#include <boost/test/unit_test.hpp>

#include "stages/answer_records.h"
#include "stages/lineage.h"
#include "stages/prompt.h"
#include "stages/recall.h"
#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

BOOST_AUTO_TEST_CASE(few_shots_and_decisions_of_before_are_for_everybody) {
  Prompt prompt;
  ByteWriter shot;
  shot.U8(4);
  shot.Text("how many are there");
  shot.Text("seven");
  shot.Names({"ada"});
  shot.Numbers({1});
  shot.Floats(VectorOf("how many are there"));
  shot.F64(0);
  shot.F64(0);
  BOOST_REQUIRE(prompt.Load(0, {"acme", "few_shot", RowId(uint64_t{5}), shot.Take()}).ok());
  ByteWriter decision;
  decision.U8(4);
  decision.Text("default");
  decision.U32(1);
  decision.Text("greedy");
  decision.U64(0);
  decision.Text("ada");
  decision.U64(7);
  decision.Text("");
  decision.Floats(Vector());
  BOOST_REQUIRE(
      prompt.Load(0, {"acme", "prompt_decision", RowId(uint64_t{6}), decision.Take()}).ok());
  const Result<Chosen> chosen =
      prompt.Apply(Sequence::Of(0, 9), *Resolve(MakeEvent("q", Ask("how many are there"))));
  BOOST_REQUIRE(chosen.ok());
  BOOST_REQUIRE(chosen->shots.size() == 1);
  BOOST_TEST(chosen->shots[0].answer == "seven");
  BOOST_TEST(!chosen->shots[0].rests_on.restricted());
}

BOOST_AUTO_TEST_CASE(answers_of_before_rest_on_no_list) {
  ByteWriter writer;
  writer.U8(4);
  writer.Names({"ada"});
  writer.Names({"plans"});
  writer.Numbers({1, 2});
  writer.U64(3);
  writer.U64(1);
  writer.Text("user");
  writer.Text("why");
  ShownAnswers shown;
  BOOST_REQUIRE(shown.Load({"acme", ShownAnswers::kKind, RowId(uint64_t{5}), writer.Take()}).ok());
  const std::optional<ShownChat> chat = shown.Find(5);
  BOOST_REQUIRE(chat.has_value());
  BOOST_TEST((chat->documents == std::set<std::string>{"plans"}));
  BOOST_TEST(chat->question_bytes == 3U);
  BOOST_TEST(!chat->rests_on.restricted());
}

BOOST_AUTO_TEST_CASE(lessons_of_before_rest_on_no_list) {
  ByteWriter writer;
  writer.U8(3);
  writer.U64(0);
  writer.U8(false);
  writer.U8(true);
  writer.Names({"ada"});
  writer.Names({"plans"});
  writer.Numbers({1});
  for (int i = 0; i < 5; ++i) writer.Text("x");
  writer.U64(1);
  writer.U32(0);
  writer.U8(false);
  writer.U8(0);
  Lineage lineage;
  BOOST_REQUIRE(
      lineage.Load({"acme", Lineage::kPlaceKind, RowId(uint64_t{5}), writer.Take()}).ok());
  BOOST_REQUIRE(lineage.Lessons().size() == 1);
  BOOST_TEST((lineage.Lessons()[0].rests_on == RestsOn{{"plans"}, {}}));
}

BOOST_AUTO_TEST_CASE(documents_of_before_are_of_no_source) {
  Recall recall;
  ByteWriter writer;
  writer.U8(2);
  writer.U32(1);
  writer.Text("ada");
  BOOST_REQUIRE(recall.Load(0, {"acme", "known_document", "plans", writer.Take()}).ok());
  const auto removed = [&](const std::string& id, decltype(Event::data) data) {
    return recall.Apply(Sequence::Of(0, id.size()), Prepare(MakeEvent(id, std::move(data))))
        ->removed;
  };
  BOOST_TEST(removed("a", SourceSync{"/test", {}}).empty());
  BOOST_TEST((removed("bb", DocumentDelete{"plans"}) == std::vector<std::string>{"plans"}));
}
