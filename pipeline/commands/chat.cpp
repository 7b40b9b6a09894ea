// `nudge chat`: the whole loop, fed by a terminal.
//
//   typed line -> Event -> log file, [PushedSource] -> Processor -> MemorySink -> [Desk] -> shown
//
// The main thread reads lines and waits for each one's outcome; the processor runs on a thread of
// its own. An event stands in the log before it is processed, so the log always explains the state.
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "connectors/codec.h"
#include "connectors/file_source.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"
#include "connectors/memory.h"
#include "connectors/pushed_source.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/observe/printable.h"
#include "pipeline/processor.h"
#include "stages/files.h"
#include "stages/guarded.h"

namespace nudge {
namespace {

constexpr std::string_view kSource = "/chat";
constexpr std::chrono::milliseconds kPoll{100};  // how late a stop may be seen
constexpr std::string_view kHelp =
    "  a line           a question\n"
    "  +   -            the last answer was good, was bad\n"
    "  = TEXT           the last answer should have been TEXT\n"
    "  /add TITLE: TEXT a document to answer from\n"
    "  /help   /quit    (or the end of input)\n";

// The event log. One chat at a time has it open.
class EventLog {
 public:
  // Throws StartError: it cannot be opened or read, is compressed, or is in use.
  explicit EventLog(std::string path) : path_(std::move(path)) {
    (void)MakeFolders(std::filesystem::path(path_).parent_path().string());
    Result<Descriptor> opened = OpenFile(path_, O_RDWR | O_CREAT | O_APPEND);
    if (!opened.ok()) Throw("cannot be opened: " + opened.error().message);
    file_ = opened->Release();
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) Throw("is in use by another chat");
    CountLines();
  }
  ~EventLog() {
    if (file_ >= 0) ::close(file_);
  }
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  const std::string& path() const { return path_; }
  int64_t lines() const { return lines_; }

  // The lines of a file of events, where the log is empty. Throws StartError.
  void BeginWith(const std::string& path) {
    if (lines_ > 0) return;
    std::ifstream file(path, std::ios::binary);
    if (!file) throw StartError("chat: --begin-with: " + path + " cannot be read");
    for (std::string line; std::getline(file, line);) {
      const Result<Nothing> written = Append(line);
      if (!written.ok()) throw StartError("chat: " + written.error().message);
    }
  }

  // A whole line or, after an error, none.
  Result<Nothing> Append(const std::string& line) {
    const std::string bytes = (ends_open_ ? "\n" : "") + line + "\n";
    const off_t before = ::lseek(file_, 0, SEEK_END);
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t written = ::write(file_, bytes.data() + done, bytes.size() - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        const std::string why = std::strerror(errno);
        const bool cut = ::ftruncate(file_, before) == 0;
        return Error{
            Code::kUnreadableFile,
            path_ + ": cannot be written: " + why + (cut ? "" : "; its last line is not whole"),
            "free space on its disk, then start again: the log so far stands"};
      }
      done += static_cast<size_t>(written);
    }
    ends_open_ = false;
    ++lines_;
    return Nothing{};
  }

 private:
  [[noreturn]] void Throw(const std::string& what) {
    if (file_ >= 0) ::close(file_);
    file_ = -1;
    throw StartError("chat: the log " + path_ + " " + what + ": choose another with --log");
  }

  void CountLines() {
    std::string block(1 << 16, '\0');
    char last = '\n';
    for (off_t at = 0;;) {
      const ssize_t read = ::pread(file_, block.data(), block.size(), at);
      if (read < 0) Throw("cannot be read: " + std::string(std::strerror(errno)));
      if (read == 0) break;
      const std::string_view part(block.data(), static_cast<size_t>(read));
      if (at == 0 && part.front() == '\x1F') Throw("is compressed and cannot be continued");
      lines_ += std::count(part.begin(), part.end(), '\n');
      last = part.back();
      at += read;
    }
    ends_open_ = last != '\n';
    if (ends_open_) ++lines_;
  }

  const std::string path_;
  int file_ = -1;
  int64_t lines_ = 0;
  bool ends_open_ = false;  // the last line has no end yet
};

