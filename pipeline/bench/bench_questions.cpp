#include "pipeline/bench/bench_questions.h"

#include <cstdio>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/bench/bench_tools.h"
#include "pipeline/executor.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/model/local_backend.h"

namespace nudge {
namespace {

constexpr int kRepeats = 3;  // the median counts
constexpr size_t kTogether = 8;
constexpr uint32_t kDrawnTokens = 32;
constexpr size_t kPromptWords = 96;
constexpr size_t kLongWords = 240;  // for a prompt whose first 80 % was seen

// An engine under an executor, and tenants with an adapter each.
class Asked {
 public:
  Asked(const Config& config, const std::string& engine, int threads)
      : backend_(MakeLocalBackend(OptionsFor(config, engine, threads))),
        executor_(*backend_, {.threads = static_cast<size_t>(threads)}, {}, {}) {
    for (size_t i = 0; i < kTogether; ++i) {
      auto version = backend_->NewLearner(TenantOf(i))->Publish("base", SerialFor());
      if (!version.ok()) throw StartError(version.error().message);
      const Change change{TenantOf(i), "adapter_version", NumberName(1), Encode(Served{*version})};
      const auto loaded = executor_.Load(0, change);
      if (!loaded.ok()) throw StartError(loaded.error().message);
    }
  }

  struct Times {
    double last_ms = 0;
    double mean_ms = 0;
    double drawn = 0;  // tokens of an answer
  };
  // The same question of so many tenants, submitted together.
  Times Ask(size_t tenants, const std::vector<ChatMessage>& chat, uint32_t tokens) {
    struct Given {
      double ms = 0;
      Outcome outcome;
    };
    std::vector<std::promise<Given>> given(tenants);
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < tenants; ++i) {
      executor_.Submit(
          Sequence::Of(0, ordinal_++), PlanOf(TenantOf(i), chat, tokens), nullptr,
          [&, i](Outcome outcome) {
            const auto time = std::chrono::steady_clock::now() - start;
            given[i].set_value(
                {std::chrono::duration<double, std::milli>(time).count(), std::move(outcome)});
          });
    }
    Times times;
    for (std::promise<Given>& promise : given) {
      const Given one = promise.get_future().get();
      const auto* response = std::get_if<Response>(&one.outcome.what);
      if (response == nullptr) throw StartError("a question was not answered");
      times.last_ms = std::max(times.last_ms, one.ms);
      times.mean_ms += one.ms / static_cast<double>(tenants);
      times.drawn += response->completion_tokens / static_cast<double>(tenants);
    }
    return times;
  }

  size_t TokensOf(const std::vector<ChatMessage>& chat) const {
    return backend_->CountTokens(chat);
  }

 private:
  static LocalBackendOptions OptionsFor(const Config& config, const std::string& engine,
                                        int threads) {
    LocalBackendOptions options = config.model.local;
    options.engine = engine;
    options.served_form = "file";
    options.embedder.clear();
    options.base_memory = "file";
    options.slots = static_cast<size_t>(threads);
    return options;
  }
  static TenantId TenantOf(size_t i) { return "tenant " + std::to_string(i); }
  static Plan PlanOf(const TenantId& tenant, const std::vector<ChatMessage>& chat,
                     uint32_t tokens) {
    Plan plan;
    plan.outcome.tenant = tenant;
    plan.outcome.what = Response{};
    Decoding decoding;
    decoding.temperature = 0;
    decoding.max_tokens = tokens;
    plan.generate = Generate{chat, 1, decoding, 1};
    return plan;
  }

  std::unique_ptr<Backend> backend_;
  Executor executor_;
  uint64_t ordinal_ = 0;
};

void PrintRow(const std::string& what, std::vector<double> own_ms, std::vector<double> llama_ms) {
  const double own = Median(std::move(own_ms));
  const double llama = Median(std::move(llama_ms));
  std::printf("  %-56s %8.0f %10.0f %8.2f\n", what.c_str(), own, llama, llama / own);
}

// Of one engine, by repeat.
struct Column {
  std::vector<double> one, last, mean, unseen, seen, drawn;
};

// A prompt that ends in another way than one whose first 80 % are the same.
std::vector<ChatMessage> Ending(const std::string& begin, uint64_t seed) {
  return {{"user", begin + " " + RandomWords(kLongWords / 5, seed)}};
}

void AskAll(Asked& asked, uint64_t seed, Column& column) {
  const auto one = asked.Ask(1, RandomChat(kPromptWords, seed), kDrawnTokens);
  const auto many = asked.Ask(kTogether, RandomChat(kPromptWords, seed + 1), kDrawnTokens);
  column.one.push_back(one.last_ms);
  column.last.push_back(many.last_ms);
  column.mean.push_back(many.mean_ms);
  column.drawn.push_back(many.drawn);
  const std::string begin = RandomWords(kLongWords * 4 / 5, seed + 2);
  column.unseen.push_back(asked.Ask(1, Ending(begin, seed + 3), 1).last_ms);
  column.seen.push_back(asked.Ask(1, Ending(begin, seed + 4), 1).last_ms);
}

}  // namespace

void BenchQuestions(const Config& config, int threads) {
  Asked own(config, "own", threads);
  Asked llama(config, "llama", threads);
  Column of_own, of_llama;
  for (int i = 0; i < kRepeats; ++i) {
    if (stop_requested) return;
    const auto seed = static_cast<uint64_t>(10 * i + 1);
    AskAll(own, seed, of_own);
    AskAll(llama, seed, of_llama);
  }
  const std::string title =
      "executor.threads " + std::to_string(threads) + ", ms from question to outcome";
  std::printf("  %-56s %8s %10s %8s\n", title.c_str(), "engine", "llama.cpp", "ratio");
  const std::string prompt =
      "prompt of " + std::to_string(own.TokensOf(RandomChat(kPromptWords, 1))) + ": ";
  PrintRow("1 question, " + prompt + "an adapter", of_own.one, of_llama.one);
  const std::string many = std::to_string(kTogether) + " at once, an adapter each: ";
  PrintRow(many + "the last", of_own.last, of_llama.last);
  PrintRow(many + "the mean", of_own.mean, of_llama.mean);
  const std::string begin =
      "first token of a prompt of " +
      std::to_string(own.TokensOf(Ending(RandomWords(kLongWords * 4 / 5, 3), 4))) + ": ";
  PrintRow(begin + "unseen", of_own.unseen, of_llama.unseen);
  PrintRow(begin + "first 80 % seen", of_own.seen, of_llama.seen);
  std::printf("  tokens of an answer, of %u: %.0f and %.0f\n", kDrawnTokens, Median(of_own.drawn),
              Median(of_llama.drawn));
}

}  // namespace nudge
