// labels: kafka slow
// `nudge gateway` before `nudge run`, as people run them: asked over HTTP, against a real broker,
// with brokers and processors that go away and come back.
#include <boost/test/unit_test.hpp>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <thread>

#include "connectors/command_keys.h"
#include "connectors/http/keys.h"
#include "tests/http_client.h"
#include "tests/kafka_trial.h"
#include "tests/lora_stand_in.h"
#include "tests/snapshot_sample.h"

using namespace nudge;
using namespace nudge::testing;
using Json = nlohmann::json;

namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr int32_t kPartitions = 3;
constexpr char kAsync[] = "Prefer: respond-async\r\n";

// Topics of one test, and the configurations of those who share them.
class World {
 public:
  explicit World(const std::string& name)
      : topics(OptionsFor(KafkaBroker::OfTheSuite().address(), name)) {
    const auto made = CreateTopics(topics, kPartitions, 1);
    BOOST_REQUIRE_MESSAGE(made.ok(), (made.ok() ? "" : made.error().message));
  }

  // `more`: members that are merged in.
  std::string Config(const std::string& name, const Json& more = Json::object()) const {
    Json json = {{"kafka",
                  {{"brokers", topics.brokers},
                   {"group_id", topics.group_id},
                   {"instance_id", name},
                   {"input_topic", topics.input_topic},
                   {"response_topic", topics.response_topic},
                   {"receipt_topic", topics.receipt_topic},
                   {"dead_letter_topic", topics.dead_letter_topic},
                   {"session_timeout_ms", 6000}}},
                 {"output", {{"folder", folder.path() + "/out"}}},
                 {"model", {{"backend", "template"}, {"template_dimension", 8}}},
                 {"checkpoint", {{"every_events", 20}}},
                 {"http", {{"port", 0}}},
                 {"gateway", {{"delivery_timeout_ms", 5000}}}};
    json.merge_patch(more);
    std::string path = folder.path() + "/" + name + ".json";
    std::ofstream(path) << json;
    return path;
  }

  // The outcomes of all that was ever sent, by the id of their events.
  std::multimap<std::string, RecordedOutcome> Outcomes() const {
    std::multimap<std::string, RecordedOutcome> outcomes;
    for (const std::string& topic :
         {topics.response_topic, topics.receipt_topic, topics.dead_letter_topic}) {
      for (int32_t partition = 0; partition < kPartitions; ++partition) {
        for (const Stored& stored : ReadAll(topics.brokers, topic, partition)) {
          Result<RecordedOutcome> outcome = DecodeOutcome(stored.bytes);
          BOOST_REQUIRE(outcome.ok());
          outcomes.emplace(outcome->outcome.id, *std::move(outcome));
        }
      }
    }
    return outcomes;
  }

  const KafkaOptions topics;
  const TempFolder folder;
};

class Runner : public Process {
 public:
  explicit Runner(const World& world, const std::string& name = "processor",
                  const Json& more = Json::object())
      : Process({"run", world.Config(name, more)}) {}
};

class Gateway : public Process {
 public:
  explicit Gateway(const World& world, const std::string& name = "gateway",
                   const Json& more = Json::object())
      : Process({"gateway", world.Config(name, more)}) {
    WaitUntilItServes();
    static const std::regex kPort(R"(serving at http://[^ ;]*:(\d+);)");
    const std::string log = Log();
    for (std::sregex_iterator at(log.begin(), log.end(), kPort), end; at != end; ++at) {
      port = static_cast<uint16_t>(std::stoi((*at)[1]));
    }
    BOOST_REQUIRE(port > 0);
  }

  uint16_t port = 0;
};

std::string Question(const std::string& id, const std::string& text,
                     const std::string& tenant = "acme") {
  return R"({"specversion":"1.0","id":")" + id +
         R"(","source":"/test","type":"nudge.query","tenant":")" + tenant +
         R"(","data":{"text":")" + text + R"("}})";
}

