// labels: unit
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/serve/serving.h"
#include "stages/adapt.h"
#include "stages/index.h"
#include "stages/model/learn/learner.h"
#include "stages/model/local_backend.h"
#include "stages/prepare.h"
#include "stages/prompt.h"
#include "stages/recall.h"
#include "tests/fuzz/config_fuzz.cpp"
#include "tests/temp_folder.h"

using namespace nudge;

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path kRoot = NUDGE_SOURCE_DIR;

// The smallest configuration, with `more` merged into it.
std::string With(const Json& more) {
  Json json = {{"input", {{"path", "events.jsonl"}}},
               {"output", {{"folder", "out"}}},
               {"model", {{"backend", "template"}}}};
  json.merge_patch(more);
  return json.dump();
}

Json Nested(const std::string& path, const Json& value) {
  const size_t dot = path.find('.');
  if (dot == std::string::npos) return {{path, value}};
  return {{path.substr(0, dot), Nested(path.substr(dot + 1), value)}};
}

Config Parsed(const Json& more) {
  return ParseConfig(With(more), "");
}

// What is wrong with the text; empty: nothing.
std::string WrongWithText(const std::string& text) {
  try {
    (void)ParseConfig(text, "");
  } catch (const StartError& error) {
    return error.what();
  }
  return "";
}

std::string WrongWith(const Json& more) {
  return WrongWithText(With(more));
}

