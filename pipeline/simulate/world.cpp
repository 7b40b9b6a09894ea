#include "pipeline/simulate/world.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "pipeline/simulate/judge.h"
#include "stages/files.h"
#include "stages/result.h"

namespace nudge {
namespace {

using namespace keys;
using Json = nlohmann::json;

constexpr uint64_t kFileBytes = 16 << 20;
constexpr size_t kItems = 10'000;  // of a list
constexpr int kBases = 4;          // one behind the other
constexpr uint32_t kFirstPoint = 8;

// Throws StartError of one file.
class Faults {
 public:
  explicit Faults(std::string path) : path_(std::move(path)) {}
  [[noreturn]] void At(const std::string& place, const std::string& what) const {
    throw StartError(path_ + ": " + (place.empty() ? "" : place + ": ") + what);
  }

 private:
  std::string path_;
};

// ---- Keys ---------------------------------------------------------------------------------------

// A key that holds a list.
struct List {
  std::string name;
  std::string type;
  std::string what;
  std::function<void(const Json& list, const std::string& place, const Faults& faults)> read;
};
using Lists = std::vector<List>;

template <class T>
Lists ListsOf(T&) {
  return {};
}
Lists ListsOf(WorldQuestion& question);
Lists ListsOf(WorldUser& user);
Lists ListsOf(World& world);

template <class T>
void ReadNumber(const Number<T>& slot, const Json& value, const Field& field,
                const std::string& place, const Faults& faults) {
  constexpr bool kWhole = !std::is_same_v<T, double>;
  if (!(kWhole ? value.is_number_integer() : value.is_number())) {
    faults.At(place, kWhole ? "expected a whole number" : "expected a number");
  }
  const double number = value.get<double>();
  if (!(number >= slot.least && number <= slot.most)) {
    faults.At(place, value.dump() + " is outside " + ToRange(slot.least, slot.most) +
                         (field.unit.empty() ? "" : " " + std::string(field.unit)));
  }
  if constexpr (!std::is_same_v<T, std::chrono::milliseconds>) *slot.at = value.get<T>();
}

const std::string& TextIn(const Json& value, const std::string& place, const Faults& faults) {
  if (!value.is_string()) faults.At(place, "expected a text");
  return value.get_ref<const std::string&>();
}

void ReadSlot(const Field& field, const Json& value, const std::string& place,
              const Faults& faults) {
  std::visit(
      Overloaded{
          [&](const Flag& flag) {
            if (!value.is_boolean()) faults.At(place, "expected true or false");
            *flag.at = value.get<bool>();
          },
          [&]<class T>(const Number<T>& number) {
            ReadNumber(number, value, field, place, faults);
          },
          [&](const Text& text) {
            const std::string& given = TextIn(value, place, faults);
            const auto bytes = static_cast<double>(given.size());
            if (bytes < text.least_bytes || bytes > text.most_bytes) {
              faults.At(place, std::to_string(given.size()) + " bytes are outside " +
                                   ToRange(text.least_bytes, text.most_bytes));
            }
            *text.at = given;
          },
          [&](const Choice& choice) {
            const std::string& given = TextIn(value, place, faults);
            if (std::find(choice.names.begin(), choice.names.end(), given) == choice.names.end()) {
              faults.At(place, "expected " + Join(choice.names, " or "));
            }
            *choice.at = given;
          },
          [&](const auto&) { ENSURE(false); },  // no world has such a key
      },
      field.slot);
}

template <class T>
void ReadObject(const Json& object, const std::string& place, const Faults& faults, T& out) {
  if (!object.is_object()) faults.At(place, "expected an object");
  const Fields fields = OptionsOf(out);
  const Lists lists = ListsOf(out);
  for (const auto& [key, value] : object.items()) {
    const std::string inside = place.empty() ? key : place + "." + key;
    const auto is_key = [&key = key](const auto& named) {
      if constexpr (requires { named.path; }) {
        return named.path == key;
      } else {
        return named.name == key;
      }
    };
    if (const auto field = std::find_if(fields.begin(), fields.end(), is_key);
        field != fields.end()) {
      ReadSlot(*field, value, inside, faults);
    } else if (const auto list = std::find_if(lists.begin(), lists.end(), is_key);
               list != lists.end()) {
      list->read(value, inside, faults);
    } else {
      faults.At(inside, "unknown key: docs/SIMULATION.md lists those of a world");
    }
  }
  for (const Field& field : fields) {
    const auto* text = std::get_if<Text>(&field.slot);
    if (text != nullptr && text->least_bytes > 0 && text->at->empty()) {
      faults.At(place.empty() ? field.path : place + "." + field.path, "is missing");
    }
  }
}

// Reads each item of a list by `read`.
template <class T, class Read>
void ReadItems(const Json& list, const std::string& place, const Faults& faults,
               std::vector<T>& out, const Read& read) {
  if (!list.is_array()) faults.At(place, "expected a list");
  if (list.size() > kItems) faults.At(place, "over " + std::to_string(kItems) + " items");
  out.clear();
  for (size_t i = 0; i < list.size(); ++i) {
    T item{};
    read(list[i], place + "[" + std::to_string(i) + "]", item);
    out.push_back(std::move(item));
  }
}

template <class T>
List Objects(std::string name, std::string type, std::string what, std::vector<T>& out) {
  return {std::move(name), std::move(type), std::move(what),
          [&out](const Json& list, const std::string& place, const Faults& faults) {
            ReadItems(list, place, faults, out,
                      [&](const Json& item, const std::string& inside, T& object) {
                        ReadObject(item, inside, faults, object);
                      });
          }};
}

Lists ListsOf(WorldQuestion& question) {
  return {{"keys", "list of texts",
           "the right fact in each spelling that is taken; a correction says the first one",
           [&](const Json& list, const std::string& place, const Faults& faults) {
             ReadItems(list, place, faults, question.keys,
                       [&](const Json& item, const std::string& inside, std::string& key) {
                         key = TextIn(item, inside, faults);
                         if (key.empty()) faults.At(inside, "is empty");
                       });
             if (question.keys.empty()) faults.At(place, "is empty");
           }}};
}

Lists ListsOf(WorldUser& user) {
  return {Objects("forms", "list of wanted forms", "what this one wants; left out: the world's",
                  user.forms),
          Objects("reactions", "list of reactions",
                  "what this one does with an answer; left out: corrects it", user.reactions)};
}

Lists ListsOf(World& world) {
  return {
      {"points", "list of whole numbers",
       "lessons after which figures are taken, ascending; left out: 0, 8 and its doubles, the last",
       [&](const Json& list, const std::string& place, const Faults& faults) {
         ReadItems(list, place, faults, world.points,
                   [&](const Json& item, const std::string& inside, uint32_t& point) {
                     if (!item.is_number_unsigned()) faults.At(inside, "expected a whole number");
                     point = item.get<uint32_t>();
                   });
       }},
      Objects("documents", "list of documents", "what all answers are to be found in",
              world.documents),
      Objects("questions", "list of questions", "of which some are held out and all others asked",
              world.questions),
      Objects("facts", "list of questions",
              "general knowledge that the base model should have, asked without documents",
              world.facts),
      Objects("forms", "list of forms", "that answers are judged by; each has its figure",
              world.forms),
      Objects("wanted", "list of wanted forms", "the form that counts, and from when",
              world.wanted),
      Objects("users", "list of users", "who asks and gives feedback", world.users),
  };
}

// ---- Reading ------------------------------------------------------------------------------------

// The object in a file, without a key that stands in it twice.
Json ParseFile(const std::string& path) {
  const Faults faults(path);
  const Result<std::string> bytes = ReadFile(path, kFileBytes);
  if (!bytes.ok()) faults.At("", bytes.error().message + "; it should hold a world");
  std::vector<std::set<std::string>> seen;
  const auto once = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      seen.resize(static_cast<size_t>(depth) + 1);
      seen.back().clear();
    } else if (event == Json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!seen.at(static_cast<size_t>(depth) - 1).insert(key).second) {
        faults.At(key, "is given twice");
      }
    }
    return true;
  };
  try {
    Json json = Json::parse(*bytes, once);
    if (!json.is_object()) faults.At("", "is no JSON object");
    return json;
  } catch (const Json::exception& error) {
    faults.At("", error.what());
  }
}