// Where outcomes wait to be shown. Deliver and Finish: other threads; Await: the terminal's.
class Desk {
 public:
  void Deliver(const OutcomeLine& line) {
    Result<RecordedOutcome> outcome = DecodeOutcome(line.bytes);
    ENSURE(outcome.ok());
    const MutexLock lock(mutex_);
    newest_ = std::move(*outcome);
    changed_.NotifyAll();
  }

  void Finish() {
    const MutexLock lock(mutex_);
    finished_ = true;
    changed_.NotifyAll();
  }

  // The outcome of the last record, whose offset it is; nothing if the run or the chat ends first.
  std::optional<Outcome> Await(int64_t offset) {
    const MutexLock lock(mutex_);
    const auto is_there = [&]() REQUIRES(mutex_) { return newest_ && newest_->offset >= offset; };
    while (!is_there() && !finished_ && !stop_requested) {
      changed_.WaitFor(mutex_, kPoll, [&]() REQUIRES(mutex_) { return is_there() || finished_; });
    }
    return is_there() ? std::optional(newest_->outcome) : std::nullopt;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<RecordedOutcome> newest_ GUARDED_BY(mutex_);
  bool finished_ GUARDED_BY(mutex_) = false;
};

// The processor on its thread; ends with the source.
class Runner {
 public:
  Runner(Processor& processor, PushedSource& source, Desk& desk)
      : source_(source), thread_([this, &processor, &desk] {
          done_ = processor.Run(stop_requested);
          desk.Finish();
        }) {}
  ~Runner() { Join(); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Waits for everything inside to be done.
  const Result<std::map<int32_t, PartitionSummary>>& Join() {
    source_.Close();
    if (thread_.joinable()) thread_.join();
    return done_;
  }

 private:
  PushedSource& source_;
  Result<std::map<int32_t, PartitionSummary>> done_ = Error{};
  std::thread thread_;  // last: it uses the others
};

std::streambuf* const kTerminal = std::cin.rdbuf();

// Lines of standard input, read so that a signal is seen while nobody types; or of whatever stands
// behind std::cin instead.
class LineReader {
 public:
  // Nothing at the end of input or on a stop.
  std::optional<std::string> Next() {
    if (::isatty(STDIN_FILENO) != 0) std::cout << "> " << std::flush;
    if (std::cin.rdbuf() != kTerminal) {
      std::string line;
      return std::getline(std::cin, line) ? std::optional(line) : std::nullopt;
    }
    while (!stop_requested) {
      const size_t end = buffer_.find('\n');
      if (end != std::string::npos) return Take(end, 1);
      if (ended_ && buffer_.empty()) return std::nullopt;
      if (ended_ || buffer_.size() >= kLongestBytes) return Take(buffer_.size(), 0);
      Read();
    }
    return std::nullopt;
  }

 private:
  static constexpr size_t kLongestBytes = 4 << 20;  // a longer line comes in pieces

  void Read() {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (::poll(&input, 1, static_cast<int>(kPoll.count())) <= 0) return;
    char block[4096];
    const ssize_t read = ::read(STDIN_FILENO, block, sizeof block);
    if (read > 0) buffer_.append(block, static_cast<size_t>(read));
    if (read == 0 || (read < 0 && errno != EINTR && errno != EAGAIN)) ended_ = true;
  }

  std::string Take(size_t size, size_t end) {
    std::string line = buffer_.substr(0, size);
    buffer_.erase(0, size + end);
    return line;
  }

