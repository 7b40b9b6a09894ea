#include "pipeline/bench/bench_questions.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "pipeline/bench/bench_tools.h"
#include "pipeline/executor.h"
#include "pipeline/stop_requested.h"
#include "stages/model/local_backend.h"
#include "stages/model/loop_threads.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;
using Chat = std::vector<ChatMessage>;

constexpr int32_t kAsks = 0, kLearns = 1;  // partitions
constexpr size_t kShownWords = 16;
constexpr char kTask[] = ". Write a long story with all of these words.";

// What comes of one plan.
struct Given {
  double ms = 0;
  Outcome outcome;
};

// Nothing once a stop is requested, or the executor is stopped.
std::optional<Given> WaitFor(std::future<Given> given) {
  while (given.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
    if (stop_requested) return std::nullopt;
  }
  try {
    return given.get();
  } catch (const std::future_error&) {  // the executor dropped it
    return std::nullopt;
  }
}

// An engine under an executor, and tenants with an adapter each.
class Asked {
 public:
  Asked(const Config& config, const std::string& engine, const QuestionsArguments& arguments)
      : backend_(MakeLocalBackend(OptionsFor(config, engine, arguments.threads))),
        executor_(*backend_, {.threads = static_cast<size_t>(arguments.threads)}, {}, {}) {
    for (size_t i = 0; i < arguments.together; ++i) {
      auto version = backend_->NewLearner(TenantOf(i))->Publish("base", SerialFor());
      if (!version.ok()) throw StartError(version.error().message);
      const Change change{TenantOf(i), "adapter_version", NumberName(1), Encode(Served{*version})};
      const auto loaded = executor_.Load(kAsks, change);
      if (!loaded.ok()) throw StartError(loaded.error().message);
    }
  }

  size_t TokensOf(const Chat& chat) const { return backend_->CountTokens(chat); }

  // The same question of so many tenants, submitted together. False: a stop.
  bool Ask(size_t tenants, const Chat& chat, uint32_t tokens, QuestionTimes& times) {
    std::vector<std::future<Given>> given;
    for (size_t i = 0; i < tenants; ++i) {
      Plan plan;
      plan.outcome.tenant = TenantOf(i);
      plan.outcome.what = Response{};
      Decoding decoding;
      decoding.temperature = 0;
      decoding.max_tokens = tokens;
      plan.generate = Generate{chat, 1, decoding, 1};
      given.push_back(Submit(Sequence::Of(kAsks, asked_++), std::move(plan)));
    }
    for (std::future<Given>& future : given) {
      const auto one = WaitFor(std::move(future));
      if (!one) return false;
      const auto* response = std::get_if<Response>(&one->outcome.what);
      if (response == nullptr) throw StartError("a question was not answered");
      const auto before = static_cast<double>(times.ms.size());
      times.ms.push_back(one->ms);
      times.tokens = (times.tokens * before + response->completion_tokens) / (before + 1);
    }
    return true;
  }

  // The next lesson of a tenant that asks nothing. False: a stop.
  bool Learn(const Chat& chat) {
    const uint64_t number = ++learnt_;
    Plan plan;
    plan.outcome.tenant = "learns";
    plan.outcome.what = Applied{};
    LoggedExample example;
    example.chat = chat;
    example.shown = RandomWords(kShownWords, number);
    example.reward = 1;
    plan.lessons.push_back(Lesson{std::move(example),
                                  {number, static_cast<Version>(number), false},
                                  static_cast<Version>(number - 1),
                                  {}});
    plan.waits_for_lessons = true;
    const auto given = WaitFor(Submit(Sequence::Of(kLearns, number), std::move(plan)));
    return given && std::holds_alternative<Applied>(given->outcome.what);
  }

 private:
  static LocalBackendOptions OptionsFor(const Config& config, const std::string& engine,
                                        int threads) {
    LocalBackendOptions options = config.model.local;
    options.engine = engine;
    options.served_form = "file";
    options.embedder.clear();
    options.slots = static_cast<size_t>(threads);
    return options;
  }

  static TenantId TenantOf(size_t i) { return "tenant " + std::to_string(i); }