std::string WrongWithFile(const std::string& path) {
  try {
    (void)ReadConfig(path);
  } catch (const StartError& error) {
    return error.what();
  }
  return "";
}

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string Content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  BOOST_TEST_REQUIRE(file.good(), path << " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

void Write(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

void AddKeys(const Json& object, const std::string& prefix, std::map<std::string, Json>& keys) {
  for (const auto& [name, member] : object["properties"].items()) {
    if (member.contains("properties")) {
      BOOST_TEST(member["additionalProperties"] == false, prefix << name);
      AddKeys(member, prefix + name + ".", keys);
    } else {
      keys[prefix + name] = member;
    }
  }
}

// Every key of the schema: path -> what it says.
std::map<std::string, Json> Keys() {
  std::map<std::string, Json> keys;
  AddKeys(Json::parse(ConfigSchema()), "", keys);
  keys.erase("$schema");
  return keys;
}

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    if (value != nullptr) {
      setenv(name, value, 1);
    } else {
      unsetenv(name);
    }
  }
  ~Environment() {
    if (old_) {
      setenv(name_, old_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

// ---- The table ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_number_is_taken_at_both_ends_of_its_range_and_refused_beyond) {
  int numbers = 0;
  for (const auto& [path, schema] : Keys()) {
    if (!schema.contains("minimum")) continue;
    ++numbers;
    const bool whole = schema["type"] == "integer";
    const double least = schema["minimum"].get<double>();
    const double most = schema["maximum"].get<double>();
    const double step = whole ? 1 : (most - least) / 1000;
    for (const double good : {least, most}) {
      Json more = Nested(path, whole ? Json(std::llround(good)) : Json(good));
      if (path == "model.window_tokens") {
        more["prompt"]["presets"] = {{{"name", "short"}, {"max_tokens", 8}}};
      }
      if (path == "index.candidates") more["index"]["passages"] = 1;
      BOOST_TEST(WrongWith(more) == "");
    }
    for (const double bad : {least - step, most + step}) {
      const std::string wrong = WrongWith(Nested(path, bad));
      BOOST_TEST(wrong.starts_with(path + ": "), path << ": " << wrong);
      BOOST_TEST(Holds(wrong, " is outside "), path << ": " << wrong);
    }
  }
  BOOST_TEST(numbers > 50);
}

BOOST_AUTO_TEST_CASE(every_key_refuses_values_of_another_type) {
  const std::map<std::string, std::string> wanted = {
      {"boolean", "true or false"}, {"integer", "a whole number"}, {"number", "a number"},
      {"string", "a text"},         {"array", "a list"},           {"object", "an object"}};
  for (const auto& [path, schema] : Keys()) {
    if (schema.contains("oneOf")) continue;  // adapt.modules, below
    const std::string type = schema.value("type", "string");
    const std::string expected = path + ": expected " + wanted.at(type) + ", got ";
    const std::string wrong = WrongWith(Nested(path, Json::object({{"a", 1}})));
    if (type == "object") {
      BOOST_TEST(Holds(wrong, path + ".a: expected a text, got a number"));
    } else {
      BOOST_TEST(Holds(wrong, expected + "an object"));
    }
    if (type != "array") {
      BOOST_TEST(Holds(WrongWith(Nested(path, Json::array())), expected + "a list"));
    }
    if (type == "string") {
      BOOST_TEST(Holds(WrongWith(Nested(path, 7)), expected + "a number"));
    } else {
      BOOST_TEST(Holds(WrongWith(Nested(path, "7")), expected + "a text"));
    }
    if (type != "boolean") {
      BOOST_TEST(Holds(WrongWith(Nested(path, true)), expected + "true"));
    }
  }
}

BOOST_AUTO_TEST_CASE(adapted_modules_are_a_list_in_any_order_or_a_word) {
  const auto modules = [](const Json& value) {
    return Parsed(Nested("adapt.modules", value)).model.local.learner.modules;
  };
  using Chosen = std::array<bool, kLoraModules>;  // of q, k, v, o, gate, up and down
  BOOST_TEST((modules("mlp") == Chosen{false, false, false, false, true, true, true}));
  BOOST_TEST((modules("all") == Chosen{true, true, true, true, true, true, true}));
  BOOST_TEST((modules({"v", "q"}) == Chosen{true, false, true, false, false, false, false}));
  BOOST_TEST(SemanticSha256(Parsed(Nested("adapt.modules", {"down", "gate", "up"}))) ==
             SemanticSha256(Parsed(Nested("adapt.modules", "mlp"))));
  const auto wrong = [](const Json& value) { return WrongWith(Nested("adapt.modules", value)); };
  BOOST_TEST(Holds(wrong("attention"), "adapt.modules: 'attention' is not a list of q, k, v"));
  BOOST_TEST(Holds(wrong({"q", "lm_head"}), "adapt.modules: 'lm_head' in it; expected a list of"));
  BOOST_TEST(Holds(wrong({"q", "q"}), "adapt.modules: 'q' is given twice"));
  BOOST_TEST(Holds(wrong({"q", 3}), "adapt.modules: a number in it"));
  BOOST_TEST(Holds(wrong(Json::array()), "adapt.modules: an empty list"));
  BOOST_TEST(Holds(wrong(7), "adapt.modules: expected a list of"));
  BOOST_TEST(Holds(WrongWith(Nested("adapt.scale", "dora")), "'dora' is none of alpha, rslora"));
  BOOST_TEST(Holds(WrongWith(Nested("adapt.products", "f16")),
                   "'f16' is none of auto, f32, bf16, portable"));
  BOOST_TEST(Holds(WrongWith(Nested("adapt.base_memory", "f32")), "'f32' is none of copy, file"));
}

BOOST_AUTO_TEST_CASE(the_semantic_hash_follows_the_keys_that_change_outcomes_and_no_others) {
  testing::TempFolder folder;
  Write(folder.path() + "/anchors", "a text");
  const std::string before = SemanticSha256(Parsed(Json::object()));
  int semantic = 0;
  for (const auto& [path, schema] : Keys()) {
    if (path == "deterministic") continue;  // follows from model.backend
    Json other;
    if (path == "model.backend") {
      other = "local";
    } else if (path == "adapt.anchors_path" || path == "commands.keys_file") {
      other = folder.path() + "/anchors";
    } else if (path == "adapt.modules") {
      other = "mlp";
    } else if (path == "prompt.presets") {
      other = {{{"name", "warm"}, {"temperature", .7}}};
    } else if (schema.contains("enum")) {
      other = schema["enum"].back() == schema["default"] ? schema["enum"].front()
                                                         : schema["enum"].back();
    } else if (schema["type"] == "object") {
      other = {{"sasl.username", "somebody"}};
    } else if (schema["type"] == "boolean") {
      other = !schema["default"].get<bool>();
    } else if (schema["type"] == "string") {
      other = path == "follow.server_url" ? "http://another/v1" : "another";
    } else {
      other = schema["default"] == schema["maximum"] ? schema["minimum"] : schema["maximum"];
    }
    Json more = Nested(path, other);
    if (path == "model.backend") more["model"]["language_model"] = "a.gguf";
    if (path == "gateway.signing_key_file") more["http"]["keys_file"] = "keys.jsonl";
    const bool changes = SemanticSha256(Parsed(more)) != before;
    BOOST_TEST(changes == (schema["x-changes"] == "outcomes"), path);
    semantic += changes;
  }
  BOOST_TEST(semantic > 50);
}

// Where the weights lie changes no outcome; in what they are multiplied does.
BOOST_AUTO_TEST_CASE(products_and_base_memory_become_the_form_of_the_base_model) {
  const auto form = [](const char* products, const char* memory) {
    const Json adapt = {{"adapt", {{"products", products}, {"base_memory", memory}}}};
    return BaseFormOf(Parsed(adapt).model.local);
  };
  const BaseProducts fastest = Bf16IsFaster() ? BaseProducts::kBf16 : BaseProducts::kF32;
  BOOST_CHECK(BaseFormOf(Parsed(Json::object()).model.local) == (BaseForm{fastest, false}));
  BOOST_CHECK(form("f32", "file") == (BaseForm{BaseProducts::kF32, true}));
  BOOST_CHECK(form("auto", "file") == (BaseForm{fastest, true}));
  BOOST_CHECK(form("portable", "copy") == (BaseForm{BaseProducts::kPortable, false}));
  if (HasBf16Products()) {
    BOOST_CHECK(form("bf16", "copy") == (BaseForm{BaseProducts::kBf16, false}));
  } else {
    BOOST_CHECK_THROW(form("bf16", "copy"), StartError);
  }
}

BOOST_AUTO_TEST_CASE(learners_that_rest_lie_beside_the_state_and_none_without_one) {
  BOOST_TEST(Parsed(Json::object()).model.local.learners_in_memory == 4U);
  BOOST_TEST(Parsed(Nested("adapt.learners_in_memory", 7)).model.local.learners_in_memory == 7U);
  BOOST_TEST(StateFolder(Parsed(Nested("output.folder", "there"))) == "there/state");
  BOOST_TEST(StateFolder(Parsed(Nested("checkpoint.folder", "here"))) == "here");
  BOOST_TEST(StateFolder(Parsed(Nested("checkpoint.enabled", false))) == "");
}

BOOST_AUTO_TEST_CASE(a_default_that_is_written_down_changes_nothing) {
  Json all;
  for (const auto& [path, schema] : Keys()) {
    if (schema.contains("default")) all.merge_patch(Nested(path, schema["default"]));
  }
  all["input"].erase("path");     // one of input.path and kafka.brokers must be there
  all["model"].erase("backend");  // the template, as in the smallest configuration
  BOOST_TEST(SemanticSha256(Parsed(all)) == SemanticSha256(Parsed(Json::object())));
}

BOOST_AUTO_TEST_CASE(the_semantic_hash_takes_a_file_by_its_content) {
  testing::TempFolder folder;
  const auto hash = [&](const std::string& name) {
    return SemanticSha256(Parsed(Nested("adapt.anchors_path", folder.path() + "/" + name)));
  };
  Write(folder.path() + "/a", "one text");
  Write(folder.path() + "/b", "one text");
  BOOST_TEST(hash("a") == hash("b"));
  Write(folder.path() + "/b", "another text");
  BOOST_TEST(hash("a") != hash("b"));
  BOOST_CHECK_EXCEPTION(hash("c"), StartError, [&](const StartError& error) {
    return error.what() == folder.path() + "/c: no such file";
  });
}

// ---- Shipped files ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_shipped_configuration_is_valid_and_its_data_is_there) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kRoot / "configs")) {
    if (entry.path().extension() != ".json" || entry.path().filename() == "schema.json") continue;
    ++count;
    BOOST_TEST(WrongWithFile(entry.path().string()) == "");
    Config config = ReadConfig(entry.path().string());
    BOOST_TEST(ToProcessorOptions(config).configuration_sha256.size() == 64U);
    config.model.backend = "template";  // models come with scripts/setup
    BOOST_CHECK_NO_THROW(RequireInputs(config));
  }
  BOOST_TEST(count >= 3);
}

BOOST_AUTO_TEST_CASE(the_shipped_schema_is_up_to_date) {
  const fs::path path = kRoot / "configs/schema.json";
  if (std::getenv("NUDGE_UPDATE_DOCS") != nullptr) Write(path, ConfigSchema());
  BOOST_TEST((Content(path) == ConfigSchema()), "run NUDGE_UPDATE_DOCS=1 config_tests");
}

BOOST_AUTO_TEST_CASE(the_documentation_lists_every_key_as_it_is) {
  const fs::path path = kRoot / "docs/CONFIGURATION.md";
  const std::string begin = "<!-- keys: written by NUDGE_UPDATE_DOCS=1 config_tests -->\n";
  const std::string end = "<!-- end of keys -->\n";
  std::string text = Content(path);
  const size_t from = text.find(begin) + begin.size();
  const size_t to = text.find(end);
  BOOST_TEST_REQUIRE((text.find(begin) != std::string::npos && to != std::string::npos));
  const std::string expected =
      text.substr(0, from) + "\n" + ConfigTables() + "\n" + text.substr(to);
  if (std::getenv("NUDGE_UPDATE_DOCS") != nullptr) Write(path, expected);
  BOOST_TEST((Content(path) == expected), "run NUDGE_UPDATE_DOCS=1 config_tests");
}

// ---- Errors -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(all_problems_are_reported_at_once) {
  const std::string wrong = WrongWithText(
      R"({"adapt": {"rank": 0, "rnak": 4, "learning_rate": 2}, "index": {"passages": "3"},
          "output": {"folder": 1}, "model": [], "colour": "blue"})");
  BOOST_TEST(wrong ==
             "adapt.learning_rate: 2 is outside 1e-08..1\n"
             "adapt.rank: 0 is outside 1..64\n"
             "adapt.rnak: unknown key; did you mean adapt.rank?\n"
             "colour: unknown key\n"
             "index.passages: expected a whole number, got a text\n"
             "model: expected an object, got a list\n"
             "output.folder: expected a text, got a number\n"
             "input.path: missing: recorded events for `nudge replay` (or kafka.brokers, for "
             "`nudge run`; or event_log.folder, for `nudge serve`)\n"
             "model.language_model: missing: the local backend needs a GGUF file (model.backend "
             "\"template\" runs without a model)");
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_refused_with_the_one_that_was_meant) {
  BOOST_TEST(WrongWith({{"adpat", {{"rank", 8}}}}) == "adpat: unknown key; did you mean adapt?");
  BOOST_TEST(WrongWith({{"rank", 8}}) == "rank: unknown key; did you mean adapt.rank?");
  BOOST_TEST(WrongWith({{"prompt", {{"passages", 3}}}}) ==
             "prompt.passages: unknown key; did you mean index.passages?");
  BOOST_TEST(WrongWith({{"index", {{"passage", 3}}}}) ==
             "index.passage: unknown key; did you mean index.passages?");
  BOOST_TEST(WrongWith({{"index", {{"zebra", 3}}}}) == "index.zebra: unknown key");
  BOOST_TEST(WrongWith({{"adapt.rank", 8}}) ==
             "adapt.rank: a key with a dot in it: sections are objects inside each other");
  BOOST_TEST(WrongWith({{"", 8}}) == "\"\": unknown key");
}

