// labels: unit
#include "stages/recall.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "tests/serial_stages.h"

using namespace nudge;
using namespace nudge::serial;

namespace {

struct Gate {
  explicit Gate(RecallOptions options = {}) : recall(std::move(options)) {}

  Result<Resolved> operator()(Event event) {
    return recall.Apply(Sequence::Of(partition, next++), Prepare(std::move(event)));
  }
  void Passes(Event event) { BOOST_REQUIRE((*this)(std::move(event)).ok()); }
  // Refused with this code, and nothing has changed.
  Error Refused(Event event, Code code) {
    Changes before;
    recall.Save(partition, before);
    const Result<Resolved> resolved = (*this)(std::move(event));
    BOOST_REQUIRE(!resolved.ok());
    BOOST_TEST(Name(resolved.error().code) == Name(code));
    BOOST_TEST(!resolved.error().remedy.empty());
    Changes after;
    recall.Save(partition, after);
    BOOST_TEST(after.empty());
    return resolved.error();
  }

  Recall recall;
  int32_t partition = 3;
  uint64_t next = 0;
};

DocumentUpsert Document(const std::string& id, const std::string& text = "a line") {
  DocumentUpsert upsert;
  upsert.document_id = id;
  upsert.text = text;
  return upsert;
}

std::string Describe(const Result<Resolved>& resolved) {
  if (!resolved.ok()) {
    return std::string(Name(resolved.error().code)) + " " + resolved.error().message;
  }
  const auto number = [](const std::optional<Sequence>& sequence) {
    return sequence ? std::to_string(sequence->value) : "-";
  };
  std::string text =
      "duplicate_of " + number(resolved->duplicate_of) + " about " + number(resolved->about);
  for (const Sequence word : resolved->earlier) text += " behind " + std::to_string(word.value);
  return text + (resolved->unheard == Unheard::kOneTooMany ? " one too many" : "");
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_event_seen_before_is_a_duplicate_of_the_first) {
  Gate gate;
  gate.Passes(MakeEvent("other", Ask("b")));
  BOOST_TEST(!gate(MakeEvent("q", Ask("a")))->duplicate_of);
  const Result<Resolved> again = gate(MakeEvent("q", Ask("a")));
  BOOST_REQUIRE(again->duplicate_of.has_value());
  BOOST_TEST(again->duplicate_of->value == Sequence::Of(3, 1).value);
  BOOST_TEST(!again->about);
}

BOOST_AUTO_TEST_CASE(an_identity_that_comes_again_with_other_content_is_refused_by_name) {
  Gate gate;
  gate.Passes(MakeEvent("q", Ask("a")));
  Feedback up = About("q");
  up.rating = 1;
  Feedback down = up;
  down.rating = -1;
  gate.Passes(MakeEvent("f", up));
  const Error error = gate.Refused(MakeEvent("f", down), Code::kChangedEvent);
  BOOST_TEST(error.message ==
             "id: 'f' of source '/test' is event 1, which had other content; this one changes "
             "nothing");
  BOOST_TEST(error.remedy == "an id names one event for ever: send what changed under a new id");
  gate.Refused(MakeEvent("f", up, "acme", "another user"), Code::kChangedEvent);
  gate.Refused(MakeEvent("f", Ask("a")), Code::kChangedEvent);
  BOOST_TEST(gate(MakeEvent("f", up))->duplicate_of.has_value());
  BOOST_TEST(!gate(MakeEvent("f2", down))->duplicate_of);
}

BOOST_AUTO_TEST_CASE(an_identity_of_a_state_that_kept_no_content_is_a_duplicate_whatever_it_says) {
  Gate gate;
  gate.Passes(MakeEvent("q", Ask("a")));
  Changes changes;
  gate.recall.Save(3, changes);
  const auto run = std::find_if(changes.begin(), changes.end(),
                                [](const Change& change) { return change.kind == "identity_run"; });
  BOOST_REQUIRE(run != changes.end());
  run->value->front() = 1;
  run->value->resize(run->value->size() - sizeof(uint64_t));  // as version 1 wrote it
  Gate next;
  for (const Change& change : changes) BOOST_REQUIRE(next.recall.Load(3, change).ok());
  next.next = 1;
  BOOST_TEST(next(MakeEvent("q", Ask("b")))->duplicate_of.has_value());
  next.Passes(MakeEvent("q2", Ask("a")));
  next.Refused(MakeEvent("q2", Ask("b")), Code::kChangedEvent);
}

BOOST_AUTO_TEST_CASE(a_signed_command_is_known_however_many_other_events_came_between) {
  RecallOptions options{.identities_per_tenant = 4, .keeps_commands = true};
  const AdapterCommand reset{AdapterCommand::Action::kReset};
  const auto flood = [](Gate& gate) {
    for (int i = 0; i < 10; ++i) {
      gate.Passes(MakeEvent("q" + std::to_string(gate.next), Ask("a")));
    }
  };
  Gate gate(options);
  gate.Passes(MakeEvent("reset", reset));
  flood(gate);
  BOOST_TEST(!gate(MakeEvent("q1", Ask("a")))->duplicate_of);  // forgotten long ago
  BOOST_TEST(gate(MakeEvent("reset", reset))->duplicate_of.has_value());
  Changes changes;
  gate.recall.Save(3, changes);
  gate.Refused(MakeEvent("reset", Ask("a")), Code::kChangedEvent);

  // So it is behind a restart, also of one that keeps no further commands.
  for (const bool keeps : {true, false}) {
    options.keeps_commands = keeps;
    Gate next(options);
    for (const Change& change : changes) BOOST_REQUIRE(next.recall.Load(3, change).ok());
    next.next = gate.next;
    flood(next);
    BOOST_TEST(next(MakeEvent("reset", reset))->duplicate_of.has_value());
  }

  // Only commands push commands out.
  for (int i = 0; i < 4; ++i) gate.Passes(MakeEvent("c" + std::to_string(i), reset));
  BOOST_TEST(!gate(MakeEvent("reset", reset))->duplicate_of);

  Gate unsigned_commands({.identities_per_tenant = 4});
  unsigned_commands.Passes(MakeEvent("reset", reset));
  flood(unsigned_commands);
  BOOST_TEST(!unsigned_commands(MakeEvent("reset", reset))->duplicate_of);
}

BOOST_AUTO_TEST_CASE(the_same_id_of_another_source_or_tenant_is_another_event) {
  Gate gate;
  gate.Passes(MakeEvent("q", Ask("a")));
  BOOST_TEST(!gate(MakeEvent("q", Ask("a"), "umbrella"))->duplicate_of);
  Event event = MakeEvent("q", Ask("a"));
  event.source = "/elsewhere";
  BOOST_TEST(!gate(event)->duplicate_of);
}

BOOST_AUTO_TEST_CASE(a_duplicate_changes_nothing) {
  Gate gate({.documents_per_tenant = 2});
  gate.Passes(MakeEvent("d", Document("one")));
  Changes changes;
  gate.recall.Save(3, changes);
  changes.clear();
  BOOST_TEST(gate(MakeEvent("d", Document("one")))->duplicate_of.has_value());
  gate.recall.Save(3, changes);
  BOOST_TEST(changes.empty());
  BOOST_TEST(gate(MakeEvent("d2", Document("two"))).ok());
}

BOOST_AUTO_TEST_CASE(identities_leave_the_window_in_log_order) {
  Gate gate({.identities_per_tenant = 3});
  for (const char* id : {"a", "b", "c"}) gate.Passes(MakeEvent(id, Ask("x")));
  BOOST_TEST(gate(MakeEvent("a", Ask("x")))->duplicate_of.has_value());  // takes no place
  gate.Passes(MakeEvent("d", Ask("x")));
  BOOST_TEST(gate(MakeEvent("b", Ask("x")))->duplicate_of.has_value());
  BOOST_TEST(!gate(MakeEvent("a", Ask("x")))->duplicate_of.has_value());
}

BOOST_AUTO_TEST_CASE(a_refused_event_may_be_sent_again) {
  Gate gate;
  const Event event = MakeEvent("q", AskPrompt("a", "friendly"));
  gate.Passes(MakeEvent("first", Ask("a")));
  gate.Refused(event, Code::kUnknownPrompt);
  gate.Passes(MakeEvent("p", PromptUpsert{"friendly", "be friendly", {}}));
  BOOST_TEST(gate(event).ok());
  BOOST_TEST(gate(event)->duplicate_of.has_value());
}

BOOST_AUTO_TEST_CASE(tenants_of_a_partition_are_limited) {
  Gate gate({.tenants_per_partition = 2});
  gate.Passes(MakeEvent("1", Ask("a"), "a"));
  gate.Passes(MakeEvent("1", Ask("a"), "b"));
  gate.Refused(MakeEvent("1", Ask("a"), "c"), Code::kTenantLimit);
  BOOST_TEST(gate(MakeEvent("2", Ask("a"), "b")).ok());
  gate.partition = 4;
  BOOST_TEST(gate(MakeEvent("1", Ask("a"), "c")).ok());
}

BOOST_AUTO_TEST_CASE(a_refused_first_event_makes_no_tenant) {
  Gate gate({.tenants_per_partition = 1});
  gate.Refused(MakeEvent("1", About("nothing"), "a"), Code::kUnknownQuery);
  BOOST_TEST(gate(MakeEvent("1", Ask("a"), "b")).ok());
}

BOOST_AUTO_TEST_CASE(documents_of_a_tenant_are_limited) {
  Gate gate({.documents_per_tenant = 2});
  gate.Passes(MakeEvent("1", Document("one")));
  gate.Passes(MakeEvent("2", Document("two")));
  gate.Refused(MakeEvent("3", Document("three")), Code::kTenantLimit);
  BOOST_TEST(gate(MakeEvent("4", Document("two", "anew"))).ok());
  gate.Passes(MakeEvent("5", DocumentDelete{"one"}));
  BOOST_TEST(gate(MakeEvent("6", Document("three"))).ok());
  gate.Passes(MakeEvent("7", Forget{"", "two"}));
  BOOST_TEST(gate(MakeEvent("8", Document("four"))).ok());
  gate.Refused(MakeEvent("9", Document("five")), Code::kTenantLimit);
  BOOST_TEST(gate(MakeEvent("1", Document("one"), "umbrella")).ok());
}

BOOST_AUTO_TEST_CASE(chunks_of_a_tenant_are_limited) {
  Gate gate({.chunks_per_tenant = 4});
  gate.Passes(MakeEvent("1", Document("one", "a\nb\nc")));
  const Error error = gate.Refused(MakeEvent("2", Document("two", "a\nb")), Code::kTenantLimit);
  BOOST_TEST(error.message == "document 'two' would give its tenant 5 chunks: the limit is 4");
  BOOST_TEST(gate(MakeEvent("3", Document("one", "a\nb"))).ok());  // an older version's go
  BOOST_TEST(gate(MakeEvent("4", Document("two", "a\nb"))).ok());
  gate.Refused(MakeEvent("5", Document("two", "a\nb\nc")), Code::kTenantLimit);
  gate.Passes(MakeEvent("6", DocumentDelete{"one"}));
  gate.Passes(MakeEvent("7", DocumentDelete{"one"}));  // twice: counted once
  BOOST_TEST(gate(MakeEvent("8", Document("two", "a\nb\nc\nd"))).ok());
  gate.Refused(MakeEvent("9", Document("three", "a")), Code::kTenantLimit);
}

BOOST_AUTO_TEST_CASE(prompts_of_a_tenant_are_limited) {
  Gate gate({.prompts_per_tenant = 2});
  gate.Passes(MakeEvent("1", PromptUpsert{"default", "x", {}}));  // is there anyway
  BOOST_TEST(gate(MakeEvent("2", PromptUpsert{"a", "x", {}})).ok());
  gate.Refused(MakeEvent("3", PromptUpsert{"b", "x", {}}), Code::kTenantLimit);
  BOOST_TEST(gate(MakeEvent("4", PromptUpsert{"a", "y", {}})).ok());
  gate.Passes(MakeEvent("5", PromptDelete{"default"}));  // cannot go
  gate.Refused(MakeEvent("6", PromptUpsert{"b", "x", {}}), Code::kTenantLimit);
  gate.Passes(MakeEvent("7", PromptDelete{"a"}));
  BOOST_TEST(gate(MakeEvent("8", PromptUpsert{"b", "x", {}})).ok());
}

BOOST_AUTO_TEST_CASE(a_query_may_name_only_prompts_that_are_there) {
  Gate gate;
  BOOST_TEST(gate(MakeEvent("1", AskPrompt("a", "default"))).ok());
  gate.Refused(MakeEvent("2", AskPrompt("a", "friendly")), Code::kUnknownPrompt);
  gate.Passes(MakeEvent("3", PromptUpsert{"friendly", "x", {}}));
  BOOST_TEST(gate(MakeEvent("4", AskPrompt("a", "friendly"))).ok());
  gate.Refused(MakeEvent("4", AskPrompt("a", "friendly"), "umbrella"), Code::kUnknownPrompt);
  gate.Passes(MakeEvent("5", PromptDelete{"friendly"}));
  gate.Refused(MakeEvent("6", AskPrompt("a", "friendly")), Code::kUnknownPrompt);
}

BOOST_AUTO_TEST_CASE(feedback_learns_which_query_it_is_about) {
  Gate gate;
  gate.Passes(MakeEvent("q1", Ask("a")));
  gate.Passes(MakeEvent("q2", Ask("a")));
  const Result<Resolved> resolved = gate(MakeEvent("f", About("q1")));
  BOOST_REQUIRE((resolved.ok() && resolved->about));
  BOOST_TEST(resolved->about->value == Sequence::Of(3, 0).value);
  Event from_elsewhere = MakeEvent("f", About("q2"));
  from_elsewhere.source = "/buttons";
  gate.Refused(from_elsewhere, Code::kUnknownQuery);
  std::get<Feedback>(from_elsewhere.data).query_source = "/test";
  BOOST_TEST(gate(from_elsewhere)->about->value == Sequence::Of(3, 1).value);
}

BOOST_AUTO_TEST_CASE(inline_feedback_is_about_no_query) {
  Gate gate;
  Feedback feedback;
  feedback.inline_answer = Feedback::Inline{"q", "a"};
  const Result<Resolved> resolved = gate(MakeEvent("f", feedback));
  BOOST_REQUIRE(resolved.ok());
  BOOST_TEST(!resolved->about);
}

namespace {

// What is said of the answer to q, or inline, and what its user has said before, by ordinals.
struct Talk {
  explicit Talk(RecallOptions options = {}) : gate(std::move(options)) {
    gate.Passes(MakeEvent("q", Ask("a")));
  }
  std::string operator()(Feedback feedback, const std::string& user = "ada",
                         const std::string& source = "/test") {
    Event event = MakeEvent("f" + std::to_string(gate.next), std::move(feedback), "acme", user);
    event.source = source;
    const Result<Resolved> resolved = gate(std::move(event));
    BOOST_REQUIRE(resolved.ok());
    std::string text;
    for (const Sequence word : resolved->earlier) {
      text += (text.empty() ? "" : " ") + std::to_string(word.ordinal());
    }
    return text + (resolved->unheard == Unheard::kNo           ? ""
                   : resolved->unheard == Unheard::kOneTooMany ? "one too many"
                                                               : "signals only");
  }
  std::string Rate(const std::string& user = "ada") {
    Feedback feedback = About("q");
    feedback.rating = 1;
    return (*this)(feedback, user);
  }
  std::string TakeBack(const std::string& user = "ada") {
    Feedback feedback = About("q");
    feedback.takes_back = true;
    return (*this)(feedback, user);
  }

