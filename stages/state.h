// Durable state as every stage hands it over at a barrier: named entries, each changed or gone.
//
// StageWithState says which calls a stage has for that. Loading all entries that were saved, in any
// order of tenants and kinds but each kind's in saved order, makes a stage that behaves like the
// one that saved them.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/result.h"

namespace nudge {

struct Change {
  std::string tenant;
  std::string kind;  // "document", "policy_arm": a table's worth of meaning, unique over all stages
  std::string id;    // within tenant and kind
  std::optional<std::string> value;  // ByteWriter's encoding; unset: the entry is gone
};

using Changes = std::vector<Change>;

// A stage whose state outlives the process. The three calls are made by the thread that runs its
// node, or under the lock that this thread takes.
template <class Stage>
concept StageWithState = requires(Stage& stage, int32_t partition, Changes& changes,
                                  const Change& entry) {
  // What changed since the last Save, in a fixed order; nothing is lost by saving.
  { stage.Save(partition, changes) } -> std::same_as<void>;
  // One entry of a saved state.
  { stage.Load(partition, entry) } -> std::same_as<Result<Nothing>>;
  // The partition belongs to somebody else.
  { stage.Drop(partition) } -> std::same_as<void>;
};

// A number as Change::id: zero-padded, so that the order of names is the order of numbers.
inline std::string NumberName(uint64_t number) {
  std::string digits = std::to_string(number);
  return std::string(20 - digits.size(), '0') + digits;
}
// Its inverse; nothing for any other text.
inline std::optional<uint64_t> NumberOfName(std::string_view name) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool whole = name.size() == 20 && error == std::errc() && end == name.data() + name.size();
  return whole ? std::optional(number) : std::nullopt;
}

// What Load says of an entry that no Save of this build can have written.
inline Error UnreadableEntry(const Change& entry) {
  return {Code::kUnreadableFile,
          "state entry " + entry.kind + " '" + entry.id + "' of tenant " + entry.tenant +
              " is damaged or of another format",
          "restore the state from a backup, or replay the log from its start"};
}

// Little-endian, length-prefixed, no padding. The first byte of each value is its format version.
class ByteWriter {
 public:
  void U8(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void U32(uint32_t value) { Raw(&value, sizeof value); }
  void U64(uint64_t value) { Raw(&value, sizeof value); }
  void F64(double value) { Raw(&value, sizeof value); }
  void Text(std::string_view text) {
    U64(text.size());
    bytes_.append(text);
  }
  void Names(const std::set<std::string>& names) {
    U64(names.size());
    for (const std::string& name : names) Text(name);
  }
  void Numbers(const std::set<uint64_t>& numbers) {
    U64(numbers.size());
    for (const uint64_t number : numbers) U64(number);
  }
  void Floats(std::span<const float> values) {
    U64(values.size());
    Raw(values.data(), values.size() * sizeof(float));
  }
  std::string Take() { return std::move(bytes_); }

 private:
  void Raw(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  std::string bytes_;
};

// Reads what ByteWriter wrote. Past the end or over a length that cannot be, every read gives zero
// or nothing and complete() stays false: check once, at the end.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  uint8_t U8() { return Fixed<uint8_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  double F64() { return Fixed<double>(); }
  std::string Text() { return std::string(View()); }
  std::string_view View() { return Take(U64()); }  // as long as the bytes live
  std::set<std::string> Names() {
    std::set<std::string> names;
    for (uint64_t left = U64(); left > 0 && !failed_; --left) names.insert(names.end(), Text());
    return names;
  }
  std::set<uint64_t> Numbers() {
    std::set<uint64_t> numbers;
    for (uint64_t left = U64(); left > 0 && !failed_; --left) numbers.insert(numbers.end(), U64());
    return numbers;
  }
  std::vector<float> Floats() {
    const uint64_t count = U64();
    if (count > bytes_.size() / sizeof(float)) {
      failed_ = true;
      return {};
    }
    const std::string_view raw = Take(count * sizeof(float));
    std::vector<float> values(raw.size() / sizeof(float));
    if (!values.empty()) std::memcpy(values.data(), raw.data(), raw.size());
    return values;
  }

  // Everything was there and everything was read.
  bool complete() const { return !failed_ && bytes_.empty(); }
  bool failed() const { return failed_; }

 private:
  template <class T>
  T Fixed() {
    T value{};
    const std::string_view raw = Take(sizeof value);
    if (raw.size() == sizeof value) std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::string_view Take(uint64_t size) {
    if (failed_ || size > bytes_.size()) {
      failed_ = true;
      return {};
    }
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  bool failed_ = false;
};

}  // namespace nudge
