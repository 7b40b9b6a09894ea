// labels: unit
// Answers of another server that errs in every way, and a run over it; remote_answers_tests.cpp has
// a real one.
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "connectors/codec.h"
#include "connectors/memory.h"
#include "pipeline/processor.h"
#include "stages/hash.h"
#include "stages/model/remote_backend.h"
#include "stages/model/template_backend.h"
#include "tests/fault_server.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Peer = FaultServer::Peer;

const std::vector<ChatMessage> kChat = {{"user", "How many days?"}};
const std::string kKey = "sk-very-secret";

RemoteBackendOptions OptionsFor(const std::string& url) {
  return {.url = url,
          .model = "template",
          .answer_timeout = milliseconds(20'000),
          .retries_max = 0,
          .answer_bytes_max = 1000};
}

std::unique_ptr<Backend> Remote(const RemoteBackendOptions& options) {
  return MakeRemoteBackend(options, MakeTemplateBackend({.dimension = 8}));
}

Result<Completed> Ask(const RemoteBackendOptions& options, const Asker& asker = {},
                      const Decoding& decoding = {}) {
  return Remote(options)->Generate(0, kChat, nullptr, decoding, 7, asker);
}

// The error; requires one that has no word of the key.
Error WhyNot(const Result<Completed>& completed) {
  BOOST_REQUIRE(!completed.ok());
  BOOST_TEST(completed.error().message.find(kKey) == std::string::npos);
  BOOST_TEST(completed.error().remedy.find(kKey) == std::string::npos);
  return completed.error();
}

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// How an asker is told a text, and how much of it.
Asker Telling(std::string& told) {
  Asker asker;
  asker.on_text = [&told](std::string_view added) { told += added; };
  return asker;
}

Json BodyOf(const std::string& request) {
  return Json::parse(request.substr(request.find("\r\n\r\n") + 4));
}

void Write(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

}  // namespace

// ---- What is sent -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_request_has_chat_decoding_seed_and_key) {
  const TempFolder folder;
  Write(folder.path() + "/key", kKey + "\n");
  FaultServer server({Answers("Three.")});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.key_file = folder.path() + "/key";
  const auto backend = Remote(options);
  const std::vector<ChatMessage> chat = {{"system", "Be brief."}, {"user", "\"Caf\u00e9\"?"}};
  const Result<Completed> plain =
      backend->Generate(0, chat, nullptr, {.max_tokens = 9}, ~uint64_t{0}, {});
  BOOST_REQUIRE(plain.ok());
  BOOST_TEST(plain->text == "Three.");
  BOOST_TEST(plain->prompt_tokens == 11U);
  BOOST_TEST(plain->completion_tokens == 3U);
  const Decoding drawn{.temperature = .7, .top_p = .9, .top_k = 40, .max_tokens = 5};
  std::string told;
  BOOST_TEST(!backend->Generate(0, chat, nullptr, drawn, 5, Telling(told)).ok());  // is no stream
  const auto requests = server.requests();
  BOOST_TEST_REQUIRE(requests.size() == 2U);
  BOOST_TEST(requests[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
  BOOST_TEST(Holds(requests[0], "Authorization: Bearer " + kKey + "\r\n"));
  BOOST_TEST(Holds(requests[0], "Host: 127.0.0.1:" + std::to_string(server.port()) + "\r\n"));
  const Json messages = {{{"role", "system"}, {"content", "Be brief."}},
                         {{"role", "user"}, {"content", "\"Caf\u00e9\"?"}}};
  BOOST_TEST(BodyOf(requests[0]) == Json({{"model", "template"},
                                          {"messages", messages},
                                          {"temperature", 0.0},
                                          {"top_p", 1.0},
                                          {"max_tokens", 9},
                                          {"seed", 2147483647}}));
  BOOST_TEST(BodyOf(requests[1]) == Json({{"model", "template"},
                                          {"messages", messages},
                                          {"temperature", .7},
                                          {"top_p", .9},
                                          {"top_k", 40},
                                          {"max_tokens", 5},
                                          {"seed", 5},
                                          {"stream", true},
                                          {"stream_options", {{"include_usage", true}}}}));
}

BOOST_AUTO_TEST_CASE(all_but_answers_is_the_local_backends) {
  const auto local = MakeTemplateBackend({.dimension = 8});
  const auto remote = Remote(OptionsFor("http://127.0.0.1:9/v1"));
  BOOST_TEST(remote->dimension() == 8U);
  BOOST_CHECK(*remote->Embed(0, "some words", true) == *local->Embed(0, "some words", true));
  BOOST_TEST(remote->CountTokens(kChat) == local->CountTokens(kChat));
  BOOST_TEST(remote->window_tokens() == local->window_tokens());
  BOOST_TEST(remote->base_sha256() == local->base_sha256());
  BOOST_TEST(remote->CanLearn().ok());
  BOOST_TEST(!remote->serves_adapters());
  BOOST_TEST(remote->Fingerprint() == local->Fingerprint() + " answered elsewhere by template");
  const AdapterVersion version;
  BOOST_CHECK(WhyNot(remote->Generate(0, kChat, &version, {}, 1, {})).code ==
              Code::kUnsupportedModel);
}

BOOST_AUTO_TEST_CASE(a_key_that_is_none_is_refused_at_the_start_and_not_shown) {
  const TempFolder folder;
  RemoteBackendOptions options = OptionsFor("http://127.0.0.1:9/v1");
  options.key_file = folder.path() + "/key";
  const auto says = [&](const std::string& part) {
    BOOST_CHECK_EXCEPTION(Remote(options), StartError, [&](const StartError& error) {
      BOOST_TEST(!Holds(error.what(), "secret"));
      return Holds(error.what(), "model.openai.key_file: " + options.key_file + part);
    });
  };
  says("");
  for (const char* content : {"", "\n", "secret secret", "secret\nsecret\n", "secr\u00e9t"}) {
    Write(options.key_file, content);
    says(": not one line of visible ASCII");
  }
}

// ---- Faults -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(no_slow_drip_outlasts_the_deadline) {
  const auto drip = [](const std::string& head, const std::string& drop) {
    return [=](const Peer& peer) {
      if (!peer.Send(head)) return;
      while (peer.Send(drop)) std::this_thread::sleep_for(milliseconds(10));
    };
  };
  // In the head, in a body, in a stream.
  FaultServer server({drip("HTTP/1.1 200 OK\r\nX: ", "x"),
                      drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", " "),
                      drip(StreamHead(), Piece("x"))});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.answer_timeout = milliseconds(400);
  for (const bool streams : {false, false, true}) {
    std::string told;
    const auto begun = Clock::now();
    const Error late = WhyNot(Ask(options, streams ? Telling(told) : Asker{}));
    BOOST_CHECK(late.code == Code::kUnavailable);
    BOOST_TEST(Holds(late.message, "after 1 try: no whole reply within 400 ms"));
    BOOST_TEST(Holds(late.remedy, "raise model.openai.answer_timeout_ms"));
    BOOST_CHECK(Clock::now() - begun >= milliseconds(400));
    BOOST_CHECK(Clock::now() - begun < milliseconds(10'000));
    BOOST_TEST(told.empty() == !streams);
  }
}

BOOST_AUTO_TEST_CASE(who_does_not_speak_tls_or_is_not_there_is_given_up_in_time) {
  FaultServer mute({[](const Peer& peer) { peer.Wait(); }}, false);
  RemoteBackendOptions options =
      OptionsFor("https://127.0.0.1:" + std::to_string(mute.port()) + "/v1");
  options.connect_timeout = milliseconds(300);
  const auto begun = Clock::now();
  BOOST_TEST(Holds(WhyNot(Ask(options)).message, "no connection within 300 ms"));
  BOOST_CHECK(Clock::now() - begun < milliseconds(10'000));
  uint16_t closed = 0;
  {
    const FaultServer gone({Answers("")});
    closed = gone.port();
  }
  options.url = "http://127.0.0.1:" + std::to_string(closed) + "/v1";
  options.retries_max = 1;
  const Error refused = WhyNot(Ask(options));
  BOOST_CHECK(refused.code == Code::kUnavailable);
  BOOST_TEST(Holds(refused.message, "(model.openai.url, " + options.url +
                                        ") does not, after 2 "
                                        "tries: no connection: Connection refused"),
             refused.message);
}

BOOST_AUTO_TEST_CASE(what_may_pass_is_tried_again_behind_a_pause) {
  FaultServer server({Says("429 Too Many Requests", "{}"), Says("503 Service Unavailable", ""),
                      [](const Peer&) {}, Answers("Three.")});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.retries_max = 3;
  const auto begun = Clock::now();
  const Result<Completed> answered = Ask(options);
  BOOST_REQUIRE_MESSAGE(answered.ok(), (answered.ok() ? "" : answered.error().message));
  BOOST_TEST(answered->text == "Three.");
  BOOST_TEST(server.requests().size() == 4U);
  BOOST_CHECK(Clock::now() - begun >= milliseconds(250 + 500 + 1000));
}

BOOST_AUTO_TEST_CASE(tries_end_and_the_last_one_is_named) {
  FaultServer server({Says("500 Internal Server Error", ""),
                      Says("429 Too Many Requests",
                           R"({"error":{"code":"rate_limit_exceeded","message":"slow down"}})")});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.retries_max = 1;
  const Error busy = WhyNot(Ask(options));
  BOOST_CHECK(busy.code == Code::kUnavailable);
  BOOST_TEST(Holds(busy.message, "after 2 tries: it answers HTTP 429 (rate_limit_exceeded)"));
  BOOST_TEST(server.requests().size() == 2U);
}

BOOST_AUTO_TEST_CASE(a_stop_interrupts_pauses_and_waits) {
  FaultServer server({Says("503 Service Unavailable", ""), [](const Peer& peer) { peer.Wait(); }});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.retries_max = 100;
  for (int i = 0; i < 2; ++i) {  // in a pause; while nothing comes
    const auto begun = Clock::now();
    Asker asker;
    asker.cancelled = [&] { return Clock::now() - begun > milliseconds(100 + 300 * i); };
    BOOST_TEST(!Ask(options, asker).ok());
    BOOST_CHECK(Clock::now() - begun < milliseconds(5'000));
  }
}

BOOST_AUTO_TEST_CASE(a_refusal_for_all_questions_is_not_tried_again) {
  const TempFolder folder;
  Write(folder.path() + "/key", kKey);
  FaultServer server(
      {Says("401 Unauthorized",
            R"({"error":{"code":"invalid_api_key","message":"not )" + kKey + R"("}})"),
       Says("404 Not Found", R"({"error":{"code":404,"type":"NotFoundError"}})"),
       Says("302 Found", ""), Says("200 OK", "<html>hello</html>"),
       Says("200 OK", R"({"choices":[]})"),
       Says("200 OK", R"({"choices":[{"message":{"content":)")});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.key_file = folder.path() + "/key";
  options.retries_max = 5;
  for (const std::string part :
       {"it answers HTTP 401 (invalid_api_key)", "it answers HTTP 404 (NotFoundError)",
        "it answers HTTP 302", "its reply is not JSON",
        "its reply has no choices[0].message.content", "its reply is not JSON"}) {
    const Error error = WhyNot(Ask(options));
    BOOST_CHECK(error.code == Code::kUnavailable);
    BOOST_TEST(Holds(error.message, "after 1 try: " + part), error.message);
    BOOST_TEST(!error.remedy.empty());
  }
  BOOST_TEST(server.requests().size() == 6U);
}

BOOST_AUTO_TEST_CASE(a_refusal_of_one_question_is_its_own_and_quotes_nothing) {
  const std::string quoting =
      R"({"error":{"type":"exceed_context_size_error","message":"How many days? is too long"}})";
  FaultServer server(
      {Says("400 Bad Request", quoting),
       Says("422 Unprocessable Entity", R"({"error":{"code":"How many days?","message":"no"}})")});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.retries_max = 5;
  const Error first = WhyNot(Ask(options));
  BOOST_CHECK(first.code == Code::kModelFailed);
  BOOST_TEST(first.message ==
             "another server refuses the question: it answers HTTP 400 "
             "(exceed_context_size_error)");
  const Error second = WhyNot(Ask(options));
  BOOST_CHECK(second.code == Code::kModelFailed);
  BOOST_TEST(second.message == "another server refuses the question: it answers HTTP 422");
  BOOST_TEST(server.requests().size() == 2U);
}

BOOST_AUTO_TEST_CASE(too_much_is_the_questions_error) {
  const auto pours = [](const Peer& peer) {
    peer.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (peer.Send("400\r\n" + std::string(1024, 'x') + "\r\n")) {
    }
  };
  FaultServer server({pours, Says("200 OK", std::string(100'000, 'x')), pours,
                      Answers(std::string(1001, 'x')), Answers(std::string(1000, 'x'))});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.retries_max = 5;
  options.response_bytes_max = 20'000;
  std::string told;
  for (const bool streams : {false, false, true}) {
    const Error error = WhyNot(Ask(options, streams ? Telling(told) : Asker{}));
    BOOST_CHECK(error.code == Code::kTooLarge);
    BOOST_TEST(error.message == "the answer of another server: its reply is over 20000 bytes");
  }
  const Error text = WhyNot(Ask(options));
  BOOST_CHECK(text.code == Code::kTooLarge);
  BOOST_TEST(Holds(text.message, "has 1001 bytes, over an eighth of limits.outcome_bytes"));
  BOOST_TEST(Ask(options).ok());
}

BOOST_AUTO_TEST_CASE(a_stream_that_breaks_off_is_asked_again_whole_and_told_no_further) {
  const auto breaks = [](const std::string& text) {
    return [=](const Peer& peer) { peer.Send(StreamHead() + text); };
  };
  FaultServer server({breaks(Piece("Thr") + Piece("ee")), Answers("Four."),
                      breaks(Piece("Thr") + "data: {\"error\":{\"type\":\"overloaded\"}}\n\n"),
                      Answers("Five."), breaks(Piece("Si") + "data: {\"cho"),
                      breaks(Piece("Si") + "data: nothing\n\n")});
  RemoteBackendOptions options = OptionsFor(server.url());
  options.retries_max = 1;
  std::string told;
  BOOST_TEST(Ask(options, Telling(told))->text == "Four.");
  BOOST_TEST(told == "Three");
  BOOST_TEST(Ask(options, Telling(told))->text == "Five.");
  BOOST_TEST(told == "ThreeThr");
  const auto requests = server.requests();
  BOOST_TEST_REQUIRE(requests.size() == 4U);
  BOOST_TEST(BodyOf(requests[2]).contains("stream"));
  BOOST_TEST(!BodyOf(requests[3]).contains("stream"));
  options.retries_max = 0;
  BOOST_TEST(Holds(WhyNot(Ask(options, Telling(told))).message, "its stream ended without [DONE]"));
  options.retries_max = 5;
  BOOST_TEST(Holds(WhyNot(Ask(options, Telling(told))).message,
                   "after 1 try: its stream has data that is not JSON"));
}

BOOST_AUTO_TEST_CASE(a_stream_may_have_lines_of_any_style_and_ends_at_done) {
  FaultServer server({[](const Peer& peer) {
    peer.Send(StreamHead() +
              ": hello\n\nevent: x\r\ndata:{\"choices\":[{\"delta\":{\"role\":"
              "\"assistant\",\"content\":null}}]}\r\n\r\n" +
              Piece("Caf\\u00e9") +
              "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
              "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n"
              "data: [DONE]\n\n");
    peer.Wait();  // and leaves the connection open
  }});
  std::string told;
  const Result<Completed> answered = Ask(OptionsFor(server.url()), Telling(told));
  BOOST_REQUIRE_MESSAGE(answered.ok(), (answered.ok() ? "" : answered.error().message));
  BOOST_TEST(answered->text == "Caf\u00e9");
  BOOST_TEST(told == "Caf\u00e9");
  BOOST_TEST(answered->prompt_tokens == 5U);
  BOOST_TEST(answered->completion_tokens == 2U);
  BOOST_CHECK(answered->finish_reason == FinishReason::kLength);
}

// ---- A run --------------------------------------------------------------------------------------

namespace {

std::string Line(const std::string& type, const std::string& id, const std::string& data) {
  return R"({"specversion":"1.0","type":"nudge.)" + type + R"(","source":"t","id":")" + id +
         R"(","tenant":"acme","user":"ann","data":)" + data + "}";
}

std::vector<std::string> Lines() {
  std::vector<std::string> lines;
  for (int i = 0; i < 4; ++i) {
    const std::string number = std::to_string(i);
    lines.push_back(Line("query", "q" + number, R"({"text":"Question )" + number + R"(?"})"));
    lines.push_back(
        Line("feedback", "f" + number,
             R"({"query_id":"q)" + number + R"(","correction":"Better )" + number + R"(."})"));
  }
  return lines;
}

ProcessorOptions RunOptions(const std::string& folder) {
  ProcessorOptions options;
  options.state_folder = folder + "/state";
  options.executor.snapshot_folder = folder + "/snapshots";
  options.executor.threads = 1;  // answers in the order of their questions
  options.adapt.lead_lessons = 0;
  options.adapt.publish_every_steps = 1;
  options.adapt.snapshot_every_versions = 2;
  options.checkpoint_every_events = 1000;
  options.checkpoint_at_end = false;  // a stop that nobody prepared
  return options;
}

using Done = Result<std::map<int32_t, PartitionSummary>>;

Done Run(const std::string& folder, const std::string& url, MemorySink& sink) {
  const auto backend = Remote(OptionsFor(url));
  MemorySource source(Lines());
  Processor processor(RunOptions(folder), {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  return processor.Run(stop);
}

std::string ChainOf(const Done& done) {
  BOOST_REQUIRE_MESSAGE(done.ok(), (done.ok() ? "" : done.error().message));
  return Hex(done->at(0).chain);
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_learnt_is_published_and_the_base_answers) {
  const TempFolder folder;
  FaultServer server({Answers("First."), Answers("Another.")});
  MemorySink sink;
  ChainOf(Run(folder.path(), server.url(), sink));
  BOOST_TEST_REQUIRE(sink.lines().size() == 8U);
  size_t snapshots = 0;
  for (size_t i = 0; i < sink.lines().size(); ++i) {
    const auto outcome = DecodeOutcome(sink.lines()[i].bytes);
    BOOST_TEST_REQUIRE(outcome.ok());
    snapshots += outcome->outcome.snapshots.size();
    if (i % 2 == 1) {
      BOOST_TEST(Holds(std::get<Applied>(outcome->outcome.what).summary,
                       "makes version " + std::to_string(i / 2 + 1)));
      continue;
    }
    const auto& response = std::get<Response>(outcome->outcome.what);
    BOOST_TEST(response.text == (i == 0 ? "First." : "Another."));
    BOOST_TEST(response.adapter_version == 0U);
    BOOST_TEST(response.adapter_digest == "base");
  }
  BOOST_TEST(snapshots == 2U);
}

BOOST_AUTO_TEST_CASE(a_recovery_takes_recorded_answers_and_asks_nobody) {
  const TempFolder folder;
  MemorySink sink;
  std::string chain;
  std::string url;
  {
    FaultServer server({Answers("First."), Answers("Another.")});
    url = server.url();
    chain = ChainOf(Run(folder.path(), url, sink));
    BOOST_TEST(server.requests().size() == 4U);
  }
  // Nobody listens there any more, and the state stands at the beginning.
  BOOST_TEST(ChainOf(Run(folder.path(), url, sink)) == chain);
  BOOST_TEST(sink.lines().size() == 8U);
}

BOOST_AUTO_TEST_CASE(a_server_that_is_away_ends_the_run_and_no_question) {
  const TempFolder folder;
  MemorySink sink;
  FaultServer server({Answers("First."), Answers("Second."), Says("503 Service Unavailable", ""),
                      Answers("Third."), Answers("Fourth.")});
  const Done away = Run(folder.path(), server.url(), sink);
  BOOST_REQUIRE(!away.ok());
  BOOST_CHECK(away.error().code == Code::kUnavailable);
  BOOST_TEST(Holds(away.error().message, "does not, after 1 try: it answers HTTP 503"));
  BOOST_TEST(sink.lines().size() <= 4U);
  ChainOf(Run(folder.path(), server.url(), sink));
  BOOST_TEST_REQUIRE(sink.lines().size() == 8U);
  for (const OutcomeLine& line : sink.lines()) {
    BOOST_CHECK(line.kind != OutcomeKind::kDeadLetter);
  }
}
