// Tables of durable state that know what changed since they were last saved (see state.h).
//
// For the stages: rows by key, tenants by partition. Ordered maps throughout, so that what is
// saved, counted or listed never depends on a hash. One thread at a time.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "stages/result.h"
#include "stages/state.h"

namespace nudge {

// How a row's key is written in Change::id. Numbers are 16 hex digits, so that ids sort as they do.
inline std::string RowId(uint64_t key) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string id(16, '0');
  for (size_t i = 0; i < 16; ++i) id[i] = kDigits[(key >> (60 - 4 * i)) & 15];
  return id;
}
inline const std::string& RowId(const std::string& key) {
  return key;
}
template <size_t kCount>
std::string RowId(const std::array<uint64_t, kCount>& key) {
  std::string id;
  for (const uint64_t number : key) id += RowId(number);
  return id;
}

// RowId's inverses for numbers; nothing for any other text.
inline std::optional<uint64_t> NumberOfRow(std::string_view id) {
  uint64_t key = 0;
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), key, 16);
  if (id.size() != 16 || error != std::errc() || end != id.data() + id.size()) return std::nullopt;
  return key;
}
template <size_t kCount>
std::optional<std::array<uint64_t, kCount>> NumbersOfRow(std::string_view id) {
  std::array<uint64_t, kCount> key{};
  if (id.size() != 16 * kCount) return std::nullopt;
  for (size_t i = 0; i < kCount; ++i) {
    const std::optional<uint64_t> number = NumberOfRow(id.substr(16 * i, 16));
    if (!number) return std::nullopt;
    key[i] = *number;
  }
  return key;
}

template <class Key, class Value>
class Table {
 public:
  struct Row {
    Value value;
    bool saved = false;  // Save has handed it over, in this state or an earlier one
  };
  using Rows = std::map<Key, Row>;

  const Value* Find(const Key& key) const {
    const auto row = rows_.find(key);
    return row == rows_.end() ? nullptr : &row->second.value;
  }

  // The row to write to, null if there is none. The next Save has it.
  Value* Change(const Key& key) {
    const auto row = rows_.find(key);
    if (row == rows_.end()) return nullptr;
    changed_.insert(key);
    return &row->second.value;
  }

  // Inserts or replaces.
  Value& Put(const Key& key, Value value) {
    // Most keys come in ascending order: the hint makes them cost nothing to place.
    const size_t before = rows_.size();
    const auto row = rows_.try_emplace(rows_.end(), key);
    row->second.value = std::move(value);
    const size_t changed_before = changed_.size();
    changed_.insert(changed_.end(), key);
    // The row is new, but its key was erased since the last Save: its old row is still in the saved
    // state.
    if (rows_.size() > before && changed_.size() == changed_before) row->second.saved = true;
    return row->second.value;
  }

  bool Erase(const Key& key) {
    const auto row = rows_.find(key);
    if (row == rows_.end()) return false;
    if (row->second.saved) {
      changed_.insert(key);
    } else {
      changed_.erase(key);
    }
    rows_.erase(row);
    return true;
  }

  // A row out of a saved state.
  void Restore(const Key& key, Value value) { rows_[key] = {std::move(value), true}; }

  size_t size() const { return rows_.size(); }
  bool empty() const { return rows_.empty(); }
  const Rows& rows() const { return rows_; }

  // What changed since the last Save, in the order of keys. encode: const Value& -> std::string.
  template <class Encode>
  void Save(const std::string& tenant, const std::string& kind, Encode encode, Changes& changes) {
    for (const Key& key : changed_) {
      const auto row = rows_.find(key);
      if (row == rows_.end()) {
        changes.push_back({tenant, kind, RowId(key), std::nullopt});
      } else {
        changes.push_back({tenant, kind, RowId(key), encode(row->second.value)});
        row->second.saved = true;
      }
    }
    changed_.clear();
  }

 private:
  Rows rows_;
  std::set<Key> changed_;
};

// A stage's state, one Tenant each. References stay valid until Drop.
template <class Tenant>
class Tenants {
 public:
  Tenant* Find(int32_t partition, const std::string& tenant) {
    const auto of = partitions_.find(partition);
    if (of == partitions_.end()) return nullptr;
    const auto found = of->second.find(tenant);
    return found == of->second.end() ? nullptr : &found->second;
  }
  const Tenant* Find(int32_t partition, const std::string& tenant) const {
    return const_cast<Tenants*>(this)->Find(partition, tenant);
  }

  Tenant& Make(int32_t partition, const std::string& tenant) {
    return partitions_[partition][tenant];
  }

  size_t Count(int32_t partition) const {
    const auto of = partitions_.find(partition);
    return of == partitions_.end() ? 0 : of->second.size();
  }

  template <class Body>
  void ForEach(int32_t partition, Body body) {
    const auto of = partitions_.find(partition);
    if (of == partitions_.end()) return;
    for (auto& [name, tenant] : of->second) body(name, tenant);
  }

  void Drop(int32_t partition) { partitions_.erase(partition); }

 private:
  std::map<int32_t, std::map<std::string, Tenant>> partitions_;
};

}  // namespace nudge