// The file's own keys over those of its base.
Json MergedFile(const std::string& path, int bases_left) {
  Json own = ParseFile(path);
  const auto base = own.find("base");
  if (base == own.end()) return own;
  const Faults faults(path);
  if (bases_left == 0)
    faults.At("base", "over " + std::to_string(kBases) + " one behind the other");
  const std::filesystem::path name = TextIn(*base, "base", faults);
  own.erase("base");
  Json merged =
      MergedFile((std::filesystem::path(path).parent_path() / name).string(), bases_left - 1);
  merged.update(own);
  return merged;
}

// ---- What must fit together ---------------------------------------------------------------------

template <class T, class Name>
void RequireUnique(const std::vector<T>& items, const std::string& list, const Name& name,
                   const Faults& faults) {
  std::set<std::string> seen;
  for (const T& item : items) {
    if (!seen.insert(name(item)).second) faults.At(list, name(item) + " is there twice");
  }
}

void CheckQuestions(const World& world, const Faults& faults) {
  RequireUnique(
      world.documents, "documents", [](const WorldDocument& one) { return one.id; }, faults);
  RequireUnique(
      world.questions, "questions", [](const WorldQuestion& one) { return one.text; }, faults);
  for (const WorldQuestion& question : world.questions) {
    const auto document =
        std::find_if(world.documents.begin(), world.documents.end(),
                     [&](const WorldDocument& one) { return one.id == question.document; });
    if (document == world.documents.end()) {
      faults.At("questions", question.text + " names no document of this world");
    }
    if (!HasKey(document->text, question)) {
      faults.At("questions", question.text + " has no key that is in document " + document->id);
    }
  }
  for (const auto* list : {&world.questions, &world.facts}) {
    for (const WorldQuestion& question : *list) {
      if (question.keys.empty()) faults.At("questions", question.text + " has no keys");
    }
  }
  if (world.questions.size() < world.held_out + 2) {
    faults.At("held_out", "leaves fewer than 2 of " + std::to_string(world.questions.size()) +
                              " questions to be asked");
  }
}

