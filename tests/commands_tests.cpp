// labels: graph
// inspect, explain, lessons, export and chat as their users see them: exit codes, what is printed,
// what is left.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "connectors/codec.h"
#include "connectors/file_sink.h"
#include "connectors/memory.h"
#include "pipeline/commands/commands.h"
#include "pipeline/observe/printable.h"
#include "pipeline/processor.h"
#include "pipeline/state/state_store.h"
#include "stages/model/template_backend.h"
#include "tests/temp_folder.h"
#include "tests/trainer_helpers.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

// Puts another buffer behind a stream for as long as it lives.
class Redirect {
 public:
  Redirect(std::ios& stream, std::streambuf* buffer)
      : stream_(stream), before_(stream.rdbuf(buffer)) {}
  ~Redirect() { stream_.rdbuf(before_); }
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;

 private:
  std::ios& stream_;
  std::streambuf* const before_;
};

struct Printed {
  int exit_code = -1;
  std::string out;
  std::string error;
  bool Says(const std::string& text) const { return out.find(text) != std::string::npos; }
  bool Complains(const std::string& text) const { return error.find(text) != std::string::npos; }
};

template <class Command>
Printed Capture(const Command& command, const std::string& typed = {}) {
  std::istringstream in(typed);
  std::ostringstream out;
  std::ostringstream error;
  Printed printed;
  {
    const Redirect input(std::cin, in.rdbuf());
    const Redirect output(std::cout, out.rdbuf());
    const Redirect errors(std::cerr, error.rdbuf());
    std::cin.clear();
    printed.exit_code = command();
  }
  std::cin.clear();
  printed.out = out.str();
  printed.error = error.str();
  return printed;
}

Printed InspectOf(const std::string& path) {
  return Capture([&] { return Inspect(path); });
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Line(const std::string& id, const std::string& type, const std::string& data) {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":"/t","type":"nudge.)" + type +
         R"(","tenant":"acme","data":)" + data + "}";
}

const std::vector<std::string> kEvents = {
    Line("d1", "document.upsert",
         R"({"document_id":"returns","text":"Unused gear can be returned within 45 days."})"),
    Line("q1", "query", R"({"text":"Until when can gear be returned?"})"),
    Line("f1", "feedback", R"({"query_id":"q1","rating":"up"})"),
    Line("f2", "feedback", R"({"query_id":"q1","correction":"Within 45 days."})"),
    Line("q2", "query", R"({"text":"How long can I return gear?"})"),
    Line("f3", "feedback", R"({"query_id":"q2","rating":"down"})"),
    Line("f4", "feedback", R"({"query_id":"nobody","rating":"up"})"),
};

// A run of the events into FOLDER: outcomes, and the state in FOLDER/state.
void RunInto(const std::string& folder, const std::vector<std::string>& events = kEvents) {
  const std::unique_ptr<Backend> backend = MakeTemplateBackend({.dimension = 16});
  MemorySource source(events);
  FileSink sink({.folder = folder});
  ProcessorOptions options;
  options.state_folder = folder + "/state";
  options.adapt.publish_every_steps = 1;
  options.adapt.lead_lessons = 0;
  options.prompt.presets = {{"greedy", {}}};
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto done = processor.Run(stop);
  BOOST_REQUIRE_MESSAGE(done.ok(), (done.ok() ? "" : done.error().message));
}

Printed ExplainOf(const std::string& folder, const std::string& id) {
  return Capture([&] { return Explain({folder, id}); });
}

// What stands behind `name` on its line of what was printed.
std::string After(const std::string& text, const std::string& name) {
  const size_t begin = text.find(name);
  if (begin == std::string::npos) return "";
  const size_t end = text.find('\n', begin);
  return text.substr(begin + name.size(), end - begin - name.size());
}

struct ChatFolder {
  TempFolder folder;
  std::string config = folder.path() + "/config.json";
  std::string log = folder.path() + "/chat.jsonl";

