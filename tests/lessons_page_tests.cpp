// labels: graph
// GET /v1/lessons of a running product: what nudge lessons says of its state, page by page, while
// it runs, and to whom.
#include <boost/test/unit_test.hpp>

#include <nlohmann/json.hpp>

#include "connectors/http/http_server.h"
#include "http_client.h"
#include "pipeline/lesson_book.h"
#include "serving_life.h"

using namespace nudge;
using namespace nudge::testing;
using Json = nlohmann::json;

namespace {

Config Quick(const std::string& folder, Milliseconds checkpoint = Milliseconds(20)) {
  Config config = ConfigIn(folder);
  config.http.port = 0;
  config.serve.checkpoint = checkpoint;
  config.processor.checkpoint_every_events = 1'000'000;  // what is seen is by the clock
  config.processor.adapt.publish_every_steps = 1;
  config.processor.adapt.lead_lessons = 0;
  return config;
}

// A product with its door, and what its people say through it.
class Taught {
 public:
  explicit Taught(const Config& config)
      : life_(config), server_(config.http, life_.door(), config.processor.graph.limits) {}

  Json Post(const std::string& path, const Json& body, const std::string& id) {
    const Reply reply = Call(
        server_.port(), Request("POST", path, body.dump(), "x-nudge-event-id: " + id + "\r\n"));
    BOOST_TEST(reply.status == 200, reply.body);
    return Json::parse(reply.body);
  }
  // A question, and what its asker says of the answer.
  void Teach(const std::string& id, const std::string& user, const std::string& correction) {
    const Json question = {{"model", "template"},
                           {"user", user},
                           {"messages", {{{"role", "user"}, {"content", "What of " + id + "?"}}}}};
    Post("/v1/chat/completions", question, "q-" + id);
    Post("/v1/feedback",
         {{"answer_id", "q-" + id},
          {"user", user},
          {"rating", "down"},
          {"correction", correction},
          {"comment", "because"}},
         "f-" + id);
  }
  Reply Get(const std::string& query) {
    return Call(server_.port(), Request("GET", "/v1/lessons" + query));
  }
  // Once so many lessons are there; they come without any further event.
  Json WaitFor(size_t lessons) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      const Reply reply = Get("?limit=500");
      const Json page = Json::parse(reply.body);
      if (reply.status == 200 && page["matching"] == lessons) return page;
      BOOST_REQUIRE_MESSAGE(std::chrono::steady_clock::now() < end, reply.body);
      std::this_thread::sleep_for(Milliseconds(5));
    }
  }
  void Stop() { life_.Stop(); }

 private:
  Life life_;
  const HttpServer server_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(lessons_are_those_of_nudge_lessons_and_come_while_it_runs) {
  const TempFolder folder;
  Taught product(Quick(folder.path()));
  for (int i = 0; i < 5; ++i) {
    product.Teach(std::to_string(i), i % 2 == 0 ? "ann" : "ben", "It is " + std::to_string(i));
  }
  const Json page = product.WaitFor(5);
  BOOST_TEST(page["tenant"] == "default");
  BOOST_TEST(page["events"] == 10);
  BOOST_TEST(page["after"].is_null());
  const Json& first = page["lessons"].at(0);
  BOOST_TEST(first["event_id"] == "f-0");
  BOOST_TEST(first["query_id"] == "q-0");
  BOOST_TEST(first["user"] == "ann");
  BOOST_TEST(first["question"] == "What of 0?");
  BOOST_TEST(first["correction"] == "It is 0");
  BOOST_TEST(first["comment"] == "because");
  BOOST_TEST(first["step"] == 1);
  BOOST_TEST(first.contains("accepted"));
  BOOST_TEST(first.contains("in_effect"));
  product.Stop();
  const auto read = ReadLessons(folder.path() + "/out", TenantId("default"));
  BOOST_REQUIRE(read.ok());
  const TenantLessons& book = read->at(0);
  BOOST_TEST(page["serving"] == book.serving);
  BOOST_REQUIRE(book.lessons.size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    BOOST_TEST(page["lessons"].at(i) == Json::parse(LessonJson(book, book.lessons[i])));
  }
}

