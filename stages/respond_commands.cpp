// What commands and forgets do to adapters, and what their receipts say of it.
#include <algorithm>
#include <optional>
#include <utility>

#include "stages/receipts.h"
#include "stages/respond.h"

namespace nudge {

// ---- Commands -----------------------------------------------------------------------------------

void Respond::PlanCommand(Sequence at, const AdapterCommand& command, const Imported& imported,
                          Tenant& tenant, Plan& plan) const {
  using Action = AdapterCommand::Action;
  const auto summary = [&]() -> std::string {
    if (!adapt_.enabled) return "nothing done: the adapter is switched off";
    const std::string at_version = " version " + std::to_string(tenant.lineages.Serving({}));
    switch (command.action) {
      case Action::kFreeze:
        return adapt_.is_by_user() ? "the users' adapters are frozen"
                                   : "adapter frozen at" + at_version;
      case Action::kUnfreeze:
        return adapt_.is_by_user() ? "the users' adapters learn on"
                                   : "adapter learns on from" + at_version;
      case Action::kRollback:
        return PlanRollback(command, tenant, plan);
      case Action::kReset:
        return PlanReset(command, tenant, plan);
      case Action::kImport:
        return PlanImport(at, command, imported, tenant, plan);
    }
    return {};
  };
  std::string text = summary();  // it fills in the outcome's step
  std::get<Applied>(plan.outcome.what).summary = std::move(text);
}

std::string Respond::PlanRollback(const AdapterCommand& command, Tenant& tenant, Plan& plan) const {
  if (adapt_.is_by_user() && tenant.lineages.Find(command.user) == nullptr) {
    return "nothing rolled back: user " + command.user + " has no adapter of their own";
  }
  Lineage& lineage = tenant.lineages.Change(command.user);
  const Version before = lineage.serving();
  const auto unlearnt = lineage.RollBack(command.version, adapt_);
  if (!unlearnt) {
    return "nothing rolled back: " +
           (command.version ? "version " + std::to_string(*command.version)
                            : "what version " + std::to_string(before) + " grew from") +
           " is not kept";
  }
  AddStep(command.user, unlearnt->step, Return{lineage.PathOfHead(), unlearnt->changed}, 0, plan);
  if (unlearnt->lessons == 0) return "rolled back to version " + std::to_string(lineage.serving());
  return "rolled back, without " + Counted(unlearnt->lessons, "lesson") +
         " that had been replaced before" + Unlearning(*unlearnt, lineage) + Dropping(*unlearnt);
}

// Where users have adapters of their own and none is named, all of them.
std::string Respond::PlanReset(const AdapterCommand& command, Tenant& tenant, Plan& plan) const {
  std::vector<LearnerId> learners = {command.user};
  const bool of_all = adapt_.is_by_user() && command.user.empty();
  if (of_all) learners = tenant.lineages.Learners();
  if (of_all && learners.empty()) return "nothing reset: no user has an adapter of their own";
  if (adapt_.is_by_user() && !of_all && tenant.lineages.Find(command.user) == nullptr) {
    return "nothing reset: user " + command.user + " has no adapter of their own";
  }
  plan.forgets = true;
  for (const LearnerId& learner : learners) {
    AddStep(learner, tenant.lineages.Change(learner).Reset(), Return{}, 0, plan);
  }
  const std::string done = "reset to the base model";
  return of_all ? done + ": the adapters of " + Counted(tenant.lineages.users(), "user") : done;
}

std::string Respond::PlanImport(Sequence at, const AdapterCommand& command,
                                const Imported& imported, Tenant& tenant, Plan& plan) const {
  if (const std::string why = WhyNoLesson(tenant, command.user); !why.empty()) {
    return "nothing imported: " + why;
  }
  Lineage& lineage = tenant.lineages.Change(command.user);
  const Version parent = lineage.parent();
  const Step step = lineage.Import(at, adapt_);
  AddStep(command.user, step, Import{imported.version}, parent, plan);
  return "imported " + command.uri + " as version " + std::to_string(*step.makes);
}

// ---- What unlearning does, in words -------------------------------------------------------------

std::string Respond::Serves(const Lineage& lineage) const {
  return Named(lineage.serving()) + (options_.serves_adapters ? " serves" : " is the newest");
}

// From when on a rebuilt version serves, for its receipt.
std::string Respond::TakingOver(const Lineage::Unlearnt& unlearnt, const Lineage& lineage) const {
  if (unlearnt.events_until_takeover == 0) return {};
  return std::string(options_.serves_adapters ? ", which serves" : ", which is the newest") +
         " after " + Counted(unlearnt.events_until_takeover, "further event") + ", " +
         Named(lineage.serving()) + " until then";
}

// What an event that unlearns does to the adapter, for its receipt.
std::string Respond::Unlearning(const Lineage::Unlearnt& unlearnt, const Lineage& lineage) const {
  if (!unlearnt.step) return {};
  const std::string step = "; training step " + std::to_string(unlearnt.step->number);
  if (!unlearnt.step->makes) return step + ": " + Serves(lineage);
  return step + " learns " + Counted(unlearnt.lessons_again, "lesson") +
         " again and makes version " + std::to_string(*unlearnt.step->makes) +
         TakingOver(unlearnt, lineage);
}

std::string Respond::Dropping(const Lineage::Unlearnt& unlearnt) {
  std::string text;
  if (unlearnt.passed > 0) {
    text += "; without " + Counted(unlearnt.passed, "lesson") + " that had been replaced before";
  }
  if (!unlearnt.versions.empty()) text += "; no longer kept: " + Listed(unlearnt.versions);
  if (!unlearnt.snapshots.empty()) {
    text += "; snapshots that may still hold it, to be deleted: " + Listed(unlearnt.snapshots);
  }
  return text;
}

// What becomes of a user's earlier words on an answer, for the receipt of the later one.
std::string Respond::Withdrawing(const Lineage::Withdrawn& withdrawn, const std::string& verb) {
  std::string text;
  const auto add = [&](const std::vector<std::string>& ids, const std::string& how) {
    for (const std::string& id : ids) {
      if (!text.empty()) text += "; ";
      text += verb + id + how;
    }
  };
  add(withdrawn.at_once, "'s lesson: unlearnt at once");
  add(withdrawn.with_next_rebuild,
      "'s lesson, which is unlearnt with the next rebuild that passes it");
  add(withdrawn.never_learnt, ", which was not learnt");
  if (withdrawn.too_old > 0) {
    if (!text.empty()) text += "; ";
    text += Counted(withdrawn.too_old, "earlier lesson") +
            " about this answer can no longer be unlearnt";
  }
  return text;
}

// ---- Forgets ------------------------------------------------------------------------------------

// What a forget changes in all lineages of a tenant: the counts and names together.
struct Respond::Forgotten {
  size_t lessons = 0;
  Lineage::Unlearnt left;  // of Unlearnt what Dropping tells
  size_t rebuilt = 0;      // adapters
  std::string told;        // what becomes of them, for the receipt
};

Respond::Forgotten Respond::ForgetLessons(const Forget& forget, Tenant& tenant,
                                          const Gathered& gathered, Plan& plan) const {
  Forgotten forgotten;
  size_t lessons_again = 0;
  std::vector<Version> makes;
  std::string told_of_one;
  for (const LearnerId& learner : tenant.lineages.Learners()) {
    Lineage::Unlearnt unlearnt;
    if (!learner.empty() && learner == forget.user) {
      unlearnt = tenant.lineages.Remove(learner);
      AddStep(learner, std::nullopt, Return{}, 0, plan);
      plan.lessons.back().ends_learner = true;
      forgotten.told = "; the adapter of their own is gone";
    } else {
      Lineage& lineage = tenant.lineages.Change(learner);
      unlearnt = lineage.Forget(forget, gathered.admission->admitted_after_all, adapt_);
      if (unlearnt.lessons > 0 || unlearnt.step) {
        AddStep(learner, unlearnt.step, Return{lineage.PathOfHead(), unlearnt.changed},
                lineage.serving(), plan);
      }
      told_of_one += Unlearning(unlearnt, lineage);
    }
    forgotten.lessons += unlearnt.lessons;
    forgotten.rebuilt += unlearnt.step ? 1 : 0;
    lessons_again += unlearnt.lessons_again;
    if (unlearnt.step && unlearnt.step->makes) makes.push_back(*unlearnt.step->makes);
    forgotten.left.passed += unlearnt.passed;
    const auto append = [](auto& to, const auto& more) {
      to.insert(to.end(), more.begin(), more.end());
      std::sort(to.begin(), to.end());
    };
    append(forgotten.left.versions, unlearnt.versions);
    append(forgotten.left.snapshots, unlearnt.snapshots);
  }
  if (forgotten.rebuilt <= 1) {
    forgotten.told += told_of_one;
  } else {
    forgotten.told += "; " + Counted(forgotten.rebuilt, "adapter") +
                      " of users: " + Counted(lessons_again, "lesson") + " learnt again" +
                      (makes.empty() ? "" : ", which makes versions " + Listed(makes));
  }
  return forgotten;
}

void Respond::PlanForget(const Forget& forget, Tenant& tenant, const Gathered& gathered,
                         Plan& plan) const {
  plan.forgets = true;
  const std::set<AnswerId> gone = tenant.shown.Concerned(forget);
  const size_t answers = tenant.records.Purge(gone, forget, tenant.shown, plan.retired);
  const Forgotten forgotten = ForgetLessons(forget, tenant, gathered, plan);
  const size_t cached =
      tenant.cache.Purge(gone, forgotten.left.versions, tenant.shown, plan.retired);
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  const Chosen& chosen = *gathered.chosen;
  const std::string examples = Counted(chosen.examples_changed, "example") + ", ";
  if (forget.of_events()) {
    const bool known =
        answers + cached + forgotten.lessons + chosen.examples_changed + chosen.decisions_removed >
            0 ||
        forgotten.rebuilt > 0 || !forgotten.left.versions.empty();
    const bool is_one = !forget.event_id.empty();
    if (!known) {
      summary = "nothing forgotten: no lesson, question or example on record is of " +
                (is_one ? "event " + forget.event_id + " of source " + forget.event_source
                        : "conversation " + forget.conversation_id);
      return;
    }
    summary = (is_one ? "forgot event " + forget.event_id
                      : "forgot conversation " + forget.conversation_id) +
              ": " + examples;
  } else if (forget.user.empty()) {
    summary = "forgot document " + forget.document_id + ": ";
    if (chosen.examples_changed > 0) summary += examples;
  } else {
    summary = "forgot user " + forget.user + ": " + examples;
  }
  if (!forget.document_id.empty() || forget.documents) {
    summary += Counted(gathered.found->chunks_removed, "chunk") + ", ";
  }
  summary += Counted(answers, "query record") + ", " + Counted(cached, "cached answer") + ", ";
  summary += Counted(forgotten.lessons, "lesson") + forgotten.told + Dropping(forgotten.left);
}

}  // namespace nudge
