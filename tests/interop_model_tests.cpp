// labels: model
// What nudge writes means the same elsewhere. The first corrections of the quickstart go through
// the whole loop; then llama.cpp's own program, with the snapshot that the loop wrote and
// without it, answers the same prompts, and numpy computes the trainer's logits from its PEFT
// files.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>

#include "connectors/codec.h"
#include "connectors/memory.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/processor.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "stages/model/forwarding_backend.h"
#include "stages/model/local_backend.h"
#include "stages/model/serve/language_model.h"
#include "stages/model/trainer/trainer.h"
#include "tests/run_command.h"
#include "tests/temp_folder.h"
#include "tests/trainer_helpers.h"

using namespace nudge;
using nudge::testing::RunCommand;
using nudge::testing::TempFolder;

namespace {

const std::string kSource = NUDGE_SOURCE_DIR;
constexpr size_t kCorrections = 6;
constexpr size_t kQuestions = 6;  // asked before the corrections and after them
constexpr size_t kThreads = 2;

// What the model was asked and said, in the course of the run.
struct Spoken {
  std::vector<ChatMessage> chat;
  std::string adapter_digest;  // empty: the base
  uint32_t max_tokens = 0;
  Completed completed;
};

// A backend that writes down what it is asked; all work is the other one's.
class WrittenDown final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  const std::vector<Spoken>& spoken() const { return spoken_; }

  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    auto said = ForwardingBackend::Generate(slot, chat, adapter, decoding, seed, asker);
    const std::lock_guard lock(mutex_);
    if (said.ok() && decoding.temperature <= 0) {
      spoken_.push_back(
          {chat, adapter == nullptr ? "" : adapter->digest, decoding.max_tokens, *said});
    }
    return said;
  }

 private:
  std::mutex mutex_;
  std::vector<Spoken> spoken_;
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  BOOST_REQUIRE_MESSAGE(file, "cannot read " + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// For the shell.
std::string Quoted(const std::string& path) {
  BOOST_REQUIRE(path.find('\'') == std::string::npos);
  return "'" + path + "'";
}

// ---- The run ------------------------------------------------------------------------------------

// Of the quickstart: documents, the questions of the first corrections, the first corrections, and
// the questions that nobody corrects, once before and once after.
std::vector<std::string> Events(const std::string& path, const EventLimits& limits) {
  std::vector<std::string> documents, feedback;
  std::vector<std::pair<std::string, std::string>> queries;  // id, line
  std::set<std::string> corrected;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const Result<Event> event = DecodeEvent(line, limits);
    if (!event.ok() || event->tenant != "harbour-pine") continue;
    if (std::holds_alternative<DocumentUpsert>(event->data)) documents.push_back(line);
    if (std::holds_alternative<Query>(event->data)) queries.emplace_back(event->id, line);
    const auto* said = std::get_if<Feedback>(&event->data);
    if (said == nullptr || !said->correction || feedback.size() == kCorrections) continue;
    feedback.push_back(line);
    corrected.insert(said->query_id);
  }
  BOOST_REQUIRE(queries.size() > 2 * kQuestions);
  std::vector<std::string> lines = documents;
  for (size_t i = 0; i < queries.size() - kQuestions; ++i) {
    if (i < kQuestions || corrected.contains(queries[i].first)) lines.push_back(queries[i].second);
  }
  lines.insert(lines.end(), feedback.begin(), feedback.end());
  for (size_t i = queries.size() - kQuestions; i < queries.size(); ++i) {
    lines.push_back(queries[i].second);
  }
  return lines;
}

struct FirstCorrections {
  TempFolder folder;
  std::string base;       // GGUF
  std::string answering;  // the form of it that answers
  std::string cache;      // of scripts/setup
  SnapshotRef snapshot;
  std::string snapshot_path;
  std::vector<Spoken> after;   // with the adapter of the snapshot
  std::vector<Spoken> before;  // by the base, of the same chats

  FirstCorrections() {
    Config config = ReadConfig(kSource + "/configs/quickstart.json");
    config.output.folder = folder.path();
    config.checkpoint.enabled = false;
    // With its steps at full length from the first one on, a few corrections change answers.
    config.model.local.learner.optimizer.warmup_steps = 0;
    config.processor.adapt.snapshot_every_versions = kCorrections;
    config.processor.graph.threads = kThreads;
    config.processor.executor.threads = kThreads;
    base = config.model.local.language_model;
    answering = AnsweringFile(config.model.local);
    cache = std::filesystem::path(base).parent_path().parent_path().string();

    const std::unique_ptr<Backend> backend = MakeBackend(config);
    WrittenDown written_down(*backend);
    MemorySource source(Events(config.input.path, config.processor.graph.limits));
    MemorySink sink;
    const ProcessorOptions options = ToProcessorOptions(config);
    Processor processor(options, {}, written_down, source, sink);
    const std::atomic<bool> stop{false};
    const auto done = processor.Run(stop);
    BOOST_REQUIRE_MESSAGE(done.ok(), (done.ok() ? "" : done.error().message));

    for (const OutcomeLine& line : sink.lines()) {
      const Result<RecordedOutcome> outcome = DecodeOutcome(line.bytes);
      BOOST_REQUIRE(outcome.ok());
      if (!outcome->outcome.snapshots.empty()) snapshot = outcome->outcome.snapshots.back();
    }
    BOOST_REQUIRE_EQUAL(snapshot.version, kCorrections);
    snapshot_path = options.executor.snapshot_folder + "/" + snapshot.uri;
    for (const Spoken& answer : written_down.spoken()) {
      if (answer.adapter_digest != snapshot.digest) continue;
      after.push_back(answer);
      for (const Spoken& earlier : written_down.spoken()) {
        if (!earlier.adapter_digest.empty() || earlier.chat != answer.chat) continue;
        before.push_back(earlier);
      }
    }
    BOOST_REQUIRE_EQUAL(after.size(), kQuestions);
    BOOST_REQUIRE_EQUAL(before.size(), kQuestions);
  }

