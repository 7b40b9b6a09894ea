// `nudge bench answers`: prompts read and tokens drawn by the answer engine, and questions until
// their outcomes, beside llama.cpp as it serves, on the same file in turns.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pipeline/bench/bench.h"
#include "pipeline/bench/bench_questions.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/hash.h"
#include "stages/model/engine/pass.h"
#include "stages/model/loop_threads.h"
#include "stages/model/serve/language_model.h"

namespace nudge {
namespace {

constexpr int kRepeats = 3;          // the median counts
constexpr size_t kDrawnTokens = 16;  // of each sequence
constexpr size_t kPoolBytes = size_t{4} << 30;

std::vector<int32_t> RandomText(size_t tokens, size_t vocabulary) {
  std::vector<int32_t> text(tokens);
  for (size_t i = 0; i < tokens; ++i) text[i] = static_cast<int32_t>(RandomAt(1, i) % vocabulary);
  return text;
}

// On one thread of the processor's time, which others that use the machine disturb less than the
// clock; threads that wait for each other spin, so with several the clock's.
template <class Body>
double TimeMs(bool is_one_thread, Body&& body) {
  if (!is_one_thread) return MsOf(body);
  const double before = CpuSeconds();
  body();
  return 1000 * (CpuSeconds() - before);
}

// One model, its adapters, and the pass over it.
class Engine {
 public:
  Engine(const Config& config, const BenchAnswersArguments& arguments) {
    auto loaded = FrozenWeights::Load(config.model.local.language_model, {.in_file = true});
    if (!loaded.ok()) throw StartError(loaded.error().message);
    weights_ = *loaded;
    auto packed = PackedModel::Pack(weights_, SerialFor());
    if (!packed.ok()) throw StartError(packed.error().message);
    model_ = *packed;
    const uint32_t rank = config.model.local.learner.rank;
    for (size_t i = 0; i < arguments.sequences; ++i) AddAdapter(rank, i);
    pool_.emplace(weights_->shape(), kPoolBytes);
    pass_.emplace(model_, EngineLimits{.positions_max = weights_->shape().context});
    logits_.resize(arguments.sequences * weights_->shape().vocabulary);
  }

  const PackedModel& model() const { return *model_; }

  // A prompt from its first token to the logits of its last.
  double PromptMs(size_t tokens, LoopThreads& pool) {
    KeySequence sequence(*pool_);
    const ParallelFor parallel = pool.For();
    return TimeMs(pool.threads() == 1, [&] { Read(sequence, tokens, parallel); });
  }

  // kDrawnTokens of each of so many sequences, one after the other behind `depth` tokens.
  double DrawnMs(size_t depth, size_t sequences, bool adapted, LoopThreads& pool) {
    const ParallelFor parallel = pool.For();
    std::vector<KeySequence> texts;
    for (size_t i = 0; i < sequences; ++i) {
      texts.emplace_back(*pool_);
      Read(texts.back(), depth, parallel);
    }
    const int32_t token = 1;
    return TimeMs(pool.threads() == 1, [&] {
      for (size_t t = 0; t < kDrawnTokens; ++t) {
        std::vector<EngineRows> batch;
        for (size_t i = 0; i < sequences; ++i) {
          batch.push_back({&texts[i], {&token, 1}, adapted ? adapters_[i].get() : nullptr});
        }
        Run(batch, parallel);
      }
    });
  }

 private:
  void AddAdapter(uint32_t rank, uint64_t seed) {
    LoraWeights adapter{weights_->AdapterShape(rank, static_cast<float>(2 * rank),
                                               {true, true, true, true, true, true, true}),
                        {}};
    adapter.values.resize(adapter.shape.Size());
    for (size_t i = 0; i < adapter.values.size(); ++i) {
      adapter.values[i] = static_cast<float>(.02 * UniformAt(seed, i) - .01);
    }
    auto packed = PackedAdapter::Pack(adapter, *weights_);
    if (!packed.ok()) throw StartError(packed.error().message);
    adapters_.push_back(*packed);
  }

  void Read(KeySequence& sequence, size_t tokens, const ParallelFor& parallel) {
    const std::vector<int32_t> text = RandomText(tokens, weights_->shape().vocabulary);
    const size_t most = pass_->limits().rows_max;
    for (size_t begin = 0; begin < tokens; begin += most) {
      const size_t count = std::min(most, tokens - begin);
      Run({{&sequence, std::span(text).subspan(begin, count), nullptr,
            begin + count == tokens ? WantedLogits::kLast : WantedLogits::kNone}},
          parallel);
    }
  }

  void Run(const std::vector<EngineRows>& batch, const ParallelFor& parallel) {
    const auto ran = pass_->Run(batch, parallel, logits_);
    if (!ran.ok()) throw StartError(ran.error().message + ": " + ran.error().remedy);
  }

