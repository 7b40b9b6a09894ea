// labels: web
// The module for browsers, under node and on a page in headless Chromium: the same adapter bytes
// and the same logits as this machine's portable products, the same tokens of a chat as the
// server's.
#include <boost/test/unit_test.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <vector>

#include "connectors/web/module/lesson_replay.h"
#include "connectors/web/module/session.h"
#include "connectors/web/module/web_chat.h"
#include "stages/hash.h"
#include "stages/model/adapters/lora_codec.h"
#include "stages/model/serve/language_model.h"
#include "tests/answering.h"
#include "tests/models.h"
#include "tests/portable_run.h"
#include "tests/run_command.h"
#include "tests/temp_folder.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string ModuleFolder() {
  const std::string folder = fs::absolute(NUDGE_SOURCE_DIR "/build/web").string();
  BOOST_REQUIRE_MESSAGE(fs::exists(folder + "/nudge_module.wasm"),
                        folder + " has no module: run scripts/setup --web and scripts/web --build");
  return folder;
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Answers of so many tokens, and the bytes of all their logits.
struct Answered {
  std::vector<int32_t> tokens;
  std::string logits_sha256;
  bool operator==(const Answered&) const = default;
};

Answered Ask(WebSession& session, std::span<const int32_t> prompt, size_t tokens, bool plugged) {
  Answered answer;
  Sha256Stream hash;
  BOOST_REQUIRE(session.Ask(prompt, plugged).ok());
  while (answer.tokens.size() < tokens) {
    const auto token = session.Next();
    BOOST_REQUIRE(token.ok());
    if (!*token) break;
    answer.tokens.push_back(**token);
    hash.Add(session.logits().data(), session.logits().size_bytes());
  }
  answer.logits_sha256 = Hex(hash.Finish());
  return answer;
}

// The same by the engine alone, by one row of a text after the other and by no session.
std::vector<int32_t> GreedyTokens(const std::shared_ptr<const FrozenWeights>& weights,
                                  std::vector<int32_t> tokens, size_t count,
                                  const LoraWeights* adapter) {
  const auto model = PackedModel::Pack(weights, testing::ThreadsFor(2));
  BOOST_REQUIRE(model.ok());
  std::shared_ptr<const PackedAdapter> packed;
  if (adapter != nullptr) packed = PackedAdapter::Pack(*adapter, *weights).value();
  KeyPages pages(weights->shape(), size_t{64} << 20);
  EnginePass pass(*model, {.rows_max = 1, .positions_max = 512});
  KeySequence sequence(pages);
  std::vector<float> logits(weights->shape().vocabulary);
  const size_t prompt = tokens.size();
  for (size_t at = 0; at + 1 < prompt + count; ++at) {
    const EngineRows rows{&sequence, std::span(tokens).subspan(at, 1), packed.get()};
    BOOST_REQUIRE(pass.Run({&rows, 1}, SerialFor(), logits).ok());
    if (at + 1 < prompt) continue;
    tokens.push_back(
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt), tokens.end()};
}

// The model's bytes, where a session takes them.
std::shared_ptr<const void> InPlace(const std::string& model) {
  const std::shared_ptr<void> bytes(AllocateAligned(model.size()), FreeAligned{});
  std::copy(model.begin(), model.end(), static_cast<char*>(bytes.get()));
  return bytes;
}

// A folder as tests/web_module.mjs wants it, and the adapter that is to come out.
struct Exercise {
  std::string folder;
  std::string model;  // the GGUF's bytes
  WebOptions options;
  std::vector<TrainSequence> lesson;
  int steps;
  int imports;  // one after the other, within the same memory
  std::vector<int32_t> prompt;
  size_t answer_tokens;

  json LessonAsJson() const {
    constexpr const char* kObjectives[] = {"crossEntropy", "down", "anchor"};
    json sequences = json::array();
    for (const TrainSequence& sequence : lesson) {
      sequences.push_back({{"tokens", sequence.tokens},
                           {"completionBegin", sequence.completion_begin},
                           {"objective", kObjectives[static_cast<size_t>(sequence.objective)]},
                           {"weight", sequence.weight},
                           {"keep", sequence.keep},
                           {"reachFloor", sequence.reach_floor}});
    }
    return {{"options",
             {{"stepTokensMax", options.step_tokens_max},
              {"rank", options.rank},
              {"alpha", options.alpha},
              {"seed", options.seed},
              {"windowTokens", options.window_tokens}}},
            {"sequences", sequences},
            {"steps", steps},
            {"imports", imports},
            {"prompt", prompt},
            {"answerTokens", answer_tokens}};
  }

