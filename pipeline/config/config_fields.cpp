#include "pipeline/config/config_fields.h"

#include <filesystem>
#include <fstream>

namespace nudge::keys {
namespace {

// What belongs to no part: where things are.
Fields OwnFields(Config& c) {
  using enum Effect;
  using enum Path::Base;
  return {
      {"deterministic", Flag{&c.deterministic}, "", kSemantic,
       "outcomes are a function of the events, this file and the models, never of threads or "
       "timing; false with model.backend openai, whose answers are another server's, and with no "
       "other"},
      {"input.path", Path{&c.input.path, kConfigFolder, false, true}, "", kOperational,
       "recorded events, one a line; \"-\": standard input; needed by replay"},
      {"input.follow", Flag{&c.input.follow}, "", kOperational,
       "wait at the end of the file for more"},
      {"output.folder", Path{&c.output.folder, kWorkingFolder, true}, "", kOperational,
       "outcomes; below it snapshots/ and state/"},
      {"output.sync", Flag{&c.output.sync}, "", kOperational,
       "outcomes are on the disk before they count as written: they survive a power cut"},
      {"model.backend", Choice{&c.model.backend, {"local", "openai", "template"}}, "", kSemantic,
       "local: a GGUF model in this process; openai: the same for all but answers, which come "
       "from another server that has the same model; template: no model, answers worth nothing, "
       "for tests and benchmarks"},
      {"checkpoint.enabled", Flag{&c.checkpoint.enabled}, "", kOperational,
       "false: after a stop everything is computed again"},
      {"checkpoint.folder", Path{&c.checkpoint.folder, kWorkingFolder}, "", kOperational,
       "empty: state/ below output.folder"},
  };
}

}  // namespace

const std::vector<Section>& Sections() {
  static const std::vector<Section> kSections = {
      {"input", "Where events come from."},
      {"output", "Where outcomes go."},
      {"event_log", "The events that `nudge serve` takes, on this machine's disk."},
      {"serve", "What `nudge serve` holds at most."},
      {"kafka",
       "Live topics, for `nudge run`, `nudge gateway`, `nudge follow` and `nudge publish`."},
      {"gateway", "What `nudge gateway` holds at most, for how long it waits, and how it signs."},
      {"follow", "Which server `nudge follow` offers adapters to, and what it is offered."},
      {"model", "The models that embed, answer and learn."},
      {"limits", "What is refused or forgotten, so that nothing grows without bound."},
      {"commands", "Who may command where others may write to the input too: docs/EVENTS.md."},
      {"prepare", "How documents are cut and texts checked."},
      {"index", "How passages are found."},
      {"adapt", "How a tenant's adapter learns, and when what it learnt is served."},
      {"prompt", "Which prompt, decoding and examples an answer gets."},
      {"respond", "How an answer is put together."},
      {"cache", "When an earlier answer is given again."},
      {"checkpoint", "What is kept to go on after a stop."},
      {"executor", "The threads of the models."},
      {"graph", "The threads of everything else."},
      {"http", "The door of `nudge serve` and `nudge gateway`: docs/HTTP.md."},
      {"monitor", "What a run says of itself over HTTP: docs/OPERATING.md."},
      {"watchdog", "When a run that stands still says so."},
      {"log",
       "What `nudge run`, `nudge serve`, `nudge gateway` and `nudge follow` write to standard "
       "error."},
      {"report", "What is measured and shown beside the outcomes."},
  };
  return kSections;
}

Fields FieldsOf(Config& config) {
  return Together({OwnFields(config), OptionsOf(config.event_log), OptionsOf(config.serve),
                   OptionsOf(config.kafka), OptionsOf(config.gateway), OptionsOf(config.follow),
                   OptionsOf(config.processor), OptionsOf(config.model.local),
                   OptionsOf(config.model.remote), OptionsOf(config.model.template_backend),
                   OptionsOf(config.http), OptionsOf(config.monitor), OptionsOf(config.log),
                   OptionsOf(config.report)});
}

std::string_view LastPart(std::string_view path) {
  return path.substr(path.rfind('.') + 1);  // npos + 1 is 0
}

std::string ReadWhole(const std::string& path, size_t most_bytes) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) throw StartError(path + ": no such file");
  if (std::filesystem::is_directory(path, error)) throw StartError(path + ": a folder, not a file");
  std::ifstream file(path, std::ios::binary);
  std::string content;
  char buffer[1 << 16];
  while (file && content.size() <= most_bytes) {
    file.read(buffer, sizeof(buffer));
    content.append(buffer, static_cast<size_t>(file.gcount()));
  }
  if (file.bad() || (!file.eof() && content.size() <= most_bytes)) {
    throw StartError(path + ": cannot be read");
  }
  if (content.size() > most_bytes) {
    throw StartError(path + ": over " + std::to_string(most_bytes) + " bytes");
  }
  return content;
}

}  // namespace nudge::keys