  ChatFolder() {
    WriteFile(config, R"({"input": {"path": "-"}, "output": {"folder": ")" + folder.path() +
                          R"(/out"}, "model": {"backend": "template"},
                          "adapt": {"publish_every_steps": 1}})");
  }

  Printed Talk(const std::string& typed, const std::string& tenant = "me",
               const std::string& begin_with = "") const {
    return Capture([&] { return Chat({config, tenant, log, begin_with}); }, typed);
  }

  // The chain that a replay of the log gives.
  std::string Replayed() const {
    ReplayArguments arguments;
    arguments.config_path = config;
    arguments.input = log;
    arguments.output = log + ".replay";
    arguments.fresh = true;
    arguments.quiet = true;
    const Printed printed = Capture([&] { return Replay(arguments); });
    BOOST_TEST(printed.exit_code == kExitDone, printed.error);
    return After(printed.out, "outcomes sha256 ");
  }
};

}  // namespace

// ---- inspect ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(inspect_says_which_models_train_and_what_stops_the_others) {
  const TempFolder folder;
  const auto inspect = [&](const std::string& architecture, const auto& change) {
    nudge::testing::TinyLlama model;
    model.architecture = architecture;
    model.lists_tokens = true;
    model.Fill(1);
    change(model);
    model.Write(folder.path() + "/model.gguf");
    const Printed printed = InspectOf(folder.path() + "/model.gguf");
    BOOST_TEST(printed.exit_code == kExitDone, printed.error);
    BOOST_TEST(printed.Says("architecture  " + architecture));
    return printed;
  };
  const auto whole = [](auto&) {};
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    const Printed printed = inspect(architecture, whole);
    BOOST_TEST(printed.Says("serves: yes, without a chat template"), printed.out);
    BOOST_TEST(printed.Says("trains: yes, on a copy of "), printed.out);
    BOOST_TEST(printed.Says("f32"), printed.out);
  }
  BOOST_TEST(inspect("gemma", whole)
                 .Says("trains: no: training needs architecture llama, qwen2 or qwen3; this file "
                       "is gemma: it can be served, not trained"));
  BOOST_TEST(
      inspect("llama", [](auto& model) {
        model.extra = "blk.0.attn_sinks.weight";
      }).Says("trains: no: training does not know what tensor blk.0.attn_sinks.weight does"));
}

BOOST_AUTO_TEST_CASE(a_file_of_events_is_counted_and_its_faults_are_named) {
  const TempFolder folder;
  const std::string path = folder.path() + "/events.jsonl";
  WriteFile(path, kEvents[0] + "\n" + kEvents[1] + "\n\n{\"specversion\":\n" +
                      Line("x", "feedback", R"({"query_id":"q1","rating":7})") + "\n" + kEvents[2] +
                      "\n");
  const Printed printed = InspectOf(path);
  BOOST_TEST(printed.exit_code == kExitDone);
  BOOST_TEST(printed.Says("5 events, 2 would be refused"), printed.out);
  BOOST_TEST(printed.Says("nudge.document.upsert  1"), printed.out);
  BOOST_TEST(printed.Says("acme          3"), printed.out);
  BOOST_TEST(printed.Says("line 4: invalid_json: "), printed.out);
  BOOST_TEST(printed.Says("line 5: invalid_event: data.rating"), printed.out);
}

