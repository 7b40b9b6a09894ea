// `nudge bench train`: a gradient step beside the matrix products that it cannot do without, where
// its time goes, and what a feedback costs the one who gives it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "pipeline/bench/bench.h"
#include "pipeline/bench/bench_serve.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/bench/llama_bench.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/hash.h"
#include "stages/model/learn/learner_shelf.h"
#include "stages/model/local_backend.h"
#include "stages/model/loop_threads.h"
#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/optimizer.h"
#include "stages/model/trainer/part_times.h"
#include "stages/model/trainer/trainer.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRepeats = 3;  // the median counts
constexpr size_t kCompletion = 32;

// Of several runs: by the clock, and of the processor, which others that use the machine disturb
// less. Threads that wait for a part spin, so idle ones are in the second.
struct Times {
  std::vector<double> wall_ms, cpu_ms;

  template <class Body>
  void Add(Body&& body) {
    const double cpu_before = CpuSeconds();
    const auto start = Clock::now();
    body();
    wall_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    cpu_ms.push_back(1000 * (CpuSeconds() - cpu_before));
  }
};

// The frozen products of one step and nothing else: forward and backward through every matrix of
// every layer, and through the head at the completion's rows. Rows are rounded already where
// products want that.
class Products {
 public:
  Products(const FrozenWeights& weights, size_t tokens) : weights_(weights), tokens_(tokens) {
    size_t numbers = std::min(tokens, kCompletion) * weights.shape().vocabulary;
    for (const LlamaLayer& layer : weights.layers()) {
      numbers = std::max(numbers, tokens * layer.gate_up.out());
    }
    x_.assign(numbers, .01f);
    y_.assign(numbers, .01f);
    rounded_.resize(numbers);
    ToBf16(x_.data(), numbers, rounded_.data());
  }

  double flops() const { return flops_; }

  void Run(const ParallelFor& parallel) {
    flops_ = 0;
    for (const LlamaLayer& layer : weights_.layers()) {
      for (const FrozenMatrix* matrix :
           {&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down}) {
        Both(*matrix, tokens_, parallel);
      }
    }
    Both(weights_.head(), std::min(tokens_, kCompletion), parallel);
  }

 private:
  void Both(const FrozenMatrix& matrix, size_t rows, const ParallelFor& parallel) {
    const Tiles forward(rows, matrix.out());
    RunParts(parallel, forward.size(), [&](size_t part) {
      matrix.Forward(forward[part], x_.data(), matrix.in(), false, y_.data(), matrix.out(),
                     rounded_.data());
    });
    const Tiles backward(rows, matrix.in());
    RunParts(parallel, backward.size(), [&](size_t part) {
      matrix.Backward(backward[part], y_.data(), matrix.out(), x_.data(), matrix.in(),
                      rounded_.data());
    });
    flops_ += 4.0 * static_cast<double>(rows * matrix.out() * matrix.in());
  }

  const FrozenWeights& weights_;
  const size_t tokens_;
  std::vector<float> x_, y_;
  std::vector<uint16_t> rounded_;
  double flops_ = 0;
};

double GflopsOfOneThread(const FrozenWeights& weights, size_t tokens) {
  Products products(weights, tokens);
  std::vector<double> times_ms;
  for (int i = 0; i < kRepeats; ++i) {
    times_ms.push_back(MsOf([&] { products.Run(SerialFor()); }));
  }
  return products.flops() / Median(std::move(times_ms)) / 1e6;
}

// Floating-point operations of a step's other products: attention's, of which the causal half
// counts, and the adapter's. None that is only repeated to save memory.
double OtherFlops(const LlamaShape& shape, size_t adapter_values, size_t tokens) {
  const size_t pairs = tokens * (tokens + 1) / 2;
  const size_t attention = 6 * 2 * shape.layers * pairs * shape.QueryWidth();  // 2 forward, 4 back
  const size_t adapter = 3 * 2 * tokens * adapter_values;                      // 1 forward, 2 back
  return static_cast<double>(attention + adapter);
}

TrainSequence SequenceOf(size_t rows, size_t vocabulary) {
  TrainSequence sequence;
  for (size_t i = 0; i <= rows; ++i) {
    sequence.tokens.push_back(static_cast<int32_t>(RandomAt(1, i) % vocabulary));
  }
  sequence.completion_begin = sequence.tokens.size() - std::min(rows, kCompletion);
  return sequence;
}

