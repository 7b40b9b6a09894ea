#include "pipeline/bench/bench_serve.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "pipeline/bench/bench_rates.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/model/forwarding_backend.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRepeats = 3;
constexpr int kLoadShare = 4;  // answers take 1/4 of one thread, so that the load stays a load
constexpr uint32_t kLoadTokens = 8;   // of each answer of the steady load
constexpr size_t kPromptWords = 150;  // ~200 tokens
constexpr size_t kLoadWords = 30;

double Ms(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

template <class Body>
double MedianMs(const Body& body) {
  std::vector<double> times;
  for (int i = 0; i < kRepeats; ++i) times.push_back(MsOf(body));
  return Median(std::move(times));
}

// Notes when each answer began, and how many are being written.
class WatchedBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    if (seed < starts_.size()) starts_[seed] = Clock::now();
    ++answering;
    auto given = ForwardingBackend::Generate(slot, chat, adapter, decoding, seed, asker);
    --answering;
    return given;
  }
  Clock::time_point start(uint64_t seed) const { return starts_[seed]; }
  std::atomic<size_t> answering{0};

 private:
  std::array<Clock::time_point, 1000> starts_{};  // by seed, each written once
};

void CheckLetter(const Outcome& outcome) {
  const auto* letter = std::get_if<DeadLetter>(&outcome.what);
  if (letter != nullptr) throw StartError(letter->error.message);
}

Plan PlanAnswer(const TenantId& tenant, std::vector<ChatMessage> chat, Version adapter,
                uint32_t tokens, uint64_t seed) {
  Plan plan;
  plan.outcome.tenant = tenant;
  plan.outcome.what = Response{};
  Decoding decoding;
  decoding.max_tokens = tokens;
  plan.generate = Generate{std::move(chat), adapter, decoding, seed};
  return plan;
}

Plan PlanLesson(uint64_t number, bool correction) {
  Plan plan;
  plan.outcome.tenant = "learns";
  plan.outcome.what = Applied{};
  LoggedExample logged;
  logged.chat = RandomChat(kPromptWords, number);
  logged.shown = RandomWords(16, 1000 + number);
  if (correction) logged.correction = RandomWords(16, 2000 + number);
  logged.reward = correction ? 0 : 1;
  plan.lessons.push_back(Lesson{std::move(logged),
                                {number, static_cast<Version>(number), false},
                                static_cast<Version>(number - 1),
                                {}});
  plan.waits_for_lessons = true;
  return plan;
}

// Submits and waits. The time until it is done.
double Do(Executor& executor, Sequence at, Plan plan) {
  std::promise<Outcome> done;
  const auto start = Clock::now();
  executor.Submit(at, std::move(plan), nullptr,
                  [&](Outcome outcome) { done.set_value(std::move(outcome)); });
  const Outcome outcome = done.get_future().get();
  CheckLetter(outcome);
  return Ms(Clock::now() - start);
}

// Somebody who asks once a period, whether the last answer is there or not.
class Load {
 public:
  Load(Executor& executor, size_t threads, WatchedBackend& backend, Clock::duration period,
       uint64_t first_seed)
      : executor_(executor),
        threads_(threads),
        backend_(backend),
        first_seed_(first_seed),
        seed_(first_seed) {
    thread_ = std::jthread([this, period](const std::stop_token& stop) {
      for (auto next = Clock::now(); !stop.stop_requested(); next += period) {
        std::this_thread::sleep_until(next);
        Ask();
      }
    });
  }

  struct Times {
    std::vector<double> wait_ms;  // of those that did not wait for other answers
    std::vector<double> latency_ms;
  };
  // Ends it and waits for its answers.
  Times Finish() {
    thread_.request_stop();
    thread_.join();
    while (answered_ < seed_ - first_seed_)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const std::lock_guard lock(mutex_);
    return times_;
  }

 private:
  void Ask() {
    const uint64_t seed = seed_++;
    const bool lessons_alone = backend_.answering < threads_;
    const auto asked = Clock::now();
    executor_.Submit(Sequence::Of(0, 1'000'000 + seed),
                     PlanAnswer("asks", RandomChat(kLoadWords, seed), 0, kLoadTokens, seed),
                     nullptr, [this, seed, asked, lessons_alone](const Outcome&) {
                       const std::lock_guard lock(mutex_);
                       if (lessons_alone) {
                         times_.wait_ms.push_back(Ms(backend_.start(seed) - asked));
                       }
                       times_.latency_ms.push_back(Ms(Clock::now() - asked));
                       ++answered_;
                     });
  }

  Executor& executor_;
  const size_t threads_;
  WatchedBackend& backend_;
  const uint64_t first_seed_;
  std::atomic<uint64_t> seed_;
  std::atomic<uint64_t> answered_{0};
  std::mutex mutex_;
  Times times_;
  std::jthread thread_;
};

struct Feedbacks {
  std::vector<double> lesson_ms, changed_ms;
};

// Each feedback is learnt, then the same question is asked: until the answer's first token.
Feedbacks Learn(Executor& executor, uint64_t& number, int lessons, bool correction) {
  Feedbacks times;
  for (int i = 0; i < lessons && !stop_requested; ++i) {
    const uint64_t at = ++number;
    const double lesson_ms = Do(executor, Sequence::Of(0, 2 * at), PlanLesson(at, correction));
    const double answer_ms =
        Do(executor, Sequence::Of(0, 2 * at + 1),
           PlanAnswer("learns", RandomChat(kPromptWords, at), static_cast<Version>(at), 1, 0));
    times.lesson_ms.push_back(lesson_ms);
    times.changed_ms.push_back(lesson_ms + answer_ms);
  }
  return times;
}

