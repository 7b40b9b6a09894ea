// labels: unit
#include <ggml.h>

#include <Eigen/SVD>
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <limits>
#include <span>

#include "pipeline/commands/commands.h"
#include "stages/files.h"
#include "stages/hash.h"
#include "stages/model/adapters/adapter_merge.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/adapters/low_rank.h"
#include "stages/model/adapters/new_adapter.h"
#include "stages/model/loop_threads.h"
#include "stages/model/serve/adapter_check.h"
#include "tests/run_command.h"
#include "tests/snapshot_sample.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::FileBytes;
using nudge::testing::TempFolder;

namespace {

using Dense = Eigen::MatrixXd;

LoraShape SmallShape(uint32_t rank = 4, float alpha = 8) {
  LoraShape shape;
  shape.layers = 2;
  shape.rank = rank;
  shape.alpha = alpha;
  shape.in = {32, 32, 32, 32, 32, 32, 48};
  shape.out = {32, 16, 16, 32, 48, 48, 32};
  shape.enabled.fill(true);
  return shape;
}

// A of one seed, B of another.
LoraWeights Weights(const LoraShape& shape, uint64_t seed_a, uint64_t seed_b) {
  LoraWeights weights = NewAdapter(shape, seed_a);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      const size_t begin = shape.OffsetB(layer, module);
      for (size_t i = begin; i < begin + shape.SizeB(module); ++i) {
        weights.values[i] = static_cast<float>(0.1 * (2 * UniformAt(seed_b, i) - 1));
      }
    }
  }
  return weights;
}

MergeInput InputOf(const LoraWeights& weights, uint64_t examples = 1) {
  MergeInput input;
  input.adapter.weights = weights;
  AdapterManifest& manifest = input.adapter.manifest;
  manifest.tenant = "acme";
  manifest.version = 3;
  manifest.digest = input.adapter.values_digest = Digest(weights);
  manifest.base_sha256 = std::string(64, 'a');
  manifest.base_architecture = "llama";
  manifest.base_head_size = 8;
  manifest.examples = examples;
  input.sha256 = Sha256Hex(manifest.digest);
  input.name = input.sha256.substr(0, 6) + ".gguf";
  input.weight = 1;
  return input;
}

std::vector<MergeInput> ThreeInputs() {
  std::vector<MergeInput> inputs;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    inputs.push_back(InputOf(Weights(SmallShape(), seed, 10 + seed), 10 * seed));
  }
  return inputs;
}

// (alpha / rank) B A by three loops.
Dense ProductOf(const LoraWeights& weights, uint32_t layer, size_t m) {
  const LoraShape& shape = weights.shape;
  const auto module = static_cast<LoraModule>(m);
  const float* a = &weights.values[shape.OffsetA(layer, module)];
  const float* b = &weights.values[shape.OffsetB(layer, module)];
  Dense product = Dense::Zero(shape.out[m], shape.in[m]);
  for (Eigen::Index i = 0; i < product.rows(); ++i) {
    for (Eigen::Index j = 0; j < product.cols(); ++j) {
      for (Eigen::Index k = 0; k < shape.rank; ++k) {
        product(i, j) += static_cast<double>(b[i * shape.rank + k]) *
                         static_cast<double>(a[k * product.cols() + j]);
      }
    }
  }
  return product * (static_cast<double>(shape.alpha) / shape.rank);
}

Dense MeanOf(const std::vector<MergeInput>& inputs, uint32_t layer, size_t m) {
  double sum = 0;
  for (const MergeInput& input : inputs) sum += input.weight;
  const LoraShape& shape = inputs.front().adapter.weights.shape;
  Dense mean = Dense::Zero(shape.out[m], shape.in[m]);
  for (const MergeInput& input : inputs) {
    mean += input.weight / sum * ProductOf(input.adapter.weights, layer, m);
  }
  return mean;
}

MergedAdapter Merged(const std::vector<MergeInput>& inputs, const MergeOptions& options = {}) {
  auto merged = MergeAdapters(inputs, options, SerialFor());
  BOOST_REQUIRE_MESSAGE(merged.ok(), (merged.ok() ? "" : merged.error().message));
  return std::move(merged).value();
}