  // The module's session, compiled for this machine.
  std::unique_ptr<WebSession> Open() const {
    auto session = WebSession::Load(InPlace(model), model.size(), options);
    BOOST_REQUIRE_MESSAGE(session.ok(), (session.ok() ? "" : session.error().message));
    return std::move(session).value();
  }

  // Writes the folder, whose adapter is the session's. What this machine ends with: the SHA-256 of
  // the adapter, and of the logits of an answer by it and of one without.
  std::string Expect(WebSession& session) const {
    fs::create_directories(folder);
    WriteFile(folder + "/model.gguf", model);
    WriteFile(folder + "/lesson.json", LessonAsJson().dump());
    const auto begin = session.Export(AdapterPrecision::kF32);
    BOOST_REQUIRE(begin.ok());
    WriteFile(folder + "/adapter.gguf", *begin);
    BOOST_REQUIRE(session.Import(*begin).ok());
    for (int step = 0; step < steps; ++step) BOOST_REQUIRE(session.Learn(lesson).ok());
    const auto end = session.Export(AdapterPrecision::kF32);
    BOOST_REQUIRE(end.ok());
    const Answered plugged = Ask(session, prompt, answer_tokens, true);
    const Answered base = Ask(session, prompt, answer_tokens, false);
    BOOST_TEST(plugged.tokens.size() == answer_tokens);
    BOOST_TEST(plugged.logits_sha256 != base.logits_sha256);
    BOOST_TEST((Ask(session, prompt, answer_tokens, true) == plugged));
    return Sha256Hex(*end) + " " + plugged.logits_sha256 + " " + base.logits_sha256;
  }
};

// The log that WebAssembly wrote, learnt again on this machine. How many lessons by the whole rule,
// and how many steps.
std::pair<uint64_t, uint64_t> ExpectVerified(const std::string& folder, const std::string& model,
                                             const std::string& log = "lessons.jsonl") {
  const std::string lessons = testing::FileBytes(folder + "/" + log);
  ReplayInput input{lessons, InPlace(model), model.size(), {}};
  for (const char* name : {"/adapter.gguf", "/exported.gguf"}) {
    if (fs::exists(folder + name)) input.adapters.push_back(testing::FileBytes(folder + name));
  }
  const auto replayed = ReplayLessons(input, testing::ThreadsFor(2));
  BOOST_REQUIRE_MESSAGE(replayed.ok(), (replayed.ok() ? "" : replayed.error().message));
  BOOST_TEST(!replayed->difference.has_value(),
             (replayed->difference ? replayed->difference->what : ""));
  BOOST_TEST(replayed->cut == "");
  return {replayed->lessons, replayed->steps};
}

// What node's script prints of each folder, as Exercise::Expect.
std::map<std::string, std::string> RunInNode(const std::map<std::string, std::string>& folders) {
  std::string command =
      "timeout 600 node " NUDGE_SOURCE_DIR "/tests/web_module.mjs " + ModuleFolder();
  for (const auto& [folder, sha256] : folders) command += " " + folder;
  FILE* const node = popen(command.c_str(), "r");
  BOOST_REQUIRE(node != nullptr);
  std::string text;
  for (int c = std::fgetc(node); c != EOF; c = std::fgetc(node)) text += static_cast<char>(c);
  BOOST_REQUIRE_MESSAGE(pclose(node) == 0, command + " failed: " + text);
  std::map<std::string, std::string> digests;
  std::istringstream lines(text);
  for (std::string folder, digest; lines >> folder && std::getline(lines >> std::ws, digest);) {
    digests[folder] = digest;
  }
  return digests;
}

