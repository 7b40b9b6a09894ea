#include "connectors/http/confined_program.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <optional>
#include <thread>

#include "stages/files.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uid_t kNobody = 65534;
constexpr int kNotConfined = 126;  // exit codes of the child, as shells use them
constexpr int kNotStarted = 127;

constexpr std::chrono::milliseconds kToEnd{1'000};  // from the end of its output
constexpr std::chrono::milliseconds kToDie{5'000};  // once it is killed

// What a program is made of, and what a reader of documents may look up: fonts, encodings, zones.
constexpr const char* kReadable[] = {"/usr",       "/lib",         "/lib64",
                                     "/bin",       "/opt",         "/etc/ld.so.cache",
                                     "/etc/fonts", "/etc/poppler", "/etc/localtime"};

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
constexpr uint32_t kOtherNumbers = 0x40000000;  // x32: the same calls by other numbers
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
constexpr uint32_t kOtherNumbers = 0xffffffff;
#endif

// Answered with EPERM: other processes, the network, and ways around a filter of calls.
constexpr uint32_t kDenied[] = {
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_io_uring_setup,
    SYS_clone,
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_chroot,
    SYS_bpf,
    SYS_kill,
    SYS_tkill,
    SYS_tgkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    SYS_userfaultfd,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_perf_event_open,
    SYS_prlimit64,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_migrate_pages,
    SYS_move_pages,
    SYS_sched_setaffinity,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
#if defined(__x86_64__)
    SYS_fork,
    SYS_vfork,
#endif
};

constexpr sock_filter Statement(uint16_t code, uint32_t value) {
  return {code, 0, 0, value};
}

// One instruction for each call, made before the fork.
std::vector<sock_filter> FilterOfCalls() {
  constexpr uint16_t kLoad = BPF_LD | BPF_W | BPF_ABS;
  constexpr uint16_t kReturn = BPF_RET | BPF_K;
  constexpr uint16_t kIsEqual = BPF_JMP | BPF_JEQ | BPF_K;
  const auto deny_with = [](int error) {
    return Statement(kReturn, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error));
  };
  std::vector<sock_filter> filter = {
      Statement(kLoad, offsetof(seccomp_data, arch)),
      {kIsEqual, 1, 0, kArchitecture},
      Statement(kReturn, SECCOMP_RET_KILL_PROCESS),
      Statement(kLoad, offsetof(seccomp_data, nr)),
      {BPF_JMP | BPF_JGE | BPF_K, 0, 1, kOtherNumbers},
      deny_with(EPERM),
      // The C library asks for clone3 first, and does with clone where there is none.
      {kIsEqual, 0, 1, SYS_clone3},
      deny_with(ENOSYS),
  };
  for (const uint32_t call : kDenied) {
    filter.push_back({kIsEqual, 0, 1, call});
    filter.push_back(deny_with(EPERM));
  }
  filter.push_back(Statement(kReturn, SECCOMP_RET_ALLOW));
  return filter;
}

// All that this kernel's Landlock knows of files is handled, and so refused but for kReadable.
Result<Descriptor> RulesOfFiles() {
  const auto failed = [](const char* what) {
    return Error{Code::kUnavailable,
                 std::string(what) + ": " + FileError(errno).message +
                     ": this kernel cannot confine a program to files (Landlock, Linux 5.13)",
                 "use a kernel that can, or leave the program out"};
  };
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return failed("Landlock");
  landlock_ruleset_attr handled = {};
  handled.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;  // the first version's
  if (version >= 2) handled.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) handled.handled_access_fs |= uint64_t{1} << 14;  // TRUNCATE
  Descriptor rules(static_cast<int>(
      syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled.handled_access_fs), 0)));
  if (!rules) return failed("a set of rules");
  for (const char* path : kReadable) {
    const Descriptor place(open(path, O_PATH | O_CLOEXEC));
    if (!place) continue;  // not on this system
    struct stat about;
    if (fstat(*place, &about) != 0) return failed(path);
    landlock_path_beneath_attr beneath = {};
    beneath.parent_fd = *place;
    beneath.allowed_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE;
    if (S_ISDIR(about.st_mode)) beneath.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
    if (syscall(SYS_landlock_add_rule, *rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0) {
      return failed(path);
    }
  }
  return rules;
}

void Limit(int what, rlim_t most) {
  const rlimit limit{most, most};
  if (setrlimit(static_cast<__rlimit_resource>(what), &limit) != 0) _exit(kNotConfined);
}

struct Prepared {
  std::vector<char*> words;
  std::vector<sock_filter> filter;
  Descriptor rules;
  Descriptor input;
  Descriptor output;  // the end that the program writes to
  rlim_t memory_bytes = 0;
  rlim_t seconds = 0;
};

