// labels: graph
// News of adapter snapshots of a running product: each that an outcome names, over a restart, and
// what is too old. The template backend names snapshots without writing any.
#include <boost/test/unit_test.hpp>

#include "serving_life.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr char kTenant[] = "acme";

Config Publishing(const std::string& folder) {
  Config config = ConfigIn(folder);
  config.processor.adapt.publish_every_steps = 1;
  config.processor.adapt.snapshot_every_versions = 1;
  config.processor.adapt.lead_lessons = 0;
  return config;
}

std::string Line(const std::string& id, const std::string& type, const std::string& data) {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":"/t","type":"nudge.)" + type +
         R"(","tenant":"acme","data":)" + data + "}";
}

// A question and a correction, each done before this returns: two outcomes, the second with a
// snapshot.
void Teach(Door& door, int number) {
  const std::string id = std::to_string(number);
  Clients clients;
  clients.Submit(door, Line("q" + id, "query", R"({"text":"What of )" + id + R"(?"})"));
  clients.WaitForOutcomes();
  clients.Submit(door, Line("f" + id, "feedback",
                            R"({"query_id":"q)" + id + R"(","correction":"It is )" + id + "\"}"));
  clients.WaitForOutcomes();
}

// What a watcher hears, as "ready 3, snapshot 5 of f2".
class Heard {
 public:
  Heard(Door& door, std::optional<int64_t> after)
      : watching_(door.WatchSnapshots(kTenant, after, [this](const SnapshotNews& news) {
          const MutexLock lock(mutex_);
          const char* kKinds[] = {"ready ", "lost ", "snapshot "};
          text_ += (text_.empty() ? "" : ", ") +
                   std::string(kKinds[static_cast<size_t>(news.kind)]) +
                   std::to_string(news.offset);
          if (news.kind == SnapshotNews::Kind::kSnapshot) text_ += " of " + news.event_id;
          changed_.NotifyAll();
        })) {}

  // Once it ends like this, or after some patience.
  std::string WaitFor(const std::string& end) {
    const MutexLock lock(mutex_);
    changed_.WaitFor(mutex_, kPatience, [&]() REQUIRES(mutex_) { return text_.ends_with(end); });
    return text_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::string text_ GUARDED_BY(mutex_);
  std::shared_ptr<void> watching_;  // last: it tells until it is gone
};

}  // namespace

BOOST_AUTO_TEST_CASE(each_snapshot_is_told_in_log_order_and_over_a_restart) {
  const TempFolder folder;
  {
    Life life(Publishing(folder.path()));
    Teach(life.door(), 1);
    Heard heard(life.door(), std::nullopt);
    Teach(life.door(), 2);
    BOOST_TEST(heard.WaitFor("of f2") == "ready 1, snapshot 3 of f2");
  }
  Life life(Publishing(folder.path()));
  Heard all(life.door(), 0);
  Heard rest(life.door(), 1);
  Heard other(life.door(), 1'000);
  Teach(life.door(), 3);
  BOOST_TEST(all.WaitFor("of f3") ==
             "ready 0, snapshot 1 of f1, snapshot 3 of f2, snapshot 5 of f3");
  BOOST_TEST(rest.WaitFor("of f3") == "ready 1, snapshot 3 of f2, snapshot 5 of f3");
  BOOST_TEST(other.WaitFor("of f3") == "lost 3, snapshot 5 of f3");
}

BOOST_AUTO_TEST_CASE(what_is_not_kept_any_more_is_said_to_be_lost) {
  const TempFolder folder;
  Config config = Publishing(folder.path());
  config.serve.snapshot_news_max = 2;
  Life life(config);
  for (int i = 1; i <= 4; ++i) Teach(life.door(), i);
  BOOST_TEST(Heard(life.door(), 1).WaitFor("lost 7") == "lost 7");
  BOOST_TEST(Heard(life.door(), 3).WaitFor("of f4") ==
             "ready 3, snapshot 5 of f3, snapshot 7 of f4");
}

BOOST_AUTO_TEST_CASE(an_end_of_watching_is_an_end) {
  const TempFolder folder;
  Life life(Publishing(folder.path()));
  { const Heard heard(life.door(), std::nullopt); }
  Teach(life.door(), 1);
  BOOST_TEST(Heard(life.door(), 0).WaitFor("of f1") == "ready 0, snapshot 1 of f1");
}
