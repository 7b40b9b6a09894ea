#include "pipeline/simulate/closed_loop.h"

#include <fcntl.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <map>
#include <thread>
#include <utility>

#include "connectors/codec.h"
#include "connectors/file_sink.h"
#include "connectors/pushed_source.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/processor.h"
#include "pipeline/report/held_out.h"
#include "pipeline/stop_requested.h"
#include "stages/chat_assembly.h"
#include "stages/files.h"
#include "stages/guarded.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{100};   // how late a stop may be seen
constexpr std::chrono::minutes kLongestWait{15};  // for the next outcome or lesson

// Outcomes that wait to be looked at. Deliver and Finish: the processor's threads.
class Desk {
 public:
  void Deliver(const OutcomeLine& line) {
    Result<RecordedOutcome> recorded = DecodeOutcome(line.bytes);
    ENSURE(recorded.ok());
    Ending ending;
    const MutexLock lock(mutex_);
    if (auto* response = std::get_if<Response>(&recorded->outcome.what)) {
      ending.response = std::move(*response);
    } else if (const auto* applied = std::get_if<Applied>(&recorded->outcome.what)) {
      ending.receipt = applied->summary;
    } else if (const auto* letter = std::get_if<DeadLetter>(&recorded->outcome.what)) {
      ending.refusal = recorded->outcome.id + ": " + letter->stage + ", " + letter->error.message;
      if (refused_++ == 0) first_refusal_ = ending.refusal;
    }
    newest_ = recorded->offset;
    endings_[newest_] = std::move(ending);
    changed_.NotifyAll();
  }

  void Finish() {
    const MutexLock lock(mutex_);
    finished_ = true;
    changed_.NotifyAll();
  }

  // Until all outcomes up to `offset` are there.
  Result<Nothing> AwaitAll(int64_t offset) {
    const MutexLock lock(mutex_);
    const auto is_there = [&]() REQUIRES(mutex_) { return newest_ >= offset; };
    auto deadline = Clock::now() + kLongestWait;
    int64_t seen = newest_;
    while (!is_there()) {
      if (newest_ != seen) deadline = Clock::now() + kLongestWait;
      seen = newest_;
      if (stop_requested) return Error{Code::kInternal, "interrupted", ""};
      if (finished_) return Error{Code::kInternal, "the run ended before its events did", ""};
      if (Clock::now() > deadline) {
        return Error{Code::kInternal,
                     "no outcome of event " + std::to_string(newest_ + 1) + " in " +
                         std::to_string(kLongestWait.count()) + " minutes",
                     "look at the model and the machine"};
      }
      changed_.WaitFor(mutex_, kPoll, [&]() REQUIRES(mutex_) { return is_there() || finished_; });
    }
    return Nothing{};
  }

  Ending Take(int64_t offset) {
    const MutexLock lock(mutex_);
    const auto found = endings_.find(offset);
    ENSURE(found != endings_.end());
    Ending ending = std::move(found->second);
    endings_.erase(found);
    return ending;
  }

  bool finished() const {
    const MutexLock lock(mutex_);
    return finished_;
  }
  uint64_t refused() const {
    const MutexLock lock(mutex_);
    return refused_;
  }
  std::string first_refusal() const {
    const MutexLock lock(mutex_);
    return first_refusal_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<int64_t, Ending> endings_ GUARDED_BY(mutex_);
  int64_t newest_ GUARDED_BY(mutex_) = -1;
  bool finished_ GUARDED_BY(mutex_) = false;
  uint64_t refused_ GUARDED_BY(mutex_) = 0;
  std::string first_refusal_ GUARDED_BY(mutex_);
};

Config ForLoop(Config config, const std::string& folder) {
  config.input.path = "-";
  config.report.held_out.clear();
  config.checkpoint.enabled = false;
  config.processor.graph.commands = {};  // nobody else writes to the loop's log
  config.output.folder = folder;
  RequireInputs(config);
  std::error_code ignored;
  std::filesystem::remove_all(std::filesystem::path(folder) / "snapshots", ignored);
  return config;
}

Descriptor OpenLog(const std::string& folder) {
  const std::string path = folder + "/events.jsonl";
  (void)MakeFolders(folder);
  Result<Descriptor> opened = OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  if (!opened.ok()) {
    throw StartError(path + ": cannot be written: " + opened.error().message +
                     ": choose another folder with --out");
  }
  return std::move(*opened);
}

}  // namespace

struct ClosedLoop::Parts {
  Parts(Config given, const std::string& folder)
      : config(ForLoop(std::move(given), folder)),
        options(ToProcessorOptions(config)),
        log(OpenLog(folder)),
        log_path(folder + "/events.jsonl"),
        backend(MakeBackend(config)),
        sink({.folder = folder, .existing = FileSinkOptions::Existing::kOverwrite}),
        processor(options,
                  {[this](const OutcomeLine& line) { desk.Deliver(line); },
                   {},
                   [](const std::string& notice) { std::cerr << "nudge: " << notice << "\n"; }},
                  *backend, source, sink),
        thread([this] {
          done = processor.Run(stop_requested);
          desk.Finish();
        }) {}
  ~Parts() { Join(); }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  void Join() {
    source.Close();
    if (thread.joinable()) thread.join();
  }