// Of all modules: the distance of the merged adapter's products from the mean's, and the mean's
// norm.
std::pair<double, double> DistanceAndNorm(const MergedAdapter& merged,
                                          const std::vector<MergeInput>& inputs) {
  double distance = 0;
  double norm = 0;
  for (uint32_t layer = 0; layer < merged.weights.shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const Dense mean = MeanOf(inputs, layer, m);
      distance += (ProductOf(merged.weights, layer, m) - mean).squaredNorm();
      norm += mean.squaredNorm();
    }
  }
  return {std::sqrt(distance), std::sqrt(norm)};
}

// What no product of that rank can be nearer than (Eckart and Young 1936).
double LeastDistance(const std::vector<MergeInput>& inputs, Eigen::Index rank) {
  double distance = 0;
  const LoraShape& shape = inputs.front().adapter.weights.shape;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const Eigen::JacobiSVD<Dense> svd(MeanOf(inputs, layer, m));
      const auto& values = svd.singularValues();
      distance += values.tail(values.size() - std::min(rank, values.size())).squaredNorm();
    }
  }
  return std::sqrt(distance);
}

std::string Refusal(const std::vector<MergeInput>& inputs, const MergeOptions& options = {}) {
  const auto merged = MergeAdapters(inputs, options, SerialFor());
  BOOST_REQUIRE(!merged.ok());
  BOOST_TEST((merged.error().code == Code::kWrongAdapter));
  return merged.error().message;
}

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

// ---- The mean -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(without_a_rank_the_merge_is_the_weighted_mean_of_the_products) {
  std::vector<MergeInput> inputs = ThreeInputs();
  inputs[0].weight = 3;
  inputs[2].weight = 0.5;
  const MergedAdapter merged = Merged(inputs);
  BOOST_TEST(merged.weights.shape.rank == 12U);
  BOOST_TEST(merged.weights.shape.alpha == 24.0F);  // the same scale, 2
  BOOST_TEST(!merged.is_cut);
  BOOST_TEST(merged.error.share == 0.0);
  const auto [distance, norm] = DistanceAndNorm(merged, inputs);
  BOOST_TEST(norm > 0.1);
  BOOST_TEST(distance < 2e-7 * norm);
}

BOOST_AUTO_TEST_CASE(other_ranks_and_scales_are_merged_as_what_they_do) {
  std::vector<MergeInput> inputs = ThreeInputs();
  inputs.push_back(InputOf(Weights(SmallShape(2, 16), 4, 14)));
  inputs.push_back(InputOf(Weights(SmallShape(3, 1), 5, 15)));
  const MergedAdapter merged = Merged(inputs);
  BOOST_TEST(merged.weights.shape.rank == 17U);
  BOOST_TEST(merged.weights.shape.alpha == 8.0F * 17);  // the largest scale, 16 / 2
  BOOST_TEST(!merged.averaged.has_value());
  const auto [distance, norm] = DistanceAndNorm(merged, inputs);
  BOOST_TEST(distance < 2e-7 * norm);

  const MergedAdapter asked = Merged(inputs, {.alpha = 10});
  BOOST_TEST(asked.weights.shape.alpha == 10.0F);
  BOOST_TEST(DistanceAndNorm(asked, inputs).first < 2e-7 * norm);
}

BOOST_AUTO_TEST_CASE(a_cut_is_as_near_as_a_product_of_that_rank_can_be) {
  std::vector<MergeInput> inputs = ThreeInputs();
  inputs[1].weight = 4;
  for (const uint32_t rank : {1U, 2U, 4U, 7U, 11U}) {
    const MergedAdapter merged = Merged(inputs, {.rank = rank});
    BOOST_TEST(merged.is_cut);
    BOOST_TEST(merged.weights.shape.rank == rank);
    BOOST_TEST(merged.weights.shape.alpha == 2.0F * static_cast<float>(rank));
    const auto [distance, norm] = DistanceAndNorm(merged, inputs);
    const double least = LeastDistance(inputs, rank);
    BOOST_TEST(distance > 0.01 * norm);
    BOOST_TEST(distance < least * (1 + 1e-5), "rank " << rank << ": " << distance / least - 1);
    BOOST_TEST(merged.error.share == distance / norm, boost::test_tools::tolerance(1e-5));
  }
}