  std::string buffer_;
  bool ended_ = false;
};

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

void Complain(const Error& error) {
  std::cout << "  " << Printable(error.message) << (error.remedy.empty() ? "" : ": ")
            << error.remedy << "\n";
}

void Show(const Outcome& outcome) {
  if (const auto* response = std::get_if<Response>(&outcome.what)) {
    std::cout << Printable(response->text) << "\n";
    for (size_t i = 0; i < response->citations.size(); ++i) {
      const Citation& citation = response->citations[i];
      std::cout << "  [" << i + 1 << "] " << Quoted(citation.document_id) << ", score "
                << citation.score << "\n";
    }
    std::cout << "  adapter version " << response->adapter_version
              << (response->cache_hit ? ", from the cache: " + response->cache_why : "") << "\n";
  } else if (const auto* applied = std::get_if<Applied>(&outcome.what)) {
    std::cout << "  " << Printable(applied->summary) << "\n";
  } else if (const auto* letter = std::get_if<DeadLetter>(&outcome.what)) {
    std::cout << "  refused by " << letter->stage << ", " << Name(letter->error.code) << ": ";
    Complain(letter->error);
  }
  std::cout << std::flush;
}

// What lines mean, and the events that they become.
class Conversation {
 public:
  Conversation(TenantId tenant, const EventLimits& limits, EventLog& log, PushedSource& source,
               Desk& desk)
      : tenant_(std::move(tenant)), limits_(limits), log_(log), source_(source), desk_(desk) {
    const Result<Event> probe = DecodeEvent(EncodeEvent(NewEvent(Query{"question", {}})), limits_);
    if (!probe.ok()) throw StartError("chat: --tenant: " + probe.error().message);
  }

  // The log's events so far: the chat goes on after them.
  void Continue() {
    FileSource file({.path = log_.path(), .line_bytes = limits_.line_bytes});
    Record record;
    int64_t last = -1;
    for (;;) {
      const Result<Source::Pull> pull = file.Next(record, kPoll);
      if (!pull.ok()) throw StartError("chat: " + pull.error().message);
      if (*pull == Source::Pull::kEnd) break;
      if (*pull == Source::Pull::kNothing) continue;
      last = record.offset;
      const Result<Event> event = record.refusal ? Result<Event>(record.refusal->error)
                                                 : DecodeEvent(record.bytes, limits_);
      if (event.ok() && event->tenant == tenant_ && std::holds_alternative<Query>(event->data)) {
        asked_ = {event->source, event->id};
      }
      source_.Push(std::move(record));
    }
    replayed_ = last;
  }

  // Waits until the log's events are done. False: the run or the chat ends.
  bool CatchUp() { return replayed_ < 0 || desk_.Await(replayed_); }

  // False: the chat is over.
  Result<bool> Hear(const std::string& raw) {
    const std::string_view line = Trimmed(raw);
    if (line.empty()) return true;
    if (line == "/quit") return false;
    if (!IsUtf8(line)) return Say("that is not UTF-8: set the terminal to it");
    if (line == "+" || line == "-") return Rate(line == "+" ? 1 : -1);
    if (line.front() == '=') return Correct(Trimmed(line.substr(1)));
    if (line.starts_with("/add ")) return Add(line.substr(5));
    if (line.front() == '/') return Say(kHelp);
    return Ask(line);
  }

 private:
  struct Asked {
    std::string source;
    std::string id;
  };

  template <class Data>
  Event NewEvent(Data data) const {
    Event event;
    event.id = "c" + std::to_string(log_.lines() + 1);
    event.source = kSource;
    event.tenant = tenant_;
    event.data = std::move(data);
    return event;
  }

  Result<bool> Say(std::string_view text) const {
    std::cout << (text.starts_with(' ') ? "" : "  ") << text << (text.ends_with('\n') ? "" : "\n");
    return true;
  }

  Result<bool> Ask(std::string_view text) {
    const Event event = NewEvent(Query{std::string(text), {}});
    Asked asked{event.source, event.id};
    Result<std::optional<Outcome>> outcome = Send(event);
    if (!outcome.ok()) return outcome.error();
    if (*outcome && std::holds_alternative<Response>((*outcome)->what)) asked_ = std::move(asked);
    return true;
  }

  Result<bool> Rate(double rating) {
    Feedback feedback;
    feedback.rating = rating;
    return Judge(std::move(feedback));
  }

  Result<bool> Correct(std::string_view text) {
    if (text.empty()) return Say("write the answer as it should have been behind the =");
    Feedback feedback;
    feedback.correction = std::string(text);
    return Judge(std::move(feedback));
  }

  Result<bool> Judge(Feedback feedback) {
    if (!asked_) return Say("there is no answer to speak of yet: ask something first");
    feedback.query_id = asked_->id;
    if (asked_->source != kSource) feedback.query_source = asked_->source;
    return Done(Send(NewEvent(std::move(feedback))));
  }

