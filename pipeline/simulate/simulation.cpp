#include "pipeline/simulate/simulation.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <utility>

#include "connectors/json_writer.h"
#include "pipeline/simulate/closed_loop.h"
#include "pipeline/simulate/judge.h"
#include "stages/files.h"
#include "stages/hash.h"

namespace nudge {
namespace {

// What a run does, in order: it sends an event or, after so many lessons, takes figures.
struct Step {
  std::optional<Event> event;
  uint32_t lessons = 0;
};
using Script = std::vector<Step>;

template <class Data>
Event NewEvent(const World& world, std::string source, std::string id, std::string user,
               Data data) {
  Event event;
  event.source = std::move(source);
  event.id = std::move(id);
  event.tenant = world.tenant;
  event.user = std::move(user);
  event.data = std::move(data);
  return event;
}

// The documents and the prompt, before anybody asks.
std::vector<Event> Beginning(const World& world, const std::string& prompt_id) {
  constexpr char kSource[] = "/world";
  std::vector<Event> events;
  for (const WorldDocument& document : world.documents) {
    events.push_back(NewEvent(world, kSource, "document-" + document.id, "",
                              DocumentUpsert{document.id, document.text, document.title, {}}));
  }
  if (!world.system.empty()) {
    events.push_back(
        NewEvent(world, kSource, "prompt", "", PromptUpsert{prompt_id, world.system, {}}));
  }
  return events;
}

// ---- One run ------------------------------------------------------------------------------------

class Run {
 public:
  Run(const World& world, const People& people, const Config& config, const std::string& folder,
      std::string name, uint64_t seed, const SimulateOptions& options)
      : world_(world),
        people_(people),
        prompt_id_(config.processor.prompt.default_prompt_id),
        options_(options),
        loop_(config, folder) {
    figures_.name = std::move(name);
    figures_.seed = seed;
    figures_.log = folder + "/events.jsonl";
    facts_path_ = folder + "/facts.jsonl";
  }

  // The people themselves. With `without_intruders`, their turns are left out.
  Result<Nothing> Live(bool without_intruders) {
    for (const Event& event : Beginning(world_, prompt_id_)) {
      if (auto sent = Send(event); !sent.ok()) return sent.error();
    }
    std::vector<uint32_t> points = PointsOf(world_);
    auto point = points.begin();
    if (auto measured = Measure(*point++); !measured.ok()) return measured;
    for (uint32_t lesson = 0; lesson < world_.lessons || !owed_.empty(); ++lesson) {
      const bool asks = lesson < world_.lessons;
      if (asks) {
        const Turn turn = people_.TurnAt(lesson);
        if (without_intruders && turn.user->intruder) {
          owed_.push_back({0, turn, {}, -1});
        } else if (auto asked = Ask(turn); !asked.ok()) {
          return asked;
        }
      }
      // Feedback comes as its delay has it, once nobody asks any more at once.
      for (bool is_due = true; is_due;) {
        is_due = false;
        for (auto owed = owed_.begin(); owed != owed_.end(); ++owed) {
          if (asks && owed->due > events_of_people_) continue;
          if (auto given = Give(*owed); !given.ok()) return given;
          owed_.erase(owed);
          ++given_;
          is_due = true;
          break;
        }
        if (is_due && point != points.end() && given_ == *point) {
          if (auto measured = Measure(*point++); !measured.ok()) return measured;
        }
      }
    }
    return Nothing{};
  }

  Result<Nothing> Play(const Script& script) {
    for (const Step& step : script) {
      if (step.event) {
        if (auto sent = Send(*step.event); !sent.ok()) return sent.error();
      } else if (auto measured = Measure(step.lessons); !measured.ok()) {
        return measured;
      }
    }
    return Nothing{};
  }

  // What the adapter answers where no passage is found.
  Result<Nothing> MeasureWithoutRetrieval() {
    std::vector<std::string> questions;
    for (const WorldQuestion* question : people_.held_out()) questions.push_back(question->text);
    PointFigures figures = figures_.points.back();
    const auto answers = loop_.Ask({world_.tenant, world_.system, figures.digest}, questions);
    if (!answers.ok()) return answers.error();
    Judge(*answers, figures);
    figures_.without_retrieval = std::move(figures);
    return Nothing{};
  }

  Result<RunFigures> Finish() {
    figures_.refused = loop_.refused();
    figures_.first_refusal = loop_.first_refusal();
    const Result<Sha256Digest> chain = loop_.Finish();
    if (!chain.ok()) return chain.error();
    figures_.chain = Hex(*chain);
    if (const auto written = ReplaceFile(facts_path_, facts_); !written.ok()) {
      return Error{written.error().code,
                   facts_path_ + ": cannot be written: " + written.error().message,
                   written.error().remedy};
    }
    return figures_;
  }

  const Script& script() const { return script_; }
  std::string description() const { return loop_.description(); }

 private:
  // Feedback that is still to be given.
  struct Owed {
    uint64_t due = 0;  // by the events of people
    Turn turn;
    std::string query_id;  // empty: nobody asked
    int64_t offset = -1;   // of the question
  };

