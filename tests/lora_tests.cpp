// labels: unit
#include <boost/test/unit_test.hpp>

#include <set>

#include "stages/model/adapters/lora_codec.h"
#include "stages/model/trainer/lora.h"

namespace nudge {
namespace {

LoraShape SmallShape() {
  LoraShape shape;
  shape.layers = 3;
  shape.rank = 2;
  shape.alpha = 4;
  shape.in = {10, 10, 10, 8, 10, 10, 20};
  shape.out = {8, 4, 4, 10, 20, 20, 10};
  shape.enabled = {true, false, true, true, false, true, true};
  return shape;
}

BOOST_AUTO_TEST_CASE(matrices_lie_one_after_the_other_without_gap_or_overlap) {
  const LoraShape shape = SmallShape();
  size_t next = 0;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      if (!shape.enabled[m]) {
        BOOST_TEST(shape.SizeA(module) + shape.SizeB(module) == 0u);
        continue;
      }
      BOOST_TEST(shape.OffsetA(layer, module) == next);
      next += size_t{shape.rank} * shape.in[m];
      BOOST_TEST(shape.OffsetB(layer, module) == next);
      next += size_t{shape.rank} * shape.out[m];
    }
  }
  BOOST_TEST(shape.Size() == next);
}

BOOST_AUTO_TEST_CASE(the_digest_changes_with_every_part_of_the_adapter) {
  LoraWeights weights{SmallShape(), {}};
  weights.values.assign(weights.shape.Size(), 0.5f);
  std::set<std::string> seen = {Digest(weights)};
  BOOST_TEST(seen.begin()->size() == 64u);
  BOOST_TEST(Digest(weights) == *seen.begin());
  const auto changed = [&](auto change) {
    LoraWeights other = weights;
    change(other);
    BOOST_TEST(seen.insert(Digest(other)).second);
  };
  changed([](LoraWeights& w) { w.values.front() = -0.5f; });
  changed([](LoraWeights& w) { w.values.back() += 1e-7f; });
  changed([](LoraWeights& w) { w.values.pop_back(); });
  changed([](LoraWeights& w) { w.shape.layers = 4; });
  changed([](LoraWeights& w) { w.shape.rank = 3; });
  changed([](LoraWeights& w) { w.shape.alpha = 5; });
  changed([](LoraWeights& w) { w.shape.in[6] = 21; });
  changed([](LoraWeights& w) { w.shape.out[0] = 9; });
  changed([](LoraWeights& w) { w.shape.enabled[1] = true; });
}

BOOST_AUTO_TEST_CASE(the_digest_is_the_sha256_of_the_documented_bytes) {
  // SHA-256 of 24 zero words, computed by another program.
  const LoraWeights empty{};
  BOOST_TEST(Digest(empty) == "2ea9ab9198d1638007400cd2c3bef1cc745b864b76011a0e1bc52180ac6452d4");
}

}  // namespace
}  // namespace nudge
