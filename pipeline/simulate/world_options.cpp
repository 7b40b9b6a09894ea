// What the keys of a world are; the lists among them stand where they are read, in world.cpp.
#include "pipeline/simulate/world.h"

namespace nudge {

using namespace keys;

namespace {

constexpr double kTextBytes = 8 << 10;
constexpr double kNameBytes = 128;
constexpr double kLessons = 100'000;

Field Given(std::string path, Slot slot, std::string_view unit, std::string_view what) {
  return {std::move(path), std::move(slot), unit, Effect::kSemantic, what};
}

}  // namespace

Fields OptionsOf(WorldDocument& document) {
  return {
      Given("id", Text{&document.id, 1, kNameBytes}, "bytes", "its document_id"),
      Given("title", Text{&document.title, 0, kNameBytes}, "bytes", "of the document"),
      Given("text", Text{&document.text, 1, kTextBytes}, "bytes", "what is found and cited"),
  };
}

Fields OptionsOf(WorldQuestion& question) {
  return {
      Given("text", Text{&question.text, 1, kTextBytes}, "bytes", "the question"),
      Given("document", Text{&question.document, 0, kNameBytes}, "bytes",
            "id of the document in which one of the keys stands; a fact has none"),
  };
}

Fields OptionsOf(WorldForm& form) {
  return {
      Given("name", Text{&form.name, 1, kNameBytes}, "bytes", "by which users name it"),
      Given("correction", Text{&form.correction, 0, kTextBytes}, "bytes",
            "an answer in this form, with {key} where the fact stands"),
      Given("begins_with", Text{&form.begins_with, 0, kNameBytes}, "bytes",
            "an answer must; letter case counts, here and below"),
      Given("ends_with", Text{&form.ends_with, 0, kNameBytes}, "bytes", "an answer must"),
      Given("contains", Text{&form.contains, 0, kNameBytes}, "bytes", "an answer must"),
      Given("words_most", Number{&form.words_most, 0, 10'000}, "words",
            "that an answer may have; 0: any number"),
      Given("quotes_key", Flag{&form.quotes_key}, "", "an answer must hold the right fact"),
  };
}

Fields OptionsOf(WantedForm& wanted) {
  return {
      Given("form", Text{&wanted.form, 1, kNameBytes}, "bytes", "name of a form"),
      Given("from", Number{&wanted.from, 0, kLessons}, "lessons",
            "after which it is wanted, until the next one is"),
  };
}

Fields OptionsOf(Reaction& reaction) {
  return {
      Given("kind",
            Choice{&reaction.kind, {"correction", "thumb", "up", "down", "text", "elsewhere"}}, "",
            "correction: the right fact in the wanted form; thumb: up or down by a rule; up, down: "
            "always; text: always the same correction; elsewhere: the correction of another "
            "question"),
      Given("share", Number{&reaction.share, 1e-6, 1e6}, "",
            "among the reactions of this user, which are drawn by it"),
      Given("text", Text{&reaction.text, 0, kTextBytes}, "bytes", "of kind text: what is said"),
      Given("judged", Choice{&reaction.judged, {"form", "fact", "both"}}, "",
            "of kind thumb: what it is up for"),
      Given("noise", Number{&reaction.noise, 0, 1}, "",
            "of kind thumb: probability that it is turned"),
      Given("only_wrong", Flag{&reaction.only_wrong}, "",
            "of kind correction: an answer in the form with the fact gets a thumb up instead"),
  };
}

Fields OptionsOf(WorldUser& user) {
  return {
      Given("name", Text{&user.name, 1, kNameBytes}, "bytes", "of the user"),
      Given("share", Number{&user.share, 1e-6, 1e6}, "",
            "of the turns, beside the shares of all who are there"),
      Given("names", Number{&user.names, 1, 10'000}, "",
            "that this one goes by, drawn evenly; all come through one source"),
      Given("joins_after", Number{&user.joins_after, 0, kLessons}, "lessons",
            "before which this one is not there"),
      Given("delay_events", Number{&user.delay_events, 0, 1'000}, "events",
            "of people, between the question and the feedback on its answer"),
      Given("intruder", Flag{&user.intruder}, "", "a control is run in which this one never was"),
  };
}

Fields OptionsOf(World& world) {
  return {
      Given("about", Text{&world.about, 0, kTextBytes}, "bytes", "what it shows, for people"),
      Given("tenant", Text{&world.tenant, 1, kNameBytes}, "bytes", "whose events these are"),
      Given("system", Text{&world.system, 0, kTextBytes}, "bytes",
            "the tenant's prompt; empty: that of the configuration"),
      Given("held_out", Number{&world.held_out, 1, 10'000}, "questions",
            "that nobody gives feedback on, drawn by seed: the figures are theirs"),
      Given("lessons", Number{&world.lessons, 1, kLessons}, "",
            "turns in which somebody asks and gives feedback"),
  };
}

}  // namespace nudge
