// Adapters that an event names: uri -> [ReadImport] -> AdapterFiles -> [DecodeFiles] -> adapter.
//
// Only what lies below the import folder is opened, links resolved: one that leaves the folder is
// refused. Messages name files as the uri does, never where the folder is. Blocking file work: for
// the executor's threads; any of them.
#pragma once

#include <string>

#include "stages/model/adapters/adapter_file.h"
#include "stages/result.h"

namespace nudge {

// The bytes of one adapter.
struct AdapterFiles {
  std::string name;    // of the file with the weights, as it was asked for
  std::string bytes;   // its
  std::string sha256;  // of these
  std::string config;  // adapter_config.json beside an adapter_model.safetensors, else empty
};

// The adapter at `uri`, a path below `folder`: a snapshot's or PEFT folder, or a file in one. Of a
// folder the file with that SHA-256 is taken, adapter.gguf or adapter_model.safetensors; an empty
// `sha256` takes the first of these that is there.
// kWrongAdapter: no folder (""), an absolute uri, one with "..", a link out of the folder, nothing
// of that name, no adapter in it, only one that would have to be unpickled, or another SHA-256.
// kUnreadableFile: the disk or its permissions are in the way, or it has more than 1 GiB.
Result<AdapterFiles> ReadImport(const std::string& folder, const std::string& uri,
                                const std::string& sha256);

// The same of any path, for people at a terminal: links may lead anywhere.
Result<AdapterFiles> ReadAdapterFiles(const std::string& path, const std::string& sha256);

// Errors as DecodeGguf and DecodePeft, with the name in front.
Result<ImportedAdapter> DecodeFiles(const AdapterFiles& files, const AdapterExpectation& expected);

}  // namespace nudge
