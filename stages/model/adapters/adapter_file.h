// Adapters as files: a LoRA in the formats that other runtimes load.
//
// LoraWeights + AdapterManifest -> [EncodeGguf] -> bytes for llama.cpp, from disk or from memory
// bytes -> [DecodeGguf] -> ImportedAdapter
//
// peft_file.h has the other format, PEFT folders.
// Pure functions of their arguments, any thread; equal arguments give equal bytes.
// docs/SNAPSHOTS.md describes the formats.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stages/model/adapters/lora_codec.h"
#include "stages/model/trainer/lora.h"
#include "stages/result.h"

namespace nudge {

// One of the adapters that a merged one was made of.
struct MergedPart {
  std::string sha256;  // of its file
  double weight = 0;   // its share of the sum: above 0, 1 at most

  friend bool operator==(const MergedPart&, const MergedPart&) = default;
};

// What an adapter rests on and what went into it. Digests are 64 lower-case hex digits.
struct AdapterManifest {
  std::string tenant;         // 1..1024 bytes of UTF-8
  uint32_t version = 0;       // of the tenant's adapter
  std::string digest;         // Digest of the learner's f32 weights
  std::string parent_digest;  // of the version it was trained from; "base" or empty for the first
  std::string base_sha256;    // of the base model's file
  std::string base_architecture;  // general.architecture of that file: "llama", "qwen2", "qwen3"
  uint64_t steps = 0;             // training steps since the adapter was new
  uint64_t examples = 0;          // examples learnt from
  uint64_t corrections = 0;       // of these: with a correction,
  uint64_t ups = 0;               // rated up,
  uint64_t downs = 0;             // rated down

  // Needed by EncodePeft only.
  std::string base_name;        // where the base comes from: "HuggingFaceTB/SmolLM2-135M-Instruct"
  uint32_t base_head_size = 0;  // rows of one attention head of the base; even

  // Of what it was merged; empty for one that was learnt. A PEFT folder does not say it.
  std::vector<MergedPart> merged_of;

  friend bool operator==(const AdapterManifest&, const AdapterManifest&) = default;
};

enum class AdapterPrecision : uint8_t {
  kF16,  // rounded to nearest even: half the size, the same greedy text, plugged faster
  kF32,  // the learner's values
};

struct GgufOptions {
  AdapterPrecision precision = AdapterPrecision::kF16;
  // Adds nudge.values_digest and nudge.checksum, which DecodeGguf requires. Bytes that only go into
  // this process's own server can do without: hashing is most of the time it takes to encode.
  bool sealed = true;
};

// A LoRA adapter file as llama.cpp reads it. Rows of B of the query and key modules stay in the
// GGUF order of the base.
// kWrongAdapter: a shape, value or manifest that no import would accept: no module enabled, rank
// outside 1..4096, alpha not above 0, a value that is not finite or beyond 65504 in f16, a digest
// that is none, `values` shorter or longer than the shape.
Result<std::string> EncodeGguf(const LoraWeights& weights, const AdapterManifest& manifest,
                               GgufOptions options = {});

// What an adapter must be to be plugged into the running base model.
struct AdapterExpectation {
  std::string base_sha256;
  std::string base_architecture;
  LoraShape shape;
  uint32_t base_head_size = 0;  // as in AdapterManifest; needed by DecodePeft only
};

struct ImportedAdapter {
  LoraWeights weights;  // f32, of the values in the file
  AdapterManifest manifest;
  // Digest(weights). Equals manifest.digest only if the file holds f32 values.
  std::string values_digest;
};

// An adapter out of a sealed GGUF. Safe on any bytes: nothing aborts, and no more than a few times
// the expected adapter's size is allocated.
// kUnreadableFile: not an adapter of nudge, truncated, or altered by as little as one bit.
// kWrongAdapter: whole, but of another base model, architecture, rank, alpha or shape, with values
// that are not finite or not those that its digest names.
Result<ImportedAdapter> DecodeGguf(std::string_view bytes, const AdapterExpectation& expected);

// The same of whatever base, rank and modules the file says, for what compares adapters. Errors as
// DecodeGguf; a shape that no adapter can have is kWrongAdapter.
Result<ImportedAdapter> DecodeGgufAsItIs(std::string_view bytes);

// The weights that a file of this precision holds, as f32: Digest of them is its values_digest.
// kWrongAdapter as EncodeGguf for shape and values.
Result<LoraWeights> RoundTo(AdapterPrecision precision, const LoraWeights& weights);

}  // namespace nudge
