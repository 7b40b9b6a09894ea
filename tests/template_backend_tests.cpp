// labels: unit
#include "stages/model/template_backend.h"

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <set>

#include "stages/hash.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

void Write(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

struct World {
  TempFolder folder;
  std::unique_ptr<Backend> backend = MakeTemplateBackend({.import_folder = folder.path()});

  std::string DigestOf(const std::string& uri, const std::string& content) const {
    const auto version = backend->ImportVersion(uri, Sha256Hex(content));
    BOOST_REQUIRE_MESSAGE(version.ok(), (version.ok() ? "" : version.error().message));
    return (*version)->digest;
  }
  void Refuses(const std::string& uri, const std::string& sha256, const std::string& part) const {
    const auto version = backend->ImportVersion(uri, sha256);
    BOOST_REQUIRE_MESSAGE(!version.ok(), "not refused: " + part);
    const Error& error = version.error();
    BOOST_TEST((error.code == Code::kWrongAdapter), error.message);
    BOOST_TEST(error.message.find(part) != std::string::npos, error.message);
    BOOST_TEST(error.message.find(folder.path()) == std::string::npos, error.message);
    BOOST_TEST(!error.remedy.empty());
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(an_imported_version_is_a_function_of_the_files_bytes_alone) {
  const World world;
  for (const char* uri : {"a", "b/c.lora", "d/adapter.gguf"}) {
    Write(world.folder.path() + "/" + uri, "content");
  }
  const std::string digest = Sha256Hex("template import:content");
  BOOST_TEST(world.DigestOf("a", "content") == digest);
  BOOST_TEST(world.DigestOf("b/c.lora", "content") == digest);
  BOOST_TEST(world.DigestOf("d", "content") == digest);  // a folder: its adapter.gguf
  Write(world.folder.path() + "/a", "another");
  BOOST_TEST(world.DigestOf("a", "another") == Sha256Hex("template import:another"));
  const World elsewhere;
  Write(elsewhere.folder.path() + "/x", "content");
  BOOST_TEST(elsewhere.DigestOf("x", "content") == digest);
}

BOOST_AUTO_TEST_CASE(what_is_missing_another_or_outside_is_refused) {
  const World world;
  Write(world.folder.path() + "/a", "content");
  const std::string sha256 = Sha256Hex("content");
  world.Refuses("b", sha256, "b is not there");
  world.Refuses("a", Sha256Hex("another"), "a has SHA-256 " + sha256 + ", expected");
  world.Refuses("../a", sha256, "is no path below the import folder");
  world.Refuses(world.folder.path().substr(0, 1) + "etc/passwd", sha256, "is no path below");
  std::filesystem::create_symlink("/etc/passwd", world.folder.path() + "/link");
  world.Refuses("link", sha256, "link is a link that leaves the import folder");
  const auto none = MakeTemplateBackend({})->ImportVersion("a", sha256);
  BOOST_REQUIRE(!none.ok());
  BOOST_TEST((none.error().code == Code::kWrongAdapter));
  BOOST_TEST(none.error().remedy == "set adapt.import_folder");
}

BOOST_AUTO_TEST_CASE(answers_and_lessons_go_on_from_what_was_imported) {
  const World world;
  for (const char* name : {"a", "b"}) Write(world.folder.path() + "/" + name, name);
  const auto answer = [&](const AdapterVersion* version) {
    return world.backend->Generate(0, {{"user", "?"}}, version, {}, 0, {})->text;
  };
  std::set<std::string> answers{answer(nullptr)};
  std::set<std::string> lessons;
  for (const char* name : {"a", "b"}) {
    const auto version = *world.backend->ImportVersion(name, Sha256Hex(name));
    answers.insert(answer(version.get()));
    for (const char* tenant : {"t", "u"}) {  // a lesson after it depends on it alone
      const auto learner = world.backend->NewLearner(tenant);
      BOOST_REQUIRE(learner->Adopt(version.get()).ok());
      BOOST_REQUIRE(learner->Step({{{"user", "?"}}, "yes", {}, 1}, SerialFor()).ok());
      lessons.insert((*learner->Publish(version->digest, SerialFor()))->digest);
    }
    // And it comes back as it was.
    const auto loaded = world.backend->LoadVersion(version->weights, version->digest,
                                                   version->parent_digest, version->counts);
    BOOST_REQUIRE(loaded.ok());
    BOOST_TEST(answer(loaded->get()) == answer(version.get()));
  }
  BOOST_TEST(answers.size() == 3u);
  BOOST_TEST(lessons.size() == 2u);
}