  Gate gate;
};

}  // namespace

BOOST_AUTO_TEST_CASE(feedback_learns_what_its_user_said_of_the_answer_before) {
  Talk talk;
  BOOST_TEST(talk.Rate() == "");
  BOOST_TEST(talk.Rate("bob") == "");
  BOOST_TEST(talk.Rate() == "1");
  BOOST_TEST(talk.TakeBack() == "1 3");
  BOOST_TEST(talk.Rate() == "1 3 4");
  BOOST_TEST(talk.Rate("") == "");  // nobody
  BOOST_TEST(talk.Rate("") == "");
  Feedback elsewhere = About("q");
  elsewhere.query_source = "/test";
  elsewhere.rating = 1;
  BOOST_TEST(talk(elsewhere, "ada", "/mobile") == "");  // another source's user
  BOOST_TEST(talk(elsewhere, "bob") == "2");            // the same query, by its full name
}

BOOST_AUTO_TEST_CASE(the_same_inline_answer_is_the_same_answer) {
  Talk talk;
  Feedback feedback;
  feedback.inline_answer = Feedback::Inline{"what is it", "a boat"};
  BOOST_TEST(talk(feedback) == "");
  BOOST_TEST(talk(feedback, "bob") == "");
  BOOST_TEST(talk(feedback) == "1");
  feedback.inline_answer->completion = "a ship";
  BOOST_TEST(talk(feedback) == "");
}

BOOST_AUTO_TEST_CASE(what_is_taken_back_before_anything_was_said_is_no_word) {
  Talk talk;
  BOOST_TEST(talk.TakeBack() == "");
  BOOST_TEST(talk.Rate() == "");
  BOOST_TEST(talk.Rate() == "2");
}

BOOST_AUTO_TEST_CASE(signals_replace_signals_and_no_rating_or_correction) {
  Talk talk;
  const auto click = [&] {
    Feedback feedback = About("q");
    feedback.rating.reset();
    feedback.behaviour.clicked = true;
    return talk(feedback);
  };
  BOOST_TEST(click() == "");
  BOOST_TEST(click() == "1");
  BOOST_TEST(talk.Rate() == "1 2");
  BOOST_TEST(click() == "signals only");
  BOOST_TEST(talk.Rate() == "1 2 3");  // the click behind it is no word
  BOOST_TEST(talk.TakeBack() == "1 2 3 5");
  BOOST_TEST(click() == "1 2 3 5 6");  // no rating stands
  talk.Rate();
  talk.gate.Passes(MakeEvent("g", Forget{"", "", false, "f8", "/test"}));
  BOOST_TEST(click() == "1 2 3 5 6 7 8");  // it was forgotten
}

BOOST_AUTO_TEST_CASE(a_user_may_replace_their_word_so_often_and_no_more) {
  Talk talk({.replacements_max = 2});
  BOOST_TEST(talk.Rate() == "");
  BOOST_TEST(talk.Rate() == "1");
  BOOST_TEST(talk.Rate() == "1 2");
  BOOST_TEST(talk.Rate() == "one too many");
  BOOST_TEST(talk.TakeBack() == "one too many");
  BOOST_TEST(talk.Rate("bob") == "");
  Talk never({.replacements_max = 0});
  BOOST_TEST(never.Rate() == "");
  BOOST_TEST(never.Rate() == "one too many");
}

BOOST_AUTO_TEST_CASE(what_was_said_is_forgotten_with_its_user_question_or_event) {
  Talk talk({.replacements_max = 3});
  for (int i = 0; i < 3; ++i) talk.Rate();
  // Its number stays, since what came later may stand in its place.
  talk.gate.Passes(MakeEvent("g1", Forget{"", "", false, "f1", "/test"}));
  BOOST_TEST(talk.Rate() == "1 2 3");
  talk.gate.Passes(MakeEvent("g2", Forget{"bob", ""}));
  BOOST_TEST(talk.Rate() == "one too many");
  talk.gate.Passes(MakeEvent("g3", Forget{"ada", ""}));
  BOOST_TEST(talk.Rate() == "");
  BOOST_TEST(talk.Rate() == "9");
  talk.gate.Passes(MakeEvent("g4", Forget{"", "", false, "q", "/test"}));
  BOOST_TEST(talk.Rate() == "");
  talk.gate.Passes(MakeEvent("g5", Forget{"", "", false, "f12", "/test"}));
  BOOST_TEST(talk.Rate() == "");
}

BOOST_AUTO_TEST_CASE(what_was_said_last_before_the_identities_that_are_kept_is_not_known) {
  Talk talk({.identities_per_tenant = 4});
  BOOST_TEST(talk.Rate() == "");
  BOOST_TEST(talk.Rate() == "1");
  talk.gate.Passes(MakeEvent("q2", Ask("b")));
  Feedback second = About("q2");
  for (int i = 0; i < 2; ++i) talk(second);
  talk.gate.Passes(MakeEvent("q", Ask("a")));  // its identity has left as well
  BOOST_TEST(talk.Rate() == "");
}

BOOST_AUTO_TEST_CASE(feedback_about_an_event_never_seen_is_refused) {
  Gate gate;
  gate.Passes(MakeEvent("q", Ask("a")));
  gate.Refused(MakeEvent("f", About("x")), Code::kUnknownQuery);
  gate.Refused(MakeEvent("f", About("q"), "umbrella"), Code::kUnknownQuery);
}

BOOST_AUTO_TEST_CASE(feedback_about_an_event_that_is_no_query_is_refused) {
  Gate gate;
  gate.Passes(MakeEvent("d", Document("one")));
  const Error error = gate.Refused(MakeEvent("f", About("d")), Code::kUnknownQuery);
  BOOST_TEST(error.message == "data.query_id: event 'd' of source '/test' is not a query");
}

BOOST_AUTO_TEST_CASE(feedback_about_a_query_too_long_ago_is_refused_as_such) {
  Gate gate({.identities_per_tenant = 6, .queries_per_tenant = 2});
  for (const char* id : {"q1", "q2", "q3"}) gate.Passes(MakeEvent(id, Ask("a")));
  const Error error = gate.Refused(MakeEvent("f", About("q1")), Code::kQueryTooOld);
  BOOST_TEST(
      error.message ==
      "data.query_id: query 'q1' of source '/test' was 2 queries ago; feedback is taken about "
      "the last 2");
  BOOST_TEST(gate(MakeEvent("f2", About("q2"))).ok());
  BOOST_TEST(gate(MakeEvent("f3", About("q3"))).ok());
  for (const char* id : {"d1", "d2"}) gate.Passes(MakeEvent(id, Document(id)));
  gate.Refused(MakeEvent("f", About("q1")), Code::kUnknownQuery);  // its identity has gone too
  BOOST_TEST(gate(MakeEvent("f4", About("q2"))).ok());
}

BOOST_AUTO_TEST_CASE(going_on_from_a_saved_state_gives_the_same_results) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    const RecallOptions options{.tenants_per_partition = 3,
                                .identities_per_tenant = 60,
                                .queries_per_tenant = 4,
                                .documents_per_tenant = 5,
                                .chunks_per_tenant = 12,
                                .prompts_per_tenant = 3};
    Recall straight(options);
    auto broken = std::make_unique<Recall>(options);
    Store store_of_straight;
    Store store;
    Stream stream(seed);
    std::map<std::string, int> seen;
    std::vector<Event> sent;
    for (uint64_t i = 0; i < 3000; ++i) {
      const bool again = !sent.empty() && stream.Below(20) == 0;
      if (!again) sent.push_back(stream.Next());
      const auto prepared = Prepare(
          again ? sent[sent.size() - 1 -
                       stream.Below(static_cast<uint32_t>(std::min<size_t>(sent.size(), 40)))]
                : sent.back());
      const std::string expected = Describe(straight.Apply(Sequence::Of(1, i), prepared));
      BOOST_REQUIRE_EQUAL(Describe(broken->Apply(Sequence::Of(1, i), prepared)), expected);
      ++seen[expected.substr(0, expected.find(' '))];
      if (stream.Below(40) != 0) continue;
      store.SaveFrom(*broken, 1);
      store_of_straight.SaveFrom(straight, 1);
      BOOST_REQUIRE((store == store_of_straight));
      broken = std::make_unique<Recall>(options);
      store.LoadInto(*broken, 1);
    }
    BOOST_TEST(store.Count("identity_run") <= 3 * 60);
    for (const char* kind : {"duplicate_of", "changed_event", "tenant_limit", "unknown_prompt",
                             "unknown_query", "query_too_old"}) {
      BOOST_TEST(seen[kind] > 10, kind);
    }
  }
}

