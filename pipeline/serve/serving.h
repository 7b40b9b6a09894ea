// The whole product in one process: door, embedded log, processor, outcomes in a folder.
//
//   Submit -> [EmbeddedDoor -> EmbeddedLog -> Processor -> FileSink -> EmbeddedDoor] -> Following
//
// What was taken before a stop or a kill is finished by the next Serving over the same folders, and
// every event has one outcome. The outcomes are synced before they count as committed. What was
// forgotten leaves log and outcomes, too, once no kept state goes on from before (log_eraser.h).
// Run: one thread, once. door(), View() and extent(): any thread, for as long as this lives.
#pragma once

#include <memory>

#include "connectors/file_sink.h"
#include "connectors/log/embedded_log.h"
#include "connectors/log/embedded_source.h"
#include "pipeline/processor.h"
#include "pipeline/serve/embedded_door.h"
#include "pipeline/serve/log_eraser.h"
#include "pipeline/serve/outcome_index.h"
#include "pipeline/serve/serve_options.h"
#include "pipeline/serve/snapshot_board.h"

namespace nudge {

struct ServingOptions {
  ProcessorOptions processor;
  EventLogOptions event_log;
  ServeOptions serve;
  std::string output_folder;
  std::vector<std::string> models;  // names that a client may ask for
};

class Serving {
 public:
  // Throws StartError: a folder cannot be used or is in use, the log is damaged. `stop` and
  // `backend` outlive it; `on_notice` is told what people should know, from any thread.
  Serving(const ServingOptions& options, Backend& backend,
          std::function<void(const std::string&)> on_notice, const std::atomic<bool>& stop);
  ~Serving();
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  // Stores the lines of a file of events, where the log is empty; how many there were. Before Run.
  // kUnreadableFile: there is no such file, or the disk of the log does not take them all.
  Result<uint64_t> BeginWith(const std::string& path);

  // Until `stop` is set or something fails; then everybody who waits was answered.
  Result<std::map<int32_t, PartitionSummary>> Run();

  Door& door() { return door_; }
  RunView View() { return processor_.View(); }
  OutcomeCounts progress() const { return processor_.progress(); }
  EmbeddedLog::Extent extent() const { return log_.extent(); }

 private:
  class Keeper;

  void RequireWholeLog();
  void ReadOutcomes();

  const ServingOptions options_;
  const std::function<void(const std::string&)> on_notice_;
  const std::atomic<bool>& stop_;
  EmbeddedLog log_;
  FileSink sink_;
  OutcomeIndex outcomes_;
  SnapshotBoard snapshots_;
  LogEraser eraser_;
  EmbeddedDoor door_;
  EmbeddedSource source_;
  Processor processor_;
};

}  // namespace nudge
