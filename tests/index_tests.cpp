// labels: unit
#include "stages/index.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "stages/dense_scan.h"
#include "stages/hash.h"

using namespace nudge;

namespace {

constexpr int32_t kPartition = 3;

IndexOptions Lexical() {
  IndexOptions options;
  options.passages = 10;
  return options;
}

IndexOptions Dense(uint32_t dimension = 3) {
  IndexOptions options = Lexical();
  options.embedder = "test embedder";
  options.dimension = dimension;
  return options;
}

Vector Unit(Vector vector) {
  double square = 0;
  for (const float x : vector) square += static_cast<double>(x) * x;
  for (float& x : vector) x = static_cast<float>(x / std::sqrt(square));
  return vector;
}

// Sends events to an index, each at the next place of one partition's log.
class Driver {
 public:
  explicit Driver(const IndexOptions& options) : index(options) {}

  Found Apply(Prepared prepared, const TenantId& tenant = "acme", bool duplicate = false) {
    prepared.event.tenant = tenant;
    Resolved resolved;
    resolved.prepared = std::make_shared<const Prepared>(std::move(prepared));
    if (duplicate) resolved.duplicate_of = Sequence::Of(kPartition, 0);
    const auto found = index.Apply(Sequence::Of(kPartition, ++ordinal), resolved);
    BOOST_REQUIRE(found.ok());
    return *found;
  }