Reply Post(uint16_t port, const std::string& event, const std::string& headers = "") {
  return Call(port, Request("POST", "/v1/events", event, headers));
}

Reply Get(uint16_t port, const std::string& path, const std::string& tenant = "acme") {
  return Call(port, Request("GET", path, "", "x-nudge-tenant: " + tenant + "\r\n"));
}

// Asked again until it is there.
Reply OutcomeOf(uint16_t port, const std::string& id, const std::string& tenant = "acme") {
  const auto end = std::chrono::steady_clock::now() + kTrialPatience;
  while (true) {
    Reply reply = Get(port, "/v1/outcomes/" + id, tenant);
    if (reply.status == 200 || std::chrono::steady_clock::now() > end) return reply;
    std::this_thread::sleep_for(Milliseconds(50));
  }
}

// Sent again until it is answered.
Reply Answered(uint16_t port, const std::string& event) {
  const auto end = std::chrono::steady_clock::now() + kTrialPatience;
  while (true) {
    Reply reply = Post(port, event);
    if (reply.status == 200 || std::chrono::steady_clock::now() > end) return reply;
    std::this_thread::sleep_for(Milliseconds(50));
  }
}

std::string IdOf(const Reply& reply) {
  const Result<RecordedOutcome> outcome = DecodeOutcome(reply.body);
  return outcome.ok() ? outcome->outcome.id : "no outcome: " + reply.body;
}

std::string CodeOf(const Reply& reply) {
  return Json::parse(reply.body)["error"]["code"];
}

std::string MessageOf(const Reply& reply) {
  return Json::parse(reply.body)["error"]["message"];
}

// That nobody listens at now.
uint16_t FreePort() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  BOOST_REQUIRE(bind(socket, reinterpret_cast<const sockaddr*>(&address), size) == 0);
  BOOST_REQUIRE(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  close(socket);
  return ntohs(address.sin_port);
}

bool Has(const std::string& text, const std::string& words) {
  return text.find(words) != text.npos;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_asked_over_http_is_answered_over_topics) {
  const World world("asked");
  Runner processor(world);
  Gateway gateway(world);
  const uint16_t port = gateway.port;
  const std::string tenant = "x-nudge-tenant: acme\r\n";

  const Reply document = Call(
      port, Request("POST", "/v1/documents",
                    R"({"document_id":"bike","text":"The bike weighs 14 kilograms."})", tenant));
  BOOST_TEST(document.status == 200, document.body);

  const std::string chat =
      R"({"model":"template","messages":[{"role":"user","content":"How heavy is the bike?"}])";
  const Reply answer = Call(port, Request("POST", "/v1/chat/completions", chat + "}",
                                          tenant + "Idempotency-Key: q-1\r\n"));
  BOOST_TEST_REQUIRE(answer.status == 200, answer.body);
  const std::string text = Json::parse(answer.body)["choices"][0]["message"]["content"];
  BOOST_TEST(text.starts_with("[template answer"), text);
  BOOST_TEST(Has(answer.body, R"("citations":[{"document_id":"bike")"), answer.body);

  // A stream has the text in one piece, then what was committed.
  const Reply stream =
      Call(port, Request("POST", "/v1/chat/completions", chat + R"(,"stream":true})", tenant));
  BOOST_TEST(stream.status == 200);
  BOOST_TEST(Has(stream.body, Json(text).dump()), stream.body);
  BOOST_TEST(Has(stream.body, R"("finish_reason":"stop")"), stream.body);
  BOOST_TEST(stream.body.ends_with("data: [DONE]\n\n"));

  const Reply feedback =
      Call(port, Request("POST", "/v1/feedback", R"({"answer_id":"q-1","rating":"up"})", tenant));
  BOOST_TEST(feedback.status == 200, feedback.body);
  BOOST_TEST(Get(port, "/v1/outcomes/q-1").status == 200);

  const Reply unknown = Get(port, "/v1/outcomes/never");
  BOOST_TEST(unknown.status == 404);
  BOOST_TEST(MessageOf(unknown) == "no outcome of never is among the newest 4 that are held here",
             unknown.body);
  for (const char* path : {"/v1/lessons", "/v1/adapters/acme", "/v1/adapters/acme/events",
                           "/v1/adapters/acme/1/adapter.gguf"}) {
    const Reply elsewhere = Get(port, path);
    BOOST_TEST(elsewhere.status == 501, path);
    BOOST_TEST(CodeOf(elsewhere) == "no_state_here");
  }
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(Has(gateway.Log(), "stopped after 4 events; 4 outcomes were read"), gateway.Log());
  BOOST_TEST(processor.Stop() == 0);
}

