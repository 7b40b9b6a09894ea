#include "stages/model/adapters/adapter_merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>

#include "stages/model/adapters/adapter_parts.h"
#include "stages/model/adapters/low_rank.h"
#include "stages/model/adapters/new_adapter.h"

namespace nudge {
namespace {

constexpr uint64_t kSeed = 0;  // of columns that the mean does not use
constexpr size_t kMostBytes = size_t{1} << 30;
constexpr float kMostValue = 65504;        // of an input
constexpr double kMostFactor = 1e10;       // of an input's B
constexpr const char* kTenant = "merged";  // of adapters of several tenants

using Inputs = std::vector<MergeInput>;

const LoraShape& ShapeOf(const MergeInput& input) {
  return input.adapter.weights.shape;
}

double ScaleOf(const LoraShape& shape) {
  return static_cast<double>(shape.alpha) / shape.rank;
}

// ---- What can be merged -------------------------------------------------------------------------

std::optional<Error> CheckPair(const MergeInput& first, const MergeInput& other) {
  const AdapterManifest& a = first.adapter.manifest;
  const AdapterManifest& b = other.adapter.manifest;
  const auto differs = [&](const std::string& what) {
    return WrongAdapter(other.name + ": " + what + " than " + first.name,
                        "merge adapters of one base model and with the same modules");
  };
  if (a.base_sha256 != b.base_sha256) {
    return differs("made for another base model (SHA-256 " + b.base_sha256 + ")");
  }
  if (a.base_architecture != b.base_architecture || a.base_head_size != b.base_head_size) {
    return differs("made for a base of another form");
  }
  const LoraShape& x = ShapeOf(first);
  const LoraShape& y = ShapeOf(other);
  if (x.layers != y.layers) return differs(std::to_string(y.layers) + " layers, others");
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (x.enabled[m] != y.enabled[m] || x.in[m] != y.in[m] || x.out[m] != y.out[m]) {
      return differs("other matrices for " + std::string(kModuleNames[m].gguf));
    }
  }
  return std::nullopt;
}

std::optional<Error> CheckInputs(const Inputs& inputs, const MergeOptions& options) {
  if (inputs.empty() || inputs.size() > kMaxMergedParts) {
    return WrongAdapter(std::to_string(inputs.size()) + " adapters to merge, outside 1.." +
                        std::to_string(kMaxMergedParts));
  }
  if (options.rank > kMaxAdapterRank) {
    return WrongAdapter("rank " + std::to_string(options.rank) + " is outside 1..4096");
  }
  for (const MergeInput& input : inputs) {
    if (auto error = CheckWeights(input.adapter.weights)) {
      error->message = input.name + ": " + error->message;
      return error;
    }
    if (!(input.weight > 0) || !std::isfinite(input.weight)) {
      return WrongAdapter(input.name + ": its weight is not a finite number above 0");
    }
    const auto& values = input.adapter.weights.values;
    if (!std::all_of(values.begin(), values.end(),
                     [](float value) { return std::abs(value) <= kMostValue; })) {
      return WrongAdapter(input.name + ": a value is not finite, or beyond what f16 holds (65504)");
    }
    if (auto error = CheckPair(inputs.front(), input)) return error;
  }
  return std::nullopt;
}

// ---- The mean -----------------------------------------------------------------------------------

bool HaveSameA(const LoraWeights& a, const LoraWeights& b) {
  if (a.shape.rank != b.shape.rank) return false;
  for (const AdapterMatrix& matrix : MatricesOf(a.shape)) {
    if (matrix.is_b) continue;
    if (std::memcmp(&a.values[matrix.offset], &b.values[matrix.offset],
                    matrix.size() * sizeof(float)) != 0) {
      return false;
    }
  }
  return true;
}

// Inputs with the same A, by their numbers; groups in the order of their first.
std::vector<std::vector<size_t>> GroupByA(const Inputs& inputs) {
  std::vector<std::vector<size_t>> groups;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& group) {
      return HaveSameA(inputs[group.front()].adapter.weights, inputs[i].adapter.weights);
    });
    if (same == groups.end()) {
      groups.push_back({i});
    } else {
      same->push_back(i);
    }
  }
  return groups;
}

// What one module of one layer is made of.
struct Place {
  uint32_t layer;
  LoraModule module;

  size_t index() const { return static_cast<size_t>(module); }
  std::string Name() const {
    return "blk." + std::to_string(layer) + "." + kModuleNames[index()].gguf;
  }
};

const float* MatrixA(const MergeInput& input, const Place& place) {
  return &input.adapter.weights.values[ShapeOf(input).OffsetA(place.layer, place.module)];
}
const float* MatrixB(const MergeInput& input, const Place& place) {
  return &input.adapter.weights.values[ShapeOf(input).OffsetB(place.layer, place.module)];
}