void CheckForms(const World& world, const Faults& faults) {
  RequireUnique(
      world.forms, "forms", [](const WorldForm& one) { return one.name; }, faults);
  for (const WorldForm& form : world.forms) {
    const bool rules = !form.begins_with.empty() || !form.ends_with.empty() ||
                       !form.contains.empty() || form.words_most > 0 || form.quotes_key;
    if (!rules) faults.At("forms", form.name + " has no rule: any answer would be in it");
    if (form.correction.empty()) continue;
    for (const WorldQuestion& question : world.questions) {
      if (!InForm(CorrectionOf(form, question.keys.front()), form, question)) {
        faults.At("forms", "the correction of " + form.name + " is not in its own form, for " +
                               question.text);
      }
    }
  }
}

void CheckWanted(const World& world, const std::vector<WantedForm>& wanted, bool corrects,
                 const std::string& place, const Faults& faults) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto form =
        std::find_if(world.forms.begin(), world.forms.end(),
                     [&](const WorldForm& one) { return one.name == wanted[i].form; });
    if (form == world.forms.end()) faults.At(place, wanted[i].form + " is no form of this world");
    if (corrects && form->correction.empty()) {
      faults.At(place, wanted[i].form + " has no correction, which a user is to give");
    }
    if (i == 0 ? wanted[i].from != 0 : wanted[i].from <= wanted[i - 1].from) {
      faults.At(place, "from must begin with 0 and ascend");
    }
  }
}

void CheckUsers(const World& world, const Faults& faults) {
  RequireUnique(
      world.users, "users", [](const WorldUser& one) { return one.name; }, faults);
  if (world.wanted.empty()) faults.At("wanted", "is missing");
  CheckWanted(world, world.wanted, false, "wanted", faults);
  bool begins = false;
  for (const WorldUser& user : world.users) {
    const std::string place = "users, " + user.name;
    bool corrects = false;
    for (const Reaction& reaction : user.reactions) {
      corrects = corrects || reaction.kind == "correction" || reaction.kind == "elsewhere";
      if (reaction.kind == "text" && reaction.text.empty()) faults.At(place, "text is missing");
    }
    if (user.reactions.empty()) faults.At(place, "has no reaction");
    CheckWanted(world, user.forms.empty() ? world.wanted : user.forms, corrects, place, faults);
    begins = begins || user.joins_after == 0;
  }
  if (!begins) faults.At("users", "nobody is there at the beginning");
}

}  // namespace