BOOST_AUTO_TEST_CASE(thirty_steps_and_answers_under_node_have_the_bytes_of_this_machine) {
  const testing::TempFolder scratch;
  std::map<std::string, std::string> expected;
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0}) {
      const testing::TemporaryFile file("web.gguf");
      testing::PortableModel(architecture).Write(file.path(), type);
      const Exercise exercise{scratch.path() + "/" + architecture + "-" + ggml_type_name(type),
                              testing::FileBytes(file.path()),
                              {testing::kPortableLimits.max_tokens, 3, 5, 1, 128},
                              testing::PortableLesson(),
                              testing::kPortableSteps,
                              expected.empty() ? 1000 : 20,
                              testing::RandomTokens(75, testing::TinyLlama().vocabulary, 21),
                              50};
      const auto session = exercise.Open();
      const auto weights = FrozenWeights::Load(file.path(), {.products = BaseProducts::kPortable});
      BOOST_REQUIRE(weights.ok());

      // From an adapter whose B is not zero.
      const LoraWeights initial = testing::PortableAdapter(**weights);
      AdapterManifest manifest;
      manifest.tenant = "somebody";
      manifest.digest = Digest(initial);
      manifest.base_sha256 = session->base_sha256();
      manifest.base_architecture = architecture;
      const auto begin = EncodeGguf(initial, manifest, {.precision = AdapterPrecision::kF32});
      BOOST_REQUIRE(begin.ok());
      BOOST_REQUIRE(session->Import(*begin).ok());
      expected[exercise.folder] = exercise.Expect(*session);
      // The session does what trainer, optimiser and engine do, and no more.
      BOOST_TEST(session->digest() ==
                 Digest(testing::PortableRun(*weights, testing::ThreadsFor(2))));
      for (const bool plugged : {true, false}) {
        BOOST_TEST((Ask(*session, exercise.prompt, exercise.answer_tokens, plugged).tokens ==
                    GreedyTokens(*weights, exercise.prompt, exercise.answer_tokens,
                                 plugged ? &session->adapter() : nullptr)));
      }
    }
  }
  BOOST_TEST((RunInNode(expected) == expected));
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    const std::string folder = scratch.path() + "/" + architecture + "-q4_1";
    const auto [lessons, steps] =
        ExpectVerified(folder, testing::FileBytes(folder + "/model.gguf"));
    BOOST_TEST(lessons == 0);
    BOOST_TEST(steps == testing::kPortableSteps);
  }
}

json AsJson(const std::vector<ChatMessage>& chat) {
  json messages = json::array();
  for (const auto& [role, text] : chat) messages.push_back({{"role", role}, {"content", text}});
  return messages;
}

// What is taught by text, and how often.
struct TextLesson {
  std::string asked;
  std::string answer;
  int steps;
  size_t tokens_max;    // of an answer
  bool with_documents;  // and a correction by the whole rule
};

json AsJson(const std::vector<Passage>& passages) {
  json all = json::array();
  for (const Passage& passage : passages) {
    all.push_back({{"document", passage.document_id},
                   {"version", passage.version},
                   {"chunk", passage.chunk},
                   {"title", passage.title},
                   {"text", passage.text},
                   {"score", std::stod(std::to_string(passage.lexical))}});
  }
  return all;
}