BOOST_AUTO_TEST_CASE(pages_follow_each_other_to_the_end_and_of_one_user_alone) {
  const TempFolder folder;
  Taught product(Quick(folder.path()));
  for (int i = 0; i < 7; ++i) {
    product.Teach(std::to_string(i), i % 2 == 0 ? "ann" : "ben", "It is " + std::to_string(i));
  }
  product.WaitFor(7);
  const auto walk = [&](const std::string& query) {
    std::string ids;
    std::string after;
    for (int pages = 0; pages < 10; ++pages) {
      const Json page = Json::parse(product.Get(query + after).body);
      for (const Json& lesson : page["lessons"]) ids += lesson["event_id"].get<std::string>() + " ";
      ids += "| ";
      if (page["after"].is_null()) break;
      after = "&after=" + std::to_string(page["after"].get<uint64_t>());
    }
    return ids;
  };
  BOOST_TEST(walk("?limit=3") == "f-0 f-1 f-2 | f-3 f-4 f-5 | f-6 | ");
  BOOST_TEST(walk("?limit=7") == "f-0 f-1 f-2 f-3 f-4 f-5 f-6 | ");
  BOOST_TEST(walk("?limit=2&user=ann") == "f-0 f-2 | f-4 f-6 | ");
  BOOST_TEST(walk("?limit=2&user=eve") == "| ");
  BOOST_TEST(Json::parse(product.Get("?tenant=other").body)["matching"] == 0);
  for (const char* wrong :
       {"?limit=0", "?limit=501", "?limit=x", "?after=-1", "?after=18446744073709551616"}) {
    const Reply reply = product.Get(wrong);
    BOOST_TEST(reply.status == 400, wrong << ": " << reply.body);
  }
}

BOOST_AUTO_TEST_CASE(a_page_ends_before_its_texts_are_too_many_and_has_one_lesson_at_least) {
  const TempFolder folder;
  {
    Taught product(Quick(folder.path()));
    for (int i = 0; i < 4; ++i) {
      product.Teach(std::to_string(i), "ann", std::string(i == 1 ? 2'000 : 400, 'a'));
    }
    product.Stop();
  }
  LessonsWanted wanted;
  wanted.tenant = "default";
  wanted.bytes_max = 1'200;
  std::vector<size_t> sizes;
  do {
    const auto page = ReadLessonsPage(folder.path() + "/out/state/partition-00000.sqlite", wanted);
    BOOST_REQUIRE_MESSAGE(page.ok(), (page.ok() ? "" : page.error().message));
    BOOST_TEST(page->matching == 4);
    sizes.push_back(page->tenant.lessons.size());
    wanted.after = page->after;
  } while (wanted.after && sizes.size() < 9);
  BOOST_TEST(sizes == std::vector<size_t>({1, 1, 2}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(where_no_state_is_kept_there_are_no_lessons_to_show) {
  const TempFolder folder;
  Config config = Quick(folder.path());
  config.checkpoint.enabled = false;
  Taught product(config);
  product.Teach("1", "ann", "It is 1");
  const Reply reply = product.Get("");
  BOOST_TEST(reply.status == 503);
  BOOST_TEST(reply.headers.at("Retry-After") == "1");
  BOOST_TEST(Json::parse(reply.body)["error"]["remedy"] == "set checkpoint.enabled");
}

BOOST_AUTO_TEST_CASE(a_state_that_is_looked_at_goes_on_being_this_processes_alone) {
  const TempFolder folder;
  Taught product(Quick(folder.path()));
  for (int i = 0; i < 20; ++i) {
    product.Teach(std::to_string(i), "ann", "It is " + std::to_string(i));
    BOOST_TEST(product.Get("").status == 200);
  }
  product.WaitFor(20);
  product.Stop();
  BOOST_TEST(ReadLessons(folder.path() + "/out", TenantId("default"))->at(0).lessons.size() == 20);
}
