#include "pipeline/config/config.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

#include "pipeline/config/config_fields.h"

namespace nudge {
namespace {

using namespace keys;
using Json = nlohmann::json;

constexpr size_t kFileBytes = 1 << 20;
constexpr int kDepth = 8;
constexpr size_t kProblems = 50;  // reported at most
constexpr char kCachePlaceholder[] = "${CACHE}";

// For messages: at most 64 bytes, cut between characters, on one line.
std::string Shown(std::string_view text) {
  constexpr size_t kShownBytes = 64;
  size_t end = std::min(text.size(), kShownBytes);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;
  }
  std::string shown(text.substr(0, end));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return end < text.size() ? shown + "..." : shown;
}

std::string KindOf(const Json& value) {
  if (value.is_string()) return "a text";
  if (value.is_number()) return "a number";
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_array()) return "a list";
  return value.is_object() ? "an object" : "null";
}

// Edits (insert, delete, replace, swap of neighbours) from one to the other: the optimal string
// alignment distance.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

// ---- Reading ------------------------------------------------------------------------------------

struct Folders {
  std::filesystem::path config;

  std::string Cache() const {
    if (const char* cache = std::getenv("NUDGE_CACHE"); cache != nullptr && *cache != '\0') {
      return cache;
    }
    std::error_code ignored;
    std::filesystem::path folder =
        std::filesystem::absolute(config.empty() ? "." : config, ignored).lexically_normal();
    for (;; folder = folder.parent_path()) {
      if (std::filesystem::is_directory(folder / ".cache" / "models", ignored)) {
        return (folder / ".cache").string();
      }
      if (folder == folder.parent_path()) return ".cache";
    }
  }
};

class Problems {
 public:
  void Add(const std::string& path, std::string_view message) {
    paths_.insert(path);
    if (++count_ > kProblems) return;
    lines_.push_back(path + ": " + std::string(message));
  }
  bool full() const { return count_ >= kProblems; }
  bool Has(const std::string& path) const { return paths_.contains(path); }
  bool empty() const { return count_ == 0; }
  std::string Message() const {
    std::string message = Join(lines_, "\n");
    if (count_ > kProblems) {
      message += "\nand " + std::to_string(count_ - kProblems) + " more problems";
    }
    return message;
  }

 private:
  size_t count_ = 0;
  std::vector<std::string> lines_;
  std::set<std::string> paths_;
};

class Reader {
 public:
  Reader(Fields fields, const Folders& folders, Problems& problems)
      : fields_(std::move(fields)), folders_(folders), problems_(problems) {}

  // `prefix` is the object's own path with a dot behind it, or empty.
  void Read(const Json& object, const std::string& prefix) const {
    for (const auto& item : object.items()) {
      const std::string& key = item.key();
      const Json& value = item.value();
      const std::string path = prefix + (key.empty() ? "\"\"" : Shown(key));
      const auto field = std::find_if(fields_.begin(), fields_.end(),
                                      [&](const Field& f) { return f.path == prefix + key; });
      if (key.find('.') != std::string::npos) {
        problems_.Add(path, "a key with a dot in it: sections are objects inside each other");
      } else if (field != fields_.end()) {
        std::visit([&](const auto& slot) { Set(*field, slot, value); }, field->slot);
      } else if (!IsSection(prefix + key)) {
        problems_.Add(path, "unknown key" + Suggestion(path));
      } else if (!value.is_object()) {
        problems_.Add(path, "expected an object, got " + KindOf(value));
      } else {
        Read(value, path + ".");
      }
    }
  }

 private:
  bool IsSection(const std::string& path) const {
    return std::any_of(fields_.begin(), fields_.end(),
                       [&](const Field& f) { return f.path.starts_with(path + "."); });
  }