  Result<int64_t> Send(Event event) {
    Result<int64_t> offset = loop_.Send(event);
    script_.push_back({std::move(event), 0});
    return offset;
  }

  Result<Nothing> Ask(const Turn& turn) {
    const std::string id = "question-" + std::to_string(turn.lesson + 1);
    const auto offset =
        Send(NewEvent(world_, turn.source, id, turn.name, Query{turn.question->text, {}}));
    if (!offset.ok()) return offset.error();
    ++events_of_people_;
    owed_.push_back({events_of_people_ + turn.user->delay_events, turn, id, *offset});
    return Nothing{};
  }

  Result<Nothing> Give(const Owed& owed) {
    if (owed.query_id.empty()) return Nothing{};
    std::string answer;
    if (NeedsAnswer(owed.turn)) {
      const Result<Ending> ending = loop_.Await(owed.offset);
      if (!ending.ok()) return ending.error();
      if (ending->response) answer = ending->response->text;
    }
    Feedback feedback = FeedbackOf(owed.turn, answer);
    feedback.query_id = owed.query_id;
    const auto sent =
        Send(NewEvent(world_, owed.turn.source, "feedback-" + std::to_string(owed.turn.lesson + 1),
                      owed.turn.name, std::move(feedback)));
    if (!sent.ok()) return sent.error();
    ++events_of_people_;
    return Nothing{};
  }

  // Asks the held-out questions, in the log, and the facts, beside it.
  Result<Nothing> Measure(uint32_t lessons) {
    script_.push_back({std::nullopt, lessons});
    PointFigures figures;
    figures.lessons = lessons;
    std::vector<int64_t> offsets;
    for (size_t i = 0; i < people_.held_out().size(); ++i) {
      Query query{people_.held_out()[i]->text, {}};
      query.options.temperature = 0;
      const auto offset = loop_.Send(NewEvent(
          world_, "/figures", "point-" + std::to_string(lessons) + "-" + std::to_string(i + 1), "",
          std::move(query)));
      if (!offset.ok()) return offset.error();
      offsets.push_back(*offset);
    }
    if (auto settled = loop_.Settle(); !settled.ok()) return settled;
    std::vector<std::string> answers;
    figures.digest = "base";
    for (const int64_t offset : offsets) {
      const Result<Ending> ending = loop_.Await(offset);
      if (!ending.ok()) return ending.error();
      answers.push_back(ending->response ? ending->response->text : "");
      if (!ending->response) continue;
      figures.version = ending->response->adapter_version;
      figures.digest = ending->response->adapter_digest;
    }
    Judge(answers, figures);
    if (auto asked = MeasureFacts(figures); !asked.ok()) return asked;
    figures_.points.push_back(figures);
    Tell(figures);
    return Nothing{};
  }

  void Judge(const std::vector<std::string>& answers, PointFigures& figures) const {
    const uint32_t last = figures.lessons == 0 ? 0 : figures.lessons - 1;
    const WorldForm& wanted = FormOf(world_, WantedAt(world_.wanted, last));
    const double each = 1 / static_cast<double>(answers.size());
    figures.wanted = figures.right = figures.both = 0;
    figures.forms.assign(world_.forms.size(), 0);
    for (size_t i = 0; i < answers.size(); ++i) {
      const WorldQuestion& question = *people_.held_out()[i];
      const bool in_form = InForm(answers[i], wanted, question);
      const bool has_key = HasKey(answers[i], question);
      figures.wanted += in_form ? each : 0;
      figures.right += has_key ? each : 0;
      figures.both += in_form && has_key ? each : 0;
      for (size_t form = 0; form < world_.forms.size(); ++form) {
        if (InForm(answers[i], world_.forms[form], question)) figures.forms[form] += each;
      }
    }
  }

  Result<Nothing> MeasureFacts(PointFigures& figures) {
    if (world_.facts.empty()) return Nothing{};
    std::vector<std::string> questions;
    for (const WorldQuestion& fact : world_.facts) questions.push_back(fact.text);
    const auto answers = loop_.Ask({world_.tenant, world_.system, figures.digest}, questions);
    if (!answers.ok()) return answers.error();
    std::vector<bool> right;
    for (size_t i = 0; i < answers->size(); ++i) {
      right.push_back(HasKey((*answers)[i], world_.facts[i]));
      JsonWriter(facts_)
          .Raw(R"({"lessons":)")
          .Integer(figures.lessons)
          .Raw(R"(,"question":)")
          .Text(world_.facts[i].text)
          .Raw(R"(,"answer":)")
          .Text((*answers)[i])
          .Raw(R"(,"right":)")
          .Bool(right.back())
          .Raw("}\n");
    }
    if (figures.lessons == 0) {
      known_ = right;
      figures_.facts_known = static_cast<uint32_t>(std::count(known_.begin(), known_.end(), true));
    }
    if (figures_.facts_known == 0) return Nothing{};
    uint32_t kept = 0;
    for (size_t i = 0; i < right.size(); ++i) kept += right[i] && known_[i] ? 1 : 0;
    figures.facts_kept = static_cast<double>(kept) / figures_.facts_known;
    return Nothing{};
  }

