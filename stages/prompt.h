// Which prompt, which decoding and which examples an answer gets:
// Resolved, Found -> [Prompt] -> Chosen.
//
// A tenant's arms are its prompts in their current versions, each with every configured decoding
// preset, or with the prompt's own decoding where it brought one. A query takes, in this order:
//   1. what its options say of temperature and max_tokens;
//   2. the prompt that its prompt_id names, with the policy choosing among that prompt's arms;
//   3. the policy's choice among all arms.
//
// Policy: inverse-gap weighting over the arms' mean rewards (Abe, Long 1999; Foster, Rakhlin 2020).
// With K arms, means mu in 0..1 and b the first arm of the highest mean,
//   p(a) = 1 / (K + gamma (mu(b) - mu(a)))  for a != b,    p(b) = 1 - sum of the others.
// The draw is a function of tenant, source and id of the event; p of the arm drawn is logged with
// the answer. Feedback moves the mean of the arm that the query got, even late: a decayed mean with
// a prior. A reward r in -1..1 counts as (r + 1) / 2; a correction without a rating counts as r =
// -1. Where the event set its own temperature, no arm is credited. Inline feedback credits none.
// A user's later word on an answer takes the place of their earlier reward, where it stands in the
// decay; one without a reward takes it out. So it is with the examples that the answer was given
// with. Of the last decisions_per_tenant rewards is known how to do that.
//
// Few-shots: examples (nudge.example) by cosine of the question plus few_shot_weight times proven
// helpfulness, which is the mean reward, with a prior at 0, of the answers that they were chosen
// for. An example to a question already there replaces the older. Beyond examples_per_tenant the
// least helpful goes, the oldest of equals first.
//
// Rights: a correction that is kept as an example rests on the documents that were found for its
// question (access.h). Those alone get it who may see all of these, by the lists of then and of
// now; for whoever else it is as if it were not there. It replaces no example under other lists,
// and goes with any of its documents.
//
// Versions of a prompt_id are never used twice: one that is created after another was deleted
// starts above the highest version deleted. An upsert that changes nothing makes no version.
//
// One event at a time, in log order; see state.h for who calls Save, Load and Drop. A query with
// arms and without examples costs about a microsecond; the similarity of n examples n * dimension
// multiply-adds on top.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "stages/events.h"
#include "stages/prompt_options.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Prompt {
 public:
  // Throws StartError: no preset, two of one name, or a number out of its range.
  explicit Prompt(PromptOptions options = {});

  // The only error is kUnknownPrompt, which recall has ruled out; the state is as before.
  //   query             everything but prompts_changed, examples_changed
  //   inline feedback,
  //   example           prompt_id, prompt_version and system of the default prompt: what the
  //                     question would have been asked with
  //   prompt upsert,
  //   delete            prompt_id, and prompt_version made or ended; prompts_changed
  // examples_changed counts examples added, replaced and dropped; note is for the receipt.
  // found: what the index found for this event.
  Result<Chosen> Apply(Sequence at, const Resolved& resolved, const Found& found = {});

  void Save(int32_t partition, Changes& changes);
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

 private:
  struct Arm {
    DecodingPreset preset;
    double weight = 0;     // of the rewards so far, decayed
    double sum = 0;        // of weight times reward in 0..1
    uint64_t rewards = 0;  // so far
  };
  struct Text {  // a prompt in its current version
    uint32_t version = 1;
    std::string system;
    std::optional<Decoding> decoding;
    bool configured = false;  // the default, as the options have it
    std::vector<Arm> arms;
  };
  struct Example {
    std::string question;
    std::string answer;
    std::set<std::string> people;  // who asked, who answered
    std::set<EventName> events;    // that said so
    RestsOn rests_on;
    Vector vector;
    double weight = 0;  // of the rewards so far
    double sum = 0;     // of weight times reward in -1..1
  };
  struct Decision {
    std::string prompt_id;
    uint32_t prompt_version = 0;
    std::string arm;              // its preset's name; empty: not to be credited
    std::vector<uint64_t> shots;  // sequences of the examples
    std::string user;             // who asked
    EventName event = 0;          // the question's
    // These three only with corrections_as_examples.
    std::string question;
    Vector vector;  // empty: no example is made of its correction
    RestsOn rests_on;
  };
  struct Credit {         // a reward that a later word of its user may replace
    double reward = 0;    // -1..1
    uint64_t number = 0;  // among the arm's; 0: no arm was credited
  };
  struct Tenant {
    Table<std::string, Text> prompts;  // with the default from the start
    uint32_t highest_deleted = 0;
    bool highest_deleted_changed = false;
    Table<uint64_t, Example> examples;  // by the sequence of the event that gave it
    Table<uint64_t, Decision> decisions;
    Table<uint64_t, Credit> credits;  // by the sequence of the first word
    RestrictedDocuments restricted;
    // Derived: what rests on a document, by the sequences of examples and decisions.
    std::set<std::pair<std::string, uint64_t>> resting;
    // Derived from examples.
    std::map<std::pair<std::string, std::set<Groups>>, uint64_t> example_of;  // question and lists
    std::set<std::pair<double, uint64_t>> by_helpfulness;  // least helpful, oldest first
  };
  struct Choice {
    const std::string* prompt_id = nullptr;
    const Text* prompt = nullptr;
    const Arm* arm = nullptr;
    double propensity = 1;
  };

  Tenant& Make(int32_t partition, const TenantId& name);
  Text Configured() const;
  void SetArms(Text& prompt) const;
  double Mean(const Arm& arm) const;
  static double Helpfulness(const Example& example);

  Choice Choose(const Tenant& tenant, const Event& event) const;
  std::vector<uint64_t> ChooseShots(const Tenant& tenant, const Vector& vector,
                                    const Groups& groups) const;
  Result<Chosen> Answer(Sequence at, const Prepared& prepared, const Found& found);
  void Learn(Tenant& tenant, Sequence at, const Resolved& resolved, Chosen& chosen) const;
  void Reward(Tenant& tenant, Sequence at, const Resolved& resolved, std::optional<double> reward,
              Chosen& chosen) const;
  uint64_t RewardArm(Tenant& tenant, const Decision& decision, std::optional<double> reward,
                     const std::optional<Credit>& before, Chosen& chosen) const;
  static void RewardShots(Tenant& tenant, const Decision& decision, double weight, double sum);
  void Upsert(Tenant& tenant, const PromptUpsert& upsert, Chosen& chosen) const;
  void Delete(Tenant& tenant, const PromptDelete& removal, Chosen& chosen) const;
  void AddExample(Tenant& tenant, Sequence at, Example example, Chosen& chosen) const;
  void RemoveExample(Tenant& tenant, uint64_t sequence) const;
  static void Rest(Tenant& tenant, uint64_t sequence, const RestsOn& rests_on);
  static void EraseDecision(Tenant& tenant, uint64_t sequence);
  void RemoveDocuments(Tenant& tenant, const std::vector<std::string>& removed,
                       Chosen& chosen) const;
  void Forget(Tenant& tenant, const nudge::Forget& forget, Chosen& chosen) const;

  PromptOptions options_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