World ReadWorld(const std::string& path) {
  const Json json = MergedFile(path, kBases);
  const Faults faults(path);
  World world;
  ReadObject(json, "", faults, world);
  world.name = std::filesystem::path(path).stem().string();
  CheckQuestions(world, faults);
  CheckForms(world, faults);
  CheckUsers(world, faults);
  for (size_t i = 0; i < world.points.size(); ++i) {
    if (world.points[i] > world.lessons || (i > 0 && world.points[i] <= world.points[i - 1])) {
      faults.At("points", "must ascend and end within the lessons");
    }
  }
  return world;
}

const std::string& WantedAt(const std::vector<WantedForm>& forms, uint32_t lesson) {
  ENSURE(!forms.empty());
  const WantedForm* last = &forms.front();
  for (const WantedForm& wanted : forms) {
    if (wanted.from <= lesson) last = &wanted;
  }
  return last->form;
}

const WorldForm& FormOf(const World& world, std::string_view name) {
  const auto form = std::find_if(world.forms.begin(), world.forms.end(),
                                 [&](const WorldForm& one) { return one.name == name; });
  ENSURE(form != world.forms.end());
  return *form;
}

std::vector<uint32_t> PointsOf(const World& world) {
  std::set<uint32_t> points(world.points.begin(), world.points.end());
  if (points.empty()) {
    for (uint64_t point = kFirstPoint; point < world.lessons; point *= 2) {
      points.insert(static_cast<uint32_t>(point));
    }
  }
  points.insert(0);
  points.insert(world.lessons);
  return {points.begin(), points.end()};
}

// ---- Tables -------------------------------------------------------------------------------------

namespace {

std::string TypeForPeople(const Field& field) {
  const std::string unit = field.unit.empty() ? "" : " " + std::string(field.unit);
  return std::visit(
      Overloaded{
          [](const Flag&) -> std::string { return "true or false"; },
          [&]<class T>(const Number<T>& number) {
            return std::string(std::is_same_v<T, double> ? "number " : "whole number ") +
                   ToRange(number.least, number.most) + unit;
          },
          [&](const Text& text) {
            return "text, " + ToRange(text.least_bytes, text.most_bytes) + unit;
          },
          [](const Choice& choice) { return Join(choice.names, " or "); },
          [](const auto&) -> std::string { return ""; },
      },
      field.slot);
}

std::string DefaultForPeople(const Field& field) {
  return std::visit(
      Overloaded{
          [](const Flag& flag) -> std::string { return *flag.at ? "`true`" : "`false`"; },
          [](const Number<double>& number) { return "`" + ToText(*number.at) + "`"; },
          [](const Number<uint32_t>& number) { return "`" + std::to_string(*number.at) + "`"; },
          [](const Text& text) -> std::string {
            if (!text.at->empty()) return "`" + *text.at + "`";
            return text.least_bytes > 0 ? "required" : "empty";
          },
          [](const Choice& choice) { return "`" + *choice.at + "`"; },
          [](const auto&) -> std::string { return ""; },
      },
      field.slot);
}

template <class T>
std::string TableOf(const std::string& heading, T object) {
  std::string out =
      "\n### " + heading + "\n\n| key | value | default | what it is |\n|---|---|---|---|\n";
  for (const Field& field : OptionsOf(object)) {
    out += "| `" + field.path + "` | " + TypeForPeople(field) + " | " + DefaultForPeople(field) +
           " | " + std::string(field.what) + " |\n";
  }
  for (const List& list : ListsOf(object)) {
    out += "| `" + list.name + "` | " + list.type + " | | " + list.what + " |\n";
  }
  return out;
}

}  // namespace

std::string WorldTables() {
  return TableOf("A world", World{}) + TableOf("A document", WorldDocument{}) +
         TableOf("A question or a fact", WorldQuestion{}) + TableOf("A form", WorldForm{}) +
         TableOf("A wanted form", WantedForm{}) + TableOf("A user", WorldUser{}) +
         TableOf("A reaction", Reaction{});
}

}  // namespace nudge
