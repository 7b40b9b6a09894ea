// labels: unit
// What a tenant's adapter is after any history: lineage and learner against a model that keeps a
// list of lessons for each version, and a fresh learner that is given just those.
#include "stages/model/learn/tenant_adapters.h"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "stages/hash.h"
#include "stages/lineage.h"
#include "stages/model/template_backend.h"
#include "tests/temp_folder.h"

using namespace nudge;

namespace {

const ParallelFor kSerial = [](int parts, const std::function<void(int)>& part) {
  for (int i = 0; i < parts; ++i) part(i);
};

struct Op {
  enum Kind {
    kLesson,
    kBack,
    kReset,
    kImport,
    kForget,
    kForgetEvent,
    kReplace,
    kTakeBack
  } kind = kLesson;
  uint64_t number = 0;  // kBack: how many versions back; kForget, kLesson: the user; kForgetEvent,
                        // kReplace, kTakeBack: the event
};

std::string NameOf(const Op& op) {
  static const char* const kNames[] = {"lesson", "back",         "reset",   "import",
                                       "forget", "forget_event", "replace", "take_back"};
  return std::string(kNames[op.kind]) + std::to_string(op.number) + " ";
}

LoggedExample ExampleOf(uint64_t event) {
  LoggedExample logged;
  logged.chat = {{"user", "question " + std::to_string(event)}};
  logged.shown = "answer " + std::to_string(event);
  logged.reward = 1;
  return logged;
}

std::shared_ptr<const AdapterVersion> ImportOf(uint64_t event) {
  auto version = std::make_shared<AdapterVersion>();
  version->digest = version->weights = Sha256Hex("import " + std::to_string(event));
  return version;
}

// The digest of a fresh learner that is given these events.
std::string FreshDigest(Backend& backend, const std::vector<uint64_t>& lessons,
                        const std::set<uint64_t>& imports) {
  if (lessons.empty()) return "base";
  auto learner = backend.NewLearner("acme");
  for (const uint64_t event : lessons) {
    if (imports.contains(event)) {
      BOOST_REQUIRE(learner->Adopt(ImportOf(event).get()).ok());
    } else {
      const LoggedExample logged = ExampleOf(event);
      BOOST_REQUIRE(
          learner->Step({logged.chat, std::get<std::string>(logged.shown), {}, 1}, kSerial).ok());
    }
  }
  return (*learner->Publish("", kSerial))->digest;
}

// nudge's side: the lineage, the learner, and what versions resolved to.
class Nudge {
 public:
  Nudge(Backend& backend, AdaptOptions options, TenantAdaptersOptions adapters)
      : backend_(backend), options_(options), adapters_options_(adapters) {
    Renew();
  }

