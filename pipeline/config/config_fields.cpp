#include "pipeline/config/config_fields.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>

namespace nudge::keys {
namespace {

constexpr double kMaxSeed = 9007199254740991;  // 2^53 - 1: exact in every JSON reader

// What is the configuration's own: where things are.
Fields OwnFields(Config& c) {
  using enum Effect;
  using enum Path::Base;
  return {
      {"deterministic", Flag{&c.deterministic}, "", kSemantic,
       "outcomes are a function of the events, this file and the models, never of threads or "
       "timing; only true is supported"},
      {"input.path", Path{&c.input.path, kConfigFolder, false, true}, "", kOperational,
       "recorded events, one a line; \"-\": standard input; needed by replay"},
      {"input.follow", Flag{&c.input.follow}, "", kOperational,
       "wait at the end of the file for more"},
      {"output.folder", Path{&c.output.folder, kWorkingFolder, true}, "", kOperational,
       "outcomes; below it snapshots/ and state/"},
      {"output.sync", Flag{&c.output.sync}, "", kOperational,
       "outcomes are on the disk before they count as written: they survive a power cut"},
      {"model.backend", Choice{&c.model.backend, {"local", "template"}}, "", kSemantic,
       "local: a GGUF model in this process; template: no model, answers worth nothing, for "
       "tests "
       "and benchmarks"},
      {"model.language_model", Path{&c.model.language_model, kConfigFolder}, "", kOperational,
       "GGUF file that answers and learns; needed by the local backend"},
      {"model.embedder", Path{&c.model.embedder, kConfigFolder}, "", kOperational,
       "GGUF file that makes vectors; empty: none, search is by words only"},
      {"model.query_prefix", Text{&c.model.query_prefix, 0, 256}, "bytes", kSemantic,
       "put before a query that is embedded; empty: as the embedder's file says"},
      {"model.passage_prefix", Text{&c.model.passage_prefix, 0, 256}, "bytes", kSemantic,
       "put before a passage that is embedded; empty: as the embedder's file says"},
      {"model.window_tokens", Number{&c.model.window_tokens, 64, 131072}, "", kSemantic,
       "prompt and answer together; cut to what the model was trained for"},
      {"model.threads_per_answer", Number{&c.model.threads_per_answer, 1, 256}, "", kSemantic,
       "beyond 1 pays only with idle cores; may change the last bits of an f32 model"},
      {"model.template_dimension", Number{&c.model.template_dimension, 0, 4096}, "", kSemantic,
       "numbers in a vector of the template backend; 0: it makes none"},
      {"checkpoint.enabled", Flag{&c.checkpoint.enabled}, "", kOperational,
       "false: after a stop everything is computed again"},
      {"checkpoint.folder", Path{&c.checkpoint.folder, kWorkingFolder}, "", kOperational,
       "empty: state/ below output.folder"},
  };
}

Fields LearnFields(Config& c) {
  using enum Effect;
  using enum Path::Base;
  LearnSettings& l = c.learn;
  return {
      {"adapt.rank", Number{&l.rank, 1, 64}, "", kSemantic, "of the adapter's matrices"},
      {"adapt.alpha", Number{&l.alpha, .001, 1024}, "", kSemantic,
       "the adapter acts with the weight alpha / rank"},
      {"adapt.scale", Choice{&l.scale, {"alpha", "rslora"}}, "", kSemantic,
       "rslora: with the weight alpha / sqrt(rank), which stays as strong at high ranks"},
      {"adapt.modules",
       Subset{
           &l.modules,
           {"q", "k", "v", "o", "gate", "up", "down"},
           {{"all", {"q", "k", "v", "o", "gate", "up", "down"}}, {"mlp", {"gate", "up", "down"}}}},
       "", kSemantic,
       "that the adapter changes: attention's q, k, v and o, the feed-forward's gate, up and "
       "down. All learn fastest; fewer make a smaller and cheaper adapter"},
      {"adapt.learning_rate", Number{&l.learning_rate, 1e-8, 1}, "", kSemantic,
       "of a step (AdamW); 1e-3 and more wreck what a small model knows"},
      {"adapt.gradient_clip", Number{&l.gradient_clip, 1e-6, 1e6}, "", kSemantic,
       "longest gradient of a step (L2 norm); a longer one is scaled down"},
      {"adapt.down_weight", Number{&l.down_weight, 0, 1}, "", kSemantic,
       "of a thumb down against a thumb up"},
      {"adapt.down_beta", Number{&l.down_beta, 1e-3, 100}, "", kSemantic,
       "how sharply a thumb down stops pushing once the answer has become unlikely"},
      {"adapt.balance_decay", Number{&l.balance_decay, 0, 1}, "", kSemantic,
       "of the counts of ups and downs with each event; where downs prevail they weigh less"},
      {"adapt.replay_per_lesson", Number{&l.replay_per_lesson, 0, 8}, "examples", kSemantic,
       "earlier ones repeated with each new one"},
      {"adapt.replay_examples", Number{&l.replay_examples, 0, 100'000}, "", kSemantic,
       "kept per tenant to be repeated"},
      {"adapt.anchors_path", Path{&l.anchors_path, kConfigFolder}, "", kSemantic,
       "neutral texts on which the adapter must stay near the base model, JSON lines; empty: "
       "none, "
       "and the model drifts"},
      {"adapt.anchors_per_step", Number{&l.anchors_per_step, 0, 8}, "texts", kSemantic,
       "checked with each step"},
      {"adapt.anchor_lambda", Number{&l.anchor_lambda, 0, 100}, "", kSemantic,
       "how strongly the anchor holds"},
      {"adapt.kl_budget", Number{&l.kl_budget, 0, 10}, "nats per token", kSemantic,
       "drift that the anchor's strength is steered to, 1e-4 or more; 0: anchor_lambda stays "
       "as it is"},
      {"adapt.kl_cap", Number{&l.kl_cap, 0, 10}, "nats per token", kSemantic,
       "drift beyond which a step that adds to it is taken back; 0: none is"},
      {"adapt.seed", Number{&l.seed, 0, kMaxSeed}, "", kSemantic,
       "of the adapter's first values and of what is repeated when"},
      {"adapt.products", Choice{&l.products, {"auto", "f32", "bf16"}}, "", kSemantic,
       "numbers that lessons multiply the base model's weights in; auto: bf16 where the "
       "processor has AMX, where lessons are a fifth to three fifths faster, f32 elsewhere"},
      {"adapt.base_memory", Choice{&l.base_memory, {"copy", "file"}}, "", kOperational,
       "where lessons have the base model's weights: a copy of their own, or the model file, "
       "for small machines: slower, the same bits"},
      {"adapt.learners_in_memory", Number{&l.learners_in_memory, 1, 10'000}, "", kOperational,
       "of the tenants that learnt last, some 30 MB each at rank 8; the others' are in a file "
       "beside the state, and woken for the next lesson"},
      {"adapt.import_folder", Path{&c.import_folder, kConfigFolder}, "", kOperational,
       "of adapters that events may bring in; empty: imports are refused"},
  };
}

}  // namespace

const std::vector<Section>& Sections() {
  static const std::vector<Section> kSections = {
      {"input", "Where events come from."},
      {"output", "Where outcomes go."},
      {"kafka", "Live topics, for `nudge run` and `nudge publish`."},
      {"model", "The models that embed, answer and learn."},
      {"limits", "What is refused or forgotten, so that nothing grows without bound."},
      {"prepare", "How documents are cut and texts checked."},
      {"index", "How passages are found."},
      {"adapt", "How a tenant's adapter learns, and when what it learnt is served."},
      {"prompt", "Which prompt, decoding and examples an answer gets."},
      {"respond", "How an answer is put together."},
      {"cache", "When an earlier answer is given again."},
      {"checkpoint", "What is kept to go on after a stop."},
      {"executor", "The threads of the models."},
      {"graph", "The threads of everything else."},
      {"monitor", "What a run says of itself over HTTP: docs/OPERATING.md."},
      {"watchdog", "When a run that stands still says so."},
      {"report", "What is measured and shown beside the outcomes."},
  };
  return kSections;
}

Fields FieldsOf(Config& config) {
  return Together({OwnFields(config), OptionsOf(config.kafka), OptionsOf(config.processor),
                   LearnFields(config), OptionsOf(config.monitor), OptionsOf(config.report)});
}

std::string ToText(double number) {
  char buffer[32];
  const bool whole = number == std::trunc(number) && std::abs(number) < 1e15;
  const auto end = whole ? std::to_chars(buffer, buffer + sizeof(buffer), std::llround(number))
                         : std::to_chars(buffer, buffer + sizeof(buffer), number);
  return std::string(buffer, end.ptr);
}

std::string ToRange(double least, double most) {
  return ToText(least) + ".." + ToText(most);
}

std::string Join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string joined;
  for (const std::string& part : parts) {
    if (!joined.empty()) joined += separator;
    joined += part;
  }
  return joined;
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