  Index index;
  uint64_t ordinal = 0;
};

template <class Data>
Prepared With(Data data) {
  Prepared prepared;
  prepared.event.data = std::move(data);
  return prepared;
}

Prepared Upsert(const std::string& id, std::vector<Chunk> chunks, const std::string& title = "") {
  Prepared prepared = With(DocumentUpsert{id, "", title, {}});
  prepared.chunks = std::move(chunks);
  return prepared;
}

Prepared Upsert(const std::string& id, const std::string& text, const std::string& title = "") {
  return Upsert(id, std::vector<Chunk>{{text, {}}}, title);
}

Prepared Delete(const std::string& id) {
  return With(DocumentDelete{id});
}

Prepared Ask(const std::string& text, Vector vector = {}) {
  Prepared prepared = With(Query{text, {}});
  prepared.query_vector = std::move(vector);
  return prepared;
}

std::string Names(const Found& found) {
  std::string names;
  for (const Passage& passage : found.passages) {
    names += (names.empty() ? "" : " ") + passage.document_id + ":" +
             std::to_string(passage.version) + "/" + std::to_string(passage.chunk);
  }
  return names;
}

using PassageKey =
    std::tuple<std::string, uint32_t, uint32_t, std::string, std::string, double, double, double>;

bool Same(const Found& x, const Found& y) {
  const auto key = [](const Passage& p) {
    std::string copies;
    for (const Passage::Copy& copy : p.copies) {
      copies += " " + copy.document_id + ":" + std::to_string(copy.version);
    }
    return PassageKey{p.document_id, p.version, p.chunk, p.title + copies,
                      p.text,        p.score,   p.dense, p.lexical};
  };
  return x.chunks_added == y.chunks_added && x.chunks_removed == y.chunks_removed &&
         x.document_version == y.document_version &&
         std::equal(x.passages.begin(), x.passages.end(), y.passages.begin(), y.passages.end(),
                    [&](const Passage& p, const Passage& q) { return key(p) == key(q); });
}

const std::vector<std::string> kTenants = {"acme", "beta", "\u516c\u53f8"};

std::string RandomText(uint64_t seed, size_t words) {
  static const std::vector<std::string> kWords = {
      "log",     "query", "index",   "state",        "model",       "step",
      "adapter", "cache", "version", "kafka",        "tenant",      "order",
      "the",     "the",   "answer",  "\u6a21\u578b", "\u5b66\u4e60"};
  std::string text;
  for (size_t i = 0; i < words; ++i) text += kWords[RandomAt(seed, i) % kWords.size()] + " ";
  return text;
}

// Coarse, so that equal scores happen.
Vector RandomVector(uint64_t seed, uint32_t dimension) {
  Vector vector(dimension, 0);
  for (uint32_t i = 0; i < dimension; ++i) {
    vector[i] = static_cast<float>(RandomAt(seed, 100 + i) % 5) - 2;
  }
  vector[0] += .5F;
  return Unit(vector);
}

// The event at a place of a random log over few documents, so that they meet often.
std::pair<TenantId, Prepared> RandomEvent(uint64_t seed, uint64_t at, uint32_t dimension) {
  const uint64_t s = RandomAt(seed, at);
  const TenantId tenant = kTenants[RandomAt(s, 1) % kTenants.size()];
  const std::string id = "doc" + std::to_string(RandomAt(s, 2) % 12);
  const double kind = UniformAt(s, 3);
  if (kind < .45) {
    std::vector<Chunk> chunks;
    for (uint64_t c = 0; c < 1 + RandomAt(s, 4) % 3; ++c) {
      // A third of them out of few, so that copies happen.
      const uint64_t of = RandomAt(s + c, 7) % 3 == 0 ? RandomAt(s + c, 8) % 5 : s + c;
      chunks.push_back({RandomText(of, 3 + RandomAt(of, 5) % 8),
                        dimension > 0 ? RandomVector(of, dimension) : Vector()});
    }
    return {tenant, Upsert(id, std::move(chunks), RandomAt(s, 6) % 2 ? "the title" : "")};
  }
  if (kind < .6) return {tenant, Delete(id)};
  if (kind < .65) return {tenant, With(Forget{"", id})};
  return {tenant, Ask(RandomText(s, 4), dimension > 0 ? RandomVector(s, dimension) : Vector())};
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_written_is_found_by_the_next_event) {
  Driver driver(Lexical());
  BOOST_TEST(driver.Apply(Ask("kafka")).passages.empty());
  const Found added = driver.Apply(Upsert("a", "Kafka keeps the log.", "About logs"));
  BOOST_TEST(added.chunks_added == 1U);
  BOOST_TEST(added.chunks_removed == 0U);
  BOOST_TEST(added.document_version == 1U);
  const Found found = driver.Apply(Ask("What does KAFKA keep?"));
  BOOST_REQUIRE_EQUAL(found.passages.size(), 1U);
  BOOST_TEST(found.passages[0].document_id == "a");
  BOOST_TEST(found.passages[0].title == "About logs");
  BOOST_TEST(found.passages[0].text == "Kafka keeps the log.");
  BOOST_TEST(found.passages[0].lexical > 0);
  BOOST_TEST(found.passages[0].dense == 0);
  BOOST_TEST(found.passages[0].score == 1);
  BOOST_TEST(Names(driver.Apply(Ask("logs"))) == "a:1/0");  // by its title
}

BOOST_AUTO_TEST_CASE(chinese_documents_are_found_by_chinese_words) {
  Driver driver(Lexical());
  driver.Apply(Upsert("train", "高铁票可以在手机上购买，请提前三十天预订。"));
  driver.Apply(Upsert("library", "图书馆周一闭馆，其他时间学生可以借书。"));
  driver.Apply(Upsert("weather", "明天北京有大雨，出门请带伞。"));
  BOOST_TEST(Names(driver.Apply(Ask("学生怎么借书？"))).starts_with("library:1/0"));
  BOOST_TEST(Names(driver.Apply(Ask("北京下雨吗"))).starts_with("weather:1/0"));
  BOOST_TEST(Names(driver.Apply(Ask("怎么购买高铁票"))).starts_with("train:1/0"));
}

BOOST_AUTO_TEST_CASE(a_question_that_follows_on_is_looked_for_with_the_turn_before_it) {
  Driver driver(Lexical());
  driver.Apply(Upsert("pool", "The swimming pool is heated."));
  driver.Apply(Upsert("ferry", "The ferry leaves on Sundays."));
  Query query{"And cold?", {}};
  BOOST_TEST(Names(driver.Apply(With(query))).find("pool") == std::string::npos);
  query.messages = {{"user", "Where is the pool?"}, {"assistant", "Beside the ferry."}};
  BOOST_TEST(Names(driver.Apply(With(query))).starts_with("pool:1/0"));
  query.text = "Does the ferry leave today?";
  BOOST_TEST(Names(driver.Apply(With(query))).starts_with("ferry:1/0"));
}

BOOST_AUTO_TEST_CASE(an_upsert_replaces_the_older_version) {
  Driver driver(Lexical());
  driver.Apply(Upsert("a", {{"apple", {}}, {"banana", {}}}));
  const Found second = driver.Apply(Upsert("a", "cherry"));
  BOOST_TEST(second.chunks_removed == 2U);
  BOOST_TEST(second.chunks_added == 1U);
  BOOST_TEST(second.document_version == 2U);
  BOOST_TEST(driver.Apply(Ask("apple banana")).passages.empty());
  BOOST_TEST(Names(driver.Apply(Ask("cherry"))) == "a:2/0");
}

BOOST_AUTO_TEST_CASE(a_deleted_document_is_gone_and_its_versions_go_on) {
  Driver driver(Lexical());
  driver.Apply(Upsert("a", "apple"));
  driver.Apply(Upsert("a", "apple pie"));
  const Found deleted = driver.Apply(Delete("a"));
  BOOST_TEST(deleted.chunks_removed == 1U);
  BOOST_TEST(deleted.document_version == 2U);
  BOOST_TEST(driver.Apply(Ask("apple")).passages.empty());
  const Found again = driver.Apply(Delete("a"));
  BOOST_TEST(again.chunks_removed == 0U);
  BOOST_TEST(again.document_version == 0U);
  BOOST_TEST(driver.Apply(Upsert("a", "apple")).document_version == 3U);
  BOOST_TEST(driver.Apply(Upsert("b", "apple")).document_version == 1U);
}

BOOST_AUTO_TEST_CASE(deleting_what_is_not_there_does_nothing) {
  Driver driver(Lexical());
  BOOST_TEST(Same(driver.Apply(Delete("a")), Found{}));
  driver.Apply(Upsert("b", "apple"));
  BOOST_TEST(Same(driver.Apply(Delete("a")), Found{}));
  BOOST_TEST(driver.Apply(Upsert("a", "apple")).document_version == 1U);
}

BOOST_AUTO_TEST_CASE(forgetting_a_document_purges_it_and_forgetting_a_user_does_not) {
  Driver driver(Lexical());
  driver.Apply(Upsert("a", {{"secret apple", {}}, {"pear", {}}}, "secret title"));
  BOOST_TEST(Same(driver.Apply(With(Forget{"mia", ""})), Found{}));
  BOOST_TEST(driver.Apply(Ask("apple")).passages.size() == 1U);
  BOOST_TEST(driver.Apply(With(Forget{"", "a"})).chunks_removed == 2U);
  BOOST_TEST(driver.Apply(Ask("secret apple pear title")).passages.empty());
  Changes changes;
  driver.index.Save(kPartition, changes);
  for (const Change& change : changes) {
    BOOST_TEST(change.value.value_or("").find("secret") == std::string::npos);
  }
  BOOST_TEST(driver.Apply(Upsert("a", "apple")).document_version == 2U);
}

BOOST_AUTO_TEST_CASE(duplicates_and_events_of_others_change_nothing) {
  Driver driver(Lexical());
  driver.Apply(Upsert("a", "apple"));
  Changes changes;
  driver.index.Save(kPartition, changes);
  BOOST_TEST(Same(driver.Apply(Upsert("a", "pear"), "acme", true), Found{}));
  BOOST_TEST(Same(driver.Apply(Delete("a"), "acme", true), Found{}));
  BOOST_TEST(Same(driver.Apply(Ask("apple"), "acme", true), Found{}));
  BOOST_TEST(Same(driver.Apply(With(Feedback{})), Found{}));
  BOOST_TEST(Same(driver.Apply(With(ExampleGiven{"apple", "pear"})), Found{}));
  BOOST_TEST(Same(driver.Apply(With(PromptUpsert{"p", "apple", {}})), Found{}));
  BOOST_TEST(Same(driver.Apply(With(AdapterCommand{})), Found{}));
  Changes later;
  driver.index.Save(kPartition, later);
  BOOST_TEST(later.empty());
  BOOST_TEST(Names(driver.Apply(Ask("apple"))) == "a:1/0");
}

BOOST_AUTO_TEST_CASE(tenants_and_partitions_share_nothing) {
  Driver driver(Lexical());
  driver.Apply(Upsert("a", "apple"), "acme");
  BOOST_TEST(driver.Apply(Ask("apple"), "beta").passages.empty());
  BOOST_TEST(driver.Apply(Upsert("a", "apple"), "beta").document_version == 1U);
  driver.Apply(Delete("a"), "beta");
  BOOST_TEST(Names(driver.Apply(Ask("apple"), "acme")) == "a:1/0");
  Resolved elsewhere;
  Prepared ask = Ask("apple");
  ask.event.tenant = "acme";
  elsewhere.prepared = std::make_shared<const Prepared>(ask);
  BOOST_TEST(driver.index.Apply(Sequence::Of(kPartition + 1, 1), elsewhere)->passages.empty());
  driver.index.Drop(kPartition);
  BOOST_TEST(driver.Apply(Ask("apple"), "acme").passages.empty());
  BOOST_TEST(driver.index.SizeOf(kPartition, "acme").documents == 0U);
}

BOOST_AUTO_TEST_CASE(equal_scores_go_by_document_and_chunk) {
  Driver driver(Dense());
  const auto chunk = [](const std::string& word) {
    return Chunk{"apple " + word, {1, 0, 0}};  // equal scores, other texts
  };
  const auto two = [&](const std::string& id) {
    return Upsert(id, {chunk(id + "one"), chunk(id + "two")});
  };
  for (const char* id : {"c", "a", "d", "b"}) driver.Apply(two(id));
  driver.Apply(Delete("a"));  // its slots go to others
  driver.Apply(two("b"));
  driver.Apply(Upsert("a", {chunk("a")}));
  BOOST_TEST(Names(driver.Apply(Ask("apple", {1, 0, 0}))) ==
             "a:2/0 b:2/0 b:2/1 c:1/0 c:1/1 d:1/0 d:1/1");
}

// BM25 prefers "near" (it is shorter) over "far" and finds "other" not at all. Cosines: far 1,
// other .6, near 0. Scaled dense: 1, .6, 0; scaled lexical: L(far)/L(near), 0, 1.
BOOST_AUTO_TEST_CASE(fusion_is_the_weighted_sum_of_scaled_scores) {
  IndexOptions options = Dense();
  options.dense_weight = .75;
  Driver driver(options);
  driver.Apply(Upsert("near", {{"apple", {0, 1, 0}}}));
  driver.Apply(Upsert("far", {{"apple and something else", {1, 0, 0}}}));
  driver.Apply(Upsert("other", {{"pear", {.6F, .8F, 0}}}));
  const Found found = driver.Apply(Ask("apple", {1, 0, 0}));
  BOOST_REQUIRE_EQUAL(Names(found), "far:1/0 other:1/0 near:1/0");
  const auto tolerance = boost::test_tools::tolerance(1e-6);
  // N = 3, df = 2, mean length 2: ln(1 + 1.5 / 2.5) 2.2 / (1 + 1.2 (.25 + .75 length / 2)).
  const double gain = std::log(1.6) * 2.2;
  const double near = gain / (1 + 1.2 * (.25 + .75 / 2));
  const double far = gain / (1 + 1.2 * (.25 + .75 * 4 / 2));
  BOOST_TEST(found.passages[0].dense == 1, tolerance);
  BOOST_TEST(found.passages[1].dense == .6, tolerance);
  BOOST_TEST(found.passages[2].dense == 0, tolerance);
  BOOST_TEST(found.passages[0].lexical == far, tolerance);
  BOOST_TEST(found.passages[1].lexical == 0);
  BOOST_TEST(found.passages[2].lexical == near, tolerance);
  BOOST_TEST(found.passages[0].score == .75 + .25 * far / near, tolerance);
  BOOST_TEST(found.passages[1].score == .75 * .6, tolerance);
  BOOST_TEST(found.passages[2].score == .25, tolerance);
}

BOOST_AUTO_TEST_CASE(a_full_list_is_scaled_from_its_worst) {
  IndexOptions options = Lexical();
  options.candidates = 2;
  options.passages = 2;
  Driver driver(options);
  driver.Apply(Upsert("a", "apple"));
  driver.Apply(Upsert("b", "apple x"));
  driver.Apply(Upsert("c", "apple x x"));
  const Found found = driver.Apply(Ask("apple"));
  BOOST_REQUIRE_EQUAL(Names(found), "a:1/0 b:1/0");
  BOOST_TEST(found.passages[0].score == 1);
  BOOST_TEST(found.passages[1].score == 0);
}

BOOST_AUTO_TEST_CASE(without_a_query_vector_search_is_lexical) {
  Driver driver(Dense());
  driver.Apply(Upsert("a", {{"apple", {1, 0, 0}}}));
  driver.Apply(Upsert("b", {{"pear", {0, 1, 0}}}));
  const Found found = driver.Apply(Ask("apple"));
  BOOST_REQUIRE_EQUAL(Names(found), "a:1/0");
  BOOST_TEST(found.passages[0].score == 1);
  BOOST_TEST(driver.Apply(Ask("nothing of this")).passages.empty());
}

BOOST_AUTO_TEST_CASE(no_more_passages_than_configured_are_found) {
  IndexOptions options = Lexical();
  options.passages = 2;
  Driver driver(options);
  for (const std::string id : {"a", "b", "c"}) driver.Apply(Upsert(id, "apple " + id + id));
  BOOST_TEST(Names(driver.Apply(Ask("apple"))) == "a:1/0 b:1/0");
}

BOOST_AUTO_TEST_CASE(copies_of_a_passage_take_one_place_and_are_named) {
  IndexOptions options = Lexical();
  options.passages = 3;
  options.candidates = 3;
  Driver driver(options);
  for (int i = 0; i < 40; ++i) {
    driver.Apply(Upsert("mirror" + std::to_string(10 + i), "Refunds are paid within 14 days."));
  }
  driver.Apply(Upsert("faq", "Refunds for sale items are paid as a voucher."));
  driver.Apply(Upsert("other", "Refunds are paid within 14 days.", "A title of its own"));
  const Found found = driver.Apply(Ask("When are refunds paid for sale items?"));
  BOOST_TEST(Names(found) == "faq:1/0 mirror10:1/0 other:1/0");
  BOOST_REQUIRE_EQUAL(found.passages.size(), 3U);
  BOOST_REQUIRE_EQUAL(found.passages[1].copies.size(), 15U);
  BOOST_TEST(found.passages[1].copies[0].document_id == "mirror11");
  driver.Apply(Delete("mirror10"));
  BOOST_TEST(Names(driver.Apply(Ask("When are refunds paid for sale items?"))) ==
             "faq:1/0 mirror11:1/0 other:1/0");
  BOOST_TEST(driver.index.SizeOf(kPartition, "acme").chunks == 41U);
}

BOOST_AUTO_TEST_CASE(sizes_count_what_is_there) {
  Driver driver(Dense());
  driver.Apply(Upsert("a", {{"apple", {1, 0, 0}}, {"pear", {1, 0, 0}}}));
  driver.Apply(Upsert("b", {{"plum", {1, 0, 0}}}));
  driver.Apply(Delete("b"));
  const IndexSize size = driver.index.SizeOf(kPartition, "acme");
  BOOST_TEST(size.documents == 1U);
  BOOST_TEST(size.chunks == 2U);
  BOOST_TEST(size.tombstones == 1U);
  BOOST_TEST(size.terms == 2U);
  BOOST_TEST(size.vector_bytes == 2U * 3 * 4);
}

BOOST_AUTO_TEST_CASE(old_tombstones_are_forgotten_without_a_version_for_two_texts) {
  IndexOptions options = Lexical();
  options.tombstones_per_tenant = 2;
  Driver driver(options);
  std::set<std::pair<std::string, uint32_t>> seen;
  for (uint64_t i = 0; i < 400; ++i) {
    const std::string id = std::to_string(RandomAt(5, i) % 9);
    if (RandomAt(6, i) % 2) {
      const Found found = driver.Apply(Upsert(id, "apple"));
      BOOST_REQUIRE(seen.emplace(id, found.document_version).second);
    } else {
      driver.Apply(Delete(id));
    }
    BOOST_REQUIRE_LE(driver.index.SizeOf(kPartition, "acme").tombstones, 2U);
  }
}

// The signal that ends a process which does this, or 0.
template <class Action>
int SignalOf(Action action) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);  // Boost's would report a failed case
    std::fclose(stderr);
    action();
    _exit(0);
  }
  int status = 0;
  BOOST_REQUIRE_EQUAL(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

BOOST_AUTO_TEST_CASE(an_event_that_recall_had_to_refuse_ends_the_process) {
  IndexOptions options = Dense();
  options.documents_per_tenant = 2;
  options.chunks_per_tenant = 3;
  Driver driver(options);
  const Chunk chunk{"apple", {1, 0, 0}};
  driver.Apply(Upsert("a", {chunk, chunk}));
  driver.Apply(Upsert("b", {chunk}));
  BOOST_TEST(SignalOf([&] { driver.Apply(Upsert("b", {chunk})); }) == 0);
  BOOST_TEST(SignalOf([&] { driver.Apply(Upsert("c", {chunk})); }) == SIGABRT);
  BOOST_TEST(SignalOf([&] { driver.Apply(Upsert("b", {chunk, chunk})); }) == SIGABRT);
  BOOST_TEST(SignalOf([&] { driver.Apply(Upsert("b", "no vector")); }) == SIGABRT);
  BOOST_TEST(SignalOf([&] { driver.Apply(Ask("apple", {1, 0})); }) == SIGABRT);
}

// Every score anew for every chunk, everything sorted in full; sums in the order that fixes bits,
// since scaling would blow up differences between scores that are equal but for rounding.
struct SlowIndex {
  struct Stored {
    uint32_t version = 0;
    std::string title;
    std::vector<Chunk> chunks;
  };
  std::map<TenantId, std::map<std::string, Stored>> tenants;

  void Apply(const TenantId& tenant, const Prepared& prepared) {
    auto& documents = tenants[tenant];
    const auto& data = prepared.event.data;
    if (const auto* upsert = std::get_if<DocumentUpsert>(&data)) {
      Stored& stored = documents[upsert->document_id];
      stored = {stored.version + 1, upsert->title, prepared.chunks};
    }
    std::string gone;
    if (const auto* removal = std::get_if<DocumentDelete>(&data)) gone = removal->document_id;
    if (const auto* forget = std::get_if<Forget>(&data)) gone = forget->document_id;
    if (documents.contains(gone)) documents[gone].chunks.clear();
  }

  std::vector<Passage> Search(const TenantId& tenant, const std::string& text, const Vector& query,
                              const IndexOptions& options) {
    std::vector<Passage> all;
    std::vector<Vector> vectors;
    std::vector<std::vector<std::string>> terms;
    double total = 0;
    for (const auto& [id, stored] : tenants[tenant]) {
      for (uint32_t c = 0; c < stored.chunks.size(); ++c) {
        Passage passage{id, stored.version, "", c, stored.title, stored.chunks[c].text, 0, 0, 0,
                        {}};
        size_t same = 0;
        while (same < all.size() &&
               (all[same].title != passage.title || all[same].text != passage.text ||
                vectors[same] != stored.chunks[c].vector)) {
          ++same;
        }
        if (same < all.size()) {
          if (all[same].copies.size() < 15) all[same].copies.push_back({id, stored.version, ""});
          continue;
        }
        vectors.push_back(stored.chunks[c].vector);
        if (!query.empty()) {
          float cosine = 0;
          DotProducts(query.data(), stored.chunks[c].vector.data(), 1, query.size(), &cosine);
          passage.dense = cosine;
        }
        all.push_back(passage);
        terms.push_back(LexicalTerms(stored.title + "\n" + passage.text));
        total += static_cast<double>(terms.back().size());
      }
    }
    const std::vector<std::string> asked = LexicalTerms(text);
    const double n = static_cast<double>(all.size());
    for (const std::string& term : std::set<std::string>(asked.begin(), asked.end())) {
      double df = 0;
      for (const auto& t : terms) df += std::count(t.begin(), t.end(), term) > 0;
      for (size_t i = 0; i < all.size(); ++i) {
        const auto tf = static_cast<double>(std::count(terms[i].begin(), terms[i].end(), term));
        const double gain = std::log(1 + (n - df + .5) / (df + .5)) * 2.2;
        const double length = .75 * n / total * static_cast<double>(terms[i].size());
        all[i].lexical += gain * tf / (tf + 1.2 * (1 - .75 + length));
      }
    }
    // The best of a list, in the order of rank.
    const auto listed = [&](double Passage::*part, bool above_0) {
      std::vector<const Passage*> list;
      for (const Passage& p : all) {
        if (!above_0 || p.*part > 0) list.push_back(&p);
      }
      std::stable_sort(list.begin(), list.end(),
                       [&](const Passage* x, const Passage* y) { return x->*part > y->*part; });
      if (list.size() > options.candidates) list.resize(options.candidates);
      return list;
    };
    const auto scaled = [](double score, double least, double most) {
      return score < least ? 0 : most > least ? (score - least) / (most - least) : 1;
    };
    const double weight = query.empty() ? 0 : options.dense_weight;
    const auto dense =
        query.empty() ? std::vector<const Passage*>() : listed(&Passage::dense, false);
    const auto lexical = listed(&Passage::lexical, true);
    const double lexical_least = lexical.size() == options.candidates ? lexical.back()->lexical : 0;
    std::vector<Passage> found;
    for (Passage& p : all) {
      const bool in_lexical = std::count(lexical.begin(), lexical.end(), &p) > 0;
      if (!in_lexical && std::count(dense.begin(), dense.end(), &p) == 0) continue;
      if (!lexical.empty()) {
        p.score = (1 - weight) * scaled(p.lexical, lexical_least, lexical.front()->lexical);
      }
      if (!dense.empty()) {
        p.score += weight * scaled(p.dense, dense.back()->dense, dense.front()->dense);
      }
      found.push_back(p);
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Passage& x, const Passage& y) { return x.score > y.score; });
    if (found.size() > options.passages) found.resize(options.passages);
    return found;
  }
};

