// The form of a model's weights that answers: model file -> [MakeServedForm] -> a file beside it.
//
// Some formats that are small have no fast path in llama.cpp on x86: its products of Q4_1 go row by
// row. The same weights in bf16 or Q8_0 read a prompt two to four times as fast, take more memory,
// and stand nearer to the numbers that lessons run on (docs/MEASUREMENTS.md). So a model file may
// have a second one, NAME.served.gguf beside NAME.gguf, made once; it names the SHA-256 of the file
// that it was made from. The model file stays the model: what snapshots, states and lessons name.
//
// Any thread; no shared state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "stages/model/serve/gguf_info.h"
#include "stages/result.h"

namespace nudge {

enum class FormType : uint8_t { kFile, kBf16, kQ8_0 };  // kFile: the model file itself
inline constexpr FormType kFormTypes[] = {FormType::kFile, FormType::kBf16, FormType::kQ8_0};
std::string_view Name(FormType type);  // "file", "bf16", "q8_0": as GgufInfo::quantisation

// What the choice looks at.
struct ServingMachine {
  bool has_bf16 = false;  // products of bf16 in the processor
  bool has_avx2 = false;
  uint64_t memory_bytes = 0;
  bool has_amx = false;  // and this build of llama.cpp multiplies int8 in its tiles

  static ServingMachine Here();
};

// The fastest form that has room: bf16 where the processor multiplies it and the form takes at most
// an eighth of the memory, else Q8_0 by AVX2 under the same bound; the file where its own format
// has a fast path or neither fits. With AMX llama.cpp multiplies Q4_1 and Q8_0 in tiles and bf16
// not: then the file or Q8_0, which are read faster and are smaller.
struct FormChoice {
  FormType type = FormType::kFile;
  std::string why;  // for people, as in "bf16: <why>"
};
FormChoice ChooseForm(const GgufInfo& info, const ServingMachine& machine);

std::string ServedFormPath(const std::string& model_path);  // where it lies, or would

// The form beside this model: its path; none: there is none. kUnreadableFile: it is damaged, or was
// made from another file.
Result<std::optional<std::string>> FindServedForm(const std::string& model_path,
                                                  std::string_view model_sha256);

// Writes the form, or with kFile takes away what is there. The form is there whole, or not at all.
// kUnreadableFile: the model cannot be read, or the disk has no room. Takes seconds for a small
// model, minutes for a large one.
Result<Nothing> MakeServedForm(const std::string& model_path, std::string_view model_sha256,
                               FormType type);

}  // namespace nudge
