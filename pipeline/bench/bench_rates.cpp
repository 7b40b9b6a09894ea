#include "pipeline/bench/bench_rates.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "pipeline/bench/bench_tools.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/stop_requested.h"
#include "stages/model/local_backend.h"
#include "stages/model/serve/embedder.h"
#include "stages/model/serve/gguf_info.h"

namespace nudge {
namespace {

constexpr int kRounds = 5;  // nudge and llama.cpp in turns; medians count
constexpr size_t kPromptWords = 96;
constexpr size_t kTextWords = 150;
constexpr uint32_t kDrawn = 64;
// Brief, so that little is subtracted; its answer is long.
constexpr char kQuestion[] = "Tell me a long story.";

// A row of the table.
struct Rate {
  std::string what;
  double tokens = 0;  // of one run
  double limit = 0;   // tokens/s; 0: not known
  std::function<double()> nudge_ms;
  std::optional<LlamaBenchTask> task;  // the same for llama.cpp; none: it has no such benchmark
};

// What one thread reads from memory in the best of some passes, in GB/s.
double ReadBandwidth() {
  constexpr size_t kStreams = 16;                           // sums that do not wait for each other
  const std::vector<uint64_t> memory(size_t{32} << 20, 1);  // 256 MB
  double best = 0;
  uint64_t all = 0;
  for (int i = 0; i < kRounds; ++i) {
    std::array<uint64_t, kStreams> sums{};
    const double ms = MsOf([&] {
      for (size_t at = 0; at < memory.size(); at += kStreams) {
        for (size_t j = 0; j < kStreams; ++j) sums[j] += memory[at + j];
      }
    });
    all += std::accumulate(sums.begin(), sums.end(), uint64_t{0});
    best = std::max(best, static_cast<double>(memory.size() * sizeof(uint64_t)) / ms / 1e6);
  }
  if (all == 0) throw StartError("memory reads as zero");  // the sums are needed
  return best;
}

GgufInfo InfoOf(const std::string& path) {
  Result<GgufInfo> info = ReadGgufInfo(path);
  if (!info.ok()) throw StartError(info.error().message);
  return std::move(*info);
}

// The number of tokens in the answer.
uint32_t Answer(Backend& backend, const std::vector<ChatMessage>& chat,
                const AdapterVersion* adapter, uint32_t tokens_max) {
  Decoding decoding;
  decoding.max_tokens = tokens_max;
  const auto given = backend.Generate(0, chat, adapter, decoding, 1, {});
  if (!given.ok()) throw StartError(given.error().message);
  return given->completion_tokens;
}

Rate PromptRate(const Config& config, const ServeLimits& limits, Backend& backend) {
  const auto chat = RandomChat(kPromptWords, 1);
  Rate rate;
  const size_t tokens = backend.CountTokens(chat);
  rate.what = "generate: prompt of " + std::to_string(tokens) + " tokens";
  rate.tokens = static_cast<double>(tokens);
  rate.limit = limits.gflops_one_thread * 1e9 / (2.0 * static_cast<double>(limits.layer_weights));
  rate.nudge_ms = [&backend, chat] { return MsOf([&] { Answer(backend, chat, nullptr, 1); }); };
  rate.task = LlamaBenchTask{.model = AnsweringFile(config.model.local),
                             .prompt_tokens = tokens,
                             .threads = config.model.local.threads_per_answer};
  return rate;
}

// Passes of one token each, after a brief prompt whose time is subtracted.
Rate DrawnRate(const Config& config, double bandwidth, Backend& backend,
               const AdapterVersion* adapter) {
  const std::vector<ChatMessage> chat = {{"user", kQuestion}};
  // The first token is the prompt's; one that ends the turn is drawn too.
  const uint32_t passes = std::min(Answer(backend, chat, adapter, 1 + kDrawn), kDrawn);
  const std::string file = AnsweringFile(config.model.local);
  if (passes == 0) throw StartError(file + ": answers nothing");
  Rate rate;
  rate.what = "generate: " + std::to_string(passes) + " tokens, one by one";
  if (adapter != nullptr) rate.what += ", an adapter";
  rate.tokens = passes;
  rate.limit = bandwidth * 1e9 / static_cast<double>(InfoOf(file).file_bytes);
  rate.nudge_ms = [&backend, chat, adapter] {
    Answer(backend, chat, adapter, 1);  // plugs the adapter in
    const double brief_ms = MsOf([&] { Answer(backend, chat, adapter, 1); });
    return MsOf([&] { Answer(backend, chat, adapter, 1 + kDrawn); }) - brief_ms;
  };
  if (adapter != nullptr) return rate;
  rate.task = LlamaBenchTask{.model = file,
                             .drawn_tokens = passes,
                             .depth_tokens = backend.CountTokens(chat),
                             .threads = config.model.local.threads_per_answer};
  return rate;
}

Rate EmbedRate(const Config& config, const ServeLimits& limits, Backend& backend) {
  const auto text = RandomWords(kTextWords, 7);
  EmbedderOptions options;
  if (!config.model.local.passage_prefix.empty())
    options.passage_prefix = config.model.local.passage_prefix;
  const size_t tokens = Embedder(config.model.local.embedder, 1, options).CountSeen(text, false);
  Rate rate;
  rate.what = "embed: text of " + std::to_string(tokens) + " tokens";
  rate.tokens = static_cast<double>(tokens);
  // 4 h^2 of attention and 2 h 4h of the feed-forward part: what BERT's family has.
  const GgufInfo info = InfoOf(config.model.local.embedder);
  const double width = info.embedding_length;
  rate.limit = limits.gflops_one_thread * 1e9 / (2 * 12 * width * width * info.layers);
  rate.nudge_ms = [&backend, text] {
    return MsOf([&] {
      const auto vector = backend.Embed(0, text, false);
      if (!vector.ok()) throw StartError(vector.error().message);
    });
  };
  rate.task = LlamaBenchTask{.model = config.model.local.embedder,
                             .prompt_tokens = tokens,
                             .threads = 1,
                             .embeddings = true};
  return rate;
}

struct Measured {
  std::vector<double> nudge_ms, shipped_ms, plain_ms;
};

Measured Measure(const Rate& rate, const LlamaBench* beside) {
  Measured measured;
  rate.nudge_ms();  // warms up
  for (int round = 0; round < kRounds && !stop_requested; ++round) {
    measured.nudge_ms.push_back(rate.nudge_ms());
    if (beside == nullptr || !rate.task) continue;
    const LlamaBenchTimes times = beside->Run(*rate.task);
    measured.shipped_ms.push_back(times.shipped_ms);
    measured.plain_ms.push_back(times.plain_ms);
  }
  return measured;
}

// Speed, and its share of the limit.
void PrintSpeed(const Rate& rate, double ms) {
  const double speed = 1000 * rate.tokens / ms;
  std::printf(" %9.0f", speed);
  if (rate.limit > 0) {
    std::printf(" %4.0f %%", 100 * speed / rate.limit);
  } else {
    std::printf(" %6s", "-");
  }
}

void PrintRow(const Rate& rate, const Measured& measured) {
  std::printf("  %-46s", rate.what.c_str());
  const double nudge_ms = Median(measured.nudge_ms);
  PrintSpeed(rate, nudge_ms);
  for (const auto* times : {&measured.shipped_ms, &measured.plain_ms}) {
    if (times->empty()) continue;
    std::printf("  ");
    PrintSpeed(rate, Median(*times));
    std::printf(" %6.2f", Median(*times) / nudge_ms);
  }
  std::printf("\n");
}

void PrintHead(const Config& config, const ServeLimits& limits, double bandwidth,
               const LlamaBench* beside) {
  std::printf(
      "serve: answers by %u thread%s, embeddings by 1, nothing in the KV cache; medians of %d\n"
      "  limits of one thread: %.0f GFLOP/s of %s products for a prompt and a text, and %.1f GB/s "
      "of memory,\n  which has the whole file to give for each token\n",
      config.model.local.threads_per_answer, config.model.local.threads_per_answer == 1 ? "" : "s",
      kRounds, limits.gflops_one_thread, std::string(Name(limits.products)).c_str(), bandwidth);
  if (beside == nullptr) {
    std::printf(
        "  to have llama.cpp's own speed beside it: scripts/setup --tools, then --beside "
        ".cache/llama-tools/bin/llama-bench\n  %-46s %9s %6s\n",
        "tokens/s, share of the limit", "nudge", "limit");
    return;
  }
  std::printf(
      "  ratio: nudge's speed to llama.cpp's, as it ships and with its flash attention off\n"
      "  %-46s %9s %6s  %9s %6s %6s  %9s %6s %6s\n",
      "tokens/s, share of the limit", "nudge", "limit", "llama.cpp", "limit", "ratio", "flash off",
      "limit", "ratio");
}

}  // namespace

void BenchRates(const Config& config, const ServeLimits& limits, Backend& backend,
                const LlamaBench* beside) {
  const auto adapter = backend.NewLearner("rates")->Publish("base", SerialFor());
  if (!adapter.ok()) throw StartError(adapter.error().message);
  const double bandwidth = ReadBandwidth();
  std::vector<Rate> rates = {PromptRate(config, limits, backend),
                             DrawnRate(config, bandwidth, backend, nullptr),
                             DrawnRate(config, bandwidth, backend, adapter->get())};
  if (backend.dimension() != 0) rates.push_back(EmbedRate(config, limits, backend));
  PrintHead(config, limits, bandwidth, beside);
  for (const Rate& rate : rates) {
    const Measured measured = Measure(rate, beside);
    if (stop_requested) return;
    PrintRow(rate, measured);
  }
}

}  // namespace nudge
