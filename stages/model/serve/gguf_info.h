// What a GGUF file says about itself: path -> [ReadGgufInfo] -> GgufInfo, before anything is
// loaded.
//
// Also the gate before llama.cpp: a file that is missing, truncated or of a shape on which
// llama.cpp would abort or read out of bounds ends in an Error here. Any thread; no shared state.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "stages/result.h"

namespace nudge {

// Written into a form of a model: the SHA-256 of the model's file, in hex (served_form.h).
inline constexpr char kFormOfKey[] = "nudge.served_form.source_sha256";

struct GgufInfo {
  std::string architecture;  // "llama", "bert", ...
  std::string name;          // general.name; may be empty
  std::string type;          // general.type: "model" (also if the key is not there), "adapter"
  uint64_t file_bytes = 0;
  uint32_t context_tokens = 0;    // the longest context that it was trained for; 0 if not said
  uint32_t embedding_length = 0;  // width of the hidden state
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint64_t vocabulary = 0;  // tokens
  bool causal = true;       // attention looks at earlier tokens only
  bool has_chat_template = false;
  std::optional<uint32_t> pooling;             // llama.cpp's pooling type, if the file has one
  std::map<std::string, uint32_t> tensors_of;  // quantisation type ("q4_1", "f32") -> tensors
  std::optional<std::string> query_prefix;     // nudge.query_prefix, written at conversion
  std::optional<std::string> passage_prefix;   // nudge.passage_prefix
  std::optional<std::string> form_of_sha256;   // kFormOfKey
  uint64_t weights = 0;                        // numbers in all tensors

  // Made for vectors, not for text: it pools, or attends both ways.
  bool IsEmbedder() const { return (pooling && *pooling != 0) || !causal; }

  // The type of most of its tensors that are matrices: "q4_1".
  std::string quantisation;
};

// Reads the header only. kUnreadableFile: missing, not GGUF, truncated (also if only the weights at
// its end are), or with fields of a wrong type or length.
Result<GgufInfo> ReadGgufInfo(const std::string& path);

}  // namespace nudge