  // The key that was meant: the same one in another place, or one that is a few edits away.
  std::string Suggestion(const std::string& path) const {
    if (problems_.full()) return "";  // nobody would see it
    std::set<std::string> known;
    for (const Field& field : fields_) {
      known.insert(field.path);
      known.insert(field.path.substr(0, field.path.find('.')));
    }
    std::string best;
    size_t least = std::max<size_t>(2, path.size() / 4) + 1;
    for (const std::string& candidate : known) {
      const size_t distance = LastPart(candidate) == LastPart(path) ? 1 : Distance(path, candidate);
      if (distance < least) {
        least = distance;
        best = candidate;
      }
    }
    return best.empty() ? "" : "; did you mean " + best + "?";
  }

  bool Expect(const Field& field, bool holds, std::string_view wanted, const Json& value) const {
    if (!holds) {
      problems_.Add(field.path, "expected " + std::string(wanted) + ", got " + KindOf(value));
    }
    return holds;
  }

  void Set(const Field& field, const Flag& slot, const Json& value) const {
    if (Expect(field, value.is_boolean(), "true or false", value)) *slot.at = value.get<bool>();
  }

  template <class T>
  void Set(const Field& field, const Number<T>& slot, const Json& value) const {
    constexpr bool kWhole = !std::is_same_v<T, double>;
    constexpr const char* kWanted = kWhole ? "a whole number" : "a number";
    if (!Expect(field, value.is_number(), kWanted, value)) return;
    const double number = value.get<double>();
    if (kWhole && number != std::trunc(number)) {
      problems_.Add(field.path, "expected a whole number, got " + ToText(number));
    } else if (number < slot.least || number > slot.most) {
      problems_.Add(field.path, ToText(number) + " is outside " + ToRange(slot.least, slot.most));
    } else if constexpr (std::is_same_v<T, std::chrono::milliseconds>) {
      *slot.at = T(std::llround(number));
    } else {
      *slot.at = static_cast<T>(number);
    }
  }

  void Set(const Field& field, const Text& slot, const Json& value) const {
    if (!Expect(field, value.is_string(), "a text", value)) return;
    std::string text = value.get<std::string>();
    if (const auto bytes = static_cast<double>(text.size());
        bytes < slot.least_bytes || bytes > slot.most_bytes) {
      problems_.Add(field.path, "a text of " + ToText(bytes) + " bytes, outside " +
                                    ToRange(slot.least_bytes, slot.most_bytes));
    } else {
      *slot.at = std::move(text);
    }
  }

  void Set(const Field& field, const Choice& slot, const Json& value) const {
    if (!Expect(field, value.is_string(), "a text", value)) return;
    std::string text = value.get<std::string>();
    if (std::find(slot.names.begin(), slot.names.end(), text) == slot.names.end()) {
      problems_.Add(field.path, "'" + Shown(text) + "' is none of " + Join(slot.names, ", "));
    } else {
      *slot.at = std::move(text);
    }
  }

  void Set(const Field& field, const Subset& slot, const Json& value) const {
    std::vector<std::string> words;
    for (const auto& [word, list] : slot.words) words.push_back(word);
    const std::string wanted = "a list of " + Join(slot.names, ", ") + ", or " + Join(words, ", ");
    if (value.is_string()) {
      const auto word = slot.words.find(value.get<std::string>());
      if (word == slot.words.end()) {
        problems_.Add(field.path, "'" + Shown(value.get<std::string>()) + "' is not " + wanted);
      } else {
        Choose(slot, {word->second.begin(), word->second.end()});
      }
      return;
    }
    if (!Expect(field, value.is_array(), wanted, value)) return;
    std::set<std::string> given;
    for (const Json& item : value) {
      const bool known = item.is_string() && std::find(slot.names.begin(), slot.names.end(),
                                                       item.get<std::string>()) != slot.names.end();
      if (!known || !given.insert(item.get<std::string>()).second) {
        problems_.Add(field.path, (item.is_string() ? "'" + Shown(item.get<std::string>()) + "'"
                                                    : KindOf(item)) +
                                      (known ? " is given twice" : " in it; expected " + wanted));
        return;
      }
    }
    if (given.empty()) return problems_.Add(field.path, "an empty list; expected " + wanted);
    Choose(slot, given);
  }

