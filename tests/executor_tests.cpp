// labels: graph
// Who gets a thread: nobody waits behind all that another tenant has queued. Lessons give their
// threads to answers and queries that find none free, and lose nothing by it.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "pipeline/executor.h"
#include "stages/model/forwarding_backend.h"
#include "stages/model/template_backend.h"
#include "tests/trainer_helpers.h"

using namespace nudge;
using namespace nudge::testing;
using namespace std::chrono_literals;

namespace {

constexpr auto kDeadline = 60s;  // turns a hang into a failure

// A backend with threads whose lessons and answers are what a test makes of them.
class ScriptedBackend final : public ForwardingBackend {
 public:
  using Lesson = std::function<void(const ParallelFor&)>;

  explicit ScriptedBackend(Backend& to, Lesson lesson)
      : ForwardingBackend(to), lesson_(std::move(lesson)) {}

  std::unique_ptr<BackendLearner> NewLearner(const TenantId& tenant) override {
    return std::make_unique<Learner>(ForwardingBackend::NewLearner(tenant), lesson_);
  }
  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    ++answers_begun;
    return ForwardingBackend::Generate(slot, chat, adapter, decoding, seed, asker);
  }
  Result<Vector> Embed(size_t slot, std::string_view text, bool as_query) override {
    ++(as_query ? queries_begun : documents_begun);
    return ForwardingBackend::Embed(slot, text, as_query);
  }

  std::atomic<int> answers_begun{0}, queries_begun{0}, documents_begun{0};

 private:
  class Learner final : public BackendLearner {
   public:
    Learner(std::unique_ptr<BackendLearner> to, Lesson lesson)
        : to_(std::move(to)), lesson_(std::move(lesson)) {}
    Result<LessonReport> Step(const TextExample& text, const ParallelFor& parallel_for) override {
      lesson_(parallel_for);
      return to_->Step(text, parallel_for);
    }
    Result<std::shared_ptr<const AdapterVersion>> Publish(const std::string& parent,
                                                          const ParallelFor& parallel) override {
      return to_->Publish(parent, parallel);
    }
    Result<Nothing> Adopt(const AdapterVersion* version) override { return to_->Adopt(version); }
    std::string Save() const override { return to_->Save(); }

   private:
    std::unique_ptr<BackendLearner> to_;
    const Lesson lesson_;
  };

  const Lesson lesson_;
};

Plan AnAnswer(const TenantId& tenant) {
  Plan plan;
  plan.outcome.tenant = tenant;
  plan.outcome.what = Response{};
  plan.generate = Generate{{{"user", "a question"}}, 0, {}, 1};
  return plan;
}

Plan ALesson(const TenantId& tenant, uint64_t number) {
  Plan plan;
  plan.outcome.tenant = tenant;
  plan.outcome.what = Applied{};
  LoggedExample logged;
  logged.chat = {{"user", "a question"}};
  logged.shown = "an answer";
  logged.reward = 1;
  plan.lessons.push_back(Lesson{std::move(logged),
                                {number, static_cast<Version>(number), false},
                                static_cast<Version>(number - 1),
                                {}});
  plan.waits_for_lessons = true;
  return plan;
}

// The outcome, once it is there.
std::future<Outcome> Ask(Executor& executor, uint64_t ordinal, Plan plan) {
  auto promise = std::make_shared<std::promise<Outcome>>();
  std::future<Outcome> future = promise->get_future();
  auto now = executor.Submit(Sequence::Of(0, ordinal), std::move(plan), nullptr,
                             [=](Outcome outcome) { promise->set_value(std::move(outcome)); });
  if (now) promise->set_value(std::move(*now));
  return future;
}

std::string Nth(std::string name, uint64_t number) {
  return name.append(std::to_string(number));
}

// What was done, in that order, by an executor of one thread whose first call waits until all is
// queued.
class InTurn {
 public:
  explicit InTurn(ScriptedBackend::Lesson lesson)
      : words_(MakeTemplateBackend(
            {.dimension = 8, .instant = false, .before_each_call = [this] { Enter(); }})),
        backend_(*words_,
                 [this, lesson = std::move(lesson)](const ParallelFor& parallel) {
                   Enter();
                   lesson(parallel);
                 }),
        executor_(backend_, {.threads = 1}, {}, {}) {}