// One way to take a step: the trainer, an adapter that is not zero, an optimiser.
struct Training {
  Training(std::shared_ptr<const FrozenWeights> weights, uint32_t rank, float alpha,
           TrainerLimits limits)
      : trainer(weights, limits),
        adapter{weights->AdapterShape(rank, alpha, {true, true, true, true, true, true, true}), {}},
        gradient(adapter.shape.Size()),
        optimizer(adapter.shape.Size()),
        sequence(SequenceOf(limits.max_tokens, weights->shape().vocabulary)) {
    for (size_t i = 0; i < gradient.size(); ++i) {
      adapter.values.push_back(static_cast<float>(.02 * UniformAt(3, i) - .01));
    }
  }
  void Run(const ParallelFor& parallel) {
    const auto losses = trainer.Gradients(adapter, {&sequence, 1}, parallel, gradient);
    if (!losses.ok()) throw StartError(losses.error().message);
    const auto stepped =
        optimizer.Step({.learning_rate = 1e-8}, gradient, adapter.values, parallel);
    if (!stepped.ok()) throw StartError(stepped.error().message);
  }
  Trainer trainer;
  LoraWeights adapter;
  std::vector<float> gradient;
  AdamW optimizer;
  TrainSequence sequence;
};

struct Split {
  TrainerLimits limits;  // as many tokens as the step has
  size_t bytes;
  size_t layers_again;
  double wall_ms;
  PartTimes::Seconds parts;
};

Split SplitOf(Training& step) {
  Split split{.limits = step.trainer.limits(),
              .bytes = step.trainer.Bytes(step.sequence.tokens.size() - 1),
              .layers_again = step.trainer.LayersComputedAgain(step.sequence.tokens.size() - 1),
              .wall_ms = 0,
              .parts = {}};
  PartTimes::Switch(true);
  const auto start = Clock::now();
  step.Run(SerialFor());
  split.wall_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  split.parts = PartTimes::Sums();
  PartTimes::Switch(false);
  return split;
}

void PrintSplits(const std::vector<Split>& splits) {
  std::printf("  one step on 1 thread, ms and share by part\n  %6s %9s", "tokens", "all");
  for (const auto part : kStepParts)
    std::printf(" %18.*s", static_cast<int>(part.size()), part.data());
  std::printf(" %12s\n", "rest");
  for (const Split& split : splits) {
    std::printf("  %6zu %9.1f", split.limits.max_tokens, split.wall_ms);
    double rest_ms = split.wall_ms;
    for (const double seconds : split.parts) {
      std::printf(" %11.1f (%2.0f %%)", 1000 * seconds, 1e5 * seconds / split.wall_ms);
      rest_ms -= 1000 * seconds;
    }
    std::printf(" %12.1f\n", rest_ms);
  }
}

// What a step works in: the bound of adapt.training_bytes_max, or less where less holds everything.
void PrintMemory(const LlamaShape& shape, const std::vector<Split>& splits) {
  std::printf(
      "  what one step works in, beside the base model\n"
      "  %6s %12s %12s %24s\n",
      "tokens", "bytes (MB)", "all kept", "layers computed twice");
  for (const Split& split : splits) {
    TrainerLimits unbound = split.limits;
    unbound.bytes_max = std::numeric_limits<size_t>::max();
    std::printf("  %6zu %12.0f %12.0f %17zu of %3zu\n", split.limits.max_tokens,
                static_cast<double>(split.bytes) / 1e6,
                static_cast<double>(Trainer::MostBytes(shape, unbound)) / 1e6, split.layers_again,
                shape.layers);
  }
}

// What a lesson pays whose tenant has not learnt lately, and that needs another's room.
void PrintWaking(const Config& config, const FrozenWeights& weights) {
  std::string folder = StateFolder(config);
  if (!std::filesystem::is_directory(folder)) folder.clear();
  LearnerShelf shelf(1, folder);
  const LearnerOptions options = config.model.local.learner;
  ShelvedLearner one(shelf), other(shelf);
  const auto wake = [&](ShelvedLearner& learner) {
    const auto woken = learner.Wake(weights, options);
    if (!woken.ok()) throw StartError(woken.error().message);
  };
  wake(one);
  wake(other);  // from here on each lies where the other did
  std::vector<double> times_ms;
  for (int i = 0; i < 10; ++i) {
    times_ms.push_back(MsOf([&] { wake(i % 2 == 0 ? one : other); }));
  }
  std::printf(
      "  a tenant's learner put away and another's woken: %.0f ms, at most %.0f (%.0f MB, %s)\n",
      Median(times_ms), *std::max_element(times_ms.begin(), times_ms.end()),
      static_cast<double>(shelf.asleep_bytes()) / 1e6,
      folder.empty() ? "in the temporary folder" : folder.c_str());
}

}  // namespace