  void Apply(uint64_t event, const Op& op) {
    const Sequence at = Sequence::Of(0, event);
    std::optional<Step> step;
    std::optional<Lesson> lesson;
    const auto add = [&](decltype(Lesson::what) what) {
      lesson = Lesson{std::move(what), step.value_or(Step{}), 0, {}};
    };
    switch (op.kind) {
      case Op::kLesson:
        step = lineage_.Learn(
            at,
            {{"u" + std::to_string(op.number)}, {}, {nudge::NameOf("/s", std::to_string(event))}},
            true, options_);
        add(ExampleOf(event));
        break;
      case Op::kReplace:
      case Op::kTakeBack: {
        const bool replaces = op.kind == Op::kReplace;
        auto withdrawn = lineage_.Withdraw(
            {Sequence::Of(0, op.number)},
            replaces ? Lineage::Standing::kReplaced : Lineage::Standing::kTakenBack, options_);
        const Lineage::Unlearnt& unlearnt = withdrawn.unlearnt;
        if (replaces) {
          step = lineage_.Learn(at, {{}, {}, {nudge::NameOf("/s", std::to_string(event))}}, true,
                                options_, {}, &unlearnt);
          add(ExampleOf(event));
          if (!unlearnt.changed.empty()) {
            lesson->behind = Return{lineage_.PathOfHead(), unlearnt.changed};
          }
        } else if (unlearnt.lessons > 0) {
          step = lineage_.Rebuild(unlearnt, options_);
          add(Return{lineage_.PathOfHead(), unlearnt.changed});
        }
        break;
      }
      case Op::kImport:
        step = lineage_.Import(at, options_);
        add(Import{ImportOf(event)});
        break;
      case Op::kReset:
        step = lineage_.Reset();
        add(Return{lineage_.PathOfHead(), {}});
        break;
      case Op::kBack:
        if (const auto unlearnt = lineage_.RollBack(
                op.number < made_ ? made_ - static_cast<Version>(op.number) : 0, options_)) {
          step = unlearnt->step;
          add(Return{lineage_.PathOfHead(), unlearnt->changed});
        }
        break;
      case Op::kForget:
      case Op::kForgetEvent: {
        const std::string number = std::to_string(op.number);
        const auto forgotten = lineage_.Forget(
            op.kind == Op::kForget ? Forget{"u" + number, ""} : Forget{"", "", false, number, "/s"},
            {}, options_);
        step = forgotten.step;
        if (forgotten.lessons > 0 || step) add(Return{lineage_.PathOfHead(), forgotten.changed});
        break;
      }
    }
    for (const Version version : lineage_.TakeDroppedVersions()) digests_.erase(version);
    if (lesson) Run(at, std::move(*lesson));
    lineage_.Advance();
  }

  std::string ServedDigest() const {
    const Version version = lineage_.serving();
    return version == 0 ? "base" : digests_.at(version);
  }
  Version made() const { return made_; }
  bool Keeps(Version version) const { return digests_.contains(version); }
  std::string DigestOf(Version version) const { return digests_.at(version); }

  // As a process does that ends and begins again.
  void Restart() {
    Changes changes;
    adapters_->Save(changes);
    lineage_.Save("acme", changes);
    for (Change& change : changes) {
      const auto key = std::pair(change.kind, change.id);
      if (change.value) {
        saved_[key] = *change.value;
      } else {
        saved_.erase(key);
      }
    }
    Renew();
    for (const auto& [key, value] : saved_) {
      const Change entry{"acme", key.first, key.second, value};
      const bool is_lineage = key.first == Lineage::kHeadKind || key.first == Lineage::kPlaceKind ||
                              key.first == Lineage::kVersionKind ||
                              key.first == Lineage::kFormerKind;
      const Result<Nothing> loaded = is_lineage ? lineage_.Load(entry) : adapters_->Load(entry);
      BOOST_REQUIRE_MESSAGE(loaded.ok(), key.first << " " << key.second);
    }
  }

  // Whether the user's words are anywhere.
  bool Holds(const std::string& words) {
    Restart();
    for (const auto& [key, value] : saved_) {
      if (value.find(words) != std::string::npos) return true;
    }
    return false;
  }

 private:
  void Renew() {
    lineage_ = {};
    adapters_.reset();
    adapters_ = std::make_unique<TenantAdapters>(backend_, "acme", adapters_options_, room_);
  }

  void Run(Sequence at, Lesson lesson) {
    lesson.dropped = lineage_.TakeDroppedPlaces();
    const auto* logged = std::get_if<LoggedExample>(&lesson.what);
    const std::string* shown =
        logged != nullptr ? std::get_if<std::string>(&logged->shown) : nullptr;
    adapters_->Begin(LearningPlaceOf(at), lesson, shown);
    while (adapters_->Behind()) adapters_->LearnNext(kSerial);
    const LessonDone done = adapters_->End(lesson, {}, kSerial);
    BOOST_REQUIRE(!done.error);
    if (!lesson.step.makes) return;
    made_ = *lesson.step.makes;
    digests_[made_] = done.serves.digest();
  }

