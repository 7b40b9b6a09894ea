// A learner's saved form: see Learner::Save and Load.
#include <utility>

#include "stages/hash.h"
#include "stages/model/learn/learner.h"
#include "stages/model/learn/sequence_codec.h"
#include "stages/model/trainer/kernels.h"
#include "stages/state.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 4;  // 3 took full steps alone, 2 set nothing aside, 1 knew no voices
constexpr size_t kChecksumBytes = 32;

}  // namespace

void Learner::SaveItem(const ReplayItem& item, ByteWriter& out) const {
  out.U64(item.voice.source);
  out.U64(item.voice.person);
  out.U8(item.own_answer);
  out.U64(item.place);
  out.U8(item.evidence.has_value());
  out.F64(item.evidence.value_or(0));
  out.F64(item.age);
  WriteSequence(item.up, out);
  WriteSequence(item.down, out);
}

Learner::ReplayItem Learner::LoadItem(ByteReader& in) const {
  ReplayItem item;
  item.voice = {in.U64(), in.U64()};
  item.own_answer = in.U8() != 0;
  item.place = in.U64();
  const bool has_evidence = in.U8() != 0;
  const double evidence = in.F64();
  if (has_evidence) item.evidence = evidence;
  item.age = in.F64();
  item.up = ReadSequence(Objective::kCrossEntropy, in);
  item.down = ReadSequence(Objective::kDown, in);
  if (item.down) item.down->beta = static_cast<float>(options_.down_beta);
  return item;
}

std::string Learner::Save() const {
  ByteWriter out;
  out.U8(kFormat);
  WriteShape(weights_.shape, out);
  out.Floats(weights_.values);
  out.U64(optimizer_.steps());
  out.Floats(optimizer_.first_moment());
  out.Floats(optimizer_.second_moment());
  for (const auto* items : {&replay_, &set_aside_}) {
    out.U64(items->size());
    for (const ReplayItem& item : *items) SaveItem(item, out);
  }
  prompts_.Save(out);
  influence_.Save(out);
  credit_.Save(out);
  canaries_.Save(out);
  for (const double value : {tally_.ups, tally_.downs, nll_ema_, lambda_, stride_, kl_ema_}) {
    out.F64(value);
  }
  for (const uint64_t value : {events_, counts_.steps, counts_.corrections, counts_.ups,
                               counts_.downs, counts_.refused, counts_.set_aside}) {
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
  for (auto* items : {&learner.replay_, &learner.set_aside_}) {
    for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
      items->push_back(learner.LoadItem(in));
    }
  }
  while (learner.replay_.size() > options.replay_examples) learner.replay_.pop_front();
  learner.prompts_.Load(in);
  learner.influence_.Load(in);
  learner.credit_.Load(in);
  learner.canaries_.Load(in);
  for (double* value : {&learner.tally_.ups, &learner.tally_.downs, &learner.nll_ema_,
                        &learner.lambda_, &learner.stride_, &learner.kl_ema_}) {
    *value = in.F64();
  }
  LearnerCounts& counts = learner.counts_;
  for (uint64_t* value : {&learner.events_, &counts.steps, &counts.corrections, &counts.ups,
                          &counts.downs, &counts.refused, &counts.set_aside}) {
    *value = in.U64();
  }
  if (!in.complete()) return damaged;
  return learner;
}

}  // namespace nudge
