// labels: model
#include <ggml.h>
#include <gguf.h>
#include <llama.h>

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/trainer.h"
#include "tests/models.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::ClearB;
using testing::kAllModules;
using testing::ModelPath;
using testing::RandomAdapter;
using testing::TemporaryFile;
using testing::ThreadsFor;

std::shared_ptr<const FrozenWeights> Model() {
  static const auto weights = [] {
    auto loaded = FrozenWeights::Load(ModelPath());
    BOOST_REQUIRE_MESSAGE(loaded.ok(), (loaded ? "" : loaded.error().message));
    return *loaded;
  }();
  return weights;
}

// The first `count` tokens of a plain text, starting at its token `skip`.
std::vector<int32_t> TextTokens(size_t count, size_t skip = 0) {
  static const std::string text =
      "The harbour master counts the boats each evening and writes the number in a book. When a "
      "boat is missing he lights the lamp on the pier, and its owner comes to ask why. Last winter "
      "the lamp burned for nine nights, because the northern fleet had been held up by ice. In "
      "spring the council paid for a stronger lamp, a new rope and two months of coal, which the "
      "master thought was generous. He keeps the old lamp in his kitchen, where it gives enough "
      "light to read by. Every child of the village knows the number of that boat by heart.";
  static const std::vector<int32_t> tokens = [] {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    auto params = llama_model_default_params();
    params.vocab_only = true;
    llama_model* model = llama_model_load_from_file(ModelPath().c_str(), params);
    BOOST_REQUIRE(model != nullptr);
    std::vector<int32_t> ids(text.size());
    ids.resize(static_cast<size_t>(llama_tokenize(llama_model_get_vocab(model), text.data(),
                                                  static_cast<int32_t>(text.size()), ids.data(),
                                                  static_cast<int32_t>(ids.size()), false, false)));
    llama_model_free(model);
    return ids;
  }();
  BOOST_REQUIRE(skip + count <= tokens.size());
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(skip);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

LoraWeights Adapter(float width) {
  return RandomAdapter(Model()->AdapterShape(8, 16, kAllModules), 3, width);
}

// The same model with every tensor as f32, so that llama.cpp rounds no activation to 8 bits.
void WriteAsF32(const std::filesystem::path& from, const std::filesystem::path& to) {
  ggml_context* source = nullptr;
  gguf_context* header = gguf_init_from_file(from.c_str(), {false, &source});
  BOOST_REQUIRE(header != nullptr);
  size_t bytes = 1 << 20;
  std::vector<ggml_tensor*> tensors;
  for (int64_t i = 0; i < gguf_get_n_tensors(header); ++i) {
    tensors.push_back(ggml_get_tensor(source, gguf_get_tensor_name(header, i)));
    bytes += static_cast<size_t>(ggml_nelements(tensors.back())) * sizeof(float) + 1024;
  }
  ggml_context* widened = ggml_init({bytes, nullptr, false});
  gguf_context* out = gguf_init_empty();
  gguf_set_kv(out, header);
  for (const ggml_tensor* t : tensors) {
    ggml_tensor* wide = ggml_new_tensor(widened, GGML_TYPE_F32, ggml_n_dims(t), t->ne);
    ggml_set_name(wide, ggml_get_name(t));
    if (t->type == GGML_TYPE_F32) {
      std::memcpy(wide->data, t->data, ggml_nbytes(t));
    } else {
      ggml_get_type_traits(t->type)->to_float(t->data, static_cast<float*>(wide->data),
                                              ggml_nelements(t));
    }
    gguf_add_tensor(out, wide);
  }
  BOOST_REQUIRE(gguf_write_to_file(out, to.c_str(), false));
  gguf_free(out);
  gguf_free(header);
  ggml_free(widened);
  ggml_free(source);
}

std::vector<float> LlamaCppLogits(const std::filesystem::path& path,
                                  const std::vector<int32_t>& tokens, size_t vocabulary) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model* model = llama_model_load_from_file(path.c_str(), llama_model_default_params());
  BOOST_REQUIRE(model != nullptr);
  auto params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = 128;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, params);
  BOOST_REQUIRE(context != nullptr);
  llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = static_cast<int32_t>(i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  batch.n_tokens = static_cast<int32_t>(tokens.size());
  BOOST_REQUIRE(llama_decode(context, batch) == 0);
  const float* logits = llama_get_logits(context);
  std::vector<float> result(logits, logits + tokens.size() * vocabulary);
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  return result;
}