BOOST_AUTO_TEST_CASE(many_adapters_are_cut_as_near_as_can_be_though_their_ranks_exceed_the_matrix) {
  std::vector<MergeInput> inputs;
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    inputs.push_back(InputOf(Weights(SmallShape(), seed, 100 + seed)));
  }
  const MergedAdapter merged = Merged(inputs, {.rank = 4});
  const double least = LeastDistance(inputs, 4);
  const auto [distance, norm] = DistanceAndNorm(merged, inputs);
  BOOST_TEST(distance < least * (1 + 1e-4), distance / least - 1);
  BOOST_TEST(distance > 0.3 * norm);
}

BOOST_AUTO_TEST_CASE(what_a_smaller_rank_can_hold_is_not_lost_by_a_cut) {
  const MergeInput input = InputOf(Weights(SmallShape(), 1, 11));
  LoraWeights other = input.adapter.weights;  // the same products, of other matrices
  for (const float factor : {2.0F, 0.5F}) {
    for (uint32_t layer = 0; layer < other.shape.layers; ++layer) {
      for (size_t m = 0; m < kLoraModules; ++m) {
        const auto module = static_cast<LoraModule>(m);
        const size_t begin =
            factor > 1 ? other.shape.OffsetA(layer, module) : other.shape.OffsetB(layer, module);
        const size_t size = factor > 1 ? other.shape.SizeA(module) : other.shape.SizeB(module);
        for (size_t i = begin; i < begin + size; ++i) other.values[i] *= factor;
      }
    }
  }
  const std::vector<MergeInput> inputs = {input, InputOf(other)};
  const MergedAdapter merged = Merged(inputs, {.rank = 4});
  BOOST_TEST(merged.is_cut);
  BOOST_TEST(merged.error.share < 1e-6);
  BOOST_TEST(DistanceAndNorm(merged, inputs).first < 1e-6 * DistanceAndNorm(merged, inputs).second);
}

BOOST_AUTO_TEST_CASE(with_the_same_a_in_all_the_merge_is_exact_at_the_same_rank) {
  std::vector<MergeInput> inputs;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    inputs.push_back(InputOf(Weights(SmallShape(), 7, 20 + seed)));
    inputs.back().weight = static_cast<double>(seed);
  }
  const MergedAdapter merged = Merged(inputs);
  BOOST_TEST(merged.shares_a);
  BOOST_TEST(!merged.is_cut);
  BOOST_TEST((merged.weights.shape == SmallShape()));
  const auto [distance, norm] = DistanceAndNorm(merged, inputs);
  BOOST_TEST(distance < 2e-7 * norm);
  BOOST_TEST(merged.averaged->share < 1e-6);
  const LoraWeights& first = inputs.front().adapter.weights;
  BOOST_TEST(std::equal(first.values.begin(), first.values.begin() + 4 * 32,
                        merged.weights.values.begin()));

  inputs.push_back(InputOf(Weights(SmallShape(), 8, 30)));  // one with an A of its own
  const MergedAdapter mixed = Merged(inputs);
  BOOST_TEST(!mixed.shares_a);
  BOOST_TEST(mixed.weights.shape.rank == 8U);
  BOOST_TEST(DistanceAndNorm(mixed, inputs).first < 2e-7 * norm);
}

BOOST_AUTO_TEST_CASE(averaging_a_and_b_apart_is_said_to_be_as_far_off_as_it_is) {
  const std::vector<MergeInput> inputs = ThreeInputs();
  LoraWeights averaged = inputs[0].adapter.weights;
  for (size_t i = 0; i < averaged.values.size(); ++i) {
    averaged.values[i] =
        (inputs[0].adapter.weights.values[i] + inputs[1].adapter.weights.values[i] +
         inputs[2].adapter.weights.values[i]) /
        3;
  }
  MergedAdapter as_averaged;
  as_averaged.weights = averaged;
  const auto [distance, norm] = DistanceAndNorm(as_averaged, inputs);
  for (const uint32_t rank : {0U, 4U}) {
    const MergedAdapter merged = Merged(inputs, {.rank = rank});
    BOOST_REQUIRE(merged.averaged.has_value());
    BOOST_TEST(merged.averaged->share == distance / norm, boost::test_tools::tolerance(1e-5));
    BOOST_TEST(merged.averaged->worst_share >= merged.averaged->share);
    BOOST_TEST(merged.averaged->worst_module.starts_with("blk."));
  }
  BOOST_TEST(Merged(inputs, {.rank = 4}).error.share < distance / norm);
}