  Backend& backend_;
  const AdaptOptions options_;
  const TenantAdaptersOptions adapters_options_;
  CheckpointFile file_{""};
  CheckpointRoom room_{file_, adapters_options_.checkpoint_bytes};
  Lineage lineage_;
  std::unique_ptr<TenantAdapters> adapters_;
  std::map<Version, std::string> digests_;
  std::map<std::pair<std::string, std::string>, std::string> saved_;
  Version made_ = 0;
};

// What must hold, said as simply as possible: a list of events for each version.
class Model {
 public:
  explicit Model(size_t replace_lessons_max) : replace_lessons_max_(replace_lessons_max) {}

  // made: nudge's newest version after the event.
  void Apply(uint64_t event, const Op& op, const Nudge& nudge, Version made_before) {
    switch (op.kind) {
      case Op::kLesson:
        users_[event] = op.number;
        head_.push_back(event);
        versions_[nudge.made()] = head_;
        break;
      case Op::kImport:
        imports_.insert(event);
        head_ = {event};
        versions_[nudge.made()] = head_;
        break;
      case Op::kReset:
        head_.clear();
        break;
      case Op::kBack: {
        const Version to =
            op.number < made_before ? made_before - static_cast<Version>(op.number) : 0;
        if (to == 0) head_.clear();
        if (versions_.contains(to)) {
          std::set<uint64_t> passed;
          for (const uint64_t each : versions_[to]) {
            const bool is_new = std::find(head_.begin(), head_.end(), each) == head_.end();
            if (is_new && replaced_.contains(each)) passed.insert(each);
          }
          head_ = versions_[to];
          Remove(passed);
          if (nudge.made() != made_before) versions_[nudge.made()] = head_;
        }
        break;
      }
      case Op::kForget:
      case Op::kForgetEvent:
        Forget(op);
        if (nudge.made() != made_before) versions_[nudge.made()] = head_;
        break;
      case Op::kReplace:
      case Op::kTakeBack:
        Withdraw(op.number);
        if (op.kind == Op::kReplace) {
          users_[event] = kNobody;
          head_.push_back(event);
        }
        if (nudge.made() != made_before) versions_[nudge.made()] = head_;
        break;
    }
  }

  void Check(Backend& backend, const Nudge& nudge, const std::string& history) {
    BOOST_REQUIRE_MESSAGE(nudge.ServedDigest() == FreshDigest(backend, head_, imports_), history);
    for (const auto& [version, lessons] : versions_) {
      BOOST_REQUIRE_MESSAGE(nudge.Keeps(version), history << "version " << version);
      BOOST_REQUIRE_MESSAGE(nudge.DigestOf(version) == FreshDigest(backend, lessons, imports_),
                            history << "version " << version);
    }
  }

 private:
  void Forget(const Op& op) {
    const auto theirs = [&](uint64_t event) {
      return users_.contains(event) &&
             (op.kind == Op::kForget ? users_.at(event) : event) == op.number;
    };
    std::set<uint64_t> gone;
    for (const auto& [version, lessons] : versions_) {
      std::copy_if(lessons.begin(), lessons.end(), std::inserter(gone, gone.end()), theirs);
    }
    std::copy_if(head_.begin(), head_.end(), std::inserter(gone, gone.end()), theirs);
    Remove(gone);
  }

  // With what stands behind goes what had been replaced there.
  void Remove(const std::set<uint64_t>& gone) {
    const auto is_gone = [&](uint64_t event) { return gone.contains(event); };
    std::erase_if(versions_, [&](const auto& entry) {
      return std::any_of(entry.second.begin(), entry.second.end(), is_gone);
    });
    const auto first = std::find_if(head_.begin(), head_.end(), is_gone);
    const auto end = std::remove_if(first, head_.end(), [&](uint64_t event) {
      return is_gone(event) || replaced_.contains(event);
    });
    head_.erase(end, head_.end());
  }

  void Withdraw(uint64_t event) {
    size_t newer = 0;
    for (auto lesson = head_.rbegin(); lesson != head_.rend() && newer < replace_lessons_max_;
         ++lesson) {
      if (*lesson == event) return Remove({event});
      if (!imports_.contains(*lesson)) ++newer;
    }
    replaced_.insert(event);
  }