  static FirstCorrections& Get() {
    static FirstCorrections run;
    return run;
  }
};

// ---- llama.cpp ----------------------------------------------------------------------------------

struct Continued {
  std::vector<int32_t> prompt;
  std::vector<std::string> pieces;  // one a token, without the one that ended the turn
  bool ended = false;               // by the model, not by the limit
};

constexpr std::string_view kEndOfTurn = "found an EOG token";

// Its log lists the prompt as `tokens: [ 'What':1780, ' is':314 ]`.
std::vector<int32_t> PromptOf(const std::string& log) {
  const size_t begin = log.find("tokens: [ ");
  const size_t end = log.find(" ]\n", begin);
  BOOST_REQUIRE(end != std::string::npos);
  std::vector<int32_t> tokens;
  for (size_t at = begin; (at = log.find("':", at)) < end; ++at) {
    size_t digits = 0;
    const std::string rest = log.substr(at + 2, 12);
    if (rest.empty() || std::isdigit(static_cast<unsigned char>(rest[0])) == 0) continue;
    const int32_t token = std::stoi(rest, &digits);
    if (rest.compare(digits, 3, ", '") == 0 || at + 2 + digits == end) tokens.push_back(token);
  }
  return tokens;
}

// Each token drawn is told as `n_remain: 39`, a new line, its text; then comes its pass through the
// model (`n_past = 101`), the end of the turn, or that of the program.
std::vector<std::string> DrawnIn(const std::string& log) {
  std::vector<std::string> pieces;
  for (size_t at = 0; (at = log.find("n_remain: ", at)) != std::string::npos;) {
    at = log.find('\n', at) + 1;
    const size_t end = std::min({log.find("n_past = ", at), log.find(kEndOfTurn, at),
                                 log.find("\n\ncommon_perf_print: ", at)});
    BOOST_REQUIRE(end != std::string::npos);
    if (log.compare(end, kEndOfTurn.size(), kEndOfTurn) == 0) break;
    pieces.push_back(log.substr(at, end - at));
    at = end;
  }
  return pieces;
}

// Greedy, by llama-completion as llama.cpp's authors wrote it.
Continued ContinueElsewhere(const FirstCorrections& run, const std::string& prompt,
                            uint32_t max_tokens, bool with_adapter) {
  const std::string prompt_path = run.folder.path() + "/prompt.txt";
  const std::string log_path = run.folder.path() + "/log.txt";
  std::filesystem::remove(log_path);
  std::ofstream(prompt_path, std::ios::binary) << prompt << "\n";  // the program takes one off
  const std::string program = run.cache + "/llama-tools/bin/llama-completion";
  BOOST_REQUIRE_MESSAGE(std::filesystem::exists(program),
                        program + " is missing: run scripts/setup --tools");
  // Flash attention off, one thread, one pass over the prompt: as nudge's own contexts.
  std::string command =
      Quoted(program) + " -m " + Quoted(run.answering) + " -f " + Quoted(prompt_path) +
      " -no-cnv --no-escape --special --no-warmup -fit off --temp 0" +
      " -fa off -c 1024 -b 512 -ub 512 -t 1 -tb 1 -n " + std::to_string(max_tokens) +
      " -v --no-log-prefix --no-log-timestamps" + " --log-file " + Quoted(log_path);
  if (with_adapter) command += " --lora " + Quoted(run.snapshot_path + "/adapter.gguf");
  const auto [code, output] = RunCommand(command);
  BOOST_REQUIRE_MESSAGE(code == 0, command + ": " + output);
  const std::string log = ReadFile(log_path);
  BOOST_TEST((log.find("adapter.gguf") != std::string::npos) == with_adapter);

  return {PromptOf(log), DrawnIn(log), log.find(kEndOfTurn) != std::string::npos};
}