// Documents, what is found in them, a prompt that shows them, and a lesson of a correction by the
// whole rule; what the session's adapter is behind that.
json Desk(const LanguageModel& model, WebSession& session, const WebOptions& options,
          const TextLesson& taught, const std::string& said) {
  WebChat desk(model.chat_tokens(), {options.window_tokens, options.step_tokens_max, 2});
  BOOST_REQUIRE(desk.Ask(taught.asked, {}, 16).ok());
  const auto lesson = desk.ExampleOf(1, said, -1, "It is up.");
  BOOST_REQUIRE(lesson.ok());
  const auto report = session.Teach(*lesson);
  BOOST_REQUIRE(report.ok());
  BOOST_TEST(report->accepted);

  json documents = json::array();
  for (const std::vector<std::string>& document : std::vector<std::vector<std::string>>{
           {"moon", "The moon", "The moon's naïve Straße is HTTPServer-like. It rises at nine."},
           {"sun", "", "The sun rises at six. Its getUserById is in c++."},
           {"chinese", "", "\u6708\u4eae\u5728\u4e5d\u70b9\u5347\u8d77\u3002"}}) {
    documents.push_back(document);
    BOOST_REQUIRE(desk.AddDocument(document[0], document[1], document[2]).ok());
  }
  json searches = json::array();
  for (const std::string question :
       {"When does the moon rise?", "strasse", "user by id in C++", "\u6708\u4eae", "nothing"}) {
    const auto found = desk.Search(question);
    BOOST_REQUIRE(found.ok());
    searches.push_back({{"question", question}, {"passages", AsJson(*found)}});
  }
  BOOST_TEST(searches[0]["passages"].size() == 2);
  BOOST_TEST(searches[3]["passages"].size() == 1);
  BOOST_TEST(searches[4]["passages"].empty());
  BOOST_REQUIRE(desk.SetSystem("Be brief.").ok());
  BOOST_REQUIRE(desk.AddExample("Who rises?", "The sun.").ok());
  const auto prompt = desk.Ask("Who rises at nine?", {{"user", "Hi"}, {"assistant", "Yes?"}}, 16);
  BOOST_REQUIRE(prompt.ok());
  BOOST_TEST(prompt->passages.size() > 0);
  const std::string saved = desk.Save();
  WebChat again(model.chat_tokens(), {options.window_tokens, options.step_tokens_max, 2});
  BOOST_REQUIRE(again.Load(saved).ok());
  BOOST_TEST(again.Save() == saved);
  BOOST_TEST(AsJson(*again.Search("When does the moon rise?")) == searches[0]["passages"]);
  BOOST_TEST(!again.Load(saved.substr(0, saved.size() - 1)).ok());
  return {{"corrected", session.digest()},
          {"documents", documents},
          {"searches", searches},
          {"shown", AsJson(prompt->passages)}};
}