BOOST_AUTO_TEST_CASE(the_real_model_has_the_shape_that_its_makers_state) {
  const LlamaShape& shape = Model()->shape();
  BOOST_TEST(shape.layers == 30u);
  BOOST_TEST(shape.hidden == 576u);
  BOOST_TEST(shape.heads == 9u);
  BOOST_TEST(shape.kv_heads == 3u);
  BOOST_TEST(shape.feed_forward == 1536u);
  BOOST_TEST(shape.vocabulary == 49152u);
  BOOST_TEST(shape.rope_theta == 100000.0f);
}

BOOST_AUTO_TEST_CASE(logits_of_the_real_model_agree_with_llama_cpp_on_the_same_f32_weights) {
  const TemporaryFile widened("f32.gguf");
  WriteAsF32(ModelPath(), widened.path());
  const auto tokens = TextTokens(64);
  Trainer trainer(Model(), {65, 8});
  const auto ours = trainer.Logits(tokens, nullptr, ThreadsFor(2));
  BOOST_REQUIRE(ours.ok());
  const auto theirs = LlamaCppLogits(widened.path(), tokens, 49152);
  double worst = 0, largest = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::fabs((*ours)[i] - theirs[i])));
    largest = std::max(largest, static_cast<double>(std::fabs(theirs[i])));
  }
  BOOST_TEST_MESSAGE("worst difference " << worst << " of logits up to " << largest);
  BOOST_TEST(worst < 1e-4);  // of logits up to 30
}

// Another model of a trained architecture, by its path in NUDGE_TRAIN_MODEL. Without one the runner
// reports the case as skipped: it proves nothing then.
boost::test_tools::assertion_result AnotherModelIsGiven(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result given(std::getenv("NUDGE_TRAIN_MODEL") != nullptr);
  given.message() << "NUDGE_TRAIN_MODEL names no GGUF: nothing is tested";
  return given;
}

BOOST_AUTO_TEST_CASE(logits_of_another_model_agree_with_llama_cpp_on_the_same_f32_weights,
                     *boost::unit_test::precondition(AnotherModelIsGiven)) {
  const std::filesystem::path path = std::getenv("NUDGE_TRAIN_MODEL");
  const auto weights = FrozenWeights::Load(path);
  BOOST_REQUIRE_MESSAGE(weights.ok(), (weights ? "" : weights.error().message));
  const TemporaryFile widened("another-f32.gguf");
  WriteAsF32(path, widened.path());
  const size_t vocabulary = (*weights)->shape().vocabulary;
  const auto tokens = testing::RandomTokens(32, vocabulary, 5);
  Trainer trainer(*weights, {33, 8});
  const auto ours = trainer.Logits(tokens, nullptr, ThreadsFor(2));
  BOOST_REQUIRE(ours.ok());
  const auto theirs = LlamaCppLogits(widened.path(), tokens, vocabulary);
  double worst = 0, largest = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::fabs((*ours)[i] - theirs[i])));
    largest = std::max(largest, static_cast<double>(std::fabs(theirs[i])));
  }
  BOOST_TEST_MESSAGE((*weights)->architecture()
                     << ": worst difference " << worst << " of logits up to " << largest);
  BOOST_TEST(worst < 1e-4 * largest);
}