BOOST_AUTO_TEST_CASE(nothing_is_saved_twice) {
  Gate gate;
  Store store;
  gate.Passes(MakeEvent("q", Ask("a")));
  BOOST_TEST(store.SaveFrom(gate.recall, 3) == 2);
  BOOST_TEST(store.SaveFrom(gate.recall, 3) == 0);
  gate.Passes(MakeEvent("d", Document("one")));
  BOOST_TEST(store.SaveFrom(gate.recall, 3) == 2);
}

BOOST_AUTO_TEST_CASE(a_dropped_partition_is_forgotten_and_the_others_stay) {
  Gate gate;
  gate.Passes(MakeEvent("q", Ask("a")));
  gate.partition = 4;
  gate.Passes(MakeEvent("q", Ask("a")));
  gate.recall.Drop(3);
  BOOST_TEST(gate(MakeEvent("q", Ask("a")))->duplicate_of.has_value());
  gate.partition = 3;
  BOOST_TEST(!gate(MakeEvent("q", Ask("a")))->duplicate_of.has_value());
}

BOOST_AUTO_TEST_CASE(damaged_state_is_refused) {
  Gate gate;
  gate.Passes(MakeEvent("q", Ask("a")));
  gate.Passes(MakeEvent("d", Document("one")));
  gate.Passes(MakeEvent("p", PromptUpsert{"p", "x", {}}));
  Store store;
  store.SaveFrom(gate.recall, 3);
  BOOST_TEST(store.size() == 4U);
  Recall fresh;
  store.CheckDamage(fresh, 3);
}