BOOST_AUTO_TEST_CASE(many_clients_of_two_gateways_get_their_own_outcomes_from_two_processors) {
  const World world("two");
  Runner one(world, "one");
  Runner two(world, "two");
  Gateway left(world, "left");
  Gateway right(world, "right");
  constexpr int kClients = 16;
  constexpr int kEach = 20;
  std::vector<std::thread> clients;
  std::atomic<int> wrong = 0;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&, client] {
      Connection connection(client % 2 == 0 ? left.port : right.port);
      for (int i = 0; i < kEach; ++i) {
        const std::string id = std::to_string(client) + "-" + std::to_string(i);
        const std::string tenant = "tenant-" + std::to_string((client + i) % 7);
        connection.Send(Request("POST", "/v1/events", Question(id, "What is " + id + "?", tenant)));
        const Reply reply = connection.Receive();
        if (reply.status != 200 || IdOf(reply) != id) ++wrong;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  BOOST_TEST(wrong == 0);
  const auto outcomes = world.Outcomes();
  BOOST_TEST(outcomes.size() == size_t{kClients * kEach});

  // Whatever a gateway took, the others hold, too.
  BOOST_TEST(OutcomeOf(right.port, "0-0", "tenant-0").body ==
             OutcomeOf(left.port, "0-0", "tenant-0").body);
  for (Process* process : std::initializer_list<Process*>{&left, &right, &one, &two}) {
    BOOST_TEST(process->Stop() == 0);
  }
}

BOOST_AUTO_TEST_CASE(an_id_that_is_sent_again_gets_the_same_outcome_at_every_gateway) {
  const World world("again");
  Runner processor(world);
  Gateway first(world, "first");
  const Reply answer = Answered(first.port, Question("q", "How heavy is the bike?"));
  BOOST_TEST_REQUIRE(answer.status == 200, answer.body);
  BOOST_TEST(first.Stop() == 0);

  Gateway second(world, "second");  // it reads what was before it
  BOOST_TEST(Get(second.port, "/v1/outcomes/q").body == answer.body);
  const Reply again = Post(second.port, Question("q", "How heavy is the bike?"));
  BOOST_TEST(again.status == 200);
  BOOST_TEST(again.body == answer.body);

  const Reply changed = Post(second.port, Question("q", "How heavy is the tent?"));
  BOOST_TEST(changed.status == 200);
  BOOST_TEST(Has(changed.body, "changed_event"), changed.body);
  BOOST_TEST(Get(second.port, "/v1/outcomes/q").body == answer.body);

  // One that does not look back says so, and what the log says of a duplicate.
  Gateway blind(world, "blind", {{"gateway", {{"look_back_messages_max", 0}}}});
  const Reply unseen = Get(blind.port, "/v1/outcomes/q");
  BOOST_TEST(unseen.status == 404);
  BOOST_TEST(Has(MessageOf(unseen), "among the newest 0 that are held here"), unseen.body);
  const Reply receipt = Post(blind.port, Question("q", "How heavy is the bike?"));
  BOOST_TEST(receipt.status == 200);
  BOOST_TEST(Has(receipt.body, "duplicate of event 0"), receipt.body);

  // At the same time at both: one is answered, and the other told the same.
  std::vector<Reply> replies(8);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < replies.size(); ++i) {
    clients.emplace_back([&, i] {
      replies[i] = Post(i % 2 == 0 ? second.port : blind.port, Question("r", "And the tent?"));
    });
  }
  for (std::thread& client : clients) client.join();
  for (const Reply& reply : replies) {
    BOOST_TEST(reply.status == 200);
    BOOST_TEST(reply.body == replies.front().body);
  }
  size_t answers = 0;
  const auto outcomes = world.Outcomes();
  for (auto [at, end] = outcomes.equal_range("r"); at != end; ++at) {
    answers += KindOf(at->second.outcome) == OutcomeKind::kResponse ? 1 : 0;
  }
  BOOST_TEST(outcomes.count("r") == replies.size());
  BOOST_TEST(answers == 1U);
}