BOOST_AUTO_TEST_CASE(whole_numbers_may_be_written_as_decimals_but_not_be_broken) {
  BOOST_TEST(Parsed({{"adapt", {{"rank", 4.0}}}}).model.local.learner.rank == 4U);
  BOOST_TEST(WrongWith({{"adapt", {{"rank", 4.5}}}}) ==
             "adapt.rank: expected a whole number, got 4.5");
  BOOST_TEST(WrongWith({{"adapt", {{"rank", -1}}}}) == "adapt.rank: -1 is outside 1..64");
  BOOST_TEST(WrongWith({{"adapt", {{"rank", UINT64_MAX}}}}) ==
             "adapt.rank: 18446744073709551616 is outside 1..64");
}

BOOST_AUTO_TEST_CASE(a_choice_lists_what_it_can_be) {
  BOOST_TEST(WrongWith({{"model", {{"backend", "remote"}}}}) ==
             "model.backend: 'remote' is none of local, openai, template");
}

BOOST_AUTO_TEST_CASE(presets_are_checked_one_by_one) {
  const auto wrong = [](const Json& presets) {
    return WrongWith({{"prompt", {{"presets", presets}}}});
  };
  BOOST_TEST(wrong(Json::array()) == "prompt.presets: a list of 0 presets, outside 1..16");
  BOOST_TEST(wrong({1}) == "prompt.presets[0]: expected an object, got a number");
  BOOST_TEST(wrong({{{"name", "a"}}, {{"name", "a"}}}) ==
             "prompt.presets[1].name: 'a' is another preset's name too");
  BOOST_TEST(wrong({{{"name", "a"}, {"temprature", 1}}}) ==
             "prompt.presets[0].temprature: unknown key; did you mean "
             "prompt.presets[0].temperature?");
  BOOST_TEST(wrong(Json::array({Json::object()})) == "prompt.presets[0].name: missing");
  BOOST_TEST(wrong({{{"name", ""}}}) == "prompt.presets[0].name: a text of 0 bytes, outside 1..64");
  BOOST_TEST(wrong({{{"name", "a"}, {"top_p", 0}}}) ==
             "prompt.presets[0].top_p: 0 is outside 0.01..1");
  BOOST_TEST(wrong({{{"name", "a"}, {"max_tokens", 2048}}}) ==
             "prompt.presets[0].max_tokens: 2048 leaves no room for a prompt: model.window_tokens "
             "is 2048");
}

