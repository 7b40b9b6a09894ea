// labels: unit
// Access lists and filters in the search, against a slow and obvious twin: an index of nothing but
// the documents that the question may see.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "stages/hash.h"
#include "stages/index.h"

using namespace nudge;

namespace {

constexpr int32_t kPartition = 0;

struct Stored {
  DocumentUpsert upsert;
  std::vector<Chunk> chunks;
  uint32_t version = 0;
};

class Documents {
 public:
  explicit Documents(const IndexOptions& options) : options_(options), index_(options) {}

  void Put(const Stored& document) {
    const Found found = Send(index_, document.upsert, document.chunks);
    stored_[document.upsert.document_id] = document;
    stored_[document.upsert.document_id].version = found.document_version;
  }
  void Delete(const std::string& id) {
    Send(index_, DocumentDelete{id}, {});
    stored_.erase(id);
  }

  Found Ask(const Query& query, const Vector& vector) { return Send(index_, query, {}, vector); }
  // Of an index that was never told of a hidden document.
  Found AskTwin(const Query& query, const Vector& vector) const {
    Index twin(options_);
    for (const auto& [id, document] : stored_) {
      const DocumentUpsert& upsert = document.upsert;
      bool is_seen = !upsert.access;
      for (const std::string& group : upsert.access.value_or(Groups())) {
        is_seen = is_seen || query.groups.contains(group);
      }
      if (query.filter && !Matches(*query.filter, upsert.metadata)) is_seen = false;
      if (is_seen) Send(twin, DocumentUpsert{id, "", upsert.title, {}}, document.chunks);
    }
    Query plain = query;
    plain.groups.clear();
    plain.filter.reset();
    return Send(twin, plain, {}, vector);
  }

  // A state that another index has loaded.
  void Reload() {
    Changes changes;
    index_.Save(kPartition, changes);
    for (const Change& change : changes) rows_[{change.kind, change.id}] = change;
    index_.Drop(kPartition);
    for (const auto& [key, change] : rows_) {
      if (change.value) BOOST_REQUIRE(index_.Load(kPartition, change).ok());
    }
  }

  uint32_t VersionOf(const std::string& id) const { return stored_.at(id).version; }
  const std::optional<Groups>& AccessOf(const std::string& id) const {
    return stored_.at(id).upsert.access;
  }

 private:
  template <class Data>
  static Found Send(Index& index, Data data, const std::vector<Chunk>& chunks,
                    const Vector& vector = {}) {
    static uint64_t ordinal = 0;
    auto prepared = std::make_shared<Prepared>();
    prepared->event.tenant = "acme";
    prepared->event.data = std::move(data);
    prepared->chunks = chunks;
    prepared->query_vector = vector;
    Resolved resolved;
    resolved.prepared = prepared;
    const auto found = index.Apply(Sequence::Of(kPartition, ++ordinal), resolved);
    BOOST_REQUIRE(found.ok());
    return *found;
  }

