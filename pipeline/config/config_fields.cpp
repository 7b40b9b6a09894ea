#include "pipeline/config/config_fields.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>

namespace nudge::keys {
namespace {

constexpr Effect kSemantic = Effect::kSemantic;
constexpr Effect kOperational = Effect::kOperational;
constexpr double kMaxSeed = 9007199254740991;  // 2^53 - 1: exact in every JSON reader

void Append(Fields& fields, const Fields& rows) {
  fields.insert(fields.end(), rows.begin(), rows.end());
}

void AddPlaces(Config& c, Fields& fields) {
  using enum Path::Base;
  Append(
      fields,
      {
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

          {"kafka.brokers", Text{&c.kafka.brokers, 0, 4096}, "bytes", kOperational,
           "HOST:PORT,HOST:PORT; needed by run and publish"},
          {"kafka.group_id", Text{&c.kafka.group_id, 1, 249}, "bytes", kOperational,
           "of the processes that share the input topic's partitions"},
          {"kafka.instance_id", Text{&c.kafka.instance_id, 1, 249}, "bytes", kOperational,
           "of this process among them, the same after a restart: it gets its partitions back"},
          {"kafka.input_topic", Text{&c.kafka.input_topic, 1, 249}, "bytes", kOperational,
           "of events, key = tenant"},
          {"kafka.response_topic", Text{&c.kafka.response_topic, 1, 249}, "bytes", kOperational,
           "of answers; the three output topics may be one"},
          {"kafka.receipt_topic", Text{&c.kafka.receipt_topic, 1, 249}, "bytes", kOperational,
           "of what events did"},
          {"kafka.dead_letter_topic", Text{&c.kafka.dead_letter_topic, 1, 249}, "bytes",
           kOperational, "of events that were refused"},
          {"kafka.properties", Properties{&c.kafka.properties}, "", kOperational,
           "of librdkafka, for SASL and TLS; their values never stand in a message"},
          {"kafka.fetch_bytes", Number{&c.kafka.fetch_bytes, 1 << 20, 16ll << 30}, "", kOperational,
           "fetched and not yet read"},
          {"kafka.message_bytes", Number{&c.kafka.message_bytes, 1 << 10, 1 << 30}, "",
           kOperational, "of an outcome: the brokers' message.max.bytes less 1 percent"},
          {"kafka.session_timeout_ms", Number{&c.kafka.session_timeout_ms, 6'000, 1'800'000}, "",
           kOperational, "of silence, until a process's partitions go to another"},
          {"kafka.transaction_timeout_ms", Number{&c.kafka.transaction_timeout_ms, 1'000, 900'000},
           "", kOperational, "for which a process that died can hold up readers"},
          {"kafka.commit_timeout_ms", Number{&c.kafka.commit_timeout_ms, 1'000, 3'600'000}, "",
           kOperational, "of brokers that do not answer, until the process ends"},
          {"kafka.hand_over_ms", Number{&c.kafka.hand_over_ms, 0, 60'000}, "", kOperational,
           "to finish a partition that goes to another process; the rest is done there"},

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
      });
}

void AddLimits(Config& c, Fields& fields) {
  EventLimits& l = c.limits;
  Append(
      fields,
      {
          {"limits.line_bytes", Number{&l.line_bytes, 256, 64 << 20}, "", kSemantic,
           "of an event as received"},
          {"limits.text_bytes", Number{&l.text_bytes, 1, 16 << 20}, "", kSemantic, "of a document"},
          {"limits.query_bytes", Number{&l.query_bytes, 1, 1 << 20}, "", kSemantic,
           "of a question"},
          {"limits.answer_bytes", Number{&l.answer_bytes, 1, 1 << 20}, "", kSemantic,
           "of an answer or correction in an event"},
          {"limits.prompt_bytes", Number{&l.prompt_bytes, 1, 1 << 20}, "", kSemantic,
           "of a system prompt in an event"},
          {"limits.id_bytes", Number{&l.id_bytes, 1, 4096}, "", kSemantic,
           "of an id, source, user or name in an event"},
          {"limits.tenant_bytes", Number{&l.tenant_bytes, 1, 1024}, "", kSemantic,
           "of a tenant's name"},
          {"limits.title_bytes", Number{&l.title_bytes, 1, 64 << 10}, "", kSemantic,
           "of a document's title"},
          {"limits.uri_bytes", Number{&l.uri_bytes, 1, 64 << 10}, "", kSemantic,
           "of an adapter's path in an import"},
          {"limits.metadata_entries", Number{&l.metadata_entries, 0, 4096}, "entries", kSemantic,
           "of a document"},
          {"limits.metadata_bytes", Number{&l.metadata_bytes, 0, 1 << 20}, "", kSemantic,
           "of a document's metadata, keys and values together"},
          {"limits.json_depth", Number{&l.json_depth, 3, 1024}, "levels", kSemantic,
           "of objects and lists inside each other in an event"},
          {"limits.dead_letter_bytes", Number{&c.emit.dead_letter_bytes, 0, 1 << 20}, "", kSemantic,
           "of a refused event that its dead letter keeps"},
          {"limits.outcome_bytes", Number{&c.emit.outcome_bytes, 1 << 17, 8e6}, "", kSemantic,
           "of an outcome; a dead letter stands in the place of a larger one. At most "
           "kafka.message_bytes"},
          {"limits.in_flight_events", Number{&c.in_flight.events, 1, 1'000'000}, "", kOperational,
           "of a partition, read and not yet committed"},
          {"limits.in_flight_bytes", Number{&c.in_flight.bytes, 1 << 10, 64ll << 30}, "",
           kOperational, "of a partition, read and not yet committed; a larger event passes alone"},
          {"limits.tenants_per_partition", Number{&c.recall.tenants_per_partition, 1, 1e7}, "",
           kSemantic, "further ones are refused"},
          {"limits.identities_per_tenant", Number{&c.recall.identities_per_tenant, 1, 1e8},
           "events", kSemantic, "back to which a repeated event is recognised; 100 bytes each"},
          {"limits.queries_per_tenant", Number{&c.recall.queries_per_tenant, 1, 1e8}, "", kSemantic,
           "back to which feedback is taken"},
          {"limits.answers_per_tenant", Number{&c.respond.records_per_tenant, 1, 1e7}, "",
           kSemantic, "back to which feedback can still teach, since prompt and answer are kept"},
          {"limits.decisions_per_tenant", Number{&c.prompt.decisions_per_tenant, 1, 1e7}, "queries",
           kSemantic, "back to which feedback still counts for the prompt that was chosen"},
          {"limits.documents_per_tenant", Number{&c.index.documents_per_tenant, 1, 1e7}, "",
           kSemantic, "further ones are refused"},
          {"limits.chunks_per_tenant", Number{&c.index.chunks_per_tenant, 1, 1e8}, "", kSemantic,
           "of all documents; further documents are refused"},
          {"limits.deleted_documents_per_tenant", Number{&c.index.tombstones_per_tenant, 0, 1e7},
           "", kSemantic, "whose version count is kept"},
          {"limits.prompts_per_tenant", Number{&c.recall.prompts_per_tenant, 1, 1000}, "",
           kSemantic, "with the default prompt; further ones are refused"},
          {"limits.examples_per_tenant", Number{&c.prompt.examples_per_tenant, 1, 1e6}, "",
           kSemantic, "for few-shots; the least helpful goes first"},
          {"limits.lessons_per_tenant", Number{&c.adapters.journal_exercises, 1, 1e7}, "",
           kSemantic,
           "kept to rebuild an adapter without some; older ones can no longer be unlearnt"},
      });
}

void AddSearch(Config& c, Fields& fields) {
  Append(
      fields,
      {
          {"prepare.chunk_chars", Number{&c.prepare.chunk_chars, 64, 100'000}, "", kSemantic,
           "of a passage, at most"},
          {"prepare.overlap_sentence", Flag{&c.prepare.overlap_sentence}, "", kSemantic,
           "a passage begins with the last sentence of the one before"},
          {"prepare.chunks_per_document", Number{&c.prepare.chunks_per_document, 1, 1e6}, "",
           kSemantic, "a document with more is refused"},
          {"prepare.title_chars", Number{&c.prepare.title_chars, 1, 65536}, "", kSemantic,
           "of a document's title, cleaned"},
          {"prepare.query_chars", Number{&c.prepare.query_chars, 1, 1 << 20}, "", kSemantic,
           "of a question, cleaned"},
          {"prepare.answer_chars", Number{&c.prepare.answer_chars, 1, 1 << 20}, "", kSemantic,
           "of an answer, correction or system prompt in an event, cleaned"},

          {"index.passages", Number{&c.index.passages, 1, 64}, "", kSemantic,
           "found for a question, at most"},
          {"index.candidates", Number{&c.index.candidates, 1, 10'000}, "chunks", kSemantic,
           "the best by vectors and the best by words that are ranked together; index.passages or "
           "more"},
          {"index.dense_weight", Number{&c.index.dense_weight, 0, 1}, "", kSemantic,
           "of vectors against words: 1 is vectors only"},
          {"index.bm25_k1", Number{&c.index.bm25_k1, 0, 10}, "", kSemantic,
           "how much a word's repetition counts"},
          {"index.bm25_b", Number{&c.index.bm25_b, 0, 1}, "", kSemantic,
           "how much a passage's length counts against it"},
      });
}

void AddLearning(Config& c, Fields& fields) {
  using enum Path::Base;
  LearnSettings& l = c.learn;
  Append(
      fields,
      {
          {"adapt.enabled", Flag{&c.adapt.enabled}, "", kSemantic, "false: the base model serves"},
          {"adapt.rank", Number{&l.rank, 1, 64}, "", kSemantic, "of the adapter's matrices"},
          {"adapt.alpha", Number{&l.alpha, .001, 1024}, "", kSemantic,
           "the adapter acts with the weight alpha / rank"},
          {"adapt.scale", Choice{&l.scale, {"alpha", "rslora"}}, "", kSemantic,
           "rslora: with the weight alpha / sqrt(rank), which stays as strong at high ranks"},
          {"adapt.modules",
           Subset{&l.modules,
                  {"q", "k", "v", "o", "gate", "up", "down"},
                  {{"all", {"q", "k", "v", "o", "gate", "up", "down"}},
                   {"mlp", {"gate", "up", "down"}}}},
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
          {"adapt.publish_every_steps", Number{&c.adapt.publish_every_steps, 1, 10'000}, "",
           kSemantic, "until what was learnt is served as a new version"},
          {"adapt.versions_kept", Number{&c.adapt.versions_kept, 1, 1000}, "", kSemantic,
           "per tenant: how far a rollback can go"},
          {"adapt.snapshot_every_versions", Number{&c.adapt.snapshot_every_versions, 0, 1e6}, "",
           kSemantic, "until one is written as files for other servers and browsers; 0: none is"},
          {"adapt.user_window_events", Number{&c.adapt.user_window_events, 1, 10'000}, "",
           kSemantic, "of a tenant, over which a user's share is counted"},
          {"adapt.user_steps_max", Number{&c.adapt.user_steps_max, 0, 10'000}, "", kSemantic,
           "of one user in that window; 0: no cap"},
          {"adapt.import_folder", Path{&c.import_folder, kConfigFolder}, "", kOperational,
           "of adapters that events may bring in; empty: imports are refused"},
      });
}

void AddAnswering(Config& c, Fields& fields) {
  PromptOptions& p = c.prompt;
  Append(fields,
         {
             {"prompt.system", Text{&p.default_system, 0, 16 << 10}, "bytes", kSemantic,
              "the default prompt, until an event replaces it"},
             {"prompt.default_prompt_id", Text{&p.default_prompt_id, 1, 256}, "bytes", kSemantic,
              "what events call the default prompt"},
             {"prompt.presets", Presets{&p.presets, 1, 16}, "presets", kSemantic,
              "ways to draw an answer, among which feedback chooses"},
             {"prompt.policy_gamma", Number{&p.gamma, 0, 1e6}, "", kSemantic,
              "how much the best prompt and preset is preferred; 0: always taken"},
             {"prompt.reward_decay", Number{&p.reward_decay, .01, 1}, "", kSemantic,
              "of a prompt's past rewards with every new one"},
             {"prompt.prior_mean", Number{&p.prior_mean, 0, 1}, "", kSemantic,
              "reward expected of a prompt without feedback"},
             {"prompt.prior_weight", Number{&p.prior_weight, .001, 1e6}, "rewards", kSemantic,
              "that the expectation counts as"},
             {"prompt.few_shots", Number{&p.few_shots, 0, 16}, "examples", kSemantic,
              "shown with a question, at most; 0: none are kept either"},
             {"prompt.few_shot_min_similarity", Number{&p.few_shot_min_similarity, -1, 1}, "",
              kSemantic,
              "of an example to the question (cosine and helpfulness); every embedder has another "
              "scale"},
             {"prompt.few_shot_weight", Number{&p.few_shot_weight, 0, 10}, "", kSemantic,
              "of proven helpfulness against similarity"},
             {"prompt.corrections_as_examples", Flag{&p.corrections_as_examples}, "", kSemantic,
              "a correction also becomes an example"},

             {"respond.prompt_tokens_max", Number{&c.respond.prompt_tokens_max, 16, 131072}, "",
              kSemantic, "beyond which passages and examples are left out"},

             {"cache.answers_per_tenant", Number{&c.respond.cache_entries_per_tenant, 0, 1e7}, "",
              kSemantic,
              "that are given again while passages, prompt and adapter are the same; 0: none"},
         });
}

void AddRunning(Config& c, Fields& fields) {
  using enum Path::Base;
  Append(fields,
         {
             {"checkpoint.enabled", Flag{&c.checkpoint.enabled}, "", kOperational,
              "false: after a stop everything is computed again"},
             {"checkpoint.folder", Path{&c.checkpoint.folder, kWorkingFolder}, "", kOperational,
              "empty: state/ below output.folder"},
             {"checkpoint.every_events", Number{&c.checkpoint.every_events, 1, 1e9}, "",
              kOperational, "of a partition"},
             {"checkpoint.backup_every_cuts", Number{&c.checkpoint.backup_every_cuts, 0, 1e9}, "",
              kOperational,
              "a copy of the state, after the first cut and then after so many; 0: none"},
             {"checkpoint.at_end", Flag{&c.checkpoint.at_end}, "", kOperational,
              "also when the input ends or the process is told to stop"},

             {"executor.threads", Number{&c.executor.threads, 1, 256}, "", kOperational,
              "each with a context of every model"},
             {"executor.lessons_waiting_max", Number{&c.executor.lessons_waiting_max, 0, 1e6}, "",
              kOperational, "beyond which feedback waits until it is learnt, and slows its source"},
             {"executor.drain_ms", Number{&c.drain_ms, 0, 3'600'000}, "", kOperational,
              "for unfinished work after a stop; the rest is done again next time"},

             {"graph.threads", Number{&c.graph_threads, 1, 256}, "", kOperational,
              "beside those of the executor"},

             {"monitor.address", Text{&c.monitor.address, 1, 253}, "bytes", kOperational,
              "to listen at; there is no authentication, so loopback or a network of your own"},
             {"monitor.port", Number{&c.monitor.port, 0, 65535}, "", kOperational,
              "of /metrics, /healthz, /readyz and /status; 0: none"},

             {"watchdog.silent_ms", Number{&c.watchdog.silent_ms, 0, 86'400'000}, "", kOperational,
              "without a committed outcome of a partition that has events in flight, until it is "
              "said where the oldest is; 0: never"},
             {"watchdog.poll_ms", Number{&c.watchdog.poll_ms, 0, 86'400'000}, "", kOperational,
              "in which the source is not asked for events, until it is said; 0: never"},

             {"report.held_out", Path{&c.report.held_out, kConfigFolder}, "", kOperational,
              "questions with answers that are never learnt from, JSON lines; empty: none"},
             {"report.html", Path{&c.report.html, kWorkingFolder}, "", kOperational,
              "page to write; empty: none"},
             {"report.show_answers", Number{&c.report.show_answers, 0, 100}, "", kOperational,
              "to held-out questions, before and after"},
         });
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

Fields FieldsOf(DecodingPreset& preset, const std::string& path) {
  Decoding& d = preset.decoding;
  return {
      {path + ".name", Text{&preset.name, 1, 64}, "bytes", kSemantic,
       "what outcomes call it; every preset has another"},
      {path + ".temperature", Number{&d.temperature, 0, 2}, "", kSemantic,
       "0 takes the likeliest token, more varies more"},
      {path + ".top_p", Number{&d.top_p, .01, 1}, "", kSemantic,
       "draws from the likeliest tokens that have this probability together"},
      {path + ".top_k", Number{&d.top_k, 0, 1e6}, "tokens", kSemantic,
       "draws from this many likeliest tokens; 0: from all"},
      {path + ".max_tokens", Number{&d.max_tokens, 1, 4096}, "", kSemantic,
       "of an answer; below model.window_tokens"},
  };
}

Fields FieldsOf(Config& config) {
  Fields fields;
  AddPlaces(config, fields);
  AddLimits(config, fields);
  AddSearch(config, fields);
  AddLearning(config, fields);
  AddAnswering(config, fields);
  AddRunning(config, fields);
  return fields;
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
