#include "stages/model/serve/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "stages/hash.h"

namespace nudge {
namespace {

constexpr size_t kFirstSorted = 256;

// Cuts `ids` to the candidates that top_k and top_p leave, likeliest first. Only as much of the
// vocabulary is sorted as is needed.
void Cut(const std::vector<double>& weights, const Sampling& sampling, std::vector<int32_t>* ids) {
  const auto likelier = [&](int32_t a, int32_t b) {
    const double first = weights[static_cast<size_t>(a)];
    const double second = weights[static_cast<size_t>(b)];
    return first != second ? first > second : a < b;
  };
  const size_t most =
      sampling.top_k == 0 ? ids->size() : std::min<size_t>(sampling.top_k, ids->size());
  size_t sorted = 0;
  const auto sort_to = [&](size_t end) {
    end = std::min(end, most);
    std::partial_sort(ids->begin() + static_cast<ptrdiff_t>(sorted),
                      ids->begin() + static_cast<ptrdiff_t>(end), ids->end(), likelier);
    sorted = end;
  };
  if (sampling.top_p >= 1) {
    sort_to(most);
    ids->resize(most);
    return;
  }
  double total = 0;
  if (sampling.top_k != 0) {
    sort_to(most);
    for (size_t i = 0; i < most; ++i) total += weights[static_cast<size_t>((*ids)[i])];
  } else {
    for (const double weight : weights) total += weight;
  }
  double sum = 0;
  for (size_t i = 0; i < most; ++i) {
    if (i == sorted) sort_to(std::max(kFirstSorted, sorted * 8));
    sum += weights[static_cast<size_t>((*ids)[i])];
    if (sum >= sampling.top_p * total) {
      ids->resize(i + 1);
      return;
    }
  }
  ids->resize(most);
}

}  // namespace

std::optional<int32_t> SampleToken(std::span<const float> logits, const Sampling& sampling,
                                   uint64_t index) {
  // A sum of finite floats cannot overflow in double; one that is not finite spoils it.
  double check = 0;
  for (const float logit : logits) check += double{logit};
  if (logits.empty() || !std::isfinite(check)) return std::nullopt;
  const auto greatest = std::max_element(logits.begin(), logits.end());
  if (sampling.temperature <= 0) return static_cast<int32_t>(greatest - logits.begin());

  std::vector<double> weights(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    weights[i] = std::exp((double{logits[i]} - double{*greatest}) / sampling.temperature);
  }
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  if (sampling.top_k != 0 || sampling.top_p < 1) Cut(weights, sampling, &ids);
  double total = 0;
  for (const int32_t id : ids) total += weights[static_cast<size_t>(id)];
  double left = UniformAt(sampling.seed, index) * total;
  int32_t last = ids.front();
  for (const int32_t id : ids) {
    const double weight = weights[static_cast<size_t>(id)];
    if (weight == 0) continue;
    last = id;
    if (left < weight) return id;
    left -= weight;
  }
  return last;  // rounding left a rest
}

double NegativeLogProbability(std::span<const float> logits, int32_t token) {
  const double greatest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - greatest);
  return std::log(sum) + greatest - double{logits[static_cast<size_t>(token)]};
}

}  // namespace nudge