BOOST_AUTO_TEST_CASE(what_nudge_does_not_know_is_refused_in_a_sentence) {
  const TempFolder folder;
  WriteFile(folder.path() + "/garbage.bin", std::string("\x01\x02garbage\0\xff", 11));
  WriteFile(folder.path() + "/garbage.jsonl", "neither\nof these\nis JSON\n");
  WriteFile(folder.path() + "/empty", "");
  WriteFile(folder.path() + "/cut.gguf", "GGUF\x03");
  WriteFile(folder.path() + "/partition-00000.sqlite", "SQLite format 3 and then nothing of it");
  for (const std::string name : {"/garbage.bin", "/garbage.jsonl", "/empty", "/cut.gguf",
                                 "/partition-00000.sqlite", "/not-there"}) {
    const Printed printed = InspectOf(folder.path() + name);
    BOOST_TEST(printed.exit_code == kExitUsage, name);
    BOOST_TEST(printed.Complains(folder.path() + name), printed.error);
    BOOST_TEST(printed.out == "", name);
  }
  const TempFolder nothing;
  BOOST_TEST(InspectOf(nothing.path()).exit_code == kExitUsage);
}

BOOST_AUTO_TEST_CASE(an_output_folder_and_its_state_stand_at_the_same_chain) {
  const TempFolder folder;
  RunInto(folder.path());
  const std::string state = folder.path() + "/state/partition-00000.sqlite";
  const std::string before = ReadFile(state);
  const Printed output = InspectOf(folder.path());
  BOOST_TEST(output.exit_code == kExitDone, output.error);
  BOOST_TEST(output.Says("7 outcomes"), output.out);
  BOOST_TEST(output.Says("unknown_query in recall  1"), output.out);
  const std::string chain = After(output.out, "partition 0: chain ").substr(0, 64);
  BOOST_TEST(IsSha256Hex(chain), output.out);
  const Printed saved = InspectOf(folder.path() + "/state");
  BOOST_TEST(saved.exit_code == kExitDone, saved.error);
  BOOST_TEST(saved.Says("state of partition 0"), saved.out);
  BOOST_TEST(saved.Says("events        7"), saved.out);
  BOOST_TEST(saved.Says("next offset   7"), saved.out);
  BOOST_TEST(saved.Says(chain), saved.out);
  BOOST_TEST(saved.Says("tenant acme"), saved.out);
  BOOST_TEST(saved.Says("index/document            1 entries, "), saved.out);
  BOOST_TEST(saved.Says("whole: every entry has its seal"), saved.out);
  BOOST_TEST(ReadFile(state) == before);
  BOOST_TEST(InspectOf(state).out == saved.out.substr(0, saved.out.find("backup at")));
}

BOOST_AUTO_TEST_CASE(a_state_folder_lists_backups_and_what_was_set_aside) {
  const TempFolder folder;
  RunInto(folder.path());
  const std::string state = folder.path() + "/state";
  std::map<int32_t, StateFiles> files = StateFilesIn(state);
  BOOST_REQUIRE(files[0].backups.size() == 1U);
  const auto [offset, backup] = *files[0].backups.begin();
  WriteFile(state + "/partition-00000.damaged-1.sqlite", "anything");
  const Printed listed = InspectOf(state);
  BOOST_TEST(listed.exit_code == kExitDone, listed.error);
  BOOST_TEST(listed.Says("backup at offset " + std::to_string(offset) + ": "), listed.out);
  BOOST_TEST(listed.Says(", whole"), listed.out);
  BOOST_TEST(listed.Says("set aside: " + state + "/partition-00000.damaged-1.sqlite"), listed.out);

  std::string bytes = ReadFile(backup);
  bytes.resize(bytes.size() / 2);
  WriteFile(backup, bytes);
  const Printed cut = InspectOf(state);
  BOOST_TEST(cut.exit_code == kExitUsage);
  BOOST_TEST(cut.Says("it will not be used"), cut.out);
}

BOOST_AUTO_TEST_CASE(an_altered_outcome_is_found) {
  const TempFolder folder;
  RunInto(folder.path());
  const std::string path = folder.path() + "/outcomes.jsonl";
  std::string bytes = ReadFile(path);
  const size_t at = bytes.find("\"summary\":\"") + 11;
  bytes[at] = bytes[at] == 'x' ? 'y' : 'x';
  WriteFile(path, bytes);
  const Printed printed = InspectOf(path);
  BOOST_TEST(printed.exit_code == kExitUsage);
  BOOST_TEST(printed.Complains("line 1: its chain"), printed.error);
}

