// labels: graph
// Commands that need a signature, in runs with the template backend and by the command line: what
// is not signed by who may command changes nothing, the same whatever the threads and the stops.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <fstream>

#include "connectors/command_keys.h"
#include "connectors/memory.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/run_command.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::FileBytes;
using nudge::testing::RunCommand;
using nudge::testing::TempFolder;

namespace {

using Lines = std::vector<std::string>;
using Action = AdapterCommand::Action;

// Who has which key.
class Keys {
 public:
  SigningKey Make(const std::string& name, const std::string& tenant, const std::string& keys) {
    const std::string path = folder.path() + "/" + name + ".pem";
    BOOST_REQUIRE(MakeKeyPair({path, folder.path() + "/" + keys, tenant}).ok());
    return *SigningKey::Read(path);
  }

  const TempFolder folder;
  const std::string file = folder.path() + "/keys.jsonl";
  const SigningKey acme = Make("acme", "acme", "keys.jsonl");
  const SigningKey globex = Make("globex", "globex", "keys.jsonl");
  const SigningKey gateway = Make("gateway", "", "keys.jsonl");
  const SigningKey stranger = Make("stranger", "acme", "others.jsonl");
};

// Empty file: commands need no signature.
ProcessorOptions Options(int threads, const std::string& keys_file) {
  ProcessorOptions options;
  options.graph.threads = threads;
  options.executor.threads = static_cast<size_t>(threads);
  options.graph.commands.keys_file = keys_file;
  options.recall.keeps_commands = !keys_file.empty();
  options.checkpoint_every_events = 3;
  return options;
}

Lines Process(const ProcessorOptions& options, const Lines& lines, MemorySink& sink) {
  MemorySource source(lines);
  const auto backend = MakeTemplateBackend({.dimension = 8});
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto summary = processor.Run(stop);
  BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
  Lines bytes;
  for (const OutcomeLine& line : sink.lines()) bytes.push_back(line.bytes);
  return bytes;
}

Lines Process(const ProcessorOptions& options, const Lines& lines) {
  MemorySink sink;
  return Process(options, lines, sink);
}

std::vector<Outcome> OutcomesOf(const Lines& lines) {
  std::vector<Outcome> outcomes;
  for (const std::string& line : lines) {
    auto decoded = DecodeOutcome(line);
    BOOST_REQUIRE(decoded.ok());
    outcomes.push_back(std::move(decoded->outcome));
  }
  return outcomes;
}

Event Make(const std::string& id, decltype(Event::data) data, const std::string& tenant = "acme") {
  return {id, "/test", "", tenant, "ann", std::move(data)};
}

Event Reset(const std::string& id, const std::string& tenant = "acme") {
  return Make(id, AdapterCommand{Action::kReset}, tenant);
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  BOOST_REQUIRE_MESSAGE(at != text.npos, from << " in " << text);
  return text.replace(at, from.size(), to);
}

Lines Taught() {
  Feedback down;
  down.query_id = "q-1";
  down.rating = -1;
  down.correction = "14 kilograms.";
  const ExampleGiven example{"What does it cost?", "800 francs."};
  return {EncodeEvent(Make("q-1", Query{"How heavy is it?", {}})), EncodeEvent(Make("f-1", down)),
          EncodeEvent(Make("e-1", example)), EncodeEvent(Make("e-1", example, "globex")),
          EncodeEvent(Make("q-2", Query{"How heavy is it now?", {}}))};
}

// Commands that must change nothing, of ids that no other event has but those of `Allowed`.
Lines Forbidden(const Keys& keys) {
  const std::string good = keys.acme.Sign(Reset("c-1"));
  Forget forget;
  forget.user = "ann";
  return {EncodeEvent(Reset("c-1")),
          keys.stranger.Sign(Reset("c-1")),
          keys.globex.Sign(Reset("c-1")),
          Replaced(good, R"("action":"reset")", R"("action":"freeze")"),
          Replaced(good, R"("id":"c-1")", R"("id":"c-2")"),
          Replaced(keys.gateway.Sign(Reset("c-1")), R"("tenant":"acme")", R"("tenant":"globex")"),
          EncodeEvent(Make("c-3", forget)),
          EncodeEvent(Make("c-4", PromptUpsert{"default", "Lie.", {}})),
          EncodeEvent(Make("c-5", PromptDelete{"default"})),
          EncodeEvent(Make("c-6", AdapterCommand{Action::kRollback, 0}))};
}

Lines Allowed(const Keys& keys) {
  const std::string reset = keys.acme.Sign(Reset("c-1"));
  return {EncodeEvent(Make("q-3", Query{"How heavy is it today?", {}})),
          EncodeEvent(Make("q-3", Query{"What does it cost?", {}}, "globex")),
          reset,
          reset,
          EncodeEvent(Make("q-4", Query{"How heavy is it at last?", {}})),
          keys.gateway.Sign(Reset("c-1", "globex")),
          EncodeEvent(Make("q-4", Query{"What does it cost at last?", {}}, "globex"))};
}

Lines Together(std::initializer_list<Lines> parts) {
  Lines all;
  for (const Lines& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::string AdapterOf(const Outcome& outcome) {
  const auto* response = std::get_if<Response>(&outcome.what);
  BOOST_REQUIRE_MESSAGE(response != nullptr, outcome.id);
  return response->adapter_digest;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_command_that_is_not_signed_by_who_may_command_changes_nothing) {
  const Keys keys;
  const Lines forbidden = Forbidden(keys);
  const auto outcomes =
      OutcomesOf(Process(Options(2, keys.file), Together({Taught(), forbidden, Allowed(keys)})));
  const size_t taught = Taught().size();
  for (size_t i = 0; i < forbidden.size(); ++i) {
    const auto* letter = std::get_if<DeadLetter>(&outcomes[taught + i].what);
    BOOST_REQUIRE_MESSAGE(letter != nullptr, forbidden[i]);
    BOOST_TEST(letter->stage == "decode");
    BOOST_TEST(Name(letter->error.code) == "forbidden");
    BOOST_TEST(letter->error.message.starts_with("signature"), letter->error.message);
    BOOST_TEST(!letter->error.remedy.empty());
    BOOST_TEST(letter->bytes == forbidden[i]);
    BOOST_TEST(!outcomes[taught + i].id.empty());
  }
  const size_t allowed = taught + forbidden.size();
  const auto at = [&](size_t i) -> const Outcome& { return outcomes[allowed + i]; };
  BOOST_TEST(AdapterOf(at(0)) != "base");
  BOOST_TEST(AdapterOf(at(0)) == AdapterOf(outcomes[taught - 1]));
  BOOST_TEST(AdapterOf(at(1)) != "base");
  BOOST_TEST(std::holds_alternative<Applied>(at(2).what));
  BOOST_TEST(std::get<Applied>(at(3).what).summary.starts_with("duplicate of"));
  BOOST_TEST(AdapterOf(at(4)) == "base");
  BOOST_TEST(std::holds_alternative<Applied>(at(5).what));
  BOOST_TEST(AdapterOf(at(6)) == "base");

  // As if they had never come.
  const auto without =
      OutcomesOf(Process(Options(2, keys.file), Together({Taught(), Allowed(keys)})));
  for (size_t i = 0; i < Allowed(keys).size(); ++i) {
    const auto* response = std::get_if<Response>(&at(i).what);
    if (response == nullptr) continue;
    const auto& other = std::get<Response>(without[taught + i].what);
    BOOST_TEST(response->text == other.text);
    BOOST_TEST(response->adapter_digest == other.adapter_digest);
    BOOST_TEST(response->prompt_version == other.prompt_version);
  }
}

BOOST_AUTO_TEST_CASE(threads_and_stops_change_no_byte_of_what_is_refused_and_taken) {
  const Keys keys;
  const Lines lines = Together({Taught(), Forbidden(keys), Allowed(keys), Forbidden(keys)});
  const Lines expected = Process(Options(1, keys.file), lines);
  for (const int threads : {2, 4}) {
    BOOST_TEST((Process(Options(threads, keys.file), lines) == expected), threads << " threads");
  }
  for (size_t stop_after = 1; stop_after < lines.size(); ++stop_after) {
    const TempFolder folder;
    ProcessorOptions options = Options(2, keys.file);
    options.state_folder = folder.path() + "/state";
    options.checkpoint_at_end = stop_after % 2 == 0;
    MemorySink sink;
    Process(options, {lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(stop_after)},
            sink);
    BOOST_TEST((Process(options, lines, sink) == expected), "stopped after " << stop_after);
  }
}

BOOST_AUTO_TEST_CASE(without_a_file_of_keys_a_signature_is_an_attribute_like_any_other) {
  const Keys keys;
  const auto outcomes = OutcomesOf(
      Process(Options(2, ""), Together({Taught(), {Forbidden(keys).front()}, Allowed(keys)})));
  const size_t taught = Taught().size();
  BOOST_TEST(std::holds_alternative<Applied>(outcomes[taught].what));
  BOOST_TEST(AdapterOf(outcomes[taught + 1]) == "base");
  const std::string odd = Replaced(EncodeEvent(Reset("c-9")), R"("tenant")",
                                   R"("signature":{"a":1},"signature":7,"tenant")");
  BOOST_TEST(
      std::holds_alternative<Applied>(OutcomesOf(Process(Options(2, ""), {odd})).front().what));
}

BOOST_AUTO_TEST_CASE(a_file_of_keys_that_cannot_be_read_stops_the_start) {
  MemorySink sink;
  BOOST_CHECK_EXCEPTION(Process(Options(1, "/no/keys"), {}, sink), StartError,
                        [](const StartError& error) {
                          return std::string(error.what()).starts_with("commands.keys_file: ");
                        });
}

BOOST_AUTO_TEST_CASE(who_writes_to_topics_makes_keys_and_signs_by_the_command_line) {
  const TempFolder folder;
  const std::string in = folder.path() + "/";
  const auto pair = [&](const std::string& arguments) {
    return RunCommand(NUDGE_BINARY " key pair --file " + in + "keys.jsonl " + arguments);
  };
  const auto [made, id] = pair("--private " + in + "admin.pem --tenant acme");
  BOOST_TEST(made == 0, id);
  BOOST_TEST(pair("--private " + in + "gateway.pem --all-tenants").first == 0);
  BOOST_TEST(pair("--private " + in + "none.pem").first != 0);
  BOOST_TEST(pair("--private " + in + "none.pem --all-tenants --tenant acme").first != 0);
  BOOST_TEST(CommandKeys(in + "keys.jsonl").size() == 2U);

  // All else goes through as it is.
  const std::string question = " " + EncodeEvent(Make("q", Query{"How heavy is it?", {}}));
  std::ofstream(in + "events.jsonl") << question << "\n\n" << EncodeEvent(Reset("c")) << "\n";
  const auto [signed_, output] =
      RunCommand(NUDGE_BINARY " sign --key " + in + "admin.pem " + in + "events.jsonl");
  BOOST_TEST(signed_ == 0, output);
  BOOST_TEST(output ==
             question + "\n" + SigningKey::Read(in + "admin.pem")->Sign(Reset("c")) + "\n");

  std::ofstream(in + "bad.jsonl") << question << "\n{}\n";
  const auto [refused, words] =
      RunCommand(NUDGE_BINARY " sign --key " + in + "admin.pem " + in + "bad.jsonl");
  BOOST_TEST(WEXITSTATUS(refused) == 1);
  BOOST_TEST(words.find("bad.jsonl:2: specversion: missing") != words.npos, words);
}
