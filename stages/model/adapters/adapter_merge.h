// Adapters of one base as one adapter: the weighted mean of their products.
//
// adapters, weights -> [MergeAdapters] -> an adapter, and how far it is from the mean
//
// A module's change of W is (alpha / rank) B A. The mean of several is one product again, of the
// B's side by side and the A's one below the other, whose rank is the sum of theirs; of inputs with
// the same A their B's are added up, at the same rank. To average A and B apart, as is often done,
// is something else: what A of one makes of B of another comes in.
//
// Pure function of its arguments, any thread, which must not care for a long call. Equal arguments
// give equal adapters, whatever their order, the number of threads and the processor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "stages/model/adapters/adapter_file.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

struct MergeInput {
  std::string name;    // for messages
  std::string sha256;  // of its file
  ImportedAdapter adapter;
  double weight = 0;  // above 0; beside those of the others
};

struct MergeOptions {
  uint32_t rank = 0;  // of the result; 0: as many as it takes
  float alpha = 0;    // of the result; 0: such that its scale is that of the inputs, the largest
};

// Between two adapters, as shares of the Frobenius norm of the first.
struct MergeDistance {
  double share = 0;          // of all modules together
  double worst_share = 0;    // of a module alone
  std::string worst_module;  // "blk.3.attn_q"; empty where all have norm 0
};

struct MergedAdapter {
  LoraWeights weights;       // f32
  AdapterManifest manifest;  // merged_of sorted by SHA-256; counts are sums; version 0
  bool is_cut = false;       // the mean has a higher rank than was asked for
  bool shares_a = false;     // all inputs have the same A, of more than one
  MergeDistance error;       // of the result from the mean; zeros unless is_cut
  // Of the product of the averages of A and B from the mean; none where ranks differ.
  std::optional<MergeDistance> averaged;
};

// Weights by `examples` where each input names some, else equal. Whether they were there.
bool WeightByLessons(std::vector<MergeInput>& inputs);

// Unused columns of a result of a higher rank than the mean's are those of a new adapter: B zero.
// kWrongAdapter, by the input's name: no input or more than 4096, a weight that is not above 0, a
// value that f16 does not hold, another base, layers or modules than the first has; a rank outside
// 1..4096, an alpha not above 0 or too small, a result whose values take more than 1 GiB.
Result<MergedAdapter> MergeAdapters(std::vector<MergeInput> inputs, const MergeOptions& options,
                                    const ParallelFor& parallel);

}  // namespace nudge
