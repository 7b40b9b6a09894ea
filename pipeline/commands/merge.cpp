// `nudge merge`: adapters of one base model as one adapter.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <thread>

#include "pipeline/commands/commands.h"
#include "pipeline/observe/printable.h"
#include "stages/files.h"
#include "stages/hash.h"
#include "stages/model/adapters/adapter_merge.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/loop_threads.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

struct NamedInput {
  std::string path;
  std::optional<double> weight;
};

// PATH or PATH:WEIGHT; a path that is there as it stands has no weight.
NamedInput Parse(const std::string& text) {
  std::error_code ignored;
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || fs::exists(text, ignored)) return {text, std::nullopt};
  double weight = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data() + colon + 1, end, weight);
  if (read.ec != std::errc() || read.ptr != end) return {text, std::nullopt};
  return {text.substr(0, colon), weight};
}

Result<MergeInput> Read(const NamedInput& named) {
  const auto files = ReadAdapterFiles(named.path, "");
  if (!files) return files.error();
  const auto refused = [&](const Error& error) {
    return Error{error.code, files->name + ": " + error.message, error.remedy};
  };
  if (!files->config.empty()) {
    return refused({Code::kWrongAdapter, "a PEFT folder is not merged",
                    "name an adapter.gguf that nudge wrote: a snapshot holds both"});
  }
  auto adapter = DecodeGgufAsItIs(files->bytes);
  if (!adapter) return refused(adapter.error());
  return MergeInput{named.path, files->sha256, std::move(adapter).value(),
                    named.weight.value_or(0)};
}

Result<std::vector<MergeInput>> ReadAll(const std::vector<NamedInput>& named,
                                        const ParallelFor& parallel) {
  std::vector<std::optional<Result<MergeInput>>> read(named.size());
  RunParts(parallel, named.size(), [&](size_t i) { read[i] = Read(named[i]); });
  std::vector<MergeInput> inputs;
  for (auto& input : read) {
    if (!input->ok()) return input->error();
    inputs.push_back(std::move(*input).value());
  }
  return inputs;
}

std::string Percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g %%", 100 * share);
  return text;
}

void Print(const char* what, const MergeDistance& distance, const char* of) {
  std::cout << "  " << what << Percent(distance.share) << " of the norm";
  if (!distance.worst_module.empty()) {
    std::cout << ", " << Percent(distance.worst_share) << " in " << distance.worst_module;
  }
  std::cout << of << "\n";
}

void Print(const std::string& out, const MergedAdapter& merged, const std::string& weighted,
           const std::string& sha256) {
  const LoraShape& shape = merged.weights.shape;
  std::cout << Printable(out) << ": " << merged.manifest.merged_of.size() << " adapters, weighted "
            << weighted << ", as one of rank " << shape.rank << " and alpha " << shape.alpha
            << "\n";
  for (const MergedPart& part : merged.manifest.merged_of) {
    std::cout << "  " << part.sha256 << "  " << Percent(part.weight) << "\n";
  }
  if (merged.is_cut) {
    Print("error    ", merged.error, "");
  } else {
    std::cout << "  exact    " << (merged.shares_a ? "all have the same A: B is averaged" : "")
              << (merged.shares_a ? "" : "the factors stand side by side") << "\n";
  }
  if (merged.averaged) Print("averaged ", *merged.averaged, ", were A and B averaged apart");
  std::cout << "  digest   " << merged.manifest.digest << "\n  sha256   " << sha256 << "\n";
}

Error Taken(const std::string& out) {
  return {Code::kUnreadableFile, out + " is there already: it is not written over",
          "name a new file first, and then the adapters"};
}

}  // namespace

int MergeFiles(const MergeArguments& arguments) {
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(arguments.out, ignored))) {
    return FailWith(Taken(arguments.out), kExitUsage);
  }
  std::vector<NamedInput> named;
  for (const std::string& text : arguments.inputs) named.push_back(Parse(text));
  const auto weights = std::count_if(named.begin(), named.end(),
                                     [](const NamedInput& input) { return input.weight; });
  if (weights != 0 && static_cast<size_t>(weights) != named.size()) {
    return FailWith({Code::kWrongAdapter, "some of the adapters have a weight and others none",
                     "give each one a weight, as PATH:WEIGHT, or none"},
                    kExitUsage);
  }
  LoopThreads threads(arguments.threads > 0
                          ? arguments.threads
                          : std::max<size_t>(1, std::thread::hardware_concurrency()));
  auto inputs = ReadAll(named, threads.For());
  if (!inputs) return FailWith(inputs.error(), kExitUsage);
  std::string weighted = "as asked for";
  if (weights == 0) weighted = WeightByLessons(inputs.value()) ? "by their lessons" : "alike";
  const auto merged =
      MergeAdapters(std::move(inputs).value(), {arguments.rank, arguments.alpha}, threads.For());
  if (!merged) return FailWith(merged.error(), kExitUsage);
  const auto bytes =
      EncodeGguf(merged->weights, merged->manifest, {.precision = AdapterPrecision::kF32});
  if (!bytes) return FailWith(bytes.error(), kExitUsage);
  if (const auto written = ReplaceFile(arguments.out, *bytes); !written) {
    return FailWith({written.error().code, arguments.out + ": " + written.error().message,
                     written.error().remedy},
                    kExitFailed);
  }
  Print(arguments.out, *merged, weighted, Sha256Hex(*bytes));
  return kExitDone;
}

}  // namespace nudge
