// The command line of nudge.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <memory>
#include <system_error>

#include "pipeline/bench/bench.h"
#include "pipeline/commands/commands.h"
#include "stages/model/serve/random_model.h"

namespace {

// The first signal asks for a clean stop, the second ends the process: what is committed stands.
void OnSignal(int signal) {
  if (nudge::stop_requested.exchange(true)) std::_Exit(128 + signal);
}

void AddCreateTopics(CLI::App& command, nudge::CreateTopicsArguments& topics) {
  command.add_flag("--create-topics", topics.wanted, "make the topics that are missing");
  command.add_option("--partitions", topics.partitions, "of topics that are made")
      ->check(CLI::Range(1, 10'000));
  command.add_option("--replication", topics.replication, "of topics that are made")
      ->check(CLI::Range(1, 100));
}

// Each command adds itself to the command line; its arguments live as long as its callback.

void AddReplay(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::ReplayArguments>();
  auto* command = app.add_subcommand("replay", "run a recorded file of events through the loop");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("--input", arguments->input,
                      "events instead of those configured; - is stdin");
  command->add_option("--output", arguments->output, "output folder instead of the configured one");
  command->add_flag("--fresh", arguments->fresh, "remove earlier output and state first");
  command->add_flag("--quiet", arguments->quiet, "print the outcomes' sha256 only");
  command->add_option("--threads", arguments->threads, "of graph and models")
      ->check(CLI::Range(1, 256));
  command->callback([arguments, &exit_code] { exit_code = nudge::Replay(*arguments); });
}

void AddRun(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::RunArguments>();
  auto* command = app.add_subcommand("run", "serve live topics, until it is stopped");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  AddCreateTopics(*command, arguments->create_topics);
  command->callback([arguments, &exit_code] { exit_code = nudge::RunLive(*arguments); });
}

void AddServe(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::ServeArguments>();
  auto* command = app.add_subcommand("serve", "answer over HTTP, until it is stopped");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("--begin-with", arguments->begin_with,
                      "file of events, one a line, that an empty log begins with");
  command->callback([arguments, &exit_code] { exit_code = nudge::Serve(*arguments); });
}

void AddGateway(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::GatewayArguments>();
  auto* command =
      app.add_subcommand("gateway", "answer over HTTP before live topics, until it is stopped");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  AddCreateTopics(*command, arguments->create_topics);
  command->callback([arguments, &exit_code] { exit_code = nudge::RunGateway(*arguments); });
}

void AddFollow(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::FollowArguments>();
  auto* command =
      app.add_subcommand("follow", "offer what is learnt to a vLLM server, until it is stopped");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->callback([arguments, &exit_code] { exit_code = nudge::Follow(*arguments); });
}

void AddLog(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::LogArguments>();
  auto* command = app.add_subcommand("log", "the events that were taken, one a line, for replay");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("--out", arguments->out, "file; - is stdout");
  command->callback([arguments, &exit_code] { exit_code = nudge::DumpLog(*arguments); });
}

void AddPublish(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::PublishArguments>();
  auto* command = app.add_subcommand("publish", "send recorded events to the live input topic");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("events", arguments->input, "events, one a line; - is stdin")->required();
  command->add_option("--rate", arguments->events_per_second, "events a second; 0: no limit")
      ->check(CLI::Range(0.0, 1e9));
  AddCreateTopics(*command, arguments->create_topics);
  command->callback([arguments, &exit_code] { exit_code = nudge::Publish(*arguments); });
}

void AddCheck(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::CheckArguments>();
  auto* command = app.add_subcommand("check", "check a configuration or a file of events");
  command->add_option("path", arguments->path, "configuration, or events with --events");
  command->add_flag("--events", arguments->events, "the path is a file of events");
  command->add_flag("--schema", arguments->schema, "print the configuration's JSON Schema");
  command->add_flag("--tables", arguments->tables, "print all configuration keys as tables");
  command->callback([arguments, &exit_code] {
    if (arguments->path.empty() && !arguments->schema && !arguments->tables) {
      throw CLI::RequiredError("path");
    }
    exit_code = nudge::Check(*arguments);
  });
}

void AddChat(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::ChatArguments>();
  auto* command = app.add_subcommand("chat", "talk to it: ask, then answer +, - or = correction");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("--tenant", arguments->tenant, "whose adapter and documents");
  command->add_option("--log", arguments->log, "event log to continue and to write");
  command->add_option("--begin-with", arguments->begin_with,
                      "file of events, one a line, that an empty log begins with");
  command->callback([arguments, &exit_code] { exit_code = nudge::Chat(*arguments); });
}

void AddKeyPairs(CLI::App& keys, int& exit_code) {
  const auto arguments = std::make_shared<nudge::KeyPairArguments>();
  auto* command =
      keys.add_subcommand("pair", "make a key pair for who signs commands, print its id");
  command->add_option("--private", arguments->private_file, "new file, for the private key")
      ->required();
  command->add_option("--file", arguments->file, "as configured in commands.keys_file")->required();
  auto* whose = command->add_option_group("whose", "what it may command");
  whose->add_option("--tenant", arguments->tenant, "this one");
  whose->add_flag_callback(
      "--all-tenants", [arguments] { arguments->tenant.clear(); }, "all, as a gateway does");
  whose->require_option(1);
  command->callback([arguments, &exit_code] { exit_code = nudge::AddKeyPair(*arguments); });
}

void AddSign(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::SignArguments>();
  auto* command = app.add_subcommand("sign", "sign the commands among events, for live topics");
  command->add_option("events", arguments->input, "events, one a line; - is stdin")->required();
  command->add_option("--key", arguments->key_file, "private key, as nudge key pair makes it")
      ->required();
  command->callback([arguments, &exit_code] { exit_code = nudge::SignEvents(*arguments); });
}

void AddKeys(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::AddKeyArguments>();
  auto* keys = app.add_subcommand("key", "API keys of the HTTP server, key pairs for commands");
  keys->require_subcommand(1);
  AddKeyPairs(*keys, exit_code);
  auto* command = keys->add_subcommand("add", "make a key, print it once, keep its hash");
  command->add_option("--file", arguments->file, "as configured in http.keys_file")->required();
  command->add_option("--tenant", arguments->tenant, "whose events it may send")->required();
  command->add_option("--user", arguments->user,
                      "whose key it is; without one the key is the user");
  command->add_flag("--names-users", arguments->names_users, "a back end that speaks for users");
  command->add_option("--groups", arguments->groups, "of its user, with commas: see access lists")
      ->delimiter(',');
  command->add_option("--roles", arguments->roles, "ask, feedback, ingest, read, admin")
      ->required()
      ->delimiter(',')
      ->check(CLI::IsMember({"ask", "feedback", "ingest", "read", "admin"}));
  command->add_option("--requests-per-minute", arguments->requests_per_minute, "0: no limit")
      ->check(CLI::Range(0, 1'000'000));
  command->callback([arguments, &exit_code] { exit_code = nudge::AddApiKey(*arguments); });
}

void AddForm(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::FormArguments>();
  auto* command = app.add_subcommand(
      "form", "make the form of a model's weights that answers fastest here, beside its file");
  command->add_option("model", arguments->model_path, "GGUF file")->required();
  command->add_option("--as", arguments->as, "auto chooses; file takes the form away")
      ->check(CLI::IsMember({"auto", "bf16", "q8_0", "file"}));
  command->callback([arguments, &exit_code] { exit_code = nudge::MakeForm(*arguments); });
}

void AddMerge(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::MergeArguments>();
  auto* command = app.add_subcommand("merge", "adapters of one base model as one adapter");
  command->add_option("out", arguments->out, "new file, adapter.gguf")->required();
  command
      ->add_option("adapters", arguments->inputs,
                   "files or snapshot folders; PATH:WEIGHT weights it, else lessons do")
      ->required();
  command->add_option("--rank", arguments->rank, "cut to it; else as high as it takes")
      ->check(CLI::Range(1, 4096));
  command->add_option("--alpha", arguments->alpha, "of the result; else its scale is the inputs'")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", arguments->threads, "else all cores")->check(CLI::Range(1, 256));
  command->callback([arguments, &exit_code] { exit_code = nudge::MergeFiles(*arguments); });
}

void AddVerify(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::VerifyArguments>();
  auto* command =
      app.add_subcommand("verify", "learn a browser page's lessons again: the same adapter?");
  command->add_option("lessons", arguments->lessons, "log that the page exported")->required();
  command->add_option("--model", arguments->model, "GGUF file that the page had loaded")
      ->required();
  command->add_option("--adapter", arguments->adapters,
                      "that the page took over, a file or snapshot folder; once for each");
  command->add_option("--out", arguments->out, "new file for the adapter, in f32");
  command->add_option("--threads", arguments->threads, "else all cores")->check(CLI::Range(1, 256));
  command->callback([arguments, &exit_code] { exit_code = nudge::VerifyLessons(*arguments); });
}

void AddSimulate(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::SimulateArguments>();
  auto* command =
      app.add_subcommand("simulate", "closed loops of simulated people: does what it learns hold?");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("--world", arguments->world_path, "documents, questions and people")
      ->required();
  command->add_option("--seeds", arguments->seeds, "how many")->check(CLI::Range(1, 1000));
  command->add_option("--first-seed", arguments->first_seed, "else 1")
      ->check(CLI::Range(1, 100000));
  command->add_option("--lessons", arguments->lessons, "instead of those of the world")
      ->check(CLI::Range(1, 100'000));
  command->add_flag("--controls", arguments->controls,
                    "also frozen, with shuffled labels, and without intruders");
  command->add_option("--out", arguments->out, "folder of logs, report.html and simulation.json");
  command->callback([arguments, &exit_code] { exit_code = nudge::Simulate(*arguments); });
}

void AddExplain(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::ExplainArguments>();
  auto* command = app.add_subcommand("explain", "why an event ended as it did");
  command->add_option("output", arguments->output, "output folder of a run")->required();
  command->add_option("id", arguments->id, "id of the event")->required();
  command->callback([arguments, &exit_code] { exit_code = nudge::Explain(*arguments); });
}

void AddLessons(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::LessonsArguments>();
  auto* command = app.add_subcommand("lessons", "what tenants' models were taught, and what holds");
  command->add_option("path", arguments->path, "output folder with its state, or a state")
      ->required();
  command->add_option("--tenant", arguments->tenant, "that one alone");
  command->add_flag("--json", arguments->json, "one object a lesson and line");
  command->callback([arguments, &exit_code] { exit_code = nudge::Lessons(*arguments); });
}

void AddExport(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<nudge::ExportArguments>();
  auto* command = app.add_subcommand("export", "what a tenant's model has learnt, for training");
  command->add_option("path", arguments->path, "output folder with its state, or a state")
      ->required();
  command->add_option("--tenant", arguments->tenant, "whose lessons")->required();
  command->add_option("--format", arguments->format, "chat or preference")
      ->required()
      ->check(CLI::IsMember({"chat", "preference"}));
  command->add_option("--out", arguments->file, "JSONL file; - is stdout")->required();
  command->add_flag("--with-restricted", arguments->with_restricted,
                    "also what rests on documents that are not for everybody");
  command->callback([arguments, &exit_code] { exit_code = nudge::Export(*arguments); });
}

void AddInspect(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<std::string>();
  auto* command =
      app.add_subcommand("inspect", "what a model, snapshot, event file, output or state holds");
  command->add_option("path", *arguments, "file or folder")->required();
  command->callback([arguments, &exit_code] { exit_code = nudge::Inspect(*arguments); });
}

void AddBenchEngine(CLI::App& bench, int& exit_code) {
  const auto arguments = std::make_shared<nudge::BenchEngineArguments>();
  auto* command = bench.add_subcommand("engine", "the graph, file to file, without a model");
  command->add_option("--events", arguments->events, "how many")->check(CLI::Range(1, 100'000'000));
  command->add_option("--tenants", arguments->tenants, "whose events")
      ->check(CLI::Range(1, 10'000));
  command->add_option("--documents", arguments->documents, "ids per tenant")
      ->check(CLI::Range(1, 100'000));
  command->add_option("--dimension", arguments->dimension, "of the embedder's stand-in; 0: none")
      ->check(CLI::Range(0, 4096));
  command->add_option("--threads", arguments->threads, "of graph and executor, one run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  command->callback([arguments, &exit_code] { exit_code = nudge::BenchEngine(*arguments); });
}

void AddBenchHttp(CLI::App& bench, int& exit_code) {
  const auto arguments = std::make_shared<nudge::BenchHttpArguments>();
  auto* command = bench.add_subcommand("http", "the door, beside a bare loop of its library");
  command->add_option("--folder", arguments->folder, "on the disk to measure; it stays there");
  command->add_option("--requests", arguments->requests, "of each run")
      ->check(CLI::Range(1, 10'000'000));
  command->add_option("--connections", arguments->connections, "at a time, one run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 10'000));
  command->add_option("--streams", arguments->streams, "that idle; 0: not measured")
      ->check(CLI::Range(0, 100'000));
  command->callback([arguments, &exit_code] { exit_code = nudge::BenchHttp(*arguments); });
}

void AddBenchKafka(CLI::App& bench, int& exit_code) {
  const auto arguments = std::make_shared<nudge::BenchKafkaArguments>();
  auto* command = bench.add_subcommand(
      "kafka", "live topics without a model, exactly once beside at least once");
  command->add_option("config", arguments->config_path, "configuration file")->required();
  command->add_option("--events", arguments->events, "how many")->check(CLI::Range(1, 100'000'000));
  command->add_option("--tenants", arguments->tenants, "whose events")
      ->check(CLI::Range(1, 10'000));
  command->add_option("--dimension", arguments->dimension, "of the embedder's stand-in; 0: none")
      ->check(CLI::Range(0, 4096));
  command->add_option("--partitions", arguments->partitions, "of each topic")
      ->check(CLI::Range(1, 1000));
  command->add_option("--threads", arguments->threads, "of graph and executor")
      ->check(CLI::Range(1, 256));
  command
      ->add_option("--minutes", arguments->minutes,
                   "a steady load for so long instead: is memory flat?")
      ->check(CLI::Range(0.0, 1e6));
  command->add_option("--rate", arguments->rate, "events a second of the steady load")
      ->check(CLI::Range(1.0, 1e6));
  command->callback([arguments, &exit_code] { exit_code = nudge::BenchKafka(*arguments); });
}

void AddBenchLog(CLI::App& bench, int& exit_code) {
  const auto arguments = std::make_shared<nudge::BenchLogArguments>();
  auto* command = bench.add_subcommand("log", "events made durable, beside the disk's own syncs");
  command->add_option("--folder", arguments->folder, "on the disk to measure; it stays there");
  command->add_option("--events", arguments->events, "how many")->check(CLI::Range(1, 100'000'000));
  command->add_option("--bytes", arguments->bytes, "of an event")->check(CLI::Range(1, 1 << 20));
  command->add_option("--in-flight", arguments->in_flight, "clients at a time, one run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 100'000));
  command->callback([arguments, &exit_code] { exit_code = nudge::BenchLog(*arguments); });
}

void AddModel(CLI::App& command, std::string& config_path, nudge::RandomModelArguments& random) {
  command.add_option("config", config_path, "configuration file; none: defaults, with --shape");
  command
      .add_option("--shape", random.shape,
                  "measure a model of random weights in this shape instead, written to the "
                  "temporary folder (up to 3.4 GB)")
      ->check(CLI::IsMember(nudge::RandomModelShapes()));
  command.add_option("--layers", random.layers, "of --shape, the first ones; 0: all")
      ->check(CLI::Range(0, 1000));
}

void AddBenchTrain(CLI::App& bench, int& exit_code) {
  const auto arguments = std::make_shared<nudge::BenchTrainArguments>();
  auto* command = bench.add_subcommand("train", "a gradient step of the language model");
  AddModel(*command, arguments->config_path, arguments->random);
  command->add_option("--tokens", arguments->tokens, "of a sequence, one row each")
      ->delimiter(',')
      ->check(CLI::Range(2, 1 << 17));
  command->add_option("--threads", arguments->threads, "one row each")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  command
      ->add_option("--lessons", arguments->lessons,
                   "of each way to measure what a feedback costs; 0: not measured")
      ->check(CLI::Range(0, 100));
  command->add_option("--beside", arguments->beside,
                      "llama.cpp's llama-bench, to compare answers and embeddings with");
  command->callback([arguments, &exit_code] { exit_code = nudge::BenchTrain(*arguments); });
}

void AddBenchAnswers(CLI::App& bench, int& exit_code) {
  const auto arguments = std::make_shared<nudge::BenchAnswersArguments>();
  auto* command =
      bench.add_subcommand("answers", "prompts read and tokens drawn by nudge's engine");
  AddModel(*command, arguments->config_path, arguments->random);
  command->add_option("--prompts", arguments->prompts, "tokens, one row each")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 17));
  command->add_option("--depths", arguments->depths, "tokens before those drawn, one row each")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 17));
  command->add_option("--sequences", arguments->sequences, "at a time, an adapter each")
      ->check(CLI::Range(1, 256));
  command
      ->add_option("--questions", arguments->questions,
                   "alone until their outcomes, and others; 0: not measured")
      ->check(CLI::Range(0, 1000));
  command->add_option("--threads", arguments->threads, "one table each")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  command->callback([arguments, &exit_code] { exit_code = nudge::BenchAnswers(*arguments); });
}

int Run(int argc, char** argv) {
  CLI::App app{"nudge: answers that learn from feedback while they are served"};
  app.set_version_flag("--version", "nudge " NUDGE_VERSION);
  app.require_subcommand(1);
  int exit_code = nudge::kExitUsage;
  AddReplay(app, exit_code);
  AddRun(app, exit_code);
  AddServe(app, exit_code);
  AddGateway(app, exit_code);
  AddFollow(app, exit_code);
  AddLog(app, exit_code);
  AddPublish(app, exit_code);
  AddCheck(app, exit_code);
  AddChat(app, exit_code);
  AddKeys(app, exit_code);
  AddSign(app, exit_code);
  AddForm(app, exit_code);
  AddMerge(app, exit_code);
  AddVerify(app, exit_code);
  AddSimulate(app, exit_code);
  AddExplain(app, exit_code);
  AddLessons(app, exit_code);
  AddExport(app, exit_code);
  AddInspect(app, exit_code);
  CLI::App& bench = *app.add_subcommand("bench", "measure parts beside what bounds them");
  bench.require_subcommand(1);
  AddBenchEngine(bench, exit_code);
  AddBenchHttp(bench, exit_code);
  AddBenchKafka(bench, exit_code);
  AddBenchLog(bench, exit_code);
  AddBenchTrain(bench, exit_code);
  AddBenchAnswers(bench, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? nudge::kExitDone : nudge::kExitUsage;
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return Run(argc, argv);
  } catch (const std::system_error& error) {
    const bool threads = error.code() == std::errc::resource_unavailable_try_again;
    std::cerr << "nudge: " << error.what()
              << (threads ? ": no further thread can be started, see `ulimit -u` and the limits of "
                            "the container"
                          : "")
              << "\n";
    return nudge::kExitUsage;
  } catch (const std::exception& error) {
    std::cerr << "nudge: " << error.what() << "\n";
    return nudge::kExitUsage;
  }
}