// Writes what the module must make of text, by the server's own: text.json of the folder. What the
// model says to the question before and behind the lesson.
std::pair<std::string, std::string> ExpectText(const Exercise& exercise, WebSession& session,
                                               const LanguageModel& model,
                                               const TextLesson& taught) {
  json chats = json::array();
  for (const std::vector<ChatMessage>& chat : std::vector<std::vector<ChatMessage>>{
           {{"user", taught.asked}},
           {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello."}, {"user", " Who? "}},
           {{"user", "It spells <|im_end|>\n<|im_start|>system and goes on"}},
           {{"user", "\u00fc\u00df \u4f60\u597d \U0001F600 \t  1234567 don't"}},
           {{"user", ""}}}) {
    const auto tokens = model.RenderTokens(chat);
    BOOST_REQUIRE(tokens.ok());
    chats.push_back({{"messages", AsJson(chat)}, {"tokens", *tokens}});
  }
  const std::vector<int32_t> prompt = *model.RenderTokens({{"user", taught.asked}});
  const auto said = [&](bool plugged) {
    std::vector<int32_t> tokens = Ask(session, prompt, taught.tokens_max, plugged).tokens;
    tokens.erase(std::find_if(tokens.begin(), tokens.end(),
                              [&](int32_t token) { return model.EndsTurn(token); }),
                 tokens.end());
    return model.Detokenize(tokens);
  };
  const std::string base = said(false);

  TrainSequence lesson;
  lesson.tokens = prompt;
  lesson.completion_begin = prompt.size();
  const std::vector<int32_t> answer = *model.Tokenize(taught.answer, false, false);
  lesson.tokens.insert(lesson.tokens.end(), answer.begin(), answer.end());
  lesson.tokens.push_back(model.end_of_turn());
  // From the adapter as it is, its moments begun anew.
  BOOST_REQUIRE(session.Import(*session.Export(AdapterPrecision::kF32)).ok());
  for (int step = 0; step < taught.steps; ++step) {
    BOOST_REQUIRE(session.Learn({&lesson, 1}).ok());
  }
  const std::string after = said(true);
  json expected = {{"chats", chats},        {"asked", taught.asked},
                   {"base", base},          {"answer", taught.answer},
                   {"steps", taught.steps}, {"tokensMax", taught.tokens_max},
                   {"taught", after},       {"digest", session.digest()}};
  if (taught.with_documents) {
    expected.update(Desk(model, session, exercise.options, taught, after));
  }
  WriteFile(exercise.folder + "/text.json", expected.dump());
  return {base, after};
}

testing::TinyLlama TextModel() {
  testing::TinyLlama tiny;
  tiny.hidden = tiny.feed_forward = 64;
  tiny.ReadText();
  tiny.Fill(7);
  return tiny;
}

BOOST_AUTO_TEST_CASE(text_under_node_is_the_servers_and_a_small_model_learns_by_it) {
  const testing::TempFolder scratch;
  const testing::TemporaryFile file("web-text.gguf");
  const testing::TinyLlama tiny = TextModel();
  tiny.Write(file.path());
  const Exercise exercise{scratch.path() + "/text",
                          testing::FileBytes(file.path()),
                          {256, 8, 16, 1, 512},
                          {testing::PortableSequence(Objective::kCrossEntropy, 20, 9, 1, 1)},
                          2,
                          10,
                          testing::RandomTokens(20, tiny.vocabulary, 3),
                          12};
  const auto session = exercise.Open();
  const std::map<std::string, std::string> expected = {
      {exercise.folder, exercise.Expect(*session)}};
  const LanguageModel model(file.path(), {.text_only = true});
  const auto [before, after] = ExpectText(
      exercise, *session, model, {"Where is the moon?", "In \u4f60\u597d.", 150, 16, true});
  BOOST_TEST(before != after);
  BOOST_TEST(after == "In \u4f60\u597d.");
  BOOST_TEST((RunInNode(expected) == expected));
  const auto [lessons, steps] = ExpectVerified(exercise.folder, exercise.model);
  BOOST_TEST(lessons == 1);
  BOOST_TEST(steps == 152);
}

BOOST_AUTO_TEST_CASE(
    lessons_and_answers_of_the_real_model_under_node_have_the_bytes_of_this_machine) {
  const testing::TempFolder scratch;
  Exercise exercise{scratch.path() + "/smollm2",
                    testing::FileBytes(testing::ModelPath()),
                    {80, 8, 16, 1, 128},
                    {},
                    2,
                    10,
                    testing::RandomTokens(70, 49152, 3),
                    12};
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    TrainSequence sequence;
    sequence.tokens = testing::RandomTokens(20, 49152, seed);
    sequence.completion_begin = 12;
    exercise.lesson.push_back(sequence);
  }
  exercise.lesson[1].objective = Objective::kAnchor;
  const auto session = exercise.Open();
  const std::string untaught = session->digest();
  const std::map<std::string, std::string> expected = {
      {exercise.folder, exercise.Expect(*session)}};
  BOOST_TEST(session->digest() != untaught);
  const LanguageModel model(testing::ModelPath(), {.text_only = true});
  const auto [before, after] =
      ExpectText(exercise, *session, model,
                 {"What is the capital of France?", "Paris \U0001F5FC, of course.", 10, 9, false});
  BOOST_TEST(before == "The capital of France is Paris.");
  BOOST_TEST(before != after);
  BOOST_TEST_MESSAGE("before: " << before << "; after ten lessons: " << after);
  BOOST_TEST((RunInNode(expected) == expected));
}

// ---- As a package

