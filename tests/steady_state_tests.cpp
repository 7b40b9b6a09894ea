// labels: unit
// A step after the first takes no memory: allocations are counted, and a thousand steps leave the
// heap as large as it was.
#include <boost/test/unit_test.hpp>

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "stages/model/learn/learner.h"
#include "tests/trainer_helpers.h"

namespace {

std::atomic<size_t> allocations{0};
std::atomic<size_t> allocated_bytes{0};

void* Counted(size_t bytes) {
  ++allocations;
  allocated_bytes += bytes;
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t bytes) {
  return Counted(bytes);
}
void* operator new[](size_t bytes) {
  return Counted(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  std::free(memory);
}

namespace nudge {
namespace {

using namespace testing;

std::shared_ptr<const FrozenWeights> TinyWeights() {
  TinyLlama model;
  model.Fill(3);
  const TemporaryFile file("steady.gguf");
  model.Write(file.path());
  return *FrozenWeights::Load(file.path());
}

std::vector<TrainSequence> Anchors() {
  std::vector<TrainSequence> anchors(4);
  for (size_t i = 0; i < anchors.size(); ++i) {
    anchors[i].tokens = RandomTokens(20, 67, 10 + i);
    anchors[i].completion_begin = 6;
  }
  return anchors;
}

BOOST_AUTO_TEST_CASE(a_step_after_the_first_allocates_nothing_but_its_result) {
  const auto weights = TinyWeights();
  Trainer trainer(weights, {.max_tokens = 300, .max_rank = 4});
  const auto pool = AnchorPool::Make(Anchors(), trainer, SerialFor());
  BOOST_REQUIRE(pool.ok());
  const LoraWeights adapter = RandomAdapter(weights->AdapterShape(4, 8, kAllModules), 2, 0.05f);
  std::vector<TrainSequence> sequences = pool->sequences();
  TrainSequence up;
  up.tokens = RandomTokens(100, 67, 1);
  up.completion_begin = 60;
  sequences.insert(sequences.begin(), up);
  const ParallelFor serial = SerialFor();
  const auto step = [&] {
    const auto gradient = trainer.GradientScratch(adapter.values.size());
    return trainer.Gradients(adapter, sequences, serial, gradient).ok();
  };
  BOOST_REQUIRE(step());
  const size_t before = allocations;
  const size_t bytes_before = allocated_bytes;
  const bool stepped = step();
  const size_t made = allocations - before;
  const size_t bytes = allocated_bytes - bytes_before;
  BOOST_TEST(stepped);
  BOOST_TEST(made == 1u);  // StepLosses::sequences
  BOOST_TEST(bytes == sequences.size() * sizeof(SequenceLoss));
}

BOOST_AUTO_TEST_CASE(a_thousand_steps_leave_the_heap_as_it_was) {
  const auto weights = TinyWeights();
  Trainer trainer(weights, {.max_tokens = 300, .max_rank = 4});
  const auto pool = AnchorPool::Make(Anchors(), trainer, SerialFor());
  BOOST_REQUIRE(pool.ok());
  LearnerOptions options;
  options.rank = 4;
  options.replay_examples = 16;
  Learner learner(*weights, options);
  const ParallelFor serial = SerialFor();
  size_t heap_at_100 = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    const TokenExample example{RandomTokens(12, 67, i % 40), RandomTokens(8, 67, 100 + i % 40),
                               std::nullopt, i % 3 == 0 ? -1.0 : 1.0};
    BOOST_REQUIRE(learner.Step(example, trainer, *pool, serial).ok());
    const struct mallinfo2 heap = mallinfo2();
    if (i == 100) heap_at_100 = heap.uordblks + heap.hblkhd;
    if (i == 999) {
      BOOST_TEST(heap.uordblks + heap.hblkhd <= heap_at_100 + 4096);
    }
  }
}

}  // namespace
}  // namespace nudge