double TotalLoss(Trainer& trainer, const LoraWeights& adapter,
                 const std::vector<TrainSequence>& sequences) {
  std::vector<float> unused(adapter.values.size());
  const auto losses = trainer.Gradients(adapter, sequences, ThreadsFor(2), unused);
  BOOST_REQUIRE(losses.ok());
  return losses->total;
}

std::vector<TrainSequence> Step(size_t tokens) {
  const auto make = [&](Objective objective, float weight, size_t skip) {
    TrainSequence sequence;
    sequence.tokens = TextTokens(tokens, skip);
    sequence.completion_begin = tokens / 2;
    sequence.objective = objective;
    sequence.weight = weight;
    return sequence;
  };
  return {make(Objective::kCrossEntropy, 1, 0), make(Objective::kDown, 0.3f, 20),
          make(Objective::kAnchor, 1, 40)};
}

BOOST_AUTO_TEST_CASE(the_real_gradient_is_the_slope_of_the_loss) {
  Trainer trainer(Model(), {64, 8});
  const auto sequences = Step(12);
  const LoraWeights adapter = Adapter(0.02f);
  std::vector<float> gradient(adapter.values.size());
  const auto losses = trainer.Gradients(adapter, sequences, ThreadsFor(2), gradient);
  BOOST_REQUIRE(losses.ok());
  // Along the gradient itself, and along random directions that mix every matrix of every layer.
  for (uint64_t direction = 0; direction < 4; ++direction) {
    std::vector<double> along(gradient.size());
    double length = 0;
    for (size_t i = 0; i < along.size(); ++i) {
      along[i] = direction == 0
                     ? static_cast<double>(gradient[i])
                     : static_cast<double>(testing::Uniform(direction, i) * std::fabs(gradient[i]));
      length += along[i] * along[i];
    }
    double slope = 0;
    for (size_t i = 0; i < along.size(); ++i) {
      along[i] /= std::sqrt(length);
      slope += along[i] * static_cast<double>(gradient[i]);
    }
    const double step = 4e-3 / losses->gradient_norm;
    const auto at = [&](double distance) {
      LoraWeights moved = adapter;
      for (size_t i = 0; i < along.size(); ++i) {
        moved.values[i] += static_cast<float>(distance * along[i]);
      }
      return TotalLoss(trainer, moved, sequences);
    };
    const double difference = (at(step) - at(-step)) / (2 * step);
    BOOST_TEST_MESSAGE("slope " << slope << ", difference " << difference);
    BOOST_TEST(std::fabs(slope - difference) < 0.01 * losses->gradient_norm);
  }
}

BOOST_AUTO_TEST_CASE(sampled_entries_of_the_real_gradient_are_central_differences) {
  Trainer trainer(Model(), {64, 8});
  const auto sequences = Step(10);
  const LoraWeights adapter = Adapter(0.02f);
  std::vector<float> gradient(adapter.values.size());
  BOOST_REQUIRE(trainer.Gradients(adapter, sequences, ThreadsFor(2), gradient).ok());
  // The largest entry of an A and of a B in the first, a middle and the last layer.
  double worst = 0;
  for (const uint32_t layer : {0u, 14u, 29u}) {
    for (const LoraModule module : {LoraModule::kKey, LoraModule::kDown}) {
      for (const bool a : {true, false}) {
        const size_t begin =
            a ? adapter.shape.OffsetA(layer, module) : adapter.shape.OffsetB(layer, module);
        const size_t size = a ? adapter.shape.SizeA(module) : adapter.shape.SizeB(module);
        size_t at = begin;
        for (size_t i = begin; i < begin + size; ++i) {
          if (std::fabs(gradient[i]) > std::fabs(gradient[at])) at = i;
        }
        const float step = std::min(0.02f, 5e-3f / std::fabs(gradient[at]));
        LoraWeights above = adapter, below = adapter;
        above.values[at] += step;
        below.values[at] -= step;
        const double width =
            static_cast<double>(above.values[at]) - static_cast<double>(below.values[at]);
        const double difference =
            (TotalLoss(trainer, above, sequences) - TotalLoss(trainer, below, sequences)) / width;
        const auto value = static_cast<double>(gradient[at]);
        worst = std::max(worst, std::fabs(value - difference) / std::fabs(value));
      }
    }
  }
  BOOST_TEST_MESSAGE("worst relative difference " << worst);
  BOOST_TEST(worst < 0.03);
}