BOOST_AUTO_TEST_CASE(a_rank_above_that_of_the_mean_leaves_room_to_learn) {
  const std::vector<MergeInput> inputs = ThreeInputs();
  const MergedAdapter merged = Merged(inputs, {.rank = 16});
  BOOST_TEST(!merged.is_cut);
  BOOST_TEST(merged.weights.shape.rank == 16U);
  const auto [distance, norm] = DistanceAndNorm(merged, inputs);
  BOOST_TEST(distance < 2e-7 * norm);
  const float* last_row_of_a = &merged.weights.values[15 * 32];
  BOOST_TEST(std::any_of(last_row_of_a, last_row_of_a + 32, [](float x) { return x != 0; }));
}

BOOST_AUTO_TEST_CASE(adapters_that_change_nothing_merge_into_one_that_changes_nothing) {
  std::vector<MergeInput> inputs;
  for (uint64_t seed = 1; seed <= 3; ++seed)
    inputs.push_back(InputOf(NewAdapter(SmallShape(), seed)));
  const MergedAdapter merged = Merged(inputs, {.rank = 4});
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      BOOST_TEST(ProductOf(merged.weights, layer, m).norm() == 0.0);
    }
  }
  BOOST_TEST(merged.error.share == 0.0);
  BOOST_TEST(merged.error.worst_module.empty());
  // What learns on begins as a new adapter does, A beside a B of zeros.
  const LoraWeights fresh = NewAdapter(SmallShape(), 0);
  BOOST_TEST(std::equal(fresh.values.begin(), fresh.values.begin() + 4 * 32,
                        merged.weights.values.begin()));
}

BOOST_AUTO_TEST_CASE(order_and_threads_change_no_byte) {
  std::vector<MergeInput> inputs = ThreeInputs();
  inputs[0].weight = 7;
  LoopThreads threads(4);
  for (const uint32_t rank : {0U, 5U}) {
    const MergedAdapter first = Merged(inputs, {.rank = rank});
    const std::string bytes = EncodeGguf(first.weights, first.manifest).value();
    std::rotate(inputs.begin(), inputs.begin() + 1, inputs.end());
    const auto second = MergeAdapters(inputs, {.rank = rank}, threads.For());
    BOOST_TEST((EncodeGguf(second->weights, second->manifest).value() == bytes));
    std::swap(inputs[0], inputs[1]);
    const MergedAdapter third = Merged(inputs, {.rank = rank});
    BOOST_TEST((EncodeGguf(third.weights, third.manifest).value() == bytes));
  }
}

BOOST_AUTO_TEST_CASE(a_merge_has_the_bytes_that_it_had) {
  // Of one machine: others must make the same, whatever instructions they have.
  BOOST_TEST(Merged(ThreeInputs(), {.rank = 4}).manifest.digest ==
             "91b38dac3e48d292fecea044ea4010b5eb7a2393d376ca32184b321896c2d3de");
  BOOST_TEST(Merged(ThreeInputs()).manifest.digest ==
             "cb18ffbb36aa214c31deb6692986091af1e4d8aee70f022c5695e2ac1d1aaaf6");
}

// ---- What is refused ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(what_cannot_be_merged_is_refused_by_its_name) {
  const auto refusal = [](auto change) {
    std::vector<MergeInput> inputs = ThreeInputs();
    change(inputs[1]);
    const std::string message = Refusal(inputs);
    BOOST_TEST(Has(message, inputs[1].name), message);
    return message;
  };
  BOOST_TEST(
      Has(refusal([](MergeInput& i) { i.adapter.manifest.base_sha256 = std::string(64, 'b'); }),
          "another base model"));
  BOOST_TEST(Has(refusal([](MergeInput& i) { i.adapter.manifest.base_architecture = "qwen2"; }),
                 "another form"));
  BOOST_TEST(
      Has(refusal([](MergeInput& i) { i.adapter.manifest.base_head_size = 16; }), "another form"));
  BOOST_TEST(Has(refusal([](MergeInput& i) {
                   LoraShape shape = SmallShape();
                   shape.enabled[2] = false;
                   i.adapter.weights = Weights(shape, 1, 2);
                 }),
                 "attn_v"));
  BOOST_TEST(Has(refusal([](MergeInput& i) {
                   LoraShape shape = SmallShape();
                   shape.layers = 3;
                   i.adapter.weights = Weights(shape, 1, 2);
                 }),
                 "3 layers"));
  BOOST_TEST(Has(refusal([](MergeInput& i) {
                   i.adapter.weights.values[77] = std::numeric_limits<float>::quiet_NaN();
                 }),
                 "not finite"));
  for (const double weight : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    BOOST_TEST(Has(refusal([&](MergeInput& i) { i.weight = weight; }), "weight"));
  }
  BOOST_TEST(Has(Refusal({}), "0 adapters"));
  BOOST_TEST(Has(Refusal(ThreeInputs(), {.rank = 4097}), "4097"));
  BOOST_TEST(Has(Refusal(ThreeInputs(), {.alpha = -1}), "alpha"));
  BOOST_TEST(Has(Refusal(ThreeInputs(), {.alpha = 1e-30F}), "too small"));
}