  // Of what the caller may have left when it comes.
  std::future<Given> Submit(Sequence at, Plan plan) {
    const auto promise = std::make_shared<std::promise<Given>>();
    const auto start = Clock::now();
    executor_.Submit(at, std::move(plan), nullptr, [promise, start](Outcome outcome) {
      const std::chrono::duration<double, std::milli> time = Clock::now() - start;
      promise->set_value({time.count(), std::move(outcome)});
    });
    return promise->get_future();
  }

  std::unique_ptr<Backend> backend_;
  uint64_t asked_ = 0, learnt_ = 0;
  Executor executor_;
};

// Lesson after lesson, from its beginning to its end.
class Lessons {
 public:
  Lessons(Asked& asked, const Chat& chat)
      : thread_([&asked, chat](const std::stop_token& stop) {
          while (!stop.stop_requested() && asked.Learn(chat)) {
          }
        }) {}

 private:
  std::jthread thread_;
};

// The engine's products and nothing else, in ms.
class ProductTimes {
 public:
  ProductTimes(const PackedModel& model, const QuestionsArguments& arguments)
      : model_(model), pool_(static_cast<size_t>(arguments.threads)) {}

  // Of a prompt, whose last row alone goes through the head.
  double Prompt(size_t rows) { return Of(rows, 1); }
  // Of a token of each sequence.
  double Token(size_t sequences) { return Of(sequences, sequences); }

 private:
  double Of(size_t rows, size_t head_rows) {
    return MsOf([&] {
      for (size_t layer = 0; layer < model_.shape().layers; ++layer) {
        for (size_t product = 0; product < kBlockProducts; ++product) {
          Run(model_.Of(layer, static_cast<BlockProduct>(product)), rows);
        }
      }
      Run(model_.head(), head_rows);
    });
  }

  void Run(const PackedMatrix& matrix, size_t rows) {
    x_.resize(std::max(x_.size(), rows * matrix.in()), .01f);
    y_.resize(std::max(y_.size(), rows * matrix.out()));
    Multiply(PanelsOf(matrix), {rows, x_.data(), matrix.in(), y_.data(), matrix.out()},
             pool_.For());
  }

  const PackedModel& model_;
  LoopThreads pool_;
  std::vector<float> x_, y_;
};

class Questions {
 public:
  Questions(const Config& config, const PackedModel& model, const QuestionsArguments& arguments)
      : arguments_(arguments),
        own_(config, "own", arguments),
        llama_(config, "llama", arguments),
        products_(model, arguments) {
    while (own_.TokensOf(Question(1)) < arguments.prompt_tokens) ++words_;
    tokens_ = own_.TokensOf(Question(1));
    const size_t window = std::min<size_t>(config.model.local.window_tokens, model.shape().context);
    if (tokens_ + arguments.answer_tokens > window) {
      throw StartError("a prompt of " + std::to_string(tokens_) + " tokens and an answer of " +
                       std::to_string(arguments.answer_tokens) + " do not fit a window of " +
                       std::to_string(window) +
                       ": set model.window_tokens to more, or name a model that has it");
    }
  }

  std::optional<QuestionRow> Alone() {
    return Answered("1 question, prompt of " + std::to_string(tokens_) + " tokens", 1,
                    arguments_.rounds, [this](Asked& asked, uint64_t seed, QuestionTimes& times) {
                      return asked.Ask(1, Question(seed), arguments_.answer_tokens, times);
                    });
  }

  std::optional<QuestionRow> Together() {
    const size_t count = arguments_.together;
    return Answered(std::to_string(count) + " such questions at once", count, Half(),
                    [this, count](Asked& asked, uint64_t seed, QuestionTimes& times) {
                      return asked.Ask(count, Question(seed), arguments_.answer_tokens, times);
                    });
  }

  std::optional<QuestionRow> WhileLessonsRun() {
    return Answered("1 such question while lessons run", 1, arguments_.rounds,
                    [this](Asked& asked, uint64_t seed, QuestionTimes& times) {
                      const Lessons lessons(asked, Question(seed + 1));
                      return asked.Ask(1, Question(seed), arguments_.answer_tokens, times);
                    });
  }