  const IndexOptions options_;
  Index index_;
  std::map<std::string, Stored> stored_;
  std::map<std::pair<std::string, std::string>, Change> rows_;
};

std::string Words(uint64_t seed, size_t count) {
  static const std::vector<std::string> kWords = {"log",  "query", "index", "state",
                                                  "step", "cache", "the",   "order"};
  std::string text;
  for (size_t i = 0; i < count; ++i) text += kWords[RandomAt(seed, i) % kWords.size()] + " ";
  return text;
}

Vector Coarse(uint64_t seed, uint32_t dimension) {
  Vector vector(dimension, 0);
  double square = 0;
  for (uint32_t i = 0; i < dimension; ++i) {
    vector[i] = static_cast<float>(RandomAt(seed, 100 + i) % 5) - 2 + (i == 0 ? .5F : 0);
    square += static_cast<double>(vector[i]) * vector[i];
  }
  for (float& x : vector) x = static_cast<float>(x / std::sqrt(square));
  return vector;
}

Groups SomeGroups(uint64_t seed, size_t most) {
  Groups groups;
  for (uint64_t i = 0; i < RandomAt(seed, 50) % (most + 1); ++i) {
    groups.insert(std::string("g") + std::to_string(RandomAt(seed, 60 + i) % 4));
  }
  return groups;
}

Stored SomeDocument(uint64_t seed, uint32_t dimension) {
  Stored document;
  DocumentUpsert& upsert = document.upsert;
  upsert.document_id = "doc" + std::to_string(RandomAt(seed, 1) % 14);
  upsert.title = RandomAt(seed, 2) % 2 == 0 ? "the title" : "";
  upsert.metadata["kind"] = static_cast<double>(RandomAt(seed, 3) % 3);
  if (RandomAt(seed, 4) % 2 == 0) upsert.access = SomeGroups(seed, 2);
  for (uint64_t c = 0; c < 1 + RandomAt(seed, 5) % 3; ++c) {
    const uint64_t of = RandomAt(seed + c, 7) % 2 == 0 ? RandomAt(seed + c, 8) % 4 : seed + c;
    document.chunks.push_back(
        {Words(of, 3 + RandomAt(of, 5) % 6), dimension > 0 ? Coarse(of, dimension) : Vector()});
  }
  return document;
}

void CheckSame(const Documents& documents, const Found& found, const Found& twin,
               const std::string& what) {
  BOOST_REQUIRE_MESSAGE(found.passages.size() == twin.passages.size(), what);
  for (size_t i = 0; i < found.passages.size(); ++i) {
    const Passage& x = found.passages[i];
    const Passage& y = twin.passages[i];
    const bool same = x.document_id == y.document_id && x.chunk == y.chunk && x.title == y.title &&
                      x.text == y.text && x.score == y.score && x.dense == y.dense &&
                      x.lexical == y.lexical && x.copies.size() == y.copies.size();
    BOOST_REQUIRE_MESSAGE(same, what << ", passage " << i << ": " << x.document_id << "/" << x.chunk
                                     << " and " << y.document_id << "/" << y.chunk);
    BOOST_TEST(x.version == documents.VersionOf(x.document_id));
    std::set<Groups> lists;
    if (const auto& access = documents.AccessOf(x.document_id)) lists.insert(*access);
    for (size_t c = 0; c < x.copies.size(); ++c) {
      BOOST_TEST(x.copies[c].document_id == y.copies[c].document_id, what);
      if (const auto& access = documents.AccessOf(x.copies[c].document_id)) lists.insert(*access);
    }
    BOOST_TEST((x.access == lists), what);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(hidden_documents_are_as_if_they_were_not_there) {
  size_t hidden = 0;
  for (const uint32_t dimension : {0U, 6U}) {
    for (const uint32_t candidates : {3U, 100U}) {
      IndexOptions options;
      options.passages = 3;
      options.candidates = candidates;
      options.dimension = dimension;
      options.embedder = dimension > 0 ? "test embedder" : "";
      Documents documents(options);
      for (uint64_t at = 0; at < 700; ++at) {
        const uint64_t seed = RandomAt(dimension + candidates, at);
        if (RandomAt(seed, 10) % 3 == 0) {
          documents.Put(SomeDocument(seed, dimension));
        } else if (RandomAt(seed, 10) % 19 == 0) {
          documents.Delete("doc" + std::to_string(RandomAt(seed, 1) % 14));
        } else if (RandomAt(seed, 10) % 31 == 0) {
          documents.Reload();
        }
        Query query{Words(seed, 3), {}};
        query.groups = SomeGroups(seed, 3);
        if (RandomAt(seed, 11) % 2 == 0) {
          query.filter = Filter{Filter::Kind::kLess, "kind", {2.0}, {}};
        }
        const Vector vector = dimension > 0 ? Coarse(seed, dimension) : Vector();
        const Found found = documents.Ask(query, vector);
        CheckSame(documents, found, documents.AskTwin(query, vector),
                  "at " + std::to_string(at) + " of " + std::to_string(dimension));
        Query all = query;
        all.groups = {"g0", "g1", "g2", "g3"};
        all.filter.reset();
        const Found more = documents.Ask(all, vector);
        hidden += more.passages.size() != found.passages.size() ? 1 : 0;
      }
    }
  }
  BOOST_TEST(hidden > 50U);  // what does not hide shows nothing
}

BOOST_AUTO_TEST_CASE(a_passage_names_those_of_its_documents_alone_that_the_asker_may_see) {
  IndexOptions options;
  Documents documents(options);
  const auto put = [&](const std::string& id, std::optional<Groups> access) {
    Stored document;
    document.upsert = {id, "", "", {}, std::move(access)};
    document.chunks = {{"refunds are paid within 14 days", {}}};
    documents.Put(document);
  };
  put("a", Groups{"board"});
  put("b", std::nullopt);
  put("c", Groups{"sales", "board"});
  put("d", Groups{});
  const auto names = [&](Groups groups) {
    Query query{"refunds", {}};
    query.groups = std::move(groups);
    std::string text;
    for (const Passage& passage : documents.Ask(query, {}).passages) {
      text += passage.document_id;
      for (const Passage::Copy& copy : passage.copies) text += copy.document_id;
    }
    return text;
  };
  BOOST_TEST(names({}) == "b");
  BOOST_TEST(names({"sales"}) == "bc");
  BOOST_TEST(names({"board"}) == "abc");
}

BOOST_AUTO_TEST_CASE(entries_of_before_there_were_rights_are_read_as_for_everybody) {
  ByteWriter writer;
  writer.U8(2);
  writer.U32(7);
  writer.U8(1);
  writer.Text("Title");
  writer.Text("ada");
  writer.U32(1);
  writer.Text("kafka keeps the log");
  writer.Floats(Vector());
  Index index{IndexOptions()};
  BOOST_REQUIRE(index.Load(0, {"acme", "document", "old", writer.Take()}).ok());
  Resolved resolved;
  auto prepared = std::make_shared<Prepared>();
  prepared->event.tenant = "acme";
  prepared->event.data = Query{"kafka", {}};
  resolved.prepared = prepared;
  const Found found = *index.Apply(Sequence::Of(0, 1), resolved);
  BOOST_REQUIRE(found.passages.size() == 1);
  BOOST_TEST(found.passages[0].document_id == "old");
  BOOST_TEST(found.passages[0].version == 7U);
  BOOST_TEST(found.passages[0].access.empty());
}
