#include "stages/prompt.h"

#include <algorithm>
#include <cstdio>

#include "stages/hash.h"

namespace nudge {
namespace {

constexpr char kOwnDecoding[] = "own";     // arm of a prompt that brought its decoding
constexpr double kExamplePriorWeight = 2;  // in rewards

// Sixteen sums side by side: the same order of additions however wide the machine is.
double Cosine(const Vector& a, const Vector& b) {
  if (a.size() != b.size()) return -2;  // of different embedders: less alike than anything
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  double sum = 0;
  for (; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  for (const float lane : lanes) sum += double{lane};
  return sum;
}

// By squaring, since std::pow may have other bits elsewhere.
double Power(double base, uint64_t exponent) {
  double power = 1;
  for (; exponent > 0; exponent /= 2, base *= base) {
    if (exponent % 2 == 1) power *= base;
  }
  return power;
}

// Without nobody.
std::set<std::string> People(std::set<std::string> users) {
  users.erase("");
  return users;
}

std::string ArmName(const std::string& prompt_id, const std::string& preset) {
  return prompt_id + "/" + preset;
}

}  // namespace

// ---- Arms ---------------------------------------------------------------------------------------

Prompt::Prompt(PromptOptions options) : options_(std::move(options)) {
  std::set<std::string> names;
  for (const DecodingPreset& preset : options_.presets) {
    if (preset.name.empty() || !names.insert(preset.name).second) {
      throw StartError("prompt.presets: every preset needs a name of its own, '" + preset.name +
                       "' is empty or there twice");
    }
  }
  const auto within = [](bool holds, const char* what) {
    if (!holds) throw StartError(std::string("prompt.") + what);
  };
  within(!options_.presets.empty(), "presets: at least one decoding preset is needed");
  within(options_.gamma >= 0, "gamma: must be 0 or more");
  within(options_.reward_decay > 0 && options_.reward_decay <= 1, "reward_decay: outside (0, 1]");
  within(options_.prior_mean >= 0 && options_.prior_mean <= 1, "prior_mean: outside 0..1");
  within(options_.prior_weight > 0, "prior_weight: must be above 0");
}

Prompt::Text Prompt::Configured() const {
  Text text;
  text.system = options_.default_system;
  text.configured = true;
  SetArms(text);
  return text;
}

// Gives a prompt its arms of today, with what is known of those that it had.
void Prompt::SetArms(Text& prompt) const {
  std::vector<Arm> arms;
  if (prompt.decoding) {
    arms.push_back({{kOwnDecoding, *prompt.decoding}});
  } else {
    for (const DecodingPreset& preset : options_.presets) arms.push_back({preset});
  }
  for (Arm& arm : arms) {
    for (const Arm& before : prompt.arms) {
      if (before.preset.name != arm.preset.name) continue;
      arm.weight = before.weight;
      arm.sum = before.sum;
      arm.rewards = before.rewards;
    }
  }
  prompt.arms = std::move(arms);
}

double Prompt::Mean(const Arm& arm) const {
  return (options_.prior_weight * options_.prior_mean + arm.sum) /
         (options_.prior_weight + arm.weight);
}

double Prompt::Helpfulness(const Example& example) {
  return example.sum / (kExamplePriorWeight + example.weight);
}

Prompt::Choice Prompt::Choose(const Tenant& tenant, const Event& event) const {
  const Query& query = std::get<Query>(event.data);
  std::vector<Choice> arms;
  const auto add = [&](const std::string& prompt_id, const Text& prompt) {
    for (const Arm& arm : prompt.arms) arms.push_back({&prompt_id, &prompt, &arm, 1});
  };
  // The default prompt first: it is the best of equals.
  for (const bool is_default : {true, false}) {
    for (const auto& [prompt_id, row] : tenant.prompts.rows()) {
      if ((prompt_id == options_.default_prompt_id) != is_default) continue;
      if (query.options.prompt_id && *query.options.prompt_id != prompt_id) continue;
      add(prompt_id, row.value);
    }
  }
  if (arms.empty()) return {};
  if (arms.size() == 1) return arms.front();
  size_t best = 0;
  for (size_t i = 1; i < arms.size(); ++i) {
    if (Mean(*arms[i].arm) > Mean(*arms[best].arm)) best = i;
  }
  if (options_.gamma == 0) return arms[best];

  const double best_mean = Mean(*arms[best].arm);
  double of_others = 0;
  for (size_t i = 0; i < arms.size(); ++i) {
    if (i == best) continue;
    arms[i].propensity =
        1 / (static_cast<double>(arms.size()) + options_.gamma * (best_mean - Mean(*arms[i].arm)));
    of_others += arms[i].propensity;
  }
  arms[best].propensity = 1 - of_others;
  double left = UniformAt(SeedOf({event.tenant, event.source, event.id, "prompt arm"}), 0);
  for (size_t i = 0; i < arms.size(); ++i) {
    if (i == best) continue;
    if (left < arms[i].propensity) return arms[i];
    left -= arms[i].propensity;
  }
  return arms[best];
}

// ---- Events -------------------------------------------------------------------------------------

Prompt::Tenant& Prompt::Make(int32_t partition, const TenantId& name) {
  Tenant& tenant = tenants_.Make(partition, name);
  if (tenant.prompts.empty()) tenant.prompts.Put(options_.default_prompt_id, Configured());
  return tenant;
}

Result<Chosen> Prompt::Apply(Sequence at, const Resolved& resolved, const Found& found) {
  const Prepared& prepared = *resolved.prepared;
  const Event& event = prepared.event;
  Chosen chosen;
  if (resolved.duplicate_of) return chosen;
  if (std::holds_alternative<Query>(event.data)) return Answer(at, prepared, found);
  if (const auto* document = std::get_if<DocumentUpsert>(&event.data)) {
    Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
    if (tenant == nullptr && document->access) tenant = &Make(at.partition(), event.tenant);
    if (tenant != nullptr) tenant->restricted.Put(document->document_id, document->access);
    return chosen;
  }
  if (Tenant* tenant = tenants_.Find(at.partition(), event.tenant)) {
    RemoveDocuments(*tenant, resolved.removed, chosen);
  }
  const auto* feedback = std::get_if<Feedback>(&event.data);
  if (const auto* upsert = std::get_if<PromptUpsert>(&event.data)) {
    Upsert(Make(at.partition(), event.tenant), *upsert, chosen);
  } else if (const auto* removal = std::get_if<PromptDelete>(&event.data)) {
    Delete(Make(at.partition(), event.tenant), *removal, chosen);
  } else if (const auto* example = std::get_if<ExampleGiven>(&event.data)) {
    Tenant& tenant = Make(at.partition(), event.tenant);
    AddExample(tenant, at,
               {example->query,
                example->answer,
                People({event.user}),
                EventsBehind(event),
                {},
                prepared.query_vector},
               chosen);
  } else if (feedback != nullptr) {
    if (Tenant* tenant = tenants_.Find(at.partition(), event.tenant)) {
      Learn(*tenant, at, resolved, chosen);
    }
  } else if (const auto* forget = std::get_if<nudge::Forget>(&event.data)) {
    Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
    if (tenant != nullptr) Forget(*tenant, *forget, chosen);
  }
  if (std::holds_alternative<ExampleGiven>(event.data) ||
      (feedback != nullptr && feedback->inline_answer)) {
    const Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
    const Text* text =
        tenant != nullptr ? tenant->prompts.Find(options_.default_prompt_id) : nullptr;
    chosen.prompt_id = options_.default_prompt_id;
    chosen.prompt_version = text != nullptr ? text->version : 1;
    chosen.system = text != nullptr ? text->system : options_.default_system;
  }
  return chosen;
}

Result<Chosen> Prompt::Answer(Sequence at, const Prepared& prepared, const Found& found) {
  const Query& query = std::get<Query>(prepared.event.data);
  Tenant& tenant = Make(at.partition(), prepared.event.tenant);
  const Choice choice = Choose(tenant, prepared.event);
  if (choice.arm == nullptr) {
    return Error{
        Code::kUnknownPrompt,
        "options.prompt_id: there is no prompt '" + query.options.prompt_id.value_or("") + "'",
        "send a nudge.prompt.upsert first"};
  }
  Chosen chosen;
  chosen.prompt_id = *choice.prompt_id;
  chosen.prompt_version = choice.prompt->version;
  chosen.system = choice.prompt->system;
  chosen.decoding = choice.arm->preset.decoding;
  chosen.decoding_name = choice.arm->preset.name;
  chosen.propensity = choice.propensity;
  if (query.options.temperature) chosen.decoding.temperature = *query.options.temperature;
  if (query.options.max_tokens) chosen.decoding.max_tokens = *query.options.max_tokens;

  Decision decision{chosen.prompt_id,
                    chosen.prompt_version,
                    chosen.decoding_name,
                    {},
                    prepared.event.user,
                    NameOf(prepared.event.source, prepared.event.id),
                    {},
                    {},
                    {}};
  if (query.options.temperature) decision.arm.clear();
  decision.shots = ChooseShots(tenant, prepared.query_vector, query.groups);
  for (const uint64_t shot : decision.shots) {
    const Example& example = *tenant.examples.Find(shot);
    chosen.shots.push_back(
        {example.question, example.answer, example.people, example.events, example.rests_on});
  }
  // A few-shot shows no turns: what follows on others would make a riddle of it.
  if (options_.corrections_as_examples && query.messages.empty()) {
    decision.question = query.text;
    decision.vector = prepared.query_vector;
    decision.rests_on = RestOf(found.passages);
    for (const FewShot& shot : chosen.shots) decision.rests_on.Add(shot.rests_on);
  }
  Rest(tenant, at.value, decision.rests_on);
  tenant.decisions.Put(at.value, std::move(decision));
  if (tenant.decisions.size() > options_.decisions_per_tenant) {
    EraseDecision(tenant, tenant.decisions.rows().begin()->first);
  }
  return chosen;
}

// Best first; of equals the oldest.
std::vector<uint64_t> Prompt::ChooseShots(const Tenant& tenant, const Vector& vector,
                                          const Groups& groups) const {
  if (vector.empty() || options_.few_shots == 0) return {};
  std::vector<std::pair<double, uint64_t>> scored;  // minus score, sequence
  for (const auto& [sequence, row] : tenant.examples.rows()) {
    if (!tenant.restricted.MaySee(row.value.rests_on, groups)) continue;
    const double score =
        Cosine(vector, row.value.vector) + options_.few_shot_weight * Helpfulness(row.value);
    if (score >= options_.few_shot_min_similarity) scored.emplace_back(-score, sequence);
  }
  const size_t count = std::min<size_t>(options_.few_shots, scored.size());
  std::partial_sort(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(count),
                    scored.end());
  std::vector<uint64_t> shots(count);
  for (size_t i = 0; i < count; ++i) shots[i] = scored[i].second;
  return shots;
}

void Prompt::Learn(Tenant& tenant, Sequence at, const Resolved& resolved, Chosen& chosen) const {
  const std::optional<Signal>& signal = resolved.prepared->signal;
  if (!signal || !resolved.about || resolved.unheard != Unheard::kNo) return;
  uint32_t withdrawn = 0;
  for (const Sequence word : resolved.earlier) {
    if (tenant.examples.Find(word.value) == nullptr) continue;
    RemoveExample(tenant, word.value);
    ++withdrawn;
  }
  const bool teaches = signal->reward != 0 || signal->correction;
  std::optional<double> reward;
  if (teaches) reward = signal->reward != 0 ? signal->reward : -1;
  Reward(tenant, at, resolved, reward, chosen);
  std::string note = std::move(chosen.note);
  const Decision* decision = tenant.decisions.Find(resolved.about->value);
  if (options_.corrections_as_examples && signal->correction && decision != nullptr &&
      !decision->vector.empty()) {
    Example example{decision->question,
                    *signal->correction,
                    People({decision->user, resolved.prepared->event.user}),
                    EventsBehind(resolved.prepared->event),
                    decision->rests_on,
                    decision->vector};
    AddExample(tenant, at, std::move(example), chosen);
  }
  if (withdrawn > 0) note += note.empty() ? "" : "; ";
  if (withdrawn > 0) note += "the earlier correction is no few-shot any more";
  chosen.examples_changed += withdrawn;
  chosen.note = std::move(note);
}

// Credits the arm and the examples of an answer, in place of what an earlier word had credited;
// with no reward takes that out.
void Prompt::Reward(Tenant& tenant, Sequence at, const Resolved& resolved,
                    std::optional<double> reward, Chosen& chosen) const {
  uint64_t key = at.value;
  std::optional<Credit> before;
  for (const Sequence word : resolved.earlier) {
    const Credit* credit = tenant.credits.Find(word.value);
    if (credit == nullptr) continue;
    key = word.value;
    before = *credit;
  }
  if (!reward && !before) return;
  tenant.credits.Erase(key);
  const Decision* decision = tenant.decisions.Find(resolved.about->value);
  if (decision == nullptr) {
    if (reward) chosen.note = "no arm credited: the decision is no longer on record";
    return;
  }
  RewardShots(tenant, *decision, (reward ? 1.0 : 0.0) - (before ? 1.0 : 0.0),
              reward.value_or(0) - (before ? before->reward : 0));
  const uint64_t number = RewardArm(tenant, *decision, reward, before, chosen);
  if (!reward || resolved.prepared->event.user.empty()) return;
  tenant.credits.Put(key, {*reward, number});
  if (tenant.credits.size() > options_.decisions_per_tenant) {
    tenant.credits.Erase(uint64_t{tenant.credits.rows().begin()->first});
  }
}

// The reward's number among the arm's; 0 where it is not credited.
uint64_t Prompt::RewardArm(Tenant& tenant, const Decision& decision, std::optional<double> reward,
                           const std::optional<Credit>& before, Chosen& chosen) const {
  if (decision.arm.empty()) {
    if (reward) chosen.note = "no arm credited: the query set its own temperature";
    return 0;
  }
  const Text* prompt = tenant.prompts.Find(decision.prompt_id);
  if (prompt == nullptr || prompt->version != decision.prompt_version) {
    if (!reward) return 0;
    chosen.note = "no arm credited: prompt " + decision.prompt_id + " version " +
                  std::to_string(decision.prompt_version) + " has been replaced";
    return 0;
  }
  uint64_t number = before ? before->number : 0;
  for (Arm& arm : tenant.prompts.Change(decision.prompt_id)->arms) {
    if (arm.preset.name != decision.arm) continue;
    const double value = reward ? (*reward + 1) / 2 : 0;
    std::string how = "credited to ";
    if (number != 0) {
      const double share = Power(options_.reward_decay, arm.rewards - number);
      arm.weight = std::max(0.0, arm.weight - (reward ? 0 : share));
      arm.sum = std::max(0.0, arm.sum + share * (value - (before->reward + 1) / 2));
      how = reward ? "credited in place of the earlier word to " : "no longer credited to ";
    } else if (reward) {
      arm.weight = options_.reward_decay * arm.weight + 1;
      arm.sum = options_.reward_decay * arm.sum + value;
      number = ++arm.rewards;
    } else {
      continue;
    }
    char mean[32];
    std::snprintf(mean, sizeof mean, "%.2f", Mean(arm));
    chosen.note = how + ArmName(decision.prompt_id, decision.arm) + " (mean " + mean + ")";
  }
  return number;
}

void Prompt::RewardShots(Tenant& tenant, const Decision& decision, double weight, double sum) {
  for (const uint64_t shot : decision.shots) {
    Example* example = tenant.examples.Change(shot);
    if (example == nullptr) continue;
    tenant.by_helpfulness.erase({Helpfulness(*example), shot});
    example->weight += weight;
    example->sum += sum;
    tenant.by_helpfulness.insert({Helpfulness(*example), shot});
  }
}

// ---- Prompts ------------------------------------------------------------------------------------

void Prompt::Upsert(Tenant& tenant, const PromptUpsert& upsert, Chosen& chosen) const {
  chosen.prompt_id = upsert.prompt_id;
  Text text;
  text.system = upsert.system;
  text.decoding = upsert.decoding;
  SetArms(text);
  if (const Text* before = tenant.prompts.Find(upsert.prompt_id)) {
    if (before->system == text.system && before->decoding == text.decoding) {
      chosen.prompt_version = before->version;
      chosen.note = "unchanged";
      return;
    }
    text.version = before->version + 1;
  } else {
    text.version = tenant.highest_deleted + 1;
  }
  chosen.prompt_version = text.version;
  chosen.prompts_changed = 1;
  tenant.prompts.Put(upsert.prompt_id, std::move(text));
}

void Prompt::Delete(Tenant& tenant, const PromptDelete& removal, Chosen& chosen) const {
  chosen.prompt_id = removal.prompt_id;
  const Text* text = tenant.prompts.Find(removal.prompt_id);
  if (text == nullptr) {
    chosen.note = "there is no such prompt";
    return;
  }
  chosen.prompt_version = text->version;
  if (removal.prompt_id == options_.default_prompt_id) {
    chosen.note = "the default prompt cannot be deleted, only replaced";
    return;
  }
  if (text->version > tenant.highest_deleted) {
    tenant.highest_deleted = text->version;
    tenant.highest_deleted_changed = true;
  }
  chosen.prompts_changed = 1;
  tenant.prompts.Erase(removal.prompt_id);
}

// ---- Examples -----------------------------------------------------------------------------------

void Prompt::AddExample(Tenant& tenant, Sequence at, Example example, Chosen& chosen) const {
  if (options_.few_shots == 0 || options_.examples_per_tenant == 0) {
    chosen.note = "few-shots are switched off";
    return;
  }
  if (example.vector.empty()) {
    chosen.note = "not kept as a few-shot: there is no embedding";
    return;
  }
  chosen.examples_changed = 1;
  const auto same = tenant.example_of.find({example.question, example.rests_on.lists});
  if (same != tenant.example_of.end()) {
    RemoveExample(tenant, same->second);
    chosen.note = "replaces the earlier example to this question";
  }
  while (tenant.examples.size() >= options_.examples_per_tenant) {
    RemoveExample(tenant, tenant.by_helpfulness.begin()->second);
    chosen.note = "the least helpful example made room";
    ++chosen.examples_changed;
  }
  tenant.example_of[{example.question, example.rests_on.lists}] = at.value;
  tenant.by_helpfulness.insert({Helpfulness(example), at.value});
  Rest(tenant, at.value, example.rests_on);
  tenant.examples.Put(at.value, std::move(example));
}

void Prompt::RemoveExample(Tenant& tenant, uint64_t sequence) const {
  const Example& example = *tenant.examples.Find(sequence);
  tenant.example_of.erase({example.question, example.rests_on.lists});
  tenant.by_helpfulness.erase({Helpfulness(example), sequence});
  for (const std::string& id : example.rests_on.documents) tenant.resting.erase({id, sequence});
  tenant.examples.Erase(sequence);
}

void Prompt::Rest(Tenant& tenant, uint64_t sequence, const RestsOn& rests_on) {
  for (const std::string& id : rests_on.documents) tenant.resting.emplace(id, sequence);
}

void Prompt::EraseDecision(Tenant& tenant, uint64_t sequence) {
  for (const std::string& id : tenant.decisions.Find(sequence)->rests_on.documents) {
    tenant.resting.erase({id, sequence});
  }
  tenant.decisions.Erase(sequence);
}

// What came of documents that are gone is shown to nobody, and made no example of.
void Prompt::RemoveDocuments(Tenant& tenant, const std::vector<std::string>& removed,
                             Chosen& chosen) const {
  std::set<uint64_t> concerned;
  for (const std::string& id : removed) {
    tenant.restricted.Remove(id);
    for (auto row = tenant.resting.lower_bound({id, 0});
         row != tenant.resting.end() && row->first == id; ++row) {
      concerned.insert(row->second);
    }
  }
  for (const uint64_t sequence : concerned) {
    if (tenant.examples.Find(sequence) != nullptr) {
      RemoveExample(tenant, sequence);
      ++chosen.examples_changed;
      continue;
    }
    Decision decision = *tenant.decisions.Find(sequence);
    EraseDecision(tenant, sequence);
    decision.question.clear();
    decision.vector.clear();
    decision.rests_on = {};
    tenant.decisions.Put(sequence, std::move(decision));
  }
}

// All that holds words of the user or event.
void Prompt::Forget(Tenant& tenant, const nudge::Forget& forget, Chosen& chosen) const {
  if (!forget.of_events() && forget.user.empty()) return;
  const std::vector<EventName> events = forget.Events();
  std::vector<uint64_t> examples, decisions;
  for (const auto& [sequence, row] : tenant.examples.rows()) {
    const Example& example = row.value;
    const bool named = std::any_of(events.begin(), events.end(),
                                   [&](EventName event) { return example.events.contains(event); });
    if (named || example.people.contains(forget.user)) examples.push_back(sequence);
  }
  for (const auto& [sequence, row] : tenant.decisions.rows()) {
    const Decision& decision = row.value;
    const bool named = std::find(events.begin(), events.end(), decision.event) != events.end();
    const bool theirs = !forget.user.empty() && decision.user == forget.user;
    if (named || theirs) decisions.push_back(sequence);
  }
  for (const uint64_t sequence : examples) RemoveExample(tenant, sequence);
  for (const uint64_t sequence : decisions) EraseDecision(tenant, sequence);
  chosen.examples_changed += static_cast<uint32_t>(examples.size());
  chosen.decisions_removed = static_cast<uint32_t>(decisions.size());
}

}  // namespace nudge