BOOST_AUTO_TEST_CASE(the_largest_values_that_are_taken_are_cut_as_well_as_others) {
  std::vector<MergeInput> inputs = ThreeInputs();
  for (MergeInput& input : inputs) {
    for (float& value : input.adapter.weights.values) value = std::copysign(65504.0F, value);
  }
  const double least = LeastDistance(inputs, 2);
  for (const float alpha : {0.0F, 1e-6F}) {
    const MergedAdapter merged = Merged(inputs, {.rank = 2, .alpha = alpha});
    BOOST_TEST(DistanceAndNorm(merged, inputs).first < least * (1 + 1e-4));
  }
  inputs[0].adapter.weights.values[5] = 65536;
  BOOST_TEST(Has(Refusal(inputs), "65504"));
}

BOOST_AUTO_TEST_CASE(weights_are_lessons_where_all_adapters_name_theirs) {
  std::vector<MergeInput> inputs = ThreeInputs();
  BOOST_TEST(WeightByLessons(inputs));
  const MergedAdapter merged = Merged(inputs);
  double sum = 0;
  for (const MergedPart& part : merged.manifest.merged_of) {
    const auto of = std::find_if(inputs.begin(), inputs.end(),
                                 [&](const MergeInput& i) { return i.sha256 == part.sha256; });
    BOOST_REQUIRE((of != inputs.end()));
    BOOST_TEST(part.weight == static_cast<double>(of->adapter.manifest.examples) / 60);
    sum += part.weight;
  }
  BOOST_TEST(sum == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(merged.manifest.examples == 60U);
  BOOST_TEST(merged.manifest.version == 0U);
  BOOST_TEST(merged.manifest.digest == Digest(merged.weights));

  inputs[1].adapter.manifest.examples = 0;
  BOOST_TEST(!WeightByLessons(inputs));
  for (const MergeInput& input : inputs) BOOST_TEST(input.weight == 1.0);
}

// ---- Files --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_command_writes_a_file_that_an_import_and_llama_cpp_take) {
  const TempFolder folder;
  const std::string snapshots = folder.path() + "/snapshots";
  std::vector<std::string> paths;
  for (uint32_t i = 1; i <= 3; ++i) {
    paths.push_back(snapshots + "/" + testing::WriteSample(snapshots, "acme", i, i).uri);
  }
  const std::string out = folder.path() + "/merged.gguf";
  const auto [status, said] =
      testing::RunCommand(std::string(NUDGE_BINARY) + " merge " + out + " " + paths[0] + " " +
                          paths[1] + " " + paths[2] + " --rank 4 --threads 2");
  BOOST_TEST(status == 0);
  BOOST_TEST(Has(said, "3 adapters, weighted by their lessons, as one of rank 4 and alpha 8"),
             said);
  BOOST_TEST(Has(said, "  error    "));
  BOOST_TEST(Has(said, "were A and B averaged apart"));
  const std::string bytes = FileBytes(out);
  BOOST_TEST(MergeFiles({.out = out, .inputs = paths, .rank = 4}) == 2);  // it is there
  BOOST_TEST((FileBytes(out) == bytes));
  std::reverse(paths.begin(), paths.end());
  const std::string again = folder.path() + "/again.gguf";
  BOOST_TEST(MergeFiles({.out = again, .inputs = paths, .rank = 4, .threads = 1}) == 0);
  BOOST_TEST((FileBytes(again) == bytes));

  // As an event imports it.
  const auto files = ReadImport(folder.path(), "merged.gguf", Sha256Hex(bytes));
  BOOST_REQUIRE(files.ok());
  const auto imported = DecodeFiles(*files, {std::string(64, 'a'), "llama", SmallShape(), 8});
  BOOST_REQUIRE_MESSAGE(imported.ok(), (imported.ok() ? "" : imported.error().message));
  BOOST_TEST(imported->manifest.merged_of.size() == 3U);
  BOOST_TEST(imported->manifest.examples == 33U);
  BOOST_TEST(imported->manifest.tenant == "acme");
  BOOST_TEST(imported->manifest.digest == imported->values_digest);  // f32: nothing was rounded

  AdapterBase base{"llama", {}};
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const char* names[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                           "ffn_gate", "ffn_up", "ffn_down"};
    for (size_t m = 0; m < kLoraModules; ++m) {
      base.weights["blk." + std::to_string(layer) + "." + names[m] + ".weight"] = {
          SmallShape().in[m], SmallShape().out[m]};
    }
  }
  const auto wrong = CheckAdapter(std::as_bytes(std::span(bytes)), base);
  BOOST_TEST(!wrong.has_value(), wrong.value_or(""));

  // Of merged ones a merge again, of weights by hand.
  const std::string more = folder.path() + "/more.gguf";
  BOOST_TEST(MergeFiles({.out = more, .inputs = {out + ":3", paths[0] + ":1"}}) == 0);
  const auto both = DecodeGgufAsItIs(FileBytes(more));
  BOOST_REQUIRE(both.ok());
  BOOST_TEST(both->weights.shape.rank == 8U);
  for (const MergedPart& part : both->manifest.merged_of) {
    BOOST_TEST(part.weight == (part.sha256 == Sha256Hex(bytes) ? 0.75 : 0.25));
  }
}

