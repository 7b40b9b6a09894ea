// The snapshot folder: adapter snapshots on disk, each complete or not there at all.
//
// LoraWeights + AdapterManifest -> [WriteSnapshot] -> SnapshotRef, and on disk
//   FOLDER/TENANT/VERSION-DIGEST-SHA256/{adapter.gguf, adapter_model.safetensors,
//                                        adapter_config.json, manifest.json}
// Blocking file work: for the executor's threads, never for a graph node. Threads and processes may
// write into one folder at once; of those that write the very same snapshot at once, some may get
// an error while another one succeeds.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "stages/model/adapters/adapter_file.h"
#include "stages/result.h"
#include "stages/snapshot.h"

namespace nudge {

// manifest.json, read back.
struct SnapshotManifest {
  struct File {
    uint64_t size_bytes = 0;
    std::string sha256;  // lower-case hex
    friend bool operator==(const File&, const File&) = default;
  };
  AdapterManifest adapter;
  LoraShape shape;
  std::string values_digest;          // Digest of the f16-rounded weights
  std::map<std::string, File> files;  // by name
};

// Writes the snapshot unless it is there already, and returns once its files and their folders are
// synced. Equal arguments give equal bytes and the same reference, whether written or found.
// On error nothing of the snapshot is visible: its files were under a hidden name and are removed.
// kWrongAdapter, kUnsupportedModel: as EncodeGguf and EncodePeft; also if manifest.digest is not
// the Digest of the weights. kUnreadableFile: the folder cannot be written, the disk is full, or a
// snapshot of that name is there with other bytes in it, which is left as it is.
Result<SnapshotRef> WriteSnapshot(const std::string& folder, const LoraWeights& weights,
                                  const AdapterManifest& manifest);

// Reads the manifest.json in a snapshot's folder, or at that very path.
// kUnreadableFile: it is missing, over 1 MiB, or not a manifest of format 1.
Result<SnapshotManifest> ReadSnapshotManifest(const std::string& path);

// Reads an adapter's file and decodes it, if its SHA-256 is `sha256`; an empty one is not compared.
// `path` is a snapshot's or PEFT folder, or a file in one: adapter.gguf, or where there is none, or
// it is named or meant by `sha256`, adapter_model.safetensors with the adapter_config.json beside
// it. The latter is covered by no digest: all that it says must be what is expected.
// Errors as ReadAdapterFiles and DecodeFiles (import_folder.h).
Result<ImportedAdapter> ReadSnapshot(const std::string& path, const std::string& sha256,
                                     const AdapterExpectation& expected);

// A tenant's name as that of a folder: letters, digits, '-', '_' and inner dots stay, other bytes
// become '=' and two hex digits; one too long for a file name is cut and ends in '=' and its
// SHA-256. Different tenants get different names, and none that a URL would have to escape.
std::string FolderNameOf(const std::string& tenant);

}  // namespace nudge
