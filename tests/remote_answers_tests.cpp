// labels: unit
// Answers of a real server, `nudge serve` with the template backend, over HTTP and through TLS.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <cstdlib>
#include <regex>

#include "stages/model/remote_backend.h"
#include "stages/model/template_backend.h"
#include "tests/answering.h"
#include "tests/temp_folder.h"
#include "tests/tls_pair.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

RemoteBackendOptions OptionsFor(const std::string& url) {
  return {.url = url,
          .model = "template",
          .answer_timeout = std::chrono::milliseconds(60'000),
          .retries_max = 0,
          .answer_bytes_max = 1000};
}

Result<Completed> Ask(const RemoteBackendOptions& options, const Asker& asker = {},
                      const Decoding& decoding = {}) {
  const auto backend = MakeRemoteBackend(options, MakeTemplateBackend({.dimension = 8}));
  return backend->Generate(0, {{"user", "How many days?"}}, nullptr, decoding, 7, asker);
}

Error WhyNot(const Result<Completed>& completed) {
  BOOST_REQUIRE(!completed.ok());
  return completed.error();
}

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Asker Telling(std::string& told) {
  Asker asker;
  asker.on_text = [&told](std::string_view added) { told += added; };
  return asker;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_real_server_answers_whole_and_as_a_stream) {
  Answering upstream("serve-template.json");
  const RemoteBackendOptions options =
      OptionsFor("http://localhost:" + std::to_string(upstream.port()) + "/v1/");
  const Result<Completed> whole = Ask(options);
  BOOST_REQUIRE_MESSAGE(whole.ok(), (whole.ok() ? "" : whole.error().message));
  BOOST_TEST(std::regex_match(whole->text, std::regex("\\[template answer [0-9a-f]{16}\\]")));
  BOOST_TEST(whole->completion_tokens == 4U);
  BOOST_TEST(whole->prompt_tokens > 0U);
  BOOST_CHECK(whole->finish_reason == FinishReason::kStop);
  std::string told;
  const Result<Completed> streamed = Ask(options, Telling(told));
  BOOST_REQUIRE_MESSAGE(streamed.ok(), (streamed.ok() ? "" : streamed.error().message));
  BOOST_TEST(streamed->text == whole->text);
  BOOST_TEST(told == whole->text);
  BOOST_TEST(streamed->completion_tokens == 4U);
  BOOST_TEST(streamed->prompt_tokens == whole->prompt_tokens);
}

BOOST_AUTO_TEST_CASE(what_a_real_server_refuses_of_one_question_is_that_questions_error) {
  Answering upstream("serve-template.json");
  const auto options = OptionsFor("http://127.0.0.1:" + std::to_string(upstream.port()) + "/v1");
  const Error refused = WhyNot(Ask(options, {}, {.top_p = .5}));  // nudge serve takes 1 alone
  BOOST_CHECK(refused.code == Code::kModelFailed);
  BOOST_TEST(Holds(refused.message, "another server refuses the question: it answers HTTP 400"));
  const Error nowhere =
      WhyNot(Ask(OptionsFor("http://127.0.0.1:" + std::to_string(upstream.port()))));
  BOOST_CHECK(nowhere.code == Code::kUnavailable);
  BOOST_TEST(Holds(nowhere.message, "after 1 try: it answers HTTP 404"));
  BOOST_TEST(Holds(nowhere.remedy, "mostly in /v1"));
}

BOOST_AUTO_TEST_CASE(a_certificate_counts_where_it_is_trusted_and_has_the_name) {
  const TempFolder folder;
  const std::string certificate = folder.path() + "/certificate.pem";
  WriteTlsPair(certificate, folder.path() + "/key.pem", "localhost");
  Answering upstream("serve-template.json", [&](Config& config) {
    config.http.tls_certificate_file = certificate;
    config.http.tls_key_file = folder.path() + "/key.pem";
  });
  const auto options = [&](const std::string& host) {
    return OptionsFor("https://" + host + ":" + std::to_string(upstream.port()) + "/v1");
  };
  BOOST_TEST(Holds(WhyNot(Ask(options("localhost"))).message, "no TLS: certificate verify failed"));
  setenv("SSL_CERT_FILE", certificate.c_str(), 1);
  const Result<Completed> answered = Ask(options("localhost"));
  std::string told;
  const Result<Completed> streamed = Ask(options("localhost"), Telling(told));
  const Result<Completed> misnamed = Ask(options("127.0.0.1"));
  unsetenv("SSL_CERT_FILE");
  BOOST_TEST(answered.ok(), (answered.ok() ? "" : answered.error().message));
  BOOST_TEST(streamed.ok(), (streamed.ok() ? "" : streamed.error().message));
  BOOST_TEST(Holds(WhyNot(misnamed).message, "no TLS: certificate verify failed"));
}
