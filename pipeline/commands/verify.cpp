// `nudge verify`: a browser page's lessons, learnt again.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "connectors/web/module/lesson_replay.h"
#include "pipeline/commands/commands.h"
#include "pipeline/observe/printable.h"
#include "stages/files.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/loop_threads.h"
#include "stages/model/trainer/gemm.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kModelBytesMax = uintmax_t{2} << 30;  // a page's memory

Error Named(const std::string& path, const Error& error) {
  return {error.code, path + ": " + error.message, error.remedy};
}

Result<Nothing> ReadModel(const std::string& path, ReplayInput& input) {
  std::error_code failed;
  const uintmax_t bytes = fs::file_size(path, failed);
  std::ifstream file(path, std::ios::binary);
  if (failed || !file) {
    return Error{Code::kUnreadableFile, path + ": no such file, or it cannot be read",
                 "name the GGUF that the page had loaded"};
  }
  if (bytes > kModelBytesMax) {
    return Error{Code::kUnreadableFile, path + ": more bytes than a page can load",
                 "name the GGUF that the page had loaded"};
  }
  const std::shared_ptr<void> memory(AllocateAligned(bytes), FreeAligned{});
  file.read(static_cast<char*>(memory.get()), static_cast<std::streamsize>(bytes));
  if (static_cast<uintmax_t>(file.gcount()) != bytes) {
    return Error{Code::kUnreadableFile, path + ": it broke off while it was read", "try again"};
  }
  input.model = memory;
  input.model_bytes = bytes;
  return Nothing{};
}

Result<Nothing> WriteAdapter(const std::string& path, const WebSession& session) {
  const auto bytes = session.Export(AdapterPrecision::kF32);
  if (!bytes.ok()) return bytes.error();
  const auto written = ReplaceFile(path, *bytes);
  if (!written.ok()) return Named(path, written.error());
  return Nothing{};
}

int Differs(const std::string& path, const LessonDifference& difference) {
  std::cout << Printable(path) << ": not the same, from line " << difference.line << " on (lesson "
            << difference.lesson << "): " << Printable(difference.what) << "\n";
  return kExitFailed;
}

void Print(const std::string& path, const ReplayedLessons& replayed) {
  std::cout << Printable(path) << ": the same adapter behind each of " << replayed.lessons
            << " lessons";
  if (replayed.taken != replayed.lessons) {
    std::cout << " (" << replayed.lessons - replayed.taken << " set aside)";
  }
  if (replayed.steps > 0) std::cout << " and " << replayed.steps << " steps";
  std::cout << "\n  base    " << replayed.session->base_sha256() << "\n  digest  "
            << replayed.session->digest() << "\n";
}

}  // namespace

int VerifyLessons(const VerifyArguments& arguments) {
  std::error_code ignored;
  if (!arguments.out.empty() && fs::exists(fs::symlink_status(arguments.out, ignored))) {
    return FailWith(
        {Code::kUnreadableFile, arguments.out + " is there already: it is not written over",
         "name a new file"},
        kExitUsage);
  }
  ReplayInput input;
  const auto log = ReadFile(arguments.lessons, kReplayLogBytesMost);
  if (!log.ok()) return FailWith(Named(arguments.lessons, log.error()), kExitUsage);
  input.log = *log;
  for (const std::string& path : arguments.adapters) {
    auto files = ReadAdapterFiles(path, "");
    if (!files.ok()) return FailWith(files.error(), kExitUsage);
    input.adapters.push_back(std::move(files.value().bytes));
  }
  if (const auto read = ReadModel(arguments.model, input); !read.ok()) {
    return FailWith(read.error(), kExitUsage);
  }
  LoopThreads threads(arguments.threads > 0
                          ? arguments.threads
                          : std::max<size_t>(1, std::thread::hardware_concurrency()));
  const auto replayed = ReplayLessons(input, threads.For());
  if (!replayed.ok()) return FailWith(Named(arguments.lessons, replayed.error()), kExitUsage);
  if (replayed->difference) return Differs(arguments.lessons, *replayed->difference);
  Print(arguments.lessons, *replayed);
  if (!replayed->cut.empty()) {
    return FailWith(
        {Code::kUnreadableFile, arguments.lessons + ": the log is cut: " + replayed->cut,
         "what the page learnt behind that cannot be verified"},
        kExitFailed);
  }
  if (arguments.out.empty()) return kExitDone;
  const auto written = WriteAdapter(arguments.out, *replayed->session);
  return written.ok() ? kExitDone : FailWith(written.error(), kExitFailed);
}

}  // namespace nudge