  void Add(const std::string& name, int32_t partition, Plan plan) {
    ++left_;
    auto now = executor_.Submit(Sequence::Of(partition, ordinal_++), std::move(plan), nullptr,
                                [this, name](const Outcome&) { Note(name); });
    if (now) Note(name);
    BOOST_REQUIRE((begun_.wait_for(kDeadline) == std::future_status::ready));
  }
  void Embed(const std::string& name, int32_t partition, bool as_query) {
    ++left_;
    executor_.EmbedTexts(Sequence::Of(partition, ordinal_++), {name}, as_query,
                         [this, name](const Executor::Vectors&) { Note(name); });
  }

  // At which place `name` was done, counted from 0, once everything is.
  size_t PlaceOf(const std::string& name) {
    if (!all_queued_) open_.set_value();
    all_queued_ = true;
    BOOST_REQUIRE((all_done_.wait_for(kDeadline) == std::future_status::ready));
    const auto found = std::find(names_.begin(), names_.end(), name);
    return static_cast<size_t>(found - names_.begin());
  }

 private:
  void Enter() {
    if (!entered_.exchange(true)) first_.set_value();
    opened_.wait_for(kDeadline);
  }
  void Note(const std::string& name) {
    names_.push_back(name);
    if (--left_ == 0) done_.set_value();
  }

  std::promise<void> first_, open_, done_;
  const std::shared_future<void> begun_ = first_.get_future().share();
  const std::shared_future<void> opened_ = open_.get_future().share();
  const std::shared_future<void> all_done_ = done_.get_future().share();
  std::atomic<bool> entered_{false};
  std::atomic<int> left_{0};
  bool all_queued_ = false;
  uint64_t ordinal_ = 0;
  std::vector<std::string> names_;  // by the executor's one thread, until all is done
  const std::unique_ptr<Backend> words_;
  ScriptedBackend backend_;
  Executor executor_;
};

// Parts of 1 ms until `enough`, or the deadline.
void LearnUntil(const ParallelFor& parallel, const std::function<bool()>& enough) {
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!enough() && std::chrono::steady_clock::now() < end) {
    parallel(4, [](int) { std::this_thread::sleep_for(1ms); });
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_answer_and_a_query_begin_while_every_thread_learns) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  for (const size_t threads : {size_t{1}, size_t{2}}) {
    std::promise<void> learning;
    std::atomic<bool> told{false};
    std::atomic<bool> answered_before_the_end{false};
    ScriptedBackend* watched = nullptr;
    ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
      if (!told.exchange(true)) learning.set_value();
      LearnUntil(parallel,
                 [&] { return watched->answers_begun > 0 && watched->queries_begun > 0; });
      answered_before_the_end = watched->answers_begun > 0 && watched->queries_begun > 0;
    });
    watched = &backend;
    ExecutorOptions options;
    options.threads = threads;
    Executor executor(backend, options, {}, {});
    // Tenants that learn at once, one for each thread.
    std::vector<std::future<Outcome>> lessons;
    for (size_t i = 0; i < threads; ++i) {
      lessons.push_back(Ask(executor, i, ALesson("learns " + std::to_string(i), 1)));
    }
    BOOST_REQUIRE((learning.get_future().wait_for(kDeadline) == std::future_status::ready));
    std::promise<void> embedded;
    executor.EmbedTexts(Sequence::Of(0, 50), {"a query"}, true,
                        [&](const Executor::Vectors&) { embedded.set_value(); });
    std::future<Outcome> answer = Ask(executor, 100, AnAnswer("asks"));
    BOOST_TEST((answer.wait_for(kDeadline) == std::future_status::ready));
    BOOST_TEST((embedded.get_future().wait_for(kDeadline) == std::future_status::ready));
    for (std::future<Outcome>& lesson : lessons) {
      BOOST_TEST((lesson.wait_for(kDeadline) == std::future_status::ready));
    }
    BOOST_TEST(answered_before_the_end);
  }
}

