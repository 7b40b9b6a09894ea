// labels: unit
// A page's lessons, learnt again from its log: the same adapter behind each of them, and what was
// altered is found. The page's session is compiled for this machine here; web_module_tests.cpp has
// the same with logs that WebAssembly wrote.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "connectors/web/module/lesson_log.h"
#include "connectors/web/module/lesson_replay.h"
#include "connectors/web/module/session.h"
#include "pipeline/commands/commands.h"
#include "stages/model/trainer/gemm.h"
#include "stages/state.h"
#include "tests/portable_run.h"
#include "tests/run_command.h"
#include "tests/temp_folder.h"

namespace nudge {
namespace {

struct Bytes {
  std::shared_ptr<const void> memory;
  size_t count = 0;
};

Bytes ModelBytes(uint64_t fill) {
  const testing::TemporaryFile file("lessons.gguf");
  testing::TinyLlama tiny = testing::PortableModel("llama");
  tiny.Fill(fill);
  tiny.Write(file.path(), GGML_TYPE_Q8_0);
  const std::string bytes = testing::FileBytes(file.path());
  const std::shared_ptr<void> memory(AllocateAligned(bytes.size()), FreeAligned{});
  std::copy(bytes.begin(), bytes.end(), static_cast<char*>(memory.get()));
  return {memory, bytes.size()};
}

const Bytes& Model() {
  static const Bytes kModel = ModelBytes(7);
  return kModel;
}

WebOptions Options(double learning_rate) {
  WebOptions options{300, 3, 5, 1, 128, {}};
  options.steps.learning_rate = learning_rate;
  options.steps.warmup_steps = 0;
  return options;
}

std::unique_ptr<WebSession> Open(const WebOptions& options) {
  auto session = WebSession::Load(Model().memory, Model().count, options);
  BOOST_REQUIRE_MESSAGE(session.ok(), (session.ok() ? "" : session.error().message));
  return std::move(session).value();
}

std::vector<int32_t> Tokens(size_t count, uint64_t seed) {
  return testing::RandomTokens(count, testing::TinyLlama().vocabulary, seed);
}

// A correction where `reward` is 0.
TokenExample Example(uint64_t seed, double reward) {
  TokenExample example;
  example.prompt = Tokens(9, seed);
  example.shown_completion = Tokens(6, seed + 100);
  if (reward == 0) example.correction = Tokens(5, seed + 200);
  example.reward = reward;
  example.own_answer = true;
  example.place = seed;
  TrainSequence quote;
  quote.tokens = Tokens(12, seed + 300);
  quote.completion_begin = 8;
  example.quote = quote;
  return example;
}

void Teach(WebSession& session, uint64_t seed, double reward) {
  const auto report = session.Teach(Example(seed, reward));
  BOOST_REQUIRE_MESSAGE(report.ok(), (report.ok() ? "" : report.error().message));
}

struct Taught {
  std::unique_ptr<WebSession> session;
  std::string log;
  std::vector<std::string> adapters;  // that it took over
};

// Three lessons to one question, which are all taken: no gate has anything to compare with.
Taught ThreeLessons() {
  Taught taught{Open(Options(0.02)), "", {}};
  for (uint64_t lesson = 1; lesson <= 3; ++lesson) {
    TokenExample example = Example(lesson, lesson == 2 ? 0.5 : 0);
    example.prompt = Tokens(9, 1);
    example.quote = std::nullopt;
    const auto report = taught.session->Teach(example);
    BOOST_REQUIRE(report.ok());
    BOOST_REQUIRE(report->accepted);
  }
  taught.log = taught.session->ExportLessons();
  return taught;
}

ReplayInput Input(const Taught& taught) {
  return {taught.log, Model().memory, Model().count, taught.adapters};
}

Result<ReplayedLessons> Replay(const ReplayInput& input) {
  return ReplayLessons(input, testing::ThreadsFor(2));
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  BOOST_REQUIRE_MESSAGE(at != std::string::npos, "there is no " + from);
  return text.replace(at, from.size(), to);
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
    lines.push_back(text.substr(begin, text.find('\n', begin) + 1 - begin));
  }
  return lines;
}

std::string Join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

BOOST_AUTO_TEST_CASE(a_log_of_every_event_is_learnt_again_to_the_same_adapter) {
  Taught taught{Open(Options(0.02)), "", {}};
  WebSession& first = *taught.session;
  Teach(first, 1, 0);
  BOOST_REQUIRE(first.SetAnchors({testing::PortableLesson()[2]}).ok());
  Teach(first, 2, 1);
  Teach(first, 3, -1);
  BOOST_REQUIRE(first.Learn(testing::PortableLesson()).ok());
  BOOST_REQUIRE(first.Learn(testing::PortableLesson()).ok());
  Teach(first, 4, 0);
  const auto other = Open(Options(0.02));
  Teach(*other, 5, 0);
  taught.adapters = {*other->Export(AdapterPrecision::kF16)};
  BOOST_REQUIRE(first.Import(taught.adapters[0]).ok());
  Teach(first, 1, 0);
  first.Reset();
  Teach(first, 6, 0);
  BOOST_REQUIRE(first.Learn(testing::PortableLesson()).ok());
  const std::string saved = first.Save();

  // Goes on in another session, with other options and anchors, and once more with the same.
  const auto second = Open(Options(0.01));
  BOOST_REQUIRE(second->Restore(saved).ok());
  Teach(*second, 7, 0);
  BOOST_REQUIRE(second->SetAnchors({testing::PortableLesson()[2]}).ok());
  taught.session = Open(Options(0.01));
  BOOST_REQUIRE(taught.session->Restore(second->Save()).ok());
  Teach(*taught.session, 8, 0.25);
  BOOST_REQUIRE(taught.session->Learn(testing::PortableLesson()).ok());

  taught.log = taught.session->ExportLessons();
  const auto replayed = Replay(Input(taught));
  BOOST_REQUIRE_MESSAGE(replayed.ok(), (replayed.ok() ? "" : replayed.error().message));
  BOOST_TEST(!replayed->difference.has_value());
  BOOST_TEST(replayed->cut == "");
  BOOST_TEST(replayed->lessons == 8);
  BOOST_TEST(replayed->taken > 0);
  BOOST_TEST(replayed->steps == 4);
  BOOST_TEST(replayed->session->digest() == taught.session->digest());
  BOOST_TEST((replayed->session->counts() == taught.session->counts()));
  BOOST_TEST(replayed->session->ExportLessons() == taught.log);

  ReplayInput without = Input(taught);
  without.adapters.clear();
  const auto refused = Replay(without);
  BOOST_REQUIRE(!refused.ok());
  BOOST_TEST((refused.error().code == Code::kWrongAdapter));
  BOOST_TEST(refused.error().message.find("took over an adapter") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(one_altered_byte_is_found_at_its_lesson) {
  Taught taught = ThreeLessons();
  const std::vector<std::string> lines = LinesOf(taught.log);
  BOOST_REQUIRE(lines.size() == 5);  // a head, three lessons, an end
  const auto replay = [&](size_t line, std::string altered) {
    std::vector<std::string> others = lines;
    others[line] = std::move(altered);
    taught.log = Join(others);
    auto replayed = Replay(Input(taught));
    BOOST_REQUIRE_MESSAGE(replayed.ok(), (replayed.ok() ? "" : replayed.error().message));
    return replayed->difference;
  };
  BOOST_TEST(!replay(1, lines[1]).has_value());

  // A token of what was taught, in each lesson: one less, and of a multiple of ten one more.
  for (size_t lesson = 1; lesson <= 3; ++lesson) {
    const char* list = lesson == 2 ? R"("shown":[)" : R"("correction":[)";
    std::string altered = lines[lesson];
    char& digit = altered[altered.find(',', altered.find(list) + std::strlen(list)) - 1];
    digit = digit == '0' ? '1' : static_cast<char>(digit - 1);
    const auto found = replay(lesson, altered);
    BOOST_REQUIRE(found.has_value());
    BOOST_TEST(found->lesson == lesson);
    BOOST_TEST(found->line == lesson + 1);
    BOOST_TEST(found->what.find("the adapter is") == 0);
  }
  // A digest, a verdict, the digest at the end.
  std::string digest = lines[2];
  char& last = digest[digest.size() - 4];
  last = last == '0' ? '1' : '0';
  BOOST_TEST(replay(2, digest).value().lesson == 2);
  BOOST_TEST(replay(3, Replaced(lines[3], "learnt", "drifts")).value().what.find("'drifts'") !=
             std::string::npos);
  std::string end = lines[4];
  char& of_end = end[end.size() - 4];
  of_end = of_end == '0' ? '1' : '0';
  BOOST_TEST(replay(4, end).value().line == 5);
}

BOOST_AUTO_TEST_CASE(what_is_no_log_of_this_model_is_refused_by_its_line) {
  const Taught taught = ThreeLessons();
  const std::vector<std::string> lines = LinesOf(taught.log);
  const auto refuses = [&](const std::string& log, Code code, const std::string& words) {
    ReplayInput input = Input(taught);
    input.log = log;
    const auto replayed = Replay(input);
    BOOST_REQUIRE_MESSAGE(!replayed.ok(), words);
    BOOST_TEST((replayed.error().code == code), replayed.error().message);
    BOOST_TEST(replayed.error().message.find(words) != std::string::npos,
               replayed.error().message << " has not: " << words);
    BOOST_TEST(!replayed.error().remedy.empty());
  };
  const auto unreadable = [&](const std::string& log, const std::string& words) {
    refuses(log, Code::kUnreadableFile, words);
  };
  const auto altered = [&](size_t line, const std::string& with) {
    std::vector<std::string> others = lines;
    others[line] = with;
    return Join(others);
  };
  unreadable("", "truncated");
  unreadable(taught.log.substr(0, taught.log.size() - lines[4].size()), "truncated");
  unreadable(taught.log.substr(0, taught.log.size() - 1), "line 5: the log is truncated");
  unreadable(taught.log.substr(0, lines[0].size() + 50), "line 2: the log is truncated");
  unreadable(altered(3, ""), "line 4: the log had 4 lines");
  unreadable(taught.log + lines[1], "line 6: it stands behind");
  unreadable(altered(1, "{]\n"), "line 2: it is no JSON object");
  unreadable(altered(1, "[1]\n"), "line 2: it is no JSON object");
  unreadable(altered(1, std::string(100'000, '[') + "\n"), "line 2: it is no JSON object");
  unreadable(altered(3, "{}\n"), "line 4: it says nothing");
  unreadable(altered(3, R"({"lesson":{"prompt":"x"}})"
                        "\n"),
             "line 4:");
  unreadable(altered(3, R"({"lesson":{"prompt":[-1]}})"
                        "\n"),
             "line 4:");
  unreadable(altered(3, R"({"lesson":{"prompt":[1.5]}})"
                        "\n"),
             "line 4:");
  unreadable(altered(3, R"({"step":[{"tokens":[1]}]})"
                        "\n"),
             "line 4:");
  unreadable(altered(0, Replaced(lines[0], R"("format":1)", R"("format":99)")), "line 1: no log");
  unreadable(altered(0, lines[1]), "line 1:");
  refuses(altered(0, Replaced(lines[0], R"("products":")", R"("products":"x)")),
          Code::kWrongAdapter, "products");
  refuses(altered(0, Replaced(lines[0], R"("rule":")", R"("rule":"x)")), Code::kWrongAdapter,
          "rule");
  refuses(
      altered(0, Replaced(lines[0], R"("step_tokens_max":300)", R"("step_tokens_max":4000000000)")),
      Code::kModelFailed, "line 1: steps of");
  refuses(altered(0, Replaced(lines[0], R"("rank":3)", R"("rank":65)")), Code::kModelFailed,
          "line 1: rank");
  refuses(altered(2, R"({"step":[{"tokens":[1,4000000000],"completion_begin":1,"objective":0,)"
                     R"("weight":1,"beta":1,"keep":0,"reach_floor":1}],"digest":"x"})"
                     "\n"),
          Code::kModelFailed, "line 3:");

  const Bytes other = ModelBytes(8);
  const auto replayed = Replay({taught.log, other.memory, other.count, {}});
  BOOST_REQUIRE(!replayed.ok());
  BOOST_TEST(replayed.error().message.find("the lessons are of the base model") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_log_that_is_full_is_cut_and_says_so) {
  const WebOptions options = Options(0.02);
  const std::string digest(64, 'a');
  LessonLog many("base", options);
  for (int i = 0; i < 1000; ++i) many.AddAdapter(i % 2 == 0 ? digest : "");
  BOOST_TEST(LinesOf(many.Export(digest)).size() == 3);  // a head, the last one, an end
  for (size_t i = 0; i < 2 * LessonLog::kLinesMost; ++i) {
    many.AddLesson(Example(i, 1), {}, LessonVerdict::kLearnt, digest);
  }
  const std::vector<std::string> lines = LinesOf(many.Export(digest));
  BOOST_TEST(lines.size() == LessonLog::kLinesMost + 1);
  BOOST_TEST(lines.back().find(R"("cut":"it has 4096 lines)") != std::string::npos);

  LessonLog large("base", options);
  TrainSequence sequence;
  sequence.tokens.assign(100'000, 12'345);
  sequence.completion_begin = 1;
  for (int i = 0; i < 20; ++i) large.AddStep({&sequence, 1}, digest);
  BOOST_TEST(large.Export(digest).size() < kReplayLogBytesMost);
  BOOST_TEST(LinesOf(large.Export(digest)).back().find(R"("cut":)") != std::string::npos);

  // What is saved says it again.
  ByteWriter out;
  large.Save(out);
  const std::string saved = out.Take();
  ByteReader in(saved);
  LessonLog again("base", options);
  BOOST_REQUIRE(again.Load(in).ok());
  BOOST_TEST(in.complete());
  BOOST_TEST((again.Export(digest) == large.Export(digest)));
  ByteReader damaged(std::string_view(saved).substr(0, saved.size() / 2));
  BOOST_TEST(!again.Load(damaged).ok());
  BOOST_TEST((again.Export(digest) == large.Export(digest)));
}

BOOST_AUTO_TEST_CASE(what_was_saved_without_a_log_goes_on_and_its_log_is_cut) {
  const Taught before = ThreeLessons();
  const std::string saved = before.session->Save();
  ByteReader in(saved);
  in.U8();
  ByteWriter older;
  older.U8(1);
  older.Text(in.View());  // the base model
  older.U64(in.U64());
  older.Text(in.View());
  older.Text(in.View());
  Taught taught{Open(Options(0.02)), "", {}};
  BOOST_REQUIRE(taught.session->Restore(older.Take()).ok());
  BOOST_TEST(taught.session->digest() == before.session->digest());
  Teach(*taught.session, 4, 0);
  taught.log = taught.session->ExportLessons();
  const auto replayed = Replay(Input(taught));
  BOOST_REQUIRE(replayed.ok());
  BOOST_TEST(!replayed->difference.has_value());
  BOOST_TEST(replayed->lessons == 0);
  BOOST_TEST(replayed->cut.find("had no log") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_command_says_so_and_writes_the_adapter) {
  const Taught taught = ThreeLessons();
  const testing::TempFolder folder;
  const auto path = [&](const char* name) { return folder.path() + "/" + name; };
  const auto write = [&](const char* name, std::string_view bytes) {
    std::ofstream(path(name), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path(name);
  };
  const std::string model =
      write("model.gguf", {static_cast<const char*>(Model().memory.get()), Model().count});
  const std::string log = write("lessons.jsonl", taught.log);
  const auto [status, said] = testing::RunCommand(NUDGE_BINARY " verify " + log + " --model " +
                                                  model + " --out " + path("adapter.gguf"));
  BOOST_TEST(status == 0, said);
  BOOST_TEST(said.find("the same adapter behind each of 3 lessons") != std::string::npos, said);
  BOOST_TEST(said.find(taught.session->digest()) != std::string::npos, said);
  BOOST_TEST((testing::FileBytes(path("adapter.gguf")) ==
              *taught.session->Export(AdapterPrecision::kF32)));

  VerifyArguments arguments{log, model, {}, "", 2};
  BOOST_TEST(VerifyLessons(arguments) == kExitDone);
  arguments.out = path("adapter.gguf");  // is there already
  BOOST_TEST(VerifyLessons(arguments) == kExitUsage);
  arguments.out.clear();
  arguments.lessons =
      write("altered.jsonl", Replaced(taught.log, R"("reward":0.5)", R"("reward":0.25)"));
  BOOST_TEST(VerifyLessons(arguments) == kExitFailed);
  arguments.lessons = write("truncated.jsonl", taught.log.substr(0, taught.log.size() / 2));
  BOOST_TEST(VerifyLessons(arguments) == kExitUsage);
  arguments.lessons = log;
  arguments.adapters = {log};
  BOOST_TEST(VerifyLessons(arguments) == kExitUsage);
  arguments.adapters = {model};
  BOOST_TEST(VerifyLessons(arguments) == kExitUsage);
  arguments.adapters.clear();
  arguments.model = log;
  BOOST_TEST(VerifyLessons(arguments) == kExitUsage);
  arguments.model = path("nowhere.gguf");
  BOOST_TEST(VerifyLessons(arguments) == kExitUsage);
}

}  // namespace
}  // namespace nudge
