// labels: unit
// Which form of a model's weights is chosen for which processor and memory.
#include <boost/test/unit_test.hpp>

#include "stages/model/serve/served_form.h"

namespace nudge {
namespace {

constexpr uint64_t kGigabyte = 1'000'000'000;

GgufInfo Model(const std::string& quantisation, uint64_t weights) {
  GgufInfo info;
  info.quantisation = quantisation;
  info.weights = weights;
  return info;
}

FormType Chosen(const std::string& quantisation, uint64_t weights, const ServingMachine& machine) {
  const FormChoice choice = ChooseForm(Model(quantisation, weights), machine);
  BOOST_TEST(!choice.why.empty());
  return choice.type;
}

BOOST_AUTO_TEST_CASE(a_slow_format_is_served_as_bf16_where_the_processor_multiplies_it) {
  const ServingMachine machine{true, true, 16 * kGigabyte};
  for (const char* slow : {"q4_1", "q5_0", "q5_1", "f32", "f16"}) {
    BOOST_TEST((Chosen(slow, 135'000'000, machine) == FormType::kBf16), slow);
  }
  for (const char* fast : {"q4_0", "q4_K", "q6_K", "q8_0", "bf16"}) {
    BOOST_TEST((Chosen(fast, 135'000'000, machine) == FormType::kFile), fast);
  }
}

BOOST_AUTO_TEST_CASE(without_bf16_in_the_processor_it_is_q8_0_and_without_avx2_the_file) {
  BOOST_TEST((Chosen("q4_1", 135'000'000, {false, true, 16 * kGigabyte}) == FormType::kQ8_0));
  BOOST_TEST((Chosen("q4_1", 135'000'000, {false, false, 16 * kGigabyte}) == FormType::kFile));
}

BOOST_AUTO_TEST_CASE(with_tiles_q4_1_stays_as_it_is_and_what_is_slow_becomes_q8_0) {
  const ServingMachine machine{true, true, 16 * kGigabyte, true};
  BOOST_TEST((Chosen("q4_1", 135'000'000, machine) == FormType::kFile));
  for (const char* slow : {"q5_0", "q5_1", "f32", "f16"}) {
    BOOST_TEST((Chosen(slow, 135'000'000, machine) == FormType::kQ8_0), slow);
  }
}

BOOST_AUTO_TEST_CASE(the_reason_that_is_given_is_the_one_that_decides) {
  const auto why = [](const char* format, const ServingMachine& machine) {
    return ChooseForm(Model(format, 135'000'000), machine).why;
  };
  BOOST_TEST(why("q4_1", {false, false, 16 * kGigabyte}) ==
             "this processor has neither bf16 nor AVX2");
  BOOST_TEST(why("q5_1", {true, true, kGigabyte / 10}) ==
             "a faster form takes more than an eighth of the memory");
  BOOST_TEST(why("q5_1", {false, true, 16 * kGigabyte}) ==
             "this processor does not multiply bf16, q8_0 takes 143 MB");
  BOOST_TEST(why("f16", {true, true, 16 * kGigabyte, true}) ==
             "this processor multiplies int8 in tiles (AMX), q8_0 takes 143 MB");
}

BOOST_AUTO_TEST_CASE(a_form_takes_at_most_an_eighth_of_the_memory) {
  constexpr uint64_t kWeights = kGigabyte;  // 2 GB in bf16, 1.06 GB in Q8_0
  BOOST_TEST((Chosen("q4_1", kWeights, {true, true, 16 * kGigabyte}) == FormType::kBf16));
  BOOST_TEST((Chosen("q4_1", kWeights, {true, true, 15 * kGigabyte}) == FormType::kQ8_0));
  BOOST_TEST((Chosen("q4_1", kWeights, {true, true, 8 * kGigabyte}) == FormType::kFile));
}

BOOST_AUTO_TEST_CASE(a_form_lies_beside_its_model) {
  BOOST_TEST(ServedFormPath("models/a.Q4_1.gguf") == "models/a.Q4_1.served.gguf");
}

}  // namespace
}  // namespace nudge