BOOST_AUTO_TEST_CASE(values_that_do_not_fit_each_other_are_refused) {
  BOOST_TEST(WrongWith({{"index", {{"passages", 8}, {"candidates", 4}}}}) ==
             "index.candidates: 4 is below index.passages, which is 8");
  BOOST_TEST(WrongWith({{"model", {{"backend", "local"}}}}) ==
             "model.language_model: missing: the local backend needs a GGUF file (model.backend "
             "\"template\" runs without a model)");
  BOOST_TEST(WrongWith({{"adapt", {{"kl_budget", 1e-5}}}}) ==
             "adapt.kl_budget: 1e-05 is neither 0 nor at least 1e-04");
  BOOST_TEST(WrongWith({{"gateway", {{"signing_key_file", "gateway.pem"}}}}) ==
             "gateway.signing_key_file: needs http.keys_file: without it whoever reaches the door "
             "commands");
  BOOST_TEST(WrongWith({{"follow", {{"server_url", "localhost:8000"}}}}) ==
             "follow.server_url: begins with neither http:// nor https://: give it as "
             "http://HOST:PORT/v1 or https://HOST/v1");
}

BOOST_AUTO_TEST_CASE(answers_of_another_server_need_its_place_and_no_promise_that_they_repeat) {
  const auto wrong = [](const Json& more) {
    Json json = {{"deterministic", false},
                 {"model",
                  {{"backend", "openai"},
                   {"language_model", "a.gguf"},
                   {"openai", {{"url", "http://127.0.0.1:8000/v1"}, {"model", "a"}}}}}};
    json.merge_patch(more);
    return WrongWith(json);
  };
  const auto with_url = [&](const char* url) { return wrong(Nested("model.openai.url", url)); };
  BOOST_TEST(wrong(Json::object()) == "");
  BOOST_TEST(wrong({{"deterministic", true}}) ==
             "deterministic: answers of another server (model.backend openai) are no function of "
             "the events: set deterministic to false");
  BOOST_TEST(WrongWith({{"deterministic", false}}) ==
             "deterministic: only true is supported, but with model.backend openai");
  BOOST_TEST(wrong(Nested("model.language_model", "")) ==
             "model.language_model: missing: the openai backend needs a GGUF file (model.backend "
             "\"template\" runs without a model)");
  BOOST_TEST(with_url("").starts_with("model.openai.url: missing: where the server is"));
  BOOST_TEST(with_url("ftp://a").starts_with("model.openai.url: begins with neither http:// nor"));
  const std::string secret = with_url("http://ann:secret@host/v1");
  BOOST_TEST(Holds(secret, "model.openai.url: has a user or password in it"));
  BOOST_TEST(!Holds(secret, "secret"));
  BOOST_TEST(Holds(with_url("http://host:0/v1"), "has no host, or no port of 1..65535"));
  BOOST_TEST(with_url("https://[::1]:8000/v1/") == "");
  BOOST_TEST(Holds(wrong(Nested("model.openai.model", "")), "model.openai.model: missing"));
  BOOST_TEST(Holds(wrong(Nested("model.openai.urk", "x")), "did you mean model.openai.url?"));
}