// ---- Documents that an event takes away, and conversations --------------------------------------

BOOST_AUTO_TEST_CASE(the_branches_hear_which_documents_an_event_takes_away) {
  Gate gate;
  const auto of = [](Event event, const std::string& source) {
    event.source = source;
    return event;
  };
  for (const std::string id : {"a", "b", "c"}) {
    gate.Passes(
        of(MakeEvent("put-" + id, Document(id), "acme", id == "c" ? "bob" : "ada"), "/one"));
  }
  gate.Passes(of(MakeEvent("put-d", Document("d")), "/two"));
  gate.Passes(of(MakeEvent("put-b2", Document("b", "again")), "/two"));  // it is of /two now
  using Ids = std::vector<std::string>;
  BOOST_TEST((gate(MakeEvent("x", DocumentDelete{"unknown"}))->removed == Ids{}));
  Result<Resolved> synced = gate(MakeEvent("s", SourceSync{"/one", {"a", "d", "e"}}));
  BOOST_TEST((synced->removed == Ids{"c"}));
  BOOST_TEST(synced->synced == 1U);
  Store store;
  store.SaveFrom(gate.recall, gate.partition);
  Gate loaded;
  loaded.next = gate.next;
  store.LoadInto(loaded.recall, loaded.partition);
  synced = loaded(MakeEvent("t", SourceSync{"/two", {}}));
  BOOST_TEST((synced->removed == Ids{"b", "d"}));
  Forget forget{"ada", ""};
  forget.documents = true;
  BOOST_TEST((gate(MakeEvent("f", forget))->removed == Ids{"a", "b", "d"}));
  BOOST_TEST((gate(MakeEvent("put-a3", Document("a")))->removed == Ids{}));
  BOOST_TEST((gate(MakeEvent("g", Forget{"", "a"}))->removed == Ids{"a"}));
}

