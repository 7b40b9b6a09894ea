#include "stages/model/adapters/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

namespace nudge {
namespace {

static_assert(std::endian::native == std::endian::little);

using Json = nlohmann::ordered_json;

struct TypeName {
  SafetensorsType type;
  const char* name;
  size_t size;
};
constexpr std::array<TypeName, 10> kTypes{{{SafetensorsType::kF64, "F64", 8},
                                           {SafetensorsType::kF32, "F32", 4},
                                           {SafetensorsType::kF16, "F16", 2},
                                           {SafetensorsType::kBF16, "BF16", 2},
                                           {SafetensorsType::kI64, "I64", 8},
                                           {SafetensorsType::kI32, "I32", 4},
                                           {SafetensorsType::kI16, "I16", 2},
                                           {SafetensorsType::kI8, "I8", 1},
                                           {SafetensorsType::kU8, "U8", 1},
                                           {SafetensorsType::kBool, "BOOL", 1}}};
constexpr const char* kMetadataKey = "__metadata__";

const TypeName& Describe(SafetensorsType type) {
  return kTypes[static_cast<size_t>(type)];
}

Error Unreadable(std::string message) {
  return {Code::kUnreadableFile, "safetensors: " + std::move(message),
          "copy the file again from where it was made"};
}

Error Unwritable(std::string message) {
  return {Code::kWrongAdapter, "safetensors: " + std::move(message), ""};
}

// Bytes of a tensor of this shape; nothing if they are too many to count.
std::optional<uint64_t> SizeOf(SafetensorsType type, std::span<const uint64_t> shape) {
  uint64_t size = ElementSize(type);
  for (uint64_t dimension : shape) {
    if (__builtin_mul_overflow(size, dimension, &size)) return std::nullopt;
  }
  return size;
}

// The header as JSON. The DOM would silently keep the last of two equal keys, so keys are watched
// while it is built.
std::optional<Json> ParseHeader(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  bool unique = true;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      unique = unique && keys.back().insert(parsed.get<std::string>()).second;
    }
    return true;
  };
  Json header = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (!unique || !header.is_object()) return std::nullopt;
  return header;
}

// The unsigned integers of an array of at most `limit`; nothing if it is anything else.
std::optional<std::vector<uint64_t>> Unsigned(const Json& value, size_t limit) {
  if (!value.is_array() || value.size() > limit) return std::nullopt;
  std::vector<uint64_t> result;
  for (const Json& item : value) {
    if (!item.is_number_unsigned()) return std::nullopt;
    result.push_back(item.get<uint64_t>());
  }
  return result;
}

std::optional<std::map<std::string, std::string>> ParseMetadata(const Json& value) {
  if (!value.is_object()) return std::nullopt;
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) return std::nullopt;
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

Result<SafetensorsTensor> ParseTensor(const std::string& name, const Json& entry,
                                      std::string_view data) {
  const auto wrong = [&](const std::string& what) {
    return Unreadable("tensor " + name + ": " + what);
  };
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") ||
      !entry.contains("shape") || !entry.contains("data_offsets")) {
    return wrong("is not {dtype, shape, data_offsets}");
  }
  const auto* type = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeName& known) {
    return entry["dtype"] == known.name;
  });
  if (type == kTypes.end()) {
    Error unknown = wrong("has a dtype that is not known here");
    unknown.remedy = "save it in F32, F16 or BF16";
    return unknown;
  }
  auto shape = Unsigned(entry["shape"], kMaxSafetensorsRank);
  const auto offsets = Unsigned(entry["data_offsets"], 2);
  if (!shape || !offsets || offsets->size() != 2) return wrong("has a malformed shape or offset");
  const uint64_t begin = (*offsets)[0];
  const uint64_t end = (*offsets)[1];
  if (begin > end || end > data.size()) return wrong("lies outside of the file");
  if (SizeOf(type->type, *shape) != end - begin) return wrong("does not fill its bytes");
  return SafetensorsTensor{name, type->type, *std::move(shape),
                           std::as_bytes(std::span(data.substr(begin, end - begin)))};
}

}  // namespace

size_t ElementSize(SafetensorsType type) {
  return Describe(type).size;
}

Result<std::string> EncodeSafetensors(std::span<const SafetensorsTensor> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  uint64_t offset = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name == kMetadataKey || header.contains(tensor.name)) {
      return Unwritable("tensor name '" + tensor.name + "' is empty, reserved or used twice");
    }
    if (tensor.shape.size() > kMaxSafetensorsRank ||
        SizeOf(tensor.type, tensor.shape) != tensor.data.size()) {
      return Unwritable("tensor " + tensor.name + " does not fill its shape");
    }
    const uint64_t end = offset + tensor.data.size();
    header[tensor.name] = {{"dtype", Describe(tensor.type).name},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error&) {
    return Unwritable("a tensor name or the metadata is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxSafetensorsHeader) return Unwritable("too many tensors for one header");

  const uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  bytes.reserve(sizeof(length) + length + offset);
  std::memcpy(bytes.data(), &length, sizeof(length));
  bytes += text;
  for (const SafetensorsTensor& tensor : tensors) {
    bytes.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  return bytes;
}

Result<SafetensorsFile> ParseSafetensors(std::string_view bytes) {
  uint64_t length = 0;
  if (bytes.size() < sizeof(length)) return Unreadable("shorter than its first 8 bytes");
  std::memcpy(&length, bytes.data(), sizeof(length));
  bytes.remove_prefix(sizeof(length));
  if (length > bytes.size() || length > kMaxSafetensorsHeader) {
    return Unreadable("a header of " + std::to_string(length) + " bytes in a file of " +
                      std::to_string(bytes.size() + sizeof(length)));
  }
  const std::string_view text = bytes.substr(0, length);
  const std::optional<Json> header =
      text.starts_with('{') ? ParseHeader(text) : std::optional<Json>();
  if (!header) return Unreadable("the header is not a JSON object with each key once");

  SafetensorsFile file;
  const std::string_view data = bytes.substr(length);
  for (const auto& [name, entry] : header->items()) {
    if (name == kMetadataKey) {
      auto metadata = ParseMetadata(entry);
      if (!metadata) return Unreadable("the metadata is not a map from text to text");
      file.metadata = *std::move(metadata);
      continue;
    }
    auto tensor = ParseTensor(name, entry, data);
    if (!tensor) return tensor.error();
    file.tensors.push_back(std::move(tensor).value());
  }

  const auto begin = [](const SafetensorsTensor& tensor) { return tensor.data.data(); };
  const auto end = [](const SafetensorsTensor& tensor) {
    return tensor.data.data() + tensor.data.size();
  };
  std::stable_sort(file.tensors.begin(), file.tensors.end(), [&](const auto& a, const auto& b) {
    return std::pair(begin(a), end(a)) < std::pair(begin(b), end(b));
  });
  const std::byte* expected = reinterpret_cast<const std::byte*>(data.data());
  for (const SafetensorsTensor& tensor : file.tensors) {
    if (begin(tensor) != expected) return Unreadable("a hole or overlap before " + tensor.name);
    expected = end(tensor);
  }
  if (expected != reinterpret_cast<const std::byte*>(data.data()) + data.size()) {
    return Unreadable("bytes after the last tensor");
  }
  return file;
}

}  // namespace nudge