int BenchTrain(const BenchTrainArguments& arguments) {
  const BenchedModel model(arguments.config_path, arguments.random);
  const Config& config = model.config();
  std::optional<LlamaBench> beside;  // now: what is wrong with it shows before minutes of work
  if (!arguments.beside.empty())
    beside.emplace(arguments.beside, config.model.local.language_model);
  auto loaded =
      FrozenWeights::Load(config.model.local.language_model, BaseFormOf(config.model.local));
  if (!loaded.ok()) throw StartError(loaded.error().message);
  const FrozenWeights& weights = **loaded;
  std::printf(
      "train: %s, rank %u on every linear module, %s products\n"
      "  one sequence, its last %zu tokens are the completion; medians of %d\n"
      "  the limit is the step's products with frozen weights, alone, in the same run; with\n"
      "  attention's and the adapter's at the same rate it is that of all products\n"
      "  tokens threads   step ms  tokens/s   limit ms  GFLOP/s  share of the limit, of its CPU "
      "time, of all products\n",
      config.model.local.language_model.c_str(), config.model.local.learner.rank,
      std::string(Name(weights.form().products)).c_str(), kCompletion, kRepeats);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // rows come one by one, minutes apart
  std::vector<Split> splits;
  ServeLimits limits;
  for (const size_t tokens : arguments.tokens) {
    Training step(*loaded, config.model.local.learner.rank,
                  static_cast<float>(config.model.local.learner.alpha),
                  {.max_tokens = tokens,
                   .max_rank = config.model.local.learner.rank,
                   .bytes_max = config.model.local.training_bytes_max});
    for (const int threads : arguments.threads) {
      if (stop_requested) return kExitInterrupted;
      LoopThreads pool(static_cast<size_t>(threads));
      const ParallelFor parallel = pool.For();
      Products products(weights, tokens);
      // In turns, so that what else the machine does falls on both.
      Times step_times, limit_times;
      for (int i = 0; i < kRepeats; ++i) {
        step_times.Add([&] { step.Run(parallel); });
        limit_times.Add([&] { products.Run(parallel); });
      }
      const double step_ms = Median(step_times.wall_ms);
      const double limit_ms = Median(limit_times.wall_ms);
      double& gflops = threads == 1 ? limits.gflops_one_thread : limits.gflops;
      gflops = std::max(gflops, products.flops() / limit_ms / 1e6);
      const double all_ms =
          limit_ms *
          (1 + OtherFlops(weights.shape(), step.gradient.size(), tokens) / products.flops());
      std::printf("  %6zu %7d %9.1f %9.0f %10.1f %8.0f %17.0f %% %14.0f %% %14.0f %%\n", tokens,
                  threads, step_ms, 1000.0 * static_cast<double>(tokens) / step_ms, limit_ms,
                  products.flops() / limit_ms / 1e6, 100 * limit_ms / step_ms,
                  100 * Median(limit_times.cpu_ms) / Median(step_times.cpu_ms),
                  100 * all_ms / step_ms);
    }
    splits.push_back(SplitOf(step));
  }
  PrintSplits(splits);
  PrintMemory(weights.shape(), splits);
  PrintWaking(config, weights);
  std::printf("  base model %.0f MB%s, peak memory so far %.0f MB\n",
              static_cast<double>(weights.bytes()) / 1e6,
              weights.form().in_file ? " beside its file" : "", PeakMegabytes());
  for (const LlamaLayer& layer : weights.layers()) {
    for (const FrozenMatrix* matrix :
         {&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down}) {
      limits.layer_weights += matrix->out() * matrix->in();
    }
  }
  limits.products = weights.form().products;
  if (limits.gflops_one_thread == 0) {  // none of the rows had one thread
    limits.gflops_one_thread = GflopsOfOneThread(weights, arguments.tokens.front());
  }
  limits.gflops = std::max(limits.gflops, limits.gflops_one_thread);
  loaded = std::shared_ptr<const FrozenWeights>();  // the backend has its own
  return BenchServe(config, limits, arguments.lessons, beside ? &*beside : nullptr);
}

}  // namespace nudge
