// What is learnt, offered to another server: committed outcomes -> [AdapterFollower] -> LoraServer.
//
//   outcomes -> OutcomeStream -> OfferedAdapters -> [look] -> loads and unloads at the server
//
// It follows a run from outside: it reads its outcomes and its snapshot folder and changes neither.
// Which adapters the server is to have is on the disk before the server is told, and each look
// compares it with what the server has. So an end anywhere, of this process or of the server, costs
// nothing but the time until the next look, and offering an adapter twice does no harm.
//
// An adapter is offered once its files are those that its outcome and its manifest name. One whose
// folder somebody deleted is taken away. One that went out of use is taken away only once the
// server has the newer ones.
//
// One thread. Every wait ends: calls by their limits, others within a part of a second of `stop`.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "connectors/kafka_options.h"
#include "pipeline/serve/follow_options.h"
#include "pipeline/serve/offered_adapters.h"
#include "pipeline/serve/outcome_stream.h"
#include "stages/files.h"
#include "stages/model/remote/lora_server.h"

namespace nudge {

struct AdapterFollowerOptions {
  FollowOptions follow;               // with its folders
  std::string snapshot_folder;        // as ExecutorOptions has it
  std::string outcomes_path;          // without topics
  std::optional<KafkaOptions> kafka;  // whose outcomes, where there are topics
};

class AdapterFollower {
 public:
  struct Says {
    std::function<void(const std::string& line)> news;     // loaded, taken away
    std::function<void(const std::string& line)> trouble;  // of an adapter, once for each reason
  };
  struct Counts {
    uint64_t loaded = 0;
    uint64_t taken_away = 0;
  };

  // Reads where an earlier one stood. Throws StartError: there are no outcomes, the server's URL or
  // key is none, the state folder cannot be used or another process has it.
  AdapterFollower(AdapterFollowerOptions options, Says says);

  // Until `stop`. kUnavailable: the server or the brokers do not answer, or refuse.
  // kUnreadableFile: outcomes or state cannot be read or written on.
  Result<Nothing> Run(const std::atomic<bool>& stop);

  Counts counts() const { return counts_; }

 private:
  std::unique_ptr<OutcomeStream> OpenStream();
  OfferedAdapters::Positions ReadState();
  Result<Nothing> WriteState();
  void Take(const std::string& line);

  Result<Nothing> Look();
  bool IsThere(const OfferedAdapter& adapter) const;
  std::optional<Error> WhyNot(const OfferedAdapter& adapter) const;
  Result<Nothing> LoadMissing(std::set<std::string>& served);
  Result<Nothing> UnloadRest(std::set<std::string>& served);
  bool HasWanted(const std::string& tenant, const std::set<std::string>& served) const;
  void Trouble(const std::string& of, const std::string& what);

  const AdapterFollowerOptions options_;
  const Says says_;
  const LoraServer server_;
  const std::atomic<bool>* stop_ = nullptr;  // of Run
  Descriptor lock_;
  OfferedAdapters offered_;
  bool has_news_ = true;
  std::string written_;                         // the state, as the disk has it
  std::map<std::string, std::string> trouble_;  // said last, of an adapter or a folder
  Counts counts_;
  std::unique_ptr<OutcomeStream> stream_;  // last: it calls back
};

}  // namespace nudge