  static void Choose(const Subset& slot, const std::set<std::string>& given) {
    for (size_t i = 0; i < slot.names.size(); ++i) slot.at[i] = given.contains(slot.names[i]);
  }

  void Set(const Field& field, const Path& slot, const Json& value) const {
    if (!Expect(field, value.is_string(), "a text", value)) return;
    std::string text = value.get<std::string>();
    if (text.size() > kPathBytes || text.find('\0') != std::string::npos) {
      problems_.Add(field.path, "no path: it is over " + std::to_string(kPathBytes) +
                                    " bytes or has a NUL in it");
      return;
    }
    if (text.starts_with(kCachePlaceholder)) {
      text.replace(0, sizeof(kCachePlaceholder) - 1, folders_.Cache());
    } else if (text.find("${") != std::string::npos) {
      problems_.Add(field.path, "'" + Shown(text) + "' has an unknown placeholder: only " +
                                    kCachePlaceholder + " at the beginning is known");
      return;
    } else if (slot.base == Path::Base::kConfigFolder && !text.empty() && !IsStandard(slot, text)) {
      text = (folders_.config / text).lexically_normal().string();
    }
    *slot.at = std::move(text);
  }

  void Set(const Field& field, const Properties& slot, const Json& value) const {
    if (!Expect(field, value.is_object(), "an object", value)) return;
    for (const auto& item : value.items()) {
      if (item.value().is_string()) {
        (*slot.at)[item.key()] = item.value().get<std::string>();
      } else {
        problems_.Add(field.path + "." + Shown(item.key()),
                      "expected a text, got " + KindOf(item.value()));
      }
    }
  }

  void Set(const Field& field, const Presets& slot, const Json& value) const {
    if (!Expect(field, value.is_array(), "a list", value)) return;
    if (const auto size = static_cast<double>(value.size());
        size < slot.least || size > slot.most) {
      problems_.Add(field.path, "a list of " + ToText(size) + " presets, outside " +
                                    ToRange(slot.least, slot.most));
      return;
    }
    slot.at->clear();
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string path = field.path + "[" + std::to_string(i) + "]";
      DecodingPreset preset;
      if (value[i].is_object()) {
        Reader(OptionsOf(preset, path), folders_, problems_).Read(value[i], path + ".");
      } else {
        problems_.Add(path, "expected an object, got " + KindOf(value[i]));
      }
      slot.at->push_back(std::move(preset));
    }
  }

  // "-" is standard input where there must be an input.
  static bool IsStandard(const Path& slot, const std::string& text) {
    return slot.standard_input && text == "-";
  }

  const Fields fields_;
  const Folders& folders_;
  Problems& problems_;
};

std::string LineAndColumn(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, byte > 0 ? byte - 1 : 0);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// The text as JSON; keys given twice are problems (the last one counts), all else that is wrong is
// a StartError.
Json ParseJson(std::string_view text, Problems& problems) {
  struct Open {
    std::string key;  // the last one
    std::set<std::string> keys;
  };
  std::vector<Open> open;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kDepth) {
      throw StartError("objects and lists inside each other are more than " +
                       std::to_string(kDepth) + " levels deep");
    }
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      open.back().key = value.get_ref<const std::string&>();
      if (!open.back().keys.insert(open.back().key).second) {
        std::string path;
        for (const Open& object : open) path += (path.empty() ? "" : ".") + Shown(object.key);
        problems.Add(path, "given twice");
      }
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::parse_error& error) {
    throw StartError("not JSON: " + LineAndColumn(text, error.byte) + ": " +
                     (error.byte > text.size() ? "it ends too early"
                                               : "this cannot stand here (a comma too many or too "
                                                 "few, a missing quote, a comment, bytes "
                                                 "that are not UTF-8?)"));
  } catch (const Json::out_of_range&) {
    throw StartError("not JSON: a number is too large");
  }
}