class Merge {
 public:
  Merge(Inputs inputs, const MergeOptions& options)
      : inputs_(std::move(inputs)), groups_(GroupByA(inputs_)) {
    uint64_t rank = 0;
    for (const auto& group : groups_) rank += ShapeOf(inputs_[group.front()]).rank;
    mean_rank_ = rank;
    shape_ = ShapeOf(inputs_.front());
    for (const MergeInput& input : inputs_) {
      if (ScaleOf(ShapeOf(input)) > ScaleOf(shape_)) shape_ = ShapeOf(input);
      same_ranks_ = same_ranks_ && ShapeOf(input).rank == ShapeOf(inputs_.front()).rank;
    }
    const double scale = ScaleOf(shape_);
    shape_.rank = options.rank > 0 ? options.rank
                                   : static_cast<uint32_t>(std::min<uint64_t>(rank, UINT32_MAX));
    shape_.alpha = options.alpha != 0 ? options.alpha : static_cast<float>(scale * shape_.rank);
    // As whoever plugs the adapter computes it.
    const float plugged = shape_.alpha / static_cast<float>(shape_.rank);
    double sum = 0;
    for (const MergeInput& input : inputs_) sum += input.weight;
    for (const MergeInput& input : inputs_) {
      shares_.push_back(input.weight / sum);
      factors_.push_back(shares_.back() * ScaleOf(ShapeOf(input)) / static_cast<double>(plugged));
    }
  }

  std::optional<Error> Check() const {
    if (auto error = CheckShape(shape_)) {
      error->remedy = "give a rank for the result";
      return error;
    }
    if (*std::max_element(factors_.begin(), factors_.end()) > kMostFactor) {
      return WrongAdapter("alpha " + std::to_string(shape_.alpha) + " is too small for the result",
                          "give one as large as the inputs have");
    }
    if (shape_.Size() > kMostBytes / sizeof(float)) {
      return WrongAdapter(
          "the result of rank " + std::to_string(shape_.rank) + " would take more than 1 GiB",
          "give a smaller rank for the result");
    }
    return std::nullopt;
  }

  MergedAdapter Run(const ParallelFor& parallel) const {
    MergedAdapter merged;
    merged.is_cut = mean_rank_ > shape_.rank;
    merged.shares_a = groups_.size() == 1 && inputs_.size() > 1;
    merged.weights = shape_.rank == mean_rank_
                         ? LoraWeights{shape_, std::vector<float>(shape_.Size())}
                         : NewAdapter(shape_, kSeed);
    std::vector<Place> places;
    for (uint32_t layer = 0; layer < shape_.layers; ++layer) {
      for (size_t m = 0; m < kLoraModules; ++m) {
        if (shape_.enabled[m]) places.push_back({layer, static_cast<LoraModule>(m)});
      }
    }
    std::vector<Distances> distances(places.size());
    RunParts(parallel, places.size(),
             [&](size_t i) { distances[i] = MergeAt(places[i], merged.is_cut, merged.weights); });
    if (merged.is_cut) merged.error = Shares(places, distances, 0);
    if (same_ranks_) merged.averaged = Shares(places, distances, merged.is_cut ? 1 : 0);
    merged.manifest = ManifestOf(merged.weights);
    return merged;
  }

 private:
  // The product of the mean, in units of the result's scale.
  LowRankProduct MeanAt(const Place& place) const {
    LowRankProduct mean{shape_.out[place.index()], shape_.in[place.index()], mean_rank_, {}, {}};
    mean.b.resize(mean.out * mean.rank);
    mean.a.reserve(mean.rank * mean.in);
    size_t column = 0;
    for (const auto& group : groups_) {
      const MergeInput& first = inputs_[group.front()];
      const size_t rank = ShapeOf(first).rank;
      const float* a = MatrixA(first, place);
      mean.a.insert(mean.a.end(), a, a + rank * mean.in);
      const std::vector<double> sums = SumOfB(place, group, factors_);
      for (size_t row = 0; row < mean.out; ++row) {
        for (size_t k = 0; k < rank; ++k) {
          mean.b[row * mean.rank + column + k] = static_cast<float>(sums[row * rank + k]);
        }
      }
      column += rank;
    }
    return mean;
  }

  std::vector<double> SumOfB(const Place& place, const std::vector<size_t>& of,
                             const std::vector<double>& factors) const {
    const size_t size = ShapeOf(inputs_[of.front()]).SizeB(place.module);
    std::vector<double> sums(size);
    for (const size_t i : of) {
      const float* b = MatrixB(inputs_[i], place);
      for (size_t k = 0; k < size; ++k) sums[k] += factors[i] * static_cast<double>(b[k]);
    }
    return sums;
  }

