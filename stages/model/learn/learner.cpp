#include "stages/model/learn/learner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "stages/hash.h"
#include "stages/model/adapters/peft_file.h"
#include "stages/model/trainer/kernels.h"
#include "stages/state.h"

namespace nudge {

namespace {

constexpr uint8_t kFormat = 2;  // 1 knew no voices
constexpr size_t kChecksumBytes = 32;
constexpr double kBudgetStart = 0.5;
constexpr double kLeastLambda = 0.03;
constexpr double kMostLambda = 5;

// Streams of choices, kept apart.
enum Purpose : uint64_t { kInitialA, kReplay, kAnchors };

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

void WriteSequence(const std::optional<TrainSequence>& sequence, ByteWriter& out) {
  out.U8(sequence.has_value());
  if (!sequence) return;
  out.U64(sequence->tokens.size());
  for (const int32_t token : sequence->tokens) out.U32(static_cast<uint32_t>(token));
  out.U64(sequence->completion_begin);
  out.F64(static_cast<double>(sequence->weight));
  out.U8(sequence->base_log_probability.has_value());
  out.F64(sequence->base_log_probability.value_or(0));
}

std::optional<TrainSequence> ReadSequence(Objective objective, ByteReader& in) {
  if (in.U8() == 0) return std::nullopt;
  TrainSequence sequence;
  sequence.objective = objective;
  const uint64_t tokens = in.U64();
  for (uint64_t i = 0; i < tokens && !in.failed(); ++i) {
    sequence.tokens.push_back(static_cast<int32_t>(in.U32()));
  }
  sequence.completion_begin = in.U64();
  sequence.weight = static_cast<float>(in.F64());
  const bool known = in.U8() != 0;
  const double base = in.F64();
  if (known) sequence.base_log_probability = base;
  return sequence;
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
  weights_ = InitialWeights();
  optimizer_ = AdamW(weights_.values.size());
  lambda_ = options.kl_budget > 0 ? kBudgetStart : options.anchor_lambda;
}

LoraWeights Learner::InitialWeights() const {
  LoraWeights initial{weights_.shape, std::vector<float>(weights_.shape.Size())};
  const uint64_t seed = RandomAt(options_.seed, kInitialA);
  for (uint32_t layer = 0; layer < initial.shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      const double bound = 1 / std::sqrt(static_cast<double>(initial.shape.in[m]));
      const size_t begin = initial.shape.OffsetA(layer, module);
      for (size_t i = begin; i < begin + initial.shape.SizeA(module); ++i) {
        initial.values[i] = static_cast<float>(bound * (2 * UniformAt(seed, i) - 1));
      }
    }
  }
  return initial;
}

Learner::Tally Learner::TallyAfter(const TokenExample& example) const {
  return {tally_.ups * options_.balance_decay + (IsUp(example) ? 1 : 0),
          tally_.downs * options_.balance_decay + (IsDown(example) ? 1 : 0)};
}

double Learner::DownWeight(const Tally& tally) const {
  if (tally.ups <= 0) return 0;
  return options_.down_weight * (tally.downs <= tally.ups ? 1 : tally.ups / tally.downs);
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

std::set<Voice> Learner::VoicesWith(const Voice& voice) const {
  std::set<Voice> voices = {voice};
  for (const ReplayItem& item : replay_) voices.insert(item.voice);
  return voices;
}

// The earlier lessons that are repeated beside a new one that has `share` of the step: each of who
// is furthest short then, and of that voice's lessons by chance, later ones the more likely.
std::vector<const Learner::ReplayItem*> Learner::DrawEarlier(const Voice& voice,
                                                             double share) const {
  const std::set<Voice> voices = VoicesWith(voice);
  const size_t count = std::min<size_t>(options_.replay_per_lesson, replay_.size());
  const uint64_t stream = RandomAt(RandomAt(options_.seed, kReplay), events_);
  std::map<Voice, double> given = {{voice, share}};
  std::vector<const ReplayItem*> drawn;
  std::set<Voice> left;  // that have lessons which are not drawn
  for (const ReplayItem& item : replay_) left.insert(item.voice);
  while (drawn.size() < count && !left.empty()) {
    const Voice next = influence_.FurthestShort(voices, given, left);
    std::vector<std::pair<const ReplayItem*, double>> lessons;  // the latest first
    double all = 0;
    double weight = 1;
    for (auto item = replay_.rbegin(); item != replay_.rend(); ++item) {
      if (item->voice != next) continue;
      if (std::ranges::find(drawn, &*item) == drawn.end()) {
        lessons.emplace_back(&*item, weight);
        all += weight;
      }
      weight *= options_.replay_decay;
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

// Of whoever has most of them, the earliest goes when there are too many.
void Learner::Keep(ReplayItem item) {
  const auto prompt = [](const ReplayItem& one) {
    const TrainSequence& sequence = one.up ? *one.up : *one.down;
    return std::span(sequence.tokens).first(sequence.completion_begin);
  };
  std::erase_if(replay_, [&](const ReplayItem& earlier) {
    return earlier.voice == item.voice && std::ranges::equal(prompt(earlier), prompt(item));
  });
  replay_.push_back(std::move(item));
  if (replay_.size() <= options_.replay_examples) return;
  std::map<Voice, size_t> counts;
  for (const ReplayItem& one : replay_) ++counts[one.voice];
  const auto most = std::ranges::max_element(
      counts, {}, [](const std::pair<const Voice, size_t>& entry) { return entry.second; });
  replay_.erase(std::ranges::find(replay_, most->first, &ReplayItem::voice));
}

// What does not fit beside the new lesson is left out: anchors before replayed lessons.
Learner::StepBatch Learner::Pack(const ReplayItem& item, const Tally& tally,
                                 const AnchorPool& anchors, size_t max_tokens) const {
  StepBatch batch;
  const double down_weight = DownWeight(tally);
  const auto rows = [&](const ReplayItem& l) {
    return (l.up ? Rows(*l.up) : 0) + (l.down && down_weight > 0 ? Rows(*l.down) : 0);
  };
  size_t used = rows(item);
  const std::set<Voice> voices = VoicesWith(item.voice);
  const double most = 1.0 / (1 + options_.replay_per_lesson);
  double own = influence_.ShareOf(item.voice, voices, most);
  std::vector<const ReplayItem*> items = {&item};
  for (const ReplayItem* earlier : DrawEarlier(item.voice, own)) {
    const size_t more = rows(*earlier);
    if (more == 0) continue;
    if (used + more > max_tokens) {
      batch.left_out.replayed += more;
      continue;
    }
    used += more;
    items.push_back(earlier);
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
  if (items.size() == 1 && own >= most) own = 1;
  const double others = (1 - own) / static_cast<double>(std::max<size_t>(items.size() - 1, 1));
  for (const ReplayItem* one : items) {
    const double share = one == &item ? own : others;
    batch.shares[one->voice] += share;
    if (one->up) {
      batch.sequences.push_back(*one->up);
      batch.sequences.back().weight *= static_cast<float>(share);
    }
    if (one->down && down_weight > 0) {
      batch.sequences.push_back(*one->down);
      batch.sequences.back().weight *= static_cast<float>(share * down_weight);
    }
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

Result<StepReport> Learner::Step(const TokenExample& example, Trainer& trainer,
                                 const AnchorPool& anchors, const ParallelFor& parallel) {
  if (auto error = Check(example)) return *error;
  const std::vector<int32_t>& shown = example.shown_completion;
  ReplayItem item;
  item.voice = example.voice;
  if (example.correction) {
    item.up = Sequence(example.prompt, *example.correction, Objective::kCrossEntropy, 1);
  } else if (example.reward > 0) {
    item.up = Sequence(example.prompt, shown, Objective::kCrossEntropy, example.reward);
  }
  const bool pushes_away = IsDown(example) && !shown.empty() && shown != example.correction;
  const size_t down_rows = example.prompt.size() + shown.size() - 1;
  // A correction that leaves no room for what it corrects is learnt alone.
  const bool alone = item.up && Rows(*item.up) + down_rows > trainer.limits().max_tokens;
  if (pushes_away && !alone) {
    item.down =
        Sequence(example.prompt, shown, Objective::kDown, example.correction ? 1 : -example.reward);
    item.down->beta = static_cast<float>(options_.down_beta);
    auto base =
        trainer.LogProbability(item.down->tokens, item.down->completion_begin, nullptr, parallel);
    if (!base) return base.error();
    item.down->base_log_probability = *base;
  }
  const TrainSequence& target = item.up ? *item.up : *item.down;
  const auto target_tokens = static_cast<double>(target.tokens.size() - target.completion_begin);
  const Tally tally = TallyAfter(example);

  StepReport report;
  std::map<Voice, double> shares;
  const bool nothing_to_learn = !item.up && DownWeight(tally) == 0;
  if (nothing_to_learn) {
    auto nll =
        trainer.NegativeLogLikelihood(target.tokens, target.completion_begin, &weights_, parallel);
    if (!nll) return nll.error();
    report.nll_before = *nll;
    report.accepted = true;
  } else {
    const StepBatch batch = Pack(item, tally, anchors, trainer.limits().max_tokens);
    shares = batch.shares;
    const std::span<float> gradient = trainer.GradientScratch(weights_.values.size());
    auto losses = trainer.Gradients(weights_, batch.sequences, parallel, gradient);
    if (!losses) return losses.error();
    report.nll_before = -losses->sequences[0].log_probability / target_tokens;
    report.loss = losses->total;
    report.kl = MeanLoss(*losses, batch.anchors_begin);
    report.lambda = batch.lambda;
    report.gradient_norm = losses->gradient_norm;
    report.tokens = losses->tokens;
    report.left_out = batch.left_out;
    if (pushes_away && alone) report.left_out.pushed_away = down_rows;
    const auto anchored = std::span(batch.sequences).subspan(batch.anchors_begin);
    auto moved = Move(gradient, anchored, report.kl, trainer, parallel);
    if (!moved) return moved.error();
    report.accepted = *moved;
    if (report.accepted && !anchored.empty()) FollowBudget(report.kl);
  }
  Count(example, tally);
  if (!report.accepted) {
    ++counts_.refused;
    return report;
  }
  ++counts_.steps;
  if (!shares.empty()) {
    influence_.Book(shares, VoicesWith(item.voice).size(), options_.influence_lessons);
  }
  if (options_.replay_examples > 0) Keep(std::move(item));
  return report;
}

// Takes the step; false if the gate took it back.
Result<bool> Learner::Move(std::span<const float> gradient, std::span<const TrainSequence> anchors,
                           double kl_before, Trainer& trainer, const ParallelFor& parallel) {
  const bool watched = options_.kl_cap > 0 && !anchors.empty() && kl_before > options_.kl_cap / 2;
  if (!watched) {
    auto stepped = optimizer_.Step(options_.optimizer, gradient, weights_.values, parallel);
    if (!stepped) return stepped.error();
    return true;
  }
  LoraWeights candidate = weights_;
  AdamW optimizer = optimizer_;
  auto stepped = optimizer.Step(options_.optimizer, gradient, candidate.values, parallel);
  if (!stepped) return stepped.error();
  auto losses = trainer.Losses(candidate, anchors, parallel);
  if (!losses) return losses.error();
  const double kl = MeanLoss(*losses, 0);
  if (kl > options_.kl_cap && kl >= kl_before) return false;
  weights_ = std::move(candidate);
  optimizer_ = std::move(optimizer);
  return true;
}

void Learner::FollowBudget(double kl) {
  kl_ema_ = 0.8 * kl_ema_ + 0.2 * kl;
  if (options_.kl_budget == 0) return;
  const double push = std::clamp(0.3 * (kl_ema_ / options_.kl_budget - 1), -0.1, 0.4);
  lambda_ = std::clamp(lambda_ * std::exp(push), kLeastLambda, kMostLambda);
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
  weights_ = weights != nullptr ? *weights : InitialWeights();
  optimizer_ = AdamW(weights_.values.size());
  lambda_ = options_.kl_budget > 0 ? kBudgetStart : options_.anchor_lambda;
  kl_ema_ = 0;
  return Nothing{};
}

std::string Learner::Save() const {
  ByteWriter out;
  out.U8(kFormat);
  WriteShape(weights_.shape, out);
  out.Floats(weights_.values);
  out.U64(optimizer_.steps());
  out.Floats(optimizer_.first_moment());
  out.Floats(optimizer_.second_moment());
  out.U64(replay_.size());
  for (const ReplayItem& item : replay_) {
    out.U64(item.voice.source);
    out.U64(item.voice.person);
    WriteSequence(item.up, out);
    WriteSequence(item.down, out);
  }
  influence_.Save(out);
  for (const double value : {tally_.ups, tally_.downs, lambda_, kl_ema_}) out.F64(value);
  for (const uint64_t value :
       {events_, counts_.steps, counts_.corrections, counts_.ups, counts_.downs, counts_.refused}) {
    out.U64(value);
  }
  std::string bytes = out.Take();
  const Sha256Digest checksum = Sha256(bytes);
  bytes.append(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  return bytes;
}

Result<Learner> Learner::Load(std::string_view bytes, const FrozenWeights& weights,
                              const LearnerOptions& options) {
  const Error damaged{Code::kUnreadableFile, "the learner's state is damaged or of another version",
                      "restore an older checkpoint, or let the log be replayed"};
  if (bytes.size() < kChecksumBytes) return damaged;
  const std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  const Sha256Digest checksum = Sha256(body);
  const std::string_view expected(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  if (bytes.substr(body.size()) != expected) return damaged;
  ByteReader in(body);
  if (in.U8() != kFormat) return damaged;

  Learner learner(weights, options);
  const LoraShape shape = ReadShape(in);
  if (!in.failed() && shape != learner.weights_.shape) {
    return Error{Code::kWrongAdapter,
                 "the state was learnt with another rank, alpha, modules or model",
                 "start with the configuration that it was learnt with, or reset the adapter"};
  }
  learner.weights_.values = in.Floats();
  const uint64_t steps = in.U64();
  std::vector<float> first = in.Floats();
  std::vector<float> second = in.Floats();
  const size_t size = shape.Size();
  if (learner.weights_.values.size() != size || first.size() != size || second.size() != size) {
    return damaged;
  }
  for (const auto* values : {&learner.weights_.values, &first, &second}) {
    if (!AllFinite(values->data(), size)) return damaged;
  }
  learner.optimizer_.Restore(steps, std::move(first), std::move(second));
  const uint64_t items = in.U64();
  for (uint64_t i = 0; i < items && !in.failed(); ++i) {
    ReplayItem item;
    item.voice = {in.U64(), in.U64()};
    item.up = ReadSequence(Objective::kCrossEntropy, in);
    item.down = ReadSequence(Objective::kDown, in);
    if (item.down) item.down->beta = static_cast<float>(options.down_beta);
    learner.replay_.push_back(std::move(item));
    if (learner.replay_.size() > options.replay_examples) learner.replay_.pop_front();
  }
  learner.influence_.Load(in);
  for (double* value :
       {&learner.tally_.ups, &learner.tally_.downs, &learner.lambda_, &learner.kl_ema_}) {
    *value = in.F64();
  }
  LearnerCounts& counts = learner.counts_;
  for (uint64_t* value : {&learner.events_, &counts.steps, &counts.corrections, &counts.ups,
                          &counts.downs, &counts.refused}) {
    *value = in.U64();
  }
  if (!in.complete()) return damaged;
  return learner;
}

}  // namespace nudge
