// The command line of nudge.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <system_error>

#include "pipeline/bench/bench.h"
#include "pipeline/commands/commands.h"

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

int Run(int argc, char** argv) {
  CLI::App app{"nudge: answers that learn from feedback while they are served"};
  app.require_subcommand(1);
  int exit_code = nudge::kExitUsage;

  nudge::ReplayArguments replay;
  auto* replay_command =
      app.add_subcommand("replay", "run a recorded file of events through the loop");
  replay_command->add_option("config", replay.config_path, "configuration file")->required();
  replay_command->add_option("--input", replay.input,
                             "events instead of those configured; - is stdin");
  replay_command->add_option("--output", replay.output,
                             "output folder instead of the configured one");
  replay_command->add_flag("--fresh", replay.fresh, "remove earlier output and state first");
  replay_command->add_flag("--quiet", replay.quiet, "print the outcomes' sha256 only");
  replay_command->add_option("--threads", replay.threads, "of graph and models")
      ->check(CLI::Range(1, 256));
  replay_command->callback([&] { exit_code = nudge::Replay(replay); });

  nudge::RunArguments run;
  auto* run_command = app.add_subcommand("run", "serve live topics, until it is stopped");
  run_command->add_option("config", run.config_path, "configuration file")->required();
  AddCreateTopics(*run_command, run.create_topics);
  run_command->callback([&] { exit_code = nudge::RunLive(run); });

  nudge::PublishArguments publish;
  auto* publish_command =
      app.add_subcommand("publish", "send recorded events to the live input topic");
  publish_command->add_option("config", publish.config_path, "configuration file")->required();
  publish_command->add_option("events", publish.input, "events, one a line; - is stdin")
      ->required();
  publish_command->add_option("--rate", publish.events_per_second, "events a second; 0: no limit")
      ->check(CLI::Range(0.0, 1e9));
  AddCreateTopics(*publish_command, publish.create_topics);
  publish_command->callback([&] { exit_code = nudge::Publish(publish); });

  nudge::CheckArguments check;
  auto* check_command = app.add_subcommand("check", "check a configuration or a file of events");
  check_command->add_option("path", check.path, "configuration, or events with --events");
  check_command->add_flag("--events", check.events, "the path is a file of events");
  check_command->add_flag("--schema", check.schema, "print the configuration's JSON Schema");
  check_command->add_flag("--tables", check.tables, "print all configuration keys as tables");
  check_command->callback([&] {
    if (check.path.empty() && !check.schema && !check.tables) {
      throw CLI::RequiredError("path");
    }
    exit_code = nudge::Check(check);
  });

  nudge::ChatArguments chat;
  auto* chat_command =
      app.add_subcommand("chat", "talk to it: ask, then answer +, - or = correction");
  chat_command->add_option("config", chat.config_path, "configuration file")->required();
  chat_command->add_option("--tenant", chat.tenant, "whose adapter and documents");
  chat_command->add_option("--log", chat.log, "event log to continue and to write");
  chat_command->callback([&] { exit_code = nudge::Chat(chat); });

  nudge::ExplainArguments explain;
  auto* explain_command = app.add_subcommand("explain", "why an event ended as it did");
  explain_command->add_option("output", explain.output, "output folder of a run")->required();
  explain_command->add_option("id", explain.id, "id of the event")->required();
  explain_command->callback([&] { exit_code = nudge::Explain(explain); });

  std::string inspected;
  auto* inspect_command =
      app.add_subcommand("inspect", "what a model, snapshot, event file, output or state holds");
  inspect_command->add_option("path", inspected, "file or folder")->required();
  inspect_command->callback([&] { exit_code = nudge::Inspect(inspected); });

  auto* bench_command = app.add_subcommand("bench", "measure parts beside what bounds them");
  bench_command->require_subcommand(1);
  nudge::BenchEngineArguments engine;
  auto* engine_command =
      bench_command->add_subcommand("engine", "the graph, file to file, without a model");
  engine_command->add_option("--events", engine.events, "how many")
      ->check(CLI::Range(1, 100'000'000));
  engine_command->add_option("--tenants", engine.tenants, "whose events")
      ->check(CLI::Range(1, 10'000));
  engine_command->add_option("--documents", engine.documents, "ids per tenant")
      ->check(CLI::Range(1, 100'000));
  engine_command->add_option("--dimension", engine.dimension, "of the embedder's stand-in; 0: none")
      ->check(CLI::Range(0, 4096));
  engine_command->add_option("--threads", engine.threads, "of graph and executor, one run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  engine_command->callback([&] { exit_code = nudge::BenchEngine(engine); });

  nudge::BenchKafkaArguments live;
  auto* live_command = bench_command->add_subcommand(
      "kafka", "live topics without a model, exactly once beside at least once");
  live_command->add_option("config", live.config_path, "configuration file")->required();
  live_command->add_option("--events", live.events, "how many")->check(CLI::Range(1, 100'000'000));
  live_command->add_option("--tenants", live.tenants, "whose events")->check(CLI::Range(1, 10'000));
  live_command->add_option("--dimension", live.dimension, "of the embedder's stand-in; 0: none")
      ->check(CLI::Range(0, 4096));
  live_command->add_option("--partitions", live.partitions, "of each topic")
      ->check(CLI::Range(1, 1000));
  live_command->add_option("--threads", live.threads, "of graph and executor")
      ->check(CLI::Range(1, 256));
  live_command
      ->add_option("--minutes", live.minutes, "a steady load for so long instead: is memory flat?")
      ->check(CLI::Range(0.0, 1e6));
  live_command->add_option("--rate", live.rate, "events a second of the steady load")
      ->check(CLI::Range(1.0, 1e6));
  live_command->callback([&] { exit_code = nudge::BenchKafka(live); });

  nudge::BenchTrainArguments train;
  auto* train_command =
      bench_command->add_subcommand("train", "a gradient step of the language model");
  train_command->add_option("config", train.config_path, "configuration file")->required();
  train_command->add_option("--tokens", train.tokens, "of a sequence, one row each")
      ->delimiter(',')
      ->check(CLI::Range(2, 4096));
  train_command->add_option("--threads", train.threads, "one row each")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  train_command
      ->add_option("--lessons", train.lessons,
                   "of each way to measure what a feedback costs; 0: not measured")
      ->check(CLI::Range(0, 100));
  train_command->add_option("--beside", train.beside,
                            "llama.cpp's llama-bench, to compare answers and embeddings with");
  train_command->callback([&] { exit_code = nudge::BenchTrain(train); });

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
