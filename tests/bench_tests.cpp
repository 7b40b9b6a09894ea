// labels: unit
// llama.cpp's own benchmark beside ours: what it printed is read, what is not it is refused. And
// questions until their outcomes, by a small random model.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "pipeline/bench/bench_questions.h"
#include "pipeline/bench/llama_bench.h"
#include "pipeline/stop_requested.h"
#include "stages/model/serve/language_model.h"
#include "stages/model/serve/random_model.h"
#include "stages/result.h"
#include "tests/temp_folder.h"
#include "tests/trainer_helpers.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

// By the build that scripts/setup --tools makes, of SmolLM2-135M-Instruct and
// multilingual-e5-small: -p 159 -n 0 -d 0, then -p 0 -n 32 -d 35, then -p 174 -n 0 -d 0 -embd 1;
// each -t 1 -fa auto,off -r 1 -o jsonl, folders taken out.
constexpr char kRecorded[] = NUDGE_SOURCE_DIR "/tests/golden/llama-bench.jsonl";

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  BOOST_TEST_REQUIRE(file.good(), path << " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

LlamaBenchTask Prompt() {
  return {.model = "model.gguf", .prompt_tokens = 159};
}

auto Says(const std::string& text) {
  return [text](const StartError& error) {
    const bool found = std::string(error.what()).find(text) != std::string::npos;
    if (!found) BOOST_TEST_MESSAGE("it says: " << error.what());
    return found;
  };
}

// A program that does what the lines say, in `folder`.
std::string Program(const TempFolder& folder, const std::string& lines) {
  const std::string path = folder.path() + "/program";
  std::ofstream(path) << "#!/bin/sh\n" << lines << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

// A model that can be asked, and what the benchmark of questions needs of it.
class AskedModel {
 public:
  AskedModel() {
    nudge::testing::TinyLlama model;
    model.ReadText();
    model.Fill(5);
    model.Write(file_.path());
    config_.model.local.language_model = file_.path();
    config_.model.local.products = "portable";
    config_.model.local.learner.rank = 2;
    auto weights = FrozenWeights::Load(file_.path());
    BOOST_REQUIRE(weights.ok());
    auto packed = PackedModel::Pack(*weights, SerialFor());
    BOOST_REQUIRE(packed.ok());
    packed_ = *packed;
  }

  bool Measure(const QuestionsArguments& arguments,
               const std::function<void(const QuestionRow&)>& measured) const {
    return MeasureQuestions(config_, *packed_, arguments, measured);
  }

 private:
  nudge::testing::TemporaryFile file_{"asked.gguf"};
  Config config_;
  std::shared_ptr<const PackedModel> packed_;
};

constexpr QuestionsArguments kFewQuestions{
    .threads = 2, .prompt_tokens = 150, .answer_tokens = 5, .together = 3, .rounds = 2};

}  // namespace

BOOST_AUTO_TEST_CASE(questions_are_measured_by_both_engines_in_every_row) {
  std::vector<QuestionRow> rows;
  const AskedModel model;
  BOOST_TEST(model.Measure(kFewQuestions, [&](const QuestionRow& row) { rows.push_back(row); }));
  const std::vector<size_t> asked = {2, 3, 2, 1, 1};
  BOOST_TEST_REQUIRE(rows.size() == asked.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    BOOST_TEST_CONTEXT(rows[i].what) {
      BOOST_TEST(rows[i].bound_ms > 0);
      for (const QuestionTimes* times : {&rows[i].own, &rows[i].llama}) {
        BOOST_TEST(times->ms.size() == asked[i]);
        BOOST_TEST(*std::min_element(times->ms.begin(), times->ms.end()) > 0);
        BOOST_TEST(times->tokens == (i < 3 ? 5 : 1));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_model_of_random_weights_is_whole_and_the_same_each_time) {
  const nudge::testing::TemporaryFile file("random.gguf"), again("random-again.gguf");
  for (const auto* to : {&file, &again}) {
    BOOST_REQUIRE(WriteRandomModel(to->path(), "smollm2-135m", 1).ok());
  }
  BOOST_TEST((Content(file.path()) == Content(again.path())));
  const auto shape = FrozenWeights::Check(file.path());
  BOOST_REQUIRE(shape.ok());
  BOOST_TEST(shape->layers == 1U);
  BOOST_TEST(shape->hidden == 576U);
  BOOST_TEST(shape->QueryWidth() == 576U);
  BOOST_TEST(shape->KeyWidth() == 192U);
  BOOST_TEST(shape->feed_forward == 1536U);
  BOOST_TEST(shape->vocabulary == 49152U);
  const LanguageModel text(file.path(), {.text_only = true});
  const auto tokens = text.Tokenize("ship", false, false);
  BOOST_REQUIRE(tokens.ok());
  BOOST_TEST(text.Detokenize(*tokens) == "ship");
  BOOST_TEST(!WriteRandomModel(file.path(), "smollm2", 1).ok());
  BOOST_TEST(!WriteRandomModel("/nowhere/random.gguf", "smollm2-135m", 1).ok());
}

BOOST_AUTO_TEST_CASE(a_stop_ends_the_measuring_of_questions_within_a_row) {
  const AskedModel model;
  QuestionsArguments endless = kFewQuestions;
  endless.rounds = 1'000'000;
  std::jthread stopper([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop_requested = true;
  });
  size_t rows = 0;
  BOOST_TEST(!model.Measure(endless, [&](const QuestionRow&) { ++rows; }));
  BOOST_TEST(rows == 0);
  stop_requested = false;
}

BOOST_AUTO_TEST_CASE(a_question_that_does_not_fit_the_window_is_refused) {
  QuestionsArguments longer = kFewQuestions;
  longer.prompt_tokens = 510;
  const AskedModel model;
  BOOST_CHECK_EXCEPTION(model.Measure(longer, [](const QuestionRow&) {}), StartError,
                        Says("do not fit a window of 512: set model.window_tokens to more"));
}

BOOST_AUTO_TEST_CASE(what_llama_bench_printed_is_read_by_task) {
  const std::string printed = "warning: something\n" + Content(kRecorded);
  const LlamaBenchTimes prompt = ParseLlamaBench(printed, Prompt());
  BOOST_TEST(prompt.shipped_ms == 1310.429517);
  BOOST_TEST(prompt.plain_ms == 1290.594229);
  const LlamaBenchTimes drawn = ParseLlamaBench(printed, {.drawn_tokens = 32, .depth_tokens = 35});
  BOOST_TEST(drawn.shipped_ms == 536.323647);
  BOOST_TEST(drawn.plain_ms == 529.938447);
  const LlamaBenchTimes text = ParseLlamaBench(printed, {.prompt_tokens = 174, .embeddings = true});
  BOOST_TEST(text.shipped_ms == 97.576159);
  BOOST_TEST(text.plain_ms == 184.161794);
}

BOOST_AUTO_TEST_CASE(times_of_another_task_do_not_count) {
  const std::string printed = Content(kRecorded);
  for (const LlamaBenchTask& other :
       {LlamaBenchTask{.prompt_tokens = 158}, LlamaBenchTask{.prompt_tokens = 159, .threads = 2},
        LlamaBenchTask{.prompt_tokens = 159, .embeddings = true},
        LlamaBenchTask{.drawn_tokens = 32}}) {
    BOOST_CHECK_EXCEPTION(ParseLlamaBench(printed, other), StartError, Says("no times"));
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_llama_benchs_is_refused_and_shown) {
  for (const std::string printed : {"", "usage: none", "{\"n_prompt\": 159}\n[1]\n", "{\"n_pro"}) {
    BOOST_CHECK_EXCEPTION(
        ParseLlamaBench(printed, Prompt()), StartError,
        Says(printed.empty() ? "it printed nothing" : "it printed: " + printed.substr(0, 5)));
  }
  // One of the two ways is missing.
  const std::string first_line = Content(kRecorded).substr(0, Content(kRecorded).find('\n') + 1);
  BOOST_CHECK_EXCEPTION(ParseLlamaBench(first_line, Prompt()), StartError, Says("no times"));
}

BOOST_AUTO_TEST_CASE(a_missing_program_is_refused_with_what_to_do) {
  BOOST_CHECK_EXCEPTION(LlamaBench("/nowhere/llama-bench", "model.gguf"), StartError,
                        Says("cannot run /nowhere/llama-bench: No such file or directory: name "
                             "llama.cpp's llama-bench; scripts/setup --tools makes"));
  const TempFolder folder;
  BOOST_CHECK_EXCEPTION(LlamaBench(folder.path(), "model.gguf"), StartError,
                        Says("Permission denied"));
}

BOOST_AUTO_TEST_CASE(a_program_that_fails_or_never_ends_is_refused_with_what_it_said) {
  const TempFolder folder;
  BOOST_CHECK_EXCEPTION(LlamaBench(Program(folder, "echo no model >&2; exit 3"), "model.gguf"),
                        StartError,
                        Says("ended with 3: name llama.cpp's llama-bench; it printed: no model"));
  BOOST_CHECK_EXCEPTION(LlamaBench(Program(folder, "kill -9 $$"), "model.gguf"), StartError,
                        Says("ended by signal 9"));
  BOOST_CHECK_EXCEPTION(LlamaBench(Program(folder, "exec yes"), "model.gguf"), StartError,
                        Says("it printed: ..."));
}

BOOST_AUTO_TEST_CASE(the_program_gets_its_words_as_they_are_and_its_input_is_empty) {
  const TempFolder folder;
  const std::string line =
      R"({"n_prompt": 1, "n_gen": 0, )"
      R"("n_depth": 0, "n_threads": 1, "embeddings": false, "avg_ns": 2000000, )";
  const std::string program =
      Program(folder, "cat >" + folder.path() + "/input; printf '%s\\n' \"$@\" >" + folder.path() +
                          "/words\necho '" + line + "\"flash_attn\": -1}'\necho '" + line +
                          "\"flash_attn\": 0}'");
  const LlamaBench bench(program, "a b; $(rm) '.gguf");
  BOOST_TEST(Content(folder.path() + "/input") == "");
  BOOST_TEST(
      Content(folder.path() + "/words") ==
      "-m\na b; $(rm) '.gguf\n-p\n1\n-n\n0\n-d\n0\n-t\n1\n-embd\n0\n-fa\nauto,off\n-r\n1\n-o\n"
      "jsonl\n");
  const LlamaBenchTimes times = bench.Run({.prompt_tokens = 1});
  BOOST_TEST(times.shipped_ms == 2.0);
  BOOST_TEST(times.plain_ms == 2.0);
}