  // What averaging A and B apart makes, in the same units. Requires the same rank of all.
  LowRankProduct AveragedAt(const Place& place) const {
    const size_t rank = ShapeOf(inputs_.front()).rank;
    LowRankProduct averaged{shape_.out[place.index()], shape_.in[place.index()], rank, {}, {}};
    std::vector<size_t> all(inputs_.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    const std::vector<double> b = SumOfB(place, all, factors_);
    averaged.b.assign(b.begin(), b.end());
    std::vector<double> a(rank * averaged.in);
    for (const size_t i : all) {
      const float* values = MatrixA(inputs_[i], place);
      for (size_t k = 0; k < a.size(); ++k) a[k] += shares_[i] * static_cast<double>(values[k]);
    }
    averaged.a.assign(a.begin(), a.end());
    return averaged;
  }

  // Writes the module's values; how far they, where the mean is cut, and the averages are from it.
  Distances MergeAt(const Place& place, bool is_cut, LoraWeights& weights) const {
    const LowRankProduct mean = MeanAt(place);
    std::vector<LowRankProduct> others;
    if (is_cut) others.push_back(CutToRank(mean, shape_.rank));
    const LowRankProduct& result = is_cut ? others.front() : mean;
    std::copy(result.a.begin(), result.a.end(),
              &weights.values[shape_.OffsetA(place.layer, place.module)]);
    float* b = &weights.values[shape_.OffsetB(place.layer, place.module)];
    for (size_t row = 0; row < result.out; ++row) {
      std::copy_n(result.b.data() + row * result.rank, result.rank, b + row * shape_.rank);
    }
    if (same_ranks_) others.push_back(AveragedAt(place));
    return DistancesFrom(mean, others);
  }

  static MergeDistance Shares(const std::vector<Place>& places,
                              const std::vector<Distances>& distances, size_t which) {
    MergeDistance all;
    double norm = 0;
    double distance = 0;
    for (size_t i = 0; i < places.size(); ++i) {
      norm += distances[i].norm;
      distance += distances[i].distances[which];
      if (distances[i].norm == 0) continue;
      const double share = std::sqrt(distances[i].distances[which] / distances[i].norm);
      if (!all.worst_module.empty() && share <= all.worst_share) continue;
      all.worst_share = share;
      all.worst_module = places[i].Name();
    }
    all.share = norm > 0 ? std::sqrt(distance / norm) : 0;
    return all;
  }

  AdapterManifest ManifestOf(const LoraWeights& weights) const {
    AdapterManifest manifest = inputs_.front().adapter.manifest;
    manifest.version = 0;
    manifest.digest = Digest(weights);
    manifest.parent_digest.clear();
    manifest.steps = manifest.examples = manifest.corrections = manifest.ups = manifest.downs = 0;
    manifest.merged_of.clear();
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const AdapterManifest& of = inputs_[i].adapter.manifest;
      if (of.tenant != manifest.tenant) manifest.tenant = kTenant;
      if (of.base_name != manifest.base_name) manifest.base_name.clear();
      manifest.steps += of.steps;
      manifest.examples += of.examples;
      manifest.corrections += of.corrections;
      manifest.ups += of.ups;
      manifest.downs += of.downs;
      manifest.merged_of.push_back({inputs_[i].sha256, shares_[i]});
    }
    return manifest;
  }

  Inputs inputs_;  // sorted
  std::vector<std::vector<size_t>> groups_;
  size_t mean_rank_ = 0;
  bool same_ranks_ = true;
  LoraShape shape_;              // of the result
  std::vector<double> shares_;   // of each input; their sum is 1
  std::vector<double> factors_;  // of each input's B A in units of the result's scale
};

}  // namespace

bool WeightByLessons(std::vector<MergeInput>& inputs) {
  const bool named = std::all_of(inputs.begin(), inputs.end(), [](const MergeInput& input) {
    return input.adapter.manifest.examples > 0;
  });
  for (MergeInput& input : inputs) {
    input.weight = named ? static_cast<double>(input.adapter.manifest.examples) : 1;
  }
  return named;
}

Result<MergedAdapter> MergeAdapters(std::vector<MergeInput> inputs, const MergeOptions& options,
                                    const ParallelFor& parallel) {
  if (auto error = CheckInputs(inputs, options)) return *error;
  std::stable_sort(inputs.begin(), inputs.end(), [](const MergeInput& a, const MergeInput& b) {
    return std::tie(a.sha256, a.weight) < std::tie(b.sha256, b.weight);
  });
  const Merge merge(std::move(inputs), options);
  if (auto error = merge.Check()) return *error;
  return merge.Run(parallel);
}

}  // namespace nudge
