// labels: unit
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "stages/model/learn/learner_shelf.h"
#include "tests/learner_world.h"
#include "tests/temp_folder.h"
#include "tests/unnamed_file.h"

namespace nudge {
namespace {

using testing::Correction;
using testing::Example;
using testing::TempFolder;
using World = testing::LearnerWorld;

// What tenant number `tenant` learns as its `lesson`-th.
TokenExample LessonOf(uint64_t tenant, uint64_t lesson) {
  const uint64_t seed = 1000 * tenant + 10 * lesson;
  if (lesson % 3 == 2) return Correction(seed);
  return Example(seed, lesson % 3 == 0 ? 1 : -0.5);
}

// Tenants around one shelf.
struct Class {
  Class(World& of, size_t in_memory, const std::string& folder, size_t tenants)
      : world(of), shelf(in_memory, folder) {
    for (size_t i = 0; i < tenants; ++i) {
      learners.push_back(std::make_unique<ShelvedLearner>(shelf));
    }
  }
  void Teach(size_t tenant, uint64_t lesson) {
    auto learner = learners[tenant]->Wake(*world.weights, world.options);
    ENSURE(learner.ok());
    ENSURE(world.Step(**learner, LessonOf(tenant, lesson)).ok());
  }
  World& world;
  LearnerShelf shelf;
  std::vector<std::unique_ptr<ShelvedLearner>> learners;
};

struct Ended {
  int exit_code = -1;  // -1: by a signal
  std::string said;    // on standard error
};

// In a process of its own, which ends with what `body` returns if not before.
Ended InChild(const std::function<int()>& body) {
  const TempFolder folder;
  const std::string log = folder.path() + "/log";
  const pid_t child = fork();
  if (child == 0) {
    if (freopen(log.c_str(), "w", stderr) == nullptr) _exit(99);
    const int code = body();
    std::fflush(stderr);
    _exit(code);
  }
  int status = 0;
  BOOST_REQUIRE((child > 0 && waitpid(child, &status, 0) == child));
  std::ifstream file(log);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          std::string(std::istreambuf_iterator<char>(file), {})};
}

// A disk without room.
void AllowNoFiles() {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit none{0, RLIM_INFINITY};
  ENSURE(setrlimit(RLIMIT_FSIZE, &none) == 0);
}

BOOST_AUTO_TEST_CASE(tenants_in_turns_learn_the_same_bytes_whatever_is_in_memory_and_restarted) {
  World world;
  world.options.replay_examples = 4;
  constexpr std::array<size_t, 14> kTurns = {0, 1, 2, 0, 0, 2, 1, 2, 0, 1, 2, 2, 1, 0};
  constexpr size_t kNever = kTurns.size();
  for (const size_t in_memory : {1, 2, 10}) {
    for (const size_t restart : {kNever, size_t{0}, size_t{1}, size_t{7}}) {
      const TempFolder folder;
      std::vector<Learner> expected(3, Learner(*world.weights, world.options));
      std::array<uint64_t, 3> lessons{};
      auto taught = std::make_unique<Class>(world, in_memory, folder.path(), 3);
      for (size_t turn = 0; turn < kTurns.size(); ++turn) {
        if (turn == restart) {
          std::array<std::string, 3> saved;
          for (size_t i = 0; i < 3; ++i) saved.at(i) = taught->learners[i]->Save();
          taught = std::make_unique<Class>(world, in_memory, folder.path(), 3);
          for (size_t i = 0; i < 3; ++i) taught->learners[i]->Restore(saved.at(i));
          BOOST_TEST(taught->shelf.awake() == 0U);
        }
        const size_t tenant = kTurns.at(turn);
        const uint64_t lesson = lessons.at(tenant)++;
        BOOST_REQUIRE(world.Step(expected[tenant], LessonOf(tenant, lesson)).ok());
        taught->Teach(tenant, lesson);
        BOOST_TEST(taught->shelf.awake() <= in_memory);
        for (size_t i = 0; i < 3; ++i) {
          const std::string saved = taught->learners[i]->Save();
          BOOST_TEST((saved == (lessons.at(i) == 0 ? "" : expected[i].Save())));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(of_many_learners_only_the_last_used_are_in_memory_and_each_frees_its_place) {
  World world;
  const TempFolder folder;
  Class taught(world, 3, folder.path(), 20);
  for (size_t tenant = 0; tenant < 20; ++tenant) taught.Teach(tenant, 0);
  BOOST_TEST(taught.shelf.awake() == 3U);
  BOOST_TEST(taught.shelf.asleep_bytes() == 17 * SpillFile::kGrainBytes);
  taught.Teach(18, 1);  // awake already
  BOOST_TEST(taught.shelf.asleep_bytes() == 17 * SpillFile::kGrainBytes);
  taught.Teach(5, 1);  // in the place of 17, used longest ago
  BOOST_TEST(taught.shelf.awake() == 3U);
  taught.Teach(18, 2);
  taught.Teach(19, 1);
  BOOST_TEST(taught.shelf.awake() == 3U);
  for (int round = 1; round < 4; ++round) {
    for (size_t tenant = 0; tenant < 17; ++tenant) taught.Teach(tenant, 2);
  }
  BOOST_TEST(taught.shelf.awake() == 3U);
  BOOST_TEST(taught.shelf.asleep_bytes() <= 18 * SpillFile::kGrainBytes);
  for (size_t tenant = 0; tenant < 17; ++tenant) taught.learners[tenant].reset();
  BOOST_TEST(taught.shelf.awake() == 0U);
  BOOST_TEST(taught.shelf.asleep_bytes() <= 18 * SpillFile::kGrainBytes);
  taught.learners.clear();
  BOOST_TEST(taught.shelf.asleep_bytes() == 0U);
}

// As a cut does, and the loss of a partition, while other tenants' lessons go on.
BOOST_AUTO_TEST_CASE(a_learner_is_saved_and_destroyed_beside_lessons_that_put_it_away) {
  World world;
  const TempFolder folder;
  Class taught(world, 1, folder.path(), 4);
  taught.Teach(0, 0);
  const std::string expected = taught.learners[0]->Save();
  std::mutex lessons;  // the outer lock
  std::atomic<bool> done{false};
  std::atomic<uint64_t> rounds{0};
  std::atomic<uint64_t> taught_lessons{0};
  int wrong = 0;
  std::thread owner([&] {
    for (; rounds < 200 || taught_lessons < 20; ++rounds) {
      wrong += taught.learners[0]->Save() != expected;
      ShelvedLearner gone(taught.shelf);
      gone.Restore(expected);
      wrong += gone.Save() != expected;
      const std::lock_guard lock(lessons);
      wrong += !taught.learners[0]->Wake(*world.weights, world.options).ok();
    }
    taught.learners[0].reset();
    done = true;
  });
  while (!done) {
    if (taught_lessons > rounds + 20) {  // the owner's turn: a mutex need not be fair
      std::this_thread::yield();
      continue;
    }
    const std::lock_guard lock(lessons);
    taught.Teach(1 + taught_lessons % 3, taught_lessons);
    ++taught_lessons;
  }
  owner.join();
  taught.Teach(1, taught_lessons);
  BOOST_TEST(wrong == 0);
  BOOST_TEST(taught.shelf.awake() == 1U);
}

BOOST_AUTO_TEST_CASE(where_the_disk_takes_nothing_learners_stay_in_memory_and_learn_the_same) {
  World world;
  const TempFolder folder;
  Learner expected(*world.weights, world.options);
  BOOST_REQUIRE(world.Step(expected, LessonOf(0, 0)).ok());
  const std::string restored = expected.Save();
  BOOST_REQUIRE(world.Step(expected, LessonOf(0, 1)).ok());
  const Ended ended = InChild([&] {
    AllowNoFiles();
    Class taught(world, 1, folder.path(), 3);
    taught.learners[0]->Restore(restored);
    if (taught.learners[0]->Save() != restored) return 2;
    taught.Teach(1, 0);
    taught.Teach(0, 1);
    taught.Teach(2, 0);
    if (taught.learners[0]->Save() != expected.Save()) return 3;
    return taught.shelf.awake() == 3 && taught.shelf.asleep_bytes() == 0 ? 0 : 4;
  });
  BOOST_TEST(ended.exit_code == 0);
}

// Room that comes back is used.
BOOST_AUTO_TEST_CASE(a_disk_that_has_room_again_takes_all_that_should_rest_there) {
  World world;
  const TempFolder folder;
  const Ended ended = InChild([&] {
    Class taught(world, 1, folder.path(), 3);
    AllowNoFiles();
    for (size_t tenant = 0; tenant < 3; ++tenant) taught.Teach(tenant, 0);
    if (taught.shelf.awake() != 3) return 2;
    const rlimit any{RLIM_INFINITY, RLIM_INFINITY};
    ENSURE(setrlimit(RLIMIT_FSIZE, &any) == 0);
    taught.Teach(0, 1);  // is awake: needs no room
    if (taught.shelf.awake() != 3) return 3;
    taught.learners.push_back(std::make_unique<ShelvedLearner>(taught.shelf));
    taught.Teach(3, 0);
    return taught.shelf.awake() == 1 ? 0 : 4;
  });
  BOOST_TEST(ended.exit_code == 0);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_named_once_with_what_to_do) {
  World world;
  const Ended ended = InChild([&] {
    Class taught(world, 1, "/nowhere", 4);
    for (size_t tenant = 0; tenant < 4; ++tenant) taught.Teach(tenant, 0);
    return taught.shelf.awake() == 4 ? 0 : 2;
  });
  BOOST_TEST(ended.exit_code == 0);
  BOOST_TEST(ended.said ==
             "nudge: cannot make a file in /nowhere: No such file or directory: learners that "
             "should rest there stay in memory: "
             "check that folder's disk, its room and its permissions\n");
}

// An error that a lesson returned would be an outcome that no repetition of the log has.
BOOST_AUTO_TEST_CASE(a_learner_that_the_disk_does_not_give_back_ends_the_run_with_a_sentence) {
  World world;
  const TempFolder folder;
  for (const bool saves : {false, true}) {
    const Ended ended = InChild([&] {
      Class taught(world, 1, folder.path(), 2);
      taught.Teach(0, 0);
      taught.Teach(1, 0);
      testing::FlipBitAt(testing::UnnamedFileIn(folder.path()), 1000);
      if (saves) {
        (void)taught.learners[0]->Save();
      } else {
        (void)taught.learners[0]->Wake(*world.weights, world.options);
      }
      return 98;
    });
    BOOST_TEST(ended.exit_code == 1);
    BOOST_TEST(ended.said ==
               "nudge: a learner that was put away is lost: cannot read a file in " +
                   folder.path() +
                   ": its bytes are not those that were written: the run stops here, what was "
                   "committed stands: check that folder's disk and run the same command again: "
                   "nothing is lost "
                   "for good\n");
  }
}

BOOST_AUTO_TEST_CASE(a_state_of_another_shape_is_refused_at_each_lesson_and_kept_as_it_was) {
  World world;
  const TempFolder folder;
  Learner other(*world.weights, world.options);
  const std::string saved = other.Save();
  world.options.rank = 5;
  LearnerShelf shelf(2, folder.path());
  ShelvedLearner learner(shelf);
  learner.Restore(saved);
  for (int i = 0; i < 2; ++i) {
    const auto woken = learner.Wake(*world.weights, world.options);
    BOOST_REQUIRE(!woken.ok());
    BOOST_TEST((woken.error().code == Code::kWrongAdapter));
    BOOST_TEST((learner.Save() == saved));
    BOOST_TEST(shelf.awake() == 0U);
  }
}

}  // namespace
}  // namespace nudge