BOOST_AUTO_TEST_CASE(the_command_refuses_files_by_their_names_and_writes_nothing) {
  const TempFolder folder;
  const std::string good = folder.path() + "/" + testing::WriteSample(folder.path(), "acme", 1).uri;
  const std::string out = folder.path() + "/merged.gguf";
  std::string bytes = FileBytes(good + "/adapter.gguf");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  const std::string bad = folder.path() + "/bad.gguf";
  BOOST_REQUIRE(ReplaceFile(bad, bytes).ok());
  for (const std::vector<std::string>& inputs :
       std::vector<std::vector<std::string>>{{good, bad},
                                             {good, folder.path() + "/not-there.gguf"},
                                             {good, good + "/adapter_model.safetensors"},
                                             {good, good + ":2"},  // one with a weight, one without
                                             {good + ":0"},
                                             {good + ":-1"}}) {
    BOOST_TEST(MergeFiles({.out = out, .inputs = inputs}) == 2);
    BOOST_TEST(!std::filesystem::exists(out));
  }
  BOOST_TEST(MergeFiles({.out = folder.path() + "/none/x.gguf", .inputs = {good}}) == 1);
}

BOOST_AUTO_TEST_CASE(a_forged_file_of_any_shape_is_refused_before_it_takes_memory) {
  const std::vector<MergeInput> inputs = ThreeInputs();
  const MergedAdapter merged = Merged(inputs);
  const std::string bytes = EncodeGguf(merged.weights, merged.manifest).value();
  BOOST_REQUIRE(DecodeGgufAsItIs(bytes).ok());
  BOOST_TEST(DecodeGgufAsItIs(bytes)->manifest.merged_of.size() == 3U);
  const auto resealed = [&](size_t at, char value) {
    std::string forged = bytes;
    forged[at] = value;
    const size_t digits = forged.find("nudge.checksum") + 14 + 12;
    forged.replace(digits, 64, 64, '0');
    return forged.replace(digits, 64, Sha256Hex(forged));
  };
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  size_t refused = 0;
  const size_t data = bytes.size() - merged.weights.values.size() * 2;
  for (size_t at = 0; at < data; at += 3) {
    if (!DecodeGgufAsItIs(resealed(at, static_cast<char>(bytes[at] ^ 0x40))).ok()) ++refused;
  }
  BOOST_TEST(refused > data / 10);
  for (size_t size = 0; size < bytes.size(); size += 997) {
    BOOST_TEST(!DecodeGgufAsItIs(bytes.substr(0, size)).ok());
  }
}