  Result<bool> Add(std::string_view text) {
    const size_t colon = text.find(':');
    const std::string title(Trimmed(text.substr(0, colon)));
    const std::string_view body =
        colon == std::string_view::npos ? std::string_view() : Trimmed(text.substr(colon + 1));
    if (title.empty() || body.empty()) return Say("write /add TITLE: TEXT");
    return Done(Send(NewEvent(DocumentUpsert{title, std::string(body), title, {}})));
  }

  static Result<bool> Done(const Result<std::optional<Outcome>>& sent) {
    if (!sent.ok()) return sent.error();
    return true;
  }

  // Into the log, through the loop, onto the screen. An event over the limits goes no further than
  // the screen; an error means that the chat cannot go on.
  Result<std::optional<Outcome>> Send(const Event& event) {
    Record record;
    record.offset = log_.lines();
    record.bytes = EncodeEvent(event);
    if (const Result<Event> read = DecodeEvent(record.bytes, limits_); !read.ok()) {
      Complain(read.error());
      return std::optional<Outcome>();
    }
    if (Result<Nothing> written = log_.Append(record.bytes); !written.ok()) return written.error();
    const int64_t offset = record.offset;
    source_.Push(std::move(record));
    std::optional<Outcome> outcome = desk_.Await(offset);
    if (outcome) {
      Show(*outcome);
    } else if (!stop_requested) {
      return Error{Code::kInternal, "the run ended before the answer", ""};
    }
    return outcome;
  }

  const TenantId tenant_;
  const EventLimits limits_;
  EventLog& log_;
  PushedSource& source_;
  Desk& desk_;
  std::optional<Asked> asked_;  // what feedback speaks of
  int64_t replayed_ = -1;       // offset of the log's last event when the chat began
};

// Until the input ends; what went wrong, if something did.
std::optional<Error> Converse(Conversation& conversation) {
  LineReader lines;
  if (!conversation.CatchUp()) return std::nullopt;
  while (!stop_requested) {
    const std::optional<std::string> line = lines.Next();
    if (!line) break;
    const Result<bool> heard = conversation.Hear(*line);
    if (!heard.ok()) return heard.error();
    if (!*heard) break;
  }
  return std::nullopt;
}

// For a shell: as it is where that is safe, else in single quotes.
std::string ForShell(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

int Chat(const ChatArguments& arguments) {
  Config config = ReadConfig(arguments.config_path);
  config.input.path = "-";  // the configured events and held-out questions play no part
  config.report.held_out.clear();
  config.checkpoint.enabled = false;  // the log is the state
  RequireInputs(config);
  ProcessorOptions options = ToProcessorOptions(config);

  EventLog log(arguments.log.empty() ? config.output.folder + "/chat.jsonl" : arguments.log);
  PushedSource source;
  MemorySink sink;
  Desk desk;
  Conversation conversation(arguments.tenant, config.processor.graph.limits, log, source, desk);
  if (!arguments.begin_with.empty()) log.BeginWith(arguments.begin_with);
  conversation.Continue();
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  Processor processor(options,
                      {[&](const OutcomeLine& line) { desk.Deliver(line); },
                       {},
                       [](const std::string& notice) { std::cerr << "nudge: " << notice << "\n"; }},
                      *backend, source, sink);
  std::cerr << backend->description() << "\n" << kHelp;
  if (log.lines() > 0) {
    std::cerr << "going on after line " << log.lines()
              << " of the log, once these are done again\n";
  }

  Runner runner(processor, source, desk);
  const std::optional<Error> failed = Converse(conversation);
  const auto& done = runner.Join();
  if (!done.ok()) return FailWith(done.error(), ExitCodeOf(done.error()));
  if (failed) return FailWith(*failed, kExitFailed);
  if (stop_requested) {
    std::cerr << "\nnudge: interrupted; every event is in " << log.path()
              << ": the same command goes on\n";
    return kExitInterrupted;
  }
  const Sha256Digest chain = done->empty() ? Sha256Digest{} : done->begin()->second.chain;
  std::cout << "outcomes sha256 " << Hex(chain) << "\n"
            << "the same again: nudge replay " << ForShell(arguments.config_path) << " --input "
            << ForShell(log.path()) << " --output " << ForShell(log.path() + ".replay")
            << " --quiet\n";
  return kExitDone;
}

}  // namespace nudge