// ---- explain ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_answer_is_explained_with_the_feedback_behind_its_adapter) {
  const TempFolder folder;
  RunInto(folder.path());
  const Printed first = ExplainOf(folder.path(), "q1");
  BOOST_TEST(first.exit_code == kExitDone, first.error);
  BOOST_TEST(first.Says("returns version 1, score "), first.out);
  BOOST_TEST(first.Says("version 0, digest base"), first.out);
  BOOST_TEST(first.Says("no feedback is behind this answer"), first.out);
  const Printed second = ExplainOf(folder.path(), "q2");
  BOOST_TEST(second.exit_code == kExitDone, second.error);
  BOOST_TEST(second.Says("the feedback behind adapter version 2: 2 events"), second.out);
  BOOST_TEST(second.Says("f1 (nudge.feedback): "), second.out);
  BOOST_TEST(second.Says("f2 (nudge.feedback): "), second.out);
  BOOST_TEST(!second.Says("f3 (nudge.feedback): "), second.out);
}

BOOST_AUTO_TEST_CASE(receipts_and_dead_letters_are_explained) {
  const TempFolder folder;
  RunInto(folder.path());
  const Printed receipt = ExplainOf(folder.path(), "f2");
  BOOST_TEST(receipt.exit_code == kExitDone, receipt.error);
  BOOST_TEST(receipt.Says("a receipt"), receipt.out);
  BOOST_TEST(receipt.Says("version 2"), receipt.out);
  const Printed letter = ExplainOf(folder.path(), "f4");
  BOOST_TEST(letter.exit_code == kExitDone, letter.error);
  BOOST_TEST(letter.Says("unknown_query"), letter.out);
  BOOST_TEST(letter.Says("what to do"), letter.out);
}

BOOST_AUTO_TEST_CASE(an_event_that_is_not_there_cannot_be_explained) {
  const TempFolder folder;
  RunInto(folder.path());
  const Printed printed = ExplainOf(folder.path(), "q99");
  BOOST_TEST(printed.exit_code == kExitFailed);
  BOOST_TEST(printed.Complains("q99"), printed.error);
  BOOST_CHECK_THROW(ExplainOf(folder.path() + "/nowhere", "q1"), StartError);
}

BOOST_AUTO_TEST_CASE(what_is_shown_cannot_command_a_terminal) {
  BOOST_TEST(Printable("a\x1b[2Jb\tc\nd\x7f") == "a\uFFFD[2Jb\tc\nd\uFFFD");
  BOOST_TEST(Printable("\u009b2J \u00e9\u00a0") == "\uFFFD2J \u00e9\u00a0");
}

// ---- lessons and export -------------------------------------------------------------------------

namespace {

using Json = nlohmann::json;

std::string By(const std::string& user, std::string line) {
  return line.insert(line.find(R"("tenant")"), R"("user":")" + user + R"(",)");
}

// What became of each lesson in the end stands beside it.
std::vector<std::string> Taught() {
  std::vector<std::string> events = kEvents;
  const std::string inline_answer =
      R"("inline":{"query":"Who mends tents?","completion":"Nobody."})";
  const std::vector<std::string> more = {
      By("ann",
         Line("f5", "feedback",  // holds
              "{" + inline_answer +
                  R"(,"correction":"The workshop does.","comment":"see \"repairs\"\np. 3"})")),
      By("bob", Line("f6", "feedback",  // forgotten with its user
                     "{" + inline_answer + R"(,"rating":"up","comment":"secret of bob"})")),
      Line("x1", "example", R"({"query":"Who sells tents?","answer":"The shop."})"),  // holds
      Line("f7", "feedback", "{" + inline_answer + R"(,"rating":0.5})"),  // forgotten by its id
      Line("g1", "forget", R"({"event_id":"f7"})"),
      Line("g2", "forget", R"({"user":"bob"})"),
      Line("g3", "forget", R"({"event_id":"f99"})"),
      Line("f8", "feedback", "{" + inline_answer + R"(,"rating":"up"})"),  // rolled back
      Line("a1", "adapter", R"({"action":"rollback"})"),
  };
  events.insert(events.end(), more.begin(), more.end());
  return events;
}

Printed LessonsOf(const std::string& path, const std::string& tenant = {}, bool json = false) {
  return Capture([&] { return Lessons({path, tenant, json}); });
}

std::vector<Json> Objects(const std::string& lines) {
  std::vector<Json> objects;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) objects.push_back(Json::parse(line));
  return objects;
}