// A preset's fields against each other, the other presets and the model.
void CheckPresets(const Config& config, Problems& problems) {
  std::set<std::string> names;
  for (size_t i = 0; i < config.processor.prompt.presets.size(); ++i) {
    const DecodingPreset& preset = config.processor.prompt.presets[i];
    const std::string path = "prompt.presets[" + std::to_string(i) + "]";
    if (problems.Has(path)) continue;
    if (preset.name.empty()) {
      if (!problems.Has(path + ".name")) problems.Add(path + ".name", "missing");
    } else if (!names.insert(preset.name).second) {
      problems.Add(path + ".name", "'" + Shown(preset.name) + "' is another preset's name too");
    }
    if (preset.decoding.max_tokens >= config.model.local.window_tokens &&
        !problems.Has("model.window_tokens")) {
      problems.Add(path + ".max_tokens", std::to_string(preset.decoding.max_tokens) +
                                             " leaves no room for a prompt: model.window_tokens "
                                             "is " +
                                             std::to_string(config.model.local.window_tokens));
    }
  }
}

// Something must say where events come from.
void CheckInput(const Config& config, Problems& problems) {
  const bool is_there = !config.input.path.empty() || !config.kafka.brokers.empty() ||
                        !config.event_log.folder.empty();
  if (!is_there && !problems.Has("input.path") && !problems.Has("kafka.brokers") &&
      !problems.Has("event_log.folder")) {
    problems.Add("input.path",
                 "missing: recorded events for `nudge replay` (or kafka.brokers, for `nudge run`; "
                 "or event_log.folder, for `nudge serve`)");
  }
  if (config.event_log.retention_bytes_max > 0 && !config.checkpoint.enabled) {
    problems.Add("event_log.retention_bytes_max",
                 "without checkpoint.enabled everything is needed after a stop: 0 alone");
  }
}

// What rests on many people teaching one adapter, or on one adapter for everybody.
void CheckScope(const Config& config, Problems& problems) {
  if (!config.processor.adapt.is_by_user()) return;
  if (config.model.local.learner.quorum_people > 1 && !problems.Has("adapt.quorum_people")) {
    problems.Add("adapt.quorum_people",
                 ToText(config.model.local.learner.quorum_people) +
                     " people never agree on an adapter that one user teaches: 1 alone where "
                     "adapt.scope is user");
  }
  if (!config.report.held_out.empty()) {
    problems.Add("report.held_out",
                 "questions of nobody, which no adapter answers where adapt.scope is user: leave "
                 "it out, or set adapt.scope to tenant");
  }
}

// The answers of another server repeat for no log, and a configuration must not say that they do.
void CheckRemote(const Config& config, Problems& problems) {
  if (problems.Has("deterministic") || problems.Has("model.backend")) return;
  if (config.model.backend != "openai") {
    if (!config.deterministic) {
      problems.Add("deterministic", "only true is supported, but with model.backend openai");
    }
    return;
  }
  if (config.deterministic) {
    problems.Add("deterministic",
                 "answers of another server (model.backend openai) are no function of the events: "
                 "set deterministic to false");
  }
  for (const std::string& problem : WrongOptions(config.model.remote)) {
    const size_t colon = problem.find(": ");
    const std::string path = problem.substr(0, colon);
    if (!problems.Has(path)) problems.Add(path, problem.substr(colon + 2));
  }
}

