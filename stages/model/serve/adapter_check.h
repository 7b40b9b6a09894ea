// The gate before llama.cpp for adapter files: bytes -> [CheckAdapter] -> fit or not. Private to
// stages/model. Any thread; no shared state.
//
// llama.cpp aborts the process on metadata of a wrong type and on some shapes, and takes numbers
// that are not finite: what could do that, or would be silently ignored, is refused here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

namespace nudge {

// What an adapter must fit: the architecture, and columns and rows of every 2-D weight.
struct AdapterBase {
  std::string architecture;
  std::map<std::string, std::array<int64_t, 2>> weights;  // name -> {columns, rows}
};

// Reads names and shapes from a model's file that ReadGgufInfo has accepted.
AdapterBase ReadAdapterBase(const std::string& model_path);

// Nothing if the adapter fits, else what is wrong with it.
std::optional<std::string> CheckAdapter(std::span<const std::byte> gguf, const AdapterBase& base);

}  // namespace nudge