  void Tell(const PointFigures& figures) const {
    if (!options_.on_progress) return;
    const auto percent = [](double share) {
      return std::isfinite(share) ? std::to_string(std::lround(share * 100)) + " %" : "-";
    };
    options_.on_progress("seed " + std::to_string(figures_.seed) + ", " + figures_.name + ", " +
                         std::to_string(figures.lessons) + " lessons: wanted form " +
                         percent(figures.wanted) + ", right fact " + percent(figures.right) +
                         ", facts kept " + percent(figures.facts_kept));
  }

  const World& world_;
  const People& people_;
  const std::string prompt_id_;
  const SimulateOptions& options_;
  ClosedLoop loop_;
  RunFigures figures_;
  Script script_;
  std::deque<Owed> owed_;
  uint64_t events_of_people_ = 0;
  uint32_t given_ = 0;
  std::vector<bool> known_;  // of the facts: by the base
  std::string facts_path_;
  std::string facts_;  // what was answered beside the log, JSON lines
};

// ---- Controls -----------------------------------------------------------------------------------

Script Frozen(const World& world, Script script) {
  AdapterCommand freeze;
  freeze.action = AdapterCommand::Action::kFreeze;
  const auto first_point =
      std::find_if(script.begin(), script.end(), [](const Step& step) { return !step.event; });
  script.insert(first_point, {NewEvent(world, "/world", "freeze", "", freeze), 0});
  return script;
}

// Each user's feedback keeps its places and its parts, but not which part is at which place.
Script Shuffled(Script script, uint64_t seed) {
  std::map<std::string, std::vector<Feedback*>> by_source;
  for (Step& step : script) {
    if (!step.event) continue;
    if (auto* feedback = std::get_if<Feedback>(&step.event->data)) {
      by_source[step.event->source].push_back(feedback);
    }
  }
  for (auto& [source, places] : by_source) {
    const std::vector<size_t> order = Permutation(
        places.size(), SeedOf({"nudge simulate", "shuffled", source, std::to_string(seed)}));
    std::vector<Feedback> given;
    for (const Feedback* feedback : places) given.push_back(*feedback);
    for (size_t i = 0; i < places.size(); ++i) {
      places[i]->rating = given[order[i]].rating;
      places[i]->correction = given[order[i]].correction;
    }
  }
  return script;
}

bool SameFeedback(const Script& one, const Script& other) {
  const auto said = [](const Step& step) {
    const auto* feedback = step.event ? std::get_if<Feedback>(&step.event->data) : nullptr;
    return feedback == nullptr ? std::pair<std::optional<double>, std::optional<std::string>>()
                               : std::pair(feedback->rating, feedback->correction);
  };
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [&](const Step& a, const Step& b) { return said(a) == said(b); });
}

}  // namespace

Result<Simulation> Simulate(const World& world, const Config& config,
                            const SimulateOptions& options) {
  Simulation simulation{world, options.seeds, options.controls, "", {}};
  const bool has_intruder = std::any_of(world.users.begin(), world.users.end(),
                                        [](const WorldUser& user) { return user.intruder; });
  for (uint64_t seed = options.first_seed; seed < options.first_seed + uint64_t{options.seeds};
       ++seed) {
    const People people(world, seed);
    const auto folder_of = [&](const std::string& name) {
      return options.folder + "/seed-" + std::to_string(seed) + "/" + name;
    };
    const auto add = [&](const std::string& name, const auto& go) -> Result<Script> {
      Run run(world, people, config, folder_of(name), name, seed, options);
      if (simulation.model.empty()) simulation.model = run.description();
      if (const Result<Nothing> gone = go(run); !gone.ok()) return gone.error();
      Result<RunFigures> figures = run.Finish();
      if (!figures.ok()) return figures.error();
      simulation.runs.push_back(*std::move(figures));
      return run.script();
    };
    const Result<Script> script = add("people", [&](Run& run) -> Result<Nothing> {
      if (auto lived = run.Live(false); !lived.ok()) return lived;
      return options.controls ? run.MeasureWithoutRetrieval() : Nothing{};
    });
    if (!script.ok()) return script.error();
    if (!options.controls) continue;
    const RunFigures people_figures = simulation.runs.back();
    const auto play = [&](const Script& events) {
      return [&](Run& run) { return run.Play(events); };
    };
    if (auto done = add("frozen", play(Frozen(world, *script))); !done.ok()) return done.error();
    const Script shuffled = Shuffled(*script, seed);
    if (SameFeedback(shuffled, *script)) {
      RunFigures same = people_figures;
      same.name = "shuffled";
      same.same_events_as_people = true;
      simulation.runs.push_back(std::move(same));
    } else if (auto done = add("shuffled", play(shuffled)); !done.ok()) {
      return done.error();
    }
    if (!has_intruder) continue;
    if (auto done = add("without", [](Run& run) { return run.Live(true); }); !done.ok()) {
      return done.error();
    }
  }
  return simulation;
}

}  // namespace nudge
