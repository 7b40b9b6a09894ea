#include "stages/model/learn/learner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "stages/hash.h"
#include "stages/model/adapters/new_adapter.h"
#include "stages/model/learn/quorum.h"
#include "stages/model/trainer/functions.h"
#include "stages/model/trainer/kernels.h"

namespace nudge {

namespace {

constexpr double kBudgetStart = 0.5;
constexpr double kLeastLambda = 0.03;
constexpr double kMostLambda = 5;

// Streams of choices, kept apart.
enum Purpose : uint64_t { kReplay = 1, kAnchors, kPrompts };  // 0 is NewAdapter's

bool IsUp(const TokenExample& example) {
  return example.correction || example.reward > 0;
}
bool IsDown(const TokenExample& example) {
  return example.correction || example.reward < 0;
}

TrainSequence Sequence(const std::vector<int32_t>& prompt, const std::vector<int32_t>& completion,
                       Objective objective, double weight) {
  TrainSequence sequence;
  sequence.tokens = prompt;
  sequence.tokens.insert(sequence.tokens.end(), completion.begin(), completion.end());
  sequence.completion_begin = prompt.size();
  sequence.objective = objective;
  sequence.weight = static_cast<float>(weight);
  return sequence;
}

size_t Rows(const TrainSequence& sequence) {
  return sequence.tokens.size() - 1;
}

double MeanLoss(const StepLosses& losses, size_t begin) {
  double sum = 0;
  for (size_t i = begin; i < losses.sequences.size(); ++i) sum += losses.sequences[i].loss;
  const size_t count = losses.sequences.size() - begin;
  return count == 0 ? 0 : sum / static_cast<double>(count);
}

std::optional<Error> Check(const TokenExample& example) {
  const auto refused = [](const char* what) {
    return Error{Code::kInvalidEvent, what, "correct the feedback event"};
  };
  if (example.prompt.empty()) return refused("an example without prompt");
  if (example.correction) {
    if (example.correction->empty()) return refused("a correction without text");
    return std::nullopt;
  }
  if (!(std::fabs(example.reward) <= 1)) return refused("a reward outside -1..1");
  if (example.reward == 0) return refused("reward 0 without correction: nothing to learn");
  if (example.shown_completion.empty()) return refused("a reward for an empty answer");
  return std::nullopt;
}

}  // namespace

std::vector<std::string> Problems(const LearnerOptions& options) {
  LearnerOptions copy = options;
  std::vector<std::string> problems = keys::WrongValues(OptionsOf(copy));
  const auto check = [&](const char* name, double value, double low, double high) {
    if (value >= low && value <= high) return;
    problems.push_back(std::string(name) + ": " + keys::ToText(value) + " is outside " +
                       keys::ToRange(low, high));
  };
  check("beta1", options.optimizer.beta1, 0, 0.9999);
  check("beta2", options.optimizer.beta2, 0, 0.999999);
  check("epsilon", options.optimizer.epsilon, 1e-12, 1);
  check("weight_decay", options.optimizer.weight_decay, 0, 1);
  if (options.kl_budget > 0 && options.kl_budget < kLeastKlBudget) {
    problems.push_back("adapt.kl_budget: " + keys::ToText(options.kl_budget) +
                       " is neither 0 nor at least " + keys::ToText(kLeastKlBudget));
  }
  return problems;
}

LoraShape AdapterShape(const FrozenWeights& weights, const LearnerOptions& options) {
  const float alpha = PlainAlpha(options.alpha, options.rank, options.scale == "rslora");
  return weights.AdapterShape(options.rank, alpha, options.modules);
}

Result<AnchorPool> AnchorPool::Make(std::vector<TrainSequence> sequences, Trainer& trainer,
                                    const ParallelFor& parallel, size_t bytes_max) {
  AnchorPool pool;
  size_t bytes = 0;
  for (TrainSequence& sequence : sequences) {
    if (auto usable = trainer.CanUse(sequence.tokens, sequence.completion_begin); !usable) {
      return usable.error();
    }
    sequence.objective = Objective::kAnchor;
    sequence.weight = 1;
    sequence.base_hidden = nullptr;
    bytes += (sequence.tokens.size() - sequence.completion_begin) *
             trainer.weights().shape().hidden * sizeof(float);
    if (bytes > bytes_max) continue;
    auto hidden = trainer.BaseHidden(sequence.tokens, sequence.completion_begin, parallel);
    if (!hidden) return hidden.error();
    sequence.base_hidden = std::make_shared<const std::vector<float>>(std::move(*hidden));
  }
  pool.sequences_ = std::move(sequences);
  return pool;
}

Learner::Learner(const FrozenWeights& weights, const LearnerOptions& options)
    : options_(options), optimizer_(0) {
  const auto problems = Problems(options);
  if (!problems.empty()) throw StartError(problems.front());
  weights_.shape = AdapterShape(weights, options);
  weights_ = NewAdapter(weights_.shape, options_.seed);
  optimizer_ = AdamW(weights_.values.size());
  lambda_ = options.kl_budget > 0 ? kBudgetStart : options.anchor_lambda;
}

Learner::Tally Learner::TallyAfter(const TokenExample& example) const {
  return {tally_.ups * options_.balance_decay + (IsUp(example) ? 1 : 0),
          tally_.downs * options_.balance_decay + (IsDown(example) ? 1 : 0)};
}

double Learner::Balance(const Tally& tally) {
  return tally.downs <= tally.ups ? 1 : tally.ups / tally.downs;
}

double Learner::DownWeight(const Tally& tally) const {
  return tally.ups <= 0 ? 0 : options_.down_weight * Balance(tally);
}

// Of a thumb up for an answer of our own: where nobody objects to anything, it says nothing.
double Learner::OwnUpWeight(const Tally& tally) {
  return tally.ups <= tally.downs ? 1 : tally.downs / tally.ups;
}

bool Learner::MovesNothing(const ReplayItem& item, const Tally& tally) const {
  return item.up ? item.own_answer && OwnUpWeight(tally) == 0 : DownWeight(tally) == 0;
}

// `count` different numbers below `below`, or all of them.
std::vector<uint64_t> Learner::Draw(uint64_t purpose, size_t count, size_t below) const {
  const uint64_t stream = RandomAt(RandomAt(options_.seed, purpose), events_);
  std::vector<uint64_t> drawn;
  for (uint64_t i = 0; drawn.size() < std::min(count, below); ++i) {
    uint64_t number = RandomAt(stream, i) % below;
    while (std::find(drawn.begin(), drawn.end(), number) != drawn.end()) {
      number = (number + 1) % below;
    }
    drawn.push_back(number);
  }
  return drawn;
}

// Who has a say in a step: the voice of the new lesson, and those of earlier lessons that have
// credit. What others had been believed before is not repeated.
std::set<Voice> Learner::VoicesWith(const Voice& voice) const {
  std::set<Voice> voices = {voice};
  for (const ReplayItem& item : replay_) {
    if (options_.evidence_nats == 0 || credit_.Of(item.voice) > 0) voices.insert(item.voice);
  }
  return voices;
}

// The earlier lessons that are repeated beside a new one that has `share` of the step: each of who
// is furthest short then, and of that voice's lessons by chance, later ones the more likely. Beside
// what is only disliked stands what is liked: pushed away alone, a model goes anywhere.
std::vector<const Learner::ReplayItem*> Learner::DrawEarlier(const ReplayItem& beside,
                                                             const std::set<Voice>& voices,
                                                             double share, size_t count) const {
  const auto may_be = [&](const ReplayItem& item) {
    return voices.contains(item.voice) && (beside.up || item.up);
  };
  count = std::min(count, replay_.size());
  const uint64_t stream = RandomAt(RandomAt(options_.seed, kReplay), events_);
  std::map<Voice, double> given = {{beside.voice, share}};
  std::vector<const ReplayItem*> drawn;
  std::set<Voice> left;  // that have lessons which are not drawn
  for (const ReplayItem& item : replay_) {
    if (may_be(item)) left.insert(item.voice);
  }
  while (drawn.size() < count && !left.empty()) {
    const Voice next = influence_.FurthestShort(voices, given, left);
    std::vector<std::pair<const ReplayItem*, double>> lessons;  // the latest first
    double all = 0;
    for (auto item = replay_.rbegin(); item != replay_.rend(); ++item) {
      if (item->voice != next || !may_be(*item)) continue;
      if (std::find(drawn.begin(), drawn.end(), &*item) != drawn.end()) continue;
      const double weight = Power(options_.replay_decay, item->age);
      lessons.emplace_back(&*item, weight);
      all += weight;
    }
    if (lessons.empty()) {
      left.erase(next);
      continue;
    }
    double at = UniformAt(stream, drawn.size()) * all;
    size_t chosen = 0;
    while (chosen + 1 < lessons.size() && at >= lessons[chosen].second) {
      at -= lessons[chosen++].second;
    }
    drawn.push_back(lessons[chosen].first);
    given[next] += (1 - share) / static_cast<double>(count);
  }
  return drawn;
}

// Of whoever has most of them, the earliest goes.
Learner::ReplayItem Learner::DropOneOfMost(std::deque<ReplayItem>& items) {
  std::map<Voice, size_t> counts;
  for (const ReplayItem& one : items) ++counts[one.voice];
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto earliest = std::find_if(items.begin(), items.end(), [&](const ReplayItem& item) {
    return item.voice == most->first;
  });
  ReplayItem dropped = std::move(*earliest);
  items.erase(earliest);
  return dropped;
}

// Who says what the model has come to expect less than what was said of late has changed their
// mind, and what they said before ages by more than a lesson.
void Learner::Keep(ReplayItem item, double nll_before) {
  const double surprise = item.up ? std::max(0.0, nll_before - nll_ema_ - kUsualSurprise) : 0;
  if (item.up) nll_ema_ = nll_ema_ == 0 ? nll_before : 0.9 * nll_ema_ + 0.1 * nll_before;
  for (ReplayItem& earlier : replay_) {
    if (earlier.voice == item.voice) earlier.age += 1 + kSurpriseLessons * surprise;
  }
  const auto prompt = [](const ReplayItem& one) {
    return std::span(MainOf(one).tokens).first(MainOf(one).completion_begin);
  };
  std::erase_if(replay_, [&](const ReplayItem& earlier) {
    const auto a = prompt(earlier);
    const auto b = prompt(item);
    return earlier.voice == item.voice && std::equal(a.begin(), a.end(), b.begin(), b.end());
  });
  replay_.push_back(std::move(item));
  if (replay_.size() > options_.replay_examples) DropOneOfMost(replay_);
}

// What does not fit beside the new lesson is left out: anchors before replayed lessons. One that is
// tried again takes the place of a replayed one.
Learner::StepBatch Learner::Pack(const ReplayItem& item, const ReplayItem* again,
                                 const Tally& tally, const AnchorPool& anchors,
                                 size_t max_tokens) const {
  StepBatch batch;
  const double down_weight = DownWeight(tally);
  const auto rows = [&](const ReplayItem& l) {
    const bool has_up = l.up && (!l.own_answer || OwnUpWeight(tally) > 0);
    return (has_up ? Rows(*l.up) : 0) + (l.down && down_weight > 0 ? Rows(*l.down) : 0);
  };
  size_t used = rows(item);
  const std::set<Voice> voices = VoicesWith(item.voice);
  batch.voices = voices.size();
  const double most = 1.0 / (1 + options_.replay_per_lesson);
  double own = influence_.ShareOf(item.voice, voices, most);
  const bool is_not_over = own >= most;
  if (!item.up) own *= Balance(tally);  // the rest is for earlier lessons
  std::vector<const ReplayItem*> earlier;
  if (again != nullptr) earlier.push_back(again);
  const size_t count = std::max<size_t>(options_.replay_per_lesson, earlier.size());
  for (const ReplayItem* one : DrawEarlier(item, voices, own, count - earlier.size())) {
    earlier.push_back(one);
  }
  std::vector<const ReplayItem*> items = {&item};
  for (const ReplayItem* one : earlier) {
    const size_t more = rows(*one);
    if (more == 0) continue;
    if (used + more > max_tokens) {
      batch.left_out.replayed += more;
      continue;
    }
    used += more;
    items.push_back(one);
  }
  auto drawn = Draw(kAnchors, options_.anchors_per_step, anchors.sequences().size());
  for (const uint64_t i : drawn) used += Rows(anchors.sequences()[i]);
  while (!drawn.empty() && used > max_tokens) {
    const size_t less = Rows(anchors.sequences()[drawn.back()]);
    used -= less;
    batch.left_out.anchors += less;
    drawn.pop_back();
  }
  // Alone it is the step; but who has had too much does not get more where others do not fit.
  if (items.size() == 1 && is_not_over) own = 1;
  const double others = (1 - own) / static_cast<double>(std::max<size_t>(items.size() - 1, 1));
  for (const ReplayItem* one : items) {
    const double share = one == &item ? own : others;
    batch.shares[one->voice] += share;
    const auto add = [&](const TrainSequence& sequence, double weight) {
      batch.sequences.push_back(sequence);
      batch.sequences.back().weight *= static_cast<float>(share * weight);
      if (sequence.objective == Objective::kCrossEntropy) {
        batch.sequences.back().keep = static_cast<float>(options_.keep_lambda);
        batch.sequences.back().reach_floor = static_cast<float>(options_.reach_floor);
      }
    };
    const double up_weight = one->own_answer ? OwnUpWeight(tally) : 1;
    if (one->up && up_weight > 0) add(*one->up, up_weight);
    if (one->down && down_weight > 0) add(*one->down, down_weight);
    batch.strength += share * (one->up ? up_weight : Balance(tally));
  }
  batch.anchors_begin = batch.sequences.size();
  batch.lambda = options_.kl_budget > 0 ? lambda_ : options_.anchor_lambda;
  for (const uint64_t i : drawn) {
    batch.sequences.push_back(anchors.sequences()[i]);
    batch.sequences.back().weight =
        static_cast<float>(batch.lambda / static_cast<double>(drawn.size()));
  }
  return batch;
}

// ---- Evidence, and what has none ----------------------------------------------------------------

Result<Learner::ReplayItem> Learner::MakeItem(const TokenExample& example, StepReport& report,
                                              const Means& means) const {
  const std::vector<int32_t>& shown = example.shown_completion;
  ReplayItem item;
  item.voice = example.voice;
  item.place = example.place;
  if (example.correction) {
    item.up = Sequence(example.prompt, *example.correction, Objective::kCrossEntropy, 1);
  } else if (example.reward > 0) {
    item.up = Sequence(example.prompt, shown, Objective::kCrossEntropy, example.reward);
    item.own_answer = example.own_answer;
  }
  const bool pushes_away = IsDown(example) && !shown.empty() && shown != example.correction;
  if (!pushes_away) return item;
  const size_t down_rows = example.prompt.size() + shown.size() - 1;
  // A correction that leaves no room for what it corrects is learnt alone.
  if (item.up && Rows(*item.up) + down_rows > means.trainer.limits().max_tokens) {
    report.left_out.pushed_away = down_rows;
    return item;
  }
  item.down =
      Sequence(example.prompt, shown, Objective::kDown, example.correction ? 1 : -example.reward);
  item.down->beta = static_cast<float>(options_.down_beta);
  auto base = means.trainer.LogProbability(item.down->tokens, item.down->completion_begin, nullptr,
                                           means.parallel);
  if (!base) return base.error();
  item.down->base_log_probability = *base;
  return item;
}

// Of a text that somebody wrote, against some of the last prompts; none: there is nothing to
// compare with. The model's own answers follow from their prompts.
Result<std::optional<double>> Learner::EvidenceOf(const ReplayItem& item,
                                                  const Means& means) const {
  if (options_.evidence_nats == 0 || !item.up || item.own_answer) return std::optional<double>();
  const TrainSequence& up = *item.up;
  const auto prompt = std::span(up.tokens).first(up.completion_begin);
  const auto text = std::span(up.tokens).subspan(up.completion_begin);
  const size_t tokens_max = means.trainer.limits().max_tokens;
  if (text.size() > tokens_max) return std::optional<double>();
  const std::vector<const TokenList*> others =
      prompts_.Unlike(prompt, tokens_max + 1 - text.size());
  if (others.empty()) return std::optional<double>();
  auto own = means.trainer.LogProbability(up.tokens, up.completion_begin, nullptr, means.parallel);
  if (!own) return own.error();
  const auto drawn = Draw(kPrompts, kPromptsCompared, others.size());
  double elsewhere = 0;
  for (const uint64_t i : drawn) {
    TokenList tokens = *others[i];
    tokens.insert(tokens.end(), text.begin(), text.end());
    auto there = means.trainer.LogProbability(tokens, others[i]->size(), nullptr, means.parallel);
    if (!there) return there.error();
    elsewhere += *there / static_cast<double>(drawn.size());
  }
  return std::optional<double>(*own - elsewhere);
}

// Of each other person who has credit, the latest lesson is asked; of more than kAskedMost people
// those of the latest. What waits for agreement itself is asked too, or nobody could begin.
Result<bool> Learner::IsAgreedOn(const ReplayItem& item, const Means& means) const {
  if (options_.quorum_people <= 1) return true;
  std::set<uint64_t> people = {item.voice.person};
  std::vector<const TrainSequence*> others;
  for (const auto* items : {&set_aside_, &replay_}) {
    for (auto one = items->rbegin(); one != items->rend() && others.size() < kAskedMost; ++one) {
      if (options_.evidence_nats > 0 && credit_.Of(one->voice) <= 0) continue;
      if (people.insert(one->voice.person).second) others.push_back(&MainOf(*one));
    }
  }
  const size_t enough = options_.quorum_people - 1;
  auto agreeing =
      CountAgreeing(weights_, MainOf(item), others, enough, means.trainer, means.parallel);
  if (!agreeing) return agreeing.error();
  return *agreeing >= enough;
}

void Learner::SetAside(ReplayItem item, StepReport& report) {
  ++counts_.set_aside;
  set_aside_.push_back(std::move(item));
  if (set_aside_.size() <= kSetAsideMost) return;
  report.refused_for_good.push_back(DropOneOfMost(set_aside_).place);
  ++counts_.refused;
}

// The earliest that the voice has set aside, if its credit allows that; charged for at once.
const Learner::ReplayItem* Learner::ToTryAgain(const Voice& voice, Credit& credit) const {
  if (options_.evidence_nats > 0 && credit.Of(voice) < kCreditToTryAgain) return nullptr;
  const auto found = std::find_if(set_aside_.begin(), set_aside_.end(),
                                  [&](const ReplayItem& item) { return item.voice == voice; });
  if (found == set_aside_.end()) return nullptr;
  if (found->evidence) credit.Book(voice, *found->evidence, options_.evidence_nats);
  return &*found;
}

// ---- A step -------------------------------------------------------------------------------------

Result<StepReport> Learner::Step(const TokenExample& example, Trainer& trainer,
                                 const AnchorPool& anchors, const ParallelFor& parallel) {
  if (auto error = Check(example)) return *error;
  const Means means{trainer, anchors, parallel};
  StepReport report;
  Result<ReplayItem> made = MakeItem(example, report, means);
  if (!made) return made.error();
  ReplayItem& item = *made;
  auto evidence = EvidenceOf(item, means);
  if (!evidence) return evidence.error();
  item.evidence = report.evidence = *evidence;
  Canaries canaries = canaries_;
  if (example.quote && options_.canary_drop_max > 0) {
    if (auto offered = canaries.Offer(*example.quote, trainer, parallel); !offered) {
      return offered.error();
    }
  }
  Credit credit = credit_;
  if (item.evidence) credit.Book(item.voice, *item.evidence, options_.evidence_nats);
  const bool is_founded = !item.evidence || credit.Of(item.voice) > 0;
  const Tally tally = TallyAfter(example);
  auto agreed = is_founded && !MovesNothing(item, tally) ? IsAgreedOn(item, means) : true;
  if (!agreed) return agreed.error();
  const bool may_learn = is_founded && *agreed;
  const ReplayItem* again = may_learn && item.up ? ToTryAgain(item.voice, credit) : nullptr;
  const bool tries_again = again != nullptr;
  if (tries_again) {
    auto still = IsAgreedOn(*again, means);
    if (!still) return still.error();
    if (!*still) {
      report.refused_for_good.push_back(again->place);
      again = nullptr;
    }
  }
  std::swap(canaries, canaries_);
  report.verdict = is_founded ? LessonVerdict::kAlone : LessonVerdict::kUnfounded;
  if (may_learn) {
    auto learnt = Learn(item, again, tally, means, report);
    if (learnt && !report.accepted && again != nullptr) {  // it may be that one's fault
      report.refused_for_good.push_back(again->place);
      learnt = Learn(item, nullptr, tally, means, report);
    }
    if (!learnt) {
      canaries_ = std::move(canaries);
      return learnt.error();
    }
  }
  credit_ = std::move(credit);
  prompts_.Know(example.prompt);
  if (tries_again) EndTrial(item.voice, report);
  if (may_learn) {
    Count(example, tally);
  } else {
    ++events_;
  }
  if (report.verdict == LessonVerdict::kDamages) canaries_.Refused();
  if (report.verdict == LessonVerdict::kDrifts) FollowCap();
  if (!report.accepted) {
    SetAside(std::move(item), report);
    return report;
  }
  ++counts_.steps;
  if (options_.replay_examples > 0) Keep(std::move(item), report.nll_before);
  return report;
}

// What was tried again is one of the earlier lessons now, or gone.
void Learner::EndTrial(const Voice& voice, StepReport& report) {
  const auto tried = std::find_if(set_aside_.begin(), set_aside_.end(),
                                  [&](const ReplayItem& item) { return item.voice == voice; });
  if (!report.refused_for_good.empty()) {
    ++counts_.refused;
  } else if (report.accepted) {
    report.learnt_after_all = tried->place;
    if (options_.replay_examples > 0) Keep(std::move(*tried), nll_ema_);
  }
  set_aside_.erase(tried);
}

// Sets all of the report that comes of the step; verdict and accepted say whether it was taken.
Result<Nothing> Learner::Learn(const ReplayItem& item, const ReplayItem* again, const Tally& tally,
                               const Means& means, StepReport& report) {
  const TrainSequence& target = MainOf(item);
  if (MovesNothing(item, tally)) {
    auto nll = means.trainer.NegativeLogLikelihood(target.tokens, target.completion_begin,
                                                   &weights_, means.parallel);
    if (!nll) return nll.error();
    report.nll_before = *nll;
    report.left_out = {};
    report.verdict = LessonVerdict::kLearnt;
    report.accepted = true;
    return Nothing{};
  }
  const StepBatch batch =
      Pack(item, again, tally, means.anchors, means.trainer.limits().max_tokens);
  const std::span<float> gradient = means.trainer.GradientScratch(weights_.values.size());
  auto losses = means.trainer.Gradients(weights_, batch.sequences, means.parallel, gradient);
  if (!losses) return losses.error();
  const auto tokens = static_cast<double>(target.tokens.size() - target.completion_begin);
  report.nll_before = -losses->sequences[0].log_probability / tokens;
  report.loss = losses->total;
  report.kl = MeanLoss(*losses, batch.anchors_begin);
  report.lambda = batch.lambda;
  report.gradient_norm = losses->gradient_norm;
  report.tokens = losses->tokens;
  report.left_out.anchors = batch.left_out.anchors;
  report.left_out.replayed = batch.left_out.replayed;
  const auto anchored = std::span(batch.sequences).subspan(batch.anchors_begin);
  auto verdict = Move(gradient, stride_ * batch.strength, anchored, means, report);
  if (!verdict) return verdict.error();
  report.verdict = *verdict;
  report.accepted = *verdict == LessonVerdict::kLearnt;
  if (!report.accepted) return Nothing{};
  stride_ = std::min(1.0, 2 * stride_);
  if (!anchored.empty()) FollowBudget(report.kl);
  if (auto nll = means.trainer.NegativeLogLikelihood(target.tokens, target.completion_begin,
                                                     &weights_, means.parallel)) {
    report.nll_after = *nll;
  }
  influence_.Book(batch.shares, batch.voices, options_.influence_lessons);
  return Nothing{};
}

// Takes the step, unless one of the gates says otherwise.
Result<LessonVerdict> Learner::Move(std::span<const float> gradient, double strength,
                                    std::span<const TrainSequence> anchors, const Means& means,
                                    StepReport& report) {
  const bool anchors_watch =
      options_.kl_cap > 0 && !anchors.empty() && report.kl > options_.kl_cap / 2;
  const bool canaries_watch = options_.canary_drop_max > 0 && canaries_.enough();
  if (!anchors_watch && !canaries_watch) {
    auto stepped =
        optimizer_.Step(options_.optimizer, gradient, weights_.values, means.parallel, strength);
    if (!stepped) return stepped.error();
    return LessonVerdict::kLearnt;
  }
  LoraWeights candidate = weights_;
  AdamW optimizer = optimizer_;
  auto stepped =
      optimizer.Step(options_.optimizer, gradient, candidate.values, means.parallel, strength);
  if (!stepped) return stepped.error();
  if (anchors_watch) {
    auto losses = means.trainer.Losses(candidate, anchors, means.parallel);
    if (!losses) return losses.error();
    const double kl = MeanLoss(*losses, 0);
    if (kl > options_.kl_cap && kl >= report.kl) return LessonVerdict::kDrifts;
  }
  if (canaries_watch) {
    auto drops = canaries_.Of(candidate, events_, means.trainer, means.parallel);
    if (!drops) return drops.error();
    report.canary_drop = drops->mean;
    if (canaries_.Refuses(*drops, options_.canary_drop_max)) {
      return LessonVerdict::kDamages;
    }
    canaries_.Take(std::move(*drops));
  }
  weights_ = std::move(candidate);
  optimizer_ = std::move(optimizer);
  return LessonVerdict::kLearnt;
}

void Learner::FollowBudget(double kl) {
  kl_ema_ = 0.8 * kl_ema_ + 0.2 * kl;
  if (options_.kl_budget == 0) return;
  const double push = std::clamp(0.3 * (kl_ema_ / options_.kl_budget - 1), -0.1, 0.4);
  lambda_ = std::clamp(lambda_ * Exponential(push), kLeastLambda, kMostLambda);
}

// A step of full length from where weights stand can be over the cap whatever is taught: so what
// follows is half as long, as in a trust region (Levenberg 1944), and anchors pull harder. A short
// enough one passes, since behind it the KL is what it was; full length comes back by doubling.
void Learner::FollowCap() {
  stride_ /= 2;
  if (options_.kl_budget > 0) lambda_ = std::min(lambda_ * Exponential(0.4), kMostLambda);
}

void Learner::Count(const TokenExample& example, const Tally& tally) {
  tally_ = tally;
  ++events_;
  if (example.correction) {
    ++counts_.corrections;
  } else if (example.reward > 0) {
    ++counts_.ups;
  } else {
    ++counts_.downs;
  }
}

Result<Nothing> Learner::Adopt(const LoraWeights* weights) {
  if (weights != nullptr) {
    if (weights->shape != weights_.shape || weights->values.size() != weights_.values.size()) {
      return Error{Code::kWrongAdapter,
                   "the adapter has another rank, alpha, modules or base model",
                   "use an adapter made with this configuration"};
    }
    if (!AllFinite(weights->values.data(), weights->values.size())) {
      return Error{Code::kWrongAdapter, "the adapter has numbers that are not finite",
                   "use another version"};
    }
  }
  weights_ = weights != nullptr ? *weights : NewAdapter(weights_.shape, options_.seed);
  optimizer_ = AdamW(weights_.values.size());
  lambda_ = options_.kl_budget > 0 ? kBudgetStart : options_.anchor_lambda;
  stride_ = 1;
  kl_ema_ = 0;
  return Nothing{};
}

}  // namespace nudge
