#include "stages/model/serve/served_form.h"

#include <fcntl.h>
#include <ggml-cpu.h>
#include <llama.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "stages/files.h"
#include "stages/model/serve/llama_runtime.h"

namespace nudge {

namespace {

constexpr uint64_t kShareOfMemory = 8;
// Formats whose products llama.cpp takes row by row on x86 (measured of q4_1), or of wide numbers.
constexpr std::string_view kSlowFormats[] = {"q4_1", "q5_0", "q5_1", "f32", "f16"};

// Bytes of the weights in that form.
uint64_t BytesOf(FormType type, uint64_t weights) {
  return type == FormType::kBf16 ? 2 * weights : weights + weights / 16;  // Q8_0: 34 bytes of 32
}

std::string Megabytes(uint64_t bytes) {
  return std::to_string(bytes / 1'000'000) + " MB";
}

Error Unwritten(const std::string& path, const std::string& why, const std::string& remedy) {
  return {Code::kUnreadableFile, path + ": cannot be written: " + why, remedy};
}

// On the disk before it has its name, so that a power cut leaves no half of it.
Result<Nothing> PutInPlace(const std::string& part, const std::string& path) {
  const Result<Descriptor> file = OpenFile(part, O_RDONLY | O_CLOEXEC);
  if (!file.ok()) return file.error();
  if (fsync(**file) != 0) return FileError(errno);
  std::error_code failure;
  std::filesystem::rename(part, path, failure);
  if (failure) return Error{Code::kUnreadableFile, failure.message(), ""};
  return SyncFolder(std::filesystem::absolute(path).parent_path());
}

}  // namespace

std::string_view Name(FormType type) {
  constexpr std::string_view kNames[] = {"file", "bf16", "q8_0"};
  return kNames[static_cast<size_t>(type)];
}

ServingMachine ServingMachine::Here() {
  return {.has_bf16 = __builtin_cpu_supports("avx512bf16") != 0,
          .has_avx2 = __builtin_cpu_supports("avx2") != 0,
          .memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                          static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE)),
          .has_amx = ggml_cpu_has_amx_int8() != 0};
}

FormChoice ChooseForm(const GgufInfo& info, const ServingMachine& machine) {
  if (std::ranges::find(kSlowFormats, info.quantisation) == std::end(kSlowFormats)) {
    return {FormType::kFile, info.quantisation + " is read fast as it is"};
  }
  if (machine.has_amx && info.quantisation == "q4_1") {
    return {FormType::kFile, "this processor multiplies q4_1 in tiles (AMX)"};
  }
  const uint64_t most = machine.memory_bytes / kShareOfMemory;
  if (machine.has_bf16 && !machine.has_amx && BytesOf(FormType::kBf16, info.weights) <= most) {
    return {FormType::kBf16, "this processor multiplies bf16, and it takes " +
                                 Megabytes(BytesOf(FormType::kBf16, info.weights))};
  }
  if (!machine.has_bf16 && !machine.has_avx2) {
    return {FormType::kFile, "this processor has neither bf16 nor AVX2"};
  }
  if (machine.has_avx2 && BytesOf(FormType::kQ8_0, info.weights) <= most) {
    const char* const no_bf16 = machine.has_amx    ? "this processor multiplies int8 in tiles (AMX)"
                                : machine.has_bf16 ? "bf16 takes more than an eighth of the memory"
                                                   : "this processor does not multiply bf16";
    return {FormType::kQ8_0, no_bf16 + std::string(", q8_0 takes ") +
                                 Megabytes(BytesOf(FormType::kQ8_0, info.weights))};
  }
  return {FormType::kFile, "a faster form takes more than an eighth of the memory"};
}

std::string ServedFormPath(const std::string& model_path) {
  std::filesystem::path path(model_path);
  return path.replace_extension(".served.gguf").string();
}

Result<std::optional<std::string>> FindServedForm(const std::string& model_path,
                                                  std::string_view model_sha256) {
  const std::string path = ServedFormPath(model_path);
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) return std::optional<std::string>();
  const std::string remedy =
      "make it again with `nudge form " + model_path + "`, or set model.served_form to file";
  const Result<GgufInfo> info = ReadGgufInfo(path);
  if (!info.ok()) return Error{info.error().code, info.error().message, remedy};
  if (info->form_of_sha256 != model_sha256) {
    return Error{Code::kUnreadableFile, path + ": was not made from " + model_path + " as it is",
                 remedy};
  }
  return std::optional<std::string>(path);
}

Result<Nothing> MakeServedForm(const std::string& model_path, std::string_view model_sha256,
                               FormType type) {
  const std::string path = ServedFormPath(model_path);
  std::error_code failure;
  const std::string part = path + ".part";
  std::filesystem::remove(part, failure);  // of a run that was killed
  if (type == FormType::kFile) {
    std::filesystem::remove(path, failure);
    if (failure) return Unwritten(path, failure.message(), "remove it by hand");
    return Nothing{};
  }
  const Result<GgufInfo> info = ReadGgufInfo(model_path);
  if (!info.ok()) return info.error();
  const std::filesystem::space_info room =
      std::filesystem::space(std::filesystem::absolute(path).parent_path(), failure);
  const uint64_t needed = BytesOf(type, info->weights);
  if (failure || room.available < needed + needed / 16) {
    return Unwritten(path, failure ? failure.message() : "it takes " + Megabytes(needed),
                     "make room there, or set model.served_form to file");
  }
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.nthread = 0;  // all
  params.ftype = type == FormType::kBf16 ? LLAMA_FTYPE_MOSTLY_BF16 : LLAMA_FTYPE_MOSTLY_Q8_0;
  params.allow_requantize = true;
  params.pure = true;
  std::array<llama_model_kv_override, 2> named{};  // the second, without a key, ends the list
  named[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
  std::strncpy(named[0].key, kFormOfKey, sizeof named[0].key - 1);
  const std::string source(model_sha256);
  std::strncpy(named[0].val_str, source.c_str(), sizeof named[0].val_str - 1);
  params.kv_overrides = named.data();
  (void)TakeLlamaErrors();
  const bool failed = llama_model_quantize(model_path.c_str(), part.c_str(), &params) != 0;
  if (failed) {
    std::filesystem::remove(part, failure);
    return Unwritten(path, TakeLlamaErrors(), "set model.served_form to file");
  }
  if (const Result<Nothing> put = PutInPlace(part, path); !put.ok()) {
    std::filesystem::remove(part, failure);
    return Unwritten(path, put.error().message, "look at the disk and the folder's rights");
  }
  return Nothing{};
}

}  // namespace nudge