BOOST_AUTO_TEST_CASE(a_processor_that_is_killed_leaves_each_accepted_event_to_one_outcome) {
  const World world("killed");
  Gateway gateway(world);
  constexpr int kEvents = 300;
  auto processor = std::make_unique<Runner>(world);
  processor->WaitUntilItServes();
  for (int i = 0; i < kEvents; ++i) {
    const std::string id = "q-" + std::to_string(i);
    const std::string tenant = "tenant-" + std::to_string(i % 5);
    const Reply reply = Post(gateway.port, Question(id, "What is " + id + "?", tenant), kAsync);
    BOOST_TEST_REQUIRE(reply.status == 202, reply.body);
    if (i % 100 != 50) continue;
    OutcomeOf(gateway.port, id, tenant);
    BOOST_TEST(processor->Kill());
    processor = std::make_unique<Runner>(world);
  }
  for (int i = 0; i < kEvents; ++i) {
    const Reply reply =
        OutcomeOf(gateway.port, "q-" + std::to_string(i), "tenant-" + std::to_string(i % 5));
    BOOST_TEST(reply.status == 200, reply.body);
  }
  BOOST_TEST(processor->Stop() == 0);
  const auto outcomes = world.Outcomes();
  BOOST_TEST(outcomes.size() == size_t{kEvents});
  for (int i = 0; i < kEvents; ++i) BOOST_TEST(outcomes.count("q-" + std::to_string(i)) == 1U);
}