  std::shared_ptr<const FrozenWeights> weights_;
  std::shared_ptr<const PackedModel> model_;
  std::vector<std::shared_ptr<const PackedAdapter>> adapters_;
  std::optional<KeyPages> pool_;
  std::optional<EnginePass> pass_;
  std::vector<float> logits_;
};

// llama.cpp on the same file, as nudge has it: flash attention off, one sequence at a time.
class Served {
 public:
  Served(const std::string& file, int threads, size_t tokens_max)
      : is_one_thread_(threads == 1),
        model_(file, {.threads_per_slot = static_cast<uint32_t>(threads),
                      .window_tokens = static_cast<uint32_t>(tokens_max + kDrawnTokens + 1)}) {}

  // A prompt and the first token behind it, which the prompt's last logits give.
  double PromptMs(size_t tokens) {
    return TimeMs(is_one_thread_, [&] { Draw(tokens, 1); });
  }

  // A token behind so many, in the mean of those that were drawn.
  double TokenMs(size_t depth) {
    uint32_t drawn = 0;
    const double all_ms = TimeMs(is_one_thread_, [&] { drawn = Draw(depth, kDrawnTokens + 1); });
    if (drawn < 2) throw StartError("llama.cpp ended its answer at once");
    return (all_ms - PromptMs(depth)) / (drawn - 1);
  }

 private:
  uint32_t Draw(size_t depth, uint32_t tokens) {
    const auto drawn = model_.Generate(0, RandomText(depth, model_.vocabulary()), nullptr,
                                       {.temperature = 1, .max_tokens = tokens, .seed = 1});
    if (!drawn.ok()) throw StartError(drawn.error().message);
    return static_cast<uint32_t>(drawn->tokens.size());
  }

  const bool is_one_thread_;
  LanguageModel model_;
};

// A row of the table, tokens a second: medians of both, measured in turns.
template <class OursMs, class TheirsMs>
void PrintRow(const std::string& what, OursMs&& ours_ms, TheirsMs&& theirs_ms) {
  std::vector<double> ours, theirs;  // ms a token
  for (int i = 0; i < kRepeats; ++i) {
    ours.push_back(ours_ms());
    theirs.push_back(theirs_ms());
  }
  std::printf("  %-48s %8.0f %10.0f %8.2f\n", what.c_str(), 1000 / Median(ours),
              1000 / Median(theirs), Median(theirs) / Median(ours));
}

void PrintTable(Engine& engine, const std::string& file, const BenchAnswersArguments& arguments,
                int threads) {
  LoopThreads pool(static_cast<size_t>(threads));
  const size_t longest =
      std::max(*std::max_element(arguments.prompts.begin(), arguments.prompts.end()),
               *std::max_element(arguments.depths.begin(), arguments.depths.end()));
  Served served(file, threads, longest);
  const std::string title =
      std::to_string(threads) +
      (threads == 1 ? " thread, tokens a second of its time" : " threads, tokens/s");
  std::printf("  %-48s %8s %10s %8s\n", title.c_str(), "engine", "llama.cpp", "ratio");
  for (const size_t tokens : arguments.prompts) {
    if (stop_requested) return;
    const auto count = static_cast<double>(tokens);
    PrintRow(
        "prompt of " + std::to_string(tokens) + " tokens",
        [&] { return engine.PromptMs(tokens, pool) / count; },
        [&] { return served.PromptMs(tokens) / count; });
  }
  struct Drawing {
    std::string what;
    size_t sequences;
    bool adapted;
  };
  const std::vector<Drawing> drawings = {
      {"1 sequence", 1, false},
      {"1 sequence with an adapter", 1, true},
      {std::to_string(arguments.sequences) + " sequences, an adapter each", arguments.sequences,
       true}};
  for (const Drawing& drawing : drawings) {
    for (const size_t depth : arguments.depths) {
      if (stop_requested) return;
      const auto count = static_cast<double>(drawing.sequences * kDrawnTokens);
      PrintRow(
          drawing.what + " behind " + std::to_string(depth) + " tokens",
          [&] { return engine.DrawnMs(depth, drawing.sequences, drawing.adapted, pool) / count; },
          [&] { return served.TokenMs(depth); });
    }
  }
}

}  // namespace

int BenchAnswers(const BenchAnswersArguments& arguments) {
  const BenchedModel model(arguments.config_path, arguments.random);
  const Config& config = model.config();
  const std::string& file = config.model.local.language_model;
  Engine engine(config, arguments);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf(
      "answers: %s, %.0f MB packed, %s products, adapters of rank %u; medians of %d\n"
      "  beside llama.cpp as it serves the same file, flash attention off, in turns; for several\n"
      "  sequences what it gives one without an adapter, since it answers one by one\n",
      file.c_str(), static_cast<double>(engine.model().bytes()) / 1e6,
      std::string(Name(FastestPath())).c_str(), config.model.local.learner.rank, kRepeats);
  for (const int threads : arguments.threads) {
    PrintTable(engine, file, arguments, threads);
    if (stop_requested) return kExitInterrupted;
    if (arguments.questions == 0) continue;
    const QuestionsArguments questions{.threads = threads, .rounds = arguments.questions};
    if (!BenchQuestions(config, engine.model(), questions)) return kExitInterrupted;
  }
  return kExitDone;
}

}  // namespace nudge
