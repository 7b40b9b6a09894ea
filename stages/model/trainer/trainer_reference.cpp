#include "stages/model/trainer/trainer_reference.h"

namespace nudge {

ReferenceTrainer::Rows ReferenceTrainer::Logits(const std::vector<int32_t>& tokens,
                                                const std::vector<double>& adapter) const {
  Rows x;
  for (const int32_t token : tokens) {
    const auto& table = model_.tensors.at("token_embd.weight");
    const auto begin =
        table.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(token) * model_.hidden);
    x.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(model_.hidden));
  }
  for (size_t l = 0; l < model_.layers; ++l) {
    const std::string block = "blk." + std::to_string(l) + ".";
    const auto apply = [&](const Rows& rows, LoraModule module, const std::string& name) {
      return Linear(rows, model_.tensors.at(block + name + ".weight"), l, module, adapter);
    };
    const Rows h = Norm(x, model_.tensors.at(block + "attn_norm.weight"));
    const auto heads = [&](LoraModule module, const std::string& name, size_t count) {
      const Rows rows = Biased(apply(h, module, name), block + name + ".bias");
      return Rotate(HeadNorm(rows, block + name + "_norm.weight"), count);
    };
    const Rows attended =
        Attention(heads(LoraModule::kQuery, "attn_q", model_.heads),
                  heads(LoraModule::kKey, "attn_k", model_.kv_heads),
                  Biased(apply(h, LoraModule::kValue, "attn_v"), block + "attn_v.bias"));
    x = Sum(x, apply(attended, LoraModule::kOutput, "attn_output"));
    const Rows h2 = Norm(x, model_.tensors.at(block + "ffn_norm.weight"));
    Rows gate = apply(h2, LoraModule::kGate, "ffn_gate");
    const Rows up = apply(h2, LoraModule::kUp, "ffn_up");
    for (size_t t = 0; t < gate.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i) {
        gate[t][i] = gate[t][i] / (1 + std::exp(-gate[t][i])) * up[t][i];
      }
    }
    x = Sum(x, apply(gate, LoraModule::kDown, "ffn_down"));
  }
  const char* head = model_.tied ? "token_embd.weight" : "output.weight";
  return Linear(Norm(x, model_.tensors.at("output_norm.weight")), model_.tensors.at(head), 0,
                LoraModule::kQuery, {});
}

std::vector<double> ReferenceTrainer::TokenWeights(const TrainSequence& sequence,
                                                   const std::vector<double>& adapter) const {
  const size_t count = sequence.tokens.size() - sequence.completion_begin;
  const auto floor = static_cast<double>(sequence.reach_floor);
  if (sequence.objective != Objective::kCrossEntropy || sequence.reach_floor == 1) {
    return std::vector<double>(count, 1);
  }
  const Rows logits = Logits(sequence.tokens, adapter);
  std::vector<double> weights;
  double least = 1;
  double sum = 0;
  for (size_t next = sequence.completion_begin; next < sequence.tokens.size(); ++next) {
    weights.push_back(floor + (1 - floor) * least);
    sum += weights.back();
    const auto target = static_cast<size_t>(sequence.tokens[next]);
    least = std::min(least, std::exp(LogSoftmax(logits[next - 1])[target]));
  }
  for (double& weight : weights) weight *= static_cast<double>(count) / sum;
  return weights;
}

double ReferenceTrainer::Loss(const TrainSequence& sequence, const std::vector<double>& adapter,
                              const std::vector<double>& weighing) const {
  const std::vector<double> weights = TokenWeights(sequence, weighing);
  const Rows logits = Logits(sequence.tokens, adapter);
  const bool keeps = sequence.keep != 0 && sequence.objective != Objective::kAnchor;
  const bool needs_base = keeps || sequence.objective != Objective::kCrossEntropy;
  const Rows base = needs_base ? Logits(sequence.tokens, {}) : logits;
  double sum = 0;
  double kept = 0;
  const size_t count = sequence.tokens.size() - sequence.completion_begin;
  for (size_t next = sequence.completion_begin; next < sequence.tokens.size(); ++next) {
    const auto log = LogSoftmax(logits[next - 1]);
    const auto base_log = LogSoftmax(base[next - 1]);
    const auto target = static_cast<size_t>(sequence.tokens[next]);
    if (sequence.objective == Objective::kCrossEntropy) {
      sum -= weights[next - sequence.completion_begin] * log[target];
    }
    if (sequence.objective == Objective::kDown) sum += log[target] - base_log[target];
    for (size_t v = 0; keeps && v < log.size(); ++v) {
      if (v == target) continue;
      const double others = std::log1p(-std::exp(log[target]));
      const double base_others = std::log1p(-std::exp(base_log[target]));
      kept +=
          std::exp(base_log[v] - base_others) * ((base_log[v] - base_others) - (log[v] - others));
    }
    if (sequence.objective == Objective::kAnchor) {
      for (size_t v = 0; v < log.size(); ++v) {
        sum += std::exp(base_log[v]) * (base_log[v] - log[v]);
      }
    }
  }
  const double keep = static_cast<double>(sequence.keep) * kept / static_cast<double>(count);
  if (sequence.objective == Objective::kDown) {
    return 1 - 1 / (1 + std::exp(static_cast<double>(sequence.beta) * sum)) + keep;
  }
  return sum / static_cast<double>(count) + keep;
}

}  // namespace nudge