  static constexpr uint64_t kNobody = 1'000'000;

  const size_t replace_lessons_max_;
  std::set<uint64_t> replaced_;  // as soon as a rebuild passes them
  std::vector<uint64_t> head_;
  std::map<Version, std::vector<uint64_t>> versions_;
  std::map<uint64_t, uint64_t> users_;
  std::set<uint64_t> imports_;
};

// All versions stay, and whatever is made serves at once: the rest is lineage_tests' business.
AdaptOptions Roomy() {
  return {.versions_kept = 1000, .relearn_lessons_per_event = 1'000'000, .replace_lessons_max = 2};
}

void CheckHistory(const std::vector<Op>& ops, TenantAdaptersOptions adapters,
                  const std::function<bool(uint64_t)>& restarts) {
  const auto backend = MakeTemplateBackend({});
  Nudge nudge(*backend, Roomy(), adapters);
  Model model(Roomy().replace_lessons_max);
  std::string history;
  for (uint64_t event = 0; event < ops.size(); ++event) {
    history += NameOf(ops[event]);
    const Version before = nudge.made();
    nudge.Apply(event, ops[event]);
    model.Apply(event, ops[event], nudge, before);
    if (restarts(event)) nudge.Restart();
    model.Check(*backend, nudge, history);
  }
}

}  // namespace

