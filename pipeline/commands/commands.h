// What `nudge` can be told to do, one function a command, each in a file of its own.
//
// main parses the command line and calls one of them on the main thread. They print to standard
// output what was asked for, and to standard error what is going on; they return the exit code.
// StartError (bad configuration, missing files) leaves them and is caught in main.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/config/config.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/result.h"

namespace nudge {

// Says the error and its remedy on standard error. The exit code, as given.
int FailWith(const Error& error, int exit_code);

// What an error's code means: kExitFenced, kExitUnavailable, else kExitFailed.
int ExitCodeOf(const Error& error);

// The same as FailWith in the log of a live run. ExitCodeOf the error.
int LogFailure(const Error& error);

struct ReplayArguments {
  std::string config_path;
  std::string input;   // empty: as configured
  std::string output;  // empty: as configured
  bool fresh = false;  // remove earlier output and state first
  bool quiet = false;  // no progress, no summary: only the chain
  int threads = 0;     // of graph and executor; 0: as configured
};
int Replay(const ReplayArguments& arguments);

// Of the four topics, those that are missing.
struct CreateTopicsArguments {
  bool wanted = false;
  int partitions = 6;
  int replication = 1;
};

struct RunArguments {
  std::string config_path;
  CreateTopicsArguments create_topics;
};
int RunLive(const RunArguments& arguments);

struct ServeArguments {
  std::string config_path;
  std::string begin_with;  // events, one a line, that an empty log begins with; empty: none
};
int Serve(const ServeArguments& arguments);

struct GatewayArguments {
  std::string config_path;
  CreateTopicsArguments create_topics;
};
int RunGateway(const GatewayArguments& arguments);

struct FollowArguments {
  std::string config_path;
};
int Follow(const FollowArguments& arguments);

struct LogArguments {
  std::string config_path;
  std::string out = "-";  // - is stdout
};
int DumpLog(const LogArguments& arguments);

struct FormArguments {
  std::string model_path;
  std::string as = "auto";  // or the Name of a FormType
};
int MakeForm(const FormArguments& arguments);

struct MergeArguments {
  std::string out;                  // a new file
  std::vector<std::string> inputs;  // files or snapshot folders, each perhaps with :WEIGHT
  uint32_t rank = 0;                // 0: as many as it takes
  float alpha = 0;                  // 0: as the inputs
  uint32_t threads = 0;             // 0: all cores
};
int MergeFiles(const MergeArguments& arguments);

struct VerifyArguments {
  std::string lessons;                // a page's log of its lessons
  std::string model;                  // the GGUF that it had loaded
  std::vector<std::string> adapters;  // that it took over: files or snapshot folders
  std::string out;                    // a new file for the adapter; empty: none
  uint32_t threads = 0;               // 0: all cores
};
// kExitDone: the same adapter behind every lesson. kExitFailed: another one, or the log is cut.
// kExitUsage: no such log, or not of this model.
int VerifyLessons(const VerifyArguments& arguments);

struct PublishArguments {
  std::string config_path;
  std::string input;             // events, one a line; - is stdin
  double events_per_second = 0;  // 0: as fast as it goes
  CreateTopicsArguments create_topics;
};
int Publish(const PublishArguments& arguments);

struct CheckArguments {
  std::string path;     // a configuration, or a file of events
  bool events = false;  // path is a file of events
  bool schema = false;  // print the configuration's JSON Schema instead
  bool tables = false;  // print the tables of docs/CONFIGURATION.md instead
};
int Check(const CheckArguments& arguments);

struct ChatArguments {
  std::string config_path;
  std::string tenant = "me";
  std::string log;         // the event log that is written; replay reproduces it
  std::string begin_with;  // events, one a line, that an empty log begins with; empty: none
};
int Chat(const ChatArguments& arguments);

struct AddKeyArguments {
  std::string file;
  std::string tenant;
  std::string user;  // empty: the key is the user
  bool names_users = false;
  std::vector<std::string> groups;
  std::vector<std::string> roles;
  uint32_t requests_per_minute = 0;  // 0: no limit
};
int AddApiKey(const AddKeyArguments& arguments);

struct KeyPairArguments {
  std::string private_file;
  std::string file;
  std::string tenant;  // empty: all
};
int AddKeyPair(const KeyPairArguments& arguments);

struct SignArguments {
  std::string input;  // events, one a line; - is stdin
  std::string key_file;
};
int SignEvents(const SignArguments& arguments);

struct SimulateArguments {
  std::string config_path;
  std::string world_path;
  uint32_t seeds = 1;
  uint32_t first_seed = 1;
  uint32_t lessons = 0;  // 0: as the world has it
  bool controls = false;
  std::string out;  // empty: below the configured output
};
int Simulate(const SimulateArguments& arguments);

struct ExplainArguments {
  std::string output;  // folder of a run
  std::string id;      // of an event
};
int Explain(const ExplainArguments& arguments);

struct LessonsArguments {
  std::string path;    // an output folder with its state, a state folder or file
  std::string tenant;  // empty: all
  bool json = false;   // one object a lesson and line
};
int Lessons(const LessonsArguments& arguments);

struct ExportArguments {
  std::string path;  // as of lessons
  std::string tenant;
  std::string format;  // chat or preference
  std::string file;    // - is stdout
  bool with_restricted = false;
};
int Export(const ExportArguments& arguments);

// One lesson for people, without its event's name.
struct TaughtLesson;
void PrintLesson(const TaughtLesson& lesson);

// A GGUF model, a snapshot folder, a file of events, or a state folder.
int Inspect(const std::string& path);

}  // namespace nudge
