// `nudge bench answers`: prompts read and tokens drawn by the answer engine, beside llama.cpp on
// the same file in turns.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "pipeline/bench/bench.h"
#include "pipeline/bench/bench_pool.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/bench/llama_bench.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/hash.h"
#include "stages/model/engine/pass.h"

namespace nudge {
namespace {

constexpr int kRepeats = 3;          // the median counts
constexpr size_t kDrawnTokens = 16;  // of each sequence
constexpr size_t kPoolBytes = size_t{4} << 30;

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
  double PromptMs(size_t tokens, const ParallelFor& parallel) {
    KeySequence sequence(*pool_);
    return MsOf([&] { Read(sequence, tokens, parallel); });
  }

  // kDrawnTokens of each of so many sequences, one after the other behind `depth` tokens.
  double DrawnMs(size_t depth, size_t sequences, bool adapted, const ParallelFor& parallel) {
    std::vector<KeySequence> texts;
    for (size_t i = 0; i < sequences; ++i) {
      texts.emplace_back(*pool_);
      Read(texts.back(), depth, parallel);
    }
    const int32_t token = 1;
    return MsOf([&] {
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
    std::vector<int32_t> text(tokens);
    for (size_t i = 0; i < tokens; ++i) {
      text[i] = static_cast<int32_t>(RandomAt(1, i) % weights_->shape().vocabulary);
    }
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

// A row of the table: the engine's and llama.cpp's medians, measured in turns.
template <class Measure>
void PrintRow(const char* what, size_t tokens, Measure&& engine_ms, const LlamaBench* beside,
              const LlamaBenchTask& task) {
  std::vector<double> ours, theirs;
  for (int i = 0; i < kRepeats; ++i) {
    ours.push_back(engine_ms());
    if (beside != nullptr) theirs.push_back(beside->Run(task).plain_ms);
  }
  const double rate = 1000 * static_cast<double>(tokens) / Median(ours);
  std::printf("  %-52s %8.0f", what, rate);
  if (beside != nullptr) {
    const size_t of_task = task.prompt_tokens + task.drawn_tokens;
    const double other = 1000 * static_cast<double>(of_task) / Median(theirs);
    std::printf(" %10.0f %8.2f", other, rate / other);
  }
  std::printf("\n");
}

}  // namespace

int BenchAnswers(const BenchAnswersArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  RequireInputs(config);
  const std::string& file = config.model.local.language_model;
  std::optional<LlamaBench> beside;
  if (!arguments.beside.empty()) beside.emplace(arguments.beside, file);
  const LlamaBench* const other = beside ? &*beside : nullptr;
  Engine engine(config, arguments);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("answers: %s, %.0f MB packed, %.*s products, adapters of rank %u\n", file.c_str(),
              static_cast<double>(engine.model().bytes()) / 1e6,
              static_cast<int>(Name(FastestPath()).size()), Name(FastestPath()).data(),
              config.model.local.learner.rank);
  if (other != nullptr) {
    std::printf(
        "  llama.cpp on the same file, flash attention off, in turns; for several sequences, what "
        "it gives one\n");
  }
  for (const int threads : arguments.threads) {
    Pool pool(threads);
    const ParallelFor parallel = pool.For();
    std::printf("  %-52s %8s", threads == 1 ? "1 thread, tokens/s" : "", "engine");
    std::printf(other != nullptr ? " %10s %8s\n" : "\n", "llama.cpp", "ratio");
    LlamaBenchTask task{.model = file, .threads = static_cast<uint32_t>(threads)};
    char what[80];
    for (const size_t tokens : arguments.prompts) {
      if (stop_requested) return kExitInterrupted;
      std::snprintf(what, sizeof what, "prompt of %zu tokens", tokens);
      task.prompt_tokens = tokens;
      PrintRow(
          what, tokens, [&] { return engine.PromptMs(tokens, parallel); }, other, task);
    }
    task.prompt_tokens = 0;
    task.drawn_tokens = kDrawnTokens;
    for (const auto& [sequences, adapted] :
         {std::pair<size_t, bool>{1, false}, {1, true}, {arguments.sequences, true}}) {
      for (const size_t depth : arguments.depths) {
        if (stop_requested) return kExitInterrupted;
        std::snprintf(what, sizeof what, "%zu sequence%s%s behind %zu tokens", sequences,
                      sequences == 1 ? "" : "s",
                      adapted ? (sequences == 1 ? " with an adapter" : ", an adapter each") : "",
                      depth);
        task.depth_tokens = depth;
        PrintRow(
            what, sequences * kDrawnTokens,
            [&] { return engine.DrawnMs(depth, sequences, adapted, parallel); }, other, task);
      }
    }
  }
  return kExitDone;
}

}  // namespace nudge
