// A world: documents, questions and people, from which a closed loop is simulated.
//
//   file -> [ReadWorld] -> World -> [People] -> events
//
// JSON, one object. "base" names another file, beside this one, whose keys hold where this one has
// none, so that worlds can share documents and questions. Each struct here says by OptionsOf what
// its keys are; the reader, its messages and the tables of docs/SIMULATION.md come from that.
//
// At start-up only; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stages/options.h"

namespace nudge {

struct WorldDocument {
  std::string id;
  std::string title;
  std::string text;
};
keys::Fields OptionsOf(WorldDocument& document);

struct WorldQuestion {
  std::string text;
  std::string document;           // its id; empty for a fact
  std::vector<std::string> keys;  // the right fact, in each spelling that is taken; the first one
                                  // is what a correction says
};
keys::Fields OptionsOf(WorldQuestion& question);

// What an answer should look like, by rules that all have to hold.
struct WorldForm {
  std::string name;
  std::string correction;   // an answer in this form, with {key} where the fact stands
  std::string begins_with;  // letter case counts, here and below
  std::string ends_with;
  std::string contains;
  uint32_t words_most = 0;  // 0: any number
  bool quotes_key = false;
};
keys::Fields OptionsOf(WorldForm& form);

// A form that is wanted from that lesson on, until another one is.
struct WantedForm {
  std::string form;
  uint32_t from = 0;
};
keys::Fields OptionsOf(WantedForm& wanted);

// What somebody does with an answer, and how often.
struct Reaction {
  std::string kind = "correction";
  double share = 1;             // among the reactions of this user
  std::string text;             // of kind text: what is always said
  std::string judged = "form";  // of kind thumb: what the thumb is for
  double noise = 0;             // of kind thumb: probability that it is turned
  bool only_wrong = false;      // of kind correction: what is right gets a thumb up
};
keys::Fields OptionsOf(Reaction& reaction);

struct WorldUser {
  std::string name;
  double share = 1;               // of the turns, beside those who are there
  uint32_t names = 1;             // that this one goes by, all through one source
  uint32_t joins_after = 0;       // lessons
  uint32_t delay_events = 0;      // between an answer and the feedback on it
  bool intruder = false;          // whether a control is run in which this one never was
  std::vector<WantedForm> forms;  // empty: the world's
  std::vector<Reaction> reactions = {Reaction{}};
};
keys::Fields OptionsOf(WorldUser& user);

struct World {
  std::string name;
  std::string about;
  std::string tenant = "world";
  std::string system;            // the tenant's prompt; empty: the configuration's
  uint32_t held_out = 30;        // questions that nobody speaks of, drawn by seed
  uint32_t lessons = 64;         // turns: an answer and the feedback on it
  std::vector<uint32_t> points;  // empty: 0, 8 and its doubles, and the last lesson
  std::vector<WorldDocument> documents;
  std::vector<WorldQuestion> questions;
  std::vector<WorldQuestion> facts;  // asked without documents
  std::vector<WorldForm> forms;
  std::vector<WantedForm> wanted;
  std::vector<WorldUser> users;
};
keys::Fields OptionsOf(World& world);

// Throws StartError with the file, the place and the fault: not JSON, a key that is unknown or of
// another type, a value out of range, and what does not fit together: a form that is not there, a
// key that is in no document, a correction that is not in its own form, too few questions.
World ReadWorld(const std::string& path);

// The name of the form that is wanted by `forms` at that lesson.
const std::string& WantedAt(const std::vector<WantedForm>& forms, uint32_t lesson);
const WorldForm& FormOf(const World& world, std::string_view name);

// Where figures are taken, ascending, from 0 to the last lesson.
std::vector<uint32_t> PointsOf(const World& world);

// All keys as tables in Markdown: the generated part of docs/SIMULATION.md.
std::string WorldTables();

}  // namespace nudge
