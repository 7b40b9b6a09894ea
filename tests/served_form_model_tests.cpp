// labels: model
// The form of a model's weights that answers: made once, held to the file that it was made from.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "stages/hash.h"
#include "stages/model/local_backend.h"
#include "stages/model/serve/language_model.h"
#include "stages/model/serve/served_form.h"
#include "tests/models.h"
#include "tests/temp_folder.h"

namespace nudge {
namespace {

using testing::ModelPath;
using testing::TempFolder;

// The model under a name in a folder of its own, without its bytes being copied.
struct Linked {
  Linked() : path(folder.path() + "/model.gguf") {
    std::filesystem::create_symlink(ModelPath(), path);
    sha256 = *FileSha256(path);
  }
  std::unique_ptr<Backend> Answering(const std::string& form) const {
    LocalBackendOptions options;
    options.language_model = path;
    options.served_form = form;
    options.slots = 1;
    options.window_tokens = 256;
    options.learn = false;
    return MakeLocalBackend(options);
  }

  const TempFolder folder;
  const std::string path;
  std::string sha256;
};

// KL of what `other` says of the next token from what `exact` says, mean over rows; and the share
// of rows with the same most likely token.
std::pair<double, double> Apart(const std::vector<float>& exact, const std::vector<float>& other,
                                size_t vocabulary) {
  double kl = 0;
  size_t same = 0;
  const size_t rows = exact.size() / vocabulary;
  const auto log_sum = [&](const float* row) {
    double sum = 0;
    for (size_t i = 0; i < vocabulary; ++i) sum += std::exp(static_cast<double>(row[i]));
    return std::log(sum);
  };
  for (size_t r = 0; r < rows; ++r) {
    const float* const p = &exact[r * vocabulary];
    const float* const q = &other[r * vocabulary];
    const double p_sum = log_sum(p);
    const double q_sum = log_sum(q);
    for (size_t i = 0; i < vocabulary; ++i) {
      const double log_p = static_cast<double>(p[i]) - p_sum;
      kl += std::exp(log_p) * (log_p - static_cast<double>(q[i]) + q_sum);
    }
    same += std::max_element(p, p + vocabulary) - p == std::max_element(q, q + vocabulary) - q;
  }
  return {kl / static_cast<double>(rows), static_cast<double>(same) / static_cast<double>(rows)};
}

BOOST_AUTO_TEST_CASE(a_form_says_what_its_model_says_and_answers_in_its_place) {
  const Linked model;
  const LanguageModel exact(model.path, {.slots = 1, .window_tokens = 256});
  const auto tokens = exact.RenderTokens({{"user", "Why is the sky blue, and the sea?"},
                                          {"assistant", "Short waves are scattered the most."},
                                          {"user", "And at dusk?"}});
  BOOST_REQUIRE(tokens.ok());
  LanguageModel file(model.path, {.slots = 1, .window_tokens = 256});
  const auto expected = file.Logits(0, *tokens, nullptr);
  BOOST_REQUIRE(expected.ok());
  std::string before = model.Answering("auto")->Fingerprint();
  for (const FormType type : {FormType::kBf16, FormType::kQ8_0}) {
    BOOST_REQUIRE(MakeServedForm(model.path, model.sha256, type).ok());
    const auto found = FindServedForm(model.path, model.sha256);
    BOOST_REQUIRE((found.ok() && found->has_value()));
    BOOST_TEST(ReadGgufInfo(**found)->quantisation == Name(type));
    LanguageModel form(**found, {.slots = 1, .window_tokens = 256});
    const auto said = form.Logits(0, *tokens, nullptr);
    BOOST_REQUIRE(said.ok());
    const auto [kl, same] = Apart(*expected, *said, file.vocabulary());
    BOOST_TEST_MESSAGE(Name(type) << ": KL " << kl << ", same " << same);
    BOOST_TEST(kl < .02);  // the file's own products are .003 from exact
    BOOST_TEST(same > .9);
    const auto backend = model.Answering("auto");
    BOOST_TEST(backend->base_sha256() == model.sha256);
    BOOST_TEST(backend->Fingerprint().find(" served as ") != std::string::npos);
    BOOST_TEST(backend->Fingerprint() != before);
    before = backend->Fingerprint();
    BOOST_TEST(model.Answering("file")->Fingerprint().find(" served as ") == std::string::npos);
  }
  BOOST_REQUIRE(MakeServedForm(model.path, model.sha256, FormType::kFile).ok());
  BOOST_TEST(!std::filesystem::exists(ServedFormPath(model.path)));
}

BOOST_AUTO_TEST_CASE(a_form_of_another_file_and_a_damaged_one_are_refused_with_what_to_do) {
  const Linked model;
  BOOST_REQUIRE(MakeServedForm(model.path, std::string(64, 'a'), FormType::kQ8_0).ok());
  const auto refused = [&](const char* what) {
    BOOST_CHECK_EXCEPTION(model.Answering("auto"), StartError, [&](const StartError& error) {
      const std::string said = error.what();
      BOOST_TEST_MESSAGE(said);
      return said.find(what) != said.npos && said.find("`nudge form ") != said.npos;
    });
    BOOST_TEST(model.Answering("file") != nullptr);
  };
  refused("was not made from");
  std::filesystem::resize_file(ServedFormPath(model.path), 5'000'000);
  refused("truncated");
  std::ofstream(ServedFormPath(model.path)) << "no model";
  refused("not a GGUF file");
  BOOST_REQUIRE(MakeServedForm(model.path, model.sha256, FormType::kQ8_0).ok());
  BOOST_TEST(model.Answering("auto") != nullptr);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_written_leaves_the_form_that_is_there) {
  const Linked model;
  BOOST_REQUIRE(MakeServedForm(model.path, model.sha256, FormType::kQ8_0).ok());
  const std::string before = *FileSha256(ServedFormPath(model.path));
  std::filesystem::create_directories(ServedFormPath(model.path) + ".part/full");
  const auto made = MakeServedForm(model.path, model.sha256, FormType::kBf16);
  BOOST_REQUIRE(!made.ok());
  BOOST_TEST_MESSAGE(made.error().message << "; " << made.error().remedy);
  BOOST_TEST(*FileSha256(ServedFormPath(model.path)) == before);
}

}  // namespace
}  // namespace nudge