BOOST_AUTO_TEST_CASE(nobody_waits_behind_all_that_another_tenant_has_asked) {
  InTurn jobs({});
  for (uint64_t i = 0; i < 100; ++i) jobs.Add(Nth("a", i), 0, AnAnswer("a"));
  for (uint64_t i = 0; i < 20; ++i) jobs.Embed(Nth("query of a ", i), 0, true);
  jobs.Embed("document", 1, false);
  jobs.Embed("query", 2, true);
  jobs.Add("answer", 2, AnAnswer("c"));
  jobs.Add("answer of a's partition", 0, AnAnswer("d"));
  // Six wait in rounds, and the first answer began before they came: the rounds' next seven.
  for (const char* name : {"document", "query", "answer", "answer of a's partition"}) {
    BOOST_TEST(jobs.PlaceOf(name) <= 7U);
  }
  for (uint64_t i = 1; i < 100; ++i) {  // a tenant's own order stays
    BOOST_TEST(jobs.PlaceOf(Nth("a", i - 1)) < jobs.PlaceOf(Nth("a", i)));
  }
}

BOOST_AUTO_TEST_CASE(documents_of_one_partition_do_not_keep_those_of_another_waiting) {
  InTurn jobs({});
  jobs.Add("first", 0, AnAnswer("a"));
  for (uint64_t i = 0; i < 50; ++i) jobs.Embed(Nth("b", i), 1, false);
  jobs.Embed("document", 2, false);
  jobs.Add("answer", 3, AnAnswer("c"));
  BOOST_TEST(jobs.PlaceOf("document") <= 3U);
  BOOST_TEST(jobs.PlaceOf("answer") <= 3U);
}

BOOST_AUTO_TEST_CASE(a_lesson_waits_for_one_lesson_of_a_tenant_that_has_many_queued) {
  InTurn jobs([](const ParallelFor&) {});
  for (uint64_t i = 1; i <= 100; ++i) jobs.Add(Nth("a", i), 0, ALesson("a", i));
  jobs.Add("lesson", 0, ALesson("d", 1));
  BOOST_TEST(jobs.PlaceOf("lesson") <= 2U);
}

BOOST_AUTO_TEST_CASE(between_two_lessons_somebody_else_has_a_turn) {
  InTurn jobs([](const ParallelFor&) {});  // without a loop in which it could give way
  for (uint64_t i = 1; i <= 100; ++i) jobs.Add(Nth("a", i), 0, ALesson("a", i));
  jobs.Embed("document", 1, false);
  jobs.Add("answer", 2, AnAnswer("c"));
  BOOST_TEST(jobs.PlaceOf("document") <= 4U);
  BOOST_TEST(jobs.PlaceOf("answer") <= 4U);
  BOOST_TEST(jobs.PlaceOf("a2") <= 4U);
}

// A document that comes while a lesson has the only thread, until both are done. `come`: once the
// document is queued.
void EmbedBesideALesson(Backend& backend, std::promise<void>& learning,
                        const std::function<void()>& come) {
  ExecutorOptions options;
  options.threads = 1;
  Executor executor(backend, options, {}, {});
  std::future<Outcome> lesson = Ask(executor, 0, ALesson("learns", 1));
  BOOST_REQUIRE((learning.get_future().wait_for(kDeadline) == std::future_status::ready));
  std::promise<void> embedded;
  executor.EmbedTexts(Sequence::Of(0, 1), {"a document"}, false,
                      [&](const Executor::Vectors&) { embedded.set_value(); });
  come();
  BOOST_TEST((embedded.get_future().wait_for(kDeadline) == std::future_status::ready));
  BOOST_TEST((lesson.wait_for(kDeadline) == std::future_status::ready));
}

BOOST_AUTO_TEST_CASE(a_document_waits_for_the_lesson_that_has_the_only_thread) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  std::promise<void> learning;
  std::atomic<bool> submitted{false};
  std::atomic<int> documents_before_the_end{-1};
  ScriptedBackend* watched = nullptr;
  ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
    learning.set_value();
    LearnUntil(parallel, [&] { return submitted.load(); });
    for (int i = 0; i < 10; ++i) parallel(4, [](int) { std::this_thread::sleep_for(1ms); });
    documents_before_the_end = watched->documents_begun.load();
  });
  watched = &backend;
  EmbedBesideALesson(backend, learning, [&] { submitted = true; });
  BOOST_TEST(documents_before_the_end == 0);
}

