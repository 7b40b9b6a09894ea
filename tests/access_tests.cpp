// labels: unit
#include "stages/access.h"

#include <boost/test/unit_test.hpp>

#include "tests/serial_stages.h"

using namespace nudge;

namespace {

RestsOn On(std::set<std::string> documents, std::set<Groups> lists = {}) {
  return {std::move(documents), std::move(lists)};
}

}  // namespace

BOOST_AUTO_TEST_CASE(no_list_is_everybody_and_an_empty_one_nobody) {
  BOOST_TEST(MaySee(std::nullopt, {}));
  BOOST_TEST(MaySee(std::nullopt, {"a"}));
  BOOST_TEST(!MaySee(Groups{}, {}));
  BOOST_TEST(!MaySee(Groups{}, {"a"}));
  BOOST_TEST(MaySee(Groups{"a", "b"}, {"b", "c"}));
  BOOST_TEST(!MaySee(Groups{"a", "b"}, {"c", "A"}));
  BOOST_TEST(!MaySee(Groups{"a"}, {}));
}

BOOST_AUTO_TEST_CASE(what_rests_on_documents_is_for_those_who_may_see_all_of_them_then_and_now) {
  RestrictedDocuments documents;
  documents.Put("plans", Groups{"board"});
  documents.Put("prices", Groups{"sales", "board"});
  documents.Put("news", std::nullopt);
  BOOST_TEST(documents.MaySee(On({"news", "unknown"}), {}));
  BOOST_TEST(!documents.MaySee(On({"news", "prices"}), {}));
  BOOST_TEST(documents.MaySee(On({"news", "prices"}), {"sales"}));
  BOOST_TEST(!documents.MaySee(On({"plans", "prices"}), {"sales"}));
  BOOST_TEST(documents.MaySee(On({"plans", "prices"}), {"board"}));
  BOOST_TEST(!documents.MaySee(On({"news"}, {{"board"}}), {"sales"}));
  BOOST_TEST(documents.HasAnyOf(On({"prices"})));
  BOOST_TEST(documents.HasAnyOf(On({"news"}, {{"board"}})));
  BOOST_TEST(!documents.HasAnyOf(On({"news"})));
  documents.Put("prices", std::nullopt);
  BOOST_TEST(documents.MaySee(On({"prices"}), {}));
  BOOST_TEST(!documents.MaySee(On({"prices"}, {{"sales"}}), {}));  // the text of then is not open
  documents.Remove("plans");
  BOOST_TEST(!documents.HasAnyOf(On({"plans"})));
}

BOOST_AUTO_TEST_CASE(restricted_documents_are_saved_and_loaded_and_damage_is_refused) {
  struct Stage {
    RestrictedDocuments documents;
    void Save(int32_t, Changes& changes) { documents.Save("acme", "kind", changes); }
    Result<Nothing> Load(int32_t, const Change& entry) { return documents.Load(entry); }
  };
  Stage stage;
  stage.documents.Put("plans", Groups{"board", "b"});
  stage.documents.Put("nobody", Groups{});
  stage.documents.Put("gone", Groups{"c"});
  serial::Store store;
  BOOST_TEST(store.SaveFrom(stage, 0) == 3U);
  stage.documents.Put("gone", std::nullopt);
  BOOST_TEST(store.SaveFrom(stage, 0) == 1U);
  Stage loaded;
  store.LoadInto(loaded, 0);
  BOOST_TEST(loaded.documents.MaySee(On({"plans"}), {"b"}));
  BOOST_TEST(!loaded.documents.MaySee(On({"nobody"}), {"b"}));
  BOOST_TEST(loaded.documents.MaySee(On({"gone"}), {}));
  for (const std::string& value : {std::string(), std::string(1, '\x63'), std::string(1, '\1')}) {
    BOOST_TEST(!loaded.Load(0, {"acme", "kind", "x", value}).ok());
  }
}