  // Until all outcomes up to `offset` are there. Where the run has ended, what it ended with.
  Result<Nothing> AwaitAll(int64_t offset) {
    Result<Nothing> waited = desk.AwaitAll(offset);
    if (waited.ok() || !desk.finished()) return waited;
    Join();
    if (done.ok()) return waited;
    return Error{done.error().code, done.error().message, "mend that; a simulation begins anew"};
  }

  const Config config;
  const ProcessorOptions options;
  const Descriptor log;
  const std::string log_path;
  int64_t lines = 0;
  const std::unique_ptr<Backend> backend;
  PushedSource source;
  FileSink sink;
  Desk desk;
  Processor processor;
  Result<std::map<int32_t, PartitionSummary>> done = Error{};
  std::thread thread;  // last: it uses the others
};

ClosedLoop::ClosedLoop(Config config, const std::string& folder)
    : parts_(std::make_unique<Parts>(std::move(config), folder)) {}

ClosedLoop::~ClosedLoop() = default;

Result<int64_t> ClosedLoop::Send(const Event& event) {
  Record record;
  record.offset = parts_->lines;
  record.bytes = EncodeEvent(event);
  const Result<Event> read = DecodeEvent(record.bytes, parts_->config.processor.graph.limits);
  if (!read.ok()) return read.error();
  if (const Result<Nothing> written = WriteAll(parts_->log, record.bytes + "\n"); !written.ok()) {
    return Error{Code::kUnreadableFile,
                 parts_->log_path + ": cannot be written: " + written.error().message,
                 written.error().remedy};
  }
  parts_->source.Push(std::move(record));
  return parts_->lines++;
}

Result<Ending> ClosedLoop::Await(int64_t offset) {
  if (const auto waited = parts_->AwaitAll(offset); !waited.ok()) return waited.error();
  return parts_->desk.Take(offset);
}

Result<Nothing> ClosedLoop::Settle() {
  if (auto waited = parts_->AwaitAll(parts_->lines - 1); !waited.ok()) return waited;
  Executor& executor = parts_->processor.executor();
  auto deadline = Clock::now() + kLongestWait;
  size_t seen = executor.lessons_left();
  while (!executor.WaitForLessons(kPoll)) {
    const size_t left = executor.lessons_left();
    if (left != seen) deadline = Clock::now() + kLongestWait;
    seen = left;
    if (stop_requested) return Error{Code::kInternal, "interrupted", ""};
    if (Clock::now() > deadline) {
      return Error{Code::kInternal,
                   "no lesson was learnt in " + std::to_string(kLongestWait.count()) + " minutes",
                   "look at the model and the machine"};
    }
  }
  return Nothing{};
}

Result<std::vector<std::string>> ClosedLoop::Ask(const Beside& beside,
                                                 const std::vector<std::string>& questions) {
  Backend& backend = *parts_->backend;
  std::shared_ptr<const AdapterVersion> adapter;
  if (beside.digest != "base") {
    adapter = parts_->processor.executor().Latest(0, beside.tenant);
    if (adapter == nullptr || adapter->digest != beside.digest) {
      return Error{Code::kInternal, "the version that serves is not the tenant's newest",
                   "a simulation has no rollback, and one adapter a tenant"};
    }
  }
  const PromptOptions& prompt = parts_->options.prompt;
  Chosen chosen;
  chosen.system = beside.system.empty() ? prompt.default_system : beside.system;
  chosen.decoding = prompt.presets.front().decoding;
  chosen.decoding.temperature = 0;
  const ChatAssembly assembly(
      {[&](const std::vector<ChatMessage>& chat) { return backend.CountTokens(chat); },
       backend.window_tokens()},
      parts_->options.respond.prompt_tokens_max);
  HeldOut asked;
  std::map<std::string, std::vector<ChatMessage>> chats;
  for (const std::string& question : questions) {
    Result<AssembledChat> chat = assembly.Apply({question, {}}, chosen, {});
    if (!chat.ok()) return chat.error();
    chats[question] = std::move(chat->chat);
    asked.questions.push_back({beside.tenant, question, "", "", false});
  }
  return AnswerHeldOut(
      asked, backend, [&](const HeldOut::Question& question) { return chats.at(question.query); },
      [&](const TenantId&) { return adapter.get(); },
      {.decoding = chosen.decoding, .slots = parts_->options.executor.threads, .cancelled = [] {
         return stop_requested.load();
       }});
}

uint64_t ClosedLoop::refused() const {
  return parts_->desk.refused();
}
std::string ClosedLoop::first_refusal() const {
  return parts_->desk.first_refusal();
}
std::string ClosedLoop::description() const {
  return parts_->backend->description();
}

Result<Sha256Digest> ClosedLoop::Finish() {
  parts_->Join();
  if (!parts_->done.ok()) return parts_->done.error();
  if (stop_requested) return Error{Code::kInternal, "interrupted", ""};
  return parts_->done->empty() ? Sha256Digest{} : parts_->done->begin()->second.chain;
}

}  // namespace nudge