// In the child of a process with threads: system calls alone, nothing that may want a lock.
[[noreturn]] void BecomeProgram(const Prepared& prepared) {
  constexpr unsigned kFirstOther = 3;
  const auto must = [](bool done) {
    if (!done) _exit(kNotConfined);
  };
  const int none = open("/dev/null", O_WRONLY);
  must(dup2(*prepared.input, STDIN_FILENO) >= 0 && dup2(*prepared.output, STDOUT_FILENO) >= 0 &&
       dup2(none, STDERR_FILENO) >= 0);
  const int rules = fcntl(*prepared.rules, F_DUPFD, 64);
  must(rules >= 64);
  syscall(SYS_close_range, kFirstOther, static_cast<unsigned>(rules) - 1, 0);
  syscall(SYS_close_range, static_cast<unsigned>(rules) + 1, ~0U, 0);
  must(chdir("/") == 0);
  Limit(RLIMIT_AS, prepared.memory_bytes);
  Limit(RLIMIT_CPU, prepared.seconds);
  Limit(RLIMIT_FSIZE, 0);
  Limit(RLIMIT_CORE, 0);
  if (geteuid() == 0) {
    must(syscall(SYS_setgroups, 0, nullptr) == 0 &&
         syscall(SYS_setresgid, kNobody, kNobody, kNobody) == 0 &&
         syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0);
  }
  must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
  must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  must(syscall(SYS_landlock_restrict_self, rules, 0) == 0);
  close(rules);
  sigset_t nothing;
  sigemptyset(&nothing);
  sigprocmask(SIG_SETMASK, &nothing, nullptr);
  sock_fprog program{static_cast<unsigned short>(prepared.filter.size()),
                     const_cast<sock_filter*>(prepared.filter.data())};
  must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  char path[] = "PATH=/usr/bin:/bin";
  char language[] = "LC_ALL=C.UTF-8";
  char* environment[] = {path, language, nullptr};
  execve(prepared.words[0], prepared.words.data(), environment);
  _exit(kNotStarted);
}

Result<Prepared> Prepare(const ConfinedProgram& program, std::string_view input,
                         std::vector<std::string>& words) {
  Prepared prepared;
  for (std::string& word : words) prepared.words.push_back(word.data());
  prepared.words.push_back(nullptr);
  prepared.filter = FilterOfCalls();
  auto rules = RulesOfFiles();
  if (!rules.ok()) return rules.error();
  prepared.rules = std::move(*rules);
  prepared.input = Descriptor(memfd_create("document", MFD_CLOEXEC));
  if (!prepared.input) return Error{Code::kUnavailable, FileError(errno).message, ""};
  if (auto written = WriteAll(prepared.input, input); !written.ok()) {
    return Error{Code::kUnavailable, written.error().message, ""};
  }
  lseek(*prepared.input, 0, SEEK_SET);
  prepared.memory_bytes = program.memory_bytes_max;
  prepared.seconds = static_cast<rlim_t>(program.timeout.count() / 1000 + 1);
  return prepared;
}

// How it ended, nothing where it did not within the time.
std::optional<int> AwaitEnd(pid_t child, std::chrono::milliseconds most) {
  const auto end = Clock::now() + most;
  int status = 0;
  while (true) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) return status;
    if ((ended < 0 && errno != EINTR) || Clock::now() >= end) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

struct Collected {
  std::string output;
  bool is_late = false;
  bool is_long = false;
};

Collected Collect(int from, const ConfinedProgram& program) {
  Collected collected;
  const auto end = Clock::now() + program.timeout;
  char piece[64 << 10];
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    pollfd ready{from, POLLIN, 0};
    if (left.count() <= 0 || poll(&ready, 1, static_cast<int>(left.count())) == 0) {
      collected.is_late = true;
      return collected;
    }
    const ssize_t bytes = read(from, piece, sizeof(piece));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return collected;
    collected.output.append(piece, static_cast<size_t>(bytes));
    if (collected.output.size() > program.output_bytes_max) {
      collected.is_long = true;
      return collected;
    }
  }
}

Result<Nothing> VerdictOf(int status, const Collected& collected, const ConfinedProgram& program) {
  const std::string name = program.words.front();
  if (collected.is_late) {
    return Error{Code::kTooLarge,
                 name + " took more than " + std::to_string(program.timeout.count()) + " ms", ""};
  }
  if (collected.is_long) {
    return Error{Code::kTooLarge,
                 name + " gave more than " + std::to_string(program.output_bytes_max) + " bytes",
                 ""};
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Nothing{};
  if (WIFEXITED(status) && WEXITSTATUS(status) >= kNotConfined) {
    return Error{Code::kUnavailable, name + " could not be started without rights", ""};
  }
  return Error{
      Code::kUnreadableFile,
      name + (WIFSIGNALED(status) ? " ended by signal " + std::to_string(WTERMSIG(status))
                                  : " ended with exit code " + std::to_string(WEXITSTATUS(status))),
      ""};
}

}  // namespace

Result<Nothing> CanRunConfined(const ConfinedProgram& program) {
  if (program.words.empty() || !program.words.front().starts_with('/')) {
    return Error{Code::kUnreadableFile, "a program is named by a path that begins with /", ""};
  }
  const std::string& path = program.words.front();
  if (access(path.c_str(), X_OK) != 0) {
    return Error{Code::kUnreadableFile, path + ": " + FileError(errno).message, ""};
  }
  auto rules = RulesOfFiles();
  if (!rules.ok()) return rules.error();
  return Nothing{};
}

Result<std::string> RunConfined(const ConfinedProgram& program, std::string_view input) {
  std::vector<std::string> words = program.words;
  auto prepared = Prepare(program, input, words);
  if (!prepared.ok()) return prepared.error();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error{Code::kUnavailable, FileError(errno).message, ""};
  const Descriptor from(ends[0]);
  prepared->output = Descriptor(ends[1]);
  const pid_t child = fork();
  if (child < 0) return Error{Code::kUnavailable, FileError(errno).message, ""};
  if (child == 0) BecomeProgram(*prepared);
  prepared->output = Descriptor();
  Collected collected = Collect(*from, program);
  std::optional<int> status;
  if (!collected.is_late && !collected.is_long) {
    status = AwaitEnd(child, kToEnd);
    collected.is_late = !status;
  }
  if (!status) {
    ::kill(child, SIGKILL);
    status = AwaitEnd(child, kToDie);
  }
  if (!status) return Error{Code::kUnavailable, program.words.front() + " does not die", ""};
  if (auto well = VerdictOf(*status, collected, program); !well.ok()) return well.error();
  return std::move(collected.output);
}

}  // namespace nudge
