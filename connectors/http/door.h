// What stands behind the HTTP server: whatever comes through the door is an event in the log, and
// whatever leaves is its outcome, or what a tenant's model became of them.
//
//   event -> [Door] -> stored | failed | unknown, then tokens, then the outcome
//   tenant -> [Door] -> lessons, adapter snapshots
//
// The server's threads call it, any of them at any time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/files.h"
#include "stages/result.h"
#include "stages/snapshot.h"

namespace nudge {

// What a client is told of its event. Called once each, in this order, on a thread of the door's
// own; they return at once (post to the server's own thread).
struct Following {
  std::function<void(int64_t offset)> stored;                    // durable: it will have an outcome
  std::function<void(std::string_view text)> token;              // provisional; may never come
  std::function<void(const std::string& outcome_line)> outcome;  // committed
  // Not stored (full disk, stop, no credits), or after `stored`: not finished here. Nothing
  // follows.
  std::function<void(const Error& error)> failed;
  // Perhaps stored: the log did not say in the door's time. Nothing follows.
  std::function<void(const Error& error)> unknown;
};

// Which lessons of a tenant somebody asks for.
struct LessonsAsked {
  std::string tenant;
  std::optional<std::string> user;  // of this user alone
  std::optional<uint64_t> after;    // of later events than this one
  size_t lessons_max = 0;           // 1..
};

// An adapter snapshot that is published: docs/SNAPSHOTS.md.
struct PublishedSnapshot {
  struct File {
    std::string name;
    uint64_t size_bytes = 0;
    std::string sha256;  // lower-case hex
  };
  std::string name;  // of its folder: VERSION-DIGEST-SHA256
  uint32_t version = 0;
  std::string digest;
  std::string values_digest;
  std::string parent_digest;
  std::string base_name;
  std::string base_sha256;
  std::string base_architecture;
  uint64_t steps = 0;
  uint64_t examples = 0;
  std::vector<File> files;
};

// The newest first.
struct SnapshotsAsked {
  std::string tenant;
  std::string before;        // older ones than the one of this name; empty: from the newest on
  size_t snapshots_max = 0;  // 1..
};

// One file of a snapshot, open to be read.
struct SnapshotFile {
  PublishedSnapshot::File file;
  std::shared_ptr<const Descriptor> open;
};

// What a watcher of a tenant's snapshots is told: at first kReady, or kLost where what it had seen
// is too old to go on from; then kSnapshot of each.
struct SnapshotNews {
  enum class Kind : uint8_t { kReady, kLost, kSnapshot };
  Kind kind = Kind::kReady;
  int64_t offset = -1;   // of the newest outcome that is in what was told up to this; -1: of none
  std::string event_id;  // whose outcome names the snapshot
  SnapshotRef snapshot;
};

class Door {
 public:
  virtual ~Door() = default;

  // Takes one CloudEvent in structured mode (complete JSON, validated by the caller with
  // connectors/codec). Never waits.
  virtual void Submit(std::string tenant, std::string event_json, Following following) = 0;

  // The committed outcome of the tenant's event, nothing where none is held (any more).
  virtual std::optional<std::string> Outcome(std::string_view tenant,
                                             std::string_view event_id) const = 0;

  // Whether the tenant's event that was stored here at `offset` has no outcome yet. Asked before
  // Outcome: then one that comes meanwhile is found.
  virtual bool Awaits(std::string_view tenant, int64_t offset) const = 0;

  // How many outcomes Outcome looks among: the newest.
  virtual uint64_t OutcomesHeld() const = 0;

  // The names for GET /v1/models.
  virtual std::vector<std::string> Models() const = 0;

  // Why lessons and snapshots cannot be had here at all, and where they can; nothing: they can.
  virtual std::optional<Error> WithoutState() const = 0;

  // What the tenant's model was taught, as of the last cut, as JSON for GET /v1/lessons. Waits for
  // the disk. kUnavailable: there is no state to read.
  virtual Result<std::string> Lessons(const LessonsAsked& asked) const = 0;

  // The tenant's snapshots on the disk; each, and one of its files or nothing where there is none
  // (`snapshot`: its name, or the version's number where one snapshot has it). Wait for the disk.
  // kUnreadableFile: a file is not what its manifest says.
  virtual Result<std::vector<PublishedSnapshot>> Snapshots(const SnapshotsAsked& asked) const = 0;
  virtual Result<std::optional<SnapshotFile>> OpenSnapshotFile(const std::string& tenant,
                                                               const std::string& snapshot,
                                                               const std::string& file) const = 0;

  // Tells of the tenant's snapshots in log order, as outcomes name them: those behind the outcome
  // at `after` at once, then new ones, until what this returns is gone. `tell` returns at once and
  // calls no door; any thread.
  virtual std::shared_ptr<void> WatchSnapshots(
      const std::string& tenant, std::optional<int64_t> after,
      std::function<void(const SnapshotNews& news)> tell) = 0;
};

}  // namespace nudge