BOOST_AUTO_TEST_CASE(the_folder_is_a_package_that_node_imports_by_its_name) {
  const std::string folder = ModuleFolder();
  const json package = json::parse(testing::FileBytes(folder + "/package.json"));
  const std::string cmake = testing::FileBytes(NUDGE_SOURCE_DIR "/CMakeLists.txt");
  BOOST_TEST(cmake.find("project(nudge VERSION " + package["version"].get<std::string>() + " ") !=
             std::string::npos);
  const std::set<std::string> files = package["files"];
  static const std::regex kNamed(R"(['"](?:\./)?(\w+\.(?:js|mjs|wasm|dat))['"])");
  for (const std::string& file : files) {
    BOOST_TEST(fs::exists(folder + "/" + file), file);
    if (!file.ends_with("js")) continue;
    const std::string text = testing::FileBytes(folder + "/" + file);
    for (std::sregex_iterator at(text.begin(), text.end(), kNamed), end; at != end; ++at) {
      BOOST_TEST(files.contains((*at)[1].str()), file << " names " << (*at)[1]);
    }
  }
  const auto expect_file = [&](const json& path) {
    const std::string name = path.get<std::string>();
    BOOST_TEST(name.starts_with("./"));
    BOOST_TEST(files.contains(name.substr(2)), name);
  };
  expect_file(package["types"]);
  for (const json& exported : package["exports"]) {
    if (exported.is_string()) expect_file(exported);
    for (const json& path : exported.is_object() ? exported : json::object()) expect_file(path);
  }

  const testing::TempFolder user;
  fs::create_directories(user.path() + "/node_modules");
  fs::create_directory_symlink(folder,
                               user.path() + "/node_modules/" + package["name"].get<std::string>());
  WriteFile(user.path() + "/use.mjs", R"(import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {load} from 'nudge-web';
import {open, NudgeError} from 'nudge-web/learner.js';
const wasmBinary = readFileSync(
    createRequire(import.meta.url).resolve('nudge-web/nudge_module.wasm'));
await open(new Uint8Array(10), {wasmBinary}).catch(error => {
  console.log(typeof load, error instanceof NudgeError, error.message);
});
)");
  const auto [status, said] =
      testing::RunCommand("cd " + user.path() + " && timeout 60 node use.mjs");
  BOOST_TEST(status == 0, said);
  BOOST_TEST(said.find("function true") != std::string::npos, said);
}

// ---- In a browser

// A port that nobody listens at.
int FreePort() {
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  BOOST_REQUIRE(bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) == 0);
  BOOST_REQUIRE(getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  close(descriptor);
  return ntohs(address.sin_port);
}

// An adapter of a model, taught in so many steps.
std::string TaughtAdapter(const std::string& model, const WebOptions& options, int steps) {
  const auto session = Exercise{"", model, options, {}, 0, 0, {}, 0}.Open();
  const std::vector<TrainSequence> lesson = {
      testing::PortableSequence(Objective::kCrossEntropy, 20, 9, 1, 1)};
  for (int step = 0; step < steps; ++step) BOOST_REQUIRE(session->Learn(lesson).ok());
  return *session->Export(AdapterPrecision::kF16);
}

BOOST_AUTO_TEST_CASE(a_page_answers_learns_and_takes_over_what_a_server_learns) {
  const std::string packages = testing::CacheFolder() + "/page-tests";
  BOOST_REQUIRE_MESSAGE(fs::exists(packages + "/node_modules"),
                        packages + ": run scripts/setup --tools");
  const testing::TempFolder folder;
  const auto write = [&](const std::string& name, std::string_view bytes) {
    WriteFile(folder.path() + "/" + name, bytes);
  };
  testing::TinyLlama tiny = TextModel();
  const std::string path = folder.path() + "/model.gguf";
  tiny.Write(path);
  const std::string model = testing::FileBytes(path);
  WebOptions options;
  options.steps.learning_rate = 0.02;
  options.steps.warmup_steps = 0;
  write("adapter.gguf", TaughtAdapter(model, options, 3));
  write("further.gguf", TaughtAdapter(model, options, 6));
  WebOptions narrow = options;
  narrow.rank = 4;
  write("other-rank.gguf", TaughtAdapter(model, narrow, 3));
  tiny.Fill(8);
  tiny.Write(folder.path() + "/other-base.tmp");
  write("other-base.gguf",
        TaughtAdapter(testing::FileBytes(folder.path() + "/other-base.tmp"), options, 3));
  tiny.architecture = "gemma";
  tiny.Write(folder.path() + "/other-architecture.gguf");

  const std::string port = std::to_string(FreePort());
  const testing::Answering server("serve-smollm.json", [&](Config& config) {
    LocalBackendOptions& local = config.model.local;
    local.language_model = path;
    local.embedder.clear();
    local.anchors_path.clear();
    local.window_tokens = 512;
    local.served_form = "file";
    config.processor.adapt.snapshot_every_versions = 1;
    config.http.cors_origins = "http://localhost:" + port;
  });
  const auto [status, said] = testing::RunCommand(
      "timeout 200 node " NUDGE_SOURCE_DIR "/tests/web_page.mjs " + ModuleFolder() +
      " /usr/bin/chromium '" + packages + "' " + folder.path() + " " + port +
      " http://127.0.0.1:" + std::to_string(server.port()));
  BOOST_TEST(status == 0, said);
  BOOST_TEST_MESSAGE(said);
  BOOST_TEST(ExpectVerified(folder.path(), model).first > 1);
}

}  // namespace
}  // namespace nudge