BOOST_AUTO_TEST_CASE(a_forget_of_a_conversation_names_its_questions_in_log_order) {
  RecallOptions options;
  options.identities_per_tenant = 6;
  Gate gate(options);
  const auto in = [](const std::string& conversation) {
    Query query = Ask("what?");
    query.conversation_id = conversation;
    return query;
  };
  const auto named = [](Gate& at, const std::string& id) {
    Forget forget;
    forget.conversation_id = "c";
    const Result<Resolved> resolved = at(MakeEvent(id, forget));
    BOOST_REQUIRE(resolved.ok());
    return std::get<Forget>(resolved->prepared->event.data).Events();
  };
  using Names = std::vector<EventName>;
  gate.Passes(MakeEvent("old", in("c")));
  gate.Passes(MakeEvent("z", in("c")));
  gate.Passes(MakeEvent("other", in("d")));
  gate.Passes(MakeEvent("none", Ask("what?")));
  gate.Passes(MakeEvent("a", in("c"), "acme", "bob"));
  gate.Passes(MakeEvent("b", in("c"), "acme", "cem"));
  gate.Passes(MakeEvent("last", in("d")));  // the identity of the first is not remembered now
  Store store;
  store.SaveFrom(gate.recall, gate.partition);
  Gate loaded(options);
  loaded.next = gate.next;
  store.LoadInto(loaded.recall, loaded.partition);
  const Names expected = {NameOf("/test", "z"), NameOf("/test", "a"), NameOf("/test", "b")};
  BOOST_TEST((named(gate, "f") == expected));
  BOOST_TEST((named(gate, "f2") == Names{}));
  BOOST_TEST((named(loaded, "f") == expected));
  gate.Passes(MakeEvent("u", in("c"), "acme", "bob"));
  gate.Passes(MakeEvent("v", in("c"), "acme", "cem"));
  gate.Passes(MakeEvent("bob", Forget{"bob", ""}));
  BOOST_TEST((named(gate, "f3") == Names{NameOf("/test", "v")}));
}
