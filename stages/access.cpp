#include "stages/access.h"

#include <algorithm>
#include <utility>

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;

bool Share(const Groups& some, const Groups& others) {
  return std::any_of(some.begin(), some.end(),
                     [&](const std::string& group) { return others.contains(group); });
}

}  // namespace

bool MaySee(const std::optional<Groups>& access, const Groups& asker) {
  return !access || Share(*access, asker);
}

// ---- What rests on documents --------------------------------------------------------------------

void RestsOn::Add(const RestsOn& other) {
  documents.insert(other.documents.begin(), other.documents.end());
  lists.insert(other.lists.begin(), other.lists.end());
}

void RestsOn::Write(ByteWriter& writer) const {
  writer.Names(documents);
  writer.U64(lists.size());
  for (const Groups& list : lists) writer.Names(list);
}

RestsOn RestsOn::Read(ByteReader& reader) {
  RestsOn rests_on;
  rests_on.documents = reader.Names();
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    rests_on.lists.insert(reader.Names());
  }
  return rests_on;
}

// ---- Restricted documents -----------------------------------------------------------------------

void RestrictedDocuments::Put(const std::string& document_id, const std::optional<Groups>& access) {
  if (access) {
    lists_.Put(document_id, *access);
  } else {
    lists_.Erase(document_id);
  }
}

bool RestrictedDocuments::MaySee(const RestsOn& rests_on, const Groups& asker) const {
  const bool then = std::all_of(rests_on.lists.begin(), rests_on.lists.end(),
                                [&](const Groups& list) { return Share(list, asker); });
  if (lists_.empty()) return then;
  return then && std::all_of(rests_on.documents.begin(), rests_on.documents.end(),
                             [&](const std::string& document_id) {
                               const Groups* list = lists_.Find(document_id);
                               return list == nullptr || Share(*list, asker);
                             });
}

bool RestrictedDocuments::HasAnyOf(const RestsOn& rests_on) const {
  return rests_on.restricted() ||
         std::any_of(rests_on.documents.begin(), rests_on.documents.end(),
                     [&](const std::string& id) { return lists_.Find(id) != nullptr; });
}

void RestrictedDocuments::Save(const std::string& tenant, const std::string& kind,
                               Changes& changes) {
  const auto encode = [](const Groups& list) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.Names(list);
    return writer.Take();
  };
  lists_.Save(tenant, kind, encode, changes);
}

Result<Nothing> RestrictedDocuments::Load(const Change& entry) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const bool known = reader.U8() == kFormat;
  Groups list = reader.Names();
  if (!known || !reader.complete()) return UnreadableEntry(entry);
  lists_.Restore(entry.id, std::move(list));
  return Nothing{};
}

}  // namespace nudge
