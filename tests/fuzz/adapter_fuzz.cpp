// Fuzzes what reads adapter files: bytes, and bytes with a right checksum put over them ->
// DecodeGguf and DecodeGgufAsItIs, bytes -> ParseSafetensors, bytes as either file of a PEFT folder
// -> DecodePeft.
// Whatever is accepted must hold what it says it holds.
//
// scripts/fuzz runs it. Seeds: tests/fuzz/seeds/adapter, written by NUDGE_UPDATE_SEEDS=1
// adapter_file_tests.
#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "stages/hash.h"
#include "stages/model/adapters/adapter_file.h"
#include "stages/model/adapters/peft_file.h"
#include "stages/model/adapters/safetensors.h"

namespace {

nudge::AdapterExpectation Expectation() {
  nudge::AdapterExpectation expected;
  expected.base_sha256 = std::string(64, 'a');
  expected.base_architecture = "llama";
  expected.shape.layers = 1;
  expected.shape.rank = 2;
  expected.shape.alpha = 4;
  expected.shape.in[0] = 4;
  expected.shape.out[0] = 4;
  expected.shape.enabled[0] = true;
  expected.base_head_size = 4;
  return expected;
}

void Decode(std::string_view bytes) {
  static const nudge::AdapterExpectation expected = Expectation();
  const auto adapter = nudge::DecodeGguf(bytes, expected);
  if (!adapter) return;
  ENSURE(adapter->weights.shape == expected.shape);
  ENSURE(nudge::Digest(adapter->weights) == adapter->values_digest);
  ENSURE(adapter->manifest.base_sha256 == expected.base_sha256);
  ENSURE(nudge::EncodeGguf(adapter->weights, adapter->manifest).ok());
}

void DecodeAsItIs(std::string_view bytes) {
  const auto adapter = nudge::DecodeGgufAsItIs(bytes);
  if (!adapter) return;
  ENSURE(adapter->weights.values.size() == adapter->weights.shape.Size());
  ENSURE(nudge::Digest(adapter->weights) == adapter->values_digest);
}

void Parse(std::string_view bytes) {
  const auto file = nudge::ParseSafetensors(bytes);
  if (!file) return;
  size_t size = 0;
  for (const auto& tensor : file->tensors) size += tensor.data.size();
  ENSURE(size <= bytes.size());
  const auto again = nudge::EncodeSafetensors(file->tensors, file->metadata);
  ENSURE(!again || nudge::ParseSafetensors(*again).ok());
}

// A folder whose other file is right.
void DecodeFolder(std::string_view bytes) {
  static const nudge::AdapterExpectation expected = Expectation();
  static const nudge::PeftFiles right = [] {
    nudge::AdapterManifest manifest;
    manifest.tenant = "acme";
    manifest.digest = manifest.base_sha256 = expected.base_sha256;
    manifest.base_architecture = "llama";
    manifest.base_head_size = expected.base_head_size;
    const nudge::LoraWeights weights{expected.shape, std::vector<float>(expected.shape.Size(), 1)};
    return nudge::EncodePeft(weights, manifest).value();
  }();
  ENSURE(nudge::DecodePeft(right.config, right.safetensors, expected).ok());
  (void)nudge::DecodePeft(bytes, right.safetensors, expected);
  const auto adapter = nudge::DecodePeft(right.config, bytes, expected);
  if (!adapter) return;
  ENSURE(adapter->weights.values.size() == expected.shape.Size());
  ENSURE(nudge::Digest(adapter->weights) == adapter->values_digest);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Decode(bytes);
  DecodeAsItIs(bytes);
  constexpr size_t kDigits = 24 + 8 + 14 + 4 + 8;  // where a checksum stands: after its key
  if (size >= kDigits + 64) {
    std::string sealed(bytes);
    sealed.replace(kDigits, 64, 64, '0');
    sealed.replace(kDigits, 64, nudge::Sha256Hex(sealed));
    Decode(sealed);
    DecodeAsItIs(sealed);
  }
  Parse(bytes);
  DecodeFolder(bytes);
  return 0;
}