BOOST_AUTO_TEST_CASE(
    what_rests_on_one_adapter_of_many_people_is_refused_where_users_have_their_own) {
  BOOST_TEST(WrongWith({{"adapt", {{"scope", "user"}, {"quorum_people", 2}}}}) ==
             "adapt.quorum_people: 2 people never agree on an adapter that one user teaches: 1 "
             "alone where adapt.scope is user");
  BOOST_TEST(
      WrongWith({{"adapt", {{"scope", "user"}}}, {"report", {{"held_out", "held.jsonl"}}}}) ==
      "report.held_out: questions of nobody, which no adapter answers where adapt.scope is "
      "user: leave it out, or set adapt.scope to tenant");
  BOOST_TEST(WrongWith({{"adapt", {{"scope", "everybody"}}}}) ==
             "adapt.scope: 'everybody' is none of tenant, user");
}

BOOST_AUTO_TEST_CASE(a_key_given_twice_is_refused) {
  BOOST_TEST(WrongWithText(R"({"input": {"path": "a", "follow": true, "path": "b"},
                               "output": {"folder": "out"}, "model": {"backend": "template"}})") ==
             "input.path: given twice");
}

BOOST_AUTO_TEST_CASE(what_is_not_json_is_refused_with_its_place) {
  BOOST_TEST(WrongWithText("") == "not JSON: line 1, column 1: it ends too early");
  BOOST_TEST(Holds(WrongWithText("{\n  \"input\": {\n"), "not JSON: line 3, column 1: it ends"));
  BOOST_TEST(Holds(WrongWithText("{\n  \"a\": 1,\n}"), "not JSON: line 3, column 1: this cannot"));
  BOOST_TEST(Holds(WrongWithText("{} {}"), "not JSON: line 1, column 4: this cannot"));
  BOOST_TEST(Holds(WrongWithText("{\"a\xff\": 1}"), "not JSON: line 1, column 4: this cannot"));
  BOOST_TEST(Holds(WrongWithText("// comment\n{}"), "not JSON: line 1, column 1: this cannot"));
  BOOST_TEST(WrongWithText("{\"a\": 1e400}") == "not JSON: a number is too large");
  BOOST_TEST(WrongWithText("[]") == "expected an object, got a list");
  BOOST_TEST(WrongWithText(std::string(100'000, '[')) ==
             "objects and lists inside each other are more than 8 levels deep");
  BOOST_TEST(WrongWithText(std::string((1 << 20) + 1, ' ')) ==
             "over 1048576 bytes: not a configuration");
}

BOOST_AUTO_TEST_CASE(a_flood_of_problems_is_cut) {
  Json more;
  for (int i = 0; i < 2000; ++i) more["k" + std::to_string(i) + std::string(200, 'x')] = i;
  const std::string wrong = WrongWith(more);
  BOOST_TEST(std::count(wrong.begin(), wrong.end(), '\n') == 50);
  BOOST_TEST(wrong.ends_with("\nand 1950 more problems"));
  BOOST_TEST(wrong.size() < 10'000U);
}

BOOST_AUTO_TEST_CASE(problems_of_a_file_carry_its_path) {
  testing::TempFolder folder;
  const std::string path = folder.path() + "/my.json";
  BOOST_TEST(WrongWithFile(path) == path + ": no such file");
  BOOST_TEST(WrongWithFile(folder.path()) == folder.path() + ": a folder, not a file");
  Write(path,
        "{\"input\": {\"path\": 1, \"pat\": 2}, \"output\": {\"folder\": \"out\"},"
        " \"model\": {\"backend\": \"template\"}}");
  BOOST_TEST(WrongWithFile(path) == path + ": input.pat: unknown key; did you mean input.path?\n" +
                                        path + ": input.path: expected a text, got a number");
  Write(path, std::string(2 << 20, ' '));
  BOOST_TEST(WrongWithFile(path) == path + ": over 1048576 bytes");
}

// ---- Paths --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(inputs_lie_beside_the_configuration_and_outputs_where_nudge_runs) {
  const Json more = {{"model", {{"language_model", "../models/a.gguf"}}},
                     {"adapt", {{"anchors_path", "anchors.jsonl"}, {"import_folder", "/adapters"}}},
                     {"checkpoint", {{"folder", "state"}}},
                     {"report", {{"held_out", "held_out.jsonl"}, {"html", "report.html"}}}};
  const Config config = ParseConfig(With(more), "some/folder");
  BOOST_TEST(config.input.path == "some/folder/events.jsonl");
  BOOST_TEST(config.model.local.language_model == "some/models/a.gguf");
  BOOST_TEST(config.model.local.embedder == "");
  BOOST_TEST(config.model.local.anchors_path == "some/folder/anchors.jsonl");
  BOOST_TEST(config.model.local.import_folder == "/adapters");
  BOOST_TEST(config.report.held_out == "some/folder/held_out.jsonl");
  BOOST_TEST(config.output.folder == "out");
  BOOST_TEST(config.checkpoint.folder == "state");
  BOOST_TEST(config.report.html == "report.html");
  BOOST_TEST(ParseConfig(With({{"input", {{"path", "-"}}}}), "some/folder").input.path == "-");
}

BOOST_AUTO_TEST_CASE(the_cache_is_that_of_the_environment_or_the_nearest_one_with_models) {
  testing::TempFolder folder;
  const Json more = {{"model", {{"language_model", "${CACHE}/models/a.gguf"}}}};
  {
    const Environment set("NUDGE_CACHE", "/somewhere/cache");
    BOOST_TEST(Parsed(more).model.local.language_model == "/somewhere/cache/models/a.gguf");
  }
  const Environment unset("NUDGE_CACHE", nullptr);
  fs::create_directories(folder.path() + "/project/configs/mine/.cache");  // no models in it
  fs::create_directories(folder.path() + "/project/.cache/models");
  const Config config = ParseConfig(With(more), folder.path() + "/project/configs/mine");
  BOOST_TEST(config.model.local.language_model == folder.path() + "/project/.cache/models/a.gguf");
}

BOOST_AUTO_TEST_CASE(paths_that_cannot_be_are_refused) {
  BOOST_TEST(WrongWith({{"output", {{"folder", "${HOME}/out"}}}}) ==
             "output.folder: '${HOME}/out' has an unknown placeholder: only ${CACHE} at the "
             "beginning is known");
  BOOST_TEST(Holds(WrongWith({{"input", {{"path", "a/${CACHE}"}}}}), "unknown placeholder"));
  BOOST_TEST(Holds(WrongWith({{"input", {{"path", std::string("a\0b", 3)}}}}), "has a NUL in it"));
  BOOST_TEST(Holds(WrongWith({{"input", {{"path", std::string(5000, 'a')}}}}), "over 4096 bytes"));
  BOOST_TEST(Holds(WrongWith({{"input", {{"path", ""}}}}), "input.path: missing"));
}

BOOST_AUTO_TEST_CASE(inputs_that_are_not_there_are_all_named) {
  testing::TempFolder folder;
  Write(folder.path() + "/events.jsonl", "");
  const Json more = {{"model", {{"backend", "local"}, {"language_model", "a.gguf"}}},
                     {"report", {{"held_out", "h.jsonl"}, {"html", "not/there/yet.html"}}}};
  const std::string prefix = folder.path() + "/";
  BOOST_CHECK_EXCEPTION(RequireInputs(ParseConfig(With(more), folder.path())), StartError,
                        [&](const StartError& error) {
                          BOOST_TEST(error.what() == "model.language_model: " + prefix +
                                                         "a.gguf is not there: run scripts/setup\n"
                                                         "report.held_out: " +
                                                         prefix + "h.jsonl is not there");
                          return true;
                        });
  BOOST_CHECK_NO_THROW(RequireInputs(ParseConfig(With(Json::object()), folder.path())));
  BOOST_CHECK_NO_THROW(RequireInputs(Parsed({{"input", {{"path", "-"}}}})));

  // A gateway's private key is nobody else's to have; who may command all have to know.
  Write(folder.path() + "/keys.jsonl", "");
  Json gateway = {{"gateway", {{"signing_key_file", "gateway.pem"}}},
                  {"http", {{"keys_file", "keys.jsonl"}}}};
  BOOST_CHECK_NO_THROW(RequireInputs(ParseConfig(With(gateway), folder.path())));
  gateway["commands"]["keys_file"] = "commands.jsonl";
  BOOST_CHECK_THROW(RequireInputs(ParseConfig(With(gateway), folder.path())), StartError);
}

BOOST_AUTO_TEST_CASE(an_outcome_must_fit_into_a_message) {
  const Json limits = {{"limits", {{"outcome_bytes", 500'000}}}};
  Json live = {{"kafka", {{"brokers", "b:1"}, {"message_bytes", 400'000}}}};
  BOOST_TEST(WrongWith(live) ==
             "limits.outcome_bytes: 900000 is above kafka.message_bytes, which is 400000");
  live.merge_patch(limits);
  BOOST_TEST(WrongWith(live) ==
             "limits.outcome_bytes: 500000 is above kafka.message_bytes, which is 400000");
  live["kafka"]["message_bytes"] = 500'000;
  BOOST_TEST(WrongWith(live) == "");
  BOOST_TEST(WrongWith({{"kafka", {{"message_bytes", 400'000}}}}) == "");  // none is sent
}

// ---- Options ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(what_is_set_once_reaches_every_part_that_needs_it) {
  const ProcessorOptions options = ToProcessorOptions(
      Parsed({{"limits",
               {{"documents_per_tenant", 11},
                {"chunks_per_tenant", 12},
                {"dead_letter_bytes", 13},
                {"in_flight_events", 14},
                {"in_flight_bytes", 2048},
                {"line_bytes", 4096},
                {"lessons_per_tenant", 15}}},
              {"adapt", {{"versions_kept", 5}, {"enabled", false}}},
              {"prompt", {{"default_prompt_id", "main"}, {"system", "Be brief."}}},
              {"executor", {{"threads", 3}, {"drain_ms", 250}}},
              {"graph", {{"threads", 4}}},
              {"checkpoint", {{"every_events", 7}, {"backup_every_cuts", 9}, {"at_end", false}}}}));
  BOOST_TEST(options.recall.documents_per_tenant == 11U);
  BOOST_TEST(options.index.documents_per_tenant == 11U);
  BOOST_TEST(options.recall.chunks_per_tenant == 12U);
  BOOST_TEST(options.index.chunks_per_tenant == 12U);
  BOOST_TEST(options.graph.emit.dead_letter_bytes == 13U);
  BOOST_TEST(options.credits.events == 14U);
  BOOST_TEST(options.credits.bytes == 2048U);
  BOOST_TEST(options.graph.limits.line_bytes == 4096U);
  BOOST_TEST(options.adapt.lessons_per_tenant == 15U);
  BOOST_TEST(options.adapt.versions_kept == 5U);
  BOOST_TEST(!options.adapt.enabled);
  BOOST_TEST(options.recall.default_prompt_id == "main");
  BOOST_TEST(options.prompt.default_prompt_id == "main");
  BOOST_TEST(options.prompt.default_system == "Be brief.");
  BOOST_TEST(options.executor.threads == 3U);
  BOOST_TEST(options.graph.threads == 4);
  BOOST_TEST(options.drain.count() == 250);
  BOOST_TEST(options.checkpoint_every_events == 7U);
  BOOST_TEST(!options.checkpoint_at_end);
  BOOST_TEST(options.backup_every_cuts == 9U);
  BOOST_TEST(options.executor.snapshot_folder == "out/snapshots");
  BOOST_TEST(options.state_folder == "out/state");
}

BOOST_AUTO_TEST_CASE(commands_that_are_signed_are_kept_apart_and_a_door_of_its_own_takes_none) {
  testing::TempFolder folder;
  Write(folder.path() + "/keys.jsonl", "");
  const Config config = ParseConfig(
      With({{"commands", {{"keys_file", "keys.jsonl"}}}, {"event_log", {{"folder", "log"}}}}),
      folder.path());
  const ProcessorOptions options = ToProcessorOptions(config);
  BOOST_TEST(options.graph.commands.keys_file == folder.path() + "/keys.jsonl");
  BOOST_TEST(options.recall.keeps_commands);
  BOOST_TEST(!ToProcessorOptions(Parsed(Json::object())).recall.keeps_commands);
  BOOST_CHECK_EXCEPTION(ToServingOptions(config), StartError, [](const StartError& error) {
    return std::string(error.what()).starts_with("commands.keys_file: leave it out");
  });
}

BOOST_AUTO_TEST_CASE(checkpoints_go_where_they_are_told_or_nowhere) {
  const auto folder = [](const Json& checkpoint) {
    return ToProcessorOptions(Parsed({{"checkpoint", checkpoint}})).state_folder;
  };
  BOOST_TEST(folder({{"folder", "elsewhere"}}) == "elsewhere");
  BOOST_TEST(folder({{"folder", "elsewhere"}, {"enabled", false}}) == "");
}

BOOST_AUTO_TEST_CASE(every_setting_at_the_end_of_its_range_is_one_that_the_stages_take) {
  for (const char* end : {"minimum", "maximum"}) {
    Json all;
    for (const auto& [path, schema] : Keys()) {
      if (schema.contains(end)) all.merge_patch(Nested(path, schema[end]));
    }
    all["prompt"]["presets"] = {{{"name", "short"}, {"max_tokens", 8}}};
    const ProcessorOptions options = ToProcessorOptions(Parsed(all));
    BOOST_CHECK_NO_THROW(Prepare{options.prepare});
    BOOST_CHECK_NO_THROW(Index{options.index});
    BOOST_CHECK_NO_THROW(Prompt{options.prompt});
    BOOST_CHECK_NO_THROW(Recall{options.recall});
    BOOST_CHECK_NO_THROW(Adapt{options.adapt});
    BOOST_TEST(Problems(Parsed(all).model.local.learner).empty());
  }
}

BOOST_AUTO_TEST_CASE(the_fuzz_seeds_hold) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kRoot / "tests/fuzz/seeds/config")) {
    const std::string bytes = Content(entry.path());
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    ++count;
  }
  BOOST_TEST(count >= 10);
}