std::vector<Json> Exported(const std::string& folder, const std::string& format) {
  const std::string file = folder + "/" + format + ".jsonl";
  const Printed printed = Capture([&] { return Export({folder, "acme", format, file}); });
  BOOST_TEST(printed.exit_code == kExitDone, printed.error);
  BOOST_TEST(printed.out == "");
  BOOST_TEST((std::filesystem::status(file).permissions() ==
              (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write)));
  return Objects(ReadFile(file));
}

}  // namespace

BOOST_AUTO_TEST_CASE(lessons_are_listed_with_what_they_said_and_whether_they_hold) {
  const TempFolder folder;
  RunInto(folder.path(), Taught());
  const std::string state = folder.path() + "/state/partition-00000.sqlite";
  const std::string before = ReadFile(state);
  const Printed printed = LessonsOf(folder.path());
  BOOST_TEST(printed.exit_code == kExitDone, printed.error);
  BOOST_TEST(printed.Says("tenant acme, partition 0: 8 lessons, 5 in effect; version "),
             printed.out);
  BOOST_TEST(printed.Says("event 3: f2 of /t\n"
                          "  about       q1 of /t\n"
                          "  question    Until when can gear be returned?\n"
                          "  answer      [template answer "),
             printed.out);
  BOOST_TEST(printed.Says("  correction  Within 45 days.\n  reward      -0.5\n"
                          "  step        2, made version 2\n"
                          "  gate        passed\n  in effect   yes\n"),
             printed.out);
  BOOST_TEST(printed.Says("event 7: f5 of /t\n  user        ann\n"), printed.out);
  BOOST_TEST(printed.Says("  comment     see \"repairs\"\n              p. 3\n"), printed.out);
  BOOST_TEST(
      printed.Says("event 8\n  step        5, made version 5\n  in effect   no: forgotten\n"),
      printed.out);
  BOOST_TEST(!printed.Says("bob"), printed.out);
  BOOST_TEST(printed.Says("event 14: f8 of /t\n"), printed.out);
  BOOST_TEST(printed.Says("no: set aside by a rollback"), printed.out);
  BOOST_TEST(LessonsOf(state).out == printed.out);
  BOOST_TEST(LessonsOf(folder.path() + "/state", "acme").out == printed.out);
  BOOST_TEST(ReadFile(state) == before);
  BOOST_TEST(before.find("secret of bob") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(lessons_as_json_are_one_object_a_line) {
  const TempFolder folder;
  RunInto(folder.path(), Taught());
  const Printed printed = LessonsOf(folder.path(), "acme", true);
  BOOST_TEST(printed.exit_code == kExitDone, printed.error);
  const std::vector<Json> lessons = Objects(printed.out);
  std::string standings;
  for (const Json& lesson : lessons) {
    standings += std::to_string(lesson["event"].get<int>()) + " " +
                 lesson["standing"].get<std::string>() + "\n";
  }
  BOOST_TEST(standings ==
             "2 serves\n3 serves\n5 serves\n7 serves\n8 forgotten\n9 serves\n10 forgotten\n"
             "14 set_aside\n");
  const Json& corrected = lessons.at(3);
  BOOST_TEST(corrected["event_id"] == "f5");
  BOOST_TEST(corrected["user"] == "ann");
  BOOST_TEST(corrected["people"] == Json({"ann"}));
  BOOST_TEST(corrected["question"] == "Who mends tents?");
  BOOST_TEST(corrected["answer"] == "Nobody.");
  BOOST_TEST(corrected["correction"] == "The workshop does.");
  BOOST_TEST(corrected["comment"] == "see \"repairs\"\np. 3");
  BOOST_TEST(corrected["step"] == 4);
  BOOST_TEST(corrected["makes_version"] == 4);
  BOOST_TEST(corrected["accepted"] == true);
  BOOST_TEST(lessons.at(4)["event_id"] == "");
  BOOST_TEST(!lessons.at(4).contains("question"));
}

BOOST_AUTO_TEST_CASE(lessons_that_are_not_there_are_said_to_be_missing) {
  const TempFolder folder;
  RunInto(folder.path());
  const Printed nobody = LessonsOf(folder.path(), "nobody");
  BOOST_TEST(nobody.exit_code == kExitUsage);
  BOOST_TEST(nobody.Complains("no lesson of tenant nobody"), nobody.error);
  const TempFolder nothing;
  const Printed empty = LessonsOf(nothing.path());
  BOOST_TEST(empty.exit_code == kExitUsage);
  BOOST_TEST(empty.Complains("there is no state in it"), empty.error);
  WriteFile(nothing.path() + "/partition-00000.sqlite", "SQLite format 3 and then nothing of it");
  BOOST_TEST(LessonsOf(nothing.path()).exit_code == kExitUsage);
  const Printed unwritten = Capture([&] {
    return Export({folder.path(), "acme", "chat", folder.path() + "/no/such.jsonl"});
  });
  BOOST_TEST(unwritten.exit_code == kExitUsage);
  BOOST_TEST(unwritten.Complains("/no/such.jsonl"), unwritten.error);
}

// As TRL documents its conversational types: `messages`; `prompt`, `chosen` and `rejected`.
BOOST_AUTO_TEST_CASE(what_holds_is_exported_as_trainers_read_it) {
  const TempFolder folder;
  RunInto(folder.path(), Taught());
  const std::vector<Json> chats = Exported(folder.path(), "chat");
  BOOST_REQUIRE(chats.size() == 4U);  // f1, f2, f5 and x1; f3 says that an answer was bad
  const std::vector<std::string> ids = {"f1", "f2", "f5", "x1"};
  for (size_t i = 0; i < chats.size(); ++i) {
    BOOST_TEST(chats[i]["event_id"] == ids[i]);
    const Json& messages = chats[i]["messages"];
    BOOST_REQUIRE(messages.is_array());
    BOOST_TEST(messages.at(messages.size() - 2)["role"] == "user");
    BOOST_TEST(messages.back()["role"] == "assistant");
    for (const Json& message : messages) {
      BOOST_TEST(message.size() == 2U);
      BOOST_TEST(message["content"].is_string());
    }
    BOOST_TEST(chats[i].size() == chats[0].size());  // a table: each row has each column
  }
  BOOST_TEST(chats[1]["messages"].back()["content"] == "Within 45 days.");
  BOOST_TEST(chats[2]["messages"].back()["content"] == "The workshop does.");
  BOOST_TEST(chats[2]["comment"] == "see \"repairs\"\np. 3");
  BOOST_TEST(chats[3]["messages"].back()["content"] == "The shop.");

  const std::vector<Json> pairs = Exported(folder.path(), "preference");
  BOOST_REQUIRE(pairs.size() == 2U);  // f2 and f5: the others do not compare two answers
  BOOST_TEST(pairs[1]["event_id"] == "f5");
  BOOST_TEST(pairs[1]["prompt"].back() ==
             Json({{"role", "user"}, {"content", "Who mends tents?"}}));
  BOOST_TEST(pairs[1]["chosen"] ==
             Json::array({{{"role", "assistant"}, {"content", "The workshop does."}}}));
  BOOST_TEST(pairs[1]["rejected"] ==
             Json::array({{{"role", "assistant"}, {"content", "Nobody."}}}));
}

BOOST_AUTO_TEST_CASE(feedback_is_explained_with_its_lesson) {
  const TempFolder folder;
  RunInto(folder.path(), Taught());
  const Printed printed = ExplainOf(folder.path(), "f5");
  BOOST_TEST(printed.exit_code == kExitDone, printed.error);
  BOOST_TEST(printed.Says("a receipt\n"), printed.out);
  BOOST_TEST(printed.Says("what it taught the model of tenant acme\n"), printed.out);
  BOOST_TEST(printed.Says("  comment     see \"repairs\""), printed.out);
  BOOST_TEST(printed.Says("  in effect   yes\n"), printed.out);
  const Printed gone = ExplainOf(folder.path(), "f6");
  BOOST_TEST(!gone.Says("what it taught"), gone.out);
  const Printed forgotten = ExplainOf(folder.path(), "g1");
  BOOST_TEST(
      forgotten.Says("forgot event f7: 0 examples, 0 query records, 0 cached answers, 1 lesson;"),
      forgotten.out);
  BOOST_TEST(ExplainOf(folder.path(), "g3").Says("nothing forgotten: "), forgotten.out);
}

// ---- chat ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_chat_learns_and_its_log_replays_to_the_same_chain) {
  const ChatFolder chat;
  const Printed printed = chat.Talk(
      "/add Returns: Unused gear can be returned within 45 days.\n"
      "Until when can gear be returned?\n+\nUntil when can gear be returned?\n"
      "= Within 45 days.\nAnd worn gear?\n/quit\nnever read\n");
  BOOST_TEST(printed.exit_code == kExitDone, printed.error);
  BOOST_TEST(printed.Says("[1] Returns, score "), printed.out);
  BOOST_TEST(printed.Says("adapter version 0\n"), printed.out);
  BOOST_TEST(printed.Says("adapter version 1\n"), printed.out);
  BOOST_TEST(printed.Says("adapter version 2\n"), printed.out);
  const std::string chain = After(printed.out, "outcomes sha256 ");
  BOOST_TEST(IsSha256Hex(chain), printed.out);
  BOOST_TEST(chat.Replayed() == chain);
  const std::string log = ReadFile(chat.log);
  BOOST_TEST(std::count(log.begin(), log.end(), '\n') == 6);
}

BOOST_AUTO_TEST_CASE(a_chat_may_begin_with_a_recording_whose_documents_it_knows) {
  const ChatFolder chat;
  const std::string recording = chat.folder.path() + "/recording.jsonl";
  WriteFile(recording,
            R"({"specversion":"1.0","id":"d","source":"/shop","type":"nudge.document.upsert",)"
            R"("tenant":"me","data":{"document_id":"tyres","text":"A tyre costs 20 euros."}})");
  for (int life = 0; life < 2; ++life) {  // the second goes on, and does not begin again
    const Printed printed = chat.Talk("What does a tyre cost?\n", "me", recording);
    BOOST_TEST(printed.exit_code == kExitDone, printed.error);
    BOOST_TEST(printed.Says("[1] tyres, score "), printed.out);
    BOOST_TEST(chat.Replayed() == After(printed.out, "outcomes sha256 "));
  }
  const std::string log = ReadFile(chat.log);
  BOOST_TEST(std::count(log.begin(), log.end(), '\n') == 3);
  const ChatFolder other;
  BOOST_CHECK_THROW(other.Talk("", "me", "/no/such/file"), StartError);
}

BOOST_AUTO_TEST_CASE(a_chat_goes_on_where_its_log_ends) {
  const ChatFolder chat;
  const Printed first = chat.Talk("What is a tyre?\n");  // the end of input ends it, too
  BOOST_TEST(first.exit_code == kExitDone, first.error);
  const Printed second = chat.Talk("-\n");
  BOOST_TEST(second.exit_code == kExitDone, second.error);
  BOOST_TEST(second.Complains("going on after line 1"), second.error);
  BOOST_TEST(After(second.out, "outcomes sha256 ") != After(first.out, "outcomes sha256 "));
  BOOST_TEST(ReadFile(chat.log).find(R"("id":"c2")") != std::string::npos);
  BOOST_TEST(ReadFile(chat.log).find(R"("query_id":"c1")") != std::string::npos);
  BOOST_TEST(chat.Replayed() == After(second.out, "outcomes sha256 "));

  // A last line without its end is whole all the same.
  std::string log = ReadFile(chat.log);
  log.pop_back();
  WriteFile(chat.log, log);
  const Printed third = chat.Talk("And a tube?\n");
  BOOST_TEST(third.exit_code == kExitDone, third.error);
  BOOST_TEST(chat.Replayed() == After(third.out, "outcomes sha256 "));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_an_event_is_said_and_not_logged) {
  const ChatFolder chat;
  const Printed printed =
      chat.Talk("+\n=\n/add no text\n/nonsense\n\xff\xfe\n\n" + std::string(9000, 'q') + "\n");
  BOOST_TEST(printed.exit_code == kExitDone, printed.error);
  BOOST_TEST(printed.Says("ask something first"), printed.out);
  BOOST_TEST(printed.Says("write /add TITLE: TEXT"), printed.out);
  BOOST_TEST(printed.Says("not UTF-8"), printed.out);
  BOOST_TEST(printed.Says("query_bytes"), printed.out);
  BOOST_TEST(ReadFile(chat.log) == "");
  BOOST_CHECK_THROW(chat.Talk("", ""), StartError);
}

BOOST_AUTO_TEST_CASE(a_stop_ends_a_chat_and_keeps_its_log) {
  const ChatFolder chat;
  BOOST_TEST(chat.Talk("What is a tyre?\n").exit_code == kExitDone);
  const std::string log = ReadFile(chat.log);
  stop_requested = true;
  const Printed printed = chat.Talk("And a tube?\n");
  stop_requested = false;
  BOOST_TEST(printed.exit_code == kExitInterrupted, printed.error);
  BOOST_TEST(ReadFile(chat.log) == log);
  BOOST_TEST(chat.Talk("And a tube?\n").exit_code == kExitDone);
}

// ---- check --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_configuration_whose_gates_see_less_is_told_what) {
  const TempFolder folder;
  for (const char* name : {"/model.gguf", "/anchors.jsonl", "/events.jsonl"}) {
    WriteFile(folder.path() + name, "\n");
  }
  const auto check = [&](const std::string& adapt) {
    const std::string path = folder.path() + "/nudge.json";
    WriteFile(path, R"({"input":{"path":"events.jsonl"},"output":{"folder":"out"},)"
                    R"("model":{"language_model":"model.gguf"},"adapt":{)" +
                        adapt + "}}");
    CheckArguments arguments;
    arguments.path = path;
    const Printed printed = Capture([&] { return Check(arguments); });
    BOOST_TEST(printed.exit_code == kExitDone, printed.error);
    return printed.out;
  };
  const std::string sees = check(R"("anchors_path":"anchors.jsonl")");
  BOOST_TEST(std::ranges::count(sees, '\n') == 1, sees);
  BOOST_TEST(check("").find("without anchors") != std::string::npos);
  const std::string blind = check(
      R"("anchors_path":"anchors.jsonl","evidence_nats":0,"canary_drop_max":0,"kl_cap":0,"lead_lessons":0)");
  for (const char* option : {"evidence_nats", "canary_drop_max", "kl_cap", "lead_lessons"}) {
    BOOST_TEST(blind.find("adapt." + std::string(option) + " is 0") != std::string::npos, blind);
  }
  BOOST_TEST(check(R"("enabled":false)").find("adapt.") == std::string::npos);
}