// Back, forward, onto another branch, import, reset, forget, replace, take back: each three of them
// in each order, behind three lessons of three users and before one more.
BOOST_AUTO_TEST_CASE(each_three_of_all_that_moves_an_adapter_leave_what_should_count) {
  const std::vector<Op> moves = {{Op::kBack, 0},    {Op::kBack, 1},    {Op::kBack, 2},
                                 {Op::kBack, 99},   {Op::kReset, 0},   {Op::kImport, 0},
                                 {Op::kForget, 0},  {Op::kForget, 1},  {Op::kForget, 2},
                                 {Op::kForget, 7},  {Op::kLesson, 1},  {Op::kForgetEvent, 1},
                                 {Op::kReplace, 0}, {Op::kReplace, 2}, {Op::kTakeBack, 1}};
  for (const Op& first : moves) {
    for (const Op& second : moves) {
      for (const Op& third : moves) {
        for (const bool restart : {false, true}) {
          CheckHistory({{Op::kLesson, 0},
                        {Op::kLesson, 1},
                        {Op::kLesson, 2},
                        first,
                        second,
                        third,
                        {Op::kLesson, 3}},
                       {.checkpoint_every_lessons = restart ? 1U : 2U},
                       [&](uint64_t event) { return restart && event == 4; });
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(random_histories_leave_what_should_count_whatever_is_checkpointed) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<Op> ops;
    for (uint64_t i = 0; i < 150; ++i) {
      const uint64_t dice = RandomAt(seed, 2 * i) % 100, number = RandomAt(seed, 2 * i + 1);
      if (dice < 40) {
        ops.push_back({Op::kLesson, number % 12});
      } else if (dice < 60) {
        uint64_t event = i - std::min(i, 1 + number % 12);
        while (event > 0 && ops[event].kind != Op::kLesson && ops[event].kind != Op::kReplace) {
          --event;
        }
        const bool taught = !ops.empty() && ops[event].kind != Op::kImport;
        ops.push_back(taught ? Op{dice < 52 ? Op::kReplace : Op::kTakeBack, event}
                             : Op{Op::kLesson, 1});
      } else if (dice < 80) {
        ops.push_back({Op::kBack, number % 8});
      } else if (dice < 84) {
        ops.push_back({Op::kImport, 0});
      } else if (dice < 87) {
        ops.push_back({Op::kReset, 0});
      } else if (dice < 94) {
        ops.push_back({Op::kForget, number % 12});
      } else {
        ops.push_back({Op::kForgetEvent, number % (i + 1)});
      }
    }
    CheckHistory(ops,
                 {.checkpoint_every_lessons = static_cast<uint32_t>(1 + seed % 5),
                  .checkpoint_bytes = seed % 3 == 0 ? 0 : 1 + seed * 300},
                 [&](uint64_t event) { return RandomAt(seed + 1000, event) % 10 == 0; });
  }
}

BOOST_AUTO_TEST_CASE(the_words_of_a_forgotten_lesson_are_in_no_entry) {
  const auto backend = MakeTemplateBackend({});
  Nudge nudge(*backend, Roomy(), {});
  for (uint64_t user = 0; user < 3; ++user) nudge.Apply(user, {Op::kLesson, user});
  nudge.Apply(3, {Op::kBack, 2});
  BOOST_TEST(nudge.Holds("answer 1"));
  nudge.Apply(4, {Op::kForget, 1});
  BOOST_TEST(!nudge.Holds("answer 1"));
  BOOST_TEST(nudge.Holds("answer 0"));
}

BOOST_AUTO_TEST_CASE(learners_of_a_tenant_share_the_room_of_their_checkpoints) {
  const std::string bytes(100, 'x');
  CheckpointFile file("");
  CheckpointRoom room(file, 500);
  Checkpoints ada(room);
  Checkpoints bob(room);
  const auto count = [](const Checkpoints& checkpoints) {
    size_t kept = 0;
    for (LearningPlace place = 1; place <= 12; ++place) kept += checkpoints.Has(place) ? 1 : 0;
    return kept;
  };
  for (LearningPlace place = 1; place <= 8; ++place) ada.Put(place, place, bytes);
  BOOST_TEST(count(ada) == 5U);
  // Whoever has most gives way.
  bob.Put(9, 1, bytes);
  BOOST_TEST(count(ada) == 4U);
  bob.Put(10, 2, bytes);
  bob.Put(11, 3, bytes);
  BOOST_TEST(count(ada) + count(bob) == 5U);
  BOOST_TEST(count(bob) >= 2U);
  BOOST_TEST(ada.Has(8));
  BOOST_TEST(bob.Has(11));
  {
    Checkpoints cem(room);
    cem.Put(12, 1, bytes);
    BOOST_TEST(count(ada) + count(bob) == 4U);
  }
  // What is gone has made room.
  bob.Put(12, 4, bytes);
  BOOST_TEST(count(ada) + count(bob) == 5U);
}

BOOST_AUTO_TEST_CASE(of_a_learner_that_ends_nothing_is_saved) {
  const auto backend = MakeTemplateBackend({});
  CheckpointFile file("");
  CheckpointRoom room(file, TenantAdaptersOptions().checkpoint_bytes);
  TenantAdapters adapters(*backend, "acme", {}, room);
  std::map<std::pair<std::string, std::string>, std::string> saved;
  const auto save = [&] {
    Changes changes;
    adapters.Save(changes);
    for (const Change& change : changes) {
      saved.erase({change.kind, change.id});
      if (change.value) saved[{change.kind, change.id}] = *change.value;
    }
  };
  const std::string shown = "answer";
  const auto learn = [&](LearningPlace place) {
    const Lesson lesson{ExampleOf(place), {place, static_cast<Version>(place), false}, 0, {}};
    adapters.Begin(place, lesson, &shown);
    adapters.LearnNext(kSerial);
    return adapters.End(lesson, {}, kSerial).serves.digest();
  };
  const std::string first = learn(1);
  learn(2);
  save();
  BOOST_TEST(saved.size() == 5U);  // two texts, two results, the learner
  Lesson end{Return{}, {}, 0, {1, 2}};
  end.ends_learner = true;
  adapters.Begin(3, end, nullptr);
  BOOST_TEST(!adapters.Behind());
  adapters.End(end, {}, kSerial);
  BOOST_TEST(adapters.has_ended());
  save();
  BOOST_TEST(saved.empty());
  BOOST_TEST(learn(1) == first);  // as a new one
  BOOST_TEST(!adapters.has_ended());
  save();
  BOOST_TEST(saved.size() == 3U);
}

BOOST_AUTO_TEST_CASE(what_came_of_a_lesson_and_what_was_said_of_it_can_be_read) {
  const auto backend = MakeTemplateBackend({});
  CheckpointFile file("");
  CheckpointRoom room(file, TenantAdaptersOptions().checkpoint_bytes);
  TenantAdapters adapters(*backend, "acme", {}, room);
  Lesson lesson{ExampleOf(0), {1, 1, false}, 0, {}};
  std::get<LoggedExample>(lesson.what).comment = "as I said";
  std::get<LoggedExample>(lesson.what).question_bytes = 1;
  const std::string shown = "answer 0";
  adapters.Begin(1, lesson, &shown);
  adapters.LearnNext(kSerial);
  adapters.End(lesson, {}, kSerial);
  adapters.Begin(2, {ExampleOf(1), {2, 2, false}, 1, {}}, nullptr);  // never answered
  std::map<std::pair<std::string, std::string>, Change> entries;
  Changes changes;
  adapters.Save(changes);
  for (const Change& change : changes) entries[{change.kind, change.id}] = change;
  const auto kept = TenantAdapters::ReadJournal(entries[{"journal", RowId(1)}]);
  BOOST_REQUIRE(kept.has_value());
  BOOST_TEST(kept->comment == "as I said");
  BOOST_TEST(kept->example.question_bytes == 1U);
  BOOST_TEST(kept->example.shown == shown);
  const auto result = TenantAdapters::ReadResult(entries[{"lesson_result", RowId(1)}]);
  BOOST_REQUIRE(result.has_value());
  BOOST_TEST(result->report.accepted);
  BOOST_TEST(result->report.tokens == shown.size());
  const auto failed = TenantAdapters::ReadResult(entries[{"lesson_result", RowId(2)}]);
  BOOST_REQUIRE(failed.has_value());
  BOOST_TEST(failed->error == "the answer that the exercise speaks of was never given");
  BOOST_TEST((!entries.contains({"journal", RowId(2)})));
}

namespace {

// A learner whose gates say what the test says of each place; it learns nothing itself. It stands
// for a model's gates alone.
class Gatekeeper final : public BackendLearner {
 public:
  explicit Gatekeeper(const std::map<uint64_t, LessonReport>& reports) : reports_(reports) {}
  Result<LessonReport> Step(const TextExample& text, const ParallelFor&) override {
    return reports_.at(text.place);
  }
  Result<std::shared_ptr<const AdapterVersion>> Publish(const std::string&,
                                                        const ParallelFor&) override {
    return ImportOf(0);
  }
  Result<Nothing> Adopt(const AdapterVersion*) override { return Nothing{}; }
  std::string Save() const override { return "gatekeeper"; }

 private:
  const std::map<uint64_t, LessonReport>& reports_;
};

struct GatedTeacher final : Teacher {
  Result<Nothing> CanLearn() const override { return Nothing{}; }
  std::unique_ptr<BackendLearner> NewLearner(const TenantId&) override {
    return std::make_unique<Gatekeeper>(reports);
  }
  Result<std::unique_ptr<BackendLearner>> LoadLearner(const TenantId& tenant,
                                                      std::string_view) override {
    return NewLearner(tenant);
  }
  Result<std::shared_ptr<const AdapterVersion>> LoadVersion(std::string_view, const std::string&,
                                                            const std::string&,
                                                            const LearnCounts&) override {
    return ImportOf(0);
  }
  Result<std::shared_ptr<const AdapterVersion>> ImportVersion(const std::string&,
                                                              const std::string&) override {
    return ImportOf(0);
  }

  std::map<uint64_t, LessonReport> reports;  // by place
};

// What the outcome of each lesson tells, "place end" each; every third lesson writes a snapshot.
std::vector<std::string> Told(GatedTeacher& teacher, size_t lessons, bool restarts) {
  CheckpointFile file("");
  CheckpointRoom room(file, TenantAdaptersOptions().checkpoint_bytes);
  auto adapters = std::make_unique<TenantAdapters>(teacher, "acme", TenantAdaptersOptions{}, room);
  std::map<std::pair<std::string, std::string>, Change> entries;
  std::vector<std::string> told;
  for (uint64_t place = 1; place <= lessons; ++place) {
    const Lesson lesson{
        ExampleOf(place), {place, place, place % 3 == 0}, static_cast<Version>(place - 1), {}};
    const std::string shown = "answer";
    adapters->Begin(place, lesson, &shown);
    adapters->LearnNext(kSerial);
    std::string text;
    for (const LessonEnd& end : adapters->End(lesson, {}, kSerial).ends) {
      text += std::to_string(end.event + 1) + " " +
              std::string(kLessonEndNames[static_cast<size_t>(end.what)]) + "; ";
    }
    told.push_back(text);
    if (!restarts) continue;
    Changes changes;
    adapters->Save(changes);
    for (const Change& change : changes) entries[{change.kind, change.id}] = change;
    adapters = std::make_unique<TenantAdapters>(teacher, "acme", TenantAdaptersOptions{}, room);
    for (const auto& [key, entry] : entries) {
      if (entry.value) BOOST_REQUIRE(adapters->Load(entry).ok());
    }
  }
  return told;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_outcome_with_a_snapshot_tells_what_became_of_lessons_since_the_last_one) {
  GatedTeacher teacher;
  for (uint64_t place = 1; place <= 9; ++place) teacher.reports[place].accepted = true;
  for (const uint64_t place : {2, 4, 5}) {
    teacher.reports[place].accepted = false;
    teacher.reports[place].verdict = LessonVerdict::kUnfounded;
  }
  teacher.reports[6].learnt_after_all = 2;  // told already that it was set aside
  teacher.reports[7].refused_for_good = {4};
  const std::vector<std::string> expected = {
      "", "", "2 set_aside; ", "", "", "2 learnt_after_all; 4 set_aside; 5 set_aside; ",
      "", "", "4 refused; "};
  BOOST_TEST(Told(teacher, 9, false) == expected, boost::test_tools::per_element());
  BOOST_TEST(Told(teacher, 9, true) == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_too_much_for_one_outcome_is_told_by_the_next) {
  GatedTeacher teacher;
  for (uint64_t place = 1; place <= 201; ++place) {
    teacher.reports[place].verdict = LessonVerdict::kDamages;
  }
  size_t told = 0;
  for (const std::string& one : Told(teacher, 201, false)) {
    const auto count = static_cast<size_t>(std::count(one.begin(), one.end(), ';'));
    BOOST_TEST(count <= TenantAdapters::kEndsToldMost);
    told += count;
  }
  BOOST_TEST(told == 201U);
}

BOOST_AUTO_TEST_CASE(damaged_entries_are_refused) {
  const auto backend = MakeTemplateBackend({});
  CheckpointFile file("");
  CheckpointRoom room(file, TenantAdaptersOptions().checkpoint_bytes);
  TenantAdapters adapters(*backend, "acme", {}, room);
  const Lesson lesson{ExampleOf(0), {1, 1, false}, 0, {}};
  const std::string shown = "answer 0";
  adapters.Begin(1, lesson, &shown);
  adapters.LearnNext(kSerial);
  adapters.End(lesson, {}, kSerial);
  const Lesson import{Import{ImportOf(1)}, {2, 2, false}, 1, {}};
  adapters.Begin(2, import, nullptr);
  adapters.End(import, {}, kSerial);
  Changes changes;
  adapters.Save(changes);
  BOOST_TEST(changes.size() == 4U);
  for (const Change& entry : changes) {
    for (const std::optional<std::string>& damaged :
         {std::optional(entry.value->substr(0, entry.value->size() - 1)),
          std::optional(*entry.value + "x"), std::optional<std::string>()}) {
      TenantAdapters fresh(*backend, "acme", {}, room);
      BOOST_TEST(!fresh.Load({entry.tenant, entry.kind, entry.id, damaged}).ok(), entry.kind);
    }
  }
}
