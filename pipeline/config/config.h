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
#include <vector>

#include "connectors/kafka_options.h"
#include "pipeline/observe/monitor_options.h"
#include "pipeline/processor_options.h"
#include "pipeline/report/report_options.h"

namespace nudge {

// How a tenant's adapter learns: docs/CONFIGURATION.md, section adapt.
struct LearnSettings {
  uint32_t rank = 8;
  double alpha = 16;
  std::string scale = "alpha";  // or "rslora": alpha / sqrt(rank)
  std::vector<std::string> modules = {"q", "k", "v", "o", "gate", "up", "down"};
  double learning_rate = 5e-4;
  double gradient_clip = 1;
  double down_weight = .3;
  double down_beta = 1;
  double balance_decay = .97;
  uint32_t replay_per_lesson = 1;
  uint32_t replay_examples = 512;
  std::string anchors_path;  // neutral texts, JSON a line; empty: no anchor
  uint32_t anchors_per_step = 2;
  double anchor_lambda = 1;
  double kl_budget = 0;  // nats per token, 1e-4 or more; 0: anchor_lambda stays as it is
  double kl_cap = 1;     // nats per token; 0: no cap
  uint64_t seed = 1;
  std::string products = "auto";     // or "f32", "bf16"
  std::string base_memory = "copy";  // or "file"
  uint32_t learners_in_memory = 4;
};

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
    std::string backend = "local";  // or "template"
    std::string language_model;     // GGUF; set if the backend is local
    std::string embedder;           // GGUF; empty: none, search is lexical only
    std::string query_prefix;       // empty, as the one below: as the embedder's file says
    std::string passage_prefix;
    uint32_t window_tokens = 2048;
    uint32_t threads_per_answer = 1;
    uint32_t template_dimension = 64;  // of the template backend's vectors; 0: none
  };
  struct Checkpoint {
    bool enabled = true;
    std::string folder;  // empty: OUTPUT/state
  };

  bool deterministic = true;
  Input input;
  Output output;
  Model model;
  LearnSettings learn;
  std::string import_folder;  // of adapters that events bring in; empty: imports are refused
  Checkpoint checkpoint;
  KafkaOptions kafka;          // its line_bytes is that of processor.graph.limits
  ProcessorOptions processor;  // without what follows from all of this: see ToProcessorOptions
  MonitorOptions monitor;
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

// SHA-256 over the effective values, defaults included, of all keys that can change an outcome;
// of a file that such a key names, over its content. Throws StartError if that cannot be read.
std::string SemanticSha256(const Config& config);

// The JSON Schema (draft 2020-12) of the file: configs/schema.json.
std::string ConfigSchema();

// All keys as tables in Markdown: the generated part of docs/CONFIGURATION.md.
std::string ConfigTables();

}  // namespace nudge