BOOST_AUTO_TEST_CASE(a_document_does_not_wait_for_the_end_of_a_lesson_that_takes_long) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  std::promise<void> learning;
  std::atomic<int> documents_before_the_end{-1};
  ScriptedBackend* watched = nullptr;
  ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
    learning.set_value();
    const auto end = std::chrono::steady_clock::now() + 15s;
    LearnUntil(parallel, [&] {
      return watched->documents_begun > 0 || std::chrono::steady_clock::now() > end;
    });
    documents_before_the_end = watched->documents_begun.load();
  });
  watched = &backend;
  EmbedBesideALesson(backend, learning, [] {});
  BOOST_TEST(documents_before_the_end == 1);
}

BOOST_AUTO_TEST_CASE(a_lesson_goes_on_while_more_answers_wait_than_threads_can_give) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  constexpr int kLessonParts = 100;
  std::promise<void> learning;
  std::atomic<bool> learnt{false};
  ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
    learning.set_value();
    parallel(kLessonParts, [](int) { std::this_thread::sleep_for(1ms); });
    learnt = true;
  });
  ExecutorOptions options;
  options.threads = 1;
  Executor executor(backend, options, {}, {});
  std::future<Outcome> lesson = Ask(executor, 0, ALesson("learns", 1));
  BOOST_REQUIRE((learning.get_future().wait_for(kDeadline) == std::future_status::ready));
  // An answer is asked for as soon as one is given: the queue is never empty while it learns.
  uint64_t ordinal = 1;
  std::deque<std::future<Outcome>> answers;
  for (int i = 0; i < 3; ++i) answers.push_back(Ask(executor, ordinal++, AnAnswer("asks")));
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!learnt && std::chrono::steady_clock::now() < end) {
    BOOST_REQUIRE((answers.front().wait_for(kDeadline) == std::future_status::ready));
    answers.pop_front();
    answers.push_back(Ask(executor, ordinal++, AnAnswer("asks")));
  }
  BOOST_TEST(learnt);
  BOOST_TEST((lesson.wait_for(kDeadline) == std::future_status::ready));
}

BOOST_AUTO_TEST_CASE(a_lesson_begins_while_more_answers_wait_than_threads_can_give) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  for (const size_t threads : {size_t{1}, size_t{2}}) {
    std::atomic<bool> learnt{false};
    ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
      parallel(20, [](int) { std::this_thread::sleep_for(1ms); });
      learnt = true;
    });
    ExecutorOptions options;
    options.threads = threads;
    Executor executor(backend, options, {}, {});
    // Answers that ask for the next one before they are given: their queue is never empty.
    std::atomic<uint64_t> ordinal{1};
    std::atomic<bool> over{false};
    std::atomic<int> asking{0};
    const std::function<void()> ask = [&] {
      ++asking;
      bool given = true;  // already when it was asked for: then nobody is told
      while (given && !over) {
        given = executor
                    .Submit(Sequence::Of(0, ordinal++), AnAnswer("asks"), nullptr,
                            [&](const Outcome&) {
                              ask();
                              --asking;
                            })
                    .has_value();
      }
      if (given) --asking;
    };
    for (size_t i = 0; i < 2 * threads + 1; ++i) ask();
    std::future<Outcome> lesson = Ask(executor, 1'000'000'000, ALesson("learns", 1));
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (!learnt && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    BOOST_TEST(learnt);
    BOOST_TEST_MESSAGE("answers begun before the lesson's end: " << backend.answers_begun);
    over = true;
    BOOST_TEST((lesson.wait_for(kDeadline) == std::future_status::ready));
    while (asking > 0 && std::chrono::steady_clock::now() < end + kDeadline) {
      std::this_thread::sleep_for(1ms);
    }
    BOOST_TEST(asking == 0);
  }
}

BOOST_AUTO_TEST_CASE(lessons_of_several_tenants_go_one_by_one_and_hold_one_thread) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  constexpr size_t kTenants = 5;
  std::atomic<int> learning{0}, most{0};
  ScriptedBackend* watched = nullptr;
  std::atomic<size_t> answered_during{0};
  ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
    most = std::max(most.load(), ++learning);
    const int before = watched->answers_begun;
    LearnUntil(parallel, [&] { return watched->answers_begun > before; });
    answered_during += watched->answers_begun > before;
    --learning;
  });
  watched = &backend;
  ExecutorOptions options;
  options.threads = 2;
  Executor executor(backend, options, {}, {});
  std::vector<std::future<Outcome>> lessons;
  for (size_t i = 0; i < kTenants; ++i) {
    lessons.push_back(Ask(executor, i, ALesson("learns " + std::to_string(i), 1)));
  }
  uint64_t ordinal = 100;
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (answered_during < kTenants && std::chrono::steady_clock::now() < end) {
    BOOST_REQUIRE((Ask(executor, ordinal++, AnAnswer("asks")).wait_for(kDeadline) ==
                   std::future_status::ready));
  }
  for (std::future<Outcome>& lesson : lessons) {
    BOOST_TEST((lesson.wait_for(kDeadline) == std::future_status::ready));
  }
  BOOST_TEST(answered_during == kTenants);
  BOOST_TEST(most == 1);
}

