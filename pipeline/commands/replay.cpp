// `nudge replay`: a recorded file through the whole loop, and what came of it.
#include <chrono>
#include <filesystem>
#include <iostream>
#include <thread>

#include "connectors/file_sink.h"
#include "connectors/file_source.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/observe/monitor.h"
#include "pipeline/processor.h"
#include "pipeline/report/held_out.h"
#include "pipeline/report/report.h"

namespace nudge {

namespace {

// Calls Report::Tick a few times a second while it lives.
class Ticker {
 public:
  Ticker(Report& report, Processor& processor)
      : thread_([this, &report, &processor] {
          while (!done_) {
            report.Tick(processor.progress(), processor.executor().lessons_left());
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
          }
        }) {}
  ~Ticker() {
    done_ = true;
    thread_.join();
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

Config ReadFor(const ReplayArguments& arguments) {
  Config config = ReadConfig(arguments.config_path);
  if (!arguments.input.empty()) config.input.path = arguments.input;
  if (!arguments.output.empty()) config.output.folder = arguments.output;
  if (arguments.threads > 0) {
    config.processor.graph.threads = arguments.threads;
    config.processor.executor.threads = static_cast<size_t>(arguments.threads);
  }
  RequireInputs(config);
  return config;
}

// Where the page goes: a run that is sent elsewhere takes its page along. Empty: none.
std::string PagePath(const Config& config, const ReplayArguments& arguments) {
  const std::filesystem::path page = config.report.html;
  return page.empty() || arguments.output.empty() ? page : arguments.output / page.filename();
}

// Beside the page; without one, in the output folder.
std::string JsonPath(const Config& config, const std::filesystem::path& page) {
  return (page.empty() ? std::filesystem::path(config.output.folder) : page.parent_path()) /
         "summary.json";
}

void RemoveEarlier(const ProcessorOptions& options, const std::string& output,
                   const Summary& summary) {
  std::error_code error;
  for (const std::string& path :
       {output + "/outcomes.jsonl", output + "/dead_letters.jsonl", summary.html, summary.json}) {
    if (!path.empty()) std::filesystem::remove(path, error);
  }
  for (const std::string& folder : {options.state_folder, options.executor.snapshot_folder}) {
    if (!folder.empty()) std::filesystem::remove_all(folder, error);
  }
}

// The held-out questions, asked as the run left things, of the base and of the adapters.
void MeasureHeldOut(const Config& config, const HeldOut& held_out, Backend& backend,
                    Processor& processor, Summary& summary) {
  if (held_out.questions.empty() || stop_requested) return;
  std::map<std::pair<TenantId, std::string>, std::vector<ChatMessage>> chats;
  for (const HeldOut::Question& question : held_out.questions) {
    auto chat = processor.ChatFor(question.tenant, question.query);
    if (!chat.ok()) {
      summary.held_out_note = chat.error().message;
      return;
    }
    chats[{question.tenant, question.query}] = std::move(*chat);
  }
  const auto chat_of = [&](const HeldOut::Question& question) {
    return chats.at({question.tenant, question.query});
  };
  MeasureOptions options;
  options.decoding = config.processor.prompt.presets.front().decoding;
  options.slots = config.processor.executor.threads;
  options.cancelled = [] { return stop_requested.load(); };
  const auto base = Measure(
      held_out, backend, chat_of, [](const TenantId&) { return nullptr; }, options);
  std::map<TenantId, std::shared_ptr<const AdapterVersion>> adapters;
  const auto learnt = !base.ok() ? base
                                 : Measure(
                                       held_out, backend, chat_of,
                                       [&](const TenantId& tenant) {
                                         auto& adapter = adapters[tenant];
                                         adapter = processor.executor().Latest(0, tenant);
                                         return adapter.get();
                                       },
                                       options);
  if (!learnt.ok()) {
    summary.held_out_note = learnt.error().message;
    return;
  }
  summary.held_out = &held_out;
  summary.base = *base;
  summary.adapter = *learnt;
}

// "model SmolLM2-135M-Instruct.Q4_1; trains: yes": what a file calls itself inside is
// often no name.
std::string ModelLine(const Config& config, const Backend& backend) {
  if (config.model.backend != "local") return backend.description();
  const Result<Nothing> trains = backend.CanLearn();
  return "model " + std::filesystem::path(config.model.local.language_model).stem().string() +
         "; trains: " + (trains.ok() ? "yes" : "no, " + trains.error().message);
}

void Print(Report& report, const Summary& summary) {
  report.PrintSummary(std::cout, summary);
  const Result<Nothing> page =
      summary.html.empty() ? Nothing{} : report.WriteHtml(summary.html, summary);
  const Result<Nothing> json = report.WriteJson(summary.json, summary);
  for (const Result<Nothing>& written : {page, json}) {
    if (!written.ok()) std::cerr << "nudge: " << written.error().message << "\n";
  }
}

int Interrupted(const ReplayArguments& arguments, uint64_t events) {
  std::cerr << "\nnudge: interrupted after " << events
            << " events; they are committed: run the same command"
            << (arguments.fresh ? " without --fresh" : "") << " to go on\n";
  return kExitInterrupted;
}

}  // namespace

int Replay(const ReplayArguments& arguments) {
  const Config config = ReadFor(arguments);
  const ProcessorOptions options = ToProcessorOptions(config);
  std::optional<Monitor> monitor;
  if (config.monitor.port > 0) {
    monitor.emplace(config.monitor.address, static_cast<uint16_t>(config.monitor.port));
  }
  Summary summary;
  summary.html = PagePath(config, arguments);
  summary.json = JsonPath(config, summary.html);
  if (arguments.fresh) RemoveEarlier(options, config.output.folder, summary);
  const HeldOut held_out =
      config.report.held_out.empty() ? HeldOut{} : ReadHeldOut(config.report.held_out);
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  FileSource source({.path = config.input.path,
                     .follow = config.input.follow,
                     .line_bytes = config.processor.graph.limits.line_bytes});
  FileSink sink({.folder = config.output.folder,
                 .existing = FileSinkOptions::Existing::kResume,
                 .sync = config.output.sync});
  Report report;
  const auto started = std::chrono::steady_clock::now();
  Processor processor(
      options,
      {[&](const OutcomeLine& line) { report.OnOutcome(line); },
       [&](const LessonEvent& lesson) { report.OnLesson(lesson); },
       [](const std::string& notice) { std::cerr << "\nnudge: " << notice << "\n"; }},
      *backend, source, sink);
  Result<std::map<int32_t, PartitionSummary>> done = Error{};
  {
    std::optional<Monitor::Watch> watch;
    if (monitor) watch.emplace(*monitor, [&] { return processor.View(); });
    std::optional<Ticker> ticker;
    if (!arguments.quiet) ticker.emplace(report, processor);
    done = processor.Run(stop_requested);
  }
  if (!done.ok()) {
    std::cerr << "\n";
    return FailWith(done.error(), ExitCodeOf(done.error()));
  }
  if (stop_requested)
    return Interrupted(arguments, done->empty() ? 0 : done->begin()->second.events);

  summary.elapsed_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  summary.graph = &processor.metrics();
  summary.generate = &processor.executor().generate_metrics();
  summary.embed = &processor.executor().embed_metrics();
  summary.lessons = &processor.executor().lesson_metrics();
  for (const auto& [number, partition] : *done) {
    summary.chains[number] = {partition.events, partition.chain};
  }
  if (std::filesystem::exists(options.executor.snapshot_folder)) {
    summary.snapshot_folder = options.executor.snapshot_folder;
  }
  summary.show_answers = config.report.show_answers;
  summary.model = ModelLine(config, *backend);
  if (!arguments.quiet) {
    MeasureHeldOut(config, held_out, *backend, processor, summary);
    Print(report, summary);
  } else {
    for (const auto& [number, partition] : *done) {
      std::cout << "outcomes sha256 " << Hex(partition.chain) << "\n";
    }
  }
  return kExitDone;
}

}  // namespace nudge