BOOST_AUTO_TEST_CASE(a_broker_that_is_down_is_said_in_time_and_what_is_sent_again_counts_once) {
  const World world("down");
  Runner processor(world);
  Gateway gateway(world);
  BOOST_TEST(Answered(gateway.port, Question("before", "How heavy is the bike?")).status == 200);
  KafkaBroker::OfTheSuite().Stop();
  const auto begun = std::chrono::steady_clock::now();
  const Reply refused = Post(gateway.port, Question("q", "And the tent?"));
  const auto waited = std::chrono::steady_clock::now() - begun;
  BOOST_TEST(refused.status == 503, refused.body);
  BOOST_TEST(refused.headers.contains("Retry-After"));
  BOOST_TEST(Has(MessageOf(refused), "the event is not stored"), refused.body);
  BOOST_TEST((waited < Milliseconds(7'000)));
  BOOST_TEST(Get(gateway.port, "/v1/outcomes/before").status == 200);  // it is held here
  KafkaBroker::OfTheSuite().Start();
  BOOST_TEST(IdOf(Answered(gateway.port, Question("q", "And the tent?"))) == "q");
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);
  BOOST_TEST(world.Outcomes().count("q") == 1U);
}

// A broker that stores an event, and whose word for it is lost.
BOOST_AUTO_TEST_CASE(an_event_of_unknown_fate_is_answered_so_and_counts_once_when_sent_again) {
  using enum KafkaProxy::Moment;
  using enum KafkaProxy::Act;
  KafkaProxy& proxy = KafkaBroker::OfTheSuite().proxy();
  const World world("doubt");
  Runner processor(world);
  Gateway gateway(world, "gateway", {{"kafka", {{"brokers", proxy.address()}}}});
  BOOST_TEST(Answered(gateway.port, Question("before", "How heavy is the bike?")).status == 200);
  proxy.Arm(KafkaApi::kProduce, kAnswer, kHold);
  const auto begun = std::chrono::steady_clock::now();
  const Reply unknown = Post(gateway.port, Question("q", "And the tent?"));
  const auto waited = std::chrono::steady_clock::now() - begun;
  BOOST_TEST(unknown.status == 504, unknown.body);
  BOOST_TEST(CodeOf(unknown) == "not_known_stored");
  BOOST_TEST(Has(MessageOf(unknown), "may have been stored"), unknown.body);
  BOOST_TEST(unknown.headers.contains("Retry-After"));
  BOOST_TEST((waited < Milliseconds(7'000)));
  proxy.CutAll();
  const Reply first = OutcomeOf(gateway.port, "q");
  BOOST_TEST(IdOf(first) == "q");
  const Reply again = Answered(gateway.port, Question("q", "And the tent?"));
  BOOST_TEST(again.body == first.body);
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);
  size_t answers = 0;
  const auto outcomes = world.Outcomes();
  for (auto [at, end] = outcomes.equal_range("q"); at != end; ++at) {
    answers += KindOf(at->second.outcome) == OutcomeKind::kResponse ? 1 : 0;
  }
  BOOST_TEST(answers == 1U);
}

// The outcome is there before the brokers' word that its event is stored.
BOOST_AUTO_TEST_CASE(an_outcome_that_overtakes_the_brokers_word_is_told_all_the_same) {
  KafkaProxy& proxy = KafkaBroker::OfTheSuite().proxy();
  const World world("overtaken");
  Runner processor(world);
  Gateway gateway(
      world, "gateway",
      {{"kafka", {{"brokers", proxy.address()}}}, {"gateway", {{"delivery_timeout_ms", 120000}}}});
  BOOST_TEST(Answered(gateway.port, Question("before", "How heavy is the bike?")).status == 200);
  proxy.Arm(KafkaApi::kProduce, KafkaProxy::Moment::kAnswer, KafkaProxy::Act::kHold);
  std::thread releaser([&] {
    const bool is_there = OutcomeOf(gateway.port, "q").status == 200;
    proxy.Release();
    ENSURE(is_there);
  });
  const Reply reply = Post(gateway.port, Question("q", "And the tent?"));
  releaser.join();
  BOOST_TEST(reply.status == 200, reply.body);
  BOOST_TEST(IdOf(reply) == "q");
  BOOST_TEST(gateway.Stop() == 0);
}

BOOST_AUTO_TEST_CASE(what_is_too_large_or_too_much_is_refused_and_nothing_of_it_is_stored) {
  const World world("limits");
  Gateway gateway(world, "gateway",
                  {{"kafka", {{"message_bytes", 131'072}}},
                   {"limits", {{"outcome_bytes", 131'072}}},
                   {"gateway", {{"in_flight_max", 2}}}});
  const Reply large = Call(gateway.port, Request("POST", "/v1/documents",
                                                 R"({"document_id":"long","text":")" +
                                                     std::string(140'000, 'x') + "\"}"));
  BOOST_TEST(large.status == 413, large.body);
  BOOST_TEST(Has(MessageOf(large), "over the limit of 131072"), large.body);
  for (const char* id : {"1", "2"}) {
    BOOST_TEST(Post(gateway.port, Question(id, "How heavy?"), kAsync).status == 202);
    BOOST_TEST(Get(gateway.port, std::string("/v1/outcomes/") + id).status == 202);
  }
  const Reply busy = Post(gateway.port, Question("3", "How heavy?"), kAsync);
  BOOST_TEST(busy.status == 429, busy.body);
  BOOST_TEST(busy.headers.contains("Retry-After"));
  Runner processor(world);
  BOOST_TEST(IdOf(Answered(gateway.port, Question("3", "How heavy?"))) == "3");
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);
  BOOST_TEST(world.Outcomes().size() == 3U);
}

BOOST_AUTO_TEST_CASE(commands_count_from_who_signs_and_from_admins_at_a_gateway_that_does) {
  const World world("signed");
  const std::string in = world.folder.path() + "/";
  BOOST_REQUIRE(MakeKeyPair({in + "gateway.pem", in + "command-keys.jsonl", ""}).ok());
  BOOST_REQUIRE(MakeKeyPair({in + "admin.pem", in + "command-keys.jsonl", "acme"}).ok());
  const auto key = [&](Role role) {
    return "Authorization: Bearer " +
           AddKey({in + "api-keys.jsonl", "acme", "", false, {role}, 0}).value() + "\r\n";
  };
  const std::string admin = key(Role::kAdmin);
  const std::string asker = key(Role::kAsk);
  Runner processor(world, "processor", {{"commands", {{"keys_file", in + "command-keys.jsonl"}}}});
  const Json keys = {{"http", {{"keys_file", in + "api-keys.jsonl"}}}};
  Json signing = keys;
  signing["gateway"]["signing_key_file"] = in + "gateway.pem";
  Gateway gateway(world, "gateway", signing);
  const auto reset = [](const std::string& id) {
    return Event{id, "/test", "", "acme", "", AdapterCommand{AdapterCommand::Action::kReset}};
  };
  const auto post = [&](const Gateway& to, const std::string& id, const std::string& as) {
    return Call(to.port, Request("POST", "/v1/events", EncodeEvent(reset(id)), as));
  };
  const Reply taken = post(gateway, "c-1", admin);
  BOOST_TEST(taken.status == 200, taken.body);
  BOOST_TEST(Has(taken.body, "nudge.applied"), taken.body);
  BOOST_TEST(post(gateway, "c-1", admin).body == taken.body);
  BOOST_TEST(CodeOf(post(gateway, "c-2", asker)) == "role_missing");

  // From elsewhere, and from a gateway that does not sign.
  RawProducer producer(world.topics.brokers);
  const auto send = [&](const std::string& bytes) {
    producer.Send(world.topics.input_topic, Murmur2Partition("acme", kPartitions), "acme", bytes);
    producer.Flush();
  };
  send(EncodeEvent(reset("c-3")));
  send(SigningKey::Read(in + "admin.pem")->Sign(reset("c-4")));
  Gateway other(world, "other", keys);
  const Reply refused = post(other, "c-5", admin);
  BOOST_TEST(Has(refused.body, R"("code":"forbidden")"), refused.body);
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(other.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);

  std::map<std::string, std::string> ends;
  for (const auto& [id, outcome] : world.Outcomes()) {
    const auto* letter = std::get_if<DeadLetter>(&outcome.outcome.what);
    ends[id] += letter == nullptr ? "applied " : std::string(Name(letter->error.code)) + " ";
  }
  const std::map<std::string, std::string> expected = {{"c-1", "applied applied "},
                                                       {"c-3", "forbidden "},
                                                       {"c-4", "applied "},
                                                       {"c-5", "forbidden "}};
  BOOST_TEST((ends == expected));
}

BOOST_AUTO_TEST_CASE(a_gateway_that_is_stopped_answers_all_who_wait_and_loses_nothing) {
  const World world("stopped");
  constexpr size_t kClients = 4;
  std::vector<Reply> replies(kClients);
  {
    Gateway gateway(world, "gateway", {{"gateway", {{"drain_ms", 200}}}});
    std::vector<std::thread> clients;
    for (size_t i = 0; i < kClients; ++i) {
      clients.emplace_back([&, i] {
        replies[i] = Post(gateway.port, Question("q-" + std::to_string(i), "How heavy?"));
      });
    }
    // Until they wait for outcomes.
    for (size_t i = 0; i < kClients; ++i) {
      while (Get(gateway.port, "/v1/outcomes/q-" + std::to_string(i)).status != 202) {
        std::this_thread::sleep_for(Milliseconds(10));
      }
    }
    BOOST_TEST(gateway.Stop() == 0);
    for (std::thread& client : clients) client.join();
  }
  for (const Reply& reply : replies) BOOST_TEST(reply.status == 202, reply.body);
  Runner processor(world);
  Gateway next(world);
  for (size_t i = 0; i < kClients; ++i) {
    BOOST_TEST(OutcomeOf(next.port, "q-" + std::to_string(i)).status == 200);
  }
  BOOST_TEST(next.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);
  BOOST_TEST(world.Outcomes().size() == kClients);
}

// In the middle of a load: what a client was told holds, whoever it asks next.
BOOST_AUTO_TEST_CASE(a_gateway_that_is_killed_costs_its_clients_one_more_request) {
  const World world("gone");
  Runner processor(world);
  Gateway other(world, "other");
  auto gateway = std::make_unique<Gateway>(world);
  const uint16_t port = gateway->port;
  constexpr int kEvents = 60;
  for (int i = 0; i < kEvents; ++i) {
    Connection connection(port);
    const std::string event = Question("q-" + std::to_string(i), "How heavy?");
    connection.Send(Request("POST", "/v1/events", event));
    if (i == kEvents - 1) break;
    if (i % 3 == 0) BOOST_TEST(connection.Receive().status == 200);
  }
  BOOST_TEST(gateway->Kill());
  for (int i = 0; i < kEvents; ++i) {
    const std::string id = "q-" + std::to_string(i);
    const Reply reply = Answered(other.port, Question(id, "How heavy?"));
    BOOST_TEST(IdOf(reply) == id);
    BOOST_TEST(!Has(reply.body, "duplicate"), reply.body);
  }
  BOOST_TEST(processor.Stop() == 0);
  std::map<std::string, int> answers;
  for (const auto& [id, outcome] : world.Outcomes()) {
    if (KindOf(outcome.outcome) == OutcomeKind::kResponse) ++answers[id];
  }
  BOOST_TEST(answers.size() == size_t{kEvents});
  for (const auto& [id, count] : answers) BOOST_TEST(count == 1, id);
}

BOOST_AUTO_TEST_CASE(the_configuration_that_is_shipped_serves_a_processor_and_a_gateway) {
  const World world("shipped");
  Json json = Json::parse(std::ifstream(NUDGE_SOURCE_DIR "/configs/gateway-template.json"));
  json["kafka"]["brokers"] = world.topics.brokers;
  json["output"]["folder"] = world.folder.path() + "/out";
  json["http"]["port"] = 0;
  json["monitor"]["port"] = 0;
  json["gateway"]["monitor_port"] = 0;
  const std::string config = world.folder.path() + "/shipped.json";
  std::ofstream(config) << json;
  const std::string copy = world.folder.path() + "/run.json";  // its log is another
  std::filesystem::copy_file(config, copy);
  Process gateway({"gateway", config, "--create-topics"});
  gateway.WaitUntilItServes();
  Process processor({"run", copy, "--create-topics"});
  std::smatch match;
  const std::string log = gateway.Log();
  BOOST_TEST_REQUIRE(std::regex_search(log, match, std::regex(R"(http://127\.0\.0\.1:(\d+);)")));
  const Reply reply =
      Answered(static_cast<uint16_t>(std::stoi(match[1])), Question("q", "How heavy?"));
  BOOST_TEST(IdOf(reply) == "q");
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);
}

BOOST_AUTO_TEST_CASE(a_gateway_with_a_monitor_shows_what_it_took_and_what_became_of_it) {
  const World world("shown");
  Runner processor(world);
  const uint16_t monitor = FreePort();
  Gateway gateway(world, "gateway",
                  {{"gateway", {{"monitor_port", monitor}}}, {"http", {{"body_bytes_max", 2000}}}});
  const auto page = [&](const std::string& path) {
    return Call(monitor, Request("GET", path, "", "Connection: close\r\n")).body;
  };
  BOOST_TEST(IdOf(Answered(gateway.port, Question("q", "How heavy?"))) == "q");
  BOOST_TEST(Post(gateway.port, std::string(3000, ' ')).status == 413);
  const std::string metrics = page("/metrics");
  for (const char* line :
       {"nudge_ready 1", "nudge_http_requests_total{route=\"POST /v1/events\",status=\"2xx\"} 1",
        "nudge_http_refused_total{status=\"413\"} 1", "nudge_http_refused_total{status=\"429\"} 0",
        "nudge_gateway_events_total{kind=\"stored\"} 1", "nudge_gateway_produce_seconds_count 1",
        "nudge_gateway_answer_seconds_count 1", "nudge_gateway_waiting_events 0",
        "nudge_gateway_waiting_events_limit 10000", "nudge_gateway_outcomes_held 1"}) {
    BOOST_TEST(Has(metrics, std::string(line) + "\n"), line);
  }
  BOOST_TEST(page("/readyz") == "ready\n");
  BOOST_TEST(Json::parse(page("/status"))["outcomes"]["read"] == 1);
  BOOST_TEST(gateway.Stop() == 0);
  BOOST_TEST(processor.Stop() == 0);
}

// ---- Followers of outcomes ----------------------------------------------------------------------

// The template backend writes no snapshots: receipts are the test's own.
BOOST_AUTO_TEST_CASE(a_follower_of_topics_offers_each_new_snapshot_and_goes_on_after_a_kill) {
  const World world("followed");
  RawProducer producer(world.topics.brokers);
  const int32_t partition = Murmur2Partition("acme", kPartitions);
  std::vector<std::string> names;
  const auto publish = [&](uint32_t version) {
    const SnapshotRef snapshot =
        WriteSample(world.folder.path() + "/out/snapshots", "acme", version, version);
    std::string line;
    const Outcome outcome{"acme",    "/test", "f", "nudge.feedback", Applied{"learnt", {}, {}},
                          {snapshot}};
    EncodeOutcome(outcome, {.offset = version}, line);
    producer.Send(world.topics.receipt_topic, partition, "acme", line,
                  {{"nudge-offset", std::to_string(version)}, {"nudge-type", "nudge.applied"}});
    producer.Flush();
    names.push_back("acme-" + std::to_string(version) + "-" + snapshot.digest.substr(0, 12));
  };
  const LoraStandIn server;
  const std::string config = world.Config(
      "follower",
      {{"follow",
        {{"server_url", server.url()}, {"versions_per_tenant_max", 1}, {"look_ms", 100}}}});
  const auto until_it_has = [&](const std::string& name) {
    const auto end = std::chrono::steady_clock::now() + kTrialPatience;
    while (server.adapters() != std::set<std::string>{name} &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(Milliseconds(10));
    }
    BOOST_TEST((server.adapters() == std::set<std::string>{name}), name);
  };
  publish(1);
  {
    Process follower({"follow", config});
    until_it_has(names[0]);
    publish(2);
    until_it_has(names[1]);
    BOOST_TEST(follower.Kill());
  }
  publish(3);
  Process follower({"follow", config});
  until_it_has(names[2]);
  BOOST_TEST(follower.Stop() == 0);
  // Each was loaded once and taken away once, in order.
  BOOST_TEST(
      (server.changes() == std::vector<std::string>{"+" + names[0], "+" + names[1], "-" + names[0],
                                                    "+" + names[2], "-" + names[1]}));
  const Json state = Json::parse(std::ifstream(world.folder.path() + "/out/follow/adapters.json"));
  BOOST_TEST(state["positions"] == Json::array({{{"topic", world.topics.receipt_topic},
                                                 {"partition", partition},
                                                 {"position", 3}}}));
}