BOOST_AUTO_TEST_CASE(a_gradient_has_the_same_bytes_with_and_without_answers_in_between) {
  TinyLlama model;
  model.Fill(5);
  const TemporaryFile file("executor.gguf");
  model.Write(file.path());
  auto weights = FrozenWeights::Load(file.path());
  BOOST_REQUIRE(weights.ok());
  const LoraWeights adapter = RandomAdapter((*weights)->AdapterShape(4, 8, kAllModules), 6, 0.05f);
  TrainSequence sequence;
  sequence.tokens = RandomTokens(150, model.vocabulary, 7);
  sequence.completion_begin = 100;
  const auto gradient_of = [&](const ParallelFor& parallel) {
    Trainer trainer(*weights, {.max_tokens = 200, .max_rank = 4});
    std::vector<float> gradient(adapter.values.size());
    const auto losses = trainer.Gradients(adapter, {&sequence, 1}, parallel, gradient);
    return losses.ok() ? gradient : std::vector<float>();  // no check of Boost's: any thread calls
  };
  const std::vector<float> alone = gradient_of(SerialFor());
  BOOST_REQUIRE(!alone.empty());

  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8});
  for (const size_t threads : {size_t{1}, size_t{2}, size_t{4}}) {
    std::promise<void> learning;
    int steps = 0;
    int same = 0;
    ScriptedBackend* watched = nullptr;
    ScriptedBackend backend(*words, [&](const ParallelFor& parallel) {
      learning.set_value();
      LearnUntil(parallel, [&] {
        ++steps;
        same += gradient_of(parallel) == alone;
        return watched->answers_begun >= 5;
      });
    });
    watched = &backend;
    ExecutorOptions options;
    options.threads = threads;
    Executor executor(backend, options, {}, {});
    std::future<Outcome> lesson = Ask(executor, 0, ALesson("learns", 1));
    BOOST_REQUIRE((learning.get_future().wait_for(kDeadline) == std::future_status::ready));
    for (uint64_t i = 1; i <= 5; ++i) {
      std::future<Outcome> answer = Ask(executor, i, AnAnswer("asks"));
      BOOST_TEST((answer.wait_for(kDeadline) == std::future_status::ready));
    }
    BOOST_REQUIRE((lesson.wait_for(kDeadline) == std::future_status::ready));
    BOOST_TEST(steps > 0);
    BOOST_TEST(same == steps);
  }
}

// ---- Answers that are computed together ---------------------------------------------------------

namespace {

// A backend whose answers come once a test lets them.
class TogetherBackend final : public ForwardingBackend {
 public:
  TogetherBackend(Backend& to, size_t together) : ForwardingBackend(to), together_(together) {}

  size_t answers_together() const override { return together_; }
  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    most = std::max(most.load(), ++waiting);
    while (!let && !asker.cancelled()) std::this_thread::sleep_for(1ms);
    --waiting;
    if (asker.cancelled()) return Error{Code::kModelFailed, "cancelled", ""};
    {
      const std::lock_guard lock(mutex_);
      (asker.forgotten() ? forgotten_ : kept_).insert(asker.tenant + " " + std::to_string(seed));
    }
    return ForwardingBackend::Generate(slot, chat, adapter, decoding, seed, asker);
  }
  void ForgetTexts(const TenantId& tenant) override { forgets.push_back(tenant); }

  // Of all answers that were given: tenant and seed.
  std::set<std::string> forgotten() const { return forgotten_; }
  std::set<std::string> kept() const { return kept_; }

  std::atomic<int> waiting{0}, most{0};
  std::atomic<bool> let{false};
  std::vector<TenantId> forgets;

 private:
  const size_t together_;
  std::mutex mutex_;
  std::set<std::string> forgotten_, kept_;
};