BOOST_AUTO_TEST_CASE(a_real_step_has_the_same_bytes_at_one_two_and_three_threads) {
  Trainer trainer(Model(), {256, 8});
  const auto sequences = Step(40);
  const LoraWeights adapter = Adapter(0.02f);
  std::vector<std::vector<float>> gradients;
  for (const int threads : {1, 2, 3, 2}) {
    gradients.emplace_back(adapter.values.size());
    BOOST_REQUIRE(
        trainer.Gradients(adapter, sequences, ThreadsFor(threads), gradients.back()).ok());
    BOOST_TEST(std::memcmp(gradients[0].data(), gradients.back().data(),
                           gradients[0].size() * sizeof(float)) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_real_step_has_the_same_bytes_whatever_of_it_is_computed_again) {
  const auto sequences = Step(40);
  constexpr size_t kRows = 3 * 39;
  const size_t least = Trainer::LeastBytes(Model()->shape(), {kRows, 8});
  const LoraWeights adapter = Adapter(0.02f);
  std::vector<std::vector<float>> gradients;
  std::vector<size_t> again;
  for (const size_t bytes_max : {TrainerLimits().bytes_max, 2 * least, least}) {
    Trainer trainer(Model(), {kRows, 8, bytes_max});
    again.push_back(trainer.LayersComputedAgain(kRows));
    for (const int threads : {1, 2, 4}) {
      gradients.emplace_back(adapter.values.size());
      BOOST_REQUIRE(
          trainer.Gradients(adapter, sequences, ThreadsFor(threads), gradients.back()).ok());
      BOOST_TEST(std::memcmp(gradients[0].data(), gradients.back().data(),
                             gradients[0].size() * sizeof(float)) == 0);
    }
  }
  BOOST_TEST(again[0] == 0u);
  BOOST_TEST((again[1] > 0 && again[1] < 29));
  BOOST_TEST(again[2] == 29u);
}

BOOST_AUTO_TEST_CASE(a_real_step_on_weights_read_in_place_has_the_bytes_of_one_on_a_copy) {
  const auto in_place = FrozenWeights::Load(ModelPath(), {.in_file = true});
  BOOST_REQUIRE(in_place.ok());
  BOOST_TEST(100 * (*in_place)->bytes() < Model()->bytes());
  const auto sequences = Step(40);
  const LoraWeights adapter = Adapter(0.02f);
  std::vector<float> copied(adapter.values.size()), read(adapter.values.size());
  BOOST_REQUIRE(
      Trainer(Model(), {256, 8}).Gradients(adapter, sequences, ThreadsFor(2), copied).ok());
  BOOST_REQUIRE(
      Trainer(*in_place, {256, 8}).Gradients(adapter, sequences, ThreadsFor(2), read).ok());
  BOOST_TEST(std::memcmp(copied.data(), read.data(), copied.size() * sizeof(float)) == 0);
}

BOOST_AUTO_TEST_CASE(with_b_zero_the_real_model_is_the_base_bit_for_bit) {
  Trainer trainer(Model(), {64, 8});
  LoraWeights adapter = Adapter(0.1f);
  ClearB(adapter);
  const auto tokens = TextTokens(33);
  const auto base = trainer.LogProbability(tokens, 5, nullptr, ThreadsFor(2));
  const auto adapted = trainer.LogProbability(tokens, 5, &adapter, ThreadsFor(2));
  BOOST_REQUIRE((base.ok() && adapted.ok()));
  BOOST_TEST(*base == *adapted);
}

}  // namespace
}  // namespace nudge