// What the run said, nudge's own model with the adapter as a file says, and so does llama.cpp.
void CheckTheSame(const FirstCorrections& run, const Spoken& spoken, bool with_adapter) {
  LanguageModel model(run.answering, {.slots = 1, .window_tokens = 1024});
  const auto prompt = model.RenderTokens(spoken.chat);
  const auto rendered = model.Render(spoken.chat);
  const std::string bytes = ReadFile(run.snapshot_path + "/adapter.gguf");
  const auto adapter = model.LoadAdapter(std::as_bytes(std::span(bytes)));
  BOOST_REQUIRE((prompt.ok() && rendered.ok() && adapter.ok()));
  const auto own = model.Generate(0, *prompt, with_adapter ? *adapter : nullptr,
                                  {.max_tokens = spoken.max_tokens});
  BOOST_REQUIRE(own.ok());
  BOOST_TEST(own->text == spoken.completed.text);
  BOOST_TEST(own->tokens.size() == spoken.completed.completion_tokens);
  std::vector<std::string> pieces;
  for (const int32_t piece : own->tokens) pieces.push_back(model.Detokenize({&piece, 1}));

  const Continued elsewhere = ContinueElsewhere(run, *rendered, spoken.max_tokens, with_adapter);
  BOOST_TEST(elsewhere.prompt == *prompt, boost::test_tools::per_element());
  BOOST_TEST(elsewhere.pieces == pieces, boost::test_tools::per_element());
  BOOST_TEST(elsewhere.ended == !own->stopped_by_limit);
  const std::string& shown = spoken.chat.back().text;  // passages, then the question
  BOOST_TEST_MESSAGE(shown.substr(shown.rfind('\n') + 1)
                     << "\n  both, " << pieces.size() << " tokens: " << own->text);
}

// ---- PEFT ---------------------------------------------------------------------------------------

std::pair<int, std::string> CheckPeft(const FirstCorrections& run,
                                      const std::vector<int32_t>& tokens,
                                      std::span<const float> logits) {
  const std::string path = run.folder.path() + "/logits.f32";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(logits.data()),
             static_cast<std::streamsize>(logits.size_bytes()));
  std::string listed;
  for (const int32_t token : tokens) {
    listed += (listed.empty() ? "" : ",") + std::to_string(token);
  }
  // Debian's Python, which has numpy.
  return RunCommand("/usr/bin/python3 " + Quoted(kSource + "/scripts/check_peft.py") + " --base " +
                    Quoted(run.base) + " --peft " + Quoted(run.snapshot_path) + " --tokens " +
                    listed + " --logits " + Quoted(path) + " --gguf-py " +
                    Quoted(run.cache + "/llama/gguf-py"));
}

}  // namespace

BOOST_AUTO_TEST_CASE(with_the_snapshot_llama_cpp_answers_token_for_token_as_nudge_did) {
  const FirstCorrections& run = FirstCorrections::Get();
  for (const Spoken& spoken : run.after) CheckTheSame(run, spoken, true);
}

BOOST_AUTO_TEST_CASE(without_a_snapshot_llama_cpp_answers_as_nudge_did_before_any_feedback) {
  const FirstCorrections& run = FirstCorrections::Get();
  for (const Spoken& spoken : run.before) CheckTheSame(run, spoken, false);
}

BOOST_AUTO_TEST_CASE(the_snapshot_changes_most_answers_so_that_the_two_differ) {
  const FirstCorrections& run = FirstCorrections::Get();
  size_t changed = 0;
  for (size_t i = 0; i < kQuestions; ++i) {
    changed += run.before[i].completed.text != run.after[i].completed.text ? 1 : 0;
  }
  BOOST_TEST_MESSAGE("the adapter changes " << changed << " of " << kQuestions << " answers");
  BOOST_TEST(changed * 2 > kQuestions);
}

BOOST_AUTO_TEST_CASE(numpy_computes_the_trainers_logits_from_the_peft_files) {
  const FirstCorrections& run = FirstCorrections::Get();
  const LanguageModel model(run.base, {.slots = 1, .window_tokens = 64});
  const auto tokens = model.RenderTokens(
      {{"user", "How many keys come with the Bollard lock?"}, {"assistant", "3 keys."}}, false);
  BOOST_REQUIRE(tokens.ok());
  const auto weights = FrozenWeights::Load(run.base);
  BOOST_REQUIRE(weights.ok());
  Trainer trainer(*weights, {64, 8});
  const LoraShape shape = (*weights)->AdapterShape(8, 16, nudge::testing::kAllModules);
  const auto adapter =
      ReadSnapshot(run.snapshot_path, run.snapshot.sha256, {model.sha256(), "llama", shape});
  BOOST_REQUIRE_MESSAGE(adapter.ok(), (adapter.ok() ? "" : adapter.error().message));
  const auto logits =
      trainer.Logits(*tokens, &adapter->weights, nudge::testing::ThreadsFor(kThreads));
  BOOST_REQUIRE(logits.ok());
  // The script also refuses an adapter that hardly moves the logits: the base's would not pass.
  const auto [code, report] = CheckPeft(run, *tokens, *logits);
  BOOST_TEST(code == 0, report);
  BOOST_TEST_MESSAGE(report);
}
