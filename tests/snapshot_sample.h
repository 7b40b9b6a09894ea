// A small adapter snapshot on the disk, for suites over what serves them.
#pragma once

#include <string>

#include "stages/hash.h"
#include "stages/model/adapters/adapter_file.h"
#include "stages/model/adapters/snapshot_folder.h"

namespace nudge::testing {

// Writes one of the tenant's version into the snapshot folder; other seeds are other weights, a
// layer has some 5 KB.
inline SnapshotRef WriteSample(const std::string& folder, const std::string& tenant,
                               uint32_t version, uint64_t seed = 1, uint32_t layers = 2) {
  LoraWeights weights;
  weights.shape.layers = layers;
  weights.shape.rank = 4;
  weights.shape.alpha = 8;
  weights.shape.in = {32, 32, 32, 32, 32, 32, 48};
  weights.shape.out = {32, 16, 16, 32, 48, 48, 32};
  weights.shape.enabled.fill(true);
  weights.values.resize(weights.shape.Size());
  for (size_t i = 0; i < weights.values.size(); ++i) {
    weights.values[i] = static_cast<float>(UniformAt(seed, i));
  }
  AdapterManifest manifest;
  manifest.tenant = tenant;
  manifest.version = version;
  manifest.digest = Digest(weights);
  manifest.parent_digest = "base";
  manifest.base_sha256 = std::string(64, 'a');
  manifest.base_architecture = "llama";
  manifest.steps = 12;
  manifest.examples = 11;
  manifest.base_name = "someone/some-base";
  manifest.base_head_size = 8;
  return WriteSnapshot(folder, weights, manifest).value();
}

}  // namespace nudge::testing