void Print(const char* what, const Feedbacks& times, double bound_ms) {
  std::printf("  %-34s %8.0f %8.0f %11.0f %8.0f", what, Quantile(times.lesson_ms, .5),
              Quantile(times.lesson_ms, .95), Quantile(times.changed_ms, .5),
              Quantile(times.changed_ms, .95));
  std::printf(" %11.0f %8.2f\n", bound_ms, Quantile(times.changed_ms, .5) / bound_ms);
}

void PrintLoad(const char* what, const Load::Times& times) {
  std::printf("  %-34s %8zu %10.1f %8.1f %8.1f %12.0f %8.0f\n", what, times.latency_ms.size(),
              Quantile(times.wait_ms, .5), Quantile(times.wait_ms, .95), Quantile(times.wait_ms, 1),
              Quantile(times.latency_ms, .5), Quantile(times.latency_ms, .95));
}

// What a new version costs the server.
void PrintHandOver(Backend& backend, size_t threads) {
  const auto learner = backend.NewLearner("published");
  const ParallelFor side_by_side = [&](int parts, const std::function<void(int)>& part) {
    std::atomic<int> next{0};
    const auto work = [&] {
      for (int i; (i = next++) < parts;) part(i);
    };
    std::vector<std::jthread> others;
    for (size_t i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  };
  const double publish_ms = MedianMs([&] {
    const auto version = learner->Publish("base", side_by_side);
    if (!version.ok()) throw StartError(version.error().message);
  });
  std::printf("  hand-over of a new version to the server: %.1f ms; peak memory %.0f MB\n",
              publish_ms, PeakMegabytes());
}

int BenchFeedback(const Config& config, const ServeLimits& limits, int lessons, Backend& backend) {
  WatchedBackend watched(backend);
  ExecutorOptions options;
  options.threads = config.processor.executor.threads;
  std::mutex mutex;
  std::vector<double> rows;
  Executor executor(watched, options,
                    [&](const LessonEvent& lesson) {
                      const std::lock_guard lock(mutex);
                      rows.push_back(lesson.done.report.tokens);
                    },
                    {});
  uint64_t number = 0;
  for (int i = 0; i < 2; ++i) {  // warms up, and gives the replay something
    ++number;
    Do(executor, Sequence::Of(0, 2 * number), PlanLesson(number, false));
  }
  const double prefill_ms = MedianMs([&] {
    Do(executor, Sequence::Of(0, 1),
       PlanAnswer("learns", RandomChat(kPromptWords, 9), static_cast<Version>(number), 1, 0));
  });
  // Two products of every weight with every row of a step, and of one with the rows of a down.
  const auto bound = [&](double base_rows) {
    const std::lock_guard lock(mutex);
    const double step_rows = Quantile(rows, .5);
    rows.clear();
    return (4 * step_rows + 2 * base_rows) * static_cast<double>(limits.layer_weights) /
               limits.gflops / 1e6 +
           prefill_ms;
  };
  const double prompt_rows = static_cast<double>(backend.CountTokens(RandomChat(kPromptWords, 9)));
  std::printf(
      "feedback: prompt of %.0f tokens, %u replayed, %u anchors, %zu threads; ms from the "
      "feedback\n"
      "  the bound: the step's frozen products at their limit, and one prefill of the prompt\n"
      "  %-34s %8s %8s %11s %8s %11s %8s\n",
      prompt_rows, config.model.local.learner.replay_per_lesson,
      config.model.local.learner.anchors_per_step, options.threads, "", "learnt", "p95",
      "new answer", "p95", "bound", "ratio");
  rows.clear();
  const Feedbacks ups = Learn(executor, number, lessons, false);
  Print("thumb up, alone", ups, bound(0));
  const Feedbacks corrections = Learn(executor, number, lessons, true);
  Print("correction, alone", corrections, bound(prompt_rows));

  const double load_ms = MedianMs([&] {
    Do(executor, Sequence::Of(0, 2),
       PlanAnswer("asks", RandomChat(kLoadWords, 8), 0, kLoadTokens, 0));
  });
  const auto period = std::chrono::milliseconds(std::llround(kLoadShare * load_ms));
  Load idle(executor, options.threads, watched, period, 100);
  std::this_thread::sleep_for(period * lessons);
  const Load::Times without = idle.Finish();
  Load busy(executor, options.threads, watched, period, 300);
  const Feedbacks loaded = Learn(executor, number, lessons, false);
  const Load::Times with = busy.Finish();
  Print("thumb up, while others ask", loaded, bound(0));
  std::printf(
      "  others ask every %lld ms for %u tokens; waits of those who did not wait for other "
      "answers; ms\n  %-34s %8s %10s %8s %8s %12s %8s\n",
      static_cast<long long>(period.count()), kLoadTokens, "", "answers", "wait p50", "p95", "most",
      "answer p50", "p95");
  PrintLoad("without lessons", without);
  PrintLoad("with lessons", with);

  PrintHandOver(backend, options.threads);
  executor.Stop();
  return stop_requested ? kExitInterrupted : kExitDone;
}

}  // namespace

int BenchServe(const Config& config, const ServeLimits& limits, int lessons,
               const LlamaBench* beside) {
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  if (const auto can = backend->CanLearn(); !can.ok()) throw StartError(can.error().message);
  BenchRates(config, limits, *backend, beside);
  if (stop_requested) return kExitInterrupted;
  return lessons == 0 ? kExitDone : BenchFeedback(config, limits, lessons, *backend);
}

}  // namespace nudge
