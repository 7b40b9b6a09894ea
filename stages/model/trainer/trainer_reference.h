// The trainer's slow twin: the same losses from the formulas, in double precision, to be read and
// to be compared with. No part of it is shared with the trainer, so that an error is not either.
//
//   model, adapter, sequence -> [ReferenceTrainer] -> logits, loss;   gradients by differences
//
// For tests: a forward pass takes seconds where the trainer's takes milliseconds. Any thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/trainer.h"

namespace nudge {

// A Llama (rope over adjacent pairs), or a Qwen: "qwen2" has biases at q, k, v, "qwen3" norms of
// heads, and both rotate halves. rope theta is 1000, the norms' epsilon 1e-5.
struct ReferenceModel {
  size_t layers = 0;
  size_t hidden = 0;
  size_t heads = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  bool tied = true;  // the head is the embedding
  std::string architecture = "llama";
  std::map<std::string, std::vector<float>> tensors;  // by GGUF name: [out, in], row-major

  size_t Query() const { return heads * head_dim; }
};

// One sequence at a time, written from the formulas with nothing in common with the trainer.
class ReferenceTrainer {
 public:
  using Rows = std::vector<std::vector<double>>;

  ReferenceTrainer(const ReferenceModel& model, const LoraShape& shape)
      : model_(model), shape_(shape) {}

  // adapter: values as in LoraWeights, in double; empty: the base model.
  Rows Logits(const std::vector<int32_t>& tokens, const std::vector<double>& adapter) const;

  // The loss of one sequence without its weight. Its tokens weigh what they weigh with `weighing`
  // (reach_floor), since weights have no gradient.
  double Loss(const TrainSequence& sequence, const std::vector<double>& adapter,
              const std::vector<double>& weighing) const;

 private:
  // Of each token of the completion; the sum is their number.
  std::vector<double> TokenWeights(const TrainSequence& sequence,
                                   const std::vector<double>& adapter) const;

  static std::vector<double> LogSoftmax(const std::vector<double>& logits) {
    double sum = 0;
    for (const double x : logits) sum += std::exp(x);
    std::vector<double> log;
    for (const double x : logits) log.push_back(x - std::log(sum));
    return log;
  }

  static Rows Sum(Rows a, const Rows& b) {
    for (size_t t = 0; t < a.size(); ++t) {
      for (size_t i = 0; i < a[t].size(); ++i) a[t][i] += b[t][i];
    }
    return a;
  }

  static Rows Norm(Rows x, const std::vector<float>& weight) {
    for (auto& row : x) {
      double squares = 0;
      for (const double v : row) squares += v * v;
      const double scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + 1e-5);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= scale * static_cast<double>(weight[i]);
    }
    return x;
  }

  Rows Biased(Rows x, const std::string& name) const {
    const auto bias = model_.tensors.find(name);
    if (bias == model_.tensors.end()) return x;
    for (auto& row : x) {
      for (size_t i = 0; i < row.size(); ++i) row[i] += static_cast<double>(bias->second[i]);
    }
    return x;
  }

  // Each head of each row by itself through Norm.
  Rows HeadNorm(Rows x, const std::string& name) const {
    const auto weight = model_.tensors.find(name);
    if (weight == model_.tensors.end()) return x;
    for (auto& row : x) {
      for (size_t begin = 0; begin < row.size(); begin += model_.head_dim) {
        const auto from = row.begin() + static_cast<std::ptrdiff_t>(begin);
        const Rows head =
            Norm({{from, from + static_cast<std::ptrdiff_t>(model_.head_dim)}}, weight->second);
        std::copy(head[0].begin(), head[0].end(), from);
      }
    }
    return x;
  }

  Rows Linear(const Rows& x, const std::vector<float>& weight, size_t layer, LoraModule module,
              const std::vector<double>& adapter) const {
    const size_t in = x[0].size();
    const size_t out = weight.size() / in;
    Rows y(x.size(), std::vector<double>(out));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t o = 0; o < out; ++o) {
        for (size_t i = 0; i < in; ++i) {
          y[t][o] += static_cast<double>(weight[o * in + i]) * x[t][i];
        }
      }
    }
    if (adapter.empty() || !shape_.enabled[static_cast<size_t>(module)]) return y;
    const double* a = adapter.data() + shape_.OffsetA(static_cast<uint32_t>(layer), module);
    const double* b = adapter.data() + shape_.OffsetB(static_cast<uint32_t>(layer), module);
    const double scale = static_cast<double>(shape_.alpha) / shape_.rank;
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t r = 0; r < shape_.rank; ++r) {
        double low = 0;
        for (size_t i = 0; i < in; ++i) low += a[r * in + i] * x[t][i];
        for (size_t o = 0; o < out; ++o) y[t][o] += scale * b[o * shape_.rank + r] * low;
      }
    }
    return y;
  }

  Rows Rotate(Rows x, size_t heads) const {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t head = 0; head < heads; ++head) {
        for (size_t i = 0; i < model_.head_dim / 2; ++i) {
          const bool adjacent = model_.architecture == "llama";
          double* of_head = x[t].data() + head * model_.head_dim;
          double& a = of_head[adjacent ? 2 * i : i];
          double& b = of_head[adjacent ? 2 * i + 1 : model_.head_dim / 2 + i];
          const double angle =
              static_cast<double>(t) * std::pow(1000.0, -2.0 * static_cast<double>(i) /
                                                            static_cast<double>(model_.head_dim));
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = rotated;
        }
      }
    }
    return x;
  }

  Rows Attention(const Rows& q, const Rows& k, const Rows& v) const {
    const size_t d = model_.head_dim;
    Rows out(q.size(), std::vector<double>(model_.Query()));
    for (size_t t = 0; t < q.size(); ++t) {
      for (size_t head = 0; head < model_.heads; ++head) {
        const size_t shared = head / (model_.heads / model_.kv_heads);
        std::vector<double> p;
        double total = 0;
        for (size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (size_t i = 0; i < d; ++i) score += q[t][head * d + i] * k[s][shared * d + i];
          p.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
          total += p.back();
        }
        for (size_t s = 0; s <= t; ++s) {
          for (size_t i = 0; i < d; ++i)
            out[t][head * d + i] += p[s] / total * v[s][shared * d + i];
        }
      }
    }
    return out;
  }

  const ReferenceModel& model_;
  const LoraShape& shape_;
};

}  // namespace nudge