bool WaitFor(const std::function<bool()>& what) {
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!what() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  return what();
}

Plan AnAnswer(const TenantId& tenant, uint64_t seed) {
  Plan plan = AnAnswer(tenant);
  plan.generate->seed = seed;
  return plan;
}

}  // namespace

BOOST_AUTO_TEST_CASE(answers_that_are_computed_together_take_no_thread_from_lessons_and_queries) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8, .instant = false});
  TogetherBackend backend(*words, 3);
  Executor executor(backend, {.threads = 1}, {}, {});
  std::vector<std::future<Outcome>> answers;
  for (uint64_t i = 0; i < 8; ++i) answers.push_back(Ask(executor, i, AnAnswer("asks", i)));
  BOOST_TEST(WaitFor([&] { return backend.waiting == 3; }));
  BOOST_TEST(executor.running().size() == 3U);
  BOOST_TEST(executor.waiting_jobs()[static_cast<size_t>(JobKind::kGenerate)] == 5U);
  auto lesson = Ask(executor, 100, ALesson("learns", 1));
  BOOST_TEST((lesson.wait_for(kDeadline) == std::future_status::ready));
  std::promise<void> embedded;
  executor.EmbedTexts(Sequence::Of(0, 50), {"a query"}, true,
                      [&](const Executor::Vectors&) { embedded.set_value(); });
  BOOST_TEST((embedded.get_future().wait_for(kDeadline) == std::future_status::ready));
  backend.let = true;
  for (std::future<Outcome>& answer : answers) {
    BOOST_REQUIRE((answer.wait_for(kDeadline) == std::future_status::ready));
    BOOST_TEST(std::holds_alternative<Response>(answer.get().what));
  }
  BOOST_TEST(backend.most == 3);
}

BOOST_AUTO_TEST_CASE(a_stop_ends_answers_that_wait_together_and_drops_those_behind_them) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8, .instant = false});
  TogetherBackend backend(*words, 2);
  Executor executor(backend, {.threads = 1}, {}, {});
  std::vector<std::future<Outcome>> answers;
  for (uint64_t i = 0; i < 4; ++i) answers.push_back(Ask(executor, i, AnAnswer("asks", i)));
  BOOST_TEST(WaitFor([&] { return backend.waiting == 2; }));
  executor.Stop();
  BOOST_TEST(backend.waiting == 0);
  for (std::future<Outcome>& answer : answers) {  // nobody is told, and nothing keeps the promise
    BOOST_REQUIRE((answer.wait_for(kDeadline) == std::future_status::ready));
    BOOST_CHECK_THROW(answer.get(), std::future_error);
  }
}

BOOST_AUTO_TEST_CASE(a_forget_reaches_the_backend_and_every_question_from_before_it) {
  const std::unique_ptr<Backend> words = MakeTemplateBackend({.dimension = 8, .instant = false});
  TogetherBackend backend(*words, 2);
  Executor executor(backend, {.threads = 1}, {}, {});
  std::vector<std::future<Outcome>> answers;
  // The third waits in the queue while the tenant is forgotten.
  for (uint64_t i = 0; i < 3; ++i) answers.push_back(Ask(executor, i, AnAnswer("ada", i)));
  answers.push_back(Ask(executor, 3, AnAnswer("bob", 3)));
  BOOST_TEST(WaitFor([&] { return backend.waiting == 2; }));
  Plan forget;
  forget.outcome.tenant = "ada";
  forget.outcome.what = Applied{};
  forget.forgets = true;
  BOOST_TEST((Ask(executor, 4, forget).wait_for(kDeadline) == std::future_status::ready));
  answers.push_back(Ask(executor, 5, AnAnswer("ada", 5)));
  BOOST_TEST(backend.forgets == std::vector<TenantId>{"ada"});
  backend.let = true;
  for (std::future<Outcome>& answer : answers) {
    BOOST_REQUIRE((answer.wait_for(kDeadline) == std::future_status::ready));
  }
  BOOST_TEST((backend.forgotten() == std::set<std::string>{"ada 0", "ada 1", "ada 2"}));
  BOOST_TEST((backend.kept() == std::set<std::string>{"ada 5", "bob 3"}));
  executor.Abandon(0);
  BOOST_TEST((backend.forgets == std::vector<TenantId>{"ada", "ada", "bob"}));
}
