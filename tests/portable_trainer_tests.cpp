// labels: unit heavy
// adapt.products: portable. Its gradients are right, and its bits are those of every machine.
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "stages/model/adapters/lora_codec.h"
#include "tests/portable_run.h"

namespace nudge {
namespace {

using testing::PortableModel;
using testing::TemporaryFile;

constexpr char kGolden[] = NUDGE_SOURCE_DIR "/tests/golden/portable-steps.txt";

std::shared_ptr<const FrozenWeights> Load(const testing::TinyLlama& model, BaseForm form,
                                          ggml_type type = GGML_TYPE_F32) {
  const TemporaryFile file("portable.gguf");
  model.Write(file.path(), type);
  const auto weights = FrozenWeights::Load(file.path(), form);
  BOOST_REQUIRE_MESSAGE(weights.ok(), (weights ? "" : weights.error().message));
  return *weights;
}

BOOST_AUTO_TEST_CASE(portable_gradients_of_every_objective_are_central_differences) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    const testing::TinyLlama model = PortableModel(architecture);
    const auto weights = Load(model, {.products = BaseProducts::kPortable});
    const LoraWeights adapter = testing::RandomAdapter(
        weights->AdapterShape(2, 5, {true, true, false, true, true}), 11, 0.2f);
    const ReferenceTrainer twin(model, adapter.shape);
    Trainer trainer(weights, testing::kPortableLimits);
    for (const Objective objective :
         {Objective::kCrossEntropy, Objective::kDown, Objective::kAnchor}) {
      TrainSequence sequence = testing::PortableSequence(objective, 11, 5, 2, 1);
      if (objective == Objective::kCrossEntropy) {
        sequence.keep = 1.5f;
        sequence.reach_floor = 0.1f;
      }
      std::vector<float> gradient(adapter.values.size());
      BOOST_REQUIRE(trainer.Gradients(adapter, {&sequence, 1}, SerialFor(), gradient).ok());
      constexpr size_t kEvery = 7;  // each is as good as its neighbours
      const auto expected = testing::CentralDifferences(
          twin, sequence, {adapter.values.begin(), adapter.values.end()}, kEvery);
      for (size_t i = 0; i < gradient.size(); ++i) {
        if (i % kEvery != 0) gradient[i] = 0;
      }
      const double relative = testing::RelativeL2(gradient, expected);
      BOOST_TEST_MESSAGE(architecture << ", objective " << static_cast<int>(objective)
                                      << ": relative L2 " << relative);
      BOOST_TEST(relative < 1e-5);
    }
  }
}

// The digests were made once; a machine, a compiler or a C library that gives others computes other
// numbers. NUDGE_UPDATE_GOLDEN=1 writes them anew, behind a change of the numbers that is meant.
BOOST_AUTO_TEST_CASE(thirty_steps_give_the_golden_weights_at_any_threads_and_wherever_weights_lie) {
  std::ostringstream found;
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0}) {
      const testing::TinyLlama model = PortableModel(architecture);
      std::string first;
      for (const bool in_file : {false, true}) {
        const auto weights = Load(model, {BaseProducts::kPortable, in_file}, type);
        for (const int threads : in_file ? std::vector{4} : std::vector{1, 2, 4}) {
          const LoraWeights adapter = testing::PortableRun(weights, testing::ThreadsFor(threads));
          const std::string digest = Digest(adapter);
          if (first.empty()) first = digest;
          BOOST_TEST(digest == first);
        }
      }
      found << architecture << ' ' << ggml_type_name(type) << ' ' << first << '\n';
    }
  }
  if (std::getenv("NUDGE_UPDATE_GOLDEN") != nullptr) std::ofstream(kGolden) << found.str();
  std::ifstream file(kGolden);
  const std::string golden((std::istreambuf_iterator<char>(file)), {});
  BOOST_TEST(found.str() == golden);
}

BOOST_AUTO_TEST_CASE(portable_steps_have_other_bits_than_those_of_onednn_and_end_near_them) {
  const testing::TinyLlama model = PortableModel("llama");
  const LoraWeights portable =
      testing::PortableRun(Load(model, {.products = BaseProducts::kPortable}), SerialFor());
  const LoraWeights f32 = testing::PortableRun(Load(model, {}), SerialFor());
  BOOST_TEST(Digest(portable) != Digest(f32));
  const std::vector<double> expected(f32.values.begin(), f32.values.end());
  BOOST_TEST(testing::RelativeL2(portable.values, expected) < 1e-2);
}

}  // namespace
}  // namespace nudge
