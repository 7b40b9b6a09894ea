// Adapters as PEFT folders, the format of Hugging Face's tools.
//
// LoraWeights + AdapterManifest -> [EncodePeft] -> PeftFiles (for vLLM, transformers)
// PeftFiles of nudge or of anyone -> [DecodePeft] -> ImportedAdapter
//
// Pure functions of their arguments, any thread; equal arguments give equal bytes.
// docs/SNAPSHOTS.md describes the format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "stages/model/adapters/adapter_file.h"
#include "stages/model/trainer/lora.h"
#include "stages/result.h"

namespace nudge {

// A PEFT folder's two files. Values are rounded as in an f16 GGUF, so that both formats hold the
// same numbers. Of a llama, rows of B of q_proj and k_proj are put back into Hugging Face's order,
// since its GGUF interleaves the two halves of each head for the rotary embedding.
struct PeftFiles {
  std::string config;       // adapter_config.json
  std::string safetensors;  // adapter_model.safetensors
};

inline constexpr size_t kMaxPeftConfig = size_t{1} << 20;  // bytes of an adapter_config.json

// As EncodeGguf, and kUnsupportedModel for an architecture other than llama, qwen2 and qwen3,
// kWrongAdapter for a base_head_size that is odd, 0 or no divisor of a llama's query and key rows.
Result<PeftFiles> EncodePeft(const LoraWeights& weights, const AdapterManifest& manifest,
                             AdapterPrecision precision = AdapterPrecision::kF16);

// An adapter out of a PEFT folder's two files, of f32, f16 or bf16 tensors, written by nudge or by
// others. The manifest has the base alone: a folder says nothing of tenant, parent and examples.
// Safe on any bytes: nothing aborts, and no more than a few times the expected adapter's size is
// allocated.
// kUnreadableFile: no JSON object, a key given twice, or no safetensors file.
// kWrongAdapter: rank or scale (lora_alpha / r, or / sqrt(r) with use_rslora) other than expected;
// a list target_modules other than expected, or where it is a pattern, or exclude_modules takes
// some out of it, tensors other than expected; an option that would change what the matrices mean,
// such as use_dora, bias, modules_to_save or rank_pattern, refused by name; a tensor that is
// missing, too many, of another shape or type or with a number that is not finite; another base,
// where the file names one. kUnsupportedModel as EncodePeft.
Result<ImportedAdapter> DecodePeft(std::string_view config, std::string_view safetensors,
                                   const AdapterExpectation& expected);

}  // namespace nudge