// What no single field can tell. Fields that have a problem already are left out: their values are
// still the defaults.
void CheckTogether(Config& config, Problems& problems) {
  for (const Field& field : FieldsOf(config)) {
    const auto* path = std::get_if<Path>(&field.slot);
    if (path != nullptr && path->required && path->at->empty() && !problems.Has(field.path)) {
      problems.Add(field.path, "missing: " + std::string(field.what));
    }
  }
  CheckInput(config, problems);
  const auto sound = [&](std::initializer_list<const char*> paths) {
    return std::none_of(paths.begin(), paths.end(),
                        [&](const char* path) { return problems.Has(path); });
  };
  if (sound({"model.backend", "model.language_model"}) && config.model.backend != "template" &&
      config.model.local.language_model.empty()) {
    problems.Add(
        "model.language_model",
        "missing: the " + config.model.backend +
            " backend needs a GGUF file (model.backend \"template\" runs without a model)");
  }
  if (const double budget = config.model.local.learner.kl_budget;
      budget > 0 && budget < kLeastKlBudget) {
    problems.Add("adapt.kl_budget",
                 ToText(budget) + " is neither 0 nor at least " + ToText(kLeastKlBudget));
  }
  CheckScope(config, problems);
  CheckRemote(config, problems);
  if (sound({"index.candidates", "index.passages"}) &&
      config.processor.index.candidates < config.processor.index.passages) {
    problems.Add("index.candidates", std::to_string(config.processor.index.candidates) +
                                         " is below index.passages, which is " +
                                         std::to_string(config.processor.index.passages));
  }
  // Key and chain are counted in outcome_bytes.
  if (sound({"limits.outcome_bytes", "kafka.message_bytes"}) && !config.kafka.brokers.empty() &&
      config.processor.graph.emit.outcome_bytes > config.kafka.message_bytes) {
    problems.Add("limits.outcome_bytes", std::to_string(config.processor.graph.emit.outcome_bytes) +
                                             " is above kafka.message_bytes, which is " +
                                             std::to_string(config.kafka.message_bytes));
  }
  for (const std::string& problem : WrongOptions(config.follow)) {
    const size_t colon = problem.find(": ");
    problems.Add(problem.substr(0, colon), problem.substr(colon + 2));
  }
  if (!config.gateway.signing_key_file.empty() && config.http.keys_file.empty()) {
    problems.Add("gateway.signing_key_file",
                 "needs http.keys_file: without it whoever reaches the door commands");
  }
  CheckPresets(config, problems);
}

}  // namespace

Config ParseConfig(std::string_view text, const std::string& folder) {
  if (text.size() > kFileBytes) {
    throw StartError("over " + std::to_string(kFileBytes) + " bytes: not a configuration");
  }
  Problems problems;
  Json json = ParseJson(text, problems);
  if (!json.is_object()) throw StartError("expected an object, got " + KindOf(json));
  json.erase("$schema");  // for editors
  Config config;
  const Folders folders{folder};
  Reader(FieldsOf(config), folders, problems).Read(json, "");
  CheckTogether(config, problems);
  if (!problems.empty()) throw StartError(problems.Message());
  return config;
}

Config ReadConfig(const std::string& path) {
  const std::string text = ReadWhole(path, kFileBytes);
  try {
    return ParseConfig(text, std::filesystem::path(path).parent_path().string());
  } catch (const StartError& error) {
    std::istringstream lines(error.what());
    std::vector<std::string> named;
    for (std::string line; std::getline(lines, line);) named.push_back(path + ": " + line);
    throw StartError(Join(named, "\n"));
  }
}

void RequireInputs(const Config& config) {
  Config copy = config;
  Problems problems;
  for (const Field& field : FieldsOf(copy)) {
    const auto* path = std::get_if<Path>(&field.slot);
    if (path == nullptr || path->base != Path::Base::kConfigFolder) continue;
    // A gateway and a follower read their own, which a processor of the same file should not have.
    const bool is_gateways =
        field.path.starts_with("gateway.") || field.path.starts_with("follow.");
    const bool is_openai = field.path.starts_with("model.openai.");
    const bool is_model = field.path.starts_with("model.") && !is_openai;
    const std::string& backend = config.model.backend;
    const bool used =
        !is_gateways && !(is_openai && backend != "openai") && !(is_model && backend == "template");
    const bool named = !path->at->empty() && !(path->standard_input && *path->at == "-");
    std::error_code ignored;
    if (used && named && !std::filesystem::exists(*path->at, ignored)) {
      problems.Add(field.path,
                   *path->at + " is not there" + (is_model ? ": run scripts/setup" : ""));
    }
  }
  if (!problems.empty()) throw StartError(problems.Message());
}

}  // namespace nudge