  // The first token of a prompt, and of another one with the same beginning.
  std::optional<std::pair<QuestionRow, QuestionRow>> SeenBefore() {
    QuestionRow unseen{.what = "its first token, nothing of it seen before"};
    QuestionRow seen{.what = "its first token, the first 80 % of it seen before"};
    const size_t rest = std::max<size_t>(1, words_ / 5);
    const auto prompt = [&](uint64_t seed, uint64_t end) {
      return Chat{{"user", RandomWords(words_ - rest, seed) + " " + RandomWords(rest, end)}};
    };
    std::vector<double> bounds, seen_bounds;
    const bool ended = InTurns(
        Half(), unseen,
        [&](Asked& asked, uint64_t seed, QuestionTimes& times) {
          QuestionTimes& later = &asked == &own_ ? seen.own : seen.llama;
          return asked.Ask(1, prompt(seed, seed + 1), 1, times) &&
                 asked.Ask(1, prompt(seed, seed + 2), 1, later);
        },
        [&] {
          bounds.push_back(products_.Prompt(tokens_));
          seen_bounds.push_back(products_.Prompt(std::max<size_t>(1, tokens_ / 5)));
        });
    if (!ended) return std::nullopt;
    unseen.bound_ms = Median(std::move(bounds));
    seen.bound_ms = Median(std::move(seen_bounds));
    return std::pair{std::move(unseen), std::move(seen)};
  }

 private:
  int Half() const { return (arguments_.rounds + 1) / 2; }

  Chat Question(uint64_t seed) const { return {{"user", RandomWords(words_, seed) + kTask}}; }

  // Of so many questions at once. The prompt gives the first token.
  template <class AskOne>
  std::optional<QuestionRow> Answered(std::string what, size_t questions, int rounds,
                                      const AskOne& ask) {
    QuestionRow row{.what = std::move(what)};
    std::vector<double> bounds;
    const bool ended = InTurns(rounds, row, ask, [&] {
      bounds.push_back(static_cast<double>(questions) * products_.Prompt(tokens_) +
                       (row.own.tokens - 1) * products_.Token(questions));
    });
    if (!ended) return std::nullopt;
    row.bound_ms = Median(std::move(bounds));
    return row;
  }

  // Calls `ask` for either engine and `bound` by turns, with questions that were not asked before,
  // the same for both engines. False: a stop.
  template <class AskOne, class Bound>
  bool InTurns(int rounds, QuestionRow& row, const AskOne& ask, const Bound& bound) {
    for (int i = 0; i < rounds; ++i) {
      seed_ += 10;
      if (stop_requested || !ask(own_, seed_, row.own) || !ask(llama_, seed_, row.llama)) {
        return false;
      }
      bound();
    }
    return true;
  }

  const QuestionsArguments& arguments_;
  Asked own_, llama_;
  ProductTimes products_;
  size_t words_ = 1;
  size_t tokens_ = 0;  // of the prompt
  uint64_t seed_ = 0;
};

void Print(const QuestionRow& row) {
  std::printf("  %-50s %7.0f", row.what.c_str(), row.bound_ms);
  for (const QuestionTimes* times : {&row.own, &row.llama}) {
    std::printf(" %8.0f %7.0f %6.0f", Quantile(times->ms, .5), Quantile(times->ms, .95),
                times->tokens);
  }
  std::printf(" %6.2f\n", Quantile(row.llama.ms, .5) / Quantile(row.own.ms, .5));
}

}  // namespace

bool MeasureQuestions(const Config& config, const PackedModel& model,
                      const QuestionsArguments& arguments,
                      const std::function<void(const QuestionRow&)>& measured) {
  Questions questions(config, model, arguments);
  for (const auto row : {&Questions::Alone, &Questions::Together, &Questions::WhileLessonsRun}) {
    const auto times = (questions.*row)();
    if (!times) return false;
    measured(*times);
  }
  const auto times = questions.SeenBefore();
  if (!times) return false;
  measured(times->first);
  measured(times->second);
  return true;
}

bool BenchQuestions(const Config& config, const PackedModel& model,
                    const QuestionsArguments& arguments) {
  const std::string title =
      "executor.threads " + std::to_string(arguments.threads) + ", ms from question to outcome";
  std::printf(
      "  %s, an adapter each, at most %u tokens; %d rounds, in turns;\n"
      "  the bound: the engine's products alone until the last outcome\n"
      "  %-50s %7s %8s %7s %6s %8s %7s %6s %6s\n",
      title.c_str(), arguments.answer_tokens, arguments.rounds, "", "bound", "engine", "p95",
      "tokens", "llama", "p95", "tokens", "ratio");
  return MeasureQuestions(config, model, arguments, Print);
}

}  // namespace nudge
