// The configuration: one JSON file -> Config -> the options of every part.
//
//   file -> [ReadConfig] -> Config -> [ToProcessorOptions] -> Processor
//
// Every part declares its options and their keys beside itself (stages/options.h). Those fields are
// the only source of truth: names, types, ranges, effects, descriptions. Reading, the JSON Schema,
// the tables of docs/CONFIGURATION.md and SemanticSha256 come from them; defaults are those of the
// parts' own options and of what stands below.
//
// Paths: inputs (input.path, model files, adapt.anchors_path, adapt.import_folder, report.held_out)
// are relative to the configuration file's folder, outputs (output.folder, checkpoint.folder,
// report.html) to the working directory. "${CACHE}" at the beginning of a path is $NUDGE_CACHE or,
// without it, the nearest folder .cache with models in it, from the configuration file's folder
// upwards.
//
// At start-up only; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "connectors/gateway_options.h"
#include "connectors/http/http_options.h"
#include "connectors/kafka_options.h"
#include "connectors/log/event_log_options.h"
#include "pipeline/observe/log_options.h"
#include "pipeline/observe/monitor_options.h"
#include "pipeline/processor_options.h"
#include "pipeline/report/report_options.h"
#include "pipeline/serve/follow_options.h"
#include "pipeline/serve/serve_options.h"
#include "stages/model/local_backend_options.h"
#include "stages/model/remote_backend_options.h"
#include "stages/model/template_backend_options.h"

namespace nudge {

struct Config {
  struct Input {
    std::string path;  // "-": standard input
    bool follow = false;
  };
  struct Output {
    std::string folder;
    bool sync = false;
  };
  struct Model {
    std::string backend = "local";  // or "openai", "template"
    LocalBackendOptions local;      // of openai too; its window_tokens holds for the template too
    RemoteBackendOptions remote;
    TemplateBackendOptions template_backend;
  };
  struct Checkpoint {
    bool enabled = true;
    std::string folder;  // empty: OUTPUT/state
  };

  bool deterministic = true;
  Input input;
  Output output;
  Model model;
  Checkpoint checkpoint;
  EventLogOptions event_log;
  ServeOptions serve;
  GatewayOptions gateway;
  FollowOptions follow;
  KafkaOptions kafka;          // its line_bytes is that of processor.graph.limits
  ProcessorOptions processor;  // without what follows from all of this: see ToProcessorOptions
  HttpOptions http;
  MonitorOptions monitor;
  LogOptions log;  // of a live run
  ReportOptions report;
};

// Throws StartError with every problem, one a line, each behind the file's path: a file that cannot
// be read or is no JSON object, a key that is unknown or given twice, a value of another type or
// out of range, values that do not fit each other. What the configured files hold is not looked at.
Config ReadConfig(const std::string& path);

// The same of a text, its lines without a file's path. `folder`: what inputs are relative to; empty
// is the working directory.
Config ParseConfig(std::string_view text, const std::string& folder);

// Throws StartError, naming every configured input file and folder that is not there.
void RequireInputs(const Config& config);

// checkpoint.folder or OUTPUT/state; empty if no state is kept.
std::string StateFolder(const Config& config);

// For the Processor. Snapshots go to OUTPUT/snapshots, state to StateFolder.
// Throws as SemanticSha256.
ProcessorOptions ToProcessorOptions(const Config& config);

// For source, sink and publisher. Throws StartError if no brokers are configured.
KafkaOptions ToKafkaOptions(const Config& config);

// For Serving, which is named after the model's file. Throws StartError if no event log is
// configured, and as ToProcessorOptions.
struct ServingOptions;
ServingOptions ToServingOptions(const Config& config);

// For a KafkaDoor, named as Serving is. Throws as ToKafkaOptions.
struct KafkaDoorOptions;
KafkaDoorOptions ToKafkaDoorOptions(const Config& config);

// For an AdapterFollower: of topics where brokers are configured, else of OUTPUT/outcomes.jsonl.
// Throws StartError where adapters are users', whose snapshots do not say whose they are.
struct AdapterFollowerOptions;
AdapterFollowerOptions ToAdapterFollowerOptions(const Config& config);

// SHA-256 over the effective values, defaults included, of all keys that can change an outcome;
// of a file that such a key names, over its content. Throws StartError if that cannot be read.
std::string SemanticSha256(const Config& config);

// The JSON Schema (draft 2020-12) of the file: configs/schema.json.
std::string ConfigSchema();

// All keys as tables in Markdown: the generated part of docs/CONFIGURATION.md.
std::string ConfigTables();

}  // namespace nudge
