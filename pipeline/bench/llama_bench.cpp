#include "pipeline/bench/llama_bench.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "stages/result.h"

extern char** environ;

namespace nudge {
namespace {

constexpr size_t kPrintedBytesMax = 1 << 20;
constexpr size_t kShownBytes = 200;
constexpr int kAutomatic = -1, kOff = 0;  // flash attention, as llama.cpp numbers it

struct Ended {
  int status = 0;       // as waitpid gives it
  std::string printed;  // to standard output and error
};

// Reads until the other end is closed, or until it is too much: false.
bool ReadAll(int descriptor, std::string* text) {
  char buffer[4096];
  while (text->size() <= kPrintedBytesMax) {
    const ssize_t got = read(descriptor, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    text->append(buffer, static_cast<size_t>(got));
  }
  return false;
}

Ended RunChild(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw StartError("--beside: no pipe: " + std::string(std::strerror(errno)));
  }
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDERR_FILENO);
  // In a group of its own: a Ctrl-C is for nudge, which stops when the child has ended.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  Ended ended;
  if (failed != 0) {
    close(ends[0]);
    throw StartError("--beside: cannot run " + words[0] + ": " + std::strerror(failed) +
                     ": name llama.cpp's llama-bench; scripts/setup --tools makes "
                     ".cache/llama-tools/bin/llama-bench");
  }
  if (!ReadAll(ends[0], &ended.printed)) kill(child, SIGKILL);
  close(ends[0]);
  while (waitpid(child, &ended.status, 0) < 0 && errno == EINTR) {
  }
  return ended;
}

// The end of what a program printed, for an error.
std::string Shown(std::string printed) {
  while (!printed.empty() && printed.back() == '\n') printed.pop_back();
  if (printed.empty()) return "it printed nothing";
  if (printed.size() > kShownBytes) printed = "..." + printed.substr(printed.size() - kShownBytes);
  return "it printed: " + printed;
}

// What one line tells of the task; nothing if it is about another one, or no JSON. Throws
// nlohmann's exceptions for JSON that is not llama-bench's.
std::optional<std::pair<int, double>> TimeIn(const nlohmann::json& line,
                                             const LlamaBenchTask& task) {
  const bool same = line.at("n_prompt").get<size_t>() == task.prompt_tokens &&
                    line.at("n_gen").get<size_t>() == task.drawn_tokens &&
                    line.at("n_depth").get<size_t>() == task.depth_tokens &&
                    line.at("n_threads").get<uint32_t>() == task.threads &&
                    line.at("embeddings").get<bool>() == task.embeddings;
  if (!same) return std::nullopt;
  return std::pair(line.at("flash_attn").get<int>(), line.at("avg_ns").get<double>() / 1e6);
}

}  // namespace

LlamaBenchTimes ParseLlamaBench(const std::string& printed, const LlamaBenchTask& task) {
  LlamaBenchTimes times;
  std::istringstream lines(printed);
  for (std::string text; std::getline(lines, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, false);
    if (!line.is_object()) continue;
    try {
      const auto time = TimeIn(line, task);
      if (!time) continue;
      if (time->first == kAutomatic) times.shipped_ms = time->second;
      if (time->first == kOff) times.plain_ms = time->second;
    } catch (const nlohmann::json::exception&) {
      continue;
    }
  }
  if (!(times.shipped_ms > 0) || !(times.plain_ms > 0)) {
    throw StartError(
        "--beside: no times as llama-bench -o jsonl prints them: name llama.cpp's "
        "llama-bench; " +
        Shown(printed));
  }
  return times;
}

LlamaBench::LlamaBench(std::string program, const std::string& model)
    : program_(std::move(program)) {
  LlamaBenchTask task;
  task.model = model;
  task.prompt_tokens = 1;
  (void)Run(task);
}

LlamaBenchTimes LlamaBench::Run(const LlamaBenchTask& task) const {
  const std::vector<std::string> words = {program_,
                                          "-m",
                                          task.model,
                                          "-p",
                                          std::to_string(task.prompt_tokens),
                                          "-n",
                                          std::to_string(task.drawn_tokens),
                                          "-d",
                                          std::to_string(task.depth_tokens),
                                          "-t",
                                          std::to_string(task.threads),
                                          "-embd",
                                          task.embeddings ? "1" : "0",
                                          "-fa",
                                          "auto,off",
                                          "-r",
                                          "1",
                                          "-o",
                                          "jsonl"};
  const Ended ended = RunChild(words);
  if (!WIFEXITED(ended.status) || WEXITSTATUS(ended.status) != 0) {
    throw StartError("--beside: " + program_ +
                     (WIFEXITED(ended.status)
                          ? " ended with " + std::to_string(WEXITSTATUS(ended.status))
                          : " was ended by signal " + std::to_string(WTERMSIG(ended.status))) +
                     ": name llama.cpp's llama-bench; " + Shown(ended.printed));
  }
  return ParseLlamaBench(ended.printed, task);
}

}  // namespace nudge
