// labels: unit graph
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/commands/commands.h"
#include "pipeline/processor.h"
#include "pipeline/report/report.h"
#include "pipeline/report/report_page.h"
#include "stages/model/template_backend.h"
#include "tests/temp_folder.h"

using namespace nudge;

using nudge::testing::TempFolder;

namespace {

OutcomeLine LineOf(const Outcome& outcome, int64_t offset) {
  Origin origin;
  origin.sequence = Sequence::Of(0, static_cast<uint64_t>(offset));
  origin.offset = offset;
  OutcomeLine line{0, offset, KindOf(outcome), outcome.tenant, {}};
  EncodeOutcome(outcome, origin, line.bytes);
  return line;
}

Outcome Answer(const std::string& id, bool cache_hit, bool cites) {
  Response response;
  response.text = "Short: 45 days.";
  response.prompt_id = "house";
  response.prompt_version = 1;
  response.decoding_name = "greedy";
  response.adapter_digest = "base";
  response.cache_hit = cache_hit;
  if (cites) response.citations.push_back({"returns", 1, .5});
  return {"acme", "/app", id, "nudge.query", response, {}};
}

Outcome Receipt(const std::string& id, const std::string& type, const std::string& summary) {
  return {"acme", "/app", id, type, Applied{summary, {}, {}}, {}};
}

LessonEvent LessonOf(const TenantId& tenant, uint64_t step, double loss, bool accepted = true) {
  LessonEvent lesson{tenant, Sequence::Of(0, step), step, {}};
  lesson.done.report = {loss * 2, loss, loss / 10, 1, 20, accepted};
  return lesson;
}

// Three answers, three receipts, one dead letter, four lessons.
void Feed(Report& report) {
  int64_t offset = 0;
  const auto take = [&](const Outcome& outcome) { report.OnOutcome(LineOf(outcome, offset++)); };
  take(Answer("1", false, true));
  take(Answer("2", true, true));
  take(Answer("3", false, false));
  take(Receipt("4", "nudge.document.upsert", "12 chunks indexed as version 1 of returns"));
  take(Receipt("4", "nudge.document.upsert", "duplicate of event 3"));
  Outcome learnt =
      Receipt("6", "nudge.feedback", "training step 1, makes version 1 if it passes the gates");
  std::get<Applied>(learnt.what).step = 1;
  std::get<Applied>(learnt.what).makes_version = 1;
  learnt.snapshots.push_back(
      {"acme/000001", std::string(64, 'a'), 1, std::string(64, 'b'), "base", std::string(64, 'c')});
  take(learnt);
  const std::string bad = "<script>alert('event')</script>";
  take({"acme",
        "/app",
        "7",
        "nudge.query",
        MakeDeadLetter("decode", {Code::kInvalidJson, "broken <b>here</b>", "mend it"}, bad, 1024),
        {}});
  report.OnLesson(LessonOf("acme", 1, 2));
  report.OnLesson(LessonOf("acme", 2, 1));
  report.OnLesson(LessonOf("acme", 3, 3, false));
  LessonEvent failed{"acme", Sequence::Of(0, 9), 4, {}};
  failed.done.error = Error{Code::kModelFailed, "no", ""};
  report.OnLesson(failed);
  report.OnLesson({"acme", Sequence::Of(0, 10), 5, {}});  // a rollback reports nothing
}

HeldOut Questions() {
  HeldOut held_out{"short", "^Short: ", {}};
  for (const char* query : {"First?", "Second?", "Third?", "Fourth?", "Fifth?", "Sixth?"}) {
    held_out.questions.push_back({"acme", query, "Short: 45 days.", "45 days", query[0] == 'S'});
  }
  return held_out;
}

HeldOutScore Score(double nll, const std::string& answer) {
  return {nll, .25, .8, .75, 6, std::vector<std::string>(6, answer)};
}

std::string Print(Report& report, const Summary& summary) {
  std::ostringstream out;
  report.PrintSummary(out, summary);
  return out.str();
}

void CheckHas(const std::string& text, const std::string& part) {
  BOOST_TEST(text.find(part) != std::string::npos, "no \"" << part << "\" in\n" << text);
}

void CheckLacks(const std::string& text, const std::string& part) {
  BOOST_TEST(text.find(part) == std::string::npos, "\"" << part << "\" in\n" << text);
}

// What stands behind `name` on its line.
std::string After(const std::string& text, const std::string& name) {
  const size_t begin = text.find(name);
  BOOST_TEST_REQUIRE(begin != std::string::npos);
  return text.substr(begin + name.size(), text.find('\n', begin) - begin - name.size());
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(outcomes_and_lessons_are_counted) {
  Report report;
  Feed(report);
  report.OnOutcome({0, 99, OutcomeKind::kApplied, "", "not an outcome"});
  const RunCounts counts = report.counts();
  BOOST_TEST(counts.events == 8U);
  BOOST_TEST(counts.answers == 3U);
  BOOST_TEST(counts.cache_hits == 1U);
  BOOST_TEST(counts.cited == 2U);
  BOOST_TEST(counts.receipts == 3U);
  BOOST_TEST(counts.duplicates == 1U);
  BOOST_TEST(counts.dead_letters == 1U);
  BOOST_TEST(counts.dead_by_code.at("decode: invalid_json") == 1U);
  BOOST_TEST(counts.unreadable == 1U);
  BOOST_TEST(counts.answers_by_arm.at("house, version 1, greedy") == 3U);
  BOOST_TEST(counts.documents == 1U);
  BOOST_TEST(counts.chunks_added == 12U);
  BOOST_TEST(counts.versions == 1U);
  BOOST_TEST(counts.snapshots == 1U);
  BOOST_TEST(counts.last_snapshot == "acme/000001");
  BOOST_TEST(counts.lessons_accepted == 2U);
  BOOST_TEST(counts.lessons_refused == 1U);
  BOOST_TEST(counts.lessons_failed == 1U);
  BOOST_TEST(counts.other_changes == 1U);
  BOOST_TEST(counts.last_loss.value() == 3);
}

BOOST_AUTO_TEST_CASE(the_summary_says_what_was_counted) {
  Report report;
  Feed(report);
  const HeldOut held_out = Questions();
  Summary summary;
  summary.elapsed_seconds = 2;
  summary.snapshot_folder = "out/snapshots";
  summary.held_out = &held_out;
  summary.base = Score(3.25, "It is 45 days.");
  summary.adapter = Score(.5, "Short: 45 Days.");
  summary.chains[0] = {7, Sha256("seven")};
  summary.notes = {"the base model knows English only"};
  const std::string text = Print(report, summary);
  CheckHas(text, "7 events in 2.0 s (3.5 a second): 3 answers, 3 receipts (1 duplicate), 1 dead");
  CheckHas(text, "decode: invalid_json 1");
  CheckHas(text, "1 document, 12 chunks indexed; 2 of 3 answers cite a document");
  CheckHas(text, "house, version 1, greedy 3");
  CheckHas(text, "1 of 3 answers given again");
  CheckHas(text, "2 lessons accepted, 1 refused, 1 failed; 1 other change; 1 version made");
  CheckHas(text, "  snapshots   1, last acme/000001\n");
  CheckHas(text, "\n  out/snapshots/acme/000001\n");
  CheckHas(text, "  Second?\n    base     It is 45 days.\n  * adapter  Short: 45 Days.\n");
  CheckHas(text, "3.250       0.500\n");
  CheckHas(text, "the right fact, in any words");
  CheckHas(text, "the base model knows English only");
  BOOST_TEST(text.ends_with("\noutcomes sha256 " + Sha256Hex("seven") + "\n"));
  BOOST_TEST(text.find("Second?") < text.find("First?"));  // the showcase first
}

BOOST_AUTO_TEST_CASE(the_summary_fits_one_screen_whatever_the_texts) {
  Report report;
  for (int i = 0; i < 200; ++i) {
    Outcome answer = Answer(std::to_string(i), false, false);
    std::get<Response>(answer.what).prompt_id = "prompt-" + std::to_string(i);
    report.OnOutcome(LineOf(answer, i));
  }
  Feed(report);
  HeldOut held_out = Questions();
  const std::string wide = "\xe4\xb8\xad";  // two columns
  std::string long_text = "\x1b[2J\n\xff";
  for (int i = 0; i < 200; ++i) long_text += wide;
  held_out.questions[1].query = long_text;
  held_out.style_name = long_text;
  GraphMetrics graph;
  NodeMetrics node;
  node.Add(std::chrono::hours(1000));
  Summary summary;
  summary.graph = &graph;
  summary.generate = summary.embed = summary.lessons = &node;
  summary.held_out = &held_out;
  summary.base = summary.adapter = Score(1, long_text);
  summary.held_out_note = long_text;
  summary.model = std::string(500, 'm');
  summary.html = summary.snapshot_folder = std::string(300, 'p');
  summary.json = std::string(300, 'j');
  summary.notes = std::vector<std::string>(20, "many words " + std::string(90, 'n'));
  summary.show_answers = 1000;
  for (int i = 0; i < 100; ++i) summary.chains[i] = {1, Sha256(std::to_string(i))};
  for (int i = 0; i < 100; ++i) {
    const Error error{static_cast<Code>(i % 8), "no", ""};
    const std::string stage = "stage-" + std::to_string(i);
    report.OnOutcome(
        LineOf({"acme", "/app", "x", "q", MakeDeadLetter(stage, error, "", 9), {}}, i));
  }
  const std::string text = Print(report, summary);
  CheckLacks(text, "\x1b");
  const std::string snapshot = summary.snapshot_folder + "/acme/000001";
  std::istringstream lines(text);
  size_t count = 0;
  size_t paths = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    size_t columns = 0;  // of the texts above: ASCII, or three bytes for two columns
    for (const char c : line) columns += static_cast<unsigned char>(c) < 0x80 ? 1 : 0;
    columns += (line.size() - columns) / 3 * 2;
    const bool path = line == "  " + summary.html || line == "  " + summary.json ||
                      line == "  " + snapshot;  // whole, to be copied
    paths += path ? 1 : 0;
    BOOST_TEST((path || columns <= 100U), line);
  }
  BOOST_TEST(paths == 3U);
  BOOST_TEST(count <= 60U);
  CheckHas(text, "outcomes sha256 " + Sha256Hex("99") + " partition 99\n");
}

BOOST_AUTO_TEST_CASE(long_lists_wrap_between_their_items) {
  Report report;
  for (int i = 0; i < 20; ++i) {
    const std::string stage = "stage-" + std::to_string(10 + i);
    report.OnOutcome(LineOf(
        {"acme", "/app", "x", "q", MakeDeadLetter(stage, {Code::kInvalidJson, "", ""}, "", 9), {}},
        i));
  }
  const std::string text = Print(report, {});
  const std::string indent(14, ' ');
  CheckHas(text,
           "\n  refused     stage-10: invalid_json 1; stage-11: invalid_json 1; "
           "stage-12: invalid_json 1;\n" +
               indent + "stage-13: ");
  CheckHas(text, "\n" + indent + "and 11 more\n");
}

BOOST_AUTO_TEST_CASE(an_answer_of_several_lines_shows_where_they_ended) {
  Report report;
  HeldOut held_out = Questions();
  held_out.questions[1].query = "Second\nquestion?";
  Summary summary;
  summary.held_out = &held_out;
  summary.base = Score(1, "\n1. Ask.\r\n\n \n2. Wait.\n");
  const std::string text = Print(report, summary);
  CheckHas(text, "  Second / question?\n    base     1. Ask. / 2. Wait.\n");
}

BOOST_AUTO_TEST_CASE(the_json_has_the_numbers_of_the_summary) {
  Report report;
  Feed(report);
  const HeldOut held_out = Questions();
  NodeMetrics node;
  node.Add(std::chrono::milliseconds(500));
  node.Add(std::chrono::milliseconds(1500));
  const NodeMetrics idle;
  Summary summary;
  summary.elapsed_seconds = 2.5;
  summary.model = "a \"model\" \xff";
  summary.generate = &node;
  summary.embed = &idle;
  summary.snapshot_folder = "out/snapshots";
  summary.held_out = &held_out;
  summary.base = Score(3.25, "It is 45 days.");
  summary.adapter = {.5, 0, 0, 6, {}};  // no answers asked for
  summary.chains[0] = {7, Sha256("seven")};
  summary.chains[3] = {2, Sha256("two")};
  const TempFolder folder;
  const std::string path = folder.path() + "/new/summary.json";
  BOOST_TEST_REQUIRE(report.WriteJson(path, summary).ok());
  const auto json = nlohmann::json::parse(ReadFile(path));
  BOOST_TEST(json["format"] == 1);
  BOOST_TEST(json["elapsed_seconds"] == 2.5);
  BOOST_TEST(json["model"] == "a \"model\" \xef\xbf\xbd");
  const auto counts = json["counts"];
  BOOST_TEST(counts["events"] == 7);
  BOOST_TEST(counts["answers"] == 3);
  BOOST_TEST(counts["answers_by_arm"]["house, version 1, greedy"] == 3);
  BOOST_TEST(counts["dead_by_code"]["decode: invalid_json"] == 1);
  BOOST_TEST(counts["duplicates"] == 1);
  BOOST_TEST(counts["chunks_added"] == 12);
  BOOST_TEST(counts["lessons_refused"] == 1);
  BOOST_TEST(counts["snapshots"] == 1);
  BOOST_TEST_REQUIRE(json["nodes"].size() == 2U);
  BOOST_TEST(json["nodes"][0]["name"] == "embed");
  BOOST_TEST(json["nodes"][0]["mean_seconds"].is_null());
  BOOST_TEST(json["nodes"][1]["calls"] == 2);
  BOOST_TEST(json["nodes"][1]["mean_seconds"].get<double>() == 1,
             boost::test_tools::tolerance(1e-9));
  BOOST_TEST(json["nodes"][1]["max_seconds"].get<double>() == 1.5,
             boost::test_tools::tolerance(1e-9));
  BOOST_TEST(json["held_out"]["questions"] == 6);
  BOOST_TEST(json["held_out"]["style"] == "short");
  BOOST_TEST(json["held_out"]["base"]["nll_per_token"] == 3.25);
  BOOST_TEST(json["held_out"]["base"]["style_rate"] == .25);
  BOOST_TEST(json["held_out"]["base"]["fact_rate"] == .8);
  BOOST_TEST(json["held_out"]["base"]["hit_rate"] == .75);
  BOOST_TEST(json["held_out"]["adapter"]["nll_per_token"] == .5);
  BOOST_TEST(json["held_out"]["adapter"]["hit_rate"].is_null());
  BOOST_TEST_REQUIRE(json["chains"].size() == 2U);
  BOOST_TEST(json["chains"][1]["partition"] == 3);
  BOOST_TEST(json["chains"][1]["events"] == 2);
  BOOST_TEST(json["chains"][1]["sha256"] == Sha256Hex("two"));
  BOOST_TEST(json["snapshot_folder"] == "out/snapshots");
  BOOST_TEST(json["last_snapshot"] == "acme/000001");
}

BOOST_AUTO_TEST_CASE(the_page_keeps_short_names_whole_and_lets_long_ones_break) {
  Report report;
  Outcome letter{"harbour-pine",
                 "/app",
                 "x",
                 "q",
                 MakeDeadLetter("decode", {Code::kInvalidJson, "", ""}, "{", 9),
                 {}};
  report.OnOutcome(LineOf(letter, 90));
  letter.tenant = std::string(200, 't');
  report.OnOutcome(LineOf(letter, 91));
  const TempFolder folder;
  BOOST_TEST_REQUIRE(report.WriteHtml(folder.path() + "/report.html", {}).ok());
  const std::string page = ReadFile(folder.path() + "/report.html");
  CheckHas(page, "<td class=\"w\" data-name=\"tenant\">harbour-pine</td>");
  CheckHas(page, "<td data-name=\"tenant\">" + std::string(200, 't') + "</td>");
  CheckHas(page, "data-name=\"partition\">0</td><td class=\"n\" data-name=\"offset\">90</td>");
}

BOOST_AUTO_TEST_CASE(an_empty_run_has_a_summary_and_a_page) {
  Report report;
  Summary summary;
  summary.held_out_note = "not measured: the template backend has no likelihoods";
  CheckHas(Print(report, summary), "0 events in 0.0 s: 0 answers");
  CheckHas(Print(report, summary), "held-out: not measured: the template backend");
  const TempFolder folder;
  BOOST_TEST(report.WriteHtml(folder.path() + "/report.html", summary).ok());
  CheckHas(ReadFile(folder.path() + "/report.html"), "No lesson had a loss to draw.");
}

BOOST_AUTO_TEST_CASE(the_page_escapes_what_others_wrote) {
  Report report;
  Feed(report);
  report.OnLesson(LessonOf("<script>tenant</script>", 1, 2));
  HeldOut held_out = Questions();
  held_out.questions[0].query = "<script>query</script>";
  Summary summary;
  summary.held_out = &held_out;
  summary.base = Score(1, "<script>alert(\"answer\")</script>\x01\xff & 'more'");
  summary.notes = {"<script>note</script>"};
  const TempFolder folder;
  const std::string path = folder.path() + "/new/folder/report.html";
  BOOST_TEST_REQUIRE(report.WriteHtml(path, summary).ok());
  const std::string page = ReadFile(path);
  CheckLacks(page, "<script");
  CheckLacks(page, "<b>");
  CheckHas(page, "&lt;script&gt;alert(&quot;answer&quot;)&lt;/script&gt;");
  CheckHas(page, "&amp; &#39;more&#39;");
  CheckHas(page, "&lt;script&gt;alert(&#39;event&#39;)&lt;/script&gt;");
  CheckHas(page, "broken &lt;b&gt;here&lt;/b&gt;\nmend it");
  CheckHas(page, "<polyline");
  for (const char* remote : {"http:", "https:", "src=", "@import", "url("})
    CheckLacks(page, remote);
  BOOST_TEST(!std::filesystem::exists(path + ".tmp"));
}

BOOST_AUTO_TEST_CASE(curves_leave_out_what_is_no_number) {
  Report report;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  report.OnLesson(LessonOf("acme", 1, nan));
  report.OnLesson(LessonOf("acme", 2, 2));
  report.OnLesson(LessonOf("acme", 3, 4));
  const TempFolder folder;
  const std::string path = folder.path() + "/report.html";
  BOOST_TEST_REQUIRE(report.WriteHtml(path, {}).ok());
  const std::string page = ReadFile(path);
  CheckLacks(page, "nan,");
  CheckLacks(page, "nan ");
  CheckLacks(page, ">nan");
  CheckHas(page, "points=\"46.0,102.5 510.0,10.0 \"");  // half of the highest, the highest
  CheckHas(page, "points=\"46.0,102.5 510.0,56.2 \"");  // their moving average
}

BOOST_AUTO_TEST_CASE(a_page_that_cannot_be_written_is_an_error) {
  const Report report;
  const TempFolder folder;
  std::ofstream(folder.path() + "/file") << "kept";
  std::filesystem::create_directories(folder.path() + "/taken/inside");
  for (const char* name : {"/file/report.html", "/taken"}) {
    const auto written = report.WriteHtml(folder.path() + name, {});
    BOOST_TEST_REQUIRE(!written.ok());
    BOOST_TEST(Name(written.error().code) == Name(Code::kUnreadableFile));
    CheckHas(written.error().message, name);
  }
  BOOST_TEST(ReadFile(folder.path() + "/file") == "kept");
  BOOST_TEST(!std::filesystem::exists(folder.path() + "/taken.tmp"));
}

BOOST_AUTO_TEST_CASE(the_progress_line_knows_the_end_or_does_without) {
  Report unknown;
  Report known(200);
  Feed(unknown);
  const OutcomeCounts progress{50, 20, 29, 1};
  BOOST_TEST(unknown.ProgressLine(progress, 4, 10) ==
             "50 events  5.0/s  20 answers  3 lessons +4  loss 3.00");
  BOOST_TEST(known.ProgressLine(progress, 0, 10) ==
             "[####............] 50/200  5.0/s  20 answers  0 lessons");
  BOOST_TEST(known.ProgressLine({900, 1, 1, 1}, 0, 0) ==
             "[################] 900/200  1 answer  0 lessons");
}

BOOST_AUTO_TEST_CASE(a_run_of_the_engine_is_counted_as_the_engine_counts) {
  const auto lines = EventGenerator({.seed = 3, .events = 400}).All();
  MemorySource source(lines);
  MemorySink sink;
  const auto backend = MakeTemplateBackend({.dimension = 8});
  Report report(lines.size());
  ProcessorOptions options;
  options.prompt.presets = {{"greedy", {}}};
  Processor processor(options,
                      {[&](const OutcomeLine& line) { report.OnOutcome(line); },
                       [&](const LessonEvent& lesson) { report.OnLesson(lesson); }},
                      *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto run = processor.Run(stop);
  BOOST_TEST_REQUIRE(run.ok());
  BOOST_TEST_REQUIRE(processor.executor().WaitForLessons(std::chrono::seconds(60)));
  const RunCounts counts = report.counts();
  BOOST_TEST(counts.unreadable == 0U);
  BOOST_TEST(counts.events == lines.size());
  BOOST_TEST(counts.answers == processor.progress().responses);
  BOOST_TEST(counts.receipts == processor.progress().receipts);
  BOOST_TEST(counts.dead_letters == processor.progress().dead_letters);
  BOOST_TEST(counts.chunks_added >= counts.documents);  // as respond's receipts say it
  BOOST_TEST(counts.documents > 0U);
  BOOST_TEST(counts.versions > 0U);
  BOOST_TEST(counts.lessons_accepted > 0U);

  Summary summary;
  summary.elapsed_seconds = 1;
  summary.graph = &processor.metrics();
  summary.generate = &processor.executor().generate_metrics();
  for (const auto& [partition, part] : *run) summary.chains[partition] = {part.events, part.chain};
  const std::string text = Print(report, summary);
  CheckHas(text, "decode");
  CheckHas(text, " per answer, mean over ");
  BOOST_TEST_MESSAGE(text);
}

BOOST_AUTO_TEST_CASE(a_replay_that_is_sent_elsewhere_takes_its_page_along) {
  const TempFolder folder;
  const std::string& at = folder.path();
  {
    std::ofstream events(at + "/events.jsonl");
    for (const std::string& line : EventGenerator({.seed = 3, .events = 20}).All()) {
      events << line << "\n";
    }
    std::ofstream(at + "/config.json")
        << R"({"input": {"path": "events.jsonl"}, "model": {"backend": "template"},
               "output": {"folder": ")"
        << at << R"(/out"},
               "report": {"html": ")"
        << at << R"(/pages/page.html"}})";
  }
  ReplayArguments arguments;
  arguments.config_path = at + "/config.json";
  arguments.fresh = true;
  const auto replay = [&](const std::string& output) {
    arguments.output = output;
    std::ostringstream printed;
    std::streambuf* const terminal = std::cout.rdbuf(printed.rdbuf());
    const int code = Replay(arguments);
    std::cout.rdbuf(terminal);
    BOOST_TEST(code == kExitDone);
    return printed.str();
  };
  const std::string configured = replay("");
  CheckHas(configured, "\n  " + at + "/pages/page.html\n  " + at + "/pages/summary.json\n");
  const std::string page = ReadFile(at + "/pages/page.html");
  const std::string json = ReadFile(at + "/pages/summary.json");
  CheckHas(json, After(configured, "outcomes sha256 "));

  const std::string elsewhere = replay(at + "/other");
  CheckHas(elsewhere, "\n  " + at + "/other/page.html\n  " + at + "/other/summary.json\n");
  CheckHas(ReadFile(at + "/other/page.html"), "<h1>");
  CheckHas(ReadFile(at + "/other/summary.json"), After(elsewhere, "outcomes sha256 "));
  BOOST_TEST(ReadFile(at + "/pages/page.html") == page);
  BOOST_TEST(ReadFile(at + "/pages/summary.json") == json);

  arguments.quiet = true;  // no summary: that of the run before would be wrong
  CheckLacks(replay(at + "/other"), "Files");
  BOOST_TEST(!std::filesystem::exists(at + "/other/page.html"));
  BOOST_TEST(!std::filesystem::exists(at + "/other/summary.json"));
}