BOOST_AUTO_TEST_CASE(search_agrees_with_its_slow_twin) {
  for (const uint32_t dimension : {0U, 7U}) {
    for (const uint32_t candidates : {10U, 100U}) {
      IndexOptions options = dimension > 0 ? Dense(dimension) : Lexical();
      options.candidates = candidates;
      Driver driver(options);
      SlowIndex slow;
      size_t compared = 0;
      for (uint64_t at = 0; at < 1500; ++at) {
        auto [tenant, prepared] = RandomEvent(dimension + candidates, at, dimension);
        const Found found = driver.Apply(prepared, tenant);
        slow.Apply(tenant, prepared);
        const auto* query = std::get_if<Query>(&prepared.event.data);
        if (!query) continue;
        const auto expected = slow.Search(tenant, query->text, prepared.query_vector, options);
        BOOST_REQUIRE(Same(found, Found{expected, 0, 0, 0}));
        compared += expected.size();
      }
      BOOST_TEST(compared > 1000U);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_restored_index_behaves_like_one_that_went_on) {
  for (const uint32_t dimension : {0U, 5U}) {
    for (const uint64_t seed : {1U, 2U, 3U, 4U, 5U, 6U}) {
      IndexOptions options = dimension > 0 ? Dense(dimension) : Lexical();
      options.tombstones_per_tenant = 3;
      Driver uninterrupted(options);
      std::map<std::tuple<std::string, std::string, std::string>, std::string> saved;
      const uint64_t cut = 50 + RandomAt(seed, 1) % 300;
      const auto save = [&](Index& index, auto& into) {
        Changes changes;
        index.Save(kPartition, changes);
        for (const Change& change : changes) {
          const auto key = std::tuple(change.tenant, change.kind, change.id);
          if (change.value) into[key] = *change.value;
          if (!change.value) into.erase(key);
        }
        return changes.size();
      };
      for (uint64_t at = 0; at < cut; ++at) {
        auto [tenant, prepared] = RandomEvent(seed, at, dimension);
        uninterrupted.Apply(std::move(prepared), tenant);
        if (RandomAt(seed + 7, at) % 40 == 0) save(uninterrupted.index, saved);
      }
      save(uninterrupted.index, saved);
      BOOST_TEST(save(uninterrupted.index, saved) == 0U);  // nothing changed since

      Driver restored(options);
      restored.ordinal = uninterrupted.ordinal;
      for (const auto& [key, value] : saved) {
        const auto& [tenant, kind, id] = key;
        BOOST_REQUIRE(restored.index.Load(kPartition, {tenant, kind, id, value}).ok());
      }
      auto saved_too = saved;
      BOOST_TEST(save(restored.index, saved_too) == 0U);
      for (uint64_t at = cut; at < cut + 200; ++at) {
        auto [tenant, prepared] = RandomEvent(seed, at, dimension);
        const Found expected = uninterrupted.Apply(prepared, tenant);
        BOOST_REQUIRE(Same(restored.Apply(std::move(prepared), tenant), expected));
      }
      save(uninterrupted.index, saved);
      save(restored.index, saved_too);
      BOOST_TEST((saved == saved_too));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_save_holds_only_what_changed_in_a_fixed_order) {
  Driver driver(Lexical());
  for (const char* id : {"c", "a", "b"}) driver.Apply(Upsert(id, "apple"), "beta");
  driver.Apply(Upsert("z", "apple"), "acme");
  const auto list = [&] {
    Changes changes;
    driver.index.Save(kPartition, changes);
    std::string text;
    for (const Change& c : changes) text += c.tenant + "." + c.kind + "." + c.id + " ";
    return text;
  };
  BOOST_TEST(list() ==
             "acme.document.z acme.index_meta. beta.document.a beta.document.b "
             "beta.document.c beta.index_meta. ");
  driver.Apply(Delete("b"), "beta");
  driver.Apply(Upsert("b", "apple"), "beta");
  BOOST_TEST(list() == "beta.document.b ");
  BOOST_TEST(list() == "");
}

BOOST_AUTO_TEST_CASE(an_index_of_another_embedder_is_refused) {
  Driver driver(Dense());
  driver.Apply(Upsert("a", {{"apple", {1, 0, 0}}}));
  Changes changes;
  driver.index.Save(kPartition, changes);
  IndexOptions other_name = Dense();
  other_name.embedder = "another embedder";
  for (const IndexOptions& options : {other_name, Dense(4), Lexical()}) {
    Index index(options);
    size_t refused = 0;
    for (const Change& change : changes) {
      const auto loaded = index.Load(kPartition, change);
      if (loaded.ok()) continue;
      ++refused;
      BOOST_TEST(Name(loaded.error().code) == Name(Code::kUnsupportedModel));
      BOOST_TEST(loaded.error().remedy.find("re-embed") != std::string::npos);
    }
    BOOST_TEST(refused >= 1U);
  }
}

BOOST_AUTO_TEST_CASE(damaged_entries_are_refused_and_change_nothing) {
  Driver driver(Dense());
  driver.Apply(Upsert("a", {{"apple", {1, 0, 0}}}, "title"));
  driver.Apply(Upsert("b", {{"pear", {1, 0, 0}}}));
  driver.Apply(Delete("b"));
  Changes changes;
  driver.index.Save(kPartition, changes);
  Index index(Dense());
  for (const Change& change : changes) {
    for (size_t length = 0; length < change.value->size(); ++length) {
      Change damaged = change;
      damaged.value->resize(length);
      const auto loaded = index.Load(kPartition, damaged);
      BOOST_REQUIRE(!loaded.ok());
      BOOST_TEST(Name(loaded.error().code) == Name(Code::kUnreadableFile));
    }
    Change longer = change;
    longer.value->push_back('x');
    BOOST_TEST(!index.Load(kPartition, longer).ok());
  }
  BOOST_TEST(!index.Load(kPartition, {"acme", "unknown_kind", "", "x"}).ok());
  Changes after;
  index.Save(kPartition, after);
  BOOST_TEST(after.empty());
  BOOST_TEST(index.SizeOf(kPartition, "acme").tombstones == 0U);
}

BOOST_AUTO_TEST_CASE(options_out_of_range_stop_the_start) {
  const auto with = [](auto change) {
    IndexOptions options;
    change(options);
    return options;
  };
  for (const IndexOptions& options : {
           with([](IndexOptions& o) { o.dimension = 3; }),
           with([](IndexOptions& o) { o.embedder = "e"; }),
           with([](IndexOptions& o) { o.passages = 0; }),
           with([](IndexOptions& o) { o.candidates = 2; }),
           with([](IndexOptions& o) { o.dense_weight = 1.5; }),
           with([](IndexOptions& o) { o.bm25_b = std::nan(""); }),
           with([](IndexOptions& o) { o.bm25_k1 = -1; }),
           with([](IndexOptions& o) { o.chunks_per_tenant = 0; }),
       }) {
    BOOST_CHECK_THROW(Index{options}, StartError);
  }
}
