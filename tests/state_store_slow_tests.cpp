// labels: slow
// A state as large as they get: 100,000 documents with vectors, a learner of 40 MB.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <filesystem>

#include "pipeline/state/state_store.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

constexpr uint64_t kDocuments = 100'000;
constexpr uint64_t kPerCut = 1000;

double MillisecondsOf(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const auto took = std::chrono::steady_clock::now() - start;
  return std::chrono::duration<double, std::milli>(took).count();
}

// 600 bytes of text and 384 floats, of one of 50 tenants.
Change Document(uint64_t number, uint64_t revision) {
  ByteWriter value;
  std::string text(600, ' ');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>('a' + RandomAt(number + revision, i) % 26);
  }
  value.Text(text);
  std::vector<float> vector(384);
  for (size_t i = 0; i < vector.size(); ++i) {
    vector[i] = static_cast<float>(UniformAt(number * 31 + revision, i));
  }
  value.Floats(vector);
  return {"tenant-" + std::to_string(number % 50), "index/document",
          "document-" + std::to_string(RandomAt(1, number)), value.Take()};
}

Cut CutOf(uint64_t number, Changes changes) {
  return {0,
          (number - 1) * kPerCut,
          number * kPerCut,
          static_cast<int64_t>(number * kPerCut),
          Sha256(std::to_string(number)),
          std::move(changes)};
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_hundred_thousand_documents_and_a_large_learner_come_back_as_they_were) {
  const TempFolder folder;
  const StateIdentity identity{"models", "configuration"};
  Changes expected;
  uint64_t cut = 0;
  {
    StateStore store(folder.path(), identity, {.backup_every_cuts = 0});
    BOOST_REQUIRE(store.Newest(0, 0).ok());
    double filling_ms = 0;
    for (uint64_t first = 0; first < kDocuments; first += kPerCut) {
      Changes changes;
      for (uint64_t i = 0; i < kPerCut; ++i) changes.push_back(Document(first + i, 0));
      const Cut full = CutOf(++cut, changes);
      filling_ms += MillisecondsOf([&] { BOOST_REQUIRE(store.Write(full).ok()); });
      std::move(changes.begin(), changes.end(), std::back_inserter(expected));
    }
    BOOST_TEST_MESSAGE("a cut of 1000 new documents: " << filling_ms / static_cast<double>(cut)
                                                       << " ms");
    // Every hundredth document again: all over the file.
    Changes changes;
    for (uint64_t number = 0; number < kDocuments; number += kDocuments / kPerCut) {
      changes.push_back(Document(number, 1));
    }
    const Cut update = CutOf(++cut, changes);
    const double update_ms = MillisecondsOf([&] { BOOST_REQUIRE(store.Write(update).ok()); });
    BOOST_TEST_MESSAGE("a cut of 1000 changed documents: " << update_ms << " ms");
    Changes kept;
    for (uint64_t number = 0; number < kDocuments; ++number) {
      if (number % (kDocuments / kPerCut) != 0) kept.push_back(std::move(expected[number]));
    }
    std::move(changes.begin(), changes.end(), std::back_inserter(kept));
    expected = std::move(kept);

    Changes learner = {{"tenant-0", "executor/learner", "", std::string(40 << 20, 'l')}};
    for (int again = 0; again < 3; ++again) {
      learner[0].value->back() = static_cast<char>(again);
      const Cut large = CutOf(++cut, learner);
      const double large_ms = MillisecondsOf([&] { BOOST_REQUIRE(store.Write(large).ok()); });
      BOOST_TEST_MESSAGE("a cut of a 40 MB value: " << large_ms << " ms");
    }
    expected.push_back(std::move(learner[0]));
  }
  {
    StateStore store(folder.path(), identity, {.backup_every_cuts = 1});
    Result<std::optional<Cut>> restored = std::optional<Cut>();
    const double restore_ms = MillisecondsOf([&] { restored = store.Newest(0, 1'000'000); });
    BOOST_TEST_MESSAGE("restored: "
                       << restore_ms << " ms, "
                       << std::filesystem::file_size(folder.path() + "/partition-00000.sqlite")
                       << " bytes");
    BOOST_REQUIRE(restored.ok());
    BOOST_REQUIRE((*restored)->changes.size() == expected.size());
    size_t different = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const Change& found = (*restored)->changes[i];
      different += found.id != expected[i].id || found.tenant != expected[i].tenant ||
                   found.kind != expected[i].kind || found.value != expected[i].value;
    }
    BOOST_TEST(different == 0U);
    BOOST_REQUIRE(store.Write(CutOf(++cut, {})).ok());
    const double write_ms =
        MillisecondsOf([&] { BOOST_REQUIRE(store.Write(CutOf(++cut, {Document(7, 2)})).ok()); });
    const double backup_ms = MillisecondsOf([&] { store.WaitForBackups(); });
    BOOST_TEST_MESSAGE("a cut of one document beside a backup: " << write_ms << " ms, the backup "
                                                                 << backup_ms << " ms");
    Cut forgets = CutOf(++cut, {Document(7, 2)});
    forgets.forgets = true;
    const double forget_ms = MillisecondsOf([&] { BOOST_REQUIRE(store.Write(forgets).ok()); });
    const double copy_ms = MillisecondsOf([&] { store.WaitForBackups(); });
    BOOST_TEST_MESSAGE("a cut that forgets: " << forget_ms << " ms, its backup " << copy_ms
                                              << " ms");
  }
  // The state is lost: the backup is it.
  std::filesystem::resize_file(folder.path() + "/partition-00000.sqlite", 100'000);
  StateStore store(folder.path(), identity, {.backup_every_cuts = 0});
  Result<std::optional<Cut>> restored = std::optional<Cut>();
  const double restore_ms = MillisecondsOf([&] { restored = store.Newest(0, 1'000'000); });
  BOOST_TEST_MESSAGE("restored from a backup: " << restore_ms << " ms");
  BOOST_REQUIRE(restored.ok());
  BOOST_TEST((*restored)->changes.size() == expected.size());
}
